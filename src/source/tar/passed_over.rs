//! Members of an archive that belong to no sample.

use std::fmt;

/// A member of a tar archive that belongs to no sample, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarPassedOver {
    /// Its name. What is not UTF-8 in it is replaced.
    pub name: String,
    /// What it is.
    pub kind: TarMemberKind,
}

/// What a member of a tar archive is that belongs to no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TarMemberKind {
    // The numbers are those of kept indices.
    /// A directory.
    Directory = 0,
    /// Another name of a file, as GNU tar writes it for a file that it has written under one name already.
    HardLink = 1,
    /// A symbolic link.
    SymbolicLink = 2,
    /// A character or block device, or a named pipe.
    Device = 3,
    /// A member of a type that only some programs know.
    Other = 4,
    /// A file whose name, or the first folder of it, starts and ends with two underscores: what WebDataset takes for
    /// data about the archive.
    Metadata = 5,
    /// A file whose base name starts with a dot, as those that macOS adds.
    Hidden = 6,
    /// A file whose base name has no dot.
    NoExtension = 7,
}

impl TarMemberKind {
    const ALL: [Self; 8] = [
        Self::Directory,
        Self::HardLink,
        Self::SymbolicLink,
        Self::Device,
        Self::Other,
        Self::Metadata,
        Self::Hidden,
        Self::NoExtension,
    ];

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

impl fmt::Display for TarMemberKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::HardLink => "a hard link",
            Self::SymbolicLink => "a symbolic link",
            Self::Device => "a device",
            Self::Other => "of a type that is not known",
            Self::Metadata => "metadata",
            Self::Hidden => "a hidden file",
            Self::NoExtension => "a file without extension",
        })
    }
}

/// How many members were passed over, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PassedOver {
    pub(super) count: u64,
    pub(super) listed: Vec<TarPassedOver>,
}

impl PassedOver {
    /// How many are listed: enough to see what is amiss, and no second index.
    pub(super) const MAX_LISTED: usize = 1000;

    pub(super) fn add(&mut self, name: &[u8], kind: TarMemberKind) {
        self.count += 1;
        if self.listed.len() < Self::MAX_LISTED {
            self.listed.push(TarPassedOver { name: String::from_utf8_lossy(name).into_owned(), kind });
        }
    }
}
