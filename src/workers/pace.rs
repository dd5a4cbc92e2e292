//! How many samples make one task, from what they were seen to cost.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// What a task should take. Long against handing one out (below a microsecond) and not longer than waking a thread
/// takes (tens of microseconds), so that the due batch never waits long for a task of a later one.
const TASK_NS: u64 = 40_000;

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
        self.sample_cost.store(next.max(1), Ordering::Relaxed);
    }

    /// The cost of some samples in nanoseconds, if any was seen yet.
    pub(crate) fn cost_ns(&self, num_samples: u64) -> Option<u64> {
        match self.sample_cost.load(Ordering::Relaxed) {
            0 => None,
            cost => Some(cost.saturating_mul(num_samples) / Self::SCALE),
        }
    }

    /// The number of samples that make one task. Until a cost is known it is one.
    pub(crate) fn samples_per_task(&self) -> usize {
        match self.sample_cost.load(Ordering::Relaxed) {
            0 => 1,
            cost => usize::try_from(TASK_NS * Self::SCALE / cost).unwrap_or(usize::MAX).max(1),
        }
    }

    /// Whether a task is so short that the consumer had better do it itself than sleep until somebody else has.
    pub(crate) fn is_shorter_than_a_wake_up(&self) -> bool {
        self.cost_ns(1).is_some_and(|cost| cost <= TASK_NS)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn tasks_grow_as_samples_are_cheap() {
        let pace = Pace::new();
        assert_eq!((pace.samples_per_task(), pace.is_shorter_than_a_wake_up()), (1, false));
        pace.record(100, Duration::from_micros(100));
        assert_eq!((pace.samples_per_task(), pace.is_shorter_than_a_wake_up()), (40, true));
        for _ in 0..100 {
            pace.record(1, Duration::from_millis(10));
        }
        assert_eq!((pace.samples_per_task(), pace.is_shorter_than_a_wake_up()), (1, false));
        for _ in 0..200 {
            pace.record(1000, Duration::from_micros(1));
        }
        assert!(pace.samples_per_task() > 10_000);
    }
}
