//! Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.

mod batch;
pub mod compose;
mod error;
mod sequence;
pub mod source;
pub mod testing;

pub use batch::stack::{Element, Row, Stack};
pub use compose::{SequenceExt, concat_all, mix};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use sequence::Sequence;
pub use source::{from_fill, from_fn, try_from_fn};
