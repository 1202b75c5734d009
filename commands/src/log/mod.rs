//! The event log's engines, and the keys with which every payload is sealed.
//!
//! All engines store the same rows, made and read by [`codec`]; `commands/tests/log.rs` holds them to
//! the promises of [`domain::log::EventLog`].

mod codec;
#[cfg(feature = "eventstore")]
mod eventstore;
pub mod keys;
mod memory;
mod postgres;

use domain::Event;
use domain::log::{AppendError, LogError, MAX_EVENTS_PER_APPEND, MAX_STREAM_ID_BYTES, StreamId};

#[cfg(feature = "eventstore")]
pub use self::eventstore::EventStoreLog;
pub use self::keys::{Keyring, KeysError, MasterKey};
pub use self::memory::MemoryLog;
pub use self::postgres::{PostgresLog, Takeover};

/// The most events one `after` returns, before the last append is completed.
pub const MAX_EVENTS_PER_READ: usize = 10_000;
/// How long `wait` waits at most: another process may have appended unheard.
pub const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// Refuses what no engine takes.
fn admit(stream: &StreamId, events: &[Event]) -> Result<(), AppendError> {
    let name = stream.as_str();
    if name.is_empty() || name.len() > MAX_STREAM_ID_BYTES || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(LogError::Unavailable(format!("{name:?} is not a name of a stream")).into());
    }
    match events.len() {
        0 => Err(AppendError::Empty),
        1..=MAX_EVENTS_PER_APPEND => Ok(()),
        _ => Err(AppendError::TooMany),
    }
}
