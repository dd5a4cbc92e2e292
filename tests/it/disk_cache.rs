//! A cache on disk under the loader: the same batches in every phase of its file, whatever was killed before.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array1, Array2, Array3, Axis};
use procession::compose::{DiskCacheState, DiskCached};
use procession::testing::{Counting, Slow};
use procession::{Loader, Sequence, SequenceExt, Visit, Window, from_fn};

use crate::support::under_watch;

const LEN: usize = 300;
const KEY: &str = "samples of a test";

type Sample = (Array2<f32>, u32);
type Source = Box<dyn Sequence<Sample = Sample>>;

/// Arrays of one shape, which the sequence does not tell, with a label.
fn samples() -> Source {
    let array = |index| Array2::from_shape_fn((8, 9), |(y, x)| (index * 100 + y * 9 + x) as f32);
    Box::new(from_fn(LEN, move |index| (array(index), index as u32)))
}

/// A cache, and what counts how often a sample is asked for behind it.
fn counted(path: &Path) -> (DiskCached<Arc<Counting<Source>>>, Arc<Counting<Source>>) {
    let counting = Arc::new(Counting::new(samples()));
    (Arc::clone(&counting).cached_on_disk(path, KEY).unwrap(), counting)
}

fn batches(sequence: impl Sequence<Sample = Sample> + 'static, workers: usize) -> Vec<(Array3<f32>, Array1<u32>)> {
    let loader = Loader::builder(sequence).batch_size(16).shuffle(3).workers(workers).window(Window::Bytes(100_000));
    let loader = loader.build().unwrap();
    loader.epochs(0..3).flatten().map(|batch| batch.unwrap().into_inner()).collect()
}

#[test]
fn batches_are_the_same_in_every_phase() {
    let dir = tempfile::tempdir().unwrap();
    let expected = batches(samples(), 0);
    for workers in [0, 1, 4] {
        under_watch(&format!("{workers} workers"), || {
            let path = dir.path().join(workers.to_string());
            let (begun, _) = counted(&path);
            for index in (0..LEN).step_by(3) {
                begun.get(index).unwrap();
            }
            drop(begun);
            let (filling, counting) = counted(&path);
            assert!(batches(filling, workers) == expected, "{workers} workers, being filled");
            // The last samples of an epoch and the first ones of the next are loaded at once: they may be the same.
            let (missing, loaded) = ((LEN - LEN.div_ceil(3)) as u64, counting.total());
            assert!((missing..missing + 20).contains(&loaded), "{loaded} loads of {missing} samples");
            let (complete, counting) = counted(&path);
            assert!(complete.layout().is_some() && matches!(complete.status().state, DiskCacheState::Complete));
            assert!(batches(complete, workers) == expected, "{workers} workers, complete");
            assert_eq!(counting.total(), 0);
        });
    }
}

/// Where the child finds its file. Set in a child alone.
const CHILD: &str = "PROCESSION_DISK_CACHE";

/// What a child does: epochs, until the file is complete. Each takes a while, and every sample is looked at.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let slow = Slow::spinning(samples(), |_| Duration::from_micros(300));
    let cached = Arc::new(slow.cached_on_disk(&path, KEY).unwrap());
    let loader = Loader::builder(Arc::clone(&cached)).batch_size(7).shuffle(1).workers(3).build().unwrap();
    for epoch in loader.epochs(0..1000) {
        for batch in epoch {
            let batch = batch.unwrap();
            for (row, &index) in batch.indices().iter().enumerate() {
                let (array, label) = samples().get(index as usize).unwrap();
                assert!(batch.0.index_axis(Axis(0), row) == array && batch.1[row] == label, "sample {index}");
            }
        }
        if matches!(cached.status().state, DiskCacheState::Complete) {
            return;
        }
    }
    panic!("still not complete: {}", cached.status());
}

fn spawn(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "disk_cache::child", "--test-threads=1"]).env(CHILD, path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn check_complete(path: &Path) {
    let (cached, counting) = counted(path);
    for index in 0..LEN {
        assert_eq!(cached.get(index).unwrap(), samples().get(index).unwrap());
    }
    assert_eq!((counting.total(), cached.status().num_damaged), (0, 0));
    assert!(matches!(cached.status().state, DiskCacheState::Complete));
}

#[test]
fn a_process_that_is_killed_at_any_instant_leaves_a_file_to_go_on_with() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        under_watch("killed processes", || {
            let path = dir.path().join(format!("round {round}"));
            let mut rng = Visit::new(round, 0, 0, 0).rng(0);
            for life in 0.. {
                let mut child = spawn(&path);
                // Longer and longer, so that even a slow machine gets somewhere.
                std::thread::sleep(Duration::from_millis(1 + rng.below(40 + 10 * life)));
                // It may have ended by itself.
                let _ = child.kill();
                let status = child.wait().unwrap();
                assert!(status.success() || status.code().is_none(), "life {life}: {status}");
                if status.success() {
                    break;
                }
            }
            check_complete(&path);
        });
    }
}

#[test]
fn two_processes_get_the_same_from_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared");
    under_watch("two processes", || {
        let mut children = [spawn(&path), spawn(&path), spawn(&path)];
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        check_complete(&path);
    });
}
