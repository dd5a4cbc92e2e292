//! One run over numbered batches: the claim, the window, and the consumer's side.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::bell::Bell;
use super::budget::Budget;
use super::desk::{Desk, Ticket};
use super::pace::Pace;
use crate::reassembly::Slots;
use crate::report::{Meter, Stopwatch};
use crate::sync::{self, AtomicBool, AtomicU64, AtomicUsize, Breaker, Instant, Ordering, Waiter, after, hint, thread};

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
    /// Loads rows into their places. May leave off when the breaker is raised: the batch is then thrown away.
    /// Returns the memory that the rows take, in bytes, if it is asked to weigh them.
    fn load(&self, seq: u64, rows: Range<usize>, partial: &Self::Partial, context: Context<'_>) -> u64;
    /// Called before a row is loaded apart; waits until it may be.
    fn begin_apart(&self);
    /// Loads one row without a place to put it.
    fn load_apart(&self, seq: u64, row: usize, context: Context<'_>) -> Self::Loaded;
    /// What stands for a row that was not loaded within its time.
    fn timed_out(&self, seq: u64, row: usize, timeout: Duration) -> Self::Loaded;
    /// Called once after each `begin_apart`: when the row was loaded, or when it was given up.
    fn end_apart(&self);
    /// Puts a row that was loaded apart in its place. Returns the memory it takes, in bytes.
    fn place(&self, seq: u64, row: usize, partial: &Self::Partial, loaded: Self::Loaded) -> u64;
    /// Finishes a batch all of whose rows are in place.
    fn close(&self, seq: u64, partial: Self::Partial) -> Self::Output;
    /// The memory that a row will take, in bytes, if that is known before it is loaded.
    fn size_bytes(&self, seq: u64, row: usize) -> Option<u64>;
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    seq: u64,
    rows: Range<usize>,
    num_rows: usize,
    reserved_bytes: u64,
}

/// A run over batches `0..end`, claimed in order and taken in order.
pub(crate) struct Run<J: Job> {
    job: J,
    slots: Slots<J::Partial, J::Output>,
    // The row takes as many low bits of the cursor as the largest batch needs, the batch's number the others.
    row_bits: u32,
    max_rows: u64,
    // The first row that nobody has claimed: batch number and row. One compare-and-swap moves it past a task's rows;
    // it never goes back, so every row is claimed once.
    cursor: CachePadded<AtomicU64>,
    // The next batch that the consumer takes. Invariant: a row is claimed only if its batch is below `due + window`.
    // That one inequality bounds memory, keeps a slot from being entered twice, and rules out deadlock: rows are
    // claimed in order, so whatever the due batch lacks is claimed by somebody who is at work, or can be claimed.
    due: CachePadded<AtomicU64>,
    window: AtomicU64,
    // Whether somebody found the window full since it was last widened, and whether the consumer waits.
    was_full: AtomicBool,
    starves: AtomicBool,
    end: AtomicU64,
    budget: Option<Budget>,
    breaker: Breaker,
    settings: Settings,
    pace: Arc<Pace>,
    bell: Arc<Bell>,
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
    fn room(&self, seq: u64) -> u64 {
        // Acquire pairs with the store in `advance`: a batch that is seen as taken has left its slot.
        let due = self.due.load(Ordering::Acquire);
        let end = self.end.load(Ordering::Acquire).min(due.saturating_add(self.window.load(Ordering::Relaxed)));
        end.saturating_sub(seq)
    }

    fn task_at(&self, cursor: u64, with_timeout: bool) -> (Task, u64) {
        let (seq, row) = self.unpack(cursor);
        let num_rows = self.job.num_rows(seq);
        // A sample with a deadline, and one whose bytes are counted, is a task of its own. Otherwise a task has no
        // more rows than a fair share of what the batch has left, so that all workers serve the batch that is due.
        let left = num_rows - row;
        let most = if with_timeout || self.budget.is_some() {
            1
        } else {
            let most = self.pace.samples_per_task();
            if most >= num_rows { num_rows } else { most.min(left.div_ceil(self.num_workers().max(1))) }
        };
        let end = row + left.min(most.max(1));
        let next = if end == num_rows { self.pack(seq + 1, 0) } else { self.pack(seq, end) };
        (Task { seq, rows: row..end, num_rows, reserved_bytes: 0 }, next)
    }

    /// Claims the next rows, or says why there is nothing to claim.
    fn claim(&self, with_timeout: bool) -> Result<Task, Step> {
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

    fn num_workers(&self) -> usize {
        // Relaxed: it decides how work is cut, not who does it.
        self.settings.num_workers.load(Ordering::Relaxed)
    }

    fn next_seq(&self) -> u64 {
        self.unpack(self.cursor.load(Ordering::Acquire)).0
    }

    /// Rouses another worker if what is left to claim is worth more than the wake-up.
    fn rouse_if_worthwhile(&self, task: &Task) {
        if !self.bell.seems_anyone_asleep() {
            return;
        }
        let room = self.room(task.seq + 1);
        let rows = (task.num_rows - task.rows.end) as u64 + room.saturating_mul(task.num_rows as u64);
        if rows > 0 && self.is_worth_a_wake_up(rows) {
            self.bell.ring_one();
        }
    }

    fn is_worth_a_wake_up(&self, rows: u64) -> bool {
        self.pace.cost_ns(rows).is_none_or(|cost| cost > 2 * WAKE_UP_NS)
    }

    fn context<'a>(&'a self, desk: &'a Desk) -> Context<'a> {
        Context { breaker: &self.breaker, meter: desk.meter(), weigh: self.budget.is_some() }
    }

    fn perform(&self, task: Task, desk: &Desk) {
        self.rouse_if_worthwhile(&task);
        let Task { seq, rows, num_rows, reserved_bytes } = task;
        let count = rows.len();
        let watch = desk.meter().start(self.pace.cost_ns(count as u64));
        if count == num_rows {
            // The whole batch: nobody else sees anything of it before it is done, and it needs no slot until then.
            let partial = self.job.open(seq);
            let bytes = self.job.load(seq, rows, &partial, self.context(desk));
            self.settle(seq, count, reserved_bytes, bytes, watch, desk);
            self.finish(seq, partial, watch, desk);
            return;
        }
        let partial = self.slots.enter(seq, || self.job.open(seq));
        let bytes = self.job.load(seq, rows, &partial, self.context(desk));
        // Before the rows are counted as done: once they are, the consumer can take the batch and close its account.
        self.settle(seq, count, reserved_bytes, bytes, watch, desk);
        // A run that was cancelled has no consumer; its batches may be incomplete and are never finished.
        if self.breaker.is_broken() {
            return;
        }
        if let Some(partial) = self.slots.leave(seq, partial, count, num_rows) {
            self.finish(seq, partial, watch, desk);
        }
    }

    /// Notes what a task took in time and memory.
    fn settle(&self, seq: u64, count: usize, reserved: u64, bytes: u64, watch: Option<Stopwatch>, desk: &Desk) {
        let watch = watch.map(|watch| (watch, watch.elapsed()));
        if let Some((_, took)) = watch {
            self.pace.record(count, took);
        }
        desk.meter().record_load(count as u64, watch);
        if let Some(budget) = &self.budget {
            budget.settle(seq, reserved, bytes);
        }
    }

    fn finish(&self, seq: u64, partial: J::Partial, watch: Option<Stopwatch>, desk: &Desk) {
        if self.breaker.is_broken() {
            return;
        }
        let watch = watch.map(|watch| (watch, Instant::now()));
        let output = self.job.close(seq, partial);
        if let Some((watch, start)) = watch {
            desk.meter().record_close(watch, start.elapsed());
        }
        self.slots.deliver(seq, output);
        // `cancel` raises the breaker before it clears the slots: either it finds this batch, or this sees the
        // breaker. Without a consumer the batch must not stay.
        if self.breaker.is_broken() {
            self.slots.clear();
        }
    }

    /// Loads one sample under a deadline. It gets a place only after it was loaded in time, so that a sample that
    /// is still being loaded long after its deadline has nothing to write to.
    fn perform_within(&self, timeout: Duration, task: Task, this: &Arc<dyn Drive>, desk: &Desk) -> Step {
        self.rouse_if_worthwhile(&task);
        let Task { seq, rows, num_rows, reserved_bytes } = task;
        if num_rows == 0 {
            let partial = self.job.open(seq);
            self.finish(seq, partial, None, desk);
            return Step::Worked;
        }
        let watch = desk.meter().start(None);
        // Before the deadline runs: waiting for a hook is not the sample's fault.
        self.job.begin_apart();
        let deadline = after(timeout);
        desk.begin(Ticket { run: Arc::clone(this), seq, row: rows.start, reserved_bytes, deadline });
        let loaded = self.job.load_apart(seq, rows.start, self.context(desk));
        // Whoever takes the ticket off the desk decides what becomes of the row: this worker, or the watch.
        let Some(ticket) = desk.end() else { return Step::Expired };
        let watch = watch.map(|watch| (watch, watch.elapsed()));
        if let Some((_, took)) = watch {
            self.pace.record(1, took);
        }
        desk.meter().record_load(1, watch);
        self.place(&ticket, loaded, desk);
        Step::Worked
    }

    fn place(&self, ticket: &Ticket, loaded: J::Loaded, desk: &Desk) {
        let &Ticket { seq, row, .. } = ticket;
        self.job.end_apart();
        if self.breaker.is_broken() {
            return;
        }
        let partial = self.slots.enter(seq, || self.job.open(seq));
        let bytes = self.job.place(seq, row, &partial, loaded);
        if let Some(budget) = &self.budget {
            budget.settle(seq, ticket.reserved_bytes, bytes);
        }
        if let Some(partial) = self.slots.leave(seq, partial, 1, self.job.num_rows(seq)) {
            self.finish(seq, partial, desk.meter().start(None), desk);
        }
    }

    /// Moves on to the next batch and lets workers claim into the room that this makes.
    fn advance(&self, seq: u64) {
        // Before the next batch is due: its samples are let in however large they are, and must not meet what was taken.
        if let Some(budget) = &self.budget {
            budget.release(seq);
        }
        // Release pairs with the load in `room`. A worker that goes to sleep either sees this room or is seen below: the
        // bell has the fences for that.
        self.due.store(seq + 1, Ordering::Release);
        if !self.bell.anyone_asleep() {
            return;
        }
        // A wake-up costs as much as a small batch. One is due when a good part of the window is free, or all that is
        // left of the run, and worth it; if that never comes, the consumer finds nothing to take, and rings (or works)
        // then.
        let next = self.next_seq();
        let room = self.room(next);
        let window = self.window.load(Ordering::Relaxed);
        let much = self.budget.is_some() || room * 2 >= window || next + room >= self.end.load(Ordering::Relaxed);
        if room > 0 && much && self.is_worth_a_wake_up(room.saturating_mul(self.max_rows)) {
            self.bell.ring_one();
        }
    }

    /// Doubles the window, as far as it may grow.
    fn widen(&self) -> bool {
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
const SPINS: usize = if cfg!(loom) { 0 } else { 64 };
const YIELDS: usize = if cfg!(loom) { 0 } else { 2 };

impl<J: Job> Drive for Run<J> {
    fn step(&self, this: &Arc<dyn Drive>, desk: &Desk) -> Step {
        // Without workers there is nobody to take over from a stuck sample, and no watch to notice one.
        let timeout = self.settings.timeout.filter(|_| self.num_workers() > 0);
        match (self.claim(timeout.is_some()), timeout) {
            (Ok(task), Some(timeout)) => self.perform_within(timeout, task, this, desk),
            (Ok(task), None) => {
                self.perform(task, desk);
                Step::Worked
            }
            (Err(step), _) => step,
        }
    }

    fn expire(&self, ticket: &Ticket, desk: &Desk) {
        let timeout = self.settings.timeout.expect("only a sample with a time-out expires");
        self.place(ticket, self.job.timed_out(ticket.seq, ticket.row, timeout), desk);
    }

    fn cancel(&self) {
        self.end.store(0, Ordering::Release);
        self.breaker.raise();
        self.slots.clear();
    }
}

impl<J: Job> Feed<J::Output> for Run<J> {
    fn take(&self, this: &Arc<dyn Drive>, seq: u64, desk: &Desk) -> Option<J::Output> {
        debug_assert_eq!(self.due.load(Ordering::Relaxed), seq, "batches are taken in order");
        let output = match self.slots.take(seq, None) {
            Some(output) => output,
            None => self.wait_for(this, seq, desk)?,
        };
        self.advance(seq);
        Some(output)
    }

    fn limit(&self, end: u64) {
        self.end.fetch_min(end, Ordering::AcqRel);
    }

    fn peak_bytes(&self) -> Option<u64> {
        self.budget.as_ref().map(Budget::peak_bytes)
    }
}

impl<J: Job> Run<J> {
    /// Waits for a batch: does a task itself where that is quicker than being woken, else looks a little longer, lets
    /// others run, and sleeps. `None` if the run is cancelled.
    fn wait_for(&self, this: &Arc<dyn Drive>, seq: u64, desk: &Desk) -> Option<J::Output> {
        let alone = self.num_workers() == 0;
        // Workers that found the window full a moment ago are as fast as the consumer on the whole, but not in step with
        // it; a larger window evens that out.
        if self.was_full.swap(false, Ordering::Relaxed) {
            self.widen();
        }
        loop {
            if alone || (self.settings.timeout.is_none() && self.pace.is_shorter_than_a_wake_up()) {
                let step = self.step(this, desk);
                let output = self.slots.take(seq, None);
                if output.is_some() {
                    return output;
                }
                if step == Step::Worked && !self.breaker.is_broken() {
                    continue;
                }
            }
            let start = Instant::now();
            self.starves.store(true, Ordering::Relaxed);
            let output = self.look_for(seq).or_else(|| self.sleep_until_woken(seq));
            self.starves.store(false, Ordering::Relaxed);
            desk.meter().record_wait(start.elapsed());
            if output.is_some() || self.breaker.is_broken() {
                return output;
            }
        }
    }

    fn sleep_until_woken(&self, seq: u64) -> Option<J::Output> {
        let output = self.slots.take(seq, Some(Waiter::current_thread()));
        // `cancel` raises the breaker and then wakes whoever waits in a slot: either this sees the breaker, or it is
        // woken.
        if output.is_none() && !self.breaker.is_broken() {
            // Nobody sleeps while there is something to claim: what this consumer waits for may be in it.
            if self.bell.anyone_asleep() && self.room(self.next_seq()) > 0 {
                self.bell.ring_one();
            }
            // A token left by an earlier wake-up makes this return at once, and the caller looks again.
            sync::park();
        }
        output
    }

    fn look_for(&self, seq: u64) -> Option<J::Output> {
        for spin in 0..SPINS + YIELDS {
            if let Some(output) = self.slots.take(seq, None) {
                return Some(output);
            }
            if spin < SPINS { hint::spin_loop() } else { thread::yield_now() }
        }
        None
    }
}
