//! Where the rows of a CSV file are, and the fields of a row.
//!
//! The parser is that of the crate `csv-core`, under the crate `csv`: it works in memory that it is given, so that a row
//! without an end does not take more than the limit, and one row is read again without what a reader of files sets up.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::super::lines::BYTE_ORDER_MARK;
use super::super::offsets::Offsets;
use crate::error::{Error, ErrorKind, Result};

/// Fields, one behind the other.
#[derive(Default)]
pub(in super::super) struct Fields {
    text: Vec<u8>,
    // Where each ends in `text`.
    ends: Vec<usize>,
    count: usize,
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(in super::super) fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    pub(super) fn push(&mut self, field: &[u8]) {
        self.text.extend_from_slice(field);
        self.ends.push(self.text.len());
        self.count += 1;
    }

    /// Reads the fields of the row that starts with these bytes, in place of those that were here.
    ///
    /// There must be no more than `most`. Allocates only for a longer row than any before.
    pub(in super::super) fn read(&mut self, parser: &mut Parser, row: &[u8], most: usize) {
        // Fields are not longer than what they are written as. A parser without room would not go on.
        self.text.resize(self.text.len().max(row.len()).max(1), 0);
        self.ends.resize(self.ends.len().max(most + 1), 0);
        let reader = parser.at_a_row();
        let (result, _, _, count) = reader.read_record(row, &mut self.text, &mut self.ends);
        self.count = count;
        if result == ReadRecordResult::InputEmpty {
            // The last row need not end.
            let (_, _, _, count) = reader.read_record(&[], &mut [], &mut self.ends[count..]);
            self.count += count;
        }
    }
}

/// A parser for a delimiter. It takes as long to make as some dozens of rows to read, and clones of it do not work: the
/// crate forgets its tables.
pub(in super::super) struct Parser {
    reader: Reader,
    delimiter: u8,
}

impl Parser {
    pub(in super::super) fn new(delimiter: u8) -> Self {
        Self { reader: ReaderBuilder::new().delimiter(delimiter).build(), delimiter }
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The parser at the beginning of a row.
    fn at_a_row(&mut self) -> &mut Reader {
        self.reader.reset();
        // One that has read nothing yet would take what looks like a byte order mark off any row.
        self.reader.read_record(b"\n", &mut [0], &mut [0]);
        &mut self.reader
    }
}

/// How many bytes there are between two marks of [`Lines`].
const MARK_BYTES: usize = 1 << 16;

/// Which line a place is in. Lines end in `\n`, `\r\n` or `\r`, within quotes, too.
#[derive(Default)]
pub(super) struct Lines {
    // Places in ascending order, where rows begin, and how many lines end before each. What lies between two of them that
    // is more than a little is one row: to find a line takes no longer in a large file than in a small one.
    marks: Vec<(usize, u64)>,
}

impl Lines {
    /// Sets a mark at the beginning of a row if the last one is far away. Rows have to come in their order.
    fn pass(&mut self, bytes: &[u8], place: usize) {
        let (last, count) = self.marks.last().copied().unwrap_or_default();
        if place - last >= MARK_BYTES {
            self.marks.push((place, count + line_ends(&bytes[last..place])));
        }
    }

    /// The line, from 1 on, that a place is in that is not within a line's end.
    pub(super) fn line(&self, bytes: &[u8], place: usize) -> u64 {
        let before = self.marks.partition_point(|&(mark, _)| mark <= place);
        let (mark, count) = before.checked_sub(1).map_or((0, 0), |last| self.marks[last]);
        1 + count + line_ends(&bytes[mark..place])
    }
}

/// How many lines end in these bytes, which do not begin within an end.
pub(in super::super) fn line_ends(bytes: &[u8]) -> u64 {
    let is_end = |&at: &usize| bytes[at] == b'\n' || bytes.get(at + 1) != Some(&b'\n');
    memchr::memchr2_iter(b'\n', b'\r', bytes).filter(is_end).count() as u64
}

/// A row: where it begins, how long it is, without empty lines behind it, and how many fields it has.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Row {
    pub(in super::super) start: usize,
    pub(in super::super) len: usize,
    pub(in super::super) num_fields: usize,
}

/// The rows of a file, none of which has more bytes than the limit.
pub(in super::super) struct Rows<'b, 'p> {
    bytes: &'b [u8],
    scan: Scan<'p>,
    delimiter: u8,
    limit_bytes: usize,
    at: usize,
    lines: Lines,
}

impl<'b, 'p> Rows<'b, 'p> {
    pub(in super::super) fn new(bytes: &'b [u8], parser: &'p mut Parser, limit_bytes: usize) -> Self {
        let delimiter = parser.delimiter();
        let scan = Scan { reader: parser.at_a_row(), output: vec![0; 1 << 16], ends: vec![0; 1 << 8] };
        let at = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Self { bytes, scan, delimiter, limit_bytes, at, lines: Lines::default() }
    }

    /// The next row; none at the end.
    pub(in super::super) fn next(&mut self) -> Result<Option<Row>> {
        let (bytes, limit_bytes) = (self.bytes, self.limit_bytes);
        // So that a row begins in its own line: empty ones are none.
        self.at += bytes[self.at..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        let start = self.at;
        if start == bytes.len() {
            return Ok(None);
        }
        self.lines.pass(bytes, start);
        match self.scan.row(&bytes[start..], limit_bytes) {
            End::Closed { len, num_fields } => {
                self.at += len;
                Ok(Some(Row { start, len, num_fields }))
            }
            End::Limit => {
                let message = format!(
                    "row from line {} on has more than {limit_bytes} bytes, the limit; perhaps a quote is not closed",
                    self.line(start)
                );
                Err(Error::new(ErrorKind::Limit, message))
            }
            End::Open => {
                let field = start + open_quote(&bytes[start..], self.delimiter);
                let message = format!(
                    "quote of the field from line {} on is not closed, expected another before the end of the file",
                    self.line(field)
                );
                Err(Error::new(ErrorKind::Format, message))
            }
        }
    }

    /// The line, from 1 on, that a place in a row is in.
    fn line(&self, place: usize) -> u64 {
        self.lines.line(self.bytes, place)
    }
}

/// Where the rows of a table are.
#[derive(Default)]
pub(super) struct Places {
    starts: Offsets,
    // Rows with much between their end and the next one's beginning, and their lengths: hardly ever there are any.
    // Invariant: in ascending order.
    far: Vec<(usize, usize)>,
    pub(super) lines: Lines,
}

impl Places {
    /// How much may lie behind a row before its length is kept.
    const NEAR_BYTES: usize = 64;

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn start(&self, row: usize) -> usize {
        self.starts.get(row)
    }

    /// The bytes of a row, and hardly more. Empty lines behind it may be as many as anybody likes.
    #[inline]
    pub(super) fn row<'b>(&self, bytes: &'b [u8], row: usize) -> &'b [u8] {
        let start = self.starts.get(row);
        if let Ok(at) = self.far.binary_search_by_key(&row, |&(far, _)| far) {
            return &bytes[start..start + self.far[at].1];
        }
        let end = if row + 1 < self.starts.len() { self.starts.get(row + 1) } else { bytes.len() };
        &bytes[start..end]
    }
}

/// Finds the rows, all of which must have as many fields, no row having more bytes than the limit. Returns where they are,
/// and how many fields each has.
pub(super) fn rows(bytes: &[u8], parser: &mut Parser, limit_bytes: usize) -> Result<(Places, usize)> {
    let mut rows = Rows::new(bytes, parser, limit_bytes);
    let mut places = Places::default();
    let mut first: Option<Row> = None;
    let mut last: Option<Row> = None;
    while let Some(row) = rows.next()? {
        let num_columns = first.get_or_insert(row).num_fields;
        if row.num_fields != num_columns {
            let (line, count) = (rows.line(row.start), row.num_fields);
            let message =
                format!("row from line {line} on has {count} fields, expected {num_columns} as the first has");
            return Err(Error::new(ErrorKind::Format, message));
        }
        places.ends_before(last.replace(row), row.start)?;
        places.starts.push(row.start as u64)?;
    }
    places.ends_before(last, bytes.len())?;
    places.starts = std::mem::take(&mut places.starts).shrink();
    places.lines = rows.lines;
    Ok((places, first.map_or(0, |row| row.num_fields)))
}

impl Places {
    /// Notes the length of the last row if the next one begins far behind it.
    fn ends_before(&mut self, last: Option<Row>, next: usize) -> Result<()> {
        if let Some(row) = last.filter(|row| next - row.start - row.len > Self::NEAR_BYTES) {
            self.far.try_reserve(1).map_err(|cause| {
                let message = format!("not enough memory for the places of more than {} rows", self.starts.len());
                Error::new(ErrorKind::Limit, message).with_cause(cause)
            })?;
            self.far.push((self.starts.len() - 1, row.len));
        }
        Ok(())
    }
}

/// Where the quoted field begins that is open at the end of a row's bytes.
fn open_quote(row: &[u8], delimiter: u8) -> usize {
    let (mut at, mut begins) = (0, true);
    while let Some(&byte) = row.get(at) {
        if begins && byte == b'"' {
            let start = at;
            at += 1;
            // Up to a quote that is not one of two.
            loop {
                match row.get(at..).and_then(|rest| memchr::memchr(b'"', rest)) {
                    None => return start,
                    Some(quote) if row.get(at + quote + 1) == Some(&b'"') => at += quote + 2,
                    Some(quote) => {
                        at += quote + 1;
                        break;
                    }
                }
            }
            begins = false;
        } else {
            begins = byte == delimiter;
            at += 1;
        }
    }
    0
}

/// A parser that counts, and room for fields that nobody looks at.
struct Scan<'p> {
    reader: &'p mut Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
}

/// How a row ends.
enum End {
    Closed {
        len: usize,
        num_fields: usize,
    },
    /// With the file, within quotes.
    Open,
    /// Beyond the limit.
    Limit,
}

impl Scan<'_> {
    /// Looks for the end of the row that starts with these bytes.
    fn row(&mut self, bytes: &[u8], limit_bytes: usize) -> End {
        let (mut at, mut num_fields) = (0, 0);
        loop {
            // The last row need not end, so it is ended: a line's end ends it unless it is within quotes.
            let is_over = at == bytes.len();
            let input = if is_over { b"\n" } else { &bytes[at..] };
            let (result, read, _, fields) = self.reader.read_record(input, &mut self.output, &mut self.ends);
            num_fields += fields;
            if !is_over {
                at += read;
            }
            if at > limit_bytes {
                return End::Limit;
            }
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => return End::Closed { len: at, num_fields },
                ReadRecordResult::InputEmpty if is_over => return End::Open,
                ReadRecordResult::InputEmpty | ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Vec<String>> {
        let mut parser = Parser::new(b',');
        let (places, num_columns) = rows(bytes, &mut parser, 1 << 20).unwrap();
        let mut fields = Fields::default();
        let mut row = |index: usize| {
            fields.read(&mut parser, places.row(bytes, index), num_columns);
            (0..fields.len()).map(|at| String::from_utf8_lossy(fields.get(at)).into_owned()).collect()
        };
        (0..places.len()).map(&mut row).collect()
    }

    #[test]
    fn rows_and_fields_are_those_of_the_crate_csv() {
        let long = format!("{},{}\n\"{}\",b\n", "x".repeat(100_000), "y".repeat(70_000), "z\n".repeat(50_000));
        let wide = [["a"; 1000].join(","), ["b,"; 999].concat()].join("\n");
        for text in [
            "",
            "\n\r\n",
            "a",
            "a,b\n1,2\n",
            "a,b\r\n1,2\r\n\r\n3,4",
            "\n\na,b\n\n\n1,2\n",
            "a,b\r1,2\r3,4\r",
            ",\n,\n",
            "\"\"\n\"\"",
            "\"a\nb\",\"c,d\"\n\"e\"\"f\",g\"h\n",
            "a,b\"c\n1,2\"\n",
            "a,\"b\"",
            "a,\"b\"c\n1,\"2\"\"\"\n",
            "\u{feff}a,b\n\u{feff}1,2\n",
            &long,
            &wide,
        ] {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
            let expected: Vec<Vec<String>> =
                reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect();
            assert!(all(text.as_bytes()) == expected, "{text:.40?}");
        }
    }

    #[test]
    fn a_row_of_another_length_is_named_by_its_line() {
        let error = |text: &str, limit| rows(text.as_bytes(), &mut Parser::new(b','), limit).err().unwrap();
        let found = error("a,b\n1,2\n\n\"x\ny\",2\n\n3\n4,5\n", 100);
        let expected = "row from line 7 on has 1 fields, expected 2 as the first has";
        assert_eq!((found.message(), found.kind()), (expected, ErrorKind::Format));
        let found = error("a,b\n1,2\n3,\"4\n5,6\n7,8\n", 10);
        let expected = "row from line 3 on has more than 10 bytes, the limit; perhaps a quote is not closed";
        assert_eq!((found.message(), found.kind()), (expected, ErrorKind::Limit));
        assert!(rows(b"a,b\n1234567,9\n", &mut Parser::new(b','), 10).is_ok());
        assert!(rows(b"a,b\n12345678,9\n", &mut Parser::new(b','), 10).is_err());
    }

    #[test]
    fn a_quote_that_is_not_closed_is_named_by_its_line() {
        let long = format!("a,b\n{}x,\"open\n", "1,\"2\n\"\n".repeat(50_000));
        for (text, line) in [
            ("a,\"b\n1,2\n", 1),
            ("\"", 1),
            ("a\n\"", 2),
            ("a,b\n1,2\n3,\"4\n5,6\n", 3),
            ("a,b\r1,2\r\r3,\"4\r5,6\r", 4),
            ("a,b\r\n1,\"2\r\n3\",\"4\r\n", 3),
            ("a,b\n\"1\n\"\"2\n\",\"3\"\"\n", 4),
            ("a,b\n1\",\"2\n", 2),
            ("a,b\n\"1\"x\"y,\"2\"\"", 2),
            (&long, 100_002),
        ] {
            let error = rows(text.as_bytes(), &mut Parser::new(b','), 1 << 20).err().unwrap();
            let expected = format!(
                "quote of the field from line {line} on is not closed, expected another before the end of the file"
            );
            assert_eq!((error.message(), error.kind()), (&*expected, ErrorKind::Format), "{text:.40?}");
        }
    }

    #[test]
    fn lines_are_counted_however_they_end_and_from_nearby() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("a,b{end}{}", format!("1,\"x{end}y\"{end}{end}").repeat(30_000));
            let (places, _) = rows(text.as_bytes(), &mut Parser::new(b','), 100).unwrap();
            assert_eq!(places.len(), 30_001);
            for row in [0, 1, 2, 3, 8_000, 15_000, 29_999, 30_000] {
                let line = if row == 0 { 1 } else { 2 + 3 * (row - 1) };
                assert_eq!(places.lines.line(text.as_bytes(), places.start(row)), line as u64, "{end:?}, row {row}");
            }
            let marks = &places.lines.marks;
            assert!(marks.len() >= text.len() / MARK_BYTES - 1);
            assert!(marks.windows(2).all(|pair| pair[1].0 - pair[0].0 <= MARK_BYTES + 100));
        }
    }

    #[test]
    fn empty_lines_behind_a_row_are_no_part_of_it() {
        for empty in [0, 1, 60, 64, 65, 20_000] {
            let lines = "\r\n".repeat(empty);
            let text = format!("a,b\n{lines}1,2\n{lines}3,4\r\n{lines}");
            let (places, _) = rows(text.as_bytes(), &mut Parser::new(b','), 10).unwrap();
            assert_eq!(all(text.as_bytes()), [["a", "b"], ["1", "2"], ["3", "4"]]);
            for row in 0..3 {
                let len = places.row(text.as_bytes(), row).len();
                assert!((4..=5 + Places::NEAR_BYTES).contains(&len), "{len} bytes of row {row}");
            }
        }
    }
}
