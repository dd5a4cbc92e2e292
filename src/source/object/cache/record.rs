//! What stands in a file of the cache.
//!
//! | part | bytes |
//! |---|---|
//! | magic | `procobj1` |
//! | CRC-32 of all that follows | 4, little-endian |
//! | length of the identity | 4 |
//! | length of the payload | 8 |
//! | identity: URL, version, range | |
//! | payload | |

use std::ops::Range;

const MAGIC: &[u8; 8] = b"procobj1";
const CHECKSUM_END: usize = 12;
const HEAD_BYTES: usize = 24;

/// What a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What was looked for, and where in the file its bytes are.
    Payload(Range<usize>),
    /// A file that is right, of something else.
    Other,
    Damaged,
}

/// The size of the file for a payload.
pub(super) fn size_bytes(identity: &str, payload: &[u8]) -> u64 {
    (HEAD_BYTES + identity.len()) as u64 + payload.len() as u64
}

/// What stands before the payload.
pub(super) fn head(identity: &str, payload: &[u8]) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend([0; 4]);
    // A URL and a few numbers: far from 4 GiB, and one that were longer would be damaged when it is read.
    head.extend((identity.len() as u32).to_le_bytes());
    head.extend((payload.len() as u64).to_le_bytes());
    head.extend(identity.as_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&head[CHECKSUM_END..]);
    checksum.update(payload);
    head[MAGIC.len()..CHECKSUM_END].copy_from_slice(&checksum.finalize().to_le_bytes());
    head
}

pub(super) fn parse(file: &[u8], identity: &str) -> Found {
    match place_of_payload(file) {
        Some((found, _)) if found != identity.as_bytes() => Found::Other,
        Some((_, place)) => Found::Payload(place),
        None => Found::Damaged,
    }
}

/// The identity, and where the payload is, if all of the file is right.
fn place_of_payload(file: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let rest = file.strip_prefix(MAGIC)?;
    let (checksum, checked) = rest.split_first_chunk::<4>()?;
    let (identity_len, rest) = checked.split_first_chunk::<4>()?;
    let (payload_len, rest) = rest.split_first_chunk::<8>()?;
    let identity = rest.get(..usize::try_from(u32::from_le_bytes(*identity_len)).ok()?)?;
    let payload = &rest[identity.len()..];
    let is_right = payload.len() as u64 == u64::from_le_bytes(*payload_len)
        && crc32fast::hash(checked) == u32::from_le_bytes(*checksum);
    is_right.then(|| (identity, file.len() - payload.len()..file.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_every_damage_is_seen() {
        for (identity, payload) in [("s3://b/k\n5 bytes\nall", &b"hello"[..]), ("", b""), ("x", &[7; 300])] {
            let file = [head(identity, payload), payload.to_vec()].concat();
            assert_eq!(file.len() as u64, size_bytes(identity, payload));
            let Found::Payload(place) = parse(&file, identity) else { panic!("it is right") };
            assert_eq!(&file[place], payload);
            assert_eq!(parse(&file, "other"), Found::Other);
            for len in 0..file.len() {
                assert_eq!(parse(&file[..len], identity), Found::Damaged, "cut at {len}");
            }
            for bit in 0..8 * file.len() {
                let mut flipped = file.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(parse(&flipped, identity), Found::Damaged, "bit {bit}");
            }
            assert_eq!(parse(&[&file[..], b"x"].concat(), identity), Found::Damaged);
        }
    }
}
