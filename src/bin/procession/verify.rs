//! `procession verify`: loads every sample and lists those that fail.

use std::io::{self, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use procession::{Error, ErrorKind, Loader, Result, from_fn};
use serde::Serialize;

use crate::data::{Check, Data, Part};
use crate::flat::TokenArgs;
use crate::images;
use crate::interrupt;
use crate::output::{Output, printable, thousands};
use crate::stop::{Stop, chain};

/// Check every sample of a data set, and list those that cannot be loaded.
///
/// Images are decoded whole; of other data as much is looked at as can be wrong: whether text is UTF-8, and whether the
/// fields of a CSV table are of the type that nine of ten in their column are, an empty one being a value that is missing.
/// Prints a line for each sample that
/// fails, in the data's order, and the counts at the end; the exit code is 1 if any failed. With --json each failure has
/// `part`, `index`, `file`, `kind` and `error`, and the last line has the counts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data set: a folder of images by class, a folder or a list of images, tar shards, IDX or CIFAR files, NumPy
    /// arrays, Arrow or Parquet files or a folder of them, tables (.csv, .tsv), lines of text (.txt, .jsonl, .ndjson,
    /// .json), tokens (.bin)
    path: PathBuf,
    #[command(flatten)]
    tokens: TokenArgs,
    /// Threads that check samples; 0 checks them one after the other [default: one for each processor]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Count files that are passed over, as no sample is made of them, as failures
    #[arg(long)]
    strict: bool,
}

/// Samples that are checked together. A few, as Ctrl-C waits for as many.
const BATCH_SIZE: usize = 16;

/// A sample that fails, or a file that is passed over, as JSON.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    kind: String,
    error: String,
}

/// What was found, as JSON.
#[derive(Default, Serialize)]
struct Counts {
    samples: u64,
    failed: u64,
    passed_over: u64,
    seconds: f64,
    samples_per_second: f64,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Stop> {
    let mut counts = Counts::default();
    let result = check_all(args, &mut counts, out);
    let passed_over = if args.strict { counts.passed_over } else { 0 };
    match result {
        // Whoever has read enough, as `| head` has, is told all the same by the exit code that something failed.
        Err(Stop::OutputClosed) if counts.failed + passed_over > 0 => Err(Stop::FoundAndClosed),
        result => result,
    }
}

fn check_all(args: &Args, counts: &mut Counts, out: &mut Output) -> Result<(), Stop> {
    let num_workers = images::num_workers(args.workers)?;
    let data = Data::open_with(&args.path, &args.tokens)?;
    let total: u64 = data.parts.iter().map(|part| part.num_samples as u64).sum();
    counts.passed_over = data.num_passed_over;
    if args.strict {
        for (file, reason) in &data.passed_over {
            out.text(format_args!("passed over: {}: {reason}", printable(file)))?;
            let kind = "passed_over".to_owned();
            out.json(&Failure { part: None, index: None, file: Some(file.clone()), kind, error: reason.clone() })?;
        }
    }
    let bar = progress_bar(total)?;
    let started = Instant::now();
    let result = data.parts.iter().try_for_each(|part| verify(part, num_workers, total, &bar, counts, out));
    bar.finish_and_clear();
    result?;
    counts.seconds = started.elapsed().as_secs_f64();
    counts.samples_per_second = if counts.seconds > 0.0 { counts.samples as f64 / counts.seconds } else { 0.0 };
    conclude(&data, counts, args.strict, out)
}

/// A bar on standard error, if somebody sees it.
fn progress_bar(total: u64) -> Result<ProgressBar> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} samples, {msg}{per_sec}, {eta} left")
        .map_err(|cause| Error::new(ErrorKind::Argument, "a template of a progress bar").with_cause(cause))?;
    Ok(ProgressBar::new(total).with_style(style))
}

/// What a check says of a sample. A panic is a failure of the sample too.
fn outcome(check: &Check, index: usize) -> Option<Error> {
    catch_unwind(AssertUnwindSafe(|| check(index))).unwrap_or_else(|payload| Err(of_panic(&*payload))).err()
}

fn of_panic(payload: &(dyn std::any::Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("not text");
    Error::new(ErrorKind::Panic, format!("panic while loading: {text}"))
}

/// Checks the samples of a part and tells of those that fail.
fn verify(
    part: &Part,
    num_workers: usize,
    total: u64,
    bar: &ProgressBar,
    counts: &mut Counts,
    out: &mut Output,
) -> Result<(), Stop> {
    let check = Check::clone(&part.check);
    let loader = Loader::builder(from_fn(part.num_samples, |index| index))
        .map(move |index| (index as u64, outcome(&check, index)))
        .collate(Ok)
        .batch_size(BATCH_SIZE)
        .workers(num_workers)
        .build()?;
    for batch in loader.epoch(0) {
        let batch = batch?.into_inner();
        let num_samples = batch.len() as u64;
        for (index, error) in batch {
            let Some(error) = error else { continue };
            counts.failed += 1;
            bar.set_message(format!("{} failed, ", thousands(counts.failed)));
            // The bar steps aside, as both may be lines of one terminal.
            bar.suspend(|| tell(part, index, &error, out))?;
        }
        counts.samples += num_samples;
        bar.inc(num_samples);
        if interrupt::requested() && counts.samples < total {
            let (done, failed) = (thousands(counts.samples), thousands(counts.failed));
            return Err(Stop::Interrupted(format!("after {done} of {} samples, {failed} failed", thousands(total))));
        }
    }
    Ok(())
}

fn tell(part: &Part, index: u64, error: &Error, out: &mut Output) -> Result<(), Stop> {
    let text = chain(error);
    out.text(format_args!("{} {index}: {}", printable(&part.name), printable(&text)))?;
    out.json(&Failure {
        part: Some(&part.name),
        index: Some(index),
        file: error.file().map(|file| file.display().to_string()),
        kind: format!("{:?}", error.kind()).to_ascii_lowercase(),
        error: text,
    })?;
    out.flush()
}

/// The counts, and the exit code that follows from them.
fn conclude(data: &Data, counts: &Counts, strict: bool, out: &mut Output) -> Result<(), Stop> {
    out.json(counts)?;
    let passed_over = match counts.passed_over {
        0 => String::new(),
        number => format!(", {} files passed over", thousands(number)),
    };
    out.text(format_args!(
        "{}: {} samples checked in {:.1} s, {} failed{passed_over}",
        data.kind,
        thousands(counts.samples),
        counts.seconds,
        thousands(counts.failed)
    ))?;
    let passed_over = if strict { counts.passed_over } else { 0 };
    if counts.failed + passed_over == 0 {
        return Ok(());
    }
    let mut found = format!("{} of {} samples failed", thousands(counts.failed), thousands(counts.samples));
    if passed_over > 0 {
        found += &format!(" and {} files were passed over", thousands(passed_over));
    }
    Err(Stop::Failed(found.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_is_a_failure_of_its_sample() {
        let check: Check = Arc::new(|index| match index {
            0 => Ok(()),
            1 => panic!("odd {index}"),
            _ => Err(Error::new(ErrorKind::Format, "bad")),
        });
        assert!(outcome(&check, 0).is_none());
        let error = outcome(&check, 1).unwrap();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Panic, "panic while loading: odd 1"));
        assert_eq!(outcome(&check, 2).unwrap().kind(), ErrorKind::Format);
    }
}
