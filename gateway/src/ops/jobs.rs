//! Work that somebody was promised, and that takes longer than a call. It is taken by one process at a time, for as
//! long as that says that it is at it; then it is anybody's, from where it had come.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use commands::log::Cipher;
use domain::export::Entity;
use domain::ids::{FileId, UserId, derived};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use uuid::Uuid;

use super::SealedError;

/// What waits for one person; with more of it nothing is taken.
pub const MAX_WAITING: i64 = 32;
/// How long a job is its holder's without a word of theirs.
pub const LEASE: Duration = Duration::seconds(15);
/// How often one is tried that comes no further.
pub const MAX_ATTEMPTS: i32 = 8;
/// The pause after the first failure; each next one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::seconds(30);

/// What is to be done. Small files have come with the request: what becomes of them later changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    Export {
        entity: Entity,
        /// Of those one follows: without whom one mutes.
        #[serde(default)]
        without_muted: bool,
        /// And without who wrote nothing for long.
        #[serde(default)]
        without_inactive: bool,
    },
    Follow {
        text: String,
        with_replies: bool,
    },
    Block {
        text: String,
    },
    Mute {
        text: String,
    },
    Lists {
        text: String,
    },
    Antennas {
        text: String,
    },
    /// Out of an archive, which may be too large to come along.
    Emoji {
        file: FileId,
    },
}

impl Work {
    /// An export of all that there is.
    pub fn export(entity: Entity) -> Self {
        Work::Export { entity, without_muted: false, without_inactive: false }
    }
}

/// Work that this process has in its hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: Uuid,
    pub user: UserId,
    /// None when this program can't read what it is.
    pub work: Option<Work>,
    /// Up to where it had been done when it was taken.
    pub reached: i32,
    holder: Uuid,
}

impl Job {
    /// The id of the `n`th thing that this job makes: the same whenever it is tried again.
    pub fn makes(&self, n: usize) -> Uuid {
        derived(self.id, n as u128)
    }
}

/// Work can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("too much waits for this person")]
pub struct TooMuchWork;

/// Keeps work.
#[derive(Clone)]
pub struct Jobs {
    pool: PgPool,
    cipher: Arc<Cipher>,
    /// Told when there is something new.
    pub news: Arc<Notify>,
    working: Arc<Mutex<()>>,
}

impl Jobs {
    pub fn new(pool: PgPool, cipher: Arc<Cipher>) -> Self {
        Self { pool, cipher, news: Arc::default(), working: Arc::default() }
    }

    /// Promises work. `id` is a new id of this instant.
    pub async fn ask(
        &self,
        id: Uuid,
        user: UserId,
        work: &Work,
        now: DateTime<Utc>,
    ) -> Result<(), SealedError<TooMuchWork>> {
        let sealed = self.cipher.seal(&serde_json::to_vec(work)?, id.as_bytes())?;
        let taken = sqlx::query(
            "insert into ops.jobs (id, user_id, sealed, due_at)
             select $1, $2, $3, $4 where (select count(*) from ops.jobs where user_id = $2) < $5",
        )
        .bind(id)
        .bind(user.0)
        .bind(sealed)
        .bind(now)
        .bind(MAX_WAITING)
        .execute(&self.pool)
        .await?;
        if taken.rows_affected() == 0 {
            return Err(SealedError::Refused(TooMuchWork));
        }
        self.news.notify_one();
        Ok(())
    }

    /// Takes what has waited longest and is nobody's. `holder` is a new id.
    pub async fn take(&self, holder: Uuid, now: DateTime<Utc>) -> sqlx::Result<Option<Job>> {
        let row: Option<(Uuid, Uuid, Vec<u8>, i32)> = sqlx::query_as(
            "update ops.jobs set attempts = attempts + 1, holder = $2, due_at = $1 + $3
              where id = (select id from ops.jobs where due_at <= $1
                           order by due_at, id limit 1 for update skip locked)
             returning id, user_id, sealed, reached",
        )
        .bind(now)
        .bind(holder)
        .bind(LEASE)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(id, user, sealed, reached)| {
            let plain = self.cipher.open(&sealed, id.as_bytes());
            let work = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
            Job { id, user: UserId(user), work, reached, holder }
        }))
    }

    /// Says that this process is still at it; false when the job is somebody else's by now, or nobody's at all.
    pub async fn hold(&self, job: &Job, now: DateTime<Utc>) -> sqlx::Result<bool> {
        let held = sqlx::query("update ops.jobs set due_at = $3 where id = $1 and holder = $2")
            .bind(job.id)
            .bind(job.holder)
            .bind(now + LEASE)
            .execute(&self.pool)
            .await?;
        Ok(held.rows_affected() > 0)
    }

    /// Says that it has been done up to here; false as above.
    pub async fn reach(&self, job: &Job, reached: i32, now: DateTime<Utc>) -> sqlx::Result<bool> {
        let held = sqlx::query(
            "update ops.jobs set reached = $3, attempts = 0, due_at = $4 where id = $1 and holder = $2",
        )
        .bind(job.id)
        .bind(job.holder)
        .bind(reached)
        .bind(now + LEASE)
        .execute(&self.pool)
        .await?;
        Ok(held.rows_affected() > 0)
    }

    /// Takes note that it is done, or never will be.
    pub async fn done(&self, job: &Job) -> sqlx::Result<()> {
        sqlx::query("delete from ops.jobs where id = $1 and holder = $2")
            .bind(job.id)
            .bind(job.holder)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Leaves it for another time, after a pause; false when it has been tried too often, and is given up.
    pub async fn again(&self, job: &Job, now: DateTime<Utc>) -> sqlx::Result<bool> {
        let waits = sqlx::query(
            "update ops.jobs
                set holder = null, due_at = $3 + $4 * power(2, greatest(attempts - 1, 0))
              where id = $1 and holder = $2 and attempts < $5",
        )
        .bind(job.id)
        .bind(job.holder)
        .bind(now)
        .bind(FIRST_PAUSE)
        .bind(MAX_ATTEMPTS)
        .execute(&self.pool)
        .await?;
        if waits.rows_affected() > 0 {
            return Ok(true);
        }
        self.done(job).await?;
        Ok(false)
    }

    /// Leaves it to whoever is next, as if it had not been taken.
    pub async fn let_go(&self, job: &Job, now: DateTime<Utc>) -> sqlx::Result<()> {
        sqlx::query(
            "update ops.jobs set holder = null, attempts = greatest(attempts - 1, 0), due_at = $3
              where id = $1 and holder = $2",
        )
        .bind(job.id)
        .bind(job.holder)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Held for as long as this process works.
    pub async fn working(&self) -> OwnedMutexGuard<()> {
        self.working.clone().lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commands::log::Keyring;

    const ALICE: UserId = UserId(Uuid::from_u128(1));

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn jobs(pool: &PgPool) -> Jobs {
        Jobs::new(pool.clone(), Arc::new(Keyring::memory().cipher("jobs")))
    }

    async fn taken(jobs: &Jobs, by: u128, seconds: i64) -> Option<Job> {
        jobs.take(id(by), at(seconds)).await.unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_job_is_one_processs_until_it_is_silent(pool: PgPool) {
        let jobs = jobs(&pool);
        let work = Work::Block { text: "bob@b.example".to_owned() };
        jobs.ask(id(1), ALICE, &work, at(0)).await.unwrap();
        let stored: String =
            sqlx::query_scalar("select t::text from ops.jobs t").fetch_one(&pool).await.unwrap();
        assert!(!stored.contains("bob") && !stored.contains("626f62"), "{stored}");

        let first = taken(&jobs, 7, 0).await.unwrap();
        assert_eq!((first.id, first.user, &first.work, first.reached), (id(1), ALICE, &Some(work), 0));
        assert_eq!(taken(&jobs, 8, 14).await, None, "it is in good hands");
        assert!(jobs.hold(&first, at(14)).await.unwrap());
        assert_eq!(taken(&jobs, 8, 28).await, None);
        assert!(jobs.reach(&first, 3, at(20)).await.unwrap());

        let second = taken(&jobs, 8, 35).await.unwrap();
        assert_eq!(second.reached, 3, "it goes on from there");
        assert!(!jobs.hold(&first, at(36)).await.unwrap());
        assert!(!jobs.reach(&first, 9, at(36)).await.unwrap());
        jobs.done(&first).await.unwrap();
        assert!(jobs.hold(&second, at(36)).await.unwrap(), "who has lost it changes nothing");
        jobs.done(&second).await.unwrap();
        assert_eq!(taken(&jobs, 9, 1_000_000).await, None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_fails_is_tried_again_and_not_for_ever(pool: PgPool) {
        let jobs = jobs(&pool);
        jobs.ask(id(1), ALICE, &Work::export(Entity::Note), at(0)).await.unwrap();
        let job = taken(&jobs, 7, 0).await.unwrap();
        jobs.let_go(&job, at(1)).await.unwrap();
        let mut now = 1;
        for attempt in 1..MAX_ATTEMPTS {
            let job = taken(&jobs, 7, now).await.unwrap();
            assert!(jobs.again(&job, at(now)).await.unwrap(), "{attempt}");
            let pause = FIRST_PAUSE.num_seconds() << (attempt - 1);
            assert_eq!(taken(&jobs, 7, now + pause - 1).await, None, "{attempt}");
            now += pause;
        }
        let job = taken(&jobs, 7, now).await.unwrap();
        assert!(!jobs.again(&job, at(now)).await.unwrap());
        assert_eq!(taken(&jobs, 7, 1_000_000).await, None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn one_person_has_only_so_much_waiting(pool: PgPool) {
        let jobs = jobs(&pool);
        let work = Work::export(Entity::Note);
        for n in 0..MAX_WAITING.unsigned_abs() {
            jobs.ask(id(n.into()), ALICE, &work, at(0)).await.unwrap();
        }
        assert!(matches!(
            jobs.ask(id(99), ALICE, &work, at(0)).await,
            Err(SealedError::Refused(TooMuchWork))
        ));
        jobs.ask(id(99), UserId(id(2)), &work, at(0)).await.unwrap();
    }
}
