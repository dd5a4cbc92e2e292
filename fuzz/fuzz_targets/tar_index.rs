//! Any bytes, taken for a kept index of a tar archive, with a right checksum too, are one whose fields lie within the
//! archive, one after the other, or an error. Never a panic, and never more memory than the archive or the bytes justify.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/tar_index.rs"]
mod tar_index;

use libfuzzer_sys::fuzz_target;
use procession::source::TarIndex;

/// Messages, and the first room of each table.
const CONSTANT_BYTES: usize = 16 << 10;

fn memory_is_justified(data: &[u8]) {
    let data = tar_index::with_checksum(data);
    let size_bytes = tar_index::archive_bytes(&data);
    let (index, used) = counting::with_peak(|| TarIndex::from_bytes(&data, size_bytes, b"v"));
    // A field takes three bytes at least, and 24 in memory; a table that grows is there twice.
    assert!(used <= CONSTANT_BYTES + 64 * data.len(), "{used} bytes for {}: {index:?}", data.len());
}

fuzz_target!(|data: &[u8]| {
    memory_is_justified(data);
    tar_index::check(data);
});
