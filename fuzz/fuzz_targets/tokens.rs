//! Any bytes, taken for a file of tokens after a few that choose how it is read, give the windows that a trivial reader
//! gives, or an error where that finds a token that is too large. Never a panic, and no memory but for a message.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/tokens.rs"]
mod tokens;

use libfuzzer_sys::fuzz_target;
use procession::source::Tokens;

fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let (opened, used) = counting::with_peak(|| Tokens::from_bytes::<u16>(bytes, "fuzzed"));
    assert!(used <= 4 << 10, "{used} bytes for {}: {opened:?}", data.len());
    tokens::check(data);
});
