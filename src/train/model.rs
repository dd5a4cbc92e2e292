//! The model: a chain of named layers, and what can be done with it.

use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD};
use rayon::ThreadPool;

use super::function::Function;
use super::input::{Input, Targets};
use super::layer::{Layer, Role};
use super::loss::Loss;
use super::metric::Score;
use super::optim::{Clip, Optimizer};
use super::parameter::Parameter;
use super::products;
use super::step::{Runner, Step};
use super::summary::Summary;
use super::workspace::Workspace;
use crate::{Error, ErrorKind, Result};

/// A chain of uniquely named layers over batches of shape `(batch, features)`, and a loss.
///
/// A `Model` is a handle: the layers and their weights are shared with the sub-models of [`up_to`](Self::up_to), the
/// functions of [`function`](Self::function) and the averages made from it, so that training one shows in all of them.
/// The buffers of a pass belong to the handle and are reused: after the first step with the largest batch, a training
/// step allocates nothing, save what the matrix product takes to pack its operands.
///
/// A method that reads the weights waits while another thread changes them. A closure that is handed parameters must
/// not use another handle of the same weights: it would wait for itself.
///
/// # Threads
///
/// The products of a large model and the passes over its parameters are shared by the threads of a pool, which the
/// model makes when it is first worth it ([`threads`](super::LayerBuilder::threads)). Called from a thread of a pool of
/// rayon's, a model keeps to that thread. A layer, loss or optimiser of one's own that itself waits for rayon there must
/// not leave work in that pool that uses the same model: it is called with the weights locked.
///
/// # Determinism
///
/// Initial weights follow from the seed, each layer's name and its shape; a training step from the weights, the batch,
/// the seed, the step number and the optimiser's state; neither on the number of threads.
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
/// assert_eq!(score.correct, Some(2));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    shared: Arc<Shared>,
    loss: Arc<dyn Loss>,
    runner: Runner,
}

/// A chain behind a lock, what never changes of it, and the threads that work on it. A panic inside leaves whole arrays
/// behind, so that poisoning is ignored.
#[derive(Debug)]
pub(super) struct Shared {
    chain: RwLock<Chain>,
    pub(super) input_shape: Vec<usize>,
    num_threads: usize,
    /// The number of values of the largest matrix among the parameters.
    largest_kernel: usize,
    /// Made when there is a pass that is worth it; none if it cannot be made.
    pool: OnceLock<Option<ThreadPool>>,
}

#[derive(Debug)]
pub(super) struct Chain {
    /// The product of the input's shape.
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
    /// The number of values of the largest matrix among them.
    pub(super) largest_kernel: usize,
}

impl Shared {
    pub(super) fn new(chain: Chain, input_shape: Vec<usize>, num_threads: usize) -> Self {
        let largest_kernel = chain.layers.iter().map(|named| named.largest_kernel).max().unwrap_or(0);
        Self { chain: RwLock::new(chain), input_shape, num_threads, largest_kernel, pool: OnceLock::new() }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does work on a batch of so many rows, in the pool if the batch and the model are large enough; it is told how many
    /// threads may share it. The lock is to be held already.
    pub(super) fn work<R: Send>(&self, rows: usize, work: impl FnOnce(usize) -> R + Send) -> R {
        // In a pool of somebody else's, whoever waits for a part would take up other work of theirs, with the lock held.
        let may_share = self.num_threads > 1 && rayon::current_thread_index().is_none();
        if !may_share || !products::is_worth_a_thread(rows, self.largest_kernel, 1) {
            return work(1);
        }
        let make = || rayon::ThreadPoolBuilder::new().num_threads(self.num_threads).build().ok();
        match self.pool.get_or_init(make) {
            Some(pool) => pool.install(|| work(self.num_threads)),
            None => work(1),
        }
    }
}

impl Chain {
    /// The width of the output of the first `len` layers.
    fn width(&self, len: usize) -> usize {
        len.checked_sub(1).map_or(self.input_width, |last| self.layers[last].width)
    }

    pub(super) fn check_raw(&self) -> Result<()> {
        if self.averaged {
            return Err(Error::argument("averaged weights are applied, expected the raw ones: restore them first"));
        }
        Ok(())
    }

    /// How many of the first `len` layers run before a loss: one that includes what the last layer does leaves it out.
    pub(super) fn end_before_loss(&self, len: usize, loss: &dyn Loss) -> Result<usize> {
        let role = self.layers[len - 1].layer.role();
        let end = if role != Role::Plain && role == loss.includes() { len - 1 } else { len };
        if end == 0 {
            let message = format!("a model of nothing but a {role:?} has no loss, expected layers before it");
            return Err(Error::argument(message));
        }
        Ok(end)
    }

    /// Shows the parameters of the first `len` layers with their full names.
    pub(super) fn for_each_param(&self, len: usize, mut visit: impl FnMut(&str, &Parameter)) {
        for named in &self.layers[..len] {
            let mut names = named.params.iter();
            named.layer.visit_params(&mut |param| visit(names.next().map_or("", String::as_str), param));
        }
    }

    /// Shows the parameters of the first `len` layers with their full names, to be changed.
    pub(super) fn for_each_param_mut(&mut self, len: usize, mut visit: impl FnMut(&str, &mut Parameter)) {
        for named in &mut self.layers[..len] {
            let mut names = named.params.iter();
            named.layer.visit_params_mut(&mut |param| visit(names.next().map_or("", String::as_str), param));
        }
    }

    pub(super) fn names(&self, len: usize) -> String {
        let names: Vec<&str> = self.layers[..len].iter().map(|named| named.name.as_str()).collect();
        names.join(", ")
    }
}

impl Model {
    /// A handle to the first `len` layers of a chain.
    pub(super) fn from_shared(shared: Arc<Shared>, loss: Arc<dyn Loss>, len: usize, step: u64) -> Self {
        let workspace = Workspace::new(&shared.read().layers[..len]);
        Self { shared, loss, runner: Runner { len, workspace, step, part: 0 } }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The shape of an input sample: a number of features, or several extents.
    pub fn input_shape(&self) -> Vec<usize> {
        self.shared.input_shape.clone()
    }

    /// The number of features of an input row.
    pub fn input_width(&self) -> usize {
        self.shared.read().input_width
    }

    /// The number of values of an output row.
    pub fn output_width(&self) -> usize {
        self.shared.read().width(self.runner.len)
    }

    /// The number of layers.
    pub fn num_layers(&self) -> usize {
        self.runner.len
    }

    /// The names of the layers, from input to output.
    pub fn layer_names(&self) -> Vec<String> {
        self.shared.read().layers[..self.runner.len].iter().map(|named| named.name.clone()).collect()
    }

    /// The names that [`function`](Self::function) takes: each layer's, followed by its inner values'.
    pub fn value_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for named in &self.shared.read().layers[..self.runner.len] {
            names.push(named.name.clone());
            names.extend(named.layer.inner_values().iter().map(|value| format!("{}/{}", named.name, value.name)));
        }
        names
    }

    /// The number of values of all parameters, trained or not.
    pub fn num_params(&self) -> usize {
        let mut number = 0;
        self.for_each_param(|_, param| number += param.len());
        number
    }

    /// The layers, their output widths and their numbers of parameters, to be printed.
    pub fn summary(&self) -> Summary {
        Summary::new(&self.shared.input_shape, &self.shared.read(), self.runner.len)
    }

    /// The loss.
    pub fn loss(&self) -> &dyn Loss {
        &*self.loss
    }

    /// Sets the loss of this handle; that of others stays.
    pub fn set_loss(&mut self, loss: impl Loss + 'static) {
        self.loss = Arc::new(loss);
    }

    /// The training steps made so far: the number of the next one. A sub-model starts with its parent's.
    pub fn step(&self) -> u64 {
        self.runner.step
    }

    /// Sets the number of the next training step, as a resume does. Dropout masks follow from it.
    pub fn set_step(&mut self, step: u64) {
        self.runner.step = step;
    }

    /// The seed of initial weights and dropout masks.
    pub fn seed(&self) -> u64 {
        self.shared.read().seed
    }

    /// Shows every parameter with its full name, such as `hidden1/kernel`.
    pub fn for_each_param(&self, visit: impl FnMut(&str, &Parameter)) {
        self.shared.read().for_each_param(self.runner.len, visit);
    }

    /// Shows every parameter with its full name, to be changed.
    ///
    /// # Errors
    ///
    /// If averaged weights are applied: the change would be swapped away with them.
    pub fn for_each_param_mut(&mut self, visit: impl FnMut(&str, &mut Parameter)) -> Result<()> {
        let mut chain = self.shared.write();
        chain.check_raw()?;
        chain.for_each_param_mut(self.runner.len, visit);
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
    /// If there is no parameter of this full name, or it is not trained.
    pub fn gradient(&self, name: &str) -> Result<ArrayD<f32>> {
        self.find_param(name, |param| param.is_trainable().then(|| param.grad_view().to_owned()))?
            .ok_or_else(|| Error::argument(format!("parameter {name} is not trained and has no gradient")))
    }

    /// Sets the values of a parameter.
    ///
    /// # Errors
    ///
    /// If there is no parameter of this full name, its shape is another, or averaged weights are applied.
    pub fn set_param<'v>(&mut self, name: &str, values: impl Into<ArrayViewD<'v, f32>>) -> Result<()> {
        let values = values.into();
        self.shared.read().check_raw()?;
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
    /// Samples of another shape than the model's input, or a layer that fails.
    pub fn forward<'x>(&mut self, x: impl Input<'x>) -> Result<ArrayView2<'_, f32>> {
        let x = x.rows(&self.shared.input_shape)?;
        self.forward_rows(x)
    }

    /// As [`forward`](Self::forward), of rows whose shape was checked.
    pub(super) fn forward_rows(&mut self, x: ArrayView2<'_, f32>) -> Result<ArrayView2<'_, f32>> {
        let (chain, runner) = (&*self.shared.read(), &mut self.runner);
        self.shared.work(x.nrows(), |num_threads| runner.infer(chain, runner.len, x, num_threads))?;
        Ok(runner.workspace.output(runner.len - 1))
    }

    /// The output of the last layer in inference, `(batch, outputs)`, as an array of its own.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn predict<'x>(&mut self, x: impl Input<'x>) -> Result<Array2<f32>> {
        Ok(self.forward(x)?.to_owned())
    }

    /// The loss and the number of right answers of a batch, in inference.
    ///
    /// # Errors
    ///
    /// Samples of another shape than the model's input, targets that do not fit (see the loss), or a loss that is not
    /// finite.
    pub fn evaluate<'d>(&mut self, x: impl Input<'d>, targets: impl Into<Targets<'d>>) -> Result<Score> {
        let x = x.rows(&self.shared.input_shape)?;
        self.evaluate_rows(x, targets.into()).map(|(score, _)| score)
    }

    /// As [`evaluate`](Self::evaluate), with the outputs that the loss was computed from.
    pub(super) fn evaluate_rows(
        &mut self,
        x: ArrayView2<'_, f32>,
        targets: Targets<'_>,
    ) -> Result<(Score, ArrayView2<'_, f32>)> {
        let (chain, runner, loss) = (&*self.shared.read(), &mut self.runner, &*self.loss);
        let evaluate = |num_threads| runner.evaluate(chain, loss, x, targets, num_threads);
        let (score, end) = self.shared.work(x.nrows(), evaluate)?;
        Ok((score, self.runner.workspace.output(end - 1)))
    }

    /// The loss of a batch in a training pass, with its gradients in the parameters. No trained parameter is changed;
    /// moving statistics are, as in any training pass.
    ///
    /// # Errors
    ///
    /// Samples of another shape than the model's input, targets that do not fit (see the loss), a loss that is not finite
    /// ([`ErrorKind::Numeric`], naming the step), or averaged weights are applied.
    pub fn loss_and_gradients<'d>(&mut self, x: impl Input<'d>, targets: impl Into<Targets<'d>>) -> Result<Score> {
        let (x, targets) = (x.rows(&self.shared.input_shape)?, targets.into());
        self.step_with(x.nrows(), |step| {
            step.chain.check_raw()?;
            step.gradients(x, targets)
        })
    }

    /// Does what makes a step on a batch of so many rows: with the lock held, in the pool if that is worth it.
    pub(super) fn step_with<R: Send>(&mut self, rows: usize, work: impl FnOnce(&mut Step<'_>) -> R + Send) -> R {
        let (chain, runner, loss) = (&mut *self.shared.write(), &mut self.runner, &*self.loss);
        self.shared.work(rows, |num_threads| work(&mut Step { chain, runner, loss, num_threads }))
    }

    /// One step of training: the loss of a batch, its gradients, and the optimiser's update.
    ///
    /// The score is that of the weights before the update, with dropout.
    ///
    /// # Errors
    ///
    /// As [`loss_and_gradients`](Self::loss_and_gradients), or averaged weights are applied. The weights are then as
    /// they were before.
    pub fn train_step<'d>(
        &mut self,
        x: impl Input<'d>,
        targets: impl Into<Targets<'d>>,
        optimizer: &mut dyn Optimizer,
    ) -> Result<Score> {
        let (x, targets) = (x.rows(&self.shared.input_shape)?, targets.into());
        self.step_with(x.nrows(), |step| {
            step.chain.check_raw()?;
            let score = step.gradients(x, targets)?;
            step.apply(optimizer)?;
            Ok(score)
        })
    }

    /// Clips the gradients that the last backward pass left, and returns the norm that all of them together had.
    ///
    /// # Errors
    ///
    /// A bound that is not above 0, averaged weights are applied, or the norm is not finite ([`ErrorKind::Numeric`]); the
    /// gradients are then as they were.
    pub fn clip_gradients(&mut self, clip: Clip) -> Result<f64> {
        clip.check()?;
        self.step_with(0, |step| {
            step.chain.check_raw()?;
            step.clip(clip)
        })
    }

    /// Lets the optimiser update the trained parameters from their gradients, and counts a step.
    ///
    /// # Errors
    ///
    /// If averaged weights are applied, or the optimiser belongs to another model.
    pub fn apply_gradients(&mut self, optimizer: &mut dyn Optimizer) -> Result<()> {
        self.step_with(0, |step| {
            step.chain.check_raw()?;
            step.apply(optimizer)
        })
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
        Function::new(Arc::clone(&self.shared), self.runner.len, &self.value_names(), names)
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
            chain.layers[..self.runner.len].iter().position(|named| named.name == layer).ok_or_else(|| {
                Error::argument(format!("no layer {layer}, expected one of {}", chain.names(self.runner.len)))
            })?
        };
        Ok(Self::from_shared(Arc::clone(&self.shared), Arc::clone(&self.loss), position + 1, self.runner.step))
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.runner.workspace.capacity()
    }

    #[cfg(test)]
    pub(super) fn inner(&self, layer: usize, inner: usize) -> ArrayView2<'_, f32> {
        self.runner.workspace.inner(layer, inner)
    }
}
