//! How many samples make one task, from what they were seen to cost.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// What a task should take. Long against handing one out (below a microsecond) and not longer than waking a thread
/// takes (tens of microseconds), so that the due batch never waits long for a task of a later one.
const TASK_NS: u64 = 40_000;
/// How long the workers together take at least from one claim to the next: a cache line takes up to 200 ns from core to core,
/// and all of them claim at the same one. With a hundred workers and more it is this that makes tasks longer.
const CLAIM_NS: u64 = 200;

/// The cost of a sample, averaged over the last tasks. All accesses are relaxed: it is an estimate, and the output
/// does not depend on it.
#[derive(Debug)]
pub(crate) struct Pace {
    // In 1/16 ns, as trivial samples take less than one. 0 means not known yet.
    sample_cost: AtomicU64,
}

impl Pace {
    const SCALE: u64 = 16;

    pub(crate) fn new() -> Self {
        Self { sample_cost: AtomicU64::new(0) }
    }

    /// Notes that a task took a time.
    pub(crate) fn record(&self, num_samples: usize, took: Duration) {
        if num_samples == 0 {
            return;
        }
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(1 << 50);
        let cost = (took * Self::SCALE / num_samples as u64).max(1);
        let known = self.sample_cost.load(Ordering::Relaxed);
        // A larger task says more than a smaller one, but a task is always worth an eighth: costs change.
        let next = if known == 0 { cost } else { known - known / 8 + cost / 8 };
        // All workers read this and it hardly changes: as long as it is about right nobody writes to it.
        if next.abs_diff(known) > known / 32 {
            self.sample_cost.store(next.max(1), Ordering::Relaxed);
        }
    }

    /// The cost of some samples in nanoseconds, if any was seen yet.
    pub(crate) fn cost_ns(&self, num_samples: u64) -> Option<u64> {
        match self.sample_cost.load(Ordering::Relaxed) {
            0 => None,
            cost => Some(cost.saturating_mul(num_samples) / Self::SCALE),
        }
    }

    /// How many of the rows that are left of a batch make one task: all of a batch that is cheap, else a worker's share, so
    /// that all workers serve the batch that is due, but no less than is worth a claim. Until a cost is known it is one.
    pub(crate) fn rows_per_task(&self, num_rows: usize, left: usize, num_workers: usize) -> usize {
        let cost = match self.sample_cost.load(Ordering::Relaxed) {
            0 => return 1,
            cost => cost,
        };
        let (num_workers, scale) = (num_workers.max(1), |ns: u64| ns.saturating_mul(Self::SCALE));
        let claim_ns = CLAIM_NS.saturating_mul(num_workers as u64);
        let task_cost = scale(TASK_NS.max(claim_ns));
        if cost.saturating_mul(num_rows as u64) <= task_cost {
            return num_rows;
        }
        let most = usize::try_from(task_cost / cost).unwrap_or(usize::MAX).max(1);
        let worth_a_claim = scale(claim_ns).div_ceil(cost) as usize;
        most.min(left.div_ceil(num_workers).max(worth_a_claim))
    }

    /// Whether a task is so short that the consumer had better do it itself than sleep until somebody else has.
    pub(crate) fn is_shorter_than_a_wake_up(&self) -> bool {
        self.cost_ns(1).is_some_and(|cost| cost <= TASK_NS)
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;

    fn paced(sample_ns: u64) -> Pace {
        let pace = Pace::new();
        pace.record(1, Duration::from_nanos(sample_ns));
        pace
    }

    #[test]
    fn tasks_grow_as_samples_are_cheap() {
        let pace = Pace::new();
        assert_eq!((pace.rows_per_task(1000, 1000, 1), pace.is_shorter_than_a_wake_up()), (1, false));
        pace.record(100, Duration::from_micros(100));
        assert_eq!((pace.rows_per_task(1000, 1000, 1), pace.is_shorter_than_a_wake_up()), (40, true));
        for _ in 0..100 {
            pace.record(1, Duration::from_millis(10));
        }
        assert_eq!((pace.rows_per_task(1000, 1000, 1), pace.is_shorter_than_a_wake_up()), (1, false));
        for _ in 0..200 {
            pace.record(1000, Duration::from_micros(1));
        }
        assert_eq!(pace.rows_per_task(10_000, 10_000, 1), 10_000);
    }

    #[test]
    fn a_task_moves_the_estimate_by_an_eighth() {
        let pace = paced(1600);
        pace.record(10, Duration::from_nanos(32_000));
        assert_eq!(pace.cost_ns(1), Some(1800));
        pace.record(1, Duration::from_nanos(1000));
        assert_eq!(pace.cost_ns(2), Some(3400));
        // What is about right is left as it is, and nothing is said of no samples.
        pace.record(1, Duration::from_nanos(2000));
        pace.record(0, Duration::from_secs(1));
        assert_eq!(pace.cost_ns(1), Some(1700));
    }

    #[test]
    fn a_batch_is_shared_by_all_workers_unless_it_is_cheap() {
        // 40 samples are as long as a task may be.
        assert_eq!([1, 2, 4, 16].map(|workers| paced(1000).rows_per_task(64, 64, workers)), [40, 32, 16, 4]);
        assert_eq!([64, 33, 1].map(|left| paced(1000).rows_per_task(64, left, 2)), [32, 17, 1]);
        assert_eq!(paced(1000).rows_per_task(40, 40, 16), 40);
    }

    #[test]
    fn many_workers_claim_no_more_often_than_they_can() {
        // Each of 256 takes 51 us and more, so that there is a claim in 200 ns.
        assert_eq!(paced(5_000).rows_per_task(512, 512, 256), 10);
        assert_eq!(paced(20_000).rows_per_task(512, 512, 256), 2);
        assert_eq!(paced(100_000).rows_per_task(512, 512, 256), 1);
        assert_eq!(paced(100).rows_per_task(512, 512, 256), 512);
        // Two of them hardly get in each other's way.
        assert_eq!(paced(5_000).rows_per_task(512, 10, 2), 5);
        assert_eq!(paced(20_000).rows_per_task(512, 2, 2), 1);
    }
}
