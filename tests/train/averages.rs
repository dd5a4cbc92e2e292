//! Averages of any options: they leave the raw weights alone, bit for bit, and are what the formulas say.

use procession::train::{Adam, Average, AverageOptions, Model, WarmUp};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::support::{Points, bits, model, train_loader};

/// The options as they were drawn, for a reference that shares no code with the crate.
#[derive(Debug, Clone, Copy)]
struct Options {
    decay: f64,
    warm_up: WarmUp,
    bias_correction: bool,
    every: u64,
    start: u64,
}

impl Options {
    fn build(self) -> AverageOptions {
        let options = AverageOptions::new(self.decay).warm_up(self.warm_up).bias_correction(self.bias_correction);
        options.every(self.every).start(self.start)
    }

    /// The decay of update `s`, from 0.
    fn decay_at(self, s: f64) -> f64 {
        match self.warm_up {
            WarmUp::Count => self.decay.min((1.0 + (s + 1.0)) / (10.0 + (s + 1.0))),
            WarmUp::Power { gamma, power, min } => {
                let decay = 1.0 - 1.0 / (1.0 + s / gamma).powf(power);
                decay.min(self.decay).max(min)
            }
            _ => self.decay,
        }
    }

    /// The average of one weight over its values after each step, in double precision: with a bias correction the one
    /// from zero, divided by the part of it that is not zero's.
    fn reference(self, initial: f64, weights: &[f64]) -> f64 {
        let (mut average, mut from_zero, mut of_zero, mut s, mut is_first) = (initial, 0.0, 1.0, 0.0, true);
        for (step, &weight) in (1..).zip(weights) {
            if step % self.every != 0 {
                continue;
            }
            if step <= self.start || (self.start > 0 && is_first) {
                average = weight;
            } else {
                let decay = self.decay_at(s);
                s += 1.0;
                from_zero = decay * from_zero + (1.0 - decay) * weight;
                of_zero *= decay;
                average = if self.bias_correction {
                    from_zero / (1.0 - of_zero)
                } else {
                    decay * average + (1.0 - decay) * weight
                };
            }
            is_first = false;
        }
        average
    }
}

fn options() -> impl Strategy<Value = Options> {
    let power = (0.5..5.0, 0.3..1.5, 0.0..0.5).prop_map(|(gamma, power, min)| WarmUp::Power { gamma, power, min });
    let warm_up = prop_oneof![Just(WarmUp::None), Just(WarmUp::Count), power];
    (0.5..0.999, warm_up, any::<bool>(), 1_u64..5, 0_u64..6).prop_map(
        |(decay, warm_up, bias_correction, every, start)| {
            // A start from a copy and a start from zero are two starts: of the two, the copy alone has a reference here.
            let bias_correction = bias_correction && start == 0;
            Options { decay, warm_up, bias_correction, every, start }
        },
    )
}

fn train(batches: &[Points], mut after_step: impl FnMut(&Model)) -> Model {
    let (mut model, mut adam) = (model(5), Adam::new(0.05));
    for (x, labels) in batches {
        model.train_step(x, labels, &mut adam).unwrap();
        after_step(&model);
    }
    model
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn averages_follow_their_formula_and_leave_the_weights_alone(
        first in options(),
        second in options(),
        num_steps in 0_usize..30,
    ) {
        let loader = train_loader(30 * 8, 8);
        let batches: Vec<Points> = loader.epoch(0).take(num_steps).map(|batch| batch.unwrap().into_inner()).collect();
        let plain = train(&batches, |_| ());

        let initial = model(5).param("logits/kernel").unwrap();
        let mut averages: Option<[Average; 2]> = None;
        let mut weights = Vec::new();
        let mut started = model(5);
        let mut adam = Adam::new(0.05);
        for (x, labels) in &batches {
            let averages = averages.get_or_insert_with(|| {
                [first, second].map(|options| Average::new(&started, options.build()).unwrap())
            });
            started.train_step(x, labels, &mut adam).unwrap();
            for average in averages {
                average.update(&started).unwrap();
            }
            weights.push(started.param("logits/kernel").unwrap());
        }
        prop_assert!(bits(&started) == bits(&plain));

        for (average, options) in averages.iter_mut().flatten().zip([first, second]) {
            let found = average.param("logits/kernel").unwrap();
            for (at, &found) in found.indexed_iter() {
                let path: Vec<f64> = weights.iter().map(|weights| f64::from(weights[at.clone()])).collect();
                let expected = options.reference(f64::from(initial[at]), &path);
                // Weights are below 4, and each of thirty updates adds a few roundings of 2^-24.
                prop_assert!((f64::from(found) - expected).abs() < 3e-5, "{found}, expected {expected}");
            }
            // Applied and put back, they leave no trace.
            drop(average.applied(&mut started).unwrap());
            prop_assert!(bits(&started) == bits(&plain));
        }
    }
}
