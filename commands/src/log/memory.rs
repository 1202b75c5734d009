//! A log in memory, for tests and trials: the same rows, sealed the same way, gone with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::Event;
use domain::log::{AppendError, By, EventLog, LogError, Position, Recorded, StreamId, Version};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::codec::{Codec, Sealed};
use super::keys::Keyring;
use super::{Engine, MAX_EVENTS_PER_READ, MAX_WAIT, admit, whole};

/// The log in memory. A clone is another handle to the same log, as after a restart.
#[derive(Clone)]
pub struct MemoryLog {
    /// It begins anew each time.
    id: u64,
    codec: Arc<Codec>,
    held: Arc<Mutex<Held>>,
    head: Arc<watch::Sender<Position>>,
}

#[derive(Default)]
struct Held {
    /// The append of position `n + 1`.
    appends: Vec<Vec<Sealed>>,
    /// Where the events of each stream are, in `appends`.
    streams: HashMap<String, Vec<(usize, usize)>>,
    commands: HashMap<Uuid, Position>,
}

impl MemoryLog {
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self {
            id: rand::rng().random(),
            codec: Arc::new(Codec::new(keyring)),
            held: Arc::default(),
            head: Arc::new(watch::Sender::new(Position::START)),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one append, at the next position; or says where its command is already.
    fn take(&self, mut rows: Vec<Sealed>, expected: Version) -> Result<Position, AppendError> {
        let Some(first) = rows.first() else { return Err(AppendError::Empty) };
        let (stream, command) = (first.stream.clone(), first.command);
        let mut held = self.held();
        if let Some(position) = held.commands.get(&command) {
            return Ok(*position);
        }
        let at = held.appends.len();
        let position = Position(at as u64 + 1);
        let places = held.streams.entry(stream).or_default();
        let actual = Version(places.len() as u64);
        if actual != expected {
            return Err(AppendError::Conflict { actual });
        }
        places.extend((0..rows.len()).map(|ordinal| (at, ordinal)));
        for row in &mut rows {
            row.position = position.0;
        }
        held.appends.push(rows);
        held.commands.insert(command, position);
        self.head.send_replace(position);
        Ok(position)
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        admit(stream, &events)?;
        let rows = self.codec.seal(stream, expected, by, &events).await?;
        self.take(rows, expected)
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        let rows: Vec<Sealed> = {
            let held = self.held();
            let places = held.streams.get(stream.as_str()).map(Vec::as_slice).unwrap_or_default();
            places.iter().filter_map(|(at, ordinal)| held.appends.get(*at)?.get(*ordinal).cloned()).collect()
        };
        let version = Version(rows.len() as u64);
        Ok((self.codec.open(rows).await?, version))
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.codec.open(self.sealed_after(position, limit).await?).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        Ok(*self.head.borrow())
    }

    async fn wait(&self, position: Position) {
        let mut head = self.head.subscribe();
        _ = timeout(MAX_WAIT, head.wait_for(|head| *head > position)).await;
    }
}

#[async_trait]
impl Engine for MemoryLog {
    fn identity(&self) -> String {
        format!("memory {:x}", self.id)
    }

    async fn sealed_after(&self, position: Position, limit: usize) -> Result<Vec<Sealed>, LogError> {
        let limit = limit.clamp(1, MAX_EVENTS_PER_READ);
        let mut rows = Vec::new();
        for append in self.held().appends.iter().skip(position.0 as usize) {
            if rows.len() >= limit {
                break;
            }
            rows.extend_from_slice(append);
        }
        Ok(rows)
    }

    async fn import(&self, appends: Vec<Vec<Sealed>>) -> Result<Position, AppendError> {
        let mut last = *self.head.borrow();
        for append in appends {
            let expected = whole(&append)?;
            last = self.take(append, expected)?;
        }
        Ok(last)
    }

    fn is_gapless(&self) -> bool {
        true
    }
}
