//! What the log's own tools promise: reading sealed, taking over what another log has, check and copy.

use std::borrow::Cow;

use async_trait::async_trait;
use commands::log::{Checked, CopyError, Engine as Upkept, Fault, Link, Sealed, check, copy};
use sqlx::migrate::Migrator;

use super::*;

// On every engine.

pub async fn sealed_events_read_like_open_ones(engine: Engine) {
    let log = filled(&engine, Takeover::Shared).await;
    for limit in [1, 5, 1000] {
        let mut after = Position::START;
        loop {
            let open = log.after(after, limit).await.unwrap();
            let sealed = log.sealed_after(after, limit).await.unwrap();
            assert_eq!(open.len(), sealed.len());
            for (open, sealed) in open.iter().zip(&sealed) {
                let place = (Position(sealed.position), sealed.ordinal, Version(sealed.version));
                assert_eq!((open.position, open.ordinal, open.version), place);
                assert_eq!(
                    (open.id.0, open.command.0, open.at),
                    (sealed.event_id, sealed.command, sealed.at)
                );
                assert_eq!((open.stream.as_str(), &open.kind), (sealed.stream.as_str(), &sealed.kind));
            }
            let Some(last) = open.last() else { break };
            after = last.position;
        }
    }
}

pub async fn a_log_moves_to_another_engine_and_back(engine: Engine) {
    let log = filled(&engine, Takeover::Sole).await;
    let between = MemoryLog::new(engine.keyring.clone());
    moves(&*log, &between).await;
    let back = engine.another().await;
    moves(&between, &*back.open_as(Takeover::Sole).await).await;
    back.end().await;
}

pub async fn a_copy_goes_on_where_it_ended(engine: Engine) {
    let log = filled(&engine, Takeover::Sole).await;
    let source = MemoryLog::new(engine.keyring.clone());
    moves(&*log, &source).await;
    for n in 20..30 {
        source.append(&stream(n), Version::NONE, &by(None), vec![named(n, "later")]).await.unwrap();
    }
    let copied = copy(&source, &*log, &|_| ()).await.unwrap();
    assert_eq!((copied.appends, copied.already, copied.events), (23, 13, 38));
    let again = copy(&source, &*log, &|_| ()).await.unwrap();
    assert_eq!((again.appends, again.already, again.events), (23, 23, 38));
    // The target has what the source has not, or something else.
    append(&log, 40, Version::NONE, "elsewhere").await.unwrap();
    let more = copy(&source, &*log, &|_| ()).await;
    assert!(matches!(more, Err(CopyError::Differs(_))), "{more:?}");
    source.append(&stream(40), Version::NONE, &by(None), vec![named(40, "here")]).await.unwrap();
    let other = copy(&source, &*log, &|_| ()).await;
    assert!(matches!(other, Err(CopyError::Differs(_))), "{other:?}");
}

pub async fn what_is_not_whole_is_not_taken(engine: Engine) {
    let log = engine.open_as(Takeover::Sole).await;
    let source = MemoryLog::new(engine.keyring.clone());
    for n in 0..2 {
        source.append(&stream(1), Version(n * 2), &by(None), vec![named(1, "a"); 2]).await.unwrap();
    }
    let all = source.sealed_after(Position::START, 10).await.unwrap();
    let refused = log.import(vec![vec![]]).await;
    assert!(matches!(refused, Err(AppendError::Empty)), "{refused:?}");
    for part in [&all[1..2], &all[0..4], &[all[1].clone(), all[0].clone()]] {
        let refused = log.import(vec![part.to_vec()]).await;
        assert!(matches!(refused, Err(AppendError::Log(LogError::Unreadable { .. }))), "{refused:?}");
    }
    let early = log.import(vec![all[2..].to_vec()]).await;
    assert!(matches!(early, Err(AppendError::Conflict { actual: Version::NONE })), "{early:?}");
    assert_eq!(log.head().await.unwrap(), Position::START);
    let first = log.import(vec![all[..2].to_vec()]).await.unwrap();
    assert_eq!(log.import(vec![all[..2].to_vec()]).await.unwrap(), first);
    let second = log.import(vec![all[..2].to_vec(), all[2..].to_vec()]).await.unwrap();
    assert!(second > first);
    assert_eq!(log.stream(&stream(1)).await.unwrap().1, Version(4));
}

pub async fn a_sound_log_is_found_sound(engine: Engine) {
    let log = filled(&engine, Takeover::Shared).await;
    engine.keyring.destroy(person(2)).await.unwrap();
    let found = checked(&*log, &engine).await;
    assert_eq!(found.faults, []);
    assert!(found.is_clean());
    assert_eq!((found.appends, found.events, found.streams, found.erased), (13, 28, 7, 6));
    assert_eq!(found.to, log.head().await.unwrap().0);
    if let Some(chain) = found.chain {
        assert_eq!((chain.after, chain.to, chain.hash.len()), (0, found.to, 64));
    }
    let empty = checked(&MemoryLog::new(engine.keyring.clone()), &engine).await;
    assert_eq!((empty.from, empty.to, empty.is_clean()), (0, 0, true));
}

pub async fn a_log_is_checked_while_it_is_written(engine: Engine) {
    let log = filled(&engine, Takeover::Shared).await;
    let writing = tokio::spawn({
        let log = log.clone();
        async move {
            for n in 100..300 {
                append(&log, n, Version::NONE, "meanwhile").await.unwrap();
            }
        }
    });
    let mut last = 0;
    while !writing.is_finished() {
        let checked = checked(&*log, &engine).await;
        assert_eq!(checked.faults, []);
        assert!(checked.to >= last);
        last = checked.to;
    }
    writing.await.unwrap();
    assert_eq!(checked(&*log, &engine).await.events, 228);
}

// Faults of the order, which no engine here would make.

#[tokio::test]
async fn whatever_an_engine_mixes_up_is_found() {
    type Change = fn(&mut Vec<Sealed>);
    type Expected = fn(&Fault) -> bool;
    let cases: [(Change, Expected); 8] = [
        (|rows| rows.swap(0, 3), |f| matches!(f, Fault::Order { after: 3, position: 2 })),
        (|rows| drop(rows.drain(0..1)), |f| matches!(f, Fault::Gap { after: 0, position: 2 })),
        (
            |rows| drop(rows.remove(1)),
            |f| matches!(f, Fault::Ordinal { position: 2, ordinal: 1, expected: 0 }),
        ),
        (|rows| rows[2].stream.push('x'), |f| matches!(f, Fault::Mixed { position: 2, ordinal: 1 })),
        (
            |rows| rows[3].version = 7,
            |f| matches!(f, Fault::Version { position: 3, version: 7, expected: 4, .. }),
        ),
        (|rows| rows[3].event_id = Uuid::max(), |f| matches!(f, Fault::EventId { position: 3, ordinal: 0 })),
        (
            |rows| (rows[3].command, rows[3].event_id) = (rows[0].command, rows[0].event_id),
            |f| matches!(f, Fault::CommandTwice { position: 3, .. }),
        ),
        (|rows| rows[3].payload[20] ^= 1, |f| matches!(f, Fault::Payload { position: 3, ordinal: 0, .. })),
    ];
    for (change, expected) in cases {
        let engine = Engine::memory();
        let log = engine.open().await;
        for (version, events) in [(0, 1), (1, 2), (3, 1)] {
            log.append(&stream(1), Version(version), &by(None), vec![named(1, "a"); events]).await.unwrap();
        }
        assert!(checked(&*log, &engine).await.is_clean());
        let checked = checked(&Changed { log, change }, &engine).await;
        assert!(checked.faults.iter().any(expected), "{:?}", checked.faults);
    }
}

#[tokio::test]
async fn of_many_faults_a_few_are_shown_and_all_are_counted() {
    let engine = Engine::memory();
    let log = engine.open().await;
    for n in 0..10 {
        log.append(&stream(n), Version::NONE, &by(None), vec![named(1, "a"); 20]).await.unwrap();
    }
    let change = |rows: &mut Vec<Sealed>| rows.iter_mut().for_each(|row| row.payload.clear());
    let checked = checked(&Changed { log, change }, &engine).await;
    assert_eq!((checked.faults.len(), checked.faults_found), (commands::log::MAX_FAULTS_SHOWN, 200));
}

/// A log with something wrong in what is read.
struct Changed<C> {
    log: Log,
    change: C,
}

#[async_trait]
impl<C: Fn(&mut Vec<Sealed>) + Send + Sync> EventLog for Changed<C> {
    async fn append(&self, _: &StreamId, _: Version, _: &By, _: Vec<Event>) -> Result<Position, AppendError> {
        Err(AppendError::Fenced)
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

#[async_trait]
impl<C: Fn(&mut Vec<Sealed>) + Send + Sync> Upkept for Changed<C> {
    async fn sealed_after(&self, position: Position, limit: usize) -> Result<Vec<Sealed>, LogError> {
        let mut rows = self.log.sealed_after(Position::START, limit).await?;
        (self.change)(&mut rows);
        let read = rows.iter().rposition(|row| row.position == position.0).map_or(0, |at| at + 1);
        Ok(rows.split_off(read))
    }

    async fn import(&self, _: Vec<Vec<Sealed>>) -> Result<Position, AppendError> {
        Err(AppendError::Fenced)
    }

    fn identity(&self) -> String {
        self.log.identity()
    }

    fn is_gapless(&self) -> bool {
        true
    }

    async fn chain_after(
        &self,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Option<Vec<Link>>, LogError> {
        self.log.chain_after(after, limit).await
    }
}

// On PostgreSQL.

pub async fn whoever_changes_the_tables_is_found(engine: Engine) {
    type Expected = fn(&Fault) -> bool;
    fn chain(fault: &Fault) -> bool {
        matches!(fault, Fault::Chain { .. })
    }
    let cases: [(&str, &[Expected]); 13] = [
        ("update log.events set at = at + interval '1 second' where position = 5", &[chain]),
        ("update log.events set actor = null where position = 5", &[chain]),
        (
            "delete from log.events where position = 5",
            &[chain, |f| matches!(f, Fault::Gap { after: 4, position: 6 })],
        ),
        ("delete from log.events where position = 13", &[|f| matches!(f, Fault::ChainTooLong { position: 13 })]),
        (
            "delete from log.events where position = 5 and ordinal = 0",
            &[chain, |f| matches!(f, Fault::Ordinal { position: 5, .. })],
        ),
        (
            "update log.events set payload = (select payload from log.events where position = 1 and ordinal = 0)
              where position = 5 and ordinal = 0",
            &[chain, |f| matches!(f, Fault::Payload { position: 5, .. })],
        ),
        (
            "update log.events set kind = 'user.unheard_of' where position = 5",
            &[chain, |f| matches!(f, Fault::Payload { position: 5, .. })],
        ),
        (
            "update log.events set version = version + 100 where position = 13",
            &[chain, |f| matches!(f, Fault::Version { position: 13, .. })],
        ),
        (
            "insert into log.events (position, ordinal, stream, version, event_id, kind, schema, at, command, payload)
             select 14, 0, 'user-77', 1, event_id, kind, schema, at, gen_random_uuid(), payload
               from log.events where position = 1 and ordinal = 0",
            &[
                |f| matches!(f, Fault::ChainTooShort { from: 14, to: 14 }),
                |f| matches!(f, Fault::EventId { position: 14, ordinal: 0 }),
            ],
        ),
        ("update log.chain set hash = sha256(hash) where position = 5", &[chain]),
        ("delete from log.chain where position = 5", &[chain]),
        (
            "delete from log.chain where position = 13",
            &[|f| matches!(f, Fault::ChainTooShort { to: 13, .. })],
        ),
        ("delete from log.chain where position = 0", &[|f| matches!(f, Fault::NoChain)]),
    ];
    let log = filled(&engine, Takeover::Shared).await;
    engine.run("alter table log.events disable trigger all").await;
    engine.run("alter table log.chain disable trigger all").await;
    engine.run("create table kept_events as table log.events").await;
    engine.run("create table kept_chain as table log.chain").await;
    for (change, expected) in cases {
        engine.run(change).await;
        let found = checked(&*log, &engine).await;
        for expected in expected {
            assert!(found.faults.iter().any(expected), "{change}: {found:?}");
        }
        engine.run("truncate log.events, log.chain").await;
        engine.run("insert into log.events select * from kept_events").await;
        engine.run("insert into log.chain select * from kept_chain").await;
        assert_eq!(checked(&*log, &engine).await.faults, [], "{change}");
    }
    // A key that is gone without having been destroyed.
    engine.run("delete from ops.keys where person <> '00000000-0000-0000-0000-000000000000'").await;
    let keyring = engine.open_keyring(MASTER).await.unwrap();
    let found = check(&*log, &keyring, &|_| ()).await.unwrap();
    assert_eq!(found.faults_found, 28);
    assert!(found.faults.iter().all(|f| matches!(f, Fault::Payload { .. })), "{found:?}");
}

pub async fn only_the_sole_writer_takes_what_another_log_has(engine: Engine) {
    let source = MemoryLog::new(engine.keyring.clone());
    source.append(&stream(1), Version::NONE, &by(None), vec![named(1, "a")]).await.unwrap();
    let shared = engine.open().await;
    let refused = copy(&source, &*shared, &|_| ()).await;
    assert!(matches!(refused, Err(CopyError::Refused(AppendError::Log(_)))), "{refused:?}");
    let sole = engine.open_as(Takeover::Sole).await;
    assert_eq!(copy(&source, &*sole, &|_| ()).await.unwrap().appends, 1);
    assert!(checked(&*sole, &engine).await.is_clean());
}

pub async fn a_long_log_is_copied_in_batches(engine: Engine) {
    const APPENDS: u64 = 1500;
    let source = MemoryLog::new(engine.keyring.clone());
    for n in 0..APPENDS {
        source.append(&stream(n), Version::NONE, &by(None), vec![named(1, "a")]).await.unwrap();
    }
    let log = engine.open_as(Takeover::Sole).await;
    assert_eq!(copy(&source, &*log, &|_| ()).await.unwrap().appends, APPENDS);
    let found = checked(&*log, &engine).await;
    assert_eq!((found.faults.as_slice(), found.appends, found.to), (&[][..], APPENDS, APPENDS));
    assert!(found.chain.unwrap().links < 10, "a batch has one link");
}

pub async fn an_older_log_begins_its_chain_at_its_head(engine: Engine) {
    const FIRST_WITH_CHAIN: i64 = 20261123000000;
    let pool = engine.pool();
    engine.run("drop schema log cascade").await;
    engine.run("delete from _sqlx_migrations where description like 'log %'").await;
    let all = sqlx::migrate!("../migrations");
    let (newer, older): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|m| m.description.starts_with("log "))
        .cloned()
        .partition(|m| m.version >= FIRST_WITH_CHAIN);
    let run = async |migrations: Vec<_>| {
        let part = Migrator { migrations: Cow::Owned(migrations), ignore_missing: true, ..Migrator::DEFAULT };
        part.run(pool).await.unwrap();
    };
    run(older).await;
    let source = MemoryLog::new(engine.keyring.clone());
    for n in 0..3 {
        source.append(&stream(n), Version::NONE, &by(None), vec![named(1, "a")]).await.unwrap();
    }
    for row in source.sealed_after(Position::START, 10).await.unwrap() {
        sqlx::query(
            "insert into log.events (position, ordinal, stream, version, event_id, kind, schema, at, subject,
                                     command, payload)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(row.position as i64)
        .bind(row.ordinal as i32)
        .bind(row.stream)
        .bind(row.version as i64)
        .bind(row.event_id)
        .bind(row.kind)
        .bind(row.schema as i16)
        .bind(row.at)
        .bind(row.subject)
        .bind(row.command)
        .bind(row.payload)
        .execute(pool)
        .await
        .unwrap();
    }
    run(newer).await;
    let log = engine.open().await;
    assert_eq!(checked(&*log, &engine).await.faults, []);
    append(&log, 1, Version(1), "chained").await.unwrap();
    let found = checked(&*log, &engine).await;
    assert_eq!(found.faults, []);
    assert_eq!(found.appends, 4);
    let chain = found.chain.unwrap();
    assert_eq!((chain.after, chain.to, chain.links), (3, 4, 1));
}

// Helpers.

/// 13 appends, 28 events, of 7 streams and 7 persons.
async fn filled(engine: &Engine, takeover: Takeover) -> Log {
    let log = engine.open_as(takeover).await;
    for n in 0..7 {
        let actor = by(Some(person(n)));
        log.append(&stream(n), Version::NONE, &actor, vec![named(n, "first"); 1 + n as usize % 3])
            .await
            .unwrap();
    }
    for n in 0..6 {
        let version = Version(1 + n % 3);
        log.append(&stream(n), version, &by(None), vec![named(n, "again"); 3 - n as usize % 2])
            .await
            .unwrap();
    }
    log
}

async fn moves(from: &dyn Upkept, to: &dyn Upkept) {
    let copied = copy(from, to, &|_| ()).await.unwrap();
    assert_eq!((copied.appends, copied.events, copied.already), (13, 28, 0));
    assert_eq!(everything(from).await, everything(to).await);
    for n in 0..7 {
        let (here, there) = (from.stream(&stream(n)).await.unwrap(), to.stream(&stream(n)).await.unwrap());
        assert_eq!(here.1, there.1);
        assert_eq!(
            here.0.into_iter().map(|r| r.event.unwrap()).collect::<Vec<_>>(),
            there.0.into_iter().map(|r| r.event.unwrap()).collect::<Vec<_>>()
        );
    }
}

/// All events without their positions, in their order.
async fn everything(log: &dyn Upkept) -> Vec<Sealed> {
    let mut rows = log.sealed_after(Position::START, 1000).await.unwrap();
    assert!(rows.is_sorted_by_key(|row| (row.position, row.ordinal)));
    rows.iter_mut().for_each(|row| row.position = 0);
    rows
}

async fn checked(log: &dyn Upkept, engine: &Engine) -> Checked {
    check(log, &engine.keyring, &|_| ()).await.unwrap()
}
