//! The event log's engines, and the keys with which every payload is sealed.
//!
//! All engines store the same rows, made and read by [`codec`]; `commands/tests/log` holds them to
//! the promises of [`domain::log::EventLog`].

mod check;
mod codec;
mod copy;
mod eventstore;
pub mod keys;
mod memory;
mod postgres;

use async_trait::async_trait;
use domain::Event;
use domain::log::{
    AppendError, EventLog, LogError, MAX_EVENTS_PER_APPEND, MAX_STREAM_ID_BYTES, Position, StreamId, Version,
};

pub use self::check::{Chained, Checked, Fault, MAX_FAULTS_SHOWN, check};
pub use self::codec::Sealed;
pub use self::copy::{Copied, CopyError, copy};
pub use self::eventstore::{EventStoreLog, MAX_QUEUED_APPENDS};
pub use self::keys::{Cipher, Keyring, KeysError, MasterKey};
pub use self::memory::MemoryLog;
pub use self::postgres::{PostgresLog, Takeover, WRITER_LEASE};

/// The most events one `after` returns, before the last append is completed.
pub const MAX_EVENTS_PER_READ: usize = 10_000;
/// How long `wait` waits at most: another process may have appended unheard.
pub const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// What the log's own tools (check, copy, backup) ask of an engine: its events as it keeps them.
#[async_trait]
pub trait Engine: EventLog {
    /// Like [`EventLog::after`], without opening the payloads.
    async fn sealed_after(&self, position: Position, limit: usize) -> Result<Vec<Sealed>, LogError>;

    /// Takes whole appends of another log as they are, in order; only the positions are given anew. An
    /// append whose command is here already is passed over. At a failure those before it may have been
    /// taken. Returns where the last of them is.
    async fn import(&self, appends: Vec<Vec<Sealed>>) -> Result<Position, AppendError>;

    /// Which log this is: another one, or one that was begun anew, has another.
    fn identity(&self) -> String;

    /// Whether positions are 1, 2, 3 and so on.
    fn is_gapless(&self) -> bool {
        false
    }

    /// The links of the hash chain after a position, from the one it begins with when there is none; at
    /// most `limit`. None when the engine keeps no chain.
    async fn chain_after(&self, _: Option<Position>, _: usize) -> Result<Option<Vec<Link>>, LogError> {
        Ok(None)
    }

    /// Lets go of what keeps other writers out. What is appended after this may be refused as fenced.
    async fn close(&self) -> Result<(), LogError> {
        Ok(())
    }
}

/// How far a check or a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub step: Step,
    /// Events of this step so far.
    pub events: u64,
    /// In the log that is read, and where its head was at the beginning.
    pub position: Position,
    pub head: Position,
}

/// What a check or a copy is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Checking,
    /// Compares what an earlier copy has left.
    Resuming,
    Copying,
    /// Compares everything at the end.
    Comparing,
}

/// A link of the hash chain: of all that was written since the link before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The last append that it covers.
    pub position: Position,
    pub hash: Vec<u8>,
}

/// Refuses to import what isn't one whole append; returns the version at which its stream must be.
fn whole(append: &[Sealed]) -> Result<Version, AppendError> {
    let Some(first) = append.first() else { return Err(AppendError::Empty) };
    if append.len() > MAX_EVENTS_PER_APPEND {
        return Err(AppendError::TooMany);
    }
    admit_name(&first.stream)?;
    let belongs = |(n, row): (usize, &Sealed)| {
        row.ordinal as usize == n
            && row.version == first.version.saturating_add(n as u64)
            && (row.command, &row.stream) == (first.command, &first.stream)
    };
    match first.version.checked_sub(1) {
        Some(expected) if append.iter().enumerate().all(belongs) => Ok(Version(expected)),
        _ => Err(LogError::Unreadable {
            kind: first.kind.clone(),
            schema: first.schema,
            reason: "its append is not whole".to_owned(),
        }
        .into()),
    }
}

/// Refuses what no engine takes.
fn admit(stream: &StreamId, events: &[Event]) -> Result<(), AppendError> {
    admit_name(stream.as_str())?;
    match events.len() {
        0 => Err(AppendError::Empty),
        1..=MAX_EVENTS_PER_APPEND => Ok(()),
        _ => Err(AppendError::TooMany),
    }
}

fn admit_name(name: &str) -> Result<(), AppendError> {
    if name.is_empty() || name.len() > MAX_STREAM_ID_BYTES || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(LogError::Unavailable(format!("{name:?} is not a name of a stream")).into());
    }
    Ok(())
}
