use super::{Sampler, check_position, check_run, positions};

/// Every index in turn, the same in every epoch.
///
/// # Examples
///
/// ```
/// use procession::{InOrder, Sampler};
///
/// let sampler = InOrder::new(10);
/// assert_eq!(sampler.index(5, 3), 3);
/// assert_eq!(sampler.describe(), "in_order(len=10)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InOrder {
    len: u64,
}

impl InOrder {
    /// Makes the order `0, 1, ..., len - 1`.
    pub const fn new(len: u64) -> Self {
        Self { len }
    }
}

impl Sampler for InOrder {
    fn len(&self) -> u64 {
        self.len
    }

    fn bound(&self) -> u64 {
        self.len
    }

    #[inline]
    fn index(&self, _epoch: u64, position: u64) -> u64 {
        check_position(self.len, position);
        position
    }

    fn fill(&self, _epoch: u64, first: u64, step: u64, out: &mut [u64]) {
        check_run(self.len, first, step, out.len());
        out.iter_mut().zip(positions(first, step)).for_each(|(slot, position)| *slot = position);
    }

    fn describe(&self) -> String {
        format!("in_order(len={})", self.len)
    }

    fn is_permutation(&self) -> bool {
        true
    }
}
