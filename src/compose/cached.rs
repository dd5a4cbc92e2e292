//! Samples kept in memory.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::knows_as;
use crate::batch::stack::{Row, Stack};
use crate::error::Result;
use crate::sequence::Sequence;

/// A sequence whose samples stay in memory once they have been loaded, all of them or as many as a budget allows; made
/// by [`cached`](super::SequenceExt::cached) and [`cached_within`](super::SequenceExt::cached_within).
pub struct Cached<S: Sequence> {
    inner: S,
    // Empty if the sequence has a barrier: its samples change, so none is kept.
    samples: Box<[OnceLock<S::Sample>]>,
    budget: Option<Budget<S::Sample>>,
}

/// How much may be kept.
struct Budget<T> {
    limit_bytes: u64,
    measure: fn(&T) -> usize,
    shrink: fn(T) -> T,
    // Invariant: at most `limit_bytes`, and at least the bytes of all samples that are kept. Room is taken here before
    // a sample is kept, so that workers that load at once cannot exceed the limit together.
    used_bytes: AtomicU64,
}

impl<T> Budget<T> {
    fn reserve(&self, size_bytes: u64) -> bool {
        let reserve = |used: u64| used.checked_add(size_bytes).filter(|&used| used <= self.limit_bytes);
        // Relaxed: the number stands for itself; the sample is handed over by its slot.
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve).is_ok()
    }

    /// Whether a sample of this size could be kept now. Another one may take the room a moment later.
    fn has_room(&self, size_bytes: u64) -> bool {
        self.limit_bytes.saturating_sub(self.used_bytes.load(Ordering::Relaxed)) >= size_bytes
    }

    fn release(&self, size_bytes: u64) {
        self.used_bytes.fetch_sub(size_bytes, Ordering::Relaxed);
    }
}

/// A sample that was just loaded.
enum Loaded<'a, T> {
    Kept(&'a T),
    Passing(T),
}

impl<S: Sequence> Cached<S> {
    pub(super) fn new(inner: S) -> Self {
        let num_kept = if inner.barrier() { 0 } else { inner.len() };
        Self { inner, samples: (0..num_kept).map(|_| OnceLock::new()).collect(), budget: None }
    }

    pub(super) fn within(
        inner: S,
        limit_bytes: u64,
        measure: fn(&S::Sample) -> usize,
        shrink: fn(S::Sample) -> S::Sample,
    ) -> Self {
        let budget = Budget { limit_bytes, measure, shrink, used_bytes: AtomicU64::new(0) };
        Self { budget: Some(budget), ..Self::new(inner) }
    }

    /// How many samples are in memory.
    pub fn num_cached(&self) -> usize {
        self.samples.iter().filter(|sample| sample.get().is_some()).count()
    }

    /// How many bytes of the budget are taken; 0 for a cache without one.
    pub fn used_bytes(&self) -> u64 {
        self.budget.as_ref().map_or(0, |budget| budget.used_bytes.load(Ordering::Relaxed))
    }

    /// The place where a sample is kept, if samples are kept at all.
    fn slot(&self, index: usize) -> Option<&OnceLock<S::Sample>> {
        if self.inner.barrier() { None } else { Some(&self.samples[index]) }
    }

    /// Whether a sample could be kept, as far as can be told without loading it.
    fn may_fit(&self, index: usize) -> bool
    where
        S::Sample: Stack,
    {
        let Some(budget) = &self.budget else { return true };
        let row_bytes = self.inner.layout().and_then(|layout| S::Sample::row_bytes(&layout));
        let size_bytes = self.inner.size_bytes(index).max(row_bytes).unwrap_or(0);
        budget.has_room(size_bytes as u64)
    }

    /// Loads a sample, and keeps it if there is room.
    fn load<'a>(&self, index: usize, slot: &'a OnceLock<S::Sample>) -> Result<Loaded<'a, S::Sample>> {
        let sample = self.inner.get(index)?;
        let Some(budget) = &self.budget else {
            // Another thread may have been first; `get` is pure, so its sample is the same.
            return Ok(Loaded::Kept(slot.get_or_init(|| sample)));
        };
        // The larger one: a sequence that is wrong about its samples does not take more memory than was allowed.
        let size_bytes = (budget.measure)(&sample).max(self.inner.size_bytes(index).unwrap_or(0)) as u64;
        if !budget.reserve(size_bytes) {
            return Ok(Loaded::Passing(sample));
        }
        // What is kept is what was counted: not the room that the sample was made with.
        match slot.set((budget.shrink)(sample)) {
            Ok(()) => Ok(slot.get().map(Loaded::Kept).expect("it was just set")),
            // Another thread was first.
            Err(sample) => {
                budget.release(size_bytes);
                Ok(Loaded::Passing(sample))
            }
        }
    }
}

impl<S: Sequence> Sequence for Cached<S>
where
    S::Sample: Clone + Sync,
{
    type Sample = S::Sample;

    fn len(&self) -> usize {
        self.inner.len()
    }
    fn get(&self, index: usize) -> Result<S::Sample> {
        let Some(slot) = self.slot(index) else { return self.inner.get(index) };
        match slot.get() {
            Some(sample) => Ok(sample.clone()),
            None => Ok(match self.load(index, slot)? {
                Loaded::Kept(sample) => sample.clone(),
                Loaded::Passing(sample) => sample,
            }),
        }
    }
    fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
    where
        S::Sample: Stack,
    {
        self.inner.layout()
    }
    /// Copies a kept sample to the row, without a clone in between. A sample that is known not to fit is loaded straight
    /// into the row.
    fn get_into(&self, index: usize, row: Row<'_, S::Sample>) -> Result<()>
    where
        S::Sample: Stack,
    {
        let Some(slot) = self.slot(index) else { return self.inner.get_into(index, row) };
        match slot.get() {
            Some(sample) => sample.write(row),
            None if !self.may_fit(index) => return self.inner.get_into(index, row),
            None => match self.load(index, slot)? {
                Loaded::Kept(sample) => sample.write(row),
                Loaded::Passing(sample) => sample.write(row),
            },
        }
        Ok(())
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        self.inner.size_bytes(index)
    }
    knows_as! { self.inner, index => index }
}

impl<S: Sequence + fmt::Debug> fmt::Debug for Cached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SequenceExt;
    use super::*;
    use crate::source::{from_fill, from_fn};
    use crate::testing::{Counting, Failing, Told, check_rows, samples};

    #[test]
    fn a_cache_keeps_the_contract_and_what_is_known() {
        let cached = Told::still(6).cached();
        check_rows(&cached);
        assert_eq!(cached.layout(), Some(()));
        assert_eq!((cached.size_bytes(3), cached.file(3)), (Told::new(6).size_bytes(3), Told::new(6).file(3)));
    }

    #[test]
    fn each_sample_is_loaded_once() {
        let cached = Counting::new(Told::still(4)).cached();
        assert_eq!(cached.num_cached(), 0);
        let mut row = 0.0;
        cached.get_into(2, &mut row).unwrap();
        assert_eq!((row, cached.num_cached()), (2.0, 1));
        for _ in 0..3 {
            assert_eq!(samples(&cached), [0.0, 1.0, 2.0, 3.0]);
            cached.get_into(2, &mut row).unwrap();
        }
        assert_eq!(cached.inner.counts(), [1, 1, 1, 1]);
    }

    #[test]
    fn a_budget_keeps_the_contract_and_what_is_known() {
        for budget in [0, 1, 250, 1 << 40] {
            let cached = Told::still(6).cached_within(budget);
            check_rows(&cached);
            assert_eq!((cached.size_bytes(3), cached.file(3)), (Told::new(6).size_bytes(3), Told::new(6).file(3)));
            check_rows(&from_fn(6, |index| vec![index as u8; index % 3]).cached_within(budget));
        }
        let passing = Told::new(2).cached_within(1000);
        check_rows(&passing);
        Told::assert_known(&passing, 1, 1);
        assert_eq!((passing.num_cached(), passing.used_bytes()), (0, 0));
    }

    #[test]
    fn what_fits_is_kept_and_the_rest_is_loaded_each_time() {
        // Sample i takes 10 * i bytes.
        let cached = Counting::new(from_fn(6, |index| vec![index as u8; 10 * index])).cached_within(60);
        for _ in 0..3 {
            for index in [5, 0, 3, 2, 1] {
                assert_eq!(cached.get(index).unwrap(), vec![index as u8; 10 * index]);
            }
        }
        // 50 bytes and 0 fit, 30 and 20 do not, 10 does.
        assert_eq!(cached.inner.counts(), [1, 1, 3, 3, 0, 1]);
        assert_eq!((cached.num_cached(), cached.used_bytes()), (3, 60));
    }

    #[test]
    fn what_is_kept_has_nothing_in_reserve() {
        use ndarray::{Array2, s};

        let vectors = from_fn(4, |index| {
            let mut sample = Vec::with_capacity(1000);
            sample.extend([index as u8; 10]);
            (sample.clone(), sample, "a".repeat(500)[..index].to_owned())
        });
        let cached = vectors.cached_within(1 << 20);
        for index in 0..4 {
            assert_eq!(cached.get(index).unwrap().0, [index as u8; 10]);
        }
        let kept = cached.samples.iter().map(|sample| sample.get().unwrap());
        assert!(kept.clone().all(|sample| sample.0.capacity() == 10 && sample.1.capacity() == 10));
        // A part of a larger array, in its order and in another one.
        let whole = Array2::from_shape_fn((100, 3), |(row, column)| (row * 3 + column) as u16);
        let parts = from_fn(2, move |index| {
            let rows = whole.clone().slice_move(s![index + 10..index + 12, ..]);
            (rows.clone().slice_move(s![.., 1..]).reversed_axes(), rows)
        });
        let cached = parts.cached_within(1 << 20);
        for index in 0..2 {
            let first = (index as u16 + 10) * 3;
            let (columns, rows) = cached.get(index).unwrap();
            assert_eq!(rows, ndarray::array![[first, first + 1, first + 2], [first + 3, first + 4, first + 5]]);
            assert_eq!(columns, ndarray::array![[first + 1, first + 4], [first + 2, first + 5]]);
        }
        for sample in cached.samples {
            let (columns, rows) = sample.into_inner().unwrap();
            assert_eq!([columns, rows].map(|array| array.into_raw_vec_and_offset().0.capacity()), [4, 6]);
        }
    }

    #[test]
    fn the_size_is_what_the_sequence_says_if_that_is_more() {
        // Sample i is told to take 100 + i bytes.
        let cached = Counting::new(Told::still(4)).cached_within(303);
        assert_eq!(samples(&cached), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!((cached.num_cached(), cached.used_bytes()), (3, 303));
        let cached = Told::still(4).cached_within_by(303, |_| 150);
        assert_eq!(samples(&cached), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!((cached.num_cached(), cached.used_bytes()), (2, 300));
    }

    #[test]
    fn samples_without_room_are_written_in_place() {
        let filled = from_fill(3, 2, |index, row: &mut [u32]| {
            row.fill(index as u32);
            Ok(())
        });
        let cached = OnlyInto(filled).cached_within(7);
        let mut row = [9; 2];
        cached.get_into(1, &mut row).unwrap();
        assert_eq!((row, cached.num_cached()), ([1; 2], 0));
    }

    /// Loads samples in place only.
    struct OnlyInto<S>(S);

    impl<S: Sequence> Sequence for OnlyInto<S> {
        type Sample = S::Sample;

        fn len(&self) -> usize {
            self.0.len()
        }
        fn get(&self, index: usize) -> Result<S::Sample> {
            panic!("sample {index} is loaded by value")
        }
        fn layout(&self) -> Option<<S::Sample as Stack>::Layout>
        where
            S::Sample: Stack,
        {
            self.0.layout()
        }
        fn get_into(&self, index: usize, row: Row<'_, S::Sample>) -> Result<()>
        where
            S::Sample: Stack,
        {
            self.0.get_into(index, row)
        }
    }

    /// What is held by clones of [`Held`], and the most that ever was.
    static HELD: AtomicU64 = AtomicU64::new(0);
    static MOST_HELD: AtomicU64 = AtomicU64::new(0);

    /// A sample that counts those that a cache holds: the ones that were not made by cloning.
    #[derive(Debug)]
    struct Held(u64);

    impl Clone for Held {
        fn clone(&self) -> Self {
            Self(0)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.fetch_sub(self.0, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_budget_holds_while_many_threads_load() {
        const THREADS: u64 = 8;
        for round in 0..50 {
            let limit = 100 + round;
            let load = |_| {
                let held = HELD.fetch_add(7, Ordering::SeqCst) + 7;
                MOST_HELD.fetch_max(held, Ordering::SeqCst);
                std::thread::yield_now();
                Held(7)
            };
            let cached = from_fn(40, load).cached_within_by(limit, |_| 7);
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let cached = &cached;
                    scope.spawn(move || {
                        for at in 0..200 {
                            cached.get((at * 11 + thread as usize * 5) % 40).unwrap();
                            assert!(cached.used_bytes() <= limit);
                        }
                    });
                }
            });
            // A sample that two threads loaded has taken the room of another for a moment.
            (0..40).for_each(|index| drop(cached.get(index).unwrap()));
            // What is in a slot is counted, and nothing else is.
            assert_eq!(cached.used_bytes(), 7 * cached.num_cached() as u64);
            assert_eq!(cached.num_cached() as u64, limit / 7, "what fits is kept in the end");
            assert_eq!(HELD.load(Ordering::SeqCst), cached.used_bytes());
            // One more for each thread: what it has just loaded.
            assert!(MOST_HELD.load(Ordering::SeqCst) <= limit + THREADS * 7);
        }
    }

    #[test]
    fn a_sample_that_two_threads_load_counts_once() {
        let both = std::sync::Barrier::new(2);
        let cached = from_fn(1, |_| {
            both.wait();
            [1_u8; 10]
        })
        .cached_within(25);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| cached.get(0).unwrap());
            }
        });
        assert_eq!((cached.num_cached(), cached.used_bytes()), (1, 10));
    }

    #[test]
    fn an_error_is_not_kept() {
        let cached = Failing::new(Told::still(4), [1]).times(1).cached();
        assert!(cached.get(1).is_err());
        assert_eq!(cached.get(1).unwrap(), 1.0);
    }

    #[test]
    fn samples_that_change_pass_through() {
        let cached = Counting::new(Told::new(2)).cached();
        check_rows(&cached);
        Told::assert_known(&cached, 1, 1);
        assert_eq!(cached.num_cached(), 0);
        assert!(cached.inner.counts()[0] > 1);
    }
}
