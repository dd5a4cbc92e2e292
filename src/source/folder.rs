//! Images in folders, one for each class, and lists of images with labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blob::Blob;
use super::files::Files;
use super::mapped::Mapped;
use super::walk::{Entry, PassedOver, PassedOverReason, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::image::ImageFormat;
use crate::sequence::{Sequence, check_index};

/// How a folder of images is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageFolderOptions {
    follow_links: bool,
}

impl ImageFolderOptions {
    /// Whether symbolic links may lead out of the folder. The default is `false`: those that do are passed over.
    pub fn follow_links(mut self, follow_links: bool) -> Self {
        self.follow_links = follow_links;
        self
    }

    /// Opens a folder, as [`ImageFolder::open`] does.
    ///
    /// # Errors
    ///
    /// As [`ImageFolder::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<ImageFolder> {
        ImageFolder::walk(path.as_ref(), self.follow_links)
    }

    /// Opens a folder without classes, as [`ImageFolder::open_unlabelled`] does.
    ///
    /// # Errors
    ///
    /// As [`ImageFolder::open`].
    pub fn open_unlabelled(&self, path: impl AsRef<Path>) -> Result<Files> {
        let path = path.as_ref();
        let mut walk = Walk::new(path, &ImageFormat::EXTENSIONS, self.follow_links)?;
        walk.folder(path)?;
        if walk.files.is_empty() {
            return Err(nothing(path, &walk.passed_over));
        }
        Ok(Files::new(walk.files))
    }
}

/// Images in a folder, in a subfolder for each class: `folder/<class>/<file>`, at any depth below the class.
///
/// Samples are `(Blob, u32)`: the file, not decoded, and its class. Classes are numbered in the order of their names, byte
/// by byte, and files come in the order of classes and names, so that an index is the same image on every machine.
/// Files are images if their names end in `.jpg`, `.jpeg`, `.png`, `.gif`, `.webp`, `.bmp`, `.tif`, `.tiff`, `.ppm` or
/// their kin; whatever else is there is passed over and listed in [`passed_over`](Self::passed_over).
///
/// # Cost
///
/// Opening lists the folders and reads no file. The paths are in memory.
///
/// # Examples
///
/// ```no_run
/// use procession::image::ImageTransform;
/// use procession::source::ImageFolder;
/// use procession::{Loader, SequenceExt};
///
/// let photos = ImageFolder::open("photos")?;
/// println!("{} photos of {:?}, {} files passed over", photos.labels().len(), photos.classes(), photos.passed_over().len());
/// let (train, held_out) = photos.split(0.9, 7)?;
/// let train = Loader::builder(train).transform(ImageTransform::new().resize(200, 200).to_f32()).shuffle(7).build()?;
/// # let _ = (train, held_out);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageFolder {
    list: ImageList,
    passed_over: Arc<[PassedOver]>,
}

impl ImageFolder {
    /// Opens a folder.
    ///
    /// # Errors
    ///
    /// With the folder: of kind [`Io`](ErrorKind::Io) if it, or one below it, cannot be listed; of kind
    /// [`Format`](ErrorKind::Format) if there is no image in it that has a class.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Opens a folder of images without classes: samples are the files alone, those of its subfolders too.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_unlabelled(path: impl AsRef<Path>) -> Result<Files> {
        Self::options().open_unlabelled(path)
    }

    /// Options to open a folder with.
    pub fn options() -> ImageFolderOptions {
        ImageFolderOptions::default()
    }

    fn walk(path: &Path, follow_links: bool) -> Result<Self> {
        let mut walk = Walk::new(path, &ImageFormat::EXTENSIONS, follow_links)?;
        let (mut classes, mut labels) = (Vec::new(), Vec::new());
        for entry in Walk::list(path)? {
            match walk.kind(&entry)? {
                Some(Entry::Folder) => {
                    let label = label_of(classes.len())?;
                    classes.push(entry.file_name().unwrap_or_default().to_string_lossy().into_owned());
                    walk.folder(&entry)?;
                    labels.resize(walk.files.len(), label);
                }
                Some(Entry::File) => walk.pass_over(entry, PassedOverReason::NoClass),
                None => {}
            }
        }
        if walk.files.is_empty() {
            return Err(nothing(path, &walk.passed_over));
        }
        let list = ImageList { files: Files::new(walk.files), labels: labels.into(), classes: classes.into() };
        Ok(Self { list, passed_over: walk.passed_over.into() })
    }

    /// The names of the classes: a label is a place among them.
    pub fn classes(&self) -> &[String] {
        &self.list.classes
    }

    /// The label of each sample.
    pub fn labels(&self) -> &[u32] {
        &self.list.labels
    }

    /// The path of each sample.
    pub fn paths(&self) -> &[PathBuf] {
        self.list.files.paths()
    }

    /// What is in the folder and no sample.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }
}

fn label_of(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::new(ErrorKind::Limit, "more than 2^32 classes"))
}

fn nothing(path: &Path, passed_over: &[PassedOver]) -> Error {
    let mut message = format!("no image in the folder, and {} files passed over", passed_over.len());
    if let Some(first) = passed_over.first() {
        message = format!("{message}, such as {}: {}", first.path.display(), first.reason);
    }
    Error::new(ErrorKind::Format, message).with_file(path)
}

impl Sequence for ImageFolder {
    type Sample = (Blob, u32);

    fn len(&self) -> usize {
        self.list.len()
    }
    fn get(&self, index: usize) -> Result<(Blob, u32)> {
        self.list.get(index)
    }
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.list.file(index)
    }
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
        Self { files: Files::new(paths), labels: labels.into(), classes: Arc::default() }
    }

    /// The images that a CSV file lists: on each line a path and a label, after a first line `path,label` if there is one.
    ///
    /// A path that is not absolute starts at the folder of the list. If all labels are numbers they are taken as they are,
    /// otherwise they are the names of classes, which are numbered in the order of names, byte by byte.
    ///
    /// # Cost
    ///
    /// Reads the whole list, and none of the files in it.
    ///
    /// # Errors
    ///
    /// With the list: of kind [`Io`](ErrorKind::Io) if it cannot be read, of kind [`Format`](ErrorKind::Format), with the
    /// line, if a line has not two fields, one of them is empty, or the list is not UTF-8 or has no lines.
    pub fn open_csv(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = Mapped::read(path)?;
        Self::parse_csv(&bytes, path.parent().unwrap_or(Path::new(""))).map_err(|error| error.with_file(path))
    }

    fn parse_csv(bytes: &[u8], folder: &Path) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let (mut paths, mut labels) = (Vec::new(), Vec::new());
        let mut record = csv::StringRecord::new();
        loop {
            let line = reader.position().line();
            let wrong = |what: String| Error::new(ErrorKind::Format, format!("line {line}: {what}"));
            if !reader.read_record(&mut record).map_err(|cause| wrong("not CSV".to_owned()).with_cause(cause))? {
                break;
            }
            let (Some(file), Some(label), 2) = (record.get(0), record.get(1), record.len()) else {
                return Err(wrong(format!("{} fields, expected 2, a path and a label", record.len())));
            };
            let (file, label) = (file.trim(), label.trim());
            if file.is_empty() || label.is_empty() {
                return Err(wrong("an empty field, expected a path and a label".to_owned()));
            }
            let is_header = paths.is_empty()
                && labels.is_empty()
                && file.eq_ignore_ascii_case("path")
                && label.eq_ignore_ascii_case("label");
            if !is_header || line > 1 {
                paths.push(folder.join(file));
                labels.push(label.to_owned());
            }
        }
        if paths.is_empty() {
            return Err(Error::new(ErrorKind::Format, "an empty list, expected lines of a path and a label"));
        }
        let numbers: Option<Vec<u32>> = labels.iter().map(|label| label.parse().ok()).collect();
        let (labels, classes) = match numbers {
            Some(numbers) => (numbers, Vec::new()),
            None => number_names(&labels)?,
        };
        Ok(Self { files: Files::new(paths), labels: labels.into(), classes: classes.into() })
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

/// Numbers names in their order.
fn number_names(names: &[String]) -> Result<(Vec<u32>, Vec<String>)> {
    let mut numbers: BTreeMap<&str, u32> = names.iter().map(|name| (name.as_str(), 0)).collect();
    for (number, value) in numbers.values_mut().enumerate() {
        *value = label_of(number)?;
    }
    let labels = names.iter().map(|name| numbers[name.as_str()]).collect();
    Ok((labels, numbers.keys().map(|&name| name.to_owned()).collect()))
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
    use crate::testing::{check_sequence, samples};
    use std::fs;

    /// Files by path, each holding its own path.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn names(folder: &ImageFolder) -> Vec<(String, u32)> {
        samples(folder).into_iter().map(|(blob, label)| (blob.text().unwrap().to_owned(), label)).collect()
    }

    fn passed(folder: &ImageFolder, root: &Path) -> Vec<(String, PassedOverReason)> {
        let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        folder.passed_over().iter().map(|passed| (name(&passed.path), passed.reason)).collect()
    }

    #[test]
    fn classes_are_folders_and_everything_else_is_listed() {
        let dir = folder(&[
            "cat/b.JPG",
            "cat/a.png",
            "cat/deep/er/c.webp",
            "ant/x.jpeg",
            "cat/notes.txt",
            "cat/.hidden.png",
            "readme.md",
            "zebra/none.bin",
            "cat/noextension",
            ".git/x.png",
            "loose.png",
        ]);
        let images = ImageFolder::open(dir.path()).unwrap();
        check_sequence(&images);
        assert_eq!(images.classes(), ["ant", "cat", "zebra"]);
        let expected = [("ant/x.jpeg", 0), ("cat/a.png", 1), ("cat/b.JPG", 1), ("cat/deep/er/c.webp", 1)];
        assert_eq!(names(&images), expected.map(|(name, label)| (name.to_owned(), label)));
        assert_eq!(images.labels(), [0, 1, 1, 1]);
        assert_eq!(images.file(1), Some(dir.path().join("cat/a.png")));
        use PassedOverReason::{Extension, Hidden, NoClass};
        let expected = [
            (".git", Hidden),
            ("cat/.hidden.png", Hidden),
            ("cat/noextension", Extension),
            ("cat/notes.txt", Extension),
            ("loose.png", NoClass),
            ("readme.md", NoClass),
            ("zebra/none.bin", Extension),
        ];
        assert_eq!(passed(&images, dir.path()), expected.map(|(name, reason)| (name.to_owned(), reason)));
        let all = ImageFolder::open_unlabelled(dir.path()).unwrap();
        assert_eq!(all.len(), 5);
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_lead_out_unless_asked() {
        use std::os::unix::fs::symlink;
        let outside = folder(&["secret.png", "more/other.png"]);
        let dir = folder(&["cat/a.png", "dog/b.png"]);
        symlink(outside.path().join("secret.png"), dir.path().join("cat/out.png")).unwrap();
        symlink(outside.path().join("more"), dir.path().join("fox")).unwrap();
        symlink(dir.path().join("dog/b.png"), dir.path().join("cat/in.png")).unwrap();
        symlink("nowhere.png", dir.path().join("cat/gone.png")).unwrap();
        symlink(dir.path().join("cat"), dir.path().join("cat/round")).unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join("dog/socket.png")).unwrap();

        let images = ImageFolder::open(dir.path()).unwrap();
        assert_eq!(images.classes(), ["cat", "dog"]);
        let expected = [("cat/a.png", 0), ("dog/b.png", 0), ("dog/b.png", 1)];
        assert_eq!(names(&images), expected.map(|(name, label)| (name.to_owned(), label)));
        use PassedOverReason::{Broken, LeadsOut, Special};
        let mut seen = passed(&images, dir.path());
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            ("cat/gone.png", Broken),
            ("cat/out.png", LeadsOut),
            ("cat/round", Broken),
            ("dog/socket.png", Special),
            ("fox", LeadsOut),
        ];
        assert_eq!(seen, expected.map(|(name, reason)| (name.to_owned(), reason)));

        let images = ImageFolder::options().follow_links(true).open(dir.path()).unwrap();
        assert_eq!(images.classes(), ["cat", "dog", "fox"]);
        assert_eq!(images.labels(), [0, 0, 0, 1, 2]);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_are_kept() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let dir = folder(&["cat/a.png"]);
        let name = dir.path().join("cat").join(OsStr::from_bytes(b"\xff\xfe.png"));
        if fs::write(&name, "x").is_err() {
            // A file system that takes no such names has none.
            return;
        }
        let images = ImageFolder::open(dir.path()).unwrap();
        assert_eq!(images.file(1), Some(name));
        assert_eq!(images.get(1).unwrap().0.bytes(), b"x");
    }

    #[test]
    fn what_is_no_folder_of_images_is_an_error() {
        let dir = folder(&["readme.md"]);
        let error = ImageFolder::open(dir.path()).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(dir.path())));
        assert!(error.message().starts_with("no image in the folder, and 1 files passed over, such as "), "{error}");
        for path in [dir.path().join("readme.md"), dir.path().join("nowhere")] {
            let error = ImageFolder::open(&path).unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*path)));
        }
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            ImageFolder::open(empty.path()).unwrap_err().message(),
            "no image in the folder, and 0 files passed over"
        );
        assert!(ImageFolder::open_unlabelled(empty.path()).is_err());
    }

    #[test]
    fn lists_have_numbers_or_names_for_labels() {
        let dir = folder(&["a.png", "sub/b.png"]);
        let list = |text: &str| {
            fs::write(dir.path().join("list.csv"), text).unwrap();
            ImageList::open_csv(dir.path().join("list.csv"))
        };
        let numbers = list("path,label\na.png,3\nsub/b.png,0\n").unwrap();
        assert_eq!((numbers.labels(), numbers.classes()), (&[3, 0][..], &[][..]));
        check_sequence(&numbers);
        assert_eq!(numbers.get(1).unwrap().0.text().unwrap(), "sub/b.png");
        let names = list("a.png, dog\n\"sub/b.png\",cat\nsub/b.png,dog").unwrap();
        assert_eq!((names.labels(), names.classes()), (&[1, 0, 1][..], &["cat".to_owned(), "dog".to_owned()][..]));
        // A second such line is a file of that name.
        assert_eq!(list("path,label\npath,label\n").unwrap().paths(), [dir.path().join("path")]);
        for (text, message) in [
            ("", "an empty list, expected lines of a path and a label"),
            ("path,label\n", "an empty list, expected lines of a path and a label"),
            ("a.png,1\nb.png\n", "line 2: 1 fields, expected 2, a path and a label"),
            ("a.png,1\nb.png,1,2\n", "line 2: 3 fields, expected 2, a path and a label"),
            ("a.png,\n", "line 1: an empty field, expected a path and a label"),
        ] {
            let error = list(text).unwrap_err();
            assert_eq!((error.message(), error.kind()), (message, ErrorKind::Format));
            assert_eq!(error.file(), Some(&*dir.path().join("list.csv")));
        }
        fs::write(dir.path().join("list.csv"), b"a\xff.png,1\n").unwrap();
        let error = ImageList::open_csv(dir.path().join("list.csv")).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Format, "line 1: not CSV"));
        assert_eq!(ImageList::open_csv(dir.path()).unwrap_err().kind(), ErrorKind::Io);
    }
}
