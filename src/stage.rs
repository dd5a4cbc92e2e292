//! What happens to a sample on the workers: the source, and the transforms behind it, as one chain of types.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::batch::stack::{Row, RowBlock, Stack};
use crate::error::{BoxError, Error, Result};
#[cfg(feature = "async")]
use crate::remote::AsyncSequence;
use crate::rng::{Visit, VisitRng};
use crate::sequence::Sequence;
#[cfg(feature = "async")]
use crate::sequence::check_layout;
use crate::transform::Transform;

/// An input on its way.
#[cfg(feature = "async")]
pub(crate) type Fetching<'a, I> = std::pin::Pin<Box<dyn Future<Output = Result<I>> + Send + 'a>>;

/// Takes the time inside the source, when asked to.
#[derive(Debug)]
pub struct Timer {
    on: bool,
    source: Duration,
}

impl Timer {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, source: Duration::ZERO }
    }

    pub(crate) fn source(&self) -> Duration {
        self.source
    }

    #[inline]
    fn time<T>(&mut self, source: impl FnOnce() -> T) -> T {
        if !self.on {
            return source();
        }
        let start = Instant::now();
        let result = source();
        self.source += start.elapsed();
        result
    }
}

/// A source with the transforms behind it. Not to be implemented outside this crate.
pub trait Stage: Send + Sync + 'static {
    /// What comes out.
    type Sample: Send + 'static;
    /// What the source needs besides the visit: nothing, or a sample that was fetched.
    type Input: Send + 'static;

    /// What the source says of itself.
    fn source(&self) -> &dyn Source;
    /// How many stages so far draw random numbers; each has a stream of its own.
    fn num_streams(&self) -> u64;
    /// Fetches the input of an index.
    #[cfg(feature = "async")]
    fn fetch(&self, index: usize) -> Fetching<'_, Self::Input>;
    /// Whether samples are what the source gave, so that there is nothing to compute.
    fn passes_through(&self) -> bool {
        false
    }
    /// Loads a sample.
    fn load(&self, visit: &Visit, input: Self::Input, timer: &mut Timer) -> Result<Self::Sample>;
    /// The layout that all samples share, if it is known without loading one.
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Self::Sample::layout_of_type()
    }
    /// Writes a sample to its row. Called only if `layout` is known.
    fn load_into(&self, visit: &Visit, input: Self::Input, row: Row<'_, Self::Sample>, timer: &mut Timer) -> Result<()>
    where
        Self::Sample: Stack,
    {
        self.load(visit, input, timer)?.write(row);
        Ok(())
    }
    /// Writes samples to their rows, as many as it can from the first on; 0 if it is to be asked for one after the other.
    /// Called only if `layout` is known, with indices that the source has.
    fn load_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, Self::Sample>, timer: &mut Timer) -> usize
    where
        Self::Sample: Stack,
    {
        let _ = (indices, block, timer);
        0
    }
    /// The memory that a sample takes, in bytes, if it is known without loading it.
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }
}

/// What a sequence says of itself, whatever its samples are.
pub trait Source {
    /// See [`Sequence::file`].
    fn file(&self, index: usize) -> Option<PathBuf>;
    /// See [`Sequence::barrier`].
    fn barrier(&self) -> bool;
    /// See [`Sequence::on_epoch_start`].
    fn on_epoch_start(&self, epoch: u64) -> Result<()>;
}

/// The first stage: a sequence.
pub struct Root<S>(pub(crate) S);

impl<S: Sequence> Source for Root<S> {
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.0.file(index)
    }
    fn barrier(&self) -> bool {
        self.0.barrier()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.0.on_epoch_start(epoch)
    }
}

impl<S: Sequence + 'static> Stage for Root<S> {
    type Sample = S::Sample;
    type Input = ();

    fn source(&self) -> &dyn Source {
        self
    }
    fn num_streams(&self) -> u64 {
        0
    }
    #[cfg(feature = "async")]
    fn fetch(&self, _: usize) -> Fetching<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn passes_through(&self) -> bool {
        true
    }
    #[inline]
    fn load(&self, visit: &Visit, (): (), timer: &mut Timer) -> Result<S::Sample> {
        timer.time(|| self.0.get(visit.index() as usize))
    }
    fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
    where
        S::Sample: Stack,
    {
        self.0.layout()
    }
    #[inline]
    fn load_into(&self, visit: &Visit, (): (), row: Row<'_, S::Sample>, timer: &mut Timer) -> Result<()>
    where
        S::Sample: Stack,
    {
        timer.time(|| self.0.get_into(visit.index() as usize, row))
    }
    #[inline]
    fn load_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, S::Sample>, timer: &mut Timer) -> usize
    where
        S::Sample: Stack,
    {
        timer.time(|| self.0.get_many_into(indices, block)).unwrap_or(0)
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        self.0.size_bytes(index)
    }
}

/// A sample that was fetched, for the stages behind an asynchronous sequence.
#[cfg(feature = "async")]
#[derive(Debug)]
pub struct Fetched<T>(T);

/// The first stage: an asynchronous sequence.
#[cfg(feature = "async")]
pub struct Remote<S>(pub(crate) S);

#[cfg(feature = "async")]
impl<S: AsyncSequence> Source for Remote<S> {
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.0.file(index)
    }
    fn barrier(&self) -> bool {
        self.0.barrier()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.0.on_epoch_start(epoch)
    }
}

#[cfg(feature = "async")]
impl<S: AsyncSequence + 'static> Stage for Remote<S> {
    type Sample = S::Sample;
    type Input = Fetched<S::Sample>;

    fn source(&self) -> &dyn Source {
        self
    }
    fn num_streams(&self) -> u64 {
        0
    }
    fn fetch(&self, index: usize) -> Fetching<'_, Fetched<S::Sample>> {
        let sample = self.0.get(index);
        Box::pin(async move { sample.await.map(Fetched) })
    }
    fn passes_through(&self) -> bool {
        true
    }
    fn load(&self, _: &Visit, Fetched(sample): Fetched<S::Sample>, _: &mut Timer) -> Result<S::Sample> {
        Ok(sample)
    }
    fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
    where
        S::Sample: Stack,
    {
        self.0.layout()
    }
    fn load_into(
        &self,
        _: &Visit,
        Fetched(sample): Fetched<S::Sample>,
        row: Row<'_, S::Sample>,
        _: &mut Timer,
    ) -> Result<()>
    where
        S::Sample: Stack,
    {
        check_layout(&sample, self.0.layout())?;
        sample.write(row);
        Ok(())
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        self.0.size_bytes(index)
    }
}

/// A stage and a function of its samples.
pub(crate) struct Map<P, F>(pub(crate) P, pub(crate) F);

impl<P: Stage, T: Send + 'static, F: Fn(P::Sample) -> T + Send + Sync + 'static> Stage for Map<P, F> {
    type Sample = T;
    type Input = P::Input;

    fn source(&self) -> &dyn Source {
        self.0.source()
    }
    fn num_streams(&self) -> u64 {
        self.0.num_streams()
    }
    #[cfg(feature = "async")]
    fn fetch(&self, index: usize) -> Fetching<'_, P::Input> {
        self.0.fetch(index)
    }
    #[inline]
    fn load(&self, visit: &Visit, input: P::Input, timer: &mut Timer) -> Result<T> {
        Ok(self.1(self.0.load(visit, input, timer)?))
    }
}

/// A stage and a function of its samples that may fail.
pub(crate) struct TryMap<P, F>(pub(crate) P, pub(crate) F);

impl<P, T, E, F> Stage for TryMap<P, F>
where
    P: Stage,
    T: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(P::Sample) -> Result<T, E> + Send + Sync + 'static,
{
    type Sample = T;
    type Input = P::Input;

    fn source(&self) -> &dyn Source {
        self.0.source()
    }
    fn num_streams(&self) -> u64 {
        self.0.num_streams()
    }
    #[cfg(feature = "async")]
    fn fetch(&self, index: usize) -> Fetching<'_, P::Input> {
        self.0.fetch(index)
    }
    #[inline]
    fn load(&self, visit: &Visit, input: P::Input, timer: &mut Timer) -> Result<T> {
        self.1(self.0.load(visit, input, timer)?).map_err(Error::sample)
    }
}

/// A stage and a function of its samples and of the visit's random stream.
pub(crate) struct Augment<P, F>(pub(crate) P, pub(crate) F);

impl<P, T, F> Stage for Augment<P, F>
where
    P: Stage,
    T: Send + 'static,
    F: Fn(P::Sample, &mut VisitRng) -> T + Send + Sync + 'static,
{
    type Sample = T;
    type Input = P::Input;

    fn source(&self) -> &dyn Source {
        self.0.source()
    }
    fn num_streams(&self) -> u64 {
        self.0.num_streams() + 1
    }
    #[cfg(feature = "async")]
    fn fetch(&self, index: usize) -> Fetching<'_, P::Input> {
        self.0.fetch(index)
    }
    #[inline]
    fn load(&self, visit: &Visit, input: P::Input, timer: &mut Timer) -> Result<T> {
        let sample = self.0.load(visit, input, timer)?;
        Ok(self.1(sample, &mut visit.rng(self.0.num_streams())))
    }
}

/// A stage and a transform of its samples.
pub(crate) struct Transformed<P, T>(pub(crate) P, pub(crate) T);

impl<P: Stage, T: Transform<P::Sample>> Stage for Transformed<P, T> {
    type Sample = T::Output;
    type Input = P::Input;

    fn source(&self) -> &dyn Source {
        self.0.source()
    }
    fn num_streams(&self) -> u64 {
        self.0.num_streams() + 1
    }
    #[cfg(feature = "async")]
    fn fetch(&self, index: usize) -> Fetching<'_, P::Input> {
        self.0.fetch(index)
    }
    #[inline]
    fn load(&self, visit: &Visit, input: P::Input, timer: &mut Timer) -> Result<T::Output> {
        let sample = self.0.load(visit, input, timer)?;
        self.1.apply(sample, &mut visit.rng(self.0.num_streams()))
    }
    fn layout(&self) -> Option<<T::Output as Stack>::Layout>
    where
        T::Output: Stack,
    {
        self.1.layout()
    }
    #[inline]
    fn load_into(&self, visit: &Visit, input: P::Input, row: Row<'_, T::Output>, timer: &mut Timer) -> Result<()>
    where
        T::Output: Stack,
    {
        let sample = self.0.load(visit, input, timer)?;
        self.1.apply_into(sample, &mut visit.rng(self.0.num_streams()), row)
    }
}

macro_rules! debug_by_name {
    ($($name:ident<$($parameter:ident),+>),+) => {$(
        impl<$($parameter),+> fmt::Debug for $name<$($parameter),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )+};
}
#[cfg(feature = "async")]
debug_by_name!(Remote<S>);
debug_by_name!(Root<S>, Map<P, F>, TryMap<P, F>, Augment<P, F>, Transformed<P, T>);
