//! Data that is quick to learn, and trainers with everything in them.

use ndarray::{Array1, Array2};
use procession::train::{Adam, AverageOptions, Clip, Model, Schedule, Trainer, WarmUp};
use procession::{Loader, Tail};

pub(crate) type Points = (Array2<f32>, Array1<u32>);

/// Three blobs in the plane, each sample a point and its blob.
pub(crate) fn points(num_samples: usize, first: usize) -> Vec<([f32; 2], u32)> {
    let noise = |at: usize| (at.wrapping_mul(2_654_435_769) >> 8 & 0xffff) as f32 / 65_536.0 - 0.5;
    (first..first + num_samples)
        .map(|at| {
            let label = at % 3;
            let centre = [[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]][label];
            ([centre[0] + noise(2 * at + 1), centre[1] + noise(2 * at + 2)], label as u32)
        })
        .collect()
}

pub(crate) fn train_loader(num_samples: usize, batch_size: usize) -> Loader<Points> {
    Loader::builder(points(num_samples, 0)).batch_size(batch_size).shuffle(7).workers(1).build().unwrap()
}

pub(crate) fn test_loader(tail: Tail) -> Loader<Points> {
    Loader::builder(points(100, 10_000)).batch_size(32).tail(tail).workers(0).build().unwrap()
}

/// Layers with all there is to go wrong in a resume: masks, moving statistics, a block.
pub(crate) fn model(seed: u64) -> Model {
    Model::builder(2)
        .dense("hidden", 12)
        .batch_norm("norm")
        .relu("relu")
        .dropout("dropout", 0.2)
        .residual("block", |block| block.dense("dense", 12).dropout("drop", 0.1))
        .dense("logits", 3)
        .softmax("probabilities")
        .seed(seed)
        .build()
        .unwrap()
}

/// A trainer with all options, but without callbacks and checkpoints.
pub(crate) fn full_trainer() -> Trainer {
    Trainer::new(model(3), Adam::new(0.02).weight_decay(0.01))
        .schedule(Schedule::cosine(0.02, 40).warm_up(5, 0.1))
        .unwrap()
        .clip(Clip::Norm(1.0))
        .unwrap()
        .accumulate(2)
        .unwrap()
        .average("slow", AverageOptions::new(0.99).warm_up(WarmUp::Count))
        .unwrap()
        .average("fast", AverageOptions::new(0.9).bias_correction(true).every(3))
        .unwrap()
}

/// The bits of all parameters.
pub(crate) fn bits(model: &Model) -> Vec<u32> {
    let mut bits = Vec::new();
    model.for_each_param(|_, param| bits.extend(param.values().iter().map(|value| value.to_bits())));
    bits
}

/// The bits of raw and averaged weights, and the history without what the clock says.
pub(crate) fn all_of(trainer: &mut Trainer) -> (Vec<Vec<u32>>, Vec<String>) {
    let mut weights = vec![bits(trainer.model())];
    for name in ["slow", "fast"] {
        if let Ok((average, model)) = trainer.average_and_model(name) {
            weights.push(bits(&average.applied(model).unwrap()));
        }
    }
    let clocked = ["seconds", "samples_per_second", "data_wait_fraction"];
    let history = trainer.history();
    let columns = history.columns().iter().filter(|name| !clocked.contains(&name.as_str()));
    let rows = columns.flat_map(|name| history.column(name).map(move |row| format!("{name} {row:?}")));
    (weights, rows.collect())
}
