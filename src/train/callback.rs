//! What happens during a training besides the steps.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::average::Average;
use super::history::History;
use super::metric::Score;
use super::model::Model;
use super::trainer::{Snapshot, Trainer};
use crate::{Error, ErrorKind, Result, State};

/// Whether a training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub enum Flow {
    /// It goes on.
    #[default]
    Continue,
    /// It is over, for a resume too.
    Stop,
    /// It ends for now, after a checkpoint if checkpoints are kept: a resume goes on where it was.
    Pause,
}

/// Something that is called during [`Trainer::fit`]. The calls do nothing unless they are implemented.
///
/// What a callback does to the model it does by [`Moment::model`]. What it has to know again after a resume it gives as
/// its [`state`](Self::state).
pub trait Callback: Send {
    /// Called after every step of the optimiser.
    ///
    /// # Errors
    ///
    /// What ends the training.
    fn on_step(&mut self, _moment: &mut Moment<'_>) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// Called after every epoch, when it was validated and noted in the history.
    ///
    /// # Errors
    ///
    /// What ends the training.
    fn on_epoch(&mut self, _moment: &mut Moment<'_>) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// Called when the training is over: after the last epoch, or when a callback stopped it; not when it is paused.
    ///
    /// # Errors
    ///
    /// What [`Trainer::fit`] then returns.
    fn on_end(&mut self, _trainer: &mut Trainer) -> Result<()> {
        Ok(())
    }

    /// The kind of callback and its options in one line: a checkpoint is refused by a trainer whose callbacks have
    /// other names. Those with an empty name are left out of checkpoints.
    fn name(&self) -> String {
        String::new()
    }

    /// What a checkpoint has to keep.
    fn state(&self) -> CallbackState {
        CallbackState::default()
    }

    /// Goes on from a state that a callback of the same name had.
    ///
    /// # Errors
    ///
    /// If it is not one of such a callback.
    fn set_state(&mut self, _state: CallbackState) -> Result<()> {
        Ok(())
    }
}

/// What a callback keeps in a checkpoint.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallbackState {
    /// Anything that is short.
    pub text: String,
    /// Arrays by name.
    pub arrays: Vec<(String, Vec<f32>)>,
}

/// A moment of a training, as a callback sees it.
pub struct Moment<'t> {
    pub(super) trainer: &'t mut Trainer,
    pub(super) epoch: u64,
    pub(super) num_batches: u64,
    pub(super) num_batches_left: u64,
    pub(super) score: Option<Score>,
    pub(super) elapsed: Duration,
    pub(super) waited: Duration,
    pub(super) samples_per_second: f64,
    pub(super) state: &'t dyn Fn() -> State,
}

impl fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment").field("epoch", &self.epoch).field("score", &self.score).finish_non_exhaustive()
    }
}

impl Moment<'_> {
    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The optimiser's steps so far, over all epochs.
    pub fn step(&self) -> u64 {
        self.trainer.model().step()
    }

    /// The batches of the epoch, or of what was left of it when the training was resumed.
    pub fn num_batches(&self) -> u64 {
        self.num_batches
    }

    /// The batches of the epoch that are still to come.
    pub fn num_batches_left(&self) -> u64 {
        self.num_batches_left
    }

    /// What the last batch gave; none at the end of an epoch.
    pub fn score(&self) -> Option<&Score> {
        self.score.as_ref()
    }

    /// The mean loss in training over the epoch so far.
    pub fn mean_loss(&self) -> f64 {
        self.trainer.totals().mean_loss()
    }

    /// The time spent training in the epoch so far (since a resume in its midst, if there was one).
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The part of [`elapsed`](Self::elapsed) in which the training waited for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The samples trained on in a second, over the epoch so far.
    pub fn samples_per_second(&self) -> f64 {
        self.samples_per_second
    }

    /// The history; at the end of an epoch, with its row.
    pub fn history(&self) -> &History {
        self.trainer.history()
    }

    /// The value of a name in the epoch's row, at its end.
    ///
    /// # Errors
    ///
    /// If there is none; the error lists the names that there are. In [`Callback::on_step`] there is no row yet.
    pub fn value(&self, name: &str) -> Result<f64> {
        if !self.trainer.progress.noted {
            return Err(Error::argument(format!("no value {name} yet: the epoch is not at its end")));
        }
        let mut values = self.history().last();
        values.find(|(other, _)| *other == name).map(|(_, value)| value).ok_or_else(|| {
            let names: Vec<&str> = self.history().last().map(|(name, _)| name).collect();
            Error::argument(format!("no value {name}, expected one of {}", names.join(", ")))
        })
    }

    /// Adds values to the epoch's row in the history.
    ///
    /// # Errors
    ///
    /// If the epoch has no row yet: in [`Callback::on_step`].
    pub fn note(&mut self, values: &[(&str, f64)]) -> Result<()> {
        if !self.trainer.progress.noted {
            return Err(Error::argument("values are noted at the end of an epoch, which is not there yet"));
        }
        self.trainer.history.amend(values);
        Ok(())
    }

    /// The model, with its raw weights.
    pub fn model(&mut self) -> &mut Model {
        self.trainer.model_mut()
    }

    /// An average and the model that it can be [applied](super::Average::applied) to.
    ///
    /// # Errors
    ///
    /// If there is no average of this name; the error lists those that there are.
    pub fn average_and_model(&mut self, name: &str) -> Result<(&mut Average, &mut Model)> {
        self.trainer.average_and_model(name)
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f32 {
        self.trainer.learning_rate()
    }

    /// Sets the learning rate from the next step on. It has no effect with a schedule.
    pub fn set_learning_rate(&mut self, learning_rate: f32) {
        self.trainer.set_learning_rate(learning_rate);
    }

    /// Where the loader is.
    pub fn state(&self) -> State {
        (self.state)()
    }
}

/// A function that is called after every step. What it remembers is in no checkpoint.
pub(super) struct EachStep<F>(pub(super) F);

impl<F: FnMut(&mut Moment<'_>) -> Result<Flow> + Send> Callback for EachStep<F> {
    fn on_step(&mut self, moment: &mut Moment<'_>) -> Result<Flow> {
        (self.0)(moment)
    }
}

/// A function that is called after every epoch.
pub(super) struct EachEpoch<F>(pub(super) F);

impl<F: FnMut(&mut Moment<'_>) -> Result<Flow> + Send> Callback for EachEpoch<F> {
    fn on_epoch(&mut self, moment: &mut Moment<'_>) -> Result<Flow> {
        (self.0)(moment)
    }
}

/// Saves the history after every epoch, as CSV or as JSON Lines.
///
/// The file is replaced as a whole, so that it is in step with the training after a resume too.
#[derive(Debug, Clone)]
pub struct SaveHistory {
    path: PathBuf,
}

impl SaveHistory {
    /// To a file whose name ends in `.csv` or `.jsonl`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Callback for SaveHistory {
    fn on_epoch(&mut self, moment: &mut Moment<'_>) -> Result<Flow> {
        moment.history().save(&self.path)?;
        Ok(Flow::Continue)
    }
}

/// Stops the training when a value of the history has not become better for some epochs, and puts the weights and
/// averages of the best epoch back.
///
/// A value is better if it is below the best so far by more than `min_delta`; or above it, after
/// [`maximise`](Self::maximise). NaN is never better. The best weights are put back at the end of the training however
/// it came about, unless [`restore_best`](Self::restore_best) is off.
///
/// It follows one training, that is, one call of [`Trainer::fit`] with all epochs (and those that resume it): a second
/// call would go on from the best value of the first.
///
/// # Examples
///
/// ```
/// use procession::train::EarlyStopping;
///
/// let callback = EarlyStopping::new("val_accuracy").maximise().patience(3);
/// # let _ = callback;
/// ```
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    monitor: String,
    patience: u64,
    min_delta: f64,
    maximise: bool,
    restore: bool,
    best: Option<Best>,
    /// Epochs since the best.
    waited: u64,
}

#[derive(Debug, Clone)]
struct Best {
    epoch: u64,
    value: f64,
    snapshot: Option<Snapshot>,
}

impl EarlyStopping {
    /// Follows the value of a name of the history, such as `val_loss`: less is better, any difference counts, and the
    /// training stops at the first epoch that is not better.
    pub fn new(monitor: impl Into<String>) -> Self {
        let monitor = monitor.into();
        Self { monitor, patience: 1, min_delta: 0.0, maximise: false, restore: true, best: None, waited: 0 }
    }

    /// The number of epochs in a row without a better value after which the training stops; at least 1.
    #[must_use]
    pub fn patience(mut self, epochs: u64) -> Self {
        self.patience = epochs.max(1);
        self
    }

    /// The difference that makes a value better; 0 by default.
    ///
    /// # Panics
    ///
    /// If it is negative or NaN.
    #[must_use]
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        assert!(min_delta >= 0.0, "a difference of {min_delta}, expected at least 0");
        self.min_delta = min_delta;
        self
    }

    /// More is better, as with an accuracy.
    #[must_use]
    pub fn maximise(mut self) -> Self {
        self.maximise = true;
        self
    }

    /// Whether the best weights are put back at the end; by default they are. Without, no copy of them is kept.
    #[must_use]
    pub fn restore_best(mut self, restore: bool) -> Self {
        self.restore = restore;
        self
    }

    /// The best epoch so far and its value.
    pub fn best(&self) -> Option<(u64, f64)> {
        self.best.as_ref().map(|best| (best.epoch, best.value))
    }

    fn is_better(&self, value: f64) -> bool {
        let sign = if self.maximise { -1.0 } else { 1.0 };
        match &self.best {
            Some(best) => sign * value < sign * best.value - self.min_delta,
            None => !value.is_nan(),
        }
    }
}

impl Callback for EarlyStopping {
    fn on_epoch(&mut self, moment: &mut Moment<'_>) -> Result<Flow> {
        let value = moment.value(&self.monitor)?;
        if self.is_better(value) {
            let spare = self.best.take().and_then(|best| best.snapshot);
            let snapshot = if self.restore { Some(moment.trainer.snapshot(spare)?) } else { None };
            self.best = Some(Best { epoch: moment.epoch(), value, snapshot });
            self.waited = 0;
            return Ok(Flow::Continue);
        }
        self.waited += 1;
        Ok(if self.waited >= self.patience { Flow::Stop } else { Flow::Continue })
    }

    fn on_end(&mut self, trainer: &mut Trainer) -> Result<()> {
        match self.best.as_ref().and_then(|best| best.snapshot.as_ref()) {
            Some(snapshot) => trainer.restore(snapshot),
            None => Ok(()),
        }
    }

    fn name(&self) -> String {
        let Self { monitor, patience, min_delta, maximise, restore, .. } = self;
        format!(
            "early stopping monitor={monitor} patience={patience} min_delta={min_delta} maximise={maximise} \
             restore={restore}"
        )
    }

    fn state(&self) -> CallbackState {
        let Some(best) = &self.best else {
            return CallbackState { text: format!("{} 0 NaN", self.waited), arrays: Vec::new() };
        };
        let arrays = best.snapshot.as_ref().map(Snapshot::arrays).unwrap_or_default();
        CallbackState { text: format!("{} {} {}", self.waited, best.epoch, best.value), arrays }
    }

    fn set_state(&mut self, state: CallbackState) -> Result<()> {
        let mut words = state.text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (waited, epoch, value) = (word().parse().ok(), word().parse().ok(), word().parse::<f64>().ok());
        let (Some(waited), Some(epoch), Some(value)) = (waited, epoch, value) else {
            let message = format!("the state {:?} is not one of early stopping", state.text);
            return Err(Error::new(ErrorKind::State, message));
        };
        self.waited = waited;
        let snapshot = self.restore.then(|| Snapshot::from_arrays(state.arrays));
        self.best = (!value.is_nan()).then_some(Best { epoch, value, snapshot });
        Ok(())
    }
}
