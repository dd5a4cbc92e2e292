//! The trainer with the loader: one binary with a module per theme.
#![allow(clippy::unwrap_used, reason = "a test that unwraps what is not there fails, as it should")]

mod averages;
mod callbacks;
mod checkpoints;
mod fit;
mod support;
mod threads;
