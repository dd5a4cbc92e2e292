//! What the threads share, from the standard library or, in the crate in `models/`, from the model checker. Under
//! `--cfg procession_counting` thin wrappers count what is done with it.
//!
//! Everything that the engine's correctness hangs on goes through here; a lock or an atomic from elsewhere would be
//! invisible to the model.

#[cfg(all(procession_loom, feature = "async"))]
pub(crate) use self::tasks::{AbortHandle, Notify, spawn};
#[cfg(procession_loom)]
pub(crate) use self::{clock::Instant, parking::park};
#[cfg(all(not(procession_loom), procession_counting))]
pub(crate) use crate::counting::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, fence, park};
#[cfg(procession_loom)]
pub(crate) use loom::{
    hint,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread,
};
#[cfg(not(procession_loom))]
pub(crate) use std::{
    hint,
    sync::{Arc, MutexGuard, atomic::Ordering},
    thread,
    time::Instant,
};
#[cfg(not(any(procession_loom, procession_counting)))]
pub(crate) use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
    },
    thread::park,
};
#[cfg(all(not(procession_loom), feature = "async"))]
pub(crate) use tokio::{sync::Notify, task::AbortHandle};

use std::sync::PoisonError;
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::Duration;

#[cfg(procession_loom)]
use self::parking::{Thread, current};
#[cfg(all(not(procession_loom), procession_counting))]
use crate::counting::{Thread, current};
#[cfg(not(any(procession_loom, procession_counting)))]
use std::thread::{Thread, current};

/// Locks. No user code runs while one of the engine's locks is held, so a poisoned lock guards whole data.
#[cfg_attr(procession_counting, track_caller)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable.
#[cfg_attr(procession_counting, track_caller)]
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable until a moment at the latest.
#[cfg_attr(procession_counting, track_caller)]
pub(crate) fn wait_until<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, moment: Instant) -> MutexGuard<'a, T> {
    let left = moment.saturating_duration_since(Instant::now());
    condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
}

/// Starts a task on a runtime.
#[cfg(all(not(procession_loom), feature = "async"))]
pub(crate) fn spawn(runtime: &tokio::runtime::Handle, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    runtime.spawn(task).abort_handle()
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
#[cfg(procession_loom)]
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

/// What stands for a runtime under the model checker, to which tokio is invisible: a task is a thread that polls it.
#[cfg(all(procession_loom, feature = "async"))]
mod tasks {
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    use super::{Condvar, Mutex, lock, thread, wait};

    /// Ends a task at the next moment at which it waits.
    #[derive(Debug)]
    pub(crate) struct AbortHandle(Arc<Task>);

    #[derive(Debug, Default)]
    struct Task {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct State {
        woken: bool,
        aborted: bool,
    }

    pub(crate) fn spawn(_: &tokio::runtime::Handle, future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let task = Arc::new(Task::default());
        lock(&task.state).woken = true;
        let handle = AbortHandle(Arc::clone(&task));
        thread::spawn(move || {
            let mut future = pin!(future);
            let waker = Waker::from(Arc::clone(&task));
            while task.is_to_go_on() && future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {}
        });
        handle
    }

    impl AbortHandle {
        pub(crate) fn abort(&self) {
            lock(&self.0.state).aborted = true;
            self.0.changed.notify_one();
        }
    }

    impl Task {
        /// Waits until the task is woken or aborted.
        fn is_to_go_on(&self) -> bool {
            let mut state = lock(&self.state);
            while !state.woken && !state.aborted {
                state = wait(&self.changed, state);
            }
            state.woken = false;
            !state.aborted
        }
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            lock(&self.state).woken = true;
            self.changed.notify_one();
        }
    }

    /// As tokio's: a permit goes to whoever waits first, or is kept for whoever comes next.
    #[derive(Debug, Default)]
    pub(crate) struct Notify(Mutex<Permits>);

    #[derive(Debug, Default)]
    struct Permits {
        kept: bool,
        waiting: VecDeque<(u64, Waker)>,
        // Those of whom it is known and who have not been polled since.
        given: Vec<u64>,
        num_waits: u64,
    }

    impl Notify {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notify_one(&self) {
            let waker = {
                let mut permits = lock(&self.0);
                match permits.waiting.pop_front() {
                    Some((wait, waker)) => {
                        permits.given.push(wait);
                        waker
                    }
                    None => {
                        permits.kept = true;
                        return;
                    }
                }
            };
            waker.wake();
        }

        pub(crate) async fn notified(&self) {
            let mut wait = Wait { notify: self, number: None };
            poll_fn(|context| wait.poll(context)).await;
        }
    }

    struct Wait<'a> {
        notify: &'a Notify,
        number: Option<u64>,
    }

    impl Wait<'_> {
        fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
            let mut permits = lock(&self.notify.0);
            let Some(number) = self.number else {
                if std::mem::take(&mut permits.kept) {
                    return Poll::Ready(());
                }
                permits.num_waits += 1;
                let number = permits.num_waits;
                permits.waiting.push_back((number, context.waker().clone()));
                self.number = Some(number);
                return Poll::Pending;
            };
            match permits.given.iter().position(|&given| given == number) {
                Some(at) => {
                    permits.given.remove(at);
                    self.number = None;
                    Poll::Ready(())
                }
                None => Poll::Pending,
            }
        }
    }

    impl Drop for Wait<'_> {
        fn drop(&mut self) {
            let Some(number) = self.number else { return };
            let mut permits = lock(&self.notify.0);
            permits.waiting.retain(|&(waiting, _)| waiting != number);
            // A permit that was given to one who no longer wants it goes to the next.
            let had_one = permits.given.contains(&number);
            drop(permits);
            if had_one {
                self.notify.notify_one();
            }
        }
    }
}

/// A clock for the model checker, which repeats a schedule and must then see the same time: it stands still
/// unless the model has time pass, and whatever is timed has taken as long as the model says.
#[cfg(procession_loom)]
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
