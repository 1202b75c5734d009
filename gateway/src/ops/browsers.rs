//! Signed-in browsers, for the server's own pages: a random cookie, stored as its hash.

use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use sqlx::PgPool;

use super::secret::{self, SecretKey};
use super::tokens::{MAX_TOKEN_BYTES, TokenError};

/// How long a browser stays signed in.
pub const BROWSER_SESSION_LIFE: Duration = Duration::days(7);
/// Length of the token that proves that a form is ours, in characters.
const FORM_CHARS: usize = 32;

/// Opens, finds and ends browser sessions.
#[derive(Clone)]
pub struct Browsers {
    pool: PgPool,
    key: SecretKey,
}

impl Browsers {
    pub fn new(pool: PgPool, key: SecretKey) -> Self {
        Self { pool, key }
    }

    /// Signs a browser in; returns the value of its cookie. Expired sessions are swept away here.
    pub async fn open(&self, user: UserId, now: DateTime<Utc>) -> Result<String, TokenError> {
        let cookie = secret::hex(&secret::random::<32>()?);
        sqlx::query("delete from ops.browser_sessions where expires_at <= $1")
            .bind(now)
            .execute(&self.pool)
            .await?;
        sqlx::query(
            "insert into ops.browser_sessions (hash, user_id, created_at, expires_at)
             values ($1, $2, $3, $4)",
        )
        .bind(secret::hash(&cookie).as_slice())
        .bind(user.0)
        .bind(now)
        .bind(now + BROWSER_SESSION_LIFE)
        .execute(&self.pool)
        .await?;
        Ok(cookie)
    }

    /// Who is signed in with this cookie.
    pub async fn find(&self, cookie: &str, now: DateTime<Utc>) -> Result<Option<UserId>, sqlx::Error> {
        if cookie.is_empty() || cookie.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        let user: Option<uuid::Uuid> = sqlx::query_scalar(
            "select user_id from ops.browser_sessions where hash = $1 and expires_at > $2",
        )
        .bind(secret::hash(cookie).as_slice())
        .bind(now)
        .fetch_optional(&self.pool)
        .await?;
        Ok(user.map(UserId))
    }

    /// Signs a browser out.
    pub async fn close(&self, cookie: &str) -> Result<(), sqlx::Error> {
        sqlx::query("delete from ops.browser_sessions where hash = $1")
            .bind(secret::hash(cookie).as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Signs all browsers of a person out.
    pub async fn close_all(&self, user: UserId) -> Result<(), sqlx::Error> {
        sqlx::query("delete from ops.browser_sessions where user_id = $1")
            .bind(user.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The token that a form of this browser carries, so that no other site can send it.
    pub fn form_token(&self, cookie: &str) -> String {
        self.key.token("form", &secret::hash(cookie), FORM_CHARS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test(migrations = "../migrations")]
    async fn a_session_ends_by_signing_out_or_by_age(pool: PgPool) {
        let browsers = Browsers::new(pool, SecretKey::new([3; 32]));
        let user = UserId(uuid::Uuid::from_u128(1));
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let cookie = browsers.open(user, now).await.unwrap();
        assert_eq!(browsers.find(&cookie, now).await.unwrap(), Some(user));
        assert_eq!(browsers.find("other", now).await.unwrap(), None);
        assert_eq!(browsers.find(&cookie, now + BROWSER_SESSION_LIFE).await.unwrap(), None);
        browsers.close(&cookie).await.unwrap();
        assert_eq!(browsers.find(&cookie, now).await.unwrap(), None);
        assert_ne!(browsers.form_token(&cookie), browsers.form_token("other"));
    }
}
