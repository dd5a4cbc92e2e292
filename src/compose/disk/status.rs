//! What can be told of a cache on disk.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// How far a cache on disk is; made by [`DiskCached::status`](super::DiskCached::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiskCacheStatus {
    /// What happens to samples.
    pub state: DiskCacheState,
    /// The number of samples of the sequence.
    pub num_samples: usize,
    /// How many of them are in the file, as far as is known: not all may have been read and checked yet.
    pub num_cached: usize,
    /// How many were found damaged. In a file that is being filled they are written afresh, in a complete one loaded each
    /// time.
    pub num_damaged: usize,
}

/// What a cache on disk does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DiskCacheState {
    /// The file is complete: samples come from it.
    Complete,
    /// Samples are written to the file when they are loaded, and come from it afterwards.
    Filling,
    /// Another process, or another cache of this one, is filling the file: samples come from the sequence. At the start of
    /// an epoch the file is looked at again.
    InUse,
    /// Nothing is written any more, because of this error. Samples that are in the file come from it, the others from the
    /// sequence.
    Stopped(Arc<Error>),
    /// The samples of the sequence change from epoch to epoch, so none is kept.
    PassesThrough,
}

impl fmt::Display for DiskCacheState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Filling => f.write_str("being filled"),
            Self::InUse => f.write_str("being filled by another process"),
            Self::Stopped(error) => write!(f, "stopped: {error}"),
            Self::PassesThrough => f.write_str("not used"),
        }
    }
}

impl fmt::Display for DiskCacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, num_samples, num_cached, num_damaged } = self;
        write!(f, "{state}, {num_cached} of {num_samples} samples, {num_damaged} damaged")
    }
}
