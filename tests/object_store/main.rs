//! Samples in object stores, against a real server of S3's protocol on this machine.
#![allow(clippy::unwrap_used, reason = "a test that unwraps what is not there fails, as it should")]
