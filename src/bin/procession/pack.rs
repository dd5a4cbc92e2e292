//! `procession pack`: a folder of images as tar shards.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
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
///
/// Shards are written to a hidden folder beside their places, and put there once all of them are whole: an error or Ctrl-C
/// leaves what was there as it was, also with --force.
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
    let (staging, writer) = Staging::begin(options, &pattern, args.force)?;
    let keys = Keys { root: &args.folder, taken: HashSet::new() };
    let shards = write(&folder, &beside, args.shuffle, keys, writer)?;
    let list: String = folder.classes().iter().map(|name| format!("{name}\n")).collect();
    let shards = staging.put_in_place(shards, &names, &list, args.force)?;
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

/// Where shards are written until all of them are whole: a folder beside their places, so that each gets its place by being
/// renamed. Dropped before that it is removed.
struct Staging<'a> {
    pattern: &'a Path,
    folder: PathBuf,
    is_to_stay: bool,
}

impl<'a> Staging<'a> {
    /// Begins shards of a pattern of which there are none yet, or with `force` some.
    fn begin(options: ShardWriterOptions, pattern: &'a Path, force: bool) -> Result<(Self, ShardWriter)> {
        // The name is always the same, so that what a crash left is replaced. Readers pass over what is hidden.
        let name = pattern.file_name().unwrap_or_default();
        let folder = pattern.with_file_name(format!(".{}.tmp", name.to_string_lossy()));
        // The writer knows what a pattern is; what is there already is for this command to judge.
        if let Err(error) = options.clone().create(pattern) {
            let old = if error.kind() == ErrorKind::Io { existing(pattern).unwrap_or_default() } else { Vec::new() };
            if old.is_empty() {
                return Err(error);
            }
            allow(&old, force)?;
        }
        match fs::remove_dir_all(&folder) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(Error::from(cause).with_file(folder)),
            _ => {}
        }
        let staging = Self { pattern, folder, is_to_stay: false };
        let writer = options.create(staging.folder.join(name))?;
        Ok((staging, writer))
    }

    /// Removes the old shards, if there are some, and puts the new ones in their places. In between there is the time of a few
    /// renames, in which some are missing; never are there shards of one set beside the classes of the other.
    fn put_in_place(
        mut self,
        shards: Vec<WrittenShard>,
        names: &Path,
        list: &str,
        force: bool,
    ) -> Result<Vec<WrittenShard>> {
        // What can fail for want of room has failed before anything is removed.
        let staged_names = self.folder.join(CLASSES);
        replace_file(&staged_names, list.as_bytes())?;
        let old = existing(self.pattern)?;
        allow(&old, force)?;
        self.is_to_stay = true;
        let placed = place(&old, shards, (&staged_names, names)).map_err(|error| {
            let message =
                format!("the new shards are whole, in {}, but not all in their places", self.folder.display());
            Error::new(error.kind(), message).with_cause(error)
        })?;
        self.is_to_stay = false;
        Ok(placed)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.is_to_stay {
            // What cannot be removed is hidden, and in nobody's way.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Refuses shards that are there, unless they are to be replaced.
fn allow(old: &[PathBuf], force: bool) -> Result<()> {
    match old.iter().find(|path| !force || !path.is_file()) {
        Some(path) => {
            let hint = if path.is_file() { ", which --force would replace" } else { ", and it is no file" };
            let message = format!("there is a shard of this name already{hint}");
            Err(Error::new(ErrorKind::Io, message).with_file(path))
        }
        None => Ok(()),
    }
}

/// What has a name of the pattern, by name.
fn existing(pattern: &Path) -> Result<Vec<PathBuf>> {
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let Some((before, after)) = name.split_once('%').and_then(|(before, rest)| Some((before, rest.split_once('d')?.1)))
    else {
        return Ok(Vec::new());
    };
    let failed = |cause: io::Error| Error::from(cause).with_file(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        if number.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Puts shards, and the list of their classes, in the place of old ones.
fn place(old: &[PathBuf], shards: Vec<WrittenShard>, (staged, names): (&Path, &Path)) -> Result<Vec<WrittenShard>> {
    for path in old {
        fs::remove_file(path).map_err(|cause| Error::from(cause).with_file(path))?;
    }
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(|cause| Error::from(cause).with_file(to));
    rename(staged, names)?;
    let folder = names.parent().unwrap_or(Path::new("")).to_owned();
    let mut placed = Vec::new();
    for mut shard in shards {
        let path = folder.join(shard.path.file_name().unwrap_or_default());
        rename(&shard.path, &path)?;
        shard.path = path;
        placed.push(shard);
    }
    if cfg!(unix) {
        // The bytes are on the disk. That their names are too is as sure as the file system makes it.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(placed)
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
            let (done, all) = (thousands(position), thousands(num_samples));
            return Err(Stop::Interrupted(format!("after {done} of {all} samples, no shard of which was kept")));
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
