//! The loader beside its peers, in turn in one run: `cargo run --release [WORKERS]` in this folder.
//!
//! *Trivial*: 10^6 samples of 8 floats, batches of 128, in order. *Rows*: 60,000 rows of 784 bytes, shuffled, to f32
//! batches of 128; every peer gets the same conversion, written plainly. *Waiting*: samples that sleep for 1 ms.
//! Medians of the rounds, with the lowest and the highest; the ratio is to the plain loop on one thread.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and one that fails should say so")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataloader_rs::{Collator, DataLoader, Dataset, RandomSampler};
use ndarray::Array2;
use pariter::IteratorExt;
use procession::{Loader, Sampler, Shuffle, from_fill};
use rayon::prelude::*;

const BATCH: usize = 128;

/// Rows that are computed from an index, and how.
#[derive(Clone)]
struct Work {
    len: usize,
    row_len: usize,
    fill: Arc<dyn Fn(usize, &mut [f32]) + Send + Sync>,
    shuffled: bool,
}

impl Work {
    fn order(&self) -> Vec<usize> {
        if !self.shuffled {
            return (0..self.len).collect();
        }
        let mut order = vec![0; self.len];
        Shuffle::new(self.len as u64, 1).fill(0, 0, 1, &mut order);
        order.into_iter().map(|index| index as usize).collect()
    }

    /// A batch as one would write it by hand: a fresh buffer, filled row by row.
    fn batch(&self, indices: &[usize]) -> Array2<f32> {
        let mut batch = Array2::zeros((indices.len(), self.row_len));
        let rows = batch.as_slice_mut().unwrap().chunks_exact_mut(self.row_len);
        rows.zip(indices).for_each(|(row, &index)| (self.fill)(index, row));
        batch
    }
}

/// As a data set of dataloader-rs: a sample is its index, and the collator fills the batch, which is its fastest way.
struct Indices(usize);

impl Dataset for Indices {
    type Item = usize;
    fn get(&self, index: usize) -> dataloader_rs::error::Result<usize> {
        Ok(index)
    }
    fn len(&self) -> usize {
        self.0
    }
}

struct Fill(Work);

impl Collator<usize> for Fill {
    type Batch = Array2<f32>;
    fn collate(&self, indices: Vec<usize>) -> dataloader_rs::error::Result<Array2<f32>> {
        Ok(self.0.batch(&indices))
    }
}

/// As a data set of dataloader-rs in its usual form: a sample is a row, and the collator stacks rows.
struct Rows(Work);

impl Dataset for Rows {
    type Item = Vec<f32>;
    fn get(&self, index: usize) -> dataloader_rs::error::Result<Vec<f32>> {
        let mut row = vec![0.0; self.0.row_len];
        (self.0.fill)(index, &mut row);
        Ok(row)
    }
    fn len(&self) -> usize {
        self.0.len
    }
}

struct Stack(usize);

impl Collator<Vec<f32>> for Stack {
    type Batch = Array2<f32>;
    fn collate(&self, rows: Vec<Vec<f32>>) -> dataloader_rs::error::Result<Array2<f32>> {
        let mut batch = Array2::zeros((rows.len(), self.0));
        for (mut to, from) in batch.outer_iter_mut().zip(&rows) {
            to.as_slice_mut().unwrap().copy_from_slice(from);
        }
        Ok(batch)
    }
}

fn main() {
    let workers = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let data: Vec<f32> = (0..8_000_000).map(|at| at as f32).collect();
    let trivial = Work {
        len: 1_000_000,
        row_len: 8,
        fill: Arc::new(move |index, row| row.copy_from_slice(&data[index * 8..index * 8 + 8])),
        shuffled: false,
    };
    compare("trivial: 8 floats, in order", &trivial, workers);
    let pixels: Vec<u8> = (0..60_000 * 784).map(|at| (at * 31 % 256) as u8).collect();
    let rows = Work {
        len: 60_000,
        row_len: 784,
        fill: Arc::new(move |index, row| {
            let from = &pixels[index * 784..][..784];
            row.iter_mut().zip(from).for_each(|(to, &from)| *to = f32::from(from) / 255.0);
        }),
        shuffled: true,
    };
    compare("rows: 784 bytes to f32, shuffled", &rows, workers);
    let waiting = Work {
        len: 512,
        row_len: 8,
        fill: Arc::new(|index, row| {
            std::thread::sleep(Duration::from_millis(1));
            row.fill(index as f32);
        }),
        shuffled: false,
    };
    compare("waiting: 1 ms a sample", &waiting, workers);
}

fn compare(title: &str, work: &Work, workers: usize) {
    let order = work.order();
    let ours = |workers| {
        let fill = Arc::clone(&work.fill);
        let source = from_fill(work.len, work.row_len, move |index, row: &mut [f32]| {
            fill(index, row);
            Ok(())
        });
        let builder = Loader::builder(source).batch_size(BATCH).workers(workers);
        if work.shuffled { builder.shuffle(1) } else { builder }.build().unwrap()
    };
    let (ours, ours_alone) = (ours(workers), ours(0));
    let mut indices_loader = {
        let builder = DataLoader::builder(Indices(work.len)).batch_size(BATCH).num_workers(workers);
        let builder = builder.prefetch_depth(8).collator(Fill(work.clone()));
        builder.sampler(RandomSampler::new(1)).build()
    };
    let mut rows_loader = {
        let builder = DataLoader::builder(Rows(work.clone())).batch_size(BATCH).num_workers(workers);
        let builder = builder.prefetch_depth(8).collator(Stack(work.row_len));
        builder.sampler(RandomSampler::new(1)).build()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
    let drain = |loader: &Loader<Array2<f32>>| {
        loader.epoch(0).for_each(|batch| {
            black_box(&*batch.unwrap());
        });
    };
    let batches: Vec<Vec<usize>> = order.chunks(BATCH).map(<[usize]>::to_vec).collect();
    let mut ways: Vec<(&str, Box<dyn FnMut() + '_>)> = vec![
        (
            "plain loop, 1 thread, fresh batches",
            Box::new(|| {
                for indices in &batches {
                    black_box(work.batch(indices));
                }
            }),
        ),
        ("procession, 0 workers", Box::new(|| drain(&ours_alone))),
        ("procession", Box::new(|| drain(&ours))),
        (
            "dataloader-rs, collator fills",
            Box::new(|| {
                for batch in &mut indices_loader {
                    black_box(batch.unwrap());
                }
            }),
        ),
        (
            "dataloader-rs, samples stacked",
            Box::new(|| {
                for batch in &mut rows_loader {
                    black_box(batch.unwrap());
                }
            }),
        ),
        (
            "pariter over whole batches",
            Box::new(|| {
                let work = work.clone();
                let batches = batches.clone().into_iter();
                let filled = batches.parallel_map_custom(|o| o.threads(workers), move |indices| work.batch(&indices));
                filled.for_each(|batch| {
                    black_box(batch);
                });
            }),
        ),
        (
            "rayon, a batch at a time",
            Box::new(|| {
                pool.install(|| {
                    for indices in &batches {
                        let mut batch = Array2::<f32>::zeros((indices.len(), work.row_len));
                        let rows = batch.as_slice_mut().unwrap().par_chunks_exact_mut(work.row_len);
                        rows.zip(indices).for_each(|(row, &index)| (work.fill)(index, row));
                        black_box(&batch);
                    }
                });
            }),
        ),
        ("crossbeam channel and a reorder map, by hand", Box::new(|| by_hand(work, &batches, workers))),
    ];
    let rounds = std::env::var("PROCESSION_REPEATS").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=rounds {
        for ((_, way), times) in ways.iter_mut().zip(&mut times) {
            let start = Instant::now();
            way();
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    println!("\n{title}, {workers} workers");
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let limit = times[0][rounds / 2];
    for ((name, _), times) in ways.iter().zip(&times) {
        let rate = |time: f64| work.len as f64 / time / 1e6;
        let median = times[rounds / 2];
        println!(
            "  {name:<46} {:>9.3} M samples/s  ({:.3} to {:.3})  ratio {:.2}",
            rate(median),
            rate(times[rounds - 1]),
            rate(times[0]),
            limit / median
        );
    }
}

/// The pipeline that a good engineer writes in an afternoon.
fn by_hand(work: &Work, batches: &[Vec<usize>], workers: usize) {
    let (todo, jobs) = crossbeam_channel::bounded::<usize>(8);
    let (done, results) = crossbeam_channel::bounded::<(usize, Array2<f32>)>(8);
    std::thread::scope(|scope| {
        scope.spawn(move || (0..batches.len()).for_each(|number| todo.send(number).unwrap_or(())));
        for _ in 0..workers {
            let (jobs, done) = (jobs.clone(), done.clone());
            scope.spawn(move || {
                for number in jobs {
                    drop(done.send((number, work.batch(&batches[number]))));
                }
            });
        }
        drop((jobs, done));
        let mut early = std::collections::BTreeMap::new();
        let mut next = 0;
        for (number, batch) in results {
            early.insert(number, batch);
            while let Some(batch) = early.remove(&next) {
                black_box(batch);
                next += 1;
            }
        }
    });
}
