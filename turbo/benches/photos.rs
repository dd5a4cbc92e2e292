//! Photographs with libjpeg-turbo: what it gains over `zune-jpeg`, what decoding at a reduced scale gains on top, and by how
//! much pixels differ.
//!
//! `PROCESSION_PHOTOS=DIR cargo bench`, where `DIR` is a folder of JPEGs, or `PROCESSION_PHOTOS=FILE.tar` an archive of them.
//! Without it the few small images of the tests stand in, and only show that everything runs. `PROCESSION_SIDE` is the side
//! of what comes out, 200 by default. Photographs are read before the clock starts. The limit is the bare loop: decoder and
//! resizer on as many threads, each writing to a buffer of its own, in no order.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

#[path = "../../benches/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::table;
use fast_image_resize::images::{Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use procession::image::{DecodeOptions, Filter, Image, ImageFormat, ImageTransform};
use procession::source::{Blob, ImageFolder, TarShards};
use procession::{Loader, Sequence};
use procession_turbojpeg::Turbo;
use turbojpeg::{Decompressor, PixelFormat};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

const BATCH: usize = 32;
const TURBO: DecodeOptions = DecodeOptions::new().jpeg_decoder(&Turbo);

/// Pixels and their height and width.
type Pixels = (Vec<u8>, usize, usize);

fn main() {
    let photos = Arc::new(photos());
    let side = std::env::var("PROCESSION_SIDE").ok().and_then(|side| side.parse().ok()).unwrap_or(200);
    let ways = [
        ("zune-jpeg", DecodeOptions::new()),
        ("libjpeg-turbo", TURBO),
        ("libjpeg-turbo, reduced(2)", TURBO.reduced(2)),
        ("libjpeg-turbo, reduced(1)", TURBO.reduced(1)),
    ];
    differences(&photos, side, &ways);
    let amount = photos.len() as f64;
    let decode = |decode: fn(&[u8]) -> Pixels| photos.iter().for_each(|photo| drop(black_box(decode(photo.bytes()))));
    table(
        "decoding alone, 1 thread",
        "photo/s",
        amount,
        &mut [
            ("zune-jpeg", &mut || decode(zune)),
            ("libjpeg-turbo, kept from photo to photo", &mut || {
                let mut kept = Decompressor::new().unwrap();
                photos.iter().for_each(|photo| drop(black_box(turbo_with(&mut kept, photo.bytes()))));
            }),
            ("libjpeg-turbo, a new one for each photo", &mut || decode(turbo)),
            ("the header alone", &mut || photos.iter().for_each(|photo| assert!(black_box(TURBO.info(photo)).is_ok()))),
            ("DecodeOptions with libjpeg-turbo", &mut || {
                photos.iter().for_each(|photo| drop(black_box(TURBO.decode(photo).unwrap())));
            }),
        ],
    );
    for (workers, num_threads) in [(0, 1), (2, 2)] {
        let loaders = ways.map(|(_, options)| {
            Loader::builder(Arc::clone(&photos))
                .transform(ImageTransform::new().decode(options).resize(side, side).to_f32())
                .batch_size(BATCH)
                .shuffle(7)
                .workers(workers)
                .build()
                .unwrap()
        });
        let drain = |at: usize| {
            for batch in loaders[at].epoch(0) {
                black_box(&*batch.unwrap());
            }
        };
        table(
            &format!("decoded, resized to {side} x {side}, as f32, {num_threads} thread(s), {workers} worker(s)"),
            "photo/s",
            amount,
            &mut [
                ("bare loop, zune-jpeg", &mut || bare(&photos, side, num_threads, zune)),
                ("bare loop, libjpeg-turbo", &mut || bare(&photos, side, num_threads, turbo)),
                ("loader, zune-jpeg", &mut || drain(0)),
                ("loader, libjpeg-turbo", &mut || drain(1)),
                ("loader, libjpeg-turbo, reduced(2)", &mut || drain(2)),
                ("loader, libjpeg-turbo, reduced(1)", &mut || drain(3)),
            ],
        );
    }
}

/// All photographs that are JPEGs, in memory.
fn photos() -> Vec<Blob> {
    let path = std::env::var("PROCESSION_PHOTOS").unwrap_or_else(|_| {
        println!("PROCESSION_PHOTOS is not set: a few small images of the tests stand in for photographs");
        concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/images/inputs").to_owned()
    });
    let path = Path::new(&path);
    let all: Vec<Blob> = if path.is_dir() {
        ImageFolder::open_unlabelled(path).unwrap().paths().iter().map(|path| Blob::read(path).unwrap()).collect()
    } else {
        let shards = TarShards::open(path).unwrap();
        let field = |index| shards.get(index).unwrap().field_of(&["jpg", "jpeg"]).unwrap();
        (0..shards.len()).map(field).collect()
    };
    let photos: Vec<_> =
        all.into_iter().filter(|file| ImageFormat::of(file.bytes()) == Some(ImageFormat::Jpeg)).collect();
    println!("{} photographs in {}", photos.len(), path.display());
    photos
}

/// Prints how far the pixels of each way are from those of libjpeg-turbo at full size, and resized then.
fn differences(photos: &[Blob], side: usize, ways: &[(&str, DecodeOptions)]) {
    println!(
        "\npixels at {side} x {side}, beside libjpeg-turbo at full size; and, of photographs that are reduced at all"
    );
    for (name, options) in ways {
        let (mut all, mut reduced) = (Differences::default(), Differences::default());
        for photo in photos {
            let resized =
                |options: &DecodeOptions| options.decode_resized(photo, side, side, Filter::Bilinear).unwrap();
            let (ours, exact) = (resized(options), resized(&TURBO));
            all.add(&ours, &exact);
            if ours != exact {
                reduced.add(&ours, &exact);
            }
        }
        println!("  {name:<44} {all}; {reduced}");
    }
}

#[derive(Default)]
struct Differences {
    num_photos: usize,
    num_values: usize,
    sum: usize,
    most: u8,
    beyond: usize,
}

impl Differences {
    fn add(&mut self, a: &Image, b: &Image) {
        self.num_photos += 1;
        self.num_values += a.pixels().len();
        for (a, b) in a.pixels().iter().zip(b.pixels()) {
            let difference = a.abs_diff(*b);
            self.sum += usize::from(difference);
            self.most = self.most.max(difference);
            self.beyond += usize::from(difference > 8);
        }
    }
}

impl std::fmt::Display for Differences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mean = |sum: usize| sum as f64 / self.num_values.max(1) as f64;
        let Self { num_photos, most, .. } = self;
        let (all, beyond) = (mean(self.sum), 100.0 * mean(self.beyond));
        write!(f, "{num_photos} photos: mean {all:.3}, most {most}, above 8: {beyond:.3} %")
    }
}

fn zune(jpeg: &[u8]) -> Pixels {
    let options = DecoderOptions::default()
        .set_max_width(1 << 16)
        .set_max_height(1 << 16)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    let pixels = decoder.decode().unwrap();
    let (width, height) = decoder.dimensions().unwrap();
    (pixels, height, width)
}

fn turbo(jpeg: &[u8]) -> Pixels {
    turbo_with(&mut Decompressor::new().unwrap(), jpeg)
}

fn turbo_with(decompressor: &mut Decompressor, jpeg: &[u8]) -> Pixels {
    let header = decompressor.read_header(jpeg).unwrap();
    let (height, width, format) = (header.height, header.width, PixelFormat::RGB);
    let mut pixels = vec![0; height * width * 3];
    let image = turbojpeg::Image { pixels: &mut pixels[..], width, pitch: width * 3, height, format };
    // Inks are not what is measured.
    let _ = decompressor.decompress(jpeg, image);
    (pixels, height, width)
}

/// What a thread does without a loader: take the next photograph, decode, resize, convert.
fn bare(photos: &[Blob], side: usize, num_threads: usize, decode: fn(&[u8]) -> Pixels) {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut resizer, mut small) = (Resizer::new(), vec![0; side * side * 3]);
        let mut row = vec![0.0_f32; side * side * 3];
        let filter = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        while let Some(photo) = photos.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (pixels, height, width) = decode(photo.bytes());
            let source = ImageRef::new(width as u32, height as u32, &pixels, PixelType::U8x3).unwrap();
            let mut target = Target::from_slice_u8(side as u32, side as u32, &mut small, PixelType::U8x3).unwrap();
            resizer.resize(&source, &mut target, &filter).unwrap();
            row.iter_mut().zip(&small).for_each(|(float, &byte)| *float = f32::from(byte) / 255.0);
            black_box(&row);
        }
    };
    std::thread::scope(|scope| {
        (1..num_threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
}
