//! The loop over epochs, evaluation and prediction.

use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayView2, Axis};

use super::average::Average;
use super::callback::{Callback, Flow, Moment};
use super::input::{Inputs, Supervised, Targets};
use super::metric::{Metric, Totals};
use super::model::Model;
use super::trainer::Trainer;
use crate::{Batch, Epoch, Error, ErrorKind, Result, State};

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// After the last epoch.
    Completed,
    /// Before it: a callback said that it is over.
    Stopped,
    /// A callback paused it; a resume goes on.
    Paused,
}

/// What an evaluation gave.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The mean loss over the samples; NaN without samples.
    pub loss: f64,
    /// The fraction of samples that were right; NaN without samples, or if the loss has no notion of it.
    pub accuracy: f64,
    /// The number of samples, without padding.
    pub samples: u64,
    /// The values of the trainer's metrics, by name.
    pub metrics: Vec<(String, f64)>,
}

impl Evaluation {
    /// All values by name, those that are known: `loss`, `accuracy` and the metrics'.
    fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        let accuracy = (!self.accuracy.is_nan()).then_some(("accuracy", self.accuracy));
        let metrics = self.metrics.iter().map(|(name, value)| (name.as_str(), *value));
        [("loss", self.loss)].into_iter().chain(accuracy).chain(metrics)
    }
}

/// A pass over the batches of an epoch, timed.
#[derive(Default)]
struct Clock {
    elapsed: Duration,
    /// Of `elapsed`, the time in which the next batch was awaited.
    waited: Duration,
    samples: u64,
}

impl Clock {
    fn wait_fraction(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.waited.as_secs_f64() / self.elapsed.as_secs_f64() }
    }

    fn samples_per_second(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.samples as f64 / self.elapsed.as_secs_f64() }
    }
}

/// One of a callback's calls.
type Call = fn(&mut dyn Callback, &mut Moment<'_>) -> Result<Flow>;

/// Evaluates a model, on whatever it is validated on.
type Validate<'v> = &'v mut dyn FnMut(&mut Model, &mut [Box<dyn Metric>]) -> Result<Evaluation>;

impl Trainer {
    /// Trains on all batches of all epochs, as [`Loader::epochs`](crate::Loader::epochs) gives them.
    ///
    /// After every epoch a row goes to the [`history`](Self::history): `loss` and `accuracy` in training, that is, of the
    /// weights before each step and with dropout; `learning_rate`, the optimiser's at the end of the epoch; `samples`; and
    /// `seconds`, `samples_per_second` and `data_wait_fraction`, which, unlike all others, are not the same every time
    /// (after a resume in mid-epoch they are those since then). Then come the callbacks, and then the checkpoint.
    ///
    /// Rows that pad a batch ([`Tail::Pad`](crate::Tail::Pad)) are left out.
    ///
    /// A training that a callback has stopped for good is over: after a resume, nothing is done.
    ///
    /// # Errors
    ///
    /// The loader's and the callbacks' errors; data that does not fit the model or its loss; a checkpoint that cannot be
    /// saved. A loss that is not finite ([`ErrorKind::Numeric`](crate::ErrorKind::Numeric)) names the step, the batch and
    /// its samples; the weights are then those before the step. After a [`resume`](Self::resume), epochs that begin
    /// elsewhere than the checkpoint ([`ErrorKind::State`](crate::ErrorKind::State)).
    pub fn fit<B>(&mut self, epochs: impl IntoIterator<Item = Epoch<B>>) -> Result<Ending>
    where
        B: Supervised + Send + 'static,
    {
        self.fit_with(epochs, None)
    }

    /// As [`fit`](Self::fit), and evaluates after every epoch: `validation` gives the batches, for example
    /// `|| test.epoch(0)` of a loader in order.
    ///
    /// The row in the history also has `val_loss`, `val_accuracy` and `val_` with the name of each metric; and the same
    /// for each average with its name in front, such as `ema_val_loss`.
    ///
    /// # Errors
    ///
    /// As [`fit`](Self::fit), and those of the validation's batches.
    pub fn fit_validated<B, I>(
        &mut self,
        epochs: impl IntoIterator<Item = Epoch<B>>,
        mut validation: impl FnMut() -> I,
    ) -> Result<Ending>
    where
        B: Supervised + Send + 'static,
        I: IntoIterator<Item = Result<Batch<B>>>,
    {
        self.fit_with(epochs, Some(&mut |model, metrics| evaluate(model, metrics, validation())))
    }

    /// Evaluates the raw weights on batches, such as those of `loader.epoch(0)`. Rows that pad a batch are left out.
    ///
    /// # Errors
    ///
    /// Those of the batches, data that does not fit the model or its loss, or a loss that is not finite.
    pub fn evaluate<B: Supervised>(
        &mut self,
        batches: impl IntoIterator<Item = Result<Batch<B>>>,
    ) -> Result<Evaluation> {
        evaluate(&mut self.model, &mut self.metrics, batches)
    }

    /// As [`evaluate`](Self::evaluate), with the averaged weights of this name.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Self::evaluate), or if there is no such average.
    pub fn evaluate_average<B: Supervised>(
        &mut self,
        name: &str,
        batches: impl IntoIterator<Item = Result<Batch<B>>>,
    ) -> Result<Evaluation> {
        let at = self.position_of(name)?;
        let Self { model, averages, metrics, .. } = self;
        evaluate(&mut *averages[at].1.applied(model)?, metrics, batches)
    }

    /// The outputs for all samples of batches, `(samples, outputs)`, in their order. Rows that pad a batch are left out.
    ///
    /// # Errors
    ///
    /// Those of the batches, or data that does not fit the model.
    pub fn predict<B: Inputs>(&mut self, batches: impl IntoIterator<Item = Result<Batch<B>>>) -> Result<Array2<f32>> {
        let shape = self.model.input_shape();
        let mut outputs = Array2::zeros((0, self.model.output_width()));
        for batch in batches {
            let batch = batch?;
            let of_batch = self.model.forward_rows(real_inputs(&batch, &shape)?)?;
            outputs.append(Axis(0), of_batch).expect("rows are as wide as the output");
        }
        Ok(outputs)
    }

    fn fit_with<B>(
        &mut self,
        epochs: impl IntoIterator<Item = Epoch<B>>,
        mut validate: Option<Validate<'_>>,
    ) -> Result<Ending>
    where
        B: Supervised + Send + 'static,
    {
        self.check_idle()?;
        self.check_checkpoints()?;
        let Fitting { trainer, callbacks } = &mut Fitting::begin(self);
        let ended = trainer.fit_epochs(epochs, &mut validate, callbacks)?;
        if ended != Ending::Paused {
            callbacks.iter_mut().try_for_each(|callback| callback.on_end(trainer))?;
        }
        Ok(ended)
    }

    fn fit_epochs<B>(
        &mut self,
        epochs: impl IntoIterator<Item = Epoch<B>>,
        validate: &mut Option<Validate<'_>>,
        callbacks: &mut [Box<dyn Callback>],
    ) -> Result<Ending>
    where
        B: Supervised + Send + 'static,
    {
        if self.progress.over {
            self.resumed = None;
            return Ok(Ending::Stopped);
        }
        for mut epoch in epochs {
            let (number, state) = (epoch.number(), epoch.state());
            self.check_start(&state)?;
            if self.progress.noted && self.progress.epoch == number && epoch.num_batches_left() == 0 {
                // Resumed from the checkpoint at the end of this epoch.
                continue;
            }
            if self.progress.noted || self.progress.epoch != number || state.next_batch == 0 {
                self.progress = super::checkpoint::Progress { epoch: number, ..Default::default() };
            }
            match self.fit_epoch(&mut epoch, validate, callbacks)? {
                Flow::Continue => {}
                Flow::Stop => return Ok(Ending::Stopped),
                Flow::Pause => return Ok(Ending::Paused),
            }
        }
        Ok(Ending::Completed)
    }

    /// After a resume, the first epoch must go on where the checkpoint was, or be the one after its epoch.
    fn check_start(&mut self, state: &State) -> Result<()> {
        let Some(resumed) = self.resumed.take() else { return Ok(()) };
        let same_data = state.seed == resumed.seed
            && state.sampler == resumed.sampler
            && state.num_positions == resumed.num_positions
            && state.tail == resumed.tail;
        let is_next = self.progress.noted && state.epoch == self.progress.epoch + 1 && state.next_batch == 0;
        if is_next && same_data || (state.epoch, state.next_position) == (resumed.epoch, resumed.next_position) {
            return Ok(());
        }
        let message = format!(
            "the epochs begin at position {} of epoch {}, the checkpoint was at position {} of epoch {} (or another length, \
             seed, sampler or tail): give its state to `Epochs::resume`",
            state.next_position, state.epoch, resumed.next_position, resumed.epoch
        );
        self.resumed = Some(resumed);
        Err(Error::new(ErrorKind::State, message))
    }

    fn fit_epoch<B>(
        &mut self,
        epoch: &mut Epoch<B>,
        validate: &mut Option<Validate<'_>>,
        callbacks: &mut [Box<dyn Callback>],
    ) -> Result<Flow>
    where
        B: Supervised + Send + 'static,
    {
        self.forget_rest();
        let (num_batches, shape) = (epoch.num_batches_left(), self.model.input_shape());
        let (started, mut clock) = (Instant::now(), Clock::default());
        loop {
            let asked = Instant::now();
            let next = epoch.next();
            clock.waited += asked.elapsed();
            let (score, stepped) = match next {
                Some(batch) => {
                    let batch = batch?;
                    let (x, targets) = real_rows(&batch, &shape)?;
                    let rows = x.nrows();
                    if has_no_part(&batch, rows) {
                        continue;
                    }
                    let result = self.step_rows(x, targets);
                    let (score, stepped) = result.map_err(|cause| in_batch(&batch, cause))?;
                    let mut totals = self.totals();
                    totals.add(&score);
                    self.set_totals(totals);
                    clock.samples += rows as u64;
                    (Some(score), stepped)
                }
                None => (None, self.step_of_rest()?),
            };
            clock.elapsed = started.elapsed();
            if stepped {
                let flow = self
                    .call(epoch, num_batches, score, &clock, callbacks, |callback, moment| callback.on_step(moment))?;
                if flow != Flow::Continue || self.checkpoint_is_due() {
                    self.progress.over = flow == Flow::Stop;
                    self.keep_checkpoint(&epoch.state(), callbacks)?;
                }
                if flow != Flow::Continue {
                    return Ok(flow);
                }
            }
            if score.is_none() {
                break;
            }
        }
        if validate.is_some() {
            // An evaluation may take its time, and be ended in its midst.
            self.keep_checkpoint(&epoch.state(), callbacks)?;
        }
        self.note(&clock, validate)?;
        let flow =
            self.call(epoch, num_batches, None, &clock, callbacks, |callback, moment| callback.on_epoch(moment))?;
        self.progress.over = flow == Flow::Stop;
        self.keep_checkpoint(&epoch.state(), callbacks)?;
        Ok(flow)
    }

    /// Calls all callbacks. One that ends the training does not keep the others from being called.
    fn call<B: Send + 'static>(
        &mut self,
        epoch: &Epoch<B>,
        num_batches: u64,
        score: Option<super::metric::Score>,
        clock: &Clock,
        callbacks: &mut [Box<dyn Callback>],
        call: Call,
    ) -> Result<Flow> {
        let state: &dyn Fn() -> State = &|| epoch.state();
        let mut flow = Flow::Continue;
        for callback in callbacks {
            let mut moment = Moment {
                epoch: epoch.number(),
                num_batches,
                num_batches_left: epoch.num_batches_left(),
                score,
                elapsed: clock.elapsed,
                waited: clock.waited,
                samples_per_second: clock.samples_per_second(),
                state,
                trainer: &mut *self,
            };
            match (call(&mut **callback, &mut moment)?, flow) {
                (Flow::Continue, _) => {}
                (Flow::Pause, Flow::Stop) => {}
                (other, _) => flow = other,
            }
        }
        Ok(flow)
    }

    /// Evaluates, if that is asked for, and adds the epoch's row to the history.
    fn note(&mut self, clock: &Clock, validate: &mut Option<Validate<'_>>) -> Result<()> {
        let (totals, mut row) = (self.totals(), Vec::<(String, f64)>::new());
        row.push(("loss".to_owned(), totals.mean_loss()));
        if !totals.accuracy().is_nan() {
            row.push(("accuracy".to_owned(), totals.accuracy()));
        }
        row.push(("learning_rate".to_owned(), f64::from(self.rate_of_last_step())));
        if let Some(validate) = validate {
            let raw = validate(&mut self.model, &mut self.metrics)?;
            row.extend(raw.values().map(|(name, value)| (format!("val_{name}"), value)));
            for (average_name, average) in &mut self.averages {
                let averaged = validate_average(average, &mut self.model, &mut self.metrics, *validate)?;
                row.extend(averaged.values().map(|(name, value)| (format!("{average_name}_val_{name}"), value)));
            }
        }
        row.push(("samples".to_owned(), totals.samples() as f64));
        row.push(("seconds".to_owned(), clock.elapsed.as_secs_f64()));
        row.push(("samples_per_second".to_owned(), clock.samples_per_second()));
        row.push(("data_wait_fraction".to_owned(), clock.wait_fraction()));
        let row: Vec<(&str, f64)> = row.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.history.push(self.progress.epoch, self.model.step(), &row);
        self.progress.noted = true;
        Ok(())
    }
}

/// A trainer whose callbacks are beside it, since they see it when they are called. They come back however a training
/// ends, in a panic too.
struct Fitting<'t> {
    trainer: &'t mut Trainer,
    callbacks: Vec<Box<dyn Callback>>,
}

impl<'t> Fitting<'t> {
    fn begin(trainer: &'t mut Trainer) -> Self {
        trainer.is_fitting = true;
        Self { callbacks: std::mem::take(&mut trainer.callbacks), trainer }
    }
}

impl Drop for Fitting<'_> {
    fn drop(&mut self) {
        self.trainer.callbacks = std::mem::take(&mut self.callbacks);
        self.trainer.is_fitting = false;
        // A checkpoint knows that a training is over; whoever calls `fit` once more wants more.
        self.trainer.progress.over = false;
    }
}

fn validate_average(
    average: &mut Average,
    model: &mut Model,
    metrics: &mut [Box<dyn Metric>],
    validate: Validate<'_>,
) -> Result<Evaluation> {
    validate(&mut *average.applied(model)?, metrics)
}

fn evaluate<B: Supervised>(
    model: &mut Model,
    metrics: &mut [Box<dyn Metric>],
    batches: impl IntoIterator<Item = Result<Batch<B>>>,
) -> Result<Evaluation> {
    let shape = model.input_shape();
    let mut totals = Totals::default();
    metrics.iter_mut().for_each(|metric| metric.reset());
    for batch in batches {
        let batch = batch?;
        let (x, targets) = real_rows(&batch, &shape)?;
        if has_no_part(&batch, x.nrows()) {
            continue;
        }
        let (score, outputs) = model.evaluate_rows(x, targets).map_err(|cause| in_batch(&batch, cause))?;
        totals.add(&score);
        metrics.iter_mut().try_for_each(|metric| metric.update(outputs, targets))?;
    }
    let metrics = metrics.iter().flat_map(|metric| metric.values()).collect();
    Ok(Evaluation { loss: totals.mean_loss(), accuracy: totals.accuracy(), samples: totals.samples(), metrics })
}

/// Whether a batch is one in which this rank has no part, or nothing but padding.
fn has_no_part<B>(batch: &Batch<B>, rows: usize) -> bool {
    rows == 0 && batch.num_samples() == batch.num_padded()
}

/// The inputs and targets of a batch without its padding. The rows are those of the data: a ready batch, or one that a
/// collate function made, may have more or fewer of them than samples.
fn real_rows<'b, B: Supervised>(batch: &'b Batch<B>, shape: &[usize]) -> Result<(ArrayView2<'b, f32>, Targets<'b>)> {
    let (x, targets) = (real_inputs(batch, shape)?, batch.targets());
    if batch.num_padded() == 0 {
        return Ok((x, targets));
    }
    if targets.num_samples() != batch.num_samples() {
        return Err(not_a_row_each(batch, targets.num_samples(), "targets"));
    }
    Ok((x, targets.first(x.nrows())))
}

fn real_inputs<'b, B: Inputs>(batch: &'b Batch<B>, shape: &[usize]) -> Result<ArrayView2<'b, f32>> {
    let x = batch.inputs(shape)?;
    if batch.num_padded() == 0 {
        return Ok(x);
    }
    if x.nrows() != batch.num_samples() {
        return Err(not_a_row_each(batch, x.nrows(), "rows"));
    }
    Ok(x.split_at(Axis(0), batch.num_samples() - batch.num_padded()).0)
}

fn not_a_row_each<B>(batch: &Batch<B>, found: usize, what: &str) -> Error {
    let message = format!("{found} {what} for {} samples, of which some are padding", batch.num_samples());
    in_batch(batch, Error::new(ErrorKind::Shape, message))
}

/// Says which batch an error comes from, and which samples are in it.
fn in_batch<B>(batch: &Batch<B>, error: Error) -> Error {
    let indices: Vec<String> = batch.indices().iter().map(u64::to_string).collect();
    let (number, epoch, indices) = (batch.number(), batch.epoch(), indices.join(", "));
    error.with_detail(format_args!(", in batch {number} of epoch {epoch} with samples {indices}"))
}
