//! Any bytes, taken for an image file, are an image of the size that the header says or an error, in no more memory than
//! the limit allows. A decoder that panics is caught by the crate, so that it must not end the process here.
//! With the feature `turbojpeg`, which takes cmake and nasm to build, the same holds for libjpeg-turbo; what C code allocates
//! is not counted.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[path = "../../tests/it/fuzzed/image.rs"]
mod image;

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use procession::source::Blob;

static QUIET: Once = Once::new();

/// Messages, tables of the decoders, and a thread's buffers.
const CONSTANT_BYTES: usize = 4 << 20;

fuzz_target!(|data: &[u8]| {
    // A panic that reaches libFuzzer still ends the process.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let file = Blob::new(data.to_vec(), "fuzzed");
    let (decoded, used) = counting::with_peak(|| image::options().decode(&file));
    // Decoded once as the format has it and once as bytes of three channels, and turned; and the values of tags, of which
    // each takes 32 bytes.
    let justified = CONSTANT_BYTES + 3 * (1 << 24) + 64 * data.len();
    assert!(used <= justified, "{used} bytes for {}: {decoded:?}", data.len());
    image::check(data, image::options());
    #[cfg(feature = "turbojpeg")]
    image::check(data, image::options().jpeg_decoder(&procession_turbojpeg::Turbo));
});
