//! The threads: they live as long as the loader and serve its runs.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::desk::Desk;
use super::run::{Drive, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::report::Meters;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, lock, wait, wait_until};

/// What the threads of a pool share.
struct Shared {
    runs: Mutex<Vec<Arc<dyn Drive>>>,
    // Counts changes of `runs`, so that a worker need not lock it for each task.
    version: AtomicU64,
    bell: Arc<Bell>,
    stopping: AtomicBool,
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
            meters,
            crew: Mutex::new(Crew::default()),
            changed: Condvar::new(),
        });
        // From here on a failure drops the pool, which ends the threads started so far.
        let pool = Self { shared };
        for _ in 0..num_workers {
            pool.shared.hire().map_err(|cause| could_not_start("worker", cause))?;
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

/// Counts a worker out when it leaves, however it does.
struct CountOut<'a>(&'a Shared);

impl Drop for CountOut<'_> {
    fn drop(&mut self) {
        lock(&self.0.crew).num_live -= 1;
        self.0.changed.notify_all();
    }
}

/// Cancels a run if a worker unwinds out of it.
struct CancelOnPanic<'a>(&'a dyn Drive);

impl Drop for CancelOnPanic<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Shared {
    fn hire(self: &Arc<Self>) -> std::io::Result<()> {
        let desk = Arc::new(Desk::new(self.meters.add_worker()));
        let mut crew = lock(&self.crew);
        let handle = thread::Builder::new().name(format!("procession-{}", crew.num_started)).spawn({
            let (shared, desk) = (Arc::clone(self), Arc::clone(&desk));
            move || shared.work(&desk)
        })?;
        crew.num_started += 1;
        crew.num_live += 1;
        crew.members.push((handle, desk));
        Ok(())
    }

    /// A worker's life.
    fn work(&self, desk: &Desk) {
        let counted = CountOut(self);
        let mut runs: Vec<Arc<dyn Drive>> = Vec::new();
        let mut version = u64::MAX;
        let expired = loop {
            match self.round(&mut runs, &mut version, desk) {
                Step::Worked => {}
                Step::Expired => break true,
                Step::Full | Step::Over if self.stopping.load(Ordering::SeqCst) => break false,
                step @ (Step::Full | Step::Over) => {
                    let start = Instant::now();
                    let mut last = step;
                    self.bell.sleep_unless(|| {
                        last = self.round(&mut runs, &mut version, desk);
                        let awake =
                            matches!(last, Step::Worked | Step::Expired) || self.stopping.load(Ordering::SeqCst);
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
        if expired {
            std::mem::forget(counted);
        }
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
            // A job does not unwind. Should the engine itself have a defect, the consumer must not wait for ever.
            let guard = CancelOnPanic(&**run);
            let step = run.step(run, desk);
            std::mem::forget(guard);
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
                let next = next.unwrap_or_else(|| Instant::now() + timeout);
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
                    num_missing += 1;
                    ticket.run.expire(&ticket, &desk);
                }
            }
            // Where the system has no thread to give just now, the next round asks again.
            while num_missing > 0 && !self.stopping.load(Ordering::SeqCst) && self.hire().is_ok() {
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
