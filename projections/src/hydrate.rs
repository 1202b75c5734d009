//! Loads everything that a page shows, in two rounds whatever its size: the notes with what they
//! answer and pass on (before them what people pinned, where it is shown); then, at once, people, votes and what the
//! viewer is to them.
//!
//! In the statements the list of keys is asked for by a select of its own: what the database expects of a page does not
//! depend on the keys then, and it keeps its plan. To plan took longer than to do it.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::emoji::Reaction;
use domain::mute::Mute;
use domain::policy::{AuthorRules, Viewer};
use domain::{ChannelId, FileId, NoteId, RoleId, UserId, WorkId};
use sqlx::postgres::PgPool;

use crate::cache::Source;
use crate::work::WorkRow;
use crate::world::{NoteRow, RelationRow, World};
use crate::{channel, decoration, drive, mute, note, pin, poll, reaction, relation, role, user, work};

/// What a page is about.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub notes: Vec<NoteId>,
    /// People beside the authors of the notes.
    pub users: Vec<UserId>,
    /// Roles beside those that people have.
    pub roles: Vec<RoleId>,
    /// Files beside those of the notes.
    pub files: Vec<FileId>,
    /// Channels beside those of the notes.
    pub channels: Vec<ChannelId>,
    /// The notes that these people pinned, too.
    pub pins: bool,
    /// The pages that they pinned, too.
    pub pages: bool,
}

impl Wanted {
    pub fn notes(notes: impl IntoIterator<Item = NoteId>) -> Self {
        Self { notes: notes.into_iter().collect(), ..Self::default() }
    }

    pub fn users(users: impl IntoIterator<Item = UserId>) -> Self {
        Self { users: users.into_iter().collect(), ..Self::default() }
    }

    /// People with all that is shown of them in detail.
    pub fn in_detail(users: impl IntoIterator<Item = UserId>) -> Self {
        Self { pins: true, pages: true, ..Self::users(users) }
    }
}

/// Loads a world from the read tables. What is not there is left out of it, and so is a note whose author is
/// not there.
pub async fn hydrate(
    pool: &PgPool,
    wanted: Wanted,
    viewer: Viewer,
    now: DateTime<Utc>,
) -> sqlx::Result<World> {
    from(&Source::tables(pool), wanted, viewer, now).await
}

/// Loads a world from the read tables and what is in memory.
pub(crate) async fn from(
    source: &Source<'_>,
    wanted: Wanted,
    viewer: Viewer,
    now: DateTime<Utc>,
) -> sqlx::Result<World> {
    let pool = source.pool;
    let pins = unless(!wanted.pins || wanted.users.is_empty(), pin::of_people(pool, &wanted.users)).await?;
    let asked = wanted.notes.iter().chain(pins.values().flatten()).copied();
    let mut notes = notes(source, asked.collect()).await?;

    let polls: Vec<NoteId> = notes.values().filter(|note| note.poll.is_some()).map(|note| note.id).collect();
    let mut people = wanted.users;
    people.extend(notes.values().map(|note| note.author));
    // Whose servers they mute is in their own profile.
    people.extend(viewer.filter(|_| !notes.is_empty()));
    people.sort_unstable();
    people.dedup();

    let mut files = wanted.files;
    files.extend(notes.values().flat_map(|note| note.files.iter().copied()));

    let channels = notes.values().filter_map(|note| note.channel).chain(wanted.channels);
    let mut channels: Vec<ChannelId> = channels.collect();
    channels.sort_unstable();
    channels.dedup();

    let (mut users, files, channels, theirs, roles, my_reactions, votes, mine) = tokio::try_join!(
        source.facts(|kept| &kept.users, people.iter().copied(), async |ids| user::by_ids(pool, &ids).await),
        source.facts(|kept| &kept.files, files, async |ids| drive::by_ids(pool, &ids).await),
        source.facts(|kept| &kept.channels, channels, async |ids| channel::by_ids(pool, &ids).await),
        unless(people.is_empty(), role::known(source, &people)),
        unless(wanted.roles.is_empty(), role::by_ids(pool, &wanted.roles, now)),
        my_reactions(source, viewer, &notes),
        source.facts(
            |kept| &kept.votes,
            polls.iter().copied(),
            async |ids| Ok(shared(poll::counts(pool, &ids).await?))
        ),
        Mine::load(source, viewer, &notes, &polls, &people),
    )?;

    users.values_mut().for_each(|user| theirs.give(user, now));
    decoration::dress(source, users.values_mut()).await?;
    let pinned = wanted.pages.then(|| users.values().filter_map(|user| user.profile.pinned_page));
    let pinned: Vec<WorkId> = pinned.into_iter().flatten().collect();
    let pages = unless(pinned.is_empty(), work::by_ids(source.pool, viewer, &pinned)).await?;
    let shown: Vec<FileId> = pages.values().flat_map(WorkRow::files).collect();
    let mut files = files;
    files.extend(unless(shown.is_empty(), drive::by_ids(source.pool, &shown)).await?);
    let me = viewer.and_then(|viewer| users.get(&viewer));
    let muted_hosts = me.iter().flat_map(|me| &me.profile.muted_instances).map(|host| host.to_lowercase());
    let muted_hosts = muted_hosts.collect();
    notes.retain(|_, note| users.contains_key(&note.author));
    for note in notes.values_mut() {
        if let Some(author) = users.get(&note.author) {
            note.rules = AuthorRules::from(author);
        }
        note.votes = vec![0; note.poll.as_ref().map_or(0, |poll| poll.choices.len())];
        for (choice, n) in votes.get(&note.id).iter().flat_map(|votes| votes.iter()) {
            if let Some(slot) = note.votes.get_mut(*choice) {
                *slot = *n;
            }
        }
        note.in_muted_thread = mine.threads.contains(&note.thread);
        note.in_muted_channel =
            places(note).any(|channel| mine.channels.get(&channel).is_some_and(|mute| mute.stands(now)));
    }
    Ok(World {
        viewer,
        now,
        notes,
        users,
        files,
        channels,
        relations: mine.relations,
        my_reactions,
        my_votes: mine.votes,
        roles,
        muted_hosts,
        pins,
        pages,
    })
}

/// The notes of these ids with what they answer and pass on, [`note::DEPTH`] steps up: as far as that is in memory
/// from there, and the rest by one statement, which goes on from what is missing.
async fn notes(source: &Source<'_>, asked: Vec<NoteId>) -> sqlx::Result<HashMap<NoteId, NoteRow>> {
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let Some((kept, at)) = source.memory else { return note::by_ids(source.pool, &asked).await };
    let shelf = &kept.shelves.notes;
    let mut looked: HashSet<NoteId> = HashSet::new();
    let (mut found, mut missing, mut begun) = (HashMap::new(), Vec::new(), None);
    let mut step: Vec<NoteId> = asked.iter().copied().filter(|id| looked.insert(*id)).collect();
    for _ in 0..=note::DEPTH {
        let (there, not_there, now) = shelf.get(step, at);
        begun.get_or_insert(now);
        step = there.values().flat_map(parents).filter(|id| looked.insert(*id)).collect();
        found.extend(there);
        missing.extend(not_there);
    }
    let Some(begun) = begun.filter(|_| !missing.is_empty()) else { return Ok(found) };
    let loaded = shelf.load(missing, begun, async |ids| note::by_ids(source.pool, &ids).await).await?;
    // What is missing at the last step is loaded with more than is wanted, and so is what others want.
    let mut wanted = HashMap::with_capacity(found.len());
    let mut step = asked;
    for _ in 0..=note::DEPTH {
        let here = step.iter().filter_map(|id| found.remove(id).or_else(|| loaded.get(id).cloned()));
        let here: Vec<NoteRow> = here.collect();
        step = here.iter().flat_map(parents).collect();
        wanted.extend(here.into_iter().map(|note| (note.id, note)));
    }
    Ok(wanted)
}

/// What a note answers and what it passes on.
fn parents(note: &NoteRow) -> impl Iterator<Item = NoteId> + use<> {
    let (reply, renote) = (note.reply, note.renote);
    reply.into_iter().chain(renote).map(|parent| parent.id)
}

/// The channels that a note is in, and what it passes on.
fn places(note: &NoteRow) -> impl Iterator<Item = ChannelId> + use<> {
    note.channel.into_iter().chain(note.renote_channel)
}

/// What the viewer thinks of each note: known with the note, unless many reacted to it.
async fn my_reactions(
    source: &Source<'_>,
    viewer: Viewer,
    notes: &HashMap<NoteId, NoteRow>,
) -> sqlx::Result<HashMap<NoteId, Reaction>> {
    let Some(viewer) = viewer else { return Ok(HashMap::new()) };
    let (mut mine, mut unknown) = (HashMap::new(), Vec::new());
    for note in notes.values() {
        match note.reactions.by(viewer) {
            Some(reaction) => mine.extend(reaction.map(|reaction| (note.id, reaction.clone()))),
            None => unknown.push((viewer, note.id)),
        }
    }
    let load = async |keys: Vec<_>| reaction::mine(source.pool, &keys).await;
    mine.extend(of_others(source.facts(|kept| &kept.my_reactions, unknown, load).await?));
    Ok(mine)
}

/// What the viewer and these people are to each other. Most are nothing, and most viewers have to do with few: all of
/// that is loaded at once, and known for all pages.
async fn relations(
    source: &Source<'_>,
    viewer: UserId,
    people: &[UserId],
) -> sqlx::Result<HashMap<UserId, RelationRow>> {
    let pool = source.pool;
    if let Some((kept, _)) = source.memory {
        let load = async |people: Vec<_>| relation::near(pool, &people, kept.shelves.max_near).await;
        match source.facts(|kept| &kept.near, [viewer], load).await?.get(&viewer) {
            None => return Ok(HashMap::new()),
            Some(Some(near)) => {
                let theirs = people.iter().filter_map(|user| Some((*user, near.get(user)?.clone())));
                return Ok(theirs.collect());
            }
            Some(None) => (),
        }
    }
    let pairs = people.iter().map(|user| (viewer, *user));
    let load = async |keys: Vec<_>| relation::relations(pool, &keys).await;
    Ok(of_others(source.facts(|kept| &kept.relations, pairs, load).await?))
}

/// What else is the viewer's own.
#[derive(Default)]
struct Mine {
    relations: HashMap<UserId, RelationRow>,
    votes: HashMap<NoteId, Arc<[u32]>>,
    /// Threads that they mute.
    threads: HashSet<NoteId>,
    /// Channels that they mute, or did for a time.
    channels: HashMap<ChannelId, Mute>,
}

impl Mine {
    async fn load(
        source: &Source<'_>,
        viewer: Viewer,
        notes: &HashMap<NoteId, NoteRow>,
        polls: &[NoteId],
        people: &[UserId],
    ) -> sqlx::Result<Self> {
        let Some(viewer) = viewer else { return Ok(Self::default()) };
        let pool = source.pool;
        let (mutes_threads, mutes_channels) = Self::may_mute(source, viewer).await?;
        let threads: HashSet<NoteId> =
            notes.values().filter(|_| mutes_threads).map(|note| note.thread).collect();
        let channels: HashSet<ChannelId> =
            notes.values().filter(|_| mutes_channels).flat_map(places).collect();
        let (relations, votes, threads, channels) = tokio::try_join!(
            relations(source, viewer, people),
            source.facts(
                |kept| &kept.my_votes,
                polls.iter().map(|note| (viewer, *note)),
                async |keys| Ok(shared(poll::mine(pool, &keys).await?))
            ),
            source.facts(
                |kept| &kept.muted_threads,
                threads.into_iter().map(|thread| (viewer, thread)),
                async |keys| Ok(mute::threads(pool, &keys).await?.into_iter().map(|key| (key, ())).collect())
            ),
            source.facts(
                |kept| &kept.muted_channels,
                channels.into_iter().map(|channel| (viewer, channel)),
                async |keys| channel::mutes(pool, &keys).await
            ),
        )?;
        Ok(Self {
            relations,
            votes: of_others(votes),
            threads: threads.into_keys().map(|(_, thread)| thread).collect(),
            channels: of_others(channels),
        })
    }

    /// Whether the viewer may mute any thread, and any channel. Most people mute none: in memory, that is known for all
    /// pages at once.
    async fn may_mute(source: &Source<'_>, viewer: UserId) -> sqlx::Result<(bool, bool)> {
        if source.memory.is_none() {
            return Ok((true, true));
        }
        let pool = source.pool;
        let threads = async |people: Vec<_>| mute::who_mute_threads(pool, &people).await;
        let channels = async |people: Vec<_>| channel::who_mute(pool, &people).await;
        let (threads, channels) = tokio::try_join!(
            source.facts(|kept| &kept.mute_threads, [viewer], threads),
            source.facts(|kept| &kept.mute_channels, [viewer], channels),
        )?;
        Ok((!threads.is_empty(), !channels.is_empty()))
    }
}

/// Lists that are kept once for all who look.
fn shared<K: Hash + Eq, T>(lists: HashMap<K, Vec<T>>) -> HashMap<K, Arc<[T]>> {
    lists.into_iter().map(|(key, list)| (key, list.into())).collect()
}

fn of_others<K: Hash + Eq, V>(facts: HashMap<(UserId, K), V>) -> HashMap<K, V> {
    facts.into_iter().map(|((_, other), fact)| (other, fact)).collect()
}

/// Nothing, without asking, where nothing can be found.
async fn unless<T: Default>(nothing: bool, query: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    if nothing { Ok(T::default()) } else { query.await }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Statements, Story, emoji, user};
    use domain::follow::Notify;
    use domain::note::{Parent, Visibility};
    use domain::poll::Poll;
    use domain::user::ProfileChanges;

    #[sqlx::test(migrations = "../migrations")]
    async fn a_world_has_what_a_note_shows_two_levels_deep(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 1..=4 {
            story.person(n, &format!("user{n}"));
        }
        story.follow(4, 1);
        story.follow(2, 4);
        let a = story.note(1, |n| {
            n.poll = Some(Poll { choices: vec!["x".into(), "y".into()], multiple: false, expires_at: None });
        });
        let b = story.note(2, |n| n.reply = Some(Parent { id: a, author: user(1) }));
        let c = story.note(3, |n| n.renote = Some(Parent { id: b, author: user(2) }));
        let d = story.renote(1, c, 3);
        story.react(4, b, 2, "🎉");
        story.react(1, b, 2, "🎉");
        story.vote(4, a, 1, 1);
        story.project().await;

        let viewer = Some(user(4));
        let wanted = Wanted { notes: vec![d], users: vec![user(4)], ..Wanted::default() };
        let world = hydrate(&pool, wanted, viewer, story.now()).await.unwrap();
        assert_eq!(world.notes.len(), 3, "a renote, what it passes on, and what that passes on");
        let seen = world.see(b).and_then(|sight| sight.seen()).unwrap().note();
        assert_eq!(*seen.reactions.counts, [(emoji("🎉"), 2)]);
        assert_eq!(world.my_reaction(b), Some(&emoji("🎉")));
        assert_eq!(world.users.len(), 4);
        let follow = world.relation(user(1)).following.unwrap();
        assert_eq!((follow.notify, follow.with_replies), (Notify::None, false));
        assert!(world.relation(user(2)).followed && world.relation(user(2)).following.is_none());

        let world = hydrate(&pool, Wanted::notes([a]), viewer, story.now()).await.unwrap();
        assert_eq!(world.notes[&a].votes, [0, 1]);
        assert_eq!(world.my_votes(a), [1]);
        let nobody = hydrate(&pool, Wanted::notes([a]), None, story.now()).await.unwrap();
        assert_eq!(nobody.my_votes(a), [] as [u32; 0]);
        assert_eq!(nobody.relation(user(1)).following.map(|f| f.id), None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn rules_of_authors_and_relations_decide_what_is_seen(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "a");
        story.person(2, "b");
        story.changes(
            1,
            ProfileChanges { require_signin_to_view_contents: Some(true), ..ProfileChanges::default() },
        );
        let open = story.note(1, |_| ());
        let closed = story.note(1, |n| n.visibility = Visibility::Followers);
        let unknown = story.note(9, |_| ());
        story.project().await;
        let sees = async |viewer, id| {
            let world = hydrate(&pool, Wanted::notes([id]), viewer, story.now()).await.unwrap();
            world.see(id).map(|sight| sight.seen().is_some())
        };
        assert_eq!(sees(None, open).await, Some(false));
        assert_eq!(sees(Some(user(2)), open).await, Some(true));
        assert_eq!(sees(Some(user(2)), closed).await, Some(false));
        assert_eq!(sees(None, unknown).await, None, "nothing is known of the rules of its author");
        let mut story = story;
        story.follow(2, 1);
        story.project().await;
        let world = hydrate(&pool, Wanted::notes([closed]), Some(user(2)), story.now()).await.unwrap();
        assert!(world.see(closed).unwrap().seen().is_some());
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_page_of_a_hundred_costs_as_many_statements_as_a_page_of_one(pool: PgPool) {
        let mut story = Story::new(&pool);
        let mut pages: Vec<NoteId> = Vec::new();
        for n in 1..=100 {
            story.person(n, &format!("user{n}"));
            let asked = story.note(n, |n| {
                n.poll =
                    Some(Poll { choices: vec!["x".into(), "y".into()], multiple: false, expires_at: None });
            });
            let file = story.file(n, |_| ());
            story.react(1, asked, n, "🎉");
            let reply = story.note(n, |note| {
                note.reply = Some(Parent { id: asked, author: user(n) });
                note.files = vec![file];
            });
            pages.push(story.renote(n, reply, n));
        }
        story.project().await;
        let statements = Statements::default();
        let _counting = statements.listen();
        let mut costs = Vec::new();
        for size in [1, 1, 100] {
            let wanted = Wanted::notes(pages[..size].iter().copied());
            let world = hydrate(&pool, wanted, Some(user(2)), story.now()).await.unwrap();
            let loaded = (world.notes.len(), world.users.len(), world.files.len());
            assert_eq!(loaded, (3 * size, size.max(2), size));
            costs.push(statements.take());
        }
        assert_eq!(costs[1..], [8, 8], "{costs:?}");
    }
}
