//! Rows as every engine stores them: the envelope in clear, the payload sealed.
//!
//! A payload is sealed with the key of its subject and bound to its envelope, so that it opens in its
//! own row only.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use domain::event::UnreadableEvent;
use domain::log::{AppendError, By, LogError, Position, Recorded, StreamId, Version};
use domain::user::Erased;
use domain::{CommandId, Event, UserId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::keys::{Cipher, DataKey, Keyring};

/// Length of the digest of an append.
pub(super) const DIGEST_BYTES: usize = 32;
/// Digits of a second that are stored: microseconds.
const STORED_SUBSECOND_DIGITS: u16 = 6;
/// The kind by which a person is no more.
const ERASED: &str = "user.erased";

/// One event as engines keep it: a clear envelope and a sealed payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// 0 until an engine has given one out.
    pub position: u64,
    /// The place inside the append, from 0.
    pub ordinal: u32,
    pub stream: String,
    /// The version of the stream after this event, from 1.
    pub version: u64,
    pub event_id: Uuid,
    pub kind: String,
    pub schema: u16,
    /// In microseconds; no engine keeps more.
    pub at: DateTime<Utc>,
    /// With whose key the payload is sealed; none for the server's own.
    pub subject: Option<Uuid>,
    pub actor: Option<Uuid>,
    pub command: Uuid,
    pub payload: Vec<u8>,
}

pub(super) struct Codec {
    keyring: Arc<Keyring>,
}

impl Codec {
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring }
    }

    /// The rows of one append, as they will stand when the stream is at `expected`.
    pub async fn seal(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: &[Event],
    ) -> Result<Vec<Sealed>, AppendError> {
        let keys = self
            .keyring
            .for_sealing(&owners(events.iter().map(|e| e.subject().map(|s| s.0))))
            .await
            .map_err(LogError::from)?;
        let rows = events.iter().zip(0u32..).map(|(event, ordinal)| {
            let (kind, schema) = event.kind();
            let json = event.to_json().map_err(|e| unreadable(kind, schema, json_fault(&e)))?;
            let mut row = Sealed {
                position: 0,
                ordinal,
                stream: stream.as_str().to_owned(),
                version: expected.0.saturating_add(u64::from(ordinal) + 1),
                event_id: by.command.event(ordinal).0,
                kind: kind.to_owned(),
                schema,
                at: by.now.trunc_subsecs(STORED_SUBSECOND_DIGITS),
                subject: event.subject().map(|s| s.0),
                actor: by.user.map(|u| u.0),
                command: by.command.0,
                payload: Vec::new(),
            };
            row.payload = match keys.get(&row.owner()) {
                Some(DataKey::Live(cipher)) => cipher.seal(&json, &row.envelope()).map_err(LogError::from)?,
                _ => return Err(AppendError::Erased { person: UserId(row.owner()) }),
            };
            Ok(row)
        });
        rows.collect()
    }

    /// Reads rows back. Nothing is read of a person whose erasure is among them: their key goes first, unless
    /// it has gone, so that nobody sees anything of them after it. One whose subject's key has been destroyed
    /// has no event; one that can't be read for any other reason is an error.
    pub async fn open(&self, rows: Vec<Sealed>) -> Result<Vec<Recorded>, LogError> {
        for row in rows.iter().filter(|row| row.kind == ERASED) {
            self.finish_erasure(row).await?;
        }
        let keys = self.keyring.for_opening(&owners(rows.iter().map(|row| row.subject))).await?;
        rows.into_iter().map(|row| recorded(row, &keys)).collect()
    }

    async fn finish_erasure(&self, row: &Sealed) -> Result<(), LogError> {
        let keys = self.keyring.for_opening(&[row.owner()]).await?;
        let Some(Event::UserErased(Erased { user })) = recorded(row.clone(), &keys)?.event else {
            return Ok(());
        };
        let left = self.keyring.for_opening(&[user.0]).await?;
        if !matches!(left.get(&user.0), Some(DataKey::Destroyed)) {
            self.keyring.destroy(user).await?;
        }
        Ok(())
    }
}

impl Sealed {
    /// The person with whose key the payload is sealed; the server itself is nil.
    fn owner(&self) -> Uuid {
        self.subject.unwrap_or(Uuid::nil())
    }

    /// What the payload is bound to. The kind is the only part of unknown length but the last.
    fn envelope(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.kind.len() + self.stream.len());
        bytes.extend_from_slice(b"kiroku: event");
        bytes.extend_from_slice(self.event_id.as_bytes());
        bytes.extend_from_slice(self.owner().as_bytes());
        bytes.extend_from_slice(&self.schema.to_be_bytes());
        bytes.extend_from_slice(&(self.kind.len() as u64).to_be_bytes());
        bytes.extend_from_slice(self.kind.as_bytes());
        bytes.extend_from_slice(self.stream.as_bytes());
        bytes
    }

    fn event(&self, cipher: &Cipher) -> Result<Event, LogError> {
        let json = cipher
            .open(&self.payload, &self.envelope())
            .ok_or_else(|| unreadable(&self.kind, self.schema, "the payload was changed or moved"))?;
        Event::from_json(&self.kind, self.schema, &json).map_err(|e| match e {
            UnreadableEvent::Json(e) => unreadable(&self.kind, self.schema, json_fault(&e)),
            other => unreadable(&self.kind, self.schema, other),
        })
    }
}

/// The event of a row; none when its key has been destroyed.
pub(super) fn opened(row: &Sealed, keys: &HashMap<Uuid, DataKey>) -> Result<Option<Event>, LogError> {
    match keys.get(&row.owner()) {
        Some(DataKey::Live(cipher)) => row.event(cipher).map(Some),
        Some(DataKey::Destroyed) => Ok(None),
        None => Err(unreadable(&row.kind, row.schema, "the key of its subject is missing")),
    }
}

fn recorded(row: Sealed, keys: &HashMap<Uuid, DataKey>) -> Result<Recorded, LogError> {
    let event = opened(&row, keys)?;
    Ok(Recorded {
        position: Position(row.position),
        ordinal: row.ordinal,
        id: domain::EventId(row.event_id),
        stream: StreamId::stored(row.stream),
        version: Version(row.version),
        kind: row.kind,
        at: row.at,
        subject: row.subject.map(UserId),
        actor: row.actor.map(UserId),
        command: CommandId(row.command),
        event,
    })
}

/// Of everything in the rows of one append but the position, which each engine gives anew.
pub(super) fn digest(append: &[Sealed]) -> [u8; DIGEST_BYTES] {
    let mut sha = Sha256::new();
    for row in append {
        sha.update(row.ordinal.to_be_bytes());
        sized(&mut sha, row.stream.as_bytes());
        sha.update(row.version.to_be_bytes());
        sha.update(row.event_id);
        sized(&mut sha, row.kind.as_bytes());
        sha.update(row.schema.to_be_bytes());
        sha.update(row.at.timestamp_micros().to_be_bytes());
        for person in [row.subject, row.actor] {
            sized(&mut sha, person.as_ref().map_or(&[], |person| person.as_bytes().as_slice()));
        }
        sha.update(row.command);
        sized(&mut sha, &row.payload);
    }
    sha.finalize().into()
}

/// The hash of a link of the chain: of the hash before, then position and digest of each append.
pub(super) fn link(before: &[u8], appends: &[(u64, [u8; DIGEST_BYTES])]) -> [u8; DIGEST_BYTES] {
    let mut sha = Sha256::new();
    sha.update(before);
    for (position, digest) in appends {
        sha.update(position.to_be_bytes());
        sha.update(digest);
    }
    sha.finalize().into()
}

/// What has no length of its own, so that two rows never read the same.
fn sized(sha: &mut Sha256, bytes: &[u8]) {
    sha.update((bytes.len() as u64).to_be_bytes());
    sha.update(bytes);
}

/// Each owner once.
pub(super) fn owners(subjects: impl Iterator<Item = Option<Uuid>>) -> Vec<Uuid> {
    let mut owners: Vec<Uuid> = subjects.map(Option::unwrap_or_default).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

fn unreadable(kind: &str, schema: u16, reason: impl ToString) -> LogError {
    LogError::Unreadable { kind: kind.to_owned(), schema, reason: reason.to_string() }
}

/// What is wrong with JSON, without the words in it: they may be somebody's.
fn json_fault(error: &serde_json::Error) -> String {
    format!("{:?} error at column {}", error.classify(), error.column())
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use domain::{instance, user};

    use super::*;
    use crate::log::KeysError;

    const WORDS: &str = "alice-the-first";

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(0x0193_5c2d_1000_7abc_8def_0000_0000_0000 + (n << 40))
    }

    fn created(n: u128) -> Event {
        user::Created { user: UserId(id(n)), username: WORDS.to_owned(), host: None, uri: None }.into()
    }

    fn by() -> By {
        let now = Utc.timestamp_opt(1_700_000_000, 123_456_789).unwrap();
        By { user: Some(UserId(id(1))), now, command: CommandId(id(9)) }
    }

    async fn sealed(codec: &Codec, events: &[Event]) -> Vec<Sealed> {
        codec.seal(&StreamId::new("user", "a"), Version(4), &by(), events).await.unwrap()
    }

    fn codec() -> (Arc<Keyring>, Codec) {
        let keyring = Arc::new(Keyring::memory());
        (keyring.clone(), Codec::new(keyring))
    }

    fn is_unreadable(result: Result<Vec<Recorded>, LogError>) -> bool {
        matches!(result, Err(LogError::Unreadable { .. }))
    }

    #[tokio::test]
    async fn what_was_sealed_reads_back_with_its_envelope() {
        let (_, codec) = codec();
        let rows = sealed(&codec, &[created(1), created(2)]).await;
        assert!(!rows.iter().any(|row| row.payload.windows(WORDS.len()).any(|w| w == WORDS.as_bytes())));
        let read = codec.open(rows).await.unwrap();
        assert_eq!(
            read.iter().map(|r| r.event.clone().unwrap()).collect::<Vec<_>>(),
            [created(1), created(2)]
        );
        let second = &read[1];
        assert_eq!((second.ordinal, second.version, second.kind.as_str()), (1, Version(6), "user.created"));
        assert_eq!(second.id, by().command.event(1));
        assert_eq!(second.at, Utc.timestamp_opt(1_700_000_000, 123_456_000).unwrap());
        assert_eq!((second.subject, second.actor), (Some(UserId(id(2))), by().user));
        assert_eq!(second.command, by().command);
    }

    #[tokio::test]
    async fn a_payload_opens_in_its_own_envelope_only() {
        let (_, codec) = codec();
        let row = sealed(&codec, &[created(1)]).await.remove(0);
        let changes: [fn(&mut Sealed); 6] = [
            |row| row.event_id = id(77),
            |row| row.stream = "user-b".to_owned(),
            |row| row.kind = "user.changed".to_owned(),
            |row| row.schema = 0,
            |row| row.payload[20] ^= 1,
            |row| row.payload.clear(),
        ];
        for change in changes {
            let mut moved = row.clone();
            change(&mut moved);
            assert!(is_unreadable(codec.open(vec![moved]).await));
        }
        // Somebody else's row, who has a key too.
        sealed(&codec, &[created(2)]).await;
        assert!(is_unreadable(codec.open(vec![Sealed { subject: Some(id(2)), ..row.clone() }]).await));
        assert!(is_unreadable(codec.open(vec![Sealed { subject: Some(id(3)), ..row.clone() }]).await));
        assert!(codec.open(vec![row]).await.is_ok());
    }

    #[tokio::test]
    async fn kinds_and_payloads_that_nobody_knows_are_errors() {
        let (keyring, codec) = codec();
        let mut row = sealed(&codec, &[created(1)]).await.remove(0);
        let keys = keyring.for_opening(&[row.owner()]).await.unwrap();
        let Some(DataKey::Live(cipher)) = keys.get(&row.owner()) else { panic!("no key") };
        row.payload = cipher.seal(b"{\"username\":\"alice-the-first\"}", &row.envelope()).unwrap();
        let Err(LogError::Unreadable { kind, reason, .. }) = codec.open(vec![row.clone()]).await else {
            panic!("read a payload without a user");
        };
        assert_eq!(kind, "user.created");
        assert!(!reason.contains(WORDS), "{reason}");
        row.kind = "user.unheard_of".to_owned();
        row.payload = cipher.seal(b"{}", &row.envelope()).unwrap();
        assert!(is_unreadable(codec.open(vec![row]).await));
    }

    #[tokio::test]
    async fn a_destroyed_key_takes_its_own_events_and_no_others() {
        let (keyring, codec) = codec();
        let claimed: Event = instance::Claimed { url: "https://kiroku.example".to_owned() }.into();
        let rows = sealed(&codec, &[created(1), created(2), claimed.clone()]).await;
        keyring.destroy(UserId(id(1))).await.unwrap();
        let read = codec.open(rows).await.unwrap();
        assert_eq!(read[0].event, None);
        assert_eq!((read[0].kind.as_str(), read[0].subject), ("user.created", Some(UserId(id(1)))));
        assert_eq!(read[1].event, Some(created(2)));
        assert_eq!(read[2].event, Some(claimed));
        let more = codec.seal(&StreamId::new("user", "a"), Version(0), &by(), &[created(1)]).await;
        assert!(matches!(more, Err(AppendError::Erased { .. })));
        assert!(matches!(keyring.destroy(UserId(Uuid::nil())).await, Err(KeysError::ServersOwn)));
    }

    #[tokio::test]
    async fn who_reads_of_an_erasure_finishes_it() {
        let (keyring, codec) = codec();
        let erased: Event = user::Erased { user: UserId(id(1)) }.into();
        let rows = sealed(&codec, &[created(1), created(2), erased.clone(), created(1)]).await;
        let read = codec.open(rows).await.unwrap();
        let events: Vec<Option<Event>> = read.into_iter().map(|recorded| recorded.event).collect();
        assert_eq!(events, [None, Some(created(2)), Some(erased), None]);
        let key = keyring.for_opening(&[id(1)]).await.unwrap().remove(&id(1));
        assert!(matches!(key, Some(DataKey::Destroyed)));
    }
}
