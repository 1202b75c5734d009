//! Access tokens: one native token per person, and one token per grant to an app. Stored as hashes;
//! a token that must be told again is derived ([`super::secret`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use sqlx::PgPool;
use uuid::Uuid;

use super::secret::{self, HASH_BYTES, NoRandomness, SecretKey};

/// Length of a native token, in characters.
pub const NATIVE_CHARS: usize = 16;
/// Length of an app's token and of an app's secret, in characters.
pub const APP_CHARS: usize = 32;
/// The longest text that is looked up as a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 128;
/// The longest MiAuth session that is accepted, in bytes.
pub const MAX_SESSION_BYTES: usize = 256;
/// How long an app may take to fetch the token of its MiAuth session.
pub const MIAUTH_SESSION_LIFE: Duration = Duration::hours(24);
/// The most grants kept in memory.
pub const MAX_CACHED_GRANTS: usize = 20_000;
/// Length of hex(sha256(token + secret)), in characters.
const LEGACY_CHARS: usize = 64;
const SEED_BYTES: usize = 16;

/// The token store failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    pub user: UserId,
    /// None for the person's own (native) token.
    pub app: Option<Arc<AppGrant>>,
}

/// What a person allowed an app to do.
#[derive(Debug, Clone, PartialEq)]
pub struct AppGrant {
    pub id: Uuid,
    /// Kinds of permission, such as `write:notes`.
    pub permission: Vec<String>,
}

/// A grant to be made through MiAuth.
#[derive(Debug, Clone, Default)]
pub struct NewGrant {
    /// The session by which the app fetches the token, at most [`MAX_SESSION_BYTES`].
    pub session: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub icon_url: Option<String>,
    pub permission: Vec<String>,
}

/// Issues and finds tokens. Clones share what they remember.
#[derive(Clone)]
pub struct Tokens {
    pool: PgPool,
    key: SecretKey,
    cache: Arc<Mutex<Cache>>,
}

impl Tokens {
    pub fn new(pool: PgPool, key: SecretKey) -> Self {
        Self { pool, key, cache: Arc::default() }
    }

    /// Whom the token speaks for; none when nobody. A token seen lately costs no statement.
    pub async fn find(&self, token: &str) -> Result<Option<Grant>, sqlx::Error> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        // Older clients print their hash in either case.
        let legacy = token.len() == LEGACY_CHARS;
        let hash = if legacy { secret::hash(&token.to_lowercase()) } else { secret::hash(token) };
        let epoch = {
            let mut cache = self.cache();
            if let Some(grant) = cache.get(&hash) {
                return Ok(Some(grant));
            }
            cache.epoch
        };
        let row: Option<(Uuid, Option<Uuid>, Option<Vec<String>>)> = sqlx::query_as(
            "select user_id, null::uuid, null::text[] from ops.native_tokens where hash = $1
             union all
             select user_id, id, permission from ops.app_tokens where hash = $1
             union all
             select user_id, id, permission from ops.app_tokens where legacy_hash = $1
             limit 1",
        )
        .bind(hash.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        let Some((user, id, permission)) = row else { return Ok(None) };
        let app = id.zip(permission).map(|(id, permission)| Arc::new(AppGrant { id, permission }));
        let grant = Grant { user: UserId(user), app };
        self.cache().insert(hash, grant.clone(), epoch);
        Ok(Some(grant))
    }

    /// The person's own token: the same at each call until it is regenerated.
    pub async fn native(&self, user: UserId, now: DateTime<Utc>) -> Result<String, TokenError> {
        let fresh: [u8; SEED_BYTES] = secret::random()?;
        let token = self.derive_native(&fresh);
        sqlx::query(
            "insert into ops.native_tokens (user_id, seed, hash, created_at) values ($1, $2, $3, $4)
             on conflict (user_id) do nothing",
        )
        .bind(user.0)
        .bind(fresh.as_slice())
        .bind(secret::hash(&token).as_slice())
        .bind(now)
        .execute(&self.pool)
        .await?;
        let (seed, hash): (Vec<u8>, Vec<u8>) =
            sqlx::query_as("select seed, hash from ops.native_tokens where user_id = $1")
                .bind(user.0)
                .fetch_one(&self.pool)
                .await?;
        let token = self.derive_native(&seed);
        if secret::hash(&token).as_slice() == hash {
            return Ok(token);
        }
        // The server's key is another one than when the token was made; the old token can't be told again.
        tracing::warn!(user.id = %user, "the key for tokens has changed: a new token is issued");
        self.regenerate(user, now).await
    }

    /// Ends the person's own token and signs out their browsers; returns the new token.
    pub async fn regenerate(&self, user: UserId, now: DateTime<Utc>) -> Result<String, TokenError> {
        let seed: [u8; SEED_BYTES] = secret::random()?;
        let token = self.derive_native(&seed);
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "insert into ops.native_tokens (user_id, seed, hash, created_at) values ($1, $2, $3, $4)
             on conflict (user_id) do update
             set seed = excluded.seed, hash = excluded.hash, created_at = excluded.created_at",
        )
        .bind(user.0)
        .bind(seed.as_slice())
        .bind(secret::hash(&token).as_slice())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query("delete from ops.browser_sessions where user_id = $1")
            .bind(user.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.forget(user);
        Ok(token)
    }

    /// Issues a token for a MiAuth grant. `id` is a new id of this instant.
    pub async fn grant(
        &self,
        user: UserId,
        id: Uuid,
        grant: &NewGrant,
        now: DateTime<Utc>,
    ) -> Result<String, sqlx::Error> {
        let token = self.derive_app(&id);
        sqlx::query(
            "insert into ops.app_tokens
                 (id, user_id, hash, session_hash, name, description, icon_url, permission, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(id)
        .bind(user.0)
        .bind(secret::hash(&token).as_slice())
        .bind(grant.session.as_deref().map(|session| secret::hash(session).to_vec()))
        .bind(&grant.name)
        .bind(&grant.description)
        .bind(&grant.icon_url)
        .bind(&grant.permission)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(token)
    }

    /// The token granted to a MiAuth session, once; none when there is none, or it was fetched before.
    pub async fn fetch_session(
        &self,
        session: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<(UserId, String)>, sqlx::Error> {
        if session.is_empty() || session.len() > MAX_SESSION_BYTES {
            return Ok(None);
        }
        let fetched: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "update ops.app_tokens set session_hash = null
             where session_hash = $1 and created_at > $2 returning id, user_id",
        )
        .bind(secret::hash(session).as_slice())
        .bind(now - MIAUTH_SESSION_LIFE)
        .fetch_all(&self.pool)
        .await?;
        // Asked twice, granted twice: the last answer counts.
        Ok(fetched.into_iter().max().map(|(id, user)| (UserId(user), self.derive_app(&id))))
    }

    /// Drops what is remembered of a person's tokens, after one has ended.
    fn forget(&self, user: UserId) {
        let mut cache = self.cache();
        cache.epoch += 1;
        cache.young.retain(|_, grant| grant.user != user);
        cache.old.retain(|_, grant| grant.user != user);
    }

    /// The token of a grant, by its id.
    pub(super) fn derive_app(&self, id: &Uuid) -> String {
        self.key.token("app token", id.as_bytes(), APP_CHARS)
    }

    fn derive_native(&self, seed: &[u8]) -> String {
        self.key.token("native token", seed, NATIVE_CHARS)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two generations: when the young one is full it becomes the old one, and what was asked for again in
/// time has moved to the young one before the old one is dropped.
#[derive(Default)]
struct Cache {
    /// Raised when tokens end, so that a row read before it isn't remembered after it.
    epoch: u64,
    young: HashMap<[u8; HASH_BYTES], Grant>,
    old: HashMap<[u8; HASH_BYTES], Grant>,
}

impl Cache {
    fn get(&mut self, hash: &[u8; HASH_BYTES]) -> Option<Grant> {
        if let Some(grant) = self.young.get(hash) {
            return Some(grant.clone());
        }
        let grant = self.old.remove(hash)?;
        self.insert(*hash, grant.clone(), self.epoch);
        Some(grant)
    }

    fn insert(&mut self, hash: [u8; HASH_BYTES], grant: Grant, read_at: u64) {
        if read_at != self.epoch {
            return;
        }
        if self.young.len() >= MAX_CACHED_GRANTS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, grant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pool: PgPool) -> Tokens {
        Tokens::new(pool, SecretKey::new([3; 32]))
    }

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_native_token_is_the_same_until_it_is_regenerated(pool: PgPool) {
        let tokens = tokens(pool.clone());
        let first = tokens.native(user(1), at(0)).await.unwrap();
        assert_eq!(first, tokens.native(user(1), at(1)).await.unwrap());
        assert_eq!(first.len(), NATIVE_CHARS);
        let grant = tokens.find(&first).await.unwrap();
        assert_eq!(grant, Some(Grant { user: user(1), app: None }));

        let second = tokens.regenerate(user(1), at(2)).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(tokens.find(&first).await.unwrap(), None);
        assert_eq!(tokens.find(&second).await.unwrap().map(|g| g.user), Some(user(1)));
        assert_eq!(tokens.native(user(1), at(3)).await.unwrap(), second);

        let stored: String = sqlx::query_scalar("select string_agg(t::text, ' ') from ops.native_tokens t")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert!(!stored.contains(&second) && !stored.contains(&secret::hex(second.as_bytes())));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn another_key_issues_a_new_native_token(pool: PgPool) {
        let first = tokens(pool.clone()).native(user(1), at(0)).await.unwrap();
        let other = Tokens::new(pool, SecretKey::new([4; 32]));
        assert_eq!(other.find(&first).await.unwrap().map(|g| g.user), Some(user(1)));
        let second = other.native(user(1), at(1)).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(other.find(&first).await.unwrap(), None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_miauth_session_is_fetched_once_and_in_time(pool: PgPool) {
        let tokens = tokens(pool);
        let grant = |session: &str| NewGrant {
            session: Some(session.to_owned()),
            permission: vec!["read:account".to_owned()],
            ..NewGrant::default()
        };
        let token = tokens.grant(user(1), Uuid::from_u128(9), &grant("s"), at(0)).await.unwrap();
        assert_eq!(token.len(), APP_CHARS);
        assert_eq!(tokens.fetch_session("s", at(1)).await.unwrap(), Some((user(1), token.clone())));
        assert_eq!(tokens.fetch_session("s", at(1)).await.unwrap(), None);
        assert_eq!(tokens.fetch_session("other", at(1)).await.unwrap(), None);

        tokens.grant(user(1), Uuid::from_u128(10), &grant("late"), at(0)).await.unwrap();
        let late = at(0) + MIAUTH_SESSION_LIFE + Duration::seconds(1);
        assert_eq!(tokens.fetch_session("late", late).await.unwrap(), None);
    }

    #[test]
    fn the_cache_is_bounded_and_never_keeps_what_was_read_before_a_token_ended() {
        let mut cache = Cache::default();
        let grant = Grant { user: user(1), app: None };
        for n in 0..MAX_CACHED_GRANTS * 2 {
            cache.insert(secret::hash(&n.to_string()), grant.clone(), 0);
        }
        assert!(cache.young.len() + cache.old.len() <= MAX_CACHED_GRANTS);
        cache.epoch = 1;
        cache.insert(secret::hash("stale"), grant, 0);
        assert_eq!(cache.get(&secret::hash("stale")), None);
    }
}
