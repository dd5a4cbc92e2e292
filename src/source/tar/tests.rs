//! Archives of all kinds, made by hand.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::sequence::Sequence;
use crate::testing::check_sequence;

/// A header with the right checksum.
pub(super) fn header(name: &[u8], flag: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sealed(block)
}

/// A header with other bytes at some place, and the right checksum.
pub(super) fn changed(mut block: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    block[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(block)
}

fn sealed(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

/// A member of some type.
pub(super) fn typed(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
    [header(name.as_bytes(), flag, data.len() as u64), padded(data)].concat()
}

/// A file.
pub(super) fn file(name: &str, data: &[u8]) -> Vec<u8> {
    typed(name, b'0', data)
}

/// Members and the end of an archive.
pub(super) fn archive<const N: usize>(members: [Vec<u8>; N]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn pax(records: &str) -> Vec<u8> {
    typed("PaxHeaders/x", b'x', records.as_bytes())
}

pub(super) fn scan(bytes: &[u8]) -> Result<TarIndex> {
    TarIndex::scan(Cursor::new(bytes), "the.tar")
}

/// The samples of an archive as text: `key: extension=data ...`.
fn listed(bytes: &[u8]) -> Vec<String> {
    let shards = TarShards::options().allow_unterminated(true).from_bytes(bytes.to_vec(), "the.tar").unwrap();
    let sample = |index| {
        let sample = shards.get(index).unwrap();
        let data = |extension: &str| String::from_utf8(sample.field(extension).unwrap().to_vec()).unwrap();
        let fields = sample.extensions().map(|extension| format!(" {extension}={}", data(extension)));
        format!("{}:{}", sample.key(), fields.collect::<String>())
    };
    (0..shards.len()).map(sample).collect()
}

fn message(result: Result<TarIndex>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.file(), Some(Path::new("the.tar")), "{error}");
    error.message().to_owned()
}

#[test]
fn files_with_the_same_name_up_to_the_first_dot_are_a_sample() {
    let bytes = archive([
        file("a/1.jpg", b"x"),
        file("a/1.seg.png", b""),
        file("a/1.CLS", b"7"),
        file("b/1.jpg", b"y"),
        file("b.c/1.jpg", b"z"),
        file("./1.tar.gz", b"w"),
        file("/1.jpg", b"v"),
        file("../1.jpg", b"u"),
        file("1.", b"t"),
        file("a/1.jpg", b"again"),
    ]);
    let expected = [
        "a/1: jpg=x seg.png= cls=7",
        "b/1: jpg=y",
        "b.c/1: jpg=z",
        "./1: tar.gz=w",
        "/1: jpg=v",
        "../1: jpg=u",
        "1: =t",
        "a/1: jpg=again",
    ];
    assert_eq!(listed(&bytes), expected);
    let index = scan(&bytes).unwrap();
    assert_eq!(index.extensions().collect::<Vec<_>>(), ["jpg", "seg.png", "cls", "tar.gz", ""]);
    assert_eq!(index.entry(0).field("cls").unwrap().member(), "a/1.CLS");
    assert_eq!(index.entry(0).field("CLS").unwrap().range(), 2048..2049);
    assert_eq!(index.entry(0).size_bytes(), 2);
    check_sequence(&TarShards::from_bytes(bytes, "the.tar").unwrap().map_keys());
}

#[test]
fn what_is_no_sample_is_counted_and_listed() {
    let bytes = archive([
        typed("a/", b'5', b""),
        typed("v7/", 0, b""),
        file("a/1.jpg", b"x"),
        typed("a/1.png", b'1', b""),
        typed("a/1.gif", b'2', b""),
        typed("null.dev", b'3', b""),
        typed("disk.dev", b'4', b""),
        typed("pipe.dev", b'6', b""),
        file("README", b"text"),
        file(".hidden.jpg", b"x"),
        file("a/._1.jpg", b"x"),
        file("__meta__/1.jpg", b"x"),
        file("__key__.jpg", b"x"),
        typed("label.jpg", b'V', b""),
        typed("dump.jpg", b'D', b"names"),
        file("a/1.cls", b"7"),
    ]);
    // They do not part the files of a sample. A name with more than underscores at its end is none of metadata.
    assert_eq!(listed(&bytes), ["a/1: jpg=x", "__key__: jpg=x", "a/1: cls=7"]);
    let index = scan(&bytes).unwrap();
    let passed_over: Vec<_> = index.passed_over().iter().map(|member| (member.name.as_str(), member.kind)).collect();
    let expected = [
        ("a/", TarMemberKind::Directory),
        ("v7/", TarMemberKind::Directory),
        ("a/1.png", TarMemberKind::HardLink),
        ("a/1.gif", TarMemberKind::SymbolicLink),
        ("null.dev", TarMemberKind::Device),
        ("disk.dev", TarMemberKind::Device),
        ("pipe.dev", TarMemberKind::Device),
        ("README", TarMemberKind::NoExtension),
        (".hidden.jpg", TarMemberKind::Hidden),
        ("a/._1.jpg", TarMemberKind::Hidden),
        ("__meta__/1.jpg", TarMemberKind::Metadata),
        ("label.jpg", TarMemberKind::Other),
        ("dump.jpg", TarMemberKind::Other),
    ];
    assert_eq!(passed_over, expected);
    assert_eq!(index.num_passed_over(), 13);
    let shards = TarShards::from_bytes(bytes, "the.tar").unwrap();
    assert_eq!((shards.num_passed_over(), shards.passed_over().count()), (13, 13));
}

#[test]
fn of_many_members_that_are_passed_over_the_first_are_listed() {
    let members: Vec<u8> = (0..1500).flat_map(|number| header(format!("{number}\u{e9}").as_bytes(), b'2', 0)).collect();
    let index = scan(&members).unwrap();
    assert_eq!((index.num_passed_over(), index.passed_over().len()), (1500, 1000));
    assert_eq!(index.passed_over()[999].name, "999\u{e9}");
    let index = scan(&archive([header(b"\xff", b'5', 0)])).unwrap();
    assert_eq!(index.passed_over()[0].name, "\u{fffd}");
}

#[test]
fn each_dialect_is_read() {
    let long = |len: usize| format!("{}.jpg", "n".repeat(len));
    let gnu = |member: Vec<u8>| [changed(member[..512].to_vec(), 257, b"ustar  \0"), member[512..].to_vec()].concat();
    let v7 = |member: Vec<u8>| [changed(member[..512].to_vec(), 257, &[0; 8]), member[512..].to_vec()].concat();
    let with = |member: Vec<u8>, at, bytes: &[u8]| {
        [changed(member[..512].to_vec(), at, bytes), member[512..].to_vec()].concat()
    };
    let long_name = |name: &str| gnu(typed("././@LongLink", b'L', format!("{name}\0").as_bytes()));
    let base_256 = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (what, bytes, expected) in [
        ("ustar", file("1.jpg", b"x"), "1: jpg=x".to_owned()),
        ("ustar, prefix", with(file("1.jpg", b"x"), 345, b"a/b"), "a/b/1: jpg=x".to_owned()),
        ("ustar, other version", with(with(file("1.jpg", b"x"), 345, b"a"), 263, b"\0\0"), "a/1: jpg=x".to_owned()),
        ("name of 100 bytes", file(&long(96), b"x"), format!("{}: jpg=x", "n".repeat(96))),
        ("GNU", gnu(file("1.jpg", b"x")), "1: jpg=x".to_owned()),
        (
            "GNU, times where others have a prefix",
            gnu(with(file("1.jpg", b"x"), 345, b"00012345")),
            "1: jpg=x".to_owned(),
        ),
        ("V7", v7(typed("1.jpg", 0, b"x")), "1: jpg=x".to_owned()),
        ("contiguous file", typed("1.jpg", b'7', b"x"), "1: jpg=x".to_owned()),
        ("size in spaces", with(file("1.jpg", b"x"), 124, b"         1 \0"), "1: jpg=x".to_owned()),
        ("size in base 256", with(file("1.jpg", b"x"), 124, &base_256), "1: jpg=x".to_owned()),
        ("GNU long name", [long_name(&long(300)), file("cut", b"x")].concat(), format!("{}: jpg=x", "n".repeat(300))),
        (
            "GNU long link",
            [gnu(typed("././@LongLink", b'K', &[b'l'; 600])), long_name("a.jpg"), file("cut", b"x")].concat(),
            "a: jpg=x".to_owned(),
        ),
        ("pax path", [pax("14 path=a.jpg\n"), file("cut", b"x")].concat(), "a: jpg=x".to_owned()),
        (
            "the last pax path",
            [pax("14 path=b.jpg\n14 path=a.jpg\n"), file("cut", b"x")].concat(),
            "a: jpg=x".to_owned(),
        ),
        ("no pax path", [pax("14 path=b.jpg\n8 path=\n"), file("a.jpg", b"x")].concat(), "a: jpg=x".to_owned()),
        ("pax size", [pax("9 size=1\n"), header(b"a.jpg", b'0', 0), padded(b"x")].concat(), "a: jpg=x".to_owned()),
        (
            "pax size where the header has none",
            [pax("9 size=1\n"), changed(header(b"a.jpg", b'0', 0), 124, b"garbage\0    "), padded(b"x")].concat(),
            "a: jpg=x".to_owned(),
        ),
        (
            "a pax value of several lines, one of which looks like a record",
            [pax("29 SCHILY.xattr.u=\n9 size=9\n\n9 size=1\n"), header(b"a.jpg", b'0', 0), padded(b"x")].concat(),
            "a: jpg=x".to_owned(),
        ),
        (
            "global pax header",
            [typed("g", b'g', b"21 comment=deadbeef1\n"), file("a.jpg", b"x")].concat(),
            "a: jpg=x".to_owned(),
        ),
        ("signed checksum", signed(header("\u{e9}.jpg".as_bytes(), b'0', 0)), "\u{e9}: jpg=".to_owned()),
    ] {
        assert_eq!(listed(&archive([bytes.clone()])).join(" "), expected, "{what}");
        // And so that what follows is found.
        assert_eq!(listed(&archive([bytes, file("z.jpg", b"z")])), [expected, "z: jpg=z".to_owned()], "{what}");
    }
}

/// A header with the checksum of programs that take bytes for signed numbers.
fn signed(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: i32 = block.iter().map(|&byte| i32::from(byte.cast_signed())).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn what_would_be_read_wrong_is_refused_with_its_place() {
    let a = || file("a.jpg", b"x");
    let at_1024 = |member: Vec<u8>| archive([a(), member]);
    let pax_file = |records: &str| at_1024([pax(records), file("b.jpg", b"y")].concat());
    let sized = |size: &[u8]| at_1024(changed(header(b"b.jpg", b'0', 0), 124, size));
    let long_name = || typed("././@LongLink", b'L', b"b.jpg\0");
    let sparse = "is a sparse file, which is not supported: write the archive without `--sparse`";
    for (bytes, expected) in [
        (vec![], "empty file, expected a tar archive".to_owned()),
        (b"hello".to_vec(), "5 bytes at byte 0, expected a tar header of 512".to_owned()),
        (vec![b'a'; 1024], "checksum `aaaaaaaa` of the tar header at byte 0, expected 137770".to_owned()),
        (
            [&[0x1f, 0x8b, 8, 0][..], &[7; 1000]].concat(),
            "compressed with gzip: decompress it first, as samples are read where they lie".to_owned(),
        ),
        (
            b"\x28\xb5\x2f\xfd".to_vec(),
            "compressed with zstd: decompress it first, as samples are read where they lie".to_owned(),
        ),
        ([a(), b"garbage".to_vec()].concat(), "7 bytes at byte 1024, expected a tar header of 512".to_owned()),
        (
            [a(), vec![1; 600]].concat(),
            r"checksum `\x01\x01\x01\x01\x01\x01\x01\x01` of the tar header at byte 1024, expected 1370".to_owned(),
        ),
        (
            [a(), header(b"b.jpg", b'0', 1000), vec![0; 300]].concat(),
            "member `b.jpg` at byte 1024 has 1000 bytes of data from byte 1536 on, and 700 of them are missing".to_owned(),
        ),
        (
            [a(), header(b"b/", b'D', 10)].concat(),
            "member `b/` at byte 1024 has 10 bytes of data from byte 1536 on, and 10 of them are missing".to_owned(),
        ),
        (at_1024(typed("b.jpg", b'S', b"y")), format!("member `b.jpg` at byte 1024 {sparse}")),
        (pax_file("22 GNU.sparse.major=1\n"), format!("member `b.jpg` at byte 2048 {sparse}")),
        (
            at_1024(typed("b.jpg", b'M', b"y")),
            "member `b.jpg` at byte 1024 continues on another volume, which is not supported".to_owned(),
        ),
        (
            at_1024(typed("b.jpg", b'X', b"y")),
            "member `b.jpg` at byte 1024 has an extended header of Solaris, which is not supported".to_owned(),
        ),
        (
            at_1024(typed("b.jpg", b'1', b"y")),
            "member `b.jpg` at byte 1024 is a hard link with a size of 1, expected 0".to_owned(),
        ),
        (
            at_1024(typed("b/", b'5', b"y")),
            "member `b/` at byte 1024 is a directory with a size of 1, expected 0".to_owned(),
        ),
        (
            at_1024(typed("b/", b'0', b"y")),
            "member `b/` at byte 1024 is a directory with a size of 1, expected 0".to_owned(),
        ),
        (
            at_1024(header(b"b\xff.jpg", b'0', 0)),
            r"the name `b\xff.jpg` of the member at byte 1024 is not UTF-8: rename the file".to_owned(),
        ),
        (
            at_1024(file("a.JPG", b"y")),
            "member `a.JPG` at byte 1024 is the second field `jpg` of its sample".to_owned(),
        ),
        (sized(&[b' '; 12]), "size `            ` in the header at byte 1024, expected a number".to_owned()),
        (sized(b"00000000008\0"), r"size `00000000008\x00` in the header at byte 1024, expected a number".to_owned()),
        (sized(b"-0000000001\0"), r"size `-0000000001\x00` in the header at byte 1024, expected a number".to_owned()),
        (
            sized(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            r"size `\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00` in the header at byte 1024, expected a number"
                .to_owned(),
        ),
        (
            sized(&[0xff; 12]),
            r"size `\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff` in the header at byte 1024, expected a number"
                .to_owned(),
        ),
        (
            sized(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            format!(
                "member `b.jpg` at byte 1024 has {} bytes of data from byte 1536 on, and {} of them are missing",
                u64::MAX,
                u64::MAX - 1024
            ),
        ),
        (
            pax_file("29 size=18446744073709551615\n"),
            format!(
                "member `b.jpg` at byte 2048 has {} bytes of data from byte 2560 on, and {} of them are missing",
                u64::MAX,
                u64::MAX - 1536
            ),
        ),
        (
            pax_file("29 size=18446744073709551616\n"),
            "pax header at byte 1024 has the size `18446744073709551616`, expected a number".to_owned(),
        ),
        (pax_file("11 size=-1\n"), "pax header at byte 1024 has the size `-1`, expected a number".to_owned()),
        (pax_file("14 path=b\0jpg\n"), r"pax header at byte 1024 has a path with a zero byte: `b\0jpg`".to_owned()),
        (pax_file("9 size=1\n9 size"), "pax header at byte 1024 has no whole record at its byte 9".to_owned()),
        (pax_file("99999 size=1\n"), "pax header at byte 1024 has no whole record at its byte 0".to_owned()),
        (pax_file("0 size=1\n"), "pax header at byte 1024 has no whole record at its byte 0".to_owned()),
        (pax_file("2 size=1\n"), "pax header at byte 1024 has no whole record at its byte 0".to_owned()),
        (pax_file("+9 size=1\n"), "pax header at byte 1024 has no whole record at its byte 0".to_owned()),
        (pax_file("9 size 1\n"), "pax header at byte 1024 has no whole record at its byte 0".to_owned()),
        (pax_file("9 size=12"), "pax header at byte 1024 has no whole record at its byte 0".to_owned()),
        (pax_file("5 =1\n"), "pax header at byte 1024 has no whole record at its byte 0".to_owned()),
        (
            at_1024(typed("g", b'g', b"9 size=1\n")),
            "global pax header at byte 1024 sets `size` for all members".to_owned(),
        ),
        (
            at_1024(typed("g", b'g', b"10 path=x\n")),
            "global pax header at byte 1024 sets `path` for all members".to_owned(),
        ),
        (at_1024(pax("9 size=1\n")), "header at byte 1024 describes a member that does not follow".to_owned()),
        (at_1024(long_name()), "header at byte 1024 describes a member that does not follow".to_owned()),
        (
            at_1024([long_name(), long_name(), a()].concat()),
            "header at byte 2048 gives a member its second long name".to_owned(),
        ),
        (
            at_1024([pax("14 path=b.jpg\n"), long_name(), a()].concat()),
            "header at byte 2048 gives a member its second long name".to_owned(),
        ),
        (
            at_1024([pax("14 path=b.jpg\n"), pax("9 size=1\n"), a()].concat()),
            "header at byte 2048 is the second with pax records for a member".to_owned(),
        ),
        (
            at_1024(header(b"././@LongLink", b'L', 1 << 19)),
            "member `././@LongLink` at byte 1024 has 524288 bytes of data from byte 1536 on, and 523264 of them are missing"
                .to_owned(),
        ),
    ] {
        assert_eq!(message(scan(&bytes)), expected);
    }
}

#[test]
fn a_long_name_buys_no_memory_beyond_a_limit() {
    for flag in [b'L', b'x', b'g'] {
        let error = scan(&archive([header(b"long", flag, 1 << 32)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(error.message(), "4294967296 bytes of names or pax records at byte 0, the limit is 1048576");
    }
    let name = vec![b'n'; 1 << 20];
    let bytes = archive([header(b"long", b'L', 1 << 20), name.clone(), file("cut", b"x")]);
    assert_eq!(scan(&bytes).unwrap().passed_over()[0].name.len(), 1 << 20);
    // In an error it is cut.
    let bytes = archive([header(b"long", b'L', 1 << 20), name, typed("cut", b'S', b"x")]);
    assert!(message(scan(&bytes)).len() < 400);
}

#[test]
fn the_end_of_an_archive_is_zeros_or_nothing() {
    let members = [file("a.jpg", b"x"), file("b.jpg", b"y")].concat();
    let expected = ["a: jpg=x", "b: jpg=y"];
    for (zeros, terminated) in
        [(1024, true), (512, true), (10240, true), (1_000_100, true), (1023, true), (511, false), (0, false)]
    {
        let bytes = [members.clone(), vec![0; zeros]].concat();
        assert_eq!(listed(&bytes), expected);
        assert_eq!(scan(&bytes).unwrap().is_terminated(), terminated, "{zeros}");
    }
    // The padding of the last member may be missing, and no more.
    assert_eq!(listed(&members[..members.len() - 511]), expected);
    assert!(scan(&members[..members.len() - 512]).is_err());
    let nothing = scan(&[0; 1024]).unwrap();
    assert!(nothing.is_empty() && nothing.is_terminated());
}

#[test]
fn what_stands_behind_the_end_is_an_error_with_its_place() {
    let [a, b] = ["a.jpg", "b.jpg"].map(|name| file(name, b"x"));
    let member = |start: u64, end: u64| {
        format!(
            "behind the end of the archive at byte {end} there is a member `b.jpg` at byte {start}, expected zeros alone: \
             archives that were joined are not read, and a header that was overwritten hides what follows"
        )
    };
    let data = |place: u64, end: u64| {
        format!("behind the end of the archive at byte {end} there is data at byte {place}, expected zeros alone")
    };
    let zeroed = |header: usize| {
        let mut bytes = archive([a.clone(), file("lost.jpg", &[7; 600]), b.clone()]);
        bytes[header..header + 512].fill(0);
        bytes
    };
    for (bytes, expected) in [
        ([&a[..], &[0; 512], &b, &[0; 1024]].concat(), member(1536, 1024)),
        // Joined as they are, and with the zeros that GNU tar writes.
        ([archive([a.clone()]), archive([b.clone()])].concat(), member(2048, 1024)),
        ([&a[..], &[0; 10240 - 1024], &b, &[0; 1024]].concat(), member(10240, 1024)),
        ([&[0; 1024][..], &b].concat(), member(1024, 0)),
        ([archive([a.clone()]), vec![0; 100_000], b"x".to_vec()].concat(), data(102_048, 1024)),
        ([&a[..], &[0; 600], &[7; 424]].concat(), data(1624, 1024)),
        (zeroed(0), data(512, 0)),
        (zeroed(1024), data(1536, 1024)),
    ] {
        assert_eq!(message(scan(&bytes)), expected);
        assert!(TarShards::options().allow_unterminated(true).from_bytes(bytes, "the.tar").is_err());
    }
}

fn of_all_kinds() -> Vec<u8> {
    archive([
        typed("d/", b'5', b""),
        file("d/a.jpg", &[7; 700]),
        pax("18 path=d/a.x.txt\n9 size=3\n"),
        file("cut", b"abc"),
        typed("././@LongLink", b'L', b"d/b.jpg\0"),
        file("cut", b"x"),
    ])
}

#[test]
fn every_cut_is_an_error_or_leaves_whole_members() {
    let bytes = of_all_kinds();
    let whole = scan(&bytes).unwrap();
    let places = |index: &TarIndex| -> Vec<_> {
        index.entries().flat_map(|e| e.fields().map(|f| (f.member(), f.range())).collect::<Vec<_>>()).collect()
    };
    let mut cut_between = 0;
    for len in 0..bytes.len() {
        match scan(&bytes[..len]) {
            Ok(index) => {
                let (cut, all) = (places(&index), places(&whole));
                assert_eq!(cut, all[..cut.len()], "cut at {len}");
                assert!(cut.iter().all(|(_, range)| range.end <= len as u64));
                // At the end of a header, data or padding, or within zeros.
                cut_between += 1;
            }
            Err(error) => assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(Path::new("the.tar")))),
        }
    }
    // Behind the directory, within the paddings of the three files, within the zeros.
    assert_eq!(cut_between, 1 + (1024 - 700 + 1) + (512 - 3 + 1) + (512 - 1 + 1) + 1023);
}

#[test]
fn every_bit_flip_is_an_error_or_changes_data_alone() {
    let bytes = of_all_kinds();
    let whole = scan(&bytes).unwrap();
    let mut accepted = 0;
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match scan(&flipped) {
            Ok(index) => {
                accepted += 1;
                let ends = bit / 8 >= bytes.len() - 1024;
                // Names and sizes in what describes a member have no checksum.
                let described = (2560..3072).contains(&(bit / 8)) || (4608..5120).contains(&(bit / 8));
                assert!(index == whole || ends || described, "bit {bit}");
                let within = index.entries().all(|e| e.fields().all(|f| f.range().end <= bytes.len() as u64));
                assert!(within, "bit {bit}");
            }
            Err(error) => assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(Path::new("the.tar")))),
        }
    }
    assert!(accepted > 8 * 700, "{accepted}");
}

#[test]
fn a_reader_that_fails_is_an_error_with_the_place() {
    struct Failing(Cursor<Vec<u8>>, u64);
    impl Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.position() >= self.1 { Err(io::Error::other("no more")) } else { self.0.read(buf) }
        }
    }
    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let bytes = of_all_kinds();
    let error = TarIndex::scan(Failing(Cursor::new(bytes), 2000), "the.tar").unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "cannot read the archive at byte 2048"));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("no more"));
}

#[test]
fn only_headers_are_read() {
    struct Counting(Cursor<Vec<u8>>, u64);
    impl Read for &mut Counting {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1 += buf.len() as u64;
            self.0.read(buf)
        }
    }
    impl Seek for &mut Counting {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let mut reader = Counting(Cursor::new(archive([file("a.jpg", &[1; 100_000]), file("b.jpg", &[2; 100_000])])), 0);
    assert_eq!(TarIndex::scan(&mut reader, "the.tar").unwrap().len(), 2);
    // Two of the members, and the two blocks of the end: the first of these once more with what follows.
    assert_eq!(reader.1, 2 * 512 + 512 + 2 * 512);
}

#[test]
fn a_sample_of_many_fields_takes_no_longer_than_many_samples() {
    let members: Vec<u8> = (0..20_000).flat_map(|number| header(format!("a.{number}").as_bytes(), b'0', 0)).collect();
    let index = scan(&members).unwrap();
    assert_eq!((index.len(), index.entry(0).fields().len()), (1, 20_000));
}

/// Keys and sizes, to compare.
pub(super) trait MapKeys {
    fn map_keys(self) -> impl Sequence<Sample = (String, usize)>;
}
impl MapKeys for TarShards {
    fn map_keys(self) -> impl Sequence<Sample = (String, usize)> {
        crate::SequenceExt::map(self, |sample| (sample.key().to_owned(), sample.fields().map(|blob| blob.len()).sum()))
    }
}
