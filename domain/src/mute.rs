//! Muting: people, perhaps for a time, the renotes of people, and threads. It is nobody's business but the
//! muter's; what comes of it is in [`crate::policy::wants`].

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::follow::Relation;
use crate::ids::{MuteId, NoteId, RenoteMuteId, UserId};
use crate::log::StreamId;
use crate::note::Note;
use crate::user::User;
use crate::{Event, Fold};

/// The stream of whether one person mutes one thread.
pub fn thread_stream(thread: NoteId, user: UserId) -> StreamId {
    StreamId::new("thread_mute", format_args!("{thread}-{user}"))
}

/// `mute.started`: from now on; an earlier mute of the same person is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub id: MuteId,
    pub muter: UserId,
    pub mutee: UserId,
    /// When it is over by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// `mute.ended`: before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub muter: UserId,
    pub mutee: UserId,
}

/// `renote_mute.started`: the person's pure renotes, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenotesStarted {
    pub id: RenoteMuteId,
    pub muter: UserId,
    pub mutee: UserId,
}

/// `renote_mute.ended`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenotesEnded {
    pub muter: UserId,
    pub mutee: UserId,
}

/// `thread_mute.started`: being named and answered in the thread is of no interest any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStarted {
    pub user: UserId,
    /// The note at the top.
    pub thread: NoteId,
}

/// `thread_mute.ended`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadEnded {
    pub user: UserId,
    pub thread: NoteId,
}

macro_rules! of_the_muter {
    ($($payload:ty, $muter:ident);*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.$muter)
            }
        }
    )*};
}
of_the_muter!(Started, muter; Ended, muter; RenotesStarted, muter; RenotesEnded, muter);
of_the_muter!(ThreadStarted, user; ThreadEnded, user);

/// A mute, for ever or until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mute {
    pub expires_at: Option<DateTime<Utc>>,
}

impl Mute {
    /// Whether it isn't over.
    pub fn stands(self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Whether one person mutes one thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadMute {
    pub stands: bool,
}

impl Fold for ThreadMute {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ThreadMuteStarted(_) => self.stands = true,
            Event::ThreadMuteEnded(_) => self.stands = false,
            _ => (),
        }
    }
}

/// Why somebody isn't muted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotMute {
    #[error("one can't mute oneself")]
    Yourself,
    #[error("no such user")]
    NoSuchUser,
    #[error("already muting")]
    AlreadyMuting,
}

/// Why a mute doesn't end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMuting {
    #[error("one can't mute oneself")]
    Yourself,
    #[error("no such user")]
    NoSuchUser,
    #[error("not muting")]
    NotMuting,
}

/// Why a thread is neither muted nor heard again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoThread {
    #[error("no such note")]
    NoSuchNote,
}

/// Decides a mute. One that is to be over already changes nothing.
pub fn mute(
    current: &Relation,
    muter: UserId,
    mutee: (UserId, &User),
    id: MuteId,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotMute> {
    let mutee = somebody_else(muter, mutee)?;
    if current.mute.is_some_and(|mute| mute.stands(now)) {
        return Err(CannotMute::AlreadyMuting);
    }
    if !(Mute { expires_at }).stands(now) {
        return Ok(Vec::new());
    }
    Ok(vec![Started { id, muter, mutee, expires_at }.into()])
}

/// Decides the end of a mute.
pub fn unmute(
    current: &Relation,
    muter: UserId,
    mutee: UserId,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, NotMuting> {
    if muter == mutee {
        return Err(NotMuting::Yourself);
    }
    if !current.mute.is_some_and(|mute| mute.stands(now)) {
        return Err(NotMuting::NotMuting);
    }
    Ok(vec![Ended { muter, mutee }.into()])
}

/// Decides a mute of renotes.
pub fn mute_renotes(
    current: &Relation,
    muter: UserId,
    mutee: (UserId, &User),
    id: RenoteMuteId,
) -> Result<Vec<Event>, CannotMute> {
    let mutee = somebody_else(muter, mutee)?;
    if current.mutes_renotes {
        return Err(CannotMute::AlreadyMuting);
    }
    Ok(vec![RenotesStarted { id, muter, mutee }.into()])
}

/// Decides the end of a mute of renotes.
pub fn unmute_renotes(current: &Relation, muter: UserId, mutee: UserId) -> Result<Vec<Event>, NotMuting> {
    if muter == mutee {
        return Err(NotMuting::Yourself);
    }
    if !current.mutes_renotes {
        return Err(NotMuting::NotMuting);
    }
    Ok(vec![RenotesEnded { muter, mutee }.into()])
}

/// Decides a mute of the thread that a note is in; twice is once.
pub fn mute_thread(current: &ThreadMute, user: UserId, note: &Note) -> Result<Vec<Event>, NoThread> {
    let thread = note.existing().ok_or(NoThread::NoSuchNote)?.thread();
    let started = (!current.stands).then(|| ThreadStarted { user, thread }.into());
    Ok(started.into_iter().collect())
}

/// Decides the end of that.
pub fn unmute_thread(current: &ThreadMute, user: UserId, note: &Note) -> Result<Vec<Event>, NoThread> {
    let thread = note.existing().ok_or(NoThread::NoSuchNote)?.thread();
    let ended = current.stands.then(|| ThreadEnded { user, thread }.into());
    Ok(ended.into_iter().collect())
}

fn somebody_else(muter: UserId, mutee: (UserId, &User)) -> Result<UserId, CannotMute> {
    let (mutee, them) = mutee;
    if muter == mutee {
        return Err(CannotMute::Yourself);
    }
    if !them.exists() {
        return Err(CannotMute::NoSuchUser);
    }
    Ok(mutee)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Parent;
    use crate::note::tests::{NOW, a_note, at, id, person, user};

    fn try_mute(current: &Relation, until: Option<i64>, now: i64) -> Result<Relation, CannotMute> {
        let bob = person(2, |_| ());
        let events = mute(current, user(1), (user(2), &bob), MuteId(id(9)), until.map(at), at(now))?;
        let mut after = current.clone();
        events.iter().for_each(|event| after.apply(event));
        Ok(after)
    }

    #[test]
    fn a_mute_is_over_at_its_time_without_an_event() {
        let muting = try_mute(&Relation::default(), Some(NOW + 1_000), NOW).unwrap();
        assert_eq!(try_mute(&muting, None, NOW + 999), Err(CannotMute::AlreadyMuting));
        assert_eq!(unmute(&muting, user(1), user(2), at(NOW + 1_000)), Err(NotMuting::NotMuting));
        let again = try_mute(&muting, None, NOW + 1_000).unwrap();
        assert_eq!(again.mute, Some(Mute { expires_at: None }));
        assert_eq!(unmute(&again, user(1), user(2), at(2 * NOW)).unwrap().len(), 1);
        assert_eq!(try_mute(&Relation::default(), Some(NOW), NOW), Ok(Relation::default()));
    }

    #[test]
    fn nobody_mutes_themselves_or_nobody() {
        let (none, bob) = (Relation::default(), person(2, |_| ()));
        let id = RenoteMuteId(id(9));
        assert_eq!(mute_renotes(&none, user(2), (user(2), &bob), id), Err(CannotMute::Yourself));
        assert_eq!(
            mute_renotes(&none, user(1), (user(2), &User::default()), id),
            Err(CannotMute::NoSuchUser)
        );
        assert_eq!(unmute_renotes(&none, user(1), user(2)), Err(NotMuting::NotMuting));
        let events = mute_renotes(&none, user(1), (user(2), &bob), id).unwrap();
        let muting = Relation::of(&events);
        assert_eq!(mute_renotes(&muting, user(1), (user(2), &bob), id), Err(CannotMute::AlreadyMuting));
        assert_eq!(unmute_renotes(&muting, user(1), user(2)).unwrap().len(), 1);
    }

    #[test]
    fn a_thread_is_that_of_its_top() {
        let top = NoteId(id(50));
        let deep = a_note(|note| {
            note.reply = Some(Parent { id: NoteId(id(51)), author: user(3) });
            note.thread = Some(top);
        });
        let events = mute_thread(&ThreadMute::default(), user(1), &deep).unwrap();
        assert_eq!(events, [ThreadStarted { user: user(1), thread: top }.into()]);
        let muted = ThreadMute::of(&events);
        assert_eq!(mute_thread(&muted, user(1), &deep), Ok(Vec::new()));
        assert_eq!(unmute_thread(&muted, user(1), &deep).unwrap().len(), 1);
        assert_eq!(unmute_thread(&ThreadMute::default(), user(1), &deep), Ok(Vec::new()));
        assert_eq!(mute_thread(&muted, user(1), &Note::default()), Err(NoThread::NoSuchNote));
    }
}
