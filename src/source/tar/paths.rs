//! Which files are meant by a folder, or by braces in a name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The most files that braces may stand for.
const MAX_EXPANDED: u64 = 1_000_000;

/// What archives are compressed with, by the ends of names.
pub(in crate::source) const COMPRESSED: [&str; 16] = [
    ".tar.gz",
    ".tgz",
    ".tar.zst",
    ".tzst",
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tar.lz4",
    ".tlz4",
    ".tar.lzma",
    ".tlz",
    ".tar.lz",
    ".tar.Z",
    ".taz",
];

/// The archives that a path stands for: a file, all of a folder, or all that its braces expand to.
pub(super) fn archives(path: &Path) -> Result<Vec<PathBuf>> {
    let paths = match path.to_str() {
        // What is there under this very name is meant.
        Some(text) if text.contains('{') && !path.exists() => expand(text)?.into_iter().map(PathBuf::from).collect(),
        _ => vec![path.to_owned()],
    };
    let mut archives = Vec::new();
    for path in paths {
        if path.is_dir() {
            archives.extend(of_folder(&path)?);
        } else {
            archives.push(path);
        }
    }
    Ok(archives)
}

/// The archives of a folder, sorted by name.
fn of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed =
        |cause: std::io::Error| Error::new(ErrorKind::Io, "cannot list the folder").with_cause(cause).with_file(folder);
    let (mut archives, mut compressed) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if name.ends_with(".tar") {
            archives.push(path);
        } else if let Some(end) = COMPRESSED.iter().find(|end| name.ends_with(**end)) {
            compressed.push((folder.join(format!("{}.tar", &name[..name.len() - end.len()])), path));
        }
    }
    // To leave some of the data out would be worse than to stop.
    compressed.sort();
    if let Some((_, path)) = compressed.into_iter().find(|(plain, _)| !archives.contains(plain)) {
        let message =
            "compressed archive in a folder of shards: decompress it first, as samples are read where they lie";
        return Err(Error::new(ErrorKind::Format, message).with_file(path));
    }
    if archives.is_empty() {
        return Err(Error::new(ErrorKind::Format, "no `*.tar` in the folder, expected tar shards").with_file(folder));
    }
    archives.sort();
    Ok(archives)
}

/// Expands braces: `{000..009}` to its numbers, with as many digits, `{a,b}` to its parts.
pub(in crate::source) fn expand(text: &str) -> Result<Vec<String>> {
    let mut expanded = vec![String::new()];
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, inner) = (&rest[..open], &rest[open + 1..]);
        let close = inner.find('}').filter(|&close| !inner[..close].contains('{'));
        let Some(close) = close else {
            return Err(refused(text, "expected a `}` for each `{`, and none within another"));
        };
        let parts = parts(text, &inner[..close], MAX_EXPANDED / expanded.len() as u64)?;
        expanded =
            expanded.iter().flat_map(|start| parts.iter().map(move |part| format!("{start}{before}{part}"))).collect();
        rest = &inner[close + 1..];
    }
    expanded.iter_mut().for_each(|name| name.push_str(rest));
    Ok(expanded)
}

/// What stands between two braces, expanded to at most so many parts.
fn parts(text: &str, inner: &str, limit: u64) -> Result<Vec<String>> {
    let parts = match inner.split_once("..") {
        Some((first, last)) => numbers(text, first, last, limit)?,
        None if inner.contains(',') => inner.split(',').map(str::to_owned).collect(),
        None => return Err(refused(text, "expected `{000..009}` or `{a,b}`")),
    };
    if parts.len() as u64 > limit {
        return Err(too_many(text));
    }
    Ok(parts)
}

fn numbers(text: &str, first: &str, last: &str, limit: u64) -> Result<Vec<String>> {
    let number = |digits: &str| {
        let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        number.ok_or_else(|| refused(text, "expected two numbers, as in `{000..009}`"))
    };
    let padded = [first, last].iter().any(|digits| digits.len() > 1 && digits.starts_with('0'));
    let width = if padded { first.len().max(last.len()) } else { 0 };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(refused(text, &format!("expected the lower number first, not {first}..{last}")));
    }
    if last - first >= limit {
        return Err(too_many(text));
    }
    Ok((first..=last).map(|number| format!("{number:0width$}")).collect())
}

fn refused(text: &str, what: &str) -> Error {
    Error::argument(format!("braces in `{text}`: {what}"))
}

fn too_many(text: &str) -> Error {
    Error::new(ErrorKind::Limit, format!("braces in `{text}` stand for more than {MAX_EXPANDED} files"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_expand_as_in_a_shell() {
        for (text, expected) in [
            ("a.tar", &["a.tar"][..]),
            ("s-{0..2}.tar", &["s-0.tar", "s-1.tar", "s-2.tar"]),
            ("{098..101}", &["098", "099", "100", "101"]),
            ("{8..010}", &["008", "009", "010"]),
            ("{9..10}", &["9", "10"]),
            ("{a,b}/{1..2}.x", &["a/1.x", "a/2.x", "b/1.x", "b/2.x"]),
            ("x{,-test}", &["x", "x-test"]),
            ("{7..7}", &["7"]),
            ("a}b", &["a}b"]),
        ] {
            assert_eq!(expand(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn braces_that_mean_nothing_are_refused() {
        for (text, expected) in [
            ("a{b", "braces in `a{b`: expected a `}` for each `{`, and none within another"),
            ("{{1..2},3}", "braces in `{{1..2},3}`: expected a `}` for each `{`, and none within another"),
            ("{}", "braces in `{}`: expected `{000..009}` or `{a,b}`"),
            ("{a}", "braces in `{a}`: expected `{000..009}` or `{a,b}`"),
            ("{a..c}", "braces in `{a..c}`: expected two numbers, as in `{000..009}`"),
            ("{1..}", "braces in `{1..}`: expected two numbers, as in `{000..009}`"),
            ("{+1..2}", "braces in `{+1..2}`: expected two numbers, as in `{000..009}`"),
            ("{3..1}", "braces in `{3..1}`: expected the lower number first, not 3..1"),
        ] {
            let error = expand(text).unwrap_err();
            assert_eq!((error.kind(), error.message()), (ErrorKind::Argument, expected));
        }
        for text in ["{0..18446744073709551615}", "{0..1000000}", "{0..999}{0..1000}", "{0..999999}{a,b}"] {
            assert_eq!(expand(text).unwrap_err().kind(), ErrorKind::Limit, "{text}");
        }
        assert_eq!(expand("{0..999999}").unwrap().len(), 1_000_000);
    }

    #[test]
    fn a_folder_stands_for_its_archives_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::write(dir.path().join(name), b"").unwrap();
        let names = |path: &Path| -> Vec<String> {
            let archives = archives(path).unwrap();
            archives.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(archives(dir.path()).unwrap_err().message(), "no `*.tar` in the folder, expected tar shards");
        for name in ["b.tar", "a.tar", "a.tar.index", "c.tar.tmp", "._a.tar", "README"] {
            file(name);
        }
        assert_eq!(names(dir.path()), ["a.tar", "b.tar"]);
        assert_eq!(names(&dir.path().join("{b,a}.tar")), ["b.tar", "a.tar"]);
        // A name with braces is not expanded where there is such a file.
        file("{b,a}.tar");
        assert_eq!(names(&dir.path().join("{b,a}.tar")), ["{b,a}.tar"]);
        // A compressed archive is one that is left out, unless it is there in plain, too.
        file("a.tar.gz");
        assert_eq!(names(dir.path()), ["a.tar", "b.tar", "{b,a}.tar"]);
        file("d.tar.zst");
        let error = archives(dir.path()).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*dir.path().join("d.tar.zst"))));
        fs::remove_file(dir.path().join("d.tar.zst")).unwrap();
        for end in COMPRESSED {
            let path = dir.path().join(format!("e{end}"));
            fs::write(&path, b"").unwrap();
            assert_eq!(archives(dir.path()).unwrap_err().file(), Some(&*path));
            fs::remove_file(path).unwrap();
        }
    }
}
