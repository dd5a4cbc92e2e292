//! Opening where there is a runtime already.

use procession::source::Objects;
use procession::{AsyncSequence, ErrorKind, Loader};

use super::server::Server;
use super::{block_on, in_memory};

#[test]
fn opening_blocks_where_it_may_and_is_refused_where_it_would_hold_up_the_only_thread() {
    let server = Server::with_objects(3);
    let bucket = server.bucket("o");
    let one_thread = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let within = bucket.clone();
    let opened = one_thread.block_on(one_thread.spawn(async move { Objects::options().list_blocking(&within) }));
    assert_eq!(opened.unwrap().unwrap().len(), 3);
    block_on(async {
        let error = Objects::options().list_blocking(&bucket).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.message().contains("expected its asynchronous counterpart"), "{error}");
        assert_eq!(Objects::list(&bucket).await.unwrap().len(), 3);
    });
    // What was opened on one runtime is used on others, after the first is gone.
    let objects = block_on(Objects::list(&bucket)).unwrap();
    for epoch in 0..3 {
        let loader = Loader::remote(objects.clone()).map(|blob| blob.len() as u32).batch_size(3).build().unwrap();
        assert_eq!(loader.epoch(epoch).next().unwrap().unwrap().len(), 3);
    }
    assert_eq!(one_thread.block_on(objects.get(1)).unwrap().bytes(), super::content(1));
    // Through a loader within the runtime, by its stream.
    let memory = in_memory(&["a", "b"]);
    let sum = block_on(async {
        use futures::StreamExt;

        let loader =
            Loader::remote(Objects::list(&memory).await.unwrap()).map(|blob| blob.len() as u32).build().unwrap();
        loader.epoch(0).stream().map(|batch| batch.unwrap().sum()).collect::<Vec<u32>>().await
    });
    assert_eq!(sum, [2]);
}

#[test]
fn notes_are_read_and_written() {
    let bucket = in_memory(&["a b"]);
    assert_eq!(bucket.read_blocking("a b").unwrap().bytes(), b"a b");
    assert_eq!(bucket.read_blocking("c").unwrap_err().file().unwrap().to_str(), Some("memory://bucket/c"));
    assert_eq!(block_on(bucket.write("a//b", "x")).unwrap_err().kind(), ErrorKind::Argument);
}
