//! Columns of strings.

use std::path::PathBuf;

use super::blocks::Selected;
use super::cell::{is_text, text, value, value_type};
use crate::error::Result;
use crate::sequence::{Sequence, check_index};

/// The strings of a column; made by [`Table::strings`](super::Table::strings).
///
/// A null is an error at its row, unless [`or_default`](Self::or_default) gives it a value.
#[derive(Debug, Clone)]
pub struct StringColumn {
    selected: Selected,
    default: Option<String>,
}

impl StringColumn {
    pub(super) fn new(selected: Selected) -> Result<Self> {
        if !is_text(value_type(&selected.column().data_type)) {
            return Err(selected.wrong_type("strings"));
        }
        Ok(Self { selected, default: None })
    }

    /// Gives nulls a value.
    pub fn or_default(mut self, value: impl Into<String>) -> Self {
        self.default = Some(value.into());
        self
    }
}

impl Sequence for StringColumn {
    type Sample = String;

    fn len(&self) -> usize {
        self.selected.num_rows()
    }
    fn get(&self, index: usize) -> Result<String> {
        check_index(index, self.len());
        let (array, at) = self.selected.locate(index)?;
        let found = value(&*array, at, text).map_err(|_| self.selected.unreadable(index))?;
        found.or_else(|| self.default.clone()).ok_or_else(|| self.selected.null(index))
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.selected.file(index)
    }
}
