//! When a remote note was written, and for whom: `published`, `to` and `cc`.

use chrono::{DateTime, Utc};
use domain::UserId;
use domain::note::Visibility;
use domain::policy::Audience;
use serde::{Deserialize, Serialize};

/// The collection that everybody is in.
pub const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";
/// The same, as some servers shorten it.
const PUBLIC_ALIASES: [&str; 3] = [PUBLIC, "as:Public", "Public"];
/// Addresses that are read of one `to` or `cc`; more are passed over, which only narrows the audience.
pub const MAX_ADDRESSES: usize = 1_024;

/// The instant that the id of a remote note is minted from, so that a late note stands where it
/// belongs: its `published` (RFC 3339), never after now, nor before what an id can tell.
/// A note that doesn't say so is taken to be written now.
pub fn written_at(published: Option<&str>, now: DateTime<Utc>) -> DateTime<Utc> {
    let said = published.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let said = said.map_or(now, |at| at.to_utc());
    said.clamp(DateTime::UNIX_EPOCH.min(now), now)
}

/// Whom an object is addressed to, as the wire has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Addressed {
    pub to: Addresses,
    pub cc: Addresses,
}

/// Addresses of people and collections: written as a list; read from a list, a single one, or null,
/// each as text or as an object with an `id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "AddressesOnTheWire")]
pub struct Addresses(pub Vec<String>);

/// What a remote note says of its audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    pub visibility: Visibility,
    /// Addresses that are neither everybody nor the author's followers.
    pub people: Vec<String>,
}

impl Addressed {
    /// Reads the audience. `followers` is the address of the author's followers; without it nothing
    /// can be for them, and the note is only for those it names.
    pub fn meant(&self, followers: Option<&str>) -> Meant {
        let is_public = |address: &String| PUBLIC_ALIASES.contains(&address.as_str());
        let is_followers = |address: &String| followers == Some(address.as_str());
        let visibility = if self.to.0.iter().any(is_public) {
            Visibility::Public
        } else if self.cc.0.iter().any(is_public) {
            Visibility::Home
        } else if self.to.0.iter().any(is_followers) {
            Visibility::Followers
        } else {
            Visibility::Specified
        };
        let mut people: Vec<String> = Vec::new();
        for address in self.to.0.iter().chain(&self.cc.0) {
            if !is_public(address) && !is_followers(address) && !people.contains(address) {
                people.push(address.clone());
            }
        }
        Meant { visibility, people }
    }

    /// Writes an audience; none when the note leaves this server for nobody. People without an address
    /// (`address_of`) are left out.
    pub fn render(
        audience: &Audience,
        followers: &str,
        address_of: impl Fn(UserId) -> Option<String>,
    ) -> Option<Self> {
        let all = |ids: &[UserId]| ids.iter().filter_map(|id| address_of(*id)).collect::<Vec<_>>();
        let with = |first: &str, rest: Vec<String>| [vec![first.to_owned()], rest].concat();
        let (to, cc) = match audience {
            Audience::Local => return None,
            Audience::Public { listed: true, also } => (vec![PUBLIC.to_owned()], with(followers, all(also))),
            Audience::Public { listed: false, also } => (vec![followers.to_owned()], with(PUBLIC, all(also))),
            Audience::Followers { also } => (vec![followers.to_owned()], all(also)),
            Audience::Only(people) => (all(people), Vec::new()),
        };
        Some(Self { to: Addresses(to), cc: Addresses(cc) })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AddressesOnTheWire {
    Many(Vec<AddressOnTheWire>),
    One(AddressOnTheWire),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AddressOnTheWire {
    Text(String),
    Object { id: String },
    Other(serde::de::IgnoredAny),
}

impl From<AddressesOnTheWire> for Addresses {
    fn from(wire: AddressesOnTheWire) -> Self {
        let items = match wire {
            AddressesOnTheWire::Many(items) => items,
            AddressesOnTheWire::One(item) => vec![item],
        };
        let texts = items.into_iter().filter_map(|item| match item {
            AddressOnTheWire::Text(text) | AddressOnTheWire::Object { id: text } => Some(text),
            AddressOnTheWire::Other(_) => None,
        });
        Self(texts.take(MAX_ADDRESSES).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const FOLLOWERS: &str = "https://a.example/users/1/followers";

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn address(user: UserId) -> String {
        format!("https://b.example/users/{user}")
    }

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    #[test]
    fn a_note_stands_where_it_was_written_and_never_in_the_future() {
        let now = at(1_700_000_000_000);
        for (published, expected) in [
            (Some("2023-11-14T22:00:00+09:00"), at(1_699_966_800_000)),
            (Some("2999-01-01T00:00:00Z"), now),
            (Some("0001-01-01T00:00:00Z"), DateTime::UNIX_EPOCH),
            (Some("yesterday"), now),
            (None, now),
        ] {
            assert_eq!(written_at(published, now), expected, "{published:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let people = vec![user(2), user(3)];
        for (audience, visibility) in [
            (Audience::Public { listed: true, also: people.clone() }, Visibility::Public),
            (Audience::Public { listed: false, also: people.clone() }, Visibility::Home),
            (Audience::Followers { also: people.clone() }, Visibility::Followers),
            (Audience::Only(people.clone()), Visibility::Specified),
        ] {
            let wire = Addressed::render(&audience, FOLLOWERS, |id| Some(address(id))).unwrap();
            let json = serde_json::to_string(&wire).unwrap();
            let read: Addressed = serde_json::from_str(&json).unwrap();
            let people = people.iter().map(|id| address(*id)).collect();
            assert_eq!(read.meant(Some(FOLLOWERS)), Meant { visibility, people }, "{audience:?}");
        }
        assert_eq!(Addressed::render(&Audience::Local, FOLLOWERS, |id| Some(address(id))), None);
    }

    #[test]
    fn people_without_an_address_are_left_out() {
        let audience = Audience::Only(vec![user(2), user(3)]);
        let wire =
            Addressed::render(&audience, FOLLOWERS, |id| (id == user(3)).then(|| address(id))).unwrap();
        assert_eq!(wire.to.0, [address(user(3))]);
    }

    #[test]
    fn other_servers_write_it_in_other_ways() {
        let follower = FOLLOWERS;
        for (json, visibility, people) in [
            (r#"{"to":"as:Public"}"#.to_owned(), Visibility::Public, 0),
            (r#"{"to":["Public"],"cc":null}"#.to_owned(), Visibility::Public, 0),
            (r#"{"to":[],"cc":[{"id":"as:Public","type":"Collection"}]}"#.to_owned(), Visibility::Home, 0),
            (format!(r#"{{"to":"{follower}","cc":"https://c.example/1"}}"#), Visibility::Followers, 1),
            (r#"{"to":[{"type":"Person"},7,"https://c.example/1"]}"#.to_owned(), Visibility::Specified, 1),
            ("{}".to_owned(), Visibility::Specified, 0),
        ] {
            let read: Addressed = serde_json::from_str(&json).unwrap();
            let meant = read.meant(Some(FOLLOWERS));
            assert_eq!((meant.visibility, meant.people.len()), (visibility, people), "{json}");
        }
    }

    #[test]
    fn nobody_elses_followers_are_ours() {
        let wire = Addressed {
            to: Addresses(vec!["https://c.example/followers".to_owned()]),
            ..Addressed::default()
        };
        assert_eq!(wire.meant(Some(FOLLOWERS)).visibility, Visibility::Specified);
        assert_eq!(wire.meant(None).visibility, Visibility::Specified);
    }
}
