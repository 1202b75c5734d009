//! Pictures, and archives of them, are looked at by a process of their own, with little memory and time, that can do nothing but
//! read one file and write others: whatever a picture does to a decoder, the server goes on.
//!
//! The process is this program again, by a command that `--help` doesn't show ([`crate::cli`]); what it does
//! is in [`look`].

mod blur;
pub mod look;
mod vector;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::archive;

/// The command by which this program looks at a picture.
pub const COMMAND: &str = "look-at-picture";
/// How long one picture may take, and one archive.
const LOOKED_WITHIN: Duration = Duration::from_secs(20);
const UNPACKED_WITHIN: Duration = Duration::from_secs(120);
/// Pictures that are looked at at the same time; more wait.
const AT_ONCE: usize = 2;
/// The most that is read of what is said of a picture, in bytes.
const MAX_FINDINGS_BYTES: u64 = 4 * 1024;

/// What is to be made of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// A small picture, a blur, and the file without what it tells of its maker.
    Upload,
    /// A picture to be shown beside a name.
    Avatar,
    /// One in a line of text.
    Emoji,
    /// One of those two that doesn't move, or any other.
    Still,
    /// Of a page that a link leads to.
    Preview,
}

/// What was found out about a picture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// In pixels, as it is shown.
    pub width: u32,
    pub height: u32,
    /// How it is turned, 1 to 8, as EXIF numbers it.
    pub orientation: u8,
    pub blurhash: Option<String>,
}

/// A picture that was looked at.
pub struct Looked {
    /// None when it can't be read.
    pub findings: Option<Findings>,
    directory: TempDir,
}

impl Looked {
    /// The file without what it tells of its maker, where it told anything.
    pub fn clean(&self) -> Option<PathBuf> {
        existing(self.directory.path().join(look::CLEAN))
    }

    /// The small picture, in WebP.
    pub fn small(&self) -> Option<PathBuf> {
        existing(self.directory.path().join(look::SMALL))
    }
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then_some(path)
}

/// Whether pictures of this type can be looked at.
pub fn is_readable(media_type: &str) -> bool {
    ["image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"]
        .contains(&media_type)
}

/// Who looks at pictures.
pub struct Looker {
    program: PathBuf,
    slots: Semaphore,
}

#[derive(Debug, thiserror::Error)]
pub enum NotLooked {
    #[error("the process that looks at pictures: {0}")]
    Process(#[from] std::io::Error),
    #[error("no more pictures are looked at")]
    Closed,
}

impl Looker {
    /// `program` is this one.
    pub fn new(program: PathBuf) -> Self {
        Self { program, slots: Semaphore::new(AT_ONCE) }
    }

    /// Looks at a picture and makes a small one of it. `beside` is where the results may be for a while.
    pub async fn look(&self, picture: &Path, wanted: Wanted, beside: &Path) -> Result<Looked, NotLooked> {
        let wanted = serde_json::to_value(wanted).ok();
        let wanted = wanted.as_ref().and_then(|word| word.as_str()).unwrap_or_default();
        let (said, directory) = self.ask(COMMAND, picture, &[wanted], LOOKED_WITHIN, beside).await?;
        let findings = said.and_then(|said| serde_json::from_slice(&said).ok());
        Ok(Looked { findings, directory })
    }

    /// Unpacks an archive of emoji; where to, or why not. `beside` is where that may be for a while.
    pub async fn unpack(&self, archive: &Path, beside: &Path) -> Result<Result<TempDir, String>, NotLooked> {
        let (said, directory) = self.ask(archive::COMMAND, archive, &[], UNPACKED_WITHIN, beside).await?;
        Ok(match said {
            Some(said) if said.is_empty() => Ok(directory),
            Some(why) => Err(String::from_utf8_lossy(&why).into_owned()),
            None => Err("it takes too much".to_owned()),
        })
    }

    /// Has this program look at a file, with little memory and time: what it said, if it came to an end, and what it
    /// made.
    async fn ask(
        &self,
        command: &str,
        file: &Path,
        more: &[&str],
        within: Duration,
        beside: &Path,
    ) -> Result<(Option<Vec<u8>>, TempDir), NotLooked> {
        let _slot = self.slots.acquire().await.map_err(|_| NotLooked::Closed)?;
        let directory = tempfile::Builder::new().prefix("picture-").tempdir_in(beside)?;
        let mut child = Command::new(&self.program)
            .arg(command)
            .arg(file)
            .arg(directory.path())
            .args(more)
            .env_clear()
            // Memory that the allocator reserves for later would count as held by the program.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let said = child.stdout.take();
        let looking = async {
            let mut findings = Vec::new();
            if let Some(said) = said {
                said.take(MAX_FINDINGS_BYTES).read_to_end(&mut findings).await?;
            }
            let status = child.wait().await?;
            Ok::<_, std::io::Error>((status, findings))
        };
        let said = match timeout(within, looking).await {
            Ok(Ok((status, said))) if status.success() => Some(said),
            Ok(Ok((status, _))) => {
                tracing::debug!(%status, "a file can't be read");
                None
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                tracing::debug!("a file takes too long");
                None
            }
        };
        Ok((said, directory))
    }
}
