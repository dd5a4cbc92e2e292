//! Who computes what, and when.
//!
//! # The protocol
//!
//! A [`Run`](run::Run) is a stretch of batches, numbered from 0, each of a known number of rows. Its workers and its
//! one consumer share four things: a cursor, the number of the batch that is due, a window, and a ring of slots.
//!
//! *Claim.* The cursor names the first row that nobody has. A worker moves it past the rows it takes by one
//! compare-and-swap, and only while the batch is below `due + window`. The cursor never goes back: every row is
//! claimed once. A claim is a few rows of one batch, or all of them; how many follows from what samples cost.
//!
//! *Load.* The first to arrive opens the batch in its slot; each writes the rows it claimed in their places and counts
//! them done; the one that counts the last row closes the batch, puts it in the slot, and wakes the consumer if that
//! has said there, under the slot's lock, that it waits.
//!
//! *Take.* The consumer takes batch `due` and moves `due` on, which makes room in the window. It rings for a sleeping
//! worker when a good part of the window is free; a ring costs as much as a small batch. If its batch is not there and
//! tasks are shorter than a wake-up, it does the next task itself; a whole batch that is due needs no slot then.
//!
//! *Sleep.* A worker that finds nothing to claim announces that it goes to sleep, looks once more, and sleeps. Whoever
//! makes work looks for announcements after making it. Of the two at least one sees the other. Before the consumer
//! sleeps it rings if there is something to claim.
//!
//! *End.* The number of batches is known; the end is counted and never guessed. A run is cancelled when its consumer
//! goes: its end becomes 0, its breaker ends pauses and keeps batches from being finished, its slots are emptied.
//! Workers finish the sample they are at and find nothing more. What a run holds goes with the last reference to it.
//!
//! *Time-outs.* With a time-out each task is one sample, loaded apart from its batch, with a [`Ticket`](desk::Ticket)
//! on the worker's desk. Whoever takes the ticket off answers for the row: the worker when the sample is there, or the
//! watch when its deadline has passed. The watch then hires a worker in place of the stuck one, which leaves when its
//! `get` returns and touches nothing of the batch.
//!
//! *Number.* Unless it is given, the number of workers follows from what a [`Tuner`](tuner::Tuner) sees: it is doubled
//! while the consumer waits and that pays. A worker too many leaves between two tasks.
//!
//! *Panics.* A job never unwinds: it catches what the user's code throws and makes it the row's failure.

pub(crate) mod bell;
pub(crate) mod budget;
pub(crate) mod desk;
#[cfg(feature = "async")]
pub(crate) mod fetch;
pub(crate) mod load;
pub(crate) mod pace;
pub(crate) mod pool;
pub(crate) mod run;
pub(crate) mod tuner;
