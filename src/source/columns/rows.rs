//! Columns of lists of numbers.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

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
/// is copied straight to its row of the batch. What a file tells is compared with its first row that is not null, when a
/// loader asks for the layout, before batches are made to fit.
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
    /// Whether `shape` is what the rows have: the caller says so, or one of the first block's rows was seen to. Until then
    /// it is no more than some bytes of a header, which must not decide on the memory of batches.
    is_confirmed: OnceLock<bool>,
}

/// A null row of a shape that no other row was seen to have takes no more.
const UNCONFIRMED_BYTES: usize = 1 << 20;

impl<T: ColumnElement> RowColumn<T> {
    pub(super) fn new(selected: Selected) -> Result<Self> {
        let column = selected.column();
        let (levels, inner) = levels(&column.data_type);
        if levels.is_empty() || levels.len() > MAX_DEPTH || !T::reads(inner) {
            return Err(selected.wrong_type(&format!("lists of {}", T::NAME)));
        }
        let extents: Option<Vec<usize>> = match &column.feature {
            Some(Feature::Shape(extents)) if extents.len() == levels.len() => Some(extents.clone()),
            _ => fixed(&levels),
        };
        let shape = match &extents {
            Some(extents) => Some(Ix1(row_len::<T>(extents).ok_or_else(|| {
                let message =
                    format!("rows of shape {extents:?} in column `{}`, larger than the address space", column.name);
                Error::new(ErrorKind::Format, message)
            })?)),
            None => None,
        };
        Ok(Self { selected, default: None, shape, extents, is_confirmed: OnceLock::new() })
    }
}

/// The extents of lists, if all levels are of a fixed length.
fn fixed(levels: &[Option<i32>]) -> Option<Vec<usize>> {
    levels.iter().map(|len| usize::try_from((*len)?).ok()).collect()
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
        let is_confirmed = OnceLock::from(true);
        let Self { selected, default, extents, .. } = self;
        Ok(RowColumn { selected, default, extents, shape: Some(shape), is_confirmed })
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
                (Some(_), Some(shape)) => {
                    let bytes = shape.size() * size_of::<T>();
                    if bytes > UNCONFIRMED_BYTES && !self.is_confirmed() {
                        let found = format!("is null, and nothing but the header tells of rows of {bytes} bytes");
                        let what = format_args!("{found}, expected `with_shape` as well");
                        return Err(self.selected.wrong(ErrorKind::Limit, row, what));
                    }
                    use_them(None)
                }
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

    /// Whether rows have the shape that they are said to have: the first that is there tells, of the first block with rows.
    fn is_confirmed(&self) -> bool {
        *self.is_confirmed.get_or_init(|| {
            let starts = self.selected.blocks().starts();
            let Some(len) = starts.lens().find(|&len| len > 0) else { return true };
            let Ok((array, _)) = self.selected.locate(0) else { return false };
            let shape_len = self.shape.as_ref().map(Dimension::size);
            // Null or not, rows of a fixed length take their place in the block, which the decoder has compared.
            if let Some(extents) = fixed(&levels(array.data_type()).0) {
                return row_len::<T>(&extents) == shape_len;
            }
            let Some(row) = (0..len).find(|&row| !array.is_null(row)) else { return false };
            let numbers = self.numbers(&*array, row, row);
            numbers.is_ok_and(|numbers| Some(numbers.range.len()) == shape_len)
        })
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
            // Of lists that differ, one may have the length that is expected.
            let lens = [inside.extent, inside.other].into_iter().flatten();
            if let Some(len) = lens.into_iter().find(|&len| Some(len) != expected) {
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
            let len = len.unwrap_or(0);
            let mut elements = Vec::new();
            elements.try_reserve_exact(len).map_err(|cause| {
                let what = format_args!("of {len} elements, more than there is memory for");
                self.selected.wrong(ErrorKind::Limit, index, what).with_cause(cause)
            })?;
            elements.resize(len, T::default());
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
        self.shape.clone().filter(|_| self.is_confirmed()).map(array_layout::<T, D>)
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
