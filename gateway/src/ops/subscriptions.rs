//! Subscriptions of Web Push: where the browsers and apps of people are told something while they are closed.
//! Addresses and keys are sealed; an address is found by a keyed hash.

use std::sync::Arc;

use commands::log::Cipher;
use domain::ids::UserId;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use super::SealedError;
use super::secret::SecretKey;

/// Subscriptions of one person; with more of them the oldest goes.
pub const MAX_OF_PERSON: i64 = 50;
/// Length of what is hashed to find an address.
const LOOKUP_CHARS: usize = 32;

/// Where a browser is told something, and with which keys; the keys in base64 for addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub url: String,
    pub auth: String,
    pub public_key: String,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: Uuid,
    pub user: UserId,
    pub endpoint: Endpoint,
    /// Whether it is also told that notifications have been read.
    pub send_read: bool,
}

/// Keeps subscriptions.
#[derive(Clone)]
pub struct Subscriptions {
    pool: PgPool,
    key: SecretKey,
    cipher: Arc<Cipher>,
}

impl Subscriptions {
    pub fn new(pool: PgPool, key: SecretKey, cipher: Arc<Cipher>) -> Self {
        Self { pool, key, cipher }
    }

    /// Keeps one; what is known of the same address is replaced.
    pub async fn keep(&self, new: &Subscription) -> Result<(), SealedError> {
        // Sealed for the person and not for the row: the row of the address stays.
        let sealed = self.cipher.seal(&serde_json::to_vec(&new.endpoint)?, new.user.0.as_bytes())?;
        sqlx::query(
            "insert into ops.push_subscriptions (id, user_id, lookup, sealed, send_read)
             values ($1, $2, $3, $4, $5)
             on conflict (user_id, lookup) do update
             set sealed = excluded.sealed, send_read = excluded.send_read",
        )
        .bind(new.id)
        .bind(new.user.0)
        .bind(self.lookup(&new.endpoint.url))
        .bind(sealed)
        .bind(new.send_read)
        .execute(&self.pool)
        .await?;
        sqlx::query(
            "delete from ops.push_subscriptions
              where user_id = $1
                and id in (select id from ops.push_subscriptions where user_id = $1
                            order by id desc offset $2)",
        )
        .bind(new.user.0)
        .bind(MAX_OF_PERSON)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The one of a person with this address.
    pub async fn at(&self, user: UserId, url: &str) -> sqlx::Result<Option<Subscription>> {
        let row = sqlx::query_as(
            "select id, user_id, sealed, send_read from ops.push_subscriptions
              where user_id = $1 and lookup = $2",
        )
        .bind(user.0)
        .bind(self.lookup(url))
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.and_then(|row| self.read(row)))
    }

    /// One of them.
    pub async fn get(&self, id: Uuid) -> sqlx::Result<Option<Subscription>> {
        let row =
            sqlx::query_as("select id, user_id, sealed, send_read from ops.push_subscriptions where id = $1")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.and_then(|row| self.read(row)))
    }

    /// Those of these people: which, whose, and whether they are told of reading.
    pub async fn of_people(&self, people: &[UserId]) -> sqlx::Result<Vec<(Uuid, UserId, bool)>> {
        let rows: Vec<(Uuid, Uuid, bool)> = sqlx::query_as(
            "select id, user_id, send_read from ops.push_subscriptions where user_id = any($1) order by id",
        )
        .bind(people.iter().map(|user| user.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(id, user, send_read)| (id, UserId(user), send_read)).collect())
    }

    /// Forgets an address: of one person, or of everybody.
    pub async fn forget(&self, user: Option<UserId>, url: &str) -> sqlx::Result<()> {
        sqlx::query(
            "with gone as (delete from ops.push_subscriptions
                            where lookup = $1 and ($2::uuid is null or user_id = $2) returning id)
             delete from ops.deliveries where target in (select id from gone)",
        )
        .bind(self.lookup(url))
        .bind(user.map(|user| user.0))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    fn lookup(&self, url: &str) -> String {
        self.key.token("push subscription", url.as_bytes(), LOOKUP_CHARS)
    }

    /// None when it was sealed with other keys: nobody can read it any more.
    fn read(&self, (id, user, sealed, send_read): (Uuid, Uuid, Vec<u8>, bool)) -> Option<Subscription> {
        let plain = self.cipher.open(&sealed, user.as_bytes())?;
        let endpoint = serde_json::from_slice(&plain).ok()?;
        Some(Subscription { id, user: UserId(user), endpoint, send_read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commands::log::Keyring;

    #[sqlx::test(migrations = "../migrations")]
    async fn an_address_is_kept_once_for_each_person(pool: PgPool) {
        let cipher = Arc::new(Keyring::memory().cipher("push"));
        let subscriptions = Subscriptions::new(pool, SecretKey::new([3; 32]), cipher);
        let user = |n| UserId(Uuid::from_u128(n));
        let one = |id, n| Subscription {
            id: Uuid::from_u128(id),
            user: user(n),
            endpoint: Endpoint {
                url: "https://push.example/1".to_owned(),
                auth: id.to_string(),
                public_key: "k".to_owned(),
            },
            send_read: false,
        };
        for (id, n) in [(11, 1), (12, 2), (13, 1)] {
            subscriptions.keep(&one(id, n)).await.unwrap();
        }
        let kept = subscriptions.at(user(1), "https://push.example/1").await.unwrap().unwrap();
        assert_eq!((kept.id, kept.endpoint.auth.as_str()), (Uuid::from_u128(11), "13"), "replaced in place");
        assert_eq!(subscriptions.of_people(&[user(1), user(2)]).await.unwrap().len(), 2);
        assert_eq!(subscriptions.at(user(1), "https://push.example/2").await.unwrap(), None);
        subscriptions.forget(Some(user(1)), "https://push.example/1").await.unwrap();
        assert_eq!(subscriptions.get(Uuid::from_u128(11)).await.unwrap(), None);
        assert!(subscriptions.get(Uuid::from_u128(12)).await.unwrap().is_some());
        subscriptions.forget(None, "https://push.example/1").await.unwrap();
        assert_eq!(subscriptions.of_people(&[user(1), user(2)]).await.unwrap(), []);
    }
}
