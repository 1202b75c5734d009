//! The log in EventStoreDB (KurrentDB).
//!
//! One append is one write to one stream at an expected revision: the server keeps it whole or not at
//! all. Every event of a write has a place of its own in the server's log; the position of an append is
//! the place of its last event, and each event carries how many there are. A reader passes whole appends
//! only. Payloads are sealed; the envelope is JSON in the event's metadata.
//!
//! The server forgets which event ids it has seen, and never compares them between streams. So that a
//! command returns its first receipt for ever, every append first writes its target into a stream of the
//! command, `{namespace}_command-{id}`, and only the last target there may be written. That costs a second
//! small write per append, and nothing is read unless the command was seen before. A target that is still
//! open when its writer is gone is waited for ([`RESERVED_FOR`]) before another replaces it; a process that
//! stands still longer than that, between sending its last packet and its arrival, is not noticed.
//!
//! Anything else may live on the same server. The first event of a log, in `{namespace}_log`, says which
//! one it is and that nothing of it is further back.

mod server;
mod stored;
mod tail;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::log::{
    AppendError, By, EventLog, LogError, MAX_EVENTS_PER_APPEND, Position, Recorded, StreamId, Version,
};
use domain::{CommandId, Event};
use eventstore::{ExpectedRevision, ReadAllOptions, ReadStreamOptions, StreamPosition};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use self::server::{Fault, Link, Patience, Put, Server, next, opened};
use self::stored::{Appends, Beginning, MAX_REVISION, Names, Target};
use self::tail::{Tail, stored_head};
use super::codec::Codec;
use super::keys::Keyring;
use super::{Engine, MAX_EVENTS_PER_READ, Sealed, admit, whole};

/// The most appends that wait or are being written.
pub const MAX_QUEUED_APPENDS: usize = 4096;
/// The most appends that are being written at once.
pub const MAX_APPENDS_IN_FLIGHT: usize = 64;
/// How long the server may take over one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to append may take, connecting included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long another writer's open target is waited for: longer than a write that was sent before
/// its reservation was [`WRITE_TIMEOUT`] old can take.
const RESERVED_FOR: Duration = Duration::from_secs(12);
/// How many times more events are asked for when too few were ours.
const ASKED_MORE: usize = 4;
/// The most targets that are seen to be replaced by others during one attempt.
const MAX_RIVALS: usize = 16;

/// The log in the streams `{namespace}.*` of a server or cluster.
pub struct EventStoreLog {
    server: Arc<Server>,
    codec: Codec,
    names: Names,
    beginning: Beginning,
    places: Places,
    queued: Semaphore,
    in_flight: Semaphore,
    tail: Arc<Tail>,
    follower: AbortHandle,
}

/// One append on its way.
struct Write {
    command: CommandId,
    target: Target,
    rows: Vec<Sealed>,
}

/// What another writer of the same command has reserved, and since when it is seen.
type Rival = Option<(u64, Instant)>;

enum Outcome {
    Appended(Position),
    Conflict(Version),
}

/// What became of a target.
enum Fate {
    /// The command was appended there.
    Appended(Position),
    /// The stream went on without it: it never will be.
    Missed,
    /// It may still be.
    Open,
}

impl EventStoreLog {
    /// Connects to `esdb://[user:password@]host[:port][,host…][?tls=false]` and follows the log. The
    /// namespace, of lower-case letters and digits, sets apart what else the server keeps.
    pub async fn open(url: &str, namespace: &str, keyring: Arc<Keyring>) -> Result<Self, LogError> {
        let server = Arc::new(Server::new(url)?);
        let names = Names::new(namespace);
        let beginning = begin(&server, &names).await?;
        let head = head(&server, &names, beginning.place).await?.unwrap_or(Position::START);
        let tail = Arc::new(Tail::new(head));
        let follower = tokio::spawn(tail.clone().follow(server.clone(), names.clone())).abort_handle();
        Ok(Self {
            server,
            codec: Codec::new(keyring),
            names,
            beginning,
            places: Places::default(),
            queued: Semaphore::new(MAX_QUEUED_APPENDS),
            in_flight: Semaphore::new(MAX_APPENDS_IN_FLIGHT),
            tail,
            follower,
        })
    }

    /// Writes until it is known what became of it. What has been written answers with its position.
    async fn settle(&self, write: &Write) -> Result<Outcome, LogError> {
        let mut patience = Patience::new();
        let mut rival = None;
        loop {
            let link = self.server.link();
            let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt(&link, write, &mut rival)).await;
            match attempt.unwrap_or(Err(Fault::NoAnswer)) {
                Ok(outcome) => {
                    if let Outcome::Appended(position) = outcome {
                        self.tail.advance(position);
                    }
                    return Ok(outcome);
                }
                Err(fault) => self.server.recover(fault, &link, &mut patience).await?,
            }
        }
    }

    async fn attempt(&self, link: &Link, write: &Write, rival: &mut Rival) -> Result<Outcome, Fault> {
        let Target { stream, expected } = &write.target;
        let reserved = match self.reserve(link, write, rival).await? {
            Ok(reserved) => reserved,
            Err(position) => return Ok(Outcome::Appended(position)),
        };
        if *expected > MAX_REVISION {
            return Ok(Outcome::Conflict(self.version(link, stream).await?));
        }
        let events = write.rows.iter().map(|row| stored::sealed(row, write.rows.len())).collect();
        let put = link
            .put(&self.names.stream(stream), revision(expected.checked_sub(1)), events, reserved.until)
            .await?;
        // Only the first write of a command is told apart from the same one again.
        let told = match put {
            Put::Written(place) => place.filter(|_| reserved.is_first),
            Put::WrongRevision(_) => None,
        };
        if let Some(place) = told.filter(|_| self.places.are_right(write.rows.len())) {
            return Ok(Outcome::Appended(Position(place)));
        }
        match (self.fate(link, &write.target, write.command).await?, put) {
            (Fate::Appended(position), _) => {
                if let Some(place) = told {
                    self.places.compared(write.rows.len(), place == position.0);
                }
                Ok(Outcome::Appended(position))
            }
            // Written, and not yet readable.
            (Fate::Open | Fate::Missed, Put::Written(_)) => Err(Fault::NoAnswer),
            (Fate::Open | Fate::Missed, Put::WrongRevision(current)) => {
                Ok(Outcome::Conflict(version(current)))
            }
        }
    }

    /// Makes the target of a write the last one of its command; or tells where the command is already.
    async fn reserve(
        &self,
        link: &Link,
        write: &Write,
        rival: &mut Rival,
    ) -> Result<Result<Reserved, Position>, Fault> {
        let commands = self.names.command(write.command);
        let mut last = None;
        for _ in 0..MAX_RIVALS {
            // One that was reserved long ago may have been replaced.
            let until = Instant::now() + WRITE_TIMEOUT;
            let reservation = vec![stored::reservation(&write.target)];
            match link.put(&commands, revision(last), reservation, until).await? {
                Put::Written(_) => return Ok(Ok(Reserved { until, is_first: last.is_none() })),
                Put::WrongRevision(current) => last = current,
            }
            let Some(at) = last else { continue };
            let event = link.one(&commands, StreamPosition::Position(at)).await?.ok_or(Fault::NoAnswer)?;
            let target = stored::reserved(&event)?;
            match self.fate(link, &target, write.command).await? {
                Fate::Appended(position) => return Ok(Err(position)),
                Fate::Open if target != write.target => {
                    let seen =
                        rival.filter(|(seen, _)| *seen == at).map_or_else(Instant::now, |(_, since)| since);
                    *rival = Some((at, seen));
                    if seen.elapsed() < RESERVED_FOR {
                        return Err(Fault::UnderWay);
                    }
                }
                Fate::Open | Fate::Missed => {}
            }
        }
        Err(Fault::UnderWay)
    }

    async fn fate(&self, link: &Link, target: &Target, command: CommandId) -> Result<Fate, Fault> {
        if target.expected > MAX_REVISION {
            return Ok(Fate::Open);
        }
        let stream = self.names.stream(&target.stream);
        let Some(first) = link.one(&stream, StreamPosition::Position(target.expected)).await? else {
            return Ok(Fate::Open);
        };
        let (row, events) = self.names.row(&first)?;
        if row.command != command.0 {
            return Ok(Fate::Missed);
        }
        let last = target.expected.saturating_add(u64::from(events)).saturating_sub(1);
        let last = link.one(&stream, StreamPosition::Position(last)).await?.ok_or(Fault::NoAnswer)?;
        Ok(Fate::Appended(Position(stored::place(&last)?)))
    }

    async fn version(&self, link: &Link, stream: &str) -> Result<Version, Fault> {
        let last = link.one(&self.names.stream(stream), StreamPosition::End).await?;
        Ok(version(last.map(|last| last.revision)))
    }

    async fn read_stream(&self, link: &Link, stream: &StreamId) -> Result<Vec<Sealed>, Fault> {
        let mut appends = Appends::default();
        let options = ReadStreamOptions::default().requires_leader(true);
        let name = self.names.stream(stream.as_str());
        let mut events = opened(link.client.read_stream(name, &options)).await?;
        let mut expected = 0;
        while let Some(event) = next(&mut events).await? {
            if event.revision != expected {
                return Err(stored::damaged(&event, "the stream was cut off before it").into());
            }
            expected += 1;
            appends.push(&self.names, &event)?;
        }
        Ok(appends.whole())
    }

    async fn read_after(&self, link: &Link, after: u64, limit: usize) -> Result<Vec<Sealed>, Fault> {
        let mut at = self.tail.passed(after.max(self.beginning.place));
        let mut appends = Appends::default();
        // Every append of ours has a target beside it; what else there is, nobody knows.
        let mut asked = limit.saturating_mul(3) + MAX_EVENTS_PER_APPEND;
        loop {
            let options = ReadAllOptions::default().position(from(at)).forwards();
            let options = options.max_count(asked).requires_leader(true);
            let mut events = opened(link.client.read_all(&options)).await?;
            let mut told = 0;
            while appends.complete() < limit
                && let Some(event) = next(&mut events).await?
            {
                told += 1;
                // A read begins with the event at its position.
                if event.position.commit > at && self.names.is_ours(&event) {
                    appends.push(&self.names, &event)?;
                }
                at = at.max(event.position.commit);
            }
            if told < asked || appends.complete() >= limit {
                return Ok(appends.whole());
            }
            asked = asked.saturating_mul(ASKED_MORE);
        }
    }
}

#[async_trait]
impl EventLog for EventStoreLog {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        admit(stream, &events)?;
        let _queued = self.queued.try_acquire().map_err(|_| AppendError::Overloaded)?;
        let rows = self.codec.seal(stream, expected, by, &events).await?;
        let _turn = self.in_flight.acquire().await.map_err(|_| AppendError::Overloaded)?;
        let target = Target { stream: stream.as_str().to_owned(), expected: expected.0 };
        self.settle(&Write { command: by.command, target, rows }).await?.position()
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        let mut patience = Patience::new();
        loop {
            let link = self.server.link();
            match self.read_stream(&link, stream).await {
                Ok(rows) => {
                    let version = rows.last().map_or(Version::NONE, |last| Version(last.version));
                    return Ok((self.codec.open(rows).await?, version));
                }
                Err(fault) => self.server.recover(fault, &link, &mut patience).await?,
            }
        }
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.codec.open(self.sealed_after(position, limit).await?).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        let known = self.tail.passed(self.tail.head().0.max(self.beginning.place));
        if let Some(head) = head(&self.server, &self.names, known).await? {
            self.tail.advance(head);
        }
        Ok(self.tail.head())
    }

    async fn wait(&self, position: Position) {
        self.tail.wait(position).await;
    }
}

#[async_trait]
impl Engine for EventStoreLog {
    fn identity(&self) -> String {
        format!("eventstore {}", self.beginning.id)
    }

    async fn sealed_after(&self, position: Position, limit: usize) -> Result<Vec<Sealed>, LogError> {
        let limit = limit.clamp(1, MAX_EVENTS_PER_READ);
        if let Some(rows) = self.tail.after(position.0, limit).await {
            return Ok(rows);
        }
        let mut patience = Patience::new();
        loop {
            let link = self.server.link();
            match self.read_after(&link, position.0, limit).await {
                Ok(rows) => return Ok(rows),
                Err(fault) => self.server.recover(fault, &link, &mut patience).await?,
            }
        }
    }

    async fn import(&self, appends: Vec<Vec<Sealed>>) -> Result<Position, AppendError> {
        let mut last = self.tail.head();
        for rows in appends {
            let expected = whole(&rows)?;
            let Some(first) = rows.first() else { return Err(AppendError::Empty) };
            let target = Target { stream: first.stream.clone(), expected: expected.0 };
            let write = Write { command: CommandId(first.command), target, rows };
            last = self.settle(&write).await?.position()?;
        }
        Ok(last)
    }
}

impl Drop for EventStoreLog {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// A target that may be written.
struct Reserved {
    until: Instant,
    /// No other target was ever reserved for the command.
    is_first: bool,
}

impl Outcome {
    fn position(self) -> Result<Position, AppendError> {
        match self {
            Outcome::Appended(position) => Ok(position),
            Outcome::Conflict(actual) => Err(AppendError::Conflict { actual }),
        }
    }
}

/// Whether the server answers a write with the place of its last event, as it should: looked at once for
/// one event and once for several, and never believed again after a wrong one.
#[derive(Default)]
struct Places {
    one_is_right: AtomicBool,
    many_are_right: AtomicBool,
    one_was_wrong: AtomicBool,
}

impl Places {
    fn of(&self, events: usize) -> &AtomicBool {
        if events == 1 { &self.one_is_right } else { &self.many_are_right }
    }

    fn are_right(&self, events: usize) -> bool {
        self.of(events).load(Ordering::Relaxed) && !self.one_was_wrong.load(Ordering::Relaxed)
    }

    fn compared(&self, events: usize, is_right: bool) {
        self.of(events).store(is_right, Ordering::Relaxed);
        if !is_right && !self.one_was_wrong.swap(true, Ordering::Relaxed) {
            tracing::warn!("the server doesn't tell where it has written; every append is looked up");
        }
    }
}

/// Reads which log this is, or begins it.
async fn begin(server: &Server, names: &Names) -> Result<Beginning, LogError> {
    let mut patience = Patience::new();
    loop {
        let link = server.link();
        let attempt = async {
            if let Some(event) = link.one(&names.beginning, StreamPosition::Start).await? {
                return Ok(Some(stored::began(&event)?));
            }
            let after_others = stored_head(&link, names, 0).await?.is_some();
            let until = Instant::now() + WRITE_TIMEOUT;
            let beginning = vec![stored::beginning(after_others)];
            // Another process may be faster; either way it is read.
            link.put(&names.beginning, ExpectedRevision::NoStream, beginning, until).await?;
            Ok(None)
        };
        match attempt.await {
            Ok(Some(beginning)) => return Ok(beginning),
            Ok(None) => {}
            Err(fault) => server.recover(fault, &link, &mut patience).await?,
        }
    }
}

/// The last append, when there is one after `known`.
async fn head(server: &Server, names: &Names, known: u64) -> Result<Option<Position>, LogError> {
    let mut patience = Patience::new();
    loop {
        let link = server.link();
        match stored_head(&link, names, known).await {
            Ok(head) => return Ok(head),
            Err(fault) => server.recover(fault, &link, &mut patience).await?,
        }
    }
}

fn from(position: u64) -> StreamPosition<eventstore::Position> {
    match position {
        0 => StreamPosition::Start,
        place => StreamPosition::Position(eventstore::Position { commit: place, prepare: place }),
    }
}

fn revision(last: Option<u64>) -> ExpectedRevision {
    last.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact)
}

fn version(last: Option<u64>) -> Version {
    last.map_or(Version::NONE, |revision| Version(revision.saturating_add(1)))
}
