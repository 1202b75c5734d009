//! Drafts, and what is to be posted at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::draft::Content;
use domain::log::Recorded;
use domain::{DraftId, Event, UserId};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::{MAX_ITEMS, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Fills `read.drafts`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "drafts"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["drafts"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["draft.saved", "draft.changed", "draft.deleted", "draft.posted", "draft.failed", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                sqlx::query("delete from drafts where user_id = $1").bind(user.0).execute(&mut *tx).await?;
            }
        }
        Ok(())
    }
}

/// What there is of one at the end of a batch.
struct Left<'e> {
    user: UserId,
    content: &'e Content,
    scheduled_at: Option<DateTime<Utc>>,
    reason: Option<&'e str>,
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
    let mut drafts: BTreeMap<Uuid, Option<Left<'_>>> = BTreeMap::new();
    for (_, event) in events(batch) {
        let (id, left) = match event {
            Event::DraftSaved(e) => {
                let (user, content, scheduled_at) = (e.user, &e.content, e.scheduled_at);
                (e.id, Some(Left { user, content, scheduled_at, reason: None }))
            }
            Event::DraftChanged(e) => {
                (e.id, Some(Left { user: e.user, content: &e.content, scheduled_at: None, reason: None }))
            }
            Event::DraftFailed(e) => {
                let reason = Some(e.reason.as_str());
                (e.id, Some(Left { user: e.user, content: &e.content, scheduled_at: None, reason }))
            }
            Event::DraftDeleted(e) => (e.id, None),
            Event::DraftPosted(e) => (e.id, None),
            _ => continue,
        };
        drafts.insert(id.0, left);
    }
    let gone: Vec<Uuid> = drafts.iter().filter(|(_, left)| left.is_none()).map(|(id, _)| *id).collect();
    if !gone.is_empty() {
        sqlx::query("delete from drafts where id = any($1)").bind(gone).execute(&mut *tx).await?;
    }
    let (mut ids, mut people, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    let (mut times, mut reasons) = (Vec::new(), Vec::new());
    for (id, left) in drafts.into_iter().filter_map(|(id, left)| Some((id, left?))) {
        ids.push(id);
        people.push(left.user.0);
        contents.push(Json(Value::Object(sql::fields(left.content)?)));
        times.push(left.scheduled_at);
        reasons.push(left.reason.map(|reason| sql::clean(reason).into_owned()));
    }
    if !ids.is_empty() {
        sqlx::query(
            "insert into drafts (id, user_id, content, scheduled_at, reason)
             select id, user_id, content, scheduled_at, reason
               from unnest($1::uuid[], $2::uuid[], $3::jsonb[], $4::timestamptz[], $5::text[])
                    as d(id, user_id, content, scheduled_at, reason)
             on conflict (id) do update
                set content = excluded.content, scheduled_at = excluded.scheduled_at, reason = excluded.reason",
        )
        .bind(ids)
        .bind(people)
        .bind(contents)
        .bind(times)
        .bind(reasons)
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// A note that is not written yet.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftRow {
    pub id: DraftId,
    pub user: UserId,
    pub content: Content,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub reason: Option<String>,
}

fn row(row: &PgRow) -> sqlx::Result<DraftRow> {
    Ok(DraftRow {
        id: DraftId(row.try_get("id")?),
        user: UserId(row.try_get("user_id")?),
        content: row.try_get::<Json<Content>, _>("content")?.0,
        scheduled_at: row.try_get("scheduled_at")?,
        reason: row.try_get("reason")?,
    })
}

const COLUMNS: &str = "d.id, d.user_id, d.content, d.scheduled_at, d.reason";

/// A person's drafts.
pub async fn of_user(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<DraftRow>> {
    let order = page.order();
    let sql = format!(
        "select {COLUMNS} from read.drafts d
          where d.user_id = $1 and d.scheduled_at is null and d.id > $2 and d.id < $3
          order by d.id {order} limit $4"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    rows.iter().map(row).collect()
}

/// How many drafts a person has.
pub async fn count(pool: &PgPool, user: UserId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from read.drafts where user_id = $1 and scheduled_at is null")
        .bind(user.0)
        .fetch_one(pool)
        .await
}

/// One of a person's drafts.
pub async fn by_id(pool: &PgPool, user: UserId, id: DraftId) -> sqlx::Result<Option<DraftRow>> {
    let sql = format!(
        "select {COLUMNS} from read.drafts d where d.id = $1 and d.user_id = $2 and d.scheduled_at is null"
    );
    let found = sqlx::query(AssertSqlSafe(sql)).bind(id.0).bind(user.0).fetch_optional(pool).await?;
    found.as_ref().map(row).transpose()
}

/// What a person has posted later; what comes first is first.
pub async fn scheduled(pool: &PgPool, user: UserId, limit: u16, offset: u32) -> sqlx::Result<Vec<DraftRow>> {
    let sql = format!(
        "select {COLUMNS} from read.drafts d
          where d.user_id = $1 and d.scheduled_at is not null
          order by d.scheduled_at, d.id limit $2 offset $3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(i64::from(limit.min(MAX_ITEMS)))
        .bind(i64::from(offset))
        .fetch_all(pool)
        .await?;
    rows.iter().map(row).collect()
}

/// What is to be posted until then, with its time, whose time comes first.
pub async fn due(
    pool: &PgPool,
    until: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<((UserId, DraftId), DateTime<Utc>)>> {
    let rows: Vec<(Uuid, Uuid, DateTime<Utc>)> = sqlx::query_as(
        "select user_id, id, scheduled_at from read.drafts
          where scheduled_at <= $1 order by scheduled_at, id limit $2",
    )
    .bind(until)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(user, id, at)| ((UserId(user), DraftId(id)), at)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, at, user};
    use domain::NoteId;
    use domain::draft::{Changed, Deleted, NotPosted, Posted, Saved};

    fn says(text: &str) -> Content {
        Content { text: Some(text.to_owned()), ..Content::default() }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn drafts_and_what_is_scheduled_are_two_lists(pool: PgPool) {
        for at_once in [true, false] {
            let mut story = Story::new(&pool);
            let mut save = |text: &str, millis: Option<i64>| {
                let (id, scheduled_at) = (DraftId(story.id()), millis.map(|millis| at(NOW + millis)));
                story.says(Saved { id, user: user(1), content: says(text), scheduled_at });
                id
            };
            let (one, two, gone) = (save("one", None), save("two", None), save("gone", None));
            let (late, early) = (save("late", Some(2_000)), save("early", Some(1_000)));
            let failing = save("failing", Some(500));
            if !at_once {
                story.project().await;
            }
            story.says(Changed { id: one, user: user(1), content: says("changed") });
            story.says(Deleted { id: gone, user: user(1) });
            let reason = "no such note".to_owned();
            story.says(NotPosted { id: failing, user: user(1), content: says("failing"), reason });
            story.project().await;
            let drafts = of_user(&pool, user(1), &Page::newest(10)).await.unwrap();
            let told: Vec<_> =
                drafts.iter().map(|d| (d.id, d.content.text.as_deref(), d.reason.as_deref())).collect();
            assert_eq!(
                told,
                [
                    (failing, Some("failing"), Some("no such note")),
                    (two, Some("two"), None),
                    (one, Some("changed"), None)
                ]
            );
            assert_eq!(count(&pool, user(1)).await.unwrap(), 3);
            assert_eq!(by_id(&pool, user(1), one).await.unwrap().unwrap().id, one);
            assert_eq!(by_id(&pool, user(2), one).await.unwrap(), None);
            let ids = |rows: Vec<DraftRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
            assert_eq!(ids(scheduled(&pool, user(1), 10, 0).await.unwrap()), [early, late]);
            assert_eq!(ids(scheduled(&pool, user(1), 10, 1).await.unwrap()), [late]);
            let due = async |millis| -> Vec<_> {
                let due = due(&pool, at(NOW + millis), 10).await.unwrap();
                due.into_iter().map(|(draft, _)| draft).collect()
            };
            assert_eq!(due(999).await, []);
            assert_eq!(due(2_000).await, [(user(1), early), (user(1), late)]);
            story.says(Posted { id: early, user: user(1), note: NoteId(early.0) });
            story.project().await;
            assert_eq!(due(2_000).await, [(user(1), late)]);
            story.empty().await;
        }
    }
}
