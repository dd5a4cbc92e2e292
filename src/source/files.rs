//! Files as samples.

use std::path::PathBuf;

use super::blob::Blob;
#[cfg(feature = "image")]
use super::walk::PassedOver;
use crate::error::Result;
use crate::sequence::Sequence;

/// Files, each read whole when it is asked for.
///
/// # Examples
///
/// ```
/// use procession::source::Files;
/// use procession::Sequence;
///
/// let dir = std::env::temp_dir().join(format!("procession-files-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// std::fs::write(dir.join("a.txt"), "first")?;
/// let files = Files::new([dir.join("a.txt"), dir.join("b.txt")]);
/// assert_eq!(files.get(0)?.text()?, "first");
/// assert!(files.get(1).is_err()); // names the file
/// # std::fs::remove_dir_all(dir)?;
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Files {
    paths: Vec<PathBuf>,
    limit_bytes: u64,
    #[cfg(feature = "image")]
    passed_over: Vec<PassedOver>,
}

impl Files {
    /// The limit where none is given: no photo is as large, and a few workers have room for one each.
    pub(super) const LIMIT_BYTES: u64 = 1 << 30;

    /// These files. Whether they are there shows when they are read.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            limit_bytes: Self::LIMIT_BYTES,
            #[cfg(feature = "image")]
            passed_over: Vec::new(),
        }
    }

    /// These files of a folder, in which something was passed over.
    #[cfg(feature = "image")]
    pub(super) fn of_folder(paths: Vec<PathBuf>, passed_over: Vec<PassedOver>) -> Self {
        Self { passed_over, ..Self::new(paths) }
    }

    /// The most bytes that a file may have. To load a larger one is an error of kind [`Limit`](crate::ErrorKind::Limit),
    /// and nothing of it is read. The default is 1 GiB: each worker has a file in memory, whatever was put into the folder.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// What is in the folder and no sample, if they are those of a
    /// [folder](super::ImageFolder::open_unlabelled); nothing if they were named one by one.
    #[cfg(feature = "image")]
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// The paths.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Sequence for Files {
    type Sample = Blob;

    fn len(&self) -> usize {
        self.paths.len()
    }
    fn get(&self, index: usize) -> Result<Blob> {
        Blob::read_within(&self.paths[index], self.limit_bytes)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        <[PathBuf]>::get(&self.paths, index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_file_that_is_larger_than_the_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let [small, large] = ["small", "large"].map(|name| dir.path().join(name));
        std::fs::write(&small, [7; 10]).unwrap();
        // Takes no room on the disk, and would take twice the limit in memory.
        std::fs::File::create(&large).unwrap().set_len(2 << 30).unwrap();
        let files = Files::new([&small, &large]);
        assert_eq!(files.get(0).unwrap().bytes(), [7; 10]);
        let error = files.get(1).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Limit, Some(&*large)));
        assert_eq!(error.message(), "file of 2147483648 bytes, the limit is 1073741824");
        for (limit_bytes, fits) in [(10, true), (9, false), (0, false), (u64::MAX, true)] {
            assert_eq!(files.clone().limit_bytes(limit_bytes).get(0).is_ok(), fits, "{limit_bytes}");
        }
    }
}
