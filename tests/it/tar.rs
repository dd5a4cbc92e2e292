//! Tar archives as real programs write them: `tests/formats/make_tars.py` made them and says what Python finds in them.

use std::fs;
use std::path::{Path, PathBuf};

use procession::source::{TarIndex, TarShards, TarWriter};
use procession::{Error, ErrorKind, Sequence};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/tar"))
}

/// What the index has of an archive, in the form of the expectation.
fn listing(index: &TarIndex, bytes: &[u8]) -> Value {
    let sample = |entry: procession::source::TarEntry<'_>| {
        let field = |field: procession::source::TarField<'_>| {
            let range = field.range();
            json!({
                "extension": field.extension(),
                "member": field.member(),
                "offset": range.start,
                "size": field.size_bytes(),
                "crc32": crc32(&bytes[range.start as usize..range.end as usize]),
            })
        };
        json!({ "key": entry.key(), "fields": entry.fields().map(field).collect::<Vec<_>>() })
    };
    let passed_over = index.passed_over().iter().map(|member| json!([member.name, format!("{:?}", member.kind)]));
    json!({
        "samples": index.entries().map(sample).collect::<Vec<_>>(),
        "passed_over": passed_over.collect::<Vec<_>>(),
    })
}

/// The checksum of zlib, in the plainest way.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xedb8_8320 };
    !bytes.iter().fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| step(sum)))
}

#[test]
fn archives_of_other_programs_are_read_as_python_reads_them() {
    let expected = fs::read_to_string(folder().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() >= 14);
    for (name, expected) in expected {
        let path = folder().join(name);
        match (TarShards::open(&path), expected.get("error")) {
            (Ok(shards), None) => {
                let index = shards.shards().next().unwrap().1;
                assert_eq!(&listing(index, &fs::read(&path).unwrap()), expected, "{name}");
                assert!(index.is_terminated(), "{name}");
                blobs_are_the_files(&shards, expected);
            }
            (Err(error), Some(message)) => refused(&error, message.as_str().unwrap(), &path),
            (opened, _) => panic!("{name}: {opened:?}, expected {expected}"),
        }
    }
}

fn blobs_are_the_files(shards: &TarShards, expected: &Value) {
    for index in 0..shards.len() {
        let sample = shards.get(index).unwrap();
        let fields = expected["samples"][index]["fields"].as_array().unwrap();
        for (blob, field) in sample.fields().zip(fields) {
            assert_eq!(crc32(&blob), field["crc32"]);
            assert!(blob.name().ends_with(field["member"].as_str().unwrap()));
            let extension = field["extension"].as_str().unwrap();
            assert_eq!(sample.field(extension).unwrap(), blob);
        }
    }
}

fn refused(error: &Error, message: &str, path: &Path) {
    assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(path)));
    assert!(error.message().contains(message), "{error}, expected {message}");
}

/// What `make_tars.py` gives a file.
fn data_of(name: &str) -> Vec<u8> {
    let len = [0, 1, 511, 512, 513][crc32(name.as_bytes()) as usize % 5];
    format!("data of {name}\n").repeat(30).into_bytes().into_iter().take(len).collect()
}

/// The script's `verify` finds in these bytes what was written here, with Python's tarfile and with GNU tar.
#[test]
fn what_is_written_is_what_python_and_gnu_tar_were_shown() {
    let n = |len: usize| "n".repeat(len);
    let folder_and = |name: &str| format!("{}/{name}", "f".repeat(80));
    let (image, large) = (data_of("plain/000.jpg"), data_of("513"));
    let mut writer = TarWriter::new(Vec::new());
    writer.append("plain/000", &[("jpg", &image), ("cls", b"0"), ("seg.png", b"")]).unwrap();
    writer.append("plain/001", &[("cls", b"1\n"), ("JPG", &large)]).unwrap();
    writer.append(&n(96), &[("jpg", b"a name of 100 bytes")]).unwrap();
    writer.append(&n(97), &[("jpg", b"a name of 101 bytes")]).unwrap();
    writer.append(&folder_and(&n(60)), &[("jpg", b"a name with a prefix"), ("cls", b"2")]).unwrap();
    let key = format!("{}/{}", "g".repeat(200), "o".repeat(200));
    writer.append(&key, &[("txt", b"a name that ustar has no place for")]).unwrap();
    writer.append("日本/語", &[("txt", "日本語".as_bytes())]).unwrap();
    writer.append(&"日本".repeat(20), &[("txt", b"cut within a character")]).unwrap();
    let bytes = writer.finish().unwrap();
    let expected = fs::read(folder().join("written.tar")).unwrap_or_default();
    if let Some(path) = std::env::var_os("PROCESSION_WRITE_TAR") {
        fs::write(path, &bytes).unwrap();
    }
    let differs = bytes.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!((bytes.len(), differs), (expected.len(), None));
}
