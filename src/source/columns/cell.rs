//! One value of an array: whether it is there, and where, and its bytes.

use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, DictionaryArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray,
    StringArray, StringViewArray,
};
use arrow_buffer::Buffer;
use arrow_schema::DataType;
use bytes::Bytes;

/// The values that an array's own values stand for: those of its dictionary, if it has one.
pub(super) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// Where a value is, or `None` if it is null. A value of a dictionary is in the dictionary.
#[inline]
pub(super) fn resolve(array: &dyn Array, at: usize) -> Option<(&dyn Array, usize)> {
    if array.is_null(at) {
        return None;
    }
    let DataType::Dictionary(key, _) = array.data_type() else { return Some((array, at)) };
    macro_rules! keyed {
        ($($kind:ident: $arrow:ident),+) => {
            match &**key {
                $(DataType::$kind => {
                    let array = array.as_any().downcast_ref::<DictionaryArray<$arrow>>()?;
                    (&**array.values(), array.key(at)?)
                })+
                _ => return None,
            }
        };
    }
    let (values, at) = keyed!(
        Int8: Int8Type, Int16: Int16Type, Int32: Int32Type, Int64: Int64Type,
        UInt8: UInt8Type, UInt16: UInt16Type, UInt32: UInt32Type, UInt64: UInt64Type
    );
    // An index beyond its dictionary was refused when the array was decoded.
    (at < values.len() && !values.is_null(at)).then_some((values, at))
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn is_binary(data_type: &DataType) -> bool {
    use DataType as D;
    matches!(data_type, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_))
}

/// A string.
#[inline]
pub(super) fn text(array: &dyn Array, at: usize) -> Option<&str> {
    let any = array.as_any();
    if at >= array.len() {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => any.downcast_ref::<StringArray>()?.value(at),
        DataType::LargeUtf8 => any.downcast_ref::<LargeStringArray>()?.value(at),
        DataType::Utf8View => any.downcast_ref::<StringViewArray>()?.value(at),
        _ => return None,
    })
}

/// The bytes of a binary value, without a copy, except of those that a view array keeps within itself (at most 12).
pub(super) fn binary(array: &dyn Array, at: usize) -> Option<Bytes> {
    let any = array.as_any();
    if at >= array.len() {
        return None;
    }
    let (buffer, start, len) = match array.data_type() {
        DataType::Binary => {
            let array = any.downcast_ref::<BinaryArray>()?;
            let start = usize::try_from(*array.value_offsets().get(at)?).ok()?;
            (array.values(), start, array.value(at).len())
        }
        DataType::LargeBinary => {
            let array = any.downcast_ref::<LargeBinaryArray>()?;
            let start = usize::try_from(*array.value_offsets().get(at)?).ok()?;
            (array.values(), start, array.value(at).len())
        }
        DataType::FixedSizeBinary(_) => {
            let array = any.downcast_ref::<FixedSizeBinaryArray>()?;
            (array.values(), at * array.value_size(), array.value_size())
        }
        DataType::BinaryView => return view(any.downcast_ref::<BinaryViewArray>()?, at),
        _ => return None,
    };
    share(buffer, start, len)
}

fn share(buffer: &Buffer, start: usize, len: usize) -> Option<Bytes> {
    buffer.len().checked_sub(start).filter(|&present| present >= len)?;
    Some(Bytes::from_owner(buffer.slice_with_length(start, len)))
}

/// Source: the layout of views in the Arrow columnar format
/// (<https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout>): length, the first four bytes,
/// number of the buffer, place in it, 32 bits each; up to 12 bytes instead stand behind the length.
fn view(array: &BinaryViewArray, at: usize) -> Option<Bytes> {
    let view = *array.views().get(at)?;
    let [len, _, buffer, start] = [0, 32, 64, 96].map(|shift| (view >> shift) as u32 as usize);
    if len <= 12 {
        return Some(Bytes::copy_from_slice(array.value(at)));
    }
    share(array.data_buffers().get(buffer)?, start, len)
}
