//! Tables: columns of rows in blocks, whatever the format, and views of one column as a sequence.

mod blobs;
mod blocks;
mod cell;
mod element;
mod lists;
mod numbers;
mod rows;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::fmt;
use std::sync::Arc;

pub use blobs::BlobColumn;
pub(crate) use blocks::{Blocks, Failure, Held, Selected, Starts, damaged, shared, to_physical};
pub use element::ColumnElement;
pub use numbers::{Column, LabelColumn};
pub use rows::RowColumn;
pub(crate) use schema::{Features, TableSchema};
pub use text::StringColumn;

use crate::error::Result;
use schema::Feature;

/// A table of rows and named columns; an [`ArrowTable`](super::ArrowTable) or a `ParquetTable` is one.
///
/// Each column is viewed by itself as a sequence of its values; columns are put together by
/// [`zip`](crate::SequenceExt::zip). A column that nobody asks for is never read. Cheap to clone: clones and views share
/// what is in memory.
///
/// Types are named as in [`schema`](Self::schema), without the differences that no reader of values needs to know: `string`
/// is any of Arrow's types of text, `list<f32>` any of lists. A column encoded by a dictionary is read as its values are.
///
/// # Examples
///
/// ```
/// use procession::source::ArrowTable;
/// use procession::{Sequence, SequenceExt};
///
/// let table = ArrowTable::open_split("tests/formats/arrow/saved", "train")?;
/// let samples = table.blobs("image")?.zip(table.labels("label")?)?;
/// let (image, label) = samples.get(1)?;
/// assert!(image.starts_with(b"\x89PNG"));
/// assert_eq!(table.class_names("label").unwrap()[label as usize], "bird");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct Table {
    blocks: Arc<dyn Blocks>,
}

impl Table {
    pub(crate) fn new(blocks: Arc<dyn Blocks>) -> Self {
        Self { blocks }
    }

    /// The number of rows.
    pub fn num_rows(&self) -> usize {
        self.blocks.starts().num_rows()
    }

    /// The number of rows of each block: each record batch of an Arrow file, each row group of a Parquet file, of all files
    /// one after another. For [`BlockShuffle::from_lengths`](crate::BlockShuffle::from_lengths).
    #[doc(alias = "batch_lens")]
    pub fn block_lens(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.blocks.starts().lens().map(|len| len as u64)
    }

    /// The columns: name and type of each.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::source::ArrowTable;
    ///
    /// let table = ArrowTable::open_split("tests/formats/arrow/saved", "train")?;
    /// let label = table.schema().find(|(name, _)| *name == "label");
    /// assert_eq!(label, Some(("label", "i64, label of 3 classes")));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn schema(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + '_ {
        self.blocks.schema().columns().iter().map(|column| (&*column.name, &*column.type_name))
    }

    /// The names of the classes that a column's numbers stand for, if Hugging Face's `datasets` wrote them down
    /// (`ClassLabel`).
    pub fn class_names(&self, name: &str) -> Option<Arc<[String]>> {
        let columns = self.blocks.schema();
        match &columns.columns()[columns.find(name).ok()?].feature {
            Some(Feature::Classes(names)) => Some(Arc::clone(names)),
            _ => None,
        }
    }

    /// A column of numbers or of `bool`.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](crate::ErrorKind::Argument) if there is no column of that name, or more than one;
    /// [`Format`](crate::ErrorKind::Format) if it is of another type, with both.
    pub fn column<T: ColumnElement>(&self, name: &str) -> Result<Column<T>> {
        Column::new(self.select(name)?)
    }

    /// A column of lists of numbers: `list<f32>`, `list<f32; 4>`, lists of lists.
    ///
    /// # Errors
    ///
    /// As [`column`](Self::column).
    pub fn rows<T: ColumnElement>(&self, name: &str) -> Result<RowColumn<T>> {
        RowColumn::new(self.select(name)?)
    }

    /// A column of strings.
    ///
    /// # Errors
    ///
    /// As [`column`](Self::column).
    pub fn strings(&self, name: &str) -> Result<StringColumn> {
        StringColumn::new(self.select(name)?)
    }

    /// A column of binary values, or of images or sounds as Hugging Face's `datasets` stores them.
    ///
    /// # Errors
    ///
    /// As [`column`](Self::column).
    pub fn blobs(&self, name: &str) -> Result<BlobColumn> {
        BlobColumn::new(self.select(name)?)
    }

    /// A column of labels: integers of any type, from 0, and below the number of classes if that is
    /// [known](Self::class_names).
    ///
    /// # Errors
    ///
    /// As [`column`](Self::column).
    pub fn labels(&self, name: &str) -> Result<LabelColumn> {
        LabelColumn::new(self.select(name)?)
    }

    pub(crate) fn select(&self, name: &str) -> Result<Selected> {
        Selected::new(&self.blocks, name)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Columns as a map of their types.
        struct Columns<'a>(&'a Table);

        impl fmt::Debug for Columns<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_map().entries(self.0.schema()).finish()
            }
        }
        f.debug_struct("Table")
            .field("num_rows", &self.num_rows())
            .field("columns", &Columns(self))
            .finish_non_exhaustive()
    }
}
