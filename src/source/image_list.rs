//! Lists of images with labels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blob::Blob;
use super::classes::Classes;
use super::csv::table::{Fields, Parser, Rows, line_ends};
use super::files::Files;
use super::mapped::Mapped;
use crate::error::{Error, ErrorKind, Result};
use crate::sequence::{Sequence, check_index};

/// The most bytes in a line of a list: paths have a few thousand at most.
const MAX_LINE_BYTES: usize = 1 << 20;

/// How a list of images is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageListOptions {
    header: Option<bool>,
    names: Option<bool>,
    classes: Option<Vec<String>>,
    limit_bytes: u64,
}

impl Default for ImageListOptions {
    fn default() -> Self {
        Self { header: None, names: None, classes: None, limit_bytes: Files::LIMIT_BYTES }
    }
}

impl ImageListOptions {
    /// Whether the first line is a header, and no image. By default it is if it reads `path,label`; another one that seems
    /// to be a header, as only the others have a file with an extension, is an error.
    pub fn header(mut self, header: bool) -> Self {
        self.header = Some(header);
        self
    }

    /// Whether labels are the names of classes, be they `0`, `10` and `2`, or numbers. By default they are numbers if all of
    /// them are, and names if none of them is; a list of both is an error.
    pub fn names(mut self, names: bool) -> Self {
        self.names = Some(names);
        self
    }

    /// The names of the classes, in the order of their numbers, so that all lists of a data set are numbered alike. Labels
    /// are names then, and one that is none of these is an error. By default classes are the names that occur, in their
    /// order.
    pub fn classes(mut self, classes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.classes = Some(classes.into_iter().map(Into::into).collect());
        self
    }

    /// The most bytes that a file may have, as [`Files::limit_bytes`] has it. The default is 1 GiB.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Opens a list, as [`ImageList::open_csv`] does.
    ///
    /// # Errors
    ///
    /// As [`ImageList::open_csv`]; and of kind [`Argument`](ErrorKind::Argument) if the names of classes that were given are
    /// none, two are the same, or labels shall be numbers all the same.
    pub fn open_csv(&self, path: impl AsRef<Path>) -> Result<ImageList> {
        let path = path.as_ref();
        let bytes = Mapped::read(path)?;
        self.parse_csv(&bytes, path.parent().unwrap_or(Path::new(""))).map_err(|error| error.with_file(path))
    }

    fn parse_csv(&self, bytes: &[u8], folder: &Path) -> Result<ImageList> {
        let given = self.classes.as_ref().map(Classes::new).transpose()?;
        if given.is_some() && self.names == Some(false) {
            return Err(Error::argument("classes and labels that are numbers, expected one of both"));
        }
        let mut lines = lines(bytes)?;
        if !lines.is_empty() && self.header.map_or_else(|| is_header(&lines), Ok)? {
            lines.remove(0);
        }
        if lines.is_empty() {
            return Err(Error::new(ErrorKind::Format, "an empty list, expected lines of a path and a label"));
        }
        let (labels, classes) = match given {
            Some(given) => number_names(&lines, given)?,
            None if self.are_names(&lines)? => {
                let names: BTreeSet<&str> = lines.iter().map(|line| &*line.label).collect();
                number_names(&lines, Classes::new(names)?)?
            }
            None => (numbers(&lines)?, Vec::new()),
        };
        let paths = lines.into_iter().map(|line| folder.join(line.file));
        Ok(ImageList::of(Files::new(paths).limit_bytes(self.limit_bytes), labels, classes))
    }

    /// Whether the labels are names.
    fn are_names(&self, lines: &[Line]) -> Result<bool> {
        if let Some(names) = self.names {
            return Ok(names);
        }
        let is_number = |line: &&Line| line.label.parse::<u32>().is_ok();
        match (lines.iter().find(is_number), lines.iter().find(|line| !is_number(line))) {
            (None, _) => {
                // Numbers that are no labels would make classes of their own, in the order of their digits.
                let is_other = |line: &&Line| {
                    let has_digit = line.label.bytes().any(|byte| byte.is_ascii_digit());
                    has_digit && line.label.parse::<f64>().is_ok()
                };
                lines.iter().find(is_other).map_or(Ok(true), |line| Err(line.no_number(None)))
            }
            (Some(number), Some(other)) => Err(other.no_number(Some(number))),
            (Some(_), None) => Ok(false),
        }
    }
}

/// A line of a list.
struct Line {
    /// Its number, from 1 on.
    line: u64,
    file: String,
    label: String,
}

impl Line {
    fn wrong(&self, what: &str) -> Error {
        wrong(self.line, what)
    }

    /// The error for a label that is no number, though that of another line is, or though it looks like one.
    fn no_number(&self, number: Option<&Self>) -> Error {
        let label = &self.label;
        let among = number.map_or(String::new(), |number| format!(" as that of line {} is", number.line));
        self.wrong(&format!(
            "label `{label}` is no number from 0 to {}{among}, expected numbers alone or names alone; the option `names` \
             takes all for names, and `header` tells of a header",
            u32::MAX
        ))
    }
}

fn wrong(line: u64, what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("line {line}: {what}"))
}

/// Reads all lines.
fn lines(bytes: &[u8]) -> Result<Vec<Line>> {
    let (mut of_rows, mut of_fields) = (Parser::new(b','), Parser::new(b','));
    let mut rows = Rows::new(bytes, &mut of_rows, MAX_LINE_BYTES);
    let (mut lines, mut fields) = (Vec::new(), Fields::default());
    let (mut line, mut counted) = (1, 0);
    while let Some(row) = rows.next()? {
        // Each line keeps its number, so that they are counted on the way.
        line += line_ends(&bytes[counted..row.start]);
        counted = row.start;
        if row.num_fields != 2 {
            return Err(wrong(line, &format!("{} fields, expected 2, a path and a label", row.num_fields)));
        }
        fields.read(&mut of_fields, &bytes[row.start..row.start + row.len], row.num_fields);
        let field =
            |at| std::str::from_utf8(fields.get(at)).map_err(|cause| wrong(line, "not UTF-8").with_cause(cause));
        let (file, label) = (field(0)?, field(1)?);
        // Hardly anything is named so, but what lies between two quotes too many is.
        if [file, label].iter().any(|field| field.contains(['\n', '\r'])) {
            return Err(wrong(line, "a line's end within quotes, expected a path and a label on one line"));
        }
        let (file, label) = (file.trim(), label.trim());
        if file.is_empty() || label.is_empty() {
            return Err(wrong(line, "an empty field, expected a path and a label"));
        }
        lines.push(Line { line, file: file.to_owned(), label: label.to_owned() });
    }
    Ok(lines)
}

/// Whether the first of these lines, of which there is one, is the header that is known. One that may be another is an
/// error: taken for an image it would make a class, and number those behind it otherwise.
fn is_header(lines: &[Line]) -> Result<bool> {
    let [first, others @ ..] = lines else { return Ok(false) };
    if first.file.eq_ignore_ascii_case("path") && first.label.eq_ignore_ascii_case("label") {
        return Ok(true);
    }
    let has_extension = |line: &Line| Path::new(&line.file).extension().is_some();
    if !others.is_empty() && !has_extension(first) && others.iter().all(has_extension) {
        let Line { file, label, .. } = first;
        let what =
            format!("`{file},{label}` may be a header, as its file alone has no extension; the option `header` tells");
        return Err(first.wrong(&what));
    }
    Ok(false)
}

fn numbers(lines: &[Line]) -> Result<Vec<u32>> {
    lines
        .iter()
        .map(|line| {
            line.label
                .parse()
                .map_err(|_| line.wrong(&format!("label `{}`, expected a number from 0 to {}", line.label, u32::MAX)))
        })
        .collect()
}

fn number_names(lines: &[Line], classes: Classes) -> Result<(Vec<u32>, Vec<String>)> {
    let number = |line: &Line| {
        classes
            .number(&line.label)
            .ok_or_else(|| line.wrong(&format!("label `{}`, expected {}", line.label, classes.expected())))
    };
    let labels = lines.iter().map(number).collect::<Result<_>>()?;
    Ok((labels, classes.names().to_vec()))
}

/// Images with labels, from a list.
///
/// Samples are `(Blob, u32)`: the file, not decoded, and its label.
///
/// # Examples
///
/// ```
/// use procession::source::ImageList;
///
/// let list = ImageList::new([("cats/1.jpg", 0), ("dogs/1.jpg", 1)]);
/// assert_eq!(list.labels(), [0, 1]);
/// ```
#[derive(Debug, Clone)]
pub struct ImageList {
    // Invariant: as many labels as files.
    files: Files,
    labels: Arc<[u32]>,
    classes: Arc<[String]>,
}

impl ImageList {
    /// These files with these labels. Whether they are there shows when they are read.
    pub fn new(images: impl IntoIterator<Item = (impl Into<PathBuf>, u32)>) -> Self {
        let (paths, labels): (Vec<PathBuf>, Vec<u32>) =
            images.into_iter().map(|(path, label)| (path.into(), label)).unzip();
        Self::of(Files::new(paths), labels, Vec::new())
    }

    pub(super) fn of(files: Files, labels: Vec<u32>, classes: Vec<String>) -> Self {
        assert_eq!(files.len(), labels.len(), "as many labels as files");
        Self { files, labels: labels.into(), classes: classes.into() }
    }

    /// The images that a CSV file lists: on each line a path and a label, after a first line `path,label` if there is one.
    ///
    /// A path that is not absolute starts at the folder of the list. If all labels are numbers they are taken as they are;
    /// if none of them is, they are the names of classes, which are numbered in the order of names, byte by byte.
    /// [`options`](Self::options) say it otherwise.
    ///
    /// # Cost
    ///
    /// Reads the whole list, and none of the files in it.
    ///
    /// # Errors
    ///
    /// With the list: of kind [`Io`](ErrorKind::Io) if it cannot be read; of kind [`Format`](ErrorKind::Format), with the
    /// line, if a line has not two fields, one of them is empty, has a line's end or is not UTF-8, a quote is not closed,
    /// some labels are numbers and others are not, or numbers are negative or not whole, or the first line seems to be
    /// another header; and if the list has no lines. Of kind [`Limit`](ErrorKind::Limit) if a line has more than a mebibyte.
    pub fn open_csv(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open_csv(path)
    }

    /// Options to open a list with.
    pub fn options() -> ImageListOptions {
        ImageListOptions::default()
    }

    /// The most bytes that a file may have, as [`Files::limit_bytes`] has it. The default is 1 GiB.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.files = self.files.limit_bytes(limit_bytes);
        self
    }

    /// The names of the classes, where labels were given as names: a label is a place among them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The label of each sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The path of each sample.
    pub fn paths(&self) -> &[PathBuf] {
        self.files.paths()
    }
}

impl Sequence for ImageList {
    type Sample = (Blob, u32);

    fn len(&self) -> usize {
        self.labels.len()
    }
    fn get(&self, index: usize) -> Result<(Blob, u32)> {
        check_index(index, self.labels.len());
        Ok((self.files.get(index)?, self.labels[index]))
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.files.file(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_sequence;
    use std::fs;

    /// A list in a folder with two files, each holding its own path.
    fn open(options: &ImageListOptions, text: impl AsRef<[u8]>) -> (tempfile::TempDir, Result<ImageList>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        for file in ["a.png", "sub/b.png"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        fs::write(dir.path().join("list.csv"), text).unwrap();
        let list = options.open_csv(dir.path().join("list.csv"));
        (dir, list)
    }

    /// Labels and classes.
    fn labels(options: &ImageListOptions, text: &str) -> (Vec<u32>, String) {
        let list = open(options, text).1.unwrap();
        (list.labels().to_vec(), list.classes().join(" "))
    }

    fn refused(options: &ImageListOptions, text: impl AsRef<[u8]>) -> (ErrorKind, String) {
        let (dir, list) = open(options, text);
        let error = list.unwrap_err();
        assert_eq!(error.file(), Some(&*dir.path().join("list.csv")));
        (error.kind(), error.message().to_owned())
    }

    #[test]
    fn labels_are_numbers_or_names() {
        let options = ImageList::options();
        let (dir, list) = open(&options, "path,label\na.png,3\nsub/b.png,0\n");
        let list = list.unwrap();
        check_sequence(&list);
        assert_eq!((list.labels(), list.classes()), (&[3, 0][..], &[][..]));
        assert_eq!(list.get(1).unwrap().0.text().unwrap(), "sub/b.png");
        assert_eq!(list.limit_bytes(8).get(1).unwrap_err().kind(), ErrorKind::Limit);
        drop(dir);
        let names = "a.png, dog\n\"sub/b.png\",cat\nsub/b.png,dog";
        assert_eq!(labels(&options, names), (vec![1, 0, 1], "cat dog".to_owned()));
        // A second such line is a file of that name.
        let (dir, list) = open(&options, "path,label\npath,label\n");
        assert_eq!(list.unwrap().paths(), [dir.path().join("path")]);
        // In a list of files without extensions the first is one of them.
        assert_eq!(labels(&options, "one,7\ntwo,8\n").0, [7, 8]);
        assert_eq!(labels(&options, "one,seven\n"), (vec![0], "seven".to_owned()));
        // Names need not be letters, nor begin with one.
        assert_eq!(labels(&options, "a.png,1st\nb.png,nan\nc.png,-\n"), (vec![1, 2, 0], "- 1st nan".to_owned()));
    }

    #[test]
    fn options_say_what_is_a_header_a_name_or_a_class() {
        let plain = ImageList::options();
        for (options, text, expected) in [
            (plain.clone().header(true), "image,class\na.png,1\n", (vec![1], "")),
            (plain.clone().header(true), "image,class\na.png,dog\nb.png,cat\n", (vec![1, 0], "cat dog")),
            (plain.clone().header(false), "image,class\na.png,dog\n", (vec![0, 1], "class dog")),
            (plain.clone().header(false), "path,label\n", (vec![0], "label")),
            (plain.clone().names(true), "a.png,10\nb.png,9\nc.png,x\n", (vec![0, 1, 2], "10 9 x")),
            (plain.clone().names(true), "a.png,-1\nb.png,1\n", (vec![0, 1], "-1 1")),
            (plain.clone().names(false), "a.png,4\n", (vec![4], "")),
            (plain.clone().classes(["dog", "cow", "cat"]), "a.png,cat\nb.png,dog\n", (vec![2, 0], "dog cow cat")),
            (plain.clone().classes(["1", "0"]), "path,label\na.png,0\n", (vec![1], "1 0")),
        ] {
            assert_eq!(labels(&options, text), (expected.0, expected.1.to_owned()), "{options:?}, {text}");
        }
        for (options, text, kind, message) in [
            (
                plain.clone().classes(["cat"]),
                "a.png,cat\nb.png,dog\n",
                ErrorKind::Format,
                "line 2: label `dog`, expected a class, one of cat",
            ),
            (
                plain.clone().names(false),
                "a.png,cat\n",
                ErrorKind::Format,
                "line 1: label `cat`, expected a number from 0 to 4294967295",
            ),
            (
                plain.clone().names(false).classes(["cat"]),
                "a.png,cat\n",
                ErrorKind::Argument,
                "classes and labels that are numbers, expected one of both",
            ),
            (
                plain.clone().classes(["cat", "cat"]),
                "a.png,cat\n",
                ErrorKind::Argument,
                "two classes are named \"cat\", expected one",
            ),
            (
                plain.clone().header(true),
                "a.png,1\n",
                ErrorKind::Format,
                "an empty list, expected lines of a path and a label",
            ),
        ] {
            assert_eq!(refused(&options, text), (kind, message.to_owned()));
        }
    }

    #[test]
    fn labels_of_both_kinds_and_unknown_headers_are_refused_with_their_line() {
        let mixed = |line: u64, label: &str, number: Option<u64>| {
            let among = number.map_or(String::new(), |line| format!(" as that of line {line} is"));
            format!(
                "line {line}: label `{label}` is no number from 0 to 4294967295{among}, expected numbers alone or names \
                 alone; the option `names` takes all for names, and `header` tells of a header"
            )
        };
        let header = |text| {
            format!("line 1: `{text}` may be a header, as its file alone has no extension; the option `header` tells")
        };
        for (text, message) in [
            ("path,label\na.png,10\nb.png,1O\nc.png,2\n", mixed(3, "1O", Some(2))),
            ("a.png,1\nb.png,-1\n", mixed(2, "-1", Some(1))),
            ("a.png,cat\nb.png,dog\nc.png,7\n", mixed(1, "cat", Some(3))),
            ("a.png,1\nb.png,4294967296\n", mixed(2, "4294967296", Some(1))),
            ("a.png,x\nb.png,-1\n", mixed(2, "-1", None)),
            ("a.png,0.5\nb.png,1.5\n", mixed(1, "0.5", None)),
            ("a,1\nimage,label\n", mixed(2, "label", Some(1))),
            ("image,label\na,1\n", mixed(1, "label", Some(2))),
            ("image,label\na.png,1\n", header("image,label")),
            ("image,class\na.png,dog\nb.png,cat\n", header("image,class")),
        ] {
            assert_eq!(refused(&ImageList::options(), text), (ErrorKind::Format, message), "{text}");
        }
    }

    #[test]
    fn bad_lines_are_named_by_their_numbers() {
        let long = format!("a.png,1\n{}.png,1\n", "x".repeat(MAX_LINE_BYTES));
        let whole = "a line's end within quotes, expected a path and a label on one line";
        for (text, kind, message) in [
            ("", ErrorKind::Format, "an empty list, expected lines of a path and a label"),
            ("path,label\n", ErrorKind::Format, "an empty list, expected lines of a path and a label"),
            ("a.png,1\nb.png\n", ErrorKind::Format, "line 2: 1 fields, expected 2, a path and a label"),
            ("a.png,1\nb.png,1,2\n", ErrorKind::Format, "line 2: 3 fields, expected 2, a path and a label"),
            ("a.png,\n", ErrorKind::Format, "line 1: an empty field, expected a path and a label"),
            // Empty lines count.
            ("\n\npath,label\n\n\nb.png\n", ErrorKind::Format, "line 6: 1 fields, expected 2, a path and a label"),
            ("a.png,1\r\rb.png\r", ErrorKind::Format, "line 3: 1 fields, expected 2, a path and a label"),
            (
                "a.png,1\n\n\"b.png,1\nc.png,2\nd.png,3\n",
                ErrorKind::Format,
                "quote of the field from line 3 on is not closed, expected another before the end of the file",
            ),
            ("a.png,1\n\"b.png\n\",1\n", ErrorKind::Format, &format!("line 2: {whole}")),
            ("a.png,1\nb.png,\"2\nc.png,3\nd.png,\"\n", ErrorKind::Format, &format!("line 2: {whole}")),
            ("a.png,1\nb.png,\"2\nc.png\"\n", ErrorKind::Format, &format!("line 2: {whole}")),
            (
                &long,
                ErrorKind::Limit,
                "row from line 2 on has more than 1048576 bytes, the limit; perhaps a quote is not closed",
            ),
        ] {
            assert_eq!(refused(&ImageList::options(), text), (kind, message.to_owned()), "{text:.40}");
        }
        let (kind, message) = refused(&ImageList::options(), b"\na\xff.png,1\n");
        assert_eq!((kind, &*message), (ErrorKind::Format, "line 2: not UTF-8"));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ImageList::open_csv(dir.path()).unwrap_err().kind(), ErrorKind::Io);
    }
}
