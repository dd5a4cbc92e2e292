//! Tables as CSV, whose types are found in their fields.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use procession::image::ImageFormat;
use procession::source::{Csv, CsvOptions};
use procession::{Error, ErrorKind, Result, collate};

use crate::data::{Data, Part, data, field};
use crate::workload::{self, Column, MakeWorkload};

/// How many rows are looked at to find the types of the columns, about.
const MAX_LOOKED_AT: usize = 10_000;

/// How many bytes are looked at to see what the first row is.
const FIRST_ROW_BYTES: u64 = 1 << 24;

/// The part of a column's fields that must be of a type for the column to have it. The rest is what `verify` tells of: a
/// single wrong field does not turn numbers into text.
const MOST: f64 = 0.9;

/// Whether a file of comma-separated fields lists images: its first row is `path,label`, or the name of an image file and
/// a label.
pub(crate) fn lists_images(path: &Path) -> Result<bool> {
    let first = first_row(path, b',')?;
    let (Some(file), Some(label), 2) = (first.get(0), first.get(1), first.len()) else { return Ok(false) };
    let texts = [file, label].map(|text| String::from_utf8_lossy(text).trim().to_ascii_lowercase());
    if texts == ["path", "label"] {
        return Ok(true);
    }
    let extension = Path::new(&texts[0]).extension().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ImageFormat::EXTENSIONS.contains(&&*extension))
}

/// The fields of the first row; none if there is no row. Of a row that does not end, as a quote is not closed, no more than
/// a beginning is read: whoever opens the file refuses it.
fn first_row(path: &Path, delimiter: u8) -> Result<csv::ByteRecord> {
    let file = File::open(path).map_err(|cause| Error::from(cause).with_file(path))?;
    let mut first = csv::ByteRecord::new();
    reader(file.take(FIRST_ROW_BYTES), delimiter).read_byte_record(&mut first).map_err(of_csv(path))?;
    Ok(first)
}

fn reader<R: Read>(bytes: R, delimiter: u8) -> csv::Reader<R> {
    csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(bytes)
}

fn of_csv(path: &Path) -> impl Fn(csv::Error) -> Error + '_ {
    move |cause| match cause.into_kind() {
        csv::ErrorKind::Io(cause) => Error::from(cause).with_file(path),
        kind => Error::new(ErrorKind::Format, format!("not CSV: {kind:?}")).with_file(path),
    }
}

/// What the fields of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    I64,
    U64,
    F64,
    Text,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F64 => "f64",
            Self::Text => "text",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::I64 | Self::U64 | Self::F64)
    }
}

/// How many of a column's fields can be read as what. Fields that are empty are values that are missing, and count nowhere.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    fields: u64,
    truths: u64,
    signed: u64,
    unsigned: u64,
    numbers: u64,
}

impl Tally {
    fn add(&mut self, field: &[u8]) {
        let field = field.trim_ascii();
        if field.is_empty() {
            return;
        }
        self.fields += 1;
        let Ok(text) = std::str::from_utf8(field) else { return };
        self.truths += u64::from(["true", "false"].iter().any(|truth| text.eq_ignore_ascii_case(truth)));
        self.signed += u64::from(text.parse::<i64>().is_ok());
        self.unsigned += u64::from(text.parse::<u64>().is_ok());
        self.numbers += u64::from(text.parse::<f64>().is_ok());
    }

    fn kind(self) -> Kind {
        let most = |count: u64| count > 0 && count as f64 >= MOST * self.fields as f64;
        match self {
            _ if most(self.truths) => Kind::Bool,
            _ if !most(self.numbers) => Kind::Text,
            _ if self.signed == self.numbers => Kind::I64,
            _ if self.unsigned == self.numbers => Kind::U64,
            _ => Kind::F64,
        }
    }
}

/// A table: its columns have the types that most of their fields have.
pub(crate) fn open(path: &Path, delimiter: u8) -> Result<Data> {
    let options = Csv::options().delimiter(delimiter);
    let (csv, has_header) = open_csv(path, &options, delimiter)?;
    let names: Vec<String> = csv.names().map(str::to_owned).collect();
    let kinds = kinds(path, delimiter, has_header, names.len(), csv.num_rows())?;
    let of_kind = |test: &dyn Fn(Kind) -> bool| -> Vec<&str> {
        names.iter().zip(&kinds).filter(|&(_, &kind)| test(kind)).map(|(name, _)| name.as_str()).collect()
    };
    // A row is parsed for each of these, so columns of a type are one. Integers are checked as what holds all numbers: a
    // column with a fraction further down is one of fractions.
    let mut columns = Vec::new();
    let (numbers, truths) = (of_kind(&Kind::is_number), of_kind(&|kind| kind == Kind::Bool));
    if !numbers.is_empty() {
        columns.push(Column::new(csv.columns::<f64>(numbers)?.missing(0.0), collate::stack()));
    }
    if !truths.is_empty() {
        columns.push(Column::new(csv.columns::<bool>(truths)?.missing(false), collate::stack()));
    }
    for name in of_kind(&|kind| kind == Kind::Text) {
        columns.push(Column::new(csv.column::<String>(name)?, collate::stack()));
    }
    let (columns, num_rows): (Arc<[Column]>, _) = (columns.into(), csv.num_rows());
    let checked = Arc::clone(&columns);
    let workload: MakeWorkload = Arc::new(move || Ok(workload::table(num_rows, Arc::clone(&columns))));
    let fields = names.iter().zip(&kinds).map(|(name, kind)| field(name, kind.name())).collect();
    let part = Part {
        workload: Some(workload),
        ..Part::new("all", num_rows, fields, move |index| checked.iter().try_for_each(|column| column.check(index)))
    };
    let kind = if delimiter == b'\t' { "TSV table" } else { "CSV table" };
    let names = if has_header { "" } else { " without names of columns" };
    Ok(data(format!("{kind}{names}"), Vec::new(), vec![part]))
}

/// Opens a file, and says whether its first row has the names of the columns: numbers are no names.
fn open_csv(path: &Path, options: &CsvOptions, delimiter: u8) -> Result<(Csv, bool)> {
    let first = first_row(path, delimiter)?;
    let is_number = |field: &[u8]| std::str::from_utf8(field).is_ok_and(|text| text.trim().parse::<f64>().is_ok());
    let has_header = first.is_empty() || !first.iter().all(is_number);
    Ok((options.clone().header(has_header).open(path)?, has_header))
}

/// The types of the columns, by rows that are evenly spaced.
fn kinds(path: &Path, delimiter: u8, has_header: bool, num_columns: usize, num_rows: usize) -> Result<Vec<Kind>> {
    let step = num_rows.div_ceil(MAX_LOOKED_AT).max(1);
    let mut tallies = vec![Tally::default(); num_columns];
    let file = File::open(path).map_err(|cause| Error::from(cause).with_file(path))?;
    // Rows are no longer than the limit of the crate, and all have as many fields: the file was opened before.
    let (mut reader, mut record) = (reader(file, delimiter), csv::ByteRecord::new());
    if has_header {
        reader.read_byte_record(&mut record).map_err(of_csv(path))?;
    }
    let mut row = 0_usize;
    while reader.read_byte_record(&mut record).map_err(of_csv(path))? {
        if row.is_multiple_of(step) {
            tallies.iter_mut().zip(&record).for_each(|(tally, field)| tally.add(field));
        }
        row += 1;
    }
    Ok(tallies.into_iter().map(Tally::kind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_the_type_of_most_of_its_fields() {
        let kind = |fields: &[&str]| {
            let mut tally = Tally::default();
            fields.iter().for_each(|field| tally.add(field.as_bytes()));
            tally.kind()
        };
        assert_eq!(kind(&["1", "-2", "", " 3 "]), Kind::I64);
        assert_eq!(kind(&["18446744073709551615", "0"]), Kind::U64);
        assert_eq!(kind(&["18446744073709551615", "-1"]), Kind::F64);
        assert_eq!(kind(&["1", "2.5"]), Kind::F64);
        assert_eq!(kind(&["True", "false"]), Kind::Bool);
        assert_eq!([kind(&[]), kind(&["", " "]), kind(&["1", "x"])], [Kind::Text; 3]);
        let mut mostly = ["7"; 10];
        mostly[3] = "seven";
        assert_eq!((kind(&mostly), kind(&mostly[1..])), (Kind::I64, Kind::Text));
    }
}
