//! The bytes of people's files: how they come in, where they are kept, and how they are served. What is
//! known of a file is in the log, as of everything else (`domain::drive`).
//!
//! An upload is written to disk piece by piece ([`incoming`]), looked at ([`kind`], [`picture`]), moved to where files
//! are kept ([`store`]), and then told to the log ([`keep`]). Bytes of which the log knows nothing, since
//! the server stopped in between, are [`stray`] and go.

pub mod archive;
mod bucket;
pub mod emoji;
pub mod incoming;
pub mod keep;
pub mod kind;
pub mod picture;
pub mod proxy;
pub mod serve;
pub mod store;
pub mod stray;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use domain::UserId;
use tempfile::TempDir;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::config::Config;
use archive::Packer;
use incoming::Received;
use picture::{Looked, Looker, NotLooked, Wanted};
use proxy::Proxy;
use store::{Store, StoreError};

/// Uploads that come in at the same time; more wait.
pub const MAX_UPLOADS_AT_ONCE: usize = 64;
/// Where uploads are written first, in the data directory.
pub const INCOMING: &str = "incoming";

/// The files of a server.
pub struct Drive {
    pub store: Store,
    incoming: PathBuf,
    slots: Arc<Semaphore>,
    looker: Looker,
    proxy: Proxy,
    /// Uploads that no endpoint has taken yet.
    received: Mutex<HashMap<Uuid, Received>>,
    /// One at a time for each person, so that each knows how much room the others left.
    writers: Mutex<HashMap<UserId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Drive {
    /// Opens where files are kept; nothing is written before there is a file.
    /// `program` is this one: it looks at pictures, too.
    pub fn open(config: &Config, program: PathBuf) -> Result<Self, StoreError> {
        Ok(Self {
            store: Store::open(config)?,
            incoming: config.data_dir.join(INCOMING),
            slots: Arc::new(Semaphore::new(MAX_UPLOADS_AT_ONCE)),
            looker: Looker::new(program),
            proxy: Proxy::default(),
            received: Mutex::default(),
            writers: Mutex::default(),
        })
    }

    /// Refuses to start where no file could ever be kept. What may be there again in a while is not waited for.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match self.store.check().await {
            Err(error) if error.is_final() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "no file can be kept or shown for now");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Puts an upload where an endpoint will look for it; it goes with the ticket.
    pub fn offer(self: &Arc<Self>, received: Received) -> Ticket {
        let id = Uuid::from_u128(rand::random());
        self.received.lock().unwrap_or_else(PoisonError::into_inner).insert(id, received);
        Ticket { drive: self.clone(), id }
    }

    /// The upload that was offered under this number.
    pub fn take(&self, id: Uuid) -> Option<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Looks at a picture.
    pub async fn look(&self, picture: &Path, wanted: Wanted) -> Result<Looked, NotLooked> {
        self.looker.look(picture, wanted, &self.incoming).await
    }

    /// Unpacks an archive of emoji; where to, or why not.
    pub async fn unpack(&self, archive: &Path) -> Result<Result<TempDir, String>, NotLooked> {
        self.looker.unpack(archive, &self.incoming).await
    }

    /// Begins an archive.
    pub fn pack(&self) -> Packer {
        Packer::begin(self.incoming.clone())
    }

    /// A place among the uploads.
    pub async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.slots.clone().acquire_owned().await.ok()
    }

    /// Waits until nobody else adds a file of this person in this process.
    async fn writing(&self, owner: UserId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            writers.retain(|_, lock| lock.strong_count() > 0);
            match writers.get(&owner).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    writers.insert(owner, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

/// Holds an upload for an endpoint.
pub struct Ticket {
    drive: Arc<Drive>,
    pub id: Uuid,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.drive.take(self.id);
    }
}
