//! The loader against a naive generator: one thread that makes batch after batch inside the training loop.
//!
//! `cargo bench --bench loader [NAME..]` prints, for each kind of work, rates and their ratio to the first row, which
//! is the limit or the baseline. Run it with nothing else going on. `PROCESSION_REPEATS` sets the number of rounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{arithmetic, spin, table};
use ndarray::{Array2, Axis};
use procession::source::{Idx, Mnist};
use procession::testing::Slow;
use procession::{Loader, Sampler, Sequence, Shuffle, from_fn};

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let benches: [(&str, fn()); 9] = [
        ("hand-off", hand_off),
        ("trivial", trivial),
        ("rows", rows),
        ("compute", compute),
        ("skewed", skewed),
        ("sleeping", sleeping),
        ("overlap", overlap),
        ("straggler", straggler),
        ("identity", identity),
    ];
    for (name, bench) in benches {
        if chosen.is_empty() || chosen.iter().any(|chosen| name.contains(chosen.as_str())) {
            bench();
        }
    }
}

/// Takes every batch of an epoch.
fn drain<B: Send + 'static>(loader: &Loader<B>, epoch: u64) {
    for batch in loader.epoch(epoch) {
        black_box(&*batch.unwrap());
    }
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
    for (name, time) in ["0 workers", "1 worker", "2 workers"].iter().zip(&times[1..]) {
        println!("  {name}: {:.0} ns a batch (bar: 1000)", time / BATCHES as f64 * 1e9);
    }
}

fn trivial() {
    const LEN: usize = 1_000_000;
    const BATCH: usize = 128;
    let data = Array2::from_shape_fn((LEN, 8), |(row, column)| (row * 8 + column) as f32);
    let loader = |workers, shuffle| {
        let builder = Loader::builder(data.clone()).batch_size(BATCH).workers(workers);
        if shuffle { builder.shuffle(1).build() } else { builder.build() }.unwrap()
    };
    let naive = |order: &mut dyn FnMut(usize, &mut [u64])| {
        let mut indices = [0; BATCH];
        for start in (0..LEN).step_by(BATCH) {
            let count = BATCH.min(LEN - start);
            order(start, &mut indices[..count]);
            let mut batch = Array2::<f32>::zeros((count, 8));
            for (mut row, &index) in batch.outer_iter_mut().zip(&indices[..count]) {
                row.assign(&data.index_axis(Axis(0), index as usize));
            }
            black_box(&batch);
        }
    };
    let in_order = |start: usize, out: &mut [u64]| out.iter_mut().zip(start as u64..).for_each(|(to, from)| *to = from);
    let (zero, one, two) = (loader(0, false), loader(1, false), loader(2, false));
    table(
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
    let (zero, one, two) = (loader(0, true), loader(1, true), loader(2, true));
    let shuffle = Shuffle::new(LEN as u64, 1);
    let mut list = vec![0; LEN];
    shuffle.fill(0, 0, 1, &mut list);
    table(
        "the same, shuffled",
        "samples/s",
        LEN as f64,
        &mut [
            ("naive generator, order in a list", &mut || {
                naive(&mut |start, out| out.copy_from_slice(&list[start..start + out.len()]));
            }),
            ("naive generator, order computed", &mut || naive(&mut |start, out| shuffle.fill(0, start as u64, 1, out))),
            ("loader, 0 workers", &mut || drain(&zero, 0)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
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
    let pixels = bytes[16..].to_vec();
    let images = Idx::from_bytes(bytes, "bench").unwrap().images().unwrap().flatten().unit();
    let loader =
        |workers| Loader::builder(images.clone()).shuffle(1).batch_size(BATCH).workers(workers).build().unwrap();
    let mut order = vec![0_u64; LEN];
    Shuffle::new(LEN as u64, 1).fill(0, 0, 1, &mut order);
    let (mut reused, mut other) = (vec![0.0_f32; BATCH * ROW], vec![0.0_f32; BATCH * ROW]);
    let (zero, one, two) = (loader(0), loader(1), loader(2));
    table(
        "rows of 784 bytes, shuffled, to f32 batches of 128",
        "rows/s",
        LEN as f64,
        &mut [
            ("hand-written gather, 1 thread, reused batch", &mut || {
                for batch in order.chunks(BATCH) {
                    for (row, &index) in reused.chunks_exact_mut(ROW).zip(batch) {
                        let from = &pixels[index as usize * ROW..][..ROW];
                        row.iter_mut().zip(from).for_each(|(to, &from)| *to = f32::from(from) / 255.0);
                    }
                    black_box(&reused);
                }
            }),
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
            ("get_into, 1 thread, reused batch", &mut || {
                for batch in order.chunks(BATCH) {
                    for (row, &index) in other.chunks_exact_mut(ROW).zip(batch) {
                        images.get_into(index as usize, row).unwrap();
                    }
                    black_box(&other);
                }
            }),
            ("loader, 0 workers", &mut || drain(&zero, 0)),
            ("loader, 1 worker", &mut || drain(&one, 0)),
            ("loader, 2 workers", &mut || drain(&two, 0)),
        ],
    );
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
    table(
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
}

fn sleeping() {
    const LEN: usize = 1280;
    let wait = Duration::from_millis(10);
    let source = Slow::sleeping((0..LEN).collect::<Vec<_>>(), move |_| wait);
    let loader = Loader::builder(source).batch_size(32).workers(64).build().unwrap();
    table(
        "samples that wait 10 ms, 64 workers",
        "samples/s",
        LEN as f64,
        &mut [
            ("the limit: 64 at once", &mut || std::thread::sleep(wait * (LEN / 64) as u32)),
            ("loader, 64 workers", &mut || drain(&loader, 0)),
        ],
    );
}

fn overlap() {
    const BATCHES: usize = 400;
    for micros in [20, 200, 2000] {
        let cost = Duration::from_micros(micros);
        let source = Slow::spinning((0..BATCHES).collect::<Vec<_>>(), move |_| cost);
        let loader = Loader::builder(source).batch_size(1).workers(1).build().unwrap();
        let title = format!("a trainer and a loader of {micros} us a batch each, 1 worker");
        table(
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
    }
}

fn straggler() {
    const LEN: usize = 10_000;
    let work = |slow: bool| {
        move |index: usize| {
            if slow && index == 5000 {
                std::thread::sleep(Duration::from_millis(100));
            }
            arithmetic(index)
        }
    };
    let loader = Loader::builder(from_fn(LEN, work(true))).batch_size(16).workers(2).build().unwrap();
    table(
        "one straggler of 1,000 times the cost in 10,000 samples, in order, 2 workers",
        "samples/s",
        LEN as f64,
        &mut [
            ("bare loop on 2 threads, as completed (the limit)", &mut || one_by_one(LEN, &work(true))),
            ("loader, in order", &mut || drain(&loader, 0)),
        ],
    );
    // The embedded images, as the trainer sees them.
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
