//! Failures have names, nothing hangs, and every sample is accounted for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ndarray::{Array1, array};
use procession::testing::{Failing, Panicking};
use procession::{
    BoxError, Error, ErrorKind, FailureBudget, InOrder, Loader, OnFailure, Result, Retry, RowBlock, Sampler, Sequence,
    SequenceExt, Stack, Window, World, from_fn, try_from_fn,
};

use crate::support::{indices, lists, numbers, quiet_panics, under_watch};

/// A sequence whose `get` does whatever a function says.
fn odd_ones<F: Fn(usize) -> Result<u32> + Send + Sync + 'static>(len: usize, f: F) -> impl Sequence<Sample = u32> {
    try_from_fn(len, move |index| f(index).map_err(BoxError::from))
}

#[test]
fn an_error_keeps_its_place() {
    for workers in [0, 2] {
        let source = odd_ones(4, |index| if index == 2 { Err(Error::sample("bad")) } else { Ok(index as u32) });
        let loader = Loader::builder(source).batch_size(1).workers(workers).build().unwrap();
        let mut epoch = loader.epoch(0);
        assert_eq!(epoch.next().unwrap().unwrap().to_vec(), [0]);
        assert_eq!(epoch.next().unwrap().unwrap().to_vec(), [1]);
        let error = epoch.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sample);
        assert_eq!((error.epoch(), error.position(), error.index()), (Some(0), Some(2), Some(2)));
        assert!(epoch.next().is_none() && epoch.next().is_none(), "after an error the epoch is over");
        assert!(!epoch.receipt().is_complete());
        assert_eq!(epoch.receipt().delivered, 2);
    }
}

/// Numbers that are written many at a time, up to one that fails.
struct UpTo {
    len: usize,
    bad: u64,
}

impl Sequence for UpTo {
    type Sample = u32;

    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, index: usize) -> Result<u32> {
        if index as u64 == self.bad { Err(Error::sample("bad")) } else { Ok(index as u32) }
    }
    fn get_many_into(&self, indices: &[u64], block: &mut RowBlock<'_, '_, u32>) -> Option<usize> {
        let num_good = indices.iter().take_while(|&&index| index != self.bad).count();
        for (to, &index) in block.elements().iter_mut().zip(&indices[..num_good]) {
            *to = index as u32;
        }
        Some(num_good)
    }
}

#[test]
fn one_that_fails_among_many_is_skipped_alone() {
    let len = 300;
    let up_to = |bad| UpTo { len, bad };
    let skipping = |bad: &[u64]| {
        let good = (0..len as u32).filter(|&number| !bad.contains(&u64::from(number)));
        good.collect::<Vec<_>>()
    };
    macro_rules! check {
        ($source:expr, $bad:expr, $numbers:expr) => {
            for workers in [0, 2] {
                let builder = Loader::builder($source).batch_size(len).workers(workers);
                let loader = builder.on_failure(OnFailure::Skip(FailureBudget::default())).build().unwrap();
                // The first epochs are loaded one by one, until it is known how little a sample costs.
                for mut epoch in loader.epochs(0..20) {
                    let batch = epoch.next().unwrap().unwrap();
                    assert_eq!($numbers(&*batch), skipping($bad), "{}", stringify!($source));
                    let skipped = epoch.receipt().skipped.iter();
                    assert_eq!(skipped.map(|skipped| skipped.index.unwrap()).collect::<Vec<_>>(), $bad);
                }
            }
        };
    }
    check!(up_to(70), &[70], |batch: &Array1<u32>| batch.to_vec());
    check!(up_to(30).subset((0..len).collect::<Vec<_>>()).unwrap(), &[30], |batch: &Array1<u32>| batch.to_vec());
    check!(up_to(130).slice(..).unwrap(), &[130], |batch: &Array1<u32>| batch.to_vec());
    check!(up_to(20).zip(up_to(120)).unwrap(), &[20, 120], |(left, right): &(Array1<u32>, Array1<u32>)| {
        assert_eq!(left, right);
        left.to_vec()
    });
    check!(up_to(120).zip(up_to(20)).unwrap(), &[20, 120], |(left, right): &(Array1<u32>, Array1<u32>)| {
        assert_eq!(left, right);
        left.to_vec()
    });
}

#[test]
fn the_error_that_is_reported_is_the_first_in_order() {
    for workers in [0, 1, 8] {
        let source = odd_ones(100, |index| if index >= 40 { Err(Error::sample("bad")) } else { Ok(index as u32) });
        let loader = Loader::builder(source).batch_size(50).shuffle(4).workers(workers).build().unwrap();
        for epoch in 0..20 {
            let plan = loader.plan().indices(epoch, 0);
            let first = plan.iter().position(|&index| index >= 40).unwrap();
            let error = loader.epoch(epoch).next().unwrap().unwrap_err();
            assert_eq!((error.position(), error.index()), (Some(first as u64), Some(plan[first])));
        }
    }
}

#[test]
fn a_panic_is_reported_and_the_loader_goes_on() {
    quiet_panics();
    under_watch("panic", || {
        let fatal = Arc::new(AtomicUsize::new(20));
        let source = {
            let fatal = Arc::clone(&fatal);
            from_fn(40, move |index| {
                assert!(index != fatal.load(Ordering::SeqCst), "index {index} panics on purpose");
                index as u32
            })
        };
        let loader = Loader::builder(source).batch_size(8).workers(4).build().unwrap();
        let outcomes: Vec<_> = loader.epoch(0).collect();
        assert_eq!(outcomes.len(), 3);
        let error = outcomes.into_iter().next_back().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.index()), (ErrorKind::Panic, Some(20)));
        assert!(error.to_string().contains("index 20 panics on purpose"));
        let payload = error.into_panic().unwrap();
        assert!(payload.downcast_ref::<String>().unwrap().contains("on purpose"));
        fatal.store(usize::MAX, Ordering::SeqCst);
        assert_eq!(lists(&loader, 1).len(), 5, "all workers are there for the next epoch");
    });
}

#[test]
fn the_grid_of_failures() {
    quiet_panics();
    under_watch("grid", || {
        for workers in [1, 8] {
            for index in [0, 13, 29] {
                for panics in [false, true] {
                    let loader = if panics {
                        Loader::builder(Panicking::new(numbers(30), [index])).batch_size(4).workers(workers).build()
                    } else {
                        Loader::builder(Failing::new(numbers(30), [index])).batch_size(4).workers(workers).build()
                    };
                    let loader = loader.unwrap();
                    let outcomes: Vec<_> = loader.epoch(0).collect();
                    assert_eq!(outcomes.len(), index / 4 + 1);
                    let error = outcomes.into_iter().next_back().unwrap().unwrap_err();
                    assert_eq!(error.index(), Some(index as u64));
                    assert_eq!(error.kind() == ErrorKind::Panic, panics);
                }
            }
        }
    });
}

#[test]
fn skipped_samples_are_listed_and_counted() {
    for workers in [0, 3] {
        let source = odd_ones(200, |index| match index % 10 {
            3 => Err(Error::sample("one in ten").with_file(format!("file-{index}"))),
            _ => Ok(index as u32),
        });
        let loader = Loader::builder(source)
            .batch_size(7)
            .shuffle(1)
            .on_failure(OnFailure::Skip(FailureBudget::default()))
            .workers(workers)
            .build()
            .unwrap();
        let mut epoch = loader.epoch(0);
        let mut seen = Vec::new();
        for batch in &mut epoch {
            let batch = batch.unwrap();
            let data: Vec<u64> = batch.iter().map(|&number| number.into()).collect();
            assert_eq!(data, batch.indices());
            seen.extend(data);
        }
        let receipt = epoch.receipt();
        assert!(receipt.is_complete());
        assert_eq!((receipt.delivered, receipt.skipped.len()), (180, 20));
        for skipped in &receipt.skipped {
            let index = skipped.index.unwrap();
            assert_eq!(index % 10, 3);
            let file = format!("file-{index}");
            assert_eq!(skipped.error.file(), Some(std::path::Path::new(&file)));
        }
        seen.extend(receipt.skipped.iter().filter_map(|skipped| skipped.index));
        assert!(crate::support::is_permutation(&seen, 200));
        assert_eq!(loader.last_receipt().unwrap().delivered, 180);
    }
}

#[test]
fn failure_budgets() {
    // Every fifth sample fails: a count of 20 and a rate of 20 % are just met, 19 and 19 % are not.
    let epoch = |budget: FailureBudget, workers| {
        let source = odd_ones(100, |index| if index % 5 == 4 { Err(Error::sample("x")) } else { Ok(index as u32) });
        let loader = Loader::builder(source)
            .batch_size(10)
            .on_failure(OnFailure::Skip(budget))
            .workers(workers)
            .build()
            .unwrap();
        let outcomes: Vec<Result<Vec<u32>>> = loader.epoch(0).map(|batch| batch.map(|batch| batch.to_vec())).collect();
        (outcomes, loader.last_receipt().unwrap())
    };
    for workers in [0, 2] {
        for budget in [FailureBudget::default().count(20), FailureBudget::default().rate(0.2, 10)] {
            let (outcomes, receipt) = epoch(budget, workers);
            assert!(outcomes.iter().all(|outcome| outcome.is_ok()) && receipt.is_complete());
            assert_eq!(receipt.skipped.len(), 20);
        }
        let (outcomes, receipt) = epoch(FailureBudget::default().count(3), workers);
        // The fourth failure is at index 19, in the second batch: one batch is delivered, then the error.
        assert_eq!(outcomes.len(), 2);
        let error = outcomes[1].as_ref().unwrap_err();
        assert_eq!((error.kind(), error.index()), (ErrorKind::Budget, Some(19)));
        assert!(error.to_string().contains("4 of the first 20 samples failed, more than 3"), "{error}");
        assert_eq!((receipt.delivered, receipt.skipped.len()), (8, 3));
        assert!(!receipt.is_complete());
        let (outcomes, _) = epoch(FailureBudget::default().rate(0.19, 50), workers);
        assert_eq!(outcomes.len(), 5, "the rate counts from the fiftieth sample on");
        let error = outcomes[4].as_ref().unwrap_err();
        assert_eq!((error.kind(), error.index()), (ErrorKind::Budget, Some(49)));
        let (outcomes, _) = epoch(FailureBudget::default().rate(0.19, 15), workers);
        let error = outcomes[1].as_ref().unwrap_err();
        assert!(error.to_string().contains("3 of the first 15 samples failed, more than 19 % after 15"), "{error}");
    }
}

#[test]
fn a_rate_counts_the_samples_of_the_rank() {
    // Of the even indices every fifth fails.
    let source = odd_ones(100, |index| if index % 10 == 4 { Err(Error::sample("x")) } else { Ok(index as u32) });
    let loader = Loader::builder(source)
        .batch_size(10)
        .world(World::new(0, 2).unwrap())
        .on_failure(OnFailure::Skip(FailureBudget::default().rate(0.19, 13)))
        .workers(0)
        .build()
        .unwrap();
    let error = loader.epoch(0).find_map(Result::err).unwrap();
    assert!(error.to_string().contains("3 of the first 13 samples failed"), "{error}");
}

/// Whoever is loaded first, it is the first in order that the others are measured by.
#[test]
fn the_first_in_order_sets_the_shape_of_those_loaded_before_it() {
    let begun = Gate::default();
    let source = {
        let begun = begun.clone();
        from_fn(5, move |index| {
            // The first one waits until the second one has its place: whoever loads the third one has put it there.
            match index {
                0 => begun.pass(),
                2 => begun.open(),
                _ => (),
            }
            vec![index as u32; [2, 3, 2, 4, 2][index]]
        })
    };
    let loader = Loader::builder(source)
        .batch_size(5)
        .workers(2)
        .on_failure(OnFailure::Skip(FailureBudget::default()))
        .build()
        .unwrap();
    let mut epoch = loader.epoch(0);
    let batch = under_watch("shapes", || epoch.next().unwrap().unwrap());
    assert_eq!(batch.indices(), [0, 2, 4]);
    assert_eq!(*batch, array![[0, 0], [2, 2], [4, 4]]);
    assert!(epoch.next().is_none());
    let skipped: Vec<_> = epoch.receipt().skipped.iter().map(|one| (one.index, one.error.kind())).collect();
    assert_eq!(skipped, [(Some(1), ErrorKind::Shape), (Some(3), ErrorKind::Shape)]);
    assert!(epoch.receipt().skipped[1].error.to_string().contains("as of index 0 in the same batch"));
}

#[test]
fn a_retry_waits_for_its_pause() {
    for workers in [0, 1] {
        let failing = odd_ones(1, |_| Err(Error::sample("never")));
        let delay = Duration::from_millis(20);
        let retry = Retry::times(3).backoff(delay, 1.0, delay);
        let loader = Loader::builder(failing).retry(retry).workers(workers).build().unwrap();
        let begun = Instant::now();
        assert!(loader.epoch(0).next().unwrap().is_err());
        // Each pause is half of its delay at least.
        assert!(begun.elapsed() >= 3 * delay / 2);
    }
}

#[test]
fn retries_until_it_works() {
    for workers in [0, 2] {
        for (times, works) in [(2, false), (3, true)] {
            let tries = Arc::new(AtomicUsize::new(0));
            let source = {
                let tries = Arc::clone(&tries);
                odd_ones(10, move |index| {
                    if index == 4 && tries.fetch_add(1, Ordering::SeqCst) < 3 {
                        return Err(Error::sample("not yet"));
                    }
                    Ok(index as u32)
                })
            };
            let retry = Retry::times(times).backoff(Duration::from_micros(50), 2.0, Duration::from_millis(1));
            let loader = Loader::builder(source).batch_size(3).retry(retry).workers(workers).build().unwrap();
            let outcomes: Vec<_> = loader.epoch(0).collect();
            assert_eq!(outcomes.iter().all(|outcome| outcome.is_ok()), works);
            assert_eq!(tries.load(Ordering::SeqCst), if works { 4 } else { 3 });
        }
    }
}

#[test]
fn a_long_back_off_does_not_hold_up_the_drop() {
    under_watch("back-off", || {
        let (asked, was_asked) = mpsc::channel();
        let source = odd_ones(1, move |_| {
            let _ = asked.send(());
            Err(Error::sample("never"))
        });
        let hours = Duration::from_secs(3600);
        let retry = Retry::times(10).backoff(hours, 1.0, hours);
        let loader = Loader::builder(source).retry(retry).workers(1).build().unwrap();
        let epochs = loader.epochs(0..1).next();
        was_asked.recv().unwrap();
        drop(epochs);
        drop(loader);
    });
}

#[test]
fn samples_of_other_shapes_name_both_indices() {
    for workers in [0, 1, 4] {
        let source = from_fn(30, |index| Array1::<f32>::zeros(if index == 17 { 4 } else { 3 }));
        let loader = Loader::builder(source).batch_size(10).workers(workers).build().unwrap();
        let outcomes: Vec<_> = loader.epoch(0).collect();
        assert_eq!(outcomes.len(), 2);
        let error = outcomes.into_iter().next_back().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.index()), (ErrorKind::Shape, Some(17)));
        assert!(error.to_string().contains("as of index 10 in the same batch"), "{error}");
    }
}

#[test]
fn a_first_sample_of_another_shape_sets_the_shape() {
    for workers in [0, 1, 4, 8] {
        let source = from_fn(10, |index| Array1::<f32>::zeros(if index == 0 { 4 } else { 3 }));
        let skip = OnFailure::Skip(FailureBudget::default());
        let loader = Loader::builder(source).batch_size(10).on_failure(skip).workers(workers).build().unwrap();
        for _ in 0..30 {
            let mut epoch = loader.epoch(0);
            let batch = epoch.next().unwrap().unwrap();
            assert_eq!((batch.dim(), batch.indices()), ((1, 4), &[0][..]));
            assert_eq!(epoch.receipt().skipped.len(), 9);
        }
    }
}

#[test]
fn collation_that_fails_or_panics() {
    quiet_panics();
    for workers in [0, 2] {
        let failing = |samples: Vec<u32>| match samples[0] {
            10 => Err(Error::sample("cannot collate")),
            20 => panic!("collation panics on purpose"),
            _ => Ok(samples),
        };
        let build = |on_failure| {
            let builder = Loader::builder(numbers(35)).collate(failing).batch_size(10).workers(workers);
            builder.on_failure(on_failure).build().unwrap()
        };
        let stopping = build(OnFailure::Stop);
        let error = stopping.epoch(0).nth(1).unwrap().unwrap_err();
        assert_eq!((error.kind(), error.position(), error.index()), (ErrorKind::Sample, Some(10), Some(10)));
        let skipping = build(OnFailure::Skip(FailureBudget::default()));
        let mut epoch = skipping.epoch(0);
        let numbers: Vec<u64> = (&mut epoch).map(|batch| batch.unwrap().number()).collect();
        assert_eq!(numbers, [0, 3]);
        let receipt = epoch.receipt();
        assert!(receipt.is_complete());
        let skipped: Vec<u64> = receipt.skipped.iter().filter_map(|skipped| skipped.index).collect();
        assert_eq!(skipped, (10..30).collect::<Vec<_>>());
        assert_eq!(receipt.skipped[10].error.kind(), ErrorKind::Panic);
    }
}

/// A sampler with a defect.
struct Defective;

impl Sampler for Defective {
    fn len(&self) -> u64 {
        10
    }
    fn bound(&self) -> u64 {
        10
    }
    fn index(&self, _: u64, position: u64) -> u64 {
        match position {
            3 => panic!("position 3 panics on purpose"),
            5 => 1000,
            8 => u64::MAX,
            _ => position,
        }
    }
    fn describe(&self) -> String {
        "defective".to_owned()
    }
}

#[test]
fn a_sampler_with_a_defect_is_an_error_at_its_place() {
    fn check<T: Stack + Send + 'static>(sample: fn(usize) -> T)
    where
        T::Batch: Send + 'static,
    {
        for workers in [0, 2] {
            for timeout in [None, Some(Duration::from_secs(60))] {
                let skip = OnFailure::Skip(FailureBudget::default());
                let builder = Loader::builder(from_fn(10, sample)).sampler(Defective).batch_size(4).on_failure(skip);
                let mut builder = builder.workers(workers);
                if let Some(timeout) = timeout {
                    builder = builder.timeout(timeout);
                }
                let loader = builder.build().unwrap();
                let mut epoch = loader.epoch(0);
                let seen: Vec<u64> = (&mut epoch).flat_map(|batch| batch.unwrap().indices().to_vec()).collect();
                assert_eq!(seen, [0, 1, 2, 4, 6, 7, 9]);
                let failed: Vec<_> =
                    epoch.receipt().skipped.iter().map(|skipped| (skipped.position, skipped.error.kind())).collect();
                assert_eq!(failed, [(3, ErrorKind::Panic), (5, ErrorKind::Sampler), (8, ErrorKind::Sampler)]);
            }
        }
    }
    quiet_panics();
    // Written in their places, and put there once they are loaded.
    check(|index| index as u32);
    check(|index| vec![index as u32]);
}

/// A sequence whose hook fails or panics in some epochs.
struct Hooked;

impl Sequence for Hooked {
    type Sample = u8;
    fn len(&self) -> usize {
        6
    }
    fn get(&self, index: usize) -> Result<u8> {
        Ok(index as u8)
    }
    fn barrier(&self) -> bool {
        true
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        if epoch == 1 { Err(Error::sample("no such epoch")) } else { Ok(()) }
    }
}

#[test]
fn a_hook_that_fails_ends_its_epoch_alone() {
    for workers in [0, 2] {
        let loader = Loader::builder(Hooked).batch_size(2).workers(workers).build().unwrap();
        let epochs: Vec<Vec<_>> = loader.epochs(0..3).map(|epoch| epoch.collect()).collect();
        assert_eq!((epochs[0].len(), epochs[1].len(), epochs[2].len()), (3, 1, 3));
        let error = epochs[1][0].as_ref().unwrap_err();
        assert_eq!((error.kind(), error.epoch()), (ErrorKind::Sample, Some(1)));
    }
}

/// A gate that a test opens, for samples that take as long as it likes.
#[derive(Clone, Default)]
struct Gate(Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let guard = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(guard, |open| !*open).unwrap());
    }
}

#[test]
fn a_stuck_sample_is_reported_at_its_place() {
    under_watch("time-out", || {
        for (workers, batch_size) in [(1, 1), (1, 4), (3, 4)] {
            for skip in [false, true] {
                let gate = Gate::default();
                let source = {
                    let gate = gate.clone();
                    from_fn(12, move |index| {
                        if index == 5 || index == 6 {
                            gate.pass();
                        }
                        index as u32
                    })
                };
                let on_failure = if skip { OnFailure::Skip(FailureBudget::default()) } else { OnFailure::Stop };
                let loader = Loader::builder(source)
                    .batch_size(batch_size)
                    .workers(workers)
                    .on_failure(on_failure)
                    .timeout(Duration::from_millis(500))
                    .build()
                    .unwrap();
                let mut epoch = loader.epoch(0);
                let outcomes: Vec<_> = (&mut epoch).collect();
                if skip {
                    let seen: Vec<u64> =
                        outcomes.iter().flat_map(|batch| batch.as_ref().unwrap().indices().to_vec()).collect();
                    assert_eq!(seen, [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]);
                    assert!(epoch.receipt().is_complete());
                    assert!(epoch.receipt().skipped.iter().all(|one| one.error.kind() == ErrorKind::Timeout));
                } else {
                    let error = outcomes.into_iter().next_back().unwrap().unwrap_err();
                    assert_eq!((error.kind(), error.index()), (ErrorKind::Timeout, Some(5)));
                }
                // The drop does not wait for the stuck samples.
                drop(epoch);
                drop(loader);
                gate.open();
            }
        }
    });
}

#[test]
fn a_stuck_sample_of_a_rank_has_its_place_in_the_global_order() {
    under_watch("time-out of a rank", || {
        let gate = Gate::default();
        let source = {
            let gate = gate.clone();
            from_fn(24, move |index| {
                if index == 11 {
                    gate.pass();
                }
                index as u32
            })
        };
        let loader = Loader::builder(source)
            .batch_size(3)
            .world(World::new(1, 2).unwrap())
            .workers(2)
            .on_failure(OnFailure::Skip(FailureBudget::default()))
            .timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        let mut epoch = loader.epoch(0);
        epoch.by_ref().for_each(|batch| drop(batch.unwrap()));
        // Rank 1 has the odd positions: 11 is row 2 of its batch 1. On a machine that stalls there may be others.
        let skipped = epoch.receipt().skipped.iter().find(|one| one.position == 11).unwrap();
        assert_eq!((skipped.error.kind(), skipped.error.position()), (ErrorKind::Timeout, Some(11)));
        assert_eq!((skipped.index, skipped.error.index()), (Some(11), Some(11)));
        assert!(epoch.receipt().skipped.iter().all(|one| one.index == Some(one.position)));
        drop(epoch);
        drop(loader);
        gate.open();
    });
}

#[test]
fn a_drop_waits_for_running_samples_and_no_longer() {
    under_watch("drop", || {
        let gate = Gate::default();
        let running = Arc::new(AtomicUsize::new(0));
        let (started, has_started) = mpsc::channel();
        let source = {
            let (gate, running) = (gate.clone(), Arc::clone(&running));
            from_fn(100, move |index| {
                running.fetch_add(1, Ordering::SeqCst);
                let _ = started.send(());
                gate.pass();
                running.fetch_sub(1, Ordering::SeqCst);
                index as u32
            })
        };
        let loader = Loader::builder(source).batch_size(4).workers(3).window(Window::Batches(8)).build().unwrap();
        let epoch = loader.epoch(0);
        (0..3).for_each(|_| has_started.recv().unwrap());
        // Leaving the epoch does not wait for anything.
        drop(epoch);
        let opener = std::thread::spawn({
            let gate = gate.clone();
            move || gate.open()
        });
        drop(loader);
        opener.join().unwrap();
        assert_eq!(running.load(Ordering::SeqCst), 0, "no `get` runs after the drop");
        assert!(has_started.try_iter().count() <= 3, "nothing was started for an epoch that nobody wants");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_early_drops_leave_no_thread() {
    use crate::resources::num_loader_threads;
    under_watch("early drops", || {
        // Other tests of this binary have loaders too: this one runs alone in a process of its own.
        if std::env::var_os("PROCESSION_ALONE").is_none() {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "failure::a_thousand_early_drops_leave_no_thread", "--test-threads", "1"])
                .env("PROCESSION_ALONE", "1")
                .output()
                .unwrap();
            assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
            return;
        }
        let loader = Loader::builder(numbers(27)).batch_size(5).shuffle(1).workers(4).build().unwrap();
        // A thread is counted by its name, which it gives itself when it first runs.
        let four_are_up = || {
            while num_loader_threads() < 4 {
                std::thread::yield_now();
            }
        };
        four_are_up();
        for round in 0..1000 {
            assert!(loader.epoch(round).next().unwrap().is_ok());
        }
        assert_eq!(num_loader_threads(), 4);
        assert_eq!(indices(&loader, 7), (0..6).map(|batch| loader.plan().indices(7, batch)).collect::<Vec<_>>());
        for _ in 0..250 {
            let loader = Loader::builder(numbers(27)).batch_size(5).workers(4).build().unwrap();
            assert!(loader.epoch(0).next().unwrap().is_ok());
        }
        assert_eq!(num_loader_threads(), 4);
        drop(loader);
        assert_eq!(num_loader_threads(), 0);
    });
}

/// A loader inside the `get` of another, a scope of threads, rayon, a tokio runtime.
#[test]
fn a_sequence_that_itself_runs_threads() {
    under_watch("nesting", || {
        let threads = from_fn(8, |index| {
            std::thread::scope(|scope| {
                let halves: Vec<_> = (0..2).map(|half| scope.spawn(move || index * 10 + half)).collect();
                halves.into_iter().map(|half| half.join().unwrap()).sum::<usize>() as u64
            })
        });
        let on_rayon = from_fn(8, |index| {
            use rayon::prelude::*;
            (0..100_u64).into_par_iter().map(|number| number * index as u64).sum::<u64>()
        });
        let on_tokio = from_fn(8, |index| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
            runtime.block_on(async move { tokio::spawn(async move { index as u64 * 3 }).await.unwrap() })
        });
        let nested = from_fn(8, |index| {
            let inner = Loader::builder(numbers(10)).batch_size(3).shuffle(index as u64).workers(2).build().unwrap();
            lists(&inner, 0).iter().map(|batch| u64::from(batch.sum())).sum::<u64>()
        });
        run_hundred_epochs(threads);
        run_hundred_epochs(on_rayon);
        run_hundred_epochs(on_tokio);
        run_hundred_epochs(nested);
    });
}

fn run_hundred_epochs(source: impl Sequence<Sample = u64> + 'static) {
    let expected: Vec<u64> = (0..source.len()).map(|index| source.get(index).unwrap()).collect();
    let loader = Loader::builder(source).batch_size(3).workers(3).build().unwrap();
    for epoch in loader.epochs(0..100) {
        let seen: Vec<u64> = epoch.flat_map(|batch| batch.unwrap().to_vec()).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_sampler_must_fit_the_sequence() {
    let error = Loader::builder(numbers(5)).sampler(InOrder::new(6)).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
}

/// A value whose destructor is seen.
struct Seen(Arc<AtomicUsize>);

impl Drop for Seen {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_collated_batch_dies_when_it_is_dropped() {
    let drops = Arc::new(AtomicUsize::new(0));
    let collate = {
        let drops = Arc::clone(&drops);
        move |_: Vec<u32>| Ok(Seen(Arc::clone(&drops)))
    };
    let loader = Loader::builder(numbers(20)).collate(collate).batch_size(2).workers(0).build().unwrap();
    for (count, batch) in loader.epoch(0).enumerate() {
        drop(batch.unwrap());
        assert_eq!(drops.load(Ordering::SeqCst), count + 1);
    }
}

/// A value whose destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a destructor panics on purpose");
    }
}

/// An error that holds on to something.
#[derive(Debug)]
struct NoBomb(#[allow(dead_code, reason = "it is held")] Arc<()>);

impl std::fmt::Display for NoBomb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no bomb")
    }
}

impl std::error::Error for NoBomb {}

#[test]
fn destructors_and_measures_that_panic_are_errors() {
    quiet_panics();
    under_watch("destructors", || {
        for workers in [0, 1, 3] {
            let kept = Arc::new(());
            let bombs = {
                let kept = Arc::clone(&kept);
                try_from_fn(4, move |index| if index == 3 { Err(NoBomb(Arc::clone(&kept))) } else { Ok(Bomb) })
            };
            let forget = |bombs: Vec<Bomb>| {
                bombs.into_iter().for_each(std::mem::forget);
                Ok(())
            };
            let loader = Loader::builder(bombs).collate(forget).batch_size(4).workers(workers).build().unwrap();
            for epoch in 0..3 {
                assert!(loader.epoch(epoch).next().unwrap().is_err());
            }
            drop(loader);
            assert_eq!(Arc::strong_count(&kept), 1, "the samples' panic does not let the error before it be forgotten");
            let loader = Loader::builder(numbers(4))
                .collate(Ok)
                .measure(|_| panic!("a measure panics on purpose"))
                .window(Window::Bytes(100))
                .workers(workers)
                .build()
                .unwrap();
            assert_eq!(loader.epoch(0).next().unwrap().unwrap_err().kind(), ErrorKind::Panic);
        }
    });
}

/// A sequence that promises rows that no memory holds.
struct Absurd;

impl Sequence for Absurd {
    type Sample = Vec<f32>;
    fn len(&self) -> usize {
        4
    }
    fn get(&self, _: usize) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
    fn layout(&self) -> Option<usize> {
        Some(1 << 60)
    }
}

#[test]
fn rows_that_no_memory_holds_are_an_error() {
    under_watch("absurd", || {
        for workers in [0, 2] {
            let loader = Loader::builder(Absurd).workers(workers).build().unwrap();
            let error = loader.epoch(0).next().unwrap().unwrap_err();
            assert_eq!((error.kind(), error.index()), (ErrorKind::Limit, Some(0)));
        }
    });
}

#[test]
fn the_longest_time_outs_and_delays_are_no_trouble() {
    under_watch("longest", || {
        let loader = Loader::builder(numbers(3)).workers(1).timeout(Duration::MAX).build().unwrap();
        assert_eq!(lists(&loader, 0).len(), 1);
        let (asked, was_asked) = mpsc::channel();
        let source = odd_ones(1, move |_| {
            let _ = asked.send(());
            Err(Error::sample("never"))
        });
        let retry = Retry::times(1).backoff(Duration::MAX, 2.0, Duration::MAX);
        let loader = Loader::builder(source).retry(retry).workers(1).build().unwrap();
        let epoch = loader.epoch(0);
        was_asked.recv().unwrap();
        drop(epoch);
    });
}

#[test]
fn early_drops_race_with_workers_that_finish() {
    under_watch("early drops under a time-out", || {
        let source = from_fn(1 << 20, |index| [index; 64]);
        let loader = Loader::builder(source)
            .map(|array| array.to_vec())
            .batch_size(2)
            .workers(4)
            .timeout(Duration::from_secs(100))
            .build()
            .unwrap();
        for count in 0..10_000 {
            let mut epoch = loader.epoch(0);
            (0..count % 3).for_each(|_| drop(epoch.next().unwrap().unwrap()));
        }
    });
}

#[test]
fn a_rate_counts_failures_from_before_it_began_to_count() {
    for workers in [0, 2] {
        let source = odd_ones(1000, |index| if index < 50 { Err(Error::sample("x")) } else { Ok(index as u32) });
        let skip = OnFailure::Skip(FailureBudget::default().rate(0.2, 100));
        let loader = Loader::builder(source).batch_size(32).on_failure(skip).workers(workers).build().unwrap();
        let outcomes: Vec<_> = loader.epoch(0).collect();
        // The first 32 are all skipped, and the second batch has 14 left; with the fourth the rate begins to count.
        assert_eq!(outcomes.len(), 3);
        assert_eq!(outcomes.into_iter().next_back().unwrap().unwrap_err().kind(), ErrorKind::Budget);
    }
}

#[test]
fn an_error_of_shape_names_the_file() {
    struct Files;
    impl Sequence for Files {
        type Sample = Vec<u8>;
        fn len(&self) -> usize {
            4
        }
        fn get(&self, index: usize) -> Result<Vec<u8>> {
            Ok(vec![0; 3 + index / 3])
        }
        fn file(&self, index: usize) -> Option<std::path::PathBuf> {
            Some(format!("file-{index}").into())
        }
    }
    let loader = Loader::builder(Files).workers(0).build().unwrap();
    let error = loader.epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.file(), Some(std::path::Path::new("file-3")));
}
