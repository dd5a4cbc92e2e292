//! Objects of an HTTP server that is no object store: by their keys, as it lists nothing.

use procession::ErrorKind;
use procession::source::{Bucket, Objects};

use super::server::{Fault, Server};
use super::{all, block_on, texts, write};

#[test]
fn objects_of_a_plain_server_are_fetched_by_key() {
    let server = Server::start_open();
    write(&server.folder(), [("a b/1%.txt", "one"), ("ü.txt", "two"), ("empty", "")]);
    let bucket = Bucket::options().store_retries(0).open(&format!("{}/bucket", server.http())).unwrap();
    let objects = Objects::from_keys(&bucket, ["a b/1%.txt", "ü.txt", "empty"]).unwrap();
    assert_eq!(texts(&all(&objects).unwrap()), ["one", "two", ""]);
    let objects = block_on(objects.stat()).unwrap();
    assert_eq!(texts(&all(&objects).unwrap()), ["one", "two", ""]);
    let error = all(&Objects::from_keys(&bucket, ["none"]).unwrap()).unwrap_err();
    let url = format!("{}/bucket/none", server.http());
    assert_eq!((error.message(), error.file().unwrap().to_str()), ("no such object", Some(&*url)));
    assert_eq!(Objects::options().list_blocking(&bucket).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
#[cfg(feature = "npy")]
fn a_server_without_ranges_is_refused() {
    use ndarray::{Ix1, array};
    use procession::AsyncSequence;
    use procession::source::{Npy, ObjectNpy};

    let server = Server::start_open();
    Npy::save(server.folder().join("x.npy"), &array![[1.0_f32, 2.0], [3.0, 4.0]]).unwrap();
    let bucket = Bucket::options().store_retries(0).open(&format!("{}/bucket", server.http())).unwrap();
    let rows = block_on(ObjectNpy::open_in(&bucket, "x.npy")).unwrap().samples::<f32, Ix1>().unwrap();
    assert_eq!(block_on(rows.get(1)).unwrap(), array![3.0, 4.0]);
    server.decide(|_| Fault::Whole);
    let error = block_on(rows.get(1)).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "the object store failed"));
    assert!(format!("{error:?}").contains("RangeNotSupported"), "{error:?}");
}
