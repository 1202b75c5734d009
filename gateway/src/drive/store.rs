//! Where the bytes of files are: under the person and a key, in a directory or another store of objects. What is
//! the server's own has no person.

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::UserId;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::{Path as ObjectPath, PathPart};
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use super::bucket::Bucket;
use super::keep::is_key;
use crate::config::Config;
use crate::fetch::FetchError;

/// The directory of files, in the data directory.
pub const FILES: &str = "files";
/// Where the server's own bytes are, beside those of people.
const OF_THE_SERVER: &str = "server";

/// Where bytes are kept. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Disk(PathBuf),
    Bucket(Bucket),
}

/// What is under a key.
pub struct Found {
    /// Of all of it, in bytes.
    pub size: u64,
    /// What was asked for.
    pub bytes: Bytes,
}

/// Bytes on their way out.
pub type Bytes = BoxStream<'static, object_store::Result<axum::body::Bytes>>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Objects(#[from] object_store::Error),
    #[error("{path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    #[error("no client of the object storage can be made: {0}")]
    Client(#[from] FetchError),
    #[error("the object storage refuses: {status} {code}")]
    Refused { status: u16, code: String },
    #[error("the object storage can't be reached: {}", in_full(.0))]
    Unreachable(reqwest::Error),
    #[error("the object storage does not answer")]
    Silent,
    #[error("the object storage gives no answer that can be read")]
    Unclear,
    #[error("sending was broken off")]
    BrokenOff,
}

impl StoreError {
    /// Whether waiting changes nothing: only who set it up can.
    pub fn is_final(&self) -> bool {
        // Too late and too often are not for good.
        matches!(self, StoreError::Refused { status: 300..=407 | 409..=428 | 430..=499, .. })
    }
}

impl Store {
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let Some(settings) = &config.object_storage else {
            return Self::in_directory(config.data_dir.join(FILES));
        };
        let bucket = Bucket::open(settings)?;
        Ok(Self { objects: bucket.objects.clone(), place: Place::Bucket(bucket) })
    }

    /// On the disk.
    pub fn in_directory(directory: PathBuf) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&directory)
            .map_err(|source| StoreError::Disk { path: directory.clone(), source })?;
        let objects = Arc::new(LocalFileSystem::new_with_prefix(&directory)?);
        Ok(Self { objects, place: Place::Disk(directory) })
    }

    /// Whether files are on the disk of this server.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.place, Place::Disk(_))
    }

    /// Asks whether files can be kept and read there.
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::Disk(_) => Ok(()),
            Place::Bucket(bucket) => bucket.check().await,
        }
    }

    /// Brings a file from the disk to where it is kept; nothing is there under its key before all of it is.
    pub async fn put(
        &self,
        owner: impl Into<Option<UserId>>,
        key: &str,
        file: PathBuf,
    ) -> Result<(), StoreError> {
        let owner = owner.into();
        let root = match &self.place {
            Place::Disk(root) => root,
            Place::Bucket(bucket) => return bucket.put(self::path(owner, key), file).await,
        };
        let to = root.join(directory(owner)).join(key);
        let path = to.clone();
        let moved = tokio::task::spawn_blocking(move || {
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::File::open(&file)?.sync_all()?;
            std::fs::rename(&file, &to)?;
            sync_directory(to.parent())
        });
        let moved = moved.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
        moved.map_err(|source| StoreError::Disk { path, source })
    }

    /// Copies what somebody has under a key to a key of the server's own; says whether it was there.
    pub async fn copy(
        &self,
        from: impl Into<Option<UserId>>,
        key: &str,
        to: &str,
    ) -> Result<bool, StoreError> {
        match self.objects.copy(&path(from.into(), key), &path(None, to)).await {
            Ok(()) => (),
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let Place::Disk(root) = &self.place else { return Ok(true) };
        let path = root.join(OF_THE_SERVER);
        let there = path.clone();
        let synced = tokio::task::spawn_blocking(move || sync_directory(Some(&there)));
        let synced = synced.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
        synced.map(|()| true).map_err(|source| StoreError::Disk { path, source })
    }

    /// Some bytes, or all of them; none when they are not there.
    pub async fn get(
        &self,
        owner: impl Into<Option<UserId>>,
        key: &str,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Option<Found>, StoreError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        match self.objects.get_opts(&path(owner.into(), key), options).await {
            Ok(found) => Ok(Some(Found { size: found.meta.size, bytes: found.into_stream() })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How many bytes there are under a key; none when there are none.
    pub async fn size(&self, owner: impl Into<Option<UserId>>, key: &str) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&path(owner.into(), key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Under whom and which keys something is kept, in no order.
    pub fn all(&self) -> BoxStream<'static, Result<(Option<UserId>, String), StoreError>> {
        let found = self.objects.list(None).err_into();
        found.try_filter_map(|meta| ready(Ok(named(meta.location.parts())))).boxed()
    }

    /// Removes what is under a key, if anything is.
    pub async fn delete(&self, owner: impl Into<Option<UserId>>, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&path(owner.into(), key)).await {
            Ok(()) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes all that somebody has; says how many files it was.
    pub async fn delete_all(&self, owner: UserId) -> Result<u64, StoreError> {
        let under = ObjectPath::from(owner.to_string());
        let found = self.objects.list(Some(&under)).map_ok(|meta| meta.location).boxed();
        let mut deleted = 0;
        let mut gone = self.objects.delete_stream(found);
        while let Some(outcome) = gone.next().await {
            match outcome {
                Ok(_) => deleted += 1,
                Err(error) if is_absent(&error) => (),
                Err(error) => return Err(error.into()),
            }
        }
        if let Place::Bucket(bucket) = &self.place
            && let Err(error) = bucket.take_back(&owner.to_string(), None).await
        {
            // Nobody can read it, and it is looked for again.
            tracing::warn!(%error, user = %owner, "parts of what was being sent may stay in the bucket for now");
        }
        Ok(deleted)
    }

    /// Removes what was begun to be kept before then, and never ended; says how much.
    pub async fn sweep(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        match &self.place {
            Place::Disk(_) => Ok(0),
            Place::Bucket(bucket) => bucket.take_back("", Some(before)).await,
        }
    }
}

/// Whether nothing is there. Of a bucket that isn't there itself nobody knows what was in it.
fn is_absent(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotFound { source, .. } => !source.to_string().contains("NoSuchBucket"),
        _ => false,
    }
}

/// Under whom and which key something is kept at a path; none: it isn't a person's file.
pub(super) fn named<'p>(mut parts: impl Iterator<Item = PathPart<'p>>) -> Option<(Option<UserId>, String)> {
    let (directory, key) = (parts.next()?, parts.next()?);
    let owner = owner_of(directory.as_ref())?;
    (parts.next().is_none() && is_key(key.as_ref())).then(|| (owner, key.as_ref().to_owned()))
}

/// An error and what led to it, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

fn path(owner: Option<UserId>, key: &str) -> ObjectPath {
    ObjectPath::from_iter([directory(owner).as_str(), key])
}

/// Whose files are in a directory of this name: somebody's, or the server's own.
pub fn owner_of(directory: &str) -> Option<Option<UserId>> {
    match directory {
        OF_THE_SERVER => Some(None),
        person => person.parse().ok().map(Some),
    }
}

/// The name of the directory of somebody's files, or of the server's own.
pub fn directory(owner: Option<UserId>) -> String {
    owner.map_or_else(|| OF_THE_SERVER.to_owned(), |owner| owner.to_string())
}

/// What was moved into a directory is there after a loss of power, too.
fn sync_directory(directory: Option<&Path>) -> std::io::Result<()> {
    directory.map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
}
