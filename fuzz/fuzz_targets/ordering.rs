//! Any use of the loader gives what the plain loop gives: with any sequence, sampler, tail, ranks, workers and window,
//! with samples that fail, panic or differ in shape, skipped, retried or stopped at, and when epochs are left early or
//! resumed. None of them hangs (give `-timeout`).
#![no_main]

#[path = "../../tests/it/scenario.rs"]
mod scenario;

use libfuzzer_sys::fuzz_target;

/// Lets the panics pass that a scenario throws into the loader; any other one ends the run at once.
fn expect_injected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.contains("on purpose")) {
            before(info);
        }
    }));
}

fuzz_target!(init: expect_injected_panics(), |data: &[u8]| {
    let scenario = scenario::Scenario::decode(data);
    if let Err(difference) = scenario.check() {
        panic!("{difference}\n{scenario:?}");
    }
});
