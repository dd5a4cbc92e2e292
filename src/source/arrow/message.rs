//! Where the messages of an Arrow IPC file are, found without reading what they hold.
//!
//! Source: the Arrow columnar format, serialisation and interprocess communication
//! (<https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>). A stream is
//! one message after another, the schema first. Each is a marker of four bytes `ff` (absent in files older than version
//! 0.15), the length of its header, the header (a flatbuffer), and its body. A length of zero ends the stream. A file is a
//! stream behind the magic `ARROW1` and two bytes, then a footer that lists the messages, its length, and the magic once
//! more.
//!
//! Deviations: a stream has to have its end, as one that was cut off between two messages looks the same without; and
//! nothing may follow it. The footer of a file has to list batches, and dictionaries, in the order in which they lie in it,
//! as all writers do: each byte is then read once, and each row is there once. Bodies that are compressed, and dictionaries that are added to (deltas) are refused.

use std::collections::HashSet;
use std::ops::Range;

use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::{
    Block, Endianness, Footer, Message, MessageHeader, MetadataVersion, root_as_footer_with_opts,
    root_as_message_with_opts,
};
use arrow_schema::{DataType, Schema};
use flatbuffers::VerifierOptions;

use crate::error::{Error, ErrorKind, Result};
use crate::source::columns::damaged;

const MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: &[u8] = &[0xff; 4];

/// The messages of a file.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) schema: Schema,
    pub(super) dictionaries: Vec<DictionaryPlace>,
    pub(super) batches: Vec<BatchPlace>,
}

/// A message: its header and its body, in the file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) header: Range<usize>,
    pub(super) body: Range<usize>,
}

/// A dictionary.
#[derive(Debug)]
pub(super) struct DictionaryPlace {
    pub(super) place: Place,
    pub(super) id: i64,
}

/// A record batch.
#[derive(Debug)]
pub(super) struct BatchPlace {
    pub(super) place: Place,
    pub(super) num_rows: usize,
    /// How many of the file's dictionaries it can use: in a stream, those before it.
    pub(super) num_dictionaries: usize,
}

pub(super) fn format(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Format, message)
}

/// Finds the messages of a file or a stream.
pub(super) fn index(bytes: &[u8]) -> Result<Index> {
    if bytes.starts_with(MAGIC) {
        return of_file(bytes);
    }
    match bytes.get(..4) {
        Some(b"PAR1") => return Err(format("a Parquet file, expected an Arrow IPC file or stream")),
        Some(b"FEA1") => return Err(format("a Feather file of version 1, expected an Arrow IPC file or stream")),
        _ => {}
    }
    of_stream(bytes)
}

fn of_stream(bytes: &[u8]) -> Result<Index> {
    let mut index: Option<Index> = None;
    let mut at = 0;
    let mut number = 0;
    loop {
        let Some(header) = header(bytes, at).map_err(|error| locate(error, number, at))? else {
            return end(bytes, at, index);
        };
        let next = read(bytes, header, &mut index).map_err(|error| locate(error, number, at))?;
        (at, number) = (next, number + 1);
    }
}

fn locate(error: Error, number: usize, at: usize) -> Error {
    let message = format!("message {number}, at byte {at}: {}", error.message());
    Error::new(error.kind(), message)
}

/// The end of a stream is the end of the file.
fn end(bytes: &[u8], at: usize, index: Option<Index>) -> Result<Index> {
    let marker_len = if bytes.get(at..).is_some_and(|rest| rest.starts_with(CONTINUATION)) { 8 } else { 4 };
    match bytes.len().saturating_sub(at + marker_len) {
        0 => index.ok_or_else(|| format("an Arrow stream that ends before its schema")),
        extra => Err(format(format!("{extra} bytes too many behind the end of the Arrow stream, at byte {at}"))),
    }
}

/// Where the header of the message at a place is; `None` at the end of a stream.
fn header(bytes: &[u8], at: usize) -> Result<Option<Range<usize>>> {
    let length_at = if bytes.get(at..).is_some_and(|rest| rest.starts_with(CONTINUATION)) { at + 4 } else { at };
    let Some(&[a, b, c, d]) = bytes.get(length_at..length_at + 4) else {
        let present = bytes.len().saturating_sub(at);
        return Err(format(format!("{present} bytes, expected an Arrow message or the end of the stream: cut off")));
    };
    let len = i32::from_le_bytes([a, b, c, d]);
    if len == 0 {
        return Ok(None);
    }
    let start = length_at + 4;
    let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len));
    match end.filter(|&end| end <= bytes.len()) {
        Some(end) => Ok(Some(start..end)),
        None => {
            let present = bytes.len() - start;
            Err(format(format!("Arrow message with a header of {len} bytes, of which {present} are present")))
        }
    }
}

/// Notes a message of a stream and returns where the next one starts.
fn read(bytes: &[u8], header: Range<usize>, index: &mut Option<Index>) -> Result<usize> {
    let message = parse(&bytes[header.clone()])?;
    let body = body(bytes, &message, header.end)?;
    let next = body.end;
    let place = Place { header, body };
    match (index, message.header_type()) {
        (index @ None, MessageHeader::Schema) => {
            let schema = message.header_as_schema().ok_or_else(|| format("a schema without content"))?;
            *index = Some(Index { schema: to_schema(schema)?, dictionaries: Vec::new(), batches: Vec::new() });
        }
        (Some(index), MessageHeader::DictionaryBatch) => index.dictionaries.push(dictionary(&message, place)?),
        (Some(index), MessageHeader::RecordBatch) => {
            let num_dictionaries = index.dictionaries.len();
            index.batches.push(batch(&message, place, num_dictionaries)?);
        }
        (None, kind) => return Err(format(format!("a message of kind {kind:?}, expected a schema first"))),
        (Some(_), kind) => return Err(format(format!("a message of kind {kind:?}, expected a batch or a dictionary"))),
    }
    Ok(next)
}

/// A header, checked.
pub(super) fn parse(header: &[u8]) -> Result<Message<'_>> {
    let message = root_as_message_with_opts(&options(header), header)
        .map_err(|cause| damaged("the header of an Arrow message", cause.to_string()))?;
    check_version(message.version())?;
    Ok(message)
}

/// A flatbuffer can refer to one of its parts many times, and grow beyond all bounds when it is copied. What writers make
/// has each part once, except for the layout of tables, so a small multiple of its length is more than enough.
fn options(buffer: &[u8]) -> VerifierOptions {
    VerifierOptions {
        max_tables: 16 + buffer.len() / 4,
        max_apparent_size: 1024 + 16 * buffer.len(),
        ..VerifierOptions::default()
    }
}

fn check_version(version: MetadataVersion) -> Result<()> {
    match version {
        MetadataVersion::V4 | MetadataVersion::V5 => Ok(()),
        other => Err(format(format!("Arrow metadata of version {other:?}, expected V4 or V5"))),
    }
}

fn body(bytes: &[u8], message: &Message<'_>, start: usize) -> Result<Range<usize>> {
    let len = message.bodyLength();
    let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len)).filter(|&end| end <= bytes.len());
    end.map(|end| start..end).ok_or_else(|| {
        let present = bytes.len() - start;
        format(format!("Arrow message with a body of {len} bytes, of which {present} are present"))
    })
}

pub(super) fn to_schema(schema: arrow_ipc::Schema<'_>) -> Result<Schema> {
    if schema.endianness() != Endianness::Little {
        return Err(format("an Arrow file written big-endian, expected little-endian"));
    }
    let schema = try_fb_to_schema(schema).map_err(|cause| damaged("the Arrow schema", cause))?;
    schema.fields().iter().try_for_each(|field| check_type(field.data_type()))?;
    Ok(schema)
}

/// The conversion takes lengths as they are.
fn check_type(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::FixedSizeBinary(len) | DataType::FixedSizeList(_, len) if *len < 0 => {
            Err(format(format!("the Arrow schema has values of {len} elements")))
        }
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            check_type(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_type(field.data_type())),
        DataType::Dictionary(_, values) => check_type(values),
        _ => Ok(()),
    }
}

/// The schema in a message by itself, as Parquet files hold one.
#[cfg(feature = "parquet")]
pub(crate) fn schema_of_message(bytes: &[u8]) -> Result<Schema> {
    let header = header(bytes, 0)?.ok_or_else(|| format("no Arrow schema"))?;
    let message = parse(&bytes[header])?;
    to_schema(message.header_as_schema().ok_or_else(|| format("no Arrow schema"))?)
}

fn dictionary(message: &Message<'_>, place: Place) -> Result<DictionaryPlace> {
    let dictionary = message.header_as_dictionary_batch().ok_or_else(|| format("a dictionary without content"))?;
    if dictionary.isDelta() {
        return Err(format("an Arrow dictionary that is added to (delta), expected whole dictionaries"));
    }
    let data = dictionary.data().ok_or_else(|| format("a dictionary without content"))?;
    check_batch(&data)?;
    Ok(DictionaryPlace { place, id: dictionary.id() })
}

fn batch(message: &Message<'_>, place: Place, num_dictionaries: usize) -> Result<BatchPlace> {
    let batch = message.header_as_record_batch().ok_or_else(|| format("a record batch without content"))?;
    let num_rows = check_batch(&batch)?;
    Ok(BatchPlace { place, num_rows, num_dictionaries })
}

/// The number of rows of a batch that is not compressed.
fn check_batch(batch: &arrow_ipc::RecordBatch<'_>) -> Result<usize> {
    if let Some(compression) = batch.compression() {
        let codec = compression.codec();
        return Err(format(format!("an Arrow batch compressed by {codec:?}, expected one that is not compressed")));
    }
    usize::try_from(batch.length()).map_err(|_| format(format!("an Arrow batch of {} rows", batch.length())))
}

/// Checks that all buffers of a batch lie in its body.
pub(super) fn check_buffers(batch: &arrow_ipc::RecordBatch<'_>, body_len: usize) -> Result<()> {
    for (number, buffer) in batch.buffers().into_iter().flatten().enumerate() {
        let (offset, len) = (buffer.offset(), buffer.length());
        let end = usize::try_from(offset).ok().zip(usize::try_from(len).ok()).and_then(|(at, len)| at.checked_add(len));
        if end.is_none_or(|end| end > body_len) {
            return Err(format(format!("buffer {number} of {len} bytes at {offset}, in a body of {body_len} bytes")));
        }
    }
    for (number, node) in batch.nodes().into_iter().flatten().enumerate() {
        let (len, nulls) = (node.length(), node.null_count());
        if len < 0 || !(0..=len).contains(&nulls) {
            return Err(format(format!("node {number} of {len} values with {nulls} nulls")));
        }
    }
    Ok(())
}

fn of_file(bytes: &[u8]) -> Result<Index> {
    let (footer_at, footer) = footer(bytes)?;
    check_version(footer.version())?;
    let schema = to_schema(footer.schema().ok_or_else(|| format("an Arrow file without a schema"))?)?;
    let mut dictionaries = Vec::new();
    let mut ids = HashSet::new();
    let mut end = 0;
    for (number, block) in footer.dictionaries().into_iter().flatten().enumerate() {
        let of_dictionary = block_place(bytes, block, end..footer_at).and_then(|(message, place)| {
            end = place.body.end;
            dictionary(&message, place)
        });
        let found = of_dictionary.map_err(|error| in_block(error, "dictionary", number))?;
        if !ids.insert(found.id) {
            return Err(format(format!("dictionary {number} has the number {} of another one", found.id)));
        }
        dictionaries.push(found);
    }
    let mut batches = Vec::new();
    let mut end = 0;
    for (number, block) in footer.recordBatches().into_iter().flatten().enumerate() {
        let of_batch = block_place(bytes, block, end..footer_at).and_then(|(message, place)| {
            end = place.body.end;
            batch(&message, place, dictionaries.len())
        });
        batches.push(of_batch.map_err(|error| in_block(error, "batch", number))?);
    }
    Ok(Index { schema, dictionaries, batches })
}

fn in_block(error: Error, kind: &str, number: usize) -> Error {
    Error::new(error.kind(), format!("{kind} {number} of the Arrow file: {}", error.message()))
}

fn footer(bytes: &[u8]) -> Result<(usize, Footer<'_>)> {
    /// The magic and two bytes of padding.
    const HEAD_LEN: usize = 8;
    /// The length of the footer, and the magic.
    const TAIL_LEN: usize = 10;

    let tail_at = bytes.len().checked_sub(TAIL_LEN).filter(|&at| at >= HEAD_LEN);
    let tail = tail_at.and_then(|at| Some((at, bytes.get(at..)?)));
    let Some((tail_at, [a, b, c, d, magic @ ..])) = tail else {
        let expected = HEAD_LEN + TAIL_LEN;
        return Err(format(format!("an Arrow file of {} bytes, expected at least {expected}", bytes.len())));
    };
    if magic != MAGIC {
        return Err(format("an Arrow file that does not end in ARROW1: cut off"));
    }
    let len = i32::from_le_bytes([*a, *b, *c, *d]);
    let start = usize::try_from(len).ok().and_then(|len| tail_at.checked_sub(len)).filter(|&start| start >= HEAD_LEN);
    let Some(start) = start else {
        let present = tail_at - HEAD_LEN;
        return Err(format(format!("an Arrow file with a footer of {len} bytes, of which {present} are present")));
    };
    let footer = &bytes[start..tail_at];
    let parsed = root_as_footer_with_opts(&options(footer), footer);
    Ok((start, parsed.map_err(|cause| damaged("the footer of the Arrow file", cause.to_string()))?))
}

/// The message that a footer points to, behind the one before it.
fn block_place<'a>(bytes: &'a [u8], block: &Block, within: Range<usize>) -> Result<(Message<'a>, Place)> {
    let (offset, header_len, body_len) = (block.offset(), block.metaDataLength(), block.bodyLength());
    let checked = || {
        let start = usize::try_from(offset).ok()?;
        let body = start.checked_add(usize::try_from(header_len).ok()?)?;
        let body_end = body.checked_add(usize::try_from(body_len).ok()?).filter(|&body_end| body_end <= within.end)?;
        Some((start, body..body_end))
    };
    let (start, body) = checked().ok_or_else(|| {
        let end = within.end;
        format(format!("{header_len} and {body_len} bytes at byte {offset}, expected them before the footer at {end}"))
    })?;
    if start < within.start {
        let end = within.start;
        return Err(format(format!("at byte {start}, expected it behind the one before it, which ends at {end}")));
    }
    let header =
        header(&bytes[..body.start], start)?.ok_or_else(|| format("the end of a stream, expected a message"))?;
    let message = parse(&bytes[header.clone()])?;
    if message.bodyLength() != body_len {
        let found = message.bodyLength();
        return Err(format(format!("a body of {found} bytes, expected {body_len} as the footer says")));
    }
    Ok((message, Place { header, body }))
}
