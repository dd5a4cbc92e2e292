//! A cache file that is being filled.
//!
//! A record is written before its entry in the index, so that an entry never tells of a record that is not there, as long
//! as the system keeps running; what a crash of the system itself may leave is found by the checksums. So the file is good
//! at every instant: the entries that are whole count, and the others are as if they had not been written.
//!
//! A sample is *sound* when this process has written its record, or has read it and found it right. A sound sample is not
//! written again, so when the last one becomes sound nobody is writing any more: then the file is complete.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;

use super::complete::{marks, record_checksum};
use super::format::{ENTRY_LEN, Entry, Header, MAX_HEADER_LEN, Refusal, SEAL_START, Seal, record_start};
use super::positioned;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{is_at, sync_directory_of};

/// Not in the file.
const ABSENT: u8 = 0;
/// Of an entry that was found when the file was opened; its record was not looked at.
const PRESENT: u8 = 1;
/// Some thread is writing it.
const CLAIMED: u8 = 2;
const SOUND: u8 = 3;
/// Once sound, and not to be read any more.
const LOST: u8 = 4;

/// Entries that are read at a time when a file is continued.
const ENTRIES_AT_ONCE: usize = 4096;
/// Buffers that are kept for the next records: one for each thread of most machines.
const MAX_SPARES: usize = 32;

pub(super) struct Filling {
    // Locked as long as it is open: no other process writes to it.
    file: File,
    path: PathBuf,
    index_start: u64,
    data_start: u64,
    marks: Box<[AtomicU8]>,
    // Invariant: how many samples have become sound. It never falls.
    num_sound: AtomicUsize,
    num_damaged: AtomicUsize,
    // Invariant: every record ends at or before it, those that are being written included.
    end: AtomicU64,
    // That of the records whose samples are sound.
    layout: Mutex<CommonLayout>,
    // Set when the last sample has become sound, until somebody takes it up.
    is_due: AtomicBool,
    // Why nothing is written any more.
    stopped: OnceLock<Arc<Error>>,
    spares: ArrayQueue<Vec<u8>>,
}

enum CommonLayout {
    Unknown,
    All(Vec<u8>),
    Differ,
}

/// What came of trying to lock a file.
pub(super) enum Locked {
    Ready(File),
    /// Another process, or another cache in this one, is filling it.
    InUse,
    /// The name belongs to another file by now, or to none.
    Moved,
}

/// A record that was read.
pub(super) struct Reading<'a> {
    bytes: Vec<u8>,
    body_len: usize,
    spares: &'a ArrayQueue<Vec<u8>>,
}

impl Reading<'_> {
    /// The sample and its layout.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.body_len)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // One too many is freed.
        drop(self.spares.push(std::mem::take(&mut self.bytes)));
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that this one has just started may have it open for a moment more.
        let _ = self.file.unlock();
    }
}

/// Opens or makes the file to fill, and locks it. Nothing is written to it yet.
pub(super) fn lock(path: &Path) -> Result<Locked> {
    let failed = |cause| Error::io("cannot open the cache file", cause, path);
    // Whoever put a link there chose what is overwritten. Should one come now, the look at the name below finds it.
    if fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink()) {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "a symbolic link, expected a regular file")));
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Locked::InUse),
        Err(TryLockError::Error(cause)) => return Err(Error::io("cannot lock the cache file", cause, path)),
    }
    // Whoever had the lock before may have given the file its final name, or have removed it.
    let is_named = is_at(&file, path).map_err(failed)?.unwrap_or(true);
    Ok(if is_named { Locked::Ready(file) } else { Locked::Moved })
}

/// Removes a file that was locked, if nothing was ever written to it.
pub(super) fn remove_if_empty(file: &File, path: &Path) {
    if file.metadata().is_ok_and(|about| about.len() == 0) {
        // An empty file that stays does no harm.
        let _ = fs::remove_file(path);
    }
}

impl Filling {
    /// Goes on with a file, or begins it if it is empty, damaged in its header, or made for something else and `rebuild`
    /// allows that.
    pub(super) fn begin(file: File, path: &Path, header: &Header, rebuild: bool) -> Result<Self, Refusal> {
        let unwritable = |cause| Refusal::Unwritable(Error::io("cannot write the cache file", cause, path));
        let num_samples = usize::try_from(header.num_samples).unwrap_or(usize::MAX);
        let Some(data_start) = header.data_start() else {
            return Err(unwritable(io::ErrorKind::FileTooLarge.into()));
        };
        let mut filling = Self {
            file,
            path: path.to_owned(),
            index_start: header.index_start(),
            data_start,
            marks: marks(num_samples).map_err(Refusal::Foreign)?,
            num_sound: AtomicUsize::new(0),
            num_damaged: AtomicUsize::new(0),
            end: AtomicU64::new(0),
            layout: Mutex::new(CommonLayout::Unknown),
            // Nothing is missing if there is nothing.
            is_due: AtomicBool::new(num_samples == 0),
            stopped: OnceLock::new(),
            spares: ArrayQueue::new(MAX_SPARES),
        };
        if filling.can_go_on(header, rebuild)? {
            filling.go_on().map_err(unwritable)?;
        } else {
            filling.start(header).map_err(unwritable)?;
        }
        Ok(filling)
    }

    /// Whether the file is one to go on with. If not, it is to be overwritten.
    fn can_go_on(&self, header: &Header, rebuild: bool) -> Result<bool, Refusal> {
        let unreadable = |cause| Refusal::Foreign(Error::io("cannot read the cache file", cause, &self.path));
        let file_len = self.file.metadata().map_err(unreadable)?.len();
        let mut start = vec![0; MAX_HEADER_LEN];
        let read = positioned::read_up_to(&self.file, &mut start, 0).map_err(unreadable)?;
        start.truncate(read);
        // What a crash may leave of a file that was hardly begun.
        if start.len() < 8 && Header::is_ours(&start)
            || file_len <= self.data_start && start.iter().all(|&byte| byte == 0)
        {
            return Ok(false);
        }
        match Header::parse(&start).and_then(|found| found.check(header)) {
            Ok(()) => Ok(true),
            Err(Refusal::Unfit(_)) if rebuild => Ok(false),
            // Nothing in it can be told to be what it seems.
            Err(Refusal::Damaged(_)) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    fn start(&mut self, header: &Header) -> io::Result<()> {
        self.file.set_len(0)?;
        positioned::write(&self.file, &header.to_bytes(), 0)?;
        // An index of zeros.
        self.file.set_len(self.data_start)?;
        // So that no record is on the disk before the header is.
        self.file.sync_all()?;
        *self.end.get_mut() = self.data_start;
        Ok(())
    }

    /// Finds the entries that are whole.
    fn go_on(&mut self) -> io::Result<()> {
        let file_len = self.file.metadata()?.len().max(self.data_start);
        self.file.set_len(file_len)?;
        *self.end.get_mut() = file_len;
        let mut at = self.index_start;
        let mut indices = 0..;
        let mut entries = vec![0; ENTRY_LEN * ENTRIES_AT_ONCE.min(self.marks.len())];
        for marks in self.marks.chunks_mut(ENTRIES_AT_ONCE) {
            let entries = &mut entries[..ENTRY_LEN * marks.len()];
            positioned::read(&self.file, entries, at)?;
            for ((mark, entry), index) in marks.iter_mut().zip(entries.chunks_exact(ENTRY_LEN)).zip(&mut indices) {
                if Entry::parse(entry, index, self.data_start, file_len).is_some() {
                    *mark.get_mut() = PRESENT;
                }
            }
            at += entries.len() as u64;
        }
        Ok(())
    }

    pub(super) fn is_sound(&self, index: usize) -> bool {
        self.marks[index].load(Ordering::Relaxed) == SOUND
    }

    /// How many samples are in the file.
    pub(super) fn num_cached(&self) -> usize {
        self.marks.iter().filter(|mark| [PRESENT, SOUND].contains(&mark.load(Ordering::Relaxed))).count()
    }

    pub(super) fn num_damaged(&self) -> usize {
        self.num_damaged.load(Ordering::Relaxed)
    }

    /// Why nothing is written any more.
    pub(super) fn stopped(&self) -> Option<&Arc<Error>> {
        self.stopped.get()
    }

    pub(super) fn stop(&self, error: Error) {
        // The first error is the one to tell.
        let _ = self.stopped.set(Arc::new(error));
    }

    /// Reads a record, if it is in the file and right; `is_sample` says whether its bytes are a sample and its layout.
    pub(super) fn read(&self, index: usize, is_sample: impl FnOnce(&[u8], &[u8]) -> bool) -> Option<Reading<'_>> {
        // Acquire pairs with the release where a sample becomes sound: what was written is there to be read.
        let mark = self.marks[index].load(Ordering::Acquire);
        if ![PRESENT, SOUND].contains(&mark) {
            return None;
        }
        let reading = self.read_whole(index).filter(|reading| {
            let (body, layout) = reading.parts();
            is_sample(body, layout)
        });
        match &reading {
            Some(reading) if mark == PRESENT => self.becomes_sound(index, PRESENT, reading.parts().1),
            Some(_) => {}
            // What this process has not written is written afresh. What it has written was changed by somebody else, or
            // by a disk that fails: that will be loaded each time.
            None => {
                let then = if mark == PRESENT { ABSENT } else { LOST };
                if self.changes(index, mark, then) {
                    self.num_damaged.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        reading
    }

    fn read_whole(&self, index: usize) -> Option<Reading<'_>> {
        let mut entry = [0; ENTRY_LEN];
        positioned::read(&self.file, &mut entry, self.entry_start(index)).ok()?;
        let end = self.end.load(Ordering::Relaxed);
        let entry = Entry::parse(&entry, index as u64, self.data_start, end)?;
        let len = usize::try_from(entry.end()? - entry.start).ok()?;
        let mut reading = Reading { bytes: self.spares.pop().unwrap_or_default(), body_len: 0, spares: &self.spares };
        // No more than the file has; but a file with holes may have more than there is memory.
        reading.bytes.clear();
        reading.bytes.try_reserve(len).ok()?;
        reading.bytes.resize(len, 0);
        positioned::read(&self.file, &mut reading.bytes, entry.start).ok()?;
        reading.body_len = usize::try_from(entry.body_len).ok()?;
        let (body, layout) = reading.parts();
        (record_checksum(body, layout) == entry.checksum).then_some(reading)
    }

    /// Writes a sample, unless it is in the file, another thread is at it, or writing has stopped. `encode` appends the
    /// sample, and then its layout; it returns the length of the first.
    pub(super) fn store(&self, index: usize, encode: impl FnOnce(&mut Vec<u8>) -> usize) {
        if self.stopped.get().is_some() || self.marks[index].load(Ordering::Relaxed) != ABSENT {
            return;
        }
        let mut reading = Reading { bytes: self.spares.pop().unwrap_or_default(), body_len: 0, spares: &self.spares };
        reading.bytes.clear();
        reading.body_len = encode(&mut reading.bytes);
        let (body, layout) = reading.parts();
        // Only now: what is claimed is written or stops everything, whatever the encoding does.
        if !self.changes(index, ABSENT, CLAIMED) {
            return;
        }
        match self.write(index, body, layout, &reading.bytes) {
            Ok(()) => self.becomes_sound(index, CLAIMED, layout),
            // It stays claimed: nothing else is written either.
            Err(cause) => self.stop(Error::io("cannot write the cache file", cause, &self.path)),
        }
    }

    fn write(&self, index: usize, body: &[u8], layout: &[u8], record: &[u8]) -> io::Result<()> {
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        let len = record.len() as u64;
        // Relaxed: only who writes where hangs on it, and each range is given once.
        let before =
            self.end.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |end| record_start(end, len)?.checked_add(len));
        let start = before.ok().and_then(|end| record_start(end, len)).ok_or_else(too_large)?;
        let entry = Entry {
            start,
            body_len: body.len() as u64,
            layout_len: u32::try_from(layout.len()).map_err(|_| too_large())?,
            checksum: record_checksum(body, layout),
        };
        positioned::write(&self.file, record, start)?;
        positioned::write(&self.file, &entry.to_bytes(index as u64), self.entry_start(index))
    }

    fn entry_start(&self, index: usize) -> u64 {
        // The index fits: its end was computed.
        self.index_start + (index * ENTRY_LEN) as u64
    }

    /// Changes a mark from one to another. Of several threads that try, one does.
    fn changes(&self, index: usize, from: u8, to: u8) -> bool {
        self.marks[index].compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn becomes_sound(&self, index: usize, from: u8, layout: &[u8]) {
        // Release: who sees the mark sees the record.
        if !self.changes(index, from, SOUND) {
            return;
        }
        {
            let mut common = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
            match &*common {
                CommonLayout::Unknown => *common = CommonLayout::All(layout.to_vec()),
                CommonLayout::All(all) if all != layout => *common = CommonLayout::Differ,
                _ => {}
            }
        }
        // Release and acquire: who counts the last one comes after what all others have done before they counted.
        if self.num_sound.fetch_add(1, Ordering::AcqRel) + 1 == self.marks.len() {
            self.is_due.store(true, Ordering::Release);
        }
    }

    /// Whether the file is complete and the caller is the one to finish it.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed) && self.is_due.swap(false, Ordering::Acquire)
    }

    /// Seals the file and gives it its final name. Nobody else writes to it by now.
    pub(super) fn finish(&self, name: &Path) -> Result<()> {
        let failed = |cause| Error::io("cannot complete the cache file", cause, &self.path);
        let layout = match &*self.layout.lock().unwrap_or_else(PoisonError::into_inner) {
            CommonLayout::All(layout) => Some(layout.clone()),
            CommonLayout::Unknown | CommonLayout::Differ => None,
        };
        let seal = self.seal(layout.as_deref()).map_err(failed)?;
        // The seal is not on the disk before everything that it speaks for.
        self.file.sync_all().map_err(failed)?;
        let sealed = positioned::write(&self.file, &seal.to_bytes(), SEAL_START as u64);
        sealed.and_then(|()| self.file.sync_all()).map_err(failed)?;
        if is_at(&self.file, &self.path).map_err(failed)? == Some(false) {
            let message = "the cache file was removed or replaced while it was being filled";
            return Err(Error::new(ErrorKind::State, message).with_file(&self.path));
        }
        let renamed = fs::rename(&self.path, name).and_then(|()| sync_directory_of(name));
        // Others may look at it from here on, this process among them.
        renamed.and_then(|()| self.file.unlock()).map_err(failed)
    }

    /// Appends the layout of all records, and says where.
    fn seal(&self, layout: Option<&[u8]>) -> io::Result<Seal> {
        let end = self.end.load(Ordering::Relaxed);
        let layout_bytes = layout.unwrap_or_default();
        positioned::write(&self.file, layout_bytes, end)?;
        // Records without bytes may end beyond what was written.
        let file_len = end + layout_bytes.len() as u64;
        self.file.set_len(file_len)?;
        let place = |layout: &[u8]| (end, layout.len() as u32, crc32fast::hash(layout));
        Ok(Seal { file_len, layout: layout.map(place) })
    }
}

#[cfg(test)]
impl Filling {
    /// Exchanges the file for another handle to it, to which everything or nothing can be written.
    pub(super) fn exchange(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// Damages a record that is sound.
    pub(super) fn damage(&self, index: usize) {
        let mut entry = [0; ENTRY_LEN];
        positioned::read(&self.file, &mut entry, self.entry_start(index)).expect("the entry is there");
        let start = Entry::read(&entry).expect("the entry is whole").start;
        let mut byte = [0];
        positioned::read(&self.file, &mut byte, start).expect("the record is there");
        positioned::write(&self.file, &[!byte[0]], start).expect("the record can be written");
    }
}
