//! Where requests run: on the caller's tokio runtime, or on one of the loader's own.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::block_in_place;

use crate::error::{Error, ErrorKind, Result};

/// A runtime, and the thread that drives it if it is the loader's own.
pub(crate) struct Runtime {
    place: Place,
    // Dropping the sender ends the thread.
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Where to spawn, and who may wait there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) handle: Handle,
    is_own: bool,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Runtime {
    /// A runtime of one's own, on one thread. One thread sends and receives some gigabytes a second; what computes runs
    /// on the workers.
    pub(crate) fn own() -> Result<Self> {
        let failed = |cause: io::Error| Error::new(ErrorKind::Io, "could not start a runtime").with_cause(cause);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("procession-io".to_owned())
            .spawn(move || {
                // The sender is dropped and never sends.
                drop(runtime.block_on(stopped));
                // What is left of tasks is dropped here; nobody waits for what they left to blocking threads, which may be
                // stuck for ever in a system call.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self { place: Place { handle, is_own: true }, thread: Some((stop, thread)) })
    }

    /// The caller's.
    pub(crate) fn of_caller(handle: Handle) -> Result<Self> {
        let entered = handle.enter();
        let has_timers = catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok();
        drop(entered);
        if !has_timers {
            return Err(Error::argument(
                "a runtime without timers, expected one built with `enable_time` or `enable_all`",
            ));
        }
        Ok(Self { place: Place { handle, is_own: false }, thread: None })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn is_own(&self) -> bool {
        self.place.is_own
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // A request that holds the last handle on its own loader is dropped in this thread, which cannot wait for
            // itself and ends on its own.
            if thread.thread().id() != thread::current().id() {
                // The thread does not panic; and if it did there would be nothing to do about it here.
                drop(thread.join());
            }
        }
    }
}

impl Place {
    /// A runtime on which nothing runs, as the tasks of a model do not.
    #[cfg(all(test, procession_loom))]
    pub(crate) fn of_a_model() -> Self {
        use std::sync::OnceLock;
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| Builder::new_current_thread().build().expect("a runtime without drivers"));
        Self { handle: runtime.handle().clone(), is_own: true }
    }

    /// Refuses a loop that would hold up the one thread that its requests run on.
    pub(crate) fn check_loop(&self) -> Result<()> {
        if self.is_own && Handle::try_current().is_ok_and(|here| here.id() == self.handle.id()) {
            return Err(Error::argument("a request loops over the batches of its own loader, which wait for it"));
        }
        if !self.is_own && self.handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
            let message = "a loop over batches holds up the current-thread runtime that its requests run on, expected \
                           `Epoch::stream`, a multi-thread runtime, or the loader's own";
            return Err(Error::argument(message));
        }
        Ok(())
    }

    /// Runs what waits for requests, so that they go on meanwhile.
    pub(crate) fn wait<T>(&self, wait: impl FnOnce() -> T) -> Result<T> {
        // Of any runtime: what a request waits for may be another task of this thread, a server or a client's driver.
        if Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread) {
            // This thread may be the only one of the runtime: it hands its other tasks on before it waits. Where it must
            // not, within a `LocalSet`, tokio says so by a panic, and before anything is waited for.
            let mut wait = Some(wait);
            let waited = catch_unwind(AssertUnwindSafe(|| block_in_place(|| wait.take().map(|wait| wait()))));
            let refused = || Error::argument("a loop over batches within a `LocalSet`, expected `Epoch::stream`");
            return match (waited, wait) {
                (Ok(waited), _) => waited.ok_or_else(refused),
                (Err(_), Some(_)) => Err(refused()),
                (Err(payload), None) => std::panic::resume_unwind(payload),
            };
        }
        Ok(wait())
    }
}
