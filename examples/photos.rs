//! The example of Keras's documentation of `PyDataset`: a list of image files and their labels, read, resized to
//! 200 x 200, and taken in batches, here from a pool of workers.
//!
//! `cargo run --release --features image --example photos -- cats/*.jpg dogs/*.jpg`: the folder is the label.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procession::image::ImageTransform;
use procession::source::ImageList;
use procession::{Loader, Result};

fn main() -> Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let folder = |file: &String| std::path::Path::new(file).parent().map(std::path::Path::to_owned);
    let mut folders: Vec<_> = files.iter().map(folder).collect();
    folders.sort();
    folders.dedup();
    let label = |file: &String| folders.binary_search(&folder(file)).map_or(0, |label| label as u32);
    let images = ImageList::new(files.iter().map(|file| (file, label(file))));

    let loader = Loader::builder(images)
        .transform(ImageTransform::new().resize(200, 200).to_f32())
        .batch_size(32)
        .shuffle(7)
        .build()?;
    for batch in loader.epoch(0) {
        let batch = batch?;
        let (images, labels) = &*batch; // Array4<f32> (32, 200, 200, 3) in [0, 1], Array1<u32> (32)
        let mean = images.mean().unwrap_or_default();
        println!("batch {}: {:?}, mean {mean:.3}, labels {labels}", batch.number(), images.shape());
    }
    Ok(())
}
