//! Columns of bytes that are not decoded yet: binary values, and images or sounds as Hugging Face's `datasets` stores
//! them.

use std::path::{Path, PathBuf};

use arrow_array::{Array, StructArray};
use arrow_schema::DataType;
use bytes::Bytes;

use super::blocks::Selected;
use super::cell::{binary, is_binary, is_text, resolve, text, value_type};
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
/// when it is asked for. A relative path counts from the directory of the table, and the file, with all links in its path
/// resolved, must lie within that directory, so that no data set reads what it has no business with.
/// [`files_within`](Self::files_within) names another directory for both.
#[derive(Debug, Clone)]
pub struct BlobColumn {
    selected: Selected,
    // Where a struct has its bytes and its path.
    fields: Option<(usize, usize)>,
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
        let files_within = selected.blocks().directory().map(Path::to_owned);
        Ok(Self { selected, fields, files_within, default: None })
    }

    fn wrong_type(selected: &Selected) -> Error {
        selected.wrong_type("binary, or struct<bytes: binary, path: string>")
    }

    /// Reads files within this directory, and none outside of it, instead of the table's. It need not be the one that holds
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

    fn name(&self, row: usize, path: Option<&str>) -> PathBuf {
        let name = self.selected.path(row).join(self.selected.name()).join(row.to_string());
        match path.and_then(|path| Path::new(path).file_name()) {
            Some(file) => name.join(file),
            None => name,
        }
    }

    /// The blob of a value; none if it is missing.
    fn value(&self, array: &dyn Array, at: usize, row: usize) -> Result<Option<Blob>> {
        let Some((values, at)) = resolve(array, at) else { return Ok(None) };
        let Some((bytes, path)) = self.fields else {
            return Ok(binary(values, at).map(|bytes| Blob::new(bytes, self.name(row, None))));
        };
        let Some(fields) = values.as_any().downcast_ref::<StructArray>() else { return Ok(None) };
        let bytes = resolve(&**fields.column(bytes), at).and_then(|(values, at)| binary(values, at));
        let path = resolve(&**fields.column(path), at).and_then(|(values, at)| text(values, at));
        match (bytes, path) {
            (Some(bytes), path) => Ok(Some(Blob::new(bytes, self.name(row, path)))),
            (None, Some(path)) => self.read(row, path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads the file that a value is.
    fn read(&self, row: usize, path: &str) -> Result<Blob> {
        let outside = |within: &Path| {
            let what = format!("is the file {path}, expected one within {}, or `files_within`", within.display());
            self.selected.wrong(ErrorKind::Format, row, what)
        };
        let Some(within) = self.files_within.as_deref() else {
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
