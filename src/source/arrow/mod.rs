//! Arrow IPC files, the stream and the file format, and data sets as Hugging Face's `datasets` saves them.

mod content;
mod dataset;
mod message;
mod shard;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow_array::{Array, ArrayRef};
use ndarray::ArrayView1;

use super::Mapped;
use super::columns::{Blocks, ColumnElement, Failure, Features, Held, Starts, Table, TableSchema};
use crate::error::{Error, ErrorKind, Result};
use dataset::Saved;
#[cfg(feature = "parquet")]
pub(crate) use message::schema_of_message;
use shard::Shard;

/// How Arrow files are opened.
#[derive(Debug, Clone, Default)]
pub struct ArrowOptions {
    in_memory: bool,
}

impl ArrowOptions {
    /// Whether files are read into memory instead of mapped; see [`Mapped`] for when that is better. The default is `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens a file or a saved data set, as [`ArrowTable::open`] does.
    ///
    /// # Errors
    ///
    /// As [`ArrowTable::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<ArrowTable> {
        let path = path.as_ref();
        if path.is_dir() { self.saved(Saved::open(path)?) } else { self.open_all([path]) }
    }

    /// Opens a part of a saved data set, as [`ArrowTable::open_split`] does.
    ///
    /// # Errors
    ///
    /// As [`ArrowTable::open_split`].
    pub fn open_split(&self, dir: impl AsRef<Path>, split: &str) -> Result<ArrowTable> {
        self.saved(Saved::open_split(dir.as_ref(), split)?)
    }

    /// Opens several files as one table, as [`ArrowTable::open_all`] does.
    ///
    /// # Errors
    ///
    /// As [`ArrowTable::open_all`].
    pub fn open_all<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Result<ArrowTable> {
        let shards = paths.into_iter().map(|path| self.shard(path.as_ref())).collect::<Result<Vec<_>>>()?;
        ArrowTable::new(shards, Features::default(), true)
    }

    fn saved(&self, saved: Saved) -> Result<ArrowTable> {
        let shards = saved.files.iter().map(|path| self.shard(path)).collect::<Result<Vec<_>>>()?;
        ArrowTable::new(shards, saved.features, true)
    }

    fn shard(&self, path: &Path) -> Result<Shard> {
        Shard::open(if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
    }
}

/// Arrow IPC files as one table: mapped, and read without a copy.
///
/// Opens an Arrow file, in the format of streams or of files, several of them one after another, or what `save_to_disk` of
/// Hugging Face's `datasets` wrote. Its columns are viewed by the methods of [`Table`], to which it dereferences. Cheap to
/// clone.
///
/// # Cost
///
/// Opening reads the headers of the messages, not what they hold: a hop for each record batch. A column of a batch is
/// checked when it is first touched (lengths, nulls, the order of offsets, UTF-8), which reads it once, by one thread while
/// others that need the same one wait; from then on its arrays, which point into the file, are kept. That is some hundred
/// bytes for each column and batch in use.
///
/// # Bytes that may be anything
///
/// A damaged file is an error, when it is opened or at the rows that are damaged. The arrow crates decode it; a panic
/// of theirs is caught and is an error as well, though the panic hook prints it. That needs a program that unwinds
/// (`panic = "abort"` ends it). Numbers in a header buy no memory: what is not aligned, which no usual writer does, is
/// copied, and nothing else is.
///
/// Not read are compressed batches (`datasets` and `pyarrow` write them only on request), dictionaries that are added to
/// (deltas) and big-endian files: each is an error that says so.
///
/// # Examples
///
/// Train on what `dataset.save_to_disk("saved")` wrote:
///
/// ```
/// use procession::source::ArrowTable;
/// use procession::{Loader, SequenceExt};
///
/// let train = ArrowTable::open_split("tests/formats/arrow/saved", "train")?;
/// let samples = train.rows::<f32>("features")?.zip(train.labels("label")?)?;
/// let loader = Loader::builder(samples).batch_size(4).shuffle(7).build()?;
/// for batch in loader.epoch(0) {
///     let batch = batch?;
///     let (features, labels) = &*batch;
///     assert_eq!(features.dim(), (labels.len(), 3));
/// }
/// # Ok::<(), procession::Error>(())
/// ```
///
/// A column without a copy:
///
/// ```
/// use procession::source::ArrowTable;
///
/// let table = ArrowTable::open("tests/formats/arrow/plain.arrow")?;
/// let batch = table.view::<i64>(0, "i64")?;
/// assert_eq!(batch.len() as u64, table.block_lens().next().unwrap());
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct ArrowTable {
    table: Table,
    shards: Arc<Shards>,
}

impl ArrowTable {
    /// Opens an Arrow file, in either format, or the directory that `save_to_disk` of Hugging Face's `datasets` wrote.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if one cannot be read; [`Format`](ErrorKind::Format) if it is no Arrow
    /// file, is cut off or damaged, or has [what is not read](Self#bytes-that-may-be-anything); if a directory is not a
    /// saved data set, is one of several splits, or has indices beside its rows; and if files differ in their columns or in
    /// the names of classes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Opens one split of a saved `DatasetDict`, such as `train`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and of kind [`Argument`](ErrorKind::Argument) if there is no such split, with those that there are.
    pub fn open_split(dir: impl AsRef<Path>, split: &str) -> Result<Self> {
        Self::options().open_split(dir, split)
    }

    /// Opens several Arrow files as one table, in this order. They must have the same columns.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and of kind [`Argument`](ErrorKind::Argument) if there are none.
    pub fn open_all<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        Self::options().open_all(paths)
    }

    /// Takes the bytes of a file, and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::new(vec![Shard::open(Mapped::from_bytes(bytes, name))?], Features::default(), false)
    }

    /// The names of the splits of a saved `DatasetDict`.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be read; [`Format`](ErrorKind::Format) if it is damaged.
    pub fn splits(dir: impl AsRef<Path>) -> Result<Vec<String>> {
        dataset::splits(dir.as_ref())
    }

    /// Options to open files with.
    pub fn options() -> ArrowOptions {
        ArrowOptions::default()
    }

    fn new(shards: Vec<Shard>, features: Features, is_on_disk: bool) -> Result<Self> {
        let shards = Arc::new(Shards::new(shards, features, is_on_disk)?);
        Ok(Self { table: Table::new(Arc::clone(&shards) as Arc<dyn Blocks>), shards })
    }

    /// The numbers of a column in one record batch, where they lie: without a copy, unless the file has them out of
    /// alignment.
    ///
    /// # Errors
    ///
    /// As [`Table::column`], and of kind [`Format`](ErrorKind::Format) if the batch is damaged, has nulls in this column, or
    /// holds its values as something else than these numbers (bits, 16-bit floats, the indices of a dictionary).
    ///
    /// # Panics
    ///
    /// If `batch` is at or beyond the number of [blocks](Table::block_lens).
    pub fn view<T: ColumnElement>(&self, batch: usize, name: &str) -> Result<ArrayView1<'_, T>> {
        let num_batches = self.shards.starts.num_blocks();
        assert!(batch < num_batches, "batch {batch} is out of range for a table of {num_batches}");
        let column = self.shards.schema.find(name).map_err(|error| error.with_file(self.shards.file(batch)))?;
        let array = self.shards.decoded(batch, column)?;
        let fail = |message| Err(Error::new(ErrorKind::Format, message).with_file(self.shards.file(batch)));
        match T::values(&**array) {
            None => {
                let found = &self.shards.schema.columns()[column].type_name;
                fail(format!("column `{name}` of type {found}, expected {} as they lie in memory", T::NAME))
            }
            Some(_) if array.null_count() > 0 => {
                fail(format!("{} nulls in column `{name}` of batch {batch}, expected none", array.null_count()))
            }
            Some(values) => Ok(ArrayView1::from(values)),
        }
    }
}

impl fmt::Debug for ArrowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArrowTable").field(&self.table).finish()
    }
}

impl Deref for ArrowTable {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

/// A column of a batch, once it has been touched.
type Slot = OnceLock<Result<ArrayRef, Failure>>;

/// The files of a table, their batches one after another.
struct Shards {
    shards: Vec<Shard>,
    /// The first block of each shard.
    first_blocks: Vec<usize>,
    schema: TableSchema,
    starts: Starts,
    /// For each column that is in use, its batches.
    slots: Vec<OnceLock<Box<[Slot]>>>,
    is_on_disk: bool,
}

impl Shards {
    fn new(shards: Vec<Shard>, mut features: Features, is_on_disk: bool) -> Result<Self> {
        let Some(first) = shards.first() else {
            return Err(Error::argument("no Arrow files, expected at least one"));
        };
        let of_files = shards.iter().map(|shard| Ok((shard.path(), shard.features()?))).collect::<Result<Vec<_>>>()?;
        let of_files = Features::of_all(of_files)?;
        if features.is_empty() {
            features = of_files;
        }
        let schema = TableSchema::new(first.schema().fields(), &features);
        for other in &shards[1..] {
            if let Some(difference) = schema.difference(&TableSchema::new(other.schema().fields(), &features)) {
                let message = format!("{difference} as in {}", first.path().display());
                return Err(Error::new(ErrorKind::Format, message).with_file(other.path()));
            }
        }
        let lens = shards.iter().flat_map(|shard| shard.batches.iter().map(|batch| batch.num_rows));
        let starts = Starts::new(lens).map_err(|error| error.with_file(first.path()))?;
        let mut num_blocks = 0;
        let first_blocks = shards.iter().map(|shard| {
            num_blocks += shard.batches.len();
            num_blocks - shard.batches.len()
        });
        let first_blocks = first_blocks.collect();
        let slots = schema.columns().iter().map(|_| OnceLock::new()).collect();
        Ok(Self { shards, first_blocks, schema, starts, slots, is_on_disk })
    }

    /// The shard of a block, and the number of the batch in it.
    fn shard(&self, block: usize) -> (&Shard, usize) {
        // Of shards without batches, which start where the next one does, the last is the one that has the block.
        let shard = self.first_blocks.partition_point(|&first| first <= block).saturating_sub(1);
        (&self.shards[shard], block - self.first_blocks[shard])
    }

    #[inline]
    fn decoded(&self, block: usize, column: usize) -> Result<&ArrayRef> {
        let batches = self.slots[column].get_or_init(|| (0..self.starts.num_blocks()).map(|_| Slot::new()).collect());
        let decoded = batches[block].get_or_init(|| {
            let (shard, batch) = self.shard(block);
            shard.array(batch, column).map_err(Failure::new)
        });
        decoded.as_ref().map_err(Failure::error)
    }
}

impl Blocks for Shards {
    fn schema(&self) -> &TableSchema {
        &self.schema
    }
    fn starts(&self) -> &Starts {
        &self.starts
    }
    #[inline]
    fn array(&self, block: usize, column: usize) -> Result<Held<'_>> {
        self.decoded(block, column).map(Held::Borrowed)
    }
    fn file(&self, block: usize) -> &Path {
        self.shard(block).0.path()
    }
    fn is_on_disk(&self) -> bool {
        self.is_on_disk
    }
}
