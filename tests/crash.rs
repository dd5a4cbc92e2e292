//! Training that is killed at any moment and resumed ends as one that was not: the same weights, raw and averaged, the
//! same state of the optimiser and the same history, bit for bit.
//!
//! `PROCESSION_KILLS` sets the number of kills for each number of workers.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use procession::train::CheckpointDir;
use safetensors::SafeTensors;

mod common;

/// How a life of the process ended.
#[derive(Debug, PartialEq)]
enum Life {
    Killed,
    Completed,
}

/// Runs the training, and kills it after a while unless it is done before.
fn live(data: &Path, out: &Path, workers: usize, patience: Option<Duration>) -> Life {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command
        .args("train --json --hidden 12 --batch-size 32 --epochs 12 --checkpoint-every 3 --resume".split(' '))
        .args(["--workers", &workers.to_string()])
        .args([Path::new("--data"), data, Path::new("--out"), out])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (ended, end) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        stderr.read_to_string(&mut text).unwrap();
        // Nobody waits for it any more if the process was killed.
        let _ = ended.send(());
        text
    });
    let life = match patience.map(|patience| end.recv_timeout(patience)) {
        Some(Err(RecvTimeoutError::Timeout)) => {
            child.kill().unwrap();
            Life::Killed
        }
        _ => Life::Completed,
    };
    let (status, text) = (child.wait().unwrap(), reader.join().unwrap());
    assert!(life == Life::Killed || status.success(), "{text}");
    // A killed process leaves no error of its own: whatever it found, it could go on from.
    assert!(!text.contains("error:") && !text.contains("warning:"), "{text}");
    if status.success() { Life::Completed } else { Life::Killed }
}

/// What a training leaves: arrays by file and name, and the history without what the clock says.
fn legacy(out: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let mut arrays = BTreeMap::new();
    let latest = CheckpointDir::new(out).latest().unwrap().unwrap();
    for path in [out.join("model.safetensors"), out.join("model-averaged.safetensors"), latest.file] {
        let bytes = fs::read(&path).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            arrays.insert(format!("{file} {name}"), tensor.data().to_vec());
        }
    }
    let csv = fs::read_to_string(out.join("history.csv")).unwrap();
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let clocked = ["seconds", "samples_per_second", "data_wait_fraction"];
    let kept = |line: &str| {
        let cells = line.split(',').zip(&header).filter(|(_, name)| !clocked.contains(name));
        cells.map(|(cell, _)| cell).collect::<Vec<_>>().join(",")
    };
    (arrays, csv.lines().map(kept).collect())
}

#[test]
fn a_killed_training_ends_as_one_that_was_not() {
    let kills: u32 = std::env::var("PROCESSION_KILLS").map_or(30, |text| text.parse().unwrap());
    let data = common::small_data();
    let undisturbed = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert_eq!(live(data.path(), undisturbed.path(), 2, None), Life::Completed);
    let whole_life = started.elapsed();
    let expected = legacy(undisturbed.path());
    assert!(expected.0.keys().any(|name| name.contains("optimizer/second/hidden1/kernel")));
    assert!(expected.0.keys().any(|name| name.contains("average/ema/")));
    assert_eq!(expected.1.len(), 1 + 12);
    // A moment within the first half of a life, from the start of the process on: steps of a linear congruential
    // generator, of which the high bits are good enough.
    let mut seed = 1_u64;
    let mut moment = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        whole_life.mul_f64((seed >> 11) as f64 / (1_u64 << 53) as f64 / 2.0)
    };
    for workers in [1, 2] {
        let mut killed = 0;
        while killed < kills {
            let out = tempfile::tempdir().unwrap();
            while live(data.path(), out.path(), workers, Some(moment())) == Life::Killed {
                killed += 1;
            }
            let found = legacy(out.path());
            assert_eq!(found.1, expected.1, "after {killed} kills, {workers} workers");
            for (name, bytes) in &expected.0 {
                assert!(found.0.get(name) == Some(bytes), "{name} differs after {killed} kills, {workers} workers");
            }
            assert_eq!(found.0.len(), expected.0.len());
        }
    }
}
