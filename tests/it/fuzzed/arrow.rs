//! Any bytes, taken for an Arrow file, give what the arrow crate's own reader gives, wherever that gives something: the
//! same values, or an error where it finds none.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use procession::source::ArrowTable;

use super::table::{MAX_ROWS, Plain, check_error, compare, touch};

/// The batches that the crate's reader finds, up to the first that it refuses or panics at.
fn read(bytes: &[u8]) -> Vec<RecordBatch> {
    fn whole<E>(mut batches: impl Iterator<Item = Result<RecordBatch, E>>) -> Vec<RecordBatch> {
        let next = || catch_unwind(AssertUnwindSafe(|| batches.next())).ok()??.ok();
        std::iter::from_fn(next).take(MAX_ROWS).collect()
    }
    if bytes.starts_with(b"ARROW1") {
        FileReader::try_new(Cursor::new(bytes), None).map(whole).unwrap_or_default()
    } else {
        StreamReader::try_new(Cursor::new(bytes), None).map(whole).unwrap_or_default()
    }
}

pub(crate) fn check(bytes: &[u8]) {
    let table = match ArrowTable::from_bytes(bytes.to_vec(), "fuzzed") {
        Ok(table) => table,
        Err(error) => return check_error(&error),
    };
    let names: Vec<String> = table.schema().take(20).map(|(name, _)| name.to_owned()).collect();
    let mut first = 0;
    let mut lens = table.block_lens();
    for batch in read(bytes) {
        assert_eq!(lens.next(), Some(batch.num_rows() as u64));
        for (name, array) in names.iter().zip(batch.columns()) {
            compare(&table, &Plain { array: &**array, name, first });
        }
        first += batch.num_rows();
    }
    for name in &names {
        touch(&table, name);
    }
}
