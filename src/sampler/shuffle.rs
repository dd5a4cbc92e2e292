use super::permutation::Permutation;
use super::{ORDER, Sampler, check_len, check_position, check_run};
use crate::rng::{Key, Mixer};

const SHUFFLE: u64 = u64::from_le_bytes(*b"shuffle\0");

/// Every index exactly once per epoch, in an order that is new in every epoch.
///
/// The order is not stored: a position costs some tens of nanoseconds at any length, some of many that are asked for at once
/// a few, and nothing grows with the length.
/// It is not fit for secrets: a few positions may give the others away.
///
/// # Determinism
///
/// The order is a function of length, seed and epoch, the same on every machine. Up to 64 samples all orders are equally
/// likely; the orders of other lengths, seeds and epochs have nothing to do with each other.
///
/// # Examples
///
/// ```
/// use procession::{Sampler, Shuffle};
///
/// let sampler = Shuffle::new(10, 7);
/// let mut order = [0; 10];
/// sampler.fill(0, 0, 1, &mut order);
/// assert_eq!(order[3], sampler.index(0, 3));
/// order.sort();
/// assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
///
/// // One of 2^60, at once.
/// assert!(Shuffle::new(1 << 60, 7).index(0, 12345) < 1 << 60);
/// ```
#[derive(Debug, Clone)]
pub struct Shuffle {
    permutation: Permutation,
    seed: u64,
    keys: Mixer,
}

impl Shuffle {
    /// Makes a shuffle of `0..len`.
    ///
    /// # Panics
    ///
    /// If `len` is above 2^63.
    pub fn new(len: u64, seed: u64) -> Self {
        check_len(len);
        Self { permutation: Permutation::new(len), seed, keys: Mixer::new(ORDER, SHUFFLE).with(seed).with(len) }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn key(&self, epoch: u64) -> Key {
        self.keys.with(epoch).key()
    }
}

impl Sampler for Shuffle {
    fn len(&self) -> u64 {
        self.permutation.len()
    }

    fn bound(&self) -> u64 {
        self.len()
    }

    #[inline]
    fn index(&self, epoch: u64, position: u64) -> u64 {
        check_position(self.len(), position);
        self.permutation.at(&self.key(epoch), position)
    }

    fn fill(&self, epoch: u64, first: u64, step: u64, out: &mut [u64]) {
        check_run(self.len(), first, step, out.len());
        self.permutation.fill(&self.key(epoch), first, step, out);
    }

    fn describe(&self) -> String {
        format!("shuffle(len={}, seed={})", self.len(), self.seed)
    }

    fn is_permutation(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn order(len: u64, seed: u64, epoch: u64) -> Vec<u64> {
        let mut out = vec![0; len as usize];
        Shuffle::new(len, seed).fill(epoch, 0, 1, &mut out);
        out
    }

    /// By how many standard deviations the chi-square of counts exceeds its mean, for a uniform expectation.
    ///
    /// The tests that use it ask for at most 6. Seeds are fixed, so that a test passes always or never; of all seeds fewer
    /// than one in a million would fail.
    fn excess(counts: &[u32], degrees_of_freedom: usize) -> f64 {
        let expected = counts.iter().map(|&count| f64::from(count)).sum::<f64>() / counts.len() as f64;
        let chi_square: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        (chi_square - degrees_of_freedom as f64) / (2.0 * degrees_of_freedom as f64).sqrt()
    }

    fn assert_bijection(len: u64, seed: u64) {
        let mut seen = vec![false; len as usize];
        for index in order(len, seed, 3) {
            assert!(
                !std::mem::replace(&mut seen[index as usize], true),
                "index {index} twice, length {len}, seed {seed}"
            );
        }
    }

    #[test]
    fn every_index_once_at_the_lengths_where_others_fail() {
        for len in [2, 3, 10, 255, 256, 257, 46_205, 65_535, 65_536, 65_537, 65_538, 262_145, 1_048_577] {
            (0..5).for_each(|seed| assert_bijection(len, seed));
        }
    }

    #[test]
    fn every_index_once_at_every_short_length() {
        (0..=5000).for_each(|len| assert_bijection(len, len % 5));
    }

    #[test]
    fn long_orders() {
        for len in [1_234_567_892, (1 << 40) + 1, 1 << 62, (1 << 63) - 1, 1 << 63] {
            let sampler = Shuffle::new(len, 1);
            let mut out = vec![0; 10_000];
            sampler.fill(0, 0, 1, &mut out);
            assert!(out.iter().all(|&index| index < len));
            assert_eq!(out.iter().collect::<HashSet<_>>().len(), out.len());
            assert!(sampler.index(7, len - 1) < len);
            // The mean of the indices is half of the length with a standard error of 0.0029 of it; six of them.
            let mean = out.iter().map(|&index| index as f64 / len as f64).sum::<f64>() / 10_000.0;
            assert!((mean - 0.5).abs() < 0.0174, "{mean} at length {len}");
        }
    }

    #[test]
    #[should_panic(expected = "9223372036854775809 positions: at most 9223372036854775808")]
    fn longer_than_the_longest() {
        Shuffle::new((1 << 63) + 1, 0);
    }

    #[test]
    fn none_and_one() {
        assert!(Shuffle::new(0, 3).is_empty());
        assert!((0..100).all(|epoch| Shuffle::new(1, 3).index(epoch, 0) == 0));
    }

    #[test]
    fn orders_are_pinned() {
        assert_eq!(order(10, 0, 0), [2, 3, 6, 7, 8, 4, 9, 0, 5, 1]);
        assert_eq!(order(10, 1, 0), [4, 9, 2, 6, 7, 0, 1, 8, 5, 3]);
        assert_eq!(order(10, 0xdead_beef, 5), [9, 8, 1, 0, 2, 7, 3, 4, 5, 6]);
        assert_eq!(order(50, 7, 1)[..10], [19, 3, 37, 28, 10, 18, 33, 23, 49, 9]);
        assert_eq!(order(64, 7, 1)[54..], [51, 34, 53, 57, 62, 12, 30, 17, 47, 22]);
        // Each of many whole orders, as a number.
        let digest = |orders: std::ops::Range<u64>| {
            let indices = orders.flat_map(|seed| order(64, seed, 0));
            indices.fold(0_u64, |digest, index| digest.wrapping_mul(0x0000_0100_0000_01b3) ^ index)
        };
        assert_eq!(digest(0..1000), 14_063_195_839_473_948_910);
        assert_eq!(order(100, 7, 1)[..10], [95, 61, 1, 62, 5, 68, 55, 93, 27, 70]);
        assert_eq!(order(1000, 7, 1)[..10], [282, 781, 967, 817, 163, 456, 892, 138, 725, 886]);
        assert_eq!(order(65_537, 7, 1)[..10], [45934, 56246, 3324, 19884, 23865, 63100, 61341, 1526, 6360, 31269]);
        let mut out = [0; 3];
        Shuffle::new(1_000_000_000_000, 7).fill(1, 0, 333_333_333_333, &mut out);
        assert_eq!(out, [454939712223, 266390371594, 380124668683]);
        Shuffle::new(1 << 63, 7).fill(1, 0, 1 << 61, &mut out);
        assert_eq!(out, [7234599063604338220, 4469637008721485787, 9104876409273932798]);
    }

    #[test]
    fn seeds_and_epochs_are_independent() {
        let mut orders = HashSet::new();
        let mut same_place = 0;
        for seed in 0..32 {
            let mut before = order(1000, seed, 99);
            for epoch in 0..32 {
                let now = order(1000, seed, epoch);
                let beside = order(1000, seed + 1, epoch);
                let along = order(1000, seed + 1, epoch.wrapping_sub(1));
                for other in [&before, &beside, &along] {
                    same_place += now.iter().zip(other).filter(|(a, b)| a == b).count();
                }
                before.clone_from(&now);
                orders.insert(now);
            }
        }
        assert_eq!(orders.len(), 1024);
        // Two independent orders agree at one place on average, with a variance of 1: 3,072 pairs; six deviations.
        assert!(same_place.abs_diff(3072) < 333, "{same_place}");
    }

    #[test]
    fn lengths_are_independent() {
        // Lengths of the same shape of grid. Two independent orders agree at about one place in a thousand.
        let same: usize = (0..100)
            .map(|seed| order(990, seed, 0).iter().zip(order(991, seed, 0)).filter(|(a, b)| **a == *b).count())
            .sum();
        assert!(same.abs_diff(100) < 60, "{same}");
    }

    #[test]
    fn all_orders_of_five_are_equally_likely() {
        let sampler = Shuffle::new(5, 1);
        let mut counts = vec![0; 5_usize.pow(5)];
        for epoch in 0..120_000 {
            let mut order = [0; 5];
            sampler.fill(epoch, 0, 1, &mut order);
            counts[order.iter().fold(0, |number, &index| number * 5 + index as usize)] += 1;
        }
        counts.retain(|&count| count > 0);
        assert_eq!(counts.len(), 120);
        assert!(excess(&counts, 119) < 6.0, "{}", excess(&counts, 119));
    }

    /// The joint distribution of the indices at two positions.
    fn pair_excess(len: u64, first: u64, second: u64, epochs: u64) -> f64 {
        let sampler = Shuffle::new(len, 5);
        let mut counts = vec![0; (len * (len - 1)) as usize];
        for epoch in 0..epochs {
            let (a, b) = (sampler.index(epoch, first), sampler.index(epoch, second));
            counts[(a * (len - 1) + b - u64::from(b > a)) as usize] += 1;
        }
        excess(&counts, counts.len() - 1)
    }

    #[test]
    fn pairs_of_indices_are_uniform() {
        for len in [2, 3, 4, 8, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 66, 81, 100, 257] {
            let width = (len - 1_u64).isqrt() + 1;
            let far = (width + width % 2).min(len - 1);
            for (first, second) in [(0, 1), (0, far), (len - 2, len - 1)] {
                let excess = pair_excess(len, first, second, 40_000);
                assert!(excess < 6.0, "{excess} at length {len}, positions {first} and {second}");
            }
        }
    }

    #[test]
    fn every_index_comes_at_every_position() {
        for len in [20, 64, 65, 100] {
            let mut counts = vec![0; (len * len) as usize];
            for epoch in 0..5_000 {
                for (position, index) in order(len, 9, epoch).into_iter().enumerate() {
                    counts[position * len as usize + index as usize] += 1;
                }
            }
            // Each row and each column adds up to the number of epochs.
            let excess = excess(&counts, ((len - 1) * (len - 1)) as usize);
            assert!(excess < 6.0, "{excess} at length {len}");
        }
    }

    #[test]
    fn neighbours_differ_by_anything() {
        for (len, epochs) in [(64, 2000), (65, 2000), (100, 2000), (1000, 1000), (5000, 200)] {
            let width = (len - 1_u64).isqrt() + 1;
            for distance in [1, (width + width % 2) as usize] {
                let mut counts = vec![0; len as usize - 1];
                for epoch in 0..epochs {
                    let order = order(len, 11, epoch);
                    for (a, b) in order.iter().zip(&order[distance..]) {
                        counts[((b + len - a) % len) as usize - 1] += 1;
                    }
                }
                let excess = excess(&counts, counts.len() - 1);
                assert!(excess < 6.0, "{excess} at length {len}, distance {distance}");
            }
        }
    }

    /// Fixed points, cycles, inversions and ascents, each as the deviation of its mean in standard errors.
    #[test]
    fn whole_orders_look_random() {
        // 169 and 225 are squares of odd numbers, where a grid with two odd sides could give even permutations only.
        for len in [30_u64, 64, 65, 100, 169, 225] {
            let epochs = 3000;
            let (mut fixed, mut cycles, mut odd, mut inversions, mut ascents) = (0, 0, 0, 0, 0);
            for epoch in 0..epochs {
                let order = order(len, 13, epoch);
                let mut seen = vec![false; order.len()];
                let mut own_cycles = 0;
                for start in 0..order.len() {
                    fixed += usize::from(order[start] == start as u64);
                    own_cycles += usize::from(!seen[start]);
                    let mut at = start;
                    while !std::mem::replace(&mut seen[at], true) {
                        at = order[at] as usize;
                    }
                    inversions += order[start..].iter().filter(|&&later| later < order[start]).count();
                }
                ascents += order.windows(2).filter(|pair| pair[0] < pair[1]).count();
                cycles += own_cycles;
                odd += (order.len() - own_cycles) % 2;
            }
            let n = len as f64;
            let harmonic = |power: i32| (1..=len).map(|k| (k as f64).powi(-power)).sum::<f64>();
            for (name, sum, mean, variance) in [
                ("fixed points", fixed, 1.0, 1.0),
                ("cycles", cycles, harmonic(1), harmonic(1) - harmonic(2)),
                ("odd permutations", odd, 0.5, 0.25),
                ("inversions", inversions, n * (n - 1.0) / 4.0, n * (n - 1.0) * (2.0 * n + 5.0) / 72.0),
                ("ascents", ascents, (n - 1.0) / 2.0, (n + 1.0) / 12.0),
            ] {
                let deviation = (sum as f64 / epochs as f64 - mean) / (variance / epochs as f64).sqrt();
                assert!(deviation.abs() < 6.0, "{name} are off by {deviation} standard errors at length {len}");
            }
        }
    }
}
