use super::*;
use crate::testing::{check_rows, samples};
use ndarray::{Array2, Ix1, Ix2, array};

fn open(bytes: impl Into<Vec<u8>>) -> Result<Npz> {
    Npz::from_bytes(bytes.into(), "the-file")
}

fn npy_bytes(numbers: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    npy::write(&mut bytes, &ndarray::ArrayView1::from(numbers)).unwrap();
    bytes
}

/// A member of an archive, and what its entries say about it.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    bytes: Vec<u8>,
    method: u16,
    flags: u16,
    checksum: u32,
    len: u64,
}

impl Entry {
    fn stored(name: &str, content: &[u8]) -> Self {
        let (checksum, len) = (crc32fast::hash(content), content.len() as u64);
        Self { name: name.into(), bytes: content.to_vec(), method: 0, flags: 0, checksum, len }
    }

    fn deflated(name: &str, content: &[u8]) -> Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        Self { bytes: encoder.finish().unwrap(), method: 8, ..Self::stored(name, content) }
    }
}

fn u16s(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn u64s(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// An archive as the description has it, with numbers of 64 bits or without.
fn archive(entries: &[Entry], wide: bool) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let (name_len, size, start) = (entry.name.len() as u16, entry.bytes.len() as u64, bytes.len() as u64);
        let sizes = if wide { [u32::MAX; 3] } else { [size as u32, entry.len as u32, start as u32] };
        let extra = if wide { [u16s(&[1, 24]), u64s(&[entry.len, size, start])].concat() } else { Vec::new() };
        let shared = [
            u16s(&[20, entry.flags, entry.method, 0, 0]),
            u32s(&[entry.checksum, sizes[0], sizes[1]]),
            u16s(&[name_len, extra.len() as u16]),
        ]
        .concat();
        bytes.extend([&b"PK\x03\x04"[..], &shared, &entry.name, &extra, &entry.bytes].concat());
        let rest = [u16s(&[0, 0, 0]), u32s(&[0, sizes[2]])].concat();
        directory.extend([&b"PK\x01\x02"[..], &u16s(&[20]), &shared, &rest, &entry.name, &extra].concat());
    }
    let (start, count) = (bytes.len() as u64, entries.len() as u64);
    let end = start + directory.len() as u64;
    bytes.extend(&directory);
    if wide {
        bytes.extend([&b"PK\x06\x06"[..], &u64s(&[44]), &u16s(&[45, 45]), &u32s(&[0, 0])].concat());
        bytes.extend(u64s(&[count, count, directory.len() as u64, start]));
        bytes.extend([&b"PK\x06\x07"[..], &u32s(&[0]), &u64s(&[end]), &u32s(&[1])].concat());
        bytes.extend([&b"PK\x05\x06"[..], &u16s(&[0, 0, u16::MAX, u16::MAX]), &u32s(&[u32::MAX; 2])].concat());
    } else {
        let count = count as u16;
        bytes.extend([&b"PK\x05\x06"[..], &u16s(&[0, 0, count, count])].concat());
        bytes.extend(u32s(&[directory.len() as u32, start as u32]));
    }
    bytes.extend(u16s(&[0]));
    bytes
}

/// Two arrays, the second one compressed.
fn two(wide: bool) -> Vec<u8> {
    archive(&[Entry::stored("x.npy", &npy_bytes(&[1, 2, 3])), Entry::deflated("y.npy", &npy_bytes(&[4, 5]))], wide)
}

fn numbers(npz: &Npz, name: &str) -> Result<Vec<u8>> {
    Ok(npz.array(name)?.to_array::<u8, Ix1>()?.to_vec())
}

/// The message of an error that has to do with the archive as a whole.
fn message(result: Result<Npz>) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.file(), error.kind()), (Some(Path::new("the-file")), ErrorKind::Format), "{error}");
    error.message().to_owned()
}

/// The message of an error that has to do with the member `x.npy` of an archive of one.
fn refused(entry: Entry) -> String {
    let error = open(archive(&[entry], false)).unwrap().array("x").unwrap_err();
    assert_eq!((error.file(), error.kind()), (Some(Path::new("the-file/x.npy")), ErrorKind::Format), "{error}");
    error.message().to_owned()
}

#[test]
fn arrays_are_found_by_their_names() {
    for wide in [false, true] {
        let npz = open(two(wide)).unwrap();
        assert!(npz.names().eq(["x", "y"]));
        assert_eq!((npz.names().len(), npz.path()), (2, Path::new("the-file")));
        assert_eq!(numbers(&npz, "x").unwrap(), [1, 2, 3]);
        assert_eq!(numbers(&npz, "y").unwrap(), [4, 5]);
        assert_eq!(npz.array("y").unwrap().path(), Path::new("the-file/y.npy"));
        check_rows(&npz.array("x").unwrap().scalars::<u8>().unwrap());
        let error = npz.array("z").unwrap_err();
        assert_eq!(error.to_string(), "no array \"z\", expected one of x, y (file the-file)");
        assert_eq!(error.kind(), ErrorKind::Argument);
    }
    assert_eq!(open(archive(&[], false)).unwrap().names().len(), 0);
}

#[test]
fn an_array_that_is_not_compressed_is_a_part_of_the_archive() {
    let npz = open(two(false)).unwrap();
    let archive = npz.bytes.as_ptr_range();
    assert!(archive.contains(&npz.array("x").unwrap().data().as_ptr()));
    assert!(!archive.contains(&npz.array("y").unwrap().data().as_ptr()));
}

#[test]
fn order_is_the_archives_and_other_members_are_passed_over() {
    let entries = ["b.npy", "readme.txt", "a.npy", "/etc/c.npy", "folder/", "npy"]
        .map(|name| Entry::stored(name, &npy_bytes(name.as_bytes())));
    let npz = open(archive(&entries, false)).unwrap();
    assert!(npz.names().eq(["b", "a", "/etc/c"]));
    for name in ["a", "b", "/etc/c"] {
        assert_eq!(numbers(&npz, name).unwrap(), format!("{name}.npy").as_bytes());
    }
    assert_eq!(npz.array("/etc/c").unwrap().path(), Path::new("the-file//etc/c.npy"));
    let many: Vec<Entry> = (0..30).map(|at| Entry::stored(&format!("{at}.npy"), &npy_bytes(&[]))).collect();
    let error = open(archive(&many, false)).unwrap().array("x").unwrap_err();
    assert!(error.message().ends_with("17, 18, 19 and others"), "{error}");
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npz");
    let large = Array2::from_shape_fn((300, 100), |(y, x)| (1000 * y + x) as f32);
    let mut writer = NpzWriter::create(&path).unwrap();
    writer.add("layer/kernel", &large).unwrap();
    writer.add("größe", &ndarray::arr0(7_u8)).unwrap();
    let error = writer.add("größe", &array![1_u8]).unwrap_err();
    assert_eq!(
        (error.message(), error.kind()),
        ("array \"größe\" cannot be added to the archive", ErrorKind::Argument)
    );
    assert_eq!(error.file(), Some(&*path));
    assert!(!path.exists());
    writer.finish().unwrap();
    for npz in [Npz::open(&path).unwrap(), Npz::options().in_memory(true).open(&path).unwrap()] {
        assert!(npz.names().eq(["layer/kernel", "größe"]));
        assert_eq!(npz.array("layer/kernel").unwrap().to_array::<f32, Ix2>().unwrap(), large);
        assert_eq!(npz.array("größe").unwrap().shape(), [0; 0]);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // One that is given up leaves nothing.
    let mut writer = NpzWriter::create(dir.path().join("y.npz")).unwrap();
    writer.add("x", &large).unwrap();
    let many = ndarray::ArrayD::<u8>::zeros(vec![1; 65]);
    assert_eq!(writer.add("many", &many).unwrap_err().kind(), ErrorKind::Argument);
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(NpzWriter::create(dir.path().join("nowhere").join("x")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn every_cut_and_every_surplus_is_refused() {
    for wide in [false, true] {
        let whole = two(wide);
        for len in 0..whole.len() {
            assert_eq!(open(&whole[..len]).unwrap_err().kind(), ErrorKind::Format, "cut at {len}");
        }
        assert!(message(open([&whole[..], b"x"].concat())).starts_with("no end of a ZIP directory in a file of "));
        let shifted = message(open([b"x", &whole[..]].concat()));
        assert!(shifted.contains("expected it to end at byte") || shifted.contains("is not whole"), "{shifted}");
    }
    // What stands behind the end as its comment belongs to the archive.
    let mut commented = two(false);
    let at = commented.len() - 2;
    commented[at] = 3;
    assert_eq!(open([&commented[..], b"abc"].concat()).unwrap().names().len(), 2);
    assert!(open([&commented[..], b"abcd"].concat()).is_err());
}

#[test]
fn every_flipped_bit_gives_an_error_or_an_array() {
    for wide in [false, true] {
        let whole = two(wide);
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(npz) = open(flipped) else { continue };
            for name in npz.names() {
                if let Ok(npy) = npz.array(name) {
                    let len: usize = npy.shape().iter().product();
                    assert_eq!(len * npy.element().size_bytes(), npy.data().len(), "bit {bit}");
                }
            }
            // What is compressed has its checksum compared.
            assert!(numbers(&npz, "y").is_err() || numbers(&npz, "y").unwrap() == [4, 5], "bit {bit}");
        }
    }
}

#[test]
fn an_archive_that_lies_is_refused() {
    let plain = two(false);
    let end = plain.len() - 22;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = plain.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let start = u32::from_le_bytes(plain[end + 16..end + 20].try_into().unwrap());
    let len = u32::from_le_bytes(plain[end + 12..end + 16].try_into().unwrap());
    for (bytes, expected) in [
        (vec![], "no end of a ZIP directory in a file of 0 bytes, expected an NPZ archive".to_owned()),
        (vec![0; 100_000], "no end of a ZIP directory in a file of 100000 bytes, expected an NPZ archive".to_owned()),
        (with(end + 10, &[3]), "ZIP directory of 2 entries, expected 3 as the archive says".to_owned()),
        (with(end + 10, &[255, 255]), "ZIP directory of 2 entries, expected 65535 as the archive says".to_owned()),
        (with(end + 4, &[1]), "part 1 of a ZIP archive in several parts, expected a whole one".to_owned()),
        (
            with(end + 16, &[255; 4]),
            format!("ZIP directory of {len} bytes from byte 4294967295, expected it to end at byte {end}"),
        ),
        (with(start as usize, b"XX"), format!("ZIP directory has no sound entry 0 at byte {start}")),
        (with(start as usize + 28, &[255, 255]), format!("ZIP directory has no sound entry 0 at byte {start}")),
        (with(start as usize + 46, &[255]), format!("ZIP directory has no sound entry 0 at byte {start}")),
    ] {
        assert_eq!(message(open(bytes)), expected);
    }
    let wide = two(true);
    let end_64 = wide.len() - 22 - 20 - 56;
    for (at, bytes) in [(32, &[255; 8][..]), (40, &[255; 8]), (48, &[255; 8]), (0, b"XX"), (56 + 8, &[255; 8])] {
        let mut changed = wide.clone();
        changed[end_64 + at..end_64 + at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(open(changed).unwrap_err().kind(), ErrorKind::Format, "byte {at}");
    }
    let twice = [Entry::stored("x.npy", b""), Entry::stored("y.npy", b""), Entry::stored("x.npy", b"")];
    assert_eq!(message(open(archive(&twice, false))), "two members named \"x.npy\", expected one");
    let latin = Entry { name: b"gr\xf6\xdfe.npy".to_vec(), ..Entry::stored("", b"") };
    assert_eq!(message(open(archive(&[latin], false))), "ZIP directory has no sound entry 0 at byte 39");
}

#[test]
fn a_member_that_cannot_be_read_is_named() {
    let content = npy_bytes(&[7; 100]);
    let (stored, deflated) = (Entry::stored("x.npy", &content), Entry::deflated("x.npy", &content));
    let size = deflated.bytes.len();
    assert_eq!(
        refused(Entry { flags: 1, ..deflated.clone() }),
        "encrypted, expected a member that is stored or deflated"
    );
    let expected = "compressed by method 14, expected 0 (stored) or 8 (deflated)";
    assert_eq!(refused(Entry { method: 14, ..deflated.clone() }), expected);
    assert_eq!(refused(Entry { len: 9, ..stored.clone() }), "228 bytes stored, expected 9 as the directory says");
    let expected = format!("checksum {:08x}, expected 00000007 as the directory says", stored.checksum);
    assert_eq!(refused(Entry { checksum: 7, ..deflated.clone() }), expected);
    let expected = format!("deflate stream of {size} bytes holds 228 bytes, expected {size} for 229");
    assert_eq!(refused(Entry { len: 229, ..deflated.clone() }), expected);
    let expected = format!("deflate stream of {size} bytes holds 227 bytes and more, expected {size} for 227");
    assert_eq!(refused(Entry { len: 227, ..deflated.clone() }), expected);
    let tail = Entry { bytes: [&deflated.bytes[..], b"tail"].concat(), ..deflated.clone() };
    let expected = format!("deflate stream of {size} bytes holds 228 bytes, expected {} for 228", size + 4);
    assert_eq!(refused(tail), expected);
    assert!(refused(Entry { bytes: vec![255; 50], ..deflated }).starts_with("deflate stream is damaged: "));
    assert!(refused(Entry::stored("x.npy", b"text")).starts_with("first bytes [74, 65, 78, 74], expected "));
    // Its own header is another's, or beyond the end.
    let mut swapped = archive(&[Entry::stored("x.npy", b""), Entry::stored("y.npy", b"")], false);
    let second = 30 + 5;
    let offset_of_first = 2 * (30 + 5) + 42;
    for offset in [second, swapped.len() as u32, u32::MAX - 1] {
        swapped[offset_of_first..offset_of_first + 4].copy_from_slice(&offset.to_le_bytes());
        let error = open(swapped.clone()).unwrap().array("x").unwrap_err();
        assert_eq!(error.message(), format!("no sound header of this member at byte {offset} of the archive"));
    }
    let mut long = archive(&[Entry::stored("x.npy", b"")], false);
    // Both sizes in the directory.
    long[35 + 20..35 + 28].copy_from_slice(&u32s(&[1000, 1000]));
    let error = open(long.clone()).unwrap().array("x").unwrap_err();
    assert_eq!(error.message(), format!("bytes 35..1035 of an archive of {} bytes, expected a part of it", long.len()));
}

#[test]
fn the_limit_holds_and_a_length_that_lies_buys_no_memory() {
    let content = npy_bytes(&[7; 1000]);
    let bytes = archive(&[Entry::deflated("x.npy", &content), Entry::stored("y.npy", &content)], false);
    let limited = |limit| Npz::options().limit_bytes(limit).from_bytes(bytes.clone(), "the-file").unwrap();
    assert_eq!(numbers(&limited(1128), "x").unwrap().len(), 1000);
    let error = limited(1127).array("x").unwrap_err();
    assert_eq!((error.message(), error.kind()), ("1128 bytes decompressed, the limit is 1127", ErrorKind::Limit));
    assert_eq!(numbers(&limited(0), "y").unwrap().len(), 1000);
    let lie = Entry { len: 1 << 30, ..Entry::deflated("x.npy", &content) };
    let expected = format!("1073741824 bytes in {} deflated ones, more than they can hold", lie.bytes.len());
    assert_eq!(refused(lie), expected);
}

#[test]
fn a_file_in_memory_may_shrink_and_what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npz");
    std::fs::write(&path, two(false)).unwrap();
    let npz = Npz::options().in_memory(true).open(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    assert_eq!(samples(&npz.array("x").unwrap().scalars::<u8>().unwrap()), [1, 2, 3]);
    assert_eq!(Npz::open(&path).unwrap_err().kind(), ErrorKind::Format);
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = Npz::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*path)));
    }
}

#[test]
fn an_archive_that_an_array_could_not_be_written_to_does_not_get_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npz");
    std::fs::write(&path, b"old").unwrap();
    let large = ndarray::Array1::<u8>::zeros(100_000);
    let mut writer = NpzWriter::create(&path).unwrap();
    writer.add("before", &array![1_u8]).unwrap();
    // As on a disk that is full, and has room again afterwards.
    crate::file::FAILING.set(true);
    let failed = writer.add("large", &large);
    crate::file::FAILING.set(false);
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io);
    for result in [writer.add("after", &array![1_u8]), writer.finish()] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "an array could not be written before"));
        assert_eq!(error.file(), Some(&*path));
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
