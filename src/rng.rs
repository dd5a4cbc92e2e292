//! Keys and random streams: (seed, epoch, position, purpose) -> 256 bits.
//!
//! Everything random in the crate follows from a key, and a key is a hash of all the words that it belongs to. Words
//! are never added to each other: seed 1 epoch 1 has nothing in common with seed 2 epoch 0.
//!
//! The hash is SipHash-1-3 (Aumasson and Bernstein, 2012, <https://www.aumasson.jp/siphash/siphash.pdf>) over the words
//! in little-endian order. Our deviation: SipHash gives the exclusive or of the four words of its last state, and a key
//! is these four words themselves, as there is no secret to protect. So the exclusive or of a key's words is the
//! published function, which the tests check.
//!
//! A stream is xoshiro256++ 1.0 (Blackman and Vigna, 2019, <https://prng.di.unimi.it/xoshiro256plusplus.c>), started
//! from a key. Both are integer arithmetic modulo 2^64 and give the same on every machine. Their values are pinned:
//! changing them changes every order and every augmentation.

/// What streams handed to the user are keyed with, so that no purpose of theirs meets one of the crate's own.
const VISIT: u64 = u64::from_le_bytes(*b"visit\0\0\0");

/// 256 bits that follow from the words absorbed by a [`Mixer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u64; 4]);

/// A hash in progress: words go in one by one, a [`Key`] comes out.
///
/// It is `Copy`, so that what is the same for a whole epoch (purpose, seed) is absorbed once and kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixer {
    state: [u64; 4],
    num_words: u64,
}

impl Mixer {
    /// Starts from a domain, which says what part of the crate asks, and a purpose within it.
    pub(crate) const fn new(domain: u64, purpose: u64) -> Self {
        Self {
            state: [
                domain ^ 0x736f_6d65_7073_6575,
                purpose ^ 0x646f_7261_6e64_6f6d,
                domain ^ 0x6c79_6765_6e65_7261,
                purpose ^ 0x7465_6462_7974_6573,
            ],
            num_words: 0,
        }
    }

    /// Absorbs a word.
    #[inline]
    pub(crate) fn with(self, word: u64) -> Self {
        Self { state: compress(self.state, word), num_words: self.num_words.wrapping_add(1) }
    }

    /// The key of the words absorbed so far.
    #[inline]
    pub(crate) fn key(self) -> Key {
        // The last block holds the length in bytes in its highest byte, modulo 256.
        let mut state = compress(self.state, self.num_words.wrapping_mul(8) << 56);
        state[2] ^= 0xff;
        for _ in 0..3 {
            sip_round(&mut state);
        }
        Key(state)
    }
}

/// A hash of a table of words that is the same on every machine, for descriptions.
pub(crate) fn fingerprint(words: impl IntoIterator<Item = u64>) -> u64 {
    let [a, b, c, d] = words.into_iter().fold(Mixer::new(0, 0), Mixer::with).key().0;
    a ^ b ^ c ^ d
}

#[inline]
fn compress(mut state: [u64; 4], word: u64) -> [u64; 4] {
    state[3] ^= word;
    sip_round(&mut state);
    state[0] ^= word;
    state
}

#[inline]
fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

/// The high and the low half of a product.
#[inline]
pub(crate) fn widening_mul(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    ((product >> 64) as u64, product as u64)
}

/// One sample's turn: where it stands in the order, and the random streams that belong to it.
///
/// # Determinism
///
/// A stream is a function of seed, epoch, position and purpose. It does not depend on the index of the sample, nor on
/// the worker that loads it.
///
/// # Examples
///
/// ```
/// use procession::Visit;
///
/// let visit = Visit::new(7, 2, 31, 400);
/// assert_eq!((visit.seed(), visit.epoch(), visit.position(), visit.index()), (7, 2, 31, 400));
/// assert_eq!(visit.rng(0).next_u64(), visit.rng(0).next_u64());
/// assert_ne!(visit.rng(0).next_u64(), visit.rng(1).next_u64());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Visit {
    seed: u64,
    epoch: u64,
    position: u64,
    index: u64,
}

impl Visit {
    /// Makes a visit. The loader makes them; this is for testing a transform without one.
    #[inline]
    pub const fn new(seed: u64, epoch: u64, position: u64, index: u64) -> Self {
        Self { seed, epoch, position, index }
    }

    /// The seed of the loader.
    #[inline]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The epoch.
    #[inline]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The sample's place in the epoch's global order.
    #[inline]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The index of the sample in its sequence.
    #[inline]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The random stream of this visit for one purpose, from its start.
    ///
    /// Streams of different purposes are independent: a transform that draws more numbers than before does not change
    /// what another one draws.
    #[inline]
    pub fn rng(&self, purpose: u64) -> VisitRng {
        VisitRng::from_key(Mixer::new(VISIT, purpose).with(self.seed).with(self.epoch).with(self.position).key())
    }
}

/// The random stream of a [`Visit`]. It is not fit for secrets.
///
/// With the feature `rand` it implements `rand_core::TryRng`, and with that `Rng`, for the distributions of the rand
/// ecosystem.
///
/// # Determinism
///
/// The numbers are the same on every machine and in every release with the same major version. A clone goes on with
/// the same numbers as the original.
///
/// # Examples
///
/// ```
/// use procession::Visit;
///
/// let mut rng = Visit::new(7, 0, 0, 0).rng(0);
/// let flip = rng.bool(0.5);
/// let angle = rng.range_f32(-10.0, 10.0);
/// let left = rng.below(32);
/// assert!((-10.0..10.0).contains(&angle) && left < 32);
/// # let _ = flip;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitRng([u64; 4]);

impl VisitRng {
    #[inline]
    pub(crate) fn from_key(Key(mut state): Key) -> Self {
        // The generator stands still at zero. No known key is zero; the guard makes the claim unconditional.
        if state == [0; 4] {
            state[0] = 1;
        }
        Self(state)
    }

    /// 64 random bits.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// assert_ne!(rng.next_u64(), rng.next_u64());
    /// ```
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// 32 random bits: the high half of [`next_u64`](Self::next_u64).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// let high = (rng.clone().next_u64() >> 32) as u32;
    /// assert_eq!(rng.next_u32(), high);
    /// ```
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `[0, 1)`: a multiple of 2^-53, each as likely as any other.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// assert!((0.0..1.0).contains(&rng.uniform()));
    /// ```
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `[0, 1)`: a multiple of 2^-24, each as likely as any other.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// assert!((0.0..1.0).contains(&rng.uniform_f32()));
    /// ```
    #[inline]
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// A number in `[low, high)`, or `low` when both are equal.
    ///
    /// # Panics
    ///
    /// If `low` is above `high`, or either or their difference is not finite.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// assert!((0.8..1.2).contains(&rng.range_f32(0.8, 1.2)));
    /// ```
    #[inline]
    pub fn range_f32(&mut self, low: f32, high: f32) -> f32 {
        let width = high - low;
        assert!(low <= high && width.is_finite(), "no finite range from {low} to {high}");
        let value = low + width * self.uniform_f32();
        // Rounding can reach the upper end, which does not belong to the range.
        if value >= high && low < high { high.next_down() } else { value }
    }

    /// An integer in `0..limit`, each exactly as likely as any other.
    ///
    /// The method is Lemire's (2019, <https://arxiv.org/abs/1805.10941>): one multiplication, and almost never a second
    /// draw.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// assert!(rng.below(6) < 6);
    /// assert_eq!(rng.below(1), 0);
    /// ```
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "no integer below 0");
        let (mut high, mut low) = widening_mul(self.next_u64(), limit);
        if low < limit {
            // 2^64 modulo `limit`: that many of the 2^64 draws are one too many for some value.
            let excess = limit.wrapping_neg() % limit;
            while low < excess {
                (high, low) = widening_mul(self.next_u64(), limit);
            }
        }
        high
    }

    /// True with a probability of `p`.
    ///
    /// # Panics
    ///
    /// If `p` is not in `[0, 1]`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// assert!(rng.bool(1.0));
    /// assert!(!rng.bool(0.0));
    /// ```
    #[inline]
    pub fn bool(&mut self, p: f64) -> bool {
        assert!((0.0..=1.0).contains(&p), "probability {p} is not in [0, 1]");
        self.uniform() < p
    }

    /// Fills a slice with random bytes. It takes one [`next_u64`](Self::next_u64), in little-endian order, for every
    /// eight bytes and one for what remains.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut rng = procession::Visit::new(0, 0, 0, 0).rng(0);
    /// let mut bytes = [0; 11];
    /// rng.fill_bytes(&mut bytes);
    /// assert_ne!(bytes, [0; 11]);
    /// ```
    pub fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(feature = "rand")]
impl rand_core::TryRng for VisitRng {
    type Error = std::convert::Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.next_u32())
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.next_u64())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn sip(key: [u64; 2], words: &[u64]) -> u64 {
        let [a, b, c, d] = words.iter().fold(Mixer::new(key[0], key[1]), |mixer, &word| mixer.with(word)).key().0;
        a ^ b ^ c ^ d
    }

    fn stream() -> VisitRng {
        Visit::new(1, 2, 3, 4).rng(5)
    }

    #[test]
    fn the_hash_is_siphash() {
        use std::hash::Hasher;
        let words: Vec<u64> = (0..70).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        for key in [[0, 0], [3, 4], [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908], [u64::MAX, 1 << 63]] {
            for len in 0..words.len() {
                let mut hasher = siphasher::sip::SipHasher13::new_with_keys(key[0], key[1]);
                words[..len].iter().for_each(|word| hasher.write(&word.to_le_bytes()));
                assert_eq!(sip(key, &words[..len]), hasher.finish(), "{len} words");
            }
        }
    }

    #[test]
    fn published_xoshiro_vector() {
        // From the state 1, 2, 3, 4, as printed by the authors' C code.
        let mut rng = VisitRng([1, 2, 3, 4]);
        let expected =
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386, 9_228_616_714_210_784_205];
        assert_eq!(expected, std::array::from_fn(|_| rng.next_u64()));
        assert_eq!(VisitRng::from_key(Key([0; 4])).0, [1, 0, 0, 0]);
    }

    #[test]
    fn first_values_are_pinned() {
        let mut rng = stream();
        let values: [u64; 4] = std::array::from_fn(|_| rng.next_u64());
        assert_eq!(values, PINNED);
        let mut bytes = [0; 11];
        stream().fill_bytes(&mut bytes);
        assert_eq!(bytes[..8], PINNED[0].to_le_bytes());
        assert_eq!(bytes[8..], PINNED[1].to_le_bytes()[..3]);
        assert_eq!(stream().next_u32(), (PINNED[0] >> 32) as u32);
    }
    #[test]
    fn what_is_made_of_the_numbers_is_pinned() {
        let draws = |draw: fn(&mut VisitRng) -> f64| {
            let mut rng = stream();
            [draw(&mut rng), draw(&mut rng), draw(&mut rng)]
        };
        let fractions = PINNED.map(|number| (number >> 11) as f64 / (1_u64 << 53) as f64);
        assert_eq!(draws(VisitRng::uniform), fractions[..3]);
        let fractions = PINNED.map(|number| (number >> 40) as f32 / (1 << 24) as f32);
        assert_eq!(draws(|rng| rng.uniform_f32().into()), [0, 1, 2].map(|at| f64::from(fractions[at])));
        let expected = [0, 1, 2].map(|at| f64::from(-3.0 + 5.0 * fractions[at]));
        assert_eq!(draws(|rng| rng.range_f32(-3.0, 2.0).into()), expected);
        let expected = [0, 1, 2].map(|at| ((u128::from(PINNED[at]) * 1000) >> 64) as f64);
        assert_eq!(draws(|rng| rng.below(1000) as f64), expected);
    }

    const PINNED: [u64; 4] = [0x908983282e29bd37, 0x134ebee2b2dded3d, 0x59cb0352858067fd, 0x170e727669959117];

    #[test]
    fn every_word_changes_the_stream() {
        let mut seen = HashSet::new();
        for seed in 0..8 {
            for epoch in 0..8 {
                for position in 0..8 {
                    for purpose in 0..8 {
                        seen.insert(Visit::new(seed, epoch, position, 0).rng(purpose).next_u64());
                    }
                }
            }
        }
        assert_eq!(seen.len(), 8_usize.pow(4), "two of (seed, epoch, position, purpose) share a stream");
        assert_eq!(Visit::new(1, 2, 3, 4).rng(5), Visit::new(1, 2, 3, 99).rng(5), "the index plays no part");
    }

    #[test]
    fn neighbouring_keys_differ_in_half_their_bits() {
        // 256 bits a pair and 3,000 pairs: the mean is 128 with a standard error of 8 / sqrt(3000) = 0.15.
        let mut flipped = [0_u32; 4];
        for n in 0..1000 {
            let base = Mixer::new(1, 1).with(n).with(n).key().0;
            for other in [Mixer::new(1, 1).with(n + 1).with(n), Mixer::new(1, 1).with(n).with(n + 1)] {
                let other = other.key().0;
                (0..4).for_each(|word| flipped[word] += (base[word] ^ other[word]).count_ones());
            }
        }
        for count in flipped {
            // 2,000 pairs of 64 bits: 64,000 expected, standard deviation 179; six of them.
            assert!(count.abs_diff(64_000) < 1_074, "{flipped:?}");
        }
    }

    #[test]
    fn below_is_unbiased() {
        let mut rng = stream();
        let mut counts = [0_u32; 6];
        (0..60_000).for_each(|_| counts[rng.below(6) as usize] += 1);
        // 10,000 expected each, standard deviation 91; six of them.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 548), "{counts:?}");

        // Of 2^64 draws for 3/4 of as many values, every third value would get two without a second draw.
        let thirds = (0..30_000).filter(|_| rng.below(3 << 62).is_multiple_of(3)).count();
        assert!(thirds.abs_diff(10_000) < 490, "{thirds}");
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn floats_stay_in_their_ranges() {
        let mut rng = VisitRng([u64::MAX, 0, 0, 0]);
        // The first draw of this state is all ones: the largest number of each kind.
        assert!(rng.clone().next_u64() > u64::MAX - (1 << 30), "{:x}", rng.clone().next_u64());
        assert!(rng.clone().uniform() < 1.0);
        assert!(rng.clone().uniform_f32() < 1.0);
        assert!(rng.clone().range_f32(1.0, 1.0 + f32::EPSILON) < 1.0 + f32::EPSILON);
        assert_eq!(rng.range_f32(3.0, 3.0), 3.0);
        let mut rng = stream();
        let mean = (0..10_000).map(|_| rng.uniform()).sum::<f64>() / 10_000.0;
        // The standard error is 0.0029; six of them.
        assert!((mean - 0.5).abs() < 0.0174, "{mean}");
        let hits = (0..10_000).filter(|_| rng.bool(0.3)).count();
        assert!(hits.abs_diff(3_000) < 275, "{hits}");
    }

    #[test]
    #[should_panic(expected = "no integer below 0")]
    fn nothing_is_below_zero() {
        stream().below(0);
    }

    #[test]
    #[should_panic(expected = "probability 1.5 is not in [0, 1]")]
    fn a_probability_is_at_most_one() {
        stream().bool(1.5);
    }

    #[test]
    #[should_panic(expected = "no finite range from 2 to 1")]
    fn a_range_is_not_backwards() {
        stream().range_f32(2.0, 1.0);
    }

    #[cfg(feature = "rand")]
    #[test]
    fn the_rand_ecosystem_sees_the_same_numbers() {
        fn draw(rng: &mut impl rand_core::Rng) -> (u64, u32) {
            (rng.next_u64(), rng.next_u32())
        }
        let mut own = stream();
        assert_eq!(draw(&mut stream()), (own.next_u64(), own.next_u32()));
        let (mut bytes, mut expected) = ([0; 11], [0; 11]);
        rand_core::Rng::fill_bytes(&mut stream(), &mut bytes);
        stream().fill_bytes(&mut expected);
        assert_eq!(bytes, expected);
    }
}
