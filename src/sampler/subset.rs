use super::{Sampler, Shuffle, check_position};
use crate::rng::fingerprint;

/// The indices of a list, in the list's order or shuffled. An index may stand in the list more than once.
///
/// # Determinism
///
/// The order is a function of the list, and when shuffled of seed and epoch: it is the [`Shuffle`] of the list's length.
///
/// # Cost
///
/// 8 bytes an index, for the list.
///
/// # Examples
///
/// ```
/// use procession::{Sampler, Subset};
///
/// let sampler = Subset::new(vec![8, 3, 5]);
/// assert_eq!((sampler.index(0, 0), sampler.index(4, 2)), (8, 5));
///
/// let shuffled = Subset::shuffled(vec![8, 3, 5], 7);
/// let mut indices = [0; 3];
/// shuffled.fill(0, 0, 1, &mut indices);
/// indices.sort();
/// assert_eq!(indices, [3, 5, 8]);
/// ```
#[derive(Debug, Clone)]
pub struct Subset {
    indices: Vec<u64>,
    bound: u64,
    fingerprint: u64,
    is_permutation: bool,
    shuffle: Option<Shuffle>,
}

impl Subset {
    /// Makes a sampler that gives the indices as they are listed, the same in every epoch.
    ///
    /// # Panics
    ///
    /// If an index is 2^64 - 1, which no sequence has.
    pub fn new(indices: Vec<u64>) -> Self {
        let max = indices.iter().copied().max();
        assert!(max != Some(u64::MAX), "index {}: at most {} is allowed", u64::MAX, u64::MAX - 1);
        Self {
            bound: max.map_or(0, |max| max + 1),
            fingerprint: fingerprint(indices.iter().copied()),
            is_permutation: is_permutation(&indices),
            indices,
            shuffle: None,
        }
    }

    /// Makes a sampler that gives each entry of the list once per epoch, in a new order.
    ///
    /// # Panics
    ///
    /// If an index is 2^64 - 1, which no sequence has.
    pub fn shuffled(indices: Vec<u64>, seed: u64) -> Self {
        let shuffle = Shuffle::new(indices.len() as u64, seed);
        Self { shuffle: Some(shuffle), ..Self::new(indices) }
    }
}

/// Whether a list holds every number below its length once.
fn is_permutation(indices: &[u64]) -> bool {
    let mut seen = vec![false; indices.len()];
    indices.iter().all(|&index| {
        let slot = usize::try_from(index).ok().and_then(|index| seen.get_mut(index));
        slot.is_some_and(|slot| !std::mem::replace(slot, true))
    })
}

impl Sampler for Subset {
    fn len(&self) -> u64 {
        self.indices.len() as u64
    }

    fn bound(&self) -> u64 {
        self.bound
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        check_position(self.len(), position);
        let entry = self.shuffle.as_ref().map_or(position, |shuffle| shuffle.index(epoch, position));
        self.indices[entry as usize]
    }

    fn fill(&self, epoch: u64, first: u64, step: u64, out: &mut [u64]) {
        match &self.shuffle {
            Some(shuffle) => shuffle.fill(epoch, first, step, out),
            None => super::InOrder::new(self.len()).fill(epoch, first, step, out),
        }
        out.iter_mut().for_each(|entry| *entry = self.indices[*entry as usize]);
    }

    fn describe(&self) -> String {
        let seed = self.shuffle.as_ref().map_or(String::new(), |shuffle| format!(", seed={}", shuffle.seed()));
        format!("subset(len={}, indices={:016x}{seed})", self.len(), self.fingerprint)
    }

    fn is_permutation(&self) -> bool {
        self.is_permutation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_keep_their_number() {
        let sampler = Subset::shuffled(vec![4, 9, 4, 4], 1);
        for epoch in 0..5 {
            let mut indices: Vec<u64> = (0..4).map(|position| sampler.index(epoch, position)).collect();
            indices.sort_unstable();
            assert_eq!(indices, [4, 4, 4, 9]);
        }
        assert_eq!(sampler.bound(), 10);
        assert!(!sampler.is_permutation());
    }

    #[test]
    fn a_list_of_all_is_a_permutation() {
        assert!(Subset::new(vec![2, 0, 1]).is_permutation());
        assert!(Subset::shuffled(vec![], 0).is_permutation());
        assert!(!Subset::new(vec![0, 0, 1]).is_permutation());
        assert!(!Subset::new(vec![3, 0, 1]).is_permutation());
    }

    #[test]
    fn the_description_knows_the_list() {
        let describe = |indices: &[u64]| Subset::new(indices.to_vec()).describe();
        assert_ne!(describe(&[1, 2]), describe(&[2, 1]));
        assert_eq!(describe(&[1, 2]), describe(&[1, 2]));
        assert_ne!(describe(&[1, 2]), Subset::shuffled(vec![1, 2], 0).describe());
        assert_ne!(Subset::shuffled(vec![1, 2], 0).describe(), Subset::shuffled(vec![1, 2], 1).describe());
    }

    #[test]
    #[should_panic(expected = "index 18446744073709551615")]
    fn no_sequence_has_the_largest_number() {
        Subset::new(vec![u64::MAX]);
    }
}
