//! The log in PostgreSQL.
//!
//! Positions are given out under a lock that lasts until the commit, so a reader that follows them
//! misses nothing. One appender per process makes that cheap: appends that arrive while a batch is
//! being committed go together into the next, one statement and one commit for all of them, with an
//! outcome for each (`log.append_batch`).

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::{AppendError, By, EventLog, LogError, Position, Recorded, StreamId, Version};
use domain::{CommandId, Event};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::codec::{Codec, Row};
use super::keys::Keyring;
use super::{MAX_EVENTS_PER_READ, MAX_WAIT, admit};

/// The most appends that wait for the appender.
pub const MAX_QUEUED_APPENDS: usize = 4096;
/// The most appends committed together.
pub const MAX_APPENDS_PER_BATCH: usize = 512;
/// The most payload committed together, in bytes; a single larger append goes alone.
pub const MAX_BATCH_BYTES: usize = 4 << 20;
/// How long one attempt to commit a batch may take, connecting included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How the appender's connection differs. Its few plans are made once, while the table may still be
/// small, and kept: only the keys stay right for ever.
const APPENDER_OPTIONS: [(&str, &str); 5] = [
    ("synchronous_commit", "on"),
    ("lock_timeout", "8s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];
/// How long a batch is sent again when the database can't be reached; a last attempt may begin then.
const SENT_AGAIN_FOR: Duration = Duration::from_secs(10);
/// The pause after the first failed attempt; doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Events read from a stream at once.
const STREAM_PAGE: i64 = 1000;

/// What becomes of the writers that were there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// They are fenced: none of them can append any more.
    Sole,
    /// They go on; all append to one log.
    Shared,
}

/// The log in schema `log`.
pub struct PostgresLog {
    pool: PgPool,
    codec: Codec,
    queue: mpsc::Sender<Pending>,
    head: Arc<watch::Sender<Position>>,
}

/// One append on its way to the appender.
struct Pending {
    command: CommandId,
    stream: String,
    expected: Version,
    rows: Vec<Row>,
    reply: oneshot::Sender<Result<Position, AppendError>>,
}

impl PostgresLog {
    /// Registers this process as a writer and starts its appender, which has a connection of its own
    /// and ends, its queue drained, when the log is dropped.
    pub async fn open(pool: PgPool, keyring: Arc<Keyring>, takeover: Takeover) -> Result<Self, LogError> {
        let epoch: i64 = sqlx::query_scalar("select log.open_writer($1)")
            .bind(takeover == Takeover::Sole)
            .fetch_one(&pool)
            .await
            .map_err(unavailable)?;
        let head = Arc::new(watch::Sender::new(stored_head(&pool).await?));
        let (queue, waiting) = mpsc::channel(MAX_QUEUED_APPENDS);
        let options = PgConnectOptions::clone(&pool.connect_options())
            .application_name("kiroku appender")
            .options(APPENDER_OPTIONS);
        let appender = Appender { options, connection: None, epoch, head: head.clone() };
        tokio::spawn(appender.run(waiting));
        Ok(Self { pool, codec: Codec::new(keyring), queue, head })
    }
}

#[async_trait]
impl EventLog for PostgresLog {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        admit(stream, &events)?;
        let rows = self.codec.seal(stream, expected, by, &events).await?;
        let (reply, outcome) = oneshot::channel();
        let stream = stream.as_str().to_owned();
        let pending = Pending { command: by.command, stream, expected, rows, reply };
        self.queue.try_send(pending).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => AppendError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        let mut events: Vec<Recorded> = Vec::new();
        loop {
            let seen = events.last().map_or(Version::NONE, |last| last.version);
            let page: Vec<StoredRow> = sqlx::query_as(
                "select position, ordinal, stream, version, event_id, kind, schema, at, subject, actor,
                        command, payload
                   from log.events
                  where stream = $1 and version > $2
                  order by version limit $3",
            )
            .bind(stream.as_str())
            .bind(seen.0 as i64)
            .bind(STREAM_PAGE)
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
            let last = (page.len() as i64) < STREAM_PAGE;
            events.extend(self.codec.open(page.into_iter().map(Row::from).collect()).await?);
            if last {
                let version = events.last().map_or(Version::NONE, |last| last.version);
                return Ok((events, version));
            }
        }
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let limit = limit.clamp(1, MAX_EVENTS_PER_READ);
        let page: Vec<StoredRow> = sqlx::query_as(
            "select position, ordinal, stream, version, event_id, kind, schema, at, subject, actor,
                    command, payload
               from log.events
              where position > $1
                and position <= (
                    select max(page.position)
                      from (select position from log.events
                             where position > $1 order by position, ordinal limit $2) page)
              order by position, ordinal",
        )
        .bind(position.0 as i64)
        .bind(limit as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(unavailable)?;
        self.codec.open(page.into_iter().map(Row::from).collect()).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        stored_head(&self.pool).await
    }

    async fn wait(&self, position: Position) {
        let mut head = self.head.subscribe();
        _ = timeout(MAX_WAIT, head.wait_for(|head| *head > position)).await;
    }
}

/// The one task of this process that writes to the log.
struct Appender {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    epoch: i64,
    head: Arc<watch::Sender<Position>>,
}

/// What the database answers for one append.
enum Outcome {
    Appended(Position),
    Conflict(Version),
    Fenced,
}

impl Appender {
    async fn run(mut self, mut queue: mpsc::Receiver<Pending>) {
        let mut waiting = Vec::new();
        let mut answered = 0;
        while !waiting.is_empty() || queue.recv_many(&mut waiting, MAX_APPENDS_PER_BATCH).await > 0 {
            gather(&mut queue, &mut waiting, answered).await;
            let batch: Vec<Pending> = waiting.drain(..fitting(&waiting)).collect();
            answered = batch.len();
            match self.commit(&batch).await {
                Ok(outcomes) => self.answer(batch, outcomes),
                Err(error) => {
                    tracing::error!(%error, appends = batch.len(), "the log took nothing");
                    let reason = error.to_string();
                    for pending in batch {
                        _ = pending.reply.send(Err(LogError::Unavailable(reason.clone()).into()));
                    }
                }
            }
        }
    }

    fn answer(&self, batch: Vec<Pending>, outcomes: Vec<Outcome>) {
        let appended = |outcome: &Outcome| match outcome {
            Outcome::Appended(position) => Some(*position),
            _ => None,
        };
        if let Some(head) = outcomes.iter().filter_map(appended).max() {
            self.head.send_if_modified(|known| {
                let ahead = head > *known;
                *known = head.max(*known);
                ahead
            });
        }
        for (pending, outcome) in batch.into_iter().zip(outcomes) {
            // A caller that has gone away doesn't want to know.
            _ = pending.reply.send(match outcome {
                Outcome::Appended(position) => Ok(position),
                Outcome::Conflict(actual) => Err(AppendError::Conflict { actual }),
                Outcome::Fenced => Err(AppendError::Fenced),
            });
        }
    }

    /// Commits a batch. When the answer is lost, whether it was committed is unknown, and it is sent
    /// again: what was appended the first time answers with its first position.
    async fn commit(&mut self, batch: &[Pending]) -> Result<Vec<Outcome>, sqlx::Error> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt(batch)).await;
            match attempt.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
                Err(error) if is_passing(&error) && started.elapsed() < SENT_AGAIN_FOR => {
                    tracing::warn!(%error, "a batch of the log is sent again");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                settled => return settled,
            }
        }
    }

    async fn attempt(&mut self, batch: &[Pending]) -> Result<Vec<Outcome>, sqlx::Error> {
        // Taken out, so that a connection in an unknown state is never used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let outcomes = append_batch(&mut connection, self.epoch, batch).await?;
        self.connection = Some(connection);
        Ok(outcomes)
    }
}

async fn append_batch(
    connection: &mut PgConnection,
    epoch: i64,
    batch: &[Pending],
) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut commands = Distinct::default();
    let mut streams = Distinct::default();
    let of_command: Vec<i32> = batch.iter().map(|p| commands.index(p.command.0)).collect();
    let of_stream: Vec<i32> = batch.iter().map(|p| streams.index(p.stream.as_str())).collect();
    let rows = || batch.iter().flat_map(|p| &p.rows);
    let of_append = batch.iter().zip(1i32..).flat_map(|(p, n)| p.rows.iter().map(move |_| n));
    let (positions, actual): (Vec<i64>, Vec<i64>) = sqlx::query_as(
        "select positions, actual from log.append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                                                        $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(epoch)
    .bind(commands.values)
    .bind(streams.values)
    .bind(of_command)
    .bind(of_stream)
    .bind(batch.iter().map(|p| p.expected.0 as i64).collect::<Vec<_>>())
    .bind(batch.iter().map(|p| p.rows.len() as i32).collect::<Vec<_>>())
    .bind(of_append.collect::<Vec<_>>())
    .bind(rows().map(|row| row.ordinal as i32).collect::<Vec<_>>())
    .bind(rows().map(|row| row.stream.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.version as i64).collect::<Vec<_>>())
    .bind(rows().map(|row| row.event_id).collect::<Vec<_>>())
    .bind(rows().map(|row| row.kind.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.schema as i16).collect::<Vec<_>>())
    .bind(rows().map(|row| row.at).collect::<Vec<_>>())
    .bind(rows().map(|row| row.subject).collect::<Vec<_>>())
    .bind(rows().map(|row| row.actor).collect::<Vec<_>>())
    .bind(rows().map(|row| row.command).collect::<Vec<_>>())
    .bind(rows().map(|row| row.payload.as_slice()).collect::<Vec<_>>())
    .fetch_one(connection)
    .await?;
    Ok(positions.into_iter().zip(actual).map(outcome).collect())
}

fn outcome((position, actual): (i64, i64)) -> Outcome {
    match (position, actual) {
        (1.., _) => Outcome::Appended(Position(position as u64)),
        (_, 0..) => Outcome::Conflict(Version(actual as u64)),
        _ => Outcome::Fenced,
    }
}

/// Callers that were answered together often come back together: while more of them do, the batch
/// waits for the rest, one turn of the scheduler at a time.
async fn gather(queue: &mut mpsc::Receiver<Pending>, waiting: &mut Vec<Pending>, answered: usize) {
    let mut before = 0;
    while before < waiting.len() && waiting.len() < answered {
        before = waiting.len();
        yield_now().await;
        while waiting.len() < MAX_APPENDS_PER_BATCH
            && let Ok(pending) = queue.try_recv()
        {
            waiting.push(pending);
        }
    }
}

/// How many of the waiting appends go into one batch.
fn fitting(waiting: &[Pending]) -> usize {
    let mut bytes = 0;
    let fit = waiting.iter().take_while(|pending| {
        bytes += pending.rows.iter().map(|row| row.payload.len()).sum::<usize>();
        bytes <= MAX_BATCH_BYTES
    });
    fit.count().max(1).min(waiting.len())
}

/// Each value once, and its index from 1.
struct Distinct<T> {
    values: Vec<T>,
    indexes: HashMap<T, i32>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { values: Vec::new(), indexes: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    fn index(&mut self, value: T) -> i32 {
        *self.indexes.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as i32
        })
    }
}

/// The columns of `log.events`, in their order.
type StoredRow =
    (i64, i32, String, i64, Uuid, String, i16, DateTime<Utc>, Option<Uuid>, Option<Uuid>, Uuid, Vec<u8>);

impl From<StoredRow> for Row {
    fn from(row: StoredRow) -> Self {
        let (
            position,
            ordinal,
            stream,
            version,
            event_id,
            kind,
            schema,
            at,
            subject,
            actor,
            command,
            payload,
        ) = row;
        Self {
            position: position as u64,
            ordinal: ordinal as u32,
            stream,
            version: version as u64,
            event_id,
            kind,
            schema: schema as u16,
            at,
            subject,
            actor,
            command,
            payload,
        }
    }
}

async fn stored_head(pool: &PgPool) -> Result<Position, LogError> {
    let head: Option<i64> =
        sqlx::query_scalar("select position from log.events order by position desc limit 1")
            .fetch_optional(pool)
            .await
            .map_err(unavailable)?;
    Ok(Position(head.unwrap_or(0) as u64))
}

/// Whether the same statement may succeed a moment later.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        // Connection, rollback, resources, lock, operator, system: classes of SQLSTATE.
        sqlx::Error::Database(e) => e
            .code()
            .is_some_and(|code| ["08", "40", "53", "55", "57", "58"].iter().any(|c| code.starts_with(c))),
        _ => false,
    }
}

fn unavailable(error: sqlx::Error) -> LogError {
    LogError::Unavailable(error.to_string())
}

fn stopped() -> AppendError {
    LogError::Unavailable("the appender has stopped".to_owned()).into()
}
