//! What a ZIP archive holds: the directory at its end, and the header before each member.
//!
//! Source: [PKWARE's description](https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), sections 4.3 and 4.5.3,
//! as far as NumPy's archives need it: one part, nothing before the first member or behind the directory.
//!
//! The crate `zip`, which writes our archives, is not what reads them: before it has looked at an entry it reserves
//! memory for as many as the file claims (some 400 bytes for each byte of a hostile file), and it searches a file that is
//! no archive from its end to its beginning.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};

const END: u32 = 0x0605_4b50;
const END_LEN: usize = 22;
const END_64: u32 = 0x0606_4b50;
const END_64_LEN: usize = 56;
const LOCATOR_64: u32 = 0x0706_4b50;
const LOCATOR_64_LEN: usize = 20;
const ENTRY: u32 = 0x0201_4b50;
const ENTRY_LEN: usize = 46;
const LOCAL: u32 = 0x0403_4b50;
const LOCAL_LEN: usize = 30;

/// How the bytes of a member are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// A member that the directory lists.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) checksum: u32,
    /// The length of its content.
    pub(super) len: u64,
    flags: u16,
    method: u16,
    compressed_len: u64,
    header_start: u64,
}

fn format<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::Format, message))
}

/// Numbers, little-endian, at places of bytes that may be too short.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        self.0.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.0.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.0.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn starts_with(&self, signature: u32) -> bool {
        self.u32(0) == Some(signature)
    }
}

/// Lists the members. Memory follows from the entries that are there, not from how many are claimed.
pub(super) fn members(bytes: &[u8]) -> Result<Vec<Member>> {
    let (directory, count) = directory(bytes)?;
    let mut members = Vec::new();
    let mut at = directory.start;
    while at < directory.end {
        let entry = &bytes[at..directory.end];
        let Some((member, entry_len)) = entry_of(entry) else {
            return format(format!("ZIP directory has no sound entry {} at byte {at}", members.len()));
        };
        members.push(member);
        at += entry_len;
    }
    if members.len() as u64 != count {
        return format(format!("ZIP directory of {} entries, expected {count} as the archive says", members.len()));
    }
    Ok(members)
}

/// Where the directory is, and the number of its entries.
fn directory(bytes: &[u8]) -> Result<(Range<usize>, u64)> {
    let Some(end_start) = end_start(bytes) else {
        return format(format!(
            "no end of a ZIP directory in a file of {} bytes, expected an NPZ archive",
            bytes.len()
        ));
    };
    let end = Fields(&bytes[end_start..]);
    let locator = end_start.checked_sub(LOCATOR_64_LEN).map(|start| Fields(&bytes[start..end_start]));
    let found = match locator.filter(|locator| locator.starts_with(LOCATOR_64)) {
        Some(locator) => directory_64(bytes, &locator),
        None => directory_32(&end).map(|(parts, count, len, start)| (parts, count, len, start, end_start as u64)),
    };
    let Some((parts, count, len, start, expected_end)) = found else {
        return format(format!("ZIP archive whose end at byte {end_start} is not whole"));
    };
    if parts != (0, 0) {
        return format(format!("part {} of a ZIP archive in several parts, expected a whole one", parts.0));
    }
    let range = start.checked_add(len).filter(|&end| end == expected_end);
    match range.and_then(|end| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)) {
        Some(range) => Ok((range, count)),
        None => {
            format(format!("ZIP directory of {len} bytes from byte {start}, expected it to end at byte {expected_end}"))
        }
    }
}

/// Where the record at the very end begins: only its comment stands behind it.
fn end_start(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_LEN)?;
    (last.saturating_sub(usize::from(u16::MAX))..=last).rev().find(|&start| {
        let end = Fields(&bytes[start..]);
        end.starts_with(END) && end.u16(20).is_some_and(|comment| start + END_LEN + usize::from(comment) == bytes.len())
    })
}

type Parts = (u32, u32);

/// Parts, number of entries, length and start of the directory.
fn directory_32(end: &Fields<'_>) -> Option<(Parts, u64, u64, u64)> {
    let parts = (end.u16(4)?.into(), end.u16(6)?.into());
    Some((parts, end.u16(10)?.into(), end.u32(12)?.into(), end.u32(16)?.into()))
}

/// The same of an archive with numbers of 64 bits, and where its directory has to end.
fn directory_64(bytes: &[u8], locator: &Fields<'_>) -> Option<(Parts, u64, u64, u64, u64)> {
    let start = locator.u64(8)?;
    let end = usize::try_from(start).ok().and_then(|at| bytes.get(at..at.checked_add(END_64_LEN)?))?;
    let end = Fields(end);
    end.starts_with(END_64).then_some(())?;
    Some(((end.u32(16)?, end.u32(20)?), end.u64(32)?, end.u64(40)?, end.u64(48)?, start))
}

/// The entry that starts with these bytes, and its length.
fn entry_of(bytes: &[u8]) -> Option<(Member, usize)> {
    let fields = Fields(bytes);
    fields.starts_with(ENTRY).then_some(())?;
    let [name_len, extra_len, comment_len] = [fields.u16(28)?, fields.u16(30)?, fields.u16(32)?].map(usize::from);
    let name_end = ENTRY_LEN + name_len;
    let extra_end = name_end + extra_len;
    let len = extra_end + comment_len;
    let rest = bytes.get(ENTRY_LEN..len)?;
    // What has no mark of UTF-8 is in an old code page, which agrees with it as far as ASCII goes.
    let name = std::str::from_utf8(&rest[..name_len]).ok()?.to_owned();
    let small = [fields.u32(24)?, fields.u32(20)?, fields.u32(42)?];
    let [len_of_content, compressed_len, header_start] = sizes(small, &bytes[name_end..extra_end])?;
    let member = Member {
        name,
        checksum: fields.u32(16)?,
        len: len_of_content,
        flags: fields.u16(8)?,
        method: fields.u16(10)?,
        compressed_len,
        header_start,
    };
    Some((member, len))
}

/// Sizes and places, of which those that do not fit 32 bits stand in an extra field, one behind the other.
fn sizes(small: [u32; 3], mut extra: &[u8]) -> Option<[u64; 3]> {
    const ID_64: u16 = 1;

    let mut wide: &[u8] = &[];
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let [id, len] = [u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]])];
        let content = rest.get(..usize::from(len))?;
        if id == ID_64 {
            wide = content;
        }
        extra = &rest[usize::from(len)..];
    }
    let mut sizes = small.map(u64::from);
    for size in sizes.iter_mut().filter(|size| **size == u64::from(u32::MAX)) {
        let (bytes, rest) = wide.split_first_chunk()?;
        *size = u64::from_le_bytes(*bytes);
        wide = rest;
    }
    Some(sizes)
}

impl Member {
    /// How the member is kept, if that is a way that can be read.
    pub(super) fn method(&self) -> Result<Method> {
        const ENCRYPTED: u16 = 1;

        if self.flags & ENCRYPTED != 0 {
            return format("encrypted, expected a member that is stored or deflated".to_owned());
        }
        match self.method {
            0 if self.compressed_len != self.len => {
                format(format!("{} bytes stored, expected {} as the directory says", self.compressed_len, self.len))
            }
            0 => Ok(Method::Stored),
            8 => Ok(Method::Deflated),
            other => format(format!("compressed by method {other}, expected 0 (stored) or 8 (deflated)")),
        }
    }

    /// Where its bytes are, behind the header that every member has once more.
    pub(super) fn range(&self, bytes: &[u8]) -> Result<Range<usize>> {
        let Some(range) = self.find(bytes) else {
            return format(format!("no sound header of this member at byte {} of the archive", self.header_start));
        };
        if range.end > bytes.len() {
            return format(format!("bytes {range:?} of an archive of {} bytes, expected a part of it", bytes.len()));
        }
        Ok(range)
    }

    fn find(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let header_start = usize::try_from(self.header_start).ok()?;
        let header = bytes.get(header_start..)?;
        let fields = Fields(header);
        fields.starts_with(LOCAL).then_some(())?;
        let name_end = LOCAL_LEN + usize::from(fields.u16(26)?);
        // A place that leads to another member's header would give another array without a word.
        (header.get(LOCAL_LEN..name_end)? == self.name.as_bytes()).then_some(())?;
        let start = header_start.checked_add(name_end + usize::from(fields.u16(28)?))?;
        Some(start..start.checked_add(usize::try_from(self.compressed_len).ok()?)?)
    }
}
