//! Where pixels stand: cropping, padding, flips, rotation.

use super::resize::check_extents;
use super::{Filter, Image};
use crate::error::{Error, ErrorKind, Result};

impl Image {
    /// A part of this image.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if it is empty or reaches beyond the image.
    pub fn crop(&self, top: usize, left: usize, height: usize, width: usize) -> Result<Self> {
        let inside = |start: usize, len: usize, all: usize| start.checked_add(len).is_some_and(|end| end <= all);
        if height == 0 || width == 0 || !inside(top, height, self.height) || !inside(left, width, self.width) {
            let message = format!(
                "a part of {height} x {width} at ({top}, {left}) of an image of {} x {}, expected one inside",
                self.height, self.width
            );
            return Err(Error::new(ErrorKind::Argument, message));
        }
        let rows = self.pixels.chunks_exact(self.width * self.channels).skip(top).take(height);
        let (start, len) = (left * self.channels, width * self.channels);
        // Of the exact size: what is cut out may be kept for long.
        let mut pixels = Vec::with_capacity(height * len);
        rows.for_each(|row| pixels.extend_from_slice(&row[start..start + len]));
        Ok(Self { height, width, channels: self.channels, pixels })
    }

    /// This image with a border of black pixels: so many above, to the left, below and to the right.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if an extent is then above 65,536.
    pub fn pad(&self, [top, left, bottom, right]: [usize; 4]) -> Result<Self> {
        let height = self.height.saturating_add(top).saturating_add(bottom);
        let width = self.width.saturating_add(left).saturating_add(right);
        check_extents(height, width)?;
        let mut padded = Self::filled(height, width, self.channels, 0);
        let row_len = self.width * self.channels;
        let rows = padded.pixels.chunks_exact_mut(width * self.channels).skip(top);
        for (to, from) in rows.zip(self.pixels.chunks_exact(row_len)) {
            to[left * self.channels..][..row_len].copy_from_slice(from);
        }
        Ok(padded)
    }

    /// The middle of this image, with black around it where the image is smaller. An odd pixel is left over above or to
    /// the left if half of the difference, rounded to an even number in case of doubt, says so: as in torchvision.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if an extent is 0 or above 65,536.
    pub fn center_crop(&self, height: usize, width: usize) -> Result<Self> {
        check_extents(height, width)?;
        if height > self.height || width > self.width {
            // Half of what is missing before, the rest, the larger half, behind.
            let missing = |all: usize, has: usize| {
                let missing = all.saturating_sub(has);
                (missing / 2, missing - missing / 2)
            };
            let ((top, bottom), (left, right)) = (missing(height, self.height), missing(width, self.width));
            return self.pad([top, left, bottom, right])?.center_crop(height, width);
        }
        let half = |all: usize, part: usize| ((all - part) as f64 / 2.0).round_ties_even() as usize;
        self.crop(half(self.height, height), half(self.width, width), height, width)
    }

    /// The mirror image: left is right.
    pub fn flip_horizontal(mut self) -> Self {
        for row in self.pixels.chunks_exact_mut(self.width * self.channels) {
            match self.channels {
                1 => row.reverse(),
                _ => row.as_chunks_mut::<3>().0.reverse(),
            }
        }
        self
    }

    /// This image upside down.
    pub fn flip_vertical(mut self) -> Self {
        let row_len = self.width * self.channels;
        let (upper, lower) = self.pixels.split_at_mut(self.height / 2 * row_len);
        for (above, below) in upper.chunks_exact_mut(row_len).zip(lower.chunks_exact_mut(row_len).rev()) {
            above.swap_with_slice(below);
        }
        self
    }

    /// This image with rows for columns.
    pub(super) fn transpose(self) -> Self {
        let (height, width) = (self.width, self.height);
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for row in 0..height {
            for column in 0..width {
                let at = (column * self.width + row) * self.channels;
                pixels.extend_from_slice(&self.pixels[at..at + self.channels]);
            }
        }
        Self { height, width, channels: self.channels, pixels }
    }

    /// This image turned about its middle, counter-clockwise. What comes from outside is of the value `fill`. With
    /// `expand` the result is large enough for all of it, otherwise of the same size.
    ///
    /// As torchvision's `rotate` of a tensor: [`Nearest`](Filter::Nearest) takes the pixel that a point falls in,
    /// [`Bilinear`](Filter::Bilinear) weighs the four around it.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if the angle is not finite, the filter is another one, or the result too
    /// large.
    pub fn rotate(&self, degrees: f64, filter: Filter, expand: bool, fill: u8) -> Result<Self> {
        if !degrees.is_finite() || !matches!(filter, Filter::Nearest | Filter::Bilinear) {
            let message =
                format!("a turn by {degrees} degrees, {filter:?}, expected a number, and Nearest or Bilinear");
            return Err(Error::argument(message));
        }
        let turn = Turn::by(degrees);
        let (height, width) = if expand { turn.bounds(self.height, self.width) } else { (self.height, self.width) };
        check_extents(height, width)?;
        let mut turned = Self::filled(height, width, self.channels, fill);
        let middle = |len: usize| len as f64 / 2.0 - 0.5;
        for (row, out) in turned.pixels.chunks_exact_mut(width * self.channels).enumerate() {
            for (column, out) in out.chunks_exact_mut(self.channels).enumerate() {
                let (dy, dx) = turn.back(row as f64 - middle(height), column as f64 - middle(width));
                let (y, x) = (dy + middle(self.height), dx + middle(self.width));
                match filter {
                    Filter::Nearest => self.nearest(y, x, out),
                    _ => self.bilinear(y, x, fill, out),
                }
            }
        }
        Ok(turned)
    }

    /// The pixel at a place, if it is inside.
    fn pixel(&self, y: f64, x: f64) -> Option<&[u8]> {
        let inside = |at: f64, len: usize| at >= 0.0 && at < len as f64;
        let at = (inside(y, self.height) && inside(x, self.width)).then_some(y as usize * self.width + x as usize)?;
        self.pixels.get(at * self.channels..(at + 1) * self.channels)
    }

    fn nearest(&self, y: f64, x: f64, out: &mut [u8]) {
        if let Some(pixel) = self.pixel(y.round_ties_even(), x.round_ties_even()) {
            out.copy_from_slice(pixel);
        }
    }

    fn bilinear(&self, y: f64, x: f64, fill: u8, out: &mut [u8]) {
        let (top, left) = (y.floor(), x.floor());
        let (below, beside) = (y - top, x - left);
        let around = [
            (self.pixel(top, left), (1.0 - below) * (1.0 - beside)),
            (self.pixel(top, left + 1.0), (1.0 - below) * beside),
            (self.pixel(top + 1.0, left), below * (1.0 - beside)),
            (self.pixel(top + 1.0, left + 1.0), below * beside),
        ];
        for (channel, out) in out.iter_mut().enumerate() {
            let value = |pixel: Option<&[u8]>| f64::from(pixel.map_or(fill, |pixel| pixel[channel]));
            let sum: f64 = around.iter().map(|&(pixel, weight)| weight * value(pixel)).sum();
            *out = sum.round_ties_even() as u8;
        }
    }
}

/// A rotation, counter-clockwise as seen on an image, whose rows go downwards.
struct Turn {
    sin: f64,
    cos: f64,
}

impl Turn {
    fn by(degrees: f64) -> Self {
        // Quarters exactly: the sine of pi is not 0 in floats.
        let quarters = degrees / 90.0;
        if quarters == quarters.trunc() {
            let (sin, cos) = match quarters.rem_euclid(4.0) as u8 {
                0 => (0.0, 1.0),
                1 => (1.0, 0.0),
                2 => (0.0, -1.0),
                _ => (-1.0, 0.0),
            };
            return Self { sin, cos };
        }
        // The same on every machine, which the standard library does not promise.
        let radians = degrees.to_radians();
        Self { sin: libm::sin(radians), cos: libm::cos(radians) }
    }

    /// Where what is at this distance from the middle comes from.
    fn back(&self, dy: f64, dx: f64) -> (f64, f64) {
        (self.sin * dx + self.cos * dy, self.cos * dx - self.sin * dy)
    }

    /// The extents that all of an image has once turned. What is within 1/10,000 of a whole pixel counts as that.
    fn bounds(&self, height: usize, width: usize) -> (usize, usize) {
        // Quarters move pixels to pixels, also where their middle lies between two.
        if self.sin.abs() == 1.0 {
            return (width, height);
        }
        let (h, w) = (height as f64, width as f64);
        let cut = |value: f64| (value * 1e4).trunc() * 1e-4;
        let extent = |span: f64, old: f64| {
            let (low, high) = (old / 2.0 - span / 2.0, old / 2.0 + span / 2.0);
            (cut(high).ceil() - cut(low).floor()) as usize
        };
        let (sin, cos) = (self.sin.abs(), self.cos.abs());
        (extent(sin * w + cos * h, h), extent(cos * w + sin * h, w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize, channels: usize) -> Image {
        let pixels = (0..height * width * channels).map(|at| (at * 31 % 251) as u8).collect();
        Image::new(height, width, channels, pixels).unwrap()
    }

    #[test]
    fn flips_and_transposition_are_what_they_say() {
        for channels in [1, 3] {
            for (height, width) in [(1, 1), (3, 4), (4, 3), (5, 1)] {
                let original = image(height, width, channels);
                let array = original.clone().into_array();
                let mirrored = original.clone().flip_horizontal().into_array();
                let upside_down = original.clone().flip_vertical().into_array();
                let transposed = original.transpose().into_array();
                for ((row, column, channel), &value) in array.indexed_iter() {
                    assert_eq!(mirrored[(row, width - 1 - column, channel)], value);
                    assert_eq!(upside_down[(height - 1 - row, column, channel)], value);
                    assert_eq!(transposed[(column, row, channel)], value);
                }
            }
        }
    }

    #[test]
    fn a_part_is_where_it_was_and_a_border_around_it() {
        let original = image(5, 7, 3);
        let part = original.crop(1, 2, 3, 4).unwrap();
        let (array, whole) = (part.clone().into_array(), original.clone().into_array());
        assert!(array.indexed_iter().all(|((row, column, channel), &v)| v == whole[(row + 1, column + 2, channel)]));
        let padded = part.pad([1, 2, 0, 3]).unwrap();
        assert_eq!((padded.height(), padded.width()), (4, 9));
        assert_eq!(padded.crop(1, 2, 3, 4).unwrap(), part);
        let border = padded.pixels().iter().map(|&v| u64::from(v)).sum::<u64>();
        assert_eq!(border, part.pixels().iter().map(|&v| u64::from(v)).sum::<u64>());
        assert_eq!(part.pixels.capacity(), part.pixels.len());
        for (top, left, height, width) in
            [(0, 0, 0, 1), (0, 0, 6, 1), (5, 0, 1, 1), (0, 6, 1, 2), (usize::MAX, 0, 2, 1)]
        {
            let error = original.crop(top, left, height, width).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }

    #[test]
    fn four_quarters_are_a_whole() {
        let original = image(4, 6, 3);
        for filter in [Filter::Nearest, Filter::Bilinear] {
            let quarter = original.rotate(90.0, filter, true, 0).unwrap();
            assert_eq!(quarter, original.clone().transpose().flip_vertical());
            let quarters = [90.0, 90.0, 90.0].iter().fold(quarter, |i, &by| i.rotate(by, filter, true, 0).unwrap());
            assert_eq!(quarters, original);
            assert_eq!(original.rotate(-360.0, filter, false, 9).unwrap(), original);
        }
        assert!(original.rotate(f64::NAN, Filter::Nearest, false, 0).is_err());
        assert!(original.rotate(1.0, Filter::Lanczos, false, 0).is_err());
    }
}
