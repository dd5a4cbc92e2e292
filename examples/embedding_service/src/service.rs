//! A client of any service with OpenAI's `POST /v1/embeddings`:
//! <https://platform.openai.com/docs/api-reference/embeddings/create>.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ndarray::Array2;
use procession::{BoxError, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

/// A hundred texts of 4,096 numbers take ten megabytes.
const MAX_BODY_BYTES: usize = 64 << 20;
/// How much of an answer that is refused is shown.
const SHOWN_CHARS: usize = 200;

/// Why a request has no vectors.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To ask again may help.
    Passing(Error),
    /// The same question would get the same answer.
    Lasting(Error),
}

/// A service, and how to ask it.
pub(crate) struct Service {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    model: String,
    authorization: Option<HeaderValue>,
    // Until when the service asked to be left alone.
    welcome_at: Mutex<Option<Instant>>,
    max_pause: Duration,
}

#[derive(Serialize)]
struct Question<'q> {
    model: &'q str,
    input: &'q [String],
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    // What is no number in JSON comes as null; what is too large for an f32 is to be named.
    embedding: Vec<Option<f64>>,
}

impl Service {
    /// A service at a URL such as `https://api.openai.com/v1`, with the key that it wants, if it does. `timeout` is the
    /// time that the loader gives a request: a service that asks for a pause gets at most half of it.
    pub(crate) fn new(url: &str, model: &str, key: Option<&str>, timeout: Duration) -> procession::Result<Self> {
        let refused = |message: String| Error::new(ErrorKind::Argument, message);
        let whole = if url.ends_with("/embeddings") {
            url.to_owned()
        } else {
            format!("{}/embeddings", url.trim_end_matches('/'))
        };
        let uri: Uri =
            whole.parse().map_err(|cause| refused(format!("the URL {url:?}")).with_cause(Box::new(cause)))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(refused(format!("the URL {url:?}, expected one that begins with http:// or https://")));
        }
        let authorization = match key {
            Some(key) => {
                let value = HeaderValue::try_from(format!("Bearer {}", key.trim()));
                let mut value = value.map_err(|_| refused("a key with characters that no header has".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let https = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https);
        let (welcome_at, max_pause) = (Mutex::new(None), timeout / 2);
        Ok(Self { client, url: uri, model: model.to_owned(), authorization, welcome_at, max_pause })
    }

    /// A row for each text, in their order.
    ///
    /// # Cancel safety
    ///
    /// A request whose future is dropped is given up; nothing else is lost.
    pub(crate) async fn embed(&self, texts: &[String]) -> Result<Array2<f32>, Failure> {
        let welcome_at = *self.welcome_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(welcome_at) = welcome_at {
            sleep_until(welcome_at).await;
        }
        let question = serde_json::to_vec(&Question { model: &self.model, input: texts });
        let question =
            question.map_err(|cause| self.lasting("texts that cannot be sent".to_owned(), Some(cause.into())))?;
        let mut request = Request::post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(Bytes::from(question)));
        let request =
            request.map_err(|cause| self.lasting("a request that cannot be sent".to_owned(), Some(cause.into())))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|cause| self.passing("gave no answer".to_owned(), Some(cause.into())))?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(cause) if cause.is::<LengthLimitError>() => {
                return Err(self.lasting(format!("answered more than {MAX_BODY_BYTES} bytes"), None));
            }
            Err(cause) => return Err(self.passing("broke off its answer".to_owned(), Some(cause))),
        };
        match head.status {
            StatusCode::OK => self.read(&body, texts.len()),
            status => {
                self.note_pause(&head.headers);
                let message = format!("answered {status}: {}", beginning(&body));
                Err(if is_passing(status) { self.passing(message, None) } else { self.lasting(message, None) })
            }
        }
    }

    /// Keeps all requests back for as long as the service asks for, if it does. Dates are not read: services of this kind
    /// send seconds, and the loader's pauses grow by themselves.
    fn note_pause(&self, headers: &HeaderMap) {
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
        if let Some(pause) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            let until = Instant::now() + pause.min(self.max_pause);
            let mut welcome_at = self.welcome_at.lock().unwrap_or_else(PoisonError::into_inner);
            *welcome_at = (*welcome_at).max(Some(until));
        }
    }

    /// The vectors of an answer, which a service may send in any order.
    fn read(&self, body: &[u8], num_texts: usize) -> Result<Array2<f32>, Failure> {
        let answer: Answer = serde_json::from_slice(body).map_err(|cause| {
            let message = format!("answered what is not the embeddings of texts: {}", beginning(body));
            // What is no JSON at all was cut off or comes from something in between; other JSON is what the service says.
            match cause.is_data() {
                true => self.lasting(message, Some(cause.into())),
                false => self.passing(message, Some(cause.into())),
            }
        })?;
        let Answer { mut data } = answer;
        if data.len() != num_texts {
            return Err(self.lasting(format!("answered {} vectors for {num_texts} texts", data.len()), None));
        }
        data.sort_by_key(|embedding| embedding.index);
        if let Some((place, found)) = data.iter().enumerate().find(|(place, found)| found.index != *place) {
            let message =
                format!("answered a vector of index {}, expected each from 0 to {} once", found.index, num_texts - 1);
            return Err(self.lasting(format!("{message}, here {place}"), None));
        }
        let width = data.first().map_or(0, |first| first.embedding.len());
        let mut vectors = Array2::zeros((num_texts, width));
        for (place, (found, mut row)) in data.iter().zip(vectors.outer_iter_mut()).enumerate() {
            if found.embedding.len() != width || width == 0 {
                let message = format!("answered a vector of {} numbers for text {place}", found.embedding.len());
                return Err(self.lasting(format!("{message}, expected {width} as for the first and at least 1"), None));
            }
            for (at, (value, element)) in found.embedding.iter().zip(&mut row).enumerate() {
                *element = value.map(|value| value as f32).filter(|value| value.is_finite()).ok_or_else(|| {
                    let found = value.map_or("null".to_owned(), |value| format!("{value:e}"));
                    self.lasting(
                        format!("answered number {at} of text {place} as {found}, expected a finite f32"),
                        None,
                    )
                })?;
            }
        }
        Ok(vectors)
    }

    fn passing(&self, what: String, cause: Option<BoxError>) -> Failure {
        Failure::Passing(self.error(what, cause))
    }

    fn lasting(&self, what: String, cause: Option<BoxError>) -> Failure {
        Failure::Lasting(self.error(what, cause))
    }

    fn error(&self, what: String, cause: Option<BoxError>) -> Error {
        let error = Error::new(ErrorKind::Sample, format!("{} {what}", self.url));
        match cause {
            Some(cause) => error.with_cause(cause),
            None => error,
        }
    }
}

/// Whether a service that answers this may answer better later.
fn is_passing(status: StatusCode) -> bool {
    let moments =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || moments.contains(&status)
}

/// As much of an answer as fits into a message.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN_CHARS)]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN_CHARS) {
        _ if words.is_empty() => "an empty body".to_owned(),
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_logs_headers_does_not_log_the_key() {
        let service = Service::new("http://here/v1", "m", Some("sk-secret"), Duration::from_secs(9)).unwrap();
        let shown = format!("{:?}", service.authorization);
        assert!(service.authorization.is_some() && !shown.contains("secret"), "{shown}");
    }
}
