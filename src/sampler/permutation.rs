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
//! The number of rounds is measured: 12 up to length 127, 10 up to 4,095 and 8 beyond (12 from 2^56 on, see `hash`). The
//! last even number at which any test fails is 8 at lengths 65, 100 and 128, and 6 at 200 and 1,000. The tests: the joint
//! distribution of two positions in 30 to 40 million epochs, the differences of 6 to 8 x 10^7 neighbours, one and two apart
//! and one above the other in the grid, and how often neighbours keep their row or column. Two more rounds divide the
//! excess by more than 40.
//!
//! Many positions at once are computed in vectors, of whatever width the machine has, which divides the cost by 3 and more.

use std::hint::select_unpredictable;

use fearless_simd::{Level, Simd, dispatch};

use crate::rng::{Key, widening_mul};

/// Up to here an order is drawn by Fisher and Yates's method.
const MAX_SHORT: u64 = 64;
/// Positions computed at a time: enough to hide how long a multiplication takes.
const LANES: usize = 32;
/// From here on there are more rounds again.
const VERY_LONG: u64 = 1 << 56;
/// Fewer positions than this are computed one by one.
const MIN_LANES: usize = 6;
const LOW: u64 = 0xffff_ffff;

// The constants of the SplitMix64 finaliser: Stafford's variant 13, and the golden ratio.
const MULTIPLY_1: u64 = 0xbf58_476d_1ce4_e5b9;
const MULTIPLY_2: u64 = 0x94d0_49bb_1331_11eb;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
// The first two primes of xxHash32, <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.
const HASH_1: u64 = 0x9e37_79b1;
const HASH_2: u64 = 0x85eb_ca77;

/// What does not depend on the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permutation {
    len: u64,
    width: u64,
    height: u64,
    /// 2^64 / `width`, at most one too small.
    reciprocal: u64,
    /// An even number; 0 says that the length is short.
    num_rounds: usize,
}

impl Permutation {
    /// Prepares a length, at most [`super::MAX_LEN`].
    pub(super) fn new(len: u64) -> Self {
        if len <= MAX_SHORT {
            return Self { len, width: 0, height: 0, reciprocal: 0, num_rounds: 0 };
        }
        let root = (len - 1).isqrt() + 1;
        let width = root + root % 2;
        Self {
            len,
            width,
            height: len.div_ceil(width),
            reciprocal: u64::MAX / width,
            num_rounds: match len {
                ..=127 | VERY_LONG.. => 12,
                128..=4095 => 10,
                _ => 8,
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
        if self.num_rounds == 0 {
            return self.follow(key, position);
        }
        self.walk(key, self.network(key, self.split(position)))
    }

    /// Where it takes `first`, `first + step`, ..., all of which the caller has checked.
    pub(super) fn fill(&self, key: &Key, first: u64, step: u64, out: &mut [u64]) {
        if self.num_rounds == 0 {
            return self.fill_short(key, first, step, out);
        }
        if out.len() < MIN_LANES {
            (0..).zip(out).for_each(|(at, slot)| *slot = self.at(key, first + at * step));
            return;
        }
        dispatch!(Level::new(), simd => self.fill_long(simd, key, first, step, out));
    }

    /// The same for lengths that are not short, many at once. All loops over lanes are plain, and the compiler turns them
    /// into vectors.
    #[inline(always)]
    fn fill_long<S: Simd>(&self, _: S, key: &Key, first: u64, step: u64, out: &mut [u64]) {
        let (mut x, mut y) = ([0; LANES], [0; LANES]);
        for (lane, (x, y)) in (0..).zip(x.iter_mut().zip(&mut y)).take(out.len()) {
            (*x, *y) = self.split(first + lane * step);
        }
        // From chunk to chunk all lanes go on by as much. What lies beyond the last position is never looked at.
        let (on_x, on_y) = self.split(step.wrapping_mul(LANES as u64));
        for chunk in out.chunks_mut(LANES) {
            let indices = self.lanes(key, x, y, chunk.len());
            match chunk.as_mut_array() {
                Some(chunk) => *chunk = indices,
                None => chunk.copy_from_slice(&indices[..chunk.len()]),
            }
            for lane in 0..LANES {
                let wrapped = add_modulo(x[lane], on_x, self.width);
                y[lane] = y[lane].wrapping_add(on_y).wrapping_add(u64::from(wrapped < x[lane]));
                x[lane] = wrapped;
            }
        }
    }

    /// The indices of the pairs in the first `count` lanes.
    #[inline(always)]
    fn lanes(&self, key: &Key, mut x: [u64; LANES], mut y: [u64; LANES], count: usize) -> [u64; LANES] {
        for round in (0..self.num_rounds).step_by(2) {
            let (for_y, for_x) = (round_key(key, round), round_key(key, round + 1));
            (0..LANES).for_each(|lane| y[lane] = add_modulo(y[lane], hash(x[lane], for_y, self.height), self.height));
            (0..LANES).for_each(|lane| x[lane] = add_modulo(x[lane], hash(y[lane], for_x, self.width), self.width));
        }
        let mut indices = [0; LANES];
        (0..LANES).for_each(|lane| indices[lane] = (y[lane] & LOW) * (self.width & LOW) + x[lane]);
        if indices.iter().fold(false, |beyond, &index| beyond | (index >= self.len)) {
            // In other lanes are pairs from which a walk may never end.
            for (lane, index) in indices.iter_mut().enumerate().take(count) {
                if *index >= self.len {
                    *index = self.walk(key, (x[lane], y[lane]));
                }
            }
        }
        indices
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
    fn network(&self, key: &Key, (mut x, mut y): (u64, u64)) -> (u64, u64) {
        for round in (0..self.num_rounds).step_by(2) {
            let (for_y, for_x) = (round_key(key, round), round_key(key, round + 1));
            y = add_modulo(y, hash(x, for_y, self.height), self.height);
            x = add_modulo(x, hash(y, for_x, self.width), self.width);
        }
        (x, y)
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
            (x, y) = self.network(key, (x, y));
        }
    }

    /// Follows one position through the exchanges of `i` and a draw from `0..=i`, for `i` from 1 up.
    #[inline]
    fn follow(&self, key: &Key, position: u64) -> u64 {
        let mut at = position;
        self.draws(key, |i, j| {
            // Selections, not branches: which one is taken cannot be foreseen. Nor is it worth a branch that the exchanges before
            // the position's own change nothing.
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

/// The key of a round, below 2^32: the halves of the key's words, and then those of the words moved on by a constant.
#[inline(always)]
fn round_key(Key(words): &Key, round: usize) -> u64 {
    let word = words[round % 4].wrapping_add(GOLDEN.wrapping_mul(round as u64 / 8));
    word >> (round / 4 % 2 * 32) & LOW
}

/// A keyed hash of `value` in `0..range`, all of them below 2^32.
///
/// All products are of two numbers below 2^32, as vectors have no others. The bias of one hash is `range` / 2^32 at most, and
/// that of the four to six that add up to a row or a column about the product of theirs: 2 x 10^-5 below 2^56 samples with
/// eight rounds, 2 x 10^-4 at 2^60 with twelve.
#[inline(always)]
fn hash(value: u64, key: u64, range: u64) -> u64 {
    let product = (value.wrapping_add(key) & LOW) * HASH_1;
    // Without this step the hash is linear, and 10 rounds of it still fail at length 100.
    let folded = (product ^ product >> 32) & LOW;
    // From the middle, where a bit depends on all that are below it and on none that is above it.
    let bits = (folded * HASH_2) >> 16 & LOW;
    (bits * (range & LOW)) >> 32
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(MULTIPLY_1);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(MULTIPLY_2);
    bits ^ (bits >> 31)
}

/// `a + b` modulo `range`, for `a` and `b` below it and a range below 2^62.
#[inline(always)]
fn add_modulo(a: u64, b: u64, range: u64) -> u64 {
    // The difference in the brackets is ready before `b` is, and a sign is what vectors select by.
    let wrapped = b.wrapping_sub(range.wrapping_sub(a));
    select_unpredictable((wrapped as i64) < 0, a.wrapping_add(b), wrapped)
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

    /// With the vectors that this machine has and with those that every machine has.
    #[test]
    fn many_at_once_are_what_each_is_by_itself() {
        for len in [65, 100, 4096, 65_537, (1 << 40) + 1, 1 << 57, 1 << 63] {
            let (permutation, key) = (Permutation::new(len), Mixer::new(1, 1).with(len).key());
            for (count, step) in
                [1, 2, 31, 32, 33, 64].into_iter().flat_map(|count| [1, 2, len].map(|step| (count, step)))
            {
                // The last position is among them, after which there are lanes to spare, or none. At length 4,096 a chunk of
                // every second position is a whole row of the grid.
                let step = step.min((len - 1) / (count - 1).max(1));
                let first = len - 1 - (count - 1) * step;
                let expected: Vec<u64> = (0..count).map(|at| permutation.at(&key, first + at * step)).collect();
                for level in [Level::new(), Level::baseline()] {
                    let mut out = vec![0; count as usize];
                    dispatch!(level, simd => permutation.fill_long(simd, &key, first, step, &mut out));
                    assert_eq!(out, expected, "{count} of {len}, {step} apart, {level:?}");
                }
                let mut out = vec![0; count as usize];
                permutation.fill(&key, first, step, &mut out);
                assert_eq!(out, expected, "{count} of {len}, {step} apart");
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
        for range in [1, 2, 7, 1 << 32, 1 << 61] {
            for a in [0, range / 2, range - 1] {
                for b in [0, range / 2, range - 1] {
                    assert_eq!(add_modulo(a, b, range), (a + b) % range);
                }
            }
        }
    }
}
