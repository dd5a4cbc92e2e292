//! Rows that are fetched by tasks before the workers compute them.
//!
//! A *lane* is to a request what a worker is to a sample: a task that claims the next row, waits for its answer, and
//! claims again. There are as many as requests may be in flight. What was fetched is *parked*, in the order in which it
//! came, until a worker computes it; where there is nothing to compute the lane writes it to its place itself.
//!
//! Rows are claimed as everywhere, in order and within the window, so its bound is the same and so is the argument that
//! nothing can be stuck: whatever the due batch lacks is in a lane, is parked, or can be claimed. Two bounds keep one side
//! from starving the other: lanes claim nothing while as much is parked as may be in flight, and workers never wait for a
//! request.
//!
//! *Sleep.* A lane that finds nothing to do waits for `room`, which keeps one permit for whoever comes next: of one who
//! makes room and then gives the permit, and one who finds none and then asks for it, the second gets the permit. One who
//! found something gives a permit on, so that one permit wakes as many lanes as there is room for.
//!
//! *Again.* A row that was fetched and could not be computed is put back, with the number of times that it was tried, and
//! a lane takes it before it claims another.
//!
//! *End.* Lanes go on until the run is cancelled, which aborts them. A lane that is dropped otherwise, with its runtime or
//! by a panic of a destructor, and leaves something undone, cancels the run and says why.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{self, Poll, ready};

use tokio::task::coop::consume_budget;

use super::desk::{Desk, Ticket};
use super::run::{Context, Drive, Feed, Job, Registered, Run, Step};
use crate::error::{Error, ErrorKind};
use crate::remote::runtime::Place;
use crate::report::Meters;
use crate::sync::{
    self, AbortHandle, AtomicUsize, Breaker, Instant, Mutex, Notify, Ordering, Waiter, after, lock, spawn,
};

/// A job whose rows are fetched first. As of every job, no method may unwind, nor any future.
pub(crate) trait FetchJob: Job {
    /// What was fetched of a row, or why it could not be.
    type Fetched: Send;

    /// Fetches a row that was tried so many times before.
    fn fetch(
        &self,
        seq: u64,
        row: usize,
        retries: u32,
        breaker: &Breaker,
    ) -> impl Future<Output = Self::Fetched> + Send;
    /// Whether there is nothing to compute: rows are what was fetched, and batches are their rows.
    fn is_light(&self) -> bool;
    /// Whether a row is computed for good, and can be written to its place.
    fn writes_in_place(&self, fetched: &Self::Fetched, context: Context<'_>) -> bool;
    /// Computes a row in its place. Returns the memory it takes, in bytes, if it is asked to weigh it.
    fn write(&self, seq: u64, row: usize, partial: &Self::Partial, fetched: Self::Fetched) -> u64;
    /// Computes a row without a place to put it; or says how many times it was tried, if it is to be fetched again.
    fn compute(&self, seq: u64, fetched: Self::Fetched, context: Context<'_>) -> Result<Self::Loaded, u32>;
}

/// A row that was claimed.
#[derive(Debug)]
struct Claimed {
    seq: u64,
    row: usize,
    reserved_bytes: u64,
    retries: u32,
}

/// What waits for the workers.
struct Parking<F> {
    rows: VecDeque<(Claimed, F)>,
    // The consumer, if it does the workers' work and has none. Registered under the lock that `park` takes.
    waiter: Option<Waiter>,
}

/// A run whose rows are fetched.
pub(crate) struct FetchRun<J: FetchJob> {
    run: Run<J>,
    place: Place,
    concurrency: usize,
    // Whether lanes write to the batches themselves.
    is_light: bool,
    parking: Mutex<Parking<J::Fetched>>,
    // The number of rows parked, for a look without the lock.
    num_parked: AtomicUsize,
    again: Mutex<VecDeque<Claimed>>,
    room: Notify,
    lanes: Mutex<Vec<AbortHandle>>,
    num_lanes: AtomicUsize,
    failure: Mutex<Option<Error>>,
}

impl<J: FetchJob> fmt::Debug for FetchRun<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchRun").field("run", &self.run).finish_non_exhaustive()
    }
}

impl<J: FetchJob> FetchRun<J> {
    /// Starts the lanes of a run, at most `concurrency`.
    pub(crate) fn start(run: Run<J>, concurrency: usize, place: Place, meters: &Meters) -> Arc<Self> {
        let rows = run.end().saturating_mul(run.max_rows.max(1));
        let num_lanes = concurrency.min(usize::try_from(rows).unwrap_or(usize::MAX));
        let this = Arc::new(Self {
            is_light: run.job.is_light(),
            run,
            place,
            concurrency,
            parking: Mutex::new(Parking { rows: VecDeque::new(), waiter: None }),
            num_parked: AtomicUsize::new(0),
            again: Mutex::new(VecDeque::new()),
            room: Notify::new(),
            lanes: Mutex::new(Vec::new()),
            num_lanes: AtomicUsize::new(num_lanes),
            failure: Mutex::new(None),
        });
        let meters = meters.add_workers(if this.is_light { num_lanes } else { 0 });
        let mut desks = meters.into_iter().map(Desk::new);
        let lanes = (0..num_lanes).map(|_| {
            let desk = desks.next();
            let lane = Lane { run: Arc::clone(&this), desk, has_row: false };
            spawn(&this.place.handle, lane.work())
        });
        let lanes = lanes.collect();
        *lock(&this.lanes) = lanes;
        // A runtime that was shut down drops lanes at once, and the run is over before its lanes were known.
        if this.run.breaker.is_broken() {
            this.cancel();
        }
        this
    }

    /// The next row to fetch, if there is one now.
    fn next(&self) -> Option<Claimed> {
        if let Some(claimed) = lock(&self.again).pop_front() {
            return Some(claimed);
        }
        loop {
            // Relaxed: whoever takes a row off gives a permit afterwards.
            if self.num_parked.load(Ordering::Relaxed) >= self.concurrency {
                return None;
            }
            let task = self.run.claim(true).ok()?;
            if task.num_rows == 0 {
                // A batch of which this rank has no part.
                let partial = self.run.job.open(task.seq);
                self.run.finish(task.seq, partial, None);
                continue;
            }
            let (seq, row, reserved_bytes) = (task.seq, task.rows.start, task.reserved_bytes);
            return Some(Claimed { seq, row, reserved_bytes, retries: 0 });
        }
    }

    /// Leaves a row to the workers, and wakes one if they sleep.
    fn park(&self, claimed: Claimed, fetched: J::Fetched) {
        let (num_parked, waiter) = {
            let mut parking = lock(&self.parking);
            parking.rows.push_back((claimed, fetched));
            // Release pairs with nothing: the rows themselves are behind the lock.
            self.num_parked.store(parking.rows.len(), Ordering::Relaxed);
            (parking.rows.len() as u64, parking.waiter.take())
        };
        // `cancel` raises the breaker before it empties the parking: either it finds this row, or this sees the breaker.
        if self.run.breaker.is_broken() {
            self.clear();
        }
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        // The first row is worth a wake-up, as it may be all there is; behind others only a good number of them is, unless
        // the consumer waits, perhaps for one of these: whoever took the first may be long at it.
        if self.run.bell.anyone_asleep()
            && (num_parked == 1 || self.run.starves() || self.run.is_worth_a_wake_up(num_parked))
        {
            self.run.bell.ring_one();
        }
    }

    fn unpark(&self) -> Option<(Claimed, J::Fetched)> {
        let (taken, num_parked) = {
            let mut parking = lock(&self.parking);
            let taken = parking.rows.pop_front()?;
            self.num_parked.store(parking.rows.len(), Ordering::Relaxed);
            (taken, parking.rows.len())
        };
        if num_parked + 1 == self.concurrency {
            self.room.notify_one();
        }
        if num_parked > 0
            && self.run.bell.seems_anyone_asleep()
            && (self.run.starves() || self.run.is_worth_a_wake_up(num_parked as u64))
        {
            self.run.bell.ring_one();
        }
        Some(taken)
    }

    /// Computes a row that was fetched and writes it to its place; or puts it back.
    fn absorb(&self, this: Option<&Arc<dyn Drive>>, claimed: Claimed, fetched: J::Fetched, desk: &Desk) -> Step {
        let Claimed { seq, row, reserved_bytes, .. } = claimed;
        let context = self.run.context(desk);
        // Without workers there is nobody to take over from what is stuck.
        let timeout = self.run.settings.timeout.filter(|_| self.run.num_workers() > 0).zip(this);
        let watch = desk.meter().start(self.run.pace.cost_ns(1));
        let took = |num_samples: u64| {
            let watch = watch.map(|watch| (watch, watch.elapsed()));
            if let Some((_, took)) = watch {
                self.run.pace.record(1, took);
            }
            desk.meter().record_load(num_samples, watch);
        };
        if timeout.is_none() && self.run.job.writes_in_place(&fetched, context) {
            self.run.write(seq, reserved_bytes, desk, |partial| {
                let bytes = self.run.job.write(seq, row, partial, fetched);
                took(1);
                bytes
            });
            return Step::Worked;
        }
        if let Some((timeout, this)) = timeout {
            desk.begin(Ticket { run: Arc::clone(this), seq, row, reserved_bytes, deadline: after(timeout) });
        }
        let computed = self.run.job.compute(seq, fetched, context);
        // Whoever takes the ticket off the desk decides what becomes of the row: this worker, or the watch.
        if timeout.is_some() && desk.end().is_none() {
            return Step::Expired;
        }
        took(u64::from(computed.is_ok()));
        match computed {
            Ok(loaded) => self.run.place(seq, row, reserved_bytes, loaded, desk),
            Err(retries) => self.put_back(Claimed { retries, ..claimed }),
        }
        Step::Worked
    }

    fn put_back(&self, claimed: Claimed) {
        lock(&self.again).push_back(claimed);
        // SeqCst pairs with the one in the drop of a lane: either the last lane to go finds the row, or this sees that it
        // is gone.
        if self.num_lanes.load(Ordering::SeqCst) == 0 {
            self.fail();
        }
        self.room.notify_one();
    }

    /// Ends the run for want of lanes.
    fn fail(&self) {
        if !self.run.breaker.is_broken() {
            let message = "the runtime that requests ran on was shut down, or a request panicked while it was dropped";
            *lock(&self.failure) = Some(Error::new(ErrorKind::Interrupted, message));
            self.cancel();
        }
    }

    fn clear(&self) {
        let (rows, waiter) = {
            let mut parking = lock(&self.parking);
            self.num_parked.store(0, Ordering::Relaxed);
            (std::mem::take(&mut parking.rows), parking.waiter.take())
        };
        lock(&self.again).clear();
        // Outside the lock: what was fetched may have destructors of the user's.
        drop(rows);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Whether the consumer does the workers' work.
    fn is_alone(&self) -> bool {
        !self.is_light && self.run.num_workers() == 0
    }

    /// Waits for a batch. `None` if the run is cancelled.
    fn wait_for(&self, this: &Arc<dyn Drive>, seq: u64, desk: &Desk) -> Option<J::Output> {
        self.run.widen_if_full();
        loop {
            if self.is_alone() {
                while self.step(this, desk) == Step::Worked && !self.run.breaker.is_broken() {
                    if let Some(output) = self.run.slots.take_if_ready(seq) {
                        return Some(output);
                    }
                }
            }
            let start = Instant::now();
            self.begin_to_starve();
            let output = self.run.look_for(seq).or_else(|| match self.register(seq, Waiter::current_thread) {
                Registered::Taken(output) => output,
                Registered::Waits => {
                    // A token left by an earlier wake-up makes this return at once, and the loop looks again.
                    sync::park();
                    None
                }
            });
            self.run.starve(false);
            desk.meter().record_wait(start.elapsed());
            if output.is_some() || self.run.breaker.is_broken() {
                return output;
            }
        }
    }

    /// A window that was found full may grow by now, and lanes look again. Nobody sleeps while there is something to
    /// compute: what the consumer waits for may be in it. Of one who parks a row and then looks whether the consumer
    /// starves, and one who starves and then looks for parked rows, at least one sees the other: both look for sleepers in
    /// between, and the bell has the fence for that.
    fn begin_to_starve(&self) {
        self.run.starve(true);
        self.room.notify_one();
        if self.run.bell.anyone_asleep() && self.num_parked.load(Ordering::Relaxed) > 0 {
            self.run.bell.ring_one();
        }
    }

    /// Takes a batch, or leaves word whom to wake when it is there, or when there is something to compute for it.
    fn register(&self, seq: u64, waiter: impl Fn() -> Waiter) -> Registered<J::Output> {
        let registered = self.run.take_or_register(seq, waiter());
        if let (Registered::Waits, true) = (&registered, self.is_alone()) {
            let mut parking = lock(&self.parking);
            if parking.rows.is_empty() {
                parking.waiter = Some(waiter());
            } else {
                drop(parking);
                waiter().wake();
            }
        }
        registered
    }

    fn advance(&self, seq: u64) {
        self.run.advance(seq);
        self.room.notify_one();
    }
}

impl<J: FetchJob> Drive for FetchRun<J> {
    fn step(&self, this: &Arc<dyn Drive>, desk: &Desk) -> Step {
        match self.unpark() {
            Some((claimed, fetched)) => {
                let step = self.absorb(Some(this), claimed, fetched, desk);
                // What a row was thought to take is known by now, and may be less.
                if self.run.budget.is_some() {
                    self.room.notify_one();
                }
                step
            }
            None if self.run.next_seq() >= self.run.end() => Step::Over,
            None => Step::Full,
        }
    }

    fn expire(&self, ticket: &Ticket, desk: &Desk) {
        let timeout = self.run.settings.timeout.expect("only a sample with a time-out expires");
        let &Ticket { seq, row, reserved_bytes, .. } = ticket;
        self.run.place(seq, row, reserved_bytes, self.run.job.timed_out(seq, row, timeout), desk);
        // Of the bytes that it was thought to take none are in use.
        self.room.notify_one();
    }

    fn cancel(&self) {
        self.run.cancel();
        let lanes = std::mem::take(&mut *lock(&self.lanes));
        lanes.iter().for_each(AbortHandle::abort);
        self.clear();
    }
}

impl<J: FetchJob> Feed<J::Output> for FetchRun<J> {
    fn take(&self, this: &Arc<dyn Drive>, seq: u64, desk: &Desk) -> Option<J::Output> {
        let taken = self.place.check_loop().and_then(|()| match self.run.slots.take_if_ready(seq) {
            Some(output) => Ok(Some(output)),
            None => self.place.wait(|| self.wait_for(this, seq, desk)),
        });
        match taken {
            Ok(output) => {
                let output = output?;
                self.advance(seq);
                Some(output)
            }
            Err(refused) => {
                *lock(&self.failure) = Some(refused);
                self.cancel();
                None
            }
        }
    }

    fn limit(&self, end: u64) {
        self.run.limit(end);
    }

    fn peak_bytes(&self) -> Option<u64> {
        self.run.peak_bytes()
    }

    fn poll_take(
        &self,
        this: &Arc<dyn Drive>,
        seq: u64,
        desk: &Desk,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<J::Output>> {
        let output = match self.run.slots.take_if_ready(seq) {
            Some(output) => Some(output),
            None => ready!(self.poll_for(this, seq, desk, context)),
        };
        if output.is_some() {
            self.run.starve(false);
            self.advance(seq);
        }
        Poll::Ready(output)
    }

    fn failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }
}

impl<J: FetchJob> FetchRun<J> {
    fn poll_for(
        &self,
        this: &Arc<dyn Drive>,
        seq: u64,
        desk: &Desk,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<J::Output>> {
        self.run.widen_if_full();
        if self.is_alone() {
            while self.step(this, desk) == Step::Worked && !self.run.breaker.is_broken() {
                if let Some(output) = self.run.slots.take_if_ready(seq) {
                    return Poll::Ready(Some(output));
                }
            }
        }
        self.begin_to_starve();
        match self.register(seq, || Waiter::Task(context.waker().clone())) {
            Registered::Taken(output) => Poll::Ready(output),
            Registered::Waits => Poll::Pending,
        }
    }
}

/// One of the tasks that fetch.
struct Lane<J: FetchJob> {
    run: Arc<FetchRun<J>>,
    // Present if it writes to the batches itself.
    desk: Option<Desk>,
    has_row: bool,
}

impl<J: FetchJob> Lane<J> {
    async fn work(mut self) {
        loop {
            let Some(claimed) = self.run.next() else {
                self.run.room.notified().await;
                continue;
            };
            self.has_row = true;
            // There may be room for more than one.
            self.run.room.notify_one();
            let run = &self.run.run;
            let fetched = run.job.fetch(claimed.seq, claimed.row, claimed.retries, &run.breaker).await;
            // What is there at once would otherwise keep this thread from other tasks for a whole epoch.
            consume_budget().await;
            match &self.desk {
                Some(desk) => drop(self.run.absorb(None, claimed, fetched, desk)),
                None => self.run.park(claimed, fetched),
            }
            self.has_row = false;
        }
    }
}

impl<J: FetchJob> Drop for Lane<J> {
    fn drop(&mut self) {
        let was_last = self.run.num_lanes.fetch_sub(1, Ordering::SeqCst) == 1;
        let all_claimed = || self.run.run.next_seq() >= self.run.run.end() && lock(&self.run.again).is_empty();
        if self.has_row || (was_last && !all_claimed()) {
            self.run.fail();
        }
    }
}
