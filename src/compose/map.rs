//! A function applied to every sample.

use std::fmt;

use super::knows_as;
use crate::error::{BoxError, Error, Result};
use crate::sequence::Sequence;

/// The samples of a sequence, changed by a function; made by [`map`](super::SequenceExt::map).
pub struct Map<S, F> {
    inner: S,
    f: F,
}

impl<S, F> Map<S, F> {
    pub(super) fn new(inner: S, f: F) -> Self {
        Self { inner, f }
    }
}

impl<S, T, F> Sequence for Map<S, F>
where
    S: Sequence,
    T: Send + 'static,
    F: Fn(S::Sample) -> T + Send + Sync,
{
    type Sample = T;

    fn len(&self) -> usize {
        self.inner.len()
    }
    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        Ok((self.f)(self.inner.get(index)?))
    }
    knows_as! { self.inner, index => index }
}

impl<S: fmt::Debug, F> fmt::Debug for Map<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The samples of a sequence, changed by a function that may fail; made by [`try_map`](super::SequenceExt::try_map).
pub struct TryMap<S, F> {
    inner: S,
    f: F,
}

impl<S, F> TryMap<S, F> {
    pub(super) fn new(inner: S, f: F) -> Self {
        Self { inner, f }
    }
}

impl<S, T, E, F> Sequence for TryMap<S, F>
where
    S: Sequence,
    T: Send + 'static,
    E: Into<BoxError>,
    F: Fn(S::Sample) -> Result<T, E> + Send + Sync,
{
    type Sample = T;

    fn len(&self) -> usize {
        self.inner.len()
    }
    #[inline]
    fn get(&self, index: usize) -> Result<T> {
        (self.f)(self.inner.get(index)?).map_err(|cause| {
            let error = Error::sample(cause);
            match self.inner.file(index) {
                Some(file) => error.with_file(file),
                None => error,
            }
        })
    }
    knows_as! { self.inner, index => index }
}

impl<S: fmt::Debug, F> fmt::Debug for TryMap<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryMap").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SequenceExt;
    use crate::error::ErrorKind;
    use crate::sequence::Sequence;
    use crate::testing::{Told, check_rows};

    #[test]
    fn map_keeps_the_contract_and_what_is_known() {
        let mapped = Told::new(5).map(|sample| sample + 0.5);
        check_rows(&mapped);
        assert_eq!(mapped.get(3).unwrap(), 3.5);
        Told::assert_known(&mapped, 3, 3);
        assert_eq!(mapped.size_bytes(3), None, "the size of the mapped sample is not known");
    }

    #[test]
    fn a_function_that_fails_gives_its_error_and_the_file() {
        let parsed = Told::new(5).try_map(|sample| if sample == 2.0 { Err("two") } else { Ok(sample as u32) });
        assert_eq!(parsed.get(3).unwrap(), 3);
        let error = parsed.get(2).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Sample, "loading the sample failed (file 2)")
        );
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "two");
        check_rows(&Told::new(5).try_map(Ok::<_, crate::Error>));
        Told::assert_known(&parsed, 1, 1);
    }
}
