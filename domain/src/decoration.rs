//! Decorations of avatars, which those who run the server offer, in the stream `decoration-{id}`.

use serde::{Deserialize, Serialize};

use crate::defined::Defined;
use crate::event::Payload;
use crate::ids::{DecorationId, RoleId, UserId};
use crate::log::StreamId;
use crate::{Event, Fold};

/// The longest name and address, in characters.
pub const MAX_NAME_CHARS: usize = 256;
pub const MAX_URL_CHARS: usize = 1_024;
/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 2_048;
/// The most roles that a decoration is kept for.
pub const MAX_ROLES: usize = 64;

/// The stream of one decoration.
pub fn stream(decoration: DecorationId) -> StreamId {
    StreamId::new("decoration", decoration)
}

/// What a decoration is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub name: String,
    pub description: String,
    pub url: String,
    /// Only for those who have one of these roles; for everybody when there are none.
    pub roles: Vec<RoleId>,
}

/// A change of a decoration: only what is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub name: Option<String>,
    pub description: Option<String>,
    pub url: Option<String>,
    pub roles: Option<Vec<RoleId>>,
}

/// `decoration.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub decoration: DecorationId,
    pub definition: Definition,
}

/// `decoration.changed`: what it is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub decoration: DecorationId,
    pub definition: Definition,
}

/// `decoration.deleted`: nobody wears it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub decoration: DecorationId,
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

/// A decoration as somebody wears it: turned (in turns), flipped, and moved (in widths of the avatar).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worn {
    pub id: DecorationId,
    #[serde(default)]
    pub angle: f64,
    #[serde(default)]
    pub flip_h: bool,
    #[serde(default)]
    pub offset_x: f64,
    #[serde(default)]
    pub offset_y: f64,
}

/// One decoration, folded.
pub type Decoration = Defined<Definition>;

impl Fold for Decoration {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::DecorationCreated(e) => self.define(e.definition.clone()),
            Event::DecorationChanged(e) => self.define(e.definition.clone()),
            Event::DecorationDeleted(_) => self.end(),
            _ => (),
        }
    }
}

/// Why a decoration is not made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotDecorate {
    #[error("no such decoration")]
    NoSuchDecoration,
    #[error("a text is too long, or the roles are too many")]
    TooLarge,
}

/// Decides a new decoration.
pub fn create(
    current: &Decoration,
    decoration: DecorationId,
    definition: Definition,
) -> Result<Vec<Event>, CannotDecorate> {
    current.create(|| checked(definition), |definition| Created { decoration, definition })
}

/// Decides a change; what is then as before is no event.
pub fn change(
    current: &Decoration,
    decoration: DecorationId,
    changes: Changes,
) -> Result<Vec<Event>, CannotDecorate> {
    let changed = |before: &Definition| checked(changes.over(before.clone()));
    current.change(CannotDecorate::NoSuchDecoration, changed, |definition| Changed { decoration, definition })
}

/// Decides that a decoration is no more.
pub fn delete(current: &Decoration, decoration: DecorationId) -> Result<Vec<Event>, CannotDecorate> {
    current.delete(CannotDecorate::NoSuchDecoration, |_| Deleted { decoration })
}

impl Definition {
    /// Whether somebody with these roles may wear it.
    pub fn is_for(&self, roles: &[RoleId]) -> bool {
        self.roles.is_empty() || self.roles.iter().any(|role| roles.contains(role))
    }
}

impl Changes {
    fn over(self, before: Definition) -> Definition {
        Definition {
            name: self.name.unwrap_or(before.name),
            description: self.description.unwrap_or(before.description),
            url: self.url.unwrap_or(before.url),
            roles: self.roles.unwrap_or(before.roles),
        }
    }
}

fn checked(definition: Definition) -> Result<Definition, CannotDecorate> {
    let fits = definition.name.chars().count() <= MAX_NAME_CHARS
        && definition.description.chars().count() <= MAX_DESCRIPTION_CHARS
        && definition.url.chars().count() <= MAX_URL_CHARS
        && definition.roles.len() <= MAX_ROLES;
    if fits { Ok(definition) } else { Err(CannotDecorate::TooLarge) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::id;

    #[test]
    fn it_is_made_changed_and_deleted() {
        let (id, role) = (DecorationId(id(1)), RoleId(id(2)));
        let hat = Definition {
            name: "hat".to_owned(),
            description: "a hat".to_owned(),
            url: "https://example.com/hat.png".to_owned(),
            roles: Vec::new(),
        };
        assert!(hat.is_for(&[]));
        let long = Definition { url: "x".repeat(MAX_URL_CHARS + 1), ..hat.clone() };
        assert_eq!(create(&Decoration::default(), id, long), Err(CannotDecorate::TooLarge));
        let mut current = Decoration::of(&create(&Decoration::default(), id, hat).unwrap());
        let kept = Changes { roles: Some(vec![role]), ..Changes::default() };
        current.apply(&change(&current, id, kept.clone()).unwrap()[0]);
        let now = current.definition.clone().unwrap();
        assert!(now.is_for(&[role]) && !now.is_for(&[]));
        assert_eq!(change(&current, id, kept.clone()), Ok(Vec::new()));
        current.apply(&delete(&current, id).unwrap()[0]);
        assert_eq!(delete(&current, id), Err(CannotDecorate::NoSuchDecoration));
        assert_eq!(change(&current, id, kept), Err(CannotDecorate::NoSuchDecoration));
    }
}
