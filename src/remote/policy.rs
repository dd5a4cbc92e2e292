//! How requests are sent: how many at once, how many a second, and for how long.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::report::RequestMeter;

/// How the requests of a loader are sent, over all of its epochs.
#[derive(Debug)]
pub(crate) struct RequestPolicy {
    pub(crate) concurrency: usize,
    /// As many as `concurrency`: several epochs may be under way at once.
    pub(crate) permits: Semaphore,
    pub(crate) timeout: Duration,
    pub(crate) limiter: Option<RateLimiter>,
    pub(crate) meter: RequestMeter,
}

impl RequestPolicy {
    /// Sends a request when it is its turn, and waits for the answer for as long as it may take.
    pub(crate) async fn send<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        // A semaphore that is never closed gives every permit.
        let _permit = self.permits.acquire().await;
        let start = std::time::Instant::now();
        self.meter.record_sent();
        let answer = timeout(self.timeout, caught(request)).await.unwrap_or_else(|_| {
            let message = format!("no answer to a request after {:?}", self.timeout);
            Err(Error::new(ErrorKind::Timeout, message))
        });
        self.meter.record_answer(start.elapsed(), answer.is_err());
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
    // When the next one may go. Held by who is next in turn until then, so that one who gives up has taken no turn.
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// The longest distance: beyond what anybody waits for, and within what the clock can say.
    const LONGEST: Duration = Duration::from_secs(100 * 24 * 3600);

    /// At most so many requests a second.
    pub(crate) fn new(per_second: f64) -> Result<Self> {
        let distance = Duration::try_from_secs_f64(1.0 / per_second).ok();
        let distance = distance.filter(|&distance| per_second > 0.0 && distance <= Self::LONGEST).ok_or_else(|| {
            Error::argument(format!("{per_second} requests a second, expected a number above 0 and not too near it"))
        })?;
        Ok(Self { distance, next: Mutex::new(None) })
    }

    /// Waits for the next turn, and takes it.
    pub(crate) async fn turn(&self) {
        let mut next = self.next.lock().await;
        // Turns that nobody took are gone: a pause does not end in a burst.
        let turn = next.map_or_else(Instant::now, |next| next.max(Instant::now()));
        sleep_until(turn).await;
        *next = Some(turn + self.distance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_even_distances_and_are_not_saved_up() {
        let limiter = RateLimiter::new(10.0).unwrap();
        let start = Instant::now();
        let turns = async |count: usize| {
            let mut turns = Vec::new();
            for _ in 0..count {
                limiter.turn().await;
                turns.push(start.elapsed().as_millis());
            }
            turns
        };
        assert_eq!(turns(4).await, [0, 100, 200, 300]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(turns(3).await, [1300, 1400, 1500]);
        // Those who ask at once share the rate.
        let both = futures::future::join(turns(2), turns(2)).await;
        let mut all = [both.0, both.1].concat();
        all.sort_unstable();
        assert_eq!(all, [1600, 1700, 1800, 1900]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_has_taken_no_turn() {
        let limiter = RateLimiter::new(1.0).unwrap();
        limiter.turn().await;
        let start = Instant::now();
        for _ in 0..100 {
            // Given up before its turn.
            assert!(timeout(Duration::from_millis(1), limiter.turn()).await.is_err());
        }
        limiter.turn().await;
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_at_its_time_and_a_panic_is_an_error() {
        let policy = RequestPolicy {
            concurrency: 1,
            permits: Semaphore::new(1),
            timeout: Duration::from_secs(3),
            limiter: None,
            meter: RequestMeter::default(),
        };
        let start = Instant::now();
        let error = policy.send(std::future::pending::<Result<()>>()).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Timeout, Duration::from_secs(3)));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let error = policy.send(async { panic!("on purpose") as Result<()> }).await.unwrap_err();
        std::panic::set_hook(hook);
        assert_eq!(error.kind(), ErrorKind::Panic);
        assert_eq!(policy.send(async { Ok(7) }).await.unwrap(), 7);
    }
}
