//! Any bytes, taken for a text file, give the lines that a trivial reader gives, or an error for each that is not UTF-8
//! or too long. Never a panic, and no memory but for the places of the lines.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/lines.rs"]
mod lines;

use libfuzzer_sys::fuzz_target;
use procession::source::Lines;

fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let (opened, used) = counting::with_peak(|| Lines::from_bytes(bytes, "fuzzed"));
    // A vector that grows holds its old and its new memory for a moment.
    let justified = (4 << 10) + 12 * (1 + lines::read(data).len());
    assert!(used <= justified, "{used} bytes for {}: {opened:?}", data.len());
    lines::check(data);
});
