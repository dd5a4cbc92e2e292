//! Callbacks: when they are called, what they see, and how they end a training.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use procession::Tail;
use procession::train::{
    Callback, CheckpointDir, EarlyStopping, Ending, Flow, Moment, SaveHistory, Schedule, Sgd, Trainer,
};

use crate::support::{all_of, bits, full_trainer, model, test_loader, train_loader};

/// Writes down each call.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Callback for Diary {
    fn on_step(&mut self, moment: &mut Moment<'_>) -> procession::Result<Flow> {
        let of = (moment.num_batches() - moment.num_batches_left(), moment.num_batches());
        assert_eq!(moment.model().step(), moment.step());
        self.0.lock().unwrap().push(format!("step {} batch {}/{}", moment.step(), of.0, of.1));
        Ok(Flow::Continue)
    }

    fn on_epoch(&mut self, moment: &mut Moment<'_>) -> procession::Result<Flow> {
        let state = moment.state();
        self.0.lock().unwrap().push(format!("epoch {} next batch {}", moment.epoch(), state.next_batch));
        assert_eq!(moment.value("loss").unwrap(), moment.mean_loss());
        Ok(Flow::Continue)
    }

    fn on_end(&mut self, trainer: &mut Trainer) -> procession::Result<()> {
        self.0.lock().unwrap().push(format!("end {}", trainer.model().step()));
        Ok(())
    }
}

#[test]
fn calls_come_in_order() {
    let diary = Diary::default();
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1)).callback(diary.clone());
    trainer.fit(train_loader(20, 8).epochs(0..2)).unwrap();
    let expected = [
        "step 1 batch 1/3",
        "step 2 batch 2/3",
        "step 3 batch 3/3",
        "epoch 0 next batch 3",
        "step 4 batch 1/3",
        "step 5 batch 2/3",
        "step 6 batch 3/3",
        "epoch 1 next batch 3",
        "end 6",
    ];
    assert_eq!(*diary.0.lock().unwrap(), expected);
}

#[test]
fn a_training_stops_or_pauses_where_it_is_told() {
    for (flow, ending, ends) in [(Flow::Stop, Ending::Stopped, 1), (Flow::Pause, Ending::Paused, 0)] {
        let diary = Diary::default();
        let mut trainer = Trainer::new(model(1), Sgd::new(0.1))
            .callback(diary.clone())
            .on_step(move |moment| Ok(if moment.step() == 4 { flow } else { Flow::Continue }));
        assert_eq!(trainer.fit(train_loader(20, 8).epochs(0..9)).unwrap(), ending);
        assert_eq!(trainer.model().step(), 4);
        let num_ends = diary.0.lock().unwrap().iter().filter(|call| call.starts_with("end")).count();
        assert_eq!(num_ends, ends);
        assert!(trainer.fit(train_loader(20, 8).epochs(0..1)).is_ok());
    }
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1))
        .on_epoch(|moment| Ok(if moment.epoch() == 1 { Flow::Stop } else { Flow::Continue }));
    assert_eq!(trainer.fit(train_loader(20, 8).epochs(0..9)).unwrap(), Ending::Stopped);
    assert_eq!(trainer.history().len(), 2);
    // To stop weighs more than to pause, in whatever order they come.
    for (first, second) in [(Flow::Stop, Flow::Pause), (Flow::Pause, Flow::Stop)] {
        let mut trainer =
            Trainer::new(model(1), Sgd::new(0.1)).on_step(move |_| Ok(first)).on_step(move |_| Ok(second));
        assert_eq!(trainer.fit(train_loader(20, 8).epochs(0..1)).unwrap(), Ending::Stopped);
    }
}

/// Moves the weights to what the epoch's number says, and the value that is followed through a list.
fn followed(values: &'static [f64], stopping: EarlyStopping) -> (Trainer, Ending) {
    struct Script(&'static [f64]);
    impl Callback for Script {
        fn on_epoch(&mut self, moment: &mut Moment<'_>) -> procession::Result<Flow> {
            let epoch = moment.epoch();
            moment.model().for_each_param_mut(|_, param| param.values_mut().fill(epoch as f32))?;
            let value = self.0[epoch as usize];
            moment.note(&[("followed", value)])?;
            Ok(Flow::Continue)
        }
    }
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1)).callback(Script(values)).callback(stopping);
    let ending = trainer.fit(train_loader(8, 8).epochs(0..values.len() as u64)).unwrap();
    (trainer, ending)
}

#[test]
fn early_stopping_waits_and_puts_the_best_back() {
    const NAN: f64 = f64::NAN;
    let follow = || EarlyStopping::new("followed");
    let cases: [(EarlyStopping, &'static [f64], usize, f32); 9] = [
        (follow(), &[3.0, 2.0, 2.0, 1.0], 3, 1.0),
        (follow().patience(2), &[3.0, 2.0, 2.5, 1.0, 1.5, 1.0, 0.5], 6, 3.0),
        (follow().maximise(), &[3.0, 4.0, 3.5, 9.0], 3, 1.0),
        (follow().min_delta(0.5), &[3.0, 2.0, 1.6, 1.0], 3, 1.0),
        (follow().maximise().min_delta(0.5).patience(2), &[1.0, 1.4, 1.6, 1.7, 2.0, 9.0], 5, 2.0),
        (follow().patience(3), &[3.0, 2.0, 1.0], 3, 2.0),
        (follow().patience(2), &[NAN, 2.0, NAN, NAN, 1.0], 4, 1.0),
        (follow().patience(2), &[NAN, NAN, 1.0], 2, 1.0),
        (follow().restore_best(false), &[3.0, 2.0, 2.0, 1.0], 3, 2.0),
    ];
    for (stopping, values, epochs, weight) in cases {
        let name = stopping.name();
        let (trainer, ending) = followed(values, stopping);
        assert_eq!(trainer.history().len(), epochs, "{name} {values:?}");
        assert_eq!(ending == Ending::Stopped, epochs < values.len(), "{name} {values:?}");
        let param = trainer.model().param("logits/bias").unwrap();
        assert!(param.iter().all(|&value| value == weight), "{name} {values:?}: {param}");
    }
}

#[test]
fn the_averages_of_the_best_epoch_come_back_too() {
    let test = test_loader(Tail::Keep);
    let mut reference = full_trainer();
    reference.fit_validated(train_loader(60, 8).epochs(0..1), || test.epoch(0)).unwrap();
    let expected = all_of(&mut reference).0;
    // No epoch after the first is better by so much.
    let mut trainer = full_trainer().callback(EarlyStopping::new("val_loss").min_delta(1e9).patience(3));
    trainer.fit_validated(train_loader(60, 8).epochs(0..9), || test.epoch(0)).unwrap();
    assert_eq!(trainer.history().len(), 4);
    assert_eq!(all_of(&mut trainer).0, expected);
}

#[test]
fn a_value_that_is_not_there_lists_those_that_are() {
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1)).callback(EarlyStopping::new("val_los"));
    let error = trainer.fit(train_loader(8, 8).epochs(0..2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no value val_los, expected one of loss, accuracy, learning_rate, samples, seconds, samples_per_second, \
         data_wait_fraction"
    );
}

#[test]
fn the_history_is_saved_after_every_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, jsonl) = (dir.path().join("h.csv"), dir.path().join("h.jsonl"));
    let copy = csv.clone();
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1))
        .schedule(Schedule::step(0.1, 3, 0.5))
        .unwrap()
        .callback(SaveHistory::new(&csv))
        .callback(SaveHistory::new(&jsonl))
        .on_epoch(move |moment| {
            assert_eq!(std::fs::read_to_string(&copy).unwrap(), moment.history().to_csv());
            Ok(Flow::Continue)
        });
    trainer.fit(train_loader(20, 8).epochs(0..3)).unwrap();
    assert_eq!(std::fs::read_to_string(&jsonl).unwrap(), trainer.history().to_json_lines());
    let rates: Vec<f32> = trainer.history().column("learning_rate").map(|(_, _, rate)| rate as f32).collect();
    assert_eq!(rates, [0.1, 0.05, 0.025]);
}

#[test]
fn a_panic_in_a_callback_leaves_the_trainer_whole() {
    let test = test_loader(Tail::Keep);
    let mut panics = true;
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1)).average("ema", 0.9).unwrap().on_epoch(move |_| {
        assert!(!std::mem::take(&mut panics), "in a callback");
        Ok(Flow::Continue)
    });
    let train = train_loader(20, 8);
    let panicked = catch_unwind(AssertUnwindSafe(|| trainer.fit_validated(train.epochs(0..2), || test.epoch(0))));
    assert!(panicked.is_err());
    // A panic in the validation of the averages: of 4 batches, the 6th is the second of theirs.
    let calls = std::cell::Cell::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        trainer.fit_validated(train.epochs(1..2), || {
            test.epoch(0).inspect(|_| {
                calls.set(calls.get() + 1);
                assert!(calls.get() < 6, "while applied");
            })
        })
    }));
    assert!(panicked.is_err());
    let mut reference = Trainer::new(model(1), Sgd::new(0.1));
    reference.fit(train.epochs(0..2)).unwrap();
    assert_eq!(bits(trainer.model()), bits(reference.model()), "the raw weights are back");
    let before = bits(trainer.model());
    let mut calls = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        trainer.evaluate_average(
            "ema",
            test.epoch(0).inspect(|_| {
                calls += 1;
                assert!(calls < 3, "while applied");
            }),
        )
    }));
    assert!(panicked.is_err());
    assert_eq!(bits(trainer.model()), before);
    assert_eq!(trainer.fit_validated(train.epochs(1..3), || test.epoch(0)).unwrap(), Ending::Completed);
}

#[test]
fn a_trainer_is_not_saved_from_within() {
    struct Saves(std::path::PathBuf);
    impl Callback for Saves {
        fn on_end(&mut self, trainer: &mut Trainer) -> procession::Result<()> {
            let state = train_loader(8, 8).state(0);
            trainer.save(&self.0, &state)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1)).callback(Saves(dir.path().join("c.safetensors")));
    let error = trainer.fit(train_loader(8, 8).epochs(0..1)).unwrap_err();
    assert_eq!(error.to_string(), "a callback saves, resumes or fits the trainer that calls it");
    assert!(trainer.save(dir.path().join("c.safetensors"), &train_loader(8, 8).state(0)).is_ok());
    assert!(CheckpointDir::new(dir.path()).latest().unwrap().is_none());
}
