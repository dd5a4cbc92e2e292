//! Columns of a table beside the arrays that another reader made of the same file.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_schema::DataType;
use procession::Sequence;
use procession::source::{ColumnElement, Table};

/// No more rows are compared: a batch without columns, or of nulls alone, can have any number.
pub(crate) const MAX_ROWS: usize = 64;

/// One column of a batch, and the row of the table that it starts with.
pub(crate) struct Plain<'a> {
    pub(crate) array: &'a dyn Array,
    pub(crate) name: &'a str,
    pub(crate) first: usize,
}

impl Plain<'_> {
    /// Compares the rows with those of a view: a null is an error, anything else the same value.
    fn agree<S: Sequence>(&self, view: procession::Result<S>, same: impl Fn(&S::Sample, usize) -> bool) {
        // Names that are not unique are refused.
        let Ok(view) = view else { return };
        for at in 0..self.array.len().min(MAX_ROWS) {
            match view.get(self.first + at) {
                Ok(value) => assert!(!self.array.is_null(at) && same(&value, at), "row {at} of {}", self.name),
                Err(error) => {
                    check_error(&error);
                    // Every part of a batch is checked, and a column is refused because of another one.
                    let is_damaged = error.message().contains("damaged");
                    assert!(is_damaged || self.array.is_null(at), "row {at} of {}: {error}", self.name);
                }
            }
        }
    }

    fn numbers<T: ColumnElement + PartialOrd>(&self, table: &Table, values: &[T]) {
        self.agree(table.column::<T>(self.name), |&value, at| equal(value, values[at]));
    }

    fn lists<T: ColumnElement + PartialOrd>(&self, table: &Table, of: impl Fn(usize) -> Vec<T>) {
        let Ok(view) = table.rows::<T>(self.name) else { return };
        for at in 0..self.array.len().min(MAX_ROWS) {
            // An error is a null, in the list or of it.
            if let Ok(row) = view.get(self.first + at) {
                let expected = of(at);
                assert!(!self.array.is_null(at) && row.len() == expected.len());
                assert!(row.iter().zip(expected).all(|(&a, b)| equal(a, b)), "row {at} of {}", self.name);
            }
        }
    }
}

/// What is not a number is not equal to itself.
fn equal<T: PartialOrd>(a: T, b: T) -> bool {
    a == b || (a.partial_cmp(&a).is_none() && b.partial_cmp(&b).is_none())
}

pub(crate) fn compare(table: &Table, column: &Plain<'_>) {
    macro_rules! numbers {
        ($arrow:ident) => {
            column.numbers(table, column.array.as_primitive::<$arrow>().values())
        };
    }
    let array = column.array;
    let name = column.name;
    match array.data_type() {
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        DataType::UInt32 => numbers!(UInt32Type),
        DataType::UInt64 => numbers!(UInt64Type),
        DataType::Float32 => numbers!(Float32Type),
        DataType::Float64 => numbers!(Float64Type),
        DataType::Boolean => column.agree(table.column::<bool>(name), |&bit, at| bit == array.as_boolean().value(at)),
        DataType::Utf8 => column.agree(table.strings(name), |text, at| text == array.as_string::<i32>().value(at)),
        DataType::LargeUtf8 => column.agree(table.strings(name), |text, at| text == array.as_string::<i64>().value(at)),
        DataType::Utf8View => column.agree(table.strings(name), |text, at| text == array.as_string_view().value(at)),
        DataType::Binary => column.agree(table.blobs(name), |blob, at| **blob == *array.as_binary::<i32>().value(at)),
        DataType::BinaryView => column.agree(table.blobs(name), |blob, at| **blob == *array.as_binary_view().value(at)),
        DataType::List(item) if item.data_type() == &DataType::Float32 => {
            let lists = array.as_list::<i32>();
            column.lists(table, |at| lists.value(at).as_primitive::<Float32Type>().values().to_vec());
        }
        DataType::FixedSizeList(item, _) if item.data_type() == &DataType::Int16 => {
            let lists = array.as_fixed_size_list();
            column.lists(table, |at| lists.value(at).as_primitive::<Int16Type>().values().to_vec());
        }
        DataType::Dictionary(key, value) if (&**key, &**value) == (&DataType::Int32, &DataType::Utf8) => {
            let Some(dictionary) = array.as_dictionary::<Int32Type>().downcast_dict::<arrow_array::StringArray>()
            else {
                return;
            };
            let strings = dictionary.values();
            let keys = dictionary.keys();
            let Ok(view) = table.strings(name) else { return };
            for at in 0..array.len().min(MAX_ROWS) {
                // A null may also be in the dictionary.
                if let Ok(text) = view.get(column.first + at) {
                    assert_eq!(text, strings.value(keys.value(at) as usize));
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn check_error(error: &procession::Error) {
    assert!(error.to_string().contains("fuzzed"), "{error} names the file");
}

/// Asks for the first rows of a column, and the last, in every way. Returns how many ways gave all of them.
pub(crate) fn touch(table: &Table, name: &str) -> usize {
    fn rows<S: Sequence>(view: procession::Result<S>) -> usize {
        let Ok(view) = view else { return 0 };
        let last = view.len().checked_sub(1);
        let mut is_whole = 1;
        for row in (0..view.len().min(MAX_ROWS)).chain(last) {
            if let Err(error) = view.get(row) {
                check_error(&error);
                is_whole = 0;
            }
        }
        is_whole
    }
    // As a loader does, before any sample.
    table.rows::<f32>(name).map(|rows| rows.layout()).ok();
    rows(table.column::<i32>(name).map(|column| column.or_default(7)))
        + rows(table.column::<i64>(name))
        + rows(table.column::<f32>(name))
        + rows(table.column::<bool>(name))
        + rows(table.rows::<f32>(name))
        + rows(table.rows::<i16>(name).map(|rows| rows.or_default(7)))
        + rows(table.rows::<bool>(name))
        + rows(table.strings(name).map(|strings| strings.or_default("none")))
        + rows(table.blobs(name).map(|blobs| blobs.or_default(&b"none"[..])))
        + rows(table.labels(name))
}
