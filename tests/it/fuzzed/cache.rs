//! Any bytes, taken for a cache file that is complete or begun, give what a trivial reader finds in them: the file's
//! samples where their checksums are right, the sequence's own otherwise, or an error; and a file that was begun is
//! completed with these.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use procession::compose::{DiskCacheOptions, DiskCacheState, DiskCached};
use procession::source::FromFn;
use procession::{ErrorKind, Sequence, from_fn};

const NUM_SAMPLES: usize = 4;
const KEY: &str = "fuzzed";
const RECORDS: &str = "(vec<u16>, bool)";
const INDEX: usize = 192;
const DATA: usize = INDEX + 32 * NUM_SAMPLES;

type Sample = (Vec<u16>, bool);
type Cached = DiskCached<FromFn<fn(usize) -> Sample>>;

/// What the sequence yields: nothing that a file holds by chance.
fn own(index: usize) -> Sample {
    (vec![0xabcd; index], index.is_multiple_of(2))
}

/// The header of the one file that fits.
fn header() -> Vec<u8> {
    let mut bytes = b"\x89prcache\x01\0\0\0....".to_vec();
    bytes.extend((NUM_SAMPLES as u64).to_le_bytes());
    bytes.extend((KEY.len() as u32).to_le_bytes());
    bytes.extend((RECORDS.len() as u32).to_le_bytes());
    bytes.resize(128, 0);
    bytes.extend(KEY.bytes().chain(RECORDS.bytes()));
    let sum = crc32fast::hash(&[&bytes[16..64], &bytes[128..]].concat());
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn entry_sum(entry: &[u8], index: usize) -> u32 {
    crc32fast::hash(&[&(index as u64).to_le_bytes()[..], &entry[..28]].concat())
}

/// The body and the layout of a record that lies in the file, whatever their checksum.
fn parts<'a>(file: &'a [u8], entry: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (start, body_len, layout_len) = (number(&entry[..8]), number(&entry[8..16]), number(&entry[16..20]));
    let body_end = start.checked_add(body_len)?;
    let end = body_end.checked_add(layout_len)?;
    if start < DATA as u64 || end > file.len() as u64 {
        return None;
    }
    Some((&file[start as usize..body_end as usize], &file[body_end as usize..end as usize]))
}

/// The sample of an index, if the file has it.
fn sample(file: &[u8], index: usize, common_layout: Option<&[u8]>) -> Option<Sample> {
    let entry = file.get(INDEX + 32 * index..INDEX + 32 * index + 32)?;
    if number(&entry[28..]) != u64::from(entry_sum(entry, index)) {
        return None;
    }
    let (body, layout) = parts(file, entry)?;
    if number(&entry[20..24]) != u64::from(crc32fast::hash(&[body, layout].concat())) {
        return None;
    }
    let is_long = |len: usize| len as u64 == number(layout) && body.len() == 2 * len + 1;
    if layout.len() != 8 || common_layout.is_some_and(|common| common != layout) || !is_long(body.len() / 2) {
        return None;
    }
    let (flag, numbers) = body.split_last()?;
    let numbers = numbers.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    (*flag < 2).then_some((numbers, *flag == 1))
}

/// The layout that the seal says all records share, or that there is none; nothing if the file is not whole.
fn seal(file: &[u8]) -> Option<Option<&[u8]>> {
    let seal = file.get(64..128).filter(|_| file.len() >= DATA)?;
    let is_sound = seal[..8] == *b"complete" && number(&seal[60..]) == u64::from(crc32fast::hash(&seal[..60]));
    if !is_sound || number(&seal[8..16]) != file.len() as u64 {
        return None;
    }
    let start = number(&seal[16..24]);
    if start == 0 {
        return Some(None);
    }
    let end = start.checked_add(number(&seal[24..28])).filter(|&end| end <= file.len() as u64)?;
    let layout = &file[start as usize..end as usize];
    let is_layout = layout.len() == 8 && number(&seal[28..32]) == u64::from(crc32fast::hash(layout));
    is_layout.then_some(Some(layout))
}

/// Whether the header is that of the one file that fits.
fn fits(file: &[u8]) -> bool {
    let header = header();
    file.len() >= header.len() && file[..64] == header[..64] && file[128..header.len()] == header[128..]
}

/// Puts right what the bits ask for: no mutation finds a checksum.
fn repair(file: &mut [u8], what: u8) {
    if what & 1 > 0 && file.len() >= header().len() {
        let header = header();
        file[..64].copy_from_slice(&header[..64]);
        file[128..header.len()].copy_from_slice(&header[128..]);
    }
    for index in 0..NUM_SAMPLES {
        let at = INDEX + 32 * index;
        let Some(mut entry) = file.get(at..at + 32).map(<[u8]>::to_vec) else { break };
        if what & 2 > 0
            && let Some((body, layout)) = parts(file, &entry)
        {
            entry[20..24].copy_from_slice(&crc32fast::hash(&[body, layout].concat()).to_le_bytes());
        }
        if what & 4 > 0 {
            let sum = entry_sum(&entry, index);
            entry[28..].copy_from_slice(&sum.to_le_bytes());
        }
        file[at..at + 32].copy_from_slice(&entry);
    }
    if what & 8 > 0 && file.len() >= 128 {
        let len = file.len() as u64;
        file[64..72].copy_from_slice(b"complete");
        file[72..80].copy_from_slice(&len.to_le_bytes());
        let (start, layout_len) = (number(&file[80..88]), number(&file[88..92]));
        if let Some(layout) = start.checked_add(layout_len).and_then(|end| file.get(start as usize..end as usize)) {
            let sum = crc32fast::hash(layout);
            file[92..96].copy_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32fast::hash(&file[64..124]);
        file[124..128].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A folder that is gone afterwards; in a file system in memory, where there is one.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("procession-cache-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }.join(name);
        fs::create_dir(&folder).expect("a folder can be made");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path, in_memory: bool) -> procession::Result<Cached> {
    let sequence = from_fn(NUM_SAMPLES, own as fn(usize) -> Sample);
    DiskCacheOptions::new(path, KEY).in_memory(in_memory).open(sequence)
}

/// Checks that a cache gives these samples, by value and in their rows.
fn agree(cached: &Cached, expected: &[Sample]) {
    for (index, expected) in expected.iter().enumerate() {
        for _ in 0..2 {
            assert_eq!(&cached.get(index).expect("a sample is always had"), expected);
        }
        let Some((len, ())) = cached.layout() else { continue };
        if len > 1 << 16 {
            // No record has that layout.
            continue;
        }
        let (mut numbers, mut flag) = (vec![7; len], false);
        match cached.get_into(index, (&mut numbers, &mut flag)) {
            Ok(()) => assert_eq!(&(numbers, flag), expected),
            Err(error) => assert!(error.kind() == ErrorKind::Shape && expected.0.len() != len, "{error}"),
        }
    }
}

pub(crate) fn check(bytes: &[u8]) {
    let Some((&what, file)) = bytes.split_first() else { return };
    let mut file = file.to_vec();
    repair(&mut file, what);
    let in_memory = what & 16 > 0;
    let folder = Folder::new();
    let path = folder.0.join("cache");
    if what & 32 > 0 { begun(&path, &file, in_memory) } else { complete(&path, &file, in_memory) }
}

fn complete(path: &Path, file: &[u8], in_memory: bool) {
    fs::write(path, file).expect("the file can be written");
    let cached = open(path, in_memory);
    let Some(common) = seal(file).filter(|_| fits(file)) else {
        let error = cached.expect_err("nothing else is taken for a cache");
        assert!([ErrorKind::Format, ErrorKind::State].contains(&error.kind()), "{error}");
        assert_eq!(error.file(), Some(path));
        return;
    };
    let cached = cached.expect("the header and the seal are right");
    let found: Vec<_> = (0..NUM_SAMPLES).map(|index| sample(file, index, common)).collect();
    let expected: Vec<_> =
        found.iter().enumerate().map(|(at, found)| found.clone().unwrap_or_else(|| own(at))).collect();
    agree(&cached, &expected);
    let status = cached.status();
    assert!(matches!(status.state, DiskCacheState::Complete));
    assert_eq!(status.num_damaged, found.iter().filter(|found| found.is_none()).count());
    assert!(fs::read(path).expect("the file is there") == file, "a complete file is not written to");
}

fn begun(path: &Path, file: &[u8], in_memory: bool) {
    let partial = path.with_extension("partial");
    fs::write(&partial, file).expect("the file can be written");
    let cached = match open(path, in_memory) {
        Ok(cached) => cached,
        Err(error) => {
            assert!(!fits(file), "{error}");
            assert!([ErrorKind::Format, ErrorKind::State].contains(&error.kind()), "{error}");
            assert_eq!(error.file(), Some(&*partial));
            assert!(fs::read(&partial).expect("the file is there") == file, "what is refused is not touched");
            return;
        }
    };
    // A damaged header makes everything behind it worthless.
    let found = |index| Some(file).filter(|file| fits(file)).and_then(|file| sample(file, index, None));
    let expected: Vec<_> = (0..NUM_SAMPLES).map(|index| found(index).unwrap_or_else(|| own(index))).collect();
    agree(&cached, &expected);
    assert!(matches!(cached.status().state, DiskCacheState::Complete) && !partial.exists(), "{}", cached.status());
    drop(cached);
    let cached = open(path, in_memory).expect("what was completed is complete");
    agree(&cached, &expected);
    assert_eq!(cached.status().num_damaged, 0);
}
