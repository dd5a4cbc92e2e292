//! Images in folders, one for each class.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blob::Blob;
use super::classes::{Classes, number_of};
use super::files::Files;
use super::image_list::ImageList;
use super::walk::{Entry, PassedOver, PassedOverReason, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::image::ImageFormat;
use crate::sequence::Sequence;

/// How a folder of images is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolderOptions {
    follow_links: bool,
    classes: Option<Vec<String>>,
    limit_bytes: u64,
}

impl Default for ImageFolderOptions {
    fn default() -> Self {
        Self { follow_links: false, classes: None, limit_bytes: Files::LIMIT_BYTES }
    }
}

impl ImageFolderOptions {
    /// Whether symbolic links may lead out of the folder. The default is `false`: those that do are passed over.
    pub fn follow_links(mut self, follow_links: bool) -> Self {
        self.follow_links = follow_links;
        self
    }

    /// The names of the classes, in the order of their numbers. By default they are those of the folders that are there, in
    /// the order of names: where one is missing, as may be in a small folder to validate with, all behind it have other
    /// numbers. Given the classes of the folder to train with, all folders are numbered alike. A folder that is none of them
    /// is an error; one that is not there has no images. No effect on folders without classes.
    pub fn classes(mut self, classes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.classes = Some(classes.into_iter().map(Into::into).collect());
        self
    }

    /// The most bytes that a file may have, as [`Files::limit_bytes`] has it. The default is 1 GiB.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Opens a folder, as [`ImageFolder::open`] does.
    ///
    /// # Errors
    ///
    /// As [`ImageFolder::open`]; and of kind [`Argument`](ErrorKind::Argument) if the names of classes that were given are
    /// none, or two are the same, [`Format`](ErrorKind::Format) if the folder has another class.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<ImageFolder> {
        ImageFolder::walk(path.as_ref(), self)
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
        Ok(Files::of_folder(walk.files, walk.passed_over).limit_bytes(self.limit_bytes))
    }

    /// The label of a class's folder, which is added to the classes unless these were given.
    fn label(&self, folder: &Path, given: Option<&Classes>, found: &mut Vec<String>) -> Result<u32> {
        // Names that differ in what is no text would be shown alike, and be one class.
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
            let message = "name of the folder of a class is not UTF-8, expected text";
            return Err(Error::new(ErrorKind::Format, message).with_file(folder));
        };
        let Some(given) = given else {
            let label = number_of(found.len())?;
            found.push(name.to_owned());
            return Ok(label);
        };
        given.number(name).ok_or_else(|| {
            let message = format!("folder of another class, expected {}", given.expected());
            Error::new(ErrorKind::Format, message).with_file(folder)
        })
    }
}

/// Images in a folder, in a subfolder for each class: `folder/<class>/<file>`, at any depth below the class.
///
/// Samples are `(Blob, u32)`: the file, not decoded, and its class. Classes are numbered in the order of their names, byte
/// by byte, unless [given](ImageFolderOptions::classes), and files come in the order of folders and names, so that an index is
/// the same image on every machine.
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
/// let validation = ImageFolder::options().classes(photos.classes()).open("validation")?; // numbered alike
/// let (train, held_out) = photos.split(0.9, 7)?;
/// let train = Loader::builder(train).transform(ImageTransform::new().resize(200, 200).to_f32()).shuffle(7).build()?;
/// # let _ = (train, held_out, validation);
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
    /// [`Format`](ErrorKind::Format) if there is no image in it that has a class, or the name of a class's folder is not
    /// UTF-8. Where a file is larger than the limit shows when it is loaded.
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

    fn walk(path: &Path, options: &ImageFolderOptions) -> Result<Self> {
        let given = options.classes.as_ref().map(Classes::new).transpose();
        let given = given.map_err(|error| error.with_file(path))?;
        let mut walk = Walk::new(path, &ImageFormat::EXTENSIONS, options.follow_links)?;
        let (mut found, mut labels) = (Vec::new(), Vec::new());
        for entry in Walk::list(path)? {
            match walk.kind(&entry)? {
                Some(Entry::Folder(_)) => {
                    let label = options.label(&entry, given.as_ref(), &mut found)?;
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
        let classes = given.map_or(found, |given| given.names().to_vec());
        let list = ImageList::of(Files::new(walk.files).limit_bytes(options.limit_bytes), labels, classes);
        Ok(Self { list, passed_over: walk.passed_over.into() })
    }

    /// The names of the classes: a label is a place among them.
    pub fn classes(&self) -> &[String] {
        self.list.classes()
    }

    /// The label of each sample.
    pub fn labels(&self) -> &[u32] {
        self.list.labels()
    }

    /// The path of each sample.
    pub fn paths(&self) -> &[PathBuf] {
        self.list.paths()
    }

    /// What is in the folder and no sample.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }
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
    fn a_link_back_to_the_folder_itself_is_passed_over() {
        use std::os::unix::fs::symlink;
        for follow_links in [false, true] {
            let dir = folder(&["root/cat/a.png", "root/dog/b.png", "beside/c.png"]);
            let root = dir.path().join("root");
            symlink("..", root.join("cat/up")).unwrap();
            symlink(".", root.join("self")).unwrap();
            symlink("../root", root.join("again")).unwrap();
            // To the folder around it.
            symlink("../..", root.join("dog/out")).unwrap();
            let images = ImageFolder::options().follow_links(follow_links).open(&root).unwrap();
            assert_eq!(images.classes(), ["cat", "dog"]);
            let expected = [("root/cat/a.png", 0), ("root/dog/b.png", 1)];
            assert_eq!(names(&images), expected.map(|(name, label)| (name.to_owned(), label)));
            let mut seen = passed(&images, &root);
            seen.sort_by(|a, b| a.0.cmp(&b.0));
            use PassedOverReason::{Broken, LeadsOut};
            let out = if follow_links { Broken } else { LeadsOut };
            let expected = [("again", Broken), ("cat/up", Broken), ("dog/out", out), ("self", Broken)];
            assert_eq!(seen, expected.map(|(name, reason)| (name.to_owned(), reason)));
            assert_eq!(ImageFolder::open_unlabelled(&root).unwrap().len(), 2);
        }
    }

    #[cfg(unix)]
    #[test]
    fn folders_full_of_links_to_each_other_are_walked_through_once() {
        use std::os::unix::fs::symlink;
        let dir = folder(&["cat/00/a.png", "cat/29/z.png"]);
        let cat = dir.path().join("cat");
        // 2^30 ways to the last one.
        for number in 0..29 {
            let this = cat.join(format!("{number:02}"));
            fs::create_dir_all(&this).unwrap();
            for name in ["l", "m"] {
                symlink(format!("../{:02}", number + 1), this.join(name)).unwrap();
            }
        }
        let images = ImageFolder::open(dir.path()).unwrap();
        // By its own name, and once by links.
        assert_eq!((images.len(), images.labels()), (3, &[0, 0, 0][..]));
        let passed = passed(&images, dir.path());
        assert!(passed.iter().all(|(_, reason)| *reason == PassedOverReason::Repeated));
        // The second link of each folder on the way of the first ones, and both of each folder on its own.
        assert_eq!(passed.len(), 29 + 2 * 28);
    }

    #[test]
    fn classes_that_are_given_have_their_numbers_and_others_are_an_error() {
        let dir = folder(&["cat/a.png", "cow/b.png"]);
        let open = |classes: &[&str]| ImageFolder::options().classes(classes.iter().copied()).open(dir.path());
        let images = open(&["dog", "cow", "cat"]).unwrap();
        check_sequence(&images);
        assert_eq!((images.classes().join(" "), images.labels()), ("dog cow cat".to_owned(), &[2, 1][..]));
        let error = open(&["cat", "dog"]).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*dir.path().join("cow"))));
        assert_eq!(error.message(), "folder of another class, expected a class, one of cat, dog");
        for (classes, message) in [
            (&["cat", "cow", "cat"][..], "two classes are named \"cat\", expected one"),
            (&[], "no names of classes, expected at least one"),
        ] {
            let error = open(classes).unwrap_err();
            assert_eq!((error.kind(), error.message()), (ErrorKind::Argument, message));
        }
    }

    #[test]
    fn a_limit_holds_for_every_file() {
        let dir = folder(&["cat/a.png", "cat/long name.png"]);
        let options = ImageFolder::options().limit_bytes(10);
        let error = options.open(dir.path()).unwrap().get(1).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Limit, "file of 17 bytes, the limit is 10"));
        assert_eq!(options.open_unlabelled(dir.path()).unwrap().get(1).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(options.open(dir.path()).unwrap().get(0).unwrap().1, 0);
    }

    #[cfg(unix)]
    #[test]
    fn classes_whose_names_are_not_utf8_are_not_taken_for_one() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let dir = folder(&["cat/a.png"]);
        let class = dir.path().join(OsStr::from_bytes(b"\xff"));
        if fs::create_dir(&class).is_err() {
            // A file system that takes no such names has none.
            return;
        }
        fs::create_dir(dir.path().join(OsStr::from_bytes(b"\xfe"))).unwrap();
        let error = ImageFolder::open(dir.path()).unwrap_err();
        let expected = "name of the folder of a class is not UTF-8, expected text";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Format, expected));
        assert_eq!(error.file(), Some(&*dir.path().join(OsStr::from_bytes(b"\xfe"))));
        assert_eq!(ImageFolder::open_unlabelled(dir.path()).unwrap().len(), 1);
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
}
