//! The log in PostgreSQL.
//!
//! Positions are given out under a lock that lasts until the commit, so a reader that follows them
//! misses nothing. One appender per process makes that cheap: appends that arrive while a batch is
//! being committed go together into the next, one statement and one commit for all of them, with an
//! outcome for each (`log.append_batch`).
//!
//! Several processes may write at once. Each says every few seconds that it is there; one that has been
//! silent for the length of [`WRITER_LEASE`] is fenced: what it still sends is refused, and it joins again
//! as a new writer. A sole writer keeps all others out for as long as it is there.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::Event;
use domain::log::{AppendError, By, EventLog, LogError, Position, Recorded, StreamId, Version};
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::types::PgInterval;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

use super::codec::{Codec, DIGEST_BYTES, Sealed, digest};
use super::keys::Keyring;
use super::{Engine, Link, MAX_EVENTS_PER_READ, MAX_WAIT, admit, whole};

/// The most appends that wait for the appender.
pub const MAX_QUEUED_APPENDS: usize = 4096;
/// The most appends committed together.
pub const MAX_APPENDS_PER_BATCH: usize = 512;
/// The most payload committed together, in bytes; a single larger append goes alone.
pub const MAX_BATCH_BYTES: usize = 4 << 20;
/// How long a writer may be silent before the others fence it.
pub const WRITER_LEASE: Duration = Duration::from_secs(15);
/// How often a writer says that it is there, and how long it may take to say so.
const RENEWED_EVERY: Duration = Duration::from_secs(2);
const RENEWED_WITHIN: Duration = Duration::from_secs(5);
/// How long one attempt to commit a batch may take, connecting included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session may hold the lock of the appends. More than the longest wait for the lock, which
/// counts, and short enough for a batch to be sent again after that.
const LOCK_HELD_AT_MOST: Duration = Duration::from_secs(5);
/// How the appender's connection differs. Its few plans are made once, while the table may still be
/// small, and kept: only the keys stay right for ever. The server ends what a client that has stopped or
/// vanished leaves behind, sooner than an attempt ends here.
const APPENDER_OPTIONS: [(&str, &str); 11] = [
    ("synchronous_commit", "on"),
    ("lock_timeout", "4s"),
    ("statement_timeout", "9s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("tcp_keepalives_idle", "5s"),
    ("tcp_keepalives_interval", "2s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];
/// SQLSTATE of a lock that was not given in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
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
    /// They are fenced: none of them can append any more, and nobody joins until this one leaves.
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
    writer: Arc<Writer>,
    renewal: AbortHandle,
}

/// One append on its way to the appender.
struct Pending {
    append: Append,
    reply: oneshot::Sender<Result<Position, AppendError>>,
}

struct Append {
    command: Uuid,
    stream: String,
    expected: Version,
    digest: [u8; DIGEST_BYTES],
    rows: Vec<Sealed>,
}

impl PostgresLog {
    /// Registers this process as a writer and starts its appender, which has a connection of its own
    /// and ends, its queue drained, when the log is dropped. Refused while a sole writer is there.
    pub async fn open(pool: PgPool, keyring: Arc<Keyring>, takeover: Takeover) -> Result<Self, LogError> {
        let writer = Arc::new(Writer::join(pool.clone(), takeover).await?);
        let head = Arc::new(watch::Sender::new(stored_head(&pool).await?));
        let (queue, waiting) = mpsc::channel(MAX_QUEUED_APPENDS);
        let options = PgConnectOptions::clone(&pool.connect_options())
            .application_name("kiroku appender")
            .options(APPENDER_OPTIONS);
        let appender = Appender { options, connection: None, writer: writer.clone(), head: head.clone() };
        tokio::spawn(appender.run(waiting));
        let renewal = tokio::spawn(writer.clone().keep_renewed()).abort_handle();
        Ok(Self { pool, codec: Codec::new(keyring), queue, head, writer, renewal })
    }
}

impl Drop for PostgresLog {
    fn drop(&mut self) {
        self.renewal.abort();
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
        let pending = Pending { append: Append::new(expected, rows)?, reply };
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
            events.extend(self.codec.open(page.into_iter().map(Sealed::from).collect()).await?);
            if last {
                let version = events.last().map_or(Version::NONE, |last| last.version);
                return Ok((events, version));
            }
        }
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.codec.open(self.sealed_after(position, limit).await?).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        stored_head(&self.pool).await
    }

    async fn wait(&self, position: Position) {
        let mut head = self.head.subscribe();
        _ = timeout(MAX_WAIT, head.wait_for(|head| *head > position)).await;
    }
}

#[async_trait]
impl Engine for PostgresLog {
    /// There is one in a database, for as long as that lasts.
    fn identity(&self) -> String {
        "postgres".to_owned()
    }

    async fn sealed_after(&self, position: Position, limit: usize) -> Result<Vec<Sealed>, LogError> {
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
        Ok(page.into_iter().map(Sealed::from).collect())
    }

    /// Only for the sole writer.
    async fn import(&self, appends: Vec<Vec<Sealed>>) -> Result<Position, AppendError> {
        if self.writer.takeover != Takeover::Sole {
            let reason = "only the sole writer of a log takes what another log has";
            return Err(LogError::Unavailable(reason.to_owned()).into());
        }
        let mut appends = appends
            .into_iter()
            .map(|rows| Append::new(whole(&rows)?, rows))
            .collect::<Result<Vec<_>, AppendError>>()?;
        let mut last = None;
        while !appends.is_empty() {
            let batch: Vec<Append> = appends.drain(..fitting(&appends)).collect();
            last = Some(self.import_batch(&batch).await?);
        }
        match last {
            Some(last) => Ok(last),
            None => Ok(self.head().await?),
        }
    }

    fn is_gapless(&self) -> bool {
        true
    }

    async fn chain_after(
        &self,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Option<Vec<Link>>, LogError> {
        let links: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select position, hash from log.chain where position > $1 order by position limit $2",
        )
        .bind(after.map_or(-1, |after| after.0 as i64))
        .bind(limit.clamp(1, MAX_EVENTS_PER_READ) as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(unavailable)?;
        let link = |(position, hash)| Link { position: Position(position as u64), hash };
        Ok(Some(links.into_iter().map(link).collect()))
    }

    /// Leaves the writers at once; of a log that is only dropped, the others may have to wait for the lease.
    async fn close(&self) -> Result<(), LogError> {
        self.renewal.abort();
        self.writer.leave().await.map_err(unavailable)
    }
}

impl PostgresLog {
    /// All of them or none.
    async fn import_batch(&self, batch: &[Append]) -> Result<Position, AppendError> {
        let mut tx = self.pool.begin().await.map_err(unavailable)?;
        let (names, values): (Vec<_>, Vec<_>) = APPENDER_OPTIONS.into_iter().unzip();
        sqlx::query(
            "select set_config(o.name, o.value, true) from unnest($1::text[], $2::text[]) as o(name, value)",
        )
        .bind(names)
        .bind(values)
        .execute(&mut *tx)
        .await
        .map_err(unavailable)?;
        let outcomes = append_batch(&mut tx, self.writer.epoch(), batch).await.map_err(unavailable)?;
        let positions = outcomes.into_iter().map(Outcome::told).collect::<Result<Vec<_>, _>>()?;
        tx.commit().await.map_err(unavailable)?;
        let last = positions.last().copied().ok_or(AppendError::Empty)?;
        tell(&self.head, last);
        Ok(last)
    }
}

impl Append {
    fn new(expected: Version, rows: Vec<Sealed>) -> Result<Self, AppendError> {
        let first = rows.first().ok_or(AppendError::Empty)?;
        let (command, stream, digest) = (first.command, first.stream.clone(), digest(&rows));
        Ok(Self { command, stream, expected, digest, rows })
    }

    /// Of its payloads.
    fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.payload.len()).sum()
    }
}

impl AsRef<Append> for Append {
    fn as_ref(&self) -> &Append {
        self
    }
}

impl AsRef<Append> for Pending {
    fn as_ref(&self) -> &Append {
        &self.append
    }
}

/// This process among the writers.
struct Writer {
    pool: PgPool,
    takeover: Takeover,
    /// Under which it is registered; [`GONE`] when it has left.
    epoch: AtomicI64,
}

/// No writer's epoch.
const GONE: i64 = 0;

impl Writer {
    async fn join(pool: PgPool, takeover: Takeover) -> Result<Self, LogError> {
        let epoch = AtomicI64::new(open_writer(&pool, takeover).await?);
        Ok(Self { pool, takeover, epoch })
    }

    fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// After it was fenced. A sole writer stays out: what it was alone for isn't so any more.
    async fn join_again(&self) {
        let fenced = self.epoch();
        if fenced == GONE || self.takeover == Takeover::Sole {
            return;
        }
        let joined = timeout(ATTEMPT_TIMEOUT, open_writer(&self.pool, self.takeover)).await;
        match joined.unwrap_or_else(|_| Err(LogError::Unavailable("it took too long".to_owned()))) {
            Ok(epoch) => {
                let told = self.epoch.compare_exchange(fenced, epoch, Ordering::AcqRel, Ordering::Acquire);
                if told.is_ok() {
                    tracing::warn!(fenced, epoch, "fenced; joined the writers of the log again");
                } else {
                    // It has left meanwhile; the lease ends what can't be taken back here.
                    _ = remove_writer(&self.pool, epoch).await;
                }
            }
            Err(error) => tracing::warn!(%error, fenced, "fenced; the writers of the log can't be joined"),
        }
    }

    /// Says again and again that this writer is there. One that was fenced says nothing until it joins.
    async fn keep_renewed(self: Arc<Self>) {
        let mut due = interval(RENEWED_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let renewed = sqlx::query("select log.renew_writer($1, $2)")
                .bind(self.epoch())
                .bind(postgres_interval(WRITER_LEASE))
                .execute(&self.pool);
            match timeout(RENEWED_WITHIN, renewed).await {
                Ok(Ok(_)) => (),
                Ok(Err(sqlx::Error::PoolClosed)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the lease of this writer was not renewed"),
                Err(_) => tracing::warn!("the lease of this writer was not renewed in time"),
            }
        }
    }

    async fn leave(&self) -> Result<(), sqlx::Error> {
        remove_writer(&self.pool, self.epoch.swap(GONE, Ordering::AcqRel)).await
    }
}

async fn open_writer(pool: &PgPool, takeover: Takeover) -> Result<i64, LogError> {
    let epoch: Option<i64> = sqlx::query_scalar("select log.open_writer($1, $2)")
        .bind(takeover == Takeover::Sole)
        .bind(postgres_interval(WRITER_LEASE))
        .fetch_one(pool)
        .await
        .map_err(unavailable)?;
    epoch.ok_or_else(|| {
        let lease = WRITER_LEASE.as_secs();
        LogError::Unavailable(format!(
            "another process has it for itself, such as a restore or a copy; \
             if that has died, its lease runs out after {lease} s"
        ))
    })
}

async fn remove_writer(pool: &PgPool, epoch: i64) -> Result<(), sqlx::Error> {
    sqlx::query("delete from log.writers where epoch = $1").bind(epoch).execute(pool).await.map(|_| ())
}

/// The one task of this process that writes to the log.
struct Appender {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    writer: Arc<Writer>,
    head: Arc<watch::Sender<Position>>,
}

/// What the database answers for one append.
enum Outcome {
    Appended(Position),
    Conflict(Version),
    Fenced,
}

impl Outcome {
    fn told(self) -> Result<Position, AppendError> {
        match self {
            Outcome::Appended(position) => Ok(position),
            Outcome::Conflict(actual) => Err(AppendError::Conflict { actual }),
            Outcome::Fenced => Err(AppendError::Fenced),
        }
    }
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
                Ok(outcomes) => {
                    let is_fenced = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Fenced));
                    self.answer(batch, outcomes);
                    if is_fenced {
                        self.writer.join_again().await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, appends = batch.len(), "the log took nothing");
                    let reason = error.to_string();
                    for pending in batch {
                        _ = pending.reply.send(Err(LogError::Unavailable(reason.clone()).into()));
                    }
                }
            }
        }
        if let Err(error) = self.writer.leave().await {
            tracing::debug!(%error, "left to the lease");
        }
    }

    fn answer(&self, batch: Vec<Pending>, outcomes: Vec<Outcome>) {
        let appended = |outcome: &Outcome| match outcome {
            Outcome::Appended(position) => Some(*position),
            _ => None,
        };
        if let Some(head) = outcomes.iter().filter_map(appended).max() {
            tell(&self.head, head);
        }
        for (pending, outcome) in batch.into_iter().zip(outcomes) {
            // A caller that has gone away doesn't want to know.
            _ = pending.reply.send(outcome.told());
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
                    if is_code(&error, LOCK_NOT_AVAILABLE) {
                        self.break_lock().await;
                    }
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
        let outcomes = append_batch(&mut connection, self.writer.epoch(), batch).await?;
        self.connection = Some(connection);
        Ok(outcomes)
    }

    /// Ends a session that holds the lock of the appends and does nothing.
    async fn break_lock(&self) {
        let broken = sqlx::query_scalar::<_, i64>("select log.break_lock($1)")
            .bind(postgres_interval(LOCK_HELD_AT_MOST))
            .fetch_one(&self.writer.pool);
        match timeout(ATTEMPT_TIMEOUT, broken).await {
            Ok(Ok(0)) => (),
            Ok(Ok(sessions)) => tracing::warn!(sessions, "ended a session that held the log and did nothing"),
            Ok(Err(error)) => tracing::warn!(%error, "who holds the log can't be found out"),
            Err(_) => tracing::warn!("who holds the log can't be found out in time"),
        }
    }
}

async fn append_batch<A: AsRef<Append>>(
    connection: &mut PgConnection,
    epoch: i64,
    batch: &[A],
) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut commands = Distinct::default();
    let mut streams = Distinct::default();
    let appends = || batch.iter().map(AsRef::as_ref);
    let of_command: Vec<i32> = appends().map(|a| commands.index(a.command)).collect();
    let of_stream: Vec<i32> = appends().map(|a| streams.index(a.stream.as_str())).collect();
    let rows = || appends().flat_map(|a| &a.rows);
    let of_append = appends().zip(1i32..).flat_map(|(a, n)| a.rows.iter().map(move |_| n));
    let (positions, actual): (Vec<i64>, Vec<i64>) = sqlx::query_as(
        "select positions, actual from log.append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                                                        $13, $14, $15, $16, $17, $18, $19, $20)",
    )
    .bind(epoch)
    .bind(commands.values)
    .bind(streams.values)
    .bind(of_command)
    .bind(of_stream)
    .bind(appends().map(|a| a.expected.0 as i64).collect::<Vec<_>>())
    .bind(appends().map(|a| a.rows.len() as i32).collect::<Vec<_>>())
    .bind(appends().map(|a| a.digest.as_slice()).collect::<Vec<_>>())
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

/// Wakes those who wait, when this is news.
fn tell(head: &watch::Sender<Position>, appended: Position) {
    head.send_if_modified(|known| {
        let ahead = appended > *known;
        *known = appended.max(*known);
        ahead
    });
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
fn fitting<A: AsRef<Append>>(waiting: &[A]) -> usize {
    let mut bytes = 0;
    let fit = waiting.iter().take(MAX_APPENDS_PER_BATCH).take_while(|append| {
        bytes += append.as_ref().bytes();
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

impl From<StoredRow> for Sealed {
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

fn is_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|c| c == code)
}

fn postgres_interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: duration.as_micros() as i64 }
}

fn unavailable(error: sqlx::Error) -> LogError {
    LogError::Unavailable(error.to_string())
}

fn stopped() -> AppendError {
    LogError::Unavailable("the appender has stopped".to_owned()).into()
}
