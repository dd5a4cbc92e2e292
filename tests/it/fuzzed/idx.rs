//! Any bytes, taken for an IDX file, give what a trivial reader gives: the same array, or an error where that finds
//! none.

use ndarray::{ArrayD, IxDyn};
use procession::Sequence;
use procession::source::{Idx, IdxElement, IdxType};

/// No larger file is decompressed.
const LIMIT_BYTES: u64 = 1 << 20;

/// An array as the format's description has it: the code of its type, its extents, and the bytes of its elements.
#[derive(Debug, PartialEq)]
struct Plain<'a> {
    code: u8,
    shape: Vec<usize>,
    data: &'a [u8],
}

/// Reads a plain file in the plainest way.
fn read(bytes: &[u8]) -> Option<Plain<'_>> {
    let [0, 0, code, rank @ 1..=u8::MAX, rest @ ..] = bytes else { return None };
    let size = match code {
        8 | 9 => 1,
        11 => 2,
        12 | 13 => 4,
        14 => 8,
        _ => return None,
    };
    let (extents, data) = rest.split_at_checked(4 * usize::from(*rank))?;
    let shape: Vec<usize> = extents.chunks(4).map(|e| u32::from_be_bytes([e[0], e[1], e[2], e[3]]) as usize).collect();
    let mut bytes_of_nonzero = size;
    for &extent in shape.iter().filter(|&&extent| extent > 0) {
        bytes_of_nonzero = (bytes_of_nonzero * extent as u128).min(u128::from(u64::MAX));
    }
    let num_bytes = if shape.contains(&0) { 0 } else { bytes_of_nonzero };
    let countable = num_bytes > 0 || shape[0] <= 1 << 24;
    let fits = bytes_of_nonzero <= isize::MAX as u128 && num_bytes == data.len() as u128 && countable;
    fits.then_some(Plain { code: *code, shape, data })
}

fn open(bytes: &[u8]) -> procession::Result<Idx> {
    Idx::options().limit_bytes(LIMIT_BYTES).from_bytes(bytes.to_vec(), "fuzzed")
}

/// Compares a file with what the trivial reader made of it.
fn agree(idx: &procession::Result<Idx>, plain: Option<&Plain<'_>>) {
    match (idx, plain) {
        (Ok(idx), Some(plain)) => {
            let seen = Plain { code: idx.element() as u8, shape: idx.shape().to_vec(), data: idx.data() };
            assert_eq!(&seen, plain);
            match idx.element() {
                IdxType::U8 => agree_as::<u8>(idx, plain, |b| b[0]),
                IdxType::I8 => agree_as::<i8>(idx, plain, |b| b[0] as i8),
                IdxType::I16 => agree_as::<i16>(idx, plain, |b| i16::from_be_bytes([b[0], b[1]])),
                IdxType::I32 => agree_as::<i32>(idx, plain, |b| i32::from_be_bytes([b[0], b[1], b[2], b[3]])),
                IdxType::F32 => agree_as::<f32>(idx, plain, |b| f32::from_be_bytes([b[0], b[1], b[2], b[3]])),
                IdxType::F64 => agree_as::<f64>(idx, plain, |b| {
                    f64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
                }),
            }
            samples(idx, plain);
        }
        (Err(error), None) => assert!(error.to_string().contains("fuzzed"), "{error} names the file"),
        (idx, plain) => panic!("got {idx:?}, wanted {plain:?}"),
    }
}

fn agree_as<T: IdxElement + PartialOrd>(idx: &Idx, plain: &Plain<'_>, number: impl Fn(&[u8]) -> T) {
    let array: ArrayD<T> = idx.to_array::<T, IxDyn>().expect("the type is the file's");
    assert_eq!(array.shape(), plain.shape);
    let expected = plain.data.chunks(size_of::<T>()).map(number);
    // What is not a number is not equal to itself.
    let is_nan = |x: T| x.partial_cmp(&x).is_none();
    assert!(array.iter().copied().zip(expected).all(|(a, b)| a == b || (is_nan(a) && is_nan(b))));
}

/// Bytes as images and as labels: each sample is its stretch of the file.
fn samples(idx: &Idx, plain: &Plain<'_>) {
    let is_u8 = idx.element() == IdxType::U8;
    assert_eq!(idx.images().is_ok(), is_u8 && plain.shape.len() == 3);
    if let Ok(images) = idx.images() {
        assert_eq!(images.len(), plain.shape[0]);
        let image_len = plain.shape[1] * plain.shape[2];
        // Images without pixels can be billions.
        for index in (0..images.len()).take(100) {
            let image = images.get(index).expect("the image is there");
            assert_eq!(image.dim(), (plain.shape[1], plain.shape[2]));
            assert!(image.iter().eq(&plain.data[index * image_len..][..image_len]));
        }
    }
    let is_labels = is_u8 && plain.shape.len() == 1 && plain.data.iter().all(|&label| label < 10);
    assert_eq!(idx.labels(10).is_ok(), is_labels);
    if let Ok(labels) = idx.labels(10) {
        let labels = (0..labels.len()).map(|index| labels.get(index).expect("the label is there"));
        assert!(labels.eq(plain.data.iter().map(|&label| u32::from(label))));
    }
}

pub(crate) fn check(bytes: &[u8]) {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        let plain = read(bytes);
        let idx = open(bytes);
        agree(&idx, plain.as_ref());
        if let Ok(idx) = &idx {
            let code = idx.element() as u8;
            let mut again = vec![0, 0, code, u8::try_from(idx.shape().len()).expect("the rank is a byte")];
            again.extend(idx.shape().iter().flat_map(|&extent| (extent as u32).to_be_bytes()));
            again.extend(idx.data());
            assert_eq!(again, bytes, "writing what was read gives the file");
        }
    }
    #[cfg(feature = "gzip")]
    compressed(bytes);
    #[cfg(not(feature = "gzip"))]
    if bytes.starts_with(&[0x1f, 0x8b]) {
        assert!(open(bytes).is_err());
    }
}

#[cfg(feature = "gzip")]
fn compressed(bytes: &[u8]) {
    use std::io::{Read, Write};

    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        let mut stream = flate2::read::MultiGzDecoder::new(bytes).take(LIMIT_BYTES + 1);
        let whole = stream.read_to_end(&mut plain).is_ok() && plain.len() as u64 <= LIMIT_BYTES;
        agree(&open(bytes), if whole { read(&plain) } else { None }.as_ref());
        return;
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("memory takes any bytes");
    agree(&open(&packed), read(bytes).as_ref());
    // Cut off anywhere it is an error: where, follows from the bytes, so that a failure can be repeated.
    let sum: usize = bytes.iter().map(|&byte| usize::from(byte)).sum();
    agree(&open(&packed[..sum % packed.len()]), None);
}
