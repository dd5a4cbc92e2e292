//! The walk over an archive's headers.
//!
//! Source: POSIX.1-2017, `pax`, *ustar interchange format* and *pax extended header*
//! (<https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>), and the GNU tar manual, *Basic Tar Format*
//! (<https://www.gnu.org/software/tar/manual/html_node/Standard.html>).
//!
//! The layout of a header is the crate tar's. Its own iterator is not used, as what it does with foreign bytes is less
//! than a source of samples owes: it reads a long name into memory however long it is, cuts pax records at line breaks
//! although they have lengths, goes on with a header's size where the pax size cannot be read, takes the low 64 bits of
//! a larger number, hands out pax headers of an unknown dialect as members, and does not say where in the archive it
//! failed. Each of these would be a silent wrong sample or an unbounded allocation.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use ::tar::Header;

use super::passed_over::TarMemberKind;
use crate::error::{Error, ErrorKind, Result};

/// The unit of an archive: a header, and the multiple that data is padded to.
pub(super) const BLOCK: u64 = 512;

/// The most that a header of long names or pax records may hold: paths have a few thousand bytes at most, what else
/// stands there (attributes, access lists) some ten thousand.
pub(super) const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// How many bytes of a name an error shows.
const SHOWN_BYTES: usize = 200;

/// What an archive holds: something with a name, and the place of its data.
#[derive(Debug)]
pub(super) struct Member {
    /// As it is in the archive, which may be any bytes.
    pub(super) name: Vec<u8>,
    /// What it is if it is no file.
    pub(super) kind: Option<TarMemberKind>,
    /// Where its own header is.
    pub(super) header: u64,
    pub(super) data: Range<u64>,
}

/// The members of an archive, one after the other. Only headers are read.
pub(super) struct Walk<R> {
    reader: R,
    size_bytes: u64,
    // Invariant: a multiple of the block, which grows with every header that is read: the walk ends.
    position: u64,
    terminated: bool,
}

impl<R: Read + Seek> Walk<R> {
    pub(super) fn new(reader: R) -> Result<Self> {
        Self::from(reader, 0)
    }

    /// A walk that begins at a header, or behind the data before it, in the midst of an archive.
    pub(super) fn from(mut reader: R, start: u64) -> Result<Self> {
        let size_bytes = reader.seek(SeekFrom::End(0)).map_err(|cause| unreadable(0, cause))?;
        if size_bytes == 0 {
            return Err(format_error("empty file, expected a tar archive".to_owned()));
        }
        Ok(Self { reader, size_bytes, position: start.next_multiple_of(BLOCK), terminated: false })
    }

    /// Where the next member's headers begin.
    #[cfg(feature = "object-store")]
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes back to where a member's headers begin.
    #[cfg(feature = "object-store")]
    pub(super) fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    #[cfg(feature = "object-store")]
    pub(super) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The size of the archive's file.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether the walk ended at a block of zeros, as it should, and not at the end of the file. One block is taken for
    /// the two that there should be if it is the last one: some programs write no more.
    pub(super) fn terminated(&self) -> bool {
        self.terminated
    }

    /// The next member, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut described = Described::default();
        loop {
            let at = self.position;
            let Some(header) = self.header()? else {
                return match described.at {
                    None => Ok(None),
                    Some(at) => {
                        Err(format_error(format!("header at byte {at} describes a member that does not follow")))
                    }
                };
            };
            match header.as_old().linkflag[0] {
                b'L' => described.set_long_name(at, &self.extension(at, &header)?)?,
                b'x' => described.set_pax(at, &self.extension(at, &header)?)?,
                b'g' => check_global(at, &self.extension(at, &header)?)?,
                // Where a link leads concerns nobody here.
                b'K' => {
                    self.data_of(at, &header_name(&header), size_of(at, &header)?)?;
                    described.at.get_or_insert(at);
                }
                flag => return self.member(at, flag, &header, described).map(Some),
            }
        }
    }

    /// Reads the header at the position and steps behind it. `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let at = self.position;
        let present = self.size_bytes.saturating_sub(at).min(BLOCK);
        if present == 0 {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let block = &mut header.as_mut_bytes()[..present as usize];
        let read = self.reader.seek(SeekFrom::Start(at)).and_then(|_| self.reader.read_exact(block));
        read.map_err(|cause| unreadable(at, cause))?;
        if block.iter().all(|&byte| byte == 0) {
            self.check_behind(at)?;
            self.terminated = present == BLOCK;
            return Ok(None);
        }
        let checked = if present < BLOCK {
            Err(format_error(format!("{present} bytes at byte {at}, expected a tar header of {BLOCK}")))
        } else {
            check_sum(at, &header)
        };
        // A name may begin like a compressed file: what has a checksum is none.
        checked.map_err(|error| compressed(at, header.as_bytes()).unwrap_or(error))?;
        self.position = at + BLOCK;
        Ok(Some(header))
    }

    /// Checks that behind the end of the archive there are zeros alone, which programs write up to the size of a tape's
    /// record. Anything else is data that nobody would see: an end that is none, as a header was overwritten, or another
    /// archive.
    fn check_behind(&mut self, end: u64) -> Result<()> {
        let mut chunk = [0; 16 * BLOCK as usize];
        let mut at = end;
        self.reader.seek(SeekFrom::Start(at)).map_err(|cause| unreadable(at, cause))?;
        while at < self.size_bytes {
            let len = (self.size_bytes - at).min(chunk.len() as u64);
            // Not larger than the chunk.
            let bytes = &mut chunk[..len as usize];
            self.reader.read_exact(bytes).map_err(|cause| unreadable(at, cause))?;
            if let Some(place) = bytes.iter().position(|&byte| byte != 0) {
                let place = at + place as u64;
                return Err(self.behind(end, place));
            }
            at += len;
        }
        Ok(())
    }

    /// The error for what stands behind the end.
    fn behind(&mut self, end: u64, place: u64) -> Error {
        let start = place / BLOCK * BLOCK;
        let mut header = Header::new_old();
        let read = self.reader.seek(SeekFrom::Start(start)).and_then(|_| self.reader.read_exact(header.as_mut_bytes()));
        let what = if read.is_ok() && check_sum(start, &header).is_ok() {
            format!(
                "a member `{}` at byte {start}, expected zeros alone: archives that were joined are not read, and a header \
                 that was overwritten hides what follows",
                shown(&header_name(&header))
            )
        } else {
            format!("data at byte {place}, expected zeros alone")
        };
        format_error(format!("behind the end of the archive at byte {end} there is {what}"))
    }

    /// The place of data of this length behind the header at `at`, and steps behind it.
    fn data_of(&mut self, at: u64, name: &[u8], len: u64) -> Result<Range<u64>> {
        let start = self.position;
        let present = self.size_bytes - start;
        if len > present {
            let message = format!(
                "member `{}` at byte {at} has {len} bytes of data from byte {start} on, and {} of them are missing",
                shown(name),
                len - present,
            );
            return Err(format_error(message));
        }
        let end = start + len;
        // The padding of the last member may be missing.
        self.position = end.checked_next_multiple_of(BLOCK).unwrap_or(self.size_bytes);
        Ok(start..end)
    }

    /// The data of a header that describes the next member.
    fn extension(&mut self, at: u64, header: &Header) -> Result<Vec<u8>> {
        let len = size_of(at, header)?;
        if len > MAX_EXTENSION_BYTES {
            let message =
                format!("{len} bytes of names or pax records at byte {at}, the limit is {MAX_EXTENSION_BYTES}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let place = self.data_of(at, &header_name(header), len)?;
        // Within the limit, and the bytes are there.
        let mut data = vec![0; len as usize];
        let read = self.reader.seek(SeekFrom::Start(place.start)).and_then(|_| self.reader.read_exact(&mut data));
        read.map_err(|cause| unreadable(place.start, cause))?;
        Ok(data)
    }

    fn member(&mut self, at: u64, flag: u8, header: &Header, described: Described) -> Result<Member> {
        let name = described.name.unwrap_or_else(|| header_name(header));
        let refuse = |what: &str| Err(format_error(format!("member `{}` at byte {at} {what}", shown(&name))));
        if flag == b'S' || described.sparse {
            return refuse("is a sparse file, which is not supported: write the archive without `--sparse`");
        }
        let kind = match flag {
            // Before there was a flag for directories, a slash said so.
            0 | b'0' | b'7' if name.ends_with(b"/") => Some(TarMemberKind::Directory),
            0 | b'0' | b'7' => None,
            b'1' => Some(TarMemberKind::HardLink),
            b'2' => Some(TarMemberKind::SymbolicLink),
            b'3' | b'4' | b'6' => Some(TarMemberKind::Device),
            b'5' => Some(TarMemberKind::Directory),
            b'M' => return refuse("continues on another volume, which is not supported"),
            b'X' => return refuse("has an extended header of Solaris, which is not supported"),
            _ => Some(TarMemberKind::Other),
        };
        let len = match described.size {
            Some(len) => len,
            None => size_of(at, header)?,
        };
        // Some programs take such a size for data and others do not: they see different members from here on.
        if let Some(kind) = kind.filter(|&kind| len > 0 && kind != TarMemberKind::Other) {
            return refuse(&format!("is {kind} with a size of {len}, expected 0"));
        }
        let data = self.data_of(at, &name, len)?;
        Ok(Member { name, kind, header: at, data })
    }
}

/// What the headers before a member's own say of it.
#[derive(Debug, Default)]
struct Described {
    /// Where the first of them is.
    at: Option<u64>,
    pax: bool,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Described {
    fn set_long_name(&mut self, at: u64, data: &[u8]) -> Result<()> {
        self.at.get_or_insert(at);
        let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
        self.set_name(at, &data[..end])
    }

    fn set_name(&mut self, at: u64, name: &[u8]) -> Result<()> {
        if self.name.is_some() {
            return Err(format_error(format!("header at byte {at} gives a member its second long name")));
        }
        self.name = Some(name.to_vec());
        Ok(())
    }

    fn set_pax(&mut self, at: u64, data: &[u8]) -> Result<()> {
        self.at.get_or_insert(at);
        if std::mem::replace(&mut self.pax, true) {
            return Err(format_error(format!("header at byte {at} is the second with pax records for a member")));
        }
        let mut path = None;
        for_each_record(at, data, |key, value| {
            match key {
                b"path" => path = Some(value),
                b"size" => self.size = pax_size(at, value)?,
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            Ok(())
        })?;
        // No value takes back one before it.
        match path.filter(|path| !path.is_empty()) {
            Some(path) if path.contains(&0) => {
                Err(format_error(format!("pax header at byte {at} has a path with a zero byte: `{}`", shown(path))))
            }
            Some(path) => self.set_name(at, path),
            None => Ok(()),
        }
    }
}

fn pax_size(at: u64, value: &[u8]) -> Result<Option<u64>> {
    if value.is_empty() {
        return Ok(None);
    }
    match number(value) {
        Some(size) => Ok(Some(size)),
        None => {
            Err(format_error(format!("pax header at byte {at} has the size `{}`, expected a number", shown(value))))
        }
    }
}

/// A global pax header may say anything but where a member is and what it is called.
fn check_global(at: u64, data: &[u8]) -> Result<()> {
    for_each_record(at, data, |key, _| {
        if matches!(key, b"path" | b"size") || key.starts_with(b"GNU.sparse.") {
            let message = format!("global pax header at byte {at} sets `{}` for all members", shown(key));
            return Err(format_error(message));
        }
        Ok(())
    })
}

/// Calls `each` with the key and the value of pax records: `"%d %s=%s\n"`, where the number is the record's length.
fn for_each_record<'a>(at: u64, data: &'a [u8], mut each: impl FnMut(&'a [u8], &'a [u8]) -> Result<()>) -> Result<()> {
    let mut rest = data;
    while !rest.is_empty() {
        let Some((key, value, behind)) = first_record(rest) else {
            let place = data.len() - rest.len();
            return Err(format_error(format!("pax header at byte {at} has no whole record at its byte {place}")));
        };
        each(key, value)?;
        rest = behind;
    }
    Ok(())
}

fn first_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|&byte| byte == b' ')?;
    let len = usize::try_from(number(&data[..space])?).ok()?;
    let (record, behind) = data.split_at_checked(len)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
    Some((&text[..equals], &text[equals + 1..], behind))
}

/// Decimal digits as a number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The size in a header.
fn size_of(at: u64, header: &Header) -> Result<u64> {
    let field = &header.as_old().size;
    // A number that is not octal has this bit, and its sign in the next.
    let too_large = field[0] & 0x80 != 0 && (field[0] != 0x80 || field[1..4] != [0; 3]);
    match header.entry_size() {
        Ok(size) if !too_large => Ok(size),
        _ => {
            Err(format_error(format!("size `{}` in the header at byte {at}, expected a number", field.escape_ascii())))
        }
    }
}

/// The name in a header: with its prefix, where the dialect has one.
fn header_name(header: &Header) -> Vec<u8> {
    let until_zero = |field: &[u8]| field.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
    let bytes = header.as_bytes();
    let (name, magic, prefix) = (&bytes[..100], &bytes[257..263], &bytes[345..500]);
    let name = until_zero(name);
    let mut full = if magic == b"ustar\0" { until_zero(prefix) } else { Vec::new() };
    if !full.is_empty() {
        full.push(b'/');
    }
    full.extend(name);
    full
}

/// Compares a header with its checksum: the sum of its bytes, with spaces where the sum itself stands. Some old programs
/// took bytes for signed numbers.
fn check_sum(at: u64, header: &Header) -> Result<()> {
    let bytes = header.as_bytes().iter().enumerate();
    let counted = bytes.map(|(place, &byte)| if (148..156).contains(&place) { b' ' } else { byte });
    let (sum, signed) = counted
        .fold((0_u32, 0_i32), |(sum, signed), byte| (sum + u32::from(byte), signed + i32::from(byte.cast_signed())));
    match header.cksum() {
        Ok(stored) if stored == sum || i32::try_from(stored) == Ok(signed) => Ok(()),
        _ => {
            let stored = header.as_old().cksum.escape_ascii();
            let message = format!("checksum `{stored}` of the tar header at byte {at}, expected {sum:o}");
            Err(format_error(message))
        }
    }
}

/// The error for a file that is compressed, from what it begins with.
fn compressed(at: u64, start: &[u8]) -> Option<Error> {
    const FORMATS: [(&[u8], &str); 6] = [
        (&[0x1f, 0x8b], "gzip"),
        (b"BZh", "bzip2"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
        (&[0x1f, 0x9d], "compress"),
    ];
    let (_, format) = FORMATS.iter().find(|(magic, _)| at == 0 && start.starts_with(magic))?;
    Some(format_error(format!("compressed with {format}: decompress it first, as samples are read where they lie")))
}

/// A name for an error: what is not text is escaped, what is long is cut.
pub(super) fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(SHOWN_BYTES)];
    let text = match std::str::from_utf8(cut) {
        Ok(text) => text.escape_debug().to_string(),
        // What was cut within a character is text up to there.
        Err(error) if cut.len() < name.len() && error.error_len().is_none() => {
            String::from_utf8_lossy(&cut[..error.valid_up_to()]).escape_debug().to_string()
        }
        Err(_) => cut.escape_ascii().to_string(),
    };
    if cut.len() < name.len() { format!("{text}...") } else { text }
}

pub(super) fn format_error(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
}

fn unreadable(at: u64, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read the archive at byte {at}")).with_cause(cause)
}
