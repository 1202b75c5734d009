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
//! - Events that a projector doesn't hear move its checkpoint in memory only, without waking it; it is saved now and
//!   then.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::Event;
use domain::log::{EventLog, LogError, Position, Recorded};
use sqlx::PgPool;
use sqlx::postgres::PgConnection;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::SOURCES;
use crate::lease::{Place, Sighting};
use crate::tail::{Head, Tail};

mod active;
mod watcher;

pub use active::is_passing;

/// How often a process looks how far the projectors are that others run, and whether they live.
pub const STANDBY_POLL: Duration = Duration::from_millis(200);
/// How often [`Projections::regained`] looks.
const REGAINED_POLL: Duration = Duration::from_millis(20);
/// What [`Lagging`] calls the reading of the log itself.
const TAIL: &str = "log";
/// The schema of the tables that readers see.
pub const LIVE_SCHEMA: &str = "read";
/// A writer doesn't wait for a projector that is further behind, in positions: that could not be done in time.
const MAX_AWAITED: u64 = 10_000;
/// How long who waits listens to where all projectors are, before they ask each of them: one may have stopped since.
const TOLD_WITHIN: Duration = Duration::from_millis(100);
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

    /// Whether an event of these kinds can change anything in its tables. What doesn't costs no transaction.
    fn heeds(&self, _event: &Event) -> bool {
        true
    }

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
    /// Readers see the tables of an older version, until they are built again.
    pub anew: bool,
}

/// How far facts are that are loaded from [`SOURCES`].
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// What everybody is owed who was told that it is there.
    pub at: Position,
    /// Whether the tables have that, for good: while they don't, nothing that was loaded from them is to be kept.
    pub holds: bool,
    /// Moves whenever what was loaded before may not hold any more, though no event says so.
    pub doubts: u64,
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
    /// [`Standing::doubts`].
    doubts: AtomicU64,
    /// The tables may be older than they were known to be.
    is_behind: AtomicBool,
}

struct Member {
    projector: Arc<dyn Projector>,
    /// Whether it is among [`SOURCES`].
    is_source: bool,
    progress: watch::Sender<Progress>,
    /// Whether there is something to take over, as far as is known.
    place: watch::Sender<Place>,
    /// Wakes the active copy: the log has something for it.
    called: Notify,
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
    /// Its tables are those of an older version, and are being built again.
    anew: bool,
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
            doubts: AtomicU64::new(0),
            is_behind: AtomicBool::new(false),
        });
        let (stop, stopping) = watch::channel(false);
        let mut tasks = Vec::with_capacity(shared.members.len() + 2);
        let (follower, until) = (Arc::clone(&shared), stopping.clone());
        tasks.push(tokio::spawn(async move {
            follower.tail.follow(until, |from, events| follower.came(from, events)).await
        }));
        tasks.push(tokio::spawn(watcher::run(Arc::clone(&shared), pool.connect_options(), stopping.clone())));
        if mode == Mode::Project {
            for index in 0..shared.members.len() {
                let run = active::run(Arc::clone(&shared), index, pool.connect_options(), stopping.clone());
                tasks.push(tokio::spawn(run));
            }
        }
        Self { shared, stop, tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// Returns when every projector that has not stopped has passed the position, in whichever process it
    /// is active, and this process has read the log up to it.
    pub async fn wait(&self, position: Position, within: Duration) -> Result<(), Lagging> {
        self.wait_for(position, within, |progress| progress.stopped.is_none()).await
    }

    /// The same for who has written, and is answered then: they don't wait for what takes longer than anybody
    /// waits, such as the filling of a read model that is new or made anew.
    pub async fn wait_to_answer(&self, position: Position, within: Duration) -> Result<(), Lagging> {
        self.wait_for(position, within, |progress| {
            let is_far =
                progress.position > Position::START && progress.position.0 + MAX_AWAITED < position.0;
            progress.stopped.is_none() && !progress.anew && !is_far
        })
        .await
    }

    async fn wait_for(
        &self,
        position: Position,
        within: Duration,
        is_awaited: impl Fn(&Progress) -> bool,
    ) -> Result<(), Lagging> {
        let deadline = Instant::now() + within;
        self.shared.tail.nudge(position);
        let members = &self.shared.members;
        let goes_on = |member: &&Member| member.progress.borrow().stopped.is_none();
        let mut running = members.iter().filter(goes_on).peekable();
        let tells = self.shared.tail.head().broken.is_none()
            && running.peek().is_some()
            && running.all(|member| is_awaited(&member.progress.borrow()));
        let mut advanced = self.shared.advanced.subscribe();
        let told_by = deadline.min(Instant::now() + TOLD_WITHIN);
        let there = timeout_at(told_by, advanced.wait_for(|advanced| *advanced >= position));
        if tells && there.await.is_ok() {
            return Ok(());
        }
        for member in members {
            let at = member.reach(position, deadline, &is_awaited).await;
            if at.position < position && is_awaited(&at) {
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
                Some(lagging) if Instant::now() >= deadline => {
                    self.shared.is_behind.store(true, Ordering::SeqCst);
                    self.shared.doubt();
                    return Ok(Err(lagging));
                }
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

    /// All events after a position, up to another one that this process has read; none when they aren't in
    /// memory any more.
    pub(crate) fn recent(&self, from: Position, to: Position) -> Option<Vec<Arc<Recorded>>> {
        self.shared.tail.between(from, to)
    }

    /// How far facts are. Whatever other projectors do makes no difference to them.
    pub fn standing(&self) -> Standing {
        let sources = || self.shared.members.iter().filter(|member| member.is_source);
        // In this order: what goes back, or is doubted, after it was looked at is found out the next time.
        let at = self.shared.passed(sources()).unwrap_or(Position::START);
        let doubts = self.shared.doubts.load(Ordering::SeqCst);
        let stands = |member: &Member| {
            let progress = member.progress.borrow();
            progress.stopped.is_none() && !progress.anew && progress.position >= at
        };
        let is_behind = self.shared.is_behind.load(Ordering::SeqCst);
        Standing { at, holds: at > Position::START && !is_behind && sources().all(stands), doubts }
    }

    #[cfg(test)]
    pub(crate) fn shared_doubt(&self) {
        self.shared.doubt();
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
                anew: progress.anew,
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
    /// The log went on. Active copies that hear nothing of it and were at its end are there again, and sleep on.
    fn came(&self, from: Position, events: &[Arc<Recorded>]) {
        let to = events.last().map_or(from, |last| last.position);
        for member in &self.members {
            let is_called = events.is_empty()
                || events.iter().any(|event| hears(member.projector.as_ref(), event))
                || !member.pass(from, to);
            if is_called {
                member.called.notify_one();
            }
        }
        self.publish();
        self.moved.send_replace(());
    }

    /// What was read from the tables may not hold any more.
    fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::SeqCst);
    }

    /// What all of these have passed that have not stopped, and this process has read; none when all have. What
    /// was read here is looked at first: it may only be too low then.
    fn passed<'m>(&self, members: impl Iterator<Item = &'m Member>) -> Option<Position> {
        let read = self.tail.head().position;
        let running = members.filter_map(|member| {
            let progress = member.progress.borrow();
            progress.stopped.is_none().then_some(progress.position)
        });
        running.min().map(|least| least.min(read))
    }

    /// Tells those who wait how far all projectors have come.
    fn publish(&self) {
        if let Some(least) = self.passed(self.members.iter()) {
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
            anew: false,
        };
        Self {
            is_source: SOURCES.contains(&projector.name()),
            projector,
            progress: watch::Sender::new(progress),
            place: watch::Sender::new(Place::Free),
            called: Notify::new(),
            doubted: Notify::new(),
        }
    }

    async fn reach(
        &self,
        position: Position,
        deadline: Instant,
        is_awaited: impl Fn(&Progress) -> bool,
    ) -> Progress {
        let mut progress = self.progress.subscribe();
        let there = progress.wait_for(|at| at.position >= position || !is_awaited(at));
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

    /// Moves the copy of this process over what it doesn't hear, if it has done all that came before.
    fn pass(&self, from: Position, to: Position) -> bool {
        self.progress.send_if_modified(|progress| {
            let passes = progress.session.is_some() && progress.position == from;
            if passes {
                progress.position = to;
            }
            passes
        })
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
    /// Says whether the tables may be older than they were known to be.
    fn saw(&self, seen: Sighting, head: &Head) -> bool {
        if let Some(session) = self.progress.borrow().session {
            if seen.session != Some(session) {
                self.doubted.notify_one();
            }
            return false;
        }
        let mut is_older = false;
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
            let is_news =
                (&progress.stopped, progress.position, progress.anew) != (&stopped, position, stored < mine);
            is_older = position < progress.position || progress.stopped != stopped;
            progress.stopped = stopped;
            progress.position = position;
            progress.anew = stored < mine;
            if stored == mine {
                is_older |= seen.position < progress.committed;
                progress.committed = progress.committed.max(seen.position);
            }
            is_news
        });
        is_older
    }
}

fn other_version(name: &str, mine: i32, stored: i32) -> String {
    format!("{name} is version {mine}, its tables are version {stored}")
}

/// What the database answers, unless it takes too long.
async fn in_time<T, E: From<sqlx::Error>>(
    within: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(within, asked)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()))
}

pub(crate) fn hears(projector: &dyn Projector, event: &Recorded) -> bool {
    let kinds = projector.kinds();
    event.event.as_ref().is_some_and(|it| kinds.contains(&event.kind.as_str()) && projector.heeds(it))
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
mod tests;
