//! Samples in memory: a `Vec` is a sequence of clones of its elements.

use crate::batch::stack::{Row, Stack};
use crate::error::Result;
use crate::sequence::Sequence;

impl<T: Clone + Send + Sync + 'static> Sequence for Vec<T> {
    type Sample = T;

    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        Ok(self[index].clone())
    }

    /// The layout of the elements, if all have the same one.
    fn layout(&self) -> Option<T::Layout>
    where
        T: Stack,
    {
        let first = self.first()?.layout();
        self.iter().all(|sample| sample.layout() == first).then_some(first)
    }

    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, T>) -> Result<()>
    where
        T: Stack,
    {
        self[index].write(row);
        Ok(())
    }
}
