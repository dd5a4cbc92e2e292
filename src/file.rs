//! Files that are whole at any instant.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// What the name of a file ends in while it is being written.
const UNFINISHED: &str = ".tmp";

/// How many names that are always the same are tried before one of this process alone.
const NUM_SLOTS: u32 = 16;

/// Writes a file in the place of one that is there. A crash at any instant leaves the old one or the new one whole: the
/// bytes go to a file beside it, which is synced and then renamed, and the directory is synced after it, where the system
/// can do that.
///
/// The file beside it is named like it with `.tmp` at the end, or `.1.tmp` and so on where that name is taken. It is always
/// a new one: nothing is written to what a name leads to, and two processes that write the same path do not share it; the
/// last one to finish is the one whose file stays. What a crash leaves behind is removed by the next one who writes this
/// path, on Unix and where the file system has locks, which tell it from a file that is being written.
///
/// # Errors
///
/// If it cannot be written; the error names the file, of which the old one or the new one is there.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "train")] {
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("notes.txt");
/// procession::train::replace_file(&path, b"first")?;
/// procession::train::replace_file(&path, b"second")?;
/// assert_eq!(std::fs::read(&path)?, b"second");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(not(feature = "train"), allow(unreachable_pub, reason = "it is the trainer that exports it"))]
pub fn replace_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let mut file = NewFile::create(path)?;
    file.write_all(bytes).map_err(|cause| Error::from(cause).with_file(path))?;
    file.finish()
}

/// A file that takes its name once it is whole: until [`finish`](Self::finish) it is written beside it, and dropped
/// before that it is removed.
#[derive(Debug)]
pub(crate) struct NewFile {
    // Locked as long as it is open, where the file system has locks: nobody takes it for one that a crash has left.
    file: File,
    path: PathBuf,
    // `None` once the file has its name.
    temporary: Option<PathBuf>,
}

impl NewFile {
    /// Begins a file.
    pub(crate) fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match create_beside(&path) {
            Ok((file, temporary)) => Ok(Self { file, path, temporary: Some(temporary) }),
            Err(cause) => Err(Error::from(cause).with_file(path)),
        }
    }

    /// Gives the file its name, in the place of one that is there.
    pub(crate) fn finish(mut self) -> Result<()> {
        let named = self.file.sync_all().and_then(|()| match &self.temporary {
            Some(temporary) => fs::rename(temporary, &self.path),
            None => Ok(()),
        });
        if named.is_ok() {
            self.temporary = None;
        }
        named.and_then(|()| sync_directory_of(&self.path)).map_err(|cause| Error::from(cause).with_file(&self.path))
    }
}

#[cfg(all(test, feature = "npy"))]
thread_local! {
    /// Whether writing fails on this thread.
    pub(crate) static FAILING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(all(test, feature = "npy"))]
        if FAILING.get() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(feature = "npy")]
impl io::Seek for NewFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Half a file is of no use to anyone; that it is not there, or cannot be removed either, is no news.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Makes a new file beside the one that is to be, and locks it.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    // The first names are always the same, so that what crashes have left is found without a look through the folder.
    for slot in 0..NUM_SLOTS {
        let temporary = unfinished(path, slot);
        if let Some(file) = create_locked(&temporary)? {
            return Ok((file, temporary));
        }
        if remove_abandoned(&temporary)
            && let Some(file) = create_locked(&temporary)?
        {
            return Ok((file, temporary));
        }
    }
    // All are taken: by others who write, by what cannot be removed, or by somebody who would rather have nothing written.
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        // Relaxed: only that each number is taken once matters. So the loop ends, as there are fewer files.
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = with_end(path, &format!(".{}-{number}{UNFINISHED}", std::process::id()));
        if let Some(file) = create_locked(&temporary)? {
            return Ok((file, temporary));
        }
    }
}

/// Makes a new file and locks it; `None` if there is something of this name, be it a link that leads nowhere.
fn create_locked(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(cause) => return Err(cause),
    };
    match file.try_lock() {
        // Between the two steps somebody may have taken it for abandoned. Then it is gone or about to go; from here on,
        // with the lock, it is not.
        Err(TryLockError::WouldBlock) => Ok(None),
        Ok(()) if is_at(&file, path)? == Some(false) => Ok(None),
        // Without locks nobody removes what others have begun.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// Removes the file of a writer that is no more, and tells whether it did. What is being written, is no regular file, or
/// cannot be told from either stays.
pub(crate) fn remove_abandoned(path: &Path) -> bool {
    // What might block when it is opened, or leads elsewhere, was not made here.
    if !fs::symlink_metadata(path).is_ok_and(|about| about.is_file()) {
        return false;
    }
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return false };
    // With the lock, and under this name still: its writer is gone, and whoever else finds it has to have the lock first.
    // The name alone would not do, as by now it may be that of another's new file.
    file.try_lock().is_ok() && matches!(is_at(&file, path), Ok(Some(true))) && fs::remove_file(path).is_ok()
}

/// Whether a file that was opened by a name is what has that name now, links not followed. `None` where the system does
/// not tell.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<Option<bool>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let (opened, named) = (file.metadata()?, fs::symlink_metadata(path));
        match named {
            Ok(named) => Ok(Some((opened.dev(), opened.ino()) == (named.dev(), named.ino()))),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Some(false)),
            Err(cause) => Err(cause),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        Ok(None)
    }
}

/// The name of a file while it is being written.
fn unfinished(path: &Path, slot: u32) -> PathBuf {
    if slot == 0 { with_end(path, UNFINISHED) } else { with_end(path, &format!(".{slot}{UNFINISHED}")) }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

/// The name that a file is to have, by one that it has while it is being written.
#[cfg_attr(not(feature = "train"), allow(dead_code, reason = "it is the trainer that looks for such files"))]
pub(crate) fn finished_name(name: &str) -> Option<&str> {
    let name = name.strip_suffix(UNFINISHED)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once('.') {
        Some((finished, slot)) if slot.split('-').all(is_number) => Some(finished),
        _ => Some(name),
    }
}

/// Syncs the directory that a file or directory is in: that it is there must be on the disk before anybody counts on it.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        // Elsewhere a directory cannot be opened as a file.
        return Ok(());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(directory)?.sync_all() {
        // Some file systems have no such thing; the rename has done what can be done.
        Err(cause) if matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_file_is_whole_until_the_new_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace_file(&path, b"old").unwrap();
        // A crash while the new one is written leaves this behind.
        fs::write(unfinished(&path, 0), b"ne").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no such folder").join("file");
        let error = replace_file(&path, b"x").unwrap_err();
        assert_eq!((error.kind(), error.file()), (crate::error::ErrorKind::Io, Some(path.as_path())));
        // A directory in the way of the rename.
        let taken = dir.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(replace_file(&taken, b"x").is_err());
        assert!(!unfinished(&taken, 0).exists() && taken.join("inside").exists());
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn two_who_write_one_path_do_not_share_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut writers: Vec<_> = (0..20).map(|_| NewFile::create(&path).unwrap()).collect();
        assert_eq!(writers.len(), names(dir.path()).len());
        for (number, writer) in writers.iter_mut().enumerate() {
            writer.write_all(&[number as u8; 100][..50 + number]).unwrap();
        }
        for (number, writer) in writers.into_iter().enumerate() {
            writer.finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), vec![number as u8; 50 + number]);
        }
        assert_eq!(names(dir.path()), ["file"]);
        let names = ["a.tmp", "a.1.tmp", "a.123-4.tmp", "a.b.tmp", "a.1-x.tmp", "a.-.tmp", "a"].map(finished_name);
        assert_eq!(names, [Some("a"), Some("a"), Some("a"), Some("a.b"), Some("a.1-x"), Some("a.-"), None]);
    }

    #[test]
    #[cfg(unix)]
    fn what_crashes_have_left_does_not_pile_up_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let writing = NewFile::create(&path).unwrap();
        for slot in 1..NUM_SLOTS {
            fs::write(unfinished(&path, slot), b"left").unwrap();
        }
        for _ in 1..NUM_SLOTS {
            let other = NewFile::create(&path).unwrap();
            assert_eq!(other.temporary.as_deref(), Some(&*unfinished(&path, 1)));
            drop(other);
        }
        let others: Vec<_> = (1..NUM_SLOTS).map(|_| NewFile::create(&path).unwrap()).collect();
        drop(others);
        assert_eq!(names(dir.path()), ["file.tmp"]);
        assert!(!remove_abandoned(&unfinished(&path, 0)));
        writing.finish().unwrap();
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    #[cfg(unix)]
    fn nothing_is_written_to_what_a_planted_link_leads_to() {
        use std::os::unix::fs::symlink;

        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, victim) = (dir.path().join("file"), elsewhere.path().join("victim"));
        fs::write(&victim, b"precious").unwrap();
        // To a file, and to none: that one would be made.
        symlink(&victim, unfinished(&path, 0)).unwrap();
        (1..NUM_SLOTS).for_each(|slot| symlink(elsewhere.path().join("new"), unfinished(&path, slot)).unwrap());
        replace_file(&path, b"ours").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&victim).unwrap()), (b"ours".to_vec(), b"precious".to_vec()));
        assert_eq!((names(elsewhere.path()), names(dir.path()).len()), (vec!["victim".to_owned()], 17));
        // The path itself is replaced, not what it leads to.
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        replace_file(&path, b"ours").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&victim).unwrap()), (b"ours".to_vec(), b"precious".to_vec()));
    }

    #[test]
    fn many_threads_write_one_path_and_it_is_whole_at_any_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace_file(&path, &[0; 1000]).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        replace_file(path, &vec![thread; 1000 + usize::from(thread)]).unwrap();
                        let bytes = fs::read(path).unwrap();
                        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
                        assert_eq!(bytes.len(), 1000 + usize::from(bytes[0]));
                    }
                });
            }
        });
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    #[cfg(unix)]
    fn a_name_may_be_given_to_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        assert_eq!(is_at(&file, &path).unwrap(), Some(true));
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert_eq!(is_at(&file, &path).unwrap(), Some(false));
        let _other = File::create(&path).unwrap();
        assert_eq!(is_at(&file, &path).unwrap(), Some(false));
        // A link is another file than what it leads to.
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(is_at(&file, &path).unwrap(), Some(false));
    }
}
