//! A backup on disk: a directory with the log in segments, and the keys in a file apart from it.
//!
//! `manifest.jsonl` says what there is, in two lines of JSON: a [`Manifest`], and a [`Mark`] of the line before.
//! A segment, `log-FROM-TO.jsonl.gz`, is gzip of one line of JSON per append: see [`Append`]. Payloads stay
//! sealed: without the keys and the master key a directory tells nobody what people wrote. A file has its name
//! only when it is whole and on the disk, and counts only when the manifest names it. Who adds to a directory
//! holds a lock on its `backup.lock`. What people have in their drives is beside all that: see [`super::files`].
//!
//! A mark is HMAC-SHA256 in base64, under a key derived from the master key for this purpose alone. The
//! manifest has the SHA-256 of each segment, so nothing in a directory can be changed, added or left out
//! without the master key; but an older state of a whole directory is as genuine as the last one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, Utc};
use commands::log::{MasterKey, Sealed};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ToolError;

pub const FORMAT: &str = "kiroku-backup";
/// Of the format; a higher one is not understood.
pub const VERSION: u32 = 1;
/// What a file that is not whole yet ends with.
pub const PARTIAL: &str = "partial";
/// The mode of a directory that nobody else may look into.
pub const PRIVATE: u32 = 0o700;
/// A segment is closed when it has so many bytes before compression.
const SEGMENT_BYTES: u64 = 128 << 20;
/// Held by the one who adds to the directory.
pub const LOCK: &str = "backup.lock";
const MANIFEST: &str = "manifest.jsonl";
/// What the mark of a manifest is for.
const MARKED: &str = "manifest of a backup";
/// The block of SHA-256, in bytes: an HMAC key of this size is used as it is.
const BLOCK_BYTES: usize = 64;
/// A manifest larger than this is none.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// The longest line of a segment: an append of 256 events with long texts.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// What a backup holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    /// The version of the program that wrote it last.
    pub program: String,
    /// The address of the server.
    pub url: String,
    /// The engine that the log came from, and whether its positions are 1, 2, 3 and so on.
    pub engine: String,
    pub gapless: bool,
    pub written_at: DateTime<Utc>,
    /// The first event of the log: whose log it is.
    pub first_event: Uuid,
    pub last_event: Uuid,
    /// Positions in that engine, both included.
    pub from: u64,
    pub to: u64,
    pub appends: u64,
    pub events: u64,
    /// The log's hash chain at `to`, in hexadecimal digits; none when the engine has no link that ends there.
    pub chain: Option<String>,
    pub segments: Vec<Segment>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Segment {
    pub file: String,
    pub from: u64,
    pub to: u64,
    pub appends: u64,
    pub events: u64,
    pub bytes: u64,
    /// Of the file, in hexadecimal digits.
    pub sha256: String,
}

/// Shows that what is before it was written by somebody with the master key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mark {
    pub mac: String,
}

/// One line of a segment.
#[derive(Debug, Serialize, Deserialize)]
pub struct Append {
    pub position: u64,
    pub stream: String,
    pub command: Uuid,
    pub events: Vec<Kept>,
}

/// One event of an append.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    pub id: Uuid,
    pub version: u64,
    pub kind: String,
    pub schema: u16,
    pub at: DateTime<Utc>,
    pub subject: Option<Uuid>,
    pub actor: Option<Uuid>,
    /// Sealed, in base64.
    pub payload: String,
}

/// The manifest of a directory; none when it is not there. Refuses one that is not of whoever has this key.
pub fn manifest(directory: &Path, master: &MasterKey) -> Result<Option<Manifest>, ToolError> {
    let path = directory.join(MANIFEST);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ToolError::File { path, source }),
    };
    let mut text = Vec::new();
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(at(&path))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mark = text.get(line.len()..).and_then(|rest| serde_json::from_slice::<Mark>(rest).ok());
    if !mark.is_some_and(|mark| mark.is_of(master, MARKED, line)) {
        return Err(changed(&path));
    }
    let manifest: Option<Manifest> = serde_json::from_slice(line).ok();
    let manifest = manifest.filter(|manifest| manifest.format == FORMAT && manifest.version <= VERSION);
    let Some(manifest) = manifest else {
        let refusal = format!("{} is not a backup that this version understands", path.display());
        return Err(ToolError::Refused(refusal));
    };
    match manifest.is_whole() {
        true => Ok(Some(manifest)),
        false => Err(ToolError::Refused(format!("{} has gaps: it can't be used", path.display()))),
    }
}

/// Makes what was written so far count.
pub fn publish(directory: &Path, manifest: &Manifest, master: &MasterKey) -> Result<(), ToolError> {
    let line = serde_json::to_vec(manifest).map_err(|error| ToolError::Output(error.into()))?;
    let mark = serde_json::to_vec(&Mark::new(master, MARKED, &line));
    let mark = mark.map_err(|error| ToolError::Output(error.into()))?;
    let text = [&line[..], b"\n", &mark, b"\n"].concat();
    let path = directory.join(MANIFEST);
    let mut file = Whole::create(&path).map_err(at(&path))?;
    file.write_all(&text).and_then(|()| file.finish()).map_err(at(&path))
}

impl Manifest {
    /// Whether the segments follow one another, and are all that it says there is.
    fn is_whole(&self) -> bool {
        let (mut next, mut appends, mut events) = (self.from, 0, 0);
        for segment in &self.segments {
            let is_next = segment.from == next || (!self.gapless && segment.from > next);
            let room = segment.to.saturating_sub(segment.from).saturating_add(1);
            let is_filled = segment.appends == room || (!self.gapless && segment.appends < room);
            if !is_segment(&segment.file) || !is_next || !is_filled {
                return false;
            }
            next = segment.to.saturating_add(1);
            appends += segment.appends;
            events += segment.events;
        }
        (next, appends, events) == (self.to.saturating_add(1), self.appends, self.events)
    }
}

impl Mark {
    /// Of these bytes, for a purpose that no other kind of file has.
    pub fn new(master: &MasterKey, purpose: &str, bytes: &[u8]) -> Self {
        Self { mac: BASE64_STANDARD.encode(hmac(master, purpose, bytes).finalize().into_bytes()) }
    }

    pub fn is_of(&self, master: &MasterKey, purpose: &str, bytes: &[u8]) -> bool {
        let mac = BASE64_STANDARD.decode(&self.mac);
        mac.is_ok_and(|mac| hmac(master, purpose, bytes).verify_slice(&mac).is_ok())
    }
}

/// What a file without the mark of this master key is refused with.
pub fn changed(path: &Path) -> ToolError {
    ToolError::Refused(format!(
        "{} was not written with this master key, or was changed since: nothing in it can be trusted",
        path.display()
    ))
}

fn hmac(master: &MasterKey, purpose: &str, bytes: &[u8]) -> Hmac<Sha256> {
    let mut key = [0; BLOCK_BYTES];
    let derived = master.derive(purpose);
    key[..derived.len()].copy_from_slice(&derived);
    let mut mac = Hmac::<Sha256>::new(&key.into());
    mac.update(bytes);
    mac
}

/// Takes the directory for whoever adds to it, until the file is closed.
pub fn lock(directory: &Path) -> Result<File, ToolError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let refusal = format!("another backup is being written into {}", directory.display());
            Err(ToolError::Refused(refusal))
        }
        Err(TryLockError::Error(source)) => Err(ToolError::File { path, source }),
    }
}

/// Removes what an interrupted run has left.
pub fn clean(directory: &Path, manifest: Option<&Manifest>) -> Result<(), ToolError> {
    let failed = at(directory);
    for entry in fs::read_dir(directory).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_named = manifest.is_some_and(|m| m.segments.iter().any(|segment| segment.file == name));
        if name.ends_with(PARTIAL) || (is_segment(&name) && !is_named) {
            fs::remove_file(entry.path()).map_err(&failed)?;
        }
    }
    Ok(())
}

/// Whether this is the name of a segment, and leads nowhere else.
fn is_segment(name: &str) -> bool {
    name.starts_with("log-") && name.ends_with(".jsonl.gz") && !name.contains('/')
}

/// A segment that is being written.
pub struct Writing {
    gzip: GzEncoder<Hashing<Whole>>,
    directory: PathBuf,
    from: u64,
    to: u64,
    appends: u64,
    events: u64,
    last_event: Uuid,
    plain_bytes: u64,
}

impl Writing {
    /// Begins with this append.
    pub fn begin(directory: &Path, first: &[Sealed]) -> Result<Self, ToolError> {
        let from = first.first().map_or(0, |event| event.position);
        // Its name is known at the end.
        let path = directory.join("log.jsonl.gz");
        let file = Hashing::new(Whole::create(&path).map_err(at(&path))?);
        let mut writing = Self {
            gzip: GzEncoder::new(file, Compression::fast()),
            directory: directory.to_owned(),
            from,
            to: from,
            appends: 0,
            events: 0,
            last_event: Uuid::nil(),
            plain_bytes: 0,
        };
        writing.add(first)?;
        Ok(writing)
    }

    pub fn add(&mut self, append: &[Sealed]) -> Result<(), ToolError> {
        let Some((first, last)) = append.first().zip(append.last()) else { return Ok(()) };
        let line = Append {
            position: first.position,
            stream: first.stream.clone(),
            command: first.command,
            events: append.iter().map(Kept::of).collect(),
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| ToolError::Output(error.into()))?;
        text.push(b'\n');
        self.gzip.write_all(&text).map_err(at(&self.directory))?;
        self.plain_bytes += text.len() as u64;
        self.to = first.position;
        self.appends += 1;
        self.events += append.len() as u64;
        self.last_event = last.event_id;
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.plain_bytes >= SEGMENT_BYTES
    }

    /// Ends the segment, and gives it its name; with the last event in it.
    pub fn end(self) -> Result<(Segment, Uuid), ToolError> {
        let failed = at(&self.directory);
        let name = format!("log-{:020}-{:020}.jsonl.gz", self.from, self.to);
        let Hashing { mut inner, hash, bytes } = self.gzip.finish().map_err(&failed)?;
        inner.path = self.directory.join(&name);
        inner.finish().map_err(&failed)?;
        let segment = Segment {
            file: name,
            from: self.from,
            to: self.to,
            appends: self.appends,
            events: self.events,
            bytes,
            sha256: hex(&hash.finalize()),
        };
        Ok((segment, self.last_event))
    }
}

/// Hands on each append of a segment; refuses a file that is not what the manifest says.
pub async fn read(
    directory: &Path,
    segment: &Segment,
    mut take: impl AsyncFnMut(Vec<Sealed>) -> Result<(), ToolError>,
) -> Result<(), ToolError> {
    let path = directory.join(&segment.file);
    let damaged = || ToolError::Refused(format!("{} is not what the manifest says: damaged", path.display()));
    let file = File::open(&path).map_err(at(&path))?;
    let mut lines = BufReader::new(MultiGzDecoder::new(Hashing::new(BufReader::new(file))));
    let (mut position, mut appends, mut events) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(|_| damaged())?;
        if read == 0 {
            break;
        }
        let append: Append = serde_json::from_slice(&line).map_err(|_| damaged())?;
        appends += 1;
        events += append.events.len() as u64;
        let is_more = appends > segment.appends || events > segment.events;
        let is_first = appends == 1 && append.position == segment.from;
        if !(is_first || appends > 1 && append.position > position) || is_more {
            return Err(damaged());
        }
        position = append.position;
        take(append.sealed().ok_or_else(damaged)?).await?;
    }
    let mut file = lines.into_inner().into_inner();
    io::copy(&mut file, &mut io::sink()).map_err(at(&path))?;
    let is_whole = (position, appends, events) == (segment.to, segment.appends, segment.events);
    match is_whole && hex(&file.hash.finalize()) == segment.sha256 {
        true => Ok(()),
        false => Err(damaged()),
    }
}

impl Kept {
    fn of(event: &Sealed) -> Self {
        Self {
            id: event.event_id,
            version: event.version,
            kind: event.kind.clone(),
            schema: event.schema,
            at: event.at,
            subject: event.subject,
            actor: event.actor,
            payload: BASE64_STANDARD.encode(&event.payload),
        }
    }
}

impl Append {
    fn sealed(self) -> Option<Vec<Sealed>> {
        let Self { position, stream, command, events } = self;
        let sealed = events.into_iter().zip(0u32..).map(|(event, ordinal)| {
            Some(Sealed {
                position,
                ordinal,
                stream: stream.clone(),
                version: event.version,
                event_id: event.id,
                kind: event.kind,
                schema: event.schema,
                at: event.at,
                subject: event.subject,
                actor: event.actor,
                command,
                payload: BASE64_STANDARD.decode(event.payload).ok()?,
            })
        });
        sealed.collect()
    }
}

/// A file that has its name only when it is whole: written beside its place, on the disk, then renamed.
pub struct Whole {
    file: BufWriter<File>,
    written: PathBuf,
    path: PathBuf,
}

impl Whole {
    /// Readable by its owner alone: never a file, or what a link leads to, that somebody else has put there.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{PARTIAL}"));
        let written = path.with_file_name(name);
        match fs::remove_file(&written) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written)?;
        Ok(Self { file: BufWriter::new(file), written, path: path.to_owned() })
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.written, &self.path)?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Hashes and counts what passes.
pub struct Hashing<T> {
    pub inner: T,
    pub hash: Sha256,
    pub bytes: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.passed(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says which file it was.
pub fn at(path: &Path) -> impl Fn(io::Error) -> ToolError + use<> {
    let path = path.to_owned();
    move |source| ToolError::File { path: path.clone(), source }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn append(position: u64) -> Vec<Sealed> {
        let sealed = |ordinal: u32| Sealed {
            position,
            ordinal,
            stream: format!("note-{position}"),
            version: u64::from(ordinal) + 1,
            event_id: Uuid::from_u128(u128::from(position) << 8 | u128::from(ordinal)),
            kind: "note.created".to_owned(),
            schema: 1,
            at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            subject: Some(Uuid::from_u128(7)),
            actor: None,
            command: Uuid::from_u128(u128::from(position)),
            payload: vec![0, 255, position as u8],
        };
        vec![sealed(0), sealed(1)]
    }

    fn written(directory: &Path) -> Segment {
        let mut writing = Writing::begin(directory, &append(3)).unwrap();
        writing.add(&append(4)).unwrap();
        writing.end().unwrap().0
    }

    async fn reread(directory: &Path, segment: &Segment) -> Result<Vec<Vec<Sealed>>, ToolError> {
        let mut appends = Vec::new();
        read(directory, segment, async |append| {
            appends.push(append);
            Ok(())
        })
        .await?;
        Ok(appends)
    }

    #[tokio::test]
    async fn a_segment_reads_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let segment = written(directory.path());
        assert_eq!((segment.from, segment.to, segment.appends, segment.events), (3, 4, 2, 4));
        assert_eq!(reread(directory.path(), &segment).await.unwrap(), [append(3), append(4)]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the whole file is there");
    }

    #[tokio::test]
    async fn a_changed_or_shortened_segment_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let segment = written(directory.path());
        let path = directory.path().join(&segment.file);
        let whole = fs::read(&path).unwrap();
        for broken in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[broken] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(reread(directory.path(), &segment).await.is_err(), "byte {broken}");
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(reread(directory.path(), &segment).await.is_err());
        fs::write(&path, &whole).unwrap();
        let other = Segment { appends: 3, ..segment.clone() };
        assert!(reread(directory.path(), &other).await.is_err());
        assert!(reread(directory.path(), &segment).await.is_ok());
    }

    #[test]
    fn a_file_is_its_owners_whatever_was_in_its_place() {
        use std::os::unix::fs::{MetadataExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (directory.path().join("keys"), directory.path().join("elsewhere"));
        fs::write(&elsewhere, "untouched").unwrap();
        symlink(&elsewhere, directory.path().join("keys.partial")).unwrap();
        let mut file = Whole::create(&path).unwrap();
        file.write_all(b"secret").and_then(|()| file.finish()).unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"untouched");
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_manifest_leads_nowhere_else() {
        assert!(is_segment("log-00000000000000000003-00000000000000000004.jsonl.gz"));
        for name in ["/log-1.jsonl.gz", "log-/../../x.jsonl.gz", "log-1", "../log-1.jsonl.gz", ""] {
            assert!(!is_segment(name), "{name}");
        }
    }

    #[test]
    fn what_an_interrupted_run_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let segment = written(directory.path());
        fs::write(directory.path().join("log-1-2.jsonl.gz"), "x").unwrap();
        fs::write(directory.path().join("manifest.jsonl.partial"), "x").unwrap();
        let manifest = manifest_of(vec![segment.clone()]);
        clean(directory.path(), Some(&manifest)).unwrap();
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [std::ffi::OsString::from(&segment.file)]);
        publish(directory.path(), &manifest, &master()).unwrap();
        assert_eq!(super::manifest(directory.path(), &master()).unwrap().unwrap().segments.len(), 1);
    }

    #[test]
    fn a_manifest_is_taken_from_whoever_has_the_master_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = |master: &MasterKey| super::manifest(directory.path(), master);
        assert!(manifest(&master()).unwrap().is_none());
        publish(directory.path(), &manifest_of(vec![segment(3, 4)]), &master()).unwrap();
        assert!(manifest(&master()).unwrap().is_some());
        let refused = manifest(&MasterKey::given([8; 32])).unwrap_err().to_string();
        assert!(refused.contains("was not written with this master key"), "{refused}");

        let path = directory.path().join(MANIFEST);
        let whole = fs::read(&path).unwrap();
        // The last byte is the end of a line, which says nothing.
        for broken in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[broken] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(manifest(&master()).is_err(), "byte {broken}");
        }
        let other = Mark::new(&master(), "something else", whole.split(|b| *b == b'\n').next().unwrap());
        let line = whole.iter().position(|byte| *byte == b'\n').unwrap();
        let marked_otherwise = [&whole[..=line], &serde_json::to_vec(&other).unwrap()].concat();
        for wrong in [&marked_otherwise[..], &whole[..=line], b"", b"\n\n"] {
            fs::write(&path, wrong).unwrap();
            assert!(manifest(&master()).is_err());
        }
    }

    #[test]
    fn segments_follow_one_another() {
        let is_whole =
            |segments: &[Segment], gapless| Manifest { gapless, ..manifest_of(segments.to_vec()) }.is_whole();
        assert!(is_whole(&[segment(3, 4), segment(5, 9)], true));
        assert!(is_whole(&[segment(3, 4), segment(7, 9)], false));
        let holed = Segment { appends: 1, ..segment(3, 4) };
        assert!(is_whole(&[holed.clone(), segment(5, 5)], false));
        for gaps in [&[segment(3, 4), segment(6, 9)][..], &[segment(5, 9), segment(3, 4)], &[holed]] {
            assert!(!is_whole(gaps, true), "{gaps:?}");
        }
        assert!(!is_whole(&[segment(3, 6), segment(5, 9)], false), "twice the same");
        let all = manifest_of(vec![segment(3, 4), segment(5, 9)]);
        for cut in [&all.segments[..1], &all.segments[1..], &[]] {
            assert!(!Manifest { segments: cut.to_vec(), ..all.clone() }.is_whole());
        }
    }

    #[test]
    fn a_directory_is_added_to_by_one_alone() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap();
        let refused = lock(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("another backup"), "{refused}");
        drop(held);
        lock(directory.path()).unwrap();
    }

    pub fn master() -> MasterKey {
        MasterKey::given([7; 32])
    }

    fn segment(from: u64, to: u64) -> Segment {
        let file = format!("log-{from}-{to}.jsonl.gz");
        let appends = to - from + 1;
        Segment { file, from, to, appends, events: 2 * appends, bytes: 0, sha256: String::new() }
    }

    pub fn manifest_of(segments: Vec<Segment>) -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: String::new(),
            url: String::new(),
            engine: String::new(),
            gapless: true,
            written_at: DateTime::UNIX_EPOCH,
            first_event: Uuid::nil(),
            last_event: Uuid::nil(),
            from: segments.first().map_or(1, |segment| segment.from),
            to: segments.last().map_or(0, |segment| segment.to),
            appends: segments.iter().map(|segment| segment.appends).sum(),
            events: segments.iter().map(|segment| segment.events).sum(),
            chain: None,
            segments,
        }
    }
}
