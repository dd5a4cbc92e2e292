//! A transform that costs what transforms of images cost: some microseconds of arithmetic for each sample.

use procession::VisitRng;

/// The height and the width of an image.
pub(crate) const SIDE: usize = 28;

/// Mean and standard deviation of the pixels of Fashion-MNIST.
const MEAN: f32 = 0.286;
const STD: f32 = 0.353;

/// Turns an image of `SIDE` by `SIDE` pixels by up to 15 degrees, moves it by up to 2 pixels, flips it in half of the
/// cases, and normalises it. What comes from outside the image is black. Appends the pixels to `out`.
pub(crate) fn augment(image: &[f32], rng: &mut VisitRng, out: &mut Vec<f32>) {
    let (sin, cos) = rng.range_f32(-15.0, 15.0).to_radians().sin_cos();
    let (down, right) = (rng.range_f32(-2.0, 2.0), rng.range_f32(-2.0, 2.0));
    let flip = if rng.bool(0.5) { -1.0 } else { 1.0 };
    let centre = (SIDE - 1) as f32 / 2.0;
    for row in 0..SIDE {
        let y = row as f32 - centre;
        for column in 0..SIDE {
            let x = flip * (column as f32 - centre);
            let value = bilinear(image, sin * x + cos * y + centre + down, cos * x - sin * y + centre + right);
            out.push((value - MEAN) / STD);
        }
    }
}

/// The value at a point between pixels.
fn bilinear(image: &[f32], y: f32, x: f32) -> f32 {
    let (top, left) = (y.floor(), x.floor());
    let (below, beside) = (y - top, x - left);
    let pixel = |row: f32, column: f32| {
        let inside = |at: f32| (0.0..SIDE as f32).contains(&at);
        if inside(row) && inside(column) { image[row as usize * SIDE + column as usize] } else { 0.0 }
    };
    let upper = pixel(top, left) * (1.0 - beside) + pixel(top, left + 1.0) * beside;
    let lower = pixel(top + 1.0, left) * (1.0 - beside) + pixel(top + 1.0, left + 1.0) * beside;
    upper * (1.0 - below) + lower * below
}

#[cfg(test)]
mod tests {
    use procession::Visit;

    use super::*;

    #[test]
    fn an_image_keeps_its_size_and_its_range() {
        let image = vec![1.0; SIDE * SIDE];
        let mut out = Vec::new();
        (0..100).for_each(|position| augment(&image, &mut Visit::new(0, 0, position, 0).rng(0), &mut out));
        assert_eq!(out.len(), 100 * SIDE * SIDE);
        let (black, white) = (-MEAN / STD, (1.0 - MEAN) / STD);
        assert!(out.iter().all(|value| (black - 1e-5..=white + 1e-5).contains(value)));
        let centres = out.chunks(SIDE * SIDE).map(|image| image[SIDE * SIDE / 2 + SIDE / 2]);
        assert!(centres.into_iter().all(|value| (value - white).abs() < 1e-4));
    }

    #[test]
    fn between_pixels_lies_their_mean() {
        let image: Vec<f32> = (0..SIDE * SIDE).map(|at| at as f32).collect();
        assert_eq!(bilinear(&image, 3.0, 4.0), (3 * SIDE + 4) as f32);
        assert_eq!(bilinear(&image, 3.5, 4.5), 3.5 * SIDE as f32 + 4.5);
        assert_eq!(bilinear(&image, -1.0, 4.0), 0.0);
    }
}
