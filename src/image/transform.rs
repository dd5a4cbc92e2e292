//! From the bytes of an image file to a row of the batch: a chain of transforms with torchvision's names and meaning.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use ndarray::{Array3, Ix3};

use super::decode::Part;
use super::pixels::{Finish, Pixel};
use super::resize::{Area, MAX_EXTENT, shorter_edge};
use super::{ColorJitter, DecodeOptions, Filter, Image};
use crate::batch::stack::{Row, Stack};
use crate::error::{Error, ErrorKind, Result};
use crate::rng::VisitRng;
use crate::source::{Blob, array_layout, array_row, pair_layout, pair_row};
use crate::transform::Transform;

/// Decodes an image, changes it step by step, and writes it to its row of the batch.
///
/// For [`transform`](crate::LoaderBuilder::transform). It takes undecoded images ([`Blob`]), [`Image`]s and arrays
/// `Array3<u8>` `(height, width, channels)`, each alone or in a pair with a label or anything else of a fixed layout,
/// which it hands on. Out comes `Array3<T>`: `u8`, or `f32` after [`to_f32`](Self::to_f32); `(height, width, channels)`,
/// or `(channels, height, width)` after [`channels_first`](Self::channels_first).
///
/// Steps are taken in the order in which they are written. All that is random is drawn from the visit's stream: the same
/// for any number of workers and after a resume. If the last step that sets a size sets both extents, samples are written
/// straight into the batch.
///
/// # Panics
///
/// The methods panic if an extent is 0 or above 65,536, or a probability is not in `0.0..=1.0`.
///
/// # Examples
///
/// ```
/// use procession::image::{ColorJitter, IMAGENET_MEAN, IMAGENET_STD, ImageTransform};
///
/// let to_train_with = ImageTransform::new()
///     .random_resized_crop(224, 224)
///     .random_horizontal_flip(0.5)
///     .color_jitter(ColorJitter::new().brightness(0.4).contrast(0.4).saturation(0.4))
///     .to_f32()
///     .normalize(IMAGENET_MEAN, IMAGENET_STD)
///     .channels_first();
/// let to_test_with = ImageTransform::new()
///     .resize_shorter(256)
///     .center_crop(224, 224)
///     .to_f32()
///     .normalize(IMAGENET_MEAN, IMAGENET_STD)
///     .channels_first();
/// # let _ = (to_train_with, to_test_with);
/// ```
#[derive(Clone)]
pub struct ImageTransform<T = u8> {
    decode: DecodeOptions,
    channels: usize,
    filter: Filter,
    steps: Vec<Step>,
    finish: Finish,
    erasing: Option<RandomErasing>,
    number: PhantomData<fn() -> T>,
}

type Custom = dyn Fn(Image, &mut VisitRng) -> Result<Image> + Send + Sync;

#[derive(Clone)]
enum Step {
    Resize { height: usize, width: usize, filter: Filter },
    ResizeShorter { size: usize, max_size: Option<usize>, filter: Filter },
    CenterCrop { height: usize, width: usize },
    RandomCrop { height: usize, width: usize, padding: usize },
    RandomResizedCrop { crop: RandomResizedCrop, filter: Filter },
    FlipHorizontal(f64),
    FlipVertical(f64),
    Rotate { degrees: f32, filter: Filter },
    Jitter(ColorJitter),
    Grey(f64),
    Custom(Arc<Custom>),
}

impl Default for ImageTransform {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageTransform {
    /// Decodes to red, green and blue, and changes nothing yet.
    pub fn new() -> Self {
        Self {
            decode: DecodeOptions::new(),
            channels: 3,
            filter: Filter::Bilinear,
            steps: Vec::new(),
            finish: Finish::new(),
            erasing: None,
            number: PhantomData,
        }
    }

    /// Sets the limits of decoding and what else there is to say about it, such as another decoder for JPEG files and decoding
    /// at a reduced scale ([`DecodeOptions::reduced`]).
    pub fn decode(mut self, options: DecodeOptions) -> Self {
        self.channels = options.channels();
        self.decode = options;
        self
    }

    /// Sets the filter of the steps that follow and resize or turn. Bilinear by default.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Resizes to `height` x `width`, without regard to the aspect ratio.
    #[track_caller]
    pub fn resize(self, height: usize, width: usize) -> Self {
        check_size(height, width);
        let filter = self.filter;
        self.step(Step::Resize { height, width, filter })
    }

    /// Resizes so that the shorter edge becomes `size`; the longer one is rounded downwards.
    #[track_caller]
    pub fn resize_shorter(self, size: usize) -> Self {
        check_size(size, size);
        let filter = self.filter;
        self.step(Step::ResizeShorter { size, max_size: None, filter })
    }

    /// As [`resize_shorter`](Self::resize_shorter), but with the longer edge at most `max_size`.
    #[track_caller]
    pub fn resize_shorter_within(self, size: usize, max_size: usize) -> Self {
        check_size(size, max_size);
        let filter = self.filter;
        self.step(Step::ResizeShorter { size, max_size: Some(max_size), filter })
    }

    /// Cuts out the middle, with black around it where the image is smaller ([`Image::center_crop`]).
    #[track_caller]
    pub fn center_crop(self, height: usize, width: usize) -> Self {
        check_size(height, width);
        self.step(Step::CenterCrop { height, width })
    }

    /// Cuts out a part from a random place, each as likely as any other, after a black border of `padding` pixels was put
    /// around the image. An image that is too small even so gets what is missing on top of that, on both sides, as in
    /// torchvision with `pad_if_needed`.
    #[track_caller]
    pub fn random_crop(self, height: usize, width: usize, padding: usize) -> Self {
        check_size(height, width);
        self.step(Step::RandomCrop { height, width, padding })
    }

    /// Cuts out a part of random size and aspect ratio and resizes it: [`RandomResizedCrop`] with its usual ranges.
    #[track_caller]
    pub fn random_resized_crop(self, height: usize, width: usize) -> Self {
        self.random_resized_crop_with(RandomResizedCrop::new(height, width))
    }

    /// Cuts out a part of random size and aspect ratio and resizes it.
    pub fn random_resized_crop_with(self, crop: RandomResizedCrop) -> Self {
        let filter = self.filter;
        self.step(Step::RandomResizedCrop { crop, filter })
    }

    /// Swaps left and right with a probability of `p`.
    #[track_caller]
    pub fn random_horizontal_flip(self, p: f64) -> Self {
        check_probability(p);
        self.step(Step::FlipHorizontal(p))
    }

    /// Turns upside down with a probability of `p`.
    #[track_caller]
    pub fn random_vertical_flip(self, p: f64) -> Self {
        check_probability(p);
        self.step(Step::FlipVertical(p))
    }

    /// Turns by a random angle from `-degrees` to `degrees`, with black around it.
    ///
    /// With the [`filter`](Self::filter) set before, which is bilinear if none is. torchvision's default is the nearest
    /// pixel: `filter(Filter::Nearest)` gives that.
    ///
    /// # Panics
    ///
    /// If `degrees` is not in `0.0..=360.0`, or the filter is neither [`Nearest`](Filter::Nearest) nor
    /// [`Bilinear`](Filter::Bilinear): the others are for resizing only.
    #[track_caller]
    pub fn random_rotation(self, degrees: f32) -> Self {
        assert!((0.0..=360.0).contains(&degrees), "a random turn by {degrees} degrees, expected 0 to 360");
        let filter = self.filter;
        let turns = matches!(filter, Filter::Nearest | Filter::Bilinear);
        assert!(turns, "a random turn with {filter:?}, expected Nearest or Bilinear");
        self.step(Step::Rotate { degrees, filter })
    }

    /// Changes colours at random.
    pub fn color_jitter(self, jitter: ColorJitter) -> Self {
        self.step(Step::Jitter(jitter))
    }

    /// Takes the colours away with a probability of `p`; the number of channels stays. As torchvision has it for tensors,
    /// grey is `0.2989 R + 0.587 G + 0.114 B`, rounded downwards: white becomes 254. [`Image::to_grey`] is Pillow's grey.
    #[track_caller]
    pub fn random_grayscale(self, p: f64) -> Self {
        check_probability(p);
        self.step(Step::Grey(p))
    }

    /// A step of one's own. Where it changes the size, a step that sets it should follow. Its result has to have as many
    /// channels as before.
    pub fn then<F>(self, f: F) -> Self
    where
        F: Fn(Image, &mut VisitRng) -> Result<Image> + Send + Sync + 'static,
    {
        self.step(Step::Custom(Arc::new(f)))
    }

    /// To floats in `[0, 1]`: each byte divided by 255.
    pub fn to_f32(self) -> ImageTransform<f32> {
        let Self { decode, channels, filter, steps, finish, erasing, .. } = self;
        ImageTransform { decode, channels, filter, steps, finish, erasing, number: PhantomData }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl ImageTransform<f32> {
    /// Normalises each channel: `(value - mean) / std`, of values in `[0, 1]`. A grey image takes the first of each.
    ///
    /// # Panics
    ///
    /// If a number is not finite or a `std` is not above 0.
    #[track_caller]
    pub fn normalize(mut self, mean: [f32; 3], std: [f32; 3]) -> Self {
        let valid = mean.iter().all(|mean| mean.is_finite()) && std.iter().all(|std| std.is_finite() && *std > 0.0);
        assert!(valid, "mean {mean:?} and standard deviation {std:?}, expected numbers, and these above 0");
        self.finish.normalize = Some([mean, std]);
        self
    }
}

impl<T: Pixel> ImageTransform<T> {
    /// Gives `(channels, height, width)` instead of `(height, width, channels)`.
    pub fn channels_first(mut self) -> Self {
        self.finish.channels_first = true;
        self
    }

    /// Overwrites a box at random, after everything else.
    pub fn random_erasing(mut self, erasing: RandomErasing) -> Self {
        self.erasing = Some(erasing);
        self
    }

    /// The shape of what comes out, if it does not depend on the image.
    pub fn shape(&self) -> Option<[usize; 3]> {
        let (height, width) = self.steps.iter().fold(None, |size, step| match *step {
            Step::Resize { height, width, .. } => Some((height, width)),
            Step::CenterCrop { height, width } | Step::RandomCrop { height, width, .. } => Some((height, width)),
            Step::RandomResizedCrop { crop, .. } => Some((crop.height, crop.width)),
            Step::ResizeShorter { .. } | Step::Custom(_) => None,
            Step::FlipHorizontal(_) | Step::FlipVertical(_) | Step::Rotate { .. } | Step::Jitter(_) | Step::Grey(_) => {
                size
            }
        })?;
        Some(self.shape_of(height, width))
    }

    fn layout_of_array(&self) -> Option<Ix3> {
        let [a, b, c] = self.shape()?;
        Some(Ix3(a, b, c))
    }

    fn shape_of(&self, height: usize, width: usize) -> [usize; 3] {
        if self.finish.channels_first { [self.channels, height, width] } else { [height, width, self.channels] }
    }

    /// Decodes a file. Where a reduced scale may do for the first step, that is taken as well, and the others are left.
    fn decode_file(&self, file: &Blob, rng: &mut VisitRng) -> Result<(Image, &[Step])> {
        if let [first, rest @ ..] = &self.steps[..]
            && let Some(filter) = first.resizes_by()
            && self.decode.reduces()
        {
            let image = self.decode.decode_part(file, filter, |height, width| first.part(height, width, rng))?;
            return Ok((image, rest));
        }
        Ok((self.decode.decode(file)?, &self.steps))
    }

    /// Takes the steps that are left.
    fn run(&self, (mut image, steps): (Image, &[Step]), rng: &mut VisitRng) -> Result<Image> {
        if image.channels != self.channels {
            image = if self.channels == 1 { image.to_grey() } else { image.to_rgb() };
        }
        for step in steps {
            image = step.apply(image, rng)?;
        }
        if image.channels != self.channels {
            let message =
                format!("an image of {} channels after a step, expected {} as before", image.channels, self.channels);
            return Err(Error::new(ErrorKind::Shape, message));
        }
        Ok(image)
    }

    fn write(&self, image: &Image, rng: &mut VisitRng, out: &mut [T]) {
        T::write(image, &self.finish, out);
        let (height, width) = (image.height, image.width);
        let Some(erasing) = &self.erasing else { return };
        let Some([top, left, h, w]) = erasing.draw(height, width, rng) else { return };
        // The stretches of the row that lie in the box: a line of pixels, or a line of one channel.
        let (planes, channels) = if self.finish.channels_first { (image.channels, 1) } else { (1, image.channels) };
        for line in (0..planes).flat_map(|plane| (top..top + h).map(move |y| (plane * height + y) * width)) {
            out[(line + left) * channels..(line + left + w) * channels].fill(T::of(erasing.value));
        }
    }

    fn array(&self, sample: impl IntoImage, rng: &mut VisitRng) -> Result<Array3<T>> {
        let image = self.run(sample.into_image(self, rng)?, rng)?;
        let mut out = Array3::default(self.shape_of(image.height, image.width));
        self.write(&image, rng, out.as_slice_mut().expect("a new array lies in one piece"));
        Ok(out)
    }

    fn row(&self, sample: impl IntoImage, rng: &mut VisitRng, out: &mut [T]) -> Result<()> {
        let image = self.run(sample.into_image(self, rng)?, rng)?;
        let shape = self.shape_of(image.height, image.width);
        if self.shape() != Some(shape) {
            let message = format!("an image of {shape:?}, expected {:?} as of every sample", self.shape());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        self.write(&image, rng, out);
        Ok(())
    }
}

impl Step {
    /// The filter, if this step is one that resizes a part of the image.
    fn resizes_by(&self) -> Option<Filter> {
        match *self {
            Self::Resize { filter, .. }
            | Self::ResizeShorter { filter, .. }
            | Self::RandomResizedCrop { filter, .. } => Some(filter),
            _ => None,
        }
    }

    /// The part of an image of these extents that a step that resizes takes, and its new size.
    fn part(&self, height: usize, width: usize, rng: &mut VisitRng) -> Part {
        let area = Area::whole(height, width);
        match *self {
            Self::RandomResizedCrop { crop, .. } => {
                Part { area: crop.draw(height, width, rng), height: crop.height, width: crop.width }
            }
            Self::Resize { height, width, .. } => Part { area, height, width },
            Self::ResizeShorter { size, max_size, .. } => {
                let (height, width) = shorter_edge(height, width, size, max_size);
                Part { area, height, width }
            }
            _ => Part { area, height, width },
        }
    }

    fn apply(&self, image: Image, rng: &mut VisitRng) -> Result<Image> {
        match *self {
            Self::Resize { filter, .. }
            | Self::ResizeShorter { filter, .. }
            | Self::RandomResizedCrop { filter, .. } => {
                let Part { area, height, width } = self.part(image.height, image.width, rng);
                image.resize_area(area, height, width, filter)
            }
            Self::CenterCrop { height, width } => image.center_crop(height, width),
            Self::RandomCrop { height, width, padding } => random_crop(image, height, width, padding, rng),
            Self::FlipHorizontal(p) => Ok(if rng.bool(p) { image.flip_horizontal() } else { image }),
            Self::FlipVertical(p) => Ok(if rng.bool(p) { image.flip_vertical() } else { image }),
            Self::Rotate { degrees, filter } => {
                image.rotate(f64::from(rng.range_f32(-degrees, degrees)), filter, false, 0)
            }
            Self::Jitter(jitter) => Ok(jitter.apply(image, rng)),
            Self::Grey(p) => Ok(if rng.bool(p) { image.adjust_saturation(0.0) } else { image }),
            Self::Custom(ref f) => f(image, rng),
        }
    }
}

/// The border on either side of an image from which a part is cut.
pub(super) fn border(all: usize, part: usize, padding: usize) -> usize {
    let padded = all.saturating_add(padding).saturating_add(padding);
    padding.saturating_add(part.saturating_sub(padded))
}

fn random_crop(image: Image, height: usize, width: usize, padding: usize, rng: &mut VisitRng) -> Result<Image> {
    let (down, across) = (border(image.height, height, padding), border(image.width, width, padding));
    let image = if down + across > 0 { image.pad([down, across, down, across])? } else { image };
    let top = rng.below((image.height - height) as u64 + 1) as usize;
    let left = rng.below((image.width - width) as u64 + 1) as usize;
    image.crop(top, left, height, width)
}

/// A part of random size and aspect ratio, resized: what most image classifiers are trained on.
///
/// The part has `scale` of the image's area, evenly drawn, and an aspect ratio (width to height) drawn evenly by its
/// logarithm; its place is any, each as likely as another. If ten such parts do not fit into the image, its middle is
/// taken, as large as the range of ratios allows. The part is cut out before it is resized: what stands around it has no
/// weight in any of the new pixels.
///
/// Source: Szegedy et al. 2014 (<https://arxiv.org/abs/1409.4842>), in the form of torchvision's `RandomResizedCrop`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomResizedCrop {
    height: usize,
    width: usize,
    scale: [f64; 2],
    ratio: [f64; 2],
}

impl RandomResizedCrop {
    /// Resizes the part to `height` x `width`. The scale is 0.08 to 1, the ratio 3/4 to 4/3.
    ///
    /// # Panics
    ///
    /// If an extent is 0 or above 65,536.
    #[track_caller]
    pub fn new(height: usize, width: usize) -> Self {
        check_size(height, width);
        Self { height, width, scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }

    /// Sets the range of the part's area, as a fraction of the image's.
    ///
    /// # Panics
    ///
    /// If not `0 < low <= high`, or a bound is not finite.
    #[track_caller]
    pub fn scale(mut self, low: f64, high: f64) -> Self {
        check_range(low, high);
        self.scale = [low, high];
        self
    }

    /// Sets the range of the part's aspect ratio, width to height.
    ///
    /// # Panics
    ///
    /// As [`scale`](Self::scale).
    #[track_caller]
    pub fn ratio(mut self, low: f64, high: f64) -> Self {
        check_range(low, high);
        self.ratio = [low, high];
        self
    }

    pub(super) fn draw(&self, height: usize, width: usize, rng: &mut VisitRng) -> Area {
        for _ in 0..10 {
            let (h, w) = draw_box(height, width, self.scale, |rng| draw_log(self.ratio, rng), rng);
            // The ratio here is of width to height, so that the two change places.
            let (h, w) = (w, h);
            if (1..=height).contains(&h) && (1..=width).contains(&w) {
                let top = rng.below((height - h) as u64 + 1) as usize;
                let left = rng.below((width - w) as u64 + 1) as usize;
                return Area { top, left, height: h, width: w };
            }
        }
        self.middle(height, width)
    }

    /// The largest part in the middle whose ratio is in the range.
    pub(super) fn middle(&self, height: usize, width: usize) -> Area {
        let ratio = width as f64 / height as f64;
        let round = |value: f64, most: usize| (value.round_ties_even() as usize).clamp(1, most);
        let (h, w) = if ratio < self.ratio[0] {
            (round(width as f64 / self.ratio[0], height), width)
        } else if ratio > self.ratio[1] {
            (height, round(height as f64 * self.ratio[1], width))
        } else {
            (height, width)
        };
        Area { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

/// Evenly by its logarithm; the same on every machine.
fn draw_log([low, high]: [f64; 2], rng: &mut VisitRng) -> f64 {
    let (low, high) = (libm::log(low), libm::log(high));
    libm::exp(low + (high - low) * rng.uniform())
}

/// The extents of a box of a part of the area and a ratio of the first to the second, rounded.
fn draw_box(
    height: usize,
    width: usize,
    [low, high]: [f64; 2],
    ratio: impl FnOnce(&mut VisitRng) -> f64,
    rng: &mut VisitRng,
) -> (usize, usize) {
    let area = (height * width) as f64 * (low + (high - low) * rng.uniform());
    let ratio = ratio(rng);
    let round = |value: f64| value.sqrt().round_ties_even() as usize;
    (round(area * ratio), round(area / ratio))
}

/// Overwrites a box of random size and aspect ratio with one value.
///
/// The box has `scale` of the image's area, evenly drawn, and an aspect ratio (height to width) drawn evenly by its
/// logarithm. Both extents are less than the image's, and may be 0, with which nothing is erased. If ten such boxes do not
/// fit, the image stays as it is.
///
/// Source: Zhong et al. 2017 (<https://arxiv.org/abs/1708.04896>), in the form of torchvision's `RandomErasing`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomErasing {
    p: f64,
    scale: [f64; 2],
    ratio: [f64; 2],
    value: f32,
}

impl RandomErasing {
    /// Erases with a probability of `p`: 0.02 to 0.33 of the area, a ratio of 0.3 to 3.3, to the value 0.
    ///
    /// # Panics
    ///
    /// If `p` is not in `0.0..=1.0`.
    #[track_caller]
    pub fn new(p: f64) -> Self {
        check_probability(p);
        Self { p, scale: [0.02, 0.33], ratio: [0.3, 3.3], value: 0.0 }
    }

    /// Sets the range of the box's area, as a fraction of the image's.
    ///
    /// # Panics
    ///
    /// If not `0 < low <= high`, or a bound is not finite.
    #[track_caller]
    pub fn scale(mut self, low: f64, high: f64) -> Self {
        check_range(low, high);
        self.scale = [low, high];
        self
    }

    /// Sets the range of the box's aspect ratio, height to width.
    ///
    /// # Panics
    ///
    /// As [`scale`](Self::scale).
    #[track_caller]
    pub fn ratio(mut self, low: f64, high: f64) -> Self {
        check_range(low, high);
        self.ratio = [low, high];
        self
    }

    /// Sets the value that the box gets, in the range that the image has by then: 0 is the mean of normalised images.
    pub fn value(mut self, value: f32) -> Self {
        self.value = value;
        self
    }

    /// The top, left, height and width of the box, if there is to be one.
    pub(super) fn draw(&self, height: usize, width: usize, rng: &mut VisitRng) -> Option<[usize; 4]> {
        if !rng.bool(self.p) {
            return None;
        }
        for _ in 0..10 {
            let (h, w) = draw_box(height, width, self.scale, |rng| draw_log(self.ratio, rng), rng);
            if h < height && w < width {
                let top = rng.below((height - h) as u64 + 1) as usize;
                let left = rng.below((width - w) as u64 + 1) as usize;
                return Some([top, left, h, w]);
            }
        }
        None
    }
}

#[track_caller]
fn check_size(height: usize, width: usize) {
    let valid = (1..=MAX_EXTENT).contains(&height) && (1..=MAX_EXTENT).contains(&width);
    assert!(valid, "an image of {height} x {width} pixels, expected 1 to {MAX_EXTENT} each");
}

#[track_caller]
fn check_probability(p: f64) {
    assert!((0.0..=1.0).contains(&p), "probability {p} is not in [0, 1]");
}

#[track_caller]
fn check_range(low: f64, high: f64) {
    assert!(0.0 < low && low <= high && high.is_finite(), "a range from {low} to {high}, expected 0 < low <= high");
}

impl<T> fmt::Debug for ImageTransform<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageTransform")
            .field("decode", &self.decode)
            .field("steps", &self.steps)
            .field("finish", &self.finish)
            .field("erasing", &self.erasing)
            .finish()
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resize { height, width, filter } => write!(f, "Resize({height}, {width}, {filter:?})"),
            Self::ResizeShorter { size, max_size, filter } => {
                write!(f, "ResizeShorter({size}, {max_size:?}, {filter:?})")
            }
            Self::CenterCrop { height, width } => write!(f, "CenterCrop({height}, {width})"),
            Self::RandomCrop { height, width, padding } => write!(f, "RandomCrop({height}, {width}, {padding})"),
            Self::RandomResizedCrop { crop, filter } => write!(f, "{crop:?} by {filter:?}"),
            Self::FlipHorizontal(p) => write!(f, "RandomHorizontalFlip({p})"),
            Self::FlipVertical(p) => write!(f, "RandomVerticalFlip({p})"),
            Self::Rotate { degrees, filter } => write!(f, "RandomRotation({degrees}, {filter:?})"),
            Self::Jitter(jitter) => write!(f, "{jitter:?}"),
            Self::Grey(p) => write!(f, "RandomGrayscale({p})"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// What becomes an image: the bytes of a file, an image, an array.
trait IntoImage {
    /// The image, and the steps of the chain that it has still to take.
    fn into_image<'a, T: Pixel>(self, chain: &'a ImageTransform<T>, rng: &mut VisitRng) -> Result<(Image, &'a [Step])>;
}

impl IntoImage for Blob {
    fn into_image<'a, T: Pixel>(self, chain: &'a ImageTransform<T>, rng: &mut VisitRng) -> Result<(Image, &'a [Step])> {
        chain.decode_file(&self, rng)
    }
}

impl IntoImage for Image {
    fn into_image<'a, T: Pixel>(self, chain: &'a ImageTransform<T>, _: &mut VisitRng) -> Result<(Image, &'a [Step])> {
        Ok((self, &chain.steps))
    }
}

impl IntoImage for Array3<u8> {
    fn into_image<'a, T: Pixel>(self, chain: &'a ImageTransform<T>, _: &mut VisitRng) -> Result<(Image, &'a [Step])> {
        let (height, width, channels) = self.dim();
        // The elements may be a part of what they lie in, if the array was sliced.
        let (len, is_standard) = (self.len(), self.is_standard_layout());
        let image = if is_standard {
            let (mut pixels, offset) = self.into_raw_vec_and_offset();
            pixels.drain(..offset.unwrap_or(0));
            pixels.truncate(len);
            Image::new(height, width, channels, pixels)
        } else {
            Image::from_array(&self)
        };
        Ok((image?, &chain.steps))
    }
}

// For each input by itself, as the compiler cannot know that no input is a pair.
macro_rules! transforms {
    ($($input:ty),+) => {$(
        impl<T: Pixel> Transform<$input> for ImageTransform<T> {
            type Output = Array3<T>;

            fn apply(&self, sample: $input, rng: &mut VisitRng) -> Result<Array3<T>> {
                self.array(sample, rng)
            }
            fn layout(&self) -> Option<<Array3<T> as Stack>::Layout>
            where
                Array3<T>: Stack,
            {
                Some(array_layout::<T, Ix3>(self.layout_of_array()?))
            }
            fn apply_into(&self, sample: $input, rng: &mut VisitRng, row: Row<'_, Array3<T>>) -> Result<()>
            where
                Array3<T>: Stack,
            {
                self.row(sample, rng, array_row::<T, Ix3>(row))
            }
        }

        impl<T: Pixel, L: Stack> Transform<($input, L)> for ImageTransform<T> {
            type Output = (Array3<T>, L);

            fn apply(&self, (sample, label): ($input, L), rng: &mut VisitRng) -> Result<Self::Output> {
                Ok((self.array(sample, rng)?, label))
            }
            fn layout(&self) -> Option<<Self::Output as Stack>::Layout>
            where
                Self::Output: Stack,
            {
                let image = array_layout::<T, Ix3>(self.layout_of_array()?);
                Some(pair_layout::<Array3<T>, L>(image, L::layout_of_type()?))
            }
            fn apply_into(
                &self,
                (sample, label): ($input, L),
                rng: &mut VisitRng,
                row: Row<'_, Self::Output>,
            ) -> Result<()>
            where
                Self::Output: Stack,
            {
                let (image, label_row) = pair_row::<Array3<T>, L>(row);
                self.row(sample, rng, array_row::<T, Ix3>(image))?;
                label.write(label_row);
                Ok(())
            }
        }
    )+};
}
transforms!(Blob, Image, Array3<u8>);
