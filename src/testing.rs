//! What tests of sequences and loaders need: a suite that checks the contract of [`Sequence`], and sequences that are
//! slow, fail, panic or count on purpose.
//!
//! # Examples
//!
//! ```
//! use procession::testing::{Counting, check_rows};
//! use procession::{SequenceExt, from_fn};
//!
//! // A source of one's own, or a chain of combinators, keeps the contract:
//! check_rows(&from_fn(10, |index| index as f32).map(|sample| sample * 2.0));
//!
//! // Something is loaded once:
//! let counting = std::sync::Arc::new(Counting::new(vec![1, 2, 3]));
//! let cached = std::sync::Arc::clone(&counting).cached();
//! # use procession::Sequence;
//! assert_eq!(cached.get(1)?, cached.get(1)?);
//! assert_eq!(counting.counts(), [0, 1, 0]);
//! # Ok::<(), procession::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::batch::rows::{Ledger, Rows};
use crate::batch::stack::{Row, RowBlock, Stack, block};
use crate::compose::knows_as;
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

const NUM_THREADS: usize = 4;

/// Checks the clauses 1 to 4 and 6 of the contract of [`Sequence`], for sequences whose samples all load.
///
/// Loads every sample about seven times, also from four threads at once, and keeps all of them in memory, five times
/// over. It calls the epoch hook for epoch 0, unless the sequence has a barrier. That nothing but the index decides what
/// a sample is cannot be proven by trying: a sequence may pass and yet keep the contract badly. Samples that are not
/// equal to themselves (floats that are NaN) fail.
///
/// # Panics
///
/// If a clause does not hold, with its number. On the way two panics are provoked and caught; the panic hook prints
/// them.
pub fn check_sequence<S>(sequence: &S)
where
    S: Sequence + ?Sized,
    S::Sample: PartialEq + fmt::Debug,
{
    let len = sequence.len();
    let samples: Vec<S::Sample> = (0..len).map(|index| load(sequence, index)).collect();
    let check = |index: usize, sample: &S::Sample, when: &str| {
        assert_eq!(&samples[index], sample, "clause 3: sample {index} is another one {when}");
    };

    for index in (0..len).rev() {
        check(index, &load(sequence, index), "at the second call");
    }
    thread::scope(|scope| {
        let load_from = |start: usize| (0..len).map(move |at| (start + at) % len).map(|index| load(sequence, index));
        let threads: Vec<_> = (0..NUM_THREADS)
            .map(|thread| thread * len / NUM_THREADS)
            .map(|start| (start, scope.spawn(move || load_from(start).collect::<Vec<_>>())))
            .collect();
        for (start, thread) in threads {
            let loaded = thread.join().expect("clause 4: `get` works from several threads at once");
            for (at, sample) in loaded.iter().enumerate() {
                check((start + at) % len, sample, "on another thread");
            }
        }
    });

    if !sequence.barrier() {
        sequence.on_epoch_start(0).expect("clause 6: the epoch hook of a sequence without a barrier works");
        for index in 0..len {
            check(index, &load(sequence, index), "after an epoch's start, without a barrier (clause 6)");
        }
    }

    for index in [len, usize::MAX].into_iter().filter(|&index| index >= len) {
        let answer = catch_unwind(AssertUnwindSafe(|| sequence.get(index).map(drop)));
        assert!(answer.is_err(), "clause 2: `get({index})` of {len} samples gave {answer:?}, expected a panic");
    }
    assert_eq!(sequence.len(), len, "clause 1: the length is another one at the second call");
    assert_eq!(sequence.is_empty(), len == 0, "clause 1: the length is {len}, and `is_empty` says otherwise");
}

/// Checks all clauses of the contract of [`Sequence`], for sequences whose samples load and stack: those of
/// [`check_sequence`], and clause 5, that samples written in place are those that `get` returns.
///
/// Every sample is written over another one, so that an element that is not written shows where the two differ.
///
/// # Panics
///
/// If a clause does not hold, with its number.
pub fn check_rows<S>(sequence: &S)
where
    S: Sequence + ?Sized,
    S::Sample: Stack + PartialEq + fmt::Debug,
    <S::Sample as Stack>::Batch: PartialEq + fmt::Debug,
{
    check_sequence(sequence);
    let Some(layout) = sequence.layout() else { return };
    let len = sequence.len();
    for index in 0..len {
        let sample = load(sequence, index);
        assert_eq!(sample.layout(), layout, "clause 5: sample {index} has another layout than the sequence");
        let other = load(sequence, len - 1 - index);
        let spare = batch_of_one::<S::Sample>(&layout, None, |row| other.write(row));
        let in_place = batch_of_one::<S::Sample>(&layout, Some(spare), |row| {
            let written = sequence.get_into(index, row);
            written.unwrap_or_else(|error| panic!("clause 5: `get_into({index})` failed: {error}"));
        });
        let expected = batch_of_one::<S::Sample>(&layout, None, |row| sample.write(row));
        assert_eq!(in_place, expected, "clause 5: `get_into` writes another sample {index} than `get` returns");
    }
    check_many(sequence, &layout);
    if let Some(row_bytes) = S::Sample::row_bytes(&layout) {
        for index in 0..len {
            let size_bytes = sequence.size_bytes(index).unwrap_or(row_bytes);
            assert!(
                size_bytes >= row_bytes,
                "sample {index} has {row_bytes} bytes, and `size_bytes` says {size_bytes}"
            );
        }
    }
    assert_eq!(sequence.layout(), Some(layout), "clause 5: the layout is another one at the second call");
}

/// Checks that what is written many at a time is what `get` returns: in this order, in another one, each alone, and none.
fn check_many<S>(sequence: &S, layout: &<S::Sample as Stack>::Layout)
where
    S: Sequence + ?Sized,
    S::Sample: Stack + PartialEq + fmt::Debug,
    <S::Sample as Stack>::Batch: PartialEq + fmt::Debug,
{
    let len = sequence.len() as u64;
    let in_order: Vec<u64> = (0..len).collect();
    let mixed: Vec<u64> = (0..len).rev().flat_map(|index| [index, index / 2]).collect();
    let alone = in_order.chunks(1);
    let mut ways = Vec::new();
    for indices in [&[][..], &in_order, &mixed].into_iter().chain(alone) {
        let batch = |write: &mut dyn FnMut(&mut RowBlock<'_, '_, S::Sample>)| {
            let columns =
                S::Sample::columns(layout, indices.len(), None).expect("as many rows as there are samples fit");
            let rows = Rows::new(columns, indices.len(), Ledger::default());
            let mut chunk = rows.claim(0..indices.len());
            write(&mut block::<S::Sample>(&mut chunk, indices.len()));
            drop(chunk);
            S::Sample::finish(rows.into_parts().0, layout, indices.len(), None)
        };
        let mut written = None;
        let at_once = batch(&mut |block| written = sequence.get_many_into(indices, block));
        ways.push(written.is_some());
        if let Some(written) = written {
            assert_eq!(written, indices.len(), "clause 5: `get_many_into({indices:?})` left off");
            let expected = batch(&mut |block| {
                for (row, &index) in indices.iter().enumerate() {
                    load(sequence, index as usize).write(block.row(row));
                }
            });
            assert_eq!(
                at_once, expected,
                "clause 5: `get_many_into({indices:?})` writes other samples than `get` returns"
            );
        }
    }
    let same = ways.iter().all(|way| *way == ways[0]);
    assert!(same, "whether `get_many_into` has a way depends on the indices");
}

fn load<S: Sequence + ?Sized>(sequence: &S, index: usize) -> S::Sample {
    let sample = sequence.get(index);
    sample.unwrap_or_else(|error| panic!("clause 2: `get({index})` of {} samples failed: {error}", sequence.len()))
}

fn batch_of_one<S: Stack>(layout: &S::Layout, spare: Option<S::Batch>, write: impl FnOnce(S::Row<'_>)) -> S::Batch {
    let rows = Rows::new(S::columns(layout, 1, spare).expect("one row fits"), 1, Ledger::default());
    let mut chunk = rows.claim(0..1);
    write(S::row(&mut chunk, 0));
    drop(chunk);
    S::finish(rows.into_parts().0, layout, 1, None)
}

/// A wrapper that does something before a sample is loaded, in whichever way it is.
macro_rules! before_loading {
    ($self:ident, $index:ident => $before:expr) => {
        fn len(&$self) -> usize {
            $self.inner.len()
        }
        fn get(&$self, $index: usize) -> Result<Self::Sample> {
            check_index($index, $self.inner.len());
            let _until_loaded = $before;
            $self.inner.get($index)
        }
        fn layout(&$self) -> Option<<Self::Sample as Stack>::Layout>
        where
            Self::Sample: Stack,
        {
            $self.inner.layout()
        }
        fn get_into(&$self, $index: usize, row: Row<'_, Self::Sample>) -> Result<()>
        where
            Self::Sample: Stack,
        {
            check_index($index, $self.inner.len());
            let _until_loaded = $before;
            $self.inner.get_into($index, row)
        }
        fn size_bytes(&$self, index: usize) -> Option<usize> {
            $self.inner.size_bytes(index)
        }
        knows_as! { $self.inner, index => index }
    };
}

/// A sequence whose samples take their time.
#[derive(Clone)]
pub struct Slow<S, F> {
    inner: S,
    cost: F,
    spins: bool,
}

impl<S: Sequence, F: Fn(usize) -> Duration + Send + Sync> Slow<S, F> {
    /// Sleeps for `cost(index)` before a sample is loaded, as a remote service would make it wait.
    pub fn sleeping(inner: S, cost: F) -> Self {
        Self { inner, cost, spins: false }
    }

    /// Keeps the processor busy for `cost(index)` before a sample is loaded, as decoding does. The clock on the wall
    /// is what counts: on a machine with less processors than busy threads, less work is done in that time.
    pub fn spinning(inner: S, cost: F) -> Self {
        Self { inner, cost, spins: true }
    }

    fn wait(&self, index: usize) {
        let cost = (self.cost)(index);
        if self.spins {
            let start = Instant::now();
            while start.elapsed() < cost {
                std::hint::spin_loop();
            }
        } else if !cost.is_zero() {
            thread::sleep(cost);
        }
    }
}

impl<S: Sequence, F: Fn(usize) -> Duration + Send + Sync> Sequence for Slow<S, F> {
    type Sample = S::Sample;
    before_loading! { self, index => self.wait(index) }
}

impl<S: fmt::Debug, F> fmt::Debug for Slow<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slow").field("inner", &self.inner).field("spins", &self.spins).finish_non_exhaustive()
    }
}

/// A sequence some of whose samples fail to load.
#[derive(Debug)]
pub struct Failing<S> {
    inner: S,
    // How often each of the chosen samples still fails; `u64::MAX` is for ever.
    left: BTreeMap<usize, AtomicU64>,
}

impl<S: Sequence> Failing<S> {
    /// Makes the samples at these indices fail, always, with an error of kind [`Sample`](ErrorKind::Sample).
    pub fn new(inner: S, indices: impl IntoIterator<Item = usize>) -> Self {
        Self { inner, left: indices.into_iter().map(|index| (index, AtomicU64::new(u64::MAX))).collect() }
    }

    /// Makes each of the samples fail the first `times` times only.
    pub fn times(mut self, times: u64) -> Self {
        self.left.values_mut().for_each(|left| *left.get_mut() = times);
        self
    }

    fn fail(&self, index: usize) -> Result<()> {
        let Some(left) = self.left.get(&index) else { return Ok(()) };
        // Relaxed: only the number counts, nothing else is handed over.
        let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
            u64::MAX => Some(left),
            _ => left.checked_sub(1),
        });
        match fails {
            Ok(_) => Err(Error::new(ErrorKind::Sample, format!("sample {index} was made to fail"))),
            Err(_) => Ok(()),
        }
    }
}

impl<S: Sequence> Sequence for Failing<S> {
    type Sample = S::Sample;
    before_loading! { self, index => self.fail(index)? }
}

/// A sequence some of whose samples panic when they are loaded.
#[derive(Debug, Clone)]
pub struct Panicking<S> {
    inner: S,
    indices: Vec<usize>,
}

impl<S: Sequence> Panicking<S> {
    /// Makes the samples at these indices panic, with the text `sample {index} was made to panic`.
    pub fn new(inner: S, indices: impl IntoIterator<Item = usize>) -> Self {
        Self { inner, indices: indices.into_iter().collect() }
    }

    fn panic(&self, index: usize) {
        assert!(!self.indices.contains(&index), "sample {index} was made to panic");
    }
}

impl<S: Sequence> Sequence for Panicking<S> {
    type Sample = S::Sample;
    before_loading! { self, index => self.panic(index) }
}

/// A sequence that counts how often each sample was asked for, and how many were being loaded at once.
///
/// Wrapped in an [`Arc`](std::sync::Arc), it can be asked while a loader has it.
#[derive(Debug)]
pub struct Counting<S> {
    inner: S,
    counts: Box<[AtomicU64]>,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

/// One sample that is being loaded.
#[derive(Debug)]
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Sequence> Counting<S> {
    /// Starts counting at zero.
    pub fn new(inner: S) -> Self {
        let counts = (0..inner.len()).map(|_| AtomicU64::new(0)).collect();
        Self { inner, counts, running: AtomicUsize::new(0), most_running: AtomicUsize::new(0) }
    }

    /// How often each sample was asked for, also if it failed.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// How often samples were asked for, all together.
    pub fn total(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// How many samples are being loaded at this moment.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// How many samples were being loaded at once, at most.
    pub fn most_running(&self) -> usize {
        self.most_running.load(Ordering::Relaxed)
    }

    // Relaxed throughout: each number stands for itself, and no other memory follows from it.
    fn count(&self, index: usize) -> Running<'_> {
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        Running(&self.running)
    }
}

impl<S: Sequence> Sequence for Counting<S> {
    type Sample = S::Sample;
    before_loading! { self, index => self.count(index) }
}

/// All samples of a sequence, in order.
#[cfg(test)]
pub(crate) fn samples<S: Sequence>(sequence: &S) -> Vec<S::Sample> {
    (0..sequence.len()).map(|index| sequence.get(index).unwrap()).collect()
}

/// A sequence that knows everything about itself that a sequence can know, to see whether a wrapper passes it on.
/// Sample `i` is the number `i`.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(crate) struct Told {
    inner: Vec<f32>,
    barrier: bool,
}

#[cfg(test)]
impl Told {
    pub(crate) fn new(len: usize) -> Self {
        Self { inner: (0..len).map(|index| index as f32).collect(), barrier: true }
    }

    /// One without a barrier.
    pub(crate) fn still(len: usize) -> Self {
        Self { barrier: false, ..Self::new(len) }
    }

    /// Asserts that sample `index` of a wrapper knows what sample `at` of this sequence knows.
    pub(crate) fn assert_known<S: Sequence>(wrapper: &S, index: usize, at: usize) {
        assert_eq!(wrapper.file(index), Some(at.to_string().into()));
        assert!(wrapper.barrier());
        assert_eq!(wrapper.on_epoch_start(77).unwrap_err().message(), "told of epoch 77");
    }
}

#[cfg(test)]
impl Sequence for Told {
    type Sample = f32;

    fn len(&self) -> usize {
        self.inner.len()
    }
    fn get(&self, index: usize) -> Result<f32> {
        self.inner.get(index)
    }
    fn layout(&self) -> Option<()> {
        Some(())
    }
    fn get_into(&self, index: usize, row: &mut f32) -> Result<()> {
        *row = self.inner[index];
        Ok(())
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        Some(100 + index)
    }
    fn file(&self, index: usize) -> Option<std::path::PathBuf> {
        Some(index.to_string().into())
    }
    fn barrier(&self) -> bool {
        self.barrier
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        if self.barrier { Err(Error::new(ErrorKind::Sample, format!("told of epoch {epoch}"))) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::from_fn;

    /// The message of the panic that a check ends with.
    fn broken(check: impl FnOnce()) -> String {
        *catch_unwind(AssertUnwindSafe(check)).unwrap_err().downcast::<String>().unwrap()
    }

    /// A sequence that breaks one clause.
    struct Broken {
        clause: u32,
        calls: AtomicUsize,
    }

    impl Sequence for Broken {
        type Sample = [u8; 2];

        fn len(&self) -> usize {
            if self.clause == 1 && self.calls.fetch_add(1, Ordering::Relaxed) > 0 { 4 } else { 3 }
        }
        fn get(&self, index: usize) -> Result<[u8; 2]> {
            let calls = self.calls.fetch_add(1, Ordering::Relaxed);
            assert!(index < 3 || self.clause == 2, "out of range");
            Ok([index as u8, if self.clause == 3 { calls as u8 } else { index as u8 }])
        }
        fn layout(&self) -> Option<()> {
            Some(())
        }
        fn get_into(&self, index: usize, row: &mut [u8]) -> Result<()> {
            let written = if self.clause == 5 { 1 } else { 2 };
            row[..written].fill(index as u8);
            Ok(())
        }
        fn on_epoch_start(&self, _epoch: u64) -> Result<()> {
            if self.clause == 6 { Err(Error::sample("no")) } else { Ok(()) }
        }
    }

    #[test]
    fn each_clause_that_is_broken_is_named() {
        for clause in [1, 2, 3, 5, 6] {
            let message = broken(|| check_rows(&Broken { clause, calls: AtomicUsize::new(0) }));
            assert!(message.contains(&format!("clause {clause}: ")), "{clause}: {message}");
        }
        check_rows(&Broken { clause: 0, calls: AtomicUsize::new(0) });
        let message = broken(|| check_sequence(&Failing::new(vec![1, 2], [1])));
        assert_eq!(message, "clause 2: `get(1)` of 2 samples failed: sample 1 was made to fail");
    }

    #[test]
    fn wrappers_keep_the_contract_and_what_is_known() {
        let slow = Slow::sleeping(Told::new(3), |_| Duration::ZERO);
        check_rows(&slow);
        Told::assert_known(&slow, 2, 2);
        let slow = Slow::spinning(Told::new(3), |index| Duration::from_nanos(index as u64));
        check_rows(&slow);
        let failing = Failing::new(Told::new(3), [3]);
        check_rows(&failing);
        Told::assert_known(&failing, 2, 2);
        let panicking = Panicking::new(Told::new(3), [3]);
        check_rows(&panicking);
        Told::assert_known(&panicking, 2, 2);
        let counting = Counting::new(Told::new(3));
        check_rows(&counting);
        Told::assert_known(&counting, 2, 2);
        assert_eq!((counting.layout(), counting.size_bytes(1)), (Some(()), Some(101)));
    }

    #[test]
    fn slow_takes_its_time() {
        let slow = Slow::spinning(vec![1, 2], |index| Duration::from_millis(index as u64 * 5));
        let start = Instant::now();
        slow.get(1).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(5));
        let slow = Slow::sleeping(vec![1, 2], |index| Duration::from_millis(index as u64 * 5));
        let start = Instant::now();
        slow.get_into(1, &mut 0).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn failing_fails_as_often_as_it_is_told() {
        let always = Failing::new(vec![1, 2, 3], [0, 2]);
        for _ in 0..3 {
            assert_eq!(always.get(2).unwrap_err().message(), "sample 2 was made to fail");
            assert_eq!(always.get_into(0, &mut 0).unwrap_err().kind(), ErrorKind::Sample);
            assert_eq!(always.get(1).unwrap(), 2);
        }
        let twice = Failing::new(vec![1, 2, 3], [2, 0]).times(2);
        assert!(twice.get(2).is_err());
        assert!(twice.get_into(2, &mut 0).is_err());
        assert_eq!(twice.get(2).unwrap(), 3);
        assert!(twice.get(0).is_err());
    }

    #[test]
    fn panicking_panics() {
        let panicking = Panicking::new(vec![1, 2], [1]);
        assert_eq!(panicking.get(0).unwrap(), 1);
        assert_eq!(broken(|| drop(panicking.get(1))), "sample 1 was made to panic");
        assert_eq!(broken(|| drop(panicking.get_into(1, &mut 0))), "sample 1 was made to panic");
    }

    #[test]
    fn counting_counts() {
        let barrier = std::sync::Barrier::new(3);
        let counting = Counting::new(from_fn(3, |index| {
            barrier.wait();
            index
        }));
        thread::scope(|scope| {
            for index in [0, 2, 2] {
                let counting = &counting;
                scope.spawn(move || counting.get(index).unwrap());
            }
        });
        assert_eq!((counting.counts(), counting.total()), (vec![1, 0, 2], 3));
        assert_eq!((counting.most_running(), counting.running()), (3, 0));
        let panicking = Counting::new(Panicking::new(vec![1], [0]));
        broken(|| drop(panicking.get(0)));
        assert_eq!((panicking.running(), panicking.total()), (0, 1));
    }
}
