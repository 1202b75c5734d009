//! Passwords: argon2id, hashed away from the async threads, a few at a time. A bcrypt hash brought from
//! another server is accepted, and replaced when its owner next signs in.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use chrono::{DateTime, Utc};
use domain::ids::UserId;
use sqlx::PgPool;
use tokio::sync::{OnceCell, Semaphore};

/// The longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Passwords hashed at the same time; each takes one thread and 19 MiB for some 20 ms.
const HASHERS: usize = 2;
/// Passwords hashed or waiting for it; more are refused.
const MAX_WAITING: usize = 64;

/// A password could not be stored or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many passwords are being checked; try again later.
    #[error("too many passwords at once")]
    Busy,
    #[error("a password has 1 to {MAX_PASSWORD_BYTES} bytes")]
    Length,
    #[error("hashing failed: {0}")]
    Hash(String),
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
}

/// Sets and checks passwords. Clones share their queue.
#[derive(Clone)]
pub struct Passwords {
    pool: PgPool,
    hashers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// What is checked for a person without a password, so that it takes as long.
    decoy: Arc<OnceCell<String>>,
}

impl Passwords {
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            hashers: Arc::new(Semaphore::new(HASHERS)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            decoy: Arc::default(),
        }
    }

    /// Sets the password of a person.
    pub async fn set(&self, user: UserId, password: &str, now: DateTime<Utc>) -> Result<(), PasswordError> {
        let hash = self.hash(password).await?;
        Ok(self.set_hash(user, &hash, now).await?)
    }

    /// Sets the password of which this is the hash.
    pub async fn set_hash(&self, user: UserId, hash: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "insert into ops.passwords (user_id, hash, changed_at) values ($1, $2, $3)
             on conflict (user_id) do update set hash = excluded.hash, changed_at = excluded.changed_at",
        )
        .bind(user.0)
        .bind(hash)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets the password of a person.
    pub async fn remove(&self, user: UserId) -> Result<(), sqlx::Error> {
        sqlx::query("delete from ops.passwords where user_id = $1").bind(user.0).execute(&self.pool).await?;
        Ok(())
    }

    /// Whether this is the person's password. Takes as long for nobody (`None`) as for somebody.
    pub async fn verify(
        &self,
        user: Option<UserId>,
        password: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let known: Option<String> = match user {
            Some(user) => {
                sqlx::query_scalar("select hash from ops.passwords where user_id = $1")
                    .bind(user.0)
                    .fetch_optional(&self.pool)
                    .await?
            }
            None => None,
        };
        let Some((user, hash)) = user.zip(known) else {
            let decoy = self.decoy.get_or_try_init(|| self.hash("decoy")).await?.clone();
            self.check(decoy, password).await?;
            return Ok(false);
        };
        let outdated = is_bcrypt(&hash);
        let right = self.check(hash, password).await?;
        if right && outdated {
            self.set(user, password, now).await?;
        }
        Ok(right)
    }

    /// What is kept of a password.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::Length);
        }
        let password = password.to_owned();
        self.blocking(move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|cause| PasswordError::Hash(cause.to_string()))
        })
        .await
    }

    async fn check(&self, hash: String, password: &str) -> Result<bool, PasswordError> {
        let password = password.to_owned();
        self.blocking(move || {
            if is_bcrypt(&hash) {
                return bcrypt::verify(&password, &hash)
                    .map_err(|cause| PasswordError::Hash(cause.to_string()));
            }
            let parsed = PasswordHash::new(&hash).map_err(|cause| PasswordError::Hash(cause.to_string()))?;
            Ok(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| PasswordError::Busy)?;
        let hasher = self.hashers.clone().acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a caller that goes away doesn't make room for more.
            let _hasher = hasher;
            work()
        });
        done.await.map_err(|cause| PasswordError::Hash(cause.to_string()))?
    }
}

fn is_bcrypt(hash: &str) -> bool {
    hash.starts_with("$2")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u128) -> UserId {
        UserId(uuid::Uuid::from_u128(n))
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    async fn stored(pool: &PgPool, user: UserId) -> String {
        sqlx::query_scalar("select hash from ops.passwords where user_id = $1")
            .bind(user.0)
            .fetch_one(pool)
            .await
            .unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn only_the_right_password_of_the_right_person(pool: PgPool) {
        let passwords = Passwords::new(pool.clone());
        passwords.set(user(1), "correct horse", now()).await.unwrap();
        assert!(stored(&pool, user(1)).await.starts_with("$argon2id$"));
        assert!(passwords.verify(Some(user(1)), "correct horse", now()).await.unwrap());
        assert!(!passwords.verify(Some(user(1)), "wrong", now()).await.unwrap());
        assert!(!passwords.verify(Some(user(1)), "", now()).await.unwrap());
        assert!(!passwords.verify(Some(user(2)), "correct horse", now()).await.unwrap());
        assert!(!passwords.verify(None, "decoy", now()).await.unwrap());
        let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
        assert!(matches!(passwords.set(user(1), &long, now()).await, Err(PasswordError::Length)));
        assert!(matches!(passwords.set(user(1), "", now()).await, Err(PasswordError::Length)));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_bcrypt_hash_is_accepted_and_replaced(pool: PgPool) {
        let passwords = Passwords::new(pool.clone());
        sqlx::query("insert into ops.passwords (user_id, hash, changed_at) values ($1, $2, $3)")
            .bind(user(1).0)
            .bind(bcrypt::hash("correct horse", 4).unwrap())
            .bind(now())
            .execute(&pool)
            .await
            .unwrap();
        assert!(!passwords.verify(Some(user(1)), "wrong", now()).await.unwrap());
        assert!(stored(&pool, user(1)).await.starts_with("$2"));
        assert!(passwords.verify(Some(user(1)), "correct horse", now()).await.unwrap());
        assert!(stored(&pool, user(1)).await.starts_with("$argon2id$"));
        assert!(passwords.verify(Some(user(1)), "correct horse", now()).await.unwrap());
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_crowd_is_refused_not_queued_without_end(pool: PgPool) {
        let passwords = Passwords::new(pool);
        let crowd = (0..MAX_WAITING + 20).map(|_| {
            passwords.blocking(|| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                Ok(())
            })
        });
        let outcomes = futures_util::future::join_all(crowd).await;
        let refused = outcomes.iter().filter(|o| matches!(o, Err(PasswordError::Busy))).count();
        assert_eq!(refused, 20);
    }
}
