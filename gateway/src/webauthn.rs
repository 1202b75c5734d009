//! Passkeys: what a browser answers for its authenticator, checked by the rules of WebAuthn (level 3, sections
//! 7.1 and 7.2). No IO: challenges and keys come from `ops::passkeys`.
//!
//! Attestation is asked for as `none` and not looked at: which make of authenticator it is doesn't matter here.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ciborium::Value as Cbor;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

/// The longest id of a credential, in bytes (the standard's own limit).
pub const MAX_CREDENTIAL_ID_BYTES: usize = 1_023;
/// The largest public key that is kept, in bytes: RSA with 8192 bits.
pub const MAX_KEY_BYTES: usize = 2_048;
/// The longest part of an answer, in characters of base64.
const MAX_PART_CHARS: usize = 64 * 1_024;
/// How deep an attestation may be nested.
const MAX_CBOR_DEPTH: usize = 8;
/// How the browser says that it is there, and who it is.
const MAX_TRANSPORTS: usize = 8;
const MAX_TRANSPORT_CHARS: usize = 16;

const RP_ID_HASH_BYTES: usize = 32;
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const HAS_CREDENTIAL: u8 = 0x40;

/// The algorithms that are asked for, as COSE numbers them, the best first.
pub const ALGORITHMS: [i64; 3] = [EDDSA, ES256, RS256];
const EDDSA: i64 = -8;
const ES256: i64 = -7;
const RS256: i64 = -257;

/// For whom authenticators answer here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Such as `https://social.example`.
    pub origin: String,
    /// Its host, without a port.
    pub id: String,
}

impl Site {
    pub fn new(origin: &str) -> Self {
        let host = Url::parse(origin).ok().and_then(|url| url.host_str().map(str::to_owned));
        Self { origin: origin.to_owned(), id: host.unwrap_or_default() }
    }
}

/// A new credential, as the browser hands it over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    id: String,
    response: Attestation,
}

#[derive(Debug, Deserialize)]
struct Attestation {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    #[serde(rename = "attestationObject")]
    object: String,
    #[serde(default)]
    transports: Vec<String>,
}

/// What an authenticator says to get somebody in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    id: String,
    response: Signed,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    signature: String,
    #[serde(default)]
    user_handle: Option<String>,
}

/// A credential that may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub id: Vec<u8>,
    /// As COSE writes it.
    pub public_key: Vec<u8>,
    pub sign_count: u32,
    pub transports: Vec<String>,
    pub is_backed_up: bool,
}

/// A checked answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub sign_count: u32,
    pub is_backed_up: bool,
    /// Whether the authenticator has also made sure who it is: by a PIN or a finger.
    pub user_verified: bool,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("it can't be read")]
    Malformed,
    #[error("it is for another purpose, question or site")]
    Other,
    #[error("nobody was there")]
    NobodyThere,
    #[error("the algorithm is not one that was asked for")]
    Algorithm,
    #[error("the signature is wrong")]
    Signature,
    #[error("the authenticator has counted backwards: it may have been copied")]
    Copied,
}

/// Checks a new credential.
pub fn register(site: &Site, challenge: &[u8], answer: &Registration) -> Result<Credential, NotTaken> {
    check_client(site, challenge, "webauthn.create", &decode(&answer.response.client_data)?)?;
    let object = decode(&answer.response.object)?;
    let object: Cbor = ciborium::de::from_reader_with_recursion_limit(object.as_slice(), MAX_CBOR_DEPTH)
        .map_err(|_| NotTaken::Malformed)?;
    let data = field(&object, &Cbor::from("authData")).and_then(Cbor::as_bytes).ok_or(NotTaken::Malformed)?;
    let (head, rest) = Authenticator::read(site, data)?;
    if head.flags & HAS_CREDENTIAL == 0 {
        return Err(NotTaken::Malformed);
    }
    // The kind of authenticator (16 bytes), then the length of the id.
    let (_, rest) = rest.split_at_checked(16).ok_or(NotTaken::Malformed)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(NotTaken::Malformed)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 || length > MAX_CREDENTIAL_ID_BYTES {
        return Err(NotTaken::Malformed);
    }
    let (id, rest) = rest.split_at_checked(length).ok_or(NotTaken::Malformed)?;
    if decode(&answer.id)? != id {
        return Err(NotTaken::Malformed);
    }
    // Extensions may follow the key.
    let mut after = rest;
    let key: Cbor = ciborium::de::from_reader_with_recursion_limit(&mut after, MAX_CBOR_DEPTH)
        .map_err(|_| NotTaken::Malformed)?;
    let public_key = rest[..rest.len() - after.len()].to_vec();
    if public_key.len() > MAX_KEY_BYTES {
        return Err(NotTaken::Malformed);
    }
    PublicKey::read(&key)?;
    let transports = answer.response.transports.iter();
    let transports = transports
        .filter(|name| name.len() <= MAX_TRANSPORT_CHARS && name.bytes().all(|b| b.is_ascii_graphic()));
    Ok(Credential {
        id: id.to_vec(),
        public_key,
        sign_count: head.sign_count,
        transports: transports.take(MAX_TRANSPORTS).cloned().collect(),
        is_backed_up: head.flags & BACKED_UP != 0,
    })
}

/// Checks an answer to a question, by the key of the credential that it names.
pub fn check(
    site: &Site,
    challenge: &[u8],
    answer: &Assertion,
    public_key: &[u8],
    counted: u32,
) -> Result<Checked, NotTaken> {
    let client_data = decode(&answer.response.client_data)?;
    check_client(site, challenge, "webauthn.get", &client_data)?;
    let data = decode(&answer.response.authenticator_data)?;
    let (head, _) = Authenticator::read(site, &data)?;
    let key: Cbor = ciborium::de::from_reader_with_recursion_limit(public_key, MAX_CBOR_DEPTH)
        .map_err(|_| NotTaken::Malformed)?;
    let signed = [data.as_slice(), Sha256::digest(&client_data).as_slice()].concat();
    PublicKey::read(&key)?.verify(&signed, &decode(&answer.response.signature)?)?;
    if (head.sign_count > 0 || counted > 0) && head.sign_count <= counted {
        return Err(NotTaken::Copied);
    }
    Ok(Checked {
        sign_count: head.sign_count,
        is_backed_up: head.flags & BACKED_UP != 0,
        user_verified: head.flags & USER_VERIFIED != 0,
    })
}

impl Assertion {
    /// Which credential it is of.
    pub fn credential_id(&self) -> Option<Vec<u8>> {
        decode(&self.id).ok().filter(|id| id.len() <= MAX_CREDENTIAL_ID_BYTES)
    }

    /// Whose it says it is, if it says so; text as it was given when the credential was made.
    pub fn user_handle(&self) -> Option<String> {
        String::from_utf8(decode(self.response.user_handle.as_deref()?).ok()?).ok()
    }
}

/// The beginning of what an authenticator says.
struct Authenticator {
    flags: u8,
    sign_count: u32,
}

impl Authenticator {
    fn read<'a>(site: &Site, data: &'a [u8]) -> Result<(Self, &'a [u8]), NotTaken> {
        let (site_hash, rest) = data.split_first_chunk::<RP_ID_HASH_BYTES>().ok_or(NotTaken::Malformed)?;
        let (flags, rest) = rest.split_first().ok_or(NotTaken::Malformed)?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(NotTaken::Malformed)?;
        if site_hash.as_slice() != Sha256::digest(site.id.as_bytes()).as_slice() {
            return Err(NotTaken::Other);
        }
        if flags & USER_PRESENT == 0 {
            return Err(NotTaken::NobodyThere);
        }
        if flags & BACKED_UP != 0 && flags & BACKUP_ELIGIBLE == 0 {
            return Err(NotTaken::Malformed);
        }
        Ok((Self { flags: *flags, sign_count: u32::from_be_bytes(*count) }, rest))
    }
}

/// What the browser says of the question.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    purpose: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
}

fn check_client(site: &Site, challenge: &[u8], purpose: &str, client_data: &[u8]) -> Result<(), NotTaken> {
    let said: ClientData = serde_json::from_slice(client_data).map_err(|_| NotTaken::Malformed)?;
    let right = said.purpose == purpose
        && said.origin == site.origin
        && !said.cross_origin
        && decode(&said.challenge)? == challenge;
    if right { Ok(()) } else { Err(NotTaken::Other) }
}

/// A key, as far as it is known here.
enum PublicKey {
    /// A point, uncompressed.
    P256([u8; 65]),
    Ed25519(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl PublicKey {
    /// Reads a COSE key (RFC 9053).
    fn read(key: &Cbor) -> Result<Self, NotTaken> {
        let number = |label: i64| field(key, &label.into()).and_then(Cbor::as_integer).map(i128::from);
        let bytes = |label: i64| field(key, &label.into()).and_then(Cbor::as_bytes);
        match (number(1), number(3)) {
            (Some(2), Some(alg)) if alg == i128::from(ES256) && number(-1) == Some(1) => {
                let coordinate = |label| bytes(label).filter(|bytes| bytes.len() == 32);
                let (x, y) = coordinate(-2).zip(coordinate(-3)).ok_or(NotTaken::Malformed)?;
                let mut point = [4; 65];
                point[1..33].copy_from_slice(x);
                point[33..].copy_from_slice(y);
                Ok(Self::P256(point))
            }
            (Some(1), Some(alg)) if alg == i128::from(EDDSA) && number(-1) == Some(6) => {
                Ok(Self::Ed25519(bytes(-2).ok_or(NotTaken::Malformed)?.clone()))
            }
            (Some(3), Some(alg)) if alg == i128::from(RS256) => {
                let (n, e) = bytes(-1).zip(bytes(-2)).ok_or(NotTaken::Malformed)?;
                Ok(Self::Rsa { n: n.clone(), e: e.clone() })
            }
            _ => Err(NotTaken::Algorithm),
        }
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), NotTaken> {
        let outcome = match self {
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(signed, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature),
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
        };
        outcome.map_err(|_| NotTaken::Signature)
    }
}

/// What a map has under a key.
fn field<'a>(map: &'a Cbor, key: &Cbor) -> Option<&'a Cbor> {
    map.as_map()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// Base64 for addresses; some browsers' helpers pad it.
fn decode(text: &str) -> Result<Vec<u8>, NotTaken> {
    if text.len() > MAX_PART_CHARS {
        return Err(NotTaken::Malformed);
    }
    BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| NotTaken::Malformed)
}
