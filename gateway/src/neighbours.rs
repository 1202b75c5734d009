//! The other processes on this database: what they end is forgotten here, and calls are counted with them.
//! One connection hears and holds both.
//!
//! - **Tokens.** The database tells every process when a token ends, with the transaction that ends it, by a
//!   trigger. While the connection stands, [`Tokens`](crate::ops::Tokens) may remember; when it is lost, or
//!   doesn't answer, nothing is remembered; when it is there again, memory begins empty.
//! - **Calls.** Whoever answers calls holds a lock of this connection: alone, and then calls are counted in
//!   memory, or shared, and then in the table. A process that comes and finds one alone asks it to share and
//!   waits, so no call is counted in two places; one that dies lets go with its connection. Only when a
//!   connection is lost under a living process may a few calls be counted apart, until it has its place back.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::UserId;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

use crate::api::Core;
use crate::ops::tokens::Ended;
use crate::platform::shutdown::Shutdown;

/// How often it is asked whether the connection still stands.
pub const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long the database may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a process that starts waits for its place. One that is alone and hangs doesn't give it one, and
/// counts no calls either.
pub const PLACE_WITHIN: Duration = Duration::from_secs(3);
/// How often a process without a place asks for one.
const PLACE_EVERY: Duration = Duration::from_millis(20);
/// How often a process that shares looks whether it is alone.
pub const ALONE_EVERY: Duration = Duration::from_secs(2);
/// How often counted calls that no longer matter are removed.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The first and the longest pause before a lost connection is made anew.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the database tells with the end of a token: the id of its person, or nothing for all.
const TOKENS: &str = "kiroku_tokens";
/// What is told to a process that counts alone.
const CALLS: &str = "kiroku_calls";
/// The lock of those who answer calls.
const LOCK: &str = "hashtextextended('kiroku.calls', 0)";

/// Listens, and takes the process's place among those who answer calls if it does. Returns when it has both,
/// so to be awaited before the first call is answered; at most after [`PLACE_WITHIN`].
pub async fn join(core: Arc<Core>, pool: &PgPool, answers_calls: bool, shutdown: Shutdown) {
    let (there, has_come) = oneshot::channel();
    let door = Door { core: core.clone(), options: (*pool.connect_options()).clone(), answers_calls };
    tokio::spawn(async move {
        tokio::select! {
            _ = shutdown.wait() => (),
            () = door.stay(Some(there)) => (),
        }
        door.core.tokens.deaf();
    });
    if !matches!(timeout(PLACE_WITHIN, has_come).await, Ok(Ok(()))) && answers_calls {
        tracing::warn!("another process counts calls alone and doesn't answer");
        if let Err(error) = core.limiter.share(core.clock.now()).await {
            tracing::error!(%error, "calls are counted in memory");
        }
    }
}

struct Door {
    core: Arc<Core>,
    options: PgConnectOptions,
    answers_calls: bool,
}

/// The place of this process among those who answer calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not asked for, or not given yet.
    None,
    Alone,
    Shared,
}

impl Door {
    /// Keeps a connection for ever.
    async fn stay(&self, mut there: Option<oneshot::Sender<()>>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let options = self.options.clone();
            let own = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER_WITHIN);
            let own = own.idle_timeout(None).max_lifetime(None).connect_lazy_with(options);
            let Err(error) = self.visit(&own, &mut there).await;
            self.core.tokens.deaf();
            tracing::warn!(%error, "what other processes do isn't heard; trying again");
            // The lock goes with the connection.
            timeout(ANSWER_WITHIN, own.close()).await.ok();
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Listens until the connection is lost.
    async fn visit(
        &self,
        own: &PgPool,
        there: &mut Option<oneshot::Sender<()>>,
    ) -> Result<std::convert::Infallible, Lost> {
        let mut line = PgListener::connect_with(own).await?;
        line.ignore_pool_close_event(true);
        line.eager_reconnect(false);
        in_time(line.listen_all([TOKENS, CALLS])).await?;
        // What ended before wasn't heard.
        self.core.tokens.ended(Ended::Unknown);
        let me: i32 = in_time(sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut line)).await?;
        let mut place = Place::None;
        let (mut looked, mut swept) = (Instant::now(), Instant::now());
        let mut asks = interval(ASK_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = line.try_recv() => {
                    let told = told?.ok_or(Lost::Gone)?;
                    place = in_time(self.hear(&mut line, told, me, place)).await?;
                    continue;
                }
                _ = asks.tick() => (),
                () = sleep(PLACE_EVERY), if self.answers_calls && place == Place::None => (),
            }
            let began = Instant::now();
            in_time(async {
                if self.answers_calls && place == Place::None {
                    place = self.take_place(&mut line).await?;
                }
                if place == Place::Shared && looked.elapsed() >= ALONE_EVERY {
                    looked = Instant::now();
                    place = self.look_around(&mut line).await?;
                }
                sqlx::query("select 1").execute(&mut line).await
            })
            .await?;
            // What was told before the answer has come with it.
            while let Some(told) = line.next_buffered() {
                place = in_time(self.hear(&mut line, told, me, place)).await?;
            }
            self.core.tokens.heard_all(began);
            if (place != Place::None || !self.answers_calls)
                && let Some(there) = there.take()
            {
                // Nobody waits any more: it took too long.
                _ = there.send(());
            }
            if place == Place::Shared && swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                self.core.limiter.sweep().await?;
            }
        }
    }

    async fn hear(
        &self,
        line: &mut PgListener,
        told: PgNotification,
        me: i32,
        place: Place,
    ) -> sqlx::Result<Place> {
        if told.channel() == TOKENS {
            let user = Uuid::from_str(told.payload()).map(UserId);
            self.core.tokens.ended(user.map_or(Ended::Unknown, Ended::Of));
        } else if place == Place::Alone && told.process_id() != me.cast_unsigned() {
            self.core.limiter.share(self.core.clock.now()).await?;
            ask(line, "pg_advisory_lock_shared").await?;
            ask(line, "pg_advisory_unlock").await?;
            return Ok(Place::Shared);
        }
        Ok(place)
    }

    /// Takes the lock alone, or else shared, if those who have it share already.
    async fn take_place(&self, line: &mut PgListener) -> sqlx::Result<Place> {
        if try_for(line, "pg_try_advisory_lock").await? {
            self.core.limiter.keep(self.core.clock.now()).await?;
            return Ok(Place::Alone);
        }
        if try_for(line, "pg_try_advisory_lock_shared").await? {
            self.core.limiter.share(self.core.clock.now()).await?;
            return Ok(Place::Shared);
        }
        sqlx::query("select pg_notify($1, '')").bind(CALLS).execute(line).await?;
        Ok(Place::None)
    }

    /// Takes the lock alone if the others have gone.
    async fn look_around(&self, line: &mut PgListener) -> sqlx::Result<Place> {
        if !try_for(line, "pg_try_advisory_lock").await? {
            return Ok(Place::Shared);
        }
        self.core.limiter.keep(self.core.clock.now()).await?;
        ask(line, "pg_advisory_unlock_shared").await?;
        Ok(Place::Alone)
    }
}

/// Why nothing is heard.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the connection has ended")]
    Gone,
    #[error("the database doesn't answer")]
    Silent,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

async fn in_time<T>(asked: impl Future<Output = sqlx::Result<T>>) -> Result<T, Lost> {
    Ok(timeout(ANSWER_WITHIN, asked).await.map_err(|_| Lost::Silent)??)
}

async fn ask(line: &mut PgListener, function: &'static str) -> sqlx::Result<()> {
    let statement = sqlx::AssertSqlSafe(format!("select {function}({LOCK})"));
    sqlx::query(statement).execute(line).await?;
    Ok(())
}

async fn try_for(line: &mut PgListener, function: &'static str) -> sqlx::Result<bool> {
    let statement = sqlx::AssertSqlSafe(format!("select {function}({LOCK})"));
    sqlx::query_scalar(statement).fetch_one(line).await
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::admit::tests::core_over;
    use crate::api::per;
    use crate::api::rate::Limit;
    use crate::platform::shutdown::Stop;

    const IN_TIME: Duration = Duration::from_secs(20);
    const LIMIT: Limit = Limit { key: None, window: Some((4, per::HOUR)), interval: None };

    struct Process {
        core: Arc<Core>,
        shutdown: Shutdown,
    }

    impl Process {
        async fn start(pool: &PgPool) -> Self {
            let process =
                Self { core: Arc::new(core_over(pool.clone(), Vec::new())), shutdown: Shutdown::default() };
            join(process.core.clone(), pool, true, process.shutdown.clone()).await;
            process
        }

        async fn call(&self) -> bool {
            let (limiter, now) = (&self.core.limiter, self.core.clock.now());
            limiter.admit(&LIMIT, "x", "a", 1.0, now).await.unwrap().is_ok()
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            self.shutdown.begin(Stop::Asked);
        }
    }

    async fn rows(pool: &PgPool) -> i64 {
        sqlx::query_scalar("select count(*) from ops.rate_windows").fetch_one(pool).await.unwrap()
    }

    /// Waits until something is so.
    pub(crate) async fn eventually(mut reached: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + IN_TIME;
        while !reached().await {
            assert!(Instant::now() < deadline, "too late");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn calls_are_counted_in_memory_alone_and_together_in_the_table(pool: PgPool) {
        let first = Process::start(&pool).await;
        assert!(first.call().await);
        assert_eq!(rows(&pool).await, 0);
        let second = Process::start(&pool).await;
        assert_eq!(rows(&pool).await, 1, "what the first knew, before the second counts");
        assert!(second.call().await && first.call().await && second.call().await);
        assert!(!first.call().await && !second.call().await);
        drop(second);
        eventually(async || rows(&pool).await == 0).await;
        assert!(!first.call().await);
        assert_eq!(rows(&pool).await, 0);
        let third = Process::start(&pool).await;
        assert!(!third.call().await);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_token_ends_in_both_also_when_a_connection_was_lost(pool: PgPool) {
        let (first, second) = (Process::start(&pool).await, Process::start(&pool).await);
        let (user, now) = (UserId(Uuid::from_u128(1)), first.core.clock.now());
        let mut token = first.core.tokens.native(user, now).await.unwrap();
        for lost in [false, true] {
            for process in [&first, &second] {
                assert!(process.core.tokens.find(&token).await.unwrap().is_some());
            }
            if lost {
                sqlx::query(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                      where datname = current_database()
                        and pid in (select pid from pg_locks where locktype = 'advisory')",
                )
                .execute(&pool)
                .await
                .unwrap();
            }
            let ended = std::mem::replace(&mut token, first.core.tokens.regenerate(user, now).await.unwrap());
            eventually(async || second.core.tokens.find(&ended).await.unwrap().is_none()).await;
            assert!(first.core.tokens.find(&ended).await.unwrap().is_none());
        }
        eventually(async || {
            let held = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                         where d.datname = current_database() and locktype = 'advisory' and granted";
            sqlx::query_scalar::<_, i64>(held).fetch_one(&pool).await.unwrap() == 2
        })
        .await;
        for _ in 0..2 {
            assert!(first.call().await && second.call().await);
        }
        assert!(!first.call().await && !second.call().await);
    }
}
