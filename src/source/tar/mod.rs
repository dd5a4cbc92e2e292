//! Tar shards in the convention of WebDataset, read and written.
//!
//! Source: WebDataset (<https://github.com/webdataset/webdataset>), whose shards are plain tar archives. How an archive
//! is read is told in `scan`, how its members become samples at [`TarIndex`].

#[cfg(feature = "object-store")]
mod ahead;
mod index;
mod kept;
mod passed_over;
mod paths;
#[cfg(feature = "object-store")]
mod remote;
mod sample;
mod scan;
mod shard_writer;
mod shards;
#[cfg(test)]
mod tests;
mod write;

#[cfg(feature = "object-store")]
pub(crate) use ahead::ScanAhead;
pub use index::{TarEntry, TarField, TarIndex};
pub use passed_over::{TarMemberKind, TarPassedOver};
#[cfg(feature = "object-store")]
pub(in crate::source) use paths::{COMPRESSED, expand};
#[cfg(feature = "object-store")]
pub(in crate::source) use remote::{RemoteShard, ranges};
pub use sample::TarSample;
pub use shard_writer::{ShardWriter, ShardWriterOptions, WrittenShard};
pub use shards::{TarImagesAndLabels, TarOptions, TarShards};
pub use write::TarWriter;
