//! Two sequences side by side: a pair of them.

use std::path::PathBuf;

use crate::batch::stack::{Row, RowBlock, Stack, Zipped};
use crate::error::{Error, Result};
use crate::sequence::Sequence;

pub(super) fn zip<A: Sequence, B: Sequence>(left: A, right: B) -> Result<(A, B)> {
    if left.len() != right.len() {
        let message = format!("cannot zip sequences of {} and {} samples: lengths differ", left.len(), right.len());
        return Err(Error::argument(message));
    }
    Ok((left, right))
}

impl<A: Sequence, B: Sequence> Zipped<(A::Sample, B::Sample)> for (A, B) {
    type Left = A;
    type Right = B;

    #[inline]
    fn parts(&self) -> (&A, &B) {
        (&self.0, &self.1)
    }
}

/// A pair of sequences is a sequence of pairs: images and their labels, say.
///
/// If both know their layout, both write to their part of the row in place. The file of a sample is the first
/// sequence's, or else the second's.
///
/// # Panics
///
/// `len` panics if the two differ in length; [`zip`](super::SequenceExt::zip) makes that an error.
impl<A: Sequence, B: Sequence> Sequence for (A, B) {
    type Sample = (A::Sample, B::Sample);

    fn len(&self) -> usize {
        let (left, right) = (self.0.len(), self.1.len());
        assert_eq!(left, right, "a pair of sequences of {left} and {right} samples: lengths differ");
        left
    }
    #[inline]
    fn get(&self, index: usize) -> Result<Self::Sample> {
        Ok((self.0.get(index)?, self.1.get(index)?))
    }
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Self::Sample::zip_layout(self)
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        Self::Sample::zip_get_into(self, index, row)
    }
    #[inline]
    fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, Self::Sample>) -> Option<usize>
    where
        Self::Sample: Stack,
    {
        Self::Sample::zip_get_many_into(self, indices, block)
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        Some(self.0.size_bytes(index)? + self.1.size_bytes(index)?)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.0.file(index).or_else(|| self.1.file(index))
    }
    fn barrier(&self) -> bool {
        self.0.barrier() || self.1.barrier()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.0.on_epoch_start(epoch)?;
        self.1.on_epoch_start(epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::SequenceExt;
    use crate::batch::stack::RowBlock;
    use crate::error::Result;
    use crate::sequence::{Sequence, check_index};
    use crate::source::from_fn;
    use crate::testing::{Counting, Told, check_rows, check_sequence};

    #[test]
    fn pairs_keep_the_contract_and_what_is_known() {
        let pairs = Told::new(7).zip(vec![[1_u8, 2]; 7]).unwrap();
        check_rows(&pairs);
        assert_eq!(pairs.layout(), Some(((), ())));
        Told::assert_known(&pairs, 6, 6);
        let pairs = vec![0_u8; 7].zip(Told::new(7)).unwrap();
        Told::assert_known(&pairs, 6, 6);
        let both = Told::new(7).zip(Told::new(7)).unwrap();
        assert_eq!(both.size_bytes(2), Some(2 * Told::new(7).size_bytes(2).unwrap()));
    }

    #[test]
    fn pairs_of_three_write_in_place() {
        let inner = Told::new(7).zip(Told::new(7)).unwrap();
        check_rows(&Counting::new(inner).zip(vec![vec![1_i64]; 7]).unwrap());
    }

    /// Numbers that can be written many at a time, and count how often they are.
    struct Many(AtomicUsize);

    impl Sequence for Many {
        type Sample = u32;

        fn len(&self) -> usize {
            7
        }
        fn get(&self, index: usize) -> Result<u32> {
            check_index(index, 7);
            Ok(index as u32)
        }
        fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, u32>) -> Option<usize> {
            self.0.fetch_add(indices.len(), Ordering::Relaxed);
            block.elements().iter_mut().zip(indices).for_each(|(to, &index)| *to = index as u32);
            Some(indices.len())
        }
    }

    #[test]
    fn pairs_are_written_many_at_a_time_only_by_two_who_can() {
        let many = || Many(AtomicUsize::new(0));
        let both = many().zip(many()).unwrap();
        check_rows(&both);
        let of_left = both.0.0.load(Ordering::Relaxed);
        assert!(of_left > 7 && of_left == both.1.0.load(Ordering::Relaxed));
        let left = many().zip(Told::new(7)).unwrap();
        let right = Told::new(7).zip(many()).unwrap();
        check_rows(&left);
        check_rows(&right);
        let written = [left.0.0.into_inner(), right.1.0.into_inner()];
        assert_eq!(written, [0, 0], "samples are loaded twice where the other one writes them one by one");
    }

    #[test]
    fn pairs_that_do_not_stack_are_a_sequence_all_the_same() {
        #[derive(Debug, PartialEq)]
        struct Opaque(usize);
        let pairs = from_fn(4, Opaque).zip(Told::new(4)).unwrap();
        check_sequence(&pairs);
        assert_eq!(pairs.get(2).unwrap(), (Opaque(2), 2.0));
    }

    #[test]
    fn one_layout_that_is_not_known_leaves_the_pair_without() {
        let pairs = from_fn(4, |index| vec![index as u8]).zip(Told::new(4)).unwrap();
        assert_eq!(pairs.layout(), None);
        check_rows(&pairs);
    }

    #[test]
    #[should_panic(expected = "a pair of sequences of 7 and 8 samples")]
    fn a_pair_of_different_lengths_has_no_length() {
        let _ = (Told::new(7), vec![0_u8; 8]).len();
    }

    #[test]
    fn a_pair_of_arrays_is_a_sequence() {
        let pair = (ndarray::arr2(&[[1.0_f32, 2.0], [3.0, 4.0]]), ndarray::arr1(&[7_u32, 8]));
        check_rows(&pair);
        assert_eq!(pair.get(1).unwrap(), (ndarray::arr1(&[3.0, 4.0]), 8));
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        let error = Told::new(7).zip(vec![0_u8; 8]).unwrap_err();
        assert_eq!(error.to_string(), "cannot zip sequences of 7 and 8 samples: lengths differ");
    }
}
