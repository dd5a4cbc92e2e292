//! Training with everything that belongs to it: one object that steps, and that can be saved and go on.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::ArrayView2;

use super::average::{Average, AverageOptions};
use super::callback::{Callback, CallbackState, EachEpoch, EachStep, Flow, Moment};
use super::checkpoint::{AverageMeta, CallbackMeta, Checkpoint, CheckpointDir, Meta, Progress, view};
use super::file::replace_file;
use super::history::History;
use super::input::{Supervised, Targets};
use super::metric::{Metric, Score, Totals};
use super::model::Model;
use super::optim::{Clip, Optimizer, OptimizerState, Schedule};
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
    optimizer: Box<dyn Optimizer>,
    schedule: Option<Schedule>,
    clip: Option<Clip>,
    accumulated: GradientSum,
    pub(super) averages: Vec<(String, Average)>,
    pub(super) metrics: Vec<Box<dyn Metric>>,
    pub(super) callbacks: Vec<Box<dyn Callback>>,
    checkpoints: Option<Checkpoints>,
    pub(super) history: History,
    pub(super) progress: Progress,
    /// Where the loader has to go on after a resume.
    pub(super) resumed: Option<State>,
    /// Whether the callbacks are elsewhere, as they are while `fit` is at work.
    pub(super) is_fitting: bool,
}

/// Where checkpoints are kept, and when they are due.
struct Checkpoints {
    dir: CheckpointDir,
    every: Option<u64>,
    /// Whether what is in the directory is of this training.
    ours: bool,
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

    /// Keeps checkpoints in a directory: one after every epoch, one when the training is paused, and, if `every` is
    /// given, one after so many steps.
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
struct GradientSum {
    /// How many batches make a step.
    every: u64,
    batches: u64,
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

/// Where a training goes on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// Where the loader was, to be given to [`Epochs::resume`](crate::Epochs::resume).
    pub state: State,
    /// The checkpoint's file.
    pub file: PathBuf,
    /// Why each newer file was not taken, newest first.
    pub refused: Vec<Error>,
}

impl Trainer {
    /// Saves a checkpoint: all that is needed to go on from here, with the loader's state.
    ///
    /// # Errors
    ///
    /// If batches are accumulated that did not make a step yet, an average is applied, a number is not finite, the file
    /// cannot be written, or from within [`fit`](Self::fit), which keeps [`checkpoints`](Self::checkpoints) itself.
    ///
    /// # Cost
    ///
    /// All arrays are copied three times on the way to the file.
    pub fn save(&self, path: impl AsRef<Path>, state: &State) -> Result<()> {
        self.check_idle()?;
        replace_file(path, &self.checkpoint_bytes(state, &self.callbacks)?)
    }

    /// Goes on from a checkpoint. The model, the optimiser, the schedule, the averages and the callbacks must have been
    /// made as those that it was saved from.
    ///
    /// # Errors
    ///
    /// Of kind [`State`](ErrorKind::State) if anything differs, saying what and how; nothing is changed then. The learning
    /// rate is the checkpoint's, which a callback may have set.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.check(checkpoint)?;
        let meta = &checkpoint.meta;
        let mut shapes = Vec::new();
        self.model.for_each_param(|name, param| {
            shapes.push((name.to_owned(), param.shape().to_vec(), param.is_trainable()));
        });
        let arrays_of = |prefix: &str, trained_only: bool| {
            let shapes = shapes.iter().filter(|(_, _, trained)| *trained || !trained_only);
            shapes
                .map(|(name, shape, _)| checkpoint.array(&format!("{prefix}{name}"), shape))
                .collect::<Result<Vec<_>>>()
        };
        // All that can fail comes before anything is changed.
        let weights = arrays_of("model/", false)?;
        if let Some(name) = checkpoint.arrays.keys().find(|name| {
            let param = name.strip_prefix("model/");
            param.is_some_and(|param| !shapes.iter().any(|(name, ..)| name == param))
        }) {
            let message =
                format!("the checkpoint does not fit: it has an array {name}, of which the model knows nothing");
            return Err(Error::new(ErrorKind::State, message));
        }
        let averages = self.averages.iter().map(|(name, _)| arrays_of(&format!("average/{name}/"), true));
        let averages = averages.collect::<Result<Vec<_>>>()?;
        let mut state = OptimizerState { steps: meta.optimizer_steps, arrays: Vec::new() };
        for (name, _) in self.optimizer.state().arrays {
            let mut slots = Vec::new();
            if meta.optimizer_arrays.iter().any(|saved| saved == name) {
                slots = arrays_of(&format!("optimizer/{name}/"), true)?.into_iter().map(<[f32]>::to_vec).collect();
            }
            state.arrays.push((name, slots.into()));
        }
        let mut callback_states = Vec::new();
        for (number, saved) in meta.callbacks.iter().enumerate() {
            let array = |(at, name): (usize, &String)| {
                let full_name = format!("callback/{number}/{at}/{name}");
                let array = checkpoint.arrays.get(&full_name).and_then(|array| array.as_slice());
                let missing = || Error::new(ErrorKind::State, format!("the checkpoint has no array {full_name}"));
                Ok((name.clone(), array.ok_or_else(missing)?.to_vec()))
            };
            let arrays = saved.arrays.iter().enumerate().map(array).collect::<Result<Vec<_>>>()?;
            callback_states.push(CallbackState { text: saved.text.clone(), arrays });
        }
        let callbacks_before: Vec<CallbackState> = named(&self.callbacks).map(|callback| callback.state()).collect();
        let optimizer_before = self.optimizer.state().into_owned();
        let mut set = self.optimizer.set_state(state);
        for (callback, state) in named_mut(&mut self.callbacks).zip(callback_states) {
            set = set.and_then(|()| callback.set_state(state));
        }
        if let Err(error) = set {
            // What has taken a new state takes its old one; what has refused it still has that.
            let _ = self.optimizer.set_state(optimizer_before);
            for (callback, state) in named_mut(&mut self.callbacks).zip(callbacks_before) {
                let _ = callback.set_state(state);
            }
            return Err(error);
        }
        self.optimizer.set_learning_rate(meta.learning_rate as f32);
        let mut weights = weights.into_iter();
        self.model.for_each_param_mut(|_, param| {
            param.values_mut().copy_from_slice(weights.next().expect("each parameter has its array"));
        })?;
        self.model.set_step(meta.step);
        for (((_, average), values), saved) in self.averages.iter_mut().zip(averages).zip(&meta.averages) {
            average.set_parts(values.into_iter(), saved.counts)?;
        }
        self.forget_rest();
        self.history = meta.history.clone();
        self.progress = meta.progress;
        self.resumed = Some(checkpoint.state.clone());
        Ok(())
    }

    /// Goes on from the newest checkpoint that is whole, of those that this trainer keeps
    /// ([`checkpoints`](Self::checkpoints)); none if there are none.
    ///
    /// # Errors
    ///
    /// As [`CheckpointDir::latest`] and [`resume`](Self::resume), or if no checkpoints are kept.
    pub fn resume_latest(&mut self) -> Result<Option<Resumed>> {
        let Some(checkpoints) = &self.checkpoints else {
            return Err(Error::argument("no directory of checkpoints to resume from"));
        };
        let Some(latest) = checkpoints.dir.latest()? else { return Ok(None) };
        self.resume(&latest.checkpoint).map_err(|error| error.with_file(&latest.file))?;
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.ours = true;
        }
        Ok(Some(Resumed { state: latest.checkpoint.state, file: latest.file, refused: latest.refused }))
    }

    pub(super) fn check_idle(&self) -> Result<()> {
        if self.is_fitting {
            return Err(Error::argument("a callback saves, resumes or fits the trainer that calls it"));
        }
        Ok(())
    }

    /// Says what differs if a checkpoint does not fit.
    fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.check_idle()?;
        self.model.shared().read().check_raw()?;
        let (saved, own) = (&checkpoint.meta, self.meta(&checkpoint.state, &self.callbacks)?);
        let names = |meta: &Meta| meta.callbacks.iter().map(|callback| callback.name.clone()).collect::<Vec<_>>();
        let averages = |meta: &Meta| {
            meta.averages.iter().map(|average| format!("{} {}", average.name, average.options)).collect::<Vec<_>>()
        };
        let text = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join("; ") };
        let mut differences = Vec::new();
        for (what, saved, own) in [
            ("model", &saved.model, &own.model),
            ("loss", &saved.loss, &own.loss),
            ("seed", &saved.seed.to_string(), &own.seed.to_string()),
            ("optimiser", &saved.optimizer, &own.optimizer),
            ("schedule", &saved.schedule, &own.schedule),
            ("clipping", &saved.clip, &own.clip),
            ("accumulated batches", &saved.accumulate.to_string(), &own.accumulate.to_string()),
            ("averages", &text(averages(saved)), &text(averages(&own))),
            ("callbacks", &text(names(saved)), &text(names(&own))),
        ] {
            if saved != own {
                differences.push(format!("{what} {saved} in the checkpoint but {own} in the trainer"));
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        let message = format!("the checkpoint does not fit: {}", differences.join("; "));
        Err(Error::new(ErrorKind::State, message))
    }

    /// All of a checkpoint but its arrays.
    fn meta(&self, state: &State, callbacks: &[Box<dyn Callback>]) -> Result<Meta> {
        let optimizer = self.optimizer.state();
        let average = |(name, average): &(String, Average)| {
            let (options, counts) = (format!("{:?}", average.options()), average.parts()?.1);
            Ok(AverageMeta { name: name.clone(), options, counts })
        };
        let callback = |callback: &dyn Callback| {
            let CallbackState { text, arrays } = callback.state();
            let arrays = arrays.into_iter().map(|(name, _)| name).collect();
            CallbackMeta { name: callback.name(), text, arrays }
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        Ok(Meta {
            version: Meta::VERSION,
            model: self.model.summary().describe(),
            loss: format!("{:?}", self.model.loss()),
            optimizer: self.optimizer.describe(),
            schedule: or_none(self.schedule.map(|schedule| format!("{schedule:?}"))),
            clip: or_none(self.clip.map(|clip| format!("{clip:?}"))),
            accumulate: self.accumulated.every,
            seed: self.model.seed(),
            step: self.model.step(),
            learning_rate: f64::from(self.optimizer.learning_rate()),
            optimizer_steps: optimizer.steps,
            optimizer_arrays: optimizer
                .arrays
                .iter()
                .filter(|(_, slots)| !slots.is_empty())
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            averages: self.averages.iter().map(average).collect::<Result<Vec<_>>>()?,
            loader: state.to_string(),
            progress: self.progress,
            history: self.history.clone(),
            callbacks: named(callbacks).map(callback).collect(),
        })
    }

    fn checkpoint_bytes(&self, state: &State, callbacks: &[Box<dyn Callback>]) -> Result<Vec<u8>> {
        if self.accumulated.batches > 0 {
            let message =
                format!("{} batches are accumulated: a checkpoint is made between steps", self.accumulated.batches);
            return Err(Error::argument(message));
        }
        self.model.shared().read().check_raw()?;
        let meta = self.meta(state, callbacks)?;
        let mut arrays: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        let (mut shapes, optimizer) = (Vec::new(), self.optimizer.state());
        self.model.for_each_param(|name, param| {
            arrays.push((format!("model/{name}"), param.shape().to_vec(), param.values().to_vec()));
            if param.is_trainable() {
                shapes.push((name.to_owned(), param.shape().to_vec()));
            }
        });
        let mut add = |prefix: String, slots: &[Vec<f32>]| {
            for ((name, shape), values) in shapes.iter().zip(slots) {
                arrays.push((format!("{prefix}/{name}"), shape.clone(), values.clone()));
            }
        };
        optimizer.arrays.iter().for_each(|(name, slots)| add(format!("optimizer/{name}"), slots));
        for (name, average) in &self.averages {
            add(format!("average/{name}"), average.parts()?.0);
        }
        for (number, callback) in named(callbacks).enumerate() {
            for (at, (name, values)) in callback.state().arrays.into_iter().enumerate() {
                arrays.push((format!("callback/{number}/{at}/{name}"), vec![values.len()], values));
            }
        }
        check_arrays(&arrays, self.model.step())?;
        let views = arrays.iter().map(|(name, shape, values)| (name.as_str(), view(shape, values)));
        Checkpoint::bytes(&meta, views)
    }

    /// Refuses to put checkpoints beside those of another training, which would be removed.
    pub(super) fn check_checkpoints(&mut self) -> Result<()> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        if !checkpoints.ours && !checkpoints.dir.is_empty()? {
            let message = "the directory has checkpoints of another training: resume it, or take another directory";
            return Err(Error::new(ErrorKind::State, message).with_file(checkpoints.dir.path()));
        }
        checkpoints.ours = true;
        Ok(())
    }

    /// Whether a checkpoint is due after the step that was made.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let every = self.checkpoints.as_ref().and_then(|checkpoints| checkpoints.every);
        every.is_some_and(|every| self.model.step().is_multiple_of(every))
    }

    /// Saves a checkpoint in the directory, if there is one.
    pub(super) fn keep_checkpoint(&self, state: &State, callbacks: &[Box<dyn Callback>]) -> Result<()> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        checkpoints.dir.save(self.model.step(), &self.checkpoint_bytes(state, callbacks)?)?;
        Ok(())
    }
}

/// Refuses what could not be gone on from: numbers that are not finite (the loss was, when the gradients no longer were),
/// and two arrays of one name.
fn check_arrays(arrays: &[(String, Vec<usize>, Vec<f32>)], step: u64) -> Result<()> {
    let mut names = HashSet::new();
    for (name, _, values) in arrays {
        if !names.insert(name.as_str()) {
            return Err(Error::argument(format!("two arrays of a checkpoint are named {name}")));
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            let message = format!("{name} has a value of {value} after {step} steps: no checkpoint is made of it");
            return Err(Error::new(ErrorKind::Numeric, message));
        }
    }
    Ok(())
}

/// The callbacks that a checkpoint knows.
fn named(callbacks: &[Box<dyn Callback>]) -> impl Iterator<Item = &dyn Callback> {
    callbacks.iter().map(|callback| &**callback).filter(|callback| !callback.name().is_empty())
}

fn named_mut(callbacks: &mut [Box<dyn Callback>]) -> impl Iterator<Item = &mut Box<dyn Callback>> {
    callbacks.iter_mut().filter(|callback| !callback.name().is_empty())
}
