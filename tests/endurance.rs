//! Epochs without end: random uses of the loader that fail, panic, get stuck, are left and resumed, each compared with the
//! plain loop, and nothing grows.
//!
//! A few windows of work by default;
//! `PROCESSION_SECONDS=3600 cargo test --release --features async --test endurance -- --nocapture` is the long run, which
//! tells every minute where it stands. `PROCESSION_SEED` changes what is drawn, and `PROCESSION_SLACK_MIB` how much
//! resident memory may grow, for a process whose allocator is not the system's.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that unwraps what is not there fails, as it should"
)]
#![cfg(target_os = "linux")]

#[path = "common/counting.rs"]
mod counting;
#[path = "common/resources.rs"]
mod resources;
#[path = "it/scenario.rs"]
mod scenario;
#[allow(dead_code, reason = "of what the other tests share two are used here")]
#[path = "it/support.rs"]
mod support;

use std::fs;
use std::ops::AddAssign;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ndarray::{Array1, Array2};
use procession::source::Idx;
use procession::{Batch, FailureBudget, Loader, OnFailure, Sampler, SequenceExt, Shuffle, Tail, Window};

use counting::LIVE_BYTES;
use resources::Resources;
use scenario::{Fault, Feeder, Scenario, Tally};
use support::{quiet_panics, under_watch};

/// How many of each a window of work holds: windows can be compared as all of a run do as much. The long run's hold so many
/// times as much, as those who wait for what is stuck take as long.
const NUM_SCENARIOS: u64 = 150;
const NUM_VISITS: u64 = 10;
const NUM_MAPPED: u64 = 15;
const NUM_STUCK: u64 = 2;
const LONG: u64 = 5;

/// How many windows there are at least. A fifth of them, and at least two, are the warm-up.
const MIN_WINDOWS: usize = 6;

/// How much the bytes in use may grow: by what batches that are kept to be used again vary.
const SLACK_BYTES: u64 = 32 * 1024;

/// How much resident memory may grow: by what the system's allocator keeps, and in how many pieces.
const SLACK_MIB: u64 = 16;

/// How long what ends by itself may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is drawn follows from a seed, and from where in the run it is drawn.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, window: u64, purpose: u64) -> Self {
        let mut dice = Self(seed);
        for part in [window, purpose] {
            dice.0 = dice.word() ^ part;
        }
        dice
    }

    fn word(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    fn scenario(&mut self) -> Scenario {
        let bytes: Vec<u8> = (0..12).flat_map(|_| self.word().to_le_bytes()).collect();
        Scenario::decode(&bytes)
    }

    /// A scenario with samples that are stuck, a few, as each takes its time. There are workers, to have others go on, and
    /// no barrier, whose hook would wait for them.
    fn stuck_scenario(&mut self) -> Scenario {
        loop {
            let scenario = self.scenario();
            let scenario = Scenario {
                fault: Fault::Stuck,
                timeout: true,
                barrier: false,
                retries: 0,
                workers: scenario.workers.max(1),
                workers_after_resume: scenario.workers_after_resume.max(1),
                ..scenario
            };
            if (1..=2).contains(&scenario.num_faulty_visits()) {
                return scenario;
            }
        }
    }
}

impl Scenario {
    fn num_faulty_visits(&self) -> usize {
        let epochs = self.first_epoch..self.first_epoch + self.num_epochs;
        let lenient = Self { on_failure: OnFailure::Skip(FailureBudget::default()), ..self.clone() };
        epochs.map(|epoch| lenient.expected(epoch, 0).skipped.len()).sum()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.epochs += other.epochs;
        self.batches += other.batches;
        self.samples += other.samples;
        self.errors += other.errors;
        self.panics += other.panics;
        self.shapes += other.shapes;
        self.timeouts += other.timeouts;
        self.drops += other.drops;
        self.resumes += other.resumes;
    }
}

/// Loaders of one plan that are kept all the while, of different numbers of workers and windows.
struct Household {
    scenario: Scenario,
    feeders: Vec<Feeder>,
}

impl Household {
    fn new(scenario: Scenario) -> Self {
        let widths = [(scenario.workers, scenario.window), (1 + (scenario.workers + 2) % 5, Some(3))];
        let feeders = widths.map(|(workers, window)| Scenario { window, ..scenario.clone() }.loader(workers));
        Self { scenario, feeders: feeders.into() }
    }

    /// One of each kind, drawn.
    fn of_each_kind(dice: &mut Dice) -> Vec<Self> {
        let kinds: [fn(&Scenario) -> bool; 7] = [
            |scenario| scenario.path == scenario::Path::InPlace && scenario.concurrency.is_none(),
            |scenario| scenario.path == scenario::Path::Stacked && scenario.window_bytes.is_some(),
            |scenario| scenario.path == scenario::Path::Collated && scenario.fault == Fault::Panic,
            |scenario| scenario.barrier && scenario.workers > 1,
            |scenario| scenario.timeout && matches!(scenario.fault, Fault::Error { .. }),
            |scenario| scenario.concurrency.is_some() && !scenario.foreign_runtime && scenario.stream,
            |scenario| scenario.concurrency.is_some() && scenario.foreign_runtime && !scenario.stream,
        ];
        kinds
            .iter()
            .map(|kind| {
                loop {
                    let scenario = dice.scenario();
                    // Small batches: what is kept to be used again is not to hide what is lost.
                    let is_fit = (50..1000).contains(&scenario.len) && scenario.batch_size <= 16;
                    if !is_fit || !kind(&scenario) {
                        continue;
                    }
                    // What a task that was given up had tried is remembered by the sequence, under the task's name. So that
                    // this does not grow, no request is tried twice.
                    let retries = if scenario.concurrency.is_some() { 0 } else { scenario.retries };
                    return Self::new(Scenario { retries, ..scenario });
                }
            })
            .collect()
    }

    /// Iterates some epochs in one of several ways.
    fn visit(&self, dice: &mut Dice) -> Result<Tally, String> {
        let mut tally = Tally::default();
        let first = dice.below(1 << 40);
        let range = first..first + 1 + dice.below(3);
        let mut scenario = Scenario { leave_after: None, resume_after: None, ..self.scenario.clone() };
        match dice.below(4) {
            0 => drop(self.feeder(dice).iterate(&scenario, range, None, &mut tally)?),
            1 => {
                scenario.leave_after = Some(dice.below(12));
                self.feeder(dice).iterate(&scenario, range, None, &mut tally)?;
            }
            // Broken off, and gone on with by another loader, until nothing is left of the first epoch.
            2 => {
                let mut state = None;
                loop {
                    scenario.resume_after = Some(1 + dice.below(20));
                    state = self.feeder(dice).iterate(&scenario, range.clone(), state, &mut tally)?;
                    if state.is_none() {
                        break;
                    }
                }
            }
            // By two threads at once, unless only one epoch may be under way.
            _ => {
                let (feeder, scenario) = (self.feeder(dice), &scenario);
                let num_threads = if scenario.barrier { 1 } else { 2 };
                let tallies = thread::scope(|scope| {
                    let threads: Vec<_> = (0..num_threads)
                        .map(|part| {
                            let range = range.start + part..range.end + part;
                            scope.spawn(move || {
                                let mut tally = Tally::default();
                                feeder.iterate(scenario, range, None, &mut tally).map(|_| tally)
                            })
                        })
                        .collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>, _>>()
                })?;
                tallies.into_iter().for_each(|part| tally += part);
            }
        }
        self.scenario.hold.release();
        Ok(tally)
    }

    fn feeder(&self, dice: &mut Dice) -> &Feeder {
        &self.feeders[dice.below(self.feeders.len() as u64) as usize]
    }
}

const ROW: usize = 24;

fn pixel(index: usize, column: usize) -> u8 {
    (index * 31 + column * 7) as u8
}

type Rows = Batch<(Array2<u8>, Array1<u32>)>;

/// Whether a batch holds the rows of a file that stand in the plan.
fn check_rows(batch: &Rows, planned: &[u64]) -> Result<(), String> {
    let (pixels, labels) = &**batch;
    let is_right = |(row, &index): (usize, &u64)| {
        labels[row] == index as u32 && (0..ROW).all(|column| pixels[[row, column]] == pixel(index as usize, column))
    };
    if batch.indices() == planned && labels.len() == planned.len() && planned.iter().enumerate().all(is_right) {
        return Ok(());
    }
    Err(format!("epoch {}, batch {}: {:?}, planned {planned:?}", batch.epoch(), batch.number(), batch.indices()))
}

/// Rows of a mapped file whose name is gone meanwhile; epochs that are left early; batches that outlive the loader, and
/// hold what they held.
fn mapped_rows(dice: &mut Dice) -> Result<Tally, String> {
    let folder = tempfile::tempdir().unwrap();
    let len = 1 + dice.below(3000) as usize;
    let mut bytes = vec![0, 0, 8, 3];
    for extent in [len, 4, ROW / 4] {
        bytes.extend((extent as u32).to_be_bytes());
    }
    bytes.extend((0..len).flat_map(|index| (0..ROW).map(move |column| pixel(index, column))));
    let path = folder.path().join("rows");
    fs::write(&path, bytes).unwrap();
    let images = Idx::open(&path).and_then(|idx| idx.images()).unwrap().flatten();
    let rows = images.zip((0..len as u32).collect::<Array1<_>>()).unwrap();
    let seed = dice.word();
    let (batch_size, window) = (1 + dice.below(100) as usize, 1 + dice.below(8) as usize);
    let builder = Loader::builder(rows).shuffle(seed).batch_size(batch_size).tail(Tail::Drop);
    let loader = builder.workers(dice.below(5) as usize).window(Window::Batches(window)).build().unwrap();
    drop(folder);

    let mut tally = Tally::default();
    let (mut held, mut planned) = (Vec::new(), Vec::new());
    let plan = Shuffle::new(len as u64, seed);
    for epoch in loader.epochs(0..4) {
        let number = epoch.number();
        let leaves_after = if dice.below(2) == 0 { dice.below(20) } else { u64::MAX };
        tally.epochs += 1;
        for (batch, at) in epoch.zip(0..) {
            let batch = batch.map_err(|error| error.to_string())?;
            let first = at * batch_size as u64;
            planned.clear();
            planned.extend((first..first + batch_size as u64).map(|position| plan.index(number, position)));
            check_rows(&batch, &planned)?;
            tally.batches += 1;
            tally.samples += planned.len() as u64;
            if dice.below(8) == 0 {
                held.push((batch, planned.clone()));
            }
            if at == leaves_after {
                tally.drops += 1;
                break;
            }
        }
    }
    drop(loader);
    held.iter().try_for_each(|(batch, planned)| check_rows(batch, planned))?;
    Ok(tally)
}

/// One window of work, with so many times as much in it as in the smallest.
fn work(seed: u64, window: u64, scale: u64, households: &[Household], stuck: &Household) -> Tally {
    let mut tally = Tally::default();
    let told = |what: String, outcome: Result<Tally, String>| {
        outcome.unwrap_or_else(|difference| panic!("seed {seed}, window {window}: {difference}\n{what}"))
    };
    thread::scope(|scope| {
        // What is stuck takes its time and no processor's, beside the rest.
        let mut waiting: Vec<_> = (0..NUM_STUCK * scale)
            .map(|number| {
                scope.spawn(move || {
                    let scenario = Dice::new(seed, window, 100 + number).stuck_scenario();
                    let what = format!("{scenario:?}");
                    let outcome = under_watch(&what, || scenario.check());
                    scenario.hold.release();
                    told(what, outcome)
                })
            })
            .collect();
        waiting.push(scope.spawn(move || {
            let what = format!("{:?}", stuck.scenario);
            let outcome = under_watch(&what, || stuck.visit(&mut Dice::new(seed, window, 1)));
            told(what, outcome)
        }));
        let mut dice = Dice::new(seed, window, 2);
        for _ in 0..NUM_SCENARIOS * scale {
            let scenario = dice.scenario();
            let what = format!("{scenario:?}");
            let outcome = under_watch(&what, || scenario.check());
            tally += told(what, outcome);
        }
        for household in households {
            let what = format!("{:?}", household.scenario);
            for _ in 0..NUM_VISITS * scale {
                let outcome = under_watch(&what, || household.visit(&mut dice));
                tally += told(what.clone(), outcome);
            }
        }
        for _ in 0..NUM_MAPPED * scale {
            let outcome = under_watch("mapped rows", || mapped_rows(&mut dice));
            tally += told("mapped rows".to_owned(), outcome);
        }
        waiting.into_iter().for_each(|thread| tally += thread.join().unwrap());
    });
    tally
}

/// By how much a series grows: the median of its last third over that of its first. One value that is out of line, or a
/// few, do not count.
fn growth(series: &[u64]) -> u64 {
    let third = series.len().div_ceil(3);
    let median = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) / 2]
    };
    median(&series[series.len() - third..]).saturating_sub(median(&series[..third]))
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text}, expected a number")))
}

#[test]
fn epochs_without_end_leave_nothing_behind() {
    // A judge that sees nothing would let everything pass.
    assert_eq!(growth(&[10, 10, 90, 11, 12, 11, 10, 1, 10]), 0);
    assert_eq!(growth(&[10, 11, 12, 13, 14, 15, 16, 17, 18]), 6);

    quiet_panics();
    let seed = number_from_environment("PROCESSION_SEED").unwrap_or(1);
    let seconds = number_from_environment("PROCESSION_SECONDS").map(Duration::from_secs);
    let scale = if seconds.is_some() { LONG } else { 1 };
    let slack_kib = number_from_environment("PROCESSION_SLACK_MIB").unwrap_or(SLACK_MIB) * 1024;
    let mut dice = Dice::new(seed, 0, 0);
    let households = Household::of_each_kind(&mut dice);
    let stuck = Household::new(dice.stuck_scenario());
    // Made when it is first used, it would count as growth.
    #[cfg(feature = "async")]
    scenario::remote::runtime();
    let at_start = Resources::now();

    let start = Instant::now();
    let (mut total, mut minutes) = (Tally::default(), 0);
    let (mut live_bytes, mut resident_kib) = (Vec::new(), Vec::new());
    let mut tell = |window: usize, total: &Tally, now: Resources, live: u64, last: bool| {
        let elapsed = start.elapsed().as_secs();
        if last || elapsed / 60 > minutes {
            minutes = elapsed / 60;
            let Tally { epochs, batches, samples, errors, panics, shapes, timeouts, drops, resumes } = total;
            println!(
                "{elapsed} s, {window} windows: {epochs} epochs, {batches} batches, {samples} samples; {errors} errors, \
                 {panics} panics, {shapes} shapes, {timeouts} time-outs; {drops} left early, {resumes} resumed; \
                 {} KiB resident, {} KiB in use, {} threads, {} files",
                now.resident_kib,
                live / 1024,
                now.num_threads,
                now.num_files
            );
        }
    };
    loop {
        total += work(seed, live_bytes.len() as u64, scale, &households, &stuck);
        // What was let go ends by itself: threads of samples that were stuck, and of runtimes.
        let ended = Instant::now();
        let now = loop {
            let now = Resources::now();
            if now.num_threads <= at_start.num_threads && now.num_files <= at_start.num_files {
                break now;
            }
            assert!(ended.elapsed() < PATIENCE, "threads or files grew from {at_start:?} to {now:?}");
            thread::yield_now();
        };
        let live = LIVE_BYTES.load(Ordering::Relaxed) as u64;
        live_bytes.push(live);
        resident_kib.push(now.resident_kib);
        let window = live_bytes.len();
        let is_last = window >= MIN_WINDOWS && seconds.is_none_or(|seconds| start.elapsed() >= seconds);
        tell(window, &total, now, live, is_last);
        if is_last {
            break;
        }
    }
    for count in [total.errors, total.panics, total.shapes, total.timeouts, total.drops, total.resumes] {
        assert!(count > 0, "{total:?} lacks something");
    }
    let warm_up = (live_bytes.len() / 5).max(2);
    let (live_bytes, resident_kib) = (&live_bytes[warm_up..], &resident_kib[warm_up..]);
    println!("bytes in use grew by {}, resident KiB by {}", growth(live_bytes), growth(resident_kib));
    assert!(growth(live_bytes) <= SLACK_BYTES, "bytes in use at the end of each window: {live_bytes:?}");
    assert!(growth(resident_kib) <= slack_kib, "resident KiB at the end of each window: {resident_kib:?}");
    // What is left of the loaders goes with them.
    drop((households, stuck));
    let ended = Instant::now();
    while resources::num_loader_threads() > 0 {
        assert!(ended.elapsed() < PATIENCE, "{} threads are left", resources::num_loader_threads());
        thread::yield_now();
    }
}
