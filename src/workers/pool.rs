//! The threads: they live as long as the loader and serve its runs.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::bell::Bell;
use super::desk::{Desk, Ticket};
use super::run::{Drive, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::report::Meters;
use crate::sync::thread::{self, JoinHandle, ThreadId};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Instant, Mutex, Ordering, after, lock, wait, wait_until};

/// What the threads of a pool share.
struct Shared {
    runs: Mutex<Vec<Arc<dyn Drive>>>,
    // Counts changes of `runs`, so that a worker need not lock it for each task.
    version: AtomicU64,
    bell: Arc<Bell>,
    stopping: AtomicBool,
    // Whether there are more workers than wanted, for a look without the lock.
    too_many: AtomicBool,
    meters: Arc<Meters>,
    crew: Mutex<Crew>,
    // Signalled when a worker leaves, and when the watch is to look at `Crew::dismissed_watch`.
    changed: Condvar,
}

/// Who is at work.
#[derive(Default)]
struct Crew {
    // Workers that have not left and are not given up.
    num_live: usize,
    // How many there should be. More are hired when it grows; when it shrinks those too many leave.
    num_wanted: usize,
    // Their handles and desks. One whose sample expired is no longer here: its thread ends when its `get` does.
    members: Vec<(JoinHandle<()>, Arc<Desk>)>,
    num_started: usize,
    watch: Option<JoinHandle<()>>,
    watch_may_go: bool,
}

/// A pool of worker threads. Dropping it ends them, and returns when the last `get` that is not past its time has.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("num_live", &lock(&self.shared.crew).num_live).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts workers, and a watch if samples have a time-out.
    pub(crate) fn start(num_workers: usize, timeout: Option<Duration>, meters: Arc<Meters>) -> Result<Self> {
        let shared = Arc::new(Shared {
            runs: Mutex::new(Vec::new()),
            version: AtomicU64::new(0),
            bell: Arc::new(Bell::new()),
            stopping: AtomicBool::new(false),
            too_many: AtomicBool::new(false),
            meters,
            crew: Mutex::new(Crew::default()),
            changed: Condvar::new(),
        });
        // From here on a failure drops the pool, which ends the threads started so far.
        let pool = Self { shared };
        lock(&pool.shared.crew).num_wanted = num_workers;
        for _ in 0..num_workers {
            pool.shared.hire(None).map_err(|(cause, _)| cause).map_err(|cause| could_not_start("worker", cause))?;
        }
        if let Some(timeout) = timeout.filter(|_| num_workers > 0) {
            let shared = Arc::clone(&pool.shared);
            let watch = thread::Builder::new()
                .name("procession-watch".to_owned())
                .spawn(move || shared.watch(timeout))
                .map_err(|cause| could_not_start("watch", cause))?;
            lock(&pool.shared.crew).watch = Some(watch);
        }
        Ok(pool)
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.shared.bell
    }

    /// Makes the number of workers another one, or as near to it as the system has threads. Those too many leave when
    /// they have done their task. Returns the number that there will be.
    pub(crate) fn resize(&self, num_workers: usize) -> usize {
        let missing = {
            let mut crew = lock(&self.shared.crew);
            crew.num_wanted = num_workers;
            // Those who left since the last time.
            #[cfg(not(procession_loom))]
            crew.members.retain(|(handle, _)| !handle.is_finished());
            self.shared.too_many.store(crew.num_live > num_workers, Ordering::Release);
            num_workers.saturating_sub(crew.num_live)
        };
        let hired = (0..missing).take_while(|_| self.shared.hire(None).is_ok()).count();
        if missing == 0 {
            // Those too many may be asleep.
            self.shared.bell.ring_all();
        }
        num_workers - (missing - hired)
    }

    #[cfg(test)]
    pub(crate) fn num_live(&self) -> usize {
        lock(&self.shared.crew).num_live
    }

    /// Gives the workers a run to serve, after those they have.
    pub(crate) fn add(&self, run: Arc<dyn Drive>) {
        lock(&self.shared.runs).push(run);
        self.shared.version.fetch_add(1, Ordering::SeqCst);
        self.shared.bell.ring_all();
    }

    /// Takes a run from the workers. Those at work on it finish their sample.
    pub(crate) fn remove(&self, run: &Arc<dyn Drive>) {
        let removed = {
            let mut runs = lock(&self.shared.runs);
            let at = runs.iter().position(|other| Arc::ptr_eq(other, run));
            at.map(|at| runs.remove(at))
        };
        self.shared.version.fetch_add(1, Ordering::SeqCst);
        // Outside the lock: the last reference to a run drops the user's sequence.
        drop(removed);
    }
}

/// Reports a sample as not loaded in time.
fn report(ticket: &Ticket, desk: &Desk) {
    if catch_unwind(AssertUnwindSafe(|| ticket.run.expire(ticket, desk))).is_err() {
        ticket.run.cancel();
    }
}

fn could_not_start(what: &str, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("could not start a {what} thread")).with_cause(cause)
}

impl Drop for Pool {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.stopping.store(true, Ordering::SeqCst);
        shared.bell.ring_all();
        let me: ThreadId = thread::current().id();
        let mut crew = lock(&shared.crew);
        // A loader that is dropped by its own sequence, inside `get`: this thread is a worker and cannot wait for
        // itself. All threads end on their own.
        if crew.members.iter().any(|(handle, _)| handle.thread().id() == me) {
            crew.watch_may_go = true;
            shared.changed.notify_all();
            return;
        }
        while crew.num_live > 0 {
            crew = wait(&shared.changed, crew);
        }
        crew.watch_may_go = true;
        shared.changed.notify_all();
        let (members, watch) = (std::mem::take(&mut crew.members), crew.watch.take());
        drop(crew);
        for handle in members.into_iter().map(|(handle, _)| handle).chain(watch) {
            // A thread of the pool does not panic; and if it did there would be nothing to do about it here.
            drop(handle.join());
        }
    }
}

impl Shared {
    /// Starts a worker, whose first task is to report the sample of a ticket if there is one.
    fn hire(self: &Arc<Self>, ticket: Option<Ticket>) -> Result<(), (std::io::Error, Option<Ticket>)> {
        let desk = Arc::new(Desk::new(self.meters.add_worker()));
        // Shared with the new thread, so that it is not lost if there is none.
        let ticket = Arc::new(Mutex::new(ticket));
        let mut crew = lock(&self.crew);
        let spawned = thread::Builder::new().name(format!("procession-{}", crew.num_started)).spawn({
            let (shared, desk, ticket) = (Arc::clone(self), Arc::clone(&desk), Arc::clone(&ticket));
            move || {
                if let Some(ticket) = lock(&ticket).take() {
                    report(&ticket, &desk);
                }
                shared.work(&desk);
            }
        });
        let handle = match spawned {
            Ok(handle) => handle,
            Err(cause) => return Err((cause, lock(&ticket).take())),
        };
        crew.num_started += 1;
        crew.num_live += 1;
        crew.members.push((handle, desk));
        Ok(())
    }

    /// A worker's life.
    fn work(&self, desk: &Desk) {
        let mut runs: Vec<Arc<dyn Drive>> = Vec::new();
        let mut version = u64::MAX;
        let expired = loop {
            if self.leaves_for_being_too_many() {
                return;
            }
            match self.round(&mut runs, &mut version, desk) {
                Step::Worked => {}
                Step::Expired => break true,
                Step::Full | Step::Over if self.stopping.load(Ordering::SeqCst) => break false,
                step @ (Step::Full | Step::Over) => {
                    let start = Instant::now();
                    let mut last = step;
                    self.bell.sleep_unless(|| {
                        last = self.round(&mut runs, &mut version, desk);
                        let awake = matches!(last, Step::Worked | Step::Expired)
                            || self.stopping.load(Ordering::SeqCst)
                            || self.too_many.load(Ordering::Acquire);
                        if !awake {
                            // What a sleeping worker held on to would live until it wakes.
                            runs.clear();
                            version = u64::MAX;
                        }
                        awake
                    });
                    match last {
                        Step::Expired => break true,
                        Step::Worked => {}
                        Step::Full => desk.meter().record_full(start.elapsed()),
                        Step::Over => desk.meter().record_over(start.elapsed()),
                    }
                }
            }
        };
        // One whose sample expired was counted out, and its place filled, when that happened.
        if !expired {
            lock(&self.crew).num_live -= 1;
            self.changed.notify_all();
        }
    }

    /// Counts this worker out if there are more than wanted.
    fn leaves_for_being_too_many(&self) -> bool {
        if !self.too_many.load(Ordering::Acquire) {
            return false;
        }
        let mut crew = lock(&self.crew);
        let leaves = crew.num_live > crew.num_wanted && !self.stopping.load(Ordering::SeqCst);
        if leaves {
            crew.num_live -= 1;
        }
        self.too_many.store(crew.num_live > crew.num_wanted, Ordering::Release);
        leaves
    }

    /// Does one task of each run.
    fn round(&self, runs: &mut Vec<Arc<dyn Drive>>, version: &mut u64, desk: &Desk) -> Step {
        let now = self.version.load(Ordering::SeqCst);
        if *version != now {
            // Dropped after the lock is released, for the user's destructors.
            let before = std::mem::take(runs);
            runs.clone_from(&lock(&self.runs));
            *version = now;
            drop(before);
        }
        let mut round = Step::Over;
        if self.stopping.load(Ordering::Relaxed) {
            return round;
        }
        for run in runs.iter() {
            // A job catches what the user's code throws. What is left are destructors that panic, and defects of the
            // engine: the run ends, its consumer is told, and the worker goes on.
            let step = catch_unwind(AssertUnwindSafe(|| run.step(run, desk))).unwrap_or_else(|payload| {
                run.cancel();
                drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
                Step::Worked
            });
            match step {
                Step::Expired => return Step::Expired,
                Step::Worked => round = Step::Worked,
                Step::Full if round == Step::Over => round = Step::Full,
                Step::Full | Step::Over => {}
            }
        }
        round
    }

    /// The watch's life: to report samples that are past their deadline, and to fill the places of those who load
    /// them.
    fn watch(self: &Arc<Self>, timeout: Duration) {
        let desk = Desk::new(self.meters.add_worker());
        let mut num_missing = 0_usize;
        loop {
            let desks: Vec<Arc<Desk>> = {
                let mut crew = lock(&self.crew);
                // A ticket that is written after this look has a later deadline than the look plus the time-out, so
                // nobody need tell the watch of it.
                let next = crew.members.iter().filter_map(|(_, desk)| desk.deadline()).min();
                let next = next.unwrap_or_else(|| after(timeout));
                while !crew.watch_may_go && Instant::now() < next {
                    crew = wait_until(&self.changed, crew, next);
                }
                if crew.watch_may_go {
                    return;
                }
                crew.members.iter().map(|(_, desk)| Arc::clone(desk)).collect()
            };
            for expired in desks {
                if let Some(ticket) = expired.take_expired(Instant::now()) {
                    self.give_up(&expired);
                    // The new worker reports the sample, as that may mean to collate a batch, and the watch must not
                    // be late for the next one. Where the system has no thread to give just now, the watch does it.
                    let stopping = self.stopping.load(Ordering::SeqCst);
                    let left =
                        if stopping { Err(Some(ticket)) } else { self.hire(Some(ticket)).map_err(|(_, left)| left) };
                    if let Err(left) = left {
                        num_missing += 1;
                        left.iter().for_each(|ticket| report(ticket, &desk));
                    }
                }
            }
            while num_missing > 0 && !self.stopping.load(Ordering::SeqCst) && self.hire(None).is_ok() {
                num_missing -= 1;
            }
        }
    }

    /// Counts a worker out.
    fn give_up(self: &Arc<Self>, desk: &Arc<Desk>) {
        {
            let mut crew = lock(&self.crew);
            // Dropping the handle lets the thread go; it ends when its `get` returns.
            crew.members.retain(|(_, other)| !Arc::ptr_eq(other, desk));
            crew.num_live -= 1;
        }
        self.changed.notify_all();
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;

    #[test]
    fn as_many_leave_as_are_too_many() {
        let pool = Pool::start(6, None, Arc::new(Meters::new())).unwrap();
        for num_workers in [2, 5, 0, 1] {
            assert_eq!(pool.resize(num_workers), num_workers);
            let begun = Instant::now();
            while pool.num_live() != num_workers {
                assert!(begun.elapsed() < Duration::from_secs(600), "{} of {num_workers} workers", pool.num_live());
                thread::yield_now();
            }
        }
    }
}
