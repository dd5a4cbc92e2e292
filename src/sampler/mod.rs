//! What stands where: (epoch, position) -> index, as a pure function.
//!
//! The seed is part of the sampler. No sampler keeps a list of the epoch's indices; those that are made from a table
//! (weights, labels, indices, lengths of blocks or of samples) keep that table.

mod balanced;
mod block;
mod in_order;
mod length_buckets;
mod permutation;
mod shuffle;
mod subset;
mod weighted;
mod window;

use std::fmt;
use std::sync::Arc;

pub use balanced::ClassBalanced;
pub use block::BlockShuffle;
pub use in_order::InOrder;
pub use length_buckets::LengthBuckets;
pub use shuffle::Shuffle;
pub use subset::Subset;
pub use weighted::Weighted;
pub use window::WindowShuffle;

/// The domain of the keys of all samplers.
const ORDER: u64 = u64::from_le_bytes(*b"order\0\0\0");

/// The longest order of the samplers that shuffle: 2^63 positions.
const MAX_LEN: u64 = 1 << 63;

/// Which sample stands at a position of an epoch.
///
/// # Contract
///
/// 1. **Constant.** `len`, `bound`, `describe` and `is_permutation` give the same at every call.
/// 2. **Pure.** `index` is a function of the epoch and the position: not of earlier calls, threads, time or machine.
/// 3. **In range.** Every index is below `bound()`.
/// 4. **Total.** `index` returns for every epoch and every position below `len()`, and panics at any other position.
/// 5. **Bulk.** `fill` gives what a loop over `index` gives.
/// 6. **Once.** If `is_permutation()`, every index in `0..len()` stands at exactly one position of every epoch.
/// 7. **Named.** Two samplers with equal descriptions give the same index everywhere.
///
/// # Examples
///
/// Every second sample, then the others:
///
/// ```
/// use procession::Sampler;
///
/// struct EvenFirst(u64);
///
/// impl Sampler for EvenFirst {
///     fn len(&self) -> u64 {
///         self.0
///     }
///     fn bound(&self) -> u64 {
///         self.0
///     }
///     fn index(&self, _epoch: u64, position: u64) -> u64 {
///         assert!(position < self.0, "position {position} of {}", self.0);
///         let even = self.0.div_ceil(2);
///         if position < even { 2 * position } else { 2 * (position - even) + 1 }
///     }
///     fn describe(&self) -> String {
///         format!("even_first(len={})", self.0)
///     }
/// }
///
/// let mut indices = [0; 5];
/// EvenFirst(5).fill(0, 0, 1, &mut indices);
/// assert_eq!(indices, [0, 2, 4, 1, 3]);
/// ```
pub trait Sampler: Send + Sync {
    /// The number of positions in an epoch.
    fn len(&self) -> u64;

    /// Whether an epoch has no position.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number above every index that the sampler gives: the least length of a sequence that it fits.
    fn bound(&self) -> u64;

    /// The index at a position of an epoch.
    ///
    /// # Panics
    ///
    /// If `position` is not below `len()`.
    fn index(&self, epoch: u64, position: u64) -> u64;

    /// Writes the indices at the positions `first`, `first + step`, `first + 2 * step` and so on into `out`.
    ///
    /// The shuffles derive the epoch's key once and work on several positions at a time, which is two to four times
    /// as fast as one call per index.
    ///
    /// # Panics
    ///
    /// If one of the positions is not below `len()`.
    fn fill(&self, epoch: u64, first: u64, step: u64, out: &mut [u64]) {
        check_run(self.len(), first, step, out.len());
        for (slot, position) in out.iter_mut().zip(positions(first, step)) {
            *slot = self.index(epoch, position);
        }
    }

    /// One line that names the sampler and everything that its order depends on, such as `shuffle(len=10, seed=7)`.
    ///
    /// It is what a saved state is compared with: a sampler with another description is refused.
    fn describe(&self) -> String;

    /// Whether every epoch holds every index in `0..len()` exactly once.
    fn is_permutation(&self) -> bool {
        false
    }
}

macro_rules! forward {
    ($($type:ty),*) => {$(
        impl<S: Sampler + ?Sized> Sampler for $type {
            fn len(&self) -> u64 {
                (**self).len()
            }
            fn is_empty(&self) -> bool {
                (**self).is_empty()
            }
            fn bound(&self) -> u64 {
                (**self).bound()
            }
            fn index(&self, epoch: u64, position: u64) -> u64 {
                (**self).index(epoch, position)
            }
            fn fill(&self, epoch: u64, first: u64, step: u64, out: &mut [u64]) {
                (**self).fill(epoch, first, step, out);
            }
            fn describe(&self) -> String {
                (**self).describe()
            }
            fn is_permutation(&self) -> bool {
                (**self).is_permutation()
            }
        }
    )*};
}

forward!(&S, Box<S>, Arc<S>);

impl fmt::Debug for dyn Sampler + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// The positions of a run. The last step may wrap: nobody takes what comes after it.
fn positions(first: u64, step: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(first), move |position| Some(position.wrapping_add(step)))
}

#[inline]
fn check_position(len: u64, position: u64) {
    assert!(position < len, "position {position} out of range: the sampler has {len} positions");
}

/// Panics unless all of the `count` positions `first`, `first + step`, ... are below `len`.
fn check_run(len: u64, first: u64, step: u64, count: usize) {
    let Some(steps) = (count as u64).checked_sub(1) else { return };
    let last = steps.checked_mul(step).and_then(|way| way.checked_add(first)).unwrap_or(u64::MAX);
    check_position(len, last);
}

/// How many of the positions `first`, `first + step`, ... lie before `end`, at most `count`.
fn run_before(end: u64, first: u64, step: u64, count: usize) -> usize {
    let run = if step == 0 { u64::MAX } else { (end - first).div_ceil(step) };
    // A run that does not fit a usize is longer than any slice.
    usize::try_from(run).map_or(count, |run| run.min(count))
}

/// Panics if a sampler that shuffles cannot have this length.
fn check_len(len: u64) {
    assert!(len <= MAX_LEN, "an order of {len} positions: at most {MAX_LEN} can be shuffled");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The clauses of the contract that can be checked from outside, for every position of some epochs.
    fn check_contract(sampler: &dyn Sampler) {
        let len = sampler.len();
        assert_eq!(sampler.is_empty(), len == 0);
        for epoch in [0, 1, u64::MAX] {
            let indices: Vec<u64> = (0..len).map(|position| sampler.index(epoch, position)).collect();
            assert!(indices.iter().all(|&index| index < sampler.bound()), "{sampler:?}");
            let mut again = vec![0; indices.len()];
            sampler.fill(epoch, 0, 1, &mut again);
            assert_eq!(again, indices, "{sampler:?}");
            let mut sorted = indices.clone();
            sorted.sort_unstable();
            assert!(!sampler.is_permutation() || sorted.iter().copied().eq(0..len), "{sampler:?}");
            for (first, step) in [(0, 3), (len / 2, 7), (len / 3, 1), (len.saturating_sub(1), u64::MAX), (len / 2, 0)] {
                let count = if first >= len { 0 } else { run_before(len, first, step, 100) };
                let mut out = vec![0; count];
                sampler.fill(epoch, first, step, &mut out);
                let expected = positions(first, step).take(count).map(|position| indices[position as usize]);
                assert!(expected.eq(out.iter().copied()), "{sampler:?} from {first} by {step}");
            }
        }
        for position in [len, len + 1, u64::MAX] {
            let index = || sampler.index(0, position);
            let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(index)).unwrap_err();
            let message = payload.downcast_ref::<String>().unwrap();
            assert!(message.contains(&position.to_string()) && message.contains(&len.to_string()), "{message}");
            let fill = || sampler.fill(0, position, 1, &mut [0]);
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(fill)).is_err(), "{sampler:?}");
        }
        let fill = || sampler.fill(0, 0, len / 2 + 1, &mut [0; 3]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(fill)).is_err(), "{sampler:?}");
    }

    #[test]
    fn every_sampler_keeps_the_contract() {
        let labels: Vec<u32> = (0..100).map(|n: u32| n.isqrt()).collect();
        let weights: Vec<f64> = (0..50).map(f64::from).collect();
        let samplers: Vec<Box<dyn Sampler>> = vec![
            Box::new(InOrder::new(0)),
            Box::new(InOrder::new(100)),
            Box::new(Shuffle::new(0, 1)),
            Box::new(Shuffle::new(1, 1)),
            Box::new(Shuffle::new(17, 1)),
            Box::new(Shuffle::new(257, 1)),
            Box::new(Shuffle::new(5000, 1)),
            Box::new(WindowShuffle::new(0, 3, 1)),
            Box::new(WindowShuffle::new(257, 10, 1)),
            Box::new(WindowShuffle::new(257, 100, 1)),
            Box::new(WindowShuffle::new(257, 1000, 1)),
            Box::new(BlockShuffle::new(0, 3, 2, 1)),
            Box::new(BlockShuffle::new(257, 10, 3, 1)),
            Box::new(BlockShuffle::new(257, 1000, 3, 1)),
            Box::new(BlockShuffle::from_lengths(0..30, 4, 1).unwrap()),
            Box::new(Weighted::new(&weights, 300, 1).unwrap()),
            Box::new(Subset::new(vec![5, 5, 9])),
            Box::new(Subset::shuffled((0..100).collect(), 1)),
            Box::new(LengthBuckets::new(0..0, 4, 3, 1).unwrap()),
            Box::new(LengthBuckets::new((0..257).map(|n: usize| n.isqrt()), 10, 7, 1).unwrap()),
            Box::new(LengthBuckets::new(0..60, 10, 7, 1).unwrap()),
            Box::new(ClassBalanced::new(&labels, 1).unwrap()),
            Box::new(Arc::new(ClassBalanced::new(&labels, 1).unwrap().smallest())),
        ];
        samplers.iter().for_each(|sampler| check_contract(&**sampler));
        let mut descriptions: Vec<String> = samplers.iter().map(|sampler| sampler.describe()).collect();
        descriptions.sort_unstable();
        descriptions.dedup();
        assert_eq!(descriptions.len(), samplers.len(), "two samplers share a description");
    }

    #[test]
    fn everything_is_forwarded() {
        let sampler: Arc<dyn Sampler> = Arc::new(Shuffle::new(100, 1));
        let boxed: Box<dyn Sampler> = Box::new(Arc::clone(&sampler));
        assert!(boxed.is_permutation() && !boxed.is_empty());
        assert_eq!(boxed.describe(), "shuffle(len=100, seed=1)");
        assert_eq!(format!("{boxed:?}"), "shuffle(len=100, seed=1)");
        check_contract(&boxed);
    }

    proptest! {
        #[test]
        fn shuffles_are_bijections_and_fill_is_a_loop(
            len in 1_u64..3000,
            (seed, epoch) in any::<(u64, u64)>(),
            (part, span) in (1_u64..400, 1_u64..5),
            (first, step) in (0_u64..3000, 1_u64..100),
        ) {
            let lengths = (0..len as usize).map(|n| n * part as usize % 101);
            let samplers: [Box<dyn Sampler>; 5] = [
                Box::new(Shuffle::new(len, seed)),
                Box::new(WindowShuffle::new(len, part, seed)),
                Box::new(BlockShuffle::new(len, part, span, seed)),
                Box::new(BlockShuffle::from_lengths([part, len, 0, span], span, seed).unwrap()),
                Box::new(LengthBuckets::new(lengths, part, span, seed).unwrap()),
            ];
            for sampler in samplers {
                let len = sampler.len();
                let mut indices = vec![0; len as usize];
                sampler.fill(epoch, 0, 1, &mut indices);
                let first = first % len;
                let mut some = vec![0; run_before(len, first, step, usize::MAX)];
                sampler.fill(epoch, first, step, &mut some);
                for (index, position) in some.into_iter().zip(positions(first, step)) {
                    prop_assert_eq!(index, indices[position as usize]);
                    prop_assert_eq!(index, sampler.index(epoch, position));
                }
                indices.sort_unstable();
                prop_assert!(indices.into_iter().eq(0..len), "{sampler:?}");
            }
        }
    }
}
