//! Where a command leaves its files.

use std::fs::{self, File};
use std::path::Path;

use procession::{Error, Result};

/// Makes a directory, and makes sure that files can be written to it.
///
/// # Errors
///
/// If it cannot be made or written to; the error names it.
pub(crate) fn directory(path: &Path) -> Result<()> {
    let probe = path.join(".procession.tmp");
    fs::create_dir_all(path)
        .and_then(|()| File::create(&probe))
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|cause| Error::from(cause).with_file(path))
}
