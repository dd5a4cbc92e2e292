//! Samples side by side, the shorter ones filled up.

use ndarray::{Array, Array1, Array2, ArrayView, Axis, Dimension, Ix2, RemoveAxis, Slice};

use super::Collate;
use super::steps::{Runs, Steps, room, size_bytes};
use crate::batch::stack::Element;
use crate::error::{Error, ErrorKind, Result};

/// Fills every sample up to the length of the longest one of its batch, with `value` at the end.
///
/// The samples are `Vec<T>`, or `Array<T, D>` that may differ in the first axis alone; see [`Padded`] for what they
/// become. [`LengthBuckets`](crate::LengthBuckets) lets samples of similar lengths meet, which leaves little padding.
///
/// # Errors
///
/// Of kind [`Shape`](ErrorKind::Shape) if arrays differ in another axis, and [`Limit`](ErrorKind::Limit) if a sample is
/// longer than [`max_len`](Pad::max_len) or the batch does not fit into memory.
///
/// # Examples
///
/// ```
/// use procession::{Loader, collate};
///
/// let sentences: Vec<Vec<u32>> = vec![vec![5, 6, 7], vec![8]];
/// let loader = Loader::builder(sentences).collate_with(collate::pad(0)).build()?;
/// let batch = loader.epoch(0).next().unwrap()?;
/// assert_eq!(batch.values, ndarray::array![[5, 6, 7], [8, 0, 0]]);
/// assert_eq!(batch.mask(), ndarray::array![[true, true, true], [true, false, false]]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn pad<T: Element>(value: T) -> Pad<T> {
    Pad { value, multiple: 1, max: None }
}

/// Fills samples up to one length; made by [`pad`].
#[derive(Debug, Clone, Copy)]
pub struct Pad<T> {
    value: T,
    multiple: usize,
    max: Option<Max>,
}

#[derive(Debug, Clone, Copy)]
struct Max {
    len: usize,
    truncates: bool,
}

impl<T> Pad<T> {
    /// Rounds the length of batches up to a multiple of `multiple`, at least that: for hardware that likes round
    /// numbers, and for compilers that make code for each shape. Together with [`truncate`](Self::truncate) of the same
    /// number all batches have that length. 1 by default.
    ///
    /// # Panics
    ///
    /// If `multiple` is 0.
    pub fn to_multiple_of(mut self, multiple: usize) -> Self {
        assert!(multiple > 0, "lengths that are multiples of 0: at least 1 is needed");
        self.multiple = multiple;
        self
    }

    /// Makes a sample of more than `max_len` steps an error. There is no limit by default. Takes the place of
    /// [`truncate`](Self::truncate). Rounding up may exceed it.
    pub fn max_len(mut self, max_len: usize) -> Self {
        self.max = Some(Max { len: max_len, truncates: false });
        self
    }

    /// Cuts samples of more than `max_len` steps to their first `max_len`. Takes the place of
    /// [`max_len`](Self::max_len).
    pub fn truncate(mut self, max_len: usize) -> Self {
        self.max = Some(Max { len: max_len, truncates: true });
        self
    }

    /// How many steps of a sample stay.
    fn kept(&self, sample: usize, length: usize) -> Result<usize> {
        match self.max {
            Some(max) if length > max.len && !max.truncates => {
                let message = format!("sample {sample} of the batch has length {length}, the limit is {}", max.len);
                Err(Error::new(ErrorKind::Limit, message))
            }
            Some(max) => Ok(length.min(max.len)),
            None => Ok(length),
        }
    }
}

impl<T: Element, S: Steps<Element = T>> Collate<S> for Pad<T> {
    type Batch = Padded<T, S::Batch>;

    fn collate(&self, samples: Vec<S>) -> Result<Self::Batch> {
        let runs = Runs::new(&samples)?;
        let lengths = runs.lengths().enumerate().map(|(at, length)| self.kept(at, length));
        let lengths = lengths.collect::<Result<Array1<usize>>>()?;
        let longest = lengths.iter().copied().max().unwrap_or(0).max(usize::from(self.multiple > 1));
        // What does not fit a number does not fit into memory.
        let longest = longest.checked_next_multiple_of(self.multiple).unwrap_or(usize::MAX);
        let shape: S::Batch = runs.shape(&[samples.len(), longest]);
        let mut values = room(shape.slice())?;
        for (at, &length) in lengths.iter().enumerate() {
            runs.append(at, length, &mut values);
            values.resize(values.len() + (longest - length) * runs.step_len(), self.value);
        }
        let values = Array::from_shape_vec(shape, values).expect("as many elements as the rows have together");
        Ok(Padded { values, lengths })
    }

    fn size_bytes(sample: &S) -> usize {
        size_bytes(sample)
    }

    fn batch_bytes(batch: &Self::Batch) -> Option<usize> {
        Some(size_of_val(batch) + batch.values.len() * size_of::<T>() + batch.lengths.len() * size_of::<usize>())
    }
}

/// Samples of different lengths, filled up to one: what [`pad`] makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Padded<T, D: Dimension = Ix2> {
    /// The samples with padding behind them: `(batch, longest)`, and the further axes of the samples.
    pub values: Array<T, D>,
    /// The numbers of steps without padding: `(batch)`.
    pub lengths: Array1<usize>,
}

impl<T, D: Dimension> Padded<T, D> {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Which steps are a sample's own, and not padding: `(batch, longest)`.
    pub fn mask(&self) -> Array2<bool> {
        let longest = self.values.shape().get(1).copied().unwrap_or(0);
        Array2::from_shape_fn((self.len(), longest), |(row, step)| step < self.lengths[row])
    }
}

impl<T, D: RemoveAxis> Padded<T, D> {
    /// A sample without padding.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of samples.
    pub fn row(&self, index: usize) -> ArrayView<'_, T, D::Smaller> {
        assert!(index < self.len(), "row {index} is out of range for a batch of {} samples", self.len());
        let mut row = self.values.index_axis(Axis(0), index);
        row.slice_axis_inplace(Axis(0), Slice::from(..self.lengths[index]));
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, IxDyn, array};

    fn numbers(lengths: &[usize]) -> Vec<Vec<u32>> {
        lengths.iter().enumerate().map(|(row, &len)| (0..len).map(|at| (10 * row + at + 1) as u32).collect()).collect()
    }

    #[test]
    fn shorter_samples_are_filled_up() {
        let samples = numbers(&[2, 0, 3]);
        let padded = pad(99).collate(samples.clone()).unwrap();
        assert_eq!(padded.values, array![[1, 2, 99], [99, 99, 99], [21, 22, 23]]);
        assert_eq!(padded.lengths, array![2, 0, 3]);
        assert_eq!(padded.mask(), array![[true, true, false], [false; 3], [true; 3]]);
        assert_eq!((padded.len(), padded.is_empty()), (3, false));
        for (row, sample) in samples.iter().enumerate() {
            assert_eq!(padded.row(row).to_vec(), *sample);
        }
    }

    #[test]
    fn arrays_are_padded_along_their_first_axis() {
        let samples = vec![array![[1, 2]], array![[3, 4], [5, 6]], array![[7, 9], [8, 0]].reversed_axes()];
        let padded = pad(-1).collate(samples.clone()).unwrap();
        assert_eq!(padded.values, array![[[1, 2], [-1, -1]], [[3, 4], [5, 6]], [[7, 8], [9, 0]]]);
        assert_eq!((padded.row(0), padded.row(2)), (samples[0].view(), samples[2].view()));
        assert_eq!(padded.mask(), array![[true, false], [true, true], [true, true]]);
        let dynamic: Vec<ArrayD<i32>> = samples.into_iter().map(|sample| sample.into_dyn()).collect();
        assert_eq!(pad(-1).collate(dynamic).unwrap().values, padded.values.into_dyn());
        let vectors = pad(0.0).collate(vec![array![1.0, 2.0], array![3.0]]).unwrap();
        assert_eq!(vectors.values, array![[1.0, 2.0], [3.0, 0.0]]);
    }

    #[test]
    fn lengths_are_rounded_up() {
        for (lengths, multiple, expected) in
            [(&[2, 3][..], 4, 4), (&[4, 3], 4, 4), (&[5], 4, 8), (&[0], 4, 4), (&[], 4, 4), (&[0], 1, 0), (&[7], 1, 7)]
        {
            let padded = pad(0).to_multiple_of(multiple).collate(numbers(lengths)).unwrap();
            assert_eq!(padded.values.dim(), (lengths.len(), expected), "{lengths:?} to {multiple}");
        }
    }

    #[test]
    fn what_is_too_long_is_an_error_or_cut() {
        let error = pad(0).max_len(3).collate(numbers(&[3, 4])).unwrap_err();
        assert_eq!(error.to_string(), "sample 1 of the batch has length 4, the limit is 3");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(pad(0).max_len(4).collate(numbers(&[3, 4])).unwrap().lengths, array![3, 4]);
        let cut = pad(0).max_len(1).truncate(3).to_multiple_of(3).collate(numbers(&[1, 9])).unwrap();
        assert_eq!((cut.values, cut.lengths), (array![[1, 0, 0], [11, 12, 13]], array![1, 3]));
        let across = array![[1, 4], [2, 5], [3, 6]].reversed_axes();
        assert_eq!(pad(0).truncate(1).collate(vec![across]).unwrap().values, array![[[1, 2, 3]]]);
        assert!(pad(0).truncate(9).max_len(3).collate(numbers(&[4])).is_err());
    }

    #[test]
    fn steps_of_another_shape_are_an_error() {
        let error = pad(0).collate(vec![array![[1, 2]], array![[1], [2]]]).unwrap_err();
        let expected = "sample 1 of the batch has steps of shape [1], expected [2] as of sample 0";
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Shape));
        let error = pad(0).collate(vec![ArrayD::from_elem(IxDyn(&[]), 1)]).unwrap_err();
        assert_eq!(error.to_string(), "sample 0 of the batch is an array of 0 dimensions, expected at least 1");
    }

    #[test]
    fn a_batch_without_samples_has_no_rows() {
        let none = pad(0).collate(Vec::<Array<u8, ndarray::Ix3>>::new()).unwrap();
        assert_eq!((none.values.dim(), none.is_empty(), none.mask().dim()), ((0, 0, 0, 0), true, (0, 0)));
        let none = pad(0).collate(Vec::<ArrayD<u8>>::new()).unwrap();
        assert_eq!(none.values.shape(), [0, 0]);
        // Steps without elements.
        let wide = pad(0).collate(vec![Array2::<u8>::zeros((3, 0)), Array2::zeros((1, 0))]).unwrap();
        assert_eq!((wide.values.dim(), wide.lengths), ((2, 3, 0), array![3, 1]));
    }

    #[test]
    fn a_batch_that_memory_does_not_hold_is_an_error() {
        for multiple in [usize::MAX, usize::MAX / 2, 1 << 60] {
            let error = pad(0_u64).to_multiple_of(multiple).collate(vec![vec![1], vec![2, 3]]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
        let error = pad(0_u8).to_multiple_of(usize::MAX / 2 + 2).collate(vec![Array2::zeros((1, 0))]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }

    #[test]
    fn the_size_of_a_sample_and_of_a_batch_is_what_it_takes() {
        let size = <Pad<u32> as Collate<Vec<u32>>>::size_bytes(&vec![0; 5]);
        assert_eq!(size, size_of::<Vec<u32>>() + 20);
        let batch = pad(0_u32).collate(vec![vec![1; 100], vec![2]]).unwrap();
        let size = <Pad<u32> as Collate<Vec<u32>>>::batch_bytes(&batch).unwrap();
        assert_eq!(size, size_of_val(&batch) + 2 * 100 * 4 + 2 * size_of::<usize>());
    }

    #[test]
    #[should_panic(expected = "multiples of 0")]
    fn a_multiple_of_nothing() {
        let _ = pad(0).to_multiple_of(0);
    }

    #[test]
    #[should_panic(expected = "row 2 is out of range for a batch of 2 samples")]
    fn a_row_that_is_not_there() {
        let _ = pad(0).collate(numbers(&[1, 2])).unwrap().row(2);
    }
}
