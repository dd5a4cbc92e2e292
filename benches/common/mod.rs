//! What the benchmarks share: interleaved runs, medians, and one line a row.
#![allow(dead_code, clippy::print_stdout, reason = "each benchmark uses a part; printing is what they are for")]

use std::time::{Duration, Instant};

/// How often each way is run, in turn with the others, so that a slow moment of the machine meets all of them.
pub(crate) fn repeats() -> usize {
    std::env::var("PROCESSION_REPEATS").ok().and_then(|text| text.parse().ok()).unwrap_or(7)
}

/// The times of several ways of doing a thing, in seconds: for each way one for each round, sorted.
pub(crate) fn race(ways: &mut [(&str, &mut dyn FnMut())]) -> Vec<Vec<f64>> {
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
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    times
}

pub(crate) fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// Prints a row for each way: its rate, its spread, and its ratio to the first way.
pub(crate) fn table(title: &str, unit: &str, amount: f64, ways: &mut [(&str, &mut dyn FnMut())]) -> Vec<f64> {
    println!("\n{title}");
    let times = race(ways);
    let limit = median(&times[0]);
    for ((name, _), times) in ways.iter().zip(&times) {
        let rate = |time: f64| {
            let rate = amount / time;
            match rate {
                1e9.. => format!("{:.2} G", rate / 1e9),
                1e6.. => format!("{:.2} M", rate / 1e6),
                1e3.. => format!("{:.2} k", rate / 1e3),
                _ => format!("{rate:.2} "),
            }
        };
        let (low, high) = (times[times.len() - 1], times[0]);
        println!(
            "  {name:<44} {:>9}{unit}  ({} to {})  ratio {:.3}",
            rate(median(times)),
            rate(low),
            rate(high),
            limit / median(times)
        );
    }
    times.iter().map(|times| median(times)).collect()
}

/// Keeps a core busy for a time, by the clock: what the machine does besides does not change the amount of work.
pub(crate) fn spin(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// A fixed amount of arithmetic: about 100 microseconds.
pub(crate) fn arithmetic(index: usize) -> f32 {
    let mut x = index as f32;
    for step in 0..25_000 {
        x = (x * 0.999 + step as f32).sqrt();
    }
    x
}
