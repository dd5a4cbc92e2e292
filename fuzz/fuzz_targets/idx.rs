//! Any bytes, taken for an IDX file, plain or compressed, give what a trivial reader gives: the same array, or an error
//! where that finds none. Never a panic, and never more memory than what is really there can fill.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/idx.rs"]
mod idx;

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use procession::source::Idx;

/// The state of the decompressor, messages, and the first piece that is read.
const CONSTANT_BYTES: usize = 256 << 10;

fn memory_is_justified(data: &[u8]) {
    let plain = if data.starts_with(&[0x1f, 0x8b]) {
        std::io::copy(&mut flate2::read::MultiGzDecoder::new(data).take(1 << 20), &mut std::io::sink())
            // Damaged somewhere: what can be decompressed before is not more than any such stream can hold.
            .unwrap_or(1032 * data.len() as u64)
    } else {
        0
    };
    let bytes = data.to_vec();
    let open = || Idx::options().limit_bytes(1 << 20).from_bytes(bytes, "fuzzed");
    let (idx, used) = counting::with_peak(open);
    // A vector that grows holds its old and its new memory for a moment.
    let justified = CONSTANT_BYTES + 3 * plain.min(1 << 20) as usize;
    assert!(used <= justified, "{used} bytes for {} and {plain} decompressed: {idx:?}", data.len());
}

fuzz_target!(|data: &[u8]| {
    memory_is_justified(data);
    idx::check(data);
});
