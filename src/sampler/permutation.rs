//! A keyed permutation of `0..len`: one position costs the same few nanoseconds at any length and needs no memory.
//!
//! **Up to 64** it is a Fisher-Yates shuffle (Durstenfeld 1964), so that all orders are equally likely to within 2^-34.
//! A single position is followed through the exchanges without making the list. The draws come from few words, as in
//! Brackett-Rozinsky and Lemire, *Batched Ranged Random Integer Generation* (2024, <https://arxiv.org/abs/2408.06213>):
//! the high half of word times range is the draw, the low half is the word of the next draw. Our deviation: what they
//! would reject is kept, because 30 and more spare bits a word make the bias smaller than anyone can measure.
//!
//! **Above 64** it is the generalised Feistel network of Black and Rogaway, *Ciphers with Arbitrary Finite Domains*
//! (2002, <https://www.cs.ucdavis.edu/~rogaway/papers/subset.pdf>), on pairs (x, y) of `0..width` and `0..height`, where
//! `width` is the square root of `len` rounded up to an even number. A round adds a keyed hash of one to the other,
//! modulo its range. The domain has fewer than `width` elements more than needed, so that a step beyond the end (cycle
//! walking) happens once in `height` positions: no length is slow, those above a power of two included.
//!
//! Why `width` is even: a round rotates the columns (or rows) of the grid, and a rotation of an odd number of elements
//! is an even permutation. With both sides odd no round could ever give an odd permutation, half of all would be out
//! of reach, and the number of cycles would be always even or always odd.
//!
//! The number of rounds is measured: 12 up to length 127, 10 up to 4,095 and 8 beyond. The last number at which any test
//! fails is 9 at length 65, 8 at 100 and 6 at 1,000. The tests: the joint distribution of two positions in 50 million
//! epochs, the differences of 10^8 neighbours, fixed points, cycles, inversions, ascents, longest rising sequences, and
//! rows and columns of the grid. Two more rounds divide the excess by more than 30 at length 65 and by about 100 at 100.

use crate::rng::{Key, widening_mul};

/// Up to here an order is drawn by Fisher and Yates's method.
const MAX_SHORT: u64 = 64;
/// Positions computed at a time: enough to keep the multipliers busy.
const LANES: usize = 8;

// The constants of the SplitMix64 finaliser: Stafford's variant 13, and the golden ratio.
const MULTIPLY_1: u64 = 0xbf58_476d_1ce4_e5b9;
const MULTIPLY_2: u64 = 0x94d0_49bb_1331_11eb;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What does not depend on the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permutation {
    len: u64,
    width: u64,
    height: u64,
    /// 2^64 / `width`, at most one too small.
    reciprocal: u64,
    /// Rounds divided by two; 0 says that the length is short.
    double_rounds: u32,
}

impl Permutation {
    /// Prepares a length, at most [`super::MAX_LEN`].
    pub(super) fn new(len: u64) -> Self {
        if len <= MAX_SHORT {
            return Self { len, width: 0, height: 0, reciprocal: 0, double_rounds: 0 };
        }
        let root = (len - 1).isqrt() + 1;
        let width = root + root % 2;
        Self {
            len,
            width,
            height: len.div_ceil(width),
            reciprocal: u64::MAX / width,
            double_rounds: match len {
                ..=127 => 6,
                128..=4095 => 5,
                _ => 4,
            },
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Where the permutation of this key takes a position, which the caller has checked.
    #[inline]
    pub(super) fn at(&self, key: &Key, position: u64) -> u64 {
        debug_assert!(position < self.len);
        if self.double_rounds == 0 {
            return self.follow(key, position);
        }
        let (x, y) = self.split(position);
        self.walk(key, self.network(key, x, y))
    }

    /// Where it takes `first`, `first + step`, ..., all of which the caller has checked.
    pub(super) fn fill(&self, key: &Key, first: u64, step: u64, out: &mut [u64]) {
        if self.double_rounds == 0 {
            return self.fill_short(key, first, step, out);
        }
        let mut position = first;
        let mut chunks = out.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            let mut x = [0; LANES];
            let mut y = [0; LANES];
            for lane in 0..LANES {
                (x[lane], y[lane]) = self.split(position);
                position = position.wrapping_add(step);
            }
            self.network_lanes(key, &mut x, &mut y);
            for lane in 0..LANES {
                chunk[lane] = self.walk(key, (x[lane], y[lane]));
            }
        }
        for slot in chunks.into_remainder() {
            *slot = self.at(key, position);
            position = position.wrapping_add(step);
        }
    }

    /// Division by `width` without a division. The estimate is the quotient or one less, as `reciprocal` is less than
    /// one below 2^64 / `width` and a position is below 2^64.
    #[inline]
    fn split(&self, position: u64) -> (u64, u64) {
        let (y, _) = widening_mul(position, self.reciprocal);
        let x = position - y * self.width;
        if x >= self.width { (x - self.width, y + 1) } else { (x, y) }
    }

    #[inline]
    fn network(&self, key: &Key, mut x: u64, mut y: u64) -> (u64, u64) {
        for round in 0..self.double_rounds {
            let (for_y, for_x) = round_keys(key, round);
            y = add_modulo(y, hash(x, for_y, self.height), self.height);
            x = add_modulo(x, hash(y, for_x, self.width), self.width);
        }
        (x, y)
    }

    #[inline]
    fn network_lanes(&self, key: &Key, x: &mut [u64; LANES], y: &mut [u64; LANES]) {
        for round in 0..self.double_rounds {
            let (for_y, for_x) = round_keys(key, round);
            for lane in 0..LANES {
                y[lane] = add_modulo(y[lane], hash(x[lane], for_y, self.height), self.height);
            }
            for lane in 0..LANES {
                x[lane] = add_modulo(x[lane], hash(y[lane], for_x, self.width), self.width);
            }
        }
    }

    /// Applies the network until the pair stands for an index below `len`.
    ///
    /// This ends: the network is a permutation of a finite set, so the walk returns to the position that it set out
    /// from, which is below `len`, after it has met each of the fewer than `width` pairs beyond `len` at most once.
    #[inline]
    fn walk(&self, key: &Key, (mut x, mut y): (u64, u64)) -> u64 {
        loop {
            let index = y * self.width + x;
            if index < self.len {
                return index;
            }
            (x, y) = self.network(key, x, y);
        }
    }

    /// Follows one position through the exchanges of `i` and a draw from `0..=i`, for `i` from 1 up.
    #[inline]
    fn follow(&self, key: &Key, position: u64) -> u64 {
        let mut at = position;
        self.draws(key, |i, j| {
            // Selections, not branches: which one is taken cannot be foreseen.
            let moved = if at == j { i } else { at };
            at = if at == i { j } else { moved };
        });
        at
    }

    /// The same exchanges for all positions at once. The last one is made first: each exchange comes before the ones
    /// that the list holds already.
    fn fill_short(&self, key: &Key, first: u64, step: u64, out: &mut [u64]) {
        let mut position = first;
        if (out.len() as u64) < self.len / 8 {
            for slot in out {
                *slot = self.follow(key, position);
                position = position.wrapping_add(step);
            }
            return;
        }
        let mut exchanges = [0_u8; MAX_SHORT as usize];
        self.draws(key, |i, j| exchanges[i as usize] = j as u8);
        let mut list: [u8; MAX_SHORT as usize] = std::array::from_fn(|i| i as u8);
        for i in (1..self.len as usize).rev() {
            list.swap(i, usize::from(exchanges[i]));
        }
        for slot in out {
            *slot = u64::from(list[position as usize]);
            position = position.wrapping_add(step);
        }
    }

    /// Calls `exchange(i, j)` for every `i` from 1 to `len - 1` in turn, with `j` uniform in `0..=i`.
    ///
    /// Four chains of draws run side by side. A word serves at most 30 bits of draws before it is replaced, which
    /// leaves 34: 32! has 118 bits, 48! / 32! has 86, 64! / 48! has 93, each in four words.
    #[inline]
    fn draws(&self, key: &Key, mut exchange: impl FnMut(u64, u64)) {
        let mut words = key.0;
        let mut start = 1;
        for (refill, end) in [32, 48, MAX_SHORT].into_iter().enumerate() {
            let end = end.min(self.len);
            if refill > 0 && start < end {
                words = key.0.map(|word| mix(word.wrapping_add(GOLDEN.wrapping_mul(refill as u64))));
            }
            let [mut a, mut b, mut c, mut d] = words;
            let mut i = start;
            while i + 4 <= end {
                exchange(i, draw(&mut a, i));
                exchange(i + 1, draw(&mut b, i + 1));
                exchange(i + 2, draw(&mut c, i + 2));
                exchange(i + 3, draw(&mut d, i + 3));
                i += 4;
            }
            for word in [&mut a, &mut b, &mut c] {
                if i < end {
                    exchange(i, draw(word, i));
                    i += 1;
                }
            }
            start = i;
        }
    }
}

/// Draws from `0..=i` and leaves the rest of the word's randomness in the word.
#[inline]
fn draw(word: &mut u64, i: u64) -> u64 {
    let (high, low) = widening_mul(*word, i + 1);
    *word = low;
    high
}

/// The keys of a double round: two of the four words, moved on by a constant in every second double round.
#[inline]
fn round_keys(Key(words): &Key, round: u32) -> (u64, u64) {
    let pair = (round % 2 * 2) as usize;
    let offset = GOLDEN.wrapping_mul(u64::from(round / 2));
    (words[pair].wrapping_add(offset), words[pair + 1].wrapping_add(offset))
}

/// A keyed hash of `value` in `0..range`. Its bias is `range` / 2^64, at most 2^-32.
#[inline]
fn hash(value: u64, key: u64, range: u64) -> u64 {
    let bits = value.wrapping_add(key).wrapping_mul(MULTIPLY_1);
    // Without this step the hash is linear, and 10 rounds of it still fail at length 100.
    let bits = (bits ^ (bits >> 32)).wrapping_mul(MULTIPLY_2);
    widening_mul(bits, range).0
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(MULTIPLY_1);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(MULTIPLY_2);
    bits ^ (bits >> 31)
}

/// `a + b` modulo `range`, for `a` and `b` below it. The difference is ready before `b` is.
#[inline]
fn add_modulo(a: u64, b: u64, range: u64) -> u64 {
    let (wrapped, below) = b.overflowing_sub(range - a);
    if below { a + b } else { wrapped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Mixer;

    #[test]
    fn split_is_division() {
        for len in [65, 100, 4096, 65_537, 1 << 32, (1 << 40) + 1, (1 << 62) - 57, 1 << 63] {
            let permutation = Permutation::new(len);
            assert_eq!(permutation.width % 2, 0, "both sides odd would halve the orders within reach");
            assert!(
                u128::from(permutation.width) * u128::from(permutation.height) - u128::from(len)
                    < permutation.width.into()
            );
            for near in [0, permutation.width, len / 2 / permutation.width * permutation.width, len - 1] {
                for position in near.saturating_sub(3)..=(near + 3).min(len - 1) {
                    let expected = (position % permutation.width, position / permutation.width);
                    assert_eq!(permutation.split(position), expected, "{position} of {len}");
                }
            }
        }
    }

    #[test]
    fn draws_cover_their_ranges() {
        for len in 0..=MAX_SHORT {
            let mut next = 1;
            Permutation::new(len).draws(&Mixer::new(1, 1).with(len).key(), |i, j| {
                assert!(i == next && j <= i);
                next += 1;
            });
            assert_eq!(next, len.max(1));
        }
    }

    #[test]
    fn add_modulo_at_its_limits() {
        for range in [1, 2, 7, 1 << 32] {
            for a in [0, range / 2, range - 1] {
                for b in [0, range / 2, range - 1] {
                    assert_eq!(add_modulo(a, b, range), (a + b) % range);
                }
            }
        }
    }
}
