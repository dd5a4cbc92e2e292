//! Samples of any shape as rows.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::super::layer::{Backward, Forward, Layer, Role};
use super::super::stream::Stream;
use crate::Result;

/// Makes rows of samples of any shape, in the order in which they lie in memory; the first layer of a model whose
/// input has more than one axis a sample, such as `(batch, height, width)`. Nothing is copied.
///
/// # Examples
///
/// ```
/// use ndarray::Array3;
/// use procession::train::Model;
///
/// let mut model = Model::builder([28, 28]).flatten("flatten").dense("logits", 10).build()?;
/// assert_eq!(model.predict(&Array3::zeros((5, 28, 28)))?.dim(), (5, 10));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Flatten;

impl Layer for Flatten {
    fn build(&mut self, input_width: usize, _stream: &mut Stream) -> Result<usize> {
        Ok(input_width)
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, _pass: &mut Forward<'_>) -> Result<()> {
        y.assign(&x);
        Ok(())
    }

    fn backward(
        &mut self,
        _x: ArrayView2<'_, f32>,
        _y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        _pass: &Backward<'_>,
    ) -> Result<()> {
        if let Some(mut dx) = dx {
            dx.assign(&dy);
        }
        Ok(())
    }

    fn passes_through(&self, _training: bool) -> bool {
        true
    }

    fn role(&self) -> Role {
        Role::Flatten
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check_gradients;
    use super::*;

    #[test]
    fn gradients_are_right() {
        assert!(check_gradients(Flatten, 7, 4, 1).unwrap() < 1e-3);
    }
}
