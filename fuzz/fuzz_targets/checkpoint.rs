//! Any bytes taken for a checkpoint, or for a file of weights, are one or an error, with a right checksum too; a trainer
//! goes on from what is one, or refuses it and is as it was. Never a panic.
#![no_main]

#[path = "../../tests/it/fuzzed/checkpoint.rs"]
mod checkpoint;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| checkpoint::check(data));
