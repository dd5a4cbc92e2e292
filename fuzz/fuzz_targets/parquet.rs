//! Any bytes, taken for a Parquet file, give what the parquet crate's own reader gives, or an error. Never a panic, and
//! never more memory than the limit and the file's length justify.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/parquet.rs"]
mod parquet;
#[path = "../../tests/it/fuzzed/table.rs"]
mod table;

use libfuzzer_sys::fuzz_target;

/// The state of the decompressors, messages, and the first pieces of whatever grows.
const CONSTANT_BYTES: usize = 512 << 10;

/// A column takes a byte in the footer at least, and some hundreds in memory.
const BYTES_PER_BYTE: usize = 512;

fn memory_is_justified(data: &[u8]) {
    let (table, used) = counting::with_peak(|| {
        let table = parquet::open(data, 0);
        if let Ok(table) = &table
            && let Some((name, _)) = table.schema().last()
        {
            table::touch(table, name);
        }
        table
    });
    let justified = CONSTANT_BYTES + BYTES_PER_BYTE * data.len() + 3 * parquet::LIMIT_BYTES as usize;
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
    parquet::check(data);
});
