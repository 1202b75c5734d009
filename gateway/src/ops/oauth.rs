//! Codes of OAuth: each gives one token, within five minutes, to whoever knows the verifier.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use domain::ids::UserId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use super::secret::{self, NoRandomness};
use super::tokens::{NewGrant, Tokens, Which};

/// How long a question to a person, and a code, are good.
pub const CODE_LIFE: Duration = Duration::minutes(5);
/// The longest code and verifier, in bytes (RFC 7636 for the latter).
pub const MAX_CODE_BYTES: usize = 128;

/// What an app asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub client_id: String,
    pub redirect_uri: String,
    pub name: String,
    pub icon_url: Option<String>,
    pub permission: Vec<String>,
    /// SHA-256 of the verifier, in base64 for addresses.
    pub challenge: String,
    pub state: Option<String>,
}

/// A token that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub user: UserId,
    pub token: String,
    pub name: String,
    pub permission: Vec<String>,
}

/// Why a code gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    #[error("the code is wrong, too old, or was used before")]
    Code,
    #[error("the code is another app's or for another address")]
    Client,
    #[error("the verifier is wrong")]
    Verifier,
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
}

/// Makes and exchanges codes.
#[derive(Clone)]
pub struct OAuth {
    pool: PgPool,
}

impl OAuth {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The person allows it; the code for the app.
    pub async fn allow(
        &self,
        user: UserId,
        request: &Request,
        now: DateTime<Utc>,
    ) -> Result<Result<String, NoRandomness>, sqlx::Error> {
        let code = match secret::random::<32>() {
            Ok(bytes) => secret::hex(&bytes),
            Err(cause) => return Ok(Err(cause)),
        };
        sqlx::query("delete from ops.oauth_codes where expires_at <= $1")
            .bind(now)
            .execute(&self.pool)
            .await?;
        sqlx::query(
            "insert into ops.oauth_codes
                 (hash, user_id, client_id, redirect_uri, name, icon_url, permission, challenge, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(secret::hash(&code).as_slice())
        .bind(user.0)
        .bind(&request.client_id)
        .bind(&request.redirect_uri)
        .bind(&request.name)
        .bind(&request.icon_url)
        .bind(&request.permission)
        .bind(&request.challenge)
        .bind(now + CODE_LIFE)
        .execute(&self.pool)
        .await?;
        Ok(Ok(code))
    }

    /// Exchanges a code for a token, under a new id of this instant. Shown again, it ends the token.
    pub async fn exchange(
        &self,
        tokens: &Tokens,
        (code, verifier): (&str, &str),
        (client_id, redirect_uri): (&str, Option<&str>),
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Given, NoToken> {
        if code.len() > MAX_CODE_BYTES || verifier.len() > MAX_CODE_BYTES {
            return Err(NoToken::Code);
        }
        let hash = secret::hash(code);
        type Row = (Uuid, String, String, String, Option<String>, Vec<String>, String, Option<Uuid>);
        let row: Option<Row> = sqlx::query_as(
            "select user_id, client_id, redirect_uri, name, icon_url, permission, challenge, token_id
               from ops.oauth_codes where hash = $1 and expires_at > $2",
        )
        .bind(hash.as_slice())
        .bind(now)
        .fetch_optional(&self.pool)
        .await?;
        let (user, client, uri, name, icon_url, permission, challenge, used) = row.ok_or(NoToken::Code)?;
        let user = UserId(user);
        if let Some(token) = used {
            sqlx::query("update ops.oauth_codes set is_over = true where hash = $1")
                .bind(hash.as_slice())
                .execute(&self.pool)
                .await?;
            tokens.revoke(user, &Which::Id(token)).await?;
            return Err(NoToken::Code);
        }
        if client != client_id || redirect_uri != Some(uri.as_str()) {
            return Err(NoToken::Client);
        }
        let shown = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        if shown != challenge {
            return Err(NoToken::Verifier);
        }
        // Of two who show it at once, one gets a token; and if that is not made, nobody does.
        let taken =
            sqlx::query("update ops.oauth_codes set token_id = $2 where hash = $1 and token_id is null")
                .bind(hash.as_slice())
                .bind(id)
                .execute(&self.pool)
                .await?;
        if taken.rows_affected() == 0 {
            return Err(NoToken::Code);
        }
        let grant = NewGrant {
            session: None,
            name: Some(name.clone()),
            description: None,
            icon_url,
            permission: permission.clone(),
        };
        let token = tokens.grant(user, id, &grant, now).await?;
        // Whoever showed it meanwhile found no token yet that could be ended.
        let is_over: Option<bool> = sqlx::query_scalar("select is_over from ops.oauth_codes where hash = $1")
            .bind(hash.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        if is_over != Some(false) {
            tokens.revoke(user, &Which::Id(id)).await?;
            return Err(NoToken::Code);
        }
        Ok(Given { user, token, name, permission })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::SecretKey;

    #[sqlx::test(migrations = "../migrations")]
    async fn a_code_gives_one_token_and_shown_again_ends_it(pool: PgPool) {
        let (oauth, tokens) = (OAuth::new(pool.clone()), Tokens::new(pool, SecretKey::new([3; 32])));
        let (user, now) = (UserId(Uuid::from_u128(1)), DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        let verifier = "v".repeat(43);
        let request = Request {
            client_id: "https://app.example/".to_owned(),
            redirect_uri: "https://app.example/cb".to_owned(),
            name: "App".to_owned(),
            icon_url: None,
            permission: vec!["read:account".to_owned()],
            challenge: BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())),
            state: None,
        };
        let code = oauth.allow(user, &request, now).await.unwrap().unwrap();
        let client = (request.client_id.as_str(), Some(request.redirect_uri.as_str()));
        let exchange = async |code: &str, verifier: &str, client, id, now| {
            oauth.exchange(&tokens, (code, verifier), client, Uuid::from_u128(id), now).await
        };
        assert!(matches!(exchange("nosuch", &verifier, client, 9, now).await, Err(NoToken::Code)));
        assert!(matches!(exchange(&code, "wrong", client, 9, now).await, Err(NoToken::Verifier)));
        let other = ("https://evil.example/", None);
        assert!(matches!(exchange(&code, &verifier, other, 9, now).await, Err(NoToken::Client)));
        assert!(matches!(exchange(&code, &verifier, client, 9, now + CODE_LIFE).await, Err(NoToken::Code)));
        let given = exchange(&code, &verifier, client, 9, now).await.unwrap();
        assert_eq!((given.user, given.permission.as_slice()), (user, request.permission.as_slice()));
        assert!(tokens.find(&given.token).await.unwrap().is_some());
        assert!(matches!(exchange(&code, &verifier, client, 10, now).await, Err(NoToken::Code)));
        assert_eq!(tokens.find(&given.token).await.unwrap(), None);
    }
}
