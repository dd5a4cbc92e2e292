//! What a layer is: the trait, its inner values, and what a pass through it is told.

use std::borrow::Cow;
use std::fmt;

use ndarray::{ArrayView2, ArrayViewMut2};

use super::parameter::Parameter;
use super::stream::{Stream, purpose, stream};
use crate::Result;

/// One step of a model: a function of a batch, with parameters that can be trained.
///
/// All batches are `f32` of shape `(batch, width)`, in standard layout, save that the model's own input may be any view.
///
/// The contract:
///
/// 1. [`build`](Self::build) is called once, before anything else, and fixes the widths and the parameters. Afterwards
///    the number, order, names and shapes of parameters and of inner values do not change.
/// 2. [`forward`](Self::forward) writes all of `y` (unless [`Forward::wants_output`] is false) and every inner value that
///    it is handed. What it writes is a function of the parameters, `x` and, in training, of the streams that
///    [`Forward::stream`] gives. It does not depend on which inner values are asked for.
/// 3. [`backward`](Self::backward) follows a `forward` in training with the same `x` and gets its `y`. It *sets* (and
///    does not add to) the gradient of every parameter, and writes all of `dx` if there is one. It is not called for
///    layers before the first one with parameters.
/// 4. What a training step changes besides the trained parameters, such as running statistics, is kept in parameters
///    that are not trained ([`Parameter::kept`]), so that a checkpoint has all of a layer, and changes in `backward`;
///    several threads may be in `forward` at once.
/// 5. A layer that [`passes_through`](Self::passes_through) is run neither forwards nor backwards: its output is its
///    input, not a copy of it.
///
/// [`check_gradients`](super::check_gradients) tests a layer against clauses 2 and 3.
///
/// # Examples
///
/// A layer that scales its l2-normalised input by one trainable number, and lets the normalised input be read:
///
/// ```
/// use ndarray::{ArrayView2, ArrayViewMut2, Zip};
/// use procession::Result;
/// use procession::train::{Backward, Forward, InnerValue, Layer, Model, Parameter, Stream, check_gradients};
///
/// #[derive(Debug)]
/// struct Normal {
///     scale: Parameter,
///     width: usize,
/// }
///
/// impl Normal {
///     fn new(scale: f32) -> Self {
///         Self { scale: Parameter::new("scale", &[1], vec![scale]), width: 0 }
///     }
/// }
///
/// impl Layer for Normal {
///     fn build(&mut self, input_width: usize, _: &mut Stream) -> Result<usize> {
///         self.width = input_width;
///         Ok(input_width)
///     }
///
///     fn inner_values(&self) -> Vec<InnerValue> {
///         vec![InnerValue::new("normalised", self.width), InnerValue::new("norm", 1).for_backward()]
///     }
///
///     fn forward(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()> {
///         let scale = self.scale.values()[0];
///         let [mut normalised, mut norms] = pass.inner();
///         for (row, x) in x.outer_iter().enumerate() {
///             let norm = x.dot(&x).sqrt().max(1e-12);
///             Zip::from(y.row_mut(row)).and(x).for_each(|y, &x| *y = scale * (x / norm));
///             if let Some(normalised) = &mut normalised {
///                 Zip::from(normalised.row_mut(row)).and(x).for_each(|n, &x| *n = x / norm);
///             }
///             if let Some(norms) = &mut norms {
///                 norms[[row, 0]] = norm;
///             }
///         }
///         Ok(())
///     }
///
///     fn backward(
///         &mut self,
///         x: ArrayView2<'_, f32>,
///         _y: ArrayView2<'_, f32>,
///         dy: ArrayView2<'_, f32>,
///         mut dx: Option<ArrayViewMut2<'_, f32>>,
///         pass: &Backward<'_>,
///     ) -> Result<()> {
///         let (scale, norms) = (self.scale.values()[0], pass.inner(1));
///         let mut gradient = 0.0;
///         for (row, (x, dy)) in x.outer_iter().zip(dy.outer_iter()).enumerate() {
///             let norm = norms[[row, 0]];
///             let along = x.dot(&dy) / norm;
///             gradient += along;
///             if let Some(dx) = &mut dx {
///                 Zip::from(dx.row_mut(row)).and(x).and(dy).for_each(|dx, &x, &dy| {
///                     *dx = scale * (dy - along * (x / norm)) / norm;
///                 });
///             }
///         }
///         self.scale.grads_mut()[0] = gradient;
///         Ok(())
///     }
///
///     fn visit_params(&self, visit: &mut dyn FnMut(&Parameter)) {
///         visit(&self.scale);
///     }
///
///     fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&mut Parameter)) {
///         visit(&mut self.scale);
///     }
/// }
///
/// assert!(check_gradients(Normal::new(2.0), 5, 3, 0)? < 1e-2);
///
/// let model = Model::builder(2).layer("custom", Normal::new(10.0)).build()?;
/// let mut normalised = model.function(&["custom/normalised"])?;
/// assert_eq!(normalised.call(&ndarray::array![[3.0, 4.0]])?[0], ndarray::array![[0.6, 0.8]]);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Layer: fmt::Debug + Send + Sync {
    /// Takes the width of the input, makes the parameters, and returns the width of the output.
    ///
    /// # Errors
    ///
    /// An option that makes no sense, or a width that the layer cannot take.
    fn build(&mut self, input_width: usize, stream: &mut Stream) -> Result<usize>;

    /// Computes the output `y` of a batch `x`; `(batch, input width)` to `(batch, output width)`.
    ///
    /// # Errors
    ///
    /// Whatever the layer cannot compute; the model adds the layer's name.
    fn forward(&self, x: ArrayView2<'_, f32>, y: ArrayViewMut2<'_, f32>, pass: &mut Forward<'_>) -> Result<()>;

    /// Computes the gradients of a loss from its gradient `dy` with respect to the output: into the parameters, and
    /// into `dx` with respect to the input unless nobody needs it. Each has the shape of what it differentiates.
    ///
    /// # Errors
    ///
    /// Whatever the layer cannot compute; the model adds the layer's name.
    fn backward(
        &mut self,
        x: ArrayView2<'_, f32>,
        y: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        dx: Option<ArrayViewMut2<'_, f32>>,
        pass: &Backward<'_>,
    ) -> Result<()>;

    /// The values inside the computation that can be read by name, or that `backward` needs. Asked once per model.
    fn inner_values(&self) -> Vec<InnerValue> {
        Vec::new()
    }

    /// Shows every parameter, always in the same order.
    fn visit_params(&self, _visit: &mut dyn FnMut(&Parameter)) {}

    /// Shows every parameter to be changed, in the order of [`visit_params`](Self::visit_params).
    fn visit_params_mut(&mut self, _visit: &mut dyn FnMut(&mut Parameter)) {}

    /// What the summary calls the layer; by default the name of the type.
    fn kind(&self) -> &str {
        let name = std::any::type_name::<Self>();
        let name = name.split('<').next().unwrap_or(name);
        name.rsplit("::").next().unwrap_or(name)
    }

    /// The kind of layer and its options, in one line without line breaks: a checkpoint is refused by a model whose layers
    /// describe themselves otherwise. By default the kind alone.
    fn describe(&self) -> String {
        self.kind().to_owned()
    }

    /// Whether the output is the input, in training or in inference, so that nothing has to be computed. Asked once
    /// per pass; a layer one of whose inner values is read is run all the same.
    fn passes_through(&self, _training: bool) -> bool {
        false
    }

    /// What a model or a loss has to know of the layer.
    fn role(&self) -> Role {
        Role::Plain
    }
}

/// What a model or a loss has to know of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Role {
    /// Nothing.
    #[default]
    Plain,
    /// It makes probabilities of a row: as a model's last layer it is left out when the loss takes the logits of a
    /// softmax.
    Softmax,
    /// It makes a probability of each element: as a model's last layer it is left out when the loss takes the logits of
    /// a sigmoid.
    Sigmoid,
    /// It makes rows of samples of any shape.
    Flatten,
}

/// A value inside a layer's computation: its name and its shape.
///
/// It is `(batch, width)`, or `(1, width)` after [`once`](Self::once).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerValue {
    pub(super) name: Cow<'static, str>,
    pub(super) width: usize,
    pub(super) once: bool,
    pub(super) kept: Kept,
}

/// In which passes an inner value exists without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Never,
    InTraining,
    Always,
}

impl InnerValue {
    /// A value with one row for each row of the batch. An image-like or square value is flattened to its width.
    pub fn new(name: impl Into<Cow<'static, str>>, width: usize) -> Self {
        Self { name: name.into(), width, once: false, kept: Kept::Never }
    }

    /// One row for the whole batch, as a mean over the batch has.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Kept in training for [`Layer::backward`]; other values exist only when a function asks for them.
    #[must_use]
    pub fn for_backward(mut self) -> Self {
        self.kept = Kept::InTraining;
        self
    }

    /// Kept in every pass, for a layer that computes with it.
    #[must_use]
    pub(super) fn always(mut self) -> Self {
        self.kept = Kept::Always;
        self
    }

    /// The same value inside a layer inside a layer.
    pub(super) fn moved_into(mut self, layer: &str) -> Self {
        self.name = format!("{layer}/{}", self.name).into();
        self
    }

    /// The name within the layer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// The place of an inner value. It grows to the largest batch and is then reused.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) value: InnerValue,
    /// Asked for by a function.
    pub(super) wanted: bool,
    /// Written in the pass under way.
    active: bool,
    rows: usize,
    data: Vec<f32>,
}

impl Slot {
    pub(super) fn new(value: InnerValue) -> Self {
        Self { value, wanted: false, active: false, rows: 0, data: Vec::new() }
    }

    /// Prepares for a pass over a batch: takes memory only if somebody will read the value.
    pub(super) fn prepare(&mut self, batch: usize, training: bool) {
        self.active = match self.value.kept {
            Kept::Never => self.wanted,
            Kept::InTraining => self.wanted || training,
            Kept::Always => true,
        };
        if self.active {
            self.rows = if self.value.once { 1 } else { batch };
            reserve(&mut self.data, self.rows * self.value.width);
        }
    }

    pub(super) fn view(&self) -> ArrayView2<'_, f32> {
        view(&self.data, self.rows, self.value.width)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.data.capacity()
    }

    pub(super) fn view_mut(&mut self) -> Option<ArrayViewMut2<'_, f32>> {
        self.active.then(|| view_mut(&mut self.data, self.rows, self.value.width))
    }
}

/// Makes a buffer at least so long; it never shrinks, so that batches of changing sizes settle on the largest.
pub(super) fn reserve(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

pub(super) fn view(buffer: &[f32], rows: usize, width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, width), &buffer[..rows * width]).expect("the slice has the shape's length")
}

/// In debug builds the buffer is filled with NaN first, so that a value which a layer forgets to write shows.
pub(super) fn view_mut(buffer: &mut [f32], rows: usize, width: usize) -> ArrayViewMut2<'_, f32> {
    let slice = &mut buffer[..rows * width];
    if cfg!(debug_assertions) {
        slice.fill(f32::NAN);
    }
    ArrayViewMut2::from_shape((rows, width), slice).expect("the slice has the shape's length")
}

/// What a layer is told in a forward pass, and where it leaves its inner values.
#[derive(Debug)]
pub struct Forward<'p> {
    pub(super) training: bool,
    pub(super) wants_output: bool,
    pub(super) seed: u64,
    pub(super) step: u64,
    pub(super) part: u64,
    pub(super) num_threads: usize,
    pub(super) layer: u64,
    pub(super) slots: &'p mut [Slot],
}

impl Forward<'_> {
    /// Whether this is a pass of a training step; otherwise it is inference.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Whether anybody reads the output; false only when all that is asked of the layer are inner values.
    pub fn wants_output(&self) -> bool {
        self.wants_output
    }

    /// The number of the training step, from 0.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// A stream that follows from the model's seed, the layer's name, the step and `number`; and, where the gradients of
    /// several batches make one step, from which of them this is.
    pub fn stream(&self, number: u64) -> Stream {
        match self.part {
            0 => stream(self.seed, &[purpose::STEP, self.layer, self.step, number]),
            part => stream(self.seed, &[purpose::STEP, self.layer, self.step, number, part]),
        }
    }

    /// The places of all inner values, in the order of [`Layer::inner_values`]; `None` where nobody will read one.
    ///
    /// # Panics
    ///
    /// If `N` is not the number of inner values.
    pub fn inner<const N: usize>(&mut self) -> [Option<ArrayViewMut2<'_, f32>>; N] {
        assert_eq!(N, self.slots.len(), "{N} inner values taken, {} declared", self.slots.len());
        let mut slots = self.slots.iter_mut();
        std::array::from_fn(|_| slots.next().and_then(Slot::view_mut))
    }
}

/// What a layer is told in a backward pass.
#[derive(Debug)]
pub struct Backward<'p> {
    pub(super) num_threads: usize,
    pub(super) slots: &'p [Slot],
}

impl Backward<'_> {
    /// The inner value of this index, as the forward pass left it.
    ///
    /// # Panics
    ///
    /// If there is no such value, or it was not declared [`for_backward`](InnerValue::for_backward).
    pub fn inner(&self, index: usize) -> ArrayView2<'_, f32> {
        let slot = &self.slots[index];
        assert!(slot.value.kept != Kept::Never, "inner value {} is not kept for the backward pass", slot.value.name);
        slot.view()
    }
}

/// Writes `f(x)` for every element.
pub(super) fn map(x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>, f: impl Fn(f32) -> f32) {
    match (x.as_slice(), y.as_slice_mut()) {
        (Some(x), Some(y)) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x)),
        _ => ndarray::Zip::from(&mut y).and(&x).for_each(|y, &x| *y = f(x)),
    }
}

/// Writes `f(a, b)` for every pair of elements.
pub(super) fn map2(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    mut y: ArrayViewMut2<'_, f32>,
    f: impl Fn(f32, f32) -> f32,
) {
    match (a.as_slice(), b.as_slice(), y.as_slice_mut()) {
        (Some(a), Some(b), Some(y)) => y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = f(a, b)),
        _ => ndarray::Zip::from(&mut y).and(&a).and(&b).for_each(|y, &a, &b| *y = f(a, b)),
    }
}
