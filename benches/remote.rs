//! Samples that are waited for: the loader's requests against the arithmetic of waiting, and against others' ways.
//!
//! `cargo bench --features async --bench remote [NAME..]`, with nothing else going on; `PROCESSION_REPEATS` sets the number
//! of rounds. The service is a thread that answers each request after a time, to some tens of microseconds: the timers of
//! tokio are a millisecond coarse, which would be a tenth of what is measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails should say so")]

mod common;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use common::{arithmetic, at_least, drain, table};
use futures::StreamExt;
use procession::{AsyncSequence, Error, ErrorKind, Loader, async_from_fn};
use tokio::sync::oneshot;

fn main() {
    common::run(&[("sleeping", &sleeping), ("mixed", &mixed), ("instant", &instant)]);
}

/// Answers requests after a time.
#[derive(Clone)]
struct Service {
    requests: Sender<(Instant, oneshot::Sender<()>)>,
    delay: Duration,
}

impl Service {
    fn new(delay: Duration) -> Self {
        let (requests, incoming) = channel::<(Instant, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            let mut waiting = BinaryHeap::new();
            let mut answers = std::collections::HashMap::new();
            let mut number = 0_u64;
            loop {
                let now = Instant::now();
                while let Some(&Reverse((due, number))) = waiting.peek() {
                    if due > now {
                        break;
                    }
                    waiting.pop();
                    let answer: Option<oneshot::Sender<()>> = answers.remove(&number);
                    answer.map(|answer| answer.send(()));
                }
                let next = waiting.peek().map_or(Duration::from_secs(1), |Reverse((due, _))| *due - now);
                match incoming.recv_timeout(next) {
                    Ok((due, answer)) => {
                        waiting.push(Reverse((due, number)));
                        answers.insert(number, answer);
                        number += 1;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { requests, delay }
    }

    fn ask(&self) -> oneshot::Receiver<()> {
        let (answer, receiver) = oneshot::channel();
        self.requests.send((Instant::now() + self.delay, answer)).unwrap();
        receiver
    }

    fn sequence(&self, len: usize) -> impl AsyncSequence<Sample = u64> + use<> {
        let service = self.clone();
        async_from_fn(len, move |index| {
            let answer = service.ask();
            async move {
                answer.await.map_err(|_| Error::new(ErrorKind::Io, "the service is gone"))?;
                Ok::<_, Error>(index as u64)
            }
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn sleeping() {
    let delay = Duration::from_millis(10);
    for (in_flight, len) in [(64, 64 * 100), (1024, 1024 * 100)] {
        let service = Service::new(delay);
        let remote = || Loader::remote(service.sequence(len)).concurrency(in_flight).batch_size(32).shuffle(1);
        let loader = remote().build().unwrap();
        let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let loader_elsewhere = remote().runtime(other.handle().clone()).build().unwrap();
        let runtime = runtime();
        let (service, runtime) = (&service, &runtime);
        let buffered = || {
            let requests = futures::stream::iter((0..len).map(|index| {
                let answer = service.ask();
                async move { answer.await.map(|()| index) }
            }));
            runtime.block_on(requests.buffered(in_flight).for_each(async |answer| {
                black_box(answer.unwrap());
            }));
        };
        let times = table(
            &format!("samples that wait 10 ms, {in_flight} in flight"),
            "samples/s",
            len as f64,
            &mut [
                ("the limit: all in flight, all the time", &mut || {
                    std::thread::sleep(delay * (len / in_flight) as u32);
                }),
                ("loader, stacked as they come", &mut || drain(&loader, 0)),
                ("loader, on another runtime", &mut || drain(&loader_elsewhere, 0)),
                ("loader, by a stream", &mut || {
                    futures::executor::block_on(loader.epoch(0).stream().for_each(async |batch| {
                        black_box(&*batch.unwrap());
                    }));
                }),
                ("futures::buffered, one task", &mut || buffered()),
            ],
        );
        if in_flight == 64 {
            at_least("waiting samples, stacked as they come", 0.97, times.ratio(1, 0));
        }
        let few = 50;
        let naive = common::race(&mut [("", &mut || {
            (0..few).for_each(|_| drop(service.ask().blocking_recv()));
        })]);
        println!("  a plain loop over a blocking client          {:.0} samples/s", few as f64 / naive.median(0));
    }
}

fn mixed() {
    const LEN: usize = 2000;
    let wait = Duration::from_millis(2);
    // Work and not time: what is to be shared is the processor.
    let work = |index: usize| {
        for round in 0..10 {
            black_box(arithmetic(index + round));
        }
    };
    for workers in [1, 2] {
        let service = Service::new(wait);
        let loader = |in_flight| {
            Loader::remote(service.sequence(LEN))
                .concurrency(in_flight)
                .map(move |number| {
                    work(number as usize);
                    number
                })
                .workers(workers)
                .batch_size(32)
                .build()
                .unwrap()
        };
        let (eight, many) = (loader(8), loader(64));
        let (service, runtime) = (&service, &runtime());
        table(
            &format!("2 ms of wait and 1 ms of work a sample, {workers} workers"),
            "samples/s",
            LEN as f64,
            &mut [
                ("the limit: the work alone", &mut || {
                    std::thread::scope(|scope| {
                        for _ in 0..workers {
                            scope.spawn(|| (0..LEN / workers).for_each(work));
                        }
                    });
                }),
                ("loader, 8 in flight", &mut || drain(&eight, 0)),
                ("loader, 64 in flight", &mut || drain(&many, 0)),
                ("futures::buffered(64), work in the task", &mut || {
                    let requests = futures::stream::iter((0..LEN).map(|index| async move {
                        service.ask().await.unwrap();
                        work(index);
                    }));
                    runtime.block_on(requests.buffered(64).for_each(async |()| {}));
                }),
            ],
        );
    }
}

/// What a request costs beside its wait.
fn instant() {
    const LEN: usize = 100_000;
    let ready = || async_from_fn(LEN, |index| async move { Ok::<_, Error>(index as u64) });
    let (light, heavy) = (
        Loader::remote(ready()).batch_size(128).build().unwrap(),
        Loader::remote(ready()).map(|number| number).workers(1).batch_size(128).build().unwrap(),
    );
    let runtime = runtime();
    let sequence = Arc::new(ready());
    table(
        "samples that are there at once",
        "samples/s",
        LEN as f64,
        &mut [
            ("futures::buffered(64), one task", &mut || {
                let sequence = Arc::clone(&sequence);
                let all = async move {
                    let mut requests = futures::stream::iter((0..LEN).map(|index| sequence.get(index))).buffered(64);
                    while let Some(result) = requests.next().await {
                        black_box(result?);
                    }
                    Ok::<(), Error>(())
                };
                runtime.block_on(all).unwrap();
            }),
            ("loader, stacked as they come", &mut || drain(&light, 0)),
            ("loader, through a worker", &mut || drain(&heavy, 0)),
        ],
    );
}
