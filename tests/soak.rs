//! Many epochs against a service that fails, stalls and drops connections: each sample once, in order, and nothing grows.
//!
//! Five epochs by default; `PROCESSION_EPOCHS=100 cargo test --release --features async --test soak -- --nocapture` is the
//! long run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that unwraps what is not there fails, as it should"
)]
#![cfg(target_os = "linux")]

#[path = "common/resources.rs"]
mod resources;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession::{AsyncSequence, Error, ErrorKind, Loader, Result, Retry, Sampler, Shuffle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use resources::{Resources, num_loader_threads};

const LEN: usize = 2_000;
const NUMBERS: usize = 200;
const RECORD: usize = NUMBERS * 4;

/// What the service does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Answered with a word of failure.
    Failed,
    /// Never answered.
    Stalled,
    /// The connection ends before the answer, or in its middle.
    Dropped,
}

fn fate(request: u64) -> Fate {
    let mixed = request.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
    match mixed % 100 {
        0..5 => Fate::Failed,
        5 => Fate::Stalled,
        6..9 => Fate::Dropped,
        _ => Fate::Answered,
    }
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    stalled: AtomicU64,
    dropped: AtomicU64,
}

fn record(index: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    for (number, chunk) in bytes.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&(index as f32 + number as f32 / 1000.0).to_le_bytes());
    }
    bytes
}

/// Serves one connection: a request is an index of four bytes, an answer one byte and a record.
async fn serve(mut stream: TcpStream, counts: Arc<Counts>) -> io::Result<()> {
    loop {
        let index = match stream.read_u32_le().await {
            Ok(index) => index,
            Err(_) => return Ok(()),
        };
        let record = record(index);
        match fate(counts.requests.fetch_add(1, Ordering::Relaxed)) {
            Fate::Answered => {
                stream.write_u8(1).await?;
                stream.write_all(&record).await?;
            }
            Fate::Failed => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                stream.write_u8(0).await?;
            }
            Fate::Stalled => {
                counts.stalled.fetch_add(1, Ordering::Relaxed);
                // Until the client has had enough.
                let _ = stream.read_u8().await;
                return Ok(());
            }
            Fate::Dropped => {
                let number = counts.dropped.fetch_add(1, Ordering::Relaxed);
                if number % 2 == 1 {
                    stream.write_u8(1).await?;
                    stream.write_all(&record[..RECORD / 3]).await?;
                }
                return Ok(());
            }
        }
    }
}

/// A client that keeps connections that are in order.
struct Service {
    address: SocketAddr,
    idle: std::sync::Mutex<Vec<TcpStream>>,
}

impl Service {
    async fn ask(&self, stream: &mut TcpStream, index: usize) -> io::Result<Option<[f32; NUMBERS]>> {
        stream.write_u32_le(index as u32).await?;
        if stream.read_u8().await? == 0 {
            return Ok(None);
        }
        let mut bytes = [0; RECORD];
        stream.read_exact(&mut bytes).await?;
        let mut numbers = [0.0; NUMBERS];
        for (number, chunk) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
            *number = f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Ok(Some(numbers))
    }
}

impl AsyncSequence for Service {
    type Sample = [f32; NUMBERS];

    fn len(&self) -> usize {
        LEN
    }

    async fn get(&self, index: usize) -> Result<[f32; NUMBERS]> {
        let idle = self.idle.lock().unwrap().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await?,
        };
        // A connection that failed, or whose request was given up, is dropped with this future.
        let answer = self.ask(&mut stream, index).await?;
        self.idle.lock().unwrap().push(stream);
        answer.ok_or_else(|| Error::new(ErrorKind::Io, "the service says no"))
    }
}

#[test]
fn every_sample_comes_once_and_nothing_grows() {
    let num_epochs = std::env::var("PROCESSION_EPOCHS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let counts = Arc::new(Counts::default());
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn({
        let counts = Arc::clone(&counts);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counts)));
            }
        }
    });

    let loader = Loader::remote(Service { address, idle: std::sync::Mutex::default() })
        .concurrency(64)
        .timeout(Duration::from_millis(500))
        .retry(Retry::times(20).backoff(Duration::from_millis(1), 2.0, Duration::from_millis(50)))
        .map(|numbers| numbers)
        .workers(2)
        .batch_size(32)
        .shuffle(7)
        .build()
        .unwrap();
    let mut after_warm_up = None;
    let mut most = Resources::now();
    for (number, mut epoch) in loader.epochs(0..num_epochs).enumerate() {
        let mut position = 0;
        for batch in &mut epoch {
            let batch = batch.unwrap_or_else(|error| panic!("epoch {number}: {error}"));
            for (row, &index) in batch.outer_iter().zip(batch.indices()) {
                // The plan says what stands here; the plain loop is one line.
                assert_eq!(
                    index,
                    Shuffle::new(LEN as u64, 7).index(number as u64, position),
                    "epoch {number}, position {position}"
                );
                assert_eq!((row[0], row[NUMBERS - 1]), (index as f32, index as f32 + (NUMBERS - 1) as f32 / 1000.0));
                position += 1;
            }
        }
        assert_eq!(position, LEN as u64);
        assert!(epoch.receipt().is_complete() && epoch.receipt().delivered == LEN as u64);
        most = most.max(Resources::now());
        if number == num_epochs as usize / 5 {
            after_warm_up = Some(most);
        }
    }
    let requests = loader.report().requests.unwrap();
    println!(
        "{num_epochs} epochs of {LEN}: {requests:?}\n{counts:?}\nafter the warm-up {after_warm_up:?}, at most {most:?}"
    );
    // Each failure was met and made up for.
    assert_eq!(requests.num_sent - requests.num_failed, num_epochs * LEN as u64);
    for count in [&counts.failed, &counts.stalled, &counts.dropped] {
        assert!(count.load(Ordering::Relaxed) > 0);
    }
    let before = after_warm_up.unwrap();
    // The allocator's pages, and connections that were given up and not closed yet, vary by a little.
    assert!(most.resident_kib < before.resident_kib + 8 * 1024, "memory grew from {before:?} to {most:?}");
    assert!(most.num_threads <= before.num_threads, "threads grew from {before:?} to {most:?}");
    assert!(most.num_files < before.num_files + 100, "open files grew from {before:?} to {most:?}");
    // What is left of the loader goes with it.
    drop(loader);
    assert_eq!(num_loader_threads(), 0);
}
