//! The history of a run: named values by epoch and step.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::file::replace_file;
use crate::{Error, Result};

/// A table of named values, a row for each time that something was noted, to be saved as CSV or as JSON Lines.
///
/// # Examples
///
/// ```
/// use procession::train::History;
///
/// let mut history = History::new();
/// history.push(0, 469, &[("loss", 0.5)]);
/// history.push(1, 938, &[("loss", 0.25), ("accuracy", 0.875)]);
/// assert_eq!(history.to_csv(), "epoch,step,loss,accuracy\n0,469,0.5,\n1,938,0.25,0.875\n");
/// assert_eq!(history.column("accuracy").collect::<Vec<_>>(), [(1, 938, 0.875)]);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    columns: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    epoch: u64,
    step: u64,
    /// By column; shorter than the columns when later rows brought new ones.
    values: Vec<Option<Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Value(#[serde(with = "super::exact")] f64);

impl History {
    /// A history without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes values after a step of an epoch. A name not seen before makes a new column; a name given twice keeps the
    /// later value.
    pub fn push(&mut self, epoch: u64, step: u64, values: &[(&str, f64)]) {
        let values = self.row_with(Vec::new(), values);
        self.rows.push(Row { epoch, step, values });
    }

    /// Adds values to the last row; nothing if there are no rows.
    pub(super) fn amend(&mut self, values: &[(&str, f64)]) {
        if let Some(mut row) = self.rows.pop() {
            row.values = self.row_with(row.values, values);
            self.rows.push(row);
        }
    }

    fn row_with(&mut self, mut row: Vec<Option<Value>>, values: &[(&str, f64)]) -> Vec<Option<Value>> {
        row.resize(self.columns.len(), None);
        for &(name, value) in values {
            let column = self.columns.iter().position(|column| column == name).unwrap_or_else(|| {
                self.columns.push(name.to_owned());
                row.push(None);
                self.columns.len() - 1
            });
            row[column] = Some(Value(value));
        }
        row
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The names of the values, in the order in which they first came.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The values of a name as (epoch, step, value), from the first row to the last; none for an unknown name.
    pub fn column(&self, name: &str) -> impl Iterator<Item = (u64, u64, f64)> + '_ {
        let column = self.columns.iter().position(|column| column == name);
        self.rows.iter().filter_map(move |row| {
            let Value(value) = row.values.get(column?).copied().flatten()?;
            Some((row.epoch, row.step, value))
        })
    }

    /// The values of the last row by name, in the order of the columns.
    pub fn last(&self) -> impl Iterator<Item = (&str, f64)> {
        let row = self.rows.last().map_or(&[][..], |row| &row.values);
        let named = self.columns.iter().zip(row);
        named.filter_map(|(name, value)| value.map(|Value(value)| (name.as_str(), value)))
    }

    /// The epoch of the last row.
    pub fn last_epoch(&self) -> Option<u64> {
        self.rows.last().map(|row| row.epoch)
    }

    /// The table as CSV (RFC 4180, with line feeds): `epoch`, `step`, then the columns; an empty cell where a row has no
    /// value. Numbers are written so that reading them gives the same `f64`.
    pub fn to_csv(&self) -> String {
        let mut out = "epoch,step".to_owned();
        for name in &self.columns {
            out.push(',');
            out.push_str(&quoted(name));
        }
        out.push('\n');
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = write!(out, "{},{}", row.epoch, row.step);
            for column in 0..self.columns.len() {
                out.push(',');
                if let Some(Value(value)) = row.values.get(column).copied().flatten() {
                    let _ = write!(out, "{value}");
                }
            }
            out.push('\n');
        }
        out
    }

    /// The table as JSON Lines: an object for each row, with `epoch`, `step`, and what the row has a value of; a value
    /// that is not finite is `null`.
    pub fn to_json_lines(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = write!(out, "{{\"epoch\":{},\"step\":{}", row.epoch, row.step);
            for (name, value) in self.columns.iter().zip(&row.values) {
                if let Some(Value(value)) = value {
                    let _ = write!(out, ",{}:", serde_json::Value::from(name.as_str()));
                    let _ = write!(out, "{}", serde_json::Value::from(*value));
                }
            }
            out.push_str("}\n");
        }
        out
    }

    /// Saves the table in the place of a file that is there: as CSV if its name ends in `.csv`, as JSON Lines if it
    /// ends in `.jsonl`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or its name has another ending; the error names it.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let text = match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => self.to_csv(),
            Some("jsonl") => self.to_json_lines(),
            ending => {
                let ending = ending.unwrap_or_default();
                let message = format!("a history in a file that ends in {ending:?}, expected .csv or .jsonl");
                return Err(Error::argument(message).with_file(path));
            }
        };
        replace_file(path, text.as_bytes())
    }
}

/// A cell of text, in quotes if it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_numbers_survive() {
        let mut history = History::new();
        history.push(0, 1, &[("a,\"b\"", 0.1), ("c", f64::NAN)]);
        assert_eq!(history.to_csv(), "epoch,step,\"a,\"\"b\"\"\",c\n0,1,0.1,NaN\n");
    }

    #[test]
    fn rows_are_json_objects() {
        let mut history = History::new();
        history.push(0, 1, &[("loss", 0.1), ("a \"b\"", f64::NAN)]);
        history.push(1, 2, &[("loss", 1e300)]);
        let expected =
            "{\"epoch\":0,\"step\":1,\"loss\":0.1,\"a \\\"b\\\"\":null}\n{\"epoch\":1,\"step\":2,\"loss\":1e+300}\n";
        assert_eq!(history.to_json_lines(), expected);
        assert_eq!(history.last().collect::<Vec<_>>(), [("loss", 1e300)]);
        assert_eq!(history.last_epoch(), Some(1));
    }

    #[test]
    fn the_ending_says_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::new();
        history.push(0, 1, &[("loss", 0.5)]);
        let saved = |name: &str| {
            history.save(dir.path().join(name))?;
            Ok::<_, Error>(std::fs::read_to_string(dir.path().join(name)).unwrap())
        };
        assert_eq!(saved("h.csv").unwrap(), history.to_csv());
        assert_eq!(saved("h.jsonl").unwrap(), history.to_json_lines());
        let error = saved("h.txt").unwrap_err();
        assert!(error.to_string().contains("ends in \"txt\", expected .csv or .jsonl"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = History::new().save("/no/such/folder/history.csv").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Io);
        assert!(error.to_string().contains("history.csv"), "{error}");
    }
}
