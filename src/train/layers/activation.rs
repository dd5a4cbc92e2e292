//! Activations: layers without parameters, element by element or row by row.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use ndarray::{ArrayView2, ArrayViewMut2};

use super::super::layer::{Backward, Forward, Layer, Role, map, map2};
use super::super::stream::Stream;
use crate::Result;

/// A function applied to each element. A NaN stays a NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`. Its derivative at 0 is taken as 0.
    Relu,
    /// `x P(X <= x)` with `X` normal, that is `x / 2 (1 + erf(x / sqrt(2)))`.
    ///
    /// Source: Hendrycks and Gimpel, *Gaussian error linear units*, 2016; the exact form, which is the default of
    /// PyTorch and Keras.
    Gelu,
    /// The same with the paper's approximation `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, within 0.001.
    GeluTanh,
    /// The hyperbolic tangent, in `(-1, 1)`.
    Tanh,
    /// `1 / (1 + exp(-x))`, in `(0, 1)`.
    ///
    /// As the last layer of a model it serves inference:
    /// [`BinaryCrossEntropy`](super::super::BinaryCrossEntropy) is computed from the logits before it.
    Sigmoid,
}

/// `1 / (1 + exp(-x))`.
pub(in crate::train) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The distribution function of a standard normal.
fn normal_cdf(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * FRAC_1_SQRT_2))
}

/// The argument of the tangent in the approximation of GELU, and its derivative.
fn gelu_argument(x: f32) -> (f32, f32) {
    let root = (2.0 / PI).sqrt();
    // Beyond, the tangent is 1 to the last bit, and its derivative no product of 0 and infinity.
    let x = x.clamp(-20.0, 20.0);
    (root * (x + 0.044_715 * x * x * x), root * (1.0 + 3.0 * 0.044_715 * x * x))
}

impl Layer for Activation {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        Ok(input_width)
    }

    fn forward(&self, x: ArrayView2<'_, f32>, y: ArrayViewMut2<'_, f32>, _pass: &mut Forward<'_>) -> Result<()> {
        match self {
            // Written so that a NaN passes: `f32::max` would hide it.
            Self::Relu => map(x, y, |x| if x < 0.0 { 0.0 } else { x }),
            Self::Gelu => map(x, y, |x| x * normal_cdf(x)),
            Self::GeluTanh => map(x, y, |x| 0.5 * x * (1.0 + gelu_argument(x).0.tanh())),
            Self::Tanh => map(x, y, f32::tanh),
            Self::Sigmoid => map(x, y, sigmoid),
        }
        Ok(())
    }

    fn backward(
        &mut self,
        x: ArrayView2<'_, f32>,
        y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        _pass: &Backward<'_>,
    ) -> Result<()> {
        let Some(dx) = dx else { return Ok(()) };
        match self {
            Self::Relu => map2(y, dy, dx, |y, dy| if y > 0.0 { dy } else { 0.0 }),
            Self::Gelu => map2(x, dy, dx, |x, dy| {
                let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
                dy * (normal_cdf(x) + x * density)
            }),
            Self::GeluTanh => map2(x, dy, dx, |x, dy| {
                let (u, du) = gelu_argument(x);
                let tanh = u.tanh();
                dy * 0.5 * (1.0 + tanh + x * (1.0 - tanh * tanh) * du)
            }),
            Self::Tanh => map2(y, dy, dx, |y, dy| dy * (1.0 - y * y)),
            Self::Sigmoid => map2(y, dy, dx, |y, dy| dy * y * (1.0 - y)),
        }
        Ok(())
    }

    fn kind(&self) -> &str {
        match self {
            Self::Relu => "Relu",
            Self::Gelu => "Gelu",
            Self::GeluTanh => "GeluTanh",
            Self::Tanh => "Tanh",
            Self::Sigmoid => "Sigmoid",
        }
    }

    fn role(&self) -> Role {
        if *self == Self::Sigmoid { Role::Sigmoid } else { Role::Plain }
    }
}

/// `exp(x) / sum(exp(x))` over each row: a row of probabilities that sum to 1.
///
/// As the last layer of a model it serves inference:
/// [`SoftmaxCrossEntropy`](super::super::SoftmaxCrossEntropy) is computed from the logits before it, which is more exact
/// and quicker.
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

    fn role(&self) -> Role {
        Role::Softmax
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::super::super::{Model, check_gradients};
    use super::*;

    #[test]
    fn gradients_are_right() {
        // ReLU is linear on either side of its kink, and the check's inputs and steps stay on their side.
        assert!(check_gradients(Activation::Relu, 7, 4, 1).unwrap() < 1e-3);
        // The third derivatives of the others are below 3, so that the step h = 2^-7 leaves h^2 / 6 * 3 = 3e-5, and
        // rounding 2^-24 / h = 1e-5.
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Tanh, Activation::Sigmoid] {
            assert!(check_gradients(activation, 7, 4, 1).unwrap() < 1e-3, "{activation:?}");
        }
        assert!(check_gradients(Softmax, 5, 3, 1).unwrap() < 1e-3);
    }

    fn apply(layer: impl Layer + 'static, x: &Array2<f32>) -> Array2<f32> {
        Model::builder(x.ncols()).layer("layer", layer).build().unwrap().predict(x).unwrap()
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        let x = array![[-2.0, -0.5, 0.0, 1.0, 3.0]];
        // Computed in double precision.
        let cases = [
            (Activation::Relu, [0.0, 0.0, 0.0, 1.0, 3.0]),
            (Activation::Gelu, [-0.045_500_263_9, -0.154_268_769_9, 0.0, 0.841_344_746_1, 2.995_950_306_0]),
            (Activation::GeluTanh, [-0.045_402_305_9, -0.154_285_990_2, 0.0, 0.841_191_990_6, 2.996_362_607_9]),
            (Activation::Tanh, [-0.964_027_580_1, -0.462_117_157_3, 0.0, 0.761_594_156_0, 0.995_054_753_7]),
            (Activation::Sigmoid, [0.119_202_922_0, 0.377_540_668_8, 0.5, 0.731_058_578_6, 0.952_574_126_8]),
        ];
        for (activation, expected) in cases {
            let y = apply(activation, &x);
            for (&found, expected) in y.iter().zip(expected) {
                assert!((f64::from(found) - expected).abs() < 3e-7, "{activation:?}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn extreme_inputs_stay_finite_and_nan_stays_nan() {
        let x = array![[-1e30, 1e30, f32::NAN, -0.0]];
        for (activation, low, high) in [
            (Activation::Relu, 0.0, 1e30),
            (Activation::Gelu, 0.0, 1e30),
            (Activation::GeluTanh, 0.0, 1e30),
            (Activation::Tanh, -1.0, 1.0),
            (Activation::Sigmoid, 0.0, 1.0),
        ] {
            let y = apply(activation, &x);
            assert_eq!((y[[0, 0]], y[[0, 1]]), (low, high), "{activation:?}");
            assert!(y[[0, 2]].is_nan(), "{activation:?}");
        }
    }

    #[test]
    fn softmax_survives_large_logits() {
        let y = apply(Softmax, &array![[1e4, 1e4, -1e4], [0.0, 0.0, 0.0]]);
        assert_eq!(y.row(0).to_vec(), [0.5, 0.5, 0.0]);
        assert!((y.row(1).sum() - 1.0).abs() < 1e-6);
    }
}
