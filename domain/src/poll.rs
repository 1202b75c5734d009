//! Polls: asked in a note, voted on by one stream per voter.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{NoteId, UserId, VoteId};
use crate::log::StreamId;
use crate::note::Note;
use crate::{Event, Fold};

/// Choices of one poll, from Misskey's `notes/create`.
pub const MIN_CHOICES: usize = 2;
pub const MAX_CHOICES: usize = 10;
/// The longest choice, in characters.
pub const MAX_CHOICE_CHARS: usize = 50;

/// A poll as its author asked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    pub choices: Vec<String>,
    pub multiple: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// `poll.voted`: one person chose one choice; a poll with several answers has several of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voted {
    pub id: VoteId,
    pub note: NoteId,
    pub author: UserId,
    pub voter: UserId,
    /// Index into the choices, from 0.
    pub choice: u32,
}

/// `poll.ended`: its time has come; those who asked and voted are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub note: NoteId,
    pub author: UserId,
    /// The note has gone meanwhile, so nobody is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_gone: bool,
}

impl Payload for Ended {
    fn subject(&self) -> Option<UserId> {
        Some(self.author)
    }
}

impl Payload for Voted {
    fn subject(&self) -> Option<UserId> {
        Some(self.voter)
    }
}

/// The votes of one person on one poll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ballot {
    pub choices: Vec<u32>,
}

impl Fold for Ballot {
    fn apply(&mut self, event: &Event) {
        if let Event::PollVoted(voted) = event {
            self.choices.push(voted.choice);
        }
    }
}

/// Why a vote is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotVote {
    #[error("no such note")]
    NoSuchNote,
    #[error("the note asks nothing")]
    NoPoll,
    #[error("blocked by its author")]
    Blocked,
    #[error("no such choice")]
    InvalidChoice,
    #[error("already voted")]
    AlreadyVoted,
    #[error("the poll is over")]
    AlreadyExpired,
}

/// Whether the end of a poll has been noticed; in a stream of its own, so that it is once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Closing {
    pub has_ended: bool,
}

impl Fold for Closing {
    fn apply(&mut self, event: &Event) {
        if let Event::PollEnded(_) = event {
            self.has_ended = true;
        }
    }
}

/// The stream of the end of a poll.
pub fn closing_stream(note: NoteId) -> StreamId {
    StreamId::new("poll", note)
}

/// Why a poll doesn't end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotEnd {
    #[error("there is no such poll")]
    NoPoll,
    #[error("its time has not come")]
    NotYet,
}

/// Decides the end of a poll, once. The note may have gone.
pub fn end(current: &Closing, note: &Note, now: DateTime<Utc>) -> Result<Vec<Event>, CannotEnd> {
    let created = note.created.as_ref().ok_or(CannotEnd::NoPoll)?;
    let end = created.poll.as_ref().and_then(|poll| poll.expires_at).ok_or(CannotEnd::NoPoll)?;
    if now < end {
        return Err(CannotEnd::NotYet);
    }
    if current.has_ended {
        return Ok(Vec::new());
    }
    Ok(vec![Ended { note: created.id, author: created.author, is_gone: note.deleted }.into()])
}

/// Decides a vote of `voter`, who is known to see the note, and may be blocked by its author.
pub fn vote(
    ballot: &Ballot,
    note: &Note,
    voter: UserId,
    blocked: bool,
    id: VoteId,
    choice: u32,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotVote> {
    let facts = note.existing().ok_or(CannotVote::NoSuchNote)?;
    let poll = facts.poll.as_ref().ok_or(CannotVote::NoPoll)?;
    if blocked {
        return Err(CannotVote::Blocked);
    }
    if poll.expires_at.is_some_and(|end| end < now) {
        return Err(CannotVote::AlreadyExpired);
    }
    if choice as usize >= poll.choices.len() {
        return Err(CannotVote::InvalidChoice);
    }
    let again = if poll.multiple { ballot.choices.contains(&choice) } else { !ballot.choices.is_empty() };
    if again {
        return Err(CannotVote::AlreadyVoted);
    }
    Ok(vec![Voted { id, note: facts.id, author: facts.author, voter, choice }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{NOW, a_note, at, id, user};

    fn poll(multiple: bool) -> Note {
        a_note(|note| {
            note.poll = Some(Poll {
                choices: vec!["red".into(), "green".into()],
                multiple,
                expires_at: Some(at(NOW + 1_000)),
            });
        })
    }

    fn choose(ballot: &Ballot, note: &Note, choice: u32, now: i64) -> Result<Ballot, CannotVote> {
        let events = vote(ballot, note, user(2), false, VoteId(id(9)), choice, at(now))?;
        let mut after = ballot.clone();
        events.iter().for_each(|event| after.apply(event));
        Ok(after)
    }

    #[test]
    fn a_single_choice_poll_takes_one_vote() {
        let after = choose(&Ballot::default(), &poll(false), 1, NOW).unwrap();
        assert_eq!(after.choices, [1]);
        assert_eq!(choose(&after, &poll(false), 0, NOW), Err(CannotVote::AlreadyVoted));
    }

    #[test]
    fn a_multiple_choice_poll_takes_each_choice_once() {
        let after = choose(&Ballot::default(), &poll(true), 1, NOW).unwrap();
        let after = choose(&after, &poll(true), 0, NOW).unwrap();
        assert_eq!(choose(&after, &poll(true), 1, NOW), Err(CannotVote::AlreadyVoted));
    }

    #[test]
    fn a_poll_ends_once_and_at_its_time() {
        let try_end = |current: &Closing, note: &Note, now| end(current, note, at(now));
        let (open, polled) = (Closing::default(), poll(false));
        assert_eq!(try_end(&open, &polled, NOW + 999), Err(CannotEnd::NotYet));
        let events = try_end(&open, &polled, NOW + 1_000).unwrap();
        assert!(matches!(&events[..], [Event::PollEnded(Ended { is_gone: false, .. })]));
        assert_eq!(try_end(&Closing::of(&events), &polled, NOW + 1_000), Ok(Vec::new()));
        let gone = Note { deleted: true, ..polled };
        let events = try_end(&open, &gone, NOW + 1_000).unwrap();
        assert!(matches!(&events[..], [Event::PollEnded(Ended { is_gone: true, .. })]));
        for nothing in [a_note(|_| ()), Note::default()] {
            assert_eq!(try_end(&open, &nothing, NOW), Err(CannotEnd::NoPoll));
        }
    }

    #[test]
    fn a_vote_needs_an_open_poll_and_a_real_choice() {
        assert_eq!(choose(&Ballot::default(), &poll(false), 2, NOW), Err(CannotVote::InvalidChoice));
        assert_eq!(choose(&Ballot::default(), &poll(false), 0, NOW + 2_000), Err(CannotVote::AlreadyExpired));
        assert_eq!(choose(&Ballot::default(), &a_note(|_| ()), 0, NOW), Err(CannotVote::NoPoll));
        assert_eq!(choose(&Ballot::default(), &Note::default(), 0, NOW), Err(CannotVote::NoSuchNote));
        let blocked = vote(&Ballot::default(), &poll(false), user(2), true, VoteId(id(9)), 0, at(NOW));
        assert_eq!(blocked, Err(CannotVote::Blocked));
    }
}
