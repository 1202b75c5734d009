//! What the viewer and others are to each other, from the tables of several read models.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::mute::Mute;
use domain::{FollowId, UserId};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::sql;
use crate::world::{FollowingRow, RelationRow};

/// The most people whom somebody may have to do with for all of them to be known: some 30 kB. Where it was 1,000, and
/// everybody had 800, they drove each other out of memory, and `notes/create` fell from 2,800 to 600 a second.
pub(crate) const MAX_NEAR: usize = 200;
/// The most people of whom all that is asked for by one statement.
const MAX_AT_ONCE: usize = 32;

/// What somebody and others are to each other, unless these are too many. Everybody else is nothing to
/// them: most are.
pub(crate) type Near = Option<Arc<HashMap<UserId, RelationRow>>>;

/// For each of `$1`, who has to do with less than `$2` others by following: what they and others are to each other.
fn near_sql() -> String {
    let some = |what: &str, (me, other): (&str, &str), table: &str, columns: &str| {
        format!(
            "(select '{what}' as what, t.{other} as id, {columns}
                from read.{table} t where t.{me} = o.id and c.n < $2 limit $2)"
        )
    };
    let is = |what, people, table| some(what, people, table, "null, null, null, null, null");
    let parts = [
        some(
            "follows",
            ("follower", "followee"),
            "follows",
            "t.id as follow_id, t.notify, t.with_replies, null::timestamptz as expires_at, null as memo",
        ),
        is("followed", ("followee", "follower"), "follows"),
        is("asks", ("follower", "followee"), "follow_requests"),
        is("asked", ("followee", "follower"), "follow_requests"),
        is("blocks", ("blocker", "blockee"), "blocks"),
        is("blocked", ("blockee", "blocker"), "blocks"),
        some("mutes", ("muter", "mutee"), "mutes", "null, null, null, t.expires_at, null"),
        is("mutes renotes", ("muter", "mutee"), "renote_mutes"),
        some("notes", ("user_id", "about"), "memos", "null, null, null, null, t.memo"),
    ];
    format!(
        "select o.id as viewer, k.*
           from unnest((select $1::uuid[])) as o(id)
          cross join lateral (
                select (select count(*) from (select from read.follows f where f.follower = o.id limit $2) f)
                     + (select count(*) from (select from read.follows f where f.followee = o.id limit $2) f) as n) c
          cross join lateral (
                {}
                union all
                (select 'too many', o.id, null, null, null, null, null where c.n >= $2)) k",
        parts.join(" union all ")
    )
}

/// What each of these people and all others are to each other; who has to do with nobody is left out.
pub(crate) async fn near(
    pool: &PgPool,
    people: &[UserId],
    at_most: usize,
) -> sqlx::Result<HashMap<UserId, Near>> {
    let mut all = HashMap::with_capacity(people.len());
    for some in people.chunks(MAX_AT_ONCE) {
        let query =
            sqlx::query(AssertSqlSafe(near_sql())).bind(some.iter().map(|user| user.0).collect::<Vec<_>>());
        let rows = query.bind(at_most as i64 + 1).fetch_all(pool).await?;
        let mut near: HashMap<UserId, HashMap<UserId, RelationRow>> = HashMap::new();
        for row in &rows {
            let (viewer, other) = (UserId(row.try_get("viewer")?), UserId(row.try_get("id")?));
            let what: &str = row.try_get("what")?;
            if what == "too many" {
                all.insert(viewer, None);
                continue;
            }
            let relation = near.entry(viewer).or_default().entry(other).or_default();
            match what {
                "follows" => relation.following = following(row)?,
                "followed" => relation.followed = true,
                "asks" => relation.request_from_me = true,
                "asked" => relation.request_to_me = true,
                "blocks" => relation.blocks = true,
                "blocked" => relation.is_blocked = true,
                "mutes" => relation.mute = Some(Mute { expires_at: row.try_get("expires_at")? }),
                "mutes renotes" => relation.mutes_renotes = true,
                _ => relation.memo = row.try_get("memo")?,
            }
        }
        let few = |relations: HashMap<_, _>| (relations.len() <= at_most).then(|| Arc::new(relations));
        all.extend(near.into_iter().map(|(viewer, relations)| (viewer, few(relations))));
    }
    Ok(all)
}

/// What a viewer and somebody else are to each other, for each of these pairs; who is nothing to them is left out.
pub async fn relations(
    pool: &PgPool,
    pairs: &[(UserId, UserId)],
) -> sqlx::Result<HashMap<(UserId, UserId), RelationRow>> {
    let rows = sqlx::query(
        "select u.viewer, u.id, f.id as follow_id, f.notify, f.with_replies,
                b.id is not null as followed,
                m.id is not null as request_from_me, t.id is not null as request_to_me,
                k.id is not null as blocks, l.id is not null as is_blocked,
                s.id is not null as mutes, s.expires_at, r.id is not null as mutes_renotes, o.memo
           from unnest((select $1::uuid[]), (select $2::uuid[])) as u(viewer, id)
           left join read.follows f on f.follower = u.viewer and f.followee = u.id
           left join read.follows b on b.follower = u.id and b.followee = u.viewer
           left join read.follow_requests m on m.follower = u.viewer and m.followee = u.id
           left join read.follow_requests t on t.follower = u.id and t.followee = u.viewer
           left join read.blocks k on k.blocker = u.viewer and k.blockee = u.id
           left join read.blocks l on l.blocker = u.id and l.blockee = u.viewer
           left join read.mutes s on s.muter = u.viewer and s.mutee = u.id
           left join read.renote_mutes r on r.muter = u.viewer and r.mutee = u.id
           left join read.memos o on o.user_id = u.viewer and o.about = u.id
          where coalesce(f.id, b.id, m.id, t.id, k.id, l.id, s.id, r.id, o.about) is not null",
    )
    .bind(pairs.iter().map(|(viewer, _)| viewer.0).collect::<Vec<_>>())
    .bind(pairs.iter().map(|(_, other)| other.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let pair = (UserId(row.try_get("viewer")?), UserId(row.try_get("id")?));
            Ok((pair, relation(row)?))
        })
        .collect()
}

fn following(row: &PgRow) -> sqlx::Result<Option<FollowingRow>> {
    let (id, notify): (Option<Uuid>, Option<&str>) = (row.try_get("follow_id")?, row.try_get("notify")?);
    let with_replies: Option<bool> = row.try_get("with_replies")?;
    Ok(match (id, notify, with_replies) {
        (Some(id), Some(notify), Some(with_replies)) => {
            Some(FollowingRow { id: FollowId(id), notify: sql::notify(notify)?, with_replies })
        }
        _ => None,
    })
}

fn relation(row: &PgRow) -> sqlx::Result<RelationRow> {
    let expires_at: Option<DateTime<Utc>> = row.try_get("expires_at")?;
    Ok(RelationRow {
        following: following(row)?,
        followed: row.try_get("followed")?,
        request_from_me: row.try_get("request_from_me")?,
        request_to_me: row.try_get("request_to_me")?,
        blocks: row.try_get("blocks")?,
        is_blocked: row.try_get("is_blocked")?,
        mute: row.try_get::<bool, _>("mutes")?.then_some(Mute { expires_at }),
        mutes_renotes: row.try_get("mutes_renotes")?,
        memo: row.try_get("memo")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, at, user};
    use domain::{BlockId, MuteId, RenoteMuteId, block, memo, mute};

    #[sqlx::test(migrations = "../migrations")]
    async fn a_relation_has_all_that_two_people_are_to_each_other(pool: PgPool) {
        let mut story = Story::new(&pool);
        let (me, them) = (user(1), user(2));
        let id = BlockId(story.id());
        story.says(block::Started { id, blocker: me, blockee: them });
        let (id, expires_at) = (MuteId(story.id()), Some(at(NOW + 1_000)));
        story.says(mute::Started { id, muter: me, mutee: them, expires_at });
        let id = RenoteMuteId(story.id());
        story.says(mute::RenotesStarted { id, muter: me, mutee: them });
        story.says(memo::Changed { user: me, about: them, memo: Some("hm\0".to_owned()) });
        story.project().await;
        let mine = relations(&pool, &[(me, them), (me, user(3))]).await.unwrap();
        assert_eq!(mine.len(), 1);
        let mine = &mine[&(me, them)];
        assert!(mine.blocks && !mine.is_blocked && mine.mutes_renotes);
        assert_eq!((mine.mute, mine.memo.as_deref()), (Some(Mute { expires_at }), Some("hm\u{fffd}")));
        let theirs = &relations(&pool, &[(them, me)]).await.unwrap()[&(them, me)];
        assert!(theirs.is_blocked && !theirs.blocks && !theirs.mutes_renotes);
        assert_eq!((theirs.mute, theirs.memo.as_deref()), (None, None));
        story.says(memo::Changed { user: me, about: them, memo: None });
        story.project().await;
        assert_eq!(relations(&pool, &[(me, them)]).await.unwrap()[&(me, them)].memo, None);
    }
}
