//! Web Push: what is told to a browser that is closed, so that only it can read it (RFC 8291), and the key by
//! which push services know this server (VAPID, RFC 8292).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use url::Url;

use crate::ops::SealedError;
use crate::ops::ServerSecrets;

/// The longest body that every push service takes, in bytes.
const MAX_BODY_BYTES: usize = 4_096;
const SALT_BYTES: usize = 16;
/// A point of P-256, uncompressed.
const POINT_BYTES: usize = 65;
const KEY_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Salt, size of a record, length and value of the key.
const HEAD_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
/// Ends the last record.
const LAST_RECORD: u8 = 2;
/// The most that can be told at once, in bytes.
pub const MAX_TOLD_BYTES: usize = MAX_BODY_BYTES - HEAD_BYTES - TAG_BYTES - 1;
/// How long a signature is good; services take no more than a day.
const SIGNED_FOR: Duration = Duration::hours(12);
/// Under which name the key of this server is kept.
const KEPT_AS: &str = "vapid";

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("the keys of the subscription are none")]
    Keys,
    #[error("the address of the subscription is none")]
    Address,
    #[error("it is too long")]
    TooLong,
    #[error("cryptography failed")]
    Crypto(#[from] ring::error::Unspecified),
}

/// Why there is no key of this server.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    #[error("it can't be made")]
    Crypto(#[from] ring::error::Unspecified),
    #[error("it can't be read: {0}")]
    Rejected(#[from] ring::error::KeyRejected),
    #[error("what is kept is no key")]
    Spoiled,
    #[error(transparent)]
    Kept(#[from] SealedError),
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
}

/// The key by which push services know this server.
pub struct Vapid {
    pair: EcdsaKeyPair,
    /// In base64 for addresses, as browsers are told.
    pub public: String,
}

impl Vapid {
    /// The key of this server, made when there is none.
    pub async fn of(secrets: &ServerSecrets) -> Result<Self, NoKey> {
        let random = SystemRandom::new();
        let kept = match secrets.get(KEPT_AS).await? {
            Some(kept) => kept,
            None => {
                let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
                secrets.keep(KEPT_AS, &BASE64_URL_SAFE_NO_PAD.encode(made.as_ref())).await?
            }
        };
        let pkcs8 = BASE64_URL_SAFE_NO_PAD.decode(kept).map_err(|_| NoKey::Spoiled)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random)?;
        let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Ok(Self { pair, public })
    }

    /// The `Authorization` for a push service: `contact` is the address of this server.
    pub fn authorize(&self, endpoint: &str, contact: &str, now: DateTime<Utc>) -> Result<String, PushError> {
        let endpoint = Url::parse(endpoint).map_err(|_| PushError::Address)?;
        let claims = json!({
            "aud": endpoint.origin().ascii_serialization(),
            "exp": (now + SIGNED_FOR).timestamp(),
            "sub": contact,
        });
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({ "typ": "JWT", "alg": "ES256" })), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes())?;
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref());
        Ok(format!("vapid t={signed}.{signature}, k={}", self.public))
    }
}

/// Seals what is told to a subscription, whose keys are in base64.
pub fn seal(public_key: &str, auth: &str, told: &[u8]) -> Result<Vec<u8>, PushError> {
    let key = |text: &str| {
        let plain = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
        BASE64_URL_SAFE_NO_PAD.decode(plain).map_err(|_| PushError::Keys)
    };
    let (theirs, auth) = (key(public_key)?, key(auth)?);
    let random = SystemRandom::new();
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt)?;
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random)?;
    let ours = own.compute_public_key()?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, theirs.as_slice());
    let secrets = |shared: &[u8]| Secrets {
        shared: shared.to_vec(),
        auth,
        theirs: theirs.clone(),
        ours: ours.as_ref().to_vec(),
        salt,
    };
    let secrets = agree_ephemeral(own, &peer, secrets).map_err(|_| PushError::Keys)?;
    secrets.seal(told)
}

/// All that decides how something is sealed.
struct Secrets {
    shared: Vec<u8>,
    auth: Vec<u8>,
    theirs: Vec<u8>,
    ours: Vec<u8>,
    salt: [u8; SALT_BYTES],
}

impl Secrets {
    fn seal(&self, told: &[u8]) -> Result<Vec<u8>, PushError> {
        if told.len() > MAX_TOLD_BYTES {
            return Err(PushError::TooLong);
        }
        let info = [b"WebPush: info\0".as_slice(), &self.theirs, &self.ours];
        let common: [u8; 32] = derive(&Salt::new(HKDF_SHA256, &self.auth).extract(&self.shared), &info)?;
        let keys = Salt::new(HKDF_SHA256, &self.salt).extract(&common);
        let key: [u8; KEY_BYTES] = derive(&keys, &[b"Content-Encoding: aes128gcm\0"])?;
        let nonce: [u8; NONCE_LEN] = derive(&keys, &[b"Content-Encoding: nonce\0"])?;
        let mut record = told.to_vec();
        record.push(LAST_RECORD);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)?;
        let (size, length) = (u32::try_from(MAX_BODY_BYTES), u8::try_from(self.ours.len()));
        let (Ok(size), Ok(length)) = (size, length) else { return Err(PushError::Keys) };
        let mut body = Vec::with_capacity(HEAD_BYTES + record.len());
        body.extend(self.salt);
        body.extend(size.to_be_bytes());
        body.push(length);
        body.extend(&self.ours);
        body.extend(record);
        Ok(body)
    }
}

/// So many bytes.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(from: &Prk, info: &[&[u8]]) -> Result<[u8; N], PushError> {
    let mut derived = [0; N];
    from.expand(info, Bytes(N))?.fill(&mut derived)?;
    Ok(derived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey as Verifier};
    use serde_json::Value;
    use sqlx::PgPool;
    use std::sync::Arc;

    use commands::log::Keyring;

    fn bytes(text: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// RFC 8291, appendix A; the shared secret is the one that it gives.
    #[test]
    fn the_example_of_the_standard_is_sealed_as_it_says() {
        let secrets = Secrets {
            shared: bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs"),
            auth: bytes("BTBZMqHH6r4Tts7J_aSIgg"),
            theirs: bytes(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            ),
            ours: bytes(
                "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
            ),
            salt: bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap(),
        };
        let sealed = secrets.seal(b"When I grow up, I want to be a watermelon").unwrap();
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.encode(sealed),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml\
             mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT\
             pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    #[test]
    fn nonsense_is_no_key_and_too_much_is_not_told() {
        let key = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let auth = "BTBZMqHH6r4Tts7J_aSIgg";
        assert_eq!(seal(key, auth, &[0; MAX_TOLD_BYTES]).unwrap().len(), MAX_BODY_BYTES);
        assert!(matches!(seal(key, auth, &[0; MAX_TOLD_BYTES + 1]), Err(PushError::TooLong)));
        for bad in ["", "x", "AAAA", "!!", &format!("{}A", &key[..86])] {
            assert!(matches!(seal(bad, auth, b""), Err(PushError::Keys)), "{bad}");
        }
        assert!(matches!(seal(key, "!", b""), Err(PushError::Keys)));
        assert!(seal(&format!("{key}="), &format!("{auth}=="), b"").is_ok(), "padding is taken");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_server_keeps_its_key_and_signs_for_one_service(pool: PgPool) {
        let secrets = ServerSecrets::new(pool, Arc::new(Keyring::memory().cipher("server")));
        let vapid = Vapid::of(&secrets).await.unwrap();
        assert_eq!(vapid.public, Vapid::of(&secrets).await.unwrap().public);
        assert_eq!(vapid.public.len(), 87);
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let header = vapid.authorize("https://push.example/send/x", "https://social.example", now).unwrap();
        let (token, key) = header.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(key, vapid.public);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let verifier = Verifier::new(&ECDSA_P256_SHA256_FIXED, bytes(key));
        verifier.verify(signed.as_bytes(), &bytes(signature)).unwrap();
        let claims: Value = serde_json::from_slice(&bytes(signed.split_once('.').unwrap().1)).unwrap();
        assert_eq!(claims["aud"], "https://push.example");
        assert_eq!(claims["sub"], "https://social.example");
        assert_eq!(claims["exp"], 1_700_000_000 + 12 * 3_600);
        assert!(vapid.authorize("no address", "x", now).is_err());
    }
}
