//! Any bytes, taken for a CSV file after one that chooses how it is read, give the fields that the crate `csv` gives, as
//! text and as numbers, or an error where its rows are of several lengths, a quote is not closed or its fields are not what
//! they shall be. Never a panic, and no more memory than for the parser, the names and the places of the rows.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/csv.rs"]
mod fuzzed_csv;

use libfuzzer_sys::fuzz_target;
use procession::source::Csv;

/// The parser and the room that it works in.
const CONSTANT_BYTES: usize = 128 << 10;

fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let (opened, used) = counting::with_peak(|| Csv::from_bytes(bytes, "fuzzed"));
    // For each byte that may be a row or a name of its own its place, while a list of them grows.
    let justified = CONSTANT_BYTES + 24 * data.len();
    assert!(used <= justified, "{used} bytes for {}: {opened:?}", data.len());
    fuzzed_csv::check(data);
});
