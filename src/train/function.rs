//! Reading any layer's output and any inner value.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use super::input::Input;
use super::model::Shared;
use super::workspace::{Pass, Workspace};
use crate::{Error, Result};

/// A callable that computes layer outputs and inner values of a model, made by [`Model::function`](super::Model::function).
///
/// It runs the layers up to the last one needed and no further, in inference, and shares the model's weights. What it
/// returns is equal, bit for bit, to the same values of a full run.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::train::Model;
///
/// let mut model = Model::builder(2).dense("hidden", 3).relu("relu").dense("logits", 2).build()?;
/// let mut function = model.function(&["relu", "hidden"])?;
/// let values = function.call(&array![[1.0, -1.0]])?;
/// assert_eq!(values[0], values[1].mapv(|x| x.max(0.0)));
///
/// let error = model.function(&["nothing"]).unwrap_err();
/// assert_eq!(error.to_string(), "no value nothing, expected one of hidden, relu, logits");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Function {
    shared: Arc<Shared>,
    /// How many layers have to run.
    len: usize,
    /// Whether the output of the last of them is asked for.
    wants_last_output: bool,
    picks: Vec<Pick>,
    workspace: Workspace,
    /// Whether the last run left values.
    has_values: bool,
}

/// Where a value is found.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pick {
    layer: usize,
    /// The index of an inner value; otherwise it is the layer's output.
    inner: Option<usize>,
}

impl Function {
    /// A function of the first `len` layers; `existing` lists the names that there are.
    pub(super) fn new(shared: Arc<Shared>, len: usize, existing: &[String], names: &[impl AsRef<str>]) -> Result<Self> {
        let all = existing.join(", ");
        if names.is_empty() {
            return Err(Error::argument(format!("a function of no values, expected some of {all}")));
        }
        let chain = shared.read();
        let find = |name: &str| {
            let (layer_name, inner_name) = name.split_once('/').map_or((name, None), |(a, b)| (a, Some(b)));
            let layer = chain.layers[..len].iter().position(|named| named.name == layer_name)?;
            let inner = match inner_name {
                None => None,
                Some(inner) => {
                    Some(chain.layers[layer].layer.inner_values().iter().position(|value| value.name == inner)?)
                }
            };
            Some(Pick { layer, inner })
        };
        let missing = |name: &str| Error::argument(format!("no value {name}, expected one of {all}"));
        let picks = names
            .iter()
            .map(|name| find(name.as_ref()).ok_or_else(|| missing(name.as_ref())))
            .collect::<Result<Vec<Pick>>>()?;
        let last = picks.iter().map(|pick| pick.layer).max().unwrap_or(0);
        let mut workspace = Workspace::new(&chain.layers[..=last]);
        for pick in &picks {
            match pick.inner {
                Some(inner) => workspace.want(pick.layer, inner),
                None => workspace.keep(pick.layer),
            }
        }
        drop(chain);
        let wants_last_output = picks.contains(&Pick { layer: last, inner: None });
        Ok(Self { shared, len: last + 1, wants_last_output, picks, workspace, has_values: false })
    }

    /// The values for a batch, in the order of the names; `(batch, width)` each, or `(1, width)` for an inner value that
    /// exists once per batch.
    ///
    /// # Errors
    ///
    /// Samples of another shape than the model's input, or a layer that fails.
    pub fn call<'x>(&mut self, x: impl Input<'x>) -> Result<Vec<Array2<f32>>> {
        self.run(x)?;
        Ok((0..self.picks.len()).map(|index| self.value(index).to_owned()).collect())
    }

    /// As [`call`](Self::call), but leaves the values in the function's buffers, to be read by [`value`](Self::value)
    /// without a copy.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn run<'x>(&mut self, x: impl Input<'x>) -> Result<()> {
        let x = x.rows(&self.shared.input_shape)?;
        let (chain, workspace) = (&*self.shared.read(), &mut self.workspace);
        self.has_values = false;
        let (layers, wants_last_output) = (&chain.layers[..self.len], self.wants_last_output);
        self.shared.work(x.nrows(), |num_threads| {
            let pass = Pass { training: false, seed: chain.seed, step: 0, part: 0, num_threads };
            workspace.forward(layers, x, pass, wants_last_output)
        })?;
        self.has_values = true;
        Ok(())
    }

    /// The value of the name at `index`, as the last [`run`](Self::run) left it.
    ///
    /// # Panics
    ///
    /// If there are not so many names, or nothing was run, or the last run failed.
    pub fn value(&self, index: usize) -> ArrayView2<'_, f32> {
        assert!(index < self.picks.len(), "value {index} of a function of {}", self.picks.len());
        assert!(self.has_values, "value {index} of a function that was not run, or failed");
        let Pick { layer, inner } = self.picks[index];
        match inner {
            Some(inner) => self.workspace.inner(layer, inner),
            None => self.workspace.output(layer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Counting, inputs};
    use super::super::{Adam, Model};

    /// Eight layers, with counters in the third and the sixth place.
    fn eight() -> (Model, Counting, Counting) {
        let ((early, early_handle), (late, late_handle)) = (Counting::pair(), Counting::pair());
        let model = Model::builder(5)
            .dense("dense1", 7)
            .dense("dense2", 6)
            .layer("early", early)
            .relu("relu")
            .dropout("dropout", 0.5)
            .layer("late", late)
            .dense("logits", 3)
            .softmax("probabilities")
            .seed(4)
            .build()
            .unwrap();
        (model, early_handle, late_handle)
    }

    #[test]
    fn values_equal_those_of_a_full_run() {
        let (mut model, ..) = eight();
        let x = inputs(9, 5, 0);
        let names = model.value_names();
        assert_eq!(names.len(), 8 + 2 + 1 + 2);
        let full = model.function(&names).unwrap().call(&x).unwrap();
        assert_eq!(full[names.len() - 1], model.predict(&x).unwrap());
        for (i, first) in names.iter().enumerate() {
            for (j, second) in names.iter().enumerate() {
                let values = model.function(&[first, second]).unwrap().call(&x).unwrap();
                assert_eq!((&values[0], &values[1]), (&full[i], &full[j]), "{first} and {second}");
            }
        }
        let values = model.function(&["early/twice", "dense2", "early/rows"]).unwrap().call(&x).unwrap();
        assert_eq!(values[0], 2.0 * &values[1]);
        assert_eq!(values[2], ndarray::array![[9.0]]);
    }

    #[test]
    fn nothing_past_the_last_value_is_run_and_nothing_else_recorded() {
        let (mut model, early, late) = eight();
        let x = inputs(4, 5, 0);
        model.function(&["dense2"]).unwrap().call(&x).unwrap();
        assert_eq!((early.counts(), late.counts()), ((0, 0), (0, 0)));
        model.function(&["relu", "early/twice"]).unwrap().call(&x).unwrap();
        assert_eq!((early.counts(), late.counts()), ((1, 1), (0, 0)));
        model.predict(&x).unwrap();
        model.train_step(&x, &[0, 1, 2, 0], &mut Adam::default()).unwrap();
        assert_eq!((early.counts(), late.counts()), ((3, 1), (2, 0)));
        model.up_to("early").unwrap().predict(&x).unwrap();
        assert_eq!((early.counts(), late.counts()), ((4, 1), (2, 0)));
    }

    #[test]
    fn a_function_sees_later_training() {
        let (mut model, ..) = eight();
        let x = inputs(4, 5, 0);
        let mut function = model.function(&["logits"]).unwrap();
        let before = function.call(&x).unwrap();
        model.train_step(&x, &[0, 1, 2, 0], &mut Adam::new(0.1)).unwrap();
        let after = function.call(&x).unwrap();
        assert_ne!(before, after);
        assert_eq!(after, model.function(&["logits"]).unwrap().call(&x).unwrap());
        function.run(&x).unwrap();
        assert_eq!(function.value(0), after[0]);
    }

    #[test]
    fn an_unknown_name_lists_those_that_exist() {
        let model = Model::builder(2).dense("d", 2).dropout("drop", 0.1).build().unwrap();
        for name in ["x", "d/x", "drop/mask/x", "", "/"] {
            let error = model.function(&[name]).unwrap_err();
            assert_eq!(error.to_string(), format!("no value {name}, expected one of d, drop, drop/mask"));
        }
        let nothing: [&str; 0] = [];
        assert!(model.function(&nothing).is_err());
        assert!(model.up_to("d").unwrap().function(&["drop"]).is_err());
    }
}
