//! The only way in: gathers facts from the log, lets `domain` decide, appends what it decided.
//!
//! Invariants kept here:
//! - only this crate appends, and it never reads a read table: facts are folded from streams;
//! - only the written stream is guarded: what is decided on it alone is never decided on what is old. So what
//!   must happen once, such as the taking of a name, of an invitation or of the root's place, has a stream of its
//!   own;
//! - a command's refusals are the closed enum of its decision; [`Failed`] adds what the log can do;
//! - local and remote people take the same commands;
//! - payloads are sealed per person before they reach an engine ([`log`]).
//!
//! # What another process wrote a moment ago
//!
//! Facts of other streams are as of a moment ago, in one process by the time that a command takes. In a second
//! process they are as old as the tail of the log there: milliseconds, a second when the word of an append was
//! lost, and never more than [`STALE_AFTER`]. It hears of its own writes at once. So it may happen that
//!
//! - an act succeeds as if it had come a moment earlier: a reaction or an answer just after a block, the deletion
//!   of the note or the change of who sees it; an account just after registration was closed;
//! - an act is refused as if it had come a moment earlier: a reaction to a note of somebody whose following was
//!   accepted just now. Asking again helps.
//!
//! It can't happen that both of two acts stand which exclude each other: who follows looks for a block once more
//! when the following is written, and who blocks for a following when the block is, both in the log itself, so
//! that one of them sees the other. Nor that something is kept of who was erased: what is still sealed with a key
//! that was destroyed can't be opened by anybody.
//!
//! To add a command: a method on [`Commands`] in the file of its feature. It loads the states that the
//! decision wants ([`Commands::load`]), and hands the decision to [`Commands::execute`].

mod achievement;
mod ad;
mod announcement;
mod antenna;
mod block;
pub mod bus;
mod channel;
mod clip;
mod decoration;
mod draft;
mod drive;
mod emoji;
mod export;
mod favorite;
mod follow;
mod instance;
mod invitation;
mod list;
pub mod log;
mod memo;
mod moderation;
mod mute;
mod note;
mod notification;
mod pin;
mod poll;
mod reaction;
mod registry;
mod report;
mod role;
mod states;
mod user;
mod work;

use std::convert::Infallible;
use std::sync::Arc;

use domain::log::{AppendError, By, EventLog, Ids, LogError, Position, Recorded, StreamId, Version};
use domain::{Event, Fold};
use tokio::time::Instant;

use crate::bus::{Bus, Word};
use crate::log::Keyring;
use crate::states::{Loaded, States};

pub use drive::NewFile;
pub use note::NewNote;
pub use states::STALE_AFTER;
pub use user::{AskedBy, NewAccount};

/// How often a command decides anew when somebody else wrote the stream in between.
const MAX_ATTEMPTS: usize = 5;

/// Where the log stood when the command was done: a reader waits for a projection to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub position: Position,
}

/// Why a command did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Failed<R> {
    /// The rules say no.
    #[error(transparent)]
    Refused(R),
    /// Others kept writing the same stream.
    #[error("the stream is contended")]
    Contended,
    #[error(transparent)]
    Log(LogError),
    #[error(transparent)]
    Append(AppendError),
}

impl<R> From<LogError> for Failed<R> {
    fn from(error: LogError) -> Self {
        Failed::Log(error)
    }
}

impl<R> Failed<R> {
    /// The same failure for a command whose refusals have other names.
    pub fn map_refusal<S>(self, map: impl FnOnce(R) -> S) -> Failed<S> {
        match self {
            Failed::Refused(refusal) => Failed::Refused(map(refusal)),
            Failed::Contended => Failed::Contended,
            Failed::Log(error) => Failed::Log(error),
            Failed::Append(error) => Failed::Append(error),
        }
    }
}

/// The write side of a server.
#[derive(Clone)]
pub struct Commands {
    log: Arc<dyn EventLog>,
    keyring: Arc<Keyring>,
    ids: Arc<dyn Ids>,
    bus: Bus,
    states: Arc<States>,
}

impl Commands {
    /// Every command reads its facts from the log, until somebody follows it: see [`Self::fresh`].
    pub fn new(log: Arc<dyn EventLog>, keyring: Arc<Keyring>, ids: Arc<dyn Ids>, bus: Bus) -> Self {
        Self { log, keyring, ids, bus, states: Arc::default() }
    }

    /// To be told of every event that the tail of the log comes to, in order, after the first
    /// [`Self::fresh`]: other processes write too. What was heard already does no harm.
    pub fn heard(&self, events: &[Arc<Recorded>]) {
        self.states.heard(events);
        // Streams of others, too, may hold words of whoever was erased.
        if events.iter().any(|recorded| matches!(recorded.event, Some(Event::UserErased(_)))) {
            self.states.clear();
        }
    }

    /// Says that everything has been [heard](Self::heard) that was in the log at this instant. For
    /// [`STALE_AFTER`] commands then use folded states that they know; without it they read the log.
    pub fn fresh(&self, asked: Instant) {
        self.states.fresh(asked);
    }

    /// Folds one stream. Events whose payload has been erased are passed over.
    pub async fn load<S: Fold>(&self, stream: &StreamId) -> Result<Arc<S>, LogError> {
        Ok(self.load_versioned(stream).await?.state)
    }

    async fn load_versioned<S: Fold>(&self, stream: &StreamId) -> Result<Loaded<S>, LogError> {
        match self.states.get(stream) {
            Some(known) => Ok(known),
            None => self.read_versioned(stream).await,
        }
    }

    async fn read_versioned<S: Fold>(&self, stream: &StreamId) -> Result<Loaded<S>, LogError> {
        let reading = self.states.reading();
        let (recorded, version) = self.log.stream(stream).await?;
        let position = recorded.last().map_or(Position::START, |last| last.position);
        let state = Arc::new(S::of(recorded.iter().filter_map(|r| r.event.as_ref())));
        let loaded = Loaded { state, version, position, is_remembered: false };
        self.states.put(stream, &loaded, reading);
        Ok(loaded)
    }

    /// Loads the stream to be written, decides, appends at the version it saw; when another writer
    /// was faster, again. A decision without events changes nothing and succeeds. Only what the log itself
    /// says is refused or left as it is.
    async fn execute<S: Fold, R>(
        &self,
        stream: &StreamId,
        by: &By,
        decide: impl Fn(&S) -> Result<Vec<Event>, R>,
    ) -> Result<Receipt, Failed<R>> {
        let known = self.load_versioned(stream).await?;
        self.execute_on(known, stream, by, decide).await
    }

    /// The same for a stream whose name has just been made, so that nobody has written it: it isn't read
    /// unless that was wrong.
    async fn execute_first<S: Fold, R>(
        &self,
        stream: &StreamId,
        by: &By,
        decide: impl Fn(&S) -> Result<Vec<Event>, R>,
    ) -> Result<Receipt, Failed<R>> {
        let (version, position) = (Version::NONE, Position::START);
        let new = Loaded { state: Arc::default(), version, position, is_remembered: false };
        self.execute_on(new, stream, by, decide).await
    }

    async fn execute_on<S: Fold, R>(
        &self,
        mut loaded: Loaded<S>,
        stream: &StreamId,
        by: &By,
        decide: impl Fn(&S) -> Result<Vec<Event>, R>,
    ) -> Result<Receipt, Failed<R>> {
        let began = Instant::now();
        for _ in 0..MAX_ATTEMPTS {
            let events = match decide(&loaded.state) {
                Ok(events) if !events.is_empty() => events,
                // No append will tell whether this is still so: another process may have written meanwhile.
                _ if loaded.is_remembered => {
                    loaded = self.read_versioned(stream).await?;
                    continue;
                }
                Ok(_) => return Ok(Receipt { position: loaded.position }),
                Err(refusal) => return Err(Failed::Refused(refusal)),
            };
            match self.append(stream, loaded.version, by, events).await {
                Ok(position) => return Ok(Receipt { position }),
                Err(AppendError::Conflict { .. }) => loaded = self.load_versioned(stream).await?,
                // Nothing that was known is; what the command knew before it came here may be old, too.
                Err(AppendError::Fenced) if began.elapsed() < STALE_AFTER => {
                    loaded = self.load_versioned(stream).await?;
                }
                // What was known of the other one is old: whoever tries again finds nobody.
                Err(AppendError::Erased { person }) if by.user != Some(person) => break,
                Err(AppendError::Log(error)) => return Err(Failed::Log(error)),
                Err(error) => return Err(Failed::Append(error)),
            }
        }
        Err(Failed::Contended)
    }

    /// Appends in a task of its own: a caller that goes away must not take along what the states are to
    /// know of the outcome.
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        let (log, states, bus) = (self.log.clone(), self.states.clone(), self.bus.clone());
        let (stream, by) = (stream.clone(), *by);
        let appending = tokio::spawn(async move {
            let outcome = log.append(&stream, expected, &by, events).await;
            states.appended(&stream, &outcome);
            if let Ok(position) = outcome {
                bus.say(Word::Appended(position));
            }
            outcome
        });
        appending.await.unwrap_or_else(|lost| Err(LogError::Unavailable(lost.to_string()).into()))
    }

    /// Appends a fact that needs no decision. Each has a stream of its own: one that grew with them would be
    /// read whole again and again.
    async fn record(&self, by: &By, fact: Event) -> Result<Receipt, Failed<Infallible>> {
        let stream = StreamId::new("fact", by.command);
        self.execute_first(&stream, by, |_: &Nothing| Ok(vec![fact.clone()])).await
    }
}

/// What nothing is folded of.
#[derive(Default)]
struct Nothing;

impl Fold for Nothing {
    fn apply(&mut self, _: &Event) {}
}
