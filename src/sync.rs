//! What the threads share, from the standard library or, under `--cfg loom`, from the model checker.
//!
//! Everything that the engine's correctness hangs on goes through here; a lock or an atomic from elsewhere would be
//! invisible to the model.

#[cfg(loom)]
pub(crate) use self::{clock::Instant, parking::park};
#[cfg(loom)]
pub(crate) use loom::{
    hint,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::{self, park},
    time::Instant,
};

use std::sync::PoisonError;
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::Duration;

#[cfg(loom)]
use self::parking::{Thread, current};
#[cfg(not(loom))]
use std::thread::{Thread, current};

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
    Thread(Thread),
    #[cfg(feature = "async")]
    Task(Waker),
}

impl Waiter {
    pub(crate) fn current_thread() -> Self {
        Self::Thread(current())
    }

    pub(crate) fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            #[cfg(feature = "async")]
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

/// How the consumer sleeps under the model checker, whose own `park` forgets an earlier `unpark` when the thread has had
/// to wait for a lock in between.
#[cfg(loom)]
mod parking {
    use std::sync::Arc;

    use super::{Condvar, Mutex, lock, wait};

    loom::thread_local! {
        static CURRENT: Thread = Thread::default();
    }

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Thread(Arc<(Mutex<bool>, Condvar)>);

    pub(crate) fn current() -> Thread {
        CURRENT.with(Clone::clone)
    }

    pub(crate) fn park() {
        let Thread(token) = current();
        let mut unparked = lock(&token.0);
        while !*unparked {
            unparked = wait(&token.1, unparked);
        }
        *unparked = false;
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            *lock(&self.0.0) = true;
            self.0.1.notify_one();
        }
    }
}

/// A clock for the model checker, which repeats a schedule and must then see the same time: it stands still
/// unless the model has time pass, and whatever is timed has taken as long as the model says.
#[cfg(loom)]
pub(crate) mod clock {
    use std::cell::Cell;
    use std::ops::Add;
    use std::time::Duration;

    thread_local! {
        // The threads of a model all run on the thread of its test.
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static TOOK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Sets how long everything takes.
    #[cfg(test)]
    pub(crate) fn everything_takes(took: Duration) {
        TOOK.set(took);
    }

    #[cfg(test)]
    pub(crate) fn taken() -> Duration {
        TOOK.get()
    }

    /// Begins a schedule.
    #[cfg(test)]
    pub(crate) fn reset() {
        NOW.set(Duration::ZERO);
    }

    /// Lets time pass, of which nobody is told who sleeps until a moment.
    #[cfg(test)]
    pub(crate) fn pass(duration: Duration) {
        NOW.set(NOW.get() + duration);
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Instant(Duration);

    impl Instant {
        pub(crate) fn now() -> Self {
            Self(NOW.get())
        }

        pub(crate) fn elapsed(&self) -> Duration {
            TOOK.get()
        }

        pub(crate) fn saturating_duration_since(&self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Self;

        fn add(self, duration: Duration) -> Self {
            Self(self.0 + duration)
        }
    }
}
