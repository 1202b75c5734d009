//! What the tests of this crate share: a log in memory, stories told to it, and random worlds.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::antenna::Source;
use domain::drive::{self, FileChanges};
use domain::emoji::{Asked, Reaction, parse};
use domain::event::Event;
use domain::follow::{Changed, Ended, Notify, RequestEnd, RequestEnded, Requested, Started};
use domain::log::{AppendError, By, EventLog, LogError, Position, Recorded, StreamId, Version};
use domain::mute::Mute;
use domain::note::{Created, Deleted, Parent, Visibility};
use domain::policy::{Facts, Stance};
use domain::poll::{self, Poll, Voted};
use domain::registry::{self, Place};
use domain::remote::{ActorUri, Host, ObjectUri};
use domain::user::{Active, ProfileChanges};
use domain::{
    AnnouncementId, AntennaId, BlockId, ChannelId, ClipFavoriteId, ClipId, CommandId, DraftId, EmojiId,
    FavoriteId, FileId, FolderId, FollowId, FollowRequestId, InvitationId, ListId, MembershipId, MuteId,
    NoteId, PinId, ReactionId, RegistryItemId, RenoteMuteId, ReportId, RoleAssignmentId, RoleId, UserId,
    VoteId, WorkId, WorkLikeId, achievement, announcement, antenna, block, channel, clip, draft, emoji,
    favorite, invitation, list, memo, moderation, mute, pin, reaction, report, role, user as person,
};
use proptest::prelude::*;
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::{Notify as Bell, watch};
use tokio::time::Instant;
use tracing::span;
use uuid::Uuid;

use crate::cache::Kept;
use crate::runtime::{LIVE_SCHEMA, Standing, hears};
use crate::{ProjectError, Projector, projectors};

/// When stories begin, in milliseconds since 1970.
pub const NOW: i64 = 1_700_000_000_000;

pub fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap()
}

fn id_at(millis: i64, n: u64) -> Uuid {
    Uuid::from_u128((millis as u128) << 80 | 0x7000_8000_0000_0000_0000 | u128::from(n) << 40)
}

/// A person who came before all stories, in the order of their numbers.
pub fn user(n: u8) -> UserId {
    UserId(id_at(NOW - 1_000, u64::from(n)))
}

pub fn role_id(n: u8) -> RoleId {
    RoleId(id_at(NOW - 500, u64::from(n)))
}

pub fn emoji(text: &str) -> Reaction {
    match parse(text) {
        Asked::Unicode(reaction) => reaction,
        Asked::Custom(name) => Reaction::local(&name),
    }
}

/// A custom emoji of this name.
pub fn emoji_definition(name: &str) -> domain::emoji::Definition {
    domain::emoji::Definition {
        name: name.to_owned(),
        aliases: Vec::new(),
        category: None,
        license: None,
        sensitive: false,
        local_only: false,
        roles: Vec::new(),
        memo: String::new(),
        picture: domain::emoji::Picture {
            key: format!("key-{name}"),
            thumbnail: None,
            media_type: "image/png".to_owned(),
        },
    }
}

/// A log in memory: what the conformance suite asks of it is not the point here.
#[derive(Default)]
pub struct MemoryLog {
    events: Mutex<Vec<Recorded>>,
    bell: Bell,
}

impl MemoryLog {
    pub fn push(&self, at: DateTime<Utc>, event: Option<Event>, kind: &str) -> Position {
        let mut events = self.events.lock().unwrap();
        let position = Position(events.len() as u64 + 1);
        let command = CommandId(id_at(at.timestamp_millis(), position.0));
        events.push(Recorded {
            position,
            ordinal: 0,
            id: command.event(0),
            stream: StreamId::new("test", position),
            version: Version(1),
            kind: kind.to_owned(),
            at,
            subject: event.as_ref().and_then(Event::subject),
            actor: None,
            command,
            event,
        });
        self.bell.notify_waiters();
        position
    }

    /// Who did what stands at a position.
    pub fn acted(&self, position: Position, by: UserId) {
        let mut events = self.events.lock().unwrap();
        if let Some(event) = events.iter_mut().find(|event| event.position == position) {
            event.actor = Some(by);
        }
    }

    /// From now on nobody can read what is theirs.
    pub fn forget(&self, user: UserId) {
        for event in self.events.lock().unwrap().iter_mut().filter(|event| event.subject == Some(user)) {
            event.event = None;
        }
    }

    pub fn all(&self) -> Vec<Arc<Recorded>> {
        self.events.lock().unwrap().iter().cloned().map(Arc::new).collect()
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(
        &self,
        _: &StreamId,
        _: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        let mut position = Position::START;
        for event in events {
            let kind = event.kind().0;
            position = self.push(by.now, Some(event), kind);
        }
        Ok(position)
    }

    async fn stream(&self, _: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        Ok((Vec::new(), Version::NONE))
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let events = self.events.lock().unwrap();
        Ok(events.iter().filter(|event| event.position > position).take(limit).cloned().collect())
    }

    async fn head(&self) -> Result<Position, LogError> {
        Ok(Position(self.events.lock().unwrap().len() as u64))
    }

    async fn wait(&self, position: Position) {
        let rung = self.bell.notified();
        if self.events.lock().unwrap().len() as u64 <= position.0 {
            rung.await;
        }
    }
}

/// The same events over some days: hours pass between them, and some are told late.
pub fn over_days(events: &[Arc<Recorded>]) -> Vec<Arc<Recorded>> {
    let later = |(n, event): (usize, &Arc<Recorded>)| {
        let minutes = 97 * n as i64 - if n % 7 == 3 { 200 } else { 0 };
        Arc::new(Recorded { at: at(NOW + 60_000 * minutes), ..event.as_ref().clone() })
    };
    events.iter().enumerate().map(later).collect()
}

/// Tells events to a log and, when asked, applies them with every projector.
pub struct Story {
    pub pool: PgPool,
    pub log: Arc<MemoryLog>,
    clock: i64,
    told: u64,
    projected: usize,
}

impl Story {
    pub fn new(pool: &PgPool) -> Self {
        Self { pool: pool.clone(), log: Arc::default(), clock: NOW, told: 0, projected: 0 }
    }

    /// A new id, later than all before.
    pub fn id(&mut self) -> Uuid {
        self.told += 1;
        self.clock += 10;
        id_at(self.clock, self.told)
    }

    pub fn says(&mut self, event: impl Into<Event>) -> Position {
        let event = event.into();
        self.clock += 10;
        let kind = event.kind().0;
        self.log.push(at(self.clock), Some(event), kind)
    }

    /// The same, because somebody did it.
    pub fn does(&mut self, by: UserId, event: impl Into<Event>) -> Position {
        let position = self.says(event);
        self.log.acted(position, by);
        position
    }

    pub fn person(&mut self, n: u8, username: &str) {
        self.says(person::Created { user: user(n), username: username.to_owned(), host: None, uri: None });
    }

    pub fn changes(&mut self, n: u8, changes: ProfileChanges) {
        self.says(person::Changed { user: user(n), changes });
    }

    pub fn follow(&mut self, follower: u8, followee: u8) {
        let id = FollowId(self.id());
        self.says(Started {
            id,
            follower: user(follower),
            followee: user(followee),
            with_replies: false,
            by_request: false,
            message: None,
        });
    }

    /// A public note that says its number, changed as asked.
    pub fn note(&mut self, author: u8, change: impl FnOnce(&mut Created)) -> NoteId {
        let id = NoteId(self.id());
        let mut note = Created {
            id,
            author: user(author),
            text: Some(format!("note {}", self.told)),
            cw: None,
            visibility: Visibility::Public,
            local_only: false,
            reaction_acceptance: None,
            reply: None,
            renote: None,
            thread: None,
            mentions: Vec::new(),
            visible_to: Vec::new(),
            tags: Vec::new(),
            emojis: Vec::new(),
            poll: None,
            files: Vec::new(),
            channel: None,
            uri: None,
        };
        change(&mut note);
        self.says(note);
        id
    }

    pub fn renote(&mut self, by: u8, note: NoteId, author: u8) -> NoteId {
        self.note(by, |n| {
            n.text = None;
            n.renote = Some(Parent { id: note, author: user(author) });
        })
    }

    /// A public role of this number, changed as asked; made anew when there is one.
    pub fn role(&mut self, n: u8, change: impl FnOnce(&mut role::Definition)) -> RoleId {
        let mut definition = role::Definition {
            name: format!("role {n}"),
            description: String::new(),
            color: None,
            icon_url: None,
            target: role::Target::Manual,
            condition: Value::Null,
            is_public: true,
            is_moderator: false,
            is_administrator: false,
            is_explorable: true,
            as_badge: false,
            badge_behavior: None,
            preserve_assignment_on_move_account: false,
            can_edit_members_by_moderator: false,
            display_order: 0,
            policies: Default::default(),
        };
        change(&mut definition);
        self.says(role::Created { role: role_id(n), definition });
        role_id(n)
    }

    pub fn assign(&mut self, n: u8, role: RoleId, expires_at: Option<DateTime<Utc>>) -> RoleAssignmentId {
        let id = RoleAssignmentId(self.id());
        self.says(role::Assigned { id, role, user: user(n), expires_at, memo: None, tells: true });
        id
    }

    /// A small picture, changed as asked.
    pub fn file(&mut self, owner: u8, change: impl FnOnce(&mut drive::FileAdded)) -> FileId {
        let id = FileId(self.id());
        let mut file = drive::FileAdded {
            id,
            owner: user(owner),
            name: "a.png".to_owned(),
            comment: None,
            media_type: "image/png".to_owned(),
            md5: "00".repeat(16),
            size: 10,
            sensitive: false,
            properties: drive::Properties::default(),
            blurhash: None,
            folder: None,
            key: id.to_string(),
            thumbnail: None,
        };
        change(&mut file);
        self.says(file);
        id
    }

    pub fn react(&mut self, by: u8, note: NoteId, author: u8, with: &str) {
        let id = ReactionId(self.id());
        let (author, reactor, reaction) = (user(author), user(by), emoji(with));
        self.says(reaction::Added { id, note, author, reactor, reaction });
    }

    pub fn unreact(&mut self, by: u8, note: NoteId, author: u8, with: &str) {
        let (author, reactor, reaction) = (user(author), user(by), emoji(with));
        self.says(reaction::Removed { note, author, reactor, reaction });
    }

    pub fn vote(&mut self, by: u8, note: NoteId, author: u8, choice: u32) {
        let id = VoteId(self.id());
        self.says(Voted { id, note, author: user(author), voter: user(by), choice });
    }

    pub fn list(&mut self, owner: u8, name: &str) -> ListId {
        let id = ListId(self.id());
        self.says(list::Created { id, owner: user(owner), name: name.to_owned() });
        id
    }

    pub fn list_member(&mut self, list: ListId, owner: u8, member: u8) {
        let id = MembershipId(self.id());
        self.says(list::MemberAdded { id, list, owner: user(owner), user: user(member) });
    }

    /// An antenna of a person for one word; those for people are for `bob`.
    pub fn antenna(&mut self, owner: u8, source: Source, word: &str) -> AntennaId {
        let settings = Self::settings(source, word);
        self.antenna_for(owner, settings)
    }

    pub fn antenna_for(&mut self, owner: u8, settings: antenna::Settings) -> AntennaId {
        let id = AntennaId(self.id());
        self.says(antenna::Created { id, owner: user(owner), settings });
        id
    }

    pub fn settings(source: Source, word: &str) -> antenna::Settings {
        antenna::Settings {
            name: "antenna".to_owned(),
            source,
            list: None,
            keywords: vec![vec![word.to_owned()]],
            exclude_keywords: Vec::new(),
            users: vec!["bob".to_owned()],
            accounts: vec!["bob".to_owned()],
            case_sensitive: false,
            local_only: false,
            exclude_bots: true,
            with_replies: true,
            with_file: false,
            exclude_notes_in_sensitive_channel: false,
        }
    }

    pub fn channel(&mut self, owner: u8, change: impl FnOnce(&mut channel::Created)) -> ChannelId {
        let id = ChannelId(self.id());
        let mut made = channel::Created {
            banner: None,
            id,
            owner: user(owner),
            name: format!("channel of user{owner}"),
            description: Some("about something".to_owned()),
            color: channel::DEFAULT_COLOR.to_owned(),
            is_sensitive: false,
            allow_renote_to_external: true,
        };
        change(&mut made);
        self.says(made);
        id
    }

    /// Lets days go by.
    pub fn pass(&mut self, days: i64) {
        self.clock += days * 86_400_000;
    }

    pub fn favorite(&mut self, by: u8, note: NoteId) -> FavoriteId {
        let id = FavoriteId(self.id());
        self.says(favorite::Added { id, note, user: user(by) });
        id
    }

    pub fn unfavorite(&mut self, by: u8, note: NoteId) {
        self.says(favorite::Removed { note, user: user(by) });
    }

    pub fn pin(&mut self, by: u8, note: NoteId) {
        let id = PinId(self.id());
        self.says(pin::Added { id, user: user(by), note });
    }

    pub fn unpin(&mut self, by: u8, note: NoteId) {
        self.says(pin::Removed { user: user(by), note });
    }

    pub fn clip(&mut self, by: u8, name: &str, public: bool) -> ClipId {
        let id = ClipId(self.id());
        let about = clip::About { name: name.to_owned(), description: None, public };
        self.says(clip::Created { id, user: user(by), about });
        id
    }

    pub fn put_in(&mut self, owner: u8, clip: ClipId, note: NoteId) {
        self.says(clip::NoteAdded { clip, user: user(owner), note });
    }

    pub fn work(&mut self, by: u8, work: domain::work::Content) -> WorkId {
        let id = WorkId(self.id());
        self.says(domain::work::Created { id, user: user(by), work });
        id
    }

    /// Likes a play.
    pub fn like(&mut self, by: u8, owner: u8, work: WorkId) -> WorkLikeId {
        let id = WorkLikeId(self.id());
        let (owner, user) = (user(owner), user(by));
        self.says(domain::work::Liked { id, work, kind: domain::work::Kind::Play, owner, user });
        id
    }

    pub fn keep_clip(&mut self, by: u8, clip: ClipId) {
        let id = ClipFavoriteId(self.id());
        self.says(clip::Favorited { id, clip, user: user(by) });
    }

    pub fn keep(&mut self, by: u8, place: Place, value: serde_json::Value) {
        let id = RegistryItemId(self.id());
        self.says(registry::Set { id, user: user(by), place, value });
    }

    pub fn drop_kept(&mut self, by: u8, place: Place) {
        self.says(registry::Removed { user: user(by), place });
    }

    pub fn earn(&mut self, by: u8, name: &str) {
        self.says(achievement::Earned { user: user(by), name: name.to_owned() });
    }

    /// Applies what was told since the last time, as one batch.
    pub async fn project(&mut self) {
        self.project_in(usize::MAX).await;
    }

    /// The same, in batches of so many events.
    pub async fn project_in(&mut self, size: usize) {
        let events = self.log.all();
        self.apply(&events[self.projected..], size).await;
        self.projected = events.len();
    }

    /// Applies events that this log need not have, in batches of so many.
    pub async fn apply(&self, events: &[Arc<Recorded>], size: usize) {
        for projector in projectors() {
            for batch in events.chunks(size) {
                apply(&self.pool, projector.as_ref(), batch).await;
            }
        }
    }

    /// Empties every read table, and forgets what was projected.
    pub async fn empty(&mut self) {
        let tables: Vec<String> = projectors()
            .iter()
            .flat_map(|p| p.tables())
            .map(|table| format!("{LIVE_SCHEMA}.{table}"))
            .collect();
        let sql = format!("truncate {}", tables.join(", "));
        sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
        self.projected = 0;
    }

    /// A hash of every read table.
    pub async fn hashes(&self) -> Vec<(&'static str, Option<String>)> {
        let mut hashes = Vec::new();
        for table in projectors().iter().flat_map(|p| p.tables().iter().copied()) {
            let sql = format!(
                "select md5(string_agg(t::text, E'\\n' order by t::text)) from {LIVE_SCHEMA}.{table} t"
            );
            let hash = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap();
            hashes.push((table, hash));
        }
        hashes
    }
}

pub async fn apply(pool: &PgPool, projector: &dyn Projector, batch: &[Arc<Recorded>]) {
    let heard: Vec<_> = batch.iter().filter(|event| hears(projector, event)).cloned().collect();
    if heard.is_empty() {
        return;
    }
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let schema = format!("set local search_path to {LIVE_SCHEMA}");
    sqlx::query(AssertSqlSafe(schema)).execute(&mut *tx).await.unwrap();
    projector.apply(&mut tx, &heard).await.unwrap();
    let reached = batch.last().map_or(0, |event| event.position.0 as i64);
    sqlx::query(
        "insert into ops.checkpoints as c (projector, version, position) values ($1, 0, $2)
         on conflict (projector) do update set position = greatest(c.position, excluded.position)",
    )
    .bind(projector.name())
    .bind(reached)
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

/// Projectors at places of their own.
pub struct Places<'e> {
    pool: &'e PgPool,
    events: &'e [Arc<Recorded>],
    at: Vec<usize>,
}

impl<'e> Places<'e> {
    pub fn new(pool: &'e PgPool, events: &'e [Arc<Recorded>]) -> Self {
        Self { pool, events, at: vec![0; projectors().len()] }
    }

    /// Lets each apply as many events as it is told, in all.
    pub async fn go_to(&mut self, to: impl Fn(usize) -> usize) {
        for (n, projector) in projectors().iter().enumerate() {
            let (from, to) = (self.at[n], to(n).min(self.events.len()).max(self.at[n]));
            apply(self.pool, projector.as_ref(), &self.events[from..to]).await;
            self.at[n] = to;
        }
    }
}

/// Lets memory hear the first events of a log.
pub fn take_in(kept: &Kept, events: &[Arc<Recorded>], count: usize) -> Position {
    let between = |from: Position, to: Position| {
        let between = events.iter().filter(|event| event.position > from && event.position <= to);
        Some(between.cloned().collect())
    };
    kept.take_in(Standing { at: Position(count as u64), holds: true, doubts: 0 }, between).unwrap()
}

/// People in a random world.
pub const PEOPLE: u8 = 5;
/// Roles in a random world.
const ROLES: u8 = 2;

/// One thing that happens in a random world. Notes are named by their number, wrapped around.
#[derive(Debug, Clone)]
pub enum Act {
    Write {
        author: u8,
        visibility: Visibility,
        reply: Option<usize>,
        renote: Option<usize>,
        pure: bool,
        poll: bool,
        remote: bool,
        mentions: Vec<u8>,
        visible_to: Vec<u8>,
    },
    Delete(usize),
    Follow {
        follower: u8,
        followee: u8,
        with_replies: bool,
        notify: bool,
    },
    Unfollow {
        follower: u8,
        followee: u8,
    },
    Ask {
        follower: u8,
        followee: u8,
    },
    React {
        by: u8,
        note: usize,
        with: &'static str,
    },
    Vote {
        by: u8,
        note: usize,
        choice: u32,
    },
    Rules {
        user: u8,
        signin: bool,
        followers_before: Option<i64>,
        hidden_before: Option<i64>,
    },
    /// Begins, or ends.
    Block {
        blocker: u8,
        blockee: u8,
    },
    Mute {
        muter: u8,
        mutee: u8,
        /// Milliseconds from when stories begin.
        until: Option<i64>,
    },
    MuteRenotes {
        muter: u8,
        mutee: u8,
    },
    MuteThread {
        by: u8,
        note: usize,
    },
    Memo {
        user: u8,
        about: u8,
        memo: Option<&'static str>,
    },
    EndPoll(usize),
    Wish {
        user: u8,
        kind: &'static str,
        word: Option<&'static str>,
    },
    Active(u8),
    ReadAll(u8),
    Flush(u8),
    /// Makes a list, or puts somebody into one of the person's, or takes them out, or likes a list.
    List {
        by: u8,
        what: u8,
        list: usize,
        other: u8,
    },
    Assign {
        user: u8,
        role: u8,
        tells: bool,
        expires_at: Option<i64>,
    },
    Unassign {
        user: u8,
        role: u8,
    },
    EndRole(u8),
    /// A moderator does something about somebody, or somebody has to do with the server.
    Moderate {
        what: u8,
        by: u8,
        other: u8,
        n: usize,
    },
    Keep {
        owner: u8,
        folder: Option<usize>,
    },
    MoveFile {
        file: usize,
        folder: Option<usize>,
    },
    DeleteFile(usize),
    MakeFolder {
        owner: u8,
        parent: Option<usize>,
    },
    DeleteFolder(usize),
    /// Makes a channel, changes one, or becomes something to it; `Write` may write in it.
    Channel {
        by: u8,
        what: u8,
        channel: usize,
    },
    /// Makes an antenna of some source, or changes, uses or deletes one; or somebody is a bot.
    Antenna {
        by: u8,
        what: u8,
        antenna: usize,
    },
    /// Keeps a note, or lets it go.
    Favorite {
        by: u8,
        note: usize,
    },
    /// Pins a note, or unpins it.
    Pin {
        by: u8,
        note: usize,
    },
    Clip {
        by: u8,
        public: bool,
    },
    /// Keeps a draft, has a note posted later, or does something with one of those there are.
    Draft {
        by: u8,
        what: u8,
        draft: usize,
    },
    /// Deletes a clip, renames it, or keeps it or lets it go.
    OfClip {
        clip: usize,
        what: u8,
        by: u8,
    },
    /// Puts a note into a clip, or takes it out.
    PutIn {
        clip: usize,
        note: usize,
    },
    /// Makes a work, changes or deletes one, or likes it or takes that back.
    Work {
        by: u8,
        what: u8,
        work: usize,
    },
    /// Sets a value, or removes it.
    Set {
        by: u8,
        key: &'static str,
        value: Option<i32>,
    },
    Earn {
        by: u8,
        name: &'static str,
    },
}

fn someone() -> impl Strategy<Value = u8> {
    1..=PEOPLE
}

fn an_act() -> impl Strategy<Value = Act> {
    let visibility = prop::sample::select(vec![
        Visibility::Public,
        Visibility::Public,
        Visibility::Home,
        Visibility::Followers,
        Visibility::Specified,
    ]);
    let named = || prop::collection::vec(someone(), 0..2);
    let parent = || prop::option::weighted(0.4, any::<usize>());
    let write = (someone(), visibility, parent(), parent(), any::<(bool, bool)>(), 0..5, named(), named())
        .prop_map(|(author, visibility, reply, renote, (pure, poll), remote, mentions, visible_to)| {
            let remote = remote == 0;
            Act::Write { author, visibility, reply, renote, pure, poll, remote, mentions, visible_to }
        });
    // Ages around those of the notes of a story.
    let before = || prop::option::weighted(0.3, prop::sample::select(vec![NOW / 1_000 + 1, -7, -1]));
    prop_oneof![
        24 => write,
        4 => any::<usize>().prop_map(Act::Delete),
        4 => (someone(), someone(), any::<(bool, bool)>()).prop_map(|(follower, followee, (r, n))| {
            Act::Follow { follower, followee, with_replies: r, notify: n }
        }),
        1 => (someone(), someone()).prop_map(|(follower, followee)| Act::Unfollow { follower, followee }),
        3 => (someone(), someone()).prop_map(|(follower, followee)| Act::Ask { follower, followee }),
        3 => (someone(), any::<usize>(), prop::sample::select(vec!["👍", "🎉"]))
            .prop_map(|(by, note, with)| Act::React { by, note, with }),
        2 => (someone(), any::<usize>(), 0..2u32).prop_map(|(by, note, choice)| Act::Vote { by, note, choice }),
        1 => (someone(), any::<bool>(), before(), before()).prop_map(|(user, signin, followers_before, hidden_before)| {
            Act::Rules { user, signin, followers_before, hidden_before }
        }),
        1 => (someone(), someone()).prop_map(|(blocker, blockee)| Act::Block { blocker, blockee }),
        2 => (someone(), someone(), prop::option::of(0..1_000_i64))
            .prop_map(|(muter, mutee, until)| Act::Mute { muter, mutee, until }),
        1 => (someone(), someone()).prop_map(|(muter, mutee)| Act::MuteRenotes { muter, mutee }),
        2 => (someone(), any::<usize>()).prop_map(|(by, note)| Act::MuteThread { by, note }),
        4 => (someone(), someone(), prop::option::weighted(0.8, Just("a memo")))
            .prop_map(|(user, about, memo)| Act::Memo { user, about, memo }),
        1 => someone().prop_map(Act::Active),
        1 => someone().prop_map(Act::ReadAll),
        6 => (someone(), 0..6u8, any::<usize>(), someone())
            .prop_map(|(by, what, list, other)| Act::List { by, what, list, other }),
        2 => (someone(), 0..ROLES, any::<bool>(), prop::option::of(1..100_i64))
            .prop_map(|(user, role, tells, end)| {
                let expires_at = end.map(|n| NOW + n * 100);
                Act::Assign { user, role, tells, expires_at }
            }),
        1 => (someone(), 0..ROLES).prop_map(|(user, role)| Act::Unassign { user, role }),
        1 => (0..ROLES).prop_map(Act::EndRole),
        1 => someone().prop_map(Act::Flush),
        1 => any::<usize>().prop_map(Act::EndPoll),
        3 => (someone(), prop::sample::select(vec!["reaction", "mention"]),
              prop::option::of(prop::sample::select(vec!["never", "following", "follower"])))
            .prop_map(|(user, kind, word)| Act::Wish { user, kind, word }),
        14 => (0..17_u8, someone(), someone(), any::<usize>())
            .prop_map(|(what, by, other, n)| Act::Moderate { what, by, other, n }),
        2 => (someone(), any::<Option<usize>>()).prop_map(|(owner, folder)| Act::Keep { owner, folder }),
        1 => (any::<usize>(), any::<Option<usize>>()).prop_map(|(file, folder)| Act::MoveFile { file, folder }),
        1 => any::<usize>().prop_map(Act::DeleteFile),
        1 => (someone(), any::<Option<usize>>()).prop_map(|(owner, parent)| Act::MakeFolder { owner, parent }),
        1 => any::<usize>().prop_map(Act::DeleteFolder),
        8 => (someone(), 0..7u8, any::<usize>())
            .prop_map(|(by, what, channel)| Act::Channel { by, what, channel }),
        3 => (someone(), 0..9u8, any::<usize>())
            .prop_map(|(by, what, antenna)| Act::Antenna { by, what, antenna }),
        2 => (someone(), any::<usize>()).prop_map(|(by, note)| Act::Favorite { by, note }),
        1 => (someone(), any::<usize>()).prop_map(|(by, note)| Act::Pin { by, note }),
        2 => (someone(), any::<bool>()).prop_map(|(by, public)| Act::Clip { by, public }),
        3 => (someone(), 0..6_u8, any::<usize>()).prop_map(|(by, what, draft)| Act::Draft { by, what, draft }),
        3 => (any::<usize>(), 0..5_u8, someone()).prop_map(|(clip, what, by)| Act::OfClip { clip, what, by }),
        3 => any::<(usize, usize)>().prop_map(|(clip, note)| Act::PutIn { clip, note }),
        4 => (someone(), 0..8_u8, any::<usize>()).prop_map(|(by, what, work)| Act::Work { by, what, work }),
        2 => (someone(), prop::sample::select(vec!["a", "b"]), any::<Option<i32>>())
            .prop_map(|(by, key, value)| Act::Set { by, key, value }),
        4 => (someone(), prop::sample::select(vec!["notes1", "login3"]))
            .prop_map(|(by, name)| Act::Earn { by, name }),
    ]
}

fn a_play(private: bool) -> domain::work::Content {
    domain::work::Content::Play(domain::work::Play {
        title: "play".to_owned(),
        summary: String::new(),
        script: String::new(),
        permissions: Vec::new(),
        private,
    })
}

pub fn a_life() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(an_act(), 60..160)
}

/// Two of them, one after the other, in which more of what was written stays.
pub fn a_long_life() -> impl Strategy<Value = Vec<Act>> {
    (a_life(), a_life()).prop_map(|(first, second)| {
        let acts = first.into_iter().chain(second);
        acts.filter(|act| !matches!(act, Act::Delete(number) if number % 4 != 0)).collect()
    })
}

/// What the people of a random life have not written yet.
#[derive(Default)]
struct RandomDrafts(Vec<(DraftId, u8, bool)>);

impl RandomDrafts {
    fn happens(&mut self, story: &mut Story, by: u8, what: u8, draft: usize) -> Option<Created> {
        let content = draft::Content { text: Some(format!("draft {what}")), ..draft::Content::default() };
        let place = draft % self.0.len().max(1);
        let Some(&(id, owner, is_scheduled)) = self.0.get(place).filter(|_| what > 1) else {
            let (id, user) = (DraftId(story.id()), user(by));
            let scheduled_at = (what == 1).then(|| story.now());
            story.says(draft::Saved { id, user, content, scheduled_at });
            self.0.push((id, by, what == 1));
            return None;
        };
        let user = user(owner);
        match (what, is_scheduled) {
            (2, _) => {
                story.says(draft::Deleted { id, user });
            }
            (_, false) => {
                story.says(draft::Changed { id, user, content });
                return None;
            }
            (3, true) => {
                let note = NoteId(story.id());
                story.says(draft::Taken { id, user, note });
                story.says(draft::NotPosted { id, user, content, reason: "why not".to_owned() });
                self.0[place].2 = false;
                return None;
            }
            (_, true) => {
                let mut written = None;
                let note = story.note(owner, |note| written = Some(note.clone()));
                story.says(draft::Taken { id, user, note });
                story.says(draft::Posted { id, user, note });
                self.0.remove(place);
                return written;
            }
        }
        self.0.remove(place);
        None
    }
}

/// The channels of a random life.
#[derive(Default)]
struct RandomChannels {
    channels: Vec<(ChannelId, u8)>,
    /// Channel, person, and what they are to it.
    standing: Vec<(ChannelId, u8, u8)>,
    sensitive: HashSet<ChannelId>,
    /// Notes that were written in one.
    notes: HashMap<NoteId, ChannelId>,
}

impl RandomChannels {
    fn happens(&mut self, story: &mut Story, by: u8, what: u8, channel: usize) -> Option<Created> {
        let Some(&(id, owner)) = self.channels.get(channel % self.channels.len().max(1)).filter(|_| what > 0)
        else {
            let is_sensitive = channel.is_multiple_of(2);
            let made = story.channel(by, |made| made.is_sensitive = is_sensitive);
            self.channels.push((made, by));
            self.sensitive.extend(is_sensitive.then_some(made));
            return None;
        };
        let user = user(by);
        let stood = self.standing.iter().position(|known| *known == (id, by, what));
        match (what, stood) {
            (1, _) => {
                let is_sensitive = channel.is_multiple_of(3);
                self.sensitive.remove(&id);
                self.sensitive.extend(is_sensitive.then_some(id));
                let changes =
                    channel::Changes { is_sensitive: Some(is_sensitive), ..channel::Changes::default() };
                story.says(channel::Changed { id, owner: self::user(owner), changes });
                return None;
            }
            (2..5, Some(place)) => drop(self.standing.remove(place)),
            (2..5, None) => self.standing.push((id, by, what)),
            _ => {
                let mut written = None;
                let note = story.note(by, |note| {
                    note.channel = Some(id);
                    written = Some(note.clone());
                });
                self.notes.insert(note, id);
                return written;
            }
        }
        let event: Event = match (what, stood) {
            (2, None) => channel::Followed { channel: id, user }.into(),
            (2, Some(_)) => channel::Unfollowed { channel: id, user }.into(),
            (3, None) => channel::Favorited { channel: id, user }.into(),
            (3, Some(_)) => channel::Unfavorited { channel: id, user }.into(),
            (_, None) => channel::Muted { channel: id, user, expires_at: None }.into(),
            (_, Some(_)) => channel::Unmuted { channel: id, user }.into(),
        };
        story.says(event);
        None
    }
}

/// The lists of a random life.
#[derive(Default)]
struct RandomLists {
    lists: Vec<(ListId, u8)>,
    members: Vec<(ListId, u8)>,
    likes: Vec<(ListId, u8)>,
}

impl RandomLists {
    fn happens(&mut self, story: &mut Story, by: u8, what: u8, list: usize, other: u8) {
        let Some(&(id, owner)) = self.lists.get(list % self.lists.len().max(1)).filter(|_| what > 0) else {
            let id = story.list(by, &format!("list of user{by}"));
            return self.lists.push((id, by));
        };
        let turned = |pairs: &mut Vec<(ListId, u8)>, who| {
            let place = pairs.iter().position(|pair| *pair == (id, who));
            match place {
                Some(place) => drop(pairs.remove(place)),
                None => pairs.push((id, who)),
            }
            place.is_none()
        };
        match what {
            1 => {
                let is_public = Some(list.is_multiple_of(2));
                story.says(list::Changed { id, owner: user(owner), name: None, is_public });
            }
            2 if turned(&mut self.likes, by) => {
                story.says(list::Favorited { list: id, user: user(by) });
            }
            2 => {
                story.says(list::Unfavorited { list: id, user: user(by) });
            }
            3 if list.is_multiple_of(7) => {
                story.says(list::Deleted { id, owner: user(owner) });
                self.lists.retain(|(list, _)| *list != id);
            }
            _ if turned(&mut self.members, other) => {
                story.list_member(id, owner, other);
                let (owner, with_replies) = (user(owner), list.is_multiple_of(3));
                story.says(list::MemberChanged { list: id, owner, user: user(other), with_replies });
            }
            _ => {
                story.says(list::MemberRemoved { list: id, owner: user(owner), user: user(other) });
            }
        }
    }
}

/// One of somebody's folders by its number, wrapped around.
fn pick(folders: &[(UserId, FolderId)], number: Option<usize>, owner: UserId) -> Option<FolderId> {
    let theirs: Vec<FolderId> = folders.iter().filter(|(of, _)| *of == owner).map(|(_, id)| *id).collect();
    theirs.get(number? % theirs.len().max(1)).copied()
}

/// What a random life came to, kept beside the log in the simplest way.
#[derive(Default)]
pub struct Truth {
    pub notes: Vec<Created>,
    pub profiles: Vec<person::Profile>,
    /// Channels with whom they concern.
    pub channel_follows: HashSet<(ChannelId, UserId)>,
    pub channel_mutes: HashSet<(ChannelId, UserId)>,
    pub sensitive: HashSet<ChannelId>,
    pub in_channel: HashMap<NoteId, ChannelId>,
    /// Follower, followee, with_replies.
    pub follows: Vec<(UserId, UserId, bool)>,
    /// Blocker, blockee.
    pub blocks: Vec<(UserId, UserId)>,
    /// Muter, mutee, until when.
    pub mutes: Vec<(UserId, UserId, Mute)>,
    /// Muter, mutee.
    pub renote_mutes: Vec<(UserId, UserId)>,
    pub thread_mutes: Vec<(UserId, NoteId)>,
    pub suspended: HashSet<UserId>,
}

impl Truth {
    /// What decides who may see a note.
    pub fn facts<'a>(&'a self, note: &'a Created) -> Facts<'a> {
        let mut facts = Facts::of(note, self.profile(note.author));
        facts.rules.suspended = self.suspended.contains(&note.author);
        facts
    }

    /// What somebody is to another, as the policy asks it.
    pub fn stance(&self, me: UserId, of: UserId, now: DateTime<Utc>) -> Stance {
        let mutes =
            |(muter, mutee, mute): &(UserId, UserId, Mute)| (*muter, *mutee) == (me, of) && mute.stands(now);
        Stance {
            mutes: self.mutes.iter().any(mutes),
            mutes_renotes: self.renote_mutes.contains(&(me, of)),
            blocks: self.blocks.contains(&(me, of)),
            is_blocked: self.blocks.contains(&(of, me)),
        }
    }

    pub fn mutes_thread(&self, user: UserId, thread: NoteId) -> bool {
        self.thread_mutes.contains(&(user, thread))
    }

    pub fn follows(&self, follower: UserId, followee: UserId) -> bool {
        self.follows.iter().any(|(from, to, _)| (*from, *to) == (follower, followee))
    }

    pub fn profile(&self, of: UserId) -> &person::Profile {
        let n = (1..=PEOPLE).find(|n| user(*n) == of).unwrap();
        &self.profiles[usize::from(n) - 1]
    }

    fn delete(&mut self, id: NoteId) {
        let mut gone = vec![id];
        while let Some(id) = gone.pop() {
            self.notes.retain(|note| note.id != id);
            let lost = |parent: Option<Parent>| parent.is_some_and(|parent| parent.id == id);
            gone.extend(self.notes.iter().filter(|n| lost(n.reply) || lost(n.renote)).map(|n| n.id));
        }
    }
}

/// Puts it in or takes it out; whether it is in now.
fn toggle<T: PartialEq>(all: &mut Vec<T>, one: T) -> bool {
    let before = all.len();
    all.retain(|other| *other != one);
    let begins = all.len() == before;
    if begins {
        all.push(one);
    }
    begins
}

impl Story {
    /// Tells a random life and erases somebody; gives the events as they could be read when they were new.
    pub fn live_and_end(&mut self, life: &[Act], erased: u8) -> Vec<Arc<Recorded>> {
        self.live(life);
        // They were read before they couldn't be read any more.
        let mut events = self.log.all();
        self.log.forget(user(erased));
        self.says(person::Erased { user: user(erased) });
        events.extend(self.log.all().pop());
        events
    }

    /// Tells a random life, in which each event is one that decisions could have made, or (a reply to
    /// what is just going) that a race could have let through.
    pub fn live(&mut self, life: &[Act]) -> Truth {
        let mut truth = Truth::default();
        let mut moderation = Moderation::default();
        let mut written: Vec<(NoteId, UserId)> = Vec::new();
        let mut threads: HashMap<NoteId, NoteId> = HashMap::new();
        let mut ending: Vec<NoteId> = Vec::new();
        let mut reactions: Vec<(NoteId, u8, &str)> = Vec::new();
        let mut votes: Vec<(NoteId, u8, u32)> = Vec::new();
        let mut asked: Vec<(u8, u8)> = Vec::new();
        let mut files: Vec<(UserId, FileId)> = Vec::new();
        let mut folders: Vec<(UserId, FolderId)> = Vec::new();
        let mut gone: std::collections::BTreeSet<FolderId> = std::collections::BTreeSet::new();
        let mut days = [0_u32; PEOPLE as usize];
        let mut lists = RandomLists::default();
        let mut antennas: Vec<(AntennaId, u8)> = Vec::new();
        let mut channels = RandomChannels::default();
        let mut drafts = RandomDrafts::default();
        let (mut kept, mut pinned, mut kept_clips) = (Vec::new(), Vec::new(), Vec::new());
        let (mut clips, mut clipped): (Vec<(ClipId, u8)>, Vec<_>) = Default::default();
        let (mut works, mut liked): (Vec<(WorkId, u8)>, Vec<_>) = Default::default();
        for n in 1..=PEOPLE {
            // The last one is of another server.
            let host = (n == PEOPLE).then(|| Host::parse("r.example").unwrap());
            let uri = host.as_ref().map(|_| ActorUri::parse("https://r.example/users/1").unwrap());
            self.says(person::Created { user: user(n), username: format!("user{n}"), host, uri });
            truth.profiles.push(person::Profile::default());
        }
        for act in life {
            match act.clone() {
                Act::Write {
                    author,
                    visibility,
                    reply,
                    renote,
                    pure,
                    poll,
                    remote,
                    mentions,
                    visible_to,
                } => {
                    let parent = |number: Option<usize>| {
                        let (id, author) = *written.get(number? % written.len().max(1))?;
                        Some(Parent { id, author })
                    };
                    let (reply, renote) = (parent(reply), parent(renote));
                    let pure = pure && reply.is_none() && renote.is_some();
                    let mut created = None;
                    self.note(author, |note| {
                        note.visibility = visibility;
                        note.reply = reply;
                        note.renote = renote;
                        note.thread = reply.and_then(|reply| threads.get(&reply.id)).copied();
                        if pure {
                            note.text = None;
                        }
                        note.poll = (poll && !pure).then(|| Poll {
                            choices: vec!["a".to_owned(), "b".to_owned()],
                            multiple: true,
                            // Some of them end.
                            expires_at: (mentions.len() == 1).then(|| at(NOW + 100)),
                        });
                        note.mentions = mentions.into_iter().map(user).collect();
                        note.visible_to = visible_to.into_iter().map(user).collect();
                        note.tags =
                            note.mentions.iter().map(|user| format!("tag{}", user.0.as_u128() % 2)).collect();
                        note.tags.dedup();
                        note.uri = remote
                            .then(|| ObjectUri::parse(&format!("https://r.example/{}", note.id)).unwrap());
                        created = Some(note.clone());
                    });
                    let note = created.unwrap();
                    written.push((note.id, note.author));
                    threads.insert(note.id, note.thread());
                    if note.poll.as_ref().is_some_and(|poll| poll.expires_at.is_some()) {
                        ending.push(note.id);
                    }
                    let there = |parent: Option<Parent>| {
                        parent.is_none_or(|parent| truth.notes.iter().any(|note| note.id == parent.id))
                    };
                    if there(note.reply) && there(note.renote) {
                        truth.notes.push(note);
                    }
                }
                Act::Delete(number) if !written.is_empty() => {
                    let (id, author) = written[number % written.len()];
                    self.says(Deleted { id, author });
                    truth.delete(id);
                }
                Act::Follow { follower, followee, with_replies, notify } if follower != followee => {
                    let (from, to) = (user(follower), user(followee));
                    if !truth.follows(from, to) {
                        let id = FollowId(self.id());
                        let by_request = asked.contains(&(follower, followee));
                        asked.retain(|pair| *pair != (follower, followee));
                        self.says(Started {
                            id,
                            follower: from,
                            followee: to,
                            with_replies: false,
                            by_request,
                            message: None,
                        });
                        truth.follows.push((from, to, false));
                    }
                    let notify = Some(if notify { Notify::Normal } else { Notify::None });
                    let with = Some(with_replies);
                    self.says(Changed { follower: from, followee: to, notify, with_replies: with });
                    for follow in &mut truth.follows {
                        if (follow.0, follow.1) == (from, to) {
                            follow.2 = with_replies;
                        }
                    }
                }
                Act::Unfollow { follower, followee } => {
                    let (from, to) = (user(follower), user(followee));
                    if truth.follows(from, to) {
                        self.says(Ended { follower: from, followee: to, by_followee: false });
                        truth.follows.retain(|(a, b, _)| (*a, *b) != (from, to));
                    }
                }
                Act::Ask { follower, followee } => {
                    let (from, to) = (user(follower), user(followee));
                    if asked.contains(&(follower, followee)) {
                        self.says(RequestEnded { follower: from, followee: to, how: RequestEnd::Rejected });
                        asked.retain(|pair| *pair != (follower, followee));
                    } else if !truth.follows(from, to) && follower != followee {
                        let id = FollowRequestId(self.id());
                        self.says(Requested { id, follower: from, followee: to, with_replies: true });
                        asked.push((follower, followee));
                    }
                }
                Act::React { by, note, with } if !written.is_empty() => {
                    let (note, author) = written[note % written.len()];
                    let author = (1..=PEOPLE).find(|n| user(*n) == author).unwrap();
                    let standing = reactions.iter().position(|(n, p, _)| (*n, *p) == (note, by));
                    if let Some((_, _, old)) = standing.map(|index| reactions.remove(index)) {
                        self.unreact(by, note, author, old);
                    } else {
                        self.react(by, note, author, with);
                        reactions.push((note, by, with));
                    }
                }
                Act::Vote { by, note, choice } if !written.is_empty() => {
                    let (note, author) = written[note % written.len()];
                    let author = (1..=PEOPLE).find(|n| user(*n) == author).unwrap();
                    if !votes.contains(&(note, by, choice)) {
                        self.vote(by, note, author, choice);
                        votes.push((note, by, choice));
                    }
                }
                Act::Rules { user: n, signin, followers_before, hidden_before } => {
                    let changes = ProfileChanges {
                        require_signin_to_view_contents: Some(signin),
                        make_notes_followers_only_before: Some(followers_before),
                        make_notes_hidden_before: Some(hidden_before),
                        description: Some(signin.then(|| "likes #tag1 and #tag2".to_owned())),
                        ..Default::default()
                    };
                    changes.apply_to(&mut truth.profiles[usize::from(n) - 1]);
                    self.changes(n, changes);
                }
                Act::Block { blocker, blockee } if blocker != blockee => {
                    let (from, to) = (user(blocker), user(blockee));
                    if toggle(&mut truth.blocks, (from, to)) {
                        let sides = [(blocker, blockee), (blockee, blocker)];
                        for (follower, followee) in sides.map(|(a, b)| (user(a), user(b))) {
                            if truth.follows(follower, followee) {
                                self.says(Ended { follower, followee, by_followee: follower == to });
                            }
                        }
                        truth.follows.retain(|(a, b, _)| ![(from, to), (to, from)].contains(&(*a, *b)));
                        let id = BlockId(self.id());
                        self.says(block::Started { id, blocker: from, blockee: to });
                    } else {
                        self.says(block::Ended { blocker: from, blockee: to });
                    }
                }
                Act::Mute { muter, mutee, until } if muter != mutee => {
                    let (from, to) = (user(muter), user(mutee));
                    let stands = truth.stance(from, to, self.now()).mutes;
                    truth.mutes.retain(|(a, b, _)| (*a, *b) != (from, to));
                    if stands {
                        self.says(mute::Ended { muter: from, mutee: to });
                    } else {
                        let expires_at = until.map(|millis| at(NOW + millis));
                        let id = MuteId(self.id());
                        self.says(mute::Started { id, muter: from, mutee: to, expires_at });
                        truth.mutes.push((from, to, Mute { expires_at }));
                    }
                }
                Act::MuteRenotes { muter, mutee } if muter != mutee => {
                    let (muter, mutee) = (user(muter), user(mutee));
                    if toggle(&mut truth.renote_mutes, (muter, mutee)) {
                        let id = RenoteMuteId(self.id());
                        self.says(mute::RenotesStarted { id, muter, mutee });
                    } else {
                        self.says(mute::RenotesEnded { muter, mutee });
                    }
                }
                Act::MuteThread { by, note } if !written.is_empty() => {
                    let (user, thread) = (user(by), threads[&written[note % written.len()].0]);
                    if toggle(&mut truth.thread_mutes, (user, thread)) {
                        self.says(mute::ThreadStarted { user, thread });
                    } else {
                        self.says(mute::ThreadEnded { user, thread });
                    }
                }
                Act::Memo { user: n, about, memo } => {
                    let memo = memo.map(str::to_owned);
                    self.says(memo::Changed { user: user(n), about: user(about), memo });
                }
                Act::EndPoll(number) if !written.is_empty() => {
                    let (note, author) = written[number % written.len()];
                    if ending.contains(&note) {
                        ending.retain(|other| *other != note);
                        let is_gone = !truth.notes.iter().any(|there| there.id == note);
                        self.says(poll::Ended { note, author, is_gone });
                    }
                }
                Act::Wish { user: n, kind, word } => {
                    let wish = word.map(|word| (kind.to_owned(), serde_json::json!({ "type": word })));
                    let config = wish.into_iter().collect();
                    let changes =
                        ProfileChanges { notification_recieve_config: Some(config), ..Default::default() };
                    changes.apply_to(&mut truth.profiles[usize::from(n) - 1]);
                    self.changes(n, changes);
                }
                Act::Flush(n) => {
                    self.says(domain::notification::Flushed { user: user(n) });
                }
                Act::Active(n) => {
                    let day = &mut days[usize::from(n) - 1];
                    *day += 1;
                    let day = chrono::NaiveDate::from_yo_opt(2026, *day).unwrap();
                    self.says(Active { user: user(n), day });
                }
                Act::ReadAll(n) => {
                    self.says(domain::notification::Read { user: user(n) });
                }
                Act::List { by, what, list, other } => lists.happens(self, by, what, list, other),
                Act::Channel { by, what, channel } => {
                    if let Some(note) = channels.happens(self, by, what, channel) {
                        written.push((note.id, note.author));
                        threads.insert(note.id, note.thread());
                        truth.notes.push(note);
                    }
                }
                Act::Antenna { by, what: what @ 0..5, antenna } => {
                    let sources =
                        [Source::All, Source::Home, Source::Users, Source::List, Source::UsersBlacklist];
                    let mut settings = Self::settings(sources[usize::from(what)], "note");
                    settings.accounts = vec![format!("user{}", antenna % 5)];
                    let mine = lists.lists.iter().filter(|(_, owner)| *owner == by);
                    settings.list = mine.map(|(list, _)| *list).next_back().filter(|_| what == 3);
                    antennas.push((self.antenna_for(by, settings), by));
                }
                Act::Antenna { by, what: 5, antenna } => {
                    let is_bot = Some(antenna % 2 == 1);
                    self.changes(by, ProfileChanges { is_bot, ..ProfileChanges::default() });
                }
                Act::Antenna { what, antenna, .. } if !antennas.is_empty() => {
                    let place = antenna % antennas.len();
                    let (id, owner) = antennas[place];
                    let owner = user(owner);
                    match what {
                        6 => {
                            let settings = Self::settings(Source::All, "1");
                            self.says(antenna::Changed { id, owner, settings });
                        }
                        7 => {
                            let day = at(self.clock).date_naive();
                            self.says(antenna::Used { id, owner, day });
                        }
                        _ => {
                            self.says(antenna::Deleted { id, owner });
                            antennas.remove(place);
                        }
                    }
                }
                Act::Assign { user: n, role, tells, expires_at } => {
                    let id = RoleAssignmentId(self.id());
                    let (role, user, expires_at) = (role_id(role), user(n), expires_at.map(at));
                    let memo = tells.then(|| "memo".to_owned());
                    self.says(role::Assigned { id, role, user, expires_at, memo, tells });
                }
                Act::Unassign { user: n, role } => {
                    self.says(role::Unassigned { role: role_id(role), user: user(n) });
                }
                Act::Moderate { what, by, other, n } => {
                    match what {
                        0 => _ = truth.suspended.insert(user(other)),
                        1 => _ = truth.suspended.remove(&user(other)),
                        _ => (),
                    }
                    moderation.happens(self, what, user(by), user(other), n);
                }
                Act::EndRole(role) => {
                    self.says(role::Deleted { role: role_id(role), name: "a role".to_owned() });
                    self.role(role, |_| ());
                }
                Act::Keep { owner, folder } => {
                    let folder = pick(&folders, folder, user(owner));
                    let file = self.file(owner, |file| file.folder = folder);
                    files.push((user(owner), file));
                }
                // The folder may have gone: a race could have let it through.
                Act::MoveFile { file, folder } if !files.is_empty() => {
                    let (owner, id) = files[file % files.len()];
                    let folder = Some(pick(&folders, folder, owner));
                    let changes =
                        FileChanges { name: Some("b.png".to_owned()), folder, ..Default::default() };
                    self.says(drive::FileChanged { id, owner, changes });
                }
                Act::DeleteFile(file) if !files.is_empty() => {
                    let (owner, id) = files.remove(file % files.len());
                    self.says(drive::FileDeleted { id, owner });
                }
                Act::MakeFolder { owner, parent } => {
                    let parent = pick(&folders, parent, user(owner));
                    let id = FolderId(self.id());
                    self.says(drive::FolderAdded { id, owner: user(owner), name: "f".to_owned(), parent });
                    folders.push((user(owner), id));
                }
                Act::DeleteFolder(folder) if !folders.is_empty() => {
                    let (owner, id) = folders[folder % folders.len()];
                    if gone.insert(id) {
                        self.says(drive::FolderDeleted { id, owner });
                    }
                }
                Act::MoveFile { .. } | Act::DeleteFile(_) | Act::DeleteFolder(_) => (),
                Act::Favorite { by, note } if !written.is_empty() => {
                    let note = written[note % written.len()].0;
                    if toggle(&mut kept, (by, note)) {
                        self.favorite(by, note);
                    } else {
                        self.unfavorite(by, note);
                    }
                }
                Act::Pin { by, note } if !written.is_empty() => {
                    let note = written[note % written.len()].0;
                    if toggle(&mut pinned, (by, note)) {
                        self.pin(by, note);
                    } else {
                        self.unpin(by, note);
                    }
                }
                Act::Draft { by, what, draft } => {
                    if let Some(note) = drafts.happens(self, by, what, draft) {
                        written.push((note.id, note.author));
                        threads.insert(note.id, note.thread());
                        truth.notes.push(note);
                    }
                }
                Act::Clip { by, public } => clips.push((self.clip(by, "clip", public), by)),
                Act::OfClip { clip, what, by } if !clips.is_empty() => {
                    let at = clip % clips.len();
                    let (id, owner) = clips[at];
                    match what {
                        0 => {
                            self.says(clip::Deleted { id, user: user(owner) });
                            clips.remove(at);
                        }
                        1 => {
                            let about = clip::About { name: "new".into(), description: None, public: true };
                            self.says(clip::Changed { id, user: user(owner), about });
                        }
                        _ if toggle(&mut kept_clips, (id, by)) => self.keep_clip(by, id),
                        _ => {
                            self.says(clip::Unfavorited { clip: id, user: user(by) });
                        }
                    }
                }
                Act::Work { by, what, work } => {
                    let place = work % works.len().max(1);
                    match (what, works.get(place).copied()) {
                        (0 | 1, _) | (_, None) => works.push((self.work(by, a_play(what == 0)), by)),
                        (2, Some((id, owner))) => {
                            self.says(domain::work::Deleted {
                                id,
                                kind: domain::work::Kind::Play,
                                user: user(owner),
                            });
                            works.remove(place);
                        }
                        (3, Some((id, owner))) => {
                            let title = Some("other".to_owned());
                            let changes = domain::work::Changes { title, ..Default::default() };
                            self.says(domain::work::Changed { id, user: user(owner), changes });
                        }
                        (_, Some((id, owner))) if toggle(&mut liked, (id, by)) => {
                            self.like(by, owner, id);
                        }
                        (_, Some((id, owner))) => {
                            let (owner, user) = (user(owner), user(by));
                            self.says(domain::work::Unliked { work: id, owner, user });
                        }
                    }
                }
                Act::PutIn { clip, note } if !clips.is_empty() && !written.is_empty() => {
                    let ((clip, owner), note) = (clips[clip % clips.len()], written[note % written.len()].0);
                    if toggle(&mut clipped, (clip, note)) {
                        self.put_in(owner, clip, note);
                    } else {
                        self.says(clip::NoteRemoved { clip, user: user(owner), note });
                    }
                }
                Act::Set { by, key, value } => {
                    let place = Place { domain: None, scope: vec!["s".to_owned()], key: key.to_owned() };
                    match value {
                        Some(value) => self.keep(by, place, value.into()),
                        None => self.drop_kept(by, place),
                    }
                }
                Act::Earn { by, name } => self.earn(by, name),
                Act::Antenna { .. }
                | Act::Delete(_)
                | Act::Follow { .. }
                | Act::React { .. }
                | Act::Vote { .. }
                | Act::Block { .. }
                | Act::Mute { .. }
                | Act::MuteRenotes { .. }
                | Act::MuteThread { .. }
                | Act::EndPoll(_)
                | Act::Favorite { .. }
                | Act::Pin { .. }
                | Act::OfClip { .. }
                | Act::PutIn { .. } => (),
            }
        }
        let standing = |as_what| {
            let all = channels.standing.iter().filter(move |(.., what)| *what == as_what);
            all.map(|(channel, by, _)| (*channel, user(*by))).collect()
        };
        (truth.channel_follows, truth.channel_mutes) = (standing(2), standing(4));
        (truth.sensitive, truth.in_channel) = (channels.sensitive, channels.notes);
        truth
    }

    /// The instant after everything that was told.
    pub fn now(&self) -> DateTime<Utc> {
        at(self.clock + 10)
    }
}

/// How long something may take that happens at once.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until something is so.
pub async fn eventually(what: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !what().await {
        assert!(Instant::now() < deadline, "it never came to be");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A projector that is so many versions later, and does nothing until it is let go.
pub fn held(name: &str, later: u32) -> (watch::Sender<bool>, Arc<dyn Projector>) {
    let (go, goes) = watch::channel(false);
    let projector = projectors().into_iter().find(|projector| projector.name() == name).unwrap();
    (go, Arc::new(Held { projector, later, goes }))
}

/// All projectors, with this one in place of that of the same name.
pub fn with(projector: Arc<dyn Projector>) -> Vec<Arc<dyn Projector>> {
    let name = projector.name();
    projectors().into_iter().filter(|one| one.name() != name).chain([projector]).collect()
}

struct Held {
    projector: Arc<dyn Projector>,
    later: u32,
    goes: watch::Receiver<bool>,
}

#[async_trait]
impl Projector for Held {
    fn name(&self) -> &'static str {
        self.projector.name()
    }

    fn version(&self) -> u32 {
        self.projector.version() + self.later
    }

    fn tables(&self) -> &'static [&'static str] {
        self.projector.tables()
    }

    fn kinds(&self) -> &'static [&'static str] {
        self.projector.kinds()
    }

    fn heeds(&self, event: &Event) -> bool {
        self.projector.heeds(event)
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        // Without somebody to let it go, it goes.
        _ = self.goes.clone().wait_for(|goes| *goes).await;
        self.projector.apply(tx, batch).await
    }
}

/// Counts the statements that are sent from this thread.
#[derive(Clone, Default)]
pub struct Statements(Arc<AtomicUsize>, Arc<Mutex<String>>);

impl Statements {
    /// Counts until the guards are dropped. There are two dispatchers because a lone one is asked only
    /// from the thread that happens to log first, which may be another test's.
    pub fn listen(&self) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        let second = tracing::Dispatch::new(self.clone());
        (second, tracing::subscriber::set_default(self.clone()))
    }

    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }

    /// The read tables that they named since this was asked.
    pub fn tables(&self) -> HashSet<String> {
        let texts = std::mem::take(&mut *self.1.lock().unwrap());
        let names = texts
            .split("read.")
            .skip(1)
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>());
        names.collect()
    }
}

impl tracing::field::Visit for Statements {
    fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.1.lock().unwrap().push_str(&format!("{value:?} "));
    }
}

impl tracing::Subscriber for Statements {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Forgets every checkpoint, so that all read tables are filled anew.
pub async fn forget_checkpoints(pool: &PgPool) {
    sqlx::query("delete from ops.checkpoints").execute(pool).await.unwrap();
    sqlx::query("delete from ops.rebuilds").execute(pool).await.unwrap();
}

/// What moderators and those who are moderated have done in a random world.
#[derive(Default)]
struct Moderation {
    reports: Vec<(ReportId, UserId)>,
    announcements: Vec<(AnnouncementId, Option<UserId>)>,
    invitations: Vec<(InvitationId, UserId)>,
    emojis: Vec<EmojiId>,
}

impl Moderation {
    fn happens(&mut self, story: &mut Story, what: u8, by: UserId, other: UserId, n: usize) {
        let of = |count: usize| n % count.max(1);
        match what {
            0 => _ = story.does(by, moderation::Suspended { user: other }),
            1 => _ = story.does(by, moderation::Unsuspended { user: other }),
            2 => {
                let (text, before) = (format!("note {n}"), String::new());
                story.does(by, moderation::Noted { user: other, text, before });
            }
            3 | 4 => {
                let report = ReportId(story.id());
                let (comment, category) = ("rude".to_owned(), "other".to_owned());
                story.does(by, report::Filed { report, reporter: by, target: other, comment, category });
                self.reports.push((report, by));
            }
            5 => {
                let Some((report, reporter)) = self.reports.get(of(self.reports.len())).copied() else {
                    return;
                };
                let outcome = n.is_multiple_of(2).then_some(report::Outcome::Accept);
                story.does(other, report::Resolved { report, reporter, moderator: other, outcome });
            }
            6 => {
                let Some((report, reporter)) = self.reports.get(of(self.reports.len())).copied() else {
                    return;
                };
                let (text, before) = (format!("note {n}"), String::new());
                story.does(other, report::Annotated { report, reporter, text, before });
            }
            7 | 8 => {
                let announcement = AnnouncementId(story.id());
                let user = (what == 8).then_some(other);
                let definition = announcement_to(user);
                story.does(by, announcement::Created { announcement, definition });
                self.announcements.push((announcement, user));
            }
            9 => {
                let found = self.announcements.get(of(self.announcements.len())).copied();
                let Some((announcement, to)) = found else { return };
                let user = to.unwrap_or(other);
                story.does(user, announcement::Read { announcement, user });
            }
            10 => {
                let found = self.announcements.get(of(self.announcements.len())).copied();
                let Some((announcement, user)) = found else { return };
                story.does(by, announcement::Deleted { announcement, user });
            }
            11 => {
                let invitation = InvitationId(story.id());
                let code = format!("CODE{n}");
                let as_moderator = n.is_multiple_of(2);
                story.does(by, invitation::Created { invitation, code, by, expires_at: None, as_moderator });
                self.invitations.push((invitation, by));
            }
            12 => {
                let found = self.invitations.get(of(self.invitations.len())).copied();
                let Some((invitation, _)) = found else { return };
                story.does(other, invitation::Used { invitation, user: other });
            }
            13 => {
                let emoji = EmojiId(story.id());
                let definition = emoji_definition(&format!("blob{n}"));
                story.does(by, emoji::Added { emoji, definition });
                self.emojis.push(emoji);
            }
            14 => {
                let Some(emoji) = self.emojis.get(of(self.emojis.len())).copied() else { return };
                let definition = emoji_definition(&format!("cat{n}"));
                story.does(other, emoji::Changed { emoji, definition });
            }
            15 => {
                if self.emojis.is_empty() {
                    return;
                }
                let emoji = self.emojis.swap_remove(of(self.emojis.len()));
                story.does(by, emoji::Deleted { emoji, definition: emoji_definition("gone") });
            }
            _ => {
                let found = self.invitations.get(of(self.invitations.len())).copied();
                let Some((invitation, maker)) = found else { return };
                story.does(by, invitation::Deleted { invitation, by: maker });
            }
        }
    }
}

/// An announcement for somebody, or for everybody.
pub fn announcement_to(user: Option<UserId>) -> announcement::Definition {
    announcement::Definition {
        title: "News".to_owned(),
        text: "All is well".to_owned(),
        image_url: None,
        icon: Default::default(),
        display: Default::default(),
        for_existing_users: false,
        need_confirmation_to_read: false,
        need_enrollment_tutorial_to_read: false,
        close_duration: 0,
        display_order: 0,
        silence: false,
        is_active: true,
        user,
    }
}
