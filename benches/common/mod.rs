//! What the benchmarks share: interleaved rounds, medians with their spread, ratios, and bars. How to read them is told in
//! `benches/README.md`.
#![allow(dead_code, clippy::print_stdout, reason = "each benchmark uses a part; printing is what they are for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The benchmarks that were asked for by name, or all of them.
pub(crate) fn run(benches: &[(&str, &dyn Fn())]) {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, bench) in benches {
        if chosen.is_empty() || chosen.iter().any(|chosen| name.contains(chosen.as_str())) {
            bench();
        }
    }
}

/// How often each way is run, in turn with the others, so that a slow moment of the machine meets all of them.
pub(crate) fn repeats() -> usize {
    std::env::var("PROCESSION_REPEATS").ok().and_then(|text| text.parse().ok()).unwrap_or(7).max(1)
}

/// The median of some measurements, the lowest, and the highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { low: sorted[0], median: sorted[sorted.len() / 2], high: sorted[sorted.len() - 1] }
    }

    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self::of([self.low, self.median, self.high].map(f))
    }
}

/// The times of several ways of doing a thing, in seconds: for each way one for each round.
pub(crate) struct Times(Vec<Vec<f64>>);

impl Times {
    pub(crate) fn seconds(&self, way: usize) -> Spread {
        Spread::of(self.0[way].iter().copied())
    }

    pub(crate) fn median(&self, way: usize) -> f64 {
        self.seconds(way).median
    }

    /// How fast a way is as a part of another one's speed: round by round, so that a slow moment that met both counts for
    /// neither.
    pub(crate) fn ratio(&self, way: usize, limit: usize) -> Spread {
        Spread::of(self.0[limit].iter().zip(&self.0[way]).map(|(limit, way)| limit / way))
    }
}

/// Runs each way once a round, in turn.
pub(crate) fn race(ways: &mut [(&str, &mut dyn FnMut())]) -> Times {
    let mut times = vec![Vec::new(); ways.len()];
    // One uncounted round first: page faults, caches, and the loader's estimate of costs.
    for round in 0..=repeats() {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let start = Instant::now();
            (way.1)();
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    Times(times)
}

/// A number with a prefix for thousands.
pub(crate) fn with_prefix(number: f64) -> String {
    match number {
        1e9.. => format!("{:.2} G", number / 1e9),
        1e6.. => format!("{:.2} M", number / 1e6),
        1e3.. => format!("{:.2} k", number / 1e3),
        _ => format!("{number:.2} "),
    }
}

/// Prints a row for each way: its rate, its spread, and its ratio to the first way.
pub(crate) fn table(title: &str, unit: &str, amount: f64, ways: &mut [(&str, &mut dyn FnMut())]) -> Times {
    println!("\n{title}");
    let times = race(ways);
    for (way, (name, _)) in ways.iter().enumerate() {
        let (Spread { low, median, high }, ratio) = (times.seconds(way).map(|time| amount / time), times.ratio(way, 0));
        println!(
            "  {name:<50} {:>9}{unit}  ({} to {})  ratio {:.3} ({:.3} to {:.3})",
            with_prefix(median),
            with_prefix(low),
            with_prefix(high),
            ratio.median,
            ratio.low,
            ratio.high,
        );
    }
    times
}

/// Prints what was reached of what must be at least so much.
pub(crate) fn at_least(what: &str, bar: f64, reached: Spread) {
    verdict(what, "at least", bar, reached, reached.median >= bar);
}

/// Prints what was reached of what must be at most so much.
pub(crate) fn at_most(what: &str, bar: f64, reached: Spread) {
    verdict(what, "at most", bar, reached, reached.median <= bar);
}

fn verdict(what: &str, relation: &str, bar: f64, Spread { low, median, high }: Spread, holds: bool) {
    let verdict = if holds { "holds" } else { "MISSED" };
    println!("  bar: {what}: {relation} {bar}; {median:.3} ({low:.3} to {high:.3}): {verdict}");
}

/// Keeps a core busy for a time, by the clock: what the machine does besides does not change the amount of work.
pub(crate) fn spin(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// A fixed amount of arithmetic: about 4 ns a step.
pub(crate) fn arithmetic_of(index: usize, num_steps: usize) -> f32 {
    let mut x = index as f32;
    for step in 0..num_steps {
        x = (x * 0.999 + step as f32).sqrt();
    }
    x
}

/// A fixed amount of arithmetic: about 100 microseconds.
pub(crate) fn arithmetic(index: usize) -> f32 {
    arithmetic_of(index, 25_000)
}

/// Takes every batch of an epoch.
pub(crate) fn drain<B: Send + 'static>(loader: &procession::Loader<B>, epoch: u64) {
    for batch in loader.epoch(epoch) {
        black_box(&*batch.expect("no sample fails"));
    }
}
