//! Columns of lists of numbers.

use std::ops::Range;
use std::path::PathBuf;

use arrow_array::Array as ArrowArray;
use ndarray::{Array, Dimension, IntoDimension, Ix1, RemoveAxis};

use super::blocks::Selected;
use super::element::ColumnElement;
use super::lists::{MAX_DEPTH, any_null, inside, is_list, levels};
use super::schema::Feature;
use crate::batch::stack::{Row, Stack};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};
use crate::source::{array_layout, array_row};

/// The lists of numbers of a column, as arrays; made by [`Table::rows`](super::Table::rows).
///
/// Lists within lists are one array, in C order; within one row all lists of a level must have one length. Rows may differ
/// in length, unless the type of the column (`list<f32; 4>`) or what `datasets` says about it (`Array2D`, or lists of a
/// fixed length) tells that they do not, or [`with_shape`](Self::with_shape) does. Then all rows have one layout, and each
/// is copied straight to its row of the batch.
///
/// A null is an error at its row, be it a number or a list, unless [`or_default`](Self::or_default) gives it a value.
///
/// # Examples
///
/// ```
/// use procession::Sequence;
/// use procession::source::ArrowTable;
///
/// let table = ArrowTable::open("tests/formats/arrow/plain.arrow")?;
/// let rows = table.rows::<f32>("fixed")?;
/// assert_eq!(rows.get(1)?, ndarray::array![6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
/// let matrices = rows.with_shape([2, 3])?;
/// assert_eq!(matrices.get(1)?, ndarray::array![[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RowColumn<T, D = Ix1> {
    selected: Selected,
    default: Option<T>,
    /// The shape of every row, if they have one. The memory of a row fits the address space.
    shape: Option<D>,
    /// The lengths that the lists of every level must have, if something tells.
    extents: Option<Vec<usize>>,
}

impl<T: ColumnElement> RowColumn<T> {
    pub(super) fn new(selected: Selected) -> Result<Self> {
        let column = selected.column();
        let (levels, inner) = levels(&column.data_type);
        if levels.is_empty() || levels.len() > MAX_DEPTH || !T::reads(inner) {
            return Err(selected.wrong_type(&format!("lists of {}", T::NAME)));
        }
        let fixed = levels.iter().map(|len| usize::try_from((*len)?).ok()).collect();
        let extents: Option<Vec<usize>> = match &column.feature {
            Some(Feature::Shape(extents)) if extents.len() == levels.len() => Some(extents.clone()),
            _ => fixed,
        };
        let shape = match &extents {
            Some(extents) => Some(Ix1(row_len::<T>(extents).ok_or_else(|| {
                let message =
                    format!("rows of shape {extents:?} in column `{}`, larger than the address space", column.name);
                Error::new(ErrorKind::Format, message)
            })?)),
            None => None,
        };
        Ok(Self { selected, default: None, shape, extents })
    }
}

/// The number of elements of a row, if it fits the address space.
fn row_len<T>(extents: &[usize]) -> Option<usize> {
    let full_len =
        extents.iter().filter(|&&extent| extent > 0).try_fold(1_usize, |len, &extent| len.checked_mul(extent))?;
    full_len.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok())?;
    Some(if extents.contains(&0) { 0 } else { full_len })
}

impl<T: ColumnElement, D: Dimension> RowColumn<T, D> {
    /// Gives nulls a value: those among the numbers of a row, and, if all rows have one shape, all numbers of a row that is
    /// null.
    pub fn or_default(mut self, value: T) -> Self {
        self.default = Some(value);
        self
    }

    /// The same numbers as arrays of this shape, in C order. A row that has another number of them is an error.
    ///
    /// # Errors
    ///
    /// Of kind [`Shape`](ErrorKind::Shape), if it is known that rows have another number of elements;
    /// [`Argument`](ErrorKind::Argument), if the shape is larger than the address space.
    pub fn with_shape<S: IntoDimension>(self, shape: S) -> Result<RowColumn<T, S::Dim>> {
        let shape = shape.into_dimension();
        let Some(len) = row_len::<T>(shape.slice()) else {
            return Err(Error::argument(format!("shape {:?}, larger than the address space", shape.slice())));
        };
        if let Some(known) = self.shape.as_ref().map(Dimension::size).filter(|&known| known != len) {
            let name = self.selected.name();
            let message =
                format!("shape {:?} of {len} elements, expected {known} as column `{name}` has", shape.slice());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        Ok(RowColumn { selected: self.selected, default: self.default, extents: self.extents, shape: Some(shape) })
    }

    /// The shape of every row, if they have one.
    pub fn shape(&self) -> Option<&[usize]> {
        self.shape.as_ref().map(Dimension::slice)
    }

    /// Finds the numbers of a row and calls a function with them, or with none if the row is null and nulls have a value.
    fn with<R>(&self, row: usize, use_them: impl FnOnce(Option<Numbers<'_>>) -> Result<R>) -> Result<R> {
        check_index(row, self.selected.num_rows());
        let (array, at) = self.selected.locate(row)?;
        if array.is_null(at) {
            let unknown = "is null, and `or_default` does not tell the length of a list, expected `with_shape` as well";
            return match (self.default, &self.shape) {
                (Some(_), Some(_)) => use_them(None),
                (Some(_), None) => Err(self.selected.wrong(ErrorKind::Format, row, unknown)),
                (None, _) => Err(self.selected.null(row)),
            };
        }
        let numbers = self.numbers(&*array, at, row)?;
        let len = numbers.range.len();
        if let Some(shape) = self.shape.as_ref().filter(|shape| shape.size() != len) {
            let what = format!("has {len} elements, expected {} of shape {:?}", shape.size(), shape.slice());
            return Err(self.selected.wrong(ErrorKind::Shape, row, what));
        }
        use_them(Some(numbers))
    }

    /// Descends from the list at a row to the numbers in its innermost lists.
    fn numbers<'a>(&self, array: &'a dyn ArrowArray, at: usize, row: usize) -> Result<Numbers<'a>> {
        let (mut values, mut range) = (array, at..at + 1);
        let mut level = 0;
        while is_list(values.data_type()) {
            if level > 0 && any_null(values, &range) {
                return Err(self.selected.wrong(ErrorKind::Format, row, "has a list within that is null"));
            }
            let damaged = || self.selected.wrong(ErrorKind::Format, row, "has a list that ends beyond its elements");
            let inside = inside(values, range).ok_or_else(damaged)?;
            let expected = self.extents.as_deref().and_then(|extents| extents.get(level).copied()).or(inside.extent);
            if let Some(len) = inside.other.or(inside.extent).filter(|&len| Some(len) != expected) {
                let what = format!("has a list of {len} at level {level}, expected {}", expected.unwrap_or(0));
                return Err(self.selected.wrong(ErrorKind::Shape, row, what));
            }
            (values, range) = (inside.items, inside.range);
            level += 1;
        }
        Ok(Numbers { values, range })
    }

    /// Writes the numbers of a row.
    fn copy(&self, row: usize, numbers: Option<Numbers<'_>>, out: &mut [T]) -> Result<()> {
        let damaged = || self.selected.wrong(ErrorKind::Format, row, "has elements of another type than its column");
        let (numbers, default) = match (numbers, self.default) {
            (Some(numbers), default) => (numbers, default),
            (None, default) => {
                out.fill(default.unwrap_or_default());
                return Ok(());
            }
        };
        let Numbers { values, range } = numbers;
        let has_nulls = any_null(values, &range);
        T::copy(values, range.clone(), out).ok_or_else(damaged)?;
        match (has_nulls, default) {
            (false, _) => Ok(()),
            (true, None) => Err(self.selected.wrong(
                ErrorKind::Format,
                row,
                "has an element that is null, expected a value, or `or_default`",
            )),
            (true, Some(default)) => {
                out.iter_mut().zip(range).filter(|(_, at)| values.is_null(*at)).for_each(|(out, _)| *out = default);
                Ok(())
            }
        }
    }
}

/// Numbers where they lie.
struct Numbers<'a> {
    values: &'a dyn ArrowArray,
    range: Range<usize>,
}

impl<T, D> Sequence for RowColumn<T, D>
where
    T: ColumnElement,
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    type Sample = Array<T, D>;

    fn len(&self) -> usize {
        self.selected.num_rows()
    }
    fn get(&self, index: usize) -> Result<Array<T, D>> {
        self.with(index, |numbers| {
            // Without a shape it is a vector, and then there are numbers.
            let len = numbers.as_ref().map(|numbers| numbers.range.len()).or(self.shape.as_ref().map(Dimension::size));
            let mut elements = vec![T::default(); len.unwrap_or(0)];
            self.copy(index, numbers, &mut elements)?;
            let shape = self.shape.clone().unwrap_or_else(|| {
                let mut shape = D::zeros(1);
                shape[0] = elements.len();
                shape
            });
            Ok(Array::from_shape_vec(shape, elements).expect("the number of elements was compared with the shape"))
        })
    }
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        self.shape.clone().map(array_layout::<T, D>)
    }
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        self.with(index, |numbers| self.copy(index, numbers, array_row::<T, D>(row)))
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(self.shape.as_ref()?.size() * size_of::<T>())
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.selected.file(index)
    }
}
