//! How the samples of an asynchronous sequence are asked for, as the loader's builder has it.

/// The options of requests; none without the feature `async`.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    #[cfg(feature = "async")]
    pub(crate) concurrency: Option<usize>,
    #[cfg(feature = "async")]
    pub(crate) per_second: Option<f64>,
    #[cfg(feature = "async")]
    pub(crate) runtime: Option<tokio::runtime::Handle>,
    #[cfg(feature = "async")]
    pub(crate) timeout: Option<std::time::Duration>,
}

#[cfg(feature = "async")]
mod prepared {
    use std::time::Duration;

    use super::Requests;
    use crate::error::{Error, Result};
    use crate::remote::policy::{RateLimiter, RequestPolicy};
    use crate::remote::runtime::Runtime;
    use crate::report::RequestMeter;

    const DEFAULT_CONCURRENCY: usize = 64;
    const MAX_CONCURRENCY: usize = 1 << 16;
    /// A request without an answer would hold up its epoch for ever; sixty seconds are long for any service.
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    impl Requests {
        pub(crate) fn concurrency(&self) -> usize {
            self.concurrency.unwrap_or(DEFAULT_CONCURRENCY)
        }

        /// What is to be known before the first request, and where it runs.
        pub(crate) fn prepare(self) -> Result<(RequestPolicy, Runtime)> {
            let concurrency = self.concurrency();
            if !(1..=MAX_CONCURRENCY).contains(&concurrency) {
                let message = format!("{concurrency} requests at once, expected 1 to {MAX_CONCURRENCY}");
                return Err(Error::argument(message));
            }
            let policy = RequestPolicy {
                concurrency,
                permits: tokio::sync::Semaphore::new(concurrency),
                timeout: self.timeout.unwrap_or(DEFAULT_TIMEOUT),
                limiter: self.per_second.map(RateLimiter::new).transpose()?,
                meter: RequestMeter::default(),
            };
            let runtime = self.runtime.map_or_else(Runtime::own, Runtime::of_caller)?;
            Ok((policy, runtime))
        }
    }
}
