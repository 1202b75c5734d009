//! Mail: the addresses of people, accounts that wait for theirs to be proven, and what is on its way. All of it
//! sealed; an address is found by a keyed hash.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use commands::log::Cipher;
use domain::ids::UserId;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::sync::Notify;
use uuid::Uuid;

use super::SealedError;
use super::secret::{self, SecretKey};

/// The longest address, in bytes (RFC 5321).
pub const MAX_ADDRESS_BYTES: usize = 254;
/// Mail that waits; beyond it nothing more is taken.
pub const MAX_WAITING: i64 = 10_000;
/// Mail taken to be sent at once.
const MAX_AT_ONCE: i64 = 10;
/// How often one mail is tried.
pub const MAX_ATTEMPTS: i32 = 8;
/// The pause after the first failure; each next one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::minutes(1);
/// How long an account waits for its address to be proven.
pub const PENDING_LIFE: Duration = Duration::hours(24);
/// Length of what is hashed to find an address.
const LOOKUP_CHARS: usize = 32;

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
}

/// A mail that is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    pub id: Uuid,
    pub mail: Mail,
    /// With this one.
    pub attempts: i32,
}

/// Where somebody is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub address: String,
    /// Whether they have shown that it is theirs.
    pub verified: bool,
}

/// An account to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub username: String,
    pub address: String,
    pub password_hash: String,
}

/// Mail can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("too much mail waits to be sent")]
pub struct TooMuchMail;

/// Keeps addresses and mail.
#[derive(Clone)]
pub struct Post {
    pool: PgPool,
    key: SecretKey,
    cipher: Arc<Cipher>,
    /// Told when there is something to be sent.
    pub news: Arc<Notify>,
}

impl Post {
    pub fn new(pool: PgPool, key: SecretKey, cipher: Arc<Cipher>) -> Self {
        Self { pool, key, cipher, news: Arc::default() }
    }

    /// By which an address is found. Letters count the same in either case.
    pub fn lookup(&self, address: &str) -> String {
        self.key.token("mail address", address.to_lowercase().as_bytes(), LOOKUP_CHARS)
    }

    /// Sets where somebody is reached, not yet proven; with none, nowhere.
    pub async fn set_address(
        &self,
        user: UserId,
        address: Option<&str>,
    ) -> Result<(), SealedError<TooMuchMail>> {
        let Some(address) = address else {
            sqlx::query("delete from ops.mail_addresses where user_id = $1")
                .bind(user.0)
                .execute(&self.pool)
                .await?;
            return Ok(());
        };
        sqlx::query(
            "insert into ops.mail_addresses (user_id, sealed, lookup, verified) values ($1, $2, $3, false)
             on conflict (user_id) do update
             set sealed = excluded.sealed, lookup = excluded.lookup, verified = false",
        )
        .bind(user.0)
        .bind(self.cipher.seal(address.as_bytes(), user.0.as_bytes())?)
        .bind(self.lookup(address))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes that the address with this lookup is somebody's, if it still is the one they gave; false when it
    /// isn't, or is somebody else's by now.
    pub async fn verify(&self, user: UserId, lookup: &str) -> sqlx::Result<bool> {
        let verified = sqlx::query(
            "update ops.mail_addresses a set verified = true
              where user_id = $1 and lookup = $2
                and not exists (select 1 from ops.mail_addresses o
                                 where o.lookup = $2 and o.verified and o.user_id <> $1)",
        )
        .bind(user.0)
        .bind(lookup)
        .execute(&self.pool)
        .await;
        match verified {
            Ok(done) => Ok(done.rows_affected() > 0),
            // Somebody else was faster.
            Err(sqlx::Error::Database(cause)) if cause.is_unique_violation() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whose proven address it is.
    pub async fn holder(&self, address: &str) -> sqlx::Result<Option<UserId>> {
        let user: Option<Uuid> =
            sqlx::query_scalar("select user_id from ops.mail_addresses where lookup = $1 and verified")
                .bind(self.lookup(address))
                .fetch_optional(&self.pool)
                .await?;
        Ok(user.map(UserId))
    }

    /// Where people are reached.
    pub async fn addresses(&self, people: &[UserId]) -> sqlx::Result<HashMap<UserId, Address>> {
        let rows: Vec<(Uuid, Vec<u8>, bool)> = sqlx::query_as(
            "select user_id, sealed, verified from ops.mail_addresses where user_id = any($1)",
        )
        .bind(people.iter().map(|user| user.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        let row = |(user, sealed, verified): (Uuid, Vec<u8>, bool)| {
            let address = String::from_utf8(self.cipher.open(&sealed, user.as_bytes())?).ok()?;
            Some((UserId(user), Address { address, verified }))
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Has a mail sent, soon. `id` is a new id of this instant.
    pub async fn send(
        &self,
        id: Uuid,
        user: Option<UserId>,
        mail: &Mail,
        now: DateTime<Utc>,
    ) -> Result<(), SealedError<TooMuchMail>> {
        let sealed = self.cipher.seal(&serde_json::to_vec(mail)?, id.as_bytes())?;
        let taken = sqlx::query(
            "insert into ops.outbox (id, user_id, sealed, due_at)
             select $1, $2, $3, $4 where (select count(*) from ops.outbox) < $5",
        )
        .bind(id)
        .bind(user.map(|user| user.0))
        .bind(sealed)
        .bind(now)
        .bind(MAX_WAITING)
        .execute(&self.pool)
        .await?;
        if taken.rows_affected() == 0 {
            return Err(SealedError::Refused(TooMuchMail));
        }
        self.news.notify_one();
        Ok(())
    }

    /// Takes mail to be sent whose time has come. Nobody else takes it before the pause of its next attempt is
    /// over, so it is sent once, and again only when whoever took it doesn't say that it is sent.
    pub async fn take(&self, now: DateTime<Utc>) -> sqlx::Result<Vec<Sending>> {
        let rows: Vec<(Uuid, Vec<u8>, i32)> = sqlx::query_as(
            "update ops.outbox o
                set attempts = o.attempts + 1, due_at = $1 + $3 * power(2, o.attempts)
              where o.id in (select id from ops.outbox where due_at <= $1
                              order by due_at, id limit $2 for update skip locked)
             returning o.id, o.sealed, o.attempts",
        )
        .bind(now)
        .bind(MAX_AT_ONCE)
        .bind(FIRST_PAUSE)
        .fetch_all(&self.pool)
        .await?;
        let mut taken = Vec::with_capacity(rows.len());
        for (id, sealed, attempts) in rows {
            let plain = self.cipher.open(&sealed, id.as_bytes());
            match plain.and_then(|plain| serde_json::from_slice(&plain).ok()) {
                Some(mail) => taken.push(Sending { id, mail, attempts }),
                // Sealed with other keys: nobody can read it any more.
                None => self.done(id).await?,
            }
        }
        Ok(taken)
    }

    /// Takes note that a mail is sent, or never will be.
    pub async fn done(&self, id: Uuid) -> sqlx::Result<()> {
        sqlx::query("delete from ops.outbox where id = $1").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// Keeps an account that is made when its code comes back.
    pub async fn begin_sign_up(
        &self,
        code: &str,
        pending: &Pending,
        now: DateTime<Utc>,
    ) -> Result<(), SealedError<TooMuchMail>> {
        let hash = secret::hash(code);
        sqlx::query("delete from ops.pending_sign_ups where expires_at <= $1")
            .bind(now)
            .execute(&self.pool)
            .await?;
        sqlx::query("insert into ops.pending_sign_ups (hash, sealed, expires_at) values ($1, $2, $3)")
            .bind(hash.as_slice())
            .bind(self.cipher.seal(&serde_json::to_vec(pending)?, &hash)?)
            .bind(now + PENDING_LIFE)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The account that waits for this code, once.
    pub async fn end_sign_up(
        &self,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Pending>, SealedError<TooMuchMail>> {
        let hash = secret::hash(code);
        let sealed: Option<Vec<u8>> = sqlx::query_scalar(
            "delete from ops.pending_sign_ups where hash = $1 and expires_at > $2 returning sealed",
        )
        .bind(hash.as_slice())
        .bind(now)
        .fetch_optional(&self.pool)
        .await?;
        let plain = sealed.and_then(|sealed| self.cipher.open(&sealed, &hash));
        Ok(plain.map(|plain| serde_json::from_slice(&plain)).transpose()?)
    }
}

/// Whether this can be an address: a name, an at sign, and a host with a dot in it.
pub fn is_address(text: &str) -> bool {
    let Some((name, host)) = text.rsplit_once('@') else { return false };
    let is_name = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-.".contains(&b))
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..");
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_ADDRESS_BYTES && is_name && host.contains('.') && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use commands::log::Keyring;

    fn post(pool: &PgPool) -> Post {
        Post::new(pool.clone(), SecretKey::new([3; 32]), Arc::new(Keyring::memory().cipher("mail")))
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    #[test]
    fn addresses_have_a_form() {
        for right in ["a@example.com", "a.b+c@mail.example.co.jp", "o'neil@x-y.example"] {
            assert!(is_address(right), "{right}");
        }
        let long = format!("{}@example.com", "x".repeat(65));
        for wrong in
            ["", "a", "a@", "@b.c", "a@b", "a b@c.d", "a@-b.c", "a..b@c.d", "a@b.c\r\nbcc: d@e.f", &long]
        {
            assert!(!is_address(wrong), "{wrong}");
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_proven_address_is_one_persons(pool: PgPool) {
        let post = post(&pool);
        let (alice, bob) = (UserId(id(1)), UserId(id(2)));
        for user in [alice, bob] {
            post.set_address(user, Some("A@example.com")).await.unwrap();
        }
        let lookup = post.lookup("a@EXAMPLE.com");
        assert_eq!(post.holder("a@example.com").await.unwrap(), None);
        assert!(!post.verify(alice, "other").await.unwrap());
        assert!(post.verify(alice, &lookup).await.unwrap());
        assert!(!post.verify(bob, &lookup).await.unwrap(), "it is hers");
        assert_eq!(post.holder("a@example.com").await.unwrap(), Some(alice));
        let shown = post.addresses(&[alice]).await.unwrap();
        assert_eq!(shown[&alice], Address { address: "A@example.com".to_owned(), verified: true });
        let stored: String = sqlx::query_scalar("select string_agg(t::text, ' ') from ops.mail_addresses t")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert!(
            !stored.to_lowercase().contains("example") && !stored.contains(&secret::hex(b"A@example.com"))
        );
        post.set_address(alice, None).await.unwrap();
        assert!(post.verify(bob, &lookup).await.unwrap());
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn mail_is_taken_by_one_and_again_after_a_pause(pool: PgPool) {
        let post = post(&pool);
        let mail = Mail { to: "a@example.com".to_owned(), subject: "s".to_owned(), text: "t".to_owned() };
        post.send(id(1), None, &mail, now()).await.unwrap();
        let taken = post.take(now()).await.unwrap();
        assert_eq!(taken, [Sending { id: id(1), mail: mail.clone(), attempts: 1 }]);
        assert_eq!(post.take(now()).await.unwrap(), []);
        let later = now() + FIRST_PAUSE;
        assert_eq!(post.take(later).await.unwrap()[0].attempts, 2);
        assert_eq!(post.take(later + FIRST_PAUSE).await.unwrap(), [], "the pause is longer now");
        post.done(id(1)).await.unwrap();
        assert_eq!(post.take(later + FIRST_PAUSE * 100).await.unwrap(), []);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn an_account_waits_for_its_code_and_not_for_ever(pool: PgPool) {
        let post = post(&pool);
        let pending = Pending {
            username: "alice".to_owned(),
            address: "a@example.com".to_owned(),
            password_hash: "h".to_owned(),
        };
        post.begin_sign_up("code", &pending, now()).await.unwrap();
        assert_eq!(post.end_sign_up("other", now()).await.unwrap(), None);
        assert_eq!(post.end_sign_up("code", now()).await.unwrap(), Some(pending.clone()));
        assert_eq!(post.end_sign_up("code", now()).await.unwrap(), None);
        post.begin_sign_up("late", &pending, now()).await.unwrap();
        assert_eq!(post.end_sign_up("late", now() + PENDING_LIFE).await.unwrap(), None);
    }
}
