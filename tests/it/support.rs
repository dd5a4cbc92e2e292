//! What several themes need.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use procession::{Batch, Loader, Result};

/// How long a test may take before it counts as hanging. Long, as a machine with other work may take minutes for what
/// takes a second alone, and only a defect ever gets there.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a test under a watchdog: one that hangs ends the test run and says so, instead of holding it up for ever.
pub(crate) fn under_watch<T>(name: &str, test: impl FnOnce() -> T) -> T {
    let (done, finished) = mpsc::channel::<()>();
    let name = name.to_owned();
    let watch = thread::spawn(move || {
        if finished.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            drop(writeln!(std::io::stderr(), "hangs: {name}"));
            std::process::abort();
        }
    });
    let result = test();
    drop(done);
    watch.join().expect("the watch does not panic");
    result
}

/// Keeps the messages of panics that belong to a test out of its output.
pub(crate) fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| info.payload().downcast_ref::<&str>().copied()).unwrap_or("");
            if !text.contains("on purpose") {
                before(info);
            }
        }));
    });
}

/// The whole numbers below `len`.
pub(crate) fn numbers(len: u32) -> Vec<u32> {
    (0..len).collect()
}

/// The data of an epoch's batches.
pub(crate) fn lists<B: Clone + Send + 'static>(loader: &Loader<B>, epoch: u64) -> Vec<B> {
    loader.epoch(epoch).map(|batch| batch.expect("no sample fails").into_inner()).collect()
}

/// The indices of an epoch's batches.
pub(crate) fn indices<B: Send + 'static>(loader: &Loader<B>, epoch: u64) -> Vec<Vec<u64>> {
    collect_indices(loader.epoch(epoch))
}

pub(crate) fn collect_indices<B>(batches: impl IntoIterator<Item = Result<Batch<B>>>) -> Vec<Vec<u64>> {
    batches.into_iter().map(|batch| batch.expect("no sample fails").indices().to_vec()).collect()
}

/// Whether a list holds each of `0..len` exactly once.
pub(crate) fn is_permutation(list: &[u64], len: u64) -> bool {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    sorted == (0..len).collect::<Vec<_>>()
}
