//! The active copy of a projector: takes its place, and applies batches until it is asked to stop or meets
//! trouble.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use domain::log::{LogError, Position, Recorded};
use futures_util::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    LIVE_SCHEMA, Member, ProjectError, Projector, Shared, hears, in_time, other_version, to_position, version,
};
use crate::backoff::{Backoff, LONGEST_PAUSE, stopped};
use crate::erased;
use crate::lease::{self, Place};
use crate::rebuild::{self, RebuildError};

/// Events given to a projector at once; one append more may be in it.
const MAX_BATCH_EVENTS: usize = 1_000;
/// How long the database may take to connect, or to apply a batch.
const BATCH_WITHIN: Duration = Duration::from_secs(60);
/// The same for a batch in which somebody is erased, who may have written for many years.
const ERASED_WITHIN: Duration = Duration::from_secs(3_600);
/// How often a checkpoint is saved that moved over unheard events.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Why a projector lost its place.
enum Trouble {
    /// Worth another try.
    Passing(String),
    /// The projector can't go on.
    Final(String),
}

pub(super) async fn run(
    shared: Arc<Shared>,
    index: usize,
    options: Arc<PgConnectOptions>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(member) = shared.members.get(index) else { return };
    let name = member.projector.name();
    // No plan here runs for long enough to be worth compiling, though the planner may think so; nor do other
    // parameters make another plan worth its time.
    let session = [
        ("synchronous_commit", "off"),
        ("search_path", LIVE_SCHEMA),
        ("plan_cache_mode", "force_generic_plan"),
        ("jit", "off"),
    ];
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
        let mut conn = in_time(BATCH_WITHIN, PgConnection::connect_with(options)).await?;
        if found == Place::Hung && in_time(BATCH_WITHIN, lease::end_hanging(&mut conn, name)).await? {
            tracing::warn!(projector = name, "its active copy hung and was ended");
        }
        if let Some(session) = in_time(BATCH_WITHIN, lease::take(&mut conn, name)).await? {
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
    let mut saved = match in_time(BATCH_WITHIN, open(&mut conn, projector)).await? {
        Opened::At(position) => position,
        Opened::Older => {
            tracing::info!(projector = projector.name(), "a new version: building its tables again");
            // It has its place, which others would take otherwise.
            member.set(Position::START, Position::START, session);
            member.progress.send_modify(|progress| progress.anew = true);
            let log = Arc::clone(&shared.log);
            if !rebuild::replace(options, log, Arc::clone(&member.projector), stop).await? {
                return Ok(());
            }
            match in_time(BATCH_WITHIN, open(&mut conn, projector)).await? {
                Opened::At(position) => position,
                Opened::Older => return Err(Trouble::Passing("its tables are older again".to_owned())),
            }
        }
    };
    member.progress.send_modify(|progress| (progress.stopped, progress.anew) = (None, false));
    member.set(saved, saved, session);
    // It goes on from where the tables are, which may be before where they were.
    shared.doubt();
    shared.publish();

    let mut due = interval(SAVE_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // After a failure: so many events are applied append by append, to find the one at fault.
    let mut careful = 0_usize;
    while !*stop.borrow() {
        // It may have been moved over what it doesn't hear.
        let position = member.progress.borrow().position;
        let head = shared.tail.head();
        if head.position <= position {
            if let Some(reason) = head.broken {
                return Err(Trouble::Final(reason.to_string()));
            }
            tokio::select! {
                () = stopped(stop) => (),
                () = member.called.notified() => (),
                _ = due.tick() => {
                    let position = member.progress.borrow().position;
                    if saved != position {
                        in_time(BATCH_WITHIN, save(&mut conn, projector, saved, position)).await?;
                        saved = position;
                        member.committed(saved);
                    }
                }
                () = member.doubted.notified() => {
                    if in_time(BATCH_WITHIN, lease::take(&mut conn, projector.name())).await?.is_none() {
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
            if due.tick().now_or_never().is_some() {
                in_time(BATCH_WITHIN, save(&mut conn, projector, saved, reached)).await?;
                saved = reached;
            }
        } else {
            let erases = heard.iter().any(|event| erased::who(event).is_some());
            let within = if erases { ERASED_WITHIN } else { BATCH_WITHIN };
            match in_time(within, project(&mut conn, projector, saved, reached, &heard)).await {
                Ok(()) => saved = reached,
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
        member.set(reached, saved, session);
        shared.publish();
        shared.moved.send_replace(());
    }
    let position = member.progress.borrow().position;
    if saved != position {
        in_time(BATCH_WITHIN, save(&mut conn, projector, saved, position)).await?;
    }
    conn.close().await?;
    Ok(())
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
            RebuildError::Apply { source: ProjectError::Sql(ref source), .. }
            | RebuildError::View { ref source, .. }
                if is_passing(source) =>
            {
                Self::Passing(error.to_string())
            }
            RebuildError::Apply { .. }
            | RebuildError::View { .. }
            | RebuildError::InTheWay { .. }
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
pub fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // A session that the server ends says nothing of the statement, whatever the code: on a full disk,
        // for instance, nobody can even connect.
        sqlx::Error::Database(error)
            if error
                .try_downcast_ref::<PgDatabaseError>()
                .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)) =>
        {
            true
        }
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection, transaction rollback, resources, operator, system.
            ["08", "40", "53", "57", "58"].contains(&code.get(..2).unwrap_or_default())
                // A server that has become a replica, a transaction that took too long, a lock not got.
                || ["25006", "25P03", "55P03"].contains(&code.as_ref())
        }),
        _ => false,
    }
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
