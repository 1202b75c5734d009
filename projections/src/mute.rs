//! Who mutes whom, whose renotes, and which threads. A mute that is over stays until another one takes its
//! place; whoever reads it looks at the time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::mute::Mute;
use domain::{Event, MuteId, NoteId, RenoteMuteId, UserId};
use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::pairs::{Changes, Pairs};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Fills `read.mutes`, `read.renote_mutes` and `read.thread_mutes`.
pub struct Projection;

const MUTES: Pairs = Pairs { table: "mutes", from: "muter", to: "mutee" };
const RENOTE_MUTES: Pairs = Pairs { table: "renote_mutes", from: "muter", to: "mutee" };

#[derive(Serialize)]
struct Muted {
    id: Uuid,
    muter: Uuid,
    mutee: Uuid,
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct RenotesMuted {
    id: Uuid,
    muter: Uuid,
    mutee: Uuid,
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "mutes"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["mutes", "renote_mutes", "thread_mutes"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "mute.started",
            "mute.ended",
            "renote_mute.started",
            "renote_mute.ended",
            "thread_mute.started",
            "thread_mute.ended",
            "user.erased",
        ]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                MUTES.purge(tx, user).await?;
                RENOTE_MUTES.purge(tx, user).await?;
                sqlx::query("delete from thread_mutes where user_id = $1")
                    .bind(user.0)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let (mut people, mut renotes) = (Changes::new(), Changes::new());
    let mut threads: BTreeMap<(Uuid, Uuid), bool> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::MuteStarted(e) => {
                let (id, muter, mutee) = (e.id.0, e.muter.0, e.mutee.0);
                let row = Muted { id, muter, mutee, expires_at: e.expires_at };
                people.insert((muter, mutee), Some(row));
            }
            Event::MuteEnded(e) => {
                people.insert((e.muter.0, e.mutee.0), None);
            }
            Event::RenoteMuteStarted(e) => {
                let (id, muter, mutee) = (e.id.0, e.muter.0, e.mutee.0);
                renotes.insert((muter, mutee), Some(RenotesMuted { id, muter, mutee }));
            }
            Event::RenoteMuteEnded(e) => {
                renotes.insert((e.muter.0, e.mutee.0), None);
            }
            Event::ThreadMuteStarted(e) => {
                threads.insert((e.user.0, e.thread.0), true);
            }
            Event::ThreadMuteEnded(e) => {
                threads.insert((e.user.0, e.thread.0), false);
            }
            _ => (),
        }
    }
    MUTES.replace(tx, people).await?;
    RENOTE_MUTES.replace(tx, renotes).await?;
    write_threads(tx, &threads).await
}

async fn write_threads(tx: &mut PgConnection, threads: &BTreeMap<(Uuid, Uuid), bool>) -> sqlx::Result<()> {
    for (muted, sql) in [
        (
            false,
            "delete from thread_mutes t using unnest($1::uuid[], $2::uuid[]) as d(user_id, thread_id)
              where t.user_id = d.user_id and t.thread_id = d.thread_id",
        ),
        (
            true,
            "insert into thread_mutes (user_id, thread_id)
             select user_id, thread_id from unnest($1::uuid[], $2::uuid[]) as d(user_id, thread_id)
             on conflict do nothing",
        ),
    ] {
        let these = threads.iter().filter(|(_, is_muted)| **is_muted == muted).map(|(key, _)| *key);
        let (users, threads): (Vec<Uuid>, Vec<Uuid>) = these.unzip();
        if !users.is_empty() {
            sqlx::query(sql).bind(users).bind(threads).execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// One mute; pages go by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MuteRow {
    pub id: MuteId,
    pub mutee: UserId,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Whom a person mutes at this instant.
pub async fn of(pool: &PgPool, muter: UserId, now: DateTime<Utc>, page: &Page) -> sqlx::Result<Vec<MuteRow>> {
    let order = page.order();
    let sql = format!(
        "select id, mutee, expires_at from read.mutes
          where muter = $1 and id > $2 and id < $3 and (expires_at is null or expires_at > $5)
          order by id {order} limit $4"
    );
    let rows: Vec<(Uuid, Uuid, Option<DateTime<Utc>>)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(muter.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(now)
        .fetch_all(pool)
        .await?;
    let row = |(id, mutee, expires_at)| MuteRow { id: MuteId(id), mutee: UserId(mutee), expires_at };
    Ok(rows.into_iter().map(row).collect())
}

/// One mute of renotes; pages go by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenoteMuteRow {
    pub id: RenoteMuteId,
    pub mutee: UserId,
}

/// Whose renotes a person mutes.
pub async fn renotes_of(pool: &PgPool, muter: UserId, page: &Page) -> sqlx::Result<Vec<RenoteMuteRow>> {
    let rows = RENOTE_MUTES.page(pool, muter, page).await?;
    Ok(rows.into_iter().map(|(id, mutee)| RenoteMuteRow { id: RenoteMuteId(id), mutee }).collect())
}

/// Whether a person mutes the thread of a note.
pub async fn is_thread_muted(pool: &PgPool, user: UserId, note: NoteId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from read.notes n
                          join read.thread_mutes t
                            on t.user_id = $1 and t.thread_id = coalesce(n.thread_id, n.id)
                         where n.id = $2)",
    )
    .bind(user.0)
    .bind(note.0)
    .fetch_one(pool)
    .await
}

/// Who of these people mutes any thread.
pub(crate) async fn who_mute_threads(pool: &PgPool, people: &[UserId]) -> sqlx::Result<HashMap<UserId, ()>> {
    let sql = "select o.id from unnest((select $1::uuid[])) as o(id)
                where exists (select from read.thread_mutes t where t.user_id = o.id)";
    sql::those(pool, sql, people).await
}

/// Which of these threads are muted, each by somebody.
pub async fn threads(pool: &PgPool, threads: &[(UserId, NoteId)]) -> sqlx::Result<HashSet<(UserId, NoteId)>> {
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "select m.user_id, m.thread_id
           from unnest((select $1::uuid[]), (select $2::uuid[])) as k(user_id, thread_id)
           join read.thread_mutes m on m.user_id = k.user_id and m.thread_id = k.thread_id",
    )
    .bind(threads.iter().map(|(user, _)| user.0).collect::<Vec<_>>())
    .bind(threads.iter().map(|(_, thread)| thread.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(user, thread)| (UserId(user), NoteId(thread))).collect())
}

/// What somebody blocks and mutes and by whom they are blocked: for streams, which keep it up from the log.
#[derive(Debug, Clone, Default)]
pub struct Aversions {
    pub mutes: Vec<(UserId, Mute)>,
    pub renote_mutes: Vec<UserId>,
    pub blocks: Vec<UserId>,
    pub blocked_by: Vec<UserId>,
}

/// Everything of it, in one statement.
pub async fn all_of(pool: &PgPool, user: UserId) -> sqlx::Result<Aversions> {
    let rows: Vec<(String, Uuid, Option<DateTime<Utc>>)> = sqlx::query_as(
        "select 'mute', mutee, expires_at from read.mutes where muter = $1
         union all select 'renotes', mutee, null from read.renote_mutes where muter = $1
         union all select 'block', blockee, null from read.blocks where blocker = $1
         union all select 'blocked', blocker, null from read.blocks where blockee = $1",
    )
    .bind(user.0)
    .fetch_all(pool)
    .await?;
    let mut all = Aversions::default();
    for (what, other, expires_at) in rows {
        let other = UserId(other);
        match what.as_str() {
            "mute" => all.mutes.push((other, Mute { expires_at })),
            "renotes" => all.renote_mutes.push(other),
            "block" => all.blocks.push(other),
            _ => all.blocked_by.push(other),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, at, user};
    use domain::mute::{Ended, RenotesEnded, RenotesStarted, Started, ThreadEnded, ThreadStarted};
    use domain::note::Parent;

    fn mutes(story: &mut Story, mutee: u8, expires_at: Option<i64>) {
        let id = MuteId(story.id());
        story.says(Started { id, muter: user(1), mutee: user(mutee), expires_at: expires_at.map(at) });
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_mute_is_listed_until_its_time_or_its_end(pool: PgPool) {
        for at_once in [true, false] {
            let mut story = Story::new(&pool);
            mutes(&mut story, 2, None);
            mutes(&mut story, 3, Some(NOW + 1_000));
            mutes(&mut story, 4, Some(NOW + 1_000));
            if !at_once {
                story.project().await;
            }
            mutes(&mut story, 4, Some(NOW + 9_000));
            story.says(Ended { muter: user(1), mutee: user(2) });
            story.project().await;
            let muted = async |now: i64| {
                let rows = of(&pool, user(1), at(now), &Page::newest(10)).await.unwrap();
                rows.iter().map(|row| (row.mutee, row.expires_at)).collect::<Vec<_>>()
            };
            let (third, fourth) = ((user(3), Some(at(NOW + 1_000))), (user(4), Some(at(NOW + 9_000))));
            assert_eq!(muted(NOW).await, [fourth, third]);
            assert_eq!(muted(NOW + 1_000).await, [fourth]);
            assert_eq!(all_of(&pool, user(1)).await.unwrap().mutes.len(), 2);
            story.empty().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn renotes_and_threads_are_muted_apart(pool: PgPool) {
        let mut story = Story::new(&pool);
        let id = RenoteMuteId(story.id());
        story.says(RenotesStarted { id, muter: user(1), mutee: user(2) });
        let top = story.note(1, |_| ());
        let reply = story.note(2, |note| {
            note.reply = Some(Parent { id: top, author: user(1) });
            note.thread = Some(top);
        });
        let other = story.note(2, |_| ());
        story.says(ThreadStarted { user: user(1), thread: top });
        story.project().await;
        let renotes = renotes_of(&pool, user(1), &Page::newest(10)).await.unwrap();
        assert_eq!(renotes, [RenoteMuteRow { id, mutee: user(2) }]);
        assert_eq!(all_of(&pool, user(1)).await.unwrap().renote_mutes, [user(2)]);
        for (note, muted) in [(top, true), (reply, true), (other, false)] {
            assert_eq!(is_thread_muted(&pool, user(1), note).await.unwrap(), muted);
        }
        assert!(!is_thread_muted(&pool, user(2), reply).await.unwrap());
        let some = threads(&pool, &[(user(1), top), (user(1), other), (user(2), top)]).await.unwrap();
        assert_eq!(some, [(user(1), top)].into());
        story.says(RenotesEnded { muter: user(1), mutee: user(2) });
        story.says(ThreadEnded { user: user(1), thread: top });
        story.project().await;
        assert!(!is_thread_muted(&pool, user(1), reply).await.unwrap());
        assert_eq!(renotes_of(&pool, user(1), &Page::newest(10)).await.unwrap(), []);
    }
}
