use super::*;
use crate::sequence::Sequence;
use crate::testing::{check_rows, check_sequence, samples};
use half::f16;
use ndarray::{Array0, Array2, Array3, ArrayD, Ix0, Ix1, Ix2, Ix3, IxDyn, array};

fn open(bytes: impl Into<Vec<u8>>) -> Result<Npy> {
    Npy::from_bytes(bytes.into(), "the-file")
}

fn bytes_of<T: NpyElement, D: Dimension>(array: &ArrayRef<T, D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, array).unwrap();
    bytes
}

fn saved<T: NpyElement, D: Dimension>(array: &ArrayRef<T, D>) -> Npy {
    open(bytes_of(array)).unwrap()
}

/// A file with a header of any text.
fn with_header(text: &str, data: &[u8]) -> Vec<u8> {
    let len = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], text.as_bytes(), data].concat()
}

/// The message of an error, which must name the file.
fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.file(), Some(Path::new("the-file")), "{error}");
    error.message().to_owned()
}

#[test]
fn samples_of_all_kinds_keep_the_contract() {
    let images = saved(&Array3::from_shape_fn((4, 2, 3), |(i, y, x)| (50 * i + 10 * y + x) as u8));
    check_rows(&images.samples::<u8, Ix2>().unwrap());
    check_rows(&images.samples::<u8, Ix2>().unwrap().flatten());
    check_rows(&images.samples::<u8, IxDyn>().unwrap());
    check_rows(&images.samples::<u8, Ix2>().unwrap().unit());
    check_rows(&images.samples::<u8, Ix2>().unwrap().standardize(33.3, 78.6).unwrap());
    check_rows(&saved(&array![[true, false], [false, true]]).samples::<bool, Ix1>().unwrap());
    check_rows(&saved(&array![1.5_f32, 2.5]).samples::<f32, Ix0>().unwrap());
    check_rows(&saved(&array![1.5_f32, 2.5]).scalars::<f32>().unwrap());
    check_rows(&saved(&array![true, false]).scalars::<bool>().unwrap());
    check_rows(&saved(&array![1_i64, 0]).labels(2).unwrap());
    check_rows(&saved(&Array2::<f32>::zeros((0, 3))).samples::<f32, Ix1>().unwrap());
    check_rows(&saved(&Array2::<f32>::zeros((3, 0))).samples::<f32, Ix1>().unwrap());
    let halves = saved(&array![[f16::ONE, f16::ZERO], [f16::ZERO, f16::PI]]);
    check_rows(&halves.samples::<f16, Ix1>().unwrap());
    check_sequence(&saved(&array![f16::ONE, f16::PI]).scalars::<f16>().unwrap());
}

#[test]
fn samples_are_those_of_the_file() {
    let npy = saved(&array![[0_u8, 51, 255], [1, 2, 3]]);
    let rows = npy.samples::<u8, Ix1>().unwrap();
    assert_eq!(samples(&rows), [array![0, 51, 255], array![1, 2, 3]]);
    assert_eq!((rows.shape(), rows.bytes(1), rows.size_bytes(0)), (&[3][..], &[1, 2, 3][..], Some(3)));
    assert_eq!((rows.file(0), rows.layout()), (Some("the-file".into()), Some(Ix1(3))));
    assert_eq!(samples(&rows.clone().unit())[0], array![0.0, 0.2, 1.0]);
    assert_eq!(samples(&rows.clone().standardize(1.0, 2.0).unwrap())[1], array![0.0, 0.5, 1.0]);
    assert_eq!(rows.standardize(1.0, 0.0).unwrap_err().kind(), ErrorKind::Argument);
    let scalars = saved(&array![3_i16, -1]).scalars::<i16>().unwrap();
    assert_eq!((samples(&scalars), scalars.layout(), scalars.size_bytes(0)), (vec![3, -1], Some(()), Some(2)));
    assert_eq!(saved(&array![3_i16]).samples::<i16, Ix0>().unwrap().get(0).unwrap(), Array0::from_elem((), 3));
    let images = saved(&Array3::from_shape_fn((2, 3, 2), |(i, y, x)| (100 * i + 10 * y + x) as f64));
    let flat = images.samples::<f64, Ix2>().unwrap().flatten();
    assert_eq!(samples(&flat)[1], array![100.0, 101.0, 110.0, 111.0, 120.0, 121.0]);
}

#[test]
fn labels_of_every_type_of_integers_are_read_and_checked() {
    fn labels<T: NpyElement + TryFrom<u8>>() -> NpyLabels {
        let number = |label: u8| T::try_from(label).ok().unwrap();
        saved(&array![number(3), number(0), number(1)]).labels(4).unwrap()
    }
    let all = [labels::<u8>(), labels::<u16>(), labels::<u32>(), labels::<u64>()];
    let signed = [labels::<i8>(), labels::<i16>(), labels::<i32>(), labels::<i64>()];
    for labels in all.into_iter().chain(signed) {
        assert_eq!((samples(&labels), labels.num_classes()), (vec![3, 0, 1], 4));
    }
    let labels = saved(&array![9_i64, 10, -1, i64::MAX]).labels(10).unwrap();
    assert_eq!(labels.get(0).unwrap(), 9);
    for (index, label) in [(1, "10"), (2, "-1"), (3, "9223372036854775807")] {
        let error = labels.get(index).unwrap_err();
        let expected = format!(
            "label {label}, expected one below 10 as there are that many classes (index {index}, file the-file)"
        );
        assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Format));
    }
    assert_eq!(message(saved(&array![1.0_f32]).labels(2)), "elements of type f32, expected integers");
    assert_eq!(message(saved(&array![true]).labels(2)), "elements of type bool, expected integers");
    assert_eq!(message(saved(&array![[1_u8]]).labels(2)), "shape [1, 1] of 2 dimensions, expected 1");
}

#[test]
fn another_type_or_shape_is_refused() {
    let npy = saved(&array![[1_u8, 2, 3], [4, 5, 6]]);
    assert_eq!(npy.to_array::<u8, Ix2>().unwrap(), array![[1, 2, 3], [4, 5, 6]]);
    assert_eq!(npy.to_array::<u8, IxDyn>().unwrap().shape(), [2, 3]);
    assert_eq!(message(npy.to_array::<f32, Ix2>()), "elements of type u8, expected f32");
    assert_eq!(message(npy.to_array::<u8, Ix3>()), "shape [2, 3] of 2 dimensions, expected 3");
    assert_eq!(message(npy.samples::<i8, Ix1>()), "elements of type u8, expected i8");
    assert_eq!(message(npy.samples::<u8, Ix2>()), "shape [2, 3] of 2 dimensions, expected 3");
    assert_eq!(message(npy.scalars::<u8>()), "shape [2, 3] of 2 dimensions, expected 1");
    let single = saved(&Array0::from_elem((), 7_u8));
    assert_eq!(single.to_array::<u8, Ix0>().unwrap().into_scalar(), 7);
    let expected = "a single number, expected an array with a first axis of samples";
    assert_eq!(message(single.samples::<u8, IxDyn>()), expected);
    assert_eq!(message(single.scalars::<u8>()), "shape [] of 0 dimensions, expected 1");
}

#[test]
fn an_array_in_fortran_order_is_read_whole_and_has_no_samples() {
    let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n";
    let npy = open(with_header(text, &[1, 4, 2, 5, 3, 6])).unwrap();
    assert!(npy.is_fortran());
    assert_eq!(npy.to_array::<u8, Ix2>().unwrap(), array![[1, 2, 3], [4, 5, 6]]);
    let expected = "array of shape [2, 3] in Fortran order, expected C order, as numpy.ascontiguousarray gives it";
    assert_eq!(message(npy.samples::<u8, Ix1>()), expected);
    // Where it makes no difference, it is none.
    let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (3, 1), }\n";
    let npy = open(with_header(text, &[1, 2, 3])).unwrap();
    assert!(!npy.is_fortran());
    assert_eq!(samples(&npy.samples::<u8, Ix1>().unwrap()), [array![1], array![2], array![3]]);
    let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (3,), }\n";
    assert_eq!(samples(&open(with_header(text, &[1, 2, 3])).unwrap().scalars::<u8>().unwrap()), [1, 2, 3]);
    // An array that lies otherwise in memory is saved in C order.
    let across = array![[1_u8, 2, 3], [4, 5, 6]].reversed_axes();
    assert_eq!(saved(&across).to_array::<u8, Ix2>().unwrap(), across);
    assert!(!saved(&across).is_fortran());
}

#[test]
fn a_byte_that_is_no_truth_value_is_an_error_with_its_place() {
    let mut bytes = bytes_of(&array![[true, false], [true, true]]);
    let at = bytes.len() - 1;
    bytes[at] = 2;
    let npy = open(bytes).unwrap();
    let rows = npy.samples::<bool, Ix1>().unwrap();
    assert_eq!(rows.get(0).unwrap(), array![true, false]);
    let expected = "element 3 has the byte 2, expected 0 or 1 of a bool (index 1, file the-file)";
    assert_eq!(rows.get(1).unwrap_err().to_string(), expected);
    assert_eq!(rows.get_into(1, &mut [false; 2]).unwrap_err().to_string(), expected);
    assert_eq!(message(npy.to_array::<bool, Ix2>()), "element 3 has the byte 2, expected 0 or 1 of a bool");
    let bytes = with_header("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", &[1, 9]);
    let error = open(bytes).unwrap().scalars::<bool>().unwrap().get(1).unwrap_err();
    let expected = "element 1 has the byte 9, expected 0 or 1 of a bool (index 1, file the-file)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn bad_files_are_refused() {
    let text = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}";
    for (bytes, expected) in [
        (vec![], "first bytes [], expected [93, 4e, 55, 4d, 50, 59] of an NPY file"),
        (
            b"PK\x03\x04more".to_vec(),
            "first bytes [50, 4b, 03, 04, 6d, 6f], expected [93, 4e, 55, 4d, 50, 59] of an NPY file",
        ),
        (b"\x93NUMPY".to_vec(), "NPY header of 6 bytes, expected at least 8"),
        (b"\x93NUMPY\x01\x00\x05".to_vec(), "NPY header of 9 bytes, expected at least 10"),
        (b"\x93NUMPY\x02\x00\x05\x00\x00".to_vec(), "NPY header of 11 bytes, expected at least 12"),
        (b"\x93NUMPY\x04\x00\x05\x00\x00\x00".to_vec(), "NPY version 4.0, expected 1.0, 2.0 or 3.0"),
        (b"\x93NUMPY\x01\x02\x05\x00\x00\x00".to_vec(), "NPY version 1.2, expected 1.0, 2.0 or 3.0"),
        (b"\x93NUMPY\x01\x00\x05\x00{".to_vec(), "NPY header of 11 bytes, expected 15 as the first of them say"),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(),
            "NPY header of 13 bytes, expected 4294967307 as the first of them say",
        ),
        (with_header(text, &[0; 7]), "7 bytes of NPY data, expected 8 for [2] of i32: 1 missing"),
        (with_header(text, &[0; 10]), "10 bytes of NPY data, expected 8 for [2] of i32: 2 too many"),
    ] {
        let error = open(bytes).unwrap_err();
        assert_eq!((error.message(), error.kind()), (expected, ErrorKind::Format));
        assert_eq!(error.file(), Some(Path::new("the-file")));
    }
}

#[test]
fn every_cut_and_every_surplus_is_refused() {
    let whole = bytes_of(&array![[1_i16, 2, 3], [4, 5, 6]]);
    open(whole.clone()).unwrap();
    for len in 0..whole.len() {
        assert_eq!(open(&whole[..len]).unwrap_err().kind(), ErrorKind::Format, "cut at {len}");
    }
    for extra in [1, 2, 100] {
        assert!(message(open([whole.clone(), vec![0; extra]].concat())).ends_with(&format!("{extra} too many")));
    }
}

#[test]
fn every_flipped_bit_gives_an_error_or_an_array_of_as_many_bytes() {
    let whole = bytes_of(&array![[true, false, true], [false, true, true]]);
    for bit in 0..8 * whole.len() {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(npy) = open(flipped) else { continue };
        let num_elements: usize = npy.shape().iter().product();
        assert_eq!(num_elements * npy.element().size_bytes(), npy.data().len(), "bit {bit}");
        if let Ok(rows) = npy.samples::<bool, IxDyn>() {
            for index in 0..rows.len() {
                let row: Result<ArrayD<bool>> = rows.get(index);
                assert!(row.is_err() || row.unwrap().shape() == rows.shape(), "bit {bit}");
            }
        }
    }
}

#[test]
fn a_file_is_mapped_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    Npy::save(&path, &array![1.5_f32, 2.5]).unwrap();
    for npy in [Npy::open(&path).unwrap(), Npy::options().in_memory(true).open(&path).unwrap()] {
        assert_eq!((samples(&npy.scalars::<f32>().unwrap()), npy.path()), (vec![1.5, 2.5], &*path));
    }
    assert_eq!(Npy::open(dir.path().join("missing")).unwrap_err().kind(), ErrorKind::Io);
    let error = Npy::open(dir.path()).unwrap_err();
    assert_eq!((error.message(), error.file()), ("is a directory, expected a file", Some(dir.path())));
}

#[test]
fn a_file_in_memory_may_shrink() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    Npy::save(&path, &array![1.5_f32, 2.5]).unwrap();
    let npy = Npy::options().in_memory(true).open(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    assert_eq!(samples(&npy.scalars::<f32>().unwrap()), [1.5, 2.5]);
}

#[cfg(unix)]
#[test]
fn names_need_not_be_text_and_files_may_be_locked() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.npy"));
    Npy::save(&path, &array![1_u8]).unwrap();
    assert_eq!(Npy::open(&path).unwrap().path(), path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read it all the same.
    if std::fs::File::open(&path).is_err() {
        let error = Npy::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*path)));
    }
}

#[test]
fn what_is_saved_takes_the_place_of_the_old_file_while_that_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let large = Array2::from_shape_fn((300, 200), |(y, x)| (1000 * y + x) as u32);
    Npy::save(&path, &large).unwrap();
    let old = Npy::open(&path).unwrap();
    Npy::save(&path, &array![1_u8]).unwrap();
    assert_eq!(old.to_array::<u32, Ix2>().unwrap(), large);
    assert_eq!(Npy::open(&path).unwrap().to_array::<u8, Ix1>().unwrap(), array![1]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let many = ArrayD::<u8>::zeros(vec![1; 65]);
    let error = Npy::save(&path, &many).unwrap_err();
    assert_eq!(error.message(), "array of 65 dimensions, expected at most 64 as NumPy has");
    let error = Npy::save(dir.path().join("nowhere").join("x.npy"), &many.remove_axis(ndarray::Axis(0))).unwrap_err();
    assert_eq!((error.kind(), error.file().is_some()), (ErrorKind::Io, true));
}
