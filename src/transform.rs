//! What turns a sample into another one on the workers.

use crate::batch::stack::{Row, Stack};
use crate::error::Result;
use crate::rng::VisitRng;
use crate::sequence::check_layout;

/// A function of a sample and its visit's random stream, which can write what it makes straight to a row of the batch.
///
/// For [`transform`](crate::LoaderBuilder::transform). Most transforms are closures, in
/// [`map`](crate::LoaderBuilder::map) and [`augment`](crate::LoaderBuilder::augment); this trait is for those whose
/// results are large and of one layout: nothing is allocated for such a sample, and nothing copied.
///
/// # Contract
///
/// 1. The result is a function of the sample and the stream alone.
/// 2. If `layout` is `Some`, every result has that layout, and `apply_into` writes every element of the row, the same
///    values that `apply` returns for the same sample and stream.
///
/// # Examples
///
/// ```
/// use procession::{Loader, Result, Transform, VisitRng};
///
/// /// Pairs of bytes to floats, with noise.
/// struct Noisy;
///
/// impl Transform<Vec<u8>> for Noisy {
///     type Output = Vec<f32>;
///     fn apply(&self, bytes: Vec<u8>, rng: &mut VisitRng) -> Result<Vec<f32>> {
///         Ok(bytes.iter().map(|&byte| f32::from(byte) + rng.uniform_f32()).collect())
///     }
///     fn layout(&self) -> Option<usize> {
///         Some(2)
///     }
///     fn apply_into(&self, bytes: Vec<u8>, rng: &mut VisitRng, row: &mut [f32]) -> Result<()> {
///         row.iter_mut().zip(bytes).for_each(|(float, byte)| *float = f32::from(byte) + rng.uniform_f32());
///         Ok(())
///     }
/// }
///
/// let loader = Loader::builder(vec![vec![1_u8, 2], vec![3, 4]]).transform(Noisy).build()?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.shape(), [2, 2]);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Transform<S>: Send + Sync + 'static {
    /// What comes out.
    type Output: Send + 'static;

    /// Makes the result.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being made: an error at the sample's place in the order.
    fn apply(&self, sample: S, rng: &mut VisitRng) -> Result<Self::Output>;

    /// The layout that all results share, if it is known without a sample. By default what the type tells.
    fn layout(&self) -> Option<<Self::Output as Stack>::Layout>
    where
        Self::Output: Stack,
    {
        Self::Output::layout_of_type()
    }

    /// Writes the result to its row of the batch. Called only if [`layout`](Self::layout) is `Some`.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply). The row may then hold anything: it is not delivered.
    fn apply_into(&self, sample: S, rng: &mut VisitRng, row: Row<'_, Self::Output>) -> Result<()>
    where
        Self::Output: Stack,
    {
        let result = self.apply(sample, rng)?;
        check_layout(&result, self.layout())?;
        result.write(row);
        Ok(())
    }
}
