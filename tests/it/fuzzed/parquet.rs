//! Any bytes, taken for a Parquet file, give what the parquet crate's own reader gives for the columns that are read, or an
//! error. What is read does not depend on what is kept in memory.

use ::bytes::Bytes;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::RecordBatch;
use procession::source::ParquetTable;

use super::table::{Plain, check_error, compare, touch};

/// No larger column is decoded.
pub(crate) const LIMIT_BYTES: u64 = 1 << 16;

pub(crate) fn open(bytes: &[u8], cache_bytes: u64) -> procession::Result<ParquetTable> {
    ParquetTable::options().limit_bytes(LIMIT_BYTES).cache_bytes(cache_bytes).from_bytes(bytes.to_vec(), "fuzzed")
}

/// The rows as the crate reads them by itself.
fn read(bytes: &[u8]) -> Option<Vec<RecordBatch>> {
    let read = || {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).ok()?.build().ok()?;
        reader.collect::<Result<Vec<_>, _>>().ok()
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).ok()?
}

pub(crate) fn check(bytes: &[u8]) {
    let table = match open(bytes, u64::MAX) {
        Ok(table) => table,
        Err(error) => return check_error(&error),
    };
    let names: Vec<String> = table.schema().take(20).map(|(name, _)| name.to_owned()).collect();
    // The crate by itself has no limits: it reads what was read with them.
    let is_whole = table.schema().len() <= names.len() && names.iter().all(|name| touch(&table, name) > 0);
    if let Some(batches) = is_whole.then(|| read(bytes)).flatten() {
        let forgetful = open(bytes, 0).expect("it was opened before");
        let mut first = 0;
        for batch in batches {
            for (name, array) in names.iter().zip(batch.columns()) {
                let plain = Plain { array: &**array, name, first };
                compare(&table, &plain);
                compare(&forgetful, &plain);
            }
            first += batch.num_rows();
        }
        assert_eq!(first, table.num_rows());
    }
}
