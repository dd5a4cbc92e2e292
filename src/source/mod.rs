//! Where samples come from.
//!
//! | samples | source |
//! |---|---|
//! | in memory | `Vec<T>`, ndarray's `Array1` to `Array6` |
//! | computed | [`from_fn`], [`try_from_fn`], [`from_fill`] |
//! | IDX files: MNIST, Fashion-MNIST and their kin | [`Idx`], [`Mnist`] |

#[cfg(feature = "blob")]
mod blob;
mod idx;
mod mapped;
mod memory;
mod mnist;
mod scale;

#[cfg(feature = "blob")]
pub use blob::Blob;
pub use idx::{Idx, IdxElement, IdxFloats, IdxImages, IdxLabels, IdxOptions, IdxSamples, IdxType};
pub use mapped::Mapped;
pub use memory::{FromFill, FromFn, TryFromFn, from_fill, from_fn, try_from_fn};
pub use mnist::{Mnist, MnistPart};

use ndarray::{Array, Dimension, RemoveAxis};

use crate::batch::stack::{Element, Row, Stack};

// A method with the bound `Array<T, D>: Stack` cannot see what the layout and the row of an array are: the bound hides
// the implementation. These two functions have no such bound.

/// A shape as the layout of arrays.
pub(crate) fn array_layout<T: Element, D>(shape: D) -> <Array<T, D> as Stack>::Layout
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    shape
}

/// The row of an array as a slice.
#[inline]
pub(crate) fn array_row<T: Element, D>(row: Row<'_, Array<T, D>>) -> &mut [T]
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    row
}
