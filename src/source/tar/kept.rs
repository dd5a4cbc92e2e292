//! An index as bytes, and in a file beside its archive.
//!
//! | part | bytes |
//! |---|---|
//! | magic | `tarindex` |
//! | version of the format | 1 byte, now 1 |
//! | CRC-32 of what follows | 4, little-endian |
//! | archive | its size, the bytes of its version, 1 if it ends with zeros or else 0 |
//! | extensions | how many; the text of each |
//! | samples | how many; of each the key, and its fields: how many, and of each |
//! | | the number of its extension, the blocks from the end of the field before it to its data, its size |
//! | passed over | how many in all, how many listed; of each its kind and name |
//!
//! A number is in LEB128 (7 bits a byte, the lowest first), a text is its length and its bytes.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::index::{Builder, Place, TarIndex};
use super::passed_over::{PassedOver, TarMemberKind, TarPassedOver};
use super::scan::{BLOCK, format_error};
use crate::error::{Error, ErrorKind, Result};
use crate::file::replace_file;
use crate::source::Mapped;

const MAGIC: &[u8; 8] = b"tarindex";
const FORMAT_VERSION: u8 = 1;
/// Magic, version and checksum.
const HEAD_BYTES: usize = 13;

impl TarIndex {
    /// The index as bytes to be kept, in a compact format of this crate: about 10 bytes and the key for a sample.
    ///
    /// `version` is what changes when the archive does, such as its modification time or an entity tag. The size of the
    /// archive is kept in any case.
    pub fn to_bytes(&self, version: &[u8]) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.0.push(FORMAT_VERSION);
        out.0.extend([0; 4]);
        out.number(self.size_bytes);
        out.text(version);
        out.0.push(u8::from(self.terminated));
        out.number(self.extensions.len() as u64);
        self.extensions.iter().for_each(|extension| out.text(extension.spelt.as_bytes()));
        out.number(self.len() as u64);
        let mut end = 0;
        for entry in self.entries() {
            out.text(entry.key().as_bytes());
            out.number(entry.fields.len() as u64);
            for place in entry.fields {
                out.number(place.extension as u64);
                // Data begins at a multiple of the block, and ends anywhere.
                out.number(place.start / BLOCK - end);
                out.number(place.len);
                end = place.end().div_ceil(BLOCK);
            }
        }
        out.number(self.passed_over.count);
        out.number(self.passed_over.listed.len() as u64);
        for TarPassedOver { name, kind } in &self.passed_over.listed {
            out.0.push(*kind as u8);
            out.text(name.as_bytes());
        }
        let checksum = crc32fast::hash(&out.0[HEAD_BYTES..]);
        out.0[9..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out.0
    }

    /// An index from the bytes that [`to_bytes`](Self::to_bytes) gave, for an archive of this size and version.
    ///
    /// Every field lies within `size_bytes`, whatever the bytes say. That it is where the archive has it cannot be told:
    /// an index is to be trusted like the archive itself.
    ///
    /// # Errors
    ///
    /// Of kind [`State`](ErrorKind::State) if the index is of another format version, or of an archive of another size or
    /// version; [`Format`](ErrorKind::Format) if the bytes are damaged or no index.
    pub fn from_bytes(bytes: &[u8], size_bytes: u64, version: &[u8]) -> Result<Self> {
        let mut input = Reader(bytes);
        if input.take(MAGIC.len() as u64)? != MAGIC {
            return Err(format_error("no index of a tar archive".to_owned()));
        }
        let format_version = input.byte()?;
        if format_version != FORMAT_VERSION {
            let message = format!("index of format version {format_version}, expected {FORMAT_VERSION}");
            return Err(Error::new(ErrorKind::State, message));
        }
        let stored = input.take(4)?;
        if stored != crc32fast::hash(input.0).to_le_bytes() {
            return Err(format_error("the checksum of the index is wrong".to_owned()));
        }
        let indexed_bytes = input.number()?;
        let same_version = input.text()? == version;
        if indexed_bytes != size_bytes || !same_version {
            let message = format!(
                "index of an archive of {indexed_bytes} bytes, expected {size_bytes}{}",
                if same_version { "" } else { ", and of another version" }
            );
            return Err(Error::new(ErrorKind::State, message));
        }
        input.index(size_bytes)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
    }
}

/// The bytes that are left. Nothing is allocated for a number before what it counts has been read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let (taken, left) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or_else(|| damaged(&format!("{} bytes left, expected {len}", self.0.len())))?;
        self.0 = left;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged("a number above 2^64"))
    }

    fn text(&mut self) -> Result<&'a [u8]> {
        let len = self.number()?;
        self.take(len)
    }

    fn utf8(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.text()?).map_err(|_| damaged("a name that is not UTF-8"))
    }

    /// How many of something follow, of which there are at most so many.
    fn count(&mut self, limit: u64, what: &str) -> Result<u64> {
        let count = self.number()?;
        if count > limit { Err(damaged(&format!("{count} {what}, expected at most {limit}"))) } else { Ok(count) }
    }

    fn index(mut self, size_bytes: u64) -> Result<TarIndex> {
        let terminated = self.byte()? != 0;
        let mut builder = Builder::default();
        let mut numbers = Vec::new();
        for _ in 0..self.count(size_bytes / BLOCK, "extensions")? {
            numbers.push(builder.extension(self.utf8()?));
        }
        // In blocks, the end of the data before.
        let mut end = 0_u64;
        for _ in 0..self.number()? {
            let (key, num_fields) = (self.utf8()?, self.number()?);
            if num_fields == 0 {
                return Err(damaged("a sample without fields"));
            }
            for _ in 0..num_fields {
                let number = usize::try_from(self.number()?).ok();
                let extension = number.and_then(|number| numbers.get(number));
                let &extension = extension.ok_or_else(|| damaged("an extension that is not listed"))?;
                let place = self.place(end, extension, size_bytes)?;
                end = place.end().div_ceil(BLOCK);
                if !builder.add_field(key, place) {
                    return Err(damaged("a field that a sample has twice"));
                }
            }
        }
        builder.passed_over = self.passed_over(size_bytes)?;
        if !self.0.is_empty() {
            return Err(damaged(&format!("{} bytes too many", self.0.len())));
        }
        Ok(builder.finish(size_bytes, terminated))
    }

    fn place(&mut self, end: u64, extension: usize, size_bytes: u64) -> Result<Place> {
        let (blocks, len) = (self.number()?, self.number()?);
        let start = end.checked_add(blocks).and_then(|block| block.checked_mul(BLOCK));
        let within = |&start: &u64| start.checked_add(len).is_some_and(|end| end <= size_bytes);
        // Between two fields there is at least a header.
        let start = start.filter(|start| blocks > 0 && within(start));
        let start = start.ok_or_else(|| damaged("a field that is not within the archive"))?;
        Ok(Place { extension, start, len })
    }

    fn passed_over(&mut self, size_bytes: u64) -> Result<PassedOver> {
        // Each has a header, so that the numbers of many shards have a sum.
        let count = self.count(size_bytes / BLOCK, "members that are passed over")?;
        let mut passed_over = PassedOver { count, listed: Vec::new() };
        let most = count.min(PassedOver::MAX_LISTED as u64);
        for _ in 0..self.count(most, "members in the list of those that are passed over")? {
            let kind = TarMemberKind::from_code(self.byte()?).ok_or_else(|| damaged("a member of an unknown kind"))?;
            passed_over.listed.push(TarPassedOver { name: self.utf8()?.to_owned(), kind });
        }
        Ok(passed_over)
    }
}

fn damaged(what: &str) -> Error {
    format_error(format!("the index is damaged: {what}"))
}

/// The file that the index of an archive is kept in.
pub(super) fn index_path(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".index");
    PathBuf::from(name)
}

/// What tells one version of a file from another: its size, and the bytes of its modification time. `None` where there
/// is no such thing.
pub(super) fn stamp(path: &Path) -> Option<(u64, Vec<u8>)> {
    let about = fs::metadata(path).ok()?;
    let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let version = [&modified.as_secs().to_le_bytes()[..], &modified.subsec_nanos().to_le_bytes()].concat();
    Some((about.len(), version))
}

/// The index that is kept beside an archive with these bytes, if it is one of this version, and of these bytes as far as
/// its first field and its last one can tell: a copy of another archive may have the same size and time.
pub(super) fn load(archive: &[u8], path: &Path, version: &[u8]) -> Option<TarIndex> {
    let path = index_path(path);
    // Whoever put a larger file there: it is none, as a sample takes less in an index than its headers in the archive.
    let bytes = Mapped::read_within(&path, archive.len() as u64).ok()?;
    let index = TarIndex::from_bytes(&bytes, archive.len() as u64, version).ok()?;
    index.agrees_with(Cursor::new(archive)).then_some(index)
}

/// Keeps the index beside its archive, where that can be done: without it the archive is only slower to open.
pub(super) fn store(index: &TarIndex, archive: &Path, version: &[u8]) {
    let _ = replace_file(index_path(archive), &index.to_bytes(version));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::tests::{archive, file, scan, typed};
    use super::super::{TarOptions, TarShards};
    use super::*;
    use crate::sequence::Sequence;

    fn bytes() -> Vec<u8> {
        archive([
            typed("a/", b'5', b""),
            file("a/1.jpg", &[7; 700]),
            file("a/1.CLS", b"1"),
            typed("a/2.gif", b'2', b""),
            file("a/2.jpg", b""),
            file("b/1.Jpg", b"x"),
            file("b/1.cls", b"2"),
        ])
    }

    const VERSION: &[u8] = b"version 7";

    fn repaired(mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() >= HEAD_BYTES {
            let checksum = crc32fast::hash(&bytes[HEAD_BYTES..]);
            bytes[9..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn an_index_is_the_same_after_it_was_kept() {
        for archive in [bytes(), vec![0; 1024], [file("a.jpg", b"x"), file("b.jpg", b"x")].concat()] {
            let index = scan(&archive).unwrap();
            let kept = index.to_bytes(VERSION);
            assert_eq!(TarIndex::from_bytes(&kept, archive.len() as u64, VERSION).unwrap(), index);
        }
        let index = scan(&bytes()).unwrap();
        // Of an archive of 7 KB; pinned, as a change needs another version.
        assert_eq!((index.to_bytes(b"").len(), crc32fast::hash(&index.to_bytes(b""))), (81, 3_049_451_827));
    }

    #[test]
    fn another_archive_or_format_is_told_from_damage() {
        let archive = bytes();
        let (kept, size) = (scan(&archive).unwrap().to_bytes(VERSION), archive.len() as u64);
        for (bytes, size, version, kind, expected) in [
            (
                kept.clone(),
                size + 1,
                VERSION,
                ErrorKind::State,
                format!("index of an archive of {size} bytes, expected {}", size + 1),
            ),
            (
                kept.clone(),
                size,
                &b"version 8"[..],
                ErrorKind::State,
                format!("index of an archive of {size} bytes, expected {size}, and of another version"),
            ),
            (
                [&MAGIC[..], &[2], &kept[9..]].concat(),
                size,
                VERSION,
                ErrorKind::State,
                "index of format version 2, expected 1".to_owned(),
            ),
            (b"a text, no index".to_vec(), size, VERSION, ErrorKind::Format, "no index of a tar archive".to_owned()),
            (vec![], size, VERSION, ErrorKind::Format, "the index is damaged: 0 bytes left, expected 8".to_owned()),
            (
                [&kept[..], b"x"].concat(),
                size,
                VERSION,
                ErrorKind::Format,
                "the checksum of the index is wrong".to_owned(),
            ),
            (
                repaired([&kept[..], b"x"].concat()),
                size,
                VERSION,
                ErrorKind::Format,
                "the index is damaged: 1 bytes too many".to_owned(),
            ),
        ] {
            let error = TarIndex::from_bytes(&bytes, size, version).unwrap_err();
            assert_eq!((error.kind(), error.message()), (kind, &*expected));
        }
    }

    #[test]
    fn every_cut_and_every_bit_flip_is_refused() {
        let archive = bytes();
        let (kept, size) = (scan(&archive).unwrap().to_bytes(VERSION), archive.len() as u64);
        for len in 0..kept.len() {
            assert!(TarIndex::from_bytes(&kept[..len], size, VERSION).is_err(), "cut at {len}");
            assert!(TarIndex::from_bytes(&repaired(kept[..len].to_vec()), size, VERSION).is_err(), "cut at {len}");
        }
        for bit in 0..8 * kept.len() {
            let mut flipped = kept.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(TarIndex::from_bytes(&flipped, size, VERSION).is_err(), "bit {bit}");
            // With the right checksum it may be another index, and never one that leads out of the archive.
            if let Ok(index) = TarIndex::from_bytes(&repaired(flipped), size, VERSION) {
                let mut fields = index.entries().flat_map(|entry| entry.fields().collect::<Vec<_>>());
                assert!(fields.all(|field| field.range().end <= size), "bit {bit}");
            }
        }
    }

    #[test]
    fn numbers_that_lie_are_refused() {
        let head = |size: u64| {
            let mut out = Writer([&MAGIC[..], &[FORMAT_VERSION, 0, 0, 0, 0]].concat());
            out.number(size);
            out.text(b"");
            out.0.push(1);
            out
        };
        let refused = |out: Writer, size: u64| {
            let error = TarIndex::from_bytes(&repaired(out.0), size, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            error.message().strip_prefix("the index is damaged: ").unwrap().to_owned()
        };
        let with = |size: u64, numbers: &[u64]| {
            let mut out = head(size);
            numbers.iter().for_each(|&number| out.number(number));
            refused(out, size)
        };
        assert_eq!(with(1024, &[3]), "3 extensions, expected at most 2");
        assert_eq!(with(u64::MAX, &[u64::MAX >> 9]), "0 bytes left, expected 1");
        assert_eq!(with(1024, &[1, u64::MAX]), format!("0 bytes left, expected {}", u64::MAX));
        assert_eq!(with(1024, &[0, u64::MAX, 0, 0]), "a sample without fields");
        assert_eq!(with(1024, &[0, 1, 0, u64::MAX]), "0 bytes left, expected 1");
        assert_eq!(with(1024, &[0, 1, 0, 1, 0, 1, 0]), "an extension that is not listed");
        // One extension without text, one sample without key, one field: number, blocks, size.
        let field = |blocks, len| with(1024, &[1, 0, 1, 0, 1, 0, blocks, len]);
        assert_eq!(field(1, 512), "0 bytes left, expected 1", "the field is within the archive");
        for (blocks, len) in [(1, 513), (0, 1), (3, 0), (1, u64::MAX), (u64::MAX, 1), (u64::MAX >> 9, u64::MAX)] {
            assert_eq!(field(blocks, len), "a field that is not within the archive");
        }
        assert_eq!(with(2048, &[1, 0, 1, 0, 2, 0, 1, 0, 0, 1, 0]), "a field that a sample has twice");
        let listed = "members in the list of those that are passed over, expected at most";
        assert_eq!(with(512 * 5000, &[0, 0, 5000, 1001]), format!("1001 {listed} 1000"));
        assert_eq!(with(512 * 5000, &[0, 0, 7, 8]), format!("8 {listed} 7"));
        for (size, count) in [(1024, 3), (0, 1), (u64::MAX, (1 << 55) + 1), (1 << 40, u64::MAX)] {
            let expected = format!("{count} members that are passed over, expected at most {}", size / 512);
            assert_eq!(with(size, &[0, 0, count, 0]), expected);
        }
        assert_eq!(with(1024, &[0, 0, 1, 1, 99]), "a member of an unknown kind");
        let mut out = head(1024);
        out.0.extend([0xff; 9]);
        out.0.push(2);
        assert_eq!(refused(out, 1024), "a number above 2^64");
        let mut out = head(1024);
        [1, 1].iter().for_each(|&number| out.number(number));
        out.0.push(0xff);
        assert_eq!(refused(out, 1024), "a name that is not UTF-8");
    }

    fn keeping() -> TarOptions {
        TarShards::options().index_file(true)
    }

    fn keys(shards: &TarShards) -> Vec<&str> {
        (0..shards.len()).map(|index| shards.entry(index).key()).collect()
    }

    #[test]
    fn an_index_is_kept_beside_the_archive_and_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.tar");
        fs::write(&path, bytes()).unwrap();
        TarShards::open(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "none is kept unless asked");
        let first = keeping().open(&path).unwrap();
        let kept = fs::read(dir.path().join("s.tar.index")).unwrap();
        assert_eq!(keys(&first), ["a/1", "a/2", "b/1"]);
        let again = keeping().in_memory(true).open(dir.path()).unwrap();
        assert_eq!(again.shards().next().unwrap().1, first.shards().next().unwrap().1);
        assert_eq!(again.get(2).unwrap().label().unwrap(), 2);
        // That it is used is seen by one that was changed.
        let with_key = |old: &[u8; 3], new: &[u8; 3]| {
            let at = kept.windows(3).position(|bytes| bytes == old).unwrap();
            let mut changed = kept.clone();
            changed[at..at + 3].copy_from_slice(new);
            fs::write(dir.path().join("s.tar.index"), repaired(changed)).unwrap();
            keys(&keeping().open(&path).unwrap()).join(" ")
        };
        assert_eq!(with_key(b"a/2", b"a/3"), "a/1 a/3 b/1");
        assert_eq!(keys(&TarShards::open(&path).unwrap()), ["a/1", "a/2", "b/1"]);
        // The first field and the last one have to be there.
        assert_eq!(with_key(b"a/1", b"c/1"), "a/1 a/2 b/1");
        assert_eq!(fs::read(dir.path().join("s.tar.index")).unwrap(), kept, "it was made anew");
        assert_eq!(with_key(b"b/1", b"c/1"), "a/1 a/2 b/1");
    }

    #[test]
    fn an_index_of_another_archive_of_the_same_size_and_time_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.tar");
        let long = |letter: &str| format!("{}.jpg", letter.repeat(200));
        let with_long_name = |letter: &str, data: &[u8]| {
            let name = typed("././@LongLink", b'L', long(letter).as_bytes());
            archive([typed("d/", b'5', b""), name, file("cut", data), file("x.jpg", b"x"), typed("e/", b'5', b"")])
        };
        for (old, new, is_kept) in [
            (archive([file("a.jpg", b"1")]), archive([file("a.jpg", b"2")]), true),
            (archive([file("a.jpg", b"1")]), archive([file("b.jpg", b"1")]), false),
            (archive([file("a.jpg", b"1")]), archive([file("a.jpg", b"12")]), false),
            (archive([file("a.jpg", b"1")]), archive([typed("a.jpg", b'7', b"1")]), true),
            (archive([file("a.jpg", b"1")]), [typed("a.jpg", b'2', b""), vec![0; 1536]].concat(), false),
            (with_long_name("a", b"1"), with_long_name("a", b"2"), true),
            (with_long_name("a", b"1"), with_long_name("b", b"1"), false),
        ] {
            fs::write(&path, &old).unwrap();
            let index = scan(&old).unwrap();
            store(&index, &path, b"version");
            let other = scan(&new).unwrap();
            assert_eq!((old.len(), is_kept || index != other), (new.len(), true));
            assert_eq!(load(&old, &path, b"version").as_ref(), Some(&index));
            assert_eq!(load(&new, &path, b"version").is_some(), is_kept);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_planted_link_does_not_lead_an_index_elsewhere() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, victim) = (dir.path().join("s.tar"), elsewhere.path().join("victim"));
        fs::write(&path, bytes()).unwrap();
        fs::write(&victim, b"precious").unwrap();
        for name in ["s.tar.index", "s.tar.index.tmp"] {
            std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
        }
        assert_eq!(keys(&keeping().open(&path).unwrap()), ["a/1", "a/2", "b/1"]);
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(fs::read(dir.path().join("s.tar.index")).unwrap().starts_with(MAGIC));
    }

    #[test]
    fn an_index_that_is_stale_or_damaged_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, beside) = (dir.path().join("s.tar"), dir.path().join("s.tar.index"));
        let set_time = |seconds: u64| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        fs::write(&path, archive([file("a.jpg", b"x")])).unwrap();
        set_time(1_000_000_000);
        keeping().open(&path).unwrap();
        // Of the same size, at another time.
        fs::write(&path, archive([file("b.jpg", b"x")])).unwrap();
        set_time(1_000_000_001);
        assert_eq!(keys(&keeping().open(&path).unwrap()), ["b"]);
        // Of another size, at the same time.
        fs::write(&path, archive([file("c.jpg", b"x"), file("d.jpg", b"x")])).unwrap();
        set_time(1_000_000_001);
        assert_eq!(keys(&keeping().open(&path).unwrap()), ["c", "d"]);
        let good = fs::read(&beside).unwrap();
        for bad in [
            vec![],
            b"x".to_vec(),
            good[..good.len() - 1].to_vec(),
            vec![7; 1 << 20],
            [&good[..8], &[2], &good[9..]].concat(),
        ] {
            fs::write(&beside, bad).unwrap();
            assert_eq!(keys(&keeping().open(&path).unwrap()), ["c", "d"]);
            assert_eq!(fs::read(&beside).unwrap(), good);
        }
        // A time before the beginning of time is none.
        fs::remove_file(&beside).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH - Duration::from_secs(9))
            .unwrap();
        assert_eq!(keys(&keeping().open(&path).unwrap()), ["c", "d"]);
        assert!(!beside.exists());
    }

    #[test]
    fn an_index_larger_than_its_archive_is_not_even_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.tar");
        fs::write(&path, bytes()).unwrap();
        let mut index = scan(&bytes()).unwrap();
        let member = TarPassedOver { name: "n".repeat(1000), kind: TarMemberKind::Other };
        index.passed_over = PassedOver { count: 10, listed: vec![member; 10] };
        let (size_bytes, version) = stamp(&path).unwrap();
        store(&index, &path, &version);
        let kept = fs::read(index_path(&path)).unwrap();
        assert_eq!(TarIndex::from_bytes(&kept, size_bytes, &version).unwrap(), index);
        assert_eq!(keeping().open(&path).unwrap().num_passed_over(), 2);
    }

    #[test]
    fn an_index_that_cannot_be_kept_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.tar");
        fs::write(&path, bytes()).unwrap();
        // A folder in its place, which the superuser cannot write to either.
        fs::create_dir_all(dir.path().join("s.tar.index/inside")).unwrap();
        assert_eq!(keys(&keeping().open(&path).unwrap()), ["a/1", "a/2", "b/1"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        // An archive that is bad has none.
        let path = dir.path().join("t.tar");
        fs::write(&path, b"bad").unwrap();
        assert_eq!(keeping().open(&path).unwrap_err().file(), Some(&*path));
        assert_eq!(keeping().open(dir.path().join("missing")).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
