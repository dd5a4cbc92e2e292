//! The rows, the numbers and the labels of an array in a file.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use ndarray::{Array, Dimension, Ix1, RemoveAxis};

use super::super::scale::{ByteSamples, Floats};
use super::super::{array_layout, array_row};
use super::element::{NpyElement, NpyType};
use super::{Npy, not_of_type};
use crate::batch::stack::{Row, Stack};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

/// The samples of an `.npy` file, which lie along its first axis: arrays of dimension `D`; made by [`Npy::samples`].
///
/// A sample is copied from the file straight to its row of the batch.
///
/// # Errors
///
/// `get` fails for arrays of `bool` where a byte is neither 0 nor 1: an error of kind [`Format`](ErrorKind::Format) with
/// its place. Samples of other types never fail.
pub struct NpySamples<T, D> {
    npy: Npy,
    shape: D,
    // Invariant: the product of `shape`, whose extents are those of the file.
    sample_len: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: NpyElement, D: Dimension> NpySamples<T, D> {
    pub(super) fn new(npy: Npy, shape: D) -> Self {
        Self { npy, sample_len: shape.size(), shape, element: PhantomData }
    }

    /// The same samples as vectors.
    pub fn flatten(self) -> NpySamples<T, Ix1> {
        NpySamples::new(self.npy, Ix1(self.sample_len))
    }

    /// The shape of a sample.
    pub fn shape(&self) -> &[usize] {
        self.shape.slice()
    }

    /// The bytes of a sample, as they are in the file.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of samples.
    #[inline]
    pub fn bytes(&self, index: usize) -> &[u8] {
        check_index(index, self.npy.shape()[0]);
        // The header was checked: the product of all extents fits, and this is a part of it.
        let size_bytes = self.sample_len * size_of::<T>();
        &self.npy.data()[index * size_bytes..(index + 1) * size_bytes]
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.npy.path()
    }

    #[inline]
    fn read(&self, index: usize, row: &mut [T]) -> Result<()> {
        self.npy
            .about
            .read(self.bytes(index), index * self.sample_len, row)
            .map_err(|error| error.with_index(index as u64))
    }
}

impl<D: Dimension> NpySamples<u8, D> {
    /// The samples as `f32` in `[0, 1]`: each byte divided by 255.
    pub fn unit(self) -> NpyFloats<D> {
        Floats::unit(self)
    }

    /// The samples as `f32`: `(byte - mean) / std`.
    ///
    /// Both are in units of the bytes, 0 to 255. Published values are mostly for the range from 0 to 1: multiply these by
    /// 255.
    ///
    /// # Errors
    ///
    /// If `std` is not more than zero, or one of the two is not finite: an error of kind
    /// [`Argument`](ErrorKind::Argument).
    pub fn standardize(self, mean: f32, std: f32) -> Result<NpyFloats<D>> {
        Floats::standardize(self, mean, std)
    }
}

impl<T, D> Sequence for NpySamples<T, D>
where
    T: NpyElement,
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    type Sample = Array<T, D>;

    fn len(&self) -> usize {
        self.npy.shape()[0]
    }
    fn get(&self, index: usize) -> Result<Array<T, D>> {
        check_index(index, self.len());
        let mut elements = vec![T::default(); self.sample_len];
        self.read(index, &mut elements)?;
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
        self.read(index, array_row::<T, D>(row))
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(self.sample_len * size_of::<T>())
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.path().to_owned())
    }
}

impl<D> ByteSamples for NpySamples<u8, D>
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    type Dim = D;

    #[inline]
    fn bytes(&self, index: usize) -> &[u8] {
        self.bytes(index)
    }
    fn dim(&self) -> &D {
        &self.shape
    }
    fn path(&self) -> &Path {
        self.path()
    }
}

impl<T, D: Clone> Clone for NpySamples<T, D> {
    fn clone(&self) -> Self {
        Self { npy: self.npy.clone(), shape: self.shape.clone(), sample_len: self.sample_len, element: PhantomData }
    }
}

impl<T, D> fmt::Debug for NpySamples<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NpySamples").field("npy", &self.npy).finish_non_exhaustive()
    }
}

/// The `u8` samples of an `.npy` file as `f32`; made by [`NpySamples::unit`] and [`NpySamples::standardize`].
pub type NpyFloats<D> = Floats<NpySamples<u8, D>>;

/// The numbers of an `.npy` file of one dimension; made by [`Npy::scalars`].
///
/// # Errors
///
/// As for [`NpySamples`].
pub struct NpyScalars<T> {
    npy: Npy,
    element: PhantomData<fn() -> T>,
}

impl<T: NpyElement> NpyScalars<T> {
    pub(super) fn new(npy: Npy) -> Self {
        Self { npy, element: PhantomData }
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.npy.path()
    }
}

// The layout and the writing in place are those of all plain numbers.
impl<T: NpyElement> Sequence for NpyScalars<T> {
    type Sample = T;

    fn len(&self) -> usize {
        self.npy.shape()[0]
    }
    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        check_index(index, self.len());
        let mut number = [T::default()];
        let bytes = &self.npy.data()[index * size_of::<T>()..(index + 1) * size_of::<T>()];
        self.npy.about.read(bytes, index, &mut number).map_err(|error| error.with_index(index as u64))?;
        Ok(number[0])
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(size_of::<T>())
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.path().to_owned())
    }
}

impl<T> Clone for NpyScalars<T> {
    fn clone(&self) -> Self {
        Self { npy: self.npy.clone(), element: PhantomData }
    }
}

impl<T> fmt::Debug for NpyScalars<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NpyScalars").field("npy", &self.npy).finish_non_exhaustive()
    }
}

/// The labels of an `.npy` file, below a number of classes; made by [`Npy::labels`].
///
/// # Errors
///
/// `get` fails where a label is out of range: an error of kind [`Format`](ErrorKind::Format) with its index.
#[derive(Debug, Clone)]
pub struct NpyLabels {
    npy: Npy,
    num_classes: u32,
}

impl NpyLabels {
    pub(super) fn new(npy: Npy, num_classes: u32) -> Result<Self> {
        match npy.element() {
            NpyType::Bool | NpyType::F16 | NpyType::F32 | NpyType::F64 => Err(not_of_type(&npy.about, "integers")),
            _ => Ok(Self { npy, num_classes }),
        }
    }

    /// The number of classes: labels are below it.
    pub fn num_classes(&self) -> u32 {
        self.num_classes
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.npy.path()
    }

    fn number<T: NpyElement + Into<i128>>(&self, index: usize) -> Result<i128> {
        let mut number = [T::default()];
        let bytes = &self.npy.data()[index * size_of::<T>()..(index + 1) * size_of::<T>()];
        self.npy.about.read(bytes, index, &mut number)?;
        Ok(number[0].into())
    }
}

impl Sequence for NpyLabels {
    type Sample = u32;

    fn len(&self) -> usize {
        self.npy.shape()[0]
    }
    fn get(&self, index: usize) -> Result<u32> {
        check_index(index, self.len());
        let label = match self.npy.element() {
            NpyType::U8 => self.number::<u8>(index),
            NpyType::U16 => self.number::<u16>(index),
            NpyType::U32 => self.number::<u32>(index),
            NpyType::U64 => self.number::<u64>(index),
            NpyType::I8 => self.number::<i8>(index),
            NpyType::I16 => self.number::<i16>(index),
            NpyType::I32 => self.number::<i32>(index),
            NpyType::I64 => self.number::<i64>(index),
            NpyType::Bool | NpyType::F16 | NpyType::F32 | NpyType::F64 => Err(not_of_type(&self.npy.about, "integers")),
        }?;
        u32::try_from(label).ok().filter(|&label| label < self.num_classes).ok_or_else(|| {
            let message =
                format!("label {label}, expected one below {} as there are that many classes", self.num_classes);
            Error::new(ErrorKind::Format, message).with_index(index as u64).with_file(self.path())
        })
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(size_of::<u32>())
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.path().to_owned())
    }
}
