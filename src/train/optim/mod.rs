//! Optimisers: how parameters follow their gradients.

mod adam;
mod clip;
mod schedule;
mod sgd;

use std::fmt;

pub use adam::Adam;
pub use clip::Clip;
pub use schedule::Schedule;
pub use sgd::Sgd;

use super::model::Named;
use super::parameter::Parameter;
use crate::{Error, ErrorKind, Result};

/// Updates parameters from their gradients.
///
/// The contract:
///
/// 1. [`step`](Self::step) updates every trained parameter once. What belongs to a parameter is kept by its slot, the
///    number that [`Params::for_each`] gives it, which is the same in every step.
/// 2. Parameters of another number or other sizes than in the first step are an error, before anything is changed.
/// 3. The learning rate may be changed between any two steps; nothing else depends on it.
/// 4. [`state`](Self::state) and [`set_state`](Self::set_state) are a way to go on elsewhere: an optimiser with the same
///    [`describe`](Self::describe) that is given the state does the same steps, bit for bit.
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

    /// The kind of optimiser and its options, save the learning rate, in one line: a checkpoint is refused by an
    /// optimiser that describes itself otherwise.
    fn describe(&self) -> String;

    /// What the steps so far have left. An optimiser that keeps nothing has an empty state.
    fn state(&self) -> OptimizerState<'_> {
        OptimizerState::default()
    }

    /// Goes on from a state that an optimiser of the same description had.
    ///
    /// # Errors
    ///
    /// If the state is not one of such an optimiser; nothing is changed then.
    fn set_state(&mut self, _state: OptimizerState<'_>) -> Result<()> {
        Ok(())
    }
}

/// What an optimiser keeps from step to step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState<'o> {
    /// The steps made.
    pub steps: u64,
    /// Arrays by name; each has a vector for each slot, as long as the parameter, or none before the first step.
    pub arrays: Vec<(&'static str, std::borrow::Cow<'o, [Vec<f32>]>)>,
}

impl OptimizerState<'_> {
    /// The same, with arrays of its own.
    pub fn into_owned(self) -> OptimizerState<'static> {
        let arrays = self.arrays.into_iter().map(|(name, array)| (name, array.into_owned().into())).collect();
        OptimizerState { steps: self.steps, arrays }
    }

    /// The arrays of these names, if there are these and no others.
    pub(super) fn take<const N: usize>(self, names: [&str; N]) -> Result<[Slots; N]> {
        let found: Vec<&str> = self.arrays.iter().map(|(name, _)| *name).collect();
        if found != names {
            let message = format!("an optimiser's state with arrays {found:?}, expected {names:?}");
            return Err(Error::new(ErrorKind::State, message));
        }
        let mut arrays = self.arrays.into_iter().map(|(_, array)| array.into_owned());
        Ok(std::array::from_fn(|_| Slots(arrays.next().filter(|slots| !slots.is_empty()))))
    }
}

/// The trained parameters of a model, for an optimiser.
#[derive(Debug)]
pub struct Params<'c> {
    layers: &'c mut [Named],
    num_threads: usize,
}

impl<'c> Params<'c> {
    pub(super) fn new(layers: &'c mut [Named], num_threads: usize) -> Self {
        Self { layers, num_threads }
    }

    /// Shows every trained parameter with its slot, a number from 0, in the same order in every step.
    pub fn for_each(&mut self, mut visit: impl FnMut(usize, &mut Parameter)) {
        let mut slot = 0;
        for named in &mut *self.layers {
            named.layer.visit_params_mut(&mut |param| {
                if param.is_trainable() {
                    visit(slot, param);
                    slot += 1;
                }
            });
        }
    }
}

/// Arrays of the parameters' sizes, one for each slot; zero at first, and made in the first step.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Option<Vec<Vec<f32>>>);

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

    fn as_slice(&self) -> std::borrow::Cow<'_, [Vec<f32>]> {
        self.0.as_deref().unwrap_or_default().into()
    }
}

/// A number that must be at least 0.
fn check_not_negative(name: &str, value: f32) {
    assert!(value >= 0.0 && value.is_finite(), "{name} {value}, expected a number of at least 0");
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

    #[test]
    fn what_decays_is_said() {
        for (matrices_only, expected) in [(false, [0.95, 1.9]), (true, [0.95, 2.0])] {
            let mut model = Model::builder(1).dense("d", 1).build().unwrap();
            model.set_param("d/kernel", array![[1.0]].view().into_dyn()).unwrap();
            model.set_param("d/bias", array![2.0].view().into_dyn()).unwrap();
            // Without a gradient there is nothing but the decay: 1 - 0.1 * 0.5.
            let mut adam = Adam::new(0.1).weight_decay(0.5).decay_matrices_only(matrices_only);
            model.apply_gradients(&mut adam).unwrap();
            let mut found = Vec::new();
            model.for_each_param(|_, param| found.push(param.values()[0]));
            assert_near(&found, &expected);
        }
    }
}
