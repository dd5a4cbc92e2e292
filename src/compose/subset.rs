//! A part of a sequence: chosen samples, a range of them, a random split.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::loads_as;
use crate::error::{Error, Result};
use crate::sampler::{Sampler, Shuffle};
use crate::sequence::{Sequence, check_index};

/// Chosen samples of a sequence; made by [`subset`](super::SequenceExt::subset) and [`split`](super::SequenceExt::split).
#[derive(Debug, Clone)]
pub struct Subset<S> {
    pub(crate) inner: S,
    // Invariant: each is below the length of `inner`.
    pub(crate) indices: Vec<usize>,
}

impl<S> Subset<S> {
    /// A part of a sequence of some length.
    pub(crate) fn of(inner: S, len: usize, indices: Vec<usize>) -> Result<Self> {
        if let Some((at, index)) = indices.iter().enumerate().find(|&(_, &index)| index >= len) {
            let message = format!("index {index} at place {at} of a subset of a sequence of {len} samples");
            return Err(Error::argument(message));
        }
        Ok(Self { inner, indices })
    }

    /// Where the samples are in the sequence that this is a part of.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl<S: Sequence> Sequence for Subset<S> {
    type Sample = S::Sample;

    fn len(&self) -> usize {
        self.indices.len()
    }
    loads_as! { self.inner, index => self.indices[index] }
}

/// The samples of a sequence in a range of indices; made by [`slice`](super::SequenceExt::slice).
#[derive(Debug, Clone)]
pub struct Slice<S> {
    pub(crate) inner: S,
    // Invariant: `start + len` is at most the length of `inner`.
    start: usize,
    pub(crate) len: usize,
}

impl<S> Slice<S> {
    /// A part of a sequence of some length.
    pub(crate) fn of(inner: S, len: usize, range: impl RangeBounds<usize>) -> Result<Self> {
        // A bound that wraps past `usize::MAX` lies beyond every sequence.
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => len,
        };
        if start > end || end > len {
            return Err(Error::argument(format!("slice {start}..{end} of a sequence of {len} samples")));
        }
        Ok(Self { inner, start, len: end - start })
    }

    /// Where a sample is in the sequence that this is a part of.
    pub(crate) fn at(&self, index: usize) -> usize {
        check_index(index, self.len);
        self.start + index
    }
}

impl<S: Sequence> Sequence for Slice<S> {
    type Sample = S::Sample;

    fn len(&self) -> usize {
        self.len
    }
    loads_as! { self.inner, index => self.at(index) }
}

/// The two parts of a random split; made by [`split`](super::SequenceExt::split).
pub type Split<S> = (Subset<Arc<S>>, Subset<Arc<S>>);

/// Two parts of a sequence of some length.
pub(crate) fn split<S>(inner: S, len: usize, fraction: f64, seed: u64) -> Result<Split<S>> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::argument(format!("a split of {fraction}, expected a fraction from 0 to 1")));
    }
    let first_len = ((len as f64 * fraction).round() as usize).min(len);
    let mut first = permutation(len, seed);
    let mut second = first.split_off(first_len);
    // Neighbours stay neighbours, which is what a file likes when nobody shuffles.
    first.sort_unstable();
    second.sort_unstable();
    let inner = Arc::new(inner);
    Ok((Subset { inner: Arc::clone(&inner), indices: first }, Subset { inner, indices: second }))
}

/// All indices below `len` in the order of the first epoch of a [`Shuffle`].
fn permutation(len: usize, seed: u64) -> Vec<usize> {
    let mut order = vec![0; len];
    Shuffle::new(len as u64, seed).fill(0, 0, 1, &mut order);
    order.into_iter().map(|index| index as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::super::SequenceExt;
    use super::*;
    use crate::testing::{Told, check_rows, samples};
    use std::ops::Range;

    #[test]
    fn a_subset_keeps_the_contract_and_what_is_known() {
        let subset = Told::new(5).subset([4, 0, 4]).unwrap();
        check_rows(&subset);
        assert_eq!(samples(&subset), [4.0, 0.0, 4.0]);
        assert_eq!(subset.layout(), Some(()));
        assert_eq!(subset.size_bytes(2), Told::new(5).size_bytes(4));
        Told::assert_known(&subset, 0, 4);
        let error = Told::new(5).subset([1, 5]).unwrap_err();
        assert_eq!(error.to_string(), "index 5 at place 1 of a subset of a sequence of 5 samples");
    }

    #[test]
    fn a_slice_keeps_the_contract_and_what_is_known() {
        let slice = Told::new(9).slice(3..6).unwrap();
        check_rows(&slice);
        assert_eq!(samples(&slice), [3.0, 4.0, 5.0]);
        assert_eq!(slice.layout(), Some(()));
        assert_eq!(slice.size_bytes(1), Told::new(9).size_bytes(4));
        Told::assert_known(&slice, 1, 4);
    }

    #[test]
    fn every_kind_of_range_makes_a_slice() {
        let len = |slice: Result<Slice<Told>>| slice.map(|slice| slice.len()).map_err(|error| error.to_string());
        assert_eq!(len(Told::new(9).slice(..)), Ok(9));
        assert_eq!(len(Told::new(9).slice(9..)), Ok(0));
        assert_eq!(len(Told::new(9).slice(..=8)), Ok(9));
        assert_eq!(len(Told::new(9).slice(..=9)), Err("slice 0..10 of a sequence of 9 samples".to_owned()));
        assert_eq!(
            len(Told::new(9).slice(Range { start: 5, end: 4 })),
            Err("slice 5..4 of a sequence of 9 samples".to_owned())
        );
        assert!(Told::new(9).slice(..=usize::MAX).is_err());
    }
    #[test]
    fn a_split_has_exact_sizes_and_every_sample_once() {
        for (len, fraction, first_len) in
            [(10, 0.9, 9), (10, 0.25, 3), (11, 0.5, 6), (7, 0.0, 0), (7, 1.0, 7), (0, 0.5, 0)]
        {
            let (first, second) = Told::new(len).split(fraction, 7).unwrap();
            assert_eq!((first.len(), second.len()), (first_len, len - first_len), "{len} samples, {fraction}");
            check_rows(&first);
            check_rows(&second);
            let mut all = [samples(&first), samples(&second)].concat();
            all.sort_by(f32::total_cmp);
            assert_eq!(all, samples(&Told::new(len)));
        }
        for fraction in [-0.1, 1.1, f64::NAN] {
            assert!(Told::new(3).split(fraction, 7).is_err(), "{fraction}");
        }
    }

    #[test]
    fn a_split_follows_from_its_seed() {
        let first = |seed| Told::new(100).split(0.5, seed).unwrap().0.indices().to_vec();
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        assert!(first(7).is_sorted());
    }

    #[test]
    fn a_split_chooses_every_sample_about_as_often() {
        let mut chosen = [0_u32; 10];
        for seed in 0..2_000 {
            let (first, _) = Told::new(10).split(0.3, seed).unwrap();
            first.indices().iter().for_each(|&index| chosen[index] += 1);
        }
        // 600 expected, with a standard deviation of 20.
        assert!(chosen.iter().all(|count| (500..700).contains(count)), "{chosen:?}");
    }
}
