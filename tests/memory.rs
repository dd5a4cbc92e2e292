//! What is allocated, counted: nothing per sample in the steady state, and nothing that stays after early drops.
//!
//! One test in a process of its own, as the count is of the whole process.

#[path = "common/counting.rs"]
mod counting;

use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array1, Array2};
use procession::source::Idx;
use procession::{Loader, SequenceExt, Window, from_fill};

use counting::{ALLOCATIONS, LIVE_BYTES, PEAK_BYTES};

/// The allocations that each batch of the later epochs costs.
fn per_batch<B: Send + 'static>(loader: &Loader<B>) -> f64 {
    let epochs = 8;
    let mut batches = 0;
    let mut before = 0;
    for epoch in loader.epochs(0..epochs) {
        // The first epochs fill the pool of spare memory.
        if epoch.number() == 4 {
            (batches, before) = (0, ALLOCATIONS.load(Ordering::Relaxed));
        }
        for batch in epoch {
            drop(batch.expect("no sample fails"));
            batches += 1;
        }
    }
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / f64::from(batches)
}

const MIB: usize = 1 << 20;

/// The most bytes that were live at once while batches were taken, beyond those before. The first batch is taken when as
/// many samples are loaded as the window has room for, which workers do without being asked.
fn peak_of<B: Send + 'static>(build: impl FnOnce() -> Loader<B>, loaded: &AtomicUsize, room: usize) -> usize {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let loader = build();
    loaded.store(0, Ordering::Relaxed);
    let mut epoch = loader.epoch(0);
    while loaded.load(Ordering::Relaxed) < room {
        std::thread::yield_now();
    }
    epoch.by_ref().for_each(|batch| drop(batch.expect("no sample fails")));
    PEAK_BYTES.load(Ordering::Relaxed) - before
}

/// The window bounds the bytes that are live, whatever the number of workers.
fn the_window_bounds_memory() {
    const BATCH: usize = 4;
    let loaded = std::sync::Arc::new(AtomicUsize::new(0));
    let count = || std::sync::Arc::clone(&loaded);
    for workers in [1, 4, 16] {
        // Threads, their accounts, and what a batch has besides its rows.
        let constant = MIB / 2;
        for (window, room) in [(Window::Batches(2), 2 * BATCH), (Window::Batches(6), 6 * BATCH)] {
            let counted = count();
            let rows = from_fill(60, MIB, move |index, row: &mut [u8]| {
                row.fill(index as u8);
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            let build = || Loader::builder(rows).batch_size(BATCH).workers(workers).window(window).build();
            let peak = peak_of(|| build().expect("the options are sound"), &loaded, room);
            // The window, and the batch that the consumer holds.
            let most = (room + BATCH) * MIB + constant;
            assert!(
                (room * MIB..=most).contains(&peak),
                "{peak} bytes at most with {workers} workers, expected {most} for a window of {room} samples"
            );
        }
        let (counted, limit) = (count(), 12);
        let vectors = procession::from_fn(60, move |index| {
            let sample = vec![index as u8; MIB];
            counted.fetch_add(1, Ordering::Relaxed);
            sample
        });
        let loader = Loader::builder(vectors).collate(Ok).measure(|sample: &Vec<u8>| sample.len()).batch_size(BATCH);
        let build = || loader.workers(workers).window(Window::Bytes((limit * MIB) as u64)).build();
        let peak = peak_of(|| build().expect("the options are sound"), &loaded, limit);
        // The size of a sample is known once one is there, and until then there is one at a time; all are of that size.
        let most = (limit + BATCH) * MIB + constant;
        assert!(
            (limit * MIB..=most).contains(&peak),
            "{peak} bytes at most with {workers} workers, expected {most} for a window of {limit} MiB"
        );
    }
}

#[test]
fn memory() {
    the_window_bounds_memory();

    // A few for each batch, whatever its number of samples: 256 here.
    let rows = 20_000;
    let labels: Array1<u32> = (0..rows as u32).collect();
    let mut idx = vec![0, 0, 8, 3];
    for extent in [rows as u32, 4, 4] {
        idx.extend(extent.to_be_bytes());
    }
    idx.resize(16 + rows * 16, 7);
    let images = Idx::from_bytes(idx, "rows").and_then(|idx| idx.images()).expect("the header fits");
    let images = images.flatten().unit();
    let floats = Array2::<f32>::zeros((rows, 8));
    let filled = from_fill(rows, 5, |index, row: &mut [f64]| {
        row.fill(index as f64);
        Ok(())
    });
    #[cfg(feature = "disk-cache")]
    let (folder, path) = {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("cache");
        let cached = filled.clone().cached_on_disk(&path, "").expect("a file can be made");
        cached.prepare(1, |_| Ok(())).expect("it can be filled");
        (folder, path)
    };
    for workers in [0, 1, 3] {
        macro_rules! check {
            ($what:literal, $source:expr) => {
                let loader = Loader::builder($source).shuffle(1).batch_size(256).workers(workers).build();
                let cost = per_batch(&loader.expect("the options are sound"));
                assert!(cost < 4.0, "{}: {cost} allocations a batch of 256 with {workers} workers", $what);
            };
        }
        check!("numbers", labels.clone());
        check!("rows of an array", floats.clone());
        check!("rows of a file, as f32, with labels", images.clone().zip(labels.clone()).expect("equal lengths"));
        check!("a function that fills rows", filled.clone());
        #[cfg(feature = "disk-cache")]
        check!("a complete cache on disk", filled.clone().cached_on_disk(&path, "").expect("the file is there"));
        check!("arrays by value", (0..rows as u32).map(|number| [number; 4]).collect::<Vec<_>>());
    }
    #[cfg(feature = "disk-cache")]
    drop(folder);

    // A thousand early drops leave nothing behind.
    let loader = Loader::builder(floats.clone()).shuffle(1).batch_size(64).workers(3).window(Window::Batches(8));
    let loader = loader.build().expect("the options are sound");
    let leave_early = |rounds: u64| {
        for round in 0..rounds {
            let mut epoch = loader.epoch(round);
            (0..round % 3).for_each(|_| drop(epoch.next()));
        }
        // Workers may still hold what they were at; a whole epoch waits for them.
        loader.epoch(0).for_each(drop);
    };
    leave_early(300);
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    leave_early(1000);
    let after = LIVE_BYTES.load(Ordering::Relaxed);
    // The window's batches of 64 rows of 32 bytes with their indices, and some bookkeeping.
    let slack = 16 * 64 * 40 + 20_000;
    assert!(after <= before + slack, "{before} bytes before a thousand early drops, {after} after");

    // A batch that is held keeps its own memory alive when the loader is gone, and not that of others.
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let loader = Loader::builder(floats.clone()).batch_size(1000).workers(2).build().expect("the options are sound");
    let held = loader.epoch(0).collect::<Vec<_>>().swap_remove(3).expect("no sample fails");
    drop(loader);
    let kept = LIVE_BYTES.load(Ordering::Relaxed) - before;
    assert!(kept < 3 * 1000 * 40, "{kept} bytes are kept by one batch");
    drop(held);

    // The length of a plan costs nothing. A fixed window, as one that is left to the loader grows with the machine's load.
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let long = procession::from_fn(1_000_000_000_000, |index| index as u64);
    let loader =
        Loader::builder(long).shuffle(1).workers(1).window(Window::Batches(4)).build().expect("the options are sound");
    assert!(loader.epoch(0).next().is_some());
    let taken = LIVE_BYTES.load(Ordering::Relaxed) - before;
    assert!(taken < 200_000, "{taken} bytes for a plan of 10^12");
}
