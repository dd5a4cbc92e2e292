//! Any bytes, taken for an `.npz` archive, are one or an error; what is read of it the crate `zip` reads, too. Arrays
//! put into an archive come out of it, and a damaged archive does not give another array where there is a checksum.

use std::io::{Cursor, Read, Write};

use ndarray::Ix1;
use procession::source::{Npy, Npz};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// No larger array is decompressed.
pub(crate) const LIMIT_BYTES: u64 = 1 << 20;

fn open(bytes: &[u8]) -> procession::Result<Npz> {
    Npz::options().limit_bytes(LIMIT_BYTES).from_bytes(bytes.to_vec(), "fuzzed")
}

pub(crate) fn check(bytes: &[u8]) {
    match open(bytes) {
        Ok(npz) => {
            let names: Vec<&str> = npz.names().collect();
            for name in names {
                match npz.array(name) {
                    Ok(npy) => compare(bytes, name, &npy),
                    Err(error) => assert!(error.to_string().contains("fuzzed/"), "{error} names the member"),
                }
            }
        }
        Err(error) => assert!(error.to_string().contains("fuzzed"), "{error} names the file"),
    }
    round_trip(bytes);
}

/// Whether `zip` may understand an archive otherwise: it looks for the end of the directory in the comment, too, and
/// takes numbers of 64 bits that nothing refers to.
fn is_ambiguous(bytes: &[u8]) -> bool {
    let ends = bytes.windows(4).filter(|bytes| bytes == b"PK\x05\x06").count();
    ends > 1 || bytes.windows(4).any(|bytes| matches!(bytes, [1, 0, 24..=255, _] | b"PK\x06\x06" | b"PK\x06\x07"))
}

fn compare(bytes: &[u8], name: &str, npy: &Npy) {
    let Some(mut archive) = ZipArchive::new(Cursor::new(bytes)).ok().filter(|_| !is_ambiguous(bytes)) else { return };
    let name = format!("{name}.npy");
    for at in 0..archive.len() {
        let Ok(mut member) = archive.by_index(at) else { continue };
        let (mut content, is_stored) = (Vec::new(), member.compression() == CompressionMethod::Stored);
        if member.name_raw() != name.as_bytes() {
            continue;
        }
        // What is mapped has its checksum not compared.
        if member.read_to_end(&mut content).is_ok() || is_stored {
            let again = Npy::from_bytes(content, "again").expect("both read the same");
            assert_eq!((again.shape(), again.data()), (npy.shape(), npy.data()), "{name}");
        }
    }
}

/// Packs the bytes as arrays of which every second one is compressed, and damages a bit that follows from them.
fn round_trip(bytes: &[u8]) {
    let parts: Vec<&[u8]> = bytes.chunks(1 + bytes.len() / 3).collect();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (at, part) in parts.iter().enumerate() {
        let method = if at % 2 == 0 { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("{at}.npy"), options).expect("no name comes twice");
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({},)}}", part.len());
        let start = [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        writer.write_all(&start).and_then(|()| writer.write_all(part)).expect("memory takes any bytes");
    }
    let mut packed = writer.finish().expect("memory takes any bytes").into_inner();
    let npz = open(&packed).expect("it was written so");
    let numbers = |npz: &Npz, at: usize| npz.array(&at.to_string())?.to_array::<u8, Ix1>();
    for (at, part) in parts.iter().enumerate() {
        assert_eq!(numbers(&npz, at).expect("it was written so").as_slice(), Some(*part));
    }
    let sum = bytes.iter().fold(0_usize, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let bit = sum % (8 * packed.len());
    packed[bit / 8] ^= 1 << (bit % 8);
    if let (Ok(damaged), Some(part)) = (open(&packed), parts.get(1)) {
        let numbers = numbers(&damaged, 1);
        assert!(numbers.is_err() || numbers.unwrap().as_slice() == Some(*part), "bit {bit} flipped");
    }
}
