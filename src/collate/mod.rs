//! Batches of samples that do not stack: of different lengths, padded, ragged or packed.
//!
//! A collation is given to [`LoaderBuilder::collate_with`](crate::LoaderBuilder::collate_with); it runs on the workers.
//!
//! | collation | of the samples | makes |
//! |---|---|---|
//! | [`pad`] | `Vec<T>`, `Array<T, D>` | [`Padded`]: all as long as the longest, their lengths, a mask |
//! | [`ragged`] | `Vec<T>`, `Array<T, D>` | [`Ragged`]: one after the other, and where each begins |
//! | [`pack`] | `Vec<T>`, `Array1<T>` | [`Packed`]: several in a row of fixed length, with segments and positions |
//! | [`stack`] | all that [`Stack`]s | what the loader makes by itself |
//! | [`from_fn`] | any | what a closure makes of them |
//! | `(a, b, ..)`, up to six | `(A, B, ..)` | `(a's batch, b's batch, ..)` |
//!
//! # Examples
//!
//! Sequences of tokens, padded to a multiple of four, with labels:
//!
//! ```
//! use procession::{Loader, collate};
//!
//! let sentences: Vec<(Vec<u32>, u32)> = vec![(vec![5, 6, 7], 1), (vec![8], 0)];
//! let loader = Loader::builder(sentences)
//!     .collate_with((collate::pad(0).to_multiple_of(4), collate::stack()))
//!     .batch_size(2)
//!     .build()?;
//! let batch = loader.epoch(0).next().unwrap()?;
//! let (tokens, labels) = &*batch;
//! assert_eq!(tokens.values, ndarray::array![[5, 6, 7, 0], [8, 0, 0, 0]]);
//! assert_eq!(tokens.lengths, ndarray::array![3, 1]);
//! assert_eq!(labels, ndarray::array![1, 0]);
//! # Ok::<(), procession::Error>(())
//! ```

mod pack;
mod pad;
mod ragged;
mod steps;

use std::fmt;

pub use pack::{Pack, Packed, Span, pack};
pub use pad::{Pad, Padded, pad};
pub use ragged::{IntoRagged, Ragged, ragged};
pub use steps::Steps;

use crate::batch::rows::{Ledger, Rows};
use crate::batch::stack::Stack;
use crate::error::{Error, ErrorKind, Result};

/// A way to make a batch of samples.
///
/// # Contract
///
/// 1. `collate` is pure: the same samples in the same order give the same batch, on whichever thread.
/// 2. It works for any number of samples. There are none where a rank has no part in the last batch.
///
/// # Examples
///
/// ```
/// use procession::collate::{self, Collate};
///
/// let padded = collate::pad(0).collate(vec![vec![1, 2, 3], vec![4]])?;
/// assert_eq!(padded.values, ndarray::array![[1, 2, 3], [4, 0, 0]]);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Collate<S>: Send + Sync + 'static {
    /// What the samples become.
    type Batch: Send + 'static;

    /// Makes a batch.
    ///
    /// # Errors
    ///
    /// Whatever keeps these samples from becoming one. A sample is named by its place in the batch.
    fn collate(&self, samples: Vec<S>) -> Result<Self::Batch>;

    /// The memory that a sample takes, in bytes, for a window in bytes ([`Window::Bytes`](crate::Window::Bytes)). By
    /// default it is the size of the type, without what it points to.
    fn size_bytes(sample: &S) -> usize {
        size_of_val(sample)
    }

    /// The memory that a batch takes, in bytes, for a window in bytes. By default it is not known, and the batch counts as
    /// its samples do.
    fn batch_bytes(_batch: &Self::Batch) -> Option<usize> {
        None
    }
}

/// Stacks samples by their type, as the loader does by itself: for members of tuples.
///
/// # Errors
///
/// If two samples have different layouts: an error of kind [`Shape`](ErrorKind::Shape) with both.
pub fn stack() -> IntoStack {
    IntoStack
}

/// Stacks samples by their type; made by [`stack`].
#[derive(Debug, Clone, Copy)]
pub struct IntoStack;

impl<S: Stack> Collate<S> for IntoStack {
    type Batch = S::Batch;

    fn collate(&self, samples: Vec<S>) -> Result<S::Batch> {
        let layout = match samples.first() {
            Some(sample) => sample.layout(),
            None => S::layout_of_type().unwrap_or_else(S::empty_layout),
        };
        for (at, sample) in samples.iter().enumerate() {
            if sample.layout() != layout {
                let own = sample.layout();
                let message =
                    format!("sample {at} of the batch has layout {own:?}, expected {layout:?} as of sample 0");
                return Err(Error::new(ErrorKind::Shape, message));
            }
        }
        let num_rows = samples.len();
        let rows = Rows::new(S::columns(&layout, num_rows, None)?, num_rows, Ledger::default());
        let mut chunk = rows.claim(0..num_rows);
        samples.into_iter().enumerate().for_each(|(at, sample)| sample.write(S::row(&mut chunk, at)));
        drop(chunk);
        Ok(S::finish(rows.into_parts().0, &layout, num_rows, None))
    }

    fn size_bytes(sample: &S) -> usize {
        sample.size_bytes()
    }

    fn batch_bytes(batch: &S::Batch) -> Option<usize> {
        Some(S::batch_bytes(batch))
    }
}

/// Makes a collation of a function: for members of tuples. For whole samples
/// [`collate`](crate::LoaderBuilder::collate) takes a closure as it is.
///
/// # Examples
///
/// ```
/// use procession::{Loader, collate};
///
/// let named: Vec<(String, f32)> = vec![("a".to_owned(), 1.0), ("b".to_owned(), 2.0)];
/// let joined = collate::from_fn(|names: Vec<String>| Ok(names.join("+")));
/// let loader = Loader::builder(named).collate_with((joined, collate::stack())).build()?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.0, "a+b");
/// # Ok::<(), procession::Error>(())
/// ```
pub fn from_fn<S, B, F>(f: F) -> FromFn<F>
where
    F: Fn(Vec<S>) -> Result<B> + Send + Sync + 'static,
{
    FromFn(f)
}

/// What a function makes of samples; made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

impl<S, B, F> Collate<S> for FromFn<F>
where
    F: Fn(Vec<S>) -> Result<B> + Send + Sync + 'static,
    B: Send + 'static,
{
    type Batch = B;

    fn collate(&self, samples: Vec<S>) -> Result<B> {
        (self.0)(samples)
    }
}

macro_rules! tuple {
    ($($name:ident $collate:ident $field:tt $column:ident),+) => {
        impl<$($name, $collate: Collate<$name>),+> Collate<($($name,)+)> for ($($collate,)+) {
            type Batch = ($($collate::Batch,)+);

            fn collate(&self, samples: Vec<($($name,)+)>) -> Result<Self::Batch> {
                $(let mut $column = Vec::with_capacity(samples.len());)+
                for sample in samples {
                    $($column.push(sample.$field);)+
                }
                Ok(($(self.$field.collate($column)?,)+))
            }

            fn size_bytes(sample: &($($name,)+)) -> usize {
                0 $(+ $collate::size_bytes(&sample.$field))+
            }

            /// Known if that of every member is.
            fn batch_bytes(batch: &Self::Batch) -> Option<usize> {
                Some(0 $(+ $collate::batch_bytes(&batch.$field)?)+)
            }
        }
    };
}
tuple!(A CA 0 a);
tuple!(A CA 0 a, B CB 1 b);
tuple!(A CA 0 a, B CB 1 b, C CC 2 c);
tuple!(A CA 0 a, B CB 1 b, C CC 2 c, D CD 3 d);
tuple!(A CA 0 a, B CB 1 b, C CC 2 c, D CD 3 d, E CE 4 e);
tuple!(A CA 0 a, B CB 1 b, C CC 2 c, D CD 3 d, E CE 4 e, F CF 5 f);

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn stacking_is_what_the_loader_does() {
        assert_eq!(stack().collate(vec![1_u8, 2]).unwrap(), array![1, 2]);
        assert_eq!(stack().collate(vec![vec![1_u8, 2], vec![3, 4]]).unwrap(), array![[1, 2], [3, 4]]);
        assert_eq!(stack().collate(vec!["a".to_owned()]).unwrap(), ["a"]);
        assert_eq!(stack().collate(Vec::<[f32; 3]>::new()).unwrap().dim(), (0, 3));
        assert_eq!(stack().collate(Vec::<Vec<f32>>::new()).unwrap().dim(), (0, 0));
        let error = stack().collate(vec![vec![1_u8], vec![2], vec![3, 4]]).unwrap_err();
        assert_eq!(error.to_string(), "sample 2 of the batch has layout 2, expected 1 as of sample 0");
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!(IntoStack::size_bytes(&vec![0_u32; 5]), 20);
    }

    #[test]
    fn a_tuple_collates_each_member() {
        let samples = vec![(vec![1_u8], 7_u32, (true, [1.0_f32])), (vec![2, 3], 8, (false, [2.0]))];
        let sum = from_fn(|numbers: Vec<u32>| Ok(numbers.iter().sum::<u32>()));
        let all = (pad(0), sum, (stack(), stack()));
        let (bytes, sum, (flags, rows)) = all.collate(samples.clone()).unwrap();
        assert_eq!((bytes.values, sum), (array![[1, 0], [2, 3]], 15));
        assert_eq!((flags, rows), (array![true, false], array![[1.0], [2.0]]));
        fn size_of_sample<S, C: Collate<S>>(_: &C, sample: &S) -> usize {
            C::size_bytes(sample)
        }
        assert_eq!(size_of_sample(&all, &samples[1]), size_of::<Vec<u8>>() + 2 + 4 + 1 + 4);
        fn size_of_batch<S, C: Collate<S>>(collate: &C, samples: Vec<S>) -> Option<usize> {
            C::batch_bytes(&collate.collate(samples).unwrap())
        }
        let pairs = vec![(7_u32, "two".to_owned()), (8, "s".to_owned())];
        let size = 2 * 4 + 2 * size_of::<String>() + 4;
        assert_eq!(size_of_batch(&(stack(), stack()), pairs.clone()), Some(size));
        assert_eq!(size_of_batch(&stack(), pairs.clone()), Some(size));
        assert_eq!(size_of_batch(&(stack(), from_fn(|all: Vec<String>| Ok(all.len()))), pairs), None);
        assert_eq!((ragged(),).collate(vec![(vec![1_u8],)]).unwrap().0.len(), 1);
        let error = (stack(), pad(0).max_len(1)).collate(vec![(1_u8, vec![2_u8, 3])]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
}
