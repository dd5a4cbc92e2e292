//! A block of layers with a way around it.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::super::builder::{Block, LayerBuilder};
use super::super::layer::{Backward, Forward, InnerValue, Layer, Slot, reserve, view, view_mut};
use super::super::parameter::Parameter;
use super::super::stream::{Stream, word_within};
use super::super::workspace::in_layer;
use crate::{Error, Result};

/// A block of layers whose input is added to its output: `y = x + f(x)`. The block's output is as wide as its input.
///
/// The names of the layers within, of their parameters and of their inner values follow that of the block:
/// `block/dense`, `block/dense/kernel`, `block/dropout/mask`. The outputs of the layers within are inner values of the
/// block; if nothing after them is asked for, the layers after them are not run.
///
/// Source: He, Zhang, Ren and Sun, *Deep residual learning for image recognition*, CVPR 2016.
///
/// # Examples
///
/// ```
/// use procession::train::Model;
///
/// let mut model = Model::builder(8)
///     .residual("block", |block| block.layer_norm("norm").dense("up", 32).gelu("gelu").dense("down", 8))
///     .dense("logits", 2)
///     .build()?;
/// let mut function = model.function(&["block/gelu"])?;
/// assert_eq!(function.call(&ndarray::Array2::zeros((5, 8)))?[0].dim(), (5, 32));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Residual {
    layers: Vec<Inner>,
    width: usize,
    /// The gradients with respect to the output of the layer at hand, and to its input.
    dy: Vec<f32>,
    dx: Vec<f32>,
}

/// A layer of the block. Its output is the slot `first_slot`, its inner values are those after it.
#[derive(Debug)]
struct Inner {
    name: String,
    layer: Box<dyn Layer>,
    width: usize,
    first_slot: usize,
    num_slots: usize,
}

impl Residual {
    /// A block of the layers that the function adds.
    pub fn new(layers: impl FnOnce(LayerBuilder<Block>) -> LayerBuilder<Block>) -> Self {
        let inner = |(name, layer)| Inner { name, layer, width: 0, first_slot: 0, num_slots: 0 };
        let layers = layers(LayerBuilder::block()).into_layers().into_iter().map(inner).collect();
        Self { layers, width: 0, dy: Vec::new(), dx: Vec::new() }
    }
}

impl Layer for Residual {
    fn build(&mut self, input_width: usize, stream: &mut Stream) -> Result<usize> {
        let (mut width, mut slot) = (input_width, 0);
        for at in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(at);
            let Inner { name, layer, .. } = &mut rest[0];
            if name.is_empty() || name.contains('/') || before.iter().any(|other| other.name == *name) {
                let message = format!("layer name {name:?} in a block, expected one of its own that has no /");
                return Err(Error::argument(message));
            }
            width = layer.build(width, stream).map_err(|error| in_layer(name, error))?;
            layer.visit_params_mut(&mut |param| param.move_into(name));
            let num_slots = 1 + layer.inner_values().len();
            (rest[0].width, rest[0].first_slot, rest[0].num_slots) = (width, slot, num_slots);
            slot += num_slots;
        }
        if self.layers.is_empty() || width != input_width {
            return Err(Error::argument(format!(
                "a block of {} layers from {input_width} to {width} values, expected at least 1, and as many values",
                self.layers.len()
            )));
        }
        self.width = width;
        Ok(width)
    }

    fn inner_values(&self) -> Vec<InnerValue> {
        let mut values = Vec::new();
        for Inner { name, layer, width, .. } in &self.layers {
            values.push(InnerValue::new(name.clone(), *width).always());
            values.extend(layer.inner_values().into_iter().map(|value| value.moved_into(name)));
        }
        values
    }

    fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
        // Without anybody who reads the block's output, what follows the last inner value asked for is not run.
        let wanted = |inner: &Inner| pass.slots[inner.first_slot..][..inner.num_slots].iter().any(|slot| slot.wanted);
        let end = match pass.wants_output {
            true => self.layers.len(),
            false => self.layers.iter().rposition(wanted).map_or(0, |last| last + 1),
        };
        for (at, inner) in self.layers[..end].iter().enumerate() {
            let (before, rest) = pass.slots.split_at_mut(inner.first_slot);
            let (output, slots) = rest[..inner.num_slots].split_at_mut(1);
            let x = self.input_of(at, before).unwrap_or(x);
            let mut told = Forward {
                training: pass.training,
                wants_output: pass.wants_output || at + 1 < end || output[0].wanted,
                seed: pass.seed,
                step: pass.step,
                part: pass.part,
                num_threads: pass.num_threads,
                layer: word_within(pass.layer, &inner.name),
                slots,
            };
            let y = output[0].view_mut().expect("the outputs of a block's layers are always kept");
            inner.layer.forward(x, y, &mut told).map_err(|error| in_layer(&inner.name, error))?;
        }
        if pass.wants_output {
            let last = &self.layers[self.layers.len() - 1];
            ndarray::Zip::from(&mut y).and(x).and(pass.slots[last.first_slot].view()).for_each(|y, x, f| *y = x + f);
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
        let rows = dy.nrows();
        reserve(&mut self.dy, rows * self.width);
        view_mut(&mut self.dy, rows, self.width).assign(&dy);
        for at in (0..self.layers.len()).rev() {
            let input_width = at.checked_sub(1).map_or(self.width, |before| self.layers[before].width);
            let input = self.input_of(at, pass.slots).unwrap_or(x);
            let wants_dx = at > 0 || dx.is_some();
            if wants_dx {
                reserve(&mut self.dx, rows * input_width);
            }
            let inner = &mut self.layers[at];
            let (output, slots) = pass.slots[inner.first_slot..][..inner.num_slots].split_at(1);
            let inner_dy = view(&self.dy, rows, inner.width);
            let inner_dx = wants_dx.then(|| view_mut(&mut self.dx, rows, input_width));
            inner
                .layer
                .backward(
                    input,
                    output[0].view(),
                    inner_dy,
                    inner_dx,
                    &Backward { num_threads: pass.num_threads, slots },
                )
                .map_err(|error| in_layer(&inner.name, error))?;
            std::mem::swap(&mut self.dy, &mut self.dx);
        }
        if let Some(dx) = &mut dx {
            ndarray::Zip::from(dx).and(dy).and(view(&self.dy, rows, self.width)).for_each(|dx, dy, df| *dx = dy + df);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let layers =
            self.layers.iter().map(|inner| format!("{}:{}:{}", inner.name, inner.layer.describe(), inner.width));
        format!("Residual({})", layers.collect::<Vec<_>>().join(" "))
    }

    fn visit_params(&self, visit: &mut dyn FnMut(&Parameter)) {
        self.layers.iter().for_each(|inner| inner.layer.visit_params(visit));
    }

    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&mut Parameter)) {
        self.layers.iter_mut().for_each(|inner| inner.layer.visit_params_mut(visit));
    }
}

impl Residual {
    /// The input of a layer of the block, unless it is the block's own: the output of the layer before.
    fn input_of<'s>(&self, at: usize, slots: &'s [Slot]) -> Option<ArrayView2<'s, f32>> {
        Some(slots[self.layers[at.checked_sub(1)?].first_slot].view())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{Counting, inputs};
    use super::super::super::{Adam, Model, check_gradients};
    use super::*;

    #[test]
    fn gradients_are_right() {
        let block = || Residual::new(|block| block.dense("a", 6).tanh("t").dropout("drop", 0.4).dense("b", 4));
        assert!(check_gradients(block(), 4, 3, 1).unwrap() < 2e-3);
        let nested = Residual::new(|block| block.layer("inner", self::tests::small()).layer_norm("norm"));
        assert!(check_gradients(nested, 4, 3, 1).unwrap() < 5e-3);
        assert!(check_gradients(Residual::new(|block| block.sigmoid("s")), 4, 3, 1).unwrap() < 1e-3);
        // With parameters that are not trained among those that are.
        let normed = Residual::new(|block| block.batch_norm("norm").dense("d", 4));
        assert!(check_gradients(normed, 4, 6, 1).unwrap() < 5e-3);
    }

    fn small() -> Residual {
        Residual::new(|block| block.dense("d", 4).gelu("g"))
    }

    #[test]
    fn names_follow_the_blocks() {
        let model = Model::builder(4)
            .residual("outer", |block| block.layer("inner", small()).dropout("drop", 0.1))
            .build()
            .unwrap();
        let mut params = Vec::new();
        model.for_each_param(|name, _| params.push(name.to_owned()));
        assert_eq!(params, ["outer/inner/d/kernel", "outer/inner/d/bias"]);
        assert_eq!(
            model.value_names(),
            ["outer", "outer/inner", "outer/inner/d", "outer/inner/g", "outer/drop", "outer/drop/mask"]
        );
    }

    #[test]
    fn the_input_is_added_and_inner_values_are_those_of_the_layers() {
        let mut model = Model::builder(4).layer("block", small()).build().unwrap();
        let x = inputs(5, 4, 1);
        let y = model.predict(&x).unwrap();
        let values = model.function(&["block/g", "block/d", "block"]).unwrap().call(&x).unwrap();
        assert_eq!(values[2], y);
        assert_eq!(&x + &values[0], y);
        let kernel = model.param("block/d/kernel").unwrap().into_dimensionality::<ndarray::Ix2>().unwrap();
        assert!((&values[1] - &x.dot(&kernel)).iter().all(|difference| difference.abs() < 1e-6));
    }

    #[test]
    fn layers_past_the_last_value_asked_for_are_not_run() {
        let ((early, early_handle), (late, late_handle)) = (Counting::pair(), Counting::pair());
        let mut model = Model::builder(4)
            .residual("block", |block| block.dense("d", 4).layer("early", early).layer("late", late))
            .dense("logits", 2)
            .build()
            .unwrap();
        let x = inputs(5, 4, 1);
        model.function(&["block/d"]).unwrap().call(&x).unwrap();
        assert_eq!((early_handle.counts(), late_handle.counts()), ((0, 0), (0, 0)));
        model.function(&["block/early/twice"]).unwrap().call(&x).unwrap();
        assert_eq!((early_handle.counts(), late_handle.counts()), ((1, 1), (0, 0)));
        model.function(&["block"]).unwrap().call(&x).unwrap();
        assert_eq!((early_handle.counts(), late_handle.counts()), ((2, 1), (1, 0)));
        model.train_step(&x, &[0, 1, 0, 1, 0], &mut Adam::default()).unwrap();
        assert_eq!((early_handle.counts(), late_handle.counts()), ((3, 1), (2, 0)));
    }

    #[test]
    fn two_dropouts_of_a_block_differ() {
        let mut model = Model::builder(40)
            .dense("first", 40)
            .residual("block", |block| block.dropout("a", 0.5).dropout("b", 0.5))
            .build()
            .unwrap();
        model.loss_and_gradients(&inputs(4, 40, 0), &[0; 4]).unwrap();
        assert_ne!(model.inner(1, 1), model.inner(1, 3));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |block: Residual| Model::builder(4).layer("r", block).build().unwrap_err().to_string();
        let narrow = "layer r: a block of 1 layers from 4 to 3 values, expected at least 1, and as many values";
        assert_eq!(message(Residual::new(|block| block.dense("d", 3))), narrow);
        assert!(message(Residual::new(|block| block)).contains("a block of 0 layers"));
        assert!(message(Residual::new(|block| block.relu("a").relu("a"))).contains("layer name \"a\" in a block"));
        assert!(message(Residual::new(|block| block.dense("d", 0))).starts_with("layer r: layer d: 0 outputs"));
    }
}
