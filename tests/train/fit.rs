//! `fit`, `evaluate` and `predict` do what a plain loop does.

use ndarray::{Array2, Axis, concatenate};
use procession::train::{
    Adam, Average, Clip, ConfusionMatrix, Ending, Model, Optimizer, Schedule, Sgd, TopK, Totals, Trainer,
};
use procession::{ErrorKind, Loader, Tail, from_fn};

use crate::support::{Points, bits, full_trainer, model, points, test_loader, train_loader};

#[test]
fn fit_is_the_plain_loop() {
    let (train, test) = (train_loader(100, 16), test_loader(Tail::Keep));
    let schedule = Schedule::cosine(0.05, 20).warm_up(3, 0.1);
    let mut trainer = Trainer::new(model(1), Adam::new(0.5))
        .schedule(schedule)
        .unwrap()
        .clip(Clip::Norm(0.7))
        .unwrap()
        .average("ema", 0.9)
        .unwrap();
    assert_eq!(trainer.fit_validated(train.epochs(0..3), || test.epoch(0)).unwrap(), Ending::Completed);

    let (mut model, mut adam) = (model(1), Adam::new(0.5));
    let mut average = Average::new(&model, 0.9).unwrap();
    let evaluate = |model: &mut Model| {
        let mut totals = Totals::default();
        for batch in test.epoch(0) {
            let (x, labels) = &*batch.unwrap();
            totals.add(&model.evaluate(x, labels).unwrap());
        }
        totals
    };
    let mut expected = Vec::new();
    for epoch in train.epochs(0..3) {
        let mut totals = Totals::default();
        for batch in epoch {
            let (x, labels) = &*batch.unwrap();
            totals.add(&model.loss_and_gradients(x, labels).unwrap());
            model.clip_gradients(Clip::Norm(0.7)).unwrap();
            adam.set_learning_rate(schedule.rate(model.step()) as f32);
            model.apply_gradients(&mut adam).unwrap();
            average.update(&model).unwrap();
        }
        let raw = evaluate(&mut model);
        let averaged = evaluate(&mut average.applied(&mut model).unwrap());
        expected.push((totals, raw, averaged, adam.learning_rate()));
    }
    assert_eq!(bits(trainer.model()), bits(&model));
    let (theirs, trainer_model) = trainer.average_and_model("ema").unwrap();
    assert_eq!(bits(&theirs.applied(trainer_model).unwrap()), bits(&average.applied(&mut model).unwrap()));
    let history = trainer.history();
    for (at, (totals, raw, averaged, rate)) in expected.iter().enumerate() {
        let value = |name: &str| history.column(name).nth(at).unwrap();
        let columns = [
            ("loss", totals.mean_loss()),
            ("accuracy", totals.accuracy()),
            ("samples", 100.0),
            ("learning_rate", f64::from(*rate)),
            ("val_loss", raw.mean_loss()),
            ("val_accuracy", raw.accuracy()),
            ("ema_val_loss", averaged.mean_loss()),
            ("ema_val_accuracy", averaged.accuracy()),
        ];
        for (name, expected) in columns {
            assert_eq!(value(name), (at as u64, 7 * (at as u64 + 1), expected), "{name}");
        }
    }
}

#[test]
fn workers_do_not_change_the_training() {
    let run = |workers| {
        let loader = Loader::builder(points(90, 0)).batch_size(8).shuffle(1).workers(workers).build().unwrap();
        let mut trainer = full_trainer();
        trainer.fit(loader.epochs(0..2)).unwrap();
        bits(trainer.model())
    };
    let expected = run(0);
    assert_eq!(run(1), expected);
    assert_eq!(run(3), expected);
}

fn linear() -> Model {
    Model::builder(2).dense("hidden", 8).tanh("tanh").dense("logits", 3).seed(1).build().unwrap()
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    // 100 samples in batches of 16, four at a time: 64 samples in a step, and then the 36 that are left.
    let (small, large) = (train_loader(100, 16), train_loader(100, 64));
    let mut accumulated = Trainer::new(linear(), Sgd::new(0.5)).accumulate(4).unwrap();
    let mut whole = Trainer::new(linear(), Sgd::new(0.5));
    accumulated.fit(small.epochs(0..3)).unwrap();
    whole.fit(large.epochs(0..3)).unwrap();
    assert_eq!((accumulated.model().step(), whole.model().step()), (6, 6));
    for name in ["hidden/kernel", "hidden/bias", "logits/kernel", "logits/bias"] {
        let (a, b) = (accumulated.model().param(name).unwrap(), whole.model().param(name).unwrap());
        // The same sums in another order: a few roundings of 2^-24 in each of six steps.
        assert!((&a - &b).iter().all(|difference| difference.abs() < 1e-5), "{name}");
        assert_ne!(a, linear().param(name).unwrap());
    }
}

#[test]
fn batches_that_make_one_step_have_masks_of_their_own() {
    let build = || Model::builder(2).dropout("drop", 0.5).dense("logits", 3).seed(1).build().unwrap();
    let (x, labels) = (Array2::ones((64, 2)), vec![0; 64]);
    let data = (x, ndarray::Array1::from(labels));
    let mut trainer = Trainer::new(build(), Sgd::new(0.0)).accumulate(2).unwrap();
    let first = trainer.step(&data).unwrap();
    let second = trainer.step(&data).unwrap();
    assert_eq!(trainer.model().step(), 1);
    assert_ne!(first.loss, second.loss, "the same mask twice");
    let mut model = build();
    assert_eq!(model.loss_and_gradients(&data.0, &data.1).unwrap(), first);
    // After a step, the first mask of the next.
    model.set_step(1);
    let next = model.loss_and_gradients(&data.0, &data.1).unwrap();
    assert_eq!(trainer.model_mut().loss_and_gradients(&data.0, &data.1).unwrap(), next);
}

#[test]
fn padding_is_left_out() {
    let run = |tail| {
        let train = Loader::builder(points(50, 0)).batch_size(16).tail(tail).shuffle(2).build().unwrap();
        let test = test_loader(tail);
        let mut trainer = Trainer::new(linear(), Sgd::new(0.1)).metric(ConfusionMatrix::new(3));
        trainer.fit_validated(train.epochs(0..2), || test.epoch(0)).unwrap();
        let evaluation = trainer.evaluate(test.epoch(0)).unwrap();
        let outputs = trainer.predict(test.epoch(0)).unwrap();
        (bits(trainer.model()), evaluation, outputs)
    };
    let (weights, evaluation, outputs) = run(Tail::Keep);
    assert_eq!((evaluation.samples, outputs.nrows()), (100, 100));
    let padded = run(Tail::Pad);
    assert!(padded.0 == weights && padded.1 == evaluation && padded.2 == outputs);
}

#[test]
fn a_batch_may_have_other_rows_than_samples() {
    let loader = train_loader(64, 16);
    let batches: Vec<Points> = loader.epoch(0).map(|batch| batch.unwrap().into_inner()).collect();
    let mut expected = Trainer::new(linear(), Sgd::new(0.1));
    batches.iter().for_each(|data| drop(expected.step(data).map(drop)));

    // Keras's form: an index is a batch.
    let ready: Loader<Points> = Loader::builder(batches.clone()).ready_batches().workers(0).build().unwrap();
    let mut trainer = Trainer::new(linear(), Sgd::new(0.1));
    trainer.fit_validated(ready.epochs(0..1), || ready.epoch(0)).unwrap();
    assert_eq!(bits(trainer.model()), bits(expected.model()));
    assert_eq!(trainer.totals().samples(), 64);
    assert_eq!(trainer.evaluate(ready.epoch(0)).unwrap().samples, 64);
    assert_eq!(trainer.predict(ready.epoch(0)).unwrap().nrows(), 64);

    // Two rows for each sample, as two crops of a picture are.
    let twice = |tail| {
        let builder = Loader::builder(points(10, 0)).batch_size(4).tail(tail).workers(0);
        let loader = builder.collate(|samples: Vec<([f32; 2], u32)>| {
            let x = Array2::from_shape_fn((2 * samples.len(), 2), |(row, column)| samples[row / 2].0[column]);
            Ok((x, (0..2 * samples.len()).map(|row| samples[row / 2].1).collect::<ndarray::Array1<u32>>()))
        });
        loader.build().unwrap()
    };
    let mut trainer = Trainer::new(linear(), Sgd::new(0.1));
    assert_eq!(trainer.evaluate(twice(Tail::Keep).epoch(0)).unwrap().samples, 20);
    trainer.fit(twice(Tail::Keep).epochs(0..1)).unwrap();
    // Which of the rows are padding is then not to be told.
    let error = trainer.fit(twice(Tail::Pad).epochs(0..1)).unwrap_err();
    assert!(error.to_string().starts_with("8 rows for 4 samples, of which some are padding, in batch 2"), "{error}");
}

#[test]
fn an_epoch_that_failed_leaves_no_totals() {
    let train = train_loader(40, 8);
    let mut fails = true;
    let mut trainer = Trainer::new(linear(), Sgd::new(0.1)).on_step(move |moment| {
        if moment.step() == 3 && std::mem::take(&mut fails) {
            return Err(procession::Error::sample("once"));
        }
        Ok(procession::train::Flow::Continue)
    });
    assert!(trainer.fit(train.epochs(0..1)).is_err());
    assert_eq!(trainer.totals().samples(), 24);
    trainer.fit(train.epochs(0..1)).unwrap();
    assert_eq!(trainer.history().column("samples").collect::<Vec<_>>(), [(0, 8, 40.0)]);
}

#[test]
fn predictions_are_those_of_the_model() {
    let test = test_loader(Tail::Keep);
    let mut trainer = Trainer::new(model(2), Sgd::new(0.1)).average("ema", 0.5).unwrap().metric(TopK::new(2));
    trainer.fit(train_loader(40, 8).epochs(0..2)).unwrap();
    let outputs = trainer.predict(test.epoch(0)).unwrap();
    let batches: Vec<Array2<f32>> =
        test.epoch(0).map(|batch| trainer.model_mut().predict(&batch.unwrap().0).unwrap()).collect();
    let views: Vec<_> = batches.iter().map(|outputs| outputs.view()).collect();
    assert_eq!(outputs, concatenate(Axis(0), &views).unwrap());

    let raw = trainer.evaluate(test.epoch(0)).unwrap();
    let averaged = trainer.evaluate_average("ema", test.epoch(0)).unwrap();
    assert_ne!(raw.loss, averaged.loss);
    assert_eq!(raw, trainer.evaluate(test.epoch(0)).unwrap());
    let (average, model) = trainer.average_and_model("ema").unwrap();
    average.apply(model).unwrap();
    assert_eq!(trainer.evaluate(test.epoch(0)).unwrap(), averaged);
    let (average, model) = trainer.average_and_model("ema").unwrap();
    average.restore(model).unwrap();
    let right = |(at, row): (usize, ndarray::ArrayView1<'_, f32>)| {
        let label = (10_000 + at) % 3;
        row.iter().filter(|&&value| value > row[label]).count() < 2
    };
    let expected = outputs.outer_iter().enumerate().filter(|row| right(*row)).count() as f64 / 100.0;
    assert_eq!(raw.metrics, [("top_2_accuracy".to_owned(), expected)]);
    let error = trainer.evaluate_average("none", test.epoch(0)).unwrap_err();
    assert_eq!(error.to_string(), "no average none, expected one of ema");
}

#[test]
fn a_loss_that_is_not_finite_names_step_batch_and_samples() {
    let source = from_fn(40, |index| ([if index == 33 { f32::NAN } else { index as f32 / 40.0 }, 0.0], 0_u32));
    let loader: Loader<Points> = Loader::builder(source).batch_size(4).workers(0).build().unwrap();
    let mut trainer = Trainer::new(linear(), Sgd::new(0.01)).average("ema", 0.9).unwrap();
    let mut after = Vec::new();
    let mut other = Trainer::new(linear(), Sgd::new(0.01));
    for batch in loader.epoch(0).take(8) {
        other.step(&*batch.unwrap()).unwrap();
        after = bits(other.model());
    }
    let error = trainer.fit(loader.epochs(0..2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Numeric);
    assert_eq!(error.to_string(), "the loss is NaN at step 8, in batch 8 of epoch 0 with samples 32, 33, 34, 35");
    assert_eq!((trainer.model().step(), bits(trainer.model())), (8, after));
    let error = trainer.evaluate(loader.epoch(0)).unwrap_err();
    assert!(error.to_string().contains("in batch 8 of epoch 0 with samples 32, 33, 34, 35"), "{error}");
    // The trainer is as good as before.
    assert_eq!(trainer.fit(train_loader(8, 4).epochs(0..1)).unwrap(), Ending::Completed);
}

#[test]
fn the_loaders_errors_pass() {
    let source = procession::try_from_fn(20, |index| if index == 7 { Err("broken") } else { Ok(([0.0, 1.0], 0_u32)) });
    let loader: Loader<Points> = Loader::builder(source).batch_size(4).workers(0).build().unwrap();
    let mut trainer = Trainer::new(linear(), Sgd::new(0.01));
    let error = trainer.fit(loader.epochs(0..1)).unwrap_err();
    assert_eq!((error.kind(), error.index()), (ErrorKind::Sample, Some(7)));
    assert!(trainer.evaluate(loader.epoch(0)).is_err());
    assert!(trainer.predict(loader.epoch(0)).is_err());
}

#[test]
fn options_out_of_range_are_refused() {
    let new = || Trainer::new(linear(), Sgd::new(0.1));
    let message = |trainer: procession::Result<Trainer>| trainer.unwrap_err().to_string();
    assert!(message(new().schedule(Schedule::cosine(0.1, 0))).starts_with("schedule "));
    assert!(message(new().clip(Clip::Norm(-1.0))).contains("expected a number above 0"));
    assert!(message(new().accumulate(0)).contains("0 batches, expected at least 1"));
    assert!(message(new().average("", 0.9)).contains("average name \"\""));
    assert!(message(new().average("a/b", 0.9)).contains("has no /"));
    assert!(message(new().average("a", 0.9).unwrap().average("a", 0.9)).contains("average name \"a\""));
    assert!(message(new().average("a", 1.5)).contains("decay 1.5"));
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let mut trainer = Trainer::new(linear(), Sgd::new(0.1));
    let error = trainer.step(&(Array2::<f32>::zeros((4, 3)), ndarray::Array1::<u32>::zeros(4))).unwrap_err();
    assert_eq!(error.to_string(), "the batch's samples have shape [3], the model's input [2]");
    let error = trainer.step(&(Array2::<f32>::zeros((4, 2)), ndarray::Array1::<u32>::zeros(3))).unwrap_err();
    assert_eq!(error.to_string(), "3 labels for 4 rows");
    // A batch whose targets are fewer than its samples, which a collate function can make.
    let loader = Loader::builder(points(8, 0))
        .batch_size(4)
        .collate(|samples: Vec<([f32; 2], u32)>| {
            let x = Array2::from_shape_fn((samples.len(), 2), |(row, column)| samples[row].0[column]);
            Ok((x, ndarray::Array1::<u32>::zeros(3)))
        })
        .workers(0)
        .build()
        .unwrap();
    let error = trainer.fit(loader.epochs(0..1)).unwrap_err();
    assert!(error.to_string().starts_with("3 labels for 4 rows, in batch 0"), "{error}");
}
