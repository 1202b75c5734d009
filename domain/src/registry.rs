//! The registry: values that apps keep for a person, by domain, scope and key. The last one set stands.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Event;
use crate::event::Payload;
use crate::ids::{RegistryItemId, UserId};

/// Values kept for one person.
pub const MAX_ITEMS: u64 = 2_000;
/// The longest value as JSON, in bytes.
pub const MAX_VALUE_BYTES: usize = 128 * 1024;
/// The longest domain, scope (its parts together) and key, in bytes; together they fit into one entry of an
/// index of PostgreSQL.
pub const MAX_DOMAIN_BYTES: usize = 256;
pub const MAX_SCOPE_BYTES: usize = 1_024;
pub const MAX_KEY_BYTES: usize = 1_024;
/// Parts of a scope.
pub const MAX_SCOPE_PARTS: usize = 32;

/// Where a value is kept. Each app has a domain of its own; the web client's is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    pub key: String,
}

/// `registry.set`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// By which it is listed, when the place was empty.
    pub id: RegistryItemId,
    pub user: UserId,
    #[serde(flatten)]
    pub place: Place,
    pub value: Value,
}

/// `registry.removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub user: UserId,
    #[serde(flatten)]
    pub place: Place,
}

impl Payload for Set {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

impl Payload for Removed {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

/// Why a value is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSet {
    #[error("the place has too long a name")]
    PlaceTooLong,
    #[error("the value is too large")]
    ValueTooLarge,
    #[error("too many values")]
    TooMany,
}

impl Place {
    /// Whether something can be kept there.
    pub fn fits(&self) -> bool {
        self.domain.as_ref().is_none_or(|domain| domain.len() <= MAX_DOMAIN_BYTES)
            && self.scope.len() <= MAX_SCOPE_PARTS
            && self.scope.iter().map(String::len).sum::<usize>() <= MAX_SCOPE_BYTES
            && self.key.len() <= MAX_KEY_BYTES
    }
}

/// Decides a value, of somebody who has so many others.
pub fn set(
    user: UserId,
    id: RegistryItemId,
    place: Place,
    value: Value,
    others: u64,
) -> Result<Event, CannotSet> {
    if !place.fits() {
        return Err(CannotSet::PlaceTooLong);
    }
    if value.to_string().len() > MAX_VALUE_BYTES {
        return Err(CannotSet::ValueTooLarge);
    }
    if others >= MAX_ITEMS {
        return Err(CannotSet::TooMany);
    }
    Ok(Set { id, user, place, value }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{id, user};
    use serde_json::json;

    fn try_set(place: Place, value: Value, others: u64) -> Result<(), CannotSet> {
        set(user(1), RegistryItemId(id(1)), place, value, others).map(|_| ())
    }

    #[test]
    fn values_and_their_places_are_bounded() {
        let place = || Place { domain: None, scope: vec!["client".to_owned()], key: "k".to_owned() };
        assert_eq!(try_set(place(), json!({ "a": [null] }), MAX_ITEMS - 1), Ok(()));
        assert_eq!(try_set(place(), json!(1), MAX_ITEMS), Err(CannotSet::TooMany));
        let large = json!("x".repeat(MAX_VALUE_BYTES));
        assert_eq!(try_set(place(), large, 0), Err(CannotSet::ValueTooLarge));
        let deep = Place { scope: vec!["x".to_owned(); MAX_SCOPE_PARTS + 1], ..place() };
        let long = Place { key: "x".repeat(MAX_KEY_BYTES + 1), ..place() };
        let wide = Place { domain: Some("x".repeat(MAX_DOMAIN_BYTES + 1)), ..place() };
        for place in [deep, long, wide] {
            assert_eq!(try_set(place, json!(1), 0), Err(CannotSet::PlaceTooLong));
        }
    }
}
