//! Ctrl-C: a wish to stop, granted after the batch at hand.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use procession::{Error, ErrorKind};

use crate::stop::Stop;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Has Ctrl-C make [`requested`] true from now on. A second one ends the process at once.
pub(crate) fn listen() -> Result<(), Stop> {
    let handler = || {
        // Relaxed: the flag is all there is to see.
        if REQUESTED.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot listen for Ctrl-C").with_cause(cause).into())
}

/// Whether Ctrl-C was pressed.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
