//! The rows of a batch that several workers write at once: one of the two files with unsafe code.
//!
//! A [`Buffer`] is a `Vec` whose elements can be lent out in disjoint pieces through a shared reference. Nothing here
//! trusts the rest of the engine to keep the pieces disjoint: [`Rows::claim`] marks each row in a ledger of bits and
//! refuses a row that was claimed before, so a defect elsewhere is a panic and never a data race.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::NonNull;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU64, Ordering};

/// The owner of a `Vec`'s elements while several threads write disjoint parts of them.
pub struct Buffer<T> {
    // Invariant: the three are the parts of a `Vec<T>` with `len` initialised elements, which this value owns.
    start: NonNull<T>,
    len: usize,
    capacity: usize,
    // How many elements make a row. Invariant: `len` is a multiple of it (or it is 0 and `len` is 0).
    row_len: usize,
    owner: PhantomData<T>,
}

// SAFETY: a buffer owns its elements, as a `Vec` does; sending it sends them.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: through a shared reference one can reach only the lengths and, by `Columns::chunk`, exclusive references to
// elements that no one else has; handing `&mut T` to another thread needs `T: Send` and nothing more.
unsafe impl<T: Send> Sync for Buffer<T> {}

impl<T: Default> Buffer<T> {
    /// Makes a buffer of `num_rows` rows of `row_len` elements, in `storage` if it is large enough. Elements are
    /// whatever was in the storage before, or the default. It is an error if there is not enough memory.
    pub(crate) fn new(mut storage: Vec<T>, num_rows: usize, row_len: usize) -> Result<Self> {
        let too_large = || {
            let message = format!("no memory for a batch of {num_rows} rows of {row_len} elements");
            Error::new(ErrorKind::Limit, message)
        };
        let len = num_rows.checked_mul(row_len).ok_or_else(too_large)?;
        if storage.capacity() < len {
            // A fresh vector rather than a grown one: growing would copy elements that are about to be overwritten.
            storage = Vec::new();
            storage.try_reserve_exact(len).map_err(|cause| too_large().with_cause(cause))?;
        }
        storage.resize_with(len, T::default);
        let mut storage = ManuallyDrop::new(storage);
        let start = NonNull::new(storage.as_mut_ptr()).expect("a vector's pointer is never null");
        Ok(Self { start, len, capacity: storage.capacity(), row_len, owner: PhantomData })
    }
}

impl<T> Buffer<T> {
    /// Gives the elements back as a `Vec`.
    pub(crate) fn into_vec(self) -> Vec<T> {
        let parts = ManuallyDrop::new(self);
        // SAFETY: these are the parts of the vector that `new` took apart, and `ManuallyDrop` keeps `drop` from
        // freeing them a second time.
        unsafe { Vec::from_raw_parts(parts.start.as_ptr(), parts.len, parts.capacity) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: these are the parts of the vector that `new` took apart, and nobody uses them after `drop`.
        drop(unsafe { Vec::from_raw_parts(self.start.as_ptr(), self.len, self.capacity) });
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("row_len", &self.row_len).finish_non_exhaustive()
    }
}

/// One buffer or several side by side, with rows that can be lent out separately.
///
/// # Safety
///
/// `chunk` must touch nothing but the rows that it is asked for.
pub unsafe trait Columns: Send + Sync + 'static {
    /// Exclusive access to some consecutive rows.
    type Chunk<'a>;

    /// Lends rows out.
    ///
    /// # Safety
    ///
    /// No other chunk with any of these rows may be alive, or be made while this one is.
    unsafe fn chunk(&self, rows: Range<usize>) -> Self::Chunk<'_>;
}

/// Some consecutive rows of a buffer.
#[derive(Debug)]
pub struct RowsMut<'a, T> {
    elements: &'a mut [T],
    row_len: usize,
}

impl<T> RowsMut<'_, T> {
    /// The elements of all of them.
    pub(crate) fn elements(&mut self) -> &mut [T] {
        self.elements
    }

    /// The elements of some of them.
    #[inline]
    pub(crate) fn rows(&mut self, rows: Range<usize>) -> &mut [T] {
        &mut self.elements[rows.start * self.row_len..rows.end * self.row_len]
    }

    /// One of the rows, counted from the first of these.
    #[inline]
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        &mut self.elements[row * self.row_len..][..self.row_len]
    }
}

// SAFETY: the slice made covers exactly the elements of the rows asked for.
unsafe impl<T: Send + 'static> Columns for Buffer<T> {
    type Chunk<'a> = RowsMut<'a, T>;

    unsafe fn chunk(&self, rows: Range<usize>) -> RowsMut<'_, T> {
        let (start, end) = (rows.start * self.row_len, rows.end * self.row_len);
        assert!(start <= end && end <= self.len, "rows {rows:?} lie outside a buffer of {} elements", self.len);
        // SAFETY: `start..end` lies inside the allocation (asserted above) and is initialised (the invariant); the
        // caller vouches that no other reference to these elements exists.
        let elements = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(start), end - start) };
        RowsMut { elements, row_len: self.row_len }
    }
}

macro_rules! tuple_columns {
    ($($name:ident $field:tt),+) => {
        // SAFETY: each member touches only the rows asked for.
        unsafe impl<$($name: Columns),+> Columns for ($($name,)+) {
            type Chunk<'a> = ($($name::Chunk<'a>,)+);

            unsafe fn chunk(&self, rows: Range<usize>) -> Self::Chunk<'_> {
                // SAFETY: what the caller vouches for these rows holds for each member's rows.
                unsafe { ($(self.$field.chunk(rows.clone()),)+) }
            }
        }
    };
}
tuple_columns!(A 0);
tuple_columns!(A 0, B 1);
tuple_columns!(A 0, B 1, C 2);
tuple_columns!(A 0, B 1, C 2, D 3);
tuple_columns!(A 0, B 1, C 2, D 3, E 4);
tuple_columns!(A 0, B 1, C 2, D 3, E 4, F 5);

/// Which rows have been claimed: one bit each.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Vec<AtomicU64>);

impl Ledger {
    fn reset(&mut self, num_rows: usize) {
        self.0.iter_mut().for_each(|word| *word = AtomicU64::new(0));
        self.0.resize_with(num_rows.div_ceil(64), AtomicU64::default);
    }

    /// Marks rows; panics if one of them was marked before.
    fn mark(&self, rows: Range<usize>) {
        let mut start = rows.start;
        while start < rows.end {
            let word = start / 64;
            let end = rows.end.min((word + 1) * 64);
            let ones = u64::MAX >> (64 - (end - start)) << (start % 64);
            // Relaxed: the bit only decides who may write; what is written is published by the slot's lock.
            let before = self.0[word].fetch_or(ones, Ordering::Relaxed);
            assert!(before & ones == 0, "rows {start}..{end} of a batch were claimed twice");
            start = end;
        }
    }
}

/// Columns whose rows are written by whoever claims them first.
#[derive(Debug)]
pub(crate) struct Rows<C> {
    columns: C,
    num_rows: usize,
    ledger: Ledger,
}

impl<C: Columns> Rows<C> {
    pub(crate) fn new(columns: C, num_rows: usize, mut ledger: Ledger) -> Self {
        ledger.reset(num_rows);
        Self { columns, num_rows, ledger }
    }

    /// Exclusive access to rows that nobody has claimed before.
    ///
    /// # Panics
    ///
    /// If a row was claimed before, or does not exist.
    pub(crate) fn claim(&self, rows: Range<usize>) -> C::Chunk<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.num_rows, "rows {rows:?} of a batch of {}", self.num_rows);
        self.ledger.mark(rows.clone());
        // SAFETY: `mark` has returned, so these bits were clear before and are set for the rest of this value's life:
        // no chunk with any of these rows was made before, nor can one be made after. `into_parts` needs the value
        // itself, which the chunk borrows.
        unsafe { self.columns.chunk(rows) }
    }

    /// Takes the columns out, and the ledger to use again.
    pub(crate) fn into_parts(self) -> (C, Ledger) {
        (self.columns, self.ledger)
    }
}

/// See the crate in `models/`.
#[cfg(all(test, procession_loom))]
mod models {
    use loom::sync::Arc;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::sync::thread;

    /// Of several who claim a row at the same time one gets it; what others claim beside it they get.
    #[test]
    fn a_row_has_one_writer() {
        loom::model(|| {
            let ledger = Arc::new({
                let mut ledger = Ledger::default();
                ledger.reset(3);
                ledger
            });
            let mark =
                |ledger: &Ledger, rows: Range<usize>| catch_unwind(AssertUnwindSafe(|| ledger.mark(rows))).is_ok();
            let others = [0..1, 1..3].map(|rows| {
                let ledger = Arc::clone(&ledger);
                thread::spawn(move || mark(&ledger, rows))
            });
            let mine = mark(&ledger, 0..1);
            let [first, beside] = others.map(|other| other.join().expect("a claim that is refused is caught"));
            assert!(first != mine, "a row is lent to two, or to nobody");
            assert!(beside, "a row that nobody else wanted");
        });
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn chunks_are_the_rows_asked_for() {
        let rows = Rows::new(Buffer::<u32>::new(Vec::new(), 5, 3).unwrap(), 5, Ledger::default());
        rows.claim(1..3).elements.fill(7);
        rows.claim(4..5).row(0).fill(9);
        let (buffer, _) = rows.into_parts();
        assert_eq!(buffer.into_vec(), [0, 0, 0, 7, 7, 7, 7, 7, 7, 0, 0, 0, 9, 9, 9]);
    }

    #[test]
    fn a_row_is_claimed_once() {
        let rows = Rows::new(Buffer::<u8>::new(Vec::new(), 200, 1).unwrap(), 200, Ledger::default());
        rows.claim(0..63);
        rows.claim(63..130);
        for again in [0..1, 62..64, 129..131, 100..200] {
            assert!(catch_unwind(AssertUnwindSafe(|| rows.claim(again).row_len)).is_err());
        }
        assert!(catch_unwind(AssertUnwindSafe(|| rows.claim(199..201).row_len)).is_err());
    }

    #[test]
    fn a_ledger_is_clean_when_it_is_used_again() {
        let rows = Rows::new(Buffer::<u8>::new(Vec::new(), 70, 1).unwrap(), 70, Ledger::default());
        rows.claim(0..70);
        let (_, ledger) = rows.into_parts();
        let rows = Rows::new(Buffer::<u8>::new(Vec::new(), 3, 1).unwrap(), 3, ledger);
        rows.claim(0..3);
    }

    #[test]
    fn storage_is_used_again_when_it_is_large_enough() {
        let storage = vec![1_u16; 12];
        let address = storage.as_ptr();
        let vec = Buffer::new(storage, 2, 4).unwrap().into_vec();
        assert_eq!((vec.as_ptr(), vec.len()), (address, 8));
        assert_eq!(Buffer::new(vec, 4, 4).unwrap().into_vec(), [0; 16]);
    }

    #[test]
    fn a_batch_that_memory_does_not_hold_is_an_error() {
        for (num_rows, row_len) in [(usize::MAX, 2), (1 << 20, 1 << 40), (1, usize::MAX / 8)] {
            let error = Buffer::<u64>::new(Vec::new(), num_rows, row_len).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
    }

    #[test]
    fn a_buffer_that_is_dropped_drops_its_elements() {
        let element = std::sync::Arc::new(());
        let rows = Rows::new(Buffer::new(Vec::new(), 3, 1).unwrap(), 3, Ledger::default());
        rows.claim(1..2).row(0)[0] = Some(std::sync::Arc::clone(&element));
        assert_eq!(std::sync::Arc::strong_count(&element), 2);
        drop(rows);
        assert_eq!(std::sync::Arc::strong_count(&element), 1);
    }

    #[test]
    fn elements_are_dropped_once() {
        let buffer = Buffer::<String>::new(Vec::new(), 3, 1).unwrap();
        let rows = Rows::new(buffer, 3, Ledger::default());
        rows.claim(1..2).row(0)[0] = "kept".to_owned();
        drop(rows);
    }

    #[test]
    fn threads_write_side_by_side() {
        let columns =
            (Buffer::<u64>::new(Vec::new(), 1000, 2).unwrap(), Buffer::<u8>::new(Vec::new(), 1000, 1).unwrap());
        let rows = Rows::new(columns, 1000, Ledger::default());
        std::thread::scope(|scope| {
            for part in 0..4 {
                let rows = &rows;
                scope.spawn(move || {
                    for row in (part..1000).step_by(4) {
                        let (mut wide, mut narrow) = rows.claim(row..row + 1);
                        wide.row(0).fill(row as u64);
                        narrow.row(0).fill(part as u8);
                    }
                });
            }
        });
        let ((wide, narrow), _) = rows.into_parts();
        assert!(wide.into_vec().iter().enumerate().all(|(at, &value)| value == at as u64 / 2));
        assert!(narrow.into_vec().iter().enumerate().all(|(at, &value)| usize::from(value) == at % 4));
    }
}
