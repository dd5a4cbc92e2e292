//! Matrix products and passes over long arrays, cut into parts for several threads.
//!
//! What is worth it is cut in halves until there is a part for each thread of the pool that the caller is in. A product is
//! cut between rows or columns of its result, never along what is summed, and only where the kernel's tiles end, so that
//! each element is summed in the same order by the same instructions: the result is the same, bit for bit, for any
//! number of threads.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};

/// Parts of a product have multiples of so many rows or columns: a common multiple of the kernel's tiles.
const TILE: usize = 48;

/// The multiplications that make a part worth handing to another thread: some forty microseconds' worth, about twice
/// what it takes to wake one.
const MIN_MULTIPLICATIONS: usize = 1 << 20;

/// The elements that make a part of a pass worth handing over: one that reads and writes a few arrays takes forty
/// microseconds for them.
const MIN_ELEMENTS: usize = 1 << 16;

/// Whether a product of this size is worth a second thread.
pub(super) fn is_worth_a_thread(rows: usize, inner: usize, columns: usize) -> bool {
    rows.saturating_mul(inner).saturating_mul(columns) >= 2 * MIN_MULTIPLICATIONS
}

/// Where to cut a pass over so many elements in two, if that is worth it.
pub(super) fn cut(len: usize, parts: usize) -> Option<usize> {
    (parts > 1 && len >= 2 * MIN_ELEMENTS).then_some(len / 2)
}

/// `c <- a · b + beta c`, by so many threads.
pub(super) fn mul(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    beta: f32,
    mut c: ArrayViewMut2<'_, f32>,
    parts: usize,
) {
    let (rows, columns) = c.dim();
    // The longer side, so that the operand which both parts read is the smaller one.
    let axis = if rows >= columns { Axis(0) } else { Axis(1) };
    let middle = (rows.max(columns) / 2).next_multiple_of(TILE);
    if parts < 2 || !is_worth_a_thread(rows, a.ncols(), columns) || middle >= rows.max(columns) {
        general_mat_mul(1.0, &a, &b, beta, &mut c);
        return;
    }
    let (first, second) = c.split_at(axis, middle);
    let (a, b) = if axis == Axis(0) {
        let (top, bottom) = a.split_at(axis, middle);
        ((top, bottom), (b, b))
    } else {
        let (left, right) = b.split_at(axis, middle);
        ((a, a), (left, right))
    };
    let half = parts.div_ceil(2);
    rayon::join(|| mul(a.0, b.0, beta, first, half), || mul(a.1, b.1, beta, second, parts - half));
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ShapeBuilder};

    use super::super::tests::inputs;
    use super::*;

    fn bits(array: &Array2<f32>) -> Vec<u32> {
        array.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let sizes = [(128, 784, 512), (512, 130, 256), (785, 129, 511), (97, 400, 1031), (1031, 97, 300), (64, 3, 10)];
        for (rows, inner, columns) in sizes {
            let (a, b) = (inputs(rows, inner, 1), inputs(inner, columns, 2));
            let transposed = b.t().as_standard_layout().into_owned();
            for beta in [0.0, 1.0] {
                let product = |b: ArrayView2<'_, f32>, fortran: bool, threads: usize| {
                    let mut c = Array2::from_elem((rows, columns).set_f(fortran), 0.3);
                    mul(a.view(), b, beta, c.view_mut(), threads);
                    bits(&c)
                };
                let alone = product(b.view(), false, 1);
                let (alone_transposed, alone_fortran) = (product(transposed.t(), false, 1), product(b.view(), true, 1));
                for threads in [1, 2, 3, 5] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| {
                        assert!(product(b.view(), false, threads) == alone, "{rows} {inner} {columns} on {threads}");
                        assert!(product(transposed.t(), false, threads) == alone_transposed);
                        assert!(product(b.view(), true, threads) == alone_fortran);
                    });
                }
            }
        }
    }

    #[test]
    fn parts_cover_all_of_a_product() {
        let (a, b) = (inputs(300, 200, 1), inputs(200, 300, 2));
        let expected = a.dot(&b);
        for parts in 1..9 {
            let mut c = Array2::from_elem((300, 300), f32::NAN);
            mul(a.view(), b.view(), 0.0, c.view_mut(), parts);
            assert!((&c - &expected).iter().all(|difference| difference.abs() < 1e-4), "{parts} parts");
        }
    }
}
