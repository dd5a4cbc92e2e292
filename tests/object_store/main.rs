//! Samples in object stores: of memory, of a folder, and of a real server of S3's protocol on this machine whose answers go
//! wrong as they do in a network.
#![allow(clippy::unwrap_used, reason = "a test that unwraps what is not there fails, as it should")]

mod blocking;
mod cache;
mod faults;
mod http;
mod listing;
#[cfg(feature = "npy")]
mod npy;
mod server;
#[cfg(feature = "tar")]
mod tar;

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use procession::source::{Blob, Bucket};
use procession::{AsyncSequence, Loader, Result};

/// Runs a future where nothing else runs.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// All samples, one after the other.
fn all<S: AsyncSequence>(sequence: &S) -> Result<Vec<S::Sample>> {
    block_on(async {
        let mut samples = Vec::new();
        for index in 0..sequence.len() {
            samples.push(sequence.get(index).await?);
        }
        Ok(samples)
    })
}

fn texts(blobs: &[Blob]) -> Vec<&str> {
    blobs.iter().map(|blob| blob.text().unwrap()).collect()
}

/// A bucket in memory with objects whose bytes are their keys.
fn in_memory(keys: &[&str]) -> Bucket {
    let bucket = Bucket::new(Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, "memory://bucket");
    block_on(async {
        for key in keys {
            bucket.write(key, key.to_string()).await.unwrap();
        }
    });
    bucket
}

/// Writes files below a folder.
fn write(folder: &Path, files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The bytes of the object with this number.
fn content(number: usize) -> Vec<u8> {
    let mut bytes = format!("object {number} ").into_bytes();
    let len = 100 + number * 977 % 20_000;
    bytes.extend((0..len).map(|at| (at * 31 + number * 7) as u8));
    bytes
}

/// The indices and the samples of a batch.
type Pairs = (Vec<u64>, Vec<Vec<u8>>);

/// An epoch, batch by batch.
fn epoch(loader: &Loader<Vec<Vec<u8>>>, epoch: u64) -> Result<Vec<Pairs>> {
    loader
        .epoch(epoch)
        .map(|batch| {
            let batch = batch?;
            Ok((batch.indices().to_vec(), batch.into_inner()))
        })
        .collect()
}
