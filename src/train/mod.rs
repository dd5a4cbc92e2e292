//! A small trainer over ndarray batches, exact and hard to lose work with.
//!
//! It knows epochs and batches, not where they come from: inputs are `f32` arrays whose first axis counts the samples,
//! targets `u32` labels of length `batch` or `f32` values of shape `(batch, outputs)`.
//!
//! | part | what it is |
//! |---|---|
//! | [`Model`], [`LayerBuilder`] | a chain of named layers and a loss |
//! | [`Dense`], [`Activation`], [`Softmax`], [`Dropout`], [`LayerNorm`], [`BatchNorm`], [`Flatten`], [`Residual`] | the layers that come along; [`Layer`] is the trait for one's own, [`check_gradients`] tests it |
//! | [`Model::function`], [`Model::up_to`] | any layer's output and any value inside a layer, and nothing computed beyond it; a sub-model that shares the weights |
//! | [`SoftmaxCrossEntropy`], [`BinaryCrossEntropy`], [`MeanSquaredError`] | losses; [`Loss`] for one's own |
//! | [`Adam`] (AdamW with a weight decay), [`Sgd`], [`Schedule`], [`Clip`] | how weights follow their gradients |
//! | [`Average`] | averages of the weights, which never touch the optimiser's path, swapped in and out |
//! | [`Trainer`] | all of it together: `fit`, `evaluate`, `predict`, callbacks, history, checkpoints |
//! | [`Weights`], [`Naming`] | weights from and for Keras and PyTorch |
//!
//! Everything is a function of the seed, the batches and the initial weights: two runs give the same losses, bit for
//! bit, on the same machine, for any number of workers and threads, and however often they were killed and resumed.
//! Across machines only initial weights and dropout masks are promised to be equal, since matrix products sum in the
//! order that suits the processor.
//!
//! # Examples
//!
//! By hand, a step at a time:
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
//!
//! From a loader, in a way that survives any end:
//!
//! ```
//! use procession::train::{Adam, CheckpointDir, Model, Trainer};
//! use procession::{Loader, from_fn};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("run");
//! let points = from_fn(200, |index| ([(index % 5) as f32, (index % 7) as f32], (index % 5 > 2) as u32));
//! let train = Loader::builder(points).batch_size(20).shuffle(7).build()?;
//!
//! let model = Model::builder(2).dense("hidden", 16).relu("relu").dense("logits", 2).build()?;
//! let mut trainer = Trainer::new(model, Adam::default()).checkpoints(CheckpointDir::new(path), 1_000)?;
//! let mut epochs = train.epochs(0..5);
//! if let Some(resumed) = trainer.resume_latest()? {
//!     epochs = epochs.resume(&resumed.state)?; // killed before: go on at the next batch
//! }
//! trainer.fit(epochs)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod average;
mod builder;
mod callback;
mod check;
mod checkpoint;
mod exact;
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
mod resume;
mod step;
mod stream;
mod summary;
#[cfg(test)]
mod tests;
mod trainer;
mod weights;
mod workspace;

pub use crate::file::replace_file;
pub use average::{Applied, Average, AverageOptions, WarmUp};
pub use builder::{Block, LayerBuilder, ModelBuilder, ModelOptions, SampleShape};
pub use callback::{Callback, CallbackState, EarlyStopping, Flow, Moment, SaveHistory};
pub use check::check_gradients;
pub use checkpoint::{Checkpoint, CheckpointDir, Latest};
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
pub use resume::Resumed;
pub use stream::Stream;
pub use summary::Summary;
pub use trainer::Trainer;
pub use weights::{Naming, Weights};
