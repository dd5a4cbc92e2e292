//! Functions as sequences.

use std::fmt;
use std::future::Future;

use super::AsyncSequence;
use crate::error::{BoxError, Error, Result};
use crate::sequence::check_index;

/// A sequence of what an asynchronous function returns; made by [`async_from_fn`].
#[derive(Clone)]
pub struct AsyncFromFn<F> {
    len: usize,
    f: F,
}

/// Makes a sequence of `len` samples of an asynchronous function, which has to be pure. Its error becomes the cause of the
/// sample's, unless it is an [`Error`] of this crate, which keeps its kind.
///
/// # Examples
///
/// ```
/// use procession::{Loader, Result, async_from_fn};
///
/// let answers = async_from_fn(6, |index| async move {
///     tokio::task::yield_now().await;
///     Ok::<_, std::io::Error>(index as f32 / 2.0)
/// });
/// let loader = Loader::remote(answers).batch_size(3).build()?;
/// let batches = loader.epoch(0).map(|batch| Ok(batch?.to_vec())).collect::<Result<Vec<_>>>()?;
/// assert_eq!(batches, [[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn async_from_fn<T, E, F, A>(len: usize, f: F) -> AsyncFromFn<F>
where
    T: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(usize) -> A + Send + Sync,
    A: Future<Output = Result<T, E>> + Send,
{
    AsyncFromFn { len, f }
}

impl<T, E, F, A> AsyncSequence for AsyncFromFn<F>
where
    T: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(usize) -> A + Send + Sync,
    A: Future<Output = Result<T, E>> + Send,
{
    type Sample = T;

    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, index: usize) -> impl Future<Output = Result<T>> + Send {
        check_index(index, self.len);
        let answer = (self.f)(index);
        async move { answer.await.map_err(Error::sample) }
    }
}

impl<F> fmt::Debug for AsyncFromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFromFn").field("len", &self.len).finish_non_exhaustive()
    }
}
