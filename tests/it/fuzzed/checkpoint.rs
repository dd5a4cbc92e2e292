//! Any bytes taken for a checkpoint, or for a file of weights, are one or an error, with a right checksum too; a trainer
//! goes on from what is one, or refuses it and is as it was.

use procession::train::{Adam, Checkpoint, EarlyStopping, Model, Naming, Sgd, Trainer, Weights};
use procession::{Error, ErrorKind};

/// The trainers that the corpus was saved from.
pub(crate) fn trainers() -> [Trainer; 2] {
    let model =
        || Model::builder(1).dense("d", 2).batch_norm("n").dropout("o", 0.5).seed(1).build().expect("it is sound");
    let adam = Trainer::new(model(), Adam::default()).average("a", 0.9).expect("0.9 is a decay");
    [adam.callback(EarlyStopping::new("val_loss")), Trainer::new(model(), Sgd::new(0.1).momentum(0.9))]
}

pub(crate) fn check(bytes: &[u8]) {
    weights(bytes);
    read(bytes);
    if let Some(repaired) = with_checksum(bytes) {
        read(&repaired);
    }
}

fn bits(model: &Model) -> Vec<u32> {
    let mut bits = Vec::new();
    model.for_each_param(|_, param| bits.extend(param.values().iter().map(|value| value.to_bits())));
    bits
}

fn weights(bytes: &[u8]) {
    match Weights::from_safetensors(bytes) {
        Ok(weights) => {
            let again = Weights::from_safetensors(&weights.to_safetensors().expect("what was read can be written"));
            let again = again.expect("what was written can be read");
            assert!(again.names().eq(weights.names()));
            for name in weights.names() {
                let (before, after) = (weights.get(name).expect("it is there"), again.get(name).expect("it is there"));
                assert!(before.shape() == after.shape(), "{name}");
                assert!(before.iter().map(|x| x.to_bits()).eq(after.iter().map(|x| x.to_bits())), "{name}");
            }
            let [mut trainer, _] = trainers();
            let before = bits(trainer.model());
            for naming in [Naming::Keras, Naming::PyTorch] {
                if trainer.model_mut().set_weights(&weights, naming).is_err() {
                    assert_eq!(bits(trainer.model()), before);
                }
            }
        }
        Err(error) => refused(&error, ErrorKind::Format),
    }
}

fn refused(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(!error.to_string().is_empty());
}

fn read(bytes: &[u8]) {
    let checkpoint = match Checkpoint::from_bytes(bytes) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            // Of another version, or damaged.
            let kind = if error.kind() == ErrorKind::State { ErrorKind::State } else { ErrorKind::Format };
            return refused(&error, kind);
        }
    };
    let _ = (checkpoint.weights(), checkpoint.history().to_csv(), checkpoint.history().to_json_lines());
    for name in checkpoint.average_names() {
        checkpoint.average(name).expect("a name of an average is that of one");
    }
    for mut trainer in trainers() {
        let before = bits(trainer.model());
        match trainer.resume(&checkpoint) {
            Ok(()) => {
                assert_eq!(trainer.model().step(), checkpoint.step());
                let x = ndarray::Array2::from_shape_fn((4, 1), |(row, _)| row as f32);
                let data = (x, ndarray::Array1::from(vec![0_u32, 1, 0, 1]));
                // Numbers that are made up may make a loss that is not finite.
                let _ = trainer.step(&data);
            }
            Err(error) => {
                refused(&error, ErrorKind::State);
                assert_eq!((bits(trainer.model()), trainer.model().step()), (before, 0));
            }
        }
    }
}

/// The bytes with the checksum that they ought to have, if they have a place for it.
fn with_checksum(bytes: &[u8]) -> Option<Vec<u8>> {
    const ENTRY: &[u8] = b"\"checksum\":\"";
    let at = bytes.windows(ENTRY.len()).position(|window| window == ENTRY)? + ENTRY.len();
    let mut bytes = bytes.to_vec();
    bytes.get_mut(at..at + 8)?.copy_from_slice(b"00000000");
    let sum = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[at..at + 8].copy_from_slice(sum.as_bytes());
    Some(bytes)
}
