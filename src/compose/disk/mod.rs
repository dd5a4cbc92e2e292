//! Decoded samples in a file that outlives the process.

mod complete;
mod filling;
mod format;
mod positioned;
mod record;
mod status;

use std::ffi::OsString;
use std::fmt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use self::complete::{Complete, is_sample};
use self::filling::{Filling, Locked, Reading};
use self::format::{Header, MAX_TEXT_LEN, Refusal};
pub use self::record::Record;
pub use self::status::{DiskCacheState, DiskCacheStatus};
use crate::batch::stack::{Row, Stack};
use crate::error::{Error, ErrorKind, Result, SharedError};
use crate::sequence::{Sequence, check_index};

/// How samples are kept on disk. [`cached_on_disk`](crate::SequenceExt::cached_on_disk) is for the defaults.
#[derive(Debug, Clone)]
pub struct DiskCacheOptions {
    path: PathBuf,
    key: String,
    rebuild: bool,
    in_memory: bool,
}

impl DiskCacheOptions {
    /// Keeps samples in the file `path`, and in `path` with `.partial` at its end as long as it is not complete.
    ///
    /// The key names all that the samples depend on and that the sequence's type and length do not tell: the data set, the
    /// size that images are resized to, a number that is raised when the code changes. A file with another key is refused.
    pub fn new(path: impl Into<PathBuf>, key: impl Into<String>) -> Self {
        Self { path: path.into(), key: key.into(), rebuild: false, in_memory: false }
    }

    /// Whether a cache file that does not fit, or is damaged, is replaced instead of refused. The old file stays until
    /// the new one is complete. What is no cache file is never replaced. The default is `false`.
    pub fn rebuild(mut self, rebuild: bool) -> Self {
        self.rebuild = rebuild;
        self
    }

    /// Whether a complete file is read into memory instead of mapped; see [`Mapped`](crate::source::Mapped) for when that
    /// is better. The default is `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens the file, or goes on with it or begins it, as
    /// [`cached_on_disk`](crate::SequenceExt::cached_on_disk) does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open<S>(self, sequence: S) -> Result<DiskCached<S>>
    where
        S: Sequence,
        S::Sample: Record,
    {
        DiskCached::open(self, sequence)
    }
}

/// A sequence whose samples are kept in a file that outlives the process; made by
/// [`cached_on_disk`](crate::SequenceExt::cached_on_disk).
pub struct DiskCached<S: Sequence>
where
    S::Sample: Record,
{
    inner: S,
    len: usize,
    options: DiskCacheOptions,
    partial: PathBuf,
    header: Header,
    // As it stands behind each record, if the sequence has one layout.
    expected_layout: Option<Vec<u8>>,
    // Set once, for good: from then on nothing else is looked at.
    complete: OnceLock<Complete<S::Sample>>,
    phase: Mutex<Phase>,
    // Told, under the lock of the phase, when the file is complete or writing it has stopped.
    ended: Condvar,
}

/// What happens while there is no complete file.
enum Phase {
    Filling(Arc<Filling>),
    InUse,
    Stopped(Arc<Error>),
    PassesThrough,
    /// There is one.
    Over,
}

/// Where it is looked again if the name of a file was given to another one in between. Each time some other process has
/// completed a file or removed one.
const MAX_TRIES: usize = 16;

impl<S> DiskCached<S>
where
    S: Sequence,
    S::Sample: Record,
{
    fn open(options: DiskCacheOptions, inner: S) -> Result<Self> {
        if options.key.len() > MAX_TEXT_LEN {
            let message = format!("a key of {} bytes, expected at most {MAX_TEXT_LEN}", options.key.len());
            return Err(Error::argument(message));
        }
        let mut records = String::new();
        S::Sample::describe(&mut records);
        let len = inner.len();
        let header = Header { num_samples: len as u64, key: options.key.clone(), records };
        let mut partial = OsString::from(&options.path);
        partial.push(".partial");
        let expected_layout = inner.layout().map(|layout| {
            let mut bytes = Vec::new();
            S::Sample::write_layout(&layout, &mut bytes);
            bytes
        });
        let cache = Self {
            len,
            options,
            partial: partial.into(),
            header,
            expected_layout,
            complete: OnceLock::new(),
            phase: Mutex::new(Phase::PassesThrough),
            ended: Condvar::new(),
            inner,
        };
        if !cache.inner.barrier() {
            cache.attach()?;
        }
        Ok(cache)
    }

    /// The file, once it is complete.
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// How far the file is filled, and whether it is used.
    pub fn status(&self) -> DiskCacheStatus {
        let status =
            |state, num_cached, num_damaged| DiskCacheStatus { state, num_samples: self.len, num_cached, num_damaged };
        if let Some(complete) = self.complete.get() {
            let num_damaged = complete.num_damaged();
            return status(DiskCacheState::Complete, self.len - num_damaged, num_damaged);
        }
        match &*self.phase() {
            Phase::Filling(filling) => {
                let stopped = filling.stopped().map(|error| DiskCacheState::Stopped(Arc::clone(error)));
                let state = stopped.unwrap_or(DiskCacheState::Filling);
                status(state, filling.num_cached(), filling.num_damaged())
            }
            Phase::InUse => status(DiskCacheState::InUse, 0, 0),
            Phase::Stopped(error) => status(DiskCacheState::Stopped(Arc::clone(error)), 0, 0),
            Phase::PassesThrough => status(DiskCacheState::PassesThrough, 0, 0),
            // It was completed after the first look.
            Phase::Over => status(DiskCacheState::Complete, self.len, 0),
        }
    }

    /// Loads every sample that is not in the file yet, checks the others, and completes the file.
    ///
    /// Loads on `num_threads` threads; 0 and 1 stand for the calling one. Whenever a sample is in the file, `progress` is
    /// told how many are by then, on whichever thread; an error that it returns ends the loading, as a user's wish does. A
    /// complete file is not looked at: it is checked record by record as it is used.
    ///
    /// # Errors
    ///
    /// That of `progress` as it is, or of the first sample that could not be loaded, by index, with that index: each thread
    /// ends with the sample that it is at, and the samples that were loaded by then stay in the file. Of kind
    /// [`State`](ErrorKind::State) if another process is filling the file, or the samples change from epoch to epoch and are
    /// not kept; of kind [`Io`](ErrorKind::Io) if the file cannot be written.
    ///
    /// # Panics
    ///
    /// If loading a sample does, or `progress`: as soon as every thread is done with the sample that it is at.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::compose::DiskCacheState;
    /// use procession::{Error, ErrorKind, SequenceExt, from_fn};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let squares = from_fn(100, |index| index as f32 * index as f32);
    /// let cached = squares.cached_on_disk(dir.path().join("squares"), "version 1")?;
    /// let wishes_to_stop = || false;
    /// cached.prepare(2, |num_done| match wishes_to_stop() {
    ///     true => Err(Error::new(ErrorKind::Interrupted, format!("after {num_done} samples"))),
    ///     false => Ok(()),
    /// })?;
    /// assert!(matches!(cached.status().state, DiskCacheState::Complete));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prepare(&self, num_threads: usize, progress: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        if matches!(&*self.phase(), Phase::InUse) {
            self.attach()?;
        }
        if let Some(filling) = self.filling() {
            self.fill(&filling, num_threads, &progress)?;
            // Every sample is in the file by now, or another thread is writing it; whoever writes the last one completes
            // the file, or says why it cannot.
            let mut phase = self.phase();
            while self.complete.get().is_none() && filling.stopped().is_none() {
                phase = self.ended.wait(phase).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if self.complete.get().is_some() {
            return Ok(());
        }
        let refused = |message| Err(Error::new(ErrorKind::State, message).with_file(self.path()));
        match self.status().state {
            DiskCacheState::Stopped(error) => {
                let cause = SharedError(Arc::clone(&error));
                Err(Error::new(error.kind(), "the cache file could not be filled")
                    .with_cause(cause)
                    .with_file(self.path()))
            }
            DiskCacheState::PassesThrough => refused("samples that change from epoch to epoch are not kept in a file"),
            DiskCacheState::InUse => refused("another process is filling the cache file"),
            DiskCacheState::Complete | DiskCacheState::Filling => Ok(()),
        }
    }

    /// Puts every sample into a file, as far as it can be written.
    fn fill(
        &self,
        filling: &Filling,
        num_threads: usize,
        progress: &(impl Fn(usize) -> Result<()> + Sync),
    ) -> Result<()> {
        let (next, num_done, ends) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let fail = |index: usize, error: Error| {
            // Relaxed: whoever sees it a sample later stops a sample later.
            ends.store(true, Ordering::Relaxed);
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.as_ref().is_none_or(|(first, _)| index < *first) {
                *failure = Some((index, error));
            }
        };
        let work = || {
            let _guard = EndsAll(&ends);
            while !ends.load(Ordering::Relaxed) && filling.stopped().is_none() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.len {
                    return;
                }
                if let Err(error) = self.put(filling, index) {
                    return fail(index, self.locate(error, index));
                }
                // Where there is a sample at fault, too, that is what is told: no index is as large.
                if let Err(error) = progress(num_done.fetch_add(1, Ordering::Relaxed) + 1) {
                    return fail(usize::MAX, error);
                }
            }
        };
        if num_threads <= 1 {
            work();
        } else {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..num_threads).map(|_| scope.spawn(work)).collect();
                for thread in threads {
                    if let Err(payload) = thread.join() {
                        resume_unwind(payload);
                    }
                }
            });
        }
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn locate(&self, error: Error, index: usize) -> Error {
        let error = error.with_index(index as u64);
        match self.inner.file(index) {
            Some(file) => error.with_file(file),
            None => error,
        }
    }

    /// Puts a sample into a file, unless it is there and right.
    fn put(&self, filling: &Filling, index: usize) -> Result<()> {
        if !filling.is_sound(index) && self.read(filling, index).is_none() {
            self.store(filling, index, &self.inner.get(index)?);
        }
        Ok(())
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        // Nothing that may panic runs while it is locked.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn filling(&self) -> Option<Arc<Filling>> {
        match &*self.phase() {
            Phase::Filling(filling) => Some(Arc::clone(filling)),
            _ => None,
        }
    }

    /// Finds a complete file, or one to fill.
    fn attach(&self) -> Result<()> {
        let phase = self.find()?;
        let filling = match &phase {
            Phase::Filling(filling) => Some(Arc::clone(filling)),
            _ => None,
        };
        {
            let mut known = self.phase();
            // Another thread may have looked at the same time, and found more.
            if matches!(&*known, Phase::Filling(_) | Phase::Over) {
                return Ok(());
            }
            *known = phase;
        }
        if let Some(filling) = filling {
            self.finish_if_due(&filling);
        }
        Ok(())
    }

    fn find(&self) -> Result<Phase> {
        for _ in 0..MAX_TRIES {
            if self.find_complete()? {
                return Ok(Phase::Over);
            }
            let file = match filling::lock(&self.partial)? {
                Locked::Ready(file) => file,
                Locked::InUse => return Ok(Phase::InUse),
                Locked::Moved => continue,
            };
            // Whoever had the lock may have completed the file between the two looks.
            if self.find_complete()? {
                filling::remove_if_empty(&file, &self.partial);
                return Ok(Phase::Over);
            }
            return match Filling::begin(file, &self.partial, &self.header, self.options.rebuild) {
                Ok(filling) => Ok(Phase::Filling(Arc::new(filling))),
                Err(Refusal::Unwritable(error)) => Ok(Phase::Stopped(Arc::new(error))),
                Err(refusal) => Err(refusal.into_error().with_file(&self.partial)),
            };
        }
        Ok(Phase::InUse)
    }

    /// Opens the complete file, if there is one that fits. One that does not fit is an error, or is to be replaced.
    fn find_complete(&self) -> Result<bool> {
        let opened = Complete::open(self.path(), &self.header, self.options.in_memory);
        match opened.and_then(|complete| complete.map(|complete| self.check_layout(complete)).transpose()) {
            Ok(Some(complete)) => {
                // Another thread may have found it too.
                let _ = self.complete.set(complete);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(Refusal::Unfit(_) | Refusal::Damaged(_)) if self.options.rebuild => Ok(false),
            Err(refusal) => Err(refusal.into_error().with_file(self.path())),
        }
    }

    /// Checks that samples in a file have the layout that the sequence says that they have.
    fn check_layout(&self, complete: Complete<S::Sample>) -> Result<Complete<S::Sample>, Refusal> {
        match self.inner.layout() {
            Some(layout) if self.len > 0 && complete.layout() != Some(&layout) => {
                let found = match complete.layout() {
                    Some(found) => format!("layout {found:?}"),
                    None => "different layouts".to_owned(),
                };
                Err(Refusal::unfit(format!("a cache file of samples of {found}, expected {layout:?}")))
            }
            _ => Ok(complete),
        }
    }

    /// Completes a file whose last sample has just become sound, and tells whoever waits for the end.
    fn finish_if_due(&self, filling: &Filling) {
        if filling.is_due() {
            self.finish(filling);
        } else if filling.stopped().is_none() {
            return;
        }
        // Under the lock, so that nobody looks and then waits in between.
        let _phase = self.phase();
        self.ended.notify_all();
    }

    fn finish(&self, filling: &Filling) {
        match filling.finish(self.path()).and_then(|()| self.find_complete()) {
            Ok(true) => *self.phase() = Phase::Over,
            Ok(false) => {
                let message = "the cache file was removed when it was complete";
                filling.stop(Error::new(ErrorKind::State, message).with_file(self.path()));
            }
            // Samples are read from the file as before.
            Err(error) => filling.stop(error),
        }
    }

    /// Reads a record of a file that is being filled, if it is there and right.
    fn read<'a>(&self, filling: &'a Filling, index: usize) -> Option<Reading<'a>> {
        let reading = filling.read(index, |body, layout| {
            self.expected_layout.as_ref().is_none_or(|expected| expected == layout)
                && is_sample::<S::Sample>(body, layout)
        });
        self.finish_if_due(filling);
        reading
    }

    fn store(&self, filling: &Filling, index: usize, sample: &S::Sample) {
        filling.store(index, |out| {
            sample.encode(out);
            let body_len = out.len();
            S::Sample::write_layout(&sample.layout(), out);
            body_len
        });
        self.finish_if_due(filling);
    }

    /// Loads a sample afresh and keeps it.
    fn load(&self, filling: Option<&Filling>, index: usize) -> Result<S::Sample> {
        let sample = self.inner.get(index)?;
        if let Some(filling) = filling {
            self.store(filling, index, &sample);
        }
        Ok(sample)
    }
}

/// Ends the loading on all threads when it is dropped by a panic: it is passed on only once they are through.
struct EndsAll<'a>(&'a AtomicBool);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn decode<T: Record>(reading: &Reading<'_>) -> Option<T> {
    let (mut body, mut layout) = reading.parts();
    T::decode(&T::read_layout(&mut layout)?, &mut body)
}

impl<S> Sequence for DiskCached<S>
where
    S: Sequence,
    S::Sample: Record,
{
    type Sample = S::Sample;

    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, index: usize) -> Result<S::Sample> {
        check_index(index, self.len);
        if let Some(complete) = self.complete.get() {
            let sample = if complete.is_good(index) { complete.get(index) } else { None };
            return sample.map_or_else(|| self.inner.get(index), Ok);
        }
        let filling = self.filling();
        let reading = filling.as_ref().and_then(|filling| self.read(filling, index));
        match reading.as_ref().and_then(decode) {
            Some(sample) => Ok(sample),
            None => self.load(filling.as_deref(), index),
        }
    }
    /// That of the sequence, or else the one that all samples in the complete file have.
    fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
    where
        S::Sample: Stack,
    {
        let complete = self.complete.get().and_then(Complete::layout);
        complete.cloned().or_else(|| self.inner.layout())
    }
    /// Copies a sample from the complete file straight to the row.
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, S::Sample>) -> Result<()>
    where
        S::Sample: Stack,
    {
        check_index(index, self.len);
        match self.complete.get() {
            Some(complete) if complete.is_good(index) => complete.get_into(index, row).ok_or_else(|| {
                let message = "the cache file was changed while it was in use, or is read to a row of another layout";
                Error::new(ErrorKind::Format, message).with_file(self.path())
            }),
            _ => self.load_into(index, row),
        }
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let complete = || self.complete.get().and_then(|complete| complete.size_bytes(index));
        self.inner.size_bytes(index).or_else(complete)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.inner.file(index)
    }
    fn barrier(&self) -> bool {
        self.inner.barrier()
    }
    /// Looks again for the file if another process was filling it.
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.inner.on_epoch_start(epoch)?;
        let is_in_use = matches!(&*self.phase(), Phase::InUse);
        if is_in_use && let Err(error) = self.attach() {
            *self.phase() = Phase::Stopped(Arc::new(error));
        }
        Ok(())
    }
}

impl<S> DiskCached<S>
where
    S: Sequence,
    S::Sample: Record,
{
    /// Writes a sample to its row that is not in a complete file, or is damaged there.
    fn load_into(&self, index: usize, row: Row<'_, S::Sample>) -> Result<()> {
        let filling = self.filling();
        let own = self.inner.layout();
        let Some(layout) = self.layout().filter(|layout| filling.is_some() || own.as_ref() != Some(layout)) else {
            return self.inner.get_into(index, row);
        };
        if let Some(reading) = filling.as_ref().and_then(|filling| self.read(filling, index)) {
            let (mut body, _) = reading.parts();
            return S::Sample::decode_into(&layout, &mut body, row)
                .ok_or_else(|| Error::new(ErrorKind::Shape, format!("a row that is not of layout {layout:?}")));
        }
        let sample = self.load(filling.as_deref(), index)?;
        if sample.layout() != layout {
            let message =
                format!("layout {:?}, expected {layout:?} as of every sample of the sequence", sample.layout());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        sample.write(row);
        Ok(())
    }
}

impl<S> fmt::Debug for DiskCached<S>
where
    S: Sequence + fmt::Debug,
    S::Sample: Record,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCached")
            .field("inner", &self.inner)
            .field("path", &self.options.path)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
