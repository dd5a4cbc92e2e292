//! JPEG: the crate's own decoder, and what another one has to do to take its place.
//!
//! Whichever decodes, the header is read here, limits are checked, the data walked through and scans counted before it is
//! asked, and inks become colours and the image is turned after it.

use std::borrow::Cow;
use std::fmt;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::color::luma;
use super::decode::{Decoded, Turn, damaged};
use super::scan::Outline;
use super::{DecodeOptions, Image, ImageFormat};
use crate::error::{BoxError, Error, ErrorKind, Result};

/// The most scans that a decoder of somebody else's is given, as many as `zune-jpeg` takes: each may cost a pass over the
/// whole image for a few bytes of the file. Encoders write about ten.
const MAX_SCANS: usize = 100;

/// A decoder of JPEG files, to be put in the place of the crate's own: [`DecodeOptions::jpeg_decoder`].
///
/// What it is given was checked: the header is one of a baseline, extended or progressive image of 8 bits, the extents are
/// within the limits, and there are at most 100 scans. A decoder
///
/// 1. writes all of `out`: row by row from the top, a pixel's channels side by side, without padding, the stored image
///    without its orientation and without its colour profile applied, at the scale that is asked for;
/// 2. returns an error if the file is not of the extents in the request;
/// 3. returns an error for whatever damage it notices, unless the request is [`lenient`](JpegRequest::lenient): then it
///    writes what can be decoded, and 128 where nothing can;
/// 4. gives the same for the same arguments, on every thread and after any other file;
/// 5. takes no more memory than about eight bytes for each pixel of the full size, besides `out`;
/// 6. may panic, which becomes an error; but what hangs or ends the process is not caught.
///
/// # Examples
///
/// ```
/// use procession::BoxError;
/// use procession::image::{DecodeOptions, JpegDecode, JpegRequest};
///
/// /// Sees grey in everything.
/// struct Blind;
///
/// impl JpegDecode for Blind {
///     fn name(&self) -> &'static str {
///         "blind"
///     }
///     fn decode(&self, _jpeg: &[u8], request: &JpegRequest, out: &mut [u8]) -> Result<(), BoxError> {
///         assert_eq!(out.len(), request.out_height() * request.out_width() * request.color.channels());
///         out.fill(128);
///         Ok(())
///     }
/// }
///
/// let options = DecodeOptions::new().jpeg_decoder(&Blind);
/// # let _ = options;
/// ```
pub trait JpegDecode: Send + Sync {
    /// The name of this decoder. Options are equal if their decoders' names are.
    fn name(&self) -> &'static str;

    /// Whether it can decode at this scale. By default only at full size.
    fn has_scale(&self, scale: JpegScale) -> bool {
        scale == JpegScale::Full
    }

    /// Decodes a file.
    ///
    /// # Errors
    ///
    /// What the trait says; the error that the caller gets has this one as its cause.
    fn decode(&self, jpeg: &[u8], request: &JpegRequest, out: &mut [u8]) -> Result<(), BoxError>;
}

/// What a [`JpegDecode`] is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct JpegRequest {
    /// The number of rows at full size, as the header says, before any turn.
    pub height: usize,
    /// The number of pixels in a row at full size.
    pub width: usize,
    /// The scale to decode at.
    pub scale: JpegScale,
    /// What a pixel is to be.
    pub color: JpegColor,
    /// Whether a damaged file gives what can be decoded.
    pub lenient: bool,
}

impl JpegRequest {
    /// The number of rows to write.
    pub fn out_height(&self) -> usize {
        self.scale.of(self.height)
    }

    /// The number of pixels to write in a row.
    pub fn out_width(&self) -> usize {
        self.scale.of(self.width)
    }
}

/// How large a JPEG is decoded, by computing fewer pixels of each block of 8 x 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JpegScale {
    /// All pixels.
    Full,
    /// 4 x 4 of each block.
    Half,
    /// 2 x 2 of each block.
    Quarter,
    /// The mean of each block.
    Eighth,
}

impl JpegScale {
    /// By what extents are divided: 1, 2, 4 or 8.
    pub fn divisor(self) -> usize {
        match self {
            Self::Full => 1,
            Self::Half => 2,
            Self::Quarter => 4,
            Self::Eighth => 8,
        }
    }

    /// What an extent becomes: divided, and rounded upwards.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::image::JpegScale;
    ///
    /// assert_eq!([16, 17, 1].map(|extent| JpegScale::Eighth.of(extent)), [2, 3, 1]);
    /// ```
    pub fn of(self, extent: usize) -> usize {
        extent.div_ceil(self.divisor())
    }
}

/// The channels of a JPEG's pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JpegColor {
    /// One byte, the first component of an image in YCbCr.
    Grey,
    /// Red, green and blue.
    Rgb,
    /// The four bytes of an image of four components as they are stored, which is 255 minus the ink; YCCK is converted.
    Cmyk,
}

impl JpegColor {
    /// The number of bytes of a pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Cmyk => 4,
        }
    }
}

/// The decoder that takes the place of the crate's own, if any.
#[derive(Clone, Copy)]
pub(super) struct Plugged(Option<&'static dyn JpegDecode>);

impl Plugged {
    pub(super) const NONE: Self = Self(None);

    pub(super) const fn new(decoder: &'static dyn JpegDecode) -> Self {
        Self(Some(decoder))
    }

    pub(super) fn get(self) -> Option<&'static dyn JpegDecode> {
        self.0
    }

    fn name(self) -> &'static str {
        self.0.map_or("zune-jpeg", |decoder| decoder.name())
    }
}

impl PartialEq for Plugged {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_some() == other.0.is_some() && self.name() == other.name()
    }
}

impl Eq for Plugged {}

impl fmt::Debug for Plugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl DecodeOptions {
    /// What the file is made of, checked against the limits.
    pub(super) fn jpeg_outline(&self, bytes: &[u8]) -> Result<Outline> {
        let outline = Outline::of(bytes).ok_or_else(|| damaged(ImageFormat::Jpeg, "no frame and scan"))?;
        let Outline { width, height, num_components, .. } = outline;
        if !matches!(num_components, 1 | 3 | 4) {
            return Err(damaged(ImageFormat::Jpeg, format!("{num_components} components, expected 1, 3 or 4")));
        }
        // The pixels, and either what the decoder works with or the pixels once more, turned.
        let working = outline.working_bytes().div_ceil((width as u64 * height as u64).max(1));
        self.check(width, height, 3 + working.max(if self.orient { 3 } else { 0 }))?;
        Ok(outline)
    }

    pub(super) fn jpeg_header<'a>(&self, bytes: &'a [u8], outline: &Outline) -> Result<JpegDecoder<ZCursor<&'a [u8]>>> {
        // The format's own largest extent; the limit in pixels was checked before.
        let most = usize::from(u16::MAX);
        let color = if self.grey { ColorSpace::Luma } else { ColorSpace::RGB };
        let options = DecoderOptions::default()
            .set_max_width(most)
            .set_max_height(most)
            .set_strict_mode(!self.lenient)
            .jpeg_set_out_colorspace(color);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(|cause| damaged(ImageFormat::Jpeg, format!("{cause:?}")))?;
        // What was checked is what is decoded, also if the headers are such that they can be read in two ways.
        if decoder.dimensions() != Some((outline.width, outline.height)) {
            return Err(damaged(ImageFormat::Jpeg, "bytes that belong to no header"));
        }
        Ok(decoder)
    }

    /// Decodes at a scale that is chosen by the height and the width, upright.
    pub(super) fn decode_jpeg(&self, bytes: &[u8], scale: impl FnOnce(usize, usize) -> JpegScale) -> Result<Decoded> {
        let outline = self.jpeg_outline(bytes)?;
        let sealed = match outline.sealed(bytes) {
            Err(cause) if !self.lenient => return Err(damaged(ImageFormat::Jpeg, cause)),
            sealed => sealed.unwrap_or(Cow::Borrowed(bytes)),
        };
        let decoder = self.jpeg_header(&sealed, &outline)?;
        let turn = Turn::of(self.orientation_of_exif(decoder.exif()));
        let Outline { width, height, num_components, .. } = outline;
        let (rows, columns) = turn.upright(height, width);
        let scale = scale(rows, columns);
        let stored = match self.jpeg.get() {
            Some(plugged) => {
                let color = match num_components {
                    4 => JpegColor::Cmyk,
                    _ if self.grey => JpegColor::Grey,
                    _ => JpegColor::Rgb,
                };
                // Without the seal, which others take for damage; that the data end where they should was seen above.
                self.decode_plugged(plugged, bytes, JpegRequest { height, width, scale, color, lenient: self.lenient })?
            }
            None => self.decode_zune(decoder, &sealed, &outline)?,
        };
        // A last row or column may stand for pixels beyond the whole, and comes first if the image is turned.
        let beyond = |extent: usize| scale.of(extent) as f64 - extent as f64 / scale.divisor() as f64;
        let top = if turn.upside_down { beyond(rows) } else { 0.0 };
        let left = if turn.mirrored { beyond(columns) } else { 0.0 };
        Ok(Decoded { image: turn.apply(stored), scale, top, left })
    }

    fn decode_zune(&self, mut decoder: JpegDecoder<ZCursor<&[u8]>>, bytes: &[u8], outline: &Outline) -> Result<Image> {
        // Grey from other colours is not what the decoder can do by itself.
        let has_grey = matches!(decoder.input_colorspace(), Some(ColorSpace::Luma | ColorSpace::YCbCr));
        if self.grey && (!has_grey || outline.is_tall()) {
            let colour = self.grey(false);
            return Ok(luma(&colour.decode_zune(colour.jpeg_header(bytes, outline)?, bytes, outline)?));
        }
        let pixels = decoder.decode().map_err(|cause| damaged(ImageFormat::Jpeg, format!("{cause:?}")))?;
        Image::new(outline.height, outline.width, self.channels(), pixels)
    }

    fn decode_plugged(&self, decoder: &dyn JpegDecode, bytes: &[u8], request: JpegRequest) -> Result<Image> {
        let num_scans = num_scans(bytes);
        if num_scans > MAX_SCANS {
            let message = format!("a JPEG image of {num_scans} scans, the limit is {MAX_SCANS}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let (height, width, color) = (request.out_height(), request.out_width(), request.color);
        let mut pixels = vec![0; height * width * color.channels()];
        decoder.decode(bytes, &request, &mut pixels).map_err(|cause| damaged(ImageFormat::Jpeg, cause))?;
        if color != JpegColor::Cmyk {
            return Image::new(height, width, color.channels(), pixels);
        }
        let colour = Image::new(height, width, 3, rgb_of_inks(&pixels))?;
        Ok(if self.grey { luma(&colour) } else { colour })
    }
}

/// Red, green and blue of what is stored of inks, which is 255 minus each.
fn rgb_of_inks(stored: &[u8]) -> Vec<u8> {
    let pixels = stored.as_chunks::<4>().0;
    let times = |a: u8, b: u8| ((u32::from(a) * u32::from(b) + 127) / 255) as u8;
    pixels.iter().flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| times(ink, k))).collect()
}

/// How many scans begin before the end marker.
fn num_scans(jpeg: &[u8]) -> usize {
    let (mut num_scans, mut at) = (0, 2);
    while let Some(found) = jpeg.get(at..).and_then(|rest| memchr::memchr(0xff, rest)) {
        at += found;
        match jpeg.get(at + 1) {
            None | Some(0xd9) => break,
            // A fill byte: the marker is still to come.
            Some(0xff) => at += 1,
            // A byte 255 of a scan's data, and the markers that stand alone.
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            Some(&marker) => {
                num_scans += usize::from(marker == 0xda);
                let len = jpeg.get(at + 2..at + 4).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
                at += 2 + len;
            }
        }
    }
    num_scans
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::image::{Filter, ImageTransform};
    use crate::source::Blob;
    use crate::transform::Transform;

    thread_local! {
        /// What the decoders of these tests were asked for.
        static ASKED: RefCell<Vec<JpegRequest>> = const { RefCell::new(Vec::new()) };
    }

    fn asked() -> Vec<JpegRequest> {
        ASKED.take()
    }

    /// Paints two ramps, whose values at a place of the image do not depend on the scale, or does as its name says.
    struct Ramps(&'static str);

    impl JpegDecode for Ramps {
        fn name(&self) -> &'static str {
            self.0
        }

        fn has_scale(&self, scale: JpegScale) -> bool {
            self.0 != "halves" || scale == JpegScale::Half
        }

        fn decode(&self, _: &[u8], request: &JpegRequest, out: &mut [u8]) -> Result<(), BoxError> {
            ASKED.with_borrow_mut(|asked| asked.push(*request));
            match self.0 {
                "refuses" => return Err("no".into()),
                "panics" => panic!("no"),
                _ => {}
            }
            let channels = request.color.channels();
            assert_eq!(out.len(), request.out_height() * request.out_width() * channels);
            let value = |at: usize, extent: usize| {
                let centre = (at as f64 + 0.5) * request.scale.divisor() as f64;
                (200.0 * centre / extent as f64).round() as u8
            };
            for (at, pixel) in out.chunks_mut(channels).enumerate() {
                let (y, x) = (at / request.out_width(), at % request.out_width());
                pixel[0] = value(x, request.width);
                *pixel.last_mut().unwrap() = value(y, request.height);
            }
            Ok(())
        }
    }

    const RAMPS: DecodeOptions = DecodeOptions::new().jpeg_decoder(&Ramps("ramps"));

    fn input(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/images/inputs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// A file whose header tells of these extents, before any turn.
    fn sized(orientation: u8, height: u16, width: u16) -> Blob {
        let mut jpeg = input(&format!("jpeg_orientation_{orientation}.jpg"));
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        Blob::new(jpeg, "sized.jpg")
    }

    fn rng(position: u64) -> crate::VisitRng {
        crate::Visit::new(5, 0, position, 0).rng(0)
    }

    #[test]
    fn the_scale_is_the_smallest_at_which_both_sides_are_long_enough() {
        use JpegScale::{Eighth, Full, Half, Quarter};
        let scale = |options: DecodeOptions, file: &Blob, (height, width): (usize, usize)| {
            let image = options.decode_resized(file, height, width, Filter::Bilinear).unwrap();
            assert_eq!((image.height, image.width), (height, width));
            let [request] = asked().try_into().unwrap();
            request.scale
        };
        for (margin, height, width, expected) in [
            (1, 160, 160, Eighth),
            (1, 159, 160, Quarter),
            (1, 160, 159, Quarter),
            (1, 80, 80, Quarter),
            (1, 79, 900, Half),
            (1, 900, 79, Half),
            (1, 40, 40, Half),
            (1, 39, 40, Full),
            (1, 40, 39, Full),
            (2, 320, 320, Eighth),
            (2, 319, 320, Quarter),
            (2, 80, 80, Half),
            (2, 79, 80, Full),
            (3, 480, 480, Eighth),
            (3, 480, 479, Quarter),
            (0, 900, 900, Full),
            (u32::MAX, 900, 900, Full),
        ] {
            let found = scale(RAMPS.reduced(margin), &sized(1, height, width), (20, 20));
            assert_eq!(found, expected, "{margin}: {height} x {width}");
        }
        // A target of two shapes, for images that lie and images that were turned: 320 x 160 upright is not 160 x 320.
        for (orientation, target, expected) in [
            (1, (20, 40), Eighth),
            (1, (40, 20), Quarter),
            (3, (20, 40), Eighth),
            (6, (20, 40), Quarter),
            (6, (40, 20), Eighth),
            (8, (40, 20), Eighth),
            (5, (40, 20), Eighth),
        ] {
            let file = sized(orientation, 160, 320);
            assert_eq!(scale(RAMPS.reduced(1), &file, target), expected, "{orientation} {target:?}");
            // Left as it is stored.
            let stored = if target == (20, 40) { Eighth } else { Quarter };
            assert_eq!(scale(RAMPS.reduced(1).orient(false), &file, target), stored, "{orientation} {target:?}");
        }
        // Of the scales that the decoder has.
        let halves = DecodeOptions::new().jpeg_decoder(&Ramps("halves")).reduced(1);
        assert_eq!(scale(halves, &sized(1, 800, 800), (20, 20)), Half);
        assert_eq!(scale(halves, &sized(1, 39, 800), (20, 20)), Full);
        // Not at all by the crate's own, nor where nothing is resized.
        let own = DecodeOptions::new().reduced(1);
        let file = Blob::new(input("jpeg_444_q95.jpg"), "small");
        let resized = own.decode(&file).unwrap().resize(2, 2, Filter::Bilinear).unwrap();
        assert_eq!(own.decode_resized(&file, 2, 2, Filter::Bilinear).unwrap(), resized);
        RAMPS.reduced(1).decode(&sized(1, 800, 800)).unwrap();
        assert_eq!(asked().pop().unwrap().scale, Full);
        let error = RAMPS.decode_resized(&file, 0, 2, Filter::Bilinear).unwrap_err();
        assert_eq!((error.kind(), asked().len()), (ErrorKind::Argument, 0));
    }

    #[test]
    fn the_first_step_of_a_chain_sets_the_scale() {
        use JpegScale::{Eighth, Full, Half, Quarter};
        let new = || ImageTransform::new().decode(RAMPS.reduced(1));
        for (chain, height, width, expected) in [
            (new().resize(20, 20).center_crop(4, 4), 160, 160, Eighth),
            (new().resize(20, 20).resize(160, 160), 160, 160, Eighth),
            (new().resize_shorter(20), 160, 400, Eighth),
            (new().resize_shorter(20), 159, 400, Quarter),
            (new().resize_shorter(20), 400, 159, Quarter),
            // 12 x 30, and 30 x 12.
            (new().resize_shorter_within(20, 30), 96, 240, Eighth),
            (new().resize_shorter_within(20, 30), 240, 96, Eighth),
            (new().resize_shorter_within(20, 30), 95, 240, Quarter),
            (new().resize_shorter(40), 160, 400, Quarter),
            (new().resize_shorter(80), 160, 400, Half),
            (new().random_horizontal_flip(0.5).resize(20, 20), 160, 160, Full),
            (new().center_crop(100, 100).resize(10, 10), 160, 160, Full),
            (new().random_crop(20, 20, 0), 160, 160, Full),
            (new().then(|image, _| Ok(image)).resize(10, 10), 160, 160, Full),
            (new(), 160, 160, Full),
            (ImageTransform::new().decode(RAMPS).resize(10, 10), 160, 160, Full),
        ] {
            chain.apply(sized(1, height, width), &mut rng(0)).unwrap();
            let found: Vec<_> = asked().iter().map(|request| request.scale).collect();
            assert_eq!(found, [expected], "{chain:?} {height} x {width}");
        }
    }

    #[test]
    fn a_reduced_image_shows_the_same_places() {
        for orientation in 1..=8 {
            for (height, width) in [(160, 160), (161, 167), (163, 185), (168, 161)] {
                let file = sized(orientation, height, width);
                let full = RAMPS.decode_resized(&file, 10, 10, Filter::Bilinear).unwrap();
                for margin in [1, 4, 8] {
                    let reduced = RAMPS.reduced(margin).decode_resized(&file, 10, 10, Filter::Bilinear).unwrap();
                    let scales: Vec<_> = asked().iter().map(|request| request.scale.divisor()).collect();
                    assert_eq!(scales.last(), Some(&(16 / margin.max(2) as usize)));
                    let differences = full.pixels.iter().zip(&reduced.pixels).map(|(a, b)| a.abs_diff(*b));
                    // A pixel is 20 wide on the ramp; its weights are those of 16 old ones, or of 2.
                    let most = differences.max().unwrap();
                    assert!(most <= 2, "{height} x {width}, orientation {orientation}, margin {margin}: {most}");
                }
            }
        }
    }

    #[test]
    fn a_random_part_does_not_depend_on_the_scale() {
        let chain =
            |options| ImageTransform::new().decode(options).random_resized_crop(10, 10).random_horizontal_flip(0.5);
        let mut scales = std::collections::BTreeSet::new();
        for position in 0..60 {
            let file = sized(1 + (position % 8) as u8, 181, 170);
            let (mut at_full, mut at_reduced) = (rng(position), rng(position));
            let full = chain(RAMPS).apply(file.clone(), &mut at_full).unwrap();
            asked();
            let reduced = chain(RAMPS.reduced(1)).apply(file, &mut at_reduced).unwrap();
            scales.insert(asked()[0].scale.divisor());
            let most = full.iter().zip(&reduced).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(most <= 3, "position {position}: {most}");
            assert_eq!(at_full.uniform(), at_reduced.uniform());
        }
        assert_eq!(scales.into_iter().collect::<Vec<_>>(), [4, 8]);
    }

    #[test]
    fn inks_become_colours() {
        // Without black ink, with nothing but black ink, and both in halves.
        let stored = [10, 20, 30, 255, 255, 255, 255, 0, 128, 255, 0, 128];
        assert_eq!(rgb_of_inks(&stored), [10, 20, 30, 0, 0, 0, 64, 128, 0]);
        for name in ["jpeg_cmyk_adobe.jpg", "jpeg_ycck_420.jpg", "jpeg_cmyk_no_adobe.jpg"] {
            let file = Blob::new(input(name), name);
            let colour = RAMPS.decode(&file).unwrap();
            let grey = RAMPS.grey(true).decode(&file).unwrap();
            assert!(asked().iter().all(|request| request.color == JpegColor::Cmyk));
            // Only the first and the last channel are painted, and the others are full of ink.
            let value = |at: usize, extent: usize| (200.0 * (at as f64 + 0.5) / extent as f64).round();
            for (at, pixel) in colour.pixels.chunks(3).enumerate() {
                let red = (value(at % 40, 40) * value(at / 40, 30) / 255.0).round() as u8;
                assert_eq!(pixel, [red, 0, 0], "{name}");
            }
            assert_eq!(grey, colour.to_grey());
        }
        RAMPS.grey(true).decode(&Blob::new(input("jpeg_420_q75.jpg"), "")).unwrap();
        RAMPS.decode(&Blob::new(input("jpeg_grey.jpg"), "")).unwrap();
        assert_eq!(asked().iter().map(|request| request.color).collect::<Vec<_>>(), [JpegColor::Grey, JpegColor::Rgb]);
    }

    /// A progressive file whose last scan is there as often as is said.
    fn scans(times: usize) -> Vec<u8> {
        let jpeg = input("jpeg_grey_progressive.jpg");
        let last = jpeg.windows(2).collect::<Vec<_>>().iter().rposition(|marker| *marker == [0xff, 0xda]).unwrap();
        let end = jpeg.len() - 2;
        assert_eq!(jpeg[end..], [0xff, 0xd9]);
        [&jpeg[..last], &jpeg[last..end].repeat(times), &jpeg[end..]].concat()
    }

    #[test]
    fn scans_are_counted_before_anything_is_decoded() {
        let before = num_scans(&scans(0));
        assert!((1..20).contains(&before) && num_scans(&scans(7)) == before + 7);
        let decode = |jpeg: Vec<u8>| RAMPS.decode(&Blob::new(jpeg, "bomb.jpg"));
        assert!(decode(scans(MAX_SCANS - before)).is_ok());
        asked();
        let error = decode(scans(MAX_SCANS - before + 1)).unwrap_err();
        assert_eq!(error.message(), "a JPEG image of 101 scans, the limit is 100");
        assert_eq!((error.kind(), error.file()), (ErrorKind::Limit, Some(std::path::Path::new("bomb.jpg"))));
        assert!(asked().is_empty());
        // What looks like a scan within other segments, or behind the end, is none; fill bytes are no marker.
        let segment = |marker: u8, content: &[u8]| {
            [&[0xff, 0xff, marker][..], &(content.len() as u16 + 2).to_be_bytes(), content].concat()
        };
        let scan = segment(0xda, &[1, 2]);
        let one = [&[0xff, 0xd8][..], &segment(0xe1, &scan.repeat(5)), &scan, &[7, 0xff, 0, 0xff, 0xd0, 0xda]].concat();
        for (tail, expected) in [
            (vec![], 1),
            (vec![0xff], 1),
            (vec![0xff, 0xda], 2),
            (segment(0xfe, &scan), 1),
            ([&[0xff, 0xd9][..], &scan].concat(), 1),
            ([&[0xff, 0xd9, 0, 2][..], &scan].concat(), 1),
            ([&segment(0xc4, &scan)[..], &scan, &scan].concat(), 3),
        ] {
            assert_eq!(num_scans(&[&one[..], &tail].concat()), expected, "{tail:02x?}");
        }
    }

    #[test]
    fn failures_of_a_decoder_are_errors_with_the_file() {
        let file = Blob::new(input("jpeg_444_q95.jpg"), "photo.jpg");
        let refused = DecodeOptions::new().jpeg_decoder(&Ramps("refuses")).decode(&file).unwrap_err();
        assert_eq!(refused.to_string(), "damaged JPEG image (file photo.jpg)");
        assert_eq!(std::error::Error::source(&refused).unwrap().to_string(), "no");
        let panicked = DecodeOptions::new().jpeg_decoder(&Ramps("panics")).lenient(true).decode(&file).unwrap_err();
        assert_eq!((panicked.kind(), panicked.file()), (ErrorKind::Format, refused.file()));
        // A file without its end is not even given to it, unless it is to be lenient.
        let cut_off = Blob::new(file.bytes()[..file.bytes().len() - 1].to_vec(), "cut.jpg");
        assert_eq!(RAMPS.decode(&cut_off).unwrap_err().kind(), ErrorKind::Format);
        assert!(RAMPS.lenient(true).decode(&cut_off).is_ok());
        let lenient: Vec<_> = asked().iter().map(|request| request.lenient).collect();
        assert_eq!(lenient, [false, true, true]);
        // Limits come first.
        assert_eq!(RAMPS.limit_pixels(1199).decode(&file).unwrap_err().kind(), ErrorKind::Limit);
        assert!(asked().is_empty());
    }

    #[test]
    fn options_with_decoders_of_one_name_are_equal() {
        assert_eq!(RAMPS, DecodeOptions::new().jpeg_decoder(&Ramps("ramps")));
        assert_ne!(RAMPS, DecodeOptions::new().jpeg_decoder(&Ramps("others")));
        assert_ne!(RAMPS, DecodeOptions::new());
        assert_ne!(DecodeOptions::new().jpeg_decoder(&Ramps("zune-jpeg")), DecodeOptions::new());
        assert_ne!(RAMPS, RAMPS.reduced(1));
        assert!(format!("{RAMPS:?}").contains("jpeg: ramps") && format!("{:?}", DecodeOptions::new()).contains("zune"));
    }
}
