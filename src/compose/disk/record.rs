//! Samples as bytes.

use ndarray::{Array, Dimension, RemoveAxis};

use crate::batch::stack::{Element, Stack};

/// A sample that can be kept in a file: numbers, `bool`, `[T; N]`, `Vec<T>` and `Array<T, D>` of these, `String`, and
/// tuples of up to six.
///
/// The encoding is the elements in C order, little-endian, so that a file can be read on another machine; `usize` and
/// `isize` take eight bytes. Every value comes back bit for bit, not-a-number included. Other types become one of these in
/// [`map`](crate::SequenceExt::map), or are kept before they are made. The trait cannot be implemented outside this
/// crate.
pub trait Record: Stack {
    /// Appends the type and its encoding, in words.
    #[doc(hidden)]
    fn describe(out: &mut String);
    /// Appends a layout.
    #[doc(hidden)]
    fn write_layout(layout: &Self::Layout, out: &mut Vec<u8>);
    /// Takes a layout off the front of bytes.
    #[doc(hidden)]
    fn read_layout(bytes: &mut &[u8]) -> Option<Self::Layout>;
    /// Appends the sample itself.
    #[doc(hidden)]
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes a sample of a layout off the front of bytes and forgets it: says whether it is one.
    #[doc(hidden)]
    fn check(layout: &Self::Layout, bytes: &mut &[u8]) -> Option<()>;
    /// Takes a sample of a layout off the front of bytes, if they are one.
    #[doc(hidden)]
    fn decode(layout: &Self::Layout, bytes: &mut &[u8]) -> Option<Self>;
    /// Takes a sample of a layout off the front of bytes and writes it to a row, if they are one and the row has that
    /// layout.
    #[doc(hidden)]
    fn decode_into(layout: &Self::Layout, bytes: &mut &[u8], row: Self::Row<'_>) -> Option<()>;
}

/// A number that records are made of.
#[doc(hidden)]
pub trait Number: Element + private::Sealed {
    const NAME: &'static str;
    /// The bytes of one in a file.
    const SIZE: usize;

    fn append(numbers: &[Self], out: &mut Vec<u8>);
    /// Whether bytes are numbers.
    fn check(bytes: &[u8]) -> bool;
    /// Reads as many numbers as there is room for, from as many bytes as these take.
    fn read(bytes: &[u8], numbers: &mut [Self]) -> Option<()>;
}

mod private {
    pub trait Sealed {}
}

/// Takes bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(front)
}

/// Reads numbers off the front of bytes.
fn read_numbers<T: Number>(bytes: &mut &[u8], numbers: &mut [T]) -> Option<()> {
    T::read(take(bytes, numbers.len().checked_mul(T::SIZE)?)?, numbers)
}

/// Takes as many numbers off the front of bytes.
fn check_numbers<T: Number>(bytes: &mut &[u8], len: usize) -> Option<()> {
    T::check(take(bytes, len.checked_mul(T::SIZE)?)?).then_some(())
}

/// Reads as many numbers off the front of bytes. The memory for them is taken when the bytes are known to be there.
fn read_list<T: Number>(bytes: &mut &[u8], len: usize) -> Option<Vec<T>> {
    let front = take(bytes, len.checked_mul(T::SIZE)?)?;
    let mut numbers = vec![T::default(); len];
    T::read(front, &mut numbers)?;
    Some(numbers)
}

fn read_len(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)).ok()
}

fn write_len(len: usize, out: &mut Vec<u8>) {
    out.extend((len as u64).to_le_bytes());
}

macro_rules! number {
    ($($number:ty, $name:literal, $size:literal: $value:ident => $to:expr, $bytes:ident => $from:expr;)+) => {$(
        impl private::Sealed for $number {}
        impl Number for $number {
            const NAME: &'static str = $name;
            const SIZE: usize = $size;

            fn append(numbers: &[Self], out: &mut Vec<u8>) {
                let start = out.len();
                out.resize(start + numbers.len() * Self::SIZE, 0);
                let (chunks, _) = out[start..].as_chunks_mut::<{ Self::SIZE }>();
                for (chunk, &$value) in chunks.iter_mut().zip(numbers) {
                    *chunk = $to;
                }
            }
            fn check(bytes: &[u8]) -> bool {
                let is_number = |$bytes: [u8; Self::SIZE]| -> Option<Self> { Some($from) };
                bytes.as_chunks::<{ Self::SIZE }>().0.iter().all(|&bytes| is_number(bytes).is_some())
            }
            #[inline]
            fn read(bytes: &[u8], numbers: &mut [Self]) -> Option<()> {
                let (chunks, rest) = bytes.as_chunks::<{ Self::SIZE }>();
                if chunks.len() != numbers.len() || !rest.is_empty() {
                    return None;
                }
                for (number, &$bytes) in numbers.iter_mut().zip(chunks) {
                    *number = $from;
                }
                Some(())
            }
        }
        impl Record for $number {
            fn describe(out: &mut String) {
                out.push_str($name);
            }
            fn write_layout((): &(), _: &mut Vec<u8>) {}
            fn read_layout(_: &mut &[u8]) -> Option<()> {
                Some(())
            }
            fn encode(&self, out: &mut Vec<u8>) {
                Self::append(std::slice::from_ref(self), out);
            }
            fn check((): &(), bytes: &mut &[u8]) -> Option<()> {
                check_numbers::<Self>(bytes, 1)
            }
            fn decode((): &(), bytes: &mut &[u8]) -> Option<Self> {
                let mut number = Self::default();
                read_numbers(bytes, std::slice::from_mut(&mut number))?;
                Some(number)
            }
            #[inline]
            fn decode_into((): &(), bytes: &mut &[u8], row: &mut Self) -> Option<()> {
                read_numbers(bytes, std::slice::from_mut(row))
            }
        }
    )+};
}
// For most of these the loops compile to a copy of memory, on machines that are little-endian.
number! {
    u8, "u8", 1: value => [value], bytes => bytes[0];
    i8, "i8", 1: value => value.to_le_bytes(), bytes => i8::from_le_bytes(bytes);
    u16, "u16", 2: value => value.to_le_bytes(), bytes => u16::from_le_bytes(bytes);
    i16, "i16", 2: value => value.to_le_bytes(), bytes => i16::from_le_bytes(bytes);
    u32, "u32", 4: value => value.to_le_bytes(), bytes => u32::from_le_bytes(bytes);
    i32, "i32", 4: value => value.to_le_bytes(), bytes => i32::from_le_bytes(bytes);
    u64, "u64", 8: value => value.to_le_bytes(), bytes => u64::from_le_bytes(bytes);
    i64, "i64", 8: value => value.to_le_bytes(), bytes => i64::from_le_bytes(bytes);
    f32, "f32", 4: value => value.to_le_bytes(), bytes => f32::from_le_bytes(bytes);
    f64, "f64", 8: value => value.to_le_bytes(), bytes => f64::from_le_bytes(bytes);
    usize, "usize", 8: value => (value as u64).to_le_bytes(), bytes => usize::try_from(u64::from_le_bytes(bytes)).ok()?;
    isize, "isize", 8: value => (value as i64).to_le_bytes(), bytes => isize::try_from(i64::from_le_bytes(bytes)).ok()?;
    bool, "bool", 1: value => [u8::from(value)], bytes => match bytes[0] { 0 => false, 1 => true, _ => return None };
}

impl<T: Number, const N: usize> Record for [T; N] {
    fn describe(out: &mut String) {
        out.push_str(&format!("[{}; {N}]", T::NAME));
    }
    fn write_layout((): &(), _: &mut Vec<u8>) {}
    fn read_layout(_: &mut &[u8]) -> Option<()> {
        Some(())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        T::append(self, out);
    }
    fn check((): &(), bytes: &mut &[u8]) -> Option<()> {
        check_numbers::<T>(bytes, N)
    }
    fn decode((): &(), bytes: &mut &[u8]) -> Option<Self> {
        let mut numbers = [T::default(); N];
        read_numbers(bytes, &mut numbers)?;
        Some(numbers)
    }
    #[inline]
    fn decode_into((): &(), bytes: &mut &[u8], row: &mut [T]) -> Option<()> {
        if row.len() == N { read_numbers(bytes, row) } else { None }
    }
}

impl<T: Number> Record for Vec<T> {
    fn describe(out: &mut String) {
        out.push_str(&format!("vec<{}>", T::NAME));
    }
    fn write_layout(layout: &usize, out: &mut Vec<u8>) {
        write_len(*layout, out);
    }
    fn read_layout(bytes: &mut &[u8]) -> Option<usize> {
        read_len(bytes)
    }
    fn encode(&self, out: &mut Vec<u8>) {
        T::append(self, out);
    }
    fn check(layout: &usize, bytes: &mut &[u8]) -> Option<()> {
        check_numbers::<T>(bytes, *layout)
    }
    fn decode(layout: &usize, bytes: &mut &[u8]) -> Option<Self> {
        read_list(bytes, *layout)
    }
    #[inline]
    fn decode_into(layout: &usize, bytes: &mut &[u8], row: &mut [T]) -> Option<()> {
        if row.len() == *layout { read_numbers(bytes, row) } else { None }
    }
}

/// The number of elements of a shape, if an array can have it.
fn checked_size<D: Dimension>(shape: &D) -> Option<usize> {
    let size = shape.slice().iter().try_fold(1_usize, |size, &extent| size.checked_mul(extent.max(1)))?;
    isize::try_from(size).ok()?;
    Some(if shape.slice().contains(&0) { 0 } else { size })
}

impl<T: Number, D> Record for Array<T, D>
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    fn describe(out: &mut String) {
        match D::NDIM {
            Some(rank) => out.push_str(&format!("array<{}, {rank}>", T::NAME)),
            None => out.push_str(&format!("array<{}>", T::NAME)),
        }
    }
    fn write_layout(layout: &D, out: &mut Vec<u8>) {
        if D::NDIM.is_none() {
            write_len(layout.ndim(), out);
        }
        layout.slice().iter().for_each(|&extent| write_len(extent, out));
    }
    fn read_layout(bytes: &mut &[u8]) -> Option<D> {
        let rank = match D::NDIM {
            Some(rank) => rank,
            // An extent takes eight bytes.
            None => read_len(bytes).filter(|rank| *rank <= bytes.len() / 8)?,
        };
        let mut shape = D::zeros(rank);
        for extent in shape.slice_mut() {
            *extent = read_len(bytes)?;
        }
        Some(shape)
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match self.as_slice() {
            Some(elements) => T::append(elements, out),
            None => self.iter().for_each(|element| T::append(std::slice::from_ref(element), out)),
        }
    }
    fn check(layout: &D, bytes: &mut &[u8]) -> Option<()> {
        check_numbers::<T>(bytes, checked_size(layout)?)
    }
    fn decode(layout: &D, bytes: &mut &[u8]) -> Option<Self> {
        let elements = read_list(bytes, checked_size(layout)?)?;
        Array::from_shape_vec(layout.clone(), elements).ok()
    }
    #[inline]
    fn decode_into(layout: &D, bytes: &mut &[u8], row: &mut [T]) -> Option<()> {
        if checked_size(layout) == Some(row.len()) { read_numbers(bytes, row) } else { None }
    }
}

fn read_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = read_len(bytes)?;
    std::str::from_utf8(take(bytes, len)?).ok()
}

impl Record for String {
    fn describe(out: &mut String) {
        out.push_str("string");
    }
    fn write_layout((): &(), _: &mut Vec<u8>) {}
    fn read_layout(_: &mut &[u8]) -> Option<()> {
        Some(())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        write_len(self.len(), out);
        out.extend(self.as_bytes());
    }
    fn check((): &(), bytes: &mut &[u8]) -> Option<()> {
        read_text(bytes).map(drop)
    }
    fn decode((): &(), bytes: &mut &[u8]) -> Option<Self> {
        read_text(bytes).map(str::to_owned)
    }
    fn decode_into((): &(), bytes: &mut &[u8], row: &mut String) -> Option<()> {
        let text = read_text(bytes)?;
        row.clear();
        row.push_str(text);
        Some(())
    }
}

macro_rules! tuple {
    ($($name:ident $field:tt),+) => {
        impl<$($name: Record),+> Record for ($($name,)+) {
            fn describe(out: &mut String) {
                out.push('(');
                $(
                    $name::describe(out);
                    out.push_str(", ");
                )+
                out.truncate(out.len() - 2);
                out.push(')');
            }
            fn write_layout(layout: &Self::Layout, out: &mut Vec<u8>) {
                $($name::write_layout(&layout.$field, out);)+
            }
            fn read_layout(bytes: &mut &[u8]) -> Option<Self::Layout> {
                Some(($($name::read_layout(bytes)?,)+))
            }
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode(out);)+
            }
            fn check(layout: &Self::Layout, bytes: &mut &[u8]) -> Option<()> {
                $($name::check(&layout.$field, bytes)?;)+
                Some(())
            }
            fn decode(layout: &Self::Layout, bytes: &mut &[u8]) -> Option<Self> {
                Some(($($name::decode(&layout.$field, bytes)?,)+))
            }
            #[inline]
            fn decode_into(layout: &Self::Layout, bytes: &mut &[u8], row: Self::Row<'_>) -> Option<()> {
                $($name::decode_into(&layout.$field, bytes, row.$field)?;)+
                Some(())
            }
        }
    };
}
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::rows::{Ledger, Rows};
    use ndarray::{Array2, ArrayD, Ix2, IxDyn, arr0, array};
    use std::fmt::Debug;

    fn encoded<T: Record>(sample: &T) -> (Vec<u8>, Vec<u8>) {
        let (mut body, mut layout) = (Vec::new(), Vec::new());
        sample.encode(&mut body);
        T::write_layout(&sample.layout(), &mut layout);
        (body, layout)
    }

    /// What comes back from a row that held another sample.
    fn through_a_row<T: Record>(layout: &T::Layout, body: &mut &[u8]) -> Option<T::Batch> {
        let rows = Rows::new(T::columns(layout, 1, None).ok()?, 1, Ledger::default());
        let mut chunk = rows.claim(0..1);
        T::decode_into(layout, body, T::row(&mut chunk, 0))?;
        drop(chunk);
        Some(T::finish(rows.into_parts().0, layout, 1, None))
    }

    /// Checks that a sample comes back, by value and in a row, and that no shorter bytes are one.
    fn check<T>(description: &str, sample: &T)
    where
        T: Record + PartialEq + Debug,
        T::Batch: PartialEq + Debug,
    {
        let mut described = String::new();
        T::describe(&mut described);
        assert_eq!(described, description);
        let (body, layout_bytes) = encoded(sample);
        let mut rest = &layout_bytes[..];
        let layout = T::read_layout(&mut rest).unwrap();
        assert!(rest.is_empty() && layout == sample.layout());
        for cut in 0..layout_bytes.len() {
            assert_eq!(T::read_layout(&mut &layout_bytes[..cut]), None);
        }
        let mut rest = &body[..];
        assert_eq!(T::decode(&layout, &mut rest).as_ref(), Some(sample));
        assert!(rest.is_empty());
        let mut rest = &body[..];
        assert_eq!(T::check(&layout, &mut rest), Some(()));
        assert!(rest.is_empty());
        let mut rest = &body[..];
        let batch = through_a_row::<T>(&layout, &mut rest).unwrap();
        assert!(rest.is_empty());
        let rows = Rows::new(T::columns(&layout, 1, None).unwrap(), 1, Ledger::default());
        let mut chunk = rows.claim(0..1);
        sample.write(T::row(&mut chunk, 0));
        drop(chunk);
        assert_eq!(batch, T::finish(rows.into_parts().0, &layout, 1, None));
        for cut in 0..body.len() {
            assert_eq!(T::decode(&layout, &mut &body[..cut]), None, "{description} cut at {cut}");
            assert_eq!(T::check(&layout, &mut &body[..cut]), None, "{description} cut at {cut}");
            assert!(through_a_row::<T>(&layout, &mut &body[..cut]).is_none(), "{description} cut at {cut}");
        }
    }

    #[test]
    fn samples_come_back_as_they_were() {
        check("u8", &200_u8);
        check("i8", &-100_i8);
        check("u16", &0x0102_u16);
        check("i16", &-2_i16);
        check("u32", &0x0102_0304_u32);
        check("i32", &i32::MIN);
        check("u64", &u64::MAX);
        check("i64", &i64::MIN);
        check("f32", &-0.0_f32);
        check("f64", &f64::MIN_POSITIVE);
        check("usize", &usize::MAX);
        check("isize", &isize::MIN);
        check("bool", &true);
        check("[u16; 3]", &[1_u16, 2, 3]);
        check("[bool; 2]", &[true, false]);
        check("vec<f32>", &vec![1.0_f32, f32::INFINITY]);
        check("vec<i64>", &Vec::<i64>::new());
        check("array<u8, 2>", &array![[1_u8, 2], [3, 4], [5, 6]]);
        check("array<u8, 2>", &array![[1_u8, 2], [3, 4], [5, 6]].reversed_axes());
        check("array<f32, 2>", &Array2::<f32>::zeros((0, 5)));
        check("array<i32, 0>", &arr0(7));
        check("array<u16>", &ArrayD::from_elem(IxDyn(&[2, 1, 3]), 5_u16));
        check("array<u16>", &ArrayD::from_elem(IxDyn(&[]), 5_u16));
        check("string", &"Grüße".to_owned());
        check("string", &String::new());
        check("(array<f32, 1>, u32)", &(array![1.5_f32], 7_u32));
        check(
            "((vec<u8>, string), [i16; 2], bool, f64, (u8), vec<u32>)",
            &((vec![1_u8], "a".to_owned()), [2_i16, 3], true, 4.0, (5_u8,), vec![6_u32, 7]),
        );
    }

    #[test]
    fn bits_come_back_as_they_were() {
        let nan = f32::from_bits(0x7fc1_2345);
        let (body, _) = encoded(&vec![nan, -nan]);
        let again = Vec::<f32>::decode(&2, &mut &body[..]).unwrap();
        assert_eq!([again[0].to_bits(), again[1].to_bits()], [nan.to_bits(), (-nan).to_bits()]);
        assert_eq!(encoded(&0x0102_0304_u32).0, [4, 3, 2, 1], "little-endian on every machine");
    }

    #[test]
    fn bytes_that_are_no_sample_are_refused() {
        fn refuse<T: Record + PartialEq + Debug>(layout: &T::Layout, bytes: &[u8]) {
            assert_eq!(T::decode(layout, &mut &bytes[..]), None);
            assert_eq!(T::check(layout, &mut &bytes[..]), None);
        }
        refuse::<bool>(&(), &[2]);
        refuse::<[bool; 2]>(&(), &[1, 255]);
        refuse::<(u8, bool)>(&((), ()), &[1, 2]);
        refuse::<String>(&(), &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]);
        let endless = [0xff; 24];
        refuse::<String>(&(), &endless);
        refuse::<Vec<u64>>(&usize::MAX, &endless);
        refuse::<Array2<u8>>(&Ix2(usize::MAX, 2), &endless);
        refuse::<Array2<u8>>(&Ix2(usize::MAX, 0), &endless);
        assert_eq!(ArrayD::<u8>::read_layout(&mut &endless[..]), None);
        #[cfg(target_pointer_width = "32")]
        refuse::<usize>(&(), &endless);
    }

    #[test]
    fn a_row_of_another_layout_is_refused() {
        let bytes = [0; 100];
        assert_eq!(Vec::<u8>::decode_into(&3, &mut &bytes[..], &mut [0; 2]), None);
        assert_eq!(Array2::<u8>::decode_into(&Ix2(2, 2), &mut &bytes[..], &mut [0; 5]), None);
        assert_eq!(<[u8; 3]>::decode_into(&(), &mut &bytes[..], &mut [0; 4]), None);
        assert_eq!(<(Vec<u8>, u8)>::decode_into(&(3, ()), &mut &bytes[..], (&mut [0; 2], &mut 0)), None);
    }
}
