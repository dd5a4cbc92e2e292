//! What the consumer receives: batches, and how samples become one.

pub(crate) mod assemble;
pub(crate) mod rows;
pub(crate) mod stack;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Weak;

use crossbeam_queue::ArrayQueue;

use self::rows::Ledger;

/// The parts of a batch whose memory is used again.
#[derive(Debug)]
pub(crate) struct Spare<D> {
    pub(crate) data: Option<D>,
    pub(crate) indices: Vec<u64>,
    pub(crate) ledgers: [Ledger; 2],
}

impl<D> Default for Spare<D> {
    fn default() -> Self {
        Self { data: None, indices: Vec::new(), ledgers: Default::default() }
    }
}

/// Where the memory of dropped batches waits for the next ones. A batch that is held is not here, so nothing that
/// someone holds is ever written.
#[derive(Debug)]
pub(crate) struct Spares<D> {
    spares: ArrayQueue<Spare<D>>,
    keeps_data: bool,
}

impl<D> Spares<D> {
    /// Room for `capacity` batches. Their data is kept only if a later batch can use it; otherwise it is dropped with
    /// its batch, as its owner expects.
    pub(crate) fn new(capacity: usize, keeps_data: bool) -> Self {
        Self { spares: ArrayQueue::new(capacity.max(1)), keeps_data }
    }

    pub(crate) fn get(&self) -> Spare<D> {
        self.spares.pop().unwrap_or_default()
    }

    fn put(&self, mut spare: Spare<D>) {
        if !self.keeps_data {
            spare.data = None;
        }
        // One too many is freed.
        drop(self.spares.push(spare));
    }
}

/// A batch: the data, and where it came from.
///
/// Derefs to the data. Dropping it lets the loader use its memory for a later batch; [`into_inner`](Self::into_inner)
/// keeps the data for good.
///
/// # Examples
///
/// ```
/// use procession::Loader;
///
/// let loader = Loader::builder(vec![[0.0_f32, 1.0], [2.0, 3.0], [4.0, 5.0]]).batch_size(2).build()?;
/// let mut epoch = loader.epoch(0);
/// let batch = epoch.next().unwrap()?;
/// assert_eq!(batch.shape(), [2, 2]);
/// assert_eq!(batch.row(1).to_vec(), [2.0, 3.0]);
/// assert_eq!((batch.epoch(), batch.number(), batch.indices()), (0, 0, &[0, 1][..]));
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Batch<D> {
    // Invariant: present until the batch is dropped or taken apart.
    data: Option<D>,
    origin: Origin,
    ledgers: [Ledger; 2],
    // Weak, so that a batch that is held does not keep the memory of others when the loader is gone.
    spares: Weak<Spares<D>>,
}

/// Where a batch came from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) indices: Vec<u64>,
    pub(crate) num_padded: usize,
}

impl<D> Batch<D> {
    pub(crate) fn new(data: D, origin: Origin, ledgers: [Ledger; 2], spares: Weak<Spares<D>>) -> Self {
        Self { data: Some(data), origin, ledgers, spares }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.origin.epoch
    }

    /// The batch's place in its epoch.
    pub fn number(&self) -> u64 {
        self.origin.number
    }

    /// The indices of the samples, row by row.
    pub fn indices(&self) -> &[u64] {
        &self.origin.indices
    }

    /// The number of rows.
    pub fn num_samples(&self) -> usize {
        self.origin.indices.len()
    }

    /// How many rows, the last ones, are padding ([`Tail::Pad`](crate::Tail::Pad)) and are to be left out of an
    /// evaluation.
    pub fn num_padded(&self) -> usize {
        self.origin.num_padded
    }

    /// The data alone. Its memory is not used for a later batch.
    pub fn into_inner(mut self) -> D {
        self.spares = Weak::new();
        self.data.take().expect("a batch has its data until it is dropped")
    }
}

impl<D> Deref for Batch<D> {
    type Target = D;

    fn deref(&self) -> &D {
        self.data.as_ref().expect("a batch has its data until it is dropped")
    }
}

impl<D> DerefMut for Batch<D> {
    fn deref_mut(&mut self) -> &mut D {
        self.data.as_mut().expect("a batch has its data until it is dropped")
    }
}

impl<D> Drop for Batch<D> {
    fn drop(&mut self) {
        if let Some(spares) = self.spares.upgrade() {
            spares.put(Spare {
                data: self.data.take(),
                indices: std::mem::take(&mut self.origin.indices),
                ledgers: std::mem::take(&mut self.ledgers),
            });
        }
    }
}

impl<D: fmt::Debug> fmt::Debug for Batch<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("origin", &self.origin).field("data", &self.data).finish()
    }
}
