//! The cache on the disk, with stores that count what they are asked.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use procession::source::{Bucket, Objects};
use procession::{AsyncSequence, Error, Loader};

use super::server::{Fault, Server, touch};
use super::{all, block_on, content, epoch};

const COUNT: usize = 30;

fn gets(server: &Server) -> usize {
    server.asked().iter().filter(|asked| asked.is_get()).count()
}

fn cached_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "object")).collect()
}

fn open(server: &Server, dir: &Path, max_bytes: u64) -> (Bucket, Objects) {
    let bucket = server.bucket("o").disk_cache(dir, max_bytes).unwrap();
    let objects = Objects::options().list_blocking(&bucket).unwrap();
    (bucket, objects)
}

fn loader(objects: &Objects) -> Loader<Vec<Vec<u8>>> {
    let loader = Loader::remote(objects.clone()).concurrency(8).map(|blob| blob.bytes().to_vec());
    loader.collate(Ok::<_, Error>).batch_size(7).shuffle(3).build().unwrap()
}

fn check(objects: &Objects, number: u64) {
    for (indices, samples) in epoch(&loader(objects), number).unwrap() {
        assert!(indices.iter().zip(samples).all(|(&index, sample)| sample == content(index as usize)));
    }
}

#[test]
fn an_object_is_fetched_once_and_again_if_it_is_damaged_or_changed() {
    let server = Server::with_objects(COUNT);
    let dir = tempfile::tempdir().unwrap();
    let (bucket, objects) = open(&server, dir.path(), 1 << 30);
    for number in 0..3 {
        check(&objects, number);
    }
    assert_eq!(gets(&server), COUNT);
    // Another process, as it were.
    let (_, again) = open(&server, dir.path(), 1 << 30);
    check(&again, 0);
    assert_eq!(gets(&server), 0);
    // Bits flip, files are cut off, and files are exchanged.
    let files = cached_files(dir.path());
    for (number, file) in files.iter().take(6).enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        match number % 3 {
            0 => *bytes.last_mut().unwrap() ^= 0x10,
            1 => bytes.truncate(bytes.len() / 2),
            _ => bytes = std::fs::read(&files[10 + number]).unwrap(),
        }
        std::fs::write(file, bytes).unwrap();
    }
    check(&objects, 4);
    assert_eq!(gets(&server), 6);
    let status = bucket.cache_status().unwrap();
    assert_eq!((status.num_damaged, status.num_misses, status.num_hits), (4, COUNT as u64 + 6, 3 * COUNT as u64 - 6));
    check(&objects, 5);
    assert_eq!(gets(&server), 0);
    // One that changed is another object, for whoever lists it anew.
    let path = server.folder().join("o/0007.bin");
    std::fs::write(&path, content(100)).unwrap();
    touch(&path, 5);
    let (_, anew) = open(&server, dir.path(), 1 << 30);
    let samples = all(&anew).unwrap();
    assert_eq!((samples[7].bytes(), samples[8].bytes(), gets(&server)), (&content(100)[..], &content(8)[..], 1));
}

#[test]
fn what_is_wrong_is_not_kept() {
    let server = Server::with_objects(COUNT);
    let dir = tempfile::tempdir().unwrap();
    let (_, objects) = open(&server, dir.path(), 1 << 30);
    server.decide(|asked| if asked.is_get() { Fault::Cut } else { Fault::None });
    assert!(all(&objects).is_err());
    server.decide(|asked| if asked.is_get() { Fault::Long } else { Fault::None });
    assert!(all(&objects).is_err());
    server.decide(|_| Fault::None);
    assert!(cached_files(dir.path()).is_empty());
    check(&objects, 0);
}

#[test]
fn a_version_that_is_not_known_is_not_kept_until_it_is() {
    let server = Server::with_objects(2);
    let dir = tempfile::tempdir().unwrap();
    let bucket = server.bucket("o").disk_cache(dir.path(), 1 << 30).unwrap();
    let objects = Objects::from_keys(&bucket, ["0000.bin", "0001.bin"]).unwrap();
    (0..2).for_each(|_| drop(all(&objects).unwrap()));
    assert_eq!((gets(&server), cached_files(dir.path()).len()), (4, 0));
    let objects = block_on(objects.stat()).unwrap();
    (0..2).for_each(|_| drop(all(&objects).unwrap()));
    assert_eq!((gets(&server), cached_files(dir.path()).len()), (2, 2));
}

#[test]
fn the_budget_is_kept_and_what_does_not_fit_is_fetched() {
    let server = Server::with_objects(COUNT);
    let dir = tempfile::tempdir().unwrap();
    let all_bytes: u64 = (0..COUNT).map(|number| content(number).len() as u64).sum();
    let (bucket, objects) = open(&server, dir.path(), all_bytes / 3);
    for number in 0..4 {
        check(&objects, number);
        let kept: u64 = cached_files(dir.path()).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
        assert!(kept <= all_bytes / 3 && kept > all_bytes / 6, "{kept} of {all_bytes}");
    }
    let status = bucket.cache_status().unwrap();
    assert!(status.num_evicted > 0 && status.num_hits + status.num_misses == 4 * COUNT as u64, "{status:?}");
    // Room for none of them.
    let tiny = tempfile::tempdir().unwrap();
    let (bucket, objects) = open(&server, tiny.path(), 50);
    check(&objects, 0);
    assert!(cached_files(tiny.path()).is_empty() && bucket.cache_status().unwrap().stopped.is_none());
    // A folder that vanishes ends the keeping, not the fetching.
    let (bucket, objects) = open(&server, &tiny.path().join("gone"), 1 << 30);
    std::fs::remove_dir_all(tiny.path().join("gone")).unwrap();
    check(&objects, 1);
    assert!(bucket.cache_status().unwrap().stopped.is_some());
}

/// Not a test of its own: what each of the processes below does.
#[test]
fn child_process_of_the_shared_cache() {
    let (Ok(data), Ok(dir)) = (std::env::var("PROCESSION_TEST_DATA"), std::env::var("PROCESSION_TEST_CACHE")) else {
        return;
    };
    let max_bytes = std::env::var("PROCESSION_TEST_BYTES").unwrap().parse().unwrap();
    let bucket = Bucket::open(&data).unwrap().disk_cache(&dir, max_bytes).unwrap();
    let objects = Objects::options().list_blocking(&bucket).unwrap();
    for number in 0..6 {
        check(&objects, number);
    }
    let status = bucket.cache_status().unwrap();
    assert!(status.stopped.is_none() && status.num_damaged == 0, "{status:?}");
    assert_eq!(status.num_hits + status.num_misses, 6 * COUNT as u64);
}

#[test]
fn processes_share_a_folder_and_its_budget() {
    let data = tempfile::tempdir().unwrap();
    super::write(data.path(), (0..COUNT).map(|number| (format!("{number:04}.bin"), content(number))));
    let all_bytes: u64 = (0..COUNT).map(|number| content(number).len() as u64).sum();
    for max_bytes in [1 << 30, all_bytes / 2] {
        let dir = tempfile::tempdir().unwrap();
        let children: Vec<_> = (0..3)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "cache::child_process_of_the_shared_cache", "--nocapture"])
                    .env("PROCESSION_TEST_DATA", format!("file://{}", data.path().display()))
                    .env("PROCESSION_TEST_CACHE", dir.path())
                    .env("PROCESSION_TEST_BYTES", max_bytes.to_string())
                    .output_in_background()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let files = cached_files(dir.path());
        let kept: u64 = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
        assert!(kept <= max_bytes && kept > all_bytes / 4, "{kept} of {max_bytes}");
        assert!(max_bytes < all_bytes || files.len() == COUNT);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            files.len() + 1,
            "nothing unfinished, and the lock file"
        );
    }
}

trait InBackground {
    fn output_in_background(&mut self) -> std::process::Child;
}

impl InBackground for Command {
    fn output_in_background(&mut self) -> std::process::Child {
        use std::process::Stdio;

        self.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

#[test]
fn a_request_that_is_given_up_leaves_nothing_unfinished() {
    let server = Server::with_objects(COUNT);
    let dir = tempfile::tempdir().unwrap();
    let (_, objects) = open(&server, dir.path(), 1 << 30);
    block_on(async {
        for index in 0..COUNT {
            let time = Duration::from_micros(index as u64 * 300);
            drop(tokio::time::timeout(time, objects.get(index)).await);
        }
    });
    // Whatever is in the folder is right.
    check(&objects, 0);
    let (bucket, again) = open(&server, dir.path(), 1 << 30);
    check(&again, 1);
    assert_eq!(bucket.cache_status().unwrap().num_damaged, 0);
}
