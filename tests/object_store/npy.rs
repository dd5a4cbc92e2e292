//! Arrays in a bucket are what they are on a disk.

use ndarray::{Array, Array1, Array3, Ix1, Ix2};
use procession::source::{Npy, ObjectNpy};
use procession::{AsyncSequence, ErrorKind, Loader, Sequence};

use super::server::{Fault, Server};
use super::{all, block_on};

fn open(server: &Server, key: &str) -> procession::Result<ObjectNpy> {
    block_on(ObjectNpy::open_in(&server.bucket(""), key))
}

#[test]
fn rows_are_those_of_the_same_file_on_a_disk() {
    let server = Server::start();
    let path = server.folder().join("x.npy");
    let array = Array::from_shape_fn((50, 7, 5), |(i, j, k)| (i * 100 + j * 10 + k) as f32);
    Npy::save(&path, &array).unwrap();
    let here = Npy::open(&path).unwrap();
    let npy = open(&server, "x.npy").unwrap();
    assert_eq!((npy.element(), npy.shape(), npy.is_fortran()), (here.element(), here.shape(), false));
    let rows = npy.samples::<f32, Ix2>().unwrap();
    assert_eq!((rows.len(), rows.shape(), rows.size_bytes(3)), (50, &[7, 5][..], Some(140)));
    server.asked();
    let expected = here.samples::<f32, Ix2>().unwrap();
    for (index, row) in all(&rows).unwrap().into_iter().enumerate() {
        assert_eq!(row, expected.get(index).unwrap());
    }
    assert_eq!(server.asked().len(), 50, "one request a row");
    // Written straight to the batch, as the layout is known.
    let there = Loader::remote(rows).concurrency(16).batch_size(8).shuffle(7).build().unwrap();
    let here = Loader::builder(expected).batch_size(8).shuffle(7).build().unwrap();
    let batches = |loader: &Loader<Array3<f32>>| -> Vec<Array3<f32>> {
        loader.epoch(1).map(|batch| batch.unwrap().into_inner()).collect()
    };
    assert_eq!(batches(&there), batches(&here));
    // Labels are fetched whole.
    Npy::save(server.folder().join("y.npy"), &Array1::from_vec(vec![3_i64, 1, 2])).unwrap();
    let labels = open(&server, "y.npy").unwrap().fetch_blocking().unwrap().labels(10).unwrap();
    assert_eq!((0..3).map(|index| labels.get(index).unwrap()).collect::<Vec<_>>(), [3, 1, 2]);
}

#[test]
fn what_is_no_array_or_another_one_is_refused_with_its_name() {
    let server = Server::start();
    let path = server.folder().join("x.npy");
    Npy::save(&path, &Array::from_shape_fn((4, 3), |(i, j)| (i + j) as u8)).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut long = good[..8].to_vec();
    long[6] = 2;
    long.extend((8_u32 << 20).to_le_bytes());
    long.resize(9 << 20, b' ');
    super::write(
        &server.folder(),
        [
            ("cut.npy", &good[..good.len() - 1]),
            ("more.npy", &[&good[..], b"x"].concat()),
            ("head.npy", &good[..60]),
            ("text.npy", b"no array"),
            ("empty.npy", b""),
            ("long.npy", &long),
        ],
    );
    for (key, kind) in [
        ("cut.npy", ErrorKind::Format),
        ("more.npy", ErrorKind::Format),
        ("head.npy", ErrorKind::Format),
        ("text.npy", ErrorKind::Format),
        ("empty.npy", ErrorKind::Format),
        ("long.npy", ErrorKind::Limit),
        ("missing.npy", ErrorKind::Io),
    ] {
        let error = open(&server, key).unwrap_err();
        assert_eq!(
            (error.kind(), error.file().unwrap().to_str()),
            (kind, Some(&*format!("s3://bucket/{key}"))),
            "{error}"
        );
    }
    let npy = open(&server, "x.npy").unwrap();
    assert_eq!(npy.samples::<f32, Ix1>().unwrap_err().kind(), ErrorKind::Format);
    assert_eq!(npy.samples::<u8, Ix2>().unwrap_err().kind(), ErrorKind::Shape);
    let rows = npy.samples::<u8, Ix1>().unwrap();
    for fault in [Fault::Short, Fault::Long, Fault::Whole, Fault::Cut] {
        server.decide(move |_| fault);
        let error = block_on(rows.get(2)).unwrap_err();
        assert_eq!(
            (error.kind(), error.file().unwrap().to_str()),
            (ErrorKind::Io, Some("s3://bucket/x.npy")),
            "{fault:?}"
        );
    }
    server.decide(|_| Fault::None);
    // Another array of the same shape.
    Npy::save(&path, &Array::from_shape_fn((4, 3), |(i, j)| (i * j) as u8)).unwrap();
    assert_eq!(block_on(rows.get(2)).unwrap_err().kind(), ErrorKind::Format);
    assert_eq!(block_on(npy.fetch()).unwrap_err().kind(), ErrorKind::Format);
}

#[test]
fn headers_of_all_lengths_are_read() {
    let server = Server::start();
    // Version 2.0, with spaces up to the first element at byte 20,000.
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend(19_988_u32.to_le_bytes());
    bytes.extend(b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }");
    bytes.resize(19_999, b' ');
    bytes.push(b'\n');
    (0..6).for_each(|number| bytes.extend(f64::from(number).to_le_bytes()));
    super::write(&server.folder(), [("x.npy", &bytes)]);
    let rows = open(&server, "x.npy").unwrap().samples::<f64, Ix1>().unwrap();
    assert_eq!(block_on(rows.get(2)).unwrap().to_vec(), [4.0, 5.0]);
}
