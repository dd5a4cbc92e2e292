//! `procession bench PATH`: how fast samples of these data come, by number of workers, and where the time goes.

use std::path::Path;
use std::time::{Duration, Instant};

use procession::{Bottleneck, Error, ErrorKind, Plan, Report, Result, Shuffle};
use serde::Serialize;

use crate::bench::{Args, SEED, name_of};
use crate::bench_images::ImageWork;
use crate::data::{Data, Part, Pictures};
use crate::images::Size;
use crate::interrupt;
use crate::output::{Output, percent, printable, thousands};
use crate::stop::Stop;
use crate::workload::{Epochs, Staged, Times, Workload};

/// A number of workers within this part of the best rate is as good.
const AS_GOOD: f64 = 0.97;

/// Of the time that all may take: the part in which samples are first read, by one thread.
const FIRST_PASS: f64 = 0.15;

/// Samples in a batch, where nothing else is asked for. Images take so long that batches of more are few in a second.
const IMAGES_IN_BATCH: usize = 32;
const BATCH_SIZE: usize = 128;

/// Where one thread's time goes, as JSON.
#[derive(Debug, Clone, Copy, Serialize)]
struct StageLine {
    samples: u64,
    failed: u64,
    read_seconds: f64,
    /// Absent where nothing is decoded, as its fraction is.
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_seconds: Option<f64>,
    assemble_seconds: f64,
    read_fraction: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_fraction: Option<f64>,
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
    let data = Data::open_with(path, &args.tokens)?;
    let part = data.parts.iter().find(|part| part.name == "train").or(data.parts.first());
    let part = part.filter(|part| part.num_samples > 0).ok_or_else(|| {
        let message = format!("no samples in these data ({}), expected some", data.kind);
        Error::new(ErrorKind::Shape, message).with_file(path)
    })?;
    let (workload, what, batch_size) = workload_of(part, args).map_err(|error| error.with_file(path))?;
    out.text(format_args!(
        "{}: {} samples, {}, {what}, {} processors",
        printable(&path.display().to_string()),
        thousands(part.num_samples as u64),
        data.kind,
        num_cpus::get()
    ))?;
    measure(&*workload, part.num_samples, args.batch_size.unwrap_or(batch_size), workers, args, out)
}

/// What is measured, what is made of a sample, and how many make a batch.
fn workload_of(part: &Part, args: &Args) -> Result<(Box<dyn Workload>, String, usize)> {
    let wrong = |message: &str| Error::new(ErrorKind::Argument, message.to_owned());
    if let Some(pictures) = part.pictures.clone() {
        let size = size_of(&pictures, args)?;
        let workload: Box<dyn Workload> = match pictures {
            Pictures::Files(source) => Box::new(ImageWork { source, size }),
            Pictures::Pixels(source) => Box::new(ImageWork { source, size }),
        };
        return Ok((workload, format!("resized to {} x {}", size.height, size.width), IMAGES_IN_BATCH));
    }
    if args.size.is_some() {
        return Err(wrong("no images in these data, but a size for them"));
    }
    let make = part.workload.as_ref().ok_or_else(|| wrong("nothing in these data of a type that is read"))?;
    Ok((make()?, "loaded as they are".to_owned(), BATCH_SIZE))
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

/// Measures everything, and shows it.
fn measure(
    workload: &dyn Workload,
    num_samples: usize,
    batch_size: usize,
    workers: &[usize],
    args: &Args,
    out: &mut Output,
) -> Result<(), Stop> {
    let started = Instant::now();
    let all = Duration::from_secs_f64(args.seconds);
    let first = FirstPass::run(&mut *workload.stages(batch_size), num_samples, all.mul_f64(FIRST_PASS), args)?;
    first.show(out)?;

    // What one measurement may take, and how many samples one thread has in that time.
    let slice = all.mul_f64((1.0 - FIRST_PASS) / (args.repeats_of(3) * (workers.len() + 1)) as f64);
    let in_slice = (first.rate() * slice.as_secs_f64()) as usize;
    let indices = &first.indices[..in_slice.max(batch_size).clamp(1, first.indices.len())];
    let naive = workload.naive(indices.to_vec(), batch_size)?;
    let loaders: Vec<Box<dyn Epochs>> =
        workers.iter().map(|&workers| workload.loader(indices.to_vec(), batch_size, workers)).collect::<Result<_>>()?;

    let mut naive_times = Vec::new();
    let mut loader_times = vec![Vec::new(); loaders.len()];
    for round in 0..args.repeats_of(3) {
        if round > 0 && started.elapsed() >= all {
            break;
        }
        let mut last = time_of_sample(&*naive, indices.len(), slice, first.seconds() / first.indices.len() as f64)?;
        naive_times.push(last);
        for (loader, times) in loaders.iter().zip(&mut loader_times) {
            if interrupt::requested() {
                return Err(Stop::Interrupted(format!("in round {} of measuring", round + 1)));
            }
            // More workers are hardly slower than fewer: the time of the ones before is no less than theirs.
            last = time_of_sample(&**loader, indices.len(), slice, last)?;
            times.push(last);
        }
    }

    let rate_of = |mut times: Vec<f64>| {
        times.sort_unstable_by(f64::total_cmp);
        1.0 / times[times.len() / 2].max(1e-12)
    };
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
        let (ratio, bottleneck) = (rate / base, report.as_ref().and_then(Report::bottleneck));
        let name = format!("{workers} {}", if workers == 1 { "worker" } else { "workers" });
        let verdict = bottleneck.map_or("-", name_of);
        out.text(format_args!("{name:>14}  {:>11}  {ratio:>5.2}  {verdict}", thousands(rate as u64)))?;
        out.json(&RateLine {
            work: "load",
            workers: Some(workers),
            samples_per_second: rate,
            ratio,
            bottleneck,
            report: report.as_ref(),
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
    times: Times,
}

impl FirstPass {
    fn run(stages: &mut dyn Staged, num_samples: usize, limit: Duration, args: &Args) -> Result<Self, Stop> {
        let mut pass = Self { indices: Vec::new(), failed: 0, times: Times::default() };
        let order = Plan::new(Shuffle::new(num_samples as u64, SEED), 1)?;
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
            match stages.load(index, &mut pass.times) {
                Ok(()) => pass.indices.push(index),
                Err(error) => {
                    pass.failed += 1;
                    last_error = Some(error);
                }
            }
        }
        match last_error {
            Some(error) if pass.indices.is_empty() => Err(error.into()),
            _ => {
                stages.finish(&mut pass.times)?;
                Ok(pass)
            }
        }
    }

    fn seconds(&self) -> f64 {
        let Times { read, decode, assemble } = self.times;
        (read + decode.unwrap_or_default() + assemble).as_secs_f64().max(1e-9)
    }

    /// Samples per second.
    fn rate(&self) -> f64 {
        self.indices.len() as f64 / self.seconds()
    }

    fn bound_by(&self) -> &'static str {
        let Times { read, decode, assemble } = self.times;
        let stages = [(read, "reading"), (decode.unwrap_or_default(), "decoding"), (assemble, "assembling")];
        stages.into_iter().max().map_or("-", |(_, name)| name)
    }

    fn show(&self, out: &mut Output) -> Result<(), Stop> {
        let [read, assemble] = [self.times.read, self.times.assemble].map(|stage| stage.as_secs_f64());
        let decode = self.times.decode.map(|stage| stage.as_secs_f64());
        let all = self.seconds();
        out.json(&StageLine {
            samples: self.indices.len() as u64,
            failed: self.failed,
            read_seconds: read,
            decode_seconds: decode,
            assemble_seconds: assemble,
            read_fraction: read / all,
            decode_fraction: decode.map(|decode| decode / all),
            assemble_fraction: assemble / all,
        })?;
        let decoding =
            decode.map_or_else(String::new, |decode| format!("decoding and resizing {}, ", percent(decode / all, 1)));
        out.text(format_args!(
            "one thread, first pass over {} of them: reading {}, {decoding}assembling {}",
            thousands(self.indices.len() as u64),
            percent(read / all, 1),
            percent(assemble / all, 1)
        ))?;
        if self.failed > 0 {
            let failed = thousands(self.failed);
            out.text(format_args!("{failed} samples failed and are left out: procession verify tells why"))?;
        }
        out.flush()
    }
}

/// The seconds that a sample takes, measured for about as long as a slice, given what one takes at most.
fn time_of_sample(epochs: &dyn Epochs, num_samples: usize, slice: Duration, at_most: f64) -> Result<f64> {
    let num_epochs = (slice.as_secs_f64() / (at_most * num_samples as f64)).round().clamp(1.0, 1e6);
    let started = Instant::now();
    epochs.take(num_epochs as u64)?;
    Ok(started.elapsed().as_secs_f64() / (num_epochs * num_samples as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_workers_are_recommended_where_more_do_not_help() {
        assert_eq!(recommended(&[0, 1, 2, 4], &[10.0, 9.0, 19.5, 20.0]), Some((2, 19.5)));
        assert_eq!(recommended(&[4, 0, 1], &[10.0, 12.0, 9.8]), Some((1, 9.8)));
        assert_eq!(recommended(&[0], &[10.0]), Some((0, 10.0)));
        assert_eq!(recommended(&[], &[]), None);
    }
}
