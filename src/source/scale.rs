//! Bytes to floats.

use std::path::{Path, PathBuf};

use fearless_simd::{Level, Simd, dispatch};
use ndarray::{Array, Dimension, RemoveAxis};

use super::{array_layout, array_row};
use crate::batch::stack::{Row, Stack};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::Sequence;

/// Samples of bytes, each in one piece, of which [`Floats`] are made.
#[doc(hidden)]
pub trait ByteSamples: Sequence<Sample = Array<u8, Self::Dim>> {
    type Dim: Dimension + Send + Sync + 'static;

    fn bytes(&self, index: usize) -> &[u8];
    fn dim(&self) -> &Self::Dim;
    fn path(&self) -> &Path;
}

/// The `u8` samples of a file as `f32`; made by `unit` and `standardize` of the samples.
///
/// A sample is converted from the file straight to its row of the batch.
#[derive(Debug, Clone)]
pub struct Floats<S> {
    samples: S,
    scale: Scale,
}

impl<S> Floats<S> {
    /// Each byte divided by 255.
    pub(super) fn unit(samples: S) -> Self {
        Self { samples, scale: Scale::new(0.0, 255.0) }
    }

    /// `(byte - mean) / std`.
    pub(super) fn standardize(samples: S, mean: f32, std: f32) -> Result<Self> {
        check_moments(mean, std)?;
        Ok(Self { samples, scale: Scale::new(mean, std) })
    }

    /// The samples as they are in the file.
    pub fn into_samples(self) -> S {
        self.samples
    }
}

impl<S: ByteSamples> Floats<S> {
    /// The shape of a sample.
    pub fn shape(&self) -> &[usize] {
        self.samples.dim().slice()
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.samples.path()
    }

    /// The size of a sample. The header was checked for bytes, and floats take four times as much: `None` if that is
    /// larger than the address space.
    fn sample_bytes(&self) -> Option<usize> {
        super::extents::size_bytes(self.shape(), size_of::<f32>())
    }
}

impl<S: ByteSamples> Sequence for Floats<S>
where
    <S::Dim as Dimension>::Larger: RemoveAxis + Send + 'static,
{
    type Sample = Array<f32, S::Dim>;

    fn len(&self) -> usize {
        self.samples.len()
    }
    fn get(&self, index: usize) -> Result<Self::Sample> {
        if self.sample_bytes().is_none() {
            let message = format!("sample of shape {:?} as f32, larger than the address space", self.shape());
            return Err(Error::new(ErrorKind::Limit, message).with_index(index as u64).with_file(self.path()));
        }
        let bytes = self.samples.bytes(index);
        let mut floats = vec![0.0; bytes.len()];
        self.scale.write(bytes, &mut floats);
        Ok(Array::from_shape_vec(self.samples.dim().clone(), floats).expect("as many floats as the shape says"))
    }
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        // Without a layout nobody makes room for rows, and `get` tells what is wrong.
        self.sample_bytes().map(|_| array_layout::<f32, S::Dim>(self.samples.dim().clone()))
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        self.scale.write(self.samples.bytes(index), array_row::<f32, S::Dim>(row));
        Ok(())
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        self.sample_bytes()
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.samples.file(index)
    }
}

/// Checks what is to be subtracted and what is to be divided by.
pub(super) fn check_moments(mean: f32, std: f32) -> Result<()> {
    if mean.is_finite() && std.is_finite() && std > 0.0 {
        return Ok(());
    }
    let message = format!("mean {mean} and standard deviation {std}, expected numbers, and std above 0");
    Err(Error::argument(message))
}

/// The function `(byte - offset) / divisor`, in the widest vectors that this machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    offset: f32,
    divisor: f32,
    level: Level,
}

impl Scale {
    pub(crate) fn new(offset: f32, divisor: f32) -> Self {
        // Asking the processor is slow, so it is done here and not for each row.
        Self { offset, divisor, level: Level::new() }
    }

    /// The float of one byte.
    #[inline]
    pub(crate) fn apply(self, byte: u8) -> f32 {
        (f32::from(byte) - self.offset) / self.divisor
    }

    /// Writes one float for each byte. All machines and vector widths give the same floats: a subtraction and a
    /// division are rounded the same everywhere.
    ///
    /// # Panics
    ///
    /// If there are not as many floats as bytes.
    #[inline]
    pub(crate) fn write(self, bytes: &[u8], floats: &mut [f32]) {
        assert_eq!(bytes.len(), floats.len(), "as many floats as bytes");
        dispatch!(self.level, simd => scale(simd, bytes, floats, self.offset, self.divisor));
    }
}

// A plain loop, which the compiler turns into vectors: on a machine with AVX2 it writes 3.5 million rows of 784 a second
// from one core, 1.6 times as many as with the vectors that every x86-64 machine has. A table of the 256 results is
// slower than either.
#[inline(always)]
fn scale<S: Simd>(_: S, bytes: &[u8], floats: &mut [f32], offset: f32, divisor: f32) {
    for (float, &byte) in floats.iter_mut().zip(bytes) {
        *float = (f32::from(byte) - offset) / divisor;
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Ix1;

    use super::*;

    /// Samples that are larger than the address space once they are floats.
    struct Huge(Ix1);

    impl Sequence for Huge {
        type Sample = Array<u8, Ix1>;

        fn len(&self) -> usize {
            1
        }
        fn get(&self, _index: usize) -> Result<Self::Sample> {
            unreachable!("nobody has as much memory")
        }
    }

    impl ByteSamples for Huge {
        type Dim = Ix1;

        fn bytes(&self, _index: usize) -> &[u8] {
            unreachable!("nobody has as much memory")
        }
        fn dim(&self) -> &Ix1 {
            &self.0
        }
        fn path(&self) -> &Path {
            Path::new("huge")
        }
    }

    #[test]
    fn floats_that_are_larger_than_the_address_space_are_an_error() {
        for (len, fits) in [(isize::MAX as usize / 4, true), (isize::MAX as usize / 4 + 1, false)] {
            let floats = Floats::unit(Huge(Ix1(len)));
            assert_eq!((floats.layout().is_some(), floats.size_bytes(0).is_some()), (fits, fits));
        }
        let error = Floats::unit(Huge(Ix1(isize::MAX as usize))).get(0).unwrap_err();
        assert_eq!((error.kind(), error.index(), error.file()), (ErrorKind::Limit, Some(0), Some(Path::new("huge"))));
    }

    #[test]
    fn every_byte_at_every_length_is_as_in_plain_arithmetic() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for (offset, divisor) in [(0.0, 255.0), (33.318_42, 78.567_49), (128.0, -1.0)] {
            for len in (0..70).chain([255, 256, 511, 512]) {
                let mut floats = vec![f32::NAN; len];
                Scale::new(offset, divisor).write(&bytes[..len], &mut floats);
                let plain = bytes[..len].iter().map(|&byte| (f32::from(byte) - offset) / divisor);
                assert!(plain.zip(&floats).all(|(plain, float)| plain.to_bits() == float.to_bits()), "length {len}");
            }
        }
    }
}
