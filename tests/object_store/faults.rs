//! Answers that go wrong: what comes out is the exact bytes, or an error that names the object.

use std::time::{Duration, Instant};

use procession::source::{Bucket, Objects};
use procession::{AsyncSequence, Error, ErrorKind, Loader, Result, Retry, from_fn};

use super::server::{Asked, Fault, Server, touch};
use super::{Pairs, all, block_on, content, epoch};

const COUNT: usize = 60;

/// What goes wrong before the loader sees an answer, and may be right the next time.
const PASSING: [Fault; 7] = [
    Fault::Status(500, "InternalError"),
    Fault::Status(503, "SlowDown"),
    Fault::Reset,
    Fault::Cut,
    Fault::Short,
    Fault::Long,
    Fault::Status(403, "ExpiredToken"),
];

/// What the store itself tries again.
const TRIED_AGAIN_BY_THE_STORE: [Fault; 4] =
    [Fault::Status(500, "InternalError"), Fault::Status(503, "SlowDown"), Fault::Reset, Fault::Cut];

fn objects(bucket: &Bucket) -> Objects {
    Objects::options().list_blocking(bucket).unwrap()
}

fn loader(objects: Objects, retries: u32) -> Loader<Vec<Vec<u8>>> {
    let retry = Retry::times(retries).backoff(Duration::from_millis(5), 2.0, Duration::from_millis(50));
    Loader::remote(objects)
        .concurrency(16)
        .retry(retry)
        .map(|blob| blob.bytes().to_vec())
        .collate(Ok::<_, Error>)
        .batch_size(7)
        .shuffle(11)
        .build()
        .unwrap()
}

/// What must come out.
fn expected(number: u64) -> Vec<Pairs> {
    let here = Loader::builder(from_fn(COUNT, content)).collate(Ok::<_, Error>);
    epoch(&here.batch_size(7).shuffle(11).build().unwrap(), number).unwrap()
}

/// The first so many requests for every third object go wrong.
fn first_times(fault: Fault, times: usize) -> impl Fn(&Asked) -> Fault {
    move |asked| {
        let is_third = asked.path.bytes().map(u64::from).sum::<u64>() % 3 == 0;
        if asked.is_get() && is_third && asked.before < times { fault } else { Fault::None }
    }
}

#[test]
fn with_retries_of_the_loader_every_sample_arrives_once_and_in_order() {
    let server = Server::with_objects(COUNT);
    let loader = loader(objects(&server.bucket("o")), 3);
    for (number, fault) in PASSING.into_iter().enumerate() {
        server.decide(first_times(fault, 2));
        server.asked();
        assert_eq!(epoch(&loader, number as u64).unwrap(), expected(number as u64), "{fault:?}");
        assert!(server.asked().len() > COUNT + 20, "{fault:?} happened");
        assert!(loader.last_receipt().unwrap().is_complete());
    }
}

#[test]
fn with_retries_of_the_store_the_loader_sees_nothing_of_it() {
    let server = Server::with_objects(COUNT);
    let bucket = server.options().store_retries(2).open("s3://bucket/o").unwrap();
    let loader = loader(objects(&bucket), 0);
    for (number, fault) in TRIED_AGAIN_BY_THE_STORE.into_iter().enumerate() {
        server.decide(first_times(fault, 1));
        assert_eq!(epoch(&loader, number as u64).unwrap(), expected(number as u64), "{fault:?}");
        let asked = server.asked();
        // A body that broke off goes on from there.
        let resumed = asked.iter().filter(|asked| asked.is_get() && asked.range.is_some()).count();
        assert!((resumed > 10) == (fault == Fault::Cut), "{fault:?}: {resumed} ranges");
    }
}

#[test]
fn the_tries_of_store_and_loader_multiply_and_no_more() {
    let server = Server::with_objects(1);
    let bucket = server.options().store_retries(1).open("s3://bucket/o").unwrap();
    let loader = loader(objects(&bucket), 2);
    server.decide(|asked| if asked.is_get() { Fault::Status(503, "SlowDown") } else { Fault::None });
    server.asked();
    assert!(epoch(&loader, 0).is_err());
    assert_eq!(server.asked().len(), (1 + 1) * (1 + 2));
}

/// The error of the one object whose requests all go wrong.
fn error_of(server: &Server, bucket: &Bucket, fault: Fault) -> Error {
    let objects = objects(bucket);
    server.decide(move |asked| if asked.path.ends_with("/0003.bin") { fault } else { Fault::None });
    let error = all(&objects).unwrap_err();
    let loaded = epoch(&loader(objects, 1), 0).unwrap_err();
    assert_eq!((loaded.index(), loaded.kind(), loaded.message()), (Some(3), error.kind(), error.message()));
    for error in [&error, &loaded] {
        assert_eq!(error.file().unwrap().to_str(), Some("s3://bucket/o/0003.bin"), "{fault:?}");
    }
    server.decide(|_| Fault::None);
    error
}

#[test]
fn what_goes_wrong_for_good_is_an_error_that_names_the_object() {
    let server = Server::with_objects(6);
    let size = content(3).len();
    for retries in [0, 1] {
        let bucket = server.options().store_retries(retries).open("s3://bucket/o").unwrap();
        for fault in [Fault::Status(500, "InternalError"), Fault::Status(503, "SlowDown"), Fault::Reset, Fault::Cut] {
            let error = error_of(&server, &bucket, fault);
            assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "the object store failed"), "{fault:?}");
            assert!(std::error::Error::source(&error).is_some());
        }
        let error = error_of(&server, &bucket, Fault::Status(403, "ExpiredToken"));
        let message = "access was refused: credentials that are missing, wrong or expired";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Io, message));
        assert!(format!("{error:?}").contains("ExpiredToken"), "the cause tells the store's own words: {error:?}");
        for (fault, found) in [(Fault::Short, size - 1), (Fault::Long, size + 1)] {
            let error = error_of(&server, &bucket, fault);
            let begins = format!("the object has {found} bytes and tag ");
            assert!(error.kind() == ErrorKind::Format && error.message().starts_with(&begins), "{error}");
            assert!(error.message().contains(&format!("expected {size} bytes and time ")), "{error}");
        }
    }
}

#[test]
fn credentials_that_are_wrong_are_told() {
    let server = Server::with_objects(1);
    let bucket =
        server.options().option("aws_secret_access_key", "other").store_retries(0).open("s3://bucket/o").unwrap();
    let listing = Objects::options().list_blocking(&bucket).unwrap_err();
    assert_eq!((listing.kind(), listing.file().unwrap().to_str()), (ErrorKind::Io, Some("s3://bucket/o")));
    let error = all(&Objects::from_keys(&bucket, ["0000.bin"]).unwrap()).unwrap_err();
    assert!(error.message().starts_with("access was refused"), "{error}");
    // What a listing failed of, only its cause tells.
    assert!(
        format!("{listing:?}").contains("SignatureDoesNotMatch")
            && format!("{error:?}").contains("SignatureDoesNotMatch")
    );
    assert!(!format!("{bucket:?}{error:?}{:?}", server.options()).contains("secret\""));
}

#[test]
fn what_trickles_or_is_silent_ends_at_its_time_out() {
    let server = Server::with_objects(6);
    let objects = objects(&server.bucket("o"));
    for fault in [Fault::Trickle, Fault::Silence] {
        server.decide(move |asked| if asked.path.ends_with("/0003.bin") { fault } else { Fault::None });
        let loader = Loader::remote(objects.clone()).timeout(Duration::from_secs(2)).map(|blob| blob.len() as u32);
        let loader = loader.batch_size(2).build().unwrap();
        let start = Instant::now();
        let batches: Vec<Result<_>> = loader.epoch(0).collect();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        let error = batches.last().unwrap().as_ref().err().unwrap();
        assert_eq!((error.kind(), error.index()), (ErrorKind::Timeout, Some(3)), "{fault:?}");
        assert_eq!(error.file().unwrap().to_str(), Some("s3://bucket/o/0003.bin"));
        assert_eq!(batches.len(), 2, "the batch before it is delivered");
    }
    // The store has a time-out of its own, within which it may try again.
    let bucket = server.options().option("timeout", "1s").store_retries(1).open("s3://bucket/o").unwrap();
    let objects = Objects::from_keys(&bucket, ["0003.bin"]).unwrap();
    server.decide(|asked| if asked.before == 0 { Fault::Silence } else { Fault::None });
    assert_eq!(all(&objects).unwrap()[0].bytes(), content(3));
    server.decide(|_| Fault::Trickle);
    assert_eq!(all(&objects).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn an_object_that_was_exchanged_since_it_was_listed_is_refused() {
    let server = Server::with_objects(4);
    let listed = objects(&server.bucket("o"));
    let asked = block_on(Objects::from_keys(&server.bucket("o"), ["0001.bin", "0002.bin"]).unwrap().stat()).unwrap();
    let path = |number: usize| server.folder().join(format!("o/{number:04}.bin"));
    // Of the same size, at another time: the listing of this server has no tags.
    let mut other = content(1);
    other.reverse();
    std::fs::write(path(1), &other).unwrap();
    touch(&path(1), 5);
    // Of the same size, at the same time, which only the tag tells.
    let time = std::fs::metadata(path(2)).unwrap().modified().unwrap();
    let mut other = content(2);
    other.reverse();
    std::fs::write(path(2), &other).unwrap();
    std::fs::File::options().write(true).open(path(2)).unwrap().set_modified(time).unwrap();
    std::fs::remove_file(path(3)).unwrap();
    let get = |objects: &Objects, index: usize| block_on(objects.get(index));
    assert_eq!(get(&listed, 0).unwrap().bytes(), content(0));
    for (objects, index, key) in [(&listed, 1, "0001.bin"), (&asked, 0, "0001.bin"), (&asked, 1, "0002.bin")] {
        let error = get(objects, index).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*server.bucket("o").url(key))));
        assert!(error.message().ends_with("as when it was listed"), "{error}");
    }
    assert_eq!(get(&listed, 3).unwrap_err().message(), "no such object");
}
