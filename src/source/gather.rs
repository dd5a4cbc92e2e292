//! Rows of an array in an order, copied one below the other.

use fearless_simd::{Level, Simd, dispatch};

/// Copies the rows at `indices` of an array in C order to `out`.
///
/// # Panics
///
/// If there is no such row, or `out` has another length than that many rows.
pub(crate) fn gather<T: Copy>(elements: &[T], row_len: usize, indices: &[u64], out: &mut [T]) {
    dispatch!(Level::new(), simd => gather_with(simd, elements, row_len, indices, out));
}

// Plain loops, which the compiler turns into the vectors that there are.
#[inline(always)]
fn gather_with<S: Simd, T: Copy>(_: S, elements: &[T], row_len: usize, indices: &[u64], out: &mut [T]) {
    assert_eq!(out.len(), row_len * indices.len(), "as many rows as indices");
    macro_rules! lengths {
        ($($len:literal)+) => {
            match row_len {
                $($len => short_rows::<T, $len>(elements, indices, out),)+
                _ => long_rows(elements, row_len, indices, out),
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
fn long_rows<T: Copy>(elements: &[T], row_len: usize, indices: &[u64], out: &mut [T]) {
    let (mut indices, mut out) = (indices, out);
    while let &[first, ref others @ ..] = indices {
        // Neighbours are copied in one go: in order all rows are. In a shuffled order there are next to none.
        let run = if others.first() == Some(&first.wrapping_add(1)) { run(indices) } else { 1 };
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
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_the_indices() {
        for row_len in [0, 1, 3, 5, 8, 20] {
            let elements: Vec<usize> = (0..7 * row_len).collect();
            for indices in [&[0, 1, 2, 3, 4, 5, 6][..], &[6, 5, 5, 6, 0, 1, 3], &[2], &[], &[4, 4, 5]] {
                let mut out = vec![0; row_len * indices.len()];
                gather(&elements, row_len, indices, &mut out);
                let rows = indices.iter().map(|&index| index as usize);
                let expected: Vec<usize> = rows.flat_map(|index| index * row_len..(index + 1) * row_len).collect();
                assert_eq!(out, expected, "{indices:?}, {row_len} elements a row");
            }
        }
    }

    #[test]
    #[should_panic]
    fn a_row_that_is_not_there_is_refused() {
        gather(&[1, 2, 3, 4], 2, &[1, 2], &mut [0; 4]);
    }
}
