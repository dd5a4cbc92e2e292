//! Text files, one sample a line.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mapped::Mapped;
use super::offsets::Offsets;
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

/// What some programs put before text to say that it is UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How a text file is opened.
#[derive(Debug, Clone)]
pub struct LinesOptions {
    limit_bytes: usize,
    in_memory: bool,
}

impl Default for LinesOptions {
    fn default() -> Self {
        Self { limit_bytes: 16 << 20, in_memory: false }
    }
}

impl LinesOptions {
    /// The most bytes that a line may have; to load a longer one is an error. The default is 16 MiB: a file that is no
    /// text may be one line as long as itself.
    pub fn limit_bytes(mut self, limit_bytes: usize) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Whether the file is read into memory instead of mapped; see [`Mapped`] for when that is better. The default is
    /// `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens a file, as [`Lines::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Lines::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Lines> {
        self.scan(if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
    }

    /// Takes the bytes of a file, as [`Lines::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`Lines::from_bytes`].
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Lines> {
        self.scan(Mapped::from_bytes(bytes, name))
    }

    fn scan(&self, bytes: Mapped) -> Result<Lines> {
        let starts = starts(&bytes).map_err(|error| error.with_file(bytes.path()))?;
        Ok(Lines { bytes: Arc::new(bytes), starts: Arc::new(starts), limit_bytes: self.limit_bytes })
    }
}

/// Where the lines begin. A last line need not end; behind an end there is no other line.
fn starts(bytes: &[u8]) -> Result<Offsets> {
    let mut starts = Offsets::default();
    let mut start = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    for end in memchr::memchr_iter(b'\n', bytes) {
        starts.push(start as u64)?;
        start = end + 1;
    }
    if start < bytes.len() {
        starts.push(start as u64)?;
    }
    Ok(starts.shrink())
}

/// The lines of a text file: `String`, without `\n` or `\r\n` at their ends.
///
/// The file is mapped, and a line is copied from there when it is loaded. Cheap to clone: clones share the bytes and the
/// places. A byte order mark is no part of the first line. Empty lines are samples, too.
///
/// # Cost
///
/// Opening reads the file once from its beginning to its end, at the speed of the memory or of the disk, to find the
/// lines: what makes a line findable is not known before. Their places take 4 bytes a line.
///
/// # Errors
///
/// `get` fails where a line is not UTF-8, an error of kind [`Format`](ErrorKind::Format) with the line (the first is
/// line 1) and the byte, or longer than the limit, of kind [`Limit`](ErrorKind::Limit).
///
/// # Examples
///
/// ```
/// use procession::source::Lines;
/// use procession::{Sequence, SequenceExt};
///
/// let lines = Lines::from_bytes(&b"to be\nor not\r\n\nto be"[..], "hamlet.txt")?;
/// assert_eq!((lines.len(), lines.get(1)?), (4, "or not".to_owned()));
///
/// let words = lines.map(|line| line.split_whitespace().count() as u32);
/// assert_eq!(words.get(3)?, 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct Lines {
    bytes: Arc<Mapped>,
    starts: Arc<Offsets>,
    limit_bytes: usize,
}

impl Lines {
    /// Opens a file and finds its lines. An empty file has none.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be read, [`Limit`](ErrorKind::Limit) if there is not
    /// enough memory for the places of its lines.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Takes the bytes of a file and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes(bytes, name)
    }

    /// Options to open a file with.
    pub fn options() -> LinesOptions {
        LinesOptions::default()
    }

    /// The bytes of a line, without its end.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of lines.
    pub fn bytes(&self, index: usize) -> &[u8] {
        check_index(index, self.starts.len());
        let start = self.starts.get(index);
        let end = if index + 1 < self.starts.len() { self.starts.get(index + 1) } else { self.bytes.len() };
        let line = &self.bytes[start..end];
        match line.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => line,
        }
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    fn text(&self, index: usize) -> Result<&str> {
        let (line, number, limit) = (self.bytes(index), index + 1, self.limit_bytes);
        let error = if line.len() > limit {
            let message = format!("line {number} has {} bytes, the limit is {limit}", line.len());
            Error::new(ErrorKind::Limit, message)
        } else {
            match std::str::from_utf8(line) {
                Ok(text) => return Ok(text),
                Err(cause) => {
                    let byte = self.starts.get(index) + cause.valid_up_to();
                    let message = format!("byte {byte} of the file, in line {number}, is not UTF-8, expected text");
                    Error::new(ErrorKind::Format, message).with_cause(cause)
                }
            }
        };
        Err(error.with_index(index as u64).with_file(self.path()))
    }
}

impl Sequence for Lines {
    type Sample = String;

    fn len(&self) -> usize {
        self.starts.len()
    }
    fn get(&self, index: usize) -> Result<String> {
        Ok(self.text(index)?.to_owned())
    }
    fn layout(&self) -> Option<()> {
        Some(())
    }
    /// In the memory that the row has.
    fn get_into(&self, index: usize, row: &mut String) -> Result<()> {
        let text = self.text(index)?;
        row.clear();
        row.push_str(text);
        Ok(())
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        Some(size_of::<String>() + self.bytes(index).len())
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.path().to_owned())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("path", &self.path()).field("len", &self.starts.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_rows, samples};

    fn lines(bytes: &[u8]) -> Lines {
        Lines::from_bytes(bytes.to_vec(), "the-file").unwrap()
    }

    #[test]
    fn lines_end_in_either_way_or_not_at_all() {
        for (bytes, expected) in [
            (&b""[..], &[][..]),
            (b"\n", &[""]),
            (b"a", &["a"]),
            (b"a\n", &["a"]),
            (b"a\nbc", &["a", "bc"]),
            (b"a\r\nb\r\n", &["a", "b"]),
            (b"\n\r\n\na", &["", "", "", "a"]),
            (b"a\rb\r\r\nc\r", &["a\rb\r", "c\r"]),
            (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", &["a", "\u{feff}b"]),
            (b"\xef\xbb\xbf", &[]),
            (b"\xef\xbb\xbf\n", &[""]),
            ("größe\n→\n".as_bytes(), &["größe", "→"]),
        ] {
            let lines = lines(bytes);
            check_rows(&lines);
            assert_eq!(samples(&lines), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_known_is_told() {
        let lines = lines(b"one\r\nthree");
        assert_eq!((lines.bytes(0), lines.bytes(1)), (&b"one"[..], &b"three"[..]));
        assert_eq!(lines.size_bytes(1), Some(size_of::<String>() + 5));
        assert_eq!((lines.file(1), lines.layout()), (Some("the-file".into()), Some(())));
        // A row's own memory is used again.
        let mut row = String::with_capacity(100);
        let start = row.as_ptr();
        lines.get_into(1, &mut row).unwrap();
        assert_eq!((row.as_str(), row.as_ptr()), ("three", start));
    }

    #[test]
    fn a_line_that_is_no_text_is_named_with_its_place() {
        let lines = lines(b"a\nb\nab\xffc\nd");
        let error = lines.get(2).unwrap_err();
        let expected = "byte 6 of the file, in line 3, is not UTF-8, expected text (index 2, file the-file)";
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Format));
        assert_eq!(lines.get_into(2, &mut String::new()).unwrap_err().to_string(), expected);
        assert_eq!(lines.get(3).unwrap(), "d");
    }

    #[test]
    fn the_limit_holds_for_each_line() {
        let lines = Lines::options().limit_bytes(3).from_bytes(&b"abc\r\nabcd\nab"[..], "the-file").unwrap();
        assert_eq!((lines.get(0).unwrap(), lines.get(2).unwrap()), ("abc".to_owned(), "ab".to_owned()));
        let error = lines.get(1).unwrap_err();
        let expected = "line 2 has 4 bytes, the limit is 3 (index 1, file the-file)";
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Limit));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_gives_lines_or_errors() {
        let whole = "a\r\nzwölf\n\nlast".as_bytes();
        for len in 0..whole.len() {
            let cut = lines(&whole[..len]);
            let text = String::from_utf8_lossy(&whole[..len]).replace("\r\n", "\n");
            assert_eq!(cut.len(), text.lines().count(), "cut at {len}");
        }
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let lines = lines(&flipped);
            let is_text = (0..lines.len()).all(|index| lines.get(index).is_ok());
            assert_eq!(is_text, std::str::from_utf8(&flipped).is_ok(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_is_mapped_or_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        std::fs::write(&path, "a\nb\n".repeat(5_000)).unwrap();
        let lines = Lines::open(&path).unwrap();
        assert_eq!((lines.len(), lines.get(9_999).unwrap(), lines.path()), (10_000, "b".to_owned(), &*path));
        drop(lines);
        let lines = Lines::options().in_memory(true).open(&path).unwrap();
        std::fs::write(&path, b"").unwrap();
        assert_eq!(lines.get(9_998).unwrap(), "a");
        for path in [dir.path().to_owned(), dir.path().join("missing")] {
            let error = Lines::open(&path).unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*path)));
        }
    }
}
