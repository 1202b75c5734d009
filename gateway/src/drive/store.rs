//! Where the bytes of files are: under the person and a key, in a directory or another store of objects. What is
//! the server's own has no person.

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::UserId;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use super::keep::is_key;
use crate::config::Config;

/// The directory of files, in the data directory.
pub const FILES: &str = "files";
/// Where the server's own bytes are, beside those of people.
const OF_THE_SERVER: &str = "server";

/// Where bytes are kept. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    directory: PathBuf,
}

/// Bytes on their way out.
pub type Bytes = BoxStream<'static, object_store::Result<axum::body::Bytes>>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Objects(#[from] object_store::Error),
    #[error("{path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
}

impl Store {
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        Self::in_directory(config.data_dir.join(FILES))
    }

    /// On the disk.
    pub fn in_directory(directory: PathBuf) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&directory)
            .map_err(|source| StoreError::Disk { path: directory.clone(), source })?;
        Ok(Self { objects: Arc::new(LocalFileSystem::new_with_prefix(&directory)?), directory })
    }

    /// Moves a file from the disk to where it is kept.
    pub async fn put(
        &self,
        owner: impl Into<Option<UserId>>,
        key: &str,
        file: PathBuf,
    ) -> Result<(), StoreError> {
        let to = self.directory.join(directory(owner.into())).join(key);
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
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let path = self.directory.join(OF_THE_SERVER);
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
    ) -> Result<Option<Bytes>, StoreError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        match self.objects.get_opts(&path(owner.into(), key), options).await {
            Ok(found) => Ok(Some(found.into_stream())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How many bytes there are under a key; none when there are none.
    pub async fn size(&self, owner: impl Into<Option<UserId>>, key: &str) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&path(owner.into(), key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Under whom and which keys something is kept, in no order.
    pub fn all(&self) -> BoxStream<'static, Result<(UserId, String), StoreError>> {
        let named = |location: &ObjectPath| {
            let mut parts = location.parts();
            let (owner, key) = (parts.next()?.as_ref().parse().ok()?, parts.next()?);
            (parts.next().is_none() && is_key(key.as_ref())).then(|| (owner, key.as_ref().to_owned()))
        };
        let found = self.objects.list(None).err_into();
        found.try_filter_map(move |meta| ready(Ok(named(&meta.location)))).boxed()
    }

    /// Removes what is under a key, if anything is.
    pub async fn delete(&self, owner: impl Into<Option<UserId>>, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&path(owner.into(), key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
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
                Err(object_store::Error::NotFound { .. }) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(deleted)
    }
}

fn path(owner: Option<UserId>, key: &str) -> ObjectPath {
    ObjectPath::from_iter([directory(owner).as_str(), key])
}

fn directory(owner: Option<UserId>) -> String {
    owner.map_or_else(|| OF_THE_SERVER.to_owned(), |owner| owner.to_string())
}

/// What was moved into a directory is there after a loss of power, too.
fn sync_directory(directory: Option<&Path>) -> std::io::Result<()> {
    directory.map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
}
