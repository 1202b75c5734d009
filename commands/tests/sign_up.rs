//! Making an account takes several appends: whoever comes between them, or is cut off between them, there
//! is one account of a name and one root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use commands::bus::Bus;
use commands::log::{Keyring, MemoryLog};
use commands::{AskedBy, Commands, Failed, NewAccount, Receipt};
use domain::log::{AppendError, By, EventLog, Ids, LogError, Position, Recorded, StreamId, Version};
use domain::user::CannotSignUp;
use domain::{CommandId, Event, UserId};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// A log that holds up the making of one account until it is let go.
struct Held {
    log: MemoryLog,
    user: UserId,
    reached: Semaphore,
    let_go: Semaphore,
}

#[async_trait]
impl EventLog for Held {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        if matches!(events.first(), Some(Event::UserCreated(created)) if created.user == self.user) {
            self.reached.add_permits(1);
            self.let_go.acquire().await.unwrap().forget();
        }
        self.log.append(stream, expected, by, events).await
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
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
    fn at(&self, _: DateTime<Utc>) -> Uuid {
        let n = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Uuid::from_u128(0x0193_5c2d_1000_7000_8000_0000_0000_0000 + (u128::from(n) << 32))
    }
}

/// A server where the making of the account of person 1 is held up.
struct Server {
    log: Arc<Held>,
    commands: Commands,
    ids: Arc<Counted>,
}

fn person(n: u128) -> UserId {
    UserId(Uuid::from_u128(n << 32))
}

impl Server {
    fn start() -> Self {
        let keyring = Arc::new(Keyring::memory());
        let log = Arc::new(Held {
            log: MemoryLog::new(keyring.clone()),
            user: person(1),
            reached: Semaphore::new(0),
            let_go: Semaphore::new(0),
        });
        let ids = Arc::new(Counted::default());
        Self { commands: Commands::new(log.clone(), keyring, ids.clone(), Bus::local()), log, ids }
    }

    async fn sign_up(&self, n: u128, name: &str, asked_by: AskedBy) -> Result<Receipt, Failed<CannotSignUp>> {
        let now = DateTime::UNIX_EPOCH;
        let by = By { user: Some(person(n)), now, command: CommandId(self.ids.at(now)) };
        let new = NewAccount { user: person(n), username: name.to_owned(), asked_by };
        self.commands.sign_up(by, new).await
    }

    /// Person 1 signs up, and what `meanwhile` does comes just before the account is made.
    async fn meanwhile(
        &self,
        name: &str,
        asked_by: AskedBy,
        meanwhile: impl Future<Output = Result<Receipt, Failed<CannotSignUp>>>,
    ) -> VecDeque<Result<Receipt, Failed<CannotSignUp>>> {
        let done = Mutex::new(VecDeque::new());
        let first = async {
            let outcome = self.sign_up(1, name, asked_by).await;
            done.lock().unwrap().push_front(outcome);
        };
        let second = async {
            self.log.reached.acquire().await.unwrap().forget();
            let outcome = meanwhile.await;
            // Once for each attempt to come.
            self.log.let_go.add_permits(100);
            done.lock().unwrap().push_back(outcome);
        };
        tokio::join!(first, second);
        done.into_inner().unwrap()
    }

    /// The accounts there are, and the root.
    async fn made(&self) -> (Vec<UserId>, Option<UserId>) {
        let events = self.log.after(Position::START, 1_000).await.unwrap();
        let made = events.iter().filter_map(|recorded| match &recorded.event {
            Some(Event::UserCreated(created)) => Some(created.user),
            _ => None,
        });
        (made.collect(), self.commands.instance().await.unwrap().root)
    }
}

fn is_refused(outcome: &Result<Receipt, Failed<CannotSignUp>>, why: CannotSignUp) -> bool {
    matches!(outcome, Err(Failed::Refused(refusal)) if *refusal == why)
}

#[tokio::test]
async fn a_name_that_two_ask_for_at_once_has_one_account() {
    let server = Server::start();
    let second = server.sign_up(2, "ALICE", AskedBy::Administrator);
    let outcomes = server.meanwhile("alice", AskedBy::Administrator, second).await;
    assert!(is_refused(&outcomes[0], CannotSignUp::Taken), "{outcomes:?}");
    assert!(outcomes[1].is_ok(), "{outcomes:?}");
    assert_eq!(server.made().await.0, [person(2)]);
    let third = server.sign_up(3, "alice", AskedBy::Administrator).await;
    assert!(is_refused(&third, CannotSignUp::Taken));
}

#[tokio::test]
async fn a_name_whose_account_was_never_made_is_free_again() {
    let server = Server::start();
    tokio::select! {
        _ = server.sign_up(1, "alice", AskedBy::Founder) => unreachable!("it is held up"),
        _ = server.log.reached.acquire() => (),
    }
    assert!(!server.commands.has_root().await.unwrap());
    server.sign_up(2, "alice", AskedBy::Founder).await.unwrap();
    assert_eq!(server.made().await, (vec![person(2)], Some(person(2))));
}

#[tokio::test]
async fn of_two_who_set_the_server_up_at_once_one_does() {
    let server = Server::start();
    let second = server.sign_up(2, "bob", AskedBy::Founder);
    let outcomes = server.meanwhile("alice", AskedBy::Founder, second).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let (made, root) = server.made().await;
    assert_eq!((made.len(), root), (1, made.first().copied()));
    let late = server.sign_up(3, "carol", AskedBy::Founder).await;
    assert!(is_refused(&late, CannotSignUp::Closed), "{late:?}");
    server.sign_up(4, "carol", AskedBy::Administrator).await.unwrap();
}
