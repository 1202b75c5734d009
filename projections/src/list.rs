//! Lists of people, who is in them, and who likes them.
//!
//! Lists change rarely, so events are written one by one. What belongs to a list is written only while the
//! list is there, so nothing is left of one that has gone.

use std::sync::Arc;

use async_trait::async_trait;
use domain::log::Recorded;
use domain::policy::Viewer;
use domain::{Event, ListId, MembershipId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// The most lists of one person that are shown; policies allow far fewer.
const MAX_LISTS: i64 = 1_000;

/// Fills `read.lists`, `read.list_members` and `read.list_favorites`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "lists"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["lists", "list_members", "list_favorites"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "list.created",
            "list.changed",
            "list.deleted",
            "list.member_added",
            "list.member_changed",
            "list.member_removed",
            "list.favorited",
            "list.unfavorited",
            "user.erased",
        ]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            for (_, event) in events(part) {
                write(tx, event).await?;
            }
            if let Some(user) = erased {
                purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, event: &Event) -> sqlx::Result<()> {
    let query = match event {
        Event::ListCreated(e) => sqlx::query("insert into lists (id, owner, name) values ($1, $2, $3)")
            .bind(e.id.0)
            .bind(e.owner.0)
            .bind(sql::clean(&e.name).into_owned()),
        Event::ListChanged(e) => sqlx::query(
            "update lists set name = coalesce($2, name), is_public = coalesce($3, is_public) where id = $1",
        )
        .bind(e.id.0)
        .bind(e.name.as_deref().map(|name| sql::clean(name).into_owned()))
        .bind(e.is_public),
        Event::ListDeleted(e) => return remove(tx, &[e.id.0]).await,
        Event::ListMemberAdded(e) => sqlx::query(
            "insert into list_members (id, list_id, user_id)
             select $1, $2, $3 where exists (select 1 from lists where id = $2)",
        )
        .bind(e.id.0)
        .bind(e.list.0)
        .bind(e.user.0),
        Event::ListMemberChanged(e) => {
            sqlx::query("update list_members set with_replies = $3 where list_id = $1 and user_id = $2")
                .bind(e.list.0)
                .bind(e.user.0)
                .bind(e.with_replies)
        }
        Event::ListMemberRemoved(e) => {
            sqlx::query("delete from list_members where list_id = $1 and user_id = $2")
                .bind(e.list.0)
                .bind(e.user.0)
        }
        Event::ListFavorited(e) => sqlx::query(
            "insert into list_favorites (list_id, user_id)
             select $1, $2 where exists (select 1 from lists where id = $1)",
        )
        .bind(e.list.0)
        .bind(e.user.0),
        Event::ListUnfavorited(e) => {
            sqlx::query("delete from list_favorites where list_id = $1 and user_id = $2")
                .bind(e.list.0)
                .bind(e.user.0)
        }
        _ => return Ok(()),
    };
    query.execute(tx).await?;
    Ok(())
}

async fn remove(tx: &mut PgConnection, lists: &[Uuid]) -> sqlx::Result<()> {
    for statement in [
        "delete from list_favorites where list_id = any($1)",
        "delete from list_members where list_id = any($1)",
        "delete from lists where id = any($1)",
    ] {
        sqlx::query(statement).bind(lists).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let theirs: Vec<Uuid> =
        sqlx::query_scalar("select id from lists where owner = $1").bind(user.0).fetch_all(&mut *tx).await?;
    remove(tx, &theirs).await?;
    for statement in
        ["delete from list_favorites where user_id = $1", "delete from list_members where user_id = $1"]
    {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A list with the people in it, in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRow {
    pub id: ListId,
    pub owner: UserId,
    pub name: String,
    pub is_public: bool,
    pub members: Vec<UserId>,
}

/// How a list is liked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Favorites {
    pub count: i64,
    pub by_viewer: bool,
}

/// One person's place in a list; pages go by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRow {
    pub id: MembershipId,
    pub user: UserId,
    pub with_replies: bool,
}

const COLUMNS: &str = "l.id, l.owner, l.name, l.is_public,
    array(select m.user_id from read.list_members m where m.list_id = l.id order by m.id)";

type Row = (Uuid, Uuid, String, bool, Vec<Uuid>);

fn list_row((id, owner, name, is_public, members): Row) -> ListRow {
    ListRow { id: ListId(id), owner: UserId(owner), name, is_public, members: sql::users(members) }
}

/// One list, whosever it is and whoever may look at it.
pub async fn by_id(pool: &PgPool, list: ListId) -> sqlx::Result<Option<ListRow>> {
    let sql = format!("select {COLUMNS} from read.lists l where l.id = $1");
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql)).bind(list.0).fetch_optional(pool).await?;
    Ok(row.map(list_row))
}

/// The lists of a person, oldest first; only those for anybody where that is asked.
pub async fn of_owner(pool: &PgPool, owner: UserId, only_public: bool) -> sqlx::Result<Vec<ListRow>> {
    let sql = format!(
        "select {COLUMNS} from read.lists l
          where l.owner = $1 and (l.is_public or not $2) order by l.id limit $3"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(owner.0)
        .bind(only_public)
        .bind(MAX_LISTS)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(list_row).collect())
}

/// How a list is liked, and whether by the viewer.
pub async fn favorites(pool: &PgPool, list: ListId, viewer: Viewer) -> sqlx::Result<Favorites> {
    let (count, by_viewer): (i64, bool) = sqlx::query_as(
        "select count(*), coalesce(bool_or(user_id = $2), false) from read.list_favorites where list_id = $1",
    )
    .bind(list.0)
    .bind(viewer.map(|viewer| viewer.0))
    .fetch_one(pool)
    .await?;
    Ok(Favorites { count, by_viewer })
}

/// Who is in a list.
pub async fn members(pool: &PgPool, list: ListId, page: &Page) -> sqlx::Result<Vec<MemberRow>> {
    let order = page.order();
    let sql = format!(
        "select id, user_id, with_replies from read.list_members
          where list_id = $1 and id > $2 and id < $3 order by id {order} limit $4"
    );
    let rows: Vec<(Uuid, Uuid, bool)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(list.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    let row = |(id, user, with_replies)| MemberRow { id: MembershipId(id), user: UserId(user), with_replies };
    Ok(rows.into_iter().map(row).collect())
}

/// Everybody in a list, with whether their replies to others are wanted.
pub async fn all_members(pool: &PgPool, list: ListId) -> sqlx::Result<Vec<(UserId, bool)>> {
    let rows: Vec<(Uuid, bool)> =
        sqlx::query_as("select user_id, with_replies from read.list_members where list_id = $1")
            .bind(list.0)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(|(user, with_replies)| (UserId(user), with_replies)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::list::{Changed, Deleted, Favorited, MemberChanged, MemberRemoved, Unfavorited};

    #[sqlx::test(migrations = "../migrations")]
    async fn lists_keep_their_people_and_who_likes_them(pool: PgPool) {
        let mut story = Story::new(&pool);
        let (one, two) = (story.list(1, "one"), story.list(1, "two"));
        story.list_member(one, 1, 3);
        story.list_member(one, 1, 2);
        story.list_member(two, 1, 2);
        story.says(MemberChanged { list: one, owner: user(1), user: user(2), with_replies: true });
        story.says(Changed { id: one, owner: user(1), name: None, is_public: Some(true) });
        story.says(Favorited { list: one, user: user(4) });
        story.says(Favorited { list: one, user: user(5) });
        story.says(Unfavorited { list: one, user: user(5) });
        story.project().await;

        let all = of_owner(&pool, user(1), false).await.unwrap();
        assert_eq!(all.iter().map(|list| list.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(all[0].members, [user(3), user(2)]);
        let public = of_owner(&pool, user(1), true).await.unwrap();
        assert_eq!(public.iter().map(|list| list.id).collect::<Vec<_>>(), [one]);
        let likes = async |viewer| favorites(&pool, one, viewer).await.unwrap();
        assert_eq!(likes(Some(user(4))).await, Favorites { count: 1, by_viewer: true });
        assert_eq!(likes(None).await, Favorites { count: 1, by_viewer: false });
        let page = members(&pool, one, &Page::newest(10)).await.unwrap();
        let page: Vec<_> = page.iter().map(|row| (row.user, row.with_replies)).collect();
        assert_eq!(page, [(user(2), true), (user(3), false)]);

        story.says(MemberRemoved { list: one, owner: user(1), user: user(2) });
        story.says(Deleted { id: two, owner: user(1) });
        story.says(Favorited { list: two, user: user(4) });
        story.project().await;
        assert_eq!(all_members(&pool, one).await.unwrap(), [(user(3), false)]);
        assert_eq!(by_id(&pool, two).await.unwrap(), None);
        assert_eq!(favorites(&pool, two, None).await.unwrap().count, 0);
    }
}
