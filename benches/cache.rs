//! Samples from a cache on disk against a bare copy of memory: images of 200 x 200 x 3, as `f32`, and as `u8` scaled to
//! `f32`.
//!
//! `cargo bench --features disk-cache --bench cache [NAME..]` makes a file of decoded samples in the folder for temporary
//! files, 720 MB for `f32`, and prints images a second and their ratio to the first row: two threads that copy from the
//! mapped file into a batch each that they use again. Run it with nothing else going on. `PROCESSION_REPEATS` sets the
//! number of rounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{at_least, drain, table};
use ndarray::{Array3, Ix3};
use procession::compose::Record;
use procession::source::{FromFill, Mapped};
use procession::{Element, Loader, Result, Sampler, Sequence, SequenceExt, Shuffle, Stack, from_fill};

const NUM_IMAGES: usize = 1500;
const SHAPE: (usize, usize, usize) = (200, 200, 3);
const IMAGE: usize = 200 * 200 * 3;
const BATCH: usize = 32;

fn main() {
    let folder = std::env::temp_dir().join(format!("procession-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    common::run(&[("floats", &|| floats(&folder)), ("bytes", &|| bytes(&folder))]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Images whose elements differ.
fn images<T: Element>(
    element: fn(usize) -> T,
) -> FromFill<T, Ix3, impl Fn(usize, &mut [T]) -> Result<()> + Send + Sync> {
    from_fill(NUM_IMAGES, SHAPE, move |index, row: &mut [T]| {
        row.iter_mut().zip(index..).for_each(|(to, at)| *to = element(at));
        Ok(())
    })
}

/// The complete cache in a file, which is made the first time.
fn cached<T: Element>(path: &Path, element: fn(usize) -> T) -> impl Sequence<Sample = Array3<T>> + use<T>
where
    Array3<T>: Record + Stack<Layout = Ix3>,
{
    let cached = images(element).cached_on_disk(path, "").unwrap();
    cached.prepare(2, |_| Ok(())).unwrap();
    cached
}

/// The images of a mapped file as bytes. They are about what the file ends with; where exactly each begins plays no part.
fn image(mapped: &Mapped, image_len: usize, index: usize) -> &[u8] {
    let start = mapped.len() - NUM_IMAGES * image_len;
    &mapped[start + index * image_len..][..image_len]
}

/// Copies every image in a shuffled order, on as many threads as there are batches: each uses its own again.
fn by_hand<T: Send>(batches: &mut [Vec<T>], copy: impl Fn(usize, &mut [T]) + Sync) {
    let mut order = vec![0; NUM_IMAGES];
    Shuffle::new(NUM_IMAGES as u64, 1).fill(0, 0, 1, &mut order);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for batch in batches {
            let (next, order, copy) = (&next, &order, &copy);
            scope.spawn(move || {
                let row_len = batch.len() / BATCH;
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= NUM_IMAGES {
                        return;
                    }
                    for (row, &index) in batch.chunks_exact_mut(row_len).zip(&order[first..]) {
                        copy(index as usize, row);
                    }
                    black_box(&mut *batch);
                }
            });
        }
    });
}

fn floats(folder: &Path) {
    let path = folder.join("floats");
    let loader = |workers| {
        let cached = cached(&path, |at| at as f32);
        Loader::builder(cached).shuffle(1).batch_size(BATCH).workers(workers).build().unwrap()
    };
    let (zero, one, two) = (loader(0), loader(1), loader(2));
    let mapped = Mapped::open(&path).unwrap();
    let direct = cached(&path, |at| at as f32);
    // As bytes: a copy, and nothing else.
    let mut batches = [vec![0_u8; BATCH * IMAGE * 4], vec![0; BATCH * IMAGE * 4]];
    let mut single = vec![vec![0_u8; BATCH * IMAGE * 4]];
    let mut rows = [vec![0.0; BATCH * IMAGE], vec![0.0; BATCH * IMAGE]];
    let mut single_rows = vec![vec![0.0; BATCH * IMAGE]];
    let copy = |index: usize, row: &mut [u8]| row.copy_from_slice(image(&mapped, IMAGE * 4, index));
    let get_into = |index: usize, row: &mut [f32]| direct.get_into(index, row).unwrap();
    let times = table(
        "f32 images of 200 x 200 x 3 from a complete cache file, shuffled, batch 32",
        "images/s",
        NUM_IMAGES as f64,
        &mut [
            ("memcpy from the mapped file, 2 threads", &mut || by_hand(&mut batches, copy)),
            ("the cache without a loader, 2 threads", &mut || by_hand(&mut rows, get_into)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
            ("memcpy from the mapped file, 1 thread", &mut || by_hand(&mut single, copy)),
            ("the cache without a loader, 1 thread", &mut || by_hand(&mut single_rows, get_into)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 0 workers", &mut || drain(&zero, 0)),
        ],
    );
    at_least("2 workers, images a second", 15_000.0, times.seconds(2).map(|time| NUM_IMAGES as f64 / time));
}

fn bytes(folder: &Path) {
    let path = folder.join("bytes");
    let loader = |workers| {
        let cached = cached(&path, |at| (at * 31 % 256) as u8);
        let loader = Loader::builder(cached).map(|image: Array3<u8>| image.mapv(|byte| f32::from(byte) / 255.0));
        loader.shuffle(1).batch_size(BATCH).workers(workers).build().unwrap()
    };
    let (zero, one, two) = (loader(0), loader(1), loader(2));
    let mapped = Mapped::open(&path).unwrap();
    let mut batches = [vec![0.0_f32; BATCH * IMAGE], vec![0.0; BATCH * IMAGE]];
    let mut single = vec![vec![0.0_f32; BATCH * IMAGE]];
    let scale = |index: usize, row: &mut [f32]| {
        row.iter_mut().zip(image(&mapped, IMAGE, index)).for_each(|(to, &byte)| *to = f32::from(byte) / 255.0);
    };
    table(
        "u8 images of 200 x 200 x 3 from a complete cache file, scaled to f32, shuffled, batch 32",
        "images/s",
        NUM_IMAGES as f64,
        &mut [
            ("plain loop over the mapped file, 2 threads", &mut || by_hand(&mut batches, scale)),
            ("plain loop over the mapped file, 1 thread", &mut || by_hand(&mut single, scale)),
            ("loader with map, 0 workers", &mut || drain(&zero, 0)),
            ("loader with map, 1 worker", &mut || drain(&one, 0)),
            ("loader with map, 2 workers", &mut || drain(&two, 0)),
        ],
    );
}
