//! Any bytes taken for a state, as text or as JSON, are one or an error; what is read prints back the same; and a
//! resume from any state, however made up, goes on or is refused: it neither panics nor hangs (give `-timeout`).
#![no_main]

#[path = "../../tests/it/fuzzed/state.rs"]
mod state;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| state::check(data));
