//! CIFAR-10 and CIFAR-100 in their binary version.
//!
//! Source: [Alex Krizhevsky's description](https://www.cs.toronto.edu/~kriz/cifar.html). Files of records without a
//! header: the label in one byte (CIFAR-100: the coarse one, then the fine one), then 3,072 bytes of pixels, a plane of
//! 32 x 32 for each of red, green and blue, row after row.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array3, Ix3};

use super::mapped::Mapped;
use super::scale::{Scale, check_moments};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

const SIDE: usize = 32;
const PLANE_LEN: usize = SIDE * SIDE;
const CHANNELS: usize = 3;
const IMAGE_LEN: usize = CHANNELS * PLANE_LEN;

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
        let records = Arc::new(Records::new(files, kind));
        Ok((CifarImages { records: Arc::clone(&records), planar: false }, CifarLabels { records }))
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

/// The records of one or more files, one after the other.
#[derive(Debug)]
struct Records {
    // Invariant: each has a length that is a multiple of that of a record.
    files: Vec<Mapped>,
    // Invariant: `ends[i]` is the number of records in the files up to and with `i`.
    ends: Vec<usize>,
    kind: &'static Kind,
}

impl Records {
    fn new(files: Vec<Mapped>, kind: &'static Kind) -> Self {
        let mut end = 0;
        let counts = files.iter().map(|file| file.len() / (kind.label_bytes + IMAGE_LEN));
        let ends = counts
            .map(|count| {
                end += count;
                end
            })
            .collect();
        Self { files, ends, kind }
    }

    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The file that holds a record, and the record's number there.
    #[inline]
    fn find(&self, index: usize) -> (&Mapped, usize) {
        check_index(index, self.len());
        let file = self.ends.partition_point(|&end| end <= index);
        let start = if file == 0 { 0 } else { self.ends[file - 1] };
        (&self.files[file], index - start)
    }

    /// The labels and the pixels of a record.
    #[inline]
    fn record(&self, index: usize) -> (&[u8], &[u8]) {
        let (file, number) = self.find(index);
        let record_len = self.kind.label_bytes + IMAGE_LEN;
        file[number * record_len..(number + 1) * record_len].split_at(self.kind.label_bytes)
    }
}

/// The images of one part of CIFAR: `Array3<u8>`, `(height, width, channels)`, which is `(32, 32, 3)`, red first.
///
/// A sample is copied from the file straight to its row of the batch.
#[derive(Debug, Clone)]
pub struct CifarImages {
    records: Arc<Records>,
    /// Whether the channels come first, as they do in the file.
    planar: bool,
}

impl CifarImages {
    /// The same images as `(channels, height, width)`, which is `(3, 32, 32)`: as they are in the file.
    pub fn chw(self) -> Self {
        Self { planar: true, ..self }
    }

    /// The images as `f32` in `[0, 1]`: each byte divided by 255.
    pub fn unit(self) -> CifarFloats {
        CifarFloats { images: self, scales: [Scale::new(0.0, 255.0); CHANNELS] }
    }

    /// The images as `f32`: `(byte - mean) / std`, with a mean and a standard deviation for each of red, green and blue.
    ///
    /// Both are in units of the bytes, 0 to 255. Published values are mostly for the range from 0 to 1: multiply these by
    /// 255, as in `standardize([0.4914, 0.4822, 0.4465].map(|x| x * 255.0), [0.2470, 0.2435, 0.2616].map(|x| x * 255.0))`
    /// for CIFAR-10.
    ///
    /// # Errors
    ///
    /// If a `std` is not more than zero, or a number is not finite: an error of kind [`Argument`](ErrorKind::Argument).
    pub fn standardize(self, mean: [f32; 3], std: [f32; 3]) -> Result<CifarFloats> {
        mean.iter().zip(&std).try_for_each(|(&mean, &std)| check_moments(mean, std))?;
        Ok(CifarFloats { images: self, scales: [0, 1, 2].map(|channel| Scale::new(mean[channel], std[channel])) })
    }

    /// The shape of an image.
    pub fn shape(&self) -> [usize; 3] {
        if self.planar { [CHANNELS, SIDE, SIDE] } else { [SIDE, SIDE, CHANNELS] }
    }

    /// The bytes of an image as they are in the file: three planes.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of images.
    #[inline]
    pub fn bytes(&self, index: usize) -> &[u8] {
        self.records.record(index).1
    }
}

/// The planes of red, green and blue.
fn planes(bytes: &[u8]) -> [&[u8]; CHANNELS] {
    [0, 1, 2].map(|channel| &bytes[channel * PLANE_LEN..(channel + 1) * PLANE_LEN])
}

/// Writes pixel after pixel what a function makes of its red, green and blue.
#[inline(always)]
fn write_pixels<T>(bytes: &[u8], row: &mut [T], pixel: impl Fn([u8; CHANNELS]) -> [T; CHANNELS]) {
    let [red, green, blue] = planes(bytes);
    let (pixels, _) = row.as_chunks_mut::<CHANNELS>();
    for (((to, &red), &green), &blue) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
        *to = pixel([red, green, blue]);
    }
}

impl Sequence for CifarImages {
    type Sample = Array3<u8>;

    fn len(&self) -> usize {
        self.records.len()
    }
    fn get(&self, index: usize) -> Result<Array3<u8>> {
        let mut image = Array3::zeros(self.shape());
        self.get_into(index, image.as_slice_mut().expect("a new array lies in C order"))?;
        Ok(image)
    }
    fn layout(&self) -> Option<Ix3> {
        let [first, second, third] = self.shape();
        Some(Ix3(first, second, third))
    }
    #[inline]
    fn get_into(&self, index: usize, row: &mut [u8]) -> Result<()> {
        let bytes = self.bytes(index);
        if self.planar {
            row.copy_from_slice(bytes);
        } else {
            write_pixels(bytes, row, |pixel| pixel);
        }
        Ok(())
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(IMAGE_LEN)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.records.find(index).0.path().to_owned())
    }
}

/// The images of one part of CIFAR as `f32`; made by [`CifarImages::unit`] and [`CifarImages::standardize`].
///
/// A sample is converted from the file straight to its row of the batch.
#[derive(Debug, Clone)]
pub struct CifarFloats {
    images: CifarImages,
    /// One for each channel.
    scales: [Scale; CHANNELS],
}

impl CifarFloats {
    /// The same images as `(channels, height, width)`, which is `(3, 32, 32)`.
    pub fn chw(self) -> Self {
        Self { images: self.images.chw(), ..self }
    }

    /// The images as bytes.
    pub fn into_images(self) -> CifarImages {
        self.images
    }

    /// The shape of an image.
    pub fn shape(&self) -> [usize; 3] {
        self.images.shape()
    }
}

impl Sequence for CifarFloats {
    type Sample = Array3<f32>;

    fn len(&self) -> usize {
        self.images.len()
    }
    fn get(&self, index: usize) -> Result<Array3<f32>> {
        let mut image = Array3::zeros(self.shape());
        self.get_into(index, image.as_slice_mut().expect("a new array lies in C order"))?;
        Ok(image)
    }
    fn layout(&self) -> Option<Ix3> {
        self.images.layout()
    }
    #[inline]
    fn get_into(&self, index: usize, row: &mut [f32]) -> Result<()> {
        let (bytes, [red, green, blue]) = (self.images.bytes(index), self.scales);
        if self.images.planar {
            let rows = row.chunks_exact_mut(PLANE_LEN);
            planes(bytes).into_iter().zip(self.scales).zip(rows).for_each(|((plane, scale), row)| {
                scale.write(plane, row);
            });
        } else {
            write_pixels(bytes, row, |[r, g, b]| [red.apply(r), green.apply(g), blue.apply(b)]);
        }
        Ok(())
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(IMAGE_LEN * size_of::<f32>())
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.images.file(index)
    }
}

/// The labels of one part of CIFAR: `u32`, below the number of classes.
///
/// # Errors
///
/// `get` fails where a label is out of range: an error of kind [`Format`](ErrorKind::Format) with its index and file.
#[derive(Debug, Clone)]
pub struct CifarLabels {
    records: Arc<Records>,
}

impl CifarLabels {
    /// The number of classes: labels are below it.
    pub fn num_classes(&self) -> u32 {
        self.records.kind.num_classes
    }
}

impl Sequence for CifarLabels {
    type Sample = u32;

    fn len(&self) -> usize {
        self.records.len()
    }
    #[inline]
    fn get(&self, index: usize) -> Result<u32> {
        let label = u32::from(self.records.record(index).0[self.records.kind.label_at]);
        if label >= self.num_classes() {
            let message =
                format!("label {label}, expected one below {} as there are that many classes", self.num_classes());
            let (file, _) = self.records.find(index);
            return Err(Error::new(ErrorKind::Format, message).with_index(index as u64).with_file(file.path()));
        }
        Ok(label)
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(size_of::<u32>())
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        Some(self.records.find(index).0.path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_rows, samples};

    /// A record with these labels, and pixels that tell it from others.
    fn record(labels: &[u8], seed: u8) -> Vec<u8> {
        let pixels = (0..IMAGE_LEN).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed) ^ (at >> 8) as u8);
        labels.iter().copied().chain(pixels).collect()
    }

    /// CIFAR-10 with two records in each file; the labels of the training images are 0 to 9.
    fn ten() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (at, name) in (0..).zip(CIFAR_10.train) {
            let records = [record(&[2 * at], 2 * at), record(&[2 * at + 1], 2 * at + 1)].concat();
            std::fs::write(dir.path().join(name), records).unwrap();
        }
        std::fs::write(dir.path().join("test_batch.bin"), record(&[7], 100)).unwrap();
        dir
    }

    fn hundred() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("train.bin"), [record(&[19, 99], 1), record(&[0, 20], 2)].concat()).unwrap();
        std::fs::write(dir.path().join("test.bin"), record(&[3, 4], 3)).unwrap();
        dir
    }

    #[test]
    fn five_files_are_one_sequence() {
        let dir = ten();
        let cifar = Cifar::open_10(dir.path()).unwrap();
        check_rows(&cifar.train);
        check_rows(&cifar.test);
        let (images, labels) = cifar.train;
        assert_eq!((samples(&labels), labels.num_classes()), ((0..10).collect(), 10));
        assert_eq!((images.len(), images.bytes(5)), (10, &record(&[], 5)[..]));
        for (index, name) in [(0, "data_batch_1.bin"), (3, "data_batch_2.bin"), (9, "data_batch_5.bin")] {
            assert_eq!(
                (images.file(index), labels.file(index)),
                (Some(dir.path().join(name)), Some(dir.path().join(name)))
            );
        }
        assert_eq!(samples(&cifar.test.1), [7]);
        assert_eq!((images.layout(), images.size_bytes(0)), (Some(Ix3(32, 32, 3)), Some(3072)));
    }

    #[test]
    fn pixels_are_at_their_places_in_both_orders() {
        let dir = ten();
        let images = Cifar::open_10(dir.path()).unwrap().train.0;
        let floats = images.clone().standardize([10.0, 20.0, 30.0], [1.0, 2.0, 4.0]).unwrap();
        for sequence in [images.clone(), images.clone().chw()] {
            check_rows(&sequence);
        }
        for sequence in [images.clone().unit(), images.clone().chw().unit(), floats.clone(), floats.clone().chw()] {
            check_rows(&sequence);
        }
        let (hwc, chw) = (images.get(6).unwrap(), images.clone().chw().get(6).unwrap());
        let (units, planes) = (images.unit().get(6).unwrap(), floats.clone().chw().get(6).unwrap());
        let scaled = floats.get(6).unwrap();
        let file = record(&[], 6);
        for (at, &byte) in file.iter().enumerate() {
            let (channel, y, x) = (at / 1024, at / 32 % 32, at % 32);
            assert_eq!((hwc[[y, x, channel]], chw[[channel, y, x]]), (byte, byte));
            assert_eq!(units[[y, x, channel]], f32::from(byte) / 255.0);
            let expected = (f32::from(byte) - [10.0, 20.0, 30.0][channel]) / [1.0, 2.0, 4.0][channel];
            assert_eq!((scaled[[y, x, channel]], planes[[channel, y, x]]), (expected, expected));
        }
        assert_eq!((floats.shape(), floats.chw().shape()), ([32, 32, 3], [3, 32, 32]));
    }

    #[test]
    fn numbers_that_cannot_be_divided_by_are_refused() {
        let dir = ten();
        let images = Cifar::open_10(dir.path()).unwrap().train.0;
        for (mean, std) in [([0.0; 3], [1.0, 0.0, 1.0]), ([0.0, 0.0, f32::NAN], [1.0; 3]), ([0.0; 3], [1.0, 1.0, -1.0])]
        {
            assert_eq!(images.clone().standardize(mean, std).unwrap_err().kind(), ErrorKind::Argument);
        }
    }

    #[test]
    fn the_hundred_have_fine_and_coarse_labels() {
        let dir = hundred();
        let fine = Cifar::open_100(dir.path()).unwrap();
        let coarse = Cifar::open_100_coarse(dir.path()).unwrap();
        assert_eq!((samples(&fine.train.1), fine.train.1.num_classes()), (vec![99, 20], 100));
        assert_eq!((samples(&coarse.train.1), coarse.train.1.num_classes()), (vec![19, 0], 20));
        assert_eq!(fine.train.0.bytes(1), record(&[], 2));
        check_rows(&coarse.test);
    }

    #[test]
    fn a_label_out_of_range_is_refused_with_its_place() {
        let dir = ten();
        let path = dir.path().join("data_batch_4.bin");
        std::fs::write(&path, [record(&[1], 0), record(&[10], 0)].concat()).unwrap();
        let cifar = Cifar::open_10(dir.path()).unwrap();
        let error = cifar.train.get(7).unwrap_err();
        assert_eq!(error.message(), "label 10, expected one below 10 as there are that many classes");
        assert_eq!((error.index(), error.file(), error.kind()), (Some(7), Some(&*path), ErrorKind::Format));
    }

    #[test]
    fn names_of_classes_are_read_if_they_are_there() {
        let dir = ten();
        let names = |text: &[u8]| {
            std::fs::write(dir.path().join("batches.meta.txt"), text).unwrap();
            Cifar::open_10(dir.path()).map(|cifar| cifar.class_names().to_vec())
        };
        assert!(Cifar::open_10(dir.path()).unwrap().class_names().is_empty());
        let expected: Vec<String> = ('a'..='j').map(String::from).collect();
        assert_eq!(names(b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap(), expected);
        assert_eq!(names(b"a\r\nb\r\nc\r\nd\r\ne\r\nf\r\ng\r\nh\r\ni\r\nj").unwrap(), expected);
        let error = names(b"a\nb\n").unwrap_err();
        assert_eq!(error.message(), "2 names of classes, expected 10");
        assert_eq!(error.file(), Some(&*dir.path().join("batches.meta.txt")));
        assert_eq!(names(b"a\xff").unwrap_err().message(), "byte 1 is not UTF-8, expected names of classes");
        assert_eq!(names(b"").unwrap_err().message(), "0 names of classes, expected 10");
    }

    #[test]
    fn files_of_another_length_are_refused() {
        let dir = ten();
        let path = dir.path().join("data_batch_3.bin");
        let whole = std::fs::read(&path).unwrap();
        for len in [0, 1, 3072, 3074, 2 * 3073 - 1] {
            std::fs::write(&path, &whole[..len]).unwrap();
            let error = Cifar::open_10(dir.path()).unwrap_err();
            let expected = format!("{len} bytes, expected a multiple of 3073, the length of a record");
            assert_eq!((error.message(), error.file(), error.kind()), (&*expected, Some(&*path), ErrorKind::Format));
        }
        std::fs::write(&path, &whole[..3073]).unwrap();
        assert_eq!(Cifar::open_10(dir.path()).unwrap().train.len(), 9);
    }

    #[test]
    fn files_that_are_missing_or_no_files_are_named() {
        let dir = ten();
        std::fs::remove_file(dir.path().join("data_batch_2.bin")).unwrap();
        let error = Cifar::open_10(dir.path()).unwrap_err();
        let expected = "the directory holds no data_batch_2.bin, nor a folder cifar-10-batches-bin that does";
        assert_eq!((error.message(), error.file(), error.kind()), (expected, Some(dir.path()), ErrorKind::Io));
        let error = Cifar::open_100(dir.path().join("nowhere")).unwrap_err();
        assert_eq!(error.message(), "not a directory, expected one that holds train.bin");
        std::fs::create_dir(dir.path().join("data_batch_2.bin")).unwrap();
        let error = Cifar::open_10(dir.path()).unwrap_err();
        assert_eq!(error.file(), Some(&*dir.path().join("data_batch_2.bin")));
    }

    #[test]
    fn the_folder_of_the_archive_is_found() {
        let (dir, outer) = (hundred(), tempfile::tempdir().unwrap());
        std::fs::rename(dir.path(), outer.path().join("cifar-100-binary")).unwrap();
        assert_eq!(Cifar::open_100(outer.path()).unwrap().train.len(), 2);
    }

    #[test]
    fn files_in_memory_may_shrink() {
        let dir = ten();
        let cifar = Cifar::options().in_memory(true).open_10(dir.path()).unwrap();
        std::fs::write(dir.path().join("data_batch_1.bin"), b"").unwrap();
        assert_eq!(cifar.train.0.bytes(0), record(&[], 0));
        let dir = hundred();
        let options = Cifar::options().in_memory(true);
        assert_eq!(options.open_100(dir.path()).unwrap().train.1.get(0).unwrap(), 99);
        assert_eq!(options.open_100_coarse(dir.path()).unwrap().train.1.get(0).unwrap(), 19);
    }
}
