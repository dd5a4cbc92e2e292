//! What may stand in the place of a file: each source that opens one names it, and none of them minds how it is named.

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(feature = "csv")]
use procession::source::Csv;
use procession::source::{Cifar, Idx, Lines, Tokens};
#[cfg(feature = "npy")]
use procession::source::{Npy, Npz, NpzWriter};
use procession::{Error, ErrorKind, Result};

/// A source: how a small file of it is made, and how one is opened, mapped or in memory. CIFAR has a directory of files,
/// of which the first is the one in question.
struct Source {
    name: &'static str,
    make: fn(&Path),
    open: fn(&Path, bool) -> Result<()>,
}

fn cifar_file(dir: &Path) -> PathBuf {
    dir.join("train.bin")
}

fn sources() -> Vec<Source> {
    #[allow(unused_mut, reason = "without features these are all")]
    let mut sources = vec![
        Source {
            name: "idx",
            make: |path| fs::write(path, b"\0\0\x08\x01\0\0\0\x02\x01\x02").unwrap(),
            open: |path, in_memory| Idx::options().in_memory(in_memory).open(path).map(drop),
        },
        Source {
            name: "lines",
            make: |path| fs::write(path, b"a\nb\n").unwrap(),
            open: |path, in_memory| Lines::options().in_memory(in_memory).open(path).map(drop),
        },
        Source {
            name: "tokens",
            make: |path| fs::write(path, b"abcd").unwrap(),
            open: |path, in_memory| Tokens::options().in_memory(in_memory).open::<u16>(path).map(drop),
        },
    ];
    #[cfg(feature = "csv")]
    sources.push(Source {
        name: "csv",
        make: |path| fs::write(path, b"a,b\n1,2\n").unwrap(),
        open: |path, in_memory| Csv::options().in_memory(in_memory).open(path).map(drop),
    });
    #[cfg(feature = "npy")]
    sources.push(Source {
        name: "npy",
        make: |path| Npy::save(path, &ndarray::array![1.5_f32]).unwrap(),
        open: |path, in_memory| Npy::options().in_memory(in_memory).open(path).map(drop),
    });
    #[cfg(feature = "npy")]
    sources.push(Source {
        name: "npz",
        make: |path| {
            let mut writer = NpzWriter::create(path).unwrap();
            writer.add("x", &ndarray::array![1.5_f32]).unwrap();
            writer.finish().unwrap();
        },
        open: |path, in_memory| Npz::options().in_memory(in_memory).open(path).map(drop),
    });
    sources
}

/// The error of a path that cannot be opened, which must name it.
fn error(source: &Source, path: &Path, in_memory: bool) -> Error {
    let error = (source.open)(path, in_memory).expect_err(source.name);
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(path)), "{}: {error}", source.name);
    error
}

#[test]
fn what_is_no_file_is_refused_by_every_source() {
    let dir = tempfile::tempdir().unwrap();
    for source in sources() {
        for in_memory in [false, true] {
            error(&source, &dir.path().join("missing"), in_memory);
            let of_directory = error(&source, dir.path(), in_memory);
            assert_eq!(of_directory.message(), "is a directory, expected a file");
            #[cfg(unix)]
            error(&source, Path::new("/dev/null"), in_memory);
        }
    }
}

#[cfg(unix)]
#[test]
fn names_need_not_be_text_and_locked_files_are_named() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    for source in sources() {
        let path = dir.path().join(std::ffi::OsStr::from_bytes(&[b"\xff\xfe.", source.name.as_bytes()].concat()));
        (source.make)(&path);
        for in_memory in [false, true] {
            (source.open)(&path, in_memory).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        // The superuser may read it all the same.
        if fs::File::open(&path).is_err() {
            error(&source, &path, false);
            error(&source, &path, true);
        }
    }
}

#[test]
fn empty_files_are_refused_or_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty");
    fs::write(&path, b"").unwrap();
    for source in sources() {
        for in_memory in [false, true] {
            let opened = (source.open)(&path, in_memory);
            // Nothing at all has no lines and no tokens; other formats have a header.
            assert_eq!(opened.is_ok(), matches!(source.name, "lines" | "tokens"), "{}", source.name);
            if let Err(error) = opened {
                assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*path)), "{}", source.name);
            }
        }
    }
}

#[test]
fn a_directory_of_files_is_refused_by_the_file_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let record = vec![0; 3074];
    fs::write(dir.path().join("test.bin"), &record).unwrap();
    for in_memory in [false, true] {
        fs::create_dir(cifar_file(dir.path())).unwrap();
        let error = Cifar::options().in_memory(in_memory).open_100(dir.path()).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*cifar_file(dir.path()))));
        fs::remove_dir(cifar_file(dir.path())).unwrap();
        fs::write(cifar_file(dir.path()), &record).unwrap();
        Cifar::options().in_memory(in_memory).open_100(dir.path()).unwrap();
        fs::remove_file(cifar_file(dir.path())).unwrap();
    }
}
