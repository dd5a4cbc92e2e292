//! Dropout.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::super::layer::{Backward, Forward, InnerValue, Layer, map2};
use super::super::stream::Stream;
use crate::{Error, Result};

/// Sets a random part of the elements to 0 in training and scales the others by `1 / (1 - rate)`; passes the input on
/// in inference.
///
/// The mask is a function of the model's seed, the layer's name and the step, and of nothing else. It can be read as
/// the inner value `mask`, which holds the factor of each element.
///
/// Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, *Dropout: a simple way to prevent neural
/// networks from overfitting*, JMLR 2014; here in the inverted form that all frameworks use.
#[derive(Debug, Clone)]
pub struct Dropout {
    rate: f32,
    width: usize,
}

impl Dropout {
    /// Drops each element with probability `rate`, in `[0, 1)`. It is rounded to a multiple of 2^-16, by which the others
    /// are scaled too.
    pub fn new(rate: f32) -> Self {
        Self { rate, width: 0 }
    }
}

impl Layer for Dropout {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        if !(0.0..1.0).contains(&self.rate) {
            return Err(Error::argument(format!("dropout rate {}, expected 0 <= rate < 1", self.rate)));
        }
        self.width = input_width;
        Ok(input_width)
    }

    fn inner_values(&self) -> Vec<InnerValue> {
        vec![InnerValue::new("mask", self.width).for_backward()]
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
        let training = pass.is_training();
        let stream = pass.stream(0);
        let [mask] = pass.inner();
        match mask {
            Some(mut mask) if training => {
                draw_mask(self.rate, stream, mask.as_slice_mut().expect("inner values are in standard layout"));
                map2(x, mask.view(), y, |x, factor| x * factor);
            }
            mask => {
                y.assign(&x);
                if let Some(mut mask) = mask {
                    mask.fill(1.0);
                }
            }
        }
        Ok(())
    }

    fn backward(
        &mut self,
        _x: ArrayView2<'_, f32>,
        _y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        pass: &Backward<'_>,
    ) -> Result<()> {
        if let Some(dx) = dx {
            map2(dy, pass.inner(0), dx, |dy, factor| dy * factor);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("Dropout({})", self.rate)
    }

    fn passes_through(&self, training: bool) -> bool {
        !training || self.rate == 0.0
    }
}

/// The rate as a number of 65,536ths; never all of them.
fn threshold(rate: f32) -> u16 {
    (rate * 65_536.0).round().min(65_535.0) as u16
}

/// Fills the mask with 0 and the factor that keeps the mean. Four elements share the 64 bits of one draw.
fn draw_mask(rate: f32, mut stream: Stream, mask: &mut [f32]) {
    let threshold = threshold(rate);
    let scale = (1.0 / (1.0 - f32::from(threshold) / 65_536.0)).to_bits();
    // Without a branch, which would be mispredicted at the rate's pace: all bits of the scale, or none.
    let factor = |bits: u64| f32::from_bits(scale & u32::from(bits as u16 >= threshold).wrapping_neg());
    let mut fours = mask.chunks_exact_mut(4);
    for four in &mut fours {
        let bits = stream.next_u64();
        for (lane, out) in four.iter_mut().enumerate() {
            *out = factor(bits >> (16 * lane));
        }
    }
    let bits = stream.next_u64();
    for (lane, out) in fours.into_remainder().iter_mut().enumerate() {
        *out = factor(bits >> (16 * lane));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check_gradients;
    use super::super::super::stream::stream;
    use super::*;

    #[test]
    fn gradients_are_right() {
        assert!(check_gradients(Dropout::new(0.4), 7, 4, 1).unwrap() < 1e-3);
        assert!(check_gradients(Dropout::new(0.0), 3, 3, 1).unwrap() < 1e-3);
    }

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let mut mask = vec![0.0; 100_001];
        draw_mask(0.2, stream(3, &[]), &mut mask);
        let dropped = mask.iter().filter(|&&factor| factor == 0.0).count() as f64;
        // Five standard deviations of the binomial: 5 sqrt(0.2 * 0.8 * 10^5) = 632.
        assert!((dropped - 20_000.0).abs() < 632.0, "{dropped}");
        // 0.2 is 13,107 parts of 65,536.
        assert!(mask.iter().all(|&factor| factor == 0.0 || factor == 65_536.0 / 52_429.0));
        assert_eq!([0.0, 0.5, 0.99999, 1e-6].map(threshold), [0, 32_768, 65_535, 0]);
        // Each of the four that share a draw has its own bits.
        let lane = |lane: usize| mask[lane..100_000].iter().step_by(4).copied().collect::<Vec<f32>>();
        for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            let both = lane(a).iter().zip(lane(b)).filter(|&(&a, b)| a == 0.0 && b == 0.0).count() as f64;
            // Five standard deviations: 5 sqrt(0.04 * 0.96 * 25,000) = 155.
            assert!((both - 1000.0).abs() < 155.0, "{both} of lanes {a} and {b}");
        }
    }

    #[test]
    fn a_rate_out_of_range_is_refused() {
        for rate in [-0.1, 1.0, f32::NAN] {
            let error = Dropout::new(rate).build(3, &mut stream(0, &[])).unwrap_err();
            assert!(error.message().contains("expected 0 <= rate < 1"), "{error}");
        }
    }
}
