//! What tables of every format must give, against the values that the script in `tests/formats` wrote down.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{ColumnElement, Table};
use crate::batch::stack::Stack;
use crate::error::{ErrorKind, Result};
use crate::sequence::Sequence;
use crate::testing::{check_rows, check_sequence, samples};

/// A file of the folder that the script writes.
pub(crate) fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name)
}

/// The columns that a table must have.
pub(crate) fn expected(name: &str) -> Map<String, Value> {
    let text = fs::read_to_string(reference(name)).unwrap();
    serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap().clone()
}

/// The innermost values of a list, in order.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        Value::Bool(bit) => vec![f64::from(u8::from(*bit))],
        Value::Null => vec![99.0],
        number => vec![number.as_f64().unwrap()],
    }
}

fn numbers<T>(table: &Table, name: &str, values: &Value, default: Option<T>, to_f64: impl Fn(T) -> f64)
where
    T: ColumnElement + Stack<Batch: PartialEq + Debug> + PartialEq + Debug,
{
    let column = table.column::<T>(name).unwrap();
    let column = match default {
        Some(default) => column.or_default(default),
        None => column,
    };
    check_rows(&column);
    let found: Vec<f64> = samples(&column).into_iter().map(to_f64).collect();
    assert_eq!(found, flat(values), "column {name}");
}

fn lists<T: ColumnElement + PartialEq + Debug>(
    table: &Table,
    name: &str,
    values: &Value,
    default: Option<T>,
    to_f64: impl Fn(T) -> f64,
) -> bool {
    let column = table.rows::<T>(name).unwrap();
    let column = match default {
        Some(default) => column.or_default(default),
        None => column,
    };
    check_rows(&column);
    for (row, expected) in values.as_array().unwrap().iter().enumerate() {
        let found: Vec<f64> = column.get(row).unwrap().iter().map(|&x| to_f64(x)).collect();
        let expected = if expected.is_null() { vec![99.0; found.len()] } else { flat(expected) };
        assert_eq!(found, expected, "row {row} of column {name}");
    }
    column.layout().is_some()
}

fn strings(table: &Table, name: &str, values: &Value) {
    let column = table.strings(name).unwrap().or_default("none");
    check_rows(&column);
    let expected = values.as_array().unwrap().iter().map(|value| value.as_str().unwrap_or("none"));
    assert!(samples(&column).iter().map(String::as_str).eq(expected), "column {name}");
}

fn blobs(table: &Table, name: &str, values: &Value) {
    let column = table.blobs(name).unwrap();
    check_sequence(&column);
    for (row, expected) in values.as_array().unwrap().iter().enumerate() {
        let found: Vec<f64> = column.get(row).unwrap().iter().map(|&byte| f64::from(byte)).collect();
        assert_eq!(found, flat(expected), "row {row} of column {name}");
    }
}

/// Checks every value of a table with the columns of `plain.json`.
pub(crate) fn check_plain(table: &Table, columns: &Map<String, Value>) {
    assert_eq!(table.num_rows(), 11);
    let names: Vec<&str> = table.schema().map(|(name, _)| name).collect();
    for &name in &names {
        let values = &columns[name];
        match name {
            "i8" => numbers::<i8>(table, name, values, None, f64::from),
            "i16" => numbers::<i16>(table, name, values, None, f64::from),
            "i32" | "date" => numbers::<i32>(table, name, values, None, f64::from),
            "i64" | "time" => numbers::<i64>(table, name, values, None, |x| x as f64),
            "u8" => numbers::<u8>(table, name, values, None, f64::from),
            "u16" => numbers::<u16>(table, name, values, None, f64::from),
            "u32" => numbers::<u32>(table, name, values, None, f64::from),
            "u64" => numbers::<u64>(table, name, values, None, |x| x as f64),
            "f16" | "f32" => numbers::<f32>(table, name, values, None, f64::from),
            "f64" => numbers::<f64>(table, name, values, None, |x| x),
            "bool" => numbers::<bool>(table, name, values, None, |x| f64::from(u8::from(x))),
            "null_i32" => numbers::<i32>(table, name, values, Some(99), f64::from),
            "fixed" => assert!(lists::<f32>(table, name, values, None, f64::from)),
            "list" => assert!(!lists::<i32>(table, name, values, None, f64::from)),
            "large_list" => assert!(!lists::<f64>(table, name, values, None, |x| x)),
            "nested" => assert!(!lists::<i16>(table, name, values, None, f64::from)),
            "fixed_nested" => assert!(lists::<i16>(table, name, values, None, f64::from)),
            "bools" => assert!(lists::<bool>(table, name, values, None, |x| f64::from(u8::from(x)))),
            "null_fixed" => assert!(lists::<i32>(table, name, values, Some(99), f64::from)),
            "ragged" => {
                let error = table.rows::<i16>(name).unwrap().get(1).unwrap_err();
                assert_eq!(error.message(), "row 1 of column `ragged` has a list of 1 at level 1, expected 0");
                assert_eq!(error.kind(), ErrorKind::Shape);
            }
            "text" | "large_text" | "text_view" | "null_text" | "dictionary" => strings(table, name, values),
            "binary" | "large_binary" | "binary_view" | "fixed_binary" => blobs(table, name, values),
            other => panic!("an unknown column {other}"),
        }
    }
    if names.contains(&"f16") {
        let halves = samples(&table.column::<half::f16>("f16").unwrap());
        assert!(halves.iter().map(|half| half.to_f64()).eq(flat(&columns["f16"])));
        nulls_are_errors(table);
        other_types_are_errors(table);
    }
}

fn nulls_are_errors(table: &Table) {
    let message = |result: Result<()>| result.unwrap_err().message().to_owned();
    let null = |row, name| format!("row {row} of column `{name}` is null, expected a value, or `or_default`");
    let column = table.column::<i32>("null_i32").unwrap();
    assert_eq!(column.get(4).unwrap(), 4);
    assert_eq!(message(column.get(5).map(drop)), null(5, "null_i32"));
    assert_eq!(column.get_into(5, &mut 0).unwrap_err().file(), column.file(5).as_deref());
    assert_eq!(message(table.strings("null_text").unwrap().get(2).map(drop)), null(2, "null_text"));
    let rows = table.rows::<i32>("null_fixed").unwrap();
    assert_eq!(message(rows.get(3).map(drop)), null(3, "null_fixed"));
    let expected = "row 4 of column `null_fixed` has an element that is null, expected a value, or `or_default`";
    assert_eq!(message(rows.get(4).map(drop)), expected);
    assert_eq!(message(table.labels("null_i32").unwrap().get(1).map(drop)), null(1, "null_i32"));
    assert_eq!(table.labels("null_i32").unwrap().or_default(7).get(1).unwrap(), 7);
}

fn other_types_are_errors(table: &Table) {
    let message = |error: crate::Error| {
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.file().is_some(), "{error}");
        error.message().to_owned()
    };
    assert_eq!(message(table.column::<f32>("f64").unwrap_err()), "column `f64` of type f64, expected f32");
    assert_eq!(message(table.column::<f64>("f32").unwrap_err()), "column `f32` of type f32, expected f64");
    assert_eq!(message(table.column::<i32>("text").unwrap_err()), "column `text` of type string, expected i32");
    assert_eq!(
        message(table.rows::<f32>("list").unwrap_err()),
        "column `list` of type list<i32>, expected lists of f32"
    );
    assert_eq!(message(table.rows::<f32>("f32").unwrap_err()), "column `f32` of type f32, expected lists of f32");
    assert_eq!(message(table.strings("i8").unwrap_err()), "column `i8` of type i8, expected strings");
    assert_eq!(message(table.labels("f32").unwrap_err()), "column `f32` of type f32, expected integers");
    let expected = "column `text` of type string, expected binary, or struct<bytes: binary, path: string>";
    assert_eq!(message(table.blobs("text").unwrap_err()), expected);
    let missing = table.column::<f32>("x").unwrap_err();
    assert!(missing.message().starts_with("no column `x`, expected one of `i8`, `i16`, "), "{missing}");
    assert_eq!(missing.kind(), ErrorKind::Argument);
}

/// Checks a table that `datasets` wrote.
pub(crate) fn check_saved(table: &Table, columns: &Map<String, Value>) {
    let images = columns["image"].as_array().unwrap();
    assert_eq!(table.num_rows(), images.len());
    let blobs = table.blobs("image").unwrap();
    check_sequence(&blobs);
    for (row, image) in images.iter().enumerate() {
        let blob = blobs.get(row).unwrap();
        let found: Vec<f64> = blob.iter().map(|&byte| f64::from(byte)).collect();
        assert_eq!(found, flat(&image["bytes"]), "row {row}");
        let name = blob.name().to_str().unwrap();
        assert!(name.ends_with(&format!("image/{row}/{}", image["path"].as_str().unwrap())), "{name}");
        assert!(blob.name().starts_with(blobs.file(row).unwrap()) && blob.extension().unwrap() == "png");
    }
    assert!(lists::<f32>(table, "features", &columns["features"], None, f64::from));
    assert!(lists::<f32>(table, "matrix", &columns["matrix"], None, f64::from));
    let matrices = table.rows::<f32>("matrix").unwrap().with_shape([2, 2]).unwrap();
    check_rows(&matrices);
    assert_eq!(matrices.get(1).unwrap().dim(), (2, 2));
    assert!(!lists::<i64>(table, "tokens", &columns["tokens"], None, |x| x as f64));
    strings(table, "text", &columns["text"]);
    numbers::<bool>(table, "flag", &columns["flag"], None, |x| f64::from(u8::from(x)));
    numbers::<f64>(table, "score", &columns["score"], Some(99.0), |x| x);

    let labels = table.labels("label").unwrap();
    assert_eq!(&*labels.class_names().unwrap(), ["cat", "dog", "bird"]);
    assert_eq!(table.class_names("label"), labels.class_names());
    assert_eq!((table.class_names("text"), table.class_names("none")), (None, None));
    for (row, expected) in columns["label"].as_array().unwrap().iter().enumerate() {
        match expected.as_i64().unwrap() {
            -1 => {
                let error = labels.get(row).unwrap_err();
                let expected = "has the label -1, expected one below 3 as there are that many classes";
                assert_eq!(error.message(), format!("row {row} of column `label` {expected}"));
                assert_eq!(labels.clone().or_default(9).get(row).unwrap(), 9);
            }
            label => assert_eq!(i64::from(labels.get(row).unwrap()), label),
        }
    }
    let types: Vec<(&str, &str)> = table.schema().collect();
    assert_eq!(types[0], ("image", "struct<bytes: binary, path: string>, image"));
    assert_eq!(types[1], ("label", "i64, label of 3 classes"));
}
