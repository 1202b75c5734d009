//! The only way in: gathers facts from the log, lets `domain` decide, appends what it decided.
//!
//! Invariants kept here:
//! - only this crate appends, and it never reads a read table: facts are folded from streams;
//! - only the written stream is guarded; facts from other streams are as of now;
//! - a command's refusals are the closed enum of its decision; [`Failed`] adds what the log can do;
//! - local and remote people take the same commands;
//! - payloads are sealed per person before they reach an engine ([`log`]).
//!
//! To add a command: a method on [`Commands`] in the file of its feature. It loads the states that the
//! decision wants ([`Commands::load`]), and hands the decision to [`Commands::execute`].

mod follow;
mod instance;
pub mod log;
mod note;
mod notification;
mod poll;
mod reaction;
mod user;

use std::convert::Infallible;
use std::sync::Arc;

use domain::log::{AppendError, By, EventLog, Ids, LogError, Position, StreamId, Version};
use domain::{Event, Fold};

use crate::log::Keyring;

pub use note::NewNote;
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
}

/// A state, the version it was folded at, and the position of its last event.
struct Loaded<S> {
    state: S,
    version: Version,
    position: Position,
}

impl Commands {
    pub fn new(log: Arc<dyn EventLog>, keyring: Arc<Keyring>, ids: Arc<dyn Ids>) -> Self {
        Self { log, keyring, ids }
    }

    /// Folds one stream. Events whose payload has been erased are passed over.
    async fn load<S: Fold>(&self, stream: &StreamId) -> Result<S, LogError> {
        Ok(self.load_versioned(stream).await?.state)
    }

    async fn load_versioned<S: Fold>(&self, stream: &StreamId) -> Result<Loaded<S>, LogError> {
        let (recorded, version) = self.log.stream(stream).await?;
        let position = recorded.last().map_or(Position::START, |last| last.position);
        Ok(Loaded { state: S::of(recorded.iter().filter_map(|r| r.event.as_ref())), version, position })
    }

    /// Loads the stream to be written, decides, appends at the version it saw; when another writer
    /// was faster, again. A decision without events changes nothing and succeeds.
    async fn execute<S: Fold, R>(
        &self,
        stream: &StreamId,
        by: &By,
        decide: impl Fn(&S) -> Result<Vec<Event>, R>,
    ) -> Result<Receipt, Failed<R>> {
        for _ in 0..MAX_ATTEMPTS {
            let loaded = self.load_versioned::<S>(stream).await?;
            let events = decide(&loaded.state).map_err(Failed::Refused)?;
            if events.is_empty() {
                return Ok(Receipt { position: loaded.position });
            }
            match self.log.append(stream, loaded.version, by, events).await {
                Ok(position) => return Ok(Receipt { position }),
                Err(AppendError::Conflict { .. }) => continue,
                Err(AppendError::Log(error)) => return Err(Failed::Log(error)),
                Err(error) => return Err(Failed::Append(error)),
            }
        }
        Err(Failed::Contended)
    }

    /// Appends a fact that needs no decision. Each has a stream of its own: one that grew with them would be
    /// read whole again and again.
    async fn record(&self, by: &By, fact: Event) -> Result<Receipt, Failed<Infallible>> {
        let stream = StreamId::new("fact", by.command);
        self.execute(&stream, by, |_: &Nothing| Ok(vec![fact.clone()])).await
    }
}

/// What nothing is folded of.
#[derive(Default)]
struct Nothing;

impl Fold for Nothing {
    fn apply(&mut self, _: &Event) {}
}
