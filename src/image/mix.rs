//! Transforms of whole batches: mixup and cutmix.
//!
//! Sources: mixup, Zhang et al. 2018 (<https://arxiv.org/abs/1710.09412>); CutMix, Yun et al. 2019
//! (<https://arxiv.org/abs/1905.04899>). As in torchvision each image meets the one before it in the batch, the first one
//! the last. Our deviation: the targets are given as rows of weights already (see [`one_hot`]).

use std::ops::Range;

use ndarray::{Array, Array1, Array2, Array4, Axis, Dimension};

use crate::error::{Error, ErrorKind, Result};
use crate::rng::VisitRng;

/// A class as a row of weights: 1 at the class, 0 elsewhere. Rows stack to `(batch, N)`.
///
/// # Errors
///
/// Of kind [`Argument`](ErrorKind::Argument) if the class is not below `N`.
///
/// # Examples
///
/// ```
/// assert_eq!(procession::image::one_hot::<4>(2)?, [0.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn one_hot<const N: usize>(class: u32) -> Result<[f32; N]> {
    let mut row = [0.0; N];
    let place = row.get_mut(class as usize);
    *place.ok_or_else(|| out_of_range(class, N))? = 1.0;
    Ok(row)
}

/// As [`one_hot`], for a number of classes that only the running program knows. Rows stack to `(batch, num_classes)`.
///
/// # Errors
///
/// Of kind [`Argument`](ErrorKind::Argument) if the class is not below `num_classes`.
///
/// # Examples
///
/// ```
/// let classes = ["cat", "dog", "fox"];
/// assert_eq!(procession::image::one_hot_row(1, classes.len())?, ndarray::array![0.0, 1.0, 0.0]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn one_hot_row(class: u32, num_classes: usize) -> Result<Array1<f32>> {
    // Compared before the row is made, which may be long.
    if class as usize >= num_classes {
        return Err(out_of_range(class, num_classes));
    }
    let mut row = Array1::zeros(num_classes);
    row[class as usize] = 1.0;
    Ok(row)
}

fn out_of_range(class: u32, num_classes: usize) -> Error {
    Error::new(ErrorKind::Argument, format!("class {class}, expected one below {num_classes}"))
}

/// Blends each image with the one before it, and their targets alike: `x = l x + (1 - l) x'`, with one `l` for the batch
/// from the distribution Beta(alpha, alpha). Works for both orders of the channels.
///
/// # Panics
///
/// If there are not as many rows of targets as images, or `alpha` is not above 0 and finite.
///
/// # Examples
///
/// ```
/// use procession::image::{mixup, one_hot};
/// use procession::{Loader, from_fn};
///
/// let samples = from_fn(8, |index| (ndarray::Array3::from_elem((2, 2, 3), index as f32), one_hot::<8>(index as u32).unwrap()));
/// let loader = Loader::builder(samples)
///     .batch_size(4)
///     .augment_batch(|(images, targets), rng| mixup(images, targets, 0.4, rng))
///     .build()?;
/// let batch = loader.epoch(0).next().unwrap()?;
/// assert!(batch.1.rows().into_iter().all(|row| (row.sum() - 1.0).abs() < 1e-6));
/// # Ok::<(), procession::Error>(())
/// ```
#[track_caller]
pub fn mixup<D: Dimension>(images: &mut Array<f32, D>, targets: &mut Array2<f32>, alpha: f64, rng: &mut VisitRng) {
    check(images.shape(), targets, alpha);
    let kept = beta(alpha, rng) as f32;
    for_each_with_previous(images, |row, previous| blend(row, previous, kept));
    for_each_with_previous(targets, |row, previous| blend(row, previous, kept));
}

/// Puts a box of the previous image into each image, and blends their targets by the part that the box takes. The box has
/// the image's aspect ratio and `1 - l` of its area, with one `l` for the batch from the distribution Beta(alpha, alpha);
/// its middle is anywhere, and what of it lies outside is cut off. `channels_first` tells whether the images are
/// `(batch, channels, height, width)` or `(batch, height, width, channels)`.
///
/// # Panics
///
/// As [`mixup`].
#[track_caller]
pub fn cutmix(
    images: &mut Array4<f32>,
    channels_first: bool,
    targets: &mut Array2<f32>,
    alpha: f64,
    rng: &mut VisitRng,
) {
    check(images.shape(), targets, alpha);
    let (_, a, b, c) = images.dim();
    let (height, width) = if channels_first { (b, c) } else { (a, b) };
    if height * width == 0 {
        return;
    }
    let half = 0.5 * (1.0 - beta(alpha, rng)).sqrt();
    let (x, y) = (rng.below(width as u64) as usize, rng.below(height as u64) as usize);
    let across = side(x, (half * width as f64) as usize, width);
    let down = side(y, (half * height as f64) as usize, height);
    let kept = 1.0 - (across.len() * down.len()) as f64 / (width * height) as f64;
    for_each_with_previous(images, |row, previous| {
        // The stretches of a row that lie in the box: a line of pixels, or a line of one channel.
        let (planes, channels) = if channels_first { (a, 1) } else { (1, c) };
        for line in (0..planes).flat_map(|plane| down.clone().map(move |y| (plane * height + y) * width)) {
            let stretch = (line + across.start) * channels..(line + across.end) * channels;
            row[stretch.clone()].copy_from_slice(&previous[stretch]);
        }
    });
    for_each_with_previous(targets, |row, previous| blend(row, previous, kept as f32));
}

/// One side of the box: as far from the middle as `half` on both sides, inside the image.
fn side(middle: usize, half: usize, len: usize) -> Range<usize> {
    middle.saturating_sub(half)..(middle + half).min(len)
}

fn blend(row: &mut [f32], previous: &[f32], kept: f32) {
    row.iter_mut().zip(previous).for_each(|(x, other)| *x = kept * *x + (1.0 - kept) * other);
}

/// Calls a function with each row and the row before it as that was, the last one for the first. Takes the memory of one
/// row.
fn for_each_with_previous<D: Dimension>(array: &mut Array<f32, D>, mut f: impl FnMut(&mut [f32], &[f32])) {
    let num_rows = array.len_of(Axis(0));
    if !array.is_standard_layout() {
        *array = array.as_standard_layout().into_owned();
    }
    let elements = array.as_slice_mut().expect("the layout was made standard");
    if elements.is_empty() {
        return;
    }
    let row_len = elements.len() / num_rows;
    let last = elements[elements.len() - row_len..].to_vec();
    // From the end, so that the row before is still as it was.
    for row in (1..num_rows).rev() {
        let (before, from) = elements.split_at_mut(row * row_len);
        f(&mut from[..row_len], &before[before.len() - row_len..]);
    }
    f(&mut elements[..row_len], &last);
}

#[track_caller]
fn check(images: &[usize], targets: &Array2<f32>, alpha: f64) {
    let num_images = images.first().copied().unwrap_or(0);
    let num_targets = targets.nrows();
    assert_eq!(num_images, num_targets, "{num_images} images and {num_targets} rows of targets");
    assert!(alpha > 0.0 && alpha.is_finite(), "alpha {alpha}, expected a number above 0");
}

/// A number from the distribution Beta(alpha, alpha).
fn beta(alpha: f64, rng: &mut VisitRng) -> f64 {
    let (a, b) = (log_gamma_variate(alpha, rng), log_gamma_variate(alpha, rng));
    // Through logarithms: with a small alpha both numbers themselves would be 0.
    1.0 / (1.0 + libm::exp(b - a))
}

/// The logarithm of a number from the distribution Gamma(shape, 1): Marsaglia and Tsang, 2000
/// (<https://doi.org/10.1145/358407.358414>). With functions that are the same on every machine.
fn log_gamma_variate(shape: f64, rng: &mut VisitRng) -> f64 {
    // Below 1: a number for the shape increased by 1, times a uniform one to the power of 1 / shape.
    let (boost, shape) = if shape < 1.0 { (libm::log(1.0 - rng.uniform()) / shape, shape + 1.0) } else { (0.0, shape) };
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = 1.0 + c * x;
        if v > 0.0 {
            let log_v = 3.0 * libm::log(v);
            let u = 1.0 - rng.uniform();
            if libm::log(u) < 0.5 * x * x + d - d * libm::exp(log_v) + d * log_v {
                return libm::log(d) + log_v + boost;
            }
        }
    }
}

/// A number from the standard normal distribution: Box and Muller, 1958.
fn normal(rng: &mut VisitRng) -> f64 {
    let (u, v) = (1.0 - rng.uniform(), rng.uniform());
    (-2.0 * libm::log(u)).sqrt() * libm::cos(std::f64::consts::TAU * v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Visit;
    use ndarray::array;

    fn rng(position: u64) -> VisitRng {
        Visit::new(1, 2, position, 0).rng(0)
    }

    #[test]
    fn mixup_blends_each_row_with_the_one_before() {
        for position in 0..50 {
            let original = array![[0.0, 10.0], [1.0, 20.0], [2.0, 40.0]];
            let (mut images, mut targets) = (original.clone(), Array2::eye(3));
            mixup(&mut images, &mut targets, 0.7, &mut rng(position));
            let kept = beta(0.7, &mut rng(position)) as f32;
            for row in 0..3 {
                let before = (row + 2) % 3;
                for column in 0..2 {
                    let expected = kept * original[(row, column)] + (1.0 - kept) * original[(before, column)];
                    assert_eq!(images[(row, column)], expected);
                }
                assert_eq!((targets[(row, row)], targets[(row, before)]), (kept, 1.0 - kept));
            }
        }
    }

    #[test]
    fn cutmix_moves_a_box_and_its_part_of_the_target() {
        let (height, width) = (6, 9);
        for position in 0..200 {
            let mut targets = Array2::eye(3);
            let mut last = Array4::from_shape_fn((3, height, width, 3), |(image, y, x, c)| {
                (image * 1000 + y * 100 + x * 10 + c) as f32
            });
            let original = last.clone();
            cutmix(&mut last, false, &mut targets, 1.0, &mut rng(position));
            let moved = last.indexed_iter().filter(|&((image, y, x, c), &value)| {
                let before = original[((image + 2) % 3, y, x, c)];
                assert!(value == original[(image, y, x, c)] || value == before);
                value == before
            });
            let part = moved.count() as f32 / last.len() as f32;
            assert!((targets[(1, 0)] - part).abs() < 1e-6 && (targets[(1, 1)] - (1.0 - part)).abs() < 1e-6);
            // The other order of the channels gives the same images.
            let mut first = original.permuted_axes([0, 3, 1, 2]);
            cutmix(&mut first, true, &mut Array2::eye(3), 1.0, &mut rng(position));
            assert_eq!(first.permuted_axes([0, 2, 3, 1]), last);
        }
        assert_eq!(side(0, 2, 5), 0..2);
        assert_eq!(side(4, 2, 5), 2..5);
        assert_eq!(side(2, 0, 5), 2..2);
    }

    #[test]
    fn beta_has_its_moments() {
        // Mean 1/2, variance 1 / (4 (2 alpha + 1)); 20,000 draws, at most four standard errors off.
        for alpha in [0.01, 0.2, 1.0, 5.0] {
            let draws: Vec<f64> = (0..20_000).map(|position| beta(alpha, &mut rng(position))).collect();
            assert!(draws.iter().all(|draw| (0.0..=1.0).contains(draw)));
            let mean = draws.iter().sum::<f64>() / 20_000.0;
            let variance = draws.iter().map(|draw| (draw - 0.5) * (draw - 0.5)).sum::<f64>() / 20_000.0;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 4.0 * (expected / 20_000.0).sqrt(), "alpha {alpha}: mean {mean}");
            assert!((variance - expected).abs() < 0.05 * expected, "alpha {alpha}: variance {variance}, {expected}");
        }
    }

    #[test]
    fn batches_without_rows_or_of_one_stay() {
        let mut images = Array4::<f32>::zeros((0, 2, 2, 3));
        mixup(&mut images, &mut Array2::zeros((0, 4)), 1.0, &mut rng(0));
        cutmix(&mut images, false, &mut Array2::zeros((0, 4)), 1.0, &mut rng(0));
        let mut one = Array4::<f32>::from_elem((1, 2, 2, 3), 0.5);
        mixup(&mut one, &mut array![[0.25, 0.75]], 1.0, &mut rng(0));
        assert!(one.iter().all(|&value| (value - 0.5_f32).abs() < 1e-6));
    }

    #[test]
    fn a_class_out_of_range_is_an_error() {
        assert_eq!(one_hot::<3>(3).unwrap_err().to_string(), "class 3, expected one below 3");
        assert_eq!(one_hot_row(3, 3).unwrap_err().to_string(), "class 3, expected one below 3");
        assert_eq!(one_hot_row(0, 0).unwrap_err().kind(), ErrorKind::Argument);
        for class in 0..3 {
            assert_eq!(one_hot_row(class, 3).unwrap().to_vec(), one_hot::<3>(class).unwrap());
        }
    }
}
