//! The fully connected layer.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::super::init::Init;
use super::super::layer::{Backward, Forward, Layer};
use super::super::parameter::Parameter;
use super::super::products;
use super::super::stream::Stream;
use crate::{Error, Result};

/// A fully connected layer: `y = x · kernel + bias`.
///
/// `kernel` is `(inputs, outputs)`, as in Keras (PyTorch's `Linear.weight` is its transpose), and `bias` is `(outputs)`
/// and starts at zero. The product of the backward pass reads the kernel transposed in place; nothing is copied.
///
/// # Examples
///
/// ```
/// use procession::train::{Dense, Init, Model};
///
/// let model = Model::builder(3).layer("hidden", Dense::new(2).init(Init::HeUniform).bias(false)).build()?;
/// assert_eq!(model.num_params(), 6);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Dense {
    outputs: usize,
    init: Init,
    with_bias: bool,
    /// The kernel and, with a bias, the bias; empty until built.
    params: Vec<Parameter>,
}

impl Dense {
    /// A layer with so many outputs, a bias, and weights that start as [`Init::GlorotUniform`].
    pub fn new(outputs: usize) -> Self {
        Self { outputs, init: Init::default(), with_bias: true, params: Vec::new() }
    }

    /// How the kernel starts.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Whether there is a bias; by default there is.
    #[must_use]
    pub fn bias(mut self, with_bias: bool) -> Self {
        self.with_bias = with_bias;
        self
    }
}

impl Layer for Dense {
    fn build(&mut self, input_width: usize, stream: &mut Stream) -> Result<usize> {
        if self.outputs == 0 {
            return Err(Error::argument("0 outputs, expected at least 1"));
        }
        let kernel = self.init.values(input_width, self.outputs, stream);
        self.params = vec![Parameter::new("kernel", &[input_width, self.outputs], kernel)];
        if self.with_bias {
            self.params.push(Parameter::new("bias", &[self.outputs], vec![0.0; self.outputs]));
        }
        Ok(self.outputs)
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
        let kernel = self.params[0].matrix();
        match self.params.get(1) {
            // The bias goes in first and the product is added to it: one pass less over the output.
            Some(bias) => {
                y.assign(&ndarray::aview1(bias.values()));
                products::mul(x, kernel, 1.0, y, pass.num_threads);
            }
            None => products::mul(x, kernel, 0.0, y, pass.num_threads),
        }
        Ok(())
    }

    fn backward(
        &mut self,
        x: ArrayView2<'_, f32>,
        _y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        pass: &Backward<'_>,
    ) -> Result<()> {
        products::mul(x.t(), dy, 0.0, self.params[0].grad_matrix_mut(), pass.num_threads);
        if let Some(bias) = self.params.get_mut(1) {
            let grads = bias.grads_mut();
            grads.fill(0.0);
            for row in dy.outer_iter() {
                grads.iter_mut().zip(row).for_each(|(grad, dy)| *grad += dy);
            }
        }
        if let Some(dx) = dx {
            products::mul(dy, self.params[0].matrix().t(), 0.0, dx, pass.num_threads);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        if self.with_bias { "Dense".to_owned() } else { "Dense(no bias)".to_owned() }
    }

    fn visit_params(&self, visit: &mut dyn FnMut(&Parameter)) {
        self.params.iter().for_each(visit);
    }

    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&mut Parameter)) {
        self.params.iter_mut().for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check_gradients;
    use super::*;

    #[test]
    fn gradients_are_right() {
        // The layer is linear in each variable, so that only rounding separates the two: 2^-24 relative in the sums,
        // divided by the step of 2^-7, is about 1e-5.
        assert!(check_gradients(Dense::new(3), 5, 4, 1).unwrap() < 1e-3);
        assert!(check_gradients(Dense::new(4).bias(false), 3, 2, 1).unwrap() < 1e-3);
        assert!(check_gradients(Dense::new(1), 1, 1, 1).unwrap() < 1e-3);
    }
}
