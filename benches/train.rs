//! How near a training step comes to what the hardware allows, and what the average of the weights, an inner value and a
//! checkpoint cost.
//!
//! The model is 784-512-256-10 with ReLU and dropout, batch 128, Adam. The floor of a step is its matrix products into
//! buffers that are there, and one Adam-like pass over the parameters; on several threads each does its part of all of
//! them, without waiting for the others in between. Everything is measured in turn in one loop, so that other work on the
//! machine burdens all alike. Medians are what counts; the tenth percentile beside them is what a quiet machine would
//! show, and the two lie close together when it was quiet.
//!
//! `cargo bench --features train --bench train`; `PROCESSION_THREADS=1` (or 2, ...) measures with that number alone.
//! `python benches/train_torch.py` measures the same step in PyTorch.

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{Spread, at_most};

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use procession::Loader;
use procession::train::{Adam, Average, Function, Model, Trainer};

const BATCH: usize = 128;
const WIDTHS: [usize; 4] = [784, 512, 256, 10];
const ROUNDS: usize = 200;

/// The threads that a step may use: `PROCESSION_THREADS`, or one and then as many as there are processors.
fn threads() -> Vec<usize> {
    match std::env::var("PROCESSION_THREADS").ok().and_then(|text| text.parse().ok()) {
        Some(threads) => vec![threads],
        None => vec![1, num_cpus::get()],
    }
}

/// Numbers in (-1, 1) that look random enough not to be zero.
fn numbers(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(row, column)| {
        let bits = ((row * 31 + column) as u32).wrapping_mul(2_654_435_769) >> 8;
        bits as f32 / 8_388_608.0 - 1.0
    })
}

/// One layer's products, or one thread's share of them: its rows of the output and of the input's gradient, and its rows
/// of the kernel's gradient.
struct Products {
    x: Array2<f32>,
    kernel: Array2<f32>,
    y: Array2<f32>,
    x_columns: Array2<f32>,
    dy: Array2<f32>,
    dkernel: Array2<f32>,
    dx: Option<Array2<f32>>,
}

impl Products {
    /// The share of one of so many threads.
    fn layers(num_threads: usize) -> Vec<Self> {
        let layer = |k: usize| {
            let (inputs, outputs) = (WIDTHS[k], WIDTHS[k + 1]);
            let (rows, columns) = (BATCH / num_threads, inputs / num_threads);
            Self {
                x: numbers(rows, inputs),
                kernel: numbers(inputs, outputs),
                y: numbers(rows, outputs),
                x_columns: numbers(BATCH, columns),
                dy: numbers(BATCH, outputs),
                dkernel: numbers(columns, outputs),
                dx: (k > 0).then(|| numbers(rows, inputs)),
            }
        };
        (0..3).map(layer).collect()
    }

    fn forward(&mut self) {
        general_mat_mul(1.0, &self.x, &self.kernel, 0.0, &mut self.y);
    }

    fn backward(&mut self) {
        general_mat_mul(1.0, &self.x_columns.t(), &self.dy, 0.0, &mut self.dkernel);
        if let Some(dx) = &mut self.dx {
            general_mat_mul(1.0, &self.y, &self.kernel.t(), 0.0, dx);
        }
    }
}

/// Does the same with each share, each on a thread of its own, and returns the microseconds from when they all began.
fn side_by_side<T: Send>(pool: &rayon::ThreadPool, shares: &mut [T], work: impl Fn(&mut T) + Sync) -> f64 {
    pool.install(|| {
        let start = Instant::now();
        rayon::scope(|scope| {
            let (first, others) = shares.split_first_mut().expect("there is a thread");
            let work = &work;
            others.iter_mut().for_each(|share| scope.spawn(move |_| work(share)));
            work(first);
        });
        start.elapsed().as_secs_f64() * 1e6
    })
}

/// An Adam-like pass: reads four arrays, writes three, one root and one division an element.
struct Flat {
    weights: Vec<f32>,
    grads: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Flat {
    fn new(len: usize) -> Self {
        Self { weights: vec![0.1; len], grads: vec![0.01; len], first: vec![0.0; len], second: vec![0.0; len] }
    }

    fn adam(&mut self) {
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((w, g), (m, v)) in self.weights.iter_mut().zip(&self.grads).zip(moments) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            *w -= 1e-3 * *m / (v.sqrt() + 1e-8);
        }
    }
}

fn model(dropout: bool, num_threads: usize) -> Model {
    let mut builder = Model::builder(WIDTHS[0]);
    for (k, width) in WIDTHS[1..3].iter().enumerate() {
        builder = builder.dense(format!("dense{k}"), *width).relu(format!("relu{k}"));
        if dropout {
            builder = builder.dropout(format!("dropout{k}"), 0.2);
        }
    }
    builder.dense("logits", WIDTHS[3]).seed(1).threads(num_threads).build().expect("the model is a sound one")
}

/// Times in microseconds by what was measured.
struct Times {
    names: Vec<&'static str>,
    times: Vec<Vec<f64>>,
}

impl Times {
    fn time(&mut self, name: &'static str, mut work: impl FnMut()) {
        let start = Instant::now();
        work();
        self.note(name, start.elapsed().as_secs_f64() * 1e6);
    }

    fn note(&mut self, name: &'static str, time: f64) {
        let column = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.times.push(Vec::new());
            self.names.len() - 1
        });
        self.times[column].push(time);
    }

    fn column(&self, name: &str) -> &[f64] {
        let column = self.names.iter().position(|known| *known == name).expect("it was measured");
        &self.times[column]
    }

    /// What one took as a part of what another did, round by round, without the tenth of rounds at either end, in which
    /// something else was at work.
    fn ratio(&self, what: &str, to: &str) -> Spread {
        let mut ratios: Vec<f64> = self.column(what).iter().zip(self.column(to)).map(|(what, to)| what / to).collect();
        ratios.sort_by(f64::total_cmp);
        let tenth = ratios.len() / 10;
        Spread::of(ratios[tenth..ratios.len() - tenth].iter().copied())
    }

    /// The median, and the tenth percentile.
    fn quantiles(&self, name: &str) -> [f64; 2] {
        let mut times = self.column(name).to_vec();
        times.sort_by(f64::total_cmp);
        [times[times.len() / 2], times[times.len() / 10]]
    }
}

fn call<'f>(function: &'f mut Function, x: &Array2<f32>) -> ArrayView2<'f, f32> {
    function.run(x).expect("the batch fits");
    function.value(0)
}

fn main() {
    threads().into_iter().for_each(measure);
}

#[allow(clippy::print_stdout)]
fn measure(num_threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().expect("there can be threads");
    let x = numbers(BATCH, WIDTHS[0]);
    let labels: Vec<u32> = (0..BATCH as u32).map(|row| row % 10).collect();
    let mut products: Vec<_> = (0..num_threads).map(|_| Products::layers(num_threads)).collect();
    let (mut dropped, mut plain) = (model(true, num_threads), model(false, num_threads));
    let len = dropped.num_params();
    let mut flat: Vec<_> = (0..num_threads).map(|_| Flat::new(len / num_threads)).collect();
    let (mut adam, mut plain_adam, mut lone_adam) = (Adam::default(), Adam::default(), Adam::default());
    let mut average = Average::new(&dropped, 0.999).expect("0.999 is a decay");
    let (source, mut target) = (vec![1.0_f32; len], vec![0.0_f32; len]);
    let mut inner = dropped.function(&["dropout0/mask", "relu1"]).expect("the names exist");
    let mut output = dropped.function(&["relu1"]).expect("the name exists");
    let mut times = Times { names: Vec::new(), times: Vec::new() };

    // A checkpoint of the same model, with an average: four arrays for each parameter, synced to the disk.
    let samples: Vec<([f32; 784], u32)> = (0..BATCH as u32).map(|row| ([row as f32; 784], row % 10)).collect();
    let loader = Loader::builder(samples).batch_size(BATCH).workers(0).build().expect("the options are sound");
    let trainer = Trainer::new(model(true, num_threads), Adam::default()).average("ema", 0.999);
    let mut trainer = trainer.expect("0.999 is a decay");
    trainer.fit(loader.epochs(0..1)).expect("the loss is finite");
    let (dir, state) = (tempfile::tempdir().expect("there is room for a directory"), loader.state(1));
    let path = dir.path().join("checkpoint.safetensors");

    for round in 0..ROUNDS + 20 {
        if round == 20 {
            // The first rounds fill buffers and caches.
            times = Times { names: Vec::new(), times: Vec::new() };
        }
        let of_products = side_by_side(&pool, &mut products, |layers| {
            layers.iter_mut().for_each(Products::forward);
            layers.iter_mut().rev().for_each(Products::backward);
            black_box(&layers[0].dkernel);
        });
        times.note("products", of_products);
        let of_adam = side_by_side(&pool, &mut flat, |flat| {
            flat.adam();
            black_box(&flat.weights);
        });
        times.note("adam pass", of_adam);
        times.time("step", || {
            black_box(dropped.train_step(&x, &labels, &mut adam)).expect("the loss is finite");
        });
        times.time("step without dropout", || {
            black_box(plain.train_step(&x, &labels, &mut plain_adam)).expect("the loss is finite");
        });
        times.time("adam", || dropped.apply_gradients(&mut lone_adam).expect("the optimiser fits"));
        // Once untimed, so that each pass finds its own arrays in the cache and none finds those of the one before.
        average.update(&dropped).expect("the model fits");
        if round % 20 == 0 {
            times.time("checkpoint", || trainer.save(&path, &state).expect("the directory can be written to"));
        }
        times.time("average", || average.update(&dropped).expect("the model fits"));
        let mut copy = || {
            target.copy_from_slice(black_box(&source));
            black_box(&target);
        };
        copy();
        times.time("copy", copy);
        let mut scale = || {
            target.iter_mut().for_each(|x| *x *= 0.999);
            black_box(&target);
        };
        scale();
        times.time("scale", scale);
        let of_forward = side_by_side(&pool, &mut products, |layers| {
            layers[..2].iter_mut().for_each(Products::forward);
            black_box(&layers[1].y);
        });
        times.note("forward", of_forward);
        times.time("layers", || {
            black_box(call(&mut output, &x));
        });
        times.time("layers and inner value", || {
            black_box(call(&mut inner, &x));
        });
    }
    println!("784-512-256-10, batch {BATCH}, {len} parameters, {num_threads} threads, {ROUNDS} rounds, microseconds");
    println!("{:>36} {:>9} {:>9}", "", "median", "10 %");
    for name in &times.names {
        let [median, tenth] = times.quantiles(name);
        println!("{name:>36} {median:9.1} {tenth:9.1}");
    }
    // Sums of what is named first over sums of what is named second.
    let ratios: [(&str, &[&'static str], &[&'static str]); 7] = [
        ("step / (products + adam pass)", &["step"], &["products", "adam pass"]),
        ("the same without dropout", &["step without dropout"], &["products", "adam pass"]),
        ("adam / adam pass", &["adam"], &["adam pass"]),
        ("average / copy of the parameters", &["average"], &["copy"]),
        ("average / scaling in place", &["average"], &["scale"]),
        ("two layers / their products", &["layers"], &["forward"]),
        ("with an inner value / without", &["layers and inner value"], &["layers"]),
    ];
    for (what, above, below) in ratios {
        let sum = |names: &[&str], q: usize| names.iter().map(|name| times.quantiles(name)[q]).sum::<f64>();
        println!("{what:>36} {:9.3} {:9.3}", sum(above, 0) / sum(below, 0), sum(above, 1) / sum(below, 1));
    }
    at_most("the average of the weights / a pass that reads and writes", 1.2, times.ratio("average", "copy"));
    at_most("with an inner value / without", 1.05, times.ratio("layers and inner value", "layers"));
}
