//! The loader beside its peers, in turn in one run: `cargo run --release [WORKERS]` in this folder.
//!
//! *Trivial*: 10^6 samples of 8 floats, batches of 128, in order. *Rows*: 60,000 rows of 784 bytes, shuffled, to f32
//! batches of 128; every peer gets the same conversion, written plainly. *Waiting*: samples that sleep for 1 ms.
//! *Photographs*, where `PROCESSION_PHOTOS` is a folder of JPEGs: read, decoded by zune-jpeg, resized to 200 x 200 by
//! fast_image_resize, as f32 in shuffled batches of 32; every peer calls the same function.
//! Medians of the rounds, with the lowest and the highest; the ratio is to the plain loop on one thread.
//!
//! burn's loader is the one of several threads, which shares the samples out among them beforehand and delivers what comes:
//! its order depends on the number of workers and on time.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and one that fails should say so")]
#![allow(clippy::type_complexity, reason = "the types are what they say, and each is named once")]

use std::cell::RefCell;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn_core::data::dataloader::batcher::Batcher;
use burn_core::data::dataloader::{DataLoader as BurnLoader, DataLoaderBuilder};
use burn_core::data::dataset::{Dataset as BurnDataset, DatasetError};
use burn_core::tensor::Device;
use dataloader_rs::{Collator, DataLoader, Dataset, RandomSampler};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use ndarray::Array2;
use pariter::IteratorExt;
use procession::{Loader, Sampler, Shuffle, from_fill};
use rayon::prelude::*;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// The side of the photographs that are made.
const SIDE: usize = 200;

/// Rows that are computed from an index, and how.
#[derive(Clone)]
struct Work {
    len: usize,
    row_len: usize,
    batch_size: usize,
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

    fn row(&self, index: usize) -> Vec<f32> {
        let mut row = vec![0.0; self.row_len];
        (self.fill)(index, &mut row);
        row
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
        Ok(self.0.row(index))
    }
    fn len(&self) -> usize {
        self.0.len
    }
}

struct Stack(usize);

impl Stack {
    fn stack(&self, rows: &[Vec<f32>]) -> Array2<f32> {
        let mut batch = Array2::zeros((rows.len(), self.0));
        for (mut to, from) in batch.outer_iter_mut().zip(rows) {
            to.as_slice_mut().unwrap().copy_from_slice(from);
        }
        batch
    }
}

impl Collator<Vec<f32>> for Stack {
    type Batch = Array2<f32>;
    fn collate(&self, rows: Vec<Vec<f32>>) -> dataloader_rs::error::Result<Array2<f32>> {
        Ok(self.stack(&rows))
    }
}

/// The same two forms for burn, whose batches need to be what can be cloned and printed.
impl BurnDataset<usize> for Indices {
    fn get(&self, index: usize) -> Result<usize, DatasetError> {
        Ok(index)
    }
    fn len(&self) -> usize {
        self.0
    }
}

impl Batcher<usize, Array2<f32>> for Fill {
    fn batch(&self, indices: Vec<usize>, _: &Device) -> Array2<f32> {
        self.0.batch(&indices)
    }
}

impl BurnDataset<Vec<f32>> for Rows {
    fn get(&self, index: usize) -> Result<Vec<f32>, DatasetError> {
        Ok(self.0.row(index))
    }
    fn len(&self) -> usize {
        self.0.len
    }
}

impl Batcher<Vec<f32>, Array2<f32>> for Stack {
    fn batch(&self, rows: Vec<Vec<f32>>, _: &Device) -> Array2<f32> {
        self.stack(&rows)
    }
}

/// Reads a photograph, decodes it, and writes it to a row at the size that is wanted.
fn decode(path: &PathBuf, row: &mut [f32]) {
    thread_local! {
        static RESIZER: RefCell<(Resizer, Vec<u8>)> = RefCell::new((Resizer::new(), vec![0; SIDE * SIDE * 3]));
    }
    let bytes = std::fs::read(path).unwrap();
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..]), options);
    let pixels = decoder.decode().unwrap();
    let (width, height) = decoder.dimensions().unwrap();
    let source = ImageRef::new(width as u32, height as u32, &pixels, PixelType::U8x3).unwrap();
    let filter = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    RESIZER.with_borrow_mut(|(resizer, small)| {
        let mut target = Image::from_slice_u8(SIDE as u32, SIDE as u32, small, PixelType::U8x3).unwrap();
        resizer.resize(&source, &mut target, &filter).unwrap();
        row.iter_mut().zip(small).for_each(|(float, byte)| *float = f32::from(*byte) / 255.0);
    });
}

fn photographs(folder: &str) -> Work {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_jpeg = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| ["jpg", "jpeg"].iter().any(|jpeg| extension.eq_ignore_ascii_case(jpeg)))
    };
    let mut paths: Vec<PathBuf> = files.filter(is_jpeg).collect();
    paths.sort();
    Work {
        len: paths.len(),
        row_len: SIDE * SIDE * 3,
        batch_size: 32,
        fill: Arc::new(move |index, row| decode(&paths[index], row)),
        shuffled: true,
    }
}

fn main() {
    let workers = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let data: Vec<f32> = (0..8_000_000).map(|at| at as f32).collect();
    let trivial = Work {
        len: 1_000_000,
        row_len: 8,
        batch_size: 128,
        fill: Arc::new(move |index, row| row.copy_from_slice(&data[index * 8..index * 8 + 8])),
        shuffled: false,
    };
    compare("trivial: 8 floats, in order", &trivial, workers);
    let pixels: Vec<u8> = (0..60_000 * 784).map(|at| (at * 31 % 256) as u8).collect();
    let rows = Work {
        len: 60_000,
        row_len: 784,
        batch_size: 128,
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
        batch_size: 128,
        fill: Arc::new(|index, row| {
            std::thread::sleep(Duration::from_millis(1));
            row.fill(index as f32);
        }),
        shuffled: false,
    };
    compare("waiting: 1 ms a sample", &waiting, workers);
    if let Ok(folder) = std::env::var("PROCESSION_PHOTOS") {
        let photographs = photographs(&folder);
        compare("photographs: decoded and resized, shuffled", &photographs, workers);
    }
}

fn compare(title: &str, work: &Work, workers: usize) {
    let order = work.order();
    let ours = |workers| {
        let fill = Arc::clone(&work.fill);
        let source = from_fill(work.len, work.row_len, move |index, row: &mut [f32]| {
            fill(index, row);
            Ok(())
        });
        let builder = Loader::builder(source).batch_size(work.batch_size).workers(workers);
        if work.shuffled { builder.shuffle(1) } else { builder }.build().unwrap()
    };
    let (ours, ours_alone) = (ours(workers), ours(0));
    let mut indices_loader = {
        let builder = DataLoader::builder(Indices(work.len)).batch_size(work.batch_size).num_workers(workers);
        let builder = builder.prefetch_depth(8).collator(Fill(work.clone()));
        builder.sampler(RandomSampler::new(1)).build()
    };
    let mut rows_loader = {
        let builder = DataLoader::builder(Rows(work.clone())).batch_size(work.batch_size).num_workers(workers);
        let builder = builder.prefetch_depth(8).collator(Stack(work.row_len));
        builder.sampler(RandomSampler::new(1)).build()
    };
    fn burn<I: Clone + std::fmt::Debug + Send + Sync + 'static>(
        work: &Work,
        workers: usize,
        batcher: impl Batcher<I, Array2<f32>> + 'static,
        dataset: impl BurnDataset<I> + 'static,
    ) -> Arc<dyn BurnLoader<Array2<f32>>> {
        let builder = DataLoaderBuilder::new(batcher).batch_size(work.batch_size).num_workers(workers);
        if work.shuffled { builder.shuffle(1) } else { builder }.build(dataset)
    }
    let burn_indices = burn(work, workers, Fill(work.clone()), Indices(work.len));
    let burn_rows = burn(work, workers, Stack(work.row_len), Rows(work.clone()));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
    let drain = |loader: &Loader<Array2<f32>>| {
        loader.epoch(0).for_each(|batch| {
            black_box(&*batch.unwrap());
        });
    };
    let batches: Vec<Vec<usize>> = order.chunks(work.batch_size).map(<[usize]>::to_vec).collect();
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
            "burn, batcher fills, as it comes",
            Box::new(|| {
                for batch in burn_indices.iter() {
                    black_box(batch.unwrap());
                }
            }),
        ),
        (
            "burn, samples stacked, as it comes",
            Box::new(|| {
                for batch in burn_rows.iter() {
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
        let rate = |time: f64| work.len as f64 / time / 1e3;
        let median = times[rounds / 2];
        println!(
            "  {name:<46} {:>11.3} k samples/s  ({:.3} to {:.3})  ratio {:.2}",
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
