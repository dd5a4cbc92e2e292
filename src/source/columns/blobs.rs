//! Columns of bytes that are not decoded yet: binary values, and images or sounds as Hugging Face's `datasets` stores
//! them.

use std::path::{Path, PathBuf};

use arrow_array::{Array, StructArray};
use arrow_schema::DataType;
use bytes::Bytes;

use super::blocks::Selected;
use super::cell::{Unreadable, binary, is_binary, is_text, resolve, text, value, value_type};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};
use crate::source::Blob;

/// The undecoded values of a column; made by [`Table::blobs`](super::Table::blobs).
///
/// A blob shares its bytes with the file, or with the decoded page of a Parquet file, which stays in memory as long as one
/// of its blobs. Its name is the file, the column and the row, and the name of the value's own file where there is one.
///
/// # Values that are files
///
/// Hugging Face's `datasets` stores an image or a sound as its bytes, or as the path of a file alone. Such a file is read
/// when it is asked for. A relative path counts from the directory of the table's file that holds the row, and the file,
/// with all links in its path resolved, must lie within that directory, so that no data set reads what it has no business with.
/// [`files_within`](Self::files_within) names another directory for both.
#[derive(Debug, Clone)]
pub struct BlobColumn {
    selected: Selected,
    // Where a struct has its bytes and its path.
    fields: Option<(usize, usize)>,
    // Instead of the directory of the file that holds the row.
    files_within: Option<PathBuf>,
    default: Option<Bytes>,
}

impl BlobColumn {
    pub(super) fn new(selected: Selected) -> Result<Self> {
        let fields = match value_type(&selected.column().data_type) {
            data_type if is_binary(data_type) => None,
            DataType::Struct(fields) if fields.len() == 2 => {
                let find = |name, is: fn(&DataType) -> bool| {
                    fields.iter().position(|field| field.name() == name && is(field.data_type()))
                };
                let found = find("bytes", is_binary).zip(find("path", is_text));
                Some(found.ok_or_else(|| Self::wrong_type(&selected))?)
            }
            _ => return Err(Self::wrong_type(&selected)),
        };
        Ok(Self { selected, fields, files_within: None, default: None })
    }

    fn wrong_type(selected: &Selected) -> Error {
        selected.wrong_type("binary, or struct<bytes: binary, path: string>")
    }

    /// Reads files within this directory, and none outside of it, instead of that of the table's file. It need not be the one that holds
    /// them: `/` is the directory of all absolute paths.
    pub fn files_within(mut self, directory: impl Into<PathBuf>) -> Self {
        self.files_within = Some(directory.into());
        self
    }

    /// Gives values that are missing, null or without bytes and path, these bytes.
    pub fn or_default(mut self, bytes: impl Into<Bytes>) -> Self {
        self.default = Some(bytes.into());
        self
    }

    /// The file, the column and the row. Not joined as paths are: the name of a column may begin with a slash.
    fn name(&self, row: usize, path: Option<&str>) -> PathBuf {
        let mut name = self.selected.path(row).as_os_str().to_owned();
        name.push(format!("/{}/{row}", self.selected.name()));
        let name = PathBuf::from(name);
        match path.and_then(|path| Path::new(path).file_name()) {
            Some(file) => name.join(file),
            None => name,
        }
    }

    /// The blob of a value; none if it is missing.
    fn value(&self, array: &dyn Array, at: usize, row: usize) -> Result<Option<Blob>> {
        let unreadable = |Unreadable| self.selected.unreadable(row);
        let Some((bytes, path)) = self.fields else {
            let bytes = value(array, at, binary).map_err(unreadable)?;
            return Ok(bytes.map(|bytes| Blob::new(bytes, self.name(row, None))));
        };
        let Some((values, at)) = resolve(array, at).map_err(unreadable)? else { return Ok(None) };
        let fields = values.as_any().downcast_ref::<StructArray>().ok_or_else(|| self.selected.unreadable(row))?;
        let bytes = value(&**fields.column(bytes), at, binary).map_err(unreadable)?;
        let path = value(&**fields.column(path), at, text).map_err(unreadable)?;
        match (bytes, path) {
            (Some(bytes), path) => Ok(Some(Blob::new(bytes, self.name(row, path.as_deref())))),
            (None, Some(path)) => self.read(row, &path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads the file that a value is.
    fn read(&self, row: usize, path: &str) -> Result<Blob> {
        let outside = |within: &Path| {
            let what = format!("is the file {path}, expected one within {}, or `files_within`", within.display());
            self.selected.wrong(ErrorKind::Format, row, what)
        };
        let beside = || Some(directory_of(self.selected.path(row))).filter(|_| self.selected.blocks().is_on_disk());
        let Some(within) = self.files_within.as_deref().or_else(beside) else {
            let what = format!("is the file {path}, and the table has no directory, expected `files_within`");
            return Err(self.selected.wrong(ErrorKind::Format, row, what));
        };
        let resolve = |path: &Path| {
            path.canonicalize().map_err(|cause| {
                let what = format_args!("is the file {}, which cannot be opened", path.display());
                self.selected.wrong(ErrorKind::Io, row, what).with_cause(cause)
            })
        };
        let within = resolve(within)?;
        let full = resolve(&within.join(path))?;
        if !full.starts_with(&within) {
            return Err(outside(&within));
        }
        Blob::read(full)
    }
}

/// The directory that a file is in; of a bare name, whose parent is empty, the current one.
fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Sequence for BlobColumn {
    type Sample = Blob;

    fn len(&self) -> usize {
        self.selected.num_rows()
    }
    fn get(&self, index: usize) -> Result<Blob> {
        check_index(index, self.len());
        let (array, at) = self.selected.locate(index)?;
        match (self.value(&*array, at, index)?, &self.default) {
            (Some(blob), _) => Ok(blob),
            (None, Some(bytes)) => Ok(Blob::new(bytes.clone(), self.name(index, None))),
            (None, None) => Err(self.selected.null(index)),
        }
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.selected.file(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_in_the_current_directory() {
        let of = |file: &'static str| directory_of(Path::new(file)).to_str().unwrap();
        assert_eq!(["data.arrow", "a/data.arrow", "/data.arrow"].map(of), [".", "a", "/"]);
        assert!(directory_of(Path::new("data.arrow")).canonicalize().is_ok());
    }
}
