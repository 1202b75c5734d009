//! `kiroku log stats`: what the log holds, counted.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{ArgMatches, Command};
use commands::log::Sealed;
use domain::UserId;
use domain::log::Position;
use serde::Serialize;

use super::{PAGE, listing};
use crate::cli::desk::{self, Desk};
use crate::cli::output::{Progress, bytes, table};
use crate::cli::{Outcome, ToolError};
use crate::platform::attach::With;

pub fn command() -> Command {
    listing("stats", "Count what the log holds, by kind and by day")
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::at_desk(matches, With::Others, async |desk| {
        let stats = counted(desk).await?;
        desk.output.either(&stats, stats.told())?;
        Ok(Outcome::Done)
    })
}

/// What the log holds.
#[derive(Default, Serialize)]
struct Stats {
    head: u64,
    events: u64,
    appends: u64,
    /// Of the sealed payloads.
    bytes: u64,
    /// People whose data is there, or was.
    people: usize,
    /// Events that can't be read any more, since their subject's key is destroyed.
    erased: u64,
    first_at: Option<DateTime<Utc>>,
    last_at: Option<DateTime<Utc>>,
    kinds: BTreeMap<String, u64>,
    /// By day, in UTC.
    days: BTreeMap<String, u64>,
}

async fn counted(desk: &Desk) -> Result<Stats, ToolError> {
    let head = desk.log.head().await?;
    let destroyed = desk.keyring.destroyed().await?;
    let mut stats = Stats { head: head.0, ..Stats::default() };
    let mut people = HashSet::new();
    let mut progress = Progress::of("log stats");
    let mut at = Position::START;
    while at < head {
        let page = desk.log.sealed_after(at, PAGE).await?;
        let Some(last) = page.last() else { break };
        at = Position(last.position);
        for event in &page {
            stats.add(event);
            stats.erased += u64::from(event.subject.is_some_and(|one| destroyed.contains(&UserId(one))));
            people.extend(event.subject);
        }
        progress.at(at, head, stats.events);
    }
    stats.people = people.len();
    Ok(stats)
}

impl Stats {
    fn add(&mut self, event: &Sealed) {
        self.events += 1;
        self.appends += u64::from(event.ordinal == 0);
        self.bytes += event.payload.len() as u64;
        self.first_at = Some(self.first_at.map_or(event.at, |first| first.min(event.at)));
        self.last_at = self.last_at.max(Some(event.at));
        *self.kinds.entry(event.kind.clone()).or_default() += 1;
        *self.days.entry(event.at.date_naive().to_string()).or_default() += 1;
    }

    fn told(&self) -> String {
        let time = |time: Option<DateTime<Utc>>| time.map_or("never".to_owned(), |time| time.to_rfc3339());
        let rows = |counts: &BTreeMap<String, u64>| -> Vec<[String; 2]> {
            counts.iter().map(|(name, count)| [name.clone(), count.to_string()]).collect()
        };
        format!(
            "{} events in {} appends, head at {}\n{} of sealed payloads, {} people, {} events erased\n\
             first {}, last {}\n\n{}\n\n{}",
            self.events,
            self.appends,
            self.head,
            bytes(self.bytes),
            self.people,
            self.erased,
            time(self.first_at),
            time(self.last_at),
            table(["KIND", "EVENTS"], &rows(&self.kinds)),
            table(["DAY", "EVENTS"], &rows(&self.days)),
        )
    }
}
