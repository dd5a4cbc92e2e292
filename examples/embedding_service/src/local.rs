//! A service on this machine that stands in for a real one, with its delays and its bad moments.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use procession::Result;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The width of the vectors that this service gives.
pub(crate) const WIDTH: usize = 256;

/// What was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    /// How many requests came before.
    pub(crate) number: usize,
    #[cfg_attr(not(test), expect(dead_code, reason = "the stand-in lets everybody in"))]
    pub(crate) authorization: Option<String>,
    pub(crate) model: String,
    pub(crate) input: Vec<String>,
}

/// What is answered, and after how long.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: String,
    pub(crate) after: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, retry_after: None, body: body.into(), after: Duration::ZERO }
    }
}

#[derive(Deserialize)]
struct Question {
    model: String,
    input: Vec<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'a str,
    model: &'a str,
    data: Vec<Embedding>,
}

/// One vector of an answer.
#[derive(Serialize)]
pub(crate) struct Embedding {
    pub(crate) index: usize,
    pub(crate) embedding: Vec<f32>,
}

/// A service on a free port of this machine, which ends when it is dropped.
pub(crate) struct LocalService {
    address: SocketAddr,
    num_requests: Arc<AtomicUsize>,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl LocalService {
    /// Starts a service that answers as a function says.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let num_requests = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let (count, answer) = (Arc::clone(&num_requests), Arc::new(answer));
        let thread = thread::Builder::new().name("local-service".to_owned()).spawn(move || {
            runtime.spawn(accept(listener, count, answer));
            // The sender is dropped and never sends.
            drop(runtime.block_on(stopped));
        })?;
        Ok(Self { address, num_requests, thread: Some((stop, thread)) })
    }

    /// The address to give to a client.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many requests came so far.
    pub(crate) fn num_requests(&self) -> usize {
        self.num_requests.load(Ordering::SeqCst)
    }
}

impl Drop for LocalService {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // It does not panic, and if it did there would be nothing to do about it here.
            drop(thread.join());
        }
    }
}

async fn accept<F>(listener: tokio::net::TcpListener, count: Arc<AtomicUsize>, answer: Arc<F>)
where
    F: Fn(&Asked) -> Reply + Send + Sync + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, most likely: somebody will close theirs.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
        tokio::spawn(async move {
            let serve = service_fn(|request| respond(request, Arc::clone(&count), Arc::clone(&answer)));
            // A client that goes away in mid-answer is its own affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await);
        });
    }
}

async fn respond<F>(
    request: Request<Incoming>,
    count: Arc<AtomicUsize>,
    answer: Arc<F>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn(&Asked) -> Reply,
{
    let number = count.fetch_add(1, Ordering::SeqCst);
    let reply = if (request.method(), request.uri().path()) == (&Method::POST, "/v1/embeddings") {
        let authorization = request.headers().get(AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = request.into_body().collect().await;
        match body.ok().and_then(|body| serde_json::from_slice::<Question>(&body.to_bytes()).ok()) {
            Some(Question { model, input }) => answer(&Asked { number, authorization, model, input }),
            None => Reply::new(400, "{\"error\":{\"message\":\"expected a model and an input\"}}"),
        }
    } else {
        Reply::new(404, "{\"error\":{\"message\":\"expected POST /v1/embeddings\"}}")
    };
    tokio::time::sleep(reply.after).await;
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// The service of the example: each answer takes so long, and one in so many is a 503 instead.
pub(crate) fn usual(latency: Duration, one_in: usize) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| {
        let mut reply = if asked.number % one_in == one_in - 1 {
            Reply::new(503, "{\"error\":{\"message\":\"overloaded, on purpose\"}}")
        } else {
            answer_to(asked)
        };
        reply.after = latency;
        reply
    }
}

/// The vectors of what was asked. They come in another order than the texts, as they may.
pub(crate) fn answer_to(asked: &Asked) -> Reply {
    let embeddings = asked.input.iter().enumerate();
    let mut data: Vec<_> = embeddings.map(|(index, text)| Embedding { index, embedding: embed(text) }).collect();
    data.reverse();
    answer_with(&asked.model, data)
}

/// An answer of these vectors.
pub(crate) fn answer_with(model: &str, data: Vec<Embedding>) -> Reply {
    match serde_json::to_string(&Answer { object: "list", model, data }) {
        Ok(body) => Reply::new(200, body),
        Err(error) => Reply::new(500, error.to_string()),
    }
}

/// The vector of a text: its words, their letters and pairs of letters, as they are written, hashed to [`WIDTH`] places with a
/// sign, and scaled to length 1 (Weinberger and others, *Feature Hashing for Large Scale Multitask Learning*, 2009).
pub(crate) fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; WIDTH];
    let mut add = |kind: u8, feature: &[char]| {
        let bytes = feature.iter().flat_map(|letter| u32::from(*letter).to_le_bytes());
        let hash = std::iter::once(kind)
            .chain(bytes)
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        // The low bits of FNV-1a are its weakest.
        let hash = hash ^ (hash >> 32);
        vector[(hash >> 1) as usize % WIDTH] += if hash & 1 == 0 { 1.0 } else { -1.0 };
    };
    for word in text.split_whitespace() {
        let letters: Vec<char> = std::iter::once('<').chain(word.chars()).chain(std::iter::once('>')).collect();
        add(0, &letters);
        for len in [1, 2] {
            letters.windows(len).for_each(|run| add(1, run));
        }
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}
