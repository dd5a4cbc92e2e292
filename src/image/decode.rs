//! The bytes of an image file to pixels.
//!
//! What is not decoded before it is checked: the extents, against a number of pixels and a number of bytes, so that a
//! small file cannot ask for more memory than is allowed.

use std::fmt;
use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, ImageDecoder, ImageReader};
use ndarray::Array3;

use super::color::{drop_alpha, luma};
use super::jpeg::{JpegDecode, JpegScale, Plugged};
use super::resize::{Area, Cut, check_extents};
use super::{Filter, Image, claims};
use crate::error::{BoxError, Error, ErrorKind, Result, guarded};
use crate::source::Blob;

/// The format of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageFormat {
    /// JPEG, ITU-T T.81.
    Jpeg,
    /// Portable Network Graphics.
    Png,
    /// Graphics Interchange Format; the first frame counts.
    Gif,
    /// WebP, lossy or lossless.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// Tagged Image File Format; the first page counts. Not read if it is compressed as JPEG.
    Tiff,
    /// Portable bitmap, graymap or pixmap: PBM, PGM, PPM.
    Pnm,
}

impl ImageFormat {
    /// What the names of image files end in, in lower case.
    pub const EXTENSIONS: [&str; 13] = crate::source::IMAGE_EXTENSIONS;

    /// The format that the first bytes tell.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            [b'G', b'I', b'F', b'8', ..] => Self::Gif,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Self::WebP,
            [b'B', b'M', ..] => Self::Bmp,
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Self::Tiff,
            [b'P', b'1'..=b'6', ..] => Self::Pnm,
            _ => return None,
        })
    }

    fn of_other(self) -> ::image::ImageFormat {
        match self {
            Self::Jpeg => ::image::ImageFormat::Jpeg,
            Self::Png => ::image::ImageFormat::Png,
            Self::Gif => ::image::ImageFormat::Gif,
            Self::WebP => ::image::ImageFormat::WebP,
            Self::Bmp => ::image::ImageFormat::Bmp,
            Self::Tiff => ::image::ImageFormat::Tiff,
            Self::Pnm => ::image::ImageFormat::Pnm,
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Pnm => "PNM",
        })
    }
}

/// A part of an image, in pixels of the whole, upright, and the size that it is to have.
pub(super) struct Part {
    pub(super) area: Area,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// A decoded image, upright, at a scale, and where the first row and column of the whole begin in it: a last row that is
/// partly beyond the whole is the first one after a turn.
pub(super) struct Decoded {
    pub(super) image: Image,
    pub(super) scale: JpegScale,
    pub(super) top: f64,
    pub(super) left: f64,
}

/// What the header of an image file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// The format.
    pub format: ImageFormat,
    /// The number of rows, with the orientation applied.
    pub height: usize,
    /// The number of pixels in a row, with the orientation applied.
    pub width: usize,
}

/// How image files are decoded: to how many channels, and how much memory that may take.
///
/// Colour becomes grey as in Pillow: `(19595 R + 38470 G + 7471 B + 32768) / 65536`. An alpha channel is dropped, whatever
/// it hides; palettes are looked up; CMYK becomes RGB without a profile; 16 bits become 8 by division by 257, rounded; floats
/// (in TIFF) are 0 to 1, and what is beyond is cut off there.
/// The orientation that the camera noted (EXIF) is applied.
///
/// # Examples
///
/// ```
/// use procession::image::DecodeOptions;
/// use procession::source::Blob;
///
/// let file = Blob::new(&b"P3 2 1 255  255 0 0  0 0 255"[..], "two.ppm");
/// let image = DecodeOptions::new().decode(&file)?;
/// assert_eq!((image.height(), image.width(), image.pixels()), (1, 2, &[255, 0, 0, 0, 0, 255][..]));
/// let grey = DecodeOptions::new().grey(true).decode(&file)?;
/// assert_eq!(grey.pixels(), [76, 29]);
/// assert!(DecodeOptions::new().limit_pixels(1).decode(&file).is_err());
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    pub(super) grey: bool,
    pub(super) orient: bool,
    pub(super) lenient: bool,
    limit_pixels: u64,
    limit_bytes: u64,
    pub(super) jpeg: Plugged,
    // 0: never.
    pub(super) reduced: u32,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl DecodeOptions {
    /// Red, green and blue; at most 2^27 pixels and 1 GiB.
    pub const fn new() -> Self {
        Self {
            grey: false,
            orient: true,
            lenient: false,
            limit_pixels: 1 << 27,
            limit_bytes: 1 << 30,
            jpeg: Plugged::NONE,
            reduced: 0,
        }
    }

    /// Whether to decode to one channel, grey. The default is `false`: three channels.
    pub const fn grey(mut self, grey: bool) -> Self {
        self.grey = grey;
        self
    }

    /// Whether to turn the image as the camera was held (EXIF). The default is `true`.
    pub const fn orient(mut self, orient: bool) -> Self {
        self.orient = orient;
        self
    }

    /// Whether a JPEG that ends early or is damaged in its middle gives what can be decoded, with the rest in grey,
    /// instead of an error. The default is `false`. Has no effect on other formats.
    ///
    /// Also without it not all damage is an error: data may change and still be data, with other pixels. Checksums of files
    /// tell that, which the format does not have. A sequential JPEG that misses a part of its data is always an error;
    /// of a progressive one only the end marker is asked for.
    pub const fn lenient(mut self, lenient: bool) -> Self {
        self.lenient = lenient;
        self
    }

    /// The largest number of pixels. The default is 2^27, 134 million.
    pub const fn limit_pixels(mut self, limit_pixels: u64) -> Self {
        self.limit_pixels = limit_pixels;
        self
    }

    /// The most memory that decoding may take, about, in bytes. The default is 1 GiB.
    pub const fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Puts another decoder of JPEG files in the place of `zune-jpeg`, which is the default. It decides which pixels come
    /// out, by a few of 255, and which damage it notices; limits, orientation and inks are the same for all. Has no effect
    /// on other formats.
    ///
    /// The crate `procession-turbojpeg`, in the folder `turbo` of this crate's repository, has libjpeg-turbo for it.
    pub const fn jpeg_decoder(mut self, decoder: &'static dyn JpegDecode) -> Self {
        self.jpeg = Plugged::new(decoder);
        self
    }

    /// Decodes a JPEG that is to be resized right away at 1/2, 1/4 or 1/8 of its size, which is faster and gives other
    /// pixels: the smallest of these at which both sides are still at least `margin` times as long as what they become.
    /// If none is, the whole image is decoded. The default is 0: never. Sides are compared as they are after the
    /// orientation is applied, before the reduced ones are rounded.
    ///
    /// Has an effect in [`decode_resized`](Self::decode_resized) and where the first step of an
    /// [`ImageTransform`](super::ImageTransform) is `resize`, `resize_shorter`, `resize_shorter_within` or
    /// `random_resized_crop`, whose part is drawn as ever, in pixels of the whole, and whose sides then count; and only with
    /// a [`jpeg_decoder`](Self::jpeg_decoder) that has such scales, which `zune-jpeg` has not. It helps where photographs are
    /// at least `2 * margin` times as large as what they become, and not at all where they are smaller.
    ///
    /// A margin of 1 is that of Pillow's `draft`; with 2, as in Pillow's `thumbnail`, the resizer still has two pixels or
    /// more for each that it makes. What that did with libjpeg-turbo and a bilinear filter, beside decoding at full size:
    ///
    /// | photographs | margin | reduced | values of these differ by (mean, most, more than 8) | time |
    /// |---|---|---|---|---|
    /// | 500 of about 500 x 375, to 200 x 200 | 2 | 5 | 0.4, 10, 0.001 % | as before |
    /// | | 1 | 90 | 1.3, 58, 1.8 % | about 0.9 |
    /// | 40 of about 2,000 x 1,500 (enlarged), to 224 x 224 | 2 | all | 0.2, 6, none | 0.66 |
    /// | | 1 | all | 0.5, 34, 0.07 % | 0.57 |
    ///
    /// Times are those of the loader, on a machine with other work. What is left of them goes into reading the codes, which has
    /// to be done at any scale.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::image::{DecodeOptions, JpegDecode};
    ///
    /// /// Decodes at half the size at least where both sides are four times as long as what they become.
    /// fn fast(decoder: &'static dyn JpegDecode) -> DecodeOptions {
    ///     DecodeOptions::new().jpeg_decoder(decoder).reduced(2)
    /// }
    /// ```
    pub const fn reduced(mut self, margin: u32) -> Self {
        self.reduced = margin;
        self
    }

    /// Decodes an image.
    ///
    /// # Errors
    ///
    /// With the file: of kind [`Format`](ErrorKind::Format) if it is of no known format, is damaged or cut off;
    /// [`Limit`](ErrorKind::Limit) if it has more pixels or would take more memory than allowed.
    pub fn decode(&self, file: &Blob) -> Result<Image> {
        let decoded = self.decode_bytes(file.bytes(), |_, _| JpegScale::Full);
        Ok(decoded.map_err(|error| error.with_file(file.name()))?.image)
    }

    /// Decodes an image and resizes it, without regard to the aspect ratio: [`decode`](Self::decode) and
    /// [`Image::resize`], but at a reduced scale if that is wanted ([`reduced`](Self::reduced)).
    ///
    /// # Errors
    ///
    /// As these two.
    pub fn decode_resized(&self, file: &Blob, height: usize, width: usize, filter: Filter) -> Result<Image> {
        check_extents(height, width)?;
        self.decode_part(file, filter, |rows, columns| Part { area: Area::whole(rows, columns), height, width })
    }

    /// What the header says; nothing more is decoded.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode), as far as the header tells.
    pub fn info(&self, file: &Blob) -> Result<ImageInfo> {
        self.info_of_bytes(file.bytes()).map_err(|error| error.with_file(file.name()))
    }

    pub(super) fn channels(&self) -> usize {
        if self.grey { 1 } else { 3 }
    }

    /// Whether an image that is to be resized may be decoded at a reduced scale.
    pub(super) fn reduces(&self) -> bool {
        self.reduced > 0 && self.jpeg.get().is_some()
    }

    /// Decodes an image and resizes a part of it, which is chosen by the height and the width of the whole, upright.
    pub(super) fn decode_part(
        &self,
        file: &Blob,
        filter: Filter,
        choose: impl FnOnce(usize, usize) -> Part,
    ) -> Result<Image> {
        let mut part = None;
        let decoded = self.decode_bytes(file.bytes(), |height, width| {
            let chosen = part.insert(choose(height, width));
            self.scale_for(chosen)
        });
        let Decoded { image, scale, top, left } = decoded.map_err(|error| error.with_file(file.name()))?;
        let Part { area, height, width } = part.expect("whatever is decoded was asked for its scale");
        image.resize_area(Cut::reduced(area, scale, top, left), height, width, filter)
    }

    /// The smallest scale at which the sides of a part are long enough, of those that the decoder has.
    fn scale_for(&self, part: &Part) -> JpegScale {
        let Some(decoder) = self.jpeg.get().filter(|_| self.reduced > 0) else { return JpegScale::Full };
        let fits = |scale: JpegScale| {
            let long_enough =
                |from: usize, to: usize| from as f64 >= to as f64 * f64::from(self.reduced) * scale.divisor() as f64;
            long_enough(part.area.height, part.height) && long_enough(part.area.width, part.width)
        };
        let scales = [JpegScale::Eighth, JpegScale::Quarter, JpegScale::Half];
        scales.into_iter().find(|&scale| fits(scale) && decoder.has_scale(scale)).unwrap_or(JpegScale::Full)
    }

    /// Decodes at a scale that is chosen by the height and the width, upright; what is no JPEG at its full size.
    fn decode_bytes(&self, bytes: &[u8], scale: impl FnOnce(usize, usize) -> JpegScale) -> Result<Decoded> {
        let format = format_of(bytes)?;
        guarded(format_args!("the {format} image"), || match format {
            ImageFormat::Jpeg => self.decode_jpeg(bytes, scale),
            _ => {
                let image = self.decode_other(bytes, format)?;
                scale(image.height, image.width);
                Ok(Decoded { image, scale: JpegScale::Full, top: 0.0, left: 0.0 })
            }
        })
    }

    fn info_of_bytes(&self, bytes: &[u8]) -> Result<ImageInfo> {
        let format = format_of(bytes)?;
        guarded(format_args!("the {format} image"), || {
            let (width, height, orientation) = match format {
                ImageFormat::Jpeg => {
                    let outline = self.jpeg_outline(bytes)?;
                    let decoder = self.jpeg_header(bytes, &outline)?;
                    (outline.width, outline.height, self.orientation_of_exif(decoder.exif()))
                }
                _ => {
                    let mut decoder = self.other_header(bytes, format)?;
                    let (width, height) = decoder.dimensions();
                    (width as usize, height as usize, self.orientation_of(&mut decoder))
                }
            };
            let (height, width) = Turn::of(orientation).upright(height, width);
            Ok(ImageInfo { format, height, width })
        })
    }

    pub(super) fn check(&self, width: usize, height: usize, bytes_per_pixel: u64) -> Result<()> {
        let pixels = width as u64 * height as u64;
        if pixels == 0 {
            return Err(Error::new(ErrorKind::Format, format!("an image of {width} x {height} pixels, expected some")));
        }
        if pixels > self.limit_pixels {
            let message = format!("{width} x {height} pixels, the limit is {} pixels", self.limit_pixels);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let bytes = pixels.saturating_mul(bytes_per_pixel);
        if bytes > self.limit_bytes {
            let message = format!("{width} x {height} pixels take {bytes} bytes, the limit is {}", self.limit_bytes);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(())
    }

    pub(super) fn orientation_of_exif(&self, exif: Option<&Vec<u8>>) -> Orientation {
        let exif = exif.filter(|_| self.orient);
        exif.and_then(|exif| Orientation::from_exif_chunk(exif)).unwrap_or(Orientation::NoTransforms)
    }

    /// A damaged note of the orientation is none: nothing else in the file depends on it.
    fn orientation_of(&self, decoder: &mut impl ImageDecoder) -> Orientation {
        if self.orient { decoder.orientation().unwrap_or(Orientation::NoTransforms) } else { Orientation::NoTransforms }
    }

    fn other_header<'a>(&self, bytes: &'a [u8], format: ImageFormat) -> Result<impl ImageDecoder + use<'a>> {
        let bytes = if format == ImageFormat::WebP { claims::container(bytes) } else { bytes };
        match format {
            ImageFormat::Tiff => claims::check_tags(bytes, self.limit_bytes)?,
            // The size of the image is not known yet.
            ImageFormat::WebP => claims::check_frames(bytes, usize::MAX, usize::MAX)?,
            ImageFormat::Gif => {
                if let Some((width, height)) = claims::first_frame(bytes) {
                    self.check(width, height, 4 + 3)?;
                }
            }
            _ => {}
        }
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format.of_other());
        let mut limits = ::image::Limits::no_limits();
        limits.max_alloc = Some(self.limit_bytes);
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|cause| other_error(format, cause))?;
        let (width, height) = decoder.dimensions();
        self.check(width as usize, height as usize, u64::from(decoder.color_type().bytes_per_pixel()) + 3)?;
        if format == ImageFormat::WebP {
            claims::check_frames(bytes, width as usize, height as usize)?;
        }
        Ok(decoder)
    }

    fn decode_other(&self, bytes: &[u8], format: ImageFormat) -> Result<Image> {
        let mut decoder = self.other_header(bytes, format)?;
        let orientation = self.orientation_of(&mut decoder);
        let decoded = DynamicImage::from_decoder(decoder).map_err(|cause| other_error(format, cause))?;
        let image = eight_bits(decoded)?;
        let image = match (self.grey, image.channels) {
            (true, 3) => luma(&image),
            (false, 1) => image.to_rgb(),
            _ => image,
        };
        Ok(Turn::of(orientation).apply(image))
    }
}

/// Grey or red, green and blue, eight bits each.
fn eight_bits(decoded: DynamicImage) -> Result<Image> {
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let (channels, pixels) = match decoded {
        DynamicImage::ImageLuma8(image) => (1, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (3, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (1, drop_alpha(&image.into_raw(), 1)),
        DynamicImage::ImageRgba8(image) => (3, drop_alpha(&image.into_raw(), 3)),
        other => match other.color() {
            ColorType::L16 => (1, other.into_luma8().into_raw()),
            ColorType::La16 => (1, drop_alpha(&other.into_luma_alpha8().into_raw(), 1)),
            ColorType::Rgb16 | ColorType::Rgb32F => (3, other.into_rgb8().into_raw()),
            _ => (3, drop_alpha(&other.into_rgba8().into_raw(), 3)),
        },
    };
    Image::new(height, width, channels, pixels)
}

/// What an image is to be done to stand upright: rows and columns change places, and then it is mirrored.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    transposed: bool,
    /// Top and bottom change places.
    pub(super) upside_down: bool,
    /// Left and right change places.
    pub(super) mirrored: bool,
}

impl Turn {
    pub(super) fn of(orientation: Orientation) -> Self {
        let (transposed, upside_down, mirrored) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate270 => (true, true, false),
            Orientation::FlipHorizontal => (false, false, true),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        Self { transposed, upside_down, mirrored }
    }

    /// The extents of the upright image.
    pub(super) fn upright(self, height: usize, width: usize) -> (usize, usize) {
        if self.transposed { (width, height) } else { (height, width) }
    }

    pub(super) fn apply(self, mut image: Image) -> Image {
        if self.transposed {
            image = image.transpose();
        }
        if self.upside_down {
            image = image.flip_vertical();
        }
        if self.mirrored {
            image = image.flip_horizontal();
        }
        image
    }
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat> {
    ImageFormat::of(bytes).ok_or_else(|| {
        let start = &bytes[..bytes.len().min(4)];
        let message = if bytes.is_empty() {
            "an empty file, expected an image".to_owned()
        } else {
            format!("first bytes {start:02x?} of no known image format")
        };
        Error::new(ErrorKind::Format, message)
    })
}

pub(super) fn damaged(format: ImageFormat, cause: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Format, format!("damaged {format} image")).with_cause(cause)
}

fn other_error(format: ImageFormat, cause: ::image::ImageError) -> Error {
    match cause {
        ::image::ImageError::Limits(cause) => {
            Error::new(ErrorKind::Limit, format!("{format} image that is too large")).with_cause(cause)
        }
        cause => damaged(format, cause),
    }
}

impl Blob {
    /// Decodes an image to red, green and blue, and resizes it: `u8`, `(height, width, 3)`. Bilinear, with antialiasing,
    /// without regard to the aspect ratio. With other options it is [`DecodeOptions::decode_resized`].
    ///
    /// # Errors
    ///
    /// As [`DecodeOptions::decode`] and [`Image::resize`].
    pub fn decode_rgb8(&self, height: usize, width: usize) -> Result<Array3<u8>> {
        Ok(DecodeOptions::new().decode_resized(self, height, width, Filter::Bilinear)?.into_array())
    }
}
