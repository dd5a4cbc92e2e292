//! Columns of single numbers, and of labels.

use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::Selected;
use super::cell::{value, value_type};
use super::element::{ColumnElement, integer};
use super::schema::Feature;
use crate::batch::stack::{Row, Stack};
use crate::error::{ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

/// The numbers of a column; made by [`Table::column`](super::Table::column).
///
/// A null is an error at its row, unless [`or_default`](Self::or_default) gives it a value.
#[derive(Debug, Clone)]
pub struct Column<T> {
    selected: Selected,
    default: Option<T>,
}

impl<T: ColumnElement> Column<T> {
    pub(super) fn new(selected: Selected) -> Result<Self> {
        if !T::reads(value_type(&selected.column().data_type)) {
            return Err(selected.wrong_type(T::NAME));
        }
        Ok(Self { selected, default: None })
    }

    /// Gives nulls a value.
    pub fn or_default(mut self, value: T) -> Self {
        self.default = Some(value);
        self
    }
}

impl<T: ColumnElement> Sequence for Column<T> {
    type Sample = T;

    fn len(&self) -> usize {
        self.selected.num_rows()
    }
    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        check_index(index, self.len());
        let (array, at) = self.selected.locate(index)?;
        let found = value(&*array, at, T::get).map_err(|_| self.selected.unreadable(index))?;
        found.or(self.default).ok_or_else(|| self.selected.null(index))
    }
    fn get_into(&self, index: usize, row: Row<'_, T>) -> Result<()>
    where
        T: Stack,
    {
        self.get(index)?.write(row);
        Ok(())
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(size_of::<T>())
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.selected.file(index)
    }
}

/// The labels of a column of integers; made by [`Table::labels`](super::Table::labels).
///
/// A label that is null, or -1 where the column has named classes (so `datasets` marks what has none), is an error at its
/// row unless [`or_default`](Self::or_default) gives it a value. One that is out of range always is.
#[derive(Debug, Clone)]
pub struct LabelColumn {
    selected: Selected,
    default: Option<u32>,
    // The labels that there are: below the number of classes, or all that fit.
    end: i128,
}

impl LabelColumn {
    pub(super) fn new(selected: Selected) -> Result<Self> {
        let data_type = value_type(&selected.column().data_type);
        if !data_type.is_integer() {
            return Err(selected.wrong_type("integers"));
        }
        let end = match &selected.column().feature {
            Some(Feature::Classes(names)) => names.len() as i128,
            _ => 1 << 32,
        };
        Ok(Self { selected, default: None, end })
    }

    /// Gives labels that are missing a value.
    pub fn or_default(mut self, label: u32) -> Self {
        self.default = Some(label);
        self
    }

    /// The names of the classes, in the order of their labels, if the file has them.
    pub fn class_names(&self) -> Option<Arc<[String]>> {
        match &self.selected.column().feature {
            Some(Feature::Classes(names)) => Some(Arc::clone(names)),
            _ => None,
        }
    }

    #[cold]
    fn out_of_range(&self, row: usize, label: i128) -> crate::Error {
        let expected = match self.class_names() {
            Some(names) => format!("one below {} as there are that many classes", names.len()),
            None => "one from 0 to 4294967295".to_owned(),
        };
        self.selected.wrong(ErrorKind::Format, row, format_args!("has the label {label}, expected {expected}"))
    }
}

impl Sequence for LabelColumn {
    type Sample = u32;

    fn len(&self) -> usize {
        self.selected.num_rows()
    }
    #[inline]
    fn get(&self, index: usize) -> Result<u32> {
        check_index(index, self.len());
        let (array, at) = self.selected.locate(index)?;
        let label = value(&*array, at, integer).map_err(|_| self.selected.unreadable(index))?;
        let is_named = self.end < 1 << 32;
        match (label, self.default) {
            (Some(label), _) if (0..self.end).contains(&label) => Ok(label as u32),
            (None, Some(default)) => Ok(default),
            (Some(-1), Some(default)) if is_named => Ok(default),
            (None, None) => Err(self.selected.null(index)),
            (Some(label), _) => Err(self.out_of_range(index, label)),
        }
    }
    fn get_into(&self, index: usize, row: &mut u32) -> Result<()> {
        *row = self.get(index)?;
        Ok(())
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(size_of::<u32>())
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.selected.file(index)
    }
}
