//! The model: a chain of named layers, and what can be done with it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ndarray::{Array2, ArrayD, ArrayView1, ArrayView2, ArrayViewD};

use super::function::Function;
use super::layer::{Layer, Parameter};
use super::loss::{Loss, SoftmaxCrossEntropy, check_labels};
use super::metric::{Score, count_correct};
use super::optim::{Optimizer, Params};
use super::workspace::{Pass, Workspace};
use crate::{Error, ErrorKind, Result};

/// A chain of uniquely named layers over batches of shape `(batch, features)`.
///
/// A `Model` is a handle: the layers and their weights are shared with the sub-models of [`up_to`](Self::up_to), the
/// functions of [`function`](Self::function) and the averages made from it, so that training one shows in all of them.
/// The buffers of a pass belong to the handle and are reused: after the first step with the largest batch, a training
/// step allocates nothing, save what the matrix product takes to pack its operands.
///
/// A method that reads the weights waits while another thread changes them. A closure that is handed parameters must
/// not use another handle of the same weights: it would wait for itself.
///
/// # Determinism
///
/// Initial weights follow from the seed, each layer's name and its shape; a training step from the weights, the batch,
/// the seed, the step number and the optimiser's state.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::train::{Adam, Model};
///
/// let mut model = Model::builder(2)
///     .dense("hidden", 16)
///     .relu("relu")
///     .dropout("dropout", 0.1)
///     .dense("logits", 2)
///     .seed(7)
///     .build()?;
/// let (x, labels) = (array![[0.0, 1.0], [1.0, 0.0]], [0, 1]);
/// let mut adam = Adam::new(0.01);
/// for _ in 0..100 {
///     model.train_step(&x, &labels, &mut adam)?;
/// }
/// let score = model.evaluate(&x, &labels)?;
/// assert_eq!(score.correct, 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    shared: Arc<Shared>,
    /// How many layers of the shared chain this handle runs.
    len: usize,
    workspace: Workspace,
    step: u64,
}

/// A chain behind a lock. A panic inside leaves whole arrays behind, so that poisoning is ignored.
#[derive(Debug)]
pub(super) struct Shared(RwLock<Chain>);

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) input_width: usize,
    pub(super) seed: u64,
    pub(super) layers: Vec<Named>,
    /// Whether some average stands in the place of the raw weights.
    pub(super) averaged: bool,
}

/// A layer in its place.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    /// The name as a word for random streams.
    pub(super) key: u64,
    pub(super) layer: Box<dyn Layer>,
    /// The width of the output.
    pub(super) width: usize,
    /// The full names of the parameters.
    pub(super) params: Vec<String>,
}

impl Shared {
    pub(super) fn new(chain: Chain) -> Self {
        Self(RwLock::new(chain))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Chain> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Chain> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chain {
    /// The width of the output of the first `len` layers.
    fn width(&self, len: usize) -> usize {
        len.checked_sub(1).map_or(self.input_width, |last| self.layers[last].width)
    }

    pub(super) fn check_input(&self, x: &ArrayView2<'_, f32>) -> Result<()> {
        if x.ncols() == self.input_width {
            return Ok(());
        }
        let message = format!("the batch is {} wide, the model's input {}", x.ncols(), self.input_width);
        Err(Error::new(ErrorKind::Shape, message))
    }

    pub(super) fn check_raw(&self) -> Result<()> {
        if self.averaged {
            return Err(Error::argument("averaged weights are applied, expected the raw ones: restore them first"));
        }
        Ok(())
    }

    /// How many of the first `len` layers run before a loss: one from logits leaves out a softmax at the end.
    fn end_before_loss<T>(&self, len: usize, loss: &impl Loss<T>) -> Result<usize> {
        let end = if loss.takes_logits() && self.layers[len - 1].layer.is_softmax() { len - 1 } else { len };
        if end == 0 {
            return Err(Error::argument("a model of nothing but a softmax has no loss, expected layers before it"));
        }
        Ok(end)
    }

    pub(super) fn names(&self, len: usize) -> String {
        let names: Vec<&str> = self.layers[..len].iter().map(|named| named.name.as_str()).collect();
        names.join(", ")
    }
}

impl Model {
    /// A handle to the first `len` layers of a chain.
    pub(super) fn from_shared(shared: Arc<Shared>, len: usize, step: u64) -> Self {
        let workspace = Workspace::new(&shared.read().layers[..len]);
        Self { shared, len, workspace, step }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The number of features of an input row.
    pub fn input_width(&self) -> usize {
        self.shared.read().input_width
    }

    /// The number of values of an output row.
    pub fn output_width(&self) -> usize {
        self.shared.read().width(self.len)
    }

    /// The number of layers.
    pub fn num_layers(&self) -> usize {
        self.len
    }

    /// The names of the layers, from input to output.
    pub fn layer_names(&self) -> Vec<String> {
        self.shared.read().layers[..self.len].iter().map(|named| named.name.clone()).collect()
    }

    /// The names that [`function`](Self::function) takes: each layer's, followed by its inner values'.
    pub fn value_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for named in &self.shared.read().layers[..self.len] {
            names.push(named.name.clone());
            names.extend(named.layer.inner_values().iter().map(|value| format!("{}/{}", named.name, value.name)));
        }
        names
    }

    /// The number of trainable numbers.
    pub fn num_params(&self) -> usize {
        let mut number = 0;
        self.for_each_param(|_, param| number += param.len());
        number
    }

    /// The layers, their output widths and their numbers of parameters, to be printed.
    pub fn summary(&self) -> Summary {
        let chain = self.shared.read();
        let row = |named: &Named| {
            let mut params = 0;
            named.layer.visit_params(&mut |param| params += param.len());
            (named.name.clone(), named.layer.kind().to_owned(), named.width, params)
        };
        Summary { input_width: chain.input_width, rows: chain.layers[..self.len].iter().map(row).collect() }
    }

    /// The training steps made so far: the number of the next one. A sub-model starts with its parent's.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Sets the number of the next training step, as a resume does. Dropout masks follow from it.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// Shows every parameter with its full name, such as `hidden1/kernel`.
    pub fn for_each_param(&self, mut visit: impl FnMut(&str, &Parameter)) {
        for named in &self.shared.read().layers[..self.len] {
            let mut names = named.params.iter();
            named.layer.visit_params(&mut |param| visit(names.next().map_or("", String::as_str), param));
        }
    }

    /// Shows every parameter with its full name, to be changed.
    ///
    /// # Errors
    ///
    /// If averaged weights are applied: the change would be swapped away with them.
    pub fn for_each_param_mut(&mut self, mut visit: impl FnMut(&str, &mut Parameter)) -> Result<()> {
        let mut chain = self.shared.write();
        chain.check_raw()?;
        for named in &mut chain.layers[..self.len] {
            let mut names = named.params.iter();
            named.layer.visit_params_mut(&mut |param| visit(names.next().map_or("", String::as_str), param));
        }
        Ok(())
    }

    /// A copy of the values of a parameter.
    ///
    /// # Errors
    ///
    /// If there is no parameter of this full name.
    pub fn param(&self, name: &str) -> Result<ArrayD<f32>> {
        self.find_param(name, |param| param.view().to_owned())
    }

    /// A copy of the gradient of a parameter, as the last backward pass left it.
    ///
    /// # Errors
    ///
    /// If there is no parameter of this full name.
    pub fn gradient(&self, name: &str) -> Result<ArrayD<f32>> {
        self.find_param(name, |param| param.grad_view().to_owned())
    }

    /// Sets the values of a parameter.
    ///
    /// # Errors
    ///
    /// If there is no parameter of this full name, its shape is another, or averaged weights are applied.
    pub fn set_param<'v>(&mut self, name: &str, values: impl Into<ArrayViewD<'v, f32>>) -> Result<()> {
        let values = values.into();
        let shape = self.find_param(name, |param| param.shape().to_vec())?;
        if values.shape() != shape {
            let message = format!("values of shape {:?} for {name}, which has shape {shape:?}", values.shape());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        self.for_each_param_mut(|full_name, param| {
            if full_name == name {
                param.view_mut().assign(&values);
            }
        })
    }

    fn find_param<R>(&self, name: &str, mut read: impl FnMut(&Parameter) -> R) -> Result<R> {
        let (mut found, mut names) = (None, Vec::new());
        self.for_each_param(|full_name, param| {
            names.push(full_name.to_owned());
            if full_name == name {
                found = Some(read(param));
            }
        });
        found.ok_or_else(|| Error::argument(format!("no parameter {name}, expected one of {}", names.join(", "))))
    }

    /// The output of the last layer in inference, `(batch, outputs)`, as a view of the model's buffer.
    ///
    /// # Errors
    ///
    /// If the batch has another width than the model's input, or a layer fails.
    pub fn forward<'x>(&mut self, x: impl Into<ArrayView2<'x, f32>>) -> Result<ArrayView2<'_, f32>> {
        let (x, chain) = (x.into(), self.shared.read());
        chain.check_input(&x)?;
        let pass = Pass { training: false, seed: chain.seed, step: self.step };
        self.workspace.forward(&chain.layers[..self.len], x, pass, true)?;
        Ok(self.workspace.output(self.len - 1))
    }

    /// The output of the last layer in inference, `(batch, outputs)`, as an array of its own.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn predict<'x>(&mut self, x: impl Into<ArrayView2<'x, f32>>) -> Result<Array2<f32>> {
        Ok(self.forward(x)?.to_owned())
    }

    /// The cross-entropy and the number of right answers of a batch, in inference.
    ///
    /// # Errors
    ///
    /// A batch of another width, labels that do not fit (see [`SoftmaxCrossEntropy`]), or a loss that is not finite.
    pub fn evaluate<'d>(
        &mut self,
        x: impl Into<ArrayView2<'d, f32>>,
        labels: impl Into<ArrayView1<'d, u32>>,
    ) -> Result<Score> {
        let labels = labels.into();
        let (loss, end) = self.loss_only(&SoftmaxCrossEntropy, x.into(), labels)?;
        Ok(self.score(loss, end, labels))
    }

    /// The cross-entropy of a batch in a training pass, with its gradients in the parameters; nothing is updated.
    ///
    /// # Errors
    ///
    /// A batch of another width, labels that do not fit (see [`SoftmaxCrossEntropy`]), or a loss that is not finite
    /// ([`ErrorKind::Numeric`], naming the step).
    pub fn loss_and_gradients<'d>(
        &mut self,
        x: impl Into<ArrayView2<'d, f32>>,
        labels: impl Into<ArrayView1<'d, u32>>,
    ) -> Result<Score> {
        let labels = labels.into();
        let (loss, end) = self.loss_and_backward(&SoftmaxCrossEntropy, x.into(), labels)?;
        Ok(self.score(loss, end, labels))
    }

    /// As [`loss_and_gradients`](Self::loss_and_gradients), for any loss; returns the loss alone.
    ///
    /// # Errors
    ///
    /// A batch of another width, targets that do not fit, or a loss that is not finite.
    pub fn loss_and_gradients_with<'x, T>(
        &mut self,
        loss: &impl Loss<T>,
        x: impl Into<ArrayView2<'x, f32>>,
        targets: T,
    ) -> Result<f32> {
        Ok(self.loss_and_backward(loss, x.into(), targets)?.0)
    }

    /// One step of training: the cross-entropy of a batch, its gradients, and the optimiser's update.
    ///
    /// The score is that of the weights before the update, with dropout.
    ///
    /// # Errors
    ///
    /// As [`loss_and_gradients`](Self::loss_and_gradients), or averaged weights are applied. The weights are then as
    /// they were before.
    pub fn train_step<'d>(
        &mut self,
        x: impl Into<ArrayView2<'d, f32>>,
        labels: impl Into<ArrayView1<'d, u32>>,
        optimizer: &mut dyn Optimizer,
    ) -> Result<Score> {
        self.shared.read().check_raw()?;
        let score = self.loss_and_gradients(x, labels)?;
        self.apply_gradients(optimizer)?;
        Ok(score)
    }

    /// Lets the optimiser update the parameters from their gradients, and counts a step.
    ///
    /// # Errors
    ///
    /// If averaged weights are applied, or the optimiser belongs to another model.
    pub fn apply_gradients(&mut self, optimizer: &mut dyn Optimizer) -> Result<()> {
        let mut chain = self.shared.write();
        chain.check_raw()?;
        optimizer.step(&mut Params::new(&mut chain.layers[..self.len]))?;
        self.step += 1;
        Ok(())
    }

    /// A callable that computes any mix of layer outputs (`relu1`) and inner values (`custom/normalised`), in
    /// inference, and runs no layer past the last one needed.
    ///
    /// It shares the weights and has its own buffers: it stays valid, and sees every later step of training.
    ///
    /// # Errors
    ///
    /// No name at all, or one that does not exist; the error lists the names that do.
    pub fn function(&self, names: &[impl AsRef<str>]) -> Result<Function> {
        Function::new(Arc::clone(&self.shared), self.len, &self.value_names(), names)
    }

    /// A sub-model that ends with the output of a layer and shares the weights: training one shows in the other.
    ///
    /// # Errors
    ///
    /// If there is no layer of this name; the error lists those that there are.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::train::Model;
    ///
    /// let mut model = Model::builder(4).dense("hidden", 3).relu("relu").dense("logits", 2).build()?;
    /// let mut hidden = model.up_to("relu")?;
    /// model.set_param("hidden/bias", ndarray::array![7.0, 8.0, 9.0].view().into_dyn())?;
    /// assert_eq!(hidden.predict(&ndarray::Array2::zeros((1, 4)))?, ndarray::array![[7.0, 8.0, 9.0]]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn up_to(&self, layer: &str) -> Result<Self> {
        let position = {
            let chain = self.shared.read();
            chain.layers[..self.len].iter().position(|named| named.name == layer).ok_or_else(|| {
                Error::argument(format!("no layer {layer}, expected one of {}", chain.names(self.len)))
            })?
        };
        Ok(Self::from_shared(Arc::clone(&self.shared), position + 1, self.step))
    }

    /// The loss in inference, and the number of layers that were run.
    fn loss_only<T>(&mut self, loss: &impl Loss<T>, x: ArrayView2<'_, f32>, targets: T) -> Result<(f32, usize)> {
        let chain = self.shared.read();
        let end = chain.end_before_loss(self.len, loss)?;
        chain.check_input(&x)?;
        let pass = Pass { training: false, seed: chain.seed, step: self.step };
        self.workspace.forward(&chain.layers[..end], x, pass, true)?;
        let value = loss.loss(self.workspace.output(end - 1), targets, None)?;
        Ok((finite(value, self.step)?, end))
    }

    /// The loss and the gradients in training, and the number of layers that were run.
    fn loss_and_backward<T>(
        &mut self,
        loss: &impl Loss<T>,
        x: ArrayView2<'_, f32>,
        targets: T,
    ) -> Result<(f32, usize)> {
        let mut chain = self.shared.write();
        let end = chain.end_before_loss(self.len, loss)?;
        chain.check_input(&x)?;
        let pass = Pass { training: true, seed: chain.seed, step: self.step };
        let layers = &mut chain.layers[..end];
        self.workspace.forward(layers, x, pass, true)?;
        let (outputs, gradient) = self.workspace.output_and_gradient(end - 1);
        let value = finite(loss.loss(outputs, targets, Some(gradient))?, self.step)?;
        self.workspace.backward(layers, x)?;
        Ok((value, end))
    }

    fn score(&self, loss: f32, end: usize, labels: ArrayView1<'_, u32>) -> Score {
        let outputs = self.workspace.output(end - 1);
        Score { loss, correct: count_correct(outputs, labels), samples: labels.len() }
    }

    /// The fraction of rows whose largest output is the label's, in inference.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Self::evaluate), save that no loss is computed.
    pub fn accuracy<'d>(
        &mut self,
        x: impl Into<ArrayView2<'d, f32>>,
        labels: impl Into<ArrayView1<'d, u32>>,
    ) -> Result<f64> {
        let labels = labels.into();
        let outputs = self.forward(x)?;
        check_labels(outputs.dim(), labels)?;
        Ok(count_correct(outputs, labels) as f64 / labels.len() as f64)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.workspace.capacity()
    }

    #[cfg(test)]
    pub(super) fn inner(&self, layer: usize, inner: usize) -> ArrayView2<'_, f32> {
        self.workspace.inner(layer, inner)
    }
}

fn finite(loss: f32, step: u64) -> Result<f32> {
    if loss.is_finite() {
        return Ok(loss);
    }
    Err(Error::new(ErrorKind::Numeric, format!("the loss is {loss} at step {step}")))
}

/// A model's layers as a table; its `Display` is what `summary` prints.
///
/// # Examples
///
/// ```
/// use procession::train::Model;
///
/// let model = Model::builder(784).dense("hidden", 512).relu("relu").dense("logits", 10).build()?;
/// let expected = "\
/// layer   kind   output  parameters
/// input   -      784              0
/// hidden  Dense  512        401,920
/// relu    Relu   512              0
/// logits  Dense  10           5,130
/// total                     407,050
/// ";
/// assert_eq!(model.summary().to_string(), expected);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    input_width: usize,
    /// Name, kind, output width, parameters.
    rows: Vec<(String, String, usize, usize)>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.rows.iter().map(|row| row.3).sum();
        let cells = |name: &str, kind: &str, width: &str, params: &str| [name, kind, width, params].map(str::to_owned);
        let mut table = vec![
            cells("layer", "kind", "output", "parameters"),
            cells("input", "-", &self.input_width.to_string(), "0"),
        ];
        for (name, kind, width, params) in &self.rows {
            table.push(cells(name, kind, &width.to_string(), &thousands(*params)));
        }
        table.push(cells("total", "", "", &thousands(total)));
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        for [name, kind, output, params] in &table {
            let [a, b, c, d] = widths;
            writeln!(f, "{name:a$}  {kind:b$}  {output:c$}  {params:>d$}")?;
        }
        Ok(())
    }
}

/// A number with a comma between groups of three digits.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
