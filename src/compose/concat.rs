//! Sequences one after the other.

use std::path::PathBuf;

use crate::batch::stack::{Row, Stack};
use crate::error::Result;
use crate::sequence::{Sequence, check_index};

/// The samples of one sequence, then those of another; made by [`concat`](super::SequenceExt::concat).
#[derive(Debug, Clone)]
pub struct Concat<A, B> {
    first: A,
    second: B,
    first_len: usize,
    len: usize,
}

impl<A: Sequence, B: Sequence<Sample = A::Sample>> Concat<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        let first_len = first.len();
        let len = first_len.checked_add(second.len()).expect("sequences have fewer samples than usize::MAX together");
        Self { first, second, first_len, len }
    }
}

/// Calls a method of the part that holds a sample.
macro_rules! part {
    ($self:ident.$method:ident($index:ident $(, $row:ident)?)) => {
        if $index < $self.first_len {
            $self.first.$method($index $(, $row)?)
        } else {
            $self.second.$method($index - $self.first_len $(, $row)?)
        }
    };
}

impl<A: Sequence, B: Sequence<Sample = A::Sample>> Sequence for Concat<A, B> {
    type Sample = A::Sample;

    fn len(&self) -> usize {
        self.len
    }
    #[inline]
    fn get(&self, index: usize) -> Result<Self::Sample> {
        check_index(index, self.len);
        part!(self.get(index))
    }
    /// The layout of all parts that have samples, if it is the same.
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        match (self.first_len == 0, self.second.is_empty()) {
            (true, _) => self.second.layout(),
            (false, true) => self.first.layout(),
            (false, false) => self.first.layout().filter(|layout| self.second.layout().as_ref() == Some(layout)),
        }
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        check_index(index, self.len);
        part!(self.get_into(index, row))
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        part!(self.size_bytes(index))
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        part!(self.file(index))
    }
    fn barrier(&self) -> bool {
        self.first.barrier() || self.second.barrier()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.first.on_epoch_start(epoch)?;
        self.second.on_epoch_start(epoch)
    }
}

/// The samples of any number of sequences of one type, one after the other; made by [`concat_all`].
#[derive(Debug, Clone)]
pub struct ConcatAll<S> {
    parts: Vec<S>,
    // Invariant: `starts[i]` is the number of samples before part `i`, and the last one is the number of all.
    starts: Vec<usize>,
}

/// Joins sequences of one type. None at all make a sequence without samples; sequences of different types are of one
/// type when they are boxed.
///
/// # Examples
///
/// ```
/// use procession::{Sequence, concat_all, from_fn};
///
/// let parts: Vec<Box<dyn Sequence<Sample = usize>>> = vec![Box::new(from_fn(2, |i| i)), Box::new(vec![7])];
/// let all = concat_all(parts);
/// assert_eq!((all.len(), all.get(2)?), (3, 7));
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # Panics
///
/// If there are more than `usize::MAX` samples together.
pub fn concat_all<S: Sequence>(parts: impl IntoIterator<Item = S>) -> ConcatAll<S> {
    let parts: Vec<S> = parts.into_iter().collect();
    let mut starts = vec![0_usize];
    for part in &parts {
        let end = starts[starts.len() - 1].checked_add(part.len());
        starts.push(end.expect("sequences have fewer samples than usize::MAX together"));
    }
    ConcatAll { parts, starts }
}

impl<S: Sequence> ConcatAll<S> {
    /// The part that holds a sample, and the sample's index there. Takes O(log(parts)).
    fn find(&self, index: usize) -> (&S, usize) {
        check_index(index, self.len());
        // The last part that starts at or before the index; parts without samples before it start there, too.
        let part = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.parts[part], index - self.starts[part])
    }
}

impl<S: Sequence> Sequence for ConcatAll<S> {
    type Sample = S::Sample;

    fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }
    #[inline]
    fn get(&self, index: usize) -> Result<Self::Sample> {
        let (part, index) = self.find(index);
        part.get(index)
    }
    /// The layout of all parts that have samples, if it is the same.
    fn layout(&self) -> Option<<Self::Sample as Stack>::Layout>
    where
        Self::Sample: Stack,
    {
        let mut parts = self.parts.iter().filter(|part| !part.is_empty());
        let layout = parts.next()?.layout()?;
        parts.all(|part| part.layout().as_ref() == Some(&layout)).then_some(layout)
    }
    #[inline]
    fn get_into(&self, index: usize, row: Row<'_, Self::Sample>) -> Result<()>
    where
        Self::Sample: Stack,
    {
        let (part, index) = self.find(index);
        part.get_into(index, row)
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let (part, index) = self.find(index);
        part.size_bytes(index)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        let (part, index) = self.find(index);
        part.file(index)
    }
    fn barrier(&self) -> bool {
        self.parts.iter().any(Sequence::barrier)
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.on_epoch_start(epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::super::SequenceExt;
    use super::*;
    use crate::testing::{Told, check_rows, samples};

    #[test]
    fn two_parts_keep_the_contract_and_what_is_known() {
        let both = Told::new(3).concat(Told::new(4));
        check_rows(&both);
        assert_eq!(samples(&both), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(both.layout(), Some(()));
        Told::assert_known(&both, 2, 2);
        Told::assert_known(&both, 6, 3);
        assert_eq!(both.size_bytes(5), Told::new(4).size_bytes(2));
    }

    #[test]
    fn many_parts_keep_the_contract_and_what_is_known() {
        let all = concat_all([0, 3, 0, 0, 2, 1, 0].map(Told::new));
        check_rows(&all);
        assert_eq!(samples(&all), [0.0, 1.0, 2.0, 0.0, 1.0, 0.0]);
        assert_eq!(all.layout(), Some(()));
        Told::assert_known(&all, 4, 1);
        assert_eq!(all.size_bytes(4), Told::new(4).size_bytes(1));
        assert_eq!(concat_all::<Vec<u8>>([]).len(), 0);
    }

    #[test]
    fn layouts_that_differ_leave_none() {
        let (short, long, none) = (vec![vec![1_u8]], vec![vec![1_u8, 2]], Vec::new());
        assert_eq!(short.clone().concat(long.clone()).layout(), None);
        assert_eq!(short.clone().concat(none.clone()).layout(), Some(1));
        assert_eq!(none.clone().concat(long.clone()).layout(), Some(2));
        assert_eq!(concat_all([short.clone(), long]).layout(), None);
        assert_eq!(concat_all([none.clone(), short.clone(), none, short]).layout(), Some(1));
    }
}
