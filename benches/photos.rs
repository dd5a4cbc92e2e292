//! Photographs: read, decode, resize to 200 x 200, as f32 in shuffled batches of 32.
//!
//! `PROCESSION_PHOTOS=DIR cargo bench --features image,tar --bench photos`, where `DIR` is a folder of JPEGs, or
//! `PROCESSION_PHOTOS=FILE.tar` an archive of them. Without it the few small images of the tests stand in, and only show
//! that everything runs. The limit is the bare loop: the same decoder and resizer on as many threads, each writing to a
//! buffer of its own, in no order.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{at_least, drain, table};
use fast_image_resize::images::{Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use ndarray::Array3;
use procession::image::{DecodeOptions, ImageTransform};
use procession::source::{Blob, ImageFolder, TarShards};
use procession::{Loader, Plan, Sampler, Sequence, SequenceExt, Shuffle, Window};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

const SIDE: usize = 200;
const LEN: usize = SIDE * SIDE * 3;
const BATCH: usize = 32;

type Photos = Arc<dyn Sequence<Sample = Blob>>;

fn main() {
    let path = std::env::var("PROCESSION_PHOTOS").unwrap_or_else(|_| {
        println!("PROCESSION_PHOTOS is not set: a few small images of the tests stand in for photographs");
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/inputs").to_owned()
    });
    let path = Path::new(&path);
    let photos: Photos = if path.is_dir() {
        let files = ImageFolder::open_unlabelled(path).unwrap();
        let jpegs = files.paths().iter().filter(|path| JPEG.contains(&&*path.extension().unwrap().to_string_lossy()));
        Arc::new(procession::source::Files::new(jpegs.cloned().collect::<Vec<_>>()))
    } else {
        let shards = TarShards::open(path).unwrap();
        Arc::new(shards.try_map(|sample| sample.field_of(&["jpg", "jpeg"])))
    };
    println!("{} photographs in {}", photos.len(), path.display());
    let loader = |workers: usize| {
        Loader::builder(Arc::clone(&photos))
            .transform(ImageTransform::new().resize(SIDE, SIDE).to_f32())
            .batch_size(BATCH)
            .shuffle(7)
            .workers(workers)
            .window(Window::Batches(4))
            .build()
            .unwrap()
    };
    let loaders = [loader(0), loader(1), loader(2)];
    let amount = photos.len() as f64;
    let times = table(
        "photographs, 1 thread",
        "photo/s",
        amount,
        &mut [
            ("the bare loop", &mut || bare(&photos, 1)),
            ("loader, 0 workers", &mut || drain(&loaders[0], 0)),
            ("loader, 1 worker", &mut || drain(&loaders[1], 0)),
            ("naive generator: filters of `image`, stacked", &mut || naive(&photos)),
        ],
    );
    at_least("1 worker, of the bare loop", 0.97, times.ratio(2, 0));
    let times = table(
        "photographs, 2 threads",
        "photo/s",
        amount,
        &mut [("the bare loop", &mut || bare(&photos, 2)), ("loader, 2 workers", &mut || drain(&loaders[2], 0))],
    );
    at_least("2 workers, of the bare loop", 0.97, times.ratio(1, 0));
}

const JPEG: [&str; 4] = ["jpg", "jpeg", "JPG", "JPEG"];

/// What a thread does without a loader: take the next photograph, decode, resize, convert.
fn bare(photos: &Photos, num_threads: usize) {
    let next = AtomicUsize::new(0);
    let order = Shuffle::new(photos.len() as u64, 7);
    let work = || {
        let options = DecoderOptions::default()
            .set_max_width(1 << 16)
            .set_max_height(1 << 16)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let (mut resizer, mut small) = (Resizer::new(), vec![0; LEN]);
        let mut row = vec![0.0_f32; LEN];
        let filter = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            if position >= photos.len() {
                break;
            }
            let blob = photos.get(order.index(0, position as u64) as usize).unwrap();
            let mut decoder = JpegDecoder::new_with_options(ZCursor::new(blob.bytes()), options);
            let pixels = decoder.decode().unwrap();
            let (width, height) = decoder.dimensions().unwrap();
            let source = ImageRef::new(width as u32, height as u32, &pixels, PixelType::U8x3).unwrap();
            let mut target = Target::from_slice_u8(SIDE as u32, SIDE as u32, &mut small, PixelType::U8x3).unwrap();
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

/// What one writes at first: open, resize by the `image` crate's own filters, convert, stack.
fn naive(photos: &Photos) {
    let plan = Plan::new(Shuffle::new(photos.len() as u64, 7), BATCH as u64).unwrap();
    for number in 0..plan.num_batches() {
        let rows: Vec<Array3<f32>> = plan
            .indices(0, number)
            .into_iter()
            .map(|index| {
                let decoded = DecodeOptions::new().decode(&photos.get(index as usize).unwrap()).unwrap();
                let (height, width) = (decoded.height() as u32, decoded.width() as u32);
                let image = ::image::RgbImage::from_raw(width, height, decoded.pixels().to_vec()).unwrap();
                let triangle = ::image::imageops::FilterType::Triangle;
                let small = ::image::imageops::resize(&image, SIDE as u32, SIDE as u32, triangle);
                Array3::from_shape_vec((SIDE, SIDE, 3), small.into_raw()).unwrap().mapv(|byte| f32::from(byte) / 255.0)
            })
            .collect();
        let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
        black_box(ndarray::stack(ndarray::Axis(0), &views).unwrap());
    }
}
