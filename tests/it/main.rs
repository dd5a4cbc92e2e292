//! One binary with a module per theme.
#![allow(clippy::unwrap_used, reason = "a test that unwraps what is not there fails, as it should")]

mod collation;
mod delivery;
#[cfg(feature = "disk-cache")]
mod disk_cache;
mod failure;
mod files;
mod fuzzed;
#[cfg(feature = "npy")]
mod numpy;
mod properties;
#[cfg(feature = "async")]
mod remote;
mod report;
#[cfg(target_os = "linux")]
#[path = "../common/resources.rs"]
mod resources;
mod resume;
mod scenario;
mod support;
#[cfg(feature = "tar")]
mod tar;
mod transforms;
