//! What people have in their drives, in a backup: `files/PERSON/KEY` in its directory, beside the log; and the
//! pictures of custom emoji, `files/server/KEY`.
//!
//! A file is kept in pieces of [`PIECE_BYTES`], each sealed with the key of its owner, with its length before
//! it in four bytes. A piece is bound to the owner, the key, its number and whether it is the last: so nothing
//! in a file can be changed, moved or cut off unseen, and an erased person's files can't be read again in any
//! copy. Under one key is always the same, so what is there is not copied again. Which files there are, the
//! log says.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use commands::log::Cipher;
use domain::drive::{self, File as DriveFile};
use domain::emoji::{self, Emoji};
use domain::log::{EventLog, Position};
use domain::{EmojiId, FileId, Fold, UserId};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::ToolError;
use super::desk::Desk;
use super::output::{Progress, note};
use super::segments::{PARTIAL, PRIVATE, Whole, at};
use crate::drive::INCOMING;
use crate::drive::keep::is_key;
use crate::drive::store::{Bytes, FILES, Store, StoreError, directory, owner_of};

/// Bytes of a file that are sealed together.
const PIECE_BYTES: usize = 1 << 20;
/// A sealed piece is longer by no more than this, in bytes.
const MAX_SEALING_BYTES: usize = 64;
/// Files looked at together.
const PAGE: usize = 1_000;
/// Files looked for at the same time: they may be far away.
const LOOKS_AT_ONCE: usize = 16;
/// The most missing files that are named.
const MAX_NAMED: usize = 100;

/// The server itself, where there has to be a person.
const SERVER: UserId = UserId(Uuid::nil());

/// The files of a backup, beside those of the server.
pub struct Files<'d> {
    desk: &'d Desk,
    store: Store,
    directory: PathBuf,
}

/// What was copied.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Copied {
    pub files: u64,
    pub bytes: u64,
}

/// Files that are told of and not there.
#[derive(Debug, Default, Serialize)]
pub struct Missing {
    pub looked_at: u64,
    pub missing: u64,
    /// Some of those that are missing.
    pub named: Vec<Lost>,
}

#[derive(Debug, Serialize)]
pub struct Lost {
    #[serde(flatten)]
    pub what: What,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    pub key: String,
}

/// What bytes belong to.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    File(FileId),
    Emoji(EmojiId),
}

/// Something that the read models tell of, and the keys of its bytes.
struct Told {
    what: What,
    /// None: the server.
    owner: Option<UserId>,
    keys: Vec<String>,
}

/// Where reading what the read models tell of goes on: first files, the newest first, then emoji.
enum Next {
    Files(Option<FileId>),
    Emoji(Option<EmojiId>),
}

/// What came back from a backup.
#[derive(Debug, Default, Serialize)]
pub struct Restored {
    pub files: u64,
    /// That were there before.
    pub already: u64,
    /// That the backup doesn't have, or not as they were kept.
    pub missing: u64,
    pub damaged: u64,
}

/// Why a file can't be had from a backup.
#[derive(Debug)]
enum Unusable {
    Missing,
    Damaged,
    Here(io::Error),
}

impl<'d> Files<'d> {
    /// Nothing is made before there is a file.
    pub fn of(desk: &'d Desk, backup: &Path) -> Result<Self, ToolError> {
        Ok(Self { desk, store: desk.files()?, directory: backup.join(FILES) })
    }

    /// Removes from the backup what is gone: deleted, or of somebody who was erased; says how much. To be done
    /// before the log is read, which then says so, too.
    pub async fn prune(&self) -> Result<u64, ToolError> {
        let mut removed = 0;
        for owner in entries(&self.directory)? {
            let (path, name) = owner.map_err(at(&self.directory))?;
            let Some(owner) = owner_of(&name) else { continue };
            let is_erased = self.cipher(owner).await?.is_none();
            let mut keys = Vec::with_capacity(PAGE);
            for file in entries(&path)? {
                let (file, key) = file.map_err(at(&path))?;
                if is_erased || key.ends_with(PARTIAL) {
                    fs::remove_file(&file).map_err(at(&file))?;
                    removed += u64::from(is_key(&key));
                } else if is_key(&key) {
                    keys.push(key);
                }
                if keys.len() == PAGE {
                    removed += self.prune_keys(owner, &path, std::mem::take(&mut keys)).await?;
                }
            }
            removed += self.prune_keys(owner, &path, keys).await?;
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                    return Err(at(&path)(error));
                }
                _ => (),
            }
        }
        Ok(removed)
    }

    /// A file of which the read model doesn't know any more, or not yet: then it is there still.
    async fn prune_keys(
        &self,
        owner: Option<UserId>,
        path: &Path,
        keys: Vec<String>,
    ) -> Result<u64, ToolError> {
        let mut removed = 0;
        // The server's own are few: each is looked for.
        for key in projections::drive::unknown(&self.desk.attached.pool, &keys).await? {
            if self.store.size(owner, &key).await?.is_none() {
                let file = path.join(key);
                fs::remove_file(&file).map_err(at(&file))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Copies what the backup does not have.
    pub async fn add(&self) -> Result<Copied, ToolError> {
        let mut progress = Progress::counting("files", "files");
        let total = Position(projections::drive::count(&self.desk.attached.pool).await?);
        let (mut copied, mut seen) = (Copied::default(), 0);
        let mut there = self.store.all();
        while let Some((owner, key)) = there.try_next().await? {
            seen += 1;
            progress.at(Position(seen), total.max(Position(seen)), seen);
            let path = self.path(owner, &key);
            if path.try_exists().map_err(at(&path))? {
                continue;
            }
            // Nothing is copied any more of whoever is being erased.
            let Some(cipher) = self.cipher(owner).await? else { continue };
            let Some(found) = self.store.get(owner, &key, None).await? else { continue };
            let directory = self.directory.join(directory(owner));
            DirBuilder::new().recursive(true).mode(PRIVATE).create(&directory).map_err(at(&directory))?;
            copied.bytes += seal(&cipher, owner, &key, found.bytes, &path).await?;
            copied.files += 1;
        }
        Ok(copied)
    }

    /// Files that should be in the backup and are not, since the server has lost them. One that came a moment ago
    /// is for the next time.
    pub async fn missing(&self) -> Result<Missing, ToolError> {
        let (pool, log) = (&self.desk.attached.pool, self.desk.log.as_ref());
        missing(pool, log, usize::MAX, async |owner, key| {
            let path = self.path(owner, key);
            Ok(path.try_exists().map_err(at(&path))? || self.store.size(owner, key).await?.is_some())
        })
        .await
    }

    /// Brings back the bytes of all that the read models tell of; what can't be had is told, and left out.
    pub async fn restore(&self) -> Result<Restored, ToolError> {
        let incoming = self.desk.config.data_dir.join(INCOMING);
        DirBuilder::new().recursive(true).mode(PRIVATE).create(&incoming).map_err(at(&incoming))?;
        let mut progress = Progress::counting("files", "files");
        let total = Position(projections::drive::count(&self.desk.attached.pool).await?);
        let (mut restored, mut seen, mut next) = (Restored::default(), 0, Next::Files(None));
        loop {
            let page = told(&self.desk.attached.pool, &mut next, PAGE).await?;
            if page.is_empty() {
                return Ok(restored);
            }
            for Told { owner, keys, .. } in page {
                seen += 1;
                progress.at(Position(seen), total.max(Position(seen)), seen);
                for key in keys {
                    self.bring_back(owner, &key, &incoming, &mut restored).await?;
                }
            }
        }
    }

    async fn bring_back(
        &self,
        owner: Option<UserId>,
        key: &str,
        incoming: &Path,
        restored: &mut Restored,
    ) -> Result<(), ToolError> {
        if self.store.size(owner, key).await?.is_some() {
            restored.already += 1;
            return Ok(());
        }
        let mut opened = tempfile::Builder::new().tempfile_in(incoming).map_err(at(incoming))?;
        let cipher = self.cipher(owner).await?;
        match open(cipher, owner, key, &self.path(owner, key), &mut opened) {
            Ok(()) => {
                self.store.put(owner, key, opened.path().to_owned()).await?;
                restored.files += 1;
            }
            Err(Unusable::Missing) => {
                note(format!("the backup has no {}/{key}", directory(owner)));
                restored.missing += 1;
            }
            Err(Unusable::Damaged) => {
                note(format!("{} is not what was kept: it is left out", self.path(owner, key).display()));
                restored.damaged += 1;
            }
            Err(Unusable::Here(error)) => return Err(at(incoming)(error)),
        }
        Ok(())
    }

    fn path(&self, owner: Option<UserId>, key: &str) -> PathBuf {
        self.directory.join(directory(owner)).join(key)
    }

    /// What somebody's files are sealed with; none when they are erased.
    async fn cipher(&self, owner: Option<UserId>) -> Result<Option<Arc<Cipher>>, ToolError> {
        Ok(self.desk.keyring.of(owner.unwrap_or(SERVER)).await?)
    }
}

/// What the read models tell of, the newest files first and at most so much, whose bytes are not there. The log
/// says whether it has been deleted a moment ago.
pub async fn missing(
    pool: &PgPool,
    log: &(impl EventLog + ?Sized),
    most: usize,
    is_there: impl AsyncFn(Option<UserId>, &str) -> Result<bool, ToolError>,
) -> Result<Missing, ToolError> {
    let (mut found, mut next) = (Missing::default(), Next::Files(None));
    let mut left = most;
    while left > 0 {
        let page = told(pool, &mut next, left.min(PAGE)).await?;
        if page.is_empty() {
            break;
        }
        left -= page.len();
        found.looked_at += page.len() as u64;
        let looks = page.iter().flat_map(|told| told.keys.iter().map(move |key| (told, key)));
        let looks =
            looks.map(async |(told, key)| Ok::<_, ToolError>((told, key, is_there(told.owner, key).await?)));
        let mut looks = stream::iter(looks).buffered(LOOKS_AT_ONCE);
        while let Some((told, key, is_there)) = looks.try_next().await? {
            if !is_there && is_kept(log, told.what, key).await? {
                found.missing += 1;
                if found.named.len() < MAX_NAMED {
                    found.named.push(Lost { what: told.what, owner: told.owner, key: key.clone() });
                }
            }
        }
    }
    Ok(found)
}

/// The next of what the read models tell of; nothing at the end.
async fn told(pool: &PgPool, next: &mut Next, limit: usize) -> sqlx::Result<Vec<Told>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let keys = |key: String, small: Option<String>| std::iter::once(key).chain(small).collect();
    if let Next::Files(before) = *next {
        let page = projections::drive::kept(pool, before, limit).await?;
        if let Some(last) = page.last() {
            *next = Next::Files(Some(last.id));
            let told = |file: projections::drive::Kept| Told {
                what: What::File(file.id),
                owner: Some(file.owner),
                keys: keys(file.key, file.thumbnail),
            };
            return Ok(page.into_iter().map(told).collect());
        }
        *next = Next::Emoji(None);
    }
    let Next::Emoji(after) = *next else { return Ok(Vec::new()) };
    let page = projections::emoji::pictures(pool, after, limit).await?;
    *next = Next::Emoji(page.last().map(|(last, _)| *last).or(after));
    let told = |(id, picture): (EmojiId, emoji::Picture)| Told {
        what: What::Emoji(id),
        owner: None,
        keys: keys(picture.key, picture.thumbnail),
    };
    Ok(page.into_iter().map(told).collect())
}

impl Missing {
    /// For people, when there are any.
    pub fn told(&self) -> Option<String> {
        (self.missing > 0).then(|| {
            let mut lines = vec![format!("files: {} of {} are missing", self.missing, self.looked_at)];
            let named = self.named.iter().map(|lost| {
                let of = match lost.what {
                    What::File(file) => format!("file {file}"),
                    What::Emoji(emoji) => format!("emoji {emoji}"),
                };
                format!("  {}/{} of {of}", directory(lost.owner), lost.key)
            });
            lines.extend(named);
            let more = self.missing - self.named.len() as u64;
            if more > 0 {
                lines.push(format!("  and {more} more"));
            }
            lines.join("\n")
        })
    }
}

impl std::ops::AddAssign for Copied {
    fn add_assign(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

async fn is_kept(log: &(impl EventLog + ?Sized), what: What, key: &str) -> Result<bool, ToolError> {
    let stream = match what {
        What::File(file) => drive::stream(file),
        What::Emoji(emoji) => emoji::stream(emoji),
    };
    let (recorded, _) = log.stream(&stream).await?;
    let events = recorded.iter().filter_map(|recorded| recorded.event.as_ref());
    Ok(match what {
        What::File(_) => <DriveFile as Fold>::of(events).existing().is_some(),
        What::Emoji(_) => <Emoji as Fold>::of(events).definition.is_some_and(|emoji| {
            let picture = emoji.picture;
            picture.key == key || picture.thumbnail.as_deref() == Some(key)
        }),
    })
}

/// What is in a directory, with its name; nothing when it is not there.
fn entries(
    directory: &Path,
) -> Result<impl Iterator<Item = io::Result<(PathBuf, String)>> + use<>, ToolError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(directory)(error)),
    };
    let named = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))
    };
    Ok(entries.into_iter().flatten().map(named))
}

/// Writes a file of a backup; says how long it is.
async fn seal(
    cipher: &Cipher,
    owner: Option<UserId>,
    key: &str,
    mut bytes: Bytes,
    path: &Path,
) -> Result<u64, ToolError> {
    let mut file = Whole::create(path).map_err(at(path))?;
    let (mut number, mut written) = (0, 0);
    let mut write = |piece: &[u8], is_last: bool| {
        let sealed = cipher.seal(piece, &bound_to(owner, key, number, is_last))?;
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes();
        file.write_all(&length).and_then(|()| file.write_all(&sealed)).map_err(at(path))?;
        number += 1;
        written += (length.len() + sealed.len()) as u64;
        Ok::<_, ToolError>(())
    };
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while let Some(more) = bytes.next().await {
        let more = more.map_err(StoreError::from)?;
        let mut more = &more[..];
        while !more.is_empty() {
            if piece.len() == PIECE_BYTES {
                write(&piece, false)?;
                piece.clear();
            }
            let (now, later) = more.split_at(more.len().min(PIECE_BYTES - piece.len()));
            piece.extend_from_slice(now);
            more = later;
        }
    }
    write(&piece, true)?;
    file.finish().map_err(at(path))?;
    Ok(written)
}

/// Reads a file of a backup back.
fn open(
    cipher: Option<Arc<Cipher>>,
    owner: Option<UserId>,
    key: &str,
    path: &Path,
    to: &mut impl Write,
) -> Result<(), Unusable> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Damaged,
    })?;
    let cipher = cipher.ok_or(Unusable::Damaged)?;
    let mut file = BufReader::new(file);
    let mut sealed = Vec::new();
    for number in 0.. {
        let mut length = [0; 4];
        file.read_exact(&mut length).map_err(|_| Unusable::Damaged)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > PIECE_BYTES + MAX_SEALING_BYTES {
            return Err(Unusable::Damaged);
        }
        sealed.resize(length, 0);
        file.read_exact(&mut sealed).map_err(|_| Unusable::Damaged)?;
        let is_last = file.fill_buf().map_err(|_| Unusable::Damaged)?.is_empty();
        let piece = cipher.open(&sealed, &bound_to(owner, key, number, is_last)).ok_or(Unusable::Damaged)?;
        to.write_all(&piece).map_err(Unusable::Here)?;
        if is_last {
            break;
        }
    }
    to.flush().map_err(Unusable::Here)
}

/// What a piece is bound to. The key is the only part of unknown length, and the last.
fn bound_to(owner: Option<UserId>, key: &str, number: u64, is_last: bool) -> Vec<u8> {
    let (number, is_last) = (number.to_be_bytes(), [u8::from(is_last)]);
    let owner = owner.unwrap_or(SERVER);
    [b"kiroku: file", &owner.0.as_bytes()[..], &number, &is_last, key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use commands::log::Keyring;

    use super::*;

    const OWNER: Option<UserId> = Some(UserId(Uuid::from_u128(1)));

    fn cipher(purpose: &str) -> Arc<Cipher> {
        Arc::new(Keyring::memory().cipher(purpose))
    }

    async fn kept(path: &Path, content: &[u8]) {
        let chunks: Vec<_> = content.chunks(300_000).map(|chunk| Ok(chunk.to_vec().into())).collect();
        let bytes = futures_util::stream::iter(chunks).boxed();
        let written = seal(&cipher("hers"), OWNER, "k", bytes, path).await.unwrap();
        assert_eq!(written, fs::metadata(path).unwrap().len());
    }

    fn back(path: &Path, key: &str) -> Result<Vec<u8>, Unusable> {
        let mut content = Vec::new();
        open(Some(cipher("hers")), OWNER, key, path, &mut content).map(|()| content)
    }

    #[tokio::test]
    async fn a_file_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k");
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            kept(&path, &content).await;
            assert!(back(&path, "k").unwrap() == content, "{length}");
            assert!(!fs::read(&path).unwrap().windows(16).any(|bytes| content.starts_with(bytes)));
        }
    }

    #[tokio::test]
    async fn what_was_changed_moved_or_cut_off_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k");
        assert!(matches!(back(&path, "k"), Err(Unusable::Missing)));
        kept(&path, &vec![7; 2 * PIECE_BYTES + 9]).await;
        let whole = fs::read(&path).unwrap();
        let sealed = PIECE_BYTES + 4 + 29;
        let (first, second) = (&whole[..sealed], &whole[sealed..2 * sealed]);
        let mut changed = whole.clone();
        changed[sealed + 100] ^= 1;
        let swapped = [second, first, &whole[2 * sealed..]].concat();
        let longer = [&whole[..], first].concat();
        for wrong in
            [&changed, &swapped, &longer, &first.to_vec(), &whole[..2 * sealed].to_vec(), &Vec::new()]
        {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(back(&path, "k"), Err(Unusable::Damaged)));
        }
        fs::write(&path, &whole).unwrap();
        assert!(matches!(back(&path, "l"), Err(Unusable::Damaged)), "it is another one's");
        let other = open(Some(cipher("his")), OWNER, "k", &path, &mut Vec::new());
        assert!(matches!(other, Err(Unusable::Damaged)));
        assert!(back(&path, "k").is_ok());
    }
}
