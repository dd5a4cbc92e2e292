//! The primitives of `sync` as wrappers that count what is done with them, and where. Only there in a build with
//! `--cfg procession_counting`, for the benchmark `scaling`; any other build has the standard library's own.
//!
//! Counted are writes to what threads share: compare-and-swaps, other read-modify-writes, plain stores, fences, locks,
//! waits on condition variables and their notifications, `park` and `unpark`. Not counted are loads, and what does not go
//! through `sync`: reference counts, the queue of spare memory, each thread's own account.

use std::collections::{BTreeMap, HashMap};
use std::panic::Location;
use std::sync::atomic::{self, Ordering};
use std::sync::{self, Arc, LockResult, MutexGuard, PoisonError, TryLockError, TryLockResult, WaitTimeoutResult};
use std::thread;
use std::time::{Duration, Instant};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A compare-and-swap; contended if it failed.
    CompareAndSwap,
    /// Another read-modify-write.
    ReadModifyWrite,
    /// A plain store.
    Store,
    /// A fence.
    Fence,
    /// A mutex was locked; contended if somebody else held it.
    Lock,
    /// A wait on a condition variable.
    Wait,
    /// One who waits on a condition variable was woken, if there was one.
    NotifyOne,
    /// All who wait on a condition variable were woken.
    NotifyAll,
    /// A thread parked itself.
    Park,
    /// A thread was unparked.
    Unpark,
}

/// How often one operation was done in one place of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// What was done.
    pub operation: Operation,
    /// The file and the line.
    pub place: (&'static str, u32),
    /// How often.
    pub times: u64,
    /// How often somebody else was in the way.
    pub contended: u64,
    /// How long threads slept in it, added up.
    pub waited: Duration,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    times: u64,
    contended: u64,
    waited: Duration,
}

// By the address of the location: there may be several for one line, which are added up at the end.
type Tallies = HashMap<(usize, Operation), (&'static Location<'static>, Tally)>;

/// One shard a thread, so that counting does not contend for anything itself.
static SHARDS: sync::Mutex<Vec<Arc<sync::Mutex<Tallies>>>> = sync::Mutex::new(Vec::new());

thread_local! {
    static SHARD: Arc<sync::Mutex<Tallies>> = {
        let shard = Arc::new(sync::Mutex::new(Tallies::new()));
        whole(SHARDS.lock()).push(Arc::clone(&shard));
        shard
    };
}

fn whole<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

fn note(operation: Operation, place: &'static Location<'static>, contended: bool, waited: Duration) {
    // A thread that is about to end may have lost its shard, and nobody counts what it does then.
    let _ = SHARD.try_with(|shard| {
        let mut tallies = whole(shard.lock());
        let (_, tally) =
            tallies.entry((std::ptr::from_ref(place).addr(), operation)).or_insert((place, Tally::default()));
        tally.times += 1;
        tally.contended += u64::from(contended);
        tally.waited += waited;
    });
}

#[track_caller]
fn note_here(operation: Operation) {
    note(operation, Location::caller(), false, Duration::ZERO);
}

/// Forgets what was counted.
pub fn reset() {
    whole(SHARDS.lock()).iter().for_each(|shard| whole(shard.lock()).clear());
}

/// What was counted since the last reset, by all threads, also those that have ended.
pub fn counts() -> Vec<Count> {
    let mut sums = BTreeMap::<_, Tally>::new();
    for shard in whole(SHARDS.lock()).iter() {
        for (&(_, operation), &(place, tally)) in whole(shard.lock()).iter() {
            let sum = sums.entry((operation, place.file(), place.line())).or_default();
            sum.times += tally.times;
            sum.contended += tally.contended;
            sum.waited += tally.waited;
        }
    }
    let count = |((operation, file, line), Tally { times, contended, waited })| Count {
        operation,
        place: (file, line),
        times,
        contended,
        waited,
    };
    sums.into_iter().map(count).collect()
}

macro_rules! atomic_integer {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(atomic::$name);

        #[allow(dead_code, reason = "which of them are used depends on the features")]
        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            #[inline]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                note_here(Operation::Store);
                self.0.store(value, order);
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                note_here(Operation::ReadModifyWrite);
                self.0.swap(value, order)
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let result = self.0.compare_exchange(current, new, success, failure);
                note(Operation::CompareAndSwap, Location::caller(), result.is_err(), Duration::ZERO);
                result
            }
        }
    };
    ($name:ident, $value:ty, $($method:ident),+) => {
        atomic_integer!($name, $value);

        #[allow(dead_code, reason = "which of them are used depends on the features")]
        impl $name {
            $(
                #[track_caller]
                pub(crate) fn $method(&self, value: $value, order: Ordering) -> $value {
                    note_here(Operation::ReadModifyWrite);
                    self.0.$method(value, order)
                }
            )+
        }
    };
}

atomic_integer!(AtomicBool, bool);
atomic_integer!(AtomicU64, u64, fetch_add, fetch_sub, fetch_min, fetch_max, fetch_or);
atomic_integer!(AtomicUsize, usize, fetch_add, fetch_sub, fetch_min, fetch_max);

#[track_caller]
pub(crate) fn fence(order: Ordering) {
    note_here(Operation::Fence);
    atomic::fence(order);
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let place = Location::caller();
        match self.0.try_lock() {
            Ok(guard) => {
                note(Operation::Lock, place, false, Duration::ZERO);
                Ok(guard)
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                note(Operation::Lock, place, false, Duration::ZERO);
                Err(poisoned)
            }
            Err(TryLockError::WouldBlock) => {
                let start = Instant::now();
                let result = self.0.lock();
                note(Operation::Lock, place, true, start.elapsed());
                result
            }
        }
    }

    #[allow(dead_code, reason = "which of them are used depends on the features")]
    #[track_caller]
    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        let result = self.0.try_lock();
        note(Operation::Lock, Location::caller(), result.is_err(), Duration::ZERO);
        result
    }

    pub(crate) fn into_inner(self) -> LockResult<T> {
        self.0.into_inner()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(sync::Condvar::new())
    }

    #[track_caller]
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let (place, start) = (Location::caller(), Instant::now());
        let result = self.0.wait(guard);
        note(Operation::Wait, place, false, start.elapsed());
        result
    }

    #[track_caller]
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (place, start) = (Location::caller(), Instant::now());
        let result = self.0.wait_timeout(guard, timeout);
        note(Operation::Wait, place, false, start.elapsed());
        result
    }

    #[track_caller]
    pub(crate) fn notify_one(&self) {
        note_here(Operation::NotifyOne);
        self.0.notify_one();
    }

    #[track_caller]
    pub(crate) fn notify_all(&self) {
        note_here(Operation::NotifyAll);
        self.0.notify_all();
    }
}

#[derive(Debug)]
pub(crate) struct Thread(thread::Thread);

impl Thread {
    #[track_caller]
    pub(crate) fn unpark(&self) {
        note_here(Operation::Unpark);
        self.0.unpark();
    }
}

pub(crate) fn current() -> Thread {
    Thread(thread::current())
}

#[track_caller]
pub(crate) fn park() {
    let (place, start) = (Location::caller(), Instant::now());
    thread::park();
    note(Operation::Park, place, false, start.elapsed());
}
