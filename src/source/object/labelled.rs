//! Objects with labels.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::blocking;
use super::bucket::Bucket;
use super::objects::Objects;
use crate::error::{Error, ErrorKind, Result};
use crate::remote::AsyncSequence;
use crate::source::Blob;

/// Objects with a label each: of a listing with a folder for each class, or of a list.
///
/// Samples are `(Blob, u32)`, as those of `ImageFolder` on a disk: the same files make the same samples in the same order.
/// They fail as those of [`Objects`] do.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use procession::source::object_store::memory::InMemory;
/// use procession::source::{Bucket, LabelledObjects, Objects};
/// use procession::AsyncSequence;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// let bucket = Bucket::new(Arc::new(InMemory::new()), "memory://pets");
/// for key in ["dogs/1.jpg", "cats/1.jpg", "cats/more/2.jpg", "README.md"] {
///     bucket.write(key, key).await?;
/// }
/// let pets = Objects::list(&bucket).await?.by_folder()?;          // or LabelledObjects::open("s3://pets")
/// assert_eq!((pets.classes(), pets.labels()), (&["cats".to_owned(), "dogs".to_owned()][..], &[0, 0, 1][..]));
/// let (blob, label) = pets.get(2).await?;
/// assert_eq!((blob.text()?, label), ("dogs/1.jpg", 1));
///
/// bucket.write("list.csv", "key,label\ncats/1.jpg,0\ndogs/1.jpg,1\n").await?;
/// let listed = LabelledObjects::from_manifest(&bucket, bucket.read("list.csv").await?.text()?)?;
/// assert_eq!(listed.get(1).await?.1, 1);
/// # Ok::<(), procession::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct LabelledObjects {
    objects: Objects,
    // Invariant: as many labels as objects.
    labels: Arc<[u32]>,
    classes: Arc<[String]>,
}

impl LabelledObjects {
    /// Lists what a URL names and labels it by folder. Blocks until the listing is there.
    ///
    /// # Errors
    ///
    /// As [`Objects::open`] and [`Objects::by_folder`].
    pub fn open(url: &str) -> Result<Self> {
        Objects::open(url)?.by_folder()
    }

    /// The objects with these keys and labels, in this order. Whether they are there shows when they are fetched.
    ///
    /// # Errors
    ///
    /// As [`Objects::from_keys`].
    pub fn from_pairs(bucket: &Bucket, pairs: impl IntoIterator<Item = (impl AsRef<str>, u32)>) -> Result<Self> {
        let (keys, labels): (Vec<_>, Vec<u32>) = pairs.into_iter().unzip();
        Ok(Self { objects: Objects::from_keys(bucket, keys)?, labels: labels.into(), classes: Arc::default() })
    }

    /// The objects of a manifest: a text with a key, a comma and a label on each line, after a first line `key,label` if there
    /// is one. Empty lines do not count.
    ///
    /// The last comma of a line counts; nothing is quoted. If all labels are numbers they are taken as they are, otherwise
    /// they are the names of classes, which are numbered in the order of names, byte by byte.
    ///
    /// # Errors
    ///
    /// Of kind [`Format`](ErrorKind::Format) if a line has no comma, or nothing before or behind it, some labels are numbers and
    /// others are not, or there is no line; as [`Objects::from_keys`].
    pub fn from_manifest(bucket: &Bucket, text: &str) -> Result<Self> {
        let (mut keys, mut names) = (Vec::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() || number == 0 && line.eq_ignore_ascii_case("key,label") {
                continue;
            }
            let parts = line.rsplit_once(',').map(|(key, label)| (key, label.trim()));
            let Some((key, name)) = parts.filter(|(key, name)| !key.is_empty() && !name.is_empty()) else {
                let message = format!("line {}: expected a key, a comma and a label", number + 1);
                return Err(Error::new(ErrorKind::Format, message));
            };
            keys.push(key);
            names.push(name);
        }
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::Format, "a manifest without lines, expected keys with labels"));
        }
        let numbers: Vec<Option<u32>> = names.iter().map(|name| name.parse().ok()).collect();
        let (labels, classes) = match numbers.iter().flatten().count() {
            0 => number(&names)?,
            count if count == names.len() => (numbers.into_iter().flatten().collect(), Vec::new()),
            _ => {
                // Names that look like numbers would be numbered otherwise than they seem to be; a header is no label.
                let other =
                    numbers.iter().zip(&names).find(|(number, _)| number.is_none()).map_or("", |(_, name)| *name);
                let message = format!("label `{other}` among labels that are numbers, expected labels of one kind");
                return Err(Error::new(ErrorKind::Format, message));
            }
        };
        let objects = Objects::from_keys(bucket, keys)?;
        Ok(Self { objects, labels: labels.into(), classes: classes.into() })
    }

    pub(super) fn by_folder(objects: Objects, classes: Option<&[String]>) -> Result<Self> {
        let mut passed_over = objects.passed_over_keys().clone();
        let (mut indices, mut names) = (Vec::new(), Vec::new());
        for (index, key) in objects.keys().enumerate() {
            match key.split_once('/') {
                Some((class, _)) => {
                    indices.push(index);
                    names.push(class);
                }
                None => passed_over.add(key),
            }
        }
        if indices.is_empty() {
            return Err(passed_over.nothing("no object in a class's folder").with_file(objects.bucket().url("")));
        }
        let numbered = match classes {
            Some(classes) => number_by(&names, classes),
            None => number(&names),
        };
        let (labels, classes) = numbered.map_err(|error| error.with_file(objects.bucket().url("")))?;
        let objects = objects.retain(&indices, passed_over);
        Ok(Self { objects, labels: labels.into(), classes: classes.into() })
    }

    /// The most bytes that an object may have, as [`Objects::limit_bytes`] has it. The default is 1 GiB.
    pub fn limit_bytes(self, limit_bytes: u64) -> Self {
        Self { objects: self.objects.limit_bytes(limit_bytes), ..self }
    }

    /// Asks for size and version of objects of which these are not known, as [`Objects::stat`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn stat(self) -> Result<Self> {
        Ok(Self { objects: self.objects.stat().await?, ..self })
    }

    /// Does what [`stat`](Self::stat) does; blocks until it is done.
    ///
    /// # Errors
    ///
    /// As there; and of kind [`Argument`](ErrorKind::Argument) on the thread of a current-thread runtime, which it would hold
    /// up.
    pub fn stat_blocking(self) -> Result<Self> {
        blocking::wait(self.stat())
    }

    /// The names of the classes: a label is a place among them. None for labels that are numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The label of each sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The objects.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }
}

/// Numbers names as they are given.
fn number_by(names: &[&str], classes: &[String]) -> Result<(Vec<u32>, Vec<String>)> {
    let numbers: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let number = |name: &&str| {
        numbers.get(name).copied().ok_or_else(|| {
            let message = format!("folder `{name}`, expected one of the {} classes that were given", classes.len());
            Error::new(ErrorKind::Format, message)
        })
    };
    Ok((names.iter().map(number).collect::<Result<_>>()?, classes.to_vec()))
}

/// Numbers names in their order.
fn number(names: &[&str]) -> Result<(Vec<u32>, Vec<String>)> {
    let mut numbers: BTreeMap<&str, u32> = names.iter().map(|&name| (name, 0)).collect();
    for (place, number) in numbers.values_mut().enumerate() {
        *number = u32::try_from(place).map_err(|_| Error::new(ErrorKind::Limit, "more than 2^32 classes"))?;
    }
    let labels = names.iter().map(|name| numbers[name]).collect();
    Ok((labels, numbers.into_keys().map(str::to_owned).collect()))
}

impl AsyncSequence for LabelledObjects {
    type Sample = (Blob, u32);

    fn len(&self) -> usize {
        self.objects.len()
    }
    async fn get(&self, index: usize) -> Result<(Blob, u32)> {
        Ok((self.objects.get(index).await?, self.labels[index]))
    }
    /// The object and the label.
    fn size_bytes(&self, index: usize) -> Option<usize> {
        self.objects.size_bytes(index)?.checked_add(size_of::<u32>())
    }
    /// The URL.
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.objects.file(index)
    }
}
