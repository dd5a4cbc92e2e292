//! Any bytes, taken for a tar archive, with right checksums too, are samples that lie within it, or an error; where a
//! trivial reader knows what they mean, it is the same samples. Never a panic, and never more memory than the headers
//! that are really there can fill.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/tar.rs"]
mod tar;

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use procession::source::TarIndex;

/// Messages, and the first room of each table.
const CONSTANT_BYTES: usize = 16 << 10;

fn memory_is_justified(data: &[u8]) {
    let (index, used) = counting::with_peak(|| TarIndex::scan(Cursor::new(data), "fuzzed"));
    // A name can stand in a list, in a table and, in lower case, once more; a table that grows is there twice.
    assert!(used <= CONSTANT_BYTES + 4 * data.len(), "{used} bytes for {}: {index:?}", data.len());
}

fuzz_target!(|data: &[u8]| {
    memory_is_justified(data);
    tar::check(data);
});
