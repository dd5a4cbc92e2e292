//! Activations: layers without parameters, element by element or row by row.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::layer::{Backward, Forward, Layer, map, map2};
use super::stream::Stream;
use crate::Result;

/// `max(x, 0)`, element by element. Its derivative at 0 is taken as 0. A NaN stays a NaN.
#[derive(Debug, Clone, Copy, Default)]
pub struct Relu;

impl Layer for Relu {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        Ok(input_width)
    }

    fn forward(&self, x: ArrayView2<'_, f32>, y: ArrayViewMut2<'_, f32>, _pass: &mut Forward<'_>) -> Result<()> {
        // Written so that a NaN passes: `f32::max` would hide it.
        map(x, y, |x| if x < 0.0 { 0.0 } else { x });
        Ok(())
    }

    fn backward(
        &mut self,
        _x: ArrayView2<'_, f32>,
        y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        _pass: &Backward<'_>,
    ) -> Result<()> {
        if let Some(dx) = dx {
            map2(y, dy, dx, |y, dy| if y > 0.0 { dy } else { 0.0 });
        }
        Ok(())
    }
}

/// `exp(x) / sum(exp(x))` over each row: a row of probabilities that sum to 1.
///
/// As the last layer of a model it serves inference: [`SoftmaxCrossEntropy`](super::SoftmaxCrossEntropy) is computed
/// from the logits before it, which is more exact and quicker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Softmax;

impl Layer for Softmax {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        Ok(input_width)
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, _pass: &mut Forward<'_>) -> Result<()> {
        for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
            let max = x.fold(f32::NEG_INFINITY, |max, &x| max.max(x));
            let mut sum = 0.0;
            for (x, y) in x.iter().zip(&mut y) {
                *y = (x - max).exp();
                sum += *y;
            }
            y /= sum;
        }
        Ok(())
    }

    fn backward(
        &mut self,
        _x: ArrayView2<'_, f32>,
        y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        _pass: &Backward<'_>,
    ) -> Result<()> {
        let Some(mut dx) = dx else { return Ok(()) };
        for ((y, dy), mut dx) in y.outer_iter().zip(dy.outer_iter()).zip(dx.outer_iter_mut()) {
            let mean = y.dot(&dy);
            dx.iter_mut().zip(y.iter().zip(dy)).for_each(|(dx, (y, dy))| *dx = y * (dy - mean));
        }
        Ok(())
    }

    fn is_softmax(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::super::{Model, check_gradients};
    use super::*;

    #[test]
    fn gradients_are_right() {
        // ReLU is linear on either side of its kink, and the check's inputs and steps stay on their side.
        assert!(check_gradients(Relu, 7, 4, 1).unwrap() < 1e-3);
        // The third derivative of a softmax is below 1, so that the step h = 2^-7 leaves h^2 / 6 = 1e-5, and rounding
        // 2^-24 / h = 1e-5.
        assert!(check_gradients(Softmax, 5, 3, 1).unwrap() < 1e-3);
    }

    fn apply(layer: impl Layer + 'static, x: &Array2<f32>) -> Array2<f32> {
        Model::builder(x.ncols()).layer("layer", layer).build().unwrap().predict(x).unwrap()
    }

    #[test]
    fn relu_keeps_nan() {
        let y = apply(Relu, &array![[-1.0, 2.0, f32::NAN, -0.0]]);
        assert_eq!((y[[0, 0]], y[[0, 1]]), (0.0, 2.0));
        assert!(y[[0, 2]].is_nan());
    }

    #[test]
    fn softmax_survives_large_logits() {
        let y = apply(Softmax, &array![[1e4, 1e4, -1e4], [0.0, 0.0, 0.0]]);
        assert_eq!(y.row(0).to_vec(), [0.5, 0.5, 0.0]);
        assert!((y.row(1).sum() - 1.0).abs() < 1e-6);
    }
}
