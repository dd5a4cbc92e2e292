//! One binary with a module per theme.

mod delivery;
mod properties;
mod scenario;
mod support;
