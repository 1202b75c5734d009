//! Clips: collections of notes that a person makes. What clips somebody has is in the stream `clips-{user}`, so
//! that their number can't be passed in a race; the notes of one are in `clip-{clip}`, and whoever keeps it for
//! themselves says so in `clip-favorite-{clip}-{user}`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{ClipFavoriteId, ClipId, NoteId, UserId};
use crate::log::StreamId;
use crate::note::Note;
use crate::{Event, Fold};

/// The longest name of a clip, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// The longest description of a clip, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 2_048;

/// The stream of what clips a person has.
pub fn stream(user: UserId) -> StreamId {
    StreamId::new("clips", user)
}

/// The stream of the notes of a clip.
pub fn notes_stream(clip: ClipId) -> StreamId {
    StreamId::new("clip", clip)
}

/// The stream of whether a person keeps a clip.
pub fn favorite_stream(clip: ClipId, user: UserId) -> StreamId {
    StreamId::new("clip-favorite", format_args!("{clip}-{user}"))
}

/// What a clip says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For everybody, and not for its owner alone.
    pub public: bool,
}

/// `clip.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: ClipId,
    pub user: UserId,
    #[serde(flatten)]
    pub about: About,
}

/// `clip.changed`: all that it says of itself from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub id: ClipId,
    pub user: UserId,
    #[serde(flatten)]
    pub about: About,
}

/// `clip.deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub id: ClipId,
    pub user: UserId,
}

/// `clip.note_added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteAdded {
    pub clip: ClipId,
    /// Whose clip it is.
    pub user: UserId,
    pub note: NoteId,
}

/// `clip.note_removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRemoved {
    pub clip: ClipId,
    /// Whose clip it is.
    pub user: UserId,
    pub note: NoteId,
}

/// `clip.favorited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Favorited {
    pub id: ClipFavoriteId,
    pub clip: ClipId,
    /// Who keeps it.
    pub user: UserId,
}

/// `clip.unfavorited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfavorited {
    pub clip: ClipId,
    pub user: UserId,
}

macro_rules! of_their_user {
    ($($payload:ty),* $(,)?) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.user)
            }
        }
    )*};
}

of_their_user!(Created, Changed, Deleted, NoteAdded, NoteRemoved, Favorited, Unfavorited);

/// The clips that a person has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clips {
    pub clips: BTreeMap<ClipId, About>,
}

impl Fold for Clips {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ClipCreated(e) => {
                self.clips.insert(e.id, e.about.clone());
            }
            Event::ClipChanged(e) => {
                self.clips.insert(e.id, e.about.clone());
            }
            Event::ClipDeleted(e) => {
                self.clips.remove(&e.id);
            }
            _ => (),
        }
    }
}

/// The notes of a clip; also what has been deleted since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    pub notes: BTreeSet<NoteId>,
}

impl Fold for Notes {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ClipNoteAdded(e) => {
                self.notes.insert(e.note);
            }
            Event::ClipNoteRemoved(e) => {
                self.notes.remove(&e.note);
            }
            _ => (),
        }
    }
}

/// Whether a person keeps a clip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Favorite {
    pub stands: bool,
}

impl Fold for Favorite {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ClipFavorited(_) => self.stands = true,
            Event::ClipUnfavorited(_) => self.stands = false,
            _ => (),
        }
    }
}

/// What is to become different; none stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub public: Option<bool>,
}

/// A person has as many clips as they may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many clips")]
pub struct TooManyClips;

/// Why a clip is not changed or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such clip of theirs")]
pub struct NoSuchClip;

/// Why a note doesn't come into a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotClip {
    #[error("no such clip of theirs")]
    NoSuchClip,
    #[error("no such note")]
    NoSuchNote,
    #[error("in the clip already")]
    AlreadyClipped,
    #[error("too many notes in the clip")]
    TooManyNotes,
}

/// Why a note is not taken out of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnclip {
    #[error("no such clip of theirs")]
    NoSuchClip,
    #[error("no such note")]
    NoSuchNote,
}

/// Why a clip is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotFavoriteClip {
    #[error("no such clip")]
    NoSuchClip,
    #[error("kept already")]
    AlreadyFavorited,
}

/// Why a clip is not let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnfavoriteClip {
    #[error("no such clip")]
    NoSuchClip,
    #[error("not kept")]
    NotFavorited,
}

/// Decides a new clip.
pub fn create(
    current: &Clips,
    user: UserId,
    id: ClipId,
    about: About,
    limit: usize,
) -> Result<Vec<Event>, TooManyClips> {
    if current.clips.len() >= limit {
        return Err(TooManyClips);
    }
    Ok(vec![Created { id, user, about }.into()])
}

/// Decides what a clip says of itself.
pub fn change(
    current: &Clips,
    user: UserId,
    id: ClipId,
    changes: &Changes,
) -> Result<Vec<Event>, NoSuchClip> {
    let standing = current.clips.get(&id).ok_or(NoSuchClip)?;
    let about = About {
        name: changes.name.clone().unwrap_or_else(|| standing.name.clone()),
        description: changes.description.clone().unwrap_or_else(|| standing.description.clone()),
        public: changes.public.unwrap_or(standing.public),
    };
    let differs = about != *standing;
    Ok(if differs { vec![Changed { id, user, about }.into()] } else { Vec::new() })
}

/// Decides the end of a clip.
pub fn delete(current: &Clips, user: UserId, id: ClipId) -> Result<Vec<Event>, NoSuchClip> {
    current.clips.get(&id).ok_or(NoSuchClip)?;
    Ok(vec![Deleted { id, user }.into()])
}

/// Decides that a note comes into a clip of `user`. What of its notes has gone, of `gone`, takes no place.
pub fn add_note(
    current: &Notes,
    clip: ClipId,
    user: UserId,
    note: &Note,
    gone: &[NoteId],
    limit: usize,
) -> Result<Vec<Event>, CannotClip> {
    let note = note.existing().ok_or(CannotClip::NoSuchNote)?.id;
    if current.notes.contains(&note) {
        return Err(CannotClip::AlreadyClipped);
    }
    let (gone, standing): (Vec<NoteId>, Vec<NoteId>) =
        current.notes.iter().partition(|clipped| gone.contains(clipped));
    if standing.len() >= limit {
        return Err(CannotClip::TooManyNotes);
    }
    let mut events: Vec<Event> =
        gone.into_iter().map(|note| NoteRemoved { clip, user, note }.into()).collect();
    events.push(NoteAdded { clip, user, note }.into());
    Ok(events)
}

/// Decides that a note is taken out of a clip of `user`; it need not be there.
pub fn remove_note(
    current: &Notes,
    clip: ClipId,
    user: UserId,
    note: &Note,
) -> Result<Vec<Event>, CannotUnclip> {
    let note = note.existing().ok_or(CannotUnclip::NoSuchNote)?.id;
    let stands = current.notes.contains(&note);
    Ok(if stands { vec![NoteRemoved { clip, user, note }.into()] } else { Vec::new() })
}

/// Decides that somebody keeps a clip that is there for them.
pub fn favorite(
    current: &Favorite,
    clip: ClipId,
    user: UserId,
    id: ClipFavoriteId,
) -> Result<Vec<Event>, CannotFavoriteClip> {
    if current.stands {
        return Err(CannotFavoriteClip::AlreadyFavorited);
    }
    Ok(vec![Favorited { id, clip, user }.into()])
}

/// Decides that somebody keeps a clip no longer.
pub fn unfavorite(
    current: &Favorite,
    clip: ClipId,
    user: UserId,
) -> Result<Vec<Event>, CannotUnfavoriteClip> {
    if !current.stands {
        return Err(CannotUnfavoriteClip::NotFavorited);
    }
    Ok(vec![Unfavorited { clip, user }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{a_note, id, user};

    fn clip(n: u8) -> ClipId {
        ClipId(id(n))
    }

    fn about(name: &str) -> About {
        About { name: name.to_owned(), description: Some("text".to_owned()), public: false }
    }

    fn told<S: Fold, R>(state: &mut S, decided: Result<Vec<Event>, R>) -> Result<usize, R> {
        let events = decided?;
        events.iter().for_each(|event| state.apply(event));
        Ok(events.len())
    }

    #[test]
    fn a_person_has_as_many_clips_as_they_may() {
        let mut clips = Clips::default();
        let first = create(&clips, user(1), clip(1), about("a"), 1);
        assert_eq!(told(&mut clips, first), Ok(1));
        assert_eq!(create(&clips, user(1), clip(2), about("b"), 1), Err(TooManyClips));
        let gone = delete(&clips, user(1), clip(1));
        assert_eq!(told(&mut clips, gone), Ok(1));
        assert_eq!(delete(&clips, user(1), clip(1)), Err(NoSuchClip));
        assert!(create(&clips, user(1), clip(2), about("b"), 1).is_ok());
    }

    #[test]
    fn only_what_is_named_becomes_different() {
        let mut clips = Clips::default();
        let first = create(&clips, user(1), clip(1), about("a"), 1);
        told(&mut clips, first).unwrap();
        let changes = Changes { description: Some(None), ..Changes::default() };
        let changed = change(&clips, user(1), clip(1), &changes);
        assert_eq!(told(&mut clips, changed), Ok(1));
        assert_eq!(clips.clips[&clip(1)], About { description: None, ..about("a") });
        assert_eq!(change(&clips, user(1), clip(1), &changes), Ok(Vec::new()));
        assert_eq!(change(&clips, user(1), clip(2), &changes), Err(NoSuchClip));
    }

    #[test]
    fn a_note_is_clipped_once_and_what_has_gone_makes_room() {
        let note = |n| a_note(|note| note.id = NoteId(id(n)));
        let mut notes = Notes::default();
        let add = |notes: &Notes, n, gone: &[NoteId]| add_note(notes, clip(1), user(1), &note(n), gone, 1);
        let first = add(&notes, 1, &[]);
        assert_eq!(told(&mut notes, first), Ok(1));
        assert_eq!(add(&notes, 1, &[]), Err(CannotClip::AlreadyClipped));
        assert_eq!(add(&notes, 2, &[]), Err(CannotClip::TooManyNotes));
        let second = add(&notes, 2, &[NoteId(id(1))]);
        assert_eq!(told(&mut notes, second), Ok(2));
        assert_eq!(remove_note(&notes, clip(1), user(1), &note(1)), Ok(Vec::new()));
        let taken = remove_note(&notes, clip(1), user(1), &note(2));
        assert_eq!(told(&mut notes, taken), Ok(1));
        assert_eq!(notes, Notes::default());
        let missing = Note::default();
        assert_eq!(add_note(&notes, clip(1), user(1), &missing, &[], 1), Err(CannotClip::NoSuchNote));
        assert_eq!(remove_note(&notes, clip(1), user(1), &missing), Err(CannotUnclip::NoSuchNote));
    }

    #[test]
    fn a_clip_is_kept_once_and_let_go_once() {
        let mut kept = Favorite::default();
        let none = unfavorite(&kept, clip(1), user(2));
        assert_eq!(none, Err(CannotUnfavoriteClip::NotFavorited));
        let first = favorite(&kept, clip(1), user(2), ClipFavoriteId(id(5)));
        assert_eq!(told(&mut kept, first), Ok(1));
        let again = favorite(&kept, clip(1), user(2), ClipFavoriteId(id(6)));
        assert_eq!(again, Err(CannotFavoriteClip::AlreadyFavorited));
        let gone = unfavorite(&kept, clip(1), user(2));
        assert_eq!(told(&mut kept, gone), Ok(1));
        assert_eq!(kept, Favorite::default());
    }
}
