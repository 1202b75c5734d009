//! What every engine of the event log must do, run against each of them: memory; PostgreSQL at `DATABASE_URL`,
//! where each test makes a database of its own; EventStoreDB, as a double of it, and the server at
//! `KIROKU_TEST_EVENTSTORE_URL` when one is named.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod engine;
mod eventstore;
#[path = "../../../tests/eventstore_double/mod.rs"]
mod eventstore_double;
mod upkeep;
mod writers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use commands::log::{Keyring, KeysError, MemoryLog, PostgresLog, Takeover};
use domain::log::{
    AppendError, By, EventLog, LogError, MAX_EVENTS_PER_APPEND, MAX_STREAM_ID_BYTES, Position, Recorded,
    StreamId, Version,
};
use domain::{CommandId, Event, UserId, instance, user};
use engine::{Engine, on_eventstore, on_postgres};
use futures_util::future::{join, join_all};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::{Instant, timeout};
use upkeep::{
    a_copy_goes_on_where_it_ended, a_log_is_checked_while_it_is_written,
    a_log_moves_to_another_engine_and_back, a_long_log_is_copied_in_batches, a_sound_log_is_found_sound,
    an_older_log_begins_its_chain_at_its_head, only_the_sole_writer_takes_what_another_log_has,
    sealed_events_read_like_open_ones, what_is_not_whole_is_not_taken, whoever_changes_the_tables_is_found,
};
use uuid::Uuid;
use writers::{
    a_reader_that_trusts_bare_sequence_numbers_is_caught,
    a_session_that_holds_the_log_and_does_nothing_is_ended, a_silent_writer_is_fenced_and_joins_again,
    a_writer_says_that_it_is_there, a_writer_that_leaves_is_gone,
    an_answer_lost_after_the_commit_loses_and_doubles_nothing, nobody_joins_while_a_sole_writer_is_there,
    two_writers_share_a_log,
};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

type Log = Arc<dyn commands::log::Engine>;

// Properties of every engine.

macro_rules! properties {
    ($($property:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::$property(super::Engine::memory()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::on_postgres(super::$property).await;
            })*
        }

        mod on_double {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                let double = crate::eventstore_double::Double::start().await;
                super::$property(super::Engine::eventstore(double.url())).await;
            })*
        }

        mod on_eventstore {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::on_eventstore(super::$property).await;
            })*
        }
    };
}

properties! {
    a_new_log_is_empty,
    an_event_reads_back_as_it_was_appended,
    an_append_is_whole_or_not_there,
    a_wrong_version_conflicts_and_tells_the_right_one,
    one_of_many_writers_to_a_stream_wins,
    the_same_command_returns_the_first_receipt,
    a_conflict_leaves_its_neighbours_alone,
    what_no_engine_takes_is_refused,
    a_reader_misses_nothing_of_sixteen_writers,
    reading_resumes_from_any_position,
    a_long_stream_is_read_whole,
    what_was_cut_off_can_be_sent_again,
    a_reader_is_woken,
    an_erased_person_takes_no_one_along,
    sealed_events_read_like_open_ones,
    a_log_moves_to_another_engine_and_back,
    a_copy_goes_on_where_it_ended,
    what_is_not_whole_is_not_taken,
    a_sound_log_is_found_sound,
    a_log_is_checked_while_it_is_written,
}

async fn a_new_log_is_empty(engine: Engine) {
    let log = engine.open().await;
    assert_eq!(log.head().await.unwrap(), Position::START);
    assert_eq!(log.after(Position::START, 10).await.unwrap(), []);
    assert_eq!(log.stream(&stream(1)).await.unwrap(), (vec![], Version::NONE));
}

async fn an_event_reads_back_as_it_was_appended(engine: Engine) {
    let log = engine.open().await;
    let by = by(Some(person(7)));
    let events = vec![named(1, "alice"), claimed("https://kiroku.example")];
    let position = log.append(&stream(1), Version::NONE, &by, events.clone()).await.unwrap();
    let (read, version) = log.stream(&stream(1)).await.unwrap();
    assert_eq!(version, Version(2));
    assert_eq!(log.after(Position::START, 10).await.unwrap(), read);
    assert_eq!(log.head().await.unwrap(), position);
    let expected = events.into_iter().zip(0..).map(|(event, ordinal)| Recorded {
        position,
        ordinal,
        id: by.command.event(ordinal),
        stream: stream(1),
        version: Version(u64::from(ordinal) + 1),
        kind: event.kind().0.to_owned(),
        at: by.now,
        subject: event.subject(),
        actor: Some(person(7)),
        command: by.command,
        event: Some(event),
    });
    assert_eq!(read, expected.collect::<Vec<_>>());
}

async fn an_append_is_whole_or_not_there(engine: Engine) {
    let log = engine.open().await;
    let events: Vec<_> = (0..MAX_EVENTS_PER_APPEND as u64).map(|n| named(n, "someone")).collect();
    let position = log.append(&stream(1), Version::NONE, &by(None), events.clone()).await.unwrap();
    let refused = log.append(&stream(1), Version::NONE, &by(None), events.clone()).await;
    assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
    let read = log.after(Position::START, 1).await.unwrap();
    assert_eq!(read.len(), events.len());
    assert!(read.iter().zip(0..).all(|(r, n)| r.position == position && r.ordinal == n));
    assert_eq!(log.after(position, 1).await.unwrap(), []);
    assert_eq!(log.head().await.unwrap(), position);
}

async fn a_wrong_version_conflicts_and_tells_the_right_one(engine: Engine) {
    let log = engine.open().await;
    let early = append(&log, 1, Version(1), "early").await;
    assert!(matches!(early, Err(AppendError::Conflict { actual: Version::NONE })), "{early:?}");
    for n in 0..3 {
        append(&log, 1, Version(n), "in time").await.unwrap();
    }
    for wrong in [0, 2, 4, u64::MAX] {
        let conflict = append(&log, 1, Version(wrong), "wrong").await;
        assert!(matches!(conflict, Err(AppendError::Conflict { actual: Version(3) })), "{conflict:?}");
    }
    assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(3));
}

async fn one_of_many_writers_to_a_stream_wins(engine: Engine) {
    let log = engine.open().await;
    let outcomes = join_all((0..32).map(|_| append(&log, 1, Version::NONE, "first"))).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 31));
    assert!(lost.iter().all(|l| matches!(l, Err(AppendError::Conflict { actual: Version(1) }))));
    assert_eq!(log.stream(&stream(1)).await.unwrap().0.len(), 1);
}

async fn the_same_command_returns_the_first_receipt(engine: Engine) {
    let log = engine.open().await;
    let once = by(None);
    let first = log.append(&stream(1), Version::NONE, &once, vec![named(1, "first")]).await.unwrap();
    append(&log, 2, Version::NONE, "another").await.unwrap();

    let first_stream = stream(1);
    let same = || log.append(&first_stream, Version::NONE, &once, vec![named(1, "first")]);
    assert_eq!(same().await.unwrap(), first);
    let other = log.append(&stream(3), Version(9), &once, vec![named(3, "other"), named(3, "words")]).await;
    assert_eq!(other.unwrap(), first);
    let again = join_all((0..8).map(|_| same())).await;
    assert!(again.into_iter().all(|position| position.unwrap() == first));

    // Sent twice at once, before there is a receipt.
    let twice = by(None);
    let unborn = stream(4);
    let both =
        join_all((0..2).map(|_| log.append(&unborn, Version::NONE, &twice, vec![named(4, "x")]))).await;
    let both: Vec<_> = both.into_iter().map(Result::unwrap).collect();
    assert_eq!(both[0], both[1]);

    // What was refused is not a receipt.
    let refused = by(None);
    let conflict = log.append(&stream(1), Version::NONE, &refused, vec![named(1, "late")]).await;
    assert!(matches!(conflict, Err(AppendError::Conflict { .. })), "{conflict:?}");
    let accepted = log.append(&stream(1), Version(1), &refused, vec![named(1, "late")]).await.unwrap();
    assert!(accepted > both[0]);

    drop(log);
    let log = engine.open().await;
    let after = log.append(&stream(1), Version(2), &once, vec![named(1, "first")]).await;
    assert_eq!(after.unwrap(), first);
    assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(2));
    assert_eq!(log.stream(&stream(3)).await.unwrap().1, Version::NONE);
    assert_eq!(log.head().await.unwrap(), accepted);
}

async fn a_conflict_leaves_its_neighbours_alone(engine: Engine) {
    let log = engine.open().await;
    append(&log, 0, Version::NONE, "taken").await.unwrap();
    let outcomes = join_all((0..20).map(|n| append(&log, n, Version::NONE, "neighbour"))).await;
    assert!(matches!(outcomes[0], Err(AppendError::Conflict { actual: Version(1) })));
    let mut positions: Vec<_> = outcomes.into_iter().skip(1).map(Result::unwrap).collect();
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), 19);
}

async fn what_no_engine_takes_is_refused(engine: Engine) {
    let log = engine.open().await;
    let empty = log.append(&stream(1), Version::NONE, &by(None), vec![]).await;
    assert!(matches!(empty, Err(AppendError::Empty)), "{empty:?}");
    let many = vec![named(1, "many"); MAX_EVENTS_PER_APPEND + 1];
    let many = log.append(&stream(1), Version::NONE, &by(None), many).await;
    assert!(matches!(many, Err(AppendError::TooMany)), "{many:?}");
    for name in ["", "no-\0-name", "no name", &"long".repeat(MAX_STREAM_ID_BYTES)] {
        let unnamed = StreamId::stored(name.to_owned());
        let refused = log.append(&unnamed, Version::NONE, &by(None), vec![named(1, "x")]).await;
        assert!(matches!(refused, Err(AppendError::Log(_))), "{name:?}");
    }
    assert_eq!(log.head().await.unwrap(), Position::START);
}

async fn a_reader_misses_nothing_of_sixteen_writers(engine: Engine) {
    const WRITERS: u64 = 16;
    const APPENDS: u64 = 40;
    // Two handles, as of two processes.
    let logs = [engine.open().await, engine.open().await];
    let writers = (0..WRITERS).map(|writer| {
        let log = logs[writer as usize % 2].clone();
        tokio::spawn(async move {
            let mut version = Version::NONE;
            for n in 0..APPENDS {
                let events = vec![named(writer, "busy"); 1 + (n % 3) as usize];
                let next = Version(version.0 + events.len() as u64);
                log.append(&stream(writer), version, &by(None), events).await.unwrap();
                version = next;
            }
            version.0
        })
    });
    let writers: Vec<_> = writers.collect();

    let log = engine.open().await;
    let mut followed: Vec<Recorded> = Vec::new();
    let total = WRITERS * (0..APPENDS).map(|n| 1 + n % 3).sum::<u64>();
    let deadline = Instant::now() + PATIENCE;
    while (followed.len() as u64) < total && Instant::now() < deadline {
        let position = followed.last().map_or(Position::START, |last| last.position);
        followed.extend(log.after(position, 7).await.unwrap());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(followed.len() as u64, total);
    assert_eq!(log.after(Position::START, 10_000).await.unwrap(), followed);
    assert!(followed.is_sorted_by_key(|r| (r.position, r.ordinal)));
    let mut versions: HashMap<StreamId, u64> = HashMap::new();
    for recorded in &followed {
        let version = versions.entry(recorded.stream.clone()).or_default();
        *version += 1;
        assert_eq!(recorded.version, Version(*version));
    }
    assert_eq!(log.head().await.unwrap(), followed.last().unwrap().position);
}

async fn reading_resumes_from_any_position(engine: Engine) {
    let log = engine.open().await;
    for n in 0..10 {
        let events = vec![named(n, "page"); 3];
        log.append(&stream(n), Version::NONE, &by(None), events).await.unwrap();
    }
    drop(log);
    let log = engine.open().await;
    let all = log.after(Position::START, 1000).await.unwrap();
    assert_eq!(all.len(), 30);
    for limit in [0, 1, 3, 4, 29, usize::MAX] {
        let mut paged: Vec<Recorded> = Vec::new();
        loop {
            let position = paged.last().map_or(Position::START, |last| last.position);
            let page = log.after(position, limit).await.unwrap();
            assert_eq!(page.len() % 3, 0, "only whole appends");
            assert!(page.len() <= limit.max(1).saturating_add(2));
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
    for (n, recorded) in all.iter().enumerate() {
        let rest: Vec<_> = all[n..].iter().filter(|r| r.position > recorded.position).cloned().collect();
        assert_eq!(log.after(recorded.position, 1000).await.unwrap(), rest);
    }
}

async fn a_long_stream_is_read_whole(engine: Engine) {
    let log = engine.open().await;
    let mut version = Version::NONE;
    for _ in 0..8 {
        let events = vec![named(1, "long"); MAX_EVENTS_PER_APPEND];
        log.append(&stream(1), version, &by(None), events).await.unwrap();
        version = Version(version.0 + MAX_EVENTS_PER_APPEND as u64);
    }
    let (events, read) = log.stream(&stream(1)).await.unwrap();
    assert_eq!(read, version);
    assert!(events.iter().zip(1..).all(|(event, n)| event.version == Version(n)));
    assert_eq!(events.len() as u64, version.0);
}

async fn what_was_cut_off_can_be_sent_again(engine: Engine) {
    let log = engine.open().await;
    let acts: Vec<By> = (0..50).map(|_| by(None)).collect();
    let send = |log: Log| {
        acts.iter().zip(0u64..).map(move |(act, n)| {
            let (log, act) = (log.clone(), *act);
            tokio::spawn(
                async move { log.append(&stream(n), Version::NONE, &act, vec![named(n, "x")]).await },
            )
        })
    };
    let mut sent: Vec<_> = send(log.clone()).collect();
    let told = sent.remove(0).await.unwrap().unwrap();
    sent.iter().for_each(|task| task.abort());
    drop(log);

    let log = engine.open().await;
    let positions: Vec<Position> =
        join_all(send(log.clone())).await.into_iter().map(|outcome| outcome.unwrap().unwrap()).collect();
    assert_eq!(positions[0], told);
    let all = log.after(Position::START, 1000).await.unwrap();
    assert_eq!(all.len(), acts.len());
    for (n, (act, position)) in acts.iter().zip(&positions).enumerate() {
        let (events, version) = log.stream(&stream(n as u64)).await.unwrap();
        assert_eq!(version, Version(1));
        assert_eq!((events[0].command, events[0].position), (act.command, *position));
    }
}

async fn a_reader_is_woken(engine: Engine) {
    let log = engine.open().await;
    let reader = {
        let log = log.clone();
        tokio::spawn(async move {
            while log.head().await.unwrap() == Position::START {
                log.wait(Position::START).await;
            }
        })
    };
    append(&log, 1, Version::NONE, "wake").await.unwrap();
    timeout(PATIENCE, reader).await.unwrap().unwrap();
    // What has been appended already needs no waiting, also after a restart.
    let asked = Instant::now();
    for _ in 0..20 {
        log.wait(Position::START).await;
    }
    engine.open().await.wait(Position::START).await;
    assert!(asked.elapsed() < Duration::from_secs(1));
}

async fn an_erased_person_takes_no_one_along(engine: Engine) {
    let log = engine.open().await;
    let events = vec![named(1, "alice"), named(2, "bob"), claimed("https://kiroku.example")];
    log.append(&stream(1), Version::NONE, &by(Some(person(1))), events.clone()).await.unwrap();
    engine.keyring.destroy(person(1)).await.unwrap();
    engine.keyring.destroy(person(1)).await.unwrap();
    for log in [log, engine.open().await] {
        let read = log.after(Position::START, 10).await.unwrap();
        assert_eq!((read[0].event.clone(), read[0].kind.as_str()), (None, "user.created"));
        assert_eq!((read[0].subject, read[0].actor), (Some(person(1)), Some(person(1))));
        assert_eq!((read[1].event.as_ref(), read[2].event.as_ref()), (Some(&events[1]), Some(&events[2])));
        assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(3));
        let more = log.append(&stream(2), Version::NONE, &by(None), vec![named(1, "alice")]).await;
        assert!(matches!(more, Err(AppendError::Erased { .. })), "{more:?}");
    }
}

// What only PostgreSQL can do wrong.

macro_rules! postgres_only {
    ($($property:ident),* $(,)?) => {
        mod postgres_only {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::on_postgres(super::$property).await;
            })*
        }
    };
}

postgres_only! {
    callers_that_wait_together_are_committed_together,
    a_lost_connection_loses_and_doubles_nothing,
    a_transaction_stuck_elsewhere_stops_nothing,
    a_fenced_writer_is_refused,
    nothing_readable_is_stored,
    a_moved_payload_is_refused,
    the_log_is_only_added_to,
    an_erased_key_is_gone_for_every_process,
    two_processes_make_one_key,
    another_master_key_is_refused,
    keyed_hashes_are_the_same_after_a_restart,
    whoever_changes_the_tables_is_found,
    only_the_sole_writer_takes_what_another_log_has,
    a_long_log_is_copied_in_batches,
    an_older_log_begins_its_chain_at_its_head,
    two_writers_share_a_log,
    a_reader_that_trusts_bare_sequence_numbers_is_caught,
    a_silent_writer_is_fenced_and_joins_again,
    a_writer_says_that_it_is_there,
    a_writer_that_leaves_is_gone,
    nobody_joins_while_a_sole_writer_is_there,
    a_session_that_holds_the_log_and_does_nothing_is_ended,
    an_answer_lost_after_the_commit_loses_and_doubles_nothing,
}

async fn callers_that_wait_together_are_committed_together(engine: Engine) {
    let log = engine.open().await;
    append(&log, 1, Version::NONE, "keys are made").await.unwrap();
    let plug = engine.plug(&log).await;
    let twice = by(None);
    let late = by(None);
    let send = |n, expected, act: By| {
        let log = log.clone();
        async move { log.append(&stream(n), Version(expected), &act, vec![named(1, "x"), named(1, "y")]).await }
    };
    let all = join_all([
        send(2, 0, by(None)),
        send(1, 0, by(None)),
        send(2, 2, by(None)),
        send(2, 2, by(None)),
        send(3, 1, late),
        send(3, 0, twice),
        send(4, 0, twice),
        send(3, 2, late),
        send(5, 2, late),
        send(4, 0, by(None)),
    ]);
    // Asked for in this order: all of them wait before the lock is let go.
    let (outcomes, ()) = join(all, plug.pull()).await;
    let first = outcomes[0].as_ref().unwrap().0;
    let told: Vec<Result<u64, u64>> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Ok(position) => Ok(position.0 - first),
            Err(AppendError::Conflict { actual }) => Err(actual.0),
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        told,
        [Ok(0), Err(1), Ok(1), Err(4), Err(0), Ok(2), Ok(2), Ok(3), Ok(3), Ok(4)],
        "each append sees those before it"
    );
    let commits: i64 =
        sqlx::query_scalar("select count(distinct xmin::text) from log.events where position >= $1")
            .bind(first as i64)
            .fetch_one(engine.pool())
            .await
            .unwrap();
    assert_eq!(commits, 1);
    assert_eq!(log.stream(&stream(2)).await.unwrap().1, Version(4));
    assert_eq!(log.stream(&stream(5)).await.unwrap().1, Version::NONE);
}

async fn a_lost_connection_loses_and_doubles_nothing(engine: Engine) {
    let log = engine.open().await;
    let plug = engine.plug(&log).await;
    let pending = {
        let log = log.clone();
        tokio::spawn(async move { append(&log, 1, Version::NONE, "once").await })
    };
    // The database goes away while the plugged append is being committed, and comes back.
    let mut admin = engine.admin().await;
    let name = engine.database();
    for statement in [
        format!("alter database {name} allow_connections false"),
        format!(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = '{name}' and application_name = 'kiroku appender'"
        ),
        format!("alter database {name} allow_connections true"),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    }
    plug.pull().await;
    pending.await.unwrap().unwrap();
    assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(1));
    assert_eq!(log.stream(&StreamId::new("plug", 0)).await.unwrap().1, Version(1));
}

async fn a_transaction_stuck_elsewhere_stops_nothing(engine: Engine) {
    let log = engine.open().await;
    let mut stuck = engine.pool().begin().await.unwrap();
    sqlx::query("create table elsewhere (n integer)").execute(&mut *stuck).await.unwrap();
    sqlx::query("insert into elsewhere (n) values (1)").execute(&mut *stuck).await.unwrap();
    for n in 0..20 {
        let position = append(&log, n, Version::NONE, "beside it").await.unwrap();
        let read = log.after(Position::START, 1000).await.unwrap();
        assert_eq!(read.len() as u64, n + 1);
        assert_eq!(read.last().unwrap().position, position);
    }
    stuck.commit().await.unwrap();
    assert_eq!(log.after(Position::START, 1000).await.unwrap().len(), 20);
}

async fn a_fenced_writer_is_refused(engine: Engine) {
    let (old, older) = (engine.open().await, engine.open().await);
    let act = by(None);
    let told = old.append(&stream(1), Version::NONE, &act, vec![named(1, "before")]).await.unwrap();
    append(&older, 2, Version::NONE, "before").await.unwrap();
    let new = engine.open_as(Takeover::Sole).await;
    for fenced in [&old, &older] {
        let refused = append(fenced, 3, Version::NONE, "after").await;
        assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    }
    // What it had appended in time stays appended.
    assert_eq!(old.append(&stream(1), Version::NONE, &act, vec![named(1, "before")]).await.unwrap(), told);
    append(&new, 3, Version::NONE, "after").await.unwrap();
    assert_eq!(old.after(Position::START, 100).await.unwrap().len(), 3);
}

async fn nothing_readable_is_stored(engine: Engine) {
    let log = engine.open().await;
    append(&log, 1, Version::NONE, "alice-the-first").await.unwrap();
    log.append(&stream(2), Version::NONE, &by(None), vec![claimed("alice-the-first")]).await.unwrap();
    let stored: Vec<(Vec<u8>, String)> =
        sqlx::query_as("select payload, concat(stream, kind) from log.events order by position")
            .fetch_all(engine.pool())
            .await
            .unwrap();
    assert_eq!(stored.len(), 2);
    for (payload, envelope) in stored {
        assert!(!envelope.contains("alice"));
        assert!(!payload.windows(5).any(|w| w == b"alice"));
        assert!(!payload.windows(4).any(|w| w == b"user"));
    }
    let wrapped: Vec<Vec<u8>> =
        sqlx::query_scalar("select wrapped from ops.keys").fetch_all(engine.pool()).await.unwrap();
    assert_eq!(wrapped.len(), 2);
    assert_ne!(wrapped[0], wrapped[1]);
}

async fn a_moved_payload_is_refused(engine: Engine) {
    let log = engine.open().await;
    append(&log, 1, Version::NONE, "one").await.unwrap();
    append(&log, 1, Version(1), "two").await.unwrap();
    for statement in [
        "alter table log.events disable trigger only_added_to",
        "update log.events set payload = (select payload from log.events where version = 1) where version = 2",
    ] {
        sqlx::query(statement).execute(engine.pool()).await.unwrap();
    }
    let read = log.stream(&stream(1)).await;
    assert!(matches!(read, Err(LogError::Unreadable { .. })), "{read:?}");
    let read = log.after(Position::START, 10).await;
    assert!(matches!(read, Err(LogError::Unreadable { .. })), "{read:?}");
    assert_eq!(log.after(Position::START, 1).await.unwrap().len(), 1);
}

async fn the_log_is_only_added_to(engine: Engine) {
    let log = engine.open().await;
    append(&log, 1, Version::NONE, "for ever").await.unwrap();
    for statement in [
        "update log.events set kind = 'x'",
        "delete from log.events",
        "truncate log.events",
        "delete from log.events where false",
    ] {
        let refused = sqlx::query(statement).execute(engine.pool()).await;
        assert!(refused.unwrap_err().to_string().contains("only added to"), "{statement}");
    }
    assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(1));
}

async fn an_erased_key_is_gone_for_every_process(engine: Engine) {
    append(&engine.open().await, 1, Version::NONE, "alice").await.unwrap();
    engine.keyring.destroy(person(1)).await.unwrap();
    let restarted = Arc::new(engine.open_keyring(MASTER).await.unwrap());
    let log = PostgresLog::open(engine.pool().clone(), restarted, Takeover::Shared).await.unwrap();
    assert_eq!(log.stream(&stream(1)).await.unwrap().0[0].event, None);
    let more = log.append(&stream(2), Version::NONE, &by(None), vec![named(1, "alice")]).await;
    assert!(matches!(more, Err(AppendError::Erased { .. })), "{more:?}");
    let left: Vec<(Option<Vec<u8>>, bool)> =
        sqlx::query_as("select wrapped, destroyed_at is not null from ops.keys where person = $1")
            .bind(person(1).0)
            .fetch_all(engine.pool())
            .await
            .unwrap();
    assert_eq!(left, [(None, true)]);
}

async fn two_processes_make_one_key(engine: Engine) {
    let mut logs: Vec<Log> = Vec::new();
    for _ in 0..2 {
        let keyring = Arc::new(engine.open_keyring(MASTER).await.unwrap());
        let log = PostgresLog::open(engine.pool().clone(), keyring, Takeover::Shared).await.unwrap();
        logs.push(Arc::new(log));
    }
    let everyone: Vec<Event> = (0..100).map(|n| named(n, "new")).collect();
    let sent = logs.iter().zip(0..).flat_map(|(log, process)| {
        let everyone = &everyone;
        (0..4).map(move |n| async move {
            log.append(&stream(process * 10 + n), Version::NONE, &by(None), everyone.clone()).await
        })
    });
    for outcome in join_all(sent).await {
        outcome.unwrap();
    }
    for log in &logs {
        let read = log.after(Position::START, 1000).await.unwrap();
        assert_eq!(read.len(), 800);
        assert!(read.iter().all(|r| r.event.as_ref() == Some(&everyone[r.ordinal as usize])));
    }
}

async fn another_master_key_is_refused(engine: Engine) {
    let other = [8; 32];
    assert!(matches!(engine.open_keyring(other).await, Err(KeysError::WrongMaster)));
    assert!(engine.open_keyring(MASTER).await.is_ok());
    append(&engine.open().await, 1, Version::NONE, "a key is made").await.unwrap();
    sqlx::query("delete from ops.keyring").execute(engine.pool()).await.unwrap();
    assert!(matches!(engine.open_keyring(MASTER).await, Err(KeysError::SecretMissing)));
}

async fn keyed_hashes_are_the_same_after_a_restart(engine: Engine) {
    let hash = engine.keyring.hash("username", "alice");
    assert_eq!(hash.len(), 32);
    assert!(hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    assert_eq!(engine.open_keyring(MASTER).await.unwrap().hash("username", "alice"), hash);
    assert_ne!(Keyring::memory().hash("username", "alice"), hash);
}

// Helpers.

const MASTER: [u8; 32] = [7; 32];

fn stream(n: u64) -> StreamId {
    StreamId::new("user", n)
}

fn person(n: u64) -> UserId {
    UserId(Uuid::from_u128(0x0193_5c2d_1000_7000_8000_0000_0000_0000 + u128::from(n)))
}

fn named(n: u64, username: &str) -> Event {
    user::Created { user: person(n), username: username.to_owned(), host: None, uri: None }.into()
}

fn claimed(url: &str) -> Event {
    instance::Claimed { url: url.to_owned() }.into()
}

/// A new act, with a command of its own.
fn by(user: Option<UserId>) -> By {
    static COMMANDS: AtomicU64 = AtomicU64::new(1);
    let n = COMMANDS.fetch_add(1, Ordering::Relaxed);
    let command =
        CommandId(Uuid::from_u128(0x0193_5c2d_1000_7abc_8000_0000_0000_0000 + (u128::from(n) << 40)));
    By { user, now: DateTime::<Utc>::UNIX_EPOCH + Duration::from_micros(n), command }
}

async fn append(log: &Log, n: u64, expected: Version, username: &str) -> Result<Position, AppendError> {
    log.append(&stream(n), expected, &by(None), vec![named(n, username)]).await
}
