//! Images beside what Pillow and torchvision make of them: see `tests/images/README.md`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::resize::Area;
use super::transform::border;
use super::*;
use crate::source::Blob;

pub(super) fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "images", name].iter().collect()
}

fn bytes(name: &Value) -> Vec<u8> {
    fs::read(path(name.as_str().unwrap())).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().unwrap().iter()
}

fn number(value: &Value, name: &str) -> usize {
    value[name].as_u64().unwrap() as usize
}

/// The rows of a table, as numbers; what is absent is -1.
fn rows(tables: &Value, name: &str) -> Vec<Vec<f64>> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(f64::from)).unwrap_or(-1.0);
    list(&tables[name], "rows").map(|row| row.as_array().unwrap().iter().map(number).collect()).collect()
}

fn difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn every_kind_of_file_decodes_as_in_pillow() {
    let mut worst = Vec::new();
    for case in list(&json("expected.json"), "images") {
        let file = Blob::read(path(case["file"].as_str().unwrap())).unwrap();
        let (height, width) = (number(case, "height"), number(case, "width"));
        // In an image of one column the decoder takes another chroma than it has, past the edge of a block.
        let known = if case["file"] == "inputs/jpeg_1x7.jpg" { 20 } else { 0 };
        let most = (number(case, "max_abs_diff") as u8).max(known);
        let info = DecodeOptions::new().info(&file).unwrap();
        assert_eq!((info.height, info.width), (height, width), "{file:?}");
        let colour = DecodeOptions::new().decode(&file).unwrap();
        assert_eq!((colour.height, colour.width, colour.channels), (height, width, 3), "{file:?}");
        worst.push((difference(&colour.pixels, &bytes(&case["rgb"])), most, file.name().to_owned()));
        if !case["grey"].is_null() {
            let grey = DecodeOptions::new().grey(true).decode(&file).unwrap();
            assert_eq!((grey.height, grey.width, grey.channels), (height, width, 1), "{file:?}");
            worst.push((difference(&grey.pixels, &bytes(&case["grey"])), most, file.name().to_owned()));
        }
    }
    assert!(worst.len() > 90);
    let beyond: Vec<_> = worst.iter().filter(|(difference, most, _)| difference > most).collect();
    assert!(beyond.is_empty(), "{beyond:#?}");
}

#[test]
fn resizing_is_within_one_of_pillow() {
    let index = json("resize.json");
    let sources: Vec<(String, Image)> = list(&index, "sources")
        .map(|source| {
            let image = Image::new(number(source, "height"), number(source, "width"), 3, bytes(&source["rgb"]));
            (source["name"].as_str().unwrap().to_owned(), image.unwrap())
        })
        .collect();
    let mut num_filters = std::collections::BTreeMap::new();
    for case in list(&index, "cases") {
        let (name, filter) = (case["source"].as_str().unwrap(), case["filter"].as_str().unwrap());
        let mut image = sources.iter().find(|(known, _)| known == name).unwrap().1.clone();
        if let Some(channel) = case["channel"].as_u64() {
            image.pixels = image.pixels.chunks(3).map(|pixel| pixel[channel as usize]).collect();
            image.channels = 1;
        }
        let [left, top, right, bottom] = [0, 1, 2, 3].map(|at| case["box"][at].as_u64().unwrap() as usize);
        let area = Area { top, left, height: bottom - top, width: right - left };
        let kind = match filter {
            "nearest" => Filter::Nearest,
            "box" => Filter::Box,
            "bilinear" => Filter::Bilinear,
            "hamming" => Filter::Hamming,
            "bicubic" => Filter::Bicubic,
            _ => Filter::Lanczos,
        };
        let ours = image.resize_area(area, number(case, "height"), number(case, "width"), kind).unwrap();
        let theirs = bytes(&case["pixels"]);
        let worst = difference(&ours.pixels, &theirs);
        let beyond = ours.pixels.iter().zip(&theirs).filter(|(a, b)| a.abs_diff(**b) > 1).count() as f64;
        match kind {
            Filter::Nearest => assert_eq!(worst, 0, "{case}"),
            Filter::Bilinear | Filter::Bicubic => assert!(worst <= 1, "{case}: {worst}"),
            Filter::Box => assert!(beyond <= 0.05 * theirs.len() as f64, "{case}: {beyond} bytes"),
            _ => assert!(beyond <= 0.001 * theirs.len() as f64, "{case}: {beyond} bytes"),
        }
        *num_filters.entry(filter.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(num_filters.len(), 6);
}

#[test]
fn sizes_and_places_are_those_of_torchvision() {
    let tables = json("transforms.json");
    let blank = |height: f64, width: f64| Image::filled(height as usize, width as usize, 1, 0);
    for row in rows(&tables, "resize_size") {
        let max_size = (row[3] >= 0.0).then_some(row[3] as usize);
        let size = resize::shorter_edge(row[0] as usize, row[1] as usize, row[2] as usize, max_size);
        assert_eq!(size, (row[4] as usize, row[5] as usize), "{row:?}");
    }
    for row in rows(&tables, "center_crop_place") {
        let [height, width, crop_height, crop_width, left, top, right, bottom] =
            std::array::from_fn(|at| row[at] as usize);
        // Every pixel tells where it was, modulo 251.
        let pixels = (0..height * width).map(|at| (at % 251) as u8 + 1).collect();
        let image = Image::new(height, width, 1, pixels).unwrap();
        let expected = image.pad([top, left, bottom, right]).unwrap();
        let expected = expected.crop(row[8] as usize, row[9] as usize, crop_height, crop_width).unwrap();
        assert_eq!(image.center_crop(crop_height, crop_width).unwrap(), expected, "{row:?}");
    }
    for row in rows(&tables, "random_resized_crop_fallback") {
        let area = RandomResizedCrop::new(1, 1).ratio(row[2], row[3]).middle(row[0] as usize, row[1] as usize);
        assert_eq!([area.top, area.left, area.height, area.width].map(|extent| extent as f64), row[4..8], "{row:?}");
    }
    for row in rows(&tables, "random_crop_border") {
        let [height, width, crop_height, crop_width, padding, down, across] =
            std::array::from_fn(|at| row[at] as usize);
        let borders = [border(height, crop_height, padding), border(width, crop_width, padding)];
        assert_eq!(borders, [down, across], "{row:?}");
    }
    for row in rows(&tables, "random_erasing_region") {
        let erasing = RandomErasing::new(1.0).scale(row[2], row[2]).ratio(row[3], row[3]);
        let region = erasing.draw(row[0] as usize, row[1] as usize, &mut crate::Visit::new(1, 2, 3, 0).rng(0));
        let expected = (row[4] == 1.0).then_some([row[5] as usize, row[6] as usize]);
        assert_eq!(region.map(|[_, _, height, width]| [height, width]), expected, "{row:?}");
    }
    for row in rows(&tables, "rotate_expanded_size") {
        let turned = blank(row[0], row[1]).rotate(row[2], Filter::Nearest, true, 0).unwrap();
        assert_eq!((turned.height as f64, turned.width as f64), (row[3], row[4]), "{row:?}");
    }
}

#[test]
fn pixels_are_those_of_torchvision() {
    let index = json("transforms.json");
    let source = &index["source"];
    let image = Image::new(number(source, "height"), number(source, "width"), 3, bytes(&source["u8"])).unwrap();
    let mut num_compared = 0;
    for case in list(&index, "pixels").filter(|case| case["type"] == "u8") {
        let image = image.clone();
        let factor = case["factor"].as_f64().unwrap_or_default() as f32;
        let (height, width) = (number(case, "height"), number(case, "width"));
        let ours = match case["operation"].as_str().unwrap() {
            "center_crop" => image.center_crop(height, width).unwrap(),
            "horizontal_flip" => image.flip_horizontal(),
            "vertical_flip" => image.flip_vertical(),
            "adjust_brightness" => image.adjust_brightness(factor),
            "adjust_contrast" => image.adjust_contrast(factor),
            "adjust_saturation" => image.adjust_saturation(factor),
            "adjust_hue" => image.adjust_hue(factor),
            "grayscale" => {
                use crate::transform::Transform;
                let rng = &mut crate::Visit::new(0, 0, 0, 0).rng(0);
                let array = ImageTransform::new().random_grayscale(1.0).apply(image, rng).unwrap();
                Image::new(height, width, 1, array.into_iter().step_by(3).collect()).unwrap()
            }
            "rotate" => {
                // With a fill torchvision dims the border twice, for a sum of its own making.
                if !case["fill"].is_null() && case["interpolation"] == "bilinear" {
                    continue;
                }
                let filter = if case["interpolation"] == "nearest" { Filter::Nearest } else { Filter::Bilinear };
                let fill = case["fill"].as_f64().unwrap_or(0.0) as u8;
                let expand = case["expand"].as_bool().unwrap();
                image.rotate(case["angle"].as_f64().unwrap(), filter, expand, fill).unwrap()
            }
            _ => continue,
        };
        assert_eq!((ours.height, ours.width), (height, width), "{case}");
        let worst = difference(&ours.pixels, &bytes(&case["pixels"]));
        // Without a sum of floats, grey is the same everywhere.
        let most = if case["operation"] == "grayscale" { 0.0 } else { case["max_abs_diff"].as_f64().unwrap() };
        assert!(f64::from(worst) <= most, "{case}: {worst}");
        num_compared += 1;
    }
    assert!(num_compared > 30, "{num_compared}");
}

/// Small files of every format.
fn inputs() -> Vec<Blob> {
    let mut files: Vec<_> = fs::read_dir(path("inputs")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| Blob::read(file).unwrap()).collect()
}

#[test]
fn damaged_files_are_errors_with_the_file() {
    for file in inputs() {
        let options = DecodeOptions::new().limit_bytes(1 << 22);
        let whole = options.decode(&file).unwrap();
        let len = file.bytes().len();
        for cut in (0..len).step_by((len / 60).max(1)) {
            let cut_off = Blob::new(file.bytes()[..cut].to_vec(), file.name());
            match options.decode(&cut_off) {
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Limit), "{error}");
                    assert_eq!(error.file(), Some(file.name()));
                }
                // What is missing was not pixels: an end marker, a checksum, padding, metadata behind the image.
                Ok(image) if image == whole => {}
                // The orientation stands behind the pixels there.
                Ok(image) => {
                    let plain = options.orient(false).decode(&file).unwrap();
                    assert!(image == plain, "{file:?} cut off at {cut} gives another image");
                }
            }
        }
        for at in (0..len).step_by((len / 100).max(1)) {
            let mut bytes = file.bytes().to_vec();
            bytes[at] ^= 1 << (at % 8);
            match options.decode(&Blob::new(bytes, file.name())) {
                Ok(image) => assert!(image.pixels.len() <= 1 << 22),
                Err(error) => assert_eq!(error.file(), Some(file.name())),
            }
        }
    }
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    // A PNG and a JPEG that claim 60,000 x 60,000 pixels.
    let huge = 60_000_u32;
    let mut png = fs::read(path("inputs/png_rgb_8.png")).unwrap();
    png[16..20].copy_from_slice(&huge.to_be_bytes());
    png[20..24].copy_from_slice(&huge.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    let mut jpeg = fs::read(path("inputs/jpeg_444_q95.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    for bytes in [png, jpeg] {
        let file = Blob::new(bytes, "huge");
        for options in [DecodeOptions::new(), DecodeOptions::new().limit_pixels(u64::MAX)] {
            let error = options.decode(&file).unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Limit, Some(std::path::Path::new("huge"))), "{error}");
            assert_eq!(options.info(&file).unwrap_err().kind(), ErrorKind::Limit);
        }
    }
    let small = Blob::read(path("inputs/jpeg_444_q95.jpg")).unwrap();
    let error = DecodeOptions::new().limit_pixels(40 * 30 - 1).decode(&small).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Limit, "40 x 30 pixels, the limit is 1199 pixels"));
    assert!(DecodeOptions::new().limit_pixels(40 * 30).decode(&small).is_ok());
    for (bytes, message) in [
        (&b""[..], "an empty file, expected an image"),
        (b"hello", "first bytes [68, 65, 6c, 6c] of no known image format"),
    ] {
        let error = DecodeOptions::new().decode(&Blob::new(bytes, "x")).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Format, message));
    }
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn a_chain_gives_the_same_for_any_number_of_workers_and_in_place() {
    let files = inputs();
    let len = files.len();
    let samples = crate::source::from_fn(len, move |index| (files[index].clone(), index as u32));
    let samples = std::sync::Arc::new(samples);
    let chain = || {
        ImageTransform::new()
            .resize_shorter(40)
            .random_crop(36, 36, 4)
            .random_rotation(20.0)
            .random_resized_crop(24, 20)
            .random_horizontal_flip(0.5)
            .random_vertical_flip(0.5)
            .color_jitter(ColorJitter::new().brightness(0.4).contrast(0.4).saturation(0.4).hue(0.1))
            .random_grayscale(0.2)
            .to_f32()
            .normalize(IMAGENET_MEAN, IMAGENET_STD)
            .random_erasing(RandomErasing::new(0.5))
    };
    let batches = |workers: usize, in_place: bool, first: bool| {
        let builder = crate::Loader::builder(std::sync::Arc::clone(&samples));
        let chain = if first { chain().channels_first() } else { chain() };
        assert_eq!(chain.shape(), Some(if first { [3, 24, 20] } else { [24, 20, 3] }));
        let loader = if in_place {
            builder.transform(chain).batch_size(16).shuffle(3).workers(workers).build()
        } else {
            use crate::transform::Transform;
            let apply = move |sample, rng: &mut crate::VisitRng| chain.apply(sample, rng).unwrap();
            builder.augment(apply).batch_size(16).shuffle(3).workers(workers).build()
        };
        let epoch = loader.unwrap().epoch(1);
        epoch.map(|batch| batch.unwrap().into_inner()).collect::<Vec<_>>()
    };
    let expected = batches(0, true, false);
    assert_eq!(expected.iter().map(|(images, _)| images.dim().0).sum::<usize>(), len);
    for (workers, in_place) in [(1, true), (4, true), (0, false), (3, false)] {
        assert!(batches(workers, in_place, false) == expected, "{workers} workers, in place: {in_place}");
    }
    for ((last, _), (first, _)) in expected.iter().zip(batches(2, true, true)) {
        assert_eq!(first.permuted_axes([0, 2, 3, 1]), last);
    }
}

#[test]
fn each_random_step_does_what_it_says() {
    let image = |seed: usize| {
        let pixels = (0..31 * 47 * 3).map(|at| ((at * 7919 + seed * 104_729) >> 3) as u8).collect();
        Image::new(31, 47, 3, pixels).unwrap()
    };
    let rng = |position| crate::Visit::new(5, 0, position, 0).rng(0);
    let run = |chain: &ImageTransform, position| {
        use crate::transform::Transform;
        Image::from_array(&chain.apply(image(1), &mut rng(position)).unwrap()).unwrap()
    };
    // A part of the image: every pixel of a crop without padding is one of the image, in its place.
    let crop = ImageTransform::new().random_crop(8, 9, 0);
    let places: std::collections::BTreeSet<_> = (0..400)
        .map(|position| {
            let part = run(&crop, position);
            let found = (0..=31 - 8).flat_map(|top| (0..=47 - 9).map(move |left| (top, left)));
            let mut found = found.filter(|&(top, left)| image(1).crop(top, left, 8, 9).unwrap() == part);
            found.next().expect("the crop is a part of the image")
        })
        .collect();
    assert!(places.len() > 250 && places.iter().any(|place| place.0 == 0) && places.iter().any(|place| place.0 == 23));
    // Flips come as often as they should, four standard errors.
    let flip = ImageTransform::new().random_horizontal_flip(0.3);
    let flipped = (0..1000).filter(|&position| run(&flip, position) == image(1).flip_horizontal()).count();
    assert!((242..=358).contains(&flipped), "{flipped}");
    assert!((0..50).all(|position| run(&ImageTransform::new().random_vertical_flip(1.0), position)
        == image(1).flip_vertical()));
    // Parts keep to their ranges.
    let parts = RandomResizedCrop::new(4, 4).scale(0.25, 0.5).ratio(0.8, 1.25);
    for position in 0..500 {
        let Area { top, left, height, width } = parts.draw(310, 470, &mut rng(position));
        assert!(top + height <= 310 && left + width <= 470);
        let (scale, ratio) = ((height * width) as f64 / (310.0 * 470.0), width as f64 / height as f64);
        assert!((0.245..=0.505).contains(&scale) && (0.79..=1.26).contains(&ratio), "{scale} {ratio}");
    }
    // An erased box is one box of the value, of the share that it should have.
    for position in 0..200 {
        use crate::transform::Transform;
        let chain = ImageTransform::new().to_f32().random_erasing(RandomErasing::new(1.0).value(-3.0));
        let array = chain.apply(image(1), &mut rng(position)).unwrap();
        let erased: Vec<_> = array.indexed_iter().filter(|(_, value)| **value == -3.0).map(|(at, _)| at).collect();
        let range = |of: fn(&(usize, usize, usize)) -> usize| {
            let (low, high) = (erased.iter().map(of).min().unwrap(), erased.iter().map(of).max().unwrap());
            high - low + 1
        };
        let (height, width) = (range(|at| at.0), range(|at| at.1));
        assert_eq!(erased.len(), height * width * 3);
        let share = (height * width) as f64 / (31.0 * 47.0);
        assert!((0.01..=0.36).contains(&share), "{share}");
    }
}

#[test]
fn a_step_that_breaks_the_shape_is_an_error() {
    use crate::transform::Transform;
    let image = Image::filled(4, 4, 3, 7);
    let rng = &mut crate::Visit::new(0, 0, 0, 0).rng(0);
    let grey = ImageTransform::new().then(|image, _| Ok(image.to_grey()));
    let error = grey.apply(image.clone(), rng).unwrap_err();
    assert_eq!(error.message(), "an image of 1 channels after a step, expected 3 as before");
    let failing = ImageTransform::new().then(|_, _| Err(Error::new(ErrorKind::Sample, "no")));
    assert_eq!(failing.apply(image, rng).unwrap_err().message(), "no");
    assert_eq!(ImageTransform::new().resize_shorter(4).shape(), None);
    assert_eq!(ImageTransform::new().resize(4, 5).random_rotation(3.0).shape(), Some([4, 5, 3]));
}

#[test]
fn an_array_that_is_a_part_of_another_is_an_image() {
    use crate::transform::Transform;
    let array =
        ndarray::Array3::from_shape_fn((5, 4, 3), |(row, column, channel)| (row * 12 + column * 3 + channel) as u8);
    let rng = &mut crate::Visit::new(0, 0, 0, 0).rng(0);
    for part in [ndarray::s![..2, .., ..], ndarray::s![1..3, .., ..], ndarray::s![1..4, 1..3, ..]] {
        let expected = array.slice(part).to_owned();
        assert_eq!(ImageTransform::new().apply(array.clone().slice_move(part), rng).unwrap(), expected);
    }
}

#[test]
#[should_panic(expected = "a random turn with Bicubic, expected Nearest or Bilinear")]
fn a_filter_that_cannot_turn_is_not_replaced_by_another() {
    let _ = ImageTransform::new().filter(Filter::Bicubic).random_rotation(10.0);
}

#[test]
fn a_part_takes_nothing_from_around_it() {
    // Black with a white frame around it, which no filter may see.
    let whole = Image::filled(60, 80, 3, 255);
    let black = |row: usize, column: usize| (20..40).contains(&row) && (30..60).contains(&column);
    let pixels = (0..60).flat_map(|row| (0..80).flat_map(move |column| [if black(row, column) { 0 } else { 255 }; 3]));
    let whole = Image { pixels: pixels.collect(), ..whole };
    let area = Area { top: 20, left: 30, height: 20, width: 30 };
    for filter in [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Hamming, Filter::Bicubic, Filter::Lanczos] {
        for (height, width) in [(7, 9), (50, 44), (20, 30), (20, 9)] {
            let part = whole.resize_area(area, height, width, filter).unwrap();
            assert!(part.pixels.iter().all(|&byte| byte == 0), "{filter:?} {height} x {width}");
        }
    }
}
