//! Objects as samples.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::bucket::{Bucket, LIMIT_BYTES};
use super::fetch::{self, Known};
use super::{LabelledObjects, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::AsyncSequence;
use crate::sequence::check_index;
use crate::source::Blob;

/// How many objects are asked about at once.
const HEADS_AT_ONCE: usize = 64;

/// How many keys that were passed over are kept.
const MAX_LISTED: usize = 1000;

/// Which objects of a listing become samples.
#[derive(Debug, Clone, Default)]
pub struct ObjectsOptions {
    extensions: Option<Vec<String>>,
}

impl ObjectsOptions {
    /// Takes only objects whose keys end in a dot and one of these, upper and lower case being the same. By default all are
    /// taken.
    pub fn extensions(mut self, extensions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.extensions = Some(extensions.into_iter().map(Into::into).collect());
        self
    }

    /// Lists what a URL names, as [`Objects::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Objects::open`].
    pub fn open(&self, url: &str) -> Result<Objects> {
        self.list_blocking(&Bucket::open(url)?)
    }

    /// Lists a bucket, as [`Objects::list`] does.
    ///
    /// # Errors
    ///
    /// As [`Objects::list`].
    pub async fn list(&self, bucket: &Bucket) -> Result<Objects> {
        let listed = self.list_entries(bucket).await;
        listed.map_err(|error| error.with_file(bucket.url("")))
    }

    /// Lists a bucket; blocks until the listing is there.
    ///
    /// # Errors
    ///
    /// As [`Objects::open`].
    pub fn list_blocking(&self, bucket: &Bucket) -> Result<Objects> {
        blocking::wait(self.list(bucket))
    }

    async fn list_entries(&self, bucket: &Bucket) -> Result<Objects> {
        let prefix = Some(bucket.prefix()).filter(|prefix| !prefix.is_root());
        let mut listing = bucket.store().list(prefix);
        let mut found = Vec::new();
        while let Some(meta) = listing.next().await {
            let meta = meta.map_err(fetch::failed)?;
            let known = Known::of(&meta);
            // A listing answers with what is below the prefix, and some stores with the prefix itself.
            if !bucket.key(&meta.location).is_empty() {
                found.push(Entry { path: meta.location, known: Some(known) });
            }
        }
        drop(listing);
        // By the parts between slashes, as a walk through folders would find them.
        found.sort_unstable_by(|a, b| a.path.as_ref().split('/').cmp(b.path.as_ref().split('/')));
        let mut passed_over = PassedOverKeys::default();
        let markers = markers(&found);
        let mut entries = Vec::new();
        for entry in found {
            let key = bucket.key(&entry.path);
            if markers.contains(entry.path.as_ref()) || !self.takes(key) {
                passed_over.add(key);
            } else {
                entries.push(entry);
            }
        }
        if entries.is_empty() {
            return Err(passed_over.nothing("no object"));
        }
        let (entries, passed_over) = (entries.into(), Arc::new(passed_over));
        Ok(Objects { bucket: bucket.clone(), entries, passed_over, limit_bytes: LIMIT_BYTES })
    }

    fn takes(&self, key: &str) -> bool {
        if key.split('/').any(|part| part.starts_with('.')) {
            return false;
        }
        let name = key.rsplit('/').next().unwrap_or(key);
        let has = |extension: &String| {
            let dotted = name.len().checked_sub(extension.len() + 1).and_then(|at| name.get(at..));
            dotted.and_then(|end| end.strip_prefix('.')).is_some_and(|end| end.eq_ignore_ascii_case(extension))
        };
        self.extensions.as_ref().is_none_or(|extensions| extensions.iter().any(has))
    }
}

/// The objects without bytes that stand for a folder: consoles and some tools make them, and their key without its last slash
/// begins those of others.
fn markers(found: &[Entry]) -> HashSet<String> {
    let empty: HashSet<&str> = found.iter().filter(|entry| entry.size_bytes() == Some(0)).map(Entry::as_str).collect();
    let mut markers = HashSet::new();
    if !empty.is_empty() {
        for path in found.iter().map(Entry::as_str) {
            for (slash, _) in path.match_indices('/') {
                if empty.contains(&path[..slash]) {
                    markers.insert(path[..slash].to_owned());
                }
            }
        }
    }
    markers
}

/// An object, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: Path,
    pub(super) known: Option<Known>,
}

impl Entry {
    fn as_str(&self) -> &str {
        self.path.as_ref()
    }

    pub(super) fn size_bytes(&self) -> Option<u64> {
        Some(self.known.as_ref()?.size_bytes)
    }
}

/// Keys of a listing that are no samples.
#[derive(Debug, Clone, Default)]
pub(super) struct PassedOverKeys {
    count: u64,
    listed: Vec<String>,
}

impl PassedOverKeys {
    pub(super) fn add(&mut self, key: &str) {
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(key.to_owned());
        }
    }

    pub(super) fn nothing(&self, what: &str) -> Error {
        let mut message = format!("{what} in the listing, and {} passed over", self.count);
        if let Some(first) = self.listed.first() {
            message = format!("{message}, such as `{first}`");
        }
        Error::new(ErrorKind::Format, message)
    }
}

/// Objects of a store, each fetched whole when it is asked for: those of a listing, or of a list of keys.
///
/// A listing is sorted by key, part by part between slashes as a walk through folders would find them, so that an index is
/// the same object on every machine. Keys with a part that begins with a dot, and the empty objects that stand for folders,
/// are passed over.
///
/// # Errors
///
/// `get` fails with the object's URL, of kind [`Io`](ErrorKind::Io) if there is no such object, access is refused, the store
/// fails, or the answer is shorter or longer than the object; of kind [`Format`](ErrorKind::Format) if the object is not the
/// one that was listed: its size or its entity tag (where there is none, its time) is another; of kind
/// [`Limit`](ErrorKind::Limit) if it is larger than [`limit_bytes`](Self::limit_bytes) allows.
///
/// # Cost
///
/// A listing is one request for a thousand objects, one after the other. In memory some 100 bytes and the key for an object.
/// Each sample is one request; nothing asks for its size before.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use procession::source::object_store::memory::InMemory;
/// use procession::source::{Bucket, Objects};
/// use procession::{AsyncSequence, Loader, Retry};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let bucket = Bucket::new(Arc::new(InMemory::new()), "memory://bucket");   // or Bucket::open("s3://bucket")
/// # runtime.block_on(async {
/// for number in 0..10 {
///     bucket.write(&format!("texts/{number}.txt"), format!("text {number}")).await?;
/// }
/// # Ok::<(), procession::Error>(())
/// # })?;
/// let texts = Objects::options().extensions(["txt"]).list_blocking(&bucket.below("texts")?)?;
/// assert_eq!((texts.len(), texts.size_bytes(3)), (10, Some(6)));
/// let loader = Loader::remote(texts)
///     .concurrency(8)
///     .retry(Retry::times(3))
///     .map(|blob| blob.bytes()[5])                              // on the workers
///     .batch_size(10)
///     .build()?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.to_vec(), b"0123456789");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Objects {
    bucket: Bucket,
    entries: Arc<[Entry]>,
    passed_over: Arc<PassedOverKeys>,
    limit_bytes: u64,
}

impl Objects {
    /// Lists what a URL names, such as `s3://bucket/prefix`; see [`Bucket::open`]. Blocks until the listing is there.
    ///
    /// # Errors
    ///
    /// As [`Bucket::open`] and [`list`](Self::list); and of kind [`Argument`](ErrorKind::Argument) on the thread of a
    /// current-thread runtime, which it would hold up.
    pub fn open(url: &str) -> Result<Self> {
        Self::options().open(url)
    }

    /// Lists a bucket.
    ///
    /// # Errors
    ///
    /// With the bucket, of kind [`Io`](ErrorKind::Io) if it cannot be listed, or has a key that the crate object_store cannot
    /// have, such as one with two slashes in a row; of kind [`Format`](ErrorKind::Format) if there is nothing in it.
    pub async fn list(bucket: &Bucket) -> Result<Self> {
        Self::options().list(bucket).await
    }

    /// Options to list with.
    pub fn options() -> ObjectsOptions {
        ObjectsOptions::default()
    }

    /// The objects with these keys, in this order. Whether they are there shows when they are fetched, and their sizes are
    /// not known; see [`stat`](Self::stat).
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if a store can have no such key.
    pub fn from_keys(bucket: &Bucket, keys: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let entries = keys
            .into_iter()
            .map(|key| Ok(Entry { path: bucket.path(key.as_ref())?, known: None }))
            .collect::<Result<_>>()?;
        Ok(Self { bucket: bucket.clone(), entries, passed_over: Arc::default(), limit_bytes: LIMIT_BYTES })
    }

    /// The objects of a manifest: a text with a key on each line. Empty lines do not count.
    ///
    /// # Errors
    ///
    /// As [`from_keys`](Self::from_keys).
    pub fn from_manifest(bucket: &Bucket, text: &str) -> Result<Self> {
        Self::from_keys(
            bucket,
            text.lines().map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty()),
        )
    }

    /// Asks for size and version of all objects of which these are not known, 64 at a time. Only with these the samples' sizes
    /// are known beforehand, an object that changes is an error, and the [cache](Bucket::disk_cache) keeps it.
    ///
    /// # Errors
    ///
    /// That of the first object that failed, with its URL.
    pub async fn stat(self) -> Result<Self> {
        let bucket = &self.bucket;
        let asked = futures_util::stream::iter(self.entries.iter().cloned().map(|entry| async move {
            let known = match entry.known {
                Some(known) => known,
                None => bucket.head(&entry.path).await?,
            };
            Ok::<_, Error>(Entry { path: entry.path, known: Some(known) })
        }));
        let entries: Vec<Entry> = asked.buffered(HEADS_AT_ONCE).try_collect().await?;
        Ok(Self { entries: entries.into(), ..self })
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

    /// The most bytes that an object may have, as [`Files::limit_bytes`](crate::source::Files::limit_bytes) has it. The default is
    /// 1 GiB.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Labels each object by the first part of its key below the bucket's prefix: `<class>/<file>`, at any depth below the
    /// class. Classes are numbered in the order of their names, byte by byte. What is in no class's folder is passed over.
    ///
    /// # Errors
    ///
    /// With the bucket, of kind [`Format`](ErrorKind::Format) if nothing is left, [`Limit`](ErrorKind::Limit) if there are
    /// more classes than labels.
    pub fn by_folder(self) -> Result<LabelledObjects> {
        LabelledObjects::by_folder(self, None)
    }

    /// Labels each object by folder, as [`by_folder`](Self::by_folder) does, with given names of classes in the order of their
    /// numbers: those of the data to train with, where the data to test with may lack some.
    ///
    /// # Errors
    ///
    /// As [`by_folder`](Self::by_folder); and of kind [`Format`](ErrorKind::Format) if there is another folder.
    pub fn by_folder_of(self, classes: &[String]) -> Result<LabelledObjects> {
        LabelledObjects::by_folder(self, Some(classes))
    }

    /// The key of each sample, as it is below the bucket's prefix.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| self.bucket.key(&entry.path))
    }

    /// How many objects of the listing are no samples.
    pub fn num_passed_over(&self) -> u64 {
        self.passed_over.count
    }

    /// The keys of objects of the listing that are no samples: the first thousand of them.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over.listed
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The samples at some of the indices.
    pub(super) fn retain(self, indices: &[usize], passed_over: PassedOverKeys) -> Self {
        let entries = indices.iter().map(|&index| self.entries[index].clone()).collect();
        Self { entries, passed_over: Arc::new(passed_over), ..self }
    }

    pub(super) fn passed_over_keys(&self) -> &PassedOverKeys {
        &self.passed_over
    }
}

impl AsyncSequence for Objects {
    type Sample = Blob;

    fn len(&self) -> usize {
        self.entries.len()
    }
    async fn get(&self, index: usize) -> Result<Blob> {
        check_index(index, self.entries.len());
        let Entry { path, known } = &self.entries[index];
        let bytes = self.bucket.fetch_whole(path, known.as_ref(), self.limit_bytes).await?;
        Ok(Blob::new(bytes, self.bucket.url_of(path)))
    }
    /// What the listing says.
    fn size_bytes(&self, index: usize) -> Option<usize> {
        usize::try_from(self.entries[index].size_bytes()?).ok()
    }
    /// The URL.
    fn file(&self, index: usize) -> Option<PathBuf> {
        self.entries.get(index).map(|entry| self.bucket.url_of(&entry.path))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("bucket", &self.bucket)
            .field("len", &self.entries.len())
            .finish_non_exhaustive()
    }
}
