//! Waiting for a future where there is no `await`.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use crate::error::{Error, ErrorKind, Result};

/// Runs a future to its end, on a thread and a runtime of its own.
///
/// Called within a runtime it holds up a thread of it, so the other tasks of that thread are handed on first: the server
/// that is asked may be one of them. Where that cannot be done it is refused, before anything is begun.
pub(super) fn wait<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let refused = || {
        Err(Error::argument(
            "a call that blocks within a current-thread runtime or a `LocalSet`, expected its asynchronous counterpart",
        ))
    };
    match Handle::try_current().map(|here| here.runtime_flavor()) {
        Err(_) => on_own_thread(future),
        Ok(RuntimeFlavor::CurrentThread) => refused(),
        Ok(_) => {
            let mut future = Some(future);
            let waited = catch_unwind(AssertUnwindSafe(|| block_in_place(|| future.take().map(on_own_thread))));
            match (waited, future) {
                (Ok(Some(result)), _) => result,
                // It was not even begun: tokio refuses to block within a `LocalSet` by a panic.
                (Ok(None) | Err(_), Some(_)) | (Ok(None), None) => refused(),
                (Err(payload), None) => resume_unwind(payload),
            }
        }
    }
}

fn on_own_thread<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let failed = |cause: std::io::Error| Error::new(ErrorKind::Io, "could not start a runtime").with_cause(cause);
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("procession-io".to_owned()).spawn_scoped(scope, || {
            Builder::new_current_thread().enable_all().build().map_err(failed)?.block_on(future)
        });
        thread.map_err(failed)?.join().unwrap_or_else(|payload| resume_unwind(payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer() -> Result<u32> {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        Ok(7)
    }

    #[test]
    fn a_future_is_waited_for_wherever_that_can_be_done() {
        assert_eq!(wait(answer()).unwrap(), 7);
        // The only thread of the runtime waits for another of its tasks.
        let one_thread = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ask, asked) = tokio::sync::oneshot::channel::<tokio::sync::oneshot::Sender<u32>>();
        one_thread.spawn(async move { asked.await.unwrap().send(9).unwrap() });
        let waits = async move {
            let (reply, replied) = tokio::sync::oneshot::channel();
            ask.send(reply).unwrap();
            wait(async move { replied.await.map_err(Error::sample) })
        };
        assert_eq!(one_thread.block_on(one_thread.spawn(waits)).unwrap().unwrap(), 9);
        let local = tokio::task::LocalSet::new();
        let within = local.block_on(&one_thread, async { wait(answer()) });
        assert_eq!(within.unwrap_err().kind(), ErrorKind::Argument);
        let current = Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(current.block_on(async { wait(answer()) }).unwrap_err().kind(), ErrorKind::Argument);
    }
}
