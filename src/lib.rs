//! Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.

mod error;
mod rng;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use rng::{Visit, VisitRng};
