//! Rows of an array in an order, copied one below the other.

use fearless_simd::{Level, Simd, dispatch};

/// Copies the rows at `indices` of an array of `num_rows` rows in C order to `out`.
///
/// # Panics
///
/// If there is no such row, or `out` has another length than that many rows.
pub(crate) fn gather<T: Copy>(elements: &[T], num_rows: usize, indices: &[u64], out: &mut [T]) {
    dispatch!(Level::new(), simd => gather_with(simd, elements, num_rows, indices, out));
}

// Plain loops, which the compiler turns into the vectors that there are.
#[inline(always)]
fn gather_with<S: Simd, T: Copy>(_: S, elements: &[T], num_rows: usize, indices: &[u64], out: &mut [T]) {
    // Without rows there is none to be asked for, and any length will do.
    let row_len = elements.len().checked_div(num_rows).unwrap_or(0);
    assert_eq!(out.len(), row_len * indices.len(), "as many rows as indices");
    macro_rules! lengths {
        ($($len:literal)+) => {
            match row_len {
                $($len => short_rows::<T, $len>(elements, indices, out),)+
                _ => long_rows(elements, num_rows, row_len, indices, out),
            }
        };
    }
    lengths!(1 2 3 4 8 16);
}

/// Rows that fit in a few registers. Unless all are neighbours each is found and copied by as few instructions as can be:
/// the fewer they are, the more rows a core fetches from memory at once.
#[inline(always)]
fn short_rows<T: Copy, const LEN: usize>(elements: &[T], indices: &[u64], out: &mut [T]) {
    let (Some(&first), (rows, _), (out, _)) =
        (indices.first(), elements.as_chunks::<LEN>(), out.as_chunks_mut::<LEN>())
    else {
        return;
    };
    if run(indices) == indices.len() {
        out.copy_from_slice(&rows[first as usize..][..out.len()]);
        return;
    }
    out.iter_mut().zip(indices).for_each(|(to, &index)| *to = rows[index as usize]);
}

#[inline(always)]
fn long_rows<T: Copy>(elements: &[T], num_rows: usize, row_len: usize, indices: &[u64], out: &mut [T]) {
    let (mut indices, mut out) = (indices, out);
    while let &[first, ref others @ ..] = indices {
        // Neighbours are copied in one go: in order all rows are. In a shuffled order there are next to none.
        let run = if others.first() == Some(&first.wrapping_add(1)) { run(indices) } else { 1 };
        // Looked at before it is multiplied: what wraps around would be another row, and rows of no elements have no end.
        assert!(first < num_rows as u64 && run as u64 <= num_rows as u64 - first, "row {first} of {num_rows}");
        let start = first as usize * row_len;
        let (to, rest) = out.split_at_mut(run * row_len);
        to.copy_from_slice(&elements[start..start + run * row_len]);
        (indices, out) = (&indices[run..], rest);
    }
}

/// How many of the indices, from the first on, grow by one.
#[inline(always)]
fn run(indices: &[u64]) -> usize {
    const BLOCK: usize = 16;
    let first = indices[0];
    let mut len = 1;
    // Block by block without a branch inside, which vectorises.
    for (block, start) in indices.chunks_exact(BLOCK).zip((0..).step_by(BLOCK)) {
        let differ = |differ, (at, index): (u64, &u64)| differ | (index ^ first.wrapping_add(start + at));
        if (0..).zip(block).fold(0, differ) != 0 {
            break;
        }
        len = start as usize + BLOCK;
    }
    len + indices[len..].iter().zip(len as u64..).take_while(|&(&index, at)| index == first.wrapping_add(at)).count()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn rows_come_in_the_order_of_the_indices() {
        let mut lists: Vec<Vec<u64>> = vec![vec![], vec![2], vec![4, 4, 5], vec![6, 5, 5, 6, 0, 1, 3]];
        // Longer than what is looked at together, with a break behind it, in it, and before it.
        lists.extend([
            (0..40).collect(),
            (0..35).chain([3]).collect(),
            (5..30).chain(7..40).collect(),
            (0..40).rev().collect(),
        ]);
        for row_len in [0, 1, 2, 3, 4, 5, 8, 16, 20] {
            let elements: Vec<usize> = (0..40 * row_len).collect();
            for indices in &lists {
                let mut out = vec![0; row_len * indices.len()];
                gather(&elements, 40, indices, &mut out);
                let rows = indices.iter().map(|&index| index as usize);
                let expected: Vec<usize> = rows.flat_map(|index| index * row_len..(index + 1) * row_len).collect();
                assert_eq!(out, expected, "{indices:?}, {row_len} elements a row");
            }
        }
        gather::<u8>(&[], 0, &[], &mut []);
    }

    #[test]
    fn a_row_that_is_not_there_is_refused() {
        // 5 x 5^-1 is 1 modulo 2^64: what wraps around is not taken for a row.
        let inverse_of_5 = 0xcccc_cccc_cccc_cccd_u64;
        assert_eq!(inverse_of_5.wrapping_mul(5), 1);
        for row_len in [0, 1, 2, 5, 8] {
            let elements = vec![7_u8; 3 * row_len];
            for indices in [[1, 3], [2, 3], [3, 0], [u64::MAX, 0], [0, u64::MAX], [inverse_of_5, 0], [1 << 63, 1]] {
                let gathered = catch_unwind(|| gather(&elements, 3, &indices, &mut vec![0; 2 * row_len]));
                assert!(gathered.is_err(), "{indices:?} of 3 rows of {row_len}");
            }
        }
        assert!(catch_unwind(|| gather(&[1_u8; 6], 3, &[0, 1], &mut [0; 6])).is_err());
        assert!(catch_unwind(|| gather::<u8>(&[], 0, &[0], &mut [])).is_err());
    }
}
