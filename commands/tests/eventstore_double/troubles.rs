//! What only EventStoreDB, and the way to it, can do wrong.

use std::sync::Arc;

use commands::log::{EventStoreLog, Keyring, MAX_EVENTS_PER_READ};
use domain::log::{AppendError, LogError, Position, Version};
use tokio::time::timeout;

use super::wire::{Empty, Expected, Proposed};
use super::{Double, Trouble};
use crate::{Log, PATIENCE, append, by, claimed, named, stream};

const NAMESPACE: &str = "kiroku";

impl Double {
    fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        self.shared.trouble.send_modify(change);
    }

    /// How many events there are in streams that begin so.
    fn count(&self, prefix: &str) -> usize {
        self.shared.held().all.iter().filter(|event| event.stream.starts_with(prefix)).count()
    }
}

async fn started() -> (Double, Log) {
    let double = Double::start().await;
    let log = opened(&double.url()).await;
    (double, log)
}

async fn opened(url: &str) -> Log {
    Arc::new(EventStoreLog::open(url, NAMESPACE, Arc::new(Keyring::memory())).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_loses_and_doubles_nothing() {
    let (double, log) = started().await;
    // The answer to the target of the command, and the one to its events.
    for lost in [1, 2] {
        double.trouble(|trouble| trouble.unanswered = Some(lost));
        let events = vec![named(1, "x"), named(1, "y")];
        let expected = Version(u64::from(lost - 1) * 2);
        let position = log.append(&stream(1), expected, &by(None), events).await.unwrap();
        assert!(double.shared.trouble.borrow().unanswered.is_none(), "no answer was lost");
        let (read, version) = log.stream(&stream(1)).await.unwrap();
        assert_eq!(version, Version(expected.0 + 2));
        assert_eq!(read.last().unwrap().position, position);
        assert_eq!(log.head().await.unwrap(), position);
    }
    assert_eq!(log.after(Position::START, MAX_EVENTS_PER_READ).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_made_again() {
    let (double, log) = started().await;
    for n in 0..5 {
        double.shared.cut();
        let position = append(&log, 1, Version(n), "again").await.unwrap();
        double.shared.cut();
        assert_eq!(log.head().await.unwrap(), position);
        double.shared.cut();
        assert_eq!(log.after(Position::START, 100).await.unwrap().len() as u64, n + 1);
        double.shared.cut();
        assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(n + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_twice_is_written_once() {
    let (double, log) = started().await;
    double.trouble(|trouble| trouble.twice = true);
    for n in 0..5 {
        append(&log, 1, Version(n), "twice").await.unwrap();
    }
    assert_eq!(double.count("kiroku."), 5);
    let late = append(&log, 1, Version::NONE, "late").await;
    assert!(matches!(late, Err(AppendError::Conflict { actual: Version(5) })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_command_elsewhere_waits_for_the_first() {
    let (double, log) = started().await;
    double.trouble(|trouble| trouble.delayed = Some("kiroku.user-1".to_owned()));
    let act = by(None);
    let send = |log: Log, n| {
        tokio::spawn(async move { log.append(&stream(n), Version::NONE, &act, vec![named(n, "x")]).await })
    };
    let first = send(log.clone(), 1);
    timeout(PATIENCE, double.shared.written.subscribe().wait_for(|_| double.count("kiroku_command-") == 1))
        .await
        .unwrap()
        .unwrap();
    // As from another process.
    let second = send(opened(&double.url()).await, 2);
    append(&log, 3, Version::NONE, "not held up").await.unwrap();
    // It asks again and again what became of the first.
    let mut read = double.shared.read.subscribe();
    let asked = read.wait_for(|read| read.get("kiroku.user-1").is_some_and(|times| *times > 2));
    assert!(timeout(PATIENCE, asked).await.is_ok_and(|asked| asked.is_ok()), "it did not wait");
    double.trouble(|trouble| trouble.delayed = None);
    let position = first.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap().unwrap(), position);
    assert_eq!((double.count("kiroku.user-1"), double.count("kiroku.user-2")), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_its_writer_left_is_replaced_in_the_end() {
    let (double, log) = started().await;
    let act = by(None);
    // What a process leaves that ends between its two writes.
    let target = Proposed { data: br#"{"stream":"user-1","expected":0}"#.to_vec(), ..Proposed::default() };
    let commands = format!("kiroku_command-{}", act.command.0.simple());
    assert!(double.shared.write(&commands, &Expected::NoStream(Empty {}), &[target]).is_ok());
    let position = log.append(&stream(2), Version::NONE, &act, vec![named(2, "x")]).await.unwrap();
    assert_eq!(log.head().await.unwrap(), position);
    assert_eq!((double.count("kiroku.user-1"), double.count("kiroku.user-2")), (0, 1));
    // And is no target any more.
    let again = log.append(&stream(1), Version::NONE, &act, vec![named(1, "x")]).await.unwrap();
    assert_eq!(again, position);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_elsewhere_is_woken() {
    let (double, log) = started().await;
    let elsewhere = opened(&double.url()).await;
    let position = append(&log, 1, Version::NONE, "wake").await.unwrap();
    let woken = async {
        while elsewhere.head().await.unwrap() < position {
            elsewhere.wait(Position::START).await;
        }
    };
    timeout(PATIENCE, woken).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_readable_is_stored() {
    let (double, log) = started().await;
    append(&log, 1, Version::NONE, "alice-the-first").await.unwrap();
    log.append(&stream(2), Version::NONE, &by(None), vec![claimed("alice-the-first")]).await.unwrap();
    assert_eq!(double.count("kiroku."), 2);
    for event in &double.shared.held().all {
        for bytes in [&event.data, &event.custom_metadata] {
            assert!(!bytes.windows(5).any(|w| w == b"alice"), "{}", event.stream);
        }
        assert!(!event.stream.contains("alice"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_found_among_many() {
    let double = Double::start().await;
    // Nobody is at the first.
    let port = double.shared.address.port();
    let log = opened(&format!("esdb://127.0.0.1:1,127.0.0.1:{port}?tls=false")).await;
    let position = append(&log, 1, Version::NONE, "found").await.unwrap();
    assert_eq!(log.head().await.unwrap(), position);
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_showing_it() {
    for url in ["", "postgres://me:secret@host/", "esdb://me:secret@"] {
        let refused = EventStoreLog::open(url, NAMESPACE, Arc::new(Keyring::memory())).await;
        let Err(LogError::Unavailable(reason)) = refused else { panic!("{url:?} was taken") };
        assert!(!reason.contains("secret"), "{reason}");
    }
}
