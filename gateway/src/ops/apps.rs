//! Registered apps and their sessions: the older of the two ways in which an app asks for access.
//! The app keeps a secret; each session is one question to one person.

use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use sqlx::PgPool;
use uuid::Uuid;

use super::secret::{self, SecretKey};
use super::tokens::{APP_CHARS, MAX_TOKEN_BYTES, TokenError, Tokens};

/// How long a session may wait for its answer, and the app for fetching it.
pub const AUTH_SESSION_LIFE: Duration = Duration::hours(24);

/// An app as it was registered.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientApp {
    pub id: Uuid,
    pub name: String,
    pub description: String,
    pub callback_url: Option<String>,
    /// Kinds of permission that the app asks for.
    pub permission: Vec<String>,
}

/// An app asking a person.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthSession {
    pub id: Uuid,
    pub app: ClientApp,
    /// Who accepted; none while nobody has.
    pub user: Option<UserId>,
}

/// Why an app gets no token for its session.
#[derive(Debug, thiserror::Error)]
pub enum CannotFetch {
    #[error("no such app")]
    NoSuchApp,
    #[error("no such session")]
    NoSuchSession,
    #[error("not accepted yet")]
    Pending,
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
}

type AppRow = (Uuid, String, String, Option<String>, Vec<String>);

/// Registers apps and runs their sessions.
#[derive(Clone)]
pub struct Apps {
    pool: PgPool,
    key: SecretKey,
}

impl Apps {
    pub fn new(pool: PgPool, key: SecretKey) -> Self {
        Self { pool, key }
    }

    /// Registers an app; returns its secret. `app.id` is a new id of this instant.
    pub async fn register(
        &self,
        owner: Option<UserId>,
        app: &ClientApp,
        now: DateTime<Utc>,
    ) -> Result<String, sqlx::Error> {
        let secret = self.secret(&app.id);
        sqlx::query(
            "insert into ops.apps
                 (id, user_id, secret_hash, name, description, callback_url, permission, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(app.id)
        .bind(owner.map(|user| user.0))
        .bind(secret::hash(&secret).as_slice())
        .bind(&app.name)
        .bind(&app.description)
        .bind(&app.callback_url)
        .bind(&app.permission)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(secret)
    }

    /// The app with this secret.
    pub async fn by_secret(&self, secret: &str) -> Result<Option<ClientApp>, sqlx::Error> {
        if secret.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        let row: Option<AppRow> = sqlx::query_as(
            "select id, name, description, callback_url, permission from ops.apps where secret_hash = $1",
        )
        .bind(secret::hash(secret).as_slice())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(client_app))
    }

    /// The apps that a person has registered, with whether they granted each its access.
    pub async fn registered_by(
        &self,
        user: UserId,
        limit: usize,
        offset: u32,
    ) -> Result<Vec<(ClientApp, bool)>, sqlx::Error> {
        self.listed(
            "select a.id, a.name, a.description, a.callback_url, a.permission,
                    exists (select 1 from ops.app_tokens t where t.user_id = $1 and t.app_id = a.id)
               from ops.apps a where a.user_id = $1 order by a.id limit $2 offset $3",
            (user, limit, offset),
        )
        .await
    }

    /// The registered apps to which a person granted access: the latest grant first, or last.
    pub async fn authorized_by(
        &self,
        user: UserId,
        newest_first: bool,
        limit: usize,
        offset: u32,
    ) -> Result<Vec<(ClientApp, bool)>, sqlx::Error> {
        let sql = if newest_first {
            "select a.id, a.name, a.description, a.callback_url, a.permission, true
               from ops.app_tokens t join ops.apps a on a.id = t.app_id
              where t.user_id = $1 order by t.id desc limit $2 offset $3"
        } else {
            "select a.id, a.name, a.description, a.callback_url, a.permission, true
               from ops.app_tokens t join ops.apps a on a.id = t.app_id
              where t.user_id = $1 order by t.id limit $2 offset $3"
        };
        self.listed(sql, (user, limit, offset)).await
    }

    async fn listed(
        &self,
        sql: &'static str,
        (user, limit, offset): (UserId, usize, u32),
    ) -> Result<Vec<(ClientApp, bool)>, sqlx::Error> {
        type Row = (Uuid, String, String, Option<String>, Vec<String>, bool);
        let rows: Vec<Row> = sqlx::query_as(sql)
            .bind(user.0)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(i64::from(offset))
            .fetch_all(&self.pool)
            .await?;
        let row = |(id, name, description, callback_url, permission, authorized)| {
            (client_app((id, name, description, callback_url, permission)), authorized)
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Whether this person has granted the app its access.
    pub async fn is_authorized(&self, app: Uuid, user: UserId) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("select exists (select 1 from ops.app_tokens where user_id = $2 and app_id = $1)")
            .bind(app)
            .bind(user.0)
            .fetch_one(&self.pool)
            .await
    }

    /// Opens a session of an app; returns the session's token. `id` is a new id of this instant.
    pub async fn open_session(&self, app: Uuid, id: Uuid, now: DateTime<Utc>) -> Result<String, TokenError> {
        let token = secret::random_uuid()?;
        sqlx::query("delete from ops.auth_sessions where created_at <= $1")
            .bind(now - AUTH_SESSION_LIFE)
            .execute(&self.pool)
            .await?;
        sqlx::query(
            "insert into ops.auth_sessions (id, app_id, token_hash, created_at) values ($1, $2, $3, $4)",
        )
        .bind(id)
        .bind(app)
        .bind(secret::hash(&token).as_slice())
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(token)
    }

    /// The session with this token.
    pub async fn session(&self, token: &str, now: DateTime<Utc>) -> Result<Option<AuthSession>, sqlx::Error> {
        if token.len() > MAX_TOKEN_BYTES {
            return Ok(None);
        }
        type Row = (Uuid, Option<Uuid>, Uuid, String, String, Option<String>, Vec<String>);
        let row: Option<Row> = sqlx::query_as(
            "select s.id, s.user_id, a.id, a.name, a.description, a.callback_url, a.permission
             from ops.auth_sessions s join ops.apps a on a.id = s.app_id
             where s.token_hash = $1 and s.created_at > $2",
        )
        .bind(secret::hash(token).as_slice())
        .bind(now - AUTH_SESSION_LIFE)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(id, user, app, name, description, callback_url, permission)| AuthSession {
            id,
            user: user.map(UserId),
            app: client_app((app, name, description, callback_url, permission)),
        }))
    }

    /// The person accepts: the app is granted what it asked for. `id` is a new id of this instant, used
    /// when this person hasn't granted this app anything yet.
    pub async fn accept(
        &self,
        tokens: &Tokens,
        session: &AuthSession,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        let token = tokens.derive_app(&id);
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "insert into ops.app_tokens
                 (id, user_id, app_id, hash, legacy_hash, name, description, permission, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict (user_id, app_id) where app_id is not null do nothing",
        )
        .bind(id)
        .bind(user.0)
        .bind(session.app.id)
        .bind(secret::hash(&token).as_slice())
        .bind(secret::hash(&self.legacy_token(&token, &session.app.id)).as_slice())
        .bind(&session.app.name)
        .bind(&session.app.description)
        .bind(&session.app.permission)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query("update ops.auth_sessions set user_id = $2 where id = $1 and user_id is null")
            .bind(session.id)
            .bind(user.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    /// The token that an accepted session gives, once.
    pub async fn fetch(
        &self,
        tokens: &Tokens,
        app_secret: &str,
        session_token: &str,
        now: DateTime<Utc>,
    ) -> Result<(UserId, String), CannotFetch> {
        let app = self.by_secret(app_secret).await?.ok_or(CannotFetch::NoSuchApp)?;
        let session = self.session(session_token, now).await?.filter(|session| session.app.id == app.id);
        let session = session.ok_or(CannotFetch::NoSuchSession)?;
        let user = session.user.ok_or(CannotFetch::Pending)?;
        let ended = sqlx::query("delete from ops.auth_sessions where id = $1")
            .bind(session.id)
            .execute(&self.pool)
            .await?;
        if ended.rows_affected() == 0 {
            return Err(CannotFetch::NoSuchSession);
        }
        let grant: Option<Uuid> =
            sqlx::query_scalar("select id from ops.app_tokens where user_id = $1 and app_id = $2")
                .bind(user.0)
                .bind(app.id)
                .fetch_optional(&self.pool)
                .await?;
        // Revoked since it was accepted.
        let grant = grant.ok_or(CannotFetch::NoSuchSession)?;
        Ok((user, tokens.derive_app(&grant)))
    }

    fn secret(&self, app: &Uuid) -> String {
        self.key.token("app secret", app.as_bytes(), APP_CHARS)
    }

    /// What older clients send instead of the token: hex(sha256(token + secret)).
    fn legacy_token(&self, token: &str, app: &Uuid) -> String {
        secret::hex(&secret::hash(&format!("{token}{}", self.secret(app))))
    }
}

fn client_app((id, name, description, callback_url, permission): AppRow) -> ClientApp {
    ClientApp { id, name, description, callback_url, permission }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_session_from_registration_to_the_token(pool: PgPool) {
        let key = SecretKey::new([3; 32]);
        let (apps, tokens) = (Apps::new(pool.clone(), key.clone()), Tokens::new(pool, key));
        let user = UserId(id(1));
        let app = ClientApp {
            id: id(2),
            name: "App".to_owned(),
            description: "d".to_owned(),
            callback_url: None,
            permission: vec!["read:account".to_owned()],
        };
        let secret = apps.register(None, &app, now()).await.unwrap();
        assert_eq!(secret.len(), APP_CHARS);
        assert_eq!(apps.by_secret(&secret).await.unwrap(), Some(app.clone()));
        assert_eq!(apps.by_secret("nosuch").await.unwrap(), None);

        let session = apps.open_session(app.id, id(3), now()).await.unwrap();
        let pending = apps.fetch(&tokens, &secret, &session, now()).await;
        assert!(matches!(pending, Err(CannotFetch::Pending)));
        assert!(!apps.is_authorized(app.id, user).await.unwrap());

        let asked = apps.session(&session, now()).await.unwrap().unwrap();
        assert_eq!((asked.id, &asked.app, asked.user), (id(3), &app, None));
        apps.accept(&tokens, &asked, user, id(4), now()).await.unwrap();
        assert!(apps.is_authorized(app.id, user).await.unwrap());
        let (who, token) = apps.fetch(&tokens, &secret, &session, now()).await.unwrap();
        assert_eq!(who, user);
        let again = apps.fetch(&tokens, &secret, &session, now()).await;
        assert!(matches!(again, Err(CannotFetch::NoSuchSession)));

        // The token itself, and the form that older clients send, in either case.
        let legacy = secret::hex(&secret::hash(&format!("{token}{secret}")));
        for sent in [token.clone(), legacy.clone(), legacy.to_uppercase()] {
            let grant = tokens.find(&sent).await.unwrap().unwrap();
            assert_eq!(grant.user, user);
            assert_eq!(grant.app.unwrap().permission, ["read:account"]);
        }

        // A second session of the same app and person gives the same token.
        let session = apps.open_session(app.id, id(5), now()).await.unwrap();
        let asked = apps.session(&session, now()).await.unwrap().unwrap();
        apps.accept(&tokens, &asked, user, id(6), now()).await.unwrap();
        assert_eq!(apps.fetch(&tokens, &secret, &session, now()).await.unwrap(), (user, token));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_session_belongs_to_its_app_and_ends(pool: PgPool) {
        let key = SecretKey::new([3; 32]);
        let (apps, tokens) = (Apps::new(pool.clone(), key.clone()), Tokens::new(pool, key));
        let app = |n| ClientApp {
            id: id(n),
            name: "App".to_owned(),
            description: String::new(),
            callback_url: None,
            permission: Vec::new(),
        };
        apps.register(None, &app(1), now()).await.unwrap();
        let other = apps.register(None, &app(2), now()).await.unwrap();
        let session = apps.open_session(id(1), id(3), now()).await.unwrap();
        let stolen = apps.fetch(&tokens, &other, &session, now()).await;
        assert!(matches!(stolen, Err(CannotFetch::NoSuchSession)));
        let late = now() + AUTH_SESSION_LIFE;
        assert_eq!(apps.session(&session, late).await.unwrap(), None);
    }
}
