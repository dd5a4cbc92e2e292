//! The loader against a naive generator: one thread that makes batch after batch inside the training loop.
//!
//! `cargo bench --bench loader [NAME..]` prints, for each kind of work, rates and their ratio to the first row, which
//! is the limit or the baseline. Run it with nothing else going on. `PROCESSION_REPEATS` sets the number of rounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{arithmetic, arithmetic_of, at_least, at_most, drain, spin, table};
use ndarray::Array2;
use procession::source::{Idx, Mnist};
use procession::testing::Slow;
use procession::{Loader, Sampler, Sequence, Shuffle, Visit, Window, from_fn};

fn main() {
    common::run(&[
        ("hand-off", &hand_off),
        ("trivial", &trivial),
        ("rows", &rows),
        ("compute", &compute),
        ("skewed", &skewed),
        ("sleeping", &sleeping),
        ("overlap", &overlap),
        ("order", &order),
        ("straggler", &straggler),
        ("shipped", &shipped),
        ("identity", &identity),
    ]);
}

fn hand_off() {
    const BATCHES: usize = 1_000_000;
    let loader =
        |workers| Loader::builder(from_fn(BATCHES, |index| index)).ready_batches().workers(workers).build().unwrap();
    let (none, one, two) = (loader(0), loader(1), loader(2));
    let times = table(
        "hand-off of ready-made batches",
        "batch/s",
        BATCHES as f64,
        &mut [
            ("a plain loop", &mut || {
                (0..BATCHES).for_each(|index| {
                    black_box(index);
                })
            }),
            ("loader, 0 workers", &mut || drain(&none, 0)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
    for (way, name) in [(1, "0 workers"), (2, "1 worker"), (3, "2 workers")] {
        let ns = times.seconds(way).map(|time| time / BATCHES as f64 * 1e9);
        at_most(&format!("{name}, ns a batch"), 1000.0, ns);
    }
}

fn trivial() {
    const LEN: usize = 1_000_000;
    const BATCH: usize = 128;
    // One array for all ways: what is left of it in a cache is the same for each.
    let data = Arc::new(Array2::from_shape_fn((LEN, 8), |(row, column)| (row * 8 + column) as f32));
    let loader = |workers, shuffle| {
        let builder = Loader::builder(Arc::clone(&data)).batch_size(BATCH).workers(workers);
        if shuffle { builder.shuffle(1).build() } else { builder.build() }.unwrap()
    };
    let elements = data.as_slice().unwrap();
    // A fresh batch each time, filled from slices: what is written by way of ndarray's views is up to twice as slow.
    let naive = |order: &mut dyn FnMut(usize, &mut [u64])| {
        let mut indices = [0; BATCH];
        for start in (0..LEN).step_by(BATCH) {
            let count = BATCH.min(LEN - start);
            order(start, &mut indices[..count]);
            let mut batch = Vec::with_capacity(count * 8);
            for &index in &indices[..count] {
                batch.extend_from_slice(&elements[index as usize * 8..][..8]);
            }
            black_box(Array2::from_shape_vec((count, 8), batch).unwrap());
        }
    };
    let in_order = |start: usize, out: &mut [u64]| out.iter_mut().zip(start as u64..).for_each(|(to, from)| *to = from);
    let (zero, one, two) = (loader(0, false), loader(1, false), loader(2, false));
    let times = table(
        "trivial samples, 8 floats, batch 128, in order",
        "samples/s",
        LEN as f64,
        &mut [
            ("naive generator", &mut || naive(&mut { in_order })),
            ("loader, 0 workers", &mut || drain(&zero, 0)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
    at_least("0 workers, of the naive generator", 1.0, times.ratio(1, 0));
    at_least("2 workers, of the naive generator", 1.0, times.ratio(3, 0));
    let (zero, one, two) = (loader(0, true), loader(1, true), loader(2, true));
    let shuffle = Shuffle::new(LEN as u64, 1);
    let mut list: Vec<u64> = (0..LEN as u64).collect();
    let mut draws = Visit::new(1, 0, 0, 0).rng(0);
    let times = table(
        "the same, shuffled anew in every epoch",
        "samples/s",
        LEN as f64,
        &mut [
            ("naive generator, a list that it shuffles", &mut || {
                for last in (1..LEN).rev() {
                    list.swap(last, draws.below(last as u64 + 1) as usize);
                }
                naive(&mut |start, out| out.copy_from_slice(&list[start..start + out.len()]));
            }),
            ("naive generator, order computed", &mut || naive(&mut |start, out| shuffle.fill(0, start as u64, 1, out))),
            ("loader, 0 workers", &mut || drain(&zero, 0)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
    at_least("0 workers, of the naive generator with a list", 1.0, times.ratio(2, 0));
    at_least("2 workers, of the naive generator with a list", 1.0, times.ratio(4, 0));
}

fn rows() {
    const LEN: usize = 60_000;
    const BATCH: usize = 128;
    const ROW: usize = 784;
    let mut bytes = vec![0, 0, 8, 3];
    for extent in [LEN as u32, 28, 28] {
        bytes.extend(extent.to_be_bytes());
    }
    bytes.extend((0..LEN * ROW).map(|at| (at * 31 % 256) as u8));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    std::fs::write(&path, &bytes).unwrap();
    let pixels = &bytes[16..];
    let images = Idx::open(&path).unwrap().images().unwrap().flatten().unit();
    let loader =
        |workers| Loader::builder(images.clone()).shuffle(1).batch_size(BATCH).workers(workers).build().unwrap();
    let mut order = vec![0_u64; LEN];
    Shuffle::new(LEN as u64, 1).fill(0, 0, 1, &mut order);
    let order = &order[..];
    // Each thread has every so many-th batch, and a buffer that it uses again.
    let on_threads = |buffers: &mut [Vec<f32>], write: &(dyn Fn(usize, &mut [f32]) + Sync)| {
        let threads = buffers.len();
        std::thread::scope(|scope| {
            for (thread, buffer) in buffers.iter_mut().enumerate() {
                scope.spawn(move || {
                    for batch in order.chunks(BATCH).skip(thread).step_by(threads) {
                        for (row, &index) in buffer.chunks_exact_mut(ROW).zip(batch) {
                            write(index as usize, row);
                        }
                        black_box(&mut *buffer);
                    }
                });
            }
        });
    };
    let gather = |index: usize, row: &mut [f32]| {
        let from = &pixels[index * ROW..][..ROW];
        row.iter_mut().zip(from).for_each(|(to, &from)| *to = f32::from(from) / 255.0);
    };
    let get_into = |index: usize, row: &mut [f32]| images.get_into(index, row).unwrap();
    let buffers = |threads: usize| vec![vec![0.0_f32; BATCH * ROW]; threads];
    let (mut alone, mut both, mut alone_too, mut both_too) = (buffers(1), buffers(2), buffers(1), buffers(2));
    let (zero, one, two) = (loader(0), loader(1), loader(2));
    let times = table(
        "mapped rows of 784 bytes, shuffled, to f32 batches of 128",
        "rows/s",
        LEN as f64,
        &mut [
            ("hand-written gather, 1 thread, reused batch", &mut || on_threads(&mut alone, &gather)),
            ("hand-written gather, 2 threads, reused batches", &mut || on_threads(&mut both, &gather)),
            ("naive generator: mapv and stack", &mut || {
                for batch in order.chunks(BATCH) {
                    let mut data = Array2::<f32>::zeros((batch.len(), ROW));
                    for (mut row, &index) in data.outer_iter_mut().zip(batch) {
                        let from = ndarray::ArrayView1::from(&pixels[index as usize * ROW..][..ROW]);
                        row.assign(&from.mapv(|byte| f32::from(byte) / 255.0));
                    }
                    black_box(&data);
                }
            }),
            ("get_into, 1 thread, reused batch", &mut || on_threads(&mut alone_too, &get_into)),
            ("get_into, 2 threads, reused batches", &mut || on_threads(&mut both_too, &get_into)),
            ("loader, 0 workers", &mut || drain(&zero, 0)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
    at_least("0 workers, of the gather on 1 thread", 0.9, times.ratio(5, 0));
    at_least("2 workers, of the gather on 2 threads", 0.9, times.ratio(7, 1));
    at_least("2 workers, of get_into on 2 threads", 0.9, times.ratio(7, 4));
}

fn compute() {
    const LEN: usize = 4000;
    let loader =
        |workers| Loader::builder(from_fn(LEN, arithmetic)).shuffle(1).batch_size(32).workers(workers).build().unwrap();
    let (one, two) = (loader(1), loader(2));
    let on_threads = |threads: usize| {
        std::thread::scope(|scope| {
            for part in 0..threads {
                scope.spawn(move || {
                    (part..LEN).step_by(threads).for_each(|index| {
                        black_box(arithmetic(index));
                    });
                });
            }
        });
    };
    table(
        "compute-heavy samples, 100 us each",
        "samples/s",
        LEN as f64,
        &mut [
            ("bare loop on 2 threads (the limit)", &mut || on_threads(2)),
            ("naive generator", &mut || on_threads(1)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
}

/// The work on 2 threads that take one sample after the other, with nobody waiting for any order.
fn one_by_one(len: usize, work: &(dyn Fn(usize) -> f32 + Sync)) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&index| index < len) {
                    black_box(work(index));
                }
            });
        }
    });
}

fn skewed() {
    const LEN: usize = 1000;
    let cost = |index: usize| if index % 20 == 7 { 50 } else { 1 };
    let work = move |index: usize| (0..cost(index)).map(|_| arithmetic(index)).sum::<f32>();
    let loader =
        |workers| Loader::builder(from_fn(LEN, work)).shuffle(1).batch_size(16).workers(workers).build().unwrap();
    let (one, two) = (loader(1), loader(2));
    let times = table(
        "skewed samples: 5 % cost 50 times the rest",
        "samples/s",
        LEN as f64,
        &mut [
            ("bare loop on 2 threads, as completed (the limit)", &mut || one_by_one(LEN, &work)),
            ("naive generator", &mut || {
                (0..LEN).for_each(|index| {
                    black_box(work(index));
                })
            }),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
    at_least("2 workers, of the bare loop", 0.95, times.ratio(3, 0));
}

fn sleeping() {
    const LEN: usize = 1280;
    let wait = Duration::from_millis(10);
    let source = Slow::sleeping((0..LEN).collect::<Vec<_>>(), move |_| wait);
    let loader = Loader::builder(source).batch_size(32).workers(64).build().unwrap();
    let times = table(
        "samples that wait 10 ms, 64 workers",
        "samples/s",
        LEN as f64,
        &mut [
            ("the limit: 64 at once", &mut || std::thread::sleep(wait * (LEN / 64) as u32)),
            ("loader, 64 workers", &mut || drain(&loader, 0)),
        ],
    );
    at_least("64 workers, of 64 at once", 0.97, times.ratio(1, 0));
}

fn overlap() {
    const BATCHES: usize = 400;
    for micros in [20, 200, 2000] {
        let cost = Duration::from_micros(micros);
        let source = Slow::spinning((0..BATCHES).collect::<Vec<_>>(), move |_| cost);
        let loader = Loader::builder(source).batch_size(1).workers(1).build().unwrap();
        let title = format!("a trainer and a loader of {micros} us a batch each, 1 worker");
        let times = table(
            &title,
            "batch/s",
            BATCHES as f64,
            &mut [
                ("perfect overlap", &mut || (0..BATCHES).for_each(|_| spin(cost))),
                ("loader and trainer", &mut || {
                    for batch in loader.epoch(0) {
                        black_box(&*batch.unwrap());
                        spin(cost);
                    }
                }),
            ],
        );
        at_least("of perfect overlap", 0.95, times.ratio(1, 0));
    }
}

/// What keeping order costs: the same engine, with a window as long as the epoch, delivers a batch as soon as it is
/// complete and its workers never wait for another one. What is left of a difference is that of the window.
fn order() {
    const LEN: usize = 10_000;
    const BATCH: usize = 16;
    // From 20 to 180 microseconds, as much of each.
    let work = |index: usize| arithmetic_of(index, 5000 + index * 7919 % 40_000);
    let loader = |window| {
        let builder = Loader::builder(from_fn(LEN, work)).shuffle(1).batch_size(BATCH).workers(2);
        builder.window(window).build().unwrap()
    };
    let (as_completed, in_order) = (loader(Window::Batches(LEN.div_ceil(BATCH))), loader(Window::Auto));
    let times = table(
        "samples of unequal costs, in order, 2 workers",
        "samples/s",
        LEN as f64,
        &mut [
            ("the engine, as completed", &mut || drain(&as_completed, 0)),
            ("bare loop on 2 threads, as completed", &mut || one_by_one(LEN, &work)),
            ("threads and a channel, as completed", &mut || by_channel(LEN, BATCH, &work)),
            ("loader, in order", &mut || drain(&in_order, 0)),
        ],
    );
    at_least("in order, of the same engine as completed", 0.97, times.ratio(3, 0));
}

/// Two threads that load a batch each and send it when it is there, to a consumer that takes what comes.
fn by_channel(len: usize, batch_size: usize, work: &(dyn Fn(usize) -> f32 + Sync)) {
    let next = AtomicUsize::new(0);
    let (done, batches) = std::sync::mpsc::sync_channel::<Vec<f32>>(8);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let first = next.fetch_add(batch_size, Ordering::Relaxed);
                    if first >= len {
                        return;
                    }
                    done.send((first..len.min(first + batch_size)).map(work).collect()).unwrap();
                }
            });
        }
        drop(done);
        batches.into_iter().for_each(|batch| {
            black_box(batch);
        });
    });
}

fn straggler() {
    const LEN: usize = 10_000;
    const WORKERS: usize = 16;
    const BATCH: usize = 32;
    let work = |index: usize| {
        std::thread::sleep(Duration::from_millis(if index == LEN / 2 { 1000 } else { 5 }));
        index as f32
    };
    let loader = |window| {
        let builder = Loader::builder(from_fn(LEN, work)).batch_size(BATCH).workers(WORKERS);
        builder.window(window).build().unwrap()
    };
    let (as_completed, in_order) = (loader(Window::Batches(LEN.div_ceil(BATCH))), loader(Window::Auto));
    let times = table(
        "one straggler of 1 s in 10,000 samples of 5 ms, in order, 16 workers",
        "samples/s",
        LEN as f64,
        &mut [
            ("the engine, as completed", &mut || drain(&as_completed, 0)),
            ("loader, in order", &mut || drain(&in_order, 0)),
        ],
    );
    at_least("in order, of the same engine as completed", 0.98, times.ratio(1, 0));
    let work = |index: usize| {
        if index == LEN / 2 {
            std::thread::sleep(Duration::from_millis(100));
        }
        arithmetic(index)
    };
    let loader = Loader::builder(from_fn(LEN, work)).batch_size(16).workers(2).build().unwrap();
    let times = table(
        "one straggler of 1,000 times the cost in 10,000 samples, in order, 2 workers",
        "samples/s",
        LEN as f64,
        &mut [
            ("bare loop on 2 threads, as completed (the limit)", &mut || one_by_one(LEN, &work)),
            ("loader, in order", &mut || drain(&loader, 0)),
        ],
    );
    at_least("in order, of the bare loop as completed", 0.98, times.ratio(1, 0));
}

/// The embedded images, as the trainer sees them.
fn shipped() {
    let mnist = Mnist::fashion_sample();
    let len = mnist.train.len() as f64;
    let loader = Loader::builder(mnist.train).shuffle(1).batch_size(128).workers(2).build().unwrap();
    table(
        "the shipped Fashion-MNIST images with labels",
        "samples/s",
        len,
        &mut [("loader, 2 workers", &mut || {
            drain(&loader, 0);
        })],
    );
}

/// A hash of all that an epoch delivers: data, indices, and where batches begin.
fn digest(workers: usize, len: usize) -> u64 {
    let source = from_fn(len, |index| [index as u64, index as u64 ^ 0x5555]);
    let loader = Loader::builder(source)
        .augment(|[left, right], rng| [left, right ^ rng.next_u64()])
        .shuffle(9)
        .batch_size(100)
        .workers(workers)
        .build()
        .unwrap();
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    loader.epoch(3).fold(0, |hash, batch| {
        let batch = batch.unwrap();
        let hash = batch.iter().chain(batch.indices()).fold(hash, |hash, &word| mix(hash, word));
        mix(hash, batch.number())
    })
}

fn identity() {
    const LEN: usize = 10_000_000;
    println!("\nthe same batches from any number of workers: {LEN} augmented samples each");
    let expected = digest(0, LEN);
    println!("  0 workers: {expected:016x}");
    for workers in [1, 2, 8] {
        let digest = digest(workers, LEN);
        println!("  {workers} workers: {digest:016x}");
        assert_eq!(digest, expected, "the batches depend on the number of workers");
    }
}
