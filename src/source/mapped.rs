//! The bytes of a file, mapped into memory: one of the two files with unsafe code.
//!
//! # A file that changes while it is mapped
//!
//! Mapped bytes are the file's own. If anybody writes to the file while it is mapped, the bytes change under whoever
//! reads them, and if anybody shortens it, reading beyond its new end kills the process (`SIGBUS` on Unix). No check at
//! the time of opening can prevent that, nor can a lock on systems where locks are advisory. So: data sets that are
//! mapped are replaced by renaming a new file to the old name, which leaves mapped bytes alone, and never written in
//! place. Where that cannot be had, [`Mapped::read`] keeps a copy in memory instead.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, ErrorKind, Result};

/// The bytes of a file, read-only, with the file's path.
///
/// Mapped bytes are loaded when they are first touched and shared with all processes that map the same file; they can
/// be larger than the memory. Dereferences to `[u8]`. To share it, put it into an [`Arc`](std::sync::Arc).
///
/// A file must not be changed while it is mapped: written to, its bytes change under the reader; shortened, reading
/// beyond its new end kills the process. Replace such a file by renaming a new one to its name, or use
/// [`read`](Self::read).
///
/// # Examples
///
/// ```
/// use procession::source::Mapped;
///
/// let path = std::env::temp_dir().join(format!("procession-mapped-{}", std::process::id()));
/// std::fs::write(&path, b"abc")?;
/// let bytes = Mapped::open(&path)?;
/// assert_eq!((&*bytes, bytes.path()), (&b"abc"[..], &*path));
/// # drop(bytes);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Mapped {
    bytes: Bytes,
    path: PathBuf,
}

enum Bytes {
    Mapped(Mmap),
    InMemory(Cow<'static, [u8]>),
}

impl Mapped {
    /// Maps a file. An empty file gives an empty slice.
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](crate::ErrorKind::Io), with the file: it is missing, is a directory or another thing that is not a
    /// regular file, must not be read, or cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, len) = open_regular(path)?;
        // Systems refuse to map nothing.
        if len == 0 {
            return Ok(Self::from_bytes(Vec::new(), path));
        }
        // SAFETY: the file must not change while it is mapped. That is the duty of whoever runs the program, told in
        // the documentation of this type and of this file; no code here writes to a file that it maps.
        let bytes = unsafe { Mmap::map(&file) }.map_err(|cause| Error::io("cannot map the file", cause, path))?;
        Ok(Self { bytes: Bytes::Mapped(bytes), path: path.to_owned() })
    }

    /// Reads a file into memory: for files that may change, and for file systems that cannot map.
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](crate::ErrorKind::Io), with the file: it is missing, is a directory or another thing that is not a
    /// regular file, must not or cannot be read, or does not fit into memory.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::read_within(path.as_ref(), u64::MAX)
    }

    /// As [`read`](Self::read), if the file is not larger than a limit. Otherwise nothing is read: an error of kind
    /// [`Limit`](crate::ErrorKind::Limit).
    pub(crate) fn read_within(path: &Path, limit_bytes: u64) -> Result<Self> {
        let too_large = |len: u64| {
            let message = format!("file of {len} bytes, the limit is {limit_bytes}");
            Error::new(ErrorKind::Limit, message).with_file(path)
        };
        let (file, len) = open_regular(path)?;
        if len as u64 > limit_bytes {
            return Err(too_large(len as u64));
        }
        let mut bytes = Vec::new();
        // It may grow while it is read.
        let mut file = file.take(limit_bytes.saturating_add(1));
        let read = bytes.try_reserve_exact(len).map_err(io::Error::from).and_then(|()| file.read_to_end(&mut bytes));
        read.map_err(|cause| Error::io("cannot read the file", cause, path))?;
        if bytes.len() as u64 > limit_bytes {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Self::from_bytes(bytes, path))
    }

    /// Bytes that are in memory already, under the name that errors shall give.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Self {
        Self { bytes: Bytes::InMemory(bytes.into()), path: name.into() }
    }

    /// The bytes in memory of their own; no copy if they are already.
    #[cfg(feature = "blob")]
    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self.bytes {
            Bytes::Mapped(bytes) => bytes.to_vec(),
            Bytes::InMemory(bytes) => bytes.into_owned(),
        }
    }

    /// Calls `f` with the bytes, of which it reads little pieces far from each other. The system then loads those alone;
    /// otherwise it loads megabytes around each, and so the whole file.
    #[cfg(feature = "tar")]
    pub(crate) fn read_here_and_there<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        // It is advice: where it is not taken, all is slower and nothing else.
        #[cfg(unix)]
        if let Bytes::Mapped(bytes) = &self.bytes {
            let _ = bytes.advise(memmap2::Advice::Random);
            let result = f(bytes);
            let _ = bytes.advise(memmap2::Advice::Normal);
            return result;
        }
        f(self)
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for Mapped {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(bytes) => bytes,
            Bytes::InMemory(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("path", &self.path).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Opens a regular file and tells its length. Anything else might block for ever when it is opened (a pipe), or has no
/// length (a device).
fn open_regular(path: &Path) -> Result<(File, usize)> {
    let about = path.metadata().map_err(|cause| Error::io("cannot open the file", cause, path))?;
    if about.is_dir() {
        return Err(Error::io("is a directory, expected a file", io::ErrorKind::IsADirectory.into(), path));
    }
    if !about.is_file() {
        return Err(Error::io("is not a regular file", io::ErrorKind::InvalidInput.into(), path));
    }
    let file = File::open(path).map_err(|cause| Error::io("cannot open the file", cause, path))?;
    // The length of what was opened: the path may name another file by now.
    let len = file.metadata().map_err(|cause| Error::io("cannot open the file", cause, path))?.len();
    let len = usize::try_from(len)
        .map_err(|_| Error::io("is larger than the address space", io::ErrorKind::FileTooLarge.into(), path))?;
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_read_and_given_bytes_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        for content in [&b""[..], b"a", &[7; 100_000]] {
            std::fs::write(&path, content).unwrap();
            let all = [
                Mapped::open(&path).unwrap(),
                Mapped::read(&path).unwrap(),
                Mapped::from_bytes(content.to_vec(), &path),
            ];
            for bytes in all {
                assert_eq!(&*bytes, content);
                assert_eq!(bytes.path(), path);
            }
        }
    }

    #[test]
    fn mapped_bytes_outlive_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        std::fs::write(&path, b"old").unwrap();
        let bytes = Mapped::open(&path).unwrap();
        std::fs::write(dir.path().join("new"), b"new!").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!((&*bytes, &*Mapped::open(&path).unwrap()), (&b"old"[..], &b"new!"[..]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        for open in [|path: &Path| Mapped::open(path), |path: &Path| Mapped::read(path)] {
            let error = open(&missing).unwrap_err();
            assert_eq!(
                (error.kind(), error.message(), error.file()),
                (ErrorKind::Io, "cannot open the file", Some(&*missing))
            );
            assert!(std::error::Error::source(&error).unwrap().to_string().contains("No such file"));
            let error = open(dir.path()).unwrap_err();
            assert_eq!((error.message(), error.file()), ("is a directory, expected a file", Some(dir.path())));
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_must_not_be_read_and_one_that_is_no_file_are_errors() {
        use std::os::unix::fs::PermissionsExt;
        let error = Mapped::open("/dev/null").unwrap_err();
        assert_eq!(error.message(), "is not a regular file");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, b"secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        // The superuser may read it all the same.
        if File::open(&path).is_err() {
            assert_eq!(Mapped::open(&path).unwrap_err().message(), "cannot open the file");
            assert_eq!(Mapped::read(&path).unwrap_err().kind(), ErrorKind::Io);
        }
    }
}
