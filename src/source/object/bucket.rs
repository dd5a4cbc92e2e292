//! A store, and a place in it.

use std::fmt;
#[cfg(any(feature = "npy", feature = "tar"))]
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::cache::Cache;
use super::fetch::{self, Known, Part};
use super::{ObjectCacheStatus, address, blocking};
use crate::error::{Error, Result};
use crate::source::Blob;

/// The most bytes of an object where nothing else is said: as of a file.
pub(super) const LIMIT_BYTES: u64 = 1 << 30;

/// How a bucket is opened by URL.
#[derive(Clone)]
pub struct BucketOptions {
    store_retries: usize,
    options: Vec<(String, String)>,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self { store_retries: address::DEFAULT_STORE_RETRIES, options: Vec::new() }
    }
}

impl BucketOptions {
    /// How often the store itself tries a request again: one that was answered with 5xx, 408 or 429, whose connection
    /// failed, or whose body broke off. The default is 3, with pauses of a tenth of a second to three seconds, and none is
    /// begun 20 seconds after the first.
    ///
    /// Each try of the loader's [`retry`](crate::LoaderBuilder::retry) is as many tries of the store: the two multiply. 0
    /// leaves it all to the loader.
    pub fn store_retries(mut self, times: usize) -> Self {
        self.store_retries = times;
        self
    }

    /// Sets an option of the store, as the crate object_store names them: `aws_region`, `aws_endpoint`,
    /// `google_service_account`, `azure_storage_account_name`, and for every store `timeout` (30 seconds for a request by
    /// default), `connect_timeout` (5 seconds), `allow_http`, `proxy_url` and their kin. It comes before what the environment
    /// says. No effect on `file://` and `memory://`.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self
    }

    /// Opens a bucket, as [`Bucket::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Bucket::open`]; and if an option is not one of the store's.
    pub fn open(&self, url: &str) -> Result<Bucket> {
        let opened = address::open(url, self.store_retries, &self.options)?;
        let place = Place { store: opened.store, name: opened.name, prefix: opened.path };
        Ok(Bucket { place: Arc::new(place), cache: None })
    }
}

impl fmt::Debug for BucketOptions {
    /// Without the values, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.options.iter().map(|(key, _)| &**key).collect();
        f.debug_struct("BucketOptions").field("store_retries", &self.store_retries).field("options", &keys).finish()
    }
}

/// A place in an object store: the store, and a prefix that all keys are below. Cheap to clone.
///
/// Keys are as they are in the store, with spaces, percent signs and all; what stands between slashes must not be empty,
/// `.` or `..`, nor hold control characters.
///
/// # Errors
///
/// All that is fetched is compared with what is known of the object: an answer that is too short, and an object that is not
/// the one that was listed, are errors that name the object by its URL. See [`Objects`](super::Objects).
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use procession::source::object_store::memory::InMemory;
/// use procession::source::Bucket;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// let bucket = Bucket::new(Arc::new(InMemory::new()), "memory://notes");    // any implementation
/// bucket.write("2026/first.txt", "a note").await?;
/// let note = bucket.below("2026")?.read("first.txt").await?;
/// assert_eq!((note.text()?, note.name().to_str()), ("a note", Some("memory://notes/2026/first.txt")));
/// # Ok::<(), procession::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// By URL, with credentials from the environment and 20 GB of the disk for what was fetched:
///
/// ```no_run
/// use procession::source::{Bucket, Objects};
///
/// let bucket = Bucket::open("s3://photos/train")?.disk_cache("/var/cache/photos", 20_000_000_000)?;
/// let photos = Objects::options().extensions(["jpg", "jpeg"]).list_blocking(&bucket)?;
/// # let _ = photos;
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct Bucket {
    place: Arc<Place>,
    cache: Option<Arc<Cache>>,
}

struct Place {
    store: Arc<dyn ObjectStore>,
    name: String,
    prefix: Path,
}

impl Bucket {
    /// A bucket of a store of one's own making; `name` is what errors, blobs and the cache call it, such as `s3://photos`. Stores
    /// that share a cache need names that tell them apart.
    ///
    /// What the store tries again by itself is the caller's to set: the crate object_store tries ten times over three minutes
    /// by default, which is longer than a loader waits for a request.
    pub fn new(store: Arc<dyn ObjectStore>, name: impl Into<String>) -> Self {
        let name = name.into().trim_end_matches('/').to_owned();
        Self { place: Arc::new(Place { store, name, prefix: Path::default() }), cache: None }
    }

    /// Opens what a URL names: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` (and `abfs://`),
    /// `http(s)://host/prefix`, `file:///folder`.
    ///
    /// Credentials come from the environment as the crate object_store reads it (`AWS_*`, `GOOGLE_*`, `AZURE_*`, or the
    /// machine's own role), an endpoint of one's own too (`AWS_ENDPOINT_URL`, with `AWS_ALLOW_HTTP=true` where it has no TLS).
    /// Nothing is sent yet. HTTP servers list what they have only if they speak WebDAV; keys work with all of them.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](crate::ErrorKind::Argument) if it is no such URL, or what the environment says is no
    /// configuration for it.
    pub fn open(url: &str) -> Result<Self> {
        Self::options().open(url)
    }

    /// Options to open a bucket with.
    pub fn options() -> BucketOptions {
        BucketOptions::default()
    }

    /// The bucket at a prefix below this one.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](crate::ErrorKind::Argument) if a store can have no such key.
    pub fn below(&self, prefix: &str) -> Result<Self> {
        let prefix = if prefix.is_empty() { self.place.prefix.clone() } else { self.path(prefix)? };
        Ok(self.at(prefix))
    }

    /// Keeps what is fetched in files in a folder, `max_bytes` of them at most, and takes it from there the next time. Of
    /// use where an epoch fits the disk and not the memory, and fetching is slow or costs money.
    ///
    /// - What was used least recently goes first. Several processes may share the folder; they keep its budget together. It
    ///   is exceeded by what is being written at the moment, which has other names.
    /// - A file is used only if it is of the same URL, the same version (entity tag, or else time and size) and the same
    ///   range, and if length and CRC-32 of its bytes are right; else the object is fetched again. That guards against
    ///   damage, not against malice: whoever may write to the folder may put other samples there.
    /// - An object whose version is not known is not kept: one of a list of keys, unless [`stat`](super::Objects::stat)
    ///   asked for it. One larger than the budget is not kept either.
    /// - If a file cannot be written later on, because the disk is full or the folder is gone, nothing more is written by this
    ///   process, and fetching goes on: [`cache_status`](Self::cache_status) says why.
    ///
    /// Files are read and written on the threads that tokio has for that, not on those that requests run on; a sample that was
    /// fetched goes on once its file is written. Clones of the bucket, and buckets [`below`](Self::below) it, share the cache.
    ///
    /// # Errors
    ///
    /// With the folder, of kind [`Io`](crate::ErrorKind::Io) if it cannot be made, or no file can be written or locked in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use procession::source::object_store::memory::InMemory;
    /// use procession::source::{Bucket, Objects};
    /// use procession::{AsyncSequence, Loader};
    ///
    /// let dir = tempfile::tempdir()?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// let bucket = Bucket::new(Arc::new(InMemory::new()), "memory://bucket").disk_cache(dir.path(), 1 << 20)?;
    /// # runtime.block_on(bucket.write("a.txt", "a"))?;
    /// let loader = Loader::remote(Objects::options().list_blocking(&bucket)?).map(|blob| blob[0]).build()?;
    /// (0..3).for_each(|number| loader.epoch(number).for_each(drop));
    /// let status = bucket.cache_status().unwrap();
    /// assert_eq!((status.num_misses, status.num_hits), (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn disk_cache(mut self, dir: impl AsRef<FilePath>, max_bytes: u64) -> Result<Self> {
        self.cache = Some(Arc::new(Cache::open(dir.as_ref(), max_bytes)?));
        Ok(self)
    }

    /// What the cache on the disk has done so far, if there is one.
    pub fn cache_status(&self) -> Option<ObjectCacheStatus> {
        self.cache.as_ref().map(|cache| cache.status())
    }

    /// The URL of an object, as errors give it. It is not encoded: a space is a space.
    pub fn url(&self, key: &str) -> PathBuf {
        // Joined as text: a key that begins with a slash does not replace what stands before it.
        match (self.place.prefix.as_ref(), key) {
            ("", "") => PathBuf::from(&self.place.name),
            ("", key) => PathBuf::from(format!("{}/{key}", self.place.name)),
            (prefix, "") => PathBuf::from(format!("{}/{prefix}", self.place.name)),
            (prefix, key) => PathBuf::from(format!("{}/{prefix}/{key}", self.place.name)),
        }
    }

    /// Fetches a whole object.
    ///
    /// # Errors
    ///
    /// With the URL, of kind [`Io`](crate::ErrorKind::Io) if it cannot be fetched, [`Limit`](crate::ErrorKind::Limit) if it has
    /// more than 1 GiB, [`Argument`](crate::ErrorKind::Argument) if a store can have no such key.
    pub async fn read(&self, key: &str) -> Result<Blob> {
        let path = self.path(key)?;
        Ok(Blob::new(self.fetch_whole(&path, None, LIMIT_BYTES).await?, self.url_of(&path)))
    }

    /// Fetches a whole object; blocks until it is there.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); and of kind [`Argument`](crate::ErrorKind::Argument) on the thread of a current-thread
    /// runtime, which it would hold up.
    pub fn read_blocking(&self, key: &str) -> Result<Blob> {
        blocking::wait(self.read(key))
    }

    /// Puts an object, in the place of one that is there.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn write(&self, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let path = self.path(key)?;
        let put = self.place.store.put_opts(&path, bytes.into().into(), Default::default()).await;
        put.map(drop).map_err(|cause| fetch::failed(cause).with_file(self.url_of(&path)))
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.place.store
    }

    pub(super) fn prefix(&self) -> &Path {
        &self.place.prefix
    }

    /// The same store and cache, at another place.
    pub(super) fn at(&self, prefix: Path) -> Self {
        let Place { store, name, .. } = &*self.place;
        let place = Place { store: Arc::clone(store), name: name.clone(), prefix };
        Self { place: Arc::new(place), cache: self.cache.clone() }
    }

    /// The path of a key in the store.
    pub(super) fn path(&self, key: &str) -> Result<Path> {
        let full = match self.place.prefix.as_ref() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        let parsed = Path::parse(&full).ok().filter(|path| path.as_ref() == full && !key.is_empty());
        parsed.ok_or_else(|| {
            let message =
                "no key that a store can have, expected parts between slashes that are not empty, `.` or `..`";
            Error::argument(message).with_file(self.url(key))
        })
    }

    /// What a path is called in this bucket.
    pub(super) fn key<'a>(&self, path: &'a Path) -> &'a str {
        let key = path.as_ref().strip_prefix(self.place.prefix.as_ref()).unwrap_or(path.as_ref());
        key.strip_prefix('/').unwrap_or(key)
    }

    pub(super) fn url_of(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("{}/{path}", self.place.name))
    }

    pub(super) async fn head(&self, path: &Path) -> Result<Known> {
        let known = fetch::head(&*self.place.store, path).await;
        known.map_err(|error| error.with_file(self.url_of(path)))
    }

    #[cfg(feature = "tar")]
    pub(super) async fn fetch_small(&self, path: &Path, limit: u64) -> Result<Option<Bytes>> {
        let bytes = fetch::get_small(&*self.place.store, path, limit).await;
        bytes.map_err(|error| error.with_file(self.url_of(path)))
    }

    /// Fetches an object of at most so many bytes. Takes it from the cache, and leaves it there, if it is known what version
    /// of it is meant.
    pub(super) async fn fetch_whole(&self, path: &Path, known: Option<&Known>, limit_bytes: u64) -> Result<Bytes> {
        if let Some(known) = known.filter(|known| known.size_bytes > limit_bytes) {
            return Err(fetch::too_large(known.size_bytes, limit_bytes).with_file(self.url_of(path)));
        }
        let identity = known.map(|known| self.identity(path, known, "all"));
        self.fetch_through(path, known, Part::Whole { limit_bytes }, identity.as_deref()).await
    }

    /// Fetches a range of an object, which must lie within it, as [`fetch_whole`](Self::fetch_whole) does.
    #[cfg(any(feature = "npy", feature = "tar"))]
    pub(super) async fn fetch_range(&self, path: &Path, known: &Known, range: Range<u64>) -> Result<Bytes> {
        let identity = self.identity(path, known, &format!("{}..{}", range.start, range.end));
        self.fetch_through(path, Some(known), Part::Range(range), Some(&identity)).await
    }

    /// Fetches a range of an object, whatever is in the cache.
    #[cfg(feature = "tar")]
    pub(super) async fn fetch_directly(&self, path: &Path, known: &Known, range: Range<u64>) -> Result<Bytes> {
        self.fetch_through(path, Some(known), Part::Range(range), None).await
    }

    async fn fetch_through(
        &self,
        path: &Path,
        known: Option<&Known>,
        part: Part,
        identity: Option<&str>,
    ) -> Result<Bytes> {
        if part.is_empty() {
            return Ok(Bytes::new());
        }
        if let Some(bytes) = self.cached(identity).await {
            return Ok(bytes);
        }
        let fetched = fetch::get(&*self.place.store, path, known, part).await;
        let bytes = fetched.map_err(|error| error.with_file(self.url_of(path)))?;
        self.keep(identity, &bytes).await;
        Ok(bytes)
    }

    /// What a part of a version of an object is called in the cache.
    pub(super) fn identity(&self, path: &Path, known: &Known, part: &str) -> String {
        format!("{}/{path}\n{} bytes, {}\n{part}", self.place.name, known.size_bytes, known.version())
    }

    pub(super) async fn cached(&self, identity: Option<&str>) -> Option<Bytes> {
        Cache::get(self.cache.as_ref()?, identity?).await
    }

    pub(super) async fn keep(&self, identity: Option<&str>, bytes: &Bytes) {
        if let (Some(cache), Some(identity)) = (&self.cache, identity) {
            Cache::put(cache, identity, bytes).await;
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("url", &self.url("")).field("cache", &self.cache).finish()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn keys_are_taken_as_they_are_or_refused() {
        let root = Bucket::new(Arc::new(InMemory::new()), "memory://x/");
        for bucket in [root.clone(), root.below("a/b").unwrap(), root.below("a").unwrap().below("b").unwrap()] {
            for key in ["k", "with space", "per%20cent", "ü/ñ/文", "a?b#c", "~*"] {
                let path = bucket.path(key).unwrap();
                assert_eq!((bucket.key(&path), bucket.url_of(&path)), (key, bucket.url(key)));
            }
            for key in ["", "/", "/a", "a/", "a//b", ".", "a/../b", "a\nb"] {
                assert_eq!(bucket.path(key).unwrap_err().kind(), ErrorKind::Argument, "{key:?}");
            }
        }
        assert_eq!(root.url("k").to_str(), Some("memory://x/k"));
        assert_eq!(root.below("").unwrap().below("a").unwrap().url("").to_str(), Some("memory://x/a"));
    }
}
