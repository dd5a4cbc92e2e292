//! Two sequences side by side.

use std::path::PathBuf;

use crate::batch::stack::{Row, Stack, Zipped};
use crate::error::{Error, Result};
use crate::sequence::Sequence;

/// Pairs of the samples of two sequences; made by [`zip`](super::SequenceExt::zip).
///
/// If both know their layout, both write to their part of the row in place. The file of a sample is the first
/// sequence's, or else the second's.
#[derive(Debug, Clone)]
pub struct Zip<A, B> {
    // Invariant: both have the same length.
    left: A,
    right: B,
}

impl<A: Sequence, B: Sequence> Zip<A, B> {
    pub(super) fn new(left: A, right: B) -> Result<Self> {
        if left.len() != right.len() {
            let message = format!("cannot zip sequences of {} and {} samples: lengths differ", left.len(), right.len());
            return Err(Error::argument(message));
        }
        Ok(Self { left, right })
    }

    /// The two sequences.
    pub fn into_parts(self) -> (A, B) {
        (self.left, self.right)
    }
}

impl<A: Sequence, B: Sequence> Zipped<(A::Sample, B::Sample)> for Zip<A, B> {
    type Left = A;
    type Right = B;

    #[inline]
    fn parts(&self) -> (&A, &B) {
        (&self.left, &self.right)
    }
}

impl<A: Sequence, B: Sequence> Sequence for Zip<A, B> {
    type Sample = (A::Sample, B::Sample);

    fn len(&self) -> usize {
        self.left.len()
    }
    #[inline]
    fn get(&self, index: usize) -> Result<Self::Sample> {
        Ok((self.left.get(index)?, self.right.get(index)?))
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
    fn size_bytes(&self, index: usize) -> Option<usize> {
        Some(self.left.size_bytes(index)? + self.right.size_bytes(index)?)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.left.file(index).or_else(|| self.right.file(index))
    }
    fn barrier(&self) -> bool {
        self.left.barrier() || self.right.barrier()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.left.on_epoch_start(epoch)?;
        self.right.on_epoch_start(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SequenceExt;
    use crate::sequence::Sequence;
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
        let pairs = from_fn(4, |index| index as u8).zip(Told::new(4)).unwrap();
        assert_eq!(pairs.layout(), None);
        check_rows(&pairs);
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        let error = Told::new(7).zip(vec![0_u8; 8]).unwrap_err();
        assert_eq!(error.to_string(), "cannot zip sequences of 7 and 8 samples: lengths differ");
    }
}
