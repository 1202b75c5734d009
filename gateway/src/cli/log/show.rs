//! `kiroku log show`: one append, one event or one stream, opened.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use domain::log::{Position, Recorded, StreamId};
use domain::{EventId, UserId};
use uuid::Uuid;

use super::{Line, PAGE, Payload, listing, scan};
use crate::cli::desk::{self, Desk};
use crate::cli::{Outcome, ToolError};
use crate::platform::attach::With;

pub fn command() -> Command {
    let what = Arg::new("what").required(true).value_name("POSITION|EVENT|STREAM");
    listing("show", "Show an append, an event or a stream with its payloads")
        .arg(what.help("A position, the id of an event, or a name such as note-ID"))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::at_desk(matches, With::Others, async |desk| {
        let what = matches.get_one::<String>("what").map(String::as_str).unwrap_or_default();
        let events = find(desk, what).await?;
        if events.is_empty() {
            return Err(ToolError::Refused(format!("there is nothing at {what}")));
        }
        for event in &events {
            let line = Line::opened(event)?;
            desk.output.either(&line, told(&line))?;
        }
        Ok(Outcome::Done)
    })
}

async fn find(desk: &Desk, what: &str) -> Result<Vec<Recorded>, ToolError> {
    if let Ok(position) = what.parse() {
        return append_at(desk, Position(position)).await;
    }
    if what.contains('-') && Uuid::parse_str(what).is_err() {
        return desk.existing(&StreamId::stored(what.to_owned())).await;
    }
    let id = Uuid::parse_str(what).map(EventId).or_else(|_| what.parse());
    let id = id.map_err(|_| ToolError::Wrong(format!("`{what}` is no position, event or stream")))?;
    let mut position = None;
    scan(desk, Position::START, desk.log.head().await?, |event| {
        position = (event.event_id == id.0).then_some(Position(event.position));
        Ok(position.is_none())
    })
    .await?;
    let Some(position) = position else { return Ok(Vec::new()) };
    let append = append_at(desk, position).await?;
    Ok(append.into_iter().filter(|event| event.id == id).collect())
}

/// The events of one append; none when there is no such position.
async fn append_at(desk: &Desk, position: Position) -> Result<Vec<Recorded>, ToolError> {
    let (mut at, limit) = match desk.log.is_gapless() {
        true => (Position(position.0.saturating_sub(1)), 1),
        false => (Position::START, PAGE),
    };
    while at < position {
        let page = desk.log.after(at, limit).await?;
        let Some(last) = page.last() else { break };
        at = last.position;
        if at >= position {
            return Ok(page.into_iter().filter(|event| event.position == position).collect());
        }
    }
    Ok(Vec::new())
}

/// Every field on a line of its own.
fn told(line: &Line<'_>) -> String {
    let Line { position, ordinal, id, stream, version, kind, at, command, .. } = line;
    let person = |person: Option<UserId>| match person {
        Some(person) => person.to_string(),
        None => "the server".to_owned(),
    };
    let payload = match &line.payload {
        Some(Payload { payload: Some(payload), .. }) => format!("{payload:#}"),
        _ => "(erased)".to_owned(),
    };
    let (subject, actor) = (person(line.subject), person(line.actor));
    format!(
        "position {position}, {ordinal}\nid       {id}\nkind     {kind}\nstream   {stream}, version {version}\n\
         at       {at}\nsubject  {subject}\nactor    {actor}\ncommand  {command}\npayload  {payload}\n"
    )
}
