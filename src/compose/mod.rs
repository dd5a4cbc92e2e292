//! Sequences made of other sequences.
//!
//! Each is a type of its own and itself a [`Sequence`]. What a source knows about itself passes through as far as it
//! stays true: the layout and the writing in place where samples are handed on unchanged, the size, the file, the
//! barrier and the epoch hook always.

mod cached;
mod concat;
#[cfg(feature = "disk-cache")]
mod disk;
mod map;
mod mix;
mod subset;
mod window;
mod zip;

use std::ops::RangeBounds;

pub use cached::Cached;
pub use concat::{Concat, ConcatAll, concat_all};
#[cfg(feature = "disk-cache")]
pub use disk::{DiskCacheOptions, DiskCacheState, DiskCacheStatus, DiskCached, Record};
pub use map::{Map, TryMap};
pub use mix::{Mix, mix};
pub(crate) use subset::split;
pub use subset::{Slice, Split, Subset};
pub use window::Windows;

use crate::batch::stack::Stack;
use crate::error::{BoxError, Result};
use crate::sequence::Sequence;

/// Combinators on sequences, in the manner of iterators.
///
/// Every one of them panics, as each sequence does, when it is asked for an index at or beyond its length.
///
/// An owned ndarray array is a sequence too, and with this trait in scope `array.map(..)` and `array.slice(..)` are
/// the methods below. `(&array).map(..)` and `(&array).slice(..)` are ndarray's.
///
/// # Examples
///
/// ```
/// use procession::{Sequence, SequenceExt, from_fn};
///
/// let squares = from_fn(10, |index| (index * index) as f32);
/// let parity = from_fn(10, |index| (index % 2) as u32);
/// let pairs = squares.map(|square| square / 81.0).zip(parity)?;
/// let (train, held_out) = pairs.split(0.8, 7)?;
/// assert_eq!((train.len(), held_out.len()), (8, 2));
/// # Ok::<(), procession::Error>(())
/// ```
pub trait SequenceExt: Sequence + Sized {
    /// Applies `f` to every sample. `f` has to be pure, as [`get`](Sequence::get) is: what is random happens in
    /// `augment`.
    fn map<T, F>(self, f: F) -> Map<Self, F>
    where
        T: Send + 'static,
        F: Fn(Self::Sample) -> T + Send + Sync,
    {
        Map::new(self, f)
    }

    /// Applies `f`, which may fail, to every sample.
    ///
    /// # Errors
    ///
    /// `get` returns what `f` returned as an error of kind [`Sample`](crate::ErrorKind::Sample), with the file of the
    /// sample if the sequence knows it. An [`Error`](crate::Error) of this crate keeps its kind.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Sequence, SequenceExt};
    ///
    /// let words = vec!["1".to_owned(), "two".to_owned()];
    /// let numbers = words.try_map(|word| word.parse::<u32>());
    /// assert_eq!(numbers.get(0)?, 1);
    /// assert!(numbers.get(1).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    fn try_map<T, E, F>(self, f: F) -> TryMap<Self, F>
    where
        T: Send + 'static,
        E: Into<BoxError>,
        F: Fn(Self::Sample) -> Result<T, E> + Send + Sync,
    {
        TryMap::new(self, f)
    }

    /// Pairs each sample with the one of the same index in `other`.
    ///
    /// # Errors
    ///
    /// If the lengths differ: an error of kind [`Argument`](crate::ErrorKind::Argument) with both.
    fn zip<B: Sequence>(self, other: B) -> Result<(Self, B)> {
        zip::zip(self, other)
    }

    /// Appends the samples of `other`. [`concat_all`] joins any number of sequences of one type.
    fn concat<B: Sequence<Sample = Self::Sample>>(self, other: B) -> Concat<Self, B> {
        Concat::new(self, other)
    }

    /// Keeps the samples at `indices`, in that order. An index may occur more than once.
    ///
    /// Holds the indices: 8 bytes a sample.
    ///
    /// # Errors
    ///
    /// If an index is at or beyond the length: an error of kind [`Argument`](crate::ErrorKind::Argument).
    fn subset(self, indices: impl Into<Vec<usize>>) -> Result<Subset<Self>> {
        let len = self.len();
        Subset::of(self, len, indices.into())
    }

    /// Keeps the samples whose indices lie in `range`.
    ///
    /// # Errors
    ///
    /// If the range ends before its start or beyond the length: an error of kind
    /// [`Argument`](crate::ErrorKind::Argument).
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Sequence, SequenceExt};
    ///
    /// let tail = vec![1, 2, 3, 4].slice(2..)?;
    /// assert_eq!((tail.len(), tail.get(0)?), (2, 3));
    /// # Ok::<(), procession::Error>(())
    /// ```
    fn slice(self, range: impl RangeBounds<usize>) -> Result<Slice<Self>> {
        let len = self.len();
        Slice::of(self, len, range)
    }

    /// Splits at random into two parts that share no sample and have all of them together.
    ///
    /// The first part has `fraction * len` samples, rounded to the nearest whole number (a half upwards), the second
    /// part the others. In both parts the samples stay in the sequence's order; the loader shuffles.
    ///
    /// Holds the indices: 8 bytes a sample.
    ///
    /// # Determinism
    ///
    /// Which sample goes where is a function of the length, the fraction and the seed alone, on every machine.
    ///
    /// # Errors
    ///
    /// If `fraction` is not in `0.0..=1.0`: an error of kind [`Argument`](crate::ErrorKind::Argument).
    fn split(self, fraction: f64, seed: u64) -> Result<Split<Self>> {
        let len = self.len();
        split(self, len, fraction, seed)
    }

    /// Keeps every sample in memory once it has been loaded; [`get`](Sequence::get) then returns a clone.
    ///
    /// Each sample is loaded once; only if two threads ask for the same sample for the first time at the same moment,
    /// both load it and one of the two equal results is kept. Errors are not kept. The samples of a sequence with a
    /// [`barrier`](Sequence::barrier) change from epoch to epoch: they pass through and are not kept.
    ///
    /// All samples together must fit into memory; [`cached_within`](Self::cached_within) keeps as many as a budget allows.
    fn cached(self) -> Cached<Self>
    where
        Self::Sample: Clone + Sync,
    {
        Cached::new(self)
    }

    /// Keeps samples in memory once they have been loaded, as long as they take no more than `budget_bytes` together;
    /// the others are loaded each time.
    ///
    /// A sample counts with what the sequence says of it ([`size_bytes`](Sequence::size_bytes)) or what it takes in a
    /// batch, whichever is more. Vectors, strings and arrays give back what they have in reserve before they are kept, and
    /// what they were sliced from; what the allocator adds to each is not counted. The budget is a hard bound on what is
    /// kept, also while many workers load at once; beside it each sample has a place of the size of its type, whether it is
    /// kept or not. A sample that does not fit does not keep a smaller one that comes later from being kept. As in
    /// [`cached`](Self::cached), errors and the samples of a sequence with a [`barrier`](Sequence::barrier) are not kept.
    ///
    /// Nothing is ever thrown out to make room. An epoch visits each sample once, in a new order, so the sample that was
    /// used longest ago is one that this epoch has not come to yet: throwing out the least recently used sample throws
    /// out what is needed next, and keeps what is not needed before the next epoch. Where each sample is needed once an
    /// epoch, any choice that fits saves as much as any other, and keeping the first ones costs nothing.
    ///
    /// # Determinism
    ///
    /// Which samples are kept depends on timing. What `get` returns does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Sequence, SequenceExt, from_fn};
    ///
    /// let rows = from_fn(100, |index| vec![index as f32; 25]).cached_within(1_000);
    /// for index in 0..100 {
    ///     assert_eq!(rows.get(index)?[0], index as f32);
    /// }
    /// assert_eq!((rows.num_cached(), rows.used_bytes()), (10, 1_000));
    /// # Ok::<(), procession::Error>(())
    /// ```
    fn cached_within(self, budget_bytes: u64) -> Cached<Self>
    where
        Self::Sample: Clone + Sync + Stack,
    {
        Cached::within(self, budget_bytes, <Self::Sample as Stack>::size_bytes, <Self::Sample as Stack>::shrunk)
    }

    /// As [`cached_within`](Self::cached_within), for samples of any type: `size_bytes` tells what a sample takes. That is
    /// all that is known of it: let it count capacities, not lengths, where they may differ, and for bytes that share a
    /// larger buffer, such as those of a `Blob`, the part that no one else keeps.
    fn cached_within_by(self, budget_bytes: u64, size_bytes: fn(&Self::Sample) -> usize) -> Cached<Self>
    where
        Self::Sample: Clone + Sync,
    {
        Cached::within(self, budget_bytes, size_bytes, std::convert::identity)
    }

    /// Keeps every sample in the file `path` once it has been loaded; from the second epoch on, and in every later process,
    /// samples come from there. [`DiskCacheOptions`] has more options.
    ///
    /// The samples are numbers, arrays, vectors and strings, or tuples of them ([`Record`]); put transforms that are costly
    /// and the same in every epoch before the cache (`map`), and those that draw random numbers behind it (`augment`).
    ///
    /// **Filling.** As long as samples are missing, the file is `path` with `.partial` at its end. A sample is loaded from
    /// this sequence when it is first asked for, and written; any number of threads do so at once. A process that is
    /// killed at any instant leaves a file that the next one goes on with. When the last sample is there, the file is
    /// synced and renamed to `path`, in the call that brought the last one, which may take as long as the disk needs: a loader
    /// with a [time-out](crate::LoaderBuilder::timeout) may report that one sample as late, in the first epoch only.
    /// [`prepare`](DiskCached::prepare) fills the file at once, and outside of any time-out.
    ///
    /// **Complete.** The file is mapped ([`Mapped`](crate::source::Mapped) tells what that asks of whoever could change it),
    /// and samples are copied from it straight to their rows. If they have one layout, the cache tells it from then on, as
    /// sources of arrays do: prepare a file first, and build the loader then.
    ///
    /// **Trust.** The file is used only if its key, length and type of samples are those expected; the key stands for
    /// everything that the samples depend on. Each record has a checksum, which is compared when this process reads the
    /// record for the first time; afterwards that costs nothing. A damaged record is loaded afresh and counted
    /// ([`status`](DiskCached::status)), never handed out. A CRC-32 finds errors of disks and crashes, not forgeries.
    ///
    /// **Two processes.** One of them fills the file; what the other asks for comes from this sequence, and it looks again at
    /// the start of each epoch. Neither waits.
    ///
    /// **Trouble.** If the disk is full or cannot be written, caching stops, which the status tells, and samples come from
    /// this sequence. The samples of a sequence with a [`barrier`](Sequence::barrier) change from epoch to epoch: they pass
    /// through, and no file is made.
    ///
    /// # Cost
    ///
    /// In the file 32 bytes a sample beside its elements; in memory one byte a sample. Opening reads the index. While the
    /// file is being filled a sample is encoded once and read back by system calls; from the complete one it is copied at the
    /// speed of memory if the system has it in its cache.
    ///
    /// # Errors
    ///
    /// With the file: of kind [`State`](crate::ErrorKind::State) if it was made with another key, length, type or layout of
    /// samples, or by another version of the format, and says what differs; [`Format`](crate::ErrorKind::Format) if it is no
    /// cache file, or is cut off or damaged in its header; [`Io`](crate::ErrorKind::Io) if it cannot be opened or locked;
    /// [`Argument`](crate::ErrorKind::Argument) if the key is longer than 64 KiB; [`Limit`](crate::ErrorKind::Limit) if there
    /// is no memory to keep track of the samples.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Sequence, SequenceExt, from_fn};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let costly = || from_fn(10, |index| vec![index as f32; 100]);
    /// let cached = costly().cached_on_disk(dir.path().join("cache"), "costly, version 1")?;
    /// cached.prepare(2, |_| Ok(()))?;
    ///
    /// // In another process:
    /// let cached = costly().cached_on_disk(dir.path().join("cache"), "costly, version 1")?;
    /// assert_eq!(cached.get(7)?, [7.0; 100]);
    /// assert_eq!(cached.layout(), Some(100));
    /// let error = costly().cached_on_disk(dir.path().join("cache"), "costly, version 2").unwrap_err();
    /// assert_eq!(error.kind(), procession::ErrorKind::State);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "disk-cache")]
    fn cached_on_disk(self, path: impl Into<std::path::PathBuf>, key: impl Into<String>) -> Result<DiskCached<Self>>
    where
        Self::Sample: Record,
    {
        DiskCacheOptions::new(path, key).open(self)
    }

    /// Groups `size` consecutive samples, a new group starting every `stride` samples: sample `i` is the `Vec` of the
    /// samples `i * stride .. i * stride + size`.
    ///
    /// Only whole groups count: the length is `(len - size) / stride + 1`, or 0 if `len < size`.
    ///
    /// # Errors
    ///
    /// If `size` or `stride` is 0: an error of kind [`Argument`](crate::ErrorKind::Argument).
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Sequence, SequenceExt};
    ///
    /// let windows = vec![0, 1, 2, 3, 4, 5].window(3, 2)?;
    /// assert_eq!(windows.len(), 2);
    /// assert_eq!(windows.get(1)?, [2, 3, 4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    fn window(self, size: usize, stride: usize) -> Result<Windows<Self>> {
        Windows::new(self, size, stride)
    }
}

impl<S: Sequence> SequenceExt for S {}

/// What a sequence knows about a sample without loading it, and about epochs: as another one, under its index `$at`.
macro_rules! knows_as {
    ($self:ident.$inner:ident, $index:ident => $at:expr) => {
        fn file(&$self, $index: usize) -> Option<std::path::PathBuf> {
            $self.$inner.file($at)
        }
        fn barrier(&$self) -> bool {
            $self.$inner.barrier()
        }
        fn on_epoch_start(&$self, epoch: u64) -> $crate::error::Result<()> {
            $self.$inner.on_epoch_start(epoch)
        }
    };
}

/// As `knows_as`, and the samples are the other's, too.
macro_rules! loads_as {
    ($self:ident.$inner:ident, $index:ident => $at:expr) => {
        #[inline]
        fn get(&$self, $index: usize) -> $crate::error::Result<Self::Sample> {
            $self.$inner.get($at)
        }
        fn layout(&$self) -> Option<<Self::Sample as $crate::batch::stack::Stack>::Layout>
        where
            Self::Sample: $crate::batch::stack::Stack,
        {
            $self.$inner.layout()
        }
        #[inline]
        fn get_into(
            &$self,
            $index: usize,
            row: $crate::batch::stack::Row<'_, Self::Sample>,
        ) -> $crate::error::Result<()>
        where
            Self::Sample: $crate::batch::stack::Stack,
        {
            $self.$inner.get_into($at, row)
        }
        fn get_many_into(
            &$self,
            indices: &[u64],
            block: &mut $crate::batch::stack::RowBlock<'_, '_, Self::Sample>,
        ) -> Option<usize>
        where
            Self::Sample: $crate::batch::stack::Stack,
        {
            // Some at a time, so that the other's indices need no memory.
            let mut theirs = [0; 64];
            let mut written = $self.$inner.get_many_into(&[], &mut block.part(0..0))?;
            for indices in indices.chunks(theirs.len()) {
                for (their, $index) in theirs.iter_mut().zip(indices) {
                    let $index = *$index as usize;
                    *their = $at as u64;
                }
                let rows = written..written + indices.len();
                let count = $self.$inner.get_many_into(&theirs[..indices.len()], &mut block.part(rows))?;
                written += count;
                if count < indices.len() {
                    break;
                }
            }
            Some(written)
        }
        fn size_bytes(&$self, $index: usize) -> Option<usize> {
            $self.$inner.size_bytes($at)
        }
        $crate::compose::knows_as! { $self.$inner, $index => $at }
    };
}
pub(crate) use {knows_as, loads_as};
