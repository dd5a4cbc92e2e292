//! Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.

mod error;
#[cfg(feature = "train")]
pub mod train;

pub use error::{BoxError, Error, ErrorKind, Result};
