//! The one error type of the crate.
//!
//! A low-level function says *what* went wrong; each caller on the way up adds *where*: the file, the index, the
//! position, the epoch. Nothing is flattened to a string: the cause stays reachable through
//! [`source`](std::error::Error::source).

use std::any::Any;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause of any type that an [`Error`] can carry.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What kind of failure an [`Error`] reports, to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading or writing failed; the cause is an [`io::Error`].
    Io,
    /// Bytes do not follow the format they claim to be in.
    Format,
    /// A size is larger than a limit allows.
    Limit,
    /// The user's own code returned an error for a sample.
    Sample,
    /// The user's own code panicked; [`Error::into_panic`] gives the payload.
    Panic,
    /// A sample took longer than its time-out.
    Timeout,
    /// Samples or arrays that have to agree in shape do not.
    Shape,
    /// A sampler gave an index that the sequence does not have.
    Sampler,
    /// More samples failed than the failure budget allows.
    Budget,
    /// A saved state does not fit the loader it is given to.
    State,
    /// An argument has a value that it must not have.
    Argument,
    /// A number that must be finite is not.
    Numeric,
    /// What was asked for was ended by something else that was asked for since.
    Interrupted,
}

impl ErrorKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Io => "input/output failed",
            Self::Format => "wrong format",
            Self::Limit => "limit exceeded",
            Self::Sample => "loading the sample failed",
            Self::Panic => "panic while loading",
            Self::Timeout => "time-out while loading",
            Self::Shape => "shapes differ",
            Self::Sampler => "sampler out of range",
            Self::Budget => "failure budget exceeded",
            Self::State => "state does not fit",
            Self::Argument => "invalid argument",
            Self::Numeric => "number is not finite",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, where in the epoch, and in which file.
///
/// # Examples
///
/// ```
/// use procession::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Format, "magic number 7, expected 2051").with_file("train-images");
/// assert_eq!(error.kind(), ErrorKind::Format);
/// assert_eq!(error.to_string(), "magic number 7, expected 2051 (file train-images)");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    epoch: Option<u64>,
    position: Option<u64>,
    index: Option<u64>,
    file: Option<PathBuf>,
    cause: Option<BoxError>,
    // A payload is `Send` but not `Sync`; the mutex makes the error `Sync` and is never contended.
    panic: Option<Mutex<Box<dyn Any + Send>>>,
}

impl Error {
    /// Makes an error of a kind with a message: lower case, without a full stop, naming the offending value and the
    /// allowed ones.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            epoch: None,
            position: None,
            index: None,
            file: None,
            cause: None,
            panic: None,
        }))
    }

    /// Wraps any error that the user's code returned for a sample. An [`Error`] of this crate passes unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Error, ErrorKind};
    ///
    /// let error = Error::sample("no such label");
    /// assert_eq!(error.kind(), ErrorKind::Sample);
    /// assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no such label");
    /// ```
    pub fn sample(cause: impl Into<BoxError>) -> Self {
        match cause.into().downcast::<Error>() {
            Ok(error) => *error,
            Err(cause) => Self::new(ErrorKind::Sample, ErrorKind::Sample.as_str()).with_cause(cause),
        }
    }

    /// What a system call said of a file.
    pub(crate) fn io(message: &'static str, cause: io::Error, file: &Path) -> Self {
        Self::new(ErrorKind::Io, message).with_cause(cause).with_file(file)
    }

    /// A panic of which only the workers' own message tells.
    pub(crate) fn worker_panicked() -> Self {
        let message = "a worker panicked outside of loading a sample, perhaps in a destructor; its message was printed";
        Self::new(ErrorKind::Panic, message)
    }

    /// An invalid argument: a value that a builder or constructor must not be given.
    pub(crate) fn argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Argument, message)
    }

    /// Keeps the payload of a caught panic.
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        let message = match text {
            Some(text) => format!("panic while loading: {text}"),
            None => "panic while loading, with a payload that is not text".to_owned(),
        };
        let mut error = Self::new(ErrorKind::Panic, message);
        error.0.panic = Some(Mutex::new(payload));
        error
    }

    /// Adds to what went wrong, where a place has no field of its own.
    #[cfg(feature = "train")]
    pub(crate) fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.0.message = format!("{}{detail}", self.0.message).into();
        self
    }

    /// Adds the cause.
    pub fn with_cause(mut self, cause: impl Into<BoxError>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds the file, unless one is known already: the innermost place is the most precise.
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.0.file.get_or_insert_with(|| file.into());
        self
    }

    /// Sets the index of the sample. The outermost caller knows the index that the user knows, so it wins over one
    /// set before.
    pub fn with_index(mut self, index: u64) -> Self {
        self.0.index = Some(index);
        self
    }

    /// Sets the sample's place in the order.
    pub(crate) fn with_place(mut self, epoch: u64, position: u64) -> Self {
        self.0.epoch = Some(epoch);
        self.0.position = Some(position);
        self
    }

    /// Sets the epoch alone, for what concerns no sample.
    pub(crate) fn with_epoch(mut self, epoch: u64) -> Self {
        self.0.epoch = Some(epoch);
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong, without the place and the cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The epoch in which the sample was visited.
    pub fn epoch(&self) -> Option<u64> {
        self.0.epoch
    }

    /// The position of the sample in the epoch's global order.
    pub fn position(&self) -> Option<u64> {
        self.0.position
    }

    /// The index of the sample in the sequence that the loader was given.
    pub fn index(&self) -> Option<u64> {
        self.0.index
    }

    /// The file that was being read.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The payload of the panic that this error reports, to go on with
    /// [`resume_unwind`](std::panic::resume_unwind); the error itself when there was no panic.
    pub fn into_panic(mut self) -> Result<Box<dyn Any + Send>> {
        match self.0.panic.take() {
            // A payload cannot poison the mutex: nothing runs while it is locked.
            Some(payload) => Ok(payload.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
            None => Err(self),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(&inner.message)?;
        let mut separator = " (";
        let mut part = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            let result = write!(f, "{separator}{text}");
            separator = ", ";
            result
        };
        if let Some(epoch) = inner.epoch {
            part(f, format_args!("epoch {epoch}"))?;
        }
        if let Some(position) = inner.position {
            part(f, format_args!("position {position}"))?;
        }
        if let Some(index) = inner.index {
            part(f, format_args!("index {index}"))?;
        }
        if let Some(file) = &inner.file {
            part(f, format_args!("file {}", file.display()))?;
        }
        if separator == ", " { f.write_str(")") } else { Ok(()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("message", &inner.message);
        for (name, value) in [("epoch", inner.epoch), ("position", inner.position), ("index", inner.index)] {
            if let Some(value) = value {
                out.field(name, &value);
            }
        }
        if let Some(file) = &inner.file {
            out.field("file", file);
        }
        if let Some(cause) = &inner.cause {
            out.field("cause", cause);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// Runs a decoder on bytes that may be anything. Decoders are meant to return errors; should one panic all the same, it
/// is an error here: `what` is damaged.
#[cfg(any(feature = "arrow", feature = "image"))]
pub(crate) fn guarded<T>(what: impl fmt::Display, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|payload| {
        let cause = Error::panicked(payload);
        Err(Error::new(ErrorKind::Format, format!("{what} is damaged: its decoder panicked")).with_cause(cause))
    })
}

/// An error that is kept somewhere and is also the cause of another.
#[derive(Debug)]
pub(crate) struct SharedError(pub(crate) Arc<Error>);

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SharedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        Self::new(ErrorKind::Io, ErrorKind::Io.as_str()).with_cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_and_where() {
        let error = Error::new(ErrorKind::Sample, "bad").with_place(1, 20).with_index(7).with_file("a/b.jpg");
        assert_eq!(error.to_string(), "bad (epoch 1, position 20, index 7, file a/b.jpg)");
        assert_eq!(Error::new(ErrorKind::Io, "bad").to_string(), "bad");
    }

    #[test]
    fn an_error_of_this_crate_passes_unchanged() {
        let error = Error::sample(Error::new(ErrorKind::Limit, "too many"));
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(error.message(), "too many");
    }

    #[test]
    fn the_innermost_file_and_the_outermost_index_win() {
        let error = Error::sample("x").with_file("inner").with_file("outer").with_index(1).with_index(2);
        assert_eq!(error.file(), Some(Path::new("inner")));
        assert_eq!(error.index(), Some(2));
    }

    #[test]
    fn a_payload_survives() {
        let error = Error::panicked(Box::new(42_u8));
        assert_eq!(error.kind(), ErrorKind::Panic);
        assert_eq!(*error.into_panic().unwrap().downcast::<u8>().unwrap(), 42);
        assert!(Error::sample("x").into_panic().is_err());
    }
}
