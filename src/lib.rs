//! Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.

mod batch;
mod error;
mod sequence;
pub mod source;

pub use batch::stack::{Element, Row, Stack};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use sequence::Sequence;
