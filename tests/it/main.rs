//! One binary with a module per theme.

mod delivery;
mod failure;
mod properties;
mod resume;
mod scenario;
mod support;
