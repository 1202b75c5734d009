//! Values as they travel. Each knows its JSON schema, so a request is refused with the rule that it broke
//! ([`super::shape`]), and its own Rust form, so nothing is checked twice.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use domain::ids;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The format of ids in schemas.
pub const ID_FORMAT: &str = "misskey:id";

/// An id of the domain as it travels: text. A malformed one is refused; one that names nothing is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id<T>(pub T);

pub type UserId = Id<ids::UserId>;
pub type NoteId = Id<ids::NoteId>;

impl<'de, T: FromStr<Err = ids::NotAnId>> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Id).map_err(D::Error::custom)
    }
}

impl<T: Display> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<T> JsonSchema for Id<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": ID_FORMAT })
    }
}

/// A value that must be given, though it may be null.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Nullable<T>(pub Option<T>);

impl<T: JsonSchema> JsonSchema for Nullable<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Nullable_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// How many entries are asked for: 1 to `MAX`, `DEFAULT` when not said. Use with `#[serde(default)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit<const MAX: u16 = 100, const DEFAULT: u16 = 10>(u16);

impl<const MAX: u16, const DEFAULT: u16> Limit<MAX, DEFAULT> {
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl<const MAX: u16, const DEFAULT: u16> Default for Limit<MAX, DEFAULT> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<'de, const MAX: u16, const DEFAULT: u16> Deserialize<'de> for Limit<MAX, DEFAULT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<u16>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(limit) if (1..=MAX).contains(&limit) => Ok(Self(limit)),
            Some(_) => Err(D::Error::custom("out of range")),
        }
    }
}

impl<const MAX: u16, const DEFAULT: u16> Serialize for Limit<MAX, DEFAULT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0)
    }
}

impl<const MAX: u16, const DEFAULT: u16> JsonSchema for Limit<MAX, DEFAULT> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Limit{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX })
    }
}

/// The number of a file that came in with the call; [`crate::drive::Drive::take`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Upload(pub Uuid);

impl JsonSchema for Upload {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Upload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "binary" })
    }
}

/// Text of `MIN` to `MAX` characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<const MIN: usize, const MAX: usize>(pub String);

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if (MIN..=MAX).contains(&text.chars().count()) {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("length"))
        }
    }
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Text<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({ "type": "string", "maxLength": MAX });
        if MIN > 0 {
            schema.insert("minLength".to_owned(), MIN.into());
        }
        schema
    }
}

/// A list of `MIN` to `MAX` different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique<T, const MIN: usize, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for Unique<T, 0, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de> + PartialEq, const MIN: usize, const MAX: usize> Deserialize<'de>
    for Unique<T, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<T>::deserialize(deserializer)?;
        if !(MIN..=MAX).contains(&items.len()) {
            return Err(D::Error::custom("number of items"));
        }
        if items.iter().enumerate().any(|(i, item)| items[..i].contains(item)) {
            return Err(D::Error::custom("duplicate items"));
        }
        Ok(Self(items))
    }
}

impl<T: JsonSchema, const MIN: usize, const MAX: usize> JsonSchema for Unique<T, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Unique_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        let mut schema =
            json_schema!({ "type": "array", "items": items, "uniqueItems": true, "maxItems": MAX });
        if MIN > 0 {
            schema.insert("minItems".to_owned(), MIN.into());
        }
        schema
    }
}

/// A parameter that may be left out, but isn't `null` unless `T` may be. Use with `#[serde(default)]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<T>(pub Option<T>);

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// What a flag is that isn't given, where that is not false: for `#[serde(default = "yes")]`.
pub fn yes() -> bool {
    true
}

/// Which part of a list in the order of time: `sinceId`, `untilId`, `sinceDate`, `untilDate`. Put it into the
/// parameters with `#[serde(flatten)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "PageParams")]
pub struct Page {
    /// Only what is after this id.
    pub since: Option<Uuid>,
    /// Only what is before this id.
    pub until: Option<Uuid>,
    /// With a lower bound and no upper one, the page starts at the bound: oldest first.
    pub oldest_first: bool,
}

impl Page {
    /// So many entries of it, as the read side is asked.
    pub fn limited<const MAX: u16, const DEFAULT: u16>(
        self,
        limit: Limit<MAX, DEFAULT>,
    ) -> projections::Page {
        let Page { since, until, oldest_first } = self;
        projections::Page { since, until, oldest_first, limit: limit.0 }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PageParams {
    since_id: Option<Id<AnyId>>,
    until_id: Option<Id<AnyId>>,
    /// Milliseconds since 1970.
    since_date: Option<i64>,
    /// Milliseconds since 1970.
    until_date: Option<i64>,
}

/// An id of a thing that has no type of its own yet, or of whatever a list is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyId(pub Uuid);

impl Display for AnyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ids::to_ulid(self.0))
    }
}

impl FromStr for AnyId {
    type Err = ids::NotAnId;

    fn from_str(text: &str) -> Result<Self, ids::NotAnId> {
        ids::from_wire(text).map(AnyId)
    }
}

impl From<PageParams> for Page {
    fn from(params: PageParams) -> Self {
        let since = params.since_id.map(|id| id.0.0).or_else(|| params.since_date.map(instant));
        let until = params.until_id.map(|id| id.0.0).or_else(|| params.until_date.map(instant));
        Page { since, until, oldest_first: since.is_some() && until.is_none() }
    }
}

impl JsonSchema for Page {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Page".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        PageParams::json_schema(generator)
    }
}

fn instant(millis: i64) -> Uuid {
    let at = DateTime::<Utc>::from_timestamp_millis(millis);
    // Beyond any date there is: before everything, or after it.
    let edge = if millis < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    ids::first_of(at.unwrap_or(edge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn page(params: Value) -> Page {
        from_value(params).unwrap()
    }

    #[test]
    fn a_lower_bound_alone_means_oldest_first() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(page(json!({})), Page::default());
        assert!(page(json!({ "sinceId": id })).oldest_first);
        assert!(page(json!({ "sinceDate": 5 })).oldest_first);
        assert!(!page(json!({ "untilId": id })).oldest_first);
        let both = page(json!({ "sinceId": id, "untilDate": 5 }));
        assert!(!both.oldest_first);
        assert_eq!(both.until, Some(ids::first_of(DateTime::from_timestamp_millis(5).unwrap())));
    }

    #[test]
    fn an_id_wins_over_a_date_and_no_date_is_too_far() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(page(json!({ "sinceId": id, "sinceDate": 5 })).since, ids::from_wire(id).ok());
        assert_eq!(page(json!({ "sinceDate": i64::MIN })).since, Some(Uuid::nil()));
        assert!(page(json!({ "untilDate": i64::MAX })).until > page(json!({ "untilDate": 1 })).until);
    }

    #[test]
    fn values_know_their_bounds() {
        assert!(from_value::<Limit>(json!(100)).is_ok_and(|limit| limit.get() == 100));
        for bad in [json!(0), json!(101), json!(-1), json!("10")] {
            assert!(from_value::<Limit>(bad).is_err());
        }
        assert!(from_value::<Text<1, 2>>(json!("éé")).is_ok());
        assert!(from_value::<Text<1, 2>>(json!("")).is_err());
        assert!(from_value::<Unique<u8, 1, 2>>(json!([1, 2])).is_ok());
        for bad in [json!([]), json!([1, 1]), json!([1, 2, 3])] {
            assert!(from_value::<Unique<u8, 1, 2>>(bad).is_err());
        }
    }
}
