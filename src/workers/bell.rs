//! Where workers sleep when there is nothing to claim.

use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence, lock, wait};

#[derive(Debug, Default)]
struct Dormitory {
    // Those who announced that they go to sleep and have not left.
    sleepers: usize,
    // How many of them were rung for. Invariant: at most `sleepers`.
    rung: usize,
}

/// A bell that rouses sleeping workers, at the price of one load when nobody sleeps.
#[derive(Debug)]
pub(crate) struct Bell {
    // `sleepers - rung`, to be read without the lock.
    asleep: AtomicUsize,
    dormitory: Mutex<Dormitory>,
    rings: Condvar,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { asleep: AtomicUsize::new(0), dormitory: Mutex::new(Dormitory::default()), rings: Condvar::new() }
    }

    /// Whether somebody sleeps for whom nobody has rung yet. For one who has made work and may be the only one to say
    /// so.
    #[inline]
    pub(crate) fn anyone_asleep(&self) -> bool {
        // SeqCst pairs with the fence in `sleep_unless`: of one who makes work and then looks here, and one who
        // announces its sleep and then looks for work, at least one sees the other.
        fence(Ordering::SeqCst);
        self.seems_anyone_asleep()
    }

    /// The same, but it may miss somebody who goes to sleep at this moment. For one who would only like company.
    #[inline]
    pub(crate) fn seems_anyone_asleep(&self) -> bool {
        // Relaxed: what must be ordered with it is ordered by the fences.
        self.asleep.load(Ordering::Relaxed) > 0
    }

    fn update(&self, dormitory: &Dormitory) {
        self.asleep.store(dormitory.sleepers - dormitory.rung, Ordering::Relaxed);
    }

    /// Rouses one sleeper, if there is one.
    pub(crate) fn ring_one(&self) {
        let mut dormitory = lock(&self.dormitory);
        if dormitory.rung < dormitory.sleepers {
            dormitory.rung += 1;
            self.update(&dormitory);
            self.rings.notify_one();
        }
    }

    /// Rouses everybody.
    pub(crate) fn ring_all(&self) {
        let mut dormitory = lock(&self.dormitory);
        dormitory.rung = dormitory.sleepers;
        self.update(&dormitory);
        self.rings.notify_all();
    }

    /// Announces sleep, looks for work once more by `found_work`, and sleeps until the bell rings if there is none.
    pub(crate) fn sleep_unless(&self, found_work: impl FnOnce() -> bool) {
        {
            let mut dormitory = lock(&self.dormitory);
            dormitory.sleepers += 1;
            self.update(&dormitory);
        }
        // SeqCst pairs with the fence in `anyone_asleep`.
        fence(Ordering::SeqCst);
        let awake = found_work();
        let mut dormitory = lock(&self.dormitory);
        if !awake {
            while dormitory.rung == 0 {
                dormitory = wait(&self.rings, dormitory);
            }
            dormitory.rung -= 1;
        }
        dormitory.sleepers -= 1;
        // A ring for one who was still on the way to bed is spent by its finding work.
        dormitory.rung = dormitory.rung.min(dormitory.sleepers);
        self.update(&dormitory);
    }
}
