//! Consecutive samples in groups.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::sequence::{Sequence, check_index};

/// Groups of consecutive samples; made by [`window`](super::SequenceExt::window).
///
/// The file of a group is that of its first sample.
#[derive(Debug, Clone)]
pub struct Windows<S> {
    inner: S,
    size: usize,
    stride: usize,
    // Invariant: `(len - 1) * stride + size` is at most the length of `inner`, so no index below overflows.
    len: usize,
}

impl<S: Sequence> Windows<S> {
    pub(super) fn new(inner: S, size: usize, stride: usize) -> Result<Self> {
        if size == 0 || stride == 0 {
            let message = format!("windows of {size} samples, one every {stride}, expected at least 1 of both");
            return Err(Error::argument(message));
        }
        let len = inner.len().checked_sub(size).map_or(0, |last| last / stride + 1);
        Ok(Self { inner, size, stride, len })
    }

    fn indices(&self, index: usize) -> std::ops::Range<usize> {
        check_index(index, self.len);
        let start = index * self.stride;
        start..start + self.size
    }
}

impl<S: Sequence> Sequence for Windows<S> {
    type Sample = Vec<S::Sample>;

    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, index: usize) -> Result<Self::Sample> {
        self.indices(index).map(|index| self.inner.get(index)).collect()
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        self.indices(index).map(|index| self.inner.size_bytes(index)).sum()
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.inner.file(self.indices(index).start)
    }
    fn barrier(&self) -> bool {
        self.inner.barrier()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.inner.on_epoch_start(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SequenceExt;
    use crate::sequence::Sequence;
    use crate::testing::{Told, check_rows, samples};

    #[test]
    fn windows_keep_the_contract_and_what_is_known() {
        let windows = Told::new(7).window(3, 2).unwrap();
        check_rows(&windows);
        assert_eq!(samples(&windows), [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0], [4.0, 5.0, 6.0]]);
        Told::assert_known(&windows, 2, 4);
        let told = Told::new(7);
        assert_eq!(windows.size_bytes(1), (2..5).map(|index| told.size_bytes(index)).sum());
    }

    #[test]
    fn only_whole_windows_count() {
        for (len, size, stride, expected) in
            [(0, 1, 1, 0), (2, 3, 1, 0), (3, 3, 1, 1), (5, 3, 1, 3), (8, 3, 2, 3), (8, 2, 3, 3), (9, 1, 100, 1)]
        {
            let windows = Told::new(len).window(size, stride).unwrap();
            assert_eq!(windows.len(), expected, "{len} samples, size {size}, stride {stride}");
            check_rows(&windows);
        }
        assert!(Told::new(3).window(0, 1).is_err());
        assert!(Told::new(3).window(1, 0).is_err());
    }
}
