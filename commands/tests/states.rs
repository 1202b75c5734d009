//! What a command reads from the log: what it doesn't know yet, once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use commands::bus::Bus;
use commands::log::{Keyring, MemoryLog};
use commands::{AskedBy, Commands, Failed, NewAccount, NewNote};
use domain::follow::{CannotFollow, Relation, stream};
use domain::log::{AppendError, By, EventLog, Ids, LogError, Position, Recorded, StreamId, Version};
use domain::note::{Allowed, Visibility};
use domain::user::ProfileChanges;
use domain::{CommandId, Event, NoteId, UserId};
use tokio::time::Instant;
use uuid::Uuid;

/// A log that counts the streams that are read, and shuts writers out.
struct Counting {
    log: MemoryLog,
    reads: AtomicU64,
    /// How many more appends find that others went on without this process.
    fenced: AtomicU64,
}

#[async_trait]
impl EventLog for Counting {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        let fenced = self.fenced.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match fenced {
            Ok(_) => Err(AppendError::Fenced),
            Err(_) => self.log.append(stream, expected, by, events).await,
        }
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.log.stream(stream).await
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.log.after(position, limit).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        self.log.head().await
    }

    async fn wait(&self, position: Position) {
        self.log.wait(position).await;
    }
}

#[derive(Default)]
struct Counted(AtomicU64);

impl Ids for Counted {
    fn at(&self, at: DateTime<Utc>) -> Uuid {
        let n = u128::from(self.0.fetch_add(1, Ordering::SeqCst) + 1);
        Uuid::from_u128((at.timestamp_millis() as u128) << 80 | 0x7000_8000_0000_0000_0000 | n << 32)
    }
}

struct Server {
    log: Arc<Counting>,
    commands: Commands,
    keyring: Arc<Keyring>,
    ids: Arc<Counted>,
}

/// Commands whose follower has just asked the log, and stays in time for as long as a test takes.
fn followed(log: &Arc<Counting>, keyring: &Arc<Keyring>, ids: &Arc<Counted>) -> Commands {
    let commands = Commands::new(log.clone(), keyring.clone(), ids.clone(), Bus::local());
    commands.fresh(Instant::now() + Duration::from_secs(3_600));
    commands
}

impl Server {
    fn new() -> Self {
        let keyring = Arc::new(Keyring::memory());
        let log = MemoryLog::new(keyring.clone());
        let log = Arc::new(Counting { log, reads: AtomicU64::new(0), fenced: AtomicU64::new(0) });
        let ids = Arc::new(Counted::default());
        Self { commands: followed(&log, &keyring, &ids), log, keyring, ids }
    }

    /// Another process on the same log.
    fn other(&self) -> Self {
        let (log, keyring, ids) = (self.log.clone(), self.keyring.clone(), self.ids.clone());
        Self { commands: followed(&log, &keyring, &ids), log, keyring, ids }
    }

    /// Hears everything that is in the log.
    async fn catch_up(&self) {
        let events = self.log.after(Position::START, 10_000).await.unwrap();
        self.commands.heard(&events.into_iter().map(Arc::new).collect::<Vec<_>>());
    }

    fn id(&self) -> Uuid {
        self.ids.at(now())
    }

    fn by(&self, user: UserId) -> By {
        By { user: Some(user), now: now(), command: CommandId(self.id()) }
    }

    async fn person(&self, name: &str) -> UserId {
        let user = UserId(self.id());
        let new = NewAccount { user, username: name.to_owned(), asked_by: AskedBy::Administrator };
        self.commands.sign_up(self.by(user), new).await.unwrap();
        user
    }

    async fn note(&self, author: UserId, visibility: Visibility) -> NoteId {
        let id = NoteId(self.id());
        let new = NewNote {
            id,
            text: Some("hello @bob".to_owned()),
            cw: None,
            visibility,
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
            allowed: Allowed { public_notes: true, mentions: 20 },
        };
        self.commands.write_note(self.by(author), author, new).await.unwrap();
        id
    }

    /// How many streams are read by what is done.
    async fn reads(&self, done: impl Future) -> u64 {
        let before = self.log.reads.load(Ordering::SeqCst);
        done.await;
        self.log.reads.load(Ordering::SeqCst) - before
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000).unwrap()
}

#[tokio::test]
async fn a_hot_command_reads_nothing() {
    let server = Server::new();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    server.note(alice, Visibility::Public).await;
    assert_eq!(server.reads(server.note(alice, Visibility::Public)).await, 0);

    let (first, second) =
        (server.note(alice, Visibility::Public).await, server.note(alice, Visibility::Public).await);
    server.commands.react(server.by(bob), bob, &[], first, "👍").await.unwrap();
    let reads = server.reads(server.commands.react(server.by(bob), bob, &[], second, "👍")).await;
    assert_eq!(reads, 2, "the note and the reaction, which nobody has asked for yet");
}

#[tokio::test]
async fn what_was_written_is_what_the_next_command_sees() {
    let server = Server::new();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let note = server.note(alice, Visibility::Public).await;
    let react = async || server.commands.react(server.by(bob), bob, &[], note, "👍").await;
    react().await.unwrap();
    assert!(react().await.is_err(), "the same again");
    server.commands.unreact(server.by(bob), bob, note).await.unwrap();
    react().await.unwrap();

    let hidden = ProfileChanges { make_notes_hidden_before: Some(Some(2_000_000_000)), ..Default::default() };
    server.commands.unreact(server.by(bob), bob, note).await.unwrap();
    server.commands.change_profile(server.by(alice), alice, hidden).await.unwrap();
    assert!(react().await.is_err(), "the author has hidden it since");
    server.commands.delete_note(server.by(alice), note, alice, false).await.unwrap();
    assert!(server.commands.delete_note(server.by(alice), note, alice, false).await.is_err());
}

#[tokio::test]
async fn what_another_process_has_written_counts_when_it_is_heard() {
    let here = Server::new();
    let there = here.other();
    let (alice, bob) = (here.person("alice").await, here.person("bob").await);
    let note = here.note(alice, Visibility::Public).await;
    there.commands.react(there.by(bob), bob, &[], note, "👍").await.unwrap();
    there.commands.unreact(there.by(bob), bob, note).await.unwrap();

    let hidden = ProfileChanges { make_notes_hidden_before: Some(Some(2_000_000_000)), ..Default::default() };
    here.commands.change_profile(here.by(alice), alice, hidden).await.unwrap();
    there.catch_up().await;
    assert!(there.commands.react(there.by(bob), bob, &[], note, "👍").await.is_err(), "it is hidden now");

    here.catch_up().await;
    let reads = here.reads(here.note(alice, Visibility::Public)).await;
    assert_eq!(reads, 0, "what it has written itself is no news");
}

#[tokio::test]
async fn nothing_is_refused_or_left_undone_for_what_was_so_a_moment_ago() {
    let here = Server::new();
    let there = here.other();
    let (alice, bob) = (here.person("alice").await, here.person("bob").await);
    let react =
        async |server: &Server, note| server.commands.react(server.by(bob), bob, &[], note, "👍").await;
    let note = here.note(alice, Visibility::Public).await;
    react(&here, note).await.unwrap();
    assert!(react(&here, note).await.is_err(), "it stands, and is remembered");
    there.commands.unreact(there.by(bob), bob, note).await.unwrap();
    react(&here, note).await.expect("taken back elsewhere, which is not heard here yet");

    let named = async |server: &Server, name: &str| {
        let name = ProfileChanges { name: Some(Some(name.to_owned())), ..Default::default() };
        server.commands.change_profile(server.by(alice), alice, name).await.unwrap()
    };
    named(&here, "Alice").await;
    let before = named(&here, "Alice").await;
    named(&there, "Alicia").await;
    assert!(named(&here, "Alice").await.position > before.position, "it is a change again");
}

#[tokio::test]
async fn nobody_follows_who_has_blocked_them_elsewhere_a_moment_ago() {
    let here = Server::new();
    let there = here.other();
    let (alice, bob) = (here.person("alice").await, here.person("bob").await);
    let follow = async || there.commands.follow(there.by(bob), bob, alice, false).await;
    follow().await.unwrap();
    there.commands.unfollow(there.by(bob), bob, alice, false).await.unwrap();
    here.commands.block(here.by(alice), alice, bob).await.unwrap();
    let unheard = follow().await;
    assert!(matches!(unheard, Err(Failed::Refused(CannotFollow::Blocked))), "{unheard:?}");
    here.catch_up().await;
    let relation = here.commands.load::<Relation>(&stream(bob, alice)).await.unwrap();
    assert!(!relation.follows());
}

#[tokio::test]
async fn who_was_fenced_decides_anew_on_what_is_so_now() {
    let here = Server::new();
    let there = here.other();
    let (alice, bob) = (here.person("alice").await, here.person("bob").await);
    let note = here.note(alice, Visibility::Public).await;
    here.commands.react(here.by(bob), bob, &[], note, "👍").await.unwrap();
    here.commands.unreact(here.by(bob), bob, note).await.unwrap();
    assert_eq!(here.reads(here.commands.react(here.by(bob), bob, &[], note, "👍")).await, 1);

    // Unheard: this process was stopped.
    there.commands.unreact(there.by(bob), bob, note).await.unwrap();
    there.commands.react(there.by(bob), bob, &[], note, "🎉").await.unwrap();
    here.log.fenced.store(1, Ordering::SeqCst);
    here.commands.unreact(here.by(bob), bob, note).await.unwrap();
    assert!(here.commands.unreact(here.by(bob), bob, note).await.is_err(), "it is taken back");
    assert_eq!(here.log.fenced.load(Ordering::SeqCst), 0);

    here.log.fenced.store(u64::MAX, Ordering::SeqCst);
    let outcome = here.commands.react(here.by(bob), bob, &[], note, "👍").await;
    assert!(outcome.is_err(), "{outcome:?}");
}
