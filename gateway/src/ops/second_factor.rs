//! One-time passwords (RFC 6238) and backup codes. The secret is sealed; what lets in once is taken once.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use commands::log::{Cipher, KeysError};
use data_encoding::BASE32_NOPAD;
use domain::ids::UserId;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sqlx::PgPool;

use super::secret::{self, NoRandomness};

/// How many backup codes there are at first.
pub const BACKUP_CODES: usize = 20;
/// How long one code is right, in seconds.
pub const STEP_SECONDS: i64 = 30;
pub const DIGITS: usize = 6;
/// Steps that a clock may be early or late.
const DRIFT_STEPS: i64 = 1;
/// 160 bits, as the standard recommends; and as much in a backup code.
const SECRET_BYTES: usize = 20;
/// The longest text that is looked at as a code, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// The second factor of a person can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SecondFactorError {
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("the secret of {0} can't be unsealed")]
    Damaged(UserId),
}

/// Keeps and checks the second factors of people.
#[derive(Clone)]
pub struct SecondFactors {
    pool: PgPool,
    cipher: Arc<Cipher>,
}

impl SecondFactors {
    pub fn new(pool: PgPool, cipher: Arc<Cipher>) -> Self {
        Self { pool, cipher }
    }

    /// Whether a person needs a code to get in, and whether a passkey alone lets them in.
    pub async fn of(&self, user: UserId) -> sqlx::Result<InForce> {
        let row: Option<(bool, bool, bool)> = sqlx::query_as(
            "select secret is not null, password_less,
                    exists (select 1 from ops.passkeys p where p.user_id = $1)
               from ops.second_factors where user_id = $1",
        )
        .bind(user.0)
        .fetch_optional(&self.pool)
        .await?;
        let (codes, password_less, passkeys) = row.unwrap_or_default();
        Ok(InForce { codes, passkeys, password_less: password_less && passkeys })
    }

    /// Makes a secret that is not in force yet; in base32, as apps take it.
    pub async fn propose(&self, user: UserId) -> Result<String, SecondFactorError> {
        let fresh: [u8; SECRET_BYTES] = secret::random()?;
        let sealed = self.cipher.seal(&fresh, user.0.as_bytes())?;
        sqlx::query(
            "insert into ops.second_factors (user_id, pending) values ($1, $2)
             on conflict (user_id) do update set pending = excluded.pending",
        )
        .bind(user.0)
        .bind(sealed)
        .execute(&self.pool)
        .await?;
        Ok(BASE32_NOPAD.encode(&fresh))
    }

    /// Puts the proposed secret in force, once its person shows a code of it; returns the backup codes. None
    /// when the code is wrong or nothing was proposed.
    pub async fn enable(
        &self,
        user: UserId,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<String>>, SecondFactorError> {
        let pending: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("select pending from ops.second_factors where user_id = $1")
                .bind(user.0)
                .fetch_optional(&self.pool)
                .await?;
        let Some(sealed) = pending.flatten() else { return Ok(None) };
        let plain = self.unseal(user, &sealed)?;
        if right_step(&plain, code, now).is_none() {
            return Ok(None);
        }
        let mut codes = Vec::with_capacity(BACKUP_CODES);
        for _ in 0..BACKUP_CODES {
            codes.push(BASE32_NOPAD.encode(&secret::random::<SECRET_BYTES>()?));
        }
        let hashes: Vec<Vec<u8>> = codes.iter().map(|code| secret::hash(code).to_vec()).collect();
        let enabled = sqlx::query(
            "update ops.second_factors set secret = pending, pending = null, backup_codes = $3
              where user_id = $1 and pending = $2",
        )
        .bind(user.0)
        .bind(sealed)
        .bind(hashes)
        .execute(&self.pool)
        .await?;
        Ok((enabled.rows_affected() > 0).then_some(codes))
    }

    /// Takes it all back: the secret, the backup codes, the passkeys.
    pub async fn disable(&self, user: UserId) -> sqlx::Result<()> {
        let mut tx = self.pool.begin().await?;
        for table in ["second_factors", "used_codes", "passkeys"] {
            let sql = sqlx::AssertSqlSafe(format!("delete from ops.{table} where user_id = $1"));
            sqlx::query(sql).bind(user.0).execute(&mut *tx).await?;
        }
        tx.commit().await
    }

    /// Sets whether a passkey alone lets in; false when the person has no code in force.
    pub async fn set_password_less(&self, user: UserId, value: bool) -> sqlx::Result<bool> {
        let set = sqlx::query(
            "update ops.second_factors set password_less = $2 where user_id = $1 and secret is not null",
        )
        .bind(user.0)
        .bind(value)
        .execute(&self.pool)
        .await?;
        Ok(set.rows_affected() > 0)
    }

    /// Takes a code, or a backup code. Each code is taken once for each purpose, each backup code once.
    pub async fn take(
        &self,
        user: UserId,
        purpose: &str,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, SecondFactorError> {
        if code.is_empty() || code.len() > MAX_CODE_BYTES {
            return Ok(false);
        }
        let sealed: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("select secret from ops.second_factors where user_id = $1")
                .bind(user.0)
                .fetch_optional(&self.pool)
                .await?;
        let Some(sealed) = sealed.flatten() else { return Ok(false) };
        let Some(step) = right_step(&self.unseal(user, &sealed)?, code, now) else {
            let taken = sqlx::query(
                "update ops.second_factors set backup_codes = array_remove(backup_codes, $2)
                  where user_id = $1 and $2 = any(backup_codes)",
            )
            .bind(user.0)
            .bind(secret::hash(code).as_slice())
            .execute(&self.pool)
            .await?;
            return Ok(taken.rows_affected() > 0);
        };
        let taken = sqlx::query(
            "insert into ops.used_codes as u (user_id, purpose, step) values ($1, $2, $3)
             on conflict (user_id, purpose) do update set step = excluded.step where u.step < excluded.step",
        )
        .bind(user.0)
        .bind(purpose)
        .bind(step)
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() > 0)
    }

    fn unseal(&self, user: UserId, sealed: &[u8]) -> Result<Vec<u8>, SecondFactorError> {
        self.cipher.open(sealed, user.0.as_bytes()).ok_or(SecondFactorError::Damaged(user))
    }
}

/// What a person needs to get in besides their password.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InForce {
    /// A one-time code.
    pub codes: bool,
    /// Or one of their passkeys.
    pub passkeys: bool,
    /// Which is enough.
    pub password_less: bool,
}

/// The step of which this is the code, near enough to now.
fn right_step(secret: &[u8], code: &str, now: DateTime<Utc>) -> Option<i64> {
    let current = now.timestamp().div_euclid(STEP_SECONDS);
    let mut steps = current - DRIFT_STEPS..=current + DRIFT_STEPS;
    steps.find(|step| code_at(secret, *step).as_deref() == Some(code))
}

fn code_at(secret: &[u8], step: i64) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(&step.to_be_bytes());
    let mac = mac.finalize().into_bytes();
    let at = usize::from(mac.last()? & 15);
    let number = u32::from_be_bytes(mac.get(at..at + 4)?.try_into().ok()?) & 0x7fff_ffff;
    Some(format!("{:0DIGITS$}", number % 10_u32.pow(DIGITS as u32)))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use chrono::Duration;
    use commands::log::Keyring;

    pub fn factors(pool: PgPool) -> SecondFactors {
        SecondFactors::new(pool, Arc::new(Keyring::memory().cipher("second factor")))
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six digits.
        let secret = b"12345678901234567890";
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000_i64, "353130")] {
            assert_eq!(code_at(secret, seconds / STEP_SECONDS).as_deref(), Some(code));
        }
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert_eq!(right_step(secret, "287082", at(59)), Some(1));
        assert_eq!(right_step(secret, "287082", at(89)), Some(1), "the last step's is taken");
        assert_eq!(right_step(secret, "287082", at(0)), Some(1), "and the next one's");
        assert_eq!(right_step(secret, "287082", at(90)), None);
        assert_eq!(right_step(secret, "28708", at(59)), None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_code_is_taken_once_and_so_is_a_backup_code(pool: PgPool) {
        let factors = factors(pool.clone());
        let (user, now) =
            (UserId(uuid::Uuid::from_u128(1)), DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        assert_eq!(factors.enable(user, "000000", now).await.unwrap(), None);
        let shown = factors.propose(user).await.unwrap();
        let secret = BASE32_NOPAD.decode(shown.as_bytes()).unwrap();
        let code = |at: DateTime<Utc>| code_at(&secret, at.timestamp() / STEP_SECONDS).unwrap();
        assert!(!factors.of(user).await.unwrap().codes, "not in force yet");
        assert!(!factors.take(user, "in", &code(now), now).await.unwrap());
        let backup = factors.enable(user, &code(now), now).await.unwrap().unwrap();
        assert_eq!((backup.len(), backup[0].len()), (BACKUP_CODES, 32));
        assert!(factors.of(user).await.unwrap().codes);

        assert!(factors.take(user, "in", &code(now), now).await.unwrap());
        assert!(!factors.take(user, "in", &code(now), now).await.unwrap());
        assert!(factors.take(user, "other", &code(now), now).await.unwrap(), "another purpose");
        let later = now + Duration::seconds(STEP_SECONDS);
        assert!(factors.take(user, "in", &code(later), later).await.unwrap());
        assert!(!factors.take(user, "in", &code(now), later).await.unwrap(), "an earlier one than the last");
        assert!(factors.take(user, "in", &backup[7], later).await.unwrap());
        assert!(!factors.take(user, "in", &backup[7], later).await.unwrap());
        assert!(!factors.take(UserId(uuid::Uuid::from_u128(2)), "in", &backup[8], later).await.unwrap());

        let stored: String =
            sqlx::query_scalar("select t::text from ops.second_factors t").fetch_one(&pool).await.unwrap();
        assert!(!stored.contains(&secret::hex(&secret)));
        factors.disable(user).await.unwrap();
        assert_eq!(factors.of(user).await.unwrap(), InForce::default());
        assert!(!factors.take(user, "in", &backup[8], later).await.unwrap());
    }
}
