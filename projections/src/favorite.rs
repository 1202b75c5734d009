//! Notes that people keep for themselves. Those of a note that has gone stay, and nothing shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::favorite::Added;
use domain::log::Recorded;
use domain::{Event, FavoriteId, NoteId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::page::{LIMIT, Page};
use crate::runtime::{ProjectError, Projector, events};

/// Fills `read.favorites`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "favorites"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["favorites"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["favorite.added", "favorite.removed", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                sqlx::query("delete from favorites where user_id = $1")
                    .bind(user.0)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    // By person and note: what stands at the end of the batch.
    let mut standing: BTreeMap<(Uuid, Uuid), Option<&Added>> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::FavoriteAdded(e) => {
                standing.insert((e.user.0, e.note.0), Some(e));
            }
            Event::FavoriteRemoved(e) => {
                standing.insert((e.user.0, e.note.0), None);
            }
            _ => (),
        }
    }
    let gone = standing.iter().filter(|(_, added)| added.is_none()).map(|(key, _)| *key);
    let (people, notes): (Vec<Uuid>, Vec<Uuid>) = gone.unzip();
    if !notes.is_empty() {
        sqlx::query(
            "delete from favorites f using unnest($1::uuid[], $2::uuid[]) as d(user_id, note_id)
              where f.user_id = d.user_id and f.note_id = d.note_id",
        )
        .bind(people)
        .bind(notes)
        .execute(&mut *tx)
        .await?;
    }
    let added: Vec<&Added> = standing.values().copied().flatten().collect();
    if !added.is_empty() {
        sqlx::query(
            "insert into favorites (id, user_id, note_id)
             select id, user_id, note_id
               from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as f(id, user_id, note_id)
             on conflict (user_id, note_id) do update set id = excluded.id",
        )
        .bind(added.iter().map(|e| e.id.0).collect::<Vec<_>>())
        .bind(added.iter().map(|e| e.user.0).collect::<Vec<_>>())
        .bind(added.iter().map(|e| e.note.0).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// What a person keeps; pages go by the id of the favourite.
pub async fn of_user(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<(FavoriteId, NoteId)>> {
    let order = page.order();
    let sql = format!(
        "select f.id, f.note_id
           from read.favorites f
          where f.user_id = $1 and f.id > $2 and f.id < $3
            and exists (select 1 from read.notes n where n.id = f.note_id)
          order by f.id {order} limit {LIMIT}"
    );
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|(id, note)| (FavoriteId(id), NoteId(note))).collect())
}

/// Whether a person keeps a note.
pub async fn is_favorited(pool: &PgPool, user: UserId, note: NoteId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select 1 from read.favorites where user_id = $1 and note_id = $2)")
        .bind(user.0)
        .bind(note.0)
        .fetch_one(pool)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::note::Deleted;

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_kept_is_listed_until_it_is_let_go_or_has_gone(pool: PgPool) {
        let mut story = Story::new(&pool);
        let (first, second) = (story.note(1, |_| ()), story.note(1, |_| ()));
        let kept = [first, second].map(|note| story.favorite(2, note));
        story.project().await;
        let list = async |page| of_user(&pool, user(2), &page).await.unwrap();
        let all = list(Page::newest(10)).await;
        assert_eq!(all, [(kept[1], second), (kept[0], first)]);
        let older = Page { until: Some(kept[1].0), ..Page::newest(10) };
        assert_eq!(list(older).await, all[1..]);
        assert!(is_favorited(&pool, user(2), first).await.unwrap());
        assert!(!is_favorited(&pool, user(1), first).await.unwrap());

        story.unfavorite(2, first);
        let again = story.favorite(2, first);
        story.says(Deleted { id: second, author: user(1) });
        story.project().await;
        assert_eq!(list(Page::newest(10)).await, [(again, first)]);
        story.unfavorite(2, first);
        story.project().await;
        assert_eq!(list(Page::newest(10)).await, []);
    }
}
