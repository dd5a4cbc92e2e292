//! Checking a layer's gradients against finite differences.

use ndarray::Array2;

use super::layer::{Backward, Forward, Layer, Slot};
use super::stream::{Stream, purpose, stream};
use crate::Result;

/// Half the distance of a central difference: a power of two, so that `x + h` and `x - h` are exact for most `x`. It is
/// near the cube root of `f32`'s precision, where truncation and rounding are equally small.
const H: f32 = 1.0 / 128.0;

/// The largest difference between a layer's gradients and central finite differences, relative to the larger of 1 and
/// the difference's own size.
///
/// The layer is built, run in training on a batch of made-up inputs with `0.1 <= |x| < 1` (so that a kink at zero is not
/// stepped over), and its output is weighted with random numbers to make a loss; every parameter and every input is
/// then moved by `±2^-7`. For layers with derivatives of moderate size a right gradient gives less than 0.001, a wrong
/// one usually more than 0.1.
///
/// # Errors
///
/// What the layer's own methods return.
///
/// # Examples
///
/// ```
/// use procession::train::{Dense, check_gradients};
///
/// assert!(check_gradients(Dense::new(3), 5, 4, 0)? < 1e-3);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn check_gradients(layer: impl Layer + 'static, input_width: usize, batch: usize, seed: u64) -> Result<f32> {
    let mut stream = stream(seed, &[purpose::CHECK]);
    let mut layer: Box<dyn Layer> = Box::new(layer);
    let width = layer.build(input_width, &mut stream)?;
    let mut probe = Probe {
        slots: layer.inner_values().into_iter().map(Slot::new).collect(),
        layer,
        x: Array2::from_shape_simple_fn((batch, input_width), || away_from_zero(&mut stream)),
        y: Array2::zeros((batch, width)),
        weights: Array2::from_shape_simple_fn((batch, width), || 2.0 * stream.uniform_f32() - 1.0),
        seed,
    };
    let (param_grads, input_grads) = probe.gradients()?;
    let mut worst = 0.0_f32;
    for (index, &gradient) in param_grads.iter().enumerate() {
        let value = probe.replace_param(index, 0.0);
        let mut loss_at = |moved: f32| {
            probe.replace_param(index, moved);
            probe.loss()
        };
        let (above, below) = (loss_at(value + H)?, loss_at(value - H)?);
        probe.replace_param(index, value);
        worst = worst.max(error(gradient, above, below));
    }
    for (at, &gradient) in input_grads.indexed_iter() {
        let value = probe.x[at];
        let mut loss_at = |moved: f32| {
            probe.x[at] = moved;
            probe.loss()
        };
        let (above, below) = (loss_at(value + H)?, loss_at(value - H)?);
        probe.x[at] = value;
        worst = worst.max(error(gradient, above, below));
    }
    Ok(worst)
}

fn away_from_zero(stream: &mut Stream) -> f32 {
    let x = 0.1 + 0.9 * stream.uniform_f32();
    if stream.next_u64() & 1 == 0 { x } else { -x }
}

fn error(gradient: f32, above: f64, below: f64) -> f32 {
    let difference = (above - below) / f64::from(2.0 * H);
    let error = ((f64::from(gradient) - difference) / difference.abs().max(1.0)).abs() as f32;
    if error.is_nan() { f32::INFINITY } else { error }
}

/// A layer, a batch, and a loss that is linear in the output.
struct Probe {
    layer: Box<dyn Layer>,
    slots: Vec<Slot>,
    x: Array2<f32>,
    y: Array2<f32>,
    weights: Array2<f32>,
    seed: u64,
}

impl Probe {
    fn loss(&mut self) -> Result<f64> {
        self.slots.iter_mut().for_each(|slot| slot.prepare(self.x.nrows(), true));
        let slots = &mut self.slots;
        let mut pass = Forward {
            training: true,
            wants_output: true,
            seed: self.seed,
            step: 3,
            part: 0,
            num_threads: 1,
            layer: 0,
            slots,
        };
        self.y.fill(f32::NAN);
        self.layer.forward(self.x.view(), self.y.view_mut(), &mut pass)?;
        Ok(self.y.iter().zip(&self.weights).map(|(&y, &weight)| f64::from(y) * f64::from(weight)).sum())
    }

    /// The layer's own gradients: of its parameters, one after the other, and of its input.
    fn gradients(&mut self) -> Result<(Vec<f32>, Array2<f32>)> {
        self.loss()?;
        // Gradients have to be set, not added to, and written everywhere.
        self.layer.visit_params_mut(&mut |param| param.grads_mut().fill(f32::NAN));
        let mut dx = Array2::from_elem(self.x.dim(), f32::NAN);
        let (x, y, dy) = (self.x.view(), self.y.view(), self.weights.view());
        self.layer.backward(x, y, dy, Some(dx.view_mut()), &Backward { num_threads: 1, slots: &self.slots })?;
        let mut params = Vec::new();
        self.layer.visit_params(&mut |param| params.extend_from_slice(param.grads()));
        Ok((params, dx))
    }

    /// Replaces a value, counted over all trained parameters, and returns the one that was there.
    fn replace_param(&mut self, index: usize, value: f32) -> f32 {
        let (mut start, mut old) = (0, value);
        self.layer.visit_params_mut(&mut |param| {
            if !param.is_trainable() {
                return;
            }
            if (start..start + param.len()).contains(&index) {
                old = std::mem::replace(&mut param.values_mut()[index - start], value);
            }
            start += param.len();
        });
        old
    }
}
