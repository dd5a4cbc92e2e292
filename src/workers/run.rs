//! One run over numbered batches: the claim, the window, and what becomes of a row.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{self, Poll};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::bell::Bell;
use super::budget::Budget;
use super::desk::{Desk, Ticket};
use super::pace::Pace;
use crate::error::Error;
use crate::reassembly::Slots;
use crate::report::{Meter, Stopwatch};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Breaker, Instant, Ordering, Waiter, hint, thread};

/// What a job may use while it loads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Raised when the run is cancelled.
    pub(crate) breaker: &'a Breaker,
    /// The account of the thread that loads.
    pub(crate) meter: &'a Meter,
    /// Whether the memory that rows take is asked for.
    pub(crate) weigh: bool,
}

/// What the engine evaluates: numbered batches of rows. It knows neither samples nor what a batch holds.
///
/// No method may unwind: whoever implements this catches what the user's code throws.
pub(crate) trait Job: Send + Sync + 'static {
    /// A batch under construction, shared by the workers that load its rows.
    type Partial: Send + Sync;
    /// A sample that was loaded apart from its batch, or why it could not be.
    type Loaded: Send;
    /// A finished batch.
    type Output: Send + 'static;

    /// The number of rows of batch `seq`; may be 0.
    fn num_rows(&self, seq: u64) -> usize;
    /// Makes room for a batch.
    fn open(&self, seq: u64) -> Self::Partial;
    /// What stands for a row that was not loaded within its time.
    fn timed_out(&self, seq: u64, row: usize, timeout: Duration) -> Self::Loaded;
    /// Puts a row that was loaded apart in its place. Returns the memory it takes, in bytes.
    fn place(&self, seq: u64, row: usize, partial: &Self::Partial, loaded: Self::Loaded) -> u64;
    /// Finishes a batch all of whose rows are in place.
    fn close(&self, seq: u64, partial: Self::Partial) -> Self::Output;
    /// The memory that a row will take, in bytes, if that is known before it is loaded.
    fn size_bytes(&self, seq: u64, row: usize) -> Option<u64>;
    /// The memory that a finished batch takes, in bytes, if that is another than its rows take and is known.
    fn batch_bytes(&self, output: &Self::Output) -> Option<u64>;
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A task was done.
    Worked,
    /// Nothing can be claimed until the consumer takes a batch.
    Full,
    /// Every batch is claimed.
    Over,
    /// The sample took too long; another worker has this one's place by now.
    Expired,
}

/// The workers' view of a run.
pub(crate) trait Drive: Send + Sync {
    /// Claims a task and does it. `this` is the run itself.
    fn step(&self, this: &Arc<dyn Drive>, desk: &Desk) -> Step;
    /// Reports a row as not loaded in time, on behalf of the worker that still loads it.
    fn expire(&self, ticket: &Ticket, desk: &Desk);
    /// Ends the run: nothing more is claimed, pauses end, finished batches are dropped.
    fn cancel(&self);
}

/// The consumer's view of a run.
pub(crate) trait Feed<O>: Drive {
    /// Takes batch `seq`, waiting for it; `None` if the run is cancelled. `seq` is the one after the last one taken,
    /// and below `end`.
    fn take(&self, this: &Arc<dyn Drive>, seq: u64, desk: &Desk) -> Option<O>;
    /// Makes `end` the end of the run, where it is not shorter already.
    fn limit(&self, end: u64);
    /// The most bytes that were in flight at once, where the window is in bytes.
    fn peak_bytes(&self) -> Option<u64>;
    /// Takes batch `seq`, or has the task of `context` woken when there is something to take.
    #[cfg(feature = "async")]
    fn poll_take(
        &self,
        this: &Arc<dyn Drive>,
        seq: u64,
        desk: &Desk,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<O>>;
    /// Why the run is cancelled, if it says so.
    fn failure(&self) -> Option<Error> {
        None
    }
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The most batches in flight; at least 1.
    pub(crate) window: usize,
    /// How far the window may grow if that helps; equal to `window` if it is fixed.
    pub(crate) max_window: usize,
    /// The most bytes in flight.
    pub(crate) window_bytes: Option<u64>,
    /// How long one sample may take.
    pub(crate) timeout: Option<Duration>,
    /// The number of workers, which may change; 0 stays 0.
    pub(crate) num_workers: Arc<AtomicUsize>,
}

/// Rows of one batch that somebody claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) seq: u64,
    pub(super) rows: Range<usize>,
    pub(super) num_rows: usize,
    pub(super) reserved_bytes: u64,
}

impl Task {
    /// Whether these are all the rows of the batch.
    pub(super) fn is_whole(&self) -> bool {
        self.rows.len() == self.num_rows
    }
}

/// A run over batches `0..end`, claimed in order and taken in order.
pub(crate) struct Run<J: Job> {
    pub(super) job: J,
    pub(super) slots: Slots<J::Partial, J::Output>,
    // The row takes as many low bits of the cursor as the largest batch needs, the batch's number the others.
    row_bits: u32,
    pub(super) max_rows: u64,
    // The first row that nobody has claimed: batch number and row. One compare-and-swap moves it past a task's rows;
    // it never goes back, so every row is claimed once.
    cursor: CachePadded<AtomicU64>,
    // The next batch that the consumer takes. Invariant: a row is claimed only if its batch is below `due + window`.
    // That one inequality bounds memory, keeps a slot from being entered twice, and rules out deadlock: rows are
    // claimed in order, so whatever the due batch lacks is claimed by somebody who is at work, or can be claimed.
    pub(super) due: CachePadded<AtomicU64>,
    pub(super) window: AtomicU64,
    // Whether somebody found the window full since it was last widened, and whether the consumer waits.
    was_full: AtomicBool,
    starves: AtomicBool,
    pub(super) end: AtomicU64,
    pub(super) budget: Option<Budget>,
    pub(super) breaker: Breaker,
    pub(super) settings: Settings,
    pub(super) pace: Arc<Pace>,
    pub(super) bell: Arc<Bell>,
}

impl<J: Job> fmt::Debug for Run<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("cursor", &self.cursor).field("due", &self.due).finish_non_exhaustive()
    }
}

impl<J: Job> Run<J> {
    pub(crate) fn new(job: J, end: u64, max_rows: usize, settings: Settings, pace: Arc<Pace>, bell: Arc<Bell>) -> Self {
        Self {
            job,
            // No more slots than batches: short runs are made often.
            slots: Slots::new(slots_for(settings.max_window, end)),
            row_bits: row_bits(max_rows),
            max_rows: max_rows as u64,
            cursor: CachePadded::new(AtomicU64::new(0)),
            due: CachePadded::new(AtomicU64::new(0)),
            window: AtomicU64::new(settings.window as u64),
            was_full: AtomicBool::new(false),
            starves: AtomicBool::new(false),
            end: AtomicU64::new(end.min(max_batches(max_rows))),
            budget: settings.window_bytes.map(Budget::new),
            breaker: Breaker::new(),
            settings,
            pace,
            bell,
        }
    }

    fn unpack(&self, cursor: u64) -> (u64, usize) {
        (cursor >> self.row_bits, (cursor & ((1 << self.row_bits) - 1)) as usize)
    }

    fn pack(&self, seq: u64, row: usize) -> u64 {
        seq << self.row_bits | row as u64
    }

    /// How many batches from `seq` on may be claimed now.
    pub(super) fn room(&self, seq: u64) -> u64 {
        // Acquire pairs with the store in `advance`: a batch that is seen as taken has left its slot.
        let due = self.due.load(Ordering::Acquire);
        let end = self.end.load(Ordering::Acquire).min(due.saturating_add(self.window.load(Ordering::Relaxed)));
        end.saturating_sub(seq)
    }

    fn task_at(&self, cursor: u64, with_timeout: bool) -> (Task, u64) {
        let (seq, row) = self.unpack(cursor);
        let num_rows = self.job.num_rows(seq);
        let left = num_rows - row;
        // A sample with a deadline, and one whose bytes are counted, is a task of its own.
        let most = if with_timeout || self.budget.is_some() {
            1
        } else {
            self.pace.rows_per_task(num_rows, left, self.num_workers())
        };
        let end = row + left.min(most.max(1));
        let next = if end == num_rows { self.pack(seq + 1, 0) } else { self.pack(seq, end) };
        (Task { seq, rows: row..end, num_rows, reserved_bytes: 0 }, next)
    }

    /// Claims the next rows, or says why there is nothing to claim.
    pub(super) fn claim(&self, with_timeout: bool) -> Result<Task, Step> {
        let mut cursor = self.cursor.load(Ordering::Acquire);
        loop {
            let (seq, row) = self.unpack(cursor);
            if self.room(seq) == 0 {
                if seq >= self.end.load(Ordering::Acquire) {
                    return Err(Step::Over);
                }
                // Relaxed: hints, nothing hangs on them. One slow sample holds the consumer up, and there is work to do
                // behind it as far as the window may grow.
                if self.starves.load(Ordering::Relaxed) && self.widen() {
                    continue;
                }
                self.was_full.store(true, Ordering::Relaxed);
                return Err(Step::Full);
            }
            let (mut task, next) = self.task_at(cursor, with_timeout);
            // The claim: of all who try to move the cursor from here, one succeeds and owns the rows in between.
            let swap = || self.cursor.compare_exchange(cursor, next, Ordering::AcqRel, Ordering::Acquire);
            let Some(budget) = &self.budget else {
                match swap() {
                    Ok(_) => return Ok(task),
                    Err(moved) => cursor = moved,
                }
                continue;
            };
            let (due, mut lost) = (self.due.load(Ordering::Acquire), false);
            let bytes = if task.num_rows == 0 { Some(0) } else { self.job.size_bytes(seq, row) };
            let admitted = budget.admit(seq, due, bytes, || {
                lost = swap().is_err();
                !lost
            });
            match admitted {
                Some(bytes) => {
                    task.reserved_bytes = bytes;
                    return Ok(task);
                }
                None if lost => cursor = self.cursor.load(Ordering::Acquire),
                None => return Err(Step::Full),
            }
        }
    }

    pub(super) fn num_workers(&self) -> usize {
        // Relaxed: it decides how work is cut, not who does it.
        self.settings.num_workers.load(Ordering::Relaxed)
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.unpack(self.cursor.load(Ordering::Acquire)).0
    }

    pub(super) fn is_worth_a_wake_up(&self, rows: u64) -> bool {
        self.pace.cost_ns(rows).is_none_or(|cost| cost > 2 * WAKE_UP_NS)
    }

    pub(super) fn context<'a>(&'a self, desk: &'a Desk) -> Context<'a> {
        Context { breaker: &self.breaker, meter: desk.meter(), weigh: self.budget.is_some() }
    }

    /// Notes what a task took in time and memory.
    pub(super) fn settle(
        &self,
        seq: u64,
        count: usize,
        reserved: u64,
        bytes: u64,
        watch: Option<Stopwatch>,
        desk: &Desk,
    ) {
        let watch = watch.map(|watch| (watch, watch.elapsed()));
        if let Some((_, took)) = watch {
            self.pace.record(count, took);
        }
        desk.meter().record_load(count as u64, watch);
        if let Some(budget) = &self.budget {
            budget.settle(seq, reserved, bytes);
        }
    }

    /// Makes a batch of its rows. Takes the time for whoever does it, where there is a watch.
    pub(super) fn close(&self, seq: u64, partial: J::Partial, watch: Option<(Stopwatch, &Desk)>) -> J::Output {
        let watch = watch.map(|watch| (watch, Instant::now()));
        let output = self.job.close(seq, partial);
        if let Some(((watch, desk), start)) = watch {
            desk.meter().record_close(watch, start.elapsed());
        }
        // Its rows are settled, and the consumer cannot close its account before it is delivered.
        if let Some(budget) = &self.budget
            && let Some(bytes) = self.job.batch_bytes(&output)
        {
            budget.settle_batch(seq, bytes);
        }
        output
    }

    /// Makes a batch of its rows and puts it in its slot.
    pub(super) fn finish(&self, seq: u64, partial: J::Partial, watch: Option<(Stopwatch, &Desk)>) {
        if self.breaker.is_broken() {
            return;
        }
        let output = self.close(seq, partial, watch);
        self.slots.deliver(seq, output);
        // `cancel` raises the breaker before it clears the slots: either it finds this batch, or this sees the
        // breaker. Without a consumer the batch must not stay.
        if self.breaker.is_broken() {
            self.slots.clear();
        }
    }

    /// Puts a row that was loaded apart in its place.
    pub(super) fn place(&self, seq: u64, row: usize, reserved_bytes: u64, loaded: J::Loaded, desk: &Desk) {
        self.write(seq, reserved_bytes, desk, |partial| self.job.place(seq, row, partial, loaded));
    }

    /// Writes one row of a batch, which returns the memory it takes, and finishes the batch if it was the last one.
    pub(super) fn write(&self, seq: u64, reserved_bytes: u64, desk: &Desk, write: impl FnOnce(&J::Partial) -> u64) {
        if self.breaker.is_broken() {
            return;
        }
        let partial = self.slots.enter(seq, || self.job.open(seq));
        let bytes = write(&partial);
        if let Some(budget) = &self.budget {
            budget.settle(seq, reserved_bytes, bytes);
        }
        if let Some(partial) = self.slots.leave(seq, partial, 1, self.job.num_rows(seq)) {
            self.finish(seq, partial, desk.meter().start(None).map(|watch| (watch, desk)));
        }
    }

    /// Moves on to the next batch, which makes room.
    pub(super) fn advance(&self, seq: u64) {
        // Before the next batch is due: its samples are let in however large they are, and must not meet what was taken.
        if let Some(budget) = &self.budget {
            budget.release(seq);
        }
        // Release pairs with the load in `room`.
        self.due.store(seq + 1, Ordering::Release);
    }

    /// Notes that the consumer begins or ends to wait. What waits lets the window grow.
    pub(super) fn starve(&self, starves: bool) {
        self.starves.store(starves, Ordering::Relaxed);
    }

    #[cfg(feature = "async")]
    pub(super) fn starves(&self) -> bool {
        self.starves.load(Ordering::Relaxed)
    }

    /// Widens the window if somebody found it full: workers that did a moment ago are as fast as the consumer on the
    /// whole, but not in step with it; a larger window evens that out.
    pub(super) fn widen_if_full(&self) {
        // Hardly ever, and a look costs less than an exchange.
        if self.was_full.load(Ordering::Relaxed) && self.was_full.swap(false, Ordering::Relaxed) {
            self.widen();
        }
    }

    #[cfg(feature = "async")]
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn limit(&self, end: u64) {
        self.end.fetch_min(end, Ordering::AcqRel);
    }

    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.budget.as_ref().map(Budget::peak_bytes)
    }

    /// Ends the run: nothing more is claimed, pauses end, finished batches are dropped.
    pub(super) fn cancel(&self) {
        self.end.store(0, Ordering::Release);
        self.breaker.raise();
        self.slots.clear();
    }

    /// Doubles the window, as far as it may grow.
    pub(super) fn widen(&self) -> bool {
        let window = self.window.load(Ordering::Relaxed);
        let most = self.settings.max_window as u64;
        if window < most {
            self.window.store((window * 2).min(most), Ordering::Relaxed);
        }
        window < most
    }
}

/// The number of slots for a window, in a run of so many batches.
fn slots_for(max_window: usize, end: u64) -> usize {
    max_window.min(usize::try_from(end).unwrap_or(usize::MAX)).max(1).next_power_of_two()
}

fn row_bits(max_rows: usize) -> u32 {
    usize::BITS - max_rows.leading_zeros()
}

/// The most batches that a run can number, if they have so many rows at most.
pub(crate) fn max_batches(max_rows: usize) -> u64 {
    u64::MAX >> row_bits(max_rows)
}

/// About what it takes to wake a sleeping thread.
const WAKE_UP_NS: u64 = 30_000;
/// How often the consumer looks again before it lets others run, and how often it lets them run before it sleeps.
const SPINS: usize = if cfg!(procession_loom) { 0 } else { 64 };
const YIELDS: usize = if cfg!(procession_loom) { 0 } else { 2 };

/// What came of asking for a batch.
pub(super) enum Registered<O> {
    /// The batch, or nothing as the run is cancelled.
    Taken(Option<O>),
    /// It is not there, and who asked will be woken.
    Waits,
}

impl<J: Job> Run<J> {
    /// Takes a batch if it is there; `None` also if the run is cancelled. Else leaves word whom to wake, and says so.
    pub(super) fn take_or_register(&self, seq: u64, waiter: Waiter) -> Registered<J::Output> {
        let output = self.slots.take(seq, Some(waiter));
        // `cancel` raises the breaker and then wakes whoever waits in a slot: either this sees the breaker, or it is
        // woken.
        if output.is_some() || self.breaker.is_broken() {
            return Registered::Taken(output);
        }
        Registered::Waits
    }

    /// Looks for a batch a little longer than once, and lets others run.
    pub(super) fn look_for(&self, seq: u64) -> Option<J::Output> {
        for spin in 0..SPINS + YIELDS {
            if let Some(output) = self.slots.take_if_ready(seq) {
                return Some(output);
            }
            if spin < SPINS { hint::spin_loop() } else { thread::yield_now() }
        }
        None
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::{max_batches, slots_for};

    #[test]
    fn the_cursor_holds_the_last_row_of_the_last_batch() {
        assert_eq!([1, 127, 128].map(max_batches), [63, 57, 56].map(|bits| (1 << bits) - 1));
        assert_eq!(
            [(1, 9), (4, 9), (5, 9), (64, 3), (64, 0)].map(|(window, end)| slots_for(window, end)),
            [1, 4, 8, 4, 1]
        );
    }
}
