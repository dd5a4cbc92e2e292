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
pub(super) struct Fields {
    text: Vec<u8>,
    // Where each ends in `text`.
    ends: Vec<usize>,
    count: usize,
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
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
    pub(super) fn read(&mut self, parser: &mut Parser, row: &[u8], most: usize) {
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
pub(super) struct Parser {
    reader: Reader,
    delimiter: u8,
}

impl Parser {
    pub(super) fn new(delimiter: u8) -> Self {
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

/// The line, from 1 on, that a place is in.
pub(super) fn line(bytes: &[u8], place: usize) -> usize {
    1 + memchr::memchr_iter(b'\n', &bytes[..place]).count()
}

/// Finds the rows, all of which must have as many fields, no row having more bytes than the limit. Returns where they
/// begin, and how many fields each has.
pub(super) fn rows(bytes: &[u8], parser: &mut Parser, limit_bytes: usize) -> Result<(Offsets, usize)> {
    let mut scan = Scan { reader: parser.at_a_row(), output: vec![0; 1 << 16], ends: vec![0; 1 << 8] };
    let mut starts = Offsets::default();
    let mut num_columns = 0;
    let mut at = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    loop {
        // So that a row begins in its own line: empty ones are none.
        at += bytes[at..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        if at == bytes.len() {
            return Ok((starts.shrink(), num_columns));
        }
        let row = &bytes[at..];
        let Some((row_len, count)) = scan.row(row, limit_bytes) else {
            let message = format!(
                "row from line {} on has more than {limit_bytes} bytes, the limit; perhaps a quote is not closed",
                line(bytes, at)
            );
            return Err(Error::new(ErrorKind::Limit, message));
        };
        if starts.len() == 0 {
            num_columns = count;
        } else if count != num_columns {
            let message = format!(
                "row from line {} on has {count} fields, expected {num_columns} as the first has",
                line(bytes, at)
            );
            return Err(Error::new(ErrorKind::Format, message));
        }
        starts.push(at as u64)?;
        at += row_len;
    }
}

/// A parser that counts, and room for fields that nobody looks at.
struct Scan<'p> {
    reader: &'p mut Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
}

impl Scan<'_> {
    /// The length of the row that starts with these bytes, and how many fields it has; `None` if it is too long.
    fn row(&mut self, bytes: &[u8], limit_bytes: usize) -> Option<(usize, usize)> {
        let (mut at, mut count) = (0, 0);
        loop {
            let (result, read, _, fields) = self.reader.read_record(&bytes[at..], &mut self.output, &mut self.ends);
            at += read;
            count += fields;
            if at > limit_bytes {
                return None;
            }
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => return Some((at, count)),
                // With nothing more to read the row ends at the next call.
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
        let (starts, num_columns) = rows(bytes, &mut parser, 1 << 20).unwrap();
        let mut fields = Fields::default();
        let mut row = |index: usize| {
            let end = if index + 1 < starts.len() { starts.get(index + 1) } else { bytes.len() };
            fields.read(&mut parser, &bytes[starts.get(index)..end], num_columns);
            (0..fields.len()).map(|at| String::from_utf8_lossy(fields.get(at)).into_owned()).collect()
        };
        (0..starts.len()).map(&mut row).collect()
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
            "a,\"b\n1,2\n",
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
}
