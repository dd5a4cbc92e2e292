//! Any bytes, taken for an `.npy` file, give what a trivial reader gives: the same array, or an error where that finds
//! none. Never a panic, and no memory but for the shape and a message.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/npy.rs"]
mod npy;

use libfuzzer_sys::fuzz_target;
use procession::source::Npy;

fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let (npy, used) = counting::with_peak(|| Npy::from_bytes(bytes, "fuzzed"));
    assert!(used <= 16 << 10, "{used} bytes for {}: {npy:?}", data.len());
    npy::check(data);
});
