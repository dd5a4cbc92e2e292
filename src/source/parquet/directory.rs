//! Directories of Parquet files, whose names may tell the split that they belong to: `train-00000-of-00002.parquet`, or
//! `train.parquet`.
//!
//! Source: the names that data sets on Hugging Face's hub have
//! (<https://huggingface.co/docs/hub/datasets-file-names-and-splits>).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A file that is one of several of a split.
#[derive(Debug, Clone, PartialEq)]
struct Part<'a> {
    split: &'a str,
    number: usize,
    num_parts: usize,
}

/// The place of a file in its split, if its name tells: `SPLIT-00000-of-00002.parquet`, also with more behind it.
fn part(path: &Path) -> Option<Part<'_>> {
    let (start, end) = path.file_stem()?.to_str()?.rsplit_once("-of-")?;
    let (split, number) = start.rsplit_once('-')?;
    let count = end.split('-').next()?;
    let digits = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    Some(Part { split, number: digits(number)?, num_parts: digits(count)? })
}

/// Names of files that are a whole split each, as the hub knows them.
const WHOLE_SPLITS: [&str; 6] = ["train", "validation", "valid", "val", "dev", "test"];

/// The split that a file belongs to, if its name tells.
fn split_of(path: &Path) -> Option<&str> {
    let whole = || path.file_stem()?.to_str().filter(|stem| WHOLE_SPLITS.contains(stem));
    part(path).map(|part| part.split).or_else(whole)
}

/// The Parquet files in a directory, sorted by name.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let fail = |cause| Error::new(ErrorKind::Io, "cannot list the directory").with_cause(cause).with_file(dir);
    let mut files = Vec::new();
    for entry in dir.read_dir().map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The splits that names tell of, sorted.
fn splits_of(files: &[PathBuf]) -> Vec<&str> {
    files.iter().filter_map(|path| split_of(path)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The splits in a directory, sorted.
pub(super) fn splits(dir: &Path) -> Result<Vec<String>> {
    Ok(splits_of(&list(dir)?).into_iter().map(str::to_owned).collect())
}

/// The files of the only split in a directory.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let files = list(dir)?;
    if files.is_empty() {
        return Err(Error::new(ErrorKind::Io, "the directory holds no file *.parquet").with_file(dir));
    }
    let splits = splits_of(&files);
    if splits.len() > 1 {
        let splits = splits.join(", ");
        let message = format!("the directory holds the splits {splits}, expected one of them: `open_split`");
        return Err(Error::new(ErrorKind::Format, message).with_file(dir));
    }
    if let (Some(split), Some(other)) = (splits.first(), files.iter().find(|path| split_of(path).is_none())) {
        let other = other.file_name().unwrap_or_default().display();
        let message = format!("the directory holds the split {split} and {other}, expected one of them: `open_split`");
        return Err(Error::new(ErrorKind::Format, message).with_file(dir));
    }
    check_whole(&files, dir)?;
    Ok(files)
}

/// The files of one split in a directory.
pub(super) fn files_of_split(dir: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let mut files = list(dir)?;
    let all = files.clone();
    let whole = dir.join(format!("{split}.parquet"));
    files.retain(|path| path == &whole || part(path).is_some_and(|part| part.split == split));
    if files.is_empty() {
        let message = match splits_of(&all).join(", ").as_str() {
            "" => format!("no split `{split}`, expected {split}.parquet or {split}-00000-of-00001.parquet and so on"),
            splits => format!("no split `{split}`, expected one of {splits}"),
        };
        return Err(Error::argument(message).with_file(dir));
    }
    check_whole(&files, dir)?;
    Ok(files)
}

/// Checks that the files whose names say so are all there, each once.
fn check_whole(files: &[PathBuf], dir: &Path) -> Result<()> {
    let parts: Vec<Part<'_>> = files.iter().filter_map(|path| part(path)).collect();
    let Some(first) = parts.first() else { return Ok(()) };
    if let Some(whole) = files.iter().find(|path| part(path).is_none()) {
        let (split, whole) = (first.split, whole.file_name().unwrap_or_default().display());
        let message = format!("the split {split} in parts and as {whole}, expected one of them");
        return Err(Error::new(ErrorKind::Format, message).with_file(dir));
    }
    let is_whole = parts.len() == first.num_parts
        && parts.iter().enumerate().all(|(number, part)| part.number == number && part.num_parts == first.num_parts);
    if is_whole {
        return Ok(());
    }
    let message = format!(
        "{} files of the split {}, expected {}, from 00000 on, each once",
        parts.len(),
        first.split,
        first.num_parts
    );
    Err(Error::new(ErrorKind::Format, message).with_file(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_split() {
        let of = |name| part(Path::new(name)).map(|part| (part.split, part.number, part.num_parts));
        assert_eq!(of("a/train-00001-of-00012.parquet"), Some(("train", 1, 12)));
        assert_eq!(of("test-x-00000-of-00001-0123abcd.parquet"), Some(("test-x", 0, 1)));
        for other in ["train.parquet", "train-1-of-2.parquet", "part-00000.parquet", "00000-of-00001.parquet", "-of-"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_directory_is_one_split() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        let names = |files: Result<Vec<PathBuf>>| -> Vec<String> {
            files.unwrap().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        let error = files(dir.path()).unwrap_err();
        assert_eq!((error.message(), error.kind()), ("the directory holds no file *.parquet", ErrorKind::Io));
        ["b.parquet", "a.parquet", ".hidden.parquet", "notes.txt"].into_iter().for_each(write);
        assert_eq!(names(files(dir.path())), ["a.parquet", "b.parquet"]);
        assert_eq!(names(files_of_split(dir.path(), "a")), ["a.parquet"]);
        let error = files_of_split(dir.path(), "c").unwrap_err();
        assert_eq!(error.message(), "no split `c`, expected c.parquet or c-00000-of-00001.parquet and so on");

        ["train-00001-of-00002.parquet", "test-00000-of-00001.parquet"].into_iter().for_each(write);
        let message = |files: Result<Vec<PathBuf>>| files.unwrap_err().message().to_owned();
        let expected = "the directory holds the splits test, train, expected one of them: `open_split`";
        assert_eq!(message(files(dir.path())), expected);
        let missing = "1 files of the split train, expected 2, from 00000 on, each once";
        assert_eq!(message(files_of_split(dir.path(), "train")), missing);
        assert_eq!(names(files_of_split(dir.path(), "test")), ["test-00000-of-00001.parquet"]);
        assert_eq!(splits(dir.path()).unwrap(), ["test", "train"]);
        assert_eq!(message(files_of_split(dir.path(), "val")), "no split `val`, expected one of test, train");
        write("train-00000-of-00002.parquet");
        assert_eq!(files_of_split(dir.path(), "train").unwrap().len(), 2);
        assert_eq!(files(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn splits_are_not_mixed() {
        let message = |names: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            names.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
            match files(dir.path()) {
                Ok(files) => files.len().to_string(),
                Err(error) => {
                    assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(dir.path())));
                    error.message().to_owned()
                }
            }
        };
        let several = |splits| format!("the directory holds the splits {splits}, expected one of them: `open_split`");
        assert_eq!(message(&["train.parquet", "test.parquet"]), several("test, train"));
        assert_eq!(message(&["train-00000-of-00001.parquet", "validation.parquet"]), several("train, validation"));
        assert_eq!(message(&["dev.parquet", "val.parquet", "valid.parquet"]), several("dev, val, valid"));
        let expected = "the directory holds the split train and a.parquet, expected one of them: `open_split`";
        assert_eq!(message(&["train-00000-of-00001.parquet", "a.parquet"]), expected);
        assert_eq!(message(&["train.parquet", "a.parquet"]), expected);
        let expected = "the split train in parts and as train.parquet, expected one of them";
        assert_eq!(message(&["train-00000-of-00001.parquet", "train.parquet"]), expected);
        assert_eq!(message(&["test.parquet"]), "1");
        assert_eq!(message(&["training.parquet", "tested.parquet"]), "2");

        let dir = tempfile::tempdir().unwrap();
        ["test.parquet", "train.parquet", "a.parquet"]
            .iter()
            .for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        assert_eq!(splits(dir.path()).unwrap(), ["test", "train"]);
        for split in ["test", "train", "a"] {
            assert_eq!(files_of_split(dir.path(), split).unwrap(), [dir.path().join(format!("{split}.parquet"))]);
        }
        let error = files_of_split(dir.path(), "val").unwrap_err();
        assert_eq!(error.message(), "no split `val`, expected one of test, train");
    }
}
