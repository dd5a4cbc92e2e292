//! A server of S3's protocol, and what goes wrong on the way to it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use procession::source::{Bucket, BucketOptions};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// An answer with this status and S3's code for it.
    Status(u16, &'static str),
    /// The connection ends without an answer.
    Reset,
    /// The connection ends in the middle of the body.
    Cut,
    /// The body lacks its last byte, and the header says so.
    Short,
    /// The body has a byte more, and the header says so.
    Long,
    /// The body comes a byte at a time, for ever.
    Trickle,
    /// There is no answer, and the connection stays.
    Silence,
    /// The range that was asked for is not heeded.
    Whole,
}

type Decide = Box<dyn Fn(&Asked) -> Fault + Send>;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// The key, decoded; of a listing the bucket alone.
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    /// How often the same was asked before.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn is_get(&self) -> bool {
        self.method == Method::GET && self.path.trim_matches('/').contains('/')
    }
}

pub(crate) struct Server {
    address: SocketAddr,
    dir: TempDir,
    state: Arc<State>,
    // Dropped last: its tasks end with it.
    _runtime: Runtime,
}

struct State {
    decide: Mutex<Decide>,
    asked: Mutex<Vec<Asked>>,
    seen: Mutex<HashMap<(Method, String), usize>>,
}

impl Server {
    /// A server with an empty bucket, for those who know the secret.
    pub(crate) fn start() -> Self {
        Self::start_for(Some(SimpleAuth::from_single("key", "secret")))
    }

    /// A server with an empty bucket, for everybody.
    pub(crate) fn start_open() -> Self {
        Self::start_for(None)
    }

    fn start_for(auth: Option<SimpleAuth>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bucket")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        if let Some(auth) = auth {
            builder.set_auth(auth);
        }
        let service = builder.build();
        let state = Arc::new(State {
            decide: Mutex::new(Box::new(|_| Fault::None)),
            asked: Mutex::default(),
            seen: Mutex::default(),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (service, state) = (service.clone(), Arc::clone(&shared));
                let answers = service_fn(move |request| answer(service.clone(), Arc::clone(&state), request));
                let served =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), answers);
                // That connections end in errors is the purpose.
                tokio::spawn(async move { drop(served.await) });
            }
        });
        Self { address, dir, state, _runtime: runtime }
    }

    /// A server with numbered objects.
    pub(crate) fn with_objects(count: usize) -> Self {
        let server = Self::start();
        super::write(&server.folder(), (0..count).map(|number| (format!("o/{number:04}.bin"), super::content(number))));
        server
    }

    /// The folder whose files are the objects.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("bucket")
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn options(&self) -> BucketOptions {
        Bucket::options()
            .option("aws_endpoint", self.http())
            .option("aws_allow_http", "true")
            .option("aws_region", "us-east-1")
            .option("aws_access_key_id", "key")
            .option("aws_secret_access_key", "secret")
    }

    /// The bucket at a prefix, of which the store itself tries nothing again.
    pub(crate) fn bucket(&self, prefix: &str) -> Bucket {
        self.options().store_retries(0).open(&format!("s3://bucket/{prefix}")).unwrap()
    }

    /// Sets what becomes of requests from now on.
    pub(crate) fn decide(&self, decide: impl Fn(&Asked) -> Fault + Send + 'static) {
        self.state.seen.lock().unwrap().clear();
        *self.state.decide.lock().unwrap() = Box::new(decide);
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }
}

async fn answer(
    service: S3Service,
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let path = percent_decoded(request.uri().path());
    let range = request.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
    let before = {
        let mut seen = state.seen.lock().unwrap();
        let count = seen.entry((request.method().clone(), path.clone())).or_default();
        *count += 1;
        *count - 1
    };
    let asked = Asked { method: request.method().clone(), path, range, before };
    let fault = (state.decide.lock().unwrap())(&asked);
    state.asked.lock().unwrap().push(asked);
    match fault {
        Fault::Status(status, code) => {
            let text =
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>");
            let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
            return Ok(Response::builder().status(status).body(body).unwrap());
        }
        Fault::Reset => return Err(io::Error::other("reset on purpose")),
        Fault::Silence => std::future::pending().await,
        _ => {}
    }
    let mut request = request;
    if fault == Fault::Whole {
        request.headers_mut().remove("range");
    }
    let response =
        service.call(request.map(s3s::Body::from)).await.map_err(|cause| io::Error::other(format!("{cause:?}")))?;
    let (mut parts, body) = response.into_parts();
    let bytes = body.collect().await.map_err(|cause| io::Error::other(cause.to_string()))?.to_bytes();
    let body = match fault {
        Fault::Cut => {
            let half = bytes.slice(..bytes.len() / 2);
            parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
            let parts = vec![Ok(Frame::data(half)), Err(io::Error::other("cut on purpose"))];
            // A pause, or the first half would be thrown away with the connection.
            let parts = stream::unfold((parts.into_iter(), 0), |(mut parts, number)| async move {
                tokio::time::sleep(Duration::from_millis(number * 20)).await;
                parts.next().map(|part| (part, (parts, number + 1)))
            });
            StreamBody::new(parts).boxed_unsync()
        }
        Fault::Short | Fault::Long => {
            let mut changed = bytes.to_vec();
            if fault == Fault::Short {
                changed.truncate(bytes.len().saturating_sub(1));
            } else {
                changed.push(b'!')
            }
            parts.headers.insert(CONTENT_LENGTH, changed.len().into());
            Full::new(Bytes::from(changed)).map_err(|never| match never {}).boxed_unsync()
        }
        Fault::Trickle => {
            parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
            let drops = stream::unfold(bytes, |mut left| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                (!left.is_empty()).then(|| (Ok(Frame::data(left.split_to(1))), left))
            });
            StreamBody::new(drops).boxed_unsync()
        }
        _ => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
    };
    Ok(Response::from_parts(parts, body))
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Gives a file a time that is some seconds after its own.
pub(crate) fn touch(path: &Path, seconds: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap() + Duration::from_secs(seconds);
    file.set_modified(time).unwrap();
}
