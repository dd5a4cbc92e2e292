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
    /// It is a folder that a symbolic link has led to before: with every visit, images would be there once more.
    Repeated,
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
            Self::Repeated => "a folder that another link has led to",
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
    Folder(Way),
}

/// How a folder was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Plain,
    Link,
}

/// The folders that a walk has seen, by their true paths.
#[derive(Default)]
struct Seen {
    /// Those on the way down: a link to one of them would lead in a circle.
    above: BTreeSet<PathBuf>,
    /// Those that a link has led to, or to a folder above them. Each is walked through once as it is and once by a link,
    /// so that a walk takes no longer than there are folders; a few folders full of links to each other would have no end.
    linked: BTreeSet<PathBuf>,
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
        self.descend(folder, Way::Plain, &mut Seen::default())
    }

    fn descend(&mut self, folder: &Path, way: Way, seen: &mut Seen) -> Result<()> {
        let canonical = fs::canonicalize(folder).map_err(|cause| Error::io("cannot open the folder", cause, folder))?;
        let reason = if seen.above.contains(&canonical) {
            Some(PassedOverReason::Broken)
        } else if way == Way::Link && !seen.linked.insert(canonical.clone()) {
            Some(PassedOverReason::Repeated)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.pass_over(folder.to_owned(), reason);
            return Ok(());
        }
        seen.above.insert(canonical.clone());
        for path in Self::list(folder)? {
            match self.kind(&path)? {
                // What is below a link was reached by it.
                Some(Entry::Folder(next)) => self.descend(&path, if way == Way::Link { way } else { next }, seen)?,
                Some(Entry::File) => self.file(path),
                None => {}
            }
        }
        seen.above.remove(&canonical);
        Ok(())
    }

    /// What a path is; notes what is passed over.
    pub(super) fn kind(&mut self, path: &Path) -> Result<Option<Entry>> {
        let reason = if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            PassedOverReason::Hidden
        } else {
            let about =
                fs::symlink_metadata(path).map_err(|cause| Error::io("cannot look at the file", cause, path))?;
            let way = if about.is_symlink() { Way::Link } else { Way::Plain };
            let about = if way == Way::Link { self.follow(path) } else { Ok(about) };
            match about {
                Ok(about) if about.is_dir() => return Ok(Some(Entry::Folder(way))),
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
        // The root, or a folder that contains it: all of the classes would be below the one that has the link.
        if self.root.starts_with(&target) {
            return Err(PassedOverReason::Broken);
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
