//! Any bytes, taken for a CSV file after one that chooses how it is read, give the fields that the crate `csv` gives, as
//! text and as numbers, or an error where its rows are of several lengths, a quote is not closed or its fields are not what
//! they shall be.

use csv::{ByteRecord, ReaderBuilder};
use procession::Sequence;
use procession::source::{Csv, CsvValue};

pub(crate) fn check(bytes: &[u8]) {
    let Some((flags, file)) = bytes.split_first() else { return };
    let header = flags & 1 > 0;
    let delimiter = if flags & 2 > 0 { b'\t' } else { b',' };
    let table = Csv::options().header(header).delimiter(delimiter).from_bytes(file.to_vec(), "fuzzed");
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(file);
    let rows: Vec<ByteRecord> = reader.byte_records().map(|row| row.expect("any bytes have rows")).collect();
    let is_even = rows.windows(2).all(|pair| pair[0].len() == pair[1].len());
    let is_named =
        !header || rows.first().is_some_and(|names| names.iter().all(|name| std::str::from_utf8(name).is_ok()));
    // A row behind the end is one of its own, unless a quote takes it in.
    let longer = [file, b"\nx"].concat();
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(&*longer);
    let is_closed = reader.byte_records().count() > rows.len();
    let is_right = is_even && is_named && is_closed;
    match table {
        Ok(table) if is_right => agree(&table, header, &rows),
        Err(error) if !is_right => assert!(error.to_string().contains("fuzzed"), "{error} names the file"),
        table => panic!("got {table:?}, wanted {rows:?}"),
    }
}

fn agree(table: &Csv, header: bool, rows: &[ByteRecord]) {
    let num_columns = rows.first().map_or(0, ByteRecord::len);
    let names: Vec<String> = match (header, rows.first()) {
        (true, Some(row)) => row.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        _ => (0..num_columns).map(|column| column.to_string()).collect(),
    };
    assert!(table.names().eq(names.iter().map(String::as_str)));
    let rows = &rows[usize::from(header)..];
    assert_eq!(table.num_rows(), rows.len());
    for (column, name) in names.iter().enumerate() {
        let is_one = names.iter().filter(|other| *other == name).count() == 1;
        assert_eq!(table.column::<String>(name).is_ok(), is_one);
        if is_one {
            let fields: Vec<&[u8]> = rows.iter().map(|row| &row[column]).collect();
            let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
            agree_as::<String>(table, name, &fields, text);
            agree_as::<i32>(table, name, &fields, |field| text(field)?.trim_ascii().parse().ok());
            agree_as::<f64>(table, name, &fields, |field| {
                let text = text(field)?;
                let number: f64 = text.trim_ascii().parse().ok()?;
                (number.is_finite() || !text.contains(|c: char| c.is_ascii_digit())).then_some(number)
            });
        }
    }
}

fn agree_as<T: CsvValue + PartialOrd + std::fmt::Debug>(
    table: &Csv,
    name: &str,
    fields: &[&[u8]],
    value: impl Fn(&[u8]) -> Option<T>,
) {
    // What is not a number is not equal to itself.
    let same = |a: &T, b: &T| a == b || (a.partial_cmp(a).is_none() && b.partial_cmp(b).is_none());
    let column = table.column::<T>(name).expect("the name is there once");
    for (index, field) in fields.iter().enumerate() {
        match (column.get(index), value(field)) {
            (Ok(found), Some(expected)) => assert!(same(&found, &expected), "got {found:?}, wanted {expected:?}"),
            (Err(error), None) => assert!(error.to_string().contains("fuzzed"), "{error} names the file"),
            (found, expected) => panic!("got {found:?}, wanted {expected:?}"),
        }
    }
}
