//! All of the trainer in one sitting: train a classifier on real images, read what goes on inside, test it with averaged
//! weights, put the raw ones back, and go on training.
//!
//! `cargo run --release --features train,fashion-mnist --example train`

use std::io::Write;

use ndarray::{ArrayView2, ArrayViewMut2, Axis, Zip};
use procession::source::Mnist;
use procession::train::{Adam, Backward, Forward, InnerValue, Layer, Model, Parameter, Stream, Trainer};
use procession::{Loader, Result};

/// Scales its l2-normalised input by one trainable number. The normalised input can be read by its name.
#[derive(Debug)]
struct Normal {
    scale: Parameter,
    width: usize,
}

impl Normal {
    fn new(scale: f32) -> Self {
        Self { scale: Parameter::new("scale", &[1], vec![scale]), width: 0 }
    }
}

impl Layer for Normal {
    fn build(&mut self, input_width: usize, _: &mut Stream) -> Result<usize> {
        self.width = input_width;
        Ok(input_width)
    }

    fn inner_values(&self) -> Vec<InnerValue> {
        vec![InnerValue::new("normalised", self.width), InnerValue::new("norm", 1).for_backward()]
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
        let scale = self.scale.values()[0];
        let [mut normalised, mut norms] = pass.inner();
        for (row, x) in x.outer_iter().enumerate() {
            let norm = x.dot(&x).sqrt().max(1e-12);
            Zip::from(y.row_mut(row)).and(x).for_each(|y, &x| *y = scale * x / norm);
            // Both are there only if somebody reads them: a function that asks for one, or the backward pass.
            if let Some(normalised) = &mut normalised {
                Zip::from(normalised.row_mut(row)).and(x).for_each(|n, &x| *n = x / norm);
            }
            if let Some(norms) = &mut norms {
                norms[[row, 0]] = norm;
            }
        }
        Ok(())
    }

    fn backward(
        &mut self,
        x: ArrayView2<'_, f32>,
        _y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        mut dx: Option<ArrayViewMut2<'_, f32>>,
        pass: &Backward<'_>,
    ) -> Result<()> {
        let (scale, norms) = (self.scale.values()[0], pass.inner(1));
        let mut gradient = 0.0;
        for (row, (x, dy)) in x.outer_iter().zip(dy.outer_iter()).enumerate() {
            let norm = norms[[row, 0]];
            let along = x.dot(&dy) / norm;
            gradient += along;
            if let Some(dx) = &mut dx {
                let of_element = |dx: &mut f32, &x: &f32, &dy: &f32| *dx = scale * (dy - along * x / norm) / norm;
                Zip::from(dx.row_mut(row)).and(x).and(dy).for_each(of_element);
            }
        }
        self.scale.grads_mut()[0] = gradient;
        Ok(())
    }

    fn visit_params(&self, visit: &mut dyn FnMut(&Parameter)) {
        visit(&self.scale);
    }

    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&mut Parameter)) {
        visit(&mut self.scale);
    }
}

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    let images = Mnist::fashion_sample();
    let train = Loader::builder(images.train).batch_size(128).shuffle(7).build()?;
    let test = Loader::builder(images.test).batch_size(500).build()?;

    let model = Model::builder(784)
        .dense("hidden1", 512)
        .relu("relu1")
        .dropout("dropout1", 0.2)
        .dense("hidden2", 256)
        .relu("relu2")
        .dropout("dropout2", 0.2)
        .layer("normal", Normal::new(10.0))
        .dense("logits", 10)
        .softmax("probabilities")
        .seed(7)
        .build()?;
    writeln!(out, "{}", model.summary())?;

    // Train, with averages of the weights beside the raw ones.
    let mut trainer = Trainer::new(model, Adam::default()).average("ema", 0.99)?;
    trainer.fit_validated(train.epochs(0..4), || test.epoch(0))?;
    for (epoch, _, raw) in trainer.history().column("val_accuracy") {
        writeln!(out, "epoch {epoch}: accuracy {raw:.3}")?;
    }

    // Read the 256-wide layer through a sub-model, and the value inside the layer through a function.
    let batch = test.epoch(0).next().expect("there are images to test with")?;
    let (pixels, labels) = &*batch;
    let mut hidden = trainer.model().up_to("relu2")?;
    writeln!(out, "\nrelu2: {:?}", hidden.predict(pixels)?.dim())?;
    let mut inside = trainer.model().function(&["normal/normalised", "normal"])?;
    let values = inside.call(pixels)?;
    let lengths = values[0].map_axis(Axis(1), |row| row.dot(&row).sqrt());
    writeln!(out, "normal/normalised: {:?}, rows of length {:.3}", values[0].dim(), lengths[0])?;
    writeln!(out, "normal/scale: 10 at first, now {:.2}", trainer.model().param("normal/scale")?[[0]])?;

    // Test with the averages for as long as the guard lives; then the raw weights are back.
    let raw = trainer.model_mut().evaluate(pixels, labels)?;
    let (average, model) = trainer.average_and_model("ema")?;
    let averaged = average.applied(model)?.evaluate(pixels, labels)?;
    writeln!(out, "\naccuracy {:.3} raw, {:.3} averaged", raw.accuracy(), averaged.accuracy())?;
    assert_eq!(trainer.model_mut().evaluate(pixels, labels)?, raw);

    // Go on as if nothing had happened.
    trainer.fit_validated(train.epochs(4..6), || test.epoch(0))?;
    for name in ["val_accuracy", "ema_val_accuracy"] {
        let last = trainer.history().last().find(|(other, _)| *other == name);
        writeln!(out, "after 6 epochs: {name} {:.3}", last.map_or(f64::NAN, |(_, value)| value))?;
    }
    Ok(())
}
