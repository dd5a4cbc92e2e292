//! Walks through folders, and what they pass over.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Something in a folder that is no sample, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// What it is.
    pub path: PathBuf,
    /// Why it was passed over.
    pub reason: PassedOverReason,
}

/// Why something in a folder is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PassedOverReason {
    /// Its name ends in nothing that a decoder reads.
    Extension,
    /// Its name begins with a dot.
    Hidden,
    /// It stands beside the folders of the classes instead of in one.
    NoClass,
    /// It is a symbolic link that leads out of the folder.
    LeadsOut,
    /// It is a symbolic link that leads nowhere, or back to a folder that contains it.
    Broken,
    /// It is neither a file nor a folder.
    Special,
}

impl fmt::Display for PassedOverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extension => "not a known kind of file",
            Self::Hidden => "hidden",
            Self::NoClass => "in no class's folder",
            Self::LeadsOut => "a link that leads out of the folder",
            Self::Broken => "a link that leads nowhere or in a circle",
            Self::Special => "neither a file nor a folder",
        })
    }
}

/// A walk through a folder and all below it, in the order of names, byte by byte.
pub(super) struct Walk<'a> {
    extensions: &'a [&'a str],
    follow_links: bool,
    // What links must not lead out of.
    root: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) passed_over: Vec<PassedOver>,
}

/// What a name in a folder stands for.
pub(super) enum Entry {
    File,
    Folder,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &Path, extensions: &'a [&'a str], follow_links: bool) -> Result<Self> {
        let about = fs::metadata(root).map_err(|cause| Error::io("cannot open the folder", cause, root))?;
        if !about.is_dir() {
            return Err(Error::io("not a folder, expected one", io::ErrorKind::NotADirectory.into(), root));
        }
        let canonical = fs::canonicalize(root).map_err(|cause| Error::io("cannot open the folder", cause, root))?;
        Ok(Self { extensions, follow_links, root: canonical, files: Vec::new(), passed_over: Vec::new() })
    }

    /// What is in a folder, by name.
    pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
        let listed = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>());
        let mut paths = listed.map_err(|cause| Error::io("cannot list the folder", cause, folder))?;
        paths.sort();
        Ok(paths)
    }

    pub(super) fn pass_over(&mut self, path: PathBuf, reason: PassedOverReason) {
        self.passed_over.push(PassedOver { path, reason });
    }

    /// Takes every file in a folder and below.
    pub(super) fn folder(&mut self, folder: &Path) -> Result<()> {
        // The folders on the way down: a link to one of them would lead in a circle.
        let mut above = BTreeSet::new();
        self.descend(folder, &mut above)
    }

    fn descend(&mut self, folder: &Path, above: &mut BTreeSet<PathBuf>) -> Result<()> {
        let canonical = fs::canonicalize(folder).map_err(|cause| Error::io("cannot open the folder", cause, folder))?;
        if !above.insert(canonical.clone()) {
            self.pass_over(folder.to_owned(), PassedOverReason::Broken);
            return Ok(());
        }
        for path in Self::list(folder)? {
            match self.kind(&path)? {
                Some(Entry::Folder) => self.descend(&path, above)?,
                Some(Entry::File) => self.file(path),
                None => {}
            }
        }
        above.remove(&canonical);
        Ok(())
    }

    /// What a path is; notes what is passed over.
    pub(super) fn kind(&mut self, path: &Path) -> Result<Option<Entry>> {
        let reason = if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            PassedOverReason::Hidden
        } else {
            let about =
                fs::symlink_metadata(path).map_err(|cause| Error::io("cannot look at the file", cause, path))?;
            let about = if about.is_symlink() { self.follow(path) } else { Ok(about) };
            match about {
                Ok(about) if about.is_dir() => return Ok(Some(Entry::Folder)),
                Ok(about) if about.is_file() => return Ok(Some(Entry::File)),
                Ok(_) => PassedOverReason::Special,
                Err(reason) => reason,
            }
        };
        self.pass_over(path.to_owned(), reason);
        Ok(None)
    }

    fn follow(&self, link: &Path) -> Result<fs::Metadata, PassedOverReason> {
        let target = fs::canonicalize(link).map_err(|_| PassedOverReason::Broken)?;
        if !self.follow_links && !target.starts_with(&self.root) {
            return Err(PassedOverReason::LeadsOut);
        }
        fs::metadata(&target).map_err(|_| PassedOverReason::Broken)
    }

    pub(super) fn file(&mut self, path: PathBuf) {
        let known = |extension: &OsStr| self.extensions.iter().any(|known| extension.eq_ignore_ascii_case(known));
        if path.extension().is_some_and(known) {
            self.files.push(path);
        } else {
            self.pass_over(path, PassedOverReason::Extension);
        }
    }
}
