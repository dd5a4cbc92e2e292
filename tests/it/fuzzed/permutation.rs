//! A shuffle of any length, with any seed, in any epoch, maps positions to indices one-to-one, and gives the same one
//! by one and in bulk.

use std::collections::HashSet;

use procession::{BlockShuffle, Sampler, Shuffle, WindowShuffle};

/// Up to here every position is tried.
const SMALL: u64 = 5000;

/// Reads numbers off the input; missing bytes are zero.
fn number(bytes: &mut &[u8]) -> u64 {
    let (word, rest) = bytes.split_at(bytes.len().min(8));
    *bytes = rest;
    word.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

pub(crate) fn check(mut bytes: &[u8]) {
    let bytes = &mut bytes;
    let choice = number(bytes);
    // A length of any magnitude: of up to 0, 1, 2, ..., 63 bits.
    let len = number(bytes) % (1 << 63) + u64::from(choice % 251 == 250);
    let len = len >> (choice >> 8 & 63);
    let (seed, epoch) = (number(bytes), number(bytes));
    let sampler: Box<dyn Sampler> = match choice >> 16 & 3 {
        0 | 1 => Box::new(Shuffle::new(len, seed)),
        2 => Box::new(BlockShuffle::new(len, number(bytes).max(1), number(bytes).max(1), seed)),
        _ => Box::new(WindowShuffle::new(len, number(bytes).max(1), seed)),
    };
    assert_eq!((sampler.len(), sampler.bound(), sampler.is_permutation()), (len, len, true));
    if len == 0 {
        return;
    }
    if len <= SMALL {
        let mut all = vec![0; len as usize];
        sampler.fill(epoch, 0, 1, &mut all);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..len), "every index once: {} epoch {epoch}", sampler.describe());
    }
    // A stretch from anywhere, in steps of anything.
    let first = number(bytes) % len;
    let step = (number(bytes) >> (choice >> 24 & 63)).max(1);
    let num_left = (len - first).div_ceil(step);
    let mut stretch = vec![0; num_left.min(1 + (choice >> 32 & 255)) as usize];
    sampler.fill(epoch, first, step, &mut stretch);
    for (at, &index) in stretch.iter().enumerate() {
        let position = first + at as u64 * step;
        assert!(index < len, "index {index} at position {position} of {}", sampler.describe());
        assert_eq!(index, sampler.index(epoch, position), "position {position} of {}", sampler.describe());
    }
    assert_eq!(stretch.iter().collect::<HashSet<_>>().len(), stretch.len(), "{} epoch {epoch}", sampler.describe());
}
