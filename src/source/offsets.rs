//! Where the lines or rows of a file begin.

use crate::error::{Error, ErrorKind, Result};

/// Places in a file in ascending order, 4 bytes each, however large the file is.
#[derive(Default)]
pub(super) struct Offsets {
    /// The lower half of each.
    low: Vec<u32>,
    /// For each number that the upper half has reached, how many places there were before.
    // Invariant: ascending; the upper half of place `i` is how many of these are at most `i`.
    steps: Vec<usize>,
}

impl Offsets {
    /// Adds a place, which must not be before the last one.
    ///
    /// # Errors
    ///
    /// Of kind [`Limit`](ErrorKind::Limit) if there is no memory for one more.
    pub(super) fn push(&mut self, offset: u64) -> Result<()> {
        self.low.try_reserve(1).map_err(|cause| {
            let message = format!("not enough memory for the places of more than {} lines", self.low.len());
            Error::new(ErrorKind::Limit, message).with_cause(cause)
        })?;
        while (self.steps.len() as u64) < offset >> u32::BITS {
            self.steps.push(self.low.len());
        }
        self.low.push(offset as u32);
        Ok(())
    }

    /// Gives back the memory that more places would have taken.
    pub(super) fn shrink(mut self) -> Self {
        self.low.shrink_to_fit();
        self
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> usize {
        let high = self.steps.partition_point(|&step| step <= index) as u64;
        let offset = high << u32::BITS | u64::from(self.low[index]);
        usize::try_from(offset).expect("a place in bytes that are in the address space")
    }

    pub(super) fn len(&self) -> usize {
        self.low.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn places_of_any_size_come_back() {
        const STEP: u64 = 1 << 32;
        for places in [
            &[][..],
            &[0, 1, 1, 7],
            &[0, STEP - 1, STEP, STEP + 1, 2 * STEP],
            &[5 * STEP + 3, 5 * STEP + 3, 9 * STEP],
            &[3, 3 * STEP],
        ] {
            let mut offsets = Offsets::default();
            places.iter().for_each(|&place| offsets.push(place).unwrap());
            assert_eq!(offsets.len(), places.len());
            let found: Vec<u64> = (0..places.len()).map(|index| offsets.get(index) as u64).collect();
            assert_eq!(found, places);
        }
    }
}
