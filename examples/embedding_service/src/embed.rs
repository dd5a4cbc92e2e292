//! Texts to vectors: several texts a request, many requests in flight, the answers in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::Array2;
use procession::{AsyncSequence, Error, ErrorKind, Loader, Receipt, RequestReport, Result, Retry};

use crate::service::{Failure, Service};
use crate::store::Store;

/// How requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sending {
    pub(crate) in_flight: usize,
    pub(crate) texts_per_request: usize,
    pub(crate) per_second: Option<f64>,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
}

/// Texts that are cut into requests. A sample is the answer to one, a ready batch: a row for each of its texts. Where the
/// service will not give another answer it is that error, which is not tried again as that of a sample would be.
pub(crate) struct Requests {
    service: Service,
    texts: Arc<[String]>,
    texts_per_request: usize,
}

impl AsyncSequence for Requests {
    type Sample = Result<Array2<f32>>;

    fn len(&self) -> usize {
        self.texts.len().div_ceil(self.texts_per_request)
    }

    async fn get(&self, index: usize) -> Result<Self::Sample> {
        let start = index * self.texts_per_request;
        let end = self.texts.len().min(start + self.texts_per_request);
        match self.service.embed(&self.texts[start..end]).await {
            Ok(vectors) => Ok(Ok(vectors)),
            Err(Failure::Lasting(error)) => Ok(Err(error)),
            Err(Failure::Passing(error)) => Err(error),
        }
    }
}

/// What it took to embed texts.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) receipt: Receipt,
    pub(crate) requests: RequestReport,
    pub(crate) took: Duration,
}

/// A loader whose batches are the answers, in the order of the texts.
pub(crate) fn loader(service: Service, texts: Arc<[String]>, sending: &Sending) -> Result<Loader<Result<Array2<f32>>>> {
    if sending.texts_per_request == 0 {
        return Err(Error::new(ErrorKind::Argument, "0 texts in a request, expected at least 1"));
    }
    let requests = Requests { service, texts, texts_per_request: sending.texts_per_request };
    let mut loader =
        Loader::remote(requests).concurrency(sending.in_flight).timeout(sending.timeout).retry(sending.retry);
    if let Some(per_second) = sending.per_second {
        loader = loader.rate_limit(per_second);
    }
    loader.ready_batches().build()
}

/// Asks for the vectors of texts and keeps each answer as it comes, so that an error loses none of those before.
pub(crate) fn embed(service: Service, texts: Vec<String>, sending: &Sending, store: &mut Store) -> Result<Account> {
    let begun = Instant::now();
    let texts: Arc<[String]> = texts.into();
    let loader = loader(service, Arc::clone(&texts), sending)?;
    let mut epoch = loader.epoch(0);
    for batch in &mut epoch {
        let batch = batch?;
        let start = batch.number() as usize * sending.texts_per_request;
        let vectors = batch.into_inner()?;
        store.insert(&texts[start..start + vectors.nrows()], vectors.view())?;
    }
    let took = begun.elapsed();
    let requests = loader.report().requests;
    let requests = requests.ok_or_else(|| Error::new(ErrorKind::Argument, "no account of the requests"))?;
    Ok(Account { receipt: epoch.receipt().clone(), requests, took })
}
