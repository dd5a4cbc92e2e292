use super::permutation::Permutation;
use super::{ORDER, Sampler, check_run, run_before};
use crate::rng::{Mixer, fingerprint, widening_mul};
use crate::{Error, Result};

const BUCKETS: u64 = u64::from_le_bytes(*b"buckets\0");

/// What a key below (seed, epoch) is for.
const OF_BATCHES: u64 = 0;
const OF_SAMPLES: u64 = 1;
const OF_REST: u64 = 2;

/// Shuffles so that the samples of a batch have similar lengths, and little of it is padding.
///
/// The samples are sorted by length and cut into buckets of whole batches. In every epoch each bucket is shuffled, and
/// so are the batches of all buckets together: which samples meet in a batch is drawn anew, from one bucket, and short
/// and long batches come mixed. More buckets leave less padding and give each sample fewer others to meet.
///
/// What remains beyond whole batches makes the last, smaller batch of the epoch: a run of the samples sorted by length,
/// which begins anywhere, drawn anew in every epoch. So each sample is as likely as any other to be left out by
/// [`Tail::Drop`](crate::Tail::Drop). `batch_size` is to be that of the loader, over all ranks together; with another one
/// every index still comes once, but batches hold samples of two or more buckets.
///
/// For 100,000 samples whose lengths are spread log-normally (sigma 0.7, median 100), in batches of 32, the share of
/// padding is:
///
/// | buckets | padding |
/// |---|---|
/// | 1, a plain shuffle | 71.6 % |
/// | 3 | 52.3 % |
/// | 10 | 29.6 % |
/// | 30 | 14.4 % |
/// | 100 | 6.0 % |
///
/// # Determinism
///
/// The order is a function of lengths, batch size, number of buckets, seed and epoch.
///
/// # Cost
///
/// 4 bytes a sample, for the indices by length, and two permutations an index.
///
/// # Examples
///
/// ```
/// use procession::{LengthBuckets, Loader, collate};
///
/// let sentences: Vec<Vec<u32>> = (0..1_000).map(|n| vec![n; 1 + n as usize * 7 % 100]).collect();
/// let buckets = LengthBuckets::new(sentences.iter().map(Vec::len), 20, 10, 7)?;
/// let loader = Loader::builder(sentences)
///     .collate_with(collate::pad(0))
///     .sampler(buckets)
///     .batch_size(20)
///     .build()?;
/// for batch in loader.epoch(0) {
///     let batch = batch?;
///     let (longest, shortest) = (batch.lengths.iter().max(), batch.lengths.iter().min());
///     assert!(longest.unwrap() - shortest.unwrap() < 10);
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LengthBuckets {
    /// The indices of the samples, from the shortest to the longest.
    by_length: Vec<u32>,
    batch_size: u64,
    num_buckets: u64,
    /// Whole batches, and the samples beyond them.
    num_batches: u64,
    num_rest: u64,
    batches: Permutation,
    /// The permutations of a bucket with as many batches as the fewest have, and with one more.
    within: [Permutation; 2],
    within_rest: Permutation,
    seed: u64,
    fingerprint: u64,
    keys: Mixer,
}

impl LengthBuckets {
    /// Makes a sampler for samples of which `lengths` are the lengths, by index. There are at most as many buckets as
    /// whole batches.
    ///
    /// # Errors
    ///
    /// If there are 2^32 samples or more: an error of kind [`Argument`](crate::ErrorKind::Argument).
    ///
    /// # Panics
    ///
    /// If `batch_size` or `num_buckets` is 0.
    pub fn new(lengths: impl IntoIterator<Item = usize>, batch_size: u64, num_buckets: u64, seed: u64) -> Result<Self> {
        assert!(batch_size > 0, "batches of 0 samples: at least 1 is needed");
        assert!(num_buckets > 0, "0 buckets: at least 1 is needed");
        let lengths: Vec<usize> = lengths.into_iter().collect();
        let len = u32::try_from(lengths.len())
            .map_err(|_| Error::argument(format!("{} lengths: fewer than 2^32 are supported", lengths.len())))?;
        let mut by_length: Vec<u32> = (0..len).collect();
        by_length.sort_by_key(|&index| lengths[index as usize]);
        let fingerprint = fingerprint(lengths.iter().map(|&length| length as u64));

        let num_batches = u64::from(len) / batch_size;
        let num_rest = u64::from(len) % batch_size;
        let num_buckets = num_buckets.clamp(1, num_batches.max(1));
        let fewest = num_batches / num_buckets;
        // A bucket with one more than all of the batches does not occur, and may not fit.
        let samples = |batches: u64| batches.min(num_batches) * batch_size;
        Ok(Self {
            by_length,
            batch_size,
            num_buckets,
            num_batches,
            num_rest,
            batches: Permutation::new(num_batches),
            within: [fewest, fewest + 1].map(|batches| Permutation::new(samples(batches))),
            within_rest: Permutation::new(num_rest),
            seed,
            fingerprint,
            keys: Mixer::new(ORDER, BUCKETS).with(seed).with(fingerprint).with(batch_size).with(num_buckets),
        })
    }

    /// The number of the first batch of a bucket, in the order of lengths.
    fn first_batch(&self, bucket: u64) -> u64 {
        // Both factors are below 2^32.
        bucket * self.num_batches / self.num_buckets
    }

    /// The bucket of a batch, in the order of lengths: the last one whose first batch is not beyond it.
    fn bucket(&self, batch: u64) -> u64 {
        ((batch + 1) * self.num_buckets - 1) / self.num_batches
    }

    fn order(&self, epoch: u64) -> Order<'_> {
        let keys = self.keys.with(epoch);
        let (rest_start, _) = widening_mul(keys.with(OF_REST).key().0[0], self.by_length.len() as u64);
        Order { buckets: self, keys, rest_start }
    }
}

/// The order of an epoch. A place is one in the order of lengths.
struct Order<'a> {
    buckets: &'a LengthBuckets,
    keys: Mixer,
    /// The first place of the samples beyond whole batches. They go on at the shortest sample behind the longest one.
    rest_start: u64,
}

impl Order<'_> {
    /// Writes the indices at the positions `first`, `first + step`, ... of a batch of the epoch; of the last, smaller one
    /// where the number is that of whole batches.
    fn fill_batch(&self, number: u64, first: u64, step: u64, out: &mut [u64]) {
        let Self { buckets: all, keys, rest_start } = *self;
        if number == all.num_batches {
            // A key that no bucket has.
            all.within_rest.fill(&keys.with(OF_REST).with(0).key(), first, step, out);
            return self.place(out, |sample| rest_start + sample);
        }
        let batch = all.batches.at(&keys.with(OF_BATCHES).key(), number);
        let bucket = all.bucket(batch);
        let start = all.first_batch(bucket);
        let has_more = all.first_batch(bucket + 1) - start > all.num_batches / all.num_buckets;
        let key = keys.with(OF_SAMPLES).with(bucket).key();
        all.within[usize::from(has_more)].fill(&key, (batch - start) * all.batch_size + first, step, out);
        // The buckets are cut from what the rest leaves: from the places behind it if it goes on at the shortest sample.
        let goes_on = (rest_start + all.num_rest).saturating_sub(all.by_length.len() as u64);
        self.place(out, |sample| {
            let place = start * all.batch_size + sample + goes_on;
            if place < rest_start { place } else { place + all.num_rest }
        });
    }

    /// Takes samples to their places, and writes the indices there.
    fn place(&self, out: &mut [u64], place: impl Fn(u64) -> u64) {
        let by_length = &self.buckets.by_length;
        for sample in out {
            let place = place(*sample) as usize;
            let place = if place < by_length.len() { place } else { place - by_length.len() };
            *sample = u64::from(by_length[place]);
        }
    }
}

impl Sampler for LengthBuckets {
    fn len(&self) -> u64 {
        self.by_length.len() as u64
    }

    fn bound(&self) -> u64 {
        self.len()
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        let mut out = [0];
        self.fill(epoch, position, 1, &mut out);
        out[0]
    }

    fn fill(&self, epoch: u64, first: u64, step: u64, mut out: &mut [u64]) {
        check_run(self.len(), first, step, out.len());
        let order = self.order(epoch);
        let mut position = first;
        while !out.is_empty() {
            let number = position / self.batch_size;
            let start = number * self.batch_size;
            let end = start.saturating_add(self.batch_size).min(self.len());
            let run = run_before(end, position, step, out.len());
            let (here, rest) = out.split_at_mut(run);
            order.fill_batch(number, position - start, step, here);
            position = position.wrapping_add(step.wrapping_mul(run as u64));
            out = rest;
        }
    }

    fn describe(&self) -> String {
        let Self { batch_size, num_buckets, seed, fingerprint, .. } = self;
        format!(
            "length_buckets(len={}, lengths={fingerprint:016x}, batch_size={batch_size}, num_buckets={num_buckets}, \
             seed={seed})",
            self.len()
        )
    }

    fn is_permutation(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plan, Tail, Visit, World};

    /// Lengths that are spread log-normally: median 100, and sigma 0.7.
    fn lengths(len: u64) -> Vec<usize> {
        let normal = |index| {
            let mut rng = Visit::new(1, 0, index, 0).rng(0);
            let (radius, angle) = (-2.0 * (1.0 - rng.uniform()).ln(), std::f64::consts::TAU * rng.uniform());
            radius.sqrt() * angle.cos()
        };
        (0..len).map(|index| (100.0 * (0.7 * normal(index)).exp()).ceil() as usize).collect()
    }

    fn epoch(sampler: &LengthBuckets, epoch: u64) -> Vec<u64> {
        let mut order = vec![0; sampler.len() as usize];
        sampler.fill(epoch, 0, 1, &mut order);
        order
    }

    /// The share of padding in the batches of an epoch.
    fn padding(sampler: &LengthBuckets, lengths: &[usize]) -> f64 {
        let (mut samples, mut cells) = (0, 0);
        for batch in epoch(sampler, 0).chunks(sampler.batch_size as usize) {
            let lengths = || batch.iter().map(|&index| lengths[index as usize]);
            samples += lengths().sum::<usize>();
            cells += batch.len() * lengths().max().unwrap();
        }
        1.0 - samples as f64 / cells as f64
    }

    #[test]
    fn padding_is_what_the_documentation_says() {
        let lengths = lengths(100_000);
        for (num_buckets, percent) in [(1, 71.6), (3, 52.3), (10, 29.6), (30, 14.4), (100, 6.0)] {
            let sampler = LengthBuckets::new(lengths.iter().copied(), 32, num_buckets, 7).unwrap();
            let share = 100.0 * padding(&sampler, &lengths);
            // The lengths are made by functions that may be rounded differently elsewhere.
            assert!((share - percent).abs() < 0.1, "{share} % with {num_buckets} buckets");
        }
    }

    #[test]
    fn a_batch_is_of_one_bucket_and_every_index_comes_once() {
        for (len, batch_size, num_buckets) in
            [(0, 4, 3), (1, 4, 3), (3, 4, 3), (4, 4, 3), (5, 4, 1), (40, 4, 3), (43, 4, 3), (43, 4, 99), (1000, 7, 13)]
        {
            // Each length once, so that a length is a place in the order of lengths.
            let lengths: Vec<usize> = (0..len).map(|index| index * 7919 % 1_000_003).collect();
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            let place = |index: u64| sorted.binary_search(&lengths[index as usize]).unwrap();
            let sampler = LengthBuckets::new(lengths.iter().copied(), batch_size, num_buckets, 5).unwrap();
            for number in 0..20 {
                let order = epoch(&sampler, number);
                let mut indices = order.clone();
                indices.sort_unstable();
                assert!(indices.into_iter().eq(0..len as u64), "{sampler:?}");
                // No batch is spread over more places than the largest bucket has.
                let whole = len as u64 / batch_size;
                let widest = whole.div_ceil(num_buckets.clamp(1, whole.max(1))) * batch_size + len as u64 % batch_size;
                for batch in order.chunks_exact(batch_size as usize) {
                    let places = || batch.iter().map(|&index| place(index));
                    let spread = places().max().unwrap() - places().min().unwrap();
                    assert!((spread as u64) < widest, "{spread} of {widest}: {}", sampler.describe());
                }
                // The rest is a run of places, which may go on at the first one: one of them has none before it.
                let rest: Vec<usize> =
                    order.chunks_exact(batch_size as usize).remainder().iter().map(|&index| place(index)).collect();
                let starts = rest.iter().filter(|&&place| !rest.contains(&((place + len - 1) % len))).count();
                assert!(starts <= 1, "{rest:?}");
            }
        }
    }

    #[test]
    fn buckets_are_as_equal_as_they_can_be() {
        for (num_batches, num_buckets) in [(1, 1), (7, 3), (100, 7), (12, 12), (1000, 1)] {
            let sampler = LengthBuckets::new(0..num_batches * 2, 2, num_buckets as u64, 0).unwrap();
            let mut sizes = vec![0; num_buckets];
            (0..num_batches as u64).for_each(|batch| sizes[sampler.bucket(batch) as usize] += 1);
            for (bucket, size) in sizes.iter().enumerate() {
                assert_eq!(*size, sampler.first_batch(bucket as u64 + 1) - sampler.first_batch(bucket as u64));
                assert!([num_batches / num_buckets, num_batches.div_ceil(num_buckets)].contains(&(*size as usize)));
            }
        }
    }

    #[test]
    fn equal_lengths_keep_their_order_in_the_table() {
        assert_eq!(LengthBuckets::new([3, 1, 3, 1, 2], 2, 2, 0).unwrap().by_length, [1, 3, 4, 0, 2]);
    }

    #[test]
    fn epochs_draw_other_batches() {
        let sampler = LengthBuckets::new(0..1003, 10, 5, 3).unwrap();
        let batches = |number| {
            let order = epoch(&sampler, number);
            let mut batches: Vec<Vec<u64>> = order.chunks(10).map(<[u64]>::to_vec).collect();
            batches.iter_mut().for_each(|batch| batch.sort_unstable());
            batches
        };
        let (first, second) = (batches(0), batches(1));
        assert!(first.iter().all(|batch| !second.contains(batch)), "the same samples meet again");
        // Buckets come mixed: the means of batches do not rise.
        let means: Vec<u64> = first.iter().map(|batch| batch.iter().sum::<u64>() / batch.len() as u64).collect();
        assert!((10..90).contains(&means.windows(2).filter(|pair| pair[0] < pair[1]).count()), "{means:?}");
    }

    #[test]
    fn no_length_is_preferred_in_what_is_dropped() {
        // 4 of 24 samples are left out of each of 6,000 epochs: each 1,000 times, standard deviation 29.
        let sampler = LengthBuckets::new(0..24, 5, 2, 3).unwrap();
        let plan = Plan::new(sampler, 5).unwrap().tail(Tail::Drop);
        let mut seen = [0_i64; 24];
        for epoch in 0..6000 {
            for batch in 0..plan.num_batches() {
                plan.indices(epoch, batch).iter().for_each(|&index| seen[index as usize] += 1);
            }
        }
        assert!(seen.iter().all(|seen| (seen - 5000).abs() < 180), "{seen:?}");
    }

    #[test]
    fn ranks_and_tails_share_the_order() {
        let sampler = LengthBuckets::new((0..103).map(|index| index * 31 % 103), 10, 4, 3).unwrap();
        let order = epoch(&sampler, 2);
        let part = |rank, size, tail| {
            let plan = Plan::new(sampler.clone(), 10).unwrap().tail(tail).world(World::new(rank, size).unwrap());
            (0..plan.num_batches()).map(|batch| plan.indices(2, batch)).collect::<Vec<_>>()
        };
        for (tail, expected) in [
            (Tail::Keep, order.clone()),
            (Tail::Drop, order[..100].to_vec()),
            (Tail::Pad, [&order[..], &order[..7]].concat()),
        ] {
            assert_eq!(part(0, 1, tail).concat(), expected);
            let parts = [0, 1, 2].map(|rank| part(rank, 3, tail));
            for (number, batch) in expected.chunks(10).enumerate() {
                let mut together: Vec<u64> = parts.iter().flat_map(|part| part[number].clone()).collect();
                let mut batch = batch.to_vec();
                together.sort_unstable();
                batch.sort_unstable();
                assert_eq!(together, batch);
            }
        }
    }

    #[test]
    fn first_values_are_pinned() {
        let mut out = [0; 10];
        LengthBuckets::new([5, 1, 4, 1, 5, 9, 2, 6, 5, 3], 3, 2, 7).unwrap().fill(0, 0, 1, &mut out);
        assert_eq!(out, [9, 8, 2, 6, 3, 1, 0, 5, 4, 7]);
        assert!(
            LengthBuckets::new([5, 1, 4], 3, 2, 7).unwrap().is_permutation()
                && super::super::InOrder::new(3).is_permutation()
        );
    }

    #[test]
    fn every_parameter_is_described_and_matters() {
        let of = |lengths: &[usize], batch_size, num_buckets, seed| {
            LengthBuckets::new(lengths.iter().copied(), batch_size, num_buckets, seed).unwrap()
        };
        let lengths: Vec<usize> = (0..200).collect();
        let others: Vec<usize> = (0..200).rev().collect();
        let samplers = [
            of(&lengths, 10, 4, 1),
            of(&others, 10, 4, 1),
            of(&lengths, 11, 4, 1),
            of(&lengths, 10, 5, 1),
            of(&lengths, 10, 4, 2),
        ];
        for (at, sampler) in samplers.iter().enumerate() {
            for other in &samplers[..at] {
                assert_ne!(sampler.describe(), other.describe());
                assert_ne!(epoch(sampler, 0), epoch(other, 0));
            }
        }
        // More buckets than batches are as many as batches.
        assert_eq!(of(&lengths, 10, 20, 1).describe(), of(&lengths, 10, 99, 1).describe());
        assert!(of(&lengths, 10, 99, 1).describe().contains("len=200, "));
    }

    #[test]
    fn a_batch_larger_than_everything_is_one_batch() {
        for batch_size in [100, u64::MAX] {
            let sampler = LengthBuckets::new(0..50, batch_size, 3, 1).unwrap();
            let mut order = epoch(&sampler, 0);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..50));
        }
    }

    #[test]
    #[should_panic(expected = "batches of 0 samples")]
    fn a_batch_holds_something() {
        drop(LengthBuckets::new([1], 0, 1, 1));
    }

    #[test]
    #[should_panic(expected = "0 buckets")]
    fn there_is_a_bucket() {
        drop(LengthBuckets::new([1], 1, 0, 1));
    }
}
