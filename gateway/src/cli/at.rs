//! `kiroku at`: the state of something at a moment of the past, folded from its stream.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use domain::drive::{self, File};
use domain::emoji::Reaction as Emoji;
use domain::follow::Relation;
use domain::instance::Instance;
use domain::log::{Position, Recorded, StreamId};
use domain::note::Note;
use domain::poll::Ballot;
use domain::reaction::Reaction;
use domain::user::User;
use domain::{Event, Fold, NoteId, UserId, follow, instance, note, reaction, user};
use serde_json::{Map, Value, json};

use super::desk::{self, Desk};
use super::when::Moment;
use super::{Outcome, ToolError, tool};
use crate::platform::attach::With;

/// Events asked of the log at once.
const PAGE: usize = 2_000;

pub fn command() -> Command {
    let id = |name: &'static str, value: &'static str| Arg::new(name).value_name(value);
    let what = |name: &'static str, about: &'static str| tool(Command::new(name).about(about));
    let note = || id("note", "NOTE").required(true).help("The id of the note");
    let person = |name: &'static str, value: &'static str| id(name, value).help("@name or id");
    let when = Arg::new("when").required(true).value_name("TIME|POSITION");
    Command::new("at")
        .about("Show the state of something at a moment of the past")
        .arg(when.help("A position, or a time in UTC such as 2026-01-02T03:04, or now"))
        .subcommand_required(true)
        .subcommand_value_name("WHAT")
        .subcommand(what("note", "A note").arg(note()))
        .subcommand(what("user", "An account").arg(person("user", "USER").required(true)))
        .subcommand(
            what("follow", "What one person is to another")
                .arg(person("from", "FROM").required(true))
                .arg(person("to", "TO").required(true)),
        )
        .subcommand(
            what("poll", "A poll with its votes, or the votes of one person")
                .arg(note())
                .arg(person("user", "USER")),
        )
        .subcommand(
            what("reaction", "The reactions to a note, or that of one person")
                .arg(note())
                .arg(person("user", "USER")),
        )
        .subcommand(
            what("file", "A file of somebody's")
                .arg(id("file", "FILE").required(true).help("The id of the file")),
        )
        .subcommand(what("instance", "The server: its settings and policies"))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let Some((what, asked)) = matches.subcommand() else { return super::USAGE.into() };
    desk::run(asked, async |tool| {
        let when = matches.get_one::<String>("when").map(String::as_str).unwrap_or_default();
        let when = Moment::parse(when)?;
        tool.at_desk(With::Others, async |desk| {
            tokio::select! {
                biased;
                looked = look(desk, when, what, asked) => looked,
                _ = desk.shutdown.wait() => Err(ToolError::Stopped),
            }
        })
        .await
    })
}

async fn look(desk: &Desk, when: Moment, what: &str, asked: &ArgMatches) -> Result<Outcome, ToolError> {
    let look = Look { desk, when };
    let state = match what {
        "note" => look.note(asked).await?,
        "user" => look.user(asked).await?,
        "follow" => look.follow(asked).await?,
        "poll" => look.poll(asked).await?,
        "reaction" => look.reaction(asked).await?,
        "file" => look.file(asked).await?,
        _ => look.instance().await?,
    };
    let text = told(what, when, &state);
    desk.output.either(&json!({ "what": what, "when": when.to_string(), "state": state }), text)?;
    Ok(Outcome::Done)
}

/// A look back.
struct Look<'d> {
    desk: &'d Desk,
    when: Moment,
}

/// A stream as of then.
struct Then<S> {
    state: S,
    events: Vec<Recorded>,
}

impl Look<'_> {
    async fn note(&self, asked: &ArgMatches) -> Result<Value, ToolError> {
        let then: Then<Note> = self.at(&note::stream(note_id(asked)?)).await?;
        let Note { created, deleted, .. } = &then.state;
        Ok(then.told(of(created)?, [("deleted", json!(deleted))]))
    }

    async fn user(&self, asked: &ArgMatches) -> Result<Value, ToolError> {
        let user = self.person(asked, "user").await?;
        let then: Then<User> = self.at(&user::stream(user)).await?;
        let User { created, abandoned, erased, suspended, profile, last_active } = &then.state;
        let profile = serde_json::to_value(profile).map_err(|error| ToolError::Output(error.into()))?;
        let further = [
            ("abandoned", json!(abandoned)),
            ("erased", json!(erased)),
            ("suspended", json!(suspended)),
            ("last_active", json!(last_active)),
            ("profile", profile),
        ];
        Ok(then.told(of(created)?, further))
    }

    async fn follow(&self, asked: &ArgMatches) -> Result<Value, ToolError> {
        let (from, to) = (self.person(asked, "from").await?, self.person(asked, "to").await?);
        let then: Then<Relation> = self.at(&follow::stream(from, to)).await?;
        let following = then.state.following.as_ref().map(|following| {
            json!({
                "id": following.id,
                "notify": following.notify,
                "with_replies": following.with_replies,
            })
        });
        let requested = then.state.requested.as_ref().map(|request| request.id);
        let Relation { blocks, mute, mutes_renotes, memo, .. } = &then.state;
        let mute = mute.as_ref().map(|mute| json!({ "expires_at": mute.expires_at }));
        let state = [
            ("following", json!(following)),
            ("requested", json!(requested)),
            ("blocks", json!(blocks)),
            ("mute", json!(mute)),
            ("mutes_renotes", json!(mutes_renotes)),
            ("memo", json!(memo)),
        ];
        Ok(then.told(Map::new(), state))
    }

    async fn poll(&self, asked: &ArgMatches) -> Result<Value, ToolError> {
        let note = note_id(asked)?;
        let asked_in: Then<Note> = self.at(&note::stream(note)).await?;
        let Some(poll) = asked_in.state.created.as_ref().and_then(|note| note.poll.as_ref()) else {
            return Err(ToolError::Refused(format!("the note {note} asks nothing, or is erased")));
        };
        if let Some(voter) = self.perhaps(asked).await? {
            let then: Then<Ballot> = self.at(&StreamId::new("vote", format_args!("{note}-{voter}"))).await?;
            return Ok(then.told(Map::new(), [("choices", json!(then.state.choices))]));
        }
        let mut votes = vec![0_u64; poll.choices.len()];
        for event in self.of_streams(&asked_in, &format!("vote-{note}-")).await? {
            if let Some(Event::PollVoted(vote)) = &event.event
                && let Some(count) = votes.get_mut(vote.choice as usize)
            {
                *count += 1;
            }
        }
        let votes: Vec<Value> = poll
            .choices
            .iter()
            .zip(votes)
            .map(|(choice, votes)| json!({ "choice": choice, "votes": votes }))
            .collect();
        let state = [
            ("multiple", json!(poll.multiple)),
            ("expires_at", json!(poll.expires_at)),
            ("votes", json!(votes)),
        ];
        Ok(asked_in.told(Map::new(), state))
    }

    async fn reaction(&self, asked: &ArgMatches) -> Result<Value, ToolError> {
        let note = note_id(asked)?;
        if let Some(reactor) = self.perhaps(asked).await? {
            let then: Then<Reaction> = self.at(&reaction::stream(note, reactor)).await?;
            return Ok(then.told(Map::new(), [("reaction", json!(then.state.current))]));
        }
        let on: Then<Note> = self.at(&note::stream(note)).await?;
        let mut standing: BTreeMap<UserId, Emoji> = BTreeMap::new();
        for event in self.of_streams(&on, &format!("reaction-{note}-")).await? {
            match event.event {
                Some(Event::ReactionAdded(added)) => {
                    standing.insert(added.reactor, added.reaction);
                }
                Some(Event::ReactionRemoved(removed)) => {
                    standing.remove(&removed.reactor);
                }
                _ => (),
            }
        }
        Ok(on.told(Map::new(), [("reactions", json!(standing))]))
    }

    async fn file(&self, asked: &ArgMatches) -> Result<Value, ToolError> {
        let text = asked.get_one::<String>("file").map(String::as_str).unwrap_or_default();
        let file = text.parse().map_err(|_| ToolError::Wrong(format!("`{text}` is not the id of a file")))?;
        let then: Then<File> = self.at(&drive::stream(file)).await?;
        Ok(then.told(of(&then.state.current)?, [("deleted", json!(then.state.deleted))]))
    }

    async fn instance(&self) -> Result<Value, ToolError> {
        let then: Then<Instance> = self.at(&instance::stream()).await?;
        let Instance { url, root, settings, policies } = &then.state;
        let settings: BTreeMap<&str, &Value> =
            instance::SETTINGS.iter().map(|(name, ..)| (*name, settings.get(name))).collect();
        let state = [
            ("url", json!(url)),
            ("root", json!(root)),
            ("settings", json!(settings)),
            ("policies", json!(policies.all())),
        ];
        Ok(then.told(Map::new(), state))
    }

    /// The stream up to the moment; refused when there was nothing yet.
    async fn at<S: Fold>(&self, stream: &StreamId) -> Result<Then<S>, ToolError> {
        let mut events = self.desk.existing(stream).await?;
        let first = events.first().map(|event| (event.position, event.at));
        events.retain(|event| self.when.includes(event));
        if let (true, Some((position, at))) = (events.is_empty(), first) {
            let late = format!("{stream} begins at position {position}, {at}: after {}", self.when);
            return Err(ToolError::Refused(late));
        }
        let state = S::of(events.iter().filter_map(|event| event.event.as_ref()));
        Ok(Then { state, events })
    }

    /// The events in streams of a prefix, which are all younger than the note's.
    async fn of_streams<S>(&self, note: &Then<S>, prefix: &str) -> Result<Vec<Recorded>, ToolError> {
        let mut at = note.events.first().map_or(Position::START, |first| first.position);
        let head = self.desk.log.head().await?;
        let mut streams = BTreeSet::new();
        while at < head {
            let page = self.desk.log.sealed_after(at, PAGE).await?;
            let Some(last) = page.last() else { break };
            at = Position(last.position);
            streams
                .extend(page.into_iter().map(|event| event.stream).filter(|name| name.starts_with(prefix)));
        }
        let mut found = Vec::new();
        for stream in streams {
            let (events, _) = self.desk.log.stream(&StreamId::stored(stream)).await?;
            found.extend(events.into_iter().filter(|event| self.when.includes(event)));
        }
        Ok(found)
    }

    async fn person(&self, asked: &ArgMatches, name: &str) -> Result<UserId, ToolError> {
        self.desk.person(asked.get_one::<String>(name).map(String::as_str).unwrap_or_default()).await
    }

    async fn perhaps(&self, asked: &ArgMatches) -> Result<Option<UserId>, ToolError> {
        match asked.get_one::<String>("user") {
            Some(user) => self.desk.person(user).await.map(Some),
            None => Ok(None),
        }
    }
}

impl<S> Then<S> {
    /// The state with where its stream was.
    fn told<const N: usize>(&self, mut state: Map<String, Value>, further: [(&str, Value); N]) -> Value {
        state.extend(further.map(|(name, value)| (name.to_owned(), value)));
        if let Some(last) = self.events.last() {
            let erased = self.events.iter().filter(|event| event.event.is_none()).count();
            let place = json!({
                "name": last.stream.as_str(),
                "version": last.version.0,
                "position": last.position.0,
                "at": last.at,
                "erased_events": erased,
            });
            state.insert("stream".to_owned(), place);
        }
        Value::Object(state)
    }
}

/// The fields of a payload; none when there is none, or it is erased.
fn of(created: &Option<impl serde::Serialize>) -> Result<Map<String, Value>, ToolError> {
    match serde_json::to_value(created).map_err(|error| ToolError::Output(error.into()))? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

fn note_id(asked: &ArgMatches) -> Result<NoteId, ToolError> {
    let text = asked.get_one::<String>("note").map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| ToolError::Wrong(format!("`{text}` is not the id of a note")))
}

/// One field a line; what is inside a field is indented.
fn told(what: &str, when: Moment, state: &Value) -> String {
    let mut lines = vec![format!("{what} at {when}")];
    tell(state, 0, &mut lines);
    lines.join("\n")
}

fn tell(value: &Value, depth: usize, lines: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(_) => {
                lines.push(format!("{indent}{name}"));
                tell(value, depth + 1, lines);
            }
            Value::String(text) => lines.push(format!("{indent}{name}  {text}")),
            other => lines.push(format!("{indent}{name}  {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_field_by_field() {
        let state = json!({ "text": "hi", "poll": { "multiple": true } });
        let told = told("note", Moment::Position(Position(3)), &state);
        assert_eq!(told, "note at position 3\npoll\n  multiple  true\ntext  hi");
    }
}
