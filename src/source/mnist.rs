//! MNIST, and data sets in the same four files: Fashion-MNIST, KMNIST and others of ten classes.

use std::path::{Path, PathBuf};

use ndarray::Ix1;

use super::idx::{Idx, IdxFloats, IdxLabels};
use crate::compose::SequenceExt;
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::Sequence;

const NUM_CLASSES: u32 = 10;

/// Images with labels: `(Array1<f32>, u32)`, the image in `[0, 1]`, row after row, and the class from 0 to 9.
///
/// A batch is `(Array2<f32>, Array1<u32>)`: `(batch, height * width)` and `(batch)`.
pub type MnistPart = (IdxFloats<Ix1>, IdxLabels);

/// MNIST, or a data set in the same four files.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "fashion-mnist")] {
/// use procession::Sequence;
/// use procession::source::Mnist;
///
/// let fashion = Mnist::fashion_sample();
/// assert_eq!((fashion.train.len(), fashion.test.len()), (6_000, 1_000));
/// let (image, label) = fashion.train.get(0)?;
/// assert_eq!((image.len(), label), (784, 3));
/// # }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mnist {
    /// The images to train with; 60,000 in the data sets as published.
    pub train: MnistPart,
    /// The images to test with; 10,000 in the data sets as published.
    pub test: MnistPart,
}

impl Mnist {
    /// Opens the four files in a directory: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    /// `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, also written `train-images.idx3-ubyte` and so on, plain or
    /// (feature `gzip`) with `.gz` at the end. Of several spellings of one file the first in this order is taken.
    ///
    /// Images may have any size. For images that keep their two dimensions, or other classes, open the files by
    /// [`Idx`].
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](ErrorKind::Io) if a file is not there, with the directory and the names that were looked for;
    /// [`Shape`](ErrorKind::Shape) if there are not as many images as labels, or the test images have another size than
    /// the others; and as [`Idx::open`] and [`Idx::labels`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let open = |images, labels| part(&find(dir, images)?, &find(dir, labels)?);
        let train = open(["train-images", "idx3-ubyte"], ["train-labels", "idx1-ubyte"])?;
        let test = open(["t10k-images", "idx3-ubyte"], ["t10k-labels", "idx1-ubyte"])?;
        Self::new(train, test)
    }

    /// A part of Fashion-MNIST that comes with the crate: 6,000 images to train with and 1,000 to test with, 28 x 28,
    /// as many of each of the ten classes. By Zalando Research, under the MIT licence.
    ///
    /// # Cost
    ///
    /// Decompresses 3 MB to 5.5 MB at each call.
    #[cfg(feature = "fashion-mnist")]
    pub fn fashion_sample() -> Self {
        macro_rules! embedded {
            ($name:literal) => {{
                let bytes = include_bytes!(concat!("../../data/fashion-mnist-sample/", $name));
                Idx::from_bytes(bytes, concat!("fashion-mnist-sample/", $name))
            }};
        }
        let whole = "the files in the crate are whole";
        let train = (embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz"));
        let test = (embedded!("t10k-images-idx3-ubyte.gz"), embedded!("t10k-labels-idx1-ubyte.gz"));
        let part = |(images, labels): (Result<Idx>, Result<Idx>)| part(&images?, &labels?);
        Self::new(part(train).expect(whole), part(test).expect(whole)).expect(whole)
    }

    fn new((train, train_shape): Part, (test, test_shape): Part) -> Result<Self> {
        if train_shape != test_shape {
            let message =
                format!("test images of shape {test_shape:?}, expected {train_shape:?} as of those to train with");
            let (images, _) = test;
            return Err(Error::new(ErrorKind::Shape, message).with_file(images.path()));
        }
        Ok(Self { train, test })
    }
}

/// One of the two parts, and the shape of its images.
type Part = (MnistPart, Vec<usize>);

fn part(images: &Idx, labels: &Idx) -> Result<Part> {
    let pixels = images.images()?;
    let classes = labels.labels(NUM_CLASSES)?;
    let (num_images, num_labels) = (pixels.len(), classes.len());
    if num_images != num_labels {
        let images = images.path().display();
        let message = format!("{num_labels} labels, expected {num_images} as there are images in {images}");
        return Err(Error::new(ErrorKind::Shape, message).with_file(labels.path()));
    }
    let shape = pixels.shape().to_vec();
    Ok((pixels.flatten().unit().zip(classes)?, shape))
}

/// Opens a file by the first of its spellings that is there.
fn find(dir: &Path, [stem, suffix]: [&str; 2]) -> Result<Idx> {
    let names = ["-", "."].map(|dash| format!("{stem}{dash}{suffix}"));
    let names: Vec<String> = names.iter().flat_map(|name| [name.clone(), format!("{name}.gz")]).collect();
    let mut paths = names.iter().map(|name| dir.join(name));
    match paths.find(|path: &PathBuf| path.exists()) {
        Some(path) => Idx::open(path),
        None => {
            let what = if dir.is_dir() {
                "the directory holds none of"
            } else {
                "not a directory, expected one that holds one of"
            };
            Err(Error::new(ErrorKind::Io, format!("{what} {}", names.join(", "))).with_file(dir))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::idx::idx_bytes;
    use super::*;
    use crate::testing::{check_rows, samples};
    use ndarray::array;

    const NAMES: [&str; 4] =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

    /// A directory with three images of 1 x 2 to train with and one to test with; files can be replaced.
    fn directory(replaced: &[(usize, Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut files = [
            idx_bytes(&[3, 1, 2], &[0, 51, 102, 153, 204, 255]),
            idx_bytes(&[3], &[9, 0, 4]),
            idx_bytes(&[1, 1, 2], &[255, 0]),
            idx_bytes(&[1], &[7]),
        ];
        replaced.iter().for_each(|(at, bytes)| files[*at].clone_from(bytes));
        NAMES.iter().zip(files).for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
        dir
    }

    #[test]
    fn four_files_make_two_sequences() {
        let dir = directory(&[]);
        let mnist = Mnist::open(dir.path()).unwrap();
        check_rows(&mnist.train);
        check_rows(&mnist.test);
        assert_eq!(samples(&mnist.train), [(array![0.0, 0.2], 9), (array![0.4, 0.6], 0), (array![0.8, 1.0], 4)]);
        assert_eq!(samples(&mnist.test), [(array![1.0, 0.0], 7)]);
        assert_eq!(mnist.train.layout(), Some((Ix1(2), ())));
        assert_eq!(mnist.train.file(0), Some(dir.path().join(NAMES[0])));
    }

    #[test]
    fn files_may_be_spelt_with_a_dot() {
        let dir = directory(&[]);
        for name in NAMES {
            std::fs::rename(dir.path().join(name), dir.path().join(name.replace("-idx", ".idx"))).unwrap();
        }
        assert_eq!(Mnist::open(dir.path()).unwrap().train.len(), 3);
    }

    #[test]
    fn files_that_are_missing_are_named() {
        let dir = directory(&[]);
        std::fs::remove_file(dir.path().join(NAMES[3])).unwrap();
        let error = Mnist::open(dir.path()).unwrap_err();
        let expected = "the directory holds none of t10k-labels-idx1-ubyte, t10k-labels-idx1-ubyte.gz, t10k-labels.idx1-ubyte, \
                        t10k-labels.idx1-ubyte.gz";
        assert_eq!((error.message(), error.file(), error.kind()), (expected, Some(dir.path()), ErrorKind::Io));
        let error = Mnist::open(dir.path().join("nowhere")).unwrap_err();
        assert!(
            error.message().starts_with("not a directory, expected one that holds one of train-images-idx3-ubyte, ")
        );
    }

    #[test]
    fn files_that_do_not_agree_are_refused() {
        let images = idx_bytes(&[2, 1, 2], &[0; 4]);
        let dir = directory(&[(0, images)]);
        let error = Mnist::open(dir.path()).unwrap_err();
        let images = dir.path().join(NAMES[0]);
        assert_eq!(error.message(), format!("3 labels, expected 2 as there are images in {}", images.display()));
        assert_eq!((error.file(), error.kind()), (Some(&*dir.path().join(NAMES[1])), ErrorKind::Shape));

        let dir = directory(&[(1, idx_bytes(&[2], &[0; 2]))]);
        let error = Mnist::open(dir.path()).unwrap_err();
        assert!(error.message().starts_with("2 labels, expected 3 "), "{error}");

        let dir = directory(&[(2, idx_bytes(&[1, 2, 1], &[0; 2]))]);
        let error = Mnist::open(dir.path()).unwrap_err();
        assert_eq!(error.message(), "test images of shape [2, 1], expected [1, 2] as of those to train with");
        assert_eq!(error.file(), Some(&*dir.path().join(NAMES[2])));

        let dir = directory(&[(1, idx_bytes(&[3], &[9, 10, 0]))]);
        let error = Mnist::open(dir.path()).unwrap_err();
        assert_eq!((error.index(), error.file()), (Some(1), Some(&*dir.path().join(NAMES[1]))));

        // Images and labels in each other's place.
        let dir = directory(&[(1, idx_bytes(&[3, 1, 2], &[0; 6]))]);
        assert_eq!(Mnist::open(dir.path()).unwrap_err().message(), "shape [3, 1, 2] of 3 dimensions, expected 1");
    }

    #[cfg(feature = "fashion-mnist")]
    #[test]
    fn the_sample_in_the_crate_is_whole() {
        let fashion = Mnist::fashion_sample();
        for (part, len) in [(&fashion.train, 6_000), (&fashion.test, 1_000)] {
            assert_eq!((part.len(), part.layout()), (len, Some((Ix1(784), ()))));
            let mut counts = [0; 10];
            for index in 0..len {
                let (image, label) = part.get(index).unwrap();
                assert!(image.iter().all(|value| (0.0..=1.0).contains(value)));
                counts[label as usize] += 1;
            }
            assert_eq!(counts, [len / 10; 10]);
        }
    }
}
