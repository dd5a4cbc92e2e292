//! The window in bytes: what is queued, in work and parked, together.

use std::collections::VecDeque;

use crate::sync::{Mutex, lock};

/// The account of a byte budget.
///
/// Positions are claimed in order, so when one does not fit, all that is in memory belongs to batches at or before
/// its own. If its batch is due, the earlier ones are gone, and what is there are rows of the batch that the consumer
/// waits for: admitting it is the only way on. Hence the bound: the budget, or the batch due where that is larger.
///
/// A batch that takes another room than its rows, as padded ones do, is charged that when it is made. Nobody is asked then,
/// so the bound is exceeded by what the batches in work grow by. It can hold nobody up for good: the batch due is admitted
/// whatever the account says, and all that is charged to a batch is given back when it is taken.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: u64,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    used: u64,
    // The most that was ever in use, and the largest sample seen: for reports and for estimates.
    peak: u64,
    largest: u64,
    // What each batch from `first` on has been charged.
    first: u64,
    charged: VecDeque<u64>,
}

impl Account {
    fn charge(&mut self, seq: u64, bytes: u64) {
        let at = usize::try_from(seq - self.first).expect("a window of batches fits the address space");
        if self.charged.len() <= at {
            self.charged.resize(at + 1, 0);
        }
        self.charged[at] += bytes;
        self.used += bytes;
        self.peak = self.peak.max(self.used);
    }
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, account: Mutex::new(Account::default()) }
    }

    /// Reserves room for a sample of batch `seq` if there is some, or if the batch is due, and claims it by `claim`.
    /// `bytes` is its size if known; otherwise the largest one seen stands for it, and until one was seen samples
    /// are admitted one at a time. Returns what was reserved.
    pub(crate) fn admit(&self, seq: u64, due: u64, bytes: Option<u64>, claim: impl FnOnce() -> bool) -> Option<u64> {
        let mut account = lock(&self.account);
        let fits = match bytes {
            Some(bytes) => account.used.saturating_add(bytes) <= self.limit_bytes,
            None if account.largest == 0 => account.used == 0,
            None => account.used.saturating_add(account.largest) <= self.limit_bytes,
        };
        let bytes = bytes.unwrap_or(account.largest.max(1));
        if (seq != due && !fits) || !claim() {
            return None;
        }
        account.charge(seq, bytes);
        Some(bytes)
    }

    /// Replaces what was reserved by what the sample takes.
    pub(crate) fn settle(&self, seq: u64, reserved: u64, actual: u64) {
        let mut account = lock(&self.account);
        account.largest = account.largest.max(actual);
        // Refund first: the two are never in use together.
        account.used -= reserved;
        let at = (seq - account.first) as usize;
        account.charged[at] -= reserved;
        account.charge(seq, actual);
    }

    /// Replaces what the rows of a batch took by what the batch takes, once it is made and before it can be taken.
    pub(crate) fn settle_batch(&self, seq: u64, bytes: u64) {
        let mut account = lock(&self.account);
        let charged = usize::try_from(seq - account.first).ok().and_then(|at| account.charged.get_mut(at));
        // A batch without rows was never charged anything.
        let before = charged.map_or(0, std::mem::take);
        account.used -= before;
        account.charge(seq, bytes);
    }

    /// Gives back what the batch that the consumer took was charged.
    pub(crate) fn release(&self, seq: u64) {
        let mut account = lock(&self.account);
        debug_assert_eq!(account.first, seq, "batches are released in order");
        account.first = seq + 1;
        let bytes = account.charged.pop_front().unwrap_or(0);
        account.used -= bytes;
    }

    /// The most bytes that were ever in use at once.
    pub(crate) fn peak_bytes(&self) -> u64 {
        lock(&self.account).peak
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_waits_unless_it_is_due() {
        let budget = Budget::new(100);
        assert_eq!(budget.admit(0, 0, Some(60), || true), Some(60));
        assert_eq!(budget.admit(1, 0, Some(60), || true), None);
        assert_eq!(budget.admit(0, 0, Some(1000), || true), Some(1000));
        budget.release(0);
        assert_eq!(budget.admit(1, 1, Some(60), || false), None);
        assert_eq!(budget.admit(1, 1, Some(60), || true), Some(60));
        assert_eq!(budget.peak_bytes(), 1060);
    }

    #[test]
    fn a_batch_is_charged_its_own_size_once_it_is_made() {
        let budget = Budget::new(100);
        assert_eq!(budget.admit(0, 0, Some(20), || true), Some(20));
        assert_eq!(budget.admit(1, 0, Some(20), || true), Some(20));
        budget.settle_batch(1, 500);
        assert_eq!(budget.admit(2, 0, Some(1), || true), None, "the padding counts");
        assert_eq!(budget.admit(0, 0, Some(20), || true), Some(20), "what is due is let in all the same");
        // Smaller is possible too, and there may be no rows at all.
        budget.settle_batch(0, 5);
        budget.settle_batch(2, 7);
        budget.release(0);
        budget.release(1);
        assert_eq!(budget.admit(3, 2, Some(93), || true), Some(93));
        assert_eq!(budget.peak_bytes(), 540);
    }

    #[test]
    fn unknown_sizes_are_taken_for_the_largest_seen() {
        let budget = Budget::new(100);
        let reserved = budget.admit(0, 0, None, || true).unwrap();
        assert_eq!(budget.admit(1, 0, None, || true), None, "one at a time until a size is known");
        budget.settle(0, reserved, 40);
        assert_eq!(budget.admit(1, 0, None, || true), Some(40));
        assert_eq!(budget.admit(2, 0, None, || true), None);
        budget.release(0);
        assert_eq!(budget.admit(2, 1, None, || true), Some(40));
    }
}
