//! How a cache file is laid out.
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 64 | the head: magic number, version, checksum, number of samples, lengths of the two texts |
//! | 64 to 128 | the seal: zeros until the file is complete, then its length and the layout that all records share |
//! | from 128 | the user's key, then the description of the records, both as text |
//! | from the next multiple of 64 | the index: 32 bytes a sample |
//! | behind the index | the records, in the order in which they were written |
//!
//! All numbers are little-endian, and all checksums are CRC-32 as in gzip. An entry of the index covers itself and its
//! sample's index by one checksum, and the record by another; an entry of zeros is one that was not written.

use crate::error::{Error, ErrorKind, Result};

const MAGIC: [u8; 8] = *b"\x89prcache";
const VERSION: u32 = 1;
const SEAL_MAGIC: [u8; 8] = *b"complete";

/// The head and the seal.
pub(super) const FIXED_LEN: usize = 128;
pub(super) const SEAL_START: usize = 64;
pub(super) const SEAL_LEN: usize = 64;
pub(super) const ENTRY_LEN: usize = 32;
/// The longest key and the longest description.
pub(super) const MAX_TEXT_LEN: usize = 1 << 16;
/// No header is longer.
pub(super) const MAX_HEADER_LEN: usize = FIXED_LEN + 2 * MAX_TEXT_LEN;

/// Records of this length and longer begin at a multiple of 64, as memory is copied best; shorter ones at one of 8.
const LONG_RECORD: u64 = 1024;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// What a file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) num_samples: u64,
    pub(super) key: String,
    /// The type of the samples and how they are encoded.
    pub(super) records: String,
}

/// Why a file is not one to use.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is no cache file, or cannot be read: nothing of ours to replace.
    Foreign(Error),
    /// It is one for something else.
    Unfit(Error),
    /// It is one, and damaged.
    Damaged(Error),
    /// It cannot be written to.
    Unwritable(Error),
}

impl Refusal {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Foreign(error) | Self::Unfit(error) | Self::Damaged(error) | Self::Unwritable(error) => error,
        }
    }

    pub(super) fn damaged(message: impl Into<String>) -> Self {
        let message = format!("{}; {REMEDY}", message.into());
        Self::Damaged(Error::new(ErrorKind::Format, message))
    }

    pub(super) fn unfit(message: impl Into<String>) -> Self {
        let message = format!("{}; {REMEDY}", message.into());
        Self::Unfit(Error::new(ErrorKind::State, message))
    }
}

/// The part of a head that has no meaning.
const RESERVED: std::ops::Range<usize> = 32..SEAL_START;

const REMEDY: &str = "delete the file, choose another path, or set `rebuild`";

impl Header {
    /// Head, empty seal and texts.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.num_samples.to_le_bytes());
        for (at, text) in [(24, &self.key), (28, &self.records)] {
            // The options refuse longer ones.
            bytes[at..at + 4].copy_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        let checksum = Self::checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Of everything but the magic number, the version, itself and the seal.
    fn checksum(bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[16..SEAL_START]);
        hasher.update(&bytes[FIXED_LEN..]);
        hasher.finalize()
    }

    /// Whether these first bytes of a file are those of a cache file, or of one that was hardly begun.
    pub(super) fn is_ours(start: &[u8]) -> bool {
        let start = &start[..start.len().min(MAGIC.len())];
        MAGIC.starts_with(start)
    }

    /// Reads a header from the first bytes of a file: [`MAX_HEADER_LEN`] of them, or all.
    pub(super) fn parse(start: &[u8]) -> Result<Self, Refusal> {
        if start.len() < MAGIC.len() || !Self::is_ours(start) {
            let seen = &start[..start.len().min(MAGIC.len())];
            let message = format!("begins with {seen:02x?}, expected {MAGIC:02x?} of a cache file");
            return Err(Refusal::Foreign(Error::new(ErrorKind::Format, message)));
        }
        let cut_off = || Refusal::damaged(format!("cache header cut off after {} bytes", start.len()));
        let version = u32_at(start, 8).ok_or_else(cut_off)?;
        if version != VERSION {
            return Err(Refusal::unfit(format!("cache file of version {version}, expected {VERSION}")));
        }
        let text_len = |at| u32_at(start, at).and_then(|len| usize::try_from(len).ok()).ok_or_else(cut_off);
        let (key_len, records_len) = (text_len(24)?, text_len(28)?);
        let key_end = FIXED_LEN.saturating_add(key_len);
        let end = key_end.saturating_add(records_len);
        let bytes = start.get(..end).ok_or_else(cut_off)?;
        let (stored, computed) = (u32_at(bytes, 12).ok_or_else(cut_off)?, Self::checksum(bytes));
        if stored != computed {
            return Err(Refusal::damaged(format!(
                "cache header has checksum {stored:#010x}, expected {computed:#010x}"
            )));
        }
        // Whoever gives these bytes a meaning raises the version.
        if bytes[RESERVED].iter().any(|&byte| byte != 0) {
            return Err(Refusal::damaged("cache header has bytes other than 0 where nothing is defined"));
        }
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| Refusal::damaged("cache header has a text that is not UTF-8"))
        };
        Ok(Self {
            num_samples: u64_at(bytes, 16).ok_or_else(cut_off)?,
            key: text(&bytes[FIXED_LEN..key_end])?,
            records: text(&bytes[key_end..])?,
        })
    }

    /// Says what differs from the header that is expected, if anything does.
    pub(super) fn check(&self, expected: &Self) -> Result<(), Refusal> {
        let mut differences = Vec::new();
        if self.key != expected.key {
            differences.push(format!("made with the key {:?}, expected {:?}", self.key, expected.key));
        }
        if self.num_samples != expected.num_samples {
            differences.push(format!("made for {} samples, expected {}", self.num_samples, expected.num_samples));
        }
        if self.records != expected.records {
            differences.push(format!("made for samples of type {}, expected {}", self.records, expected.records));
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Refusal::unfit(format!("a cache file {}", differences.join(", and "))))
    }

    pub(super) fn index_start(&self) -> u64 {
        ((FIXED_LEN + self.key.len() + self.records.len()) as u64).next_multiple_of(64)
    }

    /// Where the records begin; none if the index is longer than any file.
    pub(super) fn data_start(&self) -> Option<u64> {
        let index_len = self.num_samples.checked_mul(ENTRY_LEN as u64)?;
        index_len.checked_add(self.index_start())?.checked_next_multiple_of(64)
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: u64,
    /// The lengths of the sample and of its layout, which follows it.
    pub(super) body_len: u64,
    pub(super) layout_len: u32,
    /// Of both.
    pub(super) checksum: u32,
}

impl Entry {
    pub(super) fn to_bytes(self, index: u64) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.layout_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = Self::own_checksum(&bytes, index);
        bytes[28..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn own_checksum(bytes: &[u8], index: u64) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&index.to_le_bytes());
        hasher.update(&bytes[..28]);
        hasher.finalize()
    }

    /// Reads the entry of a sample, without its checksum: for one that was checked before.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_LEN] = bytes.try_into().ok()?;
        Some(Self {
            start: u64_at(bytes, 0)?,
            body_len: u64_at(bytes, 8)?,
            layout_len: u32_at(bytes, 16)?,
            checksum: u32_at(bytes, 20)?,
        })
    }

    /// Reads the entry of a sample, if it is whole and its record lies in `data_start..end`.
    pub(super) fn parse(bytes: &[u8], index: u64, data_start: u64, end: u64) -> Option<Self> {
        let entry = Self::read(bytes).filter(|_| u32_at(bytes, 28) == Some(Self::own_checksum(bytes, index)))?;
        (entry.start >= data_start && entry.end()? <= end).then_some(entry)
    }

    pub(super) fn end(self) -> Option<u64> {
        self.start.checked_add(self.body_len)?.checked_add(u64::from(self.layout_len))
    }
}

/// Where a record of some length may begin, at or behind `at`.
pub(super) fn record_start(at: u64, len: u64) -> Option<u64> {
    at.checked_next_multiple_of(if len < LONG_RECORD { 8 } else { 64 })
}

/// What says that a file is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    /// The length of the file.
    pub(super) file_len: u64,
    /// The layout that all records share: where it lies, its length and its checksum.
    pub(super) layout: Option<(u64, u32, u32)>,
}

impl Seal {
    pub(super) fn to_bytes(self) -> [u8; SEAL_LEN] {
        let mut bytes = [0; SEAL_LEN];
        bytes[..8].copy_from_slice(&SEAL_MAGIC);
        bytes[8..16].copy_from_slice(&self.file_len.to_le_bytes());
        if let Some((start, len, checksum)) = self.layout {
            bytes[16..24].copy_from_slice(&start.to_le_bytes());
            bytes[24..28].copy_from_slice(&len.to_le_bytes());
            bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
        }
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the seal, if there is one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SEAL_LEN] = bytes.try_into().ok()?;
        if bytes[..8] != SEAL_MAGIC || u32_at(bytes, 60)? != crc32fast::hash(&bytes[..60]) {
            return None;
        }
        let layout = (u64_at(bytes, 16)?, u32_at(bytes, 24)?, u32_at(bytes, 28)?);
        // No layout lies where the header does.
        Some(Self { file_len: u64_at(bytes, 8)?, layout: Some(layout).filter(|layout| layout.0 > 0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { num_samples: 5, key: "a key".to_owned(), records: "f32".to_owned() }
    }

    #[test]
    fn headers_entries_and_seals_are_read_as_they_were_written() {
        for header in [header(), Header { num_samples: u64::MAX, key: String::new(), records: "é".to_owned() }] {
            let mut bytes = header.to_bytes();
            assert_eq!(Header::parse(&bytes).unwrap(), header);
            // What follows plays no part, nor does the seal.
            bytes.extend([7; 100]);
            bytes[SEAL_START..FIXED_LEN].fill(9);
            assert_eq!(Header::parse(&bytes).unwrap(), header);
        }
        let entry = Entry { start: 1 << 40, body_len: 3 << 33, layout_len: 24, checksum: 0xdead_beef };
        assert_eq!(Entry::parse(&entry.to_bytes(7), 7, 1 << 40, 1 << 41), Some(entry));
        for layout in [None, Some((300, 24, 0xdead_beef))] {
            let seal = Seal { file_len: 1 << 50, layout };
            assert_eq!(Seal::parse(&seal.to_bytes()), Some(seal));
        }
    }

    #[test]
    fn bytes_without_a_meaning_are_zero() {
        for at in RESERVED {
            let mut bytes = header().to_bytes();
            bytes[at] = 1;
            let checksum = Header::checksum(&bytes);
            bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
            assert!(matches!(Header::parse(&bytes), Err(Refusal::Damaged(_))), "byte {at}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refused = Header::parse(&flipped);
            if (SEAL_START..FIXED_LEN).contains(&(bit / 8)) {
                assert_eq!(refused.unwrap(), header());
            } else {
                let expected = match bit / 64 {
                    0 => |refusal: &Refusal| matches!(refusal, Refusal::Foreign(_)),
                    1 if bit < 96 => |refusal: &Refusal| matches!(refusal, Refusal::Unfit(_)),
                    _ => |refusal: &Refusal| matches!(refusal, Refusal::Damaged(_)),
                };
                assert!(expected(&refused.unwrap_err()), "bit {bit}");
            }
        }
        let entry = Entry { start: 640, body_len: 100, layout_len: 8, checksum: 77 }.to_bytes(3);
        let seal = Seal { file_len: 1000, layout: Some((900, 8, 77)) }.to_bytes();
        for bit in 0..ENTRY_LEN * 8 {
            let mut flipped = entry;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::parse(&flipped, 3, 0, u64::MAX), None, "bit {bit} of an entry");
        }
        for bit in 0..SEAL_LEN * 8 {
            let mut flipped = seal;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Seal::parse(&flipped), None, "bit {bit} of a seal");
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = header().to_bytes();
        for len in 0..bytes.len() {
            let refusal = Header::parse(&bytes[..len]).unwrap_err();
            assert_eq!(matches!(refusal, Refusal::Foreign(_)), len < 8, "{len}: {refusal:?}");
            assert!(Header::is_ours(&bytes[..len]));
        }
        assert!(!Header::is_ours(b"other") && !Header::is_ours(&[0; 8]));
    }

    #[test]
    fn lengths_that_lie_buy_no_memory() {
        for at in [24, 28] {
            let mut bytes = header().to_bytes();
            bytes[at..at + 4].fill(0xff);
            let error = Header::parse(&bytes).unwrap_err().into_error();
            assert!(error.message().starts_with("cache header cut off after 136 bytes; delete"), "{error}");
        }
        let endless = Header { num_samples: u64::MAX / 16, ..header() };
        assert_eq!(endless.data_start(), None);
    }

    #[test]
    fn what_differs_is_said() {
        let other = Header { num_samples: 6, key: "another".to_owned(), records: "u8".to_owned() };
        let error = header().check(&other).unwrap_err().into_error();
        let expected = "a cache file made with the key \"a key\", expected \"another\", and made for 5 samples, expected 6, \
                        and made for samples of type f32, expected u8; delete the file, choose another path, or set \
                        `rebuild`";
        assert_eq!((error.message(), error.kind()), (expected, ErrorKind::State));
        header().check(&header()).unwrap();
    }

    #[test]
    fn an_entry_belongs_to_its_sample_and_lies_in_the_data() {
        let entry = Entry { start: 640, body_len: 100, layout_len: 8, checksum: 77 };
        let parse = |data_start, end| Entry::parse(&entry.to_bytes(3), 3, data_start, end);
        assert_eq!(Entry::parse(&entry.to_bytes(3), 4, 0, u64::MAX), None);
        assert_eq!((parse(640, 748), parse(641, 748), parse(640, 747)), (Some(entry), None, None));
        for (start, body_len, layout_len) in [(u64::MAX, 1, 0), (1, u64::MAX, 0), (u64::MAX - 1, 1, 1)] {
            let entry = Entry { start, body_len, layout_len, checksum: 0 };
            assert_eq!(Entry::parse(&entry.to_bytes(0), 0, 0, u64::MAX), None);
        }
        assert_eq!(Entry::parse(&[0; ENTRY_LEN], 0, 0, u64::MAX), None, "zeros are no entry");
    }
}
