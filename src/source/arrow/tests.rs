use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use std::collections::HashMap;
use std::sync::OnceLock;

use arrow_array::types::Int32Type;
use arrow_array::{
    BinaryArray, Date32Array, DictionaryArray, FixedSizeListArray, Float32Array, Int32Array, Int64Array, ListArray,
    PrimitiveArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampSecondArray,
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_ipc::MetadataVersion;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{DataType, Field, Fields, Schema};

use super::*;
use crate::Sequence;
use crate::source::columns::tests::{check_plain, check_saved, expected, reference};
use crate::testing::{check_rows, samples};

fn bytes(name: &str) -> Vec<u8> {
    fs::read(reference("arrow").join(name)).unwrap()
}

fn open(bytes: impl Into<Vec<u8>>) -> Result<ArrowTable> {
    ArrowTable::from_bytes(bytes.into(), "the-file")
}

fn message(result: Result<ArrowTable>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.file(), Some(Path::new("the-file")), "{error}");
    error.message().to_owned()
}

#[test]
fn every_value_of_every_type_is_read() {
    let columns = expected("arrow/plain.json");
    for name in ["plain.arrow", "plain.stream", "plain.v4"] {
        let path = reference("arrow").join(name);
        for table in [ArrowTable::open(&path), ArrowTable::options().in_memory(true).open(&path), open(bytes(name))] {
            let table = table.unwrap();
            assert_eq!(table.block_lens().collect::<Vec<_>>(), [6, 5]);
            check_plain(&table, &columns);
        }
    }
}

#[test]
fn a_saved_data_set_is_read() {
    let dir = reference("arrow/saved");
    assert_eq!(ArrowTable::splits(&dir).unwrap(), ["train", "test"]);
    for split in ["train", "test"] {
        let columns = expected(&format!("arrow/saved-{split}.json"));
        check_saved(&ArrowTable::open_split(&dir, split).unwrap(), &columns);
        check_saved(&ArrowTable::open(dir.join(split)).unwrap(), &columns);
    }
    let train = ArrowTable::open(dir.join("train")).unwrap();
    assert_eq!(train.block_lens().collect::<Vec<_>>(), [4, 3]);
    let text = train.strings("text").unwrap();
    let shards = [0, 3, 4, 6].map(|row| text.file(row).unwrap().file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(shards.map(|name| name.as_bytes()[9]), [b'0', b'0', b'1', b'1']);
    // The files alone know their features as well.
    let files = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"].map(|name| dir.join("train").join(name));
    let features_in_files = ArrowTable::open_all(&files).unwrap();
    assert_eq!(features_in_files.num_rows(), 7);
    check_saved(&features_in_files, &expected("arrow/saved-train.json"));
}

#[test]
fn directories_that_are_no_data_set_say_what_they_are() {
    let fail = |path: &str| ArrowTable::open(reference(path)).unwrap_err();
    let error = fail("arrow/saved");
    assert_eq!(error.message(), "holds the splits train, test, expected one of them: `open_split`");
    assert_eq!(error.file(), Some(&*reference("arrow/saved")));
    assert!(fail("arrow").message().starts_with("holds no state.json, expected a directory that `save_to_disk` wrote"));
    assert_eq!(fail("arrow/nowhere").kind(), ErrorKind::Io);
    let error = ArrowTable::open_split(reference("arrow/saved"), "../saved/train").unwrap_err();
    assert_eq!(error.message(), "no split `../saved/train`, expected one of train, test");
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert_eq!(ArrowTable::open_split(reference("arrow"), "train").unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(ArrowTable::open_all::<&str>([]).unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn the_lists_of_a_data_set_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = "data-00000-of-00001.arrow";
    fs::copy(reference("arrow/saved/test").join(file), dir.path().join(file)).unwrap();
    let with_state = |json: &str| {
        fs::write(dir.path().join("state.json"), json).unwrap();
        ArrowTable::open(dir.path())
    };
    let good = format!(r#"{{"_data_files": [{{"filename": "{file}"}}]}}"#);
    assert_eq!(with_state(&good).unwrap().num_rows(), 3);
    let absolute = reference("arrow/plain.arrow").display().to_string();
    for (json, expected) in [
        ("", "the JSON is damaged"),
        ("{}", "no list `_data_files` of names"),
        (r#"{"_data_files": []}"#, "no list `_data_files` of names"),
        (r#"{"_data_files": [{"filename": 3}]}"#, "no list `_data_files` of names"),
        (r#"{"_data_files": [{"filename": "../plain.arrow"}]}"#, "no list `_data_files` of names"),
        (r#"{"_data_files": [{"filename": ".."}]}"#, "no list `_data_files` of names"),
        (&format!(r#"{{"_data_files": [{{"filename": "{absolute}"}}]}}"#), "no list `_data_files` of names"),
        (&good.replacen('{', r#"{"_indices_data_files": [{"filename": "i.arrow"}], "#, 1), "rows in another order"),
        (&"[".repeat(100_000), "the JSON is damaged"),
    ] {
        let error = with_state(json).unwrap_err();
        assert!(error.message().starts_with(expected), "{error}");
        assert_eq!(error.file(), Some(&*dir.path().join("state.json")), "{error}");
        assert_eq!(error.kind(), ErrorKind::Format);
    }
    with_state(&good.replacen('{', r#"{"_indices_data_files": null, "#, 1)).unwrap();
    fs::write(dir.path().join("dataset_info.json"), "[").unwrap();
    assert_eq!(with_state(&good).unwrap_err().file(), Some(&*dir.path().join("dataset_info.json")));
    fs::remove_file(dir.path().join(file)).unwrap();
    fs::remove_file(dir.path().join("dataset_info.json")).unwrap();
    assert_eq!(with_state(&good).unwrap_err().file(), Some(&*dir.path().join(file)));
    fs::write(dir.path().join("dataset_dict.json"), r#"{"splits": ["a", "b/c"]}"#).unwrap();
    assert!(ArrowTable::splits(dir.path()).unwrap_err().message().starts_with("no list `splits`"));
}

#[test]
fn a_file_beside_the_table_is_read_and_none_outside() {
    let dir = reference("arrow/paths");
    let images = ArrowTable::open(&dir).unwrap().blobs("image").unwrap();
    let image = images.get(0).unwrap();
    assert!(image.starts_with(b"\x89PNG") && image.name().ends_with("paths/images/a.png"));
    let message = |row| images.get(row).unwrap_err().message().to_owned();
    let expected = "row 1 of column `image` is the file ../plain.json, expected one within ";
    assert!(
        message(1).starts_with(expected) && message(1).ends_with("/arrow/paths, or `files_within`"),
        "{}",
        message(1)
    );
    let missing = images.get(2).unwrap_err();
    assert!(missing.message().ends_with("/arrow/paths/images/none.png, which cannot be opened"), "{missing}");
    assert_eq!((missing.kind(), missing.file()), (ErrorKind::Io, images.file(2).as_deref()));
    for row in [3, 4] {
        assert_eq!(message(row), format!("row {row} of column `image` is null, expected a value, or `or_default`"));
        assert_eq!(images.clone().or_default(&b"none"[..]).get(row).unwrap().bytes(), b"none");
    }
    let given = images.get(5).unwrap();
    assert!(given.bytes() == b"abc" && given.name().ends_with("data-00000-of-00001.arrow/image/5"));

    // Another directory, or none.
    let within = images.clone().files_within(reference("arrow"));
    assert!(within.get(0).unwrap_err().message().ends_with("images/a.png, which cannot be opened"));
    assert_eq!(within.get(1).unwrap_err().kind(), ErrorKind::Io);
    let file = fs::read(dir.join("data-00000-of-00001.arrow")).unwrap();
    let images = open(file).unwrap().blobs("image").unwrap();
    assert!(images.get(0).unwrap_err().message().ends_with("the table has no directory, expected `files_within`"));
    assert!(images.files_within(dir).get(0).unwrap().starts_with(b"\x89PNG"));
}

#[cfg(unix)]
#[test]
fn links_do_not_lead_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("images")).unwrap();
    let table = data.join("images.arrow");
    fs::copy(reference("arrow/paths/data-00000-of-00001.arrow"), &table).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret"), data.join("images/a.png")).unwrap();
    let images = ArrowTable::open(&table).unwrap().blobs("image").unwrap();
    assert!(images.get(0).unwrap_err().message().contains("expected one within"));
    assert_eq!(images.files_within(dir.path().join("data/..")).get(0).unwrap_err().kind(), ErrorKind::Io);
}

/// Whether memory lies within other memory.
fn lies_in(inner: &[u8], outer: &[u8]) -> bool {
    let (inner, outer) = (inner.as_ptr_range(), outer.as_ptr_range());
    outer.start <= inner.start && inner.end <= outer.end
}

#[test]
fn nothing_is_copied() {
    for name in ["plain.arrow", "plain.stream"] {
        let path = reference("arrow").join(name);
        let table = ArrowTable::open(&path).unwrap();
        let mapped = table.shards.shards[0].bytes();
        for batch in 0..2 {
            let view = table.view::<f64>(batch, "f64").unwrap();
            assert_eq!(view.len() as u64, table.block_lens().nth(batch).unwrap());
            let start = view.as_ptr().cast::<u8>() as usize;
            let mapping = mapped.as_ptr_range();
            assert!((mapping.start as usize..mapping.end as usize).contains(&start));
            let view = table.view::<half::f16>(batch, "f16").unwrap();
            assert!((mapping.start as usize..mapping.end as usize).contains(&(view.as_ptr() as usize)));
        }
        for column in ["binary", "large_binary", "fixed_binary"] {
            for blob in samples(&table.blobs(column).unwrap()) {
                assert!(lies_in(&blob, mapped), "{column}");
            }
        }
        let views = samples(&table.blobs("binary_view").unwrap());
        assert!(views.iter().all(|blob| lies_in(blob, mapped) == (blob.len() > 12)));
    }
    let table = ArrowTable::open_split(reference("arrow/saved"), "test").unwrap();
    assert!(samples(&table.blobs("image").unwrap()).iter().all(|blob| lies_in(blob, table.shards.shards[0].bytes())));
}

#[test]
fn a_blob_outlives_its_table() {
    let blob = ArrowTable::open(reference("arrow/plain.arrow")).unwrap().blobs("binary").unwrap().get(1).unwrap();
    assert_eq!(blob.bytes(), [1, 254, 1, 254]);
}

#[test]
fn views_are_of_one_type_without_nulls() {
    let table = open(bytes("plain.arrow")).unwrap();
    let fail = |result: Result<ArrayView1<'_, i32>>| result.unwrap_err().to_string();
    assert_eq!(table.view::<i64>(1, "i64").unwrap()[0], 21);
    assert_eq!(
        fail(table.view(0, "i64")),
        "column `i64` of type i64, expected i32 as they lie in memory (file the-file)"
    );
    assert_eq!(
        fail(table.view(1, "null_i32")),
        "1 nulls in column `null_i32` of batch 1, expected none (file the-file)"
    );
    assert!(fail(table.view(0, "none")).starts_with("no column `none`"));
    assert!(table.view::<bool>(0, "bool").is_err());
    assert!(table.view::<f32>(0, "f16").is_err());
    let panic = catch_unwind(AssertUnwindSafe(|| table.view::<i32>(2, "i32").map(drop))).unwrap_err();
    assert_eq!(*panic.downcast::<String>().unwrap(), "batch 2 is out of range for a table of 2");
}

#[test]
fn rows_take_a_shape() {
    let table = open(bytes("plain.arrow")).unwrap();
    let nested = table.rows::<i16>("nested").unwrap();
    assert_eq!((nested.shape(), nested.layout()), (None, None));
    let shaped = nested.with_shape([2, 3]).unwrap();
    check_rows(&shaped);
    assert_eq!((shaped.shape(), shaped.layout().is_some()), (Some(&[2, 3][..]), true));
    assert_eq!(shaped.get(4).unwrap(), ndarray::array![[4, 0, 7], [4, 1, 7]]);
    let error = table.rows::<i32>("list").unwrap().with_shape(2).unwrap().get(3).unwrap_err();
    assert_eq!(error.message(), "row 3 of column `list` has 3 elements, expected 2 of shape [2]");
    assert_eq!(error.kind(), ErrorKind::Shape);
    let fixed = table.rows::<f32>("fixed").unwrap();
    assert_eq!(fixed.shape(), Some(&[6][..]));
    let error = fixed.clone().with_shape([2, 2]).unwrap_err();
    assert_eq!(error.message(), "shape [2, 2] of 4 elements, expected 6 as column `fixed` has");
    assert_eq!(fixed.with_shape([usize::MAX, 2, 0]).unwrap_err().kind(), ErrorKind::Argument);
    // A null of an unknown length stays an error.
    let unknown = open(bytes("plain.stream")).unwrap().rows::<i32>("null_fixed").unwrap().or_default(5);
    assert_eq!(samples(&unknown)[3], ndarray::array![5, 5]);
}

#[test]
fn dictionaries_may_be_replaced_and_not_added_to() {
    let table = open(bytes("replaced.stream")).unwrap();
    assert_eq!(samples(&table.strings("colour").unwrap()), ["red", "green", "red", "blue", "red"]);
    let expected = "message 3, at byte 512: an Arrow dictionary that is added to (delta), expected whole dictionaries";
    assert_eq!(message(open(bytes("delta.stream"))), expected);
}

#[test]
fn what_is_not_read_says_so() {
    let error = message(open(bytes("compressed.stream")));
    assert!(error.ends_with("an Arrow batch compressed by LZ4_FRAME, expected one that is not compressed"), "{error}");
    assert_eq!(open(bytes("empty.arrow")).unwrap().num_rows(), 0);
    check_rows(&open(bytes("empty.arrow")).unwrap().column::<i32>("x").unwrap());
    for (bytes, expected) in [
        (&b""[..], "message 0, at byte 0: 0 bytes, expected an Arrow message or the end of the stream: cut off"),
        (b"PAR1", "a Parquet file, expected an Arrow IPC file or stream"),
        (b"FEA1", "a Feather file of version 1, expected an Arrow IPC file or stream"),
        (b"ARROW1", "an Arrow file of 6 bytes, expected at least 18"),
        (b"ARROW1..........ARROW2", "an Arrow file that does not end in ARROW1: cut off"),
        (b"ARROW1..\xff\x00\x00\x00ARROW1", "an Arrow file with a footer of 255 bytes, of which 0 are present"),
        (b"ARROW1..\xff\xff\xff\xffARROW1", "an Arrow file with a footer of -1 bytes, of which 0 are present"),
        (b"\0\0\0\0", "an Arrow stream that ends before its schema"),
        (b"\xff\xff\xff\xff\0\0\0\0", "an Arrow stream that ends before its schema"),
        (b"\0\0\0\0extra", "5 bytes too many behind the end of the Arrow stream, at byte 0"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\x7f",
            "message 0, at byte 0: Arrow message with a header of 2147483647 bytes, of which 0 are present",
        ),
        (
            b"text that is none",
            "message 0, at byte 0: Arrow message with a header of 1954047348 bytes, of which 13 are present",
        ),
    ] {
        assert_eq!(message(open(bytes)), expected);
    }
}

#[test]
fn files_that_differ_are_not_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| dir.path().join(name));
    fs::write(&first, bytes("empty.arrow")).unwrap();
    fs::write(&second, bytes("replaced.stream")).unwrap();
    let error = ArrowTable::open_all([&first, &second]).unwrap_err();
    let expected =
        format!("column `colour` of type dictionary<string>, expected `x` of type i32 as in {}", first.display());
    assert_eq!((error.message(), error.file()), (&*expected, Some(&*second)));
    // Files without rows between others.
    fs::copy(reference("arrow/replaced.stream"), &first).unwrap();
    let table = ArrowTable::open_all([&first, &second, &first]).unwrap();
    assert_eq!(table.block_lens().collect::<Vec<_>>(), [3, 2, 3, 2, 3, 2]);
    assert_eq!(samples(&table.strings("colour").unwrap())[5..10], ["red", "green", "red", "blue", "red"]);
}

/// Asks a table for everything in it: errors are fine, panics are not.
fn read_all(table: &ArrowTable) {
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
    for name in ["plain.arrow", "plain.stream", "replaced.stream"] {
        let whole = bytes(name);
        open(whole.clone()).unwrap();
        for len in (0..whole.len()).filter(|len| len % 7 == 0 || len % 8 == 0 || *len + 50 > whole.len()) {
            assert_eq!(open(&whole[..len]).unwrap_err().kind(), ErrorKind::Format, "{name} cut at {len}");
        }
        for extra in [1, 8, 100] {
            assert!(open([whole.clone(), vec![0; extra]].concat()).is_err(), "{name} and {extra} bytes");
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_other_values() {
    for name in ["replaced.stream", "empty.arrow"] {
        let whole = bytes(name);
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(table) = open(damaged) {
                read_all(&table);
            }
        }
    }
    let whole = bytes("plain.arrow");
    for byte in (0..whole.len()).step_by(11) {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0xff;
        if let Ok(table) = open(damaged) {
            read_all(&table);
        }
    }
}

#[test]
fn damage_is_found_when_a_batch_is_touched_and_only_there() {
    let mut damaged = bytes("plain.stream");
    let texts: Vec<usize> = (0..damaged.len() - 6).filter(|&at| &damaged[at..at + 6] == b"word 6").collect();
    damaged[texts[0]] = 0xff;
    let table = open(damaged).unwrap();
    let text = table.strings("text").unwrap();
    assert_eq!(text.get(5).unwrap(), "word 5üü");
    for row in [6, 10, 6] {
        let error = text.get(row).unwrap_err();
        let expected = "column `text` of batch 1 is damaged: Invalid argument error: Invalid UTF8 sequence";
        assert!(error.message().starts_with(expected), "{error}");
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(Path::new("the-file"))));
        assert!(std::error::Error::source(&error).is_some());
    }
    assert_eq!(samples(&table.strings("large_text").unwrap()).len(), 11);
}

#[test]
fn bytes_out_of_alignment_are_read_all_the_same() {
    let whole = bytes("plain.arrow");
    let columns = expected("arrow/plain.json");
    // Kept in a static, as bytes that were leaked would hide those that are lost.
    static SHIFTED: [OnceLock<Vec<u8>>; 2] = [const { OnceLock::new() }; 2];
    for (shift, place) in [1, 4].into_iter().zip(&SHIFTED) {
        let shifted = place.get_or_init(|| [vec![0; shift], whole.clone()].concat());
        let table = ArrowTable::from_bytes(&shifted[shift..], "the-file").unwrap();
        check_plain(&table, &columns);
    }
}

#[test]
fn one_batch_is_touched_by_many_threads() {
    let table = open(bytes("plain.arrow")).unwrap();
    let text = table.strings("text").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let text = &text;
            scope.spawn(move || assert!(text.get((thread * 5) % 11).unwrap().starts_with("word")));
        }
    });
}

#[test]
fn a_file_that_shrinks_does_not_matter_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    fs::write(&path, bytes("plain.arrow")).unwrap();
    let table = ArrowTable::options().in_memory(true).open(&path).unwrap();
    fs::write(&path, "").unwrap();
    check_plain(&table, &expected("arrow/plain.json"));
}

#[cfg(unix)]
#[test]
fn names_need_not_be_utf8_and_files_must_be_readable() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"table-\xff.arrow"));
    fs::write(&path, bytes("plain.arrow")).unwrap();
    let table = ArrowTable::open(&path).unwrap();
    assert_eq!(table.column::<i8>("i8").unwrap().file(0), Some(path.clone()));
    assert!(table.blobs("binary").unwrap().get(0).unwrap().name().starts_with(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read it all the same.
    if fs::File::open(&path).is_err() {
        assert_eq!(ArrowTable::open(&path).unwrap_err().kind(), ErrorKind::Io);
    }
}

#[test]
fn a_header_that_refers_to_one_part_many_times_buys_no_memory() {
    // A field with a long text in its metadata, 100 times over: as a schema it would take 100 times the text.
    let stream = |num_fields: usize| {
        let mut header = flatbuffers::FlatBufferBuilder::new();
        let [name, key, value] = ["x", "key", &"v".repeat(10_000)].map(|text| header.create_string(text));
        let pair = arrow_ipc::KeyValueArgs { key: Some(key), value: Some(value) };
        let pair = arrow_ipc::KeyValue::create(&mut header, &pair);
        let metadata = header.create_vector(&[pair]);
        let kind = arrow_ipc::BoolBuilder::new(&mut header).finish().as_union_value();
        let mut field = arrow_ipc::FieldBuilder::new(&mut header);
        field.add_name(name);
        field.add_type_type(arrow_ipc::Type::Bool);
        field.add_type_(kind);
        field.add_custom_metadata(metadata);
        let field = field.finish();
        let fields = header.create_vector(&vec![field; num_fields]);
        let mut schema = arrow_ipc::SchemaBuilder::new(&mut header);
        schema.add_fields(fields);
        let schema = schema.finish().as_union_value();
        let mut message = arrow_ipc::MessageBuilder::new(&mut header);
        message.add_version(MetadataVersion::V5);
        message.add_header_type(arrow_ipc::MessageHeader::Schema);
        message.add_header(schema);
        let message = message.finish();
        header.finish(message, None);
        let header = header.finished_data();
        [&[0xff; 4], &(header.len() as u32).to_le_bytes()[..], header, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat()
    };
    assert_eq!(open(stream(2)).unwrap().schema().len(), 2);
    let expected = "message 0, at byte 0: the header of an Arrow message is damaged: ";
    assert!(message(open(stream(100))).starts_with(expected));
}

#[test]
fn a_table_prints_its_columns_and_not_its_bytes() {
    let table = open(bytes("empty.arrow")).unwrap();
    assert_eq!(format!("{table:?}"), r#"ArrowTable(Table { num_rows: 0, columns: {"x": "i32"}, .. })"#);
    let column = table.column::<i32>("x").unwrap();
    let expected = r#"Column { selected: Selected { column: "x", type: "i32", .. }, default: None }"#;
    assert_eq!(format!("{column:?}"), expected);
}

/// A column of a file that a test writes.
fn column(name: &str, values: impl Array + 'static) -> (String, ArrayRef) {
    (name.to_owned(), Arc::new(values))
}

/// A batch of columns, with what `datasets` would say about them.
fn batch(features: &str, columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let fields: Fields =
        columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true)).collect();
    let json = format!(r#"{{"info": {{"features": {{{features}}}}}}}"#);
    let schema = Schema::new(fields).with_metadata(HashMap::from([("huggingface".to_owned(), json)]));
    RecordBatch::try_new(schema.into(), columns.into_iter().map(|(_, values)| values).collect()).unwrap()
}

fn stream(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// Replaces bytes that are there once.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    let &[at] = &places[..] else { panic!("{} times {from:?}", places.len()) };
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

fn lists(values: impl Array + 'static, offsets: Vec<i32>) -> ListArray {
    let item = Field::new("item", values.data_type().clone(), true);
    ListArray::new(item.into(), OffsetBuffer::new(offsets.into()), Arc::new(values), None)
}

#[test]
fn lists_within_a_row_have_the_length_of_their_level() {
    let features = r#""x": {"shape": [3, 3], "dtype": "float32", "_type": "Array2D"}"#;
    let numbers = Float32Array::from_iter_values((0..18).map(|number| number as f32));
    let table = lists(lists(numbers, vec![0, 3, 6, 9, 11, 14, 18]), vec![0, 3, 6]);
    let rows = open(stream(&batch(features, vec![column("x", table)]))).unwrap().rows::<f32>("x").unwrap();
    assert_eq!(rows.get(0).unwrap().len(), 9);
    for rows in [rows.clone(), rows.with_shape(9).unwrap()] {
        let error = rows.get(1).unwrap_err();
        assert_eq!(error.message(), "row 1 of column `x` has a list of 2 at level 1, expected 3");
        assert_eq!(error.kind(), ErrorKind::Shape);
    }
    // The first has the length that is expected, and another has not.
    let numbers = Float32Array::from_iter_values((0..9).map(|number| number as f32));
    let table = lists(lists(numbers, vec![0, 3, 5, 9]), vec![0, 3]);
    let rows = open(stream(&batch(features, vec![column("x", table)]))).unwrap().rows::<f32>("x").unwrap();
    assert_eq!(rows.get(0).unwrap_err().message(), "row 0 of column `x` has a list of 2 at level 1, expected 3");
}

#[test]
fn a_shape_that_no_row_has_buys_no_memory() {
    let shape = |shape: &str| format!(r#""x": {{"shape": {shape}, "dtype": "float32", "_type": "Array2D"}}"#);
    let nulls = |validity: Vec<bool>, features: &str| {
        let item = lists(Float32Array::from(vec![1.0]), vec![0, 1]);
        let field = Field::new("item", item.data_type().clone(), true);
        let offsets = OffsetBuffer::<i32>::from_lengths(validity.iter().map(|&is_there| usize::from(is_there)));
        let item = item.slice(0, offsets.last() as usize);
        let rows = ListArray::new(field.into(), offsets, Arc::new(item), Some(validity.into()));
        open(stream(&batch(features, vec![column("x", rows)]))).unwrap().rows::<f32>("x").unwrap()
    };
    let claimed = nulls(vec![true, false], &shape("[1, 10000000]"));
    assert_eq!((claimed.layout(), claimed.shape()), (None, Some(&[10_000_000][..])));
    assert_eq!(claimed.get(0).unwrap_err().kind(), ErrorKind::Shape);
    for (huge, rows) in [
        ("4000000000000", nulls(vec![true, false], &shape("[1000000, 1000000]"))),
        ("4000000000000", nulls(vec![false, false], &shape("[1000000, 1000000]"))),
    ] {
        let error = rows.or_default(1.0).get(1).unwrap_err();
        let expected = "and nothing but the header tells of rows of";
        assert!(error.message().contains(expected) && error.message().contains(huge), "{error}");
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
    // A caller may ask for what there is no memory for.
    let rows = nulls(vec![false], &shape("[1, 1]")).with_shape(1).unwrap();
    assert_eq!(rows.or_default(2.0).get(0).unwrap(), ndarray::array![2.0]);
    let huge = nulls(vec![false], "").with_shape(1_usize << 60).unwrap().or_default(1.0).get(0).unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::Limit);
    assert!(huge.message().ends_with("of 1152921504606846976 elements, more than there is memory for"), "{huge}");
    // Small shapes, and those that a row has.
    let small = nulls(vec![false, false], &shape("[2, 2]"));
    assert_eq!(small.layout(), None);
    assert_eq!(small.or_default(5.0).get(1).unwrap(), ndarray::arr1(&[5.0; 4]));
    let seen = nulls(vec![false, true], &shape("[1, 1]"));
    assert!(seen.layout().is_some());
    check_rows(&seen.or_default(5.0));

    // Rows of a fixed length that are all null take their place all the same.
    let numbers = Arc::new(Field::new("item", DataType::Float32, true));
    let pairs = Arc::new(Field::new("item", DataType::FixedSizeList(Arc::clone(&numbers), 2), true));
    for fixed in [FixedSizeListArray::new_null(numbers, 3, 2), FixedSizeListArray::new_null(pairs, 3, 2)] {
        let rows = open(stream(&batch("", vec![column("x", fixed)]))).unwrap().rows::<f32>("x").unwrap();
        assert!(rows.layout().is_some());
        check_rows(&rows.or_default(5.0));
    }
}

#[test]
fn dates_and_times_are_numbers_wherever_they_are() {
    let times = || TimestampSecondArray::from(vec![Some(7), Some(-8), None]);
    let keys = Int32Array::from(vec![Some(1), None, Some(0)]);
    let pairs = Fields::from(vec![Field::new("time", times().data_type().clone(), true)]);
    let columns = vec![
        column("times", lists(times(), vec![0, 1, 2, 3])),
        column("dates", lists(Date32Array::from(vec![1, 2, 3, 4]), vec![0, 2, 2, 4])),
        column("coded", DictionaryArray::<Int32Type>::new(keys, Arc::new(times()))),
        column("fixed", {
            let item = Field::new("item", DataType::Date64, true);
            let values = PrimitiveArray::<arrow_array::types::Date64Type>::from(vec![1, 2, 3]);
            FixedSizeListArray::new(item.into(), 1, Arc::new(values), None)
        }),
        column("within", StructArray::new(pairs, vec![Arc::new(times())], None)),
    ];
    let table = open(stream(&batch("", columns))).unwrap();
    let rows = table.rows::<i64>("times").unwrap();
    assert_eq!((rows.get(0).unwrap(), rows.get(1).unwrap()), (ndarray::array![7], ndarray::array![-8]));
    assert!(rows.get(2).unwrap_err().message().contains("an element that is null"));
    let rows = table.rows::<i32>("dates").unwrap();
    assert_eq!((rows.get(0).unwrap(), rows.get(2).unwrap()), (ndarray::array![1, 2], ndarray::array![3, 4]));
    let rows = table.rows::<i64>("fixed").unwrap();
    check_rows(&rows);
    assert_eq!(samples(&rows), [1, 2, 3].map(|x| ndarray::array![x]));
    let coded = table.column::<i64>("coded").unwrap();
    assert_eq!((coded.get(0).unwrap(), coded.get(2).unwrap()), (-8, 7));
    assert!(coded.get(1).unwrap_err().message().contains("is null"));
    assert!(table.shards.decoded(0, 4).is_ok());
}

#[test]
fn files_with_other_classes_are_not_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, classes: &str| {
        let path = dir.path().join(name);
        let features = format!(r#""label": {{"names": {classes}, "_type": "ClassLabel"}}"#);
        fs::write(&path, stream(&batch(&features, vec![column("label", Int64Array::from(vec![0, 1]))]))).unwrap();
        path
    };
    let first = write("first", r#"["cat", "dog"]"#);
    let second = write("second", r#"["dog", "cat"]"#);
    let error = ArrowTable::open_all([&first, &second]).unwrap_err();
    let expected = "classes of column `label` with `dog` as number 0, expected `cat` as in";
    assert_eq!(error.message(), format!("{expected} {}", first.display()));
    assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*second)));
    assert_eq!(ArrowTable::open_all([&first, &first]).unwrap().num_rows(), 4);
}

/// Values that are the files `x` beside the table, or bytes.
fn paths(bytes: Vec<Option<&[u8]>>, paths: Vec<Option<&str>>) -> StructArray {
    let fields = [Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
    let values: Vec<ArrayRef> = vec![Arc::new(BinaryArray::from(bytes)), Arc::new(StringArray::from(paths))];
    StructArray::new(fields.to_vec().into(), values, None)
}

#[test]
fn a_path_counts_from_the_file_that_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let images = stream(&batch("", vec![column("image", paths(vec![None], vec![Some("x")]))]));
    let files = ["a", "b"].map(|name| {
        let within = dir.path().join(name);
        fs::create_dir(&within).unwrap();
        fs::write(within.join("x"), name).unwrap();
        fs::write(within.join("data.arrow"), &images).unwrap();
        within.join("data.arrow")
    });
    let images = ArrowTable::open_all(files).unwrap().blobs("image").unwrap();
    assert_eq!(samples(&images).iter().map(|blob| blob.to_vec()).collect::<Vec<_>>(), [b"a", b"b"]);
}

#[test]
fn a_column_may_be_called_what_it_likes() {
    let columns = vec![column("/etc/x", paths(vec![Some(b"1")], vec![Some("/a/b.png")]))];
    let table = open(stream(&batch("", columns))).unwrap();
    let blob = table.blobs("/etc/x").unwrap().get(0).unwrap();
    assert_eq!(blob.name(), "the-file//etc/x/0/b.png");
}

#[test]
fn batches_of_a_file_are_there_once_and_in_order() {
    let mut written = Vec::new();
    let numbers = |from: i64| batch("", vec![column("x", Int64Array::from_iter_values(from..from + 9))]);
    let mut writer = FileWriter::try_new(&mut written, &numbers(0).schema()).unwrap();
    (0..3).for_each(|number| writer.write(&numbers(9 * number)).unwrap());
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(open(written.clone()).unwrap().num_rows(), 27);
    let tail = written.len() - 10;
    let len = u32::from_le_bytes(written[tail..tail + 4].try_into().unwrap()) as usize;
    let footer = arrow_ipc::root_as_footer(&written[tail - len..tail]).unwrap();
    let blocks: Vec<Vec<u8>> = footer.recordBatches().unwrap().iter().map(|block| block.0.to_vec()).collect();
    let with_blocks = |from: usize, to: usize| message(open(replaced(written.clone(), &blocks[from], &blocks[to])));
    for (from, to) in [(1, 0), (2, 1), (2, 0)] {
        let error = with_blocks(from, to);
        let expected = format!("batch {from} of the Arrow file: at byte ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains(", expected it behind the one before it, which ends at "), "{error}");
    }
}

#[test]
fn nulls_that_a_node_denies_are_found() {
    let numbers = Int64Array::from_iter((0..77).map(|number| (number != 5).then_some(number)));
    let all = column("all", Int64Array::from_iter_values(0..77));
    let written = stream(&batch("", vec![column("x", numbers), all]));
    let node = |num_nulls: i64| [77_i64.to_le_bytes(), num_nulls.to_le_bytes()].concat();
    assert!(open(written.clone()).unwrap().column::<i64>("x").unwrap().get(5).is_err());
    let table = open(replaced(written, &node(1), &node(0))).unwrap();
    let error = table.column::<i64>("x").unwrap().get(5).unwrap_err();
    let expected = "column `x` of batch 0 is damaged: 1 nulls among 77 values, expected none as the node says";
    assert_eq!((error.message(), error.kind()), (expected, ErrorKind::Format));
    assert_eq!(table.column::<i64>("all").unwrap().get(5).unwrap(), 5);
}

#[test]
fn strings_that_share_their_bytes_are_within_a_limit() {
    const LEN: u32 = 1 << 20;
    let strings = |num: usize| {
        let bytes = Buffer::from(vec![b'x'; LEN as usize]);
        let prefix = u128::from(u32::from_le_bytes(*b"xxxx"));
        let views = vec![u128::from(LEN) | prefix << 32; num];
        let texts = StringViewArray::new(views.into(), vec![bytes], None);
        let before = column("before", StringViewArray::from(vec!["some text that is no part of a view"; num]));
        open(stream(&batch("", vec![before, column("x", texts)]))).unwrap()
    };
    assert_eq!(strings(100).strings("x").unwrap().get(99).unwrap().len(), LEN as usize);
    let table = strings(300);
    let error = table.strings("x").unwrap().get(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let expected =
        "column `x` of batch 0: strings of 314572800 bytes in all that share 1053376, of which 268435456 are";
    assert!(error.message().starts_with(expected), "{error}");
    assert!(table.strings("before").unwrap().get(299).unwrap().starts_with("some text"));
}

#[test]
fn a_column_needs_its_own_dictionaries_alone() {
    let coded = |text: &str| DictionaryArray::<Int32Type>::from_iter([text, "other", text]);
    let columns = vec![column("a", coded("good-text")), column("b", coded("bad--text"))];
    let table = open(replaced(stream(&batch("", columns)), b"bad--text", b"\xff")).unwrap();
    assert_eq!(samples(&table.strings("a").unwrap()), ["good-text", "other", "good-text"]);
    let error = table.strings("b").unwrap().get(0).unwrap_err();
    assert!(error.message().contains("the dictionary 1 is damaged"), "{error}");
}

#[cfg(unix)]
#[test]
fn what_changes_under_a_mapping_is_not_trusted() {
    use std::os::unix::fs::FileExt;

    let long = "y".repeat(1001);
    let texts = ["x", long.as_str(), "z"];
    let views = StringViewArray::from(vec!["x", "some text that is no part of a view", "z"]);
    let columns = vec![
        column("text", StringArray::from(texts.to_vec())),
        column("view", views),
        column("bytes", BinaryArray::from_vec(vec![b"ab", &[7; 2003], b"c"])),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    let written = stream(&batch("", columns));
    fs::write(&path, &written).unwrap();
    let table = ArrowTable::open(&path).unwrap();
    let (text, view, bytes) =
        (table.strings("text").unwrap(), table.strings("view").unwrap(), table.blobs("bytes").unwrap());
    // Each is checked, and kept as it is.
    assert!(text.get(0).is_ok() && view.get(0).is_ok() && bytes.get(0).is_ok());

    let file = fs::File::options().write(true).open(&path).unwrap();
    let change = |from: &[u8], to: &[u8]| {
        let at = (0..written.len()).find(|&at| written[at..].starts_with(from)).unwrap();
        file.write_all_at(to, at as u64).unwrap();
    };
    let offsets = |middle: i32| [1_i32, middle].map(i32::to_le_bytes).concat();
    change(&offsets(1002), &offsets(i32::MAX));
    change(&[2_i32, 2005].map(i32::to_le_bytes).concat(), &[2_i32, -5].map(i32::to_le_bytes).concat());
    change(b"some text that is", b"\xff");
    let message = |result: Result<String>| result.unwrap_err().message().to_owned();
    let changed = "the file was changed since it was opened";
    for row in [1, 2] {
        let expected = format!("row {row} of column `text` cannot be read as string: {changed}");
        assert_eq!(message(text.clone().or_default("none").get(row)), expected);
        let error = bytes.clone().or_default(&b""[..]).get(row).unwrap_err();
        assert_eq!(error.message(), format!("row {row} of column `bytes` cannot be read as binary: {changed}"));
    }
    assert_eq!(message(view.get(1)), format!("row 1 of column `view` cannot be read as string: {changed}"));
    assert_eq!((text.get(0).unwrap(), view.get(2).unwrap()), ("x".to_owned(), "z".to_owned()));
}
