//! The report names what holds the others up.

use std::time::Duration;

use procession::testing::Slow;
use procession::{Bottleneck, Loader, from_fn};

use crate::support::numbers;

const LONG: Duration = Duration::from_millis(3);

#[test]
fn a_slow_source_is_named() {
    let source = Slow::sleeping(numbers(40), |_| LONG);
    let loader = Loader::builder(source).batch_size(4).workers(2).build().unwrap();
    loader.epoch(0).for_each(drop);
    let report = loader.report();
    assert_eq!(report.bottleneck(), Some(Bottleneck::Source));
    assert_eq!((report.num_samples, report.num_batches, report.num_workers), (40, 10, 2));
    // Forty samples were loaded for so long at least, whoever loaded them.
    assert!(report.source_busy >= 40 * LONG);
    assert!(report.to_string().ends_with("most of the workers' time goes to its `get`"), "{report}");
}

#[test]
fn slow_transforms_are_named() {
    let work = |number: u32| {
        std::thread::sleep(LONG);
        number
    };
    // A sample that may be given up is loaded apart from its batch.
    for timeout in [None, Some(Duration::from_secs(100))] {
        let mut builder = Loader::builder(numbers(40)).map(work).batch_size(4).workers(2);
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        let loader = builder.build().unwrap();
        loader.epoch(0).for_each(drop);
        assert_eq!(loader.report().bottleneck(), Some(Bottleneck::Workers));
        assert!(loader.report().transform_busy >= 40 * LONG);
    }
}

#[test]
fn a_slow_consumer_is_named() {
    let loader = Loader::builder(from_fn(200, |index| index)).batch_size(4).workers(2).build().unwrap();
    for batch in loader.epoch(0) {
        std::thread::sleep(LONG);
        drop(batch.unwrap());
    }
    assert_eq!(loader.report().bottleneck(), Some(Bottleneck::Consumer));
}

#[test]
fn nothing_loaded_nothing_said() {
    let loader = Loader::builder(numbers(4)).workers(1).build().unwrap();
    assert_eq!(loader.report().bottleneck(), None);
    assert_eq!(loader.report().num_samples, 0);
}
