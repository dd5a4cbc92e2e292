//! Decoded columns of row groups, up to a number of bytes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow_array::ArrayRef;

use crate::error::Result;
use crate::source::columns::Failure;
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, lock, wait};

/// Keeps what was decoded. What several threads ask for at once is decoded by the first of them, while the others wait.
///
/// A thread that waits holds no lock, and one that decodes waits for no other: so nothing waits in a circle.
pub(super) struct Cache {
    /// For each column that is in use, its row groups.
    columns: Vec<OnceLock<Box<[Slot]>>>,
    num_groups: usize,
    cache_bytes: u64,
    ledger: Mutex<Ledger>,
    /// Counts uses, to tell what was used before what.
    clock: AtomicU64,
    num_decoded: AtomicU64,
}

/// A column of a row group.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    decoded: Condvar,
    /// What the clock said when it was used last.
    used: AtomicU64,
}

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Decoding,
    Ready(ArrayRef),
    Failed(Failure),
}

/// What is kept, with its bytes.
///
/// In the order of the uses that were last known. A use does not come here, as it would need the lock: it is noted in its
/// slot, and an entry that turns out to have been used since takes its new place when it is its turn to be forgotten.
#[derive(Default)]
struct Ledger {
    entries: BTreeMap<Entry, u64>,
    bytes: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    // First, as it is what entries are sorted by.
    used: u64,
    column: usize,
    group: usize,
}

impl Cache {
    pub(super) fn new(num_columns: usize, num_groups: usize, cache_bytes: u64) -> Self {
        Self {
            columns: (0..num_columns).map(|_| OnceLock::new()).collect(),
            num_groups,
            cache_bytes,
            ledger: Mutex::default(),
            clock: AtomicU64::new(0),
            num_decoded: AtomicU64::new(0),
        }
    }

    pub(super) fn num_decoded(&self) -> u64 {
        self.num_decoded.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        lock(&self.ledger).bytes
    }

    fn slot(&self, column: usize, group: usize) -> &Slot {
        &self.columns[column].get_or_init(|| (0..self.num_groups).map(|_| Slot::default()).collect())[group]
    }

    // Relaxed: it only orders what is forgotten first, and being late by some does no harm.
    fn touch(&self, slot: &Slot) {
        slot.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A column of a row group, decoded if it is not kept.
    pub(super) fn get(
        &self,
        column: usize,
        group: usize,
        decode: impl FnOnce() -> Result<ArrayRef>,
    ) -> Result<ArrayRef> {
        let slot = self.slot(column, group);
        let mut state = lock(&slot.state);
        loop {
            match &*state {
                State::Ready(array) => {
                    self.touch(slot);
                    return Ok(ArrayRef::clone(array));
                }
                State::Failed(failure) => return Err(failure.error()),
                State::Decoding => state = wait(&slot.decoded, state),
                State::Empty => break,
            }
        }
        *state = State::Decoding;
        drop(state);
        let unfinished = Unfinished(slot);
        let (state, result) = match decode() {
            Ok(array) => (State::Ready(ArrayRef::clone(&array)), Ok(array)),
            // The bytes stay as they are, and so does what is wrong with them.
            Err(error) => {
                let failure = Failure::new(error);
                (State::Failed(failure.clone()), Err(failure.error()))
            }
        };
        self.num_decoded.fetch_add(1, Ordering::Relaxed);
        self.touch(slot);
        unfinished.finish(state);
        if let Ok(array) = &result {
            self.keep(column, group, array.get_array_memory_size() as u64);
        }
        result
    }

    /// Notes what is kept, and forgets what was not used for the longest time, as long as it is too much. The newest stays:
    /// it may alone be more than all that may be kept.
    fn keep(&self, column: usize, group: usize, bytes: u64) {
        let mut ledger = lock(&self.ledger);
        ledger.bytes += bytes;
        // Others go on using what is kept: after a round of new places for all of it, their new uses no longer count, so
        // that this ends.
        let mut num_moves = ledger.entries.len();
        while ledger.bytes > self.cache_bytes {
            let Some((oldest, oldest_bytes)) = ledger.entries.pop_first() else { break };
            let slot = self.slot(oldest.column, oldest.group);
            let used = slot.used.load(Ordering::Relaxed);
            if used > oldest.used && num_moves > 0 {
                num_moves -= 1;
                ledger.entries.insert(Entry { used, ..oldest }, oldest_bytes);
                continue;
            }
            ledger.bytes -= oldest_bytes;
            *lock(&slot.state) = State::Empty;
        }
        let used = self.slot(column, group).used.load(Ordering::Relaxed);
        ledger.entries.insert(Entry { used, column, group }, bytes);
    }
}

/// A slot whose column is being decoded. Should that panic, the next one to ask tries again.
struct Unfinished<'a>(&'a Slot);

impl Unfinished<'_> {
    fn finish(self, state: State) {
        *lock(&self.0.state) = state;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::Decoding) {
            *state = State::Empty;
        }
        drop(state);
        self.0.decoded.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array, Int64Array};

    use super::*;
    use crate::error::{Error, ErrorKind};

    fn numbers(number: i64) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(vec![number; 100])))
    }

    fn size() -> u64 {
        numbers(0).unwrap().get_array_memory_size() as u64
    }

    /// The number that a column is made of, and whether it was decoded for that.
    fn ask(cache: &Cache, column: usize, group: usize) -> bool {
        let mut decoded = false;
        let expected = (column * 10 + group) as i64;
        let array = cache.get(column, group, || {
            decoded = true;
            numbers(expected)
        });
        let array = array.unwrap();
        assert_eq!(array.as_any().downcast_ref::<Int64Array>().unwrap().value(7), expected);
        decoded
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let cache = Cache::new(2, 4, 3 * size());
        assert!((0..3).all(|group| ask(&cache, 0, group)));
        assert!((0..3).all(|group| !ask(&cache, 0, group)));
        assert_eq!((cache.num_decoded(), cache.bytes()), (3, 3 * size()));
        // The next one takes the place of the first; used, it takes that of the second.
        assert!(ask(&cache, 1, 0) && !ask(&cache, 0, 1) && !ask(&cache, 0, 2));
        assert!(ask(&cache, 0, 0));
        assert_eq!([ask(&cache, 0, 1), ask(&cache, 0, 2), ask(&cache, 0, 0)], [false, false, false]);
        assert!(ask(&cache, 1, 0));
        assert_eq!(cache.bytes(), 3 * size());
    }

    #[test]
    fn forgetting_takes_no_longer_the_more_is_kept() {
        const NUM_KEPT: usize = 20_000;
        let cache = Cache::new(1, 2 * NUM_KEPT, NUM_KEPT as u64 * size());
        (0..2 * NUM_KEPT).for_each(|group| drop(cache.get(0, group, || numbers(0)).unwrap()));
        assert_eq!(cache.bytes(), NUM_KEPT as u64 * size());
        // By scanning all that is kept it would be 400 million steps, and minutes.
        assert!((NUM_KEPT..2 * NUM_KEPT).all(|group| cache.get(0, group, || unreachable!("it is kept")).is_ok()));
    }

    #[test]
    fn the_newest_is_kept_whatever_it_takes() {
        let cache = Cache::new(1, 2, 0);
        assert!(ask(&cache, 0, 0) && !ask(&cache, 0, 0) && ask(&cache, 0, 1) && ask(&cache, 0, 0));
        assert_eq!(cache.bytes(), size());
    }

    #[test]
    fn what_many_ask_for_is_decoded_once() {
        let cache = Cache::new(3, 5, 4 * size());
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    cache.get(1, 2, || {
                        // Whoever else is about to ask has the time to.
                        std::thread::yield_now();
                        numbers(3)
                    })
                });
            }
        });
        assert_eq!(cache.num_decoded(), 1);
        // Many of them, in every order.
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let cache = &cache;
                scope.spawn(move || {
                    for round in 0..500 {
                        let at = round * (thread + 1) % 10;
                        ask(cache, 2 * (at / 5), at % 5);
                    }
                });
            }
        });
        assert!(cache.bytes() <= 4 * size());
    }

    #[test]
    fn a_failure_is_kept_and_a_panic_is_not() {
        let cache = Cache::new(1, 1, 100);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get(0, 0, || panic!("oh"))));
        assert!(panic.is_err());
        let fail = || Err(Error::new(ErrorKind::Format, "damaged"));
        assert_eq!(cache.get(0, 0, fail).unwrap_err().message(), "damaged");
        let error = cache.get(0, 0, || unreachable!("it is known to be damaged")).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Format, "damaged"));
        assert_eq!(cache.bytes(), 0);
    }
}
