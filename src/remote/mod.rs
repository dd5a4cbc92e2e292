//! Collections of samples that come from elsewhere: the trait, and what makes and composes them.

mod combine;
mod from_fn;
pub(crate) mod policy;
pub(crate) mod runtime;

use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::combine::AsyncSequenceExt;
pub use self::from_fn::{AsyncFromFn, async_from_fn};
use crate::batch::stack::Stack;
use crate::error::Result;

/// A collection of samples addressed by index, `0..len`, each of which is waited for: an answer of a service, an object
/// of a store.
///
/// [`Loader::remote`](crate::Loader::remote) keeps many of them in flight at once and delivers them as
/// [`Sequence`](crate::Sequence)'s samples are delivered: in the plan's order, each exactly once per epoch. What computes
/// does not belong here but in the loader's [`map`](crate::LoaderBuilder::map), which runs on the workers.
///
/// # Contract
///
/// 1. `len` is the same at every call.
/// 2. `get` answers every index below `len`; one at or beyond it is a programming mistake and panics.
/// 3. `get` is pure: the same index gives the same sample, however often and in whatever order it is asked for.
/// 4. The futures of many `get` run at once, on any thread of a tokio runtime. None blocks its thread: what another
///    thread must do for it goes on meanwhile, and what computes long holds up the others.
/// 5. A future may be dropped before it is ready, when the epoch was left or its time is up.
/// 6. If `layout` is `Some`, every sample has that layout.
/// 7. Only a sequence whose `barrier` is true may change what it yields, and only in `on_epoch_start`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use procession::{AsyncSequence, Loader, Result};
///
/// struct Squares;
///
/// impl AsyncSequence for Squares {
///     type Sample = u64;
///     fn len(&self) -> usize {
///         100
///     }
///     async fn get(&self, index: usize) -> Result<u64> {
///         tokio::time::sleep(Duration::from_millis(1)).await;   // a service
///         Ok((index * index) as u64)
///     }
/// }
///
/// let loader = Loader::remote(Squares).concurrency(50).batch_size(10).build()?;
/// let sum: u64 = loader.epoch(0).map(|batch| Ok(batch?.sum())).sum::<Result<u64>>()?;
/// assert_eq!(sum, (0..100).map(|number| number * number).sum::<u64>());
/// # Ok::<(), procession::Error>(())
/// ```
pub trait AsyncSequence: Send + Sync {
    /// What one index yields.
    type Sample: Send + 'static;

    /// The number of samples.
    fn len(&self) -> usize;

    /// Fetches the sample at `index`. An implementation may write `async fn get(&self, index: usize)`.
    ///
    /// # Errors
    ///
    /// Whatever keeps this sample from being fetched. The loader adds the index and the place in the order.
    fn get(&self, index: usize) -> impl Future<Output = Result<Self::Sample>> + Send;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The layout that all samples share, if that is known without fetching one. By default what the type of the samples
    /// tells, as for [`Sequence::layout`](crate::Sequence::layout).
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Self::Sample::layout_of_type()
    }

    /// The memory that the sample at `index` will take once fetched, in bytes, if that is known before. It makes a window
    /// in bytes exact.
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The file, object or address that holds the sample at `index`, for errors.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let _ = index;
        None
    }

    /// Whether an epoch must be over, with no `get` running, before the next one's
    /// [`on_epoch_start`](Self::on_epoch_start), as for [`Sequence::barrier`](crate::Sequence::barrier).
    fn barrier(&self) -> bool {
        false
    }

    /// Called on the consumer's thread before the first batch of an epoch is delivered. Without a
    /// [`barrier`](Self::barrier) samples of the epoch may have been fetched before.
    ///
    /// # Errors
    ///
    /// The epoch then ends with this error before its first batch.
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        let _ = epoch;
        Ok(())
    }
}

macro_rules! forward {
    ($($type:ty),+) => {$(
        impl<S: AsyncSequence + ?Sized> AsyncSequence for $type {
            type Sample = S::Sample;

            fn len(&self) -> usize {
                self.deref().len()
            }
            fn get(&self, index: usize) -> impl Future<Output = Result<S::Sample>> + Send {
                self.deref().get(index)
            }
            fn is_empty(&self) -> bool {
                self.deref().is_empty()
            }
            fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
            where
                S::Sample: Stack,
            {
                self.deref().layout()
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
