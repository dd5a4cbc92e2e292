//! The trainer beside PyTorch and Keras: from the same weights and the same batches, the same losses and weights.
//!
//! What they got is in `references.safetensors`; `README.md` beside it says what is what. Differences are relative to the
//! largest absolute value of an array, as its elements may lie anywhere near zero.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of a test fails as the test does, and tells what it reached"
)]

use ndarray::{Array, Array1, Array2, ArrayD, IxDyn, s};
use procession::train::{
    Activation, Adam, Average, AverageOptions, BatchNorm, BinaryCrossEntropy, Clip, Dense, LayerNorm, MeanSquaredError,
    Model, Naming, Optimizer, Schedule, Sgd, SoftmaxCrossEntropy, Trainer, WarmUp,
};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// The difference that is allowed after 50 steps.
const TOLERANCE: f64 = 1e-4;

const STEPS: usize = 50;

struct References<'b>(SafeTensors<'b>);

impl References<'_> {
    fn floats(&self, name: &str) -> ArrayD<f64> {
        let tensor = self.0.tensor(name).unwrap_or_else(|_| panic!("there is {name}"));
        let data = tensor.data();
        let values = match tensor.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
            other => panic!("{name} is of type {other:?}"),
        };
        Array::from_shape_vec(IxDyn(tensor.shape()), values).unwrap()
    }

    fn batch(&self, name: &str, step: usize) -> Array2<f32> {
        self.floats(name).slice(s![step, .., ..]).mapv(|x| x as f32).into_dimensionality().unwrap()
    }

    fn labels(&self, step: usize) -> Array1<u32> {
        let tensor = self.0.tensor("data/labels").unwrap();
        let bytes = tensor.data().as_chunks().0;
        let rows = tensor.shape()[1];
        bytes[step * rows..(step + 1) * rows].iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    }

    /// The names of a case's arrays within a part, such as `final`.
    fn names(&self, case: &str, part: &str) -> Vec<String> {
        let prefix = format!("{case}/{part}/");
        let mut names: Vec<String> =
            self.0.names().iter().filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned)).collect();
        names.sort();
        names
    }
}

/// What a framework does otherwise than the other.
#[derive(Clone, Copy, PartialEq)]
enum Framework {
    Torch,
    Keras,
}

fn plain() -> Model {
    Model::builder(12)
        .dense("hidden1", 16)
        .relu("relu")
        .dense("hidden2", 8)
        .tanh("tanh")
        .dense("logits", 4)
        .build()
        .unwrap()
}

fn norms(framework: Framework) -> Model {
    let (bn, ln) = match framework {
        Framework::Torch => (BatchNorm::new(), LayerNorm::new()),
        Framework::Keras => (BatchNorm::new().epsilon(1e-3).unbiased(false), LayerNorm::new().epsilon(1e-3)),
    };
    Model::builder(12)
        .layer("hidden1", Dense::new(16))
        .layer("bn", bn)
        .layer("gelu", Activation::Gelu)
        .dense("hidden2", 8)
        .layer("ln", ln)
        .sigmoid("sigmoid")
        .dense("logits", 4)
        .build()
        .unwrap()
}

fn set_initial(references: &References<'_>, model: &mut Model, kind: &str) {
    let mut names = Vec::new();
    model.for_each_param(|name, _| names.push(name.to_owned()));
    for name in names {
        let values = references.floats(&format!("initial/{kind}/{name}")).mapv(|x| x as f32);
        model.set_param(&name, values.view()).unwrap();
    }
}

/// The largest difference, relative to the largest reference.
fn difference(found: impl Iterator<Item = f64>, expected: &ArrayD<f64>) -> f64 {
    let largest = expected.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let difference = |(a, b): (f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() / largest };
    found.zip(expected).map(difference).fold(0.0, f64::max)
}

/// Checks a model, after training, against a case; returns the largest difference.
fn compare(references: &References<'_>, case: &str, part: &str, model: &Model, skip: &[&str]) -> f64 {
    let names = references.names(case, part);
    assert!(!names.is_empty(), "{case}/{part} is there");
    let mut worst = 0.0;
    for name in names.iter().filter(|name| !skip.contains(&name.as_str())) {
        let expected = references.floats(&format!("{case}/{part}/{name}"));
        let found = model.param(name).unwrap();
        assert_eq!(found.shape(), expected.shape(), "{case}/{part}/{name}");
        let difference = difference(found.iter().map(|&x| f64::from(x)), &expected);
        assert!(difference < TOLERANCE, "{case}/{part}/{name} differs by {difference:e}");
        worst = f64::max(worst, difference);
    }
    worst
}

/// What a case trains with.
struct Case {
    name: &'static str,
    trainer: Trainer,
    targets: &'static str,
    /// Parameters that rounding alone decides.
    skip: &'static [&'static str],
}

fn with_references(check: impl FnOnce(&References<'_>)) {
    let bytes = include_bytes!("references.safetensors");
    check(&References(SafeTensors::deserialize(bytes).unwrap()));
}

/// Trains on all batches and compares losses, weights and, where there is one, the average.
fn run(references: &References<'_>, case: Case) {
    let Case { name, mut trainer, targets, skip } = case;
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let x = references.batch("data/x", step);
        let score = match targets {
            "labels" => trainer.step(&(x, references.labels(step))),
            _ => trainer.step(&(x, references.batch(&format!("data/{targets}"), step))),
        };
        losses.push(f64::from(score.unwrap().loss));
    }
    let of_losses = difference(losses.into_iter(), &references.floats(&format!("{name}/losses")));
    assert!(of_losses < TOLERANCE, "losses of {name} differ by {of_losses:e}");
    let of_weights = compare(references, name, "final", trainer.model(), skip);
    let mut report = format!("{name}: losses {of_losses:.1e}, weights {of_weights:.1e}");
    if let Ok((average, model)) = trainer.average_and_model("average") {
        let averaged = average.applied(model).unwrap();
        report += &format!(", average {:.1e}", compare(references, name, "average", &averaged, skip));
    }
    println!("{report}");
}

fn trainer(references: &References<'_>, optimizer: impl Optimizer + 'static) -> Trainer {
    let mut model = plain();
    set_initial(references, &mut model, "plain");
    Trainer::new(model, optimizer)
}

fn trainer_with(
    references: &References<'_>,
    loss: impl procession::train::Loss + 'static,
    optimizer: impl Optimizer + 'static,
) -> Trainer {
    let mut model = plain();
    model.set_loss(loss);
    set_initial(references, &mut model, "plain");
    Trainer::new(model, optimizer)
}

fn trainer_of_norms(references: &References<'_>, framework: Framework, optimizer: impl Optimizer + 'static) -> Trainer {
    let mut model = norms(framework);
    set_initial(references, &mut model, "norms");
    Trainer::new(model, optimizer)
}

fn average(trainer: Trainer, options: AverageOptions) -> Trainer {
    trainer.average("average", options).unwrap()
}

#[test]
fn pytorch() {
    with_references(|r| {
        let adam = || Adam::new(0.01);
        let momentum = || Sgd::new(0.05).momentum(0.9);
        let power = WarmUp::Power { gamma: 1.0, power: 2.0 / 3.0, min: 0.0 };
        let ema = AverageOptions::new;
        // Batch norm takes the bias before it away again: its gradient is rounding, which Adam scales up.
        let free: &'static [&'static str] = &["hidden1/bias", "bn/moving_mean"];
        let case = |name, trainer| Case { name, trainer, targets: "labels", skip: &[] };
        let cases = [
            case("torch/sgd", trainer(r, Sgd::new(0.1))),
            case("torch/momentum", trainer(r, momentum())),
            case("torch/nesterov", trainer(r, momentum().nesterov(true))),
            case("torch/sgd_decay", trainer(r, Sgd::new(0.1).momentum(0.9).weight_decay(0.01))),
            case("torch/adam", trainer(r, adam())),
            case("torch/adamw", trainer(r, adam().weight_decay(0.1))),
            case("torch/adam_clip", trainer(r, adam()).clip(Clip::Norm(0.5)).unwrap()),
            case("torch/adam_clip_value", trainer(r, adam()).clip(Clip::Value(0.02)).unwrap()),
            case("torch/smoothing", trainer_with(r, SoftmaxCrossEntropy::new().label_smoothing(0.1), adam())),
            Case { targets: "values", ..case("torch/mse", trainer_with(r, MeanSquaredError, adam())) },
            Case { targets: "bits", ..case("torch/bce", trainer_with(r, BinaryCrossEntropy, adam())) },
            case("torch/accumulate", trainer(r, momentum()).accumulate(5).unwrap()),
            case("torch/adam_ema", average(trainer(r, adam()), ema(0.9).start(1))),
            case("torch/adam_ema_warmup", average(trainer(r, adam()), ema(0.99).warm_up(WarmUp::Count))),
            case("torch/adam_ema_power", average(trainer(r, adam()), ema(0.999).warm_up(power))),
            case("torch/adam_ema_bias", average(trainer(r, adam()), ema(0.95).bias_correction(true))),
            Case { skip: free, ..case("torch/norms", trainer_of_norms(r, Framework::Torch, adam())) },
            case("torch/norms_momentum", trainer_of_norms(r, Framework::Torch, momentum())),
            Case {
                skip: free,
                ..case("torch/adamw_all", trainer_of_norms(r, Framework::Torch, adam().weight_decay(0.05)))
            },
        ];
        cases.into_iter().for_each(|case| run(r, case));
    });
}

#[test]
fn keras() {
    with_references(|r| {
        let adam = || Adam::new(0.01).epsilon_hat(1e-7);
        let momentum = || Sgd::new(0.05).momentum(0.9);
        let free: &'static [&'static str] = &["hidden1/bias", "bn/moving_mean"];
        let case = |name, trainer| Case { name, trainer, targets: "labels", skip: &[] };
        let cases = [
            case("keras/sgd", trainer(r, Sgd::new(0.1))),
            case("keras/momentum", trainer(r, momentum())),
            case("keras/nesterov", trainer(r, momentum().nesterov(true))),
            case("keras/adam", trainer(r, adam())),
            case("keras/adamw", trainer(r, adam().weight_decay(0.1))),
            case("keras/adam_clip", trainer(r, adam()).clip(Clip::Norm(0.5)).unwrap()),
            case("keras/adam_ema", average(trainer(r, adam()), AverageOptions::new(0.9).start(1))),
            Case { targets: "values", ..case("keras/mse", trainer_with(r, MeanSquaredError, adam())) },
            Case { targets: "bits", ..case("keras/bce", trainer_with(r, BinaryCrossEntropy, adam())) },
            Case { skip: free, ..case("keras/norms", trainer_of_norms(r, Framework::Keras, adam())) },
            case("keras/norms_momentum", trainer_of_norms(r, Framework::Keras, momentum())),
        ];
        cases.into_iter().for_each(|case| run(r, case));
    });
}

#[test]
fn schedules() {
    with_references(|r| {
        let cases = [
            ("torch/cosine", Sgd::new(0.1), Schedule::cosine(0.1, 50)),
            ("torch/one_cycle", Sgd::new(0.1).momentum(0.9), Schedule::one_cycle(0.1, 50)),
            ("torch/step", Sgd::new(0.1), Schedule::step(0.1, 15, 0.3)),
            ("torch/warmup", Sgd::new(0.1), Schedule::constant(0.1).warm_up(10, 0.1)),
        ];
        for (name, optimizer, schedule) in cases {
            for (step, &expected) in (0..).zip(r.floats(&format!("{name}/rates")).iter()) {
                let found = schedule.rate(step);
                assert!((found - expected).abs() < 1e-12, "{name} at step {step}: {found}, expected {expected}");
            }
            let trainer = trainer(r, optimizer).schedule(schedule).unwrap();
            run(r, Case { name, trainer, targets: "labels", skip: &[] });
        }
    });
}

/// An average started elsewhere than the framework's must not pass: the comparison would be worth nothing.
#[test]
fn the_references_tell_averages_apart() {
    with_references(|r| {
        let mut trainer = trainer(r, Adam::new(0.01));
        let mut average =
            Average::new(trainer.model(), AverageOptions::new(0.99).warm_up(WarmUp::Count).start(1)).unwrap();
        for step in 0..STEPS {
            trainer.step(&(r.batch("data/x", step), r.labels(step))).unwrap();
            average.update(trainer.model()).unwrap();
        }
        let expected = r.floats("torch/adam_ema_warmup/average/logits/kernel");
        let found = average.param("logits/kernel").unwrap();
        assert!(difference(found.iter().map(|&x| f64::from(x)), &expected) > TOLERANCE);
    });
}

/// A model whose weights PyTorch saved gives what PyTorch gives; NumPy's archive holds the same.
#[test]
fn weights_of_others() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let build = || Model::builder(3).dense("hidden", 4).batch_norm("norm").build().unwrap();
    let mut model = build();
    model.load_weights(dir.join("weights.safetensors"), Naming::PyTorch).unwrap();
    // What `make_npz.py` printed.
    let expected =
        ndarray::array![[-0.881111, -6.82827, -0.813603, 3.770121], [-0.726372, -5.470918, -1.418618, 1.567546]];
    let found = model.predict(&ndarray::array![[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]]).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 2e-6, "{found}, expected {expected}");
    }
    #[cfg(feature = "npy")]
    {
        let mut other = build();
        other.load_weights(dir.join("weights.npz"), Naming::Keras).unwrap();
        assert_eq!(other.weights(Naming::Keras).unwrap(), model.weights(Naming::Keras).unwrap());
    }
}
