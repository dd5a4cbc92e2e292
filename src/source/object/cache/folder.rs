//! The folder of a cache: names, the lock, the budget, and what goes first.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::rng::fingerprint;

const LOCK_FILE: &str = "cache.lock";
const EXTENSION: &str = ".object";
const UNFINISHED: &str = ".object.tmp";
/// How long another process may take to add a file; one that was stopped in the middle of it must not stop the others.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// A file that is still being written after this time was left by a crash.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// With more files than this, some more are removed than there need be: listing them all takes a while.
const FEW_FILES: usize = 1000;

pub(super) struct Folder {
    dir: PathBuf,
    max_bytes: u64,
    // One thread of a process asks for the lock between processes at a time. The file holds how many bytes are kept.
    lock: Mutex<File>,
    num_temporary: AtomicU64,
    num_evicted: AtomicU64,
}

/// The lock file, locked.
struct Locked<'a>(MutexGuard<'a, File>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing the file would unlock it too, and nothing else can be done.
        let _ = self.0.unlock();
    }
}

impl Locked<'_> {
    fn used_bytes(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.rewind()?;
        match self.0.read_exact(&mut bytes) {
            Ok(()) => Ok(u64::from_le_bytes(bytes)),
            // Cut off, or new: too large rather than too small, so that the files are counted.
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(u64::MAX),
            Err(cause) => Err(cause),
        }
    }

    fn set_used_bytes(&mut self, used_bytes: u64) -> io::Result<()> {
        self.0.rewind()?;
        self.0.write_all(&used_bytes.to_le_bytes())
    }
}

/// A file that is kept.
struct Kept {
    used: SystemTime,
    path: PathBuf,
    size_bytes: u64,
}

impl Folder {
    pub(super) fn open(dir: &Path, max_bytes: u64) -> Result<Self> {
        let failed = |cause| Error::io("cannot open the folder of the cache", cause, dir);
        fs::create_dir_all(dir).map_err(failed)?;
        let lock_path = dir.join(LOCK_FILE);
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock_path);
        let folder = Self {
            dir: dir.to_owned(),
            max_bytes,
            lock: Mutex::new(lock.map_err(failed)?),
            num_temporary: AtomicU64::new(0),
            num_evicted: AtomicU64::new(0),
        };
        if let Some(mut locked) = folder.lock().map_err(failed)? {
            // The number may be wrong since a crash, and the budget another than the last time.
            folder.make_room(&mut locked, 0).map_err(failed)?;
        }
        Ok(folder)
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(super) fn num_evicted(&self) -> u64 {
        self.num_evicted.load(Ordering::Relaxed)
    }

    /// The file for an identity. Which one it is follows from the identity alone, so that all processes look there.
    pub(super) fn path_of(&self, identity: &str) -> PathBuf {
        let words = identity.as_bytes().chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let hash = fingerprint(words.chain([identity.len() as u64]));
        self.dir.join(format!("{hash:016x}{EXTENSION}"))
    }

    /// A name for a file that is being written: no other process and no other cache of this one has it.
    pub(super) fn temporary(&self) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let count = self.num_temporary.fetch_add(1, Ordering::Relaxed);
        // Process numbers come again, on other machines at the same time: the clock tells these apart.
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        self.dir.join(format!("{:x}-{number:x}-{count:x}-{nanos:x}{UNFINISHED}", process::id()))
    }

    /// Gives a file that was written its name, after making room for it.
    pub(super) fn admit(&self, temporary: &Path, path: &Path, size_bytes: u64) -> io::Result<()> {
        let Some(mut locked) = self.lock()? else {
            // Somebody holds the lock for long. The next file may have more luck.
            return fs::remove_file(temporary);
        };
        if fs::metadata(path).is_ok_and(|about| about.len() == size_bytes) {
            // Somebody else has fetched the same. Its contents are checked when they are read.
            return fs::remove_file(temporary);
        }
        let used_bytes = match locked.used_bytes()?.checked_add(size_bytes) {
            Some(used_bytes) if used_bytes <= self.max_bytes => used_bytes,
            _ => self.make_room(&mut locked, size_bytes)? + size_bytes,
        };
        // The number first: a crash in between leaves one that is too large.
        locked.set_used_bytes(used_bytes)?;
        fs::rename(temporary, path)
    }

    /// The lock, or nothing if it is not to be had for too long.
    fn lock(&self) -> io::Result<Option<Locked<'_>>> {
        let file = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Locked(file))),
                Err(TryLockError::Error(cause)) => return Err(cause),
                Err(TryLockError::WouldBlock) if waited >= LOCK_PATIENCE => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    thread::sleep(LOCK_PAUSE);
                    waited += LOCK_PAUSE;
                }
            }
        }
    }

    /// Counts the files and removes those that were used least recently, until there is room for so many bytes. Returns how
    /// many bytes are kept then.
    fn make_room(&self, locked: &mut Locked<'_>, size_bytes: u64) -> io::Result<u64> {
        let mut kept = self.list()?;
        // By name where the times are the same, so that all processes agree.
        kept.sort_unstable_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let spare = if kept.len() > FEW_FILES { self.max_bytes / 20 } else { 0 };
        let mut used_bytes: u64 = kept.iter().map(|file| file.size_bytes).sum();
        let limit = self.max_bytes.saturating_sub(size_bytes);
        let goal = if used_bytes > limit { limit.saturating_sub(spare) } else { limit };
        for file in kept {
            if used_bytes <= goal {
                break;
            }
            match fs::remove_file(&file.path) {
                Ok(()) => {
                    self.num_evicted.fetch_add(1, Ordering::Relaxed);
                    used_bytes -= file.size_bytes;
                }
                // Somebody else found it damaged, or cleans up by hand.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => used_bytes -= file.size_bytes,
                Err(_) => {}
            }
        }
        locked.set_used_bytes(used_bytes)?;
        if used_bytes > limit {
            let message = format!("{used_bytes} bytes that cannot be removed, of {} that may be kept", self.max_bytes);
            return Err(io::Error::other(message));
        }
        Ok(used_bytes)
    }

    /// What is kept. Removes what crashes have left, and touches nothing that is not the cache's.
    fn list(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // A file that vanishes meanwhile is none.
            let Ok(about) = entry.metadata() else { continue };
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if name.ends_with(UNFINISHED) && is_hexadecimal(name.trim_end_matches(UNFINISHED).replace('-', "")) {
                if used.elapsed().is_ok_and(|age| age > ABANDONED_AFTER) {
                    let _ = fs::remove_file(entry.path());
                }
            } else if name.len() == 16 + EXTENSION.len()
                && name.ends_with(EXTENSION)
                && is_hexadecimal(name.trim_end_matches(EXTENSION))
                && about.is_file()
            {
                kept.push(Kept { used, path: entry.path(), size_bytes: about.len() });
            }
        }
        Ok(kept)
    }
}

fn is_hexadecimal(text: impl AsRef<str>) -> bool {
    text.as_ref().bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("dir", &self.dir).field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}
