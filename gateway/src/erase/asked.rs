//! People who asked to be erased: they are gone at once from all that is shown, and soon from the disk.
//!
//! Rewriting the tables makes readers wait, and whoever may sign up may ask for it. So it is done for several
//! people together, by one process, and not too often; what is asked stands in a table, and survives a restart.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::UserId;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Certificate, EraseError, Eraser};

/// How often it is looked for people who asked.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two times that the tables are rewritten.
pub const SCRUB_EVERY: TimeDelta = TimeDelta::hours(6);
/// The most people erased together.
const MAX_AT_ONCE: i64 = 1_000;
/// The lock of the process that does it.
const LOCK: &str = "hashtextextended('kiroku.erasures', 0)";

/// Notes that somebody asked, before anything is done.
pub async fn ask(eraser: &Eraser, user: UserId) -> sqlx::Result<()> {
    sqlx::query("insert into ops.erasures (user_id, asked_at) values ($1, $2) on conflict do nothing")
        .bind(user.0)
        .bind(eraser.clock.now())
        .execute(&eraser.pool)
        .await?;
    Ok(())
}

/// Runs for ever.
pub async fn run(eraser: Arc<Eraser>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match finish(&eraser, SCRUB_EVERY).await {
            Ok(certificates) => {
                for certificate in certificates {
                    tracing::info!(user.id = %certificate.user, complete = certificate.is_complete(), "erased");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "those who asked are not erased from the disk; trying again")
            }
        }
    }
}

/// Erases everybody who asked to the end, unless another process does, or did lately.
pub async fn finish(eraser: &Eraser, unless_within: TimeDelta) -> Result<Vec<Certificate>, EraseError> {
    if waiting(eraser, unless_within).await?.is_empty() {
        return Ok(Vec::new());
    }
    // A connection of its own: the lock goes with it, whatever happens.
    let mut lock = PgConnection::connect_with(&eraser.pool.connect_options()).await?;
    let is_mine: bool =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select pg_try_advisory_lock({LOCK})")))
            .fetch_one(&mut lock)
            .await?;
    let people = if is_mine { waiting(eraser, unless_within).await? } else { Vec::new() };
    let certificates = if people.is_empty() { Vec::new() } else { eraser.erase_all(&people).await? };
    for certificate in &certificates {
        sqlx::query("update ops.erasures set done_at = $2, certificate = $3 where user_id = $1")
            .bind(certificate.user.0)
            .bind(eraser.clock.now())
            .bind(Json(certificate))
            .execute(&eraser.pool)
            .await?;
    }
    lock.close().await?;
    Ok(certificates)
}

/// Who is to be erased now.
async fn waiting(eraser: &Eraser, unless_within: TimeDelta) -> sqlx::Result<Vec<UserId>> {
    let last: Option<DateTime<Utc>> =
        sqlx::query_scalar("select max(done_at) from ops.erasures").fetch_one(&eraser.pool).await?;
    if last.is_some_and(|last| eraser.clock.now() - last < unless_within) {
        return Ok(Vec::new());
    }
    let people: Vec<Uuid> = sqlx::query_scalar(
        "select user_id from ops.erasures where done_at is null order by asked_at, user_id limit $1",
    )
    .bind(MAX_AT_ONCE)
    .fetch_all(&eraser.pool)
    .await?;
    Ok(people.into_iter().map(UserId).collect())
}
