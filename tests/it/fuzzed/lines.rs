//! Any bytes, taken for a text file, give the lines that a trivial reader gives, or an error for each that is not UTF-8
//! or too long.

use procession::source::Lines;
use procession::{ErrorKind, Sequence};

/// Longer lines are refused.
const LIMIT_BYTES: usize = 40;

/// The lines of a file, in the plainest way.
pub(crate) fn read(bytes: &[u8]) -> Vec<&[u8]> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    lines
        .map(|line| match line {
            [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => line,
            line => line,
        })
        .collect()
}

pub(crate) fn check(bytes: &[u8]) {
    let lines = Lines::options().limit_bytes(LIMIT_BYTES).from_bytes(bytes.to_vec(), "fuzzed");
    let lines = lines.expect("any bytes have lines");
    let plain = read(bytes);
    assert_eq!(lines.len(), plain.len());
    let mut row = "what was there before".to_owned();
    for (index, expected) in plain.into_iter().enumerate() {
        assert_eq!(lines.bytes(index), expected);
        match lines.get(index) {
            Ok(line) => {
                assert!(line.as_bytes() == expected && line.len() <= LIMIT_BYTES);
                lines.get_into(index, &mut row).expect("it was loaded before");
                assert_eq!(row, line);
            }
            Err(error) => {
                let is_long = expected.len() > LIMIT_BYTES;
                assert!(is_long || std::str::from_utf8(expected).is_err(), "{error}");
                assert_eq!(error.kind() == ErrorKind::Limit, is_long, "{error}");
                assert!(error.message().contains(&format!("line {}", index + 1)), "{error} names the line");
                assert!(error.to_string().contains("fuzzed"), "{error} names the file");
            }
        }
    }
}
