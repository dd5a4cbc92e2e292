//! How a model is put together.

use std::collections::HashSet;
use std::sync::Arc;

use super::activation::{Relu, Softmax};
use super::dense::Dense;
use super::dropout::Dropout;
use super::layer::Layer;
use super::model::{Chain, Model, Named, Shared};
use super::stream::{purpose, stream, word};
use super::workspace::in_layer;
use crate::{Error, Result};

impl Model {
    /// Starts a model whose input rows have so many features.
    pub fn builder(input_width: usize) -> ModelBuilder {
        ModelBuilder { input_width, seed: 0, layers: Vec::new() }
    }
}

/// A model in the making: layers in order, each with a name of its own.
#[derive(Debug)]
#[must_use = "call `build` to make the model"]
pub struct ModelBuilder {
    input_width: usize,
    seed: u64,
    layers: Vec<(String, Box<dyn Layer>)>,
}

impl ModelBuilder {
    /// Adds a [`Dense`] layer with bias and default initial weights.
    pub fn dense(self, name: impl Into<String>, outputs: usize) -> Self {
        self.layer(name, Dense::new(outputs))
    }

    /// Adds a [`Relu`].
    pub fn relu(self, name: impl Into<String>) -> Self {
        self.layer(name, Relu)
    }

    /// Adds a [`Dropout`] of a rate in `[0, 1)`.
    pub fn dropout(self, name: impl Into<String>, rate: f32) -> Self {
        self.layer(name, Dropout::new(rate))
    }

    /// Adds a [`Softmax`].
    pub fn softmax(self, name: impl Into<String>) -> Self {
        self.layer(name, Softmax)
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

    /// Sets the seed of initial weights and dropout masks; 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Gives each layer its input width, makes the weights, and checks the names.
    ///
    /// # Errors
    ///
    /// No layers; a name that is empty, has a `/` in it or is taken; two parameters or two inner values of a layer with
    /// one name; or an option or width that a layer does not accept (the layer is named).
    pub fn build(self) -> Result<Model> {
        let len = self.layers.len();
        if len == 0 {
            return Err(Error::argument("a model without layers, expected at least 1"));
        }
        if self.input_width == 0 {
            return Err(Error::argument("a model with 0 input features, expected at least 1"));
        }
        let mut layers: Vec<Named> = Vec::with_capacity(len);
        let mut width = self.input_width;
        for (name, layer) in self.layers {
            check_name(&name, &layers)?;
            let named = build_layer(name, layer, width, self.seed)?;
            width = named.width;
            layers.push(named);
        }
        let chain = Chain { input_width: self.input_width, seed: self.seed, layers, averaged: false };
        Ok(Model::from_shared(Arc::new(Shared::new(chain)), len, 0))
    }
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
    let mut params = Vec::new();
    layer.visit_params(&mut |param| params.push(format!("{name}/{}", param.name())));
    let inner: Vec<String> = layer.inner_values().iter().map(|value| format!("{name}/{}", value.name)).collect();
    for names in [&params, &inner] {
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(Error::argument(format!("the name {twice} is given twice, expected names that differ")));
        }
    }
    Ok(Named { name, key, layer, width, params })
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
        assert_eq!(message(Model::builder(0).relu("r")), "a model with 0 input features, expected at least 1");
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
