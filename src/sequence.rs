//! The trait for collections of samples addressed by index.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use crate::batch::stack::{Row, RowBlock, Stack};
use crate::error::{Error, ErrorKind, Result};

/// A collection of samples addressed by index, `0..len`.
///
/// Two methods make a sequence; the others have defaults that are right for everything and let a source say more
/// about itself where that makes loading faster.
///
/// # Contract
///
/// 1. `len` is the same at every call.
/// 2. `get` answers every index below `len`; one at or beyond it is a programming mistake and panics.
/// 3. `get` is pure: the same index gives the same sample, whichever thread asks, however often, in whatever order.
///    What is random happens in [`augment`](crate::LoaderBuilder::augment), with the visit's own stream.
/// 4. `get` may be called from many threads at once, and may itself run threads, block or start a loader. The thread
///    that takes the batches is one of them: it loads samples itself where that is quicker than to be woken.
/// 5. If `layout` is `Some`, every sample has that layout, and `get_into` and `get_many_into` write every element of the
///    rows, the same values that `get` returns.
/// 6. Only a sequence whose `barrier` is true may change what it yields, and only in `on_epoch_start`.
///
/// # Examples
///
/// ```
/// use procession::{Result, Sequence};
///
/// struct Squares;
///
/// impl Sequence for Squares {
///     type Sample = u64;
///     fn len(&self) -> usize {
///         100
///     }
///     fn get(&self, index: usize) -> Result<u64> {
///         Ok((index * index) as u64)
///     }
/// }
///
/// assert_eq!(Squares.get(7)?, 49);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Sequence: Send + Sync {
    /// What one index yields.
    type Sample: Send + 'static;

    /// The number of samples.
    fn len(&self) -> usize;

    /// Loads the sample at `index`.
    ///
    /// # Errors
    ///
    /// Whatever keeps this sample from being loaded. The loader adds the index and the place in the order.
    fn get(&self, index: usize) -> Result<Self::Sample>;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The layout that all samples share, if that is known without loading one. Batches are then allocated before
    /// their first sample and filled in place by [`get_into`](Self::get_into). By default what the type of the samples
    /// tells: numbers and `[T; N]` have one layout, arrays and vectors may differ.
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Self::Sample::layout_of_type()
    }

    /// Writes the sample at `index` to its row of the batch. Called only if [`layout`](Self::layout) is `Some`.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get). The row may then hold anything: it is not delivered.
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        let sample = self.get(index)?;
        check_layout(&sample, self.layout())?;
        sample.write(row);
        Ok(())
    }

    /// Writes the samples at `indices` to the rows of `block`, from the first on, and returns how many it wrote; `None`
    /// if it has no way to write many that is quicker than [`get_into`](Self::get_into) one by one. Called only if
    /// [`layout`](Self::layout) is `Some`, with indices below `len` and as many rows.
    ///
    /// For samples that cost so little that a call for each would show. One that cannot be loaded ends it: the loader asks
    /// `get_into` for that one and for those after it. Whether there is a way must not depend on the indices; there may be
    /// none of these.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Result, Row, RowBlock, Sequence};
    ///
    /// /// Pairs of neighbours in a list.
    /// struct Neighbours(Vec<f32>);
    ///
    /// impl Sequence for Neighbours {
    ///     type Sample = [f32; 2];
    ///     fn len(&self) -> usize {
    ///         self.0.len() - 1
    ///     }
    ///     fn get(&self, index: usize) -> Result<[f32; 2]> {
    ///         Ok([self.0[index], self.0[index + 1]])
    ///     }
    ///     fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, [f32; 2]>) -> Option<usize> {
    ///         for (pair, &index) in block.elements().chunks_exact_mut(2).zip(indices) {
    ///             pair.copy_from_slice(&self.0[index as usize..][..2]);
    ///         }
    ///         Some(indices.len())
    ///     }
    /// }
    ///
    /// procession::testing::check_rows(&Neighbours(vec![0.0, 0.5, 0.25, 1.0]));
    /// ```
    #[inline]
    fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, Self::Sample>) -> Option<usize>
    where
        Self::Sample: Stack,
    {
        let _ = (indices, block);
        None
    }

    /// The memory that the sample at `index` will take once loaded, in bytes, if that is known without loading it.
    /// It makes a window in bytes exact.
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The file that holds the sample at `index`, for errors.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let _ = index;
        None
    }

    /// Whether an epoch must be over, with no `get` running, before the next one's
    /// [`on_epoch_start`](Self::on_epoch_start). A sequence that changes itself there says `true`, and pays with a gap
    /// between epochs.
    fn barrier(&self) -> bool {
        false
    }

    /// Called on the consumer's thread before the first batch of an epoch is delivered. Without a
    /// [`barrier`](Self::barrier) samples of the epoch may have been loaded before.
    ///
    /// # Errors
    ///
    /// The epoch then ends with this error before its first batch.
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        let _ = epoch;
        Ok(())
    }
}

/// Refuses a sample of another layout than the row that it is to be written to.
pub(crate) fn check_layout<S: Stack>(sample: &S, fixed: Option<S::Layout>) -> Result<()> {
    let layout = sample.layout();
    match fixed {
        Some(fixed) if fixed != layout => {
            let message = format!("layout {layout:?}, expected {fixed:?} as of every sample of the sequence");
            Err(Error::new(ErrorKind::Shape, message))
        }
        _ => Ok(()),
    }
}

/// Checks an index that nothing else checks: one at or beyond the length is a programming mistake.
#[inline]
#[track_caller]
pub(crate) fn check_index(index: usize, len: usize) {
    assert!(index < len, "index {index} is out of range for a sequence of {len} samples");
}

macro_rules! forward {
    ($($type:ty),+) => {$(
        impl<S: Sequence + ?Sized> Sequence for $type {
            type Sample = S::Sample;

            fn len(&self) -> usize {
                self.deref().len()
            }
            #[inline]
            fn get(&self, index: usize) -> Result<Self::Sample> {
                self.deref().get(index)
            }
            fn is_empty(&self) -> bool {
                self.deref().is_empty()
            }
            fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
            where
                Self::Sample: Stack,
            {
                self.deref().layout()
            }
            #[inline]
            fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
            where
                Self::Sample: Stack,
            {
                self.deref().get_into(index, row)
            }
            #[inline]
            fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, Self::Sample>) -> Option<usize>
            where
                Self::Sample: Stack,
            {
                self.deref().get_many_into(indices, block)
            }
            fn size_bytes(&self, index: usize) -> Option<usize> {
                self.deref().size_bytes(index)
            }
            fn file(&self, index: usize) -> Option<PathBuf> {
                self.deref().file(index)
            }
            fn barrier(&self) -> bool {
                self.deref().barrier()
            }
            fn on_epoch_start(&self, epoch: u64) -> Result<()> {
                self.deref().on_epoch_start(epoch)
            }
        }
    )+};
}
forward!(&S, Box<S>, Arc<S>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_object_safe() {
        let boxed: Box<dyn Sequence<Sample = u8>> = Box::new(vec![1_u8, 2]);
        assert_eq!((boxed.len(), boxed.get(1).unwrap(), boxed.layout()), (2, 2, Some(())));
        let shared: Arc<dyn Sequence<Sample = u8>> = Arc::from(boxed);
        let mut row = 0;
        shared.get_into(0, &mut row).unwrap();
        assert_eq!(row, 1);
    }
}
