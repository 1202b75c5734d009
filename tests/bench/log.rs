//! Appends through the log in PostgreSQL, against what that PostgreSQL takes of the same rows when nobody asks
//! anything of them: many in a statement, and one by one. In a database of its own beside the server's, so that no
//! projector follows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use commands::log::{Keyring, PostgresLog, Takeover};
use domain::log::{By, Clock, EventLog, Ids, Version};
use domain::note::{Created, Visibility, stream};
use domain::{CommandId, NoteId, UserId};
use futures_util::future::try_join_all;
use gateway::platform::postgres::running_in;
use gateway::system::{SystemClock, TimeOrderedIds};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use crate::Plan;
use crate::figure::{Figure, median};
use crate::load::percentile_ms;
use crate::posts::micros;
use crate::server::Server;

const PART: &str = "log";
/// Who append at the same time, each one event after the other; and clients that insert single rows.
const CALLERS: usize = 64;
/// Of an event, before it is sealed, in bytes.
const PAYLOAD: usize = 300;
/// Rows in a statement, and connections, that are tried.
const BATCHES: [usize; 4] = [64, 256, 1_024, 4_096];
const CONNECTIONS: [usize; 2] = [1, 2];
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
const ASKED_OF_BATCHED: f64 = 0.6;
const ASKED_OF_SINGLE: f64 = 3.0;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

const COLUMNS: &str =
    "position, ordinal, stream, version, event_id, kind, schema, at, subject, actor, command, payload";

/// Tables of a log, and one that is defined alike and has no other use.
struct Bench {
    options: PgConnectOptions,
    pool: PgPool,
    log: PostgresLog,
    ids: TimeOrderedIds,
    authors: Vec<UserId>,
}

/// How raw rows are inserted.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    connections: usize,
}

/// What is measured in each repeat, the raw rows both before and after the log.
struct Round {
    batched: f64,
    log: f64,
    single: f64,
}

pub async fn run(plan: &Plan, directory: &Path) -> Result<Vec<Figure>, String> {
    let server = Server::start(plan, directory).await?;
    let bench = Arc::new(Bench::open(&server.data_dir).await?);
    bench.append(WARM_UP).await?;
    let payload = bench.sealed_bytes().await?;
    let mut shapes = Vec::new();
    for connections in CONNECTIONS {
        for rows in BATCHES {
            let shape = Shape { rows, connections };
            shapes.push((shape, bench.insert(shape, payload, plan.seconds).await?));
        }
    }
    let best = shapes.iter().max_by(|a, b| a.1.total_cmp(&b.1)).ok_or("nothing was tried")?.0;
    let (mut rounds, mut micros) = (Vec::new(), Vec::new());
    for _ in 0..plan.repeats {
        let before = bench.insert(best, payload, plan.seconds).await?;
        let (log, took) = bench.append(plan.seconds).await?;
        let after = bench.insert(best, payload, plan.seconds).await?;
        let single = bench.insert(Shape { rows: 1, connections: CALLERS }, payload, plan.seconds).await?;
        rounds.push(Round { batched: before.max(after), log, single });
        micros.extend(took);
    }
    micros.sort_unstable();
    bench.pool.close().await;
    server.stop().await?;

    let figure = |what: String, value: f64, unit: &'static str| Figure::new(PART, what, value, unit);
    let mut figures = vec![figure("bytes of a sealed payload".to_owned(), payload as f64, "")];
    for (Shape { rows, connections }, rate) in shapes {
        figures.push(figure(
            format!("raw, {rows} rows in a statement, {connections} connections"),
            rate,
            "/s",
        ));
    }
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let Shape { rows, connections } = best;
    figures.extend([
        figure(
            format!("raw, the best of them again: {rows} rows, {connections} connections"),
            middle(|r| r.batched),
            "/s",
        ),
        figure(format!("raw, single rows, {CALLERS} clients"), middle(|r| r.single), "/s"),
        figure(format!("the log, {CALLERS} callers"), middle(|r| r.log), "/s"),
        figure("the log, p50".to_owned(), percentile_ms(&micros, 0.50), "ms"),
        figure("the log, p99".to_owned(), percentile_ms(&micros, 0.99), "ms"),
        figure("the log, times the best batched".to_owned(), middle(|r| r.log / r.batched), "")
            .at_least(ASKED_OF_BATCHED),
        figure("the log, times the single rows".to_owned(), middle(|r| r.log / r.single), "")
            .at_least(ASKED_OF_SINGLE),
    ]);
    Ok(figures)
}

impl Bench {
    async fn open(data_dir: &Path) -> Result<Self, String> {
        let options = running_in(data_dir).ok_or("the server's PostgreSQL is not there")?;
        let mut connection = options.connect().await.map_err(told)?;
        sqlx::query("create database bench").execute(&mut connection).await.map_err(told)?;
        let options = options.database("bench");
        let pool = PgPoolOptions::new().connect_with(options.clone()).await.map_err(told)?;
        MIGRATIONS.run(&pool).await.map_err(told)?;
        for statement in ["create schema raw", "create table raw.events (like log.events including all)"] {
            sqlx::query(statement).execute(&pool).await.map_err(told)?;
        }
        let log = PostgresLog::open(pool.clone(), Arc::new(Keyring::memory()), Takeover::Shared).await;
        let log = log.map_err(told)?;
        let ids = TimeOrderedIds::new();
        let authors = (0..CALLERS).map(|_| UserId(ids.at(SystemClock.now()))).collect();
        Ok(Self { options, pool, log, ids, authors })
    }

    /// Appends of one event, and how long each took.
    async fn append(self: &Arc<Self>, lasts: Duration) -> Result<(f64, Vec<u64>), String> {
        self.checkpoint().await?;
        let start = Instant::now();
        let caller = |author: &UserId| tokio::spawn(self.clone().call(*author, start + lasts));
        let callers = try_join_all(self.authors.iter().map(caller)).await.map_err(told)?;
        let took = callers.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        Ok((took.len() as f64 / start.elapsed().as_secs_f64(), took))
    }

    async fn call(self: Arc<Self>, author: UserId, until: Instant) -> Result<Vec<u64>, String> {
        let mut note = self.note(author)?;
        let mut took = Vec::new();
        while Instant::now() < until {
            let now = SystemClock.now();
            note.id = NoteId(self.ids.at(now));
            let by = By { user: Some(author), now, command: CommandId(self.ids.at(now)) };
            let asked = Instant::now();
            let events = vec![note.clone().into()];
            self.log.append(&stream(note.id), Version::NONE, &by, events).await.map_err(told)?;
            took.push(micros(asked.elapsed()));
        }
        Ok(took)
    }

    /// A note that is so many bytes.
    fn note(&self, author: UserId) -> Result<Created, String> {
        let mut note = Created {
            id: NoteId(self.ids.at(SystemClock.now())),
            author,
            text: Some(String::new()),
            cw: None,
            visibility: Visibility::Public,
            local_only: false,
            reaction_acceptance: None,
            reply: None,
            renote: None,
            thread: None,
            mentions: Vec::new(),
            visible_to: Vec::new(),
            tags: Vec::new(),
            emojis: Vec::new(),
            poll: None,
            files: Vec::new(),
            channel: None,
            uri: None,
        };
        let bare = serde_json::to_vec(&note).map_err(told)?.len();
        note.text = Some("x".repeat(PAYLOAD.saturating_sub(bare)));
        Ok(note)
    }

    /// Of the payloads in the log.
    async fn sealed_bytes(&self) -> Result<usize, String> {
        let bytes: Option<i32> = sqlx::query_scalar("select max(octet_length(payload)) from log.events")
            .fetch_one(&self.pool)
            .await
            .map_err(told)?;
        usize::try_from(bytes.unwrap_or_default()).map_err(told)
    }

    /// Rows a second into an empty table.
    async fn insert(self: &Arc<Self>, shape: Shape, payload: usize, lasts: Duration) -> Result<f64, String> {
        sqlx::query("truncate raw.events").execute(&self.pool).await.map_err(told)?;
        self.checkpoint().await?;
        let mut connections = Vec::with_capacity(shape.connections);
        for _ in 0..shape.connections {
            connections.push(self.options.connect().await.map_err(told)?);
        }
        let (start, next) = (Instant::now(), Arc::new(AtomicI64::new(1)));
        let client = |connection| {
            tokio::spawn(self.clone().fill(connection, shape, payload, next.clone(), start + lasts))
        };
        let clients = try_join_all(connections.into_iter().map(client)).await.map_err(told)?;
        clients.into_iter().collect::<Result<(), _>>()?;
        Ok((next.load(Ordering::Relaxed) - 1) as f64 / start.elapsed().as_secs_f64())
    }

    async fn fill(
        self: Arc<Self>,
        mut connection: PgConnection,
        shape: Shape,
        payload: usize,
        next: Arc<AtomicI64>,
        until: Instant,
    ) -> Result<(), String> {
        let count = i64::try_from(shape.rows).map_err(told)?;
        while Instant::now() < until {
            let first = next.fetch_add(count, Ordering::Relaxed);
            let rows = self.rows(first..first + count, payload);
            let inserted = match shape.rows {
                1 => rows.insert_one(&mut connection).await,
                _ => rows.insert(&mut connection).await,
            };
            inserted.map_err(told)?;
        }
        connection.close().await.map_err(told)
    }

    fn rows(&self, positions: std::ops::Range<i64>, payload: usize) -> Rows {
        let mut rows = Rows::default();
        let now = SystemClock.now();
        for position in positions {
            let (id, command) = (NoteId(self.ids.at(now)), CommandId(self.ids.at(now)));
            let author = self.authors[usize::try_from(position).unwrap_or_default() % self.authors.len()].0;
            rows.positions.push(position);
            rows.ordinals.push(0);
            rows.streams.push(stream(id).as_str().to_owned());
            rows.versions.push(1);
            rows.ids.push(command.event(0).0);
            rows.kinds.push("note.created");
            rows.schemas.push(1);
            rows.at.push(now);
            rows.people.push(author);
            rows.commands.push(command.0);
            rows.payloads.push(vec![b'x'; payload]);
        }
        rows
    }

    async fn checkpoint(&self) -> Result<(), String> {
        sqlx::query("checkpoint").execute(&self.pool).await.map_err(told).map(|_| ())
    }
}

/// Rows of a log, by column.
#[derive(Default)]
struct Rows {
    positions: Vec<i64>,
    ordinals: Vec<i32>,
    streams: Vec<String>,
    versions: Vec<i64>,
    ids: Vec<Uuid>,
    kinds: Vec<&'static str>,
    schemas: Vec<i16>,
    at: Vec<DateTime<Utc>>,
    people: Vec<Uuid>,
    commands: Vec<Uuid>,
    payloads: Vec<Vec<u8>>,
}

impl Rows {
    async fn insert(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let sql = format!(
            "insert into raw.events ({COLUMNS})
             select * from unnest($1::bigint[], $2::integer[], $3::text[], $4::bigint[], $5::uuid[],
                                  $6::text[], $7::smallint[], $8::timestamptz[], $9::uuid[], $10::uuid[],
                                  $11::uuid[], $12::bytea[])"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.positions)
            .bind(self.ordinals)
            .bind(self.streams)
            .bind(self.versions)
            .bind(self.ids)
            .bind(self.kinds)
            .bind(self.schemas)
            .bind(self.at)
            .bind(&self.people)
            .bind(&self.people)
            .bind(self.commands)
            .bind(self.payloads)
            .execute(connection)
            .await
            .map(|_| ())
    }

    /// The first of them.
    async fn insert_one(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let sql = format!(
            "insert into raw.events ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.positions.first())
            .bind(self.ordinals.first())
            .bind(self.streams.first())
            .bind(self.versions.first())
            .bind(self.ids.first())
            .bind(self.kinds.first())
            .bind(self.schemas.first())
            .bind(self.at.first())
            .bind(self.people.first())
            .bind(self.people.first())
            .bind(self.commands.first())
            .bind(self.payloads.first())
            .execute(connection)
            .await
            .map(|_| ())
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
