//! NumPy's `.npz` archives: several `.npy` files in one.
//!
//! Source: [NumPy's `savez`](https://numpy.org/doc/stable/reference/generated/numpy.savez.html): a ZIP archive whose
//! members are named like the arrays, with `.npy` at the end.

mod directory;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{ArrayRef, Dimension};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use self::directory::{Member, Method};
use super::inflate::{max_inflated, read_up_to};
use super::mapped::Mapped;
use super::npy::{self, Npy, NpyElement};
use crate::error::{Error, ErrorKind, Result};
use crate::file::NewFile;

/// What the name of an array has behind it in the archive.
const SUFFIX: &str = ".npy";

/// How an `.npz` archive is opened.
#[derive(Debug, Clone)]
pub struct NpzOptions {
    limit_bytes: u64,
    in_memory: bool,
}

impl Default for NpzOptions {
    fn default() -> Self {
        Self { limit_bytes: 16 << 30, in_memory: false }
    }
}

impl NpzOptions {
    /// The most that a compressed array may hold, decompressed. The default is 16 GiB. One that is not compressed is
    /// mapped and takes no memory of its own, so the limit has no effect on it.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Whether the archive is read into memory instead of mapped; see [`Mapped`] for when that is better. The default is
    /// `false`. A compressed array is in memory in any case, decompressed.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens an archive, as [`Npz::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Npz::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Npz> {
        self.parse(if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
    }

    /// Takes the bytes of an archive, as [`Npz::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`Npz::from_bytes`].
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Npz> {
        self.parse(Mapped::from_bytes(bytes, name))
    }

    fn parse(&self, bytes: Mapped) -> Result<Npz> {
        let arrays = arrays(&bytes).map_err(|error| error.with_file(bytes.path()))?;
        Ok(Npz { bytes: Arc::new(bytes), arrays: arrays.into(), limit_bytes: self.limit_bytes })
    }
}

/// The arrays of an archive, in its order, and the order of their names.
struct Arrays {
    members: Vec<Member>,
    // Invariant: each place in `members` once, ordered by the names there, of which no two are the same.
    sorted: Vec<usize>,
}

/// Lists the arrays. Members of other kinds are passed over.
fn arrays(bytes: &[u8]) -> Result<Arrays> {
    let mut members = directory::members(bytes)?;
    members.retain(|member| member.name.ends_with(SUFFIX));
    let mut sorted: Vec<usize> = (0..members.len()).collect();
    sorted.sort_unstable_by_key(|&at| &members[at].name);
    if let Some(pair) = sorted.windows(2).find(|pair| members[pair[0]].name == members[pair[1]].name) {
        let message = format!("two members named {:?}, expected one", members[pair[0]].name);
        return Err(Error::new(ErrorKind::Format, message));
    }
    Ok(Arrays { members, sorted })
}

/// An `.npz` archive: arrays by name.
///
/// The archive is mapped, and only the directory at its end is read when it is opened. An array that is not compressed
/// (`numpy.savez`) is a part of the mapped archive; a compressed one (`numpy.savez_compressed`) is decompressed into memory
/// at each call of [`array`](Self::array). Cheap to clone: clones share the bytes.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::source::{Npz, NpzWriter};
/// use procession::{Sequence, SequenceExt};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("data.npz");
/// let mut writer = NpzWriter::create(&path)?; // in Python: numpy.savez("data.npz", x=x, y=y)
/// writer.add("x", &array![[1.0_f32, 2.0], [3.0, 4.0]])?;
/// writer.add("y", &array![1_i64, 0])?;
/// writer.finish()?;
///
/// let npz = Npz::open(&path)?;
/// assert!(npz.names().eq(["x", "y"]));
/// let x = npz.array("x")?.samples::<f32, ndarray::Ix1>()?;
/// let pairs = x.zip(npz.array("y")?.labels(2)?)?;
/// assert_eq!(pairs.get(1)?, (array![3.0, 4.0], 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Npz {
    bytes: Arc<Mapped>,
    arrays: Arc<Arrays>,
    limit_bytes: u64,
}

impl Npz {
    /// Opens an archive.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be read; [`Format`](ErrorKind::Format) if it is no ZIP
    /// archive, is cut off, has other bytes before or behind it, names that are not UTF-8, or one name twice.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Takes the bytes of an archive and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes(bytes, name)
    }

    /// Options to open an archive with.
    pub fn options() -> NpzOptions {
        NpzOptions::default()
    }

    /// The names of the arrays, in the order of the archive and without `.npy`. Members that do not end so are not
    /// listed.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.arrays.members.iter().map(|member| member.name.strip_suffix(SUFFIX).unwrap_or(&member.name))
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// Opens an array: maps it, or decompresses it into memory.
    ///
    /// The checksum of an array that is mapped is not compared: for that all of it would have to be read.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument), with the file, if there is no array of this name. With the file, a slash
    /// and the member, of kind [`Limit`](ErrorKind::Limit) if it holds more than the limit, decompressed;
    /// [`Format`](ErrorKind::Format) if it is damaged, encrypted or compressed by anything but deflate, and as
    /// [`Npy::open`].
    pub fn array(&self, name: &str) -> Result<Npy> {
        let member = self.member(name)?;
        // Not by `join`, which a name that starts with a slash would replace the archive in.
        let mut path = OsString::from(self.path());
        path.push("/");
        path.push(&member.name);
        self.read(member, Path::new(&path)).map_err(|error| error.with_file(path))
    }

    fn member(&self, name: &str) -> Result<&Member> {
        const MOST_NAMES: usize = 20;

        let Arrays { members, sorted } = &*self.arrays;
        let wanted = format!("{name}{SUFFIX}");
        let found = sorted.binary_search_by(|&at| members[at].name.cmp(&wanted));
        found.map(|at| &members[sorted[at]]).map_err(|_| {
            let names: Vec<&str> = self.names().take(MOST_NAMES).collect();
            let more = if members.len() > MOST_NAMES { " and others" } else { "" };
            let message = format!("no array {name:?}, expected one of {}{more}", names.join(", "));
            Error::argument(message).with_file(self.path())
        })
    }

    fn read(&self, member: &Member, path: &Path) -> Result<Npy> {
        let method = member.method()?;
        let range = member.range(&self.bytes)?;
        match method {
            Method::Stored => Npy::parse(Arc::clone(&self.bytes), range, path.into()),
            Method::Deflated => {
                let plain = inflate(&self.bytes[range], member, self.limit_bytes)?;
                Npy::from_bytes(plain, path)
            }
        }
    }
}

impl fmt::Debug for Npz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        f.debug_struct("Npz").field("path", &self.path()).field("names", &names).finish_non_exhaustive()
    }
}

/// Decompresses as many bytes as the directory promises, if that is within the limit, and checks that they are all.
fn inflate(compressed: &[u8], member: &Member, limit_bytes: u64) -> Result<Vec<u8>> {
    const STREAM: &str = "deflate stream";

    let format = |message: String| Err(Error::new(ErrorKind::Format, message));
    if member.len > limit_bytes {
        let message = format!("{} bytes decompressed, the limit is {limit_bytes}", member.len);
        return Err(Error::new(ErrorKind::Limit, message));
    }
    let Some(len) = usize::try_from(member.len).ok().filter(|&len| len <= max_inflated(compressed.len())) else {
        return format(format!("{} bytes in {} deflated ones, more than they can hold", member.len, compressed.len()));
    };
    let mut stream = flate2::bufread::DeflateDecoder::new(compressed);
    let mut plain = Vec::new();
    read_up_to(&mut stream, &mut plain, len, STREAM)?;
    // One byte more shows whether the stream ends here.
    let mut surplus = Vec::new();
    read_up_to(&mut stream, &mut surplus, 1, STREAM)?;
    let consumed = stream.total_in();
    if !surplus.is_empty() || plain.len() != len || consumed != compressed.len() as u64 {
        return format(format!(
            "deflate stream of {consumed} bytes holds {} {}, expected {} for {len}",
            plain.len(),
            if surplus.is_empty() { "bytes" } else { "bytes and more" },
            compressed.len()
        ));
    }
    let checksum = crc32fast::hash(&plain);
    if checksum != member.checksum {
        return format(format!("checksum {checksum:08x}, expected {:08x} as the directory says", member.checksum));
    }
    Ok(plain)
}

/// Writes an `.npz` archive, array by array, as `numpy.savez` does: not compressed, so that it can be mapped.
///
/// The archive takes its name, in the place of a file that is there, when it is [finished](Self::finish); until then it
/// has `.tmp` at its end, and dropped before that it is removed.
pub struct NpzWriter {
    zip: ZipWriter<BufWriter<NewFile>>,
    path: PathBuf,
    // What was written is of no use any more.
    failed: bool,
}

impl NpzWriter {
    /// Begins an archive.
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](ErrorKind::Io), with the file, if it cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = BufWriter::new(NewFile::create(&path)?);
        Ok(Self { zip: ZipWriter::new(file), path, failed: false })
    }

    /// Adds an array under a name, which may have slashes: in C order, little-endian.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Argument`](ErrorKind::Argument), and nothing is written, if there is an array of this name,
    /// the name is longer than 65,531 bytes, or the array has more than the 64 dimensions that NumPy's arrays have. Of
    /// kind [`Io`](ErrorKind::Io) if it cannot be written. The archive is then of no use, and `add` and `finish` fail from
    /// there on.
    pub fn add<T: NpyElement, D: Dimension>(&mut self, name: &str, array: &ArrayRef<T, D>) -> Result<()> {
        /// From here on an archive needs numbers of 64 bits; with room for the header.
        const LARGE_BYTES: usize = u32::MAX as usize - (1 << 16);

        let is_large = array.len().saturating_mul(size_of::<T>()) >= LARGE_BYTES;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(is_large);
        let added = self.check().and_then(|()| npy::check_rank(array)).and_then(|()| {
            self.zip.start_file(format!("{name}{SUFFIX}"), options).map_err(|cause| refused(name, cause))?;
            Ok(npy::write(&mut self.zip, array)?)
        });
        // Half an array may be in it. What was refused has left it as it was.
        self.failed |= added.as_ref().is_err_and(|error| error.kind() != ErrorKind::Argument);
        added.map_err(|error| error.with_file(&self.path))
    }

    fn check(&self) -> Result<()> {
        if self.failed { Err(Error::new(ErrorKind::Io, "an array could not be written before")) } else { Ok(()) }
    }

    /// Writes the directory and gives the archive its name.
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](ErrorKind::Io), with the file, if it cannot be written, or an array before could not be. A file that
    /// is there already then stays.
    pub fn finish(self) -> Result<()> {
        self.check().map_err(|error| error.with_file(&self.path))?;
        let Self { zip, path, .. } = self;
        let file = zip.finish().map_err(std::io::Error::from).and_then(|mut file| {
            file.flush()?;
            Ok(file.into_inner()?)
        });
        file.map_err(|cause| Error::from(cause).with_file(path))?.finish()
    }
}

impl fmt::Debug for NpzWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NpzWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why an archive does not take an array.
fn refused(name: &str, cause: ZipError) -> Error {
    match cause {
        ZipError::Io(cause) => Error::from(cause),
        cause => Error::argument(format!("array {name:?} cannot be added to the archive")).with_cause(cause),
    }
}

#[cfg(test)]
mod tests;
