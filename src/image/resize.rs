//! Resizing with antialiasing, as Pillow does it.

use std::cell::RefCell;

use fast_image_resize::images::{CroppedImage, Image as Target, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::Image;
use super::jpeg::JpegScale;
use crate::error::{Error, ErrorKind, Result};

/// The largest extent of an image that is made.
pub(super) const MAX_EXTENT: usize = 1 << 16;

/// How pixels are weighted when an image is resized. All but `Nearest` widen when an image becomes smaller
/// (antialiasing). The weights are Pillow's. Nearest is equal to Pillow's, bilinear and bicubic within 1 of 255; of the others
/// single bytes differ by more, with `Box` whole lines where the edge of a new pixel falls on the middle of an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Filter {
    /// The nearest pixel alone; not antialiased.
    Nearest,
    /// The mean of the pixels that a new one covers.
    Box,
    /// A triangle: the default of most training pipelines.
    #[default]
    Bilinear,
    /// A Hamming window: as fast as bilinear, sharper when an image becomes smaller.
    Hamming,
    /// A cubic, `a = -0.5` (Catmull-Rom).
    Bicubic,
    /// A windowed sinc of three lobes.
    Lanczos,
}

impl Filter {
    fn algorithm(self) -> ResizeAlg {
        match self {
            Self::Nearest => ResizeAlg::Nearest,
            Self::Box => ResizeAlg::Convolution(FilterType::Box),
            Self::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            Self::Hamming => ResizeAlg::Convolution(FilterType::Hamming),
            Self::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Self::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
        }
    }
}

/// The pixels that are widened to 16 bits at once, about: few enough to stay in a cache.
const BAND_PIXELS: usize = 1 << 16;

/// A part of an image, in pixels of that image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Area {
    pub(super) fn whole(height: usize, width: usize) -> Self {
        Self { top: 0, left: 0, height, width }
    }
}

/// A part of an image that may begin and end within a pixel: the pixels that it touches, and where it lies in them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    touched: Area,
    top: f64,
    left: f64,
    height: f64,
    width: f64,
}

impl From<Area> for Cut {
    fn from(area: Area) -> Self {
        Self { touched: area, top: 0.0, left: 0.0, height: area.height as f64, width: area.width as f64 }
    }
}

impl Cut {
    /// A part of the image at a smaller scale, in which the whole begins at `top` and `left`. Exact: divisors are powers of
    /// two.
    pub(super) fn reduced(area: Area, scale: JpegScale, top: f64, left: f64) -> Self {
        let by = |extent: usize| extent as f64 / scale.divisor() as f64;
        // From the first pixel that it touches to the last, and what of the first is not its own.
        let side = |start: f64, len: f64| {
            let first = start.floor();
            (first as usize, ((start + len).ceil() - first) as usize, start - first)
        };
        let (height, width) = (by(area.height), by(area.width));
        let (first_row, num_rows, top) = side(by(area.top) + top, height);
        let (first_column, num_columns, left) = side(by(area.left) + left, width);
        let touched = Area { top: first_row, left: first_column, height: num_rows, width: num_columns };
        Self { touched, top, left, height, width }
    }
}

thread_local! {
    // Its buffers are as large as a column of the result: kept, nothing is allocated for a sample.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

impl Image {
    /// This image in another size, without regard to the aspect ratio.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if an extent is 0 or above 65,536.
    pub fn resize(&self, height: usize, width: usize, filter: Filter) -> Result<Self> {
        self.resize_area(self.whole(), height, width, filter)
    }

    pub(super) fn whole(&self) -> Area {
        Area::whole(self.height, self.width)
    }

    /// A part of this image in another size, as if the part was all there is.
    pub(super) fn resize_area(
        &self,
        part: impl Into<Cut>,
        height: usize,
        width: usize,
        filter: Filter,
    ) -> Result<Self> {
        check_extents(height, width)?;
        let part = part.into();
        if part == self.whole().into() && (height, width) == (self.height, self.width) {
            return Ok(self.clone());
        }
        let mut image = Self::filled(height, width, self.channels, 0);
        self.resize_into(part, height, width, filter, &mut image.pixels)?;
        Ok(image)
    }

    /// Writes a part of this image in another size to as many bytes as that has.
    fn resize_into(&self, part: Cut, height: usize, width: usize, filter: Filter, out: &mut [u8]) -> Result<()> {
        let Cut { touched: area, .. } = part;
        if matches!(filter, Filter::Nearest | Filter::Bilinear) {
            let pixel = if self.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
            let from = ImageRef::new(self.width as u32, self.height as u32, &self.pixels, pixel).map_err(failed)?;
            let [top, left, rows, columns] = [area.top, area.left, area.height, area.width].map(|extent| extent as u32);
            let touched = CroppedImage::new(&from, left, top, columns, rows).map_err(failed)?;
            let mut to = Target::from_slice_u8(width as u32, height as u32, out, pixel).map_err(failed)?;
            return convolve(&touched, part, &mut to, filter);
        }
        // The resizer takes the columns first, Pillow the rows, and both round to bytes in between. With weights below 0
        // that can make a difference of more than 1, and so can the short weights that the resizer has for bytes: each
        // direction by itself then, and with the weights that it has for 16 bits. Rows are independent of each other, so
        // that only some of them are in 16 bits at a time.
        let mut narrow = Self::filled(area.height, width, self.channels, 0);
        let band_height = (BAND_PIXELS / area.width).max(1);
        let bands = narrow.pixels.chunks_mut(band_height * width * self.channels);
        for (top, out) in (0..area.height).step_by(band_height).zip(bands) {
            let height = band_height.min(area.height - top);
            let touched = Area { top: area.top + top, height, ..area };
            let band = Cut { touched, top: 0.0, height: height as f64, ..part };
            self.convolve_finely(band, (out, height, width), filter)?;
        }
        let all = Cut { touched: narrow.whole(), left: 0.0, width: width as f64, ..part };
        narrow.convolve_finely(all, (out, height, width), filter)
    }

    fn convolve_finely(
        &self,
        part: Cut,
        (out, height, width): (&mut [u8], usize, usize),
        filter: Filter,
    ) -> Result<()> {
        let area = part.touched;
        let pixel = if self.channels == 1 { PixelType::U16 } else { PixelType::U16x3 };
        let mut wide = Target::new(area.width as u32, area.height as u32, pixel);
        let (start, len) = (area.left * self.channels, area.width * self.channels);
        let rows = self.pixels.chunks_exact(self.width * self.channels).skip(area.top);
        for (wide, row) in wide.buffer_mut().chunks_exact_mut(2 * len).zip(rows) {
            // Both bytes alike: 255 is 65,535.
            for (wide, &byte) in wide.as_chunks_mut::<2>().0.iter_mut().zip(&row[start..start + len]) {
                *wide = [byte; 2];
            }
        }
        let mut wide_out = Target::new(width as u32, height as u32, pixel);
        convolve(&wide, part, &mut wide_out, filter)?;
        for (byte, wide) in out.iter_mut().zip(wide_out.buffer().as_chunks().0) {
            *byte = ((u32::from(u16::from_ne_bytes(*wide)) + 128) / 257) as u8;
        }
        Ok(())
    }
}

/// The size of an image of `height` x `width` whose shorter edge is to become `size`, and the longer one in proportion, as
/// torchvision rounds it: `size * longer / shorter`, downwards. If the longer edge would then be above `max_size`, it
/// becomes `max_size`, and the shorter one `max_size * shorter / longer`.
pub(super) fn shorter_edge(height: usize, width: usize, size: usize, max_size: Option<usize>) -> (usize, usize) {
    let (short, long) = (height.min(width), height.max(width));
    // The operands are below 2^17: the products fit in 64 bits, on all machines.
    let scaled = |to: usize, by: usize, of: usize| (to as u64 * by as u64 / of as u64).max(1) as usize;
    let (mut new_short, mut new_long) = (size, scaled(size, long, short));
    if let Some(max_size) = max_size.filter(|&max_size| new_long > max_size) {
        (new_short, new_long) = (scaled(max_size, new_short, new_long), max_size);
    }
    if height <= width { (new_short, new_long) } else { (new_long, new_short) }
}

/// Resizes a part of an image, of which there is no more than it touches, to another one of the same type of pixels.
fn convolve(from: &impl IntoImageView, part: Cut, to: &mut Target<'_>, filter: Filter) -> Result<()> {
    let Cut { top, left, height, width, .. } = part;
    let options = ResizeOptions::new().resize_alg(filter.algorithm()).use_alpha(false).crop(left, top, width, height);
    RESIZER.with_borrow_mut(|resizer| resizer.resize(from, to, &options)).map_err(failed)
}

fn failed(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Shape, "an image cannot be resized").with_cause(cause.to_string())
}

pub(super) fn check_extents(height: usize, width: usize) -> Result<()> {
    if (1..=MAX_EXTENT).contains(&height) && (1..=MAX_EXTENT).contains(&width) {
        return Ok(());
    }
    let message = format!("an image of {height} x {width} pixels, expected 1 to {MAX_EXTENT} each");
    Err(Error::argument(message))
}
