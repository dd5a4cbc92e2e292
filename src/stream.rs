//! The batches of an epoch as a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};

use crate::batch::Batch;
use crate::epoch::{Epoch, Next};
use crate::error::Result;
use crate::failure::Receipt;
use crate::plan::State;
use crate::sync::Instant;

/// The batches of one epoch, in the plan's order, as a stream for asynchronous code. Made by [`Epoch::stream`].
///
/// After an error the epoch is over: it yields nothing more. Samples are loaded by the loader's workers and requests; a
/// loader with `workers(0)` that has something to compute does so within `poll_next`, and holds up the task's thread.
///
/// # Cancel safety
///
/// Dropping a future that waits for the next batch loses nothing: the next one yields it. Dropping the stream leaves the
/// epoch early.
#[derive(Debug)]
pub struct EpochStream<B: Send + 'static> {
    epoch: Epoch<B>,
    // Since when the next batch is waited for.
    since: Option<Instant>,
}

impl<B: Send + 'static> EpochStream<B> {
    /// Which epoch this is.
    pub fn number(&self) -> u64 {
        self.epoch.number()
    }

    /// The number of batches that are to come.
    pub fn num_batches_left(&self) -> u64 {
        self.epoch.num_batches_left()
    }

    /// The state before the next batch.
    pub fn state(&self) -> State {
        self.epoch.state()
    }

    /// The account so far; of the whole epoch when it is over.
    pub fn receipt(&self) -> &Receipt {
        self.epoch.receipt()
    }
}

impl<B: Send + 'static> Epoch<B> {
    /// The batches as a stream: for asynchronous code, whose thread a loop would hold up.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::pin::pin;
    ///
    /// use futures::StreamExt;
    /// use procession::{Loader, async_from_fn};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let service = async_from_fn(10, |index| async move { Ok::<_, std::io::Error>(index) });
    /// let loader = Loader::remote(service).batch_size(5).runtime(tokio::runtime::Handle::current()).build()?;
    /// for epoch in loader.epochs(0..2) {
    ///     let mut batches = pin!(epoch.stream());
    ///     while let Some(batch) = batches.next().await {
    ///         assert_eq!(batch?.len(), 5);
    ///     }
    ///     assert!(batches.receipt().is_complete());
    /// }
    /// # Ok::<(), procession::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(self) -> EpochStream<B> {
        EpochStream { epoch: self, since: None }
    }
}

impl<B: Send + 'static> Unpin for EpochStream<B> {}

impl<B: Send + 'static> Stream for EpochStream<B> {
    type Item = Result<Batch<B>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Batch<B>>>> {
        let this = &mut *self;
        loop {
            let seq = match this.epoch.before_next() {
                Next::Take(seq) => seq,
                Next::Yield(item) => return Poll::Ready(item),
            };
            let Some(handle) = this.epoch.handle() else { return Poll::Ready(None) };
            let polled = handle.run().poll_take(handle.drive(), seq, this.epoch.desk(), context);
            if polled.is_pending() {
                this.since.get_or_insert_with(Instant::now);
            } else if let Some(since) = this.since.take() {
                this.epoch.desk().meter().record_wait(since.elapsed());
            }
            if let Some(item) = this.epoch.after_take(ready!(polled), seq) {
                return Poll::Ready(Some(item));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.epoch.size_hint()
    }
}

impl<B: Send + 'static> FusedStream for EpochStream<B> {
    fn is_terminated(&self) -> bool {
        self.epoch.is_over()
    }
}
