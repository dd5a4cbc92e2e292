//! Archives of samples.
//!
//! Everything in a header but name, size and checksum is constant (ustar, mode 0644, no owner, time 0), so that the same
//! samples give the same bytes. A name that ustar has no room for, or a size of 8 GiB and more, stands in a pax header.

use std::io::Write;
use std::ops::Range;

use ::tar::{EntryType, Header};

use super::scan::{BLOCK, MAX_EXTENSION_BYTES, shown};
use crate::error::{Error, ErrorKind, Result};

/// The blocks of zeros that end an archive.
const END: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// The first size that eleven octal digits have no room for.
const LARGE_BYTES: u64 = 1 << 33;

/// The longest name: with what a pax header adds to it, one that is read again.
const MAX_NAME_BYTES: usize = MAX_EXTENSION_BYTES as usize - 64;

/// Writes one tar archive of samples, anywhere.
///
/// The same samples give the same bytes. Without [`finish`](Self::finish) the archive has no end.
///
/// # Examples
///
/// ```
/// use procession::source::{TarShards, TarWriter};
///
/// let mut writer = TarWriter::new(Vec::new());
/// writer.append("a/1", &[("jpg", b"an image"), ("cls", b"7")])?;
/// let archive = writer.finish()?;
/// assert_eq!(archive.len(), 4 * 512 + 2 * 512);
/// assert_eq!(TarShards::from_bytes(archive, "memory")?.shard_lens().next(), Some(1));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    num_samples: u64,
    size_bytes: u64,
    last_key: String,
    // What was written is of no use any more.
    failed: bool,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, num_samples: 0, size_bytes: 0, last_key: String::new(), failed: false }
    }

    /// Writes a sample: a file for each of its fields, with its extension and its data, in the given order.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument), and nothing is written, if the sample would not be read again as it is:
    ///
    /// - the key is empty, begins or ends with a slash, or has `.`, `..`, nothing or a zero byte between two; if its base
    ///   name has a dot, or its first folder two underscores at both ends; if it is the key of the sample before;
    /// - there are no fields, or two with the same extension in lower case; if an extension is empty, begins or ends with
    ///   a dot, has two in a row, a slash or a zero byte.
    ///
    /// Of kind [`Io`](ErrorKind::Io) if it cannot be written. The archive is then of no use, and `append` and `finish`
    /// fail from there on.
    pub fn append(&mut self, key: &str, fields: &[(&str, &[u8])]) -> Result<()> {
        let prepared = Prepared::new(key, fields)?;
        self.write(&prepared)
    }

    pub(super) fn write(&mut self, sample: &Prepared<'_>) -> Result<()> {
        if sample.key == self.last_key {
            return Err(refused(sample.key, "it is the key of the sample before"));
        }
        self.check()?;
        // Until all is written.
        self.failed = true;
        for (head, data) in &sample.files {
            self.out.write_all(head)?;
            self.out.write_all(data)?;
            self.out.write_all(&END[..padding(data.len() as u64) as usize])?;
        }
        self.failed = false;
        self.num_samples += 1;
        self.size_bytes += sample.size_bytes();
        self.last_key = sample.key.to_owned();
        Ok(())
    }

    /// The number of samples so far.
    pub fn num_samples(&self) -> u64 {
        self.num_samples
    }

    /// The size of the archive, were it finished now.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes + END.len() as u64
    }

    /// Ends the archive, and returns what it was written to.
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](ErrorKind::Io) if the end cannot be written, or something before it could not be.
    pub fn finish(mut self) -> Result<W> {
        self.check()?;
        self.out.write_all(&END)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn check(&self) -> Result<()> {
        if self.failed { Err(Error::new(ErrorKind::Io, "the archive could not be written before")) } else { Ok(()) }
    }
}

/// A sample with the headers of its files.
pub(super) struct Prepared<'a> {
    key: &'a str,
    files: Vec<(Vec<u8>, &'a [u8])>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(key: &'a str, fields: &[(&'a str, &'a [u8])]) -> Result<Self> {
        check_key(key)?;
        if fields.is_empty() {
            return Err(refused(key, "it has no fields"));
        }
        let mut seen = Vec::with_capacity(fields.len());
        let mut files = Vec::with_capacity(fields.len());
        for &(extension, data) in fields {
            check_extension(key, extension)?;
            let lower = extension.to_lowercase();
            if seen.contains(&lower) {
                return Err(refused(key, &format!("it has the field `{lower}` twice")));
            }
            seen.push(lower);
            let name = format!("{key}.{extension}");
            if name.len() > MAX_NAME_BYTES {
                let what = format!("a name of {} bytes, expected at most {MAX_NAME_BYTES}", name.len());
                return Err(refused(key, &what));
            }
            files.push((head(&name, data.len() as u64), data));
        }
        Ok(Self { key, files })
    }

    pub(super) fn size_bytes(&self) -> u64 {
        let sizes = self.files.iter().map(|(head, data)| (head.len() as u64, data.len() as u64));
        sizes.map(|(head, data)| head + data + padding(data)).sum()
    }
}

fn check_key(key: &str) -> Result<()> {
    let base = key.rsplit('/').next().unwrap_or_default();
    let first = key.split('/').next().unwrap_or_default();
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refused(key, "expected a relative path without `.` and `..`"));
    }
    if key.contains('\0') {
        return Err(refused(key, "it has a zero byte"));
    }
    if base.contains('.') {
        return Err(refused(key, "its base name has a dot, where the extension would begin"));
    }
    if first.len() >= 4 && first.starts_with("__") && first.ends_with("__") {
        return Err(refused(key, "it begins like metadata, which is passed over"));
    }
    Ok(())
}

fn check_extension(key: &str, extension: &str) -> Result<()> {
    if extension.contains(['/', '\0']) || extension.split('.').any(str::is_empty) {
        let extension = shown(extension.as_bytes());
        return Err(refused(key, &format!("extension `{extension}`, expected one such as `jpg` or `seg.png`")));
    }
    Ok(())
}

fn refused(key: &str, what: &str) -> Error {
    Error::argument(format!("sample `{}`: {what}", shown(key.as_bytes())))
}

fn padding(len: u64) -> u64 {
    len.next_multiple_of(BLOCK) - len
}

/// What stands before the data of a file.
fn head(name: &str, len: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let place = ustar_place(name);
    if place.is_none() {
        records.extend(record("path", name));
    }
    let is_large = len >= LARGE_BYTES;
    if is_large {
        records.extend(record("size", &len.to_string()));
    }
    let mut head = Vec::new();
    if !records.is_empty() {
        let size = records.len() as u64;
        head.extend_from_slice(header("././@PaxHeader", 0..0, EntryType::XHeader, size).as_bytes());
        head.append(&mut records);
        head.resize(head.len().next_multiple_of(BLOCK as usize), 0);
    }
    // Who does not know pax sees the beginning of the name, and no data.
    let cut = (0..=100.min(name.len())).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    let (name, prefix) = place.map_or((&name[..cut], 0..0), |prefix| (name, prefix));
    let size = if is_large { 0 } else { len };
    head.extend_from_slice(header(name, prefix, EntryType::Regular, size).as_bytes());
    head
}

/// How a name fits a ustar header: what of it is the prefix. A slash between prefix and name is in neither.
fn ustar_place(name: &str) -> Option<Range<usize>> {
    if name.len() <= 100 {
        return Some(0..0);
    }
    // The first slash that leaves a name that is short enough.
    let first = name.len() - 101;
    let slash = first + name.as_bytes()[first..].iter().position(|&byte| byte == b'/')?;
    (slash <= 155 && slash > 0).then_some(0..slash)
}

fn header(name: &str, prefix: Range<usize>, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let rest = if prefix.is_empty() { name } else { &name[prefix.end + 1..] };
    let ustar = header.as_ustar_mut().expect("it was made as one");
    ustar.name[..rest.len()].copy_from_slice(rest.as_bytes());
    ustar.prefix[..prefix.len()].copy_from_slice(&name.as_bytes()[prefix]);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_cksum();
    header
}

/// A pax record: its length, which counts its own digits, the key and the value.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let with_digits = |digits: usize| rest.len() + digits;
    let digits = (1..).find(|&digits| with_digits(digits).to_string().len() == digits).unwrap_or(1);
    format!("{}{rest}", with_digits(digits)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::tests::scan;
    use super::super::{TarIndex, TarShards};
    use super::*;
    use crate::sequence::Sequence;

    type Sample<'a> = (&'a str, &'a [(&'a str, &'a [u8])]);

    fn write(samples: &[Sample<'_>]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        samples.iter().for_each(|(key, fields)| writer.append(key, fields).unwrap());
        let size_bytes = writer.size_bytes();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() as u64, size_bytes);
        bytes
    }

    /// Names of every length around the limits of ustar.
    fn long_keys() -> impl Iterator<Item = String> {
        let flat = (90..300).map(|len| "n".repeat(len));
        let folders = (90..300).map(|len| format!("{}/{}", "d".repeat(len / 2), "n".repeat(len - len / 2 - 1)));
        let deep = (90..300).map(|len| format!("{}n", "d/".repeat(len / 2)));
        let first = (90..300).map(|len| format!("d/{}", "n".repeat(len - 2)));
        let last = (90..300).map(|len| format!("{}/n", "\u{e9}".repeat(len / 2)));
        flat.chain(folders).chain(deep).chain(first).chain(last)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for key in long_keys().chain(["a".to_owned(), "a b/\u{e9}\n".to_owned(), "x".repeat(100_000)]) {
            for size in [0, 1, 511, 512, 513] {
                let data = vec![7; size];
                let bytes = write(&[(&key, &[("jpg", &data), ("SEG.png", b"s")]), ("last", &[("cls", b"1")])]);
                let shards = TarShards::from_bytes(bytes, "the.tar").unwrap();
                let sample = shards.get(0).unwrap();
                assert_eq!((shards.len(), sample.key()), (2, &*key));
                assert_eq!(sample.field("jpg").unwrap().bytes(), data);
                assert_eq!(sample.extensions().collect::<Vec<_>>(), ["jpg", "seg.png"]);
                assert!(shards.shards().all(|(_, index)| index.is_terminated() && index.num_passed_over() == 0));
            }
        }
    }

    /// What the crate tar makes of an archive: names, places and sizes.
    fn read_by_tar(bytes: &[u8]) -> Vec<(String, u64, u64)> {
        let mut archive = ::tar::Archive::new(std::io::Cursor::new(bytes));
        let entry = |entry: std::io::Result<::tar::Entry<'_, _>>| {
            let entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            (name, entry.raw_file_position(), entry.size())
        };
        archive.entries_with_seek().unwrap().map(entry).collect()
    }

    fn read_by_us(index: &TarIndex) -> Vec<(String, u64, u64)> {
        let entries = index.entries().flat_map(|entry| entry.fields().collect::<Vec<_>>());
        entries.map(|field| (field.member(), field.range().start, field.size_bytes())).collect()
    }

    #[test]
    fn what_is_written_is_what_another_reader_finds() {
        for key in long_keys() {
            let bytes = write(&[(&key, &[("jpg", b"x"), ("cls", b"1")])]);
            assert_eq!(read_by_tar(&bytes), read_by_us(&scan(&bytes).unwrap()));
        }
    }

    #[test]
    fn a_name_that_fits_has_no_pax_header() {
        let len = |key: &str| write(&[(key, &[("jpg", b"")])]).len() - 1024;
        assert_eq!(len(&"n".repeat(96)), 512);
        assert_eq!(len(&"n".repeat(97)), 3 * 512);
        assert_eq!(len(&format!("{}/{}", "d".repeat(155), "n".repeat(96))), 512);
        assert_eq!(len(&format!("{}/{}", "d".repeat(156), "n".repeat(96))), 3 * 512);
        assert_eq!(len(&format!("{}/{}", "d".repeat(155), "n".repeat(97))), 3 * 512);
    }

    #[test]
    fn a_size_that_ustar_has_no_room_for_stands_in_a_pax_header() {
        for (len, pax) in [(LARGE_BYTES - 1, false), (LARGE_BYTES, true), (u64::MAX / 2, true)] {
            let head = head("a.jpg", len);
            assert_eq!(head.len(), if pax { 3 * 512 } else { 512 });
            // Data is not there: the error tells what size was read.
            let error = scan(&head).unwrap_err();
            assert!(error.message().contains(&format!(" has {len} bytes of data ")), "{error}");
        }
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for (value_len, expected) in
            [(0, "5 k="), (4, "9 k="), (5, "11 k="), (93, "99 k="), (94, "101 k="), (993, "1001 k=")]
        {
            let record = record("k", &"v".repeat(value_len));
            assert!(String::from_utf8(record.clone()).unwrap().starts_with(expected), "{value_len}");
            assert_eq!(record.len(), expected.len() + value_len + 1);
        }
    }

    #[test]
    fn what_would_not_be_read_again_is_refused_and_nothing_is_written() {
        let x: &[u8] = b"x";
        for (key, fields, expected) in [
            ("", &[("jpg", x)][..], "sample ``: expected a relative path without `.` and `..`"),
            ("/a", &[("jpg", x)], "sample `/a`: expected a relative path without `.` and `..`"),
            ("a/", &[("jpg", x)], "sample `a/`: expected a relative path without `.` and `..`"),
            ("a//b", &[("jpg", x)], "sample `a//b`: expected a relative path without `.` and `..`"),
            ("../a", &[("jpg", x)], "sample `../a`: expected a relative path without `.` and `..`"),
            ("a/../b", &[("jpg", x)], "sample `a/../b`: expected a relative path without `.` and `..`"),
            ("./a", &[("jpg", x)], "sample `./a`: expected a relative path without `.` and `..`"),
            ("a.b", &[("jpg", x)], "sample `a.b`: its base name has a dot, where the extension would begin"),
            (".a", &[("jpg", x)], "sample `.a`: its base name has a dot, where the extension would begin"),
            ("a\0b", &[("jpg", x)], "sample `a\\0b`: it has a zero byte"),
            ("__a__/b", &[("jpg", x)], "sample `__a__/b`: it begins like metadata, which is passed over"),
            ("____/b", &[("jpg", x)], "sample `____/b`: it begins like metadata, which is passed over"),
            ("a", &[], "sample `a`: it has no fields"),
            ("a", &[("", x)], "sample `a`: extension ``, expected one such as `jpg` or `seg.png`"),
            ("a", &[(".jpg", x)], "sample `a`: extension `.jpg`, expected one such as `jpg` or `seg.png`"),
            ("a", &[("jpg.", x)], "sample `a`: extension `jpg.`, expected one such as `jpg` or `seg.png`"),
            ("a", &[("a..b", x)], "sample `a`: extension `a..b`, expected one such as `jpg` or `seg.png`"),
            ("a", &[("a/b", x)], "sample `a`: extension `a/b`, expected one such as `jpg` or `seg.png`"),
            ("a", &[("a\0", x)], "sample `a`: extension `a\\0`, expected one such as `jpg` or `seg.png`"),
            ("a", &[("jpg", x), ("JPG", x)], "sample `a`: it has the field `jpg` twice"),
            ("before", &[("jpg", x)], "sample `before`: it is the key of the sample before"),
        ] {
            let mut writer = TarWriter::new(Vec::new());
            writer.append("before", &[("cls", b"1")]).unwrap();
            let error = writer.append(key, fields).unwrap_err();
            assert_eq!((error.kind(), error.message()), (ErrorKind::Argument, expected));
            // The writer goes on.
            writer.append("after", &[("cls", b"1")]).unwrap();
            let bytes = writer.finish().unwrap();
            assert_eq!(bytes, write(&[("before", &[("cls", b"1")]), ("after", &[("cls", b"1")])]));
        }
        let mut writer = TarWriter::new(Vec::new());
        let error = writer.append(&"n".repeat(MAX_NAME_BYTES), &[("jpg", x)]).unwrap_err();
        assert!(error.message().ends_with("a name of 1048516 bytes, expected at most 1048512"), "{error}");
        let key = "n".repeat(MAX_NAME_BYTES - 4);
        writer.append(&key, &[("jpg", x)]).unwrap();
        assert_eq!(scan(&writer.finish().unwrap()).unwrap().entry(0).key(), key);
        // Dots and underscores elsewhere are no matter.
        write(&[("a.b/__c__", &[("jpg", x)]), ("___/b", &[("jpg", x)]), ("..a/b", &[("jpg", x)])]);
    }

    #[test]
    fn after_a_failure_nothing_is_written_any_more() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                if taken == 0 { Err(std::io::Error::other("no space")) } else { Ok(taken) }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        for room in [0, 100, 512, 513, 1000] {
            let mut writer = TarWriter::new(Full(room));
            let error = writer.append("a", &[("jpg", b"x")]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            writer.out.0 = usize::MAX;
            let again = writer.append("b", &[("jpg", b"x")]).unwrap_err();
            assert_eq!(again.message(), "the archive could not be written before");
            assert_eq!((writer.num_samples(), writer.finish().err().unwrap().kind()), (0, ErrorKind::Io));
        }
    }
}
