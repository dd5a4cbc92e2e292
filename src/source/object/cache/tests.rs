use std::fs;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::*;

/// Bytes of 100, whose file has the size of each other's.
fn payload(number: usize) -> Bytes {
    Bytes::from(vec![number as u8; 100])
}

fn identity(number: usize) -> String {
    format!("s3://bucket/{number:04}\n100 bytes, tag x\nall")
}

fn file_bytes() -> u64 {
    record::size_bytes(&identity(0), &payload(0))
}

/// A cache with room for so many of them.
fn cache(dir: &Path, num_files: u64) -> Arc<Cache> {
    Arc::new(Cache::open(dir, num_files * file_bytes()).unwrap())
}

fn put(cache: &Arc<Cache>, number: usize) {
    futures::executor::block_on(Cache::put(cache, &identity(number), &payload(number)));
}

fn get(cache: &Arc<Cache>, number: usize) -> Option<Bytes> {
    futures::executor::block_on(Cache::get(cache, &identity(number)))
}

fn has(cache: &Arc<Cache>, number: usize) -> bool {
    cache.folder.path_of(&identity(number)).exists()
}

fn kept_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        entry
            .file_name()
            .to_string_lossy()
            .ends_with(".object")
            .then(|| entry.metadata().map_or(0, |about| about.len()))
    });
    files.sum()
}

#[test]
fn what_is_kept_is_found_by_every_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = cache(&dir.path().join("made"), 10);
    assert_eq!(get(&first, 1), None);
    put(&first, 1);
    let second = cache(&dir.path().join("made"), 10);
    for cache in [&first, &second] {
        assert_eq!(get(cache, 1), Some(payload(1)));
        assert_eq!(get(cache, 2), None);
    }
    // Something else of the same object.
    assert_eq!(futures::executor::block_on(Cache::get(&first, &identity(1).replace("tag x", "tag y"))), None);
    let status = first.status();
    assert_eq!((status.num_hits, status.num_misses, status.num_damaged, status.num_evicted), (1, 3, 0, 0));
    assert!(status.stopped.is_none());
}

#[test]
fn what_was_used_least_recently_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path(), 3);
    (0..3).for_each(|number| put(&cache, number));
    get(&cache, 0).unwrap();
    put(&cache, 3);
    assert_eq!([0, 1, 2, 3].map(|number| has(&cache, number)), [true, false, true, true]);
    put(&cache, 4);
    assert_eq!([0, 2, 3, 4].map(|number| has(&cache, number)), [true, false, true, true]);
    // Put again, it is there already and nothing goes.
    put(&cache, 4);
    assert_eq!((cache.status().num_evicted, kept_bytes(dir.path())), (2, 3 * file_bytes()));
    // A smaller budget holds at once.
    let smaller = self::cache(dir.path(), 1);
    assert_eq!([0, 3, 4].map(|number| has(&smaller, number)), [false, false, true]);
}

#[test]
fn what_is_larger_than_the_budget_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(dir.path(), file_bytes() - 1).unwrap());
    put(&cache, 1);
    assert_eq!((get(&cache, 1), kept_bytes(dir.path())), (None, 0));
    assert!(cache.status().stopped.is_none());
}

#[test]
fn damage_is_seen_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path(), 3);
    put(&cache, 1);
    let path = cache.folder.path_of(&identity(1));
    let good = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damaged = [
        vec![],
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        flipped(0),
        flipped(9),
        flipped(14),
        flipped(good.len() - 1),
        vec![0; 1 << 20],
    ];
    for (number, bytes) in damaged.into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        assert_eq!(get(&cache, 1), None);
        assert!(!path.exists());
        assert_eq!(cache.status().num_damaged, number as u64 + 1);
        put(&cache, 1);
        assert_eq!(get(&cache, 1), Some(payload(1)));
    }
}

#[test]
fn a_lock_file_that_was_cut_off_costs_a_look_at_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path(), 2);
    put(&cache, 1);
    fs::write(dir.path().join("cache.lock"), b"x").unwrap();
    put(&cache, 2);
    assert_eq!((cache.status().num_evicted, kept_bytes(dir.path())), (0, 2 * file_bytes()));
    put(&cache, 3);
    assert_eq!((cache.status().num_evicted, kept_bytes(dir.path())), (1, 2 * file_bytes()));
}

#[test]
fn what_crashes_left_is_removed_and_what_is_not_ours_stays() {
    let dir = tempfile::tempdir().unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let foreign = ["notes.object", "0123456789abcdef.txt", "0123456789abcdeg.object", "x.object.tmp"];
    for name in foreign.iter().chain(&["12ab-0-0-7.object.tmp", "12ab-1-1-7.object.tmp"]) {
        fs::write(dir.path().join(name), vec![0; 1000]).unwrap();
        let is_new = *name == "12ab-1-1-7.object.tmp";
        let file = fs::File::options().write(true).open(dir.path().join(name)).unwrap();
        file.set_modified(if is_new { SystemTime::now() } else { long_ago }).unwrap();
    }
    let cache = cache(dir.path(), 1);
    put(&cache, 1);
    put(&cache, 2);
    assert!(has(&cache, 2) && !has(&cache, 1));
    assert!(foreign.iter().all(|name| dir.path().join(name).exists()));
    assert!(!dir.path().join("12ab-0-0-7.object.tmp").exists() && dir.path().join("12ab-1-1-7.object.tmp").exists());
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_and_one_that_vanishes_is_done_without() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let error = Cache::open(&dir.path().join("file"), 1000).err().unwrap();
    assert_eq!((error.kind(), error.file()), (crate::ErrorKind::Io, Some(&*dir.path().join("file"))));
    let inner = dir.path().join("cache");
    let cache = cache(&inner, 3);
    put(&cache, 1);
    fs::remove_dir_all(&inner).unwrap();
    assert_eq!(get(&cache, 1), None);
    put(&cache, 2);
    assert_eq!(cache.status().stopped.unwrap().kind(), crate::ErrorKind::Io);
    // And nothing is tried any more.
    fs::create_dir(&inner).unwrap();
    put(&cache, 3);
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
}

#[test]
fn a_process_that_was_stopped_with_the_lock_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path(), 3);
    put(&cache, 1);
    let other = fs::File::options().write(true).open(dir.path().join("cache.lock")).unwrap();
    other.lock().unwrap();
    assert_eq!(get(&cache, 1), Some(payload(1)));
    put(&cache, 2);
    assert!(!has(&cache, 2) && cache.status().stopped.is_none());
    other.unlock().unwrap();
    put(&cache, 2);
    assert!(has(&cache, 2));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing unfinished is left");
}

struct EndsWhenDropped<'a>(&'a AtomicBool);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn caches_that_share_a_folder_keep_its_budget_together() {
    const FILES: u64 = 8;
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also if one of the threads fails.
        let end = EndsWhenDropped(&done);
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let cache = cache(dir.path(), FILES);
                scope.spawn(move || {
                    for step in 0..200 {
                        let number = (step * 7 + thread * 3) % 20;
                        match get(&cache, number) {
                            Some(bytes) => assert_eq!(bytes, payload(number)),
                            None => put(&cache, number),
                        }
                    }
                    let status = cache.status();
                    assert!(status.stopped.is_none() && status.num_damaged == 0, "{status:?}");
                    assert_eq!(status.num_hits + status.num_misses, 200);
                    status.num_evicted
                })
            })
            .collect();
        let watch = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Listing is no snapshot: a file may be seen before it is removed and its successor after.
                let most = kept_bytes(dir.path());
                assert!(most <= (FILES + 4) * file_bytes(), "{most}");
            }
        });
        let num_evicted: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        drop(end);
        watch.join().unwrap();
        assert!(num_evicted > 0);
    });
    assert!(kept_bytes(dir.path()) <= FILES * file_bytes());
}
