//! Which data a training is of: noted in its checkpoints, so that it is not resumed with others.

use crc32fast::Hasher;
use procession::train::{Callback, CallbackState};
use procession::{Error, ErrorKind, Result, Sequence};

use crate::data::Pictures;
use crate::images::Rows;

/// What tells data apart, wherever they are and whatever kind of file they are in: names and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    facts: Vec<(&'static str, String)>,
}

impl Identity {
    /// Data of which so many samples are to train and to test with. `split_seed` tells which were held out, if some were;
    /// `contents` comes from [`Contents`].
    pub(crate) fn new(num_train: usize, num_test: usize, split_seed: Option<u64>, contents: Contents) -> Self {
        let split_seed = split_seed.map_or("none".to_owned(), |seed| seed.to_string());
        let facts = vec![
            ("samples to train with", num_train.to_string()),
            ("samples to test with", num_test.to_string()),
            ("split seed", split_seed),
            ("checksum of some of the images", format!("{:08x}", contents.0.finalize())),
        ];
        Self { facts }
    }
}

/// A checksum of the first sample, the middle one and the last one of each part: enough to tell data sets apart, and little
/// to read. It is one of files and pixels as they are, before anything is computed of them: the same on every machine.
#[derive(Debug, Default)]
pub(crate) struct Contents(Hasher);

impl Contents {
    pub(crate) fn add(&mut self, pictures: &Pictures) {
        match pictures {
            Pictures::Files(files) => self.add_each(&**files, |file| file.to_vec()),
            Pictures::Pixels(images) => self.add_each(&**images, |image| image.pixels().to_vec()),
        }
    }

    /// Adds rows of pixels that are whole numbers divided by 255.
    pub(crate) fn add_rows(&mut self, rows: &Rows) {
        self.add_each(&**rows, |row| row.iter().map(|value| (value * 255.0).round() as u8).collect());
    }

    fn add_each<I: Send + 'static>(
        &mut self,
        samples: &(impl Sequence<Sample = (I, u32)> + ?Sized),
        bytes: impl Fn(I) -> Vec<u8>,
    ) {
        let len = samples.len();
        for index in [0, len / 2, len.saturating_sub(1)] {
            // A sample that cannot be loaded is for the training to tell.
            if let Some(Ok((image, label))) = (index < len).then(|| samples.get(index)) {
                self.0.update(&bytes(image));
                self.0.update(&label.to_le_bytes());
            }
        }
    }
}

impl Callback for Identity {
    fn name(&self) -> String {
        "data".to_owned()
    }

    fn state(&self) -> CallbackState {
        let lines = self.facts.iter().map(|(name, value)| format!("{name}: {value}\n"));
        CallbackState { text: lines.collect(), arrays: Vec::new() }
    }

    fn set_state(&mut self, state: CallbackState) -> Result<()> {
        let saved = |name: &str| state.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let differs = |(name, own): &(&str, String)| {
            let saved = saved(name).unwrap_or("none");
            (saved != own).then(|| format!("{name} {saved} in the checkpoint but {own} now"))
        };
        let differences: Vec<String> = self.facts.iter().filter_map(differs).collect();
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::State, format!("the data are others: {}", differences.join("; "))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::array;

    use super::*;

    #[test]
    fn what_differs_is_told() {
        let of = |value: f32, seed| {
            let mut contents = Contents::default();
            contents.add_rows(&(Arc::new(vec![(array![value / 255.0], 1_u32); 3]) as Rows));
            Identity::new(3, 1, seed, contents)
        };
        let mut own = of(7.0, Some(5));
        assert!(own.set_state(of(7.0, Some(5)).state()).is_ok());
        let error = own.set_state(of(7.0, None).state()).unwrap_err();
        assert_eq!(error.message(), "the data are others: split seed none in the checkpoint but 5 now");
        let error = own.set_state(of(8.0, Some(5)).state()).unwrap_err();
        assert!(error.message().contains("checksum of some of the images"), "{error}");
        assert!(own.set_state(CallbackState::default()).is_err());
        let mut nothing = Contents::default();
        nothing.add_rows(&(Arc::new(Vec::<(ndarray::Array1<f32>, u32)>::new()) as Rows));
        assert_eq!(Identity::new(0, 0, None, nothing).facts[3].1, "00000000");
    }
}
