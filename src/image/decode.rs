//! The bytes of an image file to pixels.
//!
//! What is not decoded before it is checked: the extents, against a number of pixels and a number of bytes, so that a
//! small file cannot ask for more memory than is allowed.

use std::fmt;
use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, ImageDecoder, ImageReader};
use ndarray::Array3;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::color::{drop_alpha, luma};
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
    /// Tagged Image File Format; the first page counts.
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
/// it hides; palettes are looked up; CMYK becomes RGB without a profile; 16 bits become 8 by division by 257, rounded.
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
    grey: bool,
    orient: bool,
    lenient: bool,
    limit_pixels: u64,
    limit_bytes: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl DecodeOptions {
    /// Red, green and blue; at most 2^27 pixels and 1 GiB.
    pub const fn new() -> Self {
        Self { grey: false, orient: true, lenient: false, limit_pixels: 1 << 27, limit_bytes: 1 << 30 }
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

    /// Decodes an image.
    ///
    /// # Errors
    ///
    /// With the file: of kind [`Format`](ErrorKind::Format) if it is of no known format, is damaged or cut off;
    /// [`Limit`](ErrorKind::Limit) if it has more pixels or would take more memory than allowed.
    pub fn decode(&self, file: &Blob) -> Result<Image> {
        self.decode_bytes(file.bytes()).map_err(|error| error.with_file(file.name()))
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

    fn decode_bytes(&self, bytes: &[u8]) -> Result<Image> {
        let format = format_of(bytes)?;
        guarded(format_args!("the {format} image"), || match format {
            ImageFormat::Jpeg => self.decode_jpeg(bytes),
            _ => self.decode_other(bytes, format),
        })
    }

    fn info_of_bytes(&self, bytes: &[u8]) -> Result<ImageInfo> {
        let format = format_of(bytes)?;
        guarded(format_args!("the {format} image"), || {
            let (width, height, orientation) = match format {
                ImageFormat::Jpeg => {
                    let (decoder, (width, height)) = self.jpeg_header(bytes)?;
                    (width, height, self.orientation_of_exif(decoder.exif()))
                }
                _ => {
                    let mut decoder = self.other_header(bytes, format)?;
                    let (width, height) = decoder.dimensions();
                    (width as usize, height as usize, self.orientation_of(&mut decoder))
                }
            };
            let turned = matches!(
                orientation,
                Orientation::Rotate90
                    | Orientation::Rotate270
                    | Orientation::Rotate90FlipH
                    | Orientation::Rotate270FlipH
            );
            let (height, width) = if turned { (width, height) } else { (height, width) };
            Ok(ImageInfo { format, height, width })
        })
    }

    fn check(&self, width: usize, height: usize, bytes_per_pixel: u64) -> Result<()> {
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

    fn jpeg_header<'a>(&self, bytes: &'a [u8]) -> Result<(JpegDecoder<ZCursor<&'a [u8]>>, Extents)> {
        // The format's own largest extent; the limit in pixels is checked below, before anything is allocated.
        let most = usize::from(u16::MAX);
        let color = if self.grey { ColorSpace::Luma } else { ColorSpace::RGB };
        let options = DecoderOptions::default()
            .set_max_width(most)
            .set_max_height(most)
            .set_strict_mode(!self.lenient)
            .jpeg_set_out_colorspace(color);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(|cause| damaged(ImageFormat::Jpeg, format!("{cause:?}")))?;
        let (width, height) =
            decoder.dimensions().ok_or_else(|| damaged(ImageFormat::Jpeg, "no frame header".to_owned()))?;
        // A progressive image keeps the coefficients of all of its components until the last scan, two bytes each.
        self.check(width, height, 3 + 2 * 4)?;
        Ok((decoder, (width, height)))
    }

    fn decode_jpeg(&self, bytes: &[u8]) -> Result<Image> {
        let (mut decoder, (width, height)) = self.jpeg_header(bytes)?;
        // Grey from four colours is not what the decoder can do by itself.
        let four_colours = matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK));
        if four_colours && self.grey {
            let colour = Self { grey: false, ..*self }.decode_jpeg(bytes)?;
            return Ok(luma(&colour));
        }
        let pixels = decoder.decode().map_err(|cause| damaged(ImageFormat::Jpeg, format!("{cause:?}")))?;
        if !self.lenient && !ends(bytes) {
            return Err(damaged(ImageFormat::Jpeg, "cut off: no end marker after the image's data"));
        }
        let image = Image::new(height, width, self.channels(), pixels)?;
        Ok(turn(image, self.orientation_of_exif(decoder.exif())))
    }

    fn orientation_of_exif(&self, exif: Option<&Vec<u8>>) -> Orientation {
        let exif = exif.filter(|_| self.orient);
        exif.and_then(|exif| Orientation::from_exif_chunk(exif)).unwrap_or(Orientation::NoTransforms)
    }

    /// A damaged note of the orientation is none: nothing else in the file depends on it.
    fn orientation_of(&self, decoder: &mut impl ImageDecoder) -> Orientation {
        if self.orient { decoder.orientation().unwrap_or(Orientation::NoTransforms) } else { Orientation::NoTransforms }
    }

    fn other_header<'a>(&self, bytes: &'a [u8], format: ImageFormat) -> Result<impl ImageDecoder + use<'a>> {
        match format {
            ImageFormat::Tiff => claims::check_tags(bytes)?,
            // The size of the image is not known yet.
            ImageFormat::WebP => claims::check_frames(bytes, usize::MAX, usize::MAX)?,
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
        Ok(turn(image, orientation))
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

fn turn(image: Image, orientation: Orientation) -> Image {
    match orientation {
        Orientation::NoTransforms => image,
        Orientation::Rotate90 => image.transpose().flip_horizontal(),
        Orientation::Rotate180 => image.flip_vertical().flip_horizontal(),
        Orientation::Rotate270 => image.transpose().flip_vertical(),
        Orientation::FlipHorizontal => image.flip_horizontal(),
        Orientation::FlipVertical => image.flip_vertical(),
        Orientation::Rotate90FlipH => image.transpose(),
        Orientation::Rotate270FlipH => image.transpose().flip_horizontal().flip_vertical(),
    }
}

/// Whether there is an end marker after the first scan has begun. The decoder does not notice when the last line of blocks
/// is cut off. The data of a scan never contain the marker; what stands before it may, in a thumbnail.
fn ends(jpeg: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        // Fill bytes may stand before a marker.
        if marker == 0xff {
            at += 1;
            continue;
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            break;
        }
    }
    jpeg.get(at..).is_some_and(|data| data.windows(2).rev().any(|marker| marker == [0xff, 0xd9]))
}

/// Width and height.
type Extents = (usize, usize);

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
    /// without regard to the aspect ratio.
    ///
    /// # Errors
    ///
    /// As [`DecodeOptions::decode`] and [`Image::resize`].
    pub fn decode_rgb8(&self, height: usize, width: usize) -> Result<Array3<u8>> {
        let image = DecodeOptions::new().decode(self)?;
        Ok(image.resize(height, width, Filter::Bilinear)?.into_array())
    }
}
