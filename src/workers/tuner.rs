//! The number of workers, found by trying: double it while the consumer waits and that pays.

use std::time::{Duration, Instant};

use crate::report::Reading;

/// How long a number of workers is tried before it is judged: long against a task, short against a training run.
const TRIAL: Duration = Duration::from_millis(250);
/// How much faster twice the workers must be to stay.
const WORTHWHILE: f64 = 1.2;
/// Which part of the time the consumer must wait for more workers to be tried.
const HELD_UP: f64 = 0.2;
/// How many trials a verdict stands before it is questioned again: the work may have changed.
const PATIENCE: u32 = 120;

/// Decides how many workers there should be. A function of what it is told, the time included.
#[derive(Debug)]
pub(crate) struct Tuner {
    workers: usize,
    most: usize,
    // When the trial under way began, and what was counted then.
    since: Instant,
    before: Reading,
    // The rate with half the workers, if this trial is about whether twice as many pay.
    rate_to_beat: Option<f64>,
    // For how many more trials nothing is tried.
    rest: u32,
}

impl Tuner {
    pub(crate) fn new(workers: usize, most: usize, now: Instant) -> Self {
        let before = Reading { samples: 0, consumer_waited: Duration::ZERO };
        Self { workers, most, since: now, before, rate_to_beat: None, rest: 0 }
    }

    /// Looks at a reading, and says how many workers there should be from now on if that changes.
    pub(crate) fn decide(&mut self, now: Instant, reading: Reading) -> Option<usize> {
        let took = now.saturating_duration_since(self.since);
        if took < TRIAL {
            return None;
        }
        let seconds = took.as_secs_f64();
        let rate = reading.samples.saturating_sub(self.before.samples) as f64 / seconds;
        let waited = reading.consumer_waited.saturating_sub(self.before.consumer_waited).as_secs_f64() / seconds;
        (self.since, self.before) = (now, reading);
        // A trial that spans a pause between epochs, say, tells nothing.
        if took > 8 * TRIAL {
            return None;
        }
        let before = self.workers;
        if let Some(to_beat) = self.rate_to_beat.take()
            && rate < to_beat * WORTHWHILE
        {
            self.workers = (self.workers / 2).max(1);
            self.rest = PATIENCE;
        } else if self.rest > 0 {
            self.rest -= 1;
        } else if waited > HELD_UP && rate > 0.0 && self.workers * 2 <= self.most {
            self.rate_to_beat = Some(rate);
            self.workers *= 2;
        }
        (self.workers != before).then_some(self.workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a tuner on work whose rate follows from the number of workers; the consumer always waits.
    fn settled(mut workers: usize, rate: impl Fn(usize) -> f64, trials: u32) -> usize {
        let mut now = Instant::now();
        let mut tuner = Tuner::new(workers, 64, now);
        let mut reading = Reading { samples: 0, consumer_waited: Duration::ZERO };
        for _ in 0..trials {
            now += TRIAL;
            reading.samples += (rate(workers) * TRIAL.as_secs_f64()) as u64;
            reading.consumer_waited += TRIAL;
            workers = tuner.decide(now, reading).unwrap_or(workers);
        }
        workers
    }

    #[test]
    fn samples_that_wait_get_as_many_workers_as_there_may_be() {
        assert_eq!(settled(2, |workers| workers as f64 * 100.0, 20), 64);
        assert_eq!(settled(2, |workers| workers.min(16) as f64 * 100.0, 20), 16);
    }

    #[test]
    fn samples_that_compute_keep_one_worker_a_core() {
        assert_eq!(settled(2, |workers| workers.min(2) as f64 * 1000.0, 50), 2);
    }

    #[test]
    fn a_verdict_is_questioned_after_a_while() {
        let tries = std::cell::Cell::new(0);
        let rate = |workers| {
            tries.set(tries.get() + usize::from(workers == 4));
            1000.0
        };
        assert_eq!(settled(2, rate, 3 * PATIENCE), 2);
        assert_eq!(tries.get(), 3);
    }

    #[test]
    fn a_consumer_that_does_not_wait_changes_nothing() {
        let mut now = Instant::now();
        let mut tuner = Tuner::new(2, 64, now);
        for samples in (0..100).map(|trial| trial * 1000) {
            now += TRIAL;
            assert_eq!(tuner.decide(now, Reading { samples, consumer_waited: Duration::ZERO }), None);
        }
    }

    const MS: Duration = Duration::from_millis(1);

    /// What is decided after one trial in which the consumer waited so long, with so many workers of at most so many.
    fn after_one_trial(workers: usize, most: usize, took: Duration, waited: Duration, samples: u64) -> Option<usize> {
        let now = Instant::now();
        Tuner::new(workers, most, now).decide(now + took, Reading { samples, consumer_waited: waited })
    }

    #[test]
    fn twice_as_many_are_tried_if_the_consumer_waits_and_there_may_be_as_many() {
        for (workers, most, took, waited, samples, expected) in [
            (2, 64, TRIAL, 51 * MS, 1, Some(4)),
            (2, 64, TRIAL, 50 * MS, 1, None),
            (2, 64, TRIAL, 51 * MS, 0, None),
            (2, 64, TRIAL - MS, TRIAL, 1, None),
            (2, 64, 8 * TRIAL, 8 * TRIAL, 1, Some(4)),
            (2, 64, 8 * TRIAL + MS, 8 * TRIAL, 1, None),
            (2, 64, 4 * TRIAL, 51 * MS, 1, None),
            (4, 8, TRIAL, TRIAL, 1, Some(8)),
            (4, 7, TRIAL, TRIAL, 1, None),
        ] {
            let found = after_one_trial(workers, most, took, waited, samples);
            assert_eq!(found, expected, "{workers} of {most}, {waited:?} of {took:?}, {samples} samples");
        }
    }

    #[test]
    fn twice_as_many_stay_if_they_are_a_fifth_faster() {
        for (trials, samples, expected) in [(1, 240, None), (1, 239, Some(3)), (2, 480, None), (2, 479, Some(3))] {
            let now = Instant::now();
            let mut tuner = Tuner::new(3, 6, now);
            assert_eq!(tuner.decide(now + TRIAL, Reading { samples: 200, consumer_waited: TRIAL }), Some(6));
            let next = Reading { samples: 200 + samples, consumer_waited: (1 + trials) * TRIAL };
            assert_eq!(tuner.decide(now + (1 + trials) * TRIAL, next), expected);
        }
    }
}
