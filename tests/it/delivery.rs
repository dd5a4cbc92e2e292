//! Once, in order, the same for any machine, and without a gap between epochs.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ndarray::{Array2, array};
use procession::{Batch, InOrder, Loader, Result, Sequence, Shuffle, Subset, Tail, VisitRng, Window, World, from_fn};

use crate::support::{collect_indices, indices, is_permutation, lists, numbers, under_watch};

#[test]
fn in_order_shuffled_and_endless() {
    for workers in [0, 2] {
        let builder = || Loader::builder(numbers(64)).batch_size(16).workers(workers);
        let in_order = builder().build().unwrap();
        assert_eq!(indices(&in_order, 0).concat(), (0..64).collect::<Vec<_>>());
        let shuffled = builder().shuffle(1).build().unwrap();
        let order = indices(&shuffled, 0).concat();
        assert!(is_permutation(&order, 64));
        assert_ne!(order, (0..64).collect::<Vec<_>>());
        for loader in [in_order, shuffled] {
            let endless = loader.epochs(0..).flatten();
            let first_two: Vec<u64> = collect_indices(endless.take(8)).concat();
            assert!(is_permutation(&first_two[..64], 64) && is_permutation(&first_two[64..], 64));
            assert_eq!(first_two[64..], indices(&loader, 1).concat());
        }
    }
}

#[test]
fn endless_epochs_end_where_numbers_do() {
    for workers in [0, 2] {
        let loader = Loader::builder(numbers(5)).batch_size(2).shuffle(1).workers(workers).build().unwrap();
        let epochs: Vec<_> =
            loader.epochs(u64::MAX - 1..).map(|epoch| (epoch.number(), collect_indices(epoch))).collect();
        let expected = [u64::MAX - 1, u64::MAX].map(|epoch| (epoch, indices(&loader, epoch)));
        assert_eq!(epochs, expected);
    }
}

#[test]
fn batches_do_not_depend_on_workers() {
    for workers in [0, 1, 2, 3, 7] {
        let even: Vec<u64> = (0..16).filter(|index| (index + 1) % 2 == 0).collect();
        let loader = Loader::builder(numbers(16))
            .sampler(Subset::new(even))
            .map(|number| number + 1)
            .batch_size(2)
            .workers(workers)
            .build()
            .unwrap();
        let batches: Vec<_> = lists(&loader, 0).iter().map(|batch| batch.to_vec()).collect();
        // The first four of them are the case as it is told elsewhere.
        assert_eq!(batches, [[2, 4], [6, 8], [10, 12], [14, 16]]);
    }
    for workers in [0, 4] {
        let loader = Loader::builder(numbers(27)).batch_size(5).shuffle(3).workers(workers).build().unwrap();
        assert_eq!(loader.num_batches(), 6);
        let expected: Vec<_> = (0..6).map(|number| loader.plan().indices(0, number)).collect();
        assert_eq!(indices(&loader, 0), expected);
    }
}

/// A sample that spins for a time that follows from its index.
fn busy(index: usize, most: usize) {
    (0..index.wrapping_mul(0x9e37_79b9) % most).for_each(|_| std::hint::spin_loop());
}

#[test]
fn samples_of_uneven_cost_come_in_order() {
    let source = from_fn(80, |index| {
        busy(index, 20_000);
        index as u64
    });
    let loader = Loader::builder(source).batch_size(6).workers(4).build().unwrap();
    for epoch in loader.epochs(0..2) {
        assert_eq!(collect_indices(epoch).concat(), (0..80).collect::<Vec<_>>());
    }
}

#[test]
fn a_traversal_over_ranks() {
    for ranks in 1..=4 {
        let rank = |rank, shuffle: bool| {
            let builder = Loader::builder(numbers(600)).batch_size(20).workers(2);
            let builder = if shuffle { builder.shuffle(5) } else { builder };
            builder.world(World::new(rank, ranks).unwrap()).build().unwrap()
        };
        for shuffle in [false, true] {
            let loaders: Vec<_> = (0..ranks).map(|r| rank(r, shuffle)).collect();
            let epochs: Vec<Vec<u64>> = (0..3)
                .map(|epoch| loaders.iter().flat_map(|loader| indices(loader, epoch).concat()).collect())
                .collect();
            assert!(epochs.iter().all(|epoch| is_permutation(epoch, 600)));
            assert_eq!(epochs[0] == epochs[1], !shuffle);
            assert_eq!(epochs[1] == epochs[2], !shuffle);
        }
    }
}

fn random_crop(image: Array2<u8>, rng: &mut VisitRng) -> Array2<u8> {
    let (top, left) = (rng.below(5) as usize, rng.below(5) as usize);
    image.slice(ndarray::s![top..top + 4, left..left + 4]).to_owned()
}

#[test]
fn a_random_crop_belongs_to_its_visit() {
    let loader = |workers| {
        let images = from_fn(200, |index| Array2::from_shape_fn((8, 8), |(y, x)| (index + 8 * y + x) as u8));
        Loader::builder(images).augment(random_crop).batch_size(1).shuffle(2).workers(workers).build().unwrap()
    };
    let expected = lists(&loader(0), 0);
    for workers in [1, 4, 16] {
        let loader = loader(workers);
        assert_eq!(lists(&loader, 0), expected);
        assert_ne!(lists(&loader, 1), expected);
        let mut epoch = loader.epoch(0);
        (&mut epoch).take(77).for_each(|batch| drop(batch.unwrap()));
        let rest = loader.epochs(0..1).resume(&epoch.state()).unwrap().next().unwrap();
        let rest: Vec<_> = rest.map(|batch| batch.unwrap().into_inner()).collect();
        assert_eq!(rest, expected[77..]);
    }
}

#[test]
fn two_augmentations_have_streams_of_their_own() {
    let loader = Loader::builder(vec![(); 4])
        .augment(|(), rng| rng.next_u64())
        .augment(|first, rng| (first, rng.next_u64()))
        .batch_size(4)
        .build()
        .unwrap();
    let batch = loader.epoch(0).next().unwrap().unwrap();
    let mut all: Vec<u64> = batch.0.iter().chain(&batch.1).copied().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8);
}

/// What a process that a launcher started is expected to find out: `rank/size`.
const EXPECTED_WORLD: &str = "PROCESSION_TEST_WORLD";

#[test]
fn child_of_a_launcher() {
    let Ok(expected) = std::env::var(EXPECTED_WORLD) else { return };
    let world = World::from_env().unwrap();
    assert_eq!(format!("{}/{}", world.rank(), world.size()), expected);
}

#[test]
fn a_process_knows_its_rank_from_its_launcher() {
    let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2")];
    let slurm = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4")];
    for (variables, expected) in [(&[][..], "0/1"), (&torchrun, "1/2"), (&slurm, "3/4")] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "delivery::child_of_a_launcher"]).env(EXPECTED_WORLD, expected);
        // Whatever started the tests.
        for name in ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"] {
            child.env_remove(name);
        }
        for name in ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"] {
            child.env_remove(name);
        }
        let output = child.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn ranks_by_the_plans_formula() {
    let rank_0 = |workers| {
        let loader = Loader::builder(numbers(10))
            .map(|number| number + 1)
            .batch_size(2)
            .world(World::new(0, 2).unwrap())
            .workers(workers)
            .build()
            .unwrap();
        lists(&loader, 0).iter().map(|batch| batch.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(rank_0(0), [[1], [3], [5], [7], [9]]);
    assert_eq!(rank_0(3), rank_0(0));
    let rank_2 = |workers| {
        let world = World::new(2, 4).unwrap();
        let loader = Loader::builder(numbers(21)).batch_size(8).world(world).workers(workers).build().unwrap();
        indices(&loader, 0)
    };
    assert_eq!(rank_2(0), [vec![2, 6], vec![10, 14], vec![18]]);
    assert_eq!(rank_2(7), rank_2(0));
}

#[test]
fn nodes_of_eight_ranks_visit_everything_once() {
    for len in [512, 1024, 1000, 1013] {
        for ranks in [8, 32] {
            for (workers, per_rank) in [(1, 1), (1, 2), (4, 2)] {
                let mut all = Vec::new();
                for rank in 0..ranks {
                    let loader = Loader::builder(numbers(len))
                        .batch_size(per_rank * ranks as usize)
                        .shuffle(9)
                        .world(World::new(rank, ranks).unwrap())
                        .workers(workers)
                        .build()
                        .unwrap();
                    all.extend(indices(&loader, 0).concat());
                }
                assert!(is_permutation(&all, len.into()), "{len} samples, {ranks} ranks");
            }
        }
    }
}

#[test]
fn a_rank_without_a_part_gets_an_empty_batch() {
    // Nine samples in batches of eight over four ranks: the last batch has one sample, for rank 0.
    for rank in 0..4 {
        let images = from_fn(9, |index| Array2::<f32>::from_elem((2, 3), index as f32));
        let world = World::new(rank, 4).unwrap();
        let loader = Loader::builder(images).batch_size(8).world(world).workers(2).build().unwrap();
        let shapes: Vec<_> = lists(&loader, 0).iter().map(|batch| batch.dim()).collect();
        assert_eq!(shapes.len(), 2, "every rank has as many steps");
        assert_eq!(shapes[0], (2, 2, 3));
        assert_eq!(shapes[1].0, usize::from(rank == 0));
    }
}

#[test]
fn ready_batches_one_for_each_rank() {
    let batches = || from_fn(4, |index| array![index, index]);
    let whole = Loader::builder(batches()).ready_batches().workers(2).build().unwrap();
    assert_eq!(lists(&whole, 0), [array![0, 0], array![1, 1], array![2, 2], array![3, 3]]);
    let world = World::new(1, 2).unwrap();
    let part = Loader::builder(batches()).ready_batches().world(world).build().unwrap();
    assert_eq!(lists(&part, 0), [array![1, 1], array![3, 3]]);
    let uneven = Loader::builder(from_fn(3, |index| index)).ready_batches().world(world);
    assert!(uneven.build().unwrap_err().to_string().contains("3 ready batches"));
    let padded = Loader::builder(from_fn(3, |index| index)).ready_batches().tail(Tail::Pad).world(world);
    assert_eq!(lists(&padded.build().unwrap(), 0), [1, 0]);
}

#[test]
fn empty_epochs_end() {
    for workers in [0, 2] {
        for tail in [Tail::Keep, Tail::Drop, Tail::Pad] {
            let loader = Loader::builder(numbers(0)).tail(tail).workers(workers).build().unwrap();
            assert_eq!(loader.epochs(0..5).map(|epoch| epoch.count()).sum::<usize>(), 0);
        }
        let loader = Loader::builder(numbers(3)).tail(Tail::Drop).batch_size(4).workers(workers).build().unwrap();
        assert_eq!(loader.epochs(0..).take(3).map(|epoch| epoch.count()).sum::<usize>(), 0);
    }
}

#[test]
fn the_longest_plans_are_instant() {
    for len in [1_000_000_000_000, (usize::MAX >> 1) + 1] {
        let source = from_fn(len, |index| index as u64);
        let loader = Loader::builder(source).shuffle(1).batch_size(32).workers(1).build().unwrap();
        let batch = loader.epoch(0).next().unwrap().unwrap();
        assert_eq!(batch.indices(), loader.plan().indices(0, 0));
        assert_eq!(batch.to_vec(), batch.indices());
    }
}

/// Something that can be waited for without sleeping.
#[derive(Default)]
struct Event {
    happened: Mutex<bool>,
    signal: Condvar,
}

impl Event {
    fn set(&self) {
        *self.happened.lock().unwrap() = true;
        self.signal.notify_all();
    }

    fn wait(&self) {
        let guard = self.happened.lock().unwrap();
        drop(self.signal.wait_while(guard, |happened| !*happened).unwrap());
    }
}

#[test]
fn the_next_epoch_loads_while_the_last_batch_is_consumed() {
    under_watch("no gap", || {
        let second_round = Arc::new(Event::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let source = {
            let (second_round, asked) = (Arc::clone(&second_round), Arc::clone(&asked));
            from_fn(8, move |index| {
                // The ninth request can only be one of the next epoch.
                if asked.fetch_add(1, Ordering::SeqCst) >= 8 {
                    second_round.set();
                }
                // Worth a wake-up: for samples that cost nothing a worker that sleeps is left to, until somebody waits.
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(100) {
                    std::hint::spin_loop();
                }
                index as u64
            })
        };
        let loader = Loader::builder(source).batch_size(2).workers(1).window(Window::Batches(4)).build().unwrap();
        let mut epochs = loader.epochs(0..2);
        let mut first = epochs.next().unwrap();
        (&mut first).take(4).for_each(|batch| drop(batch.unwrap()));
        second_round.wait();
        assert!(first.next().is_none());
        assert_eq!(collect_indices(epochs.next().unwrap()).concat(), (0..8).collect::<Vec<_>>());
        assert_eq!(asked.load(Ordering::SeqCst), 16, "what was loaded ahead is used");
    });
}

#[test]
fn an_epoch_left_early_leaves_nothing_behind() {
    for workers in [0, 1, 4] {
        let loader = Loader::builder(numbers(100)).batch_size(10).shuffle(1).workers(workers).build().unwrap();
        for (count, epoch) in loader.epochs(0..5).enumerate() {
            let number = epoch.number();
            let taken = collect_indices(epoch.take(count * 3));
            let expected: Vec<_> = (0..10).take(count * 3).map(|batch| loader.plan().indices(number, batch)).collect();
            assert_eq!(taken, expected);
        }
    }
}

#[test]
fn an_epoch_may_be_held_while_the_next_ones_are_taken() {
    for workers in [0, 2] {
        let loader = Loader::builder(numbers(30)).batch_size(4).shuffle(1).workers(workers).build().unwrap();
        let mut held: Vec<_> = loader.epochs(0..4).collect();
        held.reverse();
        for epoch in held {
            let number = epoch.number();
            let expected: Vec<_> = (0..8).map(|batch| loader.plan().indices(number, batch)).collect();
            assert_eq!(collect_indices(epoch), expected);
        }
    }
}

#[test]
fn two_iterations_of_one_loader_share_its_workers() {
    let loader = Loader::builder(numbers(50)).batch_size(4).shuffle(1).workers(2).build().unwrap();
    let both = loader.epoch(0).zip(loader.epoch(1));
    for (number, (left, right)) in both.enumerate() {
        assert_eq!(left.unwrap().indices(), loader.plan().indices(0, number as u64));
        assert_eq!(right.unwrap().indices(), loader.plan().indices(1, number as u64));
    }
}

/// A sequence whose samples show a value that the hook changes.
struct Changing {
    value: AtomicU64,
    in_hook: AtomicBool,
    overlaps: AtomicUsize,
}

impl Sequence for Changing {
    type Sample = u64;

    fn len(&self) -> usize {
        5
    }

    fn get(&self, index: usize) -> Result<u64> {
        if self.in_hook.load(Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        busy(index, 50);
        Ok(self.value.load(Ordering::SeqCst))
    }

    fn barrier(&self) -> bool {
        true
    }

    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.in_hook.store(true, Ordering::SeqCst);
        // A little time for a `get` of the epoch before to show itself, if one could.
        std::thread::yield_now();
        busy(epoch as usize, 2000);
        self.value.store(epoch, Ordering::SeqCst);
        self.in_hook.store(false, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_barrier_keeps_the_hook_and_the_samples_apart() {
    for workers in [1, 4, 16] {
        let changing = Changing { value: AtomicU64::new(0), in_hook: AtomicBool::new(false), overlaps: 0.into() };
        let source = Arc::new(changing);
        let loader = Loader::builder(Arc::clone(&source)).batch_size(2).workers(workers).build().unwrap();
        for (count, epoch) in loader.epochs(0..1000).enumerate() {
            let number = epoch.number();
            // Every third epoch is left after its first batch, with samples on their way.
            let take = if count % 3 == 2 { 1 } else { 3 };
            for batch in epoch.take(take) {
                assert!(batch.unwrap().iter().all(|&value| value == number));
            }
        }
        assert_eq!(source.overlaps.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn held_batches_are_never_overwritten() {
    let loader = Loader::builder(numbers(1000)).batch_size(3).shuffle(1).workers(3).build().unwrap();
    let mut held = Vec::new();
    for (count, batch) in loader.epochs(0..3).flatten().enumerate() {
        let batch = batch.unwrap();
        // Every other one goes back to the pool and is used again.
        if count % 2 == 0 {
            held.push(batch);
        }
    }
    for batch in held {
        let seen: Vec<u64> = batch.iter().map(|&number| number.into()).collect();
        assert_eq!(seen, batch.indices());
    }
}

#[test]
fn memory_of_dropped_batches_is_used_again() {
    for window in [Window::Auto, Window::Bytes(10_000)] {
        let loader = Loader::builder(vec![[1.0_f32; 64]; 256]).batch_size(16).workers(0).window(window);
        let loader = loader.build().unwrap();
        // The allocator gives what was dropped to the next who asks for as much: that is not to be the next batch.
        let mut others = Vec::new();
        let address = |batch: Result<Batch<Array2<f32>>>| {
            let batch = batch.unwrap();
            let (address, size) = (batch.as_ptr() as usize, batch.len());
            drop(batch);
            others.push(Vec::<f32>::with_capacity(size));
            address
        };
        let mut addresses: Vec<usize> = loader.epoch(0).map(address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 1, "without workers one batch is alive at a time, {window:?}");
    }
}

#[test]
fn a_window_bounds_what_is_loaded_ahead() {
    under_watch("window", || {
        for window in [1, 2, 5] {
            let loaded = Arc::new(AtomicUsize::new(0));
            let source = {
                let loaded = Arc::clone(&loaded);
                from_fn(300, move |index| {
                    loaded.fetch_add(1, Ordering::SeqCst);
                    index as u64
                })
            };
            let loader =
                Loader::builder(source).batch_size(3).workers(4).window(Window::Batches(window)).build().unwrap();
            for (taken, batch) in loader.epoch(0).enumerate() {
                drop(batch.unwrap());
                let loaded = loaded.load(Ordering::SeqCst);
                assert!(loaded <= (taken + 1 + window) * 3, "{loaded} loaded after {taken} taken, window {window}");
            }
        }
    });
}

/// Byte strings of which one is larger than the others.
fn uneven(large: usize) -> impl Sequence<Sample = Vec<u8>> + 'static {
    struct Uneven(usize);
    impl Sequence for Uneven {
        type Sample = Vec<u8>;
        fn len(&self) -> usize {
            20
        }
        fn get(&self, index: usize) -> Result<Vec<u8>> {
            Ok(vec![index as u8; self.size_of(index)])
        }
        fn size_bytes(&self, index: usize) -> Option<usize> {
            Some(self.size_of(index))
        }
    }
    impl Uneven {
        fn size_of(&self, index: usize) -> usize {
            if index == self.0 { 1000 } else { 10 }
        }
    }
    Uneven(large)
}

#[test]
fn a_byte_budget_holds_and_never_locks() {
    under_watch("bytes", || {
        for workers in [0, 1, 4] {
            for large in 0..20 {
                for (budget, batch_size) in [(50, 1), (500, 1), (50, 3), (2000, 4)] {
                    let loader = Loader::builder(uneven(large))
                        .collate(Ok)
                        .measure(Vec::len)
                        .batch_size(batch_size)
                        .window(Window::Bytes(budget))
                        .workers(workers)
                        .build()
                        .unwrap();
                    let sizes: Vec<usize> = lists(&loader, 0).concat().iter().map(Vec::len).collect();
                    assert_eq!(sizes.len(), 20);
                    assert_eq!(sizes.iter().position(|&size| size == 1000), Some(large));
                    let peak = loader.report().peak_bytes.unwrap();
                    // The budget, or the batch that is due: the large sample and the small ones of its batch.
                    let due = 1000 + 10 * (batch_size as u64 - 1);
                    assert!(peak <= budget.max(due), "{peak} bytes, budget {budget}, batch size {batch_size}");
                }
            }
        }
    });
}

#[test]
fn a_byte_budget_without_known_sizes_is_exceeded_by_a_sample_a_worker_at_most() {
    under_watch("bytes learned", || {
        for large in 0..20 {
            let source = from_fn(20, move |index| vec![0_u8; if index == large { 1000 } else { 10 }]);
            let loader = Loader::builder(source)
                .collate(Ok)
                .measure(Vec::len)
                .batch_size(1)
                .window(Window::Bytes(50))
                .workers(3)
                .build()
                .unwrap();
            assert_eq!(lists(&loader, 0).len(), 20);
            assert!(loader.report().peak_bytes.unwrap() <= 50 + 1000 + 2 * 10);
        }
    });
}

#[test]
fn a_window_in_bytes_is_filled_to_its_edge_while_nobody_takes() {
    // Of a size that is known before the first sample, and of one that the first sample tells.
    fn check<T: procession::Stack + Send + 'static>(most: u64, most_loaded: usize, sample: fn(usize) -> T)
    where
        T::Batch: Send + 'static,
    {
        for (workers, augmented) in [(1, false), (3, false), (3, true)] {
            let loaded = Arc::new(AtomicUsize::new(0));
            let source = from_fn(40, {
                let loaded = Arc::clone(&loaded);
                move |index| {
                    loaded.fetch_add(1, Ordering::SeqCst);
                    sample(index)
                }
            });
            let builder = Loader::builder(source).batch_size(4).window(Window::Bytes(3 * 64)).workers(workers);
            let loader = if augmented { builder.augment_batch(|_, _| ()).build() } else { builder.build() }.unwrap();
            let epoch = loader.epoch(0);
            under_watch("a window in bytes", || {
                while loaded.load(Ordering::SeqCst) < 12 {
                    thread::yield_now();
                }
                // Where no more may be loaded none is, however often somebody could.
                (0..1000).for_each(|_| thread::yield_now());
                assert!(loaded.load(Ordering::SeqCst) <= most_loaded);
                assert_eq!(epoch.filter(|batch| batch.is_ok()).count(), 10);
            });
            let peak = loader.report().peak_bytes.unwrap();
            assert!(3 * 64 <= peak && peak <= most, "{peak} bytes, {workers} workers");
        }
    }
    check(3 * 64, 12, |index| [index as f32; 4]);
    // Whichever row is there first takes the batch's memory, while the room reserved for it is the first row's: for a moment
    // a batch may count for two, or for none.
    check(5 * 64, 20, |index| vec![index as f32; 4]);
}

#[test]
fn an_epoch_that_is_left_the_last_one_loads_nothing_of_the_next() {
    for workers in [0, 1, 3] {
        let loaded = Arc::new(AtomicUsize::new(0));
        // Of a cost for which workers are woken.
        let source = from_fn(40, {
            let loaded = Arc::clone(&loaded);
            move |index| {
                loaded.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_micros(300));
                index
            }
        });
        let loader = Loader::builder(source).batch_size(4).window(Window::Batches(2)).workers(workers).build().unwrap();
        let mut epochs = loader.epochs(0..100);
        let mut epoch = epochs.next().unwrap();
        // Nobody has come as far as the next epoch yet.
        drop(epochs);
        under_watch("the last epoch", || {
            while epoch.next().is_some() {
                // Lets workers that have something to load begin with it.
                (0..100).for_each(|_| thread::yield_now());
            }
        });
        drop((epoch, loader));
        assert_eq!(loaded.load(Ordering::SeqCst), 40, "{workers} workers");
    }
}

#[test]
fn an_epoch_and_its_receipt_count_batches_and_padding() {
    let loader = Loader::builder(numbers(22)).batch_size(5).tail(Tail::Pad).workers(1).build().unwrap();
    let mut epoch = loader.epoch(0);
    for left in (0..5).rev() {
        epoch.next().unwrap().unwrap();
        assert_eq!((epoch.num_batches_left(), epoch.size_hint()), (left, (0, Some(left as usize))));
    }
    assert!(epoch.next().is_none());
    let receipt = epoch.receipt();
    assert_eq!((receipt.num_batches, receipt.delivered, receipt.padded, receipt.expected), (5, 25, 3, 25));
}

/// What is loaded ahead is not loaded again, whether or not an epoch is asked for a batch after its last one.
#[test]
fn epochs_that_follow_each_other_load_each_sample_once() {
    for (workers, one_too_many) in [(0, false), (1, false), (3, false), (3, true)] {
        let loaded = Arc::new(AtomicUsize::new(0));
        let source = from_fn(40, {
            let loaded = Arc::clone(&loaded);
            move |index| {
                loaded.fetch_add(1, Ordering::SeqCst);
                index
            }
        });
        let loader = Loader::builder(source).batch_size(4).workers(workers).build().unwrap();
        under_watch("epochs one after the other", || {
            for mut epoch in loader.epochs(0..5) {
                assert_eq!(epoch.by_ref().take(10 + usize::from(one_too_many)).count(), 10);
            }
        });
        drop(loader);
        assert_eq!(loaded.load(Ordering::SeqCst), 200, "{workers} workers");
    }
}

#[test]
fn an_epoch_that_is_left_early_is_accounted_for_and_keeps_nothing() {
    /// Counts those of its kind that are alive.
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let source = from_fn(40, {
        let alive = Arc::clone(&alive);
        move |_| {
            alive.fetch_add(1, Ordering::SeqCst);
            Alive(Arc::clone(&alive))
        }
    });
    let loader = Loader::builder(source).collate(Ok).batch_size(4).workers(2).build().unwrap();
    let mut epochs = loader.epochs(0..2);
    let mut epoch = epochs.next().unwrap();
    drop(epoch.next().unwrap().unwrap());
    drop(epoch);
    let receipt = loader.last_receipt().unwrap();
    assert_eq!((receipt.delivered, receipt.expected, receipt.is_complete()), (4, 40, false));
    under_watch("batches that nobody will take", || {
        while alive.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    });
    assert_eq!(epochs.next().unwrap().count(), 10);
}

/// A window that is left to the loader grows while the consumer waits: what is slow holds up nobody else.
#[test]
fn a_window_widens_behind_a_sample_that_is_slow() {
    let (loaded, is_open) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
    let source = from_fn(400, {
        let (loaded, is_open) = (Arc::clone(&loaded), Arc::clone(&is_open));
        move |index| {
            if index == 0 {
                let (lock, opened) = &*is_open;
                drop(opened.wait_while(lock.lock().unwrap(), |is_open| !*is_open).unwrap());
            }
            loaded.fetch_add(1, Ordering::SeqCst);
            index
        }
    });
    let loader = Loader::builder(source).batch_size(4).workers(2).build().unwrap();
    let consumer = thread::spawn(move || lists(&loader, 0).len());
    under_watch("a window that widens", || {
        // Two dozen batches are more than the window is at first.
        while loaded.load(Ordering::SeqCst) < 4 * 24 - 1 {
            thread::yield_now();
        }
        *is_open.0.lock().unwrap() = true;
        is_open.1.notify_all();
        assert_eq!(consumer.join().unwrap(), 100);
    });
}

#[test]
fn a_batch_knows_its_epoch() {
    let loader = Loader::builder(numbers(20)).batch_size(5).shuffle(1).workers(1).build().unwrap();
    for epoch in [0, 1, 7] {
        assert!(loader.epoch(epoch).all(|batch| batch.unwrap().epoch() == epoch));
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let builder = || Loader::builder(numbers(10));
    let refused = |result: Result<Loader<ndarray::Array1<u32>>>, what: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
    };
    refused(builder().batch_size(0).build(), "batch size 0");
    refused(builder().batch_size((1 << 24) + 1).build(), "batch size 16777217");
    refused(builder().window(Window::Batches(0)).build(), "window of 0");
    refused(builder().window(Window::Batches(1 << 20)).build(), "window of 1048576");
    refused(builder().timeout(Duration::ZERO).build(), "time-out of zero");
    refused(builder().workers(usize::MAX).build(), "workers, expected at most 4096");
    let ready = Loader::builder(from_fn(6, |index| index)).ready_batches().batch_size(3).build();
    assert!(ready.unwrap_err().to_string().contains("batch size 3 for ready batches"));
    refused(builder().sampler(InOrder::new(11)).build(), "below 10");
    refused(builder().sampler(Shuffle::new(11, 0)).build(), "shuffle(len=11");
    assert!(World::new(1, 1).is_err());
}

#[test]
fn the_last_epochs_there_are() {
    under_watch("last epochs", || {
        for workers in [0, 2] {
            let loader = Loader::builder(numbers(20)).batch_size(5).shuffle(1).workers(workers).build().unwrap();
            for range in [(u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX)] {
                let epochs: Vec<u64> = loader.epochs(range.0..=range.1).map(|epoch| epoch.number()).collect();
                assert_eq!(epochs, (range.0..=range.1).collect::<Vec<_>>());
            }
            let order = indices(&loader, u64::MAX);
            assert_eq!(order, (0..4).map(|batch| loader.plan().indices(u64::MAX, batch)).collect::<Vec<_>>());
            assert_eq!(loader.epochs(u64::MAX..).take(5).count(), 1);
            assert_eq!(loader.epochs(5..5).count(), 0);
        }
    });
}

#[test]
fn an_epoch_behind_a_barrier_ends_when_another_begins() {
    struct Phases(AtomicU64);
    impl Sequence for Phases {
        type Sample = u64;
        fn len(&self) -> usize {
            40
        }
        fn get(&self, index: usize) -> Result<u64> {
            busy(index, 1000);
            Ok(self.0.load(Ordering::SeqCst))
        }
        fn barrier(&self) -> bool {
            true
        }
        fn on_epoch_start(&self, epoch: u64) -> Result<()> {
            self.0.store(epoch, Ordering::SeqCst);
            Ok(())
        }
    }
    under_watch("held behind a barrier", || {
        for timeout in [None, Some(Duration::from_secs(50))] {
            let builder = Loader::builder(Phases(AtomicU64::new(0))).batch_size(4).workers(2);
            let builder = if let Some(timeout) = timeout { builder.timeout(timeout) } else { builder };
            let loader = builder.build().unwrap();
            let mut epochs = loader.epochs(0..2);
            let mut first = epochs.next().unwrap();
            assert!(first.next().unwrap().unwrap().iter().all(|&phase| phase == 0));
            let second = epochs.next().unwrap();
            let error = first.next().unwrap().unwrap_err();
            assert_eq!((error.kind(), error.epoch()), (procession::ErrorKind::Interrupted, Some(0)));
            assert!(first.next().is_none());
            assert_eq!(second.map(|batch| batch.unwrap().sum()).sum::<u64>(), 40);
        }
    });
}

#[test]
fn hooks_wait_their_turn_beside_a_busy_iteration() {
    struct Hooked;
    impl Sequence for Hooked {
        type Sample = u8;
        fn len(&self) -> usize {
            64
        }
        fn get(&self, index: usize) -> Result<u8> {
            busy(index, 2000);
            Ok(index as u8)
        }
        fn barrier(&self) -> bool {
            true
        }
    }
    under_watch("hooks", || {
        for timeout in [Duration::from_millis(1), Duration::from_secs(50)] {
            let skip = procession::OnFailure::Skip(procession::FailureBudget::default());
            let loader =
                Loader::builder(Hooked).batch_size(4).workers(2).timeout(timeout).on_failure(skip).build().unwrap();
            std::thread::scope(|scope| {
                for start in [0, 100] {
                    let loader = loader.clone();
                    scope.spawn(move || {
                        for epoch in loader.epochs(start..start + 50) {
                            // Each start interrupts what the other thread iterates.
                            epoch.for_each(drop);
                        }
                    });
                }
            });
            assert!(loader.epoch(7).next().is_some());
        }
    });
}

#[test]
fn a_batch_without_rows_does_not_depend_on_timing() {
    let shapes = |workers| {
        let source = from_fn(5, |index| {
            busy(index, 100_000);
            vec![0.0_f32; 3 + index / 4]
        });
        let world = World::new(3, 4).unwrap();
        let loader = Loader::builder(source).batch_size(4).world(world).workers(workers).build().unwrap();
        lists(&loader, 0).iter().map(|batch| batch.dim()).collect::<Vec<_>>()
    };
    assert_eq!(shapes(0), [(1, 3), (0, 0)]);
    assert_eq!(shapes(2), shapes(0));
}

#[test]
fn resuming_in_the_middle_of_an_iteration_goes_where_the_state_says() {
    let loader = Loader::builder(numbers(20)).batch_size(5).shuffle(3).workers(1).build().unwrap();
    let mut fifth = loader.epoch(5);
    drop(fifth.next());
    let state = fifth.state();
    let expected = collect_indices(fifth);
    let mut epochs = loader.epochs(0..10);
    epochs.next().unwrap().for_each(drop);
    let resumed = epochs.resume(&state).unwrap().next().unwrap();
    assert_eq!((resumed.number(), collect_indices(resumed)), (5, expected));
}

#[test]
fn the_number_of_workers_grows_while_that_pays() {
    use procession::testing::Slow;
    under_watch("tuning", || {
        let source = Slow::sleeping((0..64_u64).collect::<Vec<_>>(), |_| Duration::from_millis(2));
        let loader = Loader::builder(source).batch_size(8).shuffle(1).build().unwrap();
        let before = loader.num_workers();
        // However long it takes, the output is the plan's.
        for epoch in loader.epochs(0..) {
            let number = epoch.number();
            let order = collect_indices(epoch);
            assert_eq!(order, (0..8).map(|batch| loader.plan().indices(number, batch)).collect::<Vec<_>>());
            if loader.num_workers() > before {
                break;
            }
        }
    });
}

#[test]
fn a_number_of_workers_that_is_given_stays() {
    let loader = Loader::builder(numbers(5)).workers(3).build().unwrap();
    drop(lists(&loader, 0));
    assert_eq!(loader.num_workers(), 3);
}
