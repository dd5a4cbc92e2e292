//! The history of a run: named values by epoch and step.

use std::fmt::Write as _;
use std::path::Path;

use crate::{Error, Result};

/// A table of named values, a row for each time that something was noted, to be saved as CSV.
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
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    columns: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    epoch: u64,
    step: u64,
    /// By column; shorter than the columns when later rows brought new ones.
    values: Vec<Option<f64>>,
}

impl History {
    /// A history without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes values after a step of an epoch. A name not seen before makes a new column; a name given twice keeps the
    /// later value.
    pub fn push(&mut self, epoch: u64, step: u64, values: &[(&str, f64)]) {
        let mut row = vec![None; self.columns.len()];
        for &(name, value) in values {
            let column = self.columns.iter().position(|column| column == name).unwrap_or_else(|| {
                self.columns.push(name.to_owned());
                row.push(None);
                self.columns.len() - 1
            });
            row[column] = Some(value);
        }
        self.rows.push(Row { epoch, step, values: row });
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
            let value = row.values.get(column?).copied().flatten()?;
            Some((row.epoch, row.step, value))
        })
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
                if let Some(value) = row.values.get(column).copied().flatten() {
                    let _ = write!(out, "{value}");
                }
            }
            out.push('\n');
        }
        out
    }

    /// Saves [`to_csv`](Self::to_csv) to a file, in the place of one that is there.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; the error names it.
    pub fn save_csv(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.to_csv()).map_err(|cause| Error::from(cause).with_file(path))
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
    fn a_file_that_cannot_be_written_is_named() {
        let error = History::new().save_csv("/no/such/folder/history.csv").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Io);
        assert!(error.to_string().contains("history.csv"), "{error}");
    }
}
