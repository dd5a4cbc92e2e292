//! The engine under the model checker: what a few threads do, in every order in which they can do it.
//!
//!     cd models && cargo test --release
//!
//! Threads that wait for each other for ever, an assertion that fails, and an `Arc` of the model that is not dropped
//! all end a model with an error. Values that one thread writes and another one reads are relaxed atomics: a missing
//! happens-before shows as an old value. What a model counts for itself it counts outside of it, which adds no schedules.
//!
//! `.ci/defects` breaks the engine in one place after the other, as told in `models/defects/`, and wants a model to fail.
//!
//! The bounds are such that all models together take two minutes; `LOOM_MAX_PREEMPTIONS` sets another one for all.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, which tells how much it has seen")]

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::time::Duration;

use loom::sync::Arc as Counted;

use crate::gate::Gate;
use crate::report::{Meter, Meters};
use crate::sync::{AtomicBool, AtomicUsize, Breaker, Instant, Ordering, clock, thread};
use crate::workers::bell::Bell;
use crate::workers::desk::Desk;
#[cfg(feature = "async")]
use crate::workers::fetch::{FetchJob, FetchRun};
use crate::workers::load::LoadJob;
use crate::workers::pace::Pace;
use crate::workers::pool::Pool;
use crate::workers::run::{Context, Drive, Feed, Job, Run, Settings, Step};
#[cfg(feature = "async")]
use crate::{error::Result, remote::runtime::Place, sync::Notify};

/// Explores a model. A thread is interrupted where it could go on at most `preemptions` times.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    // The count goes on from one schedule to the next.
    let schedules = Arc::new(Count::new(0));
    let count = Arc::clone(&schedules);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        clock::reset();
        model();
    });
    println!("{} schedules", schedules.load(Ordering::Relaxed));
}

/// Batches of so many rows each; a row is loaded once, or the model fails.
struct Rows {
    tally: Arc<Tally>,
    leave_off: bool,
    unwinding: Option<u64>,
    #[cfg(feature = "async")]
    lanes: Lanes,
    #[cfg(feature = "async")]
    answered: Vec<Notify>,
    // Shows whether the run outlives the model.
    _alive: Counted<()>,
}

/// What a model counts.
struct Tally {
    // How often each row was loaded.
    loaded: Vec<Vec<Count>>,
    // Rows that are loaded apart and have not ended.
    apart: Count,
    // Finished batches that still exist.
    finished: Arc<Count>,
}

/// A batch under construction.
struct Batch {
    rows: Vec<AtomicUsize>,
}

/// A finished one.
struct Finished {
    seq: u64,
    finished: Arc<Count>,
}

impl Drop for Finished {
    fn drop(&mut self) {
        self.finished.fetch_sub(1, Ordering::Relaxed);
    }
}

const LOADED: usize = 1;
const TIMED_OUT: usize = 2;

impl Tally {
    fn new(num_rows: &[usize]) -> Self {
        let batch = |&rows: &usize| (0..rows).map(|_| Count::new(0)).collect();
        let loaded = num_rows.iter().map(batch).collect();
        Self { loaded, apart: Count::new(0), finished: Arc::new(Count::new(0)) }
    }

    fn mark(&self, seq: u64, row: usize) {
        let before = self.loaded[seq as usize][row].fetch_add(1, Ordering::Relaxed);
        assert_eq!(before, 0, "row {row} of batch {seq} is loaded twice");
    }

    /// After the run was cancelled and everybody has left it.
    fn check_the_end(&self) {
        assert_eq!(self.finished.load(Ordering::Relaxed), 0, "a batch stays in its slot, and nobody will take it");
        assert_eq!(self.apart.load(Ordering::Relaxed), 0, "a row is loaded apart and never ends");
    }
}

impl Job for Rows {
    type Partial = Batch;
    type Loaded = usize;
    type Output = Finished;

    fn num_rows(&self, seq: u64) -> usize {
        self.tally.loaded[seq as usize].len()
    }

    fn open(&self, seq: u64) -> Batch {
        Batch { rows: (0..self.num_rows(seq)).map(|_| AtomicUsize::new(0)).collect() }
    }

    fn timed_out(&self, _: u64, _: usize, _: Duration) -> usize {
        TIMED_OUT
    }

    fn place(&self, _: u64, row: usize, partial: &Batch, loaded: usize) -> u64 {
        partial.rows[row].store(loaded, Ordering::Relaxed);
        1
    }

    fn close(&self, seq: u64, partial: Batch) -> Finished {
        let rows = partial.rows.iter().map(|row| row.load(Ordering::Relaxed));
        assert!(rows.clone().all(|row| row != 0), "batch {seq} is closed without all of its rows");
        self.tally.finished.fetch_add(1, Ordering::Relaxed);
        Finished { seq, finished: Arc::clone(&self.tally.finished) }
    }

    fn size_bytes(&self, _: u64, _: usize) -> Option<u64> {
        Some(1)
    }
    fn batch_bytes(&self, _: &Self::Output) -> Option<u64> {
        None
    }
}

impl LoadJob for Rows {
    fn load(&self, seq: u64, rows: Range<usize>, partial: &Batch, context: Context<'_>) -> u64 {
        if self.unwinding == Some(seq) {
            resume_unwind(Box::new("a destructor's panic"));
        }
        for row in rows {
            if self.leave_off && context.breaker.is_broken() {
                return 0;
            }
            self.tally.mark(seq, row);
            partial.rows[row].store(LOADED, Ordering::Relaxed);
        }
        1
    }

    fn begin_apart(&self) {
        self.tally.apart.fetch_add(1, Ordering::Relaxed);
    }

    fn load_apart(&self, seq: u64, row: usize, _: Context<'_>) -> usize {
        self.tally.mark(seq, row);
        clock::pass(clock::taken());
        LOADED
    }

    fn end_apart(&self) {
        self.tally.apart.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What rows that are fetched are like.
#[cfg(feature = "async")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lanes {
    /// There is nothing to compute.
    Light,
    /// The same, and a row is answered after the one behind it, so that all of a batch have to be asked for.
    Together,
    /// There is something to compute,
    Heavy,
    /// and after that the first one is to be fetched again.
    Twice,
}

#[cfg(feature = "async")]
impl FetchJob for Rows {
    /// How often it was tried before.
    type Fetched = u32;

    async fn fetch(&self, seq: u64, row: usize, retries: u32, _: &Breaker) -> u32 {
        if self.lanes == Lanes::Together {
            if row + 1 < self.num_rows(seq) {
                self.answered[row + 1].notified().await;
            }
            self.answered[row].notify_one();
        }
        retries
    }

    fn is_light(&self) -> bool {
        matches!(self.lanes, Lanes::Light | Lanes::Together)
    }

    fn writes_in_place(&self, _: &u32, _: Context<'_>) -> bool {
        self.lanes != Lanes::Twice
    }

    fn write(&self, seq: u64, row: usize, partial: &Batch, _: u32) -> u64 {
        self.tally.mark(seq, row);
        self.place(seq, row, partial, LOADED)
    }

    fn compute(&self, seq: u64, retries: u32, _: Context<'_>) -> Result<usize, u32> {
        if seq == 0 && retries == 0 { Err(1) } else { Ok(LOADED) }
    }
}

/// How a run is set up; as most models need it unless they say otherwise.
#[derive(Clone, Copy)]
struct Setup {
    num_rows: &'static [usize],
    window: usize,
    max_window: usize,
    window_bytes: Option<u64>,
    timeout: Option<Duration>,
    /// What a task takes.
    took: Duration,
    /// Whether loading leaves off when the run is cancelled.
    leave_off: bool,
    /// The batch whose loading unwinds, which no job should.
    unwinding: Option<u64>,
    #[cfg(feature = "async")]
    lanes: Lanes,
}

/// So short that the consumer had better do one than sleep.
const SHORT: Duration = Duration::from_micros(20);
/// Not as short, but one alone is not worth to wake somebody for; unless the consumer is about to sleep.
const MIDDLING: Duration = Duration::from_micros(50);
const LONG: Duration = Duration::from_millis(1);

impl Default for Setup {
    fn default() -> Self {
        Self {
            num_rows: &[1, 1],
            window: 1,
            max_window: 1,
            window_bytes: None,
            timeout: None,
            took: LONG,
            leave_off: false,
            unwinding: None,
            #[cfg(feature = "async")]
            lanes: Lanes::Light,
        }
    }
}

impl Setup {
    fn run(self, num_workers: usize, bell: &Arc<Bell>) -> (Arc<Run<Rows>>, Arc<Tally>) {
        let (run, tally) = self.make(num_workers, bell);
        (Arc::new(run), tally)
    }

    fn make(self, num_workers: usize, bell: &Arc<Bell>) -> (Run<Rows>, Arc<Tally>) {
        let Self { num_rows, window, max_window, window_bytes, timeout, took, .. } = self;
        clock::everything_takes(took);
        let pace = Pace::new();
        pace.record(1, took);
        let num_workers = Arc::new(AtomicUsize::new(num_workers));
        let settings = Settings { window, max_window, window_bytes, timeout, num_workers };
        let tally = Arc::new(Tally::new(num_rows));
        let max_rows = num_rows.iter().copied().max().unwrap_or(0);
        let rows = Rows {
            tally: Arc::clone(&tally),
            leave_off: self.leave_off,
            unwinding: self.unwinding,
            #[cfg(feature = "async")]
            lanes: self.lanes,
            #[cfg(feature = "async")]
            answered: (0..max_rows).map(|_| Notify::new()).collect(),
            _alive: Counted::new(()),
        };
        let end = num_rows.len() as u64;
        (Run::new(rows, end, max_rows, settings, Arc::new(pace), Arc::clone(bell)), tally)
    }

    /// The most bytes that may be in flight at once: the budget, or the largest batch where that is larger.
    fn most_bytes(self) -> Option<u64> {
        let largest = self.num_rows.iter().copied().max().unwrap_or(0) as u64;
        self.window_bytes.map(|budget| budget.max(largest))
    }
}

fn desk() -> Desk {
    Desk::new(Arc::new(Meter::default()))
}

fn take(run: &Arc<impl Feed<Finished> + 'static>, seq: u64, desk: &Desk) {
    let this: Arc<dyn Drive> = Arc::clone(run) as _;
    let batch = run.take(&this, seq, desk).expect("the run is not cancelled");
    assert_eq!(batch.seq, seq);
}

/// A worker without a pool: works until everything is claimed, or until the run is cancelled.
fn work(run: &Arc<dyn Drive>, bell: &Bell) {
    let desk = desk();
    let mut last = Step::Worked;
    while last != Step::Over {
        last = run.step(run, &desk);
        if last == Step::Full {
            bell.sleep_unless(|| {
                last = run.step(run, &desk);
                last != Step::Full
            });
        }
    }
}

/// Workers and a consumer, who takes some of the batches and then ends the run.
fn workers_and_consumer(preemptions: usize, num_workers: usize, setup: Setup, num_taken: u64) {
    explore(preemptions, move || {
        let bell = Arc::new(Bell::new());
        let (run, tally) = setup.run(num_workers, &bell);
        let workers: Vec<_> = (0..num_workers)
            .map(|_| {
                let (run, bell): (Arc<dyn Drive>, _) = (Arc::clone(&run) as _, Arc::clone(&bell));
                thread::spawn(move || work(&run, &bell))
            })
            .collect();
        let desk = desk();
        (0..num_taken).for_each(|seq| take(&run, seq, &desk));
        run.cancel();
        bell.ring_all();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        tally.check_the_end();
        assert!(run.peak_bytes() <= setup.most_bytes(), "{:?} bytes in flight", run.peak_bytes());
    });
}

#[test]
fn rows_once_and_batches_in_order() {
    workers_and_consumer(2, 2, Setup { num_rows: &[2], ..Setup::default() }, 1);
    let setup = Setup { num_rows: &[2, 1], window: 2, max_window: 2, ..Setup::default() };
    workers_and_consumer(1, 2, setup, 2);
    workers_and_consumer(3, 1, setup, 2);
}

#[test]
fn a_window_of_one() {
    // Rows of two batches in the same slot.
    workers_and_consumer(2, 1, Setup { num_rows: &[2, 2], ..Setup::default() }, 2);
    workers_and_consumer(1, 2, Setup { num_rows: &[1, 1], ..Setup::default() }, 2);
    workers_and_consumer(3, 1, Setup { num_rows: &[1, 1, 1], ..Setup::default() }, 3);
}

#[test]
fn a_consumer_that_rings_before_it_sleeps() {
    workers_and_consumer(3, 1, Setup { num_rows: &[1, 1, 1], took: MIDDLING, ..Setup::default() }, 3);
    workers_and_consumer(1, 2, Setup { took: MIDDLING, ..Setup::default() }, 2);
}

#[test]
fn a_window_that_widens() {
    workers_and_consumer(3, 1, Setup { num_rows: &[1, 1, 1], max_window: 2, ..Setup::default() }, 3);
}

#[test]
fn a_window_in_bytes() {
    let setup = Setup { num_rows: &[1, 2], window: 2, max_window: 2, window_bytes: Some(1), ..Setup::default() };
    workers_and_consumer(3, 1, setup, 2);
    workers_and_consumer(1, 2, setup, 2);
}

#[test]
fn a_consumer_that_works_too() {
    workers_and_consumer(3, 1, Setup { num_rows: &[2, 1], took: SHORT, ..Setup::default() }, 2);
    workers_and_consumer(2, 2, Setup { num_rows: &[2], took: SHORT, ..Setup::default() }, 1);
    // Somebody else has the batch that is due, and the consumer finds the next one to do.
    workers_and_consumer(2, 1, Setup { window: 2, max_window: 2, took: SHORT, ..Setup::default() }, 2);
}

#[test]
fn a_run_that_is_cancelled() {
    workers_and_consumer(2, 2, Setup { num_rows: &[2], ..Setup::default() }, 0);
    workers_and_consumer(3, 1, Setup { window: 2, max_window: 2, ..Setup::default() }, 1);
    // While the window is full, and while a batch is loaded.
    workers_and_consumer(2, 1, Setup { leave_off: true, ..Setup::default() }, 0);
}

/// The consumer waits, and is told.
#[test]
fn a_run_that_somebody_else_cancels() {
    explore(3, || {
        let bell = Arc::new(Bell::new());
        let (run, tally) = Setup { num_rows: &[2], ..Setup::default() }.run(1, &bell);
        let other = thread::spawn({
            let (run, desk): (Arc<dyn Drive>, _) = (Arc::clone(&run) as _, desk());
            move || {
                run.step(&run, &desk);
                run.cancel();
            }
        });
        let this: Arc<dyn Drive> = Arc::clone(&run) as _;
        assert!(run.take(&this, 0, &desk()).is_none(), "half of a batch is taken");
        other.join().unwrap();
        tally.check_the_end();
    });
}

/// The threads of a real pool.
fn pool_and_consumer(setup: Setup, num_taken: u64) {
    explore(2, move || {
        let pool = Pool::start(1, setup.timeout, Arc::new(Meters::new())).unwrap();
        let (run, tally) = setup.run(1, pool.bell());
        pool.add(Arc::clone(&run) as _);
        let (this, desk): (Arc<dyn Drive>, _) = (Arc::clone(&run) as _, desk());
        for seq in 0..num_taken {
            if setup.unwinding == Some(seq) {
                assert!(run.take(&this, seq, &desk).is_none(), "a batch that could not be loaded");
            } else {
                take(&run, seq, &desk);
            }
        }
        run.cancel();
        pool.remove(&this);
        drop(this);
        // A pool that lives on lets go of a run, though nothing more happens.
        while Arc::strong_count(&run) > 1 {
            thread::yield_now();
        }
        drop(pool);
        tally.check_the_end();
    });
}

#[test]
fn a_pool_serves_a_run() {
    pool_and_consumer(Setup { num_rows: &[1, 1], ..Setup::default() }, 2);
}

/// The next epoch is loaded while nobody asks for it yet.
#[test]
fn a_pool_begins_unasked() {
    explore(2, || {
        let pool = Pool::start(1, None, Arc::new(Meters::new())).unwrap();
        let (run, tally) = Setup::default().run(1, pool.bell());
        pool.add(Arc::clone(&run) as _);
        while tally.finished.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        run.cancel();
        pool.remove(&(run as _));
        drop(pool);
        tally.check_the_end();
    });
}

#[test]
fn a_pool_whose_job_unwinds() {
    pool_and_consumer(Setup { num_rows: &[1, 1], unwinding: Some(1), ..Setup::default() }, 2);
}

#[test]
fn a_pool_is_dropped_at_work() {
    explore(2, || {
        let pool = Pool::start(1, None, Arc::new(Meters::new())).unwrap();
        let (run, tally) = Setup { num_rows: &[2], ..Setup::default() }.run(1, pool.bell());
        pool.add(Arc::clone(&run) as _);
        run.cancel();
        pool.remove(&(run as _));
        drop(pool);
        tally.check_the_end();
    });
}

/// A sample takes longer than it may; if the watch sees that, a new worker reports it and goes on.
#[test]
fn a_pool_with_a_watch() {
    let timeout = Some(Duration::from_secs(1));
    pool_and_consumer(Setup { num_rows: &[2], timeout, took: Duration::from_secs(2), ..Setup::default() }, 1);
}

#[test]
fn a_pool_that_shrinks() {
    explore(2, || {
        let pool = Pool::start(2, None, Arc::new(Meters::new())).unwrap();
        assert_eq!(pool.resize(1), 1);
        while pool.num_live() > 1 {
            thread::yield_now();
        }
        assert_eq!(pool.num_live(), 1);
    });
}

/// Somebody makes work and rings if he sees a sleeper; all work gets done though nobody rings again.
#[test]
fn a_bell_that_misses_nobody() {
    const ALL: usize = 2;
    explore(2, || {
        let (bell, made) = (Counted::new(Bell::new()), Counted::new(AtomicUsize::new(0)));
        let done = Counted::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, made, done) = (Counted::clone(&bell), Counted::clone(&made), Counted::clone(&done));
                thread::spawn(move || {
                    let work = || {
                        let made = made.load(Ordering::Relaxed);
                        let mut found = false;
                        while done.load(Ordering::Relaxed) < made {
                            found |= done
                                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |done| {
                                    (done < made).then_some(done + 1)
                                })
                                .is_ok();
                        }
                        found
                    };
                    while done.load(Ordering::Relaxed) < ALL {
                        if !work() {
                            bell.sleep_unless(|| work() || done.load(Ordering::Relaxed) == ALL);
                        }
                    }
                    // The others sleep over, and this is for the model to end.
                    bell.ring_all();
                })
            })
            .collect();
        for count in 1..=ALL {
            made.store(count, Ordering::Relaxed);
            if bell.anyone_asleep() {
                bell.ring_one();
            }
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// Each ring is for one who slept when it was rung, or else found what it was for.
#[test]
fn a_bell_that_rings_for_each() {
    explore(3, || {
        let (bell, work) = (Counted::new(Bell::new()), Counted::new(AtomicUsize::new(0)));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, work) = (Counted::clone(&bell), Counted::clone(&work));
                thread::spawn(move || {
                    let find =
                        || work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |work| work.checked_sub(1)).is_ok();
                    let mut found = find();
                    while !found {
                        bell.sleep_unless(|| {
                            found = find();
                            found
                        });
                        found = found || find();
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            work.fetch_add(1, Ordering::Relaxed);
            if bell.anyone_asleep() {
                bell.ring_one();
            }
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// A ring ends one sleep, be it that of one who came after it.
#[test]
fn a_ring_that_another_takes() {
    explore(2, || {
        let (bell, num_woken) = (Counted::new(Bell::new()), Arc::new(Count::new(0)));
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, num_woken) = (Counted::clone(&bell), Arc::clone(&num_woken));
                thread::spawn(move || {
                    bell.sleep_unless(|| false);
                    num_woken.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        while num_woken.load(Ordering::Relaxed) < 2 {
            bell.ring_one();
            thread::yield_now();
        }
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
fn a_sample_at_its_deadline() {
    explore(3, || {
        let bell = Arc::new(Bell::new());
        let timeout = Some(Duration::from_secs(1));
        let (run, tally) = Setup { num_rows: &[2], timeout, ..Setup::default() }.run(1, &bell);
        let worker_desk = Arc::new(desk());
        let worker = thread::spawn({
            let (run, desk): (Arc<dyn Drive>, _) = (Arc::clone(&run) as _, Arc::clone(&worker_desk));
            // One who comes in the place of a worker that is given up is the same thread here.
            move || while run.step(&run, &desk) != Step::Over {}
        });
        // The watch, at a moment when whatever is on the desk is late.
        if let Some(ticket) = worker_desk.take_expired(Instant::now() + Duration::from_secs(2)) {
            run.expire(&ticket, &desk());
        }
        take(&run, 0, &desk());
        worker.join().unwrap();
        tally.check_the_end();
    });
}

#[test]
fn a_pause_ends_when_the_breaker_is_raised() {
    explore(3, || {
        let (breaker, before) = (Counted::new(Breaker::new()), Counted::new(AtomicUsize::new(0)));
        let pausing = thread::spawn({
            let (breaker, before) = (Counted::clone(&breaker), Counted::clone(&before));
            move || {
                breaker.pause(Duration::from_secs(3600));
                assert!(breaker.is_broken());
                assert_eq!(before.load(Ordering::Relaxed), 1);
            }
        });
        before.store(1, Ordering::Relaxed);
        breaker.raise();
        pausing.join().unwrap();
    });
}

#[test]
fn a_hook_runs_alone() {
    explore(3, || {
        let gate = Counted::new(Gate::new());
        let in_hook = Counted::new(AtomicBool::new(false));
        let loading = Counted::new(AtomicUsize::new(0));
        let loaders: Vec<_> = (0..2)
            .map(|_| {
                let (gate, in_hook, loading) =
                    (Counted::clone(&gate), Counted::clone(&in_hook), Counted::clone(&loading));
                thread::spawn(move || {
                    gate.enter();
                    loading.fetch_add(1, Ordering::Relaxed);
                    assert!(!in_hook.load(Ordering::Relaxed), "a sample is loaded while the hook runs");
                    loading.fetch_sub(1, Ordering::Relaxed);
                    gate.leave();
                })
            })
            .collect();
        gate.run_alone(|| {
            in_hook.store(true, Ordering::Relaxed);
            assert_eq!(loading.load(Ordering::Relaxed), 0, "the hook runs while a sample is loaded");
            thread::yield_now();
            in_hook.store(false, Ordering::Relaxed);
        });
        loaders.into_iter().for_each(|loader| loader.join().unwrap());
    });
}

/// Lanes, at most one worker to compute what they fetch, and the consumer, who does it if there is no worker.
#[cfg(feature = "async")]
fn lanes_and_consumer(preemptions: usize, num_lanes: usize, num_workers: usize, setup: Setup, num_taken: u64) {
    explore(preemptions, move || {
        let bell = Arc::new(Bell::new());
        let (run, tally) = setup.make(num_workers, &bell);
        let run = FetchRun::start(run, num_lanes, Place::of_a_model(), &Meters::new());
        let stopping = Counted::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..num_workers)
            .map(|_| {
                let (run, bell): (Arc<dyn Drive>, _) = (Arc::clone(&run) as _, Arc::clone(&bell));
                let (stopping, desk) = (Counted::clone(&stopping), desk());
                // When all is claimed there is more to come from the lanes.
                let worked = move || run.step(&run, &desk) == Step::Worked;
                thread::spawn(move || {
                    while !stopping.load(Ordering::Relaxed) {
                        if !worked() {
                            bell.sleep_unless(|| worked() || stopping.load(Ordering::Relaxed));
                        }
                    }
                })
            })
            .collect();
        let desk = desk();
        for seq in 0..num_taken {
            // A consumer that waits has lanes look again, and this one is to give a permit for what it takes alone.
            while setup.lanes == Lanes::Together && tally.finished.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            take(&run, seq, &desk);
        }
        run.cancel();
        stopping.store(true, Ordering::Relaxed);
        bell.ring_all();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        // Nobody waits for lanes but this model.
        while Arc::strong_count(&run) > 1 {
            thread::yield_now();
        }
        tally.check_the_end();
        assert!(run.peak_bytes() <= setup.most_bytes(), "{:?} bytes in flight", run.peak_bytes());
    });
}

#[cfg(feature = "async")]
#[test]
fn lanes_that_write_themselves() {
    lanes_and_consumer(2, 1, 0, Setup::default(), 2);
    lanes_and_consumer(1, 2, 0, Setup { num_rows: &[2, 1], ..Setup::default() }, 2);
}

/// No lane sleeps while there is something to ask for.
#[cfg(feature = "async")]
#[test]
fn lanes_that_ask_together() {
    lanes_and_consumer(1, 2, 0, Setup { num_rows: &[2, 2], lanes: Lanes::Together, ..Setup::default() }, 2);
}

#[cfg(feature = "async")]
#[test]
fn lanes_and_a_worker() {
    let setup = Setup { lanes: Lanes::Heavy, ..Setup::default() };
    lanes_and_consumer(1, 1, 1, Setup { num_rows: &[2], ..setup }, 1);
    lanes_and_consumer(1, 2, 1, Setup { num_rows: &[2], ..setup }, 1);
    lanes_and_consumer(2, 1, 1, setup, 2);
}

#[cfg(feature = "async")]
#[test]
fn lanes_and_a_consumer_that_computes() {
    let setup = Setup { lanes: Lanes::Heavy, ..Setup::default() };
    lanes_and_consumer(2, 1, 0, setup, 2);
    lanes_and_consumer(2, 1, 0, Setup { num_rows: &[2], ..setup }, 1);
    lanes_and_consumer(1, 2, 0, Setup { num_rows: &[2], ..setup }, 1);
}

#[cfg(feature = "async")]
#[test]
fn lanes_that_fetch_again() {
    let setup = Setup { lanes: Lanes::Twice, ..Setup::default() };
    lanes_and_consumer(2, 1, 0, setup, 2);
    lanes_and_consumer(1, 1, 1, setup, 2);
}

#[cfg(feature = "async")]
#[test]
fn lanes_of_a_run_that_is_cancelled() {
    lanes_and_consumer(2, 1, 0, Setup::default(), 0);
    lanes_and_consumer(1, 2, 1, Setup { num_rows: &[2], lanes: Lanes::Heavy, ..Setup::default() }, 0);
}

#[test]
fn two_hooks_run_one_by_one() {
    explore(3, || {
        let (gate, in_hook) = (Counted::new(Gate::new()), Counted::new(AtomicBool::new(false)));
        let hook = |gate: &Gate, in_hook: &AtomicBool| {
            gate.run_alone(|| {
                assert!(!in_hook.swap(true, Ordering::Relaxed), "a hook runs while another one does");
                thread::yield_now();
                in_hook.store(false, Ordering::Relaxed);
            });
        };
        let other = thread::spawn({
            let (gate, in_hook) = (Counted::clone(&gate), Counted::clone(&in_hook));
            move || {
                drop(gate.pass());
                hook(&gate, &in_hook);
            }
        });
        hook(&gate, &in_hook);
        other.join().unwrap();
    });
}
