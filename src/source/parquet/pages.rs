//! The pages of a column chunk, checked before the parquet crate decodes them.
//!
//! The crate makes room for what a page header says, and decodes gzip to its end, whatever comes out. So the headers are
//! walked over first, and what their pages take, decoded, is summed up and compared with a limit.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::delta;
use super::grammar::{self, Structure};
use super::thrift::{Compact, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};

fn format(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Format, message)
}

/// What the pages of a column chunk hold together.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Content {
    /// Nulls, and what empty lists take the place of, are values here.
    pub(super) num_values: u64,
    /// The memory that they take decoded, at most, except for strings that are made of others.
    pub(super) bytes: u64,
}

/// The header of a page.
#[derive(Debug, Default)]
struct Header {
    kind: i32,
    uncompressed: i32,
    compressed: i32,
    /// Of a page of values or a dictionary.
    num_values: i32,
    encoding: i32,
    /// Levels before compressed values, in pages of version 2.
    levels: [i32; 2],
    is_compressed: bool,
}

const DATA: i32 = 0;
const INDEX: i32 = 1;
const DICTIONARY: i32 = 2;
const DATA_2: i32 = 3;

impl Header {
    fn parse(walk: &mut Compact<'_>) -> Result<Self> {
        let mut header = Self { kind: -1, uncompressed: -1, compressed: -1, is_compressed: true, ..Self::default() };
        grammar::PAGE.walk(walk, |walk, id, _| {
            match id {
                1 => header.kind = walk.i32()?,
                2 => header.uncompressed = walk.i32()?,
                3 => header.compressed = walk.i32()?,
                5 => header.of_kind(walk, id, &grammar::DATA_PAGE)?,
                7 => header.of_kind(walk, id, &grammar::DICTIONARY_PAGE)?,
                8 => header.of_kind(walk, id, &grammar::DATA_PAGE_2)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(header)
    }

    /// The part of a header for one kind of pages: 5 and 8 values, 7 a dictionary.
    fn of_kind(&mut self, walk: &mut Compact<'_>, part: i16, structure: &Structure) -> Result<()> {
        structure.walk(walk, |walk, id, kind| {
            match (part, id) {
                (_, 1) => self.num_values = walk.i32()?,
                (5 | 7, 2) | (8, 4) => self.encoding = walk.i32()?,
                (8, 5) => self.levels[0] = walk.i32()?,
                (8, 6) => self.levels[1] = walk.i32()?,
                (8, 7) => self.is_compressed = kind == Kind::TRUE,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

/// The bytes of a number that must not be negative.
fn size(number: i32, what: &str) -> Result<usize> {
    usize::try_from(number).map_err(|_| format(format!("a page with {number} {what}")))
}

/// Walks over the pages of a chunk.
pub(super) fn scan(chunk: &[u8], codec: Compression, column: &ColumnDescriptor, limit_bytes: u64) -> Result<Content> {
    check_codec(codec)?;
    let mut content = Content::default();
    let mut walk = Compact::new(chunk);
    let mut number = 0_usize;
    while !walk.rest().is_empty() {
        let in_page = |error: Error| Error::new(error.kind(), format!("page {number}: {}", error.message()));
        let header = Header::parse(&mut walk).map_err(in_page)?;
        let page = size(header.compressed, "bytes").and_then(|len| walk.take(len)).map_err(in_page)?;
        add(&mut content, &header, page, codec, column, limit_bytes).map_err(in_page)?;
        if content.bytes > limit_bytes {
            let message = format!("more than {limit_bytes} bytes decoded, which is the limit");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        number += 1;
    }
    Ok(content)
}

fn check_codec(codec: Compression) -> Result<()> {
    match codec {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::ZSTD(_)
        | Compression::LZ4
        | Compression::LZ4_RAW => Ok(()),
        // Their output has no bound that the input tells.
        other => Err(format(format!("compressed by {other}, expected gzip, lz4, snappy, zstd or nothing"))),
    }
}

fn add(
    content: &mut Content,
    header: &Header,
    page: &[u8],
    codec: Compression,
    column: &ColumnDescriptor,
    limit_bytes: u64,
) -> Result<()> {
    let uncompressed = size(header.uncompressed, "bytes uncompressed")?;
    let num_values = size(header.num_values, "values")? as u64;
    let value_bytes = match header.kind {
        INDEX => return Ok(()),
        // A value of a dictionary takes a byte at least, and room for what points to it.
        DICTIONARY if num_values > uncompressed as u64 => {
            return Err(format(format!("a dictionary of {num_values} values in {uncompressed} bytes")));
        }
        DICTIONARY => 16,
        DATA | DATA_2 => {
            content.num_values = content.num_values.saturating_add(num_values);
            bytes_per_value(column)
        }
        other => return Err(format(format!("a page of kind {other}, which there is not"))),
    };
    if !(0..=9).contains(&header.encoding) {
        return Err(format(format!("an encoding with the number {}, which there is not", header.encoding)));
    }
    content.bytes =
        content.bytes.saturating_add(uncompressed as u64).saturating_add(num_values.saturating_mul(value_bytes));
    let levels = size(header.levels[0], "bytes of levels")?.checked_add(size(header.levels[1], "bytes of levels")?);
    let levels = levels.filter(|&levels| levels <= page.len().min(uncompressed));
    let levels = levels.ok_or_else(|| format("a page with levels that are longer than all of it"))?;
    if header.is_compressed && content.bytes <= limit_bytes {
        check_expansion(&page[levels..], uncompressed - levels, codec, limit_bytes)?;
    }
    Ok(())
}

/// The memory that a value takes in an array, with its levels and its part of what lists need, and is one of those whose
/// bytes are not in the page for each of them.
fn bytes_per_value(column: &ColumnDescriptor) -> u64 {
    let value = match column.physical_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 | Type::BYTE_ARRAY => 16,
        Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).unwrap_or(u64::MAX),
    };
    let levels = if column.max_def_level() > 0 { 4 } else { 0 } + if column.max_rep_level() > 0 { 12 } else { 0 };
    value.saturating_add(levels)
}

/// Decompressors that go on to the end of their input are tried first, if that could be more than the limit.
fn check_expansion(compressed: &[u8], expected: usize, codec: Compression, limit_bytes: u64) -> Result<()> {
    /// No stream of deflate, and no frame of LZ4, expands to more than this many times its length.
    const MAX_RATIO: u64 = 1032;

    if (compressed.len() as u64).saturating_mul(MAX_RATIO) <= limit_bytes {
        return Ok(());
    }
    match codec {
        Compression::GZIP(_) => {
            let mut stream = flate2::read::MultiGzDecoder::new(compressed).take(expected as u64 + 1);
            // An error is one again when the page is decoded.
            let len = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or(0);
            if len > expected as u64 {
                return Err(format(format!("a page of more than {expected} bytes decompressed, expected as many")));
            }
            Ok(())
        }
        // The crate takes what does not decode as blocks for a frame, as some writers made them.
        Compression::LZ4 if compressed.starts_with(&[0x04, 0x22, 0x4d, 0x18]) => {
            Err(Error::new(ErrorKind::Limit, "a frame of LZ4 that could be more than the limit, decompressed"))
        }
        _ => Ok(()),
    }
}

/// The pages of a chunk, each checked once more when it is decompressed.
pub(super) struct CheckedPages {
    pages: SerializedPageReader<Bytes>,
    column: Arc<ColumnDescriptor>,
    /// What strings that are made of others may take.
    left_bytes: u64,
    /// The error that ended it, which the crate would make a text.
    trouble: Arc<Mutex<Option<Error>>>,
}

impl CheckedPages {
    pub(super) fn new(
        pages: SerializedPageReader<Bytes>,
        column: Arc<ColumnDescriptor>,
        left_bytes: u64,
        trouble: Arc<Mutex<Option<Error>>>,
    ) -> Self {
        Self { pages, column, left_bytes, trouble }
    }

    fn check(&mut self, page: &Page) -> Result<()> {
        if !matches!(page.encoding(), Encoding::DELTA_BYTE_ARRAY | Encoding::DELTA_LENGTH_BYTE_ARRAY) {
            return Ok(());
        }
        let num_values = page.num_values() as usize;
        let values = values(page, &self.column)?;
        if page.encoding() == Encoding::DELTA_LENGTH_BYTE_ARRAY {
            return delta::check_lengths(values, num_values);
        }
        let size = delta::size_of_prefixed(values, num_values)?;
        self.left_bytes = self.left_bytes.checked_sub(size).ok_or_else(|| {
            let message = format!("strings of {size} bytes decoded, of which {} are within the limit", self.left_bytes);
            Error::new(ErrorKind::Limit, message)
        })?;
        Ok(())
    }
}

/// The values of a page, behind its levels.
fn values<'a>(page: &'a Page, column: &ColumnDescriptor) -> Result<&'a [u8]> {
    let cut_off = || format("a page with levels that are longer than all of it");
    match page {
        Page::DataPage { buf, rep_level_encoding, def_level_encoding, .. } => {
            let mut rest: &[u8] = buf;
            for (max, encoding) in
                [(column.max_rep_level(), rep_level_encoding), (column.max_def_level(), def_level_encoding)]
            {
                if max == 0 {
                    continue;
                }
                if *encoding != Encoding::RLE {
                    return Err(format(format!("levels encoded as {encoding} before strings as differences")));
                }
                let (len, levels) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
                rest = levels.get(u32::from_le_bytes(*len) as usize..).ok_or_else(cut_off)?;
            }
            Ok(rest)
        }
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            let levels = (*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize);
            levels.and_then(|levels| buf.get(levels..)).ok_or_else(cut_off)
        }
        Page::DictionaryPage { .. } => Err(format("a dictionary encoded as differences")),
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.check(page).map_err(|error| {
                let text = error.to_string();
                *lock(&self.trouble) = Some(error);
                ParquetError::General(text)
            })?;
        }
        Ok(page)
    }
    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }
    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }
    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::GzipLevel;
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;
    use std::io::Write;

    fn column(kind: &str) -> Arc<ColumnDescriptor> {
        let schema = parse_message_type(&format!("message x {{ {kind} x; }}")).unwrap();
        SchemaDescriptor::new(Arc::new(schema)).column(0)
    }

    fn i32_field(number: i32) -> Vec<u8> {
        let mut zigzag = (number << 1 ^ number >> 31) as u32;
        let mut bytes = vec![0x15];
        while zigzag >= 0x80 {
            bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
        bytes
    }

    /// A page of some kind: its header with the numbers of that kind, and its bytes.
    fn page(kind: i32, uncompressed: i32, numbers: &[i32], content: &[u8]) -> Vec<u8> {
        let mut bytes = [kind, uncompressed, content.len() as i32].map(i32_field).concat();
        bytes.push(match kind {
            DATA => 0x2c,
            DICTIONARY => 0x4c,
            _ => 0x5c,
        });
        bytes.extend(numbers.iter().flat_map(|&number| i32_field(number)));
        bytes.extend([0, 0]);
        bytes.extend(content);
        bytes
    }

    fn numbers(num_values: i32, encoding: i32) -> [i32; 4] {
        [num_values, encoding, 3, 3]
    }

    fn message(chunk: &[u8], codec: Compression, limit_bytes: u64) -> String {
        scan(chunk, codec, &column("required int64"), limit_bytes).unwrap_err().message().to_owned()
    }

    #[test]
    fn pages_are_summed_up() {
        let chunk = [
            page(DICTIONARY, 16, &[2, 0], &[0; 16]),
            page(DATA, 5, &numbers(100, 8), &[0; 5]),
            page(INDEX, 3, &[], &[0; 3]),
            page(DATA_2, 7, &[10, 1, 9, 8, 2, 1], &[0; 7]),
        ]
        .concat();
        let none = Compression::UNCOMPRESSED;
        for (kind, bytes_per_value) in [
            ("required int64", 8),
            ("optional int64", 12),
            ("repeated float", 20),
            ("required binary", 16),
            ("required fixed_len_byte_array(40)", 40),
        ] {
            let expected = Content { num_values: 110, bytes: 16 + 2 * 16 + 5 + 7 + 110 * bytes_per_value };
            assert_eq!(scan(&chunk, none, &column(kind), expected.bytes).unwrap(), expected, "{kind}");
            let error = scan(&chunk, none, &column(kind), expected.bytes - 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
        for len in 1..chunk.len() {
            let cut = scan(&chunk[..len], none, &column("required int64"), 10_000);
            assert!(cut.is_err() || cut.unwrap().num_values < 110, "cut at {len}");
        }
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let none = Compression::UNCOMPRESSED;
        for (chunk, expected) in [
            (page(DATA, i32::MAX, &numbers(1, 0), &[]), "more than 1000 bytes decoded, which is the limit"),
            (page(DATA, 5, &numbers(i32::MAX, 0), &[]), "more than 1000 bytes decoded, which is the limit"),
            (page(DATA, -1, &numbers(1, 0), &[]), "page 0: a page with -1 bytes uncompressed"),
            (page(DATA, 5, &numbers(-7, 0), &[]), "page 0: a page with -7 values"),
            (page(DATA, 5, &numbers(1, 10), &[]), "page 0: an encoding with the number 10, which there is not"),
            (page(7, 5, &numbers(1, 0), &[]), "page 0: a page of kind 7, which there is not"),
            (page(DICTIONARY, 5, &[6, 0], &[0; 5]), "page 0: a dictionary of 6 values in 5 bytes"),
            (
                page(DATA_2, 5, &[1, 0, 1, 0, 3, 3], &[0; 5]),
                "page 0: a page with levels that are longer than all of it",
            ),
            (page(DATA_2, 5, &[1, 0, 1, 0, -3, 3], &[0; 5]), "page 0: a page with -3 bytes of levels"),
            (vec![0x15, 0, 0x16, 0, 0], "page 0: field 2 of a page header is of another type than the format says"),
            (vec![0x15, 0, 0], "page 0: a page with -1 bytes"),
        ] {
            assert_eq!(message(&chunk, none, 1000), expected);
        }
        let mut surplus = page(DATA, 5, &numbers(1, 0), &[0; 5]);
        surplus.pop();
        assert_eq!(message(&surplus, none, 1000), "page 0: metadata that is cut off");
        assert!(message(&[], Compression::LZO, 1000).starts_with("compressed by LZO, expected"));
    }

    #[test]
    fn what_comes_out_of_gzip_is_counted() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&[0; 1 << 20]).unwrap();
        let bomb = gzip.finish().unwrap();
        let codec = Compression::GZIP(GzipLevel::default());
        let lie = page(DATA, 100, &numbers(1, 0), &bomb);
        let expected = "page 0: a page of more than 100 bytes decompressed, expected as many";
        assert_eq!(message(&lie, codec, 1000), expected);
        let honest = page(DATA, 1 << 20, &numbers(1, 0), &bomb);
        scan(&honest, codec, &column("required int64"), (1 << 20) + 8).unwrap();
        assert!(message(&honest, codec, 1 << 20).ends_with("which is the limit"));
        let frame = page(DATA, 100, &numbers(1, 0), &[0x04, 0x22, 0x4d, 0x18, 0]);
        let expected = "page 0: a frame of LZ4 that could be more than the limit, decompressed";
        assert_eq!(message(&frame, Compression::LZ4, 1000), expected);
        scan(&frame, Compression::LZ4, &column("required int64"), 10_000).unwrap();
    }
}
