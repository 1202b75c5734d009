//! The port to the event log: what every engine must do, and the values that cross it.

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::event::Event;
use crate::ids::{CommandId, EventId, UserId};

/// The most events one append may hold.
pub const MAX_EVENTS_PER_APPEND: usize = 256;
/// The longest name of a stream, in bytes.
pub const MAX_STREAM_ID_BYTES: usize = 200;

/// The name of a stream, such as `note-01J…`: lower-case words, digits, ids and hyphens; never
/// personal text (a reservation carries a keyed hash).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(String);

impl StreamId {
    /// A stream of one kind for one key made of ids or hashes.
    pub fn new(kind: &str, key: impl fmt::Display) -> Self {
        Self(format!("{kind}-{key}"))
    }

    /// A stream by the name that an engine has stored.
    pub fn stored(name: String) -> Self {
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a stream has come; ordered, and never added to outside an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// The version of a stream that has no events.
    pub const NONE: Version = Version(0);
}

/// The place of one append in the whole log; ordered, and never added to outside an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    /// Before the first append.
    pub const START: Position = Position(0);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who acts, when, and the idempotency key: made once, at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// The person who acts; none when the server itself does.
    pub user: Option<UserId>,
    pub now: DateTime<Utc>,
    pub command: CommandId,
}

impl By {
    /// The same act's `n`th further append.
    pub fn step(self, n: u8) -> Self {
        Self { command: self.command.step(n), ..self }
    }
}

/// An event as the log returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub position: Position,
    /// The place inside the append, from 0.
    pub ordinal: u32,
    pub id: EventId,
    pub stream: StreamId,
    /// The version of the stream after this event.
    pub version: Version,
    /// The stored kind, such as `reaction.added`; readable also when the payload is erased.
    pub kind: String,
    pub at: DateTime<Utc>,
    /// Whose data the payload is, and with whose key it is sealed.
    pub subject: Option<UserId>,
    pub actor: Option<UserId>,
    pub command: CommandId,
    /// None when the key of the subject has been destroyed.
    pub event: Option<Event>,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The stream is not at the expected version.
    #[error("the stream is at version {}", actual.0)]
    Conflict { actual: Version },
    #[error("an append needs at least one event")]
    Empty,
    #[error("an append holds at most {MAX_EVENTS_PER_APPEND} events")]
    TooMany,
    /// This writer was silent for too long, or another has the log for itself. Nothing was written: decide
    /// anew. The engine joins the writers again as soon as it may.
    #[error("another process has taken over the log")]
    Fenced,
    /// The queue in front of the engine is full; nothing was written.
    #[error("the log is overloaded")]
    Overloaded,
    /// Nothing can be written any more of somebody whose key is destroyed.
    #[error("the person is erased")]
    Erased { person: UserId },
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The engine failed, or what it holds can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log can't be reached: {0}")]
    Unavailable(String),
    #[error("event {kind} schema {schema} can't be read: {reason}")]
    Unreadable { kind: String, schema: u16, reason: String },
    #[error("keys: {0}")]
    Keys(String),
}

/// An append-only log of events. One conformance suite (`commands/tests/log`) runs against every
/// engine.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends all events or none, at one position, durably, when the stream is at `expected`.
    /// The same `by.command` again returns the first position, for ever, whatever else is passed.
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError>;

    /// All events of one stream, oldest first, and its version.
    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError>;

    /// Events after a position, in order and complete: what it has passed will never appear later.
    /// At most about `limit` events, but always whole appends; fewer only when there were no more.
    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError>;

    /// The position of the last append.
    async fn head(&self) -> Result<Position, LogError>;

    /// Returns when something may have been appended after `position`; a hint, so a caller asks
    /// `after` again at least once a second whatever this does.
    async fn wait(&self, position: Position);
}

/// The clock, so that tests can hold it.
pub trait Clock: Send + Sync {
    fn now(&self) -> DateTime<Utc>;
}

/// Makes ids: UUIDv7 of the given instant, each greater than the last of the same millisecond.
pub trait Ids: Send + Sync {
    fn at(&self, at: DateTime<Utc>) -> Uuid;
}
