use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD, IxDyn, array};
use tempfile::TempDir;

use super::super::SequenceExt;
use super::*;
use crate::Visit;
use crate::source::{from_fill, from_fn, try_from_fn};
use crate::testing::{Counting, Failing, Panicking, Told, check_rows, samples};

/// A file that is not there yet; in a file system in memory, where there is one, as these tests sync thousands of files.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("cache");
    (dir, path)
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Samples whose layouts differ.
fn ragged(len: usize) -> impl Sequence<Sample = (Vec<u16>, String)> + Debug {
    from_fn(len, |index| ((0..index as u16 * 3 % 7).collect(), "x".repeat(index % 4)))
}

/// Samples of one layout, which the sequence does not tell.
fn rows(len: usize) -> impl Sequence<Sample = Vec<u16>> + Debug {
    from_fn(len, |index| vec![index as u16; 5])
}

fn is_complete<S: Sequence<Sample: Record>>(cached: &DiskCached<S>) -> bool {
    matches!(cached.status().state, DiskCacheState::Complete)
}

fn stopped<S: Sequence<Sample: Record>>(cached: &DiskCached<S>) -> Arc<Error> {
    match cached.status().state {
        DiskCacheState::Stopped(error) => error,
        state => panic!("{state}, expected it to be stopped"),
    }
}

/// Checks a sequence in all phases of a cache: while it is filled, when it is complete, and in later processes.
fn check_phases<S>(sequence: impl Fn() -> S)
where
    S: Sequence,
    S::Sample: Record + PartialEq + Debug,
    <S::Sample as Stack>::Batch: PartialEq + Debug,
{
    let (_dir, path) = place();
    let len = sequence().len();
    let expected = samples(&sequence());
    let filling = sequence().cached_on_disk(&path, "key").unwrap();
    check_rows(&filling);
    assert!(is_complete(&filling), "{:?}", filling.status());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(samples(&filling), expected);
    check_rows(&filling);
    for in_memory in [false, true] {
        let counting = Counting::new(sequence());
        let later = DiskCacheOptions::new(&path, "key").in_memory(in_memory).open(counting).unwrap();
        check_rows(&later);
        assert_eq!(samples(&later), expected);
        assert_eq!((later.inner.total(), later.status().num_damaged), (0, 0), "{}", later.header.records);
        assert_eq!((later.status().num_cached, later.path()), (len, &*path));
    }
}

#[test]
fn samples_of_all_types_keep_the_contract_in_all_phases() {
    check_phases(|| Told::still(6));
    check_phases(|| ragged(12));
    check_phases(|| rows(7));
    check_phases(|| from_fn(5, |index| index % 3 == 0));
    check_phases(|| from_fn(5, |index| [index as i64; 3]));
    check_phases(|| from_fn(5, |index| Array2::from_elem((index % 2, 3), index as f64)));
    check_phases(|| from_fn(5, |index| ArrayD::from_elem(IxDyn(&[1, 2, 3][..index % 3]), index as u8)));
    check_phases(|| from_fn(4, |_| [0_u8; 0]));
    check_phases(|| from_fn(4, |_| Vec::<f32>::new()));
    check_phases(|| from_fn(3, |index| (index, (index as isize, "é".repeat(index)), vec![true; index])));
    check_phases(|| {
        from_fill(5, (30, 20), |index, row: &mut [f32]| {
            row.iter_mut().zip(0..).for_each(|(to, at)| *to = (index * 1000 + at) as f32);
            Ok(())
        })
    });
    check_phases(|| (from_fn(5, |index| array![index as f32]), vec![3_u32; 5]));
}

#[test]
fn what_the_sequence_knows_is_passed_on() {
    let (_dir, path) = place();
    let cached = Told::still(6).cached_on_disk(&path, "key").unwrap();
    for _ in 0..2 {
        assert_eq!((cached.size_bytes(3), cached.file(3)), (Told::new(6).size_bytes(3), Told::new(6).file(3)));
        cached.prepare(0, |_| Ok(())).unwrap();
    }
    let (_dir, path) = place();
    let passing = Counting::new(Told::new(2)).cached_on_disk(&path, "key").unwrap();
    check_rows(&passing);
    Told::assert_known(&passing, 1, 1);
    assert!(passing.inner.counts()[0] > 1 && !path.exists() && !partial(&path).exists());
    assert!(matches!(passing.status().state, DiskCacheState::PassesThrough));
    assert_eq!(passing.prepare(1, |_| Ok(())).unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn sizes_are_known_when_the_file_is_complete() {
    let (_dir, path) = place();
    let cached = ragged(5).cached_on_disk(&path, "key").unwrap();
    assert_eq!(cached.size_bytes(2), None);
    cached.prepare(1, |_| Ok(())).unwrap();
    let sample = cached.get(2).unwrap();
    assert!((sample.size_bytes()..sample.size_bytes() + 100).contains(&cached.size_bytes(2).unwrap()));
    let (_dir, path) = place();
    let cached = rows(5).cached_on_disk(&path, "key").unwrap();
    cached.prepare(1, |_| Ok(())).unwrap();
    assert_eq!((cached.size_bytes(2), cached.layout()), (Some(10), Some(5)));
}

#[test]
fn a_file_is_gone_on_with() {
    let (_dir, path) = place();
    let cached = || Counting::new(ragged(10)).cached_on_disk(&path, "key").unwrap();
    let first = cached();
    for index in [3, 7, 3, 0] {
        first.get(index).unwrap();
    }
    assert_eq!((first.inner.counts(), first.status().num_cached), (vec![1, 0, 0, 1, 0, 0, 0, 1, 0, 0], 3));
    drop(first);
    let second = cached();
    assert_eq!(second.status().num_cached, 3);
    assert_eq!(samples(&second), samples(&ragged(10)));
    assert_eq!(second.inner.counts(), [0, 1, 1, 0, 1, 1, 1, 0, 1, 1]);
    assert!(is_complete(&second) && path.exists() && !partial(&path).exists());
    assert_eq!(second.status().to_string(), "complete, 10 of 10 samples, 0 damaged");
    // A process that was killed when the file was sealed, and not renamed.
    drop(second);
    fs::rename(&path, partial(&path)).unwrap();
    let third = cached();
    assert_eq!(third.status().to_string(), "being filled, 10 of 10 samples, 0 damaged");
    assert_eq!(samples(&third), samples(&ragged(10)));
    assert!(third.inner.total() == 0 && is_complete(&third));
}

#[test]
fn an_error_is_not_kept_and_a_panic_passes() {
    let (_dir, path) = place();
    let cached = Failing::new(rows(4), [2]).times(1).cached_on_disk(&path, "key").unwrap();
    assert!(cached.get(2).is_err());
    assert_eq!(cached.get(2).unwrap(), [2; 5]);
    let (_dir, path) = place();
    let cached = Panicking::new(rows(4), [2]).cached_on_disk(&path, "key").unwrap();
    let panics = |threads| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cached.prepare(threads, |_| Ok(())))).unwrap_err()
    };
    for threads in [0, 1, 3] {
        let payload = panics(threads);
        assert_eq!(payload.downcast_ref::<String>().unwrap(), "sample 2 was made to panic");
    }
    assert_eq!(cached.get(1).unwrap(), [1; 5]);
}

#[test]
fn preparing_fills_the_file_and_tells_how_far_it_is() {
    for threads in [0, 1, 4] {
        let (_dir, path) = place();
        let cached = Counting::new(rows(50)).cached_on_disk(&path, "key").unwrap();
        cached.get(9).unwrap();
        let (told, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let progress = |num_done| {
            told.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(num_done, Ordering::Relaxed);
            Ok(())
        };
        cached.prepare(threads, progress).unwrap();
        assert!(is_complete(&cached));
        assert_eq!((told.into_inner(), most.into_inner()), (50, 50));
        assert_eq!(cached.inner.counts(), [1; 50]);
        cached.prepare(threads, |_| panic!("nothing is left to do")).unwrap();
    }
    let (_dir, path) = place();
    let failing = try_from_fn(20, |index| if index > 7 { Err("no") } else { Ok(index as u8) });
    let cached = failing.cached_on_disk(&path, "key").unwrap();
    let error = cached.prepare(1, |_| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.index()), (ErrorKind::Sample, Some(8)));
    assert_eq!(cached.status().num_cached, 8);
    let cached = Failing::new(Told::still(3), [1]).cached_on_disk(path.with_extension("other"), "key").unwrap();
    assert_eq!(cached.prepare(2, |_| Ok(())).unwrap_err().file(), Some(Path::new("1")));
}

#[test]
fn preparing_ends_when_it_is_told_to() {
    for threads in [1, 4] {
        let (_dir, path) = place();
        let cached = Counting::new(rows(1000)).cached_on_disk(&path, "key").unwrap();
        let stop = |num_done| match num_done {
            3.. => Err(Error::new(ErrorKind::Interrupted, "enough")),
            _ => Ok(()),
        };
        let error = cached.prepare(threads, stop).unwrap_err();
        assert_eq!((error.kind(), error.message(), error.index()), (ErrorKind::Interrupted, "enough", None));
        // Each thread finishes the sample that it is at.
        assert!((3..3 + threads).contains(&cached.status().num_cached), "{}", cached.status());
        cached.prepare(threads, |_| Ok(())).unwrap();
        assert!(is_complete(&cached) && cached.inner.counts() == [1; 1000]);
    }
}

#[test]
fn a_panic_ends_the_preparation_on_all_threads() {
    const THREADS: usize = 4;
    let (_dir, path) = place();
    // Each thread has a sample when the last of them panics, so that it is not the one that is joined first.
    let all_at_work = std::sync::Barrier::new(THREADS);
    let slow = from_fn(1000, move |index| {
        if index < THREADS {
            all_at_work.wait();
        }
        assert_ne!(index, THREADS - 1, "one of them");
        // So slow that many are left when the panic has ended.
        std::thread::sleep(std::time::Duration::from_millis(1));
        index as u32
    });
    let cached = slow.cached_on_disk(&path, "key").unwrap();
    let prepared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cached.prepare(THREADS, |_| Ok(()))));
    assert!(prepared.is_err());
    assert!(cached.status().num_cached < 900, "{}", cached.status());
}

#[test]
fn many_threads_fill_a_file_together() {
    for round in 0..20 {
        let (_dir, path) = place();
        let cached = Counting::new(ragged(60)).cached_on_disk(&path, "key").unwrap();
        thread::scope(|scope| {
            for number in 0..6 {
                let cached = &cached;
                scope.spawn(move || {
                    let expected = samples(&ragged(60));
                    for at in 0..150 {
                        let index = (at * 7 + number * 13 + round) % 60;
                        assert_eq!(cached.get(index).unwrap(), expected[index]);
                    }
                });
            }
        });
        assert!(is_complete(&cached), "{}", cached.status());
        let later = Counting::new(ragged(60)).cached_on_disk(&path, "key").unwrap();
        assert_eq!(samples(&later), samples(&ragged(60)));
        assert_eq!(later.inner.total(), 0);
    }
}

#[test]
fn a_sequence_without_samples_has_a_complete_file() {
    let (_dir, path) = place();
    for _ in 0..2 {
        let cached = rows(0).cached_on_disk(&path, "key").unwrap();
        assert!(is_complete(&cached) && path.exists());
        check_rows(&cached);
        check_rows(&Array2::<f32>::zeros((0, 3)).cached_on_disk(path.with_extension("other"), "key").unwrap());
    }
}

/// The bytes of a complete file, and of one that has samples 0 and 2 of `len`.
fn bytes_of_files<S: Sequence<Sample: Record>>(sequence: impl Fn() -> S) -> (Vec<u8>, Vec<u8>) {
    let (_dir, path) = place();
    let cached = sequence().cached_on_disk(&path, "key").unwrap();
    cached.get(2).unwrap();
    cached.get(0).unwrap();
    let begun = fs::read(partial(&path)).unwrap();
    cached.prepare(1, |_| Ok(())).unwrap();
    (fs::read(&path).unwrap(), begun)
}

#[test]
fn a_complete_file_that_is_cut_off_or_too_long_is_refused() {
    let (whole, _) = bytes_of_files(|| ragged(4));
    let (_dir, path) = place();
    for len in 0..=whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        match ragged(4).cached_on_disk(&path, "key") {
            Ok(cached) => assert!(len == whole.len() && is_complete(&cached)),
            Err(error) => {
                assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*path)), "{len}: {error}");
                let replaced = DiskCacheOptions::new(&path, "key").rebuild(true).open(ragged(4));
                if len < 8 {
                    assert_eq!(replaced.unwrap_err().kind(), ErrorKind::Format, "nothing says that it is a cache");
                } else {
                    assert_eq!(samples(&replaced.unwrap()), samples(&ragged(4)));
                    assert_eq!(fs::read(&path).unwrap().len(), whole.len());
                }
            }
        }
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    let error = ragged(4).cached_on_disk(&path, "key").unwrap_err();
    let expected = format!("a cache file of {} bytes, expected {}; delete", whole.len() + 1, whole.len());
    assert!(error.message().starts_with(&expected), "{error}");
}

/// Opens a file of which a bit is flipped, and checks that it is refused or gives the right samples.
fn check_flipped<S>(path: &Path, context: &str, sequence: &impl Fn() -> S, expected: &[S::Sample]) -> Option<usize>
where
    S: Sequence,
    S::Sample: Record + PartialEq + Debug,
{
    match sequence().cached_on_disk(path, "key") {
        Ok(cached) => {
            for _ in 0..2 {
                assert_eq!(samples(&cached), expected, "{context}");
            }
            assert!(is_complete(&cached), "{context}: {}", cached.status());
            Some(cached.status().num_damaged)
        }
        Err(error) => {
            assert!([ErrorKind::State, ErrorKind::Format].contains(&error.kind()), "{context}: {error}");
            assert!(error.file().is_some(), "{context}: {error}");
            None
        }
    }
}

#[test]
fn every_bit_of_a_complete_file_is_guarded() {
    fn check<S: Sequence<Sample: Record + PartialEq + Debug>>(sequence: impl Fn() -> S) {
        let (whole, _) = bytes_of_files(&sequence);
        let (_dir, path) = place();
        let expected = samples(&sequence());
        let [mut refused, mut damaged] = [0; 2];
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            match check_flipped(&path, &format!("bit {bit}"), &sequence, &expected) {
                None => refused += 1,
                Some(num_damaged) => damaged += num_damaged,
            }
        }
        // What neither counts stands between the parts of the file.
        assert!(refused > 128 * 8 && damaged > 4 * 40 * 8, "{refused} refused, {damaged} damaged of {}", whole.len());
    }
    check(|| ragged(4));
    check(|| rows(4));
}

#[test]
fn a_file_begun_and_cut_off_anywhere_is_gone_on_with() {
    let (whole, begun) = bytes_of_files(|| ragged(4));
    let expected = samples(&ragged(4));
    let (_dir, path) = place();
    for bytes in [&whole, &begun] {
        for len in 0..=bytes.len() {
            fs::write(partial(&path), &bytes[..len]).unwrap();
            let cached = ragged(4).cached_on_disk(&path, "key").unwrap();
            assert_eq!(samples(&cached), expected, "cut at {len}");
            assert!(is_complete(&cached), "cut at {len}: {}", cached.status());
            let later = Counting::new(ragged(4)).cached_on_disk(&path, "key").unwrap();
            assert_eq!((samples(&later), later.inner.total()), (expected.clone(), 0), "cut at {len}");
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn every_bit_of_a_file_begun_is_guarded() {
    let (_, begun) = bytes_of_files(|| ragged(4));
    let expected = samples(&ragged(4));
    let (_dir, path) = place();
    let mut damaged = 0;
    for bit in 0..begun.len() * 8 {
        let mut flipped = begun.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(partial(&path), flipped).unwrap();
        let cached = ragged(4).cached_on_disk(&path, "key");
        if let Ok(cached) = &cached {
            // Damaged ones are found when they are read, or before.
            samples(cached);
        }
        drop(cached);
        if path.exists() {
            damaged += check_flipped(&path, &format!("bit {bit}"), &|| ragged(4), &expected).unwrap();
        }
        let _ = (fs::remove_file(&path), fs::remove_file(partial(&path)));
    }
    assert_eq!(damaged, 0, "nothing damaged gets into a complete file");
}

/// A crash of the whole system may leave any part of what was written and not synced, in any order.
#[test]
fn what_a_crash_of_the_system_leaves_is_gone_on_with() {
    let (_, begun) = bytes_of_files(|| ragged(4));
    let header = Header { num_samples: 4, key: "key".to_owned(), records: "(vec<u16>, string)".to_owned() };
    // This much was synced before the first record was written.
    let synced = header.index_start() as usize;
    let expected = samples(&ragged(4));
    let (_dir, path) = place();
    let mut num_damaged = 0;
    for seed in 0..500 {
        let mut rng = Visit::new(seed, 0, 0, 0).rng(0);
        let mut torn = begun.clone();
        let piece = 1 + rng.below(64) as usize;
        for bytes in torn[synced..].chunks_mut(piece) {
            match rng.below(6) {
                0 | 1 => bytes.fill(0),
                // What the disk held there before.
                2 => rng.fill_bytes(bytes),
                _ => {}
            }
        }
        if rng.below(3) == 0 {
            torn.truncate(synced + rng.below((torn.len() - synced) as u64) as usize);
        }
        fs::write(partial(&path), torn).unwrap();
        let cached = ragged(4).cached_on_disk(&path, "key").unwrap();
        assert_eq!(samples(&cached), expected, "seed {seed}");
        assert!(is_complete(&cached), "seed {seed}: {}", cached.status());
        let later = Counting::new(ragged(4)).cached_on_disk(&path, "key").unwrap();
        assert_eq!((samples(&later), later.inner.total()), (expected.clone(), 0), "seed {seed}");
        num_damaged += usize::from(later.status().num_damaged > 0);
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(num_damaged, 0);
}

#[test]
fn a_file_made_for_something_else_is_refused_and_replaced_if_asked_for() {
    for complete in [true, false] {
        let (_dir, path) = place();
        let cached = rows(4).cached_on_disk(&path, "one").unwrap();
        let file = if complete {
            cached.prepare(1, |_| Ok(())).unwrap();
            path.clone()
        } else {
            cached.get(1).unwrap();
            partial(&path)
        };
        drop(cached);
        let bytes = fs::read(&file).unwrap();
        let refused = |result: Result<()>, expected: &str| {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::State, Some(&*file)), "{error}");
            assert!(error.message().starts_with(expected), "{error}");
            assert!(error.message().ends_with("delete the file, choose another path, or set `rebuild`"), "{error}");
            assert_eq!(fs::read(&file).unwrap(), bytes, "what is refused is not touched");
        };
        let other_key = rows(4).cached_on_disk(&path, "two").map(drop);
        refused(other_key, "a cache file made with the key \"one\", expected \"two\";");
        let other_len = rows(5).cached_on_disk(&path, "one").map(drop);
        refused(other_len, "a cache file made for 4 samples, expected 5;");
        let other_type = from_fn(4, |_| [0_u16; 5]).cached_on_disk(&path, "one").map(drop);
        refused(other_type, "a cache file made for samples of type vec<u16>, expected [u16; 5];");

        let rebuilt = DiskCacheOptions::new(&path, "two").rebuild(true).open(rows(4)).unwrap();
        if complete {
            assert_eq!(fs::read(&path).unwrap(), bytes, "the old one stays until the new one is complete");
        }
        rebuilt.prepare(2, |_| Ok(())).unwrap();
        assert!(is_complete(&rebuilt));
        let later = DiskCacheOptions::new(&path, "two").rebuild(true).open(Counting::new(rows(4))).unwrap();
        assert_eq!((samples(&later), later.inner.total()), (samples(&rows(4)), 0), "one that fits is used");
    }
}

/// Samples of one layout that the sequence tells: `width` numbers.
fn told(width: usize) -> impl Sequence<Sample = ndarray::Array1<u8>> + Debug {
    from_fill(4, width, |index, row: &mut [u8]| {
        row.fill(index as u8);
        Ok(())
    })
}

#[test]
fn samples_of_another_layout_are_not_taken() {
    let (_dir, path) = place();
    let cached = told(5).cached_on_disk(&path, "key").unwrap();
    cached.get(1).unwrap();
    drop(cached);
    // While the file is filled they count as damaged, and are written afresh.
    let other = told(6).cached_on_disk(&path, "key").unwrap();
    let mut row = [9; 6];
    other.get_into(1, &mut row).unwrap();
    assert_eq!((row, other.status().num_damaged), ([1; 6], 1));
    other.prepare(1, |_| Ok(())).unwrap();
    let error = told(5).cached_on_disk(&path, "key").unwrap_err();
    assert!(error.message().starts_with("a cache file of samples of layout [6], expected [5]; "), "{error}");
    assert_eq!(error.kind(), ErrorKind::State);
    let rebuilt = DiskCacheOptions::new(&path, "key").rebuild(true).open(told(5)).unwrap();
    assert_eq!(samples(&rebuilt), samples(&told(5)));

    let (_dir, path) = place();
    let mixed = || from_fn(4, |index| ndarray::Array1::from_elem(5 + index % 2, 7_u8));
    mixed().cached_on_disk(&path, "key").unwrap().prepare(1, |_| Ok(())).unwrap();
    let error = told(5).cached_on_disk(&path, "key").unwrap_err();
    assert!(error.message().starts_with("a cache file of samples of different layouts, expected [5]; "), "{error}");
}

#[test]
fn what_is_no_cache_file_is_never_replaced() {
    let others: [&[u8]; 4] = [b"a photo", b"\x89prcachf and so on", &[0; 4000], b"\x89PNG\r\n\x1a\n................"];
    for bytes in others {
        let (_dir, path) = place();
        for file in [path.clone(), partial(&path)] {
            fs::write(&file, bytes).unwrap();
            for rebuild in [false, true] {
                let error = DiskCacheOptions::new(&path, "key").rebuild(rebuild).open(rows(4)).unwrap_err();
                assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*file)));
                assert!(error.message().starts_with("begins with ["), "{error}");
                assert_eq!(fs::read(&file).unwrap(), bytes);
            }
            fs::remove_file(file).unwrap();
        }
    }
    // A name that is a directory, and one in a directory that is not there.
    let (dir, path) = place();
    for file in [path.clone(), partial(&path)] {
        fs::create_dir(&file).unwrap();
        let error = DiskCacheOptions::new(&path, "key").rebuild(true).open(rows(4)).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*file)));
        fs::remove_dir(file).unwrap();
    }
    let error = rows(4).cached_on_disk(dir.path().join("no such folder").join("cache"), "key").unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "cannot open the cache file"));
    let error = rows(4).cached_on_disk(&path, "k".repeat(MAX_TEXT_LEN + 1)).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Argument, "a key of 65537 bytes, expected at most 65536"));
    assert!(!partial(&path).exists());
}

#[test]
fn another_version_is_refused() {
    let (whole, begun) = bytes_of_files(|| rows(4));
    let (_dir, path) = place();
    for (file, mut bytes) in [(path.clone(), whole), (partial(&path), begun)] {
        bytes[8] = 2;
        fs::write(&file, bytes).unwrap();
        let error = rows(4).cached_on_disk(&path, "key").unwrap_err();
        assert!(error.message().starts_with("cache file of version 2, expected 1; delete"), "{error}");
        assert_eq!((error.kind(), error.file()), (ErrorKind::State, Some(&*file)));
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn of_two_that_fill_a_file_the_second_does_without_it() {
    let (_dir, path) = place();
    let cached = || Counting::new(rows(6)).cached_on_disk(&path, "key").unwrap();
    let (first, second) = (cached(), cached());
    first.get(1).unwrap();
    assert!(matches!(second.status().state, DiskCacheState::InUse));
    check_rows(&second);
    let asked = second.inner.total();
    assert_eq!(second.get(1).unwrap(), [1; 5]);
    assert_eq!((second.inner.total(), second.layout()), (asked + 1, None));
    assert_eq!(second.prepare(1, |_| Ok(())).unwrap_err().message(), "another process is filling the cache file");
    second.on_epoch_start(1).unwrap();
    assert!(matches!(second.status().state, DiskCacheState::InUse));
    // The first is done: the second finds its file at the start of the next epoch.
    first.prepare(1, |_| Ok(())).unwrap();
    second.on_epoch_start(2).unwrap();
    assert!(is_complete(&second));
    let asked = second.inner.total();
    assert_eq!((samples(&second), second.inner.total()), (samples(&rows(6)), asked));

    // The first is gone: the second goes on with its file.
    fs::remove_file(&path).unwrap();
    let (first, second) = (cached(), cached());
    first.get(1).unwrap();
    drop(first);
    second.on_epoch_start(3).unwrap();
    assert_eq!(second.status().to_string(), "being filled, 1 of 6 samples, 0 damaged");
    let third = cached();
    second.prepare(2, |_| Ok(())).unwrap();
    third.prepare(2, |_| Ok(())).unwrap();
    assert!(is_complete(&third) && third.inner.total() == 0);
}

#[test]
fn when_a_file_cannot_be_written_samples_come_all_the_same() {
    let (_dir, path) = place();
    let cached = Counting::new(rows(6)).cached_on_disk(&path, "key").unwrap();
    cached.get(1).unwrap();
    let exchange = |file| match &mut *cached.phase() {
        Phase::Filling(filling) => Arc::get_mut(filling).unwrap().exchange(file),
        _ => panic!("it is being filled"),
    };
    let writable = exchange(fs::File::open(partial(&path)).unwrap());
    assert_eq!(samples(&cached), samples(&rows(6)));
    // Even if there is room again: nobody would know which part is missing.
    exchange(writable);
    for _ in 0..2 {
        assert_eq!(samples(&cached), samples(&rows(6)));
    }
    let error = stopped(&cached);
    assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "cannot write the cache file"));
    assert_eq!((error.file(), cached.status().num_cached), (Some(&*partial(&path)), 1));
    assert_eq!(cached.inner.counts(), [3, 1, 3, 3, 3, 3], "what is in the file still comes from it");
    let failed = cached.prepare(2, |_| Ok(())).unwrap_err();
    assert_eq!((failed.kind(), failed.message()), (ErrorKind::Io, "the cache file could not be filled"));
    assert!(std::error::Error::source(&failed).unwrap().to_string().starts_with("cannot write the cache file (file "));
    // A later process goes on with what was written.
    drop(cached);
    let later = Counting::new(rows(6)).cached_on_disk(&path, "key").unwrap();
    later.prepare(1, |_| Ok(())).unwrap();
    assert_eq!(later.inner.counts(), [1, 0, 1, 1, 1, 1]);
}

#[test]
fn a_record_that_is_damaged_after_it_was_written_is_loaded_each_time() {
    let (_dir, path) = place();
    let cached = Counting::new(rows(3)).cached_on_disk(&path, "key").unwrap();
    cached.get(1).unwrap();
    cached.filling().unwrap().damage(1);
    for _ in 0..3 {
        assert_eq!(cached.get(1).unwrap(), [1; 5]);
    }
    assert_eq!((cached.inner.counts(), cached.status().num_damaged), (vec![0, 4, 0], 1));
    cached.prepare(1, |_| Ok(())).unwrap();
    assert_eq!(samples(&cached), samples(&rows(3)));
    assert_eq!((cached.status().num_cached, cached.status().num_damaged), (2, 1));
    // In its row, too, where the file alone tells the layout.
    let mut row = [9; 5];
    cached.get_into(1, &mut row).unwrap();
    assert_eq!((row, cached.layout()), ([1; 5], Some(5)));
}

#[test]
fn a_damaged_sample_of_another_layout_is_an_error_and_no_panic() {
    let (_dir, path) = place();
    rows(3).cached_on_disk(&path, "key").unwrap().prepare(1, |_| Ok(())).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.windows(2).rposition(|pair| pair == [1, 0]).unwrap();
    bytes[end] ^= 1;
    fs::write(&path, bytes).unwrap();
    let cached = from_fn(3, |_| vec![7_u16; 4]).cached_on_disk(&path, "key").unwrap();
    let error = cached.get_into(1, &mut [0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "layout 4, expected 5 as of every sample of the sequence");
    assert_eq!(error.kind(), ErrorKind::Shape);
    // And a row that was made for another layout.
    assert_eq!(cached.get_into(0, &mut [0; 4]).unwrap_err().kind(), ErrorKind::Format);
}

#[test]
fn bytes_with_a_right_checksum_that_are_no_sample_are_damaged() {
    let (_dir, path) = place();
    from_fn(2, |_| [1_u8]).cached_on_disk(&path, "key").unwrap().prepare(1, |_| Ok(())).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The same file says of itself that it holds flags; only the second is one.
    let flags = Header { num_samples: 2, key: "key".to_owned(), records: "vec<bool>".to_owned() };
    let numbers = Header { records: "[u8; 1]".to_owned(), ..flags.clone() };
    assert_eq!(flags.index_start(), numbers.index_start());
    let (index, data) = (flags.index_start() as usize, flags.data_start().unwrap() as usize);
    let header = flags.to_bytes();
    bytes[..64].copy_from_slice(&header[..64]);
    bytes[128..header.len()].copy_from_slice(&header[128..]);
    bytes.truncate(data);
    for (at, record) in [[2_u8, 1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0, 0]].into_iter().enumerate() {
        let checksum = crc32fast::hash(&record);
        let entry = format::Entry { start: bytes.len() as u64, body_len: 1, layout_len: 8, checksum };
        bytes[index + 32 * at..][..32].copy_from_slice(&entry.to_bytes(at as u64));
        bytes.extend(record);
    }
    let seal = format::Seal { file_len: bytes.len() as u64, layout: None };
    bytes[64..128].copy_from_slice(&seal.to_bytes());
    let open = || Counting::new(from_fn(2, |_| vec![false])).cached_on_disk(&path, "key").unwrap();
    fs::write(&path, &bytes).unwrap();
    let cached = open();
    assert_eq!(samples(&cached), [[false], [true]], "the first one is the sequence's, the second the file's");
    assert_eq!((cached.status().num_damaged, cached.inner.total()), (1, 1));
    fs::rename(&path, partial(&path)).unwrap();
    let cached = open();
    assert_eq!(samples(&cached), [[false], [true]]);
    assert_eq!((is_complete(&cached), cached.status().num_damaged), (true, 0));
}

#[test]
#[cfg(unix)]
fn a_file_that_is_removed_while_it_is_filled_replaces_no_other() {
    let (_dir, path) = place();
    let first = rows(3).cached_on_disk(&path, "key").unwrap();
    first.get(0).unwrap();
    fs::remove_file(partial(&path)).unwrap();
    let second = rows(3).cached_on_disk(&path, "key").unwrap();
    second.get(1).unwrap();
    let error = first.prepare(1, |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    let expected = "the cache file was removed or replaced while it was being filled";
    assert_eq!(stopped(&first).message(), expected);
    assert_eq!(samples(&first), samples(&rows(3)));
    assert!(!path.exists());
    second.prepare(1, |_| Ok(())).unwrap();
    assert!(is_complete(&second));
}

#[test]
#[cfg(unix)]
fn a_name_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"c\xffche"));
    rows(3).cached_on_disk(&path, "key").unwrap().prepare(1, |_| Ok(())).unwrap();
    assert!(path.exists());
    let later = Counting::new(rows(3)).cached_on_disk(&path, "key").unwrap();
    assert_eq!((samples(&later), later.inner.total()), (samples(&rows(3)), 0));
}

#[test]
#[cfg(unix)]
fn a_file_that_must_not_be_read_or_written_is_an_error() {
    use std::os::unix::fs::PermissionsExt;

    let (_dir, path) = place();
    let cached = rows(3).cached_on_disk(&path, "key").unwrap();
    for (file, mode) in [(partial(&path), 0o400), (path.clone(), 0o000)] {
        if file == path {
            cached.prepare(1, |_| Ok(())).unwrap();
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        // The superuser may do it all the same.
        if fs::OpenOptions::new().read(true).write(true).open(&file).is_err() {
            let error = rows(3).cached_on_disk(&path, "key").unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*file)));
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_file_in_memory_may_shrink() {
    let (_dir, path) = place();
    ragged(5).cached_on_disk(&path, "key").unwrap().prepare(1, |_| Ok(())).unwrap();
    let cached = DiskCacheOptions::new(&path, "key").in_memory(true).open(Counting::new(ragged(5))).unwrap();
    fs::write(&path, b"").unwrap();
    assert_eq!((samples(&cached), cached.inner.total()), (samples(&ragged(5)), 0));
}

#[test]
fn long_records_begin_where_memory_is_copied_best() {
    let (_dir, path) = place();
    let mixed = || from_fn(6, |index| vec![index as u8; [3, 2000][index % 2]]);
    mixed().cached_on_disk(&path, "key").unwrap().prepare(3, |_| Ok(())).unwrap();
    let bytes = fs::read(&path).unwrap();
    for (index, len) in [(1, 2000), (2, 3), (3, 2000)] {
        let start = bytes.windows(len).position(|window| window == &mixed().get(index).unwrap()[..]).unwrap();
        assert_eq!(start % if len > 1000 { 64 } else { 8 }, 0);
    }
}

#[test]
fn debugging_tells_the_state() {
    let (_dir, path) = place();
    let cached = Told::still(2).cached_on_disk(&path, "key").unwrap();
    let text = format!("{cached:?}");
    assert!(text.contains("Filling") && text.contains("num_samples: 2"), "{text}");
}

#[test]
fn what_was_hardly_begun_is_begun_again() {
    let (_dir, path) = place();
    let header = rows(3).cached_on_disk(&path, "key").unwrap().header.to_bytes();
    let data_start = fs::metadata(partial(&path)).unwrap().len() as usize;
    for bytes in [vec![], vec![0; 5], vec![0; data_start], header[..5].to_vec(), header[..100].to_vec()] {
        fs::write(partial(&path), bytes).unwrap();
        rows(3).cached_on_disk(&path, "key").unwrap().prepare(1, |_| Ok(())).unwrap();
        assert_eq!(samples(&rows(3).cached_on_disk(&path, "key").unwrap()), samples(&rows(3)));
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn records_without_bytes_lie_within_the_file() {
    let (_dir, path) = place();
    let nothing = || Counting::new(from_fn(3, |_| [0_u8; 0])).cached_on_disk(&path, "key").unwrap();
    nothing().get(1).unwrap();
    // Some bytes that belong to no record.
    let bytes = fs::read(partial(&path)).unwrap();
    fs::write(partial(&path), [&bytes[..], &[1, 2, 3]].concat()).unwrap();
    nothing().prepare(1, |_| Ok(())).unwrap();
    let later = nothing();
    assert_eq!((samples(&later), later.inner.total(), later.status().num_damaged), (vec![[]; 3], 0, 0));
}

#[test]
fn caches_that_come_and_go_at_once_never_meet_a_file_that_is_not_theirs() {
    let (_dir, path) = place();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..150 {
                    let cached = rows(3).cached_on_disk(&path, "key").unwrap();
                    assert_eq!(samples(&cached), samples(&rows(3)));
                    match cached.status().state {
                        // Another thread may have been first.
                        DiskCacheState::Complete => drop(fs::remove_file(&path)),
                        DiskCacheState::InUse => {}
                        // Another thread may have removed what this one had just completed.
                        state => assert!(state.to_string().contains("was removed when it was complete"), "{state}"),
                    }
                }
            });
        }
    });
}

#[test]
fn entries_that_were_exchanged_are_damaged() {
    let (whole, _) = bytes_of_files(|| rows(4));
    let (_dir, path) = place();
    let header = Header { num_samples: 4, key: "key".to_owned(), records: "vec<u16>".to_owned() };
    let index = header.index_start() as usize;
    let mut exchanged = whole;
    let (first, rest) = exchanged[index..].split_at_mut(32);
    first.swap_with_slice(&mut rest[..32]);
    fs::write(&path, &exchanged).unwrap();
    let cached = rows(4).cached_on_disk(&path, "key").unwrap();
    assert_eq!(cached.status().num_damaged, 2, "before a record is read");
    assert_eq!(samples(&cached), samples(&rows(4)));
    fs::rename(&path, partial(&path)).unwrap();
    let cached = rows(4).cached_on_disk(&path, "key").unwrap();
    assert_eq!(cached.status().num_cached, 2);
    assert_eq!(samples(&cached), samples(&rows(4)));
}

#[test]
fn a_damaged_common_layout_is_refused() {
    let (mut whole, _) = bytes_of_files(|| rows(4));
    let (_dir, path) = place();
    *whole.last_mut().unwrap() ^= 1;
    fs::write(&path, &whole).unwrap();
    let error = rows(4).cached_on_disk(&path, "key").unwrap_err();
    assert!(error.message().starts_with("a cache file whose common layout is damaged; delete"), "{error}");
}

#[test]
fn of_several_samples_that_fail_the_first_is_told() {
    let (_dir, path) = place();
    let second = AtomicBool::new(false);
    let failing = try_from_fn(2, |index| -> Result<u8, String> {
        // The first one fails after the second.
        while index == 0 && !second.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        second.store(true, Ordering::Relaxed);
        Err(index.to_string())
    });
    let cached = failing.cached_on_disk(&path, "key").unwrap();
    assert_eq!(cached.prepare(2, |_| Ok(())).unwrap_err().index(), Some(0));
}

#[test]
fn whoever_has_prepared_a_file_finds_it_complete() {
    for _ in 0..40 {
        let (_dir, path) = place();
        let cached = rows(30).cached_on_disk(&path, "key").unwrap();
        thread::scope(|scope| {
            for threads in [0, 0, 2] {
                let cached = &cached;
                scope.spawn(move || {
                    cached.prepare(threads, |_| Ok(())).unwrap();
                    assert!(is_complete(cached), "{}", cached.status());
                });
            }
        });
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_file_to_fill_is_not_followed() {
    let (dir, path) = place();
    let victim = dir.path().join("victim");
    // What would be overwritten as a file that was hardly begun, one that would be refused, and one that would be made.
    for content in [Some(&[0; 10][..]), Some(b"precious"), None] {
        let _ = fs::remove_file(&victim);
        content.iter().for_each(|content| fs::write(&victim, content).unwrap());
        let _ = fs::remove_file(partial(&path));
        std::os::unix::fs::symlink(&victim, partial(&path)).unwrap();
        let error = rows(3).cached_on_disk(&path, "key").unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*partial(&path))));
        assert_eq!(fs::read(&victim).ok().as_deref(), content);
    }
}
