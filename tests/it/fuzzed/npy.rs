//! Any bytes, taken for an `.npy` file, give what a trivial reader gives: the same array, or an error where that finds
//! none.

use half::f16;
use ndarray::{ArrayD, IxDyn};
use procession::Sequence;
use procession::source::{Npy, NpyElement, NpyType};

/// An array as the format's description has it.
#[derive(Debug, PartialEq)]
struct Plain<'a> {
    code: &'a str,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
    data: &'a [u8],
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Token<'a> {
    Mark(char),
    Word(&'a str),
    Text(&'a str),
}

/// Cuts the text of a header into pieces.
fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_ascii_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '{' | '}' | '(' | ')' | ':' | ',' => {
                tokens.push(Token::Mark(first));
                1
            }
            '\'' | '"' => {
                let inner = &rest[1..1 + rest[1..].find(first)?];
                if inner.contains(['\\', '\n']) {
                    return None;
                }
                tokens.push(Token::Text(inner));
                inner.len() + 2
            }
            _ => {
                let len = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                tokens.push(Token::Word(&rest[..len]));
                len
            }
        };
        if len == 0 {
            return None;
        }
        rest = rest[len..].trim_ascii_start();
    }
    Some(tokens)
}

/// The extents of a shape, and what stands behind it.
fn shape<'t, 'a>(mut tokens: &'t [Token<'a>]) -> Option<(Vec<usize>, &'t [Token<'a>])> {
    use Token::{Mark, Word};

    let mut shape = Vec::new();
    loop {
        match tokens {
            [Mark(')'), rest @ ..] => return Some((shape, rest)),
            [Word(number), rest @ ..] => {
                let digits = number.strip_suffix('L').unwrap_or(number);
                if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                    return None;
                }
                shape.push(digits.parse().ok()?);
                tokens = match rest {
                    [Mark(','), rest @ ..] => rest,
                    [Mark(')'), ..] if shape.len() > 1 => rest,
                    _ => return None,
                };
            }
            _ => return None,
        }
    }
}

fn read(bytes: &[u8]) -> Option<Plain<'_>> {
    use Token::{Mark, Text, Word};

    let (len, rest) = match bytes.strip_prefix(b"\x93NUMPY")? {
        [1, 0, a, b, rest @ ..] => (u32::from_le_bytes([*a, *b, 0, 0]), rest),
        [2 | 3, 0, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
        _ => return None,
    };
    let (text, data) = rest.split_at_checked(len as usize)?;
    let tokens = tokens(std::str::from_utf8(text).ok()?)?;
    let (mut descr, mut fortran, mut extents) = (None, None, None);
    let [Mark('{'), tokens @ ..] = &tokens[..] else { return None };
    let mut tokens = tokens;
    while tokens != [Mark('}')] {
        let (twice, rest) = match tokens {
            [Text("descr"), Mark(':'), Text(name), rest @ ..] => (descr.replace(*name).is_some(), rest),
            [Text("fortran_order"), Mark(':'), Word(word @ ("True" | "False")), rest @ ..] => {
                (fortran.replace(*word == "True").is_some(), rest)
            }
            [Text("shape"), Mark(':'), Mark('('), rest @ ..] => {
                let (found, rest) = shape(rest)?;
                (extents.replace(found).is_some(), rest)
            }
            _ => return None,
        };
        tokens = match rest {
            [Mark(','), rest @ ..] => rest,
            [Mark('}')] => rest,
            _ => return None,
        };
        if twice {
            return None;
        }
    }
    let (descr, shape) = (descr?, extents?);
    let code = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
    let size = match code {
        "b1" | "u1" | "i1" => 1,
        "u2" | "i2" | "f2" => 2,
        "u4" | "i4" | "f4" => 4,
        "u8" | "i8" | "f8" => 8,
        _ => return None,
    };
    let nonzero = shape.iter().filter(|&&extent| extent > 0);
    let full = nonzero.fold(size, |size: u128, &extent| size.saturating_mul(extent as u128));
    let num_bytes = if shape.contains(&0) { 0 } else { full };
    let countable = num_bytes > 0 || shape.first().is_none_or(|&count| count <= 1 << 24);
    let fits = full <= isize::MAX as u128 && num_bytes == data.len() as u128 && shape.len() <= 64 && countable;
    let orders_differ = num_bytes > 0 && shape.iter().filter(|&&extent| extent > 1).count() > 1;
    let fortran = fortran? && orders_differ;
    let big_endian = descr.starts_with('>') || (!descr.starts_with('<') && cfg!(target_endian = "big"));
    fits.then_some(Plain { code, big_endian, fortran, shape, data })
}

fn agree(npy: &Npy, plain: &Plain<'_>) {
    let seen = (npy.is_big_endian(), npy.is_fortran(), npy.shape(), npy.data());
    assert_eq!(seen, (plain.big_endian, plain.fortran, &plain.shape[..], plain.data));
    macro_rules! numbers {
        ($($kind:ident $code:literal $number:ty),+) => {
            match npy.element() {
                $(NpyType::$kind => {
                    assert_eq!(plain.code, $code);
                    agree_as::<$number>(npy, plain, |bytes| {
                        let mut bytes = bytes.to_vec();
                        if plain.big_endian {
                            bytes.reverse();
                        }
                        Some(<$number>::from_le_bytes(bytes.try_into().expect("it is as long")))
                    });
                })+
                NpyType::Bool => {
                    assert_eq!(plain.code, "b1");
                    agree_as::<bool>(npy, plain, |bytes| [false, true].get(usize::from(bytes[0])).copied());
                }
            }
        };
    }
    numbers!(
        U8 "u1" u8, U16 "u2" u16, U32 "u4" u32, U64 "u8" u64, I8 "i1" i8, I16 "i2" i16, I32 "i4" i32, I64 "i8" i64,
        F16 "f2" f16, F32 "f4" f32, F64 "f8" f64
    );
}

fn agree_as<T: NpyElement + PartialOrd + std::fmt::Debug>(
    npy: &Npy,
    plain: &Plain<'_>,
    number: impl Fn(&[u8]) -> Option<T>,
) {
    // What is not a number is not equal to itself.
    let same = |a: T, b: Option<T>| Some(a) == b || b.is_some_and(|b| b.partial_cmp(&b).is_none());
    let expected: Vec<Option<T>> = plain.data.chunks(size_of::<T>()).map(number).collect();
    let array: procession::Result<ArrayD<T>> = npy.to_array::<T, IxDyn>();
    assert_eq!(array.is_ok(), expected.iter().all(Option::is_some), "{array:?}");
    if let Ok(array) = &array {
        assert_eq!(array.shape(), plain.shape);
        let array = if plain.fortran { array.t() } else { array.view() };
        assert!(array.iter().zip(&expected).all(|(&a, &b)| same(a, b)));
    }
    let rows = npy.samples::<T, IxDyn>();
    assert_eq!(rows.is_ok(), !plain.shape.is_empty() && !plain.fortran);
    if let Ok(rows) = rows {
        let row_len: usize = plain.shape[1..].iter().product();
        // Rows without elements can be billions.
        for index in (0..rows.len()).take(100) {
            let expected = &expected[index * row_len..(index + 1) * row_len];
            match rows.get(index) {
                Ok(row) => assert!(row.iter().zip(expected).all(|(&a, &b)| same(a, b))),
                Err(error) => assert!(expected.contains(&None) && error.index() == Some(index as u64), "{error}"),
            }
        }
    }
    let scalars = npy.scalars::<T>();
    assert_eq!(scalars.is_ok(), plain.shape.len() == 1);
    if let Ok(scalars) = scalars {
        for (index, &expected) in expected.iter().enumerate() {
            assert!(scalars.get(index).map_or(expected.is_none(), |number| same(number, expected)));
        }
    }
    if let Ok(labels) = npy.labels(10) {
        let integer = |number: &Option<T>| format!("{:?}", number.expect("integers are always some"));
        for (index, expected) in expected.iter().enumerate() {
            let expected = integer(expected).parse().ok().filter(|&label: &u32| label < 10);
            assert_eq!(labels.get(index).ok(), expected);
        }
    }
}

pub(crate) fn check(bytes: &[u8]) {
    match (Npy::from_bytes(bytes.to_vec(), "fuzzed"), read(bytes)) {
        (Ok(npy), Some(plain)) => agree(&npy, &plain),
        (Err(error), None) => assert!(error.to_string().contains("fuzzed"), "{error} names the file"),
        (npy, plain) => panic!("got {npy:?}, wanted {plain:?}"),
    }
}
