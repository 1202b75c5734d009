//! Archives of custom emoji as Misskey writes them: `meta.json`, and beside it a picture for each emoji.
//!
//! What comes from elsewhere is unpacked by a process of its own, with as little as one that looks at a picture
//! ([`super::picture`]): it may be made to take all that there is. Nothing in an archive says where something is
//! written: pictures are numbered as the emoji are listed, and what is not a plain name is refused.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use axum::body::Bytes;
use domain::emoji::is_name;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::incoming::make;
use super::picture::look::bind;

/// The command by which this program unpacks an archive.
pub const COMMAND: &str = "unpack-archive";
/// What lists the emoji of an archive.
pub const META: &str = "meta.json";
/// The form of archives that is written, and the latest that is read.
pub const META_VERSION: u32 = 2;
/// What the unpacked ones are listed in.
const LISTED: &str = "listed.json";
/// The most emoji of an archive.
pub const MAX_EMOJI: usize = 20_000;
/// The most that an archive may hold beside their pictures.
const MAX_OTHERS: usize = 100;
/// The largest list, the largest picture, and the most of all pictures together, in bytes.
const MAX_META_BYTES: u64 = 32 * 1024 * 1024;
const MAX_PICTURE_BYTES: u64 = 16 * 1024 * 1024;
const MAX_UNPACKED_BYTES: u64 = 512 * 1024 * 1024;
/// How much larger something may become: pictures are small already. Of little, in bytes, it doesn't matter.
const MAX_RATIO: u64 = 100;
const LITTLE_BYTES: u64 = 64 * 1024;
/// The longest name in an archive, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Pieces of an archive on their way to its file.
const MAX_QUEUED_PIECES: usize = 16;

/// What an archive says of an emoji.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    pub name: String,
    #[serde(default)]
    pub category: Option<String>,
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub license: Option<String>,
    #[serde(default)]
    pub is_sensitive: bool,
    #[serde(default)]
    pub local_only: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    meta_version: u32,
    emojis: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(default)]
    file_name: String,
    #[serde(default)]
    downloaded: bool,
    emoji: About,
}

/// Why an archive is not unpacked.
type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// The command: the archive, and the directory for what is in it. Says nothing when all is well, or why not.
pub fn run(archive: &Path, made: &Path) -> ExitCode {
    if bind().is_err() {
        return ExitCode::FAILURE;
    }
    match unpack(archive, made) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => match writeln!(io::stdout(), "{refusal}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

fn unpack(archive: &Path, made: &Path) -> Result<(), Refusal> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(archive)?))?;
    if archive.len() > MAX_EMOJI + MAX_OTHERS {
        return Err("there is too much in it".into());
    }
    let sizes = sizes(&mut archive)?;
    let meta = *sizes.get(META).ok_or("it has no list")?;
    if meta > MAX_META_BYTES {
        return Err("its list is too long".into());
    }
    let mut text = Vec::new();
    archive.by_name(META)?.take(meta).read_to_end(&mut text)?;
    let meta: Meta = serde_json::from_slice(&text)?;
    drop(text);
    if meta.meta_version > META_VERSION {
        return Err("it is of a later form".into());
    }
    if meta.emojis.len() > MAX_EMOJI {
        return Err("it lists too many".into());
    }
    let (mut listed, mut left) = (Vec::new(), MAX_UNPACKED_BYTES);
    for (number, record) in (1_usize..).zip(meta.emojis) {
        // Misskey lists also what it had no picture of.
        if !record.downloaded || !is_name(&record.emoji.name) {
            continue;
        }
        if !is_plain(&record.file_name) {
            return Err("a name in its list is not one of a file".into());
        }
        let Some(size) = sizes.get(&record.file_name).copied() else { continue };
        left = left.checked_sub(size).ok_or("it is too large")?;
        if size > MAX_PICTURE_BYTES {
            return Err("a picture is too large".into());
        }
        let picture = archive.by_name(&record.file_name)?;
        let mut file = File::create(made.join(number.to_string()))?;
        // One byte more would be found to be too many.
        if io::copy(&mut picture.take(size + 1), &mut file)? != size {
            return Err("a picture is not as large as it says".into());
        }
        listed.push((number, record.emoji));
    }
    fs::write(made.join(LISTED), serde_json::to_vec(&listed)?)?;
    Ok(())
}

/// How large is what is in an archive, by name.
fn sizes(archive: &mut ZipArchive<impl Read + Seek>) -> Result<HashMap<String, u64>, Refusal> {
    let mut sizes = HashMap::new();
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at)?;
        let name = entry.name()?;
        if entry.is_dir() && is_plain(name.trim_end_matches('/')) {
            continue;
        }
        if !is_plain(&name) || !entry.is_file() {
            return Err("a name in it leads elsewhere".into());
        }
        if entry.encrypted() {
            return Err("it is encrypted".into());
        }
        if entry.size() > LITTLE_BYTES && entry.size() / MAX_RATIO > entry.compressed_size() {
            return Err("something in it would become too large".into());
        }
        sizes.insert(name.into_owned(), entry.size());
    }
    Ok(sizes)
}

/// Whether it names something in a directory, and nothing else.
fn is_plain(name: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || ['_', '-', '.', ' ', '@', '+'].contains(&c);
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.starts_with('.') && name.chars().all(is_letter)
}

/// The emoji that were unpacked, each with where its picture is.
pub fn unpacked(made: &Path) -> io::Result<Vec<(usize, About, PathBuf)>> {
    let listed: Vec<(usize, About)> = serde_json::from_slice(&fs::read(made.join(LISTED))?)?;
    Ok(listed.into_iter().map(|(number, about)| (number, about, made.join(number.to_string()))).collect())
}

/// Whether an archive can have a file of this name.
pub fn may_have(name: &str) -> bool {
    is_plain(name) && name != META
}

enum Piece {
    Begin(String),
    Bytes(Bytes),
}

/// An archive that is being written.
pub struct Packer {
    pieces: mpsc::Sender<Piece>,
    written: JoinHandle<Result<TempPath, io::Error>>,
}

impl Packer {
    pub(super) fn begin(directory: PathBuf) -> Self {
        let (pieces, queue) = mpsc::channel(MAX_QUEUED_PIECES);
        Self { pieces, written: spawn_blocking(move || pack(&directory, queue)) }
    }

    /// Begins a file; what is written from now on is in it.
    pub async fn file(&self, name: &str) {
        self.send(Piece::Begin(name.to_owned())).await;
    }

    pub async fn write(&self, bytes: impl Into<Bytes>) {
        self.send(Piece::Bytes(bytes.into())).await;
    }

    /// The whole archive.
    pub async fn end(self) -> io::Result<TempPath> {
        drop(self.pieces);
        self.written.await.map_err(io::Error::other)?
    }

    async fn send(&self, piece: Piece) {
        // Who hears nothing any more says why in the end.
        _ = self.pieces.send(piece).await;
    }
}

fn pack(directory: &Path, mut pieces: mpsc::Receiver<Piece>) -> io::Result<TempPath> {
    let (file, path) = make(directory)?;
    let mut archive = ZipWriter::new(BufWriter::new(file));
    // Pictures are small already; and what is not compressed can be read by everybody.
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Begin(name) => archive.start_file(name, options).map_err(io::Error::other)?,
            Piece::Bytes(bytes) => archive.write_all(&bytes)?,
        }
    }
    archive.finish().map_err(io::Error::other)?.flush()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn packed(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut archive = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in files {
            archive.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn listing(emoji: &[(&str, &str)]) -> Vec<u8> {
        let record = |(name, file): &(&str, &str)| json!({ "fileName": file, "downloaded": true, "emoji": { "name": name, "category": null } });
        let emoji: Vec<_> = emoji.iter().map(record).collect();
        json!({ "metaVersion": 2, "emojis": emoji }).to_string().into_bytes()
    }

    fn unpack_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("archive");
        fs::write(&archive, bytes).unwrap();
        unpack(&archive, directory.path()).map_err(|refusal| refusal.to_string())?;
        let unpacked = unpacked(directory.path()).unwrap().into_iter();
        Ok(unpacked.map(|(_, about, path)| (about.name, fs::read(path).unwrap())).collect())
    }

    #[test]
    fn pictures_are_unpacked_that_are_listed() {
        let meta = listing(&[("blob", "blob.png"), ("a b", "blob.png"), ("gone", "gone.png")]);
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let files = [(META, &meta[..]), ("blob.png", b"picture"), ("unlisted.png", b"x")];
            let unpacked = unpack_all(&packed(&files, method)).unwrap();
            assert_eq!(unpacked, [("blob".to_owned(), b"picture".to_vec())]);
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let meta = listing(&[]);
        for name in ["../a.png", "/etc/a.png", "a/b.png", "a\\b.png", ".hidden", "a\0b"] {
            let files = [(META, &meta[..]), (name, b"x")];
            let refused = unpack_all(&packed(&files, CompressionMethod::Stored)).unwrap_err();
            assert!(refused.contains("leads elsewhere"), "{name}: {refused}");
            let listed = listing(&[("blob", name)]);
            let refused = unpack_all(&packed(&[(META, &listed)], CompressionMethod::Stored)).unwrap_err();
            assert!(refused.contains("not one of a file"), "{name}: {refused}");
        }
    }

    #[test]
    fn what_would_become_too_much_is_refused() {
        let much = vec![0; 1 << 20];
        let meta = listing(&[("blob", "blob.png")]);
        let bomb = packed(&[(META, &meta), ("blob.png", &much)], CompressionMethod::Deflated);
        assert!(unpack_all(&bomb).unwrap_err().contains("too large"));
        // Listed again and again, it would come to too much, too.
        let many: Vec<_> = (0..600).map(|_| ("blob", "blob.png")).collect();
        let again = packed(&[(META, &listing(&many)), ("blob.png", &much)], CompressionMethod::Stored);
        assert!(unpack_all(&again).unwrap_err().contains("too large"));
        let large = vec![0; MAX_PICTURE_BYTES as usize + 1];
        let large = packed(&[(META, &meta), ("blob.png", &large)], CompressionMethod::Stored);
        assert!(unpack_all(&large).unwrap_err().contains("too large"));
        let long: Vec<_> = (0..=MAX_EMOJI).map(|_| ("blob", "blob.png")).collect();
        assert!(unpack_all(&packed(&[(META, &listing(&long))], CompressionMethod::Stored)).is_err());
    }

    #[test]
    fn what_is_no_archive_of_emoji_is_refused() {
        let whole =
            packed(&[(META, &listing(&[("blob", "b.png")])), ("b.png", b"x")], CompressionMethod::Stored);
        assert!(unpack_all(&whole).is_ok());
        for at in (0..whole.len()).step_by(3) {
            assert!(unpack_all(&whole[..at]).is_err(), "cut off at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // Whatever it is by now, it does no harm.
            _ = unpack_all(&changed);
        }
        for other in [&packed(&[("b.png", b"x")], CompressionMethod::Stored)[..], b"", b"PK\x05\x06"] {
            assert!(unpack_all(other).is_err());
        }
        let later = json!({ "metaVersion": 3, "emojis": [] }).to_string();
        assert!(unpack_all(&packed(&[(META, later.as_bytes())], CompressionMethod::Stored)).is_err());
    }
}
