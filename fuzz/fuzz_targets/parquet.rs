//! Any bytes, taken for a Parquet file, give what the parquet crate's own reader gives, or an error. Never a panic, and
//! never more memory than the limit and the file's length justify.
#![no_main]

#[path = "../../tests/it/fuzzed/parquet.rs"]
mod parquet;
#[path = "../../tests/it/fuzzed/table.rs"]
mod table;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;

/// The system's allocator, which remembers how much was in use at once.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; the counters only look on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(used, Ordering::Relaxed);
        // SAFETY: the caller's duties are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `start` came from `alloc`, which took it from the system's allocator.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The state of the decompressors, messages, and the first pieces of whatever grows.
const CONSTANT_BYTES: usize = 512 << 10;

/// A column takes a byte in the footer at least, and some hundreds in memory.
const BYTES_PER_BYTE: usize = 512;

fn memory_is_justified(data: &[u8]) {
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let table = parquet::open(data, 0);
    if let Ok(table) = &table
        && let Some((name, _)) = table.schema().last()
    {
        table::touch(table, name);
    }
    let used = PEAK.load(Ordering::Relaxed) - before;
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
