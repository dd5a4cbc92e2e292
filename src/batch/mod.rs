//! What the consumer receives: batches, and how samples become one.

pub(crate) mod rows;
pub(crate) mod stack;
