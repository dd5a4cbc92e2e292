use std::collections::BTreeMap;

use super::permutation::Permutation;
use super::{ORDER, Sampler, check_len, check_position, check_run};
use crate::rng::{Mixer, fingerprint};
use crate::{Error, Result};

const BALANCED: u64 = u64::from_le_bytes(*b"balanced");

/// Every class equally often in an epoch, shuffled.
///
/// By default a class comes as often as the largest class has members, so that every sample comes at least once;
/// [`smallest`](Self::smallest) and [`per_class`](Self::per_class) change that. Within a class no member comes more than
/// once more often than another; which members those are is drawn anew in every epoch. It does not balance each batch,
/// only the epoch.
///
/// # Determinism
///
/// The order is a function of labels, number per class, seed and epoch.
///
/// # Cost
///
/// 8 bytes a label, and two permutations an index.
///
/// # Examples
///
/// ```
/// use procession::{ClassBalanced, Sampler};
///
/// let labels = [0, 0, 0, 0, 1, 1];
/// let sampler = ClassBalanced::new(&labels, 7)?;
/// assert_eq!(sampler.len(), 8);
/// let ones = (0..8).filter(|&position| labels[sampler.index(0, position) as usize] == 1).count();
/// assert_eq!(ones, 4);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClassBalanced {
    /// The indices of the samples, class after class.
    members: Vec<u64>,
    classes: Vec<Class>,
    per_class: u64,
    order: Permutation,
    seed: u64,
    fingerprint: u64,
    keys: Mixer,
}

/// A run of members.
#[derive(Debug, Clone)]
struct Class {
    start: usize,
    order: Permutation,
}

impl ClassBalanced {
    /// Makes a sampler for samples of which `labels[index]` is the class.
    ///
    /// # Errors
    ///
    /// If there is no label.
    pub fn new(labels: &[u32], seed: u64) -> Result<Self> {
        if labels.is_empty() {
            return Err(Error::argument("no labels: at least one is needed"));
        }
        let mut by_class = BTreeMap::<u32, Vec<u64>>::new();
        for (index, &label) in labels.iter().enumerate() {
            by_class.entry(label).or_default().push(index as u64);
        }
        let mut members = Vec::with_capacity(labels.len());
        let mut classes = Vec::with_capacity(by_class.len());
        for class in by_class.into_values() {
            classes.push(Class { start: members.len(), order: Permutation::new(class.len() as u64) });
            members.extend(class);
        }
        let sampler = Self {
            members,
            classes,
            per_class: 0,
            order: Permutation::new(0),
            seed,
            fingerprint: fingerprint(labels.iter().map(|&label| u64::from(label))),
            keys: Mixer::new(ORDER, BALANCED).with(seed),
        };
        let largest = sampler.sizes().max().unwrap_or(0);
        Ok(sampler.per_class(largest))
    }

    /// Lets every class come as often as the smallest class has members: no sample comes twice, and some do not come.
    pub fn smallest(self) -> Self {
        let smallest = self.sizes().min().unwrap_or(0);
        self.per_class(smallest)
    }

    /// Lets every class come `count` times.
    ///
    /// # Panics
    ///
    /// If that makes an epoch longer than 2^63 positions.
    pub fn per_class(mut self, count: u64) -> Self {
        let len = (self.classes.len() as u64).saturating_mul(count);
        check_len(len);
        self.per_class = count;
        self.order = Permutation::new(len);
        self
    }

    fn sizes(&self) -> impl Iterator<Item = u64> {
        self.classes.iter().map(|class| class.order.len())
    }

    /// The index of the `turn`-th of all turns of all classes, before they are shuffled.
    fn member(&self, keys: Mixer, turn: u64) -> u64 {
        let number = turn / self.per_class;
        let class = &self.classes[number as usize];
        // One order of the members serves all rounds through a class: the turns are shuffled anyway. Members whose place
        // in it is below the remainder come once more than the others.
        let place = turn % self.per_class % class.order.len();
        let key = keys.with(number).key();
        self.members[class.start + class.order.at(&key, place) as usize]
    }
}

impl Sampler for ClassBalanced {
    fn len(&self) -> u64 {
        self.order.len()
    }

    fn bound(&self) -> u64 {
        self.members.len() as u64
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        check_position(self.len(), position);
        let keys = self.keys.with(self.per_class).with(epoch);
        self.member(keys, self.order.at(&keys.key(), position))
    }

    fn fill(&self, epoch: u64, first: u64, step: u64, out: &mut [u64]) {
        check_run(self.len(), first, step, out.len());
        let keys = self.keys.with(self.per_class).with(epoch);
        self.order.fill(&keys.key(), first, step, out);
        out.iter_mut().for_each(|turn| *turn = self.member(keys, *turn));
    }

    fn describe(&self) -> String {
        format!(
            "class_balanced(classes={}, per_class={}, labels={:016x}, seed={})",
            self.classes.len(),
            self.per_class,
            self.fingerprint,
            self.seed
        )
    }

    fn is_permutation(&self) -> bool {
        self.sizes().all(|size| size == self.per_class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each index comes in an epoch.
    fn counts(sampler: &ClassBalanced, epoch: u64) -> Vec<u64> {
        let mut counts = vec![0; sampler.bound() as usize];
        (0..sampler.len()).for_each(|position| counts[sampler.index(epoch, position) as usize] += 1);
        counts
    }

    #[test]
    fn classes_and_members_come_evenly() {
        // Classes of 1, 2, ... 20 members, mixed up.
        let mut labels: Vec<u32> =
            (0..20).flat_map(|class| std::iter::repeat_n(class * 1000, class as usize + 1)).collect();
        labels.sort_by_key(|label| label.wrapping_mul(2_654_435_761));
        let sampler = ClassBalanced::new(&labels, 1).unwrap();
        for (sampler, per_class) in
            [(sampler.clone(), 20), (sampler.clone().smallest(), 1), (sampler.clone().per_class(7), 7)]
        {
            assert_eq!(sampler.len(), 20 * per_class);
            for epoch in 0..5 {
                let counts = counts(&sampler, epoch);
                for class in 0..20 {
                    let size = u64::from(class) + 1;
                    let of_class = || counts.iter().zip(&labels).filter(|(_, label)| **label == class * 1000);
                    assert_eq!(of_class().map(|(count, _)| count).sum::<u64>(), per_class);
                    let expected = per_class / size..=per_class.div_ceil(size);
                    assert!(of_class().all(|(count, _)| expected.contains(count)), "{counts:?}");
                }
            }
        }
    }

    #[test]
    fn epochs_draw_other_members() {
        let sampler = ClassBalanced::new(&[0, 0, 0, 0, 0, 1, 1, 1], 1).unwrap();
        assert!((1..20).any(|epoch| counts(&sampler, epoch) != counts(&sampler, 0)));
        let smallest = sampler.smallest();
        // Each of the five members of class 0 comes in three fifths of the epochs: 600, standard deviation 15.5.
        let mut sums = [0_u64; 8];
        for epoch in 0..1000 {
            counts(&smallest, epoch).into_iter().zip(&mut sums).for_each(|(count, sum)| *sum += count);
        }
        assert!(sums[..5].iter().all(|sum| sum.abs_diff(600) < 93), "{sums:?}");
        assert_eq!(sums[5..], [1000; 3]);
    }

    #[test]
    fn equal_classes_make_a_permutation() {
        let sampler = ClassBalanced::new(&[3, 4, 3, 4], 1).unwrap();
        assert!(sampler.is_permutation());
        assert_eq!(counts(&sampler, 0), [1; 4]);
        assert!(!sampler.per_class(3).is_permutation());
        assert!(ClassBalanced::new(&[3, 4], 1).unwrap().per_class(0).is_empty());
    }

    #[test]
    fn first_values_are_pinned() {
        let mut out = [0; 8];
        ClassBalanced::new(&[0, 0, 0, 0, 1, 1], 7).unwrap().fill(0, 0, 1, &mut out);
        assert_eq!(out, [0, 4, 3, 5, 5, 1, 2, 4]);
        let mut out = [0; 10];
        ClassBalanced::new(&[0, 0, 0, 0, 0, 1, 1, 1], 7).unwrap().fill(0, 0, 1, &mut out);
        assert_eq!(out, [4, 6, 7, 1, 3, 5, 7, 6, 0, 2]);
    }

    #[test]
    fn no_labels() {
        assert_eq!(ClassBalanced::new(&[], 1).unwrap_err().to_string(), "no labels: at least one is needed");
    }
}
