//! Transforms that write into the batch, and what changes whole batches.

use std::time::Duration;

use ndarray::Array2;
use procession::{
    ErrorKind, FailureBudget, Loader, OnFailure, Result, Sequence, Stack, State, Tail, Transform, VisitRng, World,
    from_fn,
};

use crate::support::lists;

/// A number as a row of `width` numbers with noise; odd ones may fail, or come in another layout than they say.
#[derive(Clone, Copy)]
struct Spread {
    in_place: bool,
    fails: bool,
    lies: bool,
}

const WIDTH: usize = 3;

impl Transform<u64> for Spread {
    type Output = Vec<f64>;

    fn apply(&self, number: u64, rng: &mut VisitRng) -> Result<Vec<f64>> {
        if self.fails && number % 2 == 1 {
            return Err(procession::Error::sample("odd"));
        }
        let width = if self.lies && number % 2 == 1 { WIDTH + 1 } else { WIDTH };
        Ok((0..width).map(|_| number as f64 + rng.uniform()).collect())
    }
    fn layout(&self) -> Option<usize> {
        (self.in_place || self.lies).then_some(WIDTH)
    }
    fn apply_into(&self, number: u64, rng: &mut VisitRng, row: &mut [f64]) -> Result<()> {
        if self.lies || self.fails {
            let numbers = self.apply(number, rng)?;
            if numbers.len() != row.len() {
                return Err(procession::Error::new(ErrorKind::Shape, "another layout"));
            }
            row.copy_from_slice(&numbers);
            return Ok(());
        }
        row.iter_mut().for_each(|cell| *cell = number as f64 + rng.uniform());
        Ok(())
    }
}

const SOUND: Spread = Spread { in_place: true, fails: false, lies: false };

fn batches<B: Clone + Send + 'static>(loader: &Loader<B>, epoch: u64) -> Vec<B> {
    loader.epoch(epoch).map(|batch| batch.unwrap().clone()).collect()
}

#[test]
fn a_transform_gives_the_same_in_place_and_by_value_for_any_number_of_workers() {
    let load = |spread: Spread, workers: usize| {
        let numbers = from_fn(50, |index| index as u64);
        // One that draws before it, and one behind: each has a stream of its own.
        let loader = Loader::builder(numbers)
            .augment(|number, rng| number + 100 * rng.below(3))
            .transform(spread)
            .batch_size(8)
            .shuffle(5)
            .workers(workers)
            .build()
            .unwrap();
        (batches(&loader, 0), batches(&loader, 1))
    };
    let expected = load(SOUND, 0);
    assert_ne!(expected.0, expected.1);
    let row = expected.0[0].row(0);
    assert!(row[0] != row[1] && row.iter().all(|cell| cell.floor() == row[0].floor()));
    for workers in [0, 1, 3] {
        assert_eq!(load(SOUND, workers), expected);
        assert_eq!(load(Spread { in_place: false, ..SOUND }, workers), expected);
    }
}

#[test]
fn a_transform_that_fails_has_a_place_and_can_be_skipped() {
    for in_place in [false, true] {
        for workers in [0, 2] {
            for spread in [Spread { fails: true, in_place, lies: false }, Spread { lies: true, in_place, fails: false }]
            {
                let builder = || Loader::builder(from_fn(10, |index| index as u64)).batch_size(4).workers(workers);
                let error = builder().transform(spread).build().unwrap().epoch(0).next().unwrap().unwrap_err();
                assert_eq!((error.index(), error.position()), (Some(1), Some(1)));
                let skip = OnFailure::Skip(FailureBudget::default());
                let loader = builder().transform(spread).on_failure(skip).build().unwrap();
                let mut epoch = loader.epoch(0);
                let indices: Vec<u64> = (&mut epoch).flat_map(|batch| batch.unwrap().indices().to_vec()).collect();
                assert_eq!(indices, [0, 2, 4, 6, 8]);
                assert_eq!(epoch.receipt().skipped.len(), 5);
            }
        }
    }
}

/// Adds one number of the batch's stream to all of it, and one more to its first row.
fn shift(batch: &mut Array2<f64>, rng: &mut VisitRng) {
    *batch += rng.uniform();
    if batch.nrows() > 0 {
        batch.row_mut(0).mapv_inplace(|cell| cell + 1000.0 * rng.uniform());
    }
}

#[test]
fn batches_are_changed_the_same_for_any_number_of_workers_and_after_a_resume() {
    let loader = |workers| {
        Loader::builder(from_fn(50, |index| index as u64))
            .transform(SOUND)
            .augment_batch(shift)
            .batch_size(8)
            .shuffle(5)
            .workers(workers)
            .build()
            .unwrap()
    };
    let expected = batches(&loader(0), 3);
    for workers in [1, 2, 5] {
        assert_eq!(batches(&loader(workers), 3), expected);
    }
    let whole = loader(2);
    let mut epoch = whole.epoch(3);
    epoch.by_ref().take(4).for_each(|batch| drop(batch.unwrap()));
    let state: State = epoch.state().to_string().parse().unwrap();
    drop(epoch);
    let rest = loader(3).epochs(0..4).resume(&state).unwrap().next().unwrap();
    assert_eq!(rest.map(|batch| batch.unwrap().clone()).collect::<Vec<_>>(), expected[4..]);
}

/// Rows are written in their places, or put there once they are there, whatever becomes of the batch.
#[test]
fn a_batch_that_is_changed_is_loaded_like_any_other() {
    fn check<S: Sequence + Clone + 'static>(source: S)
    where
        S::Sample: Stack + Send + 'static,
        <S::Sample as Stack>::Batch: PartialEq + std::fmt::Debug + Clone + Send + 'static,
    {
        for timeout in [None, Some(Duration::from_secs(100))] {
            for workers in [0, 2] {
                let builder = || {
                    let builder = Loader::builder(source.clone()).batch_size(8).shuffle(5).workers(workers);
                    match timeout {
                        Some(timeout) => builder.timeout(timeout),
                        None => builder,
                    }
                };
                let plain = lists(&builder().build().unwrap(), 3);
                assert_eq!(lists(&builder().augment_batch(|_, _| ()).build().unwrap(), 3), plain);
            }
        }
    }
    // One at a time, and many in one call.
    check((0..50).map(|index| vec![index as f32, 1.0]).collect::<Vec<_>>());
    check((0..50).map(|index| index.to_string()).collect::<Vec<_>>());
    check((0..50).map(|index| [index as f32, 1.0]).collect::<Vec<_>>());
    check(Array2::from_shape_fn((50, 3), |(row, column)| (row * 3 + column) as f32));
}

#[test]
fn batches_have_streams_of_their_own_and_ranks_change_their_parts() {
    let loader = |augmented: bool, rank: u32, size: u32| {
        let builder = Loader::builder(from_fn(16, |index| index as u64))
            .transform(SOUND)
            .batch_size(8)
            .tail(Tail::Drop)
            .world(World::new(rank, size).unwrap());
        let batches = |loader: Loader<_>| batches(&loader, 0);
        if augmented {
            // Twice: the second has a stream that is not the first one's.
            let twice = builder.augment_batch(|batch: &mut Array2<f64>, rng| *batch += 10.0 * rng.uniform());
            batches(twice.augment_batch(|batch, rng| *batch -= 10.0 * rng.uniform()).build().unwrap())
        } else {
            batches(builder.build().unwrap())
        }
    };
    let (plain, changed) = (loader(false, 0, 1), loader(true, 0, 1));
    let shifts: Vec<f64> = plain.iter().zip(&changed).map(|(plain, changed)| changed[(0, 0)] - plain[(0, 0)]).collect();
    // Were the streams the same the two would cancel out; were they the samples', they would be known.
    assert!(shifts.iter().all(|shift| shift.abs() > 1e-6) && shifts[0] != shifts[1], "{shifts:?}");
    let once = Loader::builder(from_fn(16, |index| index as u64)).transform(SOUND).batch_size(8);
    let once = batches(&once.augment_batch(|batch, rng| *batch += rng.uniform()).build().unwrap(), 0);
    // The first sample is 0 and the first number of its own stream, which is not the batch's.
    assert!((once[0][(0, 0)] - 2.0 * plain[0][(0, 0)]).abs() > 1e-9);
    for (plain, (changed, shift)) in plain.iter().zip(changed.iter().zip(&shifts)) {
        assert!((changed - plain).iter().all(|difference| (difference - shift).abs() < 1e-9));
    }
    // What is not changed does not depend on the world, and each rank changes its rows by a number of its own.
    for rank in 0..2 {
        let (plain, changed) = (loader(false, rank, 2), loader(true, rank, 2));
        let shift = changed[0][(0, 0)] - plain[0][(0, 0)];
        assert!((&changed[0] - &plain[0]).iter().all(|difference| (difference - shift).abs() < 1e-9));
        assert_eq!((shift - shifts[0]).abs() < 1e-9, rank == 0, "the stream is that of the first row");
    }
}
