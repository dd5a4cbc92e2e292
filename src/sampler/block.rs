use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::permutation::Permutation;
use super::{MAX_LEN, ORDER, Sampler, check_len, check_run, run_before};
use crate::rng::{Key, Mixer, fingerprint, widening_mul};
use crate::{Error, Result};

const BLOCK: u64 = u64::from_le_bytes(*b"block\0\0\0");
const LENGTHS: u64 = u64::from_le_bytes(*b"lengths\0");

/// What a key below (seed, epoch) is for.
const OF_BLOCKS: u64 = 0;
const OF_SAMPLES: u64 = 1;

/// Shuffles blocks of consecutive samples, and the samples within each span of `span` blocks that follow each other in
/// the shuffled order.
///
/// Only `span` blocks are read from at a time, so that data in shards, or on a disk that is slow to seek, is read in
/// large pieces. A block is a fixed range of indices, the same in every epoch; which blocks share a span is drawn anew.
/// The shuffle is as thorough as a span is large.
///
/// # Determinism
///
/// The order is a function of the lengths of the blocks, span, seed and epoch.
///
/// # Cost
///
/// Blocks of one length need no memory. Blocks of different lengths need 8 bytes each, and once more some 40 bytes each
/// for the two epochs used last, which are computed when an epoch is first asked for. `index` and `fill` then take a
/// lock for the time of a copied pointer.
///
/// # Examples
///
/// ```
/// use procession::{BlockShuffle, Sampler};
///
/// let sampler = BlockShuffle::new(100, 10, 2, 7);
/// let mut blocks: Vec<u64> = (0..20).map(|position| sampler.index(0, position) / 10).collect();
/// blocks.sort();
/// blocks.dedup();
/// assert_eq!(blocks.len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct BlockShuffle {
    blocks: Blocks,
    seed: u64,
    keys: Mixer,
}

#[derive(Debug, Clone)]
enum Blocks {
    Equal(Box<Equal>),
    Listed(Arc<Listed>),
}

impl BlockShuffle {
    /// Makes a shuffle of `0..len` in blocks of `block`; the last one may be shorter.
    ///
    /// # Panics
    ///
    /// If `block` or `span` is 0, or `len` is above 2^63.
    pub fn new(len: u64, block: u64, span: u64, seed: u64) -> Self {
        check_len(len);
        assert!(block > 0, "blocks of 0 samples: at least 1 is needed");
        assert!(span > 0, "a span of 0 blocks: at least 1 is needed");
        let block = block.min(len.max(1));
        let span = span.min(len.div_ceil(block).max(1));
        let keys = Mixer::new(ORDER, BLOCK).with(seed).with(len).with(block).with(span);
        Self { blocks: Blocks::Equal(Box::new(Equal::new(len, block, span))), seed, keys }
    }

    /// Makes a shuffle of blocks of the given lengths, such as shards. The first block holds the first indices; a block
    /// may be empty.
    ///
    /// # Errors
    ///
    /// If the lengths add up to more than 2^63.
    ///
    /// # Panics
    ///
    /// If `span` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{BlockShuffle, Sampler};
    ///
    /// let sampler = BlockShuffle::from_lengths([100, 80, 120], 1, 7)?;
    /// assert_eq!(sampler.len(), 300);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn from_lengths(lengths: impl IntoIterator<Item = u64>, span: u64, seed: u64) -> Result<Self> {
        assert!(span > 0, "a span of 0 blocks: at least 1 is needed");
        let mut starts = vec![0_u64];
        for (block, length) in lengths.into_iter().enumerate() {
            let end = starts[block].checked_add(length).filter(|&end| end <= MAX_LEN).ok_or_else(|| {
                Error::argument(format!("the lengths of the blocks up to block {block} add up to more than {MAX_LEN}"))
            })?;
            starts.push(end);
        }
        let span = span.min((starts.len() as u64 - 1).max(1));
        let fingerprint = fingerprint(starts.iter().copied());
        let keys = Mixer::new(ORDER, LENGTHS).with(seed).with(fingerprint).with(span);
        let listed = Listed { starts, span, fingerprint, recent: Recent::default() };
        Ok(Self { blocks: Blocks::Listed(Arc::new(listed)), seed, keys })
    }
}

impl Sampler for BlockShuffle {
    fn len(&self) -> u64 {
        match &self.blocks {
            Blocks::Equal(equal) => equal.len,
            Blocks::Listed(listed) => listed.len(),
        }
    }

    fn bound(&self) -> u64 {
        self.len()
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        let mut out = [0];
        self.fill(epoch, position, 1, &mut out);
        out[0]
    }

    fn fill(&self, epoch: u64, first: u64, step: u64, out: &mut [u64]) {
        check_run(self.len(), first, step, out.len());
        if out.is_empty() {
            return;
        }
        let keys = self.keys.with(epoch);
        match &self.blocks {
            Blocks::Equal(equal) => {
                let order = equal.order(keys);
                fill_spans(first, step, out, |position| order.span(position), |slot| order.block(slot));
            }
            Blocks::Listed(listed) => {
                let order = listed.recent.order(epoch, || listed.order(keys));
                let start = |slot| listed.starts[order.blocks[slot as usize] as usize];
                fill_spans(first, step, out, |position| order.span(position, keys), start);
            }
        }
    }

    fn describe(&self) -> String {
        let seed = self.seed;
        match &self.blocks {
            Blocks::Equal(equal) => {
                let Equal { len, block, span, .. } = **equal;
                format!("block_shuffle(len={len}, block={block}, span={span}, seed={seed})")
            }
            Blocks::Listed(listed) => format!(
                "block_shuffle(len={}, blocks={}, lengths={:016x}, span={}, seed={seed})",
                listed.len(),
                listed.starts.len() - 1,
                listed.fingerprint,
                listed.span,
            ),
        }
    }

    fn is_permutation(&self) -> bool {
        true
    }
}

/// A run of positions that a span covers, and how its samples are shuffled.
struct Span<F> {
    start: u64,
    permutation: Permutation,
    key: Key,
    /// From a sample of the span to its slot in the order of blocks and its place in the block.
    locate: F,
}

/// Fills `out` span by span. `start_of` gives the first index of the block at a slot.
fn fill_spans<F: Fn(u64) -> (u64, u64)>(
    first: u64,
    step: u64,
    mut out: &mut [u64],
    span_at: impl Fn(u64) -> Span<F>,
    start_of: impl Fn(u64) -> u64,
) {
    let mut position = first;
    while !out.is_empty() {
        let span = span_at(position);
        let run = run_before(span.start + span.permutation.len(), position, step, out.len());
        let (here, rest) = out.split_at_mut(run);
        span.permutation.fill(&span.key, position - span.start, step, here);
        for sample in here {
            let (slot, place) = (span.locate)(*sample);
            *sample = start_of(slot) + place;
        }
        position = position.wrapping_add(step.wrapping_mul(run as u64));
        out = rest;
    }
}

/// Blocks of one length, save the last.
#[derive(Debug, Clone)]
struct Equal {
    len: u64,
    block: u64,
    span: u64,
    num_blocks: u64,
    /// By how much the last block is shorter than the others.
    missing: u64,
    /// The order of the blocks that are not the last one.
    others: Permutation,
    /// The permutations of a span with as many blocks as it should have and of the last one, which may have fewer; each
    /// without and with the short block.
    within: [[Permutation; 2]; 2],
}

impl Equal {
    fn new(len: u64, block: u64, span: u64) -> Self {
        let num_blocks = len.div_ceil(block);
        // The last block is not longer than the data, so that neither product exceeds `len + block`, at most 2^64.
        let missing = (block - len % block) % block;
        let samples = |blocks: u64| u128::from(blocks) * u128::from(block);
        let permutation = |blocks: u64, missing: u64| {
            // A span of every block that lacks the short one does not occur and may not fit.
            Permutation::new((samples(blocks).saturating_sub(u128::from(missing))).min(u128::from(len)) as u64)
        };
        let full = span;
        let last = num_blocks - num_blocks.saturating_sub(1) / span * span;
        Self {
            len,
            block,
            span,
            num_blocks,
            missing,
            others: Permutation::new(num_blocks.saturating_sub(1)),
            within: [full, last].map(|blocks| [permutation(blocks, 0), permutation(blocks, missing)]),
        }
    }

    /// The last block's slot is drawn by itself, and the others are shuffled around it: no inverse is needed to know
    /// where the short block stands.
    fn order(&self, keys: Mixer) -> EqualOrder<'_> {
        let key = keys.with(OF_BLOCKS).key();
        let (short_slot, _) = widening_mul(keys.with(OF_BLOCKS).with(0).key().0[0], self.num_blocks);
        EqualOrder { equal: self, keys, key, short_slot }
    }
}

/// The order of an epoch. A slot is a place in the shuffled order of the blocks.
struct EqualOrder<'a> {
    equal: &'a Equal,
    keys: Mixer,
    key: Key,
    short_slot: u64,
}

impl EqualOrder<'_> {
    /// The first position of a slot.
    fn start(&self, slot: u64) -> u64 {
        // Slots beyond the short one start earlier; for the end of the last one the product may exceed 64 bits by less
        // than what is taken off, which wrapping gets right.
        let start = slot.wrapping_mul(self.equal.block);
        if slot > self.short_slot { start.wrapping_sub(self.equal.missing) } else { start }
    }

    fn slot(&self, position: u64) -> u64 {
        if position < self.start(self.short_slot + 1) {
            // Within the short block the quotient cannot be larger than its slot.
            position / self.equal.block
        } else {
            (position + self.equal.missing) / self.equal.block
        }
    }

    fn span(&self, position: u64) -> Span<impl Fn(u64) -> (u64, u64) + use<'_>> {
        let number = self.slot(position) / self.equal.span;
        let first_slot = number * self.equal.span;
        let start = self.start(first_slot);
        let is_last = self.equal.num_blocks - first_slot <= self.equal.span;
        let has_short = self.short_slot >= first_slot && self.short_slot - first_slot < self.equal.span;
        Span {
            start,
            permutation: self.equal.within[usize::from(is_last)][usize::from(has_short)],
            key: self.keys.with(OF_SAMPLES).with(number).key(),
            locate: move |sample| {
                let slot = self.slot(start + sample);
                (slot, start + sample - self.start(slot))
            },
        }
    }

    /// The first index of the block at a slot.
    fn block(&self, slot: u64) -> u64 {
        let last = self.equal.num_blocks - 1;
        let block = if slot == self.short_slot {
            last
        } else {
            self.equal.others.at(&self.key, slot - u64::from(slot > self.short_slot))
        };
        block * self.equal.block
    }
}

/// Blocks of any lengths.
#[derive(Debug)]
struct Listed {
    /// The first index of each block, and the end.
    starts: Vec<u64>,
    span: u64,
    fingerprint: u64,
    recent: Recent,
}

impl Listed {
    fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    fn order(&self, keys: Mixer) -> ListedOrder {
        let num_blocks = self.starts.len() - 1;
        let mut blocks = vec![0; num_blocks];
        Permutation::new(num_blocks as u64).fill(&keys.with(OF_BLOCKS).key(), 0, 1, &mut blocks);
        let mut slot_starts = Vec::with_capacity(num_blocks + 1);
        let mut position = 0;
        for &block in &blocks {
            slot_starts.push(position);
            position += self.starts[block as usize + 1] - self.starts[block as usize];
        }
        slot_starts.push(position);
        // A span is at most the number of blocks, which fits.
        let span = self.span as usize;
        let within = (0..num_blocks).step_by(span).map(|slot| {
            let end = (slot + span).min(num_blocks);
            Permutation::new(slot_starts[end] - slot_starts[slot])
        });
        ListedOrder { within: within.collect(), blocks, slot_starts, span }
    }
}

/// The order of an epoch, with a table.
#[derive(Debug)]
struct ListedOrder {
    /// The block at each slot.
    blocks: Vec<u64>,
    /// The first position of each slot, and the end.
    slot_starts: Vec<u64>,
    within: Vec<Permutation>,
    span: usize,
}

impl ListedOrder {
    fn slot(&self, position: u64) -> usize {
        // Of several slots that start here, all but the last are empty.
        self.slot_starts.partition_point(|&start| start <= position) - 1
    }

    fn span(&self, position: u64, keys: Mixer) -> Span<impl Fn(u64) -> (u64, u64) + use<'_>> {
        let number = self.slot(position) / self.span;
        let first_slot = number * self.span;
        let start = self.slot_starts[first_slot];
        let end = (first_slot + self.span).min(self.blocks.len());
        let slot_starts = &self.slot_starts[first_slot..end];
        Span {
            start,
            permutation: self.within[number],
            key: keys.with(OF_SAMPLES).with(number as u64).key(),
            locate: move |sample| {
                let slot = slot_starts.partition_point(|&slot_start| slot_start <= start + sample) - 1;
                ((first_slot + slot) as u64, start + sample - slot_starts[slot])
            },
        }
    }
}

/// The tables of the two epochs used last, as the next epoch is begun while this one ends.
///
/// What is kept does not change what is given: a table is a function of its epoch.
#[derive(Default)]
struct Recent(Mutex<[Held; 2]>);

/// An epoch and its table.
type Held = Option<(u64, Arc<ListedOrder>)>;

impl Recent {
    fn order(&self, epoch: u64, make: impl FnOnce() -> ListedOrder) -> Arc<ListedOrder> {
        let find =
            |held: &[Held; 2]| held.iter().flatten().find(|(of, _)| *of == epoch).map(|(_, order)| Arc::clone(order));
        // A panic while the lock is held cannot leave a table half made: it only ever guards pointers.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = find(&lock()) {
            return order;
        }
        // Made without the lock, so that nobody who has a table waits. Two threads may make the same one.
        let order = Arc::new(make());
        let mut held = lock();
        if find(&held).is_none() {
            held.swap(0, 1);
            held[0] = Some((epoch, Arc::clone(&order)));
        }
        order
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Checks one epoch: a permutation of which each span is a union of whole blocks.
    fn check_epoch(sampler: &BlockShuffle, epoch: u64, lengths: &[u64], span: usize) -> Vec<u64> {
        let mut order = vec![0; sampler.len() as usize];
        sampler.fill(epoch, 0, 1, &mut order);
        let ends: Vec<u64> =
            lengths.iter().scan(0, |end, length| Some(*end + length).inspect(|new| *end = *new)).collect();
        let block_of = |index: u64| ends.partition_point(|&end| end <= index);
        let mut rest = &order[..];
        let mut seen = BTreeSet::new();
        while !rest.is_empty() {
            // A span is over when as many samples were seen as its blocks have.
            let mut blocks = BTreeSet::new();
            let mut taken = 0;
            while taken == 0 || (taken as u64) < blocks.iter().map(|&block: &usize| lengths[block]).sum() {
                blocks.insert(block_of(rest[taken]));
                taken += 1;
            }
            let mut indices = rest[..taken].to_vec();
            indices.sort_unstable();
            let expected = blocks.iter().flat_map(|&block| ends[block] - lengths[block]..ends[block]);
            assert!(expected.eq(indices), "{sampler:?} epoch {epoch}");
            assert!(blocks.len() <= span, "{blocks:?} in a span of {span}");
            blocks.iter().for_each(|&block| assert!(seen.insert(block), "block {block} twice"));
            rest = &rest[taken..];
        }
        order
    }

    #[test]
    fn shards_of_one_to_a_hundred() {
        let lengths: Vec<u64> = (1..=100).collect();
        for span in 1..=3 {
            for seed in 0..3 {
                let sampler = BlockShuffle::from_lengths(lengths.clone(), span, seed).unwrap();
                assert_eq!(sampler.len(), 5050);
                let orders: Vec<_> =
                    (0..3).map(|epoch| check_epoch(&sampler, epoch, &lengths, span as usize)).collect();
                assert!(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != orders[2]);
            }
        }
    }

    #[test]
    fn equal_blocks_at_many_sizes() {
        for len in (0..60).chain([100, 257, 1000]) {
            for block in [1, 2, 3, 7, 10, 64, 2000] {
                for span in [1, 2, 3, 5, 1000] {
                    let sampler = BlockShuffle::new(len, block, span, 3);
                    let mut lengths = vec![block; (len / block) as usize];
                    lengths.extend((len % block > 0).then_some(len % block));
                    for epoch in 0..3 {
                        check_epoch(&sampler, epoch, &lengths, span as usize);
                    }
                }
            }
        }
    }

    #[test]
    fn the_short_block_stands_anywhere() {
        // Ten slots, 1,000 epochs: 100 expected in each, standard deviation 9.5; six of them.
        let sampler = BlockShuffle::new(95, 10, 1, 1);
        let mut counts = [0_u32; 10];
        for epoch in 0..1000 {
            let position = (0..95).find(|&position| sampler.index(epoch, position) >= 90).unwrap();
            counts[position as usize / 10] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(100) < 57), "{counts:?}");
    }

    #[test]
    fn the_longest_order() {
        for (block, span) in
            [(1, 1), (1000, 10), (MAX_LEN - 1, 2), (MAX_LEN, 1), (3, MAX_LEN / 4), (u64::MAX, u64::MAX)]
        {
            let sampler = BlockShuffle::new(MAX_LEN, block, span, 1);
            let mut ends = [0; 2];
            sampler.fill(0, 0, MAX_LEN - 1, &mut ends);
            assert!(ends[0] != ends[1] && ends[0] < MAX_LEN && ends[1] < MAX_LEN, "{sampler:?} {ends:?}");
        }
    }

    #[test]
    fn tables_of_several_epochs_at_once() {
        let sampler = BlockShuffle::from_lengths(1..50, 3, 1).unwrap();
        let expected: Vec<u64> =
            (0..5).map(|epoch| BlockShuffle::from_lengths(1..50, 3, 1).unwrap().index(epoch, 77)).collect();
        std::thread::scope(|scope| {
            for shift in 0..4 {
                let (sampler, expected) = (sampler.clone(), &expected);
                scope.spawn(move || {
                    for round in 0..100 {
                        let epoch = (round * (shift + 1)) % 5;
                        assert_eq!(sampler.index(epoch, 77), expected[epoch as usize]);
                    }
                });
            }
        });
    }

    #[test]
    fn first_values_are_pinned() {
        let mut order = [0; 10];
        BlockShuffle::new(10, 3, 2, 7).fill(0, 0, 1, &mut order);
        assert_eq!(order, [8, 6, 7, 9, 3, 4, 5, 2, 1, 0]);
        BlockShuffle::from_lengths([1, 2, 3, 4], 2, 7).unwrap().fill(0, 0, 1, &mut order);
        assert_eq!(order, [2, 1, 5, 4, 3, 7, 8, 0, 9, 6]);
        // A span of more blocks than there are is one of all of them.
        let [all, more] = [4, 100].map(|span| {
            let mut order = [0; 10];
            BlockShuffle::from_lengths([1, 2, 3, 4], span, 7).unwrap().fill(0, 0, 1, &mut order);
            order
        });
        assert_eq!(all, more);
    }

    #[test]
    fn lengths_that_overflow() {
        let error = BlockShuffle::from_lengths([MAX_LEN, 1], 1, 0).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Argument);
        assert!(error.message().contains("block 1"), "{error}");
        assert!(BlockShuffle::from_lengths([], 1, 0).unwrap().is_empty());
    }
}
