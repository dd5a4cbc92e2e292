//! NumPy's arrays in a bucket.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path as FilePath, PathBuf};

use ndarray::{Array, Dimension, RemoveAxis};
use object_store::path::Path;

use super::blocking;
use super::bucket::Bucket;
use super::fetch::Known;
use crate::batch::stack::Stack;
use crate::error::{Error, ErrorKind, Result};
use crate::remote::AsyncSequence;
use crate::sequence::check_index;
use crate::source::extents::dimension;
use crate::source::npy::About;
use crate::source::{Npy, NpyElement, NpyType, array_layout};

/// What is asked for first: NumPy's headers have 128 bytes for most arrays.
const FIRST_BYTES: u64 = 4096;

/// The most that a header may have: the extents of 64 dimensions take some 1,500 bytes.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// An `.npy` file in a bucket: an array of one of twelve types of numbers, of which only the header is here.
///
/// [`samples`](Self::samples) fetches a row at a time; [`fetch`](Self::fetch) fetches all of it, as for labels.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use ndarray::{Ix1, array};
/// use procession::source::object_store::memory::InMemory;
/// use procession::source::{Bucket, Npy, ObjectNpy};
/// use procession::{AsyncSequence, Loader};
///
/// let dir = tempfile::tempdir()?;
/// Npy::save(dir.path().join("x.npy"), &array![[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]])?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let bucket = Bucket::new(Arc::new(InMemory::new()), "memory://bucket");
/// # let bytes = std::fs::read(dir.path().join("x.npy"))?;
/// # runtime.block_on(bucket.write("x.npy", bytes))?;
///
/// let npy = runtime.block_on(ObjectNpy::open_in(&bucket, "x.npy"))?;        // or ObjectNpy::open("s3://bucket/x.npy")
/// assert_eq!(npy.shape(), [3, 2]);
/// let loader = Loader::remote(npy.samples::<f32, Ix1>()?).batch_size(2).build()?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.into_inner(), array![[1.0, 2.0], [3.0, 4.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ObjectNpy {
    bucket: Bucket,
    path: Path,
    known: Known,
    about: About,
}

impl ObjectNpy {
    /// Opens what a URL names; see [`Bucket::open`]. Blocks until the header is there.
    ///
    /// # Errors
    ///
    /// As [`Bucket::open`] and [`open_in`](Self::open_in); and of kind [`Argument`](ErrorKind::Argument) on the thread of a
    /// current-thread runtime, which it would hold up.
    pub fn open(url: &str) -> Result<Self> {
        let bucket = Bucket::open(url)?;
        let path = bucket.prefix().clone();
        blocking::wait(Self::open_path(&bucket.at(Path::default()), path))
    }

    /// Opens an object of a bucket.
    ///
    /// # Errors
    ///
    /// With the URL, of kind [`Io`](ErrorKind::Io) if it cannot be fetched; [`Format`](ErrorKind::Format) if it is no `.npy`
    /// file, its elements are not numbers, or bytes are missing or too many; [`Limit`](ErrorKind::Limit) if its header is
    /// larger than any should be.
    pub async fn open_in(bucket: &Bucket, key: &str) -> Result<Self> {
        Self::open_path(bucket, bucket.path(key)?).await
    }

    async fn open_path(bucket: &Bucket, path: Path) -> Result<Self> {
        let (url, known) = (bucket.url_of(&path), bucket.head(&path).await?);
        let mut needed = FIRST_BYTES.min(known.size_bytes);
        // Twice at most: the first bytes tell how long the header is.
        let about = loop {
            if needed > MAX_HEADER_BYTES {
                let message = format!("NPY header of {needed} bytes, the limit is {MAX_HEADER_BYTES}");
                return Err(Error::new(ErrorKind::Limit, message).with_file(url));
            }
            let start = bucket.fetch_range(&path, &known, 0..needed).await?;
            match About::of_start(&start, known.size_bytes, &url)? {
                Ok(about) => break about,
                Err(more) => needed = more,
            }
        };
        Ok(Self { bucket: bucket.clone(), path, known, about })
    }

    /// The type of the elements.
    pub fn element(&self) -> NpyType {
        self.about.header().0
    }

    /// The extents of the dimensions; none for a single number.
    pub fn shape(&self) -> &[usize] {
        self.about.header().1
    }

    /// Whether the bytes of an element come in big-endian order; of no meaning where an element is one byte.
    pub fn is_big_endian(&self) -> bool {
        self.about.header().2
    }

    /// Whether the elements lie in Fortran order, as [`Npy::is_fortran`] says.
    pub fn is_fortran(&self) -> bool {
        self.about.header().3
    }

    /// The URL.
    pub fn path(&self) -> &FilePath {
        self.about.path()
    }

    /// Fetches the whole array, to be used like a file: for labels, whose numbers are too short for a request each.
    ///
    /// # Errors
    ///
    /// With the URL, of kind [`Io`](ErrorKind::Io) if it cannot be fetched, [`Format`](ErrorKind::Format) if it has changed
    /// since it was opened.
    pub async fn fetch(&self) -> Result<Npy> {
        let bytes = self.bucket.fetch_whole(&self.path, Some(&self.known), u64::MAX).await?;
        Npy::from_bytes(Vec::from(bytes), self.path())
    }

    /// Fetches the whole array; blocks until it is there.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch); and of kind [`Argument`](ErrorKind::Argument) on the thread of a current-thread runtime, which
    /// it would hold up.
    pub fn fetch_blocking(&self) -> Result<Npy> {
        blocking::wait(self.fetch())
    }

    /// What lies along the first axis as samples of dimension `D`, one less than the array has, each fetched by a request for
    /// its range.
    ///
    /// # Errors
    ///
    /// With the URL, of kind [`Format`](ErrorKind::Format) if its elements are not of type `T`, or lie in Fortran order, where
    /// no sample lies in one piece; [`Shape`](ErrorKind::Shape) if it has another number of dimensions, or none at all.
    pub fn samples<T: NpyElement, D: Dimension>(&self) -> Result<ObjectNpySamples<T, D>> {
        self.about.expect(T::TYPE, D::NDIM.map(|rank| rank + 1))?;
        self.about.expect_samples()?;
        let shape = dimension::<D>(&self.shape()[1..]);
        Ok(ObjectNpySamples { sample_len: shape.size(), npy: self.clone(), shape, element: PhantomData })
    }
}

/// The samples of an `.npy` file in a bucket, which lie along its first axis: arrays of dimension `D`, as those of
/// [`NpySamples`](crate::source::NpySamples); made by [`ObjectNpy::samples`].
///
/// # Errors
///
/// `get` fails with the URL as that of [`Objects`](super::Objects), and for arrays of `bool` where a byte is neither 0 nor 1.
pub struct ObjectNpySamples<T, D> {
    npy: ObjectNpy,
    shape: D,
    // Invariant: the product of `shape`, whose extents are those of the file.
    sample_len: usize,
    element: PhantomData<fn() -> T>,
}

impl<T, D: Dimension> ObjectNpySamples<T, D> {
    /// The shape of a sample.
    pub fn shape(&self) -> &[usize] {
        self.shape.slice()
    }

    /// The array.
    pub fn npy(&self) -> &ObjectNpy {
        &self.npy
    }
}

impl<T, D> AsyncSequence for ObjectNpySamples<T, D>
where
    T: NpyElement,
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    type Sample = Array<T, D>;

    fn len(&self) -> usize {
        self.npy.shape()[0]
    }
    async fn get(&self, index: usize) -> Result<Array<T, D>> {
        check_index(index, self.npy.shape()[0]);
        let ObjectNpy { bucket, path, known, about } = &self.npy;
        // The header was checked: the product of all extents fits, and this is a part of it.
        let size_bytes = (self.sample_len * size_of::<T>()) as u64;
        let start = about.data_start() + index as u64 * size_bytes;
        let bytes = bucket.fetch_range(path, known, start..start + size_bytes).await?;
        let mut elements = vec![T::default(); self.sample_len];
        let read = about.read(&bytes, index * self.sample_len, &mut elements);
        read.map_err(|error| error.with_index(index as u64))?;
        Ok(Array::from_shape_vec(self.shape.clone(), elements).expect("as many elements as the shape says"))
    }
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Some(array_layout::<T, D>(self.shape.clone()))
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(self.sample_len * size_of::<T>())
    }
    /// The URL.
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.npy.path().to_owned())
    }
}

impl<T, D: Clone> Clone for ObjectNpySamples<T, D> {
    fn clone(&self) -> Self {
        Self { npy: self.npy.clone(), shape: self.shape.clone(), sample_len: self.sample_len, element: PhantomData }
    }
}

impl<T, D> fmt::Debug for ObjectNpySamples<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectNpySamples").field("npy", &self.npy).finish_non_exhaustive()
    }
}
