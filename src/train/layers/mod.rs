//! The layers that come with the crate.

mod activation;
mod dense;
mod dropout;
mod flatten;
mod norm;
mod residual;

pub(super) use activation::sigmoid;
pub use activation::{Activation, Softmax};
pub use dense::Dense;
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use norm::{BatchNorm, LayerNorm};
pub use residual::Residual;
