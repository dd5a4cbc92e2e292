//! Colours: to grey, and the four adjustments of colour jitter, as torchvision defines them for bytes.
//!
//! Source of the formulas: torchvision's documentation and behaviour of `transforms.v2.functional` for `uint8` images;
//! hue goes through HSV (Smith, 1978). Results are cut off at 0 and 255 and rounded towards zero.

use super::Image;
use crate::rng::VisitRng;

/// One channel or three, without the one behind them.
pub(super) fn drop_alpha(pixels: &[u8], channels: usize) -> Vec<u8> {
    // Both know their length, so that no room is left over.
    match channels {
        1 => pixels.as_chunks::<2>().0.iter().map(|&[grey, _]| grey).collect(),
        _ => pixels.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
    }
}

/// Grey from colour, as Pillow has it.
pub(super) fn luma(image: &Image) -> Image {
    let grey = |pixel: &[u8]| {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
        ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
    };
    let pixels = image.pixels.chunks_exact(3).map(grey).collect();
    Image { channels: 1, pixels, ..*image }
}

/// Grey from colour, as torchvision has it, rounded towards zero.
fn grey(pixel: &[u8; 3]) -> f32 {
    let [r, g, b] = pixel.map(f32::from);
    (0.2989 * r + 0.587 * g + 0.114 * b).floor()
}

/// Between another value and this one; beyond this one where `factor` is above 1.
fn blend(value: u8, other: f32, factor: f32) -> u8 {
    (factor * f32::from(value) + (1.0 - factor) * other).clamp(0.0, 255.0) as u8
}

impl Image {
    /// This image in one channel; `(19595 R + 38470 G + 7471 B + 32768) / 65536`.
    pub fn to_grey(&self) -> Self {
        if self.channels == 1 { self.clone() } else { luma(self) }
    }

    /// This image in three channels.
    pub fn to_rgb(&self) -> Self {
        if self.channels == 3 {
            return self.clone();
        }
        let pixels = self.pixels.iter().flat_map(|&byte| [byte; 3]).collect();
        Self { channels: 3, pixels, ..*self }
    }

    /// Every value times a factor: 0 is black, 1 leaves the image as it is.
    pub fn adjust_brightness(mut self, factor: f32) -> Self {
        self.pixels.iter_mut().for_each(|byte| *byte = blend(*byte, 0.0, factor));
        self
    }

    /// Between the mean of the grey image (0) and the image (1), and beyond.
    pub fn adjust_contrast(mut self, factor: f32) -> Self {
        let sum: f64 = match self.channels {
            1 => self.pixels.iter().map(|&byte| f64::from(byte)).sum(),
            _ => self.pixels.as_chunks::<3>().0.iter().map(|pixel| f64::from(grey(pixel))).sum(),
        };
        let mean = (sum / (self.height * self.width) as f64) as f32;
        self.pixels.iter_mut().for_each(|byte| *byte = blend(*byte, mean, factor));
        self
    }

    /// Between the grey image (0) and the image (1), and beyond. A grey image stays as it is.
    pub fn adjust_saturation(mut self, factor: f32) -> Self {
        if self.channels == 3 {
            for pixel in self.pixels.as_chunks_mut::<3>().0 {
                let grey = grey(pixel);
                *pixel = pixel.map(|byte| blend(byte, grey, factor));
            }
        }
        self
    }

    /// Turns the hue, by `-0.5` to `0.5` of the circle. A grey image stays as it is.
    ///
    /// # Panics
    ///
    /// If `turn` is not in that range.
    pub fn adjust_hue(mut self, turn: f32) -> Self {
        assert!((-0.5..=0.5).contains(&turn), "a hue turned by {turn}, expected -0.5 to 0.5");
        if self.channels == 3 && turn != 0.0 {
            for pixel in self.pixels.as_chunks_mut::<3>().0 {
                let [h, s, v] = hsv(pixel.map(|byte| f32::from(byte) / 255.0));
                let turned = h + turn;
                // The largest float below 256 that torchvision scales by, so that 1.0 becomes 255.
                *pixel = rgb([turned - turned.floor(), s, v]).map(|value| (value * 255.999) as u8);
            }
        }
        self
    }
}

fn hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = high - low;
    if range == 0.0 {
        return [0.0, 0.0, high];
    }
    let [rc, gc, bc] = [r, g, b].map(|value| (high - value) / range);
    let hue = if high == r {
        bc - gc
    } else if high == g {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    let hue = hue / 6.0 + 1.0;
    [hue - hue.floor(), range / high, high]
}

fn rgb([h, s, v]: [f32; 3]) -> [f32; 3] {
    let sector = (h * 6.0).floor();
    let f = h * 6.0 - sector;
    let p = (v * (1.0 - s)).clamp(0.0, 1.0);
    let q = (v * (1.0 - s * f)).clamp(0.0, 1.0);
    let t = (v * (1.0 - s * (1.0 - f))).clamp(0.0, 1.0);
    match sector as i32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// Changes brightness, contrast, saturation and hue at random, in an order drawn anew for every image.
///
/// # Examples
///
/// ```
/// use procession::image::{ColorJitter, ImageTransform};
///
/// let jitter = ColorJitter::new().brightness(0.4).contrast(0.4).saturation(0.4).hue(0.1);
/// let transform = ImageTransform::new().color_jitter(jitter);
/// # let _ = transform;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ColorJitter {
    brightness: f32,
    contrast: f32,
    saturation: f32,
    hue: f32,
}

impl ColorJitter {
    /// Changes nothing yet.
    pub const fn new() -> Self {
        Self { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 }
    }

    /// The factor is drawn from `max(0, 1 - by)` to `1 + by`.
    ///
    /// # Panics
    ///
    /// Here and in the next two if `by` is not in `0.0..=1e6`.
    #[track_caller]
    pub const fn brightness(mut self, by: f32) -> Self {
        assert!(by >= 0.0 && by <= 1e6, "the amount of colour jitter is not in 0 to 1,000,000");
        self.brightness = by;
        self
    }

    /// The factor is drawn from `max(0, 1 - by)` to `1 + by`.
    #[track_caller]
    pub const fn contrast(mut self, by: f32) -> Self {
        assert!(by >= 0.0 && by <= 1e6, "the amount of colour jitter is not in 0 to 1,000,000");
        self.contrast = by;
        self
    }

    /// The factor is drawn from `max(0, 1 - by)` to `1 + by`.
    #[track_caller]
    pub const fn saturation(mut self, by: f32) -> Self {
        assert!(by >= 0.0 && by <= 1e6, "the amount of colour jitter is not in 0 to 1,000,000");
        self.saturation = by;
        self
    }

    /// The hue is turned by `-by` to `by` of the circle.
    ///
    /// # Panics
    ///
    /// If `by` is not in `0.0..=0.5`.
    #[track_caller]
    pub const fn hue(mut self, by: f32) -> Self {
        assert!(by >= 0.0 && by <= 0.5, "the hue can be turned by 0 to 0.5 of the circle");
        self.hue = by;
        self
    }

    pub(super) fn apply(&self, mut image: Image, rng: &mut VisitRng) -> Image {
        // The order by Fisher and Yates; all of it is drawn, so that one amount does not change what another draws.
        let mut order = [0, 1, 2, 3];
        for at in (1..order.len()).rev() {
            order.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let mut factor = |by: f32| rng.range_f32((1.0 - by).max(0.0), 1.0 + by);
        let [brightness, contrast, saturation] = [self.brightness, self.contrast, self.saturation].map(&mut factor);
        let turn = rng.range_f32(-self.hue, self.hue);
        for step in order {
            image = match step {
                0 if self.brightness > 0.0 => image.adjust_brightness(brightness),
                1 if self.contrast > 0.0 => image.adjust_contrast(contrast),
                2 if self.saturation > 0.0 => image.adjust_saturation(saturation),
                3 if self.hue > 0.0 => image.adjust_hue(turn.clamp(-0.5, 0.5)),
                _ => image,
            };
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_alpha_there_is_no_room_left_over() {
        let pixels: Vec<u8> = (0..100).flat_map(|_| 0..24).collect();
        for channels in [1, 3] {
            let colours = drop_alpha(&pixels, channels);
            let expected: Vec<u8> = (0..100)
                .flat_map(|_| (0..24).filter(|at| at % (channels + 1) != channels))
                .map(|at| at as u8)
                .collect();
            assert_eq!((&colours, colours.capacity()), (&expected, expected.len()));
        }
        let grey = Image::new(10, 10, 1, vec![7; 100]).unwrap();
        assert_eq!(grey.to_rgb().pixels.capacity(), 300);
    }
}
