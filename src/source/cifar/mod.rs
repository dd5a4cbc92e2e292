//! CIFAR-10 and CIFAR-100 in their binary version.
//!
//! Source: [Alex Krizhevsky's description](https://www.cs.toronto.edu/~kriz/cifar.html). Files of records without a
//! header: the label in one byte (CIFAR-100: the coarse one, then the fine one), then 3,072 bytes of pixels, a plane of
//! 32 x 32 for each of red, green and blue, row after row.

mod parts;

use std::path::Path;

pub use parts::{CifarFloats, CifarImages, CifarLabels};
use parts::{IMAGE_LEN, Records};

use super::mapped::Mapped;
use crate::error::{Error, ErrorKind, Result};

/// How the files of one of the data sets are named and what is in them.
#[derive(Debug, PartialEq)]
struct Kind {
    /// The folder that the published archive unpacks to.
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    names: &'static str,
    num_classes: u32,
    /// The bytes of labels before the pixels, and which of them is read.
    label_bytes: usize,
    label_at: usize,
}

const CIFAR_10: Kind = Kind {
    folder: "cifar-10-batches-bin",
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: &["test_batch.bin"],
    names: "batches.meta.txt",
    num_classes: 10,
    label_bytes: 1,
    label_at: 0,
};
const CIFAR_100: Kind = Kind {
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: &["test.bin"],
    names: "fine_label_names.txt",
    num_classes: 100,
    label_bytes: 2,
    label_at: 1,
};
const CIFAR_100_COARSE: Kind = Kind { names: "coarse_label_names.txt", num_classes: 20, label_at: 0, ..CIFAR_100 };

/// How CIFAR-10 or CIFAR-100 is opened.
#[derive(Debug, Clone, Default)]
pub struct CifarOptions {
    in_memory: bool,
}

impl CifarOptions {
    /// Whether the files are read into memory, about 180 MB, instead of mapped; see [`Mapped`] for when that is better.
    /// The default is `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens CIFAR-10, as [`Cifar::open_10`] does.
    ///
    /// # Errors
    ///
    /// As [`Cifar::open_10`].
    pub fn open_10(&self, dir: impl AsRef<Path>) -> Result<Cifar> {
        self.open(dir.as_ref(), &CIFAR_10)
    }

    /// Opens CIFAR-100, as [`Cifar::open_100`] does.
    ///
    /// # Errors
    ///
    /// As [`Cifar::open_10`].
    pub fn open_100(&self, dir: impl AsRef<Path>) -> Result<Cifar> {
        self.open(dir.as_ref(), &CIFAR_100)
    }

    /// Opens CIFAR-100 with its coarse labels, as [`Cifar::open_100_coarse`] does.
    ///
    /// # Errors
    ///
    /// As [`Cifar::open_10`].
    pub fn open_100_coarse(&self, dir: impl AsRef<Path>) -> Result<Cifar> {
        self.open(dir.as_ref(), &CIFAR_100_COARSE)
    }

    fn open(&self, dir: &Path, kind: &'static Kind) -> Result<Cifar> {
        let unpacked = dir.join(kind.folder);
        let is_in = |dir: &Path| dir.join(kind.test[0]).exists() || dir.join(kind.train[0]).exists();
        let dir = if !is_in(dir) && is_in(&unpacked) { &*unpacked } else { dir };
        let [train, test] = [kind.train, kind.test].map(|names| self.part(dir, names, kind));
        Ok(Cifar { train: train?, test: test?, class_names: class_names(dir, kind)? })
    }

    fn part(&self, dir: &Path, names: &[&str], kind: &'static Kind) -> Result<CifarPart> {
        let files = names.iter().map(|name| self.file(dir, name, kind)).collect::<Result<Vec<_>>>()?;
        Ok(Records::new(files, kind).into_part())
    }

    fn file(&self, dir: &Path, name: &str, kind: &Kind) -> Result<Mapped> {
        let path = dir.join(name);
        if !path.exists() {
            let message = if dir.is_dir() {
                format!("the directory holds no {name}, nor a folder {} that does", kind.folder)
            } else {
                format!("not a directory, expected one that holds {name}")
            };
            return Err(Error::new(ErrorKind::Io, message).with_file(dir));
        }
        let bytes = if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?;
        let (len, record_len) = (bytes.len(), kind.label_bytes + IMAGE_LEN);
        if len == 0 || len % record_len > 0 {
            let message = format!("{len} bytes, expected a multiple of {record_len}, the length of a record");
            return Err(Error::new(ErrorKind::Format, message).with_file(bytes.path()));
        }
        Ok(bytes)
    }
}

/// The names of the classes, one a line; none if there is no file of them.
fn class_names(dir: &Path, kind: &Kind) -> Result<Vec<String>> {
    let path = dir.join(kind.names);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = Mapped::open(&path)?;
    let text = std::str::from_utf8(&bytes).map_err(|cause| {
        let message = format!("byte {} is not UTF-8, expected names of classes", cause.valid_up_to());
        Error::new(ErrorKind::Format, message).with_cause(cause).with_file(&path)
    })?;
    // The published files end in empty lines.
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (count, expected) = (lines().count(), kind.num_classes);
    if count != expected as usize {
        let message = format!("{count} names of classes, expected {expected}");
        return Err(Error::new(ErrorKind::Format, message).with_file(path));
    }
    Ok(lines().map(str::to_owned).collect())
}

/// CIFAR-10 or CIFAR-100: images of 32 x 32 pixels in colour, with labels.
///
/// The files are mapped, and nothing of them is read when they are opened, but for the names of the classes.
///
/// # Examples
///
/// ```no_run
/// use procession::source::Cifar;
/// use procession::{Loader, Sequence};
///
/// let cifar = Cifar::open_10("data/cifar-10-batches-bin")?;
/// let (images, labels) = cifar.train; // Array3<u8> of (32, 32, 3), and u32
/// let loader = Loader::builder((images.unit(), labels)).batch_size(128).shuffle(7).build()?;
/// for batch in loader.epoch(0) {
///     let batch = batch?;
///     let (x, y) = &*batch; // (128, 32, 32, 3) of f32 in [0, 1], and (128)
///     assert_eq!(x.shape()[1..], [32, 32, 3]);
///     assert_eq!(x.shape()[0], y.len());
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cifar {
    /// The images to train with; 50,000 in the data sets as published.
    pub train: CifarPart,
    /// The images to test with; 10,000 in the data sets as published.
    pub test: CifarPart,
    class_names: Vec<String>,
}

/// Images with labels. A pair of sequences is a sequence of pairs: `(Array3<u8>, u32)`.
pub type CifarPart = (CifarImages, CifarLabels);

impl Cifar {
    /// Opens CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin`, which become one sequence, and `test_batch.bin` in a
    /// directory, or in its folder `cifar-10-batches-bin`. The names of the classes are those of `batches.meta.txt`, if it
    /// is there.
    ///
    /// Each file may hold any number of records, but not none.
    ///
    /// # Errors
    ///
    /// With the file or the directory, of kind [`Io`](ErrorKind::Io) if a file is not there or cannot be read;
    /// [`Format`](ErrorKind::Format) if its length is not that of whole records, or there are not as many names as classes.
    pub fn open_10(dir: impl AsRef<Path>) -> Result<Self> {
        Self::options().open_10(dir)
    }

    /// Opens CIFAR-100 with its 100 fine labels: `train.bin` and `test.bin` in a directory, or in its folder
    /// `cifar-100-binary`. The names of the classes are those of `fine_label_names.txt`, if it is there.
    ///
    /// # Errors
    ///
    /// As [`open_10`](Self::open_10).
    pub fn open_100(dir: impl AsRef<Path>) -> Result<Self> {
        Self::options().open_100(dir)
    }

    /// Opens CIFAR-100 as [`open_100`](Self::open_100) does, with its 20 coarse labels and the names of
    /// `coarse_label_names.txt`.
    ///
    /// # Errors
    ///
    /// As [`open_10`](Self::open_10).
    pub fn open_100_coarse(dir: impl AsRef<Path>) -> Result<Self> {
        Self::options().open_100_coarse(dir)
    }

    /// Options to open the files with.
    pub fn options() -> CifarOptions {
        CifarOptions::default()
    }

    /// The names of the classes, by label; empty if the file of them is not there.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

#[cfg(test)]
mod tests;
