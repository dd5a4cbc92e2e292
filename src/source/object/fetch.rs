//! Bytes of an object, and the checks that they are all of them and of the object that was meant.

use std::collections::TryReserveError;
use std::fmt;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore};

use crate::error::{Error, ErrorKind, Result};

/// How much memory a size buys that nothing but an answer's header tells.
const MAX_TRUSTED_BYTES: u64 = 16 << 20;

/// What is known of an object since it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) size_bytes: u64,
    /// Without quotes: stores do not agree on whether a listing has them.
    e_tag: Option<Box<str>>,
    seconds: i64,
    nanos: u32,
}

impl Known {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self {
            size_bytes: meta.size,
            e_tag: meta.e_tag.as_deref().map(|tag| bare(tag).into()),
            seconds: meta.last_modified.timestamp(),
            nanos: meta.last_modified.timestamp_subsec_nanos(),
        }
    }

    /// Whether an answer is of the object that was listed.
    ///
    /// The answer's own tag is compared instead of asking for it by `If-Match`: not every server heeds that, none may heed
    /// it for a weak tag, and the body of a wrong answer is not read either way. Where one of the two has no tag, the times
    /// are compared, to the second, as answers have no more.
    fn is_of(&self, meta: &ObjectMeta) -> bool {
        let same = match (&self.e_tag, &meta.e_tag) {
            (Some(known), Some(found)) => **known == *bare(found),
            // A server that tells no time seems to tell the beginning of all times.
            _ => {
                self.seconds == meta.last_modified.timestamp()
                    || self.seconds == 0
                    || meta.last_modified.timestamp() == 0
            }
        };
        self.size_bytes == meta.size && same
    }

    /// What changes when the object does, as text.
    pub(super) fn version(&self) -> String {
        match &self.e_tag {
            Some(tag) => format!("tag {tag}"),
            None => format!("time {}.{:09}", self.seconds, self.nanos),
        }
    }

    /// The entity tag, as the index of an archive is kept for it.
    #[cfg(feature = "tar")]
    pub(super) fn tag(&self) -> Option<&[u8]> {
        self.e_tag.as_deref().map(str::as_bytes)
    }

    /// The time of the last change, as the index of an archive is kept for a file.
    #[cfg(feature = "tar")]
    pub(super) fn time(&self) -> Vec<u8> {
        [&self.seconds.to_le_bytes()[..], &self.nanos.to_le_bytes()].concat()
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes and {}", self.size_bytes, self.version())
    }
}

/// An entity tag without quotes and without the mark of a weak one.
fn bare(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

/// What of an object is asked for.
pub(super) enum Part {
    Whole {
        limit_bytes: u64,
    },
    #[cfg(any(feature = "npy", feature = "tar"))]
    Range(Range<u64>),
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        self.range().is_some_and(|range| range.is_empty())
    }

    fn range(&self) -> Option<Range<u64>> {
        match self {
            Self::Whole { .. } => None,
            #[cfg(any(feature = "npy", feature = "tar"))]
            Self::Range(range) => Some(range.clone()),
        }
    }
}

/// Asks for an object, or a range of it, and reads the whole answer.
pub(super) async fn get(store: &dyn ObjectStore, path: &Path, known: Option<&Known>, part: Part) -> Result<Bytes> {
    let answer = open(store, path, part.range()).await?;
    if let Some(known) = known.filter(|known| !known.is_of(&answer.meta)) {
        let found = Known::of(&answer.meta);
        let message = format!("the object has {found}, expected {known} as when it was listed");
        return Err(Error::new(ErrorKind::Format, message));
    }
    let expected = match part {
        Part::Whole { limit_bytes } if answer.meta.size > limit_bytes => {
            return Err(too_large(answer.meta.size, limit_bytes));
        }
        Part::Whole { .. } => answer.meta.size,
        #[cfg(any(feature = "npy", feature = "tar"))]
        Part::Range(range) => range.end - range.start,
    };
    body(answer, expected, known.is_some()).await
}

/// Asks for an object of at most so many bytes. `None` if there is none, or it is larger.
#[cfg(feature = "tar")]
pub(super) async fn get_small(store: &dyn ObjectStore, path: &Path, limit: u64) -> Result<Option<Bytes>> {
    let answer = match store.get_opts(path, GetOptions::default()).await {
        Ok(answer) if answer.meta.size <= limit => answer,
        Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    let expected = answer.meta.size;
    body(answer, expected, true).await.map(Some)
}

/// Size and version of an object.
pub(super) async fn head(store: &dyn ObjectStore, path: &Path) -> Result<Known> {
    let options = GetOptions { head: true, ..GetOptions::default() };
    Ok(Known::of(&store.get_opts(path, options).await.map_err(failed)?.meta))
}

async fn open(store: &dyn ObjectStore, path: &Path, range: Option<Range<u64>>) -> Result<GetResult> {
    let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
    store.get_opts(path, options).await.map_err(failed)
}

async fn body(answer: GetResult, expected: u64, is_trusted: bool) -> Result<Bytes> {
    let bytes = match answer.payload {
        GetResultPayload::Stream(mut stream) => {
            let mut first = Bytes::new();
            let mut joined = Vec::new();
            while let Some(part) = stream.next().await {
                let part = part.map_err(failed)?;
                if joined.is_empty() && first.is_empty() {
                    first = part;
                    continue;
                }
                if joined.is_empty() {
                    let room = if is_trusted { expected } else { expected.min(MAX_TRUSTED_BYTES) };
                    let no_room = |cause: TryReserveError| {
                        let message = format!("not enough memory for {expected} bytes of an object");
                        Error::new(ErrorKind::Limit, message).with_cause(cause)
                    };
                    joined.try_reserve(usize::try_from(room).unwrap_or(usize::MAX)).map_err(no_room)?;
                    joined.extend_from_slice(&first);
                }
                joined.extend_from_slice(&part);
                // Whatever goes on for ever is not what was asked for.
                if joined.len() as u64 > expected {
                    break;
                }
            }
            if joined.is_empty() { first } else { Bytes::from(joined) }
        }
        _ => answer.bytes().await.map_err(failed)?,
    };
    match bytes.len() as u64 {
        present if present == expected => Ok(bytes),
        present => {
            let what = if present < expected { "ended" } else { "went on" };
            let message = format!("the answer {what} after {present} bytes, expected {expected}");
            Err(Error::new(ErrorKind::Io, message).with_cause(io::Error::from(io::ErrorKind::UnexpectedEof)))
        }
    }
}

pub(super) fn too_large(size_bytes: u64, limit_bytes: u64) -> Error {
    Error::new(ErrorKind::Limit, format!("object of {size_bytes} bytes, the limit is {limit_bytes}"))
}

/// What a store said of an object.
pub(super) fn failed(cause: StoreError) -> Error {
    let (message, kind) = match &cause {
        StoreError::NotFound { .. } => ("no such object", io::ErrorKind::NotFound),
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            ("access was refused: credentials that are missing, wrong or expired", io::ErrorKind::PermissionDenied)
        }
        _ => ("the object store failed", io::ErrorKind::Other),
    };
    Error::new(ErrorKind::Io, message).with_cause(io::Error::new(kind, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(size: u64, e_tag: Option<&str>, seconds: i64) -> ObjectMeta {
        let last_modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.unsigned_abs());
        ObjectMeta {
            location: Path::from("x"),
            last_modified: last_modified.into(),
            size,
            e_tag: e_tag.map(str::to_owned),
            version: None,
        }
    }

    #[test]
    fn an_object_is_the_same_by_its_tag_or_else_by_its_time() {
        let known = Known::of(&meta(5, Some("\"a\""), 7));
        for (found, same) in [
            (meta(5, Some("\"a\""), 7), true),
            (meta(5, Some("a"), 9), true),
            (meta(5, Some("W/\"a\""), 7), true),
            (meta(5, Some("b"), 7), false),
            (meta(6, Some("a"), 7), false),
            (meta(5, None, 7), true),
            (meta(5, None, 8), false),
        ] {
            assert_eq!(known.is_of(&found), same, "{found:?}");
        }
        let untagged = Known::of(&meta(5, None, 7));
        assert!(untagged.is_of(&meta(5, Some("a"), 7)) && !untagged.is_of(&meta(5, Some("a"), 8)));
    }
}
