//! Checks of what a batch holds that decoding takes on trust.
//!
//! Source: the layout of record batches in the Arrow columnar format
//! (<https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message>): a node for each column and each column
//! within, depth first, and the buffers of each, as many as its type has.

use arrow_ipc::{Buffer, FieldNode, MetadataVersion, RecordBatch};
use arrow_schema::{DataType, UnionMode};

use super::message::format;
use crate::error::{Error, ErrorKind, Result};

/// How many bytes the strings of a column of views may have in all, if that is more than [`BYTES_PER_BYTE`] times those
/// they refer to.
const VIEWED_BYTES: u64 = 256 << 20;

/// Views may refer to the same bytes. Real ones do some times over; all of them to all bytes would be days of checking
/// UTF-8, for a file of some megabytes.
const BYTES_PER_BYTE: u64 = 16;

/// Checks a column of a batch whose buffers lie in its body.
pub(super) fn check<'a>(
    batch: &RecordBatch<'a>,
    body: &'a [u8],
    version: MetadataVersion,
    mut columns: impl Iterator<Item = &'a DataType>,
    column: usize,
) -> Result<()> {
    let mut walk = Walk {
        nodes: batch.nodes().into_iter().flatten(),
        buffers: batch.buffers().into_iter().flatten(),
        num_buffers: batch.variadicBufferCounts().into_iter().flatten(),
        body,
        version,
        is_checked: false,
    };
    columns.by_ref().take(column).try_for_each(|data_type| walk.pass(data_type))?;
    walk.is_checked = true;
    columns.next().map_or(Ok(()), |data_type| walk.pass(data_type))
}

/// Where in a batch the walk is.
struct Walk<'a, N, B, V> {
    nodes: N,
    buffers: B,
    /// Of each column of views, how many buffers they refer to.
    num_buffers: V,
    body: &'a [u8],
    version: MetadataVersion,
    /// Or only passed over.
    is_checked: bool,
}

impl<'a, N, B, V> Walk<'a, N, B, V>
where
    N: Iterator<Item = &'a FieldNode>,
    B: Iterator<Item = &'a Buffer>,
    V: Iterator<Item = i64>,
{
    fn pass(&mut self, data_type: &DataType) -> Result<()> {
        use DataType as D;
        let node = self.nodes.next().ok_or_else(|| format("fewer nodes than columns"))?;
        match data_type {
            D::Null => Ok(()),
            D::Utf8View | D::BinaryView => {
                self.validity(node)?;
                self.views(node, data_type)
            }
            D::Utf8 | D::LargeUtf8 | D::Binary | D::LargeBinary => {
                self.validity(node)?;
                self.buffers(2)
            }
            D::List(item) | D::LargeList(item) | D::Map(item, _) => {
                self.validity(node)?;
                self.buffers(1)?;
                self.pass(item.data_type())
            }
            D::ListView(item) | D::LargeListView(item) => {
                self.validity(node)?;
                self.buffers(2)?;
                self.pass(item.data_type())
            }
            D::FixedSizeList(item, _) => {
                self.validity(node)?;
                self.pass(item.data_type())
            }
            D::Struct(fields) => {
                self.validity(node)?;
                fields.iter().try_for_each(|field| self.pass(field.data_type()))
            }
            D::RunEndEncoded(ends, values) => {
                self.pass(ends.data_type())?;
                self.pass(values.data_type())
            }
            D::Union(fields, mode) => {
                let of_nulls = usize::from(self.version < MetadataVersion::V5);
                self.buffers(of_nulls + 1 + usize::from(*mode == UnionMode::Dense))?;
                fields.iter().try_for_each(|(_, field)| self.pass(field.data_type()))
            }
            // Of a fixed width, be it that of indices into a dictionary.
            _ => {
                self.validity(node)?;
                self.buffers(1)
            }
        }
    }

    fn buffer(&mut self) -> Result<&'a [u8]> {
        let buffer = self.buffers.next().ok_or_else(|| format("fewer buffers than its columns have"))?;
        let find = || {
            let start = usize::try_from(buffer.offset()).ok()?;
            self.body.get(start..start.checked_add(usize::try_from(buffer.length()).ok()?)?)
        };
        find().ok_or_else(|| format("a buffer beyond its body"))
    }

    fn buffers(&mut self, num: usize) -> Result<()> {
        (0..num).try_for_each(|_| self.buffer().map(drop))
    }

    /// A bit for each value that is there. The decoder looks at them only if there are nulls, as the node says: what it
    /// says must be so, or nulls would come out as values.
    fn validity(&mut self, node: &FieldNode) -> Result<()> {
        let bits = self.buffer()?;
        if !self.is_checked || node.null_count() != 0 {
            return Ok(());
        }
        let len = usize::try_from(node.length()).unwrap_or(usize::MAX);
        let (whole, rest) = bits.split_at(bits.len().min(len / 8));
        let mask = rest.first().map_or(0, |last| !last & ((1_u8 << (len % 8)) - 1));
        let num_nulls = whole.iter().map(|byte| u64::from(byte.count_zeros())).sum::<u64>();
        // A buffer that is too short for its values has no bits for the rest of them.
        let of_rest = if whole.len() == len / 8 { mask.count_ones() } else { 0 };
        match num_nulls + u64::from(of_rest) {
            0 => Ok(()),
            found => Err(format(format!("{found} nulls among {len} values, expected none as the node says"))),
        }
    }

    fn views(&mut self, node: &FieldNode, data_type: &DataType) -> Result<()> {
        let views = self.buffer()?;
        let num_buffers =
            self.num_buffers.next().ok_or_else(|| format("fewer counts of buffers than columns of views"))?;
        let mut present = views.len() as u64;
        for _ in 0..num_buffers {
            present += self.buffer()?.len() as u64;
        }
        // Other bytes are not looked at.
        if !self.is_checked || data_type != &DataType::Utf8View {
            return Ok(());
        }
        let (views, _) = views.as_chunks::<16>();
        let len = usize::try_from(node.length()).unwrap_or(usize::MAX);
        let viewed: u64 =
            views.iter().take(len).map(|&[a, b, c, d, ..]| u64::from(u32::from_le_bytes([a, b, c, d]))).sum();
        let limit = present.saturating_mul(BYTES_PER_BYTE).max(VIEWED_BYTES);
        if viewed > limit {
            let message =
                format!("strings of {viewed} bytes in all that share {present}, of which {limit} are the limit");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(())
    }
}
