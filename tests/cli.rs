//! The command as a person or a script meets it: arguments in; lines, files and an exit code out.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use procession::{BlockShuffle, InOrder, Plan, Sampler, Shuffle, Tail, WindowShuffle, World};
use serde_json::Value;
use tempfile::TempDir;

mod common;
#[path = "cli/data.rs"]
mod data;

use common::{idx, small_data};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The arguments in a line of words.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The exit code, standard output and standard error of a run to the end.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("no signal ends it"), text(output.stdout), text(output.stderr))
}

/// Standard output of a run that ends well and says nothing on standard error.
fn stdout(args: &[&str]) -> String {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
    stdout
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn indices(line: &Value) -> Vec<u64> {
    line["indices"].as_array().unwrap().iter().map(|index| index.as_u64().unwrap()).collect()
}

/// `train` on small data, with more arguments.
fn train<'a>(data: &'a TempDir, more: &'a str) -> Vec<&'a str> {
    let mut args = words("train --hidden 12 --batch-size 32 --data");
    args.push(data.path().to_str().unwrap());
    args.extend(words(more));
    args
}

#[test]
fn order_prints_what_the_plan_gives() {
    let plan = |sampler: Box<dyn Sampler>, batch_size| Plan::new(sampler, batch_size).unwrap();
    let shuffle = |len, seed| Box::new(Shuffle::new(len, seed)) as Box<dyn Sampler>;
    let cases = [
        ("--len 100", plan(shuffle(100, 0), 32), 0, 0..4),
        ("--len 100 --seed 7 --epoch 3 --batch-size 9", plan(shuffle(100, 7), 9), 3, 0..12),
        ("--len 10 --sampler in-order --batch-size 4", plan(Box::new(InOrder::new(10)), 4), 0, 0..3),
        ("--len 10 --batch-size 4 --tail drop", plan(shuffle(10, 0), 4).tail(Tail::Drop), 0, 0..2),
        ("--len 10 --batch-size 4 --tail pad", plan(shuffle(10, 0), 4).tail(Tail::Pad), 0, 0..3),
        ("--len 99 --sampler block:10:2 --seed 1", plan(Box::new(BlockShuffle::new(99, 10, 2, 1)), 32), 0, 0..4),
        ("--len 99 --sampler block:10", plan(Box::new(BlockShuffle::new(99, 10, 1, 0)), 32), 0, 0..4),
        ("--len 99 --sampler window:8", plan(Box::new(WindowShuffle::new(99, 8, 0)), 32), 0, 0..4),
        ("--len 1000 --skip 5 --take 2", plan(shuffle(1000, 0), 32), 0, 5..7),
        ("--len 1000 --skip 30 --take 9", plan(shuffle(1000, 0), 32), 0, 30..32),
        ("--len 1000 --skip 32", plan(shuffle(1000, 0), 32), 0, 0..0),
        ("--len 0", plan(shuffle(0, 0), 32), 0, 0..0),
        (
            "--len 50 --batch-size 8 --rank 1 --world-size 3 --tail pad",
            plan(shuffle(50, 0), 8).tail(Tail::Pad).world(World::new(1, 3).unwrap()),
            0,
            0..7,
        ),
    ];
    for (options, plan, epoch, batches) in cases {
        let line = format!("order {options}");
        let expected: Vec<Vec<u64>> = batches.clone().map(|number| plan.indices(epoch, number)).collect();
        let printed: Vec<Vec<u64>> = stdout(&words(&line)).lines().map(numbers).collect();
        assert_eq!(printed, expected, "{line}");

        let lines = json_lines(&stdout(&words(&format!("{line} --json"))));
        assert_eq!(lines.iter().map(indices).collect::<Vec<_>>(), expected, "{line}");
        for (number, line) in batches.zip(&lines) {
            assert_eq!((&line["epoch"], &line["number"]), (&epoch.into(), &number.into()), "{options}");
            let padded = Some(plan.batch(epoch, number).num_padded).filter(|&padded| padded > 0);
            assert_eq!(line.get("padded").and_then(Value::as_u64), padded, "{options}");
        }
    }
}

#[test]
fn order_is_instant_at_any_length() {
    let first = stdout(&words("order --len 1000000000000 --take 1"));
    assert_eq!(numbers(&first), Plan::new(Shuffle::new(1_000_000_000_000, 0), 32).unwrap().indices(0, 0));
    let last = stdout(&words("order --len 9223372036854775808 --sampler in-order --skip 288230376151711743"));
    assert_eq!(numbers(&last), (9_223_372_036_854_775_776..9_223_372_036_854_775_808).collect::<Vec<_>>());
}

#[test]
fn ranks_share_each_batch() {
    let common = "order --len 53 --seed 3 --batch-size 10";
    let whole: Vec<_> = stdout(&words(common)).lines().map(numbers).collect();
    let part = |rank| stdout(&words(&format!("{common} --rank {rank} --world-size 3")));
    let parts: Vec<Vec<_>> = (0..3).map(|rank| part(rank).lines().map(numbers).collect()).collect();
    for (number, batch) in whole.iter().enumerate() {
        let mut union: Vec<u64> = parts.iter().flat_map(|part| part[number].clone()).collect();
        let mut batch = batch.clone();
        union.sort_unstable();
        batch.sort_unstable();
        assert_eq!(union, batch, "batch {number}");
    }
}

#[test]
fn training_on_the_sample_learns_and_tells() {
    let lines = json_lines(&stdout(&words("train --epochs 1 --hidden 64 --dropout 0 --json")));
    let [epoch, last] = &lines[..] else { panic!("a line for the epoch and one for all: {lines:?}") };
    assert_eq!((&epoch["epoch"], &epoch["samples"]), (&0.into(), &6000.into()));
    assert_eq!((&last["epochs"], &last["samples"], &last["interrupted"]), (&1.into(), &6000.into(), &false.into()));
    let number = |key: &str| last[key].as_f64().unwrap_or_else(|| panic!("{key} is a number in {last}"));
    assert!(number("train_loss") < 1.5, "{last}");
    for key in ["test_accuracy", "test_accuracy_ema"] {
        assert!((0.7..=1.0).contains(&number(key)), "{key} in {last}");
    }
    assert!((0.0..=1.0).contains(&number("data_wait_fraction")), "{last}");
    let seconds = number("seconds");
    assert!(seconds > 0.0 && (number("samples_per_second") * seconds - 6000.0).abs() < 1.0, "{last}");
}

#[test]
fn workers_and_window_do_not_change_the_training() {
    let data = small_data();
    let figures = |options: &str| {
        let lines = json_lines(&stdout(&train(&data, &format!("--epochs 2 --json {options}"))));
        let keys = ["train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_loss_ema", "test_accuracy_ema"];
        let of = |line: &Value| keys.map(|key| line.get(key).and_then(Value::as_f64));
        lines.iter().map(of).collect::<Vec<_>>()
    };
    let expected = figures("--workers 0");
    assert_eq!(expected.len(), 3);
    for options in ["--workers 1", "--workers 2", "--workers 2 --window 1", "--workers 5 --window 3"] {
        assert_eq!(figures(options), expected, "{options}");
    }
    assert_ne!(figures("--workers 0 --seed 1"), expected);
}

#[test]
fn people_get_a_table_and_files() {
    let data = small_data();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("a/b");
    let text = stdout(&train(&data, &format!("--epochs 3 --out {}", out.display())));
    for part in ["300 images to train with, 50 to test with", "36 > 12 > 10", " 3/3 ", "with averaged weights  "] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let mut files: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    let expected = [
        "checkpoint-000000000020.safetensors",
        "checkpoint-000000000030.safetensors",
        "history.csv",
        "history.svg",
        "model-averaged.safetensors",
        "model.safetensors",
    ];
    assert_eq!(files, expected, "and no temporary files");
    let csv = fs::read_to_string(out.join("history.csv")).unwrap();
    assert!(csv.starts_with("epoch,step,loss,"), "{csv}");
    assert_eq!(csv.lines().count(), 4);
    assert!(csv.lines().nth(3).unwrap().starts_with("2,30,"), "{csv}");
    let svg = fs::read_to_string(out.join("history.svg")).unwrap();
    for part in ["<svg", "epochs", "loss", "accuracy", "raw weights", "averaged weights", "</svg>"] {
        assert!(svg.contains(part), "{part:?} in {svg}");
    }
}

#[test]
fn mistakes_are_named_in_one_line() {
    let data = small_data();
    let cases = [
        ("train --epochs 0", 1, "0 epochs, expected at least 1"),
        ("train --batch-size 0", 1, "batch size 0"),
        ("train --batch-size 99999999999", 1, "batch size 99999999999"),
        ("train --dropout 1.5", 1, "dropout rate 1.5, expected 0 <= rate < 1"),
        ("train --dropout nan", 1, "dropout rate NaN"),
        ("train --ema 1.0", 1, "decay 1, expected 0 <= decay < 1"),
        ("train --ema -0.5", 1, "decay -0.5"),
        ("train --learning-rate nan", 1, "learning rate NaN, expected a number above 0"),
        ("train --learning-rate inf", 1, "learning rate inf"),
        ("train --learning-rate 0", 1, "learning rate 0"),
        ("train --hidden 0", 1, "layer hidden1: 0 outputs, expected at least 1"),
        ("train --hidden 4,,4", 2, "'--hidden <WIDTHS>'"),
        ("train --hidden 99999999999,99999999999", 1, "parameters, expected at most 100,000,000"),
        ("train --workers 1000000", 1, "1000000 workers, expected at most 1024"),
        ("train --workers -1", 2, "unexpected argument '-1'"),
        ("train --window 0", 1, "a window of 0 batches, expected at least 1"),
        ("train --data /no/such/directory", 1, "/no/such/directory"),
        ("train --data src", 1, "no image in the folder"),
        ("train --learning-rate 1e30 --hidden 4", 1, "of epoch 0 with samples "),
        ("order", 2, "--len <N>"),
        ("order --len x", 2, "invalid value 'x' for '--len <N>'"),
        ("order --len 18446744073709551615", 1, "18446744073709551615 samples, expected at most 9223372036854775808"),
        ("order --len 10 --batch-size 0", 1, "batch size 0"),
        ("order --len 10 --rank 1", 2, "--world-size"),
        ("order --len 10 --world-size 2", 2, "--rank"),
        ("order --len 10 --rank 2 --world-size 2", 1, "rank 2, expected one below the world size 2"),
        ("order --len 10 --rank 0 --world-size 0", 1, "world size 0"),
        ("order --len 10 --tail cut", 2, "[possible values: keep, drop, pad]"),
        ("order --len 10 --sampler blocks", 2, "expected in-order, shuffle, block:SIZE[:SPAN] or window:SIZE"),
        ("order --len 10 --sampler window:0", 2, "a size of \"0\", expected a number from 1"),
        ("bench --repeats 0", 1, "0 repeats, expected at least 1"),
        ("bench --batch-size 0", 1, "batch size 0"),
        ("bench --workers 2000", 1, "2000 workers"),
        ("sort", 2, "unrecognized subcommand 'sort'"),
    ];
    for (line, code, what) in cases {
        for json in ["", " --json"] {
            let (actual, _, stderr) = run(&words(&format!("{line}{json}")));
            assert_eq!(actual, code, "{line}: {stderr}");
            assert!(stderr.starts_with("error: ") && stderr.contains(what), "{line}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
        }
    }
    let file = data.path().join("train-images-idx3-ubyte");
    let (code, stdout, stderr) = run(&train(&data, &format!("--out {}", file.join("out").display())));
    assert_eq!((code, stdout.as_str()), (1, ""), "nothing is trained if nothing can be saved");
    assert!(stderr.contains("train-images-idx3-ubyte/out"), "{stderr}");
}

#[test]
fn files_that_are_not_whole_are_named() {
    let part = fs::read(small_data().path().join("train-images-idx3-ubyte")).unwrap()[..1000].to_vec();
    // The bytes in place of the file; none for a file that is not there.
    let cases = [
        ("train-images-idx3-ubyte", Some(part)),
        ("train-labels-idx1-ubyte", Some(Vec::new())),
        ("t10k-labels-idx1-ubyte", Some(idx(&[50], &[10; 50]))),
        ("t10k-images-idx3-ubyte", None),
    ];
    for (name, bytes) in cases {
        let data = small_data();
        let path = data.path().join(name);
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let (code, stdout, stderr) = run(&train(&data, ""));
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (1, "", 1), "{name}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(name), "{name}: {stderr}");
    }
}

#[test]
fn an_empty_data_set_is_refused() {
    let data = small_data();
    fs::write(data.path().join("train-images-idx3-ubyte"), idx(&[0, 6, 6], &[])).unwrap();
    fs::write(data.path().join("train-labels-idx1-ubyte"), idx(&[0], &[])).unwrap();
    let (code, _, stderr) = run(&train(&data, ""));
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
}

#[test]
fn bench_compares() {
    let lines = json_lines(&stdout(&words("bench --json --repeats 1 --workers 0,1")));
    let found: Vec<_> = lines.iter().map(|line| (line["work"].as_str().unwrap(), line["workers"].as_u64())).collect();
    let expected = ["convert", "augment"].map(|work| [None, Some(0), Some(1)].map(|workers| (work, workers)));
    assert_eq!(found, expected.concat());
    for line in lines {
        assert!(line["samples_per_second"].as_f64().unwrap() > 0.0 && line["ratio"].as_f64().unwrap() > 0.0, "{line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    assert!(stdout(&["--help"]).contains("Exit codes"));
    assert!(stdout(&["--version"]).starts_with("procession "));
    assert!(stdout(&["order", "--help"]).contains("block:SIZE[:SPAN]"));
    assert_eq!(run(&[]).0, 2);
}

/// The first line that a command prints. It runs on.
fn first_line(child: &mut Child) -> (String, BufReader<std::process::ChildStdout>) {
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (line, reader)
}

#[test]
fn a_closed_output_ends_quietly() {
    let data = small_data();
    for args in [words("order --len 1000000000000"), train(&data, "--epochs 1000000 --json")] {
        let mut child = command(&args).spawn().unwrap();
        let (line, reader) = first_line(&mut child);
        assert!(line.ends_with('\n'), "{line}");
        drop(reader);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]), "{args:?}");
    }
}

#[test]
fn verify_says_that_something_failed_to_whoever_reads_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.csv");
    fs::write(&list, "gone.jpg,0\n".repeat(100_000)).unwrap();
    let mut child = command(&["verify", list.to_str().unwrap()]).spawn().unwrap();
    let (line, reader) = first_line(&mut child);
    assert!(line.contains("gone.jpg"), "{line}");
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &[][..]));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_after_the_batch() {
    let data = small_data();
    let out = tempfile::tempdir().unwrap();
    let more = format!("--epochs 1000000 --json --out {}", out.path().display());
    let mut child = command(&train(&data, &more)).spawn().unwrap();
    // The handler is there before the first line is.
    let (_, mut reader) = first_line(&mut child);
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.starts_with("interrupted ") && stderr.lines().count() == 1, "{stderr}");
    let last = json_lines(&rest).pop().unwrap();
    assert_eq!(last["interrupted"], true, "{last}");
    let epochs = last["epochs"].as_u64().unwrap();
    assert!(epochs >= 1 && last["samples"].as_u64().unwrap() >= 300 * epochs, "{last}");
    let csv = fs::read_to_string(out.path().join("history.csv")).unwrap();
    assert_eq!(csv.lines().skip(1).count() as u64, epochs, "{csv}");
    let number = |key: &str| last[key].as_f64().unwrap();
    assert!((number("samples_per_second") * number("seconds") - number("samples")).abs() < 1.0, "{last}");
    assert!(out.path().join("history.svg").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_an_endless_order() {
    let mut child = command(&words("order --len 1000000000000")).spawn().unwrap();
    let (_, mut reader) = first_line(&mut child);
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
}

/// What a finished training leaves of weights.
fn final_weights(out: &std::path::Path) -> [Vec<u8>; 2] {
    ["model.safetensors", "model-averaged.safetensors"].map(|name| fs::read(out.join(name)).unwrap())
}

#[test]
fn a_training_goes_on_where_it_was() {
    let data = small_data();
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = |dir: &TempDir, more: &str| format!("--out {} {more}", dir.path().display());
    stdout(&train(&data, &out(&whole, "--epochs 4")));
    let expected = final_weights(whole.path());
    // To resume what is not there is to begin.
    let text = stdout(&train(&data, &out(&parts, "--epochs 2 --resume")));
    assert!(text.contains("start    from the beginning"), "{text}");
    assert_ne!(final_weights(parts.path()), expected);
    for _ in 0..2 {
        // The second time there is nothing left to do.
        let text = stdout(&train(&data, &out(&parts, "--epochs 4 --resume --workers 1")));
        assert!(text.contains("steps") && text.contains("4 epochs"), "{text}");
        assert_eq!(final_weights(parts.path()), expected);
    }
    let csv = fs::read_to_string(parts.path().join("history.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5, "{csv}");

    let refused = |more: &str, what: &str| {
        let (code, _, stderr) = run(&train(&data, &out(&parts, more)));
        assert_eq!((code, stderr.lines().count()), (1, 1), "{more}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(what), "{more}: {stderr}");
        assert_eq!(final_weights(parts.path()), expected);
    };
    refused("--epochs 5", "checkpoints of another training: resume it, or take another directory");
    refused("--epochs 5 --resume --seed 1", "seed 0 in the checkpoint but 1 in the trainer");
    refused("--epochs 5 --resume --dropout 0.5", "Dropout(0.2)");
    refused("--epochs 5 --resume --ema 0.5", "averages ema");
    refused("--epochs 5 --resume --learning-rate 0.1", "a learning rate of 0.0007 in the checkpoint but 0.1 asked for");
    refused("--epochs 3 --resume", "epoch 3, expected one in 0..=2");
    for more in ["train --resume", "train --checkpoint-every 5"] {
        assert_eq!(run(&words(more)).0, 2, "{more}");
    }
    assert!(run(&train(&data, &out(&whole, "--resume --checkpoint-every 0"))).2.contains("every 0 steps"));
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_it_taken() {
    let data = small_data();
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = |dir: &TempDir, more: &str| format!("--out {} {more}", dir.path().display());
    stdout(&train(&data, &out(&whole, "--epochs 3")));
    stdout(&train(&data, &out(&parts, "--epochs 2")));
    let newest = parts.path().join("checkpoint-000000000020.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 16;
    fs::write(&newest, &bytes).unwrap();
    let (code, text, stderr) = run(&train(&data, &out(&parts, "--epochs 3 --resume")));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.starts_with("warning: a checkpoint is not taken: a damaged checkpoint: the bytes have"), "{stderr}");
    assert!(stderr.contains("000020.safetensors") && stderr.lines().count() == 1, "{stderr}");
    assert!(text.contains("000010.safetensors, after 10 steps"), "{text}");
    assert_eq!(final_weights(parts.path()), final_weights(whole.path()));
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_resume_is_no_interruption() {
    let data = small_data();
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let more = |dir: &TempDir| format!("--epochs 40 --json --resume --out {}", dir.path().display());
    stdout(&train(&data, &more(&whole)));
    let mut interrupted = 0;
    loop {
        let more = more(&parts);
        let mut child = command(&train(&data, &more)).spawn().unwrap();
        let (_, mut reader) = first_line(&mut child);
        // The process may have come to its end by itself.
        let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status();
        reader.read_to_string(&mut String::new()).unwrap();
        match child.wait().unwrap().code() {
            Some(0) => break,
            code => assert_eq!(code, Some(130)),
        }
        interrupted += 1;
    }
    assert!(interrupted > 0);
    assert_eq!(final_weights(parts.path()), final_weights(whole.path()));
}

/// An image from the tests of decoding.
fn picture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/images/inputs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Folders of classes with three images that are whole, one that is cut off, one that claims to be huge, and a text.
fn spoilt_pictures() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let jpeg = picture("jpeg_420_q75.jpg");
    let files = [
        ("a/1.jpg", jpeg.clone()),
        ("a/2.png", picture("png_grey_8.png")),
        ("b/3.ppm", b"P6 100000 100000 255\n\0\0\0".to_vec()),
        ("b/4.jpg", jpeg[..jpeg.len() / 2].to_vec()),
        ("b/5.gif", picture("gif.gif")),
        ("b/readme.txt", b"text".to_vec()),
    ];
    for (name, bytes) in files {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn verify_lists_what_fails_and_why() {
    let dir = spoilt_pictures();
    let path = dir.path().to_str().unwrap();
    for workers in ["0", "1", "4"] {
        let (code, text, stderr) = run(&["verify", path, "--workers", workers]);
        assert_eq!((code, stderr.as_str()), (1, "error: 2 of 5 samples failed\n"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("all 2: 100000 x 100000 pixels, the limit is"), "{text}");
        assert!(lines[0].contains("b/3.ppm"), "{text}");
        assert!(lines[1].starts_with("all 3: damaged JPEG image (file ") && lines[1].contains("b/4.jpg): "), "{text}");
        assert!(lines[2].contains("5 samples checked") && lines[2].contains("2 failed, 1 files passed over"), "{text}");
    }
    let (code, text, stderr) = run(&["verify", path, "--json", "--strict"]);
    assert_eq!((code, stderr.as_str()), (1, "error: 2 of 5 samples failed and 1 files were passed over\n"));
    let lines = json_lines(&text);
    let found: Vec<_> = lines.iter().map(|line| (line["index"].as_u64(), line["kind"].as_str())).collect();
    let expected = [(None, Some("passed_over")), (Some(2), Some("limit")), (Some(3), Some("format")), (None, None)];
    assert_eq!(found, expected);
    assert!(lines[0]["file"].as_str().unwrap().ends_with("b/readme.txt"), "{text}");
    assert!(lines[2]["file"].as_str().unwrap().ends_with("b/4.jpg"), "{text}");
    assert_eq!(
        (&lines[3]["samples"], &lines[3]["failed"], &lines[3]["passed_over"]),
        (&5.into(), &2.into(), &1.into())
    );

    for name in ["b/3.ppm", "b/4.jpg"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert!(stdout(&["verify", path]).contains("3 samples checked"));
    assert_eq!(run(&["verify", path, "--strict"]).0, 1);
    fs::remove_file(dir.path().join("b/readme.txt")).unwrap();
    assert_eq!(json_lines(&stdout(&["verify", path, "--strict", "--json"])).len(), 1);
}

#[test]
fn verify_takes_data_of_any_kind() {
    let data = small_data();
    assert!(stdout(&["verify", data.path().to_str().unwrap()]).contains("350 samples checked"));
    for path in ["/no/such/directory", "Cargo.toml", "src"] {
        let (code, _, stderr) = run(&["verify", path]);
        assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(path), "{stderr}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_verify_and_says_how_far_it_came() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("whole.jpg"), picture("jpeg_420_q75.jpg")).unwrap();
    let list = dir.path().join("list.csv");
    fs::write(&list, format!("gone.jpg,0\n{}", "whole.jpg,1\n".repeat(1_000_000))).unwrap();
    let mut child = command(&["verify", list.to_str().unwrap(), "--json"]).spawn().unwrap();
    let (line, mut reader) = first_line(&mut child);
    assert!(line.contains("gone.jpg"), "{line}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    reader.read_to_string(&mut String::new()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(
        stderr.starts_with("interrupted after ") && stderr.ends_with(" of 1,000,001 samples, 1 failed\n"),
        "{stderr}"
    );
}

/// Two classes that anyone can tell apart: 20 dark and 20 bright images, of many sizes. Their names, labels and bytes.
fn dark_and_bright() -> Vec<(String, u32, Vec<u8>)> {
    let image = |class: u32, number: u32| {
        let (height, width) = (20 + number, 30 - number);
        let pixels = (0..height * width * 3).map(|at| (200 * class + (at * 7 + number * 13) % 50) as u8);
        let header = format!("P6 {width} {height} 255\n").into_bytes();
        header.into_iter().chain(pixels).collect()
    };
    let name = |class: u32, number| format!("{}/{number:02}.ppm", ["bright", "dark"][class as usize]);
    let classes = (0..2).flat_map(|class| (0..20).map(move |number| (class, number)));
    classes.map(|(class, number)| (name(class, number), class, image(1 - class, number))).collect()
}

/// The same images as a folder of classes, a list and a tar.
fn dark_and_bright_data() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut list = String::from("path,label\n");
    let mut tar = procession::source::TarWriter::new(Vec::new());
    for (name, label, bytes) in dark_and_bright() {
        let file = dir.path().join("folder").join(&name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &bytes).unwrap();
        list += &format!("folder/{name},{label}\n");
        let key = name.strip_suffix(".ppm").unwrap();
        tar.append(key, &[("ppm", &bytes), ("cls", label.to_string().as_bytes())]).unwrap();
    }
    fs::write(dir.path().join("list.csv"), list).unwrap();
    fs::write(dir.path().join("shard.tar"), tar.finish().unwrap()).unwrap();
    dir
}

#[test]
fn training_on_images_of_any_kind_is_the_same() {
    let dir = dark_and_bright_data();
    let figures = |name: &str, more: &str| {
        let path = dir.path().join(name);
        let mut args = words("train --json --hidden 8 --dropout 0 --epochs 12 --batch-size 8 --learning-rate 0.01");
        args.extend(words(more));
        args.extend(["--data", path.to_str().unwrap()]);
        let lines = json_lines(&stdout(&args));
        let keys = ["samples", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_loss_ema"];
        lines.iter().map(|line| keys.map(|key| line.get(key).and_then(Value::as_f64))).collect::<Vec<_>>()
    };
    let expected = figures("folder", "");
    assert_eq!(expected[0][0], Some(36.0), "a tenth of the 40 images is held out");
    let [.., accuracy, _, test_accuracy, _] = *expected.last().unwrap();
    assert_eq!((accuracy, test_accuracy), (Some(1.0), Some(1.0)), "{expected:?}");
    for (name, more) in [
        ("shard.tar", ""),
        ("list.csv", ""),
        ("folder", "--cache 0 --workers 0"),
        ("folder", "--size 28 --test-fraction 0.1 --workers 3"),
    ] {
        assert_eq!(figures(name, more), expected, "{name} {more}");
    }
    for more in ["--size 7", "--rgb", "--split-seed 1", "--test-fraction 0.25"] {
        assert_ne!(figures("folder", more), expected, "{more}");
    }
}

#[test]
fn training_on_images_goes_on_where_it_was_and_not_with_others() {
    let dir = dark_and_bright_data();
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let train = |name: &str, out: &TempDir, more: &str| {
        let path = dir.path().join(name);
        let mut args = words("train --hidden 8 --batch-size 8 --resume");
        args.extend(words(more));
        args.extend(["--data", path.to_str().unwrap(), "--out", out.path().to_str().unwrap()]);
        run(&args)
    };
    let (code, text, _) = train("folder", &whole, "--epochs 4");
    assert!(code == 0 && text.contains("36 images to train with, 4 to test with"), "{text}");
    assert!(text.contains("784 > 8 > 2, "), "{text}");
    assert_eq!(train("folder", &parts, "--epochs 2").0, 0);
    let (code, _, stderr) = train("folder", &parts, "--epochs 4 --test-fraction 0.2");
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(stderr.contains("samples to train with 36 in the checkpoint but 32 now"), "{stderr}");
    let (code, _, stderr) = train("folder", &parts, "--epochs 4 --split-seed 1");
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(stderr.contains("the data are others: split seed 0 in the checkpoint but 1 now"), "{stderr}");
    // As many images, and the same classes, but not the same.
    let other = dir.path().join("other/bright");
    fs::create_dir_all(&other).unwrap();
    fs::create_dir_all(dir.path().join("other/dark")).unwrap();
    for (name, _, bytes) in dark_and_bright() {
        fs::write(dir.path().join("other").join(&name), bytes.iter().rev().copied().collect::<Vec<u8>>()).unwrap();
    }
    let (code, _, stderr) = train("other", &parts, "--epochs 4");
    assert!(code == 1 && stderr.contains("checksum of some of the images"), "{stderr}");
    // The same in a tar are the same.
    assert_eq!(train("shard.tar", &parts, "--epochs 3").0, 0);
    assert_eq!(train("folder", &parts, "--epochs 4").0, 0);
    assert_eq!(final_weights(parts.path()), final_weights(whole.path()));
}

#[test]
fn images_without_labels_are_not_tested_with() {
    let dir = dark_and_bright_data();
    fs::rename(dir.path().join("folder"), dir.path().join("train")).unwrap();
    let data = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("train"), data.path().join("train")).unwrap();
    fs::create_dir(data.path().join("test")).unwrap();
    fs::write(data.path().join("test/1.ppm"), dark_and_bright().remove(0).2).unwrap();
    let text = stdout(&[&words("train --hidden 4 --epochs 1 --data")[..], &[data.path().to_str().unwrap()]].concat());
    assert!(text.contains("whose `test` has no labels: 36 images to train with, 4 to test with"), "{text}");
}

#[test]
fn data_that_cannot_be_trained_on_are_refused() {
    let dir = dark_and_bright_data();
    let small = small_data();
    let bright = dir.path().join("folder/bright");
    fs::write(dir.path().join("three.csv"), "folder/bright/00.ppm,0\nfolder/dark/00.ppm,1\nfolder/dark/01.ppm,1\n")
        .unwrap();
    fs::write(dir.path().join("far.csv"), "folder/bright/00.ppm,0\nfolder/dark/00.ppm,4000000000\n").unwrap();
    fs::write(dir.path().join("gone.csv"), "folder/none.ppm,0\nfolder/dark/00.ppm,1\n").unwrap();
    fs::write(dir.path().join("text.csv"), "text of no image\n").unwrap();
    let numbers = format!("{}/tests/formats/f4-little.npy", env!("CARGO_MANIFEST_DIR"));
    let cases = [
        (bright, "", "labels of 1 class, expected at least 2"),
        (dir.path().join("three.csv"), "", "3 samples, 3 of them to train with and 0 to test with"),
        (dir.path().join("far.csv"), "", "a label of 4,000,000,000, expected a class from 0 to 999,999"),
        (dir.path().join("gone.csv"), "--test-fraction 0.5", "folder/none.ppm"),
        (dir.path().join("text.csv"), "", "text.csv"),
        (dir.path().join("folder"), "--test-fraction 0", "a test fraction of 0, expected a number above 0"),
        (dir.path().join("folder"), "--test-fraction nan", "a test fraction of NaN"),
        (numbers.into(), "", "no images in these data"),
        (small.path().to_owned(), "--test-fraction 0.5", "but the data have a part to test with"),
        (small.path().to_owned(), "--test-fraction 0.5 --size 7", "but the data have a part to test with"),
    ];
    for (path, more, what) in cases {
        let mut args = vec!["train", "--hidden", "4", "--data", path.to_str().unwrap()];
        args.extend(words(more));
        let (code, _, stderr) = run(&args);
        assert_eq!((code, stderr.lines().count()), (1, 1), "{path:?} {more}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(what), "{path:?} {more}: {stderr}");
    }
    for more in ["--size 0", "--size 5000", "--size x", "--cache -1"] {
        assert_eq!(run(&[words("train --data x"), words(more)].concat()).0, 2, "{more}");
    }
    assert_eq!(run(&words("train --rgb")).0, 2, "there is nothing to resize without data");
}

#[test]
fn idx_images_can_be_resized() {
    let data = small_data();
    let text = stdout(&train(&data, "--epochs 1 --size 4 --rgb"));
    assert!(text.contains("300 images to train with, 50 to test with") && text.contains("48 > 12 > 10"), "{text}");
}

#[test]
fn bench_measures_data_at_a_path() {
    let dir = dark_and_bright_data();
    let small = small_data();
    for path in [dir.path().join("folder"), dir.path().join("shard.tar"), small.path().to_owned()] {
        let args = [vec!["bench", path.to_str().unwrap()], words("--seconds 1 --size 16 --workers 0,2")].concat();
        let lines = json_lines(&stdout(&[&args[..], &["--json"]].concat()));
        let [stages, naive, none, two, advice] = &lines[..] else { panic!("{lines:?}") };
        let parts = ["read_fraction", "decode_fraction", "assemble_fraction"];
        let sum: f64 = parts.iter().map(|&part| stages[part].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && stages["samples"].as_u64().unwrap() >= 1, "{stages}");
        for (line, workers) in [(naive, None), (none, Some(0)), (two, Some(2))] {
            assert_eq!(line["workers"].as_u64(), workers, "{line}");
            assert!(line["samples_per_second"].as_f64().unwrap() > 0.0 && line["ratio"].as_f64().unwrap() > 0.0);
        }
        assert_eq!(advice["recommended_workers"], 2, "{advice}");
        assert!(["reading", "decoding", "assembling"].contains(&advice["bound_by"].as_str().unwrap()), "{advice}");
        let text = stdout(&args);
        for part in ["16 x 16", "first pass over", "naive", "0 workers", "2 workers", "recommended: --workers "] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
    let spoilt = spoilt_pictures();
    let text = stdout(&["bench", spoilt.path().to_str().unwrap(), "--seconds", "1"]);
    assert!(text.contains("224 x 224") && text.contains("2 samples failed and are left out"), "{text}");
    let fails = |line: &str| {
        let (code, _, stderr) = run(&words(line));
        assert!(code != 0 && stderr.lines().count() == 1, "{line}: {stderr}");
        stderr
    };
    assert!(fails("bench tests/images/inputs --seconds 0").contains("0 seconds, expected a number above 0"));
    assert!(fails("bench tests/images/inputs --samples 0").contains("0 samples, expected at least 1"));
    assert!(fails("bench /no/such/path").contains("/no/such/path"));
    assert!(fails("bench --seconds 1").contains("PATH"));
}
