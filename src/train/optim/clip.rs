//! Gradient clipping.

use super::Params;
use crate::{Error, ErrorKind, Result};

/// A bound on gradients, applied to those of a whole step before the optimiser sees them.
///
/// # Examples
///
/// ```
/// use procession::train::{Clip, Model};
///
/// let mut model = Model::builder(2).dense("logits", 2).build()?;
/// model.loss_and_gradients(&ndarray::array![[30.0, 40.0]], &[0])?;
/// let norm = model.clip_gradients(Clip::Norm(1.0))?;
/// assert!(norm > 1.0);
/// assert!((model.clip_gradients(Clip::Norm(1.0))? - 1.0).abs() < 1e-5);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Clip {
    /// All gradients are scaled by one factor so that the norm of all of them together is at most this; above 0.
    ///
    /// Source: Pascanu, Mikolov and Bengio, *On the difficulty of training recurrent neural networks*, ICML 2013. The
    /// same as PyTorch's `clip_grad_norm_` and Keras's `global_clipnorm`.
    Norm(f32),
    /// Each element is brought into `[-value, value]`; above 0.
    Value(f32),
}

impl Clip {
    pub(in crate::train) fn check(self) -> Result<()> {
        let (Self::Norm(limit) | Self::Value(limit)) = self;
        if limit > 0.0 {
            return Ok(());
        }
        Err(Error::argument(format!("gradients clipped to {limit}, expected a number above 0")))
    }

    /// Clips the gradients, and returns the norm that they had.
    pub(in crate::train) fn apply(self, params: &mut Params<'_>) -> Result<f64> {
        let mut squares = 0.0;
        params.for_each(|_, param| squares += sum_of_squares(param.grads()));
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Err(Error::new(ErrorKind::Numeric, format!("the norm of the gradients is {norm}")));
        }
        match self {
            Self::Norm(limit) if norm > f64::from(limit) => {
                let factor = (f64::from(limit) / norm) as f32;
                params.for_each(|_, param| param.grads_mut().iter_mut().for_each(|g| *g *= factor));
            }
            Self::Norm(_) => {}
            Self::Value(limit) => {
                params.for_each(|_, param| param.grads_mut().iter_mut().for_each(|g| *g = g.clamp(-limit, limit)));
            }
        }
        Ok(norm)
    }
}

/// In `f64`, and in lanes, which the compiler turns into vector instructions without changing the order.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 16];
    let mut chunks = values.chunks_exact(lanes.len());
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += f64::from(x) * f64::from(x));
    }
    lanes.iter_mut().zip(chunks.remainder()).for_each(|(lane, &x)| *lane += f64::from(x) * f64::from(x));
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::super::Model;
    use super::*;

    fn clipped(clip: Clip, gradients: [f32; 2]) -> (f64, Vec<f32>) {
        let mut model = Model::builder(1).dense("d", 1).build().unwrap();
        let mut gradients = gradients.into_iter();
        model.for_each_param_mut(|_, param| param.grads_mut()[0] = gradients.next().unwrap()).unwrap();
        let norm = model.clip_gradients(clip).unwrap();
        let mut after = Vec::new();
        model.for_each_param(|_, param| after.push(param.grads()[0]));
        (norm, after)
    }

    #[test]
    fn gradients_are_clipped_by_norm_or_by_value() {
        assert_eq!(clipped(Clip::Norm(5.0), [3.0, -4.0]), (5.0, vec![3.0, -4.0]));
        assert_eq!(clipped(Clip::Norm(1.0), [3.0, -4.0]), (5.0, vec![3.0 * 0.2, -4.0 * 0.2]));
        assert_eq!(clipped(Clip::Value(3.5), [3.0, -4.0]), (5.0, vec![3.0, -3.5]));
        let mut model = Model::builder(1).dense("d", 1).build().unwrap();
        model.for_each_param_mut(|_, param| param.grads_mut()[0] = f32::INFINITY).unwrap();
        for clip in [Clip::Norm(1.0), Clip::Value(1.0)] {
            let error = model.clip_gradients(clip).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Numeric);
            assert_eq!(error.to_string(), "the norm of the gradients is inf at step 0");
        }
        assert_eq!(model.gradient("d/bias").unwrap()[[0]], f32::INFINITY);
        assert!(model.clip_gradients(Clip::Norm(0.0)).is_err());
        assert!(model.clip_gradients(Clip::Value(f32::NAN)).is_err());
        model.set_param("d/bias", array![1.0].view().into_dyn()).unwrap();
    }

    #[test]
    fn long_sums_are_whole() {
        let values: Vec<f32> = (0..1003).map(|x| x as f32).collect();
        let expected: f64 = (0..1003).map(|x| f64::from(x * x)).sum();
        assert_eq!(sum_of_squares(&values), expected);
    }
}
