//! Tar shards in a bucket are what they are on a disk.

use procession::source::{ObjectTarShards, Objects, TarShards, TarWriter};
use procession::{AsyncSequence, BlockShuffle, Error, ErrorKind, Loader, Retry, Sequence};

use super::server::{Asked, Fault, Server};
use super::{all, block_on, in_memory, write};

/// A shard of samples whose images have `len` bytes or a few more.
fn shard(number: usize, samples: usize, len: usize) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for sample in 0..samples {
        let image: Vec<u8> = (0..len + sample).map(|at| (at * 7 + sample + number) as u8).collect();
        let label = format!("{}\n", (number + sample) % 10);
        let caption = format!("sample {sample} of shard {number}");
        let key = format!("{number}/{sample:05}");
        writer.append(&key, &[("jpg", &image[..]), ("cls", label.as_bytes()), ("txt", caption.as_bytes())]).unwrap();
    }
    writer.finish().unwrap()
}

fn server_with(lens: &[(usize, usize)]) -> Server {
    let server = Server::start();
    let shards = lens.iter().enumerate();
    write(
        &server.folder(),
        shards.map(|(number, &(samples, len))| (format!("t/s-{number:03}.tar"), shard(number, samples, len))),
    );
    server
}

fn asked_bytes(asked: &[Asked]) -> u64 {
    let ranges = asked.iter().filter_map(|asked| asked.range.as_deref());
    ranges
        .map(|range| {
            let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            end.parse::<u64>().unwrap() + 1 - start.parse::<u64>().unwrap()
        })
        .sum()
}

#[test]
fn samples_are_those_of_the_same_shards_on_a_disk() {
    let server = server_with(&[(20, 300), (0, 0), (3, 200_000), (7, 0)]);
    let here = TarShards::open(server.folder().join("t")).unwrap();
    let by_folder = ObjectTarShards::options().open_in_blocking(&server.bucket("t")).unwrap();
    let by_braces = ObjectTarShards::options().open_in_blocking(&server.bucket("t/s-{000..003}.tar")).unwrap();
    for there in [by_folder, by_braces] {
        assert_eq!(there.len(), here.len());
        assert!(there.shard_lens().eq(here.shard_lens()));
        assert!(there.shards().map(|(_, index)| index).eq(here.shards().map(|(_, index)| index)));
        assert_eq!(there.shards().nth(2).unwrap().0.to_str(), Some("s3://bucket/t/s-002.tar"));
        server.asked();
        for (index, sample) in all(&there).unwrap().into_iter().enumerate() {
            let expected = here.get(index).unwrap();
            assert_eq!((sample.key(), sample.label().unwrap()), (expected.key(), expected.label().unwrap()));
            assert_eq!(sample.text("txt").unwrap(), expected.text("txt").unwrap());
            assert!(sample.fields().zip(expected.fields()).all(|(a, b)| a.bytes() == b.bytes()));
            assert_eq!(there.size_bytes(index), here.size_bytes(index));
        }
        assert_eq!(server.asked().len(), here.len(), "one request a sample");
        assert_eq!(there.file(21).unwrap().to_str(), Some("s3://bucket/t/s-002.tar/2/00001.jpg"));
        let (here, there) = (here.images_and_labels(), there.images_and_labels());
        for (index, (image, label)) in all(&there).unwrap().into_iter().enumerate() {
            let expected = here.get(index).unwrap();
            assert_eq!((image.bytes(), label), (expected.0.bytes(), expected.1));
            assert_eq!(there.size_bytes(index), here.size_bytes(index));
        }
        assert_eq!(there.file(3).unwrap().to_str(), Some("s3://bucket/t/s-000.tar/0/00003.jpg"));
    }
    let one = ObjectTarShards::options().open_in_blocking(&server.bucket("t/s-002.tar")).unwrap();
    assert_eq!((one.len(), one.entry(1).key()), (3, "2/00001"));
}

#[test]
fn an_index_is_made_without_reading_the_data() {
    let server = server_with(&[(8, 3 << 20)]);
    let size = std::fs::metadata(server.folder().join("t/s-000.tar")).unwrap().len();
    server.asked();
    let shards = ObjectTarShards::options().open_in_blocking(&server.bucket("t")).unwrap();
    let asked = server.asked();
    assert_eq!(shards.len(), 8);
    assert!(asked_bytes(&asked) < size / 50, "{} of {size} bytes in {} requests", asked_bytes(&asked), asked.len());
    // Short ones are read over by few requests.
    let server = server_with(&[(2000, 100)]);
    let shards = ObjectTarShards::options().open_in_blocking(&server.bucket("t")).unwrap();
    let asked = server.asked();
    assert!(shards.len() == 2000 && asked.len() < 12, "{} requests", asked.len());
}

#[test]
fn an_index_beside_the_shard_or_in_the_cache_is_used_while_it_is_of_this_version() {
    let server = server_with(&[(50, 10), (50, 20)]);
    let bucket = server.bucket("t");
    let keeping = ObjectTarShards::options().index_objects(true);
    // By their names each is asked for its tag, which the listing of this server does not tell.
    let braces = server.bucket("t/s-{000..001}.tar");
    let first = ObjectTarShards::options().open_in_blocking(&braces).unwrap();
    block_on(first.put_index_objects()).unwrap();
    assert!(server.folder().join("t/s-001.tar.index").exists());
    server.asked();
    let again = keeping.open_in_blocking(&braces).unwrap();
    assert!(again.shards().map(|(_, index)| index).eq(first.shards().map(|(_, index)| index)));
    let asked = server.asked();
    assert!(asked.len() == 4 && asked.iter().all(|asked| asked.range.is_none()), "{asked:?}");
    // Another shard of the same size.
    let other = shard(7, 50, 10);
    write(&server.folder(), [("t/s-000.tar", &other)]);
    let changed = keeping.open_in_blocking(&braces).unwrap();
    assert_eq!((changed.entry(0).key(), changed.entry(50).key()), ("7/00000", "1/00000"));
    // Damage.
    write(&server.folder(), [("t/s-001.tar.index", b"tarindex and more")]);
    assert_eq!(keeping.open_in_blocking(&braces).unwrap().len(), 100);
    // In the cache on the disk.
    let dir = tempfile::tempdir().unwrap();
    for number in 0..2 {
        let cached = bucket.clone().disk_cache(dir.path(), 1 << 20).unwrap();
        server.asked();
        let shards = ObjectTarShards::options().open_in_blocking(&cached).unwrap();
        assert_eq!((shards.len(), server.asked().len() > 1), (100, number == 0));
    }
    // One that was made beside a file, by whoever reads files.
    let local = tempfile::tempdir().unwrap();
    write(local.path(), [("s.tar", &other)]);
    TarShards::options().index_file(true).open(local.path()).unwrap();
    let kept = std::fs::read(local.path().join("s.tar.index")).unwrap();
    // That it is used is seen by a change; in the first or the last sample the archive itself contradicts.
    for (key, is_used) in [(b"7/00003", true), (b"7/00000", false), (b"7/00049", false)] {
        let mut changed = kept.clone();
        let at = kept.windows(7).position(|bytes| bytes == key).unwrap();
        changed[at] = b'8';
        let checksum = crc32(&changed[13..]);
        changed[9..13].copy_from_slice(&checksum.to_le_bytes());
        write(local.path(), [("s.tar.index", &changed)]);
        let shards = keeping.open(&format!("file://{}", local.path().display())).unwrap();
        let keys: Vec<&str> = (0..50).map(|index| shards.entry(index).key()).collect();
        assert_eq!(keys.iter().any(|key| key.starts_with('8')), is_used);
    }
}

/// The checksum, bit by bit: the crate's own is not the tests' to use.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn shards_pass_through_a_loader_with_faults() {
    let server = server_with(&[(40, 700), (30, 900), (20, 1100)]);
    let shards = ObjectTarShards::options().open_in_blocking(&server.bucket("t")).unwrap();
    let here = TarShards::open(server.folder().join("t")).unwrap();
    let order = || BlockShuffle::from_lengths(here.shard_lens(), 2, 7).unwrap();
    let expected = Loader::builder(here.images_and_labels()).map(|(image, label)| (image.to_vec(), label));
    let expected = expected.collate(Ok::<_, Error>).sampler(order()).build().unwrap();
    let expected: Vec<_> = expected.epoch(2).map(|batch| batch.unwrap().into_inner()).collect();
    for fault in [Fault::Cut, Fault::Short, Fault::Long, Fault::Reset, Fault::Whole, Fault::Status(503, "SlowDown")] {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        server.decide(move |_| {
            let number = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number % 5 == 4 { fault } else { Fault::None }
        });
        let loader = Loader::remote(shards.images_and_labels())
            .concurrency(8)
            .retry(Retry::times(8))
            .map(|(image, label)| (image.to_vec(), label))
            .collate(Ok::<_, Error>)
            .sampler(order())
            .build()
            .unwrap();
        let batches: Vec<_> = loader.epoch(2).map(|batch| batch.unwrap().into_inner()).collect();
        assert!(batches == expected, "{fault:?}");
    }
    for (fault, kind) in [(Fault::Short, ErrorKind::Io), (Fault::Long, ErrorKind::Io), (Fault::Whole, ErrorKind::Io)] {
        server.decide(move |_| fault);
        let error = block_on(shards.get(0)).err().unwrap();
        assert_eq!(
            (error.kind(), error.file().unwrap().to_str()),
            (kind, Some("s3://bucket/t/s-000.tar")),
            "{fault:?}: {error}"
        );
    }
}

#[test]
fn what_is_no_shard_is_refused_with_its_name() {
    let server = Server::start();
    let open = |prefix: &str| ObjectTarShards::options().open_in_blocking(&server.bucket(prefix)).err().unwrap();
    write(
        &server.folder(),
        [
            ("none/x.txt", &b"x"[..]),
            ("gz/s.tar.gz", b"x"),
            ("bad/a.tar", &shard(1, 2, 3)),
            ("bad/b.tar", b"bad"),
            ("empty/a.tar", b""),
        ],
    );
    for (prefix, kind, url) in [
        ("none", ErrorKind::Format, "s3://bucket/none"),
        ("nothing", ErrorKind::Format, "s3://bucket/nothing"),
        ("gz", ErrorKind::Format, "s3://bucket/gz/s.tar.gz"),
        ("bad", ErrorKind::Format, "s3://bucket/bad/b.tar"),
        ("empty/a.tar", ErrorKind::Format, "s3://bucket/empty/a.tar"),
        ("bad/missing.tar", ErrorKind::Io, "s3://bucket/bad/missing.tar"),
        ("bad/{a,c}.tar", ErrorKind::Io, "s3://bucket/bad/c.tar"),
    ] {
        let error = open(prefix);
        assert_eq!((error.kind(), error.file().unwrap().to_str()), (kind, Some(url)), "{error}");
    }
    assert_eq!(open("bad/{a").kind(), ErrorKind::Argument);
    // Cut off between two members.
    let whole = shard(1, 2, 3);
    write(&server.folder(), [("cut.tar", &whole[..whole.len() - 1024])]);
    assert!(open("cut.tar").message().starts_with("no end of a tar archive in its"));
    let lenient =
        ObjectTarShards::options().allow_unterminated(true).open_in_blocking(&server.bucket("cut.tar")).unwrap();
    assert_eq!(lenient.len(), 2);
    let limited = ObjectTarShards::options().limit_bytes(10).open_in_blocking(&server.bucket("bad/a.tar")).unwrap();
    let error = block_on(limited.get(0)).err().unwrap();
    assert_eq!(
        (error.kind(), error.file().unwrap().to_str()),
        (ErrorKind::Limit, Some("s3://bucket/bad/a.tar/1/00000.jpg"))
    );
    // Exchanged while it is open.
    write(&server.folder(), [("t/s.tar", shard(1, 3, 500))]);
    let shards = ObjectTarShards::options().open_in_blocking(&server.bucket("t/s.tar")).unwrap();
    write(&server.folder(), [("t/s.tar", shard(2, 3, 500))]);
    let error = all(&shards).err().unwrap();
    assert_eq!((error.kind(), error.file().unwrap().to_str()), (ErrorKind::Format, Some("s3://bucket/t/s.tar")));
}

#[test]
fn a_field_that_is_missing_is_told_without_a_request() {
    let server = Server::start();
    let mut writer = TarWriter::new(Vec::new());
    writer.append("a", &[("jpg", b"x")]).unwrap();
    writer.append("b", &[("cls", b"1")]).unwrap();
    writer.append("c", &[("cls", b"one"), ("png", b"x")]).unwrap();
    write(&server.folder(), [("s.tar", writer.finish().unwrap())]);
    let pairs = ObjectTarShards::options().open_in_blocking(&server.bucket("s.tar")).unwrap().images_and_labels();
    server.asked();
    let error = |index: usize| block_on(pairs.get(index)).unwrap_err().to_string();
    assert_eq!(error(0), "sample `a` has no field `cls`, only `jpg` (file s3://bucket/s.tar/a.jpg)");
    assert!(error(1).starts_with("sample `b` has no field `jpg`, `jpeg`,"), "{}", error(1));
    assert!(server.asked().is_empty());
    assert_eq!(error(2), "label `one`, expected a number from 0 to 4294967295 (file s3://bucket/s.tar/c.cls)");
    // A store without such a thing as a listing of tars is any store.
    let objects = Objects::options().list_blocking(&in_memory(&["s.tar"])).unwrap();
    assert_eq!(objects.len(), 1);
}
