//! `kiroku log tail`: the last events, and those that come.

use std::collections::VecDeque;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use commands::log::Sealed;
use domain::log::Position;

use super::{Filter, Line, count, listing, scan};
use crate::cli::desk::{self, Desk};
use crate::cli::{Outcome, ToolError};
use crate::platform::attach::With;

pub fn command() -> Command {
    let follow = Arg::new("follow").long("follow").short('f').action(ArgAction::SetTrue);
    listing("tail", "List the last events, without their payloads")
        .arg(count("number").short('n').default_value("20").value_name("N").help("How many"))
        .arg(follow.help("Go on with those that come, until interrupted"))
        .args(Filter::arguments())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::run(matches, async |tool| {
        tool.at_desk(With::Others, async |desk| {
            tokio::select! {
                biased;
                // The way in which it is meant to end.
                _ = desk.shutdown.wait() => Ok(Outcome::Done),
                ended = tail(desk, matches) => ended,
            }
        })
        .await
    })
}

async fn tail(desk: &Desk, matches: &ArgMatches) -> Result<Outcome, ToolError> {
    let filter = Filter::of(matches, desk).await?;
    let number = matches.get_one::<u64>("number").copied().unwrap_or_default() as usize;
    let mut at = desk.log.head().await?;
    for event in last(desk, &filter, number, at).await? {
        Line::sealed(&event).print(&desk.output)?;
    }
    while matches.get_flag("follow") {
        desk.log.wait(at).await;
        let head = desk.log.head().await?;
        scan(desk, at, head, |event| {
            if filter.wants(event) {
                Line::sealed(event).print(&desk.output)?;
            }
            Ok(true)
        })
        .await?;
        at = head;
    }
    Ok(Outcome::Done)
}

/// Looks at more and more of the end of the log until there are enough; where positions can't be counted
/// back, at all of it.
async fn last(
    desk: &Desk,
    filter: &Filter,
    number: usize,
    head: Position,
) -> Result<VecDeque<Sealed>, ToolError> {
    let mut found = VecDeque::new();
    let mut width = number.max(1) as u64;
    loop {
        let from = if desk.log.is_gapless() { head.0.saturating_sub(width) } else { 0 };
        found.clear();
        scan(desk, Position(from), head, |event| {
            if filter.wants(event) {
                found.push_back(event.clone());
                if found.len() > number {
                    found.pop_front();
                }
            }
            Ok(true)
        })
        .await?;
        if found.len() >= number || from == 0 {
            return Ok(found);
        }
        width = width.saturating_mul(GROWTH);
    }
}

/// Each look is so many times as wide as the one before it.
const GROWTH: u64 = 8;
