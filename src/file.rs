//! Files that are whole at any instant.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What the name of a file ends in while it is being written.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Writes a file in the place of one that is there. A crash at any instant leaves the old one or the new one whole: the
/// bytes go to a file beside it, named like it with `.tmp` at the end, which is synced and then renamed, and the
/// directory is synced after it, where the system can do that.
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
    file: File,
    path: PathBuf,
    // `None` once the file has its name.
    temporary: Option<PathBuf>,
}

impl NewFile {
    /// Begins a file.
    pub(crate) fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let temporary = unfinished(&path);
        match File::create(&temporary) {
            Ok(file) => Ok(Self { file, path, temporary: Some(temporary) }),
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

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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

/// The name of a file while it is being written. It is always the same, so that crashes do not leave more and more.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(UNFINISHED);
    PathBuf::from(name)
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
        fs::write(unfinished(&path), b"ne").unwrap();
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
        assert!(!unfinished(&taken).exists() && taken.join("inside").exists());
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
}
