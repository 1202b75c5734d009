//! Builds read tables again beside the live ones, compares the two, and switches.
//!
//! - [`rebuild`] makes the tables of projectors anew in the schema `read_next`, from the definitions of
//!   the live ones, feeds them the log, compares, and puts them in the place of the live ones in one
//!   transaction. [`verify`] is the same without the switch. Readers, writers and live projectors go on.
//! - The log is read once for all projectors. Each writes on a connection of its own, with its place
//!   (`ops.rebuilds`) in the same transaction, so that what was stopped, however, goes on from there.
//! - What is rebuilt never passes the committed checkpoint of the live projector. For a moment those
//!   checkpoints are locked, which makes the live projectors wait; in it both sides get to the same
//!   position, and are looked at in one snapshot, or switched.
//! - Tables that an older version has filled are replaced without a comparison.
//! - Grants, and views that operators have made of the tables, go along at the switch; a run that would
//!   leave something else behind, such as a materialized view, is refused before it begins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::log::{EventLog, LogError, Position, Recorded};
use futures_util::future::try_join_all;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backoff::LONGEST_PAUSE;
use crate::runtime::{ProjectError, Projector, to_position, version};
use lane::Lane;

mod compare;
mod dependents;
mod lane;
mod tables;

pub use compare::{Difference, How, MAX_DIFFERENCES_SHOWN, Sum, TableReport};
pub use dependents::MAX_VIEWS;

/// The schema in which tables are built.
pub const NEXT_SCHEMA: &str = "read_next";
/// The schema in which replaced tables wait to be dropped.
pub const OLD_SCHEMA: &str = "read_old";
/// Events read from the log and given to each projector at once.
pub const BATCH_EVENTS: usize = 10_000;
/// So few events behind the live tables, the checkpoints may be locked for the rest.
pub const NEAR_EVENTS: u64 = 500;
/// How often the live tables are run after before they are made to wait in any case.
pub const MAX_ROUNDS: usize = 100;
/// How long the sessions of a run that has just ended may take to end.
pub const BUSY_FOR: Duration = Duration::from_secs(1);
/// How often that is looked at.
const BUSY_POLL: Duration = Duration::from_millis(50);
/// How long the live projectors may take to get, again, to where they were: a database that has crashed
/// may have lost what was written last.
pub const LIVE_WITHIN: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LIVE_POLL: Duration = Duration::from_millis(100);
/// How long to wait for a live projector to end the batch at hand.
pub const CHECKPOINTS_WITHIN: Duration = Duration::from_secs(30);
/// How long this process may be silent while live projectors wait for it, and while readers do: one that is
/// stopped in the middle lets go of its locks, and what it was at is given up.
pub const SILENT_BEFORE_PROJECTORS: Duration = Duration::from_secs(10);
pub const SILENT_BEFORE_READERS: Duration = Duration::from_secs(2);
/// How long to wait for those who maintain tables, such as autovacuum, which gives way after a second.
pub const MAINTENANCE_WITHIN: Duration = Duration::from_secs(10);
/// How long readers may be made to wait for the first try to switch. Each next try may wait a little longer,
/// since where queries are slow a short wait never meets a moment between them.
pub const READERS_WAIT: Duration = Duration::from_millis(200);
pub const MORE_READERS_WAIT: Duration = Duration::from_millis(20);
/// How long readers may be made to wait at most. Below `deadlock_timeout`, so that a reader in whose way it
/// is, and that is in its way, is not the one who fails.
pub const LONGEST_READERS_WAIT: Duration = Duration::from_millis(800);
/// How often the switch is tried.
pub const SWITCH_TRIES: usize = 60;
/// The pause after the first try; each next one is twice as long, up to a second.
pub const FIRST_SWITCH_PAUSE: Duration = Duration::from_millis(50);

/// How a run is followed, and stopped.
pub struct Handle {
    pub progress: watch::Sender<Progress>,
    /// Set to true, the run ends after the batch at hand, and the next one goes on from there.
    pub stop: watch::Receiver<bool>,
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub step: Step,
    /// What every projector has passed.
    pub position: Position,
    /// Where they have to get to; it moves while the log grows.
    pub target: Position,
    /// Events read by this run, and how many per second.
    pub events: u64,
    pub events_per_second: f64,
}

impl Default for Progress {
    fn default() -> Self {
        let (position, target) = (Position::START, Position::START);
        Self { step: Step::Reading, position, target, events: 0, events_per_second: 0.0 }
    }
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Reading,
    Comparing,
    Switching,
}

/// What a run has found and done.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether the rebuilt tables are the live ones now.
    pub switched: bool,
    pub projectors: Vec<ProjectorReport>,
    /// Events read by this run.
    pub events: u64,
    pub seconds: f64,
}

impl Report {
    /// Whether every table that could be compared was as the log says.
    pub fn is_clean(&self) -> bool {
        self.projectors.iter().all(ProjectorReport::is_same)
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ProjectorReport {
    pub name: &'static str,
    pub version: u32,
    /// The position in the log at which the tables were compared.
    pub position: u64,
    /// False when an older version had filled the live tables, or nobody.
    pub compared: bool,
    pub tables: Vec<TableReport>,
}

impl ProjectorReport {
    fn is_same(&self) -> bool {
        self.tables.iter().all(TableReport::is_same)
    }
}

/// Why a run has not come to its end. Nothing live has changed.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("the tables of {projector} are being rebuilt by somebody else")]
    Busy { projector: &'static str },
    #[error("stopped at position {position}; the next run goes on from there")]
    Stopped { position: Position },
    #[error("{projector} is version {mine} here, its tables are version {stored}")]
    Newer { projector: &'static str, mine: u32, stored: i32 },
    #[error("the live tables of {projector} are at position {live}, before the rebuilt ones at {rebuilt}")]
    Behind { projector: &'static str, live: Position, rebuilt: Position },
    #[error("the log shows nothing after position {after}, but the read tables are at {wanted}")]
    ShortLog { after: Position, wanted: Position },
    #[error("the tables are in use all the time: {SWITCH_TRIES} tries to switch them have failed")]
    Contended,
    #[error("the table {table} is missing, or has no primary key")]
    NoTable { table: &'static str },
    #[error(
        "in the way: {objects}. Drop it, or let it look at a view of yours instead of the table: views go along"
    )]
    InTheWay { objects: String },
    #[error("the view {view} can't be defined again: {source}")]
    View { view: String, source: sqlx::Error },
    #[error("the place of {projector} was moved by somebody else")]
    Moved { projector: &'static str },
    #[error("{projector} can't apply the events after position {after} up to {to}: {source}")]
    Apply { projector: &'static str, after: Position, to: Position, source: ProjectError },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Builds the tables of these projectors again and puts them in the place of the live ones, whether they
/// differ or not; the report says what differed.
pub async fn rebuild(
    pool: &PgPool,
    log: Arc<dyn EventLog>,
    projectors: Vec<Arc<dyn Projector>>,
    handle: &Handle,
) -> Result<Report, RebuildError> {
    run(&pool.connect_options(), log, projectors, handle, Then::Switch).await
}

/// Builds the tables of these projectors again, compares them with the live ones, and drops them.
pub async fn verify(
    pool: &PgPool,
    log: Arc<dyn EventLog>,
    projectors: Vec<Arc<dyn Projector>>,
    handle: &Handle,
) -> Result<Report, RebuildError> {
    run(&pool.connect_options(), log, projectors, handle, Then::Drop).await
}

/// Drops what runs that were stopped have left of these projectors.
pub async fn discard(pool: &PgPool, projectors: Vec<Arc<dyn Projector>>) -> Result<(), RebuildError> {
    for projector in projectors {
        Lane::discard(&pool.connect_options(), projector.as_ref()).await?;
    }
    Ok(())
}

/// Replaces the tables of a projector that an older version has filled. False when it was asked to stop.
pub(crate) async fn replace(
    options: &PgConnectOptions,
    log: Arc<dyn EventLog>,
    projector: Arc<dyn Projector>,
    stop: &watch::Receiver<bool>,
) -> Result<bool, RebuildError> {
    let handle = Handle { progress: watch::Sender::new(Progress::default()), stop: stop.clone() };
    match run(options, log, vec![projector], &handle, Then::Switch).await {
        Ok(_) => Ok(true),
        Err(RebuildError::Stopped { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Switch,
    Drop,
}

async fn run(
    options: &PgConnectOptions,
    log: Arc<dyn EventLog>,
    projectors: Vec<Arc<dyn Projector>>,
    handle: &Handle,
    then: Then,
) -> Result<Report, RebuildError> {
    let started = Instant::now();
    let mut control = PgConnection::connect_with(options).await?;
    if then == Then::Switch {
        let tables: Vec<&str> = projectors.iter().flat_map(|projector| projector.tables()).copied().collect();
        let mut tx = control.begin().await?;
        dependents::views(&mut tx, &tables).await?;
        tx.rollback().await?;
    }
    let mut lanes = Vec::with_capacity(projectors.len());
    for projector in projectors {
        lanes.push(Lane::open(options, projector).await?);
    }
    let mut run = Run { log, lanes, handle, started, events: 0 };
    run.catch_up(&mut control).await?;
    try_join_all(run.lanes.iter_mut().map(Lane::vacuum)).await?;
    let mut compared = run.compare(options, &mut control).await?;
    if !compared.iter().all(ProjectorReport::is_same) {
        // Of somebody who was erased just now the live tables may still have had what nobody can read any
        // more. What somebody has changed differs the second time, too.
        compared = run.compare(options, &mut control).await?;
    }
    if then == Then::Switch {
        run.switch(&mut control).await?;
    }
    for lane in &mut run.lanes {
        // The work is done: what can't be dropped now is dropped by the next run.
        if let Err(error) = lane.clear().await {
            tracing::warn!(projector = lane.projector.name(), %error, "old tables are left");
        }
    }
    Ok(Report {
        switched: then == Then::Switch,
        projectors: compared,
        events: run.events,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// A batch that is on its way.
type Reading = JoinHandle<Result<Vec<Recorded>, LogError>>;

struct Run<'h> {
    log: Arc<dyn EventLog>,
    lanes: Vec<Lane>,
    handle: &'h Handle,
    started: Instant,
    events: u64,
}

impl Run<'_> {
    /// Gets near to the live tables.
    async fn catch_up(&mut self, control: &mut PgConnection) -> Result<(), RebuildError> {
        let head = self.log.head().await?;
        for _ in 0..MAX_ROUNDS {
            let before = self.events;
            self.aim(control, head).await?;
            self.feed().await?;
            if self.events - before <= NEAR_EVENTS {
                break;
            }
        }
        Ok(())
    }

    /// Sets where each lane has to get to: where the live tables are, or `head` when they are of an
    /// older version.
    async fn aim(&mut self, control: &mut PgConnection, head: Position) -> Result<(), RebuildError> {
        let deadline = Instant::now() + LIVE_WITHIN;
        loop {
            match self.aim_once(control, head, "").await {
                Err(RebuildError::Behind { .. })
                    if Instant::now() < deadline && !*self.handle.stop.borrow() =>
                {
                    tokio::time::sleep(LIVE_POLL).await;
                }
                other => return other,
            }
        }
    }

    async fn aim_once(
        &mut self,
        control: &mut PgConnection,
        head: Position,
        lock: &str,
    ) -> Result<(), RebuildError> {
        let names: Vec<&str> = self.lanes.iter().map(|lane| lane.projector.name()).collect();
        let sql = format!(
            "select projector, version, position from ops.checkpoints
              where projector = any($1) order by projector {lock}"
        );
        let stored: Vec<(String, i32, i64)> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(names).fetch_all(control).await?;
        let stored: HashMap<String, (i32, Position)> =
            stored.into_iter().map(|(name, version, at)| (name, (version, to_position(at)))).collect();
        for lane in &mut self.lanes {
            let projector = lane.projector.name();
            let mine = version(lane.projector.as_ref());
            match stored.get(projector) {
                Some((stored, _)) if *stored > mine => {
                    let mine = lane.projector.version();
                    return Err(RebuildError::Newer { projector, mine, stored: *stored });
                }
                Some((stored, live)) if *stored == mine => {
                    let (live, rebuilt) = (*live, lane.position);
                    if live < rebuilt {
                        return Err(RebuildError::Behind { projector, live, rebuilt });
                    }
                    (lane.target, lane.comparable) = (live, true);
                }
                _ => (lane.target, lane.comparable) = (head.max(lane.position), false),
            }
        }
        Ok(())
    }

    /// Applies the log up to the target of each lane. The next batch is read while one is applied.
    async fn feed(&mut self) -> Result<(), RebuildError> {
        self.tell(Step::Reading);
        let mut ahead: Option<(Position, Reading)> = None;
        while let Some(from) = self.next_from(Position::START) {
            self.go_on()?;
            let read = match ahead.take() {
                Some((at, reading)) if at == from => match reading.await {
                    Ok(read) => read?,
                    Err(_) => self.log.after(from, BATCH_EVENTS).await?,
                },
                _ => self.log.after(from, BATCH_EVENTS).await?,
            };
            let batch: Vec<Arc<Recorded>> = read.into_iter().map(Arc::new).collect();
            let Some(last) = batch.last().map(|event| event.position) else {
                let wanted = self.lanes.iter().map(|lane| lane.target).max().unwrap_or(from);
                return Err(RebuildError::ShortLog { after: from, wanted });
            };
            ahead = self.next_from(last).map(|at| {
                let log = Arc::clone(&self.log);
                (at, tokio::spawn(async move { log.after(at, BATCH_EVENTS).await }))
            });
            try_join_all(self.lanes.iter_mut().map(|lane| lane.apply(&batch, last))).await?;
            self.events += batch.len() as u64;
            self.tell(Step::Reading);
        }
        Ok(())
    }

    /// The first position after which a lane wants events, once each has those up to `last`.
    fn next_from(&self, last: Position) -> Option<Position> {
        let reached = |lane: &Lane| lane.position.max(last.min(lane.target));
        self.lanes.iter().filter(|lane| reached(lane) < lane.target).map(reached).min()
    }

    /// Locks the live checkpoints until the transaction ends, and gets each lane to exactly where they
    /// are. [`Self::catch_up`] comes before it, so that they are not locked for long.
    async fn meet(&mut self, tx: &mut PgConnection) -> Result<(), RebuildError> {
        wait_at_most(tx, CHECKPOINTS_WITHIN).await?;
        silent_at_most(tx, SILENT_BEFORE_PROJECTORS).await?;
        self.aim_once(tx, Position::START, "for update").await?;
        self.feed().await
    }

    async fn compare(
        &mut self,
        options: &PgConnectOptions,
        control: &mut PgConnection,
    ) -> Result<Vec<ProjectorReport>, RebuildError> {
        self.catch_up(control).await?;
        let mut looking = PgConnection::connect_with(options).await?;
        let mut snapshot = looking.begin_with("begin isolation level repeatable read read only").await?;
        let mut tx = control.begin().await?;
        self.meet(&mut tx).await?;
        // The first statement takes the snapshot.
        sqlx::query("select 1").execute(&mut *snapshot).await?;
        tx.rollback().await?;
        self.tell(Step::Comparing);
        let mut reports = Vec::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            let mut tables = Vec::with_capacity(lane.tables.len());
            for table in &lane.tables {
                self.go_on()?;
                tables.push(compare::table(&mut snapshot, table, lane.comparable).await?);
            }
            reports.push(ProjectorReport {
                name: lane.projector.name(),
                version: lane.projector.version(),
                position: lane.position.0,
                compared: lane.comparable,
                tables,
            });
        }
        snapshot.rollback().await?;
        Ok(reports)
    }

    /// Puts the rebuilt tables in the place of the live ones.
    async fn switch(&mut self, control: &mut PgConnection) -> Result<(), RebuildError> {
        let mut pause = FIRST_SWITCH_PAUSE;
        let mut within = READERS_WAIT;
        let mut first = Vec::new();
        for _ in 0..SWITCH_TRIES {
            self.go_on()?;
            self.catch_up(control).await?;
            let mut tx = control.begin().await?;
            match self.try_switch(&mut tx, within, &mut first).await {
                Ok(()) => {
                    tx.commit().await?;
                    return Ok(());
                }
                Err(RebuildError::Contended) => tx.rollback().await?,
                Err(RebuildError::Sql(error)) if is_in_use(&error) => tx.rollback().await?,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            within = (within + MORE_READERS_WAIT).min(LONGEST_READERS_WAIT);
        }
        Err(RebuildError::Contended)
    }

    async fn try_switch(
        &mut self,
        tx: &mut PgConnection,
        within: Duration,
        first: &mut Vec<String>,
    ) -> Result<(), RebuildError> {
        // Autovacuum gives way only to who waits longer than readers should. Neither readers nor live
        // projectors are in the way of this lock.
        wait_at_most(tx, MAINTENANCE_WITHIN).await?;
        let tables: Vec<&tables::Table> = self.lanes.iter().flat_map(|lane| &lane.tables).collect();
        tables::lock(tx, &tables, "share update exclusive").await?;
        self.meet(tx).await?;
        self.tell(Step::Switching);
        let tables: Vec<&tables::Table> = self.lanes.iter().flat_map(|lane| &lane.tables).collect();
        let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
        let views = dependents::views(tx, &names).await?;
        silent_at_most(tx, SILENT_BEFORE_READERS).await?;
        dependents::lock(tx, &views, &tables, within, first).await?;
        if dependents::views(tx, &names).await? != views {
            return Err(RebuildError::Contended);
        }
        dependents::grant(tx, &tables).await?;
        tables::switch(tx, &tables).await?;
        dependents::look_again(tx, &views).await?;
        for lane in &self.lanes {
            lane.take_over(tx).await?;
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), RebuildError> {
        if *self.handle.stop.borrow() {
            return Err(RebuildError::Stopped { position: self.position() });
        }
        Ok(())
    }

    /// What every lane has passed.
    fn position(&self) -> Position {
        self.lanes.iter().map(|lane| lane.position).min().unwrap_or(Position::START)
    }

    fn tell(&self, step: Step) {
        let seconds = self.started.elapsed().as_secs_f64();
        let target = self.lanes.iter().map(|lane| lane.target).max();
        self.handle.progress.send_replace(Progress {
            step,
            position: self.position(),
            target: target.unwrap_or(Position::START),
            events: self.events,
            events_per_second: self.events as f64 / seconds.max(f64::EPSILON),
        });
    }
}

async fn wait_at_most(tx: &mut PgConnection, wait: Duration) -> sqlx::Result<()> {
    let sql = format!("set local lock_timeout = {}", wait.as_millis());
    sqlx::query(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}

async fn silent_at_most(tx: &mut PgConnection, silent: Duration) -> sqlx::Result<()> {
    let sql = format!("set local idle_in_transaction_session_timeout = {}", silent.as_millis());
    sqlx::query(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}

/// Whether a lock was not to be had.
fn is_in_use(error: &sqlx::Error) -> bool {
    // Lock not available, query cancelled by its time-out, deadlock.
    let codes = ["55P03", "57014", "40P01"];
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| codes.contains(&code.as_ref()))
}

#[cfg(test)]
mod tests;
