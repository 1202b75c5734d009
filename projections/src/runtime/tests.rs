//! The runtime with real projectors: what stops, hangs, crashes, lags and comes back.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::instance;
use domain::log::{AppendError, By, StreamId, Version};
use domain::user::Created;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::Connection;

use super::*;
use crate::lease::{self, RENEW_EVERY};
use crate::testing::{MemoryLog, NOW, SOON, Story, a_life, at, eventually, held, user, with};
use crate::{note, projectors, user as people};

fn person(n: u8) -> Event {
    Created { user: user(n), username: format!("user{n}"), host: None, uri: None }.into()
}

fn append(log: &MemoryLog, event: Event) -> Position {
    let kind = event.kind().0;
    log.push(at(NOW), Some(event), kind)
}

async fn users(pool: &PgPool) -> i64 {
    people::stats(pool).await.unwrap().users
}

/// A log that wakes nobody, or whose events can't be read.
#[derive(Default)]
struct Faulty {
    log: MemoryLog,
    silent: bool,
    broken: AtomicBool,
}

#[async_trait]
impl EventLog for Faulty {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        self.log.append(stream, expected, by, events).await
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        self.log.stream(stream).await
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        if self.broken.load(Ordering::SeqCst) {
            let kind = "future.kind".to_owned();
            return Err(LogError::Unreadable { kind, schema: 9, reason: "unknown".to_owned() });
        }
        self.log.after(position, limit).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        self.log.head().await
    }

    async fn wait(&self, position: Position) {
        if self.silent {
            std::future::pending::<()>().await;
        }
        self.log.wait(position).await;
    }
}

async fn checkpoint(pool: &PgPool, name: &str) -> (i32, i64, Option<String>) {
    sqlx::query_as("select version, position, stop_reason from ops.checkpoints where projector = $1")
        .bind(name)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_waited_for_can_be_read_and_a_restart_goes_on_from_there(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    append(&log, person(1));
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    let mut advanced = running.advanced();
    let second = append(&log, person(2));
    running.wait(second, SOON).await.unwrap();
    assert_eq!(users(&pool).await, 2);
    assert!(*advanced.wait_for(|position| *position >= second).await.unwrap() >= second);
    let never = Position(99);
    let late = running.wait(never, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!((late.reached, late.wanted), (second, never));
    for status in running.status() {
        assert_eq!((status.position, status.lag_events, status.active), (second, 0, true), "{status:?}");
    }
    running.stop().await;
    assert_eq!(checkpoint(&pool, "users").await, (2, 2, None));
    assert_eq!(checkpoint(&pool, "notes").await, (4, 2, None), "it passed over what it does not hear");

    append(&log, person(3));
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    running.settle().await.unwrap();
    assert_eq!(users(&pool).await, 3);
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn waiting_needs_no_wake_up_from_the_log(pool: PgPool) {
    let log = Arc::new(Faulty { silent: true, ..Faulty::default() });
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    running.settle().await.unwrap();
    let position = append(&log.log, person(1));
    let started = Instant::now();
    running.wait(position, SOON).await.unwrap();
    assert!(started.elapsed() < crate::tail::ASK_AGAIN, "it waited for the next asking");
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn one_copy_is_active_and_the_other_follows_and_takes_over(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let first = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    append(&log, person(1));
    first.settle().await.unwrap();
    let second = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    let position = append(&log, person(2));
    second.wait(position, SOON).await.unwrap();
    assert_eq!(users(&pool).await, 2);
    assert!(first.status().iter().all(|status| status.active));
    assert!(second.status().iter().all(|status| !status.active));
    first.stop().await;
    let position = append(&log, person(3));
    second.wait(position, SOON).await.unwrap();
    assert_eq!(users(&pool).await, 3);
    assert!(second.status().iter().all(|status| status.active));
    second.stop().await;
}

fn watching(pool: &PgPool, log: &Arc<MemoryLog>) -> Projections {
    Projections::start(pool, log.clone(), projectors(), Mode::Watch)
}

fn all_at(position: Position) -> Vec<(String, Position)> {
    projectors().iter().map(|projector| (projector.name().to_owned(), position)).collect()
}

fn is_active(running: &Projections) -> bool {
    running.status().iter().all(|status| status.active)
}

/// A session that holds every projector, and renews nothing: a process that hangs. The server ends the sessions
/// of whoever had them in its own time.
async fn hang(pool: &PgPool) -> (PgConnection, i32) {
    let mut conn = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    let mut session = None;
    for projector in projectors() {
        let deadline = Instant::now() + SOON;
        session = loop {
            let taken = lease::take(&mut conn, projector.name()).await.unwrap();
            if taken.is_some() {
                break taken;
            }
            assert!(Instant::now() < deadline, "somebody else has it");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
    }
    (conn, session.expect("there are projectors"))
}

#[sqlx::test(migrations = "../migrations")]
async fn who_watches_sees_what_others_project_without_a_word_from_them(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let (active, watcher) =
        (Projections::start(&pool, log.clone(), projectors(), Mode::Project), watching(&pool, &log));
    for n in 1..=3 {
        let position = append(&log, person(n));
        watcher.wait(position, SOON).await.unwrap();
        assert_eq!(users(&pool).await, i64::from(n));
        assert!(*watcher.advanced().borrow() >= position);
    }
    assert!(watcher.active().is_empty() && watcher.status().iter().all(|status| !status.active));
    assert_eq!(active.active().len(), projectors().len());
    active.stop().await;
    let unseen = append(&log, person(4));
    assert!(watcher.wait(unseen, STANDBY_POLL * 2).await.is_err(), "nobody does the work");
    watcher.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn words_of_others_may_come_late_doubled_or_never(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let (active, watcher) =
        (Projections::start(&pool, log.clone(), projectors(), Mode::Project), watching(&pool, &log));
    let mut words: Vec<Vec<(String, Position)>> = Vec::new();
    for n in 1..=20 {
        let position = append(&log, person(n));
        active.wait(position, SOON).await.unwrap();
        words.push(active.active());
        match n % 4 {
            0 => watcher.heard(&words[usize::from(n) / 2]),
            1 => (0..2).for_each(|_| watcher.heard(&words[words.len() - 1])),
            2 => words.iter().rev().for_each(|word| watcher.heard(word)),
            _ => (),
        }
        watcher.heard(&[("nobody".to_owned(), Position(99))]);
        watcher.wait(position, SOON).await.unwrap();
        assert_eq!(users(&pool).await, i64::from(n));
        assert!(*watcher.advanced().borrow() <= position);
    }
    active.stop().await;
    watcher.stop().await;
}

/// Nobody projects here, so that only words and what was read tell anything.
#[sqlx::test(migrations = "../migrations")]
async fn a_word_is_believed_at_once_but_not_beyond_what_was_read(pool: PgPool) {
    let log = Arc::new(Faulty { silent: true, ..Faulty::default() });
    let watcher = Projections::start(&pool, log.clone(), projectors(), Mode::Watch);
    let first = append(&log.log, person(1));
    watcher.heard(&all_at(first));
    watcher.wait(first, SOON).await.unwrap();
    assert_eq!(*watcher.advanced().borrow(), first);

    let second = append(&log.log, person(2));
    watcher.heard(&all_at(second));
    watcher.wait(second, SOON).await.unwrap();
    watcher.heard(&all_at(Position(u64::MAX)));
    assert_eq!(*watcher.advanced().borrow(), second);
    // What was made up is not believed for ever.
    eventually(async || watcher.status().iter().all(|status| status.position <= second)).await;
    let third = append(&log.log, person(3));
    assert_ne!(watcher.wait(third, Duration::from_millis(1)).await.unwrap_err().projector, TAIL);
    watcher.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_copy_that_hangs_is_ended_and_one_that_dies_is_not_waited_for(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let (mut hung, _) = hang(&pool).await;
    let since = Instant::now();
    let next = [(); 2].map(|()| Projections::start(&pool, log.clone(), projectors(), Mode::Project));
    let position = append(&log, person(1));
    next[0].wait(position, SOON).await.unwrap();
    assert!(since.elapsed() >= lease::LEASE - RENEW_EVERY, "its lease had not run out");
    assert!(hung.ping().await.is_err());
    let holders = |name| {
        let mine = |running: &&Projections| running.status().iter().any(|s| s.name == name && s.active);
        next.iter().filter(mine).count()
    };
    eventually(async || projectors().iter().all(|projector| holders(projector.name()) == 1)).await;
    for running in next {
        running.stop().await;
    }

    let (dead, session) = hang(&pool).await;
    sqlx::query("update ops.leases set renewed_at = clock_timestamp() + interval '1 s'")
        .execute(&pool)
        .await
        .unwrap();
    let next = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    eventually(async || next.status().iter().all(|s| s.position == position)).await;
    assert!(!is_active(&next));
    let since = Instant::now();
    assert!(terminate(&pool, session).await);
    eventually(async || is_active(&next)).await;
    assert!(since.elapsed() < lease::LEASE, "it waited for a lease of nobody");
    drop(dead);
    next.stop().await;
}

async fn terminate(pool: &PgPool, session: i32) -> bool {
    sqlx::query_scalar("select pg_terminate_backend($1)").bind(session).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn who_has_lost_its_place_stands_by(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    append(&log, person(1));
    running.settle().await.unwrap();
    // As if another process had found that this one hangs.
    let sessions: Vec<i32> = sqlx::query_scalar("select pid from ops.leases").fetch_all(&pool).await.unwrap();
    let mut thief = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    for session in sessions {
        terminate(&pool, session).await;
    }
    for projector in projectors() {
        eventually(async || running.status().iter().any(|s| s.name == projector.name())).await;
        let deadline = Instant::now() + SOON;
        while lease::take(&mut thief, projector.name()).await.unwrap().is_none() {
            assert!(Instant::now() < deadline);
            // It was faster.
            let session: i32 = sqlx::query_scalar("select pid from ops.leases where projector = $1")
                .bind(projector.name())
                .fetch_one(&pool)
                .await
                .unwrap();
            terminate(&pool, session).await;
        }
    }
    eventually(async || running.active().is_empty()).await;
    assert!(running.status().iter().all(|status| status.stopped.is_none()));
    let position = append(&log, person(2));
    thief.close().await.unwrap();
    running.wait(position, SOON).await.unwrap();
    assert_eq!(users(&pool).await, 2);
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn who_watches_is_let_in_after_a_crash_when_all_it_has_seen_is_back(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let active = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    let watcher = watching(&pool, &log);
    eventually(async || watcher.head().borrow().asked.is_some()).await;
    let position = append(&log, person(1));
    active.wait(position, SOON).await.unwrap();
    eventually(async || watcher.head().borrow().position == position).await;
    watcher.heard(&active.active());
    active.stop().await;
    sqlx::query("update ops.checkpoints set position = 0").execute(&pool).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let late = watcher.regained(&mut conn, Duration::ZERO).await.unwrap().unwrap_err();
    assert_eq!((late.reached, late.wanted), (Position::START, position));
    sqlx::query("truncate read.users, read.user_hosts").execute(&mut *conn).await.unwrap();
    let active = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    watcher.regained(&mut conn, SOON).await.unwrap().unwrap();
    assert_eq!(users(&pool).await, 1);
    active.stop().await;
    watcher.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_lost_connection_is_taken_again(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    append(&log, person(1));
    running.settle().await.unwrap();
    let killed: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(pid) from pg_locks
          where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(killed.len(), projectors().len());
    let position = append(&log, person(2));
    running.wait(position, SOON).await.unwrap();
    assert_eq!(users(&pool).await, 2);
    running.stop().await;
}

/// As a crash leaves it: commits that didn't wait for the disk are undone, and connections are gone.
#[sqlx::test(migrations = "../migrations")]
async fn what_a_crash_takes_back_is_there_again_before_it_is_read(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    append(&log, person(1));
    running.settle().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(running.regained(&mut conn, Duration::ZERO).await.unwrap(), Ok(()));
    sqlx::raw_sql(
        "begin;
         truncate read.users, read.user_hosts;
         update ops.checkpoints set position = 0 where projector = 'users';
         commit;
         select pg_terminate_backend(pid) from pg_locks
          where locktype = 'advisory'
            and database = (select oid from pg_database where datname = current_database())",
    )
    .execute(&mut *conn)
    .await
    .unwrap();
    let late = running.regained(&mut conn, Duration::ZERO).await.unwrap().unwrap_err();
    assert_eq!((late.projector, late.reached), ("users", Position::START));
    running.regained(&mut conn, SOON).await.unwrap().unwrap();
    assert_eq!(users(&pool).await, 1, "without anything new in the log");
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_projector_stops_at_what_it_cannot_apply_and_others_go_on(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    append(&log, person(1));
    // The same name again: no decision would have allowed it.
    let twice = Created { user: user(9), username: "USER1".to_owned(), host: None, uri: None };
    append(&log, person(2));
    let bad = append(&log, twice.into());
    let last = append(&log, person(3));
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    running.wait(last, SOON).await.unwrap();
    eventually(async || running.status().iter().any(|status| status.stopped.is_some())).await;
    for status in running.status() {
        if status.name == "users" {
            let reason = status.stopped.unwrap();
            assert!(reason.contains("user.created") && reason.contains("users_by_name"), "{reason}");
            assert_eq!(status.position, Position(bad.0 - 1));
        } else {
            assert_eq!((status.position, status.stopped), (last, None));
        }
    }
    assert_eq!(users(&pool).await, 2, "everything before it is there");
    let (_, position, reason) = checkpoint(&pool, "users").await;
    assert_eq!(position, 2);
    assert!(reason.unwrap().contains("at position 3"));
    assert!(matches!(running.settle().await, Err(Unsettled::Stopped { projector: "users", .. })));
    assert_eq!(*running.advanced().borrow(), last);
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_projector_that_panics_has_stopped(pool: PgPool) {
    struct Panics;
    #[async_trait]
    impl Projector for Panics {
        fn name(&self) -> &'static str {
            "panics"
        }
        fn version(&self) -> u32 {
            1
        }
        fn tables(&self) -> &'static [&'static str] {
            &["votes"]
        }
        fn kinds(&self) -> &'static [&'static str] {
            &["user.created"]
        }
        async fn apply(&self, _: &mut PgConnection, _: &[Arc<Recorded>]) -> Result<(), ProjectError> {
            panic!("on purpose")
        }
    }
    let log = Arc::new(MemoryLog::default());
    append(&log, person(1));
    let running = Projections::start(&pool, log, vec![Arc::new(Panics)], Mode::Project);
    eventually(async || running.status().iter().all(|status| status.stopped.is_some())).await;
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_event_that_cannot_be_read_stops_everybody(pool: PgPool) {
    let log = Arc::new(Faulty::default());
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    append(&log.log, person(1));
    running.settle().await.unwrap();
    log.broken.store(true, Ordering::SeqCst);
    append(&log.log, person(2));
    eventually(async || {
        let status = running.status();
        status.iter().all(|s| s.stopped.as_ref().is_some_and(|reason| reason.contains("future.kind")))
    })
    .await;
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_higher_version_fills_its_tables_again_and_a_lower_one_refuses(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    append(&log, person(1));
    append(&log, person(2));
    let (_, later) = held("users", 1);
    for _ in 0..2 {
        let running = Projections::start(&pool, log.clone(), vec![later.clone()], Mode::Project);
        running.settle().await.unwrap();
        running.stop().await;
        assert_eq!(users(&pool).await, 2);
        assert_eq!(checkpoint(&pool, "users").await, (3, 2, None));
    }
    sqlx::query("delete from read.users").execute(&pool).await.unwrap();
    sqlx::query("update ops.checkpoints set version = 1").execute(&pool).await.unwrap();
    let running = Projections::start(&pool, log.clone(), vec![later], Mode::Project);
    running.settle().await.unwrap();
    running.stop().await;
    assert_eq!(people::by_username(&pool, "user2", None).await.unwrap(), Some(user(2)));

    let older = Projections::start(&pool, log.clone(), vec![Arc::new(people::Projection)], Mode::Project);
    let refused = older.settle().await;
    assert!(matches!(refused, Err(Unsettled::Stopped { projector: "users", .. })), "{refused:?}");
    older.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn who_is_answered_does_not_wait_for_tables_that_are_built_again(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let first = append(&log, person(1));
    let before = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    before.settle().await.unwrap();
    before.stop().await;

    let (go, later) = held("users", 1);
    let these = with(later);
    let running = Projections::start(&pool, log.clone(), these.clone(), Mode::Project);
    // It turns out while they wait.
    timeout(SOON / 2, running.wait_to_answer(first, SOON)).await.unwrap().unwrap();
    let watcher = Projections::start(&pool, log.clone(), these, Mode::Watch);
    let is_anew = |of: &Projections| {
        let status = of.status();
        status.iter().filter(|s| s.anew).map(|s| s.name).collect::<Vec<_>>() == ["users"]
    };
    eventually(async || is_anew(&running) && is_anew(&watcher)).await;
    let second = append(&log, person(2));
    for process in [&running, &watcher] {
        process.wait_to_answer(second, SOON).await.unwrap();
        let lagging = process.wait(second, STANDBY_POLL).await.unwrap_err();
        assert_eq!(lagging.projector, "users");
        assert!(!process.standing().holds, "what is loaded may be older than it should");
    }
    assert_eq!(users(&pool).await, 1, "readers see what there was");

    go.send_replace(true);
    running.settle().await.unwrap();
    watcher.settle().await.unwrap();
    assert_eq!(users(&pool).await, 2);
    for process in [&running, &watcher] {
        assert!(process.standing().holds && process.status().iter().all(|status| !status.anew));
    }
    running.stop().await;
    // Who knew how far they were doesn't take their word any more.
    sqlx::query("update ops.checkpoints set version = 0 where projector = 'users'")
        .execute(&pool)
        .await
        .unwrap();
    eventually(async || is_anew(&watcher)).await;
    assert!(!watcher.standing().holds);
    watcher.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn who_is_answered_does_not_wait_for_what_is_far_behind(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    let first = append(&log, person(1));
    let (go, users) = held("users", 0);
    go.send_replace(true);
    let running = Projections::start(&pool, log.clone(), with(users), Mode::Project);
    running.settle().await.unwrap();
    go.send_replace(false);
    let second = append(&log, person(2));
    let mut last = second;
    while last.0 < first.0 + MAX_AWAITED {
        last = append(&log, instance::Claimed { url: "https://kiroku.example".to_owned() }.into());
    }
    let lagging = running.wait_to_answer(last, STANDBY_POLL).await.unwrap_err();
    assert_eq!((lagging.projector, lagging.reached), ("users", first));
    last = append(&log, person(3));
    running.wait_to_answer(last, SOON).await.unwrap();
    assert!(running.wait(last, STANDBY_POLL).await.is_err());
    go.send_replace(true);
    running.settle().await.unwrap();
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn erased_events_are_passed_over(pool: PgPool) {
    let log = Arc::new(MemoryLog::default());
    append(&log, person(1));
    log.push(at(NOW), None, "user.created");
    let last = append(&log, person(2));
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    running.wait(last, SOON).await.unwrap();
    assert_eq!(users(&pool).await, 2);
    assert_eq!(running.events_after(Position(1), 1).await.unwrap().len(), 1);
    running.stop().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_rows_are_the_same_however_the_log_is_cut(pool: PgPool) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..4 {
        let mut life = Vec::new();
        while life.len() < 100 {
            life.extend(a_life().new_tree(&mut runner).unwrap().current());
        }
        let mut story = Story::new(&pool);
        story.live(&life);
        story.project_in(1).await;
        let one_by_one = story.hashes().await;
        let filled = one_by_one.iter().filter(|(_, hash)| hash.is_some()).count();
        assert!(filled > 10, "only {filled} tables have rows");
        for size in [7, 1_000] {
            story.empty().await;
            story.project_in(size).await;
            assert_eq!(story.hashes().await, one_by_one, "in batches of {size}: {life:#?}");
        }
        story.empty().await;
        let running = Projections::start(&pool, story.log.clone(), projectors(), Mode::Project);
        running.settle().await.unwrap();
        running.stop().await;
        assert_eq!(story.hashes().await, one_by_one, "by the runtime");
        sqlx::query("delete from ops.checkpoints").execute(&pool).await.unwrap();
        story.empty().await;
    }
}

#[test]
fn names_and_tables_are_unique_and_kinds_exist() {
    let all = projectors();
    let mut tables: Vec<&str> = all.iter().flat_map(|p| p.tables().iter().copied()).collect();
    let mut names: Vec<&str> = all.iter().map(|p| p.name()).collect();
    for list in [&mut tables, &mut names] {
        let before = list.len();
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), before);
    }
    for projector in &all {
        for kind in projector.kinds() {
            assert!(domain::event::KINDS.iter().any(|(known, _)| known == kind), "{kind}");
        }
    }
    assert_eq!(note::Projection.tables().len(), 5);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_that_the_server_refuses_is_tried_again(pool: PgPool) {
    // Refused with FATAL and a code that would stop a projector if a statement had it.
    let options = pool.connect_options().as_ref().clone().options([("no_such_setting", "on")]);
    let refused = PgConnection::connect_with(&options).await.unwrap_err();
    assert!(is_passing(&refused), "{refused}");
    let mut conn = pool.acquire().await.unwrap();
    let wrong = sqlx::query("set no_such_setting = on").execute(&mut *conn).await.unwrap_err();
    assert!(!is_passing(&wrong), "{wrong}");
}
