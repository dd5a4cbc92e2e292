//! Normalisation: of each row over its features, and of each feature over the batch.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::super::layer::{Backward, Forward, InnerValue, Layer};
use super::super::parameter::Parameter;
use super::super::stream::Stream;
use crate::{Error, ErrorKind, Result};

/// Normalises each row: `y = gamma (x - mean) / sqrt(variance + epsilon) + beta`, with mean and (biased) variance over
/// the row's features.
///
/// `gamma` and `beta` have the width of the row and start at 1 and 0. The inner values are `normalised`, before gamma
/// and beta, and `inverse_std`, `(batch, 1)`.
///
/// Source: Ba, Kiros and Hinton, *Layer normalization*, 2016. Epsilon is 1e-5 by default, as in PyTorch; Keras has
/// 1e-3.
#[derive(Debug)]
pub struct LayerNorm {
    epsilon: f32,
    /// Gamma and beta; empty until built.
    params: Vec<Parameter>,
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self { epsilon: 1e-5, params: Vec::new() }
    }
}

impl LayerNorm {
    /// With an epsilon of 1e-5.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is added to the variance; above 0.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f32) -> Self {
        self.epsilon = epsilon;
        self
    }
}

fn check_epsilon(epsilon: f32) -> Result<()> {
    if epsilon > 0.0 && epsilon.is_finite() {
        return Ok(());
    }
    Err(Error::argument(format!("epsilon {epsilon}, expected a number above 0")))
}

fn gamma_and_beta(width: usize) -> Vec<Parameter> {
    vec![Parameter::new("gamma", &[width], vec![1.0; width]), Parameter::new("beta", &[width], vec![0.0; width])]
}

/// Mean and biased variance, in two passes, so that nothing cancels.
fn moments(values: impl Iterator<Item = f32> + Clone, number: usize) -> (f32, f32) {
    let mean = values.clone().sum::<f32>() / number as f32;
    (mean, values.map(|x| (x - mean) * (x - mean)).sum::<f32>() / number as f32)
}

/// The gradients of gamma and beta: `sum(dy normalised)` and `sum(dy)` over the batch.
fn set_gradients(params: &mut [Parameter], dy: ArrayView2<'_, f32>, normalised: ArrayView2<'_, f32>) {
    let [gamma, beta] = params else { unreachable!("there are gamma and beta") };
    gamma.grads_mut().fill(0.0);
    beta.grads_mut().fill(0.0);
    for (dy, normalised) in dy.outer_iter().zip(normalised.outer_iter()) {
        let of_row = dy.iter().zip(normalised);
        for ((gamma, beta), (dy, n)) in gamma.grads_mut().iter_mut().zip(beta.grads_mut()).zip(of_row) {
            *gamma += dy * n;
            *beta += dy;
        }
    }
}

impl Layer for LayerNorm {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        check_epsilon(self.epsilon)?;
        self.params = gamma_and_beta(input_width);
        Ok(input_width)
    }

    fn inner_values(&self) -> Vec<InnerValue> {
        let width = self.params[0].len();
        vec![InnerValue::new("normalised", width).for_backward(), InnerValue::new("inverse_std", 1).for_backward()]
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
        let (gamma, beta) = (self.params[0].values(), self.params[1].values());
        let [mut normalised, mut inverse_stds] = pass.inner();
        for (row, (x, mut y)) in x.outer_iter().zip(y.outer_iter_mut()).enumerate() {
            let (mean, variance) = moments(x.iter().copied(), x.len());
            let inverse_std = 1.0 / (variance + self.epsilon).sqrt();
            for ((y, x), (gamma, beta)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
                *y = gamma * ((x - mean) * inverse_std) + beta;
            }
            if let Some(normalised) = &mut normalised {
                normalised.row_mut(row).iter_mut().zip(x).for_each(|(n, x)| *n = (x - mean) * inverse_std);
            }
            if let Some(inverse_stds) = &mut inverse_stds {
                inverse_stds[[row, 0]] = inverse_std;
            }
        }
        Ok(())
    }

    fn backward(
        &mut self,
        _x: ArrayView2<'_, f32>,
        _y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        pass: &Backward<'_>,
    ) -> Result<()> {
        let (normalised, inverse_stds) = (pass.inner(0), pass.inner(1));
        set_gradients(&mut self.params, dy, normalised);
        let Some(mut dx) = dx else { return Ok(()) };
        let gamma = self.params[0].values();
        for (row, ((dy, n), mut dx)) in
            dy.outer_iter().zip(normalised.outer_iter()).zip(dx.outer_iter_mut()).enumerate()
        {
            // With d = gamma dy, the gradient with respect to the normalised row: what is left of d without its mean
            // and without its part along the normalised row, both of which the normalisation takes away.
            let d = || dy.iter().zip(gamma).map(|(dy, gamma)| dy * gamma);
            let width = dy.len() as f32;
            let mean = d().sum::<f32>() / width;
            let along = d().zip(n).map(|(d, n)| d * n).sum::<f32>() / width;
            for ((dx, d), n) in dx.iter_mut().zip(d()).zip(n) {
                *dx = inverse_stds[[row, 0]] * (d - mean - n * along);
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("LayerNorm(epsilon={})", self.epsilon)
    }

    fn visit_params(&self, visit: &mut dyn FnMut(&Parameter)) {
        self.params.iter().for_each(visit);
    }

    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&mut Parameter)) {
        self.params.iter_mut().for_each(visit);
    }
}

/// Normalises each feature: in training with mean and (biased) variance over the batch, in inference with their moving
/// averages; `y = gamma (x - mean) / sqrt(variance + epsilon) + beta`.
///
/// `gamma` and `beta` have the width of the row and start at 1 and 0. `moving_mean` and `moving_variance` start at 0 and
/// 1, are not trained, and follow `moving <- momentum moving + (1 - momentum) batch` with each backward pass. The inner
/// values are `normalised`, before gamma and beta, and, in one row for the batch, `mean`, `variance` and `inverse_std`.
///
/// Source: Ioffe and Szegedy, *Batch normalization*, ICML 2015. As in the paper and in PyTorch, the moving variance is
/// one of the unbiased variance of the batches; Keras has the biased one ([`unbiased`](Self::unbiased)). Momentum is
/// 0.9 by default, which PyTorch calls 0.1, and Keras has 0.99; epsilon is 1e-5, as in PyTorch, and Keras has 1e-3.
#[derive(Debug)]
pub struct BatchNorm {
    epsilon: f32,
    momentum: f32,
    unbiased: bool,
    /// Gamma, beta, moving mean and moving variance; empty until built.
    params: Vec<Parameter>,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.9, unbiased: true, params: Vec::new() }
    }
}

impl BatchNorm {
    /// With an epsilon of 1e-5 and a momentum of 0.9.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is added to the variance; above 0.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f32) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// The part of a moving average that stays in a step; in `[0, 1)`.
    #[must_use]
    pub fn momentum(mut self, momentum: f32) -> Self {
        self.momentum = momentum;
        self
    }

    /// Whether the moving variance is one of unbiased variances; by default it is.
    #[must_use]
    pub fn unbiased(mut self, unbiased: bool) -> Self {
        self.unbiased = unbiased;
        self
    }
}

impl Layer for BatchNorm {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        check_epsilon(self.epsilon)?;
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::argument(format!("momentum {}, expected 0 <= momentum < 1", self.momentum)));
        }
        self.params = gamma_and_beta(input_width);
        self.params.push(Parameter::kept("moving_mean", &[input_width], vec![0.0; input_width]));
        self.params.push(Parameter::kept("moving_variance", &[input_width], vec![1.0; input_width]));
        Ok(input_width)
    }

    fn inner_values(&self) -> Vec<InnerValue> {
        let width = self.params[0].len();
        let of_batch = |name| InnerValue::new(name, width).once().for_backward();
        vec![
            InnerValue::new("normalised", width).for_backward(),
            of_batch("mean"),
            of_batch("variance"),
            of_batch("inverse_std"),
        ]
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
        let training = pass.is_training();
        if training && x.nrows() < 2 {
            let message = "a batch of 1 row has no variance, expected at least 2 rows in training (or a dropped tail)";
            return Err(Error::new(ErrorKind::Shape, message));
        }
        let [mut normalised, mut means, mut variances, mut inverse_stds] = pass.inner();
        let (gamma, beta) = (self.params[0].values(), self.params[1].values());
        for (column, (x, mut y)) in x.columns().into_iter().zip(y.columns_mut()).enumerate() {
            let (mean, variance) = if training {
                moments(x.iter().copied(), x.len())
            } else {
                (self.params[2].values()[column], self.params[3].values()[column])
            };
            let inverse_std = 1.0 / (variance + self.epsilon).sqrt();
            for (y, x) in y.iter_mut().zip(x) {
                *y = gamma[column] * ((x - mean) * inverse_std) + beta[column];
            }
            if let Some(normalised) = &mut normalised {
                normalised.column_mut(column).iter_mut().zip(x).for_each(|(n, x)| *n = (x - mean) * inverse_std);
            }
            let once = [(&mut means, mean), (&mut variances, variance), (&mut inverse_stds, inverse_std)];
            for (place, value) in once {
                if let Some(place) = place {
                    place[[0, column]] = value;
                }
            }
        }
        Ok(())
    }

    fn backward(
        &mut self,
        _x: ArrayView2<'_, f32>,
        _y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        pass: &Backward<'_>,
    ) -> Result<()> {
        let (normalised, inverse_stds) = (pass.inner(0), pass.inner(3));
        let rows = dy.nrows() as f32;
        let correction = if self.unbiased { rows / (rows - 1.0) } else { 1.0 };
        for (param, inner, factor) in [(2, 1, 1.0), (3, 2, correction)] {
            for (moving, batch) in self.params[param].values_mut().iter_mut().zip(pass.inner(inner)) {
                *moving = self.momentum * *moving + (1.0 - self.momentum) * (factor * batch);
            }
        }
        set_gradients(&mut self.params[..2], dy, normalised);
        let Some(mut dx) = dx else { return Ok(()) };
        // As for a row of a layer norm, but along columns, whose sums are the gradients of gamma and beta.
        let [gamma, beta] = &self.params[..2] else { unreachable!("there are gamma and beta") };
        for ((dy, n), mut dx) in dy.outer_iter().zip(normalised.outer_iter()).zip(dx.outer_iter_mut()) {
            for (column, ((dx, dy), n)) in dx.iter_mut().zip(dy).zip(n).enumerate() {
                let factor = gamma.values()[column] * inverse_stds[[0, column]];
                *dx = factor * (dy - beta.grads()[column] / rows - n * gamma.grads()[column] / rows);
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let Self { epsilon, momentum, unbiased, .. } = self;
        format!("BatchNorm(epsilon={epsilon},momentum={momentum},unbiased={unbiased})")
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
    use ndarray::{Axis, array};

    use super::super::super::tests::inputs;
    use super::super::super::{Model, Sgd, check_gradients};
    use super::*;

    #[test]
    fn gradients_are_right() {
        // Rows of five with a variance near 0.3: third derivatives below 20, which h^2 / 6 makes 2e-4.
        assert!(check_gradients(LayerNorm::new(), 5, 4, 1).unwrap() < 2e-3);
        assert!(check_gradients(LayerNorm::new().epsilon(0.1), 9, 3, 2).unwrap() < 2e-3);
        assert!(check_gradients(BatchNorm::new(), 4, 6, 1).unwrap() < 2e-3);
        assert!(check_gradients(BatchNorm::new().epsilon(0.1), 3, 9, 2).unwrap() < 2e-3);
    }

    #[test]
    fn rows_have_mean_zero_and_variance_one() {
        let mut model = Model::builder(50).layer("ln", LayerNorm::new()).build().unwrap();
        let y = model.predict(&inputs(4, 50, 3).mapv(|x| 7.0 * x + 100.0)).unwrap();
        for row in y.outer_iter() {
            assert!(row.sum().abs() / 50.0 < 1e-4);
            assert!((row.dot(&row) / 50.0 - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn moving_statistics_follow_the_batches_and_serve_inference() {
        let x = array![[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [6.0, 40.0]];
        for (unbiased, variances) in [(true, [14.0 / 3.0, 500.0 / 3.0]), (false, [3.5, 125.0])] {
            let norm = BatchNorm::new().momentum(0.75).unbiased(unbiased);
            let mut model = Model::builder(2).layer("bn", norm).dense("d", 2).build().unwrap();
            let before = model.predict(&x).unwrap();
            assert_eq!(model.predict(&x).unwrap(), before);
            model.train_step(&x, &[0, 1, 0, 1], &mut Sgd::new(0.0)).unwrap();
            assert_eq!(model.param("bn/moving_mean").unwrap(), array![0.75, 6.25].into_dyn());
            let expected = variances.map(|variance| 0.75 + 0.25 * variance);
            for (found, expected) in model.param("bn/moving_variance").unwrap().iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
            }
            let mut function = model.function(&["bn", "bn/mean", "bn/normalised"]).unwrap();
            let values = function.call(&x).unwrap();
            assert_eq!(values[1], array![[0.75, 6.25]]);
            let by_hand = (1.0 - 0.75) / (expected[0] + 1e-5).sqrt();
            assert!((values[0][[0, 0]] - by_hand).abs() < 1e-5);
            assert_eq!(values[0], values[2]);
        }
    }

    #[test]
    fn training_normalises_by_the_batch() {
        let x = inputs(40, 3, 5).mapv(|x| 3.0 * x - 2.0);
        let mut model = Model::builder(3).layer("bn", BatchNorm::new()).dense("d", 2).build().unwrap();
        model.loss_and_gradients(&x, &vec![0; 40]).unwrap();
        let normalised = model.inner(0, 0);
        for column in normalised.axis_iter(Axis(1)) {
            assert!(column.sum().abs() / 40.0 < 1e-5);
            assert!((column.dot(&column) / 40.0 - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let mut model = Model::builder(2).layer("bn", BatchNorm::new()).dense("d", 2).build().unwrap();
        let error = model.train_step(&array![[1.0, 2.0]], &[0], &mut Sgd::new(0.1)).unwrap_err();
        assert!(error.to_string().starts_with("layer bn: a batch of 1 row has no variance"), "{error}");
        let message =
            |layer: Box<dyn Layer>| Model::builder(2).boxed_layer("n", layer).build().unwrap_err().to_string();
        assert_eq!(
            message(Box::new(BatchNorm::new().momentum(1.0))),
            "layer n: momentum 1, expected 0 <= momentum < 1"
        );
        assert_eq!(message(Box::new(LayerNorm::new().epsilon(0.0))), "layer n: epsilon 0, expected a number above 0");
    }
}
