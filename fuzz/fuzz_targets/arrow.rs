//! Any bytes, taken for an Arrow file, give what the arrow crate's own reader gives: the same values, or an error where it
//! finds none. Never a panic, and never more memory than the file's length justifies.
#![no_main]

#[path = "../../tests/it/fuzzed/arrow.rs"]
mod arrow;
#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/table.rs"]
mod table;

use libfuzzer_sys::fuzz_target;
use procession::source::ArrowTable;

/// Messages, and the first pieces of whatever grows.
const CONSTANT_BYTES: usize = 64 << 10;

/// A field of a schema takes 8 bytes in the file at least, and some hundreds in memory.
const BYTES_PER_BYTE: usize = 64;

fn memory_is_justified(data: &[u8]) {
    let bytes = data.to_vec();
    let (table, used) = counting::with_peak(|| {
        let table = ArrowTable::from_bytes(bytes, "fuzzed");
        if let Ok(table) = &table
            && let Some((name, _)) = table.schema().last()
        {
            table::touch(table, name);
        }
        table
    });
    let justified = CONSTANT_BYTES + BYTES_PER_BYTE * data.len();
    assert!(used <= justified, "{used} bytes for {}: {:?}", data.len(), table.map(drop));
}

/// A panic of the crates, which is caught, does not end the run.
fn let_others_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("/registry/")) {
            hook(panic);
        }
    }));
}

fuzz_target!(init: let_others_panic(), |data: &[u8]| {
    memory_is_justified(data);
    arrow::check(data);
});
