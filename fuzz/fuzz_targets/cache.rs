//! Any bytes, taken for a cache file that is complete or begun, give what a trivial reader finds in them: the file's
//! samples where their checksums are right, the sequence's own otherwise, or an error; and a file that was begun is
//! completed with these. Never a panic, and never more memory than the file's size justifies.
#![no_main]

#[path = "../../tests/it/fuzzed/cache.rs"]
mod cache;
#[path = "../../tests/common/counting.rs"]
mod counting;

use libfuzzer_sys::fuzz_target;

/// The longest header, messages, the rows of the property, and what it copies.
const CONSTANT_BYTES: usize = 512 << 10;

fuzz_target!(|data: &[u8]| {
    let ((), used) = counting::with_peak(|| cache::check(data));
    assert!(used <= CONSTANT_BYTES + 16 * data.len(), "{used} bytes for {}", data.len());
});
