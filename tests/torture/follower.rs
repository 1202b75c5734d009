//! A reader that follows a log by position, as a projector does, and afterwards says what it has missed.
//!
//! Pointed at the naive table, whose numbers come from a sequence while transactions overlap, it has to be
//! caught missing events: else it would prove nothing about the real log.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{ConnectOptions, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::Findings;

/// What is followed.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    Log,
    Naive,
}

/// One event as it was read: position, place in the append, id.
pub type Seen = (i64, i32, Uuid);

/// Reads all the time, until it is asked for what it has seen.
pub struct Follower {
    table: Table,
    /// Goes on until this position has been reached, once there is one.
    until: watch::Sender<Option<i64>>,
    reading: JoinHandle<Vec<Seen>>,
}

impl Follower {
    pub fn start(table: Table, database: PgConnectOptions) -> Self {
        let (until, goal) = watch::channel(None);
        let reading = tokio::spawn(follow(table, database, Vec::new(), goal));
        Self { table, until, reading }
    }

    /// Compares what was seen with what is there, and says how many events those are. Reads on with `self`.
    pub async fn compare(
        &mut self,
        database: &PgConnectOptions,
        findings: &mut Findings,
    ) -> sqlx::Result<usize> {
        let mut connection = database.connect().await?;
        let head: Option<i64> = sqlx::query_scalar(self.table.head()).fetch_one(&mut connection).await?;
        self.until.send_replace(Some(head.unwrap_or(0)));
        let seen = match timeout(CATCH_UP_WITHIN, &mut self.reading).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(lost)) => {
                findings.add(format!("the follower ended: {lost}"));
                Vec::new()
            }
            Err(_) => {
                findings.add("the follower doesn't reach the head of the log".to_owned());
                self.reading.abort();
                Vec::new()
            }
        };
        let mut all: Vec<Seen> =
            sqlx::query_as(self.table.page()).bind(0i64).bind(i64::MAX).fetch_all(&mut connection).await?;
        // What was added since is compared next time.
        let last = seen.last().map_or(0, |(position, _, _)| *position);
        all.retain(|(position, _, _)| *position <= last.max(head.unwrap_or(0)));
        missed(&seen, &all, findings);
        let (until, goal) = watch::channel(None);
        self.until = until;
        self.reading = tokio::spawn(follow(self.table, database.clone(), seen, goal));
        Ok(all.len())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Fills the naive table from overlapping transactions while a follower reads it. Says how many events
/// there are.
pub async fn trust_bare_numbers(
    database: &PgConnectOptions,
    seed: u64,
    findings: &mut Findings,
) -> sqlx::Result<usize> {
    let pool = PgPool::connect_lazy_with(database.clone());
    sqlx::raw_sql(
        "create schema naive;
         create table naive.events (id bigserial primary key, event_id uuid not null)",
    )
    .execute(&pool)
    .await?;
    let mut follower = Follower::start(Table::Naive, database.clone());
    let end = Instant::now() + NAIVE_LOAD_FOR;
    let writers = (0..NAIVE_WRITERS).map(|writer| {
        tokio::spawn(write(database.clone(), StdRng::seed_from_u64(seed ^ (writer << 32)), end))
    });
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        writer.await.map_err(|lost| sqlx::Error::Io(std::io::Error::other(lost)))??;
    }
    let events = follower.compare(database, findings).await?;
    pool.close().await;
    Ok(events)
}

impl Table {
    /// A page after position $1, of at most $2 events.
    fn page(self) -> &'static str {
        match self {
            Table::Log => {
                "select position, ordinal, event_id from log.events
                  where position > $1 order by position, ordinal limit $2"
            }
            Table::Naive => "select id, 0, event_id from naive.events where id > $1 order by id limit $2",
        }
    }

    fn head(self) -> &'static str {
        match self {
            Table::Log => "select max(position) from log.events",
            Table::Naive => "select max(id) from naive.events",
        }
    }
}

const PAGE_EVENTS: i64 = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(5);
const CONNECT_AGAIN: Duration = Duration::from_millis(100);
/// For a page: a server that is being killed may never answer.
const PAGE_WITHIN: Duration = Duration::from_secs(5);
const CATCH_UP_WITHIN: Duration = Duration::from_secs(30);
const NAIVE_WRITERS: u64 = 8;
const NAIVE_LOAD_FOR: Duration = Duration::from_secs(2);
/// Between a naive writer's insert and its commit, at most.
const NAIVE_OVERLAP_MILLIS: u64 = 20;

async fn follow(
    table: Table,
    database: PgConnectOptions,
    mut seen: Vec<Seen>,
    mut until: watch::Receiver<Option<i64>>,
) -> Vec<Seen> {
    let mut connection: Option<PgConnection> = None;
    loop {
        let last = seen.last().map_or(0, |(position, _, _)| *position);
        if until.borrow().is_some_and(|head| last >= head) {
            return seen;
        }
        let Some(open) = &mut connection else {
            match timeout(PAGE_WITHIN, database.connect()).await {
                Ok(Ok(new)) => connection = Some(new),
                _ => sleep(CONNECT_AGAIN).await,
            }
            continue;
        };
        let page = sqlx::query_as(table.page()).bind(last).bind(PAGE_EVENTS).fetch_all(open);
        match timeout(PAGE_WITHIN, page).await {
            Ok(Ok(page)) => {
                let page: Vec<Seen> = page;
                // An append may have been cut in the middle: its rest is not after its position.
                let whole = if page.len() as i64 == PAGE_EVENTS {
                    let cut = page.last().map_or(0, |(position, _, _)| *position);
                    page.iter().take_while(|(position, _, _)| *position < cut).count()
                } else {
                    page.len()
                };
                seen.extend(&page[..whole]);
                if whole == 0 {
                    _ = timeout(LOOK_EVERY, until.changed()).await;
                }
            }
            _ => connection = None,
        }
    }
}

fn missed(seen: &[Seen], all: &[Seen], findings: &mut Findings) {
    let mut times: HashMap<Seen, usize> = HashMap::new();
    for event in seen {
        *times.entry(*event).or_default() += 1;
    }
    for (position, ordinal, id) in all {
        match times.remove(&(*position, *ordinal, *id)) {
            Some(1) => {}
            None => findings.add(format!("a reader missed event {id} at {position}.{ordinal}")),
            Some(n) => findings.add(format!("a reader got event {id} at {position}.{ordinal} {n} times")),
        }
    }
    for (position, ordinal, id) in times.into_keys() {
        findings.add(format!("event {id} at {position}.{ordinal} was read, and is no longer there"));
    }
}

async fn write(database: PgConnectOptions, mut rng: StdRng, end: Instant) -> sqlx::Result<()> {
    let mut connection = database.connect().await?;
    while Instant::now() < end {
        let id = Uuid::from_u128(rng.random());
        sqlx::query("begin").execute(&mut connection).await?;
        sqlx::query("insert into naive.events (event_id) values ($1)")
            .bind(id)
            .execute(&mut connection)
            .await?;
        sleep(Duration::from_millis(rng.random_range(0..=NAIVE_OVERLAP_MILLIS))).await;
        sqlx::query("commit").execute(&mut connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: i64) -> Seen {
        (position, 0, Uuid::from_u128(position as u128))
    }

    #[test]
    fn what_was_missed_doubled_or_taken_back_is_told() {
        let all = [event(1), event(2), event(3)];
        let told = |seen: &[Seen]| {
            let mut findings = Findings::default();
            missed(seen, &all, &mut findings);
            findings.into_lines()
        };
        assert!(told(&all).is_empty());
        assert!(told(&[event(1), event(3)])[0].contains("missed"));
        assert!(told(&[event(1), event(2), event(2), event(3)])[0].contains("2 times"));
        assert!(told(&[event(1), event(2), event(3), event(4)])[0].contains("no longer there"));
    }
}
