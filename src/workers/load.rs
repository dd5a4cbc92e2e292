//! Rows that are loaded by those who claim them: the workers', and the consumer's when that is quicker.

use std::ops::Range;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{self, Poll, ready};
use std::time::Duration;

use super::desk::{Desk, Ticket};
use super::run::{Context, Drive, Feed, Job, Registered, Run, Step, Task};
use crate::report::Stopwatch;
use crate::sync::{self, Instant, Ordering, Waiter, after};

/// A job whose rows are loaded by those who claim them.
pub(crate) trait LoadJob: Job {
    /// Loads rows into their places. May leave off when the breaker is raised: the batch is then thrown away.
    /// Returns the memory that the rows take, in bytes, if it is asked to weigh them.
    fn load(&self, seq: u64, rows: Range<usize>, partial: &Self::Partial, context: Context<'_>) -> u64;
    /// Called before a row is loaded apart; waits until it may be.
    fn begin_apart(&self);
    /// Loads one row without a place to put it.
    fn load_apart(&self, seq: u64, row: usize, context: Context<'_>) -> Self::Loaded;
    /// Called once after each `begin_apart`: when the row was loaded, or when it was given up.
    fn end_apart(&self);
}

impl<J: LoadJob> Run<J> {
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

    /// Loads all rows of a batch: nobody else sees anything of it before it is done, and it needs no slot until then.
    fn load_whole(&self, task: Task, desk: &Desk) -> (J::Partial, Option<Stopwatch>) {
        self.rouse_if_worthwhile(&task);
        let Task { seq, rows, num_rows, reserved_bytes } = task;
        let watch = desk.meter().start(self.pace.cost_ns(num_rows as u64));
        let partial = self.job.open(seq);
        let bytes = self.job.load(seq, rows, &partial, self.context(desk));
        self.settle(seq, num_rows, reserved_bytes, bytes, watch, desk);
        (partial, watch)
    }

    fn perform(&self, task: Task, desk: &Desk) {
        if task.is_whole() {
            let seq = task.seq;
            let (partial, watch) = self.load_whole(task, desk);
            self.finish(seq, partial, watch.map(|watch| (watch, desk)));
            return;
        }
        self.rouse_if_worthwhile(&task);
        let Task { seq, rows, num_rows, reserved_bytes } = task;
        let count = rows.len();
        let watch = desk.meter().start(self.pace.cost_ns(count as u64));
        let partial = self.slots.enter(seq, || self.job.open(seq));
        let bytes = self.job.load(seq, rows, &partial, self.context(desk));
        // Before the rows are counted as done: once they are, the consumer can take the batch and close its account.
        self.settle(seq, count, reserved_bytes, bytes, watch, desk);
        // A run that was cancelled has no consumer; its batches may be incomplete and are never finished.
        if self.breaker.is_broken() {
            return;
        }
        if let Some(partial) = self.slots.leave(seq, partial, count, num_rows) {
            self.finish(seq, partial, watch.map(|watch| (watch, desk)));
        }
    }

    /// Loads one sample under a deadline. It gets a place only after it was loaded in time, so that a sample that
    /// is still being loaded long after its deadline has nothing to write to.
    fn perform_within(&self, timeout: Duration, task: Task, this: &Arc<dyn Drive>, desk: &Desk) -> Step {
        self.rouse_if_worthwhile(&task);
        let Task { seq, rows, num_rows, reserved_bytes } = task;
        if num_rows == 0 {
            let partial = self.job.open(seq);
            self.finish(seq, partial, None);
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
        self.job.end_apart();
        self.place(seq, ticket.row, reserved_bytes, loaded, desk);
        Step::Worked
    }

    /// Lets workers claim into the room that a batch taken makes.
    fn offer_room(&self) {
        // Without workers there is nobody to offer it to, and a fence costs as much as ten loads.
        if self.num_workers() == 0 {
            return;
        }
        // A worker that goes to sleep either sees this room or is seen here: the bell has the fences for that.
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

    /// Before the consumer waits: nobody sleeps while there is something to claim, as what it waits for may be in it. A
    /// window that is full grows, as workers who sleep would not see that somebody waits.
    fn rouse_for_all_that_can_be_claimed(&self) {
        let next = self.next_seq();
        if self.room(next) == 0 && next < self.end.load(Ordering::Acquire) {
            self.widen();
        }
        if self.bell.anyone_asleep() && self.room(self.next_seq()) > 0 {
            self.bell.ring_one();
        }
    }

    /// Waits for a batch: does a task itself where that is quicker than being woken, else looks a little longer, lets
    /// others run, and sleeps. `None` if the run is cancelled.
    fn wait_for(&self, seq: u64, desk: &Desk) -> Option<J::Output> {
        let alone = self.num_workers() == 0;
        self.widen_if_full();
        loop {
            if alone || (self.settings.timeout.is_none() && self.pace.is_shorter_than_a_wake_up()) {
                let task = self.claim(false);
                let worked = task.is_ok();
                match task {
                    // The batch that is due, whole: it goes from hand to hand without a slot.
                    Ok(task) if task.seq == seq && task.is_whole() => {
                        let (partial, watch) = self.load_whole(task, desk);
                        if self.breaker.is_broken() {
                            return None;
                        }
                        return Some(self.close(seq, partial, watch.map(|watch| (watch, desk))));
                    }
                    Ok(task) => self.perform(task, desk),
                    Err(_) => (),
                }
                let output = self.slots.take_if_ready(seq);
                if output.is_some() {
                    return output;
                }
                if worked && !self.breaker.is_broken() {
                    continue;
                }
            }
            let start = Instant::now();
            self.starve(true);
            let output = self.look_for(seq).or_else(|| self.sleep_until_woken(seq));
            self.starve(false);
            desk.meter().record_wait(start.elapsed());
            if output.is_some() || self.breaker.is_broken() {
                return output;
            }
        }
    }

    fn sleep_until_woken(&self, seq: u64) -> Option<J::Output> {
        match self.take_or_register(seq, Waiter::current_thread()) {
            Registered::Taken(output) => output,
            Registered::Waits => {
                self.rouse_for_all_that_can_be_claimed();
                // A token left by an earlier wake-up makes this return at once, and the caller looks again.
                sync::park();
                None
            }
        }
    }

    /// The same for a task: it loads nothing itself, unless there is nobody else to.
    #[cfg(feature = "async")]
    fn poll_for(
        &self,
        this: &Arc<dyn Drive>,
        seq: u64,
        desk: &Desk,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<J::Output>> {
        self.widen_if_full();
        if self.num_workers() == 0 {
            while self.step(this, desk) == Step::Worked && !self.breaker.is_broken() {
                if let Some(output) = self.slots.take_if_ready(seq) {
                    return Poll::Ready(Some(output));
                }
            }
        }
        self.starve(true);
        match self.take_or_register(seq, Waiter::Task(context.waker().clone())) {
            Registered::Taken(output) => Poll::Ready(output),
            Registered::Waits => {
                self.rouse_for_all_that_can_be_claimed();
                Poll::Pending
            }
        }
    }
}

impl<J: LoadJob> Drive for Run<J> {
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
        self.job.end_apart();
        let &Ticket { seq, row, reserved_bytes, .. } = ticket;
        self.place(seq, row, reserved_bytes, self.job.timed_out(seq, row, timeout), desk);
    }

    fn cancel(&self) {
        Self::cancel(self);
    }
}

impl<J: LoadJob> Feed<J::Output> for Run<J> {
    fn take(&self, _: &Arc<dyn Drive>, seq: u64, desk: &Desk) -> Option<J::Output> {
        debug_assert_eq!(self.due.load(Ordering::Relaxed), seq, "batches are taken in order");
        let output = match self.slots.take_if_ready(seq) {
            Some(output) => output,
            None => self.wait_for(seq, desk)?,
        };
        self.advance(seq);
        self.offer_room();
        Some(output)
    }

    fn limit(&self, end: u64) {
        Self::limit(self, end);
    }

    fn peak_bytes(&self) -> Option<u64> {
        Self::peak_bytes(self)
    }

    #[cfg(feature = "async")]
    fn poll_take(
        &self,
        this: &Arc<dyn Drive>,
        seq: u64,
        desk: &Desk,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<J::Output>> {
        let output = match self.slots.take_if_ready(seq) {
            Some(output) => Some(output),
            None => ready!(self.poll_for(this, seq, desk, context)),
        };
        if output.is_some() {
            self.starve(false);
            self.advance(seq);
            self.offer_room();
        }
        Poll::Ready(output)
    }
}
