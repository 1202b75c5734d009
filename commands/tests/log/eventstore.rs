//! What only EventStoreDB, and the way to it, can do wrong.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use commands::log::{Engine, EventStoreLog, Keyring, MAX_EVENTS_PER_READ, MAX_QUEUED_APPENDS, MemoryLog};
use domain::CommandId;
use domain::log::{AppendError, By, EventLog, LogError, Position, Version};
use futures_util::future::join;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::eventstore_double::Double;
use crate::{Log, PATIENCE, append, by, claimed, named, stream};

const NAMESPACE: &str = "kiroku";
/// Enough to connect; what can't be is tried for longer.
const SHORT: Duration = Duration::from_secs(3);

async fn started() -> (Double, Log) {
    let double = Double::start().await;
    let log = opened(&double.url()).await;
    (double, log)
}

/// As another process does that has the same keys.
async fn opened(url: &str) -> Log {
    static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| Arc::new(Keyring::memory()));
    Arc::new(EventStoreLog::open(url, NAMESPACE, KEYRING.clone()).await.unwrap())
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
        assert!(double.has_trouble(|trouble| trouble.unanswered.is_none()), "no answer was lost");
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
        double.cut();
        let position = append(&log, 1, Version(n), "again").await.unwrap();
        double.cut();
        assert_eq!(log.head().await.unwrap(), position);
        double.cut();
        assert_eq!(log.after(Position::START, 100).await.unwrap().len() as u64, n + 1);
        double.cut();
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
    timeout(PATIENCE, double.written().wait_for(|_| double.count("kiroku_command-") == 1))
        .await
        .unwrap()
        .unwrap();
    // As from another process.
    let second = send(opened(&double.url()).await, 2);
    append(&log, 3, Version::NONE, "not held up").await.unwrap();
    // It asks again and again what became of the first.
    let mut read = double.read();
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
    let commands = format!("kiroku_command-{}", act.command.0.simple());
    double.begin(&commands, br#"{"stream":"user-1","expected":0}"#);
    let position = log.append(&stream(2), Version::NONE, &act, vec![named(2, "x")]).await.unwrap();
    assert_eq!(log.head().await.unwrap(), position);
    assert_eq!((double.count("kiroku.user-1"), double.count("kiroku.user-2")), (0, 1));
    // And is no target any more.
    let again = log.append(&stream(1), Version::NONE, &act, vec![named(1, "x")]).await.unwrap();
    assert_eq!(again, position);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_command_of_two_processes_is_appended_once() {
    let (double, log) = started().await;
    let elsewhere = opened(&double.url()).await;
    for n in 0..8 {
        // At the same target, and at two; the two never both.
        let other = if n % 2 == 0 { n } else { n + 100 };
        let act = by(None);
        let (here, there) = (stream(n), stream(other));
        let (one, two) = join(
            log.append(&here, Version::NONE, &act, vec![named(n, "x")]),
            elsewhere.append(&there, Version::NONE, &act, vec![named(other, "x")]),
        )
        .await;
        assert_eq!(one.unwrap(), two.unwrap(), "{n}");
    }
    assert_eq!(double.count("kiroku."), 8);
    let all = log.after(Position::START, 100).await.unwrap();
    assert_eq!(elsewhere.after(Position::START, 100).await.unwrap(), all);
    for recorded in all {
        let act = By { user: None, now: recorded.at, command: recorded.command };
        // For ever: also after a restart.
        let restarted = opened(&double.url()).await;
        let again = restarted.append(&stream(999), Version(7), &act, vec![named(9, "y")]).await;
        assert_eq!(again.unwrap(), recorded.position);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_elsewhere_is_woken_also_after_a_cut() {
    let (double, log) = started().await;
    let elsewhere = opened(&double.url()).await;
    let mut seen = Position::START;
    for n in 0..4 {
        let position = append(&log, 1, Version(n), "wake").await.unwrap();
        let woken = async {
            while seen < position {
                elsewhere.wait(seen).await;
                let told = elsewhere.after(seen, 10).await.unwrap();
                seen = told.last().map_or(seen, |last| last.position);
            }
        };
        timeout(PATIENCE, woken).await.unwrap();
        double.cut();
    }
    assert_eq!(elsewhere.after(Position::START, 10).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_appends_than_the_queue_holds_are_refused() {
    let (double, log) = started().await;
    append(&log, 0, Version::NONE, "the key is made").await.unwrap();
    double.trouble(|trouble| trouble.delayed = Some("kiroku".to_owned()));
    const TOO_MANY: usize = 10;
    let (told, mut outcomes) = mpsc::unbounded_channel();
    for n in 0..MAX_QUEUED_APPENDS + TOO_MANY {
        let (log, told) = (log.clone(), told.clone());
        tokio::spawn(async move {
            _ = told.send(append(&log, 1 + n as u64, Version::NONE, "waits").await);
        });
    }
    for _ in 0..TOO_MANY {
        let refused = timeout(PATIENCE, outcomes.recv()).await.unwrap().unwrap();
        assert!(matches!(refused, Err(AppendError::Overloaded)), "{refused:?}");
    }
    double.trouble(|trouble| trouble.delayed = None);
    for _ in 0..MAX_QUEUED_APPENDS {
        timeout(PATIENCE, outcomes.recv()).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_go_through_one_open_call_where_the_server_has_it() {
    let (double, log) = started().await;
    for n in 0..10 {
        append(&log, 1, Version(n), "open").await.unwrap();
    }
    assert_eq!(double.single_appends(), 0);
    // Why something is refused is asked in a call of its own; then another one is opened.
    let late = append(&log, 1, Version(3), "late").await;
    assert!(matches!(late, Err(AppendError::Conflict { actual: Version(10) })), "{late:?}");
    assert_eq!(double.single_appends(), 1);
    append(&log, 1, Version(10), "open again").await.unwrap();
    assert_eq!(double.single_appends(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_open_calls_will_do() {
    let double = Double::start().await;
    double.trouble(|trouble| trouble.is_old = true);
    let log = opened(&double.url()).await;
    for n in 0..3 {
        append(&log, 1, Version(n), "one by one").await.unwrap();
    }
    let late = append(&log, 1, Version::NONE, "late").await;
    assert!(matches!(late, Err(AppendError::Conflict { actual: Version(3) })), "{late:?}");
    assert!(double.single_appends() >= 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_told_wrong_is_not_believed() {
    let double = Double::start().await;
    double.trouble(|trouble| trouble.misplaced = true);
    let log = opened(&double.url()).await;
    for n in 0..6 {
        let events = vec![named(n, "x"); 1 + n as usize % 3];
        let position = log.append(&stream(n), Version::NONE, &by(None), events).await.unwrap();
        assert_eq!(log.stream(&stream(n)).await.unwrap().0[0].position, position);
        assert_eq!(log.head().await.unwrap(), position);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_the_server_is_refused_and_holds_nothing_up() {
    let (_double, log) = started().await;
    let large = vec![named(1, &"x".repeat(8 * 1024)); 200];
    let refused = log.append(&stream(1), Version::NONE, &by(None), large).await;
    assert!(matches!(refused, Err(AppendError::Log(LogError::Unavailable(_)))), "{refused:?}");
    append(&log, 1, Version::NONE, "small").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_cut_off_is_not_read_as_if_it_were_whole() {
    let (double, log) = started().await;
    for n in 0..3 {
        append(&log, 1, Version(n), "x").await.unwrap();
    }
    double.cut_off("kiroku.user-1", 1);
    let read = log.stream(&stream(1)).await;
    assert!(matches!(read, Err(LogError::Unreadable { .. })), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_others_are_passed_over_however_many_there_are() {
    const OTHERS: usize = 3_000;
    let double = Double::start().await;
    double.others_write(OTHERS);
    let log = opened(&double.url()).await;
    let mut written = Vec::new();
    for n in 0..3 {
        written.push(append(&log, n, Version::NONE, "ours").await.unwrap());
        double.others_write(OTHERS);
    }
    for log in [log, opened(&double.url()).await] {
        let mut read = vec![Position::START];
        while let Some(next) = log.after(*read.last().unwrap(), 1).await.unwrap().first() {
            read.push(next.position);
        }
        assert_eq!(read[1..], written);
        assert_eq!(log.head().await.unwrap(), written[2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_log_is_known_from_the_others() {
    let (one, other) = (Double::start().await, Double::start().await);
    let identity = async |url: &str, namespace| {
        EventStoreLog::open(url, namespace, Arc::new(Keyring::memory())).await.unwrap().identity()
    };
    let first = identity(&one.url(), "kiroku").await;
    let (again, namesake) = join(identity(&one.url(), "kiroku"), identity(&one.url(), "kirokutoo")).await;
    assert_eq!(first, again);
    assert_ne!(first, namesake);
    assert_ne!(first, identity(&other.url(), "kiroku").await);
    // Two that begin it at the same time agree.
    let (here, there) = join(identity(&other.url(), "new"), identity(&other.url(), "new")).await;
    assert_eq!(here, there);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_from_before_the_beginning_was_written_are_found() {
    let (double, log) = started().await;
    let position = append(&log, 1, Version::NONE, "x").await.unwrap();
    double.forget("kiroku_log");
    let log = opened(&double.url()).await;
    assert_eq!(log.head().await.unwrap(), position);
    assert_eq!(log.after(Position::START, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_sends_on_to_the_leader() {
    let (leader, follower) = (Double::start().await, Double::start().await);
    follower.trouble(|trouble| trouble.leader = Some(leader.port()));
    let log = opened(&follower.url()).await;
    let position = append(&log, 1, Version::NONE, "x").await.unwrap();
    assert_eq!(log.head().await.unwrap(), position);
    assert_eq!((leader.count("kiroku."), follower.count("kiroku.")), (1, 0));
    // The leader changes while the log is in use.
    leader.trouble(|trouble| trouble.leader = Some(follower.port()));
    follower.trouble(|trouble| trouble.leader = None);
    leader.cut();
    append(&log, 2, Version::NONE, "y").await.unwrap();
    assert_eq!(follower.count("kiroku."), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_taken_over_as_it_is_and_given_back() {
    let keyring = Arc::new(Keyring::memory());
    let (from, back) = (MemoryLog::new(keyring.clone()), MemoryLog::new(keyring.clone()));
    for n in 0..20 {
        let events = vec![named(n, "x"); 1 + n as usize % 3];
        from.append(&stream(n), Version::NONE, &by(None), events).await.unwrap();
    }
    let sealed = from.sealed_after(Position::START, 1000).await.unwrap();
    let appends: Vec<Vec<_>> = sealed.chunk_by(|a, b| a.position == b.position).map(<[_]>::to_vec).collect();

    let double = Double::start().await;
    let log = EventStoreLog::open(&double.url(), NAMESPACE, keyring).await.unwrap();
    log.import(appends[..10].to_vec()).await.unwrap();
    // Once more, and on: what is there is passed over.
    let last = log.import(appends.clone()).await.unwrap();
    assert_eq!(log.head().await.unwrap(), last);
    let taken = log.sealed_after(Position::START, 1000).await.unwrap();
    assert!(taken.is_sorted_by_key(|row| (row.position, row.ordinal)));
    let appends: Vec<Vec<_>> = taken.chunk_by(|a, b| a.position == b.position).map(<[_]>::to_vec).collect();
    back.import(appends).await.unwrap();
    assert_eq!(back.sealed_after(Position::START, 1000).await.unwrap(), sealed);

    let act = By { user: None, now: sealed[0].at, command: CommandId(sealed[0].command) };
    assert_eq!(
        log.append(&stream(0), Version::NONE, &act, vec![named(0, "y")]).await.unwrap().0,
        taken[0].position
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_readable_is_stored() {
    let (double, log) = started().await;
    append(&log, 1, Version::NONE, "alice-the-first").await.unwrap();
    log.append(&stream(2), Version::NONE, &by(None), vec![claimed("alice-the-first")]).await.unwrap();
    assert_eq!(double.count("kiroku."), 2);
    for part in double.everything() {
        assert!(!part.windows(5).any(|w| w == b"alice"), "{}", String::from_utf8_lossy(&part));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_found_among_many() {
    let double = Double::start().await;
    // Nobody is at the first.
    let port = double.port();
    let log = opened(&format!("esdb://127.0.0.1:1,127.0.0.1:{port}?tls=false")).await;
    let position = append(&log, 1, Version::NONE, "found").await.unwrap();
    assert_eq!(log.head().await.unwrap(), position);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tls_is_known_by_its_certificate() {
    let double = Double::secured().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), double.certificate.as_ref().unwrap()).unwrap();
    let known = format!("{}&tlsCAFile={}", double.url(), file.path().display());
    let unasked = format!("{}&tlsVerifyCert=false", double.url());
    for (url, n) in [(known, 1), (unasked, 2)] {
        let log = opened(&url).await;
        let position = append(&log, n, Version::NONE, "secured").await.unwrap();
        assert_eq!(log.after(Position::START, 10).await.unwrap().last().unwrap().position, position);
    }
    let url = double.url();
    let unknown = EventStoreLog::open(&url, NAMESPACE, Arc::new(Keyring::memory()));
    assert!(!matches!(timeout(SHORT, unknown).await, Ok(Ok(_))), "a server that nobody knows");
    let missing = format!("{}&tlsCAFile=/nowhere/ca.pem", double.url());
    let missing = EventStoreLog::open(&missing, NAMESPACE, Arc::new(Keyring::memory())).await;
    let Err(LogError::Unavailable(reason)) = missing else { panic!("opened without its certificate") };
    assert!(reason.contains("/nowhere/ca.pem"), "{reason}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_showing_it() {
    for url in ["", "postgres://me:secret@host/", "esdb://me:secret@"] {
        let refused = EventStoreLog::open(url, NAMESPACE, Arc::new(Keyring::memory())).await;
        let Err(LogError::Unavailable(reason)) = refused else { panic!("{url:?} was taken") };
        assert!(!reason.contains("secret"), "{reason}");
    }
}
