//! Any bytes, taken for an IDX file, plain or compressed, give what a trivial reader gives: the same array, or an error
//! where that finds none. Never a panic, and never more memory than what is really there can fill.
#![no_main]

#[path = "../../tests/it/fuzzed/idx.rs"]
mod idx;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;
use procession::source::Idx;

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

/// The state of the decompressor, messages, and the first piece that is read.
const CONSTANT_BYTES: usize = 256 << 10;

fn memory_is_justified(data: &[u8]) {
    let plain = if data.starts_with(&[0x1f, 0x8b]) {
        std::io::copy(&mut flate2::read::MultiGzDecoder::new(data).take(1 << 20), &mut std::io::sink())
            // Damaged somewhere: what can be decompressed before is not more than any such stream can hold.
            .unwrap_or(1032 * data.len() as u64)
    } else {
        0
    };
    let bytes = data.to_vec();
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let idx = Idx::options().limit_bytes(1 << 20).from_bytes(bytes, "fuzzed");
    let used = PEAK.load(Ordering::Relaxed) - before;
    // A vector that grows holds its old and its new memory for a moment.
    let justified = CONSTANT_BYTES + 3 * plain.min(1 << 20) as usize;
    assert!(used <= justified, "{used} bytes for {} and {plain} decompressed: {idx:?}", data.len());
}

fuzz_target!(|data: &[u8]| {
    memory_is_justified(data);
    idx::check(data);
});
