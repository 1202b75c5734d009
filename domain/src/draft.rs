//! Notes that are not written yet: drafts, and what is to be posted at a time. What a person has of both is in
//! the stream `drafts-{user}`, so that their number can't be passed in a race.
//!
//! What is due is taken first, with the id that the note will have: whoever goes on with it, after a crash or at
//! the same time, writes the same note, and so it is posted once.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::event::Payload;
use crate::ids::{ChannelId, DraftId, FileId, NoteId, UserId};
use crate::log::StreamId;
use crate::note::{ReactionAcceptance, Visibility};
use crate::poll::Poll;
use crate::{Event, Fold};

/// The longest hashtags that are kept for a draft, in characters.
pub const MAX_HASHTAG_CHARS: usize = 200;

/// The stream of what a person has not written yet.
pub fn stream(user: UserId) -> StreamId {
    StreamId::new("drafts", user)
}

/// What a note will say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cw: Option<String>,
    pub visibility: Visibility,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visible_to: Vec<UserId>,
    #[serde(default)]
    pub local_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction_acceptance: Option<ReactionAcceptance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<NoteId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renote: Option<NoteId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<DraftPoll>,
    /// What an app puts behind the text; only kept for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashtag: Option<String>,
    /// What is not looked for in the text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_mentions: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_hashtags: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_emojis: bool,
}

/// A poll that will be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftPoll {
    pub choices: Vec<String>,
    pub multiple: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// In milliseconds from when it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_after: Option<i64>,
}

impl DraftPoll {
    /// The poll when it is asked now.
    pub fn asked_at(&self, now: DateTime<Utc>) -> Poll {
        let after = self.expired_after.and_then(TimeDelta::try_milliseconds);
        Poll {
            choices: self.choices.clone(),
            multiple: self.multiple,
            expires_at: self.expires_at.or_else(|| after.and_then(|after| now.checked_add_signed(after))),
        }
    }
}

/// `draft.saved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub id: DraftId,
    pub user: UserId,
    pub content: Content,
    /// When it is to be posted; a draft is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<DateTime<Utc>>,
}

/// `draft.changed`: all that it says from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub id: DraftId,
    pub user: UserId,
    pub content: Content,
}

/// `draft.deleted`, or what was to be posted is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub id: DraftId,
    pub user: UserId,
}

/// `draft.taken`: its time has come, and it is being posted as this note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub id: DraftId,
    pub user: UserId,
    pub note: NoteId,
}

/// `draft.posted`: the note was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    pub id: DraftId,
    pub user: UserId,
    pub note: NoteId,
}

/// `draft.failed`: it can't be posted, and is a draft from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotPosted {
    pub id: DraftId,
    pub user: UserId,
    pub content: Content,
    pub reason: String,
}

macro_rules! of_their_user {
    ($($payload:ty),* $(,)?) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.user)
            }
        }
    )*};
}

of_their_user!(Saved, Changed, Deleted, Taken, Posted, NotPosted);

/// One of what a person has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub content: Content,
    pub scheduled_at: Option<DateTime<Utc>>,
    /// As which note it is being posted.
    pub taken: Option<NoteId>,
}

/// What a person has not written yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drafts {
    pub standing: BTreeMap<DraftId, Standing>,
}

impl Drafts {
    /// A draft that is there.
    pub fn draft(&self, id: DraftId) -> Option<&Standing> {
        self.standing.get(&id).filter(|draft| draft.scheduled_at.is_none())
    }

    fn scheduled(&self) -> impl Iterator<Item = DateTime<Utc>> {
        self.standing.values().filter_map(|draft| draft.scheduled_at)
    }
}

impl Fold for Drafts {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::DraftSaved(e) => {
                let (content, scheduled_at) = (e.content.clone(), e.scheduled_at);
                self.standing.insert(e.id, Standing { content, scheduled_at, taken: None });
            }
            Event::DraftChanged(e) => {
                if let Some(draft) = self.standing.get_mut(&e.id) {
                    draft.content = e.content.clone();
                }
            }
            Event::DraftDeleted(e) => {
                self.standing.remove(&e.id);
            }
            Event::DraftTaken(e) => {
                if let Some(draft) = self.standing.get_mut(&e.id) {
                    draft.taken = Some(e.note);
                }
            }
            Event::DraftPosted(e) => {
                self.standing.remove(&e.id);
            }
            Event::DraftFailed(e) => {
                if let Some(draft) = self.standing.get_mut(&e.id) {
                    (draft.scheduled_at, draft.taken) = (None, None);
                }
            }
            _ => (),
        }
    }
}

/// What a person may schedule, from the policies in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub at: DateTime<Utc>,
    /// Notes that wait at one time.
    pub limit: usize,
    /// How far ahead they may lie.
    pub max_days: i64,
}

/// A person has as many drafts as they may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many drafts")]
pub struct TooManyDrafts;

/// There is nothing of theirs with this id, or it is being posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such draft of theirs")]
pub struct NoSuchDraft;

/// Why a note is not scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSchedule {
    #[error("the time has passed")]
    Past,
    #[error("too far ahead")]
    TooFar,
    #[error("another one waits for the same time")]
    SameTime,
    #[error("too many notes wait")]
    TooMany,
}

/// Decides a new draft.
pub fn save(
    current: &Drafts,
    user: UserId,
    id: DraftId,
    content: Content,
    limit: usize,
) -> Result<Vec<Event>, TooManyDrafts> {
    if current.standing.values().filter(|draft| draft.scheduled_at.is_none()).count() >= limit {
        return Err(TooManyDrafts);
    }
    Ok(vec![Saved { id, user, content, scheduled_at: None }.into()])
}

/// Decides what a draft says from now on.
pub fn change(
    current: &Drafts,
    user: UserId,
    id: DraftId,
    content: Content,
) -> Result<Vec<Event>, NoSuchDraft> {
    let standing = current.draft(id).ok_or(NoSuchDraft)?;
    let differs = standing.content != content;
    Ok(if differs { vec![Changed { id, user, content }.into()] } else { Vec::new() })
}

/// Decides the end of a draft.
pub fn delete(current: &Drafts, user: UserId, id: DraftId) -> Result<Vec<Event>, NoSuchDraft> {
    current.draft(id).ok_or(NoSuchDraft)?;
    Ok(vec![Deleted { id, user }.into()])
}

/// Decides that a note is posted later, to the second.
pub fn schedule(
    current: &Drafts,
    user: UserId,
    id: DraftId,
    content: Content,
    schedule: Schedule,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotSchedule> {
    let at = schedule.at.trunc_subsecs(0);
    if at <= now {
        return Err(CannotSchedule::Past);
    }
    if TimeDelta::try_days(schedule.max_days).is_none_or(|most| at - now > most) {
        return Err(CannotSchedule::TooFar);
    }
    if current.scheduled().count() >= schedule.limit {
        return Err(CannotSchedule::TooMany);
    }
    if current.scheduled().any(|other| other == at) {
        return Err(CannotSchedule::SameTime);
    }
    Ok(vec![Saved { id, user, content, scheduled_at: Some(at) }.into()])
}

/// Decides that a note is not posted later. Once it is being posted it is too late.
pub fn cancel(current: &Drafts, user: UserId, id: DraftId) -> Result<Vec<Event>, NoSuchDraft> {
    let standing = current.standing.get(&id).ok_or(NoSuchDraft)?;
    if standing.scheduled_at.is_none() || standing.taken.is_some() {
        return Err(NoSuchDraft);
    }
    Ok(vec![Deleted { id, user }.into()])
}

/// Decides as which note something is posted whose time has come; it stays the one that somebody decided first.
pub fn take(current: &Drafts, user: UserId, id: DraftId, note: NoteId, now: DateTime<Utc>) -> Vec<Event> {
    let due = current.standing.get(&id).filter(|draft| draft.scheduled_at.is_some_and(|at| at <= now));
    match due {
        Some(draft) if draft.taken.is_none() => vec![Taken { id, user, note }.into()],
        _ => Vec::new(),
    }
}

/// Decides what has become of it, once.
pub fn end(current: &Drafts, user: UserId, id: DraftId, note: NoteId, failed: Option<&str>) -> Vec<Event> {
    let Some(draft) = current.standing.get(&id).filter(|draft| draft.taken == Some(note)) else {
        return Vec::new();
    };
    match failed {
        None => vec![Posted { id, user, note }.into()],
        Some(reason) => {
            let (content, reason) = (draft.content.clone(), reason.to_owned());
            vec![NotPosted { id, user, content, reason }.into()]
        }
    }
}

/// What is shown of something scheduled, but for what only ids are known of, by its names in the API.
pub fn shown(content: &Content) -> Value {
    let poll = content.poll.as_ref().map(|poll| {
        json!({
            "choices": poll.choices,
            "multiple": poll.multiple,
            "expiresAt": poll.expires_at.map(|at| at.timestamp_millis()),
            "expiredAfter": poll.expired_after,
        })
    });
    let mut shown = json!({
        "text": content.text,
        "useCw": content.cw.is_some(),
        "cw": content.cw,
        "visibility": content.visibility,
        "localOnly": content.local_only,
        "lang": null,
        "dimension": null,
        "files": [],
        "poll": poll,
    });
    if content.visibility == Visibility::Specified {
        shown["visibleUserIds"] = json!(content.visible_to);
    }
    shown
}

/// The same of what could not be posted, with all that surrounds it.
pub fn shown_failed(failed: &NotPosted) -> Value {
    json!({
        "id": failed.id,
        "createdAt": failed.id.time().to_rfc3339_opts(SecondsFormat::Millis, true),
        "scheduledAt": null,
        "reason": failed.reason,
        "data": shown(&failed.content),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{NOW, at, id, user};

    fn draft(n: u8) -> DraftId {
        DraftId(id(n))
    }

    fn says(text: &str) -> Content {
        Content { text: Some(text.to_owned()), ..Content::default() }
    }

    fn told<R>(state: &mut Drafts, decided: Result<Vec<Event>, R>) -> Result<usize, R> {
        let events = decided?;
        events.iter().for_each(|event| state.apply(event));
        Ok(events.len())
    }

    fn plan(millis: i64) -> Schedule {
        Schedule { at: at(millis), limit: 2, max_days: 1 }
    }

    #[test]
    fn drafts_are_kept_changed_and_thrown_away_as_many_as_one_may_have() {
        let mut drafts = Drafts::default();
        let first = save(&drafts, user(1), draft(1), says("a"), 1);
        assert_eq!(told(&mut drafts, first), Ok(1));
        assert_eq!(save(&drafts, user(1), draft(2), says("b"), 1), Err(TooManyDrafts));
        assert_eq!(change(&drafts, user(1), draft(1), says("a")), Ok(Vec::new()));
        let changed = change(&drafts, user(1), draft(1), says("c"));
        assert_eq!(told(&mut drafts, changed), Ok(1));
        assert_eq!(drafts.standing[&draft(1)].content, says("c"));
        assert_eq!(cancel(&drafts, user(1), draft(1)), Err(NoSuchDraft));
        let gone = delete(&drafts, user(1), draft(1));
        assert_eq!(told(&mut drafts, gone), Ok(1));
        assert_eq!(delete(&drafts, user(1), draft(1)), Err(NoSuchDraft));
        assert_eq!(change(&drafts, user(1), draft(1), says("d")), Err(NoSuchDraft));
    }

    #[test]
    fn notes_are_scheduled_within_bounds() {
        let mut drafts = Drafts::default();
        let try_at = |drafts: &Drafts, n, millis| {
            schedule(drafts, user(1), draft(n), says("later"), plan(millis), at(NOW))
        };
        assert_eq!(try_at(&drafts, 1, NOW + 999), Err(CannotSchedule::Past));
        assert_eq!(try_at(&drafts, 1, NOW + 86_401_000), Err(CannotSchedule::TooFar));
        let first = try_at(&drafts, 1, NOW + 5_238);
        assert_eq!(told(&mut drafts, first), Ok(1));
        assert_eq!(drafts.standing[&draft(1)].scheduled_at, Some(at(NOW + 5_000)));
        assert_eq!(try_at(&drafts, 2, NOW + 5_900), Err(CannotSchedule::SameTime));
        let second = try_at(&drafts, 2, NOW + 6_000);
        assert_eq!(told(&mut drafts, second), Ok(1));
        assert_eq!(try_at(&drafts, 3, NOW + 7_000), Err(CannotSchedule::TooMany));
        assert!(save(&drafts, user(1), draft(3), says("draft"), 1).is_ok());
        assert_eq!(delete(&drafts, user(1), draft(1)), Err(NoSuchDraft));
        let gone = cancel(&drafts, user(1), draft(1));
        assert_eq!(told(&mut drafts, gone), Ok(1));
        assert_eq!(cancel(&drafts, user(1), draft(1)), Err(NoSuchDraft));
    }

    #[test]
    fn what_is_due_is_posted_once_or_becomes_a_draft() {
        let (note, other) = (NoteId(id(7)), NoteId(id(8)));
        for failed in [None, Some("no such note")] {
            let mut drafts = Drafts::default();
            let made = schedule(&drafts, user(1), draft(1), says("later"), plan(NOW + 5_000), at(NOW));
            told(&mut drafts, made).unwrap();
            let take_at = |drafts: &Drafts, note, millis| take(drafts, user(1), draft(1), note, at(millis));
            assert_eq!(take_at(&drafts, note, NOW + 4_999), []);
            let taken = take_at(&drafts, note, NOW + 5_000);
            assert_eq!(told(&mut drafts, Ok::<_, ()>(taken)), Ok(1));
            assert_eq!(take_at(&drafts, other, NOW + 5_001), []);
            assert_eq!(drafts.standing[&draft(1)].taken, Some(note));
            assert_eq!(cancel(&drafts, user(1), draft(1)), Err(NoSuchDraft));
            assert_eq!(end(&drafts, user(1), draft(1), other, failed), []);
            let ended = end(&drafts, user(1), draft(1), note, failed);
            assert_eq!(told(&mut drafts, Ok::<_, ()>(ended)), Ok(1));
            assert_eq!(end(&drafts, user(1), draft(1), note, failed), []);
            let left = drafts.standing.get(&draft(1)).map(|draft| draft.scheduled_at);
            assert_eq!(left, failed.map(|_| None));
        }
    }

    #[test]
    fn a_poll_runs_from_when_it_is_asked() {
        let poll = |expires_at, expired_after| {
            let choices = vec!["a".to_owned(), "b".to_owned()];
            let poll = DraftPoll { choices, multiple: false, expires_at, expired_after };
            poll.asked_at(at(NOW)).expires_at
        };
        assert_eq!(poll(None, None), None);
        assert_eq!(poll(None, Some(500)), Some(at(NOW + 500)));
        assert_eq!(poll(Some(at(NOW + 7_000)), Some(500)), Some(at(NOW + 7_000)));
        assert_eq!(poll(None, Some(i64::MAX)), None);
    }
}
