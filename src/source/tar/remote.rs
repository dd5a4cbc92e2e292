//! Shards that are somewhere else: which bytes a sample needs, and the sample that is made of them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{TarField, TarIndex};
use super::sample::{Piece, Shard, TarSample};

/// Two ranges with fewer bytes than this between them are one. Between the fields of a sample there are headers, unless
/// something that belongs to no sample lies there.
const MAX_GAP: u64 = 64 << 10;

/// An archive of which only the index is here.
#[derive(Debug, Clone)]
pub(in crate::source) struct RemoteShard(Arc<Shard>);

impl RemoteShard {
    pub(in crate::source) fn new(path: PathBuf, index: TarIndex) -> Self {
        Self(Arc::new(Shard::elsewhere(path, index)))
    }

    pub(in crate::source) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(in crate::source) fn index(&self) -> &TarIndex {
        &self.0.index
    }

    /// The archive, a slash, and a file of a sample: the given one, or the first.
    pub(in crate::source) fn file(&self, sample: usize, field: Option<TarField<'_>>) -> PathBuf {
        match field {
            Some(field) => self.0.file(&field.member()),
            None => self.0.file_of(self.0.index.entry(sample)),
        }
    }

    /// A sample with the bytes of [`ranges`].
    pub(in crate::source) fn sample(&self, sample: usize, pieces: Vec<(u64, Bytes)>) -> TarSample {
        let pieces = pieces.into_iter().map(|(start, bytes)| Piece { start, bytes }).collect();
        TarSample { shard: Arc::clone(&self.0), sample, pieces: Some(pieces) }
    }
}

/// The ranges to fetch for fields in the order of the archive: those that are near each other are one.
pub(in crate::source) fn ranges<'a>(fields: impl IntoIterator<Item = TarField<'a>>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for range in fields.into_iter().map(|field| field.range()).filter(|range| !range.is_empty()) {
        match ranges.last_mut() {
            Some(last) if range.start - last.end < MAX_GAP => last.end = range.end,
            _ => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::super::tests::{archive, file, scan, typed};
    use super::*;

    #[test]
    fn fields_of_a_sample_are_fetched_together_unless_much_lies_in_between() {
        let bytes = archive([
            file("a.jpg", &[1; 700]),
            file("a.cls", b"4"),
            file("a.empty", b""),
            typed(".hidden", b'0', &vec![0; 100_000]),
            file("a.txt", b"text"),
        ]);
        let index = scan(&bytes).unwrap();
        let entry = index.entry(0);
        let found = ranges(entry.fields());
        assert_eq!(found, [512..2049, 104_448..104_452]);
        let shard = RemoteShard::new("the.tar".into(), index.clone());
        let pieces = found
            .into_iter()
            .map(|range| (range.start, Bytes::copy_from_slice(&bytes[range.start as usize..range.end as usize])));
        let sample = shard.sample(0, pieces.collect());
        assert_eq!((sample.label().unwrap(), sample.text("txt").unwrap()), (4, "text"));
        let fields: Vec<Vec<u8>> = sample.fields().map(|field| field.bytes().to_vec()).collect();
        assert_eq!(fields, [vec![1; 700], b"4".to_vec(), vec![], b"text".to_vec()]);
        assert_eq!(sample.field("txt").unwrap().name(), Path::new("the.tar/a.txt"));
    }
}
