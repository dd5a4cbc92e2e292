//! `procession bench`: the loader against a naive generator, on the shipped data or on others.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ndarray::{Array1, Array2};
use procession::source::{Mnist, MnistPart};
use procession::{Bottleneck, Error, ErrorKind, Loader, Plan, Report, Result, Sequence, Shuffle, Visit};
use serde::Serialize;

use crate::augment::{SIDE, augment};
use crate::bench_data;
use crate::flat::TokenArgs;
use crate::images::{self, Images};
use crate::interrupt;
use crate::output::{Output, thousands};
use crate::stop::Stop;

/// Measure the loader against a naive generator, on data of yours or on the sample of Fashion-MNIST that comes with the
/// program.
///
/// The naive generator is what one writes without a loader: one thread that gathers the samples of a shuffled batch,
/// converts them, and puts them in a batch of fresh memory, when the training loop asks for it. The training loop does
/// nothing here, so that every batch is waited for. Both are measured in turn, several times, and medians are shown;
/// the ratio is that of the samples per second to the naive generator's.
///
/// With a path, samples are drawn by a shuffle. Images are decoded, resized and converted to floats; other samples are
/// loaded as they are: arrays, numbers and windows of tokens are stacked, text becomes a list, lists of different lengths
/// lie one after the other. One thread reads them first, and tells how much of its time goes to reading, to decoding and
/// to making batches; what follows finds the files in the system's cache as far as they fit. At the end it says how many
/// workers to use.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder of images by class, a folder or a list of images, tar shards, IDX or CIFAR files, NumPy arrays, Arrow or
    /// Parquet files, tables (.csv, .tsv), lines of text (.txt, .jsonl, .ndjson, .json), tokens (.bin)
    pub(crate) path: Option<PathBuf>,
    /// Height and width to which images are resized [default: 224 for image files, as they are for IDX and CIFAR]
    #[arg(long, value_name = "PX", requires = "path", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) size: Option<u16>,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// How long it may take in all, about
    #[arg(long, value_name = "S", requires = "path", default_value_t = 20.0)]
    pub(crate) seconds: f64,
    /// The most samples to read
    #[arg(long, value_name = "N", requires = "path", default_value_t = 10_000)]
    pub(crate) samples: u64,
    /// Samples in a batch [default: 128; 32 for images at a path]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// Numbers of workers to measure, separated by commas [default: 0, 1, 2, 4 and so on up to the number of
    /// processors]
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    workers: Vec<usize>,
    /// How often each is measured [default: 7; 3 with a path]
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
}

impl Args {
    /// How often each is measured, where nothing else is asked for.
    pub(crate) fn repeats_of(&self, default: usize) -> usize {
        self.repeats.unwrap_or(default)
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::Argument, message));
        if self.repeats == Some(0) {
            return wrong("0 repeats, expected at least 1".to_owned());
        }
        if !(self.seconds > 0.0 && self.seconds <= 86_400.0) {
            return wrong(format!("{} seconds, expected a number above 0 and at most 86400", self.seconds));
        }
        if self.samples == 0 {
            return wrong("0 samples, expected at least 1".to_owned());
        }
        if self.path.is_none() && self.tokens.any() {
            return wrong(
                "--dtype, --window and --vocab-size are for files of tokens, expected the PATH of one".to_owned(),
            );
        }
        Ok(())
    }
}

/// Samples in a batch of the shipped data, where nothing else is asked for.
const BATCH_SIZE: usize = 128;

/// How long one measurement takes, about.
const TARGET: Duration = Duration::from_millis(120);
pub(crate) const SEED: u64 = 0;

/// What is done with a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Work {
    Convert,
    Augment,
}

impl Work {
    fn title(self) -> &'static str {
        match self {
            Self::Convert => "convert: bytes to floats",
            Self::Augment => "augment: bytes to floats, turned, moved, flipped and normalised at random",
        }
    }
}

/// A result as JSON.
#[derive(Serialize)]
struct Line<'a> {
    work: Work,
    /// The number of workers; absent for the naive generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,
    samples_per_second: f64,
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bottleneck: Option<Bottleneck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Stop> {
    args.check()?;
    let workers = match &args.workers[..] {
        [] => default_workers(num_cpus::get()),
        asked => asked.iter().map(|&workers| images::num_workers(Some(workers))).collect::<Result<_>>()?,
    };
    let batch_size = args.batch_size.unwrap_or(BATCH_SIZE);
    // An impossible batch size is told before anything is printed.
    Plan::new(Shuffle::new(1, SEED), batch_size as u64)?;
    if let Some(path) = &args.path {
        return bench_data::run(path, &workers, args, out);
    }
    let data = Mnist::fashion_sample().train;
    let num_samples = thousands(data.len() as u64);
    let processors = num_cpus::get();
    out.text(format_args!(
        "{num_samples} images of {SIDE} x {SIDE}, batches of {batch_size}, {processors} processors"
    ))?;
    for work in [Work::Convert, Work::Augment] {
        compare(work, &data, &workers, args, out)?;
    }
    Ok(())
}

fn default_workers(num_processors: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |workers| Some(2 * workers));
    let mut workers: Vec<usize> = powers.take_while(|&workers| workers < num_processors).collect();
    workers.insert(0, 0);
    workers.push(num_processors);
    workers
}

/// Measures everything for one kind of work, and shows it.
fn compare(work: Work, data: &MnistPart, workers: &[usize], args: &Args, out: &mut Output) -> Result<(), Stop> {
    let batch_size = args.batch_size.unwrap_or(BATCH_SIZE);
    let naive = Naive::new(data.clone(), work, batch_size)?;
    let loaders: Vec<Loader<Images>> =
        workers.iter().map(|&workers| loader(data.clone(), work, batch_size, workers)).collect::<Result<_>>()?;

    // The first pass warms the caches and says how many epochs make a measurement.
    let once = naive.run(1)?;
    let num_epochs = (TARGET.as_secs_f64() / once.as_secs_f64()).ceil().clamp(1.0, 1e6) as u64;
    let mut naive_times = Vec::new();
    let mut loader_times = vec![Vec::new(); loaders.len()];
    for _ in 0..args.repeats_of(7) {
        naive_times.push(naive.run(num_epochs)?);
        for (loader, times) in loaders.iter().zip(&mut loader_times) {
            if interrupt::requested() {
                return Err(Stop::Interrupted(format!("before {} was measured", work.title())));
            }
            times.push(take_all(loader, num_epochs)?);
        }
    }

    let num_samples = num_epochs as f64 * data.len() as f64;
    let base = num_samples / median(naive_times).as_secs_f64();
    out.json(&Line { work, workers: None, samples_per_second: base, ratio: 1.0, bottleneck: None, report: None })?;
    out.text(format_args!(""))?;
    out.text(format_args!("{}", work.title()))?;
    out.text(format_args!("{:>14}  {:>11}  {:>5}  bottleneck", "", "samples/s", "ratio"))?;
    out.text(format_args!("{:>14}  {:>11}  {:>5}", "naive", thousands(base as u64), "1.00"))?;
    for ((loader, times), &workers) in loaders.iter().zip(loader_times).zip(workers) {
        let rate = num_samples / median(times).as_secs_f64();
        let (ratio, report) = (rate / base, loader.report());
        let bottleneck = report.bottleneck();
        out.json(&Line {
            work,
            workers: Some(workers),
            samples_per_second: rate,
            ratio,
            bottleneck,
            report: Some(&report),
        })?;
        let name = format!("{workers} {}", if workers == 1 { "worker" } else { "workers" });
        let verdict = bottleneck.map_or("-", name_of);
        out.text(format_args!("{name:>14}  {:>11}  {ratio:>5.2}  {verdict}", thousands(rate as u64)))?;
    }
    out.flush()
}

pub(crate) fn name_of(bottleneck: Bottleneck) -> &'static str {
    match bottleneck {
        Bottleneck::Consumer => "consumer",
        Bottleneck::Workers => "workers",
        Bottleneck::Source => "source",
        _ => "other",
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn loader(data: MnistPart, work: Work, batch_size: usize, num_workers: usize) -> Result<Loader<Images>> {
    let builder = Loader::builder(data);
    match work {
        Work::Convert => builder.batch_size(batch_size).shuffle(SEED).workers(num_workers).build(),
        Work::Augment => builder
            .augment(|(image, label): (Array1<f32>, u32), rng| {
                let mut pixels = Vec::with_capacity(image.len());
                augment(image.as_slice().expect("an image stands in one piece"), rng, &mut pixels);
                (Array1::from_vec(pixels), label)
            })
            .batch_size(batch_size)
            .shuffle(SEED)
            .workers(num_workers)
            .build(),
    }
}

/// Takes every batch of some epochs.
fn take_all(loader: &Loader<Images>, num_epochs: u64) -> Result<Duration> {
    let started = Instant::now();
    for epoch in loader.epochs(0..num_epochs) {
        for batch in epoch {
            black_box(&*batch?);
        }
    }
    Ok(started.elapsed())
}

/// What one writes without a loader.
struct Naive {
    data: MnistPart,
    pixels: procession::source::IdxSamples<ndarray::Ix1>,
    labels: procession::source::IdxLabels,
    work: Work,
    plan: Plan,
}

impl Naive {
    fn new(data: MnistPart, work: Work, batch_size: usize) -> Result<Self> {
        let plan = Plan::new(Shuffle::new(data.len() as u64, SEED), batch_size as u64)?;
        let (images, labels) = data.clone();
        Ok(Self { data, pixels: images.into_samples(), labels, work, plan })
    }

    fn run(&self, num_epochs: u64) -> Result<Duration> {
        let started = Instant::now();
        for epoch in 0..num_epochs {
            for number in 0..self.plan.num_batches() {
                black_box(&self.batch(epoch, number)?);
            }
        }
        Ok(started.elapsed())
    }

    fn batch(&self, epoch: u64, number: u64) -> Result<Images> {
        let indices = self.plan.indices(epoch, number);
        let mut pixels = Vec::with_capacity(indices.len() * SIDE * SIDE);
        let mut labels = Vec::with_capacity(indices.len());
        for (position, &index) in (number * self.plan.batch_size()..).zip(&indices) {
            let at = index as usize;
            match self.work {
                Work::Convert => pixels.extend(self.pixels.bytes(at).iter().map(|&byte| f32::from(byte) / 255.0)),
                Work::Augment => {
                    let image = self.data.get(at)?.0;
                    let mut rng = Visit::new(SEED, epoch, position, index).rng(0);
                    augment(image.as_slice().expect("an image stands in one piece"), &mut rng, &mut pixels);
                }
            }
            labels.push(self.labels.get(at)?);
        }
        let shape = (indices.len(), SIDE * SIDE);
        Ok((Array2::from_shape_vec(shape, pixels).expect("rows of one length"), Array1::from_vec(labels)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_naive_generator_and_the_loader_give_the_same_batches() {
        let data = Mnist::fashion_sample().test;
        let naive = Naive::new(data.clone(), Work::Convert, 96).unwrap();
        let loader = loader(data, Work::Convert, 96, 1).unwrap();
        for (number, batch) in (0..).zip(loader.epoch(3)) {
            assert_eq!(naive.batch(3, number).unwrap(), *batch.unwrap());
        }
    }

    #[test]
    fn worker_counts_end_with_the_processors() {
        assert_eq!(default_workers(1), [0, 1]);
        assert_eq!(default_workers(2), [0, 1, 2]);
        assert_eq!(default_workers(6), [0, 1, 2, 4, 6]);
    }
}
