//! The arrays of a layer: those that are trained, with their gradients, and those that are only kept.

use std::borrow::Cow;

use ndarray::{ArrayView2, ArrayViewD, ArrayViewMut2, ArrayViewMutD, IxDyn};

/// An array of a layer: one that is trained, with its gradient, or one that is kept without being trained, such as a
/// running mean.
///
/// Values and gradient have the same shape and lie row by row (standard layout).
#[derive(Debug, Clone)]
pub struct Parameter {
    name: Cow<'static, str>,
    shape: Vec<usize>,
    /// Always `shape`'s product long.
    values: Vec<f32>,
    /// As long as `values`, or empty if the parameter is not trained.
    grads: Vec<f32>,
    trainable: bool,
}

impl Parameter {
    /// A parameter to be trained: its name within the layer, its shape and its initial values, row by row.
    ///
    /// # Panics
    ///
    /// If the number of values is not the product of the shape.
    pub fn new(name: impl Into<Cow<'static, str>>, shape: &[usize], values: Vec<f32>) -> Self {
        let kept = Self::kept(name, shape, values);
        Self { grads: vec![0.0; kept.values.len()], trainable: true, ..kept }
    }

    /// A parameter that is not trained: it belongs to the model, is saved with it, and is left alone by optimisers and
    /// averages. The layer changes it in [`Layer::backward`](super::Layer::backward).
    ///
    /// # Panics
    ///
    /// If the number of values is not the product of the shape.
    pub fn kept(name: impl Into<Cow<'static, str>>, shape: &[usize], values: Vec<f32>) -> Self {
        let name = name.into();
        let number: usize = shape.iter().product();
        assert_eq!(values.len(), number, "parameter {name} of shape {shape:?} has {} values", values.len());
        Self { name, shape: shape.to_vec(), values, grads: Vec::new(), trainable: false }
    }

    /// The name within the layer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape of the values and of the gradient.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether optimisers change the parameter.
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The gradient, row by row; empty if the parameter is not trained.
    pub fn grads(&self) -> &[f32] {
        &self.grads
    }

    /// The gradient, to be changed.
    pub fn grads_mut(&mut self) -> &mut [f32] {
        &mut self.grads
    }

    /// The values to be changed, and the gradient.
    pub fn values_and_grads_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (&mut self.values, &mut self.grads)
    }

    /// The values as an array.
    pub fn view(&self) -> ArrayViewD<'_, f32> {
        ArrayViewD::from_shape(IxDyn(&self.shape), &self.values).expect("values have the parameter's shape")
    }

    /// The values as an array, to be changed.
    pub fn view_mut(&mut self) -> ArrayViewMutD<'_, f32> {
        ArrayViewMutD::from_shape(IxDyn(&self.shape), &mut self.values).expect("values have the parameter's shape")
    }

    /// The gradient as an array; without elements if the parameter is not trained.
    pub fn grad_view(&self) -> ArrayViewD<'_, f32> {
        let shape = if self.trainable { &self.shape[..] } else { &[0] };
        ArrayViewD::from_shape(IxDyn(shape), &self.grads).expect("gradients have the parameter's shape")
    }

    /// The values as a matrix.
    ///
    /// # Panics
    ///
    /// If the parameter is not two-dimensional.
    pub fn matrix(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape(self.matrix_shape(), &self.values).expect("values have the parameter's shape")
    }

    /// The gradient as a matrix, to be changed.
    ///
    /// # Panics
    ///
    /// If the parameter is not two-dimensional, or not trained.
    pub fn grad_matrix_mut(&mut self) -> ArrayViewMut2<'_, f32> {
        assert!(self.trainable, "parameter {} is not trained and has no gradient", self.name);
        ArrayViewMut2::from_shape(self.matrix_shape(), &mut self.grads).expect("gradients have the parameter's shape")
    }

    /// Exchanges the values with others of the same number, without copying them.
    pub(super) fn swap_values(&mut self, others: &mut Vec<f32>) {
        assert_eq!(self.values.len(), others.len(), "values of another parameter");
        std::mem::swap(&mut self.values, others);
    }

    /// Puts the name of a layer inside a layer before the parameter's own.
    pub(super) fn move_into(&mut self, layer: &str) {
        self.name = format!("{layer}/{}", self.name).into();
    }

    fn matrix_shape(&self) -> (usize, usize) {
        match *self.shape {
            [rows, columns] => (rows, columns),
            _ => panic!("parameter {} of shape {:?} is not a matrix", self.name, self.shape),
        }
    }
}
