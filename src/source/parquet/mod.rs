//! Parquet files: row groups that are decoded as they are needed, and kept for a while.

mod cache;
mod delta;
mod directory;
mod footer;
mod grammar;
mod group;
mod pages;
#[cfg(test)]
mod tests;
mod thrift;

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Mapped;
use super::columns::{Blocks, Features, Held, Starts, Table, TableSchema};
use crate::error::{Error, ErrorKind, Result};
use cache::Cache;
use group::ParquetFile;

/// How Parquet files are opened.
#[derive(Debug, Clone)]
pub struct ParquetOptions {
    in_memory: bool,
    limit_bytes: u64,
    cache_bytes: u64,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self { in_memory: false, limit_bytes: 4 << 30, cache_bytes: 256 << 20 }
    }
}

impl ParquetOptions {
    /// Whether files are read into memory, as they are, instead of mapped; see [`Mapped`] for when that is better. The
    /// default is `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// The most that a column of a row group may take, decoded. The default is 4 GiB. One that takes more is an error at its
    /// rows, and is not decoded.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// How much of what was decoded is kept, over all columns and clones of the table: what was used last. The default is
    /// 256 MiB. The column that was decoded last is kept in any case, and what is being decoded is not counted.
    ///
    /// Enough is the size, decoded, of as many row groups as a [`BlockShuffle`](crate::BlockShuffle) spans and one more, of
    /// the columns in use.
    pub fn cache_bytes(mut self, cache_bytes: u64) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// Opens a file or a directory, as [`ParquetTable::open`] does.
    ///
    /// # Errors
    ///
    /// As [`ParquetTable::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<ParquetTable> {
        let path = path.as_ref();
        if path.is_dir() { self.open_all(directory::files(path)?) } else { self.open_all([path]) }
    }

    /// Opens a split in a directory, as [`ParquetTable::open_split`] does.
    ///
    /// # Errors
    ///
    /// As [`ParquetTable::open_split`].
    pub fn open_split(&self, dir: impl AsRef<Path>, split: &str) -> Result<ParquetTable> {
        self.open_all(directory::files_of_split(dir.as_ref(), split)?)
    }

    /// Opens several files as one table, as [`ParquetTable::open_all`] does.
    ///
    /// # Errors
    ///
    /// As [`ParquetTable::open_all`].
    pub fn open_all<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Result<ParquetTable> {
        let files = paths.into_iter().map(|path| {
            let path = path.as_ref();
            ParquetFile::open(if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        ParquetTable::new(files, true, self)
    }

    /// Takes the bytes of a file, as [`ParquetTable::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`ParquetTable::from_bytes`].
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<ParquetTable> {
        ParquetTable::new(vec![ParquetFile::open(Mapped::from_bytes(bytes, name))?], false, self)
    }
}

/// Parquet files as one table, decoded by column and row group as samples are asked for.
///
/// Its columns are viewed by the methods of [`Table`], to which it dereferences; the blocks of the table are the row groups.
/// Cheap to clone: clones share what is decoded.
///
/// # Cost
///
/// Opening reads the footers. The first sample of a row group decodes its column, and that alone, which others of the same
/// row group wait for; from then on it is in memory until [others](ParquetOptions::cache_bytes) were used after it. So
/// samples in any order cost little as long as they stay within a few row groups: in the order of the rows, and in that of
/// a [`BlockShuffle`](crate::BlockShuffle), each row group is decoded about once an epoch. In an order without such bounds
/// each sample may decode a whole row group: then raise the bound, or write smaller row groups.
///
/// Strings and binary values are not copied out of their pages, so that a blob keeps its page in memory.
///
/// # Bytes that may be anything
///
/// A damaged file is an error, when it is opened or at the rows of what is damaged; checksums are compared where pages have
/// them. The parquet crate decodes, and what it would take on trust is checked before: counts in the footer, the sizes that
/// pages claim, and what comes out of gzip and of strings that are made of others, so that no column takes more memory than
/// some three times [`limit_bytes`](ParquetOptions::limit_bytes). A panic of the crate is caught and is an error as well,
/// though the panic hook prints it. That needs a program that unwinds (`panic = "abort"` ends it).
///
/// Not read are encrypted files and columns that are compressed by brotli or LZO: each is an error that says so.
///
/// # Examples
///
/// A shuffled epoch that decodes each row group once: two row groups are open at a time.
///
/// ```
/// use procession::source::ParquetTable;
/// use procession::{BlockShuffle, Loader, SequenceExt};
///
/// let table = ParquetTable::open("tests/formats/parquet/snappy-v1.parquet")?;
/// let samples = table.rows::<f32>("fixed")?.zip(table.strings("text")?)?;
/// let order = BlockShuffle::from_lengths(table.block_lens(), 2, 7)?;
/// let loader = Loader::builder(samples).sampler(order).batch_size(4).build()?;
/// for batch in loader.epoch(0) {
///     let batch = batch?;
///     let (rows, texts) = &*batch;
///     assert_eq!(rows.dim(), (texts.len(), 6));
/// }
/// // Two columns, three row groups.
/// assert_eq!(table.num_decoded(), 6);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct ParquetTable {
    table: Table,
    groups: Arc<Groups>,
}

impl ParquetTable {
    /// Opens a Parquet file, or a directory of them, sorted by their names.
    ///
    /// Where names tell the split that files belong to, as those on Hugging Face's hub do
    /// (`train-00000-of-00002.parquet`, or `train.parquet`; so do `validation`, `valid`, `val`, `dev` and `test`), a directory
    /// must hold a single one, with all of its files and no other.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if one cannot be read, or a directory holds none;
    /// [`Format`](ErrorKind::Format) if it is no Parquet file, is cut off or damaged, or has
    /// [what is not read](Self#bytes-that-may-be-anything); if a directory holds several splits, a part of one, or others
    /// beside it; and if files differ in their columns or in the names of classes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Opens the files of one split in a directory: `train.parquet`, or `train-00000-of-00002.parquet` and so on.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and of kind [`Argument`](ErrorKind::Argument) if there is no such split, with those that
    /// there are.
    pub fn open_split(dir: impl AsRef<Path>, split: &str) -> Result<Self> {
        Self::options().open_split(dir, split)
    }

    /// Opens several Parquet files as one table, in this order. They must have the same columns.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and of kind [`Argument`](ErrorKind::Argument) if there are none.
    pub fn open_all<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        Self::options().open_all(paths)
    }

    /// The names of the splits that the files of a directory belong to, sorted; none if names do not tell.
    ///
    /// # Errors
    ///
    /// With the directory, of kind [`Io`](ErrorKind::Io) if it cannot be listed.
    pub fn splits(dir: impl AsRef<Path>) -> Result<Vec<String>> {
        directory::splits(dir.as_ref())
    }

    /// Takes the bytes of a file, and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes(bytes, name)
    }

    /// Options to open files with.
    pub fn options() -> ParquetOptions {
        ParquetOptions::default()
    }

    fn new(files: Vec<ParquetFile>, is_on_disk: bool, options: &ParquetOptions) -> Result<Self> {
        let groups = Arc::new(Groups::new(files, is_on_disk, options)?);
        Ok(Self { table: Table::new(Arc::clone(&groups) as Arc<dyn Blocks>), groups })
    }

    /// How many columns of row groups were decoded so far. More than there are in use means that some were forgotten before
    /// their last sample: the cache is too small for the order.
    pub fn num_decoded(&self) -> u64 {
        self.groups.cache.num_decoded()
    }

    /// The memory that is taken by what was decoded and is kept, in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.groups.cache.bytes()
    }
}

impl fmt::Debug for ParquetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ParquetTable").field(&self.table).finish()
    }
}

impl Deref for ParquetTable {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

/// The files of a table, their row groups one after another.
struct Groups {
    files: Vec<ParquetFile>,
    /// The first block of each file.
    first_blocks: Vec<usize>,
    schema: TableSchema,
    starts: Starts,
    cache: Cache,
    limit_bytes: u64,
    is_on_disk: bool,
}

impl Groups {
    fn new(files: Vec<ParquetFile>, is_on_disk: bool, options: &ParquetOptions) -> Result<Self> {
        let Some(first) = files.first() else {
            return Err(Error::argument("no Parquet files, expected at least one"));
        };
        let features = Features::of_all(files.iter().map(|file| (file.path(), file.features.clone())).collect())?;
        let schema = TableSchema::new(&first.fields, &features);
        for other in &files[1..] {
            if let Some(difference) = schema.difference(&TableSchema::new(&other.fields, &features)) {
                let message = format!("{difference} as in {}", first.path().display());
                return Err(Error::new(ErrorKind::Format, message).with_file(other.path()));
            }
        }
        let lens = files.iter().flat_map(ParquetFile::num_rows);
        let starts = Starts::new(lens).map_err(|error| error.with_file(first.path()))?;
        let mut num_blocks = 0;
        let first_blocks = files.iter().map(|file| {
            num_blocks += file.num_groups();
            num_blocks - file.num_groups()
        });
        let first_blocks = first_blocks.collect();
        let cache = Cache::new(schema.columns().len(), num_blocks, options.cache_bytes);
        Ok(Self { first_blocks, schema, starts, cache, limit_bytes: options.limit_bytes, is_on_disk, files })
    }

    /// The file of a block, and the number of the row group in it.
    fn file(&self, block: usize) -> (&ParquetFile, usize) {
        // Of files without row groups, which start where the next one does, the last is the one that has the block.
        let file = self.first_blocks.partition_point(|&first| first <= block).saturating_sub(1);
        (&self.files[file], block - self.first_blocks[file])
    }
}

impl Blocks for Groups {
    fn schema(&self) -> &TableSchema {
        &self.schema
    }
    fn starts(&self) -> &Starts {
        &self.starts
    }
    fn array(&self, block: usize, column: usize) -> Result<Held<'_>> {
        let decode = || {
            let (file, group) = self.file(block);
            file.array(group, column, self.limit_bytes)
        };
        self.cache.get(column, block, decode).map(Held::Shared)
    }
    fn file(&self, block: usize) -> &Path {
        self.file(block).0.path()
    }
    fn is_on_disk(&self) -> bool {
        self.is_on_disk
    }
}
