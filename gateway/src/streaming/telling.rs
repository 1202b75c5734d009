//! One note as text for many viewers: made once for all who see the same of it.

use std::collections::HashMap;
use std::sync::Arc;

use domain::emoji::Reaction;
use domain::policy::{self, Between, Company, Place, may_see};
use domain::{NoteId, UserId};
use projections::World;
use projections::world::Theirs;

use super::listeners::Eyes;
use crate::json::{self, Look};

/// Notes that may hang on a note one behind the other: what it passes on, what that passes on, and so on.
const MAX_CHAIN: usize = 8;

/// What viewers did with the notes that others pass on to them.
#[derive(Debug, Default)]
pub struct Own {
    pub reactions: HashMap<(UserId, NoteId), Reaction>,
    pub votes: HashMap<(UserId, NoteId), Vec<u32>>,
}

/// A note to be told.
pub struct Telling<'w> {
    look: Look<'w>,
    /// As loaded for nobody in particular.
    world: &'w World,
    own: &'w Own,
    /// The note and all that hangs on it.
    family: Vec<NoteId>,
    /// The notes that it passes on.
    chain: Vec<NoteId>,
    made: HashMap<View, Option<Arc<str>>>,
}

/// All in which the text for one viewer differs from that for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct View {
    /// For each of the family.
    sees: Vec<bool>,
    /// For each of the chain.
    reactions: Vec<Option<Reaction>>,
    votes: Vec<Option<Vec<u32>>>,
}

impl<'w> Telling<'w> {
    pub fn new(look: Look<'w>, world: &'w World, own: &'w Own, note: NoteId) -> Self {
        let chain = chain(world, note);
        let mut family = vec![note];
        family.extend(&chain);
        let answered = |id: &NoteId| Some(world.shell(*id)?.reply?.id);
        family.extend(family.iter().filter_map(answered).collect::<Vec<_>>());
        Self { look, world, own, family, chain, made: HashMap::new() }
    }

    /// The JSON text for a viewer; none when they may not see the note.
    pub fn text(&mut self, eyes: &Eyes<'_>) -> Option<Arc<str>> {
        let view = self.view(eyes);
        if !view.sees.first().is_some_and(|seen| *seen) {
            return None;
        }
        if let Some(made) = self.made.get(&view) {
            return made.clone();
        }
        let made = self.make(eyes, view.clone());
        self.made.insert(view, made.clone());
        made
    }

    fn view(&self, eyes: &Eyes<'_>) -> View {
        let reaction = |id: &NoteId| self.own.reactions.get(&(eyes.viewer?, *id)).cloned();
        let votes = |id: &NoteId| self.own.votes.get(&(eyes.viewer?, *id)).cloned();
        View {
            sees: self.family.iter().map(|id| sees(self.world, eyes, *id)).collect(),
            reactions: self.chain.iter().map(reaction).collect(),
            votes: self.chain.iter().map(votes).collect(),
        }
    }

    fn make(&self, eyes: &Eyes<'_>, view: View) -> Option<Arc<str>> {
        let mut theirs = Theirs::default();
        for id in &self.family {
            let author = self.world.shell(*id).map(|shell| shell.author);
            theirs.follows.extend(author.and_then(|author| Some((author, eyes.following(author)?))));
        }
        for ((id, reaction), votes) in self.chain.iter().zip(view.reactions).zip(view.votes) {
            theirs.reactions.extend(reaction.map(|reaction| (*id, reaction)));
            theirs.votes.extend(votes.map(|votes| (*id, votes)));
        }
        let world = self.world.in_front_of(eyes.viewer, &self.family, theirs);
        let note = json::note::note(&self.look, &world, *self.family.first()?)?;
        to_text(&note)
    }
}

/// Whether somebody may see a note of this world.
pub fn sees(world: &World, eyes: &Eyes<'_>, note: NoteId) -> bool {
    world.facts(note).is_some_and(|facts| {
        let between = Between { viewer_follows_author: eyes.follows(facts.author) };
        may_see(eyes.viewer, &facts, between, world.now)
    })
}

/// Whether somebody who looks there wants a note of this world.
pub fn wants(world: &World, eyes: &Eyes<'_>, note: &Company, place: Place) -> bool {
    policy::wants(eyes.viewer, note, place, |user| {
        let host = world.user(user).and_then(|user| user.host.as_deref());
        eyes.stance(user, host, world.now)
    })
}

/// The notes that a note passes on, one behind the other.
pub fn chain(world: &World, note: NoteId) -> Vec<NoteId> {
    let renoted = |id: &NoteId| Some(world.shell(*id)?.renote?.id);
    std::iter::successors(renoted(&note), renoted).take(MAX_CHAIN).collect()
}

/// An entity as JSON text.
pub fn to_text(entity: &impl serde::Serialize) -> Option<Arc<str>> {
    match serde_json::to_string(entity) {
        Ok(text) => Some(text.into()),
        Err(error) => {
            tracing::error!(%error, "an entity has no JSON");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listeners::tests::visitor;
    use super::super::listeners::{Bearings, Listeners, mailbox};
    use super::*;
    use crate::json::note::tests::{note_id as note, note_of, now, person, to_parent, user_id as user};
    use crate::presence::Presence;
    use domain::FollowId;
    use domain::follow::Notify;
    use domain::note::Visibility;
    use projections::world::{FollowingRow, NoteRow};
    use serde_json::Value;
    use uuid::Uuid;

    const AUTHOR: u8 = 1;
    const ANSWERED: u8 = 2;

    fn written(id: u8, author: u8, visibility: Visibility) -> NoteRow {
        note_of(id, author, |note| note.visibility = visibility)
    }

    fn world(notes: [NoteRow; 2]) -> World {
        World::of(None, now(), notes, [person(AUTHOR), person(ANSWERED)])
    }

    /// People 10 to 19, of whom the even ones follow whom the note answers.
    fn listeners() -> Listeners {
        let mut listeners = Listeners::default();
        let following = FollowingRow { id: FollowId(Uuid::nil()), notify: Notify::None, with_replies: false };
        for n in 10..20 {
            listeners.enter(visitor(Some(user(n))), mailbox(1).0);
            let follows = (n % 2 == 0).then_some((user(ANSWERED), following)).into_iter().collect();
            listeners.loaded(user(n), Bearings { follows, ..Bearings::default() });
        }
        listeners
    }

    fn told(telling: &mut Telling<'_>, listeners: &Listeners, n: u8) -> Option<Value> {
        let text = telling.text(&listeners.eyes(Some(user(n))))?;
        Some(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_note_is_made_once_for_all_who_see_the_same() {
        let answered = written(100, ANSWERED, Visibility::Followers);
        let mut reply = written(101, AUTHOR, Visibility::Home);
        reply.reply = to_parent(100, ANSWERED);
        let (world, own, presence, listeners) =
            (world([answered, reply]), Own::default(), Presence::default(), listeners());
        let look = Look { origin: "https://a.example", presence: &presence, now: now() };
        let mut telling = Telling::new(look, &world, &own, note(101));
        for n in 10..20 {
            let told = told(&mut telling, &listeners, n).unwrap();
            assert_eq!(told["text"], "text 101");
            let expected = if n % 2 == 0 { Value::from("text 100") } else { Value::Null };
            assert_eq!(told["reply"]["text"], expected, "{n}");
            assert_eq!(told["reply"]["isHidden"].as_bool(), (n % 2 == 1).then_some(true), "{n}");
        }
        assert_eq!(telling.made.len(), 2);
        let first = telling.text(&listeners.eyes(Some(user(10)))).unwrap();
        let other = telling.text(&listeners.eyes(Some(user(12)))).unwrap();
        assert!(Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn who_may_not_see_a_note_is_told_nothing() {
        let notes =
            [written(100, ANSWERED, Visibility::Followers), written(101, AUTHOR, Visibility::Specified)];
        let (world, own, presence, listeners) =
            (world(notes), Own::default(), Presence::default(), listeners());
        let look = Look { origin: "https://a.example", presence: &presence, now: now() };
        let mut followers = Telling::new(look, &world, &own, note(100));
        assert!(told(&mut followers, &listeners, 10).is_some());
        assert!(told(&mut followers, &listeners, 11).is_none());
        assert!(followers.text(&listeners.eyes(None)).is_none());
        let mut direct = Telling::new(look, &world, &own, note(101));
        assert!(told(&mut direct, &listeners, 10).is_none());
        assert!(told(&mut direct, &listeners, AUTHOR).is_some());
    }

    #[test]
    fn a_renote_shows_each_viewer_their_own_reaction() {
        let renoted = written(100, ANSWERED, Visibility::Public);
        let mut renote = written(101, AUTHOR, Visibility::Public);
        renote.text = None;
        renote.renote = to_parent(100, ANSWERED);
        let reaction = Reaction::fallback();
        let own = Own {
            reactions: [10, 11].map(|n| ((user(n), note(100)), reaction.clone())).into(),
            votes: HashMap::new(),
        };
        let (world, presence, listeners) = (world([renoted, renote]), Presence::default(), listeners());
        let look = Look { origin: "https://a.example", presence: &presence, now: now() };
        let mut telling = Telling::new(look, &world, &own, note(101));
        for n in 10..20 {
            let told = told(&mut telling, &listeners, n).unwrap();
            let mine = told["renote"].get("myReaction").and_then(Value::as_str);
            assert_eq!(mine, (n < 12).then_some(reaction.as_str()), "{n}");
        }
        assert_eq!(telling.made.len(), 2);
    }
}
