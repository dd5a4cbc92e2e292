//! Any bytes, taken for a kept index of a tar archive, with a right checksum too, are one whose fields lie within the
//! archive, one after the other, or an error; what is one is the same after it was kept again.

use procession::ErrorKind;
use procession::source::TarIndex;

/// Magic, format version and checksum.
const HEAD_BYTES: usize = 13;

pub(crate) fn check(bytes: &[u8]) {
    check_one(bytes);
    check_one(&with_checksum(bytes));
}

/// The size that the index is for, as far as the bytes say one, so that it is not refused for another.
pub(crate) fn archive_bytes(bytes: &[u8]) -> u64 {
    let number = bytes.iter().skip(HEAD_BYTES).take(9);
    let mut size = 0;
    for (place, &byte) in number.enumerate() {
        size |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    size
}

fn check_one(bytes: &[u8]) {
    let size_bytes = archive_bytes(bytes);
    let index = match TarIndex::from_bytes(bytes, size_bytes, b"v") {
        Ok(index) => index,
        Err(error) => return assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::State), "{error}"),
    };
    assert_eq!(index.size_bytes(), size_bytes);
    assert!(TarIndex::from_bytes(bytes, size_bytes + 1, b"v").is_err());
    assert!(TarIndex::from_bytes(bytes, size_bytes, b"w").is_err());
    let mut end = 0;
    for entry in index.entries() {
        assert!(entry.fields().len() > 0);
        for field in entry.fields() {
            let range = field.range();
            assert!(range.start % 512 == 0 && range.start >= end + 512 && range.end <= size_bytes);
            assert!(entry.field(field.extension()).expect("it is there").range() == range);
            end = range.end;
        }
    }
    let again = TarIndex::from_bytes(&index.to_bytes(b"v"), size_bytes, b"v").expect("what was kept is read");
    assert_eq!(again, index);
}

pub(crate) fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some((head, rest)) = bytes.split_at_mut_checked(HEAD_BYTES) {
        head[9..].copy_from_slice(&crc32fast::hash(rest).to_le_bytes());
    }
    bytes
}
