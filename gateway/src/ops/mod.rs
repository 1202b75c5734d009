//! Current state that is not history: who may act, and for whom. Nothing here is an event, and every
//! row can be erased. Tokens, secrets and sessions are stored hashed ([`secret`]), passwords as argon2id;
//! what has to be read again is sealed.

pub mod apps;
pub mod browsers;
pub mod challenges;
pub mod mail;
pub mod passkeys;
pub mod passwords;
pub mod second_factor;
pub mod secret;
pub mod security;
pub mod server_secrets;
pub mod sign_ins;
pub mod tokens;

pub use apps::Apps;
pub use browsers::Browsers;
pub use challenges::Challenges;
pub use mail::Post;
pub use passkeys::Passkeys;
pub use passwords::Passwords;
pub use second_factor::SecondFactors;
pub use secret::SecretKey;
pub use server_secrets::ServerSecrets;
pub use sign_ins::SignIns;
pub use tokens::Tokens;
