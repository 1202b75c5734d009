//! Advertisements that those who run the server show, in the stream `ad-{id}`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::defined::Defined;
use crate::event::Payload;
use crate::ids::{AdId, UserId};
use crate::log::StreamId;
use crate::{Event, Fold};

/// The longest address, in characters.
pub const MAX_URL_CHARS: usize = 1_024;
/// The longest word for a place or a priority, in characters.
pub const MAX_WORD_CHARS: usize = 32;
/// The longest remark, in characters.
pub const MAX_MEMO_CHARS: usize = 8_192;

/// The stream of one advertisement.
pub fn stream(ad: AdId) -> StreamId {
    StreamId::new("ad", ad)
}

/// What an advertisement is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub url: String,
    pub image_url: String,
    /// Where clients show it, by Misskey's names.
    pub place: String,
    pub priority: String,
    /// How often it is shown among the others.
    pub ratio: i32,
    pub memo: String,
    pub starts_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// The days of the week on which it is shown, a bit for each from Sunday on; 0 for all.
    pub day_of_week: i32,
    pub is_sensitive: bool,
}

/// A change of an advertisement: only what is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub url: Option<String>,
    pub image_url: Option<String>,
    pub place: Option<String>,
    pub priority: Option<String>,
    pub ratio: Option<i32>,
    pub memo: Option<String>,
    pub starts_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub day_of_week: Option<i32>,
    pub is_sensitive: Option<bool>,
}

/// `ad.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub ad: AdId,
    pub definition: Definition,
}

/// `ad.changed`: what it is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub ad: AdId,
    pub definition: Definition,
}

/// `ad.deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub ad: AdId,
}

macro_rules! of_the_server {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                None
            }
        }
    )*};
}
of_the_server!(Created, Changed, Deleted);

/// One advertisement, folded.
pub type Ad = Defined<Definition>;

impl Fold for Ad {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::AdCreated(e) => self.define(e.definition.clone()),
            Event::AdChanged(e) => self.define(e.definition.clone()),
            Event::AdDeleted(_) => self.end(),
            _ => (),
        }
    }
}

/// Why there is no such advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotAdvertise {
    #[error("no such advertisement")]
    NoSuchAd,
    #[error("a text is too long")]
    TooLong,
}

/// Decides a new advertisement.
pub fn create(current: &Ad, ad: AdId, definition: Definition) -> Result<Vec<Event>, CannotAdvertise> {
    current.create(|| checked(definition), |definition| Created { ad, definition })
}

/// Decides a change; what is then as before is no event.
pub fn change(current: &Ad, ad: AdId, changes: Changes) -> Result<Vec<Event>, CannotAdvertise> {
    let changed = |before: &Definition| checked(changes.over(before.clone()));
    current.change(CannotAdvertise::NoSuchAd, changed, |definition| Changed { ad, definition })
}

/// Decides that an advertisement is no more.
pub fn delete(current: &Ad, ad: AdId) -> Result<Vec<Event>, CannotAdvertise> {
    current.delete(CannotAdvertise::NoSuchAd, |_| Deleted { ad })
}

impl Changes {
    fn over(self, before: Definition) -> Definition {
        Definition {
            url: self.url.unwrap_or(before.url),
            image_url: self.image_url.unwrap_or(before.image_url),
            place: self.place.unwrap_or(before.place),
            priority: self.priority.unwrap_or(before.priority),
            ratio: self.ratio.unwrap_or(before.ratio),
            memo: self.memo.unwrap_or(before.memo),
            starts_at: self.starts_at.unwrap_or(before.starts_at),
            expires_at: self.expires_at.unwrap_or(before.expires_at),
            day_of_week: self.day_of_week.unwrap_or(before.day_of_week),
            is_sensitive: self.is_sensitive.unwrap_or(before.is_sensitive),
        }
    }
}

fn checked(definition: Definition) -> Result<Definition, CannotAdvertise> {
    let short = |text: &str, most: usize| text.chars().count() <= most;
    let fits = short(&definition.url, MAX_URL_CHARS)
        && short(&definition.image_url, MAX_URL_CHARS)
        && short(&definition.place, MAX_WORD_CHARS)
        && short(&definition.priority, MAX_WORD_CHARS)
        && short(&definition.memo, MAX_MEMO_CHARS);
    if fits { Ok(definition) } else { Err(CannotAdvertise::TooLong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::id;

    #[test]
    fn it_is_made_changed_and_deleted() {
        let id = AdId(id(1));
        let definition = Definition {
            url: "https://example.com".to_owned(),
            image_url: "https://example.com/ad.png".to_owned(),
            place: "square".to_owned(),
            priority: "middle".to_owned(),
            ratio: 1,
            memo: String::new(),
            starts_at: DateTime::UNIX_EPOCH,
            expires_at: DateTime::UNIX_EPOCH,
            day_of_week: 0,
            is_sensitive: false,
        };
        let long = Definition { memo: "x".repeat(MAX_MEMO_CHARS + 1), ..definition.clone() };
        assert_eq!(create(&Ad::default(), id, long), Err(CannotAdvertise::TooLong));
        let mut current = Ad::of(&create(&Ad::default(), id, definition).unwrap());
        let more = Changes { ratio: Some(2), ..Changes::default() };
        current.apply(&change(&current, id, more.clone()).unwrap()[0]);
        assert_eq!(change(&current, id, more.clone()), Ok(Vec::new()));
        current.apply(&delete(&current, id).unwrap()[0]);
        assert_eq!(delete(&current, id), Err(CannotAdvertise::NoSuchAd));
        assert_eq!(change(&current, id, more), Err(CannotAdvertise::NoSuchAd));
    }
}
