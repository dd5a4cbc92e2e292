//! Any bytes, taken for an `.npz` archive, are one or an error; what is read of it the crate `zip` reads, too. Arrays
//! put into an archive come out of it, and a damaged archive does not give another array where there is a checksum.
//! Never a panic, and never more memory than what is really there can fill.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/npz.rs"]
mod npz;

use libfuzzer_sys::fuzz_target;
use procession::source::Npz;

/// The state of the decompressor, messages, and the first piece that is read.
const CONSTANT_BYTES: usize = 256 << 10;

fn memory_is_justified(data: &[u8]) {
    let bytes = data.to_vec();
    let open = || Npz::options().limit_bytes(npz::LIMIT_BYTES).from_bytes(bytes, "fuzzed");
    let (npz, used) = counting::with_peak(open);
    // Lists of members grow, an entry of 46 bytes becomes one of twice as many, and a name is kept.
    let justified = (16 << 10) + 10 * data.len();
    assert!(used <= justified, "{used} bytes for {}: {npz:?}", data.len());
    let Ok(npz) = npz else { return };
    for name in npz.names() {
        let (npy, used) = counting::with_peak(|| npz.array(name));
        // A vector that grows holds its old and its new memory for a moment.
        let plain = npy.as_ref().map_or(1032 * data.len(), |npy| npy.data().len() + 1024);
        let justified = CONSTANT_BYTES + 3 * plain.min(npz::LIMIT_BYTES as usize);
        assert!(used <= justified, "{used} bytes for {} and {plain} decompressed: {npy:?}", data.len());
    }
}

fuzz_target!(|data: &[u8]| {
    memory_is_justified(data);
    npz::check(data);
});
