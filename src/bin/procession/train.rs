//! `procession train`: trains a multi-layer perceptron on images.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use procession::train::{Adam, Average, AverageOptions, History, Model, Totals, WarmUp};
use procession::{Batch, Bottleneck, Epoch, Error, ErrorKind, Loader, Result, Sequence, Window};
use serde::Serialize;

use crate::images::{self, Images, NUM_CLASSES};
use crate::interrupt;
use crate::output::{Output, percent, thousands};
use crate::stop::Stop;
use crate::{chart, save};

/// Train a multi-layer perceptron, and test it with raw and with averaged weights.
///
/// Shows a line for each epoch, and the accuracy on the test set at the end. With --json a line for each epoch has
/// `epoch`, counted from 0, and the last line has `epochs`, how many were completed; `seconds` are those of training,
/// without the tests; `data_wait_fraction` is the part of them in which the trainer waited for batches.
///
/// The losses and accuracies follow from the options and the data; the number of workers and the window do not change
/// them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with the four IDX files of MNIST or its kin, plain or .gz [default: the sample of Fashion-MNIST that
    /// comes with the program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
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
    /// Directory for history.csv and history.svg, a picture of loss and accuracy
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The largest model: 5 numbers of 4 bytes for each parameter are 2 GB then.
const MAX_PARAMS: usize = 100_000_000;

impl Args {
    fn model(&self, num_pixels: usize) -> Result<Model> {
        let widths = [&[num_pixels], &self.hidden[..], &[NUM_CLASSES]].concat();
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
        builder.dense("logits", NUM_CLASSES).build()
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
/// in the test, those of the last completed one.
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

/// How a pass over batches went.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    totals: Totals,
    elapsed: Duration,
    /// Of `elapsed`, the time in which the next batch was awaited.
    waited: Duration,
}

impl Pass {
    fn samples_per_second(&self) -> f64 {
        self.totals.samples() as f64 / self.elapsed.as_secs_f64()
    }

    fn wait_fraction(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.waited.as_secs_f64() / self.elapsed.as_secs_f64() }
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Stop> {
    args.check()?;
    let mut training = Training::new(args)?;
    training.introduce(out)?;
    let ended = training.epochs(out);
    // The history is saved after every epoch already, save for one that was not completed.
    if let Ok(()) | Err(Stop::Interrupted(_)) = ended {
        training.save()?;
        training.conclude(out, ended.is_err())?;
    }
    ended
}

struct Training<'a> {
    args: &'a Args,
    loader: Loader<Images>,
    test: Loader<Images>,
    num_test_samples: usize,
    model: Model,
    adam: Adam,
    average: Average,
    history: History,
    /// The last epoch that was completed.
    last: Option<EpochLine>,
    /// The last pass, completed or not, and the sums of all.
    pass: Pass,
    samples: u64,
    elapsed: Duration,
    waited: Duration,
}

impl<'a> Training<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        let data = images::open(args.data.as_deref())?;
        let num_workers = images::num_workers(args.workers)?;
        let model = args.model(images::num_pixels(&data.train))?;
        let average = Average::new(&model, AverageOptions::new(args.ema).warm_up(WarmUp::Count))?;
        let num_test_samples = data.test.len();
        let loader = Loader::builder(data.train)
            .batch_size(args.batch_size)
            .shuffle(args.seed)
            .workers(num_workers)
            .window(Window::Batches(args.window))
            .build()?;
        let test = images::in_order(data.test, num_workers)?;
        if let Some(dir) = &args.out {
            save::directory(dir)?;
        }
        Ok(Self {
            args,
            loader,
            test,
            num_test_samples,
            model,
            adam: Adam::new(args.learning_rate),
            average,
            history: History::new(),
            last: None,
            pass: Pass::default(),
            samples: 0,
            elapsed: Duration::ZERO,
            waited: Duration::ZERO,
        })
    }

    fn introduce(&self, out: &mut Output) -> Result<(), Stop> {
        let widths = [&[self.model.input_width()], &self.args.hidden[..], &[NUM_CLASSES]].concat();
        let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
        let data = self.args.data.as_ref().map_or("a sample of Fashion-MNIST".into(), |dir| dir.to_string_lossy());
        let num_samples = self.loader.state(0).num_positions;
        let (train, test) = (thousands(num_samples), thousands(self.num_test_samples as u64));
        out.text(format_args!("data     {data}: {train} images to train with, {test} to test with"))?;
        let params = thousands(self.model.num_params() as u64);
        out.text(format_args!("model    {}, {params} parameters", widths.join(" > ")))?;
        out.text(format_args!(
            "loader   {} batches of {} an epoch, workers: {}",
            thousands(self.loader.num_batches()),
            self.args.batch_size,
            self.loader.num_workers()
        ))?;
        out.text(format_args!(""))?;
        out.text(format_args!("         --- training ---    - test accuracy -"))?;
        out.text(format_args!(
            "{:>5}  {:>8}  {:>9}    {:>7}  {:>8}  {:>10}  {:>9}",
            "epoch", "loss", "accuracy", "raw", "averaged", "samples/s", "data wait"
        ))?;
        out.flush()
    }

    fn epochs(&mut self, out: &mut Output) -> Result<(), Stop> {
        for epoch in self.loader.epochs(0..self.args.epochs) {
            let number = epoch.number();
            let line = match self.epoch(epoch) {
                Ok(line) => line,
                Err(stop) => {
                    if let Stop::Interrupted(_) = stop {
                        self.note_part(number);
                    }
                    return Err(stop);
                }
            };
            self.note(&line);
            self.save()?;
            self.show(&line, out)?;
        }
        Ok(())
    }

    /// Trains for an epoch and tests what came of it.
    fn epoch(&mut self, epoch: Epoch<Images>) -> Result<EpochLine, Stop> {
        let number = epoch.number();
        self.train(epoch)?;
        let raw = test(&mut self.model, &self.test)?;
        let averaged = test(&mut *self.average.applied(&mut self.model)?, &self.test)?;
        let pass = &self.pass;
        Ok(EpochLine {
            epoch: number,
            samples: pass.totals.samples(),
            seconds: pass.elapsed.as_secs_f64(),
            train_loss: pass.totals.mean_loss(),
            train_accuracy: pass.totals.accuracy(),
            test_loss: raw.mean_loss(),
            test_accuracy: raw.accuracy(),
            test_loss_ema: averaged.mean_loss(),
            test_accuracy_ema: averaged.accuracy(),
            data_wait_fraction: pass.wait_fraction(),
            samples_per_second: pass.samples_per_second(),
        })
    }

    /// An epoch for people, who count from 1.
    fn count(&self, epoch: u64) -> String {
        format!("{}/{}", epoch + 1, self.args.epochs)
    }

    /// Trains for an epoch.
    fn train(&mut self, mut epoch: Epoch<Images>) -> Result<(), Stop> {
        let number = epoch.number();
        let bar = progress_bar(self.count(number), epoch.num_batches_left());
        let mut pass = Pass::default();
        let started = Instant::now();
        let ended = loop {
            let asked = Instant::now();
            let next = epoch.next();
            pass.waited += asked.elapsed();
            let Some(batch) = next else { break Ok(()) };
            if let Err(error) = self.step(batch, &mut pass.totals) {
                break Err(error.into());
            }
            pass.elapsed = started.elapsed();
            if !bar.is_hidden() {
                bar.set_message(format!(
                    "loss {:.4}  {} samples/s  data wait {}",
                    pass.totals.mean_loss(),
                    thousands(pass.samples_per_second() as u64),
                    percent(pass.wait_fraction(), 1)
                ));
            }
            bar.inc(1);
            if interrupt::requested() {
                let done = self.loader.num_batches() - epoch.num_batches_left();
                break Err(Stop::Interrupted(format!(
                    "in epoch {}, after {done} of its {} batches",
                    self.count(number),
                    self.loader.num_batches()
                )));
            }
        };
        pass.elapsed = started.elapsed();
        bar.finish_and_clear();
        self.pass = pass;
        self.samples += pass.totals.samples();
        self.elapsed += pass.elapsed;
        self.waited += pass.waited;
        ended
    }

    /// Trains on a batch.
    fn step(&mut self, batch: Result<Batch<Images>>, totals: &mut Totals) -> Result<()> {
        let batch = batch?;
        let (images, labels) = &*batch;
        let score = self.model.train_step(images, labels, &mut self.adam).map_err(|cause| {
            let message = format!("training stopped at batch {} of epoch {}", batch.number(), batch.epoch());
            Error::new(cause.kind(), message).with_cause(cause)
        })?;
        self.average.update(&self.model)?;
        totals.add(&score);
        Ok(())
    }

    /// Keeps what an epoch gave.
    fn note(&mut self, line: &EpochLine) {
        self.last = Some(*line);
        self.history.push(
            line.epoch,
            self.model.step(),
            &[
                ("train_loss", line.train_loss),
                ("train_accuracy", line.train_accuracy),
                ("test_loss", line.test_loss),
                ("test_accuracy", line.test_accuracy),
                ("test_loss_ema", line.test_loss_ema),
                ("test_accuracy_ema", line.test_accuracy_ema),
                ("seconds", line.seconds),
                ("samples_per_second", line.samples_per_second),
                ("data_wait_fraction", line.data_wait_fraction),
            ],
        );
    }

    /// Keeps what an epoch gave that was not completed.
    fn note_part(&mut self, epoch: u64) {
        let (loss, accuracy) = (self.pass.totals.mean_loss(), self.pass.totals.accuracy());
        self.history.push(epoch, self.model.step(), &[("train_loss", loss), ("train_accuracy", accuracy)]);
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
    fn save(&self) -> Result<()> {
        if let Some(dir) = &self.args.out {
            save::whole(&dir.join("history.csv"), self.history.to_csv().as_bytes())?;
            save::whole(&dir.join("history.svg"), chart::svg(&self.history)?.as_bytes())?;
        }
        Ok(())
    }

    /// Sums up.
    fn conclude(&self, out: &mut Output, interrupted: bool) -> Result<(), Stop> {
        let epochs = self.last.map_or(0, |line| line.epoch + 1);
        let seconds = self.elapsed.as_secs_f64();
        let rate = |numerator: f64| if seconds > 0.0 { numerator / seconds } else { 0.0 };
        let last = LastLine {
            epochs,
            samples: self.samples,
            seconds,
            train_loss: self.pass.totals.mean_loss(),
            train_accuracy: self.pass.totals.accuracy(),
            test_accuracy: self.last.map(|line| line.test_accuracy),
            test_accuracy_ema: self.last.map(|line| line.test_accuracy_ema),
            data_wait_fraction: rate(self.waited.as_secs_f64()),
            samples_per_second: rate(self.samples as f64),
            bottleneck: self.loader.report().bottleneck(),
            interrupted,
        };
        out.json(&last)?;
        out.text(format_args!(""))?;
        if let Some(line) = self.last {
            out.text(format_args!("test accuracy with raw weights       {}", percent(line.test_accuracy, 2)))?;
            out.text(format_args!("test accuracy with averaged weights  {}", percent(line.test_accuracy_ema, 2)))?;
        }
        out.text(format_args!(
            "{epochs} epochs, {} samples in {seconds:.1} s of training: {} samples/s, {} of the time waiting for data",
            thousands(last.samples),
            thousands(last.samples_per_second as u64),
            percent(last.data_wait_fraction, 2)
        ))?;
        if let Some(bottleneck) = last.bottleneck {
            out.text(format_args!("{bottleneck}"))?;
        }
        if let Some(dir) = &self.args.out {
            out.text(format_args!("saved history.csv and history.svg in {}", dir.display()))?;
        }
        Ok(())
    }
}

/// Tests a model as it is.
fn test(model: &mut Model, loader: &Loader<Images>) -> Result<Totals, Stop> {
    let mut totals = Totals::default();
    for batch in loader.epoch(0) {
        if interrupt::requested() {
            return Err(Stop::Interrupted("while testing, after an epoch of training".to_owned()));
        }
        let batch = batch?;
        let (images, labels) = &*batch;
        totals.add(&model.evaluate(images, labels)?);
    }
    Ok(totals)
}

/// A bar for an epoch. It shows only if standard error is a terminal.
fn progress_bar(epoch: String, num_batches: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len}  {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(Some(num_batches), ProgressDrawTarget::stderr()).with_style(style);
    bar.with_prefix(format!("epoch {epoch}"))
}
