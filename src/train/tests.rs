//! Tests of the trainer as a whole, and what they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, ArrayView2, ArrayViewMut2, array};

use super::stream::stream;
use super::*;
use crate::{Error, ErrorKind, Result};

/// Passes its input on and counts its passes. As an inner value it has twice its input, and counts how often that is
/// asked for.
#[derive(Debug, Default)]
pub(super) struct Counting {
    width: usize,
    pub(super) passes: Arc<AtomicUsize>,
    pub(super) recorded: Arc<AtomicUsize>,
    /// Panics in a forward pass when set to 1, and fails when set to 2.
    pub(super) trouble: Arc<AtomicUsize>,
}

impl Counting {
    /// A layer and a handle to its counters.
    pub(super) fn pair() -> (Self, Self) {
        let layer = Self::default();
        let (passes, recorded) = (Arc::clone(&layer.passes), Arc::clone(&layer.recorded));
        let trouble = Arc::clone(&layer.trouble);
        (layer, Self { width: 0, passes, recorded, trouble })
    }

    /// Passes and recorded inner values so far.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.passes.load(Ordering::Relaxed), self.recorded.load(Ordering::Relaxed))
    }
}

impl Layer for Counting {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        self.width = input_width;
        Ok(input_width)
    }

    fn inner_values(&self) -> Vec<InnerValue> {
        vec![InnerValue::new("twice", self.width), InnerValue::new("rows", 1).once()]
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        match self.trouble.load(Ordering::Relaxed) {
            1 => panic!("trouble"),
            2 => return Err(Error::argument("trouble")),
            _ => {}
        }
        if pass.wants_output() {
            y.assign(&x);
        }
        let [twice, rows] = pass.inner();
        if let Some(mut twice) = twice {
            self.recorded.fetch_add(1, Ordering::Relaxed);
            twice.assign(&(2.0 * &x));
        }
        if let Some(mut rows) = rows {
            self.recorded.fetch_add(1, Ordering::Relaxed);
            rows[[0, 0]] = x.nrows() as f32;
        }
        Ok(())
    }

    fn backward(
        &mut self,
        _x: ArrayView2<'_, f32>,
        _y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        _pass: &Backward<'_>,
    ) -> Result<()> {
        if let Some(mut dx) = dx {
            dx.assign(&dy);
        }
        Ok(())
    }
}

/// Made-up inputs in (-1, 1).
pub(super) fn inputs(rows: usize, width: usize, seed: u64) -> Array2<f32> {
    let mut stream = stream(seed, &[]);
    Array2::from_shape_simple_fn((rows, width), || 2.0 * stream.uniform_f32() - 1.0)
}

/// Three blobs in the plane that a line between each pair separates, and their labels.
fn blobs(rows: usize, seed: u64) -> (Array2<f32>, Vec<u32>) {
    let centres = [[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]];
    let labels: Vec<u32> = (0..rows as u32).map(|row| row % 3).collect();
    let mut x = inputs(rows, 2, seed);
    for (mut row, &label) in x.outer_iter_mut().zip(&labels) {
        row += &array![centres[label as usize][0], centres[label as usize][1]];
    }
    (x, labels)
}

fn classifier(seed: u64) -> Model {
    Model::builder(2)
        .dense("hidden", 16)
        .relu("relu")
        .dropout("dropout", 0.2)
        .dense("logits", 3)
        .softmax("probabilities")
        .seed(seed)
        .build()
        .unwrap()
}

/// All values of all parameters.
pub(super) fn weights(model: &Model) -> Vec<u32> {
    let mut bits = Vec::new();
    model.for_each_param(|_, param| bits.extend(param.values().iter().map(|value| value.to_bits())));
    bits
}

/// Trains on blobs and returns the bits of every loss.
fn losses(model: &mut Model, steps: u64) -> Vec<u32> {
    let mut adam = Adam::new(0.02);
    (0..steps)
        .map(|step| {
            let (x, labels) = blobs(30, step);
            model.train_step(&x, &labels, &mut adam).unwrap().loss.to_bits()
        })
        .collect()
}

#[test]
fn separable_blobs_are_learnt() {
    for seed in 0..3 {
        let mut model = classifier(seed);
        let losses = losses(&mut model, 200);
        assert!(f32::from_bits(losses[199]) < f32::from_bits(losses[0]) / 4.0);
        let (x, labels) = blobs(300, 1000);
        let score = model.evaluate(&x, &labels).unwrap();
        assert_eq!((score.correct, score.samples), (Some(300), 300), "seed {seed}");
        let probabilities = model.predict(&x).unwrap();
        assert!(probabilities.outer_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5));
    }
}

#[test]
fn the_same_seed_gives_the_same_losses() {
    let (mut first, mut second, mut other) = (classifier(5), classifier(5), classifier(6));
    assert_eq!(losses(&mut first, 50), losses(&mut second, 50));
    assert_eq!(weights(&first), weights(&second));
    assert_ne!(losses(&mut first, 50), losses(&mut other, 50));
}

#[test]
fn a_mask_follows_from_seed_layer_and_step() {
    let loss = |seed, step, (x, labels): &(Array2<f32>, Vec<u32>)| {
        let mut model = Model::builder(2).dropout("a", 0.5).dense("d", 3).seed(seed).build().unwrap();
        model.set_param("d/kernel", inputs(2, 3, 9).view().into_dyn()).unwrap();
        model.set_step(step);
        model.loss_and_gradients(x, labels).unwrap().loss
    };
    let batch = blobs(30, 0);
    assert_eq!(loss(1, 1, &batch), loss(1, 1, &batch));
    assert_ne!(loss(1, 1, &batch), loss(1, 2, &batch));
    assert_ne!(loss(1, 1, &batch), loss(2, 1, &batch));
    let mut model = Model::builder(4).dropout("a", 0.5).dropout("b", 0.5).dense("d", 2).build().unwrap();
    model.loss_and_gradients(&inputs(8, 4, 0), &[0; 8]).unwrap();
    assert_ne!(model.inner(0, 0), model.inner(1, 0));
}

#[test]
fn the_loss_of_a_whole_model_has_the_right_gradients() {
    // No ReLU, whose kinks differences may step over; dropout keeps its mask, since the step stays the same.
    let mut model = Model::builder(3)
        .dense("a", 4)
        .softmax("s")
        .dropout("drop", 0.3)
        .dense("b", 3)
        .softmax("probabilities")
        .seed(2)
        .build()
        .unwrap();
    let (x, labels) = (inputs(5, 3, 1), [0, 2, 1, 1, 0]);
    let mut names = Vec::new();
    model.for_each_param(|name, _| names.push(name.to_owned()));
    assert_eq!(names, ["a/kernel", "a/bias", "b/kernel", "b/bias"]);
    let h = 1.0 / 128.0;
    for name in names {
        model.loss_and_gradients(&x, &labels).unwrap();
        let gradient = model.gradient(&name).unwrap();
        let values = model.param(&name).unwrap();
        for (index, &expected) in gradient.indexed_iter() {
            let mut loss_at = |moved: f32| {
                let mut values = values.clone();
                values[index.clone()] = moved;
                model.set_param(&name, values.view()).unwrap();
                model.loss_and_gradients(&x, &labels).unwrap().loss
            };
            let difference = (loss_at(values[&index] + h) - loss_at(values[&index] - h)) / (2.0 * h);
            // Rounding: losses near 1 carry 2^-24, which 2 h makes 4e-6; truncation h^2 / 6 adds about 1e-5.
            assert!((difference - expected).abs() < 1e-4, "{name} {index:?}: {difference}, gradient {expected}");
        }
        model.set_param(&name, values.view()).unwrap();
    }
}

#[test]
fn the_loss_leaves_out_a_last_softmax() {
    let build = |softmax: bool| {
        let builder = Model::builder(2).dense("d", 3).seed(1);
        if softmax { builder.softmax("s") } else { builder }.build().unwrap()
    };
    let (x, labels) = blobs(9, 0);
    let (mut with, mut without) = (build(true), build(false));
    assert_eq!(with.loss_and_gradients(&x, &labels).unwrap(), without.loss_and_gradients(&x, &labels).unwrap());
    assert_eq!(with.evaluate(&x, &labels).unwrap(), without.evaluate(&x, &labels).unwrap());
    let mut nothing = Model::builder(2).softmax("s").build().unwrap();
    assert_eq!(nothing.evaluate(&x, &labels).unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn buffers_settle_on_the_largest_batch() {
    let mut model = classifier(0);
    let mut adam = Adam::default();
    let mut step = |rows| {
        let (x, labels) = blobs(rows, 1);
        model.train_step(&x, &labels, &mut adam).unwrap();
        model.evaluate(&x, &labels).unwrap();
        model.capacity()
    };
    let settled = step(32);
    for rows in [32, 7, 1, 32, 31] {
        assert_eq!(step(rows), settled);
    }
    assert!(step(33) > settled);
}

#[test]
fn a_smaller_batch_after_a_larger_one_gives_the_same() {
    let (x, labels) = blobs(40, 3);
    let (front, front_labels) = (x.slice(ndarray::s![..7, ..]), &labels[..7]);
    let (mut used, mut fresh) = (classifier(1), classifier(1));
    used.loss_and_gradients(&x, &labels).unwrap();
    assert_eq!(
        used.loss_and_gradients(front, front_labels).unwrap(),
        fresh.loss_and_gradients(front, front_labels).unwrap()
    );
    assert_eq!(used.gradient("hidden/kernel").unwrap(), fresh.gradient("hidden/kernel").unwrap());
    assert_eq!(used.predict(front).unwrap(), fresh.predict(front).unwrap());
}

#[test]
fn a_view_in_any_layout_is_a_batch() {
    let mut model = classifier(1);
    let (x, labels) = blobs(12, 3);
    let columns = x.t().as_standard_layout().into_owned();
    assert_eq!(model.predict(&x).unwrap(), model.predict(columns.t()).unwrap());
    let reversed: Vec<u32> = labels.iter().rev().copied().collect();
    let labels_view = ndarray::ArrayView1::from(&reversed);
    assert_eq!(
        model.loss_and_gradients(&x, &labels).unwrap(),
        model.loss_and_gradients(columns.t(), labels_view.slice(ndarray::s![..;-1])).unwrap()
    );
    let mut relu_first = Model::builder(2).relu("r").dropout("d", 0.5).softmax("s").dense("l", 3).build().unwrap();
    assert_eq!(
        relu_first.loss_and_gradients(&x, &labels).unwrap(),
        relu_first.loss_and_gradients(columns.t(), &labels).unwrap()
    );
}

#[test]
fn mistakes_are_named() {
    let mut model = classifier(0);
    let (x, labels) = blobs(6, 0);
    let error = model.predict(&Array2::zeros((1, 28))).unwrap_err();
    assert_eq!(error.to_string(), "the batch's samples have shape [28], the model's input [2]");
    let error = model.train_step(&x, &labels[..5], &mut Adam::default()).unwrap_err();
    assert_eq!(error.to_string(), "5 labels for 6 rows");
    let error = model.evaluate(&x, &[0, 1, 2, 3, 0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "label 3 at row 3, expected a label below 3, the number of outputs");
    let error = model.up_to("nothing").unwrap_err();
    assert_eq!(error.to_string(), "no layer nothing, expected one of hidden, relu, dropout, logits, probabilities");
    let error = model.param("hidden/weight").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no parameter hidden/weight, expected one of hidden/kernel, hidden/bias, logits/kernel, logits/bias"
    );
    let error = model.set_param("hidden/bias", array![1.0].view().into_dyn()).unwrap_err();
    assert_eq!(error.to_string(), "values of shape [1] for hidden/bias, which has shape [16]");
    assert_eq!(model.step(), 0);
}

#[test]
fn a_loss_that_is_not_finite_names_the_step_and_changes_nothing() {
    let mut model = classifier(0);
    losses(&mut model, 3);
    let before = weights(&model);
    for bad in [f32::NAN, f32::INFINITY] {
        let (mut x, labels) = blobs(6, 0);
        x[[2, 1]] = bad;
        let error = model.train_step(&x, &labels, &mut Adam::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Numeric);
        assert_eq!(error.to_string(), "the loss is NaN at step 3");
    }
    assert_eq!((weights(&model), model.step()), (before, 3));
}

#[test]
fn a_layer_that_fails_is_named() {
    let (layer, handle) = Counting::pair();
    let mut model = Model::builder(2).dense("d", 2).layer("custom", layer).build().unwrap();
    handle.trouble.store(2, Ordering::Relaxed);
    let error = model.predict(&Array2::zeros((1, 2))).unwrap_err();
    assert_eq!(error.to_string(), "layer custom: trouble");
    handle.trouble.store(0, Ordering::Relaxed);
    assert!(model.predict(&Array2::zeros((1, 2))).is_ok());
}

#[test]
fn no_rows_are_predicted_as_none() {
    let mut model = classifier(0);
    assert_eq!(model.predict(&Array2::zeros((0, 2))).unwrap().dim(), (0, 3));
    let no_labels: [u32; 0] = [];
    assert_eq!(model.evaluate(&Array2::zeros((0, 2)), &no_labels).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn training_a_sub_model_shows_in_the_parent_and_back() {
    let mut parent = classifier(1);
    let mut sub = parent.up_to("dropout").unwrap();
    assert_eq!((sub.output_width(), sub.num_layers(), sub.num_params()), (16, 3, 48));
    let x = inputs(4, 2, 0);
    let before = sub.predict(&x).unwrap();
    losses(&mut parent, 2);
    let after = sub.predict(&x).unwrap();
    assert_ne!(before, after);
    assert_eq!(after, parent.function(&["dropout"]).unwrap().call(&x).unwrap()[0]);

    let (kernel, logits) = (parent.param("hidden/kernel").unwrap(), parent.param("logits/kernel").unwrap());
    sub.train_step(&x, &[0, 1, 2, 3], &mut Sgd::new(0.5)).unwrap();
    assert_ne!(kernel, parent.param("hidden/kernel").unwrap());
    assert_eq!(logits, parent.param("logits/kernel").unwrap());
    drop(parent);
    assert!(sub.predict(&x).is_ok());
}

#[test]
fn the_first_layers_without_parameters_are_not_run_backwards() {
    #[derive(Debug)]
    struct NoBackward;
    impl Layer for NoBackward {
        fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
            Ok(input_width)
        }
        fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, _: &mut Forward<'_>) -> Result<()> {
            y.assign(&x);
            Ok(())
        }
        fn backward(
            &mut self,
            _x: ArrayView2<'_, f32>,
            _y: ArrayView2<'_, f32>,
            _dy: ArrayView2<'_, f32>,
            _dx: Option<ArrayViewMut2<'_, f32>>,
            _pass: &Backward<'_>,
        ) -> Result<()> {
            Err(Error::argument("run backwards"))
        }
    }
    let mut first = Model::builder(2).layer("n", NoBackward).dense("d", 3).build().unwrap();
    let (x, labels) = blobs(6, 0);
    first.loss_and_gradients(&x, &labels).unwrap();
    let mut last = Model::builder(2).dense("d", 3).layer("n", NoBackward).build().unwrap();
    assert_eq!(last.loss_and_gradients(&x, &labels).unwrap_err().to_string(), "layer n: run backwards");
    let mut without = Model::builder(2).relu("r").layer("n", NoBackward).build().unwrap();
    without.train_step(&x, &[0; 6], &mut Adam::default()).unwrap();
}

#[test]
fn what_passes_through_is_read_all_the_same() {
    let build = |rate| {
        let builder = Model::builder([2, 3]).flatten("flatten").dropout("first", rate).dense("d", 4);
        builder.dropout("middle", rate).relu("relu").dropout("last", rate).seed(1).build().unwrap()
    };
    let x = inputs(10, 3, 0).into_shape_with_order((5, 2, 3)).unwrap();
    let rows = x.view().into_shape_with_order((5, 6)).unwrap();
    let mut model = build(0.5);
    for names in [&["flatten", "first", "middle", "last"][..], &["last", "flatten"], &["flatten"], &["first"]] {
        let values = model.function(names).unwrap().call(&x).unwrap();
        for (name, value) in names.iter().zip(values) {
            let expected = match *name {
                "flatten" | "first" => rows.to_owned(),
                "middle" => model.function(&["d"]).unwrap().call(&x).unwrap().swap_remove(0),
                _ => model.function(&["relu"]).unwrap().call(&x).unwrap().swap_remove(0),
            };
            assert_eq!(value, expected, "{name} of {names:?}");
        }
    }
    let values = model.function(&["first/mask", "middle/mask"]).unwrap().call(&x).unwrap();
    assert!(values.iter().flatten().all(|&factor| factor == 1.0));
    assert_eq!(model.up_to("flatten").unwrap().predict(&x).unwrap(), rows);
    assert_eq!(model.predict(&x).unwrap(), model.up_to("relu").unwrap().predict(&x).unwrap());
    // Without masks, training is that of a model without these layers.
    let mut plain = Model::builder(6).dense("d", 4).relu("relu").seed(1).build().unwrap();
    let mut passing = build(0.0);
    for step in 0..3 {
        let labels = [0, 1, 2, 3, step];
        assert_eq!(
            passing.train_step(&x, &labels, &mut Sgd::new(0.1)).unwrap(),
            plain.train_step(rows, &labels, &mut Sgd::new(0.1)).unwrap()
        );
    }
    assert_eq!(weights(&passing), weights(&plain));
}

#[test]
fn a_model_serves_several_threads() {
    let mut model = classifier(1);
    let x = inputs(50, 2, 0);
    let expected = model.predict(&x).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut function = model.function(&["probabilities"]).unwrap();
            let (x, expected) = (&x, &expected);
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(&function.call(x).unwrap()[0], expected);
                }
            });
        }
    });
}
