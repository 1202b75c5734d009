//! Works that people show, and who likes them. A like of a work that isn't there any more is nobody's.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::work::{Content, Kind};
use domain::{Event, UserId, WorkId, WorkLikeId, ids};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Fills `read.works` and `read.work_likes`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "works"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["works", "work_likes"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["work.created", "work.changed", "work.deleted", "work.liked", "work.unliked", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            // One by one: works are made and changed seldom.
            for (recorded, event) in events(part) {
                write(tx, event, recorded.at).await?;
            }
            if let Some(user) = erased {
                purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, event: &Event, at: DateTime<Utc>) -> Result<(), ProjectError> {
    match event {
        Event::WorkCreated(e) => {
            sqlx::query(
                "insert into works (id, kind, user_id, name, private, content, updated_at)
                 values ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(e.id.0)
            .bind(e.work.kind().as_str())
            .bind(e.user.0)
            .bind(e.work.name().map(sql::clean))
            .bind(e.work.is_private())
            .bind(Json(sql::fields(&e.work)?))
            .bind(at)
            .execute(tx)
            .await?;
        }
        Event::WorkChanged(e) => {
            sqlx::query(
                "update works set name = coalesce($2, name), private = coalesce($3, private),
                                  content = content || $4, updated_at = $5
                  where id = $1",
            )
            .bind(e.id.0)
            .bind(e.changes.name.as_deref().map(sql::clean))
            .bind(e.changes.private)
            .bind(Json(sql::fields(&e.changes)?))
            .bind(at)
            .execute(tx)
            .await?;
        }
        Event::WorkDeleted(e) => {
            for statement in ["delete from works where id = $1", "delete from work_likes where work_id = $1"]
            {
                sqlx::query(statement).bind(e.id.0).execute(&mut *tx).await?;
            }
        }
        Event::WorkLiked(e) => {
            sqlx::query(
                "with liked as (
                     insert into work_likes (id, work_id, kind, owner, user_id) values ($1, $2, $3, $4, $5)
                     on conflict (work_id, user_id) do nothing returning work_id
                 )
                 update works set likes = likes + 1 where id in (select work_id from liked)",
            )
            .bind(e.id.0)
            .bind(e.work.0)
            .bind(e.kind.as_str())
            .bind(e.owner.0)
            .bind(e.user.0)
            .execute(tx)
            .await?;
        }
        Event::WorkUnliked(e) => {
            sqlx::query(
                "with unliked as (
                     delete from work_likes where work_id = $1 and user_id = $2 returning work_id
                 )
                 update works set likes = likes - 1 where id in (select work_id from unliked)",
            )
            .bind(e.work.0)
            .bind(e.user.0)
            .execute(tx)
            .await?;
        }
        _ => (),
    }
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    for statement in [
        "with unliked as (delete from work_likes where user_id = $1 returning work_id)
         update works set likes = likes - 1 where id in (select work_id from unliked)",
        "delete from work_likes where owner = $1",
        "delete from works where user_id = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkRow {
    pub id: WorkId,
    pub user: UserId,
    pub content: Content,
    pub updated_at: DateTime<Utc>,
    pub likes: i64,
    /// Whether the viewer likes it.
    pub is_liked: bool,
}

/// What is shown of `read.works w`; $1 is the viewer.
const COLUMNS: &str = "w.id, w.user_id, w.content, w.updated_at, w.likes,
    exists (select 1 from read.work_likes l where l.work_id = w.id and l.user_id = $1) as is_liked";

/// Works that the viewer may see: $1 is the viewer.
const VISIBLE: &str = "(not w.private or w.user_id = $1)";

fn work_row(row: &PgRow) -> sqlx::Result<WorkRow> {
    Ok(WorkRow {
        id: WorkId(row.try_get("id")?),
        user: UserId(row.try_get("user_id")?),
        content: row.try_get::<Json<Content>, _>("content")?.0,
        updated_at: row.try_get("updated_at")?,
        likes: row.try_get("likes")?,
        is_liked: row.try_get("is_liked")?,
    })
}

/// One work of a kind, if it is there for the viewer.
pub async fn by_id(
    pool: &PgPool,
    viewer: Option<UserId>,
    kind: Kind,
    id: WorkId,
) -> sqlx::Result<Option<WorkRow>> {
    let sql = format!("select {COLUMNS} from read.works w where w.id = $2 and w.kind = $3 and {VISIBLE}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(id.0)
        .bind(kind.as_str())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(work_row).transpose()
}

/// Those of these works that are there for the viewer.
pub(crate) async fn by_ids(
    pool: &PgPool,
    viewer: Option<UserId>,
    ids: &[WorkId],
) -> sqlx::Result<HashMap<WorkId, WorkRow>> {
    let sql = format!("select {COLUMNS} from read.works w where w.id = any($2) and {VISIBLE}");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| work_row(row).map(|work| (work.id, work))).collect()
}

/// The page of a person with that name, if it is there for the viewer.
pub async fn by_name(
    pool: &PgPool,
    viewer: Option<UserId>,
    owner: UserId,
    name: &str,
) -> sqlx::Result<Option<WorkRow>> {
    let sql =
        format!("select {COLUMNS} from read.works w where w.user_id = $2 and w.name = $3 and {VISIBLE}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(owner.0)
        .bind(sql::clean(name))
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(work_row).transpose()
}

/// Whose work it is, for everybody's eyes or not.
pub async fn owner(pool: &PgPool, id: WorkId) -> sqlx::Result<Option<UserId>> {
    let owner: Option<Uuid> = sqlx::query_scalar("select user_id from read.works where id = $1")
        .bind(id.0)
        .fetch_optional(pool)
        .await?;
    Ok(owner.map(UserId))
}

/// The works of a person that the viewer may see.
pub async fn of_person(
    pool: &PgPool,
    viewer: Option<UserId>,
    kind: Kind,
    owner: UserId,
    page: &Page,
) -> sqlx::Result<Vec<WorkRow>> {
    let sql = format!(
        "select {COLUMNS} from read.works w
          where w.user_id = $2 and w.kind = $3 and w.id > $4 and w.id < $5 and {VISIBLE}
          order by w.id {} limit $6",
        page.order()
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(owner.0)
        .bind(kind.as_str())
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    rows.iter().map(work_row).collect()
}

/// The works that everybody may see: all, or those in which these words are.
pub async fn public(
    pool: &PgPool,
    viewer: Option<UserId>,
    kind: Kind,
    words: Option<&str>,
    page: &Page,
) -> sqlx::Result<Vec<WorkRow>> {
    let found = match words {
        Some(_) => {
            "(position($6 in lower(w.content->>'title')) > 0
                     or position($6 in lower(w.content->>'summary')) > 0)"
        }
        None => "$6::text is null",
    };
    let sql = format!(
        "select {COLUMNS} from read.works w
          where w.kind = $2 and not w.private and w.id > $3 and w.id < $4 and {found}
          order by w.id {} limit $5",
        page.order()
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(kind.as_str())
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(words.map(|words| sql::clean(words).to_lowercase()))
        .fetch_all(pool)
        .await?;
    rows.iter().map(work_row).collect()
}

/// The most liked works that everybody may see.
pub async fn most_liked(
    pool: &PgPool,
    viewer: Option<UserId>,
    kind: Kind,
    limit: u16,
    offset: u32,
) -> sqlx::Result<Vec<WorkRow>> {
    let sql = format!(
        "select {COLUMNS} from read.works w
          where w.kind = $2 and not w.private and w.likes > 0
          order by w.likes desc, w.id desc limit $3 offset $4"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(kind.as_str())
        .bind(i64::from(limit))
        .bind(i64::from(offset))
        .fetch_all(pool)
        .await?;
    rows.iter().map(work_row).collect()
}

/// Of the works most liked since a moment, so many at most, those on this page, the newest first.
pub async fn lately_liked(
    pool: &PgPool,
    viewer: Option<UserId>,
    kind: Kind,
    since: DateTime<Utc>,
    most: u16,
    page: &Page,
) -> sqlx::Result<Vec<WorkRow>> {
    let sql = format!(
        "with liked as (
             select l.work_id from read.work_likes l where l.kind = $2 and l.id >= $3
              group by l.work_id order by count(*) desc, l.work_id desc limit $4
         )
         select {COLUMNS} from read.works w
          where w.id in (select work_id from liked) and not w.private and w.id < $5
          order by w.id desc limit $6"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(kind.as_str())
        .bind(ids::first_of(since))
        .bind(i64::from(most))
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    rows.iter().map(work_row).collect()
}

/// What a person likes of a kind, as far as they may see it: all, or those in which these words are. Pages go by
/// the id of the like.
pub async fn liked_by(
    pool: &PgPool,
    user: UserId,
    kind: Kind,
    words: Option<&str>,
    page: &Page,
) -> sqlx::Result<Vec<(WorkLikeId, WorkRow)>> {
    let found = match words {
        Some(_) => {
            "(position($6 in lower(w.content->>'title')) > 0
                     or position($6 in lower(w.content->>'summary')) > 0)"
        }
        None => "$6::text is null",
    };
    let sql = format!(
        "select m.id as like_id, {COLUMNS}
           from read.work_likes m join read.works w on w.id = m.work_id
          where m.user_id = $1 and m.kind = $2 and m.id > $3 and m.id < $4 and {VISIBLE} and {found}
          order by m.id {} limit $5",
        page.order()
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(kind.as_str())
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(words.map(|words| sql::clean(words).to_lowercase()))
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Ok((WorkLikeId(row.try_get("like_id")?), work_row(row)?))).collect()
}

impl WorkRow {
    /// The files that are shown with it.
    pub fn files(&self) -> Vec<domain::FileId> {
        match &self.content {
            Content::Post(post) => post.files.clone(),
            Content::Page(page) => files_of(&page.content).into_iter().chain(page.image).collect(),
            Content::Play(_) => Vec::new(),
        }
    }
}

/// The files that the content of a page names, as clients write it: blocks with a `fileId`, and blocks in them.
pub fn files_of(content: &Value) -> Vec<domain::FileId> {
    /// Blocks that are looked at.
    const MAX_BLOCKS: usize = 1_000;
    let mut files = Vec::new();
    let mut waiting: Vec<&Value> = vec![content];
    let mut looked_at = 0;
    while let Some(value) = waiting.pop()
        && looked_at < MAX_BLOCKS
    {
        looked_at += 1;
        match value {
            Value::Array(blocks) => waiting.extend(blocks.iter().rev()),
            Value::Object(block) => {
                let file = block.get("fileId").and_then(Value::as_str).and_then(|id| id.parse().ok());
                files.extend(file.filter(|file| !files.contains(file)));
                waiting.extend(block.get("children"));
            }
            _ => (),
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, user};
    use domain::work::{Changes, Deleted, Play, Unliked};
    use serde_json::json;

    fn play(title: &str, private: bool) -> Content {
        Content::Play(Play {
            title: title.to_owned(),
            summary: "About\0 it".to_owned(),
            script: String::new(),
            permissions: Vec::new(),
            private,
        })
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn works_are_listed_liked_changed_and_found(pool: PgPool) {
        let mut story = Story::new(&pool);
        let (first, second) = (story.work(1, play("First", false)), story.work(1, play("Second", false)));
        let hidden = story.work(1, play("Hidden", true));
        let like = story.like(2, 1, first);
        story.like(3, 1, second);
        story.like(2, 1, second);
        story.project().await;

        let (page, kind) = (Page::newest(10), Kind::Play);
        let ids = |rows: Vec<WorkRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        let of = async |viewer| ids(of_person(&pool, viewer, kind, user(1), &page).await.unwrap());
        assert_eq!(of(Some(user(1))).await, [hidden, second, first]);
        assert_eq!(of(Some(user(2))).await, [second, first]);
        assert_eq!(of(None).await, [second, first]);
        assert_eq!(by_id(&pool, None, kind, hidden).await.unwrap(), None);
        assert_eq!(by_id(&pool, None, Kind::Page, first).await.unwrap(), None);
        assert_eq!(owner(&pool, hidden).await.unwrap(), Some(user(1)));
        let row = by_id(&pool, Some(user(2)), kind, first).await.unwrap().unwrap();
        assert_eq!(
            (row.likes, row.is_liked, row.content),
            (1, true, {
                let Content::Play(mut shown) = play("First", false) else { unreachable!() };
                shown.summary = "About\u{fffd} it".to_owned();
                Content::Play(shown)
            })
        );
        assert_eq!(ids(most_liked(&pool, None, kind, 10, 0).await.unwrap()), [second, first]);
        assert_eq!(ids(most_liked(&pool, None, kind, 10, 1).await.unwrap()), [first]);
        let found = async |words| ids(public(&pool, None, kind, Some(words), &page).await.unwrap());
        assert_eq!(found("FIRST").await, [first]);
        assert_eq!(found("about").await, [second, first]);
        assert_eq!(found("hidden").await, []);
        let liked = liked_by(&pool, user(2), kind, None, &page).await.unwrap();
        assert_eq!(liked.iter().map(|(_, row)| row.id).collect::<Vec<_>>(), [second, first]);
        assert_eq!(liked[1].0, like);
        assert_eq!(liked_by(&pool, user(2), kind, Some("second"), &page).await.unwrap().len(), 1);
        let lately = async |since| ids(lately_liked(&pool, None, kind, since, 1, &page).await.unwrap());
        assert_eq!(lately(DateTime::UNIX_EPOCH).await, [second], "the one that is liked most");
        assert_eq!(lately(crate::testing::at(NOW) + chrono::TimeDelta::days(9_000)).await, []);

        let changes = Changes { private: Some(true), title: Some("New".to_owned()), ..Changes::default() };
        story.says(domain::work::Changed { id: second, user: user(1), changes });
        story.says(Unliked { work: first, owner: user(1), user: user(2) });
        story.project().await;
        assert_eq!(ids(public(&pool, None, kind, None, &page).await.unwrap()), [first]);
        let row = by_id(&pool, Some(user(1)), kind, second).await.unwrap().unwrap();
        assert!(matches!(&row.content, Content::Play(play) if play.title == "New" && play.private));
        assert_eq!(liked_by(&pool, user(2), kind, None, &page).await.unwrap(), [], "it is private by now");
        assert_eq!(most_liked(&pool, None, kind, 10, 0).await.unwrap(), []);
        story.says(Deleted { id: second, kind, user: user(1) });
        story.project().await;
        let likes: i64 =
            sqlx::query_scalar("select count(*) from read.work_likes").fetch_one(&pool).await.unwrap();
        assert_eq!((of(Some(user(1))).await, likes), (vec![hidden, first], 0));
    }

    #[test]
    fn a_page_names_its_files_once_however_deep_they_are() {
        let id = |n: u128| domain::FileId(Uuid::from_u128(n));
        let content = json!([
            { "type": "image", "fileId": id(1) },
            { "type": "section", "children": [{ "fileId": id(2) }, { "fileId": id(1) }, { "fileId": 5 }] },
            "nonsense",
            { "fileId": "no id!" },
        ]);
        assert_eq!(files_of(&content), [id(1), id(2)]);
        let mut deep = json!([]);
        for _ in 0..100 {
            deep = json!([{ "children": deep }]);
        }
        assert_eq!(files_of(&deep), []);
    }
}
