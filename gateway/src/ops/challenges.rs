//! Questions that are answered once and soon. Whoever asks gives each a name of its own.

use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use sqlx::PgPool;
use uuid::Uuid;

use super::secret;

/// Asks, and takes answers.
#[derive(Clone)]
pub struct Challenges {
    pool: PgPool,
}

impl Challenges {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Keeps what must come back. An earlier question of that name is void.
    pub async fn ask(
        &self,
        name: &str,
        user: Option<UserId>,
        challenge: &[u8],
        life: Duration,
        now: DateTime<Utc>,
    ) -> sqlx::Result<()> {
        sqlx::query("delete from ops.challenges where expires_at <= $1")
            .bind(now)
            .execute(&self.pool)
            .await?;
        sqlx::query(
            "insert into ops.challenges (hash, user_id, challenge, expires_at) values ($1, $2, $3, $4)
             on conflict (hash) do update set user_id = excluded.user_id, challenge = excluded.challenge,
                                              expires_at = excluded.expires_at",
        )
        .bind(secret::hash(name).as_slice())
        .bind(user.map(|user| user.0))
        .bind(challenge)
        .bind(now + life)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What was asked under this name, and of whom: once.
    pub async fn take(
        &self,
        name: &str,
        now: DateTime<Utc>,
    ) -> sqlx::Result<Option<(Option<UserId>, Vec<u8>)>> {
        let taken: Option<(Option<Uuid>, Vec<u8>)> = sqlx::query_as(
            "delete from ops.challenges where hash = $1 and expires_at > $2 returning user_id, challenge",
        )
        .bind(secret::hash(name).as_slice())
        .bind(now)
        .fetch_optional(&self.pool)
        .await?;
        Ok(taken.map(|(user, challenge)| (user.map(UserId), challenge)))
    }

    /// Of whom something is asked under this name; the question stays.
    pub async fn of(&self, name: &str, now: DateTime<Utc>) -> sqlx::Result<Option<UserId>> {
        let user: Option<Option<Uuid>> =
            sqlx::query_scalar("select user_id from ops.challenges where hash = $1 and expires_at > $2")
                .bind(secret::hash(name).as_slice())
                .bind(now)
                .fetch_optional(&self.pool)
                .await?;
        Ok(user.flatten().map(UserId))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test(migrations = "../migrations")]
    async fn a_question_is_answered_once_and_in_time(pool: PgPool) {
        let challenges = Challenges::new(pool);
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let (user, life) = (UserId(Uuid::from_u128(1)), Duration::seconds(60));
        challenges.ask("a", Some(user), b"first", life, now).await.unwrap();
        challenges.ask("a", Some(user), b"second", life, now).await.unwrap();
        assert_eq!(challenges.of("a", now).await.unwrap(), Some(user));
        assert_eq!(challenges.take("b", now).await.unwrap(), None);
        assert_eq!(challenges.take("a", now).await.unwrap(), Some((Some(user), b"second".to_vec())));
        assert_eq!(challenges.take("a", now).await.unwrap(), None);
        challenges.ask("c", None, b"x", life, now).await.unwrap();
        assert_eq!(challenges.take("c", now + life).await.unwrap(), None);
    }
}
