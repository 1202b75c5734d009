//! People with a past: what they did is appended to the log of a server that runs, and the server's
//! projectors make of it what is read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use commands::bus::Bus;
use commands::log::{Keyring, MasterKey, PostgresLog, Takeover};
use commands::{AskedBy, Commands, NewAccount, NewNote};
use domain::log::{AppendError, By, Clock, EventLog, Ids, MAX_EVENTS_PER_APPEND, StreamId, Version};
use domain::note::{Allowed, Visibility};
use domain::{CommandId, Event, FileId, NoteId, UserId, drive, follow, note, reaction};
use futures_util::{StreamExt, TryStreamExt, stream};
use gateway::ops::{SecretKey, Tokens};
use gateway::platform::postgres::running_in;
use gateway::system::{SystemClock, TimeOrderedIds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, sleep};

use crate::load::{Facts, Person};
use crate::server::Server;

/// Between two notes.
const NOTE_EVERY: TimeDelta = TimeDelta::seconds(60);
/// Whom each person follows.
const FOLLOWS: usize = 50;
/// Of each 100 notes: so many are answered, passed on, passed on with words; and how many reactions they get.
const REPLIES: u32 = 15;
const RENOTES: u32 = 10;
const QUOTES: u32 = 5;
const REACTIONS: u32 = 50;
const MENTIONS: u32 = 5;
/// Every so many-th note has a file.
const FILE_EVERY: usize = 10;
/// Every so many-th note is in a channel, if it may be.
const CHANNEL_EVERY: usize = 7;
/// What is answered and reacted to is one of the last so many public notes.
const RECENT: usize = 500;
/// Events that are on their way to the log at once.
const AT_ONCE: usize = 512;
const SIGN_UPS_AT_ONCE: usize = 16;
/// The same, where each is full of events.
const CROWDS_AT_ONCE: usize = 16;
/// People in one world, unless told otherwise.
pub const PEOPLE: usize = 1_000;
/// In a note.
const MENTIONS_ALLOWED: usize = 20;
/// People with a list and an antenna, and how many are in a list.
const OWNERS: usize = 20;
const MEMBERS: usize = 20;
/// Notes between two words on how far it is.
const TELL_EVERY: usize = 50_000;
/// How long the read models may take for what was appended.
const SHOWN_WITHIN: Duration = Duration::from_secs(3_600);
/// What notes are made of, and searched for.
pub const WORDS: [&str; 24] = [
    "tea",
    "rain",
    "river",
    "train",
    "bread",
    "paper",
    "winter",
    "garden",
    "kettle",
    "window",
    "music",
    "cat",
    "今日",
    "天気",
    "紅茶",
    "電車",
    "散歩",
    "写真",
    "音楽",
    "ねこ",
    "おはよう",
    "眠い",
    "楽しい",
    "明日",
];
const EMOJI: [&str; 4] = ["👍", "🎉", "🍣", "😆"];

pub struct Seed {
    pool: PgPool,
    log: Arc<dyn EventLog>,
    ids: Arc<dyn Ids>,
    commands: Commands,
    tokens: Tokens,
    rng: StdRng,
    people: Vec<UserId>,
    /// The last public notes, in a ring.
    recent: Vec<(NoteId, UserId)>,
    notes: usize,
    /// When the next thing happens.
    now: DateTime<Utc>,
    pub facts: Facts,
}

impl Seed {
    /// People who follow each other and have lists, antennas and channels, on a server that was just started;
    /// they will have written `notes` notes by now.
    pub async fn begin(server: &Server, people: usize, notes: usize, seed: u64) -> Result<Self, String> {
        let past = NOTE_EVERY * i32::try_from(notes).map_err(told)?;
        let mut seed = Self::open(&server.data_dir, past, seed).await?;
        seed.sign_up(people).await?;
        seed.follow_each_other().await?;
        seed.shown().await?;
        seed.prepare(server).await?;
        Ok(seed)
    }

    /// On a server that was just started, where nobody is yet; what happens first was so long ago.
    pub async fn open(data_dir: &Path, past: TimeDelta, seed: u64) -> Result<Self, String> {
        let options = running_in(data_dir).ok_or("the server's PostgreSQL is not there")?;
        let pool = PgPoolOptions::new().max_connections(12).connect_with(options).await.map_err(told)?;
        let master = MasterKey::load(&data_dir.join(gateway::app::MASTER_KEY_FILE)).map_err(told)?;
        let keyring = Arc::new(Keyring::open(pool.clone(), &master).await.map_err(told)?);
        let log = PostgresLog::open(pool.clone(), keyring.clone(), Takeover::Shared).await.map_err(told)?;
        let (log, ids): (Arc<dyn EventLog>, Arc<dyn Ids>) = (Arc::new(log), Arc::new(TimeOrderedIds::new()));
        let tokens = Tokens::new(pool.clone(), SecretKey::new(keyring.derive("tokens")));
        let commands = Commands::new(log.clone(), keyring, ids.clone(), Bus::local());
        Ok(Self {
            pool,
            log,
            ids,
            commands,
            tokens,
            rng: StdRng::seed_from_u64(seed),
            people: Vec::new(),
            recent: Vec::new(),
            notes: 0,
            now: SystemClock.now() - past - TimeDelta::days(1),
            facts: Facts::default(),
        })
    }

    /// Leaves the server alone.
    pub async fn close(self) -> Facts {
        self.pool.close().await;
        self.facts
    }

    /// For the first time: the first of them is root.
    pub async fn sign_up(&mut self, people: usize) -> Result<(), String> {
        let one = async |n: usize, asked_by: AskedBy| {
            let user = UserId(self.ids.at(self.now));
            let account = NewAccount { user, username: format!("person{n}"), asked_by };
            self.commands.sign_up(self.by(), account).await.map_err(told)?;
            let token = self.tokens.native(user, SystemClock.now()).await.map_err(told)?;
            Ok::<_, String>((user, Person { id: user.to_string(), token }))
        };
        let root = one(0, AskedBy::Founder).await?;
        let policies = json!({ "rateLimitFactor": 0, "canSearchNotes": true });
        let policies = serde_json::from_value(policies).map_err(told)?;
        self.commands.change_policies(self.by(), policies).await.map_err(told)?;
        let others = stream::iter(1..people).map(|n| one(n, AskedBy::Administrator));
        let others: Vec<_> = others.buffer_unordered(SIGN_UPS_AT_ONCE).try_collect().await?;
        for (user, person) in std::iter::once(root).chain(others) {
            self.people.push(user);
            self.facts.people.push(person);
        }
        Ok(())
    }

    /// A few have many followers.
    async fn follow_each_other(&mut self) -> Result<(), String> {
        let mut pairs = Vec::new();
        for follower in 0..self.people.len() {
            let mut followed = vec![follower];
            while followed.len() <= FOLLOWS.min(self.people.len() - 1) {
                let followee = self.somebody();
                if !followed.contains(&followee) {
                    followed.push(followee);
                    pairs.push((follower, followee));
                }
            }
        }
        self.follow(pairs).await
    }

    /// Who follows whom, by their places among the people.
    pub async fn follow(&mut self, pairs: Vec<(usize, usize)>) -> Result<(), String> {
        let events = pairs.into_iter().map(|(follower, followee)| {
            let (follower, followee) = (self.people[follower], self.people[followee]);
            Ok((follow::stream(follower, followee), self.by(), self.following(follower, followee)?))
        });
        let events = events.collect::<Result<Vec<_>, String>>()?;
        self.append(events).await
    }

    /// So many follow somebody, of whom nothing else is known. No command would put what many do into one
    /// append; but one for each would take far longer, and the read models come out the same.
    pub async fn follow_from_afar(&mut self, followee: usize, followers: usize) -> Result<(), String> {
        let followee = self.people[followee];
        let mut left = followers;
        while left > 0 {
            let mut appends = Vec::new();
            while left > 0 && appends.len() < CROWDS_AT_ONCE {
                let crowd = left.min(MAX_EVENTS_PER_APPEND);
                left -= crowd;
                let strangers: Vec<UserId> = (0..crowd).map(|_| UserId(self.ids.at(self.now))).collect();
                let stream = follow::stream(strangers[0], followee);
                let events = strangers.into_iter().map(|stranger| self.following(stranger, followee));
                appends.push((stream, self.by(), events.collect::<Result<Vec<_>, String>>()?));
            }
            self.append_all(appends).await?;
        }
        Ok(())
    }

    fn following(&self, follower: UserId, followee: UserId) -> Result<Event, String> {
        let started = json!({
            "id": self.id(), "follower": follower, "followee": followee,
            "with_replies": false, "by_request": false,
        });
        event("follow.started", &started)
    }

    /// What people have that listens or looks for notes, so it is there before them.
    async fn prepare(&mut self, server: &Server) -> Result<(), String> {
        let offered = server.offered().await?;
        let offers = |endpoint: &str| offered.iter().any(|offered| offered == endpoint);
        let owners: Vec<Person> = self.facts.people.iter().take(OWNERS).cloned().collect();
        for person in owners {
            if offers("users/lists/create") {
                let list = server.call(&person, "users/lists/create", json!({ "name": "list" })).await?;
                for member in self.facts.people.iter().rev().take(MEMBERS) {
                    let params = json!({ "listId": list["id"], "userId": member.id });
                    server.call(&person, "users/lists/push", params).await?;
                }
                self.facts.lists.push((person.clone(), id_of(&list)?));
            }
            if offers("antennas/create") {
                let word = WORDS[self.rng.random_range(0..WORDS.len())];
                let params = json!({
                    "name": word, "src": "all", "keywords": [[word]], "excludeKeywords": [[]], "users": [],
                    "caseSensitive": false, "withReplies": true, "withFile": false,
                });
                let antenna = server.call(&person, "antennas/create", params).await?;
                self.facts.antennas.push((person.clone(), id_of(&antenna)?));
            }
            if offers("channels/create") {
                let channel = server.call(&person, "channels/create", json!({ "name": "channel" })).await?;
                self.facts.channels.push((person, id_of(&channel)?));
            }
        }
        Ok(())
    }

    /// Goes on until there are so many notes, and waits until all of it can be read.
    pub async fn write(&mut self, notes: usize) -> Result<(), String> {
        while self.notes < notes {
            self.some_notes(notes - self.notes).await?;
        }
        self.settle().await
    }

    /// Goes on until there are so many events.
    pub async fn grow(&mut self, events: u64) -> Result<(), String> {
        while self.log.head().await.map_err(told)?.0 < events {
            self.some_notes(usize::MAX).await?;
        }
        self.settle().await
    }

    async fn some_notes(&mut self, at_most: usize) -> Result<(), String> {
        let mut events = Vec::new();
        for _ in 0..RECENT.min(at_most) {
            self.a_note(&mut events)?;
            self.notes += 1;
            if self.notes.is_multiple_of(TELL_EVERY) {
                eprintln!("{} notes are written", self.notes);
            }
        }
        self.append(events).await
    }

    /// Until all can be read, and the database has nothing left to do.
    pub async fn settle(&self) -> Result<(), String> {
        self.shown().await?;
        for statement in ["vacuum analyze", "checkpoint"] {
            sqlx::query(statement).execute(&self.pool).await.map_err(told)?;
        }
        Ok(())
    }

    /// A note of somebody by a command, now.
    pub async fn post(&self, author: usize, text: String) -> Result<NoteId, String> {
        let (author, now) = (self.people[author], SystemClock.now());
        let id = NoteId(self.ids.at(now));
        let note = NewNote {
            id,
            text: Some(text),
            cw: None,
            visibility: Visibility::Public,
            visible_to: Vec::new(),
            local_only: false,
            reaction_acceptance: None,
            reply: None,
            renote: None,
            poll: None,
            files: Vec::new(),
            channel: None,
            extract_mentions: true,
            extract_hashtags: true,
            extract_emojis: true,
            allowed: Allowed { public_notes: true, mentions: MENTIONS_ALLOWED },
        };
        let by = By { user: Some(author), now, command: CommandId(self.ids.at(now)) };
        self.commands.write_note(by, author, note).await.map_err(told)?;
        Ok(id)
    }

    fn a_note(&mut self, events: &mut Vec<(StreamId, By, Event)>) -> Result<(), String> {
        self.now += NOTE_EVERY;
        let (id, author) = (NoteId(self.ids.at(self.now)), self.some_user());
        let kind = self.rng.random_range(0..100);
        let target = self.target().filter(|_| kind < REPLIES + RENOTES + QUOTES);
        let parent = target.map(|(id, author)| json!({ "id": id, "author": author }));
        let is_reply = kind < REPLIES;
        let is_pure = target.is_some() && (REPLIES..REPLIES + RENOTES).contains(&kind);
        let visibility = match self.rng.random_range(0..100) {
            _ if is_pure => "public",
            0..80 => "public",
            80..92 => "home",
            92..98 => "followers",
            _ => "specified",
        };
        let mut named: Vec<UserId> =
            target.filter(|_| is_reply).map(|(_, author)| author).into_iter().collect();
        if !is_pure && self.rng.random_range(0..100) < MENTIONS {
            named.push(self.some_user());
        }
        named.retain(|user| *user != author);
        named.dedup();
        let has_file = !is_pure && self.notes.is_multiple_of(FILE_EVERY);
        let files = if has_file { vec![self.a_file(author, events)?] } else { Vec::new() };
        let channels = &self.facts.channels;
        let in_channel = target.is_none() && visibility == "public" && !channels.is_empty();
        let channel = (in_channel && self.notes.is_multiple_of(CHANNEL_EVERY))
            .then(|| channels[self.rng.random_range(0..channels.len())].1.clone());
        let note = json!({
            "id": id, "author": author, "files": files,
            "text": (!is_pure).then(|| self.words()), "cw": null,
            "visibility": visibility, "local_only": false,
            "reply": parent.as_ref().filter(|_| is_reply), "renote": parent.as_ref().filter(|_| !is_reply),
            "mentions": named, "visible_to": if visibility == "specified" { named.clone() } else { Vec::new() },
            "tags": [], "emojis": [], "channel": channel,
        });
        events.push((note::stream(id), self.by(), event("note.created", &note)?));
        self.facts.written(id, visibility == "public" && !is_pure);
        if visibility == "public" && !is_pure {
            if self.recent.len() < RECENT {
                self.recent.push((id, author));
            } else {
                self.recent[self.notes % RECENT] = (id, author);
            }
        }
        if let Some((note, author)) = self.target().filter(|_| self.notes % 100 < REACTIONS as usize) {
            let (reactor, with) = (self.some_user(), EMOJI[self.rng.random_range(0..EMOJI.len())]);
            let added = json!({
                "id": self.id(), "note": note, "author": author, "reactor": reactor, "reaction": with,
            });
            events.push((reaction::stream(note, reactor), self.by(), event("reaction.added", &added)?));
        }
        Ok(())
    }

    /// Known of, though it has no bytes.
    fn a_file(&mut self, owner: UserId, events: &mut Vec<(StreamId, By, Event)>) -> Result<String, String> {
        let id = FileId(self.ids.at(self.now));
        let added = json!({
            "id": id, "owner": owner, "name": "picture.png", "media_type": "image/png",
            "md5": "0".repeat(32), "size": 10_000, "key": id,
        });
        events.push((drive::stream(id), self.by(), event("drive.file_added", &added)?));
        Ok(id.to_string())
    }

    /// Not one of the notes that are only being appended, so that nothing hangs on what is not there.
    fn target(&mut self) -> Option<(NoteId, UserId)> {
        let there = self.recent.len();
        (there == RECENT).then(|| self.recent[self.rng.random_range(0..there)])
    }

    /// Some are likelier than others.
    fn somebody(&mut self) -> usize {
        let draw: f64 = self.rng.random();
        let index = (draw * draw * self.people.len() as f64) as usize;
        index.min(self.people.len() - 1)
    }

    fn some_user(&mut self) -> UserId {
        let index = self.somebody();
        self.people[index]
    }

    fn words(&mut self) -> String {
        let count = self.rng.random_range(3..25);
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.rng.random_range(0..WORDS.len())]).collect();
        words.join(" ")
    }

    fn id(&self) -> String {
        domain::ids::to_ulid(self.ids.at(self.now))
    }

    fn by(&self) -> By {
        By { user: None, now: self.now, command: CommandId(self.ids.at(self.now)) }
    }

    async fn append(&self, events: Vec<(StreamId, By, Event)>) -> Result<(), String> {
        self.append_all(events.into_iter().map(|(stream, by, event)| (stream, by, vec![event])).collect())
            .await
    }

    async fn append_all(&self, appends: Vec<(StreamId, By, Vec<Event>)>) -> Result<(), String> {
        let appends = appends.into_iter().map(async |(stream, by, events)| {
            match self.log.append(&stream, Version::NONE, &by, events).await {
                // The same reaction again.
                Ok(_) | Err(AppendError::Conflict { .. }) => Ok(()),
                Err(error) => Err(told(error)),
            }
        });
        stream::iter(appends).buffer_unordered(AT_ONCE).try_collect().await
    }

    pub async fn shown(&self) -> Result<(), String> {
        let head = i64::try_from(self.log.head().await.map_err(told)?.0).map_err(told)?;
        let until = Instant::now() + SHOWN_WITHIN;
        loop {
            let shown: Option<i64> = sqlx::query_scalar("select min(position) from ops.checkpoints")
                .fetch_one(&self.pool)
                .await
                .map_err(told)?;
            match shown {
                Some(shown) if shown >= head => return Ok(()),
                _ if Instant::now() > until => return Err("the read models don't come along".to_owned()),
                _ => sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

fn id_of(made: &Value) -> Result<String, String> {
    made["id"].as_str().map(str::to_owned).ok_or_else(|| format!("no id in {made}"))
}

/// An event as the log would read it.
fn event(kind: &str, payload: &Value) -> Result<Event, String> {
    Event::from_json(kind, 1, payload.to_string().as_bytes()).map_err(told)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
