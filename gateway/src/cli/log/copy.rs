//! `kiroku log copy`: moves the log to another engine.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use commands::log::{self, CopyError, Engine};
use serde_json::json;

use super::{listing, shown};
use crate::cli::desk::{self, Desk};
use crate::cli::output::confirm;
use crate::cli::{Outcome, ToolError, yes};
use crate::config::LogKind;
use crate::platform::attach::With;

pub fn command() -> Command {
    let engine = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).required(true).value_name("ENGINE");
        arg.value_parser(["postgres", "eventstore"]).help(help)
    };
    listing("copy", "Copy the log to another engine, and compare the two")
        .arg(engine("from", "Where the log is"))
        .arg(engine("to", "Where it goes: an engine that is empty, or has a part of it"))
        .arg(yes())
        .after_help(
            "Nothing may run on either meanwhile. Order, ids, times and versions stay; positions are given \
             anew, so the read models are filled again at the next start. Exits with 5 when the target has \
             something else than the source.",
        )
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let named = |name: &str| match matches.get_one::<String>(name).map(String::as_str) {
        Some("eventstore") => LogKind::EventStore,
        _ => LogKind::Postgres,
    };
    let (from, to) = (named("from"), named("to"));
    desk::run(matches, async |tool| {
        if from == to {
            return Err(ToolError::Wrong("the log is there already".to_owned()));
        }
        if tool.config.log != from {
            let refusal = format!("`log` says that the log is in {}", tool.config.log.word());
            return Err(ToolError::Wrong(refusal));
        }
        let question = format!("Copy the log from {} to {}?", from.word(), to.word());
        confirm(&question, matches.get_flag("yes"))?;
        tool.at_desk(With::Nobody, async |desk| {
            let target =
                desk::open_log(to, &desk.config, &desk.attached.pool, &desk.keyring, With::Nobody).await?;
            let ended = tokio::select! {
                biased;
                ended = copy(desk, target.as_ref(), to) => ended,
                _ = desk.shutdown.wait() => Err(ToolError::Stopped),
            };
            desk::close_log(target.as_ref()).await;
            ended
        })
        .await
    })
}

async fn copy(desk: &Desk, target: &dyn Engine, to: LogKind) -> Result<Outcome, ToolError> {
    let copied = match log::copy(desk.log.as_ref(), target, &shown("log copy")).await {
        Ok(copied) => copied,
        Err(CopyError::Source(error) | CopyError::Target(error)) => return Err(error.into()),
        Err(CopyError::Refused(error)) => return Err(error.into()),
        Err(differs @ CopyError::Differs(_)) => {
            desk.output.either(&json!({ "same": false, "reason": differs.to_string() }), &differs)?;
            return Ok(Outcome::Differs);
        }
    };
    let told = json!({
        "same": true,
        "appends": copied.appends,
        "events": copied.events,
        "already": copied.already,
        "set": { "log": to.word() },
    });
    let text = format!(
        "{} events in {} appends are in {to} now, and compared ({} appends had been there before).\n\
         Set `log` to {to} now. The read models are filled again at the next start.",
        copied.events,
        copied.appends,
        copied.already,
        to = to.word(),
    );
    desk.output.either(&told, text)?;
    Ok(Outcome::Done)
}
