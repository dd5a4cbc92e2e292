//! What a thread has in work, in sight of the watch.

use std::fmt;
use std::sync::Arc;

use super::run::Drive;
use crate::report::Meter;
use crate::sync::{Instant, Mutex, lock};

/// A sample that is being loaded under a deadline.
pub(crate) struct Ticket {
    pub(crate) run: Arc<dyn Drive>,
    pub(crate) seq: u64,
    pub(crate) row: usize,
    pub(crate) reserved_bytes: u64,
    pub(crate) deadline: Instant,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("seq", &self.seq).field("row", &self.row).finish_non_exhaustive()
    }
}

/// One thread's place: its account, and the sample on it that has a deadline.
#[derive(Debug)]
pub(crate) struct Desk {
    meter: Arc<Meter>,
    // Taking the ticket is the step that decides who answers for the sample.
    ticket: Mutex<Option<Ticket>>,
}

impl Desk {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, ticket: Mutex::new(None) }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn begin(&self, ticket: Ticket) {
        *lock(&self.ticket) = Some(ticket);
    }

    /// Takes the ticket back; `None` if it has expired since.
    pub(crate) fn end(&self) -> Option<Ticket> {
        lock(&self.ticket).take()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        lock(&self.ticket).as_ref().map(|ticket| ticket.deadline)
    }

    /// Takes the ticket away if its deadline has passed.
    pub(crate) fn take_expired(&self, now: Instant) -> Option<Ticket> {
        let mut ticket = lock(&self.ticket);
        if ticket.as_ref().is_some_and(|ticket| ticket.deadline <= now) { ticket.take() } else { None }
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::workers::run::Step;

    struct Idle;

    impl Drive for Idle {
        fn step(&self, _: &Arc<dyn Drive>, _: &Desk) -> Step {
            Step::Over
        }
        fn expire(&self, _: &Ticket, _: &Desk) {}
        fn cancel(&self) {}
    }

    /// The watch sleeps until the earliest deadline, and takes nothing away before it.
    #[test]
    fn the_deadline_is_the_tickets() {
        let desk = Desk::new(Arc::new(Meter::default()));
        assert_eq!(desk.deadline(), None);
        let deadline = Instant::now() + Duration::from_secs(60);
        desk.begin(Ticket { run: Arc::new(Idle), seq: 3, row: 2, reserved_bytes: 0, deadline });
        assert_eq!(desk.deadline(), Some(deadline));
        assert!(desk.take_expired(deadline - Duration::from_nanos(1)).is_none());
        assert_eq!(desk.deadline(), Some(deadline));
        let ticket = desk.take_expired(deadline).expect("its time has come");
        assert_eq!((ticket.seq, ticket.row, desk.deadline()), (3, 2, None));
        assert!(desk.end().is_none(), "it was taken away");
    }
}
