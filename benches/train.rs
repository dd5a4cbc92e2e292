//! How near a training step comes to what the hardware allows, and what the average of the weights and an inner value
//! cost.
//!
//! The model is 784-512-256-10 with ReLU and dropout, batch 128, Adam. The floor of a step is its matrix products into
//! buffers that are there, and one Adam-like pass over the parameters. Everything is measured in turn in one loop, so
//! that other work on the machine burdens all alike. Medians are what counts; the tenth percentile beside them is what
//! a quiet machine would show, and the two lie close together when it was quiet.
//!
//! `cargo bench --features train --bench train`

use std::hint::black_box;
use std::time::Instant;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use procession::train::{Adam, Average, Function, Model};

const BATCH: usize = 128;
const WIDTHS: [usize; 4] = [784, 512, 256, 10];
const ROUNDS: usize = 200;

/// The threads that a step may use: `PROCESSION_THREADS`, or one.
fn threads() -> usize {
    std::env::var("PROCESSION_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Numbers in (-1, 1) that look random enough not to be zero.
fn numbers(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(row, column)| {
        let bits = ((row * 31 + column) as u32).wrapping_mul(2_654_435_769) >> 8;
        bits as f32 / 8_388_608.0 - 1.0
    })
}

/// One layer's operands: input, kernel, output, and the gradients of kernel and input.
struct Products {
    x: Array2<f32>,
    kernel: Array2<f32>,
    y: Array2<f32>,
    dkernel: Array2<f32>,
    dx: Option<Array2<f32>>,
}

impl Products {
    fn layers() -> Vec<Self> {
        let layer = |k: usize| {
            let (inputs, outputs) = (WIDTHS[k], WIDTHS[k + 1]);
            Self {
                x: numbers(BATCH, inputs),
                kernel: numbers(inputs, outputs),
                y: numbers(BATCH, outputs),
                dkernel: numbers(inputs, outputs),
                dx: (k > 0).then(|| numbers(BATCH, inputs)),
            }
        };
        (0..3).map(layer).collect()
    }

    fn forward(&mut self) {
        general_mat_mul(1.0, &self.x, &self.kernel, 0.0, &mut self.y);
    }

    fn backward(&mut self) {
        general_mat_mul(1.0, &self.x.t(), &self.y, 0.0, &mut self.dkernel);
        if let Some(dx) = &mut self.dx {
            general_mat_mul(1.0, &self.y, &self.kernel.t(), 0.0, dx);
        }
    }
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

fn model(dropout: bool) -> Model {
    let mut builder = Model::builder(WIDTHS[0]);
    for (k, width) in WIDTHS[1..3].iter().enumerate() {
        builder = builder.dense(format!("dense{k}"), *width).relu(format!("relu{k}"));
        if dropout {
            builder = builder.dropout(format!("dropout{k}"), 0.2);
        }
    }
    builder.dense("logits", WIDTHS[3]).seed(1).threads(threads()).build().expect("the model is a sound one")
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
        let time = start.elapsed().as_secs_f64() * 1e6;
        let column = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.times.push(Vec::new());
            self.names.len() - 1
        });
        self.times[column].push(time);
    }

    /// The median, and the tenth percentile.
    fn quantiles(&self, name: &str) -> [f64; 2] {
        let column = self.names.iter().position(|known| *known == name).expect("it was measured");
        let mut times = self.times[column].clone();
        times.sort_by(f64::total_cmp);
        [times[times.len() / 2], times[times.len() / 10]]
    }
}

fn call<'f>(function: &'f mut Function, x: &Array2<f32>) -> ArrayView2<'f, f32> {
    function.run(x).expect("the batch fits");
    function.value(0)
}

#[allow(clippy::print_stdout)]
fn main() {
    let x = numbers(BATCH, WIDTHS[0]);
    let labels: Vec<u32> = (0..BATCH as u32).map(|row| row % 10).collect();
    let mut products = Products::layers();
    let (mut dropped, mut plain) = (model(true), model(false));
    let len = dropped.num_params();
    let mut flat = Flat::new(len);
    let (mut adam, mut plain_adam, mut lone_adam) = (Adam::default(), Adam::default(), Adam::default());
    let mut average = Average::new(&dropped, 0.999).expect("0.999 is a decay");
    let (source, mut target) = (vec![1.0_f32; len], vec![0.0_f32; len]);
    let mut inner = dropped.function(&["dropout0/mask", "relu1"]).expect("the names exist");
    let mut output = dropped.function(&["relu1"]).expect("the name exists");
    let mut times = Times { names: Vec::new(), times: Vec::new() };

    for round in 0..ROUNDS + 20 {
        if round == 20 {
            // The first rounds fill buffers and caches.
            times = Times { names: Vec::new(), times: Vec::new() };
        }
        times.time("products", || {
            products.iter_mut().for_each(Products::forward);
            products.iter_mut().rev().for_each(Products::backward);
            black_box(&products[0].dkernel);
        });
        times.time("adam pass", || {
            flat.adam();
            black_box(&flat.weights);
        });
        times.time("step", || {
            black_box(dropped.train_step(&x, &labels, &mut adam)).expect("the loss is finite");
        });
        times.time("step without dropout", || {
            black_box(plain.train_step(&x, &labels, &mut plain_adam)).expect("the loss is finite");
        });
        times.time("adam", || dropped.apply_gradients(&mut lone_adam).expect("the optimiser fits"));
        // Once untimed, so that each pass finds its own arrays in the cache and none finds those of the one before.
        average.update(&dropped).expect("the model fits");
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
        times.time("forward", || {
            products[..2].iter_mut().for_each(Products::forward);
            black_box(&products[1].y);
        });
        times.time("layers", || {
            black_box(call(&mut output, &x));
        });
        times.time("layers and inner value", || {
            black_box(call(&mut inner, &x));
        });
    }
    println!("784-512-256-10, batch {BATCH}, {len} parameters, {ROUNDS} rounds, microseconds");
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
}
