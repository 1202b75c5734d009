//! What was deleted goes from the files of the database, too.
//!
//! A deleted row stays in the pages of its table until they are rewritten, in the statistics of the planner,
//! and in the write-ahead log. Each table is rewritten (`vacuum full`): readers of it wait as long as that
//! takes, table by table. The log of events is not touched: what it has is sealed.
//!
//! Not everything may be allowed to the role with which Kiroku connects, and archives, replicas and backups
//! are beyond its reach: what was not done is said.

use std::fmt;
use std::time::{Duration, Instant};

use projections::rebuild::{self, RebuildError};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio::time::sleep;

/// How long transactions that began before may go on: what they may see is not removed.
pub const OLDER_WITHIN: Duration = Duration::from_secs(60);
/// How long a rebuild of read models that is under way is waited for.
pub const REBUILD_WITHIN: Duration = Duration::from_secs(60);
/// How long one table is waited for; its readers wait behind.
pub const LOCK_WITHIN: Duration = Duration::from_secs(1);
/// How often that is tried for each table, and the pause before the next try.
pub const LOCK_TRIES: usize = 30;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
const POLL_EVERY: Duration = Duration::from_millis(100);

/// The schemas whose tables hold what people said, now or in a rebuild.
const SCHEMAS: [&str; 4] = ["read", rebuild::NEXT_SCHEMA, rebuild::OLD_SCHEMA, "ops"];
const STATISTICS: &str = "pg_catalog.pg_statistic";

/// What was done to the files of the database.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scrub {
    /// Tables that were rewritten, so that nothing deleted is in their files.
    pub rewritten: Vec<String>,
    /// Everything that was not done, with the reason.
    pub not_done: Vec<String>,
    /// Whether the statistics of the planner were made anew.
    pub statistics: bool,
    /// Whether the write-ahead log from before is gone.
    pub wal: bool,
    pub took_ms: u64,
}

/// Rewrites what holds what people said, on a connection of its own.
pub async fn scrub(pool: &PgPool) -> sqlx::Result<Scrub> {
    let started = Instant::now();
    let mut scrub =
        Scrub { rewritten: Vec::new(), not_done: Vec::new(), statistics: false, wal: false, took_ms: 0 };
    let mut conn = PgConnection::connect_with(&pool.connect_options()).await?;
    if let Some(why) = discard_rebuilds(pool).await? {
        scrub.not_done.push(why);
    }
    if let Some(why) = older_transactions(&mut conn).await? {
        scrub.not_done.push(why);
    }
    let lock_timeout = format!("set lock_timeout = {}", LOCK_WITHIN.as_millis());
    sqlx::query(AssertSqlSafe(lock_timeout)).execute(&mut conn).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname)
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = any($1) and c.relkind = 'r'
          order by 1",
    )
    .bind(SCHEMAS.map(str::to_owned).to_vec())
    .fetch_all(&mut conn)
    .await?;
    for table in tables {
        match rewrite(&mut conn, &table, "full, analyze").await? {
            Done::Yes => scrub.rewritten.push(table),
            Done::Gone => (),
            Done::No(why) => scrub.not_done.push(format!("{table} was not rewritten: {why}")),
        }
    }
    match statistics(&mut conn).await? {
        Done::Yes | Done::Gone => scrub.statistics = true,
        Done::No(why) => scrub.not_done.push(format!("the statistics were not rewritten: {why}")),
    }
    match wal(&mut conn).await? {
        Done::Yes | Done::Gone => scrub.wal = true,
        Done::No(why) => scrub.not_done.push(format!("the write-ahead log was not cleared: {why}")),
    }
    conn.close().await?;
    scrub.took_ms = started.elapsed().as_millis() as u64;
    Ok(scrub)
}

impl Scrub {
    pub fn is_complete(&self) -> bool {
        self.not_done.is_empty()
    }
}

impl fmt::Display for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |done: bool| if done { "yes" } else { "no" };
        writeln!(f, "tables rewritten    {} in {} ms", self.rewritten.len(), self.took_ms)?;
        writeln!(f, "statistics anew     {}", yes(self.statistics))?;
        writeln!(f, "old WAL removed     {}", yes(self.wal))?;
        for what in &self.not_done {
            writeln!(f, "NOT DONE            {what}")?;
        }
        Ok(())
    }
}

enum Done {
    Yes,
    /// There is nothing to be done any more.
    Gone,
    No(String),
}

/// Drops what stopped rebuilds have left: they may have read of the person.
async fn discard_rebuilds(pool: &PgPool) -> sqlx::Result<Option<String>> {
    let deadline = Instant::now() + REBUILD_WITHIN;
    loop {
        match rebuild::discard(pool, projections::projectors()).await {
            Ok(()) => return Ok(None),
            Err(RebuildError::Sql(error)) => return Err(error),
            Err(error) if Instant::now() >= deadline => {
                return Ok(Some(format!("a rebuild that was begun before goes on: {error}")));
            }
            Err(_) => sleep(POLL_EVERY).await,
        }
    }
}

/// Waits for transactions that can still see what was deleted.
async fn older_transactions(conn: &mut PgConnection) -> sqlx::Result<Option<String>> {
    let now: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(&mut *conn).await?;
    let deadline = Instant::now() + OLDER_WITHIN;
    loop {
        let older: i64 = sqlx::query_scalar(
            "select (select count(*) from pg_catalog.pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid()
                        and xact_start < $1::timestamptz)
                  + (select count(*) from pg_catalog.pg_prepared_xacts where database = current_database())
                  + (select count(*) from pg_catalog.pg_replication_slots where xmin is not null)",
        )
        .bind(&now)
        .fetch_one(&mut *conn)
        .await?;
        if older == 0 {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Ok(Some(format!(
                "{older} transactions or replicas from before still see what was deleted"
            )));
        }
        sleep(POLL_EVERY).await;
    }
}

/// Rewrites one table. One that may not be is passed over by the database without an error.
async fn rewrite(conn: &mut PgConnection, table: &str, how: &str) -> sqlx::Result<Done> {
    let before = file_of(conn, table).await?;
    for tried in 1..=LOCK_TRIES {
        match run(conn, &format!("vacuum ({how}) {table}")).await? {
            Done::No(why) if why == IN_USE && tried < LOCK_TRIES => sleep(LOCK_PAUSE).await,
            Done::Yes if file_of(conn, table).await? == before => {
                return Ok(Done::No("the role of the database may not".to_owned()));
            }
            other => return Ok(other),
        }
    }
    Ok(Done::No(IN_USE.to_owned()))
}

async fn file_of(conn: &mut PgConnection, table: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("select pg_catalog.pg_relation_filenode(to_regclass($1))::bigint")
        .bind(table)
        .fetch_one(conn)
        .await
}

/// Empty tables keep the statistics of the time when they were not.
async fn statistics(conn: &mut PgConnection) -> sqlx::Result<Done> {
    let schemas: Vec<String> = SCHEMAS.iter().map(|schema| format!("'{schema}'")).collect();
    let forget = format!(
        "delete from pg_catalog.pg_statistic s
          where s.starelid in (
                select c.oid
                  from pg_catalog.pg_class c
                  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                 where n.nspname in ({}) and c.relkind in ('r', 'i') and c.reltuples <= 0)",
        schemas.join(", ")
    );
    if let Done::No(why) = run(conn, &forget).await? {
        return Ok(Done::No(why));
    }
    // What was replaced or forgotten a moment ago is kept for transactions that began before.
    match older_transactions(conn).await? {
        None => rewrite(conn, STATISTICS, "full").await,
        Some(why) => Ok(Done::No(why)),
    }
}

/// Goes on in a new segment and lets go of the old ones.
async fn wal(conn: &mut PgConnection) -> sqlx::Result<Done> {
    for statement in ["checkpoint", "select pg_catalog.pg_switch_wal()", "checkpoint"] {
        if let Done::No(why) = run(conn, statement).await? {
            return Ok(Done::No(why));
        }
    }
    let kept: Vec<String> = sqlx::query_scalar(
        "select name || ' = ' || setting from pg_catalog.pg_settings
          where (name = 'wal_recycle' and setting = 'on')
             or (name = 'archive_mode' and setting <> 'off')
             or (name = 'wal_keep_size' and setting <> '0')
          order by 1",
    )
    .fetch_all(&mut *conn)
    .await?;
    Ok(if kept.is_empty() {
        Done::Yes
    } else {
        Done::No(format!(
            "old segments are kept until they are written over or thrown away ({})",
            kept.join(", ")
        ))
    })
}

const IN_USE: &str = "it is in use all the time";

/// One statement, and whether it was allowed and possible.
async fn run(conn: &mut PgConnection, statement: &str) -> sqlx::Result<Done> {
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(conn).await {
        Ok(_) => Ok(Done::Yes),
        Err(sqlx::Error::Database(error)) => match error.code().as_deref() {
            // The lock was not given in time, or its taking was in somebody's way.
            Some("55P03" | "40P01") => Ok(Done::No(IN_USE.to_owned())),
            Some("42501") => Ok(Done::No("the role of the database may not".to_owned())),
            Some("42P01") => Ok(Done::Gone),
            _ => Err(sqlx::Error::Database(error)),
        },
        Err(error) => Err(error),
    }
}
