//! Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.

mod error;
mod rng;
mod sampler;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use rng::{Visit, VisitRng};
pub use sampler::{BlockShuffle, ClassBalanced, InOrder, Sampler, Shuffle, Subset, Weighted, WindowShuffle};
