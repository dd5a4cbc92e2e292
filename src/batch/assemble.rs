//! How the samples of a batch are put together: stacked row by row, collated by a closure, or ready as they are.

use std::fmt::Debug;
use std::marker::PhantomData;

use super::rows::{Buffer, Columns, RowsMut};
use super::stack::{Stack, block};
use crate::error::{Error, ErrorKind, Result};
use crate::rng::{Visit, VisitRng};
use crate::stage::{Stage, Timer};

/// Makes batches of a stage's samples. Not to be implemented outside this crate.
pub trait Assemble<P: Stage>: Send + Sync + 'static {
    /// What all samples of a batch must have in common.
    type Layout: Clone + PartialEq + Debug + Send + Sync + 'static;
    /// The rows while they are written.
    type Columns: Columns;
    /// The batch.
    type Batch: Send + 'static;
    /// Whether `columns` can use the memory of a batch.
    const REUSES_BATCHES: bool;

    /// The layout of every batch, if it is known before the first sample.
    fn fixed_layout(&self, stage: &P) -> Option<Self::Layout>;
    /// The layout of a sample.
    fn layout(&self, sample: &P::Sample) -> Self::Layout;
    /// The layout of a batch of which no sample was ever seen.
    fn empty_layout(&self) -> Self::Layout;
    /// Makes room.
    fn columns(&self, layout: &Self::Layout, num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns>;
    /// Writes a sample to a row of a chunk.
    fn write(&self, chunk: &mut <Self::Columns as Columns>::Chunk<'_>, row: usize, sample: P::Sample);
    /// Loads a sample straight into a row of a chunk. Called only where the layout is fixed.
    fn load_into(
        &self,
        stage: &P,
        visit: &Visit,
        input: P::Input,
        chunk: &mut <Self::Columns as Columns>::Chunk<'_>,
        row: usize,
        timer: &mut Timer,
    ) -> Result<()>;
    /// Loads samples straight into the rows of a chunk, as many as are loaded in one call, from the first on.
    fn load_many_into(
        &self,
        _stage: &P,
        _indices: &[u64],
        _chunk: &mut <Self::Columns as Columns>::Chunk<'_>,
        _timer: &mut Timer,
    ) -> usize {
        0
    }
    /// Whether `finish` costs next to nothing.
    fn is_light(&self) -> bool {
        false
    }
    /// Makes the batch of the rows to keep; of all if `keep` is `None`. Gives none if there is none without samples.
    /// `first` is the visit of the batch's first row, whose streams of the purposes that no stage uses are the batch's.
    fn finish(
        &self,
        columns: Self::Columns,
        layout: &Self::Layout,
        num_rows: usize,
        keep: Option<&[bool]>,
        first: &Visit,
    ) -> Result<Option<Self::Batch>>;
    /// How many random streams of its own a batch has.
    fn num_streams(&self) -> u64 {
        0
    }
    /// The memory that a sample takes, in bytes.
    fn size_bytes(&self, sample: &P::Sample) -> usize;
    /// The memory that a row of a layout takes, in bytes, where the layout tells.
    fn row_bytes(&self, layout: &Self::Layout) -> Option<usize>;
    /// The memory that a batch takes, in bytes, where that is another than its rows take and is known.
    fn batch_bytes(&self, _batch: &Self::Batch) -> Option<usize> {
        None
    }
}

/// Stacks samples by their type.
#[derive(Debug, Clone, Copy)]
pub struct Stacked;

impl<P: Stage> Assemble<P> for Stacked
where
    P::Sample: Stack,
{
    type Layout = <P::Sample as Stack>::Layout;
    type Columns = <P::Sample as Stack>::Columns;
    type Batch = <P::Sample as Stack>::Batch;
    const REUSES_BATCHES: bool = true;

    fn fixed_layout(&self, stage: &P) -> Option<Self::Layout> {
        stage.layout()
    }
    fn layout(&self, sample: &P::Sample) -> Self::Layout {
        sample.layout()
    }
    fn empty_layout(&self) -> Self::Layout {
        P::Sample::empty_layout()
    }
    fn columns(&self, layout: &Self::Layout, num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
        P::Sample::columns(layout, num_rows, spare)
    }
    #[inline]
    fn write(&self, chunk: &mut <Self::Columns as Columns>::Chunk<'_>, row: usize, sample: P::Sample) {
        sample.write(P::Sample::row(chunk, row));
    }
    #[inline]
    fn load_into(
        &self,
        stage: &P,
        visit: &Visit,
        input: P::Input,
        chunk: &mut <Self::Columns as Columns>::Chunk<'_>,
        row: usize,
        timer: &mut Timer,
    ) -> Result<()> {
        stage.load_into(visit, input, P::Sample::row(chunk, row), timer)
    }
    #[inline]
    fn load_many_into(
        &self,
        stage: &P,
        indices: &[u64],
        chunk: &mut <Self::Columns as Columns>::Chunk<'_>,
        timer: &mut Timer,
    ) -> usize {
        stage.load_many_into(indices, &mut block::<P::Sample>(chunk, indices.len()), timer)
    }
    fn finish(
        &self,
        columns: Self::Columns,
        layout: &Self::Layout,
        num_rows: usize,
        keep: Option<&[bool]>,
        _: &Visit,
    ) -> Result<Option<Self::Batch>> {
        Ok(Some(P::Sample::finish(columns, layout, num_rows, keep)))
    }
    fn is_light(&self) -> bool {
        true
    }
    fn size_bytes(&self, sample: &P::Sample) -> usize {
        sample.size_bytes()
    }
    fn row_bytes(&self, layout: &Self::Layout) -> Option<usize> {
        P::Sample::row_bytes(layout)
    }
}

/// Gives a batch's samples to a function.
pub struct Collated<F, S, B> {
    collate: F,
    // The memory of a sample in bytes, for a window in bytes.
    measure: fn(&S) -> usize,
    // That of a batch, if it is known.
    weigh: fn(&B) -> Option<usize>,
    // Whether there is no batch without samples.
    needs_samples: bool,
    batch: PhantomData<fn() -> B>,
}

impl<F, S, B> std::fmt::Debug for Collated<F, S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collated")
    }
}

impl<F: Fn(Vec<S>) -> Result<B>, S, B> Collated<F, S, B> {
    pub(crate) fn new(collate: F) -> Self {
        Self { collate, measure: |_| size_of::<S>(), weigh: |_| None, needs_samples: false, batch: PhantomData }
    }
}

impl<F, S, B> Collated<F, S, B> {
    pub(crate) fn needs_samples(mut self) -> Self {
        self.needs_samples = true;
        self
    }

    pub(crate) fn measured(mut self, measure: fn(&S) -> usize) -> Self {
        self.measure = measure;
        self
    }

    pub(crate) fn weighed(mut self, weigh: fn(&B) -> Option<usize>) -> Self {
        self.weigh = weigh;
        self
    }
}

impl<P, F, B> Assemble<P> for Collated<F, P::Sample, B>
where
    P: Stage,
    F: Fn(Vec<P::Sample>) -> Result<B> + Send + Sync + 'static,
    B: Send + 'static,
{
    type Layout = ();
    type Columns = Buffer<Option<P::Sample>>;
    type Batch = B;
    const REUSES_BATCHES: bool = false;

    fn fixed_layout(&self, _: &P) -> Option<()> {
        Some(())
    }
    fn layout(&self, _: &P::Sample) {}
    fn empty_layout(&self) {}
    fn columns(&self, (): &(), num_rows: usize, _: Option<B>) -> Result<Self::Columns> {
        Buffer::new(Vec::new(), num_rows, 1)
    }
    #[inline]
    fn write(&self, chunk: &mut RowsMut<'_, Option<P::Sample>>, row: usize, sample: P::Sample) {
        chunk.row(row)[0] = Some(sample);
    }
    #[inline]
    fn load_into(
        &self,
        stage: &P,
        visit: &Visit,
        input: P::Input,
        chunk: &mut RowsMut<'_, Option<P::Sample>>,
        row: usize,
        timer: &mut Timer,
    ) -> Result<()> {
        chunk.row(row)[0] = Some(stage.load(visit, input, timer)?);
        Ok(())
    }
    fn finish(
        &self,
        columns: Self::Columns,
        (): &(),
        num_rows: usize,
        keep: Option<&[bool]>,
        _: &Visit,
    ) -> Result<Option<B>> {
        let mut samples = columns.into_vec();
        samples.truncate(num_rows);
        let kept = samples.into_iter().enumerate().filter(|(row, _)| keep.is_none_or(|keep| keep[*row]));
        let samples: Option<Vec<_>> = kept.map(|(_, sample)| sample).collect();
        // Every kept row was loaded before a batch is finished.
        let samples = samples.ok_or_else(|| Error::new(ErrorKind::Shape, "a row of the batch was not loaded"))?;
        if samples.is_empty() && self.needs_samples { Ok(None) } else { (self.collate)(samples).map(Some) }
    }
    fn size_bytes(&self, sample: &P::Sample) -> usize {
        (self.measure)(sample)
    }
    fn row_bytes(&self, (): &()) -> Option<usize> {
        None
    }
    fn batch_bytes(&self, batch: &B) -> Option<usize> {
        (self.weigh)(batch)
    }
}

/// Changes a batch once it is made.
pub struct AugmentedBatch<A, F> {
    inner: A,
    augment: F,
    // The stage has its streams below this one.
    purpose: u64,
}

impl<A, F> AugmentedBatch<A, F> {
    pub(crate) fn new(inner: A, augment: F, purpose: u64) -> Self {
        Self { inner, augment, purpose }
    }
}

impl<A: Debug, F> Debug for AugmentedBatch<A, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AugmentedBatch").field(&self.inner).finish()
    }
}

impl<P, A, F> Assemble<P> for AugmentedBatch<A, F>
where
    P: Stage,
    A: Assemble<P>,
    F: Fn(&mut A::Batch, &mut VisitRng) + Send + Sync + 'static,
{
    type Layout = A::Layout;
    type Columns = A::Columns;
    type Batch = A::Batch;
    const REUSES_BATCHES: bool = A::REUSES_BATCHES;

    fn fixed_layout(&self, stage: &P) -> Option<Self::Layout> {
        self.inner.fixed_layout(stage)
    }
    fn layout(&self, sample: &P::Sample) -> Self::Layout {
        self.inner.layout(sample)
    }
    fn empty_layout(&self) -> Self::Layout {
        self.inner.empty_layout()
    }
    fn columns(&self, layout: &Self::Layout, num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
        self.inner.columns(layout, num_rows, spare)
    }
    #[inline]
    fn write(&self, chunk: &mut <Self::Columns as Columns>::Chunk<'_>, row: usize, sample: P::Sample) {
        self.inner.write(chunk, row, sample);
    }
    #[inline]
    fn load_into(
        &self,
        stage: &P,
        visit: &Visit,
        input: P::Input,
        chunk: &mut <Self::Columns as Columns>::Chunk<'_>,
        row: usize,
        timer: &mut Timer,
    ) -> Result<()> {
        self.inner.load_into(stage, visit, input, chunk, row, timer)
    }
    #[inline]
    fn load_many_into(
        &self,
        stage: &P,
        indices: &[u64],
        chunk: &mut <Self::Columns as Columns>::Chunk<'_>,
        timer: &mut Timer,
    ) -> usize {
        self.inner.load_many_into(stage, indices, chunk, timer)
    }
    fn finish(
        &self,
        columns: Self::Columns,
        layout: &Self::Layout,
        num_rows: usize,
        keep: Option<&[bool]>,
        first: &Visit,
    ) -> Result<Option<Self::Batch>> {
        let mut batch = self.inner.finish(columns, layout, num_rows, keep, first)?;
        if let Some(batch) = &mut batch {
            (self.augment)(batch, &mut first.rng(self.purpose));
        }
        Ok(batch)
    }
    fn num_streams(&self) -> u64 {
        self.inner.num_streams() + 1
    }
    fn size_bytes(&self, sample: &P::Sample) -> usize {
        self.inner.size_bytes(sample)
    }
    fn row_bytes(&self, layout: &Self::Layout) -> Option<usize> {
        self.inner.row_bytes(layout)
    }
    fn batch_bytes(&self, batch: &Self::Batch) -> Option<usize> {
        self.inner.batch_bytes(batch)
    }
}
