//! What does an index of a shuffled order cost, at any length?
//!
//! `cargo bench --bench sampler`. Medians of nine runs, in nanoseconds an index: `fill` in runs of 256 (the loader's way),
//! `index` call by call, and `index` where each position is the index before, so that no two calls overlap. The baseline
//! is a Fisher-Yates list, made anew for the epoch and read once, where it fits in memory.

#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use procession::{
    BlockShuffle, ClassBalanced, InOrder, LengthBuckets, Sampler, Shuffle, Subset, Visit, Weighted, WindowShuffle,
};

/// Indices a run: long enough that the clock does not matter.
const INDICES: u64 = 1 << 17;
/// Positions a call of `fill`.
const RUN: usize = 256;

fn median_ns(count: u64, mut work: impl FnMut() -> u64) -> f64 {
    let mut runs: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// `fill`, `index`, and `index` one after the other.
fn measure(sampler: &dyn Sampler) -> [f64; 3] {
    let len = sampler.len();
    let mut out = [0; RUN];
    let fill = median_ns(INDICES, || {
        let (mut position, mut done, mut epoch) = (0, 0, 0);
        while done < INDICES {
            let run = (len - position).min(RUN as u64);
            sampler.fill(epoch, position, 1, &mut out[..run as usize]);
            (position, done) = (position + run, done + run);
            if position == len {
                (position, epoch) = (0, epoch + 1);
            }
        }
        out[0]
    });
    let single = median_ns(INDICES, || {
        let mut position = 0;
        (0..INDICES).fold(0, |sum, _| {
            let index = sampler.index(black_box(3), position);
            position = if position + 1 == len { 0 } else { position + 1 };
            sum ^ index
        })
    });
    let chained = median_ns(INDICES, || (0..INDICES).fold(0, |at, _| sampler.index(black_box(3), at.min(len - 1))));
    [fill, single, chained]
}

fn fisher_yates_ns(len: u64) -> f64 {
    let epochs = INDICES.div_ceil(len);
    median_ns(epochs * len, || {
        (0..epochs).fold(0, |sum, epoch| {
            let mut rng = Visit::new(0, epoch, 0, 0).rng(0);
            let mut list: Vec<u64> = (0..len).collect();
            (1..len).rev().for_each(|i| list.swap(i as usize, rng.below(i + 1) as usize));
            list.into_iter().fold(sum, |sum, index| sum ^ index)
        })
    })
}

fn main() {
    println!("{:<44} {:>7} {:>7} {:>8} {:>13}", "ns an index", "fill", "index", "chained", "Fisher-Yates");
    let lengths = [2, 3, 5, 10, 16, 17, 33, 64, 65, 100, 255, 256, 257, 1000, 4095, 4097, 65_536, 65_537, 1_000_000];
    for len in lengths.into_iter().chain([(1 << 24) + 1, (1 << 30) + 1, 1 << 40, (1 << 40) + 1, 1 << 63]) {
        let sampler = Shuffle::new(len, 7);
        let [fill, single, chained] = measure(&sampler);
        let baseline = if len <= 1 << 24 { format!("{:>13.1}", fisher_yates_ns(len)) } else { String::new() };
        println!("{:<44} {fill:>7.1} {single:>7.1} {chained:>8.1} {baseline}", sampler.describe());
    }

    let len = 1_000_000;
    let weights: Vec<f64> = (0..len).map(|n| (n % 100) as f64).collect();
    let labels: Vec<u32> = (0..len as u32).map(|n| n % 1000 / 7).collect();
    let samplers: Vec<Box<dyn Sampler>> = vec![
        Box::new(InOrder::new(len)),
        Box::new(WindowShuffle::new(len, 10, 7)),
        Box::new(WindowShuffle::new(len, 1000, 7)),
        Box::new(BlockShuffle::new(len, 1000, 10, 7)),
        Box::new(BlockShuffle::from_lengths((0..1414).map(|n| n % 1414), 10, 7).expect("fits")),
        Box::new(Subset::shuffled((0..len).collect(), 7)),
        Box::new(Weighted::new(&weights, len, 7).expect("weights are fine")),
        Box::new(ClassBalanced::new(&labels, 7).expect("there are labels")),
        Box::new(LengthBuckets::new((0..len as usize).map(|n| n * 7919 % 1000), 32, 100, 7).expect("fits")),
    ];
    for sampler in samplers {
        let [fill, single, chained] = measure(&*sampler);
        let name = sampler.describe().split_once('(').map_or(String::new(), |(name, _)| name.to_owned());
        println!("{:<44} {fill:>7.1} {single:>7.1} {chained:>8.1}", format!("{name}, {} positions", sampler.len()));
    }

    let first = median_ns(1, || Shuffle::new(black_box(1_000_000_000_000), 7).index(0, 0));
    println!("\nfirst index of 10^12, sampler made anew: {first:.0} ns");
    let rng = median_ns(INDICES, || (0..INDICES).fold(0, |sum, p| sum ^ Visit::new(7, 1, p, p).rng(0).next_u64()));
    println!("a visit's stream and its first number: {rng:.1} ns");
}
