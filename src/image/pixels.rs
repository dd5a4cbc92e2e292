//! The pixels of an image to a row of a batch: bytes or floats, channels last or first, normalised.

use fearless_simd::{Level, Simd, dispatch};

use super::Image;
use crate::batch::stack::Element;

/// A number that the rows of a batch of images can hold: `u8`, or `f32`.
pub trait Pixel: Element + PartialEq + private::Sealed {
    #[doc(hidden)]
    fn write(image: &Image, finish: &Finish, out: &mut [Self]);
    #[doc(hidden)]
    fn of(value: f32) -> Self;
}

mod private {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
}

/// How pixels are written.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    pub(super) channels_first: bool,
    // Present if floats are to be normalised: mean and standard deviation.
    pub(super) normalize: Option<[[f32; 3]; 2]>,
    // Asking the processor is slow, so it is done once.
    level: Level,
}

impl Finish {
    pub(super) fn new() -> Self {
        Self { channels_first: false, normalize: None, level: Level::new() }
    }
}

impl Pixel for u8 {
    fn write(image: &Image, finish: &Finish, out: &mut [u8]) {
        if finish.channels_first && image.channels == 3 {
            planes(&image.pixels, out, |byte, _| byte);
        } else {
            out.copy_from_slice(&image.pixels);
        }
    }
    fn of(value: f32) -> u8 {
        value as u8
    }
}

impl Pixel for f32 {
    fn write(image: &Image, finish: &Finish, out: &mut [f32]) {
        let (bytes, level) = (&*image.pixels, finish.level);
        assert_eq!(bytes.len(), out.len(), "as many floats as bytes");
        match (finish.normalize, image.channels, finish.channels_first) {
            (None, 3, true) => dispatch!(level, simd => unit_planes(simd, bytes, out)),
            (None, ..) => dispatch!(level, simd => unit(simd, bytes, out)),
            (Some([mean, std]), 3, true) => dispatch!(level, simd => normal_planes(simd, bytes, out, mean, std)),
            (Some([mean, std]), 3, false) => dispatch!(level, simd => normal(simd, bytes, out, mean, std)),
            (Some([mean, std]), ..) => {
                dispatch!(level, simd => normal(simd, bytes, out, [mean[0]; 3], [std[0]; 3]));
            }
        }
    }
    fn of(value: f32) -> f32 {
        value
    }
}

/// Writes the channels of pixels that stand side by side one after the other.
#[inline(always)]
fn planes<T>(bytes: &[u8], out: &mut [T], of: impl Fn(u8, usize) -> T) {
    let plane_len = bytes.len() / 3;
    for (channel, plane) in out.chunks_exact_mut(plane_len).enumerate() {
        for (out, pixel) in plane.iter_mut().zip(bytes.chunks_exact(3)) {
            *out = of(pixel[channel], channel);
        }
    }
}

// Divisions, not products with a reciprocal: the results are those of plain arithmetic on every machine.

#[inline(always)]
fn unit<S: Simd>(_: S, bytes: &[u8], out: &mut [f32]) {
    for (out, &byte) in out.iter_mut().zip(bytes) {
        *out = f32::from(byte) / 255.0;
    }
}

#[inline(always)]
fn unit_planes<S: Simd>(_: S, bytes: &[u8], out: &mut [f32]) {
    planes(bytes, out, |byte, _| f32::from(byte) / 255.0);
}

/// Eight pixels at a time: their channels repeat after three vectors, which the compiler then sees.
#[inline(always)]
fn normal<S: Simd>(_: S, bytes: &[u8], out: &mut [f32], mean: [f32; 3], std: [f32; 3]) {
    const LEN: usize = 24;
    let means: [f32; LEN] = std::array::from_fn(|at| mean[at % 3]);
    let stds: [f32; LEN] = std::array::from_fn(|at| std[at % 3]);
    let whole = bytes.len() / LEN * LEN;
    for (out, bytes) in out[..whole].chunks_exact_mut(LEN).zip(bytes[..whole].chunks_exact(LEN)) {
        for at in 0..LEN {
            out[at] = (f32::from(bytes[at]) / 255.0 - means[at]) / stds[at];
        }
    }
    for (at, (out, &byte)) in out[whole..].iter_mut().zip(&bytes[whole..]).enumerate() {
        *out = (f32::from(byte) / 255.0 - mean[at % 3]) / std[at % 3];
    }
}

#[inline(always)]
fn normal_planes<S: Simd>(_: S, bytes: &[u8], out: &mut [f32], mean: [f32; 3], std: [f32; 3]) {
    planes(bytes, out, |byte, channel| (f32::from(byte) / 255.0 - mean[channel]) / std[channel]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_holds_the_same_numbers() {
        let (mean, std) = ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]);
        for (height, width, channels) in [(1, 1, 3), (3, 5, 3), (7, 11, 3), (16, 24, 3), (5, 7, 1)] {
            let len = height * width * channels;
            let image =
                Image::new(height, width, channels, (0..len).map(|at| (at * 37 % 256) as u8).collect()).unwrap();
            let place = |at: usize, first: bool| {
                let (pixel, channel) = (at / channels, at % channels);
                if first { channel * height * width + pixel } else { at }
            };
            for channels_first in [false, true] {
                let mut finish = Finish { channels_first, ..Finish::new() };
                let (mut bytes, mut floats) = (vec![0; len], vec![0.0; len]);
                u8::write(&image, &finish, &mut bytes);
                f32::write(&image, &finish, &mut floats);
                finish.normalize = Some([mean, std]);
                let mut normal = vec![0.0; len];
                f32::write(&image, &finish, &mut normal);
                for (at, &byte) in image.pixels.iter().enumerate() {
                    let (to, unit) = (place(at, channels_first), f32::from(byte) / 255.0);
                    assert_eq!((bytes[to], floats[to]), (byte, unit));
                    assert_eq!(normal[to], (unit - mean[at % channels]) / std[at % channels]);
                }
            }
        }
    }
}
