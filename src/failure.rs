//! What happens when a sample cannot be loaded, and the receipt that accounts for every one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, SharedError};
use crate::rng::Visit;

/// What happens to an epoch in which a sample cannot be loaded.
///
/// Either way every batch before the failed sample's is delivered, and the outcome does not depend on the number of
/// workers or on timing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum OnFailure {
    /// The epoch ends with the error in place of the batch. The default.
    #[default]
    Stop,
    /// The sample is left out of its batch, and the receipt lists it. A batch of which nothing is left is not
    /// delivered.
    Skip(FailureBudget),
}

/// How many samples may fail before skipping gives up and the epoch ends with an error of kind
/// [`ErrorKind::Budget`]. No limit by default.
///
/// # Examples
///
/// ```
/// use procession::{FailureBudget, OnFailure};
///
/// let at_most_ten = OnFailure::Skip(FailureBudget::default().count(10));
/// let a_fifth = OnFailure::Skip(FailureBudget::default().rate(0.2, 100));
/// # let _ = (at_most_ten, a_fifth);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FailureBudget {
    count: Option<u64>,
    rate: Option<(f64, u64)>,
}

impl FailureBudget {
    /// At most `count` samples of an epoch may fail.
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// At most the fraction `rate` (0 to 1) of the samples visited so far may have failed, once `after` samples have
    /// been visited.
    pub fn rate(mut self, rate: f64, after: u64) -> Self {
        self.rate = Some((rate, after));
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.rate {
            Some((rate, _)) if !(0.0..=1.0).contains(&rate) => {
                Err(Error::argument(format!("failure rate {rate}, expected 0 to 1")))
            }
            _ => Ok(()),
        }
    }

    /// Whether `failed` of `visited` samples are too many.
    fn is_exceeded(&self, failed: u64, visited: u64) -> bool {
        self.count.is_some_and(|count| failed > count)
            || self.rate.is_some_and(|(rate, after)| visited >= after && failed as f64 > rate * visited as f64)
    }

    /// The number of visited samples at which the rate begins to count.
    fn after(&self) -> Option<u64> {
        self.rate.map(|(_, after)| after)
    }
}

/// How often and when a failed sample is tried again.
///
/// Only errors are retried: a panic is a defect that will come again, and a sample that timed out still occupies its
/// thread. A request ([`Loader::remote`](crate::Loader::remote)) that timed out is given up and retried.
///
/// Each pause is shorter than its delay by a random part of half of it, so that what failed together is not tried again
/// together. The part follows from the visit and the number of the retry.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use procession::Retry;
///
/// let retry = Retry::times(3).backoff(Duration::from_millis(50), 2.0, Duration::from_secs(5));
/// assert_eq!(retry.delay(0), Duration::from_millis(50));
/// assert_eq!(retry.delay(1), Duration::from_millis(100));
/// assert_eq!(retry.delay(20), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    times: u32,
    first: Duration,
    factor: f64,
    most: Duration,
}

/// How much shorter than its delay a pause may be.
const JITTER: f64 = 0.5;

impl Default for Retry {
    fn default() -> Self {
        Self::times(0)
    }
}

impl Retry {
    /// Tries a sample again up to `times` times, 10 ms after the first failure and twice as long after each further
    /// one, 10 s at most.
    pub fn times(times: u32) -> Self {
        Self { times, first: Duration::from_millis(10), factor: 2.0, most: Duration::from_secs(10) }
    }

    /// Sets the delay before the first retry, the factor by which it grows with each further one (taken as 1 if it is
    /// less or not a number), and the longest one.
    pub fn backoff(mut self, first: Duration, factor: f64, most: Duration) -> Self {
        (self.first, self.factor, self.most) = (first, factor.max(1.0), most);
        self
    }

    /// The longest delay before retry `number`, counted from 0.
    pub fn delay(&self, number: u32) -> Duration {
        let factor = self.factor.powi(number.min(1000) as i32);
        let delay = Duration::try_from_secs_f64(self.first.as_secs_f64() * factor);
        delay.map_or(self.most, |delay| delay.min(self.most))
    }

    /// The pause before retry `number` of a visit.
    pub(crate) fn pause(&self, number: u32, visit: &Visit) -> Duration {
        // A stream that no stage has: those are counted from 0.
        let part = visit.rng(u64::MAX - u64::from(number)).uniform();
        self.delay(number).mul_f64(1.0 - JITTER * part)
    }

    pub(crate) fn num_retries(&self) -> u32 {
        self.times
    }
}

/// A sample that was left out, and why.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// Its position in the epoch's global order.
    pub position: u64,
    /// Its index, unless it was the sampler that failed.
    pub index: Option<u64>,
    /// What kept it from being loaded.
    pub error: Arc<Error>,
}

/// The account of an epoch, or of the part of it that was delivered. `delivered + skipped` is the length of the part
/// of this rank, less what a dropped tail leaves out, plus padding.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Receipt {
    /// The epoch.
    pub epoch: u64,
    /// How many samples were to be delivered to this rank, padding included; less than the whole epoch after a resume.
    pub expected: u64,
    /// How many samples were delivered, padding included.
    pub delivered: u64,
    /// How many of the delivered ones were padding.
    pub padded: u64,
    /// How many batches were delivered.
    pub num_batches: u64,
    /// The samples that were left out, in the plan's order.
    pub skipped: Vec<Skipped>,
}

impl Receipt {
    pub(crate) fn new(epoch: u64, expected: u64) -> Self {
        Self { epoch, expected, delivered: 0, padded: 0, num_batches: 0, skipped: Vec::new() }
    }

    /// Whether every sample was delivered or is listed as skipped. It is false for an epoch that was left early or
    /// ended with an error.
    pub fn is_complete(&self) -> bool {
        self.delivered + self.skipped.len() as u64 == self.expected
    }

    /// Notes that samples up to a number were visited without a failure since the last one: the rate may begin to
    /// count in between.
    pub(crate) fn pass(&mut self, from: u64, to: u64, budget: &FailureBudget) -> Result<()> {
        let failed = self.skipped.len() as u64;
        match (budget.after(), self.skipped.last()) {
            (Some(after), Some(last)) if from < after && after <= to && budget.is_exceeded(failed, after) => {
                Err(self.exceeded(last, failed, after, budget))
            }
            _ => Ok(()),
        }
    }

    fn exceeded(&self, last: &Skipped, failed: u64, visited: u64, budget: &FailureBudget) -> Error {
        let message = format!("{failed} of the first {visited} samples failed, more than {budget}");
        let error = Error::new(ErrorKind::Budget, message).with_cause(SharedError(Arc::clone(&last.error)));
        let error = error.with_place(self.epoch, last.position);
        match last.index {
            Some(index) => error.with_index(index),
            None => error,
        }
    }

    /// Lists a sample as skipped, unless that exceeds the budget. `visited` counts the samples up to and including
    /// this one.
    pub(crate) fn skip(&mut self, skipped: Skipped, visited: u64, budget: &FailureBudget) -> Result<()> {
        let failed = self.skipped.len() as u64 + 1;
        if budget.is_exceeded(failed, visited) {
            return Err(self.exceeded(&skipped, failed, visited, budget));
        }
        self.skipped.push(skipped);
        Ok(())
    }
}

impl fmt::Display for FailureBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.count, self.rate) {
            (None, None) => f.write_str("any number"),
            (Some(count), None) => write!(f, "{count}"),
            (None, Some((rate, after))) => write!(f, "{} % after {after}", rate * 100.0),
            (Some(count), Some((rate, after))) => write!(f, "{count}, or {} % after {after}", rate * 100.0),
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "epoch {}: {} of {} samples delivered in {} batches ({} padded), {} skipped",
            self.epoch,
            self.delivered,
            self.expected,
            self.num_batches,
            self.padded,
            self.skipped.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        let none = FailureBudget::default();
        assert!(!none.is_exceeded(1_000_000, 1_000_000));
        let count = none.count(3);
        assert!(!count.is_exceeded(3, 3) && count.is_exceeded(4, 1000));
        let rate = none.rate(0.2, 100);
        assert!(!rate.is_exceeded(99, 99) && !rate.is_exceeded(20, 100) && rate.is_exceeded(21, 100));
        assert!(none.rate(1.5, 0).check().is_err() && none.rate(f64::NAN, 0).check().is_err() && rate.check().is_ok());
    }

    #[test]
    fn delays_grow_to_the_longest() {
        let retry = Retry::times(2).backoff(Duration::from_millis(1), 10.0, Duration::from_millis(50));
        let delays: Vec<_> = (0..4).map(|number| retry.delay(number).as_millis()).collect();
        assert_eq!(delays, [1, 10, 50, 50]);
        assert_eq!(retry.backoff(Duration::from_secs(1), f64::NAN, Duration::MAX).delay(9), Duration::from_secs(1));
        assert_eq!(retry.backoff(Duration::MAX, 1e300, Duration::MAX).delay(u32::MAX), Duration::MAX);
    }
}
