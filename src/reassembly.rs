//! Slots in which batches are put together, and from which they are released in order.
//!
//! Batch `seq` has slot `seq % capacity`. The claim keeps to `seq < due + window` with `window <= capacity`, so a slot
//! is entered for a new batch only after the consumer has taken the one before it.

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Waiter, lock};

#[derive(Debug)]
struct Slot<P, O> {
    // Present from the first worker's arrival to the last one's leaving.
    partial: Option<Arc<P>>,
    // Invariant: the rows of the batch that are loaded; never counted before the worker's own `Arc` is dropped.
    rows_done: usize,
    // Present from the close of the batch until the consumer takes it.
    output: Option<O>,
    // Registered under the same lock that `deliver` takes, so a wake-up cannot be missed.
    waiter: Option<Waiter>,
}

#[derive(Debug)]
struct Place<P, O> {
    slot: Mutex<Slot<P, O>>,
    // Whether there is an output, for one who only looks: changed under the lock, read without it.
    is_ready: AtomicBool,
}

type Ring<P, O> = Box<[CachePadded<Place<P, O>>]>;

/// A ring of slots. `P` is a batch under construction, `O` a finished one.
#[derive(Debug)]
pub(crate) struct Slots<P, O> {
    ring: Ring<P, O>,
}

impl<P, O> Slots<P, O> {
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two(), "a ring of {capacity} slots");
        let slot = || Slot { partial: None, rows_done: 0, output: None, waiter: None };
        let place = || Place { slot: Mutex::new(slot()), is_ready: AtomicBool::new(false) };
        Self { ring: (0..capacity).map(|_| CachePadded::new(place())).collect() }
    }

    fn place(&self, seq: u64) -> &Place<P, O> {
        // The capacity is a power of two and fits `usize`, so the cut-off bits do not matter.
        &self.ring[seq as usize & (self.ring.len() - 1)]
    }

    fn slot(&self, seq: u64) -> &Mutex<Slot<P, O>> {
        &self.place(seq).slot
    }

    /// The batch under construction, opened by the first worker that asks.
    pub(crate) fn enter(&self, seq: u64, open: impl FnOnce() -> P) -> Arc<P> {
        let mut slot = lock(self.slot(seq));
        debug_assert!(slot.output.is_none(), "batch {seq} is entered before its slot was emptied");
        Arc::clone(slot.partial.get_or_insert_with(|| Arc::new(open())))
    }

    /// Counts rows as loaded. Who brings the last ones receives the batch, to close and deliver it.
    pub(crate) fn leave(&self, seq: u64, partial: Arc<P>, rows: usize, num_rows: usize) -> Option<P> {
        // Before the count: whoever completes it must find that the slot's own `Arc` is the only one.
        drop(partial);
        let mut slot = lock(self.slot(seq));
        slot.rows_done += rows;
        debug_assert!(slot.rows_done <= num_rows, "{} of {num_rows} rows of batch {seq} are done", slot.rows_done);
        if slot.rows_done < num_rows {
            return None;
        }
        slot.rows_done = 0;
        // It is gone if the run was cancelled since this worker looked; nobody wants it then.
        let partial = slot.partial.take()?;
        drop(slot);
        // Whoever held a part of the batch dropped it before it counted its rows.
        match Arc::try_unwrap(partial) {
            Ok(partial) => Some(partial),
            Err(_) => panic!("every worker drops its part before it is counted"),
        }
    }

    /// Puts a finished batch in its slot and wakes whoever waits for it.
    pub(crate) fn deliver(&self, seq: u64, output: O) {
        let place = self.place(seq);
        let waiter = {
            let mut slot = lock(&place.slot);
            debug_assert!(slot.output.is_none(), "batch {seq} is delivered twice");
            slot.output = Some(output);
            // Relaxed, here and below: whoever sees it takes the lock before it takes the batch.
            place.is_ready.store(true, Ordering::Relaxed);
            slot.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Takes a finished batch. If it is not there yet, registers whom to wake.
    pub(crate) fn take(&self, seq: u64, waiter: Option<Waiter>) -> Option<O> {
        let place = self.place(seq);
        let mut slot = lock(&place.slot);
        let output = slot.output.take();
        place.is_ready.store(false, Ordering::Relaxed);
        // A waiter of an earlier call is out of date either way.
        slot.waiter = if output.is_none() { waiter } else { None };
        output
    }

    /// Takes a finished batch if it is seen to be there, and costs one load if not. For one who looks again: it may miss
    /// what is delivered at this moment.
    pub(crate) fn take_if_ready(&self, seq: u64) -> Option<O> {
        if self.place(seq).is_ready.load(Ordering::Relaxed) { self.take(seq, None) } else { None }
    }

    /// Empties every slot, and wakes whoever waits.
    pub(crate) fn clear(&self) {
        for place in &self.ring {
            let (partial, output, waiter) = {
                let mut slot = lock(&place.slot);
                place.is_ready.store(false, Ordering::Relaxed);
                (slot.partial.take(), slot.output.take(), slot.waiter.take())
            };
            // Outside the lock: samples may have destructors of the user's.
            drop((partial, output));
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_to_leave_gets_the_batch() {
        let slots = Slots::<&str, ()>::new(2);
        let (first, second) = (slots.enter(5, || "batch"), slots.enter(5, || unreachable!()));
        assert_eq!(slots.leave(5, first, 3, 4), None);
        assert_eq!(slots.leave(5, second, 1, 4), Some("batch"));
    }

    #[test]
    fn a_batch_is_taken_once() {
        let slots = Slots::<(), u64>::new(4);
        for seq in 0..10 {
            assert_eq!((slots.take_if_ready(seq), slots.take(seq, None)), (None, None));
            slots.deliver(seq, seq);
            assert_eq!(if seq % 2 == 0 { slots.take_if_ready(seq) } else { slots.take(seq, None) }, Some(seq));
            assert_eq!((slots.take_if_ready(seq), slots.take(seq, None)), (None, None));
        }
    }

    #[test]
    fn a_waiter_is_woken_by_the_delivery_it_waits_for() {
        let slots = Slots::<(), u64>::new(4);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..1000).for_each(|seq| {
                    while lock(slots.slot(seq)).output.is_some() {
                        std::thread::yield_now();
                    }
                    slots.deliver(seq, seq);
                });
            });
            for seq in 0..1000 {
                let output = loop {
                    match slots.take(seq, Some(Waiter::current_thread())) {
                        Some(output) => break output,
                        None => std::thread::park(),
                    }
                };
                assert_eq!(output, seq);
            }
        });
    }
}
