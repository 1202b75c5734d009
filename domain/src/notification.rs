//! Notifications: which event tells whom, and what has been read.

use serde::{Deserialize, Serialize};

use crate::Event;
use crate::emoji::Reaction;
use crate::event::Payload;
use crate::ids::{NoteId, RoleId, UserId};

/// `notifications.read`: a person has read all notifications there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub user: UserId,
}

impl Payload for Read {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

/// What a notification says.
#[derive(Debug, Clone, PartialEq)]
pub enum Says {
    Follow { follower: UserId },
    ReceiveFollowRequest { follower: UserId },
    FollowRequestAccepted { followee: UserId, message: Option<String> },
    Mention { note: NoteId, author: UserId },
    Reply { note: NoteId, author: UserId },
    Renote { note: NoteId, author: UserId },
    Quote { note: NoteId, author: UserId },
    Reaction { note: NoteId, reactor: UserId, reaction: Reaction },
    RoleAssigned { role: RoleId },
    Login,
    CreateToken,
}

/// Whom an event tells, and what, in the order of their notifications. What needs more than the
/// event (who asked to hear of each new note of a person) is added by the projector.
pub fn told_by(event: &Event) -> Vec<(UserId, Says)> {
    match event {
        Event::FollowStarted(e) => {
            // Misskey tells the follower too that the following stands, also when it was not asked for.
            let accepted = Says::FollowRequestAccepted { followee: e.followee, message: e.message.clone() };
            vec![(e.followee, Says::Follow { follower: e.follower }), (e.follower, accepted)]
        }
        Event::FollowRequested(e) => vec![(e.followee, Says::ReceiveFollowRequest { follower: e.follower })],
        Event::ReactionAdded(e) if e.author != e.reactor => {
            let says = Says::Reaction { note: e.note, reactor: e.reactor, reaction: e.reaction.clone() };
            vec![(e.author, says)]
        }
        Event::NoteCreated(e) => note_tells(e),
        Event::RoleAssigned(e) if e.tells => vec![(e.user, Says::RoleAssigned { role: e.role })],
        Event::UserSignedIn(e) => vec![(e.user, Says::Login)],
        Event::UserAppAuthorized(e) => vec![(e.user, Says::CreateToken)],
        _ => Vec::new(),
    }
}

/// Everybody is told once and nobody of their own note: being mentioned gives way to being replied
/// to, and that to being renoted or quoted (recorded behaviour).
fn note_tells(note: &crate::note::Created) -> Vec<(UserId, Says)> {
    let (id, author) = (note.id, note.author);
    let mut told: Vec<(UserId, Says)> = Vec::new();
    let mut tell = |user: UserId, says: Says| match told.iter_mut().find(|(already, _)| *already == user) {
        _ if user == author => (),
        Some((_, earlier)) => *earlier = says,
        None => told.push((user, says)),
    };
    for user in &note.mentions {
        tell(*user, Says::Mention { note: id, author });
    }
    if let Some(reply) = &note.reply {
        tell(reply.author, Says::Reply { note: id, author });
    }
    if let Some(renote) = &note.renote {
        let pure = note.is_pure_renote();
        let says = if pure { Says::Renote { note: id, author } } else { Says::Quote { note: id, author } };
        tell(renote.author, says);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Parent;
    use crate::note::tests::{created, id, user};

    #[test]
    fn everybody_is_told_once_and_the_author_never() {
        let mut note = created();
        note.mentions = vec![user(1), user(2), user(3)];
        note.reply = Some(Parent { id: NoteId(id(7)), author: user(2) });
        note.renote = Some(Parent { id: NoteId(id(8)), author: user(2) });
        note.text = Some("both".to_owned());
        let (id, author) = (note.id, note.author);
        assert_eq!(author, user(1));
        assert_eq!(
            told_by(&note.into()),
            [(user(2), Says::Quote { note: id, author }), (user(3), Says::Mention { note: id, author })]
        );
    }

    #[test]
    fn a_following_tells_both_sides() {
        let started = crate::follow::Started {
            id: crate::FollowId(id(5)),
            follower: user(1),
            followee: user(2),
            with_replies: false,
            by_request: false,
            message: Some("thanks!".to_owned()),
        };
        assert_eq!(
            told_by(&started.into()),
            [
                (user(2), Says::Follow { follower: user(1) }),
                (
                    user(1),
                    Says::FollowRequestAccepted { followee: user(2), message: Some("thanks!".to_owned()) }
                ),
            ]
        );
    }
}
