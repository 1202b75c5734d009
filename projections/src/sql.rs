//! Values of the domain as PostgreSQL takes and gives them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use domain::UserId;
use domain::follow::Notify;
use domain::note::{ReactionAcceptance, Visibility};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgPool;
use uuid::Uuid;

/// A stored word that names nothing known.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a known word")]
struct UnknownWord(String);

pub(crate) fn unknown(word: &str) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(UnknownWord(word.to_owned())))
}

pub(crate) fn visibility_word(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "public",
        Visibility::Home => "home",
        Visibility::Followers => "followers",
        Visibility::Specified => "specified",
    }
}

pub(crate) fn visibility(word: &str) -> Result<Visibility, sqlx::Error> {
    match word {
        "public" => Ok(Visibility::Public),
        "home" => Ok(Visibility::Home),
        "followers" => Ok(Visibility::Followers),
        "specified" => Ok(Visibility::Specified),
        other => Err(unknown(other)),
    }
}

pub(crate) fn acceptance_word(acceptance: ReactionAcceptance) -> &'static str {
    match acceptance {
        ReactionAcceptance::LikeOnly => "likeOnly",
        ReactionAcceptance::LikeOnlyForRemote => "likeOnlyForRemote",
        ReactionAcceptance::NonSensitiveOnly => "nonSensitiveOnly",
        ReactionAcceptance::NonSensitiveOnlyForLocalLikeOnlyForRemote => {
            "nonSensitiveOnlyForLocalLikeOnlyForRemote"
        }
    }
}

pub(crate) fn acceptance(word: &str) -> Result<ReactionAcceptance, sqlx::Error> {
    match word {
        "likeOnly" => Ok(ReactionAcceptance::LikeOnly),
        "likeOnlyForRemote" => Ok(ReactionAcceptance::LikeOnlyForRemote),
        "nonSensitiveOnly" => Ok(ReactionAcceptance::NonSensitiveOnly),
        "nonSensitiveOnlyForLocalLikeOnlyForRemote" => {
            Ok(ReactionAcceptance::NonSensitiveOnlyForLocalLikeOnlyForRemote)
        }
        other => Err(unknown(other)),
    }
}

pub(crate) fn notify_word(notify: Notify) -> &'static str {
    match notify {
        Notify::None => "none",
        Notify::Normal => "normal",
    }
}

pub(crate) fn notify(word: &str) -> Result<Notify, sqlx::Error> {
    match word {
        "none" => Ok(Notify::None),
        "normal" => Ok(Notify::Normal),
        other => Err(unknown(other)),
    }
}

pub(crate) fn users(ids: Vec<Uuid>) -> Vec<UserId> {
    ids.into_iter().map(UserId).collect()
}

/// PostgreSQL has no place for U+0000 in a text.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

pub(crate) fn clean_texts(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| clean(text).into_owned()).collect()
}

pub(crate) fn clean_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(&text).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(clean_json).collect()),
        Value::Object(fields) => Value::Object(clean_fields(fields)),
        other => other,
    }
}

fn clean_fields(fields: impl IntoIterator<Item = (String, Value)>) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (clean(&name).into_owned(), clean_json(value))).collect()
}

/// The fields of a value that is an object in JSON, as they can be stored.
pub(crate) fn fields(value: &impl Serialize) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(value)? {
        Value::Object(fields) => Ok(clean_fields(fields)),
        _ => Ok(Map::new()),
    }
}

/// Sums per key, in the order of the keys, ready to be bound as two arrays.
#[derive(Debug)]
pub(crate) struct Sums<K>(BTreeMap<K, i64>);

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Sums<K> {
    pub(crate) fn add(&mut self, key: K, n: i64) {
        *self.0.entry(key).or_default() += n;
    }

    /// The keys and their sums, but for those that change nothing.
    pub(crate) fn split(self) -> (Vec<K>, Vec<i64>) {
        self.0.into_iter().filter(|(_, n)| *n != 0).unzip()
    }
}

/// Those of these people whom a statement finds.
pub(crate) async fn those(
    pool: &PgPool,
    sql: &'static str,
    people: &[UserId],
) -> sqlx::Result<HashMap<UserId, ()>> {
    let people: Vec<Uuid> = people.iter().map(|user| user.0).collect();
    let found: Vec<Uuid> = sqlx::query_scalar(sql).bind(people).fetch_all(pool).await?;
    Ok(found.into_iter().map(|id| (UserId(id), ())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for v in [Visibility::Public, Visibility::Home, Visibility::Followers, Visibility::Specified] {
            assert_eq!(visibility(visibility_word(v)).unwrap(), v);
        }
        for a in [
            ReactionAcceptance::LikeOnly,
            ReactionAcceptance::LikeOnlyForRemote,
            ReactionAcceptance::NonSensitiveOnly,
            ReactionAcceptance::NonSensitiveOnlyForLocalLikeOnlyForRemote,
        ] {
            assert_eq!(acceptance(acceptance_word(a)).unwrap(), a);
        }
        for n in [Notify::None, Notify::Normal] {
            assert_eq!(notify(notify_word(n)).unwrap(), n);
        }
        assert!(visibility("secret").is_err());
    }

    #[test]
    fn what_postgres_cannot_hold_is_replaced_everywhere() {
        let value = serde_json::json!({ "a\0": ["b\0", { "c": "\0" }] });
        assert_eq!(clean_json(value), serde_json::json!({ "a\u{fffd}": ["b\u{fffd}", { "c": "\u{fffd}" }] }));
    }
}
