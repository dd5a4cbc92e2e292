//! Losses: how far a model's outputs are from the targets, and in which direction.

use std::fmt;

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};

use super::input::Targets;
use super::layer::Role;
use super::layers::sigmoid;
use crate::{Error, ErrorKind, Result};

/// A function of a batch of outputs and its targets, with its gradient.
///
/// # Examples
///
/// The mean absolute error:
///
/// ```
/// use ndarray::{ArrayView2, ArrayViewMut2, Zip, array};
/// use procession::train::{Loss, Model, Targets};
/// use procession::{Error, ErrorKind, Result};
///
/// #[derive(Debug)]
/// struct MeanAbsoluteError;
///
/// impl Loss for MeanAbsoluteError {
///     fn loss(
///         &self,
///         outputs: ArrayView2<'_, f32>,
///         targets: Targets<'_>,
///         gradient: Option<ArrayViewMut2<'_, f32>>,
///     ) -> Result<f32> {
///         let Targets::Values(values) = targets else {
///             return Err(Error::new(ErrorKind::Argument, "labels, expected values"));
///         };
///         let scale = 1.0 / outputs.len() as f32;
///         if let Some(mut gradient) = gradient {
///             Zip::from(&mut gradient).and(outputs).and(values).for_each(|g, y, t| *g = scale * (y - t).signum());
///         }
///         Ok(scale * Zip::from(outputs).and(values).fold(0.0, |sum, y, t| sum + (y - t).abs()))
///     }
/// }
///
/// let mut model = Model::builder(2).dense("d", 1).loss(MeanAbsoluteError).build()?;
/// let score = model.evaluate(&array![[0.0, 0.0]], &array![[3.0]])?;
/// assert_eq!(score.loss, 3.0);
/// # Ok::<(), Error>(())
/// ```
pub trait Loss: fmt::Debug + Send + Sync {
    /// The mean loss over the batch. If `gradient` is given, the gradient with respect to the outputs is written to it;
    /// it has their shape, `(batch, outputs)`.
    ///
    /// # Errors
    ///
    /// Targets that do not fit the outputs, or a batch without rows. A result that is not finite is not an error here:
    /// the model reports it with the step.
    fn loss(
        &self,
        outputs: ArrayView2<'_, f32>,
        targets: Targets<'_>,
        gradient: Option<ArrayViewMut2<'_, f32>>,
    ) -> Result<f32>;

    /// The number of rows that are right, where that has a meaning. The targets are those that
    /// [`loss`](Self::loss) has accepted.
    fn count_correct(&self, _outputs: ArrayView2<'_, f32>, _targets: Targets<'_>) -> Option<usize> {
        None
    }

    /// The last layer that the loss has in itself: it takes what comes before a layer of this role, and a model that
    /// ends in one leaves it out.
    fn includes(&self) -> Role {
        Role::Plain
    }
}

/// Cross-entropy of integer labels, from logits: the mean over rows of `log(sum(exp(z))) - z[label]`.
///
/// Each row's largest logit is subtracted first, so that no finite logits overflow. The gradient is
/// `(softmax(z) - target) / batch`. The mean is summed in `f64`. With label smoothing `s` the target of the label is
/// `1 - s + s / classes` and that of every other class `s / classes`; without, 1 and 0.
///
/// A row is right if its largest logit is the label's; see [`count_correct`](super::count_correct).
///
/// Source for label smoothing: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, *Rethinking the inception architecture for
/// computer vision*, CVPR 2016, section 7; the same as PyTorch's and Keras's.
///
/// # Examples
///
/// ```
/// use ndarray::{array, aview1};
/// use procession::train::{Loss, SoftmaxCrossEntropy, Targets};
///
/// let logits = array![[0.0_f32, 0.0], [100.0, 0.0]];
/// let loss = SoftmaxCrossEntropy::new().loss(logits.view(), Targets::from(&[1, 0]), None)?;
/// assert!((loss - 0.5 * 2.0_f32.ln()).abs() < 1e-6);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SoftmaxCrossEntropy {
    label_smoothing: f32,
}

impl SoftmaxCrossEntropy {
    /// Without label smoothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The part of each target that is spread evenly over all classes; 0 by default, usually 0.1.
    ///
    /// # Panics
    ///
    /// If it is not in `[0, 1)`.
    #[must_use]
    pub fn label_smoothing(mut self, label_smoothing: f32) -> Self {
        assert!((0.0..1.0).contains(&label_smoothing), "label smoothing {label_smoothing}, expected 0 <= it < 1");
        self.label_smoothing = label_smoothing;
        self
    }
}

impl Loss for SoftmaxCrossEntropy {
    /// # Errors
    ///
    /// Values instead of labels, another number of labels than rows, a label that is not below the number of columns
    /// (the row and the value are named), or a batch without rows.
    fn loss(
        &self,
        logits: ArrayView2<'_, f32>,
        targets: Targets<'_>,
        mut gradient: Option<ArrayViewMut2<'_, f32>>,
    ) -> Result<f32> {
        let labels = labels(logits.dim(), targets)?;
        let scale = 1.0 / logits.nrows() as f32;
        let even = self.label_smoothing / logits.ncols() as f32;
        let mut total = 0.0_f64;
        for (row, (z, &label)) in logits.outer_iter().zip(labels).enumerate() {
            let label = label as usize;
            let max = z.fold(f32::NEG_INFINITY, |max, &z| max.max(z));
            let sum = match &mut gradient {
                Some(gradient) => softmax(z, max, scale, gradient.row_mut(row)),
                None => z.iter().map(|z| (z - max).exp()).sum(),
            };
            if let Some(gradient) = &mut gradient {
                let mut gradient = gradient.row_mut(row);
                if even > 0.0 {
                    gradient -= scale * even;
                }
                gradient[label] -= scale * (1.0 - self.label_smoothing);
            }
            let log_sum = sum.ln();
            let mut loss = (1.0 - self.label_smoothing) * (log_sum - (z[label] - max));
            if even > 0.0 {
                loss += even * z.iter().map(|z| log_sum - (z - max)).sum::<f32>();
            }
            total += f64::from(loss);
        }
        Ok((total / logits.nrows() as f64) as f32)
    }

    fn count_correct(&self, outputs: ArrayView2<'_, f32>, targets: Targets<'_>) -> Option<usize> {
        match targets {
            Targets::Labels(labels) => Some(super::metric::count_correct(outputs, labels)),
            Targets::Values(_) => None,
        }
    }

    fn includes(&self) -> Role {
        Role::Softmax
    }
}

/// Writes `scale * softmax(z)` and returns the sum of the exponentials.
fn softmax(z: ArrayView1<'_, f32>, max: f32, scale: f32, mut out: ArrayViewMut1<'_, f32>) -> f32 {
    let mut sum = 0.0;
    for (z, out) in z.iter().zip(&mut out) {
        *out = (z - max).exp();
        sum += *out;
    }
    out *= scale / sum;
    sum
}

/// Cross-entropy of independent probabilities, from logits: the mean over all elements of
/// `log(1 + exp(z)) - t z`, with targets `t` in `[0, 1]`.
///
/// Computed as `max(z, 0) - t z + log(1 + exp(-|z|))`, so that no finite logit overflows. The gradient is
/// `(sigmoid(z) - t) / elements`. The mean is summed in `f64`. Targets are values of the outputs' shape, or labels 0
/// and 1 of a model with one output.
///
/// A row is right if every output is on the target's side of 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BinaryCrossEntropy;

impl Loss for BinaryCrossEntropy {
    /// # Errors
    ///
    /// Targets of another shape than the outputs or outside of `[0, 1]`, or a batch without rows.
    fn loss(
        &self,
        logits: ArrayView2<'_, f32>,
        targets: Targets<'_>,
        mut gradient: Option<ArrayViewMut2<'_, f32>>,
    ) -> Result<f32> {
        let targets = Probabilities::new(logits.dim(), targets)?;
        let scale = 1.0 / logits.len() as f32;
        let mut total = 0.0_f64;
        for (at, &z) in logits.indexed_iter() {
            let t = targets.at(at);
            if !(0.0..=1.0).contains(&t) {
                return Err(Error::argument(format!("target {t} at row {}, expected 0 to 1", at.0)));
            }
            if let Some(gradient) = &mut gradient {
                gradient[at] = scale * (sigmoid(z) - t);
            }
            // Written so that a NaN passes.
            let positive = if z < 0.0 { 0.0 } else { z };
            total += f64::from(positive - t * z + (-z.abs()).exp().ln_1p());
        }
        Ok((total / logits.len() as f64) as f32)
    }

    fn count_correct(&self, outputs: ArrayView2<'_, f32>, targets: Targets<'_>) -> Option<usize> {
        let targets = Probabilities::new(outputs.dim(), targets).ok()?;
        let right = |row: &usize| {
            (0..outputs.ncols()).all(|column| {
                let z = outputs[[*row, column]];
                !z.is_nan() && (z > 0.0) == (targets.at((*row, column)) > 0.5)
            })
        };
        Some((0..outputs.nrows()).filter(right).count())
    }

    fn includes(&self) -> Role {
        Role::Sigmoid
    }
}

/// The mean over all elements of `(y - t)^2`, summed in `f64`. The gradient is `2 (y - t) / elements`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MeanSquaredError;

impl Loss for MeanSquaredError {
    /// # Errors
    ///
    /// Targets of another shape than the outputs, labels, or a batch without rows.
    fn loss(
        &self,
        outputs: ArrayView2<'_, f32>,
        targets: Targets<'_>,
        gradient: Option<ArrayViewMut2<'_, f32>>,
    ) -> Result<f32> {
        let Targets::Values(values) = targets else {
            return Err(Error::argument(
                "integer labels as targets, expected values: a mean squared error has no classes",
            ));
        };
        check_values(outputs.dim(), values.dim())?;
        let scale = 2.0 / outputs.len() as f32;
        if let Some(mut gradient) = gradient {
            ndarray::Zip::from(&mut gradient).and(outputs).and(values).for_each(|g, y, t| *g = scale * (y - t));
        }
        let squares = outputs.iter().zip(values).map(|(y, t)| f64::from(y - t).powi(2));
        Ok((squares.sum::<f64>() / outputs.len() as f64) as f32)
    }
}

/// The labels, after a check that there is one for each row, and that each names a column.
fn labels<'a>((rows, classes): (usize, usize), targets: Targets<'a>) -> Result<ArrayView1<'a, u32>> {
    let Targets::Labels(labels) = targets else {
        return Err(Error::argument("values as targets, expected integer labels"));
    };
    check_rows(rows, labels.len(), "labels")?;
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(row) => Err(Error::argument(format!(
            "label {} at row {row}, expected a label below {classes}, the number of outputs",
            labels[row]
        ))),
        None => Ok(labels),
    }
}

/// A target for each element.
#[derive(Clone, Copy)]
enum Probabilities<'a> {
    OfElements(ArrayView2<'a, f32>),
    OfRows(ArrayView1<'a, u32>),
}

impl<'a> Probabilities<'a> {
    /// The targets, after a check that there is one for each of the outputs.
    fn new(outputs: (usize, usize), targets: Targets<'a>) -> Result<Self> {
        match targets {
            Targets::Values(values) => {
                check_values(outputs, values.dim())?;
                Ok(Self::OfElements(values))
            }
            Targets::Labels(labels) if outputs.1 == 1 => {
                check_rows(outputs.0, labels.len(), "labels")?;
                Ok(Self::OfRows(labels))
            }
            Targets::Labels(_) => Err(Error::argument(format!(
                "integer labels for {} outputs, expected values in [0, 1] for each output, or a model with 1 output",
                outputs.1
            ))),
        }
    }

    fn at(&self, index: (usize, usize)) -> f32 {
        match self {
            Self::OfElements(values) => values[index],
            Self::OfRows(labels) => labels[index.0] as f32,
        }
    }
}

fn check_values(outputs: (usize, usize), values: (usize, usize)) -> Result<()> {
    check_rows(outputs.0, values.0, "rows of targets")?;
    if outputs.1 != values.1 {
        return Err(Error::new(ErrorKind::Shape, format!("{} targets a row for {} outputs", values.1, outputs.1)));
    }
    Ok(())
}

fn check_rows(rows: usize, targets: usize, what: &str) -> Result<()> {
    if rows == 0 {
        return Err(Error::new(ErrorKind::Shape, "the batch has no rows"));
    }
    if targets != rows {
        return Err(Error::new(ErrorKind::Shape, format!("{targets} {what} for {rows} rows")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn loss<'a>(logits: &Array2<f32>, labels: impl Into<Targets<'a>>) -> f32 {
        SoftmaxCrossEntropy::new().loss(logits.view(), labels.into(), None).unwrap()
    }

    #[test]
    fn gradients_match_finite_differences() {
        let outputs = array![[0.3, -1.2, 2.0], [0.0, 0.5, -0.5]];
        let (labels, values) = ([2_u32, 0], array![[0.0, 1.0, 0.25], [0.9, 0.0, 0.5]]);
        let one = array![[0.3], [-1.0]];
        let cases: [(&dyn Loss, &Array2<f32>, Targets<'_>); 6] = [
            (&SoftmaxCrossEntropy::new(), &outputs, Targets::from(&labels)),
            (&SoftmaxCrossEntropy::new().label_smoothing(0.3), &outputs, Targets::from(&labels)),
            (&BinaryCrossEntropy, &outputs, Targets::from(&values)),
            (&BinaryCrossEntropy, &one, Targets::from(&[0_u32, 1])),
            (&MeanSquaredError, &outputs, Targets::from(&values)),
            (&MeanSquaredError, &one, Targets::from(ArrayView1::from(&[0.5_f32, -2.0]))),
        ];
        for (loss, outputs, targets) in cases {
            let mut outputs = outputs.clone();
            let mut gradient = Array2::from_elem(outputs.dim(), f32::NAN);
            let with = loss.loss(outputs.view(), targets, Some(gradient.view_mut())).unwrap();
            assert_eq!(with, loss.loss(outputs.view(), targets, None).unwrap());
            let h = 1.0 / 128.0;
            for (index, &gradient) in gradient.indexed_iter() {
                let z = outputs[index];
                outputs[index] = z + h;
                let above = loss.loss(outputs.view(), targets, None).unwrap();
                outputs[index] = z - h;
                let below = loss.loss(outputs.view(), targets, None).unwrap();
                outputs[index] = z;
                // Truncation h^2 / 6 times a third derivative below 0.1, and rounding 2^-24 / h: both about 1e-5.
                assert!(((above - below) / (2.0 * h) - gradient).abs() < 1e-4, "{loss:?} at {index:?}");
            }
        }
    }

    #[test]
    fn values_of_the_formulas() {
        // Computed in double precision from the formulas.
        let logits = array![[1.0, 2.0, -1.0]];
        let smooth = SoftmaxCrossEntropy::new().label_smoothing(0.3);
        let found = smooth.loss(logits.view(), Targets::from(&[1]), None).unwrap();
        assert!((f64::from(found) - 0.749_012_216_8).abs() < 1e-6, "{found}");
        let found = BinaryCrossEntropy.loss(logits.view(), Targets::from(&array![[1.0, 0.0, 0.25]]), None).unwrap();
        assert!((f64::from(found) - 1.001_150_462_0).abs() < 1e-6, "{found}");
        let found = MeanSquaredError.loss(logits.view(), Targets::from(&array![[1.0, 0.0, 1.0]]), None).unwrap();
        assert!((found - 8.0 / 3.0).abs() < 1e-6, "{found}");
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = array![[1e30, -1e30, 0.0]];
        assert_eq!(loss(&logits, &[0]), 0.0);
        assert_eq!(loss(&logits, &[1]), 2e30);
        let targets = array![[1.0, 0.0, 1.0]];
        let mut gradient = Array2::zeros((1, 3));
        let found = BinaryCrossEntropy.loss(logits.view(), Targets::from(&targets), Some(gradient.view_mut())).unwrap();
        assert!((found - 2.0_f32.ln() / 3.0).abs() < 1e-6);
        assert!((&gradient - &array![[0.0, 0.0, -0.5 / 3.0]]).iter().all(|g| g.abs() < 1e-7));
    }

    #[test]
    fn a_nan_is_not_hidden() {
        let outputs = array![[f32::NAN]];
        assert!(BinaryCrossEntropy.loss(outputs.view(), Targets::from(&[1]), None).unwrap().is_nan());
        assert_eq!(BinaryCrossEntropy.count_correct(outputs.view(), Targets::from(&[0])), Some(0));
        assert!(MeanSquaredError.loss(outputs.view(), Targets::from(&outputs), None).unwrap().is_nan());
    }

    #[test]
    fn rows_on_the_right_side_are_counted() {
        let outputs = array![[2.0, -1.0], [2.0, 1.0], [-3.0, 4.0]];
        let targets = array![[1.0, 0.0], [0.7, 0.2], [0.1, 1.0]];
        assert_eq!(BinaryCrossEntropy.count_correct(outputs.view(), Targets::from(&targets)), Some(2));
        let one = array![[2.0], [-2.0], [0.5]];
        assert_eq!(BinaryCrossEntropy.count_correct(one.view(), Targets::from(&[1, 0, 0])), Some(2));
    }

    #[test]
    fn bad_targets_are_named() {
        let logits = Array2::zeros((4, 10));
        let softmax = SoftmaxCrossEntropy::new();
        let message = |loss: &dyn Loss, outputs: &Array2<f32>, targets: Targets<'_>| {
            loss.loss(outputs.view(), targets, None).unwrap_err().to_string()
        };
        assert_eq!(
            message(&softmax, &logits, Targets::from(&[0, 9, 3, 10])),
            "label 10 at row 3, expected a label below 10, the number of outputs"
        );
        assert_eq!(message(&softmax, &logits, Targets::from(&[0, 9, 3])), "3 labels for 4 rows");
        let empty = Array2::zeros((0, 10));
        let none: [u32; 0] = [];
        assert_eq!(message(&softmax, &empty, Targets::from(&none)), "the batch has no rows");
        assert_eq!(message(&BinaryCrossEntropy, &empty, Targets::from(&empty)), "the batch has no rows");
        let values = Array2::zeros((4, 9));
        assert_eq!(message(&softmax, &logits, Targets::from(&values)), "values as targets, expected integer labels");
        assert_eq!(message(&MeanSquaredError, &logits, Targets::from(&values)), "9 targets a row for 10 outputs");
        assert_eq!(
            message(&BinaryCrossEntropy, &logits, Targets::from(&[0; 4])),
            "integer labels for 10 outputs, expected values in [0, 1] for each output, or a model with 1 output"
        );
        let one = Array2::zeros((2, 1));
        assert_eq!(message(&BinaryCrossEntropy, &one, Targets::from(&[1, 2])), "target 2 at row 1, expected 0 to 1");
    }
}
