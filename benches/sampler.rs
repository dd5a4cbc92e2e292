//! What does an index of a shuffled order cost, at any length?
//!
//! `cargo bench --bench sampler`. Medians of nine runs, in nanoseconds an index: `fill` in runs of 256 (the loader's way),
//! `index` call by call, and `index` where each position is the index before, so that no two calls overlap. The baseline
//! is a Fisher-Yates list, made anew for the epoch and read once, where it fits in memory. The lengths are powers of two
//! and four and what lies just above them, where the walk is longest.

#![allow(clippy::print_stdout, missing_docs)]
#![allow(unsafe_code, reason = "a global allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{Spread, at_most};

use procession::{
    BlockShuffle, ClassBalanced, InOrder, LengthBuckets, Sampler, Shuffle, Subset, Visit, Weighted, WindowShuffle,
};

/// Indices a run: long enough that the clock does not matter.
const INDICES: u64 = 1 << 17;
/// Positions a call of `fill`.
const RUN: usize = 256;

struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator; the count does not touch memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn spread_ns(count: u64, mut work: impl FnMut() -> u64) -> Spread {
    Spread::of((0..9).map(|_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_nanos() as f64 / count as f64
    }))
}

/// `fill`, `index`, and `index` one after the other.
fn measure(sampler: &dyn Sampler) -> [Spread; 3] {
    let len = sampler.len();
    let mut out = [0; RUN];
    let fill = spread_ns(INDICES, || {
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
    let single = spread_ns(INDICES, || {
        let mut position = 0;
        (0..INDICES).fold(0, |sum, _| {
            let index = sampler.index(black_box(3), position);
            position = if position + 1 == len { 0 } else { position + 1 };
            sum ^ index
        })
    });
    let chained = spread_ns(INDICES, || (0..INDICES).fold(0, |at, _| sampler.index(black_box(3), at.min(len - 1))));
    [fill, single, chained]
}

fn fisher_yates_ns(len: u64) -> Spread {
    let epochs = INDICES.div_ceil(len);
    spread_ns(epochs * len, || {
        (0..epochs).fold(0, |sum, epoch| {
            let mut rng = Visit::new(0, epoch, 0, 0).rng(0);
            let mut list: Vec<u64> = (0..len).collect();
            (1..len).rev().for_each(|i| list.swap(i as usize, rng.below(i + 1) as usize));
            list.into_iter().fold(sum, |sum, index| sum ^ index)
        })
    })
}

fn print(name: &str, [fill, single, chained]: [Spread; 3], baseline: Option<Spread>) {
    let columns: Vec<String> = [Some(fill), Some(single), Some(chained), baseline]
        .into_iter()
        .flatten()
        .map(|Spread { low, median, high }| format!("{median:>8.1} {:<15}", format!("({low:.1} to {high:.1})")))
        .collect();
    println!("{name:<44} {}", columns.join(" "));
}

fn main() {
    println!("{:<44} {:<24} {:<24} {:<24} Fisher-Yates", "ns an index", "    fill", "   index", " chained");
    let lengths = [2, 3, 5, 10, 16, 17, 33, 64, 65, 100, 255, 256, 257, 1000, 4095, 4097, 65_536, 65_537, 1_000_000];
    let mut costs = Vec::new();
    for len in lengths.into_iter().chain([(1 << 24) + 1, (1 << 30) + 1, (1 << 38) + 1, 1 << 40, (1 << 40) + 1, 1 << 63])
    {
        let sampler = Shuffle::new(len, 7);
        let cost = measure(&sampler);
        print(&sampler.describe(), cost, (len <= 1 << 24).then(|| fisher_yates_ns(len)));
        if len <= 1 << 40 {
            costs.push((len, cost));
        }
    }
    for (way, name) in ["fill", "index"].into_iter().enumerate() {
        let worst = costs.iter().max_by(|(_, a), (_, b)| a[way].median.total_cmp(&b[way].median));
        let (len, cost) = worst.expect("there are lengths");
        at_most(&format!("`{name}`, ns an index at the worst length from 2 to 2^40, {len}"), 50.0, cost[way]);
    }
    let first = spread_ns(1, || Shuffle::new(black_box(1_000_000_000_000), 7).index(0, 0));
    at_most("the first index of 10^12, sampler made anew, ms", 1.0, first.map(|ns| ns / 1e6));
    let bytes_for = |len: u64| {
        let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
        let (sampler, mut out) = (Shuffle::new(len, 7), [0; 1]);
        (0..10_000.min(len)).for_each(|position| sampler.fill(0, black_box(position), 1, &mut out));
        (ALLOCATED_BYTES.load(Ordering::Relaxed) - before + size_of_val(&sampler)) as f64
    };
    let (short, long) = (bytes_for(1000), Spread::of([1_000_000, 1_000_000_000_000, 1 << 62].map(bytes_for)));
    at_most("bytes for the order of 10^6, 10^12 and 2^62, and 10,000 of its indices; 1,000 need", short, long);
    println!();

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
        let cost = measure(&*sampler);
        let name = sampler.describe().split_once('(').map_or(String::new(), |(name, _)| name.to_owned());
        print(&format!("{name}, {} positions", sampler.len()), cost, None);
    }
    let rng = spread_ns(INDICES, || (0..INDICES).fold(0, |sum, p| sum ^ Visit::new(7, 1, p, p).rng(0).next_u64()));
    println!("\na visit's stream and its first number: {:.1} ns ({:.1} to {:.1})", rng.median, rng.low, rng.high);
}
