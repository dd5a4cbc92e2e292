//! Checkpoints: all that a training needs to go on, in one file that is whole or refused.
//!
//! A checkpoint is a [safetensors](https://huggingface.co/docs/safetensors/index#format) file, which other tools can
//! read. Its arrays are `model/<parameter>`, `optimizer/<array>/<parameter>`, `average/<name>/<parameter>` and
//! `callback/<number>/<number>/<array>`. Its metadata has two entries: `procession`, what is not an array, as JSON; and
//! `checksum`, the CRC-32 (ISO 3309) of the whole file with the eight digits of the checksum itself taken as zeros.
//! A CRC-32 finds every change of a single bit and every burst of up to 32 bits.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, ArrayViewD, IxDyn};
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::average::Counts;
use super::history::History;
use super::weights::{Weights, array, open, safetensors_bytes};
use crate::file::{finished_name, remove_abandoned, replace_file, sync_directory_of};
use crate::{Error, ErrorKind, Result, State};

/// Eight digits that stand for the checksum while it is computed.
const NO_CHECKSUM: &str = "00000000";

/// What goes around the checksum's digits in the header. Inside of strings the quotes would be escaped.
const CHECKSUM_ENTRY: &str = "\"checksum\":\"";

/// A training at a moment between two steps: the model, the optimiser, the averages, the history, the callbacks, and
/// where the loader is.
///
/// It is made and applied by a [`Trainer`](super::Trainer).
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The file that it was read from.
    pub(super) file: Option<PathBuf>,
    pub(super) meta: Meta,
    pub(super) state: State,
    pub(super) arrays: BTreeMap<String, ArrayD<f32>>,
}

/// All of a checkpoint but its arrays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) version: u32,
    /// Descriptions, which have to be those of whoever goes on.
    pub(super) model: String,
    pub(super) loss: String,
    pub(super) optimizer: String,
    pub(super) schedule: String,
    pub(super) clip: String,
    pub(super) accumulate: u64,
    pub(super) seed: u64,
    pub(super) step: u64,
    #[serde(with = "super::exact")]
    pub(super) learning_rate: f64,
    pub(super) optimizer_steps: u64,
    /// The names of the optimiser's arrays.
    pub(super) optimizer_arrays: Vec<String>,
    pub(super) averages: Vec<AverageMeta>,
    /// A [`State`] as text.
    pub(super) loader: String,
    pub(super) progress: Progress,
    pub(super) history: History,
    pub(super) callbacks: Vec<CallbackMeta>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AverageMeta {
    pub(super) name: String,
    pub(super) options: String,
    pub(super) counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CallbackMeta {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) arrays: Vec<String>,
}

/// How far an epoch of training has come.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) epoch: u64,
    /// The loss summed over the epoch's rows so far, and their numbers.
    #[serde(with = "super::exact")]
    pub(super) loss: f64,
    pub(super) correct: u64,
    pub(super) judged: u64,
    pub(super) samples: u64,
    /// Whether the epoch's row is in the history.
    pub(super) noted: bool,
    /// Whether a callback has ended the training for good.
    pub(super) over: bool,
}

impl Meta {
    /// The version of what the entry `procession` holds.
    pub(super) const VERSION: u32 = 1;

    /// No count is so large that a training could not go on counting from it.
    fn check(&self) -> Result<()> {
        let Progress { epoch, correct, judged, samples, .. } = self.progress;
        let mut counts = vec![self.step, self.optimizer_steps, epoch, correct, judged, samples];
        counts.extend(self.averages.iter().flat_map(|average| average.counts.numbers()));
        match counts.iter().find(|&&count| count > 1 << 62) {
            Some(count) => Err(Error::new(ErrorKind::Format, format!("a count of {count}, expected at most 2^62"))),
            None => Ok(()),
        }
    }
}

impl Checkpoint {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read ([`ErrorKind::Io`]), is not a whole and undamaged checkpoint ([`ErrorKind::Format`]), or one of
    /// another version of the format ([`ErrorKind::State`]); the error names the file and says what is wrong.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|cause| Error::from(cause).with_file(path))?;
        let checkpoint = Self::from_bytes(&bytes).map_err(|error| error.with_file(path))?;
        Ok(Self { file: Some(path.to_owned()), ..checkpoint })
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), without the file's name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        // First of all: what is damaged is not worth being understood.
        check_sum(bytes)?;
        let (header, tensors) = open(bytes)?;
        let entry = header.metadata().as_ref().and_then(|entries| entries.get("procession"));
        let meta =
            entry.ok_or_else(|| Error::new(ErrorKind::Format, "not a checkpoint: it has no entry \"procession\""))?;
        let malformed = |cause| Error::new(ErrorKind::Format, "a checkpoint of another form").with_cause(cause);
        let version: Version = serde_json::from_str(meta).map_err(malformed)?;
        if version.version != Meta::VERSION {
            let message = format!("a checkpoint of version {}, expected {}", version.version, Meta::VERSION);
            return Err(Error::new(ErrorKind::State, message));
        }
        let meta: Meta = serde_json::from_str(meta).map_err(malformed)?;
        meta.check()?;
        let state = meta.loader.parse()?;
        let mut arrays = BTreeMap::new();
        for (name, tensor) in tensors.iter() {
            if tensor.dtype() != Dtype::F32 {
                let message = format!("array {name} is of type {:?}, expected F32", tensor.dtype());
                return Err(Error::new(ErrorKind::Format, message));
            }
            arrays.insert(name.to_owned(), array(name, &tensor)?);
        }
        Ok(Self { file: None, meta, state, arrays })
    }

    /// The steps of training that were made.
    pub fn step(&self) -> u64 {
        self.meta.step
    }

    /// Where the loader was, to be given to [`Epochs::resume`](crate::Epochs::resume).
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The history up to then.
    pub fn history(&self) -> &History {
        &self.meta.history
    }

    /// The raw weights, named as in the model; see [`Model::set_weights`](super::Model::set_weights).
    pub fn weights(&self) -> Weights {
        self.part("model/")
    }

    /// The names of the averages.
    pub fn average_names(&self) -> impl Iterator<Item = &str> {
        self.meta.averages.iter().map(|average| average.name.as_str())
    }

    /// The averaged weights of this name; the parameters that are not averaged are the raw ones.
    ///
    /// # Errors
    ///
    /// If there is no such average.
    pub fn average(&self, name: &str) -> Result<Weights> {
        if !self.average_names().any(|other| other == name) {
            let names: Vec<&str> = self.average_names().collect();
            return Err(Error::argument(format!("no average {name}, expected one of {}", names.join(", "))));
        }
        let mut weights = self.weights();
        for (name, array) in self.part(&format!("average/{name}/")).into_arrays() {
            weights.insert(name, array);
        }
        Ok(weights)
    }

    fn part(&self, prefix: &str) -> Weights {
        let mut weights = Weights::new();
        for (name, array) in &self.arrays {
            if let Some(name) = name.strip_prefix(prefix) {
                weights.insert(name, array.clone());
            }
        }
        weights
    }

    /// An array, which must have this shape.
    pub(super) fn array(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        let array = self.arrays.get(name).filter(|array| array.shape() == shape);
        let missing = || Error::new(ErrorKind::State, format!("the checkpoint has no array {name} of shape {shape:?}"));
        array.and_then(|array| array.as_slice()).ok_or_else(missing)
    }

    /// The bytes of a file with these arrays.
    pub(super) fn bytes<'a>(
        meta: &Meta,
        arrays: impl Iterator<Item = (&'a str, ArrayViewD<'a, f32>)>,
    ) -> Result<Vec<u8>> {
        let json = serde_json::to_string(meta)
            .map_err(|cause| Error::new(ErrorKind::Format, "a checkpoint that is no JSON").with_cause(cause))?;
        let entries = HashMap::from([("procession".to_owned(), json), ("checksum".to_owned(), NO_CHECKSUM.to_owned())]);
        let mut bytes = safetensors_bytes(arrays, Some(entries))?;
        let digits = find_digits(&bytes).expect("the entry is in the header");
        let sum = format!("{:08x}", crc32fast::hash(&bytes));
        bytes[digits..digits + sum.len()].copy_from_slice(sum.as_bytes());
        Ok(bytes)
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Where the digits of the checksum are: in the header, whose length is in the first eight bytes.
fn find_digits(bytes: &[u8]) -> Option<usize> {
    let len = u64::from_le_bytes(*bytes.first_chunk()?);
    let header = bytes.get(8..)?.get(..usize::try_from(len).ok()?)?;
    let entry = header.windows(CHECKSUM_ENTRY.len()).position(|window| window == CHECKSUM_ENTRY.as_bytes())?;
    Some(8 + entry + CHECKSUM_ENTRY.len())
}

fn check_sum(bytes: &[u8]) -> Result<()> {
    let broken = |message: String| Error::new(ErrorKind::Format, message);
    let missing = || broken(format!("not a whole checkpoint: {} bytes without a checksum", bytes.len()));
    let start = find_digits(bytes).ok_or_else(missing)?;
    let (before, rest) = bytes.split_at(start);
    let (expected, after) = rest.split_at_checked(NO_CHECKSUM.len()).ok_or_else(missing)?;
    let mut sum = crc32fast::Hasher::new();
    [before, NO_CHECKSUM.as_bytes(), after].iter().for_each(|part| sum.update(part));
    let found = format!("{:08x}", sum.finalize());
    if found.as_bytes() == expected {
        return Ok(());
    }
    let expected = String::from_utf8_lossy(expected);
    Err(broken(format!("a damaged checkpoint: the bytes have checksum {found}, expected {expected}")))
}

/// A directory of checkpoints, of which the last few are kept: `checkpoint-000000001200.safetensors` after 1,200 steps.
///
/// It belongs to one training, and to one process at a time.
#[derive(Debug, Clone)]
pub struct CheckpointDir {
    dir: PathBuf,
    keep: usize,
}

/// The newest checkpoint of a directory that is whole.
#[derive(Debug)]
#[non_exhaustive]
pub struct Latest {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub file: PathBuf,
    /// Why each newer file was not taken, newest first.
    pub refused: Vec<Error>,
}

impl CheckpointDir {
    /// A directory, which is made when the first checkpoint is saved. The last two are kept: should the newest be damaged
    /// on the disk, there is the one before it.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), keep: 2 }
    }

    /// How many are kept, at least 1.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn keep(mut self, keep: usize) -> Self {
        assert!(keep > 0, "0 checkpoints to keep, expected at least 1");
        self.keep = keep;
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The newest checkpoint that is whole; none if there are no checkpoints. What is damaged is passed over.
    ///
    /// # Errors
    ///
    /// If the directory or a file cannot be read, or is of another version: it may be as good as any. If there are
    /// checkpoints and none is whole, the error is that of the newest.
    pub fn latest(&self) -> Result<Option<Latest>> {
        let mut refused = Vec::new();
        for (_, file) in self.files()?.into_iter().rev() {
            match Checkpoint::read(&file) {
                Ok(checkpoint) => return Ok(Some(Latest { checkpoint, file, refused })),
                Err(error) if error.kind() == ErrorKind::Format => refused.push(error),
                Err(error) => return Err(error),
            }
        }
        match refused.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Whether there are no checkpoints.
    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(self.files()?.is_empty())
    }

    /// Saves a checkpoint and removes those that are too many, oldest first.
    pub(super) fn save(&self, step: u64, bytes: &[u8]) -> Result<PathBuf> {
        if !self.dir.is_dir() {
            let made = fs::create_dir_all(&self.dir).and_then(|()| sync_directory_of(&self.dir));
            made.map_err(|cause| Error::from(cause).with_file(&self.dir))?;
        }
        let remove = |file: &Path| fs::remove_file(file).map_err(|cause| Error::from(cause).with_file(file));
        // What comes after this step was given up, and must never be taken for the newest: it goes first.
        for (_, file) in self.files()?.iter().filter(|(other, _)| *other > step) {
            remove(file)?;
        }
        let path = self.dir.join(format!("checkpoint-{step:012}.safetensors"));
        replace_file(&path, bytes)?;
        for (_, file) in self.files()?.iter().rev().skip(self.keep) {
            remove(file)?;
        }
        // A file half written by a process that was ended, at a step at which there may never be another.
        for file in self.entries()?.iter().filter(|file| is_unfinished(file)) {
            // Where it cannot be removed it does no harm, and where somebody is writing it, it is not to be.
            remove_abandoned(file);
        }
        Ok(path)
    }

    /// The files by step, oldest first.
    fn files(&self) -> Result<Vec<(u64, PathBuf)>> {
        let step = |file: PathBuf| Some((file.file_name().and_then(step_of)?, file));
        let mut files: Vec<_> = self.entries()?.into_iter().filter_map(step).collect();
        files.sort();
        Ok(files)
    }

    /// All that is in the directory; nothing if there is none.
    fn entries(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|cause| Error::from(cause).with_file(&self.dir))?,
        };
        let path = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.path());
        entries.map(path).collect::<std::io::Result<_>>().map_err(|cause| Error::from(cause).with_file(&self.dir))
    }
}

fn is_unfinished(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    finished_name(name).is_some_and(|name| step_of(OsStr::new(name)).is_some())
}

/// Where checkpoints are kept, and when they are due.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub(super) dir: CheckpointDir,
    pub(super) every: Option<u64>,
    /// Whether what is in the directory is of this training.
    pub(super) ours: bool,
}

/// The step in the name of a checkpoint's file.
fn step_of(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse().ok()
}

/// A view of values of a shape.
pub(super) fn view<'a>(shape: &[usize], values: &'a [f32]) -> ArrayViewD<'a, f32> {
    ArrayViewD::from_shape(IxDyn(shape), values).expect("there are as many values as the shape has")
}

#[cfg(test)]
mod tests {
    use super::super::{Adam, Model, Trainer};
    use super::*;

    #[test]
    fn counts_that_could_not_be_counted_on_are_refused() {
        let model = Model::builder(1).dense("d", 2).build().unwrap();
        let trainer = Trainer::new(model, Adam::default()).average("a", 0.9).unwrap();
        let loader = crate::Loader::builder(vec![0_u32; 4]).batch_size(2).workers(0).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        trainer.save(&path, &loader.state(0)).unwrap();
        let meta = serde_json::to_value(&Checkpoint::read(&path).unwrap().meta).unwrap();
        let places = [
            "/step",
            "/optimizer_steps",
            "/progress/epoch",
            "/progress/correct",
            "/progress/judged",
            "/progress/samples",
            "/averages/0/counts/steps",
            "/averages/0/counts/averaged",
        ];
        for place in places {
            for (count, is_sound) in [(1_u64 << 62, true), ((1 << 62) + 1, false), (u64::MAX, false)] {
                let mut meta = meta.clone();
                *meta.pointer_mut(place).unwrap() = count.into();
                let meta: Meta = serde_json::from_value(meta).unwrap();
                assert_eq!(meta.check().is_ok(), is_sound, "{place} {count}");
            }
        }
    }
}
