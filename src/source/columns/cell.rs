//! One value of an array: whether it is there, and where, and its bytes.

use std::ops::Range;

use arrow_array::types::{
    ByteArrayType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, DictionaryArray, FixedSizeBinaryArray, GenericByteArray, LargeBinaryArray,
    LargeStringArray, StringArray, StringViewArray,
};
use arrow_buffer::{ArrowNativeType, Buffer};
use arrow_schema::DataType;
use bytes::Bytes;

/// The values that an array's own values stand for: those of its dictionary, if it has one.
pub(super) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// A value that is there and cannot be read: its array was checked when it was decoded, so that the file it lies in has
/// changed since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreadable;

/// Where a value is, or `None` if it is null. A value of a dictionary is in the dictionary.
#[inline]
pub(super) fn resolve(array: &dyn Array, at: usize) -> Result<Option<(&dyn Array, usize)>, Unreadable> {
    if array.is_null(at) {
        return Ok(None);
    }
    let DataType::Dictionary(key, _) = array.data_type() else { return Ok(Some((array, at))) };
    macro_rules! keyed {
        ($($kind:ident: $arrow:ident),+) => {
            match &**key {
                $(DataType::$kind => {
                    let array = array.as_any().downcast_ref::<DictionaryArray<$arrow>>().ok_or(Unreadable)?;
                    (&**array.values(), array.key(at).ok_or(Unreadable)?)
                })+
                _ => return Err(Unreadable),
            }
        };
    }
    let (values, at) = keyed!(
        Int8: Int8Type, Int16: Int16Type, Int32: Int32Type, Int64: Int64Type,
        UInt8: UInt8Type, UInt16: UInt16Type, UInt32: UInt32Type, UInt64: UInt64Type
    );
    if at >= values.len() {
        return Err(Unreadable);
    }
    Ok((!values.is_null(at)).then_some((values, at)))
}

/// The value at a place, by a function that finds it where it is; `None` if it is null.
#[inline]
pub(super) fn value<'a, V>(
    array: &'a dyn Array,
    at: usize,
    find: impl FnOnce(&'a dyn Array, usize) -> Option<V>,
) -> Result<Option<V>, Unreadable> {
    resolve(array, at)?.map(|(values, at)| find(values, at).ok_or(Unreadable)).transpose()
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn is_binary(data_type: &DataType) -> bool {
    use DataType as D;
    matches!(data_type, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_))
}

/// A string.
///
/// What was checked when the array was decoded may lie in a file, and may have changed since. So its text is copied, and
/// the copy is checked.
pub(super) fn text(array: &dyn Array, at: usize) -> Option<String> {
    let any = array.as_any();
    let copy = match array.data_type() {
        DataType::Utf8 => strings(any.downcast_ref::<StringArray>()?, at)?.to_vec(),
        DataType::LargeUtf8 => strings(any.downcast_ref::<LargeStringArray>()?, at)?.to_vec(),
        DataType::Utf8View => {
            let array = any.downcast_ref::<StringViewArray>()?;
            match view(array.views(), at)? {
                View::Within(len, bytes) => bytes.get(..len)?.to_vec(),
                View::In(buffer, range) => array.data_buffers().get(buffer)?.get(range)?.to_vec(),
            }
        }
        _ => return None,
    };
    String::from_utf8(copy).ok()
}

/// The bytes of a value between two offsets, each read once.
fn strings<T: ByteArrayType>(array: &GenericByteArray<T>, at: usize) -> Option<&[u8]> {
    array.value_data().get(bounds(array, at)?)
}

fn bounds<T: ByteArrayType>(array: &GenericByteArray<T>, at: usize) -> Option<Range<usize>> {
    let offsets = array.value_offsets().get(at..)?;
    let [start, end] = [offsets.first()?, offsets.get(1)?].map(|offset| offset.to_usize());
    Some(start?..end?)
}

/// The bytes of a binary value, without a copy, except of those that a view array keeps within itself (at most 12).
pub(super) fn binary(array: &dyn Array, at: usize) -> Option<Bytes> {
    let any = array.as_any();
    match array.data_type() {
        DataType::Binary => {
            let array = any.downcast_ref::<BinaryArray>()?;
            share(array.values(), bounds(array, at)?)
        }
        DataType::LargeBinary => {
            let array = any.downcast_ref::<LargeBinaryArray>()?;
            share(array.values(), bounds(array, at)?)
        }
        DataType::FixedSizeBinary(_) => {
            let array = any.downcast_ref::<FixedSizeBinaryArray>()?;
            let start = at.checked_mul(array.value_size())?;
            share(array.values(), start..start.checked_add(array.value_size())?)
        }
        DataType::BinaryView => {
            let array = any.downcast_ref::<BinaryViewArray>()?;
            match view(array.views(), at)? {
                View::Within(len, bytes) => Some(Bytes::copy_from_slice(bytes.get(..len)?)),
                View::In(buffer, range) => share(array.data_buffers().get(buffer)?, range),
            }
        }
        _ => None,
    }
}

fn share(buffer: &Buffer, range: Range<usize>) -> Option<Bytes> {
    let len = range.end.checked_sub(range.start)?;
    buffer.len().checked_sub(range.end)?;
    Some(Bytes::from_owner(buffer.slice_with_length(range.start, len)))
}

/// Where the bytes of a view are.
enum View {
    /// In the view: how many, and those with others behind them.
    Within(usize, [u8; 12]),
    In(usize, Range<usize>),
}

/// Source: the layout of views in the Arrow columnar format
/// (<https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout>): length, the first four bytes,
/// number of the buffer, place in it, 32 bits each; up to 12 bytes instead stand behind the length.
fn view(views: &[u128], at: usize) -> Option<View> {
    let view = *views.get(at)?;
    let [len, _, buffer, start] = [0, 32, 64, 96].map(|shift| (view >> shift) as u32 as usize);
    if len > 12 {
        return Some(View::In(buffer, start..start.checked_add(len)?));
    }
    let mut bytes = [0; 12];
    bytes.copy_from_slice(&view.to_le_bytes()[4..]);
    Some(View::Within(len, bytes))
}
