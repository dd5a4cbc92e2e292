//! The images to work on, and the loaders that feed them.

use std::path::Path;

use ndarray::{Array1, Array2};
use procession::source::{Mnist, MnistPart};
use procession::{Error, ErrorKind, Loader, Result, Sequence};

/// A batch: images `(batch, pixels)` in `[0, 1]`, and the class of each.
pub(crate) type Images = (Array2<f32>, Array1<u32>);

/// The number of classes in MNIST and its kin.
pub(crate) const NUM_CLASSES: usize = 10;

/// The most workers that a command starts.
const MAX_WORKERS: usize = 1024;

/// Opens the data set in a directory, or the sample that comes with the program.
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
pub(crate) fn in_order(part: MnistPart, num_workers: usize) -> Result<Loader<Images>> {
    Loader::builder(part).batch_size(250).workers(num_workers).build()
}
