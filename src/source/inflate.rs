//! Decompressing no more than what is promised, in memory that grows with what is really there.

use std::io::{self, Read};

use crate::error::{Error, ErrorKind, Result};

/// The most that a deflate stream of this length can hold: none expands to more than 1,032 times its length.
pub(super) fn max_inflated(compressed_len: usize) -> usize {
    compressed_len.saturating_mul(1032)
}

/// Reads on until there are `len` bytes or no more. Memory grows with what was read, not with what was promised. `what`
/// is the stream, for errors.
pub(super) fn read_up_to(stream: &mut impl Read, plain: &mut Vec<u8>, len: usize, what: &str) -> Result<()> {
    const FIRST_BYTES: usize = 1 << 16;

    while plain.len() < len {
        let start = plain.len();
        let end = len.min(start.saturating_mul(2).max(FIRST_BYTES));
        plain.try_reserve_exact(end - start).map_err(|cause| damaged(cause.into(), start, len, what))?;
        plain.resize(end, 0);
        let mut filled = start;
        while filled < end {
            match stream.read(&mut plain[filled..end]) {
                Ok(0) => {
                    plain.truncate(filled);
                    return Ok(());
                }
                Ok(read) => filled += read,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(damaged(cause, filled, len, what)),
            }
        }
    }
    Ok(())
}

/// What is wrong with a stream that cannot be read.
pub(super) fn damaged(cause: io::Error, read: usize, len: usize, stream: &str) -> Error {
    let (kind, what) = match cause.kind() {
        io::ErrorKind::UnexpectedEof => (ErrorKind::Format, format!("{stream} is cut off")),
        io::ErrorKind::OutOfMemory => (ErrorKind::Limit, format!("not enough memory for the {stream}")),
        _ => (ErrorKind::Format, format!("{stream} is damaged")),
    };
    Error::new(kind, format!("{what}: {read} bytes decompressed, expected {len} and a checksum")).with_cause(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_is_there() {
        let mut plain = Vec::new();
        read_up_to(&mut io::repeat(7).take(100), &mut plain, 1 << 40, "stream").unwrap();
        assert!(plain == [7; 100] && plain.capacity() <= 1 << 16, "{} bytes reserved", plain.capacity());
        read_up_to(&mut io::repeat(8).take(200_000), &mut plain, 200_000, "stream").unwrap();
        assert_eq!((plain.len(), plain[100], plain[199_999]), (200_000, 8, 8));
    }
}
