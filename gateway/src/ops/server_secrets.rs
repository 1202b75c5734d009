//! What the administrator sets and what the server makes for itself, and nobody else may read: sealed.

use std::sync::Arc;

use commands::log::Cipher;
use sqlx::PgPool;

use super::SealedError;

/// Keeps secrets by name.
#[derive(Clone)]
pub struct ServerSecrets {
    pool: PgPool,
    cipher: Arc<Cipher>,
}

impl ServerSecrets {
    pub fn new(pool: PgPool, cipher: Arc<Cipher>) -> Self {
        Self { pool, cipher }
    }

    /// None when it isn't set, or was sealed with other keys.
    pub async fn get(&self, name: &str) -> sqlx::Result<Option<String>> {
        let sealed: Option<Vec<u8>> =
            sqlx::query_scalar("select sealed from ops.server_secrets where name = $1")
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
        let plain = sealed.and_then(|sealed| self.cipher.open(&sealed, name.as_bytes()));
        Ok(plain.and_then(|plain| String::from_utf8(plain).ok()))
    }

    /// Sets what the server made for itself, unless another process was faster; what is set.
    pub async fn keep(&self, name: &str, made: &str) -> Result<String, SealedError> {
        sqlx::query(
            "insert into ops.server_secrets (name, sealed) values ($1, $2) on conflict (name) do nothing",
        )
        .bind(name)
        .bind(self.cipher.seal(made.as_bytes(), name.as_bytes())?)
        .execute(&self.pool)
        .await?;
        if let Some(kept) = self.get(name).await? {
            return Ok(kept);
        }
        // It was sealed with other keys: nobody can read it any more.
        self.set(name, Some(made)).await?;
        Ok(made.to_owned())
    }

    /// Sets it, or with none forgets it.
    pub async fn set(&self, name: &str, value: Option<&str>) -> Result<(), SealedError> {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            sqlx::query("delete from ops.server_secrets where name = $1")
                .bind(name)
                .execute(&self.pool)
                .await?;
            return Ok(());
        };
        sqlx::query(
            "insert into ops.server_secrets (name, sealed) values ($1, $2)
             on conflict (name) do update set sealed = excluded.sealed",
        )
        .bind(name)
        .bind(self.cipher.seal(value.as_bytes(), name.as_bytes())?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
