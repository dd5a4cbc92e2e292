//! A model large enough for several threads: the same for any number of them, and no waiting for one another.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ndarray::{Array1, Array2};
use procession::train::{Adam, Model, Trainer};

use crate::support::bits;

const BATCH: usize = 64;

fn model(num_threads: usize) -> Model {
    Model::builder(300)
        .dense("a", 400)
        .relu("relu")
        .dropout("drop", 0.2)
        .dense("b", 130)
        .gelu("gelu")
        .dense("c", 10)
        .seed(2)
        .threads(num_threads)
        .build()
        .unwrap()
}

fn data(seed: usize) -> (Array2<f32>, Array1<u32>) {
    let x = |(row, column): (usize, usize)| ((row * 31 + column * 17 + seed * 7) % 101) as f32 / 101.0 - 0.5;
    (Array2::from_shape_fn((BATCH, 300), x), (0..BATCH as u32).map(|row| row % 10).collect())
}

fn trained(num_threads: usize) -> Vec<u32> {
    let mut trainer = Trainer::new(model(num_threads), Adam::new(0.001)).average("ema", 0.9).unwrap();
    for seed in 0..5 {
        trainer.step(&data(seed)).unwrap();
    }
    let (average, model) = trainer.average_and_model("ema").unwrap();
    let raw = bits(model);
    [raw, bits(&average.applied(model).unwrap())].concat()
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let expected = trained(1);
    for num_threads in [2, 3, 5] {
        assert!(trained(num_threads) == expected, "{num_threads} threads");
    }
    // Inside a pool of somebody else's.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    assert!(pool.install(|| trained(2)) == expected);
}

/// Runs work that must end by itself.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, end) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        // Nobody waits any more if the test has failed.
        let _ = done.send(());
    });
    if end.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    worker.join().unwrap();
}

#[test]
fn handles_in_several_threads_do_not_wait_for_each_other_for_ever() {
    ends(|| {
        let parent = model(2);
        thread::scope(|scope| {
            for seed in 0..3 {
                let mut model = parent.up_to("c").unwrap();
                let mut function = parent.function(&["gelu"]).unwrap();
                scope.spawn(move || {
                    let mut adam = Adam::new(0.001);
                    for round in 0..30 {
                        let (x, labels) = data(seed);
                        model.train_step(&x, &labels, &mut adam).unwrap();
                        function.run(&x).unwrap();
                        assert!(round > 0 || function.value(0).iter().all(|value| value.is_finite()));
                    }
                });
            }
        });
    });
}

#[test]
fn handles_in_a_pool_do_not_wait_for_each_other_for_ever() {
    ends(|| {
        let parent = model(2);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.scope(|scope| {
            for seed in 0..4 {
                let mut model = parent.up_to("c").unwrap();
                scope.spawn(move |_| {
                    let mut adam = Adam::new(0.001);
                    for _ in 0..20 {
                        let (x, labels) = data(seed);
                        model.train_step(&x, &labels, &mut adam).unwrap();
                    }
                });
            }
        });
    });
}
