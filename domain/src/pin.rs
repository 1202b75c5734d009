//! Pins: notes of one's own that a profile shows first, in the stream `pins-{user}`.

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{NoteId, PinId, UserId};
use crate::log::StreamId;
use crate::note::Note;
use crate::{Event, Fold};

/// The stream of what one person pins.
pub fn stream(user: UserId) -> StreamId {
    StreamId::new("pins", user)
}

/// `pin.added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    pub id: PinId,
    pub user: UserId,
    pub note: NoteId,
}

/// `pin.removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub user: UserId,
    pub note: NoteId,
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

/// What is pinned, in the order in which it was; also what has been deleted since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    pub notes: Vec<NoteId>,
}

impl Fold for Pins {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::PinAdded(e) => self.notes.push(e.note),
            Event::PinRemoved(e) => self.notes.retain(|note| *note != e.note),
            _ => (),
        }
    }
}

/// Why a note is not pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotPin {
    #[error("no such note of theirs")]
    NoSuchNote,
    #[error("pinned already")]
    AlreadyPinned,
    #[error("no more may be pinned")]
    LimitExceeded,
}

/// Why a note is not unpinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnpin {
    #[error("no such note of theirs")]
    NoSuchNote,
}

/// Decides a pin. What of the pinned has gone, of `gone`, takes no place any more.
pub fn pin(
    current: &Pins,
    note: &Note,
    user: UserId,
    id: PinId,
    gone: &[NoteId],
    limit: usize,
) -> Result<Vec<Event>, CannotPin> {
    let note = note.existing().filter(|note| note.author == user).ok_or(CannotPin::NoSuchNote)?.id;
    if current.notes.contains(&note) {
        return Err(CannotPin::AlreadyPinned);
    }
    let (gone, standing): (Vec<NoteId>, Vec<NoteId>) =
        current.notes.iter().partition(|pinned| gone.contains(pinned));
    if standing.len() >= limit {
        return Err(CannotPin::LimitExceeded);
    }
    let mut events: Vec<Event> = gone.into_iter().map(|note| Removed { user, note }.into()).collect();
    events.push(Added { id, user, note }.into());
    Ok(events)
}

/// Decides the end of a pin; there need be none.
pub fn unpin(current: &Pins, note: &Note, user: UserId) -> Result<Vec<Event>, CannotUnpin> {
    let note = note.existing().filter(|note| note.author == user).ok_or(CannotUnpin::NoSuchNote)?.id;
    let stands = current.notes.contains(&note);
    Ok(if stands { vec![Removed { user, note }.into()] } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{a_note, id, user};

    fn note(n: u8) -> Note {
        a_note(|note| note.id = NoteId(id(n)))
    }

    fn try_pin(current: &mut Pins, n: u8, gone: &[NoteId]) -> Result<(), CannotPin> {
        let events = pin(current, &note(n), user(1), PinId(id(n)), gone, 2)?;
        events.iter().for_each(|event| current.apply(event));
        Ok(())
    }

    #[test]
    fn as_many_are_pinned_as_may_be_and_what_has_gone_makes_room() {
        let mut pins = Pins::default();
        assert_eq!(try_pin(&mut pins, 1, &[]), Ok(()));
        assert_eq!(try_pin(&mut pins, 1, &[]), Err(CannotPin::AlreadyPinned));
        assert_eq!(try_pin(&mut pins, 2, &[]), Ok(()));
        assert_eq!(try_pin(&mut pins, 3, &[]), Err(CannotPin::LimitExceeded));
        assert_eq!(try_pin(&mut pins, 3, &[NoteId(id(1))]), Ok(()));
        assert_eq!(pins.notes, [NoteId(id(2)), NoteId(id(3))]);
        unpin(&pins, &note(2), user(1)).unwrap().iter().for_each(|event| pins.apply(event));
        assert_eq!(unpin(&pins, &note(2), user(1)), Ok(Vec::new()));
        assert_eq!(pins.notes, [NoteId(id(3))]);
    }

    #[test]
    fn only_notes_of_ones_own_are_pinned() {
        let pins = Pins::default();
        let of_another = pin(&pins, &note(1), user(2), PinId(id(1)), &[], 2);
        assert_eq!(of_another, Err(CannotPin::NoSuchNote));
        assert_eq!(unpin(&pins, &note(1), user(2)), Err(CannotUnpin::NoSuchNote));
        assert_eq!(unpin(&pins, &Note::default(), user(1)), Err(CannotUnpin::NoSuchNote));
    }
}
