//! Rebuilding under whatever can happen to it: writes, readers, stops, crashes, forgeries.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use domain::log::{AppendError, By, StreamId, Version};
use domain::note::{Deleted, Parent};
use domain::user::Erased;
use domain::{Event, NoteId};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;

use super::*;
use crate::page::Page;
use crate::runtime::{LIVE_SCHEMA, Mode, Projections};
use crate::testing::{MemoryLog, Story, a_life, forget_checkpoints, user};
use crate::{Wanted, hydrate, note, projectors, user as people};

const SOON: Duration = Duration::from_secs(30);
const ALL: note::Filter = note::Filter { with_replies: true, with_renotes: true, with_files: false };

fn handle() -> (Handle, watch::Sender<bool>) {
    let (stopper, stop) = watch::channel(false);
    (Handle { progress: watch::Sender::new(Progress::default()), stop }, stopper)
}

async fn verified(story: &Story) -> Report {
    verify(&story.pool, story.log.clone(), projectors(), &handle().0).await.unwrap()
}

async fn rebuilt(story: &Story) -> Report {
    rebuild(&story.pool, story.log.clone(), projectors(), &handle().0).await.unwrap()
}

fn start(pool: &PgPool, log: Arc<MemoryLog>) -> Projections {
    Projections::start(pool, log, projectors(), Mode::Project)
}

/// A random story, told to the live tables.
async fn a_story(pool: &PgPool, runner: &mut TestRunner) -> Story {
    let mut life = Vec::new();
    while life.len() < 100 {
        life.extend(a_life().new_tree(runner).unwrap().current());
    }
    let mut story = Story::new(pool);
    story.live(&life);
    forget_checkpoints(pool).await;
    project(&story).await;
    story
}

async fn project(story: &Story) {
    let running = start(&story.pool, story.log.clone());
    running.settle().await.unwrap();
    running.stop().await;
}

async fn run_sql(pool: &PgPool, sql: &str) -> u64 {
    sqlx::query(AssertSqlSafe(sql)).execute(pool).await.unwrap().rows_affected()
}

fn live_tables() -> Vec<&'static str> {
    projectors().iter().flat_map(|p| p.tables()).copied().collect()
}

/// Everything that defines the live tables.
async fn definitions(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "select format('%s %s %s', c.relname, c.relkind, c.reloptions)
           from pg_class c where c.relnamespace = 'read'::regnamespace
         union all
         select indexdef from pg_indexes where schemaname = 'read'
         union all
         select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
           from pg_constraint where connamespace = 'read'::regnamespace
         union all
         -- A column that went left a gap behind it.
         select (to_jsonb(c) - 'ordinal_position' - 'dtd_identifier')::text
           from information_schema.columns c where table_schema = 'read'
         order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// How much is left beside the live tables.
async fn leftovers(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select (select count(*) from pg_class
                  where relnamespace in ('read_next'::regnamespace, 'read_old'::regnamespace))
              + (select count(*) from ops.rebuilds)",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Where the rows of the live tables are, and which transactions wrote them.
async fn places(pool: &PgPool) -> Vec<Option<String>> {
    let mut places = Vec::new();
    for table in live_tables() {
        let sql = format!(
            "select md5(string_agg(concat(tableoid, ctid, xmin, xmax, t::text), '' order by ctid))
               from {LIVE_SCHEMA}.{table} t"
        );
        places.push(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap());
    }
    places
}

/// A log that is read a few events at a time, so that a short story has many batches.
#[derive(Default)]
struct Slow {
    told: Arc<MemoryLog>,
    /// After which positions it was asked.
    asked: Mutex<Vec<Position>>,
    /// From this read on it never answers.
    hangs_at: Option<usize>,
    /// At this read somebody asks the run to stop.
    stops_at: Option<(usize, watch::Sender<bool>)>,
    hung: AtomicBool,
    /// While it is set, nobody reads from the start.
    shut: AtomicBool,
}

#[async_trait]
impl EventLog for Slow {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        self.told.append(stream, expected, by, events).await
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        self.told.stream(stream).await
    }

    async fn after(&self, position: Position, _: usize) -> Result<Vec<Recorded>, LogError> {
        let read = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(position);
            asked.len()
        };
        if let Some((_, stop)) = self.stops_at.as_ref().filter(|(at, _)| *at == read) {
            stop.send_replace(true);
        }
        if self.hangs_at.is_some_and(|at| read >= at) {
            self.hung.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        while position == Position::START && self.shut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.told.after(position, 7).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        self.told.head().await
    }

    async fn wait(&self, position: Position) {
        self.told.wait(position).await;
    }
}

/// Runs until the log hangs, and drops everything at once, as a crash would.
async fn crash_at(story: &Story, read: usize) {
    let log = Arc::new(Slow { told: story.log.clone(), hangs_at: Some(read), ..Slow::default() });
    let (handle, _stopper) = handle();
    let run = rebuild(&story.pool, log.clone(), projectors(), &handle);
    let hung = async {
        while !log.hung.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = run => panic!("it ended: {ended:?}"),
        () = hung => (),
    }
    // The server sees a moment later that the sessions are gone.
    let deadline = Instant::now() + SOON;
    let locked = "select exists (select from pg_locks l join pg_database d on d.oid = l.database
                                  where l.locktype = 'advisory' and d.datname = current_database())";
    while sqlx::query_scalar::<_, bool>(locked).fetch_one(&story.pool).await.unwrap() {
        assert!(Instant::now() < deadline, "the locks stay");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn after_any_story_the_tables_are_what_the_log_says(pool: PgPool) {
    let mut runner = TestRunner::deterministic();
    for world in 0..6 {
        let story = a_story(&pool, &mut runner).await;
        if world % 2 == 1 {
            // Somebody is erased; the live tables knew what nobody can read any more.
            let mut story = story;
            story.says(Erased { user: user(2) });
            project(&story).await;
            story.log.forget(user(2));
            let report = verified(&story).await;
            assert!(report.is_clean(), "{report:#?}");
            begin_anew(&mut story).await;
            continue;
        }
        let (places_before, rows) = (places(&pool).await, story.hashes().await);
        let report = verified(&story).await;
        assert!(report.is_clean() && !report.switched, "{report:#?}");
        assert_eq!(report.events as usize, story.log.all().len());
        let head = story.log.head().await.unwrap();
        for projector in &report.projectors {
            assert!(projector.compared && projector.position == head.0, "{projector:?}");
            for table in &projector.tables {
                assert_eq!(table.live.as_ref(), Some(&table.rebuilt));
                assert_eq!((table.differing, table.differences.len()), (0, 0));
            }
        }
        let filled = report.projectors.iter().flat_map(|p| &p.tables).filter(|t| t.rebuilt.rows > 0).count();
        assert!(filled > 10, "only {filled} tables have rows");
        assert_eq!(places(&pool).await, places_before, "verify writes no live row");
        assert_eq!(leftovers(&pool).await, 0);

        let before = definitions(&pool).await;
        let report = rebuilt(&story).await;
        assert!(report.is_clean() && report.switched, "{report:#?}");
        assert_eq!(definitions(&pool).await, before);
        assert_eq!(story.hashes().await, rows);
        assert_ne!(places(&pool).await, places_before, "these are other tables");
        assert_eq!(leftovers(&pool).await, 0);
        let mut story = story;
        begin_anew(&mut story).await;
    }
}

async fn begin_anew(story: &mut Story) {
    forget_checkpoints(&story.pool).await;
    story.empty().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn projectors_look_at_nothing_live_while_they_build(pool: PgPool) {
    let mut story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let rows = story.hashes().await;
    story.empty().await;
    let report = rebuilt(&story).await;
    assert!(!report.is_clean());
    assert_eq!(story.hashes().await, rows);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_row_that_somebody_changed_is_found_and_healed(pool: PgPool) {
    let mut story = Story::new(&pool);
    for n in 1..=3 {
        story.person(n, &format!("user{n}"));
    }
    story.follow(1, 2);
    let note = story.note(1, |_| ());
    let other = story.note(2, |n| n.reply = Some(Parent { id: note, author: user(1) }));
    project(&story).await;
    let rows = story.hashes().await;

    run_sql(&pool, "update read.notes set text = 'another', replies = 7 where replies = 1").await;
    run_sql(&pool, "delete from read.follows").await;
    let vote =
        "insert into read.votes (id, note_id, user_id, choice) select id, id, author, 4 from read.notes";
    assert_eq!(run_sql(&pool, vote).await, 2);
    let tampered = (story.hashes().await, places(&pool).await);

    let report = verified(&story).await;
    assert!(!report.is_clean() && !report.switched);
    assert_eq!((story.hashes().await, places(&pool).await), tampered, "verify changes nothing");
    let found = |name: &str| {
        let mut tables = report.projectors.iter().flat_map(|p| &p.tables);
        tables.find(|table| table.name == name).unwrap()
    };
    let row = |key: Value, how: How| Difference { key, how };
    assert_eq!(
        found("notes").differences,
        [row(json!({ "id": note.0 }), How::Columns(vec!["text".to_owned(), "replies".to_owned()]))]
    );
    let [follow] = found("follows").differences.as_slice() else { panic!("{report:#?}") };
    assert_eq!(follow.how, How::OnlyRebuilt);
    let by = |note: NoteId, n: u8| json!({ "note_id": note.0, "user_id": user(n).0, "choice": 4 });
    assert_eq!(
        found("votes").differences,
        [row(by(note, 1), How::OnlyLive), row(by(other, 2), How::OnlyLive)]
    );
    assert_eq!(found("votes").differing, 2);
    let differing: BTreeSet<&str> =
        report.projectors.iter().flat_map(|p| &p.tables).filter(|t| !t.is_same()).map(|t| t.name).collect();
    assert_eq!(differing, BTreeSet::from(["follows", "notes", "votes"]));
    assert_eq!(
        serde_json::to_value(&found("notes").differences).unwrap(),
        json!([{ "key": { "id": note.0 }, "how": "columns", "columns": ["text", "replies"] }])
    );

    let healed = rebuilt(&story).await;
    assert!(!healed.is_clean() && healed.switched, "it says what it has healed");
    assert_eq!(story.hashes().await, rows);
    assert!(verified(&story).await.is_clean());
}

#[sqlx::test(migrations = "../migrations")]
async fn of_many_differences_the_first_are_shown_and_all_counted(pool: PgPool) {
    let mut story = Story::new(&pool);
    for n in 1..=100 {
        story.person(n, &format!("user{n}"));
    }
    project(&story).await;
    run_sql(&pool, "update read.users set username = 'x'").await;
    let report = verified(&story).await;
    let tables: Vec<&TableReport> = report.projectors.iter().flat_map(|p| &p.tables).collect();
    let users = tables.iter().find(|table| table.name == "users").unwrap();
    assert_eq!((users.differing, users.differences.len() as i64), (100, MAX_DIFFERENCES_SHOWN));
    assert_eq!(users.differences[0].key, json!({ "id": user(1).0 }));
}

#[sqlx::test(migrations = "../migrations")]
async fn readers_writers_and_projectors_go_on_meanwhile(pool: PgPool) {
    const NOTES: usize = 60;
    let mut story = a_story(&pool, &mut TestRunner::deterministic()).await;
    // Somebody whose notes nobody touches.
    story.person(9, "quiet");
    let quiet: Vec<NoteId> = (0..NOTES).map(|_| story.note(9, |_| ())).collect();
    let running = start(&pool, story.log.clone());
    running.settle().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers =
        PgPoolOptions::new().max_connections(3).connect_with(pool.connect_options().as_ref().clone());
    let readers = readers.await.unwrap();
    let mut reading = Vec::new();
    for _ in 0..3 {
        let (pool, done, quiet) = (readers.clone(), Arc::clone(&done), quiet.clone());
        reading.push(tokio::spawn(async move {
            let mut pages = 0_usize;
            while !done.load(Ordering::SeqCst) {
                let mut seen = Vec::new();
                let mut page = Page::newest(25);
                loop {
                    let ids = note::of_user(&pool, user(9), None, ALL, false, &page).await.unwrap();
                    let Some(last) = ids.last() else { break };
                    page.until = Some(last.0);
                    let world =
                        hydrate(&pool, Wanted::notes(ids.iter().copied()), None, crate::testing::at(0));
                    let world = world.await.unwrap();
                    assert!(ids.iter().all(|id| world.notes.contains_key(id)), "a page without its notes");
                    seen.extend(ids);
                    pages += 1;
                }
                assert!(seen.iter().rev().eq(&quiet), "{} of {NOTES} notes", seen.len());
            }
            pages
        }));
    }
    let log = story.log.clone();
    let (head, writer_done, waits) = (log.clone(), Arc::clone(&done), running.clone());
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while !writer_done.load(Ordering::SeqCst) {
            let id = story.note(1, |_| ());
            story.react(2, id, 1, "🎉");
            if written % 2 == 0 {
                story.says(Deleted { id, author: user(1) });
            }
            waits.wait(head.head().await.unwrap(), SOON).await.unwrap();
            written += 1;
        }
        written
    });
    for round in 0..4 {
        let report = rebuild(&pool, log.clone(), projectors(), &handle().0).await.unwrap();
        assert!(report.is_clean() && report.switched, "{round}: {report:#?}");
    }
    done.store(true, Ordering::SeqCst);
    assert!(writing.await.unwrap() > 4);
    for reading in reading {
        assert!(reading.await.unwrap() > 4);
    }
    running.settle().await.unwrap();
    running.stop().await;
}

/// A page may need what two statements lock: one of them must not wait for the switch while the switch waits
/// for the other.
#[sqlx::test(migrations = "../migrations")]
async fn a_reader_in_the_way_is_waited_for_and_never_fails(pool: PgPool) {
    let story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let mut reader = pool.begin().await.unwrap();
    let tables = live_tables();
    let (last, others) = {
        let mut sorted = tables.clone();
        sorted.sort_unstable();
        (sorted.pop().unwrap(), sorted)
    };
    let read = async |tx: &mut PgConnection, table: &str| {
        let sql = format!("select count(*) from read.{table}");
        sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(tx).await.unwrap()
    };
    read(&mut reader, last).await;
    let (handle, _stopper) = handle();
    let mut progress = handle.progress.subscribe();
    let (pool, log) = (pool.clone(), story.log.clone());
    let switching = tokio::spawn(async move { rebuild(&pool, log, projectors(), &handle).await });
    for _ in 0..3 {
        // Each try tells that it begins.
        progress.wait_for(|progress| progress.step == Step::Switching).await.unwrap();
        for table in &others {
            read(&mut reader, table).await;
        }
        progress.mark_unchanged();
        progress.wait_for(|progress| progress.step == Step::Reading).await.unwrap();
    }
    assert!(!switching.is_finished());
    reader.commit().await.unwrap();
    assert!(switching.await.unwrap().unwrap().switched);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_stopped_goes_on_from_its_place(pool: PgPool) {
    let story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let rows = story.hashes().await;
    let (handle, stopper) = handle();
    let log = Slow { told: story.log.clone(), stops_at: Some((4, stopper)), ..Slow::default() };
    let stopped = verify(&pool, Arc::new(log), projectors(), &handle).await;
    let Err(RebuildError::Stopped { position }) = stopped else { panic!("{stopped:?}") };
    assert!(position > Position(7) && position < story.log.head().await.unwrap(), "{position}");
    assert_eq!(story.hashes().await, rows);

    let log = Arc::new(Slow { told: story.log.clone(), ..Slow::default() });
    let (handle, _stopper) = self::handle();
    let report = rebuild(&pool, log.clone(), projectors(), &handle).await.unwrap();
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(log.asked.lock().unwrap()[0], position);
    assert_eq!(report.events, story.log.head().await.unwrap().0 - position.0);
    let progress = handle.progress.borrow().clone();
    assert_eq!((progress.position, progress.target), (log.head().await.unwrap(), log.head().await.unwrap()));
    assert_eq!(story.hashes().await, rows);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_crash_leaves_is_used_or_cleared_away(pool: PgPool) {
    let story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let rows = story.hashes().await;
    // Just after a switch, and in tables nobody knows about.
    run_sql(&pool, "create table read_old.notes as select * from read.notes").await;
    run_sql(&pool, "create table read_next.users (x int)").await;
    crash_at(&story, 1).await;
    assert!(leftovers(&pool).await > 0);
    for read in [2, 4, 1, 5] {
        crash_at(&story, read).await;
        assert_eq!(story.hashes().await, rows);
    }
    assert!(rebuilt(&story).await.is_clean());
    assert_eq!(leftovers(&pool).await, 0);
    assert_eq!(story.hashes().await, rows);

    crash_at(&story, 3).await;
    run_sql(&pool, "drop table read_next.mentions").await;
    assert!(rebuilt(&story).await.is_clean(), "tables that are not whole are made anew");

    crash_at(&story, 3).await;
    assert!(leftovers(&pool).await > 0);
    discard(&pool, projectors()).await.unwrap();
    assert_eq!(leftovers(&pool).await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn tables_that_are_defined_otherwise_now_are_begun_anew(pool: PgPool) {
    let story = a_story(&pool, &mut TestRunner::deterministic()).await;
    crash_at(&story, 4).await;
    let places = async || -> Vec<(String, i64)> {
        let sql = "select projector, position from ops.rebuilds order by projector";
        sqlx::query_as(sql).fetch_all(&pool).await.unwrap()
    };
    let reached = places().await;
    assert!(reached.iter().all(|(_, position)| *position > 0), "{reached:?}");
    for change in [
        "alter table read.notes add column more text not null default 'more'",
        "alter table read.notes set (fillfactor = 50)",
        "create index notes_by_more on read.notes (more, id)",
        "alter table read.notes drop constraint notes_visibility_check",
    ] {
        run_sql(&pool, change).await;
        crash_at(&story, 1).await;
        for ((name, before), (_, now)) in reached.iter().zip(places().await) {
            assert_eq!(now, if name == "notes" { 0 } else { *before }, "{name} after {change}");
        }
        let log = Slow { told: story.log.clone(), hangs_at: Some(20), ..Slow::default() };
        let (handle, stopper) = handle();
        let log = Slow { stops_at: Some((4, stopper)), ..log };
        verify(&pool, Arc::new(log), vec![Arc::new(note::Projection)], &handle).await.unwrap_err();
    }
    let before = definitions(&pool).await;
    assert!(rebuilt(&story).await.is_clean());
    assert_eq!(definitions(&pool).await, before);
}

#[sqlx::test(migrations = "../migrations")]
async fn two_do_not_build_the_same(pool: PgPool) {
    let story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let log = Arc::new(Slow { told: story.log.clone(), hangs_at: Some(2), ..Slow::default() });
    let (first, _stopper) = handle();
    let running = rebuild(&pool, log.clone(), vec![Arc::new(note::Projection)], &first);
    let others = async {
        while !log.hung.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let busy = verify(&pool, story.log.clone(), projectors(), &handle().0).await;
        assert!(matches!(busy, Err(RebuildError::Busy { projector: "notes" })), "{busy:?}");
        let busy = discard(&pool, projectors()).await;
        assert!(matches!(busy, Err(RebuildError::Busy { projector: "notes" })), "{busy:?}");
        let others: Vec<Arc<dyn Projector>> = vec![Arc::new(people::Projection)];
        assert!(verify(&pool, story.log.clone(), others, &handle().0).await.unwrap().is_clean());
    };
    tokio::select! {
        ended = running => panic!("it ended: {ended:?}"),
        () = others => (),
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_rebuilt_never_passes_what_is_live(pool: PgPool) {
    let mut story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let live = story.log.head().await.unwrap();
    story.note(1, |_| ());
    let report = rebuilt(&story).await;
    assert!(report.is_clean() && report.projectors.iter().all(|p| p.position == live.0), "{report:#?}");
    project(&story).await;
    assert!(verified(&story).await.is_clean());

    // A database that has lost what was written last.
    crash_at(&story, 5).await;
    run_sql(&pool, "update ops.checkpoints set position = 1 where projector = 'notes'").await;
    let (handle, stopper) = handle();
    stopper.send_replace(true);
    let behind = verify(&pool, story.log.clone(), projectors(), &handle).await;
    assert!(matches!(behind, Err(RebuildError::Behind { projector: "notes", .. })), "{behind:?}");
    run_sql(&pool, "update ops.checkpoints set position = 10000").await;
    let short = verify(&pool, story.log.clone(), projectors(), &self::handle().0).await;
    assert!(matches!(short, Err(RebuildError::ShortLog { .. })), "{short:?}");
    run_sql(&pool, "update ops.checkpoints set version = 10000").await;
    let newer = verify(&pool, story.log.clone(), projectors(), &self::handle().0).await;
    assert!(matches!(newer, Err(RebuildError::Newer { stored: 10_000, .. })), "{newer:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn tables_of_an_older_version_are_replaced_uncompared(pool: PgPool) {
    let mut story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let head = story.note(1, |_| ());
    let head_position = story.log.head().await.unwrap();
    run_sql(&pool, "update ops.checkpoints set version = 0 where projector <> 'votes'").await;
    run_sql(&pool, "delete from ops.checkpoints where projector = 'follows'").await;
    run_sql(&pool, "delete from read.notes").await;
    let report = rebuilt(&story).await;
    for projector in &report.projectors {
        let is_old = projector.name != "votes";
        assert_eq!(projector.compared, !is_old, "{projector:?}");
        assert_eq!(projector.position, if is_old { head_position.0 } else { head_position.0 - 1 });
    }
    assert!(report.is_clean());
    let notes = note::of_user(&pool, user(1), None, ALL, false, &Page::newest(1)).await.unwrap();
    assert_eq!(notes, [head]);
    project(&story).await;
    assert!(verified(&story).await.projectors.iter().all(|p| p.compared && p.position == head_position.0));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_new_version_builds_its_tables_beside_what_readers_see(pool: PgPool) {
    let mut story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let rows = story.hashes().await;
    run_sql(&pool, "update ops.checkpoints set version = version - 1").await;
    run_sql(&pool, "update read.users set username = 'as it was'").await;
    let log = Arc::new(Slow { told: story.log.clone(), ..Slow::default() });
    log.shut.store(true, Ordering::SeqCst);
    let running = Projections::start(&pool, log.clone(), projectors(), Mode::Project);
    let deadline = Instant::now() + SOON;
    let building = "select count(*) from ops.rebuilds";
    while sqlx::query_scalar::<_, i64>(building).fetch_one(&pool).await.unwrap() < projectors().len() as i64 {
        assert!(Instant::now() < deadline, "they don't begin");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seen = "select count(*) from read.users where username = 'as it was'";
    assert!(sqlx::query_scalar::<_, i64>(seen).fetch_one(&pool).await.unwrap() > 0);
    log.shut.store(false, Ordering::SeqCst);
    running.settle().await.unwrap();
    assert_eq!(story.hashes().await, rows);
    story.note(1, |_| ());
    running.settle().await.unwrap();
    running.stop().await;
    assert_ne!(story.hashes().await, rows);
    let report = verified(&story).await;
    assert!(report.is_clean() && report.projectors.iter().all(|projector| projector.compared), "{report:#?}");
    assert_eq!(leftovers(&pool).await, 0);
}

/// What operators see of live tables and their own schema: definitions, owners, grants, comments.
async fn for_operators(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "with those as (
             select c.oid, c.relname, c.relkind, c.relowner, c.reloptions,
                    coalesce(c.relacl, acldefault('r', c.relowner)) as relacl
               from pg_class c
              where c.relnamespace in ('read'::regnamespace, to_regnamespace('reports'))
         )
         select format('%s %s %s', relname, relowner, obj_description(oid, 'pg_class')) from those
         union all
         select format('%s %s', relname, acl::text) from those, aclexplode(relacl) acl
         union all
         select format('%s.%s %s', t.relname, a.attname, acl::text)
           from those t join pg_attribute a on a.attrelid = t.oid, aclexplode(a.attacl) acl
         union all
         select format('%s %s %s', relname, reloptions, pg_get_viewdef(oid)) from those where relkind = 'v'
         order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// A role of this test, and a connection that has no other rights.
async fn analyst(pool: &PgPool) -> (String, PgConnection) {
    let role: String =
        sqlx::query_scalar("select 'analyst ' || gen_random_uuid()").fetch_one(pool).await.unwrap();
    run_sql(pool, &format!("create role \"{role}\"")).await;
    let mut conn = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("set role \"{role}\""))).execute(&mut conn).await.unwrap();
    (role, conn)
}

async fn forget(pool: &PgPool, role: &str) {
    run_sql(pool, &format!("drop owned by \"{role}\" cascade")).await;
    run_sql(pool, &format!("drop role \"{role}\"")).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn views_and_grants_of_operators_go_along(pool: PgPool) {
    let mut story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let (role, mut conn) = analyst(&pool).await;
    let hers = r#"
        create schema reports;
        create view reports."who said" with (security_barrier = true) as
            select n.id, n.text as words, u.username as "who's" from read.notes n join read.users u on u.id = n.author;
        create view reports.counted as select "who's" as who, count(*) from reports."who said" group by 1;
        create view reports.both as
            select c.who, c.count, u.id, to_jsonb(u) as whole
              from reports.counted c join read.users u on u.username = c.who;
        alter view reports.both rename column id to person;
        create materialized view reports.kept as select * from reports.counted;
        comment on view reports.both is 'both';
        comment on table read.notes is 'who''s notes';
        grant usage on schema reports, read to ROLE;
        grant select on all tables in schema reports to ROLE;
        grant select, references on read.notes to ROLE with grant option;
        grant select (id, username) on read.users to ROLE;
        grant select on read.reactions to public;
        alter view reports.counted owner to ROLE;
        grant select on reports."who said" to ROLE;
        alter default privileges grant select on tables to ROLE;
    "#;
    let hers = hers.replace("ROLE", &format!("\"{role}\""));
    sqlx::raw_sql(AssertSqlSafe(hers)).execute(&pool).await.unwrap();
    const HERS: &str = "select array[(select count(*) from reports.\"who said\"),
        (select sum(count)::bigint from reports.both), (select count(*) from read.notes),
        (select count(id) from read.users where username is not null)]";
    let rows: Vec<i64> = sqlx::query_scalar(HERS).fetch_one(&mut conn).await.unwrap();
    assert!(rows.iter().all(|count| *count > 0), "{rows:?}");
    let before = for_operators(&pool).await;
    assert!(before.iter().any(|line| line.contains("who's notes")), "{before:#?}");

    let done = Arc::new(AtomicBool::new(false));
    let (wanted, until) = (rows.clone(), Arc::clone(&done));
    let reading = tokio::spawn(async move {
        let mut reads = 0;
        while !until.load(Ordering::SeqCst) {
            let read: Vec<i64> = sqlx::query_scalar(HERS).fetch_one(&mut conn).await.unwrap();
            assert_eq!(read, wanted);
            reads += 1;
        }
        (conn, reads)
    });
    for _ in 0..4 {
        assert!(rebuilt(&story).await.is_clean());
        assert_eq!(for_operators(&pool).await, before);
        assert_eq!(leftovers(&pool).await, 0);
    }
    done.store(true, Ordering::SeqCst);
    let (mut conn, reads) = reading.await.unwrap();
    assert!(reads > 4, "{reads}");
    let hidden = sqlx::query("select * from read.users").fetch_all(&mut conn).await.unwrap_err();
    assert!(hidden.to_string().contains("permission denied"), "{hidden}");

    story.person(77, "later");
    story.note(77, |_| ());
    project(&story).await;
    let read: Vec<i64> = sqlx::query_scalar(HERS).fetch_one(&mut conn).await.unwrap();
    assert_eq!(read, rows.iter().map(|count| count + 1).collect::<Vec<_>>());
    run_sql(&pool, "refresh materialized view reports.kept").await;
    let kept = "select count from reports.kept where who = 'later'";
    assert_eq!(sqlx::query_scalar::<_, i64>(kept).fetch_one(&mut conn).await.unwrap(), 1);
    conn.close().await.unwrap();
    forget(&pool, &role).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn what_cannot_go_along_is_named_before_anything_is_built(pool: PgPool) {
    let story = a_story(&pool, &mut TestRunner::deterministic()).await;
    let rows = story.hashes().await;
    run_sql(&pool, "create schema reports").await;
    let mut session = pool.acquire().await.unwrap();
    for (made, named, unmade) in [
        (
            "create materialized view reports.kept as select id from read.notes",
            "materialized view reports.kept",
            "drop materialized view reports.kept",
        ),
        (
            "create table reports.cases (of uuid references read.users)",
            "constraint cases_of_fkey on table reports.cases",
            "drop table reports.cases",
        ),
        (
            "create function reports.f() returns bigint begin atomic select count(*) from read.notes; end",
            "function reports.f()",
            "drop function reports.f",
        ),
        (
            "create function reports.f() returns setof read.notes language sql as 'select * from read.notes'",
            "function reports.f()",
            "drop function reports.f",
        ),
        (
            "create view reports.whole as select n from read.notes n",
            "view reports.whole",
            "drop view reports.whole",
        ),
        ("create temp view mine as select id from read.notes", "view pg_temp", "drop view mine"),
        (
            "create table reports.more () inherits (read.notes)",
            "table reports.more",
            "drop table reports.more",
        ),
        (
            "create trigger t before insert on read.notes for each row
               execute function suppress_redundant_updates_trigger()",
            "trigger t on table read.notes",
            "drop trigger t on read.notes",
        ),
        (
            "create policy p on read.notes using (true)",
            "policy p on table read.notes",
            "drop policy p on read.notes",
        ),
        (
            "alter table read.notes enable row level security",
            "row level security of table read.notes",
            "alter table read.notes disable row level security",
        ),
        (
            "create rule r as on insert to read.votes do also select 1",
            "rule r on table read.votes",
            "drop rule r on read.votes",
        ),
        ("create publication p for table read.users", "publication", "drop publication p"),
    ] {
        sqlx::query(made).execute(&mut *session).await.unwrap();
        let refused = rebuild(&pool, story.log.clone(), projectors(), &handle().0).await;
        let Err(RebuildError::InTheWay { objects }) = &refused else { panic!("{made}: {refused:?}") };
        assert!(objects.contains(named), "{made}: {objects}");
        assert_eq!(leftovers(&pool).await, 0, "{made}");
        let others: Vec<Arc<dyn Projector>> = vec![Arc::new(crate::follow::Projection)];
        assert!(rebuild(&pool, story.log.clone(), others, &handle().0).await.unwrap().switched, "{made}");
        sqlx::query(unmade).execute(&mut *session).await.unwrap();
    }

    // What a crash has left just after a switch, and somebody has taken for a table of theirs.
    run_sql(&pool, "create table read_old.votes (x int)").await;
    run_sql(&pool, "create view reports.old as select x from read_old.votes").await;
    let refused = rebuild(&pool, story.log.clone(), projectors(), &handle().0).await;
    let Err(RebuildError::InTheWay { objects }) = &refused else { panic!("{refused:?}") };
    assert!(objects.contains("view reports.old"), "{objects}");
    run_sql(&pool, "drop view reports.old").await;

    assert!(rebuilt(&story).await.is_clean());
    assert_eq!(story.hashes().await, rows);
    assert_eq!(leftovers(&pool).await, 0);
}
