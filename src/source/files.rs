//! Files as samples.

use std::path::PathBuf;

use super::blob::Blob;
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
}

impl Files {
    /// These files. Whether they are there shows when they are read.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { paths: paths.into_iter().map(Into::into).collect() }
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
        Blob::read(&self.paths[index])
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        <[PathBuf]>::get(&self.paths, index).cloned()
    }
}
