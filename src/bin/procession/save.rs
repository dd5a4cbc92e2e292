//! Files that are whole at any instant.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use procession::{Error, Result};

/// Writes a file in the place of one that is there. A crash at any instant leaves the old one or the new one whole.
///
/// # Errors
///
/// If it cannot be written; the error names the file.
pub(crate) fn whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|cause| {
        // Half a file is of no use to anyone; that it is not there, or cannot be removed either, is no news.
        let _ = fs::remove_file(&temporary);
        Error::from(cause).with_file(path)
    })
}

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
