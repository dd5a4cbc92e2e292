//! Flat files of tokens: nothing but numbers, as nanoGPT, llm.c and others prepare text for language models.
//!
//! Source: none but custom. A `.bin` file of `u16` or `u32`, little-endian, one token after the other; some begin with a
//! header (of 1,024 bytes in llm.c), which is skipped.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array1, Ix1};

use super::mapped::Mapped;
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

/// The type of the tokens in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenType {
    /// 16-bit numbers, for vocabularies of up to 65,536 tokens.
    U16,
    /// 32-bit numbers.
    U32,
}

impl TokenType {
    /// The size of one token.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }
}

impl fmt::Display for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U16 => "u16",
            Self::U32 => "u32",
        })
    }
}

/// A number that files of tokens may hold: `u16` or `u32`.
pub trait Token: private::Sealed {
    /// Its type in the file.
    const TYPE: TokenType;
}

mod private {
    pub trait Sealed {}
}

impl private::Sealed for u16 {}
impl Token for u16 {
    const TYPE: TokenType = TokenType::U16;
}

impl private::Sealed for u32 {}
impl Token for u32 {
    const TYPE: TokenType = TokenType::U32;
}

/// How a file of tokens is opened.
#[derive(Debug, Clone, Default)]
pub struct TokensOptions {
    skip_bytes: usize,
    vocab_size: Option<u32>,
    in_memory: bool,
}

impl TokensOptions {
    /// How many bytes stand before the first token. The default is 0.
    pub fn skip_bytes(mut self, skip_bytes: usize) -> Self {
        self.skip_bytes = skip_bytes;
        self
    }

    /// The size of the vocabulary: a window with a token at or beyond it is an error. By default tokens are not checked,
    /// as the file does not tell.
    pub fn vocab_size(mut self, vocab_size: u32) -> Self {
        self.vocab_size = Some(vocab_size);
        self
    }

    /// Whether the file is read into memory instead of mapped; see [`Mapped`] for when that is better. The default is
    /// `false`.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Opens a file, as [`Tokens::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Tokens::open`].
    pub fn open<T: Token>(&self, path: impl AsRef<Path>) -> Result<Tokens> {
        self.parse(T::TYPE, if self.in_memory { Mapped::read(path) } else { Mapped::open(path) }?)
    }

    /// Takes the bytes of a file, as [`Tokens::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`Tokens::from_bytes`].
    pub fn from_bytes<T: Token>(
        &self,
        bytes: impl Into<Cow<'static, [u8]>>,
        name: impl Into<PathBuf>,
    ) -> Result<Tokens> {
        self.parse(T::TYPE, Mapped::from_bytes(bytes, name))
    }

    fn parse(&self, token: TokenType, bytes: Mapped) -> Result<Tokens> {
        let (present, skipped) = (bytes.len(), self.skip_bytes);
        let message = match present.checked_sub(skipped) {
            None => format!("{present} bytes, expected at least the {skipped} that are to be skipped"),
            Some(len) if !len.is_multiple_of(token.size_bytes()) => {
                format!("{len} bytes of tokens, expected a multiple of {} for {token}", token.size_bytes())
            }
            Some(_) => {
                let (data_start, vocab_size) = (skipped, self.vocab_size);
                return Ok(Tokens { bytes: Arc::new(bytes), token, data_start, vocab_size });
            }
        };
        Err(Error::new(ErrorKind::Format, message).with_file(bytes.path()))
    }
}

/// A flat file of tokens.
///
/// The file is mapped, and nothing of it is read when it is opened. Cheap to clone: clones share the bytes. It becomes a
/// sequence by [`windows`](Self::windows).
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use procession::Sequence;
/// use procession::source::Tokens;
///
/// let bytes: Vec<u8> = [10_u16, 11, 12, 13, 14, 15, 16].iter().flat_map(|token| token.to_le_bytes()).collect();
/// let tokens = Tokens::options().vocab_size(50_257).from_bytes::<u16>(bytes, "train.bin")?;
/// let windows = tokens.windows(3)?;
/// assert_eq!(windows.len(), 2);
/// assert_eq!(windows.get(0)?, (array![10, 11, 12], array![11, 12, 13]));
/// assert_eq!(windows.get(1)?, (array![13, 14, 15], array![14, 15, 16]));
/// # Ok::<(), procession::Error>(())
/// ```
///
/// Several files as one sequence; no window reaches from one into the next:
///
/// ```no_run
/// use procession::concat_all;
/// use procession::source::{TokenWindows, Tokens};
///
/// let windows = |path| Tokens::open::<u16>(path)?.windows(1024)?.stride(512);
/// let parts: Vec<TokenWindows> = ["a.bin", "b.bin"].into_iter().map(windows).collect::<procession::Result<_>>()?;
/// let all = concat_all(parts);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tokens {
    // Invariant: from `data_start` on it holds whole tokens.
    bytes: Arc<Mapped>,
    token: TokenType,
    data_start: usize,
    vocab_size: Option<u32>,
}

impl Tokens {
    /// Opens a file of tokens of a type, which the file does not tell: `Tokens::open::<u16>(path)`.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](ErrorKind::Io) if it cannot be read; [`Format`](ErrorKind::Format) if its length is
    /// not that of whole tokens, or it is shorter than what is to be skipped.
    pub fn open<T: Token>(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open::<T>(path)
    }

    /// Takes the bytes of a file and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes<T: Token>(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes::<T>(bytes, name)
    }

    /// Options to open a file with.
    pub fn options() -> TokensOptions {
        TokensOptions::default()
    }

    /// The type of the tokens in the file.
    pub fn token(&self) -> TokenType {
        self.token
    }

    /// The number of tokens.
    pub fn num_tokens(&self) -> usize {
        self.data().len() / self.token.size_bytes()
    }

    /// The tokens as they are in the file: little-endian.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.data_start..]
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// Windows of `length` tokens, one behind the other, each with its targets: the tokens that follow on each of its own.
    ///
    /// Window `i` is the tokens `i * stride .. i * stride + length`, and its targets are the same moved on by one. The
    /// stride is `length` at first: each token is an input once, and [`stride`](TokenWindows::stride) changes that. Only
    /// whole windows count: there are `(num_tokens - length - 1) / stride + 1`, or none if there are not more than `length`
    /// tokens.
    ///
    /// # Errors
    ///
    /// If `length` is 0: an error of kind [`Argument`](ErrorKind::Argument).
    pub fn windows(&self, length: usize) -> Result<TokenWindows> {
        if length == 0 {
            return Err(Error::argument("windows of 0 tokens, expected at least 1"));
        }
        Ok(TokenWindows { tokens: self.clone(), length, stride: length })
    }

    /// Reads tokens, of which the first is number `start`.
    #[inline]
    fn read(&self, start: usize, to: &mut [u32]) -> Result<()> {
        let size = self.token.size_bytes();
        let bytes = &self.data()[start * size..(start + to.len()) * size];
        match self.token {
            TokenType::U16 => {
                let tokens = bytes.as_chunks().0.iter();
                to.iter_mut().zip(tokens).for_each(|(to, bytes)| *to = u16::from_le_bytes(*bytes).into());
            }
            TokenType::U32 => {
                let tokens = bytes.as_chunks().0.iter();
                to.iter_mut().zip(tokens).for_each(|(to, bytes)| *to = u32::from_le_bytes(*bytes));
            }
        }
        match self.vocab_size {
            // All at once, which is quick, and one by one only where one is wrong.
            Some(vocab_size) if to.iter().fold(0, |most, &token| most.max(token)) >= vocab_size => {
                Err(self.out_of_range(start, to, vocab_size))
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn out_of_range(&self, start: usize, tokens: &[u32], vocab_size: u32) -> Error {
        let place = tokens.iter().take_while(|&&token| token < vocab_size).count();
        let (number, token) = (start + place, tokens.get(place).copied().unwrap_or_default());
        let message = format!("token {number} is {token}, expected one below {vocab_size}, the size of the vocabulary");
        Error::new(ErrorKind::Format, message).with_file(self.path())
    }
}

/// Windows of tokens, each with its targets: `(Array1<u32>, Array1<u32>)`, `(length)` each; made by [`Tokens::windows`].
///
/// Tokens are `u32`, whatever the file has: it holds every vocabulary, it is what embeddings are looked up by in most
/// libraries, and a batch of it takes half the memory of one of `i64`, which those that want it make of it in
/// [`map`](crate::LoaderBuilder::map).
///
/// A window is read from the file straight to its row of the batch. [`shuffle`](crate::LoaderBuilder::shuffle) visits them
/// in random order; with a stride of 1 every stretch of the text is a window.
///
/// # Errors
///
/// `get` fails only where a size of the vocabulary was given and a token is not below it: an error of kind
/// [`Format`](ErrorKind::Format) with the number of the token in the file.
#[derive(Debug, Clone)]
pub struct TokenWindows {
    tokens: Tokens,
    // Invariant: both are at least 1.
    length: usize,
    stride: usize,
}

impl TokenWindows {
    /// Starts a window every `stride` tokens.
    ///
    /// # Errors
    ///
    /// If `stride` is 0: an error of kind [`Argument`](ErrorKind::Argument).
    pub fn stride(self, stride: usize) -> Result<Self> {
        if stride == 0 {
            return Err(Error::argument("a stride of 0 tokens, expected at least 1"));
        }
        Ok(Self { stride, ..self })
    }

    /// The number of tokens in a window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The file, or the name that was given to bytes from memory.
    pub fn path(&self) -> &Path {
        self.tokens.path()
    }
}

impl Sequence for TokenWindows {
    type Sample = (Array1<u32>, Array1<u32>);

    fn len(&self) -> usize {
        // The last target is one token more.
        self.tokens.num_tokens().checked_sub(self.length).map_or(0, |starts| starts.div_ceil(self.stride))
    }
    fn get(&self, index: usize) -> Result<Self::Sample> {
        check_index(index, self.len());
        let (mut inputs, mut targets) = (vec![0; self.length], vec![0; self.length]);
        self.get_into(index, (&mut inputs, &mut targets))?;
        Ok((inputs.into(), targets.into()))
    }
    fn layout(&self) -> Option<(Ix1, Ix1)> {
        Some((Ix1(self.length), Ix1(self.length)))
    }
    #[inline]
    fn get_into(&self, index: usize, (inputs, targets): (&mut [u32], &mut [u32])) -> Result<()> {
        check_index(index, self.len());
        let start = index * self.stride;
        let last = self.length - 1;
        self.tokens
            .read(start, inputs)
            .and_then(|()| {
                targets[..last].copy_from_slice(&inputs[1..]);
                self.tokens.read(start + self.length, &mut targets[last..])
            })
            .map_err(|error| error.with_index(index as u64))
    }
    fn size_bytes(&self, _index: usize) -> Option<usize> {
        Some(2 * self.length * size_of::<u32>())
    }
    fn file(&self, _index: usize) -> Option<PathBuf> {
        Some(self.path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::concat_all;
    use crate::testing::{check_rows, samples};
    use ndarray::array;

    fn bytes_of(tokens: &[u16]) -> Vec<u8> {
        tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
    }

    fn tokens(len: u16) -> Tokens {
        Tokens::from_bytes::<u16>(bytes_of(&(0..len).collect::<Vec<_>>()), "the-file").unwrap()
    }

    #[test]
    fn windows_keep_the_contract() {
        for (len, length, stride) in [(20, 3, 3), (20, 3, 1), (20, 3, 7), (4, 3, 1), (3, 3, 1), (0, 1, 1), (2, 1, 1)] {
            let windows = tokens(len).windows(length).unwrap().stride(stride).unwrap();
            check_rows(&windows);
            assert_eq!(windows.layout(), Some((Ix1(length), Ix1(length))));
        }
    }

    #[test]
    fn windows_are_those_of_the_file_and_targets_follow_them() {
        for len in 0..20_u16 {
            for length in 1..8_u32 {
                for stride in 1..8 {
                    let windows = tokens(len).windows(length as usize).unwrap().stride(stride).unwrap();
                    let starts = (0..).step_by(stride).take_while(|start| start + length < u32::from(len));
                    let expected: Vec<(Array1<u32>, Array1<u32>)> = starts
                        .map(|start| ((start..start + length).collect(), (start + 1..=start + length).collect()))
                        .collect();
                    assert_eq!(samples(&windows), expected, "{len} tokens, length {length}, stride {stride}");
                }
            }
        }
        let windows = tokens(10).windows(3).unwrap();
        assert_eq!((windows.length(), windows.size_bytes(0)), (3, Some(24)));
        assert_eq!(samples(&windows).len(), 3);
        assert_eq!(windows.file(0), Some("the-file".into()));
    }

    #[test]
    fn both_types_are_read() {
        let small = Tokens::from_bytes::<u16>(&[1, 0, 0xff, 0xff][..], "small").unwrap();
        assert_eq!(samples(&small.windows(1).unwrap()), [(array![1], array![65_535])]);
        let large = Tokens::from_bytes::<u32>(&[1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff][..], "large").unwrap();
        assert_eq!(samples(&large.windows(1).unwrap()), [(array![0x0403_0201], array![u32::MAX])]);
        assert_eq!((small.token(), small.num_tokens(), small.data()), (TokenType::U16, 2, &[1, 0, 0xff, 0xff][..]));
        assert_eq!((large.token(), large.num_tokens()), (TokenType::U32, 2));
    }

    #[test]
    fn a_header_is_skipped() {
        let options = Tokens::options().skip_bytes(3);
        let tokens = options.from_bytes::<u16>(&[9, 9, 9, 1, 0, 2, 0][..], "x").unwrap();
        assert_eq!(samples(&tokens.windows(1).unwrap()), [(array![1], array![2])]);
        assert_eq!(options.from_bytes::<u16>(&[9, 9, 9][..], "x").unwrap().num_tokens(), 0);
        for (len, expected) in [
            (2, "2 bytes, expected at least the 3 that are to be skipped (file x)"),
            (4, "1 bytes of tokens, expected a multiple of 2 for u16 (file x)"),
        ] {
            let error = options.from_bytes::<u16>(vec![0; len], "x").unwrap_err();
            assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Format));
        }
    }

    #[test]
    fn every_cut_is_whole_tokens_or_refused() {
        let whole = bytes_of(&[1, 2, 3, 4]);
        for len in 0..whole.len() {
            let tokens = Tokens::from_bytes::<u32>(whole[..len].to_vec(), "x");
            assert_eq!(tokens.is_ok(), len % 4 == 0, "cut at {len}");
            if let Err(error) = tokens {
                let expected = format!("{len} bytes of tokens, expected a multiple of 4 for u32 (file x)");
                assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Format));
            }
        }
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_an_error_with_its_place() {
        let with = |size, numbers: &[u16]| {
            let tokens = Tokens::options().vocab_size(size).from_bytes::<u16>(bytes_of(numbers), "the-file");
            tokens.unwrap().windows(2).unwrap()
        };
        let windows = with(9, &[1, 2, 8, 3, 9, 4, 5, 6]);
        assert_eq!(windows.get(0).unwrap(), (array![1, 2], array![2, 8]));
        // As the last target, and as an input of the next window.
        for index in [1, 2] {
            let error = windows.get(index).unwrap_err();
            let expected = format!(
                "token 4 is 9, expected one below 9, the size of the vocabulary (index {index}, file the-file)"
            );
            assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Format));
            let mut rows = ([0; 2], [0; 2]);
            assert!(windows.get_into(index, (&mut rows.0, &mut rows.1)).is_err());
        }
        assert!(with(10, &[1, 9, 8]).get(0).is_ok());
        assert!(with(0, &[0, 0, 0]).get(0).is_err());
    }

    #[test]
    fn windows_that_are_none_are_refused() {
        assert_eq!(tokens(9).windows(0).unwrap_err().message(), "windows of 0 tokens, expected at least 1");
        let error = tokens(9).windows(1).unwrap().stride(0).unwrap_err();
        assert_eq!((error.message(), error.kind()), ("a stride of 0 tokens, expected at least 1", ErrorKind::Argument));
        assert_eq!(tokens(9).windows(usize::MAX).unwrap().len(), 0);
        assert_eq!(tokens(9).windows(1).unwrap().stride(usize::MAX).unwrap().len(), 1);
    }

    #[test]
    fn many_files_are_one_sequence() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a.bin"), dir.path().join("b.bin")];
        std::fs::write(&paths[0], bytes_of(&[1, 2, 3, 4])).unwrap();
        std::fs::write(&paths[1], bytes_of(&[5, 6, 7])).unwrap();
        let all = concat_all(paths.iter().map(|path| Tokens::open::<u16>(path).unwrap().windows(2).unwrap()));
        check_rows(&all);
        assert_eq!(samples(&all), [(array![1, 2], array![2, 3]), (array![5, 6], array![6, 7])]);
        assert_eq!(all.file(1), Some(paths[1].clone()));
        std::fs::write(&paths[0], bytes_of(&[1, 2, 3, 4])).unwrap();
        let kept = Tokens::options().in_memory(true).open::<u16>(&paths[0]).unwrap();
        std::fs::write(&paths[0], b"").unwrap();
        assert_eq!(kept.windows(3).unwrap().get(0).unwrap(), (array![1, 2, 3], array![2, 3, 4]));
        for path in [dir.path().to_owned(), dir.path().join("missing")] {
            let error = Tokens::open::<u32>(&path).unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*path)));
        }
    }
}
