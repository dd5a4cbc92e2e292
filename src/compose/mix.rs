//! Several sequences interleaved in exact proportions.
//!
//! Source: R. Tijdeman, *The chairman assignment problem*, Discrete Mathematics 32 (1980), 323-330. With `k` sources
//! and shares `s_i` that sum to 1, his assignment keeps the number of samples taken from source `i` among the first `n`
//! within `1 - 1 / (2k - 2)` of `n * s_i`, for every `n`, and no assignment does better for all shares. The shares are
//! rational here, so that the assignment repeats after one period, which is computed once and looked up ever after.

use std::path::PathBuf;

use crate::batch::stack::{Row, Stack};
use crate::error::{Error, Result};
use crate::sequence::{Sequence, check_index};

/// The period that weights are rounded to when no shorter one fits them.
const MAX_PERIOD: usize = 1 << 16;
/// How far, in samples of a period, weights may be from whole numbers and count as such: far above the rounding of a
/// quotient of `f64`, far below what weights that were not meant as small ratios come near to by chance.
const TOLERANCE: f64 = 1e-9;

/// Several sequences interleaved in exact proportions; made by [`mix`].
#[derive(Debug, Clone)]
pub struct Mix<S> {
    sources: Vec<S>,
    // How many samples of each source a period has. Invariant: all are at least 1, and they sum to `turns.len()`.
    shares: Vec<usize>,
    // Whose turn it is at each place of a period.
    turns: Vec<Turn>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    source: u32,
    // How many turns the source has had before in this period.
    before: u32,
}

/// Interleaves sequences in proportion to their weights, each in its own order from its first sample on.
///
/// Among the first `n` samples, for every `n`, the number of those from a sequence differs from its share of `n` by
/// less than one. The mix ends before the first sample that a sequence no longer has: its length is the largest at
/// which no sequence runs out. Nothing is random here; shuffle each sequence, or the mix.
///
/// Weights are taken as they are if they are in the ratio of whole numbers that sum to at most 65,536; else they are
/// rounded to the nearest such ratio, but to no less than 1, and the law above holds for the rounded ones.
///
/// # Cost
///
/// Up to 512 KiB for the order of a period; a `get` looks up one place in it.
///
/// # Errors
///
/// If there is no sequence or there are more than 65,536, or a weight is zero, negative or not finite: an error of kind
/// [`Argument`](crate::ErrorKind::Argument).
///
/// # Examples
///
/// ```
/// use procession::{Sequence, mix};
///
/// let mixed = mix([(vec![0, 2, 4, 6, 8], 0.75), (vec![1, 3, 5, 7, 9], 0.25)])?;
/// let samples: Vec<i32> = (0..mixed.len()).map(|index| mixed.get(index)).collect::<Result<_, _>>()?;
/// assert_eq!(samples, [0, 2, 1, 4, 6, 8, 3]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn mix<S: Sequence>(sources: impl IntoIterator<Item = (S, f64)>) -> Result<Mix<S>> {
    let (sources, weights): (Vec<S>, Vec<f64>) = sources.into_iter().unzip();
    if sources.is_empty() || sources.len() > MAX_PERIOD {
        return Err(Error::argument(format!("a mix of {} sequences, expected 1 to {MAX_PERIOD}", sources.len())));
    }
    if let Some((at, weight)) = weights.iter().enumerate().find(|(_, weight)| !(weight.is_finite() && **weight > 0.0)) {
        return Err(Error::argument(format!("weight {weight} of sequence {at} of a mix, expected more than 0")));
    }
    let shares = whole_shares(&weights);
    let turns = chairmen(&shares);
    let len = (0..sources.len()).map(|source| end(&turns, source, shares[source], sources[source].len())).min();
    Ok(Mix { len: len.expect("there is a source"), sources, shares, turns })
}

/// The weights as whole numbers, exact if the period is short enough.
fn whole_shares(weights: &[f64]) -> Vec<usize> {
    // Scaled first, so that the sum of huge weights is finite.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
    let parts: Vec<f64> = weights.iter().map(|weight| weight / largest / sum).collect();
    let is_whole = |share: f64| share >= 0.5 && (share - share.round()).abs() <= TOLERANCE * share.max(1.0);
    let period = (parts.len()..=MAX_PERIOD).find(|&period| parts.iter().all(|part| is_whole(part * period as f64)));
    if let Some(period) = period {
        return parts.iter().map(|part| (part * period as f64).round() as usize).collect();
    }
    // The largest remainders get what rounding down leaves over; a share of nothing becomes a share of one, at the
    // expense of the largest.
    let exact = parts.iter().map(|part| part * MAX_PERIOD as f64);
    let mut shares: Vec<usize> = exact.clone().map(|share| (share as usize).max(1)).collect();
    let mut order: Vec<(usize, f64)> = exact.map(|share| share - share.floor()).enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: usize = shares.iter().sum();
    for turn in 0..MAX_PERIOD.saturating_sub(total) {
        shares[order[turn % order.len()].0] += 1;
    }
    for _ in MAX_PERIOD..total {
        let largest = (0..shares.len()).max_by_key(|&source| shares[source]).expect("there is a source");
        shares[largest] -= 1;
    }
    shares
}

/// One period of Tijdeman's assignment, in whole numbers.
///
/// With `q = 2k - 2`, `x` the turns that a source has had before turn `n` (counted from 1) and `s / p` its share, it is
/// eligible if `n * s / p - x >= 1 / q`, and of the eligible ones that turn goes to the one with the earliest deadline
/// `(1 - 1 / q + x) / (s / p)`. A source's next turn thus has a time from which it may be taken, and one until which it
/// must be.
fn chairmen(shares: &[usize]) -> Vec<Turn> {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    let period = shares.iter().sum::<usize>() as u64;
    // One source alone has every turn.
    let q = 2 * (shares.len().max(2) as u64) - 2;
    // Both times of turn `x` of a source, multiplied by `q * s`; times of different sources are compared crosswise.
    // All factors are at most 2^17, so that products of three fit in 64 bits.
    let release = |share: u64, x: u64| ((1 + q * x) * period).div_ceil(q * share);
    let mut waiting: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut eligible: BinaryHeap<Reverse<(Deadline, usize)>> = BinaryHeap::new();
    let mut taken = vec![0_u32; shares.len()];
    for (source, &share) in shares.iter().enumerate() {
        waiting.push(Reverse((release(share as u64, 0), source)));
    }
    let mut turns = Vec::with_capacity(period as usize);
    for n in 1..=period {
        while let Some(&Reverse((at, source))) = waiting.peek().filter(|next| next.0.0 <= n) {
            debug_assert!(at <= n);
            waiting.pop();
            let deadline = Deadline { over: q - 1 + q * u64::from(taken[source]), share: shares[source] as u64 };
            eligible.push(Reverse((deadline, source)));
        }
        let Reverse((_, source)) = eligible.pop().expect("Tijdeman: a source is eligible at every turn");
        turns.push(Turn { source: source as u32, before: taken[source] });
        taken[source] += 1;
        waiting.push(Reverse((release(shares[source] as u64, u64::from(taken[source])), source)));
    }
    debug_assert!(taken.iter().zip(shares).all(|(&taken, &share)| taken as usize == share));
    turns
}

/// The deadline `over / share`, up to a factor that is the same for all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deadline {
    over: u64,
    share: u64,
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // `over` is below 2^34 and `share` at most 2^16.
        (self.over * other.share).cmp(&(other.over * self.share))
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Where a source with `len` samples would be asked for one more.
fn end(turns: &[Turn], source: usize, share: usize, len: usize) -> usize {
    let before = len % share;
    let place = turns.iter().position(|turn| turn.source as usize == source && turn.before as usize == before);
    let place = place.expect("a source has as many turns as its share says");
    // A mix longer than all indices ends with them.
    (len / share).saturating_mul(turns.len()).saturating_add(place)
}

impl<S: Sequence> Mix<S> {
    /// The sequence that a sample comes from, by its place among those given, and the sample's index there.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the length.
    pub fn source_of(&self, index: usize) -> (usize, usize) {
        check_index(index, self.len);
        let turn = self.turns[index % self.turns.len()];
        let source = turn.source as usize;
        (source, index / self.turns.len() * self.shares[source] + turn.before as usize)
    }

    fn find(&self, index: usize) -> (&S, usize) {
        let (source, index) = self.source_of(index);
        (&self.sources[source], index)
    }
}

impl<S: Sequence> Sequence for Mix<S> {
    type Sample = S::Sample;

    fn len(&self) -> usize {
        self.len
    }
    #[inline]
    fn get(&self, index: usize) -> Result<Self::Sample> {
        let (source, index) = self.find(index);
        source.get(index)
    }
    /// The layout of the sequences, if it is the same.
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        let layout = self.sources[0].layout()?;
        self.sources.iter().all(|source| source.layout().as_ref() == Some(&layout)).then_some(layout)
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        let (source, index) = self.find(index);
        source.get_into(index, row)
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let (source, index) = self.find(index);
        source.size_bytes(index)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        let (source, index) = self.find(index);
        source.file(index)
    }
    fn barrier(&self) -> bool {
        self.sources.iter().any(Sequence::barrier)
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.sources.iter().try_for_each(|source| source.on_epoch_start(epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::from_fn;
    use crate::testing::{Told, check_rows, samples};
    use proptest::prelude::*;

    fn evens_and_odds(weights: [f64; 2]) -> Result<Vec<i32>> {
        Ok(samples(&mix([(vec![0, 2, 4, 6, 8], weights[0]), (vec![1, 3, 5, 7, 9], weights[1])])?))
    }

    #[test]
    fn a_mix_keeps_the_contract_and_what_is_known() {
        let mixed = mix([(Told::new(9), 2.0), (Told::new(9), 1.0)]).unwrap();
        check_rows(&mixed);
        assert_eq!(mixed.layout(), Some(()));
        let (source, at) = mixed.source_of(5);
        assert!(source < 2);
        Told::assert_known(&mixed, 5, at);
        assert_eq!(mixed.size_bytes(5), Told::new(9).size_bytes(at));
        assert_eq!(mix([(vec![vec![1_u8]], 1.0), (vec![vec![1, 2]], 1.0)]).unwrap().layout(), None);
    }

    #[test]
    fn evens_and_odds_come_in_proportion() {
        assert_eq!(evens_and_odds([0.75, 0.25]).unwrap(), [0, 2, 1, 4, 6, 8, 3]);
        assert_eq!(evens_and_odds([1.0, 2.0]).unwrap(), [1, 0, 3, 5, 2, 7, 9, 4]);
        assert_eq!(evens_and_odds([7.0, 7.0]).unwrap().len(), 10);
    }

    #[test]
    fn weights_that_are_no_weights_are_refused() {
        for weights in [[0.0, 1.0], [1.0, -1.0], [f64::NAN, 1.0], [1.0, f64::INFINITY]] {
            assert!(evens_and_odds(weights).is_err(), "{weights:?}");
        }
        assert_eq!(
            evens_and_odds([0.0, 1.0]).unwrap_err().to_string(),
            "weight 0 of sequence 0 of a mix, expected more than 0"
        );
        assert!(mix::<Vec<u8>>([]).is_err());
    }

    #[test]
    fn ratios_of_whole_numbers_are_exact() {
        for (weights, shares) in [
            (vec![0.75, 0.25], vec![3, 1]),
            (vec![0.1, 0.2, 0.7], vec![1, 2, 7]),
            (vec![1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], vec![1, 1, 1]),
            (vec![30_000.0, 20_001.0], vec![10_000, 6_667]),
            (vec![1e308, 1e308], vec![1, 1]),
            (vec![5e-324, 1e-323], vec![1, 2]),
            (vec![42.0], vec![1]),
        ] {
            assert_eq!(whole_shares(&weights), shares, "{weights:?}");
        }
    }

    #[test]
    fn other_ratios_are_rounded() {
        let shares = whole_shares(&[std::f64::consts::PI, std::f64::consts::E, 1.0]);
        assert_eq!(shares.iter().sum::<usize>(), MAX_PERIOD);
        assert_eq!(
            shares[0],
            (std::f64::consts::PI / (1.0 + std::f64::consts::PI + std::f64::consts::E) * 65_536.0).round() as usize
        );
        assert_eq!(whole_shares(&[1.0, 1e-300]), [65_535, 1]);
        let many: Vec<f64> = (0..MAX_PERIOD).map(|i| 1.0 + i as f64 * 1e-7).collect();
        assert_eq!(whole_shares(&many), vec![1; MAX_PERIOD]);
    }

    #[test]
    fn a_mix_ends_before_a_source_runs_out() {
        for (lens, weights) in
            [([0, 9], [1.0, 1.0]), ([5, 5], [1.0, 2.0]), ([100, 1], [1.0, 3.0]), ([7, 1000], [5.0, 2.0])]
        {
            let mixed = mix([(vec![(); lens[0]], weights[0]), (vec![(); lens[1]], weights[1])]).unwrap();
            let mut taken = [0, 0];
            for index in 0..mixed.len() {
                let (source, at) = mixed.source_of(index);
                assert_eq!(at, taken[source], "each source is taken in its own order");
                taken[source] += 1;
            }
            assert!(taken[0] <= lens[0] && taken[1] <= lens[1]);
            let longer = Mix { len: usize::MAX, ..mixed.clone() };
            let (source, at) = longer.source_of(mixed.len());
            assert_eq!(at, lens[source], "one more sample would be one too many");
        }
    }

    #[test]
    fn a_mix_may_be_longer_than_memory() {
        let mixed = mix([1.0, 2.0].map(|weight| (from_fn(usize::MAX, |index| index), weight))).unwrap();
        assert_eq!(mixed.len(), usize::MAX);
        let (source, at) = mixed.source_of(usize::MAX - 1);
        assert_eq!(mixed.get(usize::MAX - 1).unwrap(), at);
        assert!(source < 2);
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_one_of_its_share(shares in prop::collection::vec(1_usize..200, 1..12)) {
            let turns = chairmen(&shares);
            let period: usize = shares.iter().sum();
            prop_assert_eq!(turns.len(), period);
            let mut taken = vec![0_usize; shares.len()];
            for (n, turn) in turns.iter().enumerate() {
                prop_assert_eq!(turn.before as usize, taken[turn.source as usize]);
                taken[turn.source as usize] += 1;
                for (&taken, &share) in taken.iter().zip(&shares) {
                    prop_assert!((taken * period).abs_diff((n + 1) * share) < period);
                }
            }
            prop_assert_eq!(taken, shares);
        }
    }
}
