//! Tar shards in the convention of WebDataset, read and written.
//!
//! Source: WebDataset (<https://github.com/webdataset/webdataset>), whose shards are plain tar archives. How an archive
//! is read is told in `scan`, how its members become samples at [`TarIndex`].

mod index;
mod kept;
mod passed_over;
mod paths;
mod sample;
mod scan;
mod shard_writer;
mod shards;
#[cfg(test)]
mod tests;
mod write;

pub use index::{TarEntry, TarField, TarIndex};
pub use passed_over::{TarMemberKind, TarPassedOver};
pub use sample::TarSample;
pub use shard_writer::{ShardWriter, ShardWriterOptions, WrittenShard};
pub use shards::{TarImagesAndLabels, TarOptions, TarShards};
pub use write::TarWriter;
