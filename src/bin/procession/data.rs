//! A data set at a path, of whichever kind it is: what the commands need to know of it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procession::image::{DecodeOptions, Image, ImageFormat};
use procession::source::{
    ArrowTable, Blob, Cifar, CifarPart, ColumnElement, Idx, ImageFolder, ImageList, Mnist, Npy, Npz, ParquetTable,
    Table, TarSample, TarShards,
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
    /// Opens whatever is at a path: a folder of images by class, or one to train and one to test with, a folder or a list of images, tar shards, IDX or CIFAR
    /// files, NumPy arrays, Arrow or Parquet files or a folder of them.
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
        return tables("Arrow data set in splits", ArrowTable::splits(path)?, |split| {
            ArrowTable::open_split(path, split)
        });
    }
    if has(&|name| extension(Path::new(name)) == "parquet") {
        return match ParquetTable::splits(path)? {
            splits if splits.len() < 2 => parquet(path),
            splits => tables("Parquet files in splits", splits, |split| ParquetTable::open_split(path, split)),
        };
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
    match TEST_FOLDERS.iter().find(|&&test| has(&|name| name == test)) {
        Some(test) if has(&|name| name == "train") => train_and_test(path, test),
        _ => images(path),
    }
}

/// What the folder beside `train` may be called.
const TEST_FOLDERS: [&str; 4] = ["test", "val", "validation", "valid"];

/// A folder of images by class to train with, and one to test with. Folders of these names that hold images themselves are
/// classes.
fn train_and_test(path: &Path, test: &str) -> Result<Data> {
    let (Ok(train), Ok(tested)) = (ImageFolder::open(path.join("train")), ImageFolder::open(path.join(test))) else {
        return images(path);
    };
    if train.classes() != tested.classes() {
        let message = format!("classes {:?}, expected {:?} as in `train`", tested.classes(), train.classes());
        return Err(Error::new(ErrorKind::Format, message).with_file(path.join(test)));
    }
    let classes = train.classes().to_vec();
    let mut passed_over = passed_over(&train);
    passed_over.extend(self::passed_over(&tested));
    let parts = [("train", train), (test, tested)].map(|(name, folder)| {
        let counts = counts(folder.labels());
        picture_files(name, Arc::new(folder), Some(counts))
    });
    let num_passed_over = passed_over.len() as u64;
    Ok(Data { passed_over, num_passed_over, ..data("folders of images by class", classes, parts.into()) })
}

fn passed_over(folder: &ImageFolder) -> Vec<(String, String)> {
    folder.passed_over().iter().map(|passed| (passed.path.display().to_string(), passed.reason.to_string())).collect()
}

fn open_file(path: &Path) -> Result<Data> {
    match &*extension(path) {
        "tar" => tar(path),
        "arrow" => arrow(path),
        "parquet" => parquet(path),
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
                let known = "a folder or a CSV list of images, tar shards, IDX, CIFAR, NumPy, Arrow or Parquet files";
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
            let passed_over = passed_over(&folder);
            let num_passed_over = passed_over.len() as u64;
            let part = picture_files("all", Arc::new(folder), Some(class_counts));
            Ok(Data { passed_over, num_passed_over, ..data("folder of images by class", classes, vec![part]) })
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
    let is_image = |extension: &str| ImageFormat::EXTENSIONS.contains(&extension);
    let has_images = extensions.keys().any(|extension| is_image(extension));
    let pictures = has_images.then(|| {
        if extensions.contains_key("cls") {
            return Pictures::Files(Arc::new(shards.images_and_labels()));
        }
        let image = |sample: TarSample| Ok::<_, Error>((sample.field_of(&ImageFormat::EXTENSIONS)?, 0));
        Pictures::Files(Arc::new(shards.clone().try_map(image)))
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
        check: match npy.samples::<bool, ndarray::IxDyn>() {
            // Not every byte is one.
            Ok(samples) => Arc::new(move |index| samples.get(index).map(drop)),
            // The length of the file was compared with the header when it was opened, and all bytes are numbers.
            Err(_) => Arc::new(|_| Ok(())),
        },
    }
}

fn arrow(path: &Path) -> Result<Data> {
    let table = ArrowTable::open(path)?;
    let part = table_part("all".to_owned(), &table)?;
    Ok(data("Arrow", classes_of(&table, Vec::new()), vec![part]))
}

/// A table for each split.
fn tables<T: Deref<Target = Table>>(kind: &str, splits: Vec<String>, open: impl Fn(&str) -> Result<T>) -> Result<Data> {
    let (mut classes, mut parts) = (Vec::new(), Vec::new());
    for split in splits {
        let table = open(&split)?;
        classes = classes_of(&table, classes);
        parts.push(table_part(split, &table)?);
    }
    Ok(data(kind, classes, parts))
}

fn parquet(path: &Path) -> Result<Data> {
    let table = ParquetTable::open(path)?;
    let part = table_part("all".to_owned(), &table)?;
    Ok(data("Parquet", classes_of(&table, Vec::new()), vec![part]))
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
    let blobs = fields.iter().find_map(|(name, kind)| {
        let blobs = table.blobs(name).ok()?;
        // Bytes that are not said to be images may be anything: the first of them tells.
        let begins_with_one = || !blobs.is_empty() && blobs.get(0).is_ok_and(|blob| ImageFormat::of(&blob).is_some());
        (kind.contains("image") || begins_with_one()).then_some(blobs)
    });
    let checks: Vec<Check> = fields.iter().filter_map(|(name, kind)| check_of_column(table, name, kind)).collect();
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
        check: Arc::new(move |index| checks.iter().try_for_each(|check| check(index))),
    })
}

/// What checks a value of a column, if values of its type are read at all. A value that is missing is none to check.
fn check_of_column(table: &Table, name: &str, kind: &str) -> Option<Check> {
    fn loads(column: impl Sequence + 'static) -> Option<Check> {
        Some(Arc::new(move |index| column.get(index).map(drop)))
    }
    fn numbers<T: ColumnElement>(table: &Table, name: &str) -> Option<Check> {
        if let Ok(column) = table.column::<T>(name) {
            return loads(column.or_default(T::default()));
        }
        let rows = table.rows::<T>(name).ok()?.or_default(T::default());
        Some(Arc::new(move |index| match rows.get(index) {
            // Lists that make no array are nothing damaged.
            Err(error) if error.kind() == ErrorKind::Shape => Ok(()),
            loaded => loaded.map(drop),
        }))
    }
    if let Ok(blobs) = table.blobs(name) {
        let (blobs, is_image) = (blobs.or_default(MISSING), kind.contains("image"));
        return Some(Arc::new(move |index| {
            let blob = blobs.get(index)?;
            let is_image = is_image || ImageFormat::of(&blob).is_some();
            if is_image && blob.bytes() != MISSING { DecodeOptions::new().decode(&blob).map(drop) } else { Ok(()) }
        }));
    }
    if let Ok(texts) = table.strings(name) {
        return loads(texts.or_default(""));
    }
    if let Some(labels) = table.class_names(name).and_then(|_| table.labels(name).ok()) {
        return loads(labels.or_default(0));
    }
    let kinds = [
        numbers::<u8>,
        numbers::<u16>,
        numbers::<u32>,
        numbers::<u64>,
        numbers::<i8>,
        numbers::<i16>,
        numbers::<i32>,
        numbers::<i64>,
        numbers::<f32>,
        numbers::<f64>,
        numbers::<bool>,
    ];
    kinds.into_iter().find_map(|check| check(table, name))
}

/// Stands for an image that is missing.
const MISSING: &[u8] = b"";
