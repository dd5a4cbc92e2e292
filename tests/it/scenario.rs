//! A use of the loader decoded from bytes, and the plain loop that says what must come of it.
//!
//! The properties feed it random bytes, and the fuzz target those that its coverage leads to. Every byte string is a
//! scenario; missing bytes are zero, which stands for the plainest choice. The endurance test keeps loaders of scenarios
//! alive, and has some of their samples stuck.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

#[cfg(feature = "async")]
use procession::EpochStream;
use procession::{
    Batch, BlockShuffle, ClassBalanced, Epoch, Error, ErrorKind, FailureBudget, InOrder, Loader, OnFailure, Receipt,
    Result, Retry, Row, RowBlock, Sampler, Sequence, Shuffle, State, Subset, Tail, Weighted, Window, WindowShuffle,
    World,
};

/// Reads choices off a byte string.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        let word = u64::from(self.byte()) | u64::from(self.byte()) << 8;
        word % bound
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }
}

/// What goes wrong with a sample, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// `get` returns an error, the first so many times in each epoch's visit.
    Error {
        times: u32,
    },
    /// `get` panics.
    Panic,
    /// The sample has another shape than the others.
    Shape,
    /// The sample does not come before the scenario lets go of it, which is after its time. Takes a time-out, and workers.
    #[allow(dead_code, reason = "no byte string stands for it: it takes its time, and a machine that is not held up")]
    Stuck,
}

/// How long a sample may take where none is stuck: longer than any machine makes one wait.
const AMPLE: Duration = Duration::from_secs(60);

/// How long a sample may take where some are stuck. Long for samples that are not, as the scenario is wrong if one of
/// them is late.
const SCARCE: Duration = Duration::from_secs(2);

/// Where stuck samples wait until they are let go.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    releases: Mutex<u64>,
    changed: Condvar,
}

impl Hold {
    fn wait(&self) {
        let releases = self.releases.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = *releases;
        drop(self.changed.wait_while(releases, |now| *now == before));
    }

    #[allow(dead_code, reason = "only the endurance test has samples that are stuck")]
    pub(crate) fn release(&self) {
        *self.releases.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        self.changed.notify_all();
    }
}

/// What was done and met.
#[derive(Debug, Default, Clone, Copy)]
#[allow(dead_code, reason = "only the endurance test reads it")]
pub(crate) struct Tally {
    pub(crate) epochs: u64,
    pub(crate) batches: u64,
    pub(crate) samples: u64,
    /// Samples that were reported as failed, by what ailed them.
    pub(crate) errors: u64,
    pub(crate) panics: u64,
    pub(crate) shapes: u64,
    pub(crate) timeouts: u64,
    /// Epochs that were left early, for a break too.
    pub(crate) drops: u64,
    pub(crate) resumes: u64,
}

impl Tally {
    fn meet(&mut self, kind: ErrorKind) {
        match kind {
            ErrorKind::Sample => self.errors += 1,
            ErrorKind::Panic => self.panics += 1,
            ErrorKind::Shape => self.shapes += 1,
            ErrorKind::Timeout => self.timeouts += 1,
            _ => {}
        }
    }
}

/// How samples reach their batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// Written in place, of a layout that the sequence knows.
    InPlace,
    /// Loaded by `get`, of a layout that the first sample tells.
    Stacked,
    /// Collated by a closure.
    Collated,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) len: usize,
    pub(crate) batch_size: usize,
    pub(crate) workers: usize,
    pub(crate) window: Option<usize>,
    pub(crate) window_bytes: Option<u64>,
    pub(crate) sampler: u8,
    pub(crate) seed: u64,
    pub(crate) tail: Tail,
    pub(crate) rank: u32,
    pub(crate) world_size: u32,
    pub(crate) path: Path,
    /// Indices `i` with `i % modulus == 1` have the fault.
    pub(crate) fault: Fault,
    pub(crate) modulus: usize,
    pub(crate) on_failure: OnFailure,
    pub(crate) retries: u32,
    pub(crate) first_epoch: u64,
    pub(crate) num_epochs: u64,
    /// After so many batches an epoch is left, if it has as many.
    pub(crate) leave_after: Option<u64>,
    /// After so many batches of the first epoch a new loader resumes from the state.
    pub(crate) resume_after: Option<u64>,
    pub(crate) workers_after_resume: usize,
    /// 0: none; otherwise some samples take a while, in a pattern of this seed.
    pub(crate) delays: u64,
    pub(crate) barrier: bool,
    pub(crate) timeout: bool,
    /// Samples are fetched, so many at once, and not loaded; without the feature `async` they are loaded all the same.
    #[cfg_attr(not(feature = "async"), allow(dead_code, reason = "there are no requests"))]
    pub(crate) concurrency: Option<usize>,
    /// Whether requests run on a runtime that is not the loader's own.
    #[cfg_attr(not(feature = "async"), allow(dead_code, reason = "there are no requests"))]
    pub(crate) foreign_runtime: bool,
    /// Whether batches are taken from a stream.
    pub(crate) stream: bool,
    pub(crate) many: Many,
    pub(crate) hold: Arc<Hold>,
}

/// How a sequence that writes in place answers when it is asked for many samples in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Many {
    /// It has no way to.
    No,
    /// It leaves off before a sample with a fault.
    Whole,
    /// The same, and after a few samples anyhow.
    Few,
    /// It panics where a sample does, and leaves off before one with another fault.
    Panics,
}

impl Scenario {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut choices = Choices(bytes);
        let len = match choices.byte() % 4 {
            0 => choices.below(12),
            1 => choices.below(100),
            2 => choices.below(600),
            _ => choices.below(3000),
        } as usize;
        let world_size = if choices.flag() { 1 + choices.below(5) as u32 } else { 1 };
        let modulus = 1 + choices.below(70) as usize;
        let batch_sizes = match choices.byte() % 3 {
            0 => 8,
            1 => 40,
            _ => len as u64 + 20,
        };
        Self {
            len,
            batch_size: 1 + choices.below(batch_sizes) as usize,
            workers: (choices.byte() % 9) as usize,
            window: match choices.byte() % 3 {
                0 => None,
                _ => Some(1 + choices.byte() as usize % 16),
            },
            window_bytes: if choices.byte() % 4 == 3 { Some(choices.below(2000)) } else { None },
            sampler: choices.byte() % 8,
            seed: choices.below(1000),
            tail: [Tail::Keep, Tail::Drop, Tail::Pad][choices.byte() as usize % 3],
            rank: choices.byte() as u32 % world_size,
            world_size,
            path: [Path::InPlace, Path::Stacked, Path::Collated][choices.byte() as usize % 3],
            fault: match choices.byte() % 6 {
                0..3 => Fault::None,
                3 => Fault::Error { times: 1 + u32::from(choices.byte() % 4) },
                4 => Fault::Panic,
                _ => Fault::Shape,
            },
            modulus,
            on_failure: match choices.byte() % 4 {
                0 => OnFailure::Stop,
                1 => OnFailure::Skip(FailureBudget::default()),
                2 => OnFailure::Skip(FailureBudget::default().count(choices.below(20))),
                _ => OnFailure::Skip(FailureBudget::default().rate(0.2, choices.below(100))),
            },
            retries: u32::from(choices.byte() % 4),
            first_epoch: choices.below(4),
            num_epochs: 1 + choices.below(3),
            leave_after: if choices.byte() % 4 == 3 { Some(choices.below(6)) } else { None },
            resume_after: if choices.byte() % 3 == 2 { Some(choices.below(30)) } else { None },
            workers_after_resume: (choices.byte() % 5) as usize,
            delays: if choices.flag() { 1 + choices.below(1000) } else { 0 },
            barrier: choices.byte() % 5 == 4,
            timeout: choices.byte() % 5 == 4,
            concurrency: match choices.byte() % 5 {
                3 => Some(1 + choices.below(4) as usize),
                4 => Some(1 + choices.below(100) as usize),
                _ => None,
            },
            foreign_runtime: choices.flag(),
            stream: choices.flag(),
            many: [Many::No, Many::Whole, Many::Few, Many::Panics][choices.byte() as usize % 4],
            hold: Arc::default(),
        }
    }

    fn sampler(&self) -> Arc<dyn Sampler> {
        let (len, seed) = (self.len as u64, self.seed);
        let labels: Vec<u32> = (0..self.len).map(|index| (index % 7 % 3) as u32).collect();
        match self.sampler {
            2 => Arc::new(BlockShuffle::new(len, 1 + seed % 40, 1 + seed % 3, seed)),
            3 => Arc::new(WindowShuffle::new(len, 1 + seed % 40, seed)),
            4 if len > 0 => {
                let weights: Vec<f64> = (0..self.len).map(|index| 1.0 + (index % 5) as f64).collect();
                Arc::new(Weighted::new(&weights, len + seed, seed).expect("the weights are positive"))
            }
            5 => Arc::new(Subset::shuffled((0..len).filter(|index| index % 3 != 1).collect(), seed)),
            6 if len > 0 => Arc::new(ClassBalanced::new(&labels, seed).expect("there are labels")),
            7 => Arc::new(InOrder::new(len)),
            _ => Arc::new(Shuffle::new(len, seed)),
        }
    }

    fn fault_of(&self, index: u64) -> Fault {
        if index as usize % self.modulus == 1 % self.modulus { self.fault } else { Fault::None }
    }

    fn world(&self) -> World {
        World::new(self.rank, self.world_size).expect("the rank is below the size")
    }

    fn source(&self) -> Source {
        Source { scenario: self.clone(), attempts: Mutex::default(), epoch: AtomicU64::new(u64::MAX) }
    }

    pub(crate) fn loader(&self, workers: usize) -> Feeder {
        let retry = Retry::times(self.retries).backoff(Duration::ZERO, 1.0, Duration::ZERO);
        macro_rules! build {
            ($builder:expr) => {{
                let mut builder = $builder
                    .batch_size(self.batch_size)
                    .sampler(self.sampler())
                    .seed(self.seed)
                    .tail(self.tail)
                    .world(self.world())
                    .workers(workers)
                    .on_failure(self.on_failure)
                    .retry(retry);
                if let Some(window) = self.window {
                    builder = builder.window(Window::Batches(window));
                }
                if let Some(bytes) = self.window_bytes {
                    builder = builder.window(Window::Bytes(bytes));
                }
                if self.timeout {
                    builder = builder.timeout(if self.fault == Fault::Stuck { SCARCE } else { AMPLE });
                }
                builder.build().expect("the scenario is sound")
            }};
        }
        let jitter = |sample: Vec<u64>, rng: &mut procession::VisitRng| {
            let mut sample = sample;
            sample.push(rng.next_u64());
            sample
        };
        #[cfg(feature = "async")]
        if let Some(concurrency) = self.concurrency {
            macro_rules! remote {
                ($source:expr) => {{
                    let builder = Loader::remote($source).concurrency(concurrency);
                    if self.foreign_runtime && !self.barrier {
                        builder.runtime(remote::runtime().handle().clone())
                    } else {
                        builder
                    }
                }};
            }
            return match self.path {
                Path::InPlace => Feeder::Arrays(build!(remote!(remote::InPlace(self.source())))),
                Path::Stacked => Feeder::Arrays(build!(remote!(remote::Remote(self.source())).augment(jitter))),
                Path::Collated => {
                    Feeder::Lists(build!(remote!(remote::Remote(self.source())).augment(jitter).collate(Ok)))
                }
            };
        }
        match self.path {
            Path::InPlace => Feeder::Arrays(build!(Loader::builder(InPlace(self.source())))),
            Path::Stacked => Feeder::Arrays(build!(Loader::builder(self.source()).augment(jitter))),
            Path::Collated => Feeder::Lists(build!(Loader::builder(self.source()).augment(jitter).collate(Ok))),
        }
    }

    /// What the plain loop yields for an epoch, from a position on.
    pub(crate) fn expected(&self, epoch: u64, from_batch: u64) -> Expected {
        let sampler = self.sampler();
        let n = sampler.len() as usize;
        let mut positions: Vec<u64> = (0..n as u64).collect();
        match self.tail {
            Tail::Keep => {}
            Tail::Drop => positions.truncate(n / self.batch_size * self.batch_size),
            Tail::Pad => positions.extend(n as u64..(n.div_ceil(self.batch_size) * self.batch_size) as u64),
        }
        let mut expected = Expected::default();
        let (mut visited, mut failed, mut stopped) = (0, 0, false);
        for (number, global) in positions.chunks(self.batch_size).enumerate().skip(from_batch as usize) {
            let mine: Vec<u64> =
                global.iter().copied().filter(|p| p % u64::from(self.world_size) == u64::from(self.rank)).collect();
            expected.expected += mine.len() as u64;
            if stopped {
                continue;
            }
            let (mut rows, mut indices, mut padded, mut failures) = (Vec::new(), Vec::new(), 0, Vec::new());
            let mut first_shape = None;
            for (row, &position) in mine.iter().enumerate() {
                let index = sampler.index(epoch, position % n as u64);
                let kind = match self.fault_of(index) {
                    Fault::Error { times } if times > self.retries => Some(ErrorKind::Sample),
                    Fault::Panic => Some(ErrorKind::Panic),
                    Fault::Stuck => Some(ErrorKind::Timeout),
                    _ => None,
                };
                let sample = self.sample(epoch, position, index);
                let kind = kind.or_else(|| {
                    let odd = match self.path {
                        // A sequence that promises a layout breaks its promise by any other, first or not.
                        Path::InPlace => sample.len() != 2,
                        Path::Stacked => *first_shape.get_or_insert(sample.len()) != sample.len(),
                        Path::Collated => false,
                    };
                    odd.then_some(ErrorKind::Shape)
                });
                match kind {
                    Some(kind) => failures.push((visited + row as u64 + 1, kind, position, index)),
                    None => {
                        rows.push(sample);
                        indices.push(index);
                        padded += usize::from(position >= n as u64);
                    }
                }
            }
            // Sample by sample: the budget is looked at after each failure, and when the rate begins to count.
            for row in 1..=mine.len() as u64 {
                let failure = failures.iter().find(|&&(at, ..)| at == visited + row);
                let stop = match (failure, self.on_failure) {
                    (Some(&(_, kind, position, index)), OnFailure::Stop) => Some((kind, position, index)),
                    (Some(&(at, _, position, index)), OnFailure::Skip(budget)) => {
                        failed += 1;
                        if self.exceeds(budget, failed, at) {
                            Some((ErrorKind::Budget, position, index))
                        } else {
                            expected.skipped.push((position, index));
                            None
                        }
                    }
                    (None, OnFailure::Skip(budget)) => {
                        let begins = self.rate_begins(budget) == Some(visited + row);
                        let exceeded = begins && self.exceeds(budget, failed, visited + row);
                        expected
                            .skipped
                            .last()
                            .filter(|_| exceeded)
                            .map(|&(position, index)| (ErrorKind::Budget, position, index))
                    }
                    (None, OnFailure::Stop) => None,
                };
                if let Some((kind, position, index)) = stop {
                    expected.items.push(Item::Error { kind, epoch, position, index });
                    stopped = true;
                    break;
                }
            }
            visited += mine.len() as u64;
            if !stopped && (mine.is_empty() || !rows.is_empty()) {
                expected.items.push(Item::Batch { number: number as u64, indices, padded, rows });
            }
        }
        expected.num_batches = (positions.len().div_ceil(self.batch_size) as u64).saturating_sub(from_batch);
        expected
    }

    /// From which sample on a rate counts.
    fn rate_begins(&self, budget: FailureBudget) -> Option<u64> {
        budget.to_string().split_once(" % after ").and_then(|(_, after)| after.parse().ok())
    }

    /// The budgets that `decode` makes, restated.
    fn exceeds(&self, budget: FailureBudget, failed: u64, visited: u64) -> bool {
        let text = budget.to_string();
        if text == "any number" {
            return false;
        }
        match text.split_once(" % after ") {
            Some((_, after)) => visited >= after.parse().unwrap_or(0) && failed * 5 > visited,
            None => failed > text.parse().unwrap_or(0),
        }
    }

    /// What stands at a position.
    fn sample(&self, epoch: u64, position: u64, index: u64) -> Vec<u64> {
        let mut sample = vec![index, index * 3 + 1];
        if self.fault_of(index) == Fault::Shape {
            sample.push(7);
        }
        if self.path != Path::InPlace {
            sample.push(procession::Visit::new(self.seed, epoch, position, index).rng(0).next_u64());
        }
        sample
    }

    /// Runs the scenario and compares; says what differs.
    pub(crate) fn check(&self) -> std::result::Result<Tally, String> {
        let mut tally = Tally::default();
        let end = self.first_epoch + self.num_epochs;
        let state = self.loader(self.workers).iterate(self, self.first_epoch..end, None, &mut tally)?;
        if let Some(state) = state {
            let text = state.to_string();
            let state: State = text.parse().map_err(|error| format!("{text}: {error}"))?;
            let rest = Self { resume_after: None, ..self.clone() };
            let loader = self.loader(self.workers_after_resume);
            loader.iterate(&rest, self.first_epoch..end, Some(state), &mut tally)?;
        }
        Ok(tally)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Batch { number: u64, indices: Vec<u64>, padded: usize, rows: Vec<Vec<u64>> },
    Error { kind: ErrorKind, epoch: u64, position: u64, index: u64 },
}

#[derive(Debug, Default)]
pub(crate) struct Expected {
    items: Vec<Item>,
    pub(crate) skipped: Vec<(u64, u64)>,
    expected: u64,
    num_batches: u64,
}

/// A loader of either kind of batch.
pub(crate) enum Feeder {
    Arrays(Loader<ndarray::Array2<u64>>),
    Lists(Loader<Vec<Vec<u64>>>),
}

impl Feeder {
    /// Walks epochs, from a state on if there is one, and compares. The scenario may differ from that of the loader in
    /// where epochs are left. Returns the state at which it asks for a break.
    pub(crate) fn iterate(
        &self,
        scenario: &Scenario,
        range: std::ops::Range<u64>,
        state: Option<State>,
        tally: &mut Tally,
    ) -> std::result::Result<Option<State>, String> {
        match self {
            Self::Arrays(loader) => {
                let rows = |rows: &ndarray::Array2<u64>| rows.outer_iter().map(|row| row.to_vec()).collect();
                iterate(loader, scenario, range, state, tally, rows)
            }
            Self::Lists(loader) => iterate(loader, scenario, range, state, tally, Vec::clone),
        }
    }
}

fn item<B>(result: Result<Batch<B>>, rows: impl Fn(&B) -> Vec<Vec<u64>>) -> Item {
    match result {
        Ok(batch) => Item::Batch {
            number: batch.number(),
            indices: batch.indices().to_vec(),
            padded: batch.num_padded(),
            rows: rows(&batch),
        },
        Err(error) => Item::Error {
            kind: error.kind(),
            epoch: error.epoch().unwrap_or(u64::MAX),
            position: error.position().unwrap_or(u64::MAX),
            index: error.index().unwrap_or(u64::MAX),
        },
    }
}

/// An epoch by whichever way it is iterated.
enum Taking<B: Send + 'static> {
    Loop(Epoch<B>),
    #[cfg(feature = "async")]
    Stream(EpochStream<B>),
}

macro_rules! of_either {
    ($($name:ident -> $type:ty),+) => {$(
        fn $name(&self) -> $type {
            match self {
                Self::Loop(epoch) => epoch.$name(),
                #[cfg(feature = "async")]
                Self::Stream(stream) => stream.$name(),
            }
        }
    )+};
}

impl<B: Send + 'static> Taking<B> {
    fn new(epoch: Epoch<B>, stream: bool) -> Self {
        #[cfg(feature = "async")]
        if stream {
            return Self::Stream(epoch.stream());
        }
        let _ = stream;
        Self::Loop(epoch)
    }

    fn next(&mut self) -> Option<Result<Batch<B>>> {
        match self {
            Self::Loop(epoch) => epoch.next(),
            #[cfg(feature = "async")]
            Self::Stream(stream) => futures::executor::block_on(futures::StreamExt::next(stream)),
        }
    }

    of_either! { number -> u64, num_batches_left -> u64, receipt -> &Receipt, state -> State }
}

/// Walks the epochs and compares. Returns the state at which the scenario asks for a break.
fn iterate<B: Send + 'static>(
    loader: &Loader<B>,
    scenario: &Scenario,
    range: std::ops::Range<u64>,
    state: Option<State>,
    tally: &mut Tally,
    rows: impl Fn(&B) -> Vec<Vec<u64>> + Copy,
) -> std::result::Result<Option<State>, String> {
    let mut epochs = loader.epochs(range.clone());
    let mut from_batch = 0;
    if let Some(state) = &state {
        from_batch = state.next_batch;
        tally.resumes += 1;
        epochs = epochs.resume(state).map_err(|error| error.to_string())?;
    }
    let mut count = 0;
    for epoch in epochs {
        let mut epoch = Taking::new(epoch, scenario.stream);
        let expected = scenario.expected(range.start + count, from_batch);
        check_eq("epoch", &epoch.number(), &(range.start + count))?;
        check_eq("number of batches", &epoch.num_batches_left(), &expected.num_batches)?;
        let mut got = Vec::new();
        let mut left_early = false;
        let mut break_here;
        loop {
            break_here = count == 0 && scenario.resume_after == Some(got.len() as u64);
            if break_here || scenario.leave_after == Some(got.len() as u64) {
                left_early = true;
                break;
            }
            match epoch.next() {
                Some(result) => got.push(item(result, rows)),
                None => break,
            }
        }
        let wanted = if left_early { &expected.items[..got.len().min(expected.items.len())] } else { &expected.items };
        check_eq("items", &got.as_slice(), &wanted)?;
        tally.epochs += 1;
        tally.drops += u64::from(left_early);
        for item in &got {
            match item {
                Item::Batch { indices, .. } => {
                    tally.batches += 1;
                    tally.samples += indices.len() as u64;
                }
                Item::Error { kind, .. } => tally.meet(*kind),
            }
        }
        epoch.receipt().skipped.iter().for_each(|skipped| tally.meet(skipped.error.kind()));
        if !left_early {
            let receipt = epoch.receipt();
            let skipped: Vec<_> =
                receipt.skipped.iter().map(|skipped| (skipped.position, skipped.index.unwrap_or(u64::MAX))).collect();
            check_eq("skipped", &skipped, &expected.skipped)?;
            check_eq("expected", &receipt.expected, &expected.expected)?;
            let delivered: usize =
                got.iter().map(|item| if let Item::Batch { indices, .. } = item { indices.len() } else { 0 }).sum();
            check_eq("delivered", &receipt.delivered, &(delivered as u64))?;
            let whole = !got.iter().any(|item| matches!(item, Item::Error { .. }));
            if whole {
                check_eq("complete", &receipt.is_complete(), &true)?;
            }
        }
        // A state counts what was planned: with skipped batches it is ahead of what was delivered.
        if break_here && got.iter().all(|item| matches!(item, Item::Batch { .. })) {
            return Ok(Some(epoch.state()));
        }
        from_batch = 0;
        count += 1;
    }
    check_eq("number of epochs", &count, &(range.end - range.start))?;
    Ok(None)
}

fn check_eq<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    got: &T,
    wanted: &T,
) -> std::result::Result<(), String> {
    if got == wanted {
        return Ok(());
    }
    let mut text = format!("{what}: got {got:?}");
    text.truncate(2000);
    let mut other = format!("{wanted:?}");
    other.truncate(2000);
    write!(text, ", wanted {other}").map_err(|error| error.to_string())?;
    Err(text)
}

/// Who asks for a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asker {
    Thread(std::thread::ThreadId),
    #[cfg(feature = "async")]
    Task(tokio::task::Id),
}

/// The sequence of a scenario.
struct Source {
    scenario: Scenario,
    // How often each index was asked for since it last succeeded, by one thread or one task of the loader: a visit is one
    // of theirs.
    attempts: Mutex<HashMap<(Asker, usize), u32>>,
    epoch: AtomicU64,
}

impl Source {
    /// A number that decides how long a sample takes.
    fn hash(&self, index: usize) -> u64 {
        (index as u64 + 1).wrapping_mul(self.scenario.delays).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
    }

    fn load(&self, index: usize) -> Result<Vec<u64>> {
        let scenario = &self.scenario;
        if scenario.delays > 0 {
            let hash = self.hash(index);
            match hash % 16 {
                0 => (0..hash % 2000).for_each(|_| std::hint::spin_loop()),
                1..4 => std::thread::yield_now(),
                _ => {}
            }
        }
        if scenario.fault_of(index as u64) == Fault::Stuck {
            scenario.hold.wait();
        }
        self.answer(index, Asker::Thread(std::thread::current().id()))
    }

    fn answer(&self, index: usize, asker: Asker) -> Result<Vec<u64>> {
        let scenario = &self.scenario;
        match scenario.fault_of(index as u64) {
            Fault::Error { times } => {
                let mut attempts = self.attempts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let attempt = attempts.entry((asker, index)).or_default();
                *attempt += 1;
                // A visit makes `retries + 1` attempts at most; the next one counts from the start.
                let failed = *attempt <= times;
                if !failed || *attempt > scenario.retries {
                    attempts.remove(&(asker, index));
                }
                if failed {
                    return Err(Error::sample(format!("index {index} fails")));
                }
            }
            Fault::Panic => panic!("index {index} panics on purpose"),
            Fault::Shape => return Ok(vec![index as u64, index as u64 * 3 + 1, 7]),
            Fault::Stuck | Fault::None => {}
        }
        Ok(vec![index as u64, index as u64 * 3 + 1])
    }
}

impl Sequence for Source {
    type Sample = Vec<u64>;

    fn len(&self) -> usize {
        self.scenario.len
    }

    fn get(&self, index: usize) -> Result<Vec<u64>> {
        self.load(index)
    }

    fn barrier(&self) -> bool {
        self.scenario.barrier
    }

    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(())
    }
}

/// The same with a layout that is known.
struct InPlace(Source);

impl Sequence for InPlace {
    type Sample = Vec<u64>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Vec<u64>> {
        self.0.load(index)
    }

    fn layout(&self) -> Option<usize> {
        Some(2)
    }

    fn get_into(&self, index: usize, row: Row<'_, Vec<u64>>) -> Result<()> {
        let sample = self.0.load(index)?;
        if sample.len() != 2 {
            return Err(Error::new(ErrorKind::Shape, format!("{} numbers, expected 2", sample.len())));
        }
        row.copy_from_slice(&sample);
        Ok(())
    }

    fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, Vec<u64>>) -> Option<usize> {
        let scenario = &self.0.scenario;
        let most = match scenario.many {
            Many::No => return None,
            Many::Few => 3,
            Many::Whole | Many::Panics => indices.len(),
        };
        for (row, &index) in indices.iter().enumerate().take(most) {
            match scenario.fault_of(index) {
                Fault::None => block.row(row).copy_from_slice(&[index, index * 3 + 1]),
                Fault::Panic if scenario.many == Many::Panics => panic!("index {index} panics on purpose"),
                _ => return Some(row),
            }
        }
        Some(indices.len().min(most))
    }

    fn barrier(&self) -> bool {
        self.0.barrier()
    }

    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.0.on_epoch_start(epoch)
    }
}

/// The same sequences for requests.
#[cfg(feature = "async")]
pub(crate) mod remote {
    use std::sync::OnceLock;
    use std::time::Duration;

    use procession::{AsyncSequence, Result};

    use super::{Asker, Fault, Source};

    /// A runtime that all scenarios share.
    pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("there are threads")
        })
    }

    async fn ask(source: &Source, index: usize) -> Result<Vec<u64>> {
        if source.scenario.delays > 0 {
            let hash = source.hash(index);
            match hash % 64 {
                0 => tokio::time::sleep(Duration::from_micros(hash % 900)).await,
                1..16 => {
                    for _ in 0..hash % 7 {
                        tokio::task::yield_now().await;
                    }
                }
                _ => {}
            }
        }
        if source.scenario.fault_of(index as u64) == Fault::Stuck {
            std::future::pending::<()>().await;
        }
        source.answer(index, Asker::Task(tokio::task::id()))
    }

    macro_rules! sequence {
        ($name:ident, $layout:expr) => {
            impl AsyncSequence for $name {
                type Sample = Vec<u64>;

                fn len(&self) -> usize {
                    self.0.scenario.len
                }
                async fn get(&self, index: usize) -> Result<Vec<u64>> {
                    ask(&self.0, index).await
                }
                fn layout(&self) -> Option<usize> {
                    $layout
                }
                fn barrier(&self) -> bool {
                    self.0.scenario.barrier
                }
            }
        };
    }

    pub(super) struct Remote(pub(super) Source);
    sequence!(Remote, None);

    pub(super) struct InPlace(pub(super) Source);
    sequence!(InPlace, Some(2));
}
