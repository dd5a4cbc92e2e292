//! The buffers of a pass through a chain of layers, reused from batch to batch.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::layer::{Backward, Forward, Slot, reserve, view, view_mut};
use super::model::Named;
use crate::{Error, Result};

/// What a pass is part of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) training: bool,
    pub(super) seed: u64,
    pub(super) step: u64,
    /// Which of the passes of one step it is, from 0, where several make one.
    pub(super) part: u64,
    /// The threads that share the work.
    pub(super) num_threads: usize,
}

/// Outputs, inner values and gradients of one batch. Buffers grow to the largest batch seen; a smaller one uses their
/// front, so that in the steady state nothing is allocated.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Rows of the batch of the last forward pass.
    rows: usize,
    places: Vec<Place>,
    /// The gradients with respect to the output of the layer at hand, and to its input.
    dy: Vec<f32>,
    dx: Vec<f32>,
}

/// What one layer leaves.
#[derive(Debug)]
struct Place {
    width: usize,
    output: Vec<f32>,
    slots: Vec<Slot>,
    /// Whether somebody reads the output after the pass, besides the next layer.
    kept: bool,
    /// Where the output of the last pass is.
    source: Source,
}

/// Where the output of a layer is: that of a layer that passes its input through is its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The input of the model, which a pass does not keep.
    Input,
    /// The buffer of a layer.
    Layer(usize),
}

impl Workspace {
    pub(super) fn new(layers: &[Named]) -> Self {
        let place = |named: &Named| Place {
            width: named.width,
            output: Vec::new(),
            slots: named.layer.inner_values().into_iter().map(Slot::new).collect(),
            kept: false,
            source: Source::Input,
        };
        Self { rows: 0, places: layers.iter().map(place).collect(), dy: Vec::new(), dx: Vec::new() }
    }

    /// Asks for an inner value in every pass from now on.
    pub(super) fn want(&mut self, layer: usize, inner: usize) {
        self.places[layer].slots[inner].wanted = true;
    }

    /// Has the output of a layer be there after every pass from now on. That of the last layer of a pass always is.
    pub(super) fn keep(&mut self, layer: usize) {
        self.places[layer].kept = true;
    }

    /// The data of a source.
    fn at<'w>(places: &'w [Place], source: Source, x: ArrayView2<'w, f32>, rows: usize) -> ArrayView2<'w, f32> {
        match source {
            Source::Input => x,
            Source::Layer(layer) => view(&places[layer].output, rows, places[layer].width),
        }
    }

    /// Runs the layers on a batch whose width was checked.
    pub(super) fn forward(
        &mut self,
        layers: &[Named],
        x: ArrayView2<'_, f32>,
        pass: Pass,
        wants_last_output: bool,
    ) -> Result<()> {
        let rows = x.nrows();
        self.rows = rows;
        let mut source = Source::Input;
        for (k, named) in layers.iter().enumerate() {
            let is_last = k + 1 == layers.len();
            let (before, rest) = self.places.split_at_mut(k);
            let place = &mut rest[0];
            // The input of the model is gone after the pass, so that whoever reads it then needs a copy.
            let needs_copy = source == Source::Input && (is_last || place.kept);
            let reads_inner = place.slots.iter().any(|slot| slot.wanted);
            if named.layer.passes_through(pass.training) && !needs_copy && !reads_inner {
                place.source = source;
                continue;
            }
            let x = Self::at(before, source, x, rows);
            source = Source::Layer(k);
            place.source = source;
            let Place { width, output, slots, .. } = place;
            reserve(output, rows * *width);
            slots.iter_mut().for_each(|slot| slot.prepare(rows, pass.training));
            let mut told = Forward {
                training: pass.training,
                wants_output: wants_last_output || !is_last,
                seed: pass.seed,
                step: pass.step,
                part: pass.part,
                num_threads: pass.num_threads,
                layer: named.key,
                slots,
            };
            let y = view_mut(output, rows, *width);
            named.layer.forward(x, y, &mut told).map_err(|error| in_layer(&named.name, error))?;
        }
        Ok(())
    }

    /// Runs the layers backwards, from the gradient written to [`output_and_gradient`](Self::output_and_gradient),
    /// after a forward pass in training on the same batch.
    pub(super) fn backward(&mut self, layers: &mut [Named], x: ArrayView2<'_, f32>, pass: Pass) -> Result<()> {
        let rows = self.rows;
        // Nothing before the first layer with parameters has a use for a gradient.
        let first = layers.iter().position(|named| !named.params.is_empty()).unwrap_or(layers.len());
        for (k, named) in layers.iter_mut().enumerate().skip(first).rev() {
            let place = &self.places[k];
            if place.source != Source::Layer(k) {
                // What passed through forwards does so backwards.
                continue;
            }
            let source = k.checked_sub(1).map_or(Source::Input, |before| self.places[before].source);
            let x = Self::at(&self.places, source, x, rows);
            let dx = (k > first).then(|| {
                reserve(&mut self.dx, rows * x.ncols());
                view_mut(&mut self.dx, rows, x.ncols())
            });
            let y = view(&place.output, rows, place.width);
            let dy = view(&self.dy, rows, place.width);
            named
                .layer
                .backward(x, y, dy, dx, &Backward { num_threads: pass.num_threads, slots: &place.slots })
                .map_err(|error| in_layer(&named.name, error))?;
            std::mem::swap(&mut self.dy, &mut self.dx);
        }
        Ok(())
    }

    /// The output of a layer of the last forward pass, which was its last one or one to keep.
    pub(super) fn output(&self, layer: usize) -> ArrayView2<'_, f32> {
        match self.places[layer].source {
            Source::Layer(source) => view(&self.places[source].output, self.rows, self.places[source].width),
            Source::Input => unreachable!("an output to be read is in a buffer"),
        }
    }

    /// An inner value of the last forward pass.
    pub(super) fn inner(&self, layer: usize, inner: usize) -> ArrayView2<'_, f32> {
        self.places[layer].slots[inner].view()
    }

    /// The output of a layer, and the place for the gradient of a loss with respect to it.
    pub(super) fn output_and_gradient(&mut self, layer: usize) -> (ArrayView2<'_, f32>, ArrayViewMut2<'_, f32>) {
        let (rows, width) = (self.rows, self.places[layer].width);
        let Source::Layer(source) = self.places[layer].source else {
            unreachable!("the last output of a pass is in a buffer")
        };
        reserve(&mut self.dy, rows * width);
        (view(&self.places[source].output, rows, width), view_mut(&mut self.dy, rows, width))
    }

    /// The bytes held, to see that a steady state allocates nothing.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let places = self
            .places
            .iter()
            .map(|place| place.output.capacity() + place.slots.iter().map(Slot::capacity).sum::<usize>());
        places.sum::<usize>() + self.dy.capacity() + self.dx.capacity()
    }
}

/// Says which layer an error comes from.
pub(super) fn in_layer(name: &str, error: Error) -> Error {
    Error::new(error.kind(), format!("layer {name}: {}", error.message())).with_cause(error)
}
