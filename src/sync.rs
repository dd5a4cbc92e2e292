//! What the threads share, from the standard library or, under `--cfg loom`, from the model checker.
//!
//! Everything that the engine's correctness hangs on goes through here; a lock or an atomic from elsewhere would be
//! invisible to the model.

#[cfg(loom)]
pub(crate) use loom::{
    hint,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use std::sync::PoisonError;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Locks. No user code runs while one of the engine's locks is held, so a poisoned lock guards whole data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable until a moment at the latest.
pub(crate) fn wait_until<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, moment: Instant) -> MutexGuard<'a, T> {
    let left = moment.saturating_duration_since(Instant::now());
    condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
}

/// The moment after a duration; one that lies beyond what the clock can say is a lifetime away.
pub(crate) fn after(duration: Duration) -> Instant {
    const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + duration.min(LIFETIME)
}

/// Whom to wake when a batch is ready: the thread of a `for` loop or the task of a stream.
#[derive(Debug)]
pub(crate) enum Waiter {
    Thread(thread::Thread),
    #[allow(dead_code, reason = "the consumer of a stream; the loop is the only consumer so far")]
    Task(Waker),
}

impl Waiter {
    pub(crate) fn current_thread() -> Self {
        Self::Thread(thread::current())
    }

    pub(crate) fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// A flag that ends pauses early when it is raised. Raised once, for good.
#[derive(Debug)]
pub(crate) struct Breaker {
    broken: AtomicBool,
    pausing: Mutex<()>,
    raised: Condvar,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { broken: AtomicBool::new(false), pausing: Mutex::new(()), raised: Condvar::new() }
    }

    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        // Acquire pairs with the release in `raise`: whoever sees the flag sees what was done before it was raised.
        self.broken.load(Ordering::Acquire)
    }

    pub(crate) fn raise(&self) {
        self.broken.store(true, Ordering::Release);
        // Taking the lock orders this after a pause's look at the flag: it either saw the flag or waits by now.
        drop(lock(&self.pausing));
        self.raised.notify_all();
    }

    /// Sleeps for a duration, or until the flag is raised.
    pub(crate) fn pause(&self, duration: Duration) {
        let end = after(duration);
        let mut guard = lock(&self.pausing);
        while !self.is_broken() && Instant::now() < end {
            guard = wait_until(&self.raised, guard, end);
        }
    }
}
