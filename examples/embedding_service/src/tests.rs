//! The client against services that answer well, badly and not at all, and the example as a whole.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ndarray::Array2;
use procession::{ErrorKind, Result, Retry};

use crate::embed::{self, Sending};
use crate::local::{Asked, Embedding, LocalService, Reply, WIDTH, answer_to, answer_with, usual};
use crate::options::Options;
use crate::service::{Failure, Service};
use crate::store::Store;
use crate::{Outcome, local, run};

fn texts(num_texts: usize) -> Vec<String> {
    (0..num_texts).map(|number| format!("text {number} of {num_texts}")).collect()
}

fn client(url: &str) -> Service {
    Service::new(url, "m", None, Duration::from_secs(10)).unwrap()
}

/// Asks once, without the loader.
fn ask(service: &LocalService, texts: &[String]) -> Result<Array2<f32>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client(&service.url()).embed(texts))
}

fn sending() -> Sending {
    Sending {
        in_flight: 4,
        texts_per_request: 5,
        per_second: None,
        timeout: Duration::from_secs(10),
        retry: Retry::times(2).backoff(Duration::from_millis(1), 1.0, Duration::from_millis(1)),
    }
}

/// All vectors in order, by the loader.
fn embed_all(service: &LocalService, texts: &[String], sending: &Sending) -> Result<Array2<f32>> {
    let mut store = Store::default();
    let client = Service::new(&service.url(), "m", None, sending.timeout)?;
    let account = embed::embed(client, texts.to_vec(), sending, &mut store)?;
    assert!(account.receipt.is_complete() && account.receipt.skipped.is_empty());
    assert_eq!(account.requests.num_sent, service.num_requests() as u64);
    store.matrix(texts)
}

fn expected(texts: &[String]) -> Array2<f32> {
    Array2::from_shape_fn((texts.len(), WIDTH), |(row, column)| local::embed(&texts[row])[column])
}

#[test]
fn the_local_service_speaks_the_protocol() {
    let service = LocalService::start(usual(Duration::ZERO, usize::MAX)).unwrap();
    let answer = |head: &str, body: &str| {
        let host = service.url().trim_start_matches("http://").trim_end_matches("/v1").to_owned();
        let mut stream = TcpStream::connect(&host).unwrap();
        let len = body.len();
        write!(stream, "{head} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), serde_json::from_str::<serde_json::Value>(body).unwrap())
    };
    let (status, body) = answer("POST /v1/embeddings", "{\"model\":\"m\",\"input\":[\"Free entry\",\"hello\",\"\"]}");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!((&body["object"], &body["model"]), (&"list".into(), &"m".into()));
    let data = body["data"].as_array().unwrap();
    assert_eq!(data.iter().map(|entry| entry["index"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1, 0]);
    for entry in data {
        let vector: Vec<f64> = entry["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let length: f64 = vector.iter().map(|value| value * value).sum();
        assert_eq!(vector.len(), WIDTH);
        assert!(if entry["index"] == 2 { length == 0.0 } else { (length - 1.0).abs() < 1e-5 }, "{length}");
    }
    assert_eq!(answer("POST /v1/embeddings", "[]").0, "HTTP/1.1 400 Bad Request");
    assert_eq!(answer("GET /v1/embeddings", "").0, "HTTP/1.1 404 Not Found");
    assert_eq!(answer("POST /", "").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn vectors_are_those_of_the_texts_in_whatever_order_they_come() {
    for turned in 0..7 {
        let service = LocalService::start(move |asked: &Asked| {
            let embeddings = asked.input.iter().enumerate();
            let mut data: Vec<_> =
                embeddings.map(|(index, text)| Embedding { index, embedding: local::embed(text) }).collect();
            data.rotate_left(turned);
            if turned % 2 == 1 {
                data.reverse();
            }
            answer_with(&asked.model, data)
        });
        let texts = texts(7);
        assert_eq!(ask(&service.unwrap(), &texts).unwrap(), expected(&texts));
    }
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let service = LocalService::start(move |asked: &Asked| {
        notes.lock().unwrap().push((asked.authorization.clone(), asked.model.clone()));
        Reply::new(401, "{\"error\":{\"message\":\"no such key\"}}")
    });
    let service = service.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (key, header) in [(None, None), (Some(" sk-secret\n"), Some("Bearer sk-secret".to_owned()))] {
        let client = Service::new(&service.url(), "large", key, Duration::from_secs(9)).unwrap();
        let failure = runtime.block_on(client.embed(&texts(1))).unwrap_err();
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
        assert_eq!(seen.lock().unwrap().pop(), Some((header, "large".to_owned())));
    }
    let error = Service::new("http://h/v1", "m", Some("a\nb"), Duration::from_secs(9)).err().unwrap().to_string();
    assert_eq!(error, "a key with characters that no header has");
    for url in ["ftp://h/v1", "h/v1", "/v1", "", "http://", "http://h h"] {
        let error = Service::new(url, "m", None, Duration::from_secs(9)).err().unwrap();
        assert!(error.kind() == ErrorKind::Argument && error.to_string().contains(url), "{error}");
    }
}

#[test]
fn a_bad_answer_is_named_and_asked_again_only_if_that_may_help() {
    fn vectors(of: &[(usize, &str)]) -> String {
        let entries = of.iter().map(|(index, vector)| format!("{{\"index\":{index},\"embedding\":[{vector}]}}"));
        format!("{{\"data\":[{}]}}", entries.collect::<Vec<_>>().join(","))
    }
    const PASSING: bool = true;
    const LASTING: bool = false;
    let error = |message: &str| format!("{{\"error\":{{\"message\":\"{message}\"}}}}");
    let cases = [
        (200, vectors(&[(0, "1,2")]), LASTING, "answered 1 vectors for 2 texts"),
        (200, vectors(&[]), LASTING, "answered 0 vectors for 2 texts"),
        (200, vectors(&[(0, "1"), (1, "1"), (2, "1")]), LASTING, "answered 3 vectors for 2 texts"),
        (200, vectors(&[(1, "1"), (1, "1")]), LASTING, "index 1, expected each from 0 to 1 once, here 0"),
        (200, vectors(&[(0, "1"), (7, "1")]), LASTING, "index 7, expected each from 0 to 1 once, here 1"),
        (200, vectors(&[(0, "1,2"), (1, "1")]), LASTING, "1 numbers for text 1, expected 2 as for the first"),
        (200, vectors(&[(0, ""), (1, "")]), LASTING, "0 numbers for text 0"),
        (200, vectors(&[(1, "0,null"), (0, "1,2")]), LASTING, "number 1 of text 1 as null, expected a finite f32"),
        (200, vectors(&[(0, "1,1e39"), (1, "1,2")]), LASTING, "number 1 of text 0 as 1e39, expected a finite f32"),
        // JSON has no such number; Python writes it all the same.
        (200, vectors(&[(0, "1,NaN"), (1, "1,2")]), PASSING, "\"embedding\":[1,NaN]}"),
        (200, "<html> Bad\n gateway".to_owned(), PASSING, "not the embeddings of texts: <html> Bad gateway"),
        (
            200,
            vectors(&[(0, "1,2"), (1, "1,2")])[..40].to_owned(),
            PASSING,
            "not the embeddings of texts: {\"data\":[{",
        ),
        (200, String::new(), PASSING, "not the embeddings of texts: an empty body"),
        (
            200,
            error("out of order"),
            LASTING,
            "not the embeddings of texts: {\"error\":{\"message\":\"out of order\"}}",
        ),
        (302, String::new(), LASTING, "answered 302 Found: an empty body"),
        (400, error("too long"), LASTING, "answered 400 Bad Request: {\"error\":{\"message\":\"too long\"}}"),
        (401, error("no such key"), LASTING, "answered 401 Unauthorized: {\"error\":{\"message\":\"no such key\"}}"),
        (404, error("no such model"), LASTING, "answered 404 Not Found"),
        (408, String::new(), PASSING, "answered 408 Request Timeout"),
        (429, error("slowly"), PASSING, "answered 429 Too Many Requests: {\"error\":{\"message\":\"slowly\"}}"),
        (500, "x".repeat(1000), PASSING, &format!("answered 500 Internal Server Error: {}...", "x".repeat(200))),
        (503, error("later"), PASSING, "answered 503 Service Unavailable"),
    ];
    for (status, body, is_passing, part) in cases {
        let reply = Reply::new(status, body);
        let service = LocalService::start(move |_| reply.clone()).unwrap();
        let failure = ask(&service, &texts(2)).unwrap_err();
        let (found, error) = match failure {
            Failure::Passing(error) => (PASSING, error),
            Failure::Lasting(error) => (LASTING, error),
        };
        let message = error.to_string();
        assert!(message.contains(part) && message.starts_with("http://127.0.0.1:"), "{part:?}: {message}");
        assert_eq!(found, is_passing, "{message}");

        // By the loader: once, or as often as there are retries.
        let asked_before = service.num_requests();
        let alone = Sending { in_flight: 1, ..sending() };
        let error = embed_all(&service, &texts(2), &alone).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(service.num_requests() - asked_before, if is_passing { 3 } else { 1 }, "{error}");
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let service = LocalService::start(|_| Reply::new(200, " ".repeat((64 << 20) + 1))).unwrap();
    let failure = ask(&service, &texts(1)).unwrap_err();
    assert!(
        matches!(&failure, Failure::Lasting(error) if error.to_string().ends_with("answered more than 67108864 bytes")),
        "{failure:?}"
    );
}

#[test]
fn nobody_there_is_an_error_that_may_pass() {
    let service = LocalService::start(|asked: &Asked| answer_to(asked)).unwrap();
    let url = service.url();
    drop(service);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failure = runtime.block_on(client(&url).embed(&texts(1))).unwrap_err();
    assert!(
        matches!(&failure, Failure::Passing(error) if error.to_string().ends_with("gave no answer")),
        "{failure:?}"
    );
}

#[test]
fn faults_that_pass_are_overcome() {
    // Each of the first requests fails in another way.
    let service = LocalService::start(|asked: &Asked| match asked.number {
        0 => Reply::new(503, "later"),
        1 => Reply::new(200, ""),
        2 => Reply::new(429, "slowly"),
        3 => Reply { after: Duration::from_secs(600), ..answer_to(asked) },
        _ => answer_to(asked),
    });
    let service = service.unwrap();
    let texts = texts(43);
    let sending = Sending { timeout: Duration::from_secs(1), ..sending() };
    assert_eq!(embed_all(&service, &texts, &sending).unwrap(), expected(&texts));
    assert_eq!(service.num_requests(), 9 + 4);
}

#[test]
fn a_service_that_hangs_is_given_up() {
    let service = LocalService::start(|asked: &Asked| Reply { after: Duration::from_secs(600), ..answer_to(asked) });
    let service = service.unwrap();
    let sending = Sending { in_flight: 1, timeout: Duration::from_millis(50), ..sending() };
    let error = embed_all(&service, &texts(3), &sending).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().starts_with("no answer to a request after 50ms"), "{error}");
    assert_eq!(service.num_requests(), 3);
}

#[test]
fn a_service_that_asks_for_a_pause_gets_it() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&times);
    let service = LocalService::start(move |asked: &Asked| {
        notes.lock().unwrap().push(Instant::now());
        match asked.number {
            0 => Reply { retry_after: Some(1), ..Reply::new(429, "slowly") },
            _ => answer_to(asked),
        }
    });
    let texts = texts(20);
    let sending = Sending { in_flight: 1, ..sending() };
    assert_eq!(embed_all(&service.unwrap(), &texts, &sending).unwrap(), expected(&texts));
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_millis(990), "{:?}", times[1] - times[0]);

    // Not longer than half of the time that the request has.
    let service = LocalService::start(|asked: &Asked| match asked.number {
        0 => Reply { retry_after: Some(3600), ..Reply::new(429, "slowly") },
        _ => answer_to(asked),
    });
    let sending = Sending { in_flight: 1, timeout: Duration::from_secs(2), ..sending };
    let begun = Instant::now();
    assert_eq!(embed_all(&service.unwrap(), &texts, &sending).unwrap(), expected(&texts));
    assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
}

#[test]
fn batches_do_not_depend_on_how_many_requests_are_in_flight() {
    let batches = |in_flight| {
        // Later requests are answered sooner.
        let service = LocalService::start(|asked: &Asked| {
            let after = Duration::from_millis(60_u64.saturating_sub(asked.number as u64));
            Reply {
                after: if asked.number.is_multiple_of(2) { after } else { Duration::ZERO },
                ..usual(after, 9)(asked)
            }
        });
        let service = service.unwrap();
        let sending = Sending { in_flight, retry: Retry::times(20), ..sending() };
        let loader = embed::loader(client(&service.url()), texts(123).into(), &sending).unwrap();
        let batches: Vec<Array2<f32>> = loader.epoch(0).map(|batch| batch.unwrap().into_inner().unwrap()).collect();
        assert!(loader.last_receipt().unwrap().is_complete());
        let requests = loader.report().requests.unwrap();
        assert_eq!(requests.num_sent - requests.num_failed, 25);
        batches
    };
    let (one, many) = (batches(1), batches(64));
    assert_eq!(one.iter().map(|batch| batch.nrows()).sum::<usize>(), 123);
    assert_eq!((one.len(), one.last().unwrap().nrows()), (25, 3));
    assert!(one == many);
}

#[test]
fn answers_of_another_width_than_those_before_are_refused() {
    let service = LocalService::start(|asked: &Asked| {
        let width = if asked.input[0].starts_with("text 10 ") { 3 } else { 2 };
        let data = (0..asked.input.len()).map(|index| Embedding { index, embedding: vec![0.5; width] }).collect();
        answer_with(&asked.model, data)
    });
    let error = embed_all(&service.unwrap(), &texts(20), &sending()).unwrap_err();
    assert_eq!(error.to_string(), "a vector of 3 numbers, expected 2 as those before and at least 1");
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let service = LocalService::start(|asked: &Asked| answer_to(asked)).unwrap();
    for wrong in [
        Sending { texts_per_request: 0, ..sending() },
        Sending { in_flight: 0, ..sending() },
        Sending { per_second: Some(0.0), ..sending() },
        Sending { timeout: Duration::ZERO, ..sending() },
    ] {
        assert_eq!(embed_all(&service, &texts(2), &wrong).unwrap_err().kind(), ErrorKind::Argument);
    }
    assert_eq!(service.num_requests(), 0);
}

fn run_quietly(options: &Options) -> Result<(Outcome, String)> {
    let mut out = Vec::new();
    let outcome = run(options, &mut out)?;
    Ok((outcome, String::from_utf8(out).unwrap()))
}

#[test]
fn the_example_learns_and_loses_nothing() {
    let service = LocalService::start(usual(Duration::from_millis(1), 30)).unwrap();
    let options = Options { url: Some(service.url()), num_texts: Some(800), epochs: 15, ..Options::default() };
    let (outcome, said) = run_quietly(&options).unwrap();
    assert!(outcome.test.accuracy > outcome.test.majority + 0.05, "{said}");
    assert!(outcome.test.averaged > outcome.test.majority + 0.05, "{said}");
    assert_eq!(outcome.test.num_texts, 160);
    let account = outcome.account.unwrap();
    assert_eq!((account.receipt.delivered, account.receipt.expected), (50, 50));
    // Fifteen epochs of training have sent nothing.
    let failed = account.requests.num_failed;
    assert_eq!((account.requests.num_sent, service.num_requests() as u64), (50 + failed, 50 + failed));
    assert!(
        failed >= 1 && said.contains(&format!("{} sent, {failed} failed, {failed} of them retries", 50 + failed)),
        "{said}"
    );

    // Whatever is in flight, and whenever what fails, the training is the same.
    let sending = Sending { in_flight: 1, ..options.sending };
    let (again, _) = run_quietly(&Options { sending, ..options }).unwrap();
    assert_eq!(again.test, outcome.test);
}

#[test]
fn the_example_brings_its_own_service() {
    let error = run_quietly(&Options { num_texts: Some(4), ..Options::default() }).unwrap_err().to_string();
    assert_eq!(error, "4 texts, expected at least 5 to train and to test with");
    for (num_texts, epochs) in [(5, 1), (20, 0)] {
        run_quietly(&Options { num_texts: Some(num_texts), epochs, ..Options::default() }).unwrap();
    }
    let options = Options { num_texts: Some(60), epochs: 1, ..Options::default() };
    let (outcome, said) = run_quietly(&options).unwrap();
    assert!(said.contains("a stand-in at http://127.0.0.1:") && outcome.account.is_some(), "{said}");
}

#[test]
fn what_is_in_the_cache_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let service = LocalService::start(usual(Duration::ZERO, usize::MAX)).unwrap();
    let options = |num_texts, model: &str| Options {
        url: Some(service.url()),
        model: model.to_owned(),
        num_texts: Some(num_texts),
        cache: Some(folder.path().join("cache")),
        epochs: 3,
        ..Options::default()
    };
    let (first, _) = run_quietly(&options(160, "m")).unwrap();
    assert_eq!(service.num_requests(), 10);
    let (second, said) = run_quietly(&options(160, "m")).unwrap();
    assert_eq!(service.num_requests(), 10);
    assert!(second.account.is_none() && said.contains("0 texts to embed, 160 known"), "{said}");
    assert_eq!(first.test, second.test);

    // More texts: only the new ones are asked for. Another model: not a word of it is believed.
    let (more, _) = run_quietly(&options(200, "m")).unwrap();
    let asked = more.account.unwrap().receipt.delivered as usize;
    assert!(asked < 13 && service.num_requests() == 10 + asked, "{asked}");
    let error = run_quietly(&options(160, "another")).unwrap_err().to_string();
    assert!(error.contains("a cache of m at ") && error.contains("expected another at "), "{error}");
}

#[test]
fn answers_before_a_failure_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let service = LocalService::start(|asked: &Asked| match asked.number {
        7 => Reply::new(402, "{\"error\":{\"message\":\"no money left\"}}"),
        _ => answer_to(asked),
    });
    let service = service.unwrap();
    let options = Options {
        url: Some(service.url()),
        num_texts: Some(160),
        cache: Some(folder.path().join("cache")),
        sending: Sending { in_flight: 1, ..Options::default().sending },
        epochs: 1,
        ..Options::default()
    };
    let error = run_quietly(&options).unwrap_err().to_string();
    assert!(error.contains("answered 402 Payment Required: {\"error\":{\"message\":\"no money left\"}}"), "{error}");
    let (outcome, said) = run_quietly(&options).unwrap();
    assert!(said.contains("48 texts to embed, 112 known"), "{said}");
    assert_eq!(outcome.account.unwrap().receipt.delivered, 3);
}
