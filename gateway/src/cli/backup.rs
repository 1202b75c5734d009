//! `kiroku backup`: the log and people's files into a directory, and the keys into a file.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use commands::log::{Engine, MasterKey, Sealed};
use domain::Fold;
use domain::instance::{self, Instance};
use domain::log::{Clock, Position};
use serde_json::json;
use uuid::Uuid;

use super::desk::{self, Desk, master_key};
use super::files::Files;
use super::output::{Progress, bytes, note};
use super::secrets::{self, Head};
use super::segments::{self, FORMAT, LOCK, Manifest, PARTIAL, PRIVATE, VERSION, Writing, at, hex};
use super::{Outcome, ToolError, tool};
use crate::drive::store::FILES;
use crate::platform::attach::With;
use crate::system::SystemClock;

/// Events asked of the log at once.
const PAGE: usize = 2_000;

pub fn command() -> Command {
    let file = |name: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf))
    };
    tool(Command::new("backup").about("Copy the log and all files into a directory, and the keys into a file"))
        .arg(directory())
        .arg(file("keys").help("Where the keys go [default: DIR.keys, beside the directory]"))
        .arg(file("with-master-key").help("Also copy the master key, to a file that is not there yet"))
        .after_help(
            "The first run copies everything; later ones into the same directory add what has come since, and \
             remove files that were deleted. Exits with 1 when the server has lost some of its files. The file of keys is written anew each time. It holds people's keys as the master key wraps them, \
             passwords (hashed) and tokens (hashed): keep it apart from the directory, and the master key \
             apart from both. Both are marked with the master key, and restored only as they were written. \
             After a restore, begin in another directory. When a person is erased, throw away older files of keys.",
        )
}

/// Where a backup is.
pub fn directory() -> Arg {
    Arg::new("directory").required(true).value_name("DIR").value_parser(value_parser!(PathBuf))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::at_desk(matches, With::Others, async |desk| backup(desk, matches).await)
}

async fn backup(desk: &Desk, matches: &ArgMatches) -> Result<Outcome, ToolError> {
    let directory = matches.get_one::<PathBuf>("directory").cloned().unwrap_or_default();
    let keys = matches.get_one::<PathBuf>("keys").cloned().or_else(|| beside(&directory));
    let keys = keys.ok_or_else(|| ToolError::Wrong("say with --keys where the keys go".to_owned()))?;
    let mut kept = Kept::open(desk, directory).await?;
    let before = kept.manifest.events;
    let files = Files::of(desk, &kept.directory)?;
    let removed = files.prune().await?;
    let mut copied = files.add().await?;
    kept.add_all(desk).await?;
    // Those that came meanwhile, so that the log tells of none that is not there.
    copied += files.add().await?;
    let missing = files.missing().await?;
    let manifest = &kept.manifest;

    let head = Head::new(&manifest.url, manifest.first_event, manifest.to, SystemClock.now());
    let rows = secrets::write(&desk.attached.pool, &keys, &head, &kept.master).await?;
    let master = matches.get_one::<PathBuf>("with-master-key");
    if let Some(path) = master {
        kept.master.save(path)?;
    }

    let added = manifest.events - before;
    let size: u64 = manifest.segments.iter().map(|segment| segment.bytes).sum();
    let told = json!({
        "position": manifest.to,
        "events": manifest.events,
        "added": added,
        "segments": manifest.segments.len(),
        "bytes": size,
        "files": { "added": copied.files, "bytes": copied.bytes, "removed": removed, "missing": missing },
        "keys": keys,
        "key_rows": rows,
        "master_key": master,
    });
    let master = match master {
        Some(path) => format!("the master key is in {}", path.display()),
        None => "the master key is NOT in it: keep a copy of that yourself".to_owned(),
    };
    let text = format!(
        "{added} events added, {} in all up to position {}, {} in {} segments\n\
         {} files added, {}; {removed} removed\n\
         the keys are in {}: keep that file apart from the directory\n{master}",
        manifest.events,
        manifest.to,
        bytes(size),
        manifest.segments.len(),
        copied.files,
        bytes(copied.bytes),
        keys.display(),
    );
    desk.output.either(&told, text)?;
    let Some(lost) = missing.told() else { return Ok(Outcome::Done) };
    note(lost);
    Ok(Outcome::Unwell)
}

/// The file of keys of a directory when nothing else is said: not in it, so that they don't travel together.
/// None when the directory is not called by a name.
fn beside(directory: &Path) -> Option<PathBuf> {
    let mut name = directory.file_name()?.to_owned();
    name.push(".keys");
    Some(directory.with_file_name(name))
}

/// A directory to which more is added, by nobody else meanwhile.
struct Kept {
    directory: PathBuf,
    manifest: Manifest,
    master: MasterKey,
    _lock: File,
}

impl Kept {
    /// Refuses a directory that has the backup of another log, or something else.
    async fn open(desk: &Desk, directory: PathBuf) -> Result<Self, ToolError> {
        let first = desk.log.sealed_after(Position::START, 1).await?;
        let Some(first) = first.first() else {
            return Err(ToolError::Refused("the log is empty: there is nothing to keep".to_owned()));
        };
        DirBuilder::new().recursive(true).mode(PRIVATE).create(&directory).map_err(at(&directory))?;
        let master = master_key(&desk.config, &desk.attached.data_dir)?;
        let is_foreign = fs::read_dir(&directory).map_err(at(&directory))?.any(is_foreign);
        if is_foreign && segments::manifest(&directory, &master)?.is_none() {
            let refusal = format!("{} has other files in it: name an empty directory", directory.display());
            return Err(ToolError::Refused(refusal));
        }
        let lock = segments::lock(&directory)?;
        let manifest = segments::manifest(&directory, &master)?;
        segments::clean(&directory, manifest.as_ref())?;
        let manifest = match manifest {
            Some(manifest) => manifest,
            None => new_manifest(desk, first).await?,
        };
        if manifest.first_event != first.event_id || !is_continued(desk.log.as_ref(), &manifest).await? {
            let refusal = format!(
                "{} is the backup of another log, or this one was restored or changed since: name an empty \
                 directory",
                directory.display()
            );
            return Err(ToolError::Refused(refusal));
        }
        Ok(Self { directory, manifest, master, _lock: lock })
    }

    /// Everything up to where the log is now. Each segment counts as soon as it is whole.
    async fn add_all(&mut self, desk: &Desk) -> Result<(), ToolError> {
        let head = desk.log.head().await?;
        let mut progress = Progress::of("backup");
        let mut at = Position(self.manifest.to);
        let mut writing: Option<Writing> = None;
        let mut read = 0;
        while at < head {
            let page = desk.log.sealed_after(at, PAGE).await?;
            let Some(last) = page.last() else { break };
            let appends = page.chunk_by(|a, b| a.position == b.position).count() as u64;
            if desk.log.is_gapless() && last.position != at.0 + appends {
                return Err(ToolError::Refused(format!(
                    "appends are missing from the log after position {at}: see `kiroku log check`"
                )));
            }
            at = Position(last.position);
            read += page.len() as u64;
            for append in page.chunk_by(|a, b| a.position == b.position) {
                match &mut writing {
                    Some(writing) => writing.add(append)?,
                    None => writing = Some(Writing::begin(&self.directory, append)?),
                }
                if let Some(full) = writing.take_if(|writing| writing.is_full()) {
                    self.publish(desk, full).await?;
                }
            }
            progress.at(at, head, read);
        }
        if let Some(rest) = writing {
            self.publish(desk, rest).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, desk: &Desk, writing: Writing) -> Result<(), ToolError> {
        let (segment, last_event) = writing.end()?;
        let manifest = &mut self.manifest;
        manifest.to = segment.to;
        manifest.appends += segment.appends;
        manifest.events += segment.events;
        manifest.last_event = last_event;
        manifest.chain = chain(desk.log.as_ref(), segment.to).await?;
        manifest.written_at = SystemClock.now();
        manifest.program = env!("CARGO_PKG_VERSION").to_owned();
        manifest.segments.push(segment);
        segments::publish(&self.directory, manifest, &self.master)
    }
}

/// Whether the log has what was kept of it last, and goes on from there.
async fn is_continued(log: &dyn Engine, manifest: &Manifest) -> Result<bool, ToolError> {
    if manifest.segments.is_empty() {
        return Ok(true);
    }
    let last = log.sealed_after(Position(manifest.to.saturating_sub(1)), 1).await?.pop();
    let is_there =
        last.is_some_and(|last| (last.position, last.event_id) == (manifest.to, manifest.last_event));
    let (then, now) = (&manifest.chain, chain(log, manifest.to).await?);
    Ok(is_there && (then.is_none() || now.is_none() || *then == now))
}

/// The hash chain of the log at a position; none when no link ends there.
async fn chain(log: &dyn Engine, at: u64) -> Result<Option<String>, ToolError> {
    let links = log.chain_after(Some(Position(at.saturating_sub(1))), 1).await?;
    let link = links.unwrap_or_default().pop().filter(|link| link.position.0 == at);
    Ok(link.map(|link| hex(&link.hash)))
}

async fn new_manifest(desk: &Desk, first: &Sealed) -> Result<Manifest, ToolError> {
    let (recorded, _) = desk.log.stream(&instance::stream()).await?;
    let instance = Instance::of(recorded.iter().filter_map(|event| event.event.as_ref()));
    Ok(Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        url: instance.url.unwrap_or_default(),
        engine: desk.config.log.word().to_owned(),
        gapless: desk.log.is_gapless(),
        written_at: SystemClock.now(),
        first_event: first.event_id,
        last_event: Uuid::nil(),
        from: first.position,
        to: 0,
        appends: 0,
        events: 0,
        chain: None,
        segments: Vec::new(),
    })
}

/// Whether a file is none that an interrupted first run left.
fn is_foreign(entry: std::io::Result<fs::DirEntry>) -> bool {
    entry.is_ok_and(|entry| {
        let name = entry.file_name();
        name != LOCK && name != FILES && !name.to_string_lossy().ends_with(PARTIAL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_lie_beside_the_directory() {
        assert_eq!(beside(Path::new("a/b/")), Some("a/b.keys".into()));
        assert_eq!(beside(Path::new("b")), Some("b.keys".into()));
        for nameless in [".", "..", "a/..", "/"] {
            assert_eq!(beside(Path::new(nameless)), None, "{nameless}");
        }
    }
}
