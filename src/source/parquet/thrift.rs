//! Walks over structures in Thrift's compact protocol, which Parquet's footer and page headers are, to check what the
//! parquet crate takes on trust.
//!
//! Source: the compact protocol
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>). Refused, as no writer of Parquet
//! makes it: lists and maps of `bool` in what is skipped, which implementations do not agree on, and structures deeper than
//! [`MAX_DEPTH`].

use crate::error::{Error, ErrorKind, Result};

/// How deep structures may be nested.
const MAX_DEPTH: usize = 32;

/// The type of a field or an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    pub(super) const TRUE: Self = Self(1);
    const FALSE: Self = Self(2);
    pub(super) const I8: Self = Self(3);
    pub(super) const I16: Self = Self(4);
    pub(super) const I32: Self = Self(5);
    pub(super) const I64: Self = Self(6);
    pub(super) const DOUBLE: Self = Self(7);
    pub(super) const BINARY: Self = Self(8);
    pub(super) const LIST: Self = Self(9);
    pub(super) const STRUCT: Self = Self(12);

    /// Whether it is that of a truth value, which it says itself.
    pub(super) fn is_bool(self) -> bool {
        self == Self::TRUE || self == Self::FALSE
    }
}

/// Where in a structure the walk is.
#[derive(Debug, Clone)]
pub(super) struct Compact<'a> {
    rest: &'a [u8],
}

fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::Format, what)
}

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that follow.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| damaged("metadata that is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("metadata with a number of more than 64 bits"))
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        let zigzag = self.varint()?;
        let value = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        i32::try_from(value).map_err(|_| damaged("metadata with a number of more than 32 bits"))
    }

    fn binary(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.varint()?).map_err(|_| damaged("metadata that is cut off"))?;
        self.take(len)
    }

    /// The number and the type of the next field; `None` at the end of a structure.
    pub(super) fn field(&mut self, last: &mut i16) -> Result<Option<(i16, Kind)>> {
        let byte = self.byte()?;
        if byte & 0xf == 0 {
            return Ok(None);
        }
        *last = match byte >> 4 {
            0 => i16::try_from(self.i32()?).map_err(|_| damaged("metadata with a field of more than 16 bits"))?,
            delta => last.checked_add(delta.into()).ok_or_else(|| damaged("metadata with too many fields"))?,
        };
        Ok(Some((*last, Kind(byte & 0xf))))
    }

    /// The type and the number of the elements of a list. Each takes a byte at least.
    pub(super) fn list(&mut self) -> Result<(Kind, usize)> {
        let byte = self.byte()?;
        let len = match byte >> 4 {
            15 => usize::try_from(self.varint()?).unwrap_or(usize::MAX),
            len => len.into(),
        };
        if len > self.rest.len() {
            return Err(damaged("metadata with a list that is longer than all of it"));
        }
        Ok((Kind(byte & 0xf), len))
    }

    /// Passes over a value. What a field that has a `bool` as its value is, its type says.
    pub(super) fn skip(&mut self, kind: Kind) -> Result<()> {
        self.skip_within(kind, MAX_DEPTH)
    }

    fn skip_within(&mut self, kind: Kind, depth: usize) -> Result<()> {
        let Some(depth) = depth.checked_sub(1) else { return Err(damaged("metadata that is nested too deep")) };
        match kind.0 {
            1 | 2 => Ok(()),
            3 => self.take(1).map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.take(8).map(drop),
            8 => self.binary().map(drop),
            9 | 10 => {
                let (kind, len) = self.list()?;
                (0..len).try_for_each(|_| self.skip_element(kind, depth))
            }
            11 => {
                let len = self.varint()?;
                if len > self.rest.len() as u64 {
                    return Err(damaged("metadata with a map that is longer than all of it"));
                }
                let kinds = if len == 0 { 0 } else { self.byte()? };
                (0..len).try_for_each(|_| {
                    self.skip_element(Kind(kinds >> 4), depth)?;
                    self.skip_element(Kind(kinds & 0xf), depth)
                })
            }
            12 => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip_within(kind, depth)?;
                }
                Ok(())
            }
            13 => self.take(16).map(drop),
            _ => Err(damaged("metadata with a type that there is not")),
        }
    }

    fn skip_element(&mut self, kind: Kind, depth: usize) -> Result<()> {
        match kind.0 {
            1 | 2 => Err(damaged("metadata with a list of truth values")),
            _ => self.skip_within(kind, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(kind: u8, bytes: &[u8]) -> Result<usize> {
        let mut walk = Compact::new(bytes);
        walk.skip(Kind(kind))?;
        Ok(bytes.len() - walk.rest().len())
    }

    #[test]
    fn values_are_passed_over() {
        for (kind, bytes, expected) in [
            (1, &[][..], 0),
            (3, &[0x80], 1),
            (5, &[0x80, 0x01], 2),
            (7, &[0; 9], 8),
            (8, &[2, b'a', b'b', b'c'], 3),
            (9, &[0x35, 1, 2, 3, 4], 4),
            (9, &[0xf3, 2, 1, 2, 3], 4),
            (9, &[0], 1),
            (11, &[0], 1),
            (11, &[1, 0x58, 7, 1, b'x'], 5),
            (12, &[0x15, 2, 0x11, 0x18, 1, b'x', 0], 7),
            (12, &[0x05, 0x64, 9, 0], 4),
            (13, &[0; 16], 16),
        ] {
            assert_eq!(skip(kind, bytes).unwrap(), expected, "{kind} {bytes:?}");
        }
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        for (kind, bytes, expected) in [
            (5, &[][..], "cut off"),
            (5, &[0x80; 20], "more than 64 bits"),
            (5, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "more than 64 bits"),
            (7, &[0; 7], "cut off"),
            (8, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "cut off"),
            (9, &[0x45, 1, 2, 3], "longer than all of it"),
            (9, &[0xf5, 0xff, 0xff, 0xff, 0xff, 7], "longer than all of it"),
            (9, &[0x22, 1, 1], "truth values"),
            (11, &[5, 0x58, 1, 1], "longer than all of it"),
            (12, &[0x1e], "a type that there is not"),
            (9, &[0x19; 100], "nested too deep"),
        ] {
            let error = skip(kind, bytes).unwrap_err();
            assert!(error.message().ends_with(expected), "{kind} {bytes:?}: {error}");
        }
        assert_eq!(Compact::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).i32().unwrap(), i32::MIN);
        assert!(Compact::new(&[0x80, 0x80, 0x80, 0x80, 0x10]).i32().is_err());
    }
}
