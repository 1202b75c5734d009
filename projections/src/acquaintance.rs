//! Whom people have to do with, and whom they might want to: worked out from notes and followings.

use chrono::{DateTime, Days, Utc};
use domain::UserId;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use crate::page::MAX_ITEMS;
use crate::sql;

/// The latest replies of a person that are looked at.
const MAX_REPLIES: i64 = 1_000;
/// Days without a note after which nobody is recommended.
const LIVELY_DAYS: u64 = 7;

/// Whom a person answers most, with how often, the most often first; of replies that anybody may see.
pub async fn answered_most(pool: &PgPool, user: UserId, limit: u16) -> sqlx::Result<Vec<(UserId, i64)>> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "select r.reply_author, count(*) as replies
           from (select n.reply_author
                   from read.notes n
                  where n.author = $1 and n.reply_id is not null
                    and n.visibility in ('public', 'home') and n.reply_author <> $1
                  order by n.id desc limit $2) r
          group by r.reply_author
          order by replies desc, r.reply_author
          limit $3",
    )
    .bind(user.0)
    .bind(MAX_REPLIES)
    .bind(i64::from(limit.min(MAX_ITEMS)))
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(user, replies)| (UserId(user), replies)).collect())
}

/// People of this server who let themselves be found and followed by anybody, and wrote something lately; those
/// with the most followers first. Not whom the viewer follows already, has asked, mutes or blocks, or is
/// blocked by.
pub async fn recommended(
    pool: &PgPool,
    viewer: UserId,
    now: DateTime<Utc>,
    limit: u16,
    offset: u32,
) -> sqlx::Result<Vec<UserId>> {
    let since = now.checked_sub_days(Days::new(LIVELY_DAYS)).unwrap_or(DateTime::UNIX_EPOCH);
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select u.id
           from read.note_authors n
           join read.users u on u.id = n.user_id
           left join read.follow_counts c on c.user_id = u.id
          where n.updated_at > $2 and u.host is null and u.id <> $1 and not u.is_suspended
            and not coalesce((u.profile ->> 'is_locked')::boolean, false)
            and coalesce((u.profile ->> 'is_explorable')::boolean, true)
            and not exists (select from read.follows f where f.follower = $1 and f.followee = u.id)
            and not exists (select from read.follow_requests r where r.follower = $1 and r.followee = u.id)
            and not exists (select from read.mutes m
                 where m.muter = $1 and m.mutee = u.id and (m.expires_at is null or m.expires_at > $3))
            and not exists (select from read.blocks b
                 where (b.blocker = $1 and b.blockee = u.id) or (b.blocker = u.id and b.blockee = $1))
          order by coalesce(c.followers, 0) desc, u.id
          limit $4 offset $5",
    )
    .bind(viewer.0)
    .bind(since)
    .bind(now)
    .bind(i64::from(limit.min(MAX_ITEMS)))
    .bind(i64::from(offset))
    .fetch_all(pool)
    .await?;
    Ok(sql::users(ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, at, user};
    use domain::moderation::Suspended;
    use domain::note::{Parent, Visibility};
    use domain::user::ProfileChanges;
    use domain::{BlockId, MuteId, block, mute};

    #[sqlx::test(migrations = "../migrations")]
    async fn those_answered_most_come_first_and_nothing_private_counts(pool: PgPool) {
        let mut story = Story::new(&pool);
        let of = [1, 2, 3, 4].map(|n| (n, story.note(n, |_| ())));
        for (author, visibility) in [
            (3, Visibility::Public),
            (3, Visibility::Home),
            (2, Visibility::Public),
            (4, Visibility::Followers),
            (1, Visibility::Public),
        ] {
            let (_, id) = of[usize::from(author) - 1];
            story.note(1, |note| {
                note.reply = Some(Parent { id, author: user(author) });
                note.visibility = visibility;
            });
        }
        story.project().await;
        assert_eq!(answered_most(&pool, user(1), 10).await.unwrap(), [(user(3), 2), (user(2), 1)]);
        assert_eq!(answered_most(&pool, user(1), 1).await.unwrap(), [(user(3), 2)]);
        assert_eq!(answered_most(&pool, user(2), 10).await.unwrap(), []);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn strangers_who_write_are_recommended(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 1..=9 {
            story.person(n, &format!("user{n}"));
            if n != 9 {
                story.note(n, |_| ());
            }
        }
        story.follow(1, 2);
        let id = BlockId(story.id());
        story.says(block::Started { id, blocker: user(1), blockee: user(3) });
        let id = BlockId(story.id());
        story.says(block::Started { id, blocker: user(4), blockee: user(1) });
        for (mutee, expires_at) in [(5, None), (6, Some(at(NOW)))] {
            let id = MuteId(story.id());
            story.says(mute::Started { id, muter: user(1), mutee: user(mutee), expires_at });
        }
        story.changes(7, ProfileChanges { is_explorable: Some(false), ..Default::default() });
        story.follow(2, 8);
        story.project().await;
        let now = story.now();
        assert_eq!(recommended(&pool, user(1), now, 10, 0).await.unwrap(), [user(8), user(6)]);
        assert_eq!(recommended(&pool, user(1), now, 10, 1).await.unwrap(), [user(6)]);
        story.says(Suspended { user: user(8) });
        story.project().await;
        assert_eq!(recommended(&pool, user(1), now, 10, 0).await.unwrap(), [user(6)]);
        let later = now + chrono::TimeDelta::days(8);
        assert_eq!(recommended(&pool, user(1), later, 10, 0).await.unwrap(), []);
    }
}
