//! Images: decoding, resizing, and the transforms that people train with.
//!
//! [`ImageTransform`] does all of it in one go, from the bytes of a file to a row of the batch. [`Image`] is a decoded
//! one, to be worked on by hand. [`ImageFolder`](crate::source::ImageFolder), [`ImageList`](crate::source::ImageList) and
//! other sources yield undecoded images, as [`Blob`](crate::source::Blob)s.
//!
//! Formats: JPEG, PNG, GIF (the first frame), WebP, BMP, TIFF (the first page) and PNM (PBM, PGM, PPM). JPEG is decoded by
//! `zune-jpeg`, or by what [`DecodeOptions::jpeg_decoder`] is given, everything else by `image`; resizing is that of `fast_image_resize`. Pixels are taken as they are stored,
//! as Pillow and torchvision do: no colour profile is applied.
//!
//! # Examples
//!
//! ```no_run
//! use procession::image::ImageTransform;
//! use procession::source::ImageFolder;
//! use procession::Loader;
//!
//! let photos = ImageFolder::open("photos")?; // photos/<class>/<file>
//! let loader = Loader::builder(photos)
//!     .transform(ImageTransform::new().random_resized_crop(224, 224).random_horizontal_flip(0.5).to_f32())
//!     .batch_size(32)
//!     .shuffle(7)
//!     .build()?;
//! for batch in loader.epoch(0) {
//!     let batch = batch?;
//!     let (images, labels) = &*batch; // Array4<f32> (32, 224, 224, 3) in [0, 1], Array1<u32> (32)
//! #   let _ = (images, labels);
//! }
//! # Ok::<(), procession::Error>(())
//! ```

mod claims;
mod color;
mod decode;
mod geometry;
#[cfg(test)]
mod hostile;
mod jpeg;
mod mix;
mod pixels;
mod resize;
mod scan;
#[cfg(test)]
mod tests;
mod transform;

use ndarray::Array3;

pub use color::ColorJitter;
pub use decode::{DecodeOptions, ImageFormat, ImageInfo};
pub use jpeg::{JpegColor, JpegDecode, JpegRequest, JpegScale};
pub use mix::{cutmix, mixup, one_hot, one_hot_row};
pub use pixels::Pixel;
pub use resize::Filter;
pub use transform::{ImageTransform, RandomErasing, RandomResizedCrop};

use crate::error::{Error, ErrorKind, Result};

/// The mean of ImageNet's training images, red, green and blue, in `[0, 1]`: the field's standard values.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// A decoded image: `u8`, `(height, width, channels)`, with one channel (grey) or three (red, green, blue).
///
/// # Examples
///
/// ```
/// use procession::image::{Filter, Image};
///
/// let image = Image::new(2, 3, 1, vec![0, 1, 2, 3, 4, 5])?;
/// assert_eq!(image.clone().flip_horizontal().pixels(), [2, 1, 0, 5, 4, 3]);
/// assert_eq!(image.crop(1, 0, 1, 2)?.pixels(), [3, 4]);
/// assert_eq!(image.resize(4, 6, Filter::Bilinear)?.pixels().len(), 24);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    // Invariant: none of the extents is 0, and `pixels` holds their product.
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// An image of these pixels, row by row, the channels of a pixel side by side.
    ///
    /// # Errors
    ///
    /// Of kind [`Shape`](ErrorKind::Shape) if there are not as many pixels as the shape says, an extent is 0, or there are
    /// neither one nor three channels.
    pub fn new(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let len = height.checked_mul(width).and_then(|len| len.checked_mul(channels));
        if !matches!(channels, 1 | 3) || len != Some(pixels.len()) || pixels.is_empty() {
            let message = format!(
                "{} bytes for an image of ({height}, {width}, {channels}), expected as many as the product, \
                 not 0, and 1 or 3 channels",
                pixels.len()
            );
            return Err(Error::new(ErrorKind::Shape, message));
        }
        Ok(Self { height, width, channels, pixels })
    }

    /// An image of an array `(height, width, channels)`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_array(array: &Array3<u8>) -> Result<Self> {
        let (height, width, channels) = array.dim();
        Self::new(height, width, channels, array.iter().copied().collect())
    }

    /// An image of one colour.
    pub(crate) fn filled(height: usize, width: usize, channels: usize, value: u8) -> Self {
        Self { height, width, channels, pixels: vec![value; height * width * channels] }
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// 1 for a grey image, 3 for one of red, green and blue.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The pixels, row by row, the channels of a pixel side by side.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The array `(height, width, channels)`, without a copy.
    pub fn into_array(self) -> Array3<u8> {
        let shape = (self.height, self.width, self.channels);
        Array3::from_shape_vec(shape, self.pixels).expect("there are as many pixels as the shape says")
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { height, width, channels, .. } = self;
        f.debug_struct("Image").field("shape", &(height, width, channels)).finish_non_exhaustive()
    }
}
