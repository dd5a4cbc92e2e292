use std::fs;

use super::*;
use crate::source::columns::tests::{check_plain, check_saved, expected, reference};
use crate::testing::{check_rows, samples};
use crate::{BlockShuffle, Loader, Sampler, Sequence, SequenceExt};

const PLAIN: [&str; 6] =
    ["none-v1.parquet", "none-v2.parquet", "snappy-v1.parquet", "gzip-v2.parquet", "zstd-v1.parquet", "lz4-v2.parquet"];

fn bytes(name: &str) -> Vec<u8> {
    fs::read(reference("parquet").join(name)).unwrap()
}

fn open(bytes: impl Into<Vec<u8>>) -> Result<ParquetTable> {
    ParquetTable::from_bytes(bytes.into(), "the-file")
}

fn message(result: Result<ParquetTable>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.file(), Some(Path::new("the-file")), "{error}");
    error.message().to_owned()
}

#[test]
fn every_value_of_every_type_is_read() {
    let columns = expected("parquet/plain.json");
    for name in PLAIN {
        let path = reference("parquet").join(name);
        let table = ParquetTable::open(&path).unwrap();
        assert_eq!(table.block_lens().collect::<Vec<_>>(), [4, 4, 3]);
        check_plain(&table, &columns);
    }
    for table in [
        ParquetTable::options().in_memory(true).open(reference("parquet/none-v2.parquet")),
        ParquetTable::options().cache_bytes(0).open(reference("parquet/zstd-v1.parquet")),
        open(bytes("snappy-v1.parquet")),
        open(bytes("delta.parquet")),
    ] {
        check_plain(&table.unwrap(), &columns);
    }
}

#[test]
fn a_data_set_of_the_hub_is_read() {
    let dir = reference("parquet/split");
    for (split, lens) in [("train", &[2, 2, 2, 1][..]), ("test", &[2, 1])] {
        let table = ParquetTable::open_split(&dir, split).unwrap();
        assert_eq!(table.block_lens().collect::<Vec<_>>(), lens);
        check_saved(&table, &expected(&format!("arrow/saved-{split}.json")));
    }
    let error = ParquetTable::open(&dir).unwrap_err();
    assert_eq!(error.message(), "the directory holds the splits test, train, expected one of them: `open_split`");
    let text = ParquetTable::open_split(&dir, "train").unwrap().strings("text").unwrap();
    assert_eq!(text.file(3), Some(dir.join("train-00000-of-00002.parquet")));
    assert_eq!(text.file(4), Some(dir.join("train-00001-of-00002.parquet")));
    assert_eq!(ParquetTable::open_all::<&str>([]).unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn opening_decodes_nothing_and_a_sample_its_column_alone() {
    let table = open(bytes("snappy-v1.parquet")).unwrap();
    let (numbers, text) = (table.column::<i64>("i64").unwrap(), table.strings("text").unwrap());
    assert_eq!((table.num_decoded(), table.cached_bytes()), (0, 0));
    numbers.get(5).unwrap();
    assert_eq!(table.num_decoded(), 1);
    assert!(table.cached_bytes() > 0);
    // The same row group, the same column of a clone; another column; another row group.
    for (ask, num_decoded) in [(4, 1), (7, 1), (8, 2)] {
        table.clone().column::<i64>("i64").unwrap().get(ask).unwrap();
        assert_eq!(table.num_decoded(), num_decoded);
    }
    text.get(5).unwrap();
    assert_eq!(table.num_decoded(), 3);
}

#[test]
fn an_epoch_in_blocks_decodes_each_row_group_once() {
    let open =
        |cache_bytes| ParquetTable::options().cache_bytes(cache_bytes).from_bytes(bytes("zstd-v1.parquet"), "file");
    let table = open(1 << 20).unwrap();
    let samples = table.column::<i32>("i32").unwrap().zip(table.strings("text").unwrap()).unwrap();
    let order = BlockShuffle::from_lengths(table.block_lens(), 1, 7).unwrap();
    assert_eq!(order.len(), 11);
    let loader = Loader::builder(samples).sampler(order).batch_size(2).workers(3).build().unwrap();
    let mut seen: Vec<i32> = loader.epoch(0).flat_map(|batch| batch.unwrap().0.to_vec()).collect();
    assert_eq!(table.num_decoded(), 6);
    seen.sort_unstable();
    assert!(seen.into_iter().eq((0..11).map(|row| (row - 3) * 7)));

    // Without room for more than one, an order without blocks decodes one for nearly each sample.
    let table = open(0).unwrap();
    let numbers = table.column::<i32>("i32").unwrap();
    for row in [0, 4, 8, 1, 5, 9] {
        numbers.get(row).unwrap();
    }
    assert_eq!(table.num_decoded(), 6);
    numbers.get(10).unwrap();
    assert_eq!(table.num_decoded(), 6);
}

#[test]
fn a_blob_of_a_page_that_is_not_compressed_is_not_copied() {
    let table = open(bytes("none-v2.parquet")).unwrap();
    let mapped = table.groups.files[0].bytes().as_ptr_range();
    for blob in samples(&table.blobs("binary").unwrap()) {
        assert_eq!(mapped.contains(&blob.as_ptr()), blob.len() > 12);
    }
    let blob = table.blobs("binary").unwrap().get(8).unwrap();
    drop(table);
    assert_eq!(blob.bytes(), [8, 247].repeat(9));
}

#[test]
fn what_is_not_read_says_so() {
    for (bytes, expected) in [
        (&b""[..], "a file that does not start with PAR1, expected a Parquet file"),
        (b"ARROW1", "an Arrow file, expected a Parquet file"),
        (b"PARE....PARE", "a Parquet file that is encrypted, expected one that is not"),
        (b"PAR1....PARE", "a Parquet file that is encrypted, expected one that is not"),
        (b"PAR1PAR1", "a Parquet file of 8 bytes, expected at least 12"),
        (b"PAR1....PAR2", "a Parquet file that does not end in PAR1: cut off"),
        (b"PAR1\xff\x00\x00\x00PAR1", "a Parquet file with a footer of 255 bytes, of which 0 are present"),
        (b"PAR1\0\0\0\0PAR1", "the footer of the Parquet file is damaged: metadata that is cut off"),
    ] {
        assert_eq!(message(open(bytes)), expected);
    }
    let error = open(bytes("brotli.parquet")).unwrap().column::<i32>("x").unwrap().get(3).unwrap_err();
    let expected = "column `x` of row group 0: compressed by BROTLI, expected gzip, lz4, snappy, zstd or nothing";
    assert!(error.message().replace("(BrotliLevel(1))", "").starts_with(expected), "{error}");
    assert_eq!(error.file(), Some(Path::new("the-file")));
    assert_eq!(ParquetTable::open(reference("parquet/none")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn files_that_differ_are_not_one_table() {
    let [first, second] = ["brotli.parquet", "delta.parquet"].map(|name| reference("parquet").join(name));
    let error = ParquetTable::open_all([&first, &second]).unwrap_err();
    assert_eq!(error.message(), format!("7 columns, expected 1 as in {}", first.display()));
    assert_eq!(error.file(), Some(&*second));
    // The same columns in files that are compressed in different ways.
    let table = ParquetTable::open_all(PLAIN.map(|name| reference("parquet").join(name))).unwrap();
    let numbers = table.column::<i8>("i8").unwrap();
    check_rows(&numbers);
    assert_eq!((table.num_rows(), numbers.get(11).unwrap(), numbers.get(65).unwrap()), (66, -21, 49));
}

#[test]
fn the_limit_holds() {
    let limited = |limit_bytes: u64, name: &str| {
        let table = ParquetTable::options().limit_bytes(limit_bytes).from_bytes(bytes(name), "the-file").unwrap();
        table.column::<i64>("i64").unwrap().get(0).map(drop)
    };
    for name in PLAIN {
        limited(1000, name).unwrap();
        let error = limited(60, name).unwrap_err();
        let expected = "column `i64` of row group 0: more than 60 bytes decoded, which is the limit";
        assert_eq!((error.message(), error.kind()), (expected, ErrorKind::Limit), "{name}");
        assert_eq!(error.file(), Some(Path::new("the-file")));
    }
}

#[test]
fn strings_that_are_made_of_others_are_within_the_limit() {
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Encoding;
    use parquet::file::properties::WriterProperties;

    let text: Arc<dyn arrow_array::Array> = Arc::new(arrow_array::StringArray::from(vec!["x".repeat(1000); 1000]));
    let batch = arrow_array::RecordBatch::try_from_iter([("text", text)]).unwrap();
    let properties = WriterProperties::builder().set_encoding(Encoding::DELTA_BYTE_ARRAY).set_dictionary_enabled(false);
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(bytes.len() < 5_000, "{}", bytes.len());
    let limited = |limit_bytes: u64| {
        let table = ParquetTable::options().limit_bytes(limit_bytes).from_bytes(bytes.clone(), "the-file").unwrap();
        table.strings("text").unwrap().get(999)
    };
    assert_eq!(limited(1_000_000).unwrap().len(), 1000);
    let error = limited(999_999).unwrap_err();
    let expected =
        "column `text` of row group 0: strings of 1000000 bytes decoded, of which 999999 are within the limit";
    assert_eq!((error.message(), error.kind()), (expected, ErrorKind::Limit));
}

#[test]
fn a_footer_that_lies_about_rows_buys_no_memory() {
    use parquet::file::metadata::{
        FileMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData,
    };

    // The one row group of a file of 100 rows, as a footer behind it has it.
    let with_group = |num_rows: i64, change: &dyn Fn(RowGroupMetaData) -> RowGroupMetaData| {
        let mut bytes = written(100);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&::bytes::Bytes::from(bytes.clone())).unwrap();
        let schema = metadata.file_metadata().schema_descr_ptr();
        let file = FileMetaData::new(1, num_rows, None, None, schema, None);
        let group = change(metadata.row_group(0).clone());
        let metadata = ParquetMetaDataBuilder::new(file).add_row_group(group).build();
        ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().unwrap();
        open(bytes)
    };
    let message = |table: Result<ParquetTable>| {
        let error = table.unwrap().column::<i32>("x").unwrap().get(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        error.message().to_owned()
    };
    assert_eq!(with_group(100, &|group| group).unwrap().column::<i32>("x").unwrap().get(99).unwrap(), 99);
    let rows = |num_rows| move |group: RowGroupMetaData| group.into_builder().set_num_rows(num_rows).build().unwrap();
    let expected = "column `x` of row group 0: 100 values, expected 100 as the footer says, in 1099511627776 rows";
    assert_eq!(message(with_group(1 << 40, &rows(1 << 40))), expected);
    assert!(message(with_group(99, &rows(99))).ends_with("in 99 rows"));
    let error = with_group(5, &rows(-5)).unwrap_err();
    assert_eq!((error.message(), error.file()), ("row group 0 of -5 rows", Some(Path::new("the-file"))));
    type Chunk = parquet::file::metadata::ColumnChunkMetaDataBuilder;
    let chunk = |change: fn(Chunk) -> Chunk| {
        with_group(100, &move |group| {
            let column = change(group.column(0).clone().into_builder()).build().unwrap();
            group.into_builder().set_column_metadata(vec![column]).build().unwrap()
        })
    };
    let values = message(chunk(|chunk| chunk.set_num_values(1 << 40)));
    assert_eq!(values, "column `x` of row group 0: 100 values, expected 1099511627776 as the footer says, in 100 rows");
    let long = message(chunk(|chunk| chunk.set_total_compressed_size(1 << 40)));
    assert!(long.starts_with("column `x` of row group 0: 1099511627776 bytes at byte 4 of a file of "), "{long}");
    let negative = message(chunk(|chunk| chunk.set_data_page_offset(-1).set_dictionary_page_offset(None)));
    assert!(negative.contains("bytes at byte -1 of a file of"), "{negative}");
    let elsewhere = chunk(|chunk| chunk.set_file_path("other.parquet".to_owned())).unwrap_err();
    let expected = "column `\"x\"` of row group 0 in another file, expected it in this one";
    assert_eq!(elsewhere.message(), expected);
}

/// A file with a column `x` of the numbers from 0.
fn written(num_rows: i32) -> Vec<u8> {
    let numbers: Arc<dyn arrow_array::Array> = Arc::new(arrow_array::Int32Array::from_iter_values(0..num_rows));
    let batch = arrow_array::RecordBatch::try_from_iter([("x", numbers)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// Asks a table for everything in it: errors are fine, panics are not.
fn read_all(table: &ParquetTable) {
    fn read<S: Sequence>(column: Result<S>) {
        if let Ok(column) = column {
            (0..column.len().min(20)).for_each(|row| drop(column.get(row)));
        }
    }
    for (name, _) in table.schema() {
        read(table.column::<i64>(name));
        read(table.column::<f32>(name));
        read(table.column::<bool>(name));
        read(table.rows::<f32>(name));
        read(table.rows::<i16>(name));
        read(table.strings(name));
        read(table.blobs(name));
    }
}

#[test]
fn every_cut_is_refused() {
    let whole = bytes("delta.parquet");
    for len in 0..whole.len() {
        assert_eq!(open(&whole[..len]).unwrap_err().kind(), ErrorKind::Format, "cut at {len}");
    }
    // Cut at the front, so that the footer is whole.
    for start in (4..whole.len() - 8).step_by(50) {
        if let Ok(table) = open([b"PAR1", &whole[start..]].concat()) {
            read_all(&table);
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_other_values() {
    let whole = bytes("brotli.parquet");
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(table) = ParquetTable::options().limit_bytes(1 << 20).from_bytes(damaged, "the-file") {
            read_all(&table);
        }
    }
    for (name, step) in [("delta.parquet", 5), ("split/test-00000-of-00001.parquet", 13), ("gzip-v2.parquet", 101)] {
        let whole = bytes(name);
        for byte in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << (byte % 8);
            if let Ok(table) = ParquetTable::options().limit_bytes(1 << 20).from_bytes(damaged, "the-file") {
                read_all(&table);
            }
        }
    }
}

#[test]
fn damage_is_found_in_its_row_group_and_only_there() {
    let mut damaged = bytes("none-v2.parquet");
    let texts: Vec<usize> = (0..damaged.len() - 6).filter(|&at| &damaged[at..at + 6] == b"word 4").collect();
    damaged[texts[0]] = 0xff;
    let table = open(damaged).unwrap();
    let text = table.strings("text").unwrap();
    assert_eq!((text.get(3).unwrap().as_str(), text.get(8).unwrap().as_str()), ("word 3", "word 8üü"));
    for row in [4, 7, 4] {
        let error = text.get(row).unwrap_err();
        assert!(error.message().starts_with("column `text` of row group 1 is damaged: "), "{error}");
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(Path::new("the-file"))));
    }
    assert_eq!(table.num_decoded(), 3);
}

#[test]
fn a_file_that_shrinks_does_not_matter_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    fs::write(&path, bytes("delta.parquet")).unwrap();
    let table = ParquetTable::options().in_memory(true).open(&path).unwrap();
    fs::write(&path, "").unwrap();
    check_plain(&table, &expected("parquet/plain.json"));
}

#[cfg(unix)]
#[test]
fn names_need_not_be_utf8_and_files_must_be_readable() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"table-\xff.parquet"));
    fs::write(&path, bytes("delta.parquet")).unwrap();
    let table = ParquetTable::open(dir.path()).unwrap();
    assert_eq!(table.column::<i32>("i32").unwrap().file(0), Some(path.clone()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read it all the same.
    if fs::File::open(&path).is_err() {
        assert_eq!(ParquetTable::open(&path).unwrap_err().kind(), ErrorKind::Io);
    }
}

/// A file of a batch, with what `datasets` would say about it.
fn with_features(features: &str, columns: Vec<(&str, Arc<dyn arrow_array::Array>)>) -> Vec<u8> {
    let batch = arrow_array::RecordBatch::try_from_iter(columns).unwrap();
    let json = format!(r#"{{"info": {{"features": {{{features}}}}}}}"#);
    let schema = batch.schema().as_ref().clone().with_metadata([("huggingface".to_owned(), json)]);
    let batch = batch.with_schema(schema.into()).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn files_with_other_classes_are_not_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, classes: &str| {
        let features = format!(r#""label": {{"names": {classes}, "_type": "ClassLabel"}}"#);
        let labels: Arc<dyn arrow_array::Array> = Arc::new(arrow_array::Int64Array::from(vec![0, 1]));
        fs::write(dir.path().join(name), with_features(&features, vec![("label", labels)])).unwrap();
        dir.path().join(name)
    };
    let first = write("first", r#"["cat", "dog"]"#);
    let second = write("second", r#"["cat", "dog", "bird"]"#);
    let error = ParquetTable::open_all([&first, &second]).unwrap_err();
    assert_eq!(error.message(), format!("classes of column `label` are 3, expected 2 as in {}", first.display()));
    assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*second)));
    assert_eq!(ParquetTable::open_all([&first, &first]).unwrap().num_rows(), 4);
}

#[test]
fn dates_and_times_are_numbers_within_lists() {
    use arrow_array::types::Date32Type;

    let times = arrow_array::TimestampMicrosecondArray::from(vec![7, -8, 9]);
    let item = arrow_schema::Field::new("item", arrow_array::Array::data_type(&times).clone(), true);
    let offsets = arrow_buffer::OffsetBuffer::new(vec![0, 2, 3].into());
    let times = arrow_array::ListArray::new(item.into(), offsets, Arc::new(times), None);
    let days = [Some(vec![Some(1), Some(2)]), Some(vec![])];
    let days = arrow_array::ListArray::from_iter_primitive::<Date32Type, _, _>(days);
    let table = open(with_features("", vec![("times", Arc::new(times)), ("days", Arc::new(days))])).unwrap();
    let rows = table.rows::<i64>("times").unwrap();
    assert_eq!(samples(&rows), [ndarray::array![7, -8], ndarray::array![9]]);
    assert_eq!(samples(&table.rows::<i32>("days").unwrap()), [ndarray::array![1, 2], ndarray::array![]]);
}

#[test]
fn a_struct_without_fields_is_refused() {
    use parquet::basic::Repetition;
    use parquet::file::metadata::{FileMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter};
    use parquet::schema::types::{SchemaDescriptor, Type};

    let mut bytes = written(100);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&::bytes::Bytes::from(bytes.clone())).unwrap();
    let of_file = metadata.file_metadata();
    let empty = Type::group_type_builder("none").with_repetition(Repetition::OPTIONAL).build().unwrap();
    let within = Type::group_type_builder("outer").with_repetition(Repetition::OPTIONAL);
    let within = within.with_fields(vec![Arc::new(empty)]).build().unwrap();
    let fields = [&[Arc::new(within)], of_file.schema_descr().root_schema().get_fields()].concat();
    let root = Type::group_type_builder("schema").with_fields(fields).build().unwrap();
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    let file = FileMetaData::new(1, 100, None, None, schema, None);
    let metadata = ParquetMetaDataBuilder::new(file).add_row_group(metadata.row_group(0).clone()).build();
    ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().unwrap();
    let expected = "column `outer` holds a struct without fields, expected one at least";
    assert_eq!(message(open(bytes)), expected);
}
