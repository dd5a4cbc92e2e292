//! How a model is put together.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::layer::{Layer, Role};
use super::layers::{Activation, BatchNorm, Dense, Dropout, Flatten, LayerNorm, Residual, Softmax};
use super::loss::{Loss, SoftmaxCrossEntropy};
use super::model::{Chain, Model, Named, Shared};
use super::stream::{purpose, stream, word};
use super::workspace::in_layer;
use crate::{Error, Result};

/// Layers in order, each with a name of its own; the beginning of a [`Model`] or of a [`Residual`] block.
#[must_use = "layers do nothing by themselves"]
pub struct LayerBuilder<O> {
    layers: Vec<(String, Box<dyn Layer>)>,
    options: O,
}

/// A model in the making.
pub type ModelBuilder = LayerBuilder<ModelOptions>;

/// What a model has besides its layers.
#[derive(Debug)]
pub struct ModelOptions {
    input_shape: Vec<usize>,
    seed: u64,
    num_threads: Option<usize>,
    loss: Arc<dyn Loss>,
}

/// What a block of layers has besides them: nothing.
#[derive(Debug, Default)]
pub struct Block(());

impl<O: fmt::Debug> fmt::Debug for LayerBuilder<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerBuilder").field("layers", &self.layers).field("options", &self.options).finish()
    }
}

/// The shape of a sample: a number of features, or several extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleShape(Vec<usize>);

impl From<usize> for SampleShape {
    fn from(width: usize) -> Self {
        Self(vec![width])
    }
}

impl<const N: usize> From<[usize; N]> for SampleShape {
    fn from(extents: [usize; N]) -> Self {
        Self(extents.to_vec())
    }
}

impl From<&[usize]> for SampleShape {
    fn from(extents: &[usize]) -> Self {
        Self(extents.to_vec())
    }
}

impl Model {
    /// Starts a model whose inputs have so many features, or this shape: `784`, or `[28, 28]` before a
    /// [`flatten`](LayerBuilder::flatten).
    pub fn builder(sample_shape: impl Into<SampleShape>) -> ModelBuilder {
        let SampleShape(input_shape) = sample_shape.into();
        let options =
            ModelOptions { input_shape, seed: 0, num_threads: None, loss: Arc::new(SoftmaxCrossEntropy::new()) };
        LayerBuilder { layers: Vec::new(), options }
    }
}

impl<O> LayerBuilder<O> {
    /// Adds a [`Dense`] layer with bias and default initial weights.
    pub fn dense(self, name: impl Into<String>, outputs: usize) -> Self {
        self.layer(name, Dense::new(outputs))
    }

    /// Adds an [`Activation::Relu`].
    pub fn relu(self, name: impl Into<String>) -> Self {
        self.layer(name, Activation::Relu)
    }

    /// Adds an [`Activation::Gelu`].
    pub fn gelu(self, name: impl Into<String>) -> Self {
        self.layer(name, Activation::Gelu)
    }

    /// Adds an [`Activation::Tanh`].
    pub fn tanh(self, name: impl Into<String>) -> Self {
        self.layer(name, Activation::Tanh)
    }

    /// Adds an [`Activation::Sigmoid`].
    pub fn sigmoid(self, name: impl Into<String>) -> Self {
        self.layer(name, Activation::Sigmoid)
    }

    /// Adds a [`Softmax`].
    pub fn softmax(self, name: impl Into<String>) -> Self {
        self.layer(name, Softmax)
    }

    /// Adds a [`Dropout`] of a rate in `[0, 1)`.
    pub fn dropout(self, name: impl Into<String>, rate: f32) -> Self {
        self.layer(name, Dropout::new(rate))
    }

    /// Adds a [`LayerNorm`].
    pub fn layer_norm(self, name: impl Into<String>) -> Self {
        self.layer(name, LayerNorm::new())
    }

    /// Adds a [`BatchNorm`].
    pub fn batch_norm(self, name: impl Into<String>) -> Self {
        self.layer(name, BatchNorm::new())
    }

    /// Adds a [`Flatten`].
    pub fn flatten(self, name: impl Into<String>) -> Self {
        self.layer(name, Flatten)
    }

    /// Adds a [`Residual`] block of the layers that the function adds.
    pub fn residual(
        self,
        name: impl Into<String>,
        layers: impl FnOnce(LayerBuilder<Block>) -> LayerBuilder<Block>,
    ) -> Self {
        self.layer(name, Residual::new(layers))
    }

    /// Adds any layer.
    pub fn layer(self, name: impl Into<String>, layer: impl Layer + 'static) -> Self {
        self.boxed_layer(name, Box::new(layer))
    }

    /// Adds any layer in a box.
    pub fn boxed_layer(mut self, name: impl Into<String>, layer: Box<dyn Layer>) -> Self {
        self.layers.push((name.into(), layer));
        self
    }
}

impl LayerBuilder<Block> {
    pub(super) fn block() -> Self {
        Self { layers: Vec::new(), options: Block(()) }
    }

    pub(super) fn into_layers(self) -> Vec<(String, Box<dyn Layer>)> {
        self.layers
    }
}

impl LayerBuilder<ModelOptions> {
    /// Sets the seed of initial weights and dropout masks; 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// Sets the loss; [`SoftmaxCrossEntropy`] by default.
    pub fn loss(mut self, loss: impl Loss + 'static) -> Self {
        self.options.loss = Arc::new(loss);
        self
    }

    /// Sets how many threads share the work of a pass; by default, as many as there are processors.
    ///
    /// It has no effect on models so small that a second thread would not pay, nor inside a thread pool of rayon's, where
    /// the calling thread does it all. The results do not depend on it.
    pub fn threads(mut self, num_threads: usize) -> Self {
        self.options.num_threads = Some(num_threads);
        self
    }

    /// Gives each layer its input width, makes the weights, and checks the names.
    ///
    /// # Errors
    ///
    /// No layers; a name that is empty, has a `/` in it or is taken; two parameters or two inner values of a layer with
    /// one name; an option or width that a layer does not accept (the layer is named); inputs of more than one axis
    /// without a flatten as the first layer; or 0 threads.
    pub fn build(self) -> Result<Model> {
        let Self { layers: given, options } = self;
        let len = given.len();
        if len == 0 {
            return Err(Error::argument("a model without layers, expected at least 1"));
        }
        let Some(input_width) = width_of(&options.input_shape) else {
            let message = format!("inputs of shape {:?}, expected at least 1 feature", options.input_shape);
            return Err(Error::argument(message));
        };
        let (first, first_layer) = &given[0];
        if options.input_shape.len() != 1 && first_layer.role() != Role::Flatten {
            return Err(Error::argument(format!(
                "layer {first} takes rows of features, the inputs have shape {:?}: put a flatten before it",
                options.input_shape
            )));
        }
        if options.num_threads == Some(0) {
            return Err(Error::argument("0 threads, expected at least 1"));
        }
        let mut layers: Vec<Named> = Vec::with_capacity(len);
        let mut width = input_width;
        for (name, layer) in given {
            check_name(&name, &layers)?;
            let named = build_layer(name, layer, width, options.seed)?;
            width = named.width;
            layers.push(named);
        }
        let num_threads = options.num_threads.unwrap_or_else(num_cpus::get);
        let chain = Chain { input_width, seed: options.seed, layers, averaged: false };
        let shared = Shared::new(chain, options.input_shape, num_threads);
        Ok(Model::from_shared(Arc::new(shared), options.loss, len, 0))
    }
}

/// The number of features of a sample, if there are any.
fn width_of(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |width, &extent| width.checked_mul(extent)).filter(|&width| width > 0)
}

fn check_name(name: &str, layers: &[Named]) -> Result<()> {
    if name.is_empty() || name.contains('/') {
        return Err(Error::argument(format!("layer name {name:?}, expected a name that is not empty and has no /")));
    }
    if layers.iter().any(|named| named.name == name) {
        return Err(Error::argument(format!("two layers are named {name}, expected names that differ")));
    }
    Ok(())
}

/// Builds a layer. Its initial weights follow from the seed and its name, so that a layer put in elsewhere leaves those
/// of the others as they were.
fn build_layer(name: String, mut layer: Box<dyn Layer>, input_width: usize, seed: u64) -> Result<Named> {
    let key = word(&name);
    let mut stream = stream(seed, &[purpose::INITIALISE, key]);
    let width = layer.build(input_width, &mut stream).map_err(|error| in_layer(&name, error))?;
    if width != input_width && (layer.passes_through(true) || layer.passes_through(false)) {
        let message = format!("layer {name}: passes {input_width} values through as {width}, expected as many");
        return Err(Error::argument(message));
    }
    let (mut params, mut largest) = (Vec::new(), 0);
    layer.visit_params(&mut |param| {
        params.push(format!("{name}/{}", param.name()));
        largest = largest.max(if param.shape().len() == 2 { param.len() } else { 0 });
    });
    let inner: Vec<String> = layer.inner_values().iter().map(|value| format!("{name}/{}", value.name)).collect();
    for names in [&params, &inner] {
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(Error::argument(format!("the name {twice} is given twice, expected names that differ")));
        }
    }
    Ok(Named { name, key, layer, width, params, largest_kernel: largest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(builder: ModelBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(message(Model::builder(3)), "a model without layers, expected at least 1");
        assert_eq!(message(Model::builder(0).relu("r")), "inputs of shape [0], expected at least 1 feature");
        assert_eq!(
            message(Model::builder([2, usize::MAX]).flatten("f")),
            format!("inputs of shape [2, {}], expected at least 1 feature", usize::MAX)
        );
        assert_eq!(
            message(Model::builder([2, 3]).dense("d", 1).flatten("f")),
            "layer d takes rows of features, the inputs have shape [2, 3]: put a flatten before it"
        );
        assert_eq!(message(Model::builder(3).relu("r").threads(0)), "0 threads, expected at least 1");
        assert_eq!(
            message(Model::builder(3).relu("a").relu("a")),
            "two layers are named a, expected names that differ"
        );
        assert_eq!(
            message(Model::builder(3).relu("a/b")),
            "layer name \"a/b\", expected a name that is not empty and has no /"
        );
        assert_eq!(message(Model::builder(3).dense("d", 0)), "layer d: 0 outputs, expected at least 1");
        assert_eq!(message(Model::builder(3).dropout("d", 1.5)), "layer d: dropout rate 1.5, expected 0 <= rate < 1");
    }

    #[test]
    fn initial_weights_follow_from_seed_and_name() {
        let kernel = |builder: ModelBuilder| builder.build().unwrap().param("d/kernel").unwrap();
        let plain = kernel(Model::builder(3).dense("d", 4).seed(1));
        assert_eq!(plain, kernel(Model::builder(3).relu("r").dense("d", 4).seed(1)));
        assert_ne!(plain, kernel(Model::builder(3).dense("d", 4).seed(2)));
        let other = Model::builder(3).dense("e", 4).seed(1).build().unwrap();
        assert_ne!(plain, other.param("e/kernel").unwrap());
    }
}
