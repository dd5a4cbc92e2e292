//! Losses: how far a model's outputs are from the targets, and in which direction.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};

use crate::{Error, ErrorKind, Result};

/// A function of a batch of outputs and its targets of type `T`, with its gradient.
pub trait Loss<T> {
    /// The mean loss over the batch. If `gradient` is given, the gradient with respect to the outputs is written to it;
    /// it has their shape, `(batch, outputs)`.
    ///
    /// # Errors
    ///
    /// Targets that do not fit the outputs, or a batch without rows. A result that is not finite is not an error here:
    /// the model reports it with the step.
    fn loss(&self, outputs: ArrayView2<'_, f32>, targets: T, gradient: Option<ArrayViewMut2<'_, f32>>) -> Result<f32>;

    /// Whether the outputs are logits, so that a softmax at the end of the model has to be left out.
    fn takes_logits(&self) -> bool {
        false
    }
}

/// Cross-entropy of integer labels, from logits: the mean over rows of `log(sum(exp(z))) - z[label]`.
///
/// Each row's largest logit is subtracted first, so that no finite logits overflow. The gradient is
/// `(softmax(z) - onehot(label)) / batch`. The mean is summed in `f64`.
///
/// # Examples
///
/// ```
/// use ndarray::{array, aview1};
/// use procession::train::{Loss, SoftmaxCrossEntropy};
///
/// let logits = array![[0.0_f32, 0.0], [100.0, 0.0]];
/// let loss = SoftmaxCrossEntropy.loss(logits.view(), aview1(&[1, 0]), None)?;
/// assert!((loss - 0.5 * 2.0_f32.ln()).abs() < 1e-6);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SoftmaxCrossEntropy;

impl Loss<ArrayView1<'_, u32>> for SoftmaxCrossEntropy {
    /// # Errors
    ///
    /// Another number of labels than rows, a label that is not below the number of columns (the row and the value are
    /// named), or a batch without rows.
    fn loss(
        &self,
        logits: ArrayView2<'_, f32>,
        labels: ArrayView1<'_, u32>,
        mut gradient: Option<ArrayViewMut2<'_, f32>>,
    ) -> Result<f32> {
        check_labels(logits.dim(), labels)?;
        let scale = 1.0 / logits.nrows() as f32;
        let mut total = 0.0_f64;
        for (row, (z, &label)) in logits.outer_iter().zip(labels).enumerate() {
            let label = label as usize;
            let max = z.fold(f32::NEG_INFINITY, |max, &z| max.max(z));
            let sum = match &mut gradient {
                Some(gradient) => softmax_minus_onehot(z, label, max, scale, gradient.row_mut(row)),
                None => z.iter().map(|z| (z - max).exp()).sum(),
            };
            total += f64::from(sum.ln() - (z[label] - max));
        }
        Ok((total / logits.nrows() as f64) as f32)
    }

    fn takes_logits(&self) -> bool {
        true
    }
}

/// Writes the gradient of a row and returns the sum of its exponentials.
fn softmax_minus_onehot(
    z: ArrayView1<'_, f32>,
    label: usize,
    max: f32,
    scale: f32,
    mut out: ndarray::ArrayViewMut1<'_, f32>,
) -> f32 {
    let mut sum = 0.0;
    for (z, out) in z.iter().zip(&mut out) {
        *out = (z - max).exp();
        sum += *out;
    }
    let factor = scale / sum;
    out.iter_mut().for_each(|out| *out *= factor);
    out[label] -= scale;
    sum
}

/// Checks that there is a label for each row, and that each names a column.
pub(super) fn check_labels((rows, classes): (usize, usize), labels: ArrayView1<'_, u32>) -> Result<()> {
    if rows == 0 {
        return Err(Error::new(ErrorKind::Shape, "the batch has no rows"));
    }
    if labels.len() != rows {
        return Err(Error::new(ErrorKind::Shape, format!("{} labels for {rows} rows", labels.len())));
    }
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(row) => Err(Error::argument(format!(
            "label {} at row {row}, expected a label below {classes}, the number of outputs",
            labels[row]
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array, aview1};

    use super::*;

    fn loss(logits: &Array2<f32>, labels: &[u32]) -> f32 {
        SoftmaxCrossEntropy.loss(logits.view(), aview1(labels), None).unwrap()
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        let mut logits = array![[0.3, -1.2, 2.0], [0.0, 0.5, -0.5]];
        let labels = [2, 0];
        let mut gradient = Array2::zeros((2, 3));
        let with = SoftmaxCrossEntropy.loss(logits.view(), aview1(&labels), Some(gradient.view_mut())).unwrap();
        assert_eq!(with, loss(&logits, &labels));
        let h = 1.0 / 128.0;
        for index in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let z = logits[index];
            logits[index] = z + h;
            let above = loss(&logits, &labels);
            logits[index] = z - h;
            let below = loss(&logits, &labels);
            logits[index] = z;
            // Truncation h^2 / 6 times a third derivative below 0.1, and rounding 2^-24 / h: both about 1e-5.
            assert!(((above - below) / (2.0 * h) - gradient[index]).abs() < 1e-4, "{index:?}");
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = array![[1e30, -1e30, 0.0]];
        assert_eq!(loss(&logits, &[0]), 0.0);
        assert_eq!(loss(&logits, &[1]), 2e30);
    }

    #[test]
    fn bad_labels_are_named() {
        let logits = Array2::zeros((4, 10));
        let error = SoftmaxCrossEntropy.loss(logits.view(), aview1(&[0, 9, 3, 10]), None).unwrap_err();
        assert_eq!(error.to_string(), "label 10 at row 3, expected a label below 10, the number of outputs");
        let error = SoftmaxCrossEntropy.loss(logits.view(), aview1(&[0, 9, 3]), None).unwrap_err();
        assert_eq!(error.to_string(), "3 labels for 4 rows");
        let empty = Array2::zeros((0, 10));
        let error = SoftmaxCrossEntropy.loss(empty.view(), aview1(&[]), None).unwrap_err();
        assert_eq!(error.to_string(), "the batch has no rows");
    }
}
