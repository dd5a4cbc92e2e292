//! Metrics: how well a model does.

use std::fmt;

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::input::Targets;
use crate::{Error, ErrorKind, Result};

/// What a batch gave: its mean loss, and how many rows were right.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The mean loss over the rows.
    pub loss: f32,
    /// The number of rows.
    pub samples: usize,
    /// The rows that were right, if the loss has a notion of it ([`Loss::count_correct`](super::Loss::count_correct)).
    pub correct: Option<usize>,
}

impl Score {
    /// The fraction of rows that were right; NaN if the loss has no notion of it.
    pub fn accuracy(&self) -> f64 {
        self.correct.map_or(f64::NAN, |correct| correct as f64 / self.samples as f64)
    }
}

/// Running totals over batches, each weighted by its number of rows.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::train::{Model, Totals};
///
/// let mut model = Model::builder(2).dense("logits", 2).build()?;
/// let mut totals = Totals::default();
/// totals.add(&model.evaluate(&array![[0.0, 0.0], [0.0, 0.0]], &[0, 1])?);
/// totals.add(&model.evaluate(&array![[0.0, 0.0]], &[0])?);
/// assert_eq!((totals.mean_loss() as f32, totals.accuracy(), totals.samples()), (2.0_f32.ln(), 2.0 / 3.0, 3));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// The loss summed over rows, in `f64`: an epoch has more rows than an `f32` sum bears.
    pub(super) loss: f64,
    pub(super) correct: u64,
    /// The rows of which it is known whether they are right.
    pub(super) judged: u64,
    pub(super) samples: u64,
}

impl Totals {
    /// Adds a batch.
    pub fn add(&mut self, score: &Score) {
        self.loss += f64::from(score.loss) * score.samples as f64;
        self.samples += score.samples as u64;
        if let Some(correct) = score.correct {
            self.correct += correct as u64;
            self.judged += score.samples as u64;
        }
    }

    /// The mean loss over all rows; NaN before the first.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// The fraction of rows that were right; NaN before the first, or if the loss has no notion of it.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.judged as f64
    }

    /// The number of rows.
    pub fn samples(&self) -> u64 {
        self.samples
    }
}

/// What an evaluation gathers over batches, besides the loss and the accuracy.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::train::{Metric, Targets, TopK};
///
/// let mut top2 = TopK::new(2);
/// let outputs = array![[0.1, 0.3, 0.6], [0.8, 0.2, 0.0]];
/// top2.update(outputs.view(), Targets::from(&[1, 2]))?;
/// assert_eq!(top2.values(), [("top_2_accuracy".to_owned(), 0.5)]);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Metric: fmt::Debug + Send {
    /// Forgets all batches.
    fn reset(&mut self);

    /// Adds a batch: `outputs` is `(batch, outputs)`, and what the loss is computed from, that is, logits where the loss
    /// takes logits.
    ///
    /// # Errors
    ///
    /// Targets that do not fit the outputs.
    fn update(&mut self, outputs: ArrayView2<'_, f32>, targets: Targets<'_>) -> Result<()>;

    /// The values over all batches so far, by name; NaN where there were none.
    fn values(&self) -> Vec<(String, f64)>;
}

fn labels_of<'a>(targets: Targets<'a>, metric: &str) -> Result<ArrayView1<'a, u32>> {
    match targets {
        Targets::Labels(labels) => Ok(labels),
        Targets::Values(_) => {
            Err(Error::argument(format!("values as targets, expected the integer labels of a {metric}")))
        }
    }
}

/// The fraction of rows whose label is among the `k` largest outputs: those with fewer than `k` outputs above the
/// label's, or equal to it and before it. A row with a NaN is wrong.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    correct: u64,
    samples: u64,
}

impl TopK {
    /// Among the `k` largest.
    ///
    /// # Panics
    ///
    /// If `k` is 0.
    pub fn new(k: usize) -> Self {
        assert!(k > 0, "the 0 largest outputs, expected at least 1");
        Self { k, correct: 0, samples: 0 }
    }
}

impl Metric for TopK {
    fn reset(&mut self) {
        *self = Self::new(self.k);
    }

    fn update(&mut self, outputs: ArrayView2<'_, f32>, targets: Targets<'_>) -> Result<()> {
        for (row, &label) in outputs.outer_iter().zip(labels_of(targets, "top-k accuracy")?) {
            let label = label as usize;
            let is_right = row.get(label).is_some_and(|&at_label| {
                let before = |(class, &value): (usize, &f32)| value > at_label || (value == at_label && class < label);
                !row.iter().any(|value| value.is_nan())
                    && row.iter().enumerate().filter(|&at| before(at)).count() < self.k
            });
            self.correct += u64::from(is_right);
            self.samples += 1;
        }
        Ok(())
    }

    fn values(&self) -> Vec<(String, f64)> {
        vec![(format!("top_{}_accuracy", self.k), self.correct as f64 / self.samples as f64)]
    }
}

/// How often each class was taken for each other.
///
/// As a metric it gives the means over classes of precision, recall and F1, as `precision`, `recall` and `f1`. A class
/// that has no rows, or that nothing was taken for, counts with 0 where its value is 0 / 0, as in scikit-learn.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::train::{ConfusionMatrix, Metric, Targets};
///
/// let mut confusion = ConfusionMatrix::new(2);
/// let outputs = array![[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]];
/// confusion.update(outputs.view(), Targets::from(&[0, 0, 1]))?;
/// assert_eq!(confusion.counts(), array![[1, 1], [0, 1]]);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    counts: Array2<u64>,
}

impl ConfusionMatrix {
    /// For so many classes.
    pub fn new(num_classes: usize) -> Self {
        Self { counts: Array2::zeros((num_classes, num_classes)) }
    }

    /// The number of rows by label (row) and by answer (column), `(classes, classes)`. The answer is the first largest
    /// output.
    pub fn counts(&self) -> ArrayView2<'_, u64> {
        self.counts.view()
    }

    /// For a class: how many rows of it were right, have its label, and were taken for it.
    fn of_class(&self, class: usize) -> [f64; 3] {
        [self.counts[[class, class]], self.counts.row(class).sum(), self.counts.column(class).sum()]
            .map(|count| count as f64)
    }

    fn mean(&self, of_class: impl Fn([f64; 3]) -> f64) -> f64 {
        let num_classes = self.counts.nrows();
        if self.counts.sum() == 0 {
            return f64::NAN;
        }
        (0..num_classes).map(|class| of_class(self.of_class(class))).sum::<f64>() / num_classes as f64
    }
}

impl Metric for ConfusionMatrix {
    fn reset(&mut self) {
        self.counts.fill(0);
    }

    fn update(&mut self, outputs: ArrayView2<'_, f32>, targets: Targets<'_>) -> Result<()> {
        let (labels, num_classes) = (labels_of(targets, "confusion matrix")?, self.counts.nrows());
        if outputs.ncols() != num_classes {
            let message = format!("{} outputs, expected the {num_classes} classes of the matrix", outputs.ncols());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= num_classes) {
            return Err(Error::argument(format!("label {label}, expected one below {num_classes}")));
        }
        for (row, &label) in outputs.outer_iter().zip(labels) {
            let larger = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
            let answer = (1..num_classes).fold(0, larger);
            self.counts[[label as usize, answer]] += 1;
        }
        Ok(())
    }

    fn values(&self) -> Vec<(String, f64)> {
        let ratio = |above: f64, below: f64| if below == 0.0 { 0.0 } else { above / below };
        vec![
            ("precision".to_owned(), self.mean(|[right, _, taken]| ratio(right, taken))),
            ("recall".to_owned(), self.mean(|[right, labelled, _]| ratio(right, labelled))),
            ("f1".to_owned(), self.mean(|[right, labelled, taken]| ratio(2.0 * right, labelled + taken))),
        ]
    }
}

/// A table with a row for each label and a column for each answer.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.counts.nrows().saturating_sub(1);
        let width = self.counts.iter().map(|count| count.to_string().len()).max().unwrap_or(1);
        let width = width.max(last.to_string().len());
        let title = "label \\ answer".len();
        write!(f, "label \\ answer")?;
        (0..=last).try_for_each(|class| write!(f, "  {class:>width$}"))?;
        for (label, row) in self.counts.outer_iter().enumerate() {
            write!(f, "\n{label:>title$}")?;
            row.iter().try_for_each(|count| write!(f, "  {count:>width$}"))?;
        }
        Ok(())
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

    #[test]
    fn the_label_among_the_largest_is_right() {
        let outputs = array![[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [f32::NAN, 2.0, 3.0]];
        let top = |k, labels: &[u32]| {
            let mut top = TopK::new(k);
            top.update(outputs.view(), Targets::from(labels)).unwrap();
            top.values()[0].1
        };
        assert_eq!([1, 2, 3].map(|k| top(k, &[1, 0, 1, 1])), [0.0, 0.5, 0.75]);
        assert_eq!([1, 2, 3].map(|k| top(k, &[0, 2, 0, 2])), [0.75; 3]);
        let mut top = TopK::new(1);
        top.update(outputs.view(), Targets::from(&[0, 0, 0, 0])).unwrap();
        top.reset();
        assert!(top.values()[0].1.is_nan());
        assert!(top.update(outputs.view(), Targets::from(&outputs)).is_err());
    }

    #[test]
    fn a_confusion_matrix_counts_and_sums_up() {
        let mut confusion = ConfusionMatrix::new(3);
        assert!(confusion.values().iter().all(|(_, value)| value.is_nan()));
        let outputs = array![[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]];
        confusion.update(outputs.view(), Targets::from(&[0, 1, 1, 1, 0])).unwrap();
        assert_eq!(confusion.counts(), array![[2, 0, 0], [1, 2, 0], [0, 0, 0]]);
        let values: Vec<f64> = confusion.values().into_iter().map(|(_, value)| value).collect();
        let expected = [(2.0 / 3.0 + 1.0) / 3.0, (1.0 + 2.0 / 3.0) / 3.0, (0.8 + 0.8) / 3.0];
        assert!(values.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{values:?}");
        let table =
            "label \\ answer  0  1  2\n             0  2  0  0\n             1  1  2  0\n             2  0  0  0";
        assert_eq!(confusion.to_string(), table);
        let error = confusion.update(outputs.view(), Targets::from(&[0, 1, 3, 1, 0])).unwrap_err();
        assert_eq!(error.to_string(), "label 3, expected one below 3");
        assert!(ConfusionMatrix::new(2).update(outputs.view(), Targets::from(&[0; 5])).is_err());
        confusion.reset();
        assert_eq!(confusion, ConfusionMatrix::new(3));
    }
}
