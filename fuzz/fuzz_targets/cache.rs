//! Any bytes, taken for a cache file that is complete or begun, give what a trivial reader finds in them: the file's
//! samples where their checksums are right, the sequence's own otherwise, or an error; and a file that was begun is
//! completed with these. Never a panic, and never more memory than the file's size justifies.
#![no_main]

#[path = "../../tests/it/fuzzed/cache.rs"]
mod cache;

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

/// The longest header, messages, the rows of the property, and what it copies.
const CONSTANT_BYTES: usize = 512 << 10;

fuzz_target!(|data: &[u8]| {
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    cache::check(data);
    let used = PEAK.load(Ordering::Relaxed) - before;
    assert!(used <= CONSTANT_BYTES + 16 * data.len(), "{used} bytes for {}", data.len());
});
