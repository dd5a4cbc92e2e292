//! What `bench` measures: samples of any type, loaded one by one, by a naive generator and by a loader.

use std::any::Any;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, Axis};
use procession::collate::{self, Collate};
use procession::source::Blob;
use procession::{Element, Loader, Plan, Report, Result, Sequence, SequenceExt, Shuffle, Stack, from_fn};

use crate::bench::SEED;

/// Samples, and what is made of them.
pub(crate) trait Workload: Send + Sync {
    /// Begins to load samples one by one on this thread, in batches of that size.
    fn stages(&self, batch_size: usize) -> Box<dyn Staged + '_>;

    /// What one writes without a loader, for some of the samples.
    fn naive(&self, indices: Vec<usize>, batch_size: usize) -> Result<Box<dyn Epochs>>;

    /// A loader for some of the samples.
    fn loader(&self, indices: Vec<usize>, batch_size: usize, num_workers: usize) -> Result<Box<dyn Epochs>>;
}

/// Makes a workload when there is something to measure: that may mean to read a file into memory.
pub(crate) type MakeWorkload = Arc<dyn Fn() -> Result<Box<dyn Workload>> + Send + Sync>;

/// What a thread has spent on the samples, by what it did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) read: Duration,
    /// `None` where nothing is decoded.
    pub(crate) decode: Option<Duration>,
    pub(crate) assemble: Duration,
}

/// Loads samples one by one.
pub(crate) trait Staged {
    /// Loads a sample and adds the time that it takes.
    fn load(&mut self, index: usize, times: &mut Times) -> Result<()>;

    /// Makes a batch of the last samples, if they are fewer than one takes.
    fn finish(&mut self, _times: &mut Times) -> Result<()> {
        Ok(())
    }
}

/// Batches, epoch by epoch.
pub(crate) trait Epochs {
    /// Takes every batch of some epochs.
    fn take(&self, num_epochs: u64) -> Result<()>;

    /// Where the time went; `None` for the naive generator.
    fn report(&self) -> Option<Report>;
}

impl<B: Send + 'static> Epochs for Loader<B> {
    fn take(&self, num_epochs: u64) -> Result<()> {
        for epoch in self.epochs(0..num_epochs) {
            for batch in epoch {
                black_box(&*batch?);
            }
        }
        Ok(())
    }
    fn report(&self) -> Option<Report> {
        Some(Loader::report(self))
    }
}

/// One thread that loads the samples of a batch and makes the batch.
pub(crate) struct Naive<F> {
    pub(crate) plan: Plan,
    /// Makes a batch of these samples.
    pub(crate) batch: F,
}

impl<B, F: Fn(&[u64]) -> Result<B>> Epochs for Naive<F> {
    fn take(&self, num_epochs: u64) -> Result<()> {
        for epoch in 0..num_epochs {
            for number in 0..self.plan.num_batches() {
                black_box(&(self.batch)(&self.plan.indices(epoch, number))?);
            }
        }
        Ok(())
    }
    fn report(&self) -> Option<Report> {
        None
    }
}

/// The order in which both visit their samples.
pub(crate) fn plan(num_samples: usize, batch_size: usize) -> Result<Plan> {
    Plan::new(Shuffle::new(num_samples as u64, SEED), batch_size as u64)
}

type Source<T> = Arc<dyn Sequence<Sample = T>>;

/// Samples that are loaded as they are.
struct Values<T, C: Collate<T>> {
    source: Source<T>,
    collate: Arc<C>,
    /// Makes the loader: one that stacks writes samples straight to the rows of their batch, which `collate` cannot.
    loader: LoaderOf<T, C>,
}

type LoaderOf<T, C> = fn(&Values<T, C>, Vec<usize>, usize, usize) -> Result<Loader<<C as Collate<T>>::Batch>>;

/// A workload of samples that stack.
pub(crate) fn stacked<T: Stack>(source: impl Sequence<Sample = T> + 'static) -> Box<dyn Workload> {
    let loader: LoaderOf<T, collate::IntoStack> = |values, indices, batch_size, num_workers| {
        let builder = Loader::builder(Arc::clone(&values.source).subset(indices)?);
        builder.batch_size(batch_size).shuffle(SEED).workers(num_workers).build()
    };
    Box::new(Values { source: Arc::new(source), collate: Arc::new(collate::stack()), loader })
}

/// A workload of the parts of an array along its first axis.
pub(crate) fn rows_of<T: Element>(array: ArrayD<T>) -> Box<dyn Workload> {
    let array = Arc::new(array);
    stacked(from_fn(array.len_of(Axis(0)), move |index| array.index_axis(Axis(0), index).to_owned()))
}

/// A workload of rows of several columns.
pub(crate) fn table(num_rows: usize, columns: Arc<[Column]>) -> Box<dyn Workload> {
    let loader: LoaderOf<Vec<Cell>, Columns> = |values, indices, batch_size, num_workers| {
        let collate = Columns(Arc::clone(&values.collate.0));
        let builder = Loader::builder(Arc::clone(&values.source).subset(indices)?).collate_with(collate);
        builder.batch_size(batch_size).shuffle(SEED).workers(num_workers).build()
    };
    let source = Rows { num_rows, columns: Arc::clone(&columns) };
    Box::new(Values { source: Arc::new(source), collate: Arc::new(Columns(columns)), loader })
}

impl<T: Send + 'static, C: Collate<T>> Workload for Values<T, C> {
    fn stages(&self, batch_size: usize) -> Box<dyn Staged + '_> {
        Box::new(Gathering { values: self, batch_size, samples: Vec::with_capacity(batch_size) })
    }
    fn naive(&self, indices: Vec<usize>, batch_size: usize) -> Result<Box<dyn Epochs>> {
        let (source, collate) = (Arc::clone(&self.source), Arc::clone(&self.collate));
        let plan = plan(indices.len(), batch_size)?;
        let batch = move |positions: &[u64]| {
            let samples = positions.iter().map(|&at| source.get(indices[at as usize]));
            collate.collate(samples.collect::<Result<_>>()?)
        };
        Ok(Box::new(Naive { plan, batch }))
    }
    fn loader(&self, indices: Vec<usize>, batch_size: usize, num_workers: usize) -> Result<Box<dyn Epochs>> {
        Ok(Box::new((self.loader)(self, indices, batch_size, num_workers)?))
    }
}

/// Samples on their way to a batch.
struct Gathering<'a, T, C: Collate<T>> {
    values: &'a Values<T, C>,
    batch_size: usize,
    samples: Vec<T>,
}

impl<T: Send + 'static, C: Collate<T>> Staged for Gathering<'_, T, C> {
    fn load(&mut self, index: usize, times: &mut Times) -> Result<()> {
        let started = Instant::now();
        let sample = self.values.source.get(index)?;
        times.read += started.elapsed();
        self.samples.push(sample);
        if self.samples.len() < self.batch_size { Ok(()) } else { self.finish(times) }
    }
    fn finish(&mut self, times: &mut Times) -> Result<()> {
        let started = Instant::now();
        black_box(&self.values.collate.collate(std::mem::take(&mut self.samples))?);
        times.assemble += started.elapsed();
        Ok(())
    }
}

/// A value of a row, or the values of a batch, of whichever type.
type Cell = Box<dyn Any + Send>;

/// A column of a table: how its values are loaded, and how they become those of a batch.
///
/// The type of a table shows when it is opened, so values are boxed. It costs the naive generator what it costs the loader.
#[derive(Clone)]
pub(crate) struct Column {
    load: Arc<dyn Fn(usize) -> Result<Cell> + Send + Sync>,
    gather: Arc<dyn Fn(Vec<Cell>) -> Result<Cell> + Send + Sync>,
}

impl Column {
    pub(crate) fn new<S: Sequence + 'static, C: Collate<S::Sample>>(source: S, collate: C) -> Self {
        Self {
            load: Arc::new(move |index| Ok(Box::new(source.get(index)?))),
            gather: Arc::new(move |cells| {
                let of_column = |cell: Cell| *cell.downcast::<S::Sample>().expect("a column loads values of one type");
                Ok(Box::new(collate.collate(cells.into_iter().map(of_column).collect())?))
            }),
        }
    }

    /// A column of files or of other bytes, which stay apart.
    pub(crate) fn of_blobs(source: impl Sequence<Sample = Blob> + 'static) -> Self {
        Self::new(source.map(touched), collate::from_fn(Ok))
    }

    /// Loads a value to see whether that can be done.
    pub(crate) fn check(&self, index: usize) -> Result<()> {
        (self.load)(index).map(drop)
    }
}

/// Has all of the bytes in memory, so that reading a mapped file counts as reading.
pub(crate) fn touched(blob: Blob) -> Blob {
    black_box(blob.bytes().iter().step_by(4096).fold(0_u8, |sum, byte| sum ^ byte));
    blob
}

/// The rows of some columns.
struct Rows {
    num_rows: usize,
    columns: Arc<[Column]>,
}

impl Sequence for Rows {
    type Sample = Vec<Cell>;

    fn len(&self) -> usize {
        self.num_rows
    }
    fn get(&self, index: usize) -> Result<Vec<Cell>> {
        self.columns.iter().map(|column| (column.load)(index)).collect()
    }
}

/// Makes a batch of each column.
struct Columns(Arc<[Column]>);

impl Collate<Vec<Cell>> for Columns {
    type Batch = Vec<Cell>;

    fn collate(&self, samples: Vec<Vec<Cell>>) -> Result<Vec<Cell>> {
        let mut columns: Vec<Vec<Cell>> = self.0.iter().map(|_| Vec::with_capacity(samples.len())).collect();
        for sample in samples {
            columns.iter_mut().zip(sample).for_each(|(column, cell)| column.push(cell));
        }
        self.0.iter().zip(columns).map(|(column, cells)| (column.gather)(cells)).collect()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    #[test]
    fn a_batch_of_a_table_has_the_batches_of_its_columns() {
        let numbers = Column::new(vec![1_u32, 2, 3], collate::stack());
        let lists = Column::new(vec![vec![1_u8], vec![], vec![2, 3]], collate::ragged());
        let columns: Arc<[Column]> = [numbers, lists].into();
        let rows = Rows { num_rows: 3, columns: Arc::clone(&columns) };
        let samples = [0, 2].map(|index| rows.get(index).unwrap()).into();
        let batch = Columns(columns).collate(samples).unwrap();
        assert_eq!(batch[0].downcast_ref::<Array1<u32>>(), Some(&array![1, 3]));
        let lists = batch[1].downcast_ref::<collate::Ragged<u8>>().unwrap();
        assert_eq!((&lists.values, &*lists.offsets), (&array![1, 2, 3], &[0, 1, 3][..]));
    }

    #[test]
    fn stages_are_timed_and_the_last_batch_may_be_short() {
        let workload = stacked(vec![1.0_f32, 2.0, 3.0]);
        let mut times = Times::default();
        let mut stages = workload.stages(2);
        (0..3).for_each(|index| stages.load(index, &mut times).unwrap());
        let assembled = times.assemble;
        stages.finish(&mut times).unwrap();
        assert!(times.read > Duration::ZERO && times.assemble > assembled && times.decode.is_none());
    }
}
