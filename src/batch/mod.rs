//! What the consumer receives: batches, and how samples become one.

pub(crate) mod assemble;
pub(crate) mod rows;
pub(crate) mod stack;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use crossbeam_queue::ArrayQueue;

use self::rows::Ledger;

/// What a batch carries. Boxed, so that it moves from hand to hand as a pointer and is used again as a whole.
#[derive(Debug)]
pub(crate) struct Cargo<D> {
    // Present while it is a batch's. In a spare one: memory that the next batch can use, if it is of use.
    pub(crate) data: Option<D>,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) indices: Vec<u64>,
    pub(crate) num_padded: usize,
    // The ledgers of the indices' rows and of the data's.
    pub(crate) ledgers: [Ledger; 2],
    // Weak, so that a batch that is held does not keep the memory of others when the loader is gone.
    home: Weak<Spares<D>>,
}

/// Where the memory of dropped batches waits for the next ones. A batch that is held is not here, so nothing that
/// someone holds is ever written.
#[derive(Debug)]
pub(crate) struct Spares<D> {
    spares: ArrayQueue<Box<Cargo<D>>>,
    keeps_data: bool,
}

impl<D> Spares<D> {
    /// Room for `capacity` batches. Their data is kept only if a later batch can use it; otherwise it is dropped with
    /// its batch, as its owner expects.
    pub(crate) fn new(capacity: usize, keeps_data: bool) -> Self {
        Self { spares: ArrayQueue::new(capacity.max(1)), keeps_data }
    }

    /// A spare one, or a new one.
    pub(crate) fn get(self: &Arc<Self>) -> Box<Cargo<D>> {
        self.spares.pop().unwrap_or_else(|| {
            Box::new(Cargo {
                data: None,
                epoch: 0,
                number: 0,
                indices: Vec::new(),
                num_padded: 0,
                ledgers: Default::default(),
                home: Arc::downgrade(self),
            })
        })
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
    // Invariant: present, with its data, until the batch is dropped or taken apart.
    cargo: Option<Box<Cargo<D>>>,
}

impl<D> Batch<D> {
    pub(crate) fn new(cargo: Box<Cargo<D>>) -> Self {
        debug_assert!(cargo.data.is_some(), "a batch has data");
        Self { cargo: Some(cargo) }
    }

    fn cargo(&self) -> &Cargo<D> {
        self.cargo.as_ref().expect("a batch has its cargo until it is dropped")
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.cargo().epoch
    }

    /// The batch's place in its epoch.
    pub fn number(&self) -> u64 {
        self.cargo().number
    }

    /// The indices of the samples, row by row.
    pub fn indices(&self) -> &[u64] {
        &self.cargo().indices
    }

    /// The number of rows.
    pub fn num_samples(&self) -> usize {
        self.cargo().indices.len()
    }

    /// How many rows, the last ones, are padding ([`Tail::Pad`](crate::Tail::Pad)) and are to be left out of an
    /// evaluation.
    pub fn num_padded(&self) -> usize {
        self.cargo().num_padded
    }

    /// The data alone. Its memory is not used for a later batch.
    pub fn into_inner(mut self) -> D {
        let data = self.cargo.as_mut().and_then(|cargo| cargo.data.take());
        data.expect("a batch has its data until it is taken apart")
    }
}

impl<D> Deref for Batch<D> {
    type Target = D;

    fn deref(&self) -> &D {
        self.cargo().data.as_ref().expect("a batch has its data until it is taken apart")
    }
}

impl<D> DerefMut for Batch<D> {
    fn deref_mut(&mut self) -> &mut D {
        let data = self.cargo.as_mut().and_then(|cargo| cargo.data.as_mut());
        data.expect("a batch has its data until it is taken apart")
    }
}

impl<D> Drop for Batch<D> {
    fn drop(&mut self) {
        if let Some(mut cargo) = self.cargo.take()
            && let Some(home) = cargo.home.upgrade()
        {
            if !home.keeps_data {
                cargo.data = None;
            }
            // One too many is freed.
            drop(home.spares.push(cargo));
        }
    }
}

impl<D: fmt::Debug> fmt::Debug for Batch<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("epoch", &self.epoch())
            .field("number", &self.number())
            .field("indices", &self.indices())
            .field("data", &**self)
            .finish()
    }
}
