//! Samples of different lengths: runs of steps.

use ndarray::{Array, ArrayView, ArrayView1, Dimension, Ix1, Ix2, RemoveAxis};

use crate::batch::stack::Element;
use crate::error::{Error, ErrorKind, Result};

/// A sample that may differ from others in length: a run of steps, such as tokens or frames.
///
/// The steps of a `Vec<T>` are its elements, those of an `Array<T, D>` its parts along the first axis. The trait cannot
/// be implemented outside this crate.
pub trait Steps: Send + 'static + private::Sealed {
    /// The elements of steps.
    type Element: Element;
    /// The dimension of the steps of a sample together.
    type Dim: Dimension + Send + 'static;
    /// The dimension of samples side by side: one more.
    type Batch: Dimension + Send + 'static;

    /// The steps as an array.
    #[doc(hidden)]
    fn steps(&self) -> ArrayView<'_, Self::Element, Self::Dim>;
}

mod private {
    pub trait Sealed {}
}

impl<T: Element> private::Sealed for Vec<T> {}
impl<T: Element> Steps for Vec<T> {
    type Element = T;
    type Dim = Ix1;
    type Batch = Ix2;

    fn steps(&self) -> ArrayView1<'_, T> {
        ArrayView1::from(&self[..])
    }
}

impl<T: Element, D: Dimension> private::Sealed for Array<T, D> {}
impl<T: Element, D> Steps for Array<T, D>
where
    D: RemoveAxis + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    type Element = T;
    type Dim = D;
    type Batch = D::Larger;

    fn steps(&self) -> ArrayView<'_, T, D> {
        self.view()
    }
}

/// The memory that a sample takes, in bytes.
pub(super) fn size_bytes<S: Steps>(sample: &S) -> usize {
    size_of::<S>() + sample.steps().len() * size_of::<S::Element>()
}

/// The samples of a batch, checked: they differ in the number of steps alone.
pub(super) struct Runs<'a, S> {
    samples: &'a [S],
    // Invariant: each sample has at least one axis, and behind the first one these.
    step_shape: Vec<usize>,
}

impl<'a, S: Steps> Runs<'a, S> {
    pub(super) fn new(samples: &'a [S]) -> Result<Self> {
        let rank = S::Dim::NDIM.unwrap_or(1).saturating_sub(1);
        // Without a sample nothing is known about the steps of some.
        let mut step_shape = vec![0; rank];
        for (at, sample) in samples.iter().enumerate() {
            let steps = sample.steps();
            let Some((_, shape)) = steps.shape().split_first() else {
                let message = format!("sample {at} of the batch is an array of 0 dimensions, expected at least 1");
                return Err(Error::new(ErrorKind::Shape, message));
            };
            if at == 0 {
                step_shape = shape.to_vec();
            } else if shape != step_shape {
                let message = format!(
                    "sample {at} of the batch has steps of shape {shape:?}, expected {step_shape:?} as of sample 0"
                );
                return Err(Error::new(ErrorKind::Shape, message));
            }
        }
        Ok(Self { samples, step_shape })
    }

    /// The numbers of steps.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> + use<'a, S> {
        self.samples.iter().map(|sample| sample.steps().shape()[0])
    }

    /// The number of elements of a step.
    pub(super) fn step_len(&self) -> usize {
        self.step_shape.iter().product()
    }

    /// A shape with the extents of a step at its end.
    pub(super) fn shape<D: Dimension>(&self, leading: &[usize]) -> D {
        let extents = [leading, &self.step_shape].concat();
        let mut shape = D::zeros(extents.len());
        shape.slice_mut().copy_from_slice(&extents);
        shape
    }

    /// Appends the elements of the first steps of a sample, in C order.
    pub(super) fn append(&self, sample: usize, num_steps: usize, out: &mut Vec<S::Element>) {
        let steps = self.samples[sample].steps();
        let num_elements = num_steps * self.step_len();
        match steps.as_slice() {
            Some(elements) => out.extend_from_slice(&elements[..num_elements]),
            None => out.extend(steps.iter().take(num_elements)),
        }
    }
}

/// An empty list with room for elements of a batch of a shape.
pub(super) fn room<T>(shape: &[usize]) -> Result<Vec<T>> {
    let too_large = || Error::new(ErrorKind::Limit, format!("no memory for a batch of shape {shape:?}"));
    // As ndarray does it: extents of zero do not save others from being too large together.
    let nonzero = shape.iter().filter(|&&extent| extent > 0);
    let len = nonzero.clone().try_fold(1_usize, |len, &extent| len.checked_mul(extent));
    let len = len.filter(|&len| isize::try_from(len).is_ok()).ok_or_else(too_large)?;
    let len = if nonzero.count() < shape.len() { 0 } else { len };
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|cause| too_large().with_cause(cause))?;
    Ok(out)
}
