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

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use domain::log::{AppendError, By, EventLog, LogError, Position, Recorded, StreamId, Version};
use domain::{CommandId, Event};
use eventstore::{
    AppendToStreamOptions, Client, ClientSettings, CurrentRevision, EventData, ExpectedRevision,
    ReadAllOptions, ReadStream, ReadStreamOptions, RecordedEvent, StreamPosition, SubscribeToAllOptions,
    SubscriptionEvent, SubscriptionFilter, WriteResult,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::codec::{Codec, Row};
use super::keys::Keyring;
use super::{MAX_EVENTS_PER_READ, MAX_WAIT, admit};

/// The most appends that wait or are being written.
pub const MAX_QUEUED_APPENDS: usize = 4096;
/// The most appends that are being written at once.
pub const MAX_APPENDS_IN_FLIGHT: usize = 64;
/// How long the server may take over one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to append may take, connecting included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a read may stand still, connecting included.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long another writer's open target is waited for: longer than a write that was sent before
/// its reservation was [`WRITE_TIMEOUT`] old can take.
const RESERVED_FOR: Duration = Duration::from_secs(12);
/// How long something is tried again; a last attempt may begin then.
const TRIED_AGAIN_FOR: Duration = Duration::from_secs(20);
/// The pause after the first failed attempt; doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The most targets that are seen to be replaced by others during one attempt.
const MAX_RIVALS: usize = 16;
/// The largest revision that the server knows.
const MAX_REVISION: u64 = i64::MAX as u64;
/// How many events the server looks at before it tells a subscription how far it is.
const FILTER_WINDOW: u32 = 512;
/// The kind of an event that holds the target of a command.
const RESERVED: &str = "command.reserved";

/// The log in the streams `{namespace}.*` of a server or cluster.
pub struct EventStoreLog {
    server: Arc<Server>,
    codec: Codec,
    names: Names,
    queued: Semaphore,
    in_flight: Semaphore,
    /// The last append that this process knows of.
    head: Arc<watch::Sender<Position>>,
    passed: Mutex<Passed>,
    follower: AbortHandle,
}

/// After `position` there is nothing of ours up to the place `until`.
#[derive(Default, Clone, Copy)]
struct Passed {
    position: u64,
    until: u64,
}

/// One append on its way.
struct Write {
    command: CommandId,
    target: Target,
    rows: Vec<Row>,
}

/// What an append writes to: a stream, at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    stream: String,
    expected: u64,
}

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

/// Why an attempt failed.
enum Fault {
    Server(eventstore::Error),
    NoAnswer,
    /// Another writer of the same command may be about to write.
    UnderWay,
    Log(LogError),
}

impl EventStoreLog {
    /// Connects to `esdb://[user:password@]host[:port][,host…][?tls=false]` and follows the log. The
    /// namespace, of lower-case letters and digits, sets apart what else the server keeps.
    pub async fn open(url: &str, namespace: &str, keyring: Arc<Keyring>) -> Result<Self, LogError> {
        let settings: ClientSettings = url.parse().map_err(|_| {
            LogError::Unavailable("its address is not of the form esdb://host:port".to_owned())
        })?;
        let server = Arc::new(Server::new(settings)?);
        let names = Names::new(namespace);
        let head = Arc::new(watch::Sender::new(stored_head(&server, &names, Position::START).await?));
        let follower = tokio::spawn(follow(server.clone(), names.clone(), head.clone())).abort_handle();
        Ok(Self {
            server,
            codec: Codec::new(keyring),
            names,
            queued: Semaphore::new(MAX_QUEUED_APPENDS),
            in_flight: Semaphore::new(MAX_APPENDS_IN_FLIGHT),
            head,
            passed: Mutex::default(),
            follower,
        })
    }

    /// Writes until it is known what became of it. What has been written answers with its position.
    async fn settle(&self, write: &Write) -> Result<Outcome, LogError> {
        let mut patience = Patience::new();
        let mut rival = None;
        loop {
            let (generation, client) = self.server.client();
            let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt(&client, write, &mut rival)).await;
            match attempt.unwrap_or(Err(Fault::NoAnswer)) {
                Ok(outcome) => return Ok(outcome),
                Err(fault) => self.server.recover(fault, generation, &mut patience).await?,
            }
        }
    }

    async fn attempt(
        &self,
        client: &Client,
        write: &Write,
        rival: &mut Option<(u64, Instant)>,
    ) -> Result<Outcome, Fault> {
        let commands = self.names.command(write.command);
        let mut last = None;
        let mut reserved = None;
        for _ in 0..MAX_RIVALS {
            let began = Instant::now();
            match put(client, &commands, revision(last), vec![reservation(&write.target)]).await {
                Ok(_) => {
                    reserved = Some(began);
                    break;
                }
                Err(eventstore::Error::WrongExpectedVersion { current, .. }) => last = known(current),
                Err(error) => return Err(Fault::Server(error)),
            }
            let Some(at) = last else { continue };
            let target = self.reserved(client, &commands, at).await?;
            match self.fate(client, &target, write.command).await? {
                Fate::Appended(position) => return Ok(Outcome::Appended(position)),
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
        // One that was reserved long ago may have been replaced.
        if reserved.is_none_or(|began| began.elapsed() >= WRITE_TIMEOUT) {
            return Err(Fault::UnderWay);
        }
        if write.target.expected > MAX_REVISION {
            return Ok(Outcome::Conflict(self.version(client, &write.target.stream).await?));
        }
        let stream = self.names.stream(&write.target.stream);
        let events = write.rows.iter().map(|row| sealed(row, write.rows.len())).collect();
        let expected = revision(write.target.expected.checked_sub(1));
        match put(client, &stream, expected, events).await {
            // Only the first write of a command is told apart from the same one again.
            Ok(WriteResult { position, .. })
                if last.is_none() && (1..=MAX_REVISION).contains(&position.commit) =>
            {
                Ok(Outcome::Appended(Position(position.commit)))
            }
            Ok(_) => match self.fate(client, &write.target, write.command).await? {
                Fate::Appended(position) => Ok(Outcome::Appended(position)),
                // Written, and not yet readable.
                Fate::Open | Fate::Missed => Err(Fault::NoAnswer),
            },
            Err(eventstore::Error::WrongExpectedVersion { current, .. }) => {
                match self.fate(client, &write.target, write.command).await? {
                    Fate::Appended(position) => Ok(Outcome::Appended(position)),
                    Fate::Open | Fate::Missed => Ok(Outcome::Conflict(version(known(current)))),
                }
            }
            Err(error) => Err(Fault::Server(error)),
        }
    }

    /// The target at a revision of the stream of a command.
    async fn reserved(&self, client: &Client, commands: &str, at: u64) -> Result<Target, Fault> {
        let event = one(client, commands, StreamPosition::Position(at)).await?.ok_or(Fault::NoAnswer)?;
        let told: Option<Value> = serde_json::from_slice(&event.data).ok();
        told.and_then(|told| {
            Some(Target { stream: told["stream"].as_str()?.to_owned(), expected: told["expected"].as_u64()? })
        })
        .ok_or_else(|| Fault::Log(damaged(&event, "not a target")))
    }

    async fn fate(&self, client: &Client, target: &Target, command: CommandId) -> Result<Fate, Fault> {
        if target.expected > MAX_REVISION {
            return Ok(Fate::Open);
        }
        let stream = self.names.stream(&target.stream);
        let Some(first) = one(client, &stream, StreamPosition::Position(target.expected)).await? else {
            return Ok(Fate::Open);
        };
        if first.id != command.event(0).0 {
            return Ok(Fate::Missed);
        }
        let (_, events) = self.names.row(&first).map_err(Fault::Log)?;
        let last =
            StreamPosition::Position(target.expected.saturating_add(u64::from(events)).saturating_sub(1));
        let last = one(client, &stream, last).await?.ok_or(Fault::NoAnswer)?;
        Ok(Fate::Appended(Position(place(&last).map_err(Fault::Log)?)))
    }

    async fn version(&self, client: &Client, stream: &str) -> Result<Version, Fault> {
        let last = one(client, &self.names.stream(stream), StreamPosition::End).await?;
        Ok(version(last.map(|last| last.revision)))
    }

    async fn read_stream(&self, client: &Client, stream: &StreamId) -> Result<Vec<Row>, Fault> {
        let mut appends = Appends::default();
        let options = ReadStreamOptions::default().requires_leader(true);
        let mut events = opened(client.read_stream(self.names.stream(stream.as_str()), &options)).await?;
        while let Some(event) = next(&mut events).await? {
            appends.push(&self.names, &event).map_err(Fault::Log)?;
        }
        Ok(appends.whole())
    }

    async fn read_after(&self, client: &Client, after: u64, limit: usize) -> Result<Vec<Row>, Fault> {
        let passed = *self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut until = if passed.position == after { passed.until } else { after };
        let options = ReadAllOptions::default().position(from(until)).forwards().requires_leader(true);
        let mut events = opened(client.read_all(&options)).await?;
        let mut appends = Appends::default();
        while appends.complete < limit
            && let Some(event) = next(&mut events).await?
        {
            // A read begins with the event at its position.
            if event.position.commit <= after {
                continue;
            }
            if self.names.is_ours(&event) {
                appends.push(&self.names, &event).map_err(Fault::Log)?;
            } else if appends.rows.is_empty() {
                until = event.position.commit;
            }
        }
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner) = Passed { position: after, until };
        Ok(appends.whole())
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
        match self.settle(&Write { command: by.command, target, rows }).await? {
            Outcome::Appended(position) => {
                advance(&self.head, position);
                Ok(position)
            }
            Outcome::Conflict(actual) => Err(AppendError::Conflict { actual }),
        }
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        let mut patience = Patience::new();
        loop {
            let (generation, client) = self.server.client();
            match self.read_stream(&client, stream).await {
                Ok(rows) => {
                    let version = rows.last().map_or(Version::NONE, |last| Version(last.version));
                    return Ok((self.codec.open(rows).await?, version));
                }
                Err(fault) => self.server.recover(fault, generation, &mut patience).await?,
            }
        }
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let limit = limit.clamp(1, MAX_EVENTS_PER_READ);
        let mut patience = Patience::new();
        loop {
            let (generation, client) = self.server.client();
            match self.read_after(&client, position.0, limit).await {
                Ok(rows) => return self.codec.open(rows).await,
                Err(fault) => self.server.recover(fault, generation, &mut patience).await?,
            }
        }
    }

    async fn head(&self) -> Result<Position, LogError> {
        let known = *self.head.borrow();
        let head = stored_head(&self.server, &self.names, known).await?;
        advance(&self.head, head);
        Ok(head)
    }

    async fn wait(&self, position: Position) {
        let mut head = self.head.subscribe();
        _ = timeout(MAX_WAIT, head.wait_for(|head| *head > position)).await;
    }
}

impl Drop for EventStoreLog {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// A client, and a new one when it has failed: it doesn't always come back by itself.
struct Server {
    settings: ClientSettings,
    client: Mutex<(u64, Client)>,
}

impl Server {
    fn new(settings: ClientSettings) -> Result<Self, LogError> {
        let client =
            Client::new(settings.clone()).map_err(|error| LogError::Unavailable(error.to_string()))?;
        Ok(Self { settings, client: Mutex::new((0, client)) })
    }

    fn client(&self) -> (u64, Client) {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, generation: u64) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.0 != generation {
            return;
        }
        match Client::new(self.settings.clone()) {
            Ok(new) => *client = (generation + 1, new),
            Err(error) => tracing::error!(%error, "no client of the log can be made"),
        }
    }

    /// Gets ready for another attempt; an error when there should be none.
    async fn recover(&self, fault: Fault, generation: u64, patience: &mut Patience) -> Result<(), LogError> {
        if !fault.is_passing() || patience.is_over() {
            return Err(fault.into());
        }
        match &fault {
            Fault::Server(eventstore::Error::NotLeaderException(_)) | Fault::UnderWay => {}
            _ => self.replace(generation),
        }
        tracing::warn!(error = %LogError::from(fault), "the log is tried again");
        patience.pause().await;
        Ok(())
    }
}

struct Patience {
    began: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { began: Instant::now(), pause: FIRST_PAUSE }
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() >= TRIED_AGAIN_FOR
    }

    async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl Fault {
    fn is_passing(&self) -> bool {
        use eventstore::Error;
        match self {
            Fault::NoAnswer | Fault::UnderWay => true,
            Fault::Log(_) => false,
            Fault::Server(error) => match error {
                Error::ServerError(_)
                | Error::NotLeaderException(_)
                | Error::ConnectionClosed
                | Error::GrpcConnectionError(_)
                | Error::DeadlineExceeded => true,
                // Cancelled, resource exhausted, aborted.
                Error::Grpc { code, .. } => matches!(i32::from(*code), 1 | 8 | 10),
                _ => false,
            },
        }
    }
}

impl From<Fault> for LogError {
    fn from(fault: Fault) -> Self {
        LogError::Unavailable(match fault {
            Fault::Log(error) => return error,
            Fault::Server(error) => error.to_string(),
            Fault::NoAnswer => "no answer in time".to_owned(),
            Fault::UnderWay => "the same command is under way elsewhere".to_owned(),
        })
    }
}

impl From<eventstore::Error> for Fault {
    fn from(error: eventstore::Error) -> Self {
        Fault::Server(error)
    }
}

/// The names of our streams on the server.
#[derive(Clone)]
struct Names {
    events: String,
    commands: String,
}

impl Names {
    fn new(namespace: &str) -> Self {
        Self { events: format!("{namespace}."), commands: format!("{namespace}_command-") }
    }

    fn stream(&self, stream: &str) -> String {
        format!("{}{stream}", self.events)
    }

    fn command(&self, command: CommandId) -> String {
        format!("{}{}", self.commands, command.0.simple())
    }

    fn is_ours(&self, event: &RecordedEvent) -> bool {
        event.stream_id.starts_with(&self.events)
    }

    /// A row without its position, and how many events its append has.
    fn row(&self, event: &RecordedEvent) -> Result<(Row, u32), LogError> {
        let stream = event.stream_id.strip_prefix(&self.events);
        let envelope: Option<Value> = serde_json::from_slice(&event.custom_metadata).ok();
        stream
            .zip(envelope)
            .and_then(|(stream, envelope)| {
                let row = Row {
                    position: 0,
                    ordinal: number(&envelope["ordinal"])?,
                    stream: stream.to_owned(),
                    version: event.revision.checked_add(1)?,
                    event_id: event.id,
                    kind: event.event_type.clone(),
                    schema: number(&envelope["schema"])?,
                    at: DateTime::parse_from_rfc3339(envelope["at"].as_str()?).ok()?.with_timezone(&Utc),
                    subject: optional_id(&envelope["subject"])?,
                    actor: optional_id(&envelope["actor"])?,
                    command: envelope["command"].as_str()?.parse().ok()?,
                    payload: event.data.to_vec(),
                };
                Some((row, number(&envelope["events"])?))
            })
            .ok_or_else(|| damaged(event, "its envelope can't be read"))
    }
}

/// Rows as they come, and how many of them are of whole appends.
#[derive(Default)]
struct Appends {
    rows: Vec<Row>,
    complete: usize,
}

impl Appends {
    fn push(&mut self, names: &Names, event: &RecordedEvent) -> Result<(), LogError> {
        let (row, events) = names.row(event)?;
        let open = &self.rows[self.complete..];
        if row.ordinal as usize != open.len() || open.last().is_some_and(|last| last.command != row.command) {
            return Err(damaged(event, "it is not where its append is"));
        }
        let ended = row.ordinal.checked_add(1) == Some(events);
        self.rows.push(row);
        if ended {
            let position = place(event)?;
            self.rows[self.complete..].iter_mut().for_each(|row| row.position = position);
            self.complete = self.rows.len();
        }
        Ok(())
    }

    /// Without an append whose end can't be read yet.
    fn whole(mut self) -> Vec<Row> {
        self.rows.truncate(self.complete);
        self.rows
    }
}

/// Tells of appends as the server does, for as long as the log is open.
async fn follow(server: Arc<Server>, names: Names, head: Arc<watch::Sender<Position>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let (generation, client) = server.client();
        let options = SubscribeToAllOptions::default()
            .position(from(head.borrow().0))
            .filter(SubscriptionFilter::on_stream_name().max(FILTER_WINDOW).add_prefix(&names.events));
        let mut events = client.subscribe_to_all(&options).await;
        let error = loop {
            match events.next_subscription_event().await {
                Ok(SubscriptionEvent::EventAppeared(event)) => {
                    pause = FIRST_PAUSE;
                    if let Some(position) =
                        event.event.as_ref().and_then(|event| end_of_append(&names, event))
                    {
                        advance(&head, position);
                    }
                }
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        tracing::debug!(%error, "the log is subscribed to again");
        server.replace(generation);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The last append; nothing before `known`, which is one, is looked at.
async fn stored_head(server: &Server, names: &Names, known: Position) -> Result<Position, LogError> {
    let mut patience = Patience::new();
    loop {
        let (generation, client) = server.client();
        match read_head(&client, names, known).await {
            Ok(head) => return Ok(head),
            Err(fault) => server.recover(fault, generation, &mut patience).await?,
        }
    }
}

async fn read_head(client: &Client, names: &Names, known: Position) -> Result<Position, Fault> {
    let options = ReadAllOptions::default().position(StreamPosition::End).requires_leader(true);
    let mut events = opened(client.read_all(&options)).await?;
    while let Some(event) = next(&mut events).await? {
        if event.position.commit <= known.0 {
            break;
        }
        if let Some(head) = end_of_append(names, &event) {
            return Ok(head);
        }
    }
    Ok(known)
}

fn end_of_append(names: &Names, event: &RecordedEvent) -> Option<Position> {
    let (row, events) = if names.is_ours(event) { names.row(event).ok()? } else { return None };
    let ended = row.ordinal.checked_add(1) == Some(events);
    ended.then(|| place(event).ok().map(Position)).flatten()
}

fn advance(head: &watch::Sender<Position>, to: Position) {
    head.send_if_modified(|known| {
        let ahead = to > *known;
        *known = to.max(*known);
        ahead
    });
}

async fn put(
    client: &Client,
    stream: &str,
    expected: ExpectedRevision,
    events: Vec<EventData>,
) -> eventstore::Result<WriteResult> {
    let options = AppendToStreamOptions::default()
        .expected_revision(expected)
        .requires_leader(true)
        .deadline(WRITE_TIMEOUT);
    client.append_to_stream(stream, &options, events).await
}

/// The event at one place of a stream, when there is one.
async fn one(client: &Client, stream: &str, at: StreamPosition<u64>) -> Result<Option<RecordedEvent>, Fault> {
    let options = ReadStreamOptions::default().position(at).max_count(1).requires_leader(true);
    next(&mut opened(client.read_stream(stream, &options)).await?).await
}

async fn opened(read: impl Future<Output = eventstore::Result<ReadStream>>) -> Result<ReadStream, Fault> {
    Ok(timeout(READ_TIMEOUT, read).await.map_err(|_| Fault::NoAnswer)??)
}

/// The next event; a stream that isn't there has none.
async fn next(events: &mut ReadStream) -> Result<Option<RecordedEvent>, Fault> {
    loop {
        match timeout(READ_TIMEOUT, events.next()).await.map_err(|_| Fault::NoAnswer)? {
            Ok(Some(read)) if read.event.is_none() => continue,
            Ok(read) => return Ok(read.and_then(|read| read.event)),
            Err(eventstore::Error::ResourceNotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn sealed(row: &Row, events: usize) -> EventData {
    let envelope = json!({
        "command": row.command,
        "ordinal": row.ordinal,
        "events": events,
        "schema": row.schema,
        "at": row.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "subject": row.subject,
        "actor": row.actor,
    });
    EventData::binary(&row.kind, row.payload.clone().into())
        .id(row.event_id)
        .metadata(envelope.to_string().into_bytes().into())
}

/// A target of its own each time, so that it is never taken for an earlier one.
fn reservation(target: &Target) -> EventData {
    let told = json!({ "stream": target.stream, "expected": target.expected });
    EventData::binary(RESERVED, told.to_string().into_bytes().into())
        .id(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
}

/// The place of an event in the server's log. Servers before 22.10 don't tell it in a stream.
fn place(event: &RecordedEvent) -> Result<u64, LogError> {
    match event.position.commit {
        place @ 1..=MAX_REVISION => Ok(place),
        _ => Err(LogError::Unavailable(
            "the server is too old: it doesn't tell positions in streams".to_owned(),
        )),
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

fn known(current: CurrentRevision) -> Option<u64> {
    match current {
        CurrentRevision::Current(revision) => Some(revision),
        CurrentRevision::NoStream => None,
    }
}

fn version(last: Option<u64>) -> Version {
    last.map_or(Version::NONE, |revision| Version(revision.saturating_add(1)))
}

fn number<N: TryFrom<u64>>(value: &Value) -> Option<N> {
    N::try_from(value.as_u64()?).ok()
}

/// None is an error, `Some(None)` is nobody.
fn optional_id(value: &Value) -> Option<Option<Uuid>> {
    match value {
        Value::Null => Some(None),
        Value::String(id) => id.parse().ok().map(Some),
        _ => None,
    }
}

fn damaged(event: &RecordedEvent, reason: &str) -> LogError {
    LogError::Unreadable { kind: event.event_type.clone(), schema: 0, reason: reason.to_owned() }
}
