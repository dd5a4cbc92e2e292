//! The numbers that columns hold.

use std::ops::Range;

use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BooleanArray, PrimitiveArray};
use arrow_schema::DataType;

use super::blocks::physical;
use crate::batch::stack::Element;

/// What a column of a [`Table`](super::Table) may hold as numbers: `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, `bool`,
/// and `half::f16`.
///
/// A column is read as the type that it has, with two additions: `f32` also reads columns of 16-bit floats, and `i32` and
/// `i64` read dates, times and durations, as counts of the unit of their type.
pub trait ColumnElement: Element + private::Sealed {}

mod private {
    use super::*;

    pub trait Sealed: Sized {
        /// What errors call it.
        const NAME: &'static str;

        /// Whether values of this type can be read as these.
        fn reads(data_type: &DataType) -> bool;

        /// One value, if the array is of a type that can be read.
        fn get(array: &dyn Array, at: usize) -> Option<Self>;

        /// As many values as `out` has room for, from `start`.
        fn copy(array: &dyn Array, range: Range<usize>, out: &mut [Self]) -> Option<()>;

        /// The values as they lie in memory, if that is as these numbers.
        fn values(array: &dyn Array) -> Option<&[Self]>;
    }
}
use private::Sealed;

fn primitive<A: ArrowPrimitiveType>(array: &dyn Array) -> Option<&[A::Native]> {
    Some(array.as_any().downcast_ref::<PrimitiveArray<A>>()?.values())
}

macro_rules! element {
    ($($number:ty: $arrow:ident $name:literal),+) => {$(
        impl ColumnElement for $number {}
        impl Sealed for $number {
            const NAME: &'static str = $name;

            fn reads(data_type: &DataType) -> bool {
                physical(data_type) == &$arrow::DATA_TYPE
            }
            #[inline]
            fn get(array: &dyn Array, at: usize) -> Option<Self> {
                primitive::<$arrow>(array)?.get(at).copied()
            }
            fn copy(array: &dyn Array, range: Range<usize>, out: &mut [Self]) -> Option<()> {
                out.copy_from_slice(primitive::<$arrow>(array)?.get(range)?);
                Some(())
            }
            fn values(array: &dyn Array) -> Option<&[Self]> {
                primitive::<$arrow>(array)
            }
        }
    )+};
}
element!(
    i8: Int8Type "i8", i16: Int16Type "i16", i32: Int32Type "i32", i64: Int64Type "i64",
    u8: UInt8Type "u8", u16: UInt16Type "u16", u32: UInt32Type "u32", u64: UInt64Type "u64",
    half::f16: Float16Type "f16", f64: Float64Type "f64"
);

impl ColumnElement for f32 {}
impl Sealed for f32 {
    const NAME: &'static str = "f32";

    fn reads(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Float32 | DataType::Float16)
    }
    #[inline]
    fn get(array: &dyn Array, at: usize) -> Option<Self> {
        match primitive::<Float32Type>(array) {
            Some(values) => values.get(at).copied(),
            None => Some(primitive::<Float16Type>(array)?.get(at)?.to_f32()),
        }
    }
    fn copy(array: &dyn Array, range: Range<usize>, out: &mut [Self]) -> Option<()> {
        match primitive::<Float32Type>(array) {
            Some(values) => out.copy_from_slice(values.get(range)?),
            None => {
                let values = primitive::<Float16Type>(array)?.get(range)?;
                out.iter_mut().zip(values).for_each(|(out, value)| *out = value.to_f32());
            }
        }
        Some(())
    }
    fn values(array: &dyn Array) -> Option<&[Self]> {
        primitive::<Float32Type>(array)
    }
}

impl ColumnElement for bool {}
impl Sealed for bool {
    const NAME: &'static str = "bool";

    fn reads(data_type: &DataType) -> bool {
        data_type == &DataType::Boolean
    }
    #[inline]
    fn get(array: &dyn Array, at: usize) -> Option<Self> {
        let array = array.as_any().downcast_ref::<BooleanArray>()?;
        (at < array.len()).then(|| array.value(at))
    }
    fn copy(array: &dyn Array, range: Range<usize>, out: &mut [Self]) -> Option<()> {
        let array = array.as_any().downcast_ref::<BooleanArray>()?;
        if range.end > array.len() {
            return None;
        }
        out.iter_mut().zip(range).for_each(|(out, at)| *out = array.value(at));
        Some(())
    }
    /// Eight to a byte: nothing to point to.
    fn values(_array: &dyn Array) -> Option<&[Self]> {
        None
    }
}

/// An integer of any type.
#[inline]
pub(super) fn integer(array: &dyn Array, at: usize) -> Option<i128> {
    macro_rules! any_of {
        ($($arrow:ident)+) => {
            match array.data_type() {
                $(data_type if data_type == &$arrow::DATA_TYPE => {
                    primitive::<$arrow>(array)?.get(at).map(|&value| i128::from(value))
                })+
                _ => None,
            }
        };
    }
    any_of!(Int64Type Int32Type Int16Type Int8Type UInt8Type UInt16Type UInt32Type UInt64Type)
}
