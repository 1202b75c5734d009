//! Bytes on their way in: written to disk as they come, and never held whole.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt};
use md5::{Digest, Md5};
use tempfile::{Builder, TempPath};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Drive;
use super::kind::{self, HEAD_BYTES, Kind};

/// The largest file that any policy lets in, in bytes.
pub const MAX_FILE_BYTES: u64 = 262_144_000;
/// How much of a file of this machine is read at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// How long an upload may make no progress.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How long an upload may take in all, the form around it included: the largest file at 230 KB a second.
pub const WHOLE_WITHIN: Duration = Duration::from_secs(20 * 60);

/// A file that came in, on disk until it is kept or dropped.
pub struct Received {
    pub file: TempPath,
    /// In bytes.
    pub size: u64,
    /// In hex.
    pub md5: String,
    /// As the sender calls it.
    pub name: Option<String>,
    head: Vec<u8>,
    is_text: bool,
}

impl Received {
    /// What it is.
    pub fn kind(&self) -> Kind {
        kind::of(&self.head, self.is_text, self.name.as_deref())
    }
}

/// Why a file did not come in.
#[derive(Debug, thiserror::Error)]
pub enum NotReceived {
    #[error("it is larger than it may be")]
    TooLarge,
    #[error("nothing came for too long")]
    Stalled,
    #[error("it was broken off: {0}")]
    BrokenOff(String),
    #[error("it can't be written: {0}")]
    Disk(#[from] io::Error),
}

/// Writes what comes to a file on disk.
pub struct Writer {
    file: File,
    path: TempPath,
    md5: Md5,
    size: u64,
    head: Vec<u8>,
    text: Text,
}

impl Drive {
    /// Begins a file.
    pub async fn begin(&self) -> io::Result<Writer> {
        let directory = self.incoming.clone();
        let made = tokio::task::spawn_blocking(move || make(&directory));
        let (file, path) = made.await.map_err(io::Error::other)??;
        let (md5, text) = (Md5::new(), Text::default());
        Ok(Writer { file: File::from_std(file), path, md5, size: 0, head: Vec::new(), text })
    }

    /// Takes a file in from a stream, as long as it isn't larger than it may be.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        name: Option<String>,
        most: u64,
        mut pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Received, NotReceived> {
        let mut writer = self.begin().await?;
        while let Some(piece) =
            timeout(STALLED_AFTER, pieces.next()).await.map_err(|_| NotReceived::Stalled)?
        {
            let piece = piece.map_err(|error| NotReceived::BrokenOff(error.to_string()))?;
            if writer.size + piece.len() as u64 > most {
                return Err(NotReceived::TooLarge);
            }
            writer.write(&piece).await?;
        }
        Ok(writer.end(name).await?)
    }

    /// Takes a file of this machine in.
    pub async fn receive_file(
        &self,
        name: Option<String>,
        most: u64,
        file: &Path,
    ) -> Result<Received, NotReceived> {
        let (mut writer, mut file) = (self.begin().await?, File::open(file).await?);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = file.read(&mut piece).await?;
            if read == 0 {
                return Ok(writer.end(name).await?);
            }
            if writer.size + read as u64 > most {
                return Err(NotReceived::TooLarge);
            }
            writer.write(&piece[..read]).await?;
        }
    }
}

/// Makes an empty file.
pub fn make(directory: &Path) -> io::Result<(std::fs::File, TempPath)> {
    std::fs::create_dir_all(directory)?;
    Ok(Builder::new().prefix("upload-").tempfile_in(directory)?.into_parts())
}

impl Writer {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.md5.update(piece);
        self.size += piece.len() as u64;
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..wanted]);
        self.text.read(piece);
        self.file.write_all(piece).await
    }

    pub async fn end(mut self, name: Option<String>) -> io::Result<Received> {
        self.file.flush().await?;
        let md5 = self.md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let is_text = self.text.is_whole();
        Ok(Received { file: self.path, size: self.size, md5, name, head: self.head, is_text })
    }
}

/// Whether all bytes so far are text: UTF-8, and without the one character that no text has.
#[derive(Default)]
struct Text {
    is_other: bool,
    /// The beginning of a character that the next piece goes on with.
    begun: Vec<u8>,
}

impl Text {
    fn read(&mut self, piece: &[u8]) {
        if self.is_other || piece.contains(&0) {
            self.is_other = true;
            return;
        }
        let mut piece = piece;
        // No character has more bytes than four.
        while !self.begun.is_empty() && !piece.is_empty() {
            let (first, rest) = piece.split_at(1);
            self.begun.extend_from_slice(first);
            piece = rest;
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(error) if error.error_len().is_none() => (),
                Err(_) => self.is_other = true,
            }
            if self.is_other {
                return;
            }
        }
        if let Err(error) = std::str::from_utf8(piece) {
            match error.error_len() {
                None => self.begun = piece[error.valid_up_to()..].to_vec(),
                Some(_) => self.is_other = true,
            }
        }
    }

    fn is_whole(&self) -> bool {
        !self.is_other && self.begun.is_empty()
    }
}

/// Gives one piece at a time: a reader that takes all it can get before it does anything with it would hold
/// a whole upload of a fast sender.
pub struct OneByOne<S> {
    pieces: S,
    gave: bool,
}

impl<S> OneByOne<S> {
    pub fn new(pieces: S) -> Self {
        Self { pieces, gave: false }
    }
}

impl<S: Stream + Unpin> Stream for OneByOne<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if std::mem::take(&mut self.gave) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.pieces).poll_next(cx);
        self.gave = matches!(polled, Poll::Ready(Some(_)));
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_text(bytes: &[u8], size: usize) -> bool {
        let mut text = Text::default();
        bytes.chunks(size).for_each(|piece| text.read(piece));
        text.is_whole()
    }

    #[test]
    fn text_is_text_however_it_is_cut() {
        for size in 1..8 {
            assert!(is_text("aé日𝄞z".as_bytes(), size), "{size}");
            for other in [&b"a\xff"[..], b"a\xe6\x97", b"\xe6\x97a", b"a\0b", b"\xc0\x80"] {
                assert!(!is_text(other, size), "{other:?} by {size}");
            }
        }
    }
}
