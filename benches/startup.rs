//! How soon is the first batch there, and how long is the gap between two epochs?
//!
//! `cargo bench --bench startup [NAME..]`, with nothing else going on; `PROCESSION_REPEATS` sets the number of rounds.
//! Samples sleep, so that as many are loaded at once as there are workers, on any machine.
//!
//! *first*: the time from `build` and from `epoch` to the first batch, of 64 samples of 5 ms, for 1, 8 and 32 workers. The
//! limit is the batch's cost shared by all of them, as each bare thread sleeps: a timer fires some 60 microseconds late.
//!
//! *gap*: the time from the last batch of an epoch to the first of the next, with `epochs(..)`, against the time from one
//! batch to the next within an epoch; and what it would be if each epoch were begun by itself. Once with a consumer that
//! takes longer than the loader, and once with one that takes no time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Spread, at_least, drain, repeats};
use ndarray::Array1;
use procession::{Epoch, Loader, Window, from_fn};

fn main() {
    common::run(&[("first", &first), ("gap", &gap)]);
}

fn loader(workers: usize, batches: usize, batch_size: usize, cost: Duration) -> Loader<Array1<u64>> {
    let source = from_fn(batches * batch_size, move |index| {
        std::thread::sleep(cost);
        index as u64
    });
    // A fixed window: one that is left to the loader would have grown by the later rounds.
    let window = Window::Batches((2 * workers).max(4));
    Loader::builder(source).batch_size(batch_size).workers(workers).window(window).build().unwrap()
}

fn first() {
    const BATCH: usize = 64;
    let cost = Duration::from_millis(5);
    println!("the first batch of {BATCH} samples of {cost:?}, milliseconds");
    for workers in [1, 8, 32] {
        let mut times = [const { Vec::new() }; 5];
        let used = loader(workers, 4, BATCH, cost);
        for round in 0..=repeats() {
            let mut note = |what: usize, start: Instant| {
                if round > 0 {
                    times[what].push(start.elapsed().as_secs_f64() * 1e3);
                }
            };
            let start = Instant::now();
            (0..BATCH / workers).for_each(|_| std::thread::sleep(cost));
            note(0, start);
            // Threads started, and the first batch.
            let start = Instant::now();
            let fresh = loader(workers, 4, BATCH, cost);
            note(1, start);
            black_box(&*fresh.epoch(0).next().unwrap().unwrap());
            note(2, start);
            drop(fresh);
            // The pool has been there for a while, and its workers sleep; but it has seen nothing yet.
            let fresh = loader(workers, 4, BATCH, cost);
            std::thread::sleep(4 * cost);
            let start = Instant::now();
            black_box(&*fresh.epoch(0).next().unwrap().unwrap());
            note(3, start);
            drop(fresh);
            // The same pool has done an epoch before.
            drain(&used, 0);
            let start = Instant::now();
            black_box(&*used.epoch(0).next().unwrap().unwrap());
            note(4, start);
        }
        println!("\n{workers} workers");
        let names = [
            "the limit: the batch's cost by the workers",
            "build, threads started",
            "from build to the first batch",
            "from epoch to the first batch, new pool",
            "from epoch to the first batch, after an epoch",
        ];
        for (name, times) in names.iter().zip(&times) {
            let Spread { low, median, high } = Spread::of(times.iter().copied());
            println!("  {name:<50} {median:>8.3}  ({low:.3} to {high:.3})");
        }
        for (what, way) in [("from build", 2), ("from epoch, new pool", 3), ("from epoch, after an epoch", 4)] {
            let ratio = Spread::of(times[0].iter().zip(&times[way]).map(|(limit, time)| limit / time));
            at_least(&format!("{what}: part of the limit's speed"), 0.9, ratio);
        }
    }
}

/// The milliseconds from batch to batch within epochs, and from the last of an epoch to the first of the next.
fn intervals(
    epochs: impl Iterator<Item = Epoch<Array1<u64>>>,
    work: Duration,
    within: &mut Vec<f64>,
    between: &mut Vec<f64>,
) {
    let mut last: Option<Instant> = None;
    for epoch in epochs {
        let mut is_first = true;
        for batch in epoch {
            let batch = batch.unwrap();
            if let Some(last) = last {
                let took = last.elapsed().as_secs_f64() * 1e3;
                if is_first { between.push(took) } else { within.push(took) }
            }
            is_first = false;
            black_box(&*batch);
            if !work.is_zero() {
                std::thread::sleep(work);
            }
            last = Some(Instant::now());
        }
    }
}

fn gap() {
    const BATCHES: usize = 32;
    const BATCH: usize = 32;
    const WORKERS: usize = 8;
    let cost = Duration::from_millis(1);
    let loader = loader(WORKERS, BATCHES, BATCH, cost);
    drain(&loader, 0);
    let num_epochs = 4;
    for (title, work) in [
        ("a consumer of 6 ms a batch, which is slower than the loader", Duration::from_millis(6)),
        ("a consumer of no time, for which the loader works all the time", Duration::ZERO),
    ] {
        let (mut within, mut between) = (Vec::new(), Vec::new());
        let (mut alone_within, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..repeats() {
            intervals(loader.epochs(0..num_epochs), work, &mut within, &mut between);
            intervals((0..num_epochs).map(|epoch| loader.epoch(epoch)), work, &mut alone_within, &mut alone);
        }
        println!("\nfrom one batch to the next, {WORKERS} workers, {BATCH} samples of {cost:?}, milliseconds: {title}");
        for (name, times) in [
            ("within an epoch", &within),
            ("from an epoch to the next, `epochs(..)`", &between),
            ("from an epoch to the next, begun by itself", &alone),
        ] {
            let Spread { low, median, high } = Spread::of(times.iter().copied());
            println!("  {name:<50} {median:>8.3}  ({low:.3} to {high:.3})");
        }
        // An interval within an epoch may be next to nothing: what counts is how much longer the gap is, as a part of
        // what a batch takes, to load and to consume.
        let batch_ms = cost.as_secs_f64() * 1e3 * BATCH as f64 / WORKERS as f64 + work.as_secs_f64() * 1e3;
        let usual = Spread::of(within).median;
        let longer = Spread::of(between).map(|gap| (gap - usual) / batch_ms);
        common::at_most("how much longer the gap is, in batches", 0.1, longer);
    }
}
