//! How samples of a type stack into a batch: numbers into a vector, arrays into an array with one axis more, tuples
//! member by member, strings into a list.

use std::fmt;
use std::ops::Range;

use ndarray::{Array, Array1, Array2, ArrayView, Dimension, Ix1, RemoveAxis};

use super::rows::{Buffer, Columns, RowsMut};
use crate::error::Result;
use crate::sequence::Sequence;

/// The row of a batch that a sample of type `S` is written to.
///
/// For a number it is `&mut` that number; for arrays and vectors the elements in C order as a slice; for a string the
/// string; for a tuple the tuple of its members' rows.
pub type Row<'a, S> = <S as Stack>::Row<'a>;

/// Consecutive rows of a batch, for a sequence that writes many samples in one call
/// ([`get_many_into`](Sequence::get_many_into)).
pub struct RowBlock<'b, 'c, S: Stack> {
    chunk: &'b mut <S::Columns as Columns>::Chunk<'c>,
    // Invariant: a part of the chunk's rows.
    rows: Range<usize>,
}

impl<'c, S: Stack> RowBlock<'_, 'c, S> {
    /// The number of rows.
    #[allow(clippy::len_without_is_empty, reason = "there is nothing to do with no rows")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// One of the rows, counted from the first of these.
    ///
    /// # Panics
    ///
    /// If `row` is at or beyond the number of rows.
    #[inline]
    pub fn row(&mut self, row: usize) -> Row<'_, S> {
        assert!(row < self.rows.len(), "row {row} of a block of {}", self.rows.len());
        S::row(self.chunk, self.rows.start + row)
    }

    /// Some of the rows.
    ///
    /// # Panics
    ///
    /// If they are not a part of these.
    pub fn part(&mut self, rows: Range<usize>) -> RowBlock<'_, 'c, S> {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows.len(),
            "rows {rows:?} of a block of {}",
            self.rows.len()
        );
        RowBlock { chunk: self.chunk, rows: self.rows.start + rows.start..self.rows.start + rows.end }
    }
}

impl<S: Stack<Columns = Buffer<T>>, T: Send + 'static> RowBlock<'_, '_, S> {
    /// The elements of all the rows, row after row, where samples are numbers, arrays, vectors or strings.
    #[inline]
    pub fn elements(&mut self) -> &mut [T] {
        self.chunk.rows(self.rows.clone())
    }
}

impl<S: Stack> fmt::Debug for RowBlock<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowBlock").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A block of all rows of a chunk.
#[inline]
pub(crate) fn block<'b, 'c, S: Stack>(
    chunk: &'b mut <S::Columns as Columns>::Chunk<'c>,
    num_rows: usize,
) -> RowBlock<'b, 'c, S> {
    RowBlock { chunk, rows: 0..num_rows }
}

/// What an array that stacks may hold: any plain number, also one of another crate (`half::f16`, say).
pub trait Element: Copy + Default + Send + Sync + 'static {}
impl<T: Copy + Default + Send + Sync + 'static> Element for T {}

/// A type whose samples stack into a batch, row by row, without a copy at the end.
///
/// | sample | batch | layout |
/// |---|---|---|
/// | `u8` to `u64`, `i8` to `i64`, `usize`, `isize`, `f32`, `f64`, `bool` | `Array1<T>`, `(batch)` | `()` |
/// | `[T; N]` | `Array2<T>`, `(batch, N)` | `()` |
/// | `Vec<T>` | `Array2<T>`, `(batch, len)` | `usize` |
/// | `Array<T, D>` | `Array<T, D::Larger>`, `(batch, ..)` | `D` |
/// | `String` | `Vec<String>` | `()` |
/// | `(A, B, ..)`, up to six | tuple of the members' batches | tuple of the members' layouts |
///
/// Other types become one of these in [`map`](crate::LoaderBuilder::map), or are collated by a closure
/// ([`collate`](crate::LoaderBuilder::collate)). The trait cannot be implemented outside this crate.
pub trait Stack: Sized + Send + 'static + Sealed {
    /// The shape of one sample. All samples of a batch must have the same one.
    type Layout: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static;
    /// What the samples stack to.
    type Batch: Send + 'static;
    /// What one row of the batch is written through.
    type Row<'a>;
    /// The rows while they are written.
    #[doc(hidden)]
    type Columns: Columns;

    /// The layout of this sample.
    fn layout(&self) -> Self::Layout;
    /// The layout of every sample of this type, if the type alone tells.
    fn layout_of_type() -> Option<Self::Layout> {
        None
    }
    /// The memory that this sample takes in a batch, in bytes.
    fn size_bytes(&self) -> usize;
    /// The memory that a row of this layout takes, in bytes, where the layout tells.
    fn row_bytes(layout: &Self::Layout) -> Option<usize>;
    /// The memory that a batch takes, in bytes.
    #[doc(hidden)]
    fn batch_bytes(batch: &Self::Batch) -> usize;
    /// This sample without memory that it has in reserve, as far as that can be given back.
    #[doc(hidden)]
    fn shrunk(self) -> Self {
        self
    }
    /// The layout of rows in a batch that has none, because no sample of it was ever seen: extents of zero.
    fn empty_layout() -> Self::Layout;
    /// Makes room for rows, in the memory of a batch that is no longer used if there is one.
    #[doc(hidden)]
    fn columns(layout: &Self::Layout, num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns>;
    /// One row of a chunk of them.
    #[doc(hidden)]
    fn row<'c>(chunk: &'c mut <Self::Columns as Columns>::Chunk<'_>, row: usize) -> Self::Row<'c>;
    /// Writes this sample to a row of its layout.
    fn write(&self, row: Self::Row<'_>);
    /// Makes the batch, of those of the first `num_rows` rows whose `keep` is true; of all when `keep` is `None`.
    #[doc(hidden)]
    fn finish(columns: Self::Columns, layout: &Self::Layout, num_rows: usize, keep: Option<&[bool]>) -> Self::Batch;

    /// The layout of the pairs that two sequences make. Only pairs have one.
    #[doc(hidden)]
    fn zip_layout<Z: Zipped<Self>>(zip: &Z) -> Option<Self::Layout> {
        let _ = zip;
        None
    }
    /// Writes a pair, each member by its own sequence. Called only if `zip_layout` is `Some`.
    #[doc(hidden)]
    fn zip_get_into<Z: Zipped<Self>>(zip: &Z, index: usize, row: Self::Row<'_>) -> Result<()> {
        zip.get(index)?.write(row);
        Ok(())
    }
    /// Writes many pairs, each member by its own sequence.
    #[doc(hidden)]
    fn zip_get_many_into<Z: Zipped<Self>>(
        zip: &Z,
        indices: &[u64],
        block: &mut RowBlock<'_, '_, Self>,
    ) -> Option<usize> {
        let _ = (zip, indices, block);
        None
    }
}

/// Two sequences whose samples make pairs of type `P`.
///
/// That a pair stacks does not tell the compiler that its members do; only the pair's own [`Stack`] knows. So a
/// sequence of pairs hands itself to the pair's type, and learns there what its members can do.
#[doc(hidden)]
pub trait Zipped<P: Sealed>: Sequence<Sample = P> {
    type Left: Sequence<Sample = P::Left>;
    type Right: Sequence<Sample = P::Right>;

    fn parts(&self) -> (&Self::Left, &Self::Right);
}

mod private {
    /// What keeps [`Stack`](super::Stack) from being implemented elsewhere; it also names the members of a pair.
    pub trait Sealed {
        type Left: Send + 'static;
        type Right: Send + 'static;
    }
    /// Says that a type is no pair.
    macro_rules! no_pair {
        () => {
            type Left = ();
            type Right = ();
        };
    }
    pub(super) use no_pair;
}
use private::{Sealed, no_pair};

/// Moves the kept rows to the front and forgets the others; swaps, so that elements need not be `Copy`.
fn keep_rows<T>(mut elements: Vec<T>, row_len: usize, num_rows: usize, keep: Option<&[bool]>) -> Vec<T> {
    let mut kept = num_rows;
    if let Some(keep) = keep {
        kept = 0;
        for row in (0..num_rows).filter(|&row| keep[row]) {
            if kept != row {
                for at in 0..row_len {
                    elements.swap(kept * row_len + at, row * row_len + at);
                }
            }
            kept += 1;
        }
    }
    elements.truncate(kept * row_len);
    elements
}

macro_rules! number {
    ($($number:ty)+) => {$(
        impl Sealed for $number {
            no_pair!();
        }
        impl Stack for $number {
            type Layout = ();
            type Batch = Array1<$number>;
            type Row<'a> = &'a mut $number;
            type Columns = Buffer<$number>;

            fn layout(&self) {}
            fn layout_of_type() -> Option<()> {
                Some(())
            }
            fn size_bytes(&self) -> usize {
                size_of::<$number>()
            }
            fn row_bytes((): &()) -> Option<usize> {
                Some(size_of::<$number>())
            }
            fn batch_bytes(batch: &Self::Batch) -> usize {
                batch.len() * size_of::<$number>()
            }
            fn empty_layout() {}
            fn columns((): &(), num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
                Buffer::new(storage(spare), num_rows, 1)
            }
            #[inline]
            fn row<'c>(chunk: &'c mut RowsMut<'_, $number>, row: usize) -> &'c mut $number {
                &mut chunk.row(row)[0]
            }
            #[inline]
            fn write(&self, row: &mut $number) {
                *row = *self;
            }
            fn finish(columns: Self::Columns, (): &(), num_rows: usize, keep: Option<&[bool]>) -> Self::Batch {
                Array1::from_vec(keep_rows(columns.into_vec(), 1, num_rows, keep))
            }
        }
    )+};
}
number! { u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 bool }

/// The memory of a batch that nobody uses any more.
fn storage<T, D: Dimension>(spare: Option<Array<T, D>>) -> Vec<T> {
    spare.map(|array| array.into_raw_vec_and_offset().0).unwrap_or_default()
}

/// An array of rows: `(batch, ..layout)`.
fn array_of_rows<T, D: Dimension>(
    columns: Buffer<T>,
    layout: &D,
    num_rows: usize,
    keep: Option<&[bool]>,
) -> Array<T, D::Larger> {
    let elements = keep_rows(columns.into_vec(), layout.size(), num_rows, keep);
    let num_rows = keep.map_or(num_rows, |keep| keep.iter().filter(|&&keep| keep).count());
    let mut shape = D::Larger::zeros(layout.ndim() + 1);
    shape[0] = num_rows;
    shape.slice_mut()[1..].copy_from_slice(layout.slice());
    Array::from_shape_vec(shape, elements).expect("a batch has as many elements as its rows have together")
}

impl<T: Element, const N: usize> Sealed for [T; N] {
    no_pair!();
}
impl<T: Element, const N: usize> Stack for [T; N] {
    type Layout = ();
    type Batch = Array2<T>;
    type Row<'a> = &'a mut [T];
    type Columns = Buffer<T>;

    fn layout(&self) {}
    fn layout_of_type() -> Option<()> {
        Some(())
    }
    fn size_bytes(&self) -> usize {
        size_of::<[T; N]>()
    }
    fn row_bytes((): &()) -> Option<usize> {
        Some(size_of::<[T; N]>())
    }
    fn batch_bytes(batch: &Self::Batch) -> usize {
        batch.len() * size_of::<T>()
    }
    fn empty_layout() {}
    fn columns((): &(), num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
        Buffer::new(storage(spare), num_rows, N)
    }
    #[inline]
    fn row<'c>(chunk: &'c mut RowsMut<'_, T>, row: usize) -> &'c mut [T] {
        chunk.row(row)
    }
    #[inline]
    fn write(&self, row: &mut [T]) {
        row.copy_from_slice(self);
    }
    fn finish(columns: Self::Columns, (): &(), num_rows: usize, keep: Option<&[bool]>) -> Self::Batch {
        array_of_rows(columns, &Ix1(N), num_rows, keep)
    }
}

impl<T: Element> Sealed for Vec<T> {
    no_pair!();
}
impl<T: Element> Stack for Vec<T> {
    type Layout = usize;
    type Batch = Array2<T>;
    type Row<'a> = &'a mut [T];
    type Columns = Buffer<T>;

    fn layout(&self) -> usize {
        self.len()
    }
    fn size_bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }
    fn row_bytes(layout: &usize) -> Option<usize> {
        Some(layout * size_of::<T>())
    }
    fn batch_bytes(batch: &Self::Batch) -> usize {
        batch.len() * size_of::<T>()
    }
    fn shrunk(mut self) -> Self {
        self.shrink_to_fit();
        self
    }
    fn empty_layout() -> usize {
        0
    }
    fn columns(layout: &usize, num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
        Buffer::new(storage(spare), num_rows, *layout)
    }
    #[inline]
    fn row<'c>(chunk: &'c mut RowsMut<'_, T>, row: usize) -> &'c mut [T] {
        chunk.row(row)
    }
    #[inline]
    fn write(&self, row: &mut [T]) {
        row.copy_from_slice(self);
    }
    fn finish(columns: Self::Columns, layout: &usize, num_rows: usize, keep: Option<&[bool]>) -> Self::Batch {
        array_of_rows(columns, &Ix1(*layout), num_rows, keep)
    }
}

/// Copies an array's elements to a row in C order, however they lie in memory.
///
/// # Panics
///
/// If the row has another number of elements.
#[inline]
pub(crate) fn write_array<T: Element, D: Dimension>(array: ArrayView<'_, T, D>, row: &mut [T]) {
    match array.as_slice() {
        Some(elements) => row.copy_from_slice(elements),
        None => {
            assert_eq!(array.len(), row.len(), "an array and its row have the same number of elements");
            row.iter_mut().zip(array.iter()).for_each(|(to, from)| *to = *from);
        }
    }
}

impl<T: Element, D: Dimension> Sealed for Array<T, D> {
    no_pair!();
}
impl<T: Element, D> Stack for Array<T, D>
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    type Layout = D;
    type Batch = Array<T, D::Larger>;
    type Row<'a> = &'a mut [T];
    type Columns = Buffer<T>;

    fn layout(&self) -> D {
        self.raw_dim()
    }
    fn size_bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }
    fn row_bytes(layout: &D) -> Option<usize> {
        Some(layout.size() * size_of::<T>())
    }
    fn batch_bytes(batch: &Self::Batch) -> usize {
        batch.len() * size_of::<T>()
    }
    fn shrunk(self) -> Self {
        // An array does not tell what it lies in, which may be larger if it was sliced: taken apart, it does.
        if !self.is_standard_layout() {
            return self.as_standard_layout().into_owned();
        }
        let (layout, len) = (self.raw_dim(), self.len());
        let (mut elements, offset) = self.into_raw_vec_and_offset();
        elements.drain(..offset.unwrap_or(0));
        elements.truncate(len);
        elements.shrink_to_fit();
        Self::from_shape_vec(layout, elements).expect("there are as many elements as before")
    }
    fn empty_layout() -> D {
        D::zeros(D::NDIM.unwrap_or(0))
    }
    fn columns(layout: &D, num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
        Buffer::new(storage(spare), num_rows, layout.size())
    }
    #[inline]
    fn row<'c>(chunk: &'c mut RowsMut<'_, T>, row: usize) -> &'c mut [T] {
        chunk.row(row)
    }
    #[inline]
    fn write(&self, row: &mut [T]) {
        write_array(self.view(), row);
    }
    fn finish(columns: Self::Columns, layout: &D, num_rows: usize, keep: Option<&[bool]>) -> Self::Batch {
        array_of_rows(columns, layout, num_rows, keep)
    }
}

impl Sealed for String {
    no_pair!();
}
impl Stack for String {
    type Layout = ();
    type Batch = Vec<String>;
    type Row<'a> = &'a mut String;
    type Columns = Buffer<String>;

    fn layout(&self) {}
    fn layout_of_type() -> Option<()> {
        Some(())
    }
    fn size_bytes(&self) -> usize {
        size_of::<String>() + self.len()
    }
    fn row_bytes((): &()) -> Option<usize> {
        None
    }
    fn batch_bytes(batch: &Self::Batch) -> usize {
        batch.iter().map(Stack::size_bytes).sum()
    }
    fn shrunk(mut self) -> Self {
        self.shrink_to_fit();
        self
    }
    fn empty_layout() {}
    fn columns((): &(), num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
        Buffer::new(spare.unwrap_or_default(), num_rows, 1)
    }
    fn row<'c>(chunk: &'c mut RowsMut<'_, String>, row: usize) -> &'c mut String {
        &mut chunk.row(row)[0]
    }
    fn write(&self, row: &mut String) {
        row.clone_from(self);
    }
    fn finish(columns: Self::Columns, (): &(), num_rows: usize, keep: Option<&[bool]>) -> Self::Batch {
        keep_rows(columns.into_vec(), 1, num_rows, keep)
    }
}

macro_rules! tuple {
    ($($name:ident $field:tt $spare:ident),+) => {
        impl<$($name: Stack),+> Sealed for ($($name,)+) {
            no_pair!();
        }
        tuple! { stack $($name $field $spare),+ => }
    };
    (stack $($name:ident $field:tt $spare:ident),+ => $($zip:tt)*) => {
        impl<$($name: Stack),+> Stack for ($($name,)+) {
            type Layout = ($($name::Layout,)+);
            type Batch = ($($name::Batch,)+);
            type Row<'a> = ($($name::Row<'a>,)+);
            type Columns = ($($name::Columns,)+);

            fn layout(&self) -> Self::Layout {
                ($(self.$field.layout(),)+)
            }
            fn layout_of_type() -> Option<Self::Layout> {
                Some(($($name::layout_of_type()?,)+))
            }
            fn size_bytes(&self) -> usize {
                0 $(+ self.$field.size_bytes())+
            }
            fn row_bytes(layout: &Self::Layout) -> Option<usize> {
                Some(0 $(+ $name::row_bytes(&layout.$field)?)+)
            }
            fn batch_bytes(batch: &Self::Batch) -> usize {
                0 $(+ $name::batch_bytes(&batch.$field))+
            }
            fn shrunk(self) -> Self {
                ($(self.$field.shrunk(),)+)
            }
            fn empty_layout() -> Self::Layout {
                ($($name::empty_layout(),)+)
            }
            fn columns(layout: &Self::Layout, num_rows: usize, spare: Option<Self::Batch>) -> Result<Self::Columns> {
                let ($($spare,)+) = match spare {
                    Some(spare) => ($(Some(spare.$field),)+),
                    None => ($(None::<$name::Batch>,)+),
                };
                Ok(($($name::columns(&layout.$field, num_rows, $spare)?,)+))
            }
            #[inline]
            fn row<'c>(chunk: &'c mut <Self::Columns as Columns>::Chunk<'_>, row: usize) -> Self::Row<'c> {
                ($($name::row(&mut chunk.$field, row),)+)
            }
            #[inline]
            fn write(&self, row: Self::Row<'_>) {
                $(self.$field.write(row.$field);)+
            }
            fn finish(
                columns: Self::Columns,
                layout: &Self::Layout,
                num_rows: usize,
                keep: Option<&[bool]>,
            ) -> Self::Batch {
                ($($name::finish(columns.$field, &layout.$field, num_rows, keep),)+)
            }
            $($zip)*
        }
    };
}
tuple!(A 0 a);
impl<A: Send + 'static, B: Send + 'static> Sealed for (A, B) {
    type Left = A;
    type Right = B;
}
tuple! { stack A 0 a, B 1 b =>
    fn zip_layout<Z: Zipped<Self>>(zip: &Z) -> Option<Self::Layout> {
        let (left, right) = zip.parts();
        Some((left.layout()?, right.layout()?))
    }
    #[inline]
    fn zip_get_into<Z: Zipped<Self>>(zip: &Z, index: usize, row: Self::Row<'_>) -> Result<()> {
        let (left, right) = zip.parts();
        left.get_into(index, row.0)?;
        right.get_into(index, row.1)
    }
    fn zip_get_many_into<Z: Zipped<Self>>(
        zip: &Z,
        indices: &[u64],
        block: &mut RowBlock<'_, '_, Self>,
    ) -> Option<usize> {
        let (left, right) = zip.parts();
        let rows = block.rows.clone();
        let mut right_block = RowBlock { chunk: &mut block.chunk.1, rows: rows.clone() };
        // One that writes them one by one is not asked for many, so that no sample is loaded twice.
        right.get_many_into(&[], &mut right_block.part(0..0))?;
        let mut left_block = RowBlock { chunk: &mut block.chunk.0, rows };
        let count = left.get_many_into(indices, &mut left_block)?;
        right.get_many_into(&indices[..count], &mut right_block.part(0..count))
    }
}
tuple!(A 0 a, B 1 b, C 2 c);
tuple!(A 0 a, B 1 b, C 2 c, D 3 d);
tuple!(A 0 a, B 1 b, C 2 c, D 3 d, E 4 e);
tuple!(A 0 a, B 1 b, C 2 c, D 3 d, E 4 e, F 5 f);

#[cfg(test)]
mod tests {
    use super::super::rows::{Ledger, Rows};
    use super::*;
    use ndarray::{arr0, array};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn stack<S: Stack>(samples: Vec<S>, keep: Option<&[bool]>, spare: Option<S::Batch>) -> S::Batch {
        let (layout, num_rows) = (samples[0].layout(), samples.len());
        let rows = Rows::new(S::columns(&layout, num_rows, spare).unwrap(), num_rows, Ledger::default());
        for (row, sample) in samples.into_iter().enumerate() {
            let mut chunk = rows.claim(row..row + 1);
            sample.write(S::row(&mut chunk, 0));
        }
        S::finish(rows.into_parts().0, &layout, num_rows, keep)
    }

    #[test]
    fn each_type_stacks_to_its_batch() {
        assert_eq!(stack(vec![1_u8, 2, 3], None, None), array![1, 2, 3]);
        assert_eq!(stack(vec![[1.0_f32, 2.0], [3.0, 4.0]], None, None), array![[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(stack(vec![vec![1_i64, 2], vec![3, 4]], None, None), array![[1, 2], [3, 4]]);
        assert_eq!(stack(vec![arr0(5_u16), arr0(6)], None, None), array![5, 6]);
        assert_eq!(stack(vec!["a".to_owned(), "b".to_owned()], None, None), ["a", "b"]);
        let (left, (right,)) = stack(vec![(true, ([1_u32],)), (false, ([2],))], None, None);
        assert_eq!((left, right), (array![true, false], array![[1], [2]]));
    }

    #[test]
    fn each_type_says_what_it_takes() {
        fn bytes<S: Stack>(samples: Vec<S>) -> (usize, Option<usize>, usize) {
            let (size, row) = (samples[0].size_bytes(), S::row_bytes(&samples[0].layout()));
            (size, row, S::batch_bytes(&stack(samples, None, None)))
        }
        assert_eq!(bytes(vec![1_u16, 2, 3]), (2, Some(2), 6));
        assert_eq!(bytes(vec![[1.0_f32; 5]; 3]), (20, Some(20), 60));
        assert_eq!(bytes(vec![vec![1_u16; 5]; 3]), (10, Some(10), 30));
        assert_eq!(bytes(vec![Array2::<f64>::zeros((2, 3)); 3]), (48, Some(48), 144));
        let word = size_of::<String>() + 5;
        assert_eq!(bytes(vec!["twice".to_owned(), "again".to_owned()]), (word, None, 2 * word));
        assert_eq!(bytes(vec![(1_u8, [1.0_f32; 2]); 3]), (9, Some(9), 27));
        assert_eq!(bytes(vec![("twice".to_owned(), 1_u8)]), (word + 1, None, word + 1));
    }

    #[test]
    fn what_is_shrunk_is_the_same_without_its_reserve() {
        let mut word = String::with_capacity(100);
        word.push_str("word");
        let word = word.shrunk();
        assert_eq!((word.as_str(), word.capacity()), ("word", 4));
        let mut numbers = Vec::with_capacity(100);
        numbers.extend([1_u8, 2]);
        let numbers = numbers.shrunk();
        assert_eq!((numbers.as_slice(), numbers.capacity()), (&[1, 2][..], 2));
        let array = array![[1, 2], [3, 4], [5, 6]].slice_move(ndarray::s![1..2, ..]).shrunk();
        assert_eq!((&array, array.clone().into_raw_vec_and_offset().0.len()), (&array![[3, 4]], 2));
    }

    #[test]
    fn layouts_that_types_and_arrays_without_samples_have() {
        assert_eq!((<[u8; 3]>::layout_of_type(), String::layout_of_type()), (Some(()), Some(())));
        assert_eq!((Vec::<u8>::layout_of_type(), Array2::<u8>::layout_of_type()), (None, None));
        assert_eq!(Array2::<u8>::empty_layout(), ndarray::Dim([0, 0]));
        assert_eq!(ndarray::ArrayD::<u8>::empty_layout().ndim(), 0);
    }

    #[test]
    fn a_block_lends_its_rows_and_no_others() {
        let rows = Rows::new(<[u8; 2]>::columns(&(), 5, None).unwrap(), 5, Ledger::default());
        let mut chunk = rows.claim(1..5);
        let mut all = block::<[u8; 2]>(&mut chunk, 4);
        let mut part = all.part(1..4);
        let mut part = part.part(1..3);
        assert_eq!((part.len(), part.elements().len()), (2, 4));
        part.elements().copy_from_slice(&[1, 2, 3, 4]);
        part.row(1)[0] = 9;
        for outside in [0..3, 3..3] {
            assert!(catch_unwind(AssertUnwindSafe(|| part.part(outside).len())).is_err());
        }
        assert!(catch_unwind(AssertUnwindSafe(|| part.row(2)[0])).is_err());
        let batch = <[u8; 2]>::finish(rows.into_parts().0, &(), 5, None);
        assert_eq!(batch, array![[0, 0], [0, 0], [0, 0], [1, 2], [9, 4]]);
    }

    #[test]
    fn an_array_that_does_not_lie_in_c_order_stacks_in_c_order() {
        let sample = array![[1, 2, 3], [4, 5, 6]].reversed_axes();
        let batch = stack(vec![sample.clone(), sample], None, None);
        assert_eq!(batch, array![[[1, 4], [2, 5], [3, 6]], [[1, 4], [2, 5], [3, 6]]]);
    }

    #[test]
    fn rows_that_are_not_kept_leave_no_gap() {
        let keep = [false, true, false, true];
        assert_eq!(stack(vec![[0, 0], [1, 1], [2, 2], [3, 3]], Some(&keep), None), array![[1, 1], [3, 3]]);
        let words = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(stack(words, Some(&keep), None), ["b", "d"]);
        assert_eq!(stack(vec![1_u8, 2, 3, 4], Some(&[false; 4]), None).len(), 0);
    }

    #[test]
    fn a_spare_batch_lends_its_memory() {
        let spare = Array2::<f32>::ones((8, 2));
        let address = spare.as_ptr();
        let batch = stack(vec![[1.0, 2.0]; 3], None, Some(spare));
        assert_eq!((batch.as_ptr(), batch.dim()), (address, (3, 2)));
    }
}
