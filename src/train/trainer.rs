//! Training with everything that belongs to it: one object that steps, and that can be saved and go on.

use std::fmt;

use ndarray::ArrayView2;

use super::average::{Average, AverageOptions};
use super::callback::{Callback, EachEpoch, EachStep, Flow, Moment};
use super::checkpoint::{CheckpointDir, Checkpoints, Progress};
use super::history::History;
use super::input::{Supervised, Targets};
use super::metric::{Metric, Score, Totals};
use super::model::Model;
use super::optim::{Clip, Optimizer, Schedule};
use super::step::Step;
use crate::{Error, ErrorKind, Result, State};

/// A model in training: with its optimiser, and if asked for with a schedule, clipping, accumulation, averages, metrics,
/// callbacks and checkpoints.
///
/// [`fit`](Self::fit) does it all. [`step`](Self::step) is for a loop of one's own.
///
/// # Examples
///
/// ```
/// use procession::train::{Adam, EarlyStopping, Model, Schedule, Trainer};
/// use procession::{Loader, from_fn};
///
/// let points = |seed: usize| {
///     from_fn(300, move |index| {
///         let label = (index % 3) as u32;
///         let noise = ((index * 31 + seed) % 17) as f32 / 17.0;
///         ([label as f32 + 0.5 * noise, -noise], label)
///     })
/// };
/// let train = Loader::builder(points(0)).batch_size(32).shuffle(7).build()?;
/// let test = Loader::builder(points(5)).batch_size(100).build()?;
///
/// let model = Model::builder(2).dense("hidden", 16).relu("relu").dense("logits", 3).build()?;
/// let mut trainer = Trainer::new(model, Adam::new(0.01))
///     .schedule(Schedule::cosine(0.03, 10 * train.num_batches()))?
///     .average("ema", 0.95)?
///     .callback(EarlyStopping::new("val_loss").patience(3));
/// trainer.fit_validated(train.epochs(0..10), || test.epoch(0))?;
///
/// assert!(trainer.evaluate(test.epoch(0))?.accuracy > 0.9);
/// assert!(trainer.history().column("ema_val_accuracy").count() > 1);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Trainer {
    pub(super) model: Model,
    pub(super) optimizer: Box<dyn Optimizer>,
    pub(super) schedule: Option<Schedule>,
    pub(super) clip: Option<Clip>,
    pub(super) accumulated: GradientSum,
    pub(super) averages: Vec<(String, Average)>,
    pub(super) metrics: Vec<Box<dyn Metric>>,
    pub(super) callbacks: Vec<Box<dyn Callback>>,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) history: History,
    pub(super) progress: Progress,
    /// Where the loader has to go on after a resume.
    pub(super) resumed: Option<State>,
    /// Whether the callbacks are elsewhere, as they are while `fit` is at work.
    pub(super) is_fitting: bool,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("model", &self.model)
            .field("optimizer", &self.optimizer)
            .field("averages", &self.averages.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// A model and an optimiser, and nothing else.
    pub fn new(model: Model, optimizer: impl Optimizer + 'static) -> Self {
        Self {
            model,
            optimizer: Box::new(optimizer),
            schedule: None,
            clip: None,
            accumulated: GradientSum { every: 1, ..GradientSum::default() },
            averages: Vec::new(),
            metrics: Vec::new(),
            callbacks: Vec::new(),
            checkpoints: None,
            history: History::new(),
            progress: Progress::default(),
            resumed: None,
            is_fitting: false,
        }
    }

    /// Sets the learning rate of every step from a schedule; without one it is the optimiser's.
    ///
    /// # Errors
    ///
    /// A schedule with numbers out of range.
    pub fn schedule(mut self, schedule: Schedule) -> Result<Self> {
        schedule.check()?;
        self.schedule = Some(schedule);
        Ok(self)
    }

    /// Clips the gradients of every step.
    ///
    /// # Errors
    ///
    /// A bound that is not above 0.
    pub fn clip(mut self, clip: Clip) -> Result<Self> {
        clip.check()?;
        self.clip = Some(clip);
        Ok(self)
    }

    /// Makes one step of the mean gradients over the samples of so many batches, as of one large batch; 1 by default.
    /// What is left at the end of an epoch makes a step of its own.
    ///
    /// # Errors
    ///
    /// If it is 0.
    pub fn accumulate(mut self, batches: u64) -> Result<Self> {
        if batches == 0 {
            return Err(Error::argument("gradients accumulated over 0 batches, expected at least 1"));
        }
        self.accumulated.every = batches;
        Ok(self)
    }

    /// Adds an average of the weights, which is updated after every step and validated beside the raw weights. It starts
    /// at the weights as they are now.
    ///
    /// # Errors
    ///
    /// Options out of range, or a name that is empty, taken or has a `/` in it.
    pub fn average(mut self, name: impl Into<String>, options: impl Into<AverageOptions>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.contains('/') || self.averages.iter().any(|(other, _)| *other == name) {
            return Err(Error::argument(format!("average name {name:?}, expected one of its own that has no /")));
        }
        let average = Average::new(&self.model, options)?;
        self.averages.push((name, average));
        Ok(self)
    }

    /// Adds a metric, which evaluations compute besides loss and accuracy.
    #[must_use]
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.metrics.push(Box::new(metric));
        self
    }

    /// Adds a callback. Callbacks are called in the order in which they were added.
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Calls a function after every step of the optimiser.
    #[must_use]
    pub fn on_step(self, f: impl FnMut(&mut Moment<'_>) -> Result<Flow> + Send + 'static) -> Self {
        self.callback(EachStep(f))
    }

    /// Calls a function after every epoch.
    #[must_use]
    pub fn on_epoch(self, f: impl FnMut(&mut Moment<'_>) -> Result<Flow> + Send + 'static) -> Self {
        self.callback(EachEpoch(f))
    }

    /// Keeps checkpoints in a directory: one after every epoch, before and after its validation; one when a callback ends
    /// or pauses the training; and, if `every` is given, one after so many steps.
    ///
    /// A directory with checkpoints that the training was not resumed from is refused by [`fit`](Self::fit).
    ///
    /// # Errors
    ///
    /// If `every` is 0.
    pub fn checkpoints(mut self, dir: CheckpointDir, every: impl Into<Option<u64>>) -> Result<Self> {
        let every = every.into();
        if every == Some(0) {
            return Err(Error::argument("a checkpoint every 0 steps, expected at least 1"));
        }
        self.checkpoints = Some(Checkpoints { dir, every, ours: false });
        Ok(self)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to be changed. Weights that are changed here go their own way: averages and optimiser stay.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// The model, when the training is over.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f32 {
        match &self.schedule {
            Some(schedule) => schedule.rate(self.model.step()) as f32,
            None => self.optimizer.learning_rate(),
        }
    }

    pub(super) fn rate_of_last_step(&self) -> f32 {
        self.optimizer.learning_rate()
    }

    /// Sets the learning rate from the next step on. It has no effect with a schedule.
    pub fn set_learning_rate(&mut self, learning_rate: f32) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    /// What was noted after each epoch.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// An average and the model that it can be [applied](Average::applied) to.
    ///
    /// # Errors
    ///
    /// If there is no average of this name; the error lists those that there are.
    pub fn average_and_model(&mut self, name: &str) -> Result<(&mut Average, &mut Model)> {
        let at = self.position_of(name)?;
        Ok((&mut self.averages[at].1, &mut self.model))
    }

    pub(super) fn position_of(&self, average: &str) -> Result<usize> {
        let found = self.averages.iter().position(|(name, _)| name == average);
        found.ok_or_else(|| match &self.averages[..] {
            [] => Error::argument(format!("no average {average}: the trainer has none")),
            averages => {
                let names: Vec<&str> = averages.iter().map(|(name, _)| name.as_str()).collect();
                Error::argument(format!("no average {average}, expected one of {}", names.join(", ")))
            }
        })
    }

    /// Trains on a batch: its gradients and, unless more batches are to be accumulated first, a step of the optimiser
    /// and of all averages. The score is that of the weights before.
    ///
    /// For a loop of one's own: callbacks, checkpoints, history and totals belong to [`fit`](Self::fit), and the rows are
    /// all those of the data, padding too.
    ///
    /// # Errors
    ///
    /// Data that does not fit the model or its loss, or a loss that is not finite ([`ErrorKind::Numeric`]); the weights
    /// are then as they were before.
    pub fn step(&mut self, data: &impl Supervised) -> Result<Score> {
        // Whoever steps by hand knows where the loader is.
        self.resumed = None;
        let x = data.inputs(&self.model.shared().input_shape)?;
        Ok(self.step_rows(x, data.targets())?.0)
    }

    /// As [`step`](Self::step); also tells whether the optimiser made a step.
    pub(super) fn step_rows(&mut self, x: ArrayView2<'_, f32>, targets: Targets<'_>) -> Result<(Score, bool)> {
        let (model, accumulated, update) = self.parts()?;
        model.step_with(x.nrows(), |step| {
            step.chain.check_raw()?;
            step.runner.part = accumulated.batches;
            let score = step.gradients(x, targets)?;
            if accumulated.every > 1 {
                accumulated.add(step, score.samples);
                if accumulated.batches < accumulated.every {
                    return Ok((score, false));
                }
                accumulated.move_into(step);
            }
            update.apply(step)?;
            Ok((score, true))
        })
    }

    /// Makes a step of what was accumulated, if there is anything.
    pub(super) fn step_of_rest(&mut self) -> Result<bool> {
        if self.accumulated.batches == 0 {
            return Ok(false);
        }
        let (model, accumulated, update) = self.parts()?;
        model.step_with(0, |step| {
            step.chain.check_raw()?;
            accumulated.move_into(step);
            update.apply(step)?;
            Ok(true)
        })
    }

    /// What makes a step. The callbacks are no part of it: it may be made on another thread.
    fn parts(&mut self) -> Result<(&mut Model, &mut GradientSum, Update<'_>)> {
        let Self { model, optimizer, schedule, clip, accumulated, averages, .. } = self;
        // The model may have been replaced by way of `model_mut`.
        averages.iter().try_for_each(|(_, average)| average.check_model(model))?;
        let update = Update { optimizer: &mut **optimizer, schedule: schedule.as_ref(), clip: *clip, averages };
        Ok((model, accumulated, update))
    }

    /// Drops what was accumulated: of an epoch that was left.
    pub(super) fn forget_rest(&mut self) {
        self.accumulated.batches = 0;
    }

    /// The totals of training over the epoch at hand so far.
    pub fn totals(&self) -> Totals {
        let Progress { loss, correct, judged, samples, .. } = self.progress;
        Totals { loss, correct, judged, samples }
    }

    pub(super) fn set_totals(&mut self, totals: Totals) {
        let Totals { loss, correct, judged, samples } = totals;
        self.progress = Progress { loss, correct, judged, samples, ..self.progress };
    }

    /// A copy of all weights and averages, in the memory of a spare one.
    pub(super) fn snapshot(&self, spare: Option<Snapshot>) -> Result<Snapshot> {
        let mut snapshot = spare.unwrap_or_default();
        let mut arrays = snapshot.arrays.iter_mut();
        let mut more = Vec::new();
        let mut keep = |values: &[f32]| match arrays.next() {
            Some(array) if array.len() == values.len() => array.copy_from_slice(values),
            Some(array) => *array = values.to_vec(),
            None => more.push(values.to_vec()),
        };
        self.model.for_each_param(|_, param| keep(param.values()));
        for (_, average) in &self.averages {
            average.parts()?.0.iter().for_each(|values| keep(values));
        }
        snapshot.arrays.append(&mut more);
        Ok(snapshot)
    }

    /// Puts weights and averages back.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let mut sizes = Vec::new();
        self.model.for_each_param(|_, param| sizes.push(param.len()));
        for (_, average) in &self.averages {
            sizes.extend(average.parts()?.0.iter().map(Vec::len));
        }
        if !snapshot.arrays.iter().map(Vec::len).eq(sizes) {
            return Err(Error::new(ErrorKind::State, "the best weights are those of another model"));
        }
        let mut arrays = snapshot.arrays.iter().map(Vec::as_slice);
        self.model.for_each_param_mut(|_, param| {
            param.values_mut().copy_from_slice(arrays.next().expect("the sizes were compared"));
        })?;
        for (_, average) in &mut self.averages {
            let counts = average.parts()?.1;
            average.set_parts(&mut arrays, counts)?;
        }
        Ok(())
    }
}

/// A copy of weights and averages.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    arrays: Vec<Vec<f32>>,
}

impl Snapshot {
    pub(super) fn arrays(&self) -> Vec<(String, Vec<f32>)> {
        let numbered = (0..).zip(&self.arrays).map(|(number, array): (u64, _)| (number.to_string(), array.clone()));
        numbered.collect()
    }

    pub(super) fn from_arrays(arrays: Vec<(String, Vec<f32>)>) -> Self {
        Self { arrays: arrays.into_iter().map(|(_, array)| array).collect() }
    }
}

/// What follows when the gradients of a step are there.
struct Update<'t> {
    optimizer: &'t mut dyn Optimizer,
    schedule: Option<&'t Schedule>,
    clip: Option<Clip>,
    averages: &'t mut [(String, Average)],
}

impl Update<'_> {
    fn apply(self, step: &mut Step<'_>) -> Result<()> {
        if let Some(schedule) = self.schedule {
            self.optimizer.set_learning_rate(schedule.rate(step.runner.step) as f32);
        }
        if let Some(clip) = self.clip {
            step.clip(clip)?;
        }
        step.apply(self.optimizer)?;
        self.averages.iter_mut().for_each(|(_, average)| average.update_from(step.chain));
        Ok(())
    }
}

/// Gradients summed over batches, each weighted by its number of samples.
#[derive(Debug, Default)]
pub(super) struct GradientSum {
    /// How many batches make a step.
    pub(super) every: u64,
    pub(super) batches: u64,
    samples: usize,
    /// By slot.
    sums: Vec<Vec<f32>>,
}

impl GradientSum {
    fn add(&mut self, step: &mut Step<'_>, samples: usize) {
        let (is_first, weight, sums) = (self.batches == 0, samples as f32, &mut self.sums);
        if is_first {
            self.samples = 0;
        }
        step.params().for_each(|slot, param| {
            if sums.len() == slot {
                sums.push(vec![0.0; param.len()]);
            }
            let of_batch = sums[slot].iter_mut().zip(param.grads());
            if is_first {
                of_batch.for_each(|(sum, grad)| *sum = weight * grad);
            } else {
                of_batch.for_each(|(sum, grad)| *sum += weight * grad);
            }
        });
        self.batches += 1;
        self.samples += samples;
    }

    /// Sets the gradients to the mean over all samples, and starts anew.
    fn move_into(&mut self, step: &mut Step<'_>) {
        let scale = 1.0 / self.samples as f32;
        step.params().for_each(|slot, param| {
            param.grads_mut().iter_mut().zip(&self.sums[slot]).for_each(|(grad, sum)| *grad = scale * sum);
        });
        self.batches = 0;
    }
}
