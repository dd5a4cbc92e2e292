//! Any configuration of the loader gives what the plain loop gives.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use crate::scenario::Scenario;

/// Ends the test run if a scenario hangs, and says which.
fn under_watch(scenario: Scenario) -> Result<(), String> {
    let (done, finished) = mpsc::channel::<()>();
    let name = format!("{scenario:?}");
    let watch = thread::spawn(move || {
        if finished.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
            use std::io::Write;
            drop(writeln!(std::io::stderr(), "hangs: {name}"));
            std::process::abort();
        }
    });
    let result = scenario.check();
    drop(done);
    watch.join().map_err(|_| "the watch panicked".to_owned())?;
    result
}

/// How many random configurations a property is tried on: 10,000, or what `PROCESSION_CASES` says.
fn cases() -> u32 {
    std::env::var("PROCESSION_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

#[test]
fn every_configuration_gives_what_the_plain_loop_gives() {
    // Samples that panic are part of the scenarios; their messages are not.
    std::panic::set_hook(Box::new(|info| {
        let ours = info.payload().downcast_ref::<String>().is_some_and(|text| text.ends_with("panics"));
        if !ours {
            use std::io::Write;
            drop(writeln!(std::io::stderr(), "{info}"));
        }
    }));
    let config = ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() };
    proptest!(config, |(bytes in prop::collection::vec(any::<u8>(), 0..64))| {
        let scenario = Scenario::decode(&bytes);
        if let Err(difference) = under_watch(scenario.clone()) {
            return Err(TestCaseError::fail(format!("{difference}\n{scenario:?}")));
        }
    });
}
