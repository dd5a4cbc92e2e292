//! Checkpoints: a resume at any step is no interruption; what is damaged or does not fit is refused.

use std::fs;

use procession::train::{
    Adam, Checkpoint, CheckpointDir, Clip, EarlyStopping, Ending, Flow, MeanSquaredError, Model, Schedule, Sgd, Trainer,
};
use procession::{ErrorKind, Tail};

use crate::support::{all_of, bits, full_trainer, model, test_loader, train_loader};

const EPOCHS: u64 = 4;

fn stopping() -> EarlyStopping {
    EarlyStopping::new("fast_val_loss").patience(9)
}

#[test]
fn a_resume_at_any_step_is_no_interruption() {
    let (train, test) = (train_loader(50, 8), test_loader(Tail::Keep));
    let mut undisturbed = full_trainer().callback(stopping());
    undisturbed.fit_validated(train.epochs(0..EPOCHS), || test.epoch(0)).unwrap();
    let (expected, last) = (all_of(&mut undisturbed), undisturbed.model().step());
    assert_eq!(last, EPOCHS * 4);
    for pause in 1..=last {
        for every in [None, Some(1), Some(3)] {
            let dir = tempfile::tempdir().unwrap();
            let new =
                || full_trainer().callback(stopping()).checkpoints(CheckpointDir::new(dir.path()), every).unwrap();
            let mut first =
                new().on_step(move |moment| Ok(if moment.step() == pause { Flow::Pause } else { Flow::Continue }));
            assert_eq!(first.fit_validated(train.epochs(0..EPOCHS), || test.epoch(0)).unwrap(), Ending::Paused);
            drop(first);
            let mut second = new();
            let resumed = second.resume_latest().unwrap().unwrap();
            assert_eq!((second.model().step(), resumed.refused.len()), (pause, 0));
            let epochs = train.epochs(0..EPOCHS).resume(&resumed.state).unwrap();
            assert_eq!(second.fit_validated(epochs, || test.epoch(0)).unwrap(), Ending::Completed);
            assert!(all_of(&mut second) == expected, "paused at step {pause}, every {every:?}");
        }
    }
}

#[test]
fn work_since_the_last_checkpoint_is_done_again() {
    let (train, test) = (train_loader(50, 8), test_loader(Tail::Keep));
    let mut undisturbed = full_trainer().callback(stopping());
    undisturbed.fit_validated(train.epochs(0..EPOCHS), || test.epoch(0)).unwrap();
    let (expected, last) = (all_of(&mut undisturbed), undisturbed.model().step());
    for end in 1..=last {
        let dir = tempfile::tempdir().unwrap();
        let new = || full_trainer().callback(stopping()).checkpoints(CheckpointDir::new(dir.path()), Some(3)).unwrap();
        let mut first = new().on_step(move |moment| match moment.step() {
            step if step == end => Err(procession::Error::sample("the end")),
            _ => Ok(Flow::Continue),
        });
        assert!(first.fit_validated(train.epochs(0..EPOCHS), || test.epoch(0)).is_err());
        let mut second = new();
        let mut epochs = train.epochs(0..EPOCHS);
        if let Some(resumed) = second.resume_latest().unwrap() {
            assert!(second.model().step() < end);
            epochs = epochs.resume(&resumed.state).unwrap();
        }
        second.fit_validated(epochs, || test.epoch(0)).unwrap();
        assert!(all_of(&mut second) == expected, "ended at step {end}");
    }
}

#[test]
fn epochs_that_begin_elsewhere_are_refused() {
    let train = train_loader(50, 8);
    let dir = tempfile::tempdir().unwrap();
    let new = || full_trainer().checkpoints(CheckpointDir::new(dir.path()), None).unwrap();
    let mut first = new().on_step(|moment| Ok(if moment.step() == 5 { Flow::Pause } else { Flow::Continue }));
    first.fit(train.epochs(0..3)).unwrap();
    let mut second = new();
    let resumed = second.resume_latest().unwrap().unwrap();
    for epochs in [train.epochs(0..3), train.epochs(1..3), train.epochs(2..3)] {
        let error = second.fit(epochs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(error.to_string().contains("the checkpoint was at position 16 of epoch 1"), "{error}");
    }
    assert_eq!(second.model().step(), 5);
    second.fit(train.epochs(0..3).resume(&resumed.state).unwrap()).unwrap();
    assert_eq!(second.history().len(), 3);
}

#[test]
fn no_checkpoint_is_made_of_numbers_that_are_not_finite() {
    let train = train_loader(50, 8);
    let dir = tempfile::tempdir().unwrap();
    let new = || full_trainer().checkpoints(CheckpointDir::new(dir.path()), Some(1)).unwrap();
    let mut trainer = new().on_step(|moment| {
        if moment.step() == 3 {
            moment.model().for_each_param_mut(|_, param| param.values_mut()[0] = f32::NAN)?;
        }
        Ok(Flow::Continue)
    });
    let error = trainer.fit(train.epochs(0..3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Numeric);
    assert!(error.to_string().contains("hidden/kernel has a value of NaN after 3 steps"), "{error}");
    let mut trainer = new();
    trainer.resume_latest().unwrap().unwrap();
    assert_eq!(trainer.model().step(), 2);
}

#[test]
fn a_resume_at_the_end_of_an_epoch_does_not_repeat_it() {
    let (train, test) = (train_loader(50, 8), test_loader(Tail::Keep));
    let mut undisturbed = full_trainer();
    undisturbed.fit_validated(train.epochs(0..EPOCHS), || test.epoch(0)).unwrap();
    let expected = all_of(&mut undisturbed);
    let dir = tempfile::tempdir().unwrap();
    let new = || full_trainer().checkpoints(CheckpointDir::new(dir.path()), None).unwrap();
    for epoch in 1..=EPOCHS {
        // One epoch at a time, each by a new process, so to say; and once more when all is done.
        for _ in 0..2 {
            let mut trainer = new();
            let mut epochs = train.epochs(0..epoch);
            if let Some(resumed) = trainer.resume_latest().unwrap() {
                epochs = epochs.resume(&resumed.state).unwrap();
            }
            assert_eq!(trainer.fit_validated(epochs, || test.epoch(0)).unwrap(), Ending::Completed);
            assert_eq!(trainer.history().len() as u64, epoch);
        }
    }
    let mut last = new();
    last.resume_latest().unwrap().unwrap();
    assert_eq!(all_of(&mut last), expected);
}

#[test]
fn an_end_before_or_in_the_validation_loses_nothing() {
    let (train, test) = (train_loader(50, 8), test_loader(Tail::Keep));
    let mut undisturbed = full_trainer();
    undisturbed.fit_validated(train.epochs(0..2), || test.epoch(0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let new = || full_trainer().checkpoints(CheckpointDir::new(dir.path()), None).unwrap();
    let failing = || test.epoch(0).skip(2).map(|_| Err(procession::Error::sample("the end")));
    assert!(new().fit_validated(train.epochs(0..2), failing).is_err());
    let mut trainer = new();
    let resumed = trainer.resume_latest().unwrap().unwrap();
    assert_eq!((trainer.model().step(), trainer.history().len()), (4, 0));
    let epochs = train.epochs(0..2).resume(&resumed.state).unwrap();
    trainer.fit_validated(epochs, || test.epoch(0)).unwrap();
    assert_eq!(all_of(&mut trainer), all_of(&mut undisturbed));
}

#[test]
fn what_is_over_stays_over() {
    let (train, test) = (train_loader(50, 8), test_loader(Tail::Keep));
    let dir = tempfile::tempdir().unwrap();
    let new = || {
        full_trainer()
            .callback(EarlyStopping::new("val_loss").min_delta(1e9))
            .checkpoints(CheckpointDir::new(dir.path()), None)
            .unwrap()
    };
    let mut first = new();
    assert_eq!(first.fit_validated(train.epochs(0..9), || test.epoch(0)).unwrap(), Ending::Stopped);
    let mut second = new();
    let resumed = second.resume_latest().unwrap().unwrap();
    let epochs = train.epochs(0..9).resume(&resumed.state).unwrap();
    assert_eq!(second.fit_validated(epochs, || test.epoch(0)).unwrap(), Ending::Stopped);
    assert_eq!(second.history().len(), 2);
    assert_eq!(all_of(&mut second), all_of(&mut first), "with the best weights back in their place");
}

#[test]
fn patience_goes_on_after_a_resume() {
    let (train, test) = (train_loader(50, 8), test_loader(Tail::Keep));
    for pause in 1..16 {
        let dir = tempfile::tempdir().unwrap();
        let new = || {
            full_trainer()
                .callback(EarlyStopping::new("val_loss").min_delta(1e9).patience(3))
                .checkpoints(CheckpointDir::new(dir.path()), None)
                .unwrap()
        };
        let mut first =
            new().on_step(move |moment| Ok(if moment.step() == pause { Flow::Pause } else { Flow::Continue }));
        assert_eq!(first.fit_validated(train.epochs(0..9), || test.epoch(0)).unwrap(), Ending::Paused);
        let mut second = new();
        let resumed = second.resume_latest().unwrap().unwrap();
        let epochs = train.epochs(0..9).resume(&resumed.state).unwrap();
        assert_eq!(second.fit_validated(epochs, || test.epoch(0)).unwrap(), Ending::Stopped);
        // One epoch is the best, and three more are not better.
        assert_eq!((second.history().len(), second.model().step()), (4, 16), "paused at step {pause}");
    }
}

fn saved() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    let mut trainer = full_trainer().callback(stopping());
    let (train, test) = (train_loader(30, 8), test_loader(Tail::Keep));
    trainer.fit_validated(train.epochs(0..1), || test.epoch(0)).unwrap();
    trainer.save(&path, &train.state(1)).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let mut bytes = saved();
    assert!(Checkpoint::from_bytes(&bytes).is_ok());
    for len in 0..bytes.len() {
        let error = Checkpoint::from_bytes(&bytes[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "the first {len} bytes");
    }
    for at in 0..bytes.len() {
        // All bits of the header, and one of each other byte.
        let in_header = at < 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let bits = if in_header { 0..8 } else { at as u32 % 8..at as u32 % 8 + 1 };
        for bit in bits {
            bytes[at] ^= 1 << bit;
            let error = Checkpoint::from_bytes(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "bit {bit} of byte {at}: {error}");
            bytes[at] ^= 1 << bit;
        }
    }
    bytes.push(0);
    assert!(Checkpoint::from_bytes(&bytes).is_err());
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_one_before_it_is_used() {
    let (train, test) = (train_loader(50, 8), test_loader(Tail::Keep));
    let mut undisturbed = full_trainer();
    undisturbed.fit_validated(train.epochs(0..3), || test.epoch(0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = || CheckpointDir::new(dir.path()).keep(3);
    let new = || full_trainer().checkpoints(checkpoints(), Some(3)).unwrap();
    assert!(new().resume_latest().unwrap().is_none());
    new().fit_validated(train.epochs(0..2), || test.epoch(0)).unwrap();
    let name = |step: u64| dir.path().join(format!("checkpoint-{step:012}.safetensors"));
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [name(4), name(6), name(8)], "the last three, and no temporary files");

    // What a crash leaves while it writes, and what a bad disk makes of a file.
    fs::write(dir.path().join("checkpoint-000000000009.safetensors.tmp"), b"half").unwrap();
    let mut bytes = fs::read(name(8)).unwrap();
    let (middle, last) = (bytes.len() / 2, bytes.len() - 1);
    bytes[last] ^= 1;
    fs::write(name(8), &bytes).unwrap();
    fs::write(name(6), &bytes[..middle]).unwrap();
    let mut trainer = new();
    let resumed = trainer.resume_latest().unwrap().unwrap();
    assert_eq!((resumed.file.clone(), trainer.model().step()), (name(4), 4));
    let refused: Vec<_> =
        resumed.refused.iter().map(|error| (error.kind(), error.file().unwrap().to_owned())).collect();
    assert_eq!(refused, [(ErrorKind::Format, name(8)), (ErrorKind::Format, name(6))]);
    assert!(resumed.refused[0].to_string().starts_with("a damaged checkpoint: "), "{}", resumed.refused[0]);
    let epochs = train.epochs(0..3).resume(&resumed.state).unwrap();
    trainer.fit_validated(epochs, || test.epoch(0)).unwrap();
    assert_eq!(all_of(&mut trainer), all_of(&mut undisturbed));
    assert!(!dir.path().join("checkpoint-000000000009.safetensors.tmp").exists());

    for step in [9, 12] {
        fs::write(name(step), b"nothing").unwrap();
    }
    for entry in fs::read_dir(dir.path()).unwrap() {
        fs::write(entry.unwrap().path(), b"nothing").unwrap();
    }
    let mut trainer = new();
    let before = bits(trainer.model());
    let error = trainer.resume_latest().unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(name(12).as_path())));
    assert_eq!(bits(trainer.model()), before);
}

#[test]
fn a_directory_is_made_for_the_first_checkpoint_and_cleared_of_what_crashes_left() {
    let (train, dir) = (train_loader(50, 8), tempfile::tempdir().unwrap());
    let checkpoints = CheckpointDir::new(dir.path().join("runs").join("first"));
    assert!(checkpoints.latest().unwrap().is_none());
    let mut trainer = full_trainer().checkpoints(checkpoints.clone(), None).unwrap();
    assert!(trainer.resume_latest().unwrap().is_none());
    // At a step at which this training has no checkpoint.
    fs::create_dir_all(checkpoints.path()).unwrap();
    let (half, notes) =
        (checkpoints.path().join("checkpoint-000000000777.safetensors.tmp"), checkpoints.path().join("notes.tmp"));
    fs::write(&half, b"half").unwrap();
    fs::write(&notes, b"not a checkpoint's").unwrap();
    trainer.fit(train.epochs(0..1)).unwrap();
    assert!(!half.exists() && notes.exists());
    fs::remove_dir_all(dir.path().join("runs")).unwrap();
    trainer.fit(train.epochs(1..2)).unwrap();
    assert_eq!(checkpoints.latest().unwrap().unwrap().checkpoint.step(), 8);

    // What is no directory is not taken for an empty one.
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = CheckpointDir::new(&file).latest().unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(file.as_path())));
    let error = full_trainer().checkpoints(CheckpointDir::new(&file), None).and_then(|mut t| t.fit(train.epochs(0..1)));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn the_only_array_of_an_optimiser_is_kept() {
    let (train, dir) = (train_loader(50, 8), tempfile::tempdir().unwrap());
    let new = || {
        let trainer = Trainer::new(model(1), Sgd::new(0.05).momentum(0.9));
        trainer.checkpoints(CheckpointDir::new(dir.path()), None).unwrap()
    };
    let mut undisturbed = Trainer::new(model(1), Sgd::new(0.05).momentum(0.9));
    undisturbed.fit(train.epochs(0..2)).unwrap();
    let mut first = new().on_step(|moment| Ok(if moment.step() == 3 { Flow::Pause } else { Flow::Continue }));
    first.fit(train.epochs(0..2)).unwrap();
    let mut second = new();
    let resumed = second.resume_latest().unwrap().unwrap();
    second.fit(train.epochs(0..2).resume(&resumed.state).unwrap()).unwrap();
    assert_eq!(bits(second.model()), bits(undisturbed.model()));
}

#[test]
fn what_was_given_up_is_never_taken_for_the_newest() {
    let train = train_loader(50, 8);
    let dir = tempfile::tempdir().unwrap();
    let new = || full_trainer().checkpoints(CheckpointDir::new(dir.path()), Some(2)).unwrap();
    new().fit(train.epochs(0..2)).unwrap();
    let name = |step: u64| dir.path().join(format!("checkpoint-{step:012}.safetensors"));
    let whole = fs::read(name(8)).unwrap();
    fs::write(name(8), &whole[1..]).unwrap();
    let mut trainer = new().on_step(|moment| Ok(if moment.step() == 7 { Flow::Pause } else { Flow::Continue }));
    let resumed = trainer.resume_latest().unwrap().unwrap();
    assert_eq!(trainer.model().step(), 6);
    trainer.fit(train.epochs(0..2).resume(&resumed.state).unwrap()).unwrap();
    assert!(!name(8).exists());
    let latest = CheckpointDir::new(dir.path()).latest().unwrap().unwrap();
    assert_eq!((latest.checkpoint.step(), latest.refused.len()), (7, 0));
}

#[test]
fn checkpoints_of_another_training_are_left_alone() {
    let train = train_loader(50, 8);
    let dir = tempfile::tempdir().unwrap();
    let new = || full_trainer().checkpoints(CheckpointDir::new(dir.path()), None).unwrap();
    new().fit(train.epochs(0..2)).unwrap();
    let files = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let before = files();
    let error = new().fit(train.epochs(0..1)).unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::State, Some(dir.path())));
    assert!(error.to_string().contains("checkpoints of another training"), "{error}");
    assert_eq!(files(), before);
    // To go on in the same process is no other training.
    let mut trainer = new();
    trainer.resume_latest().unwrap().unwrap();
    trainer.fit(train.epochs(2..3)).unwrap();
    trainer.fit(train.epochs(3..4)).unwrap();
    let error = Trainer::new(model(1), Sgd::new(0.1)).resume_latest().unwrap_err();
    assert_eq!(error.to_string(), "no directory of checkpoints to resume from");
}

#[test]
fn a_checkpoint_that_does_not_fit_says_what_differs_and_changes_nothing() {
    let checkpoint = Checkpoint::from_bytes(&saved()).unwrap();
    let base = || full_trainer().callback(stopping());
    let with_model =
        |model: Model| Trainer::new(model, Adam::new(0.02).weight_decay(0.01)).average("slow", 0.9).unwrap();
    let other_loss = {
        let mut trainer = base();
        trainer.model_mut().set_loss(MeanSquaredError);
        trainer
    };
    let other_rate = |rate: f32| {
        let builder = Model::builder(2).dense("hidden", 12).batch_norm("norm").relu("relu").dropout("dropout", 0.2);
        let builder = builder.residual("block", |block| block.dense("dense", 12).dropout("drop", rate));
        builder.dense("logits", 3).softmax("probabilities").seed(3).build().unwrap()
    };
    let cases: [(Trainer, &str); 10] = [
        (with_model(other_rate(0.3)), "drop:Dropout(0.1):12):12 logits:Dense:3"),
        (with_model(model(4)), "seed 3 in the checkpoint but 4 in the trainer"),
        (
            with_model(Model::builder(2).dense("hidden", 12).seed(3).build().unwrap()),
            " in the checkpoint but [2] hidden:Dense:12 in the trainer",
        ),
        (other_loss, "loss SoftmaxCrossEntropy { label_smoothing: 0.0 } in the checkpoint but MeanSquaredError"),
        (
            Trainer::new(model(3), Sgd::new(0.02)),
            "optimiser adam betas=0.9,0.999 epsilon=0.00000001 weight_decay=0.01 in the checkpoint but sgd momentum=0",
        ),
        (base().schedule(Schedule::constant(0.1)).unwrap(), "schedule "),
        (base().clip(Clip::Norm(2.0)).unwrap(), "clipping Norm(1.0) in the checkpoint but Norm(2.0)"),
        (base().accumulate(3).unwrap(), "accumulated batches 2 in the checkpoint but 3 in the trainer"),
        (base().average("more", 0.9).unwrap(), "averages slow AverageOptions"),
        (full_trainer(), "callbacks early stopping monitor=fast_val_loss patience=9 "),
    ];
    for (mut trainer, what) in cases {
        let (before, rate) = (bits(trainer.model()), trainer.learning_rate());
        let error = trainer.resume(&checkpoint).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(error.to_string().contains(what), "{what:?} in {error}");
        assert_eq!((bits(trainer.model()), trainer.learning_rate()), (before, rate));
        assert_eq!((trainer.model().step(), trainer.history().len()), (0, 0));
    }
    assert!(base().resume(&checkpoint).is_ok());
}

#[test]
fn a_checkpoint_gives_its_parts() {
    let (train, dir) = (train_loader(50, 8), tempfile::tempdir().unwrap());
    let path = dir.path().join("c.safetensors");
    let mut trainer = full_trainer();
    trainer.fit(train.epochs(0..1)).unwrap();
    trainer.save(&path, &train.state(1)).unwrap();
    let checkpoint = Checkpoint::read(&path).unwrap();
    assert_eq!((checkpoint.step(), checkpoint.state().epoch, checkpoint.history().len()), (4, 1, 1));
    assert_eq!(checkpoint.average_names().collect::<Vec<_>>(), ["slow", "fast"]);
    let naming = procession::train::Naming::Keras;
    assert_eq!(checkpoint.weights(), trainer.model().weights(naming).unwrap());
    let (average, model) = trainer.average_and_model("slow").unwrap();
    assert_eq!(checkpoint.average("slow").unwrap(), average.applied(model).unwrap().weights(naming).unwrap());
    assert!(checkpoint.average("x").unwrap_err().to_string().contains("expected one of slow, fast"));

    // While an average is applied there are no raw weights to be saved.
    let (average, model) = trainer.average_and_model("slow").unwrap();
    average.apply(model).unwrap();
    assert!(trainer.save(&path, &train.state(1)).is_err());
    assert_eq!(Checkpoint::read(&path).unwrap().weights(), checkpoint.weights());
    // Nor is there a step to be saved in the midst of its batches.
    let (average, model) = trainer.average_and_model("slow").unwrap();
    average.restore(model).unwrap();
    trainer.step(&*train.epoch(0).next().unwrap().unwrap()).unwrap();
    let error = trainer.save(&path, &train.state(1)).unwrap_err();
    assert!(error.to_string().starts_with("1 batches are accumulated"), "{error}");
    let error = Checkpoint::read(dir.path().join("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_file_that_cannot_be_read_is_no_damaged_one() {
    let (train, dir) = (train_loader(50, 8), tempfile::tempdir().unwrap());
    let new = || full_trainer().checkpoints(CheckpointDir::new(dir.path()), None).unwrap();
    new().fit(train.epochs(0..1)).unwrap();
    // A directory cannot be read as a file, whoever asks.
    let newer = dir.path().join("checkpoint-000000000099.safetensors");
    fs::create_dir(&newer).unwrap();
    let error = new().resume_latest().unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(newer.as_path())));
    assert!(newer.exists());
    fs::remove_dir(&newer).unwrap();

    // Nor is one of another version damaged.
    let bytes = fs::read(dir.path().join("checkpoint-000000000004.safetensors")).unwrap();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        let digits = bytes.windows(12).position(|window| window == b"\"checksum\":\"").unwrap() + 12;
        bytes[digits..digits + 8].copy_from_slice(b"00000000");
        let sum = format!("{:08x}", crc32fast::hash(&bytes));
        bytes[digits..digits + 8].copy_from_slice(sum.as_bytes());
        Checkpoint::from_bytes(&bytes).unwrap_err()
    };
    let error = changed("\\\"version\\\":1", "\\\"version\\\":7");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::State, "a checkpoint of version 7, expected 1"));
}

#[test]
fn a_training_can_go_back_within_its_directory() {
    let (train, dir) = (train_loader(50, 8), tempfile::tempdir().unwrap());
    let checkpoints = || CheckpointDir::new(dir.path()).keep(9);
    let new = || full_trainer().checkpoints(checkpoints(), None).unwrap();
    let mut whole = new();
    whole.fit(train.epochs(0..4)).unwrap();
    let name = |step: u64| dir.path().join(format!("checkpoint-{step:012}.safetensors"));
    let checkpoint = Checkpoint::read(name(8)).unwrap();
    let mut trainer = new();
    trainer.resume(&checkpoint).unwrap();
    trainer.fit(train.epochs(0..3).resume(checkpoint.state()).unwrap()).unwrap();
    assert!(name(4).exists() && name(8).exists() && name(12).exists() && !name(16).exists());
    // The epoch after a complete one needs no state, but the same order.
    let mut trainer = new();
    trainer.resume_latest().unwrap().unwrap();
    let other = procession::Loader::builder(crate::support::points(50, 0)).batch_size(8).shuffle(8).build().unwrap();
    assert_eq!(trainer.fit(other.epochs(3..4)).unwrap_err().kind(), ErrorKind::State);
    trainer.fit(train.epochs(3..4)).unwrap();
    assert_eq!(all_of(&mut trainer), all_of(&mut whole));
    // From elsewhere, it is not this directory's training.
    let copy = tempfile::tempdir().unwrap();
    fs::copy(name(4), copy.path().join("c.safetensors")).unwrap();
    let mut trainer = new();
    let checkpoint = Checkpoint::read(copy.path().join("c.safetensors")).unwrap();
    trainer.resume(&checkpoint).unwrap();
    let error = trainer.fit(train.epochs(0..3).resume(checkpoint.state()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("checkpoints of another training"), "{error}");
}

#[test]
fn what_belongs_to_another_model_is_not_saved_with_this_one() {
    let (train, dir) = (train_loader(50, 8), tempfile::tempdir().unwrap());
    let path = dir.path().join("c.safetensors");
    let larger = || Model::builder(2).dense("hidden", 99).dense("logits", 3).build().unwrap();
    let mut adam = Adam::default();
    model(1).train_step(&ndarray::array![[0.0, 1.0], [1.0, 0.0]], &[0, 1], &mut adam).unwrap();
    let error = Trainer::new(larger(), adam).save(&path, &train.state(0)).unwrap_err();
    assert_eq!(error.to_string(), "the optimiser has the state of a model of another shape");
    let mut trainer = Trainer::new(model(1), Sgd::new(0.1)).average("ema", 0.9).unwrap();
    *trainer.model_mut() = larger();
    let error = trainer.save(&path, &train.state(0)).unwrap_err();
    assert_eq!(error.to_string(), "the average belongs to another model");
    assert!(trainer.fit(train.epochs(0..1)).is_err());
    assert!(!path.exists());
}

#[test]
fn a_rank_without_a_part_in_a_batch_goes_on() {
    let world = procession::World::new(3, 4).unwrap();
    let builder = procession::Loader::builder(crate::support::points(9, 0)).batch_size(8).world(world);
    let loader = builder.workers(0).build().unwrap();
    let mut trainer = full_trainer();
    trainer.fit_validated(loader.epochs(0..2), || loader.epoch(0)).unwrap();
    assert_eq!(trainer.evaluate(loader.epoch(0)).unwrap().samples, 2);
}
