//! Reactions: at most one of each person to each note, in the stream `reaction-{note}-{user}`.

use serde::{Deserialize, Serialize};

use crate::emoji::Reaction as Emoji;
use crate::event::Payload;
use crate::ids::{NoteId, ReactionId, UserId};
use crate::log::StreamId;
use crate::note::{Note, ReactionAcceptance};
use crate::{Event, Fold};

/// The stream of what one person thinks of one note.
pub fn stream(note: NoteId, user: UserId) -> StreamId {
    StreamId::new("reaction", format_args!("{note}-{user}"))
}

/// `reaction.added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    pub id: ReactionId,
    pub note: NoteId,
    pub author: UserId,
    pub reactor: UserId,
    pub reaction: Emoji,
}

/// `reaction.removed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub note: NoteId,
    pub author: UserId,
    pub reactor: UserId,
    pub reaction: Emoji,
}

impl Payload for Added {
    fn subject(&self) -> Option<UserId> {
        Some(self.reactor)
    }
}

impl Payload for Removed {
    fn subject(&self) -> Option<UserId> {
        Some(self.reactor)
    }
}

/// The reaction that stands, if any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaction {
    pub current: Option<Emoji>,
}

impl Fold for Reaction {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ReactionAdded(e) => self.current = Some(e.reaction.clone()),
            Event::ReactionRemoved(_) => self.current = None,
            _ => (),
        }
    }
}

/// Why a reaction is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotReact {
    #[error("no such note")]
    NoSuchNote,
    #[error("blocked by its author")]
    Blocked,
    #[error("the note can't be seen")]
    NotVisible,
    #[error("a renote takes no reaction")]
    ToRenote,
    #[error("already reacted so")]
    AlreadyReacted,
}

/// Why a reaction is not taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnreact {
    #[error("no such note")]
    NoSuchNote,
    #[error("not reacted")]
    NotReacted,
}

/// Decides a reaction of somebody who is known to see the note. A different one replaces the one
/// that stands, and a note that takes only likes turns each into the fallback.
pub fn react(
    current: &Reaction,
    note: &Note,
    reactor: UserId,
    id: ReactionId,
    asked: &Emoji,
) -> Result<Vec<Event>, CannotReact> {
    let facts = note.existing().ok_or(CannotReact::NoSuchNote)?;
    if facts.is_pure_renote() {
        return Err(CannotReact::ToRenote);
    }
    let reaction = match facts.reaction_acceptance {
        Some(ReactionAcceptance::LikeOnly) => Emoji::fallback(),
        _ => asked.clone(),
    };
    let (note, author) = (facts.id, facts.author);
    let mut events = Vec::with_capacity(2);
    match &current.current {
        Some(standing) if *standing == reaction => return Err(CannotReact::AlreadyReacted),
        Some(standing) => events.push(Removed { note, author, reactor, reaction: standing.clone() }.into()),
        None => (),
    }
    events.push(Added { id, note, author, reactor, reaction }.into());
    Ok(events)
}

/// Decides the end of the reaction that stands.
pub fn unreact(current: &Reaction, note: &Note, reactor: UserId) -> Result<Vec<Event>, CannotUnreact> {
    let facts = note.existing().ok_or(CannotUnreact::NoSuchNote)?;
    let reaction = current.current.clone().ok_or(CannotUnreact::NotReacted)?;
    Ok(vec![Removed { note: facts.id, author: facts.author, reactor, reaction }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emoji::{Asked, parse};
    use crate::note::Parent;
    use crate::note::tests::{a_note, id, user};

    fn emoji(text: &str) -> Emoji {
        match parse(text) {
            Asked::Unicode(emoji) => emoji,
            Asked::Custom(name) => Emoji::local(&name),
        }
    }

    fn standing(text: &str) -> Reaction {
        Reaction { current: Some(emoji(text)) }
    }

    fn try_react(current: &Reaction, note: &Note, text: &str) -> Result<Reaction, CannotReact> {
        let events = react(current, note, user(2), ReactionId(id(9)), &emoji(text))?;
        let mut after = current.clone();
        events.iter().for_each(|event| after.apply(event));
        Ok(after)
    }

    #[test]
    fn another_reaction_replaces_the_standing_one_and_the_same_is_refused() {
        let note = a_note(|_| ());
        let first = try_react(&Reaction::default(), &note, "👍").unwrap();
        assert_eq!(first, standing("👍"));
        assert_eq!(try_react(&first, &note, "👍"), Err(CannotReact::AlreadyReacted));
        assert_eq!(try_react(&first, &note, "🎉"), Ok(standing("🎉")));
        let events = react(&first, &note, user(2), ReactionId(id(9)), &emoji("🎉")).unwrap();
        assert!(matches!(events[..], [Event::ReactionRemoved(_), Event::ReactionAdded(_)]));
    }

    #[test]
    fn a_note_that_takes_only_likes_turns_every_reaction_into_one() {
        let note = a_note(|n| n.reaction_acceptance = Some(ReactionAcceptance::LikeOnly));
        assert_eq!(try_react(&Reaction::default(), &note, "🎉"), Ok(standing("❤")));
        assert_eq!(try_react(&standing("❤"), &note, "🍣"), Err(CannotReact::AlreadyReacted));
    }

    #[test]
    fn renotes_and_missing_notes_take_none() {
        let renote = a_note(|n| {
            n.text = None;
            n.renote = Some(Parent { id: NoteId(id(3)), author: user(3) });
        });
        assert_eq!(try_react(&Reaction::default(), &renote, "👍"), Err(CannotReact::ToRenote));
        assert_eq!(try_react(&Reaction::default(), &Note::default(), "👍"), Err(CannotReact::NoSuchNote));
    }

    #[test]
    fn only_a_standing_reaction_is_taken_back() {
        let note = a_note(|_| ());
        assert_eq!(unreact(&Reaction::default(), &note, user(2)), Err(CannotUnreact::NotReacted));
        let mut after = standing("👍");
        unreact(&after, &note, user(2)).unwrap().iter().for_each(|event| after.apply(event));
        assert_eq!(after, Reaction::default());
    }
}
