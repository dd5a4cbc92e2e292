//! A cache file that is complete.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::format::{ENTRY_LEN, Entry, FIXED_LEN, Header, MAX_HEADER_LEN, Refusal, SEAL_START, Seal};
use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::source::Mapped;

/// Not looked at yet.
const UNSEEN: u8 = 0;
const GOOD: u8 = 1;
const DAMAGED: u8 = 2;

/// The records of a complete file, mapped or in memory. A record is trusted once it was looked at: its checksum was right,
/// and its bytes are a sample.
pub(super) struct Complete<T: Record> {
    bytes: Mapped,
    // Invariant: the index lies within the bytes.
    index_start: usize,
    marks: Box<[AtomicU8]>,
    num_damaged: AtomicUsize,
    // Of all records, and as it stands behind each.
    layout: Option<(T::Layout, Vec<u8>)>,
}

/// A record: the sample and its layout, as bytes.
struct Parts<'a> {
    body: &'a [u8],
    layout: &'a [u8],
}

/// Marks for so many samples.
pub(super) fn marks(len: usize) -> Result<Box<[AtomicU8]>> {
    let mut marks = Vec::new();
    marks.try_reserve_exact(len).map_err(|cause| {
        Error::new(ErrorKind::Limit, format!("no memory to keep track of {len} samples")).with_cause(cause)
    })?;
    marks.resize_with(len, AtomicU8::default);
    Ok(marks.into_boxed_slice())
}

/// The checksum of a record.
pub(super) fn record_checksum(body: &[u8], layout: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(layout);
    hasher.finalize()
}

/// Whether the bytes of a record are a sample and its layout, with nothing left over.
pub(super) fn is_sample<T: Record>(mut body: &[u8], mut layout: &[u8]) -> bool {
    let checked = T::read_layout(&mut layout).and_then(|layout| T::check(&layout, &mut body));
    checked.is_some() && body.is_empty() && layout.is_empty()
}

impl<T: Record> Complete<T> {
    /// Opens a file, if there is one: checks that it is complete, whole and the one expected, and reads the index.
    pub(super) fn open(path: &Path, expected: &Header, in_memory: bool) -> Result<Option<Self>, Refusal> {
        let opened = if in_memory { Mapped::read(path) } else { Mapped::open(path) };
        let bytes = match opened {
            Ok(bytes) => bytes,
            Err(error) => {
                let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
                let is_missing = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound);
                return if is_missing { Ok(None) } else { Err(Refusal::Foreign(error)) };
            }
        };
        Self::parse(bytes, expected).map(Some)
    }

    fn parse(bytes: Mapped, expected: &Header) -> Result<Self, Refusal> {
        Header::parse(&bytes[..bytes.len().min(MAX_HEADER_LEN)])?.check(expected)?;
        let Some(seal) = bytes.get(SEAL_START..FIXED_LEN).and_then(Seal::parse) else {
            return Err(Refusal::damaged("a cache file without the seal of a complete one"));
        };
        let file_len = bytes.len() as u64;
        if seal.file_len != file_len {
            return Err(Refusal::damaged(format!("a cache file of {file_len} bytes, expected {}", seal.file_len)));
        }
        let data_start = expected.data_start().unwrap_or(u64::MAX);
        if data_start > file_len {
            return Err(Refusal::damaged(format!("a cache file of {file_len} bytes, expected {data_start} and more")));
        }
        let layout = match seal.layout {
            Some(place) => Some(
                common_layout::<T>(&bytes, place)
                    .ok_or_else(|| Refusal::damaged("a cache file whose common layout is damaged"))?,
            ),
            None => None,
        };
        // Both fit: the index lies within the bytes.
        let num_samples = usize::try_from(expected.num_samples).unwrap_or(usize::MAX);
        let index_start = usize::try_from(expected.index_start()).unwrap_or(usize::MAX);
        let marks = marks(num_samples).map_err(Refusal::Foreign)?;
        let mut num_damaged = 0;
        for ((index, mark), entry) in (0..).zip(&marks).zip(bytes[index_start..].chunks_exact(ENTRY_LEN)) {
            if Entry::parse(entry, index, data_start, file_len).is_none() {
                mark.store(DAMAGED, Ordering::Relaxed);
                num_damaged += 1;
            }
        }
        Ok(Self { bytes, index_start, marks, num_damaged: AtomicUsize::new(num_damaged), layout })
    }

    pub(super) fn layout(&self) -> Option<&T::Layout> {
        self.layout.as_ref().map(|(layout, _)| layout)
    }

    pub(super) fn num_damaged(&self) -> usize {
        self.num_damaged.load(Ordering::Relaxed)
    }

    /// Whether a sample can be read. The first time, its record is looked at.
    #[inline]
    pub(super) fn is_good(&self, index: usize) -> bool {
        let mark = &self.marks[index];
        // Relaxed: the bytes were there before the mark was made, and never change.
        match mark.load(Ordering::Relaxed) {
            UNSEEN => {
                let good = self.parts(index).is_some_and(|(parts, checksum)| self.is_whole(&parts, checksum));
                // Two threads may look at it at once, and find the same; one of them counts it.
                let seen = mark.swap(if good { GOOD } else { DAMAGED }, Ordering::Relaxed);
                if !good && seen != DAMAGED {
                    self.num_damaged.fetch_add(1, Ordering::Relaxed);
                }
                good
            }
            mark => mark == GOOD,
        }
    }

    fn is_whole(&self, parts: &Parts<'_>, checksum: u32) -> bool {
        let has_layout = self.layout.as_ref().is_none_or(|(_, bytes)| bytes == parts.layout);
        has_layout && record_checksum(parts.body, parts.layout) == checksum && is_sample::<T>(parts.body, parts.layout)
    }

    /// A sample that is good. None if the bytes are not the ones that were found good.
    pub(super) fn get(&self, index: usize) -> Option<T> {
        let (Parts { mut body, mut layout }, _) = self.parts(index)?;
        match &self.layout {
            Some((layout, _)) => T::decode(layout, &mut body),
            None => T::decode(&T::read_layout(&mut layout)?, &mut body),
        }
    }

    /// Writes a sample that is good to its row. None if the bytes are not the ones that were found good, or the row is of
    /// another layout.
    #[inline]
    pub(super) fn get_into(&self, index: usize, row: T::Row<'_>) -> Option<()> {
        let (Parts { mut body, mut layout }, _) = self.parts(index)?;
        match &self.layout {
            Some((layout, _)) => T::decode_into(layout, &mut body, row),
            None => T::decode_into(&T::read_layout(&mut layout)?, &mut body, row),
        }
    }

    /// The memory that a sample takes, or a little more, without a look at its record.
    pub(super) fn size_bytes(&self, index: usize) -> Option<usize> {
        if let Some(row_bytes) = self.layout().and_then(T::row_bytes) {
            return Some(row_bytes);
        }
        let (parts, _) = self.parts(index)?;
        Some(parts.body.len() + size_of::<T>())
    }

    /// The bytes of a record, and its checksum.
    #[inline]
    fn parts(&self, index: usize) -> Option<(Parts<'_>, u32)> {
        let start = self.index_start + index * ENTRY_LEN;
        let entry = Entry::read(self.bytes.get(start..start + ENTRY_LEN)?)?;
        let start = usize::try_from(entry.start).ok()?;
        let body_end = start.checked_add(usize::try_from(entry.body_len).ok()?)?;
        let end = body_end.checked_add(usize::try_from(entry.layout_len).ok()?)?;
        let (body, layout) = (self.bytes.get(start..body_end)?, self.bytes.get(body_end..end)?);
        Some((Parts { body, layout }, entry.checksum))
    }
}

/// The layout at a place, if it is whole.
fn common_layout<T: Record>(bytes: &[u8], (start, len, checksum): (u64, u32, u32)) -> Option<(T::Layout, Vec<u8>)> {
    let start = usize::try_from(start).ok()?;
    let stored = bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)?;
    let mut rest = stored;
    let layout = T::read_layout(&mut rest)?;
    (rest.is_empty() && crc32fast::hash(stored) == checksum).then(|| (layout, stored.to_vec()))
}
