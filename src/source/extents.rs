//! The extents of arrays as files tell them, checked.

use std::cmp::Ordering;

use ndarray::Dimension;

use crate::error::{Error, ErrorKind, Result};

/// The size of an array in bytes, unless it is larger than the address space.
pub(super) fn size_bytes(shape: &[usize], element_bytes: usize) -> Option<usize> {
    // As ndarray does it: extents of zero do not save others from being too large together.
    let full_bytes = shape.iter().filter(|&&extent| extent > 0).try_fold(element_bytes, |bytes, &extent| {
        bytes.checked_mul(extent).filter(|&bytes| isize::try_from(bytes).is_ok())
    })?;
    Some(if shape.contains(&0) { 0 } else { full_bytes })
}

/// The most samples without elements. They take no bytes, so that nothing else bounds what a header claims.
const MAX_EMPTY_SAMPLES: usize = 1 << 24;

/// Checks that samples along the first axis are there, or not more than somebody would ever count.
pub(super) fn expect_countable(shape: &[usize], data_len: usize) -> Result<()> {
    match shape.first() {
        Some(&count) if data_len == 0 && count > MAX_EMPTY_SAMPLES => {
            let message =
                format!("shape {shape:?} of {count} samples without elements, the limit is {MAX_EMPTY_SAMPLES}");
            Err(Error::new(ErrorKind::Limit, message))
        }
        _ => Ok(()),
    }
}

/// The dimension with these extents.
pub(super) fn dimension<D: Dimension>(extents: &[usize]) -> D {
    let mut dimension = D::zeros(extents.len());
    dimension.slice_mut().copy_from_slice(extents);
    dimension
}

/// How many bytes there are less or more than expected, if they are not as many.
pub(super) fn difference(present: usize, expected: usize) -> Option<String> {
    match present.cmp(&expected) {
        Ordering::Equal => None,
        Ordering::Less => Some(format!("{} missing", expected - present)),
        Ordering::Greater => Some(format!("{} too many", present - expected)),
    }
}

/// Checks the number of dimensions; `None` is any.
pub(super) fn expect_rank(shape: &[usize], rank: Option<usize>) -> Result<()> {
    match rank {
        Some(rank) if rank != shape.len() => {
            let message = format!("shape {shape:?} of {} dimensions, expected {rank}", shape.len());
            Err(Error::new(ErrorKind::Shape, message))
        }
        _ => Ok(()),
    }
}
