//! Followings and requests to follow, with counts per person.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use domain::follow::{Notify, Requested};
use domain::log::Recorded;
use domain::{Event, FollowId, FollowRequestId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::{self, Sums};
use crate::world::FollowingRow;

/// Fills `read.follows`, `read.follow_requests` and `read.follow_counts`.
pub struct Projection;

/// What a batch does to the following of one person by another.
#[derive(Clone, Copy)]
enum Following {
    Starts { id: Uuid, notify: Notify, with_replies: bool },
    Changes { notify: Option<Notify>, with_replies: Option<bool> },
    Ends,
}

impl Following {
    fn changed(self, notify: Option<Notify>, with_replies: Option<bool>) -> Self {
        match self {
            Self::Starts { id, notify: n, with_replies: w } => {
                Self::Starts { id, notify: notify.unwrap_or(n), with_replies: with_replies.unwrap_or(w) }
            }
            Self::Changes { notify: n, with_replies: w } => {
                Self::Changes { notify: notify.or(n), with_replies: with_replies.or(w) }
            }
            Self::Ends => Self::Ends,
        }
    }
}

/// Follower and followee.
type Pair = (Uuid, Uuid);

/// How many more rows of `follows` people are in: what counts, since one that has gone along with an erased
/// person may still be ended by the other.
#[derive(Default)]
struct Counts {
    followers: Sums<Uuid>,
    following: Sums<Uuid>,
}

impl Counts {
    fn add(&mut self, (follower, followee): Pair, n: i64) {
        self.following.add(follower, n);
        self.followers.add(followee, n);
    }
}

fn pair(follower: UserId, followee: UserId) -> Pair {
    (follower.0, followee.0)
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "follows"
    }

    fn version(&self) -> u32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &["follows", "follow_requests", "follow_counts"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "follow.requested",
            "follow.request_ended",
            "follow.started",
            "follow.changed",
            "follow.ended",
            "user.erased",
        ]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let mut follows: BTreeMap<Pair, Following> = BTreeMap::new();
    let mut requests: BTreeMap<Pair, Option<&Requested>> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::FollowRequested(e) => {
                requests.insert(pair(e.follower, e.followee), Some(e));
            }
            Event::FollowRequestEnded(e) => {
                requests.insert(pair(e.follower, e.followee), None);
            }
            Event::FollowStarted(e) => {
                let key = pair(e.follower, e.followee);
                requests.insert(key, None);
                let starts =
                    Following::Starts { id: e.id.0, notify: Notify::None, with_replies: e.with_replies };
                follows.insert(key, starts);
            }
            Event::FollowChanged(e) => {
                let unchanged = Following::Changes { notify: None, with_replies: None };
                let entry = follows.entry(pair(e.follower, e.followee)).or_insert(unchanged);
                *entry = entry.changed(e.notify, e.with_replies);
            }
            Event::FollowEnded(e) => {
                follows.insert(pair(e.follower, e.followee), Following::Ends);
            }
            _ => (),
        }
    }
    write_requests(tx, &requests).await?;
    let counts = write_follows(tx, &follows).await?;
    write_counts(tx, counts).await
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query("delete from follow_requests where follower = $1 or followee = $1")
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
    let gone: Vec<Pair> = sqlx::query_as(
        "delete from follows where follower = $1 or followee = $1 returning follower, followee",
    )
    .bind(user.0)
    .fetch_all(&mut *tx)
    .await?;
    let mut counts = Counts::default();
    for pair in gone {
        counts.add(pair, -1);
    }
    write_counts(tx, counts).await
}

async fn write_requests(
    tx: &mut PgConnection,
    requests: &BTreeMap<Pair, Option<&Requested>>,
) -> sqlx::Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let (from, to): (Vec<Uuid>, Vec<Uuid>) = requests.keys().copied().unzip();
    sqlx::query(
        "delete from follow_requests r using unnest($1::uuid[], $2::uuid[]) as d(follower, followee)
          where r.follower = d.follower and r.followee = d.followee",
    )
    .bind(from)
    .bind(to)
    .execute(&mut *tx)
    .await?;
    let asked: Vec<&Requested> = requests.values().copied().flatten().collect();
    if asked.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into follow_requests (id, follower, followee, with_replies)
         select id, follower, followee, with_replies
           from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::boolean[])
                as r(id, follower, followee, with_replies)",
    )
    .bind(asked.iter().map(|r| r.id.0).collect::<Vec<_>>())
    .bind(asked.iter().map(|r| r.follower.0).collect::<Vec<_>>())
    .bind(asked.iter().map(|r| r.followee.0).collect::<Vec<_>>())
    .bind(asked.iter().map(|r| r.with_replies).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_follows(tx: &mut PgConnection, follows: &BTreeMap<Pair, Following>) -> sqlx::Result<Counts> {
    let mut counts = Counts::default();
    let (mut gone_from, mut gone_to) = (Vec::new(), Vec::new());
    let (mut ids, mut from, mut to) = (Vec::new(), Vec::new(), Vec::new());
    let (mut notify, mut replies) = (Vec::new(), Vec::new());
    let (mut changed_from, mut changed_to) = (Vec::new(), Vec::new());
    let (mut new_notify, mut new_replies) = (Vec::new(), Vec::new());
    for ((follower, followee), what) in follows {
        match *what {
            Following::Ends => {
                gone_from.push(*follower);
                gone_to.push(*followee);
            }
            Following::Starts { id, notify: n, with_replies } => {
                // It may have ended and started again within the batch.
                gone_from.push(*follower);
                gone_to.push(*followee);
                ids.push(id);
                from.push(*follower);
                to.push(*followee);
                notify.push(sql::notify_word(n));
                replies.push(with_replies);
            }
            Following::Changes { notify, with_replies } => {
                changed_from.push(*follower);
                changed_to.push(*followee);
                new_notify.push(notify.map(sql::notify_word));
                new_replies.push(with_replies);
            }
        }
    }
    if !gone_from.is_empty() {
        let gone: Vec<Pair> = sqlx::query_as(
            "delete from follows f using unnest($1::uuid[], $2::uuid[]) as d(follower, followee)
              where f.follower = d.follower and f.followee = d.followee
             returning f.follower, f.followee",
        )
        .bind(gone_from)
        .bind(gone_to)
        .fetch_all(&mut *tx)
        .await?;
        for pair in gone {
            counts.add(pair, -1);
        }
    }
    if !ids.is_empty() {
        for pair in from.iter().copied().zip(to.iter().copied()) {
            counts.add(pair, 1);
        }
        sqlx::query(
            "insert into follows (id, follower, followee, notify, with_replies)
             select id, follower, followee, notify, with_replies
               from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::boolean[])
                    as f(id, follower, followee, notify, with_replies)",
        )
        .bind(ids)
        .bind(from)
        .bind(to)
        .bind(notify)
        .bind(replies)
        .execute(&mut *tx)
        .await?;
    }
    if !changed_from.is_empty() {
        sqlx::query(
            "update follows f
                set notify = coalesce(c.notify, f.notify),
                    with_replies = coalesce(c.with_replies, f.with_replies)
               from unnest($1::uuid[], $2::uuid[], $3::text[], $4::boolean[])
                    as c(follower, followee, notify, with_replies)
              where f.follower = c.follower and f.followee = c.followee",
        )
        .bind(changed_from)
        .bind(changed_to)
        .bind(new_notify)
        .bind(new_replies)
        .execute(tx)
        .await?;
    }
    Ok(counts)
}

async fn write_counts(tx: &mut PgConnection, counts: Counts) -> sqlx::Result<()> {
    let (followed, followers) = counts.followers.split();
    let (follows, following) = counts.following.split();
    if followed.is_empty() && follows.is_empty() {
        return Ok(());
    }
    let gone: Vec<Uuid> = sqlx::query_scalar(
        "with counts as (
             insert into follow_counts as c (user_id, followers, following)
             select user_id, sum(followers), sum(following)
               from (select f.user_id, f.n as followers, 0 as following
                       from unnest($1::uuid[], $2::bigint[]) as f(user_id, n)
                     union all
                     select g.user_id, 0, g.n
                       from unnest($3::uuid[], $4::bigint[]) as g(user_id, n)) d
              group by user_id
             on conflict (user_id) do update
                set followers = c.followers + excluded.followers,
                    following = c.following + excluded.following
             returning user_id, followers, following
         )
         select user_id from counts where followers = 0 and following = 0",
    )
    .bind(followed)
    .bind(followers)
    .bind(follows)
    .bind(following)
    .fetch_all(&mut *tx)
    .await?;
    if !gone.is_empty() {
        sqlx::query("delete from follow_counts where user_id = any($1)").bind(gone).execute(tx).await?;
    }
    Ok(())
}

/// One following; pages go by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowRow {
    pub id: FollowId,
    pub follower: UserId,
    pub followee: UserId,
}

/// One request; pages go by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRow {
    pub id: FollowRequestId,
    pub follower: UserId,
    pub followee: UserId,
}

type Row = (Uuid, Uuid, Uuid);

/// Who follows a person.
pub async fn followers(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<FollowRow>> {
    let rows = rows(pool, "read.follows", "followee", user, page).await?;
    Ok(rows.into_iter().map(follow_row).collect())
}

/// Whom a person follows.
pub async fn following(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<FollowRow>> {
    let rows = rows(pool, "read.follows", "follower", user, page).await?;
    Ok(rows.into_iter().map(follow_row).collect())
}

/// Who asks to follow a person.
pub async fn requests_received(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<RequestRow>> {
    let rows = rows(pool, "read.follow_requests", "followee", user, page).await?;
    Ok(rows.into_iter().map(request_row).collect())
}

/// Whom a person asks to be followed by them.
pub async fn requests_sent(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<RequestRow>> {
    let rows = rows(pool, "read.follow_requests", "follower", user, page).await?;
    Ok(rows.into_iter().map(request_row).collect())
}

async fn rows(
    pool: &PgPool,
    table: &'static str,
    side: &'static str,
    user: UserId,
    page: &Page,
) -> sqlx::Result<Vec<Row>> {
    let order = page.order();
    let sql = format!(
        "select id, follower, followee from {table}
          where {side} = $1 and id > $2 and id < $3 order by id {order} limit $4"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await
}

fn follow_row((id, follower, followee): Row) -> FollowRow {
    FollowRow { id: FollowId(id), follower: UserId(follower), followee: UserId(followee) }
}

fn request_row((id, follower, followee): Row) -> RequestRow {
    RequestRow { id: FollowRequestId(id), follower: UserId(follower), followee: UserId(followee) }
}

/// Everybody whom a person follows, and how: for streams, which keep it up from the log.
pub async fn all_of(pool: &PgPool, follower: UserId) -> sqlx::Result<Vec<(UserId, FollowingRow)>> {
    let rows: Vec<(Uuid, Uuid, String, bool)> =
        sqlx::query_as("select followee, id, notify, with_replies from read.follows where follower = $1")
            .bind(follower.0)
            .fetch_all(pool)
            .await?;
    let following = |(followee, id, notify, with_replies): (Uuid, Uuid, String, bool)| {
        let row = FollowingRow { id: FollowId(id), notify: sql::notify(&notify)?, with_replies };
        Ok((UserId(followee), row))
    };
    rows.into_iter().map(following).collect()
}

/// Those of the people who are asked to be followed and haven't answered.
pub async fn asked(pool: &PgPool, users: &[UserId]) -> sqlx::Result<HashSet<UserId>> {
    let ids: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let asked: Vec<Uuid> = sqlx::query_scalar(
        "select u.id from unnest($1::uuid[]) as u(id)
          where exists (select from read.follow_requests r where r.followee = u.id)",
    )
    .bind(ids)
    .fetch_all(pool)
    .await?;
    Ok(asked.into_iter().map(UserId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::relations;
    use crate::testing::{Story, user};
    use crate::user;
    use domain::follow::{Changed, Ended, RequestEnd, RequestEnded, Started};

    fn followers_of(rows: &[FollowRow]) -> Vec<UserId> {
        rows.iter().map(|row| row.follower).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn lists_page_by_the_id_of_the_following(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 2..=5 {
            story.follow(n, 1);
        }
        story.follow(1, 2);
        story.project().await;

        let first = followers(&pool, user(1), &Page::newest(2)).await.unwrap();
        assert_eq!(followers_of(&first), [user(5), user(4)]);
        let next = Page { until: Some(first[1].id.0), ..Page::newest(10) };
        let rest = followers(&pool, user(1), &next).await.unwrap();
        assert_eq!(followers_of(&rest), [user(3), user(2)]);
        let oldest = Page { since: Some(rest[1].id.0), oldest_first: true, ..Page::newest(2) };
        let up = followers(&pool, user(1), &oldest).await.unwrap();
        assert_eq!(followers_of(&up), [user(3), user(4)]);
        let mine = following(&pool, user(1), &Page::newest(10)).await.unwrap();
        assert_eq!(mine.iter().map(|row| row.followee).collect::<Vec<_>>(), [user(2)]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_following_that_ends_and_starts_again_is_one_row(pool: PgPool) {
        for at_once in [true, false] {
            let mut story = Story::new(&pool);
            story.person(1, "a");
            story.person(2, "b");
            story.follow(1, 2);
            if !at_once {
                story.project().await;
            }
            story.says(Changed {
                follower: user(1),
                followee: user(2),
                notify: Some(Notify::Normal),
                with_replies: None,
            });
            story.says(Ended { follower: user(1), followee: user(2), by_followee: false });
            story.follow(1, 2);
            story.says(Changed {
                follower: user(1),
                followee: user(2),
                notify: None,
                with_replies: Some(true),
            });
            story.project().await;

            let relation = relations(&pool, &[(user(1), user(2)), (user(1), user(3))]).await.unwrap();
            assert_eq!(relation.len(), 1);
            let standing = relation[&(user(1), user(2))].following.unwrap();
            assert_eq!((standing.notify, standing.with_replies), (Notify::None, true));
            let people = user::by_ids(&pool, &[user(1), user(2)]).await.unwrap();
            assert_eq!((people[&user(1)].following, people[&user(2)].followers), (1, 1));
            story.empty().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn requests_stand_until_they_are_answered(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in [2, 3, 4] {
            let id = FollowRequestId(story.id());
            story.says(Requested { id, follower: user(n), followee: user(1), with_replies: true });
        }
        story.project().await;
        let received = requests_received(&pool, user(1), &Page::newest(10)).await.unwrap();
        assert_eq!(received.iter().map(|row| row.follower).collect::<Vec<_>>(), [user(4), user(3), user(2)]);
        let waiting = asked(&pool, &[user(1), user(2), user(9)]).await.unwrap();
        assert_eq!(waiting, HashSet::from([user(1)]));
        assert!(relations(&pool, &[(user(2), user(1))]).await.unwrap()[&(user(2), user(1))].request_from_me);
        assert!(relations(&pool, &[(user(1), user(2))]).await.unwrap()[&(user(1), user(2))].request_to_me);

        story.says(RequestEnded { follower: user(2), followee: user(1), how: RequestEnd::Rejected });
        let id = FollowId(story.id());
        story.says(Started {
            id,
            follower: user(3),
            followee: user(1),
            with_replies: true,
            by_request: true,
            message: None,
        });
        story.project().await;
        assert_eq!(requests_sent(&pool, user(2), &Page::newest(10)).await.unwrap(), []);
        assert_eq!(requests_sent(&pool, user(3), &Page::newest(10)).await.unwrap(), []);
        assert_eq!(requests_sent(&pool, user(4), &Page::newest(10)).await.unwrap().len(), 1);
        let expected = FollowRow { id, follower: user(3), followee: user(1) };
        assert_eq!(followers(&pool, user(1), &Page::newest(10)).await.unwrap(), [expected]);
    }
}
