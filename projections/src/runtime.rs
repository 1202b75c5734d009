//! Runs projectors: each follows the log, and writes its tables and its checkpoint in one transaction.
//!
//! - One active copy of each projector, by an advisory lock of the session that also does its writes:
//!   when the session dies, so do the lock and the unfinished batch. A copy that hangs loses it as well
//!   ([`crate::lease`]). The checkpoint is moved only from where it was, so a second copy could do no harm.
//! - A process that isn't the active copy watches: one task reads all checkpoints now and then, and words
//!   from other processes ([`Projections::heard`]) are believed at once. They only ever say that something
//!   is there to be read, so one that is lost, doubled or late does no harm.
//! - Commits don't wait for the disk (`synchronous_commit = off`): after a crash the checkpoint, which
//!   was lost or kept together with the rows, says where to go on. Until then readers would miss what
//!   they have seen already: [`Projections::regained`] makes new connections wait.
//! - A lost connection is tried again for ever. An event that can't be applied stops its projector, and
//!   no other: a read model with a hole would be wrong, a late one is only late.
//! - Events that a projector doesn't hear move its checkpoint in memory only; it is saved now and then.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::Event;
use domain::log::{EventLog, LogError, Position, Recorded};
use futures_util::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use crate::lease::{self, Place, RENEW_EVERY, Sighting};
use crate::rebuild::{self, RebuildError};
use crate::tail::{Head, Tail};

/// Events given to a projector at once; one append more may be in it.
pub const MAX_BATCH_EVENTS: usize = 1_000;
/// How often a process looks how far the projectors are that others run, and whether they live.
pub const STANDBY_POLL: Duration = Duration::from_millis(200);
/// How long after a lease has run out that is looked at.
const A_MOMENT: Duration = Duration::from_millis(2);
/// How long that look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// How long the database may take to connect, or to apply a batch.
pub const BATCH_WITHIN: Duration = Duration::from_secs(60);
/// How long a checkpoint that moved over unheard events waits to be saved.
pub const SAVE_AFTER: Duration = Duration::from_millis(100);
/// The first and the longest pause before a lost connection is tried again.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often [`Projections::regained`] looks.
const REGAINED_POLL: Duration = Duration::from_millis(20);
/// What [`Lagging`] calls the reading of the log itself.
const TAIL: &str = "log";
/// The schema of the tables that readers see.
pub const LIVE_SCHEMA: &str = "read";
/// How long [`Projections::settle`] waits.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// One read model: folds events into its own tables.
#[async_trait]
pub trait Projector: Send + Sync {
    /// Unique, and for ever: the key of its checkpoint.
    fn name(&self) -> &'static str;

    /// To be raised when the same events shall give other rows: the tables are built again beside the
    /// live ones, which readers see until then.
    fn version(&self) -> u32;

    /// Every table that it writes, by its name alone. Nobody else writes them.
    fn tables(&self) -> &'static [&'static str];

    /// The kinds of events that it is given; all others pass it by.
    fn kinds(&self) -> &'static [&'static str];

    /// Writes what the events say, with a few statements per kind, whatever their number. How the log
    /// is cut into batches must make no difference. Erased events are not in the batch. Tables are named
    /// without their schema: it is that of the connection, so that they can be built again elsewhere.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError>;
}

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Whether a process does the work of projectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does, or stands by until the one that does is gone.
    Project,
    /// It only follows how far they are.
    Watch,
}

/// A projector has not reached a position in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the projector {projector} is at {reached}, not yet at {wanted}")]
pub struct Lagging {
    pub projector: &'static str,
    pub reached: Position,
    pub wanted: Position,
}

/// Why the projectors are not at the head of the log.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    #[error(transparent)]
    Lagging(#[from] Lagging),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the projector {projector} has stopped: {reason}")]
    Stopped { projector: &'static str, reason: String },
}

/// Where a projector stands.
#[derive(Debug, Clone)]
pub struct Status {
    pub name: &'static str,
    pub position: Position,
    /// Events between it and the end of the log as known here; an estimate when it is far behind.
    pub lag_events: u64,
    /// Whether this process does the work, and not another one or nobody.
    pub active: bool,
    /// Why it stands still.
    pub stopped: Option<String>,
}

/// The projectors, as this process runs or follows them. Cheap to clone: every clone is the same.
#[derive(Clone)]
pub struct Projections {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

struct Shared {
    log: Arc<dyn EventLog>,
    tail: Tail,
    members: Vec<Member>,
    advanced: watch::Sender<Position>,
    /// Told when a projector moves that is active here.
    moved: watch::Sender<()>,
    /// Wakes the watcher.
    look: Notify,
}

struct Member {
    projector: Arc<dyn Projector>,
    progress: watch::Sender<Progress>,
    /// Whether there is something to take over, as far as is known.
    place: watch::Sender<Place>,
    /// Wakes the active copy to look whether it still is that.
    doubted: Notify,
}

#[derive(Debug, Clone)]
struct Progress {
    position: Position,
    /// When a word of another process last moved it.
    told_at: Option<Instant>,
    /// What is known to have been committed; a crash of the database may take it back.
    committed: Position,
    /// The session that does the work, when this process has it.
    session: Option<i32>,
    stopped: Option<Arc<str>>,
    /// This process won't try again.
    gave_up: bool,
}

impl Projections {
    /// Starts to run the projectors, or to follow them. The active copy of each has a connection of its own
    /// beside the pool, and so has the task that watches.
    pub fn start(
        pool: &PgPool,
        log: Arc<dyn EventLog>,
        projectors: Vec<Arc<dyn Projector>>,
        mode: Mode,
    ) -> Self {
        let members: Vec<Member> = projectors.into_iter().map(Member::new).collect();
        let tail = Tail::new(Arc::clone(&log));
        let shared = Arc::new(Shared {
            log,
            tail,
            members,
            advanced: watch::Sender::new(Position::START),
            moved: watch::Sender::new(()),
            look: Notify::new(),
        });
        let (stop, stopping) = watch::channel(false);
        let mut tasks = Vec::with_capacity(shared.members.len() + 2);
        let (follower, until) = (Arc::clone(&shared), stopping.clone());
        tasks.push(tokio::spawn(async move { follower.tail.follow(until, || follower.publish()).await }));
        tasks.push(tokio::spawn(watch_others(Arc::clone(&shared), pool.connect_options(), stopping.clone())));
        if mode == Mode::Project {
            for index in 0..shared.members.len() {
                let run = run(Arc::clone(&shared), index, pool.connect_options(), stopping.clone());
                tasks.push(tokio::spawn(run));
            }
        }
        Self { shared, stop, tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// Returns when every projector that has not stopped has passed the position, in whichever process it
    /// is active, and this process has read the log up to it.
    pub async fn wait(&self, position: Position, within: Duration) -> Result<(), Lagging> {
        let deadline = Instant::now() + within;
        self.shared.tail.nudge(position);
        for member in &self.shared.members {
            let at = member.reach(position, deadline).await;
            if at.position < position && at.stopped.is_none() {
                let projector = member.projector.name();
                return Err(Lagging { projector, reached: at.position, wanted: position });
            }
        }
        let head = self.shared.tail.reach(position, deadline).await;
        if head.position < position && head.broken.is_none() {
            return Err(Lagging { projector: TAIL, reached: head.position, wanted: position });
        }
        // The last of them may not have told yet, and who has waited shall find it told.
        self.shared.publish();
        Ok(())
    }

    /// The position that all projectors have passed that have not stopped. It never goes back, and never
    /// passes what this process has read of the log: [`Self::events_after`] is complete up to it.
    pub fn advanced(&self) -> watch::Receiver<Position> {
        self.shared.advanced.subscribe()
    }

    /// How far this process has read the log; it changes whenever the log was asked.
    pub fn head(&self) -> watch::Receiver<Head> {
        self.shared.tail.watch()
    }

    /// Changes when a projector moves that is active here: see [`Self::active`].
    pub fn moved(&self) -> watch::Receiver<()> {
        self.shared.moved.subscribe()
    }

    /// Where the projectors are that are active here; for [`Self::heard`] in other processes.
    pub fn active(&self) -> Vec<(String, Position)> {
        let position = |member: &Member| {
            let progress = member.progress.borrow();
            progress.session.map(|_| (member.projector.name().to_owned(), progress.position))
        };
        self.shared.members.iter().filter_map(position).collect()
    }

    /// Another process says how far projectors are that are active there.
    pub fn heard(&self, positions: &[(String, Position)]) {
        for (name, position) in positions {
            if let Some(member) = self.shared.members.iter().find(|m| m.projector.name() == name) {
                member.told(*position, &self.shared.tail);
            }
        }
        self.shared.publish();
    }

    /// Another process says that the log has something at this position.
    pub fn nudge(&self, position: Position) {
        self.shared.tail.nudge(position);
    }

    /// Looks now at all that words of other processes tell, since some may have been lost.
    pub fn look(&self) {
        self.shared.tail.ask();
        self.shared.look.notify_one();
    }

    /// Returns when the database has, again, all that projectors are known here to have committed; at
    /// once, unless it has crashed. To be asked on each new connection before it is read from: none is
    /// older than the crash. Late, it gives up and says which projector is missing something.
    pub async fn regained(
        &self,
        conn: &mut PgConnection,
        within: Duration,
    ) -> sqlx::Result<Result<(), Lagging>> {
        let deadline = Instant::now() + within;
        let committed: Vec<Position> =
            self.shared.members.iter().map(|member| member.progress.borrow().committed).collect();
        loop {
            let stored: Vec<(String, i64)> =
                sqlx::query_as("select projector, position from ops.checkpoints")
                    .fetch_all(&mut *conn)
                    .await?;
            let stored: HashMap<String, i64> = stored.into_iter().collect();
            let missing = self.shared.members.iter().zip(&committed).find_map(|(member, wanted)| {
                let projector = member.projector.name();
                let reached = stored.get(projector).map_or(Position::START, |at| to_position(*at));
                let is_late = reached < *wanted && member.progress.borrow().stopped.is_none();
                is_late.then_some(Lagging { projector, reached, wanted: *wanted })
            });
            match missing {
                None => return Ok(Ok(())),
                Some(lagging) if Instant::now() >= deadline => return Ok(Err(lagging)),
                Some(_) => tokio::time::sleep(REGAINED_POLL).await,
            }
        }
    }

    /// Events after a position, about `limit` and always whole appends; from memory when they are
    /// recent. Projectors may not have applied them yet: see [`Self::advanced`].
    pub async fn events_after(
        &self,
        position: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, LogError> {
        self.shared.tail.after(position, limit).await
    }

    /// Where each projector stands.
    pub fn status(&self) -> Vec<Status> {
        let status = |member: &Member| {
            let progress = member.progress.borrow().clone();
            Status {
                name: member.projector.name(),
                position: progress.position,
                lag_events: self.shared.tail.count_after(progress.position),
                active: progress.session.is_some(),
                stopped: progress.stopped.map(|reason| reason.to_string()),
            }
        };
        self.shared.members.iter().map(status).collect()
    }

    /// Waits until everything that is in the log now is in the read tables.
    pub async fn settle(&self) -> Result<Position, Unsettled> {
        let head = self.shared.log.head().await?;
        self.wait(head, SETTLE_WITHIN).await?;
        for status in self.status() {
            if let Some(reason) = status.stopped {
                return Err(Unsettled::Stopped { projector: status.name, reason });
            }
        }
        Ok(head)
    }

    /// Lets each projector finish the batch at hand, saves the checkpoints and lets go of the locks.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a projector ended badly");
            }
        }
    }
}

impl Shared {
    /// Tells those who wait how far all projectors have come. What was read here is looked at first: it
    /// may only be too low then.
    fn publish(&self) {
        let read = self.tail.head().position;
        let running = self.members.iter().filter_map(|member| {
            let progress = member.progress.borrow();
            progress.stopped.is_none().then_some(progress.position)
        });
        if let Some(least) = running.min().map(|least| least.min(read)) {
            self.advanced.send_if_modified(|advanced| {
                let further = least > *advanced;
                if further {
                    *advanced = least;
                }
                further
            });
        }
    }
}

impl Member {
    fn new(projector: Arc<dyn Projector>) -> Self {
        let progress = Progress {
            position: Position::START,
            told_at: None,
            committed: Position::START,
            session: None,
            stopped: None,
            gave_up: false,
        };
        Self {
            projector,
            progress: watch::Sender::new(progress),
            place: watch::Sender::new(Place::Free),
            doubted: Notify::new(),
        }
    }

    async fn reach(&self, position: Position, deadline: Instant) -> Progress {
        let mut progress = self.progress.subscribe();
        let there = progress.wait_for(|at| at.position >= position || at.stopped.is_some());
        let _ = timeout_at(deadline, there).await;
        self.progress.borrow().clone()
    }

    /// Where the copy of this process is, with what it has committed.
    fn set(&self, position: Position, committed: Position, session: i32) {
        self.progress.send_modify(|progress| {
            progress.position = position;
            progress.committed = progress.committed.max(committed);
            progress.session = Some(session);
        });
    }

    fn committed(&self, position: Position) {
        self.progress.send_modify(|progress| progress.committed = progress.committed.max(position));
    }

    /// The copy of this process doesn't do the work any more.
    fn lost(&self) {
        self.progress.send_modify(|progress| progress.session = None);
    }

    /// The copy of another process is at this position. What it hears is committed there up to it; the rest
    /// moved its checkpoint perhaps only in memory.
    fn told(&self, position: Position, tail: &Tail) {
        let known = self.progress.borrow().committed;
        let committed = tail.last(known, position, |event| hears(self.projector.as_ref(), event));
        self.progress.send_if_modified(|progress| {
            let is_news = progress.session.is_none() && position > progress.position;
            if is_news {
                progress.position = position;
                progress.told_at = Some(Instant::now());
                progress.committed = progress.committed.max(committed.unwrap_or(Position::START));
            }
            is_news
        });
    }

    /// Takes in what the database says. A word of a position that the log turned out not to have is forgotten.
    fn saw(&self, seen: Sighting, head: &Head) {
        if let Some(session) = self.progress.borrow().session {
            if seen.session != Some(session) {
                self.doubted.notify_one();
            }
            return;
        }
        self.place.send_if_modified(|place| std::mem::replace(place, seen.place) != seen.place);
        let (name, mine) = (self.projector.name(), version(self.projector.as_ref()));
        let stored = seen.version.unwrap_or(mine);
        self.progress.send_if_modified(|progress| {
            if progress.session.is_some() {
                return false;
            }
            // Tables of an older version will be filled again by whoever comes after those who hold them.
            let stopped: Option<Arc<str>> = if stored > mine {
                Some(other_version(name, mine, stored).into())
            } else if progress.gave_up && seen.position <= progress.position {
                progress.stopped.clone()
            } else {
                progress.gave_up = false;
                seen.stop_reason.map(Into::into)
            };
            let is_asked_since = head.asked.zip(progress.told_at).is_some_and(|(asked, told)| asked > told);
            let is_made_up = is_asked_since && progress.position > head.position;
            let known = if is_made_up { Position::START } else { progress.position };
            let position = if stored == mine { seen.position.max(known) } else { known };
            let is_news = (&progress.stopped, progress.position) != (&stopped, position);
            progress.stopped = stopped;
            progress.position = position;
            if stored == mine {
                progress.committed = progress.committed.max(seen.position);
            }
            is_news
        });
    }
}

fn other_version(name: &str, mine: i32, stored: i32) -> String {
    format!("{name} is version {mine}, its tables are version {stored}")
}

/// Why a projector lost its place.
enum Trouble {
    /// Worth another try.
    Passing(String),
    /// The projector can't go on.
    Final(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        if is_passing(&error) { Self::Passing(error.to_string()) } else { Self::Final(error.to_string()) }
    }
}

impl From<ProjectError> for Trouble {
    fn from(error: ProjectError) -> Self {
        match error {
            ProjectError::Sql(error) => error.into(),
            ProjectError::Json(error) => Self::Final(error.to_string()),
        }
    }
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unreadable { .. } => Self::Final(error.to_string()),
            LogError::Unavailable(_) | LogError::Keys(_) => Self::Passing(error.to_string()),
        }
    }
}

impl From<RebuildError> for Trouble {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::Sql(error) => error.into(),
            RebuildError::Log(error) => error.into(),
            RebuildError::Apply { source: ProjectError::Sql(ref source), .. } if is_passing(source) => {
                Self::Passing(error.to_string())
            }
            RebuildError::Apply { .. }
            | RebuildError::Newer { .. }
            | RebuildError::NoTable { .. }
            | RebuildError::ShortLog { .. } => Self::Final(error.to_string()),
            RebuildError::Busy { .. }
            | RebuildError::Stopped { .. }
            | RebuildError::Behind { .. }
            | RebuildError::Moved { .. }
            | RebuildError::Contended => Self::Passing(error.to_string()),
        }
    }
}

/// Whether the fault is with the connection or the state of the server, not with what was asked.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection, transaction rollback, resources, operator, system.
            ["08", "40", "53", "57", "58"].contains(&code.get(..2).unwrap_or_default())
                // A server that has become a replica, a transaction that took too long, a lock not got.
                || ["25006", "25P03", "55P03"].contains(&code.as_ref())
        }),
        _ => false,
    }
}

/// A pause that grows with each use.
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }

    /// Waits; true when it was asked to stop meanwhile.
    pub(crate) async fn pause(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        sleep_or_stop(pause, stop).await
    }
}

async fn sleep_or_stop(pause: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = stopped(stop) => true,
        () = tokio::time::sleep(pause) => false,
    }
}

/// Returns when it was asked to stop, or when there is nobody left to ask.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Follows what the database says of the projectors, and renews the leases of those that are active here.
async fn watch_others(shared: Arc<Shared>, options: Arc<PgConnectOptions>, mut stop: watch::Receiver<bool>) {
    let names: Vec<&str> = shared.members.iter().map(|member| member.projector.name()).collect();
    let options = options.as_ref().clone().options([("synchronous_commit", "off")]);
    let mut connection = None;
    let mut renew_at = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let sessions = shared
            .members
            .iter()
            .filter_map(|member| Some((member.projector.name(), member.progress.borrow().session?)));
        let mut mine: Vec<(&str, i32)> = sessions.collect();
        let (none_mine, all_mine) = (mine.is_empty(), mine.len() == names.len());
        let mut pause = if all_mine { RENEW_EVERY } else { STANDBY_POLL };
        let now = Instant::now();
        if now < renew_at {
            mine.clear();
        } else {
            renew_at = now + RENEW_EVERY;
        }
        match timeout(LOOK_WITHIN, see(connection.take(), &options, &names, &mine)).await.unwrap_or_else(late)
        {
            Ok((stands, seen)) => {
                connection = Some(stands);
                backoff.reset();
                let head = shared.tail.head();
                for sighting in seen {
                    if let Some(member) =
                        shared.members.iter().find(|m| m.projector.name() == sighting.projector)
                    {
                        // A lease of another that may run out is looked at when it does.
                        if let Some(left) = sighting.left
                            && member.progress.borrow().session.is_none()
                        {
                            pause = pause.min(left + A_MOMENT);
                        }
                        member.saw(sighting, &head);
                    }
                }
                shared.publish();
            }
            Err(error) => {
                tracing::warn!(%error, "the projectors can't be watched; trying again");
                renew_at = now;
                shared.members.iter().for_each(|member| member.doubted.notify_one());
                if backoff.pause(&mut stop).await {
                    return;
                }
                continue;
            }
        }
        if !none_mine {
            pause = pause.min(renew_at.saturating_duration_since(Instant::now()));
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = shared.look.notified() => (),
            () = tokio::time::sleep(pause) => (),
        }
    }
}

async fn see(
    connection: Option<PgConnection>,
    options: &PgConnectOptions,
    names: &[&str],
    renewed: &[(&str, i32)],
) -> sqlx::Result<(PgConnection, Vec<Sighting>)> {
    let mut conn = match connection {
        Some(conn) => conn,
        None => PgConnection::connect_with(options).await?,
    };
    let seen = lease::see(&mut conn, names, renewed).await?;
    Ok((conn, seen))
}

async fn run(
    shared: Arc<Shared>,
    index: usize,
    options: Arc<PgConnectOptions>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(member) = shared.members.get(index) else { return };
    let name = member.projector.name();
    // No plan here runs for long enough to be worth compiling, though the planner may think so.
    let session = [("synchronous_commit", "off"), ("search_path", LIVE_SCHEMA), ("jit", "off")];
    let options = options.as_ref().clone().options(session);
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let held = AssertUnwindSafe(hold(&shared, member, &options, &mut stop)).catch_unwind();
        let outcome = held.await.unwrap_or_else(|_| Err(Trouble::Final("it panicked".to_owned())));
        member.lost();
        match outcome {
            Ok(()) => return,
            Err(Trouble::Passing(reason)) => {
                tracing::warn!(projector = name, reason, "a projector lost its place; trying again");
                if began.elapsed() > LONGEST_PAUSE {
                    backoff.reset();
                }
                if backoff.pause(&mut stop).await {
                    return;
                }
                member.place.send_replace(Place::Free);
            }
            Err(Trouble::Final(reason)) => {
                let position = member.progress.borrow().position.0;
                tracing::error!(projector = name, position, reason, "a projector has stopped");
                member.progress.send_modify(|progress| {
                    progress.stopped = Some(reason.into());
                    progress.gave_up = true;
                });
                shared.publish();
                return;
            }
        }
    }
}

/// Waits until there is something to take over, and takes it, with a new session. None when it was asked
/// to stop.
async fn take(
    member: &Member,
    options: &PgConnectOptions,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<(PgConnection, i32)>, Trouble> {
    let name = member.projector.name();
    let mut place = member.place.subscribe();
    loop {
        let found = tokio::select! {
            () = stopped(stop) => return Ok(None),
            found = place.wait_for(|place| *place != Place::Held) => found.map_or(Place::Held, |found| *found),
        };
        let mut conn = in_time(PgConnection::connect_with(options)).await?;
        if found == Place::Hung && in_time(lease::end_hanging(&mut conn, name)).await? {
            tracing::warn!(projector = name, "its active copy hung and was ended");
        }
        if let Some(session) = in_time(lease::take(&mut conn, name)).await? {
            return Ok(Some((conn, session)));
        }
        // Somebody else has it; who watches says when that changes.
        member.place.send_replace(Place::Held);
    }
}

/// Takes the place and applies batches, until it is asked to stop or meets trouble.
async fn hold(
    shared: &Shared,
    member: &Member,
    options: &PgConnectOptions,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), Trouble> {
    let projector = member.projector.as_ref();
    let Some((mut conn, session)) = take(member, options, stop).await? else { return Ok(()) };
    // From here on the lease is renewed: a rebuild may have the checkpoint for a while.
    member.progress.send_modify(|progress| progress.session = Some(session));
    let mut saved = match in_time(open(&mut conn, projector)).await? {
        Opened::At(position) => position,
        Opened::Older => {
            tracing::info!(projector = projector.name(), "a new version: building its tables again");
            // It has its place, which others would take otherwise.
            member.set(Position::START, Position::START, session);
            let log = Arc::clone(&shared.log);
            if !rebuild::replace(options, log, Arc::clone(&member.projector), stop).await? {
                return Ok(());
            }
            match in_time(open(&mut conn, projector)).await? {
                Opened::At(position) => position,
                Opened::Older => return Err(Trouble::Passing("its tables are older again".to_owned())),
            }
        }
    };
    member.progress.send_modify(|progress| progress.stopped = None);
    member.set(saved, saved, session);
    shared.publish();

    let mut position = saved;
    // When the checkpoint has to be saved, while it is behind `position`.
    let mut save_at = None;
    // After a failure: so many events are applied append by append, to find the one at fault.
    let mut careful = 0_usize;
    while !*stop.borrow() {
        let head = shared.tail.head();
        if head.position <= position {
            if let Some(reason) = head.broken {
                return Err(Trouble::Final(reason.to_string()));
            }
            tokio::select! {
                () = stopped(stop) => (),
                () = shared.tail.wait(position) => (),
                () = until(save_at) => {
                    in_time(save(&mut conn, projector, saved, position)).await?;
                    (saved, save_at) = (position, None);
                    member.committed(saved);
                }
                () = member.doubted.notified() => {
                    if in_time(lease::take(&mut conn, projector.name())).await?.is_none() {
                        return Err(Trouble::Passing("another copy has taken its place".to_owned()));
                    }
                }
            }
            continue;
        }
        let limit = if careful > 0 { 1 } else { MAX_BATCH_EVENTS };
        let batch = shared.tail.after(position, limit).await?;
        let Some(reached) = batch.last().map(|event| event.position) else {
            return Err(Trouble::Passing(format!("the log shows nothing after {position}")));
        };
        let heard: Vec<Arc<Recorded>> =
            batch.iter().filter(|event| hears(projector, event)).cloned().collect();
        if heard.is_empty() {
            let now = Instant::now();
            if *save_at.get_or_insert(now + SAVE_AFTER) <= now {
                in_time(save(&mut conn, projector, saved, reached)).await?;
                (saved, save_at) = (reached, None);
            }
        } else {
            match in_time(project(&mut conn, projector, saved, reached, &heard)).await {
                Ok(()) => (saved, save_at) = (reached, None),
                Err(Trouble::Final(_)) if careful == 0 => {
                    careful = batch.len();
                    continue;
                }
                Err(Trouble::Final(reason)) => {
                    let reason = blame(&heard, &reason);
                    write_down(&mut conn, projector.name(), &reason).await;
                    return Err(Trouble::Final(reason));
                }
                Err(passing) => return Err(passing),
            }
        }
        careful = careful.saturating_sub(batch.len());
        position = reached;
        member.set(position, saved, session);
        shared.publish();
        shared.moved.send_replace(());
    }
    if saved != position {
        in_time(save(&mut conn, projector, saved, position)).await?;
    }
    conn.close().await?;
    Ok(())
}

/// What the database answers, unless it takes too long.
async fn in_time<T, E: From<sqlx::Error>>(asked: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    timeout(BATCH_WITHIN, asked).await.unwrap_or_else(late)
}

fn late<T, E: From<sqlx::Error>>(_: Elapsed) -> Result<T, E> {
    Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into())
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

pub(crate) fn hears(projector: &dyn Projector, event: &Recorded) -> bool {
    event.event.is_some() && projector.kinds().contains(&event.kind.as_str())
}

/// Which event of the smallest batch can't be applied.
fn blame(heard: &[Arc<Recorded>], reason: &str) -> String {
    let events: Vec<String> = heard.iter().map(|event| format!("{} {}", event.kind, event.id)).collect();
    let position = heard.first().map_or(Position::START, |event| event.position);
    format!("at position {position} ({}): {reason}", events.join(", "))
}

enum Opened {
    /// The checkpoint to go on from.
    At(Position),
    /// The tables were filled by an older version.
    Older,
}

/// Finds the place to go on from. Tables that nobody has filled are emptied.
async fn open(conn: &mut PgConnection, projector: &dyn Projector) -> Result<Opened, Trouble> {
    let mut tx = conn.begin().await?;
    let found: Option<(i32, i64)> =
        sqlx::query_as("select version, position from ops.checkpoints where projector = $1 for update")
            .bind(projector.name())
            .fetch_optional(&mut *tx)
            .await?;
    let position = match found {
        Some((stored, position)) if stored == version(projector) => to_position(position),
        Some((stored, _)) if stored > version(projector) => {
            return Err(Trouble::Final(other_version(projector.name(), version(projector), stored)));
        }
        Some(_) => {
            // Now, since the checkpoint is wanted by others.
            tx.rollback().await?;
            return Ok(Opened::Older);
        }
        None => {
            empty(&mut tx, projector).await?;
            sqlx::query("insert into ops.checkpoints (projector, version, position) values ($1, $2, 0)")
                .bind(projector.name())
                .bind(version(projector))
                .execute(&mut *tx)
                .await?;
            Position::START
        }
    };
    tx.commit().await?;
    Ok(Opened::At(position))
}

/// Forgets every checkpoint, so that all read tables are filled anew: for a log that begins anew.
pub async fn forget_checkpoints(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query("delete from ops.checkpoints").execute(pool).await?;
    sqlx::query("delete from ops.rebuilds").execute(pool).await?;
    Ok(())
}

async fn empty(tx: &mut PgConnection, projector: &dyn Projector) -> sqlx::Result<()> {
    let tables = projector.tables().join(", ");
    sqlx::query(AssertSqlSafe(format!("truncate {tables}"))).execute(tx).await?;
    Ok(())
}

/// Applies a batch and moves the checkpoint, or neither.
async fn project(
    conn: &mut PgConnection,
    projector: &dyn Projector,
    from: Position,
    to: Position,
    batch: &[Arc<Recorded>],
) -> Result<(), Trouble> {
    let started = Instant::now();
    let mut tx = conn.begin().await?;
    save(&mut tx, projector, from, to).await?;
    projector.apply(&mut tx, batch).await?;
    tx.commit().await?;
    let duration_ms = started.elapsed().as_millis() as u64;
    tracing::debug!(
        projector = projector.name(),
        position = to.0,
        events = batch.len(),
        duration_ms,
        "project"
    );
    Ok(())
}

/// Moves the checkpoint from where this copy knows it to be.
async fn save(
    conn: &mut PgConnection,
    projector: &dyn Projector,
    from: Position,
    to: Position,
) -> Result<(), Trouble> {
    let moved = sqlx::query(
        "update ops.checkpoints set position = $4, stopped_at = null, stop_reason = null
          where projector = $1 and version = $2 and position = $3",
    )
    .bind(projector.name())
    .bind(version(projector))
    .bind(from.0 as i64)
    .bind(to.0 as i64)
    .execute(conn)
    .await?;
    if moved.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Trouble::Passing(format!("the checkpoint is no longer at {from}")))
    }
}

/// Leaves word beside the checkpoint; the log and the status have it in any case.
async fn write_down(conn: &mut PgConnection, name: &str, reason: &str) {
    let written =
        sqlx::query("update ops.checkpoints set stopped_at = now(), stop_reason = $2 where projector = $1")
            .bind(name)
            .bind(crate::sql::clean(reason))
            .execute(conn)
            .await;
    if let Err(error) = written {
        tracing::warn!(projector = name, %error, "the reason of the stop is not written down");
    }
}

pub(crate) fn version(projector: &dyn Projector) -> i32 {
    i32::try_from(projector.version()).unwrap_or(i32::MAX)
}

pub(crate) fn to_position(position: i64) -> Position {
    Position(u64::try_from(position).unwrap_or(0))
}

/// The events of a batch that can be read.
pub(crate) fn events(batch: &[Arc<Recorded>]) -> impl Iterator<Item = (&Recorded, &Event)> {
    batch.iter().filter_map(|recorded| Some((recorded.as_ref(), recorded.event.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryLog, NOW, Story, a_life, at, user};
    use crate::{note, projectors, user as people};
    use domain::log::{AppendError, By, StreamId, Version};
    use domain::user::Created;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    use std::sync::atomic::{AtomicBool, Ordering};

    const SOON: Duration = Duration::from_secs(20);

    fn person(n: u8) -> Event {
        Created { user: user(n), username: format!("user{n}"), host: None, uri: None }.into()
    }

    fn append(log: &MemoryLog, event: Event) -> Position {
        let kind = event.kind().0;
        log.push(at(NOW), Some(event), kind)
    }

    async fn users(pool: &PgPool) -> i64 {
        people::stats(pool).await.unwrap().users
    }

    /// A log that wakes nobody, or whose events can't be read.
    #[derive(Default)]
    struct Faulty {
        log: MemoryLog,
        silent: bool,
        broken: AtomicBool,
    }

    #[async_trait]
    impl EventLog for Faulty {
        async fn append(
            &self,
            stream: &StreamId,
            expected: Version,
            by: &By,
            events: Vec<Event>,
        ) -> Result<Position, AppendError> {
            self.log.append(stream, expected, by, events).await
        }

        async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
            self.log.stream(stream).await
        }

        async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
            if self.broken.load(Ordering::SeqCst) {
                let kind = "future.kind".to_owned();
                return Err(LogError::Unreadable { kind, schema: 9, reason: "unknown".to_owned() });
            }
            self.log.after(position, limit).await
        }

        async fn head(&self) -> Result<Position, LogError> {
            self.log.head().await
        }

        async fn wait(&self, position: Position) {
            if self.silent {
                std::future::pending::<()>().await;
            }
            self.log.wait(position).await;
        }
    }

    /// Waits until something is so.
    async fn eventually(what: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + SOON;
        while !what().await {
            assert!(Instant::now() < deadline, "it never came to be");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn checkpoint(pool: &PgPool, name: &str) -> (i32, i64, Option<String>) {
        sqlx::query_as("select version, position, stop_reason from ops.checkpoints where projector = $1")
            .bind(name)
            .fetch_one(pool)
            .await
            .unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_was_waited_for_can_be_read_and_a_restart_goes_on_from_there(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        append(&log, person(1));
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        let mut advanced = running.advanced();
        let second = append(&log, person(2));
        running.wait(second, SOON).await.unwrap();
        assert_eq!(users(&pool).await, 2);
        assert!(*advanced.wait_for(|position| *position >= second).await.unwrap() >= second);
        let never = Position(99);
        let late = running.wait(never, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((late.reached, late.wanted), (second, never));
        for status in running.status() {
            assert_eq!((status.position, status.lag_events, status.active), (second, 0, true), "{status:?}");
        }
        running.stop().await;
        assert_eq!(checkpoint(&pool, "users").await, (2, 2, None));
        assert_eq!(checkpoint(&pool, "notes").await, (2, 2, None), "it passed over what it does not hear");

        append(&log, person(3));
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        running.settle().await.unwrap();
        assert_eq!(users(&pool).await, 3);
        running.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn waiting_needs_no_wake_up_from_the_log(pool: PgPool) {
        let log = Arc::new(Faulty { silent: true, ..Faulty::default() });
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        running.settle().await.unwrap();
        let position = append(&log.log, person(1));
        let started = Instant::now();
        running.wait(position, SOON).await.unwrap();
        assert!(started.elapsed() < crate::tail::ASK_AGAIN, "it waited for the next asking");
        running.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn one_copy_is_active_and_the_other_follows_and_takes_over(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let first = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        append(&log, person(1));
        first.settle().await.unwrap();
        let second = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        let position = append(&log, person(2));
        second.wait(position, SOON).await.unwrap();
        assert_eq!(users(&pool).await, 2);
        assert!(first.status().iter().all(|status| status.active));
        assert!(second.status().iter().all(|status| !status.active));
        first.stop().await;
        let position = append(&log, person(3));
        second.wait(position, SOON).await.unwrap();
        assert_eq!(users(&pool).await, 3);
        assert!(second.status().iter().all(|status| status.active));
        second.stop().await;
    }

    fn watching(pool: &PgPool, log: &Arc<MemoryLog>) -> Projections {
        Projections::start(pool, log.clone(), projectors(), Mode::Watch)
    }

    fn all_at(position: Position) -> Vec<(String, Position)> {
        projectors().iter().map(|projector| (projector.name().to_owned(), position)).collect()
    }

    fn is_active(running: &Projections) -> bool {
        running.status().iter().all(|status| status.active)
    }

    /// A session that holds every projector, and renews nothing: a process that hangs.
    async fn hang(pool: &PgPool) -> (PgConnection, i32) {
        let mut conn = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
        let mut session = None;
        for projector in projectors() {
            session = lease::take(&mut conn, projector.name()).await.unwrap();
        }
        (conn, session.expect("somebody else has it"))
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn who_watches_sees_what_others_project_without_a_word_from_them(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let (active, watcher) =
            (Projections::start(&pool, log.clone(), projectors(), Mode::Project), watching(&pool, &log));
        for n in 1..=3 {
            let position = append(&log, person(n));
            watcher.wait(position, SOON).await.unwrap();
            assert_eq!(users(&pool).await, i64::from(n));
            assert!(*watcher.advanced().borrow() >= position);
        }
        assert!(watcher.active().is_empty() && watcher.status().iter().all(|status| !status.active));
        assert_eq!(active.active().len(), projectors().len());
        active.stop().await;
        let unseen = append(&log, person(4));
        assert!(watcher.wait(unseen, STANDBY_POLL * 2).await.is_err(), "nobody does the work");
        watcher.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn words_of_others_may_come_late_doubled_or_never(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let (active, watcher) =
            (Projections::start(&pool, log.clone(), projectors(), Mode::Project), watching(&pool, &log));
        let mut words: Vec<Vec<(String, Position)>> = Vec::new();
        for n in 1..=20 {
            let position = append(&log, person(n));
            active.wait(position, SOON).await.unwrap();
            words.push(active.active());
            match n % 4 {
                0 => watcher.heard(&words[usize::from(n) / 2]),
                1 => (0..2).for_each(|_| watcher.heard(&words[words.len() - 1])),
                2 => words.iter().rev().for_each(|word| watcher.heard(word)),
                _ => (),
            }
            watcher.heard(&[("nobody".to_owned(), Position(99))]);
            watcher.wait(position, SOON).await.unwrap();
            assert_eq!(users(&pool).await, i64::from(n));
            assert!(*watcher.advanced().borrow() <= position);
        }
        active.stop().await;
        watcher.stop().await;
    }

    /// Nobody projects here, so that only words and what was read tell anything.
    #[sqlx::test(migrations = "../migrations")]
    async fn a_word_is_believed_at_once_but_not_beyond_what_was_read(pool: PgPool) {
        let log = Arc::new(Faulty { silent: true, ..Faulty::default() });
        let watcher = Projections::start(&pool, log.clone(), projectors(), Mode::Watch);
        let first = append(&log.log, person(1));
        watcher.heard(&all_at(first));
        watcher.wait(first, SOON).await.unwrap();
        assert_eq!(*watcher.advanced().borrow(), first);

        let second = append(&log.log, person(2));
        watcher.heard(&all_at(second));
        watcher.wait(second, SOON).await.unwrap();
        watcher.heard(&all_at(Position(u64::MAX)));
        assert_eq!(*watcher.advanced().borrow(), second);
        // What was made up is not believed for ever.
        eventually(async || watcher.status().iter().all(|status| status.position <= second)).await;
        let third = append(&log.log, person(3));
        assert_ne!(watcher.wait(third, Duration::from_millis(1)).await.unwrap_err().projector, TAIL);
        watcher.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_copy_that_hangs_is_ended_and_one_that_dies_is_not_waited_for(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let (mut hung, _) = hang(&pool).await;
        let since = Instant::now();
        let next = [(); 2].map(|()| Projections::start(&pool, log.clone(), projectors(), Mode::Project));
        let position = append(&log, person(1));
        next[0].wait(position, SOON).await.unwrap();
        assert!(since.elapsed() >= lease::LEASE - RENEW_EVERY, "its lease had not run out");
        assert!(hung.ping().await.is_err());
        let holders = |name| {
            let mine = |running: &&Projections| running.status().iter().any(|s| s.name == name && s.active);
            next.iter().filter(mine).count()
        };
        eventually(async || projectors().iter().all(|projector| holders(projector.name()) == 1)).await;
        for running in next {
            running.stop().await;
        }

        let (dead, session) = hang(&pool).await;
        sqlx::query("update ops.leases set renewed_at = clock_timestamp() + interval '1 s'")
            .execute(&pool)
            .await
            .unwrap();
        let next = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        eventually(async || next.status().iter().all(|s| s.position == position)).await;
        assert!(!is_active(&next));
        let since = Instant::now();
        assert!(terminate(&pool, session).await);
        eventually(async || is_active(&next)).await;
        assert!(since.elapsed() < lease::LEASE, "it waited for a lease of nobody");
        drop(dead);
        next.stop().await;
    }

    async fn terminate(pool: &PgPool, session: i32) -> bool {
        sqlx::query_scalar("select pg_terminate_backend($1)").bind(session).fetch_one(pool).await.unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn who_has_lost_its_place_stands_by(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        append(&log, person(1));
        running.settle().await.unwrap();
        // As if another process had found that this one hangs.
        let sessions: Vec<i32> =
            sqlx::query_scalar("select pid from ops.leases").fetch_all(&pool).await.unwrap();
        let mut thief = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
        for session in sessions {
            terminate(&pool, session).await;
        }
        for projector in projectors() {
            eventually(async || running.status().iter().any(|s| s.name == projector.name())).await;
            let deadline = Instant::now() + SOON;
            while lease::take(&mut thief, projector.name()).await.unwrap().is_none() {
                assert!(Instant::now() < deadline);
                // It was faster.
                let session: i32 = sqlx::query_scalar("select pid from ops.leases where projector = $1")
                    .bind(projector.name())
                    .fetch_one(&pool)
                    .await
                    .unwrap();
                terminate(&pool, session).await;
            }
        }
        eventually(async || running.active().is_empty()).await;
        assert!(running.status().iter().all(|status| status.stopped.is_none()));
        let position = append(&log, person(2));
        thief.close().await.unwrap();
        running.wait(position, SOON).await.unwrap();
        assert_eq!(users(&pool).await, 2);
        running.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn who_watches_is_let_in_after_a_crash_when_all_it_has_seen_is_back(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let active = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        let watcher = watching(&pool, &log);
        eventually(async || watcher.head().borrow().asked.is_some()).await;
        let position = append(&log, person(1));
        active.wait(position, SOON).await.unwrap();
        eventually(async || watcher.head().borrow().position == position).await;
        watcher.heard(&active.active());
        active.stop().await;
        sqlx::query("update ops.checkpoints set position = 0").execute(&pool).await.unwrap();
        let mut conn = pool.acquire().await.unwrap();
        let late = watcher.regained(&mut conn, Duration::ZERO).await.unwrap().unwrap_err();
        assert_eq!((late.reached, late.wanted), (Position::START, position));
        sqlx::query("truncate read.users, read.user_hosts").execute(&mut *conn).await.unwrap();
        let active = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        watcher.regained(&mut conn, SOON).await.unwrap().unwrap();
        assert_eq!(users(&pool).await, 1);
        active.stop().await;
        watcher.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_lost_connection_is_taken_again(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        append(&log, person(1));
        running.settle().await.unwrap();
        let killed: Vec<bool> = sqlx::query_scalar(
            "select pg_terminate_backend(pid) from pg_locks
              where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        assert_eq!(killed.len(), projectors().len());
        let position = append(&log, person(2));
        running.wait(position, SOON).await.unwrap();
        assert_eq!(users(&pool).await, 2);
        running.stop().await;
    }

    /// As a crash leaves it: commits that didn't wait for the disk are undone, and connections are gone.
    #[sqlx::test(migrations = "../migrations")]
    async fn what_a_crash_takes_back_is_there_again_before_it_is_read(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        append(&log, person(1));
        running.settle().await.unwrap();
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(running.regained(&mut conn, Duration::ZERO).await.unwrap(), Ok(()));
        sqlx::raw_sql(
            "begin;
             truncate read.users, read.user_hosts;
             update ops.checkpoints set position = 0 where projector = 'users';
             commit;
             select pg_terminate_backend(pid) from pg_locks
              where locktype = 'advisory'
                and database = (select oid from pg_database where datname = current_database())",
        )
        .execute(&mut *conn)
        .await
        .unwrap();
        let late = running.regained(&mut conn, Duration::ZERO).await.unwrap().unwrap_err();
        assert_eq!((late.projector, late.reached), ("users", Position::START));
        running.regained(&mut conn, SOON).await.unwrap().unwrap();
        assert_eq!(users(&pool).await, 1, "without anything new in the log");
        running.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_projector_stops_at_what_it_cannot_apply_and_others_go_on(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        append(&log, person(1));
        // The same name again: no decision would have allowed it.
        let twice = Created { user: user(9), username: "USER1".to_owned(), host: None, uri: None };
        append(&log, person(2));
        let bad = append(&log, twice.into());
        let last = append(&log, person(3));
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        running.wait(last, SOON).await.unwrap();
        eventually(async || running.status().iter().any(|status| status.stopped.is_some())).await;
        for status in running.status() {
            if status.name == "users" {
                let reason = status.stopped.unwrap();
                assert!(reason.contains("user.created") && reason.contains("users_by_name"), "{reason}");
                assert_eq!(status.position, Position(bad.0 - 1));
            } else {
                assert_eq!((status.position, status.stopped), (last, None));
            }
        }
        assert_eq!(users(&pool).await, 2, "everything before it is there");
        let (_, position, reason) = checkpoint(&pool, "users").await;
        assert_eq!(position, 2);
        assert!(reason.unwrap().contains("at position 3"));
        assert!(matches!(running.settle().await, Err(Unsettled::Stopped { projector: "users", .. })));
        assert_eq!(*running.advanced().borrow(), last);
        running.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_projector_that_panics_has_stopped(pool: PgPool) {
        struct Panics;
        #[async_trait]
        impl Projector for Panics {
            fn name(&self) -> &'static str {
                "panics"
            }
            fn version(&self) -> u32 {
                1
            }
            fn tables(&self) -> &'static [&'static str] {
                &["votes"]
            }
            fn kinds(&self) -> &'static [&'static str] {
                &["user.created"]
            }
            async fn apply(&self, _: &mut PgConnection, _: &[Arc<Recorded>]) -> Result<(), ProjectError> {
                panic!("on purpose")
            }
        }
        let log = Arc::new(MemoryLog::default());
        append(&log, person(1));
        let running = Projections::start(&pool, log, vec![Arc::new(Panics)], Mode::Project);
        eventually(async || running.status().iter().all(|status| status.stopped.is_some())).await;
        running.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn an_event_that_cannot_be_read_stops_everybody(pool: PgPool) {
        let log = Arc::new(Faulty::default());
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        append(&log.log, person(1));
        running.settle().await.unwrap();
        log.broken.store(true, Ordering::SeqCst);
        append(&log.log, person(2));
        eventually(async || {
            let status = running.status();
            status.iter().all(|s| s.stopped.as_ref().is_some_and(|reason| reason.contains("future.kind")))
        })
        .await;
        running.stop().await;
    }

    /// Users, as a later version of the code would fill them.
    struct Later;

    #[async_trait]
    impl Projector for Later {
        fn name(&self) -> &'static str {
            people::Projection.name()
        }
        fn version(&self) -> u32 {
            people::Projection.version() + 1
        }
        fn tables(&self) -> &'static [&'static str] {
            people::Projection.tables()
        }
        fn kinds(&self) -> &'static [&'static str] {
            people::Projection.kinds()
        }
        async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
            people::Projection.apply(tx, batch).await
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_higher_version_fills_its_tables_again_and_a_lower_one_refuses(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        append(&log, person(1));
        append(&log, person(2));
        for _ in 0..2 {
            let running = Projections::start(&pool, log.clone(), vec![Arc::new(Later)], Mode::Project);
            running.settle().await.unwrap();
            running.stop().await;
            assert_eq!(users(&pool).await, 2);
            assert_eq!(checkpoint(&pool, "users").await, (3, 2, None));
        }
        sqlx::query("delete from read.users").execute(&pool).await.unwrap();
        sqlx::query("update ops.checkpoints set version = 1").execute(&pool).await.unwrap();
        let running = Projections::start(&pool, log.clone(), vec![Arc::new(Later)], Mode::Project);
        running.settle().await.unwrap();
        running.stop().await;
        assert_eq!(people::by_username(&pool, "user2", None).await.unwrap(), Some(user(2)));

        let older = Projections::start(&pool, log.clone(), vec![Arc::new(people::Projection)], Mode::Project);
        let refused = older.settle().await;
        assert!(matches!(refused, Err(Unsettled::Stopped { projector: "users", .. })), "{refused:?}");
        older.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn erased_events_are_passed_over(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        append(&log, person(1));
        log.push(at(NOW), None, "user.created");
        let last = append(&log, person(2));
        let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
        running.wait(last, SOON).await.unwrap();
        assert_eq!(users(&pool).await, 2);
        assert_eq!(running.events_after(Position(1), 1).await.unwrap().len(), 1);
        running.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_rows_are_the_same_however_the_log_is_cut(pool: PgPool) {
        let mut runner = TestRunner::deterministic();
        for _ in 0..4 {
            let mut life = Vec::new();
            while life.len() < 100 {
                life.extend(a_life().new_tree(&mut runner).unwrap().current());
            }
            let mut story = Story::new(&pool);
            story.live(&life);
            story.project_in(1).await;
            let one_by_one = story.hashes().await;
            let filled = one_by_one.iter().filter(|(_, hash)| hash.is_some()).count();
            assert!(filled > 10, "only {filled} tables have rows");
            for size in [7, 1_000] {
                story.empty().await;
                story.project_in(size).await;
                assert_eq!(story.hashes().await, one_by_one, "in batches of {size}: {life:#?}");
            }
            story.empty().await;
            let running = Projections::start(&pool, story.log.clone(), projectors(), Mode::Project);
            running.settle().await.unwrap();
            running.stop().await;
            assert_eq!(story.hashes().await, one_by_one, "by the runtime");
            sqlx::query("delete from ops.checkpoints").execute(&pool).await.unwrap();
            story.empty().await;
        }
    }

    #[test]
    fn names_and_tables_are_unique_and_kinds_exist() {
        let all = projectors();
        let mut tables: Vec<&str> = all.iter().flat_map(|p| p.tables().iter().copied()).collect();
        let mut names: Vec<&str> = all.iter().map(|p| p.name()).collect();
        for list in [&mut tables, &mut names] {
            let before = list.len();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), before);
        }
        for projector in &all {
            for kind in projector.kinds() {
                assert!(domain::event::KINDS.iter().any(|(known, _)| known == kind), "{kind}");
            }
        }
        assert_eq!(note::Projection.tables().len(), 5);
    }
}
