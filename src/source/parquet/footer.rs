//! The footer of a Parquet file, checked before the parquet crate takes it.
//!
//! Source: the Parquet format (<https://github.com/apache/parquet-format>). The magic `PAR1`, the pages, the footer, its
//! length as a little-endian `u32`, and the magic once more.

use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::Type;

use super::grammar;
use super::thrift::{Compact, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::source::arrow::schema_of_message;
use crate::source::columns::{Features, damaged};

const MAGIC: &[u8] = b"PAR1";

/// How deep columns may be nested. A list takes two levels.
const MAX_DEPTH: usize = 64;

fn format(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Format, message)
}

/// Parses the footer of a file.
pub(super) fn parse(bytes: &[u8]) -> Result<ParquetMetaData> {
    let footer = find(bytes)?;
    check(footer)?;
    let metadata = ParquetMetaDataReader::decode_metadata(footer);
    let metadata = metadata.map_err(|cause| damaged("the footer of the Parquet file", cause))?;
    let mut num_rows = 0_i64;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = Some(group.num_rows()).filter(|&rows| rows >= 0).and_then(|rows| num_rows.checked_add(rows));
        num_rows = rows.ok_or_else(|| format(format!("row group {number} of {} rows", group.num_rows())))?;
        if let Some(column) =
            group.columns().iter().find(|column| column.file_path().is_some_and(|path| !path.is_empty()))
        {
            let path = column.column_path();
            return Err(format(format!(
                "column `{path}` of row group {number} in another file, expected it in this one"
            )));
        }
    }
    let expected = metadata.file_metadata().num_rows();
    if num_rows != expected {
        return Err(format(format!("{num_rows} rows in all row groups, expected {expected} as the footer says")));
    }
    Ok(metadata)
}

fn find(bytes: &[u8]) -> Result<&[u8]> {
    if bytes.starts_with(b"ARROW1") {
        return Err(format("an Arrow file, expected a Parquet file"));
    }
    if bytes.starts_with(b"PARE") || bytes.ends_with(b"PARE") {
        return Err(format("a Parquet file that is encrypted, expected one that is not"));
    }
    if !bytes.starts_with(MAGIC) {
        return Err(format("a file that does not start with PAR1, expected a Parquet file"));
    }
    let Some((rest, &[a, b, c, d, ref magic @ ..])) = bytes[MAGIC.len()..].split_last_chunk::<8>() else {
        return Err(format(format!("a Parquet file of {} bytes, expected at least 12", bytes.len())));
    };
    if magic != MAGIC {
        return Err(format("a Parquet file that does not end in PAR1: cut off"));
    }
    let len = u32::from_le_bytes([a, b, c, d]);
    let start = usize::try_from(len).ok().and_then(|len| rest.len().checked_sub(len));
    let start = start.ok_or_else(|| {
        format(format!("a Parquet file with a footer of {len} bytes, of which {} are present", rest.len()))
    })?;
    Ok(&rest[start..])
}

/// Checks what the crate would take on trust: of what types fields are, how many children a column says it has, and how
/// many row groups and pairs of metadata there are (room for them is made at once), how deep columns are nested (they are
/// parsed by recursion), and lists of values without bytes.
fn check(footer: &[u8]) -> Result<()> {
    let walked = grammar::FILE.walk(&mut Compact::new(footer), |walk, id, _| match id {
        2 => check_schema(walk).map(|()| true),
        _ => Ok(false),
    });
    walked.map_err(in_footer)
}

fn in_footer(error: Error) -> Error {
    format(format!("the footer of the Parquet file is damaged: {}", error.message()))
}

fn check_schema(walk: &mut Compact<'_>) -> Result<()> {
    let (kind, num_elements) = walk.list()?;
    if kind != Kind::STRUCT {
        return Err(format("a schema that is no list of columns"));
    }
    // How many children are still to come, for each of the columns that the next one is in.
    let mut open: Vec<usize> = Vec::new();
    for at in 0..num_elements {
        let num_children = num_children(walk)?;
        if num_children > num_elements - at - 1 {
            return Err(format(format!(
                "a column of {num_children} columns, of which {} are present",
                num_elements - at - 1
            )));
        }
        if let Some(siblings) = open.last_mut() {
            *siblings -= 1;
        }
        if num_children > 0 {
            open.push(num_children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > MAX_DEPTH {
            return Err(format(format!("columns nested deeper than {MAX_DEPTH}")));
        }
    }
    Ok(())
}

/// How many children a column says it has. Each column has to have a name, which is what makes it more than a byte.
fn num_children(walk: &mut Compact<'_>) -> Result<usize> {
    let mut num_children = 0;
    grammar::SCHEMA_ELEMENT.walk(walk, |walk, id, _| {
        if id == 5 {
            num_children = walk.i32()?;
        }
        Ok(id == 5)
    })?;
    usize::try_from(num_children).map_err(|_| format(format!("a column of {num_children} columns")))
}

/// Columns are found by the values in them: one without any would take the place of the next.
fn check_fields(column: &Type) -> Result<()> {
    fn is_empty(column: &Type) -> bool {
        column.is_group()
            && (column.get_fields().is_empty() || column.get_fields().iter().any(|within| is_empty(within)))
    }
    match column.get_fields().iter().find(|column| is_empty(column)) {
        Some(column) => {
            Err(format(format!("column `{}` holds a struct without fields, expected one at least", column.name())))
        }
        None => Ok(()),
    }
}

/// The columns as they are read, and what is said about them beside.
pub(super) fn columns(metadata: &ParquetMetaData) -> Result<(Fields, Features)> {
    let file = metadata.file_metadata();
    check_fields(file.schema_descr().root_schema())?;
    let schema = parquet_to_arrow_schema(file.schema_descr(), None);
    let schema = schema.map_err(|cause| damaged("the schema of the Parquet file", cause))?;
    let fields = schema.fields().iter().map(|field| as_views(field)).collect();

    let entry = |key: &str| file.key_value_metadata()?.iter().find(|pair| pair.key == key)?.value.as_deref();
    // What wrote the file may have had types that Parquet has not, such as lists of a fixed length. Where that cannot be
    // read, the file is as good without.
    let written: Option<Schema> =
        entry("ARROW:schema").and_then(from_base64).and_then(|message| schema_of_message(&message).ok());
    let json =
        entry("huggingface").or(written.as_ref().and_then(|schema| Some(&**schema.metadata().get("huggingface")?)));
    let mut features = json.map(Features::from_metadata).transpose()?.unwrap_or_default();
    if let Some(written) = written {
        features.add_fixed(written.fields());
    }
    Ok((fields, features))
}

/// The same field with strings and binary values as views: those share the memory of pages, be it that of a dictionary
/// whose values occur many times.
fn as_views(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(item) => DataType::List(as_views(item).into()),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| as_views(field)).collect()),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}

/// Source: RFC 4648, section 4.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut num_bits) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        num_bits += 6;
        if num_bits >= 8 {
            num_bits -= 8;
            bytes.push((bits >> num_bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_64_letters_is_bytes() {
        for (text, expected) in [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("Zm9vYg", b"foob")]
        {
            assert_eq!(from_base64(text).unwrap(), expected);
        }
        assert_eq!(from_base64("+/8=").unwrap(), [0xfb, 0xff]);
        assert_eq!(from_base64("Zm 9"), None);
    }

    /// A footer with a schema of columns that say how many columns they have.
    fn footer(children: &[i32]) -> Vec<u8> {
        let mut bytes = vec![0x29, 0xfc];
        let varint = |mut value: u32| {
            let mut out = Vec::new();
            while value >= 0x80 {
                out.push(value as u8 | 0x80);
                value >>= 7;
            }
            out.push(value as u8);
            out
        };
        bytes.extend(varint(children.len() as u32));
        for &num in children {
            // An empty name.
            bytes.extend([0x48, 0, 0x15]);
            bytes.extend(varint((num << 1 ^ num >> 31) as u32));
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn columns_are_counted() {
        check(&footer(&[2, 0, 1, 0])).unwrap();
        check(&footer(&[1; MAX_DEPTH].into_iter().chain([0]).collect::<Vec<_>>())).unwrap();
        let message = |children: &[i32]| check(&footer(children)).unwrap_err().message().to_owned();
        let damaged = "the footer of the Parquet file is damaged: ";
        assert_eq!(message(&[i32::MAX, 0]), format!("{damaged}a column of 2147483647 columns, of which 1 are present"));
        assert_eq!(message(&[-1]), format!("{damaged}a column of -1 columns"));
        let deep = [vec![1; 100_000], vec![0]].concat();
        assert_eq!(message(&deep), format!("{damaged}columns nested deeper than {MAX_DEPTH}"));
    }

    #[test]
    fn elements_are_what_they_take_room_for() {
        let message = |bytes: &[u8]| check(bytes).unwrap_err().message().to_owned();
        let damaged = "the footer of the Parquet file is damaged: ";
        // The list of row groups, of pairs and of columns: many structures of a byte each.
        for (field, expected) in [
            (0x49, "row group 0: no field 1, which each has to have"),
            (0x59, "pair of metadata 0: no field 1, which each has to have"),
            (0x29, "no field 4, which each has to have"),
        ] {
            let empty = [&[field, 0xfc, 0xe8, 0x07][..], &[0; 1001]].concat();
            assert_eq!(message(&empty), format!("{damaged}{expected}"));
        }
        let group = |columns: &[u8]| [&[0x49, 0x1c, 0x19][..], columns, &[0x16, 0, 0x16, 0, 0, 0]].concat();
        check(&group(&[0x0c])).unwrap();
        check(&group(&[0x1c, 0x26, 0, 0x1c, 0, 0])).unwrap();
        let expected = format!("{damaged}row group 0: column 1: no field 2, which each has to have");
        assert_eq!(message(&group(&[0x2c, 0x26, 0, 0x1c, 0, 0, 0])), expected);
        check(&[0x59, 0x1c, 0x18, 1, b'k', 0, 0]).unwrap();
        assert_eq!(message(&[0x49, 0x15, 2, 0]), format!("{damaged}a list that is none of a row group each"));
        // The crate goes by the numbers of fields: this one, a string for whoever goes by types, is a number for it, and what
        // is in the string a list of row groups of a byte each.
        let hidden = [&[0x38, 13, 0x19, 0xfc, 0xe8, 0x07][..], &[0; 10]].concat();
        assert_eq!(message(&hidden), format!("{damaged}field 3 of a footer is of another type than the format says"));
        // The same within a column's metadata, at its encodings.
        let column = [0x1c, 0x26, 0, 0x1c, 0x25, 0, 0, 0];
        let expected = "row group 0: column 0: field 2 of a column's metadata is of another type than the format says";
        assert_eq!(message(&group(&column)), format!("{damaged}{expected}"));
        assert_eq!(
            message(&[0x45, 2, 0]),
            format!("{damaged}field 4 of a footer is of another type than the format says")
        );
    }
}
