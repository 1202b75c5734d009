//! Who was erased is nobody to every command, and stays so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use commands::bus::Bus;
use commands::log::{Keyring, MemoryLog};
use commands::{AskedBy, Commands, Failed, NewAccount, NewNote};
use domain::follow::CannotFollow;
use domain::log::{AppendError, By, EventLog, Ids, Position};
use domain::note::{self, Allowed, CannotWrite, Note, Visibility};
use domain::reaction::{CannotReact, CannotUnreact};
use domain::user::{CannotErase, CannotSignUp, ProfileChanges, User, stream};
use domain::{CommandId, Event, NoteId, UserId};
use tokio::time::Instant;
use uuid::Uuid;

#[derive(Default)]
struct Counted(AtomicU64);

impl Ids for Counted {
    fn at(&self, _: DateTime<Utc>) -> Uuid {
        let n = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Uuid::from_u128(0x0193_5c2d_1000_7000_8000_0000_0000_0000 + (u128::from(n) << 32))
    }
}

struct Server {
    log: MemoryLog,
    keyring: Arc<Keyring>,
    commands: Commands,
    ids: Arc<Counted>,
}

const ALICE: UserId = UserId(Uuid::from_u128(1 << 32));
const BOB: UserId = UserId(Uuid::from_u128(2 << 32));

impl Server {
    /// Alice, who set it up, and Bob.
    async fn with_people() -> Self {
        let keyring = Arc::new(Keyring::memory());
        let log = MemoryLog::new(keyring.clone());
        let ids = Arc::new(Counted::default());
        let commands = Commands::new(Arc::new(log.clone()), keyring.clone(), ids.clone(), Bus::local());
        let server = Self { log, keyring, commands, ids };
        server.sign_up(ALICE, "alice", AskedBy::Founder).await.unwrap();
        server.sign_up(BOB, "bob", AskedBy::Administrator).await.unwrap();
        server
    }

    fn by(&self, user: UserId) -> By {
        let now = DateTime::UNIX_EPOCH;
        By { user: Some(user), now, command: CommandId(self.ids.at(now)) }
    }

    async fn sign_up(&self, user: UserId, name: &str, asked_by: AskedBy) -> Result<(), Failed<CannotSignUp>> {
        let new = NewAccount { user, username: name.to_owned(), asked_by };
        self.commands.sign_up(self.by(user), new).await.map(|_| ())
    }

    async fn write(
        &self,
        author: UserId,
        change: impl FnOnce(&mut NewNote),
    ) -> Result<NoteId, Failed<CannotWrite>> {
        let mut new = NewNote {
            id: NoteId(self.ids.at(DateTime::UNIX_EPOCH)),
            text: Some("hello".to_owned()),
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
            allowed: Allowed { public_notes: true, mentions: 20 },
        };
        change(&mut new);
        let id = new.id;
        self.commands.write_note(self.by(author), author, new).await.map(|_| id)
    }

    async fn erase_alice(&self) -> Position {
        self.commands.erase(self.by(BOB), ALICE).await.unwrap().position
    }
}

#[tokio::test]
async fn who_is_erased_is_nobody_to_others_and_can_do_nothing() {
    let server = Server::with_people().await;
    let commands = &server.commands;
    let hers = server.write(ALICE, |_| ()).await.unwrap();
    let reply = server.write(BOB, |note| note.reply = Some(hers)).await.unwrap();
    commands.react(server.by(BOB), BOB, &[], hers, "👍").await.unwrap();
    commands.follow(server.by(BOB), BOB, ALICE, false).await.unwrap();
    server.erase_alice().await;

    let refused = commands.follow(server.by(BOB), BOB, ALICE, false).await;
    assert!(matches!(refused, Err(Failed::Refused(CannotFollow::NoSuchUser))));
    let refused = server.write(BOB, |note| note.reply = Some(hers)).await;
    assert!(matches!(refused, Err(Failed::Refused(CannotWrite::NoSuchReplyTarget))));
    let refused = server.write(BOB, |note| note.renote = Some(reply)).await;
    assert!(matches!(refused, Err(Failed::Refused(CannotWrite::NoSuchRenoteTarget))), "it went along");
    let refused = commands.react(server.by(BOB), BOB, &[], reply, "👍").await;
    assert!(matches!(refused, Err(Failed::Refused(CannotReact::NoSuchNote))));
    let refused = commands.unreact(server.by(BOB), BOB, hers).await;
    assert!(matches!(refused, Err(Failed::Refused(CannotUnreact::NoSuchNote))));

    server
        .write(BOB, |note| {
            note.text = Some("@alice?".to_owned());
            note.visibility = Visibility::Specified;
            note.visible_to = vec![ALICE];
        })
        .await
        .unwrap();
    let events = server.log.after(Position::START, 1_000).await.unwrap();
    let Some(Event::NoteCreated(last)) = &events.last().unwrap().event else { panic!("no note") };
    assert_eq!((last.mentions.as_slice(), last.visible_to.as_slice()), ([].as_slice(), [].as_slice()));

    let before = server.log.head().await.unwrap();
    assert!(server.write(ALICE, |_| ()).await.is_err());
    assert!(commands.follow(server.by(ALICE), ALICE, BOB, false).await.is_err());
    assert!(commands.signed_in(server.by(ALICE), ALICE).await.is_err());
    let changes = ProfileChanges { is_cat: Some(true), ..Default::default() };
    commands.change_profile(server.by(ALICE), ALICE, changes).await.unwrap();
    assert_eq!(server.log.head().await.unwrap(), before, "she said something");
}

#[tokio::test]
async fn an_erased_name_and_the_place_of_the_root_stay_taken() {
    let server = Server::with_people().await;
    server.erase_alice().await;
    let taken = server.sign_up(UserId(Uuid::from_u128(3 << 32)), "ALICE", AskedBy::Administrator).await;
    assert!(matches!(taken, Err(Failed::Refused(CannotSignUp::UsedBefore))), "{taken:?}");
    assert!(!server.commands.username_is_free("alice").await.unwrap());
    assert!(server.commands.has_root().await.unwrap());
    let closed = server.sign_up(UserId(Uuid::from_u128(4 << 32)), "carol", AskedBy::Founder).await;
    assert!(matches!(closed, Err(Failed::Refused(CannotSignUp::Closed))), "{closed:?}");
    assert_eq!(server.commands.instance().await.unwrap().root, Some(ALICE));
}

#[tokio::test]
async fn an_erasure_is_in_the_log_once_and_nothing_of_the_person_can_be_read() {
    let server = Server::with_people().await;
    server.write(ALICE, |_| ()).await.unwrap();
    let position = server.erase_alice().await;
    server.write(BOB, |_| ()).await.unwrap();
    assert_eq!(server.erase_alice().await, position);
    let events = server.log.after(Position::START, 1_000).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == "user.erased").count(), 1);
    for event in &events {
        assert_eq!(event.event.is_none(), event.subject == Some(ALICE), "{}", event.kind);
    }
    let nobody = server.commands.erase(server.by(BOB), UserId(Uuid::from_u128(9 << 32))).await;
    assert!(matches!(nobody, Err(Failed::Refused(CannotErase::NoSuchUser))));
}

#[tokio::test]
async fn a_request_that_an_erasure_overtakes_writes_nothing() {
    let server = Server::with_people().await;
    let note = server.write(BOB, |_| ()).await.unwrap();
    server.commands.change_profile(server.by(ALICE), ALICE, greeting()).await.unwrap();
    // What the commands know of both is kept; that Alice is gone, another process did.
    server.commands.fresh(Instant::now());
    server.commands.load::<User>(&stream(ALICE)).await.unwrap();
    server.commands.load::<User>(&stream(BOB)).await.unwrap();
    server.commands.load::<Note>(&note::stream(note)).await.unwrap();
    server.keyring.destroy(ALICE).await.unwrap();
    let head = server.log.head().await.unwrap();

    let hers = server.commands.react(server.by(ALICE), ALICE, &[], note, "🎉").await;
    assert!(matches!(hers, Err(Failed::Append(AppendError::Erased { person: ALICE }))), "{hers:?}");
    let his = server.commands.follow(server.by(BOB), BOB, ALICE, false).await;
    assert!(matches!(his, Err(Failed::Contended)), "a greeting by nobody: {his:?}");
    assert_eq!(server.log.head().await.unwrap(), head);
}

fn greeting() -> ProfileChanges {
    ProfileChanges { followed_message: Some(Some("welcome".to_owned())), ..ProfileChanges::default() }
}
