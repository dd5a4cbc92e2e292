//! Samples one after the other, without padding.

use ndarray::{Array, ArrayView, Axis, Dimension, Ix1, RemoveAxis, Slice};

use super::Collate;
use super::steps::{Runs, Steps, room, size_bytes};
use crate::error::{Error, ErrorKind, Result};

/// Puts the samples of a batch one after the other, and tells where each begins: for models that take ragged tensors, and
/// for what pads later.
///
/// The samples are `Vec<T>`, or `Array<T, D>` that may differ in the first axis alone; see [`Ragged`] for what they
/// become.
///
/// # Errors
///
/// Of kind [`Shape`](ErrorKind::Shape) if arrays differ in another axis, [`Limit`](ErrorKind::Limit) if the batch does
/// not fit into memory.
///
/// # Examples
///
/// ```
/// use procession::{Loader, collate};
///
/// let sentences: Vec<Vec<u32>> = vec![vec![5, 6, 7], vec![], vec![8]];
/// let loader = Loader::builder(sentences).collate_with(collate::ragged()).build()?;
/// let batch = loader.epoch(0).next().unwrap()?;
/// assert_eq!(batch.values, ndarray::array![5, 6, 7, 8]);
/// assert_eq!(batch.offsets, [0, 3, 3, 4]);
/// assert_eq!(batch.row(2), ndarray::array![8]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn ragged() -> IntoRagged {
    IntoRagged
}

/// Puts samples one after the other; made by [`ragged`].
#[derive(Debug, Clone, Copy)]
pub struct IntoRagged;

impl<S> Collate<S> for IntoRagged
where
    S: Steps,
{
    type Batch = Ragged<S::Element, S::Dim>;

    fn collate(&self, samples: Vec<S>) -> Result<Self::Batch> {
        let runs = Runs::new(&samples)?;
        let mut offsets = Vec::with_capacity(samples.len() + 1);
        offsets.push(0_usize);
        for (at, length) in runs.lengths().enumerate() {
            // Samples without elements may have more steps than any memory.
            let end = offsets[at].checked_add(length).ok_or_else(|| {
                Error::new(ErrorKind::Limit, format!("more than {} steps in the first {at} samples", usize::MAX))
            })?;
            offsets.push(end);
        }
        let shape: S::Dim = runs.shape(&[offsets[samples.len()]]);
        let mut values = room(shape.slice())?;
        runs.lengths().enumerate().for_each(|(at, length)| runs.append(at, length, &mut values));
        let values = Array::from_shape_vec(shape, values).expect("as many elements as the samples have together");
        Ok(Ragged { values, offsets })
    }

    fn size_bytes(sample: &S) -> usize {
        size_bytes(sample)
    }

    fn batch_bytes(batch: &Self::Batch) -> Option<usize> {
        let values = batch.values.len() * size_of::<S::Element>();
        Some(size_of_val(batch) + values + batch.offsets.len() * size_of::<usize>())
    }
}

/// Samples of different lengths one after the other: what [`ragged`] makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Ragged<T, D: Dimension = Ix1> {
    /// The steps of all samples: `(steps)`, and the further axes of the samples.
    pub values: Array<T, D>,
    /// Where each sample begins, and where the last one ends: one number more than there are samples.
    pub offsets: Vec<usize>,
}

impl<T, D: Dimension> Ragged<T, D> {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of steps, sample by sample.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.offsets.windows(2).map(|ends| ends[1] - ends[0])
    }
}

impl<T, D: RemoveAxis> Ragged<T, D> {
    /// A sample.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of samples.
    pub fn row(&self, index: usize) -> ArrayView<'_, T, D> {
        assert!(index < self.len(), "row {index} is out of range for a batch of {} samples", self.len());
        self.values.slice_axis(Axis(0), Slice::from(self.offsets[index]..self.offsets[index + 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn samples_follow_each_other() {
        let samples = vec![vec![1, 2], vec![], vec![3, 4, 5]];
        let ragged = ragged().collate(samples.clone()).unwrap();
        assert_eq!((&ragged.values, &ragged.offsets[..]), (&array![1, 2, 3, 4, 5], &[0, 2, 2, 5][..]));
        assert_eq!((ragged.len(), ragged.is_empty()), (3, false));
        assert!(ragged.lengths().eq([2, 0, 3]));
        for (row, sample) in samples.iter().enumerate() {
            assert_eq!(ragged.row(row).to_vec(), *sample);
        }
    }

    #[test]
    fn arrays_follow_each_other_along_their_first_axis() {
        let samples = vec![array![[1, 2]], array![[3, 5], [4, 6]].reversed_axes(), Array2::zeros((0, 2))];
        let ragged = ragged().collate(samples.clone()).unwrap();
        assert_eq!(ragged.values, array![[1, 2], [3, 4], [5, 6]]);
        for (row, sample) in samples.iter().enumerate() {
            assert_eq!(ragged.row(row), sample);
        }
    }

    #[test]
    fn steps_of_another_shape_are_an_error() {
        let error = ragged().collate(vec![array![[1, 2]], array![[1, 2]], array![[1]]]).unwrap_err();
        assert_eq!(error.to_string(), "sample 2 of the batch has steps of shape [1], expected [2] as of sample 0");
        let endless = || Array2::<u8>::zeros((isize::MAX as usize, 0));
        let error = ragged().collate(vec![endless(), endless(), endless()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }

    #[test]
    fn a_batch_without_samples_is_empty() {
        let none = ragged().collate(Vec::<Array2<u8>>::new()).unwrap();
        assert_eq!((none.values.dim(), none.len(), none.is_empty()), ((0, 0), 0, true));
    }

    #[test]
    #[should_panic(expected = "row 1 is out of range for a batch of 1 samples")]
    fn a_row_that_is_not_there() {
        let _ = ragged().collate(vec![vec![1]]).unwrap().row(1);
    }
}
