//! The images and the labels of one part.

use std::path::PathBuf;
use std::sync::Arc;

use ndarray::{Array3, Ix3};

use super::super::mapped::Mapped;
use super::super::scale::{Scale, check_moments};
use super::{CifarPart, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

const SIDE: usize = 32;
const PLANE_LEN: usize = SIDE * SIDE;
const CHANNELS: usize = 3;
/// The pixels of a record.
pub(super) const IMAGE_LEN: usize = CHANNELS * PLANE_LEN;

/// The records of one or more files, one after the other.
#[derive(Debug)]
pub(super) struct Records {
    // Invariant: each has a length that is a multiple of that of a record.
    files: Vec<Mapped>,
    // Invariant: `ends[i]` is the number of records in the files up to and with `i`.
    ends: Vec<usize>,
    kind: &'static Kind,
}

impl Records {
    pub(super) fn new(files: Vec<Mapped>, kind: &'static Kind) -> Self {
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

    pub(super) fn into_part(self) -> CifarPart {
        let records = Arc::new(self);
        (CifarImages { records: Arc::clone(&records), planar: false }, CifarLabels { records })
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
