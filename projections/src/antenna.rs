//! Antennas, and the notes that they heard.
//!
//! A note is held against few antennas: one search through its text finds the words that any antenna listens
//! for, and only antennas without words are asked otherwise. What the search knows is kept until an antenna
//! changes.
//!
//! An antenna keeps so many notes of each author, and not so many in all: that bound stays true to the log when
//! an author is erased, whose notes would have pushed out those of others. It also stops listening when nobody
//! looks at it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::AhoCorasick;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::antenna::{Heard, Matcher, Settings, Source, Words, listens_until};
use domain::log::Recorded;
use domain::note::{Created, Visibility};
use domain::{AntennaId, Event, NoteId, UserId};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::types::Json;
use uuid::Uuid;

use crate::erased;
use crate::note::{VISIBLE, list, notes as note_ids};
use crate::page::{LIMIT, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Notes of one author that one antenna keeps: those that it heard last.
pub const MAX_NOTES_OF_AUTHOR: i64 = 200;
/// The most antennas of one person that are shown; policies allow far fewer.
const MAX_ANTENNAS: i64 = 1_000;

/// Fills `read.antennas`, `read.antenna_notes`, and what it takes to match: `read.antenna_authors`,
/// `read.antenna_follows` and `read.antenna_members`.
#[derive(Default)]
pub struct Projection {
    /// What is listened for, as of the last time that it was needed.
    index: Mutex<Option<Arc<Index>>>,
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "antennas"
    }

    fn version(&self) -> u32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &[
            "antennas",
            "antenna_notes",
            "antenna_authors",
            "antenna_follows",
            "antenna_members",
            "antenna_sensitive_channels",
        ]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "antenna.created",
            "antenna.changed",
            "antenna.deleted",
            "antenna.used",
            "channel.created",
            "channel.changed",
            "note.created",
            "user.created",
            "user.changed",
            "follow.started",
            "follow.ended",
            "list.deleted",
            "list.member_added",
            "list.member_removed",
            "user.erased",
        ]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            self.write(tx, part).await?;
            if let Some(user) = erased {
                purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

impl Projection {
    /// What an antenna hears depends on what is known when the note is written, so notes and other events take
    /// turns; those of a turn are written together.
    async fn write(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        let mut known = Known::default();
        let mut notes: Vec<(DateTime<Utc>, &Created)> = Vec::new();
        for (recorded, event) in events(batch) {
            if let Event::NoteCreated(note) = event {
                known.save(tx).await?;
                notes.push((recorded.at, note));
                continue;
            }
            if !notes.is_empty() {
                self.hear(tx, &std::mem::take(&mut notes)).await?;
            }
            match event {
                Event::AntennaCreated(e) => {
                    sqlx::query(
                        "insert into antennas (id, owner, settings, changed, listens_until)
                         values ($1, $2, $3, $4, $5)",
                    )
                    .bind(e.id.0)
                    .bind(e.owner.0)
                    .bind(stored(&e.settings)?)
                    .bind(recorded.id.0)
                    .bind(listens_until(recorded.at))
                    .execute(&mut *tx)
                    .await?;
                }
                Event::AntennaChanged(e) => {
                    sqlx::query(
                        "update antennas set settings = $2, changed = $3, listens_until = $4 where id = $1",
                    )
                    .bind(e.id.0)
                    .bind(stored(&e.settings)?)
                    .bind(recorded.id.0)
                    .bind(listens_until(recorded.at))
                    .execute(&mut *tx)
                    .await?;
                }
                Event::AntennaUsed(e) => {
                    sqlx::query("update antennas set listens_until = $2 where id = $1")
                        .bind(e.id.0)
                        .bind(listens_until(recorded.at))
                        .execute(&mut *tx)
                        .await?;
                }
                Event::AntennaDeleted(e) => remove(tx, &[e.id.0]).await?,
                other => known.take(other),
            }
        }
        known.save(tx).await?;
        if !notes.is_empty() {
            self.hear(tx, &notes).await?;
        }
        Ok(())
    }

    /// Writes which antennas hear these notes.
    async fn hear(
        &self,
        tx: &mut PgConnection,
        notes: &[(DateTime<Utc>, &Created)],
    ) -> Result<(), ProjectError> {
        let index = self.index(tx).await?;
        if index.antennas.is_empty() {
            return Ok(());
        }
        let said: Vec<_> = notes
            .iter()
            .filter_map(|(at, note)| Some((*at, *note, Words::of(note.text.as_deref(), note.cw.as_deref())?)))
            .collect();
        let authors: BTreeSet<Uuid> = said.iter().map(|(_, note, _)| note.author.0).collect();
        let authors = Authors::load(tx, authors).await?;
        let found: Vec<_> =
            said.iter().map(|(_, note, words)| index.candidates(words, &authors.of(note))).collect();
        let ties = Ties::load(tx, &index, &said, &found).await?;

        let (mut antennas, mut heard, mut by, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((at, note, words), candidates) in said.iter().zip(found) {
            let author = authors.of(note);
            for listening in candidates.iter().filter_map(|place| index.antennas.get(*place)) {
                let is_near = listening.owner == note.author.0 || ties.follows(listening.owner, note.author);
                let is_for_owner = match note.visibility {
                    Visibility::Public | Visibility::Home => true,
                    Visibility::Followers => {
                        is_near
                            || note.mentions.iter().any(|user| user.0 == listening.owner)
                            || note.reply.is_some_and(|reply| reply.author.0 == listening.owner)
                    }
                    Visibility::Specified => {
                        listening.owner == note.author.0
                            || note.visible_to.iter().any(|user| user.0 == listening.owner)
                    }
                };
                let asked = Heard {
                    words,
                    account: author.account,
                    by_bot: author.is_bot,
                    is_local: note.uri.is_none(),
                    is_reply: note.reply.is_some(),
                    has_file: false,
                    in_sensitive_channel: note.channel.is_some_and(|id| ties.sensitive.contains(&id.0)),
                    is_near,
                    is_listed: ties.lists(listening.matcher.settings(), note.author),
                };
                // What its owner may not see would only push out what they may.
                if is_for_owner && listening.matcher.admits(&asked) {
                    antennas.push(listening.id);
                    heard.push(note.id.0);
                    by.push(note.author.0);
                    times.push(*at);
                }
            }
        }
        if antennas.is_empty() {
            return Ok(());
        }
        let turns: Vec<(Uuid, Uuid, i64)> = sqlx::query_as(
            "insert into antenna_notes (antenna_id, note_id, author, turn)
             select h.antenna_id, h.note_id, h.author,
                    coalesce((select k.turn from antenna_notes k
                               where k.author = h.author and k.antenna_id = h.antenna_id
                               order by k.turn desc limit 1), 0)
                    + row_number() over (partition by h.antenna_id, h.author order by h.place)
               from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[])
                    with ordinality as h(antenna_id, note_id, author, at, place)
               join antennas a on a.id = h.antenna_id and a.listens_until > h.at
             returning antenna_id, author, turn",
        )
        .bind(antennas)
        .bind(heard)
        .bind(by)
        .bind(times)
        .fetch_all(&mut *tx)
        .await?;
        trim(tx, turns).await?;
        Ok(())
    }

    /// What all antennas listen for, loaded again if one has changed.
    async fn index(&self, tx: &mut PgConnection) -> Result<Arc<Index>, ProjectError> {
        let version: Version = sqlx::query_as(
            "select count(*), (select changed from antennas order by changed desc limit 1) from antennas",
        )
        .fetch_one(&mut *tx)
        .await?;
        let known = self.index.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.version == version) {
            return Ok(known);
        }
        let rows: Vec<(Uuid, Uuid, Json<Settings>)> =
            sqlx::query_as("select id, owner, settings from antennas order by id").fetch_all(tx).await?;
        let listening = |(id, owner, settings): (_, _, Json<Settings>)| Listening {
            id,
            owner,
            matcher: Matcher::of(settings.0),
        };
        let index = Arc::new(Index::new(version, rows.into_iter().map(listening).collect()));
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some(index.clone());
        Ok(index)
    }
}

fn stored(settings: &Settings) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(settings).map(sql::clean_json)
}

async fn remove(tx: &mut PgConnection, antennas: &[Uuid]) -> sqlx::Result<()> {
    for statement in
        ["delete from antenna_notes where antenna_id = any($1)", "delete from antennas where id = any($1)"]
    {
        sqlx::query(statement).bind(antennas).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let theirs: Vec<Uuid> = sqlx::query_scalar("select id from antennas where owner = $1")
        .bind(user.0)
        .fetch_all(&mut *tx)
        .await?;
    remove(tx, &theirs).await?;
    for statement in [
        "delete from antenna_notes where author = $1",
        "delete from antenna_authors where user_id = $1",
        "delete from antenna_follows where follower = $1 or followee = $1",
        "delete from antenna_members where user_id = $1 or owner = $1",
        "delete from antenna_sensitive_channels where owner = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Leaves the last notes that each antenna heard of each author, after these turns.
async fn trim(tx: &mut PgConnection, turns: Vec<(Uuid, Uuid, i64)>) -> sqlx::Result<()> {
    let mut last: BTreeMap<(Uuid, Uuid), i64> = BTreeMap::new();
    for (antenna, author, turn) in turns {
        let known = last.entry((antenna, author)).or_default();
        *known = turn.max(*known);
    }
    last.retain(|_, turn| *turn > MAX_NOTES_OF_AUTHOR);
    if last.is_empty() {
        return Ok(());
    }
    let (pairs, last): (Vec<_>, Vec<i64>) = last.into_iter().unzip();
    let (antennas, authors): (Vec<Uuid>, Vec<Uuid>) = pairs.into_iter().unzip();
    sqlx::query(
        "delete from antenna_notes n
          using unnest($1::uuid[], $2::uuid[], $3::bigint[]) as w(antenna_id, author, last)
          where n.author = w.author and n.antenna_id = w.antenna_id and n.turn <= w.last - $4",
    )
    .bind(antennas)
    .bind(authors)
    .bind(last)
    .bind(MAX_NOTES_OF_AUTHOR)
    .execute(tx)
    .await?;
    Ok(())
}

/// What a turn of events says of people, followings and lists; the last word on each counts.
#[derive(Default)]
struct Known {
    accounts: BTreeMap<Uuid, String>,
    bots: BTreeMap<Uuid, bool>,
    /// By followee and follower.
    follows: BTreeMap<(Uuid, Uuid), bool>,
    ended_lists: BTreeSet<Uuid>,
    /// By person and list: the list's owner, when they are in it.
    members: BTreeMap<(Uuid, Uuid), Option<Uuid>>,
    /// By channel: its owner, and whether it is sensitive.
    channels: BTreeMap<Uuid, (Uuid, bool)>,
}

impl Known {
    fn take(&mut self, event: &Event) {
        match event {
            Event::UserCreated(e) => {
                let host = e.host.as_ref().map(|host| format!("@{}", host.as_str())).unwrap_or_default();
                let account = format!("{}{host}", e.username).to_lowercase();
                self.accounts.insert(e.user.0, sql::clean(&account).into_owned());
            }
            Event::UserChanged(e) => {
                if let Some(is_bot) = e.changes.is_bot {
                    self.bots.insert(e.user.0, is_bot);
                }
            }
            Event::FollowStarted(e) => {
                self.follows.insert((e.followee.0, e.follower.0), true);
            }
            Event::FollowEnded(e) => {
                self.follows.insert((e.followee.0, e.follower.0), false);
            }
            Event::ChannelCreated(e) if e.is_sensitive => {
                self.channels.insert(e.id.0, (e.owner.0, true));
            }
            Event::ChannelChanged(e) => {
                if let Some(is_sensitive) = e.changes.is_sensitive {
                    self.channels.insert(e.id.0, (e.owner.0, is_sensitive));
                }
            }
            Event::ListDeleted(e) => {
                self.members.retain(|(_, list), _| *list != e.id.0);
                self.ended_lists.insert(e.id.0);
            }
            Event::ListMemberAdded(e) => {
                self.members.insert((e.user.0, e.list.0), Some(e.owner.0));
            }
            Event::ListMemberRemoved(e) => {
                self.members.insert((e.user.0, e.list.0), None);
            }
            _ => (),
        }
    }

    async fn save(&mut self, tx: &mut PgConnection) -> sqlx::Result<()> {
        let Known { accounts, bots, follows, ended_lists, members, channels } = std::mem::take(self);
        if !accounts.is_empty() {
            let (users, accounts): (Vec<Uuid>, Vec<String>) = accounts.into_iter().unzip();
            sqlx::query(
                "insert into antenna_authors (user_id, account)
                 select user_id, account from unnest($1::uuid[], $2::text[]) as a(user_id, account)",
            )
            .bind(users)
            .bind(accounts)
            .execute(&mut *tx)
            .await?;
        }
        if !bots.is_empty() {
            let (users, bots): (Vec<Uuid>, Vec<bool>) = bots.into_iter().unzip();
            sqlx::query(
                "update antenna_authors a set is_bot = b.is_bot
                   from unnest($1::uuid[], $2::boolean[]) as b(user_id, is_bot) where a.user_id = b.user_id",
            )
            .bind(users)
            .bind(bots)
            .execute(&mut *tx)
            .await?;
        }
        let (begun, ended): (Vec<_>, Vec<_>) = follows.into_iter().partition(|(_, stands)| *stands);
        let sides = |pairs: Vec<((Uuid, Uuid), bool)>| -> (Vec<Uuid>, Vec<Uuid>) {
            pairs.into_iter().map(|(pair, _)| pair).unzip()
        };
        if !begun.is_empty() {
            let (followees, followers) = sides(begun);
            sqlx::query(
                "insert into antenna_follows (followee, follower)
                 select followee, follower from unnest($1::uuid[], $2::uuid[]) as f(followee, follower)
                 on conflict do nothing",
            )
            .bind(followees)
            .bind(followers)
            .execute(&mut *tx)
            .await?;
        }
        if !ended.is_empty() {
            let (followees, followers) = sides(ended);
            sqlx::query(
                "delete from antenna_follows f using unnest($1::uuid[], $2::uuid[]) as d(followee, follower)
                  where f.followee = d.followee and f.follower = d.follower",
            )
            .bind(followees)
            .bind(followers)
            .execute(&mut *tx)
            .await?;
        }
        if !ended_lists.is_empty() {
            sqlx::query("delete from antenna_members where list_id = any($1)")
                .bind(Vec::from_iter(ended_lists))
                .execute(&mut *tx)
                .await?;
        }
        if !channels.is_empty() {
            let ids: Vec<Uuid> = channels.keys().copied().collect();
            sqlx::query("delete from antenna_sensitive_channels where channel_id = any($1)")
                .bind(ids)
                .execute(&mut *tx)
                .await?;
            let sensitive = channels.into_iter().filter(|(_, (_, is_sensitive))| *is_sensitive);
            let (ids, owners): (Vec<Uuid>, Vec<Uuid>) = sensitive.map(|(id, (owner, _))| (id, owner)).unzip();
            sqlx::query(
                "insert into antenna_sensitive_channels (channel_id, owner)
                 select channel_id, owner from unnest($1::uuid[], $2::uuid[]) as c(channel_id, owner)",
            )
            .bind(ids)
            .bind(owners)
            .execute(&mut *tx)
            .await?;
        }
        let (mut users, mut lists, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let (mut left, mut left_lists) = (Vec::new(), Vec::new());
        for ((user, list), owner) in members {
            if let Some(owner) = owner {
                users.push(user);
                lists.push(list);
                owners.push(owner);
            } else {
                left.push(user);
                left_lists.push(list);
            }
        }
        if !left.is_empty() {
            sqlx::query(
                "delete from antenna_members m using unnest($1::uuid[], $2::uuid[]) as d(user_id, list_id)
                  where m.user_id = d.user_id and m.list_id = d.list_id",
            )
            .bind(left)
            .bind(left_lists)
            .execute(&mut *tx)
            .await?;
        }
        if !users.is_empty() {
            sqlx::query(
                "insert into antenna_members (user_id, list_id, owner)
                 select user_id, list_id, owner
                   from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as m(user_id, list_id, owner)
                 on conflict do nothing",
            )
            .bind(users)
            .bind(lists)
            .bind(owners)
            .execute(tx)
            .await?;
        }
        Ok(())
    }
}

/// How many antennas there are, and the last event that made or changed one: another pair, other antennas.
type Version = (i64, Option<Uuid>);

/// One antenna that listens.
struct Listening {
    id: Uuid,
    owner: Uuid,
    matcher: Matcher,
}

/// What all antennas listen for.
struct Index {
    version: Version,
    antennas: Vec<Listening>,
    /// The words that notes must have; none when there are too many to be looked for at once.
    words: Option<AhoCorasick>,
    /// The antennas that listen for each of them.
    of_word: Vec<Vec<usize>>,
    /// Antennas for all that some people say.
    of_account: HashMap<String, Vec<usize>>,
    /// Antennas that have to be asked about every note.
    always: Vec<usize>,
}

impl Index {
    fn new(version: Version, antennas: Vec<Listening>) -> Self {
        let mut by_word: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut of_account: HashMap<String, Vec<usize>> = HashMap::new();
        let mut always = Vec::new();
        for (place, antenna) in antennas.iter().enumerate() {
            let (needs, settings) = (antenna.matcher.needs(), antenna.matcher.settings());
            if !needs.is_empty() {
                for word in needs {
                    by_word.entry(word).or_default().push(place);
                }
            } else if settings.source == Source::Users {
                for account in &settings.accounts {
                    of_account.entry(account.clone()).or_default().push(place);
                }
            } else {
                always.push(place);
            }
        }
        let words = AhoCorasick::new(by_word.keys()).ok();
        if words.is_none() {
            always = (0..antennas.len()).collect();
        }
        Self { version, antennas, words, of_word: by_word.into_values().collect(), of_account, always }
    }

    /// The antennas that might hear a note, each once.
    fn candidates(&self, words: &Words, author: &Author<'_>) -> BTreeSet<usize> {
        let mut found: BTreeSet<usize> = self.always.iter().copied().collect();
        found.extend(self.of_account.get(author.account).into_iter().flatten());
        let mut seen: HashSet<usize> = HashSet::new();
        for hit in self.words.iter().flat_map(|all| all.find_overlapping_iter(words.folded())) {
            let word = hit.pattern().as_usize();
            if seen.insert(word) {
                found.extend(self.of_word.get(word).into_iter().flatten());
            }
        }
        found
    }
}

/// Who wrote the notes of a turn.
struct Authors(HashMap<Uuid, (String, bool)>);

#[derive(Clone, Copy)]
struct Author<'a> {
    account: &'a str,
    is_bot: bool,
}

impl Authors {
    async fn load(tx: &mut PgConnection, ids: BTreeSet<Uuid>) -> sqlx::Result<Self> {
        let rows: Vec<(Uuid, String, bool)> =
            sqlx::query_as("select user_id, account, is_bot from antenna_authors where user_id = any($1)")
                .bind(Vec::from_iter(ids))
                .fetch_all(tx)
                .await?;
        Ok(Self(rows.into_iter().map(|(user, account, is_bot)| (user, (account, is_bot))).collect()))
    }

    fn of(&self, note: &Created) -> Author<'_> {
        let author = self.0.get(&note.author.0);
        author.map_or(Author { account: "", is_bot: false }, |(account, is_bot)| Author {
            account,
            is_bot: *is_bot,
        })
    }
}

/// What owners of antennas have to do with the authors of a turn.
#[derive(Default)]
struct Ties {
    /// By follower and followee.
    follows: HashSet<(Uuid, Uuid)>,
    /// By list and person.
    members: HashSet<(Uuid, Uuid)>,
    /// Channels that are sensitive.
    sensitive: HashSet<Uuid>,
}

impl Ties {
    async fn load(
        tx: &mut PgConnection,
        index: &Index,
        said: &[(DateTime<Utc>, &Created, Words)],
        found: &[BTreeSet<usize>],
    ) -> sqlx::Result<Self> {
        let (mut owners, mut followed) = (BTreeSet::new(), BTreeSet::new());
        let (mut lists, mut listed) = (BTreeSet::new(), BTreeSet::new());
        for ((_, note, _), candidates) in said.iter().zip(found) {
            for listening in candidates.iter().filter_map(|place| index.antennas.get(*place)) {
                let settings = listening.matcher.settings();
                if settings.source == Source::Home || note.visibility == Visibility::Followers {
                    owners.insert(listening.owner);
                    followed.insert(note.author.0);
                }
                if let Some(list) = settings.list.filter(|_| settings.source == Source::List) {
                    lists.insert(list.0);
                    listed.insert(note.author.0);
                }
            }
        }
        let mut ties = Self::default();
        if !owners.is_empty() {
            let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
                "select follower, followee from antenna_follows
                  where followee = any($1) and follower = any($2)",
            )
            .bind(Vec::from_iter(followed))
            .bind(Vec::from_iter(owners))
            .fetch_all(&mut *tx)
            .await?;
            ties.follows = rows.into_iter().collect();
        }
        let channels: BTreeSet<Uuid> =
            said.iter().filter_map(|(_, note, _)| note.channel).map(|channel| channel.0).collect();
        if !channels.is_empty() {
            let rows: Vec<Uuid> = sqlx::query_scalar(
                "select channel_id from antenna_sensitive_channels where channel_id = any($1)",
            )
            .bind(Vec::from_iter(channels))
            .fetch_all(&mut *tx)
            .await?;
            ties.sensitive = rows.into_iter().collect();
        }
        if !lists.is_empty() {
            let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
                "select list_id, user_id from antenna_members
                  where user_id = any($1) and list_id = any($2)",
            )
            .bind(Vec::from_iter(listed))
            .bind(Vec::from_iter(lists))
            .fetch_all(tx)
            .await?;
            ties.members = rows.into_iter().collect();
        }
        Ok(ties)
    }

    fn follows(&self, follower: Uuid, followee: UserId) -> bool {
        self.follows.contains(&(follower, followee.0))
    }

    fn lists(&self, settings: &Settings, user: UserId) -> bool {
        settings.list.is_some_and(|list| self.members.contains(&(list.0, user.0)))
    }
}

/// An antenna as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AntennaRow {
    pub id: AntennaId,
    pub owner: UserId,
    pub settings: Settings,
    pub listens_until: DateTime<Utc>,
}

type Row = (Uuid, Uuid, Json<Settings>, DateTime<Utc>);

fn antenna_row((id, owner, settings, listens_until): Row) -> AntennaRow {
    AntennaRow { id: AntennaId(id), owner: UserId(owner), settings: settings.0, listens_until }
}

/// One antenna, whosever it is.
pub async fn by_id(pool: &PgPool, antenna: AntennaId) -> sqlx::Result<Option<AntennaRow>> {
    let row: Option<Row> =
        sqlx::query_as("select id, owner, settings, listens_until from read.antennas where id = $1")
            .bind(antenna.0)
            .fetch_optional(pool)
            .await?;
    Ok(row.map(antenna_row))
}

/// The antennas of a person, oldest first.
pub async fn of_owner(pool: &PgPool, owner: UserId) -> sqlx::Result<Vec<AntennaRow>> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, owner, settings, listens_until from read.antennas where owner = $1 order by id limit $2",
    )
    .bind(owner.0)
    .bind(MAX_ANTENNAS)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(antenna_row).collect())
}

/// What an antenna of the viewer heard.
pub async fn notes(
    pool: &PgPool,
    antenna: AntennaId,
    viewer: UserId,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let order = page.order();
    let sql = format!(
        "select n.id
           from read.antenna_notes a
           join read.notes n on n.id = a.note_id
          where a.antenna_id = $5 and a.note_id > $2 and a.note_id < $3 and {VISIBLE}
          order by a.note_id {order} limit {LIMIT}"
    );
    let query = list(sql, Some(viewer), page).bind(antenna.0);
    Ok(note_ids(query.fetch_all(pool).await?))
}

/// Which of these antennas heard which of these notes.
pub async fn heard(
    pool: &PgPool,
    antennas: &[AntennaId],
    notes: &[NoteId],
) -> sqlx::Result<Vec<(AntennaId, NoteId)>> {
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "select antenna_id, note_id from read.antenna_notes
          where antenna_id = any($1) and note_id = any($2)",
    )
    .bind(antennas.iter().map(|antenna| antenna.0).collect::<Vec<_>>())
    .bind(notes.iter().map(|note| note.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(antenna, note)| (AntennaId(antenna), NoteId(note))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::antenna::{Changed, Deleted, Used};
    use domain::follow::Ended;
    use domain::list::MemberRemoved;
    use domain::user::ProfileChanges;
    use std::time::Instant;

    async fn heard_by(pool: &PgPool, antenna: AntennaId, owner: u8) -> Vec<NoteId> {
        notes(pool, antenna, user(owner), &Page::newest(100)).await.unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn an_antenna_hears_what_is_said_while_it_listens(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "alice");
        story.person(2, "bob");
        let says = |story: &mut Story, text: &str| story.note(2, |note| note.text = Some(text.to_owned()));
        says(&mut story, "cats before");
        let antenna = story.antenna(1, Source::All, "cats");
        let first = says(&mut story, "Cats!");
        says(&mut story, "dogs");
        story.project().await;
        let second = story.note(2, |note| (note.text, note.cw) = (None, Some("cats".to_owned())));
        story.says(Changed { id: antenna, owner: user(1), settings: Story::settings(Source::All, "dogs") });
        let third = says(&mut story, "dogs again");
        story.project().await;
        assert_eq!(heard_by(&pool, antenna, 1).await, [third, second, first]);
        let found = heard(&pool, &[antenna], &[first, second]).await.unwrap();
        assert_eq!(found.len(), 2);
        story.says(Deleted { id: antenna, owner: user(1) });
        story.project().await;
        assert_eq!(heard_by(&pool, antenna, 1).await, []);
        assert_eq!(by_id(&pool, antenna).await.unwrap(), None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn sources_are_as_they_are_when_a_note_is_written(pool: PgPool) {
        let mut story = Story::new(&pool);
        for (n, name) in [(1, "alice"), (2, "bob"), (3, "carol")] {
            story.person(n, name);
        }
        let list = story.list(1, "list");
        let wordless = Settings {
            keywords: Vec::new(),
            exclude_keywords: vec![vec!["y".to_owned()]],
            ..Story::settings(Source::Users, "")
        };
        let home = story.antenna(1, Source::Home, "x");
        let users = story.antenna(1, Source::Users, "x");
        let others = story.antenna(1, Source::UsersBlacklist, "x");
        let listed =
            story.antenna_for(1, Settings { list: Some(list), ..Story::settings(Source::List, "x") });
        let wordless = story.antenna_for(1, wordless);
        let says = |story: &mut Story| story.note(2, |note| note.text = Some("x".to_owned()));
        let before = says(&mut story);
        story.follow(1, 2);
        story.list_member(list, 1, 2);
        let near = says(&mut story);
        story.says(Ended { follower: user(1), followee: user(2), by_followee: false });
        story.says(MemberRemoved { list, owner: user(1), user: user(2) });
        let after = says(&mut story);
        let mine = story.note(1, |note| note.text = Some("x".to_owned()));
        let other = story.note(3, |note| note.text = Some("x".to_owned()));
        story.project_in(3).await;
        assert_eq!(heard_by(&pool, home, 1).await, [mine, near]);
        assert_eq!(heard_by(&pool, listed, 1).await, [near]);
        assert_eq!(heard_by(&pool, users, 1).await, [after, near, before]);
        assert_eq!(heard_by(&pool, wordless, 1).await, [after, near, before]);
        assert_eq!(heard_by(&pool, others, 1).await, [other, mine]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_the_owner_may_not_see_is_not_kept_and_bots_may_be_left_out(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "alice");
        story.person(2, "bob");
        story.person(3, "robot");
        story.changes(3, ProfileChanges { is_bot: Some(true), ..ProfileChanges::default() });
        let antenna = story.antenna(1, Source::All, "note");
        let of = |story: &mut Story, author, visibility, to: &[u8]| {
            let visible_to = to.iter().map(|n| user(*n)).collect();
            story.note(author, |note| (note.visibility, note.visible_to) = (visibility, visible_to))
        };
        of(&mut story, 2, Visibility::Followers, &[]);
        of(&mut story, 2, Visibility::Specified, &[3]);
        let to_me = of(&mut story, 2, Visibility::Specified, &[1]);
        of(&mut story, 3, Visibility::Public, &[]);
        story.follow(1, 2);
        let followers = of(&mut story, 2, Visibility::Followers, &[]);
        story.project().await;
        let kept: i64 =
            sqlx::query_scalar("select count(*) from read.antenna_notes").fetch_one(&pool).await.unwrap();
        assert_eq!((heard_by(&pool, antenna, 1).await, kept), (vec![followers, to_me], 2));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_newest_of_each_author_are_kept_as_long_as_somebody_looks(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "alice");
        story.person(2, "bob");
        story.person(3, "carol");
        let antenna = story.antenna(1, Source::All, "note");
        let rare = story.note(3, |_| ());
        for _ in 0..MAX_NOTES_OF_AUTHOR + 20 {
            story.note(2, |_| ());
        }
        story.project_in(50).await;
        let count = async || -> i64 {
            let count = sqlx::query_scalar("select count(*) from read.antenna_notes");
            count.fetch_one(&pool).await.unwrap()
        };
        assert_eq!(count().await, MAX_NOTES_OF_AUTHOR + 1);
        let oldest = Page { oldest_first: true, ..Page::newest(1) };
        assert_eq!(notes(&pool, antenna, user(1), &oldest).await.unwrap(), [rare]);

        story.pass(domain::antenna::UNUSED_DAYS as i64 + 1);
        story.note(3, |_| ());
        story.project().await;
        assert_eq!(count().await, MAX_NOTES_OF_AUTHOR + 1);
        let day = story.now().date_naive();
        story.says(Used { id: antenna, owner: user(1), day });
        story.note(3, |_| ());
        story.project().await;
        assert_eq!(count().await, MAX_NOTES_OF_AUTHOR + 2);
    }

    #[test]
    fn thousands_of_antennas_are_not_asked_one_by_one() {
        let settings =
            |word: String| Settings { keywords: vec![vec![word]], ..Story::settings(Source::All, "") };
        let listening = |n: u128| Listening {
            id: Uuid::from_u128(n),
            owner: Uuid::nil(),
            matcher: Matcher::of(settings(format!("word{n}x"))),
        };
        let index = Index::new((0, None), (0..20_000).map(listening).collect());
        let text = format!("{} word77x and word19999x", "some text ".repeat(250));
        let words = Words::of(Some(&text), None).unwrap();
        let author = Author { account: "", is_bot: false };
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(index.candidates(&words, &author), BTreeSet::from([77, 19_999]));
        }
        let each = began.elapsed() / 100;
        assert!(each.as_millis() < 20, "a note took {each:?}");
    }
}
