//! Metrics: how well a model does.

use ndarray::{ArrayView1, ArrayView2};

/// What a batch gave: its mean loss, and how many rows were right.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The mean loss over the rows.
    pub loss: f32,
    /// The rows whose largest output is the label's.
    pub correct: usize,
    /// The number of rows.
    pub samples: usize,
}

impl Score {
    /// The fraction of rows that were right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }
}

/// Running totals over batches, each weighted by its number of rows.
///
/// # Examples
///
/// ```
/// use procession::train::Totals;
///
/// let mut totals = Totals::default();
/// totals.add_counts(0.5, 3, 4);
/// totals.add_counts(2.0, 0, 1);
/// assert_eq!((totals.mean_loss(), totals.accuracy(), totals.samples()), (0.8, 0.6, 5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// The loss summed over rows, in `f64`: an epoch has more rows than an `f32` sum bears.
    loss: f64,
    correct: u64,
    samples: u64,
}

impl Totals {
    /// Adds a batch.
    pub fn add(&mut self, score: &Score) {
        self.add_counts(score.loss, score.correct, score.samples);
    }

    /// Adds a batch by its mean loss, its right rows and its rows.
    pub fn add_counts(&mut self, mean_loss: f32, correct: usize, samples: usize) {
        self.loss += f64::from(mean_loss) * samples as f64;
        self.correct += correct as u64;
        self.samples += samples as u64;
    }

    /// The mean loss over all rows; NaN before the first.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// The fraction of rows that were right; NaN before the first.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }

    /// The number of rows.
    pub fn samples(&self) -> u64 {
        self.samples
    }
}

/// The number of rows whose largest output is the label's; the first of several equal ones counts. A row with a NaN is
/// wrong.
pub fn count_correct(outputs: ArrayView2<'_, f32>, labels: ArrayView1<'_, u32>) -> usize {
    let right = |(row, label): &(ArrayView1<'_, f32>, &u32)| {
        let label = **label as usize;
        row.get(label).is_some_and(|&at_label| {
            row.iter().enumerate().all(|(class, &value)| value < at_label || (class >= label && value == at_label))
        })
    };
    outputs.outer_iter().zip(labels).filter(right).count()
}

#[cfg(test)]
mod tests {
    use ndarray::{array, aview1};

    use super::*;

    #[test]
    fn the_first_largest_output_is_the_answer() {
        let outputs = array![[1.0, 2.0], [3.0, 3.0], [3.0, 3.0], [f32::NAN, 1.0], [0.0, 1.0]];
        let right = |labels: &[u32]| count_correct(outputs.view(), aview1(labels));
        assert_eq!(right(&[1, 0, 0, 1, 1]), 4);
        assert_eq!(right(&[0, 1, 1, 0, 0]), 0);
        assert_eq!(right(&[9, 9, 9, 9, 9]), 0);
    }
}
