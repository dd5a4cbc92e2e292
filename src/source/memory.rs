//! Samples in memory, and samples that a function makes.
//!
//! A `Vec` is a sequence of clones of its elements, an ndarray array a sequence over its first axis.

use std::fmt;
use std::marker::PhantomData;

use ndarray::{Array, Array1, Axis, Dimension, IntoDimension, Ix, Ix2, Ix3, Ix4, Ix5, Ix6, RemoveAxis};

use super::gather::gather;
use super::{array_layout, array_row, array_rows};
use crate::batch::stack::{Element, Row, RowBlock, Stack, write_array};
use crate::error::{BoxError, Error, Result};
use crate::sequence::{Sequence, check_index};

impl<T: Clone + Send + Sync + 'static> Sequence for Vec<T> {
    type Sample = T;

    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        Ok(self[index].clone())
    }

    /// The layout of the elements, if all have the same one.
    fn layout(&self) -> Option<T::Layout>
    where
        T: Stack,
    {
        let first = self.first()?.layout();
        self.iter().all(|sample| sample.layout() == first).then_some(first)
    }

    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, T>) -> Result<()>
    where
        T: Stack,
    {
        self[index].write(row);
        Ok(())
    }

    fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, T>) -> Option<usize>
    where
        T: Stack,
    {
        indices.iter().enumerate().for_each(|(row, &index)| self[index as usize].write(block.row(row)));
        Some(indices.len())
    }
}

/// A vector of numbers is a sequence of numbers: labels, say.
impl<T: Clone + Send + Sync + 'static> Sequence for Array1<T> {
    type Sample = T;

    fn len(&self) -> usize {
        self.len()
    }
    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        Ok(self[index].clone())
    }
    /// The layout of the elements, if all have the same one.
    fn layout(&self) -> Option<T::Layout>
    where
        T: Stack,
    {
        let first = self.first()?.layout();
        self.iter().all(|sample| sample.layout() == first).then_some(first)
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, T>) -> Result<()>
    where
        T: Stack,
    {
        self[index].write(row);
        Ok(())
    }
    fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, T>) -> Option<usize>
    where
        T: Stack,
    {
        indices.iter().enumerate().for_each(|(row, &index)| self[index as usize].write(block.row(row)));
        Some(indices.len())
    }
}

macro_rules! rows_of_arrays {
    ($($dimension:ty)+) => {$(
        /// An array is a sequence of what lies along its first axis: the sample is an array with one axis less.
        ///
        /// The sequence's length is the extent of the first axis. `array.len()` on the array itself is ndarray's: the
        /// number of all elements.
        impl<T: Element> Sequence for Array<T, $dimension> {
            type Sample = Array<T, <$dimension as Dimension>::Smaller>;

            fn len(&self) -> usize {
                self.len_of(Axis(0))
            }
            fn get(&self, index: usize) -> Result<Self::Sample> {
                Ok(self.index_axis(Axis(0), index).to_owned())
            }
            fn is_empty(&self) -> bool {
                Sequence::len(self) == 0
            }
            fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
            where
                Self::Sample: Stack,
            {
                Some(array_layout::<T, <$dimension as Dimension>::Smaller>(self.raw_dim().remove_axis(Axis(0))))
            }
            #[inline]
            fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
            where
                Self::Sample: Stack,
            {
                let row = array_row::<T, <$dimension as Dimension>::Smaller>(row);
                write_array(self.index_axis(Axis(0), index), row);
                Ok(())
            }
            fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, Self::Sample>) -> Option<usize>
            where
                Self::Sample: Stack,
            {
                // One that does not lie in C order has no rows to copy.
                let elements = self.as_slice()?;
                gather(elements, self.shape()[0], indices, array_rows::<T, <$dimension as Dimension>::Smaller>(block));
                Some(indices.len())
            }
            fn size_bytes(&self, _index: usize) -> Option<usize> {
                Some(self.shape()[1..].iter().product::<Ix>() * size_of::<T>())
            }
        }
    )+};
}
rows_of_arrays! { Ix2 Ix3 Ix4 Ix5 Ix6 }

/// Makes a sequence of a length and a function of the index. The function has to be pure.
///
/// # Examples
///
/// ```
/// use procession::{Sequence, from_fn};
///
/// let squares = from_fn(100, |index| (index * index) as u64);
/// assert_eq!(squares.get(7)?, 49);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn from_fn<T, F>(len: usize, f: F) -> FromFn<F>
where
    T: Send + 'static,
    F: Fn(usize) -> T + Send + Sync,
{
    FromFn { len, f }
}

/// Makes a sequence of a length and a function of the index that may fail. The function has to be pure.
///
/// # Errors
///
/// `get` returns what the function returned as an error of kind [`Sample`](crate::ErrorKind::Sample). An
/// [`Error`](crate::Error) of this crate keeps its kind.
///
/// # Examples
///
/// ```
/// use procession::{Sequence, try_from_fn};
///
/// let words = ["1", "two"];
/// let numbers = try_from_fn(2, move |index| words[index].parse::<u32>());
/// assert_eq!(numbers.get(0)?, 1);
/// assert!(numbers.get(1).is_err());
/// # Ok::<(), procession::Error>(())
/// ```
pub fn try_from_fn<T, E, F>(len: usize, f: F) -> TryFromFn<F>
where
    T: Send + 'static,
    E: Into<BoxError>,
    F: Fn(usize) -> Result<T, E> + Send + Sync,
{
    TryFromFn { len, f }
}

/// Makes a sequence of arrays of one shape from a function that fills in the elements, in C order.
///
/// In a loader the function writes straight to its row of the batch, without an allocation. It has to be pure and to
/// write every element: a row holds whatever a batch before has left there.
///
/// # Errors
///
/// `get` returns what the function returned.
///
/// # Examples
///
/// ```
/// use procession::{Sequence, from_fill};
///
/// let ramps = from_fill(10, (2, 2), |index, row: &mut [f32]| {
///     for (at, element) in row.iter_mut().enumerate() {
///         *element = (index * at) as f32;
///     }
///     Ok(())
/// });
/// assert_eq!(ramps.get(3)?, ndarray::array![[0.0, 3.0], [6.0, 9.0]]);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # Panics
///
/// If `shape` has more than `isize::MAX` elements.
pub fn from_fill<T, D, F>(len: usize, shape: D, f: F) -> FromFill<T, D::Dim, F>
where
    T: Element,
    D: IntoDimension,
    F: Fn(usize, &mut [T]) -> Result<()> + Send + Sync,
{
    let shape = shape.into_dimension();
    let size = shape.slice().iter().try_fold(size_of::<T>().max(1), |size, &extent| size.checked_mul(extent));
    assert!(size.is_some_and(|size| isize::try_from(size).is_ok()), "samples of shape {shape:?} are too large");
    FromFill { len, shape, f, element: PhantomData }
}

/// Samples that a function makes; made by [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F> {
    len: usize,
    f: F,
}

impl<T, F> Sequence for FromFn<F>
where
    T: Send + 'static,
    F: Fn(usize) -> T + Send + Sync,
{
    type Sample = T;

    fn len(&self) -> usize {
        self.len
    }
    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        check_index(index, self.len);
        Ok((self.f)(index))
    }
}

/// Samples that a function makes, or fails to make; made by [`try_from_fn`].
#[derive(Clone)]
pub struct TryFromFn<F> {
    len: usize,
    f: F,
}

impl<T, E, F> Sequence for TryFromFn<F>
where
    T: Send + 'static,
    E: Into<BoxError>,
    F: Fn(usize) -> Result<T, E> + Send + Sync,
{
    type Sample = T;

    fn len(&self) -> usize {
        self.len
    }
    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        check_index(index, self.len);
        (self.f)(index).map_err(Error::sample)
    }
}

/// Arrays that a function fills in; made by [`from_fill`].
#[derive(Clone)]
pub struct FromFill<T, D, F> {
    len: usize,
    shape: D,
    f: F,
    element: PhantomData<fn(&mut [T])>,
}

impl<T, D, F> Sequence for FromFill<T, D, F>
where
    T: Element,
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
    F: Fn(usize, &mut [T]) -> Result<()> + Send + Sync,
{
    type Sample = Array<T, D>;

    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, index: usize) -> Result<Array<T, D>> {
        check_index(index, self.len);
        let mut elements = vec![T::default(); self.shape.size()];
        (self.f)(index, &mut elements)?;
        Ok(Array::from_shape_vec(self.shape.clone(), elements).expect("as many elements as the shape says"))
    }
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Some(array_layout::<T, D>(self.shape.clone()))
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        check_index(index, self.len);
        (self.f)(index, array_row::<T, D>(row))
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(self.shape.size() * size_of::<T>())
    }
}

macro_rules! debug {
    ($($name:ident<$($parameter:ident),+>),+) => {$(
        impl<$($parameter),+> fmt::Debug for $name<$($parameter),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("len", &self.len).finish_non_exhaustive()
            }
        }
    )+};
}
debug!(FromFn<F>, TryFromFn<F>, FromFill<T, D, F>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::{check_rows, check_sequence, samples};
    use ndarray::{Array2, Array3, Array4, Array5, Array6, array};

    #[test]
    fn vectors_keep_the_contract() {
        check_rows(&vec![1_u32, 2, 3]);
        check_rows(&vec![vec![1_u8], vec![1, 2]]);
        check_rows(&vec!["a".to_owned(), "bc".to_owned()]);
        check_rows(&Vec::<f32>::new());
        check_sequence(&vec![Some(1), None]);
        assert_eq!(vec![vec![1_u8], vec![1, 2]].layout(), None);
    }

    #[test]
    fn arrays_keep_the_contract() {
        let count = |shape: &[usize]| (0..shape.iter().product::<usize>()).map(|at| at as f32).collect::<Vec<_>>();
        check_rows(&Array1::from_vec(count(&[5])));
        check_rows(&Array2::from_shape_vec((3, 4), count(&[3, 4])).unwrap());
        check_rows(&Array3::from_shape_vec((3, 4, 2), count(&[3, 4, 2])).unwrap());
        check_rows(&Array4::from_shape_vec((3, 4, 2, 1), count(&[3, 4, 2, 1])).unwrap());
        check_rows(&Array5::from_shape_vec((3, 4, 2, 1, 2), count(&[3, 4, 2, 1, 2])).unwrap());
        check_rows(&Array6::from_shape_vec((3, 4, 2, 1, 2, 1), count(&[3, 4, 2, 1, 2, 1])).unwrap());
        check_rows(&Array2::<f32>::zeros((0, 4)));
        check_rows(&Array2::<f32>::zeros((4, 0)));
    }

    #[test]
    fn an_array_is_a_sequence_over_its_first_axis() {
        let images = array![[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11, 12]]];
        assert_eq!(Sequence::len(&images), 2);
        assert_eq!(Sequence::layout(&images).map(|layout| layout.into_pattern()), Some((3, 2)));
        assert_eq!(samples(&images)[1], array![[7, 8], [9, 10], [11, 12]]);
        assert_eq!(Sequence::size_bytes(&images, 0), Some(24));
        assert_eq!(samples(&array![3_u32, 4]), [3, 4]);
        // In another memory order, too.
        let across = images.reversed_axes();
        check_rows(&across);
        assert_eq!(samples(&across)[1], array![[2, 8], [4, 10], [6, 12]]);
        assert!(!Sequence::is_empty(&Array2::<u8>::zeros((4, 0))));
    }

    #[test]
    fn functions_keep_the_contract() {
        check_rows(&from_fn(5, |index| index as u8));
        check_rows(&try_from_fn(5, |index| Ok::<_, Error>(index as u8)));
        let filled = from_fill(5, (2, 3), |index, row: &mut [u16]| {
            row.iter_mut().enumerate().for_each(|(at, element)| *element = (10 * index + at) as u16);
            Ok(())
        });
        check_rows(&filled);
        assert_eq!(filled.get(2).unwrap(), array![[20, 21, 22], [23, 24, 25]]);
        assert_eq!(filled.size_bytes(0), Some(12));
        check_rows(&from_fill(0, 3, |_, _: &mut [f32]| Ok(())));
        check_rows(&from_fill(2, (), |index, row: &mut [usize]| {
            row[0] = index;
            Ok(())
        }));
    }

    #[test]
    fn errors_of_functions_pass() {
        let failing = try_from_fn(5, |index| if index == 2 { Err("two") } else { Ok(index) });
        assert_eq!(failing.get(2).unwrap_err().kind(), ErrorKind::Sample);
        assert_eq!(failing.get(3).unwrap(), 3);
        let failing = from_fill(5, 1, |_, _: &mut [u8]| Err(Error::new(ErrorKind::Limit, "full")));
        assert_eq!(failing.get(2).unwrap_err().message(), "full");
        assert_eq!(failing.get_into(2, &mut [0]).unwrap_err().message(), "full");
    }
}
