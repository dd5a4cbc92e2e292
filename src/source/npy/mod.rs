//! NumPy's `.npy` files: one array of numbers.
//!
//! Source: [NumPy's description of the format](https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html),
//! versions 1.0, 2.0 and 3.0. A magic text, the version, the length of the header, the header (the literal of a Python
//! dictionary with the type, the order and the shape), then the elements.
//!
//! The header is read by code of our own: the type is known only when the file is opened, and in an archive or behind a
//! foreign header the elements may lie at any place, which readers that give out slices of numbers refuse.

mod element;
mod header;
mod samples;

use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array, ArrayRef, Dimension, ShapeBuilder};

pub use element::{NpyElement, NpyType};
use header::{Header, MAX_RANK};
pub use samples::{NpyFloats, NpyLabels, NpySamples, NpyScalars};

use super::extents::{dimension, expect_rank};
use super::mapped::Mapped;
use crate::error::{Error, ErrorKind, Result};
use crate::file::NewFile;

/// How an `.npy` file is opened.
#[derive(Debug, Clone, Default)]
pub struct NpyOptions {
    in_memory: bool,
}

impl NpyOptions {
    /// Whether the file is read into memory instead of mapped; see [`Mapped`] for when that is better. The default is
    /// `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens a file, as [`Npy::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Npy::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Npy> {
        Npy::whole(if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
    }

    /// Takes the bytes of a file, as [`Npy::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`Npy::from_bytes`].
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Npy> {
        Npy::whole(Mapped::from_bytes(bytes, name))
    }
}

/// An `.npy` file, or a member of an `.npz` archive: an array of one of twelve types of numbers.
///
/// The file is mapped, and only its header is read when it is opened. Cheap to clone: clones share the bytes.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::Sequence;
/// use procession::source::Npy;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("x.npy");
/// Npy::save(&path, &array![[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]])?; // in Python: x = numpy.load("x.npy")
///
/// let npy = Npy::open(&path)?;
/// assert_eq!(npy.shape(), [3, 2]);
/// let rows = npy.samples::<f32, ndarray::Ix1>()?;
/// assert_eq!((rows.len(), rows.get(2)?), (3, array![5.0, 6.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Npy {
    bytes: Arc<Mapped>,
    about: About,
    // Invariant: where in `bytes` the elements of the header's shape are, all of them and nothing else.
    data: Range<usize>,
}

/// What is known of a file without its elements. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct About {
    name: Arc<Path>,
    header: Arc<Header>,
}

impl About {
    /// Reads the header from the beginning of a file of `size_bytes`. `Err` with how much is needed if that is more.
    #[cfg(feature = "object-store")]
    pub(super) fn of_start(start: &[u8], size_bytes: u64, name: &Path) -> Result<Result<Self, u64>> {
        let whole = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let parsed = match Header::needs(start) {
            Some(needed) if start.len() < whole.min(needed) => return Ok(Err(needed.min(whole) as u64)),
            _ => Header::parse(start),
        };
        let header = parsed.and_then(|header| {
            header.check_data(whole.saturating_sub(header.len))?;
            Ok(header)
        });
        let header = Arc::new(header.map_err(|error| error.with_file(name))?);
        Ok(Ok(Self { name: name.into(), header }))
    }

    /// Where the elements begin.
    #[cfg(feature = "object-store")]
    pub(super) fn data_start(&self) -> u64 {
        self.header.len as u64
    }

    /// The type of the elements, the shape, and whether they are big-endian and in Fortran order.
    #[cfg(feature = "object-store")]
    pub(super) fn header(&self) -> (NpyType, &[usize], bool, bool) {
        let Header { element, shape, big_endian, fortran, .. } = &*self.header;
        (*element, shape, *big_endian, *fortran)
    }

    pub(super) fn path(&self) -> &Path {
        &self.name
    }

    pub(super) fn expect(&self, element: NpyType, rank: Option<usize>) -> Result<()> {
        if self.header.element != element {
            return Err(not_of_type(self, element));
        }
        expect_rank(&self.header.shape, rank).map_err(|error| error.with_file(self.path()))
    }

    pub(super) fn expect_samples(&self) -> Result<()> {
        let error = if self.header.shape.is_empty() {
            Error::new(ErrorKind::Shape, "a single number, expected an array with a first axis of samples")
        } else if self.header.fortran {
            let message = format!(
                "array of shape {:?} in Fortran order, expected C order, as numpy.ascontiguousarray gives it",
                self.header.shape
            );
            Error::new(ErrorKind::Format, message)
        } else {
            return Ok(());
        };
        Err(error.with_file(self.path()))
    }

    /// Reads elements, of which the first is number `start` of the file.
    #[inline]
    pub(super) fn read<T: NpyElement>(&self, bytes: &[u8], start: usize, to: &mut [T]) -> Result<()> {
        T::read(bytes, self.header.big_endian, to).map_err(|at| {
            let message =
                format!("element {} has the byte {}, expected 0 or 1 of a {}", start + at, bytes[at], T::TYPE);
            Error::new(ErrorKind::Format, message).with_file(self.path())
        })
    }
}

impl Npy {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be read; [`Format`](ErrorKind::Format) if it is no
    /// `.npy` file, its elements are not numbers (complex numbers, strings, times, records, Python objects), or bytes are
    /// missing or too many, as in a file that several arrays were saved to; [`Limit`](ErrorKind::Limit) if it claims more
    /// than 2^24 samples without elements.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Takes the bytes of a file and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes(bytes, name)
    }

    /// Options to open a file with.
    pub fn options() -> NpyOptions {
        NpyOptions::default()
    }

    fn whole(bytes: Mapped) -> Result<Self> {
        let (range, name) = (0..bytes.len(), Arc::from(bytes.path()));
        Self::parse(Arc::new(bytes), range, name)
    }

    /// Takes a range of a file's bytes, under a name. Panics if the file does not have it.
    pub(super) fn parse(bytes: Arc<Mapped>, range: Range<usize>, name: Arc<Path>) -> Result<Self> {
        let file = &bytes[range.clone()];
        let header = Header::parse(file).and_then(|header| {
            header.check_data(file.len() - header.len)?;
            Ok(header)
        });
        let header = header.map_err(|error| error.with_file(&*name))?;
        let data = range.start + header.len..range.end;
        Ok(Self { bytes, about: About { name, header: Arc::new(header) }, data })
    }

    /// The type of the elements.
    pub fn element(&self) -> NpyType {
        self.about.header.element
    }

    /// The extents of the dimensions; none for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.about.header.shape
    }

    /// Whether the bytes of an element come in big-endian order; of no meaning where an element is one byte.
    pub fn is_big_endian(&self) -> bool {
        self.about.header.big_endian
    }

    /// Whether the elements lie in Fortran order: the first index runs fastest. `false` if C order is the same.
    pub fn is_fortran(&self) -> bool {
        self.about.header.fortran
    }

    /// The elements as they are in the file.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.data.clone()]
    }

    /// The file, or the name that was given to bytes from memory; for a member of an archive the archive, a slash and
    /// the member.
    pub fn path(&self) -> &Path {
        self.about.path()
    }

    /// Copies all elements to an array, in C or Fortran order as they are in the file. An array is itself a sequence,
    /// over its first axis.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Format`](ErrorKind::Format) if the file holds another type of elements, or bytes that are
    /// neither 0 nor 1 for `bool`; [`Shape`](ErrorKind::Shape) if it has another number of dimensions.
    pub fn to_array<T: NpyElement, D: Dimension>(&self) -> Result<Array<T, D>> {
        self.about.expect(T::TYPE, D::NDIM)?;
        let mut elements = vec![T::default(); self.data.len() / size_of::<T>()];
        self.about.read(self.data(), 0, &mut elements)?;
        let shape = dimension::<D>(self.shape()).set_f(self.is_fortran());
        Ok(Array::from_shape_vec(shape, elements).expect("the header was checked"))
    }

    /// What lies along the first axis as samples of dimension `D`, one less than the file has.
    ///
    /// For images of `u8` as floats go on with [`unit`](NpySamples::unit) or [`standardize`](NpySamples::standardize).
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Format`](ErrorKind::Format) if its elements are not of type `T`, or lie in Fortran order,
    /// where no sample lies in one piece ([`to_array`](Self::to_array) reads them); [`Shape`](ErrorKind::Shape) if it has
    /// another number of dimensions, or none at all.
    pub fn samples<T: NpyElement, D: Dimension>(&self) -> Result<NpySamples<T, D>> {
        self.about.expect(T::TYPE, D::NDIM.map(|rank| rank + 1))?;
        self.about.expect_samples()?;
        Ok(NpySamples::new(self.clone(), dimension(&self.shape()[1..])))
    }

    /// The numbers of a file of one dimension: plain numbers, not arrays of one.
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples).
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::Sequence;
    /// use procession::source::Npy;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("y.npy");
    /// Npy::save(&path, &ndarray::array![3_i64, 1, 2])?;
    ///
    /// let npy = Npy::open(&path)?;
    /// assert_eq!(npy.scalars::<i64>()?.get(0)?, 3_i64);
    /// assert_eq!(npy.labels(10)?.get(0)?, 3_u32);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scalars<T: NpyElement>(&self) -> Result<NpyScalars<T>> {
        self.about.expect(T::TYPE, Some(1))?;
        Ok(NpyScalars::new(self.clone()))
    }

    /// The labels of a file of integers of any type with one dimension: `u32`, each below `num_classes`, which is checked
    /// when it is loaded.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Format`](ErrorKind::Format) if its elements are not integers, [`Shape`](ErrorKind::Shape)
    /// if it has another number of dimensions.
    pub fn labels(&self, num_classes: u32) -> Result<NpyLabels> {
        expect_rank(self.shape(), Some(1)).map_err(|error| error.with_file(self.path()))?;
        NpyLabels::new(self.clone(), num_classes)
    }

    /// Saves an array to a file, in the place of one that is there: in C order, little-endian, with the bytes that NumPy
    /// writes. Until it is whole it has another name, with `.tmp` at its end, so that a file that is mapped can be
    /// replaced.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be written, [`Argument`](ErrorKind::Argument) if the
    /// array has more than the 64 dimensions that NumPy's arrays have.
    pub fn save<T: NpyElement, D: Dimension>(path: impl AsRef<Path>, array: &ArrayRef<T, D>) -> Result<()> {
        let path = path.as_ref();
        check_rank(array).map_err(|error| error.with_file(path))?;
        let mut file = BufWriter::new(NewFile::create(path)?);
        let written = write(&mut file, array).and_then(|()| Ok(file.into_inner()?));
        written.map_err(|cause| Error::from(cause).with_file(path))?.finish()
    }
}

fn not_of_type(about: &About, expected: impl std::fmt::Display) -> Error {
    let message = format!("elements of type {}, expected {expected}", about.header.element);
    Error::new(ErrorKind::Format, message).with_file(about.path())
}

/// Checks that NumPy can have an array of as many dimensions.
pub(super) fn check_rank<T, D: Dimension>(array: &ArrayRef<T, D>) -> Result<()> {
    match array.ndim() {
        rank if rank > MAX_RANK => {
            Err(Error::argument(format!("array of {rank} dimensions, expected at most {MAX_RANK} as NumPy has")))
        }
        _ => Ok(()),
    }
}

/// Writes the bytes of a file.
pub(super) fn write<T: NpyElement, D: Dimension>(to: &mut impl Write, array: &ArrayRef<T, D>) -> std::io::Result<()> {
    const BUFFER_BYTES: usize = 1 << 16;

    header::write(to, T::TYPE, array.shape())?;
    let mut bytes = Vec::with_capacity(BUFFER_BYTES + size_of::<T>());
    for element in array {
        element.push_little_endian(&mut bytes);
        if bytes.len() >= BUFFER_BYTES {
            to.write_all(&bytes)?;
            bytes.clear();
        }
    }
    to.write_all(&bytes)
}

#[cfg(test)]
mod tests;
