//! What memory does a loader take, as the system sees it, and does it grow with the number of workers?
//!
//! `cargo bench --bench memory`. Each setting is measured in a process of its own: the most resident memory (`VmHWM`) less
//! what was resident before the loader was built, beside what the window allows and the batch that the consumer holds.
//! Samples are 1 MiB, of a fixed shape and written in place, or vectors whose size is only known once they are there: of
//! those each worker may have one more than a window in bytes allows. The consumer waits until the window is full before it
//! takes the first batch. Linux only.
//!
//! Where the C library's allocator is glibc's, it keeps what one thread allocated and another freed for the first one, in an
//! arena of its own, and does so for larger and larger blocks as it sees them freed. That is no memory of the loader's, but
//! it is resident. The bars are for an allocator that gives large blocks back at once (`MALLOC_MMAP_THRESHOLD_`); the last
//! column is what it does if nobody tells it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Spread, at_most};
use procession::{Loader, Window, from_fill, from_fn};

const SAMPLE: usize = 1 << 20;
const BATCH: usize = 4;
const BATCHES: usize = 64;
const MIB: f64 = (1 << 20) as f64;
/// Set in the processes that measure: what, and how.
const CHILD: &str = "PROCESSION_MEMORY_CHILD";

/// What a process is to measure.
#[derive(Debug, Clone, Copy)]
struct Setting {
    fixed: bool,
    workers: usize,
    window_batches: Option<usize>,
    window_bytes: Option<u64>,
}

fn main() {
    if let Ok(setting) = std::env::var(CHILD) {
        let numbers: Vec<u64> = setting.split(' ').map(|number| number.parse().unwrap()).collect();
        let some = |number: u64| (number > 0).then_some(number);
        measure(Setting {
            fixed: numbers[0] > 0,
            workers: numbers[1] as usize,
            window_batches: some(numbers[2]).map(|batches| batches as usize),
            window_bytes: some(numbers[3]),
        });
        return;
    }
    println!("samples of 1 MiB, batches of {BATCH}; MiB over what was resident before the loader was built");
    for (fixed, title) in [(true, "of a fixed shape, written in place"), (false, "vectors of a size not known before")]
    {
        for (window, batches, bytes) in
            [("4 batches", Some(4), None), ("8 batches", Some(8), None), ("16 MiB", None, Some(16 << 20))]
        {
            println!("\n{title}, a window of {window}");
            let window_mib = bytes.map_or_else(|| (batches.unwrap() * BATCH) as f64, |bytes: u64| bytes as f64 / MIB);
            for workers in [1, 4, 16, 64] {
                let setting = Setting { fixed, workers, window_batches: batches, window_bytes: bytes };
                let of_rounds = |gives_back| Spread::of((0..3).map(|_| in_a_process(setting, gives_back)));
                let held = BATCH as f64;
                let in_hand = if fixed || bytes.is_none() { 0.0 } else { workers as f64 };
                // Stacks and the accounts of threads.
                let constant = 1.0 + 0.1 * workers as f64;
                let what = format!("{workers:>2} workers, MiB (left to the allocator: {:.1})", of_rounds(false).median);
                at_most(&what, window_mib + held + in_hand + constant, of_rounds(true));
            }
        }
    }
}

fn in_a_process(setting: Setting, gives_back: bool) -> f64 {
    let Setting { fixed, workers, window_batches, window_bytes } = setting;
    let (batches, bytes) = (window_batches.unwrap_or(0), window_bytes.unwrap_or(0));
    let mut child = Command::new(std::env::current_exe().unwrap());
    if gives_back {
        child.env("MALLOC_MMAP_THRESHOLD_", "131072");
    }
    let output = child.env(CHILD, format!("{} {workers} {batches} {bytes}", u8::from(fixed))).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

/// A line of this process's status, in MiB.
fn status(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// Builds a loader, whose builder's type cannot be named, and takes its batches.
macro_rules! measured {
    ($builder:expr, $setting:expr, $loaded:expr) => {{
        let window = match ($setting.window_batches, $setting.window_bytes) {
            (Some(batches), _) => Window::Batches(batches),
            (None, bytes) => Window::Bytes(bytes.unwrap()),
        };
        let before = status("VmRSS:");
        let loader = $builder.batch_size(BATCH).workers($setting.workers).window(window).build().unwrap();
        let allowed =
            $setting.window_batches.map_or_else(|| $setting.window_bytes.unwrap() as usize / SAMPLE, |k| k * BATCH);
        let mut epoch = loader.epoch(0);
        while $loaded.load(Ordering::Relaxed) < allowed {
            std::thread::yield_now();
        }
        epoch.by_ref().for_each(|batch| drop(black_box(batch.unwrap())));
        status("VmHWM:") - before
    }};
}

fn measure(setting: Setting) {
    let loaded = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loaded);
    let grown = if setting.fixed {
        let source = from_fill(BATCHES * BATCH, SAMPLE, move |index, row: &mut [u8]| {
            row.fill(index as u8);
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        measured!(Loader::builder(source), setting, loaded)
    } else {
        let source = from_fn(BATCHES * BATCH, move |index| {
            // Never zero, as zeroed memory is not resident before it is written.
            let sample = vec![index as u8 | 1; SAMPLE];
            counted.fetch_add(1, Ordering::Relaxed);
            sample
        });
        measured!(Loader::builder(source).collate(Ok).measure(|sample: &Vec<u8>| sample.len()), setting, loaded)
    };
    println!("{grown}");
}
