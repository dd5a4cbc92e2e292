//! libjpeg-turbo beside what Pillow makes of the same files (`tests/images/README.md`), on damaged files, and on the corpus of
//! the fuzz target.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

#[path = "../../tests/it/fuzzed/image.rs"]
mod fuzzed;

use std::fs;
use std::path::{Path, PathBuf};

use procession::ErrorKind;
use procession::image::{DecodeOptions, Filter, Image};
use procession::source::Blob;
use procession_turbojpeg::Turbo;
use serde_json::Value;

const TURBO: DecodeOptions = DecodeOptions::new().jpeg_decoder(&Turbo);

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)
}

fn path(name: &Value) -> PathBuf {
    root("tests/images").join(name.as_str().unwrap())
}

fn cases(index: &str, name: &str) -> Vec<Value> {
    let index: Value = serde_json::from_slice(&fs::read(root("tests/images").join(index)).unwrap()).unwrap();
    index[name].as_array().unwrap().clone()
}

fn difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn jpegs() -> Vec<Blob> {
    let mut files: Vec<_> = ["inputs", "reduced"]
        .iter()
        .flat_map(|folder| fs::read_dir(root("tests/images").join(folder)).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    files.sort();
    assert!(files.len() > 30);
    files.into_iter().map(|file| Blob::read(file).unwrap()).collect()
}

fn input(name: &str) -> Vec<u8> {
    fs::read(root("tests/images/inputs").join(name)).unwrap()
}

#[test]
fn every_kind_of_jpeg_decodes_as_in_pillow() {
    let mut num_equal = 0;
    for case in cases("expected.json", "images") {
        let file = Blob::read(path(&case["file"])).unwrap();
        if !file.name().to_string_lossy().ends_with(".jpg") {
            continue;
        }
        let colour = TURBO.decode(&file).unwrap();
        let extents = (colour.height() as u64, colour.width() as u64);
        assert_eq!(extents, (case["height"].as_u64().unwrap(), case["width"].as_u64().unwrap()), "{file:?}");
        let found = difference(colour.pixels(), &fs::read(path(&case["rgb"])).unwrap());
        assert!(found <= 1, "{file:?}: {found}");
        // Products of inks are rounded otherwise.
        assert!(found == 0 || case["pillow_mode"] == "CMYK", "{file:?}: {found}");
        num_equal += usize::from(found == 0);
        if !case["grey"].is_null() {
            let grey = TURBO.grey(true).decode(&file).unwrap();
            assert_eq!(difference(grey.pixels(), &fs::read(path(&case["grey"])).unwrap()), 0, "{file:?}");
        }
    }
    assert!(num_equal >= 30, "{num_equal} equal to Pillow's");
}

#[test]
fn reduced_images_are_those_of_pillow() {
    for case in cases("reduced.json", "cases") {
        let file = Blob::read(path(&case["file"])).unwrap();
        let number = |name: &str| case[name].as_u64().unwrap() as usize;
        let (height, width, divisor) = (number("height"), number("width"), number("divisor"));
        let options = TURBO.grey(number("channels") == 1);
        // At 1/8 there are between one and two pixels for each.
        let reduced = options.reduced(8 / divisor as u32);
        let ours = reduced.decode_resized(&file, height, width, Filter::Bilinear).unwrap();
        let theirs = fs::read(path(&case["pixels"])).unwrap();
        let found = difference(ours.pixels(), &theirs);
        assert!(found <= 1, "{case}: {found}");
        // At full size it is another image, so that the scale is known to have been chosen.
        assert_ne!(options.decode_resized(&file, height, width, Filter::Bilinear).unwrap(), ours, "{case}");
    }
}

#[test]
fn damaged_files_are_errors_with_the_file() {
    let options = TURBO.limit_bytes(1 << 22);
    for file in jpegs() {
        let whole = options.decode(&file).unwrap();
        let len = file.bytes().len();
        // Each of the last bytes, where what is lost is a block or less.
        for cut in (0..len).step_by((len / 100).max(1)).chain(len.saturating_sub(40)..len) {
            let cut_off = Blob::new(file.bytes()[..cut].to_vec(), file.name());
            for options in [options, options.reduced(1)] {
                let error = options.decode_resized(&cut_off, 1, 1, Filter::Bilinear).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Limit), "{error}");
                assert_eq!(error.file(), Some(file.name()));
            }
            // As many pixels as there should be, or nothing.
            if let Ok(image) = options.lenient(true).decode(&cut_off) {
                assert_eq!((image.height(), image.width()), (whole.height(), whole.width()));
            }
            fuzzed::check(cut_off.bytes(), fuzzed::options().jpeg_decoder(&Turbo));
        }
        for at in (0..len).step_by((len / 200).max(1)) {
            let mut bytes = file.bytes().to_vec();
            bytes[at] ^= 1 << (at % 8);
            fuzzed::check(&bytes, fuzzed::options().jpeg_decoder(&Turbo));
        }
    }
}

#[test]
fn a_lenient_decoder_gives_what_is_there() {
    let file = Blob::new(input("jpeg_444_q95.jpg"), "photo.jpg");
    let whole = TURBO.decode(&file).unwrap();
    let cut_off = Blob::new(file.bytes()[..file.bytes().len() * 3 / 4].to_vec(), "cut.jpg");
    let image = TURBO.lenient(true).decode(&cut_off).unwrap();
    let (rows, last) = (8 * 40 * 3, 29 * 40 * 3);
    assert_eq!(image.pixels()[..rows], whole.pixels()[..rows]);
    assert!(image.pixels()[last + 60..].iter().all(|&value| value == 128), "{:?}", &image.pixels()[last..]);
    let error = TURBO.decode(&cut_off).unwrap_err();
    assert_eq!(error.to_string(), "damaged JPEG image (file cut.jpg)");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("cut off"), "{cause}");
    // A wrong code in the middle.
    let mut bytes = file.bytes().to_vec();
    let middle = bytes.len() * 3 / 4;
    bytes[middle..middle + 40].fill(0xfe);
    let damaged = Blob::new(bytes, "damaged.jpg");
    assert_eq!(TURBO.decode(&damaged).unwrap_err().kind(), ErrorKind::Format);
    let image = TURBO.lenient(true).decode(&damaged).unwrap();
    assert_eq!(image.pixels()[..rows], whole.pixels()[..rows]);
    // What is no warning is an error, also behind the header: a table of codes or of steps that is not there.
    let mut bytes = file.bytes().to_vec();
    let find = |marker: u8| file.bytes().windows(2).position(|found| found == [0xff, marker]).unwrap();
    let (frame, scan) = (find(0xc0), find(0xda));
    bytes[frame + 12] = 3;
    let mut others = file.bytes().to_vec();
    others[scan + 6] = 0x33;
    for bytes in [bytes, others] {
        let options = TURBO.lenient(true);
        let file = Blob::new(bytes, "tables.jpg");
        assert!(options.info(&file).is_ok());
        assert!(options.decode(&file).is_err());
    }
}

#[test]
fn headers_that_lie_are_errors_before_anything_is_decoded() {
    let patched = |name: &str, patch: &dyn Fn(&mut Vec<u8>, usize)| {
        let mut bytes = input(name);
        let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0] || marker == [0xff, 0xc2]).unwrap();
        patch(&mut bytes, frame);
        Blob::new(bytes, "lies.jpg")
    };
    for name in ["jpeg_444_q95.jpg", "jpeg_progressive_420.jpg"] {
        for (extents, kind) in [
            ([0xea, 0x60, 0xea, 0x60], ErrorKind::Limit),
            ([0xff, 0xff, 0xff, 0xff], ErrorKind::Limit),
            ([0, 0, 0, 40], ErrorKind::Format),
            ([0, 30, 0, 0], ErrorKind::Format),
            // More lines than there are.
            ([1, 30, 0, 40], ErrorKind::Format),
            ([0, 30, 1, 40], ErrorKind::Format),
        ] {
            let file = patched(name, &|bytes, frame| bytes[frame + 5..frame + 9].copy_from_slice(&extents));
            for options in [TURBO, TURBO.reduced(1)] {
                let error = options.decode_resized(&file, 2, 2, Filter::Bilinear).unwrap_err();
                assert_eq!((error.kind(), error.file()), (kind, Some(Path::new("lies.jpg"))), "{name} {extents:?}");
            }
        }
        // A frame of another kind, of another precision, of components that are not there.
        for (at, value) in [(1, 0xc3), (1, 0xc9), (4, 12), (9, 1), (9, 2), (9, 4), (9, 255), (11, 0), (11, 0x55)] {
            let file = patched(name, &|bytes, frame| bytes[frame + at] = value);
            assert!(TURBO.decode(&file).is_err(), "{name}: {value} at {at}");
            fuzzed::check(file.bytes(), fuzzed::options().jpeg_decoder(&Turbo));
        }
    }
}

#[test]
fn scans_are_limited() {
    let jpeg = input("jpeg_grey_progressive.jpg");
    let last = (0..jpeg.len() - 1).rfind(|&at| jpeg[at..at + 2] == [0xff, 0xda]).unwrap();
    let end = jpeg.len() - 2;
    let bomb = [&jpeg[..last], &jpeg[last..end].repeat(200), &jpeg[end..]].concat();
    let error = TURBO.lenient(true).decode(&Blob::new(bomb, "bomb.jpg")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn the_corpus_of_the_fuzz_target_holds() {
    let mut num_files = 0;
    for folder in ["fuzz/corpus/image", "fuzz/regressions/image"] {
        for file in fs::read_dir(root(folder)).unwrap() {
            fuzzed::check(&fs::read(file.unwrap().path()).unwrap(), fuzzed::options().jpeg_decoder(&Turbo));
            num_files += 1;
        }
    }
    assert!(num_files > 20);
}

#[test]
fn other_formats_are_left_to_their_decoders() {
    let png = Blob::new(input("png_rgb_8.png"), "image.png");
    assert_eq!(TURBO.reduced(1).decode(&png).unwrap(), DecodeOptions::new().decode(&png).unwrap());
    let resized = |options: DecodeOptions| options.decode_resized(&png, 3, 2, Filter::Box).unwrap();
    let plain: Image = resized(DecodeOptions::new());
    assert_eq!(resized(TURBO.reduced(1)), plain);
}
