//! Texts with labels go to an embedding service, and its vectors train a classifier: any service with OpenAI's
//! `POST /v1/embeddings`, or without one a stand-in on this machine.
//!
//! `cargo run --release --manifest-path examples/embedding_service/Cargo.toml -- --help`
//!
//! A vector is paid for, waited for, and the same every time. So each text is embedded once: [`embed`] sends several texts a
//! request and keeps many requests in flight, gets the answers in order, and [`store`] keeps them, for the next run too if
//! there is a `--cache`. Training then shuffles the texts afresh in every epoch, from memory, in batches of any size.

mod embed;
mod local;
mod options;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod texts;

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use ndarray::Array2;
use procession::train::{Adam, Flow, Model, Trainer};
use procession::{Error, ErrorKind, Loader, Receipt, Result, SequenceExt};

use crate::embed::Account;
use crate::local::LocalService;
use crate::options::{Options, USAGE};
use crate::service::Service;
use crate::store::{Origin, Store};
use crate::texts::{Texts, counts};

/// One in five is held out.
const MIN_TEXTS: usize = 5;

fn main() -> ExitCode {
    let key = std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty());
    let done = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => run(&Options { key, ..options }, &mut io::stdout().lock()).map(drop),
        Ok(None) => writeln!(io::stdout(), "{USAGE}").map_err(Error::from),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// What came of a run.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tests look at what the command only says"))]
struct Outcome {
    /// The account of the requests; none if every vector was there before.
    account: Option<Account>,
    test: Test,
}

/// How many of the held-out texts are told right.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Test {
    num_texts: usize,
    /// By the weights as they are, and by their averages.
    accuracy: f64,
    averaged: f64,
    /// By whoever says the most frequent class every time.
    majority: f64,
}

fn run(options: &Options, out: &mut impl Write) -> Result<Outcome> {
    let texts = match &options.data {
        Some(path) => Texts::open(path)?,
        None => Texts::shipped()?,
    };
    let texts = texts.take(options.num_texts.unwrap_or(usize::MAX));
    if texts.texts.len() < MIN_TEXTS {
        let message = format!("{} texts, expected at least {MIN_TEXTS} to train and to test with", texts.texts.len());
        return Err(Error::new(ErrorKind::Argument, message));
    }
    let classes = texts.classes.iter().zip(texts.counts()).map(|(class, count)| format!("{count} {class}"));
    writeln!(out, "{} texts: {}", texts.texts.len(), classes.collect::<Vec<_>>().join(", "))?;

    // The stand-in lives until the end of the run; a cache knows it by its name, as its port is another every time.
    let (stand_in, url) = match &options.url {
        Some(url) => (None, url.clone()),
        None => {
            let stand_in = LocalService::start(local::usual(Duration::from_millis(20), 30))?;
            let url = stand_in.url();
            writeln!(out, "a stand-in at {url} takes 20 ms a request, and one in thirty fails")?;
            (Some(stand_in), url)
        }
    };
    let origin = Origin { url: options.url.clone().unwrap_or("stand-in".to_owned()), model: options.model.clone() };
    let mut store = match &options.cache {
        Some(path) => Store::open(path, &origin)?,
        None => Store::default(),
    };

    let missing = store.missing(&texts.texts);
    writeln!(out, "\n{} texts to embed, {} known", missing.len(), texts.texts.len() - missing.len())?;
    let account = if missing.is_empty() {
        None
    } else {
        let service = Service::new(&url, &options.model, options.key.as_deref(), options.sending.timeout)?;
        let account = embed::embed(service, missing, &options.sending, &mut store)?;
        tell(&account, options.sending.in_flight, out)?;
        Some(account)
    };
    let vectors = store.matrix(&texts.texts)?;
    let num_requests = stand_in.as_ref().map(LocalService::num_requests);
    let test = train(vectors, texts, options.epochs, out)?;
    if stand_in.as_ref().map(LocalService::num_requests) != num_requests {
        return Err(Error::new(ErrorKind::Sample, "the training asked for vectors that were there"));
    }
    let Test { num_texts, accuracy, averaged, majority } = test;
    writeln!(out, "\naccuracy on {num_texts} held-out texts: {accuracy:.3}, by averaged weights {averaged:.3}")?;
    writeln!(out, "whoever always says the most frequent class: {majority:.3}")?;
    Ok(Outcome { account, test })
}

/// Says what the requests took, and makes sure that each was answered.
fn tell(account: &Account, in_flight: usize, out: &mut impl Write) -> Result<()> {
    let Account { receipt, requests, took } = account;
    let _ = lost_nothing(receipt)?;
    writeln!(out, "{receipt}")?;
    let retried = requests.num_sent - receipt.delivered;
    writeln!(out, "requests: {} sent, {} failed, {retried} of them retries", requests.num_sent, requests.num_failed)?;
    let (took, apart) = (took.as_secs_f64(), requests.waited.as_secs_f64());
    writeln!(
        out,
        "{took:.2} s with {in_flight} in flight; one after another: {apart:.2} s, {:.1} times as long",
        apart / took
    )?;
    Ok(())
}

/// Makes sure that an epoch delivered all that it had to.
fn lost_nothing(receipt: &Receipt) -> Result<Flow> {
    if receipt.is_complete() && receipt.skipped.is_empty() {
        return Ok(Flow::Continue);
    }
    Err(Error::new(ErrorKind::Sample, format!("something was lost: {receipt}")))
}

/// Trains on four fifths of the texts, shuffled afresh in every epoch, and tests with the others.
fn train(vectors: Array2<f32>, texts: Texts, epochs: u64, out: &mut impl Write) -> Result<Test> {
    let Texts { labels, classes, .. } = texts;
    let (width, num_classes) = (vectors.ncols(), classes.len());
    let (train, held_out) = vectors.zip(labels.clone())?.split(0.8, 7)?;
    let held_out_labels: Vec<u32> = held_out.indices().iter().map(|&index| labels[index]).collect();
    let train = Loader::builder(train).batch_size(32).shuffle(7).build()?;
    let held_out = Loader::builder(held_out).batch_size(256).build()?;

    let model =
        Model::builder(width).dense("hidden", 64).relu("relu").dropout("dropout", 0.5).dense("logits", num_classes);
    let loader = train.clone();
    let mut trainer = Trainer::new(model.seed(7).build()?, Adam::new(0.002))
        .average("ema", 0.99)?
        .on_epoch(move |_| loader.last_receipt().map_or(Ok(Flow::Continue), |receipt| lost_nothing(&receipt)));
    trainer.fit_validated(train.epochs(0..epochs), || held_out.epoch(0))?;

    let history = trainer.history();
    let columns = ["loss", "accuracy", "val_loss", "val_accuracy", "ema_val_accuracy"];
    let columns = columns.map(|name| history.column(name).map(|(_, _, value)| value).collect::<Vec<_>>());
    let [loss, accuracy, held_out_loss, held_out_accuracy, averaged] = &columns;
    writeln!(out, "\nepoch    loss  accuracy    held out: loss  accuracy  averaged")?;
    for epoch in 0..loss.len() {
        write!(out, "{epoch:5}  {:.4}    {:.4}  ", loss[epoch], accuracy[epoch])?;
        writeln!(
            out,
            "          {:.4}    {:.4}    {:.4}",
            held_out_loss[epoch], held_out_accuracy[epoch], averaged[epoch]
        )?;
    }
    let accuracy = trainer.evaluate(held_out.epoch(0))?.accuracy;
    let averaged = trainer.evaluate_average("ema", held_out.epoch(0))?.accuracy;
    let counts = counts(&held_out_labels, num_classes);
    let most = counts.iter().copied().max().unwrap_or(0);
    let num_texts = held_out_labels.len();
    Ok(Test { num_texts, accuracy, averaged, majority: most as f64 / num_texts.max(1) as f64 })
}
