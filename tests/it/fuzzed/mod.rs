//! What the fuzz targets of `fuzz/` check, on the inputs that were kept: each target's small corpus, and whatever once
//! broke a property. New inputs are found by `cargo fuzz`, which compiles these same files.

#[cfg(feature = "arrow")]
mod arrow;
#[cfg(feature = "disk-cache")]
mod cache;
#[cfg(feature = "train")]
mod checkpoint;
#[cfg(feature = "csv")]
mod csv;
mod idx;
#[cfg(feature = "image")]
mod image;
mod lines;
#[cfg(feature = "npy")]
mod npy;
#[cfg(feature = "npy")]
mod npz;
#[cfg(feature = "parquet")]
mod parquet;
mod permutation;
mod state;
#[cfg(feature = "arrow")]
mod table;
#[cfg(feature = "tar")]
mod tar;
#[cfg(feature = "tar")]
mod tar_index;
mod tokens;

use std::fs;
use std::path::Path;

use crate::scenario::Scenario;
use crate::support::{quiet_panics, under_watch};

/// Checks a property on every input that is kept for a target.
fn replay(target: &str, check: impl Fn(&[u8])) {
    let kept = |folder: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
        // A target that never failed has no regressions.
        let files = fs::read_dir(folder).into_iter().flatten();
        let mut files: Vec<_> = files.map(|file| file.expect("the folder can be listed").path()).collect();
        files.sort();
        files
    };
    let corpus = kept("corpus");
    assert!(corpus.len() >= 10, "a corpus of {} inputs for {target}", corpus.len());
    for file in corpus.into_iter().chain(kept("regressions")) {
        let bytes = fs::read(&file).expect("the file can be read");
        let name = file.display().to_string();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| under_watch(&name, || check(&bytes))));
        assert!(checked.is_ok(), "{name} fails; see above");
    }
}

#[test]
fn orderings() {
    quiet_panics();
    replay("ordering", |bytes| {
        let scenario = Scenario::decode(bytes);
        if let Err(difference) = scenario.check() {
            panic!("{difference}\n{scenario:?}");
        }
    });
}

#[test]
fn idx_files() {
    replay("idx", idx::check);
}

#[cfg(feature = "arrow")]
#[test]
fn arrow_files() {
    quiet_panics();
    replay("arrow", arrow::check);
}

#[cfg(feature = "image")]
#[test]
fn image_files() {
    quiet_panics();
    replay("image", |bytes| image::check(bytes, image::options()));
}

#[cfg(feature = "disk-cache")]
#[test]
fn cache_files() {
    replay("cache", cache::check);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_files() {
    quiet_panics();
    replay("parquet", parquet::check);
}

#[test]
fn permutations() {
    replay("permutation", permutation::check);
}

#[cfg(feature = "train")]
#[test]
fn checkpoints() {
    replay("checkpoint", checkpoint::check);
}

#[test]
fn states() {
    replay("state", state::check);
}

#[cfg(feature = "tar")]
#[test]
fn tar_archives() {
    replay("tar", tar::check);
}

#[cfg(feature = "tar")]
#[test]
fn tar_indices() {
    replay("tar_index", tar_index::check);
}

#[cfg(feature = "npy")]
#[test]
fn npy_files() {
    replay("npy", npy::check);
}

#[cfg(feature = "npy")]
#[test]
fn npz_archives() {
    replay("npz", npz::check);
}

#[test]
fn token_files() {
    replay("tokens", tokens::check);
}

#[test]
fn text_files() {
    replay("lines", lines::check);
}

#[cfg(feature = "csv")]
#[test]
fn csv_files() {
    replay("csv", csv::check);
}
