//! Invitations: codes, who made them and who used them.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::{Event, InvitationId, UserId};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::page::{MAX_ITEMS, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Fills `read.invitations`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "invitations"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["invitations"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["invitation.created", "invitation.deleted", "invitation.used", "user.erased"]
    }

    // Few people invite, and each code is used once: each event is written by itself.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (recorded, event) in events(batch) {
            match event {
                Event::InvitationCreated(e) => {
                    sqlx::query(
                        "insert into invitations (id, code, created_by, expires_at) values ($1, $2, $3, $4)",
                    )
                    .bind(e.invitation.0)
                    .bind(sql::clean(&e.code))
                    .bind(e.by.0)
                    .bind(e.expires_at)
                    .execute(&mut *tx)
                    .await?;
                }
                Event::InvitationDeleted(e) => {
                    sqlx::query("delete from invitations where id = $1")
                        .bind(e.invitation.0)
                        .execute(&mut *tx)
                        .await?;
                }
                Event::InvitationUsed(e) => {
                    sqlx::query("update invitations set used_by = $2, used_at = $3 where id = $1")
                        .bind(e.invitation.0)
                        .bind(e.user.0)
                        .bind(recorded.at)
                        .execute(&mut *tx)
                        .await?;
                }
                Event::UserErased(e) => {
                    for statement in [
                        "delete from invitations where created_by = $1",
                        "update invitations set used_by = null where used_by = $1",
                    ] {
                        sqlx::query(statement).bind(e.user.0).execute(&mut *tx).await?;
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationRow {
    pub id: InvitationId,
    pub code: String,
    pub created_by: UserId,
    pub expires_at: Option<DateTime<Utc>>,
    /// None also when whoever used it has been erased.
    pub used_by: Option<UserId>,
    pub used_at: Option<DateTime<Utc>>,
}

fn invitation_row(row: &PgRow) -> sqlx::Result<InvitationRow> {
    Ok(InvitationRow {
        id: InvitationId(row.try_get("id")?),
        code: row.try_get("code")?,
        created_by: UserId(row.try_get("created_by")?),
        expires_at: row.try_get("expires_at")?,
        used_by: row.try_get::<Option<Uuid>, _>("used_by")?.map(UserId),
        used_at: row.try_get("used_at")?,
    })
}

const COLUMNS: &str = "id, code, created_by, expires_at, used_by, used_at";

/// The invitations of one person.
pub async fn of_user(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<InvitationRow>> {
    let order = page.order();
    let sql = format!(
        "select {COLUMNS} from read.invitations
          where created_by = $1 and id > $2 and id < $3 order by id {order} limit $4"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    rows.iter().map(invitation_row).collect()
}

/// How many invitations of one person there are that were made after an instant.
pub async fn count_since(pool: &PgPool, user: UserId, since: DateTime<Utc>) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from read.invitations where created_by = $1 and id > $2")
        .bind(user.0)
        .bind(domain::first_of(since))
        .fetch_one(pool)
        .await
}

pub async fn by_id(pool: &PgPool, id: InvitationId) -> sqlx::Result<Option<InvitationRow>> {
    let sql = format!("select {COLUMNS} from read.invitations where id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(pool).await?;
    row.as_ref().map(invitation_row).transpose()
}

/// In which state invitations are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    All,
    /// They can still be used.
    Unused,
    Used,
    Expired,
}

/// By what they are sorted, and whether the greatest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    CreatedAt { descending: bool },
    UsedAt { descending: bool },
}

pub async fn list(
    pool: &PgPool,
    state: State,
    sort: Sort,
    now: DateTime<Utc>,
    limit: u16,
    offset: u32,
) -> sqlx::Result<Vec<InvitationRow>> {
    let state = match state {
        State::All => "$3 = $3",
        State::Unused => "used_at is null and (expires_at is null or expires_at > $3)",
        State::Used => "used_at is not null and $3 = $3",
        State::Expired => "used_at is null and expires_at <= $3",
    };
    let order = match sort {
        Sort::CreatedAt { descending: true } => "id desc",
        Sort::CreatedAt { descending: false } => "id asc",
        Sort::UsedAt { descending: true } => "used_at desc nulls last, id desc",
        Sort::UsedAt { descending: false } => "used_at asc nulls first, id asc",
    };
    let sql =
        format!("select {COLUMNS} from read.invitations where {state} order by {order} limit $1 offset $2");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(i64::from(limit.min(MAX_ITEMS)))
        .bind(i64::from(offset))
        .bind(now)
        .fetch_all(pool)
        .await?;
    rows.iter().map(invitation_row).collect()
}
