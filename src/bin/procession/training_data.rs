//! What to train with, and what to test with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array1;
use procession::{Error, ErrorKind, Loader, Result, Sequence, SequenceExt};

use crate::data::{Data, Part, Pictures};
use crate::identity::{Contents, Identity};
use crate::images::{self, Resized, Rows, Size};
use crate::interrupt;
use crate::output::thousands;

/// The number of classes in MNIST and its kin.
const NUM_CLASSES: usize = 10;

/// The most classes that a label may be one of.
const MAX_CLASSES: usize = 1_000_000;

/// The height and width to which image files are resized, as long as nothing else is asked for.
const SIDE: u16 = 28;

/// Which data, and how they are made ready.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Images and their classes: a directory with the four IDX files of MNIST or its kin, plain or .gz; a folder of
    /// images by class; a list of images, .csv; tar shards; CIFAR or Arrow files [default: the sample of Fashion-MNIST
    /// that comes with the program]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Height and width to which images are resized [default: 28 for image files, as they are for IDX and CIFAR]
    #[arg(long, value_name = "PX", requires = "data", value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: Option<u16>,
    /// Keep the colours: three numbers for each pixel, not one
    #[arg(long, requires = "data")]
    rgb: bool,
    /// Part of the samples that is held out to test with, where the data have no such part of their own [default: 0.1]
    #[arg(long, value_name = "X", requires = "data", allow_negative_numbers = true)]
    test_fraction: Option<f64>,
    /// Seed by which it is chosen which samples are held out; it is not --seed, so that trainings are tested alike
    #[arg(long, value_name = "N", requires = "data", default_value_t = 0)]
    split_seed: u64,
    /// Memory in which decoded and resized samples are kept, in MiB, so that they are not decoded anew in each epoch; 0
    /// keeps none
    #[arg(long, value_name = "MIB", requires = "data", default_value_t = 1024)]
    cache: u32,
}

/// Images of one size to train and to test with.
pub(crate) struct TrainingData {
    /// What people call it.
    pub(crate) name: String,
    pub(crate) train: Rows,
    pub(crate) test: Rows,
    pub(crate) num_pixels: usize,
    pub(crate) num_classes: usize,
    /// What a resumed training has to be of.
    pub(crate) identity: Identity,
}

impl DataArgs {
    pub(crate) fn open(&self, num_workers: usize) -> Result<TrainingData> {
        match self.data.as_deref() {
            Some(path) if self.size.is_some() || self.rgb || !holds_idx(path) => {
                self.pictures(path, num_workers).map_err(|error| error.with_file(path))
            }
            dir => self.idx(dir),
        }
    }

    /// IDX files as they are.
    fn idx(&self, dir: Option<&Path>) -> Result<TrainingData> {
        let data = images::open(dir)?;
        self.expect_no_fraction().map_err(|error| error.with_file(dir.unwrap_or(Path::new("the sample"))))?;
        let num_pixels = images::num_pixels(&data.train);
        let (train, test): (Rows, Rows) = (Arc::new(data.train), Arc::new(data.test));
        let mut contents = Contents::default();
        [&train, &test].into_iter().for_each(|rows| contents.add_rows(rows));
        Ok(TrainingData {
            name: dir.map_or("a sample of Fashion-MNIST".into(), Path::to_string_lossy).into_owned(),
            num_pixels,
            num_classes: NUM_CLASSES,
            identity: Identity::new(train.len(), test.len(), None, contents),
            train,
            test,
        })
    }

    fn expect_no_fraction(&self) -> Result<()> {
        match self.test_fraction {
            Some(fraction) => {
                let message = format!("a test fraction of {fraction}, but the data have a part to test with");
                Err(Error::new(ErrorKind::Argument, message))
            }
            None => Ok(()),
        }
    }

    /// Images of any kind.
    fn pictures(&self, path: &Path, num_workers: usize) -> Result<TrainingData> {
        let data = Data::open(path)?;
        let train = data
            .parts
            .iter()
            .find(|part| part.name == "train")
            .or(data.parts.first())
            .ok_or_else(|| wrong("no samples".to_owned()))?;
        // Images whose labels nobody knows are none to test with.
        let is_labelled = |part: &&Part| part.class_counts.is_some() || part.label.is_some();
        let is_test = |part: &&Part| ["test", "validation", "valid", "val"].contains(&&*part.name);
        let others = data.parts.iter().filter(|part| part.name != train.name);
        let test = others.clone().filter(is_test).find(is_labelled);
        let unlabelled = others.filter(is_test).find(|part| !is_labelled(part));
        let size = self.size(train)?;
        let parts: Vec<&Part> = [Some(train), test].into_iter().flatten().collect();
        let num_classes = num_classes(&data, &parts, num_workers)?;
        let budget = u64::from(self.cache) << 20;
        let rows = resized(pictures_of(train)?, size, budget);
        let mut contents = Contents::default();
        for part in [Some(train), test].into_iter().flatten() {
            contents.add(&pictures_of(part)?);
        }
        let split_seed = test.is_none().then_some(self.split_seed);
        let (train, test): (Rows, Rows) = match test {
            Some(test) => {
                self.expect_no_fraction()?;
                let left = budget.saturating_sub((rows.len() * 4 * (size.num_pixels() + 1)) as u64);
                let test = resized(pictures_of(test)?, size, left);
                (rows, test)
            }
            None => self.split(rows)?,
        };
        let (num_train, num_test) = (train.len(), test.len());
        if num_train == 0 || num_test == 0 {
            let message = format!(
                "{} samples, {num_train} of them to train with and {num_test} to test with, expected some of each",
                num_train + num_test
            );
            return Err(wrong(message));
        }
        let hint = unlabelled.map_or(String::new(), |part| format!(", whose `{}` has no labels", part.name));
        let name = format!("{}{hint}", path.display());
        let identity = Identity::new(num_train, num_test, split_seed, contents);
        Ok(TrainingData { name, train, test, num_pixels: size.num_pixels(), num_classes, identity })
    }

    /// Holds samples out to test with.
    fn split(&self, rows: Rows) -> Result<(Rows, Rows)> {
        let fraction = self.test_fraction.unwrap_or(0.1);
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(wrong(format!("a test fraction of {fraction}, expected a number above 0 and below 1")));
        }
        let (train, test) = rows.split(1.0 - fraction, self.split_seed)?;
        Ok((Arc::new(train), Arc::new(test)))
    }

    /// The size that the images of a part get.
    fn size(&self, part: &Part) -> Result<Size> {
        let channels = if self.rgb { 3 } else { 1 };
        let (height, width) = match (self.size, pictures_of(part)?) {
            (Some(side), _) => (side.into(), side.into()),
            (None, Pictures::Pixels(images)) if !images.is_empty() => {
                let image = images.get(0)?.0;
                (image.height(), image.width())
            }
            (None, _) => (SIDE.into(), SIDE.into()),
        };
        Ok(Size { height, width, channels })
    }
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Argument, message)
}

/// Whether a path is a directory with files named as those of MNIST.
fn holds_idx(path: &Path) -> bool {
    let Ok(entries) = path.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("train-images"))
}

fn pictures_of(part: &Part) -> Result<Pictures> {
    part.pictures.clone().ok_or_else(|| {
        let fields: Vec<String> = part.fields.iter().map(|(name, kind)| format!("{name} ({kind})")).collect();
        wrong(format!("no images in these data, whose fields are: {}", fields.join(", ")))
    })
}

/// Images as rows, of which as many are kept as the budget allows.
fn resized(pictures: Pictures, size: Size, budget: u64) -> Rows {
    match pictures {
        Pictures::Files(files) => kept(Resized::new(files, size), budget),
        Pictures::Pixels(images) => kept(Resized::new(images, size), budget),
    }
}

fn kept(rows: impl Sequence<Sample = (Array1<f32>, u32)> + 'static, budget: u64) -> Rows {
    if budget == 0 { Arc::new(rows) } else { Arc::new(rows.cached_within(budget)) }
}

/// The number of classes: as many as have names, or as the largest label tells.
fn num_classes(data: &Data, parts: &[&Part], num_workers: usize) -> Result<usize> {
    let mut num_classes = data.classes.len();
    for part in parts {
        match &part.class_counts {
            // No counts stand for labels that are too many to be counted.
            Some(counts) if !counts.is_empty() || part.num_samples == 0 => num_classes = num_classes.max(counts.len()),
            None if !data.classes.is_empty() => {}
            _ => {
                num_classes =
                    num_classes.max(largest_label(pictures_of(part)?, num_workers)?.map_or(0, |most| most + 1))
            }
        }
    }
    match num_classes {
        // Samples without labels are all of class 0.
        0 | 1 => Err(wrong(format!("labels of {num_classes} class, expected at least 2 to tell apart"))),
        2..=MAX_CLASSES => Ok(num_classes),
        _ => {
            let most = thousands(MAX_CLASSES as u64 - 1);
            Err(wrong(format!("a label of {}, expected a class from 0 to {most}", thousands(num_classes as u64 - 1))))
        }
    }
}

/// Reads every label, which may mean every sample, and decodes none.
fn largest_label(pictures: Pictures, num_workers: usize) -> Result<Option<usize>> {
    fn largest<I: Send + 'static>(
        samples: Arc<dyn Sequence<Sample = (I, u32)>>,
        num_workers: usize,
    ) -> Result<Option<usize>> {
        let labels = Loader::builder(samples).map(|(_, label)| label).batch_size(256).workers(num_workers).build()?;
        let mut most = None;
        for batch in labels.epoch(0) {
            most = most.max(batch?.iter().max().map(|&label| label as usize));
            if interrupt::requested() {
                return Err(Error::new(ErrorKind::Interrupted, "while reading labels, before training"));
            }
        }
        Ok(most)
    }
    match pictures {
        Pictures::Files(files) => largest(files, num_workers),
        Pictures::Pixels(images) => largest(images, num_workers),
    }
}
