//! `procession pack`: a folder of images as tar shards.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use procession::source::{Blob, ImageFolder, PassedOverReason, ShardWriter, ShardWriterOptions, WrittenShard};
use procession::train::replace_file;
use procession::{Error, ErrorKind, Result, Sampler, Sequence, Shuffle};
use serde::Serialize;

use crate::data::{CLASSES, class_names};
use crate::interrupt;
use crate::output::{Output, bytes, count, printable, thousands};
use crate::stop::Stop;

/// Pack a folder of images by class into tar shards, in the convention of WebDataset.
///
/// A sample is an image, the number of its class in the field `cls`, and the files beside it whose names are the image's
/// with another extension: `a.jpg`, `a.txt` and `a.box.json` make one sample. All are stored as they are. The names of
/// the classes are written to `classes.txt` beside the shards, one on each line. The same folder gives the same shards.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder, with a folder for each class
    folder: PathBuf,
    /// Where the shards shall be: a folder, or a pattern such as `out/train-%06d.tar`
    out: PathBuf,
    /// The most samples in a shard
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_samples: u64,
    /// The largest size of a shard; a larger sample has one to itself
    #[arg(long, value_name = "N", default_value_t = 1 << 30)]
    max_bytes: u64,
    /// Pack in an order shuffled by this seed, instead of class after class
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Replace shards of the same pattern, and `classes.txt`
    #[arg(long)]
    force: bool,
}

/// What shards in a folder are called.
const PATTERN: &str = "shard-%06d.tar";

#[derive(Serialize)]
struct Summary<'a> {
    samples: u64,
    size_bytes: u64,
    classes: &'a [String],
    /// Files beside images that became fields of their samples.
    joined: usize,
    /// Files that are in no sample.
    passed_over: usize,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct Shard {
    path: String,
    samples: u64,
    size_bytes: u64,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Stop> {
    let folder = ImageFolder::open(&args.folder)?;
    let beside = Beside::of(&folder);
    let pattern = if args.out.to_string_lossy().contains('%') { args.out.clone() } else { args.out.join(PATTERN) };
    let names = pattern.with_file_name(CLASSES);
    check_apart(&args.folder, &names)?;
    check_classes(folder.classes(), &names, args.force)?;
    let options = ShardWriter::options().max_samples(args.max_samples).max_bytes(args.max_bytes);
    let writer = create(options, &pattern, args.force)?;
    let keys = Keys { root: &args.folder, taken: HashSet::new() };
    let shards = write(&folder, &beside, args.shuffle, keys, writer)?;
    replace_file(&names, folder.classes().iter().map(|name| format!("{name}\n")).collect::<String>().as_bytes())?;
    let summary = Summary {
        samples: shards.iter().map(|shard| shard.num_samples).sum(),
        size_bytes: shards.iter().map(|shard| shard.size_bytes).sum(),
        classes: folder.classes(),
        joined: beside.num_files,
        passed_over: folder.passed_over().len() - beside.num_files,
        shards: shards.into_iter().map(Shard::from).collect(),
    };
    out.json(&summary)?;
    show(&summary, out)?;
    out.flush()
}

impl From<WrittenShard> for Shard {
    fn from(shard: WrittenShard) -> Self {
        let WrittenShard { path, num_samples, size_bytes, .. } = shard;
        Self { path: path.display().to_string(), samples: num_samples, size_bytes }
    }
}

fn show(summary: &Summary<'_>, out: &mut Output) -> Result<(), Stop> {
    for shard in &summary.shards {
        let (samples, size) = (count(shard.samples, "sample", "samples"), bytes(shard.size_bytes));
        out.text(format_args!("{}  {samples}, {size}", printable(&shard.path)))?;
    }
    let (samples, classes) =
        (count(summary.samples, "sample", "samples"), count(summary.classes.len() as u64, "class", "classes"));
    let (shards, size) = (count(summary.shards.len() as u64, "shard", "shards"), bytes(summary.size_bytes));
    out.text(format_args!("{samples} of {classes} in {shards}, {size}"))?;
    if summary.joined > 0 {
        let files = count(summary.joined as u64, "file", "files");
        out.text(format_args!("{files} beside images joined their samples"))?;
    }
    if summary.passed_over > 0 {
        let files = count(summary.passed_over as u64, "file", "files");
        out.text(format_args!("{files} passed over, which `procession inspect --all` lists"))?;
    }
    Ok(())
}

/// Shards in the folder of the images would be in the way the next time.
fn check_apart(folder: &Path, names: &Path) -> Result<()> {
    let folder = fs::canonicalize(folder).map_err(|cause| Error::from(cause).with_file(folder))?;
    // What is not there yet is in the first folder above it that is.
    let there = names.ancestors().skip(1).map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    match there.filter_map(|path| fs::canonicalize(path).ok()).next() {
        Some(out) if out.starts_with(&folder) => {
            let message = "the shards would be in the folder that is packed, expected another one";
            Err(Error::new(ErrorKind::Argument, message).with_file(out))
        }
        _ => Ok(()),
    }
}

/// Shards side by side have one list of classes, or else the labels of some would be read as other classes.
fn check_classes(classes: &[String], names: &Path, force: bool) -> Result<()> {
    if let Some(name) = classes.iter().find(|name| name.contains(['\n', '\r'])) {
        let message = format!("the class `{}` has a line break in its name, expected none", printable(name));
        return Err(Error::new(ErrorKind::Argument, message));
    }
    if !force && names.is_file() && class_names(names)? != classes {
        let message = "there are shards of other classes here already, expected none: take another folder";
        return Err(Error::new(ErrorKind::Argument, message).with_file(names));
    }
    Ok(())
}

/// Begins shards; with `force`, once those of the pattern that are there are removed.
fn create(options: ShardWriterOptions, pattern: &Path, force: bool) -> Result<ShardWriter> {
    loop {
        let error = match options.clone().create(pattern) {
            Ok(writer) => return Ok(writer),
            Err(error) => error,
        };
        // An error about a file that is there and ends so is about a shard of the pattern.
        let is_shard = |file: &&Path| file.extension().is_some_and(|extension| extension == "tar") && file.is_file();
        let Some(shard) = error.file().filter(is_shard) else { return Err(error) };
        if !force {
            let message = "there is a shard of this name already, which --force would replace";
            return Err(Error::new(error.kind(), message).with_file(shard));
        }
        fs::remove_file(shard).map_err(|cause| Error::from(cause).with_file(shard))?;
    }
}

fn write(
    folder: &ImageFolder,
    beside: &Beside,
    seed: Option<u64>,
    mut keys: Keys<'_>,
    mut writer: ShardWriter,
) -> Result<Vec<WrittenShard>, Stop> {
    let num_samples = folder.len() as u64;
    let order = seed.map(|seed| Shuffle::new(num_samples, seed));
    let bar = ProgressBar::with_draw_target(Some(num_samples), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("packing [{wide_bar}] {pos}/{len}  {eta}");
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    for position in 0..num_samples {
        if interrupt::requested() {
            bar.finish_and_clear();
            let whole = count(writer.shards().len() as u64, "shard", "shards");
            let (done, all) = (thousands(position), thousands(num_samples));
            return Err(Stop::Interrupted(format!("after {done} of {all} samples; {whole} whole")));
        }
        let index = order.as_ref().map_or(position, |order| order.index(0, position)) as usize;
        append(folder, beside, index, &mut keys, &mut writer).inspect_err(|_| bar.finish_and_clear())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(writer.finish()?)
}

fn append(
    folder: &ImageFolder,
    beside: &Beside,
    index: usize,
    keys: &mut Keys<'_>,
    writer: &mut ShardWriter,
) -> Result<()> {
    let path = &folder.paths()[index];
    let (image, label) = folder.get(index)?;
    let joined = beside.files.get(path).map_or(&[][..], Vec::as_slice);
    let joined: Vec<(&str, Blob)> =
        joined.iter().map(|(extension, path)| Ok((extension.as_str(), Blob::read(path)?))).collect::<Result<_>>()?;
    let label = label.to_string();
    let extension = field_of(&image.extension().unwrap_or_default());
    let mut fields: Vec<(&str, &[u8])> = vec![(&extension, image.bytes()), ("cls", label.as_bytes())];
    fields.extend(joined.iter().map(|(extension, file)| (*extension, file.bytes())));
    writer.append(&keys.next(path), &fields).map_err(|error| match error.file() {
        Some(_) => error,
        None => error.with_file(path),
    })
}

/// The field of an image. Those who read shards look for few of the extensions that images have.
fn field_of(extension: &str) -> String {
    match extension {
        "jpe" | "jfif" => "jpg".to_owned(),
        "pbm" | "pgm" => "ppm".to_owned(),
        _ => extension.to_owned(),
    }
}

/// The keys of samples, no two the same.
struct Keys<'a> {
    root: &'a Path,
    taken: HashSet<String>,
}

impl Keys<'_> {
    /// The path below the root, without the extension.
    fn next(&mut self, path: &Path) -> String {
        let below = path.strip_prefix(self.root).unwrap_or(path);
        let folders =
            below.parent().into_iter().flat_map(Path::iter).map(|name| format!("{}/", name.to_string_lossy()));
        // A dot would begin the extension.
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().replace('.', "_");
        let key = folders.chain([stem]).collect::<String>();
        let numbers = (2_u64..).map(|number| format!("{key}_{number}"));
        let mut candidates = std::iter::once(key.clone()).chain(numbers);
        candidates.find(|key| self.taken.insert(key.clone())).expect("there are more numbers than samples")
    }
}

/// The files beside images that belong to them.
struct Beside {
    /// By image: field and path.
    files: HashMap<PathBuf, Vec<(String, PathBuf)>>,
    num_files: usize,
}

impl Beside {
    /// Finds among the files that are no images those whose names are an image's with another extension. Where several
    /// images share that name, it belongs to each of them; where it fits a shorter and a longer name, to the longer one.
    fn of(folder: &ImageFolder) -> Self {
        let mut by_stem = HashMap::<PathBuf, Vec<&PathBuf>>::new();
        for image in folder.paths() {
            by_stem.entry(image.with_extension("")).or_default().push(image);
        }
        let mut files = HashMap::<PathBuf, Vec<(String, PathBuf)>>::new();
        let mut num_files = 0;
        let others = folder.passed_over().iter().filter(|passed| passed.reason == PassedOverReason::Extension);
        for other in others {
            let Some(name) = other.path.file_name().and_then(|name| name.to_str()) else { continue };
            let mut dots = name.rmatch_indices('.').map(|(dot, _)| dot);
            let found = dots.find_map(|dot| Some((dot, by_stem.get(&other.path.with_file_name(&name[..dot]))?)));
            let Some((dot, images)) = found else { continue };
            let extension = name[dot + 1..].to_lowercase();
            // The label is that of the folder, and what has no extension is no field.
            if extension == "cls" || extension.is_empty() {
                continue;
            }
            num_files += 1;
            for image in images {
                files.entry((*image).clone()).or_default().push((extension.clone(), other.path.clone()));
            }
        }
        Self { files, num_files }
    }
}
