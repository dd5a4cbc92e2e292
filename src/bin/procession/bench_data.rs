//! `procession bench PATH`: how fast samples of these data come, by number of workers, and where the time goes.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{Array1, Array3, Array4};
use procession::image::ImageTransform;
use procession::source::Blob;
use procession::{
    Bottleneck, Error, ErrorKind, Loader, Plan, Report, Result, Sequence, SequenceExt, Shuffle, Transform, Visit,
};
use serde::Serialize;

use crate::bench::{Args, SEED, median, name_of};
use crate::data::{Data, Pictures};
use crate::images::Size;
use crate::interrupt;
use crate::output::{Output, percent, thousands};
use crate::stop::Stop;

/// A batch: images `(batch, height, width, channels)` in `[0, 1]`, and labels.
type Images = (Array4<f32>, Array1<u32>);

/// A number of workers within this part of the best rate is as good.
const AS_GOOD: f64 = 0.97;

/// Of the time that all may take: the part in which samples are first read, by one thread.
const FIRST_PASS: f64 = 0.15;

/// Samples in a batch, where nothing else is asked for: images take so long that batches of more are few in a second.
const BATCH_SIZE: usize = 32;

/// A kind of images that can be measured.
trait Measured: Send + Clone + 'static {
    /// Has all of the bytes in memory, so that reading a mapped file counts as reading.
    fn touch(&self);
}

impl Measured for Blob {
    fn touch(&self) {
        black_box(self.bytes().iter().step_by(4096).fold(0_u8, |sum, byte| sum ^ byte));
    }
}

impl Measured for procession::image::Image {
    fn touch(&self) {}
}

/// Where one thread's time goes, as JSON.
#[derive(Debug, Clone, Copy, Serialize)]
struct StageLine {
    samples: u64,
    failed: u64,
    read_seconds: f64,
    decode_seconds: f64,
    assemble_seconds: f64,
    read_fraction: f64,
    decode_fraction: f64,
    assemble_fraction: f64,
}

/// A rate as JSON.
#[derive(Serialize)]
struct RateLine<'a> {
    work: &'static str,
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

/// The advice as JSON.
#[derive(Serialize)]
struct AdviceLine {
    recommended_workers: usize,
    samples_per_second: f64,
    bound_by: &'static str,
}

pub(crate) fn run(path: &Path, workers: &[usize], args: &Args, out: &mut Output) -> Result<(), Stop> {
    let data = Data::open(path)?;
    let part = data.parts.iter().find(|part| part.name == "train").or(data.parts.first());
    let (part, pictures) = part.and_then(|part| Some((part, part.pictures.clone()?))).ok_or_else(|| {
        Error::new(ErrorKind::Argument, format!("no images in these data ({}), expected some", data.kind))
            .with_file(path)
    })?;
    if part.num_samples == 0 {
        return Err(Error::new(ErrorKind::Shape, "no samples, expected some").with_file(path).into());
    }
    let size = size_of(&pictures, args)?;
    out.text(format_args!(
        "{}: {} samples, {}, resized to {} x {}, {} processors",
        path.display(),
        thousands(part.num_samples as u64),
        data.kind,
        size.height,
        size.width,
        num_cpus::get()
    ))?;
    match pictures {
        Pictures::Files(files) => measure(files, size, workers, args, out),
        Pictures::Pixels(images) => measure(images, size, workers, args, out),
    }
}

/// The size that images get: what is asked for, or for pixels their own.
fn size_of(pictures: &Pictures, args: &Args) -> Result<Size> {
    Ok(match (pictures, args.size) {
        (Pictures::Pixels(images), asked) => {
            let image = images.get(0)?.0;
            let (height, width) = asked.map_or((image.height(), image.width()), |side| (side.into(), side.into()));
            Size { height, width, channels: image.channels() }
        }
        (Pictures::Files(_), asked) => {
            let side = asked.unwrap_or(224).into();
            Size { height: side, width: side, channels: 3 }
        }
    })
}

/// Measures everything for one kind of images, and shows it.
fn measure<I: Measured>(
    source: Arc<dyn Sequence<Sample = (I, u32)>>,
    size: Size,
    workers: &[usize],
    args: &Args,
    out: &mut Output,
) -> Result<(), Stop>
where
    ImageTransform<f32>: Transform<I, Output = Array3<f32>> + Transform<(I, u32), Output = (Array3<f32>, u32)>,
{
    let started = Instant::now();
    let all = Duration::from_secs_f64(args.seconds);
    let first = FirstPass::run(&source, size, all.mul_f64(FIRST_PASS), args)?;
    first.show(out)?;

    // What one measurement may take, and how many samples one thread has in that time.
    let slice = all.mul_f64((1.0 - FIRST_PASS) / (args.repeats_of(3) * (workers.len() + 1)) as f64);
    let batch_size = args.batch_size.unwrap_or(BATCH_SIZE);
    let num_samples = (first.rate() * slice.as_secs_f64()) as usize;
    let indices = first.indices[..num_samples.max(batch_size).clamp(1, first.indices.len())].to_vec();
    let source = source.subset(indices)?;
    let naive = Naive::new(source.clone(), size, batch_size)?;
    let loaders: Vec<Loader<Images>> = workers
        .iter()
        .map(|&workers| {
            let builder = Loader::builder(source.clone()).transform(size.transform());
            builder.batch_size(batch_size).shuffle(SEED).workers(workers).build()
        })
        .collect::<Result<_>>()?;

    let samples_of = |num_epochs: u64| num_epochs as f64 * source.len() as f64;
    let mut naive_times = Vec::new();
    let mut loader_times = vec![Vec::new(); loaders.len()];
    for round in 0..args.repeats_of(3) {
        if round > 0 && started.elapsed() >= all {
            break;
        }
        naive_times.push(time_of_sample(source.len(), || naive.run())?);
        let mut last = naive_times[round];
        for (loader, times) in loaders.iter().zip(&mut loader_times) {
            if interrupt::requested() {
                return Err(Stop::Interrupted(format!("in round {} of measuring", round + 1)));
            }
            // More workers are hardly slower than fewer: the time of the ones before is no less than theirs.
            let num_epochs =
                (slice.as_secs_f64() / (last.as_secs_f64() * samples_of(1))).round().clamp(1.0, 1e6) as u64;
            last = time_of_sample(source.len() * num_epochs as usize, || take_all(loader, num_epochs))?;
            times.push(last);
        }
    }

    let rate_of = |times: Vec<Duration>| 1.0 / median(times).as_secs_f64().max(1e-9);
    let base = rate_of(naive_times);
    let rates: Vec<f64> = loader_times.into_iter().map(rate_of).collect();
    out.text(format_args!(""))?;
    out.text(format_args!("{:>14}  {:>11}  {:>5}  bottleneck", "", "samples/s", "ratio"))?;
    out.text(format_args!("{:>14}  {:>11}  {:>5}", "naive", thousands(base as u64), "1.00"))?;
    let line =
        RateLine { work: "load", workers: None, samples_per_second: base, ratio: 1.0, bottleneck: None, report: None };
    out.json(&line)?;
    for ((loader, &rate), &workers) in loaders.iter().zip(&rates).zip(workers) {
        let report = loader.report();
        let (ratio, bottleneck) = (rate / base, report.bottleneck());
        let name = format!("{workers} {}", if workers == 1 { "worker" } else { "workers" });
        let verdict = bottleneck.map_or("-", name_of);
        out.text(format_args!("{name:>14}  {:>11}  {ratio:>5.2}  {verdict}", thousands(rate as u64)))?;
        let report = Some(&report);
        out.json(&RateLine {
            work: "load",
            workers: Some(workers),
            samples_per_second: rate,
            ratio,
            bottleneck,
            report,
        })?;
    }
    advise(workers, &rates, &first, out)
}

/// The smallest number of workers that is about as good as the best. None at all is no advice as long as there is another:
/// workers load while the training loop computes, which this does not measure.
fn recommended(workers: &[usize], rates: &[f64]) -> Option<(usize, f64)> {
    let all = || workers.iter().copied().zip(rates.iter().copied());
    let some = all().any(|(workers, _)| workers > 0);
    let candidates = || all().filter(|&(workers, _)| workers > 0 || !some);
    let best = candidates().map(|(_, rate)| rate).fold(0.0, f64::max);
    candidates().filter(|&(_, rate)| rate >= AS_GOOD * best).min_by_key(|&(workers, _)| workers)
}

fn advise(workers: &[usize], rates: &[f64], first: &FirstPass, out: &mut Output) -> Result<(), Stop> {
    let Some((workers, rate)) = recommended(workers, rates) else { return out.flush() };
    let bound_by = first.bound_by();
    out.json(&AdviceLine { recommended_workers: workers, samples_per_second: rate, bound_by })?;
    out.text(format_args!(""))?;
    out.text(format_args!(
        "recommended: --workers {workers}, the smallest number within 3 % of the best; {bound_by} takes most of the time"
    ))?;
    out.flush()
}

/// What one thread did when it read the samples for the first time, stage by stage.
struct FirstPass {
    /// The samples that could be loaded, in the order of the shuffle.
    indices: Vec<usize>,
    failed: u64,
    read: Duration,
    decode: Duration,
    assemble: Duration,
}

impl FirstPass {
    fn run<I: Measured>(
        source: &Arc<dyn Sequence<Sample = (I, u32)>>,
        size: Size,
        limit: Duration,
        args: &Args,
    ) -> Result<Self, Stop>
    where
        ImageTransform<f32>: Transform<I, Output = Array3<f32>>,
    {
        let none = Duration::ZERO;
        let mut pass = Self { indices: Vec::new(), failed: 0, read: none, decode: none, assemble: none };
        let order = Plan::new(Shuffle::new(source.len() as u64, SEED), 1)?;
        let transform = size.transform();
        let mut batch = Vec::new();
        let mut last_error = None;
        let started = Instant::now();
        for number in 0..order.num_batches().min(args.samples) {
            if interrupt::requested() {
                return Err(Stop::Interrupted(format!("after {number} samples of the first pass")));
            }
            if !pass.indices.is_empty() && started.elapsed() >= limit {
                break;
            }
            let index = order.indices(0, number)[0] as usize;
            if let Err(error) = pass.sample(&**source, &transform, index, &mut batch) {
                pass.failed += 1;
                last_error = Some(error);
            }
        }
        match last_error {
            Some(error) if pass.indices.is_empty() => Err(error.into()),
            _ => Ok(pass),
        }
    }

    fn sample<I: Measured>(
        &mut self,
        source: &dyn Sequence<Sample = (I, u32)>,
        transform: &ImageTransform<f32>,
        index: usize,
        batch: &mut Vec<f32>,
    ) -> Result<()>
    where
        ImageTransform<f32>: Transform<I, Output = Array3<f32>>,
    {
        let started = Instant::now();
        let (image, _) = source.get(index)?;
        image.touch();
        let read = Instant::now();
        let pixels = transform.apply(image, &mut Visit::new(SEED, 0, 0, 0).rng(0))?;
        let decoded = Instant::now();
        if self.indices.len().is_multiple_of(BATCH_SIZE) {
            *black_box(&mut *batch) = Vec::with_capacity(BATCH_SIZE * pixels.len());
        }
        batch.extend(pixels.iter());
        drop(pixels);
        self.read += read - started;
        self.decode += decoded - read;
        self.assemble += decoded.elapsed();
        self.indices.push(index);
        Ok(())
    }

    fn seconds(&self) -> f64 {
        (self.read + self.decode + self.assemble).as_secs_f64().max(1e-9)
    }

    /// Samples per second.
    fn rate(&self) -> f64 {
        self.indices.len() as f64 / self.seconds()
    }

    fn bound_by(&self) -> &'static str {
        let stages = [(self.read, "reading"), (self.decode, "decoding"), (self.assemble, "assembling")];
        stages.into_iter().max().map_or("-", |(_, name)| name)
    }

    fn show(&self, out: &mut Output) -> Result<(), Stop> {
        let [read, decode, assemble] = [self.read, self.decode, self.assemble].map(|stage| stage.as_secs_f64());
        let all = self.seconds();
        out.json(&StageLine {
            samples: self.indices.len() as u64,
            failed: self.failed,
            read_seconds: read,
            decode_seconds: decode,
            assemble_seconds: assemble,
            read_fraction: read / all,
            decode_fraction: decode / all,
            assemble_fraction: assemble / all,
        })?;
        let num_samples = thousands(self.indices.len() as u64);
        out.text(format_args!(
            "one thread, first pass over {num_samples} of them: reading {}, decoding and resizing {}, assembling {}",
            percent(read / all, 1),
            percent(decode / all, 1),
            percent(assemble / all, 1)
        ))?;
        if self.failed > 0 {
            let failed = thousands(self.failed);
            out.text(format_args!("{failed} samples failed and are left out: procession verify tells why"))?;
        }
        out.flush()
    }
}

/// What a sample takes, of those that `work` loads.
fn time_of_sample(num_samples: usize, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().div_f64(num_samples as f64))
}

/// Takes every batch of some epochs.
fn take_all(loader: &Loader<Images>, num_epochs: u64) -> Result<()> {
    for epoch in loader.epochs(0..num_epochs) {
        for batch in epoch {
            black_box(&*batch?);
        }
    }
    Ok(())
}

/// What one writes without a loader: one thread loads, decodes, resizes, converts and collates.
struct Naive<S> {
    source: S,
    transform: ImageTransform<f32>,
    size: Size,
    plan: Plan,
}

impl<S, I> Naive<S>
where
    S: Sequence<Sample = (I, u32)>,
    ImageTransform<f32>: Transform<I, Output = Array3<f32>>,
{
    fn new(source: S, size: Size, batch_size: usize) -> Result<Self> {
        let plan = Plan::new(Shuffle::new(source.len() as u64, SEED), batch_size as u64)?;
        Ok(Self { source, transform: size.transform(), size, plan })
    }

    fn run(&self) -> Result<()> {
        for number in 0..self.plan.num_batches() {
            black_box(&self.batch(number)?);
        }
        Ok(())
    }

    fn batch(&self, number: u64) -> Result<Images> {
        let indices = self.plan.indices(0, number);
        let mut pixels = Vec::with_capacity(indices.len() * self.size.num_pixels());
        let mut labels = Vec::with_capacity(indices.len());
        for &index in &indices {
            let (image, label) = self.source.get(index as usize)?;
            pixels.extend(self.transform.apply(image, &mut Visit::new(SEED, 0, 0, index).rng(0))?);
            labels.push(label);
        }
        let shape = (indices.len(), self.size.height, self.size.width, self.size.channels);
        Ok((Array4::from_shape_vec(shape, pixels).expect("images of one size"), Array1::from_vec(labels)))
    }
}

#[cfg(test)]
mod tests {
    use procession::image::Image;

    use super::*;

    #[test]
    fn few_workers_are_recommended_where_more_do_not_help() {
        assert_eq!(recommended(&[0, 1, 2, 4], &[10.0, 9.0, 19.5, 20.0]), Some((2, 19.5)));
        assert_eq!(recommended(&[4, 0, 1], &[10.0, 12.0, 9.8]), Some((1, 9.8)));
        assert_eq!(recommended(&[0], &[10.0]), Some((0, 10.0)));
        assert_eq!(recommended(&[], &[]), None);
    }

    #[test]
    fn the_naive_generator_and_the_loader_give_the_same_batches() {
        let image = |index: usize| Image::new(3, 5, 1, (0..15).map(|at| (index * 16 + at) as u8).collect()).unwrap();
        let source: Arc<dyn Sequence<Sample = (Image, u32)>> =
            Arc::new(procession::from_fn(10, move |index| (image(index), index as u32)));
        let size = Size { height: 4, width: 2, channels: 1 };
        let naive = Naive::new(Arc::clone(&source), size, 4).unwrap();
        let loader = Loader::builder(source).transform(size.transform()).batch_size(4).shuffle(SEED).workers(1);
        for (number, batch) in (0..).zip(loader.build().unwrap().epoch(0)) {
            assert_eq!(naive.batch(number).unwrap(), *batch.unwrap());
        }
    }
}
