//! IDX files: the format of MNIST and its kin, plain or compressed with gzip.
//!
//! Source: the description that Yann LeCun, Corinna Cortes and Christopher Burges gave with MNIST
//! (<http://yann.lecun.com/exdb/mnist/>). Two zero bytes, the type of the elements, the number of dimensions, their
//! extents as big-endian `u32`, then the elements in C order, big-endian.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array, Dimension, Ix1, Ix2, RemoveAxis};

use super::extents::{difference, dimension, expect_countable, expect_rank, size_bytes};
use super::mapped::Mapped;
use super::scale::{ByteSamples, Floats};
use super::{array_layout, array_row};
use crate::batch::stack::{Element, Row, Stack};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

/// The type of the elements in an IDX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdxType {
    /// Unsigned bytes, code `0x08`.
    U8 = 0x08,
    /// Signed bytes, code `0x09`.
    I8 = 0x09,
    /// 16-bit integers, code `0x0b`.
    I16 = 0x0b,
    /// 32-bit integers, code `0x0c`.
    I32 = 0x0c,
    /// 32-bit floats, code `0x0d`.
    F32 = 0x0d,
    /// 64-bit floats, code `0x0e`.
    F64 = 0x0e,
}

impl IdxType {
    fn from_code(code: u8) -> Option<Self> {
        [Self::U8, Self::I8, Self::I16, Self::I32, Self::F32, Self::F64].into_iter().find(|kind| *kind as u8 == code)
    }

    /// The size of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

impl fmt::Display for IdxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// A number that IDX files may hold: `u8`, `i8`, `i16`, `i32`, `f32` or `f64`.
pub trait IdxElement: Element + private::Sealed {
    /// Its type in the file.
    const TYPE: IdxType;

    #[doc(hidden)]
    fn from_big_endian(bytes: &[u8]) -> Self;
}

mod private {
    pub trait Sealed {}
}

macro_rules! element {
    ($($number:ty: $kind:ident),+) => {$(
        impl private::Sealed for $number {}
        impl IdxElement for $number {
            const TYPE: IdxType = IdxType::$kind;

            fn from_big_endian(bytes: &[u8]) -> Self {
                Self::from_be_bytes(bytes.try_into().expect("bytes come in the size of the type"))
            }
        }
    )+};
}
element!(u8: U8, i8: I8, i16: I16, i32: I32, f32: F32, f64: F64);

/// How an IDX file is opened.
#[derive(Debug, Clone)]
pub struct IdxOptions {
    limit_bytes: u64,
    in_memory: bool,
}

impl Default for IdxOptions {
    fn default() -> Self {
        Self { limit_bytes: 16 << 30, in_memory: false }
    }
}

impl IdxOptions {
    /// The most that a compressed file may hold, decompressed. The default is 16 GiB. A plain file is mapped and takes no
    /// memory of its own, so the limit has no effect on it.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Whether a plain file is read into memory instead of mapped; see [`Mapped`] for when that is better. The default
    /// is `false`. A compressed file is in memory in any case, decompressed.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens a file, as [`Idx::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Idx::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Idx> {
        self.parse(if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
    }

    /// Takes the bytes of a file, as [`Idx::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`Idx::from_bytes`].
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Idx> {
        self.parse(Mapped::from_bytes(bytes, name))
    }

    fn parse(&self, bytes: Mapped) -> Result<Idx> {
        let path = bytes.path().to_owned();
        let plain = if bytes.starts_with(&[0x1f, 0x8b]) {
            decompress(&bytes, self.limit_bytes).map(|plain| Mapped::from_bytes(plain, &path))
        } else {
            Ok(bytes)
        };
        plain.and_then(Idx::parse).map_err(|error| error.with_file(path))
    }
}

/// An IDX file: an array of one of six types of numbers.
///
/// A plain file is mapped, a compressed one (feature `gzip`) decompressed into memory. Cheap to clone: clones share the
/// bytes.
///
/// # Examples
///
/// ```
/// use procession::Sequence;
/// use procession::source::Idx;
///
/// // Two images of 2 x 3.
/// let bytes = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03\x00\x33\x66\x99\xcc\xff\x00\x00\x00\x00\x00\x00";
/// let idx = Idx::from_bytes(bytes, "images")?;
/// assert_eq!(idx.shape(), [2, 2, 3]);
///
/// let images = idx.images()?;
/// assert_eq!(images.get(0)?, ndarray::array![[0, 51, 102], [153, 204, 255]]);
/// let floats = images.flatten().unit();
/// assert_eq!(floats.get(0)?, ndarray::array![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Idx {
    // Invariant: `bytes` holds the header and, from `data_start` to its end, the elements of `shape`.
    bytes: Arc<Mapped>,
    element: IdxType,
    shape: Vec<usize>,
    data_start: usize,
}

impl Idx {
    /// Opens a file, plain or compressed.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be read; [`Format`](ErrorKind::Format) if it is no IDX
    /// file, has bytes missing or too many, its gzip stream is damaged, or it is compressed and the feature `gzip` is
    /// off; [`Limit`](ErrorKind::Limit) if it holds more than the limit, decompressed, or claims more than 2^24 samples
    /// without elements.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Takes the bytes of a file, plain or compressed, and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes(bytes, name)
    }

    /// Options to open a file with.
    pub fn options() -> IdxOptions {
        IdxOptions::default()
    }

    fn parse(bytes: Mapped) -> Result<Self> {
        let header = Header::parse(&bytes)?;
        header.check_data(bytes.len() - header.len)?;
        Ok(Self { bytes: Arc::new(bytes), element: header.element, shape: header.shape, data_start: header.len })
    }

    /// The type of the elements.
    pub fn element(&self) -> IdxType {
        self.element
    }

    /// The extents of the dimensions; the first is the number of samples. There is at least one.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements as they are in the file: in C order, big-endian.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.data_start..]
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// Copies all elements to an array. An array is itself a sequence, over its first axis.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Format`](ErrorKind::Format) if the file holds another type of elements,
    /// [`Shape`](ErrorKind::Shape) if it has another number of dimensions.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::source::Idx;
    ///
    /// let idx = Idx::from_bytes(b"\0\0\x0b\x01\0\0\0\x02\x01\x00\xff\xfe", "numbers")?;
    /// assert_eq!(idx.to_array::<i16, ndarray::Ix1>()?, ndarray::array![256, -2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn to_array<T: IdxElement, D: Dimension>(&self) -> Result<Array<T, D>> {
        self.expect(T::TYPE, D::NDIM)?;
        let elements = self.data().chunks_exact(size_of::<T>()).map(T::from_big_endian).collect();
        Ok(Array::from_shape_vec(dimension::<D>(&self.shape), elements).expect("the header was checked"))
    }

    /// The file's bytes as samples of dimension `D`, one less than the file has.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Format`](ErrorKind::Format) if its elements are not `u8`, [`Shape`](ErrorKind::Shape) if
    /// it has another number of dimensions.
    pub fn samples<D: Dimension>(&self) -> Result<IdxSamples<D>> {
        self.expect(IdxType::U8, D::NDIM.map(|rank| rank + 1))?;
        let shape = dimension::<D>(&self.shape[1..]);
        let sample_len = shape.size();
        Ok(IdxSamples { idx: self.clone(), sample_len, shape })
    }

    /// The file's images: `u8`, `(images, height, width)`.
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples).
    pub fn images(&self) -> Result<IdxImages> {
        self.samples()
    }

    /// The file's labels, of a file of `u8` with one dimension: `u32`, each below `num_classes`. Reads all of them once, to check them.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Format`](ErrorKind::Format) if its elements are not `u8` or a label is out of range (the
    /// first one, with its index), [`Shape`](ErrorKind::Shape) if it has another number of dimensions.
    pub fn labels(&self, num_classes: u32) -> Result<IdxLabels> {
        self.expect(IdxType::U8, Some(1))?;
        let labels = IdxLabels { idx: self.clone(), num_classes };
        (0..labels.len()).try_for_each(|index| labels.label(index).map(drop))?;
        Ok(labels)
    }

    fn expect(&self, element: IdxType, rank: Option<usize>) -> Result<()> {
        if self.element != element {
            let message = format!("elements of type {}, expected {element}", self.element);
            return Err(Error::new(ErrorKind::Format, message).with_file(self.path()));
        }
        expect_rank(&self.shape, rank).map_err(|error| error.with_file(self.path()))
    }
}

/// What stands before the elements.
struct Header {
    len: usize,
    element: IdxType,
    shape: Vec<usize>,
    data_len: usize,
}

impl Header {
    /// The length of the header that starts with these bytes: 4 until its rank is known.
    fn len(start: &[u8]) -> usize {
        4 + 4 * start.get(3).map_or(0, |&rank| usize::from(rank))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let format = |message: String| Err(Error::new(ErrorKind::Format, message));
        let present = bytes.len();
        let &[zero, also_zero, code, rank, ..] = bytes else {
            return format(format!("IDX header of {present} bytes, expected at least 4"));
        };
        if (zero, also_zero) != (0, 0) {
            return format(format!("first bytes {zero:#04x} {also_zero:#04x}, expected 0x00 0x00 of an IDX file"));
        }
        let Some(element) = IdxType::from_code(code) else {
            return format(format!("IDX element type {code:#04x}, expected 0x08, 0x09, 0x0b, 0x0c, 0x0d or 0x0e"));
        };
        if rank == 0 {
            return format("IDX array of 0 dimensions, expected at least 1".to_owned());
        }
        let len = Self::len(bytes);
        let Some(extents) = bytes.get(4..len) else {
            return format(format!("IDX header of {present} bytes, expected {len} for {rank} dimensions"));
        };
        let shape: Option<Vec<usize>> = extents.chunks_exact(4).map(extent).collect();
        let shape = shape.unwrap_or_default();
        let Some(data_len) = size_bytes(&shape, element.size_bytes()).filter(|_| !shape.is_empty()) else {
            return format(format!("IDX shape {shape:?} of {element}, larger than the address space"));
        };
        expect_countable(&shape, data_len)?;
        Ok(Self { len, element, shape, data_len })
    }

    fn check_data(&self, present: usize) -> Result<()> {
        let (shape, element, expected) = (&self.shape, self.element, self.data_len);
        let Some(difference) = difference(present, expected) else { return Ok(()) };
        let message =
            format!("{present} bytes of IDX data, expected {expected} for {shape:?} of {element}: {difference}");
        Err(Error::new(ErrorKind::Format, message))
    }
}

fn extent(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(not(feature = "gzip"))]
fn decompress(_compressed: &[u8], _limit_bytes: u64) -> Result<Vec<u8>> {
    let message = "compressed with gzip, which needs procession's feature `gzip`";
    Err(Error::new(ErrorKind::Format, message))
}

/// Decompresses as many bytes as the header promises, if that is within the limit, and checks that they are all.
#[cfg(feature = "gzip")]
fn decompress(compressed: &[u8], limit_bytes: u64) -> Result<Vec<u8>> {
    /// What errors call the stream.
    const GZIP: &str = "gzip stream";

    use super::inflate::{damaged, max_inflated, read_up_to};
    use std::io::Read;

    let mut stream = flate2::read::MultiGzDecoder::new(compressed);
    let mut plain = Vec::new();
    read_up_to(&mut stream, &mut plain, Header::len(&[]), GZIP)?;
    let header_len = Header::len(&plain);
    read_up_to(&mut stream, &mut plain, header_len, GZIP)?;
    let header = Header::parse(&plain)?;
    let plain_len = header.len.saturating_add(header.data_len);
    if plain_len as u64 > limit_bytes {
        let message = format!("{plain_len} bytes decompressed, the limit is {limit_bytes}");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    if plain_len > max_inflated(compressed.len()) {
        let message = format!(
            "IDX data of {} bytes for {:?} of {}, more than {} bytes of gzip can hold",
            header.data_len,
            header.shape,
            header.element,
            compressed.len()
        );
        return Err(Error::new(ErrorKind::Format, message));
    }
    read_up_to(&mut stream, &mut plain, plain_len, GZIP)?;
    header.check_data(plain.len() - header.len)?;
    // Only at the end of the stream its checksum is compared.
    match stream.read(&mut [0]) {
        Ok(0) => Ok(plain),
        Ok(_) => {
            let message = format!(
                "more than {} bytes of IDX data, expected {0} for {:?} of {}",
                header.data_len, header.shape, header.element
            );
            Err(Error::new(ErrorKind::Format, message))
        }
        Err(cause) => Err(damaged(cause, plain_len, plain_len, GZIP)),
    }
}

/// The images of an IDX file: `u8`, `(height, width)` each.
pub type IdxImages = IdxSamples<Ix2>;

/// The `u8` samples of an IDX file, arrays of dimension `D`; made by [`Idx::samples`] and [`Idx::images`].
///
/// A sample is copied from the file straight to its row of the batch.
#[derive(Debug, Clone)]
pub struct IdxSamples<D> {
    idx: Idx,
    shape: D,
    // Invariant: the product of `shape`, whose extents are those of the file.
    sample_len: usize,
}

impl<D: Dimension> IdxSamples<D> {
    /// The same samples as vectors.
    pub fn flatten(self) -> IdxSamples<Ix1> {
        IdxSamples { shape: Ix1(self.sample_len), sample_len: self.sample_len, idx: self.idx }
    }

    /// The samples as `f32` in `[0, 1]`: each byte divided by 255.
    pub fn unit(self) -> IdxFloats<D> {
        Floats::unit(self)
    }

    /// The samples as `f32`: `(byte - mean) / std`.
    ///
    /// Both are in units of the bytes, 0 to 255. Published values are mostly for the range from 0 to 1: multiply these by
    /// 255, as in `standardize(0.1307 * 255.0, 0.3081 * 255.0)` for MNIST.
    ///
    /// # Errors
    ///
    /// If `std` is not more than zero, or one of the two is not finite: an error of kind
    /// [`Argument`](ErrorKind::Argument).
    pub fn standardize(self, mean: f32, std: f32) -> Result<IdxFloats<D>> {
        Floats::standardize(self, mean, std)
    }

    /// The shape of a sample.
    pub fn shape(&self) -> &[usize] {
        self.shape.slice()
    }

    /// The bytes of a sample, in C order, as they are in the file.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of samples.
    #[inline]
    pub fn bytes(&self, index: usize) -> &[u8] {
        check_index(index, self.idx.shape[0]);
        // The header was checked: the product of all extents fits, and this is a part of it.
        let start = index * self.sample_len;
        &self.idx.data()[start..start + self.sample_len]
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.idx.path()
    }
}

impl<D> Sequence for IdxSamples<D>
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    type Sample = Array<u8, D>;

    fn len(&self) -> usize {
        self.idx.shape[0]
    }
    fn get(&self, index: usize) -> Result<Array<u8, D>> {
        let bytes = self.bytes(index).to_vec();
        Ok(Array::from_shape_vec(self.shape.clone(), bytes).expect("as many bytes as the shape says"))
    }
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Some(array_layout::<u8, D>(self.shape.clone()))
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        array_row::<u8, D>(row).copy_from_slice(self.bytes(index));
        Ok(())
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(self.sample_len)
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.path().to_owned())
    }
}

impl<D> ByteSamples for IdxSamples<D>
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

/// The `u8` samples of an IDX file as `f32`; made by [`IdxSamples::unit`] and [`IdxSamples::standardize`].
pub type IdxFloats<D> = Floats<IdxSamples<D>>;

/// The labels of an IDX file, below a number of classes; made by [`Idx::labels`].
#[derive(Debug, Clone)]
pub struct IdxLabels {
    idx: Idx,
    num_classes: u32,
}

impl IdxLabels {
    /// The number of classes: labels are below it.
    pub fn num_classes(&self) -> u32 {
        self.num_classes
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.idx.path()
    }

    fn label(&self, index: usize) -> Result<u32> {
        let label = u32::from(self.idx.data()[index]);
        if label >= self.num_classes {
            let message =
                format!("label {label}, expected one below {} as there are that many classes", self.num_classes);
            return Err(Error::new(ErrorKind::Format, message).with_index(index as u64).with_file(self.path()));
        }
        Ok(label)
    }
}

impl Sequence for IdxLabels {
    type Sample = u32;

    fn len(&self) -> usize {
        self.idx.shape[0]
    }
    #[inline]
    fn get(&self, index: usize) -> Result<u32> {
        check_index(index, self.len());
        self.label(index)
    }
    fn layout(&self) -> Option<()> {
        Some(())
    }
    #[inline]
    fn get_into(&self, index: usize, row: &mut u32) -> Result<()> {
        *row = self.get(index)?;
        Ok(())
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(size_of::<u32>())
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.path().to_owned())
    }
}

/// An IDX file of `u8`, for tests.
#[cfg(test)]
pub(super) fn idx_bytes(shape: &[u32], data: &[u8]) -> Vec<u8> {
    let extents = shape.iter().flat_map(|extent| extent.to_be_bytes());
    [0, 0, 8, shape.len() as u8].into_iter().chain(extents).chain(data.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_rows, samples};
    use ndarray::{Ix3, IxDyn, array};

    fn open(bytes: impl Into<Vec<u8>>) -> Result<Idx> {
        Idx::from_bytes(bytes.into(), "the-file")
    }

    /// The message of an error, which must name the file.
    fn message(result: Result<Idx>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.file(), Some(Path::new("the-file")), "{error}");
        error.message().to_owned()
    }

    #[test]
    fn samples_of_all_kinds_keep_the_contract() {
        let data: Vec<u8> = (0..24).map(|at| at * 10).collect();
        let idx = open(idx_bytes(&[4, 2, 3], &data)).unwrap();
        check_rows(&idx.images().unwrap());
        check_rows(&idx.images().unwrap().flatten());
        check_rows(&idx.samples::<IxDyn>().unwrap());
        check_rows(&idx.images().unwrap().unit());
        check_rows(&idx.images().unwrap().standardize(33.3, 78.6).unwrap());
        check_rows(&open(idx_bytes(&[3], &[2, 0, 1])).unwrap().labels(3).unwrap());
        check_rows(&open(idx_bytes(&[3, 0, 2], &[])).unwrap().images().unwrap().unit());
        check_rows(&open(idx_bytes(&[0, 28, 28], &[])).unwrap().images().unwrap().unit());
        check_rows(&open(idx_bytes(&[0], &[])).unwrap().labels(10).unwrap());
    }

    #[test]
    fn samples_are_those_of_the_file() {
        let idx = open(idx_bytes(&[2, 1, 3], &[0, 51, 255, 1, 2, 3])).unwrap();
        let images = idx.images().unwrap();
        assert_eq!(samples(&images), [array![[0, 51, 255]], array![[1, 2, 3]]]);
        assert_eq!((images.shape(), images.bytes(1)), (&[1, 3][..], &[1, 2, 3][..]));
        assert_eq!(images.file(0), Some("the-file".into()));
        assert_eq!(samples(&images.clone().flatten().unit())[0], array![0.0, 0.2, 1.0]);
        assert_eq!(samples(&images.standardize(1.0, 2.0).unwrap())[1], array![[0.0, 0.5, 1.0]]);
        assert_eq!(samples(&open(idx_bytes(&[3], &[2, 0, 1])).unwrap().labels(3).unwrap()), [2_u32, 0, 1]);
        for (mean, std) in [(0.0, 0.0), (0.0, -1.0), (f32::NAN, 1.0), (0.0, f32::INFINITY)] {
            assert!(idx.images().unwrap().standardize(mean, std).is_err());
        }
    }

    #[test]
    fn every_type_of_elements_is_read() {
        fn read<T: IdxElement>(data: &[u8]) -> Vec<T> {
            let len = (data.len() / size_of::<T>()) as u8;
            let bytes = [&[0, 0, T::TYPE as u8, 1, 0, 0, 0, len], data].concat();
            open(bytes).unwrap().to_array::<T, Ix1>().unwrap().to_vec()
        }
        assert_eq!(read::<u8>(&[1, 255]), [1, 255]);
        assert_eq!(read::<i8>(&[1, 255]), [1, -1]);
        assert_eq!(read::<i16>(&[1, 2, 255, 254]), [258, -2]);
        assert_eq!(read::<i32>(&[1, 2, 3, 4]), [0x0102_0304]);
        assert_eq!(read::<f32>(&1.5_f32.to_be_bytes()), [1.5]);
        assert_eq!(read::<f64>(&[1.5_f64.to_be_bytes(), (-2.0_f64).to_be_bytes()].concat()), [1.5, -2.0]);
    }

    #[test]
    fn another_type_or_shape_is_refused() {
        let idx = open(idx_bytes(&[2, 3], &[0; 6])).unwrap();
        assert_eq!(idx.to_array::<u8, Ix2>().unwrap().dim(), (2, 3));
        assert_eq!(idx.to_array::<u8, IxDyn>().unwrap().shape(), [2, 3]);
        let error = idx.to_array::<f32, Ix2>().unwrap_err();
        assert_eq!(error.to_string(), "elements of type u8, expected f32 (file the-file)");
        let error = idx.to_array::<u8, Ix3>().unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 3] of 2 dimensions, expected 3 (file the-file)");
        assert_eq!(idx.images().unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(idx.labels(10).unwrap_err().kind(), ErrorKind::Shape);
        let floats = open([0, 0, 0x0d, 1, 0, 0, 0, 0]).unwrap();
        assert_eq!(floats.labels(10).unwrap_err().message(), "elements of type f32, expected u8");
    }

    #[test]
    fn bad_headers_are_refused() {
        let huge = idx_bytes(&[u32::MAX; 3], &[]);
        let hidden = idx_bytes(&[u32::MAX, u32::MAX, u32::MAX, 0], &[]);
        for (bytes, expected) in [
            (vec![], "IDX header of 0 bytes, expected at least 4"),
            (vec![1, 0, 8, 1], "first bytes 0x01 0x00, expected 0x00 0x00 of an IDX file"),
            (vec![0, 3, 8, 1], "first bytes 0x00 0x03, expected 0x00 0x00 of an IDX file"),
            (vec![0, 0, 10, 1], "IDX element type 0x0a, expected 0x08, 0x09, 0x0b, 0x0c, 0x0d or 0x0e"),
            (vec![0, 0, 8, 0], "IDX array of 0 dimensions, expected at least 1"),
            (vec![0, 0, 8, 255], "IDX header of 4 bytes, expected 1024 for 255 dimensions"),
            (huge, "IDX shape [4294967295, 4294967295, 4294967295] of u8, larger than the address space"),
            (hidden, "IDX shape [4294967295, 4294967295, 4294967295, 0] of u8, larger than the address space"),
            (
                idx_bytes(&[60_000, 28, 28], &[0; 10]),
                "10 bytes of IDX data, expected 47040000 for [60000, 28, 28] of u8: 47039990 missing",
            ),
            (idx_bytes(&[2], &[0; 5]), "5 bytes of IDX data, expected 2 for [2] of u8: 3 too many"),
            (idx_bytes(&[0], &[0]), "1 bytes of IDX data, expected 0 for [0] of u8: 1 too many"),
        ] {
            assert_eq!(message(open(bytes)), expected);
        }
    }

    #[test]
    fn samples_without_elements_are_not_more_than_can_be_counted() {
        assert_eq!(open(idx_bytes(&[1 << 24, 0], b"")).unwrap().samples::<Ix1>().unwrap().len(), 1 << 24);
        for shape in [&[(1 << 24) + 1, 0][..], &[u32::MAX, 7, 0], &[u32::MAX, 0, 7]] {
            let error = open(idx_bytes(shape, b"")).unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Limit, Some(Path::new("the-file"))));
            assert!(error.message().ends_with(" samples without elements, the limit is 16777216"), "{error}");
        }
    }

    #[test]
    fn every_cut_and_every_surplus_is_refused() {
        let whole = idx_bytes(&[3, 2, 2], &[7; 12]);
        open(whole.clone()).unwrap();
        for len in 0..whole.len() {
            assert_eq!(open(&whole[..len]).unwrap_err().kind(), ErrorKind::Format, "cut at {len}");
        }
        for extra in [1, 2, 100] {
            assert!(message(open([whole.clone(), vec![0; extra]].concat())).ends_with(&format!("{extra} too many")));
        }
    }

    #[test]
    fn a_label_out_of_range_is_refused_with_its_place() {
        let error = open(idx_bytes(&[4], &[0, 9, 10, 200])).unwrap().labels(10).unwrap_err();
        let expected = "label 10, expected one below 10 as there are that many classes (index 2, file the-file)";
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Format));
        open(idx_bytes(&[2], &[0, 255])).unwrap().labels(256).unwrap();
        assert!(open(idx_bytes(&[1], &[0])).unwrap().labels(0).is_err());
    }

    #[test]
    fn a_file_is_mapped_or_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels");
        std::fs::write(&path, idx_bytes(&[2], &[3, 4])).unwrap();
        for idx in [Idx::open(&path).unwrap(), Idx::options().in_memory(true).open(&path).unwrap()] {
            assert_eq!((samples(&idx.labels(5).unwrap()), idx.path()), (vec![3, 4], &*path));
        }
        assert_eq!(Idx::open(dir.path().join("missing")).unwrap_err().kind(), ErrorKind::Io);
    }

    #[cfg(not(feature = "gzip"))]
    #[test]
    fn without_the_feature_a_compressed_file_says_which_one_it_needs() {
        assert!(message(open([0x1f, 0x8b, 8, 0])).contains("feature `gzip`"));
    }

    #[cfg(feature = "gzip")]
    mod gzip {
        use super::*;
        use std::io::Write;

        fn compress(plain: &[u8]) -> Vec<u8> {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }

        /// Bytes that hardly compress.
        fn noise(len: usize) -> Vec<u8> {
            (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
        }

        #[test]
        fn a_compressed_file_is_the_same_as_a_plain_one() {
            let plain = idx_bytes(&[300, 28, 28], &noise(300 * 784));
            let idx = open(compress(&plain)).unwrap();
            assert_eq!((idx.shape(), idx.data()), (&[300, 28, 28][..], &plain[16..]));
            // A gzip file may have several members.
            let (head, tail) = plain.split_at(1000);
            assert_eq!(open([compress(head), compress(tail)].concat()).unwrap().data(), &plain[16..]);
            open(compress(&idx_bytes(&[0], &[]))).unwrap();
        }

        #[test]
        fn every_cut_is_refused() {
            let whole = compress(&idx_bytes(&[3, 10, 10], &noise(300)));
            open(whole.clone()).unwrap();
            for len in 2..whole.len() {
                let error = open(&whole[..len]).unwrap_err();
                assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(Path::new("the-file"))), "{len}");
            }
            assert!(message(open(&whole[..whole.len() / 2])).starts_with("gzip stream is cut off: "));
        }

        #[test]
        fn a_damaged_checksum_or_length_is_refused() {
            let whole = compress(&idx_bytes(&[3, 10, 10], &noise(300)));
            for at in whole.len() - 8..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 1;
                let expected = "gzip stream is damaged: 316 bytes decompressed, expected 316 and a checksum";
                assert_eq!(message(open(damaged)), expected, "byte {at}");
            }
            let error = message(open([whole, b"surplus".to_vec()].concat()));
            assert!(error.starts_with("gzip stream is "), "{error}");
        }

        #[test]
        fn what_does_not_match_the_header_is_refused() {
            let expected = "5 bytes of IDX data, expected 9 for [9] of u8: 4 missing";
            assert_eq!(message(open(compress(&idx_bytes(&[9], &[0; 5])))), expected);
            let expected = "more than 9 bytes of IDX data, expected 9 for [9] of u8";
            assert_eq!(message(open(compress(&idx_bytes(&[9], &[0; 10])))), expected);
            assert_eq!(message(open(compress(&[0, 0]))), "IDX header of 2 bytes, expected at least 4");
            assert_eq!(message(open(compress(b"text"))), "first bytes 0x74 0x65, expected 0x00 0x00 of an IDX file");
        }

        #[test]
        fn the_limit_holds() {
            let compressed = compress(&idx_bytes(&[100], &[0; 100]));
            let limited = |limit| Idx::options().limit_bytes(limit).from_bytes(compressed.clone(), "the-file");
            limited(108).unwrap();
            assert_eq!(limited(107).unwrap_err().kind(), ErrorKind::Limit);
            assert_eq!(message(limited(107)), "108 bytes decompressed, the limit is 107");
            let bomb = compress(&idx_bytes(&[u32::MAX, 5], &vec![0; 1 << 20]));
            assert_eq!(open(bomb).unwrap_err().kind(), ErrorKind::Limit);
        }

        #[test]
        fn a_header_that_lies_buys_no_memory() {
            let lie = compress(&idx_bytes(&[1 << 30], &[0; 100]));
            assert!(message(open(lie.clone())).contains("more than "));
        }
    }
}
