//! `procession inspect`: what a data set holds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use procession::image::DecodeOptions;
use procession::source::Blob;
use procession::{Error, Result, Sequence};
use serde::Serialize;

use crate::data::{Data, Part, Pictures};
use crate::flat::{TokenArgs, TokenFacts, TokenSummary};
use crate::interrupt;
use crate::output::{Output, bytes, count, printable, thousands};
use crate::sheet::{Sheet, SheetArgs};
use crate::stop::{Stop, chain};

/// Tell what a data set holds: samples, fields, classes, sizes of images, and what was passed over.
///
/// Opens folders of images, lists of images (CSV), tar shards, IDX and CIFAR files, NumPy arrays, Arrow and Parquet files,
/// tables (.csv, .tsv), lines of text (.txt, .jsonl, .ndjson, .json) and tokens (.bin). Only headers and labels are read;
/// of image files, a hundred are looked at. Files of text are read once to find the lines, and tokens to find the
/// smallest and the largest. A column of a CSV table has the type that nine of ten of its fields have, of 10,000 rows at
/// most.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder or a file; with braces, as in `train-{000..009}.tar`, several
    path: PathBuf,
    /// List all classes and all that was passed over, however many there are
    #[arg(long)]
    all: bool,
    /// Count the classes even if all labels of 100,000 samples or more have to be read for that
    #[arg(long)]
    labels: bool,
    #[command(flatten)]
    tokens: TokenArgs,
    #[command(flatten)]
    sheet: SheetArgs,
}

/// From how many samples on labels are read only if that is asked for.
const MANY_LABELS: usize = 100_000;
/// How many image files are looked at.
const MAX_LOOKED_AT: usize = 100;
/// How many classes are listed, and how many files that were passed over.
const MAX_CLASSES: usize = 24;
const MAX_PASSED_OVER: usize = 5;
/// The widths of the longest bar and of the longest name of a class, in characters.
const BAR: u64 = 40;
const MAX_NAME: usize = 32;

#[derive(Serialize)]
struct Summary<'a> {
    path: String,
    kind: &'a str,
    classes: &'a [String],
    parts: Vec<PartSummary<'a>>,
    passed_over: Passed<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sheet: Option<Sheet>,
}

#[derive(Serialize)]
struct PartSummary<'a> {
    name: &'a str,
    samples: usize,
    fields: Vec<Field<'a>>,
    /// By the number of the class; absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    class_counts: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_label: Option<Trouble>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Images>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<TokenSummary>,
}

#[derive(Serialize)]
struct Field<'a> {
    name: &'a str,
    r#type: &'a str,
}

/// Samples that something is wrong with.
#[derive(Default, Serialize)]
struct Trouble {
    samples: u64,
    first: String,
}

impl Trouble {
    fn add(&mut self, error: &Error) {
        if self.samples == 0 {
            self.first = chain(error);
        }
        self.samples += 1;
    }

    fn found(self) -> Option<Self> {
        (self.samples > 0).then_some(self)
    }
}

/// What some image files are like.
#[derive(Serialize)]
struct Images {
    looked_at: usize,
    formats: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<Trouble>,
}

#[derive(Clone, Copy, Serialize)]
struct Spread {
    min: usize,
    median: usize,
    max: usize,
}

impl Spread {
    fn of(mut values: Vec<usize>) -> Option<Self> {
        values.sort_unstable();
        Some(Self { min: *values.first()?, median: values[values.len() / 2], max: *values.last()? })
    }

    fn show(self, unit: impl Fn(usize) -> String) -> String {
        match self.min == self.max {
            true => unit(self.min),
            false => format!("{} to {}, median {}", unit(self.min), unit(self.max), unit(self.median)),
        }
    }
}

#[derive(Serialize)]
struct Passed<'a> {
    count: u64,
    by_reason: BTreeMap<&'a str, u64>,
    /// The first ones, or all of them.
    files: Vec<PassedFile<'a>>,
}

#[derive(Serialize)]
struct PassedFile<'a> {
    name: &'a str,
    reason: &'a str,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Stop> {
    let data = Data::open_with(&args.path, &args.tokens)?;
    let parts = data.parts.iter().map(|part| summary_of(part, &data, args)).collect::<Result<Vec<_>, Stop>>()?;
    // What was found is told even if there is nothing to draw, or no place to draw it.
    let (sheet, undrawn) = match args.sheet.draw(&data) {
        Ok(sheet) => (sheet, None),
        Err(error) => (None, Some(error)),
    };
    let summary = Summary {
        path: data.path.display().to_string(),
        kind: &data.kind,
        classes: &data.classes,
        parts,
        passed_over: passed_over(&data, args.all),
        sheet,
    };
    out.json(&summary)?;
    show(&summary, args.all, out)?;
    out.flush()?;
    undrawn.map_or(Ok(()), |error| Err(error.into()))
}

fn summary_of<'a>(part: &'a Part, data: &Data, args: &Args) -> Result<PartSummary<'a>, Stop> {
    let (mut class_counts, mut without_label) = (part.class_counts.clone(), None);
    if class_counts.is_none() && (args.labels || part.num_samples < MANY_LABELS) {
        (class_counts, without_label) = read_labels(part)?;
    }
    // A class without samples counts as one, and labels that make no table do not.
    let class_counts = class_counts.filter(|counts| !counts.is_empty()).map(|mut counts| {
        counts.resize(counts.len().max(data.classes.len()), 0);
        counts
    });
    let images = match &part.pictures {
        Some(Pictures::Files(files)) if part.num_samples > 0 => Some(look_at(&**files)?),
        _ => None,
    };
    let fields = part.fields.iter().map(|(name, kind)| Field { name, r#type: kind }).collect();
    let tokens = part.tokens.as_ref().map(TokenFacts::summary).transpose()?;
    let samples = part.num_samples;
    Ok(PartSummary { name: &part.name, samples, fields, class_counts, without_label, images, tokens })
}

/// Counts labels by loading them.
fn read_labels(part: &Part) -> Result<(Option<Vec<u64>>, Option<Trouble>), Stop> {
    let Some(label) = &part.label else { return Ok((None, None)) };
    let (mut counts, mut without) = (BTreeMap::<u32, u64>::new(), Trouble::default());
    for index in 0..part.num_samples {
        if index % 1024 == 0 && interrupt::requested() {
            let of = count(part.num_samples as u64, "sample", "samples");
            return Err(Stop::Interrupted(format!("after the labels of {} of {of}", thousands(index as u64))));
        }
        match label(index) {
            Ok(label) => *counts.entry(label).or_default() += 1,
            Err(error) => without.add(&error),
        }
    }
    // Labels that are not classes, such as numbers of people, make no table.
    let most = counts.keys().next_back().map(|&most| most as usize).filter(|&most| most < 1_000_000);
    let table = most.map(|most| {
        let mut table = vec![0; most + 1];
        counts.into_iter().for_each(|(label, count)| table[label as usize] = count);
        table
    });
    Ok((table, without.found()))
}

/// Reads the headers of some files, evenly spaced.
fn look_at<S: Sequence<Sample = (Blob, u32)> + ?Sized>(files: &S) -> Result<Images, Stop> {
    let looked_at = files.len().min(MAX_LOOKED_AT);
    let (mut formats, mut unreadable) = (BTreeMap::new(), Trouble::default());
    let (mut heights, mut widths, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..looked_at {
        if interrupt::requested() {
            return Err(Stop::Interrupted(format!("after {}", count(number as u64, "image", "images"))));
        }
        let index = (number as u64 * files.len() as u64 / looked_at as u64) as usize;
        let info = files.get(index).and_then(|(file, _)| Ok((DecodeOptions::new().info(&file)?, file.len())));
        match info {
            Ok((info, size_bytes)) => {
                *formats.entry(info.format.to_string()).or_default() += 1;
                heights.push(info.height);
                widths.push(info.width);
                sizes.push(size_bytes);
            }
            Err(error) => unreadable.add(&error),
        }
    }
    let (height, width, size_bytes) = (Spread::of(heights), Spread::of(widths), Spread::of(sizes));
    Ok(Images { looked_at, formats, height, width, size_bytes, unreadable: unreadable.found() })
}

fn passed_over(data: &Data, all: bool) -> Passed<'_> {
    let mut by_reason = BTreeMap::new();
    for (_, reason) in &data.passed_over {
        *by_reason.entry(reason.as_str()).or_default() += 1;
    }
    let limit = if all { usize::MAX } else { MAX_PASSED_OVER };
    let files = data.passed_over.iter().take(limit).map(|(name, reason)| PassedFile { name, reason }).collect();
    Passed { count: data.num_passed_over, by_reason, files }
}

fn show(summary: &Summary<'_>, all: bool, out: &mut Output) -> Result<(), Stop> {
    out.text(format_args!("{}: {}", printable(&summary.path), summary.kind))?;
    for part in &summary.parts {
        out.text(format_args!(""))?;
        out.text(format_args!("{}, {}", printable(part.name), count(part.samples as u64, "sample", "samples")))?;
        show_fields(part, out)?;
        if let Some(tokens) = &part.tokens {
            out.text(format_args!("  {}", tokens.line()))?;
        }
        show_images(part, out)?;
        show_classes(part, summary.classes, all, out)?;
    }
    show_passed_over(&summary.passed_over, all, out)?;
    if let Some(sheet) = &summary.sheet {
        out.text(format_args!(""))?;
        let (images, path) = (count(sheet.images as u64, "image", "images"), printable(&sheet.path));
        out.text(format_args!("{path}: {images} on {} x {} pixels", sheet.width, sheet.height))?;
    }
    Ok(())
}

fn show_fields(part: &PartSummary<'_>, out: &mut Output) -> Result<(), Stop> {
    let width = part.fields.iter().map(|field| printable(field.name).chars().count()).max().unwrap_or(0);
    for field in &part.fields {
        out.text(format_args!("  {:<width$}  {}", printable(field.name), printable(field.r#type)))?;
    }
    Ok(())
}

fn show_images(part: &PartSummary<'_>, out: &mut Output) -> Result<(), Stop> {
    let Some(images) = &part.images else { return Ok(()) };
    let looked_at = if images.looked_at == part.samples {
        count(part.samples as u64, "file", "files")
    } else {
        format!("{} of {}", images.looked_at, count(part.samples as u64, "file", "files"))
    };
    let formats: Vec<_> = images.formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    let formats = if formats.is_empty() { "none that can be read".to_owned() } else { formats.join(", ") };
    out.text(format_args!("  images in {looked_at}: {formats}"))?;
    if let (Some(height), Some(width), Some(size_bytes)) = (images.height, images.width, images.size_bytes) {
        out.text(format_args!("    height  {}", height.show(|pixels| thousands(pixels as u64))))?;
        out.text(format_args!("    width   {}", width.show(|pixels| thousands(pixels as u64))))?;
        out.text(format_args!("    size    {}", size_bytes.show(|size| bytes(size as u64))))?;
    }
    if let Some(Trouble { samples, first }) = &images.unreadable {
        let files = count(*samples, "file", "files");
        out.text(format_args!("    {files} cannot be read, such as: {}", printable(first)))?;
    }
    Ok(())
}

fn show_classes(part: &PartSummary<'_>, names: &[String], all: bool, out: &mut Output) -> Result<(), Stop> {
    if let Some(Trouble { samples, first }) = &part.without_label {
        let samples = count(*samples, "sample", "samples");
        out.text(format_args!("  {samples} without a label, such as: {}", printable(first)))?;
    }
    let Some(counts) = &part.class_counts else { return Ok(()) };
    out.text(format_args!("  {}", count(counts.len() as u64, "class", "classes")))?;
    let mut shown: Vec<usize> = (0..counts.len()).collect();
    let mut left_out = Vec::new();
    if !all && shown.len() > MAX_CLASSES {
        shown.sort_by_key(|&class| std::cmp::Reverse(counts[class]));
        left_out = shown.split_off(MAX_CLASSES);
        shown.sort_unstable();
    }
    let labels: Vec<String> = shown.iter().map(|&class| shortened(&name_of(class, names))).collect();
    let name_width = labels.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let most = counts.iter().copied().max().unwrap_or(0);
    let count_width = thousands(most).len();
    for (&class, name) in shown.iter().zip(&labels) {
        let (samples, bar) = (thousands(counts[class]), bar(counts[class], most));
        let line = format!("    {name:<name_width$}  {samples:>count_width$}  {bar}");
        out.text(format_args!("{}", line.trim_end()))?;
    }
    let counts_left = || left_out.iter().map(|&class| counts[class]);
    if let (Some(fewest), Some(most)) = (counts_left().min(), counts_left().max()) {
        let each =
            if fewest == most { thousands(most) } else { format!("{} to {}", thousands(fewest), thousands(most)) };
        let classes = count(left_out.len() as u64, "more class", "more classes");
        out.text(format_args!("    and {classes} of {each}; --all lists them"))?;
    }
    Ok(())
}

/// The name of a class, or its number.
pub(crate) fn name_of(class: usize, names: &[String]) -> String {
    names.get(class).map_or_else(|| class.to_string(), |name| printable(name))
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= MAX_NAME {
        return name.to_owned();
    }
    name.chars().take(MAX_NAME - 1).chain(['\u{2026}']).collect()
}

/// A bar for a count: none for none, and something for whatever is more.
fn bar(count: u64, most: u64) -> String {
    let length = u128::from(count) * u128::from(BAR);
    "\u{2588}".repeat(length.div_ceil(u128::from(most.max(1))) as usize)
}

fn show_passed_over(passed: &Passed<'_>, all: bool, out: &mut Output) -> Result<(), Stop> {
    if passed.count == 0 {
        return Ok(());
    }
    out.text(format_args!(""))?;
    out.text(format_args!("passed over, {}", count(passed.count, "file", "files")))?;
    for (reason, number) in &passed.by_reason {
        out.text(format_args!("  {}  {reason}", thousands(*number)))?;
    }
    for file in &passed.files {
        out.text(format_args!("  {}: {}", printable(file.name), file.reason))?;
    }
    let left = passed.count - passed.files.len() as u64;
    if left > 0 {
        let hint = if all { "" } else { "; --all lists them" };
        out.text(format_args!("  and {} more{hint}", thousands(left)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_names() {
        assert_eq!([0, 1, 50, 100].map(|count| bar(count, 100).chars().count()), [0, 1, 20, 40]);
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(u64::MAX, u64::MAX).chars().count(), 40);
        assert_eq!(shortened(&"x".repeat(32)).len(), 32);
        assert_eq!(shortened(&"\u{e9}".repeat(33)), format!("{}\u{2026}", "\u{e9}".repeat(31)));
        let names = ["cat".to_owned(), "a\tdog".to_owned()];
        assert_eq!([0, 1, 2].map(|class| name_of(class, &names)), ["cat", "a\\tdog", "2"]);
    }

    #[test]
    fn a_spread_is_told_where_there_is_one() {
        let show = |values: &[usize]| Spread::of(values.to_vec()).map(|spread| spread.show(|value| value.to_string()));
        assert_eq!(show(&[]), None);
        assert_eq!(show(&[7, 7]).as_deref(), Some("7"));
        assert_eq!(show(&[9, 1, 5]).as_deref(), Some("1 to 9, median 5"));
    }
}
