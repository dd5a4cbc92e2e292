//! What the tests of the command share.

#![allow(dead_code, reason = "each test uses a part")]

use std::fs;

use tempfile::TempDir;

/// Bytes in IDX format.
pub(crate) fn idx(shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, u8::try_from(shape.len()).unwrap()];
    shape.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// A data set that is quick to learn: 300 images of 6 x 6 to train with and 50 to test with, with a bright pixel where
/// their class is.
pub(crate) fn small_data() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, len) in [("train", 300_u32), ("t10k", 50)] {
        let label = |index: u32| (index * 7 + index / 10) % 10;
        let pixels = (0..len).flat_map(|index| {
            (0..36).map(move |pixel| if pixel == label(index) { 250 } else { ((index + pixel) * 31 % 60) as u8 })
        });
        let images = idx(&[len, 6, 6], &pixels.collect::<Vec<_>>());
        let labels = idx(&[len], &(0..len).map(|index| label(index) as u8).collect::<Vec<_>>());
        fs::write(dir.path().join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        fs::write(dir.path().join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
    dir
}
