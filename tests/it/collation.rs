//! Samples of different lengths through the loader: the same batches for any number of workers and any window, and
//! nothing lost.

use std::fmt::Debug;

use procession::collate::{self, Collate, Padded};
use procession::{
    Error, ErrorKind, LengthBuckets, Loader, OnFailure, Plan, Sampler, SequenceExt, Shuffle, Tail, Visit, Window,
    World, from_fn,
};

use crate::support::{is_permutation, under_watch};

type Pair = (Vec<u32>, u32);

/// Sequences of 0 to 40 tokens, none of which is 0, and a label.
fn sentences(len: usize) -> Vec<Pair> {
    let sentence = |index: u64| {
        let mut rng = Visit::new(5, 0, index, 0).rng(0);
        let length = rng.below(41);
        ((0..length).map(|_| 1 + rng.below(1000) as u32).collect(), index as u32)
    };
    (0..len as u64).map(sentence).collect()
}

fn lengths(samples: &[Pair]) -> impl Iterator<Item = usize> {
    samples.iter().map(|(tokens, _)| tokens.len())
}

/// The batches of an epoch by a plain loop.
fn plain<S: Clone, C: Collate<S>>(samples: &[S], collate: &C, plan: &Plan, epoch: u64) -> Vec<C::Batch> {
    let batch = |number| {
        let samples = plan.indices(epoch, number).into_iter().map(|index| samples[index as usize].clone());
        collate.collate(samples.collect()).unwrap()
    };
    (0..plan.num_batches()).map(batch).collect()
}

/// Checks that a loader with any number of workers and any window gives the batches of the plain loop.
fn check<C, S>(name: &str, collate: impl Fn() -> C, sampler: S, tail: Tail)
where
    C: Collate<Pair>,
    C::Batch: PartialEq + Debug + Clone,
    S: Sampler + Clone + 'static,
{
    let samples = sentences(203);
    for (rank, size) in [(0, 1), (1, 3)] {
        let world = World::new(rank, size).unwrap();
        let plan = Plan::new(sampler.clone(), 16).unwrap().tail(tail).world(world);
        for (workers, window) in [
            (0, Window::Auto),
            (1, Window::Auto),
            (3, Window::Batches(1)),
            (4, Window::Bytes(500)),
            (2, Window::Bytes(100_000)),
        ] {
            let loader = Loader::builder(samples.clone()).collate_with(collate()).sampler(sampler.clone());
            let loader = loader.batch_size(16).tail(tail).world(world).workers(workers).window(window).build().unwrap();
            let context = format!("{name}, {workers} workers, {window:?}, rank {rank} of {size}, {tail:?}");
            for epoch in 0..2 {
                let batches: Vec<C::Batch> =
                    under_watch(&context, || loader.epoch(epoch).map(|batch| batch.unwrap().into_inner()).collect());
                assert_eq!(batches, plain(&samples, &collate(), &plan, epoch), "{context}");
            }
        }
    }
}

#[test]
fn batches_do_not_depend_on_workers_or_window() {
    let buckets = LengthBuckets::new(lengths(&sentences(203)), 16, 4, 3).unwrap();
    for tail in [Tail::Keep, Tail::Drop, Tail::Pad] {
        check("padded", || (collate::pad(0).to_multiple_of(8), collate::stack()), buckets.clone(), tail);
        check("ragged", || (collate::ragged(), collate::stack()), Shuffle::new(203, 3), tail);
        check("packed", || (collate::pack(48), collate::stack()), buckets.clone(), tail);
        check("split", || (collate::pack(7).split(), collate::stack()), Shuffle::new(203, 3), tail);
    }
}

#[test]
fn a_window_in_bytes_counts_the_padding() {
    // One long sample in eight: a batch takes about eight times what its samples do.
    let samples: Vec<(Vec<u8>, u32)> = (0..160).map(|at| (vec![1; if at % 8 == 5 { 1000 } else { 10 }], at)).collect();
    let check = |loader: Loader<_>, workers: usize| {
        let num_batches = under_watch("padding", || loader.epoch(0).map(Result::unwrap).count());
        assert_eq!(num_batches, 20);
        // With room for the samples of two batches no other one is padded beside the one that is due: it may have been
        // begun, by as many as work on batches, before the padding was known.
        let (padded, peak) = (8 * 1000 + 400, loader.report().peak_bytes.unwrap());
        let most = 3000 + (workers.max(1) as u64) * padded;
        assert!((8000..=most).contains(&peak), "{peak} bytes, {workers} workers");
    };
    for workers in [0, 1, 4] {
        let loader = Loader::builder(samples.clone()).collate_with((collate::pad(0), collate::stack())).batch_size(8);
        check(loader.workers(workers).window(Window::Bytes(3000)).build().unwrap(), workers);
    }
    #[cfg(feature = "async")]
    for workers in [0, 1, 4] {
        let samples = samples.clone();
        let answer = move |index: usize| std::future::ready(Ok::<_, procession::Error>(samples[index].clone()));
        let loader = Loader::remote(procession::async_from_fn(160, answer)).concurrency(1);
        let loader = loader.collate_with((collate::pad(0), collate::stack())).batch_size(8);
        check(loader.workers(workers).window(Window::Bytes(3000)).build().unwrap(), workers);
    }
}

#[test]
fn an_epoch_of_packed_rows_holds_every_token_once() {
    let samples = sentences(100);
    let loader = Loader::builder(samples.clone())
        .collate_with((collate::pack(45), collate::stack()))
        .batch_size(32)
        .shuffle(1)
        .workers(3)
        .build()
        .unwrap();
    let mut seen: Vec<Pair> = samples.iter().map(|(_, label)| (Vec::new(), *label)).collect();
    for batch in loader.epoch(0) {
        let batch = batch.unwrap();
        let (packed, labels) = &*batch;
        for span in &packed.spans {
            let tokens = packed.values.row(span.row);
            let tokens = tokens.iter().skip(span.start).take(span.len).copied();
            seen[labels[span.sample] as usize].0.extend(tokens);
        }
        assert_eq!(packed.mask(), packed.values.mapv(|token| token > 0));
    }
    assert_eq!(seen, samples);
}

#[test]
fn buckets_leave_less_padding_and_lose_nothing() {
    let samples = sentences(1000);
    let cells = |sampler: Box<dyn Sampler>| {
        let loader = Loader::builder(samples.clone()).collate_with((collate::pad(0), collate::stack()));
        let loader = loader.sampler(sampler).batch_size(20).workers(2).build().unwrap();
        let mut labels = Vec::new();
        let mut cells = 0;
        for batch in loader.epoch(3) {
            let batch = batch.unwrap();
            let (padded, of_batch): &(Padded<u32>, _) = &batch;
            labels.extend(of_batch.iter().map(|&label| u64::from(label)));
            cells += padded.values.len();
        }
        assert!(is_permutation(&labels, 1000));
        cells
    };
    let tokens: usize = lengths(&samples).sum();
    let shuffled = cells(Box::new(Shuffle::new(1000, 1)));
    let in_buckets = cells(Box::new(LengthBuckets::new(lengths(&samples), 20, 10, 1).unwrap()));
    assert!(in_buckets < tokens * 110 / 100 && shuffled > tokens * 170 / 100, "{tokens} {in_buckets} {shuffled}");
}

#[test]
fn a_state_of_one_set_of_buckets_does_not_fit_another() {
    let samples = sentences(100);
    let loader = |num_buckets| {
        let sampler = LengthBuckets::new(lengths(&samples), 10, num_buckets, 1).unwrap();
        Loader::builder(samples.clone())
            .collate_with((collate::pad(0), collate::stack()))
            .sampler(sampler)
            .batch_size(10)
    };
    let (three, four) = (loader(3).build().unwrap(), loader(4).build().unwrap());
    let mut epoch = three.epoch(1);
    epoch.by_ref().take(4).for_each(drop);
    let state = epoch.state();
    let rest: Vec<_> = epoch.map(|batch| batch.unwrap().into_inner()).collect();
    let resumed = three.epochs(1..2).resume(&state).unwrap().next().unwrap();
    assert_eq!(rest, resumed.map(|batch| batch.unwrap().into_inner()).collect::<Vec<_>>());
    assert_eq!(four.epochs(1..2).resume(&state).unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn a_sample_that_is_too_long_is_an_error_with_a_place_or_skipped() {
    let loader = |on_failure| {
        let loader = Loader::builder(sentences(100)).collate_with((collate::pad(0).max_len(39), collate::stack()));
        loader.batch_size(1).on_failure(on_failure).workers(2).build().unwrap()
    };
    let too_long: Vec<u64> = (0..100).filter(|&index| sentences(100)[index as usize].0.len() > 39).collect();
    assert!(!too_long.is_empty());
    let error: Error = loader(OnFailure::Stop).epoch(0).find_map(Result::err).unwrap();
    assert_eq!((error.kind(), error.index()), (ErrorKind::Limit, Some(too_long[0])));
    assert!(error.message().contains("has length 40, the limit is 39"), "{error}");
    let skipping = loader(OnFailure::Skip(Default::default()));
    assert_eq!(skipping.epoch(0).map(Result::unwrap).count(), 100 - too_long.len());
    let skipped = skipping.last_receipt().unwrap().skipped;
    assert!(skipped.iter().map(|skipped| skipped.index.unwrap()).eq(too_long));
}

#[test]
fn a_cache_with_a_budget_changes_no_batch() {
    let rows = || from_fn(300, |index| vec![index as f32; 10]);
    let batches = |workers, budget| {
        let loader = Loader::builder(rows().cached_within(budget)).batch_size(7).shuffle(2).workers(workers);
        let loader = loader.build().unwrap();
        loader.epochs(0..3).flatten().map(|batch| batch.unwrap().into_inner()).collect::<Vec<_>>()
    };
    let expected = batches(0, 0);
    for budget in [0, 40, 4_000, 100_000] {
        for workers in [0, 1, 4] {
            assert_eq!(batches(workers, budget), expected, "{budget} bytes, {workers} workers");
        }
    }
}
