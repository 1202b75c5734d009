//! `kiroku log grep`: searches the opened payloads.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use domain::log::Position;
use regex_lite::RegexBuilder;

use super::{Line, PAGE, kind, listing};
use crate::cli::desk::{self, Desk};
use crate::cli::{Outcome, ToolError, when};
use crate::platform::attach::With;

/// A compiled pattern may take so many bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

pub fn command() -> Command {
    let arg = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    let pattern = Arg::new("pattern").required(true).value_name("REGEX");
    listing("grep", "Search the payloads, as JSON, with a regular expression")
        .arg(pattern.help("In the syntax of Rust's regex crate"))
        .arg(arg("kind", "KIND").help("Only this kind, such as note.created"))
        .arg(arg("since", "TIME").help("Only from this time on, such as 2026-01-02"))
        .arg(arg("until", "TIME").help("Only before this time"))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::at_desk(matches, With::Others, async |desk| grep(desk, matches).await)
}

async fn grep(desk: &Desk, matches: &ArgMatches) -> Result<Outcome, ToolError> {
    let pattern = matches.get_one::<String>("pattern").map(String::as_str).unwrap_or_default();
    let pattern = RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| ToolError::Wrong(format!("the pattern: {error}")))?;
    let time = |name| matches.get_one::<String>(name).map(|text| when::time(text)).transpose();
    let (since, until, kind) = (time("since")?, time("until")?, kind(matches)?);
    let head = desk.log.head().await?;
    let mut at = Position::START;
    while at < head {
        let page = desk.log.after(at, PAGE).await?;
        let Some(last) = page.last() else { break };
        at = last.position;
        for event in &page {
            let is_wanted = event.position <= head
                && kind.as_ref().is_none_or(|kind| *kind == event.kind)
                && since.is_none_or(|since| event.at >= since)
                && until.is_none_or(|until| event.at < until);
            let Some(payload) = event.event.as_ref().filter(|_| is_wanted) else { continue };
            let json = payload.to_json().map_err(|error| ToolError::Output(error.into()))?;
            if pattern.is_match(&String::from_utf8_lossy(&json)) {
                Line::opened(event)?.print(&desk.output)?;
            }
        }
    }
    Ok(Outcome::Done)
}
