//! What a step of training allocates, counted: in the steady state nothing but what the matrix products take to pack
//! their operands.
//!
//! One test in a process of its own, as the count is of the whole process.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "common/counting.rs"]
mod counting;

use std::sync::atomic::Ordering;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2};
use procession::train::{Adam, BinaryCrossEntropy, Clip, MeanSquaredError, Model, Schedule, Sgd, Trainer};

use counting::ALLOCATIONS;

/// The allocations of the tenth call.
fn of_tenth(mut call: impl FnMut()) -> usize {
    (0..9).for_each(|_| call());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    call();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

const BATCH: usize = 32;

fn model(loss: impl procession::train::Loss + 'static) -> Model {
    Model::builder([5, 8])
        .flatten("flatten")
        .dense("a", 24)
        .batch_norm("norm")
        .relu("relu")
        .dropout("drop", 0.2)
        .residual("block", |block| block.layer_norm("norm").dense("b", 24).gelu("gelu"))
        .dense("c", 10)
        .loss(loss)
        .threads(1)
        .build()
        .unwrap()
}

/// What the three dense layers' products allocate in a pass forwards, and in one forwards and backwards.
fn of_products() -> (usize, usize) {
    let mut forward = 0;
    let mut backward = 0;
    for (inputs, outputs, is_first) in [(40, 24, true), (24, 24, false), (24, 10, false)] {
        let (x, kernel) = (Array2::<f32>::ones((BATCH, inputs)), Array2::<f32>::ones((inputs, outputs)));
        let (mut y, mut dkernel) = (Array2::<f32>::ones((BATCH, outputs)), Array2::<f32>::ones((inputs, outputs)));
        let mut dx = Array2::<f32>::ones((BATCH, inputs));
        forward += of_tenth(|| general_mat_mul(1.0, &x, &kernel, 1.0, &mut y));
        backward += of_tenth(|| general_mat_mul(1.0, &x.t(), &y, 0.0, &mut dkernel));
        if !is_first {
            backward += of_tenth(|| general_mat_mul(1.0, &y, &kernel.t(), 0.0, &mut dx));
        }
    }
    (forward, forward + backward)
}

#[test]
fn a_step_allocates_nothing_of_its_own() {
    let (forward, both) = of_products();
    assert!(both <= 8, "one for each product");
    let x = ndarray::Array3::from_shape_fn((BATCH, 5, 8), |(a, b, c)| ((a * 7 + b * 3 + c) % 11) as f32 / 11.0);
    let labels: Array1<u32> = (0..BATCH as u32).map(|row| row % 10).collect();
    let values = Array2::<f32>::from_elem((BATCH, 10), 0.25);

    let mut plain = model(procession::train::SoftmaxCrossEntropy::new());
    let mut adam = Adam::default();
    assert_eq!(of_tenth(|| drop(plain.train_step(&x, &labels, &mut adam))), both, "a step of Adam");
    assert_eq!(of_tenth(|| drop(plain.evaluate(&x, &labels))), forward, "an evaluation");
    assert_eq!(of_tenth(|| drop(plain.forward(&x).map(drop))), forward, "a pass");
    let mut function = plain.function(&["block/gelu", "drop"]).unwrap();
    assert!(of_tenth(|| function.run(&x).unwrap()) < forward, "a function, which does not run the last product");

    let trainer = |loss: Box<dyn FnOnce() -> Model>| {
        Trainer::new(loss(), Sgd::new(0.01).momentum(0.9).weight_decay(0.01))
            .schedule(Schedule::cosine(0.01, 100))
            .unwrap()
            .clip(Clip::Norm(1.0))
            .unwrap()
            .average("slow", 0.99)
            .unwrap()
            .average("fast", 0.9)
            .unwrap()
    };
    let mut full = trainer(Box::new(|| model(procession::train::SoftmaxCrossEntropy::new())));
    let data = (x.clone(), labels);
    assert_eq!(of_tenth(|| drop(full.step(&data))), both, "a step with everything");
    let data = (x, values);
    for (name, mut trainer) in [
        ("mean squared error", trainer(Box::new(|| model(MeanSquaredError)))),
        ("binary cross-entropy", trainer(Box::new(|| model(BinaryCrossEntropy)))),
    ] {
        assert_eq!(of_tenth(|| drop(trainer.step(&data))), both, "{name}");
    }
    let mut accumulating = trainer(Box::new(|| model(MeanSquaredError))).accumulate(3).unwrap();
    assert!(of_tenth(|| drop(accumulating.step(&data))) <= both, "accumulation");
}
