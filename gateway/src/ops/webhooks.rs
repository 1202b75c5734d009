//! Webhooks: addresses that people want to be told of what happens to them. Their names, addresses and secrets are
//! sealed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use commands::log::Cipher;
use domain::ids::UserId;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use super::SealedError;

/// What stands in a webhook and is for nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub name: String,
    pub url: String,
    /// Shown to the other side, so that it knows who tells.
    pub secret: String,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub id: Uuid,
    pub user: UserId,
    pub definition: Definition,
    /// Of what it is told, by Misskey's names.
    pub told_of: Vec<String>,
    pub active: bool,
    pub last_sent_at: Option<DateTime<Utc>>,
    pub last_status: Option<i32>,
}

/// A webhook can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("they have too many")]
pub struct TooManyWebhooks;

type Row = (Uuid, Uuid, Vec<u8>, Vec<String>, bool, Option<DateTime<Utc>>, Option<i32>);

/// Keeps webhooks.
#[derive(Clone)]
pub struct Webhooks {
    pool: PgPool,
    cipher: Arc<Cipher>,
}

impl Webhooks {
    pub fn new(pool: PgPool, cipher: Arc<Cipher>) -> Self {
        Self { pool, cipher }
    }

    /// Keeps a new one, if they have fewer than `limit`.
    pub async fn create(&self, hook: &Webhook, limit: i64) -> Result<(), SealedError<TooManyWebhooks>> {
        let made = sqlx::query(
            "insert into ops.webhooks (id, user_id, sealed, told_of, active)
             select $1, $2, $3, $4, $5
              where (select count(*) from ops.webhooks where user_id = $2) < $6",
        )
        .bind(hook.id)
        .bind(hook.user.0)
        .bind(self.sealed(hook)?)
        .bind(&hook.told_of)
        .bind(hook.active)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        if made.rows_affected() > 0 { Ok(()) } else { Err(SealedError::Refused(TooManyWebhooks)) }
    }

    /// Writes down what was changed of one.
    pub async fn update(&self, hook: &Webhook) -> Result<(), SealedError<TooManyWebhooks>> {
        sqlx::query(
            "update ops.webhooks set sealed = $3, told_of = $4, active = $5 where id = $1 and user_id = $2",
        )
        .bind(hook.id)
        .bind(hook.user.0)
        .bind(self.sealed(hook)?)
        .bind(&hook.told_of)
        .bind(hook.active)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets one, with what it was still to be told; false when they have no such one.
    pub async fn delete(&self, user: UserId, id: Uuid) -> sqlx::Result<bool> {
        let gone: Option<bool> = sqlx::query_scalar(
            "with gone as (delete from ops.webhooks where id = $1 and user_id = $2 returning id),
                  untold as (delete from ops.deliveries where target in (select id from gone))
             select true from gone",
        )
        .bind(id)
        .bind(user.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(gone.is_some())
    }

    /// Those of a person, the oldest first.
    pub async fn of(&self, user: UserId) -> sqlx::Result<Vec<Webhook>> {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, user_id, sealed, told_of, active, last_sent_at, last_status
               from ops.webhooks where user_id = $1 order by id",
        )
        .bind(user.0)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().filter_map(|row| self.read(row)).collect())
    }

    /// One of them.
    pub async fn get(&self, id: Uuid) -> sqlx::Result<Option<Webhook>> {
        let row: Option<Row> = sqlx::query_as(
            "select id, user_id, sealed, told_of, active, last_sent_at, last_status
               from ops.webhooks where id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.and_then(|row| self.read(row)))
    }

    /// The active ones of these people: which, whose, and of what they are told.
    pub async fn listening(&self, people: &[UserId]) -> sqlx::Result<Vec<(Uuid, UserId, Vec<String>)>> {
        let rows: Vec<(Uuid, Uuid, Vec<String>)> = sqlx::query_as(
            "select id, user_id, told_of from ops.webhooks where active and user_id = any($1) order by id",
        )
        .bind(people.iter().map(|user| user.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(id, user, told_of)| (id, UserId(user), told_of)).collect())
    }

    /// Takes note of what one answered.
    pub async fn sent(&self, id: Uuid, at: DateTime<Utc>, status: i32) -> sqlx::Result<()> {
        sqlx::query("update ops.webhooks set last_sent_at = $2, last_status = $3 where id = $1")
            .bind(id)
            .bind(at)
            .bind(status)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    fn sealed(&self, hook: &Webhook) -> Result<Vec<u8>, SealedError<TooManyWebhooks>> {
        Ok(self.cipher.seal(&serde_json::to_vec(&hook.definition)?, hook.id.as_bytes())?)
    }

    /// None when it was sealed with other keys: nobody can read it any more.
    fn read(&self, (id, user, sealed, told_of, active, last_sent_at, last_status): Row) -> Option<Webhook> {
        let plain = self.cipher.open(&sealed, id.as_bytes())?;
        let definition = serde_json::from_slice(&plain).ok()?;
        Some(Webhook { id, user: UserId(user), definition, told_of, active, last_sent_at, last_status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commands::log::Keyring;

    #[sqlx::test(migrations = "../migrations")]
    async fn a_webhook_is_kept_sealed_for_its_person(pool: PgPool) {
        let hooks = Webhooks::new(pool.clone(), Arc::new(Keyring::memory().cipher("hooks")));
        let user = UserId(Uuid::from_u128(1));
        let mut hook = Webhook {
            id: Uuid::from_u128(2),
            user,
            definition: Definition {
                name: "mine".to_owned(),
                url: "https://x.example/secret-path".to_owned(),
                secret: "s".to_owned(),
            },
            told_of: vec!["note".to_owned()],
            active: true,
            last_sent_at: None,
            last_status: None,
        };
        hooks.create(&hook, 1).await.unwrap();
        let another = Webhook { id: Uuid::from_u128(3), ..hook.clone() };
        assert!(matches!(hooks.create(&another, 1).await, Err(SealedError::Refused(TooManyWebhooks))));
        assert_eq!(hooks.of(user).await.unwrap(), std::slice::from_ref(&hook));
        let stored: String = sqlx::query_scalar("select string_agg(w::text, ' ') from ops.webhooks w")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert!(!stored.contains("secret-path"), "{stored}");

        assert_eq!(hooks.listening(&[user]).await.unwrap(), [(hook.id, user, hook.told_of.clone())]);
        hook.active = false;
        hook.definition.name = "other".to_owned();
        hooks.update(&hook).await.unwrap();
        assert_eq!(hooks.listening(&[user]).await.unwrap(), []);
        hooks.sent(hook.id, DateTime::UNIX_EPOCH, 500).await.unwrap();
        assert_eq!(hooks.get(hook.id).await.unwrap().unwrap().last_status, Some(500));
        assert!(!hooks.delete(UserId(Uuid::from_u128(9)), hook.id).await.unwrap());
        assert!(hooks.delete(user, hook.id).await.unwrap());
        assert_eq!(hooks.get(hook.id).await.unwrap(), None);
    }
}
