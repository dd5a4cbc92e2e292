//! What a model can be given: inputs of any shape, and what their outputs ought to be.

use ndarray::{Array, Array1, Array2, ArrayBase, ArrayView, ArrayView1, ArrayView2, Axis, Data, Dimension, Ix1, Ix2};

use crate::{Error, ErrorKind, Result};

/// A batch of inputs: any `f32` array whose first axis counts the samples, by reference or as a view.
///
/// Arrays of two dimensions may have any layout. Others are seen as rows without being copied, which takes the
/// standard layout.
pub trait Input<'x> {
    /// The batch as rows, `(batch, features)`, after a check that each sample has this shape.
    ///
    /// # Errors
    ///
    /// Samples of another shape, or more than two dimensions in another layout than the standard one.
    fn rows(self, sample_shape: &[usize]) -> Result<ArrayView2<'x, f32>>;
}

impl<'x, S, D> Input<'x> for &'x ArrayBase<S, D>
where
    S: Data<Elem = f32>,
    D: Dimension,
{
    fn rows(self, sample_shape: &[usize]) -> Result<ArrayView2<'x, f32>> {
        self.view().rows(sample_shape)
    }
}

impl<'x, D: Dimension> Input<'x> for ArrayView<'x, f32, D> {
    fn rows(self, sample_shape: &[usize]) -> Result<ArrayView2<'x, f32>> {
        let Some((&rows, shape)) = self.shape().split_first() else {
            return Err(Error::new(ErrorKind::Shape, "the batch is a single number, expected an axis of samples"));
        };
        if shape != sample_shape {
            let message = format!("the batch's samples have shape {shape:?}, the model's input {sample_shape:?}");
            return Err(Error::new(ErrorKind::Shape, message));
        }
        let width: usize = shape.iter().product();
        if self.ndim() == 2 {
            return Ok(self.into_dimensionality::<Ix2>().expect("it has two dimensions"));
        }
        self.into_shape_with_order((rows, width)).map_err(|_| {
            let message = "the batch is not in standard layout, as samples of more than one dimension have to be";
            Error::new(ErrorKind::Shape, message)
        })
    }
}

/// What a batch's outputs ought to be.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Targets<'a> {
    /// A class for each sample, `(batch)`.
    Labels(ArrayView1<'a, u32>),
    /// A value for each output, `(batch, outputs)`.
    Values(ArrayView2<'a, f32>),
}

impl<'a> Targets<'a> {
    /// The number of samples.
    pub fn num_samples(&self) -> usize {
        match self {
            Self::Labels(labels) => labels.len(),
            Self::Values(values) => values.nrows(),
        }
    }

    /// Those of the first samples.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn first(self, num_samples: usize) -> Self {
        match self {
            Self::Labels(labels) => Self::Labels(labels.split_at(Axis(0), num_samples).0),
            Self::Values(values) => Self::Values(values.split_at(Axis(0), num_samples).0),
        }
    }
}

impl<'a> From<&'a [u32]> for Targets<'a> {
    fn from(labels: &'a [u32]) -> Self {
        Self::Labels(ArrayView1::from(labels))
    }
}

impl<'a> From<&'a Vec<u32>> for Targets<'a> {
    fn from(labels: &'a Vec<u32>) -> Self {
        Self::from(&labels[..])
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Targets<'a> {
    fn from(labels: &'a [u32; N]) -> Self {
        Self::from(&labels[..])
    }
}

impl<'a> From<ArrayView1<'a, u32>> for Targets<'a> {
    fn from(labels: ArrayView1<'a, u32>) -> Self {
        Self::Labels(labels)
    }
}

impl<'a> From<ArrayView2<'a, f32>> for Targets<'a> {
    fn from(values: ArrayView2<'a, f32>) -> Self {
        Self::Values(values)
    }
}

/// One value for each sample: the targets of a model with one output.
impl<'a> From<ArrayView1<'a, f32>> for Targets<'a> {
    fn from(values: ArrayView1<'a, f32>) -> Self {
        Self::Values(values.insert_axis(Axis(1)))
    }
}

impl<'a, S: Data<Elem = u32>> From<&'a ArrayBase<S, Ix1>> for Targets<'a> {
    fn from(labels: &'a ArrayBase<S, Ix1>) -> Self {
        Self::Labels(labels.view())
    }
}

impl<'a, S: Data<Elem = f32>> From<&'a ArrayBase<S, Ix2>> for Targets<'a> {
    fn from(values: &'a ArrayBase<S, Ix2>) -> Self {
        Self::Values(values.view())
    }
}

/// The data of a batch that has inputs; what [`Trainer::predict`](super::Trainer::predict) takes.
pub trait Inputs {
    /// The inputs as rows, `(batch, features)`, after a check that each sample has this shape.
    ///
    /// # Errors
    ///
    /// As [`Input::rows`].
    fn inputs(&self, sample_shape: &[usize]) -> Result<ArrayView2<'_, f32>>;
}

/// The data of a batch that a model can be trained with: inputs, and what the outputs ought to be.
///
/// It is implemented for pairs of arrays: `f32` inputs whose first axis counts the samples, and labels (`u32`, one a
/// sample) or values (`f32`, one a sample or one an output). Implement it for a batch of another type.
pub trait Supervised: Inputs {
    /// What the outputs ought to be.
    fn targets(&self) -> Targets<'_>;
}

impl<D: Dimension> Inputs for Array<f32, D> {
    fn inputs(&self, sample_shape: &[usize]) -> Result<ArrayView2<'_, f32>> {
        self.rows(sample_shape)
    }
}

impl<D: Dimension, T> Inputs for (Array<f32, D>, T) {
    fn inputs(&self, sample_shape: &[usize]) -> Result<ArrayView2<'_, f32>> {
        self.0.rows(sample_shape)
    }
}

impl<D: Dimension> Supervised for (Array<f32, D>, Array1<u32>) {
    fn targets(&self) -> Targets<'_> {
        Targets::from(&self.1)
    }
}

impl<D: Dimension> Supervised for (Array<f32, D>, Array1<f32>) {
    fn targets(&self) -> Targets<'_> {
        Targets::from(self.1.view())
    }
}

impl<D: Dimension> Supervised for (Array<f32, D>, Array2<f32>) {
    fn targets(&self) -> Targets<'_> {
        Targets::from(&self.1)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array, s};

    use super::*;

    #[test]
    fn samples_of_any_shape_are_rows() {
        let images = Array3::from_shape_fn((2, 2, 3), |(n, y, x)| (n * 6 + y * 3 + x) as f32);
        let rows = images.rows(&[2, 3]).unwrap();
        assert_eq!(rows, array![[0., 1., 2., 3., 4., 5.], [6., 7., 8., 9., 10., 11.]]);
        assert_eq!(array![1.0_f32, 2.0].rows(&[]).unwrap(), array![[1.0], [2.0]]);
        let error = images.rows(&[6]).unwrap_err();
        assert_eq!(error.to_string(), "the batch's samples have shape [2, 3], the model's input [6]");
        let error = images.slice(s![.., .., ..;-1]).rows(&[2, 3]).unwrap_err();
        assert!(error.to_string().contains("standard layout"), "{error}");
        assert!(ndarray::arr0(1.0_f32).rows(&[]).is_err());
    }

    #[test]
    fn targets_can_be_cut() {
        let (labels, values) = ([1, 2, 3], array![[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        assert_eq!(Targets::from(&labels).first(2).num_samples(), 2);
        let Targets::Values(first) = Targets::from(&values).first(1) else { panic!("values stay values") };
        assert_eq!(first, array![[1.0, 2.0]]);
    }
}
