//! One binary with a module per theme.

mod properties;
mod scenario;
