//! Current state that is not history: who may act, and for whom. Nothing here is an event, and every
//! row can be erased. Tokens, secrets and sessions are stored hashed ([`secret`]), passwords as argon2id.

pub mod apps;
pub mod browsers;
pub mod passwords;
pub mod secret;
pub mod sign_ins;
pub mod tokens;

pub use apps::Apps;
pub use browsers::Browsers;
pub use passwords::Passwords;
pub use secret::SecretKey;
pub use sign_ins::SignIns;
pub use tokens::Tokens;
