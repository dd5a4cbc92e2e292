//! The directories that `save_to_disk` of Hugging Face's `datasets` writes.
//!
//! Source: `datasets`, `Dataset.save_to_disk` and `DatasetDict.save_to_disk`
//! (<https://github.com/huggingface/datasets/blob/main/src/datasets/arrow_dataset.py>). A data set is a directory with its
//! rows in Arrow streams, `state.json`, which lists them in order, and `dataset_info.json`, which tells the features. A
//! `DatasetDict` is a directory with one such directory for each split, and `dataset_dict.json`, which lists them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::source::Mapped;
use crate::source::columns::{Features, damaged};

const STATE: &str = "state.json";
const INFO: &str = "dataset_info.json";
const SPLITS: &str = "dataset_dict.json";

/// A saved data set.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) files: Vec<PathBuf>,
    pub(super) features: Features,
}

impl Saved {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let state_path = dir.join(STATE);
        if !state_path.exists() {
            return Err(none_here(dir));
        }
        let state = read_json(&state_path)?;
        let files = files(&state, dir).map_err(|error| error.with_file(&state_path))?;
        let info_path = dir.join(INFO);
        let features =
            if info_path.exists() { Features::from_info(&read_json(&info_path)?) } else { Features::default() };
        Ok(Self { files, features })
    }

    pub(super) fn open_split(dir: &Path, split: &str) -> Result<Self> {
        let splits = splits(dir)?;
        if !splits.iter().any(|name| name == split) {
            let message = format!("no split `{split}`, expected one of {}", splits.join(", "));
            return Err(Error::argument(message).with_file(dir));
        }
        Self::open(&dir.join(split))
    }
}

/// What is missing in a directory that is not a saved data set.
fn none_here(dir: &Path) -> Error {
    if dir.join(SPLITS).exists() {
        return match splits(dir) {
            Ok(splits) => {
                let message = format!("holds the splits {}, expected one of them: `open_split`", splits.join(", "));
                Error::new(ErrorKind::Format, message).with_file(dir)
            }
            Err(error) => error,
        };
    }
    let message = format!("holds no {STATE}, expected a directory that `save_to_disk` wrote; `open_all` takes files");
    Error::new(ErrorKind::Format, message).with_file(dir)
}

/// The splits of a `DatasetDict`.
pub(super) fn splits(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(SPLITS);
    let json = read_json(&path)?;
    names(&json["splits"]).ok_or_else(|| {
        let message = "no list `splits` of names of directories beside it";
        Error::new(ErrorKind::Format, message).with_file(path)
    })
}

fn files(state: &Value, dir: &Path) -> Result<Vec<PathBuf>> {
    // Older versions could save which rows are meant, and in what order, beside all of them.
    let indices = &state["_indices_data_files"];
    if !(indices.is_null() || indices.as_array().is_some_and(Vec::is_empty)) {
        let message = "rows in another order than they are stored in, by `_indices_data_files`, expected a data set saved \
                       after `flatten_indices`";
        return Err(Error::new(ErrorKind::Format, message));
    }
    let files: Option<Vec<Value>> =
        state["_data_files"].as_array().map(|files| files.iter().map(|file| file["filename"].clone()).collect());
    let files = files.and_then(|files| names(&Value::Array(files))).filter(|files| !files.is_empty());
    let files = files.ok_or_else(|| {
        let message = "no list `_data_files` of names of files beside it";
        Error::new(ErrorKind::Format, message)
    })?;
    Ok(files.iter().map(|name| dir.join(name)).collect())
}

/// A list of names: what is not one, because it leads elsewhere, makes it none.
fn names(list: &Value) -> Option<Vec<String>> {
    let is_name = |name: &str| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
    };
    let names = list.as_array()?.iter().map(|name| name.as_str().filter(|name| is_name(name)).map(str::to_owned));
    names.collect()
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = Mapped::read(path)?;
    serde_json::from_slice(&bytes).map_err(|cause| damaged("the JSON", cause).with_file(path))
}
