//! The lengths in pages of strings that are encoded by differences, to know what memory the strings take before the
//! parquet crate makes them.
//!
//! Source: Parquet's encodings `DELTA_BINARY_PACKED`, `DELTA_LENGTH_BYTE_ARRAY` and `DELTA_BYTE_ARRAY`
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>).

use crate::error::{Error, ErrorKind, Result};

fn damaged(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Format, what)
}

/// A header of packed differences.
struct Header {
    values_per_mini_block: usize,
    mini_blocks_per_block: usize,
    num_values: usize,
    first: i32,
}

/// Bytes that are read from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for (at, &byte) in self.0.iter().enumerate().take(9) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(damaged("lengths of strings that are cut off"))
    }

    fn count(&mut self) -> Result<usize> {
        usize::try_from(self.varint()?).map_err(|_| damaged("lengths of strings that are too many"))
    }

    fn difference(&mut self) -> Result<i32> {
        let zigzag = self.varint()?;
        let value = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        i32::try_from(value).map_err(|_| damaged("a length of a string of more than 32 bits"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or_else(|| damaged("lengths of strings that are cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A header that promises no more values than there are in its page.
    fn header(&mut self, most: usize) -> Result<Header> {
        let (block, mini_blocks_per_block, num_values) = (self.count()?, self.count()?, self.count()?);
        let first = self.difference()?;
        let values_per_mini_block = block.checked_div(mini_blocks_per_block).unwrap_or(0);
        if values_per_mini_block == 0
            || !values_per_mini_block.is_multiple_of(32)
            || block != values_per_mini_block * mini_blocks_per_block
        {
            let message = format!("lengths of strings in {mini_blocks_per_block} parts of a block of {block}");
            return Err(damaged(message));
        }
        if num_values > most {
            return Err(damaged(format!("{num_values} lengths of strings, expected at most {most}")));
        }
        Ok(Header { values_per_mini_block, mini_blocks_per_block, num_values, first })
    }

    /// All of some packed numbers.
    fn numbers(&mut self, most: usize) -> Result<Vec<i32>> {
        let header = self.header(most)?;
        // A page may claim many values; each block of them takes some bytes at least.
        let mut numbers = Vec::new();
        if header.num_values > 0 {
            numbers.push(header.first);
        }
        while numbers.len() < header.num_values {
            let least = self.difference()?;
            let widths = self.take(header.mini_blocks_per_block)?;
            for &width in widths {
                let missing = header.num_values - numbers.len();
                if missing == 0 {
                    break;
                }
                if width > 32 {
                    return Err(damaged(format!("lengths of strings of {width} bits, expected at most 32")));
                }
                let packed_len = header.values_per_mini_block.saturating_mul(width.into()) / 8;
                // The last part may end with its values.
                let packed = self.take(packed_len.min(self.0.len()))?;
                unpack(packed, width, least, missing.min(header.values_per_mini_block), &mut numbers)?;
            }
        }
        Ok(numbers)
    }
}

fn unpack(packed: &[u8], width: u8, least: i32, num: usize, numbers: &mut Vec<i32>) -> Result<()> {
    if num.saturating_mul(width.into()).div_ceil(8) > packed.len() {
        return Err(damaged("lengths of strings that are cut off"));
    }
    let (mut bits, mut num_bits) = (0_u64, 0);
    let mut bytes = packed.iter();
    let mut last = numbers.last().copied().unwrap_or(0);
    for _ in 0..num {
        while num_bits < width {
            bits |= u64::from(bytes.next().copied().unwrap_or(0)) << num_bits;
            num_bits += 8;
        }
        let value = bits & ((1 << width) - 1);
        bits >>= width;
        num_bits -= width;
        // As everybody does it, differences wrap.
        last = last.wrapping_add(least).wrapping_add(value as u32 as i32);
        numbers.push(last);
    }
    Ok(())
}

/// Checks strings whose lengths are packed before them: `DELTA_LENGTH_BYTE_ARRAY`.
pub(super) fn check_lengths(values: &[u8], num_values: usize) -> Result<()> {
    Input(values).header(num_values).map(drop)
}

/// Checks strings that start as the one before, `DELTA_BYTE_ARRAY`, and returns the bytes that they take together.
pub(super) fn size_of_prefixed(values: &[u8], num_values: usize) -> Result<u64> {
    let mut input = Input(values);
    let (prefixes, suffixes) = (input.numbers(num_values)?, input.numbers(num_values)?);
    if prefixes.len() != suffixes.len() {
        return Err(damaged(format!("{} starts of strings, expected {}", prefixes.len(), suffixes.len())));
    }
    let (mut len, mut size) = (0_u64, 0_u64);
    for (prefix, suffix) in prefixes.into_iter().zip(suffixes) {
        let (Ok(prefix), Ok(suffix)) = (u64::try_from(prefix), u64::try_from(suffix)) else {
            return Err(damaged(format!("a string of {prefix} and {suffix} bytes")));
        };
        if prefix > len {
            return Err(damaged(format!("a string that starts with {prefix} bytes of one of {len}")));
        }
        len = prefix + suffix;
        size = size.saturating_add(len);
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(bytes: &[u8]) -> Result<Vec<i32>> {
        Input(bytes).numbers(1000)
    }

    #[test]
    fn packed_numbers_are_read() {
        // Blocks of 128 in 4 parts.
        let head = [0x80, 0x01, 4];
        assert!(numbers(&[&head[..], &[0, 0]].concat()).unwrap().is_empty());
        assert_eq!(numbers(&[&head[..], &[1, 14]].concat()).unwrap(), [7]);
        // Steps of 1 take no bits.
        assert_eq!(numbers(&[&head[..], &[4, 2, 2, 0, 0, 0, 0]].concat()).unwrap(), [1, 2, 3, 4]);
        // 3 bits each, least difference -2: 0, 1, 2, 3, 7.
        let packed = 0b111_011_010_001_000_u16.to_le_bytes();
        let bytes = [&head[..], &[6, 20, 3, 3, 9, 9, 9], &packed, &[0; 10]].concat();
        assert_eq!(numbers(&bytes).unwrap(), [10, 8, 7, 7, 8, 13]);
        // Values may end before their part does.
        assert_eq!(numbers(&bytes[..bytes.len() - 10]).unwrap(), [10, 8, 7, 7, 8, 13]);
        assert!(numbers(&bytes[..bytes.len() - 11]).unwrap_err().message().ends_with("cut off"));
    }

    #[test]
    fn lies_are_refused() {
        for (bytes, expected) in [
            (&[][..], "cut off"),
            (&[0x80; 30], "cut off"),
            (&[0x80, 0x01, 4, 0xe9, 7, 0], "1001 lengths of strings, expected at most 1000"),
            (&[0x80, 0x01, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], "expected at most 1000"),
            (&[0x80, 0x01, 0, 1, 0], "lengths of strings in 0 parts of a block of 128"),
            (&[0x80, 0x01, 3, 1, 0], "lengths of strings in 3 parts of a block of 128"),
            (&[4, 4, 1, 0], "lengths of strings in 4 parts of a block of 4"),
            (&[0x80, 0x01, 4, 2, 0, 0, 33, 0, 0, 0], "lengths of strings of 33 bits, expected at most 32"),
            (&[0x80, 0x01, 4, 2, 0, 0, 1, 0, 0, 0], "cut off"),
        ] {
            let error = numbers(bytes).unwrap_err();
            assert!(error.message().ends_with(expected), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn strings_that_start_as_others_are_summed_up() {
        // Prefixes 0, 2, 4 and suffixes 2, 2, 2: strings of 2, 4 and 6.
        let prefixes = [0x80, 0x01, 4, 3, 0, 4, 0, 0, 0, 0];
        let suffixes = [0x80, 0x01, 4, 3, 4, 0, 0, 0, 0, 0];
        let bytes = [prefixes, suffixes].concat();
        assert_eq!(size_of_prefixed(&bytes, 3).unwrap(), 12);
        assert!(size_of_prefixed(&bytes, 2).is_err());
        let swapped = [suffixes, prefixes].concat();
        assert_eq!(
            size_of_prefixed(&swapped, 3).unwrap_err().message(),
            "a string that starts with 2 bytes of one of 0"
        );
        let fewer = [prefixes, [0x80, 0x01, 4, 2, 4, 0, 0, 0, 0, 0]].concat();
        assert_eq!(size_of_prefixed(&fewer, 3).unwrap_err().message(), "3 starts of strings, expected 2");
        check_lengths(&suffixes, 3).unwrap();
        assert!(check_lengths(&suffixes, 2).is_err());
    }
}
