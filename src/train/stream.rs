//! Streams of random numbers for initial weights and dropout masks.
//!
//! A stream follows from a seed and the words that say what it is for (purpose, layer, step), by the same hash and the
//! same generator as the loader's streams. Integers and exactly rounded operations only: the numbers are the same on
//! every platform.

use crate::rng::{Mixer, VisitRng, fingerprint};

/// The domain of the trainer's keys.
const TRAIN: u64 = u64::from_le_bytes(*b"train\0\0\0");

/// What a stream is for: the first word after the seed.
pub(super) mod purpose {
    /// Initial weights.
    pub(in crate::train) const INITIALISE: u64 = 1;
    /// What a layer draws in a training step.
    pub(in crate::train) const STEP: u64 = 2;
    /// Inputs that a gradient check makes up.
    pub(in crate::train) const CHECK: u64 = 3;
}

/// The standard deviation of a standard normal cut off at two: a cut-off normal has to be divided by it to keep its
/// variance.
const STD_WITHIN_TWO: f64 = 0.879_625_661_034_239_8;

/// A stream of random numbers that belongs to one use.
///
/// It is not for cryptography.
#[derive(Debug, Clone)]
pub struct Stream(VisitRng);

/// The stream for a seed and the words that say what it is for.
pub(super) fn stream(seed: u64, words: &[u64]) -> Stream {
    let key = words.iter().fold(Mixer::new(TRAIN, 0).with(seed), |mixer, &word| mixer.with(word)).key();
    Stream(VisitRng::from_key(key))
}

/// A name as a word for [`stream`].
pub(super) fn word(name: &str) -> u64 {
    fingerprint(name.bytes().map(u64::from))
}

/// The name of a layer inside another layer, whose word is `outer`, as a word for [`stream`].
pub(super) fn word_within(outer: u64, name: &str) -> u64 {
    fingerprint([outer, word(name)])
}

impl Stream {
    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The next number in `[0, 1)`, a multiple of 2^-24.
    #[inline]
    pub fn uniform_f32(&mut self) -> f32 {
        self.0.uniform_f32()
    }

    /// The next number of a normal distribution of mean 0 and variance 1 that is cut off at two standard deviations
    /// (and stretched so that the variance is 1 after the cut), as Keras's normal initialisers draw it.
    pub fn truncated_normal(&mut self) -> f32 {
        loop {
            let x = 4.0 * self.0.uniform() - 2.0;
            if self.0.uniform() < exp_minus(0.5 * x * x) {
                return (x / STD_WITHIN_TWO) as f32;
            }
        }
    }
}

/// exp(-t) for t in `[0, 2]`, to 1e-12, from sums and products only: the platform's `exp` may differ in the last bit,
/// and initial weights must not.
fn exp_minus(t: f64) -> f64 {
    let t = -t / 8.0;
    let series = (1..=10).rev().fold(1.0, |sum, n| 1.0 + sum * t / f64::from(n));
    let squared = series * series;
    let fourth = squared * squared;
    fourth * fourth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_words_are_not_added() {
        let first = |seed, words: &[u64]| stream(seed, words).next_u64();
        assert_ne!(first(0, &[1]), first(1, &[0]));
        assert_ne!(first(0, &[1, 2]), first(0, &[2, 1]));
        assert_ne!(first(0, &[0]), first(0, &[0, 0]));
        assert_ne!(word("ab"), word("ba"));
        assert_eq!(first(3, &[4, 5]), first(3, &[4, 5]));
    }

    #[test]
    fn numbers_stay_in_range_and_have_their_moments() {
        let mut stream = stream(7, &[]);
        let n = 100_000;
        let (mut uniform, mut normal, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let u = stream.uniform_f32();
            assert!((0.0..1.0).contains(&u));
            uniform += f64::from(u);
            let x = stream.truncated_normal();
            assert!(x.abs() <= 2.274);
            normal += f64::from(x);
            square += f64::from(x * x);
        }
        // Five standard errors: 1 / sqrt(12 n) = 0.0009 for the mean of the uniform, 0.0032 for that of the normal,
        // and less than sqrt(2 / n) = 0.0045 for its square.
        let n = f64::from(n);
        assert!((uniform / n - 0.5).abs() < 0.0046);
        assert!((normal / n).abs() < 0.016);
        assert!((square / n - 1.0).abs() < 0.023);
    }

    #[test]
    fn the_exponential_is_right() {
        for i in 0..=20 {
            let t = f64::from(i) / 10.0;
            assert!((exp_minus(t) - (-t).exp()).abs() < 1e-12, "{t}");
        }
    }
}
