//! What pages show, kept in memory: a page whose facts are known costs no statement.
//!
//! # Why it is never stale
//!
//! Read tables are written by many projectors, each at its own position, in this process or another. A reader
//! is owed all that the position says which those have passed that facts are loaded from ([`Standing::at`]): a writer
//! waited for it before it was answered. So:
//!
//! 1. *Before a page is read*, the log is taken in up to that position ([`Cache::reading`]), in order and
//!    without gaps: what an event changes is forgotten. Where the end of the log in memory doesn't reach back
//!    far enough, everything is forgotten. So what is known (`heard`) is never behind what the reader is owed.
//! 2. *What is missing is loaded* by the same statements as ever. All that was heard when the statement began
//!    was in the tables by then, since nothing is heard that some projector hasn't passed. So what was loaded
//!    has everything up to `heard`, and perhaps more. What is missing on several pages at once is loaded by one
//!    statement ([`together`]), which begins after all of them were read as far.
//! 3. *It is kept only* if nothing that was heard since has changed it ([`shelf`] remembers the last changes,
//!    and takes those that it has forgotten for changes). What it has beyond `heard` does no harm: the events
//!    are still to be heard, and it is forgotten then.
//!
//! Where several processes answer writers, a reader is also owed what another process has told, which this one may
//! not have heard of. There, each page first asks the log for its end, and memory is used only by who gets there in
//! time. That is one small statement; a process with a database of its own needs none.
//!
//! By 2 and 3 an entry has, at any time, everything up to `heard`; by 1 that is enough for whoever is handed it.
//!
//! What an event changes is worked out from the event ([`touch`]), and only where that is certain. Where the event
//! says what is there from now on, that is kept at once: a note that was just written costs no statement. A count
//! that was loaded says up to where in the log it goes, so that nothing is counted twice. Each shelf
//! names the projectors whose tables it is loaded from. An event that one of them hears, and that `touch` has no
//! line for, empties the shelf; so does one that can't be read any more. A test reads the tables out of the
//! statements, another compares every fact of random lives with what the tables say.
//!
//! All of this stands on what the tables have not going back. They do after a crash of the database, when one of
//! these projectors is stopped or made anew, and when tables that were built again take the place of others. So
//! nothing is handed out or kept while [`Standing::holds`] says no, and everything is forgotten when it says yes
//! again, or the [`Standing::doubts`] have moved. What befalls other projectors makes no difference.
//!
//! Nobody's words outlive them here: `user.erased` empties every shelf, and the log is followed though nobody
//! reads ([`Cache::follow`]). Nothing that depends on the time is kept, but what it depends on is.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::decoration::Worn;
use domain::emoji::Reaction;
use domain::log::{EventLog, Position, Recorded};
use domain::mute::Mute;
use domain::policy::Viewer;
use domain::{ChannelId, DecorationId, FileId, ListId, NoteId, UserId};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::decoration::DecorationRow;
use crate::hydrate::{self, Wanted};
use crate::relation::{self, Near};
use crate::role::{Given, RoleRow};
use crate::runtime::{Projections, Standing};
use crate::timeline::{Lanes, People};
use crate::world::{ChannelRow, FileRow, NoteRow, RelationRow, UserRow, World};

pub(crate) mod shelf;
mod together;
mod touch;

use shelf::Shelf;

/// What each kind may take of the memory that is given, in percent.
const OF_NOTES: usize = 40;
const OF_LANES: usize = 17;
const OF_USERS: usize = 8;
const OF_NEAR: usize = 8;
const OF_FILES: usize = 6;
const OF_FOLLOWED: usize = 4;
/// Three kinds.
const OF_VIEWERS: usize = 2;
/// Eleven kinds.
const OF_FEW: usize = 1;

/// Where other processes write, too, memory is used while this one is so little behind the end of the log, in
/// positions, and gets there so soon.
const NEAR: u64 = 1_000;
const NEAR_WITHIN: Duration = Duration::from_millis(100);
/// How long nothing is heard at most of what nobody reads.
const FOLLOWED_EVERY: Duration = Duration::from_secs(1);

/// The projectors whose tables facts are loaded from.
pub(crate) const SOURCES: [&str; 15] = [
    "users",
    "notes",
    "reactions",
    "follows",
    "blocks",
    "mutes",
    "memos",
    "instance",
    "roles",
    "decorations",
    "drive",
    "channels",
    "lists",
    "clips",
    "votes",
];

/// Of these, those that say what people are to each other.
const OF_RELATIONS: [&str; 4] = ["follows", "blocks", "mutes", "memos"];

/// What is kept, each kind by itself.
pub(crate) struct Shelves {
    /// Without what is a viewer's own, the rules of the author and votes.
    pub notes: Shelf<NoteId, NoteRow>,
    /// Without roles and decorations.
    pub users: Shelf<UserId, UserRow>,
    pub files: Shelf<FileId, FileRow>,
    pub channels: Shelf<ChannelId, ChannelRow>,
    pub conditional: Shelf<(), Arc<[Arc<RoleRow>]>>,
    pub given: Shelf<UserId, Arc<[Given]>>,
    pub decorations: Shelf<DecorationId, Arc<DecorationRow>>,
    pub votes: Shelf<NoteId, Arc<[(usize, i64)]>>,
    /// What people and all others are to each other, unless it is too many.
    pub near: Shelf<UserId, Near>,
    /// How many are too many.
    pub max_near: usize,
    pub relations: Shelf<(UserId, UserId), RelationRow>,
    /// For notes to which many reacted.
    pub my_reactions: Shelf<(UserId, NoteId), Reaction>,
    pub my_votes: Shelf<(UserId, NoteId), Arc<[u32]>>,
    pub muted_threads: Shelf<(UserId, NoteId), ()>,
    /// Who mutes any thread at all.
    pub mute_threads: Shelf<UserId, ()>,
    pub muted_channels: Shelf<(UserId, ChannelId), Mute>,
    /// Who mutes any channel at all.
    pub mute_channels: Shelf<UserId, ()>,
    /// Whom people follow, who is in lists and which channels people follow, unless it is too many.
    pub followed: Shelf<UserId, People>,
    pub members: Shelf<ListId, People>,
    pub channels_followed: Shelf<UserId, Arc<[ChannelId]>>,
    pub lanes: Lanes,
}

impl Shelves {
    /// With so much memory at most, in bytes. It is taken when there is so much to show.
    pub fn new(at_most: usize) -> Self {
        let percent = |percent: usize| at_most / 100 * percent;
        let all = crate::projectors();
        let given = |given: &Arc<[Given]>| 64 * given.len();
        let people = |people: &People| 16 + 17 * people.len();
        let dress =
            |row: &Arc<DecorationRow>| 512 + row.definition.url.len() + row.definition.description.len();
        Self {
            notes: Shelf::new(
                &all,
                &["notes", "clips", "reactions"],
                touch::notes,
                weigh_note,
                percent(OF_NOTES),
            )
            .hanging(touch::hangs),
            users: Shelf::new(
                &all,
                &["users", "follows", "notes", "instance"],
                touch::users,
                weigh_user,
                percent(OF_USERS),
            ),
            files: Shelf::new(&all, &["drive"], touch::files, weigh_file, percent(OF_FILES)),
            channels: Shelf::new(&all, &["channels"], touch::channels, weigh_channel, percent(OF_FEW)),
            conditional: Shelf::new(
                &all,
                &["roles"],
                touch::conditional,
                |roles| 64 * roles.len(),
                percent(OF_FEW),
            ),
            given: Shelf::new(&all, &["roles"], touch::given, given, percent(OF_FEW)),
            decorations: Shelf::new(&all, &["decorations"], touch::decorations, dress, percent(OF_FEW)),
            votes: Shelf::new(&all, &["votes"], touch::votes, |counts| 16 * counts.len(), percent(OF_FEW)),
            max_near: relation::MAX_NEAR,
            near: Shelf::new(&all, &OF_RELATIONS, touch::near, weigh_near, percent(OF_NEAR)),
            relations: Shelf::new(&all, &OF_RELATIONS, touch::relations, weigh_relation, percent(OF_VIEWERS)),
            my_reactions: Shelf::new(
                &all,
                &["reactions"],
                touch::my_reactions,
                |reaction| 48 + reaction.as_str().len(),
                percent(OF_VIEWERS),
            ),
            my_votes: Shelf::new(
                &all,
                &["votes"],
                touch::my_votes,
                |votes| 32 + 4 * votes.len(),
                percent(OF_FEW),
            ),
            muted_threads: Shelf::new(&all, &["mutes"], touch::muted_threads, |()| 16, percent(OF_VIEWERS)),
            mute_threads: Shelf::new(&all, &["mutes"], touch::mute_threads, |()| 0, percent(OF_FEW)),
            muted_channels: Shelf::new(&all, &["channels"], touch::muted_channels, |_| 32, percent(OF_FEW)),
            mute_channels: Shelf::new(&all, &["channels"], touch::mute_channels, |()| 0, percent(OF_FEW)),
            followed: Shelf::new(&all, &["follows"], touch::followed, people, percent(OF_FOLLOWED)),
            members: Shelf::new(&all, &["lists"], touch::members, people, percent(OF_FEW)),
            channels_followed: Shelf::new(
                &all,
                &["channels"],
                touch::channels_followed,
                |ids| 16 + 16 * ids.len(),
                percent(OF_FEW),
            ),
            lanes: Lanes::new(percent(OF_LANES)),
        }
    }

    fn hear(&self, event: &Recorded) {
        let Self {
            notes,
            users,
            files,
            channels,
            conditional,
            given,
            decorations,
            votes,
            near,
            max_near: _,
            relations,
            my_reactions,
            my_votes,
            muted_threads,
            mute_threads,
            muted_channels,
            mute_channels,
            followed,
            members,
            channels_followed,
            lanes,
        } = self;
        notes.hear(event);
        users.hear(event);
        files.hear(event);
        channels.hear(event);
        conditional.hear(event);
        given.hear(event);
        decorations.hear(event);
        votes.hear(event);
        near.hear(event);
        relations.hear(event);
        my_reactions.hear(event);
        my_votes.hear(event);
        muted_threads.hear(event);
        mute_threads.hear(event);
        muted_channels.hear(event);
        mute_channels.hear(event);
        followed.hear(event);
        members.hear(event);
        channels_followed.hear(event);
        lanes.hear(event);
    }

    fn clear(&self) {
        let Self {
            notes,
            users,
            files,
            channels,
            conditional,
            given,
            decorations,
            votes,
            near,
            max_near: _,
            relations,
            my_reactions,
            my_votes,
            muted_threads,
            mute_threads,
            muted_channels,
            mute_channels,
            followed,
            members,
            channels_followed,
            lanes,
        } = self;
        notes.clear();
        users.clear();
        files.clear();
        channels.clear();
        conditional.clear();
        given.clear();
        decorations.clear();
        votes.clear();
        near.clear();
        relations.clear();
        my_reactions.clear();
        my_votes.clear();
        muted_threads.clear();
        mute_threads.clear();
        muted_channels.clear();
        mute_channels.clear();
        followed.clear();
        members.clear();
        channels_followed.clear();
        lanes.clear();
    }
}

/// Facts in memory over the read tables. Cheap to clone: every clone is the same.
#[derive(Clone)]
pub struct Cache {
    pool: PgPool,
    projections: Projections,
    /// The log, where other processes answer writers, too.
    shared: Option<Arc<dyn EventLog>>,
    kept: Arc<Kept>,
}

/// Facts, and up to where the log was taken in.
pub(crate) struct Kept {
    pub shelves: Shelves,
    heard: Mutex<Heard>,
}

struct Heard {
    /// Nothing is known before the first time, or while it isn't to be trusted.
    at: Option<Position>,
    doubts: u64,
}

impl Kept {
    pub fn new(at_most: usize) -> Self {
        Self { shelves: Shelves::new(at_most), heard: Mutex::new(Heard { at: None, doubts: 0 }) }
    }

    /// Takes in the log as far as facts are; says up to where it is known, none while they don't stand. `between`
    /// has the events between two positions, if they are in memory.
    pub fn take_in(
        &self,
        standing: Standing,
        between: impl FnOnce(Position, Position) -> Option<Vec<Arc<Recorded>>>,
    ) -> Option<Position> {
        let Standing { at: to, holds, doubts } = standing;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds {
            if heard.at.take().is_some() {
                self.shelves.clear();
            }
            return None;
        }
        match heard.at.filter(|_| heard.doubts == doubts) {
            Some(at) if at >= to => return Some(at),
            Some(at) => match between(at, to) {
                Some(events) => events.iter().for_each(|event| self.shelves.hear(event)),
                None => self.shelves.clear(),
            },
            None => self.shelves.clear(),
        }
        (heard.at, heard.doubts) = (Some(to), doubts);
        Some(to)
    }
}

impl Cache {
    /// With so much memory at most, in bytes. `shared` is the log where other processes answer writers, too.
    pub fn new(
        pool: PgPool,
        projections: Projections,
        shared: Option<Arc<dyn EventLog>>,
        at_most: usize,
    ) -> Self {
        Self { pool, projections, shared, kept: Arc::new(Kept::new(at_most)) }
    }

    /// Loads a world, as [`crate::hydrate()`] does, with what is in memory.
    pub async fn hydrate(&self, wanted: Wanted, viewer: Viewer, now: DateTime<Utc>) -> sqlx::Result<World> {
        hydrate::from(&self.source().await, wanted, viewer, now).await
    }

    /// Where facts are got from by a page that is read now.
    pub(crate) async fn source(&self) -> Source<'_> {
        let memory = if self.knows_what_others_told().await { self.reading() } else { None };
        Source { pool: &self.pool, memory: memory.map(|at| (self.kept.as_ref(), at)) }
    }

    /// Whether this process knows of all that others may have told writers until now.
    async fn knows_what_others_told(&self) -> bool {
        let Some(log) = &self.shared else { return true };
        let Ok(head) = log.head().await else { return false };
        let is_near = head.0.saturating_sub(self.projections.standing().at.0) <= NEAR;
        is_near && self.projections.wait_to_answer(head, NEAR_WITHIN).await.is_ok()
    }

    /// Takes in what there is to hear. Says up to where all that is kept is known; none when nothing is to be
    /// taken from memory now.
    fn reading(&self) -> Option<Position> {
        self.kept.take_in(self.projections.standing(), |from, to| self.projections.recent(from, to))
    }

    /// Follows the log, so that nothing is kept for longer than it may be, also when nobody reads.
    pub async fn follow(self) {
        let mut advanced = self.projections.advanced();
        // While another projector is being filled, nothing is told of those that go on.
        while !matches!(timeout(FOLLOWED_EVERY, advanced.changed()).await, Ok(Err(_))) {
            self.reading();
        }
    }
}

/// Where a page gets its facts from: the read tables, with what is in memory before them.
#[derive(Clone, Copy)]
pub(crate) struct Source<'c> {
    pub pool: &'c PgPool,
    /// And up to which position it is known.
    pub memory: Option<(&'c Kept, Position)>,
}

impl<'c> Source<'c> {
    /// The read tables alone.
    pub fn tables(pool: &'c PgPool) -> Self {
        Self { pool, memory: None }
    }

    /// What is known of these keys, and loads the rest. Nothing is loaded where nothing is missing.
    pub async fn facts<K, V, L>(
        &self,
        shelf: impl FnOnce(&'c Shelves) -> &'c Shelf<K, V>,
        keys: impl IntoIterator<Item = K>,
        load: impl FnOnce(Vec<K>) -> L,
    ) -> sqlx::Result<HashMap<K, V>>
    where
        K: Hash + Eq + Copy + 'c,
        V: Clone + 'c,
        L: Future<Output = sqlx::Result<HashMap<K, V>>>,
    {
        let Some((kept, at)) = self.memory else {
            let keys: Vec<K> = keys.into_iter().collect();
            return if keys.is_empty() { Ok(HashMap::new()) } else { load(keys).await };
        };
        let shelf = shelf(&kept.shelves);
        let (mut found, missing, begun) = shelf.get(keys, at);
        if !missing.is_empty() {
            let loaded = shelf.load(missing.clone(), begun, load).await?;
            found.extend(missing.into_iter().filter_map(|key| Some((key, loaded.get(&key)?.clone()))));
        }
        Ok(found)
    }
}

/// What the text beside a note or a person takes without what they wrote: reckoned at once, though it is written when
/// they are first shown. A note's is the names of its fields, three ids, the moment and who may see it.
const SHOWN_OF_NOTE_BYTES: usize = 288;
const SHOWN_OF_USER_BYTES: usize = 512;

fn memory(text: Option<&String>) -> usize {
    text.map_or(0, String::capacity)
}

fn weigh_note(note: &NoteRow) -> usize {
    let texts = [&note.text, &note.cw, &note.uri].map(|text| memory(text.as_ref())).iter().sum::<usize>();
    let words = note.tags.iter().chain(&note.emojis).map(|word| 24 + word.capacity()).sum::<usize>();
    let choices =
        note.poll.iter().flat_map(|poll| &poll.choices).map(|choice| 24 + choice.len()).sum::<usize>();
    let ids = 16 * (note.mentions.len() + note.visible_to.len() + note.files.len());
    let shown = SHOWN_OF_NOTE_BYTES + texts + words + 2 * ids;
    let written = size_of::<crate::world::Written>() + texts + words + choices + ids;
    size_of::<NoteRow>() + written + shown + note.reactions.weight()
}

fn weigh_user(user: &UserRow) -> usize {
    let profile = &user.profile;
    let texts = [&profile.name, &profile.description, &profile.location, &profile.birthday]
        .map(|text| memory(text.as_ref()));
    let fields = profile.fields.iter().map(|field| 48 + field.name.len() + field.value.len()).sum::<usize>();
    let hosts = profile.muted_instances.iter().map(|host| 24 + host.len()).sum::<usize>();
    let worn = profile.avatar_decorations.len() * size_of::<Worn>();
    // The other lists of a profile are short, or few have them.
    let rest = 1_024 + SHOWN_OF_USER_BYTES + user.moderation_note.len() + user.username.len();
    size_of::<UserRow>() + texts.iter().sum::<usize>() + fields + hosts + worn + rest
}

fn weigh_file(file: &FileRow) -> usize {
    let texts = [&file.comment, &file.blurhash, &file.thumbnail].map(|text| memory(text.as_ref()));
    let more = file.name.len() + file.media_type.len() + file.md5.len() + file.key.len();
    size_of::<FileRow>() + texts.iter().sum::<usize>() + more
}

fn weigh_relation(row: &RelationRow) -> usize {
    size_of::<(UserId, RelationRow)>() + memory(row.memo.as_ref())
}

fn weigh_near(near: &Near) -> usize {
    // A table is an eighth empty and more.
    near.iter().flat_map(|near| near.values()).map(|row| weigh_relation(row) * 3 / 2).sum()
}

fn weigh_channel(channel: &ChannelRow) -> usize {
    let texts = channel.name.len() + memory(channel.description.as_ref()) + channel.color.len();
    size_of::<ChannelRow>() + texts + 16 * channel.pinned.len()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Debug;

    use super::*;
    use crate::testing::{
        MemoryLog, PEOPLE, Places, SOON, Statements, Story, a_long_life, eventually, forget_checkpoints,
        held, take_in, user, with,
    };
    use crate::{Mode, Projector, hydrate, projectors};
    use domain::note::Parent;
    use domain::{Event, UserId};
    use futures_util::future::try_join_all;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    /// Random lives that are compared, and how many events lie between two looks.
    const LIVES: usize = 5;
    const STEP: usize = 13;
    const MEMORY: usize = 1 << 28;

    /// Everything in a world, in an order.
    fn told(world: &World) -> Vec<String> {
        fn of<K: Debug, V: Debug>(facts: &HashMap<K, V>) -> Vec<String> {
            let mut told: Vec<String> = facts.iter().map(|fact| format!("{fact:?}")).collect();
            told.sort_unstable();
            told
        }
        // How far counts were known to go when they were loaded makes no difference.
        let unheard = |(id, note): (&NoteId, &NoteRow)| {
            let mut note = note.clone();
            note.reactions.to = crate::reaction::NOTHING;
            (*id, note)
        };
        let mut all = of(&world.notes.iter().map(unheard).collect());
        let uncounted =
            |(id, user): (&UserId, &UserRow)| (*id, UserRow { counted_to: Position::START, ..user.clone() });
        all.extend(of(&world.users.iter().map(uncounted).collect()));
        all.extend(of(&world.files));
        all.extend(of(&world.channels));
        // Who is nothing to the viewer may be told as such.
        all.extend(of(&world.relations));
        all.extend(of(&world.my_reactions));
        all.extend(of(&world.my_votes));
        all
    }

    /// What anybody may ask for after these events.
    fn wanted(events: &[Arc<Recorded>]) -> Wanted {
        let mut wanted = Wanted::users((1..=PEOPLE).map(user));
        for event in events.iter().filter_map(|event| event.event.as_ref()) {
            match event {
                Event::NoteCreated(note) => wanted.notes.push(note.id),
                Event::FileAdded(file) => wanted.files.push(file.id),
                _ => (),
            }
        }
        wanted
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_in_memory_is_what_the_tables_say_at_any_time_of_random_lives(pool: PgPool) {
        let mut runner = TestRunner::deterministic();
        let mut known = 0;
        for life in 0..LIVES {
            let acts = a_long_life().new_tree(&mut runner).unwrap().current();
            let mut story = Story::new(&pool);
            let events = story.live_and_end(&acts, 2);
            let mut kept = Kept::new(MEMORY);
            if life % 2 == 1 {
                kept.shelves.max_near = 1;
            }
            let mut places = Places::new(&pool, &events);
            let mut at = 0;
            while at < events.len() {
                // Some are further than others, while pages are read.
                let next = (at + STEP).min(events.len());
                places.go_to(|n| if n % 2 == 0 { at + n % (STEP + 1) } else { at }).await;
                if at > 0 {
                    let memory = Some((&kept, take_in(&kept, &events, at)));
                    let source = Source { pool: &pool, memory };
                    let page = |viewer| hydrate::from(&source, wanted(&events[..at]), viewer, story.now());
                    tokio::try_join!(page(None), page(Some(user(1))), page(Some(user(3)))).unwrap();
                }
                places.go_to(|_| next).await;
                at = next;
                let memory = Some((&kept, take_in(&kept, &events, at)));
                let source = Source { pool: &pool, memory };
                // All of them at once, so that they load together.
                let page = |viewer| hydrate::from(&source, wanted(&events[..at]), viewer, story.now());
                let viewers = [None, Some(user(1)), Some(user(2)), Some(user(3))];
                let cached = try_join_all(viewers.map(page)).await.unwrap();
                for (viewer, cached) in viewers.into_iter().zip(cached) {
                    let wanted = wanted(&events[..at]);
                    let loaded = hydrate(&pool, wanted, viewer, story.now()).await.unwrap();
                    assert_eq!(told(&cached), told(&loaded), "{viewer:?} after {:#?}", events[at - 1]);
                    known += told(&cached).len();
                }
            }
            story.empty().await;
            forget_checkpoints(&pool).await;
        }
        assert!(known > LIVES * 1_000, "there was little to compare: {known}");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_page_that_is_known_costs_no_statement(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 1..=3 {
            story.person(n, &format!("user{n}"));
        }
        let first = story.note(1, |_| ());
        let reply = story.note(2, |note| note.reply = Some(Parent { id: first, author: user(1) }));
        let renote = story.renote(3, reply, 2);
        story.react(3, reply, 2, "🎉");
        story.project().await;
        let (kept, events) = (Kept::new(MEMORY), story.log.all());
        let source = Source { pool: &pool, memory: Some((&kept, take_in(&kept, &events, events.len()))) };
        let page = || Wanted::notes([first, renote]);
        hydrate::from(&source, page(), Some(user(3)), story.now()).await.unwrap();
        let statements = Statements::default();
        let _counting = statements.listen();
        for (viewer, cost) in [(Some(user(3)), 0), (None, 0), (Some(user(2)), 3), (Some(user(2)), 0)] {
            let world = hydrate::from(&source, page(), viewer, story.now()).await.unwrap();
            assert_eq!((world.notes.len(), statements.take()), (3, cost), "{viewer:?}");
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_note_that_was_counted_when_its_author_was_loaded_is_not_counted_again(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "a");
        story.note(1, |_| ());
        story.project().await;
        let (kept, heard) = (Kept::new(MEMORY), story.log.all().len());
        story.note(1, |_| ());
        // The tables are further than what was heard.
        story.project().await;
        story.note(1, |_| ());
        let events = story.log.all();
        for (heard, counted) in [(heard, 2), (heard + 1, 2), (events.len(), 3)] {
            let memory = Some((&kept, take_in(&kept, &events, heard)));
            let source = Source { pool: &pool, memory };
            let world = hydrate::from(&source, Wanted::users([user(1)]), None, story.now()).await.unwrap();
            assert_eq!(world.users[&user(1)].notes, counted, "after {heard} events");
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn nothing_is_taken_from_memory_while_the_tables_may_be_older(pool: PgPool) {
        let kept = Kept::new(MEMORY);
        let (events, later) = (|_, _| Some(Vec::new()), Position(2));
        let standing = |at, holds, doubts| Standing { at: Position(at), holds, doubts };
        assert_eq!(kept.take_in(standing(1, true, 0), events), Some(Position(1)));
        let keep = |at| {
            let begun = kept.shelves.muted_threads.get([(user(1), domain::NoteId(uuid::Uuid::nil()))], at).2;
            kept.shelves.muted_threads.put(begun, [((user(1), domain::NoteId(uuid::Uuid::nil())), Some(()))]);
        };
        let is_known = |at| {
            let key = (user(1), domain::NoteId(uuid::Uuid::nil()));
            kept.shelves.muted_threads.get([key], at).1.is_empty()
        };
        keep(Position(1));
        assert_eq!(kept.take_in(standing(2, true, 0), events), Some(later));
        assert!(is_known(later));
        assert_eq!(kept.take_in(standing(2, true, 1), events), Some(later));
        assert!(!is_known(later), "somebody doubted it");
        keep(later);
        assert_eq!(kept.take_in(standing(2, false, 1), events), None);
        assert_eq!(kept.take_in(standing(2, true, 1), events), Some(later));
        assert!(!is_known(later), "it was not to be trusted for a while");
        keep(later);
        assert_eq!(kept.take_in(standing(3, true, 1), |_, _| None), Some(Position(3)));
        assert!(!is_known(Position(3)), "nobody knows what happened since");
        drop(pool);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_live_cache_follows_the_projectors(pool: PgPool) {
        let log = Arc::new(MemoryLog::default());
        let mut story = Story::new(&pool);
        story.log = log.clone();
        let projections = Projections::start(&pool, log, projectors(), Mode::Project);
        let cache = Cache::new(pool.clone(), projections.clone(), None, MEMORY);
        story.person(1, "a");
        let note = story.note(1, |_| ());
        projections.settle().await.unwrap();
        let reactions = async || {
            let world = cache.hydrate(Wanted::notes([note]), Some(user(1)), story_now()).await.unwrap();
            world.notes[&note].reactions.counts.len()
        };
        assert_eq!(reactions().await, 0);
        story.react(2, note, 1, "🎉");
        projections.settle().await.unwrap();
        assert_eq!(reactions().await, 1);
        // Not by an event.
        sqlx::query("delete from read.reactions").execute(&pool).await.unwrap();
        assert_eq!(reactions().await, 1);
        projections.shared_doubt();
        assert_eq!(reactions().await, 0);
        projections.stop().await;
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn another_read_model_that_is_built_again_leaves_memory_as_it_is(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "a");
        let note = story.note(1, |note| note.tags = vec!["a".to_owned()]);
        let before = Projections::start(&pool, story.log.clone(), projectors(), Mode::Project);
        before.settle().await.unwrap();
        before.stop().await;

        let (go, later) = held("hashtags", 1);
        let projections = Projections::start(&pool, story.log.clone(), with(later), Mode::Project);
        let cache = Cache::new(pool.clone(), projections.clone(), None, MEMORY);
        eventually(async || projections.status().iter().any(|status| status.anew)).await;
        let reactions = async || {
            let world = cache.hydrate(Wanted::notes([note]), None, story_now()).await.unwrap();
            world.notes[&note].reactions.counts.len()
        };
        assert_eq!(reactions().await, 0);
        story.react(2, note, 1, "🎉");
        projections.wait_to_answer(story.log.head().await.unwrap(), SOON).await.unwrap();
        assert_eq!(reactions().await, 1);
        // Not by an event.
        sqlx::query("delete from read.reactions").execute(&pool).await.unwrap();
        assert_eq!(reactions().await, 1, "it is in memory");
        // The log is followed, though nobody reads.
        let following = tokio::spawn(cache.clone().follow());
        story.react(3, note, 1, "🎉");
        let end = story.log.head().await.unwrap();
        eventually(async || cache.kept.heard.lock().unwrap().at == Some(end)).await;
        following.abort();
        assert!(projections.status().iter().any(|status| status.anew));
        drop(go);
        projections.stop().await;
    }

    fn story_now() -> DateTime<Utc> {
        crate::testing::at(crate::testing::NOW + 1_000_000)
    }

    /// The tables that statements name belong to the projectors that a shelf names.
    #[sqlx::test(migrations = "../migrations")]
    async fn every_table_that_facts_are_loaded_from_is_listened_to(pool: PgPool) {
        let all = projectors();
        let kinds_of = |table: &str| {
            let owner = all.iter().find(|p: &&Arc<dyn Projector>| p.tables().contains(&table)).unwrap();
            assert!(SOURCES.contains(&owner.name()), "{table} belongs to {}", owner.name());
            owner.kinds().iter().copied().collect::<BTreeSet<_>>()
        };
        let (shelves, statements) = (Shelves::new(MEMORY), Statements::default());
        let _listening = statements.listen();
        let some = uuid::Uuid::from_u128(7);
        let (me, note) = (UserId(some), domain::NoteId(some));
        macro_rules! compared {
            ($($shelf:ident: $load:expr),* $(,)?) => {
                $(
                    let loaded = $load.await;
                    assert!(loaded.is_ok());
                    let named = statements.tables();
                    assert!(!named.is_empty(), stringify!($shelf));
                    let heard: BTreeSet<&str> = shelves.$shelf.kinds().iter().copied().collect();
                    let needed: BTreeMap<&String, BTreeSet<&str>> =
                        named.iter().map(|table| (table, kinds_of(table))).collect();
                    for (table, kinds) in needed {
                        assert!(kinds.is_subset(&heard), "{} reads {table}", stringify!($shelf));
                    }
                )*
            };
        }
        compared! {
            notes: crate::note::by_ids(&pool, &[note]),
            users: crate::user::by_ids(&pool, &[me]),
            files: crate::drive::by_ids(&pool, &[domain::FileId(some)]),
            channels: crate::channel::by_ids(&pool, &[ChannelId(some)]),
            conditional: crate::role::of_people(&pool, &[me]),
            given: crate::role::of_people(&pool, &[me]),
            decorations: crate::decoration::by_ids(&pool, &[DecorationId(some)]),
            votes: crate::poll::counts(&pool, &[note]),
            near: relation::near(&pool, &[me], relation::MAX_NEAR),
            relations: relation::relations(&pool, &[(me, me)]),
            my_reactions: crate::reaction::mine(&pool, &[(me, note)]),
            my_votes: crate::poll::mine(&pool, &[(me, note)]),
            muted_threads: crate::mute::threads(&pool, &[(me, note)]),
            mute_threads: crate::mute::who_mute_threads(&pool, &[me]),
            muted_channels: crate::channel::mutes(&pool, &[(me, ChannelId(some))]),
            mute_channels: crate::channel::who_mute(&pool, &[me]),
            followed: crate::timeline::followed(&pool, &[me]),
            members: crate::timeline::members(&pool, &[ListId(some)]),
            channels_followed: crate::timeline::channels(&pool, &[me]),
        }
    }
}
