//! Images as `bench` measures them: decoded, resized, and put in a batch of floats.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array1, Array3, Array4};
use procession::image::{Image, ImageTransform};
use procession::source::Blob;
use procession::{Loader, Result, Sequence, SequenceExt, Transform, Visit};

use crate::bench::SEED;
use crate::images::Size;
use crate::workload::{Epochs, Naive, Staged, Times, Workload, plan, touched};

/// A batch: images `(batch, height, width, channels)` in `[0, 1]`, and labels.
type Images = (Array4<f32>, Array1<u32>);

type Source<I> = Arc<dyn Sequence<Sample = (I, u32)>>;

/// A kind of images that can be measured.
pub(crate) trait Measured: Send + Clone + 'static {
    /// Has all of the bytes in memory.
    fn touch(self) -> Self;
}

impl Measured for Blob {
    fn touch(self) -> Self {
        touched(self)
    }
}

impl Measured for Image {
    fn touch(self) -> Self {
        self
    }
}

/// Images with labels, and the size that they get.
pub(crate) struct ImageWork<I> {
    pub(crate) source: Source<I>,
    pub(crate) size: Size,
}

impl<I: Measured> Workload for ImageWork<I>
where
    ImageTransform<f32>: Transform<I, Output = Array3<f32>> + Transform<(I, u32), Output = (Array3<f32>, u32)>,
{
    fn stages(&self, batch_size: usize) -> Box<dyn Staged + '_> {
        Box::new(Decoding { work: self, transform: self.size.transform(), batch_size, batch: Vec::new(), len: 0 })
    }
    fn naive(&self, indices: Vec<usize>, batch_size: usize) -> Result<Box<dyn Epochs>> {
        let plan = plan(indices.len(), batch_size)?;
        let (source, size, transform) = (Arc::clone(&self.source), self.size, self.size.transform());
        let batch = move |positions: &[u64]| batch(&*source, size, &transform, positions, &indices);
        Ok(Box::new(Naive { plan, batch }))
    }
    fn loader(&self, indices: Vec<usize>, batch_size: usize, num_workers: usize) -> Result<Box<dyn Epochs>> {
        Ok(Box::new(self.images(indices, batch_size, num_workers)?))
    }
}

impl<I: Measured> ImageWork<I>
where
    ImageTransform<f32>: Transform<(I, u32), Output = (Array3<f32>, u32)>,
{
    fn images(&self, indices: Vec<usize>, batch_size: usize, num_workers: usize) -> Result<Loader<Images>> {
        let builder = Loader::builder(Arc::clone(&self.source).subset(indices)?).transform(self.size.transform());
        builder.batch_size(batch_size).shuffle(SEED).workers(num_workers).build()
    }
}

/// What one writes without a loader: one thread loads, decodes, resizes, converts and collates.
fn batch<I: Measured>(
    source: &dyn Sequence<Sample = (I, u32)>,
    size: Size,
    transform: &ImageTransform<f32>,
    positions: &[u64],
    indices: &[usize],
) -> Result<Images>
where
    ImageTransform<f32>: Transform<I, Output = Array3<f32>>,
{
    let mut pixels = Vec::with_capacity(positions.len() * size.num_pixels());
    let mut labels = Vec::with_capacity(positions.len());
    for &at in positions {
        let (image, label) = source.get(indices[at as usize])?;
        pixels.extend(transform.apply(image, &mut Visit::new(SEED, 0, 0, at).rng(0))?);
        labels.push(label);
    }
    let shape = (positions.len(), size.height, size.width, size.channels);
    Ok((Array4::from_shape_vec(shape, pixels).expect("images of one size"), Array1::from_vec(labels)))
}

/// Images on their way to a batch.
struct Decoding<'a, I> {
    work: &'a ImageWork<I>,
    transform: ImageTransform<f32>,
    batch_size: usize,
    batch: Vec<f32>,
    // How many images are in the batch.
    len: usize,
}

impl<I: Measured> Staged for Decoding<'_, I>
where
    ImageTransform<f32>: Transform<I, Output = Array3<f32>>,
{
    fn load(&mut self, index: usize, times: &mut Times) -> Result<()> {
        let started = Instant::now();
        let image = self.work.source.get(index)?.0.touch();
        let read = Instant::now();
        let pixels = self.transform.apply(image, &mut Visit::new(SEED, 0, 0, 0).rng(0))?;
        let decoded = Instant::now();
        if self.len.is_multiple_of(self.batch_size) {
            *black_box(&mut self.batch) = Vec::with_capacity(self.batch_size * pixels.len());
        }
        self.batch.extend(pixels.iter());
        drop(pixels);
        self.len += 1;
        times.read += read - started;
        *times.decode.get_or_insert_default() += decoded - read;
        times.assemble += decoded.elapsed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_naive_generator_and_the_loader_give_the_same_batches() {
        let image = |index: usize| Image::new(3, 5, 1, (0..15).map(|at| (index * 16 + at) as u8).collect()).unwrap();
        let source: Source<Image> = Arc::new(procession::from_fn(10, move |index| (image(index), index as u32)));
        let size = Size { height: 4, width: 2, channels: 1 };
        let indices = vec![9, 0, 7, 3, 4, 5, 6];
        let plan = plan(indices.len(), 4).unwrap();
        let loader = ImageWork { source: Arc::clone(&source), size }.images(indices.clone(), 4, 1).unwrap();
        for (number, loaded) in (0..).zip(loader.epoch(0)) {
            let naive = batch(&*source, size, &size.transform(), &plan.indices(0, number), &indices).unwrap();
            assert_eq!(naive, *loaded.unwrap());
        }
    }
}
