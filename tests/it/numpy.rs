//! Files that NumPy wrote, of each type and version, and files that NumPy would have written byte for byte;
//! `tests/formats/make_references.py` made them.

use std::path::PathBuf;

use half::f16;
use ndarray::{Array2, Array3, Ix0, Ix1, Ix2, Ix3, array};
use procession::source::{Npy, NpyElement, Npz, NpzWriter};
use procession::{ErrorKind, Sequence};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name)
}

/// Both byte orders of a type hold these values; saved again, the little-endian file has the bytes that NumPy wrote.
fn check<T: NpyElement + PartialEq + std::fmt::Debug>(code: &str, values: [T; 6]) {
    let expected = Array2::from_shape_vec((2, 3), values.to_vec()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for order in ["little", "big"] {
        let path = path(&format!("{code}-{order}.npy"));
        if size_of::<T>() == 1 && order == "big" {
            continue;
        }
        let npy = Npy::open(&path).unwrap();
        assert_eq!((npy.element(), npy.shape()), (T::TYPE, &[2, 3][..]));
        assert_eq!(npy.is_big_endian(), order == "big");
        assert_eq!(npy.to_array::<T, Ix2>().unwrap(), expected, "{code}, {order}");
        let rows = npy.samples::<T, Ix1>().unwrap();
        assert_eq!(rows.get(1).unwrap(), expected.row(1), "{code}, {order}");
        if order == "little" {
            let copy = dir.path().join("copy.npy");
            Npy::save(&copy, &expected).unwrap();
            assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(path).unwrap(), "{code}");
        }
    }
}

macro_rules! unsigned {
    ($($code:literal $number:ty),+) => {
        $(check::<$number>($code, [0, 1, 2, 100, <$number>::MAX - 1, <$number>::MAX]);)+
    };
}

macro_rules! signed {
    ($($code:literal $number:ty),+) => {
        $(check::<$number>($code, [<$number>::MIN, -1, 0, 1, 100, <$number>::MAX]);)+
    };
}

#[test]
fn every_type_and_byte_order_is_read_and_written() {
    check("b1", [false, true, true, false, false, true]);
    unsigned!("u1" u8, "u2" u16, "u4" u32, "u8" u64);
    signed!("i1" i8, "i2" i16, "i4" i32, "i8" i64);
    let half = f16::from_f32;
    check("f2", [half(0.0), half(1.5), half(-2.25), f16::INFINITY, f16::MAX, f16::MIN_POSITIVE_SUBNORMAL]);
    check("f4", [0.0, 1.5, -2.25, f32::INFINITY, f32::MAX, f32::from_bits(1)]);
    check("f8", [0.0, 1.5, -2.25, f64::INFINITY, f64::MAX, f64::from_bits(1)]);
}

#[test]
fn every_version_and_shape_is_read() {
    let expected = array![[i32::MIN, -1, 0], [1, 100, i32::MAX]];
    for name in ["version-1.npy", "version-2.npy", "version-3.npy", "fortran.npy"] {
        let npy = Npy::open(path(name)).unwrap();
        assert_eq!(npy.to_array::<i32, Ix2>().unwrap(), expected, "{name}");
        assert_eq!(npy.is_fortran(), name == "fortran.npy");
        assert_eq!(npy.samples::<i32, Ix1>().is_err(), name == "fortran.npy");
    }
    let vector = Npy::open(path("vector.npy")).unwrap();
    assert_eq!(vector.scalars::<i32>().unwrap().get(2).unwrap(), 7);
    let single = Npy::open(path("scalar.npy")).unwrap();
    assert_eq!(single.to_array::<f32, Ix0>().unwrap().into_scalar(), 2.5);
    for (name, shape) in [("empty.npy", [0, 3]), ("no-columns.npy", [3, 0])] {
        let npy = Npy::open(path(name)).unwrap();
        assert_eq!(npy.shape(), shape);
        assert_eq!(npy.samples::<f32, Ix1>().unwrap().len(), shape[0]);
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.npy");
    let saved_as = |name: &str, saved: procession::Result<()>| {
        saved.unwrap();
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(path(name)).unwrap(), "{name}");
    };
    saved_as("vector.npy", Npy::save(&copy, &array![5_i32, 6, 7]));
    saved_as("scalar.npy", Npy::save(&copy, &ndarray::arr0(2.5_f32)));
    saved_as("empty.npy", Npy::save(&copy, &Array2::<f32>::zeros((0, 3))));
    saved_as("no-columns.npy", Npy::save(&copy, &Array2::<f32>::zeros((3, 0))));
}

#[test]
fn what_is_no_number_is_refused_by_name() {
    for (name, what) in [
        ("objects.npy", "(Python objects)"),
        ("records.npy", "records"),
        ("complex.npy", "(complex numbers)"),
        ("strings.npy", "(strings)"),
        ("times.npy", "(times)"),
    ] {
        let error = Npy::open(path(name)).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*path(name))));
        assert!(error.message().contains(what), "{error}");
    }
}

fn kernel() -> Array2<f32> {
    let kernel = Npz::open(path("savez.npz")).unwrap().array("layer/kernel").unwrap();
    let kernel = kernel.to_array::<f32, Ix2>().unwrap();
    assert_eq!((kernel.dim(), kernel[[0, 0]], kernel[[2, 3]]), ((3, 4), -1.0, 1.0));
    kernel
}

#[test]
fn archives_are_read_plain_and_compressed() {
    let names = ["images", "labels", "layer/kernel", "zeros", "single", "big", "none"];
    for file in ["savez.npz", "savez_compressed.npz", "written.npz"] {
        let npz = Npz::open(path(file)).unwrap();
        assert!(npz.names().eq(names), "{file}");
        let images = npz.array("images").unwrap().samples::<u8, Ix2>().unwrap();
        let expected = Array3::from_shape_fn((4, 5, 6), |(i, y, x)| (30 * i + 6 * y + x) as u8);
        assert_eq!(npz.array("images").unwrap().to_array::<u8, Ix3>().unwrap(), expected, "{file}");
        assert_eq!((images.len(), images.get(3).unwrap()[[4, 5]]), (4, 119));
        let labels = npz.array("labels").unwrap().labels(4).unwrap();
        assert_eq!((0..4).map(|index| labels.get(index).unwrap()).collect::<Vec<_>>(), [3, 1, 0, 2]);
        assert_eq!(npz.array("layer/kernel").unwrap().to_array::<f32, Ix2>().unwrap(), kernel());
        assert_eq!(npz.array("zeros").unwrap().to_array::<f32, Ix2>().unwrap(), Array2::<f32>::zeros((40, 40)));
        assert_eq!(npz.array("single").unwrap().to_array::<f32, Ix0>().unwrap().into_scalar(), 7.5);
        assert_eq!(npz.array("big").unwrap().to_array::<f32, Ix1>().unwrap(), array![1.5, -2.0]);
        assert_eq!(npz.array("big").unwrap().is_big_endian(), file != "written.npz");
        assert_eq!(npz.array("none").unwrap().shape(), [0, 3]);
    }
}

/// `make_references.py --check` has NumPy read `written.npz`, so the crate has to write those bytes still.
#[test]
fn what_is_written_is_what_numpy_was_given() {
    let written = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("written.npz");
    let mut writer = NpzWriter::create(&written).unwrap();
    writer.add("images", &Array3::from_shape_fn((4, 5, 6), |(i, y, x)| (30 * i + 6 * y + x) as u8)).unwrap();
    writer.add("labels", &array![3_i64, 1, 0, 2]).unwrap();
    writer.add("layer/kernel", &kernel()).unwrap();
    writer.add("zeros", &Array2::<f32>::zeros((40, 40))).unwrap();
    writer.add("single", &ndarray::arr0(7.5_f32)).unwrap();
    writer.add("big", &array![1.5_f32, -2.0]).unwrap();
    writer.add("none", &Array2::<i16>::zeros((0, 3))).unwrap();
    writer.finish().unwrap();
    let same = std::fs::read(&written).unwrap() == std::fs::read(path("written.npz")).unwrap();
    assert!(same, "{} differs: see that make_references.py --check takes it, and keep it", written.display());
}
