//! What would more cores do? Samples that sleep run on as many workers as there are, on any machine: what stands between
//! the loader and `workers / cost` is what it does for each sample and batch, and that is what many cores would meet.
//!
//! `cargo bench --bench scaling [WORKERS..]`, with nothing else going on. For 8, 64 and 256 workers, samples of 10, 1 and
//! 0.2 ms, and two batch sizes it prints the ratio to `workers / cost` and to bare threads that sleep in the same way, and
//! the voluntary context switches a sample, beside one for its own sleep. A timer fires some 60 microseconds late, and a
//! wake-up takes some microseconds of a core, so that the bare threads fall behind the ideal too; where both do, the second
//! ratio is the loader's.
//!
//! Built with `RUSTFLAGS="--cfg procession_counting"` it also counts what is done with the things that threads share, per
//! sample and per batch, and the places where most of it happens. Counting takes time: read the rates from another build.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Spread, drain, repeats};
use procession::{Loader, from_fn};

/// How long an epoch would take if everything were ideal; longer where there would be few batches.
const EPOCH: Duration = Duration::from_millis(250);
const MIN_BATCHES: usize = 4;

fn main() {
    let chosen: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    println!(
        "{:>8} {:>8} {:>6} {:>10} {:>22} {:>24} {:>12} {:>12}",
        "workers", "cost", "batch", "samples/s", "ratio to the ideal", "ratio to bare threads", "switches", "bare"
    );
    for workers in [8, 64, 256] {
        if !chosen.is_empty() && !chosen.contains(&workers) {
            continue;
        }
        for cost in [10_000, 1000, 200].map(Duration::from_micros) {
            for batch_size in [32, 256] {
                measure(workers, cost, batch_size);
            }
        }
    }
}

fn measure(workers: usize, cost: Duration, batch_size: usize) {
    let round = workers.max(batch_size);
    let len = (EPOCH.as_secs_f64() * workers as f64 / cost.as_secs_f64()) as usize;
    let len = len.max(MIN_BATCHES * batch_size).next_multiple_of(round);
    let ideal = cost.as_secs_f64() * (len / workers) as f64;
    let source = from_fn(len, move |index| {
        std::thread::sleep(cost);
        index as u64
    });
    let loader = Loader::builder(source).batch_size(batch_size).workers(workers).build().unwrap();
    drain(&loader, 0);
    let (mut to_ideal, mut to_bare, mut switches, mut bare_switches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats() {
        let (bare, bare_switched) = bare(workers, len, cost);
        let before = voluntary_switches();
        let start = Instant::now();
        drain(&loader, 0);
        let took = start.elapsed().as_secs_f64();
        to_ideal.push(ideal / took);
        to_bare.push(bare / took);
        switches.push(voluntary_switches().saturating_sub(before) as f64 / len as f64);
        bare_switches.push(bare_switched as f64 / len as f64);
    }
    let of = |values: Vec<f64>| Spread::of(values);
    let (to_ideal, to_bare) = (of(to_ideal), of(to_bare));
    let spread = |Spread { low, median, high }| format!("{median:.3} ({low:.3} to {high:.3})");
    println!(
        "{workers:>8} {:>8} {batch_size:>6} {:>10} {:>22} {:>24} {:>12.3} {:>12.3}",
        format!("{cost:?}"),
        common::with_prefix(len as f64 / ideal * to_ideal.median),
        spread(to_ideal),
        spread(to_bare),
        of(switches).median,
        of(bare_switches).median,
    );
    print_counts(&loader, len, batch_size);
}

/// Threads that take one sample after the other and sleep, with nobody waiting: the seconds from when they all were there,
/// and their voluntary context switches.
fn bare(workers: usize, len: usize, cost: Duration) -> (f64, u64) {
    let (next, switches) = (AtomicUsize::new(0), AtomicU64::new(0));
    let (begin, end) = (Barrier::new(workers + 1), Barrier::new(workers + 1));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            // A sample at a time needs no stack to speak of.
            let work = || {
                begin.wait();
                let before = switches_of("/proc/thread-self/status");
                while next.fetch_add(1, Ordering::Relaxed) < len {
                    std::thread::sleep(cost);
                    black_box(());
                }
                let after = switches_of("/proc/thread-self/status");
                switches.fetch_add(after.saturating_sub(before), Ordering::Relaxed);
                end.wait();
            };
            std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, work).unwrap();
        }
        begin.wait();
        let start = Instant::now();
        end.wait();
        (start.elapsed().as_secs_f64(), switches.load(Ordering::Relaxed))
    })
}

/// How often a thread went to sleep; 0 where the system does not tell.
fn switches_of(status: impl AsRef<std::path::Path>) -> u64 {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The same of all threads of this process.
fn voluntary_switches() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| switches_of(task.path().join("status"))).sum()
}

#[cfg(not(procession_counting))]
fn print_counts(_: &Loader<ndarray::Array1<u64>>, _: usize, _: usize) {}

/// What one epoch does with what threads share.
#[cfg(procession_counting)]
fn print_counts(loader: &Loader<ndarray::Array1<u64>>, len: usize, batch_size: usize) {
    use std::collections::BTreeMap;

    use procession::counting::{self, Operation};

    counting::reset();
    drain(loader, 0);
    let counts = counting::counts();
    let (samples, batches) = (len as f64, len.div_ceil(batch_size) as f64);
    let mut sums = BTreeMap::<Operation, (u64, u64, Duration)>::new();
    for count in &counts {
        let sum = sums.entry(count.operation).or_default();
        *sum = (sum.0 + count.times, sum.1 + count.contended, sum.2 + count.waited);
    }
    let print = |what: &str, times: u64, contended: u64, waited: Duration| {
        println!(
            "    {what:<44} {times:>9} times, {:>8.3} a sample, {:>9.2} a batch; contended {:>7.4} a sample; waited {:.1} us a batch",
            times as f64 / samples,
            times as f64 / batches,
            contended as f64 / samples,
            waited.as_secs_f64() * 1e6 / batches,
        );
    };
    for (operation, &(times, contended, waited)) in &sums {
        print(&format!("{operation:?}"), times, contended, waited);
    }
    let mut places: Vec<_> = counts.iter().filter(|count| count.times as f64 > 0.01 * batches).collect();
    places.sort_by_key(|count| std::cmp::Reverse((count.contended, count.times)));
    println!("    by place, the most contended first:");
    for count in places.into_iter().take(16) {
        let what = format!("{:?} {}:{}", count.operation, count.place.0.trim_start_matches("src/"), count.place.1);
        print(&what, count.times, count.contended, count.waited);
    }
}
