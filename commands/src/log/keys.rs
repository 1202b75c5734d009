//! Keys: one master key, and a data key for each person, wrapped by it.
//!
//! Destroying a person's key erases everything that was sealed with it; a destroyed key is never made
//! again. What belongs to nobody is sealed with the server's own key, that of the nil uuid.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aes_gcm::aead::{Aead, Nonce, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use domain::UserId;
use domain::log::LogError;
use hmac::{Hmac, Mac};
use lru::LruCache;
use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use sha2::Sha256;
use sqlx::PgPool;
use uuid::Uuid;

/// Length of every key, in bytes.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// The first byte of everything sealed: how the rest is to be read.
const SEAL_FORMAT: u8 = 1;
/// The most keys held ready in memory; about 1 KiB each.
const MAX_CACHED_KEYS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Length of a keyed hash, in hexadecimal digits.
const HASH_CHARS: usize = 32;
/// The most that is read of a master key file, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 1024;
/// What the wrapped secret of the keyed hashes is bound to.
const SECRET_NAME: &[u8] = b"kiroku: secret of the keyed hashes";

/// Why a key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the master key file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the master key file {} can be read by others (mode {mode:03o}): make it 600, and think about who has read it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the master key file {} is gone: put it back, nothing can be read without it; processes of one server share it as `master_key`", path.display())]
    Missing { path: PathBuf },
    #[error("{place} is not a master key: it must be 64 hexadecimal digits, or 32 bytes in base64")]
    Malformed { place: String },
    #[error(
        "this is not the master key that this database was started with: put that key back, nothing can be read without it"
    )]
    WrongMaster,
    #[error("the database has keys, but the secret of the keyed hashes is gone: restore table ops.keyring")]
    SecretMissing,
    #[error("the stored key of {0} can't be unwrapped")]
    Damaged(Uuid),
    #[error("the server's own key can't be destroyed")]
    ServersOwn,
    #[error("what is to be sealed is too long")]
    TooLong,
    #[error("the generator of the operating system failed: {0}")]
    Random(#[from] SysError),
    #[error(transparent)]
    Store(#[from] sqlx::Error),
}

impl From<KeysError> for LogError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(source) => LogError::Unavailable(source.to_string()),
            other => LogError::Keys(other.to_string()),
        }
    }
}

/// The key that wraps all others.
#[derive(Clone)]
pub struct MasterKey([u8; KEY_BYTES]);

impl MasterKey {
    /// The key that the operator gave.
    pub fn given(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key in the file (64 hexadecimal digits or base64), which is made on the first start: readable
    /// by its owner alone, whole or not there.
    pub fn load_or_create(path: &Path) -> Result<Self, KeysError> {
        let failed = |source| KeysError::File { path: path.to_owned(), source };
        if !path.try_exists().map_err(failed)? {
            match create(path, &Self(random()?)) {
                // Of two starts at once one key wins.
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
                _ => (),
            }
        }
        Self::load(path)
    }

    /// The key in the file, for a database that has been started with it.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeysError::Missing { path: path.to_owned() },
            _ => KeysError::File { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o177 != 0 {
            return Err(KeysError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        match file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text) {
            Err(e) if e.kind() != io::ErrorKind::InvalidData => Err(failed(e)),
            _ => Self::parse(&text).ok_or_else(|| malformed(&path.display().to_string())),
        }
    }

    /// Writes the key to a file that is not there yet, for its owner alone.
    pub fn save(&self, path: &Path) -> Result<(), KeysError> {
        create(path, self).map_err(|source| KeysError::File { path: path.to_owned(), source })
    }

    /// A key for another purpose, the same for ever.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        mac(&self.0, "derived key", purpose)
    }

    /// Whether this is the key of a database with this row in `ops.keyring`.
    pub fn opens(&self, keyring_secret: &[u8]) -> bool {
        Cipher::new(&self.0).open(keyring_secret, SECRET_NAME).is_some()
    }

    /// Reads 64 hexadecimal digits, or 32 bytes in base64 with or without its padding.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = if text.len() == 2 * KEY_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let pairs = text.as_bytes().chunks(2);
            pairs
                .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
                .collect::<Option<_>>()?
        } else {
            BASE64_STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?
        };
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// All keys of one log, and where they are kept.
pub struct Keyring {
    master: Cipher,
    secret: [u8; KEY_BYTES],
    store: Store,
    cache: Mutex<LruCache<Uuid, DataKey>>,
}

enum Store {
    Memory(Mutex<HashMap<Uuid, Option<Vec<u8>>>>),
    Postgres(PgPool),
}

/// A person and the wrapped key; none when it has been destroyed.
type WrappedKey = (Uuid, Option<Vec<u8>>);

/// A person's data key, as far as it is left.
#[derive(Clone)]
pub(super) enum DataKey {
    Live(Arc<Cipher>),
    Destroyed,
}

impl Keyring {
    /// For tests: always the same master key and keyed hashes, kept in memory.
    pub fn memory() -> Self {
        Self::new(Cipher::new(&[1; KEY_BYTES]), [2; KEY_BYTES], Store::Memory(Mutex::default()))
    }

    /// Whether no master key has been used with this database yet.
    pub async fn is_new(pool: &PgPool) -> Result<bool, KeysError> {
        let used = sqlx::query_scalar(
            "select exists (select 1 from ops.keyring) or exists (select 1 from ops.keys)",
        );
        let used: bool = used.fetch_one(pool).await?;
        Ok(!used)
    }

    /// The keys in `ops.keys`; refused when the master key is another than that of the first start.
    pub async fn open(pool: PgPool, master: &MasterKey) -> Result<Self, KeysError> {
        let master = Cipher::new(&master.0);
        let secret = master.seal(&random::<KEY_BYTES>()?, SECRET_NAME)?;
        sqlx::query(
            "insert into ops.keyring (secret)
             select $1 where not exists (select 1 from ops.keys)
             on conflict do nothing",
        )
        .bind(secret)
        .execute(&pool)
        .await?;
        let stored: Option<Vec<u8>> =
            sqlx::query_scalar("select secret from ops.keyring").fetch_optional(&pool).await?;
        let secret = stored.ok_or(KeysError::SecretMissing)?;
        let secret = master.open(&secret, SECRET_NAME).and_then(|s| s.try_into().ok());
        Ok(Self::new(master, secret.ok_or(KeysError::WrongMaster)?, Store::Postgres(pool)))
    }

    fn new(master: Cipher, secret: [u8; KEY_BYTES], store: Store) -> Self {
        Self { master, secret, store, cache: Mutex::new(LruCache::new(MAX_CACHED_KEYS)) }
    }

    /// A keyed hash that is stable for ever, in 32 lower-case hexadecimal digits; for names of streams
    /// such as `username-{hash}`. The same text in another domain has another hash.
    pub fn hash(&self, domain: &str, text: &str) -> String {
        let hash = mac(&self.secret, domain, text);
        hash.iter().take(HASH_CHARS / 2).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A key for another purpose, the same for ever.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        mac(&self.secret, "derived key", purpose)
    }

    /// A key for another purpose, ready to seal what is no event.
    pub fn cipher(&self, purpose: &str) -> Cipher {
        Cipher::new(&self.derive(purpose))
    }

    /// Destroys a person's key, durably and for good: nothing sealed with it can be read again, and
    /// nothing more can be sealed for this person. Costs nothing when this process knows of it already.
    pub async fn destroy(&self, person: UserId) -> Result<(), KeysError> {
        if person.0.is_nil() {
            return Err(KeysError::ServersOwn);
        }
        if matches!(held(&self.cache).peek(&person.0), Some(DataKey::Destroyed)) {
            return Ok(());
        }
        match &self.store {
            Store::Memory(keys) => {
                held(keys).insert(person.0, None);
            }
            Store::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                sqlx::query("set local synchronous_commit = on").execute(&mut *tx).await?;
                sqlx::query(
                    "insert into ops.keys as k (person, wrapped, destroyed_at) values ($1, null, now())
                     on conflict (person) do update
                     set wrapped = null, destroyed_at = coalesce(k.destroyed_at, now())",
                )
                .bind(person.0)
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
            }
        }
        held(&self.cache).put(person.0, DataKey::Destroyed);
        Ok(())
    }

    /// Everybody whose key has been destroyed.
    pub async fn destroyed(&self) -> Result<HashSet<UserId>, KeysError> {
        match &self.store {
            Store::Memory(keys) => {
                let keys = held(keys);
                Ok(keys.iter().filter(|(_, wrapped)| wrapped.is_none()).map(|(p, _)| UserId(*p)).collect())
            }
            Store::Postgres(pool) => {
                let people: Vec<Uuid> =
                    sqlx::query_scalar("select person from ops.keys where wrapped is null")
                        .fetch_all(pool)
                        .await?;
                Ok(people.into_iter().map(UserId).collect())
            }
        }
    }

    /// The keys with which to seal for these persons; made when there are none yet, all in one
    /// statement.
    pub(super) async fn for_sealing(&self, persons: &[Uuid]) -> Result<HashMap<Uuid, DataKey>, KeysError> {
        let (mut keys, missing) = self.cached(persons);
        if missing.is_empty() {
            return Ok(keys);
        }
        let fresh = missing.iter().map(|person| self.master.seal(&random::<KEY_BYTES>()?, person.as_bytes()));
        let fresh = fresh.collect::<Result<Vec<_>, KeysError>>()?;
        let rows = match &self.store {
            Store::Memory(stored) => {
                let mut stored = held(stored);
                let made = missing.iter().zip(fresh);
                made.map(|(p, wrapped)| (*p, stored.entry(*p).or_insert(Some(wrapped)).clone())).collect()
            }
            Store::Postgres(pool) => {
                // In one order everywhere, so that two batches don't wait for each other.
                sqlx::query_as(
                    "with made as (
                         insert into ops.keys (person, wrapped)
                         select g.person, g.wrapped from unnest($1::uuid[], $2::bytea[]) as g(person, wrapped)
                         where not exists (select 1 from ops.keys k where k.person = g.person)
                         order by g.person
                         on conflict (person) do nothing
                         returning person, wrapped
                     )
                     select person, wrapped from made
                     union all
                     select person, wrapped from ops.keys where person = any($1)",
                )
                .bind(&missing)
                .bind(fresh)
                .fetch_all(pool)
                .await?
            }
        };
        keys.extend(self.unwrap(rows)?);
        // One that another process made meanwhile can't be seen by that statement.
        let unseen: Vec<Uuid> = missing.into_iter().filter(|person| !keys.contains_key(person)).collect();
        if !unseen.is_empty() {
            keys.extend(self.stored(&unseen).await?);
        }
        Ok(keys)
    }

    /// Somebody's key, to seal and open what is no event; none when there is none, or none any more.
    pub async fn of(&self, person: UserId) -> Result<Option<Arc<Cipher>>, KeysError> {
        Ok(match self.for_opening(&[person.0]).await?.remove(&person.0) {
            Some(DataKey::Live(cipher)) => Some(cipher),
            Some(DataKey::Destroyed) | None => None,
        })
    }

    /// The keys that exist, or have existed, of these persons.
    pub(super) async fn for_opening(&self, persons: &[Uuid]) -> Result<HashMap<Uuid, DataKey>, KeysError> {
        let (mut keys, missing) = self.cached(persons);
        if !missing.is_empty() {
            keys.extend(self.stored(&missing).await?);
        }
        Ok(keys)
    }

    /// What is held ready, and of whom nothing is.
    fn cached(&self, persons: &[Uuid]) -> (HashMap<Uuid, DataKey>, Vec<Uuid>) {
        let mut cache = held(&self.cache);
        let mut keys = HashMap::new();
        let mut missing = Vec::new();
        for person in persons {
            match cache.get(person) {
                Some(key) => {
                    keys.insert(*person, key.clone());
                }
                None => missing.push(*person),
            }
        }
        (keys, missing)
    }

    async fn stored(&self, persons: &[Uuid]) -> Result<HashMap<Uuid, DataKey>, KeysError> {
        let rows = match &self.store {
            Store::Memory(stored) => {
                let stored = held(stored);
                persons.iter().filter_map(|p| stored.get(p).map(|wrapped| (*p, wrapped.clone()))).collect()
            }
            Store::Postgres(pool) => {
                sqlx::query_as("select person, wrapped from ops.keys where person = any($1)")
                    .bind(persons)
                    .fetch_all(pool)
                    .await?
            }
        };
        self.unwrap(rows)
    }

    fn unwrap(&self, rows: Vec<WrappedKey>) -> Result<HashMap<Uuid, DataKey>, KeysError> {
        let unwrapped = rows.into_iter().map(|(person, wrapped)| {
            let Some(wrapped) = wrapped else { return Ok((person, DataKey::Destroyed)) };
            let key = self.master.open(&wrapped, person.as_bytes()).and_then(|key| key.try_into().ok());
            Ok((person, DataKey::Live(Arc::new(Cipher::new(&key.ok_or(KeysError::Damaged(person))?)))))
        });
        let keys = unwrapped.collect::<Result<HashMap<_, _>, KeysError>>()?;
        let mut cache = held(&self.cache);
        for (person, key) in &keys {
            // A key that was destroyed while it was being read stays destroyed.
            if !matches!(cache.peek(person), Some(DataKey::Destroyed)) {
                cache.put(*person, key.clone());
            }
        }
        Ok(keys)
    }
}

/// One AES-256-GCM key, ready for use.
pub struct Cipher(Aes256Gcm);

impl Cipher {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Format, nonce, then what is sealed; opens only with the same `bound_to`.
    pub fn seal(&self, plain: &[u8], bound_to: &[u8]) -> Result<Vec<u8>, KeysError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload { msg: plain, aad: bound_to };
        let sealed =
            self.0.encrypt(&Nonce::<Aes256Gcm>::from(nonce), payload).map_err(|_| KeysError::TooLong)?;
        Ok([&[SEAL_FORMAT], &nonce[..], &sealed].concat())
    }

    /// None for what was sealed with another key, is bound to something else, or was changed.
    pub fn open(&self, sealed: &[u8], bound_to: &[u8]) -> Option<Vec<u8>> {
        let (format, rest) = sealed.split_first()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        if *format != SEAL_FORMAT {
            return None;
        }
        self.0.decrypt(&Nonce::<Aes256Gcm>::from(*nonce), Payload { msg: rest, aad: bound_to }).ok()
    }
}

fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}

fn malformed(place: &str) -> KeysError {
    KeysError::Malformed { place: place.to_owned() }
}

fn mac(key: &[u8; KEY_BYTES], domain: &str, text: &str) -> [u8; KEY_BYTES] {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; KEY_BYTES] };
    mac.update(&(domain.len() as u64).to_be_bytes());
    mac.update(domain.as_bytes());
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Writes the key beside its place and links it there: what is cut off leaves no half file, and a file that
/// is there stays, whenever it came.
fn create(path: &Path, key: &MasterKey) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    if beside.try_exists()? {
        fs::remove_file(&beside)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(hex.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    linked?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// A lock whose holder never panics half-way.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_master_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::load_or_create(&path).unwrap().0, made.0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = MasterKey::load_or_create(&dir.path().join("other.key")).unwrap();
        assert_ne!(other.0, made.0);
    }

    #[test]
    fn a_master_key_that_is_gone_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        assert!(matches!(MasterKey::load(&path), Err(KeysError::Missing { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn a_master_key_is_saved_beside_nothing_and_by_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy.key");
        let key = MasterKey::given([3; 32]);
        key.save(&path).unwrap();
        assert_eq!(MasterKey::load(&path).unwrap().0, key.0);
        // As when the file appears after a look: the link is what decides.
        let refused = MasterKey::given([4; 32]).save(&path);
        assert!(
            matches!(&refused, Err(KeysError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists),
            "{refused:?}"
        );
        assert_eq!(MasterKey::load(&path).unwrap().0, key.0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_key() {
        let key = MasterKey::given([3; 32]);
        assert_eq!(key.derive("a"), MasterKey::given([3; 32]).derive("a"));
        for other in [key.derive("b"), MasterKey::given([4; 32]).derive("a"), key.0] {
            assert_ne!(other, key.derive("a"));
        }
    }

    #[test]
    fn a_master_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o700] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = MasterKey::load_or_create(&path);
            assert!(matches!(refused, Err(KeysError::Exposed { mode: m, .. }) if m == mode));
        }
    }

    #[test]
    fn a_master_key_is_written_in_hex_or_base64_and_else_refused() {
        let read = |text: &str| MasterKey::parse(text).map(|key| key.0);
        assert_eq!(read(&"0A".repeat(32)), Some([10; 32]));
        assert_eq!(read("CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo=\n"), Some([10; 32]));
        assert_eq!(read("CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo"), Some([10; 32]));
        for text in ["", "0a", &"0g".repeat(32), &"+a".repeat(32), &"0a".repeat(31), "CgoK", &"é".repeat(32)]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_master_key_file_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        for content in [&b""[..], b"hello\n", &[0xff; 32]] {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
            file.write_all(content).unwrap();
            assert!(matches!(MasterKey::load_or_create(&path), Err(KeysError::Malformed { .. })));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn keyed_hashes_are_stable_and_differ_by_domain_text_and_secret() {
        let keyring = Keyring::memory();
        let hash = keyring.hash("username", "alice");
        assert_eq!(hash, "d47bd23e3f41b18ff8059d9f1b7a67db");
        assert_ne!(keyring.hash("username", "bob"), hash);
        assert_ne!(keyring.hash("usernamea", "lice"), hash);
        let other = Keyring::new(Cipher::new(&[1; 32]), [3; 32], Store::Memory(Mutex::default()));
        assert_ne!(other.hash("username", "alice"), hash);
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_binding_only() {
        let cipher = Cipher::new(&[5; 32]);
        let sealed = cipher.seal(b"plain", b"here").unwrap();
        assert_eq!(cipher.open(&sealed, b"here").as_deref(), Some(&b"plain"[..]));
        assert_eq!(cipher.open(&sealed, b"there"), None);
        assert_eq!(Cipher::new(&[6; 32]).open(&sealed, b"here"), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(cipher.open(&changed, b"here"), None);
            assert_eq!(cipher.open(&sealed[..at], b"here"), None);
        }
        assert_ne!(cipher.seal(b"plain", b"here").unwrap(), sealed);
    }
}
