//! The types of elements, and how they are read from bytes that need not be aligned.

use std::fmt;

use half::f16;

use crate::batch::stack::Element;

/// The type of the elements in an `.npy` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NpyType {
    /// Truth values, one byte each: `b1`.
    Bool,
    /// `u1`.
    U8,
    /// `u2`.
    U16,
    /// `u4`.
    U32,
    /// `u8`.
    U64,
    /// `i1`.
    I8,
    /// `i2`.
    I16,
    /// `i4`.
    I32,
    /// `i8`.
    I64,
    /// Half precision, [`half::f16`]: `f2`.
    F16,
    /// `f4`.
    F32,
    /// `f8`.
    F64,
}

impl NpyType {
    const ALL: [Self; 12] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F16,
        Self::F32,
        Self::F64,
    ];

    /// The type that NumPy names so, without the byte order.
    pub(super) fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.code() == code)
    }

    /// NumPy's name, without the byte order.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Bool => "b1",
            Self::U8 => "u1",
            Self::U16 => "u2",
            Self::U32 => "u4",
            Self::U64 => "u8",
            Self::I8 => "i1",
            Self::I16 => "i2",
            Self::I32 => "i4",
            Self::I64 => "i8",
            Self::F16 => "f2",
            Self::F32 => "f4",
            Self::F64 => "f8",
        }
    }

    /// The size of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

impl fmt::Display for NpyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// A type that `.npy` files may hold: `bool`, `u8` to `u64`, `i8` to `i64`, [`half::f16`], `f32` or `f64`.
pub trait NpyElement: Element + private::Sealed {
    /// Its type in the file.
    const TYPE: NpyType;

    /// Reads as many elements as there is room for; the error is the place of the first that is none of this type.
    #[doc(hidden)]
    fn read(bytes: &[u8], big_endian: bool, to: &mut [Self]) -> Result<(), usize>;

    #[doc(hidden)]
    fn push_little_endian(self, bytes: &mut Vec<u8>);
}

mod private {
    pub trait Sealed {}
}

macro_rules! number {
    ($($number:ty: $kind:ident),+) => {$(
        impl private::Sealed for $number {}
        impl NpyElement for $number {
            const TYPE: NpyType = NpyType::$kind;

            #[inline]
            fn read(bytes: &[u8], big_endian: bool, to: &mut [Self]) -> Result<(), usize> {
                let (elements, rest) = bytes.as_chunks();
                assert_eq!((elements.len(), rest.len()), (to.len(), 0), "as many bytes as the elements have");
                // Where the order is the machine's, the compiler makes a copy of it.
                if big_endian {
                    to.iter_mut().zip(elements).for_each(|(to, bytes)| *to = Self::from_be_bytes(*bytes));
                } else {
                    to.iter_mut().zip(elements).for_each(|(to, bytes)| *to = Self::from_le_bytes(*bytes));
                }
                Ok(())
            }
            fn push_little_endian(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )+};
}
number!(u8: U8, u16: U16, u32: U32, u64: U64, i8: I8, i16: I16, i32: I32, i64: I64, f16: F16, f32: F32, f64: F64);

impl private::Sealed for bool {}
impl NpyElement for bool {
    const TYPE: NpyType = NpyType::Bool;

    fn read(bytes: &[u8], _big_endian: bool, to: &mut [Self]) -> Result<(), usize> {
        assert_eq!(bytes.len(), to.len(), "as many bytes as the elements have");
        to.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte == 1);
        match bytes.iter().all(|&byte| byte <= 1) {
            true => Ok(()),
            false => Err(bytes.iter().take_while(|&&byte| byte <= 1).count()),
        }
    }
    fn push_little_endian(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_their_names() {
        for element in NpyType::ALL {
            assert_eq!(NpyType::from_code(element.code()), Some(element));
            assert!(element.code().ends_with(&element.size_bytes().to_string()));
        }
        for code in ["", "f", "f1", "f16", "i16", "b2", "c8", "U1", "?"] {
            assert_eq!(NpyType::from_code(code), None, "{code}");
        }
    }

    #[test]
    fn both_byte_orders_are_read() {
        let mut numbers = [0_u32; 2];
        u32::read(&[1, 2, 3, 4, 0, 0, 0, 9], true, &mut numbers).unwrap();
        assert_eq!(numbers, [0x0102_0304, 9]);
        u32::read(&[1, 2, 3, 4, 9, 0, 0, 0], false, &mut numbers).unwrap();
        assert_eq!(numbers, [0x0403_0201, 9]);
        let mut halves = [f16::ZERO];
        f16::read(&[0x3e, 0x00], true, &mut halves).unwrap();
        assert_eq!(halves, [f16::from_f32(1.5)]);
    }

    #[test]
    fn bytes_that_are_no_truth_values_are_found() {
        let mut values = [false; 4];
        bool::read(&[0, 1, 1, 0], false, &mut values).unwrap();
        assert_eq!(values, [false, true, true, false]);
        assert_eq!(bool::read(&[0, 1, 2, 255], false, &mut values), Err(2));
    }
}
