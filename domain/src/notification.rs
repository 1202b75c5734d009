//! Notifications: which event tells whom what, who wants to be told, and what has been read.
//!
//! To add a kind: its line in [`Kind`], and an arm of [`told_by`] for the event that causes it. What it shows
//! beside the person and the note goes into [`Told::details`] by its names in the API; nothing else has to
//! know of it. Where the event doesn't know whom it tells, the projector adds them, as for polls that end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::event::Payload;
use crate::ids::{ListId, NoteId, RoleId, UserId};
use crate::policy::{self, Stance};
use crate::{Event, draft};

/// The longest text of an app's notification, and of what stands above it, in characters.
pub const MAX_BODY_CHARS: usize = 4_096;
pub const MAX_HEADER_CHARS: usize = 512;
/// The longest address of its picture, in characters.
pub const MAX_ICON_CHARS: usize = 2_048;

/// `notifications.read`: a person has read all notifications there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub user: UserId,
}

/// `notifications.flushed`: a person threw all notifications away that there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    pub user: UserId,
}

/// `notifications.tested`: a person wants to see what a notification looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    pub user: UserId,
}

/// `notification.sent`: a person's app tells them something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub user: UserId,
    pub body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
}

macro_rules! of_the_user {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.user)
            }
        }
    )*};
}
of_the_user!(Read, Flushed, Tested, Sent);

macro_rules! kinds {
    ($($kind:ident $name:literal),* $(,)?) => {
        /// What a notification is about, by Misskey's names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($kind),*
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name),*
                }
            }

            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
            }
        }
    };
}

kinds! {
    Note "note",
    Follow "follow",
    ReceiveFollowRequest "receiveFollowRequest",
    FollowRequestAccepted "followRequestAccepted",
    Mention "mention",
    Reply "reply",
    Renote "renote",
    Quote "quote",
    Reaction "reaction",
    PollEnded "pollEnded",
    RoleAssigned "roleAssigned",
    Login "login",
    CreateToken "createToken",
    AchievementEarned "achievementEarned",
    ExportCompleted "exportCompleted",
    ScheduledNotePosted "scheduledNotePosted",
    ScheduledNoteError "scheduledNoteError",
    App "app",
    Test "test",
}

/// What somebody is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub kind: Kind,
    /// The other person by whom it was caused.
    pub notifier: Option<UserId>,
    pub note: Option<NoteId>,
    /// The note that [`Self::note`] passes on: what renotes are gathered by.
    pub target: Option<NoteId>,
    /// The thread in which it was said; who mutes it isn't told.
    pub thread: Option<NoteId>,
    pub role: Option<RoleId>,
    /// What else is shown of it, by its names in the API.
    pub details: Map<String, Value>,
}

impl Told {
    pub fn new(kind: Kind) -> Self {
        let (notifier, note, target, thread, role) = (None, None, None, None, None);
        Self { kind, notifier, note, target, thread, role, details: Map::new() }
    }

    pub fn by(self, notifier: UserId) -> Self {
        Self { notifier: Some(notifier), ..self }
    }

    pub fn of(self, note: NoteId) -> Self {
        Self { note: Some(note), ..self }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// Whom an event tells, and what, in the order of their notifications. What needs more than the
/// event (who asked to hear of each new note of a person) is added by the projector.
pub fn told_by(event: &Event) -> Vec<(UserId, Told)> {
    match event {
        Event::FollowStarted(e) => {
            // Misskey tells the follower too that the following stands, also when it was not asked for.
            let accepted =
                Told::new(Kind::FollowRequestAccepted).by(e.followee).with("message", json!(e.message));
            vec![(e.followee, Told::new(Kind::Follow).by(e.follower)), (e.follower, accepted)]
        }
        Event::FollowRequested(e) => {
            vec![(e.followee, Told::new(Kind::ReceiveFollowRequest).by(e.follower))]
        }
        Event::ReactionAdded(e) if e.author != e.reactor => {
            let told = Told::new(Kind::Reaction).by(e.reactor).of(e.note);
            vec![(e.author, told.with("reaction", e.reaction.shown()))]
        }
        Event::NoteCreated(e) => note_tells(e),
        Event::RoleAssigned(e) if e.tells => {
            vec![(e.user, Told { role: Some(e.role), ..Told::new(Kind::RoleAssigned) })]
        }
        Event::UserSignedIn(e) => vec![(e.user, Told::new(Kind::Login))],
        Event::UserAppAuthorized(e) => vec![(e.user, Told::new(Kind::CreateToken))],
        Event::AchievementEarned(e) => {
            vec![(e.user, Told::new(Kind::AchievementEarned).with("achievement", e.name.as_str()))]
        }
        Event::DraftPosted(e) => vec![(e.user, Told::new(Kind::ScheduledNotePosted).of(e.note))],
        Event::ExportCompleted(e) => {
            let told = Told::new(Kind::ExportCompleted).with("exportedEntity", json!(e.entity));
            vec![(e.user, told.with("fileId", json!(e.file)))]
        }
        Event::DraftFailed(e) => {
            vec![(e.user, Told::new(Kind::ScheduledNoteError).with("draft", draft::shown_failed(e)))]
        }
        Event::NotificationSent(e) => {
            let told = Told::new(Kind::App).with("body", e.body.as_str());
            vec![(e.user, told.with("header", json!(e.header)).with("icon", json!(e.icon)))]
        }
        Event::NotificationsTested(e) => vec![(e.user, Told::new(Kind::Test))],
        _ => Vec::new(),
    }
}

/// Everybody is told once and nobody of their own note: being mentioned gives way to being replied
/// to, and that to being renoted or quoted (recorded behaviour).
fn note_tells(note: &crate::note::Created) -> Vec<(UserId, Told)> {
    let author = note.author;
    let mut told: Vec<(UserId, Told)> = Vec::new();
    let mut tell = |user: UserId, tells: Told| match told.iter_mut().find(|(already, _)| *already == user) {
        _ if user == author => (),
        Some((_, earlier)) => *earlier = tells,
        None => told.push((user, tells)),
    };
    let tells = |kind| Told::new(kind).by(author).of(note.id);
    let in_thread = |kind| Told { thread: Some(note.thread()), ..tells(kind) };
    for user in &note.mentions {
        tell(*user, in_thread(Kind::Mention));
    }
    if let Some(reply) = &note.reply {
        tell(reply.author, in_thread(Kind::Reply));
    }
    if let Some(renote) = &note.renote {
        let kind = if note.is_pure_renote() { Kind::Renote } else { Kind::Quote };
        tell(renote.author, Told { target: Some(renote.id), ..tells(kind) });
    }
    told
}

/// From whom somebody wants to be told of things of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    All,
    Following,
    Followers,
    Mutual,
    FollowingOrFollowers,
    /// Those in a list of one's own; nobody, where it isn't one.
    Members(Option<ListId>),
    Nothing,
}

/// The wish for a kind in what a person prefers (`notificationRecieveConfig`); what is not understood is none.
pub fn wish(config: &BTreeMap<String, Value>, kind: Kind) -> Wish {
    let text = |name: &str| config.get(kind.as_str())?.get(name)?.as_str();
    match text("type") {
        Some("never") => Wish::Nothing,
        Some("following") => Wish::Following,
        Some("follower") => Wish::Followers,
        Some("mutualFollow") => Wish::Mutual,
        Some("followingOrFollower") => Wish::FollowingOrFollowers,
        Some("list") => Wish::Members(text("userListId").and_then(|list| list.parse().ok())),
        _ => Wish::All,
    }
}

/// What a person and the one whom they would be told of are to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bond {
    pub follows: bool,
    pub is_followed: bool,
    /// The other is in the list that the wish names.
    pub is_listed: bool,
    pub stance: Stance,
}

/// Decides whether somebody is told. Without another person in it only [`Wish::Nothing`] is in the way.
pub fn is_told(wish: Wish, with: Option<Bond>, in_muted_thread: bool) -> bool {
    if in_muted_thread || wish == Wish::Nothing {
        return false;
    }
    let Some(bond) = with else { return true };
    policy::wants_to_hear(bond.stance)
        && match wish {
            Wish::All => true,
            Wish::Following => bond.follows,
            Wish::Followers => bond.is_followed,
            Wish::Mutual => bond.follows && bond.is_followed,
            Wish::FollowingOrFollowers => bond.follows || bond.is_followed,
            Wish::Members(_) => bond.is_listed,
            Wish::Nothing => false,
        }
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
        assert_eq!(note.author, user(1));
        let told: Vec<_> = told_by(&note.clone().into())
            .into_iter()
            .map(|(user, told)| (user, told.kind, told.note, told.target, told.thread))
            .collect();
        let (this, thread) = (Some(note.id), Some(NoteId(id(7))));
        assert_eq!(
            told,
            [
                (user(2), Kind::Quote, this, Some(NoteId(id(8))), None),
                (user(3), Kind::Mention, this, None, thread)
            ]
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
        let accepted = Told::new(Kind::FollowRequestAccepted).by(user(2)).with("message", "thanks!");
        assert_eq!(
            told_by(&started.into()),
            [(user(2), Told::new(Kind::Follow).by(user(1))), (user(1), accepted)]
        );
    }

    #[test]
    fn every_kind_is_known_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.as_str()), Some(*kind));
        }
        assert_eq!(Kind::named("nosuch"), None);
    }

    #[test]
    fn one_is_told_of_those_one_wishes_for() {
        let config = |word: &str| BTreeMap::from([("reply".to_owned(), json!({ "type": word }))]);
        let bond = |follows, is_followed| Bond { follows, is_followed, ..Bond::default() };
        // A stranger, somebody followed, a follower, a friend.
        let others = [bond(false, false), bond(true, false), bond(false, true), bond(true, true)];
        for (word, expected) in [
            ("all", [true, true, true, true]),
            ("no such word", [true, true, true, true]),
            ("following", [false, true, false, true]),
            ("follower", [false, false, true, true]),
            ("mutualFollow", [false, false, false, true]),
            ("followingOrFollower", [false, true, true, true]),
            ("list", [false; 4]),
            ("never", [false; 4]),
        ] {
            let wish = wish(&config(word), Kind::Reply);
            assert_eq!(others.map(|bond| is_told(wish, Some(bond), false)), expected, "{word}");
            assert_eq!(is_told(wish, None, false), word != "never", "{word}");
        }
        let listed = json!({ "type": "list", "userListId": ListId(id(9)) });
        let wish_for_list = wish(&BTreeMap::from([("reply".to_owned(), listed)]), Kind::Reply);
        assert_eq!(wish_for_list, Wish::Members(Some(ListId(id(9)))));
        assert!(is_told(wish_for_list, Some(Bond { is_listed: true, ..Bond::default() }), false));
        assert!(!is_told(wish_for_list, Some(bond(true, true)), false));
        assert_eq!(wish(&config("never"), Kind::Quote), Wish::All);
        assert_eq!(wish(&BTreeMap::from([("reply".to_owned(), json!("never"))]), Kind::Reply), Wish::All);
    }

    #[test]
    fn nobody_is_told_of_the_muted_the_blocked_or_a_muted_thread() {
        let quiet = |stance| is_told(Wish::All, Some(Bond { stance, ..Bond::default() }), false);
        assert!(quiet(Stance::default()));
        assert!(!quiet(Stance { mutes: true, ..Stance::default() }));
        assert!(!quiet(Stance { blocks: true, ..Stance::default() }));
        assert!(!is_told(Wish::All, Some(Bond::default()), true));
    }
}
