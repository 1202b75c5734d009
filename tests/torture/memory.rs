//! What everybody has done: acknowledged, refused, or unknown because the answer was lost.
//!
//! Each stream of the log is written by one person, one deed after the other, so what it must hold is known
//! in order. A deed whose outcome is unknown closes its stream until the log has been looked at: then it has
//! happened or never will.

use std::collections::{HashMap, HashSet};

use domain::{NoteId, UserId, follow, note, reaction, user};

use crate::Findings;

/// Somebody with an account.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: UserId,
    pub name: String,
    pub token: String,
}

/// A note as its author asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub author: UserId,
    /// Unique. None for a renote, of which each person has at most one per note.
    pub text: Option<String>,
    pub reply: Option<NoteId>,
    pub renote: Option<NoteId>,
    pub asks: bool,
}

/// A stream of the log that people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    Note(NoteId),
    Reaction(NoteId, UserId),
    Vote(NoteId, UserId),
    Relation(UserId, UserId),
    User(UserId),
}

/// What a stream says at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Written,
    Deleted,
    Reacted(&'static str),
    NotReacted,
    Voted(u32),
    Following,
    NotFollowing,
    Says(String),
}

/// One append to one stream.
#[derive(Debug, Clone)]
pub struct Deed {
    /// The kinds of its events.
    pub kinds: &'static [&'static str],
    pub leaves: State,
    /// The how many-th deed of its person it is.
    pub turn: u64,
    /// Whether the person was told that it happened before they did anything else.
    pub in_turn: bool,
}

#[derive(Debug)]
pub struct Stream {
    pub person: UserId,
    pub done: Vec<Deed>,
    /// Asked for, with no answer yet, or none any more.
    pub open: Option<Deed>,
}

/// A note of which nobody was told the id.
#[derive(Debug, Clone)]
pub struct Lost {
    pub draft: Draft,
    pub turn: u64,
    /// Whether the person was told that it is written, and no more.
    pub acknowledged: bool,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    Acknowledged,
    /// With the code of the refusal.
    Refused(String),
    /// The server has said that it was too busy, and did nothing; or it was never reached.
    NotDone,
    /// It may have happened.
    Unknown,
}

/// What the server ought to say to a request, as far as that can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ought {
    Allow,
    Refuse,
    Either,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub acknowledged: u64,
    pub refused: u64,
    pub not_done: u64,
    pub unknown: u64,
}

#[derive(Debug, Default)]
pub struct Memory {
    pub people: Vec<Person>,
    pub streams: HashMap<Key, Stream>,
    pub notes: HashMap<NoteId, Draft>,
    /// In the order in which they were made.
    pub newest: Vec<NoteId>,
    /// Notes of which nobody was told the id.
    pub lost: Vec<Lost>,
    /// Renotes that are there, or may be.
    renoted: HashSet<(UserId, NoteId)>,
    turns: HashMap<UserId, u64>,
    pub counts: Counts,
    /// What was wrong with an answer.
    pub findings: Findings,
}

/// How far back a note is looked for.
const RECENT: usize = 100;
pub const WRITE: &[&str] = &["note.created"];
pub const DELETE: &[&str] = &["note.deleted"];
pub const REACT: &[&str] = &["reaction.added"];
pub const REACT_ANEW: &[&str] = &["reaction.removed", "reaction.added"];
pub const UNREACT: &[&str] = &["reaction.removed"];
pub const VOTE: &[&str] = &["poll.voted"];
pub const FOLLOW: &[&str] = &["follow.started"];
pub const UNFOLLOW: &[&str] = &["follow.ended"];
pub const CHANGE: &[&str] = &["user.changed"];

impl Key {
    /// The name of the stream in the log.
    pub fn name(self) -> String {
        match self {
            Key::Note(note) => note::stream(note).as_str().to_owned(),
            Key::Reaction(note, user) => reaction::stream(note, user).as_str().to_owned(),
            Key::Vote(note, user) => format!("vote-{note}-{user}"),
            Key::Relation(from, to) => follow::stream(from, to).as_str().to_owned(),
            Key::User(user) => user::stream(user).as_str().to_owned(),
        }
    }
}

impl Memory {
    /// The newest note that was asked for so, if its id is known.
    pub fn find(&self, draft: &Draft) -> Option<NoteId> {
        self.newest.iter().rev().take(RECENT).copied().find(|id| self.notes.get(id) == Some(draft))
    }

    /// Whether a note and all that it answers or passes on are there for certain.
    pub fn is_there(&self, note: NoteId) -> bool {
        let certain = |stream: &Stream| {
            stream.open.is_none() && stream.done.last().is_some_and(|deed| deed.leaves == State::Written)
        };
        self.streams.get(&Key::Note(note)).is_some_and(certain)
            && self.parents(note).all(|parent| self.is_there(parent))
    }

    /// Whether a note or something that it answers or passes on has been deleted, once nothing is open.
    pub fn is_gone(&self, note: NoteId) -> bool {
        let deleted = |stream: &Stream| stream.done.iter().any(|deed| deed.leaves == State::Deleted);
        self.streams.get(&Key::Note(note)).is_none_or(deleted)
            || self.parents(note).any(|parent| self.is_gone(parent))
    }

    pub fn parents(&self, note: NoteId) -> impl Iterator<Item = NoteId> {
        self.notes.get(&note).into_iter().flat_map(|draft| draft.reply.into_iter().chain(draft.renote))
    }

    /// What a stream says at its end.
    pub fn state(&self, key: Key) -> Option<&State> {
        Some(&self.streams.get(&key)?.done.last()?.leaves)
    }

    /// Whether a stream has a deed without an answer.
    pub fn is_open(&self, key: Key) -> bool {
        self.streams.get(&key).is_some_and(|stream| stream.open.is_some())
    }

    pub fn has_renoted(&self, user: UserId, note: NoteId) -> bool {
        self.renoted.contains(&(user, note))
    }

    /// A person asks for something: its place in the order of what they do.
    pub fn turn(&mut self, person: UserId) -> u64 {
        let turn = self.turns.entry(person).or_default();
        *turn += 1;
        *turn
    }

    /// A note is asked for.
    pub fn begin_note(&mut self, draft: &Draft) {
        if let (None, Some(renote)) = (&draft.text, draft.renote) {
            self.renoted.insert((draft.author, renote));
        }
    }

    /// What became of a note that was asked for.
    pub fn end_note(
        &mut self,
        draft: Draft,
        turn: u64,
        in_turn: bool,
        written: Option<NoteId>,
        outcome: &Outcome,
    ) {
        self.count(outcome);
        match (outcome, written) {
            (Outcome::Acknowledged, Some(id)) => self.add_note(id, draft, turn, in_turn),
            // The server could not show it in time, but says that it is written.
            (Outcome::Acknowledged, None) => self.lost.push(Lost { draft, turn, acknowledged: true }),
            (Outcome::Unknown, _) => self.lost.push(Lost { draft, turn, acknowledged: false }),
            (Outcome::Refused(_) | Outcome::NotDone, _) => self.forget(&draft),
        }
    }

    /// A note was not written, and never will be.
    pub fn forget(&mut self, draft: &Draft) {
        if let (None, Some(renote)) = (&draft.text, draft.renote) {
            self.renoted.remove(&(draft.author, renote));
        }
    }

    /// A note that is known to be there.
    pub fn add_note(&mut self, id: NoteId, draft: Draft, turn: u64, in_turn: bool) {
        let deed = Deed { kinds: WRITE, leaves: State::Written, turn, in_turn };
        let stream = Stream { person: draft.author, done: vec![deed], open: None };
        if self.streams.insert(Key::Note(id), stream).is_some() {
            self.findings.add(format!("two notes were given the id {id}"));
        }
        self.notes.insert(id, draft);
        self.newest.push(id);
    }

    /// Something else is asked for.
    pub fn begin(&mut self, key: Key, person: UserId, deed: Deed) {
        let stream = self.streams.entry(key);
        stream.or_insert_with(|| Stream { person, done: Vec::new(), open: None }).open = Some(deed);
    }

    /// What became of it.
    pub fn end(&mut self, key: Key, in_turn: bool, outcome: &Outcome) {
        self.count(outcome);
        let Some(stream) = self.streams.get_mut(&key) else { return };
        match outcome {
            Outcome::Acknowledged => {
                stream.done.extend(stream.open.take().map(|deed| Deed { in_turn, ..deed }));
            }
            Outcome::Refused(_) | Outcome::NotDone => stream.open = None,
            Outcome::Unknown => {}
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Acknowledged => &mut self.counts.acknowledged,
            Outcome::Refused(_) => &mut self.counts.refused,
            Outcome::NotDone => &mut self.counts.not_done,
            Outcome::Unknown => &mut self.counts.unknown,
        };
        *count += 1;
    }
}
