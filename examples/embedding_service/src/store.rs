//! Vectors that were paid for: in memory, and if asked for in a file.
//!
//! The file is a line of JSON that names the service and the model, and a line for each text with its vector. It is only
//! ever appended to, so that a run that is killed loses no more than its last line, which the next one removes.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2};
use procession::{BoxError, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The vectors of texts, all of one width.
#[derive(Debug, Default)]
pub(crate) struct Store {
    vectors: HashMap<String, Vec<f32>>,
    width: Option<usize>,
    file: Option<(File, PathBuf)>,
}

/// What the vectors of a file depend on besides the texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) url: String,
    pub(crate) model: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    text: String,
    vector: Vec<f32>,
}

impl Store {
    /// Reads a file, or begins it. It is locked for as long as the store lives.
    ///
    /// # Errors
    ///
    /// If it cannot be read, another process has it, it holds vectors of another origin, or it is damaged elsewhere than at
    /// its end.
    pub(crate) fn open(path: &Path, origin: &Origin) -> Result<Self> {
        let failed = |message: String, cause: Option<BoxError>| {
            let error = Error::new(ErrorKind::Format, message).with_file(path);
            match cause {
                Some(cause) => error.with_cause(cause),
                None => error,
            }
        };
        let io = |cause: io::Error| Error::from(cause).with_file(path);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(&io)?;
        file.try_lock().map_err(|cause| failed("a cache that another process has".to_owned(), Some(cause.into())))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(&io)?;
        // What comes after the last end of a line is what a run was writing when it was killed.
        let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        // A file without a whole line is not truncated unless it began as one of ours does.
        if whole == 0 && !content.is_empty() && !content.starts_with(b"{\"url\":") {
            return Err(failed("not a cache of embeddings".to_owned(), None));
        }
        let mut store = Self::default();
        let mut lines = content[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate();
        if whole > 0 {
            let first = lines.next().map_or(&b""[..], |(_, line)| line);
            let found: Origin = serde_json::from_slice(first)
                .map_err(|cause| failed("not a cache of embeddings".to_owned(), Some(cause.into())))?;
            if found != *origin {
                let Origin { url, model } = found;
                let message = format!("a cache of {model} at {url}, expected {} at {}", origin.model, origin.url);
                return Err(failed(message, None));
            }
        }
        for (number, line) in lines {
            let number = number + 1;
            let Line { text, vector } = serde_json::from_slice(line)
                .map_err(|cause| failed(format!("line {number} is no text with its vector"), Some(cause.into())))?;
            store.check_width(vector.len()).map_err(|error| error.with_file(path))?;
            store.vectors.insert(text, vector);
        }
        // Only now is it known to be a cache of ours, whose torn end may go.
        file.set_len(whole as u64).map_err(io)?;
        store.file = Some((file, path.to_owned()));
        if whole == 0 {
            store.append(&[serde_json::to_string(origin)])?;
        }
        Ok(store)
    }

    /// The texts that have no vector yet, each once, in their order.
    pub(crate) fn missing(&self, texts: &[String]) -> Vec<String> {
        let mut seen = HashSet::new();
        texts.iter().filter(|text| !self.vectors.contains_key(*text) && seen.insert(*text)).cloned().collect()
    }

    /// Keeps the vectors of texts.
    ///
    /// # Errors
    ///
    /// If they are of another width than those before, or cannot be written.
    pub(crate) fn insert(&mut self, texts: &[String], vectors: ArrayView2<'_, f32>) -> Result<()> {
        self.check_width(vectors.ncols())?;
        let lines: Vec<Line> = texts
            .iter()
            .zip(vectors.outer_iter())
            .map(|(text, vector)| Line { text: text.clone(), vector: vector.to_vec() })
            .collect();
        self.append(&lines.iter().map(serde_json::to_string).collect::<Vec<_>>())?;
        self.vectors.extend(lines.into_iter().map(|Line { text, vector }| (text, vector)));
        Ok(())
    }

    /// A row for each text.
    ///
    /// # Errors
    ///
    /// If a text has no vector.
    pub(crate) fn matrix(&self, texts: &[String]) -> Result<Array2<f32>> {
        let mut matrix = Array2::zeros((texts.len(), self.width.unwrap_or(0)));
        for (text, mut row) in texts.iter().zip(matrix.outer_iter_mut()) {
            let vector = self.vectors.get(text);
            let vector = vector.ok_or_else(|| Error::new(ErrorKind::Argument, format!("no vector of {text:?}")))?;
            row.iter_mut().zip(vector).for_each(|(element, &value)| *element = value);
        }
        Ok(matrix)
    }

    fn check_width(&mut self, found: usize) -> Result<()> {
        let expected = *self.width.get_or_insert(found);
        if found != expected || found == 0 {
            let message = format!("a vector of {found} numbers, expected {expected} as those before and at least 1");
            return Err(Error::new(ErrorKind::Shape, message));
        }
        Ok(())
    }

    fn append(&mut self, lines: &[serde_json::Result<String>]) -> Result<()> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        let mut text = String::new();
        for line in lines {
            let line = line.as_ref().map_err(|cause| {
                Error::new(ErrorKind::Format, format!("a line that cannot be written: {cause}")).with_file(&*path)
            })?;
            text.push_str(line);
            text.push('\n');
        }
        file.write_all(text.as_bytes()).map_err(|cause| Error::from(cause).with_file(&*path))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn origin() -> Origin {
        Origin { url: "http://here/v1/embeddings".to_owned(), model: "m".to_owned() }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn vectors_come_back_as_they_were_put_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let vectors = array![[0.1_f32, -1.5e-39, 3.0e38], [1.0 / 3.0, 0.0, -0.0]];
        {
            let mut store = Store::open(&path, &origin()).unwrap();
            assert_eq!(store.missing(&texts(&["b", "a\n\"", "b"])), ["b", "a\n\""]);
            store.insert(&texts(&["b", "a\n\""]), vectors.view()).unwrap();
            let locked = Store::open(&path, &origin()).unwrap_err().to_string();
            assert!(locked.contains("another process"), "{locked}");
        }
        let store = Store::open(&path, &origin()).unwrap();
        assert_eq!(store.missing(&texts(&["b", "c", "a\n\""])), ["c"]);
        let read = store.matrix(&texts(&["a\n\"", "b"])).unwrap();
        let bits = |matrix: ArrayView2<'_, f32>| matrix.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(read.view()), bits(vectors.select(ndarray::Axis(0), &[1, 0]).view()));
        assert!(store.matrix(&texts(&["c"])).unwrap_err().to_string().contains("no vector of \"c\""));
    }

    #[test]
    fn a_run_that_was_killed_at_any_byte_loses_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let mut store = Store::open(&path, &origin()).unwrap();
        store.insert(&texts(&["x", "y"]), array![[1.0_f32], [2.0]].view()).unwrap();
        drop(store);
        let whole = std::fs::read(&path).unwrap();
        for len in 0..=whole.len() {
            // Fewer bytes than tell what the file is are not touched.
            if (1..b"{\"url\":".len()).contains(&len) {
                continue;
            }
            std::fs::write(&path, &whole[..len]).unwrap();
            let mut store = Store::open(&path, &origin()).unwrap();
            let kept = whole[..len].iter().filter(|&&byte| byte == b'\n').count().saturating_sub(1);
            let missing = store.missing(&texts(&["x", "y"]));
            assert_eq!(missing, texts(&["x", "y"])[kept..], "{len} bytes");
            let row = |text: &String| if text == "x" { 1.0_f32 } else { 2.0 };
            let rows = Array2::from_shape_fn((missing.len(), 1), |(at, _)| row(&missing[at]));
            store.insert(&missing, rows.view()).unwrap();
            drop(store);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{len} bytes");
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let refused = |content: &str, part: &str| {
            std::fs::write(&path, content).unwrap();
            let error = Store::open(&path, &origin()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        };
        let first = serde_json::to_string(&origin()).unwrap();
        refused("my letters\n", "not a cache");
        refused("my letters", "not a cache");
        refused("\n", "not a cache");
        refused("my letters\nand others", "not a cache");
        refused("{\"url\":\"http://there\",\"model\":\"m\"}\n{\"te", "a cache of m at http://there");
        refused(
            "{\"url\":\"http://there\",\"model\":\"m\"}\n",
            "a cache of m at http://there, expected m at http://here",
        );
        refused(&format!("{first}\n{{\"text\":\"x\"}}\n"), "line 2 is no text");
        let uneven = "{\"text\":\"x\",\"vector\":[1]}\n{\"text\":\"y\",\"vector\":[1,2]}\n";
        refused(&format!("{first}\n{uneven}"), "a vector of 2 numbers, expected 1");
    }

    #[test]
    fn widths_agree() {
        let mut store = Store::default();
        store.insert(&texts(&["x"]), array![[1.0_f32, 2.0]].view()).unwrap();
        let error = store.insert(&texts(&["y"]), array![[1.0_f32]].view()).unwrap_err();
        assert_eq!(error.to_string(), "a vector of 1 numbers, expected 2 as those before and at least 1");
    }
}
