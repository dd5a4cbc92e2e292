//! Any configuration of the loader gives what the plain loop gives.

use proptest::prelude::*;

use crate::scenario::Scenario;
use crate::support::{quiet_panics, under_watch};

/// How many random configurations a property is tried on: 10,000, or what `PROCESSION_CASES` says.
fn cases() -> u32 {
    std::env::var("PROCESSION_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

#[test]
fn every_configuration_gives_what_the_plain_loop_gives() {
    quiet_panics();
    let config = ProptestConfig {
        cases: cases(),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(bytes in prop::collection::vec(any::<u8>(), 0..96))| {
        let scenario = Scenario::decode(&bytes);
        if let Err(difference) = under_watch(&format!("{scenario:?}"), || scenario.check()) {
            return Err(TestCaseError::fail(format!("{difference}\n{scenario:?}")));
        }
    });
}
