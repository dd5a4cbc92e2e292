//! The engine of procession, file by file, as the model checker sees it: `cd models && cargo test --release`.
//!
//! The files are those of the crate, by their paths; a module that the engine comes to use belongs in this list.
#![allow(dead_code, reason = "the rest of the crate is what uses it")]
#![allow(
    clippy::reversed_empty_ranges,
    clippy::absurd_extreme_comparisons,
    reason = "nobody spins under the model checker"
)]

#[path = "../../src/batch"]
mod batch {
    pub(crate) mod rows;
}
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/gate.rs"]
mod gate;
#[path = "../../src/reassembly.rs"]
mod reassembly;
#[path = "../../src/remote"]
mod remote {
    pub(crate) mod runtime;
}
#[path = "../../src/report.rs"]
mod report;
#[path = "../../src/sync.rs"]
mod sync;
#[path = "../../src/workers/mod.rs"]
mod workers;

#[cfg(test)]
mod models;
