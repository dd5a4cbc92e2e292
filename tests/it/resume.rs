//! A state resumes at any batch, on any number of workers and ranks, and one that does not fit is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use procession::{ErrorKind, Loader, State, Tail, World, from_fn};

use crate::support::{collect_indices, indices, is_permutation, numbers};

fn loader(len: u32, batch_size: usize, shuffled: bool, workers: usize) -> Loader<ndarray::Array1<u32>> {
    let builder = Loader::builder(numbers(len)).batch_size(batch_size).workers(workers);
    if shuffled { builder.shuffle(11) } else { builder }.build().unwrap()
}

#[test]
fn the_rest_is_the_same_on_any_number_of_workers() {
    for batch_size in [1, 7] {
        for shuffled in [false, true] {
            for (workers, others) in [(0, 0), (3, 3), (0, 3), (3, 0), (3, 7)] {
                for stop in [0, 1, 10] {
                    let first = loader(100, batch_size, shuffled, workers);
                    let whole = indices(&first, 0);
                    let mut epoch = first.epoch(0);
                    assert_eq!(collect_indices((&mut epoch).take(stop)), whole[..stop]);
                    let state = epoch.state();
                    let second = loader(100, batch_size, shuffled, others);
                    let rest = second.epochs(0..1).resume(&state).unwrap().next().unwrap();
                    assert_eq!(collect_indices(rest), whole[stop..]);
                }
            }
        }
    }
}

#[test]
fn five_resumes_in_one_epoch() {
    let whole = indices(&loader(100, 7, true, 2), 3);
    let mut state = loader(100, 7, true, 2).state(3);
    let mut seen = Vec::new();
    for workers in 0..5 {
        let loader = loader(100, 7, true, workers);
        let mut epoch = loader.epochs(0..).resume(&state).unwrap().next().unwrap();
        seen.extend(collect_indices((&mut epoch).take(3)));
        let before = state.clone();
        state = epoch.state();
        assert_ne!(before, state);
    }
    assert_eq!(seen, whole);
}

#[test]
fn a_state_does_not_change_by_going_on() {
    let loader = loader(100, 7, true, 2);
    let mut epoch = loader.epoch(0);
    drop(epoch.next());
    let state = epoch.state();
    let copy = state.clone();
    drop(epoch.next());
    assert_eq!(state, copy);
    assert_eq!((state.next_batch, epoch.state().next_batch), (1, 2));
    assert_eq!(state.to_string().parse::<State>().unwrap(), state);
}

#[cfg(feature = "serde")]
#[test]
fn a_state_survives_json() {
    let loader = Loader::builder(numbers(100)).batch_size(7).tail(Tail::Pad).shuffle(1).build().unwrap();
    let state = loader.state(5);
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.len() < 300, "{text}");
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
}

#[test]
fn after_the_last_batch_comes_the_next_epoch() {
    for workers in [0, 2] {
        let loader = loader(100, 7, true, workers);
        let mut epoch = loader.epoch(0);
        (&mut epoch).for_each(|batch| drop(batch.unwrap()));
        let mut resumed = loader.epochs(0..2).resume(&epoch.state()).unwrap();
        assert_eq!(resumed.next().unwrap().count(), 0);
        let next = resumed.next().unwrap();
        assert_eq!(next.number(), 1);
        assert_eq!(collect_indices(next), indices(&loader, 1));
        assert!(resumed.next().is_none());
    }
}

#[test]
fn two_epochs_and_two_more_are_four() {
    let whole: Vec<_> = loader(100, 7, true, 2).epochs(0..4).flat_map(collect_indices).collect();
    let first = loader(100, 7, true, 2);
    let mut epochs = first.epochs(0..2);
    let mut seen: Vec<_> = (&mut epochs).flat_map(collect_indices).collect();
    let state = epochs.state();
    seen.extend(loader(100, 7, true, 3).epochs(0..4).resume(&state).unwrap().flat_map(collect_indices));
    assert_eq!(seen, whole);
    assert_eq!(seen.concat().len(), 400);
}

#[test]
fn nothing_before_is_read() {
    let asked = Arc::new(AtomicUsize::new(0));
    let source = {
        let asked = Arc::clone(&asked);
        from_fn(1_000_000_000_000, move |index| {
            asked.fetch_add(1, Ordering::SeqCst);
            index as u64
        })
    };
    let loader = Loader::builder(source).batch_size(10).shuffle(1).workers(0).build().unwrap();
    let state = State { next_batch: 99_999_999_999, next_position: 999_999_999_990, ..loader.state(0) };
    let mut rest = loader.epochs(0..1).resume(&state).unwrap().next().unwrap();
    assert_eq!(rest.next().unwrap().unwrap().indices(), loader.plan().indices(0, 99_999_999_999));
    assert!(rest.next().is_none());
    assert_eq!(asked.load(Ordering::SeqCst), 10);
}

#[test]
fn a_state_of_another_loader_is_refused() {
    let saved = loader(100, 7, true, 2).state(0);
    let refuse = |other: &Loader<ndarray::Array1<u32>>, what: &[&str]| {
        let error = other.epochs(0..1).resume(&saved).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        for what in what {
            assert!(error.to_string().contains(what), "{error}");
        }
    };
    refuse(&loader(101, 7, true, 2), &["length 100 in the state but 101 in the loader"]);
    refuse(&loader(100, 8, true, 2), &["batch size 7 in the state but 8 in the loader"]);
    refuse(&loader(100, 7, false, 2), &["sampler shuffle(len=100, seed=11)", "in_order", "seed 11"]);
    let reseeded = Loader::builder(numbers(100)).batch_size(7).shuffle(12).build().unwrap();
    refuse(&reseeded, &["seed 11 in the state but 12 in the loader"]);
    let dropping = Loader::builder(numbers(100)).batch_size(7).shuffle(11).tail(Tail::Drop).build().unwrap();
    refuse(&dropping, &["tail keep in the state but drop in the loader"]);
    let later = loader(100, 7, true, 2).epochs(1..2).resume(&saved).unwrap_err();
    assert!(later.to_string().contains("epoch 0, expected one in 1..=1"), "{later}");
}

#[test]
fn a_state_that_nobody_saved_does_no_harm() {
    let loader =
        Loader::builder(numbers(20)).batch_size(5).world(World::new(1, 3).unwrap()).workers(0).build().unwrap();
    let saved = loader.state(0);
    let extremes = [0, 1, 4, 5, 19, 20, 21, 1 << 24, 1 << 63, u64::MAX - 1, u64::MAX];
    for next_position in extremes {
        for next_batch in extremes {
            for batch_size in extremes {
                for epoch in [0, 1, u64::MAX] {
                    let state = State { next_position, next_batch, batch_size, epoch, ..saved.clone() };
                    for rebatch in [false, true] {
                        let epochs = loader.epochs(0..=1);
                        let resumed = if rebatch { epochs.resume_rebatched(&state) } else { epochs.resume(&state) };
                        if let Ok(mut resumed) = resumed {
                            let first = resumed.next().unwrap();
                            assert!(first.map(|batch| batch.unwrap().num_samples()).sum::<usize>() <= 7);
                            assert_eq!(resumed.state().epoch, epoch + 1);
                        }
                    }
                }
            }
        }
    }
}

/// The global order that `ranks` ranks see together in `steps` steps, and the state after them.
fn steps(
    len: u32,
    ranks: u32,
    per_rank: usize,
    state: Option<&State>,
    steps: Option<usize>,
) -> (Vec<u64>, Vec<u64>, State) {
    let mut by_step: Vec<Vec<Vec<u64>>> = Vec::new();
    let mut after = None;
    for rank in 0..ranks {
        let loader = Loader::builder(numbers(len))
            .batch_size(per_rank * ranks as usize)
            .shuffle(3)
            .world(World::new(rank, ranks).unwrap())
            .workers((rank % 3) as usize)
            .build()
            .unwrap();
        let epochs = loader.epochs(0..1);
        let mut epochs = match state {
            Some(state) => epochs.resume_rebatched(state).unwrap(),
            None => epochs,
        };
        let mut epoch = epochs.next().unwrap();
        for (step, batch) in (&mut epoch).take(steps.unwrap_or(usize::MAX)).enumerate() {
            by_step.resize_with(by_step.len().max(step + 1), Vec::new);
            by_step[step].push(batch.unwrap().indices().to_vec());
        }
        after = Some(epoch.state());
    }
    // Position p of a step belongs to rank p % ranks: interleave.
    let mut order = Vec::new();
    for parts in &by_step {
        let start = order.len();
        let offset = state.map_or(0, |state| state.next_position as usize) + start;
        let total: usize = parts.iter().map(Vec::len).sum();
        let mut taken = vec![0; parts.len()];
        for at in 0..total {
            let rank = (offset + at) % ranks as usize;
            order.push(parts[rank][taken[rank]]);
            taken[rank] += 1;
        }
    }
    let multiset = by_step.into_iter().flatten().flatten().collect();
    (order, multiset, after.unwrap())
}

#[test]
fn the_number_of_ranks_changes_in_mid_epoch() {
    let (whole, ..) = steps(1024, 1, 64, None, None);
    let (front, first, state) = steps(1024, 32, 2, None, Some(7));
    let (rest, second, _) = steps(1024, 16, 2, Some(&state), None);
    assert_eq!((first.len(), second.len()), (448, 576));
    assert!(is_permutation(&[first, second].concat(), 1024));
    assert_eq!([front, rest].concat(), whole);
}

#[test]
fn the_number_of_ranks_changes_to_one_that_does_not_divide() {
    for (from, to) in [((8, 16), (64, 2)), ((4, 16), (6, 16)), ((4, 16), (3, 5))] {
        let len = 4096 + 13;
        let (whole, ..) = steps(len, 1, 64, None, None);
        let (front, _, state) = steps(len, from.0, from.1, None, Some(5));
        let (rest, ..) = steps(len, to.0, to.1, Some(&state), None);
        assert_eq!([front, rest].concat(), whole);
    }
}
