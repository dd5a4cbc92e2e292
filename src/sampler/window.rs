use super::permutation::Permutation;
use super::{ORDER, Sampler, check_len, check_position, check_run, run_before};
use crate::rng::{Key, Mixer};

const WINDOW: u64 = u64::from_le_bytes(*b"window\0\0");

/// Shuffles within windows: the positions of each run of `window` hold the indices of the same run, in an order of
/// their own.
///
/// No sample moves further than its window, so that data that is only fast to read from front to back stays fast. What
/// it does not give is a thorough shuffle: a class that stands together in the data stays together.
///
/// # Determinism
///
/// The order is a function of length, window, seed and epoch.
///
/// # Examples
///
/// ```
/// use procession::{Sampler, WindowShuffle};
///
/// let sampler = WindowShuffle::new(30, 4, 7);
/// let mut window: Vec<u64> = (8..12).map(|position| sampler.index(0, position)).collect();
/// window.sort();
/// assert_eq!(window, [8, 9, 10, 11]);
/// ```
#[derive(Debug, Clone)]
pub struct WindowShuffle {
    len: u64,
    window: Permutation,
    tail: Permutation,
    seed: u64,
    keys: Mixer,
}

impl WindowShuffle {
    /// Makes a shuffle of `0..len` within windows; the last one may be shorter.
    ///
    /// # Panics
    ///
    /// If `window` is 0, or `len` is above 2^63.
    pub fn new(len: u64, window: u64, seed: u64) -> Self {
        check_len(len);
        assert!(window > 0, "a window of 0 positions: at least 1 is needed");
        // A window beyond the end is the same as one that ends there.
        let window = window.min(len.max(1));
        let keys = Mixer::new(ORDER, WINDOW).with(seed).with(len).with(window);
        Self { len, window: Permutation::new(window), tail: Permutation::new(len % window), seed, keys }
    }

    fn key(&self, epoch: u64, number: u64) -> Key {
        self.keys.with(epoch).with(number).key()
    }

    /// The permutation of a window, by its first position.
    fn permutation(&self, start: u64) -> &Permutation {
        if self.len - start < self.window.len() { &self.tail } else { &self.window }
    }
}

impl Sampler for WindowShuffle {
    fn len(&self) -> u64 {
        self.len
    }

    fn bound(&self) -> u64 {
        self.len
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        check_position(self.len, position);
        let number = position / self.window.len();
        let start = number * self.window.len();
        start + self.permutation(start).at(&self.key(epoch, number), position - start)
    }

    fn fill(&self, epoch: u64, first: u64, step: u64, mut out: &mut [u64]) {
        check_run(self.len, first, step, out.len());
        let mut position = first;
        while !out.is_empty() {
            let number = position / self.window.len();
            let start = number * self.window.len();
            let permutation = self.permutation(start);
            let run = run_before(start + permutation.len(), position, step, out.len());
            let (here, rest) = out.split_at_mut(run);
            permutation.fill(&self.key(epoch, number), position - start, step, here);
            here.iter_mut().for_each(|index| *index += start);
            position = position.wrapping_add(step.wrapping_mul(run as u64));
            out = rest;
        }
    }

    fn describe(&self) -> String {
        format!("window_shuffle(len={}, window={}, seed={})", self.len, self.window.len(), self.seed)
    }

    fn is_permutation(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_epoch(sampler: &WindowShuffle, epoch: u64, window: u64) -> Vec<u64> {
        let mut order = vec![0; sampler.len() as usize];
        sampler.fill(epoch, 0, 1, &mut order);
        for (number, indices) in order.chunks(window as usize).enumerate() {
            let mut sorted = indices.to_vec();
            sorted.sort_unstable();
            let start = number as u64 * window;
            assert!(sorted.into_iter().eq(start..start + indices.len() as u64), "{sampler:?} window {number}");
        }
        order
    }

    #[test]
    fn each_window_keeps_its_own() {
        for (len, window) in [(400, 10), (30, 4), (30, 1), (30, 30), (30, 31), (1000, 300), (1, 1)] {
            let sampler = WindowShuffle::new(len, window, 5);
            let orders: Vec<_> = (0..3).map(|epoch| check_epoch(&sampler, epoch, window)).collect();
            let differ = orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != orders[2];
            assert_eq!(differ, len > 1 && window > 1, "{sampler:?}");
        }
    }

    #[test]
    fn windows_are_shuffled_differently() {
        let order = check_epoch(&WindowShuffle::new(400, 10, 5), 0, 10);
        let relative = |number: usize| order[number * 10..][..10].iter().map(move |index| index - number as u64 * 10);
        assert!((1..40).all(|number| !relative(number).eq(relative(0))));
    }

    #[test]
    fn first_values_are_pinned() {
        let mut order = [0; 10];
        WindowShuffle::new(10, 4, 7).fill(0, 0, 1, &mut order);
        assert_eq!(order, [3, 1, 2, 0, 7, 4, 5, 6, 8, 9]);
    }

    #[test]
    #[should_panic(expected = "a window of 0 positions")]
    fn a_window_holds_something() {
        WindowShuffle::new(10, 0, 0);
    }
}
