//! Advertisements.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Datelike, Utc};
use domain::ad::Definition;
use domain::log::Recorded;
use domain::{AdId, Event};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};

use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// The most advertisements that are shown at one time.
pub const MAX_SHOWN: i64 = 1_000;

/// Fills `read.ads`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "ads"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["ads"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["ad.created", "ad.changed", "ad.deleted"]
    }

    // There are few of them: each event is written by itself.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (_, event) in events(batch) {
            match event {
                Event::AdCreated(e) => define(tx, e.ad, &e.definition).await?,
                Event::AdChanged(e) => define(tx, e.ad, &e.definition).await?,
                Event::AdDeleted(e) => {
                    sqlx::query("delete from ads where id = $1").bind(e.ad.0).execute(&mut *tx).await?;
                }
                _ => (),
            }
        }
        Ok(())
    }
}

async fn define(tx: &mut PgConnection, id: AdId, definition: &Definition) -> Result<(), ProjectError> {
    sqlx::query(
        "insert into ads (id, starts_at, expires_at, day_of_week, definition) values ($1, $2, $3, $4, $5)
         on conflict (id) do update
            set starts_at = excluded.starts_at, expires_at = excluded.expires_at,
                day_of_week = excluded.day_of_week, definition = excluded.definition",
    )
    .bind(id.0)
    .bind(definition.starts_at)
    .bind(definition.expires_at)
    .bind(definition.day_of_week)
    .bind(Json(sql::fields(definition)?))
    .execute(tx)
    .await?;
    Ok(())
}

/// An advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdRow {
    pub id: AdId,
    pub definition: Definition,
}

fn ad_row(row: &PgRow) -> sqlx::Result<AdRow> {
    Ok(AdRow {
        id: AdId(row.try_get("id")?),
        definition: row.try_get::<Json<Definition>, _>("definition")?.0,
    })
}

/// Advertisements; all of them, or those that are shown now or are not.
pub async fn list(
    pool: &PgPool,
    is_shown: Option<bool>,
    now: DateTime<Utc>,
    page: &Page,
) -> sqlx::Result<Vec<AdRow>> {
    let order = page.order();
    let sql = format!(
        "select id, definition from read.ads
          where id > $1 and id < $2
            and ($4::boolean is null or (starts_at <= $5 and expires_at > $5) = $4)
          order by id {order} limit $3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(is_shown)
        .bind(now)
        .fetch_all(pool)
        .await?;
    rows.iter().map(ad_row).collect()
}

/// Those that are to be shown at an instant.
pub async fn shown(pool: &PgPool, now: DateTime<Utc>) -> sqlx::Result<Vec<AdRow>> {
    let today = 1 << now.weekday().num_days_from_sunday();
    let rows = sqlx::query(
        "select id, definition from read.ads
          where starts_at <= $1 and expires_at > $1 and (day_of_week = 0 or day_of_week & $2 > 0)
          order by id limit $3",
    )
    .bind(now)
    .bind(today)
    .bind(MAX_SHOWN)
    .fetch_all(pool)
    .await?;
    rows.iter().map(ad_row).collect()
}
