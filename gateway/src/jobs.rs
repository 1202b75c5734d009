//! Does what people were promised ([`ops::jobs`](crate::ops::jobs)): exports and imports, one after the other, so
//! that they don't take the server from those who use it.
//!
//! A process that dies leaves its job to the next, which goes on from where it had come. Each piece of it can be done
//! again: what it makes has ids of the job's own, and the end of an export is an event that can be appended once.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::api::error::{Kind, RATE_LIMIT_EXCEEDED};
use crate::api::{ApiError, SignedIn};
use crate::app::App;
use crate::misskey::{emoji_archive, export, import};
use crate::ops::jobs::{Job, LEASE, TooMuchWork, Work};
use crate::platform::shutdown::Shutdown;

/// How often it is looked for work when nothing is heard of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often is said that a job is being worked at.
const HOLD_EVERY: Duration = Duration::from_secs(5);
/// After how many seconds to ask again who has asked for too much.
const FULL_SECONDS: u64 = 60;

/// Promises work to somebody.
pub async fn ask(app: &App, me: &SignedIn, work: Work) -> Result<(), ApiError> {
    let now = app.now();
    Ok(app.core.jobs.ask(app.ids.at(now), me.id(), &work, now).await?)
}

impl From<TooMuchWork> for ApiError {
    fn from(TooMuchWork: TooMuchWork) -> Self {
        ApiError::from(RATE_LIMIT_EXCEEDED).retry_after(FULL_SECONDS)
    }
}

/// Runs until the server stops; what it has in its hands then is the next one's.
pub async fn run(app: App, shutdown: Shutdown) {
    let jobs = &app.core.jobs;
    let _working = jobs.working().await;
    while shutdown.begun().is_none() {
        let now = app.now();
        let job = match jobs.take(app.ids.at(now), now).await {
            Ok(Some(job)) => job,
            nothing => {
                if let Err(error) = nothing {
                    tracing::warn!(%error, "it can't be looked for work; trying again");
                }
                tokio::select! {
                    _ = shutdown.wait() => (),
                    _ = timeout(LOOK_EVERY, jobs.news.notified()) => (),
                }
                continue;
            }
        };
        tokio::select! {
            _ = shutdown.wait() => {
                if let Err(error) = jobs.let_go(&job, app.now()).await {
                    tracing::warn!(job.id = %job.id, %error, "a job waits until somebody misses it");
                }
            }
            () = attempt(&app, &job) => (),
        }
    }
}

async fn attempt(app: &App, job: &Job) {
    let outcome = tokio::select! {
        () = lost(app, job) => {
            tracing::info!(job.id = %job.id, "a job is somebody else's now, or nobody's");
            return;
        }
        outcome = work(app, job) => outcome,
    };
    let jobs = &app.core.jobs;
    let noted = match outcome {
        Ok(()) => jobs.done(job).await.map(|()| true),
        Err(error) if error.def().kind != Kind::Server => {
            tracing::warn!(job.id = %job.id, ?error, "a job can't be done");
            jobs.done(job).await.map(|()| true)
        }
        Err(error) => {
            tracing::warn!(job.id = %job.id, ?error, "a job failed; trying again");
            jobs.again(job, app.now()).await
        }
    };
    match noted {
        Ok(true) => (),
        Ok(false) => tracing::warn!(job.id = %job.id, "a job is given up"),
        Err(error) => tracing::warn!(job.id = %job.id, %error, "a job may be done again"),
    }
}

/// Says again and again that the job is being worked at; returns when it isn't this process's any more, or may not
/// be.
async fn lost(app: &App, job: &Job) {
    let lease = LEASE.to_std().unwrap_or_default();
    let mut heard = Instant::now();
    loop {
        sleep(HOLD_EVERY).await;
        let asked = Instant::now();
        match app.core.jobs.hold(job, app.now()).await {
            Ok(true) => heard = asked,
            Ok(false) => return,
            Err(_) if heard.elapsed() + HOLD_EVERY < lease => (),
            Err(_) => return,
        }
    }
}

async fn work(app: &App, job: &Job) -> Result<(), ApiError> {
    let Some(work) = &job.work else { return Err(ApiError::internal("this program doesn't know such work")) };
    let account = app.core.accounts.account(job.user).await?;
    let Some(account) = account.filter(|account| !account.is_suspended && !account.is_deleted) else {
        return Ok(());
    };
    let me = SignedIn { account, app: None };
    match work {
        Work::Export { entity, without_muted, without_inactive } => {
            let leave_out = export::LeaveOut { muted: *without_muted, inactive: *without_inactive };
            export::run(app, &me, job, *entity, leave_out).await
        }
        Work::Follow { text, with_replies } => {
            import::people(app, &me, job, text, import::Act::Follow { with_replies: *with_replies }).await
        }
        Work::Block { text } => import::people(app, &me, job, text, import::Act::Block).await,
        Work::Mute { text } => import::people(app, &me, job, text, import::Act::Mute).await,
        Work::Lists { text } => import::lists(app, &me, job, text).await,
        Work::Antennas { text } => import::antennas(app, &me, job, text).await,
        Work::Emoji { file } => emoji_archive::import(app, &me, job, *file).await,
    }
}

/// Takes note that a job has been done up to here.
pub async fn reached(app: &App, job: &Job, done: usize) -> Result<(), ApiError> {
    let reached = i32::try_from(done).unwrap_or(i32::MAX);
    // Whose job it isn't any more is stopped where it says that it is at it.
    app.core.jobs.reach(job, reached, app.now()).await?;
    Ok(())
}
