//! CSV files: tables with typed columns.
//!
//! Source: [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180), as the crate `csv` reads it: lines end in any way, empty
//! ones are passed over, and a quote that does not begin a field is a character like others.

mod labels;
pub(super) mod table;
mod value;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array1, Ix1};

pub use self::labels::CsvLabels;
use self::table::{Fields, Parser, Places, rows};
pub use self::value::CsvValue;
use super::mapped::Mapped;
use super::{array_layout, array_row};
use crate::batch::stack::{Element, Row, Stack};
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

/// How a CSV file is opened.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    delimiter: u8,
    header: bool,
    limit_bytes: usize,
    in_memory: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', header: true, limit_bytes: 16 << 20, in_memory: false }
    }
}

impl CsvOptions {
    /// What stands between fields, an ASCII character. The default is a comma; `b'\t'` reads files of that kind.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Whether the first row has the names of the columns, which is the default. Otherwise it is a row like others, and
    /// the columns are named `0`, `1` and so on.
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// The most bytes that a row may have; a longer one is an error. The default is 16 MiB: a quote that is not closed
    /// makes a row of all that follows.
    pub fn limit_bytes(mut self, limit_bytes: usize) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Whether the file is read into memory instead of mapped; see [`Mapped`] for when that is better. The default is
    /// `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens a file, as [`Csv::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Csv::open`]; and of kind [`Argument`](ErrorKind::Argument) if the delimiter is not ASCII, a quote or an end of
    /// a line.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Csv> {
        self.scan(if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
    }

    /// Takes the bytes of a file, as [`Csv::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Csv> {
        self.scan(Mapped::from_bytes(bytes, name))
    }

    fn scan(&self, bytes: Mapped) -> Result<Csv> {
        if !self.delimiter.is_ascii() || matches!(self.delimiter, b'"' | b'\n' | b'\r') {
            let delimiter = char::from(self.delimiter);
            return Err(Error::argument(format!("delimiter {delimiter:?}, expected another ASCII character")));
        }
        let path = bytes.path().to_owned();
        Table::new(bytes, self).map(|table| Csv { table: Arc::new(table) }).map_err(|error| error.with_file(path))
    }
}

/// What all columns share.
struct Table {
    bytes: Mapped,
    delimiter: u8,
    // Invariant: each row has `names.len()` fields.
    places: Places,
    /// How many of the rows are the header.
    skipped: usize,
    // Invariant: UTF-8.
    names: Fields,
}

impl Table {
    fn new(bytes: Mapped, options: &CsvOptions) -> Result<Self> {
        let mut parser = Parser::new(options.delimiter);
        let (places, num_columns) = rows(&bytes, &mut parser, options.limit_bytes)?;
        let mut table = Self { bytes, delimiter: options.delimiter, places, skipped: 0, names: Fields::default() };
        if !options.header {
            (0..num_columns).for_each(|column| table.names.push(column.to_string().as_bytes()));
            return Ok(table);
        }
        if table.places.len() == 0 {
            return Err(Error::new(ErrorKind::Format, "no row in the file, expected the names of the columns"));
        }
        let mut names = Fields::default();
        names.read(&mut parser, table.places.row(&table.bytes, 0), num_columns);
        if let Some(column) = (0..num_columns).find(|&column| std::str::from_utf8(names.get(column)).is_err()) {
            let message = format!("name of column {column} is not UTF-8, expected text");
            return Err(Error::new(ErrorKind::Format, message));
        }
        Ok(Self { skipped: 1, names, ..table })
    }

    fn num_rows(&self) -> usize {
        self.places.len() - self.skipped
    }

    fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.names.len()).map(|column| std::str::from_utf8(self.names.get(column)).unwrap_or_default())
    }

    fn column(&self, name: &str) -> Result<usize> {
        const MOST_NAMES: usize = 20;

        let mut found = (0..).zip(self.names()).filter(|(_, other)| *other == name).map(|(column, _)| column);
        let message = match (found.next(), found.next()) {
            (Some(column), None) => return Ok(column),
            (Some(first), Some(second)) => {
                format!("columns {first} and {second} are both named {name:?}, expected one")
            }
            (None, _) => {
                let names: Vec<&str> = self.names().take(MOST_NAMES).collect();
                let more = if self.names.len() > MOST_NAMES { " and others" } else { "" };
                format!("no column {name:?}, expected one of {}{more}", names.join(", "))
            }
        };
        Err(Error::argument(message).with_file(self.bytes.path()))
    }

    /// Reads the fields of a row.
    fn with_fields<R>(&self, index: usize, read: impl FnOnce(&Fields) -> Result<R>) -> Result<R> {
        thread_local! {
            // Kept, so that a row takes no memory of its own: for each delimiter a parser, and the fields of a row.
            static READERS: RefCell<Vec<(Parser, Fields)>> = RefCell::default();
        }

        check_index(index, self.num_rows());
        READERS.with_borrow_mut(|readers| {
            let known = readers.iter().position(|(parser, _)| parser.delimiter() == self.delimiter);
            let at = known.unwrap_or_else(|| {
                readers.push((Parser::new(self.delimiter), Fields::default()));
                readers.len() - 1
            });
            let (parser, fields) = &mut readers[at];
            fields.read(parser, self.places.row(&self.bytes, index + self.skipped), self.names.len());
            read(fields)
        })
    }

    /// Reads one field as a value.
    #[inline]
    fn value<T: CsvValue>(&self, index: usize, field: &[u8], column: usize, missing: Option<&T>) -> Result<T> {
        match (std::str::from_utf8(field), missing) {
            (Ok(text), Some(missing)) if text.trim_ascii().is_empty() => Ok(missing.clone()),
            (Ok(text), _) => T::parse(text).ok_or_else(|| self.wrong::<T>(index, text, column)),
            (Err(cause), _) => {
                let message = format!("{} is not UTF-8, expected {}", self.place(index, column), T::EXPECTED);
                Err(self.at(index, message).with_cause(cause))
            }
        }
    }

    #[cold]
    fn wrong<T: CsvValue>(&self, index: usize, text: &str, column: usize) -> Error {
        let place = self.place(index, column);
        if text.trim_ascii().is_empty() && !T::MAY_BE_EMPTY {
            let message = format!("{place} is empty, expected {}, or a value for what is missing", T::EXPECTED);
            return self.at(index, message);
        }
        self.refused(index, text.as_bytes(), column, T::EXPECTED)
    }

    /// The error for a field that is not what it shall be.
    #[cold]
    fn refused(&self, index: usize, field: &[u8], column: usize, expected: &str) -> Error {
        const CHARS: usize = 40;

        let text = String::from_utf8_lossy(field);
        let more = if text.chars().nth(CHARS).is_some() { ".." } else { "" };
        let shown: String = text.chars().take(CHARS).collect();
        self.at(index, format!("{} is {shown:?}{more}, expected {expected}", self.place(index, column)))
    }

    fn place(&self, index: usize, column: usize) -> String {
        let name = std::str::from_utf8(self.names.get(column)).unwrap_or_default();
        let line = self.places.lines.line(&self.bytes, self.places.start(index + self.skipped));
        format!("column {name:?} of the row from line {line} on")
    }

    fn at(&self, index: usize, message: String) -> Error {
        Error::new(ErrorKind::Format, message).with_index(index as u64).with_file(self.bytes.path())
    }
}

/// A CSV file: rows of fields, in columns with names.
///
/// The file is mapped; fields are read as numbers, truth values or text when a sample is loaded. Cheap to clone: clones
/// share the bytes. It becomes sequences by [`column`](Self::column) and [`columns`](Self::columns).
///
/// # Cost
///
/// Opening reads the file once from its beginning to its end, to find the rows, since a line may end within quotes, and to
/// see that each has as many fields. Their places take 4 bytes a row. A thread that loads samples keeps memory for one row.
/// That a field is not what it shall be costs no more in a large file than in a small one.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::source::Csv;
/// use procession::{Sequence, SequenceExt};
///
/// let text = "width,height,name,label\n1.5,2,\"a, b\",0\n2.5,,c,1\n";
/// let csv = Csv::from_bytes(text.as_bytes(), "table.csv")?;
/// let x = csv.columns::<f32>(["width", "height"])?.missing(0.0);
/// let pairs = x.zip(csv.column::<u32>("label")?)?;
/// assert_eq!(pairs.get(1)?, (array![2.5, 0.0], 1));
/// assert_eq!(csv.column::<String>("name")?.get(0)?, "a, b");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct Csv {
    table: Arc<Table>,
}

impl Csv {
    /// Opens a file whose first row has the names of the columns, and finds its rows.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be read; [`Format`](ErrorKind::Format) if it has no row,
    /// names that are not UTF-8, a row with more or less fields than the first, or a quote that is not closed, with the line;
    /// [`Limit`](ErrorKind::Limit) if a row is longer than the limit, or there is not enough memory for the places.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Takes the bytes of a file and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes(bytes, name)
    }

    /// Options to open a file with.
    pub fn options() -> CsvOptions {
        CsvOptions::default()
    }

    /// The number of rows, the header not counted.
    pub fn num_rows(&self) -> usize {
        self.table.num_rows()
    }

    /// The names of the columns, in the order of the file.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.table.names()
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.table.bytes.path()
    }

    /// The values of one column: plain numbers, truth values or strings, as [`CsvValue`] says.
    ///
    /// # Errors
    ///
    /// If there is no column of this name, or more than one: an error of kind [`Argument`](ErrorKind::Argument), with the
    /// file.
    pub fn column<T: CsvValue>(&self, name: &str) -> Result<CsvColumn<T>> {
        Ok(CsvColumn { table: Arc::clone(&self.table), column: self.table.column(name)?, missing: None })
    }

    /// The numbers of classes in a column of their names: the place of each name among those given, so that all files of a
    /// data set number them in the same way. Spaces around a name do not count.
    ///
    /// # Errors
    ///
    /// As [`column`](Self::column); and of kind [`Argument`](ErrorKind::Argument) if there are no classes, or two of the same
    /// name.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::Sequence;
    /// use procession::source::Csv;
    ///
    /// let csv = Csv::from_bytes(&b"file,animal\n1.jpg,dog\n2.jpg,cat\n3.jpg,god\n"[..], "table.csv")?;
    /// let labels = csv.labels("animal", ["cat", "dog"])?;
    /// assert_eq!((labels.get(0)?, labels.get(1)?), (1, 0));
    /// assert!(labels.get(2).is_err()); // with the line and the name
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn labels(&self, name: &str, classes: impl IntoIterator<Item = impl Into<String>>) -> Result<CsvLabels> {
        CsvLabels::new(Arc::clone(&self.table), self.table.column(name)?, classes)
    }

    /// The values of several columns, in the order in which they are named: `Array1<T>`, `(columns)`.
    ///
    /// # Errors
    ///
    /// As [`column`](Self::column).
    pub fn columns<T: CsvValue + Element>(
        &self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<CsvColumns<T>> {
        let columns = names.into_iter().map(|name| self.table.column(name.as_ref()));
        let columns = columns.collect::<Result<Arc<[usize]>>>()?;
        Ok(CsvColumns { table: Arc::clone(&self.table), columns, missing: None })
    }
}

impl fmt::Debug for Csv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        let mut out = f.debug_struct("Csv");
        out.field("path", &self.path()).field("names", &names).field("num_rows", &self.num_rows());
        out.finish_non_exhaustive()
    }
}

/// The values of one column of a CSV file; made by [`Csv::column`].
///
/// # Errors
///
/// `get` fails where a field cannot be read as the type, or is empty, unless it is a string or
/// [`missing`](Self::missing) was called: an error of kind [`Format`](ErrorKind::Format) with the column, the line in which
/// the row begins, and the text.
#[derive(Clone)]
pub struct CsvColumn<T> {
    table: Arc<Table>,
    column: usize,
    missing: Option<T>,
}

impl<T: CsvValue> CsvColumn<T> {
    /// The value of fields that are empty or have nothing but spaces.
    pub fn missing(self, value: T) -> Self {
        Self { missing: Some(value), ..self }
    }
}

// The layout and the writing in place are those of all numbers and strings.
impl<T: CsvValue> Sequence for CsvColumn<T> {
    type Sample = T;

    fn len(&self) -> usize {
        self.table.num_rows()
    }
    fn get(&self, index: usize) -> Result<T> {
        self.table.with_fields(index, |fields| {
            self.table.value(index, fields.get(self.column), self.column, self.missing.as_ref())
        })
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.table.bytes.path().to_owned())
    }
}

/// The values of several columns of a CSV file, `Array1<T>`; made by [`Csv::columns`].
///
/// A sample is read from the file straight to its row of the batch.
///
/// # Errors
///
/// As for [`CsvColumn`].
#[derive(Clone)]
pub struct CsvColumns<T> {
    table: Arc<Table>,
    columns: Arc<[usize]>,
    missing: Option<T>,
}

impl<T: CsvValue + Element> CsvColumns<T> {
    /// The value of fields that are empty or have nothing but spaces.
    pub fn missing(self, value: T) -> Self {
        Self { missing: Some(value), ..self }
    }

    fn read(&self, index: usize, row: &mut [T]) -> Result<()> {
        self.table.with_fields(index, |fields| {
            row.iter_mut().zip(&*self.columns).try_for_each(|(to, &column)| {
                *to = self.table.value(index, fields.get(column), column, self.missing.as_ref())?;
                Ok(())
            })
        })
    }
}

impl<T: CsvValue + Element> Sequence for CsvColumns<T> {
    type Sample = Array1<T>;

    fn len(&self) -> usize {
        self.table.num_rows()
    }
    fn get(&self, index: usize) -> Result<Array1<T>> {
        let mut row = vec![T::default(); self.columns.len()];
        self.read(index, &mut row)?;
        Ok(row.into())
    }
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        Some(array_layout::<T, Ix1>(Ix1(self.columns.len())))
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        self.read(index, array_row::<T, Ix1>(row))
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(self.columns.len() * size_of::<T>())
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.table.bytes.path().to_owned())
    }
}

macro_rules! debug {
    ($($name:ident: $field:ident),+) => {$(
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut out = f.debug_struct(stringify!($name));
                out.field("path", &self.table.bytes.path()).field(stringify!($field), &self.$field);
                out.finish_non_exhaustive()
            }
        }
    )+};
}
debug!(CsvColumn: column, CsvColumns: columns);

#[cfg(test)]
mod tests;
