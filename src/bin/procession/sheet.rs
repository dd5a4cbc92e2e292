//! A contact sheet: a batch as the model will see it, with the labels under the images.

use std::path::{Path, PathBuf};

use ::image::codecs::png::PngEncoder;
use ::image::{ExtendedColorType, ImageEncoder};
use font8x8::legacy::BASIC_LEGACY;
use ndarray::{Array1, Array4};
use procession::image::{ColorJitter, DecodeOptions, Filter, Image, ImageTransform, RandomResizedCrop};
use procession::train::replace_file;
use procession::{Batch, Error, ErrorKind, Loader, Result, Sequence};
use serde::Serialize;

use crate::data::{Data, Part, Pictures};
use crate::inspect::name_of;

#[derive(Debug, clap::Args)]
pub(crate) struct SheetArgs {
    /// Draw a batch as the model will see it, shuffled and changed at random, with labels, to a PNG file
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Replace the file of the sheet if it is there
    #[arg(long, requires = "sheet")]
    force: bool,
    /// Images on the sheet, at most 256
    #[arg(long, value_name = "N", default_value_t = 32, requires = "sheet")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    count: u16,
    /// Height and width of an image on the sheet in pixels, 16 to 512
    #[arg(long, value_name = "PIXELS", default_value_t = 112, requires = "sheet")]
    #[arg(value_parser = clap::value_parser!(u16).range(16..=512))]
    size: u16,
    /// What the choice of images and their changes depend on
    #[arg(long, default_value_t = 0, requires = "sheet")]
    seed: u64,
    /// Do not change the images at random: resized, and their middle cut out
    #[arg(long, requires = "sheet")]
    plain: bool,
}

/// A sheet that was written.
#[derive(Debug, Serialize)]
pub(crate) struct Sheet {
    pub(crate) path: String,
    pub(crate) images: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// Images `(batch, height, width, 3)`, and their labels.
type Drawn = Batch<(Array4<u8>, Array1<u32>)>;

/// Below this many pixels in both extents, grey images are taken for digits and their like, which are moved only.
const SMALL: usize = 64;
/// Pixels between images, and the height and width of a letter.
const GAP: usize = 4;
const LETTER: usize = 8;
/// The most lines of a label.
const MAX_LINES: usize = 2;
const PAPER: u8 = 255;
const INK: u8 = 32;

impl SheetArgs {
    /// Draws the sheet that was asked for.
    pub(crate) fn draw(&self, data: &Data) -> Result<Option<Sheet>> {
        let Some(path) = &self.sheet else { return Ok(None) };
        if !self.force && path.symlink_metadata().is_ok() {
            let message = "there is a file of this name already, which --force would replace";
            return Err(Error::new(ErrorKind::Argument, message).with_file(path));
        }
        let nothing = || Error::new(ErrorKind::Argument, "no images to draw in the data set").with_file(&data.path);
        let part =
            data.parts.iter().find(|part| part.pictures.is_some() && part.num_samples > 0).ok_or_else(nothing)?;
        let pictures = part.pictures.as_ref().ok_or_else(nothing)?;
        let transform = self.transform(pictures)?;
        let count = usize::from(self.count);
        // One batch is all there is to load.
        let batch = match pictures.clone() {
            Pictures::Files(files) => Loader::builder(files)
                .transform(transform)
                .batch_size(count)
                .shuffle(self.seed)
                .build()?
                .epoch(0)
                .next(),
            Pictures::Pixels(images) => Loader::builder(images)
                .transform(transform)
                .batch_size(count)
                .shuffle(self.seed)
                .build()?
                .epoch(0)
                .next(),
        };
        let batch = batch.ok_or_else(nothing)??;
        write(path, &batch, &labels(&batch, part, data)).map(Some)
    }

    fn transform(&self, pictures: &Pictures) -> Result<ImageTransform> {
        let first = match pictures {
            Pictures::Files(files) => DecodeOptions::new().decode(&files.get(0)?.0)?,
            Pictures::Pixels(images) => images.get(0)?.0,
        };
        let size = usize::from(self.size);
        let (height, width) = (first.height(), first.width());
        if height.max(width) < SMALL && is_grey(&first) {
            let moved = if self.plain {
                ImageTransform::new().center_crop(height, width)
            } else {
                ImageTransform::new().random_crop(height, width, height.max(width).div_ceil(12))
            };
            // Magnified as they are, pixel by pixel.
            let longer = height.max(width);
            let scaled = |extent: usize| (extent * size / longer).max(1);
            let magnified = moved.filter(Filter::Nearest).resize(scaled(height), scaled(width));
            return Ok(magnified.center_crop(size, size));
        }
        if self.plain {
            return Ok(ImageTransform::new().resize_shorter(size).center_crop(size, size));
        }
        let jitter = ColorJitter::new().brightness(0.2).contrast(0.2).saturation(0.2);
        Ok(ImageTransform::new()
            .random_resized_crop_with(RandomResizedCrop::new(size, size).scale(0.5, 1.0))
            .random_horizontal_flip(0.5)
            .color_jitter(jitter))
    }
}

fn is_grey(image: &Image) -> bool {
    image.channels() == 1 || image.pixels().chunks_exact(3).all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2])
}

/// What stands under each image: its class, or its index if it has none.
fn labels(batch: &Drawn, part: &Part, data: &Data) -> Vec<String> {
    if part.class_counts.is_some() || part.label.is_some() {
        return batch.1.iter().map(|&label| name_of(label as usize, &data.classes)).collect();
    }
    batch.indices().iter().map(|index| format!("#{index}")).collect()
}

/// An image of three channels that is drawn on.
struct Canvas {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(height: usize, width: usize) -> Self {
        Self { height, width, pixels: vec![PAPER; height * width * 3] }
    }

    fn put(&mut self, top: usize, left: usize, rgb: &[u8]) {
        let at = (top * self.width + left) * 3;
        self.pixels[at..at + rgb.len()].copy_from_slice(rgb);
    }

    /// Writes a line of letters, each pixel of them `scale` high and wide.
    fn text(&mut self, top: usize, left: usize, scale: usize, line: &[char]) {
        for (number, &letter) in line.iter().enumerate() {
            for (row, bits) in glyph(letter).into_iter().enumerate() {
                for column in (0..LETTER).filter(|column| bits & (1 << column) != 0) {
                    let (top, left) = (top + row * scale, left + (number * LETTER + column) * scale);
                    for (down, across) in (0..scale).flat_map(|down| (0..scale).map(move |across| (down, across))) {
                        self.put(top + down, left + across, &[INK; 3]);
                    }
                }
            }
        }
    }
}

/// The rows of a letter, the lowest bit to the left; of a question mark for what is not ASCII.
fn glyph(letter: char) -> [u8; LETTER] {
    static LETTERS: [[u8; LETTER]; 128] = BASIC_LEGACY;
    LETTERS.get(letter as usize).copied().unwrap_or(LETTERS[usize::from(b'?')])
}

/// Breaks a label into lines of at most so many letters; what has no room is left out.
fn lines(label: &str, width: usize) -> Vec<Vec<char>> {
    let letters: Vec<char> = label.chars().collect();
    let mut lines: Vec<Vec<char>> = letters.chunks(width).take(MAX_LINES).map(<[char]>::to_vec).collect();
    if letters.len() > width * MAX_LINES
        && let Some(last) = lines.last_mut()
    {
        let kept = width.saturating_sub(2);
        last.truncate(kept);
        last.resize(width, '.');
    }
    lines
}

/// About twice as many columns as rows, for screens are wide.
fn num_columns(count: usize) -> usize {
    (1..=count).find(|columns| columns * columns >= 2 * count).unwrap_or(count)
}

fn write(path: &Path, batch: &Drawn, labels: &[String]) -> Result<Sheet> {
    let images = &batch.0;
    let (count, size) = (images.dim().0, images.dim().1);
    // At least sixteen letters to a line where there is room for that.
    let scale = (size / (14 * LETTER)).max(1);
    let labels: Vec<_> = labels.iter().map(|label| lines(label, size / (LETTER * scale))).collect();
    let num_lines = labels.iter().map(Vec::len).max().unwrap_or(0);
    let line_height = (LETTER + 2) * scale;
    let (columns, cell_height) = (num_columns(count), size + GAP + num_lines * line_height + GAP);
    let rows = count.div_ceil(columns);
    let mut canvas = Canvas::new(GAP + rows * cell_height, GAP + columns * (size + GAP));
    for (number, (image, lines)) in images.outer_iter().zip(&labels).enumerate() {
        let (top, left) = (GAP + number / columns * cell_height, GAP + number % columns * (size + GAP));
        for (row, pixels) in image.outer_iter().enumerate() {
            canvas.put(top + row, left, pixels.to_slice().expect("a batch lies in one piece"));
        }
        for (line, letters) in lines.iter().enumerate() {
            let across = size.saturating_sub(letters.len() * LETTER * scale) / 2;
            canvas.text(top + size + GAP + line * line_height, left + across, scale, letters);
        }
    }
    let mut png = Vec::new();
    let (width, height) = (canvas.width as u32, canvas.height as u32);
    PngEncoder::new(&mut png)
        .write_image(&canvas.pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot write the sheet").with_cause(cause).with_file(path))?;
    replace_file(path, &png)?;
    Ok(Sheet { path: path.display().to_string(), images: count, height: canvas.height, width: canvas.width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_broken_into_lines() {
        let shown = |label: &str, width| -> Vec<String> {
            lines(label, width).into_iter().map(|line| line.into_iter().collect()).collect()
        };
        assert_eq!(shown("", 4), [""; 0]);
        assert_eq!(shown("bird", 4), ["bird"]);
        assert_eq!(shown("blackbird", 5), ["black", "bird"]);
        assert_eq!(shown("great white shark", 5), ["great", " wh.."]);
        assert_eq!(shown("abcde", 2), ["ab", ".."]);
        assert_eq!(shown("abc", 1), ["a", "."]);
    }

    #[test]
    fn there_is_a_column_for_each_image_at_most() {
        assert_eq!([1, 2, 3, 8, 32, 256].map(num_columns), [1, 2, 3, 4, 8, 23]);
    }

    #[test]
    fn letters_are_drawn_within_the_canvas() {
        let mut canvas = Canvas::new(16, 32);
        canvas.text(0, 0, 2, &['\u{e9}', '?']);
        let halves = |side: usize| -> Vec<u8> {
            let rows = canvas.pixels.chunks_exact(32 * 3);
            rows.flat_map(|row| row[side * 48..(side + 1) * 48].iter().copied()).collect()
        };
        assert_eq!(halves(0), halves(1));
        assert!(halves(0).contains(&INK) && halves(0).contains(&PAPER));
    }
}
