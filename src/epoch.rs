//! What the consumer iterates: epochs, and the batches of one.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, PoisonError};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::failure::{FailureBudget, OnFailure, Receipt};
use crate::job::Outcome;
use crate::loader::Engine;
use crate::plan::{PartOfEpoch, State};
use crate::sync::{AtomicU64, Ordering};
use crate::workers::desk::Desk;
use crate::workers::run::Feed;

/// A run and the workers' hold on it. Dropping the last reference cancels the run.
struct RunHandle<B: Send + 'static> {
    run: Arc<dyn Feed<Outcome<B>>>,
    engine: Arc<Engine<B>>,
    // How many batches were taken, or `ABANDONED`; written by the one epoch that is under way.
    taken: AtomicU64,
}

/// No epoch goes on with this run.
const ABANDONED: u64 = u64::MAX;

impl<B: Send + 'static> Drop for RunHandle<B> {
    fn drop(&mut self) {
        self.run.cancel();
        self.engine.pool.remove(&(Arc::clone(&self.run) as _));
    }
}

/// The epochs of a range. Made by [`Loader::epochs`](crate::Loader::epochs).
pub struct Epochs<B: Send + 'static> {
    engine: Arc<Engine<B>>,
    // What is left of the next epoch.
    next: PartOfEpoch,
    end: Option<u64>,
    // The run that the last epoch was part of, and the number of the run's batches up to that epoch's end.
    current: Option<(Arc<RunHandle<B>>, u64)>,
}

impl<B: Send + 'static> fmt::Debug for Epochs<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}

impl<B: Send + 'static> Epochs<B> {
    pub(crate) fn new(engine: Arc<Engine<B>>, start: u64, end: Option<u64>) -> Self {
        let next = engine.plan.part_of_epoch(start, 0, 0);
        Self { engine, next, end, current: None }
    }

    /// Goes on where a state was taken: the first epoch is what was left of the state's epoch (nothing, if the state
    /// was taken after its last batch), and nothing before is read. The loader may have another number of workers,
    /// another window, another rank and another world size; everything else must be as it was.
    ///
    /// # Errors
    ///
    /// Of kind [`State`](crate::ErrorKind::State) if length, batch size, seed, sampler or tail differ, saying which
    /// and how; or if the state's epoch lies outside the range.
    pub fn resume(self, state: &State) -> Result<Self> {
        self.resume_with(state, false)
    }

    /// Goes on where a state was taken, with another batch size: the rest of the state's epoch is cut into batches of
    /// the new size, from the state's position on.
    ///
    /// # Errors
    ///
    /// As for [`resume`](Self::resume), except that the batch size may differ.
    pub fn resume_rebatched(self, state: &State) -> Result<Self> {
        self.resume_with(state, true)
    }

    fn resume_with(mut self, state: &State, rebatch: bool) -> Result<Self> {
        let part = self.engine.plan.resume(state, rebatch)?;
        if part.epoch < self.next.epoch || self.end.is_some_and(|end| part.epoch >= end) {
            let end = self.end.map_or_else(String::new, |end| end.to_string());
            let message =
                format!("the state does not fit: epoch {}, expected one in {}..{end}", part.epoch, self.next.epoch);
            return Err(Error::new(crate::ErrorKind::State, message));
        }
        self.next = part;
        Ok(self)
    }

    /// The state before the next epoch that this yields.
    pub fn state(&self) -> State {
        self.engine.plan.state(&self.next, self.next.first_batch)
    }

    /// The run to take the next epoch from, and the number of its batches before.
    fn run(&mut self, part: PartOfEpoch) -> (Arc<RunHandle<B>>, u64) {
        if let Some((handle, end)) = self.current.take()
            && handle.taken.load(Ordering::Acquire) == end
            && !self.engine.barrier()
        {
            return (handle, end);
        }
        // The first epoch, or the one before was left early: what was loaded ahead goes with its run.
        let more = match self.end {
            _ if self.engine.barrier() => Some(0),
            Some(end) => Some(end - part.epoch - 1),
            None => None,
        };
        let run = self.engine.start(part, more);
        (Arc::new(RunHandle { run, engine: Arc::clone(&self.engine), taken: AtomicU64::new(0) }), 0)
    }
}

impl<B: Send + 'static> Iterator for Epochs<B> {
    type Item = Epoch<B>;

    fn next(&mut self) -> Option<Epoch<B>> {
        let part = self.next;
        if self.end.is_some_and(|end| part.epoch >= end) {
            return None;
        }
        if let Some((handle, end)) = &self.current
            && handle.taken.load(Ordering::Acquire) != *end
        {
            // The epoch before may still be held by somebody; it ends where it ends.
            handle.run.limit(*end);
            self.current = None;
        }
        self.next = self.engine.plan.part_of_epoch(part.epoch.saturating_add(1), 0, 0);
        let hook = self.engine.on_epoch_start(part.epoch);
        let (handle, first) = self.run(part);
        self.current = Some((Arc::clone(&handle), first + part.num_batches));
        let expected = part.num_samples(&self.engine.plan).0;
        Some(Epoch {
            desk: Desk::new(self.engine.meters.add_consumer()),
            engine: Arc::clone(&self.engine),
            handle: Some(handle),
            part,
            first,
            taken: 0,
            visited: 0,
            failed: hook.err().map(|error| error.with_epoch(part.epoch)),
            receipt: Receipt::new(part.epoch, expected),
        })
    }
}

impl<B: Send + 'static> FusedIterator for Epochs<B> {}

impl<B: Send + 'static> Drop for Epochs<B> {
    fn drop(&mut self) {
        if let Some((handle, end)) = &self.current {
            handle.run.limit(*end);
        }
    }
}

/// The batches of one epoch, in the plan's order. Made by [`Epochs`], or by [`Loader::epoch`](crate::Loader::epoch).
///
/// After an error the epoch is over: it yields nothing more. The loader is as good as before.
///
/// # Examples
///
/// ```
/// use procession::{FailureBudget, Loader, OnFailure, try_from_fn};
///
/// let odd_ones_fail = try_from_fn(6, |index| if index % 2 == 0 { Ok(index) } else { Err("odd") });
/// let loader = Loader::builder(odd_ones_fail)
///     .on_failure(OnFailure::Skip(FailureBudget::default()))
///     .batch_size(4)
///     .build()?;
/// let mut epoch = loader.epoch(0);
/// for batch in &mut epoch {
///     assert!(batch?.iter().all(|number| number % 2 == 0));
/// }
/// let receipt = epoch.receipt();
/// assert!(receipt.is_complete());
/// assert_eq!(receipt.delivered, 3);
/// assert_eq!(receipt.skipped.iter().map(|skipped| skipped.index).collect::<Vec<_>>(), [1, 3, 5]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Epoch<B: Send + 'static> {
    engine: Arc<Engine<B>>,
    desk: Desk,
    // Absent once the epoch is over.
    handle: Option<Arc<RunHandle<B>>>,
    part: PartOfEpoch,
    // The number of the run's batches before this epoch.
    first: u64,
    // How many of this epoch's batches were taken, and how many samples they were to have.
    taken: u64,
    visited: u64,
    // What the hook said, to be said in place of the first batch.
    failed: Option<Error>,
    receipt: Receipt,
}

impl<B: Send + 'static> fmt::Debug for Epoch<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch").field("part", &self.part).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<B: Send + 'static> Epoch<B> {
    /// Which epoch this is.
    pub fn number(&self) -> u64 {
        self.part.epoch
    }

    /// The number of batches that are to come.
    pub fn num_batches_left(&self) -> u64 {
        self.part.num_batches - self.taken
    }

    /// The state before the next batch.
    pub fn state(&self) -> State {
        self.engine.plan.state(&self.part, self.part.first_batch + self.taken)
    }

    /// The account so far; of the whole epoch when it is over.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Lets go of the run, and leaves the account with the loader.
    fn end(&mut self) {
        if let Some(handle) = self.handle.take() {
            if let Some(bytes) = handle.run.peak_bytes() {
                self.engine.meters.record_peak(bytes);
            }
            let mut last = self.engine.last_receipt.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(self.receipt.clone());
        }
    }

    /// Ends the epoch with an error.
    fn fail(&mut self, error: Error) -> Option<Result<Batch<B>>> {
        if let Some(handle) = &self.handle {
            // Nothing of this run will be taken any more: the next epoch must not go on with it, even if this was the
            // epoch's last batch.
            handle.taken.store(ABANDONED, Ordering::Release);
            handle.run.cancel();
        }
        self.end();
        Some(Err(error))
    }

    /// Accounts for a batch, and says what of it is to be delivered.
    fn account(&mut self, outcome: Outcome<B>) -> Option<Result<Batch<B>>> {
        let budget = match self.engine.on_failure {
            OnFailure::Skip(budget) => budget,
            OnFailure::Stop => FailureBudget::default(),
        };
        for skipped in outcome.skipped {
            let row = self.row_of(skipped.position);
            if let Err(error) = self.receipt.skip(skipped, self.visited + row + 1, &budget) {
                return self.fail(error);
            }
        }
        match outcome.batch {
            Err(error) => self.fail(error),
            Ok(None) => {
                self.visited += outcome.num_rows;
                None
            }
            Ok(Some(batch)) => {
                self.visited += outcome.num_rows;
                self.receipt.delivered += batch.num_samples() as u64;
                self.receipt.padded += batch.num_padded() as u64;
                self.receipt.num_batches += 1;
                Some(Ok(batch))
            }
        }
    }

    /// The row of a position in the batch that was taken last.
    fn row_of(&self, position: u64) -> u64 {
        let batch = self.part.batch(&self.engine.plan, self.part.first_batch + self.taken - 1);
        (position - batch.first_position) / batch.step
    }
}

impl<B: Send + 'static> Iterator for Epoch<B> {
    type Item = Result<Batch<B>>;

    fn next(&mut self) -> Option<Result<Batch<B>>> {
        loop {
            let handle = self.handle.as_ref()?;
            if let Some(error) = self.failed.take() {
                return self.fail(error);
            }
            if self.taken == self.part.num_batches {
                self.end();
                return None;
            }
            let seq = self.first + self.taken;
            let outcome = handle.run.take(&(Arc::clone(&handle.run) as _), seq, &self.desk);
            self.taken += 1;
            handle.taken.store(seq + 1, Ordering::Release);
            self.desk.meter().record_batch();
            if let Some(item) = self.account(outcome) {
                return Some(item);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.num_batches_left()).ok();
        // Batches of which every sample is skipped are not delivered, and an error ends the epoch.
        (0, left)
    }
}

impl<B: Send + 'static> FusedIterator for Epoch<B> {}

impl<B: Send + 'static> Drop for Epoch<B> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle
            && self.taken < self.part.num_batches
        {
            handle.taken.store(ABANDONED, Ordering::Release);
            handle.run.cancel();
        }
        self.end();
    }
}
