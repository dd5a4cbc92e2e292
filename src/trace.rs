//! Spans around the stages of loading, with the feature `tracing`; nothing without it.

#[cfg(feature = "tracing")]
macro_rules! span {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        pub(crate) fn $name(epoch: u64, number: u64) -> tracing::span::EnteredSpan {
            tracing::trace_span!(target: "procession", stringify!($name), epoch, number).entered()
        }
    };
}
#[cfg(not(feature = "tracing"))]
macro_rules! span {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[inline]
        pub(crate) fn $name(_epoch: u64, _number: u64) {}
    };
}

span!(load, "A worker loads rows of a batch: the source, the transforms, and writing the rows.");
span!(collate, "A worker makes a batch of its rows.");
span!(take, "The consumer takes a batch, or waits for it.");
