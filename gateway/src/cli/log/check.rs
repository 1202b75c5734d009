//! `kiroku log check`: whether the log is whole.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use commands::log::{self, Checked};

use super::{listing, shown};
use crate::cli::desk::{self, Desk};
use crate::cli::{Outcome, ToolError};
use crate::platform::attach::With;

pub fn command() -> Command {
    listing("check", "Check that the log is whole: positions, versions, payloads, the chain of hashes")
        .after_help("Exits with 5 when something is wrong with the log.")
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::at_desk(matches, With::Others, async |desk| {
        let checked = checked(desk).await?;
        desk.output.either(&checked, told(&checked))?;
        Ok(if checked.is_clean() { Outcome::Done } else { Outcome::Differs })
    })
}

pub async fn checked(desk: &Desk) -> Result<Checked, ToolError> {
    Ok(log::check(desk.log.as_ref(), &desk.keyring, &shown("log check")).await?)
}

pub fn told(checked: &Checked) -> String {
    let Checked { appends, events, erased, streams, to, .. } = checked;
    let mut lines = vec![format!(
        "the log: {events} events in {appends} appends and {streams} streams up to position {to}, {erased} erased"
    )];
    match &checked.chain {
        Some(chain) => lines.push(format!(
            "the chain: {} links from position {} to {}, {}",
            chain.links, chain.after, chain.to, chain.hash
        )),
        None => lines.push("the chain: this engine keeps none".to_owned()),
    }
    lines.extend(checked.faults.iter().map(|fault| format!("WRONG: {fault}")));
    let more = checked.faults_found.saturating_sub(checked.faults.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if checked.is_clean() {
        lines.push("the log is whole".to_owned());
    }
    lines.join("\n")
}
