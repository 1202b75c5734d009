//! Typed ids. Inside they are UUIDv7 (16 bytes); printed and parsed they are the same 128 bits in
//! Crockford base32: 26 characters, a valid ULID that sorts as text in the order of time.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Length of a printed id, in characters.
pub const ID_CHARS: usize = 26;
/// The longest text that is taken for an id, in characters.
pub const MAX_ID_INPUT_CHARS: usize = 64;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The text is not an id: empty, too long, or not made of ASCII letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct NotAnId;

/// Prints 128 bits as 26 characters of Crockford base32.
pub fn to_ulid(id: Uuid) -> String {
    let mut bits = id.as_u128();
    let mut out = [b'0'; ID_CHARS];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads an id. Misskey accepts any `^[a-zA-Z0-9]+$` as an id, so an id of another method is not an
/// error: it is read as the place where it would sort, and names nothing.
pub fn from_wire(text: &str) -> Result<Uuid, NotAnId> {
    if text.is_empty() || text.len() > MAX_ID_INPUT_CHARS || !text.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return Err(NotAnId);
    }
    let mut bits: u128 = 0;
    for i in 0..ID_CHARS {
        let digit = text.as_bytes().get(i).map_or(0, |b| crockford(*b));
        if i == 0 && digit > 7 {
            return Ok(Uuid::max());
        }
        bits = (bits << 5) | u128::from(digit);
    }
    Ok(Uuid::from_u128(bits))
}

fn crockford(byte: u8) -> u8 {
    let upper = match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        b'U' => b'V',
        other => other,
    };
    ALPHABET.iter().position(|a| *a == upper).unwrap_or(0) as u8
}

/// The instant in a UUIDv7, to the millisecond.
pub fn time_of(id: Uuid) -> DateTime<Utc> {
    let millis = (id.as_u128() >> 80) as i64;
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The smallest id of an instant: a bound for paging by date.
pub fn first_of(at: DateTime<Utc>) -> Uuid {
    let millis = at.timestamp_millis().clamp(0, (1 << 48) - 1) as u128;
    Uuid::from_u128(millis << 80)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// When the thing was made, to the millisecond.
            pub fn time(self) -> DateTime<Utc> {
                time_of(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_ulid(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), to_ulid(self.0))
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                from_wire(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A person, local or remote.
    UserId,
    /// A note.
    NoteId,
    /// One reaction of one person to one note; what `notes/reactions` pages by.
    ReactionId,
    /// One person's following of another; what `users/followers` pages by.
    FollowId,
    /// One request to follow a locked account.
    FollowRequestId,
    /// One person's block of another; what `blocking/list` pages by.
    BlockId,
    /// One person's mute of another; what `mute/list` pages by.
    MuteId,
    /// One person's mute of another's renotes; what `renote-mute/list` pages by.
    RenoteMuteId,
    /// One vote for one choice of a poll.
    VoteId,
    /// A list of people.
    ListId,
    /// One person's place in a list; what `users/lists/get-memberships` pages by.
    MembershipId,
    /// A report of abuse.
    ReportId,
    /// An announcement.
    AnnouncementId,
    /// An invitation.
    InvitationId,
    /// A custom emoji.
    EmojiId,
    /// A decoration of avatars.
    DecorationId,
    /// An advertisement.
    AdId,
    /// A role.
    RoleId,
    /// One person's assignment to a role; what `roles/users` pages by.
    RoleAssignmentId,
    /// A channel.
    ChannelId,
    /// An antenna.
    AntennaId,
    /// One notification.
    NotificationId,
    /// A file of somebody's drive.
    FileId,
    /// A folder of somebody's drive.
    FolderId,
    /// One event.
    EventId,
    /// One command: the idempotency key of an append.
    CommandId,
    /// One note that somebody keeps for themselves; what `i/favorites` pages by.
    FavoriteId,
    /// A collection of notes.
    ClipId,
    /// One collection that somebody keeps for themselves.
    ClipFavoriteId,
    /// One note that somebody pinned to their profile.
    PinId,
    /// One value that an app keeps for a person.
    RegistryItemId,
    /// A note that is not written yet.
    DraftId,
    /// A post of a gallery, a page or a play.
    WorkId,
    /// One person's liking of a work; what `i/page-likes` pages by.
    WorkLikeId,
}

/// Low bits of a fresh id that are zero, so that ids can be derived from it: 3 for [`CommandId::step`],
/// 9 for [`CommandId::event`] and 16 for [`EventId::notification`].
pub const DERIVED_BITS: u32 = 28;

impl CommandId {
    const STEP: u128 = 1 << 25;
    const EVENT: u128 = 1 << 16;

    /// The idempotency key of the `n`th further append of this command, from 1 to 7.
    pub fn step(self, n: u8) -> Self {
        Self(derived(self.0, u128::from(n) * Self::STEP))
    }

    /// The id of the event at `ordinal` in the append of this command.
    pub fn event(self, ordinal: u32) -> EventId {
        EventId(derived(self.0, (u128::from(ordinal) + 1) * Self::EVENT))
    }
}

impl EventId {
    /// The id of the `n`th notification that an event causes: the same in every replay, and in the
    /// order of time.
    pub fn notification(self, n: u16) -> NotificationId {
        NotificationId(derived(self.0, u128::from(n)))
    }
}

/// An id beside a fresh one; `offset` is less than 2 to the power of [`DERIVED_BITS`].
pub fn derived(id: Uuid, offset: u128) -> Uuid {
    Uuid::from_u128(id.as_u128().wrapping_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_printed_as_a_ulid_and_read_back() {
        let id = NoteId(Uuid::from_u128(0x0193_5c2d_1000_7abc_8def_0123_4567_89ab));
        assert_eq!(id.to_string().len(), ID_CHARS);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
    }

    #[test]
    fn ids_of_other_methods_sort_but_name_nothing() {
        assert_eq!("0000000000000000".parse(), Ok(NoteId(Uuid::nil())));
        assert_eq!("zzzzzzzzzzzzzzzz".parse(), Ok(NoteId(Uuid::max())));
        assert_eq!("".parse::<NoteId>(), Err(NotAnId));
        assert_eq!("no-such".parse::<NoteId>(), Err(NotAnId));
    }

    #[test]
    fn text_order_is_time_order() {
        let early = first_of(DateTime::from_timestamp_millis(1_000).unwrap_or_default());
        let late = first_of(DateTime::from_timestamp_millis(2_000).unwrap_or_default());
        assert!(to_ulid(early) < to_ulid(late));
        assert_eq!(time_of(late).timestamp_millis(), 2_000);
    }

    #[test]
    fn derived_ids_keep_their_order() {
        let command = CommandId(Uuid::from_u128(0x0193_5c2d_1000_7abc_8def_0123_0000_0000));
        assert!(command.event(0) < command.event(1));
        assert!(command.event(1).0 < command.step(1).event(0).0);
        assert!(command.event(0).notification(1).0 < command.event(1).0);
    }
}
