//! Following. What one person is to another is in the stream `relation-{from}-{to}`, with what blocks, mutes
//! and memos add to it.

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{FollowId, FollowRequestId, UserId};
use crate::log::StreamId;
use crate::mute::Mute;
use crate::user::User;
use crate::{Event, Fold};

/// The stream of what `from` is to `to`.
pub fn stream(from: UserId, to: UserId) -> StreamId {
    StreamId::new("relation", format_args!("{from}-{to}"))
}

/// Which new notes of a followed person give a notification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notify {
    #[default]
    None,
    /// Each new note.
    Normal,
}

/// `follow.requested`: a person asks to follow a locked account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    pub id: FollowRequestId,
    pub follower: UserId,
    pub followee: UserId,
    pub with_replies: bool,
}

/// How a request ended without a following.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestEnd {
    /// By the one who asked.
    Cancelled,
    /// By the one who was asked.
    Rejected,
}

/// `follow.request_ended`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEnded {
    pub follower: UserId,
    pub followee: UserId,
    pub how: RequestEnd,
}

/// `follow.started`: from now on, `follower` follows `followee`; a request between them is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub id: FollowId,
    pub follower: UserId,
    pub followee: UserId,
    /// Whether replies of the followee to others are wanted in the home timeline.
    pub with_replies: bool,
    /// Whether the followee accepted a request.
    pub by_request: bool,
    /// What the followee tells new followers; not written any more, see [`Greeted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `follow.greeted`: what the followee tells a new follower, in the append that starts the following and
/// before it. These are the followee's words, so the event is the followee's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeted {
    pub follower: UserId,
    pub followee: UserId,
    pub message: String,
}

/// `follow.changed`: the follower's preferences for this following.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub follower: UserId,
    pub followee: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_replies: Option<bool>,
}

/// `follow.ended`: by the follower, or by the followee who drops a follower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub follower: UserId,
    pub followee: UserId,
    pub by_followee: bool,
}

macro_rules! of_the_follower {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.follower)
            }
        }
    )*};
}
impl Payload for Greeted {
    fn subject(&self) -> Option<UserId> {
        Some(self.followee)
    }
}
of_the_follower!(Requested, RequestEnded, Started, Changed, Ended);

/// What one person is to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relation {
    pub following: Option<Following>,
    pub requested: Option<Requested>,
    pub blocks: bool,
    /// It may be over.
    pub mute: Option<Mute>,
    pub mutes_renotes: bool,
    pub memo: Option<String>,
}

/// A following that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    pub id: FollowId,
    pub notify: Notify,
    pub with_replies: bool,
}

impl Relation {
    pub fn follows(&self) -> bool {
        self.following.is_some()
    }
}

impl Fold for Relation {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::FollowRequested(e) => self.requested = Some(e.clone()),
            Event::FollowRequestEnded(_) => self.requested = None,
            Event::FollowStarted(e) => {
                self.requested = None;
                self.following =
                    Some(Following { id: e.id, notify: Notify::None, with_replies: e.with_replies });
            }
            Event::FollowChanged(e) => {
                if let Some(following) = &mut self.following {
                    following.notify = e.notify.unwrap_or(following.notify);
                    following.with_replies = e.with_replies.unwrap_or(following.with_replies);
                }
            }
            Event::FollowEnded(_) => self.following = None,
            Event::BlockStarted(_) => self.blocks = true,
            Event::BlockEnded(_) => self.blocks = false,
            Event::MuteStarted(e) => self.mute = Some(Mute { expires_at: e.expires_at }),
            Event::MuteEnded(_) => self.mute = None,
            Event::RenoteMuteStarted(_) => self.mutes_renotes = true,
            Event::RenoteMuteEnded(_) => self.mutes_renotes = false,
            Event::MemoChanged(e) => self.memo = e.memo.clone(),
            _ => (),
        }
    }
}

/// Why a following does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotFollow {
    #[error("one can't follow oneself")]
    Yourself,
    #[error("no such user")]
    NoSuchUser,
    #[error("already following")]
    AlreadyFollowing,
    #[error("one blocks them")]
    Blocking,
    #[error("one is blocked by them")]
    Blocked,
}

/// Why a following does not change or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowing {
    #[error("one can't follow oneself")]
    Yourself,
    #[error("no such user")]
    NoSuchUser,
    #[error("not following")]
    NotFollowing,
}

/// Why a request is not there to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRequest {
    #[error("no such user")]
    NoSuchUser,
    #[error("no such request")]
    NoRequest,
}

/// The ids that a follow may need, made at the edge.
#[derive(Debug, Clone, Copy)]
pub struct NewIds {
    pub follow: FollowId,
    pub request: FollowRequestId,
}

/// Decides a follow: at once, or as a request where the followee wants to be asked and does not
/// already follow the follower. Asking twice is no error and changes nothing.
pub fn follow(
    current: &Relation,
    follower: (UserId, &User),
    followee: (UserId, &User),
    followee_to_follower: &Relation,
    with_replies: bool,
    ids: NewIds,
) -> Result<Vec<Event>, CannotFollow> {
    let ((follower, me), (followee, them)) = (follower, followee);
    if follower == followee {
        return Err(CannotFollow::Yourself);
    }
    if !them.exists() {
        return Err(CannotFollow::NoSuchUser);
    }
    if current.follows() {
        return Err(CannotFollow::AlreadyFollowing);
    }
    if current.blocks {
        return Err(CannotFollow::Blocking);
    }
    if followee_to_follower.blocks {
        return Err(CannotFollow::Blocked);
    }
    let wants_to_be_asked = them.profile.is_locked || (them.profile.careful_bot && me.profile.is_bot);
    let known = them.profile.auto_accept_followed && followee_to_follower.follows();
    if wants_to_be_asked && !known {
        if current.requested.is_some() {
            return Ok(Vec::new());
        }
        return Ok(vec![Requested { id: ids.request, follower, followee, with_replies }.into()]);
    }
    let started =
        Started { id: ids.follow, follower, followee, with_replies, by_request: false, message: None };
    Ok(start(started, them))
}

/// The following, after what the followee says to it.
fn start(started: Started, them: &User) -> Vec<Event> {
    let greeted =
        them.profile.followed_message.clone().map(|message| {
            Greeted { follower: started.follower, followee: started.followee, message }.into()
        });
    greeted.into_iter().chain([started.into()]).collect()
}

/// Decides the end of a following, by either side.
pub fn unfollow(
    current: &Relation,
    follower: UserId,
    followee: UserId,
    by_followee: bool,
) -> Result<Vec<Event>, NotFollowing> {
    if follower == followee {
        return Err(NotFollowing::Yourself);
    }
    if !current.follows() {
        return Err(NotFollowing::NotFollowing);
    }
    Ok(vec![Ended { follower, followee, by_followee }.into()])
}

/// Decides a change of the follower's preferences.
pub fn change(
    current: &Relation,
    follower: UserId,
    followee: UserId,
    notify: Option<Notify>,
    with_replies: Option<bool>,
) -> Result<Vec<Event>, NotFollowing> {
    if follower == followee {
        return Err(NotFollowing::Yourself);
    }
    let following = current.following.as_ref().ok_or(NotFollowing::NotFollowing)?;
    let notify = notify.filter(|n| *n != following.notify);
    let with_replies = with_replies.filter(|w| *w != following.with_replies);
    if notify.is_none() && with_replies.is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![Changed { follower, followee, notify, with_replies }.into()])
}

/// Decides the acceptance of a request by the one who was asked.
pub fn accept(current: &Relation, followee: &User, id: FollowId) -> Result<Vec<Event>, NoRequest> {
    let request = current.requested.as_ref().ok_or(NoRequest::NoRequest)?;
    let &Requested { follower, followee: asked, with_replies, .. } = request;
    let started = Started { id, follower, followee: asked, with_replies, by_request: true, message: None };
    Ok(start(started, followee))
}

/// Decides the end of a request without a following.
pub fn end_request(current: &Relation, how: RequestEnd) -> Result<Vec<Event>, NoRequest> {
    let request = current.requested.as_ref().ok_or(NoRequest::NoRequest)?;
    Ok(vec![RequestEnded { follower: request.follower, followee: request.followee, how }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{id, person, user};

    const IDS: fn() -> NewIds = || NewIds { follow: FollowId(id(50)), request: FollowRequestId(id(51)) };

    fn after(mut relation: Relation, events: &[Event]) -> Relation {
        events.iter().for_each(|event| relation.apply(event));
        relation
    }

    fn try_follow(current: &Relation, them: &User, back: &Relation) -> Result<Vec<Event>, CannotFollow> {
        follow(current, (user(1), &person(1, |_| ())), (user(2), them), back, false, IDS())
    }

    #[test]
    fn an_open_account_is_followed_at_once_and_only_once() {
        let open = person(2, |_| ());
        let events = try_follow(&Relation::default(), &open, &Relation::default()).unwrap();
        let following = after(Relation::default(), &events);
        assert!(following.follows());
        assert_eq!(try_follow(&following, &open, &Relation::default()), Err(CannotFollow::AlreadyFollowing));
        let ended = unfollow(&following, user(1), user(2), false).unwrap();
        assert_eq!(after(following, &ended), Relation::default());
    }

    #[test]
    fn a_locked_account_is_asked_once_and_accepts() {
        let locked = person(2, |p| p.is_locked = true);
        let asked = after(
            Relation::default(),
            &try_follow(&Relation::default(), &locked, &Relation::default()).unwrap(),
        );
        assert!(!asked.follows());
        assert_eq!(try_follow(&asked, &locked, &Relation::default()), Ok(Vec::new()));
        let accepted = after(asked.clone(), &accept(&asked, &locked, FollowId(id(60))).unwrap());
        assert!(accepted.follows() && accepted.requested.is_none());
        assert_eq!(accept(&accepted, &locked, FollowId(id(61))), Err(NoRequest::NoRequest));
        let rejected = after(asked.clone(), &end_request(&asked, RequestEnd::Rejected).unwrap());
        assert_eq!(rejected, Relation::default());
    }

    #[test]
    fn a_locked_account_takes_those_it_follows_without_asking() {
        let locked = person(2, |p| p.is_locked = true);
        let back = Relation {
            following: Some(Following { id: FollowId(id(5)), notify: Notify::None, with_replies: false }),
            ..Relation::default()
        };
        let events = try_follow(&Relation::default(), &locked, &back).unwrap();
        assert!(after(Relation::default(), &events).follows());
        let strict = person(2, |p| {
            p.is_locked = true;
            p.auto_accept_followed = false;
        });
        let events = try_follow(&Relation::default(), &strict, &back).unwrap();
        assert!(!after(Relation::default(), &events).follows());
    }

    #[test]
    fn a_careful_account_asks_bots() {
        let careful = person(2, |p| p.careful_bot = true);
        let bot = person(1, |p| p.is_bot = true);
        let none = Relation::default();
        let events = follow(&none, (user(1), &bot), (user(2), &careful), &none, false, IDS()).unwrap();
        assert!(matches!(events[..], [Event::FollowRequested(_)]));
    }

    #[test]
    fn a_greeting_is_the_followees_own_event() {
        let polite = person(2, |p| p.followed_message = Some("thanks!".to_owned()));
        let events = try_follow(&Relation::default(), &polite, &Relation::default()).unwrap();
        assert_eq!(events.iter().map(Event::subject).collect::<Vec<_>>(), [Some(user(2)), Some(user(1))]);
        let message = "thanks!".to_owned();
        assert_eq!(events[0], Greeted { follower: user(1), followee: user(2), message }.into());
        assert!(matches!(&events[1], Event::FollowStarted(Started { message: None, .. })));
        assert!(after(Relation::default(), &events).follows());
    }

    #[test]
    fn nobody_follows_across_a_block() {
        let (open, blocks) = (person(2, |_| ()), Relation { blocks: true, ..Relation::default() });
        assert_eq!(try_follow(&blocks, &open, &Relation::default()), Err(CannotFollow::Blocking));
        assert_eq!(try_follow(&Relation::default(), &open, &blocks), Err(CannotFollow::Blocked));
    }

    #[test]
    fn nobody_follows_themselves_or_nobody() {
        let me = person(1, |_| ());
        let none = Relation::default();
        let same = follow(&none, (user(1), &me), (user(1), &me), &none, false, IDS());
        assert_eq!(same, Err(CannotFollow::Yourself));
        assert_eq!(try_follow(&none, &User::default(), &none), Err(CannotFollow::NoSuchUser));
    }

    #[test]
    fn a_change_that_changes_nothing_is_no_event() {
        let following = Relation {
            following: Some(Following { id: FollowId(id(5)), notify: Notify::None, with_replies: false }),
            ..Relation::default()
        };
        assert_eq!(change(&following, user(1), user(2), Some(Notify::None), Some(false)), Ok(Vec::new()));
        let events = change(&following, user(1), user(2), Some(Notify::Normal), None).unwrap();
        assert_eq!(after(following, &events).following.map(|f| f.notify), Some(Notify::Normal));
        assert_eq!(
            change(&Relation::default(), user(1), user(2), None, None),
            Err(NotFollowing::NotFollowing)
        );
    }
}
