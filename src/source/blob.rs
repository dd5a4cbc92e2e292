//! Bytes that are not decoded yet, with the name of the file or the member of an archive that they are.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::mapped::Mapped;
use crate::error::{Error, ErrorKind, Result};

/// What the names of image files end in, in lower case; where a sample has several, the first of these counts.
#[cfg(any(feature = "image", feature = "tar"))]
pub(crate) const IMAGE_EXTENSIONS: [&str; 13] =
    ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "jpe", "jfif"];

/// The bytes of a file, of a member of an archive or of a value in a table, not decoded, and the name that errors give.
///
/// Cheap to clone: clones share the bytes, which may be those of a mapped file. Dereferencing to `[u8]` is
/// [`bytes`](Self::bytes).
///
/// # Examples
///
/// ```
/// use procession::source::Blob;
///
/// let blob = Blob::new(&b"a caption"[..], "shard-0.tar/00017.TXT");
/// assert_eq!((blob.text()?, blob.extension().as_deref()), ("a caption", Some("txt")));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    bytes: Bytes,
    name: PathBuf,
}

impl Blob {
    /// Bytes and their name.
    pub fn new(bytes: impl Into<Bytes>, name: impl Into<PathBuf>) -> Self {
        Self { bytes: bytes.into(), name: name.into() }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// As [`Mapped::read`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::read_within(path.as_ref(), u64::MAX)
    }

    /// Reads a file that is not larger than a limit.
    pub(super) fn read_within(path: &Path, limit_bytes: u64) -> Result<Self> {
        Ok(Self::new(Mapped::read_within(path, limit_bytes)?.into_vec(), path))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be kept or cut without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The file; for a member of an archive the archive, a slash and the member.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// What stands behind the last dot of the name, in lower case.
    pub fn extension(&self) -> Option<String> {
        Some(self.name.extension()?.to_str()?.to_ascii_lowercase())
    }

    /// The bytes as text.
    ///
    /// # Errors
    ///
    /// Of kind [`Format`](ErrorKind::Format), with the name and the place of the first byte that is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.bytes).map_err(|cause| {
            let message = format!("byte {} is not UTF-8, expected text", cause.valid_up_to());
            Error::new(ErrorKind::Format, message).with_cause(cause).with_file(&self.name)
        })
    }
}

impl std::ops::Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("name", &self.name).field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_none_is_named_with_its_place() {
        let blob = Blob::new(&b"ab\xffc"[..], "some/file");
        let error = blob.text().unwrap_err();
        assert_eq!(error.to_string(), "byte 2 is not UTF-8, expected text (file some/file)");
        assert_eq!(error.kind(), ErrorKind::Format);
    }

    #[test]
    fn a_file_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.Bin");
        std::fs::write(&path, [1, 2, 3]).unwrap();
        let blob = Blob::read(&path).unwrap();
        assert_eq!((blob.bytes(), blob.name(), blob.extension().as_deref()), (&[1, 2, 3][..], &*path, Some("bin")));
        assert_eq!(Blob::read(dir.path()).unwrap_err().kind(), ErrorKind::Io);
    }
}
