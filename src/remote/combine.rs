//! Parts of sequences: the combinators of [`compose`](crate::compose) that say nothing of how a sample is loaded.

use std::future::Future;
use std::ops::RangeBounds;
use std::path::PathBuf;

use super::AsyncSequence;
use crate::batch::stack::Stack;
use crate::compose::{Slice, Split, Subset, split};
use crate::error::Result;

/// Combinators on asynchronous sequences. The others of [`SequenceExt`](crate::SequenceExt) act on loaded samples; for
/// those there is the loader's [`map`](crate::LoaderBuilder::map).
///
/// # Examples
///
/// ```
/// use procession::{AsyncSequence, AsyncSequenceExt, async_from_fn};
///
/// let answers = async_from_fn(10, |index| async move { Ok::<_, std::io::Error>(index) });
/// let (train, held_out) = answers.split(0.8, 7)?;
/// assert_eq!((train.len(), held_out.len()), (8, 2));
/// # Ok::<(), procession::Error>(())
/// ```
pub trait AsyncSequenceExt: AsyncSequence + Sized {
    /// The samples at `indices`, in that order; an index may come more than once.
    ///
    /// # Errors
    ///
    /// If an index is not below the length.
    fn subset(self, indices: impl Into<Vec<usize>>) -> Result<Subset<Self>> {
        let len = self.len();
        Subset::of(self, len, indices.into())
    }

    /// The samples of a range of indices.
    ///
    /// # Errors
    ///
    /// If the range reaches beyond the samples, or its end lies before its start.
    fn slice(self, range: impl RangeBounds<usize>) -> Result<Slice<Self>> {
        let len = self.len();
        Slice::of(self, len, range)
    }

    /// Two parts, of which the first has the given fraction of the samples, as
    /// [`SequenceExt::split`](crate::SequenceExt::split): the same seed chooses the same indices.
    ///
    /// # Errors
    ///
    /// If `fraction` is not from 0 to 1.
    fn split(self, fraction: f64, seed: u64) -> Result<Split<Self>> {
        let len = self.len();
        split(self, len, fraction, seed)
    }
}

impl<S: AsyncSequence> AsyncSequenceExt for S {}

macro_rules! fetches_as {
    ($name:ident, $this:ident, $index:ident => $at:expr, $len:expr) => {
        impl<S: AsyncSequence> AsyncSequence for $name<S> {
            type Sample = S::Sample;

            fn len(&self) -> usize {
                let $this = self;
                $len
            }
            fn get(&self, $index: usize) -> impl Future<Output = Result<S::Sample>> + Send {
                let $this = self;
                $this.inner.get($at)
            }
            fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
            where
                S::Sample: Stack,
            {
                self.inner.layout()
            }
            fn size_bytes(&self, $index: usize) -> Option<usize> {
                let $this = self;
                $this.inner.size_bytes($at)
            }
            fn file(&self, $index: usize) -> Option<PathBuf> {
                let $this = self;
                $this.inner.file($at)
            }
            fn barrier(&self) -> bool {
                self.inner.barrier()
            }
            fn on_epoch_start(&self, epoch: u64) -> Result<()> {
                self.inner.on_epoch_start(epoch)
            }
        }
    };
}
fetches_as!(Subset, this, index => this.indices[index], this.indices.len());
fetches_as!(Slice, this, index => this.at(index), this.len);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::async_from_fn;
    use crate::{Sequence, SequenceExt, from_fn};

    fn numbers() -> impl AsyncSequence<Sample = usize> {
        async_from_fn(10, |index| async move { Ok::<_, std::io::Error>(index * 7) })
    }

    fn all(sequence: impl AsyncSequence<Sample = usize>) -> Vec<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        (0..sequence.len()).map(|index| runtime.block_on(sequence.get(index)).unwrap()).collect()
    }

    #[test]
    fn parts_are_those_of_other_sequences() {
        let here = || from_fn(10, |index| index * 7);
        let there = |sequence: &dyn Fn() -> Vec<usize>| sequence();
        let samples = |sequence: &dyn Sequence<Sample = usize>| -> Vec<usize> {
            (0..sequence.len()).map(|index| sequence.get(index).unwrap()).collect()
        };
        assert_eq!(
            there(&|| all(AsyncSequenceExt::subset(numbers(), [4, 0, 4]).unwrap())),
            samples(&here().subset([4, 0, 4]).unwrap())
        );
        assert_eq!(
            there(&|| all(AsyncSequenceExt::slice(numbers(), 3..=6).unwrap())),
            samples(&here().slice(3..=6).unwrap())
        );
        let (first, second) = AsyncSequenceExt::split(numbers(), 0.3, 7).unwrap();
        let (first_here, second_here) = here().split(0.3, 7).unwrap();
        assert_eq!((all(first), all(second)), (samples(&first_here), samples(&second_here)));
        assert!(AsyncSequenceExt::subset(numbers(), [10]).is_err());
        assert!(AsyncSequenceExt::slice(numbers(), 5..11).is_err());
    }
}
