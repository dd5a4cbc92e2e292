//! Samples that are waited for: what the properties do not say of requests, runtimes and streams.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Context;
use std::time::Duration;

use futures::stream::FusedStream;
use futures::{Stream, StreamExt};
use procession::{
    AsyncSequence, Epoch, Error, ErrorKind, FailureBudget, Loader, OnFailure, Result, Retry, Window, async_from_fn,
    from_fn,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Barrier;

use crate::support::{indices, is_permutation, lists, quiet_panics, under_watch};

/// What a request or a transform may take where one of them is stuck: long against a stall of a machine with other work,
/// as those that are not stuck must not take as long.
const PATIENCE: Duration = Duration::from_millis(700);

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

/// The numbers below `len`, each after its task let others run.
fn yielding(len: usize) -> impl AsyncSequence<Sample = u64> {
    async_from_fn(len, |index| async move {
        tokio::task::yield_now().await;
        Ok::<_, Error>(index as u64)
    })
}

async fn drain<B: Send + 'static>(epoch: Epoch<B>) -> Result<Vec<Vec<u64>>> {
    epoch
        .stream()
        .map(|batch| batch.map(|batch| batch.indices().to_vec()))
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect()
}

fn drain_by_loop<B: Send + 'static>(epoch: Epoch<B>) -> Result<Vec<Vec<u64>>> {
    epoch.map(|batch| batch.map(|batch| batch.indices().to_vec())).collect()
}

#[test]
fn a_stream_says_what_is_to_come() {
    let loader = Loader::builder(from_fn(22, |index| index as u64)).batch_size(5).workers(1).build().unwrap();
    under_watch("a stream", || {
        current_thread().block_on(async {
            let mut stream = loader.epoch(0).stream();
            for left in (0..5).rev() {
                stream.next().await.unwrap().unwrap();
                assert_eq!((stream.size_hint(), stream.is_terminated()), ((0, Some(left)), false));
            }
            assert!(stream.next().await.is_none() && stream.is_terminated());
        });
    });
}

/// The loop loads cheap samples itself; the stream has them loaded.
#[test]
fn an_epoch_begun_in_a_loop_goes_on_as_a_stream() {
    under_watch("an epoch begun in a loop", || {
        for workers in [0, 1, 2] {
            let loader =
                Loader::builder(from_fn(5_000, |index| index as u64)).batch_size(2).workers(workers).build().unwrap();
            for taken in [1, 100, 2_499] {
                let mut epoch = loader.epoch(0);
                let begun = drain_some(&mut epoch, taken);
                let rest = current_thread().block_on(drain(epoch)).unwrap();
                let indices: Vec<u64> = begun.into_iter().chain(rest).flatten().collect();
                assert!(indices.into_iter().eq(0..5_000), "{workers} workers, a stream after {taken} batches");
            }
        }
    });
}

fn drain_some<B: Send + 'static>(epoch: &mut Epoch<B>, count: usize) -> Vec<Vec<u64>> {
    epoch.take(count).map(|batch| batch.unwrap().indices().to_vec()).collect()
}

#[test]
fn as_many_requests_are_in_flight_as_may_be_and_no_more() {
    for (concurrency, batch_size) in [(1, 8), (7, 3), (40, 8), (64, 128)] {
        let (in_flight, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Nobody is answered before as many are there as may be: fewer would hang.
        let all = Arc::new(Barrier::new(concurrency));
        let service = async_from_fn(concurrency * 4, {
            let (in_flight, most) = (Arc::clone(&in_flight), Arc::clone(&most));
            move |index| {
                let (in_flight, most, all) = (Arc::clone(&in_flight), Arc::clone(&most), Arc::clone(&all));
                async move {
                    most.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    all.wait().await;
                    in_flight.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Error>(index as u64)
                }
            }
        });
        let builder = Loader::remote(service).concurrency(concurrency).batch_size(batch_size).shuffle(1);
        let loader = builder.build().unwrap();
        let order = under_watch("a barrier of requests", || indices(&loader, 0).concat());
        assert!(is_permutation(&order, concurrency as u64 * 4));
        assert_eq!(most.load(Ordering::SeqCst), concurrency);
    }
}

#[test]
fn all_requests_go_on_when_there_is_room_again() {
    // A window of one batch, so that every request waits for it to be taken, and none is answered before all are there.
    let all = Arc::new(Barrier::new(8));
    let service = Arc::new(async_from_fn(80, move |index| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            Ok::<_, Error>(index as u64)
        }
    }));
    for transform in [false, true] {
        let builder = Loader::remote(Arc::clone(&service)).concurrency(8).batch_size(8).window(Window::Batches(1));
        let loader = if transform { builder.map(|number| number).build() } else { builder.build() }.unwrap();
        let order = under_watch("a window of one batch", || indices(&loader, 0).concat());
        assert!(is_permutation(&order, 80));
    }
}

#[test]
fn the_window_is_filled_while_nobody_waits() {
    let fetched = Arc::new(AtomicU64::new(0));
    let service = async_from_fn(100, {
        let fetched = Arc::clone(&fetched);
        move |index| {
            fetched.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Error>(index as u64) }
        }
    });
    let loader = Loader::remote(service).concurrency(4).batch_size(10).window(Window::Batches(3)).build().unwrap();
    let mut epoch = loader.epoch(0);
    under_watch("room that is used", || {
        for taken in 1..=4 {
            epoch.next().unwrap().unwrap();
            while fetched.load(Ordering::SeqCst) < 10 * (taken + 3) {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn loops_and_streams_work_wherever_they_can_and_say_so_where_not() {
    // Timers go on only where a thread of the runtime is free for them.
    let service = || {
        async_from_fn(50, |index| async move {
            tokio::time::sleep(Duration::from_millis(index as u64 % 3)).await;
            Ok::<_, Error>(index as u64)
        })
    };
    let here = || Loader::remote(service()).concurrency(4).batch_size(7).shuffle(3);
    let expected = drain_by_loop(here().build().unwrap().epoch(2)).unwrap();
    let own = || here().build().unwrap().epoch(2);
    let on = |runtime: &Handle| here().runtime(runtime.clone()).build().unwrap().epoch(2);
    under_watch("loops and streams", || {
        // Outside of any runtime.
        let other = multi_thread(1);
        assert_eq!(drain_by_loop(on(other.handle())).unwrap(), expected);
        assert_eq!(futures::executor::block_on(drain(own())).unwrap(), expected);
        assert_eq!(futures::executor::block_on(drain(on(other.handle()))).unwrap(), expected);
        for runtime in [current_thread(), multi_thread(1), multi_thread(3)] {
            let handle = runtime.handle().clone();
            let flavor = handle.runtime_flavor();
            // Within one, on the loader's own.
            runtime.block_on(async { assert_eq!(drain_by_loop(own()).unwrap(), expected, "{flavor:?}") });
            runtime.block_on(async { assert_eq!(drain(own()).await.unwrap(), expected, "{flavor:?}") });
            // Within it, on another.
            runtime.block_on(async { assert_eq!(drain_by_loop(on(other.handle())).unwrap(), expected) });
            // A stream on the runtime itself, in its first task and in another.
            runtime.block_on(async { assert_eq!(drain(on(&handle)).await.unwrap(), expected, "{flavor:?}") });
            let epoch = on(&handle);
            assert_eq!(runtime.block_on(async { tokio::spawn(drain(epoch)).await.unwrap() }).unwrap(), expected);
            // A loop on the runtime itself.
            let (first, second, third) = (on(&handle), on(&handle), on(&handle));
            let results = [
                runtime.block_on(async { drain_by_loop(first) }),
                runtime.block_on(async { tokio::spawn(async { drain_by_loop(second) }).await.unwrap() }),
                runtime.block_on(async { tokio::task::spawn_blocking(|| drain_by_loop(third)).await.unwrap() }),
            ];
            for result in results {
                if flavor == tokio::runtime::RuntimeFlavor::CurrentThread {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Argument);
                    assert!(error.to_string().contains("expected `Epoch::stream`"), "{error}");
                } else {
                    assert_eq!(result.unwrap(), expected);
                }
            }
        }
    });
}

#[test]
fn a_loop_within_a_local_set_of_the_runtime_is_refused() {
    let runtime = multi_thread(2);
    let loader = Loader::remote(yielding(50)).runtime(runtime.handle().clone()).build().unwrap();
    let result = under_watch("a local set", || {
        let local = tokio::task::LocalSet::new();
        local
            .block_on(&runtime, async { tokio::task::spawn_local(async move { drain_by_loop(loader.epoch(0)) }).await })
    });
    // Whether the thread may be handed on is tokio's to say; if not, it is an error, and never a hang.
    if let Err(error) = result.unwrap() {
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    }
}

#[test]
fn a_runtime_without_timers_is_refused() {
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let error = Loader::remote(yielding(5)).runtime(runtime.handle().clone()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.to_string().contains("timers"), "{error}");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let error = |loader: Result<Loader<ndarray::Array1<u64>>>| loader.unwrap_err().to_string();
    let builder = || Loader::remote(yielding(5));
    assert_eq!(error(builder().concurrency(0).build()), "0 requests at once, expected 1 to 65536");
    assert_eq!(error(builder().concurrency(1 << 20).build()), "1048576 requests at once, expected 1 to 65536");
    for rate in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
        assert!(error(builder().rate_limit(rate).build()).contains("requests a second"), "{rate}");
    }
}

#[test]
fn what_is_stacked_as_it_comes_needs_no_workers() {
    let light = Loader::remote(yielding(20)).build().unwrap();
    assert_eq!(light.num_workers(), 0);
    assert!(is_permutation(&indices(&light, 0).concat(), 20));
    assert!(Loader::remote(yielding(20)).map(|number| number).build().unwrap().num_workers() > 0);
    assert!(Loader::remote(yielding(20)).collate(Ok).build().unwrap().num_workers() > 0);
}

#[test]
fn transforms_run_on_workers_and_requests_do_not() {
    fn name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }
    let names = |workers| {
        let service = async_from_fn(40, |_| async { Ok::<_, Error>(name()) });
        let loader = Loader::remote(service).workers(workers).map(|asked| vec![asked, name()]).collate(Ok);
        lists(&loader.batch_size(8).build().unwrap(), 0).concat()
    };
    for pair in names(2) {
        assert_eq!(pair[0], "procession-io");
        assert!(pair[1].starts_with("procession-") && pair[1] != "procession-io", "{pair:?}");
    }
    for pair in names(0) {
        assert_eq!(pair, ["procession-io".to_owned(), name()]);
    }
}

/// A service in which index 5 fails in some way.
fn failing<A: Future<Output = Result<u64>> + Send>(
    fail: impl Fn() -> A + Send + Sync + 'static,
) -> impl AsyncSequence<Sample = u64> {
    struct Failing<F>(F);
    impl<A: Future<Output = Result<u64>> + Send, F: Fn() -> A + Send + Sync> AsyncSequence for Failing<F> {
        type Sample = u64;
        fn len(&self) -> usize {
            12
        }
        async fn get(&self, index: usize) -> Result<u64> {
            tokio::task::yield_now().await;
            if index == 5 { (self.0)().await } else { Ok(index as u64) }
        }
        fn file(&self, index: usize) -> Option<PathBuf> {
            Some(format!("s3://bucket/{index}").into())
        }
    }
    Failing(fail)
}

#[test]
fn an_error_a_panic_and_a_time_out_keep_their_place() {
    quiet_panics();
    let check = |loader: Loader<ndarray::Array1<u64>>, kind: ErrorKind| {
        for _ in 0..3 {
            let mut epoch = loader.epoch(0);
            assert_eq!(epoch.next().unwrap().unwrap().to_vec(), [0, 1, 2, 3]);
            let error = epoch.next().unwrap().unwrap_err();
            assert_eq!((error.kind(), error.index(), error.position()), (kind, Some(5), Some(5)), "{error}");
            assert!(error.to_string().contains("s3://bucket/5"), "{error}");
            assert!(epoch.next().is_none());
        }
    };
    for concurrency in [1, 12] {
        macro_rules! build {
            ($builder:expr) => {
                $builder.concurrency(concurrency).batch_size(4).build().unwrap()
            };
        }
        check(build!(Loader::remote(failing(|| async { Err(Error::sample("no")) }))), ErrorKind::Sample);
        let panics = failing(|| async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        });
        check(build!(Loader::remote(panics)), ErrorKind::Panic);
        let stuck = Loader::remote(failing(pending)).timeout(PATIENCE);
        under_watch("a request without an answer", || check(build!(stuck), ErrorKind::Timeout));
    }
    // Before there is a future.
    let panics = async_from_fn(12, |index| {
        assert!(index != 5, "on purpose");
        async move { Ok::<_, Error>(index as u64) }
    });
    let mut epoch = Loader::remote(panics).batch_size(4).build().unwrap().epoch(0);
    assert!(epoch.next().unwrap().is_ok());
    let error = epoch.next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.index()), (ErrorKind::Panic, Some(5)));
}

#[test]
fn what_failed_is_asked_for_again_and_what_panicked_is_not() {
    quiet_panics();
    let retry = Retry::times(3).backoff(Duration::ZERO, 1.0, Duration::ZERO);
    let run = |fail: fn(u32) -> Option<Result<u64>>| {
        let asked = Arc::new(AtomicU64::new(0));
        let service = failing({
            let asked = Arc::clone(&asked);
            move || {
                let attempt = asked.fetch_add(1, Ordering::SeqCst) as u32;
                async move {
                    match fail(attempt) {
                        Some(result) => result,
                        None => pending().await,
                    }
                }
            }
        });
        let loader = Loader::remote(service).retry(retry).timeout(PATIENCE).batch_size(12).build();
        let loader = loader.unwrap();
        let result = loader.epoch(0).next().unwrap().map(|batch| batch.to_vec());
        let report = loader.report().requests.unwrap();
        assert_eq!(report.num_sent, 11 + asked.load(Ordering::SeqCst));
        (result, asked.load(Ordering::SeqCst), report.num_failed)
    };
    let all: Vec<u64> = (0..12).collect();
    under_watch("retries", || {
        let (result, asked, failed) = run(|attempt| Some(if attempt < 2 { Err(Error::sample("no")) } else { Ok(5) }));
        assert_eq!((result.unwrap(), asked, failed), (all.clone(), 3, 2));
        // One that is not answered is given up and asked again.
        let (result, asked, failed) = run(|attempt| (attempt >= 2).then_some(Ok(5)));
        assert_eq!((result.unwrap(), asked, failed), (all, 3, 2));
        let (result, asked, _) = run(|_| Some(Err(Error::sample("no"))));
        assert_eq!((result.unwrap_err().kind(), asked), (ErrorKind::Sample, 4));
        let (result, asked, _) = run(|_| panic!("on purpose"));
        assert_eq!((result.unwrap_err().kind(), asked), (ErrorKind::Panic, 1));
    });
}

#[test]
fn what_could_not_be_computed_is_fetched_again() {
    for (workers, timeout) in [(0, false), (1, false), (3, false), (2, true)] {
        let (fetched, computed) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(Mutex::new(HashMap::new())));
        let count = |map: &Mutex<HashMap<u64, u32>>, index| {
            let mut map = map.lock().unwrap();
            let count = map.entry(index).or_insert(0);
            *count += 1;
            *count
        };
        let service = async_from_fn(60, {
            let fetched = Arc::clone(&fetched);
            move |index| {
                let attempt = count(&fetched, index as u64);
                async move { Ok::<_, Error>((index as u64, attempt)) }
            }
        });
        // A third of the samples comes damaged the first two times.
        let compute = {
            let computed = Arc::clone(&computed);
            move |(index, attempt): (u64, u32)| {
                let tried = count(&computed, index);
                assert_eq!(tried, attempt, "each is computed once for each time it is fetched");
                if index % 3 == 0 && attempt <= 2 { Err("damaged") } else { Ok(index) }
            }
        };
        let retry = Retry::times(2).backoff(Duration::ZERO, 1.0, Duration::ZERO);
        let mut builder =
            Loader::remote(service).try_map(compute).retry(retry).workers(workers).batch_size(7).shuffle(1);
        if timeout {
            builder = builder.timeout(Duration::from_secs(100));
        }
        let loader = builder.build().unwrap();
        under_watch("computed again", || assert!(is_permutation(&indices(&loader, 0).concat(), 60)));
        assert_eq!(loader.report().num_samples, 60);
        for (index, count) in &*fetched.lock().unwrap() {
            assert_eq!(*count, if index % 3 == 0 { 3 } else { 1 });
        }
    }
    // And not for ever.
    let service = async_from_fn(6, |index| async move { Ok::<_, Error>(index as u64) });
    let loader = Loader::remote(service)
        .try_map(|index| if index == 4 { Err("damaged") } else { Ok(index) })
        .retry(Retry::times(2).backoff(Duration::ZERO, 1.0, Duration::ZERO))
        .on_failure(OnFailure::Skip(FailureBudget::default()))
        .build()
        .unwrap();
    let mut epoch = loader.epoch(0);
    assert_eq!(epoch.next().unwrap().unwrap().indices(), [0, 1, 2, 3, 5]);
    assert!(epoch.next().is_none() && epoch.receipt().is_complete());
    assert_eq!(epoch.receipt().skipped[0].index, Some(4));
}

/// Vectors have no place in a batch before they are there: what they are made of is fetched and computed apart.
#[test]
fn what_cannot_be_computed_is_tried_as_often_as_allowed_and_no_more() {
    quiet_panics();
    for (panics, tries) in [(false, 3), (true, 1)] {
        let computed = Arc::new(AtomicU64::new(0));
        let service = async_from_fn(6, |index| async move { Ok::<_, Error>(index as u64) });
        let compute = {
            let computed = Arc::clone(&computed);
            move |index| match index {
                4 if computed.fetch_add(1, Ordering::SeqCst) == 9 => panic!("more than it was told to"),
                4 if panics => panic!("on purpose"),
                4 => Err("damaged"),
                _ => Ok(vec![index]),
            }
        };
        let retry = Retry::times(2).backoff(Duration::ZERO, 1.0, Duration::ZERO);
        let loader = Loader::remote(service).try_map(compute).retry(retry).workers(1).batch_size(2).build().unwrap();
        let error = under_watch("tried", || loader.epoch(0).find_map(Result::err)).unwrap();
        let kind = if panics { ErrorKind::Panic } else { ErrorKind::Sample };
        assert_eq!((error.kind(), error.position()), (kind, Some(4)));
        assert_eq!(computed.load(Ordering::SeqCst), tries);
    }
}

/// Time stands still but for the pauses, so that each is what it has to be to the millisecond, less what is random.
#[test]
fn what_is_fetched_again_waits_for_its_pause() {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let damaged = Arc::new(AtomicU64::new(0));
    for times in 1..=3 {
        damaged.store(times, Ordering::SeqCst);
        let service = async_from_fn(4, |index| async move { Ok::<_, Error>(index as u64) });
        let compute = {
            let damaged = Arc::clone(&damaged);
            move |index| {
                let left = damaged
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(u64::from(index == 2)));
                if index == 2 && left.is_ok() { Err("damaged") } else { Ok(vec![index]) }
            }
        };
        let retry = Retry::times(3).backoff(Duration::from_secs(1), 10.0, Duration::from_secs(10_000));
        let loader = Loader::remote(service)
            .runtime(runtime.handle().clone())
            .try_map(compute)
            .retry(retry)
            .workers(1)
            .batch_size(4)
            .build()
            .unwrap();
        let took = under_watch("pauses", || {
            runtime.block_on(async {
                let begun = tokio::time::Instant::now();
                assert_eq!(drain(loader.epoch(0)).await.unwrap(), [[0, 1, 2, 3]]);
                begun.elapsed()
            })
        });
        let longest = (0..times as u32).map(|number| retry.delay(number)).sum::<Duration>();
        assert!(longest / 2 <= took && took <= longest + Duration::from_millis(10), "{took:?} of {longest:?}");
    }
}

#[test]
fn an_epoch_that_is_left_the_last_one_asks_for_nothing_of_the_next() {
    let loader = Loader::remote(yielding(40)).concurrency(4).batch_size(4).window(Window::Batches(2)).build().unwrap();
    let mut epochs = loader.epochs(0..100);
    let mut epoch = epochs.next().unwrap();
    drop(epochs);
    under_watch("the last epoch", || {
        while epoch.next().is_some() {
            (0..100).for_each(|_| std::thread::yield_now());
        }
    });
    drop(epoch);
    assert_eq!(loader.report().requests.unwrap().num_sent, 40);
}

#[test]
fn an_epoch_that_is_left_early_keeps_nothing_of_what_was_fetched() {
    let fetched = Arc::new(());
    // With workers that compute what is fetched, and without, where it waits for the consumer.
    for workers in [0, 2] {
        let service = async_from_fn(100, {
            let fetched = Arc::clone(&fetched);
            move |_| std::future::ready(Ok::<_, Error>(Arc::clone(&fetched)))
        });
        let loader = Loader::remote(service).map(|sample| sample).collate(Ok).batch_size(4).workers(workers);
        let loader = loader.build().unwrap();
        // The sequence's own.
        let before = Arc::strong_count(&fetched);
        let mut epochs = loader.epochs(0..2);
        let mut epoch = epochs.next().unwrap();
        drop(epoch.next().unwrap().unwrap());
        drop(epoch);
        under_watch("what nobody will take", || {
            while Arc::strong_count(&fetched) > before {
                std::thread::yield_now();
            }
        });
        assert_eq!(epochs.next().unwrap().count(), 25);
    }
}

/// Of two samples that wait for each other each has a worker, although it would be quicker for one worker to do both.
#[test]
fn no_worker_sleeps_beside_what_the_consumer_waits_for() {
    for _ in 0..20 {
        let done: Arc<Vec<AtomicBool>> = Arc::new((0..400).map(|_| AtomicBool::new(false)).collect());
        let compute = {
            let done = Arc::clone(&done);
            move |index: u64| {
                done[index as usize].store(true, Ordering::SeqCst);
                while index.is_multiple_of(40) && !done[index as usize + 1].load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                index
            }
        };
        // One pair at a time is within the window: of two, both workers might wait for what nobody is left to do.
        let loader = Loader::remote(yielding(400)).map(compute).concurrency(8).batch_size(2).workers(2);
        let loader = loader.window(Window::Batches(8)).build().unwrap();
        under_watch("two that wait for each other", || {
            for batch in loader.epoch(0) {
                batch.unwrap();
                std::thread::yield_now();
            }
        });
    }
}

/// Rows of a fixed size in a window of three batches, written in place and, where they may be fetched again, apart.
#[test]
fn a_window_in_bytes_is_what_it_says() {
    for (retries, workers) in [(0, 0), (0, 2), (1, 0), (1, 2)] {
        let fetched = Arc::new(AtomicU64::new(0));
        let service = async_from_fn(40, {
            let fetched = Arc::clone(&fetched);
            move |index| {
                fetched.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, Error>([index as f32; 4]) }
            }
        });
        let loader = Loader::remote(service)
            .retry(Retry::times(retries))
            .workers(workers)
            .batch_size(4)
            .window(Window::Bytes(3 * 64))
            .build()
            .unwrap();
        let epoch = loader.epoch(0);
        under_watch("a window in bytes", || {
            while fetched.load(Ordering::SeqCst) < 12 {
                std::thread::yield_now();
            }
            assert_eq!(epoch.filter(|batch| batch.is_ok()).count(), 10);
        });
        assert_eq!(loader.report().peak_bytes, Some(3 * 64), "{retries} retries, {workers} workers");
    }
}

/// Something that lets threads through once it is open.
#[derive(Default)]
struct Latch(Mutex<bool>, Condvar);

impl Latch {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.lock().unwrap();
        while !*open {
            open = self.1.wait(open).unwrap();
        }
    }
}

#[test]
fn a_transform_that_is_stuck_is_reported_at_its_place() {
    let latch = Arc::new(Latch::default());
    let loader = Loader::remote(yielding(30))
        .map({
            let latch = Arc::clone(&latch);
            move |number| {
                if number == 13 {
                    latch.pass();
                }
                number
            }
        })
        .workers(2)
        .timeout(PATIENCE)
        .on_failure(OnFailure::Skip(FailureBudget::default()))
        .batch_size(5)
        .build()
        .unwrap();
    under_watch("a stuck transform", || {
        let mut epoch = loader.epoch(0);
        let all: Vec<u64> = (&mut epoch).flat_map(|batch| batch.unwrap().to_vec()).collect();
        assert_eq!(all, (0..30).filter(|&number| number != 13).collect::<Vec<_>>());
        assert_eq!(epoch.receipt().skipped[0].error.kind(), ErrorKind::Timeout);
    });
    latch.open();
}

#[test]
fn a_window_bounds_what_is_fetched_ahead() {
    let fetched = Arc::new(AtomicU64::new(0));
    let service = async_from_fn(1000, {
        let fetched = Arc::clone(&fetched);
        move |index| {
            fetched.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Error>(index as u64) }
        }
    });
    let loader = Loader::remote(service).concurrency(500).batch_size(10).window(Window::Batches(3)).build().unwrap();
    under_watch("a window", || {
        for (taken, batch) in loader.epoch(0).enumerate() {
            batch.unwrap();
            // Those taken, this one among them, and three more.
            let most = 10 * (taken as u64 + 1 + 3);
            assert!(fetched.load(Ordering::SeqCst) <= most, "batch {taken}: {fetched:?}");
        }
    });
}

#[test]
fn no_more_is_fetched_than_workers_can_use() {
    let concurrency = 8;
    let (fetched, computed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let service = async_from_fn(2000, {
        let fetched = Arc::clone(&fetched);
        move |index| {
            fetched.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Error>(index as u64) }
        }
    });
    let most = Arc::new(AtomicUsize::new(0));
    let loader = Loader::remote(service)
        .concurrency(concurrency)
        .workers(1)
        .window(Window::Batches(100))
        .map({
            let (fetched, computed, most) = (Arc::clone(&fetched), Arc::clone(&computed), Arc::clone(&most));
            move |number| {
                let done = computed.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(fetched.load(Ordering::SeqCst) - done, Ordering::SeqCst);
                std::thread::yield_now();
                number
            }
        })
        .batch_size(16)
        .build()
        .unwrap();
    assert!(is_permutation(&indices(&loader, 0).concat(), 2000));
    // As many parked as may be in flight, as many again in flight when that was seen, and the one that is computed.
    assert!(most.load(Ordering::SeqCst) <= 2 * concurrency + 1, "{most:?}");
}

#[test]
fn a_thousand_early_drops_leave_no_task() {
    let runtime = multi_thread(2);
    let alive = Arc::new(AtomicUsize::new(0));
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let service = async_from_fn(27, {
        let alive = Arc::clone(&alive);
        move |index| {
            alive.fetch_add(1, Ordering::SeqCst);
            let alive = Alive(Arc::clone(&alive));
            async move {
                tokio::task::yield_now().await;
                drop(alive);
                Ok::<_, Error>(index as u64)
            }
        }
    });
    let builder = Loader::remote(service).map(|number| number).workers(2).batch_size(5).concurrency(16).shuffle(1);
    let loader = builder.runtime(runtime.handle().clone()).build().unwrap();
    under_watch("early drops", || {
        for round in 0..1000 {
            let mut epoch = loader.epoch(round);
            assert_eq!(epoch.next().unwrap().unwrap().len(), 5);
        }
        for _ in 0..3 {
            let mut epochs = loader.epochs(7..9);
            epochs.next().unwrap().nth(1);
            assert!(is_permutation(&indices_of(epochs.next().unwrap()), 27));
        }
        drop(loader);
        // Tasks that were told to end do so when the runtime comes to them.
        while runtime.metrics().num_alive_tasks() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

fn indices_of<B: Send + 'static>(epoch: Epoch<B>) -> Vec<u64> {
    drain_by_loop(epoch).unwrap().concat()
}

#[test]
#[cfg(target_os = "linux")]
fn loaders_leave_no_thread() {
    // Other tests of this process have threads of their own if they run beside this one: those that are this test's are
    // told by their number, which must not grow with the number of loaders.
    let loaders = |count| {
        for round in 0..count {
            let mut epoch = Loader::remote(yielding(30)).map(|number| number).workers(2).build().unwrap().epoch(round);
            epoch.next().unwrap().unwrap();
        }
        crate::resources::num_loader_threads()
    };
    under_watch("loaders", || {
        loaders(1);
        assert!(loaders(100) < 100);
    });
}

#[test]
fn a_loader_may_be_dropped_in_asynchronous_code_and_by_its_own_request() {
    under_watch("drops", || {
        for runtime in [current_thread(), multi_thread(2)] {
            runtime.block_on(async {
                let loader = Loader::remote(yielding(50)).build().unwrap();
                let mut stream = loader.epoch(0).stream();
                stream.next().await.unwrap().unwrap();
                drop(stream);
                drop(loader);
            });
        }
        // The last handle on a loader lies in one of its requests.
        type Slot = Arc<Mutex<Option<Loader<ndarray::Array1<u64>>>>>;
        let slot = Slot::default();
        let dropped = Arc::new(AtomicBool::new(false));
        let service = async_from_fn(4, {
            let (slot, dropped) = (Arc::clone(&slot), Arc::clone(&dropped));
            move |index| {
                let (slot, dropped) = (Arc::clone(&slot), Arc::clone(&dropped));
                async move {
                    while index == 3 && !dropped.load(Ordering::SeqCst) {
                        let loader = slot.lock().unwrap().take();
                        dropped.store(loader.is_some(), Ordering::SeqCst);
                        drop(loader);
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, Error>(index as u64)
                }
            }
        });
        let loader = Loader::remote(service).batch_size(2).build().unwrap();
        let mut epoch = loader.epoch(0);
        *slot.lock().unwrap() = Some(loader);
        while !dropped.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert_eq!(epoch.next().unwrap().unwrap().to_vec(), [0, 1]);
        assert_eq!(epoch.next().unwrap().unwrap().to_vec(), [2, 3]);
    });
}

#[test]
fn a_runtime_that_ends_ends_the_epoch() {
    // With requests left to send, and with all of them sent and some not answered.
    let shut_down = |len: usize, transform: bool| {
        let runtime = multi_thread(1);
        let service = async_from_fn(len, |index| async move {
            if index >= 12 {
                pending::<()>().await;
            }
            Ok::<_, Error>(index as u64)
        });
        let builder = Loader::remote(service).concurrency(4).batch_size(4).runtime(runtime.handle().clone());
        let loader = if transform { builder.map(|number| number).build() } else { builder.build() }.unwrap();
        let mut epoch = loader.epoch(0);
        for _ in 0..3 {
            assert!(epoch.next().unwrap().is_ok());
        }
        runtime.shutdown_background();
        let error = epoch.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        assert!(epoch.next().is_none());
        // One that is shut down before there is anything to do.
        let error = loader.epoch(1).next().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.epoch()), (ErrorKind::Interrupted, Some(1)), "{error}");
    };
    under_watch("shut down", || {
        for len in [30, 16] {
            [false, true].into_iter().for_each(|transform| shut_down(len, transform));
        }
    });
}

#[test]
fn a_barrier_keeps_the_hook_and_the_requests_apart() {
    struct Changing {
        value: AtomicU64,
        in_flight: AtomicUsize,
    }
    impl AsyncSequence for Changing {
        type Sample = u64;
        fn len(&self) -> usize {
            11
        }
        async fn get(&self, index: usize) -> Result<u64> {
            struct Count<'a>(&'a AtomicUsize);
            impl Drop for Count<'_> {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                }
            }
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let _count = Count(&self.in_flight);
            if index % 3 == 1 {
                tokio::task::yield_now().await;
            }
            Ok(self.value.load(Ordering::SeqCst))
        }
        fn barrier(&self) -> bool {
            true
        }
        fn on_epoch_start(&self, epoch: u64) -> Result<()> {
            assert_eq!(self.in_flight.load(Ordering::SeqCst), 0, "no request while the hook runs");
            self.value.store(epoch, Ordering::SeqCst);
            Ok(())
        }
    }
    let changing = || Changing { value: AtomicU64::new(0), in_flight: AtomicUsize::new(0) };
    under_watch("a barrier", || {
        for workers in [0, 1, 4] {
            let loader = Loader::remote(changing()).map(|value| value).workers(workers).batch_size(3).build().unwrap();
            for (number, mut epoch) in loader.epochs(0..1000).enumerate() {
                // Every other epoch is left early.
                let batches = if number % 2 == 0 { 4 } else { 1 };
                for batch in (&mut epoch).take(batches) {
                    assert!(batch.unwrap().iter().all(|&value| value == number as u64));
                }
            }
        }
        let runtime = multi_thread(1);
        let error = Loader::remote(changing()).runtime(runtime.handle().clone()).build().unwrap_err();
        assert!(error.to_string().contains("barrier"), "{error}");
    });
}

#[test]
fn a_future_for_a_batch_may_be_dropped_at_any_time() {
    let remote = Loader::remote(yielding(100)).batch_size(3).shuffle(5).build().unwrap();
    let local = Loader::builder((0..100_u64).collect::<Vec<_>>()).batch_size(3).shuffle(5).workers(2).build().unwrap();
    for loader in [remote, local] {
        let expected = drain_by_loop(loader.epoch(4)).unwrap();
        let mut stream = loader.epoch(4).stream();
        let mut got = Vec::new();
        under_watch("dropped futures", || {
            while !stream.is_terminated() {
                // Asked once and dropped, ready or not.
                let waker = futures::task::noop_waker();
                let polled = pin!(stream.next()).as_mut().poll(&mut Context::from_waker(&waker));
                match polled {
                    std::task::Poll::Ready(Some(batch)) => got.push(batch.unwrap().indices().to_vec()),
                    std::task::Poll::Ready(None) => break,
                    std::task::Poll::Pending => std::thread::yield_now(),
                }
            }
        });
        assert_eq!(got, expected);
        assert!(stream.receipt().is_complete());
    }
}

#[test]
fn two_loops_over_one_loader_share_its_requests() {
    let loader = Loader::remote(yielding(60)).batch_size(7).shuffle(2).concurrency(4).build().unwrap();
    let expected = [0, 1].map(|epoch| drain_by_loop(loader.epoch(epoch)).unwrap());
    let (mut first, mut second) = (loader.epoch(0), loader.epoch(1));
    let mut got = [Vec::new(), Vec::new()];
    under_watch("two loops", || {
        for _ in 0..9 {
            got[0].push(first.next().unwrap().unwrap().indices().to_vec());
            got[1].push(second.next().unwrap().unwrap().indices().to_vec());
        }
    });
    assert_eq!(got, expected);
}

#[test]
fn a_sequence_may_itself_have_a_remote_loader() {
    let outer = procession::from_fn(6, |index| {
        let loader = Loader::remote(yielding(20)).map(|number| number).workers(1).build().unwrap();
        lists(&loader, index as u64).iter().map(|batch| batch.sum()).sum::<u64>()
    });
    let loader = Loader::builder(outer).workers(3).batch_size(2).build().unwrap();
    under_watch("loaders within a sequence", || {
        assert_eq!(lists(&loader, 0).iter().map(|batch| batch.sum()).sum::<u64>(), 6 * 190);
    });
}

#[test]
fn a_drop_does_not_wait_for_what_requests_left_to_other_threads() {
    let latch = Arc::new(Latch::default());
    let service = async_from_fn(10, {
        let latch = Arc::clone(&latch);
        move |index| {
            let latch = Arc::clone(&latch);
            async move {
                if index == 7 {
                    // A system call that hangs.
                    tokio::task::spawn_blocking(move || latch.pass()).await.map_err(Error::sample)?;
                }
                Ok::<_, Error>(index as u64)
            }
        }
    });
    let loader = Loader::remote(service).timeout(PATIENCE).batch_size(5).build().unwrap();
    under_watch("a stuck system call", || {
        let mut epoch = loader.epoch(0);
        assert!(epoch.next().unwrap().is_ok());
        assert_eq!(epoch.next().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        drop((epoch, loader));
    });
    latch.open();
}

#[test]
fn one_slow_transform_does_not_let_the_other_workers_sleep() {
    let computed = Arc::new((Mutex::new(0_u32), Condvar::new()));
    let slow = Arc::new(AtomicBool::new(false));
    let loader = Loader::remote(yielding(3000))
        .map({
            let (computed, slow) = (Arc::clone(&computed), Arc::clone(&slow));
            move |number| {
                if number == 0 && slow.load(Ordering::SeqCst) {
                    // Until others have done what is ready meanwhile.
                    let mut count = computed.0.lock().unwrap();
                    while *count < 60 {
                        count = computed.1.wait(count).unwrap();
                    }
                } else if slow.load(Ordering::SeqCst) {
                    *computed.0.lock().unwrap() += 1;
                    computed.1.notify_all();
                }
                number
            }
        })
        .workers(3)
        .batch_size(32)
        .build()
        .unwrap();
    under_watch("a straggler among cheap ones", || {
        // The loader learns that samples are cheap.
        assert!(is_permutation(&indices(&loader, 0).concat(), 3000));
        for epoch in 1..20 {
            *computed.0.lock().unwrap() = 0;
            slow.store(true, Ordering::SeqCst);
            assert!(is_permutation(&indices(&loader, epoch).concat(), 3000));
            slow.store(false, Ordering::SeqCst);
        }
    });
}

#[test]
fn a_loop_lets_the_other_tasks_of_its_thread_go_on() {
    // A service that runs on the only thread of the runtime that a task loops on.
    let runtime = multi_thread(1);
    let result = under_watch("a service beside the loop", || {
        runtime.block_on(async {
            let (requests, mut incoming) = tokio::sync::mpsc::unbounded_channel::<tokio::sync::oneshot::Sender<()>>();
            tokio::spawn(async move {
                while let Some(answer) = incoming.recv().await {
                    let _ = answer.send(());
                }
            });
            let service = async_from_fn(40, move |index| {
                let (answer, answered) = tokio::sync::oneshot::channel();
                let sent = requests.send(answer);
                async move {
                    sent.map_err(Error::sample)?;
                    answered.await.map_err(Error::sample)?;
                    Ok::<_, Error>(index as u64)
                }
            });
            let loader = Loader::remote(service).batch_size(4).build().unwrap();
            tokio::spawn(async move { drain_by_loop(loader.epoch(0)) }).await.unwrap()
        })
    });
    assert_eq!(result.unwrap().len(), 10);
}

#[test]
fn requests_of_all_epochs_are_bounded_together() {
    let (in_flight, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let service = async_from_fn(200, {
        let (in_flight, most) = (Arc::clone(&in_flight), Arc::clone(&most));
        move |index| {
            let (in_flight, most) = (Arc::clone(&in_flight), Arc::clone(&most));
            async move {
                most.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                in_flight.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Error>(index as u64)
            }
        }
    });
    let loader = Loader::remote(service).concurrency(5).batch_size(20).build().unwrap();
    under_watch("three epochs at once", || {
        let mut epochs: Vec<_> = (0..3).map(|epoch| loader.epoch(epoch)).collect();
        for _ in 0..10 {
            for epoch in &mut epochs {
                assert!(epoch.next().unwrap().is_ok());
            }
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 5);
}

#[test]
fn the_source_is_the_bottleneck_while_requests_are_waited_for() {
    let service = async_from_fn(64, |index| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, Error>(index as u64)
    });
    let loader = Loader::remote(service).concurrency(8).batch_size(8).build().unwrap();
    let mut epoch = loader.epoch(0);
    for _ in 0..4 {
        epoch.next().unwrap().unwrap();
    }
    // In the middle of the first epoch, and after it.
    assert_eq!(loader.report().bottleneck(), Some(procession::Bottleneck::Source));
    epoch.by_ref().for_each(drop);
    assert_eq!(loader.report().bottleneck(), Some(procession::Bottleneck::Source));
    assert_eq!(loader.report().num_samples, 64);
}

#[test]
fn a_request_cannot_loop_over_its_own_loader() {
    type Slot = Arc<Mutex<Option<Loader<ndarray::Array1<u64>>>>>;
    let slot = Slot::default();
    let service = async_from_fn(4, {
        let slot = Arc::clone(&slot);
        move |index| {
            let loader = slot.lock().unwrap().take();
            async move {
                if let Some(loader) = loader {
                    drain_by_loop(loader.epoch(1))?;
                }
                Ok::<_, Error>(index as u64)
            }
        }
    });
    let loader = Loader::remote(service).concurrency(1).build().unwrap();
    *slot.lock().unwrap() = Some(loader.clone());
    let error = under_watch("a loop in a request", || loader.epoch(0).next().unwrap().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
}
