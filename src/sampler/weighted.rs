use super::{ORDER, Sampler, check_position};
use crate::rng::{Mixer, fingerprint, widening_mul};
use crate::{Error, Result};

const WEIGHTED: u64 = u64::from_le_bytes(*b"weighted");

/// Draws with replacement, each index with a probability proportional to its weight.
///
/// An index may come several times in an epoch, or not at all. An index of weight 0 never comes.
///
/// The draws are by Walker's alias method with a table made as in Vose, *A Linear Algorithm for Generating Random Numbers
/// with a Given Distribution* (1991, <https://www.keithschwarz.com/darts-dice-coins/> explains it): one draw of a column
/// and one of a side, whatever the number of weights. Probabilities are exact to about 2^-52 of the mean weight, for any
/// number of weights up to 2^32.
///
/// # Determinism
///
/// The index is a function of weights, seed, epoch and position. More draws begin with the same ones.
///
/// # Cost
///
/// 12 bytes a weight.
///
/// # Examples
///
/// ```
/// use procession::{Sampler, Weighted};
///
/// let sampler = Weighted::new(&[0.0, 1.0, 3.0], 1000, 7)?;
/// let threes = (0..1000).filter(|&position| sampler.index(0, position) == 2).count();
/// assert!((650..850).contains(&threes));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Weighted {
    /// Column `i` gives `i` to this share of 2^64, and the rest to `aliases[i]`.
    shares: Vec<u64>,
    aliases: Vec<u32>,
    draws: u64,
    seed: u64,
    fingerprint: u64,
    keys: Mixer,
}

impl Weighted {
    /// Makes a sampler with `draws` positions an epoch.
    ///
    /// # Errors
    ///
    /// If there is no weight or more than 2^32, if a weight is negative, infinite or not a number (the error names the
    /// first one), or if all are 0.
    pub fn new(weights: &[f64], draws: u64, seed: u64) -> Result<Self> {
        check(weights)?;
        let (shares, aliases) = alias_table(weights);
        Ok(Self {
            shares,
            aliases,
            draws,
            seed,
            // A negative zero is a zero.
            fingerprint: fingerprint(weights.iter().map(|weight| (weight + 0.0).to_bits())),
            keys: Mixer::new(ORDER, WEIGHTED).with(seed),
        })
    }

    #[inline]
    fn draw(&self, keys: Mixer, position: u64) -> u64 {
        let [column, side, ..] = keys.with(position).key().0;
        let column = widening_mul(column, self.shares.len() as u64).0 as usize;
        if side < self.shares[column] { column as u64 } else { u64::from(self.aliases[column]) }
    }
}

fn check(weights: &[f64]) -> Result<()> {
    if weights.is_empty() {
        return Err(Error::argument("no weights: at least one is needed"));
    }
    if weights.len() as u64 > 1 << 32 {
        return Err(Error::argument(format!("{} weights: at most 2^32 are supported", weights.len())));
    }
    if let Some((index, weight)) =
        weights.iter().enumerate().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0))
    {
        let message = format!("weight {weight}: weights must be finite and not negative");
        return Err(Error::argument(message).with_index(index as u64));
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        return Err(Error::argument(format!("all {} weights are 0: at least one must be positive", weights.len())));
    }
    Ok(())
}

fn alias_table(weights: &[f64]) -> (Vec<u64>, Vec<u32>) {
    // Dividing by the largest first keeps the sum from overflowing.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let sum: f64 = compensated_sum(weights.iter().map(|weight| weight / largest));
    let scale = weights.len() as f64 / sum;
    // What a column still has to give away; 1 is a full column.
    let mut load: Vec<f64> = weights.iter().map(|weight| weight / largest * scale).collect();
    let mut shares = vec![u64::MAX; weights.len()];
    let mut aliases: Vec<u32> = (0..weights.len()).map(|index| index as u32).collect();
    let (mut light, mut heavy): (Vec<u32>, Vec<u32>) = aliases.iter().partition(|&&index| load[index as usize] < 1.0);
    while let (Some(&small), Some(&large)) = (light.last(), heavy.last()) {
        light.pop();
        shares[small as usize] = share(load[small as usize]);
        aliases[small as usize] = large;
        load[large as usize] -= 1.0 - load[small as usize];
        if load[large as usize] < 1.0 {
            heavy.pop();
            light.push(large);
        }
    }
    // What remains is full up to rounding and keeps its whole column. An index of weight 0 cannot remain: it would take
    // rounding errors that add up to a whole column.
    (shares, aliases)
}

/// A probability below 1 as a share of 2^64; the conversion saturates.
fn share(probability: f64) -> u64 {
    (probability * 18_446_744_073_709_551_616.0) as u64
}

/// Neumaier's sum: its error does not grow with the number of terms.
fn compensated_sum(terms: impl Iterator<Item = f64>) -> f64 {
    let (sum, lost) = terms.fold((0.0_f64, 0.0_f64), |(sum, lost), term| {
        let next = sum + term;
        let rounded_off = if sum >= term { (sum - next) + term } else { (term - next) + sum };
        (next, lost + rounded_off)
    });
    sum + lost
}

impl Sampler for Weighted {
    fn len(&self) -> u64 {
        self.draws
    }

    fn bound(&self) -> u64 {
        self.shares.len() as u64
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        check_position(self.draws, position);
        self.draw(self.keys.with(epoch), position)
    }

    fn fill(&self, epoch: u64, first: u64, step: u64, out: &mut [u64]) {
        super::check_run(self.draws, first, step, out.len());
        let keys = self.keys.with(epoch);
        for (slot, position) in out.iter_mut().zip(super::positions(first, step)) {
            *slot = self.draw(keys, position);
        }
    }

    fn describe(&self) -> String {
        let Self { draws, seed, fingerprint, .. } = self;
        format!("weighted(draws={draws}, num_weights={}, weights={fingerprint:016x}, seed={seed})", self.shares.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Visit};

    /// The probability of each index that a table gives, exactly.
    fn probabilities(sampler: &Weighted) -> Vec<f64> {
        let mut out = vec![0.0; sampler.shares.len()];
        for (column, (&share, &alias)) in sampler.shares.iter().zip(&sampler.aliases).enumerate() {
            let share = share as f64 / 2.0_f64.powi(64);
            out[column] += share;
            out[alias as usize] += 1.0 - share;
        }
        let columns = out.len() as f64;
        out.iter_mut().for_each(|probability| *probability /= columns);
        out
    }

    fn check_table(weights: &[f64]) {
        let sampler = Weighted::new(weights, 1, 0).unwrap();
        let largest = weights.iter().copied().fold(0.0, f64::max);
        let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
        for (probability, weight) in probabilities(&sampler).into_iter().zip(weights) {
            let expected = weight / largest / sum;
            assert!((probability - expected).abs() < 1e-12 / weights.len() as f64 + 1e-13 * expected, "{weights:?}");
            assert!(*weight > 0.0 || probability == 0.0, "an index of weight 0 gets {probability}");
        }
    }

    #[test]
    fn tables_have_the_weights_in_them() {
        check_table(&[1.0]);
        check_table(&[0.0, 5.0]);
        check_table(&[0.1; 10]);
        check_table(&[1e308, 1e308, 1e308]);
        check_table(&[1e-308, 3e-308, 0.0]);
        check_table(&[1e-300, 1.0, 1e300]);
        check_table(&(0..1000).map(|n| f64::from(n % 17)).collect::<Vec<_>>());
        check_table(&(0..1000).map(|n| 0.9_f64.powi(n)).collect::<Vec<_>>());
        for seed in 0..2000 {
            let mut rng = Visit::new(seed, 0, 0, 0).rng(0);
            let len = 2 + rng.below(20);
            let mut weights: Vec<f64> = (0..len).map(|_| rng.uniform() * rng.below(2) as f64).collect();
            weights[0] = 0.1;
            check_table(&weights);
        }
    }

    #[test]
    fn a_million_draws() {
        let weights: Vec<f64> = (0..100).map(|n| f64::from(n * n % 37)).collect();
        let draws = 1_000_000;
        let sampler = Weighted::new(&weights, draws, 3).unwrap();
        let mut out = vec![0; draws as usize];
        sampler.fill(0, 0, 1, &mut out);
        let mut counts = [0.0; 100];
        out.into_iter().for_each(|index| counts[index as usize] += 1.0);
        let sum: f64 = weights.iter().sum();
        let mut freedom = -1.0;
        let mut chi_square = 0.0;
        for (count, weight) in counts.into_iter().zip(weights) {
            if weight == 0.0 {
                assert_eq!(count, 0.0, "an index of weight 0 was drawn");
                continue;
            }
            let expected = weight / sum * draws as f64;
            chi_square += (count - expected) * (count - expected) / expected;
            freedom += 1.0;
        }
        // Mean `freedom` and standard deviation sqrt(2 freedom); six of them.
        assert!(chi_square < freedom + 6.0 * (2.0_f64 * freedom).sqrt(), "{chi_square} for {freedom}");
    }

    #[test]
    fn more_weights_than_a_float_can_count() {
        let num_weights = (1 << 24) + 1000;
        let mut weights = vec![0.0; num_weights];
        weights[num_weights - 1] = 1.0;
        weights[num_weights - 2] = 3.0;
        let sampler = Weighted::new(&weights, 4000, 1).unwrap();
        let mut out = vec![0; 4000];
        sampler.fill(0, 0, 1, &mut out);
        let last = out.iter().filter(|&&index| index == num_weights as u64 - 1).count();
        assert!(out.iter().all(|&index| index >= num_weights as u64 - 2));
        // 1,000 expected, standard deviation 27; six of them.
        assert!(last.abs_diff(1000) < 165, "{last}");
    }

    #[test]
    fn first_values_are_pinned() {
        let sampler = Weighted::new(&[1.0, 2.0, 3.0, 4.0], 10, 7).unwrap();
        let mut out = [0; 10];
        sampler.fill(0, 0, 1, &mut out);
        assert_eq!(out, [0, 2, 3, 0, 1, 2, 3, 3, 3, 3]);
        assert_eq!(sampler.describe(), "weighted(draws=10, num_weights=4, weights=ed567a062fd3b231, seed=7)");
    }

    #[test]
    fn a_sum_loses_nothing_of_small_terms() {
        assert_eq!(compensated_sum([1.0, 1e100, 1.0, -1e100].into_iter()), 2.0);
        assert_eq!(compensated_sum([1e16, 1.0, 1.0].into_iter()), 1e16 + 2.0);
        assert_eq!(compensated_sum([1.0, 1e16, 1.0].into_iter()), 1e16 + 2.0);
    }

    #[test]
    fn weights_that_are_none() {
        let message = |weights: &[f64]| {
            let error = Weighted::new(weights, 1, 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            error.to_string()
        };
        assert_eq!(message(&[]), "no weights: at least one is needed");
        assert_eq!(message(&[0.0, 0.0]), "all 2 weights are 0: at least one must be positive");
        assert_eq!(message(&[1.0, -2.5, f64::NAN]), "weight -2.5: weights must be finite and not negative (index 1)");
        assert_eq!(message(&[f64::NAN]), "weight NaN: weights must be finite and not negative (index 0)");
        assert_eq!(message(&[1.0, f64::INFINITY]), "weight inf: weights must be finite and not negative (index 1)");
        assert_eq!(
            Weighted::new(&[-0.0, 1.0], 1, 0).unwrap().describe(),
            Weighted::new(&[0.0, 1.0], 1, 0).unwrap().describe()
        );
    }
}
