//! Timelines from memory: the newest ids of each author, of channels, and of what is public, merged when a page
//! is read.
//!
//! # Why no page has a hole
//!
//! A [`Lane`] has all ids from some id on, or all there are: it is filled by a query and appended to by the log,
//! and where it gets too long, that id moves up. A page of a timeline merges the lanes of which it is made, and
//! gives only what all of them have; what lies before is left to the tables. So a page has every id that may be
//! on it, and perhaps more: of notes that are gone, or that belong elsewhere. Lanes that a page goes back beyond
//! become longer, as far as that takes no more than the page is worth: those who write most would else bound what
//! is known of all that are read with them.
//!
//! What is filled while the log goes on is completed by what was heard meanwhile. If that isn't remembered any
//! more, the tables are asked for the page. The log is taken in as [`crate::cache`] says, before lanes are read, so
//! what the reader is owed is in them; whom they follow, the channels and members of lists are facts there.
//!
//! Which of the ids belong ([`Part::has`]) is decided on the notes as they are loaded, and who may see and wants
//! to see them by the policy, as ever: nothing of that is kept here, so no mute or block is ever stale. What is
//! written costs the same whoever has how many followers: nobody's timeline is written to. Who follows more
//! people than are worth merging ([`MAX_MERGED`]) reads from the tables.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::log::{Position, Recorded};
use domain::note::{Created, Visibility};
use domain::policy::Viewer;
use domain::{ChannelId, Event, ListId, NoteId, UserId};
use lru::LruCache;
use sqlx::PgPool;
use uuid::Uuid;

use crate::cache::{Cache, Source};
use crate::note::{Filter, Timeline};
use crate::page::Page;
use crate::world::{NoteRow, World};

/// The most people and channels that are merged for a page, since all of their lanes have to be there: 8 MB for one
/// reader. It is not the time: a page that merges the lanes of 1,000 people takes 0.4 ms, one of 100 people 0.3 ms, and
/// from the tables 5 ms and more (measured with 100,000 notes, one page after the other).
pub const MAX_MERGED: usize = 2_000;
/// The most ids of one author or channel: 4,500 bytes.
const MAX_OF_ONE: usize = 250;
/// The most ids that are read at first for one page: where many lanes are missing, or half of the memory is taken, they
/// begin shorter, with so many at least.
const MAX_FILLING: usize = 64_000;
const SHORTEST: usize = 32;
/// How many times longer a lane of one author or channel becomes when a page goes back beyond it, and how long at
/// most, in times of the above.
const LONGER: usize = 4;
const LONGEST: usize = 64;
/// The most ids that are read to make lanes longer for one page: some milliseconds.
const MAX_LENGTHENING: usize = 16_000;
/// The most ids of what everybody says: 36,000 bytes.
const MAX_OF_ALL: usize = 2_000;
/// The most ids that are looked at for a page: where so few belong to it, the tables know better.
const MAX_LOOKED_AT: usize = 4_000;
/// How often a place in a lane is guessed, and how near it is then.
const GUESSES: usize = 2;
const NEAR: usize = 8;
/// What a lane takes beside its ids, in bytes.
const LANE_BYTES: usize = 128;
const ID_BYTES: usize = size_of::<Entry>();
/// The most lanes, but not all, that may begin after a page: what it needs of them is read for it alone. Where there
/// are more, the tables know better how little of each that is, and where it is all of them, what belongs to the page.
const MAX_SHORT: usize = 8;
/// New notes that are remembered for lanes that are being filled meanwhile.
const MAX_RECENT: usize = 4_096;

/// A list of notes in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Of(Timeline),
    /// Of one person, with what they said in channels if that is asked.
    User {
        user: UserId,
        in_channels: bool,
    },
    Members(ListId),
}

/// Some ids that have one thing in common, from some id on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Author(UserId),
    Channel(ChannelId),
    /// Public, of this server, in no channel.
    Local,
    /// Public, in no channel.
    Global,
}

/// What an id in a lane tells of its note, so that what doesn't belong to a page needn't be loaded. The column `traits`
/// of `read.notes` says the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traits {
    flags: u8,
    /// The [`byte`] of whom it answers.
    answers: u8,
}

impl Traits {
    const PURE: u8 = 1;
    const FILES: u8 = 1 << 1;
    /// It answers somebody else.
    const ANSWERS: u8 = 1 << 2;

    fn of(note: &Created) -> Self {
        let other = note.reply.map(|reply| reply.author).filter(|author| *author != note.author);
        let flags = [
            (Self::PURE, note.is_pure_renote()),
            (Self::FILES, !note.files.is_empty()),
            (Self::ANSWERS, other.is_some()),
        ];
        let flags = flags.into_iter().filter_map(|(flag, is_set)| is_set.then_some(flag)).sum();
        Self { flags, answers: other.map_or(0, byte) }
    }

    fn of_column(traits: i32) -> Self {
        let [flags, answers, ..] = traits.to_le_bytes();
        Self { flags, answers }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A byte of their id that is random.
fn byte(user: UserId) -> u8 {
    user.0.as_bytes()[10]
}

type Entry = (NoteId, Traits);

/// What of a lane may belong to a page.
#[derive(Debug, Clone, Copy)]
struct Rule {
    with_renotes: bool,
    with_files: bool,
    answers: Answers,
}

/// Which answers to others than their authors.
#[derive(Debug, Clone, Copy)]
enum Answers {
    All,
    /// To somebody with this [`byte`], if to others.
    To(u8),
    None,
}

impl Rule {
    fn of(filter: Filter, answers: Answers) -> Self {
        Self { with_renotes: filter.with_renotes, with_files: filter.with_files, answers }
    }

    fn admits(self, traits: Traits) -> bool {
        let may_answer = match self.answers {
            Answers::All => true,
            Answers::To(byte) => !traits.has(Traits::ANSWERS) || traits.answers == byte,
            Answers::None => !traits.has(Traits::ANSWERS),
        };
        may_answer
            && (self.with_renotes || !traits.has(Traits::PURE))
            && (!self.with_files || traits.has(Traits::FILES))
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    /// None are missing that are not before this one; none at all where there is none.
    from: Option<NoteId>,
    /// In their order.
    ids: VecDeque<Entry>,
    /// How many are kept.
    at_most: usize,
}

impl Ids {
    /// Of a query that gives so many at most, the newest first.
    fn filled(newest_first: Vec<Entry>, at_most: usize) -> Self {
        let from = newest_first.last().filter(|_| newest_first.len() >= at_most).map(|(id, _)| *id);
        Self { from, ids: newest_first.into_iter().rev().collect(), at_most }
    }

    fn insert(&mut self, entry: Entry) {
        let id = entry.0;
        if self.from.is_some_and(|from| id < from) {
            return;
        }
        let Err(place) = self.place(id) else { return };
        self.ids.insert(place, entry);
        if self.ids.len() > self.at_most {
            self.ids.pop_front();
            self.from = self.ids.front().map(|(id, _)| *id);
        }
    }

    fn remove(&mut self, id: NoteId) {
        if let Ok(place) = self.place(id) {
            self.ids.remove(place);
        }
    }

    fn place(&self, id: NoteId) -> Result<usize, usize> {
        self.ids.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// How many of them are before this one. Ids begin with their time: it is sought where it should be, which takes
    /// fewer looks at memory far apart than halving.
    fn before(&self, id: NoteId) -> usize {
        let time = |id: NoteId| (id.0.as_u128() >> 64) as u64;
        let is_before = |place: usize| self.ids.get(place).is_some_and(|(there, _)| *there < id);
        // All below the first are before it, and none from the second on.
        let (mut low, mut high) = (0, self.ids.len());
        for _ in 0..GUESSES {
            if high - low <= NEAR {
                break;
            }
            let (Some((first, _)), Some((last, _))) = (self.ids.get(low), self.ids.get(high.wrapping_sub(1)))
            else {
                return low;
            };
            if *last < id {
                return high;
            }
            if *first >= id {
                return low;
            }
            let (from, all) = (time(*first), time(*last).saturating_sub(time(*first)).max(1));
            let part = u128::from(time(id).saturating_sub(from)) * (high - low) as u128 / u128::from(all);
            let guess = (low + part as usize).min(high - 1);
            // Not far from there.
            let mut near = NEAR;
            if is_before(guess) {
                low = guess + 1;
                while low + near < high && is_before(low + near) {
                    low += near + 1;
                    near *= 2;
                }
                high = high.min(low + near);
            } else {
                high = guess;
                while low + near < high && !is_before(high - near) {
                    high -= near;
                    near *= 2;
                }
                low = low.max(high.saturating_sub(near));
            }
        }
        while low < high {
            let middle = low.midpoint(high);
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn bytes(&self) -> usize {
        LANE_BYTES + ID_BYTES * self.ids.capacity()
    }
}

/// A new note, as far as it decides where it is listed.
#[derive(Debug, Clone, Copy)]
struct Posted {
    entry: Entry,
    lanes: [Option<Lane>; 4],
}

impl Posted {
    fn of(note: &Created) -> Self {
        let is_public = note.visibility == Visibility::Public && note.channel.is_none();
        let lanes = [
            Some(Lane::Author(note.author)),
            note.channel.map(Lane::Channel),
            (is_public && note.uri.is_none()).then_some(Lane::Local),
            is_public.then_some(Lane::Global),
        ];
        Self { entry: (note.id, Traits::of(note)), lanes }
    }
}

/// The lanes of a server.
pub(crate) struct Lanes {
    max_of_one: usize,
    max_of_all: usize,
    /// All lanes together.
    max_bytes: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    lanes: LruCache<Lane, Ids>,
    bytes: usize,
    /// The last new notes.
    recent: VecDeque<(Position, Posted)>,
    /// New notes up to here may be remembered no more.
    floor: Position,
    /// Moves when everything is forgotten.
    epoch: u64,
}

impl Kept {
    /// Whether lanes are kept short, so that there are as many as possible.
    fn is_half_full(&self, max_bytes: usize) -> bool {
        self.bytes > max_bytes / 2
    }
}

/// Taken before lanes are filled.
#[derive(Clone, Copy)]
struct Begun {
    at: Position,
    epoch: u64,
}

/// Lanes that are to be filled, and how many ids of each.
struct Lacking {
    lanes: Vec<(Lane, usize)>,
    begun: Begun,
}

/// The ids of some lanes that are in a page.
struct Merged {
    /// Those that may belong, in the order of the page, each once.
    ids: Vec<NoteId>,
    /// The last that was looked at, if there are more.
    reached: Option<NoteId>,
    /// Where the tables go on.
    from: Option<NoteId>,
}

impl Merged {
    /// Where lanes are too short for a page: those that begin there or later.
    fn runs_out(&self, page: &Page) -> Option<NoteId> {
        let from = self.from.filter(|from| NoteId(page.since()) < *from)?;
        match page.oldest_first {
            true => Some(NoteId(page.since())),
            false => self.reached.is_none().then(|| from.min(NoteId(page.until()))),
        }
    }
}

impl Lanes {
    pub fn new(max_bytes: usize) -> Self {
        Self::of(MAX_OF_ONE, MAX_OF_ALL, max_bytes)
    }

    fn of(max_of_one: usize, max_of_all: usize, max_bytes: usize) -> Self {
        let kept = Kept {
            lanes: LruCache::unbounded(),
            bytes: 0,
            recent: VecDeque::new(),
            floor: Position::START,
            epoch: 0,
        };
        Self { max_of_one, max_of_all, max_bytes, kept: Mutex::new(kept) }
    }

    pub fn hear(&self, recorded: &Recorded) {
        match recorded.event.as_ref() {
            Some(Event::NoteCreated(note)) => self.posted(recorded.position, Posted::of(note)),
            Some(Event::NoteDeleted(note)) => {
                let mut kept = self.lock();
                for lane in [Lane::Author(note.author), Lane::Local, Lane::Global] {
                    if let Some(ids) = kept.lanes.peek_mut(&lane) {
                        ids.remove(note.id);
                    }
                }
            }
            Some(Event::UserErased(_)) => self.clear(),
            // Whose it was can't be read any more.
            None if recorded.kind == "note.created" => self.clear(),
            _ => (),
        }
    }

    fn posted(&self, at: Position, posted: Posted) {
        let mut kept = self.lock();
        let kept = &mut *kept;
        for lane in posted.lanes.into_iter().flatten() {
            if let Some(ids) = kept.lanes.peek_mut(&lane) {
                let before = ids.bytes();
                ids.insert(posted.entry);
                kept.bytes = (kept.bytes + ids.bytes()).saturating_sub(before);
            }
        }
        kept.recent.push_back((at, posted));
        if kept.recent.len() > MAX_RECENT
            && let Some((at, _)) = kept.recent.pop_front()
        {
            kept.floor = kept.floor.max(at);
        }
    }

    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.epoch += 1;
        kept.lanes.clear();
        kept.bytes = 0;
        kept.recent.clear();
    }

    fn at_most(&self, lane: Lane) -> usize {
        match lane {
            Lane::Author(_) | Lane::Channel(_) => self.max_of_one,
            Lane::Local | Lane::Global => self.max_of_all,
        }
    }

    /// Those of these lanes of which nothing is known, to be filled.
    fn missing(&self, lanes: &[(Lane, Rule)], at: Position) -> Option<Lacking> {
        let mut kept = self.lock();
        let missing: Vec<Lane> =
            lanes.iter().map(|(lane, _)| *lane).filter(|lane| kept.lanes.get(lane).is_none()).collect();
        let of_each = if kept.is_half_full(self.max_bytes) { 0 } else { MAX_FILLING / missing.len().max(1) };
        let of_each = of_each.max(SHORTEST);
        let begun = Begun { at, epoch: kept.epoch };
        let lanes: Vec<_> = missing.into_iter().map(|lane| (lane, self.at_most(lane).min(of_each))).collect();
        (!lanes.is_empty()).then_some(Lacking { lanes, begun })
    }

    /// So many ids of a page that are in these lanes, where some stand in for those that begin later; none where one is
    /// not known.
    fn merge(
        &self,
        lanes: &[(Lane, Rule)],
        further: &HashMap<Lane, Ids>,
        page: &Page,
        limit: usize,
    ) -> Option<Merged> {
        let kept = self.lock();
        let known = lanes.iter().map(|(lane, rule)| {
            let ids = further.get(lane).or_else(|| kept.lanes.peek(lane))?;
            Some((ids, *rule))
        });
        Some(merge(&known.collect::<Option<Vec<_>>>()?, page, limit))
    }

    /// Those of these lanes that begin at an id or later.
    fn beginning(&self, lanes: &[(Lane, Rule)], at: NoteId) -> Vec<Lane> {
        let kept = self.lock();
        let begins = |lane: &Lane| kept.lanes.peek(lane).is_some_and(|ids| ids.from >= Some(at));
        lanes.iter().map(|(lane, _)| *lane).filter(begins).collect()
    }

    /// Those of these lanes that begin at an id or later, to be made longer, as many as may be for one page; none where
    /// what everybody says begins there, or there is one lane only (the tables give a page of it at once), or other
    /// lanes would have to go.
    fn to_lengthen(&self, lanes: &[(Lane, Rule)], begin: NoteId, at: Position) -> Option<Lacking> {
        let kept = self.lock();
        if lanes.len() == 1 || kept.is_half_full(self.max_bytes) {
            return None;
        }
        let (mut longer, mut ids_in_all) = (Vec::new(), 0);
        for (lane, _) in lanes {
            let Some(ids) = kept.lanes.peek(lane).filter(|ids| ids.from >= Some(begin)) else { continue };
            if matches!(lane, Lane::Local | Lane::Global) {
                return None;
            }
            let at_most = (ids.at_most * LONGER).min(self.max_of_one * LONGEST);
            if at_most > ids.at_most && ids_in_all + at_most <= MAX_LENGTHENING {
                longer.push((*lane, at_most));
                ids_in_all += at_most;
            }
        }
        let begun = Begun { at, epoch: kept.epoch };
        (!longer.is_empty()).then_some(Lacking { lanes: longer, begun })
    }

    /// Keeps what was filled, and completes it.
    fn put(&self, begun: Begun, filled: &mut HashMap<Lane, Ids>) -> bool {
        let mut kept = self.lock();
        if kept.epoch != begun.epoch || kept.floor > begun.at {
            return false;
        }
        for (at, posted) in kept.recent.iter().rev() {
            if *at <= begun.at {
                break;
            }
            for lane in posted.lanes.into_iter().flatten() {
                if let Some(ids) = filled.get_mut(&lane) {
                    ids.insert(posted.entry);
                }
            }
        }
        for (lane, ids) in filled.iter() {
            kept.bytes += ids.bytes();
            if let Some((_, before)) = kept.lanes.push(*lane, ids.clone()) {
                kept.bytes = kept.bytes.saturating_sub(before.bytes());
            }
        }
        while kept.bytes > self.max_bytes {
            let Some((_, oldest)) = kept.lanes.pop_lru() else { break };
            kept.bytes = kept.bytes.saturating_sub(oldest.bytes());
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills what is lacking from the tables; false where that can't be completed.
    async fn fill(&self, pool: &PgPool, lacking: Lacking) -> sqlx::Result<bool> {
        let Lacking { lanes, begun } = lacking;
        let mut filled = read(pool, lanes, Uuid::max()).await?;
        Ok(self.put(begun, &mut filled))
    }
}

/// So many ids of each lane from the tables, the newest before an id.
async fn read(pool: &PgPool, lanes: Vec<(Lane, usize)>, until: Uuid) -> sqlx::Result<HashMap<Lane, Ids>> {
    let mut newest: HashMap<Lane, Vec<Entry>> = HashMap::with_capacity(lanes.len());
    let of_each = [
        (
            "select o.id, h.id, h.traits
                   from unnest((select $1::uuid[]), (select $2::bigint[])) as o(id, at_most)
                  cross join lateral (select n.id, n.traits from read.notes n
                                       where n.author = o.id and n.id < $3
                                       order by n.id desc limit o.at_most) h",
            (|lane| match lane {
                Lane::Author(user) => Some(user.0),
                _ => None,
            }) as fn(Lane) -> Option<Uuid>,
            (|id| Lane::Author(UserId(id))) as fn(Uuid) -> Lane,
        ),
        (
            "select o.id, h.id, h.traits
                   from unnest((select $1::uuid[]), (select $2::bigint[])) as o(id, at_most)
                  cross join lateral (select n.id, n.traits from read.notes n
                                       where n.channel_id = o.id and n.id < $3
                                       order by n.id desc limit o.at_most) h",
            |lane| match lane {
                Lane::Channel(channel) => Some(channel.0),
                _ => None,
            },
            |id| Lane::Channel(ChannelId(id)),
        ),
    ];
    for (sql, of, lane) in of_each {
        let these = lanes.iter().filter_map(|(lane, at_most)| Some((of(*lane)?, *at_most as i64)));
        let (these, at_most): (Vec<Uuid>, Vec<i64>) = these.unzip();
        if these.is_empty() {
            continue;
        }
        let rows: Vec<(Uuid, Uuid, i32)> =
            sqlx::query_as(sql).bind(these).bind(at_most).bind(until).fetch_all(pool).await?;
        for (of, id, traits) in rows {
            newest.entry(lane(of)).or_default().push((NoteId(id), Traits::of_column(traits)));
        }
    }
    let of_all = [
        (
            Lane::Local,
            "select n.id, n.traits from read.notes n
                  where n.visibility = 'public' and n.uri is null and n.channel_id is null
                    and n.id < $2
                  order by n.id desc limit $1",
        ),
        (
            Lane::Global,
            "select n.id, n.traits from read.notes n
                  where n.visibility = 'public' and n.channel_id is null
                    and n.id < $2
                  order by n.id desc limit $1",
        ),
    ];
    for (all, sql) in of_all {
        let Some((_, at_most)) = lanes.iter().find(|(lane, _)| *lane == all) else { continue };
        let rows: Vec<(Uuid, i32)> =
            sqlx::query_as(sql).bind(*at_most as i64).bind(until).fetch_all(pool).await?;
        let entries = rows.into_iter().map(|(id, traits)| (NoteId(id), Traits::of_column(traits)));
        newest.entry(all).or_default().extend(entries);
    }
    let mut filled = HashMap::with_capacity(lanes.len());
    for (lane, at_most) in lanes {
        let mut ids = newest.remove(&lane).unwrap_or_default();
        ids.sort_unstable_by_key(|(id, _)| Reverse(*id));
        filled.insert(lane, Ids::filled(ids, at_most));
    }
    Ok(filled)
}

/// Merges what lanes have of a page and may belong there, in its order.
fn merge(lanes: &[(&Ids, Rule)], page: &Page, limit: usize) -> Merged {
    let from = lanes.iter().filter_map(|(ids, _)| ids.from).max();
    let (since, until) = (NoteId(page.since()), NoteId(page.until()));
    // By lane, how many of its ids are before the next one, or how many are done with.
    let mut next: BinaryHeap<(Key, usize, usize)> = BinaryHeap::with_capacity(lanes.len());
    let key = |id: NoteId| if page.oldest_first { Key::Oldest(Reverse(id)) } else { Key::Newest(id) };
    let is_in = |id: NoteId| id > since && id < until && from.is_none_or(|from| id >= from);
    let step = |lane: usize, place: Option<usize>| {
        let place = place?;
        let (id, _) = lanes.get(lane)?.0.ids.get(place).copied().filter(|(id, _)| is_in(*id))?;
        Some((key(id), lane, place))
    };
    for (lane, (ids, _)) in lanes.iter().enumerate() {
        let first = if page.oldest_first {
            let before = ids.before(since);
            let is_since = ids.ids.get(before).is_some_and(|(id, _)| *id == since);
            Some(before + usize::from(is_since))
        } else {
            ids.before(until).checked_sub(1)
        };
        next.extend(step(lane, first));
    }
    let mut ids: Vec<NoteId> = Vec::with_capacity(limit);
    let (mut reached, mut looked) = (None, 0);
    while let Some(id) = next.peek().map(|(key, ..)| key.id())
        && ids.len() < limit
        && (looked < MAX_LOOKED_AT || reached == Some(id))
        && let Some((_, lane, place)) = next.pop()
    {
        let belongs = lanes.get(lane).is_some_and(|(ids, rule)| {
            let traits = ids.ids.get(place).map(|(_, traits)| *traits);
            traits.is_some_and(|traits| rule.admits(traits))
        });
        if belongs && ids.last() != Some(&id) {
            ids.push(id);
        }
        (reached, looked) = (Some(id), looked + 1);
        next.extend(step(lane, if page.oldest_first { Some(place + 1) } else { place.checked_sub(1) }));
    }
    Merged { ids, reached: reached.filter(|_| !next.is_empty()), from }
}

/// The next id of a lane; the greatest of them comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Newest(NoteId),
    Oldest(Reverse<NoteId>),
}

impl Key {
    fn id(self) -> NoteId {
        match self {
            Key::Newest(id) | Key::Oldest(Reverse(id)) => id,
        }
    }
}

/// Some candidates for a page of a list, in its order.
pub struct Part {
    pub ids: Vec<NoteId>,
    /// What there may be further on.
    pub rest: Option<Page>,
    belongs: Belongs,
}

/// Which notes are in a list.
struct Belongs {
    list: List,
    viewer: Viewer,
    filter: Filter,
    people: HashMap<UserId, bool>,
    channels: HashSet<ChannelId>,
}

impl Part {
    /// Whether a note is in the list, when it may be seen and is wanted.
    pub fn has(&self, world: &World, note: &NoteRow) -> bool {
        self.belongs.has(world, note)
    }
}

impl Belongs {
    fn has(&self, world: &World, note: &NoteRow) -> bool {
        let Self { list, viewer, filter, people, channels } = self;
        if (note.pure && !filter.with_renotes) || (filter.with_files && note.files.is_empty()) {
            return false;
        }
        let is_mine = *viewer == Some(note.author);
        let to = note.reply.map(|reply| reply.author);
        let to_other = to.is_some_and(|to| to != note.author && *viewer != Some(to));
        let of_people =
            |to_other: bool| people.get(&note.author).map(|with_replies| *with_replies || !to_other);
        let in_home = || match note.channel {
            Some(channel) => {
                channels.contains(&channel) && (is_mine || of_people(to_other).unwrap_or(!to_other))
            }
            None => is_mine || of_people(to_other) == Some(true),
        };
        let is_public = note.visibility == Visibility::Public && note.channel.is_none();
        let in_local = || is_public && note.uri.is_none() && (filter.with_replies || !to_other);
        match list {
            List::Of(Timeline::Home) => in_home(),
            List::Of(Timeline::Local) => in_local(),
            List::Of(Timeline::Hybrid) => in_home() || in_local(),
            List::Of(Timeline::Global) => is_public,
            List::User { user, in_channels } => {
                let is_sensitive = |channel| world.channel(channel).is_some_and(|row| row.is_sensitive);
                let shown = |channel| *in_channels && (is_mine || !is_sensitive(channel));
                note.author == *user
                    && (filter.with_replies || to.is_none_or(|to| to == note.author))
                    && note.channel.is_none_or(shown)
            }
            List::Members(_) => note.channel.is_none() && of_people(to_other) == Some(true),
        }
    }
}

/// Whom a person follows, or who is in a list, and whether their replies to others are wanted.
pub(crate) type People = Arc<[(UserId, bool)]>;

impl Cache {
    /// Candidates for a page of a list, from memory; none where the tables have to be asked. A few more than are on
    /// the page.
    pub async fn part(
        &self,
        list: List,
        viewer: Viewer,
        filter: Filter,
        page: &Page,
    ) -> sqlx::Result<Option<Part>> {
        part(&self.source().await, list, viewer, filter, page).await
    }
}

async fn part(
    source: &Source<'_>,
    list: List,
    viewer: Viewer,
    filter: Filter,
    page: &Page,
) -> sqlx::Result<Option<Part>> {
    let Some((kept, at)) = source.memory else { return Ok(None) };
    let lanes_of = &kept.shelves.lanes;
    let Some((lanes, belongs)) = made_of(source, list, viewer, filter).await? else { return Ok(None) };
    // The policy leaves most of them.
    let limit = usize::from(page.limit) * 9 / 8 + 2;
    if let Some(missing) = lanes_of.missing(&lanes, at)
        && !lanes_of.fill(source.pool, missing).await?
    {
        return Ok(None);
    }
    let mut further = HashMap::new();
    if let Some(until) = page.until.filter(|_| !page.oldest_first)
        && !lanes_of.beginning(&lanes, NoteId(until)).is_empty()
    {
        if let Some(short) = lanes_of.to_lengthen(&lanes, NoteId(until), at) {
            lanes_of.fill(source.pool, short).await?;
        }
        let short = lanes_of.beginning(&lanes, NoteId(until));
        if (1..=MAX_SHORT).contains(&short.len()) && short.len() < lanes.len() {
            let short = short.into_iter().map(|lane| (lane, limit)).collect();
            further = read(source.pool, short, until).await?;
        }
    }
    // Some may have made room for others at once.
    let Some(mut merged) = lanes_of.merge(&lanes, &further, page, limit) else { return Ok(None) };
    if let Some(begin) = merged.runs_out(page)
        && let Some(short) = lanes_of.to_lengthen(&lanes, begin, at)
        && lanes_of.fill(source.pool, short).await?
        && let Some(longer) = lanes_of.merge(&lanes, &further, page, limit)
    {
        merged = longer;
    }
    let Merged { ids, reached, from } = merged;
    let is_before = |bound: Option<Uuid>| from.is_some_and(|from| bound.is_none_or(|bound| bound < from.0));
    if page.oldest_first && is_before(page.since) {
        return Ok(None);
    }
    let rest = match reached {
        Some(reached) if page.oldest_first => Some(Page { since: Some(reached.0), ..*page }),
        Some(reached) => Some(Page { until: Some(reached.0), ..*page }),
        None if page.oldest_first => None,
        // What is before the lanes begin.
        None => from
            .filter(|_| is_before(page.since))
            .map(|from| Page { until: Some(page.until.map_or(from.0, |until| until.min(from.0))), ..*page }),
    };
    if ids.is_empty() && rest.is_some() {
        return Ok(None);
    }
    Ok(Some(Part { ids, rest, belongs }))
}

/// The lanes of which a list is made, and what of them is in it; none where there are too many.
async fn made_of(
    source: &Source<'_>,
    list: List,
    viewer: Viewer,
    filter: Filter,
) -> sqlx::Result<Option<(Vec<(Lane, Rule)>, Belongs)>> {
    let pool = source.pool;
    let mut belongs = Belongs { list, viewer, filter, people: HashMap::new(), channels: HashSet::new() };
    let mut lanes = Vec::new();
    let to_me = viewer.map_or(Answers::None, |viewer| Answers::To(byte(viewer)));
    let admits = |with_replies, others| Rule::of(filter, if with_replies { Answers::All } else { others });
    let local = (Lane::Local, admits(filter.with_replies, to_me));
    match list {
        List::Of(Timeline::Local) => lanes.push(local),
        List::Of(Timeline::Global) => lanes.push((Lane::Global, Rule::of(filter, Answers::All))),
        List::User { user, .. } => {
            lanes.push((Lane::Author(user), admits(filter.with_replies, Answers::None)));
        }
        List::Members(id) => {
            let load = async |ids: Vec<ListId>| members(pool, &ids).await;
            let found = source.facts(|kept| &kept.members, [id], load).await?;
            belongs.people.extend(found.get(&id).into_iter().flat_map(|people| people.iter().copied()));
        }
        List::Of(Timeline::Home | Timeline::Hybrid) => {
            let Some(viewer) = viewer else { return Ok(None) };
            let (followed, channels) = tokio::try_join!(
                source.facts(|kept| &kept.followed, [viewer], async |ids| followed(pool, &ids).await),
                source.facts(
                    |kept| &kept.channels_followed,
                    [viewer],
                    async |ids| channels(pool, &ids).await
                ),
            )?;
            belongs
                .people
                .extend(followed.get(&viewer).into_iter().flat_map(|people| people.iter().copied()));
            belongs.channels.extend(channels.get(&viewer).into_iter().flat_map(|ids| ids.iter().copied()));
            if !belongs.people.contains_key(&viewer) {
                lanes.push((Lane::Author(viewer), Rule::of(filter, Answers::All)));
            }
            if list == List::Of(Timeline::Hybrid) {
                lanes.push(local);
            }
        }
    }
    if belongs.people.len() > MAX_MERGED || belongs.channels.len() > MAX_MERGED {
        return Ok(None);
    }
    lanes.extend(belongs.people.iter().map(|(user, with_replies)| {
        let with_replies = *with_replies || viewer == Some(*user);
        (Lane::Author(*user), admits(with_replies, to_me))
    }));
    let channels = belongs.channels.iter().copied().map(Lane::Channel);
    lanes.extend(channels.map(|channel| (channel, Rule::of(filter, Answers::All))));
    Ok(Some((lanes, belongs)))
}

/// More than are merged tell that there are too many.
const ENOUGH: i64 = MAX_MERGED as i64 + 1;

/// Whom each of these people follows.
pub(crate) async fn followed(pool: &PgPool, people: &[UserId]) -> sqlx::Result<HashMap<UserId, People>> {
    let sql = "select o.id, f.followee, f.with_replies
                 from unnest((select $1::uuid[])) as o(id)
                cross join lateral (select f.followee, f.with_replies from read.follows f
                                     where f.follower = o.id limit $2) f";
    let rows = sqlx::query_as(sql).bind(people.iter().map(|user| user.0).collect::<Vec<_>>()).bind(ENOUGH);
    let rows: Vec<(Uuid, Uuid, bool)> = rows.fetch_all(pool).await?;
    Ok(grouped(rows.into_iter().map(|(of, user, with_replies)| (UserId(of), (UserId(user), with_replies)))))
}

/// Who is in each of these lists.
pub(crate) async fn members(pool: &PgPool, lists: &[ListId]) -> sqlx::Result<HashMap<ListId, People>> {
    let sql = "select o.id, m.user_id, m.with_replies
                 from unnest((select $1::uuid[])) as o(id)
                cross join lateral (select m.user_id, m.with_replies from read.list_members m
                                     where m.list_id = o.id limit $2) m";
    let rows = sqlx::query_as(sql).bind(lists.iter().map(|list| list.0).collect::<Vec<_>>()).bind(ENOUGH);
    let rows: Vec<(Uuid, Uuid, bool)> = rows.fetch_all(pool).await?;
    Ok(grouped(rows.into_iter().map(|(of, user, with_replies)| (ListId(of), (UserId(user), with_replies)))))
}

/// The channels that each of these people follows.
pub(crate) async fn channels(
    pool: &PgPool,
    people: &[UserId],
) -> sqlx::Result<HashMap<UserId, Arc<[ChannelId]>>> {
    let sql = "select o.id, c.channel_id
                 from unnest((select $1::uuid[])) as o(id)
                cross join lateral (select c.channel_id from read.channel_follows c
                                     where c.user_id = o.id limit $2) c";
    let rows = sqlx::query_as(sql).bind(people.iter().map(|user| user.0).collect::<Vec<_>>()).bind(ENOUGH);
    let rows: Vec<(Uuid, Uuid)> = rows.fetch_all(pool).await?;
    Ok(grouped(rows.into_iter().map(|(of, channel)| (UserId(of), ChannelId(channel)))))
}

fn grouped<K: std::hash::Hash + Eq, T>(rows: impl Iterator<Item = (K, T)>) -> HashMap<K, Arc<[T]>> {
    let mut of: HashMap<K, Vec<T>> = HashMap::new();
    for (key, item) in rows {
        of.entry(key).or_default().push(item);
    }
    of.into_iter().map(|(key, items)| (key, items.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Kept as Memory;
    use crate::hydrate::{self, Wanted};
    use crate::note;
    use crate::testing::{Places, Story, a_long_life, take_in, user};
    use domain::policy::Place;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    /// Random lives that are compared, and how many events lie between two looks.
    const LIVES: usize = 5;
    const STEP: usize = 12;
    const MAX_BYTES: usize = 1 << 24;

    fn note_id(n: u128) -> NoteId {
        NoteId(Uuid::from_u128(n))
    }

    fn ids(of: &[u128]) -> Vec<NoteId> {
        of.iter().copied().map(note_id).collect()
    }

    const ALL: Rule = Rule { with_renotes: true, with_files: false, answers: Answers::All };

    fn entry(n: u128) -> Entry {
        (note_id(n), Traits::default())
    }

    fn entries(of: &[u128]) -> Vec<Entry> {
        of.iter().copied().map(entry).collect()
    }

    fn lane(from: Option<u128>, of: &[u128]) -> Ids {
        Ids { from: from.map(note_id), ids: entries(of).into(), at_most: 10 }
    }

    fn all_of(lanes: &[Lane]) -> Vec<(Lane, Rule)> {
        lanes.iter().map(|lane| (*lane, ALL)).collect()
    }

    fn page(since: Option<u128>, until: Option<u128>, oldest_first: bool) -> Page {
        let bound = |bound: Option<u128>| bound.map(Uuid::from_u128);
        Page { since: bound(since), until: bound(until), oldest_first, limit: 10 }
    }

    #[test]
    fn a_lane_knows_from_where_on_it_is_complete() {
        let mut few = Ids::filled(entries(&[5, 3]), 3);
        assert_eq!(few.from, None);
        for (new, known, from) in
            [(1, [1, 3, 5], None), (5, [1, 3, 5], None), (4, [3, 4, 5], Some(3)), (2, [3, 4, 5], Some(3))]
        {
            few.insert(entry(new));
            assert_eq!((few.from, few.ids.clone()), (from.map(note_id), entries(&known).into()), "{new}");
        }
        assert_eq!(Ids::filled(entries(&[5, 3, 2]), 3).from, Some(note_id(2)));
        few.remove(note_id(3));
        assert_eq!((few.from, few.ids.len()), (Some(note_id(3)), 2));
    }

    #[test]
    fn a_place_in_a_lane_is_found_wherever_it_is() {
        let mut runner = TestRunner::deterministic();
        for (spread, most) in [(40_u64, 30), (100_000, 400), (1 << 60, 100)] {
            let all = proptest::collection::btree_set(0..spread, 0..most);
            for _ in 0..20 {
                let all: Vec<u64> = all.new_tree(&mut runner).unwrap().current().into_iter().collect();
                // Of a few bursts, too.
                for burst in [0, 12] {
                    let id = |n: u64| note_id(u128::from(n >> burst << burst) << 64 | u128::from(n));
                    let lane = Ids {
                        from: None,
                        ids: all.iter().map(|n| (id(*n), Traits::default())).collect(),
                        at_most: most,
                    };
                    let sought = all.iter().flat_map(|n| [n.saturating_sub(1), *n, n + 1]);
                    for n in sought.chain([0, spread + 1]) {
                        let expected = all.partition_point(|other| id(*other) < id(n));
                        assert_eq!(lane.before(id(n)), expected, "{n} of {all:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn lanes_are_merged_in_the_order_of_the_page() {
        let (a, b) = (lane(Some(3), &[3, 5, 9]), lane(None, &[1, 4, 5, 8]));
        let merged = |page: Page, limit| {
            let merged = merge(&[(&a, ALL), (&b, ALL)], &page, limit);
            (merged.ids, merged.reached.is_some())
        };
        assert_eq!(merged(page(None, None, false), 10), (ids(&[9, 8, 5, 4, 3]), false));
        assert_eq!(merged(page(None, None, false), 3), (ids(&[9, 8, 5]), true));
        assert_eq!(merged(page(Some(4), Some(9), false), 10), (ids(&[8, 5]), false));
        assert_eq!(merged(page(Some(3), None, true), 3), (ids(&[4, 5, 8]), true));
        assert_eq!(merged(page(Some(5), Some(9), true), 10), (ids(&[8]), false));
        assert_eq!(merged(page(Some(9), None, true), 10), (Vec::new(), false));
        assert_eq!(merge(&[(&a, ALL), (&b, ALL)], &page(None, None, false), 10).from, Some(note_id(3)));
    }

    #[test]
    fn only_what_may_belong_is_in_a_page() {
        let with = |n, flags, answers| (note_id(n), Traits { flags, answers });
        let all = [
            with(1, 0, 0),
            with(2, Traits::PURE, 0),
            with(3, Traits::ANSWERS, 7),
            with(4, Traits::ANSWERS | Traits::FILES, 8),
            with(5, Traits::FILES, 0),
        ];
        let lane = Ids { from: None, ids: all.into_iter().collect(), at_most: 10 };
        let oldest_first = page(Some(0), None, true);
        let left = |rule: Rule| merge(&[(&lane, rule)], &oldest_first, 10).ids;
        assert_eq!(left(ALL), ids(&[1, 2, 3, 4, 5]));
        assert_eq!(left(Rule { with_renotes: false, ..ALL }), ids(&[1, 3, 4, 5]));
        assert_eq!(left(Rule { with_files: true, ..ALL }), ids(&[4, 5]));
        assert_eq!(left(Rule { answers: Answers::None, ..ALL }), ids(&[1, 2, 5]));
        let mine = Rule { answers: Answers::To(7), ..ALL };
        assert_eq!(left(mine), ids(&[1, 2, 3, 5]));
        // What one lane leaves out, another may have.
        let both = merge(&[(&lane, mine), (&lane, Rule { with_files: true, ..ALL })], &oldest_first, 10);
        assert_eq!((both.ids, both.reached), (ids(&[1, 2, 3, 4, 5]), None));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_tables_tell_of_a_note_what_its_event_does(pool: PgPool) {
        let mut runner = TestRunner::deterministic();
        let mut compared = 0;
        for _ in 0..LIVES {
            let life = a_long_life().new_tree(&mut runner).unwrap().current();
            let mut story = Story::new(&pool);
            let events = story.live_and_end(&life, 2);
            Places::new(&pool, &events).go_to(|_| events.len()).await;
            let told: Vec<(Uuid, i32)> =
                sqlx::query_as("select id, traits from read.notes").fetch_all(&pool).await.unwrap();
            let told: HashMap<NoteId, Traits> =
                told.into_iter().map(|(id, traits)| (NoteId(id), Traits::of_column(traits))).collect();
            for event in &events {
                if let Some(Event::NoteCreated(note)) = &event.event
                    && let Some(told) = told.get(&note.id)
                {
                    assert_eq!(*told, Traits::of(note), "{note:?}");
                    compared += usize::from(told.flags != 0);
                }
            }
            story.empty().await;
        }
        assert!(compared > LIVES * 5, "{compared} of them told anything");
    }

    #[test]
    fn where_little_belongs_no_more_is_looked_at_than_is_worth_it() {
        let many = MAX_LOOKED_AT as u128 + 10;
        let lane = Ids { from: None, ids: (1..=many).map(entry).collect(), at_most: many as usize };
        let none = Rule { with_files: true, ..ALL };
        // The last of them is in another lane, too, where it belongs: it is not left between the two.
        let last = many + 1 - MAX_LOOKED_AT as u128;
        let other = Ids { from: None, ids: [entry(last)].into(), at_most: 10 };
        let merged = merge(&[(&other, ALL), (&lane, none)], &page(None, None, false), 10);
        assert_eq!((merged.ids, merged.reached), (ids(&[last]), Some(note_id(last))));
    }

    async fn from_tables(
        pool: &PgPool,
        list: List,
        viewer: Viewer,
        filter: Filter,
        page: &Page,
    ) -> Vec<NoteId> {
        match list {
            List::Of(which) => note::timeline(pool, which, viewer, filter, page).await,
            List::User { user, in_channels } => {
                note::of_user(pool, user, viewer, filter, in_channels, page).await
            }
            List::Members(list) => note::of_list(pool, list, viewer.unwrap(), filter, page).await,
        }
        .unwrap()
    }

    /// All pages of a list, with what the policy leaves of them; and how many parts were from memory.
    async fn walk(
        source: &Source<'_>,
        (list, viewer, filter): (List, Viewer, Filter),
        oldest_first: Option<Uuid>,
        story: &Story,
    ) -> (Vec<NoteId>, usize) {
        let place = if matches!(list, List::User { .. }) { Place::OfAuthor } else { Place::Anywhere };
        let (mut seen, mut parts) = (Vec::new(), 0);
        let since = oldest_first;
        let mut page = Page { since, until: None, oldest_first: since.is_some(), limit: 4 };
        loop {
            let part = part(source, list, viewer, filter, &page).await.unwrap();
            let (ids, part) = match part {
                Some(part) => (part.ids.clone(), Some(part)),
                None => (from_tables(source.pool, list, viewer, filter, &page).await, None),
            };
            let wanted = Wanted::notes(ids.iter().copied());
            let world = hydrate::from(source, wanted, viewer, story.now()).await.unwrap();
            let has = |note: &NoteRow| part.as_ref().is_none_or(|part| part.has(&world, note));
            let kept = |id: &NoteId| world.pick(*id, place).is_some_and(|note| has(note.note()));
            seen.extend(ids.iter().copied().filter(kept));
            match (part, ids.last()) {
                (Some(part), _) => {
                    parts += 1;
                    let Some(rest) = part.rest else { return (seen, parts) };
                    page = rest;
                }
                (None, None) => return (seen, parts),
                (None, Some(last)) if page.oldest_first => page.since = Some(last.0),
                (None, Some(last)) => page.until = Some(last.0),
            }
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn every_page_from_memory_is_that_of_the_tables_at_any_time_of_random_lives(pool: PgPool) {
        let mut runner = TestRunner::deterministic();
        let (mut compared, mut parts) = (0, 0);
        for life in 0..LIVES {
            let acts = a_long_life().new_tree(&mut runner).unwrap().current();
            let mut story = Story::new(&pool);
            let events = story.live_and_end(&acts, 2);
            let mut kept = Memory::new(MAX_BYTES);
            // So short that they overflow, or so long that they have everything.
            kept.shelves.lanes =
                if life % 3 == 2 { Lanes::new(MAX_BYTES) } else { Lanes::of(4, 7, MAX_BYTES) };
            let mut places = Places::new(&pool, &events);
            let (mut at, mut lists, mut notes) = (0, Vec::new(), Vec::new());
            while at < events.len() {
                let next = (at + STEP).min(events.len());
                places.go_to(|n| if n % 2 == 1 { at + n % (STEP + 1) } else { at }).await;
                for event in &events[at..next] {
                    match &event.event {
                        Some(Event::ListCreated(list)) => lists.push((list.id, list.owner)),
                        Some(Event::NoteCreated(note)) => notes.push(note.id.0),
                        _ => (),
                    }
                }
                for is_even in [false, true] {
                    let heard = if is_even { next } else { at };
                    if heard == 0 {
                        continue;
                    }
                    if is_even {
                        places.go_to(|_| next).await;
                    }
                    let memory = Some((&kept, take_in(&kept, &events, heard)));
                    let (source, tables) = (Source { pool: &pool, memory }, Source::tables(&pool));
                    for (n, (list, viewer)) in asked(&lists).into_iter().enumerate() {
                        let filter = Filter {
                            with_replies: (n + at) % 2 == 0,
                            with_renotes: (n + at) % 3 != 0,
                            with_files: (n + at) % 11 == 0,
                        };
                        let since = notes.get(notes.len() / 2).filter(|_| (n + at) % 4 == 0).copied();
                        let asked = (list, viewer, filter);
                        let (got, from_memory) = walk(&source, asked, since, &story).await;
                        if is_even {
                            let (expected, _) = walk(&tables, asked, since, &story).await;
                            assert_eq!(got, expected, "{asked:?} since {since:?} after {at} of {acts:#?}");
                            compared += expected.len();
                            parts += from_memory;
                        }
                    }
                }
                at = next;
            }
            story.empty().await;
        }
        assert!(compared > LIVES * 200 && parts > LIVES * 100, "{compared} notes, {parts} parts");
    }

    fn asked(lists: &[(ListId, UserId)]) -> Vec<(List, Viewer)> {
        let (some, other) = (Some(user(1)), Some(user(3)));
        let mut asked = vec![
            (List::Of(Timeline::Home), some),
            (List::Of(Timeline::Home), other),
            (List::Of(Timeline::Home), Some(user(2))),
            (List::Of(Timeline::Local), some),
            (List::Of(Timeline::Local), None),
            (List::Of(Timeline::Hybrid), some),
            (List::Of(Timeline::Hybrid), other),
            (List::Of(Timeline::Global), some),
            (List::User { user: user(1), in_channels: true }, some),
            (List::User { user: user(2), in_channels: true }, None),
            (List::User { user: user(3), in_channels: false }, some),
        ];
        asked.extend(lists.iter().rev().take(2).map(|(list, owner)| (List::Members(*list), Some(*owner))));
        asked
    }

    #[test]
    fn what_is_written_while_a_lane_is_filled_is_not_missing() {
        let lanes = Lanes::new(MAX_BYTES);
        let author = Lane::Author(user(1));
        let all = page(None, None, false);
        let known = || lanes.merge(&[(author, ALL)], &HashMap::new(), &all, 10).unwrap().ids;
        let Lacking { lanes: missing, begun } = lanes.missing(&[(author, ALL)], Position(5)).unwrap();
        assert_eq!(missing, [(author, MAX_OF_ONE)]);
        let posted = |n| Posted { entry: entry(n), lanes: [Some(author), None, None, None] };
        lanes.posted(Position(5), posted(1));
        lanes.posted(Position(6), posted(8));
        let mut filled = HashMap::from([(author, Ids::filled(entries(&[7, 2]), 10))]);
        assert!(lanes.put(begun, &mut filled));
        assert_eq!(known(), ids(&[8, 7, 2]));
        lanes.posted(Position(7), posted(9));
        assert_eq!(known(), ids(&[9, 8, 7, 2]));
        lanes.clear();
        assert!(!lanes.put(begun, &mut filled), "it was filled before everything was forgotten");
        let Lacking { begun, .. } = lanes.missing(&[(author, ALL)], Position(7)).unwrap();
        for n in 0..=MAX_RECENT as u64 {
            lanes.posted(Position(8 + n), posted(10));
        }
        assert!(!lanes.put(begun, &mut filled), "what came meanwhile isn't remembered");
    }

    #[test]
    fn lanes_that_a_page_goes_back_beyond_become_longer() {
        let lanes = Lanes::of(4, 7, MAX_BYTES);
        let (busy, quiet) = (Lane::Author(user(1)), Lane::Author(user(2)));
        let all = all_of(&[busy, quiet, Lane::Local]);
        let newest = page(None, None, false);
        let fill = |of: Lane, newest_first: &[u128], at_most| {
            let Lacking { begun, .. } = lanes.missing(&[(Lane::Global, ALL)], Position(5)).unwrap();
            let mut filled = HashMap::from([(of, Ids::filled(entries(newest_first), at_most))]);
            assert!(lanes.put(begun, &mut filled));
        };
        fill(busy, &[40, 39, 38, 37], 4);
        fill(quiet, &[20, 10], 4);
        fill(Lane::Local, &[40, 30, 29, 20, 18, 16, 14], 7);
        let runs_out = |lanes_of: &[(Lane, Rule)], page: Page, limit| {
            lanes.merge(lanes_of, &HashMap::new(), &page, limit).unwrap().runs_out(&page)
        };
        let longer = |lanes_of: &[(Lane, Rule)], begin: NoteId| {
            lanes.to_lengthen(lanes_of, begin, Position(5)).map(|lacking| lacking.lanes)
        };
        assert_eq!(runs_out(&all, newest, 3), None, "there is enough");
        let begin = runs_out(&all, newest, 10).unwrap();
        assert_eq!((begin, longer(&all, begin)), (note_id(37), Some(vec![(busy, 16)])));
        let before = page(None, Some(12), false);
        let begin = runs_out(&all, before, 10).unwrap();
        assert_eq!((begin, longer(&all, begin)), (note_id(12), None), "what everybody says begins later");
        assert_eq!(longer(&all[..2], begin), Some(vec![(busy, 16)]));
        assert_eq!(runs_out(&all[..2], page(Some(38), None, true), 10), None);
        assert_eq!(runs_out(&all[..2], page(Some(20), None, true), 10), Some(note_id(20)));
        fill(busy, &(1..=256).rev().collect::<Vec<_>>(), 4 * LONGEST);
        assert_eq!(longer(&all[..2], note_id(1)), None, "it is as long as any");
        assert_eq!(longer(&all[..1], note_id(38)), None, "it is alone");
    }

    #[test]
    fn where_there_is_little_memory_lanes_are_short_and_stay_so() {
        let author = |n| (Lane::Author(user(n)), ALL);
        let filled = |lanes: &Lanes, n: u8| {
            let Lacking { lanes: lacking, begun } = lanes.missing(&[author(n)], Position(5)).unwrap();
            let (lane, at_most) = lacking[0];
            let newest_first = (1..=at_most as u128).rev().map(entry).collect();
            assert!(lanes.put(begun, &mut HashMap::from([(lane, Ids::filled(newest_first, at_most))])));
            at_most
        };
        let bytes = LANE_BYTES + ID_BYTES * MAX_OF_ONE;
        let longer = |lanes: &Lanes| lanes.to_lengthen(&[author(1), author(2)], note_id(1), Position(5));
        let lanes = Lanes::new(5 * bytes);
        assert_eq!((filled(&lanes, 1), filled(&lanes, 2)), (MAX_OF_ONE, MAX_OF_ONE));
        assert!(longer(&lanes).is_some());
        assert_eq!((filled(&lanes, 3), filled(&lanes, 4)), (MAX_OF_ONE, SHORTEST));
        assert!(longer(&lanes).is_none());
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_a_page_needs_of_the_busiest_is_read_for_it_alone(pool: PgPool) {
        let mut story = Story::new(&pool);
        for (n, name) in [(1, "busy"), (2, "quiet"), (3, "reader")] {
            story.person(n, name);
        }
        story.follow(3, 1);
        story.follow(3, 2);
        let first = story.note(2, |_| ());
        let busy: Vec<NoteId> = (0..4 * LONGEST + 20).map(|_| story.note(1, |_| ())).collect();
        story.project().await;
        let mut kept = Memory::new(MAX_BYTES);
        kept.shelves.lanes = Lanes::of(4, 7, MAX_BYTES);
        let source = Source { pool: &pool, memory: Some((&kept, take_in(&kept, &[], 1))) };
        let (home, filter) =
            (List::Of(Timeline::Home), Filter { with_replies: true, with_renotes: true, with_files: false });
        let page = Page { until: Some(busy[3].0), ..Page::newest(4) };
        let mut parts = Vec::new();
        // Until the lane is as long as any.
        for _ in 0..4 {
            parts.push(part(&source, home, Some(user(3)), filter, &page).await.unwrap());
        }
        let part = parts.pop().flatten().unwrap();
        assert_eq!((part.ids, part.rest), (vec![busy[2], busy[1], busy[0], first], None));
    }

    #[test]
    fn a_timeline_that_is_read_takes_little_memory() {
        // As many people read as write; each follows 50, and finds 300 notes.
        const PEOPLE: usize = 1_000;
        const FOLLOWED: usize = 50;
        const NOTES: usize = 300;
        const AT_MOST_BYTES: usize = 4_000;
        let lanes = Lanes::new(MAX_BYTES);
        let all = page(None, None, false);
        let lane = |n: usize| (Lane::Author(UserId(Uuid::from_u128(n as u128))), ALL);
        let people: Vec<(Lane, Rule)> = (0..PEOPLE).map(lane).collect();
        let Lacking { begun, .. } = lanes.missing(&people, Position::START).unwrap();
        let of_each = NOTES / FOLLOWED;
        let newest_first =
            |n: usize| (0..of_each).rev().map(|i| entry((i * PEOPLE + n + 1) as u128)).collect();
        let filled =
            people.iter().zip(0..).map(|((lane, _), n)| (*lane, Ids::filled(newest_first(n), MAX_OF_ONE)));
        assert!(lanes.put(begun, &mut filled.collect()));
        let merged = lanes.merge(&people[..FOLLOWED], &HashMap::new(), &all, 1_000).unwrap();
        assert_eq!(merged.ids.len(), NOTES);
        let known_of_each = FOLLOWED * size_of::<(UserId, bool)>();
        assert!(lanes.lock().bytes / PEOPLE + known_of_each <= AT_MOST_BYTES);
    }
}
