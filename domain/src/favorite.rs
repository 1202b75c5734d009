//! Favourites: notes that a person keeps for themselves, each in the stream `favorite-{note}-{user}`.

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{FavoriteId, NoteId, UserId};
use crate::log::StreamId;
use crate::note::Note;
use crate::{Event, Fold};

/// The stream of what one person keeps of one note.
pub fn stream(note: NoteId, user: UserId) -> StreamId {
    StreamId::new("favorite", format_args!("{note}-{user}"))
}

/// `favorite.added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    pub id: FavoriteId,
    pub note: NoteId,
    pub user: UserId,
}

/// `favorite.removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub note: NoteId,
    pub user: UserId,
}

impl Payload for Added {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

impl Payload for Removed {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

/// Whether the note is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Favorite {
    pub stands: bool,
}

impl Fold for Favorite {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::FavoriteAdded(_) => self.stands = true,
            Event::FavoriteRemoved(_) => self.stands = false,
            _ => (),
        }
    }
}

/// Why a note is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotFavorite {
    #[error("no such note")]
    NoSuchNote,
    #[error("kept already")]
    AlreadyFavorited,
}

/// Why a note is not let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnfavorite {
    #[error("no such note")]
    NoSuchNote,
    #[error("not kept")]
    NotFavorited,
}

/// Decides that somebody keeps a note that they see.
pub fn favorite(
    current: &Favorite,
    note: &Note,
    user: UserId,
    id: FavoriteId,
) -> Result<Vec<Event>, CannotFavorite> {
    let note = note.existing().ok_or(CannotFavorite::NoSuchNote)?.id;
    if current.stands {
        return Err(CannotFavorite::AlreadyFavorited);
    }
    Ok(vec![Added { id, note, user }.into()])
}

/// Decides that somebody keeps a note no longer.
pub fn unfavorite(current: &Favorite, note: &Note, user: UserId) -> Result<Vec<Event>, CannotUnfavorite> {
    let note = note.existing().ok_or(CannotUnfavorite::NoSuchNote)?.id;
    if !current.stands {
        return Err(CannotUnfavorite::NotFavorited);
    }
    Ok(vec![Removed { note, user }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{a_note, id, user};

    #[test]
    fn a_note_is_kept_once_and_let_go_once() {
        let (note, mut current) = (a_note(|_| ()), Favorite::default());
        assert_eq!(unfavorite(&current, &note, user(2)), Err(CannotUnfavorite::NotFavorited));
        let kept = favorite(&current, &note, user(2), FavoriteId(id(9))).unwrap();
        kept.iter().for_each(|event| current.apply(event));
        let again = favorite(&current, &note, user(2), FavoriteId(id(10)));
        assert_eq!(again, Err(CannotFavorite::AlreadyFavorited));
        unfavorite(&current, &note, user(2)).unwrap().iter().for_each(|event| current.apply(event));
        assert_eq!(current, Favorite::default());
    }

    #[test]
    fn a_note_that_is_gone_is_not_kept() {
        let (gone, current) = (Note::default(), Favorite { stands: true });
        assert_eq!(favorite(&current, &gone, user(2), FavoriteId(id(9))), Err(CannotFavorite::NoSuchNote));
        assert_eq!(unfavorite(&current, &gone, user(2)), Err(CannotUnfavorite::NoSuchNote));
    }
}
