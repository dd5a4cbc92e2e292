//! A shuffle of any length, with any seed, in any epoch, maps positions to indices one-to-one: in range, distinct on
//! any stretch, all of them where the length is small; and what it gives in bulk is what it gives one by one.
#![no_main]

#[path = "../../tests/it/fuzzed/permutation.rs"]
mod permutation;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| permutation::check(data));
