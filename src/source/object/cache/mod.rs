//! What was fetched, in files of a folder, up to a budget.
//!
//! A file is written under another name and renamed, so that it is whole or not there; what a crash of the system leaves is
//! found by its checksum, and nothing is synced. Reading takes no lock: a file that is removed meanwhile is read to its end.
//!
//! *The budget* belongs to the folder, not to a process. Its lock file holds how many bytes are kept, and whoever adds a file
//! has it locked, counts the file, and only then gives it its name: the number may be too large, after a crash or where a
//! damaged file was removed, but not too small. Where it exceeds the budget, the folder is listed and the number set right,
//! before anything is removed.
//!
//! *Recency* is the time of the file's last change, which reading sets: the one that all processes see.

mod folder;
mod record;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::runtime::Handle;

use self::folder::Folder;
use self::record::Found;
use crate::error::{Error, Result};

/// What a cache on the disk has done so far in this process; see [`Bucket::disk_cache`](super::Bucket::disk_cache).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ObjectCacheStatus {
    /// How many objects, or ranges of objects, were found.
    pub num_hits: u64,
    /// How many were not, and had to be fetched.
    pub num_misses: u64,
    /// How many of these were there and damaged.
    pub num_damaged: u64,
    /// How many files this process has removed to make room.
    pub num_evicted: u64,
    /// Why nothing is written any more, if so.
    pub stopped: Option<Arc<Error>>,
}

pub(super) struct Cache {
    folder: Folder,
    num_hits: AtomicU64,
    num_misses: AtomicU64,
    num_damaged: AtomicU64,
    stopped: OnceLock<Arc<Error>>,
}

impl Cache {
    /// Opens or makes a folder.
    pub(super) fn open(dir: &Path, max_bytes: u64) -> Result<Self> {
        let folder = Folder::open(dir, max_bytes)?;
        let none = || AtomicU64::new(0);
        Ok(Self { folder, num_hits: none(), num_misses: none(), num_damaged: none(), stopped: OnceLock::new() })
    }

    pub(super) fn status(&self) -> ObjectCacheStatus {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ObjectCacheStatus {
            num_hits: of(&self.num_hits),
            num_misses: of(&self.num_misses),
            num_damaged: of(&self.num_damaged),
            num_evicted: self.folder.num_evicted(),
            stopped: self.stopped.get().cloned(),
        }
    }

    /// The bytes that are kept under an identity, if they are there and right.
    pub(super) async fn get(this: &Arc<Self>, identity: &str) -> Option<Bytes> {
        let (cache, identity) = (Arc::clone(this), identity.to_owned());
        elsewhere(move || cache.read(&identity)).await.flatten()
    }

    /// Keeps bytes under an identity, where that can be done.
    pub(super) async fn put(this: &Arc<Self>, identity: &str, bytes: &Bytes) {
        let size_bytes = record::size_bytes(identity, bytes);
        if this.stopped.get().is_none() && size_bytes <= this.folder.max_bytes() {
            let (cache, identity, bytes) = (Arc::clone(this), identity.to_owned(), bytes.clone());
            elsewhere(move || cache.write(&identity, &bytes, size_bytes)).await;
        }
    }

    fn read(&self, identity: &str) -> Option<Bytes> {
        let found = self.find(identity);
        let counter = if found.is_some() { &self.num_hits } else { &self.num_misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn find(&self, identity: &str) -> Option<Bytes> {
        let path = self.folder.path_of(identity);
        let mut file = open(&path).ok()?;
        let mut bytes = Vec::new();
        // Nothing larger is ever kept.
        let is_small = file.metadata().is_ok_and(|about| about.len() <= self.folder.max_bytes());
        let found = match is_small && file.read_to_end(&mut bytes).is_ok() {
            true => record::parse(&bytes, identity),
            false => Found::Damaged,
        };
        match found {
            Found::Payload(place) => {
                // Where it cannot be set, as the file is somebody else's, it seems older than it is.
                let _ = file.set_modified(SystemTime::now());
                Some(Bytes::from(bytes).slice(place))
            }
            // Of another object with the same hash.
            Found::Other => None,
            Found::Damaged => {
                self.num_damaged.fetch_add(1, Ordering::Relaxed);
                // Another process may have replaced it by a good one meanwhile, which is then fetched once more.
                let _ = std::fs::remove_file(&path);
                None
            }
        }
    }

    fn write(&self, identity: &str, bytes: &Bytes, size_bytes: u64) {
        let temporary = self.folder.temporary();
        let written = write_record(&temporary, identity, bytes)
            .and_then(|()| self.folder.admit(&temporary, &self.folder.path_of(identity), size_bytes));
        if let Err(cause) = written {
            // It may not be there, or not be removable either.
            let _ = std::fs::remove_file(&temporary);
            let error = Error::io("the cache could not be written, and is only read from now on", cause, &temporary);
            let _ = self.stopped.set(Arc::new(error));
        }
    }
}

/// For reading, and to set the time where that is allowed.
fn open(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

fn write_record(path: &PathBuf, identity: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&record::head(identity, bytes))?;
    file.write_all(bytes)?;
    // Systems set it to the last tick of a clock that is slower than files are written.
    file.set_modified(SystemTime::now())
}

/// Runs what waits for a disk where that holds up nobody. `None` if it panicked.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.ok(),
        // Some other executor, with a store that does not need tokio.
        Err(_) => Some(work()),
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("folder", &self.folder).field("status", &self.status()).finish()
    }
}

#[cfg(test)]
mod tests;
