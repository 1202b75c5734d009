//! How appends, targets of commands and the beginning of the log stand on the server.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::CommandId;
use domain::log::LogError;
use eventstore::{EventData, RecordedEvent};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Sealed;

/// The largest revision or place that the server knows.
pub(super) const MAX_REVISION: u64 = i64::MAX as u64;
/// The kind of an event that holds the target of a command.
const RESERVED: &str = "command.reserved";
/// The kind of the event that begins a log.
const BEGAN: &str = "log.began";

/// The names of our streams on the server.
#[derive(Clone)]
pub(super) struct Names {
    /// What the names of streams of events begin with.
    pub events: String,
    commands: String,
    /// The stream with one event that says which log this is.
    pub beginning: String,
}

/// What an append writes to: a stream, at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub stream: String,
    pub expected: u64,
}

/// Which log this is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub id: Uuid,
    /// There is nothing of ours up to this place.
    pub place: u64,
}

impl Names {
    pub fn new(namespace: &str) -> Self {
        Self {
            events: format!("{namespace}."),
            commands: format!("{namespace}_command-"),
            beginning: format!("{namespace}_log"),
        }
    }

    pub fn stream(&self, stream: &str) -> String {
        format!("{}{stream}", self.events)
    }

    pub fn command(&self, command: CommandId) -> String {
        format!("{}{}", self.commands, command.0.simple())
    }

    pub fn is_ours(&self, event: &RecordedEvent) -> bool {
        event.stream_id.starts_with(&self.events)
    }

    /// A row without its position, and how many events its append has.
    pub fn row(&self, event: &RecordedEvent) -> Result<(Sealed, u32), LogError> {
        let stream = event.stream_id.strip_prefix(&self.events);
        let envelope: Option<Value> = serde_json::from_slice(&event.custom_metadata).ok();
        stream
            .zip(envelope)
            .and_then(|(stream, envelope)| {
                let row = Sealed {
                    position: 0,
                    ordinal: number(&envelope["ordinal"])?,
                    stream: stream.to_owned(),
                    version: event.revision.checked_add(1)?,
                    event_id: event.id,
                    kind: event.event_type.clone(),
                    schema: number(&envelope["schema"])?,
                    at: DateTime::parse_from_rfc3339(envelope["at"].as_str()?).ok()?.with_timezone(&Utc),
                    subject: optional_id(&envelope["subject"])?,
                    actor: optional_id(&envelope["actor"])?,
                    command: envelope["command"].as_str()?.parse().ok()?,
                    payload: event.data.to_vec(),
                };
                Some((row, number(&envelope["events"])?))
            })
            .ok_or_else(|| damaged(event, "its envelope can't be read"))
    }
}

/// Rows as they come, and how many of them are of whole appends.
#[derive(Default)]
pub(super) struct Appends {
    rows: Vec<Sealed>,
    complete: usize,
}

impl Appends {
    pub fn push(&mut self, names: &Names, event: &RecordedEvent) -> Result<(), LogError> {
        let (row, events) = names.row(event)?;
        let open = &self.rows[self.complete..];
        if row.ordinal as usize != open.len() || open.last().is_some_and(|last| last.command != row.command) {
            return Err(damaged(event, "it is not where its append is"));
        }
        let ended = row.ordinal.checked_add(1) == Some(events);
        self.rows.push(row);
        if ended {
            let position = place(event)?;
            self.rows[self.complete..].iter_mut().for_each(|row| row.position = position);
            self.complete = self.rows.len();
        }
        Ok(())
    }

    /// How many events of whole appends there are.
    pub fn complete(&self) -> usize {
        self.complete
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Without an append whose end can't be read yet.
    pub fn whole(mut self) -> Vec<Sealed> {
        self.rows.truncate(self.complete);
        self.rows
    }

    /// The same, and keeps the rest.
    pub fn take_whole(&mut self) -> Vec<Sealed> {
        let rest = self.rows.split_off(self.complete);
        self.complete = 0;
        std::mem::replace(&mut self.rows, rest)
    }
}

pub(super) fn sealed(row: &Sealed, events: usize) -> EventData {
    let envelope = json!({
        "command": row.command,
        "ordinal": row.ordinal,
        "events": events,
        "schema": row.schema,
        "at": row.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "subject": row.subject,
        "actor": row.actor,
    });
    EventData::binary(&row.kind, row.payload.clone().into())
        .id(row.event_id)
        .metadata(envelope.to_string().into_bytes().into())
}

/// A target of its own each time, so that it is never taken for an earlier one.
pub(super) fn reservation(target: &Target) -> EventData {
    told(RESERVED, &json!({ "stream": target.stream, "expected": target.expected }), random())
}

pub(super) fn reserved(event: &RecordedEvent) -> Result<Target, LogError> {
    let told: Option<Value> = serde_json::from_slice(&event.data).ok();
    told.and_then(|told| {
        Some(Target { stream: told["stream"].as_str()?.to_owned(), expected: told["expected"].as_u64()? })
    })
    .ok_or_else(|| damaged(event, "not a target"))
}

/// The first event of a log. `after_others`: something of ours was there before it.
pub(super) fn beginning(after_others: bool) -> EventData {
    let id = random();
    told(BEGAN, &json!({ "log": id, "after_others": after_others }), id)
}

pub(super) fn began(event: &RecordedEvent) -> Result<Beginning, LogError> {
    let told: Option<Value> = serde_json::from_slice(&event.data).ok();
    let told =
        told.and_then(|told| Some((told["log"].as_str()?.parse().ok()?, told["after_others"].as_bool()?)));
    let (id, after_others) = told.ok_or_else(|| damaged(event, "not a beginning"))?;
    Ok(Beginning { id, place: if after_others { 0 } else { place(event)? } })
}

fn told(kind: &str, what: &Value, id: Uuid) -> EventData {
    EventData::binary(kind, what.to_string().into_bytes().into()).id(id)
}

fn random() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

/// The place of an event in the server's log. Servers before 22.10 don't tell it in a stream.
pub(super) fn place(event: &RecordedEvent) -> Result<u64, LogError> {
    match event.position.commit {
        place @ 1..=MAX_REVISION => Ok(place),
        _ => Err(LogError::Unavailable(
            "the server is too old: it doesn't tell positions in streams".to_owned(),
        )),
    }
}

pub(super) fn damaged(event: &RecordedEvent, reason: &str) -> LogError {
    LogError::Unreadable { kind: event.event_type.clone(), schema: 0, reason: reason.to_owned() }
}

fn number<N: TryFrom<u64>>(value: &Value) -> Option<N> {
    N::try_from(value.as_u64()?).ok()
}

/// None is an error, `Some(None)` is nobody.
fn optional_id(value: &Value) -> Option<Option<Uuid>> {
    match value {
        Value::Null => Some(None),
        Value::String(id) => id.parse().ok().map(Some),
        _ => None,
    }
}
