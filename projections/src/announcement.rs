//! Announcements, and who has read them.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::announcement::Definition;
use domain::log::Recorded;
use domain::{AnnouncementId, Event, UserId};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::page::{MAX_ITEMS, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// The most unread announcements that somebody is told of at once.
pub const MAX_UNREAD: i64 = 100;

/// Fills `read.announcements` and `read.announcement_reads`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "announcements"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["announcements", "announcement_reads"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "announcement.created",
            "announcement.changed",
            "announcement.deleted",
            "announcement.read",
            "user.erased",
        ]
    }

    // There are few announcements and many who read them: what is read is written together.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        let mut reads = Reads::default();
        for (recorded, event) in events(batch) {
            if let Event::AnnouncementRead(e) = event {
                reads.announcements.push(e.announcement.0);
                reads.people.push(e.user.0);
                reads.at.push(recorded.at);
                continue;
            }
            std::mem::take(&mut reads).write(tx).await?;
            match event {
                Event::AnnouncementCreated(e) => define(tx, e.announcement, &e.definition, None).await?,
                Event::AnnouncementChanged(e) => {
                    define(tx, e.announcement, &e.definition, Some(recorded.at)).await?;
                }
                Event::AnnouncementDeleted(e) => {
                    run(tx, "delete from announcement_reads where announcement_id = $1", e.announcement.0)
                        .await?;
                    run(tx, "delete from announcements where id = $1", e.announcement.0).await?;
                }
                Event::UserErased(e) => {
                    run(tx, "delete from announcement_reads where user_id = $1", e.user.0).await?;
                    run(tx, "delete from announcements where user_id = $1", e.user.0).await?;
                }
                _ => (),
            }
        }
        Ok(reads.write(tx).await?)
    }
}

async fn run(tx: &mut PgConnection, statement: &'static str, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(statement).bind(id).execute(tx).await?;
    Ok(())
}

#[derive(Default)]
struct Reads {
    announcements: Vec<Uuid>,
    people: Vec<Uuid>,
    at: Vec<DateTime<Utc>>,
}

impl Reads {
    async fn write(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        if self.announcements.is_empty() {
            return Ok(());
        }
        // What is for one person is done with when it is read.
        sqlx::query("update announcements set is_active = false where id = any($1) and user_id is not null")
            .bind(&self.announcements)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "insert into announcement_reads (user_id, announcement_id, read_at)
             select r.user_id, r.announcement_id, r.read_at
               from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as r(user_id, announcement_id, read_at)
              where exists (select 1 from announcements a where a.id = r.announcement_id)
             on conflict do nothing",
        )
        .bind(self.people)
        .bind(self.announcements)
        .bind(self.at)
        .execute(tx)
        .await?;
        Ok(())
    }
}

async fn define(
    tx: &mut PgConnection,
    id: AnnouncementId,
    definition: &Definition,
    changed_at: Option<DateTime<Utc>>,
) -> Result<(), ProjectError> {
    sqlx::query(
        "insert into announcements (id, user_id, is_active, silence, for_existing_users, definition, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (id) do update
            set is_active = excluded.is_active, silence = excluded.silence,
                for_existing_users = excluded.for_existing_users, definition = excluded.definition,
                updated_at = excluded.updated_at",
    )
    .bind(id.0)
    .bind(definition.user.map(|user| user.0))
    .bind(definition.is_active)
    .bind(definition.silence)
    .bind(definition.for_existing_users)
    .bind(Json(sql::fields(definition)?))
    .bind(changed_at)
    .execute(tx)
    .await?;
    Ok(())
}

/// An announcement.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnouncementRow {
    pub id: AnnouncementId,
    pub definition: Definition,
    pub updated_at: Option<DateTime<Utc>>,
    /// Whether the viewer has read it.
    pub is_read: bool,
}

fn announcement_row(row: &PgRow) -> sqlx::Result<AnnouncementRow> {
    let mut definition = row.try_get::<Json<Definition>, _>("definition")?.0;
    definition.is_active = row.try_get("is_active")?;
    Ok(AnnouncementRow {
        id: AnnouncementId(row.try_get("id")?),
        definition,
        updated_at: row.try_get("updated_at")?,
        is_read: row.try_get("is_read")?,
    })
}

const COLUMNS: &str = "a.id, a.definition, a.is_active, a.updated_at,
    exists (select 1 from read.announcement_reads r where r.user_id = $1 and r.announcement_id = a.id) as is_read";

/// Announcements for everybody and those for the viewer alone, in the order in which they are to be shown.
pub async fn list(
    pool: &PgPool,
    viewer: Option<UserId>,
    is_active: bool,
    page: &Page,
    offset: u32,
) -> sqlx::Result<Vec<AnnouncementRow>> {
    let order = page.order();
    let sql = format!(
        "select {COLUMNS}
           from read.announcements a
          where a.id > $2 and a.id < $3 and a.is_active = $5 and (a.user_id is null or a.user_id = $1)
          order by (a.definition ->> 'display_order')::int desc, a.id {order}
          limit $4 offset $6"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|user| user.0))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(is_active)
        .bind(i64::from(offset))
        .fetch_all(pool)
        .await?;
    rows.iter().map(announcement_row).collect()
}

/// One announcement, if it is for everybody or for the viewer.
pub async fn by_id(
    pool: &PgPool,
    id: AnnouncementId,
    viewer: Option<UserId>,
) -> sqlx::Result<Option<AnnouncementRow>> {
    let sql = format!(
        "select {COLUMNS} from read.announcements a
          where a.id = $2 and (a.user_id is null or a.user_id = $1)"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|user| user.0))
        .bind(id.0)
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(announcement_row).transpose()
}

/// What somebody hasn't read yet, the newest first. Whoever came after an announcement for those who were there
/// has nothing to read.
pub async fn unread(pool: &PgPool, user: UserId) -> sqlx::Result<Vec<AnnouncementRow>> {
    let rows = sqlx::query(
        "select a.id, a.definition, a.is_active, a.updated_at, false as is_read
           from read.announcements a
          where a.is_active and not a.silence and (a.user_id is null or a.user_id = $1)
            and (not a.for_existing_users or a.id > $1)
            and not exists (select 1 from read.announcement_reads r
                             where r.user_id = $1 and r.announcement_id = a.id)
          order by a.id desc limit $2",
    )
    .bind(user.0)
    .bind(MAX_UNREAD)
    .fetch_all(pool)
    .await?;
    rows.iter().map(announcement_row).collect()
}

/// An announcement as those who made it see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedRow {
    pub announcement: AnnouncementRow,
    /// How many have read it, and when somebody did last.
    pub reads: i64,
    pub last_read_at: Option<DateTime<Utc>>,
}

/// Which announcements are listed for those who made them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Those for this person; those for everybody without one.
    pub user: Option<UserId>,
    pub is_active: Option<bool>,
}

pub async fn list_all(
    pool: &PgPool,
    filter: Filter,
    page: &Page,
    offset: u32,
) -> sqlx::Result<Vec<ListedRow>> {
    let rows = sqlx::query(
        "select a.id, a.definition, a.is_active, a.updated_at, false as is_read, r.reads, r.last_read_at
           from read.announcements a
          cross join lateral (
                select count(*) as reads, max(r.read_at) as last_read_at
                  from read.announcement_reads r where r.announcement_id = a.id) r
          where a.user_id is not distinct from $1 and ($2::boolean is null or a.is_active = $2)
            and a.id > $3 and a.id < $4
          order by a.id desc limit $5 offset $6",
    )
    .bind(filter.user.map(|user| user.0))
    .bind(filter.is_active)
    .bind(page.since())
    .bind(page.until())
    .bind(i64::from(page.limit.min(MAX_ITEMS)))
    .bind(i64::from(offset))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ListedRow {
                announcement: announcement_row(row)?,
                reads: row.try_get("reads")?,
                last_read_at: row.try_get("last_read_at")?,
            })
        })
        .collect()
}
