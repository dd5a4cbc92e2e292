//! Samples kept in memory.

use std::fmt;
use std::sync::OnceLock;

use super::knows_as;
use crate::batch::stack::{Row, Stack};
use crate::error::Result;
use crate::sequence::Sequence;

/// A sequence whose samples stay in memory once they have been loaded; made by [`cached`](super::SequenceExt::cached).
pub struct Cached<S: Sequence> {
    inner: S,
    // Empty if the sequence has a barrier: its samples change, so none is kept.
    samples: Box<[OnceLock<S::Sample>]>,
}

impl<S: Sequence> Cached<S> {
    pub(super) fn new(inner: S) -> Self {
        let num_kept = if inner.barrier() { 0 } else { inner.len() };
        Self { inner, samples: (0..num_kept).map(|_| OnceLock::new()).collect() }
    }

    /// How many samples are in memory.
    pub fn num_cached(&self) -> usize {
        self.samples.iter().filter(|sample| sample.get().is_some()).count()
    }

    /// The place where a sample is kept, if samples are kept at all.
    fn slot(&self, index: usize) -> Option<&OnceLock<S::Sample>> {
        if self.inner.barrier() { None } else { Some(&self.samples[index]) }
    }
}

impl<S: Sequence> Sequence for Cached<S>
where
    S::Sample: Clone + Sync,
{
    type Sample = S::Sample;

    fn len(&self) -> usize {
        self.inner.len()
    }
    fn get(&self, index: usize) -> Result<S::Sample> {
        let Some(slot) = self.slot(index) else { return self.inner.get(index) };
        if let Some(sample) = slot.get() {
            return Ok(sample.clone());
        }
        let sample = self.inner.get(index)?;
        // Another thread may have been first; `get` is pure, so its sample is the same.
        Ok(slot.get_or_init(|| sample).clone())
    }
    fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
    where
        S::Sample: Stack,
    {
        self.inner.layout()
    }
    /// Copies a kept sample to the row, without a clone in between.
    fn get_into(&self, index: usize, row: Row<'_, S::Sample>) -> Result<()>
    where
        S::Sample: Stack,
    {
        let Some(slot) = self.slot(index) else { return self.inner.get_into(index, row) };
        let sample = match slot.get() {
            Some(sample) => sample,
            None => {
                let sample = self.inner.get(index)?;
                slot.get_or_init(|| sample)
            }
        };
        sample.write(row);
        Ok(())
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        self.inner.size_bytes(index)
    }
    knows_as! { self.inner, index => index }
}

impl<S: Sequence + fmt::Debug> fmt::Debug for Cached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SequenceExt;
    use super::*;
    use crate::testing::{Counting, Failing, Told, check_rows, samples};

    #[test]
    fn a_cache_keeps_the_contract_and_what_is_known() {
        let cached = Told::still(6).cached();
        check_rows(&cached);
        assert_eq!(cached.layout(), Some(()));
        assert_eq!((cached.size_bytes(3), cached.file(3)), (Told::new(6).size_bytes(3), Told::new(6).file(3)));
    }

    #[test]
    fn each_sample_is_loaded_once() {
        let cached = Counting::new(Told::still(4)).cached();
        assert_eq!(cached.num_cached(), 0);
        let mut row = 0.0;
        cached.get_into(2, &mut row).unwrap();
        assert_eq!((row, cached.num_cached()), (2.0, 1));
        for _ in 0..3 {
            assert_eq!(samples(&cached), [0.0, 1.0, 2.0, 3.0]);
            cached.get_into(2, &mut row).unwrap();
        }
        assert_eq!(cached.inner.counts(), [1, 1, 1, 1]);
    }

    #[test]
    fn an_error_is_not_kept() {
        let cached = Failing::new(Told::still(4), [1]).times(1).cached();
        assert!(cached.get(1).is_err());
        assert_eq!(cached.get(1).unwrap(), 1.0);
    }

    #[test]
    fn samples_that_change_pass_through() {
        let cached = Counting::new(Told::new(2)).cached();
        check_rows(&cached);
        Told::assert_known(&cached, 1, 1);
        assert_eq!(cached.num_cached(), 0);
        assert!(cached.inner.counts()[0] > 1);
    }
}
