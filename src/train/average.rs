//! Averages of weights.
//!
//! With weights `t` after each optimiser step and averages `T`, which start at the initial weights:
//!
//! ```text
//! T <- a T + (1 - a) t
//! ```
//!
//! Averaging never touches the optimiser's path: the raw weights are the same, bit for bit, with and without it.
//!
//! Sources: Polyak and Juditsky, *Acceleration of stochastic approximation by averaging*, SIAM J. Control Optim. 30
//! (1992), for averaging; Kingma and Ba, *Adam*, ICLR 2015, section 3, for the bias correction; the exponential moving
//! averages of timm, diffusers, torch-ema, TensorFlow and Keras for the schedules, as said at each.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::model::{Chain, Model, Shared};
use crate::{Error, ErrorKind, Result};

/// How weights are averaged: the decay, how it warms up, and when it is updated.
///
/// # Examples
///
/// ```
/// use procession::train::{AverageOptions, WarmUp};
///
/// let options = AverageOptions::new(0.999).warm_up(WarmUp::Count);
/// assert_eq!(options.decay_at(0), 2.0 / 11.0);
/// assert_eq!(options.decay_at(1_000_000), 0.999);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AverageOptions {
    decay: f64,
    warm_up: WarmUp,
    bias_correction: bool,
    every: u64,
    start: u64,
}

/// How the decay grows to its final value. `s` counts the updates made, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum WarmUp {
    /// The decay is constant from the first update. The default.
    #[default]
    None,
    /// `min(decay, (1 + n) / (10 + n))` with `n = s + 1`, the number of the update: torch-ema, and TensorFlow's
    /// `ExponentialMovingAverage` with `num_updates`. A decay of 0.999 is reached at `n = 8,990`.
    Count,
    /// `clamp(1 - (1 + s / gamma)^(-power), min, decay)`: timm and diffusers, where the usual values are `gamma` 1,
    /// `power` 2/3 and `min` 0. `gamma` 1 with `power` 1 gives the plain mean of all weights; `power` 3/4 reaches a
    /// decay of 0.9999 near `s = 215,443`. With a `min` above 0, timm and diffusers still copy the weights at `s = 0`;
    /// this follows the formula.
    Power {
        /// How many updates the warm-up is stretched by; above 0.
        gamma: f64,
        /// How quickly the decay grows; above 0.
        power: f64,
        /// The smallest decay; in `[0, decay]`.
        min: f64,
    },
}

impl AverageOptions {
    /// A constant decay in `[0, 1)`, updated after every step, from the initial weights, without correction.
    ///
    /// 0.999 suits runs of a few thousand steps, 0.9999 much longer ones: about the last `1 / (1 - decay)` steps count.
    pub fn new(decay: f64) -> Self {
        Self { decay, warm_up: WarmUp::None, bias_correction: false, every: 1, start: 0 }
    }

    /// How the decay grows to its final value.
    #[must_use]
    pub fn warm_up(mut self, warm_up: WarmUp) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// Whether the average is one from zero with the bias divided out, `m / (1 - d^t)` with
    /// `m <- d m + (1 - d) t` and `m` at first 0, instead of one from the initial weights.
    ///
    /// After one update the average is then the weights themselves. What is stored is the corrected average, which
    /// follows `T <- a T + (1 - a) t` with `a = d (1 - d^(t-1)) / (1 - d^t)`: the same number, and still there to be
    /// swapped. With a warm-up `d^t` is the product of the decays so far.
    #[must_use]
    pub fn bias_correction(mut self, bias_correction: bool) -> Self {
        self.bias_correction = bias_correction;
        self
    }

    /// Updates only after steps whose number, from 1, is a multiple of `every`. The decay is used as it is: for the same
    /// memory in steps, raise it to the power of `every`.
    #[must_use]
    pub fn every(mut self, every: u64) -> Self {
        self.every = every;
        self
    }

    /// Up to and including step `start`, counted from 1, the average is a copy of the weights; averaging begins with the
    /// update after it, whose `s` is 0. If `start` is above 0 the first update is a copy in any case.
    ///
    /// With 1 this is what Keras (`use_ema`) and PyTorch (`AveragedModel`) do: the average begins at the weights after
    /// the first step. The default is 0: it begins at the initial weights.
    #[must_use]
    pub fn start(mut self, start: u64) -> Self {
        self.start = start;
        self
    }

    /// The decay of update `s`, from 0, before any bias correction.
    pub fn decay_at(&self, s: u64) -> f64 {
        let s = s as f64;
        match self.warm_up {
            WarmUp::None => self.decay,
            WarmUp::Count => self.decay.min((2.0 + s) / (11.0 + s)),
            WarmUp::Power { gamma, power, min } => (1.0 - (1.0 + s / gamma).powf(-power)).min(self.decay).max(min),
        }
    }

    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.decay) || self.decay as f32 >= 1.0 {
            return Err(Error::argument(format!("decay {}, expected 0 <= decay < 1, in single precision", self.decay)));
        }
        if self.every == 0 {
            return Err(Error::argument("an update every 0 steps, expected at least 1"));
        }
        if let WarmUp::Power { gamma, power, min } = self.warm_up {
            let positive = |x: f64| x > 0.0 && x.is_finite();
            if !positive(gamma) || !positive(power) || !(0.0..=self.decay).contains(&min) {
                return Err(Error::argument(format!(
                    "warm-up with gamma {gamma}, power {power}, min {min}, expected gamma > 0, power > 0 and \
                     0 <= min <= {}",
                    self.decay
                )));
            }
        }
        Ok(())
    }
}

impl From<f64> for AverageOptions {
    fn from(decay: f64) -> Self {
        Self::new(decay)
    }
}

/// An average of a model's weights.
///
/// It is updated by the training loop, after each step. To use it, [`applied`](Self::applied) swaps it into the model
/// and gives a guard that swaps the raw weights back when it goes out of scope, in a panic too. [`apply`](Self::apply)
/// and [`restore`](Self::restore) do the same as explicit calls. A swap exchanges pointers: nothing is copied, and
/// nothing rounded.
///
/// Several averages of one model may exist; one at a time can be applied. While one is, the model and all that share
/// its weights compute with it, and refuse to train. Dropping an average that is applied puts the raw weights back.
///
/// The update is one pass that reads the weights and reads and writes the average. Parameters that are not trained,
/// such as the moving statistics of a [`BatchNorm`](super::BatchNorm), are not averaged: the model has them as they are.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::train::{Adam, Average, Model};
///
/// let mut model = Model::builder(2).dense("logits", 2).build()?;
/// let mut average = Average::new(&model, 0.9)?;
/// let (x, labels) = (array![[0.0, 1.0], [1.0, 0.0]], [0, 1]);
/// let mut adam = Adam::default();
/// for _ in 0..10 {
///     model.train_step(&x, &labels, &mut adam)?;
///     average.update(&model)?;
/// }
///
/// let raw = model.param("logits/kernel")?;
/// let score = average.applied(&mut model)?.evaluate(&x, &labels)?;
/// assert!(score.loss.is_finite());
/// assert_eq!(model.param("logits/kernel")?, raw);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Average {
    shared: Arc<Shared>,
    /// How many layers of the chain are averaged.
    len: usize,
    options: AverageOptions,
    /// By parameter: the averages, or the raw weights while `applied`.
    values: Vec<Vec<f32>>,
    applied: bool,
    counts: Counts,
}

/// How far an average has come.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Counts {
    /// Calls of `update`.
    steps: u64,
    /// Updates that averaged, that is, were not copies.
    averaged: u64,
    /// Whether any update was made.
    updated: bool,
    /// 1 minus the product of the decays so far, for the bias correction.
    #[serde(with = "super::exact")]
    unbias: f64,
}

impl Counts {
    pub(super) fn numbers(&self) -> [u64; 2] {
        [self.steps, self.averaged]
    }
}

impl Average {
    /// An average of a model's weights, which starts at the weights as they are.
    ///
    /// # Errors
    ///
    /// Options out of their range, or another average is applied to the model.
    pub fn new(model: &Model, options: impl Into<AverageOptions>) -> Result<Self> {
        let options = options.into();
        options.check()?;
        model.shared().read().check_raw()?;
        let mut values = Vec::new();
        model.for_each_param(|_, param| {
            if param.is_trainable() {
                values.push(param.values().to_vec());
            }
        });
        Ok(Self {
            shared: Arc::clone(model.shared()),
            len: model.num_layers(),
            options,
            values,
            applied: false,
            counts: Counts::default(),
        })
    }

    /// The options.
    pub fn options(&self) -> &AverageOptions {
        &self.options
    }

    /// The steps seen so far, that is, the calls of [`update`](Self::update).
    pub fn steps(&self) -> u64 {
        self.counts.steps
    }

    /// The averages by parameter, in the model's order, and how far they have come; not while they are applied.
    pub(super) fn parts(&self) -> Result<(&[Vec<f32>], Counts)> {
        if self.applied {
            return Err(Error::argument("the average is applied: restore the raw weights first"));
        }
        Ok((&self.values, self.counts))
    }

    /// Goes on from averages of the same sizes.
    pub(super) fn set_parts<'v>(&mut self, values: impl Iterator<Item = &'v [f32]>, counts: Counts) -> Result<()> {
        self.parts()?;
        self.values.iter_mut().zip(values).for_each(|(own, values)| own.copy_from_slice(values));
        self.counts = counts;
        Ok(())
    }

    /// Takes note of an optimiser step: averages the weights in, copies them, or does nothing, as the options say.
    ///
    /// # Errors
    ///
    /// If this or another average is applied, or the model is not the one that the average was made from.
    pub fn update(&mut self, model: &Model) -> Result<()> {
        self.check_model(model)?;
        if self.applied {
            return Err(Error::argument("an update of an average that is applied: restore the raw weights first"));
        }
        let shared = Arc::clone(&self.shared);
        let chain = shared.read();
        chain.check_raw()?;
        self.update_from(&chain);
        Ok(())
    }

    /// As [`update`](Self::update), with the weights of the chain that is known to be this average's, raw and locked.
    pub(super) fn update_from(&mut self, chain: &Chain) {
        let (counts, options) = (&mut self.counts, &self.options);
        counts.steps += 1;
        if !counts.steps.is_multiple_of(options.every) {
            return;
        }
        let copies = counts.steps <= options.start || (options.start > 0 && !counts.updated);
        let decay = if copies { 0.0 } else { next_decay(options, counts) };
        counts.updated = true;
        let mut values = self.values.iter_mut();
        for named in &chain.layers[..self.len] {
            named.layer.visit_params(&mut |param| {
                if param.is_trainable() {
                    let average = values.next().expect("layers keep their number of parameters");
                    average_pass(average, param.values(), decay);
                }
            });
        }
    }

    /// Swaps the average into the model until the guard is dropped; the guard stands for the model.
    ///
    /// # Errors
    ///
    /// If this or another average is applied already, or the model is another.
    pub fn applied<'a>(&'a mut self, model: &'a mut Model) -> Result<Applied<'a>> {
        self.apply(model)?;
        Ok(Applied { average: self, model })
    }

    /// Swaps the average into the model, until [`restore`](Self::restore).
    ///
    /// # Errors
    ///
    /// If this or another average is applied already, or the model is another. Nothing is changed then.
    pub fn apply(&mut self, model: &mut Model) -> Result<()> {
        self.check_model(model)?;
        if self.applied {
            return Err(Error::argument("the average is applied already"));
        }
        if self.shared.read().averaged {
            return Err(Error::argument("another average is applied: restore the raw weights first"));
        }
        self.swap();
        Ok(())
    }

    /// Swaps the raw weights back, bit for bit as they were.
    ///
    /// # Errors
    ///
    /// If the average is not applied, or the model is another. Nothing is changed then.
    pub fn restore(&mut self, model: &mut Model) -> Result<()> {
        self.check_model(model)?;
        if !self.applied {
            return Err(Error::argument("the average is not applied, there is nothing to restore"));
        }
        self.swap();
        Ok(())
    }

    /// Whether the average is applied.
    pub fn is_applied(&self) -> bool {
        self.applied
    }

    /// A copy of the average of a parameter, by its full name.
    ///
    /// # Errors
    ///
    /// If there is no such parameter, or the average is applied: it is then in the model.
    pub fn param(&self, name: &str) -> Result<ArrayD<f32>> {
        if self.applied {
            return Err(Error::argument("the average is applied: read the parameter from the model"));
        }
        let chain = self.shared.read();
        let (mut values, mut found) = (self.values.iter(), None);
        for named in &chain.layers[..self.len] {
            let mut names = named.params.iter();
            named.layer.visit_params(&mut |param| {
                let full_name = names.next();
                if !param.is_trainable() {
                    return;
                }
                if let Some(average) = values.next()
                    && full_name.is_some_and(|full_name| full_name == name)
                {
                    found = ArrayD::from_shape_vec(IxDyn(param.shape()), average.clone()).ok();
                }
            });
        }
        found.ok_or_else(|| {
            let mut names = Vec::new();
            chain.for_each_param(self.len, |name, param| {
                if param.is_trainable() {
                    names.push(name.to_owned());
                }
            });
            Error::argument(format!("no average of {name}, expected one of {}", names.join(", ")))
        })
    }

    pub(super) fn check_model(&self, model: &Model) -> Result<()> {
        if Arc::ptr_eq(&self.shared, model.shared()) && self.len == model.num_layers() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Shape, "the average belongs to another model"))
    }

    /// Exchanges the averages with the weights in the model.
    fn swap(&mut self) {
        let mut chain = self.shared.write();
        let mut values = self.values.iter_mut();
        for named in &mut chain.layers[..self.len] {
            named.layer.visit_params_mut(&mut |param| {
                if param.is_trainable() {
                    param.swap_values(values.next().expect("layers keep their number of parameters"));
                }
            });
        }
        self.applied = !self.applied;
        chain.averaged = self.applied;
    }
}

impl Drop for Average {
    fn drop(&mut self) {
        if self.applied {
            self.swap();
        }
    }
}

/// A model with averaged weights; dropping it puts the raw ones back.
#[derive(Debug)]
#[must_use = "the raw weights come back as soon as this is dropped"]
pub struct Applied<'a> {
    average: &'a mut Average,
    model: &'a mut Model,
}

impl Deref for Applied<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        self.model
    }
}

impl DerefMut for Applied<'_> {
    fn deref_mut(&mut self) -> &mut Model {
        self.model
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        // The guard stands for a model that may have been replaced through it; the average knows its own.
        if self.average.applied {
            self.average.swap();
        }
    }
}

/// The factor `a` of the next averaging update, and the counts after it.
fn next_decay(options: &AverageOptions, counts: &mut Counts) -> f64 {
    let decay = options.decay_at(counts.averaged);
    counts.averaged += 1;
    // 1 - d1 d2 ... dt, built up from small numbers: nothing cancels.
    let before = counts.unbias;
    counts.unbias = (1.0 - decay) + decay * before;
    if options.bias_correction { decay * before / counts.unbias } else { decay }
}

/// `T <- a T + (1 - a) t`, which the compiler turns into vector instructions.
fn average_pass(average: &mut [f32], weights: &[f32], a: f64) {
    if a == 0.0 {
        average.copy_from_slice(weights);
        return;
    }
    // The two must sum to 1 as they are, or the average of a weight that stays would be another one.
    let a = a as f32;
    let rest = 1.0 - a;
    for (average, &weight) in average.iter_mut().zip(weights) {
        *average = a * *average + rest * weight;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::Ordering;

    use ndarray::arr2;

    use super::super::tests::{Counting, inputs, weights};
    use super::super::{Adam, Dense};
    use super::*;

    /// A model of one weight.
    fn scalar(weight: f32) -> Model {
        let mut model = Model::builder(1).layer("d", Dense::new(1).bias(false)).build().unwrap();
        set(&mut model, weight);
        model
    }

    fn set(model: &mut Model, weight: f32) {
        model.set_param("d/kernel", arr2(&[[weight]]).view().into_dyn()).unwrap();
    }

    /// The average after the weights 1 to 10 in turn, from an initial weight of 0.
    fn average_of_ten(options: AverageOptions) -> f64 {
        let mut model = scalar(0.0);
        let mut average = Average::new(&model, options).unwrap();
        for weight in 1..=10_u8 {
            set(&mut model, f32::from(weight));
            average.update(&model).unwrap();
        }
        f64::from(average.param("d/kernel").unwrap()[[0, 0]])
    }

    /// timm's and diffusers' usual numbers, with another power.
    fn power(power: f64) -> WarmUp {
        WarmUp::Power { gamma: 1.0, power, min: 0.0 }
    }

    #[test]
    fn each_form_has_its_golden_value() {
        let new = AverageOptions::new;
        // Computed in double precision by a loop over the formula of each source.
        let cases = [
            ("initial weights", new(0.9), 4.138_105_960_9),
            ("Keras", new(0.99).start(1), 1.438_207_500_880_449),
            ("PyTorch", new(0.999).start(1), 1.044_880_209_748_21),
            ("timm, diffusers", new(0.9999).warm_up(power(2.0 / 3.0)), 7.295_287_953_226_07),
            ("plain mean", new(0.9999).warm_up(power(1.0)), 5.5),
            ("power 3/4", new(0.9999).warm_up(power(0.75)), 6.839_763_940_299_73),
            (
                "smallest decay",
                new(0.9999).warm_up(WarmUp::Power { gamma: 1.0, power: 2.0 / 3.0, min: 0.5 }),
                7.277_340_335_462_8,
            ),
            (
                "gamma",
                new(0.4).warm_up(WarmUp::Power { gamma: 5.0, power: 2.0 / 3.0, min: 0.0 }),
                9.336_844_718_920_634,
            ),
            ("torch-ema, TensorFlow", new(0.999).warm_up(WarmUp::Count), 8.900_005_953_798_523),
            ("the same, decay reached", new(0.3).warm_up(WarmUp::Count), 9.571_437_305_227_272),
            ("diffusers without a power", new(0.9999).warm_up(WarmUp::Count).start(1), 9.000_010_825_088_225),
            ("bias correction", new(0.9).bias_correction(true), 6.353_399_327_876_294),
            ("bias correction, slow", new(0.999).bias_correction(true), 5.508_254_113_843_76),
            ("every third", new(0.9).every(3), 1.683),
            ("from step 4", new(0.9).start(4), 5.782_969),
        ];
        for (name, options, expected) in cases {
            let found = average_of_ten(options);
            // Ten updates with three roundings of 2^-24 each.
            assert!((found / expected - 1.0).abs() < 2e-6, "{name}: {found}, expected {expected}");
        }
    }

    #[test]
    fn decays_reach_their_limits_where_the_sources_say() {
        let count = AverageOptions::new(0.999).warm_up(WarmUp::Count);
        assert!(count.decay_at(8_988) < 0.999 && count.decay_at(8_989) == 0.999);
        let power = AverageOptions::new(0.9999).warm_up(power(0.75));
        assert!(power.decay_at(215_442) < 0.9999 && power.decay_at(215_443) == 0.9999);
    }

    #[test]
    fn corrected_once_the_average_is_the_weight() {
        let mut model = scalar(0.0);
        let mut average = Average::new(&model, AverageOptions::new(0.9999).bias_correction(true)).unwrap();
        set(&mut model, 0.3);
        average.update(&model).unwrap();
        assert_eq!((average.param("d/kernel").unwrap()[[0, 0]], average.steps()), (0.3, 1));
    }

    #[test]
    fn a_long_run_follows_the_closed_form() {
        // A weight that stays: T = w + a^n (T0 - w).
        let (a, n) = (0.99_f64, 300);
        let mut model = scalar(5.0);
        let mut average = Average::new(&model, a).unwrap();
        set(&mut model, 1.0);
        for _ in 0..n {
            average.update(&model).unwrap();
        }
        let expected = 1.0 + 4.0 * a.powi(n);
        let found = f64::from(average.param("d/kernel").unwrap()[[0, 0]]);
        // Each update adds at most three roundings of 2^-24, of which the decay forgets all but the last 100.
        assert!((found - expected).abs() < 300.0 / 16_777_216.0, "{found}, expected {expected}");
    }

    #[test]
    fn a_weight_that_stays_is_its_own_average() {
        for decay in [0.999, 0.9999, 0.999_999] {
            let mut model = scalar(0.3);
            let mut average = Average::new(&model, decay).unwrap();
            for _ in 0..3000 {
                average.update(&model).unwrap();
            }
            let found = average.param("d/kernel").unwrap()[[0, 0]];
            // Half a rounding of each product and of the sum, forgotten at the pace of the decay, is at most this.
            assert!((found - 0.3).abs() < 1e-4 * 0.3, "{decay}: {found}");
            set(&mut model, 0.3);
        }
        let error = Average::new(&scalar(1.0), 0.9).unwrap().param("d/bias").unwrap_err();
        assert_eq!(error.to_string(), "no average of d/bias, expected one of d/kernel");
    }

    fn model() -> (Model, Counting) {
        let (layer, handle) = Counting::pair();
        let model = Model::builder(3).dense("a", 8).relu("r").layer("c", layer).dense("b", 2).seed(3).build().unwrap();
        (model, handle)
    }

    /// Trains with these averages and returns them.
    fn train<const N: usize>(model: &mut Model, steps: u64, options: [AverageOptions; N]) -> [Average; N] {
        let mut averages = options.map(|options| Average::new(model, options).unwrap());
        let mut adam = Adam::new(0.05);
        for step in 0..steps {
            model.train_step(&inputs(4, 3, step), &[0, 1, 1, 0], &mut adam).unwrap();
            for average in &mut averages {
                average.update(model).unwrap();
            }
        }
        averages
    }

    #[test]
    fn raw_weights_do_not_depend_on_averages() {
        let ((mut plain, _), (mut averaged, _)) = (model(), model());
        let _ = train(&mut plain, 20, []);
        let options = AverageOptions::new(0.9);
        let [mut first, mut second] = train(&mut averaged, 20, [options, options.every(3).bias_correction(true)]);
        assert_eq!(weights(&plain), weights(&averaged));
        for average in [&mut first, &mut second] {
            let x = inputs(5, 3, 0);
            let raw = averaged.predict(&x).unwrap();
            let mut guard = average.applied(&mut averaged).unwrap();
            assert_ne!(guard.predict(&x).unwrap(), raw);
            drop(guard);
            assert_eq!(averaged.predict(&x).unwrap(), raw);
            assert_eq!(weights(&plain), weights(&averaged));
        }
    }

    #[test]
    fn applying_is_a_swap_there_and_back() {
        let (mut model, _) = model();
        let [mut average] = train(&mut model, 5, [AverageOptions::new(0.5)]);
        let kernel = average.param("a/kernel").unwrap();
        let raw = model.param("a/kernel").unwrap();
        let mut sub = model.up_to("a").unwrap();
        let place = |model: &Model| {
            let mut place = 0;
            model.for_each_param(|name, param| {
                if name == "a/kernel" {
                    place = param.values().as_ptr() as usize;
                }
            });
            place
        };
        let at = place(&model);
        let guard = average.applied(&mut model).unwrap();
        assert_ne!(place(&guard), at);
        assert_eq!(guard.param("a/kernel").unwrap(), kernel);
        assert_eq!(sub.param("a/kernel").unwrap(), kernel);
        let error = sub.train_step(&inputs(1, 3, 0), &[0], &mut Adam::default()).unwrap_err();
        assert!(error.message().starts_with("averaged weights are applied"), "{error}");
        drop(guard);
        assert_eq!(place(&model), at);
        assert_eq!((model.param("a/kernel").unwrap(), average.param("a/kernel").unwrap()), (raw, kernel));
    }

    #[test]
    fn a_panic_puts_the_raw_weights_back() {
        let (mut model, handle) = model();
        let [mut average] = train(&mut model, 5, [AverageOptions::new(0.9)]);
        let raw = weights(&model);
        // Outside and inside a pass, where the weights are locked.
        for trouble in [0, 1] {
            handle.trouble.store(trouble, Ordering::Relaxed);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let mut guard = average.applied(&mut model).unwrap();
                assert_ne!(weights(&guard), raw);
                let _ = guard.evaluate(&inputs(1, 3, 0), &[0]);
                panic!("while applied");
            }));
            assert!(panicked.is_err());
            handle.trouble.store(0, Ordering::Relaxed);
            assert_eq!(weights(&model), raw);
            assert!(!average.is_applied());
            model.train_step(&inputs(1, 3, 0), &[0], &mut crate::train::Sgd::new(0.0)).unwrap();
            average.update(&model).unwrap();
        }
    }

    #[test]
    fn an_average_that_is_lost_while_applied_gives_the_weights_back() {
        let (mut model, _) = model();
        let [mut average] = train(&mut model, 5, [AverageOptions::new(0.9)]);
        let raw = weights(&model);
        assert_eq!((average.steps(), average.is_applied()), (5, false));
        average.apply(&mut model).unwrap();
        assert!(average.is_applied());
        assert_ne!(weights(&model), raw);
        drop(average);
        assert_eq!(weights(&model), raw);
    }

    #[test]
    fn evaluating_in_the_guard_is_evaluating_with_the_averages() {
        let (mut trained, _) = model();
        let [mut average] = train(&mut trained, 5, [AverageOptions::new(0.9)]);
        let (mut other, _) = model();
        for name in ["a/kernel", "a/bias", "b/kernel", "b/bias"] {
            other.set_param(name, average.param(name).unwrap().view()).unwrap();
        }
        let (x, labels) = (inputs(6, 3, 7), [0, 1, 0, 1, 0, 1]);
        let expected = other.evaluate(&x, &labels).unwrap();
        assert_eq!(average.applied(&mut trained).unwrap().evaluate(&x, &labels).unwrap(), expected);
    }

    #[test]
    fn mistakes_are_errors_and_lose_nothing() {
        let (mut model, _) = model();
        let [mut average, mut other] = train(&mut model, 3, [AverageOptions::new(0.9), AverageOptions::new(0.5)]);
        let raw = weights(&model);
        let message = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(message(average.restore(&mut model)), "the average is not applied, there is nothing to restore");
        average.apply(&mut model).unwrap();
        let applied = weights(&model);
        assert_eq!(message(average.apply(&mut model)), "the average is applied already");
        assert_eq!(message(other.apply(&mut model)), "another average is applied: restore the raw weights first");
        assert_eq!(
            message(average.update(&model)),
            "an update of an average that is applied: restore the raw weights first"
        );
        let locked = "averaged weights are applied, expected the raw ones: restore them first";
        assert_eq!(message(other.update(&model)), locked);
        assert_eq!(message(model.for_each_param_mut(|_, _| ())), locked);
        assert_eq!(message(model.apply_gradients(&mut Adam::default())), locked);
        let (x, labels) = (inputs(1, 3, 0), [0]);
        assert_eq!(message(model.loss_and_gradients(&x, &labels).map(drop)), locked);
        assert_eq!(message(model.train_step(&x, &labels, &mut Adam::default()).map(drop)), locked);
        assert_eq!(message(model.clip_gradients(crate::train::Clip::Norm(1.0)).map(drop)), locked);
        assert!(model.evaluate(&x, &labels).is_ok());
        assert_eq!(message(Average::new(&model, 0.9).map(drop)), locked);
        assert_eq!(weights(&model), applied);
        average.restore(&mut model).unwrap();
        assert_eq!(weights(&model), raw);
        assert_eq!(message(average.update(&scalar(1.0))), "the average belongs to another model");
        assert_eq!(message(average.apply(&mut self::model().0)), "the average belongs to another model");
        assert_eq!(message(average.update(&model.up_to("c").unwrap())), "the average belongs to another model");
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let model = scalar(1.0);
        let new = AverageOptions::new;
        let warm = |gamma, power, min| new(0.5).warm_up(WarmUp::Power { gamma, power, min });
        let options = [
            new(1.0),
            new(1.0 - 1e-9),
            new(-0.1),
            new(f64::NAN),
            new(0.9).every(0),
            warm(0.0, 1.0, 0.0),
            warm(1.0, -1.0, 0.0),
            warm(1.0, 1.0, 0.6),
            warm(f64::INFINITY, 1.0, 0.0),
        ];
        for options in options {
            assert_eq!(Average::new(&model, options).unwrap_err().kind(), ErrorKind::Argument, "{options:?}");
        }
    }
}
