//! Any bytes, taken for a file of tokens after a few that choose how it is read, give the windows that a trivial reader
//! gives, or an error where that finds a token that is too large.

use procession::source::Tokens;
use procession::{Error, Sequence};

struct Choice {
    wide: bool,
    skip_bytes: usize,
    vocab_size: Option<u32>,
    length: usize,
    stride: usize,
}

fn open(choice: &Choice, file: &[u8]) -> procession::Result<Tokens> {
    let options = Tokens::options().skip_bytes(choice.skip_bytes);
    let options = match choice.vocab_size {
        Some(vocab_size) => options.vocab_size(vocab_size),
        None => options,
    };
    if choice.wide {
        options.from_bytes::<u32>(file.to_vec(), "fuzzed")
    } else {
        options.from_bytes::<u16>(file.to_vec(), "fuzzed")
    }
}

/// All tokens, if the file has whole ones.
fn read(choice: &Choice, file: &[u8]) -> Option<Vec<u32>> {
    let size = if choice.wide { 4 } else { 2 };
    let data = file.get(choice.skip_bytes..).filter(|data| data.len() % size == 0)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
    Some(data.chunks(size).map(number).collect())
}

pub(crate) fn check(bytes: &[u8]) {
    let [flags, skip_bytes, length, stride, vocab_low, vocab_high, file @ ..] = bytes else { return };
    let vocab_size = u32::from(u16::from_le_bytes([*vocab_low, *vocab_high]));
    let choice = Choice {
        wide: flags & 1 > 0,
        skip_bytes: usize::from(*skip_bytes),
        vocab_size: (flags & 2 > 0).then_some(vocab_size),
        length: usize::from(*length),
        stride: usize::from(*stride),
    };
    match (open(&choice, file), read(&choice, file)) {
        (Ok(tokens), Some(plain)) => agree(&choice, &tokens, &plain),
        (Err(error), None) => names_the_file(&error),
        (tokens, plain) => panic!("got {tokens:?}, wanted {plain:?}"),
    }
}

fn names_the_file(error: &Error) {
    assert!(error.to_string().contains("fuzzed"), "{error} names the file");
}

fn agree(choice: &Choice, tokens: &Tokens, plain: &[u32]) {
    assert_eq!(tokens.num_tokens(), plain.len());
    let windows = tokens.windows(choice.length).and_then(|windows| windows.stride(choice.stride));
    assert_eq!(windows.is_ok(), choice.length > 0 && choice.stride > 0);
    let Ok(windows) = windows else { return };
    let expected: Vec<&[u32]> = plain.windows(choice.length + 1).step_by(choice.stride).collect();
    assert_eq!(windows.len(), expected.len());
    for (index, expected) in expected.into_iter().enumerate() {
        let is_sound = choice.vocab_size.is_none_or(|size| expected.iter().all(|&token| token < size));
        match windows.get(index) {
            Ok((inputs, targets)) => {
                assert!(is_sound && inputs.iter().eq(&expected[..choice.length]) && targets.iter().eq(&expected[1..]));
            }
            Err(error) => {
                assert!(!is_sound, "{error}");
                names_the_file(&error);
            }
        }
    }
}
