//! Where the time goes: who was busy, who waited for input, who waited for room, and one plain verdict.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::sync::Instant;

/// One thread's account. Only that thread writes to it, so plain loads and stores add up; all are relaxed, as each
/// number is read by itself.
#[derive(Debug, Default)]
pub(crate) struct Meter(CachePadded<Counts>);

#[derive(Debug, Default)]
struct Counts {
    tasks: AtomicU64,
    samples: AtomicU64,
    load_ns: AtomicU64,
    // Of the tasks whose stages were timed: the time in the source, and in all.
    timed_source_ns: AtomicU64,
    timed_ns: AtomicU64,
    close_ns: AtomicU64,
    full_ns: AtomicU64,
    over_ns: AtomicU64,
    batches: AtomicU64,
    waits: AtomicU64,
    wait_ns: AtomicU64,
    epochs_ns: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) -> u64 {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(amount);
    counter.store(sum, Ordering::Relaxed);
    sum
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Every how many tasks the clock is read, when tasks are so short that reading it would show.
const TIMED_TASKS: u64 = 16;
/// From which length of a task on it is always read: a reading takes about 30 ns, and a task has four to six.
const LONG_TASK_NS: u64 = 10_000;
/// Every how many tasks the time inside the source is taken, sample by sample, of how many samples, and from which cost of
/// a sample on it always is, of all.
const STAGED_TASKS: u64 = 4 * TIMED_TASKS;
const STAGED_SAMPLES: usize = 8;
const COSTLY_SAMPLE_NS: u64 = 5_000;

/// A reading of the clock, and how many tasks it stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    start: Instant,
    tasks: u32,
}

impl Stopwatch {
    /// The time since the watch was started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same for all the tasks that it stands for.
    fn weighted(&self, elapsed: Duration) -> Duration {
        elapsed * self.tasks
    }
}

impl Meter {
    /// Starts the clock for a task that is thought to take so long, if it is one to be timed.
    pub(crate) fn start(&self, expected_ns: Option<u64>) -> Option<Stopwatch> {
        let short = expected_ns.is_some_and(|expected| expected < LONG_TASK_NS);
        if short && !self.0.tasks.load(Ordering::Relaxed).is_multiple_of(TIMED_TASKS) {
            return None;
        }
        Some(Stopwatch { start: Instant::now(), tasks: if short { TIMED_TASKS as u32 } else { 1 } })
    }

    /// Counts a task, and its time if it was taken.
    pub(crate) fn record_load(&self, samples: u64, watch: Option<(Stopwatch, Duration)>) {
        add(&self.0.tasks, 1);
        add(&self.0.samples, samples);
        if let Some((watch, took)) = watch {
            add(&self.0.load_ns, nanos(watch.weighted(took)));
        }
    }

    /// Of how many samples of the task under way the stages are to be timed.
    pub(crate) fn num_staged(&self) -> usize {
        let tasks = self.0.tasks.load(Ordering::Relaxed);
        let samples = self.0.samples.load(Ordering::Relaxed);
        if self.0.load_ns.load(Ordering::Relaxed) > samples.saturating_mul(COSTLY_SAMPLE_NS) {
            return usize::MAX;
        }
        if tasks.is_multiple_of(STAGED_TASKS) { STAGED_SAMPLES } else { 0 }
    }

    pub(crate) fn record_stages(&self, source: Duration, all: Duration) {
        add(&self.0.timed_source_ns, nanos(source));
        add(&self.0.timed_ns, nanos(all));
    }

    pub(crate) fn record_close(&self, watch: Stopwatch, took: Duration) {
        add(&self.0.close_ns, nanos(watch.weighted(took)));
    }

    pub(crate) fn record_full(&self, took: Duration) {
        add(&self.0.full_ns, nanos(took));
    }

    pub(crate) fn record_over(&self, took: Duration) {
        add(&self.0.over_ns, nanos(took));
    }

    pub(crate) fn record_wait(&self, took: Duration) {
        add(&self.0.waits, 1);
        add(&self.0.wait_ns, nanos(took));
    }

    /// How often its consumer had to wait.
    pub(crate) fn waits(&self) -> u64 {
        self.0.waits.load(Ordering::Relaxed)
    }

    /// Notes how long an epoch took, from its start to its end.
    pub(crate) fn record_epoch(&self, took: Duration) {
        add(&self.0.epochs_ns, nanos(took));
    }

    pub(crate) fn record_batch(&self) {
        add(&self.0.batches, 1);
    }
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) samples: u64,
    pub(crate) consumer_waited: Duration,
}

/// The account of the requests of a loader, which many tasks write to.
#[derive(Debug, Default)]
pub(crate) struct RequestMeter {
    sent: AtomicU64,
    failed: AtomicU64,
    waited_ns: AtomicU64,
}

impl RequestMeter {
    #[cfg(feature = "async")]
    pub(crate) fn record_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(feature = "async")]
    pub(crate) fn record_answer(&self, took: Duration, failed: bool) {
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.waited_ns.fetch_add(nanos(took), Ordering::Relaxed);
    }
}

/// The accounts of a loader's threads.
#[derive(Debug)]
pub(crate) struct Meters {
    started: Instant,
    workers: Mutex<Vec<Arc<Meter>>>,
    consumers: Mutex<Vec<Arc<Meter>>>,
    // The most bytes in flight in the run that ended last; `u64::MAX` if they are not counted.
    peak_bytes: AtomicU64,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            workers: Mutex::default(),
            consumers: Mutex::default(),
            peak_bytes: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn add_worker(&self) -> Arc<Meter> {
        Self::add(&self.workers)
    }

    pub(crate) fn add_consumer(&self) -> Arc<Meter> {
        Self::add(&self.consumers)
    }

    /// As many as asked for, in one pass.
    #[cfg(feature = "async")]
    pub(crate) fn add_workers(&self, count: usize) -> Vec<Arc<Meter>> {
        let mut meters = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let free = meters.iter().filter(|meter| Arc::strong_count(meter) == 1);
        let mut taken: Vec<_> = free.take(count).map(Arc::clone).collect();
        let new = (taken.len()..count).map(|_| Arc::new(Meter::default())).collect::<Vec<_>>();
        meters.extend(new.iter().map(Arc::clone));
        taken.extend(new);
        taken
    }

    fn add(meters: &Mutex<Vec<Arc<Meter>>>) -> Arc<Meter> {
        let mut meters = meters.lock().unwrap_or_else(PoisonError::into_inner);
        // A meter that only this list holds belongs to a thread that is gone; its account goes on, so that the list
        // does not grow with the number of epochs.
        if let Some(meter) = meters.iter().find(|meter| Arc::strong_count(meter) == 1) {
            return Arc::clone(meter);
        }
        let meter = Arc::new(Meter::default());
        meters.push(Arc::clone(&meter));
        meter
    }

    pub(crate) fn record_peak(&self, bytes: u64) {
        self.peak_bytes.store(bytes, Ordering::Relaxed);
    }

    /// How many samples were loaded, and how long consumers waited for them.
    pub(crate) fn reading(&self) -> Reading {
        let of = |meters: &Mutex<Vec<Arc<Meter>>>, field: fn(&Counts) -> &AtomicU64| {
            let meters = meters.lock().unwrap_or_else(PoisonError::into_inner);
            meters.iter().map(|meter| field(&meter.0).load(Ordering::Relaxed)).sum::<u64>()
        };
        Reading {
            samples: of(&self.workers, |counts| &counts.samples) + of(&self.consumers, |counts| &counts.samples),
            consumer_waited: Duration::from_nanos(of(&self.consumers, |counts| &counts.wait_ns)),
        }
    }

    pub(crate) fn report(&self, num_workers: usize, requests: Option<&RequestMeter>) -> Report {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sum = |meters: &[Arc<Meter>], field: fn(&Counts) -> &AtomicU64| {
            meters.iter().map(|meter| field(&meter.0).load(Ordering::Relaxed)).sum::<u64>()
        };
        // The consumer loads too when it has nothing better to do.
        let all: Vec<_> = workers.iter().chain(&consumers).cloned().collect();
        let load = sum(&all, |counts| &counts.load_ns);
        let (source, timed) = (sum(&all, |counts| &counts.timed_source_ns), sum(&all, |counts| &counts.timed_ns));
        let source = if requests.is_some() {
            // It is waited for by tasks, which no worker does.
            0
        } else if timed == 0 {
            load
        } else {
            (load as f64 * (source as f64 / timed as f64)) as u64
        };
        let requests = requests.map(|meter| RequestReport {
            num_sent: meter.sent.load(Ordering::Relaxed),
            num_failed: meter.failed.load(Ordering::Relaxed),
            waited: Duration::from_nanos(meter.waited_ns.load(Ordering::Relaxed)),
        });
        Report {
            elapsed: self.started.elapsed(),
            num_workers,
            num_samples: sum(&all, |counts| &counts.samples),
            num_tasks: sum(&all, |counts| &counts.tasks),
            num_batches: sum(&consumers, |counts| &counts.batches),
            source_busy: Duration::from_nanos(source.min(load)),
            transform_busy: Duration::from_nanos(load - source.min(load)),
            collate_busy: Duration::from_nanos(sum(&all, |counts| &counts.close_ns)),
            workers_waited_for_room: Duration::from_nanos(sum(&workers, |counts| &counts.full_ns)),
            workers_had_no_work: Duration::from_nanos(sum(&workers, |counts| &counts.over_ns)),
            consumer_waited: Duration::from_nanos(
                sum(&consumers, |counts| &counts.wait_ns)
                    + sum(&consumers, |counts| &counts.load_ns)
                    + sum(&consumers, |counts| &counts.close_ns),
            ),
            in_epochs: Duration::from_nanos(sum(&consumers, |counts| &counts.epochs_ns)),
            num_waits: sum(&consumers, |counts| &counts.waits),
            requests,
            peak_bytes: Some(self.peak_bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes != u64::MAX),
        }
    }
}

/// What holds the others up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Bottleneck {
    /// The code that takes the batches: the loader is fast enough.
    Consumer,
    /// What the workers do with samples after the source gave them: transforms and collation.
    Workers,
    /// The sequence's `get`.
    Source,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consumer => "the consumer is the bottleneck: batches are ready when it asks",
            Self::Workers => "the workers are the bottleneck: most of their time goes to transforms and collation",
            Self::Source => "the source is the bottleneck: most of the workers' time goes to its `get`",
        })
    }
}

/// The requests of a [remote](crate::Loader::remote) loader since it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RequestReport {
    /// How many were sent, those that were tried again included.
    pub num_sent: u64,
    /// How many of them gave an error or no answer in time.
    pub num_failed: u64,
    /// How long they took, together.
    pub waited: Duration,
}

/// Where a loader's time went since it was built.
///
/// Times of the workers are sums over all of them. Where tasks are so short that the clock would show, one in sixteen is
/// timed and stands for the others.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The time since the loader was built.
    pub elapsed: Duration,
    /// The number of workers, now.
    pub num_workers: usize,
    /// How many samples were loaded.
    pub num_samples: u64,
    /// How many tasks they were loaded in.
    pub num_tasks: u64,
    /// How many batches the consumer took.
    pub num_batches: u64,
    /// Busy in the sequence's `get`.
    pub source_busy: Duration,
    /// Busy in transforms, and writing rows.
    pub transform_busy: Duration,
    /// Busy making batches of their rows.
    pub collate_busy: Duration,
    /// Workers asleep because the window was full: they waited for the consumer.
    pub workers_waited_for_room: Duration,
    /// Workers asleep because every batch was claimed, or no epoch was running.
    pub workers_had_no_work: Duration,
    /// The consumer waited for a batch, or loaded samples itself for want of one.
    pub consumer_waited: Duration,
    /// What the epochs that are over took together, from start to end.
    pub in_epochs: Duration,
    /// How often it had to wait for somebody else.
    pub num_waits: u64,
    /// The requests, of a [remote](crate::Loader::remote) loader.
    pub requests: Option<RequestReport>,
    /// The most bytes that were queued, in work and parked at once in the last run, if the window is in bytes.
    pub peak_bytes: Option<u64>,
}

impl Report {
    /// What holds the others up, if anything was loaded.
    pub fn bottleneck(&self) -> Option<Bottleneck> {
        if self.num_batches == 0 {
            return None;
        }
        let work = self.source_busy + self.transform_busy + self.collate_busy;
        // A consumer that waits less than a twentieth of the time is not held up; nor is one that waits less than a
        // twentieth of the time that the loader worked, where no epoch is over yet.
        let busy = work.as_secs_f64() / self.num_workers.max(1) as f64;
        let spent = busy.max(self.in_epochs.as_secs_f64());
        Some(if self.consumer_waited.as_secs_f64() < 0.05 * spent {
            Bottleneck::Consumer
        } else if self.requests.is_some() && busy < 0.8 * self.in_epochs.max(self.consumer_waited).as_secs_f64() {
            // The workers had time left, while the consumer waited or in the epochs that are over, so it is not they.
            Bottleneck::Source
        } else if self.source_busy > self.transform_busy + self.collate_busy {
            Bottleneck::Source
        } else {
            Bottleneck::Workers
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |duration: Duration| duration.as_secs_f64();
        writeln!(
            f,
            "{} batches, {} samples in {} tasks, {} workers, {:.3} s",
            self.num_batches,
            self.num_samples,
            self.num_tasks,
            self.num_workers,
            part(self.elapsed)
        )?;
        writeln!(
            f,
            "busy: source {:.3} s, transforms {:.3} s, collation {:.3} s",
            part(self.source_busy),
            part(self.transform_busy),
            part(self.collate_busy)
        )?;
        writeln!(
            f,
            "idle: workers waiting for room {:.3} s, without work {:.3} s; consumer waiting for batches {:.3} s ({} times)",
            part(self.workers_waited_for_room),
            part(self.workers_had_no_work),
            part(self.consumer_waited),
            self.num_waits
        )?;
        if let Some(RequestReport { num_sent, num_failed, waited }) = self.requests {
            let mean = waited.as_secs_f64() / num_sent.max(1) as f64;
            writeln!(f, "requests: {num_sent}, of which {num_failed} failed, {:.3} s each on the mean", mean)?;
        }
        match self.bottleneck() {
            Some(bottleneck) => write!(f, "{bottleneck}"),
            None => f.write_str("nothing was loaded yet"),
        }
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;

    #[test]
    fn cheap_samples_are_timed_by_stages_now_and_then_and_costly_ones_always() {
        let meter = Meter::default();
        let staged: Vec<u64> = (0..2 * STAGED_TASKS)
            .filter(|_| {
                let num_staged = meter.num_staged();
                meter.record_load(100, None);
                assert!(num_staged == 0 || num_staged == STAGED_SAMPLES);
                num_staged > 0
            })
            .collect();
        assert_eq!(staged, [0, STAGED_TASKS]);
        let watch = Stopwatch { start: Instant::now(), tasks: 1 };
        meter.record_load(1, Some((watch, Duration::from_secs(1))));
        assert_eq!(meter.num_staged(), usize::MAX);
    }
}
