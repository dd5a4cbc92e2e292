//! Trains a small network on the shipped images: the loader feeds, the trainer learns, the averaged weights are
//! tested beside the raw ones.
//!
//! `cargo run --release --features train,fashion-mnist --example train`

use std::io::Write;

use procession::source::Mnist;
use procession::train::{Adam, Average, Model, Totals};
use procession::{Loader, Result};

fn main() -> Result<()> {
    let images = Mnist::fashion_sample();
    let train = Loader::builder(images.train).batch_size(128).shuffle(7).build()?;
    let test = Loader::builder(images.test).batch_size(500).build()?;

    let mut model = Model::builder(784)
        .dense("hidden1", 256)
        .relu("relu1")
        .dropout("dropout", 0.2)
        .dense("hidden2", 128)
        .relu("relu2")
        .dense("logits", 10)
        .seed(7)
        .build()?;
    let mut adam = Adam::default();
    let mut average = Average::new(&model, 0.99)?;

    let mut out = std::io::stdout().lock();
    for epoch in train.epochs(0..5) {
        let (number, mut totals) = (epoch.number(), Totals::default());
        for batch in epoch {
            let batch = batch?;
            let (pixels, labels) = &*batch;
            totals.add(&model.train_step(pixels, labels, &mut adam)?);
            average.update(&model)?;
        }
        let raw = accuracy(&mut model, &test)?;
        // The averages are swapped in for as long as the guard lives.
        let averaged = accuracy(&mut *average.applied(&mut model)?, &test)?;
        writeln!(out, "epoch {number}: loss {:.3}, accuracy {raw:.3} raw, {averaged:.3} averaged", totals.mean_loss())?;
    }
    Ok(())
}

type Images = (ndarray::Array2<f32>, ndarray::Array1<u32>);

fn accuracy(model: &mut Model, test: &Loader<Images>) -> Result<f64> {
    let mut totals = Totals::default();
    for batch in test.epoch(0) {
        let batch = batch?;
        let (pixels, labels) = &*batch;
        totals.add(&model.evaluate(pixels, labels)?);
    }
    Ok(totals.accuracy())
}
