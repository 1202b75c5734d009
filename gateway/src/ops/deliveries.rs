//! What is to be told to other places, each once: made out of the log in order, by one process at a time, with
//! the place in the log that was reached; then sent, and tried again with growing pauses.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use domain::log::Position;
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::Notify;
use uuid::Uuid;

/// What waits for one webhook or device; with more of it nothing is added.
pub const MAX_WAITING: i64 = 1_000;
/// How often one is tried.
pub const MAX_ATTEMPTS: i32 = 8;
/// The pause after the first failure; each next one is twice as long. In it nobody else tries, so it is longer
/// than trying takes.
pub const FIRST_PAUSE: Duration = Duration::seconds(30);

/// Something that somebody is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: Uuid,
    /// The webhook or the subscription.
    pub target: Uuid,
    pub is_push: bool,
    pub user: UserId,
    /// By Misskey's names.
    pub what: String,
    /// The note, person or notification.
    pub about: Option<Uuid>,
    /// Who did something to it.
    pub other: Option<Uuid>,
    /// When it happened.
    pub at: DateTime<Utc>,
    pub due_at: DateTime<Utc>,
    /// With the one that it was taken for.
    pub attempts: i32,
}

/// Keeps what is to be told.
#[derive(Clone)]
pub struct Deliveries {
    pool: PgPool,
    /// Told when there is something new.
    pub news: Arc<Notify>,
}

impl Deliveries {
    pub fn new(pool: PgPool) -> Self {
        Self { pool, news: Arc::default() }
    }

    /// Begins at this position, unless it has begun.
    pub async fn begin(&self, head: Position) -> sqlx::Result<()> {
        sqlx::query("insert into ops.deliveries_made (position) values ($1) on conflict (one) do nothing")
            .bind(head.0 as i64)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Whether anybody wants to be told of anything: by webhooks, by push.
    pub async fn is_wanted(&self) -> sqlx::Result<(bool, bool)> {
        sqlx::query_as(
            "select exists (select 1 from ops.webhooks where active),
                    exists (select 1 from ops.push_subscriptions)",
        )
        .fetch_one(&self.pool)
        .await
    }

    /// Up to where all has been made out. Until the transaction ends nobody else makes any.
    pub async fn made(&self) -> sqlx::Result<(Transaction<'static, Postgres>, Position)> {
        let mut tx = self.pool.begin().await?;
        let position: i64 = sqlx::query_scalar("select position from ops.deliveries_made for update")
            .fetch_one(&mut *tx)
            .await?;
        Ok((tx, Position(position.unsigned_abs())))
    }

    /// Keeps what was made out up to there.
    pub async fn keep(
        &self,
        mut tx: Transaction<'static, Postgres>,
        new: &[Delivery],
        made: Position,
    ) -> sqlx::Result<()> {
        insert(&mut tx, new).await?;
        sqlx::query("update ops.deliveries_made set position = $1")
            .bind(made.0 as i64)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if !new.is_empty() {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Takes note that nobody wanted to be told of anything up to there.
    pub async fn skip(&self, made: Position) -> sqlx::Result<()> {
        sqlx::query("update ops.deliveries_made set position = greatest(position, $1)")
            .bind(made.0 as i64)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Takes what is due: of each target the first, and none for those that are busy.
    pub async fn take(&self, now: DateTime<Utc>, busy: &[Uuid], most: usize) -> sqlx::Result<Vec<Delivery>> {
        type Row =
            (Uuid, Uuid, bool, Uuid, String, Option<Uuid>, Option<Uuid>, DateTime<Utc>, DateTime<Utc>, i32);
        let rows: Vec<Row> = sqlx::query_as(
            "update ops.deliveries d
                set attempts = d.attempts + 1, due_at = $1 + $4 * power(2, d.attempts)
              where d.id in (
                    select id from ops.deliveries c
                     where due_at <= $1 and target <> all($2)
                       and not exists (select 1 from ops.deliveries before
                                        where before.target = c.target and before.id < c.id
                                          and before.due_at <= $1)
                     order by due_at, id limit $3 for update skip locked)
             returning d.id, d.target, d.is_push, d.user_id, d.what, d.about, d.other, d.at, d.due_at,
                       d.attempts",
        )
        .bind(now)
        .bind(busy)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .bind(FIRST_PAUSE)
        .fetch_all(&self.pool)
        .await?;
        let row = |(id, target, is_push, user, what, about, other, at, due_at, attempts): Row| Delivery {
            id,
            target,
            is_push,
            user: UserId(user),
            what,
            about,
            other,
            at,
            due_at,
            attempts,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Takes note that something is told, or never will be.
    pub async fn done(&self, id: Uuid) -> sqlx::Result<()> {
        sqlx::query("delete from ops.deliveries where id = $1").bind(id).execute(&self.pool).await?;
        Ok(())
    }
}

async fn insert(tx: &mut PgConnection, new: &[Delivery]) -> sqlx::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into ops.deliveries (id, target, is_push, user_id, what, about, other, at, due_at)
         select id, target, is_push, user_id, what, about, other, at, due_at
           from unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[],
                       $8::timestamptz[], $9::timestamptz[])
                as n(id, target, is_push, user_id, what, about, other, at, due_at)
          where (select count(*) from ops.deliveries d where d.target = n.target) < $10",
    )
    .bind(new.iter().map(|one| one.id).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.target).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.is_push).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.user.0).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.what.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.about).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.other).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.at).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.due_at).collect::<Vec<_>>())
    .bind(MAX_WAITING)
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn delivery(n: u128, target: u128) -> Delivery {
        Delivery {
            id: Uuid::from_u128(n),
            target: Uuid::from_u128(target),
            is_push: false,
            user: UserId(Uuid::from_u128(1)),
            what: "note".to_owned(),
            about: None,
            other: None,
            at: at(0),
            due_at: at(0),
            attempts: 0,
        }
    }

    async fn taken(deliveries: &Deliveries, seconds: i64, busy: &[u128]) -> Vec<(u128, i32)> {
        let busy: Vec<Uuid> = busy.iter().map(|n| Uuid::from_u128(*n)).collect();
        let taken = deliveries.take(at(seconds), &busy, 10).await.unwrap();
        let mut taken: Vec<_> = taken.iter().map(|one| (one.id.as_u128(), one.attempts)).collect();
        taken.sort_unstable();
        taken
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn each_is_tried_in_order_until_it_is_done(pool: PgPool) {
        let deliveries = Deliveries::new(pool);
        deliveries.begin(Position(5)).await.unwrap();
        deliveries.begin(Position(9)).await.unwrap();
        let (tx, made) = deliveries.made().await.unwrap();
        assert_eq!(made, Position(5), "begun once");
        let new = [delivery(1, 7), delivery(2, 7), delivery(3, 8)];
        deliveries.keep(tx, &new, Position(6)).await.unwrap();
        assert_eq!(deliveries.made().await.unwrap().1, Position(6));
        deliveries.skip(Position(4)).await.unwrap();
        assert_eq!(deliveries.made().await.unwrap().1, Position(6), "never back");

        assert_eq!(taken(&deliveries, -1, &[]).await, [], "not yet due");
        assert_eq!(taken(&deliveries, 0, &[]).await, [(1, 1), (3, 1)], "of each target the first");
        assert_eq!(taken(&deliveries, 0, &[7]).await, [], "the other waits while its target is busy");
        deliveries.done(Uuid::from_u128(3)).await.unwrap();
        assert_eq!(taken(&deliveries, 0, &[]).await, [(2, 1)]);
        deliveries.done(Uuid::from_u128(2)).await.unwrap();
        assert_eq!(taken(&deliveries, 29, &[]).await, []);
        assert_eq!(taken(&deliveries, 30, &[]).await, [(1, 2)], "tried again");
        assert_eq!(taken(&deliveries, 60, &[]).await, []);
        assert_eq!(taken(&deliveries, 90, &[]).await, [(1, 3)]);
    }
}
