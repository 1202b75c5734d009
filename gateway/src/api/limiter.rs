//! Where calls are counted: in memory while this process alone answers them on its database, in the table
//! `ops.rate_windows` while several do. Both count alike. [`crate::neighbours`] says which of the two it is,
//! and nothing is forgotten when that changes.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::PgPool;
use tokio::sync::RwLock;

use super::rate::{Count, Limit, MAX_CALLS, MAX_WINDOWS, RateLimiter, Remembered, TooOften, counts, verdict};

/// Calls written to the table at once; one window more may be in it.
const MAX_CALLS_AT_ONCE: usize = 50_000;
/// Longer than any limit, in milliseconds: so long that sums stay within the range of a number.
const MAX_DURATION_MS: i64 = 100 * 365 * 24 * 60 * 60 * 1_000;

/// Counts the calls of all callers.
pub struct Limiter {
    memory: RateLimiter,
    pool: PgPool,
    place: RwLock<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Memory,
    Table,
}

impl Limiter {
    /// Counts in memory until it is told otherwise.
    pub fn new(pool: PgPool) -> Self {
        Self { memory: RateLimiter::default(), pool, place: RwLock::new(Place::Memory) }
    }

    /// Counts a call of `actor`. A `factor` of 2 means half as many calls and twice the interval.
    pub async fn admit(
        &self,
        limit: &Limit,
        path: &str,
        actor: &str,
        factor: f64,
        now: DateTime<Utc>,
    ) -> sqlx::Result<Result<(), TooOften>> {
        let place = self.place.read().await;
        match *place {
            Place::Memory => Ok(self.memory.admit(limit, path, actor, factor, now)),
            Place::Table => self.count(counts(limit, path, actor, factor).collect(), now).await,
        }
    }

    /// Counts in the table from now on, with what memory knows.
    pub async fn share(&self, now: DateTime<Utc>) -> sqlx::Result<()> {
        let mut place = self.place.write().await;
        let mut taken = Taken { memory: &self.memory, windows: self.memory.take(now), now };
        while !taken.windows.is_empty() {
            let mut calls = 0;
            let fit = taken.windows.iter().position(|window| {
                let full = calls >= MAX_CALLS_AT_ONCE;
                calls += window.ago_ms.len();
                full
            });
            let fit = fit.unwrap_or(taken.windows.len());
            self.write(taken.windows.get(..fit).unwrap_or_default()).await?;
            taken.windows.drain(..fit);
        }
        *place = Place::Table;
        Ok(())
    }

    /// Counts in memory from now on, with what the table knows. Only for a process that is alone.
    pub async fn keep(&self, now: DateTime<Utc>) -> sqlx::Result<()> {
        let mut place = self.place.write().await;
        let mut tx = self.pool.begin().await?;
        let remembered: Vec<Remembered> = sqlx::query_as(
            "select key, duration_ms,
                    array(select greatest((extract(epoch from now()) * 1000)::bigint - call, 0)
                            from unnest(calls) with ordinality c(call, nth) order by nth)
               from ops.rate_windows limit $1",
        )
        .bind(MAX_WINDOWS as i64)
        .fetch(&mut *tx)
        .map_ok(|(key, duration_ms, ago_ms): (String, i64, Vec<i64>)| Remembered { key, duration_ms, ago_ms })
        .try_collect()
        .await?;
        sqlx::query("truncate ops.rate_windows").execute(&mut *tx).await?;
        tx.commit().await?;
        self.memory.give(remembered, now);
        *place = Place::Memory;
        Ok(())
    }

    /// Removes windows that have ended, and when there are still too many, a tenth of them.
    pub async fn sweep(&self) -> sqlx::Result<()> {
        if *self.place.read().await == Place::Memory {
            return Ok(());
        }
        sqlx::query(
            "delete from ops.rate_windows
              where calls[cardinality(calls)] + duration_ms <= (extract(epoch from clock_timestamp()) * 1000)::bigint",
        )
        .execute(&self.pool)
        .await?;
        sqlx::query(
            "delete from ops.rate_windows
              where key in (select key from ops.rate_windows
                             limit (select case when count(*) > $1 or sum(cardinality(calls)) > $2
                                                then count(*) / 10 + 1 else 0 end
                                      from ops.rate_windows))",
        )
        .bind(MAX_WINDOWS as i64)
        .bind(MAX_CALLS as i64)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Counts a call in the table, in one statement. A call that the first count refuses isn't counted in
    /// the second.
    async fn count(&self, counts: Vec<Count>, now: DateTime<Utc>) -> sqlx::Result<Result<(), TooOften>> {
        type Found = (i64, i32, i64, Option<i32>, Option<i64>);
        let Some(first) = counts.first() else { return Ok(Ok(())) };
        let second = counts.get(1);
        let (database_now, before, oldest, before_second, oldest_second): Found = sqlx::query_as(COUNT)
            .bind(&first.key)
            .bind(first.duration_ms.min(MAX_DURATION_MS))
            .bind(first.kept() as i32)
            .bind(first.max)
            .bind(second.map(|count| &count.key))
            .bind(second.map(|count| count.duration_ms.min(MAX_DURATION_MS)))
            .bind(second.map(|count| count.kept() as i32))
            .fetch_one(&self.pool)
            .await?;
        // The two clocks may differ, so only times between two readings of one are taken.
        let judge = |count: &Count, before: i32, oldest: i64| {
            let ago = database_now.saturating_sub(oldest);
            let reset_ms = now.timestamp_millis().saturating_add(count.duration_ms.saturating_sub(ago));
            verdict(usize::try_from(before).unwrap_or(0), count.max, reset_ms)
        };
        let told = judge(first, before, oldest);
        Ok(match second.zip(before_second.zip(oldest_second)) {
            Some((second, (before, oldest))) => told.and_then(|()| judge(second, before, oldest)),
            None => told,
        })
    }

    async fn write(&self, windows: &[Remembered]) -> sqlx::Result<()> {
        let keys: Vec<&str> = windows.iter().map(|window| window.key.as_str()).collect();
        let durations: Vec<i64> =
            windows.iter().map(|window| window.duration_ms.min(MAX_DURATION_MS)).collect();
        let calls =
            || windows.iter().zip(1_i32..).flat_map(|(w, nth)| w.ago_ms.iter().map(move |ago| (nth, *ago)));
        sqlx::query(
            "insert into ops.rate_windows as w (key, duration_ms, before, calls)
             select g.key, g.duration_ms, 0,
                    array_agg((extract(epoch from now()) * 1000)::bigint - c.ago order by c.ago desc)
               from unnest($1::text[], $2::bigint[]) with ordinality as g(key, duration_ms, nth)
               join unnest($3::integer[], $4::bigint[]) as c(nth, ago) on c.nth = g.nth
              group by g.key, g.duration_ms
             on conflict (key) do update
                set duration_ms = excluded.duration_ms,
                    calls = array(select call from unnest(w.calls || excluded.calls) as c(call) order by call)",
        )
        .bind(keys)
        .bind(durations)
        .bind(calls().map(|(nth, _)| nth).collect::<Vec<_>>())
        .bind(calls().map(|(_, ago)| ago).collect::<Vec<_>>())
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// What memory knew and the table doesn't know yet: memory has it again when it isn't written, also when
/// nobody waits for that any more.
struct Taken<'m> {
    memory: &'m RateLimiter,
    windows: Vec<Remembered>,
    now: DateTime<Utc>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.memory.give(std::mem::take(&mut self.windows), self.now);
    }
}

/// Adds the present call to a window: $1 its key, $2 its duration, $3 the calls that are kept, $4 when.
macro_rules! add {
    ($key:literal, $duration:literal, $kept:literal, $from:literal) => {
        concat!(
            "insert into ops.rate_windows as w (key, duration_ms, before, calls) select ",
            $key,
            "::text, ",
            $duration,
            "::bigint, 0, array[now] from ",
            $from,
            " on conflict (key) do update set (duration_ms, before, calls) = (
                select excluded.duration_ms, c.made - c.ended,
                       w.calls[greatest(c.ended, c.made + 1 - ",
            $kept,
            "::integer) + 1:] || greatest(excluded.calls[1], w.calls[c.made])
                  from (select cardinality(w.calls) as made,
                               width_bucket(excluded.calls[1] - excluded.duration_ms, w.calls) as ended) c)
             returning before, calls[1] as oldest"
        )
    };
}

const COUNT: &str = concat!(
    "with clock as (select (extract(epoch from clock_timestamp()) * 1000)::bigint as now), first as (",
    add!("$1", "$2", "$3", "clock"),
    "), second as (",
    add!("$5", "$6", "$7", "clock, first where first.before < $4::double precision and $5 is not null"),
    ") select clock.now, first.before, first.oldest, second.before, second.oldest
         from clock cross join first left join second on true"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::per;
    use std::time::{Duration, Instant};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000).unwrap()
    }

    const LIMIT: Limit = Limit { key: None, window: Some((3, per::HOUR)), interval: None };
    const SPACED: Limit = Limit { interval: Some(per::MINUTE), ..LIMIT };

    async fn call(limiter: &Limiter, limit: &Limit, actor: &str) -> Result<(), TooOften> {
        limiter.admit(limit, "x", actor, 1.0, now()).await.unwrap()
    }

    async fn shared(pool: &PgPool) -> Limiter {
        let limiter = Limiter::new(pool.clone());
        limiter.share(now()).await.unwrap();
        limiter
    }

    /// Lets time pass for all that was counted.
    async fn pass(pool: &PgPool, millis: u64) {
        sqlx::query("update ops.rate_windows set calls = array(select c - $1 from unnest(calls) c)")
            .bind(millis as i64)
            .execute(pool)
            .await
            .unwrap();
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn two_that_share_count_together_as_one_does_alone(pool: PgPool) {
        let (first, second, alone) = (shared(&pool).await, shared(&pool).await, RateLimiter::default());
        for round in 0..12 {
            let (limit, actor) = if round < 6 { (LIMIT, "a") } else { (SPACED, "b") };
            let one = if round % 2 == 0 { &first } else { &second };
            let told = call(one, &limit, actor).await;
            let expected = alone.admit(&limit, "x", actor, 1.0, now());
            assert_eq!(told.is_ok(), expected.is_ok(), "{round}");
            if let (Err(told), Err(expected)) = (told, expected) {
                assert_eq!(told.total, expected.total);
                assert!((told.reset_ms - expected.reset_ms).abs() < 10_000, "{told:?} {expected:?}");
            }
        }
        pass(&pool, per::MINUTE).await;
        assert!(call(&first, &SPACED, "b").await.is_ok(), "what the interval refuses isn't in the window");
        assert!(call(&first, &LIMIT, "a").await.is_err());
        pass(&pool, per::HOUR).await;
        assert!(call(&second, &LIMIT, "a").await.is_ok());
        let free = Limit { window: None, ..LIMIT };
        assert!(call(&first, &free, "a").await.is_ok());
        assert!(first.admit(&SPACED, "x", "c", f64::MAX, now()).await.unwrap().is_ok());
        assert!(
            first.admit(&SPACED, "x", "c", f64::MAX, now()).await.unwrap().is_err(),
            "longer than there is time"
        );
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn not_one_too_many_passes_a_crowd(pool: PgPool) {
        let (first, second) = (shared(&pool).await, shared(&pool).await);
        let limit = Limit { window: Some((20, per::HOUR)), ..LIMIT };
        let crowd = (0..60).map(|n| call(if n % 2 == 0 { &first } else { &second }, &limit, "a"));
        let outcomes = futures_util::future::join_all(crowd).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 20);
        let kept: i32 = sqlx::query_scalar("select cardinality(calls) from ops.rate_windows")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(kept, 20);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn nothing_is_forgotten_between_memory_and_table(pool: PgPool) {
        let (first, second) = (Limiter::new(pool.clone()), Limiter::new(pool.clone()));
        assert!(call(&first, &LIMIT, "a").await.is_ok());
        assert!(call(&second, &LIMIT, "a").await.is_ok());
        first.share(now()).await.unwrap();
        second.share(now()).await.unwrap();
        assert!(call(&first, &LIMIT, "a").await.is_ok());
        assert!(call(&second, &LIMIT, "a").await.is_err());
        first.keep(now()).await.unwrap();
        assert!(call(&first, &LIMIT, "a").await.is_err());
        let left: i64 =
            sqlx::query_scalar("select count(*) from ops.rate_windows").fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn nothing_is_forgotten_when_the_table_is_not_to_be_had(pool: PgPool) {
        let limiter = Limiter::new(pool.clone());
        assert!(call(&limiter, &LIMIT, "a").await.is_ok() && call(&limiter, &LIMIT, "a").await.is_ok());
        let mut other = pool.begin().await.unwrap();
        sqlx::query("lock ops.rate_windows").execute(&mut *other).await.unwrap();
        let sharing = tokio::time::timeout(Duration::from_millis(100), limiter.share(now()));
        assert!(sharing.await.is_err(), "it has to wait");
        other.rollback().await.unwrap();
        assert!(call(&limiter, &LIMIT, "a").await.is_ok());
        assert!(call(&limiter, &LIMIT, "a").await.is_err());
        limiter.share(now()).await.unwrap();
        assert!(call(&limiter, &LIMIT, "a").await.is_err());
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_has_ended_and_what_is_too_much_is_swept_away(pool: PgPool) {
        let limiter = shared(&pool).await;
        assert!(call(&limiter, &LIMIT, "a").await.is_ok());
        pass(&pool, per::HOUR).await;
        assert!(call(&limiter, &LIMIT, "b").await.is_ok());
        limiter.sweep().await.unwrap();
        let left: Vec<String> =
            sqlx::query_scalar("select key from ops.rate_windows").fetch_all(&pool).await.unwrap();
        assert_eq!(left, ["b:x"]);
        sqlx::query(
            "insert into ops.rate_windows (key, duration_ms, before, calls)
             select n, 3600000, 0, array[(extract(epoch from now()) * 1000)::bigint]
               from generate_series(1, $1) n",
        )
        .bind(MAX_WINDOWS as i64)
        .execute(&pool)
        .await
        .unwrap();
        limiter.sweep().await.unwrap();
        let left: i64 =
            sqlx::query_scalar("select count(*) from ops.rate_windows").fetch_one(&pool).await.unwrap();
        assert!(left <= MAX_WINDOWS as i64 * 9 / 10 + 1, "{left}");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_shared_count_costs_one_statement(pool: PgPool) {
        const CALLS: u32 = 300;
        let limiter = shared(&pool).await;
        let limit = Limit { window: Some((CALLS, per::HOUR)), ..LIMIT };
        let began = Instant::now();
        for _ in 0..CALLS {
            assert!(call(&limiter, &limit, "a").await.is_ok());
        }
        eprintln!("a call counted in the table: {:?}", began.elapsed() / CALLS);
    }
}
