//! A small trainer for multi-layer perceptrons over ndarray batches.
//!
//! It knows batches, not where they come from: inputs are `f32` arrays of shape `(batch, features)`, labels `u32`
//! arrays of length `batch`.
//!
//! - [`Model`] is a chain of named layers; [`Layer`] is the trait by which users write their own.
//! - [`Model::function`] reads any layer's output and any value inside a layer, and computes nothing beyond it.
//!   [`Model::up_to`] is a sub-model that shares the weights.
//! - [`Adam`] and [`Sgd`] are optimisers, [`SoftmaxCrossEntropy`] is the loss of a classifier.
//! - [`Average`] averages the weights without touching the optimiser's path, and swaps itself in and out.
//! - [`Totals`] and [`History`] keep count.
//!
//! Everything is a function of the seed, the batches and the initial weights: two runs give the same losses, bit for
//! bit, on the same machine. Across machines only initial weights and dropout masks are promised to be equal, since
//! matrix products sum in the order that suits the processor.
//!
//! # Examples
//!
//! ```
//! use ndarray::Array2;
//! use procession::train::{Adam, Average, Model, Totals};
//!
//! let mut model = Model::builder(4)
//!     .dense("hidden", 32)
//!     .relu("relu")
//!     .dense("logits", 3)
//!     .softmax("probabilities")
//!     .seed(7)
//!     .build()?;
//! let mut adam = Adam::default();
//! let mut average = Average::new(&model, 0.99)?;
//! let mut totals = Totals::default();
//! for step in 0..20 {
//!     let x = Array2::from_shape_fn((8, 4), |(row, column)| ((row + step) % 3 == column) as u8 as f32);
//!     let labels: Vec<u32> = (0..8).map(|row| ((row + step) % 3) as u32).collect();
//!     totals.add(&model.train_step(&x, &labels, &mut adam)?);
//!     average.update(&model)?;
//! }
//! assert!(totals.mean_loss() < 1.2);
//!
//! let mut hidden = model.up_to("relu")?;
//! assert_eq!(hidden.predict(&Array2::zeros((5, 4)))?.dim(), (5, 32));
//! # Ok::<(), procession::Error>(())
//! ```

mod average;
mod builder;
mod callback;
mod check;
mod checkpoint;
mod exact;
mod file;
mod fit;
mod function;
mod history;
mod init;
mod input;
mod layer;
mod layers;
mod loss;
mod metric;
mod model;
mod optim;
mod parameter;
mod products;
#[cfg(feature = "progress")]
mod progress;
mod step;
mod stream;
mod summary;
#[cfg(test)]
mod tests;
mod trainer;
mod weights;
mod workspace;

pub use average::{Applied, Average, AverageOptions, WarmUp};
pub use builder::{Block, LayerBuilder, ModelBuilder, ModelOptions, SampleShape};
pub use callback::{Callback, CallbackState, EarlyStopping, Flow, Moment, SaveHistory};
pub use check::check_gradients;
pub use checkpoint::{Checkpoint, CheckpointDir, Latest};
pub use file::replace_file;
pub use fit::{Ending, Evaluation};
pub use function::Function;
pub use history::History;
pub use init::Init;
pub use input::{Input, Inputs, Supervised, Targets};
pub use layer::{Backward, Forward, InnerValue, Layer, Role};
pub use layers::{Activation, BatchNorm, Dense, Dropout, Flatten, LayerNorm, Residual, Softmax};
pub use loss::{BinaryCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy};
pub use metric::{ConfusionMatrix, Metric, Score, TopK, Totals, count_correct};
pub use model::Model;
pub use optim::{Adam, Clip, Optimizer, OptimizerState, Params, Schedule, Sgd};
pub use parameter::Parameter;
#[cfg(feature = "progress")]
pub use progress::Progress;
pub use stream::Stream;
pub use summary::Summary;
pub use trainer::{Resumed, Trainer};
pub use weights::{Naming, Weights};
