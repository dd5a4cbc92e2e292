//! A data set at a path, of whichever kind it is: what the commands need to know of it.
#![allow(dead_code, reason = "the commands that use it follow")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use procession::image::{DecodeOptions, Image, ImageFormat};
use procession::source::{
    ArrowTable, Blob, Cifar, CifarPart, Idx, ImageFolder, ImageList, Mnist, Npy, Npz, Table, TarShards,
};
use procession::{Error, ErrorKind, Result, Sequence, SequenceExt};

use crate::output::count;

/// Images with labels, not decoded or as pixels.
#[derive(Clone)]
pub(crate) enum Pictures {
    Files(Arc<dyn Sequence<Sample = (Blob, u32)>>),
    Pixels(Arc<dyn Sequence<Sample = (Image, u32)>>),
}

/// Loads a sample as far as it can be checked, and tells in an error what is wrong with it.
pub(crate) type Check = Arc<dyn Fn(usize) -> Result<()> + Send + Sync>;

/// Reads the label of a sample.
pub(crate) type Label = Arc<dyn Fn(usize) -> Result<u32> + Send + Sync>;

/// A part of a data set: all of it, or what is to be trained or tested with.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) num_samples: usize,
    /// What a sample is made of: names and types.
    pub(crate) fields: Vec<(String, String)>,
    /// How often each class occurs, where labels are known without loading samples.
    pub(crate) class_counts: Option<Vec<u64>>,
    /// Present where samples have labels that are not known without loading them.
    pub(crate) label: Option<Label>,
    /// Present where samples are images.
    pub(crate) pictures: Option<Pictures>,
    pub(crate) check: Check,
}

/// A data set that is open.
#[derive(Clone)]
pub(crate) struct Data {
    pub(crate) path: PathBuf,
    pub(crate) kind: String,
    /// The names of the classes; empty where there are none.
    pub(crate) classes: Vec<String>,
    pub(crate) parts: Vec<Part>,
    /// What was passed over, and why; of the members of a tar archive the first thousand.
    pub(crate) passed_over: Vec<(String, String)>,
    pub(crate) num_passed_over: u64,
}

impl Data {
    /// Opens whatever is at a path: a folder of images by class, a folder or a list of images, tar shards, IDX or CIFAR
    /// files, NumPy arrays, Arrow files or a folder of them.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let data = if path.is_dir() { open_folder(path) } else { open_file(path) }?;
        Ok(Self { path: path.to_owned(), ..data })
    }
}

fn data(kind: impl Into<String>, classes: Vec<String>, parts: Vec<Part>) -> Data {
    Data { path: PathBuf::new(), kind: kind.into(), classes, parts, passed_over: Vec::new(), num_passed_over: 0 }
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn open_folder(path: &Path) -> Result<Data> {
    let names: Vec<String> = std::fs::read_dir(path)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
        })
        .map_err(|cause| Error::from(cause).with_file(path))?;
    let has = |test: &dyn Fn(&str) -> bool| names.iter().any(|name| test(name));
    if has(&|name| name.starts_with("train-images")) {
        return mnist(path);
    }
    if has(&|name| name == "dataset_dict.json") {
        let mut classes = Vec::new();
        let mut parts = Vec::new();
        for split in ArrowTable::splits(path)? {
            let table = ArrowTable::open_split(path, &split)?;
            classes = classes_of(&table, classes);
            parts.push(table_part(split, &table)?);
        }
        return Ok(data("Arrow data set in splits", classes, parts));
    }
    if has(&|name| name == "state.json") || has(&|name| extension(Path::new(name)) == "arrow") {
        return arrow(path);
    }
    if has(&|name| matches!(name, "data_batch_1.bin" | "cifar-10-batches-bin")) {
        return Ok(cifar("CIFAR-10", Cifar::open_10(path)?));
    }
    if has(&|name| matches!(name, "fine_label_names.txt" | "cifar-100-binary")) {
        return Ok(cifar("CIFAR-100", Cifar::open_100(path)?));
    }
    if has(&|name| extension(Path::new(name)) == "tar") {
        return tar(path);
    }
    images(path)
}

fn open_file(path: &Path) -> Result<Data> {
    match &*extension(path) {
        "tar" => tar(path),
        "arrow" => arrow(path),
        "csv" => {
            let list = ImageList::open_csv(path)?;
            let (classes, counts) = (list.classes().to_vec(), counts(list.labels()));
            let part = picture_files("all", Arc::new(list), Some(counts));
            Ok(data("list of images", classes, vec![part]))
        }
        "npy" => Ok(data("NumPy array", Vec::new(), vec![npy("all".to_owned(), Npy::open(path)?)])),
        "npz" => {
            let archive = Npz::open(path)?;
            let names: Vec<String> = archive.names().map(str::to_owned).collect();
            let parts = names.into_iter().map(|name| Ok(npy(name.clone(), archive.array(&name)?)));
            Ok(data("NumPy archive", Vec::new(), parts.collect::<Result<_>>()?))
        }
        // Braces stand for many shards, none of which has that name.
        _ if path.to_string_lossy().contains('{') => tar(path),
        // The name of an IDX file says little: its first bytes have to.
        _ => idx(path).map_err(|error| match error.kind() {
            ErrorKind::Format => {
                let known = "a folder or a CSV list of images, tar shards, IDX, CIFAR, NumPy or Arrow files";
                Error::new(ErrorKind::Format, format!("no data set of a known kind, expected {known}"))
                    .with_cause(error)
            }
            _ => error,
        }),
    }
}

/// How often each label occurs.
fn counts(labels: &[u32]) -> Vec<u64> {
    let num_classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
    // Labels that are not classes, such as numbers of people, make no table.
    if num_classes > 1_000_000 {
        return Vec::new();
    }
    let mut counts = vec![0; num_classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

fn picture_files(name: &str, files: Arc<dyn Sequence<Sample = (Blob, u32)>>, class_counts: Option<Vec<u64>>) -> Part {
    let checked = Arc::clone(&files);
    Part {
        name: name.to_owned(),
        num_samples: files.len(),
        fields: vec![("image".to_owned(), "image file".to_owned()), ("label".to_owned(), "u32".to_owned())],
        class_counts,
        label: None,
        pictures: Some(Pictures::Files(files)),
        check: Arc::new(move |index| DecodeOptions::new().decode(&checked.get(index)?.0).map(drop)),
    }
}

fn images(path: &Path) -> Result<Data> {
    match ImageFolder::open(path) {
        Ok(folder) => {
            let (classes, class_counts) = (folder.classes().to_vec(), counts(folder.labels()));
            let passed = folder.passed_over().iter();
            let passed: Vec<_> =
                passed.map(|passed| (passed.path.display().to_string(), passed.reason.to_string())).collect();
            let num_passed_over = passed.len() as u64;
            let part = picture_files("all", Arc::new(folder), Some(class_counts));
            Ok(Data { passed_over: passed, num_passed_over, ..data("folder of images by class", classes, vec![part]) })
        }
        // Without folders of classes the images may lie in the folder itself.
        Err(error) if error.kind() == ErrorKind::Format => {
            let files = ImageFolder::open_unlabelled(path).map_err(|_| error)?;
            let part = picture_files("all", Arc::new(files.map(|file| (file, 0))), None);
            Ok(data("folder of images without classes", Vec::new(), vec![part]))
        }
        Err(error) => Err(error),
    }
}

/// The file beside tar shards that names their classes: one on each line, in the order of their numbers.
pub(crate) const CLASSES: &str = "classes.txt";

/// The names of classes in a file; none if it is not there.
pub(crate) fn class_names(path: &Path) -> Result<Vec<String>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    Ok(Blob::read(path)?.text()?.lines().map(str::to_owned).collect())
}

fn tar(path: &Path) -> Result<Data> {
    let shards = TarShards::open(path)?;
    let mut extensions = std::collections::BTreeMap::<String, u64>::new();
    for (_, index) in shards.shards() {
        for entry in 0..index.len() {
            for field in index.entry(entry).fields() {
                *extensions.entry(field.extension().to_owned()).or_default() += 1;
            }
        }
    }
    let is_image =
        |extension: &str| ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm"].contains(&extension);
    let has_images = extensions.keys().any(|extension| is_image(extension));
    let pictures = has_images.then(|| {
        if extensions.contains_key("cls") {
            return Pictures::Files(Arc::new(shards.images_and_labels()));
        }
        let known = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm"];
        Pictures::Files(Arc::new(shards.clone().try_map(move |sample| Ok::<_, Error>((sample.field_of(&known)?, 0)))))
    });
    let fields = extensions
        .iter()
        .map(|(extension, &number)| (extension.clone(), format!("in {}", count(number, "sample", "samples"))))
        .collect();
    let passed = shards
        .passed_over()
        .map(|(shard, passed)| (format!("{}/{}", shard.display(), passed.name), passed.kind.to_string()))
        .collect();
    let (checked, labelled) = (shards.clone(), shards.clone());
    let label: Label = Arc::new(move |index| labelled.get(index)?.label());
    let part = Part {
        name: "all".to_owned(),
        num_samples: shards.len(),
        fields,
        class_counts: None,
        label: extensions.contains_key("cls").then_some(label),
        pictures,
        check: Arc::new(move |index| {
            let sample = checked.get(index)?;
            for field in sample.fields() {
                match &*field.extension().unwrap_or_default() {
                    extension if ImageFormat::of(&field).is_some() || is_image(extension) => {
                        DecodeOptions::new().decode(&field)?;
                    }
                    "txt" | "json" => {
                        field.text()?;
                    }
                    "cls" => {
                        sample.label()?;
                    }
                    _ => {}
                }
            }
            Ok(())
        }),
    };
    let classes = match shards.shards().next() {
        Some((first, _)) => class_names(&first.with_file_name(CLASSES))?,
        None => Vec::new(),
    };
    let (num_shards, num_passed_over) = (shards.shards().len(), shards.num_passed_over());
    let kind = format!("tar, {num_shards} {}", if num_shards == 1 { "shard" } else { "shards" });
    Ok(Data { passed_over: passed, num_passed_over, ..data(kind, classes, vec![part]) })
}

/// Grey images of bytes as pictures.
fn grey(
    images: impl Sequence<Sample = ndarray::Array2<u8>> + 'static,
    labels: impl Sequence<Sample = u32> + 'static,
) -> Result<Pictures> {
    let pairs = images.zip(labels)?.try_map(|(image, label): (ndarray::Array2<u8>, u32)| {
        let (height, width) = image.dim();
        Ok::<_, Error>((Image::new(height, width, 1, image.into_iter().collect())?, label))
    });
    Ok(Pictures::Pixels(Arc::new(pairs)))
}

fn mnist(path: &Path) -> Result<Data> {
    let mnist = Mnist::open(path)?;
    let mut parts = Vec::new();
    for (name, (images, labels)) in [("train", mnist.train), ("test", mnist.test)] {
        let known: Vec<u32> = (0..labels.len()).map(|index| labels.get(index)).collect::<Result<_>>()?;
        let images = Idx::open(images.path())?.images()?;
        let shape = images.shape().to_vec();
        let checked = images.clone();
        parts.push(Part {
            name: name.to_owned(),
            num_samples: images.len(),
            fields: vec![("image".to_owned(), format!("u8 {shape:?}")), ("label".to_owned(), "u32".to_owned())],
            class_counts: Some(counts(&known)),
            label: None,
            pictures: Some(grey(images, labels)?),
            check: Arc::new(move |index| checked.get(index).map(drop)),
        });
    }
    Ok(data("IDX, MNIST and kin", (0..10).map(|class| class.to_string()).collect(), parts))
}

fn idx(path: &Path) -> Result<Data> {
    let idx = Idx::open(path)?;
    let num_samples = idx.shape()[0];
    let part = Part {
        name: "all".to_owned(),
        num_samples,
        fields: vec![("sample".to_owned(), format!("{} {:?}", idx.element(), &idx.shape()[1..]))],
        class_counts: None,
        label: None,
        pictures: idx.images().ok().map(|images| grey(images, vec![0_u32; num_samples])).transpose()?,
        // The length of the file was compared with the header when it was opened.
        check: Arc::new(|_| Ok(())),
    };
    Ok(data("IDX", Vec::new(), vec![part]))
}

fn cifar(kind: &str, cifar: Cifar) -> Data {
    let classes = cifar.class_names().to_vec();
    let part = |name: &str, (images, labels): CifarPart| {
        let known: Option<Vec<u32>> = (0..labels.len()).map(|index| labels.get(index).ok()).collect();
        let (num_samples, checked) = (images.len(), (images.clone(), labels.clone()));
        let pictures = (images, labels).try_map(|(image, label)| Ok::<_, Error>((Image::from_array(&image)?, label)));
        Part {
            name: name.to_owned(),
            num_samples,
            fields: vec![("image".to_owned(), "u8 [32, 32, 3]".to_owned()), ("label".to_owned(), "u32".to_owned())],
            class_counts: known.map(|labels| counts(&labels)),
            label: None,
            pictures: Some(Pictures::Pixels(Arc::new(pictures))),
            check: Arc::new(move |index| checked.get(index).map(drop)),
        }
    };
    let parts = vec![part("train", cifar.train.clone()), part("test", cifar.test.clone())];
    data(kind, classes, parts)
}

fn npy(name: String, npy: Npy) -> Part {
    let shape = npy.shape().to_vec();
    Part {
        name,
        num_samples: shape.first().copied().unwrap_or(1),
        fields: vec![(
            "sample".to_owned(),
            format!("{} {:?}", npy.element(), shape.split_first().map_or(&[][..], |(_, rest)| rest)),
        )],
        class_counts: None,
        label: None,
        pictures: None,
        // The length of the file was compared with the header when it was opened.
        check: Arc::new(|_| Ok(())),
    }
}

fn arrow(path: &Path) -> Result<Data> {
    let table = ArrowTable::open(path)?;
    let part = table_part("all".to_owned(), &table)?;
    Ok(data("Arrow", classes_of(&table, Vec::new()), vec![part]))
}

/// The names of the classes of the first column that has any.
fn classes_of(table: &Table, known: Vec<String>) -> Vec<String> {
    if !known.is_empty() {
        return known;
    }
    table.schema().find_map(|(name, _)| table.class_names(name)).map(|names| names.to_vec()).unwrap_or_default()
}

fn table_part(name: String, table: &Table) -> Result<Part> {
    let fields: Vec<(String, String)> = table.schema().map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    let labels = fields.iter().find(|(name, _)| table.class_names(name).is_some() || name == "label");
    let labels = labels.and_then(|(name, _)| table.labels(name).ok());
    let blobs = fields.iter().find_map(|(name, _)| table.blobs(name).ok());
    let (images, checked_labels) = (blobs.clone(), labels.clone());
    let label = labels.clone().map(|labels| -> Label { Arc::new(move |index| labels.get(index)) });
    let pictures = match (blobs, labels) {
        (Some(images), Some(labels)) => Some(Pictures::Files(Arc::new(images.zip(labels)?))),
        (Some(images), None) => Some(Pictures::Files(Arc::new(images.map(|image| (image, 0))))),
        (None, _) => None,
    };
    Ok(Part {
        name,
        num_samples: table.num_rows(),
        fields,
        class_counts: None,
        label,
        pictures,
        check: Arc::new(move |index| {
            if let Some(labels) = &checked_labels {
                labels.get(index)?;
            }
            match &images {
                Some(images) => DecodeOptions::new().decode(&images.get(index)?).map(drop),
                None => Ok(()),
            }
        }),
    })
}
