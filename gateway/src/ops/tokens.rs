//! Access tokens: one native token per person, and one token per grant to an app. Stored as hashes;
//! a token that must be told again is derived ([`super::secret`]).
//!
//! What was found is remembered only while this process is sure to hear of every token that ends, whoever
//! ends it: the database tells with the transaction ([`crate::neighbours`]).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::broadcast;
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
/// The most grants that a person is shown.
pub const MAX_GRANTS_LISTED: usize = 1_000;
/// The most grants kept in memory.
pub const MAX_CACHED_GRANTS: usize = 20_000;
/// How long after it was last known that nothing goes unheard the memory of tokens is used. The connection
/// that hears tells when it is lost; this is for one that hangs, or a process that was stopped.
pub const HEARD_FOR: std::time::Duration = std::time::Duration::from_secs(2);
/// Grants whose last use is not written yet; with more of them some uses are not noted.
pub const MAX_UNWRITTEN_USES: usize = 20_000;
/// How often the last uses of grants are written.
pub const WRITE_USES_EVERY: std::time::Duration = std::time::Duration::from_secs(30);
/// How long the token of somebody who was erased is known as such.
pub const ENDED_KNOWN_FOR: Duration = Duration::days(90);
/// Ends of tokens that a slow hearer may leave; with more of them it has missed some.
const MAX_UNHEARD_ENDS: usize = 1_024;
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

/// What is kept of a token, to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; HASH_BYTES]);

/// Whose tokens have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// One of this person's.
    Of(UserId),
    /// Perhaps any.
    Unknown,
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

/// A grant as its person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    pub id: Uuid,
    pub name: Option<String>,
    pub description: Option<String>,
    pub icon_url: Option<String>,
    pub permission: Vec<String>,
    pub last_used_at: DateTime<Utc>,
}

/// In which order grants are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantOrder {
    Oldest,
    Newest,
    UsedLast,
    UsedFirst,
}

/// How a grant is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Id(Uuid),
    Token(String),
}

/// Issues and finds tokens. Clones share what they remember.
#[derive(Clone)]
pub struct Tokens {
    pool: PgPool,
    key: SecretKey,
    cache: Arc<Mutex<Cache>>,
    uses: Arc<Mutex<HashMap<Uuid, DateTime<Utc>>>>,
    ends: broadcast::Sender<Ended>,
}

impl Tokens {
    pub fn new(pool: PgPool, key: SecretKey) -> Self {
        let ends = broadcast::Sender::new(MAX_UNHEARD_ENDS);
        Self { pool, key, cache: Arc::default(), uses: Arc::default(), ends }
    }

    /// Whom the token speaks for; none when nobody. A token seen lately costs no statement.
    pub async fn find(&self, token: &str) -> Result<Option<Grant>, sqlx::Error> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        let hash = TokenHash::of(token);
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
        .bind(hash.0.as_slice())
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

    /// What a person granted to apps, in one of the orders that clients ask for.
    pub async fn granted(&self, user: UserId, order: GrantOrder) -> Result<Vec<Granted>, sqlx::Error> {
        self.write_uses().await?;
        let order = match order {
            GrantOrder::Oldest => "t.id",
            GrantOrder::Newest => "t.id desc",
            GrantOrder::UsedLast => "coalesce(t.last_used_at, t.created_at) desc, t.id desc",
            GrantOrder::UsedFirst => "coalesce(t.last_used_at, t.created_at), t.id",
        };
        type Row = (Uuid, Option<String>, Option<String>, Option<String>, Vec<String>, DateTime<Utc>);
        let sql = format!(
            "select t.id, t.name, t.description, t.icon_url, t.permission, coalesce(t.last_used_at, t.created_at)
               from ops.app_tokens t where t.user_id = $1 order by {order} limit {MAX_GRANTS_LISTED}"
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql)).bind(user.0).fetch_all(&self.pool).await?;
        let row = |(id, name, description, icon_url, permission, last_used_at)| Granted {
            id,
            name,
            description,
            icon_url,
            permission,
            last_used_at,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// What an app with a grant is called, and its picture.
    pub async fn app_of(&self, grant: Uuid) -> Result<(Option<String>, Option<String>), sqlx::Error> {
        let found = sqlx::query_as("select name, icon_url from ops.app_tokens where id = $1")
            .bind(grant)
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Ends a grant of this person, named by its id or by its token.
    pub async fn revoke(&self, user: UserId, which: &Which) -> Result<bool, sqlx::Error> {
        let (id, hash) = match which {
            Which::Id(id) => (Some(*id), None),
            Which::Token(token) => (None, Some(TokenHash::of(token))),
        };
        let ended = sqlx::query(
            "delete from ops.app_tokens
              where user_id = $1 and (id = $2 or hash = $3 or legacy_hash = $3)",
        )
        .bind(user.0)
        .bind(id)
        .bind(hash.as_ref().map(|hash| hash.0.as_slice()))
        .execute(&self.pool)
        .await?;
        self.forget(user);
        Ok(ended.rows_affected() > 0)
    }

    /// Takes note that a grant is used. Written a little later.
    pub fn used(&self, grant: Uuid, now: DateTime<Utc>) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < MAX_UNWRITTEN_USES || uses.contains_key(&grant) {
            uses.insert(grant, now);
        }
    }

    /// Writes when grants were last used.
    pub async fn write_uses(&self) -> Result<(), sqlx::Error> {
        let uses = std::mem::take(&mut *self.uses.lock().unwrap_or_else(PoisonError::into_inner));
        if uses.is_empty() {
            return Ok(());
        }
        let (grants, times): (Vec<Uuid>, Vec<DateTime<Utc>>) = uses.into_iter().unzip();
        sqlx::query(
            "update ops.app_tokens t set last_used_at = u.at
               from unnest($1::uuid[], $2::timestamptz[]) as u(id, at)
              where t.id = u.id and (t.last_used_at is null or t.last_used_at < u.at)",
        )
        .bind(grants)
        .bind(times)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes uses again and again.
    pub async fn keep_writing_uses(self) {
        loop {
            tokio::time::sleep(WRITE_USES_EVERY).await;
            if let Err(error) = self.write_uses().await {
                tracing::warn!(%error, "when apps were last used is not written");
            }
        }
    }

    /// Whether this was a token of somebody who has been erased.
    pub async fn was_of_erased(&self, token: &str) -> Result<bool, sqlx::Error> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Ok(false);
        }
        sqlx::query_scalar("select exists (select 1 from ops.ended_tokens where hash = $1)")
            .bind(TokenHash::of(token).0.as_slice())
            .fetch_one(&self.pool)
            .await
    }

    /// Those of these tokens that speak for nobody any more.
    pub async fn dead(&self, tokens: &[TokenHash]) -> Result<Vec<TokenHash>, sqlx::Error> {
        let hashes: Vec<&[u8]> = tokens.iter().map(|token| token.0.as_slice()).collect();
        let living: Vec<Vec<u8>> = sqlx::query_scalar(
            "select hash from ops.native_tokens where hash = any($1)
             union all select hash from ops.app_tokens where hash = any($1)
             union all select legacy_hash from ops.app_tokens where legacy_hash = any($1)",
        )
        .bind(hashes)
        .fetch_all(&self.pool)
        .await?;
        let living: HashSet<Vec<u8>> = living.into_iter().collect();
        Ok(tokens.iter().filter(|token| !living.contains(token.0.as_slice())).copied().collect())
    }

    /// Takes note that a token has ended: nothing is remembered of that person's.
    pub fn ended(&self, ended: Ended) {
        match ended {
            Ended::Of(user) => self.forget(user),
            Ended::Unknown => self.cache().empty(),
        }
        _ = self.ends.send(ended);
    }

    /// Hears of tokens that end, from now on.
    pub fn ends(&self) -> broadcast::Receiver<Ended> {
        self.ends.subscribe()
    }

    /// Takes note that of every token that had ended at `at` [`Self::ended`] has been told.
    pub fn heard_all(&self, at: Instant) {
        self.cache().heard_at = Some(at);
    }

    /// Takes note that tokens may end unheard, so nothing is remembered until all is heard again.
    pub fn deaf(&self) {
        let mut cache = self.cache();
        cache.heard_at = None;
        cache.empty();
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
    /// When it was last known that every end had been heard; none while nobody listens.
    heard_at: Option<Instant>,
    young: HashMap<TokenHash, Grant>,
    old: HashMap<TokenHash, Grant>,
}

impl TokenHash {
    pub fn of(token: &str) -> Self {
        // Older clients print their hash in either case.
        let legacy = token.len() == LEGACY_CHARS;
        Self(if legacy { secret::hash(&token.to_lowercase()) } else { secret::hash(token) })
    }
}

impl Cache {
    fn get(&mut self, hash: &TokenHash) -> Option<Grant> {
        if self.heard_at.is_none_or(|at| at.elapsed() >= HEARD_FOR) {
            return None;
        }
        if let Some(grant) = self.young.get(hash) {
            return Some(grant.clone());
        }
        let grant = self.old.remove(hash)?;
        self.insert(*hash, grant.clone(), self.epoch);
        Some(grant)
    }

    fn empty(&mut self) {
        self.epoch += 1;
        self.young.clear();
        self.old.clear();
    }

    fn insert(&mut self, hash: TokenHash, grant: Grant, read_at: u64) {
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

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_remembered_is_forgotten_when_a_token_ends(pool: PgPool) {
        let tokens = tokens(pool.clone());
        let (mine, other) =
            (tokens.native(user(1), at(0)).await.unwrap(), tokens.native(user(2), at(0)).await.unwrap());
        let (mine_hash, other_hash) = (TokenHash::of(&mine), TokenHash::of(&other));
        tokens.heard_all(Instant::now());
        for token in [&mine, &other] {
            assert!(tokens.find(token).await.unwrap().is_some());
        }
        sqlx::query("delete from ops.native_tokens where user_id = $1")
            .bind(user(1).0)
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(tokens.dead(&[mine_hash, other_hash]).await.unwrap(), [mine_hash]);
        assert!(tokens.find(&mine).await.unwrap().is_some(), "from memory: nobody has told it yet");
        let mut ends = tokens.ends();
        tokens.ended(Ended::Of(user(1)));
        assert_eq!(ends.recv().await.unwrap(), Ended::Of(user(1)));
        assert_eq!(tokens.find(&mine).await.unwrap(), None);
        sqlx::query("truncate ops.native_tokens").execute(&pool).await.unwrap();
        assert!(tokens.find(&other).await.unwrap().is_some());
        tokens.deaf();
        assert_eq!(tokens.find(&other).await.unwrap(), None);
    }

    #[test]
    fn the_cache_is_bounded_and_never_keeps_what_was_read_before_a_token_ended() {
        let mut cache = Cache { heard_at: Some(Instant::now()), ..Cache::default() };
        let grant = Grant { user: user(1), app: None };
        for n in 0..MAX_CACHED_GRANTS * 2 {
            cache.insert(TokenHash::of(&n.to_string()), grant.clone(), 0);
        }
        assert!(cache.young.len() + cache.old.len() <= MAX_CACHED_GRANTS);
        cache.epoch = 1;
        cache.insert(TokenHash::of("stale"), grant.clone(), 0);
        assert_eq!(cache.get(&TokenHash::of("stale")), None);
        let fresh = TokenHash::of("fresh");
        cache.insert(fresh, grant.clone(), 1);
        assert_eq!(cache.get(&fresh), Some(grant));
        for unsure in [None, Instant::now().checked_sub(HEARD_FOR)] {
            cache.heard_at = unsure;
            assert_eq!(cache.get(&fresh), None, "a token may have ended unheard");
        }
    }
}
