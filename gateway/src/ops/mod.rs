//! Current state that is not history: who may act, and for whom. Nothing here is an event, and every
//! row can be erased. Tokens, secrets and sessions are stored hashed ([`secret`]), passwords as argon2id;
//! what has to be read again is sealed.

pub mod apps;
pub mod browsers;
pub mod challenges;
pub mod deliveries;
pub mod jobs;
pub mod mail;
pub mod oauth;
pub mod passkeys;
pub mod passwords;
pub mod second_factor;
pub mod secret;
pub mod security;
pub mod server_secrets;
pub mod sign_ins;
pub mod subscriptions;
pub mod tokens;
pub mod webhooks;

use std::convert::Infallible;

use commands::log::KeysError;

pub use apps::Apps;
pub use browsers::Browsers;
pub use challenges::Challenges;
pub use deliveries::Deliveries;
pub use jobs::Jobs;
pub use mail::Post;
pub use oauth::OAuth;
pub use passkeys::Passkeys;
pub use passwords::Passwords;
pub use second_factor::SecondFactors;
pub use secret::SecretKey;
pub use server_secrets::ServerSecrets;
pub use sign_ins::SignIns;
pub use subscriptions::Subscriptions;
pub use tokens::Tokens;
pub use webhooks::Webhooks;

/// What is sealed can't be kept: it is refused, or something is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum SealedError<R: std::error::Error + 'static = Infallible> {
    #[error(transparent)]
    Refused(R),
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}
