//! Optimisers: how parameters follow their gradients.

use std::fmt;

use super::layer::Parameter;
use super::model::Named;
use crate::{Error, ErrorKind, Result};

/// Updates parameters from their gradients.
///
/// The contract:
///
/// 1. [`step`](Self::step) updates every parameter once. State that belongs to a parameter is kept by its slot, the
///    number that [`Params::for_each`] gives it, which is the same in every step.
/// 2. Parameters of another number or other sizes than in the first step are an error, before anything is changed.
/// 3. The learning rate may be changed between any two steps; the state does not depend on it.
///
/// An optimiser can wrap another: one that clips changes the gradients in a first pass and then calls the inner
/// optimiser; a schedule sets the inner one's learning rate.
pub trait Optimizer: fmt::Debug + Send {
    /// Updates all parameters.
    ///
    /// # Errors
    ///
    /// If the parameters are not those of the first step.
    fn step(&mut self, params: &mut Params<'_>) -> Result<()>;

    /// The factor of the update in the next step.
    fn learning_rate(&self) -> f32;

    /// Sets the factor of the update from the next step on.
    fn set_learning_rate(&mut self, learning_rate: f32);
}

/// The parameters of a model, for an optimiser.
#[derive(Debug)]
pub struct Params<'c> {
    layers: &'c mut [Named],
}

impl<'c> Params<'c> {
    pub(super) fn new(layers: &'c mut [Named]) -> Self {
        Self { layers }
    }

    /// Shows every parameter with its slot, a number from 0, in the same order in every step.
    pub fn for_each(&mut self, mut visit: impl FnMut(usize, &mut Parameter)) {
        let mut slot = 0;
        for named in &mut *self.layers {
            named.layer.visit_params_mut(&mut |param| {
                visit(slot, param);
                slot += 1;
            });
        }
    }
}

/// Arrays of the parameters' sizes, one for each slot; zero at first, and made in the first step.
#[derive(Debug, Clone, Default)]
struct Slots(Option<Vec<Vec<f32>>>);

impl Slots {
    /// The arrays, after a check that they fit.
    fn fit(&mut self, params: &mut Params<'_>) -> Result<&mut Vec<Vec<f32>>> {
        let slots = self.0.get_or_insert_with(|| {
            let mut slots = Vec::new();
            params.for_each(|_, param| slots.push(vec![0.0; param.len()]));
            slots
        });
        let (mut number, mut fit) = (0, true);
        params.for_each(|slot, param| {
            number += 1;
            fit &= slots.get(slot).is_some_and(|values| values.len() == param.len());
        });
        if !fit || number != slots.len() {
            return Err(Error::new(ErrorKind::Shape, "the optimiser has the state of a model of another shape"));
        }
        Ok(slots)
    }
}

/// Adam: steps along the mean of past gradients, divided by the root of their mean square.
///
/// With gradient `g` and step number `t` from 1:
///
/// ```text
/// m <- beta1 m + (1 - beta1) g
/// v <- beta2 v + (1 - beta2) g^2
/// w <- w - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
/// ```
///
/// This is the paper's algorithm 1 and PyTorch's convention: epsilon is added to the *corrected* root. Keras (default
/// 1e-7) adds it to the uncorrected root; [`epsilon_hat`](Self::epsilon_hat) does that. One pass over each parameter,
/// its gradient and its two moments.
///
/// Source: Kingma and Ba, *Adam: a method for stochastic optimization*, ICLR 2015.
///
/// # Examples
///
/// ```
/// use procession::train::{Adam, Optimizer};
///
/// let adam = Adam::new(3e-4).betas(0.9, 0.99);
/// assert_eq!(adam.learning_rate(), 3e-4);
/// assert_eq!(Adam::default().learning_rate(), 1e-3);
/// ```
#[derive(Debug, Clone)]
pub struct Adam {
    learning_rate: f32,
    betas: (f64, f64),
    epsilon: f64,
    epsilon_hat: bool,
    steps: u64,
    first: Slots,
    second: Slots,
}

impl Default for Adam {
    /// A learning rate of 1e-3, betas of 0.9 and 0.999, an epsilon of 1e-8.
    fn default() -> Self {
        Self::new(1e-3)
    }
}

impl Adam {
    /// Adam with betas of 0.9 and 0.999 and an epsilon of 1e-8.
    pub fn new(learning_rate: f32) -> Self {
        Self {
            learning_rate,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            epsilon_hat: false,
            steps: 0,
            first: Slots::default(),
            second: Slots::default(),
        }
    }

    /// The decays of the two moments.
    ///
    /// # Panics
    ///
    /// If one is not in `[0, 1)`.
    #[must_use]
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        for beta in [first, second] {
            assert!((0.0..1.0).contains(&beta), "beta {beta}, expected 0 <= beta < 1");
        }
        self.betas = (first, second);
        self
    }

    /// What is added to the corrected root (PyTorch's convention).
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        (self.epsilon, self.epsilon_hat) = (epsilon, false);
        self
    }

    /// What is added to the uncorrected root (Keras's convention; the paper's "epsilon hat").
    #[must_use]
    pub fn epsilon_hat(mut self, epsilon: f64) -> Self {
        (self.epsilon, self.epsilon_hat) = (epsilon, true);
        self
    }

    /// The steps made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The numbers of step `t`, from 1. They are computed in `f64`: 1 - beta2^t of the first steps has few digits in
    /// `f32`.
    fn factors(&self, t: u64) -> AdamFactors {
        let (beta1, beta2) = self.betas;
        let correction1 = 1.0 - beta1.powf(t as f64);
        let root2 = (1.0 - beta2.powf(t as f64)).sqrt();
        let epsilon = if self.epsilon_hat { self.epsilon / root2 } else { self.epsilon };
        AdamFactors {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            step: (f64::from(self.learning_rate) / correction1) as f32,
            root: (1.0 / root2) as f32,
            epsilon: epsilon as f32,
        }
    }
}

/// `w <- w - step m / (sqrt(v) root + epsilon)`.
struct AdamFactors {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    step: f32,
    root: f32,
    epsilon: f32,
}

impl Optimizer for Adam {
    fn step(&mut self, params: &mut Params<'_>) -> Result<()> {
        let factors = self.factors(self.steps + 1);
        let first = self.first.fit(params)?;
        let second = self.second.fit(params)?;
        self.steps += 1;
        params.for_each(|slot, param| {
            let (values, grads) = param.values_and_grads_mut();
            adam_pass(values, grads, &mut first[slot], &mut second[slot], &factors);
        });
        Ok(())
    }

    fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f32) {
        self.learning_rate = learning_rate;
    }
}

fn adam_pass(values: &mut [f32], grads: &[f32], first: &mut [f32], second: &mut [f32], k: &AdamFactors) {
    for (((w, &g), m), v) in values.iter_mut().zip(grads).zip(first).zip(second) {
        *m = k.beta1 * *m + k.rest1 * g;
        *v = k.beta2 * *v + k.rest2 * g * g;
        *w -= k.step * *m / (v.sqrt() * k.root + k.epsilon);
    }
}

/// Stochastic gradient descent, with momentum if asked for.
///
/// ```text
/// b <- momentum b + g          (b starts at 0)
/// w <- w - learning_rate b,  or with Nesterov's form  w <- w - learning_rate (g + momentum b)
/// ```
///
/// This is PyTorch's convention. Keras has the learning rate inside `b`, which is the same as long as the rate stays.
///
/// Source: Sutskever, Martens, Dahl and Hinton, *On the importance of initialization and momentum in deep learning*,
/// ICML 2013.
#[derive(Debug, Clone)]
pub struct Sgd {
    learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    velocity: Slots,
}

impl Sgd {
    /// Plain gradient descent.
    pub fn new(learning_rate: f32) -> Self {
        Self { learning_rate, momentum: 0.0, nesterov: false, velocity: Slots::default() }
    }

    /// Momentum; 0 by default, usually 0.9.
    #[must_use]
    pub fn momentum(mut self, momentum: f32) -> Self {
        self.momentum = momentum;
        self
    }

    /// Whether momentum takes Nesterov's form; without momentum it has no effect.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, params: &mut Params<'_>) -> Result<()> {
        let (rate, momentum, nesterov) = (self.learning_rate, self.momentum, self.nesterov);
        if momentum == 0.0 {
            params.for_each(|_, param| {
                let (values, grads) = param.values_and_grads_mut();
                values.iter_mut().zip(grads).for_each(|(w, g)| *w -= rate * *g);
            });
            return Ok(());
        }
        let velocity = self.velocity.fit(params)?;
        params.for_each(|slot, param| {
            let (values, grads) = param.values_and_grads_mut();
            for ((w, &mut g), b) in values.iter_mut().zip(grads).zip(&mut velocity[slot]) {
                *b = momentum * *b + g;
                *w -= rate * if nesterov { g + momentum * *b } else { *b };
            }
        });
        Ok(())
    }

    fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f32) {
        self.learning_rate = learning_rate;
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::Model;
    use super::*;

    /// A model with one weight, 1.0 at first, whose gradient is set by hand.
    fn weight() -> Model {
        let mut model = Model::builder(1).layer("d", super::super::Dense::new(1).bias(false)).build().unwrap();
        model.set_param("d/kernel", array![[1.0]].view().into_dyn()).unwrap();
        model
    }

    /// The weight after each step with these gradients.
    fn follow(optimizer: &mut dyn Optimizer, grads: &[f32]) -> Vec<f32> {
        let mut model = weight();
        let step = |&grad: &f32| {
            model.for_each_param_mut(|_, param| param.grads_mut()[0] = grad).unwrap();
            model.apply_gradients(optimizer).unwrap();
            model.param("d/kernel").unwrap()[[0, 0]]
        };
        grads.iter().map(step).collect()
    }

    fn assert_near(found: &[f32], expected: &[f64]) {
        for (&found, &expected) in found.iter().zip(expected) {
            // A few roundings of 2^-24 each.
            assert!((f64::from(found) - expected).abs() < 5e-7, "{found}, expected {expected}");
        }
    }

    #[test]
    fn adam_follows_its_formula() {
        let grads = [0.5, -2.0, 0.001, 3.0];
        for hat in [false, true] {
            let (rate, beta1, beta2, epsilon) = (0.1, 0.9_f64, 0.999_f64, 0.01);
            let (mut w, mut m, mut v) = (1.0, 0.0, 0.0);
            let mut expected = Vec::new();
            for (t, &g) in (1..).zip(&grads) {
                let g = f64::from(g);
                m = beta1 * m + (1.0 - beta1) * g;
                v = beta2 * v + (1.0 - beta2) * g * g;
                let (c1, c2) = (1.0 - beta1.powi(t), 1.0 - beta2.powi(t));
                w -= if hat {
                    rate * c2.sqrt() / c1 * m / (v.sqrt() + epsilon)
                } else {
                    rate * (m / c1) / ((v / c2).sqrt() + epsilon)
                };
                expected.push(w);
            }
            let adam = Adam::new(rate as f32);
            let mut adam = if hat { adam.epsilon_hat(epsilon) } else { adam.epsilon(epsilon) };
            assert_near(&follow(&mut adam, &grads), &expected);
            assert_eq!(adam.steps(), 4);
        }
    }

    #[test]
    fn sgd_follows_its_formula() {
        let grads = [1.0, 2.0];
        assert_near(&follow(&mut Sgd::new(0.1), &grads), &[0.9, 0.7]);
        assert_near(&follow(&mut Sgd::new(0.1).momentum(0.5), &grads), &[0.9, 0.65]);
        assert_near(&follow(&mut Sgd::new(0.1).momentum(0.5).nesterov(true), &grads), &[0.85, 0.525]);
    }

    #[test]
    fn state_of_another_model_is_refused() {
        let mut adam = Adam::default();
        let mut small = weight();
        small.apply_gradients(&mut adam).unwrap();
        let mut large = Model::builder(2).dense("d", 3).build().unwrap();
        let error = large.apply_gradients(&mut adam).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!((adam.steps(), large.step()), (1, 0));
    }
}
