//! `procession train`: trains a multi-layer perceptron on images.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession::train::{
    Adam, AverageOptions, CheckpointDir, Ending, Flow, Model, Moment, Naming, Progress, Trainer, WarmUp, replace_file,
};
use procession::{Bottleneck, Epoch, Epochs, Error, ErrorKind, Loader, Result, Sequence, Window};
use serde::Serialize;

use crate::images::{self, Images};
use crate::interrupt;
use crate::output::{Output, percent, printable, thousands};
use crate::stop::Stop;
use crate::training_data::DataArgs;
use crate::{chart, save};

/// Train a multi-layer perceptron, and test it with raw and with averaged weights.
///
/// Shows a line for each epoch, and the accuracy on the test set at the end. With --json a line for each epoch has
/// `epoch`, counted from 0, and the last line has `epochs`, how many were completed; `seconds` are those of training,
/// without the tests; `data_wait_fraction` is the part of them in which the trainer waited for batches.
///
/// The losses and accuracies follow from the options and the data; the number of workers and the window do not change
/// them, nor does it change anything if a training is ended at any moment, by Ctrl-C or by a crash, and resumed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Number of epochs
    #[arg(long, value_name = "N", default_value_t = 10)]
    epochs: u64,
    /// Samples in a batch
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    /// Threads that load samples; 0 loads them in the training loop [default: one for each processor]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Batches that may be in flight at once: the more, the less often workers are woken, and the more memory is used
    #[arg(long, value_name = "N", default_value_t = 32)]
    window: usize,
    /// Seed of order, initial weights and dropout
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Widths of the hidden layers, separated by commas
    #[arg(long, value_name = "WIDTHS", value_delimiter = ',', default_value = "512,256")]
    hidden: Vec<usize>,
    /// Part of the hidden values that is left out in training
    #[arg(long, value_name = "P", default_value_t = 0.2, allow_negative_numbers = true)]
    dropout: f32,
    /// Learning rate of Adam: a little below the usual 0.001, at which the raw weights jump about more
    #[arg(long, value_name = "X", default_value_t = 0.0007, allow_negative_numbers = true)]
    learning_rate: f32,
    /// Decay of the weight averages, updated after every step: about the last 1 / (1 - DECAY) steps count; at first
    /// fewer, as update n uses the decay (1 + n) / (10 + n) until that is larger, so that the averages are good after
    /// few steps too
    #[arg(long, value_name = "DECAY", default_value_t = 0.999, allow_negative_numbers = true)]
    ema: f64,
    /// Directory for the last two checkpoints, one after each epoch; for history.csv and history.svg, a picture of loss
    /// and accuracy; and at the end for the weights, model.safetensors and model-averaged.safetensors
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Steps after which there is a checkpoint in mid-epoch too
    #[arg(long, value_name = "N", requires = "out")]
    checkpoint_every: Option<u64>,
    /// Go on from the newest whole checkpoint in the output directory; from the beginning if there is none yet. The data
    /// have to be the same, wherever they are
    #[arg(long, requires = "out")]
    resume: bool,
}

/// The largest model: 5 numbers of 4 bytes for each parameter are 2 GB then.
const MAX_PARAMS: usize = 100_000_000;

impl Args {
    fn model(&self, num_pixels: usize, num_classes: usize) -> Result<Model> {
        let widths = [&[num_pixels], &self.hidden[..], &[num_classes]].concat();
        let products = widths.windows(2).map(|pair| pair[0].checked_add(1)?.checked_mul(pair[1]));
        let params = products.reduce(|sum, params| sum?.checked_add(params?)).flatten();
        if params.is_none_or(|params| params > MAX_PARAMS) {
            let message = format!(
                "hidden layers of {:?} make {} parameters, expected at most {}",
                self.hidden,
                params.map_or("countless".to_owned(), |params| thousands(params as u64)),
                thousands(MAX_PARAMS as u64)
            );
            return Err(Error::new(ErrorKind::Argument, message));
        }
        let mut builder = Model::builder(num_pixels).seed(self.seed);
        for (number, &width) in (1..).zip(&self.hidden) {
            builder = builder
                .dense(format!("hidden{number}"), width)
                .relu(format!("relu{number}"))
                .dropout(format!("dropout{number}"), self.dropout);
        }
        builder.dense("logits", num_classes).build()
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::Argument, message));
        if self.epochs == 0 {
            return wrong("0 epochs, expected at least 1".to_owned());
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return wrong(format!("learning rate {}, expected a number above 0", self.learning_rate));
        }
        Ok(())
    }
}

/// What an epoch gave, as JSON.
#[derive(Debug, Clone, Copy, Serialize)]
struct EpochLine {
    epoch: u64,
    samples: u64,
    seconds: f64,
    train_loss: f64,
    train_accuracy: f64,
    test_loss: f64,
    test_accuracy: f64,
    test_loss_ema: f64,
    test_accuracy_ema: f64,
    data_wait_fraction: f64,
    samples_per_second: f64,
}

/// What the whole training gave, as JSON. Loss and accuracy in training are those of the last epoch, completed or not;
/// in the test, those of the last completed one. Samples and seconds are those since the start of the command.
#[derive(Debug, Clone, Copy, Serialize)]
struct LastLine {
    epochs: u64,
    samples: u64,
    seconds: f64,
    train_loss: f64,
    train_accuracy: f64,
    test_accuracy: Option<f64>,
    test_accuracy_ema: Option<f64>,
    data_wait_fraction: f64,
    samples_per_second: f64,
    /// What held the training up, as the loader sees it.
    bottleneck: Option<Bottleneck>,
    interrupted: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Stop> {
    args.check()?;
    let mut training = Training::new(args).map_err(|error| match error.kind() {
        ErrorKind::Interrupted => Stop::Interrupted(error.message().to_owned()),
        _ => error.into(),
    })?;
    let epochs = training.start(out)?;
    let ended = training.epochs(epochs, out);
    if let Ok(()) | Err(Stop::Interrupted(_)) = ended {
        training.conclude(out, ended.is_err())?;
    }
    ended
}

/// The name of the averaged weights.
const AVERAGE: &str = "ema";

struct Training<'a> {
    args: &'a Args,
    /// What people call the data.
    data: String,
    num_classes: usize,
    loader: Loader<Images>,
    test: Loader<Images>,
    num_test_samples: usize,
    trainer: Trainer,
    tally: Arc<Mutex<Tally>>,
}

/// Since the start of the command: the samples trained on, the time of training, and that of it spent waiting for data.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    samples: u64,
    elapsed: Duration,
    waited: Duration,
    /// The last two of the epoch at hand.
    epoch: (Duration, Duration),
}

impl Tally {
    fn note(&mut self, moment: &Moment<'_>) {
        self.samples += moment.score().map_or(0, |score| score.samples as u64);
        let (elapsed, waited) = std::mem::replace(&mut self.epoch, (moment.elapsed(), moment.waited()));
        // In an epoch time goes on; in the next it starts anew.
        self.elapsed += self.epoch.0.checked_sub(elapsed).unwrap_or(self.epoch.0);
        self.waited += self.epoch.1.checked_sub(waited).unwrap_or(self.epoch.1);
    }
}

impl<'a> Training<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        let num_workers = images::num_workers(args.workers)?;
        let data = args.data.open(num_workers)?;
        let num_classes = data.num_classes;
        let model = args.model(data.num_pixels, num_classes)?;
        let num_test_samples = data.test.len();
        let loader = Loader::builder(data.train)
            .batch_size(args.batch_size)
            .shuffle(args.seed)
            .workers(num_workers)
            .window(Window::Batches(args.window))
            .build()?;
        let test = images::in_order(data.test, num_workers)?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let noted = Arc::clone(&tally);
        let mut trainer = Trainer::new(model, Adam::new(args.learning_rate))
            .average(AVERAGE, AverageOptions::new(args.ema).warm_up(WarmUp::Count))?
            .callback(Progress::new().epochs(args.epochs))
            .callback(data.identity)
            .on_step(move |moment| {
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(moment);
                Ok(if interrupt::requested() { Flow::Pause } else { Flow::Continue })
            });
        if let Some(dir) = &args.out {
            save::directory(dir)?;
            trainer = trainer.checkpoints(CheckpointDir::new(dir), args.checkpoint_every)?;
        }
        Ok(Self { args, data: data.name, num_classes, loader, test, num_test_samples, trainer, tally })
    }

    /// Tells what there is, and where it starts.
    fn start(&mut self, out: &mut Output) -> Result<Epochs<Images>, Stop> {
        let mut epochs = self.loader.epochs(0..self.args.epochs);
        let mut start = "from the beginning".to_owned();
        if self.args.resume
            && let Some(resumed) = self.trainer.resume_latest()?
        {
            for error in &resumed.refused {
                let error = printable(&error.to_string());
                // There is no one left to tell if this fails.
                let _ = writeln!(std::io::stderr(), "warning: a checkpoint is not taken: {error}");
            }
            let (saved, asked) = (self.trainer.learning_rate(), self.args.learning_rate);
            if saved != asked {
                let message = format!("a learning rate of {saved} in the checkpoint but {asked} asked for");
                return Err(Error::new(ErrorKind::State, message).with_file(resumed.file).into());
            }
            epochs = epochs.resume(&resumed.state)?;
            let file = printable(&resumed.file.display().to_string());
            start = format!("from {file}, after {} steps", thousands(self.trainer.model().step()));
            // The history may be ahead of the checkpoint.
            self.save_history()?;
        }
        self.introduce(&start, out)?;
        Ok(epochs)
    }

    fn introduce(&self, start: &str, out: &mut Output) -> Result<(), Stop> {
        let model = self.trainer.model();
        let widths = [&[model.input_width()], &self.args.hidden[..], &[self.num_classes]].concat();
        let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
        let num_samples = self.loader.state(0).num_positions;
        let (train, test) = (thousands(num_samples), thousands(self.num_test_samples as u64));
        let data = printable(&self.data);
        out.text(format_args!("data     {data}: {train} images to train with, {test} to test with"))?;
        out.text(format_args!("model    {}, {} parameters", widths.join(" > "), thousands(model.num_params() as u64)))?;
        out.text(format_args!(
            "loader   {} batches of {} an epoch, workers: {}",
            thousands(self.loader.num_batches()),
            self.args.batch_size,
            self.loader.num_workers()
        ))?;
        if self.args.resume {
            out.text(format_args!("start    {start}"))?;
        }
        out.text(format_args!(""))?;
        out.text(format_args!("         --- training ---    - test accuracy -"))?;
        out.text(format_args!(
            "{:>5}  {:>8}  {:>9}    {:>7}  {:>8}  {:>10}  {:>9}",
            "epoch", "loss", "accuracy", "raw", "averaged", "samples/s", "data wait"
        ))?;
        out.flush()
    }

    fn epochs(&mut self, epochs: Epochs<Images>, out: &mut Output) -> Result<(), Stop> {
        for epoch in epochs {
            let number = epoch.number();
            if self.trainer.history().last_epoch() == Some(number) {
                // Resumed from the checkpoint at the end of this epoch.
                continue;
            }
            self.epoch(epoch)?;
            let line = self.line(number)?;
            self.save_history()?;
            self.show(&line, out)?;
        }
        Ok(())
    }

    /// Trains for an epoch and tests what came of it.
    fn epoch(&mut self, epoch: Epoch<Images>) -> Result<(), Stop> {
        let number = epoch.number();
        let test = &self.test;
        let batches = || {
            test.epoch(0).map(|batch| {
                if interrupt::requested() {
                    return Err(Error::new(ErrorKind::Interrupted, "while testing, after an epoch of training"));
                }
                batch
            })
        };
        match self.trainer.fit_validated([epoch], batches) {
            Ok(Ending::Paused) => {
                let done = self.trainer.totals().samples().div_ceil(self.args.batch_size as u64);
                Err(Stop::Interrupted(format!(
                    "in epoch {}, after {done} of its {} batches",
                    self.count(number),
                    self.loader.num_batches()
                )))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(Stop::Interrupted(error.message().to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// An epoch for people, who count from 1.
    fn count(&self, epoch: u64) -> String {
        format!("{}/{}", epoch + 1, self.args.epochs)
    }

    /// What the last epoch gave.
    fn line(&self, epoch: u64) -> Result<EpochLine> {
        let history = self.trainer.history();
        let value = |name: &str| {
            let value = history.column(name).last().map(|(_, _, value)| value);
            value.ok_or_else(|| Error::new(ErrorKind::State, format!("the history has no {name}")))
        };
        Ok(EpochLine {
            epoch,
            samples: value("samples")? as u64,
            seconds: value("seconds")?,
            train_loss: value("loss")?,
            train_accuracy: value("accuracy")?,
            test_loss: value("val_loss")?,
            test_accuracy: value("val_accuracy")?,
            test_loss_ema: value("ema_val_loss")?,
            test_accuracy_ema: value("ema_val_accuracy")?,
            data_wait_fraction: value("data_wait_fraction")?,
            samples_per_second: value("samples_per_second")?,
        })
    }

    fn show(&self, line: &EpochLine, out: &mut Output) -> Result<(), Stop> {
        out.json(line)?;
        out.text(format_args!(
            "{:>5}  {:>8.4}  {:>9}    {:>7}  {:>8}  {:>10}  {:>9}",
            self.count(line.epoch),
            line.train_loss,
            percent(line.train_accuracy, 2),
            percent(line.test_accuracy, 2),
            percent(line.test_accuracy_ema, 2),
            thousands(line.samples_per_second as u64),
            percent(line.data_wait_fraction, 2)
        ))?;
        out.flush()
    }

    /// Saves the history, if that is asked for.
    fn save_history(&self) -> Result<()> {
        if let Some(dir) = &self.args.out {
            let history = self.trainer.history();
            history.save(dir.join("history.csv"))?;
            replace_file(dir.join("history.svg"), chart::svg(history)?.as_bytes())?;
        }
        Ok(())
    }

    /// Saves the weights, raw and averaged.
    fn save_weights(&mut self, dir: &Path) -> Result<()> {
        self.trainer.model().save_weights(dir.join("model.safetensors"), Naming::Keras)?;
        let (average, model) = self.trainer.average_and_model(AVERAGE)?;
        average.applied(model)?.save_weights(dir.join("model-averaged.safetensors"), Naming::Keras)
    }

    /// Sums up.
    fn conclude(&mut self, out: &mut Output, interrupted: bool) -> Result<(), Stop> {
        let history = self.trainer.history();
        let epochs = history.last_epoch().map_or(0, |epoch| epoch + 1);
        let of_last = |name: &str| history.column(name).last().map(|(_, _, value)| value);
        // The totals are those of the last epoch, completed or not.
        let totals = self.trainer.totals();
        let Tally { samples, elapsed, waited, .. } = *self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = elapsed.as_secs_f64();
        let rate = |numerator: f64| if seconds > 0.0 { numerator / seconds } else { 0.0 };
        let last = LastLine {
            epochs,
            samples,
            seconds,
            train_loss: totals.mean_loss(),
            train_accuracy: totals.accuracy(),
            test_accuracy: of_last("val_accuracy"),
            test_accuracy_ema: of_last("ema_val_accuracy"),
            data_wait_fraction: rate(waited.as_secs_f64()),
            samples_per_second: rate(samples as f64),
            bottleneck: self.loader.report().bottleneck(),
            interrupted,
        };
        out.json(&last)?;
        out.text(format_args!(""))?;
        if let (Some(raw), Some(averaged)) = (last.test_accuracy, last.test_accuracy_ema) {
            out.text(format_args!("test accuracy with raw weights       {}", percent(raw, 2)))?;
            out.text(format_args!("test accuracy with averaged weights  {}", percent(averaged, 2)))?;
        }
        out.text(format_args!(
            "{epochs} epochs, {} samples in {seconds:.1} s of training: {} samples/s, {} of the time waiting for data",
            thousands(samples),
            thousands(last.samples_per_second as u64),
            percent(last.data_wait_fraction, 2)
        ))?;
        if let Some(bottleneck) = last.bottleneck {
            out.text(format_args!("{bottleneck}"))?;
        }
        if let Some(dir) = &self.args.out {
            if interrupted {
                out.text(format_args!("to go on: the same command with --resume"))?;
            } else {
                self.save_weights(dir)?;
                let dir = printable(&dir.display().to_string());
                out.text(format_args!("saved the weights and the history in {dir}"))?;
            }
        }
        Ok(())
    }
}
