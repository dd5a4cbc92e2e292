//! Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.

mod batch;
pub mod compose;
mod epoch;
mod error;
mod failure;
mod job;
mod loader;
mod plan;
mod reassembly;
mod report;
mod rng;
mod sampler;
mod sequence;
pub mod source;
mod stage;
mod sync;
pub mod testing;
#[cfg(feature = "train")]
pub mod train;
mod workers;

pub use batch::Batch;
pub use batch::stack::{Element, Row, Stack};
pub use compose::{SequenceExt, concat_all, mix};
pub use epoch::{Epoch, Epochs};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use failure::{FailureBudget, OnFailure, Receipt, Retry, Skipped};
pub use loader::{Loader, LoaderBuilder, Window};
pub use plan::{BatchPlan, Plan, State, Tail, World};
pub use report::{Bottleneck, Report};
pub use rng::{Visit, VisitRng};
pub use sampler::{BlockShuffle, ClassBalanced, InOrder, Sampler, Shuffle, Subset, Weighted, WindowShuffle};
pub use sequence::Sequence;
pub use source::{from_fill, from_fn, try_from_fn};
