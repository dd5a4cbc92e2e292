//! Keeps a sequence's hook and the loading of its samples apart.

#[cfg(feature = "async")]
use std::future::poll_fn;
#[cfg(feature = "async")]
use std::task::{Poll, Waker};

use crate::sync::{Condvar, Mutex, lock, wait};

/// A hook waits until nothing is being loaded; loading waits while a hook runs or waits to.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    loads: usize,
    // Hooks that wait or run. They go first: under a steady stream of loads one would otherwise wait for ever.
    hooks: usize,
    // Invariant: while a hook runs, `loads` is 0.
    hook_runs: bool,
    // Tasks that wait to load.
    #[cfg(feature = "async")]
    waiting: Vec<Waker>,
}

/// Ends a load when it is dropped.
struct Leave<'a>(&'a Gate);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    /// Begins a load. Each is ended by one `leave`.
    pub(crate) fn enter(&self) {
        let mut state = lock(&self.state);
        while state.hooks > 0 {
            state = wait(&self.changed, state);
        }
        state.loads += 1;
    }

    /// Ends a load.
    pub(crate) fn leave(&self) {
        let mut state = lock(&self.state);
        state.loads -= 1;
        if state.loads == 0 && state.hooks > 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Begins a load that ends when the guard is dropped.
    pub(crate) fn pass(&self) -> impl Drop + '_ {
        self.enter();
        Leave(self)
    }

    /// The same for a task, which does not hold up its thread.
    #[cfg(feature = "async")]
    pub(crate) async fn pass_later(&self) -> impl Drop + Send + '_ {
        poll_fn(|context| {
            let mut state = lock(&self.state);
            if state.hooks > 0 {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            state.loads += 1;
            Poll::Ready(Leave(self))
        })
        .await
    }

    /// Runs a hook with nothing else under way.
    pub(crate) fn run_alone<T>(&self, hook: impl FnOnce() -> T) -> T {
        /// Opens the gate again, also when the hook panics.
        struct Reopen<'a>(&'a Gate);
        impl Drop for Reopen<'_> {
            fn drop(&mut self) {
                let mut state = lock(&self.0.state);
                state.hooks -= 1;
                state.hook_runs = false;
                #[cfg(feature = "async")]
                let waiting = std::mem::take(&mut state.waiting);
                drop(state);
                self.0.changed.notify_all();
                #[cfg(feature = "async")]
                waiting.into_iter().for_each(Waker::wake);
            }
        }
        let mut state = lock(&self.state);
        state.hooks += 1;
        while state.loads > 0 || state.hook_runs {
            state = wait(&self.changed, state);
        }
        state.hook_runs = true;
        drop(state);
        let _reopen = Reopen(self);
        hook()
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn hooks_and_loads_never_overlap() {
        let (gate, loads, hooks) = (Gate::new(), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let _pass = gate.pass();
                        loads.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(hooks.load(Ordering::SeqCst), 0);
                        loads.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        gate.run_alone(|| {
                            assert_eq!(hooks.fetch_add(1, Ordering::SeqCst), 0);
                            assert_eq!(loads.load(Ordering::SeqCst), 0);
                            hooks.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
    }

    #[cfg(feature = "async")]
    #[test]
    fn a_task_waits_for_the_hook_and_is_woken_after_it() {
        use std::sync::Arc;
        use std::task::{Context, Wake};

        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (gate, woken) = (Gate::new(), Arc::new(Woken(AtomicUsize::new(0))));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut pass = Box::pin(gate.pass_later());
        gate.run_alone(|| {
            assert!(pass.as_mut().poll(&mut context).is_pending());
            assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        });
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(pass.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_hook_that_panics_opens_the_gate() {
        let gate = Gate::new();
        let hook = std::panic::AssertUnwindSafe(|| gate.run_alone(|| std::panic::resume_unwind(Box::new(()))));
        assert!(std::panic::catch_unwind(hook).is_err());
        drop(gate.pass());
    }
}
