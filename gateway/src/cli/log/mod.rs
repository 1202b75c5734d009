//! `kiroku log`: looks at the log, checks it, and moves it to another engine.

pub mod check;
mod copy;
mod grep;
mod show;
mod stats;
mod tail;

use std::process::ExitCode;
use std::sync::Mutex;

use chrono::SecondsFormat;
use clap::{Arg, ArgMatches, Command, value_parser};
use commands::log::{self, Sealed};
use domain::log::{Position, Recorded};
use domain::{CommandId, EventId, UserId};
use serde::Serialize;
use serde_json::Value;

use super::desk::Desk;
use super::output::{Output, Progress};
use super::{ToolError, USAGE, tool};

pub fn command() -> Command {
    Command::new("log")
        .about("Look at the event log, check it, move it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(tail::command())
        .subcommand(show::command())
        .subcommand(stats::command())
        .subcommand(grep::command())
        .subcommand(check::command())
        .subcommand(copy::command())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("tail", matches)) => tail::run(matches),
        Some(("show", matches)) => show::run(matches),
        Some(("stats", matches)) => stats::run(matches),
        Some(("grep", matches)) => grep::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("copy", matches)) => copy::run(matches),
        _ => USAGE.into(),
    }
}

/// Events asked of the log at once.
const PAGE: usize = 2_000;
/// The most events that are listed when a number is asked for.
const MAX_COUNT: u64 = 1_000_000;

/// Shows how far a check or a copy is.
fn shown(what: &'static str) -> impl Fn(log::Progress) + Sync {
    let shown = Mutex::new(Progress::of(what));
    move |at| {
        if let Ok(mut shown) = shown.lock() {
            shown.at(at.position, at.head, at.events);
        }
    }
}

/// One event as it is printed. Ids are the 26 characters that clients see.
#[derive(Serialize)]
struct Line<'a> {
    position: u64,
    /// The place inside the append, from 0.
    ordinal: u32,
    id: EventId,
    stream: &'a str,
    version: u64,
    kind: &'a str,
    /// RFC 3339, to the microsecond.
    at: String,
    /// Whose data it is.
    subject: Option<UserId>,
    /// Who acted.
    actor: Option<UserId>,
    command: CommandId,
    /// Only of commands that open payloads.
    #[serde(flatten)]
    payload: Option<Payload>,
}

#[derive(Serialize)]
struct Payload {
    /// Null when it is erased.
    payload: Option<Value>,
    /// Whether the key of its subject is gone.
    erased: bool,
}

impl<'a> Line<'a> {
    fn sealed(event: &'a Sealed) -> Self {
        Self {
            position: event.position,
            ordinal: event.ordinal,
            id: EventId(event.event_id),
            stream: &event.stream,
            version: event.version,
            kind: &event.kind,
            at: event.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            subject: event.subject.map(UserId),
            actor: event.actor.map(UserId),
            command: CommandId(event.command),
            payload: None,
        }
    }

    fn opened(event: &'a Recorded) -> Result<Self, ToolError> {
        let json = event.event.as_ref().map(|event| serde_json::from_slice(&event.to_json()?));
        let payload: Option<Value> = json.transpose().map_err(|error| ToolError::Output(error.into()))?;
        Ok(Self {
            position: event.position.0,
            ordinal: event.ordinal,
            id: event.id,
            stream: event.stream.as_str(),
            version: event.version.0,
            kind: &event.kind,
            at: event.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            subject: event.subject,
            actor: event.actor,
            command: event.command,
            payload: Some(Payload { erased: payload.is_none(), payload }),
        })
    }

    fn print(&self, output: &Output) -> Result<(), ToolError> {
        output.either(self, self)
    }
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Line { position, at, kind, stream, version, .. } = self;
        write!(f, "{position}  {at}  {kind}  {stream} {version}")?;
        if let Some(actor) = self.actor {
            write!(f, "  by {actor}")?;
        }
        match &self.payload {
            None => Ok(()),
            Some(Payload { payload: None, .. }) => f.write_str("  (erased)"),
            Some(Payload { payload: Some(payload), .. }) => write!(f, "  {payload}"),
        }
    }
}

/// Which events are wanted.
struct Filter {
    kind: Option<String>,
    stream: Option<String>,
    user: Option<UserId>,
}

impl Filter {
    fn arguments() -> [Arg; 3] {
        let arg = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
        [
            arg("kind", "KIND").help("Only this kind, such as note.created"),
            arg("user", "USER").help("Only by or about this person: @name or id"),
            arg("stream", "STREAM").help("Only of this stream, such as note-ID"),
        ]
    }

    async fn of(matches: &ArgMatches, desk: &Desk) -> Result<Self, ToolError> {
        let user = match matches.get_one::<String>("user") {
            Some(user) => Some(desk.person(user).await?),
            None => None,
        };
        let stream = matches.get_one::<String>("stream").cloned();
        Ok(Self { kind: kind(matches)?, stream, user })
    }

    fn wants(&self, event: &Sealed) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == event.kind)
            && self.stream.as_ref().is_none_or(|stream| *stream == event.stream)
            && self.user.is_none_or(|user| [event.subject, event.actor].contains(&Some(user.0)))
    }
}

/// The kind that was asked for, if there is such a kind.
fn kind(matches: &ArgMatches) -> Result<Option<String>, ToolError> {
    let Some(kind) = matches.get_one::<String>("kind") else { return Ok(None) };
    let known: Vec<&str> = domain::event::KINDS.iter().map(|(known, _)| *known).collect();
    if !known.contains(&kind.as_str()) {
        let refusal = format!("`{kind}` is not a kind of event; these are: {}", known.join(", "));
        return Err(ToolError::Wrong(refusal));
    }
    Ok(Some(kind.clone()))
}

/// Hands on every event after a position and up to another, in order, until it is told that it is enough.
async fn scan(
    desk: &Desk,
    from: Position,
    to: Position,
    mut take: impl FnMut(&Sealed) -> Result<bool, ToolError>,
) -> Result<(), ToolError> {
    let mut at = from;
    while at < to {
        let page = desk.log.sealed_after(at, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        at = Position(last.position);
        for event in page.iter().filter(|event| event.position <= to.0) {
            if !take(event)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn listing(name: &'static str, about: &'static str) -> Command {
    tool(Command::new(name).about(about))
}

fn count(name: &'static str) -> Arg {
    Arg::new(name).value_parser(value_parser!(u64).range(0..=MAX_COUNT))
}
