//! Several sequences of tokens in one row.
//!
//! Source: packing as T5's input pipeline does it (Raffel et al., *Exploring the Limits of Transfer Learning*, 2020,
//! <https://arxiv.org/abs/1910.10683>; `trim_and_pack_dataset` of its library) and Grain's `FirstFitPackIterDataset`:
//! rows of fixed length, segment numbers from 1, 0 for padding, positions that begin at 0 in each segment. Our deviation:
//! the rows of a batch are made of that batch's samples alone, so that a batch is a function of its samples, and there
//! are as many rows as they need.

use ndarray::{Array2, Ix1, s};

use super::Collate;
use super::steps::{Runs, Steps, room, size_bytes};
use crate::batch::stack::Element;
use crate::error::{Error, ErrorKind, Result};

/// Packs sequences into rows of `row_len`, several to a row, with numbers that tell them apart: for models that attend
/// within a segment, and lose nothing to padding but what no sequence of the batch fits into.
///
/// The samples are `Vec<T>` or `Array1<T>`; see [`Packed`] for what they become. In the order of the batch each sequence
/// goes to the first row that has room for it, behind what is there (first fit), or else to a new row. A sequence without
/// tokens takes no place. The larger the batch, the fuller the rows.
///
/// # The law
///
/// Nothing is lost and nothing is made up: every token of every sample stands in exactly one cell, and the cells of its
/// segments, one after the other, are the sample. All other cells are padding and have segment 0. A row holds whole
/// segments, side by side from its start.
///
/// # Determinism
///
/// Rows are a function of the samples and their order.
///
/// # Errors
///
/// Of kind [`Limit`](ErrorKind::Limit) if a sequence is longer than a row, unless [`split`](Pack::split) is set, or the
/// batch does not fit into memory.
///
/// # Panics
///
/// If `row_len` is 0 or above 2^32 - 1.
///
/// # Cost
///
/// A sequence is compared with the rows before its own that still have room for the shortest sequence of the batch.
///
/// # Examples
///
/// ```
/// use procession::{Loader, collate};
///
/// let sentences: Vec<Vec<u32>> = vec![vec![1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]];
/// let loader = Loader::builder(sentences).collate_with(collate::pack(5)).build()?;
/// let batch = loader.epoch(0).next().unwrap()?;
/// assert_eq!(batch.values, ndarray::array![[1, 2, 3, 8, 9], [4, 5, 6, 7, 0]]);
/// assert_eq!(batch.segments, ndarray::array![[1, 1, 1, 2, 2], [1, 1, 1, 1, 0]]);
/// assert_eq!(batch.positions, ndarray::array![[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn pack<T: Element>(row_len: usize) -> Pack<T> {
    assert!(row_len > 0, "rows of length 0: at least 1 is needed");
    assert!(u32::try_from(row_len).is_ok(), "rows of length {row_len}: at most 2^32 - 1 is supported");
    Pack { row_len, value: T::default(), splits: false }
}

/// Packs sequences into rows; made by [`pack`].
#[derive(Debug, Clone, Copy)]
pub struct Pack<T> {
    row_len: usize,
    value: T,
    splits: bool,
}

impl<T> Pack<T> {
    /// Sets what stands in cells without a token. The default of the type by default: 0.
    pub fn pad_value(mut self, value: T) -> Self {
        self.value = value;
        self
    }

    /// Cuts a sequence that is longer than a row into pieces of the length of a row and one with what remains. Each is a
    /// segment of its own, with positions from 0: no position is at or beyond the length of a row.
    pub fn split(mut self) -> Self {
        self.splits = true;
        self
    }

    /// The pieces of sequences of these lengths, not yet in a row.
    fn pieces(&self, lengths: impl Iterator<Item = usize>) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for (sample, length) in lengths.enumerate() {
            if length > self.row_len && !self.splits {
                let message = format!(
                    "sample {sample} of the batch has length {length}, the limit is {} as of a row",
                    self.row_len
                );
                return Err(Error::new(ErrorKind::Limit, message));
            }
            for from in (0..length).step_by(self.row_len) {
                let len = (length - from).min(self.row_len);
                pieces.push(Piece { from, span: Span { sample, row: 0, start: 0, len } });
            }
        }
        Ok(pieces)
    }
}

/// A sequence or a part of one.
struct Piece {
    /// Its first token's place in the sequence.
    from: usize,
    span: Span,
}

/// Gives each piece its row and its place there, in turn: the first row with room for it. Returns the number of rows.
fn first_fit(pieces: &mut [Piece], row_len: usize) -> usize {
    let shortest = pieces.iter().map(|piece| piece.span.len).min().unwrap_or(0);
    let mut used: Vec<usize> = Vec::new();
    // The rows with room for the shortest piece, in order.
    let mut open: Vec<usize> = Vec::new();
    for Piece { span, .. } in pieces {
        let fitting = open.iter().position(|&row| row_len - used[row] >= span.len);
        let at = fitting.unwrap_or_else(|| {
            open.push(used.len());
            used.push(0);
            open.len() - 1
        });
        let row = open[at];
        (span.row, span.start) = (row, used[row]);
        used[row] += span.len;
        if row_len - used[row] < shortest {
            open.remove(at);
        }
    }
    used.len()
}

fn filled<T: Element>(shape: (usize, usize), value: T) -> Result<Array2<T>> {
    let mut elements = room(&[shape.0, shape.1])?;
    elements.resize(shape.0 * shape.1, value);
    Ok(Array2::from_shape_vec(shape, elements).expect("as many elements as the shape says"))
}

impl<T: Element, S> Collate<S> for Pack<T>
where
    S: Steps<Element = T, Dim = Ix1>,
{
    type Batch = Packed<T>;

    fn collate(&self, samples: Vec<S>) -> Result<Packed<T>> {
        let runs = Runs::new(&samples)?;
        let mut pieces = self.pieces(runs.lengths())?;
        let shape = (first_fit(&mut pieces, self.row_len), self.row_len);
        let mut values = filled(shape, self.value)?;
        let (mut segments, mut positions) = (filled(shape, 0_u32)?, filled(shape, 0_u32)?);
        let mut num_segments = vec![0_u32; shape.0];
        for Piece { from, span } in &pieces {
            num_segments[span.row] += 1;
            let cells = s![span.row, span.start..span.start + span.len];
            values.slice_mut(cells).assign(&samples[span.sample].steps().slice(s![*from..from + span.len]));
            segments.slice_mut(cells).fill(num_segments[span.row]);
            positions.slice_mut(cells).iter_mut().zip(0..).for_each(|(cell, position)| *cell = position);
        }
        Ok(Packed { values, segments, positions, spans: pieces.into_iter().map(|piece| piece.span).collect() })
    }

    fn size_bytes(sample: &S) -> usize {
        size_bytes(sample)
    }

    fn batch_bytes(batch: &Self::Batch) -> Option<usize> {
        let a_cell = size_of::<T>() + 2 * size_of::<u32>();
        Some(size_of_val(batch) + batch.values.len() * a_cell + batch.spans.len() * size_of::<Span>())
    }
}

/// Where a segment stands, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// The place of its sample in the batch.
    pub sample: usize,
    /// Its row.
    pub row: usize,
    /// Its first cell in the row.
    pub start: usize,
    /// The number of its tokens, at least 1.
    pub len: usize,
}

/// Several sequences in rows of one length: what [`pack`] makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed<T> {
    /// The tokens: `(rows, row_len)`.
    pub values: Array2<T>,
    /// Which segment of its row a cell belongs to, from 1; 0 is padding. `(rows, row_len)`.
    pub segments: Array2<u32>,
    /// The place of a cell in its segment, from 0; 0 in padding. `(rows, row_len)`.
    pub positions: Array2<u32>,
    /// The segments: sample by sample in the order of the batch, and the pieces of a sample in their order.
    pub spans: Vec<Span>,
}

impl<T> Packed<T> {
    /// Which cells hold a token, and count in a loss: `(rows, row_len)`.
    pub fn mask(&self) -> Array2<bool> {
        self.segments.mapv(|segment| segment > 0)
    }

    /// The share of cells that hold a token; 1 if there are no cells.
    pub fn density(&self) -> f64 {
        let tokens: usize = self.spans.iter().map(|span| span.len).sum();
        if self.values.is_empty() { 1.0 } else { tokens as f64 / self.values.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Visit;
    use ndarray::{Array1, array};

    /// Sequences whose tokens are all different, and not 0.
    fn sequences(lengths: &[usize]) -> Vec<Vec<u32>> {
        let mut next = 1..;
        lengths.iter().map(|&length| next.by_ref().take(length).collect()).collect()
    }

    /// Checks the law for a batch.
    fn check_law(samples: &[Vec<u32>], packed: &Packed<u32>, row_len: usize) {
        let mut again = vec![Vec::new(); samples.len()];
        let mut owned = Array2::from_elem(packed.values.dim(), false);
        let mut numbers = vec![0; packed.values.nrows()];
        for span in &packed.spans {
            assert!(span.len > 0 && span.start + span.len <= row_len);
            numbers[span.row] += 1;
            for at in 0..span.len {
                let cell = (span.row, span.start + at);
                assert!(!std::mem::replace(&mut owned[cell], true), "cell {cell:?} belongs to two segments");
                assert_eq!((packed.segments[cell], packed.positions[cell]), (numbers[span.row], at as u32));
                again[span.sample].push(packed.values[cell]);
            }
        }
        assert_eq!(again, samples);
        assert_eq!(owned, packed.mask());
        for (cell, _) in owned.indexed_iter().filter(|(_, owned)| !**owned) {
            assert_eq!((packed.values[cell], packed.segments[cell], packed.positions[cell]), (7, 0, 0));
        }
        // Segments lie side by side from the start of a row, and no row is empty.
        for (row, mask) in packed.mask().outer_iter().enumerate() {
            let used = mask.iter().take_while(|&&owned| owned).count();
            assert!(used > 0 && mask.iter().skip(used).all(|owned| !owned), "row {row}: {mask:?}");
        }
    }

    /// The rows of first fit, written in the plainest way.
    fn plain_first_fit(lengths: &[usize], row_len: usize) -> Vec<usize> {
        let mut rooms: Vec<usize> = Vec::new();
        let mut rows = Vec::new();
        for &length in lengths.iter().filter(|&&length| length > 0) {
            let row = rooms.iter().position(|&room| room >= length).unwrap_or(rooms.len());
            if row == rooms.len() {
                rooms.push(row_len);
            }
            rooms[row] -= length;
            rows.push(row);
        }
        rows
    }

    #[test]
    fn nothing_is_lost() {
        for seed in 0..300 {
            let mut rng = Visit::new(seed, 0, 0, 0).rng(0);
            let row_len = 1 + rng.below(20) as usize;
            let lengths: Vec<usize> = (0..rng.below(30)).map(|_| rng.below(row_len as u64 + 1) as usize).collect();
            let samples = sequences(&lengths);
            let packed = pack(row_len).pad_value(7).collate(samples.clone()).unwrap();
            check_law(&samples, &packed, row_len);
            assert!(packed.spans.iter().map(|span| span.row).eq(plain_first_fit(&lengths, row_len)));
            let longer: Vec<usize> = lengths.iter().map(|length| length * 3).collect();
            let samples = sequences(&longer);
            let packed = pack(row_len).pad_value(7).split().collate(samples.clone()).unwrap();
            check_law(&samples, &packed, row_len);
            let short = |span: &&Span| span.len < row_len;
            let num_pieces: usize = longer.iter().map(|length| length.div_ceil(row_len)).sum();
            assert_eq!(packed.spans.len(), num_pieces);
            let num_short = longer.iter().filter(|length| *length % row_len > 0).count();
            assert_eq!(packed.spans.iter().filter(short).count(), num_short);
        }
    }

    #[test]
    fn the_first_row_with_room_is_taken() {
        let packed = pack(6).collate(sequences(&[4, 3, 2, 3, 1])).unwrap();
        let expected = array![[1, 2, 3, 4, 8, 9], [5, 6, 7, 10, 11, 12], [13, 0, 0, 0, 0, 0]];
        assert_eq!(packed.values, expected);
        assert_eq!(packed.spans[3], Span { sample: 3, row: 1, start: 3, len: 3 });
        assert_eq!(packed.density(), 13.0 / 18.0);
    }

    #[test]
    fn a_sequence_longer_than_a_row_is_an_error_or_split() {
        let error = pack(3).collate(sequences(&[3, 4])).unwrap_err();
        assert_eq!(error.to_string(), "sample 1 of the batch has length 4, the limit is 3 as of a row");
        assert_eq!(error.kind(), ErrorKind::Limit);
        let packed = pack(3).split().collate(sequences(&[7, 2])).unwrap();
        assert_eq!(packed.values, array![[1, 2, 3], [4, 5, 6], [7, 8, 9]]);
        assert_eq!(packed.segments, array![[1, 1, 1], [1, 1, 1], [1, 2, 2]]);
        assert_eq!(packed.positions, array![[0, 1, 2], [0, 1, 2], [0, 0, 1]]);
    }

    #[test]
    fn arrays_and_nothing_are_packed() {
        let arrays: Vec<Array1<u32>> = vec![array![1, 2], array![3], array![6, 5, 4]];
        let reversed = arrays[2].slice(s![..;-1]).to_owned();
        let packed = pack(3).collate(vec![arrays[0].clone(), arrays[1].clone(), reversed]).unwrap();
        assert_eq!(packed.values, array![[1, 2, 3], [4, 5, 6]]);
        for nothing in [vec![], vec![vec![], vec![]]] {
            let packed: Packed<u32> = pack(3).collate(nothing).unwrap();
            assert_eq!((packed.values.dim(), packed.spans.len(), packed.density()), ((0, 3), 0, 1.0));
        }
    }

    #[test]
    #[should_panic(expected = "rows of length 0")]
    fn a_row_holds_something() {
        let _ = pack::<u32>(0);
    }
}
