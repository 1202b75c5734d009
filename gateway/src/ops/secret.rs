//! Tokens as text and as hash. What must be shown again later (a person's own token at each sign-in, an
//! app's secret) is derived from the server's key and a public seed, so it is stored nowhere.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

/// Length of a hash, in bytes.
pub const HASH_BYTES: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes from here on would make some letters likelier than others.
const FAIR_BYTES: u8 = 248;
/// The block of SHA-256, in bytes: an HMAC key of this size is used as it is.
const BLOCK_BYTES: usize = 64;

/// The operating system gave no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers: {0}")]
pub struct NoRandomness(String);

/// The key from which tokens are derived; never stored in the database.
#[derive(Clone)]
pub struct SecretKey([u8; BLOCK_BYTES]);

impl SecretKey {
    /// A key of 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        let mut key = [0; BLOCK_BYTES];
        key[..bytes.len()].copy_from_slice(&bytes);
        Self(key)
    }

    /// A token of `chars` letters and digits that only this key gives for this purpose and seed.
    pub fn token(&self, purpose: &str, seed: &[u8], chars: usize) -> String {
        let mut token = String::with_capacity(chars);
        for block in 0u32.. {
            for byte in self.mac(purpose, seed, block) {
                if token.len() == chars {
                    return token;
                }
                if byte < FAIR_BYTES {
                    token.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
                }
            }
        }
        token
    }

    fn mac(&self, purpose: &str, seed: &[u8], block: u32) -> [u8; HASH_BYTES] {
        let mut mac = Hmac::<Sha256>::new(&self.0.into());
        for part in [purpose.as_bytes(), seed] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.update(&block.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// What is stored of a token.
pub fn hash(token: &str) -> [u8; HASH_BYTES] {
    Sha256::digest(token.as_bytes()).into()
}

/// A hash as lower-case hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|cause| NoRandomness(cause.to_string()))?;
    Ok(bytes)
}

/// Random letters and digits.
pub fn random_text(chars: usize) -> Result<String, NoRandomness> {
    Ok(SecretKey::new(random()?).token("text", &[], chars))
}

/// A random UUID as text: the form of session tokens.
pub fn random_uuid() -> Result<String, NoRandomness> {
    Ok(uuid::Builder::from_random_bytes(random()?).into_uuid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_token_is_repeatable_and_differs_by_key_purpose_and_seed() {
        let key = SecretKey::new([7; 32]);
        let token = key.token("native", b"seed", 16);
        assert_eq!(token, key.token("native", b"seed", 16));
        assert!(token.len() == 16 && token.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(token, key.token("app", b"seed", 16));
        assert_ne!(token, key.token("native", b"other", 16));
        assert_ne!(token, SecretKey::new([8; 32]).token("native", b"seed", 16));
        assert_eq!(key.token("native", b"seed", 100).len(), 100);
    }

    #[test]
    fn purpose_and_seed_do_not_run_into_each_other() {
        let key = SecretKey::new([7; 32]);
        assert_ne!(key.token("ab", b"c", 16), key.token("a", b"bc", 16));
    }
}
