//! A data set at a path, of whichever kind it is: what the commands need to know of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::IxDyn;
use procession::image::{DecodeOptions, Image, ImageFormat};
use procession::source::{
    ArrowTable, Blob, Cifar, CifarPart, Idx, IdxType, ImageList, Mnist, Npy, NpyElement, NpyType, Npz, ParquetTable,
    TarSample, TarShards,
};
use procession::{Error, ErrorKind, Result, Sequence, SequenceExt, collate};

use crate::csv_table;
use crate::flat::{self, TokenArgs, TokenFacts};
use crate::folders;
use crate::output::count;
use crate::tables;
use crate::workload::{self, Column, MakeWorkload, Workload, touched};

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
    /// Present where samples are windows of tokens.
    pub(crate) tokens: Option<TokenFacts>,
    /// What there is to measure, where samples are not images and something of them is read.
    pub(crate) workload: Option<MakeWorkload>,
    pub(crate) check: Check,
}

impl Part {
    pub(crate) fn new(
        name: impl Into<String>,
        num_samples: usize,
        fields: Vec<(String, String)>,
        check: impl Fn(usize) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            num_samples,
            fields,
            class_counts: None,
            label: None,
            pictures: None,
            tokens: None,
            workload: None,
            check: Arc::new(check),
        }
    }
}

/// The name and the type of a field.
pub(crate) fn field(name: &str, kind: impl Into<String>) -> (String, String) {
    (name.to_owned(), kind.into())
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
    /// Opens whatever is at a path: a folder of images by class, or one to train and one to test with, a folder or a list
    /// of images, tar shards, IDX or CIFAR files, NumPy arrays, Arrow or Parquet files or a folder of them, tables as CSV,
    /// lines of text, files of tokens.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &TokenArgs::default())
    }

    /// Opens whatever is at a path, and reads tokens as the arguments say.
    pub(crate) fn open_with(path: &Path, tokens: &TokenArgs) -> Result<Self> {
        let data = if path.is_dir() { open_folder(path) } else { open_file(path, tokens) }?;
        if tokens.any() && data.parts.iter().all(|part| part.tokens.is_none()) {
            let message = format!("{}, but --dtype, --window and --vocab-size are for files of tokens", data.kind);
            return Err(Error::new(ErrorKind::Argument, message).with_file(path));
        }
        Ok(Self { path: path.to_owned(), ..data })
    }
}

pub(crate) fn data(kind: impl Into<String>, classes: Vec<String>, parts: Vec<Part>) -> Data {
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
        return tables::splits("Arrow data set in splits", ArrowTable::splits(path)?, |split| {
            ArrowTable::open_split(path, split)
        });
    }
    if has(&|name| extension(Path::new(name)) == "parquet") {
        return match ParquetTable::splits(path)? {
            splits if splits.len() < 2 => tables::parquet(path),
            splits => tables::splits("Parquet files in splits", splits, |split| ParquetTable::open_split(path, split)),
        };
    }
    if has(&|name| name == "state.json") || has(&|name| extension(Path::new(name)) == "arrow") {
        return tables::arrow(path);
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
    folders::open(path, &names)
}

fn open_file(path: &Path, tokens: &TokenArgs) -> Result<Data> {
    match &*extension(path) {
        "tar" => tar(path),
        "arrow" => tables::arrow(path),
        "parquet" => tables::parquet(path),
        "csv" if csv_table::lists_images(path)? => {
            let list = ImageList::open_csv(path)?;
            let (classes, counts) = (list.classes().to_vec(), counts(list.labels()));
            let part = picture_files("all", Arc::new(list), Some(counts));
            Ok(data("list of images", classes, vec![part]))
        }
        "csv" => csv_table::open(path, b','),
        "tsv" => csv_table::open(path, b'\t'),
        "txt" | "jsonl" | "ndjson" | "json" => flat::lines(path),
        "bin" => bin(path, tokens),
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
                let known = "a folder or a CSV list of images, tar shards, IDX, CIFAR, NumPy, Arrow or Parquet files, \
                             tables (.csv, .tsv), lines of text (.txt, .jsonl, .ndjson, .json), tokens (.bin)";
                Error::new(ErrorKind::Format, format!("no data set of a known kind, expected {known}"))
                    .with_cause(error)
            }
            _ => error,
        }),
    }
}

/// A file of a name that says little: tokens, unless it is one of CIFAR or begins as an IDX file does. Whoever tells how
/// tokens are to be read has said that it holds some.
fn bin(path: &Path, tokens: &TokenArgs) -> Result<Data> {
    if tokens.any() {
        return flat::tokens(path, tokens);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if name.starts_with("data_batch_") || name == "test_batch.bin" {
        return Ok(cifar("CIFAR-10, all of its folder", Cifar::open_10(folder)?));
    }
    // Files of tokens have these names, too: those of CIFAR come in twos, and in whole records.
    if matches!(&*name, "train.bin" | "test.bin")
        && let Ok(found) = Cifar::open_100(folder)
    {
        return Ok(cifar("CIFAR-100, all of its folder", found));
    }
    idx(path).or_else(|_| flat::tokens(path, tokens))
}

/// How often each label occurs.
pub(crate) fn counts(labels: &[u32]) -> Vec<u64> {
    let num_classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
    // Labels that are not classes, such as numbers of people, make no table.
    if num_classes > 1_000_000 {
        return Vec::new();
    }
    let mut counts = vec![0; num_classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

pub(crate) fn picture_files(
    name: &str,
    files: Arc<dyn Sequence<Sample = (Blob, u32)>>,
    class_counts: Option<Vec<u64>>,
) -> Part {
    let checked = Arc::clone(&files);
    let check = move |index| DecodeOptions::new().decode(&checked.get(index)?.0).map(drop);
    Part {
        class_counts,
        pictures: Some(Pictures::Files(Arc::clone(&files))),
        ..Part::new(name, files.len(), vec![field("image", "image file"), field("label", "u32")], check)
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
    let (checked, labelled, loaded) = (shards.clone(), shards.clone(), shards.clone());
    let label: Label = Arc::new(move |index| labelled.get(index)?.label());
    let check = move |index| {
        let sample = checked.get(index)?;
        for field in sample.fields() {
            match &*field.extension().unwrap_or_default() {
                // What it begins with does not tell: text and numbers may begin as an image does.
                extension if is_image(extension) => {
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
    };
    let workload: MakeWorkload = Arc::new(move || {
        let files = loaded.clone().map(|sample: TarSample| sample.fields().map(touched).collect::<Vec<Blob>>());
        Ok(workload::table(loaded.len(), [Column::new(files, collate::from_fn(Ok))].into()))
    });
    let part = Part {
        label: extensions.contains_key("cls").then_some(label),
        pictures,
        workload: Some(workload),
        ..Part::new("all", shards.len(), fields, check)
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
        let fields = vec![field("image", format!("u8 {shape:?}")), field("label", "u32")];
        let num_samples = images.len();
        parts.push(Part {
            class_counts: Some(counts(&known)),
            pictures: Some(grey(images, labels)?),
            ..Part::new(name, num_samples, fields, move |index| checked.get(index).map(drop))
        });
    }
    Ok(data("IDX, MNIST and kin", (0..10).map(|class| class.to_string()).collect(), parts))
}

fn idx(path: &Path) -> Result<Data> {
    let idx = Idx::open(path)?;
    let num_samples = idx.shape()[0];
    let fields = vec![field("sample", format!("{} {:?}", idx.element(), &idx.shape()[1..]))];
    let loaded = idx.clone();
    let workload: MakeWorkload = Arc::new(move || {
        // Bytes are mapped; of the rest the crate reads whole files.
        Ok(match loaded.element() {
            IdxType::U8 => workload::stacked(loaded.samples::<IxDyn>()?),
            IdxType::I8 => workload::rows_of(loaded.to_array::<i8, IxDyn>()?),
            IdxType::I16 => workload::rows_of(loaded.to_array::<i16, IxDyn>()?),
            IdxType::I32 => workload::rows_of(loaded.to_array::<i32, IxDyn>()?),
            IdxType::F32 => workload::rows_of(loaded.to_array::<f32, IxDyn>()?),
            IdxType::F64 => workload::rows_of(loaded.to_array::<f64, IxDyn>()?),
        })
    });
    let part = Part {
        pictures: idx.images().ok().map(|images| grey(images, vec![0_u32; num_samples])).transpose()?,
        workload: Some(workload),
        // The length of the file was compared with the header when it was opened.
        ..Part::new("all", num_samples, fields, |_| Ok(()))
    };
    Ok(data("IDX", Vec::new(), vec![part]))
}

fn cifar(kind: &str, cifar: Cifar) -> Data {
    let classes = cifar.class_names().to_vec();
    let part = |name: &str, (images, labels): CifarPart| {
        let known: Option<Vec<u32>> = (0..labels.len()).map(|index| labels.get(index).ok()).collect();
        let (num_samples, checked) = (images.len(), (images.clone(), labels.clone()));
        let pictures = (images, labels).try_map(|(image, label)| Ok::<_, Error>((Image::from_array(&image)?, label)));
        let fields = vec![field("image", "u8 [32, 32, 3]"), field("label", "u32")];
        Part {
            class_counts: known.map(|labels| counts(&labels)),
            pictures: Some(Pictures::Pixels(Arc::new(pictures))),
            ..Part::new(name, num_samples, fields, move |index| checked.get(index).map(drop))
        }
    };
    let parts = vec![part("train", cifar.train.clone()), part("test", cifar.test.clone())];
    data(kind, classes, parts)
}

fn npy(name: String, npy: Npy) -> Part {
    let shape = npy.shape().to_vec();
    let of_sample = shape.split_first().map_or(&[][..], |(_, rest)| rest);
    let fields = vec![field("sample", format!("{} {of_sample:?}", npy.element()))];
    let num_samples = shape.first().copied().unwrap_or(1);
    let part = match npy.samples::<bool, IxDyn>() {
        // Not every byte is one.
        Ok(samples) => Part::new(name, num_samples, fields, move |index| samples.get(index).map(drop)),
        // The length of the file was compared with the header when it was opened, and all bytes are numbers.
        Err(_) => Part::new(name, num_samples, fields, |_| Ok(())),
    };
    let workload: MakeWorkload = Arc::new(move || match npy.element() {
        NpyType::Bool => npy_workload::<bool>(&npy),
        NpyType::U8 => npy_workload::<u8>(&npy),
        NpyType::U16 => npy_workload::<u16>(&npy),
        NpyType::U32 => npy_workload::<u32>(&npy),
        NpyType::U64 => npy_workload::<u64>(&npy),
        NpyType::I8 => npy_workload::<i8>(&npy),
        NpyType::I16 => npy_workload::<i16>(&npy),
        NpyType::I32 => npy_workload::<i32>(&npy),
        NpyType::I64 => npy_workload::<i64>(&npy),
        NpyType::F16 => npy_workload::<half::f16>(&npy),
        NpyType::F32 => npy_workload::<f32>(&npy),
        NpyType::F64 => npy_workload::<f64>(&npy),
    });
    // A number that is no array has no samples.
    Part { workload: (!shape.is_empty()).then_some(workload), ..part }
}

fn npy_workload<T: NpyElement>(npy: &Npy) -> Result<Box<dyn Workload>> {
    // In Fortran order no sample lies in one piece.
    if npy.is_fortran() {
        return Ok(workload::rows_of(npy.to_array::<T, IxDyn>()?));
    }
    Ok(workload::stacked(npy.samples::<T, IxDyn>()?))
}
