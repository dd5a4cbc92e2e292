//! Adam and AdamW.

use super::super::products::cut;
use super::{Optimizer, OptimizerState, Params, Slots, check_not_negative};
use crate::Result;

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
/// With a [`weight_decay`](Self::weight_decay) this is AdamW: `w <- w - learning_rate weight_decay w` comes first, and the
/// gradient is left alone.
///
/// Sources: Kingma and Ba, *Adam: a method for stochastic optimization*, ICLR 2015; Loshchilov and Hutter, *Decoupled
/// weight decay regularization*, ICLR 2019, in the form of PyTorch and Keras, where the decay is multiplied by the
/// learning rate.
///
/// # Examples
///
/// ```
/// use procession::train::{Adam, Optimizer};
///
/// let adam = Adam::new(3e-4).betas(0.9, 0.99);
/// assert_eq!(adam.learning_rate(), 3e-4);
/// assert_eq!(Adam::default().learning_rate(), 1e-3);
/// let adam_w = Adam::new(3e-4).weight_decay(0.01);
/// # let _ = adam_w;
/// ```
#[doc(alias = "AdamW")]
#[derive(Debug, Clone)]
pub struct Adam {
    learning_rate: f32,
    betas: (f64, f64),
    epsilon: f64,
    epsilon_hat: bool,
    weight_decay: f32,
    matrices_only: bool,
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
    ///
    /// # Panics
    ///
    /// If the learning rate is negative or not finite.
    pub fn new(learning_rate: f32) -> Self {
        check_not_negative("learning rate", learning_rate);
        Self {
            learning_rate,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            epsilon_hat: false,
            weight_decay: 0.0,
            matrices_only: false,
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
    ///
    /// # Panics
    ///
    /// If it is not above 0 in single precision: a gradient of 0 would make a step of 0 / 0.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        check_epsilon(epsilon);
        (self.epsilon, self.epsilon_hat) = (epsilon, false);
        self
    }

    /// What is added to the uncorrected root (Keras's convention; the paper's "epsilon hat").
    ///
    /// # Panics
    ///
    /// If it is not above 0 in single precision.
    #[must_use]
    pub fn epsilon_hat(mut self, epsilon: f64) -> Self {
        check_epsilon(epsilon);
        (self.epsilon, self.epsilon_hat) = (epsilon, true);
        self
    }

    /// The decoupled weight decay, which makes AdamW of it; 0 by default. PyTorch's AdamW has 0.01, Keras's 0.004.
    ///
    /// # Panics
    ///
    /// If it is negative or not finite.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f32) -> Self {
        check_not_negative("weight decay", weight_decay);
        self.weight_decay = weight_decay;
        self
    }

    /// Whether only parameters of two or more dimensions decay, so that biases and the scales of normalisations are
    /// left alone, as is usual; by default all decay, as in PyTorch and Keras.
    #[must_use]
    pub fn decay_matrices_only(mut self, matrices_only: bool) -> Self {
        self.matrices_only = matrices_only;
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
            keep: 1.0,
        }
    }
}

fn check_epsilon(epsilon: f64) {
    assert!(epsilon as f32 > 0.0 && epsilon.is_finite(), "epsilon {epsilon}, expected a number above 0");
}

/// `w <- keep w - step m / (sqrt(v) root + epsilon)`.
#[derive(Debug, Clone, Copy)]
struct AdamFactors {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    step: f32,
    root: f32,
    epsilon: f32,
    keep: f32,
}

impl Optimizer for Adam {
    fn step(&mut self, params: &mut Params<'_>) -> Result<()> {
        let factors = self.factors(self.steps + 1);
        let first = self.first.fit(params)?;
        let second = self.second.fit(params)?;
        self.steps += 1;
        let keep = 1.0 - self.learning_rate * self.weight_decay;
        let parts = params.num_threads;
        params.for_each(|slot, param| {
            let decays = param.shape().len() >= 2 || !self.matrices_only;
            let factors = AdamFactors { keep: if decays { keep } else { 1.0 }, ..factors };
            let (values, grads) = param.values_and_grads_mut();
            adam_pass(values, grads, &mut first[slot], &mut second[slot], &factors, parts);
        });
        Ok(())
    }

    fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f32) {
        self.learning_rate = learning_rate;
    }

    fn describe(&self) -> String {
        let (beta1, beta2) = self.betas;
        let epsilon = if self.epsilon_hat { "epsilon_hat" } else { "epsilon" };
        let decays = if self.matrices_only { " of matrices only" } else { "" };
        format!("adam betas={beta1},{beta2} {epsilon}={} weight_decay={}{decays}", self.epsilon, self.weight_decay)
    }

    fn state(&self) -> OptimizerState<'_> {
        let arrays = vec![("first", self.first.as_slice()), ("second", self.second.as_slice())];
        OptimizerState { steps: self.steps, arrays }
    }

    fn set_state(&mut self, state: OptimizerState<'_>) -> Result<()> {
        let steps = state.steps;
        [self.first, self.second] = state.take(["first", "second"])?;
        self.steps = steps;
        Ok(())
    }
}

fn adam_pass(values: &mut [f32], grads: &[f32], first: &mut [f32], second: &mut [f32], k: &AdamFactors, parts: usize) {
    if let Some(middle) = cut(values.len(), parts) {
        let (values, more_values) = values.split_at_mut(middle);
        let (grads, more_grads) = grads.split_at(middle);
        let (first, more_first) = first.split_at_mut(middle);
        let (second, more_second) = second.split_at_mut(middle);
        let half = parts.div_ceil(2);
        rayon::join(
            || adam_pass(values, grads, first, second, k, half),
            || adam_pass(more_values, more_grads, more_first, more_second, k, parts - half),
        );
        return;
    }
    for (((w, &g), m), v) in values.iter_mut().zip(grads).zip(first).zip(second) {
        *m = k.beta1 * *m + k.rest1 * g;
        *v = k.beta2 * *v + k.rest2 * g * g;
        *w = k.keep * *w - k.step * *m / (v.sqrt() * k.root + k.epsilon);
    }
}
