//! A scan of an archive that is somewhere else: it says which bytes it needs and goes on when it has them.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;

use super::index::{Builder, TarIndex};
use super::scan::{Walk, format_error};
use crate::error::{Error, ErrorKind, Result};

/// What is asked for first.
const FIRST_BYTES: u64 = 64 << 10;
const MIN_BYTES: u64 = 4 << 10;
const MAX_BYTES: u64 = 4 << 20;
/// Data shorter than this is read over: a request of its own for the header behind it would take as long.
const SHORT_GAP: u64 = 256 << 10;
/// The most that may stand before one member, or behind the last one: long names and pax records have a limit of their own,
/// their number has none.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// A scan that stops where bytes are missing.
pub(crate) struct ScanAhead {
    walk: Walk<Window>,
    builder: Builder,
    // How much is asked for at once: more and more where members are short, less where they are long.
    ahead: u64,
}

/// A part of the archive.
struct Window {
    size_bytes: u64,
    position: u64,
    start: u64,
    bytes: Vec<u8>,
    // Where a read found nothing.
    missing: Option<u64>,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl Read for Window {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.position.checked_sub(self.start).and_then(|at| self.bytes.get(usize::try_from(at).ok()?..));
        match from.filter(|from| !from.is_empty()) {
            Some(from) => {
                let len = from.len().min(to.len());
                to[..len].copy_from_slice(&from[..len]);
                self.position += len as u64;
                Ok(len)
            }
            None if self.position >= self.size_bytes => Ok(0),
            None => {
                self.missing = Some(self.position.saturating_add(to.len() as u64).min(self.size_bytes));
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(0) => self.size_bytes,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(self.position)
    }
}

/// Parts of an archive of which the rest is elsewhere.
struct Parts<'a> {
    size_bytes: u64,
    position: u64,
    parts: &'a [(u64, Bytes)],
}

impl Read for Parts<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.parts.iter().find_map(|(start, bytes)| {
            let from = bytes.get(usize::try_from(self.position.checked_sub(*start)?).ok()?..)?;
            (!from.is_empty()).then_some(from)
        });
        let from = from.ok_or(io::ErrorKind::WouldBlock)?;
        let len = from.len().min(to.len());
        to[..len].copy_from_slice(&from[..len]);
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Parts<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(0) => self.size_bytes,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(self.position)
    }
}

impl TarIndex {
    /// The ranges that [`agrees_with_parts`](Self::agrees_with_parts) needs, if they are short.
    pub(crate) fn parts_to_look_at(&self) -> Option<Vec<Range<u64>>> {
        let looked_at = self.looked_at().map_or(Vec::new(), Vec::from);
        looked_at.iter().all(|range| range.end - range.start <= MAX_BYTES).then_some(looked_at)
    }

    /// Whether the first field and the last one are where the index has them, by the headers before them.
    pub(crate) fn agrees_with_parts(&self, parts: &[(u64, Bytes)]) -> bool {
        self.agrees_with(Parts { size_bytes: self.size_bytes(), position: 0, parts })
    }
}

impl ScanAhead {
    /// Begins the scan of an archive of this size.
    pub(crate) fn new(size_bytes: u64) -> Result<Self> {
        let window = Window { size_bytes, position: 0, start: 0, bytes: Vec::new(), missing: None };
        Ok(Self { walk: Walk::new(window)?, builder: Builder::default(), ahead: FIRST_BYTES })
    }

    /// Goes on as far as bytes are there. Returns the range that is needed next, or `None` at the end.
    pub(crate) fn advance(&mut self) -> Result<Option<Range<u64>>> {
        loop {
            // What stands before a member is read from its beginning again, once more of it is there.
            let from = self.walk.position();
            match self.walk.next() {
                Ok(Some(member)) => self.builder.add(&member)?,
                Ok(None) => return Ok(None),
                Err(error) => match self.walk.reader().missing.take() {
                    None => return Err(error),
                    Some(until) => {
                        self.walk.set_position(from);
                        return self.need(from, until).map(Some);
                    }
                },
            }
        }
    }

    /// What to ask for if what lies in between is needed.
    fn need(&mut self, from: u64, until: u64) -> Result<Range<u64>> {
        if until - from > MAX_HEADER_BYTES {
            let message =
                format!("more than {MAX_HEADER_BYTES} bytes of headers or of zeros from byte {from} on, and no member");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let window = self.walk.reader();
        let (size_bytes, end) = (window.size_bytes, window.end());
        if end > 0 {
            self.ahead = match from.saturating_sub(end) {
                ..SHORT_GAP => (self.ahead * 2).min(MAX_BYTES),
                _ => (self.ahead / 4).max(MIN_BYTES),
            };
        }
        let window = self.walk.reader();
        if (window.start..end).contains(&from) {
            let before = (from - window.start) as usize;
            window.bytes.drain(..before);
        } else {
            window.bytes.clear();
        }
        window.start = from;
        let start = window.end();
        // What is needed lies within the archive: the walk compares every length with its size.
        Ok(start..start.saturating_add(self.ahead).max(until).min(size_bytes))
    }

    /// Takes the range that was asked for last.
    pub(crate) fn supply(&mut self, bytes: &[u8]) {
        self.walk.reader().bytes.extend_from_slice(bytes);
    }

    /// The index, at the end.
    pub(crate) fn finish(mut self) -> Result<TarIndex> {
        if self.advance()?.is_some() {
            return Err(format_error("the scan of the archive is not over".to_owned()));
        }
        let (size_bytes, terminated) = (self.walk.size_bytes(), self.walk.terminated());
        Ok(self.builder.finish(size_bytes, terminated))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{archive, file, scan, typed};
    use super::*;

    /// Scans with what is asked for, cut to some bytes at a time; the ranges that were asked for.
    fn scan_ahead(bytes: &[u8], at_most: usize) -> Result<(TarIndex, Vec<Range<u64>>)> {
        let mut scan = ScanAhead::new(bytes.len() as u64)?;
        let mut asked = Vec::new();
        while let Some(range) = scan.advance()? {
            assert!(range.start < range.end && range.end <= bytes.len() as u64, "{range:?}");
            let part = &bytes[range.start as usize..range.end as usize];
            scan.supply(&part[..part.len().min(at_most)]);
            asked.push(range);
        }
        Ok((scan.finish()?, asked))
    }

    fn archives() -> Vec<Vec<u8>> {
        let long = "n".repeat(3000);
        let long_name = |name: &str| typed("././@LongLink", b'L', name.as_bytes());
        vec![
            archive([file("a.jpg", b"x"), file("a.cls", b"1"), file("b.jpg", &[7; 5000])]),
            archive([long_name(&format!("{long}.jpg")), file("short.jpg", b"x"), typed("d/", b'5', b"")]),
            archive([file("a.bin", &vec![1; 300_000]), file("b.bin", &vec![2; 600_000]), file("c.bin", b"")]),
            archive([(0..500).flat_map(|number| file(&format!("{number}.txt"), &vec![3; number])).collect()]),
            vec![0; 1024],
            file("unterminated.txt", b"x"),
            [archive([file("a.txt", b"x")]), vec![0; 300_000]].concat(),
        ]
    }

    #[test]
    fn the_index_is_that_of_a_scan_of_the_whole() {
        for bytes in archives() {
            for at_most in [usize::MAX, 100_000, 700, 512, 100] {
                assert_eq!(scan_ahead(&bytes, at_most).unwrap().0, scan(&bytes).unwrap(), "{at_most} at a time");
            }
        }
    }

    #[test]
    fn long_data_is_not_read_and_short_data_is_read_over() {
        let members = |count: usize, len: usize| {
            archive([(0..count).flat_map(|number| file(&format!("{number}.bin"), &vec![0; len])).collect()])
        };
        let long = members(20, 2 << 20);
        let (index, asked) = scan_ahead(&long, usize::MAX).unwrap();
        let asked_bytes: u64 = asked.iter().map(|range| range.end - range.start).sum();
        assert!(index.len() == 20 && asked_bytes < 200 << 10, "{asked_bytes} of {}", long.len());
        let short = members(2000, 3000);
        let (index, asked) = scan_ahead(&short, usize::MAX).unwrap();
        assert!(index.len() == 2000 && asked.len() < 12, "{} requests for {} bytes", asked.len(), short.len());
    }

    #[test]
    fn what_is_damaged_is_refused_as_by_a_scan_of_the_whole() {
        let good = archive([file("a.jpg", &[1; 700]), file("a.cls", b"1"), file("b.jpg", b"x")]);
        for at in (0..good.len()).step_by(97) {
            for bytes in [good[..at].to_vec(), [&good[..at], &[0xff], &good[at + 1..]].concat()] {
                let message = |result: Result<TarIndex>| result.map_err(|error| error.to_string());
                let whole = message(scan(&bytes)).map_err(|text| text.replace(" (file the.tar)", ""));
                assert_eq!(message(scan_ahead(&bytes, 600).map(|(index, _)| index)), whole, "at {at}");
            }
        }
        for behind in [&good[..], b"x", &good[..600], &[7; 512]] {
            let joined = [&good[..], &[0; 100_000], behind].concat();
            let message = scan(&joined).unwrap_err().message().to_owned();
            for at_most in [usize::MAX, 1000, 100] {
                assert_eq!(scan_ahead(&joined, at_most).unwrap_err().message(), message);
            }
        }
        // Headers without end before a member.
        let endless = vec![typed("x", b'K', &[b'l'; 100]); 25_000].concat();
        assert_eq!(scan_ahead(&endless, usize::MAX).unwrap_err().kind(), ErrorKind::Limit);
    }

    // That an index is compared with the archive is tested where it is kept; here, that the parts are enough.
    #[test]
    fn an_index_agrees_with_the_headers_it_was_made_of() {
        let named = |last: &str| format!("{}.jpg", last.repeat(296));
        let bytes = |first: &str, last: &str| {
            let name = typed("././@LongLink", b'L', named(last).as_bytes());
            archive([file(first, &[1; 700]), file("m.jpg", b"2"), [name, file("cut", b"x")].concat()])
        };
        let index = scan(&bytes("a.jpg", "z")).unwrap();
        for (archive, agrees) in
            [(bytes("a.jpg", "z"), true), (bytes("b.jpg", "z"), false), (bytes("a.jpg", "y"), false)]
        {
            let ranges = index.parts_to_look_at().unwrap();
            assert!(ranges.iter().map(|range| range.end - range.start).sum::<u64>() < 3000, "{ranges:?}");
            let parts: Vec<(u64, Bytes)> = ranges
                .into_iter()
                .map(|range| (range.start, Bytes::copy_from_slice(&archive[range.start as usize..range.end as usize])))
                .collect();
            assert_eq!(index.agrees_with_parts(&parts), agrees);
        }
        assert!(scan(&[0; 1024]).unwrap().agrees_with_parts(&[]));
    }
}
