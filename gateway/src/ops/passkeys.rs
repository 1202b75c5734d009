//! Passkeys of people: their public keys, and the questions that their authenticators answer.

use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use sqlx::PgPool;
use uuid::Uuid;

use super::challenges::Challenges;
use super::secret::{self, NoRandomness};
use crate::webauthn::{self, Assertion, Checked, Credential, NotTaken, Registration, Site};

/// The most passkeys of one person.
pub const MAX_PASSKEYS: i64 = 50;
/// How long an authenticator may take to answer.
pub const CHALLENGE_LIFE: Duration = Duration::seconds(90);
pub const CHALLENGE_BYTES: usize = 32;

/// Whom an answer is to let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// This person makes a passkey.
    Register(UserId),
    /// This person signs in.
    SignIn(UserId),
    /// Somebody signs in, who is told by the passkey.
    Anybody(String),
}

/// A passkey as its person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    pub id: Vec<u8>,
    pub user: UserId,
    pub name: String,
    pub transports: Vec<String>,
    pub last_used_at: DateTime<Utc>,
}

/// Why an answer of an authenticator does nothing.
#[derive(Debug, thiserror::Error)]
pub enum PasskeyError {
    #[error("nothing was asked, or too long ago")]
    NotAsked,
    #[error("no such passkey")]
    NoSuchKey,
    #[error("the passkey is kept already, or there are too many")]
    NotKept,
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// Keeps passkeys, and checks what their authenticators answer.
#[derive(Clone)]
pub struct Passkeys {
    pool: PgPool,
    challenges: Challenges,
    site: Site,
}

impl Passkeys {
    pub fn new(pool: PgPool, challenges: Challenges, site: Site) -> Self {
        Self { pool, challenges, site }
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Asks; what is to be signed.
    pub async fn ask(
        &self,
        question: &Question,
        now: DateTime<Utc>,
    ) -> Result<[u8; CHALLENGE_BYTES], PasskeyError> {
        let challenge = secret::random()?;
        self.challenges.ask(&question.name(), question.user(), &challenge, CHALLENGE_LIFE, now).await?;
        Ok(challenge)
    }

    /// Keeps a new passkey that answers the question.
    pub async fn register(
        &self,
        user: UserId,
        name: &str,
        answer: &Registration,
        now: DateTime<Utc>,
    ) -> Result<Credential, PasskeyError> {
        let challenge = self.asked(&Question::Register(user), now).await?;
        let made = webauthn::register(&self.site, &challenge, answer)?;
        let kept = sqlx::query(
            "insert into ops.passkeys
                 (id, user_id, name, public_key, sign_count, transports, backed_up, created_at, last_used_at)
             select $1, $2, $3, $4, $5, $6, $7, $8, $8
              where (select count(*) from ops.passkeys where user_id = $2) < $9
             on conflict (id) do nothing",
        )
        .bind(&made.id)
        .bind(user.0)
        .bind(name)
        .bind(&made.public_key)
        .bind(i64::from(made.sign_count))
        .bind(&made.transports)
        .bind(made.is_backed_up)
        .bind(now)
        .bind(MAX_PASSKEYS)
        .execute(&self.pool)
        .await?;
        if kept.rows_affected() > 0 { Ok(made) } else { Err(PasskeyError::NotKept) }
    }

    /// Whom an answer lets in, and whether their authenticator has made sure who it is.
    pub async fn check(
        &self,
        question: &Question,
        answer: &Assertion,
        now: DateTime<Utc>,
    ) -> Result<(UserId, Checked), PasskeyError> {
        let challenge = self.asked(question, now).await?;
        let id = answer.credential_id().ok_or(NotTaken::Malformed)?;
        let row: Option<(Uuid, Vec<u8>, i64)> =
            sqlx::query_as("select user_id, public_key, sign_count from ops.passkeys where id = $1")
                .bind(&id)
                .fetch_optional(&self.pool)
                .await?;
        let (user, public_key, counted) = row.ok_or(PasskeyError::NoSuchKey)?;
        let user = UserId(user);
        let is_theirs = question.user().is_none_or(|asked| asked == user)
            && answer.user_handle().is_none_or(|handle| handle == user.to_string());
        if !is_theirs {
            return Err(PasskeyError::NoSuchKey);
        }
        let counted = u32::try_from(counted).unwrap_or(u32::MAX);
        let checked = webauthn::check(&self.site, &challenge, answer, &public_key, counted)?;
        sqlx::query(
            "update ops.passkeys set sign_count = $2, backed_up = $3, last_used_at = $4 where id = $1",
        )
        .bind(&id)
        .bind(i64::from(checked.sign_count))
        .bind(checked.is_backed_up)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok((user, checked))
    }

    /// The passkeys of a person, the first first.
    pub async fn list(&self, user: UserId) -> sqlx::Result<Vec<Passkey>> {
        type Row = (Vec<u8>, Uuid, String, Vec<String>, DateTime<Utc>);
        let rows: Vec<Row> = sqlx::query_as(
            "select id, user_id, name, transports, last_used_at from ops.passkeys
              where user_id = $1 order by created_at, id limit $2",
        )
        .bind(user.0)
        .bind(MAX_PASSKEYS)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(passkey).collect())
    }

    /// Gives a passkey of this person another name; whose it is when it isn't theirs.
    pub async fn rename(
        &self,
        user: UserId,
        id: &[u8],
        name: &str,
    ) -> sqlx::Result<Result<(), Option<UserId>>> {
        let renamed = sqlx::query("update ops.passkeys set name = $3 where id = $1 and user_id = $2")
            .bind(id)
            .bind(user.0)
            .bind(name)
            .execute(&self.pool)
            .await?;
        if renamed.rows_affected() > 0 {
            return Ok(Ok(()));
        }
        let owner: Option<Uuid> = sqlx::query_scalar("select user_id from ops.passkeys where id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(Err(owner.map(UserId)))
    }

    /// Forgets a passkey of this person. Without any left, a passkey alone lets nobody in.
    pub async fn remove(&self, user: UserId, id: &[u8]) -> sqlx::Result<()> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("delete from ops.passkeys where id = $1 and user_id = $2")
            .bind(id)
            .bind(user.0)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "update ops.second_factors set password_less = false
              where user_id = $1 and not exists (select 1 from ops.passkeys where user_id = $1)",
        )
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn asked(&self, question: &Question, now: DateTime<Utc>) -> Result<Vec<u8>, PasskeyError> {
        let asked = self.challenges.take(&question.name(), now).await?;
        asked.map(|(_, challenge)| challenge).ok_or(PasskeyError::NotAsked)
    }
}

impl Question {
    fn name(&self) -> String {
        match self {
            Question::Register(user) => format!("passkey register {user}"),
            Question::SignIn(user) => format!("passkey in {user}"),
            Question::Anybody(context) => format!("passkey any {context}"),
        }
    }

    fn user(&self) -> Option<UserId> {
        match self {
            Question::Register(user) | Question::SignIn(user) => Some(*user),
            Question::Anybody(_) => None,
        }
    }
}

fn passkey(
    (id, user, name, transports, last_used_at): (Vec<u8>, Uuid, String, Vec<String>, DateTime<Utc>),
) -> Passkey {
    Passkey { id, user: UserId(user), name, transports, last_used_at }
}
