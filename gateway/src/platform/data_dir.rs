//! The data directory: made private, and held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A locked data directory. The lock goes with the process, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("the data directory {path} is in use by another kiroku{}; stop it, or give this one another `data_dir` (and, to be one server with it, the same `database_url` and `master_key`)", process(.holder), path = .path.display())]
    InUse { path: PathBuf, holder: Option<u32> },
    #[error("the data directory {path} can't be used: {source}", path = .path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Makes the directory if needed and takes it. Refuses at once when another process has it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE_FILE)
            .open(path.join(LOCK_FILE))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse { path, holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(unusable)?;
        Ok(Self { path, _lock: lock })
    }

    /// Absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

const LOCK_FILE: &str = "kiroku.lock";
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// A process number is shorter.
const MAX_LOCK_BYTES: u64 = 32;

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(MAX_LOCK_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn process(holder: &Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_private_and_held_once() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        let mode = first.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE_DIRECTORY);
        let refusal = DataDir::open(&path).unwrap_err();
        assert!(
            matches!(refusal, DataDirError::InUse { holder: Some(pid), .. } if pid == std::process::id()),
            "{refusal}"
        );
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(DataDir::open(file.path()), Err(DataDirError::Unusable { .. })));
    }
}
