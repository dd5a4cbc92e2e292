//! One file, and the columns of its row groups as arrays.

use std::iter::once;
use std::path::Path;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{Fields, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::footer;
use super::pages::{CheckedPages, scan};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::source::Mapped;
use crate::source::columns::{Features, damaged, shared, to_physical};
use crate::sync::{Mutex, lock};

/// A file of a table.
pub(super) struct ParquetFile {
    bytes: Arc<Mapped>,
    /// The same bytes: what undecoded pages point into.
    shared: Bytes,
    metadata: ParquetMetaData,
    pub(super) fields: Fields,
    pub(super) features: Features,
}

impl ParquetFile {
    pub(super) fn open(bytes: Mapped) -> Result<Self> {
        let bytes = Arc::new(bytes);
        let parsed = guarded("the footer of the Parquet file", || {
            let metadata = footer::parse(&bytes)?;
            let (fields, features) = footer::columns(&metadata)?;
            Ok((metadata, fields, features))
        });
        let (metadata, fields, features) = parsed.map_err(|error| error.with_file(bytes.path()))?;
        let shared = shared(&bytes);
        Ok(Self { bytes, shared, metadata, fields, features })
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &Mapped {
        &self.bytes
    }

    pub(super) fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// The rows of each row group, which are not negative.
    pub(super) fn num_rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.metadata.row_groups().iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(usize::MAX))
    }

    pub(super) fn num_groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    /// Decodes a column of a row group, if it takes no more than `limit_bytes`.
    pub(super) fn array(&self, group: usize, column: usize, limit_bytes: u64) -> Result<ArrayRef> {
        let what = format!("column `{}` of row group {group}", self.fields[column].name());
        let decoded = guarded(&what, || {
            let read =
                Group { file: self, group: self.metadata.row_group(group), limit_bytes, trouble: Arc::default() };
            read.decode(column, &what).map_err(|error| match lock(&read.trouble).take() {
                Some(trouble) => in_column(trouble, &what),
                None => error,
            })
        });
        decoded.map_err(|error| error.with_file(self.path()))
    }
}

fn in_column(error: Error, what: &str) -> Error {
    Error::new(error.kind(), format!("{what}: {}", error.message()))
}

/// A row group while a column of it is decoded.
struct Group<'a> {
    file: &'a ParquetFile,
    group: &'a RowGroupMetaData,
    limit_bytes: u64,
    trouble: Arc<Mutex<Option<Error>>>,
}

impl Group<'_> {
    fn decode(&self, column: usize, what: &str) -> Result<ArrayRef> {
        let schema = self.group.schema_descr();
        let num_rows = self.num_rows();
        for leaf in (0..schema.num_columns()).filter(|&leaf| schema.get_column_root_idx(leaf) == column) {
            self.check(leaf).map_err(|error| in_column(error, what))?;
        }
        let fail = |cause: ParquetError| damaged(what, cause);
        let projection = ProjectionMask::roots(schema, [column]);
        let levels = parquet_to_arrow_field_levels(schema, projection, Some(&self.file.fields)).map_err(fail)?;
        let mut reader =
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, self, num_rows.max(1), None).map_err(fail)?;
        let found: SchemaRef = arrow_array::RecordBatchReader::schema(&reader);
        let batch = reader.next().transpose().map_err(|cause| damaged(what, cause))?;
        let batch = batch.filter(|batch| batch.num_rows() == num_rows && batch.num_columns() == 1);
        let (Some(batch), None) = (batch, reader.next()) else {
            let message = format!("{what} has not {num_rows} rows, which are expected of it as of others");
            return Err(Error::new(ErrorKind::Format, message));
        };
        let expected = self.file.fields[column].data_type();
        if found.field(0).data_type() != expected {
            let message = format!("{what} is of type {}, expected {expected}", found.field(0).data_type());
            return Err(Error::new(ErrorKind::Format, message));
        }
        to_physical(Arc::clone(batch.column(0))).map_err(|cause| damaged(what, cause))
    }

    /// Checks the pages of a column without columns within.
    fn check(&self, leaf: usize) -> Result<()> {
        let chunk = self.group.column(leaf);
        let bytes = self.chunk(leaf)?;
        let descriptor = chunk.column_descr();
        let content = scan(bytes, chunk.compression(), descriptor, self.limit_bytes)?;
        let (num_rows, claimed) = (self.num_rows() as u64, chunk.num_values());
        // Without lists there is a value for each row, with them one at least.
        let fits = if descriptor.max_rep_level() == 0 {
            content.num_values == num_rows
        } else {
            content.num_values >= num_rows
        };
        if !fits || u64::try_from(claimed) != Ok(content.num_values) {
            let found = content.num_values;
            let message = format!("{found} values, expected {claimed} as the footer says, in {num_rows} rows");
            return Err(Error::new(ErrorKind::Format, message));
        }
        Ok(())
    }

    /// The bytes of a column chunk.
    fn chunk(&self, leaf: usize) -> Result<&[u8]> {
        let chunk = self.group.column(leaf);
        let (start, len) =
            (chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset()), chunk.compressed_size());
        let find = || {
            let start = usize::try_from(start).ok()?;
            self.file.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        };
        find().ok_or_else(|| {
            let message = format!("{len} bytes at byte {start} of a file of {}", self.file.bytes.len());
            Error::new(ErrorKind::Format, message)
        })
    }

    fn pages(&self, leaf: usize) -> Result<CheckedPages, ParquetError> {
        let chunk = self.group.column(leaf);
        let file = Arc::new(self.file.shared.clone());
        let pages = SerializedPageReader::new(file, chunk, RowGroups::num_rows(self), None)?;
        Ok(CheckedPages::new(pages, chunk.column_descr_ptr(), self.limit_bytes, Arc::clone(&self.trouble)))
    }

    fn num_rows(&self) -> usize {
        usize::try_from(self.group.num_rows()).unwrap_or(usize::MAX)
    }
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        Group::num_rows(self)
    }
    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        Ok(Box::new(OneChunk(Some(self.pages(leaf)?))))
    }
    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(once(self.group))
    }
    fn metadata(&self) -> &ParquetMetaData {
        &self.file.metadata
    }
}

/// The chunk of a column in one row group.
struct OneChunk(Option<CheckedPages>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(Ok(Box::new(self.0.take()?)))
    }
}

impl PageIterator for OneChunk {}
