//! What a field can be read as.

/// A type that the fields of a column can be read as: `f32`, `f64`, an integer of 8 to 64 bits, `bool` or `String`.
///
/// Numbers are written as in Rust, with or without spaces around them: `-1.5`, `2e-3`, `inf`, `NaN`. A number that the
/// type cannot hold is an error, not infinity. Truth values are `true`, `True`, `TRUE` or `1`, and `false`, `False`,
/// `FALSE` or `0`. A `String` is the field as it is; it may be empty.
pub trait CsvValue: Clone + Send + Sync + 'static + private::Sealed {
    #[doc(hidden)]
    const EXPECTED: &'static str;
    /// Whether a field without text is a value.
    #[doc(hidden)]
    const MAY_BE_EMPTY: bool;

    #[doc(hidden)]
    fn parse(text: &str) -> Option<Self>;
}

mod private {
    pub trait Sealed {}
}

macro_rules! integer {
    ($($number:ty),+) => {$(
        impl private::Sealed for $number {}
        impl CsvValue for $number {
            const EXPECTED: &'static str = concat!("a number of type ", stringify!($number));
            const MAY_BE_EMPTY: bool = false;

            fn parse(text: &str) -> Option<Self> {
                text.trim_ascii().parse().ok()
            }
        }
    )+};
}
integer!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

macro_rules! float {
    ($($number:ty),+) => {$(
        impl private::Sealed for $number {}
        impl CsvValue for $number {
            const EXPECTED: &'static str = concat!("a number of type ", stringify!($number));
            const MAY_BE_EMPTY: bool = false;

            fn parse(text: &str) -> Option<Self> {
                let number: Self = text.trim_ascii().parse().ok()?;
                // What has digits is finite, but may be too large.
                let is_too_large = number.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
                (!is_too_large).then_some(number)
            }
        }
    )+};
}
float!(f32, f64);

impl private::Sealed for bool {}
impl CsvValue for bool {
    const EXPECTED: &'static str = "true or false";
    const MAY_BE_EMPTY: bool = false;

    fn parse(text: &str) -> Option<Self> {
        match text.trim_ascii() {
            "true" | "True" | "TRUE" | "1" => Some(true),
            "false" | "False" | "FALSE" | "0" => Some(false),
            _ => None,
        }
    }
}

impl private::Sealed for String {}
impl CsvValue for String {
    const EXPECTED: &'static str = "text";
    const MAY_BE_EMPTY: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_refused() {
        for (text, expected) in
            [("1.5", 1.5), (" -2e-3\t", -0.002), ("inf", f32::INFINITY), ("1e-60", 0.0), ("+7", 7.0)]
        {
            assert_eq!(f32::parse(text), Some(expected), "{text}");
        }
        assert!(f32::parse("NaN").unwrap().is_nan());
        for text in ["", " ", "1,5", "1 5", "abc", "0x10", "1e39", "-1e39", "1_000"] {
            assert_eq!(f32::parse(text), None, "{text}");
        }
        assert_eq!((f64::parse("1e39"), f64::parse("1e309")), (Some(1e39), None));
        assert_eq!(
            (u8::parse(" 255 "), u8::parse("256"), u8::parse("-1"), u8::parse("1.0")),
            (Some(255), None, None, None)
        );
        assert_eq!((i64::parse("-9223372036854775808"), i8::parse("-129")), (Some(i64::MIN), None));
    }

    #[test]
    fn truth_and_text_are_read() {
        assert_eq!(["true", "True ", "TRUE", "1"].map(bool::parse), [Some(true); 4]);
        assert_eq!(["false", " False", "FALSE", "0"].map(bool::parse), [Some(false); 4]);
        assert_eq!(["", "yes", "2", "tRUE"].map(bool::parse), [None; 4]);
        assert_eq!(String::parse(" a "), Some(" a ".to_owned()));
    }
}
