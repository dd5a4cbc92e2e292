//! Stochastic gradient descent.

use super::{Optimizer, OptimizerState, Params, Slots, check_not_negative};
use crate::Result;

/// Stochastic gradient descent, with momentum if asked for.
///
/// ```text
/// g <- g + weight_decay w
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
    weight_decay: f32,
    steps: u64,
    velocity: Slots,
}

impl Sgd {
    /// Plain gradient descent.
    ///
    /// # Panics
    ///
    /// If the learning rate is negative or not finite.
    pub fn new(learning_rate: f32) -> Self {
        check_not_negative("learning rate", learning_rate);
        Self { learning_rate, momentum: 0.0, nesterov: false, weight_decay: 0.0, steps: 0, velocity: Slots::default() }
    }

    /// Momentum; 0 by default, usually 0.9.
    ///
    /// # Panics
    ///
    /// If it is negative or not finite.
    #[must_use]
    pub fn momentum(mut self, momentum: f32) -> Self {
        check_not_negative("momentum", momentum);
        self.momentum = momentum;
        self
    }

    /// Whether momentum takes Nesterov's form; without momentum it has no effect.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// The weight decay, added to the gradient as that of `weight_decay / 2 w^2`; 0 by default.
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
}

impl Optimizer for Sgd {
    fn step(&mut self, params: &mut Params<'_>) -> Result<()> {
        let Self { learning_rate: rate, momentum, nesterov, weight_decay: decay, .. } = *self;
        if momentum == 0.0 {
            params.for_each(|_, param| {
                let (values, grads) = param.values_and_grads_mut();
                values.iter_mut().zip(grads).for_each(|(w, g)| *w -= rate * (*g + decay * *w));
            });
        } else {
            let velocity = self.velocity.fit(params)?;
            params.for_each(|slot, param| {
                let (values, grads) = param.values_and_grads_mut();
                for ((w, &mut g), b) in values.iter_mut().zip(grads).zip(&mut velocity[slot]) {
                    let g = g + decay * *w;
                    *b = momentum * *b + g;
                    *w -= rate * if nesterov { g + momentum * *b } else { *b };
                }
            });
        }
        self.steps += 1;
        Ok(())
    }

    fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f32) {
        self.learning_rate = learning_rate;
    }

    fn describe(&self) -> String {
        let form = if self.nesterov { " nesterov" } else { "" };
        format!("sgd momentum={}{form} weight_decay={}", self.momentum, self.weight_decay)
    }

    fn state(&self) -> OptimizerState<'_> {
        OptimizerState { steps: self.steps, arrays: vec![("velocity", self.velocity.as_slice())] }
    }

    fn set_state(&mut self, state: OptimizerState<'_>) -> Result<()> {
        let steps = state.steps;
        [self.velocity] = state.take(["velocity"])?;
        self.steps = steps;
        Ok(())
    }
}
