//! What stands before the elements: the literal of a Python dictionary.

use std::io::{self, Write};

use super::super::extents::{difference, expect_countable, size_bytes};
use super::element::NpyType;
use crate::error::{Error, ErrorKind, Result};

/// The most dimensions that NumPy's arrays have.
pub(super) const MAX_RANK: usize = 64;

const MAGIC: &[u8] = b"\x93NUMPY";

/// What a header says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    /// Where the elements begin.
    pub(super) len: usize,
    pub(super) element: NpyType,
    pub(super) big_endian: bool,
    /// Whether the elements lie in Fortran order, and in C order they would lie otherwise.
    pub(super) fortran: bool,
    pub(super) shape: Vec<usize>,
    data_len: usize,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let (start, len) = Self::extent(bytes)?;
        let Some(text) = bytes.get(start..len) else {
            return format(format!("NPY header of {} bytes, expected {len} as the first of them say", bytes.len()));
        };
        let dictionary = Literal { text, at: 0, start }.dictionary()?;
        let (element, big_endian) = element(dictionary.descr)?;
        let shape = dictionary.shape;
        let Some(data_len) = size_bytes(&shape, element.size_bytes()) else {
            return format(format!("NPY shape {shape:?} of {element}, larger than the address space"));
        };
        expect_countable(&shape, data_len)?;
        // With one extent, or with none above 1 but one, both orders are the same.
        let orders_differ = data_len > 0 && shape.iter().filter(|&&extent| extent > 1).count() > 1;
        Ok(Self { len, element, big_endian, fortran: dictionary.fortran_order && orders_differ, shape, data_len })
    }

    /// How many bytes from the beginning of a file hold its header, if these tell it.
    #[cfg(feature = "object-store")]
    pub(super) fn needs(start: &[u8]) -> Option<usize> {
        Self::extent(start).ok().map(|(_, len)| len)
    }

    /// Where the dictionary begins, and where it ends.
    fn extent(bytes: &[u8]) -> Result<(usize, usize)> {
        let present = bytes.len();
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            let first = &bytes[..present.min(MAGIC.len())];
            return format(format!("first bytes {first:02x?}, expected {MAGIC:02x?} of an NPY file"));
        };
        let (version, len_bytes, len) = match rest {
            [major @ 1, minor, a, b, ..] => ([major, minor], 2, u32::from(u16::from_le_bytes([*a, *b]))),
            [major @ (2 | 3), minor, a, b, c, d, ..] => ([major, minor], 4, u32::from_le_bytes([*a, *b, *c, *d])),
            [major @ (1..=3), minor, ..] if *minor == 0 => {
                let expected = MAGIC.len() + if *major == 1 { 4 } else { 6 };
                return format(format!("NPY header of {present} bytes, expected at least {expected}"));
            }
            [major, minor, ..] => ([major, minor], 0, 0),
            _ => return format(format!("NPY header of {present} bytes, expected at least 8")),
        };
        if len_bytes == 0 || *version[1] != 0 {
            let [major, minor] = version;
            return format(format!("NPY version {major}.{minor}, expected 1.0, 2.0 or 3.0"));
        }
        let start = MAGIC.len() + 2 + len_bytes;
        let len = usize::try_from(len).ok().and_then(|len| start.checked_add(len)).unwrap_or(usize::MAX);
        Ok((start, len))
    }

    pub(super) fn check_data(&self, present: usize) -> Result<()> {
        let (shape, element, expected) = (&self.shape, self.element, self.data_len);
        match difference(present, expected) {
            None => Ok(()),
            Some(difference) => format(format!(
                "{present} bytes of NPY data, expected {expected} for {shape:?} of {element}: {difference}"
            )),
        }
    }
}

fn format<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::Format, message))
}

/// The type of the elements, and whether their bytes come in big-endian order.
fn element(descr: &str) -> Result<(NpyType, bool)> {
    let code = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
    if let Some(element) = NpyType::from_code(code) {
        // Without an order, or with `=`, it is that of the machine that reads, as in NumPy.
        let native = cfg!(target_endian = "big");
        return Ok((element, if descr.starts_with('<') { false } else { descr.starts_with('>') || native }));
    }
    let what = match code.as_bytes().first() {
        Some(b'O') => " (Python objects)",
        Some(b'V') => " (records)",
        Some(b'c') => " (complex numbers)",
        Some(b'S' | b'U' | b'a') => " (strings)",
        Some(b'M' | b'm') => " (times)",
        _ => "",
    };
    format(format!("elements of type {:?}{what}, expected b1, i1 to i8, u1 to u8, f2, f4 or f8", shortened(descr)))
}

/// The beginning of a text that may be anything.
fn shortened(text: &str) -> String {
    const CHARS: usize = 40;
    let mut start: String = text.chars().take(CHARS).collect();
    if text.chars().nth(CHARS).is_some() {
        start.push_str("..");
    }
    start
}

/// The entries of a header.
struct Dictionary<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// A reader of the few literals of Python that stand in headers.
struct Literal<'a> {
    text: &'a [u8],
    // Invariant: at most the length of `text`.
    at: usize,
    /// Where the text begins in the file.
    start: usize,
}

impl<'a> Literal<'a> {
    fn dictionary(mut self) -> Result<Dictionary<'a>> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{', "a dictionary")?;
        while !self.eat(b'}') {
            let key = self.string("a key or the end of the dictionary")?;
            self.expect(b':', "a colon")?;
            let twice = match key {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => fortran_order.replace(self.truth()?).is_some(),
                "shape" => shape.replace(self.extents()?).is_some(),
                other => {
                    let message =
                        format!("NPY header with {:?}, expected descr, fortran_order and shape", shortened(other));
                    return format(message);
                }
            };
            if twice {
                return format(format!("NPY header with {key} twice"));
            }
            if !self.eat(b',') {
                self.expect(b'}', "a comma or the end of the dictionary")?;
                break;
            }
        }
        self.skip_spaces();
        if self.at < self.text.len() {
            return self.unexpected("nothing behind the dictionary");
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Dictionary { descr, fortran_order, shape }),
            (descr, fortran_order, _) => {
                let missing = if descr.is_none() {
                    "descr"
                } else if fortran_order.is_none() {
                    "fortran_order"
                } else {
                    "shape"
                };
                format(format!("NPY header without {missing}"))
            }
        }
    }

    fn descr(&mut self) -> Result<&'a str> {
        self.skip_spaces();
        if matches!(self.text.get(self.at), Some(b'[' | b'(')) {
            return format("elements that are records, expected b1, i1 to i8, u1 to u8, f2, f4 or f8".to_owned());
        }
        self.string("the type of the elements")
    }

    /// A text in quotes, without escapes.
    fn string(&mut self, what: &str) -> Result<&'a str> {
        self.skip_spaces();
        let Some(&quote @ (b'\'' | b'"')) = self.text.get(self.at) else { return self.unexpected(what) };
        let rest = &self.text[self.at + 1..];
        let len = rest.iter().position(|&byte| byte == quote);
        let inner = len.and_then(|len| std::str::from_utf8(&rest[..len]).ok());
        match inner.filter(|inner| !inner.contains(['\\', '\n'])) {
            Some(inner) => {
                self.at += inner.len() + 2;
                Ok(inner)
            }
            None => self.unexpected(what),
        }
    }

    fn truth(&mut self) -> Result<bool> {
        self.skip_spaces();
        for (word, truth) in [(&b"True"[..], true), (b"False", false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(truth);
            }
        }
        self.unexpected("True or False")
    }

    /// A tuple of numbers. One that is not in a tuple of its own needs a comma, or it would be a number in parentheses.
    fn extents(&mut self) -> Result<Vec<usize>> {
        let mut extents = Vec::new();
        self.expect(b'(', "a tuple of extents")?;
        while !self.eat(b')') {
            if extents.len() == MAX_RANK {
                return format(format!("NPY shape of more than {MAX_RANK} dimensions, expected no more"));
            }
            extents.push(self.number()?);
            if !self.eat(b',') {
                let what = if extents.len() == 1 { "a comma" } else { "a comma or the end of the tuple" };
                if extents.len() == 1 || !self.eat(b')') {
                    return self.unexpected(what);
                }
                break;
            }
        }
        Ok(extents)
    }

    fn number(&mut self) -> Result<usize> {
        self.skip_spaces();
        let digits = &self.text[self.at..];
        let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
        if digits.is_empty() {
            return self.unexpected("an extent");
        }
        let number = digits
            .iter()
            .try_fold(0_usize, |number, digit| number.checked_mul(10)?.checked_add(usize::from(digit - b'0')));
        let Some(number) = number else { return self.unexpected("an extent within the address space") };
        self.at += digits.len();
        // What Python 2 wrote behind long numbers.
        if self.text.get(self.at) == Some(&b'L') {
            self.at += 1;
        }
        Ok(number)
    }

    fn skip_spaces(&mut self) {
        let spaces = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += spaces.count();
    }

    /// Takes a byte, behind any spaces, if it is this one.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_spaces();
        let there = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { self.unexpected(what) }
    }

    fn unexpected<T>(&self, what: &str) -> Result<T> {
        let found = match self.text.get(self.at..).filter(|rest| !rest.is_empty()) {
            Some(rest) => format!("{:?}", String::from_utf8_lossy(&rest[..rest.len().min(20)])),
            None => "the end of the header".to_owned(),
        };
        format(format!("NPY header has {found} at byte {}, expected {what}", self.start + self.at))
    }
}

/// Writes the header of an array in C order, byte for byte as NumPy does since its version 1.24.
pub(super) fn write(to: &mut impl Write, element: NpyType, shape: &[usize]) -> io::Result<()> {
    /// NumPy leaves room for the first extent to grow to this many digits.
    const GROWTH_DIGITS: usize = 21;
    const ALIGNMENT: usize = 64;
    const PREFIX_LEN: usize = 10;

    let order = if element.size_bytes() == 1 { '|' } else { '<' };
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if extents.len() == 1 { "," } else { "" };
    let (descr, joined) = (element.code(), extents.join(", "));
    let mut text = format!("{{'descr': '{order}{descr}', 'fortran_order': False, 'shape': ({joined}{comma}), }}");
    let room = extents.first().map_or(0, |first| GROWTH_DIGITS - first.len());
    // A full line of spaces where none would be needed: so does NumPy.
    let len = text.len() + room + 1;
    let len = len + ALIGNMENT - (PREFIX_LEN + len) % ALIGNMENT;
    text.extend(std::iter::repeat_n(' ', len - 1 - text.len()));
    text.push('\n');
    let len = u16::try_from(text.len()).expect("the extents of at most 64 dimensions are not that long");
    to.write_all(MAGIC)?;
    to.write_all(&[1, 0])?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_text(text: &str) -> Vec<u8> {
        [MAGIC, &[1, 0], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
    }

    fn parse(text: &str) -> Result<Header> {
        Header::parse(&with_text(text))
    }

    fn message(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        error.message().to_owned()
    }

    #[test]
    fn samples_without_elements_are_not_more_than_can_be_counted() {
        let of = |shape: &str| parse(&format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}"));
        for shape in ["(16777216, 0)", "(0,)", "(0, 4611686018427387904)", "(3, 1152921504606846976, 0)"] {
            assert_eq!(of(shape).map(|header| header.data_len).map_err(|error| error.kind()), Ok(0), "{shape}");
        }
        for shape in ["(16777217, 0)", "(1152921504606846976, 0)", "(100000000, 2, 0)"] {
            assert_eq!(of(shape).unwrap_err().kind(), ErrorKind::Limit, "{shape}");
        }
    }

    #[test]
    fn any_way_of_writing_the_dictionary_is_read() {
        let plain = parse("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }          \n").unwrap();
        assert_eq!((plain.element, plain.big_endian, plain.fortran), (NpyType::I32, false, false));
        assert_eq!((&plain.shape[..], plain.data_len), (&[2, 3][..], 24));
        for text in [
            "{'descr':'<i4','fortran_order':False,'shape':(2,3)}",
            "{\"shape\": (2L, 3L,), \"fortran_order\": False, \"descr\": \"<i4\"}\n",
            " {\n'fortran_order' : False , 'descr' : '<i4' , 'shape' : ( 2 , 3 ) , } \t\r\n",
        ] {
            let header = parse(text).unwrap();
            assert_eq!(Header { len: plain.len, ..header }, plain, "{text}");
        }
        let shape = |shape| parse(&format!("{{'descr': '|u1', 'fortran_order': True, 'shape': {shape}}}"));
        assert_eq!(shape("()").unwrap().shape, [0; 0]);
        assert_eq!(shape("(7,)").unwrap().shape, [7]);
        assert_eq!((shape("()").unwrap().data_len, shape("(0, 5)").unwrap().data_len), (1, 0));
        // Both orders are one, or not.
        for (text, fortran) in
            [("()", false), ("(5,)", false), ("(1, 5, 1)", false), ("(0, 5, 5)", false), ("(2, 1, 2)", true)]
        {
            assert_eq!(shape(text).unwrap().fortran, fortran, "{text}");
        }
    }

    #[test]
    fn the_byte_order_is_that_of_the_file_or_the_machine() {
        let big = |descr| parse(&format!("{{'descr': '{descr}', 'fortran_order': True, 'shape': ()}}")).unwrap();
        assert_eq!((big("<f2").big_endian, big(">f2").big_endian), (false, true));
        for descr in ["=f2", "f2", "|f2"] {
            assert_eq!(big(descr).big_endian, cfg!(target_endian = "big"));
        }
    }

    #[test]
    fn a_dictionary_that_is_none_is_refused_with_the_place() {
        let rest = "'fortran_order': False, 'shape': (2, 3), }";
        for (text, expected) in [
            ("", "NPY header has the end of the header at byte 10, expected a dictionary"),
            ("[1]", "NPY header has \"[1]\" at byte 10, expected a dictionary"),
            ("{}", "NPY header without descr"),
            ("{", "NPY header has the end of the header at byte 11, expected a key or the end of the dictionary"),
            ("{'descr': '<f4', 'shape': (2,)}", "NPY header without fortran_order"),
            ("{'descr': '<f4', 'fortran_order': False}", "NPY header without shape"),
            ("{'descr' '<f4'}", "NPY header has \"'<f4'}\" at byte 19, expected a colon"),
            ("{'descr': 4}", "NPY header has \"4}\" at byte 20, expected the type of the elements"),
            ("{'descr': '<f4}", "NPY header has \"'<f4}\" at byte 20, expected the type of the elements"),
            (
                "{'a\\'': '<f4'}",
                "NPY header has \"'a\\\\'': '<f4'}\" at byte 11, expected a key or the end of the dictionary",
            ),
            ("{'descr': '<f4', 'descr': '<f4'}", "NPY header with descr twice"),
            ("{'more': 1}", "NPY header with \"more\", expected descr, fortran_order and shape"),
            ("{'fortran_order': 1}", "NPY header has \"1}\" at byte 28, expected True or False"),
            ("{'shape': 3}", "NPY header has \"3}\" at byte 20, expected a tuple of extents"),
            ("{'shape': (3)}", "NPY header has \")}\" at byte 22, expected a comma"),
            ("{'shape': (3, 4}", "NPY header has \"}\" at byte 25, expected a comma or the end of the tuple"),
            ("{'shape': (-3,)}", "NPY header has \"-3,)}\" at byte 21, expected an extent"),
            ("{'shape': (3, 1.5)}", "NPY header has \".5)}\" at byte 25, expected a comma or the end of the tuple"),
            (
                "{'shape': (99999999999999999999,)}",
                "NPY header has \"99999999999999999999\" at byte 21, expected an extent within the address space",
            ),
            (
                "{'descr': '<f4' 'shape': ()}",
                "NPY header has \"'shape': ()}\" at byte 26, expected a comma or the end of the dictionary",
            ),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
        assert!(message(&format!("{{'descr': '<f4', {rest} more")).ends_with("expected nothing behind the dictionary"));
        let ones = "1, ".repeat(64);
        assert!(parse(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({ones})}}")).is_ok());
        let many = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({ones}1)}}");
        assert_eq!(message(&many), "NPY shape of more than 64 dimensions, expected no more");
    }

    #[test]
    fn elements_that_are_no_numbers_are_refused_by_name() {
        let of = |descr: &str| message(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,)}}"));
        let expected = "expected b1, i1 to i8, u1 to u8, f2, f4 or f8";
        for (descr, what) in [
            ("'|O'", "elements of type \"|O\" (Python objects), "),
            ("'|V2'", "elements of type \"|V2\" (records), "),
            ("'<c8'", "elements of type \"<c8\" (complex numbers), "),
            ("'<U3'", "elements of type \"<U3\" (strings), "),
            ("'<M8[ns]'", "elements of type \"<M8[ns]\" (times), "),
            ("'<f16'", "elements of type \"<f16\", "),
            ("''", "elements of type \"\", "),
            ("[('a', '<f4'), ('b', '<i4')]", "elements that are records, "),
            ("('<f4', (2,))", "elements that are records, "),
        ] {
            assert_eq!(of(descr), format!("{what}{expected}"));
        }
        assert!(of(&format!("'{}'", "x".repeat(1000))).len() < 200);
    }

    #[test]
    fn a_shape_that_is_too_large_is_refused() {
        for shape in ["(9223372036854775807, 2)", "(9223372036854775807, 9223372036854775807, 0)"] {
            let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}");
            assert!(message(&text).ends_with("of f64, larger than the address space"), "{shape}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for shape in [&[][..], &[0], &[7], &[1_000_000, 3], &[usize::MAX / 16, 1], &[1; 64]] {
            for element in [NpyType::Bool, NpyType::F32, NpyType::U64] {
                let mut bytes = Vec::new();
                write(&mut bytes, element, shape).unwrap();
                let header = Header::parse(&bytes).unwrap();
                assert_eq!((header.element, &header.shape[..], header.len), (element, shape, bytes.len()));
                assert!(bytes.len() % 64 == 0 && bytes.ends_with(b"\n"));
            }
        }
    }
}
