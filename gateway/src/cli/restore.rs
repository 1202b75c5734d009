//! `kiroku restore`: a server anew from a backup.
//!
//! The whole backup is read and checked first: that whoever wrote it had the master key, and that nothing of
//! it is missing or doubled. Then keys come in, all at once, but for the secret of the
//! keyed hashes, without which no server starts; then the log; then that secret. So a restore that was
//! interrupted leaves nothing that could be taken for a server, and is run again. The read models are built
//! after that, and say which files there are to bring back.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{Arg, ArgMatches, Command, value_parser};
use commands::log::{Engine, Keyring, MasterKey, Sealed};
use domain::UserId;
use domain::log::Position;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::backup::directory;
use super::desk::{self, Tool, master_key};
use super::files::Files;
use super::output::{Progress, confirm, note};
use super::secrets::{self, Looked};
use super::segments::{self, Manifest};
use super::{Outcome, ToolError, rebuild, tool, yes};
use crate::platform::attach::{self, Attached, With};

pub fn command() -> Command {
    let keys = Arg::new("keys").long("keys").required(true).value_name("FILE");
    tool(Command::new("restore").about("Make a server anew from a backup"))
        .arg(directory())
        .arg(keys.value_parser(value_parser!(PathBuf)).help("The file of keys"))
        .arg(yes())
        .after_help(
            "Goes into a data directory or database in which there is no server yet. The master key must be \
             there as for `serve`: as master.key in the data directory, or by its setting. People whom the \
             log says are erased are erased again. At the end the read models are built, files come back, and \
             everything is verified; exits with 5 when something differs, or a file is missing or was changed. Interrupted, it can be run again.",
        )
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::run(matches, async |tool| restore(tool, matches).await)
}

/// Appends given to the log at once.
const APPENDS_AT_ONCE: usize = 500;

async fn restore(tool: Tool, matches: &ArgMatches) -> Result<Outcome, ToolError> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    let shutdown = tool.shutdown.clone();
    let master = master_key(&tool.config, &tool.config.data_dir)?;
    let backup = Backup { directory: path("directory"), keys: path("keys"), master };
    let read = tokio::select! {
        read = backup.read() => read?,
        _ = shutdown.wait() => return Err(ToolError::Stopped),
    };
    let into = match &tool.config.database_url {
        Some(_) => "the database of `database_url`".to_owned(),
        None => tool.config.data_dir.display().to_string(),
    };
    let Manifest { events, url, written_at, .. } = &read.manifest;
    let question = format!("Restore {events} events of {url}, kept at {written_at}, into {into}?");
    confirm(&question, matches.get_flag("yes"))?;

    let attached = attach::attach(&tool.config, With::Nothing, &shutdown).await?;
    let filled = tokio::select! {
        filled = backup.fill(&tool, &attached, &read) => filled,
        _ = shutdown.wait() => Err(ToolError::Stopped),
    };
    attached.detach().await;
    filled?;

    let erased = read.erased.len();
    tool.at_desk(With::Nobody, async |desk| {
        rebuild::rebuilt(desk, projections::projectors()).await?;
        let files = tokio::select! {
            files = async { Files::of(desk, &backup.directory)?.restore().await } => files?,
            _ = desk.shutdown.wait() => return Err(ToolError::Stopped),
        };
        let (verified, outcome) = rebuild::verify(desk, projections::projectors()).await?;
        let back = files.files + files.already;
        let text = format!("{events} events and {back} files are back; serve them with `url` set to {url}");
        let told = json!({
            "url": url,
            "events": events,
            "erased_again": erased,
            "files": files,
            "verified": verified,
        });
        desk.output.either(&told, text)?;
        Ok(outcome)
    })
    .await
}

/// Where a backup is, and with which key it was written.
struct Backup {
    directory: PathBuf,
    keys: PathBuf,
    master: MasterKey,
}

/// What a whole and fitting backup says.
struct Read {
    manifest: Manifest,
    keys: Looked,
    /// Who was erased, and when.
    erased: HashMap<Uuid, DateTime<Utc>>,
}

/// What the segments say of people.
#[derive(Default)]
struct People {
    all: HashSet<Uuid>,
    erased: HashMap<Uuid, DateTime<Utc>>,
}

impl Backup {
    /// Reads all of it once: nothing is touched when it is damaged or doesn't belong together.
    async fn read(&self) -> Result<Read, ToolError> {
        let keys = secrets::look(&self.keys, &self.master).await?;
        let Some(manifest) = segments::manifest(&self.directory, &self.master)? else {
            return Err(ToolError::Refused(format!("{} is not a backup", self.directory.display())));
        };
        if keys.head.first_event != manifest.first_event {
            return Err(ToolError::Refused("the keys are those of another server".to_owned()));
        }
        let People { all, erased } = self.read_log(&manifest).await?;
        let is_missing = |person: &&Uuid| !keys.people.contains(*person) && !erased.contains_key(*person);
        match all.iter().filter(is_missing).count() {
            0 => Ok(Read { manifest, keys, erased }),
            missing => Err(ToolError::Refused(format!(
                "the keys of {missing} people are missing: the file of keys is older than the log; it was \
                 written at position {}, {}",
                keys.head.up_to, keys.head.written_at
            ))),
        }
    }

    /// Reads the segments; a command that is there twice would be passed over by the log, and is refused.
    async fn read_log(&self, manifest: &Manifest) -> Result<People, ToolError> {
        let mut progress = Progress::of("reading the backup");
        let mut people = People::default();
        let mut commands = HashSet::new();
        let (mut events, mut last) = (0, Uuid::nil());
        for segment in &manifest.segments {
            segments::read(&self.directory, segment, async |append| {
                if let Some(Sealed { command, position, .. }) = append.first()
                    && !commands.insert(*command)
                {
                    let refusal =
                        format!("the append at position {position} is in the backup twice: damaged");
                    return Err(ToolError::Refused(refusal));
                }
                for event in &append {
                    people.all.extend(event.subject);
                    if let Some(person) = erased_by(event) {
                        people.erased.insert(person.0, event.at);
                    }
                    last = event.event_id;
                }
                events += append.len() as u64;
                let at = append.first().map_or(0, |event| event.position);
                progress.at(Position(at), Position(manifest.to), events);
                // So that an interruption is heard.
                tokio::task::yield_now().await;
                Ok(())
            })
            .await?;
        }
        if (events, last) != (manifest.events, manifest.last_event) {
            return Err(ToolError::Refused("the manifest and the segments don't agree: damaged".to_owned()));
        }
        Ok(people)
    }

    /// Brings keys and log in.
    async fn fill(&self, tool: &Tool, attached: &Attached, read: &Read) -> Result<(), ToolError> {
        let pool = &attached.pool;
        // Nothing is opened on the way in, so it takes no real keys.
        let unused = Arc::new(Keyring::memory());
        let log = desk::open_log(tool.config.log, &tool.config, pool, &unused, With::Nobody).await?;
        let filled = async {
            match found(pool, log.as_ref(), read).await? {
                Found::All => {
                    note("everything was brought in before");
                    return Ok(());
                }
                Found::Nothing => (),
                Found::Part => note("going on with a restore that was interrupted"),
            }
            secrets::restore(pool, &self.keys, &self.master, &read.erased).await?;
            self.import(log.as_ref(), &read.manifest).await?;
            projections::follow_log(pool, &log.identity()).await?;
            secrets::open_doors(pool, &read.keys.secret).await
        };
        let filled = filled.await;
        desk::close_log(log.as_ref()).await;
        filled
    }

    async fn import(&self, log: &dyn Engine, manifest: &Manifest) -> Result<(), ToolError> {
        let mut progress = Progress::of("restore");
        let mut events = 0;
        let mut waiting: Vec<Vec<Sealed>> = Vec::with_capacity(APPENDS_AT_ONCE);
        for segment in &manifest.segments {
            segments::read(&self.directory, segment, async |append| {
                events += append.len() as u64;
                let at = append.first().map_or(0, |event| event.position);
                waiting.push(append);
                if waiting.len() == APPENDS_AT_ONCE {
                    log.import(std::mem::take(&mut waiting)).await?;
                    progress.at(Position(at), Position(manifest.to), events);
                }
                Ok(())
            })
            .await?;
        }
        if !waiting.is_empty() {
            log.import(waiting).await?;
        }
        Ok(())
    }
}

/// What is there before a restore.
enum Found {
    Nothing,
    /// An earlier run of the same backup, interrupted.
    Part,
    /// An earlier run has brought everything in.
    All,
}

/// Refuses a database in which there is something else.
async fn found(pool: &PgPool, log: &dyn Engine, read: &Read) -> Result<Found, ToolError> {
    let secret: Option<Vec<u8>> =
        sqlx::query_scalar("select secret from ops.keyring").fetch_optional(pool).await?;
    let own: Option<Vec<u8>> = sqlx::query_scalar("select wrapped from ops.keys where person = $1")
        .bind(Uuid::nil())
        .fetch_optional(pool)
        .await?;
    let head = log.head().await?;
    let is_same = own.as_ref() == Some(&read.keys.own);
    match (secret, own) {
        (None, None) if head == Position::START => Ok(Found::Nothing),
        (None, Some(_)) if is_same => Ok(Found::Part),
        (Some(secret), Some(_)) if is_same && secret == read.keys.secret && is_all(log, read).await? => {
            Ok(Found::All)
        }
        _ => Err(ToolError::Refused(
            "there is a server already: restore into an empty data directory, and an empty database or \
             EventStoreDB"
                .to_owned(),
        )),
    }
}

/// Whether the log has exactly the events of the backup.
async fn is_all(log: &dyn Engine, read: &Read) -> Result<bool, ToolError> {
    let (mut at, mut events, mut last) = (Position::START, 0, Uuid::nil());
    loop {
        let page = log.sealed_after(at, APPENDS_AT_ONCE).await?;
        let Some(end) = page.last() else { break };
        (at, last) = (Position(end.position), end.event_id);
        events += page.len() as u64;
    }
    Ok((events, last) == (read.manifest.events, read.manifest.last_event))
}

/// Whom an event erases; the stream says it, so that it takes no key.
fn erased_by(event: &Sealed) -> Option<UserId> {
    (event.kind == "user.erased").then(|| event.stream.strip_prefix("user-")?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::super::segments::tests::{append, manifest_of, master};
    use super::super::segments::{Segment, Writing};
    use super::*;

    /// What a log of these appends reads as.
    async fn read(appends: &[Vec<Sealed>], last_event: Uuid) -> Result<People, ToolError> {
        let directory = tempfile::tempdir().unwrap();
        let segment = |appends: &[Vec<Sealed>]| -> Segment {
            let mut writing = Writing::begin(directory.path(), &appends[0]).unwrap();
            appends[1..].iter().for_each(|append| writing.add(append).unwrap());
            writing.end().unwrap().0
        };
        let segments = appends.chunks(2).map(segment).collect();
        let backup =
            Backup { directory: directory.path().to_owned(), keys: PathBuf::new(), master: master() };
        backup.read_log(&Manifest { last_event, ..manifest_of(segments) }).await
    }

    #[tokio::test]
    async fn a_command_that_is_there_twice_is_refused() {
        let mut appends = vec![append(3), append(4), append(5)];
        let last = appends[2][1].event_id;
        assert_eq!(read(&appends, last).await.ok().unwrap().all, HashSet::from([Uuid::from_u128(7)]));
        assert!(read(&appends, Uuid::nil()).await.is_err(), "another end than the manifest says");
        let first = appends[0][0].command;
        appends[2].iter_mut().for_each(|event| event.command = first);
        let refused = read(&appends, last).await.err().unwrap().to_string();
        assert!(refused.contains("position 5 is in the backup twice"), "{refused}");
    }
}
