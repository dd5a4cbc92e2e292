//! What the consumer iterates: epochs, and the batches of one.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::batch::Batch;
use crate::engine::{Engine, RunHandle};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::{FailureBudget, OnFailure, Receipt};
use crate::partial::Outcome;
use crate::plan::{PartOfEpoch, State};
use crate::trace;
use crate::workers::desk::Desk;

/// The epochs of a range. Made by [`Loader::epochs`](crate::Loader::epochs).
pub struct Epochs<B: Send + 'static> {
    engine: Arc<Engine<B>>,
    // What is left of the next epoch, which may lie behind the last one.
    next: PartOfEpoch,
    // The last epoch; absent when all were yielded.
    last: Option<u64>,
    // The run that the last epoch was part of, and the number of the run's batches up to that epoch's end.
    current: Option<(Arc<RunHandle<B>>, u64)>,
}

impl<B: Send + 'static> fmt::Debug for Epochs<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs").field("next", &self.next).field("last", &self.last).finish_non_exhaustive()
    }
}

impl<B: Send + 'static> Epochs<B> {
    pub(crate) fn new(engine: Arc<Engine<B>>, start: u64, last: Option<u64>) -> Self {
        let next = engine.plan.part_of_epoch(start, 0, 0);
        Self { engine, next, last, current: None }
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
        if part.epoch < self.next.epoch || self.last.is_none_or(|last| part.epoch > last) {
            let expected = match self.last {
                Some(last) => format!("one in {}..={last}", self.next.epoch),
                None => "no more epochs".to_owned(),
            };
            let message = format!("the state does not fit: epoch {}, expected {expected}", part.epoch);
            return Err(Error::new(ErrorKind::State, message));
        }
        self.let_go();
        self.next = part;
        Ok(self)
    }

    /// The state before the next epoch that this yields.
    pub fn state(&self) -> State {
        self.engine.plan.state(&self.next, self.next.first_batch)
    }

    /// Lets the epoch before, which somebody may still hold, end where it ends.
    fn let_go(&mut self) {
        if let Some((handle, end)) = self.current.take() {
            handle.run().limit(end);
        }
    }

    /// The run to take the next epoch from, and the number of its batches before.
    fn run(&mut self, part: PartOfEpoch, last: u64) -> (Arc<RunHandle<B>>, u64) {
        if let Some((handle, end)) = &self.current
            && handle.goes_on(*end, part.num_batches)
        {
            return (Arc::clone(handle), *end);
        }
        // The first epoch, or the one before was left early: what was loaded ahead goes with its run.
        self.let_go();
        (self.engine.start(part, last - part.epoch), 0)
    }

    /// Runs the hook of a sequence with a barrier, and starts the one run that there is then.
    fn run_behind_barrier(&mut self, part: PartOfEpoch) -> (Arc<RunHandle<B>>, Result<()>) {
        let engine = Arc::clone(&self.engine);
        let mut only_run = engine.only_run.lock().unwrap_or_else(PoisonError::into_inner);
        self.let_go();
        if let Some(before) = only_run.upgrade() {
            before.abandon();
        }
        let hook = engine.on_epoch_start(part.epoch);
        let handle = engine.start(part, 0);
        *only_run = Arc::downgrade(&handle);
        (handle, hook)
    }
}

impl<B: Send + 'static> Iterator for Epochs<B> {
    type Item = Epoch<B>;

    fn next(&mut self) -> Option<Epoch<B>> {
        let part = self.next;
        let last = self.last?;
        match part.epoch.checked_add(1) {
            Some(next) if next <= last => self.next = self.engine.plan.part_of_epoch(next, 0, 0),
            // The state of what comes after is the next epoch's all the same.
            next => {
                self.next = self.engine.plan.part_of_epoch(next.unwrap_or(u64::MAX), 0, 0);
                self.last = None;
            }
        }
        let (handle, first, hook) = if self.engine.barrier() {
            let (handle, hook) = self.run_behind_barrier(part);
            (handle, 0, hook)
        } else {
            let hook = self.engine.on_epoch_start(part.epoch);
            let (handle, first) = self.run(part, last);
            (handle, first, hook)
        };
        self.current = Some((Arc::clone(&handle), first + part.num_batches));
        let expected = part.num_samples(&self.engine.plan).0;
        Some(Epoch {
            desk: Desk::new(self.engine.meters.add_consumer()),
            engine: Arc::clone(&self.engine),
            handle: Some(handle),
            started: Instant::now(),
            part,
            first,
            taken: 0,
            visited: 0,
            waits: 0,
            failed: hook.err().map(|error| error.with_epoch(part.epoch)),
            receipt: Receipt::new(part.epoch, expected),
        })
    }
}

impl<B: Send + 'static> FusedIterator for Epochs<B> {}

impl<B: Send + 'static> Drop for Epochs<B> {
    fn drop(&mut self) {
        self.let_go();
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
/// assert_eq!(receipt.skipped.iter().filter_map(|skipped| skipped.index).collect::<Vec<_>>(), [1, 3, 5]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Epoch<B: Send + 'static> {
    engine: Arc<Engine<B>>,
    desk: Desk,
    started: Instant,
    // Absent once the epoch is over.
    handle: Option<Arc<RunHandle<B>>>,
    part: PartOfEpoch,
    // The number of the run's batches before this epoch.
    first: u64,
    // How many of this epoch's batches were taken, and how many samples they were to have.
    taken: u64,
    visited: u64,
    // How often the consumer had waited when the number of workers was looked at last.
    waits: u64,
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
            self.desk.meter().record_epoch(self.started.elapsed());
            if let Some(bytes) = handle.run().peak_bytes() {
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
            handle.abandon();
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
        let end = self.visited + outcome.num_rows;
        let mut visited = self.visited;
        for skipped in outcome.skipped {
            // The samples up to this one, and then this one.
            let before = self.visited + self.row_of(skipped.position);
            let passed = self.receipt.pass(visited, before, &budget);
            if let Err(error) = passed.and_then(|()| self.receipt.skip(skipped, before + 1, &budget)) {
                return self.fail(error);
            }
            visited = before + 1;
        }
        if let Err(error) = self.receipt.pass(visited, end, &budget) {
            return self.fail(error);
        }
        self.visited = end;
        match outcome.batch {
            Err(error) => self.fail(error),
            Ok(None) => None,
            Ok(Some(batch)) => {
                self.receipt.delivered += batch.num_samples() as u64;
                self.receipt.padded += batch.num_padded() as u64;
                self.receipt.num_batches += 1;
                Some(Ok(batch))
            }
        }
    }

    fn interrupted(&self) -> Error {
        let message = "another epoch was started, and the sequence has a barrier: only one is under way at a time";
        Error::new(ErrorKind::Interrupted, message)
    }

    /// The row of a position in the batch that was taken last.
    fn row_of(&self, position: u64) -> u64 {
        let batch = self.part.batch(&self.engine.plan, self.part.first_batch + self.taken - 1);
        (position - batch.first_position) / batch.step
    }
}

/// What the next step of an epoch is.
pub(crate) enum Next<B: Send + 'static> {
    /// To take the batch of this number from the run, which is there then.
    Take(u64),
    /// To yield this.
    Yield(Option<Result<Batch<B>>>),
}

impl<B: Send + 'static> Epoch<B> {
    pub(crate) fn before_next(&mut self) -> Next<B> {
        if self.handle.is_none() {
            return Next::Yield(None);
        }
        if let Some(error) = self.failed.take() {
            return Next::Yield(self.fail(error));
        }
        if self.taken == self.part.num_batches {
            self.end();
            return Next::Yield(None);
        }
        Next::Take(self.first + self.taken)
    }

    /// Accounts for what was taken; `None` if the run is cancelled. Gives what is to be yielded, if anything.
    pub(crate) fn after_take(&mut self, outcome: Option<Outcome<B>>, seq: u64) -> Option<Result<Batch<B>>> {
        let Some(outcome) = outcome else { return self.fail_for_want_of_a_run() };
        self.taken += 1;
        if let Some(handle) = &self.handle {
            handle.record_taken(seq + 1);
        }
        self.desk.meter().record_batch();
        if self.desk.meter().waits() != self.waits {
            self.waits = self.desk.meter().waits();
            self.engine.tune();
        }
        self.account(outcome)
    }

    /// Ends the epoch as its run is cancelled.
    fn fail_for_want_of_a_run(&mut self) -> Option<Result<Batch<B>>> {
        let handle = self.handle.as_ref()?;
        let interrupted = || if handle.is_abandoned() { self.interrupted() } else { Error::worker_panicked() };
        let error = handle.run().failure().unwrap_or_else(interrupted);
        self.fail(error.with_epoch(self.part.epoch))
    }
}

#[cfg(feature = "async")]
impl<B: Send + 'static> Epoch<B> {
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(crate) fn handle(&self) -> Option<&RunHandle<B>> {
        self.handle.as_deref()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.handle.is_none()
    }
}

impl<B: Send + 'static> Iterator for Epoch<B> {
    type Item = Result<Batch<B>>;

    fn next(&mut self) -> Option<Result<Batch<B>>> {
        loop {
            let seq = match self.before_next() {
                Next::Take(seq) => seq,
                Next::Yield(item) => return item,
            };
            let handle = self.handle.as_ref()?;
            #[allow(clippy::let_unit_value, reason = "a guard with the feature `tracing`")]
            let span = trace::take(self.part.epoch, self.part.first_batch + self.taken);
            let outcome = handle.run().take(handle.drive(), seq, &self.desk);
            #[allow(clippy::drop_non_drop, dropping_copy_types, reason = "a guard with the feature `tracing`")]
            drop(span);
            if let Some(item) = self.after_take(outcome, seq) {
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
            handle.abandon();
        }
        self.end();
    }
}
