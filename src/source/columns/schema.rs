//! The columns of a table: their names, their types, and what Hugging Face's `datasets` says about them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Fields};
use serde_json::Value;

use super::blocks::damaged;
#[cfg(feature = "parquet")]
use super::lists::levels;
use crate::error::{Error, ErrorKind, Result};

/// One column.
#[derive(Debug, Clone)]
pub(crate) struct ColumnSchema {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// The type as text.
    pub(crate) type_name: String,
    pub(crate) feature: Option<Feature>,
}

/// What a column means, beyond the type of its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Feature {
    /// The names of the classes that the numbers stand for.
    Classes(Arc<[String]>),
    /// The extents of the arrays in the column, if all of them are fixed.
    Shape(Vec<usize>),
    /// Undecoded, of a kind that `datasets` would decode.
    Encoded(&'static str),
}

/// All columns.
#[derive(Debug, Clone)]
pub(crate) struct TableSchema {
    columns: Vec<ColumnSchema>,
}

impl TableSchema {
    pub(crate) fn new(fields: &Fields, features: &Features) -> Self {
        let columns = fields.iter().map(|field| {
            let feature = features.0.get(field.name()).cloned();
            let storage = type_name(field.data_type());
            let type_name = match &feature {
                Some(Feature::Classes(names)) => format!("{storage}, label of {} classes", names.len()),
                Some(Feature::Encoded(kind)) => format!("{storage}, {kind}"),
                Some(Feature::Shape(extents)) => format!("{storage}, array of {extents:?}"),
                None => storage,
            };
            ColumnSchema { name: field.name().clone(), data_type: field.data_type().clone(), type_name, feature }
        });
        Self { columns: columns.collect() }
    }

    pub(crate) fn columns(&self) -> &[ColumnSchema] {
        &self.columns
    }

    /// The column of that name.
    pub(crate) fn find(&self, name: &str) -> Result<usize> {
        let mut found = (0..self.columns.len()).filter(|&column| self.columns[column].name == name);
        match (found.next(), found.next()) {
            (Some(column), None) => Ok(column),
            (Some(_), Some(_)) => Err(Error::argument(format!("more than one column `{name}`, expected one"))),
            (None, _) => {
                let names: Vec<String> = self.columns.iter().take(30).map(|c| format!("`{}`", c.name)).collect();
                let more = if self.columns.len() > names.len() { ", .." } else { "" };
                Err(Error::argument(format!("no column `{name}`, expected one of {}{more}", names.join(", "))))
            }
        }
    }

    /// What keeps the rows of two files from being one table.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (self.columns(), other.columns());
        if ours.len() != theirs.len() {
            return Some(format!("{} columns, expected {}", theirs.len(), ours.len()));
        }
        let same =
            |a: &ColumnSchema, b: &ColumnSchema| a.name == b.name && type_name(&a.data_type) == type_name(&b.data_type);
        let (ours, theirs) = ours.iter().zip(theirs).find(|(ours, theirs)| !same(ours, theirs))?;
        let show = |column: &ColumnSchema| format!("`{}` of type {}", column.name, type_name(&column.data_type));
        Some(format!("column {}, expected {}", show(theirs), show(ours)))
    }
}

/// Features by the names of their columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Features(HashMap<String, Feature>);

impl Features {
    /// Those in the metadata `huggingface` of a schema.
    pub(crate) fn from_metadata(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json).map_err(|cause| damaged("the metadata `huggingface`", cause))?;
        Ok(Self::from_info(&value["info"]))
    }

    /// Those in the content of a `dataset_info.json`. What is not understood is passed over: it says nothing about how
    /// values are stored.
    pub(crate) fn from_info(info: &Value) -> Self {
        let columns = info["features"].as_object().into_iter().flatten();
        Self(columns.filter_map(|(name, value)| Some((name.clone(), feature(value)?))).collect())
    }

    /// Those of several files that are one table: the first file's, with the classes that only later ones name.
    ///
    /// A label is a place in a list of classes, so that files with different lists do not go together: each would be right
    /// by itself, and the labels of one of them wrong. The difference is an error with both files.
    pub(crate) fn of_all(files: Vec<(&Path, Self)>) -> Result<Self> {
        let mut all: Option<Self> = None;
        let mut told: HashMap<String, (&Path, Arc<[String]>)> = HashMap::new();
        for (path, features) in files {
            let all = all.get_or_insert_with(|| features.clone());
            for (name, feature) in &features.0 {
                let Feature::Classes(classes) = feature else { continue };
                let (first, expected) = told.entry(name.clone()).or_insert_with(|| (path, Arc::clone(classes)));
                if classes != expected {
                    let difference = class_difference(classes, expected);
                    let message = format!("classes of column `{name}` {difference} as in {}", first.display());
                    return Err(Error::new(ErrorKind::Format, message).with_file(path));
                }
                all.0.entry(name.clone()).or_insert_with(|| feature.clone());
            }
        }
        Ok(all.unwrap_or_default())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Extents that the types of another schema fix.
    #[cfg(feature = "parquet")]
    pub(crate) fn add_fixed(&mut self, fields: &Fields) {
        for field in fields {
            let (levels, _) = levels(field.data_type());
            let extents: Option<Vec<usize>> = levels.iter().map(|len| usize::try_from((*len)?).ok()).collect();
            if let Some(extents) = extents.filter(|extents| !extents.is_empty()) {
                self.0.entry(field.name().clone()).or_insert(Feature::Shape(extents));
            }
        }
    }
}

/// In what lists of classes differ: the first that is another one, or their number.
fn class_difference(found: &[String], expected: &[String]) -> String {
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        Some(at) => format!("with `{}` as number {at}, expected `{}`", found[at], expected[at]),
        None => format!("are {}, expected {}", found.len(), expected.len()),
    }
}

fn feature(value: &Value) -> Option<Feature> {
    match value["_type"].as_str()? {
        "ClassLabel" => {
            let names = value["names"].as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
            Some(Feature::Classes(names.collect::<Option<Vec<_>>>()?.into()))
        }
        "Image" => Some(Feature::Encoded("image")),
        "Audio" => Some(Feature::Encoded("audio")),
        "Video" => Some(Feature::Encoded("video")),
        "Array2D" | "Array3D" | "Array4D" | "Array5D" => {
            let extents = value["shape"].as_array()?.iter().map(extent);
            extents.collect::<Option<Vec<_>>>().map(Feature::Shape)
        }
        "Sequence" | "List" | "LargeList" => lists(value).map(Feature::Shape),
        _ => None,
    }
}

fn extent(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|extent| usize::try_from(extent).ok())
}

/// The extents of lists within lists, all of a fixed length.
fn lists(value: &Value) -> Option<Vec<usize>> {
    match value["_type"].as_str()? {
        "Sequence" | "List" | "LargeList" => {
            let len = extent(&value["length"])?;
            let inner = lists(&value["feature"])?;
            Some([vec![len], inner].concat())
        }
        "Value" => Some(Vec::new()),
        _ => None,
    }
}

/// A type as text: `i64`, `list<f32>`, `struct<bytes: binary, path: string>`.
pub(crate) fn type_name(data_type: &DataType) -> String {
    use DataType as D;
    let simple = match data_type {
        D::Null => "null",
        D::Boolean => "bool",
        D::Int8 => "i8",
        D::Int16 => "i16",
        D::Int32 => "i32",
        D::Int64 => "i64",
        D::UInt8 => "u8",
        D::UInt16 => "u16",
        D::UInt32 => "u32",
        D::UInt64 => "u64",
        D::Float16 => "f16",
        D::Float32 => "f32",
        D::Float64 => "f64",
        D::Utf8 | D::LargeUtf8 | D::Utf8View => "string",
        D::Binary | D::LargeBinary | D::BinaryView => "binary",
        // They count in different units, and are read as different integers.
        D::Date32 => "date",
        D::Date64 => "date(ms)",
        D::FixedSizeBinary(len) => return format!("binary<{len}>"),
        D::List(item) | D::LargeList(item) => return format!("list<{}>", type_name(item.data_type())),
        D::FixedSizeList(item, len) => return format!("list<{}; {len}>", type_name(item.data_type())),
        D::Dictionary(_, value) => return format!("dictionary<{}>", type_name(value)),
        D::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}: {}", field.name(), type_name(field.data_type()))).collect();
            return format!("struct<{}>", fields.join(", "));
        }
        other => return other.to_string().to_lowercase(),
    };
    simple.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::Field;

    fn schema(fields: Vec<Field>) -> TableSchema {
        TableSchema::new(&fields.into(), &Features::default())
    }

    #[test]
    fn types_have_short_names() {
        let f32s = Arc::new(Field::new("item", DataType::Float32, true));
        let image = vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
        for (data_type, expected) in [
            (DataType::Int64, "i64"),
            (DataType::LargeUtf8, "string"),
            (DataType::FixedSizeBinary(3), "binary<3>"),
            (DataType::List(Arc::clone(&f32s)), "list<f32>"),
            (DataType::FixedSizeList(f32s, 4), "list<f32; 4>"),
            (DataType::Struct(image.into()), "struct<bytes: binary, path: string>"),
            (DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), "dictionary<string>"),
            (DataType::Date32, "date"),
            (DataType::Date64, "date(ms)"),
            (DataType::Timestamp(arrow_schema::TimeUnit::Second, None), "timestamp(s)"),
        ] {
            assert_eq!(type_name(&data_type), expected);
        }
    }

    #[test]
    fn features_say_what_columns_mean() {
        let json = r#"{"info": {"features": {
            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
            "image": {"_type": "Image"},
            "matrix": {"shape": [2, 3], "dtype": "float32", "_type": "Array2D"},
            "any": {"shape": [null, 3], "dtype": "float32", "_type": "Array2D"},
            "fixed": {"feature": {"feature": {"dtype": "i8", "_type": "Value"}, "length": 4, "_type": "List"},
                      "length": 5, "_type": "Sequence"},
            "free": {"feature": {"dtype": "i8", "_type": "Value"}, "length": -1, "_type": "List"},
            "odd": [1, 2], "new": {"_type": "Hologram"}, "text": {"dtype": "string", "_type": "Value"}}}}"#;
        let features = Features::from_metadata(json).unwrap().0;
        assert_eq!(features["label"], Feature::Classes(["cat".to_owned(), "dog".to_owned()].into()));
        assert_eq!(features["image"], Feature::Encoded("image"));
        assert_eq!(features["matrix"], Feature::Shape(vec![2, 3]));
        assert_eq!(features["fixed"], Feature::Shape(vec![5, 4]));
        assert_eq!(features.len(), 4);
        assert!(Features::from_metadata("{}").unwrap().is_empty());
        assert!(
            Features::from_metadata("{").unwrap_err().message().starts_with("the metadata `huggingface` is damaged")
        );
    }

    #[test]
    fn a_column_has_one_name() {
        let field = |name: &str| Field::new(name, DataType::Int8, true);
        let table = schema(vec![field("a"), field("b"), field("a")]);
        assert_eq!(table.find("b").unwrap(), 1);
        assert_eq!(table.find("a").unwrap_err().message(), "more than one column `a`, expected one");
        assert_eq!(table.find("c").unwrap_err().message(), "no column `c`, expected one of `a`, `b`, `a`");
    }

    #[test]
    fn files_differ_in_a_column() {
        let one = schema(vec![Field::new("a", DataType::Int8, true)]);
        let dates = schema(vec![Field::new("a", DataType::Date32, true)]);
        let milliseconds = schema(vec![Field::new("a", DataType::Date64, true)]);
        assert!(dates.difference(&milliseconds).is_some());
        let same = schema(vec![Field::new("a", DataType::Int8, false)]);
        let other = schema(vec![Field::new("a", DataType::Int16, true)]);
        assert_eq!(one.difference(&same), None);
        assert_eq!(one.difference(&other).unwrap(), "column `a` of type i16, expected `a` of type i8");
        assert_eq!(one.difference(&schema(vec![])).unwrap(), "0 columns, expected 1");
    }

    #[test]
    fn files_differ_in_their_classes() {
        let features = |classes: &[&str]| {
            let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
            Features(HashMap::from([("label".to_owned(), Feature::Classes(classes.into()))]))
        };
        let [a, b, c] = ["a", "b", "c"].map(Path::new);
        let message = |classes: &[&str]| {
            let files = vec![(a, Features::default()), (b, features(&["cat", "dog"])), (c, features(classes))];
            let error = Features::of_all(files).unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(c)));
            error.message().to_owned()
        };
        let expected = "classes of column `label` with `dog` as number 0, expected `cat` as in b";
        assert_eq!(message(&["dog", "cat"]), expected);
        assert_eq!(message(&["cat", "dog", "bird"]), "classes of column `label` are 3, expected 2 as in b");
        // What only some of them name holds for all.
        let files = vec![(a, Features::default()), (b, features(&["cat"])), (c, Features::default())];
        assert_eq!(Features::of_all(files).unwrap().0, features(&["cat"]).0);
    }
}
