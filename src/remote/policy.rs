//! How requests are sent: how many at once, how many a second, and for how long.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::report::RequestMeter;

/// How the requests of a loader are sent, over all of its epochs.
#[derive(Debug)]
pub(crate) struct RequestPolicy {
    pub(crate) concurrency: usize,
    pub(crate) timeout: Duration,
    pub(crate) limiter: Option<RateLimiter>,
    pub(crate) meter: RequestMeter,
}

impl RequestPolicy {
    /// Sends a request when it is its turn, and waits for the answer for as long as it may take.
    pub(crate) async fn send<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let start = std::time::Instant::now();
        let answer = timeout(self.timeout, caught(request)).await.unwrap_or_else(|_| {
            let message = format!("no answer to a request after {:?}", self.timeout);
            Err(Error::new(ErrorKind::Timeout, message))
        });
        self.meter.record(start.elapsed(), answer.is_err());
        answer
    }
}

/// Makes a panic in a future its error.
async fn caught<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .unwrap_or_else(|payload| Poll::Ready(Err(Error::panicked(payload))))
    })
    .await
}

/// Lets requests go at even distances.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    distance: Duration,
    // When the next one may go.
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// At most so many requests a second.
    pub(crate) fn new(per_second: f64) -> Result<Self> {
        let distance = Duration::try_from_secs_f64(1.0 / per_second).ok().filter(|_| per_second > 0.0);
        let distance = distance.ok_or_else(|| {
            Error::argument(format!("{per_second} requests a second, expected a number above 0 and not too near it"))
        })?;
        Ok(Self { distance, next: Mutex::new(None) })
    }

    /// Takes the next turn and returns when it is there.
    pub(crate) async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // Turns that nobody took are gone: a pause does not end in a burst.
            let turn = next.unwrap_or(now).max(now);
            *next = Some(turn + self.distance);
            turn
        };
        sleep_until(turn).await;
    }
}
