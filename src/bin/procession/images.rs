//! The images to work on, and the loaders that feed them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array1, Array2, Array3, Ix1};
use procession::image::{DecodeOptions, ImageTransform};
use procession::source::{Mnist, MnistPart};
use procession::{Error, ErrorKind, Loader, Result, Sequence, Transform, Visit};

/// A batch: images `(batch, pixels)` in `[0, 1]`, and the class of each.
pub(crate) type Images = (Array2<f32>, Array1<u32>);

/// Images of one size as rows, in `[0, 1]`, and the class of each.
pub(crate) type Rows = Arc<dyn Sequence<Sample = (Array1<f32>, u32)>>;

/// The most workers that a command starts.
const MAX_WORKERS: usize = 1024;

/// Height, width and number of channels of the images that come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Size {
    /// Decodes images, and resizes them to this size.
    pub(crate) fn transform(self) -> ImageTransform<f32> {
        ImageTransform::new()
            .decode(DecodeOptions::new().grey(self.channels == 1))
            .resize(self.height, self.width)
            .to_f32()
    }

    pub(crate) fn num_pixels(self) -> usize {
        self.height * self.width * self.channels
    }
}

/// Images of any kind as rows.
pub(crate) struct Resized<S> {
    source: S,
    transform: ImageTransform<f32>,
    num_pixels: usize,
}

impl<S> Resized<S> {
    pub(crate) fn new(source: S, size: Size) -> Self {
        Self { source, transform: size.transform(), num_pixels: size.num_pixels() }
    }
}

impl<S, I> Sequence for Resized<S>
where
    S: Sequence<Sample = (I, u32)>,
    I: Send + 'static,
    ImageTransform<f32>: Transform<I, Output = Array3<f32>>,
{
    type Sample = (Array1<f32>, u32);

    fn len(&self) -> usize {
        self.source.len()
    }
    fn get(&self, index: usize) -> Result<(Array1<f32>, u32)> {
        let (mut pixels, mut label) = (Array1::zeros(self.num_pixels), 0);
        self.get_into(index, (pixels.as_slice_mut().expect("a new array lies in one piece"), &mut label))?;
        Ok((pixels, label))
    }
    fn layout(&self) -> Option<(Ix1, ())> {
        Some((Ix1(self.num_pixels), ()))
    }
    fn get_into(&self, index: usize, (pixels, label): (&mut [f32], &mut u32)) -> Result<()> {
        let (image, class) = self.source.get(index)?;
        *label = class;
        // Nothing is drawn from this stream: resizing has no choice.
        self.transform.apply_into(image, &mut Visit::new(0, 0, 0, 0).rng(0), pixels)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.source.file(index)
    }
}

/// Opens the IDX files in a directory, or the sample that comes with the program.
pub(crate) fn open(dir: Option<&Path>) -> Result<Mnist> {
    let mnist = match dir {
        Some(dir) => Mnist::open(dir)?,
        None => Mnist::fashion_sample(),
    };
    for (part, purpose) in [(&mnist.train, "train"), (&mnist.test, "test")] {
        if part.is_empty() || num_pixels(part) == 0 {
            let message = format!("nothing to {purpose} with: {} images of {} pixels", part.len(), num_pixels(part));
            return Err(Error::new(ErrorKind::Shape, message).with_file(dir.unwrap_or(Path::new("the sample"))));
        }
    }
    Ok(mnist)
}

/// The number of pixels in an image.
pub(crate) fn num_pixels(part: &MnistPart) -> usize {
    part.layout().map_or(0, |(shape, ())| shape[0])
}

/// The number of workers to use: what was asked for, or one for each processor.
pub(crate) fn num_workers(asked: Option<usize>) -> Result<usize> {
    match asked {
        Some(workers) if workers > MAX_WORKERS => {
            Err(Error::new(ErrorKind::Argument, format!("{workers} workers, expected at most {MAX_WORKERS}")))
        }
        Some(workers) => Ok(workers),
        None => Ok(num_cpus::get()),
    }
}

/// A loader that gives the images in order, for an evaluation.
pub(crate) fn in_order(part: Rows, num_workers: usize) -> Result<Loader<Images>> {
    Loader::builder(part).batch_size(250).workers(num_workers).build()
}
