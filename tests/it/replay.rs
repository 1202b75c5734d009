//! Whatever happens, replaying the log gives the same tables: random commands on every engine of the log,
//! in one process and in two at once, and then everything is built again and compared row by row.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use commands::bus::Bus;
use commands::log::{EventStoreLog, Keyring, MasterKey, MemoryLog, PostgresLog, Takeover};
use commands::{AskedBy, Commands, Failed, NewAccount, NewFile, NewNote};
use domain::antenna::Source;
use domain::channel::Wish;
use domain::clip::About;
use domain::draft::{Content, Schedule};
use domain::drive::{self, FileAdded, FileChanges, FolderAdded, Properties};
use domain::log::{By, EventLog};
use domain::note::{Allowed, Visibility};
use domain::poll::Poll;
use domain::registry::Place;
use domain::role::{Definition, Target, Terms};
use domain::user::ProfileChanges;
use domain::{
    AnnouncementId, AntennaId, ChannelId, ClipId, DecorationId, DraftId, EmojiId, FileId, FolderId, ListId,
    NoteId, RoleId, UserId, WorkId, announcement, antenna, channel, decoration, emoji, list, work,
};
use gateway::app::{App, Parts};
use gateway::config::{self, Given};
use gateway::platform::shutdown::{Shutdown, Stop};
use gateway::system::{SystemClock, TimeOrderedIds};
use projections::rebuild::{Handle, Progress, Report, rebuild, verify};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

use crate::eventstore_double::Double;
use crate::harness::{Database, MIGRATIONS, TestNames};

/// Commands in one story, and people in it.
const COMMANDS: usize = 400;
const PEOPLE: usize = 6;
const EMOJI: [&str; 4] = ["👍", "🎉", "no emoji", ":blob0:"];

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    let world = World::new().await;
    let log = Arc::new(MemoryLog::new(world.keyring.clone()));
    world.lives(1, vec![log]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres() {
    let world = World::new().await;
    let log = Arc::new(world.postgres_log().await);
    world.lives(2, vec![log]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_by_two_processes() {
    let world = World::new().await;
    let logs: Vec<Arc<dyn EventLog>> =
        vec![Arc::new(world.postgres_log().await), Arc::new(world.postgres_log().await)];
    world.lives(3, logs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_eventstore_by_two_processes() {
    let (world, double) = (World::new().await, Double::start().await);
    let open = async || EventStoreLog::open(&double.url(), "replay", world.keyring.clone()).await.unwrap();
    let logs: Vec<Arc<dyn EventLog>> = vec![Arc::new(open().await), Arc::new(open().await)];
    world.lives(4, logs).await;
}

/// The database and the keys that all processes share.
struct World {
    pool: PgPool,
    keyring: Arc<Keyring>,
    data_dir: TempDir,
    _database: Database,
}

impl World {
    async fn new() -> Self {
        let database = Database::create().await;
        let pool = database.pool().await;
        MIGRATIONS.run(&pool).await.unwrap();
        let keyring = Keyring::open(pool.clone(), &MasterKey::given([7; 32])).await.unwrap();
        Self { pool, keyring: Arc::new(keyring), data_dir: tempfile::tempdir().unwrap(), _database: database }
    }

    async fn postgres_log(&self) -> PostgresLog {
        PostgresLog::open(self.pool.clone(), self.keyring.clone(), Takeover::Shared).await.unwrap()
    }

    /// One process per handle of the log; all of them act at once.
    async fn lives(&self, seed: u64, logs: Vec<Arc<dyn EventLog>>) {
        let shutdown = Shutdown::default();
        let mut apps = Vec::new();
        for log in logs {
            let data_dir = self.data_dir.path().display().to_string();
            let flags = BTreeMap::from([
                ("listen".to_owned(), "127.0.0.1:1".to_owned()),
                ("data-dir".to_owned(), data_dir),
            ]);
            let given = Given { flags, ..Given::default() };
            let parts = Parts {
                config: Arc::new(config::load(&given).unwrap().config),
                pool: self.pool.clone(),
                log,
                keyring: self.keyring.clone(),
                bus: Bus::postgres(&self.pool),
                nats: None,
                clock: Arc::new(SystemClock),
                ids: Arc::new(TimeOrderedIds::new()),
                names: Arc::new(TestNames::default()),
                program: crate::process::binary(),
                shutdown: shutdown.clone(),
            };
            apps.push(App::start(parts).await.unwrap());
        }
        let people = people(&apps[0]).await;
        let notes: Arc<Mutex<Vec<NoteId>>> = Arc::default();
        let lists: Arc<Mutex<Vec<(UserId, ListId)>>> = Arc::default();
        let antennas: Arc<Mutex<Vec<(UserId, AntennaId)>>> = Arc::default();
        let channels: Arc<Mutex<Vec<ChannelId>>> = Arc::default();
        let stories = apps.iter().zip(0..).map(|(app, n)| {
            let rng = StdRng::seed_from_u64(seed * 100 + n);
            let (app, people, notes) = (app.clone(), people.clone(), notes.clone());
            let (lists, antennas, channels) = (lists.clone(), antennas.clone(), channels.clone());
            let (files, folders, clips, drafts, works) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let story = Story {
                app,
                people,
                notes,
                lists,
                antennas,
                channels,
                clips,
                drafts,
                works,
                files,
                folders,
                rng,
                done: 0,
            };
            tokio::spawn(story.happens(COMMANDS / apps.len()))
        });
        let stories: Vec<_> = stories.collect();
        let mut done = 0;
        for story in stories {
            done += story.await.unwrap();
        }
        assert!(done > COMMANDS / 4, "only {done} commands did something: the story tests nothing");
        for app in &apps {
            app.projections.settle().await.unwrap();
        }
        self.is_what_the_log_says(&apps[0], "after the story").await;

        let by = apps[0].by_user(None);
        apps[0].commands.erase(by, people[1]).await.unwrap();
        apps[0].projections.settle().await.unwrap();
        self.is_what_the_log_says(&apps[0], "after somebody was erased").await;

        sqlx::query("update read.notes set text = 'forged' where id = (select id from read.notes order by id desc limit 1)")
            .execute(&self.pool)
            .await
            .unwrap();
        let found = self.run(&apps[0], true).await;
        assert!(!found.is_clean(), "a forged row was not found");
        self.is_what_the_log_says(&apps[0], "after the rebuild").await;
        shutdown.begin(Stop::Asked);
        for app in apps {
            app.projections.stop().await;
        }
    }

    async fn is_what_the_log_says(&self, app: &App, when: &str) {
        let report = self.run(app, false).await;
        let compared = report.projectors.iter().all(|projector| projector.compared);
        assert!(compared && report.is_clean(), "{when}: {}", json!(report));
    }

    async fn run(&self, app: &App, switch: bool) -> Report {
        let (stop, stopping) = watch::channel(false);
        let handle = Handle { progress: watch::Sender::new(Progress::default()), stop: stopping };
        let projectors = projections::projectors();
        let report = if switch {
            rebuild(&self.pool, app.log.clone(), projectors, &handle).await
        } else {
            verify(&self.pool, app.log.clone(), projectors, &handle).await
        };
        drop(stop);
        report.unwrap()
    }
}

async fn people(app: &App) -> Vec<UserId> {
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let by = app.by_user(None);
        let user = UserId(app.ids.at(by.now));
        let asked_by = if n == 0 { AskedBy::Founder } else { AskedBy::Administrator };
        let new = NewAccount { user, username: format!("person{n}"), asked_by };
        app.commands.sign_up(by, new).await.unwrap();
        people.push(user);
    }
    people
}

/// One process' part of what happens.
struct Story {
    app: App,
    people: Vec<UserId>,
    /// Of all parts.
    notes: Arc<Mutex<Vec<NoteId>>>,
    lists: Arc<Mutex<Vec<(UserId, ListId)>>>,
    antennas: Arc<Mutex<Vec<(UserId, AntennaId)>>>,
    channels: Arc<Mutex<Vec<ChannelId>>>,
    clips: Vec<(UserId, ClipId)>,
    drafts: Vec<(UserId, DraftId)>,
    works: Vec<(UserId, WorkId)>,
    rng: StdRng,
    files: Vec<(UserId, FileId)>,
    folders: Vec<(UserId, FolderId)>,
    done: usize,
}

impl Story {
    /// How many commands were not refused.
    async fn happens(mut self, commands: usize) -> usize {
        for _ in 0..commands {
            self.act().await;
        }
        self.done
    }

    async fn act(&mut self) {
        let (me, other) = (self.somebody(), self.somebody());
        let commands: Commands = self.app.commands.clone();
        let by: By = self.app.by_user(Some(me));
        let note = self.a_note();
        match (self.rng.random_range(0..49), note) {
            (36..39, _) => self.keep(by, me).await,
            (0..6, _) => self.write(by, me).await,
            (6, Some(note)) => self.take(commands.delete_note(by, note, me, false).await),
            (7..10, Some(note)) => {
                let with = EMOJI.choose(&mut self.rng).copied().unwrap_or_default();
                self.take(commands.react(by, me, &[], note, with).await);
            }
            (10, Some(note)) => self.take(commands.unreact(by, me, note).await),
            (11..13, Some(note)) => {
                let choice = self.rng.random_range(0..2);
                self.take(commands.vote(by, me, note, choice).await);
            }
            (13..15, _) => {
                let with_replies = self.rng.random();
                self.take(commands.follow(by, me, other, with_replies).await);
            }
            (15, _) => {
                let by_followee = self.rng.random();
                self.take(commands.unfollow(by, me, other, by_followee).await);
            }
            (16, _) => self.take(commands.accept_follow(by, other, me).await),
            (17, _) => {
                let (name, locked) = (self.rng.random_range(0..9), self.rng.random_bool(0.3));
                let changes = ProfileChanges {
                    name: Some(Some(format!("name {name}"))),
                    is_locked: Some(locked),
                    followed_message: Some(Some(format!("welcome {name}"))),
                    ..ProfileChanges::default()
                };
                self.take(commands.change_profile(by, me, changes).await);
            }
            (18, _) => self.take(commands.be_active(by, me).await),
            (19, _) => self.take(commands.block(by, me, other).await),
            (20, _) => self.take(commands.unblock(by, me, other).await),
            (21, _) => {
                let until = self.rng.random::<bool>().then(|| by.now + TimeDelta::milliseconds(50));
                self.take(commands.mute(by, me, other, until).await);
            }
            (22, _) if self.rng.random() => self.take(commands.unmute(by, me, other).await),
            (22, _) => self.take(commands.mute_renotes(by, me, other).await),
            (23, _) => self.take(commands.unmute_renotes(by, me, other).await),
            (24, Some(note)) if self.rng.random() => self.take(commands.mute_thread(by, me, note).await),
            (24, Some(note)) => self.take(commands.unmute_thread(by, me, note).await),
            (31, Some(note)) => self.take(commands.end_poll(by, note).await),
            (32, _) if self.rng.random_bool(0.1) => self.take(commands.flush_notifications(by, me).await),
            (32, _) => self.take(commands.test_notification(by, me).await),
            (25, _) => self.take(commands.note_down(by, me, other, Some(format!("{me}"))).await),
            (26..29, _) => self.list(by, me, other).await,
            (33..36, _) => self.moderate(by, me, other).await,
            (29, _) => {
                let role = self.a_role(by).await;
                let memo = self.rng.random_bool(0.5).then(|| "a remark".to_owned());
                let terms = Terms { memo, ..Terms::default() };
                self.take(commands.assign_role(by.step(1), role, other, terms, true).await);
            }
            (30, _) => {
                let role = self.a_role(by).await;
                if self.rng.random_bool(0.2) {
                    self.take(commands.delete_role(by.step(1), role).await);
                } else {
                    self.take(commands.unassign_role(by.step(1), role, other, true).await);
                }
            }
            (39, _) => self.antenna(by, me).await,
            (40, _) => self.channel(by, me).await,
            (41, Some(note)) => self.take(commands.favorite(by, me, note).await),
            (42, Some(note)) => match self.rng.random() {
                true => self.take(commands.unfavorite(by, me, note).await),
                false => self.take(commands.unpin(by, me, note).await),
            },
            (43, Some(note)) => self.take(commands.pin(by, me, note, 3).await),
            (44, _) => self.clip(by, me).await,
            (47, _) => self.draft(by, me).await,
            (45, Some(note)) => {
                let (owner, clip) = self.a_clip();
                match self.rng.random_range(0..5) {
                    0 => self.take(commands.unclip_note(by, owner, clip, note).await),
                    1 => self.take(commands.delete_clip(by, owner, clip).await),
                    2 => self.take(commands.favorite_clip(by, me, owner, clip).await),
                    3 => self.take(commands.unfavorite_clip(by, me, owner, clip).await),
                    _ => self.take(commands.clip_note(by, owner, clip, note, 4).await),
                }
            }
            (46, _) => {
                let key = self.rng.random_range(0..3).to_string();
                let place = Place { domain: None, scope: Vec::new(), key };
                match self.rng.random_bool(0.3) {
                    true => self.take(commands.remove_registry(by, me, place).await),
                    false => self.take(commands.set_registry(by, me, place, json!({ "n": 1 }), 0).await),
                }
            }
            (48, _) => self.work(by, me).await,
            _ => self.take(commands.read_notifications(by, me).await),
        }
    }

    /// Something about a list of somebody.
    async fn list(&mut self, by: By, me: UserId, other: UserId) {
        let commands: Commands = self.app.commands.clone();
        let limits = list::Limits { lists: 3, members: 3 };
        let found = self.lists.lock().unwrap().choose(&mut self.rng).copied();
        let (owner, list) = match found {
            Some(found) if self.rng.random_bool(0.8) => found,
            _ => {
                let id = ListId(self.app.ids.at(by.now));
                let made = commands.create_list(by, me, id, format!("list {id}"), limits).await;
                if made.is_ok() {
                    self.lists.lock().unwrap().push((me, id));
                }
                return self.take(made);
            }
        };
        let mine = self.app.by_user(Some(owner));
        match self.rng.random_range(0..8) {
            0 => {
                let is_public = Some(self.rng.random());
                self.take(commands.change_list(mine, owner, list, None, is_public, limits).await);
            }
            1 => self.take(commands.favorite_list(by, me, (owner, list)).await),
            2 => self.take(commands.unfavorite_list(by, me, (owner, list)).await),
            3 => self.take(commands.pull_from_list(mine, owner, list, other).await),
            4 => {
                let wish = Some(self.rng.random());
                self.take(commands.change_list_member(mine, owner, list, other, wish, limits).await);
            }
            5 if self.rng.random_bool(0.2) => self.take(commands.delete_list(mine, owner, list).await),
            _ => self.take(commands.push_to_list(mine, owner, list, other, limits).await),
        }
    }

    /// Does something to files and folders.
    async fn keep(&mut self, by: By, owner: UserId) {
        let commands: Commands = self.app.commands.clone();
        let file = self.files.choose(&mut self.rng).map(|(_, file)| *file);
        let folder = self.folders.choose(&mut self.rng).map(|(_, folder)| *folder);
        match (self.rng.random_range(0..8), file, folder) {
            (0, Some(file), _) => self.take(commands.delete_file(by, owner, false, file).await),
            (1, Some(file), folder) => {
                let changes = FileChanges {
                    name: Some(format!("{}.png", self.rng.random_range(0..9))),
                    folder: Some(folder),
                    ..FileChanges::default()
                };
                self.take(commands.change_file(by, owner, false, file, changes).await);
            }
            (2, _, Some(folder)) => self.take(commands.delete_folder(by, owner, folder, false).await),
            (3, _, parent) => {
                let id = FolderId(self.app.ids.at(by.now));
                let name = format!("folder {}", self.rng.random_range(0..9));
                self.take(commands.add_folder(by, FolderAdded { id, owner, name, parent }).await);
                self.folders.push((owner, id));
            }
            (4, Some(file), _) => {
                if let Ok(picture) = commands.picture(owner, file).await {
                    let changes = ProfileChanges { avatar: Some(Some(picture)), ..ProfileChanges::default() };
                    self.take(commands.change_profile(by, owner, changes).await);
                }
            }
            (_, _, folder) => {
                let id = FileId(self.app.ids.at(by.now));
                let file = FileAdded {
                    id,
                    owner,
                    name: "a.png".to_owned(),
                    comment: None,
                    media_type: "image/png".to_owned(),
                    md5: format!("{:032x}", self.rng.random_range(0..9)),
                    size: self.rng.random_range(0..1_000),
                    sensitive: self.rng.random(),
                    properties: Properties { width: Some(1), height: Some(2), orientation: None },
                    blurhash: None,
                    folder: folder.filter(|_| self.rng.random()),
                    key: id.to_string(),
                    thumbnail: None,
                };
                let allowed = drive::Allowed::of(1.0, 1.0, vec!["image/*".to_owned()]);
                self.take(commands.add_file(by, NewFile { file, used: 0, allowed }).await);
                self.files.push((owner, id));
            }
        }
    }

    /// Something about a channel of somebody.
    async fn channel(&mut self, by: By, me: UserId) {
        let commands: Commands = self.app.commands.clone();
        let found = self.channels.lock().unwrap().choose(&mut self.rng).copied();
        let Some(channel) = found.filter(|_| self.rng.random_bool(0.7)) else {
            let id = ChannelId(self.app.ids.at(by.now));
            let new = channel::Created {
                banner: None,
                id,
                owner: me,
                name: format!("channel {id}"),
                description: None,
                color: channel::DEFAULT_COLOR.to_owned(),
                is_sensitive: self.rng.random(),
                allow_renote_to_external: self.rng.random(),
            };
            self.take(commands.create_channel(by, new).await);
            return self.channels.lock().unwrap().push(id);
        };
        let wishes = [Wish::Follow, Wish::Unfollow, Wish::Favor, Wish::Unfavor];
        match self.rng.random_range(0..8) {
            0 => {
                let is_archived = Some(self.rng.random_bool(0.2));
                let changes = channel::Changes { is_archived, ..channel::Changes::default() };
                self.take(commands.change_channel(by, channel, me, true, changes).await);
            }
            1 => self.take(commands.mute_channel(by, me, channel, None).await),
            2 => self.take(commands.unmute_channel(by, me, channel).await),
            n => {
                let wish = wishes[n % wishes.len()];
                self.take(commands.stand_to_channel(by, me, channel, wish).await);
            }
        }
    }

    /// Something about an antenna of somebody.
    async fn antenna(&mut self, by: By, me: UserId) {
        let commands: Commands = self.app.commands.clone();
        let found = self.antennas.lock().unwrap().choose(&mut self.rng).copied();
        let (owner, antenna) = match found {
            Some(found) if self.rng.random_bool(0.5) => found,
            _ => {
                let id = AntennaId(self.app.ids.at(by.now));
                let source = [Source::All, Source::Home, Source::Users].choose(&mut self.rng);
                let settings = antenna::Settings {
                    name: "for person1".to_owned(),
                    source: source.copied().unwrap_or(Source::All),
                    list: None,
                    keywords: vec![vec!["@person1".to_owned()], vec!["tag2".to_owned()]],
                    exclude_keywords: Vec::new(),
                    users: Vec::new(),
                    accounts: vec!["person2".to_owned()],
                    case_sensitive: false,
                    local_only: false,
                    exclude_bots: false,
                    with_replies: true,
                    with_file: false,
                    exclude_notes_in_sensitive_channel: false,
                };
                let made = commands.create_antenna(by, me, id, settings, 3).await;
                if made.is_ok() {
                    self.antennas.lock().unwrap().push((me, id));
                }
                return self.take(made);
            }
        };
        let mine = self.app.by_user(Some(owner));
        match self.rng.random_range(0..5) {
            0 => self.take(commands.delete_antenna(mine, owner, antenna).await),
            1 => self.take(commands.use_antenna(mine, owner, antenna).await),
            n => {
                let change = |settings: &mut antenna::Settings| settings.exclude_bots = n > 2;
                self.take(commands.change_antenna(mine, owner, antenna, change, 3).await);
            }
        }
    }

    async fn write(&mut self, by: By, author: UserId) {
        let id = NoteId(self.app.ids.at(by.now));
        let visibility = [Visibility::Public, Visibility::Home, Visibility::Followers, Visibility::Specified];
        let visibility = visibility.choose(&mut self.rng).copied().unwrap_or_default();
        let reply = self.a_note().filter(|_| self.rng.random_bool(0.3));
        let renote = self.a_note().filter(|_| self.rng.random_bool(0.3));
        let pure = renote.is_some() && reply.is_none() && self.rng.random();
        let choices = vec!["yes".to_owned(), "no".to_owned()];
        let poll = self.rng.random_bool(0.4).then(|| {
            // Some end soon, some by themselves while the story goes on.
            let expires_at = self.rng.random::<bool>().then(|| by.now + TimeDelta::milliseconds(200));
            Poll { choices, multiple: true, expires_at }
        });
        let words =
            format!("{id} for @person{} #tag{}", self.rng.random_range(0..PEOPLE), id.0.as_u128() % 3);
        let channel = self.channels.lock().unwrap().choose(&mut self.rng).copied();
        let new = NewNote {
            id,
            text: (!pure).then_some(words),
            cw: None,
            visibility,
            visible_to: vec![self.somebody()],
            local_only: false,
            reaction_acceptance: None,
            reply,
            renote,
            poll: poll.filter(|_| !pure),
            files: self
                .files
                .iter()
                .filter(|(owner, _)| *owner == author && !pure)
                .map(|(_, id)| *id)
                .take(2)
                .collect(),
            channel: channel.filter(|_| self.rng.random_bool(0.2)),
            extract_mentions: true,
            extract_hashtags: true,
            extract_emojis: true,
            allowed: Allowed { public_notes: true, mentions: 20 },
        };
        let written = self.app.commands.write_note(by, author, new).await;
        if written.is_ok() {
            self.notes.lock().unwrap().push(id);
        }
        self.take(written);
    }

    /// What moderators do, and those who have to do with them.
    async fn moderate(&mut self, by: By, me: UserId, other: UserId) {
        let commands = self.app.commands.clone();
        let n = self.rng.random_range(0..15_u8);
        let announcement = AnnouncementId(Uuid::from_u128(u128::from(n) % 3 + 300));
        let decoration = DecorationId(Uuid::from_u128(400));
        match n {
            0 => self.take(commands.suspend(by, other, false).await),
            1 | 2 => self.take(commands.unsuspend(by, other).await),
            3 => self.take(commands.note_about(by, other, &format!("note {n}")).await),
            4 => {
                let (comment, category) = ("rude".to_owned(), "other".to_owned());
                self.take(commands.report(by, me, other, comment, category).await);
            }
            5 | 6 => {
                let definition = announcement::Definition {
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
                    user: (n == 6).then_some(other),
                };
                self.take(commands.announce(by, announcement, definition).await);
            }
            7 | 8 => self.take(commands.read_announcement(by, announcement, me).await),
            9 => {
                let code = self.rng.random::<u64>().to_string();
                self.take(commands.invite(by, me, &code, None, true).await);
                let name = format!("guest{}", self.rng.random_range(0..1_000_000));
                let user = UserId(self.app.ids.at(by.now));
                let new = NewAccount { user, username: name, asked_by: AskedBy::Invited };
                self.take(commands.sign_up_invited(self.app.by_user(None), new, &code).await);
            }
            12..15 => self.emoji(by).await,
            10 => {
                let definition = decoration::Definition {
                    name: "hat".to_owned(),
                    description: String::new(),
                    url: "https://example.com/hat.png".to_owned(),
                    roles: Vec::new(),
                };
                self.take(commands.create_decoration(by, decoration, definition).await);
            }
            _ => {
                let by_moderator = By { user: Some(other), ..by };
                let settings = [("name".to_owned(), json!(format!("server of {me}")))];
                self.take(commands.change_settings(by_moderator, settings.into()).await);
            }
        }
    }

    /// One of a few emoji, with one of a few names.
    async fn emoji(&mut self, by: By) {
        let commands = self.app.commands.clone();
        let name = format!("blob{}", self.rng.random_range(0..3));
        let there = commands.emoji_named(&format!("blob{}", self.rng.random_range(0..3))).await.unwrap();
        match there {
            Some((emoji, _)) if self.rng.random_bool(0.3) => {
                self.take(commands.delete_emoji(by, emoji).await);
            }
            Some((emoji, _)) if self.rng.random() => {
                let changes = emoji::Changes { name: Some(name), ..emoji::Changes::default() };
                self.take(commands.change_emoji(by, emoji, changes).await);
            }
            _ => {
                let (key, thumbnail) = (by.command.to_string(), None);
                let definition = emoji::Definition {
                    name,
                    aliases: vec!["alias".to_owned()],
                    category: None,
                    license: None,
                    sensitive: false,
                    local_only: false,
                    roles: Vec::new(),
                    memo: String::new(),
                    picture: emoji::Picture { key, thumbnail, media_type: "image/png".to_owned() },
                };
                let emoji = EmojiId(self.app.ids.at(by.now));
                self.take(commands.add_emoji(by, emoji, definition).await);
            }
        }
    }

    /// One of a few roles, which is made when it isn't there yet.
    async fn a_role(&mut self, by: By) -> RoleId {
        let n = self.rng.random_range(1..9_u8);
        let role = RoleId(Uuid::from_u128(u128::from(n)));
        let definition = Definition {
            name: format!("role {n}"),
            description: String::new(),
            color: None,
            icon_url: None,
            target: Target::Manual,
            condition: json!({}),
            is_public: n % 2 == 0,
            is_moderator: false,
            is_administrator: false,
            is_explorable: true,
            as_badge: true,
            badge_behavior: None,
            preserve_assignment_on_move_account: false,
            can_edit_members_by_moderator: false,
            display_order: 0,
            policies: Default::default(),
        };
        self.take(self.app.commands.create_role(by, role, definition).await);
        role
    }

    fn take<T, R: std::fmt::Debug>(&mut self, outcome: Result<T, Failed<R>>) {
        match outcome {
            Ok(_) => self.done += 1,
            Err(Failed::Refused(_)) => (),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn clip(&mut self, by: By, me: UserId) {
        let id = ClipId(self.app.ids.at(by.now));
        let about = About { name: id.to_string(), description: None, public: self.rng.random() };
        let made = self.app.commands.create_clip(by, me, id, about, 5).await;
        if made.is_ok() {
            self.clips.push((me, id));
        }
        self.take(made);
    }

    /// A draft, or a note that is posted in a second.
    async fn draft(&mut self, by: By, me: UserId) {
        let id = DraftId(self.app.ids.at(by.now));
        let content = Content { text: Some(format!("{id}")), ..Content::default() };
        let commands: Commands = self.app.commands.clone();
        let known = self.drafts.choose(&mut self.rng).copied();
        let made = match (self.rng.random_range(0..4), known) {
            (0, Some((owner, id))) => return self.take(commands.change_draft(by, owner, id, content).await),
            (1, Some((owner, id))) => return self.take(commands.delete_draft(by, owner, id).await),
            (2, _) => {
                let at = by.now + TimeDelta::seconds(1);
                let asked = Schedule { at, limit: 3, max_days: 1 };
                return self.take(commands.schedule_note(by, me, id, content, asked).await);
            }
            _ => commands.save_draft(by, me, id, content, 3).await,
        };
        if made.is_ok() {
            self.drafts.push((me, id));
        }
        self.take(made);
    }

    /// Something about a page of somebody.
    async fn work(&mut self, by: By, me: UserId) {
        let commands: Commands = self.app.commands.clone();
        let page = |name: String, private| {
            work::Content::Page(work::Page {
                title: name.clone(),
                name,
                summary: None,
                content: json!([{ "type": "text", "text": "hello" }]),
                variables: json!([]),
                script: String::new(),
                image: None,
                font: work::Font::Serif,
                centered: false,
                hides_title: false,
                private,
            })
        };
        let name = self.rng.random_range(0..9).to_string();
        let found = self.works.choose(&mut self.rng).copied();
        match (self.rng.random_range(0..6), found) {
            (0, Some((owner, id))) => {
                let changes = work::Changes { name: Some(name), ..work::Changes::default() };
                self.take(commands.change_work(by, owner, (work::Kind::Page, id), &changes).await);
            }
            (1, Some((owner, id))) => {
                self.take(commands.delete_work(by, owner, (work::Kind::Page, id)).await);
            }
            (2 | 3, Some((owner, id))) => {
                self.take(commands.like_work(by, me, owner, (work::Kind::Page, id)).await);
            }
            (4, Some((owner, id))) => {
                self.take(commands.unlike_work(by, me, owner, (work::Kind::Page, id)).await);
            }
            _ => {
                let id = WorkId(self.app.ids.at(by.now));
                let made = commands.create_work(by, me, id, &page(name, self.rng.random())).await;
                if made.is_ok() {
                    self.works.push((me, id));
                }
                self.take(made);
            }
        }
    }

    /// Somebody's clip, or one that isn't there.
    fn a_clip(&mut self) -> (UserId, ClipId) {
        let nobodys = (self.people[0], ClipId(self.people[0].0));
        self.clips.choose(&mut self.rng).copied().unwrap_or(nobodys)
    }

    fn a_note(&mut self) -> Option<NoteId> {
        self.notes.lock().unwrap().choose(&mut self.rng).copied()
    }

    fn somebody(&mut self) -> UserId {
        self.people.choose(&mut self.rng).copied().unwrap()
    }
}
