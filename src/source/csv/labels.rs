//! Columns of the names of classes, as their numbers.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Table;
use crate::error::Result;
use crate::sequence::Sequence;
use crate::source::classes::Classes;

/// The numbers of the classes that a column of a CSV file names; made by [`Csv::labels`](super::Csv::labels).
///
/// # Errors
///
/// `get` fails where a field is none of the names: an error of kind [`Format`](crate::ErrorKind::Format) with the column, the
/// line in which the row begins, and the text.
#[derive(Clone)]
pub struct CsvLabels {
    table: Arc<Table>,
    column: usize,
    classes: Arc<Classes>,
}

impl CsvLabels {
    pub(super) fn new(
        table: Arc<Table>,
        column: usize,
        classes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        let classes = Classes::new(classes).map_err(|error| error.with_file(table.bytes.path()))?;
        Ok(Self { table, column, classes: Arc::new(classes) })
    }

    /// The names of the classes: a label is a place among them.
    pub fn classes(&self) -> &[String] {
        self.classes.names()
    }
}

impl Sequence for CsvLabels {
    type Sample = u32;

    fn len(&self) -> usize {
        self.table.num_rows()
    }
    fn get(&self, index: usize) -> Result<u32> {
        self.table.with_fields(index, |fields| {
            let field = fields.get(self.column);
            let name = std::str::from_utf8(field).ok();
            name.and_then(|name| self.classes.number(name.trim_ascii()))
                .ok_or_else(|| self.table.refused(index, field, self.column, &self.classes.expected()))
        })
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.table.bytes.path().to_owned())
    }
}

impl fmt::Debug for CsvLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("CsvLabels");
        out.field("path", &self.table.bytes.path()).field("column", &self.column).field("classes", &self.classes());
        out.finish_non_exhaustive()
    }
}
