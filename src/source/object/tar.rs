//! Tar shards in a bucket.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::blocking;
use super::bucket::{Bucket, LIMIT_BYTES};
use super::fetch::{self, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::AsyncSequence;
use crate::sequence::check_index;
use crate::source::tar::{COMPRESSED, RemoteShard, ScanAhead, expand, ranges};
use crate::source::{Blob, IMAGE_EXTENSIONS, TarEntry, TarField, TarIndex, TarPassedOver, TarSample};

/// How many shards are opened at once.
const OPENED_AT_ONCE: usize = 16;

/// What the index of a shard is called, beside it.
const INDEX_SUFFIX: &str = ".index";

/// How tar shards in a bucket are opened.
#[derive(Debug, Clone)]
pub struct ObjectTarOptions {
    index_objects: bool,
    allow_unterminated: bool,
    limit_bytes: u64,
}

impl Default for ObjectTarOptions {
    fn default() -> Self {
        Self { index_objects: false, allow_unterminated: false, limit_bytes: LIMIT_BYTES }
    }
}

impl ObjectTarOptions {
    /// Whether a shard may lack the blocks of zeros that end an archive, as
    /// [`TarOptions::allow_unterminated`](crate::source::TarOptions::allow_unterminated) has it. The default is `false`.
    pub fn allow_unterminated(mut self, allow_unterminated: bool) -> Self {
        self.allow_unterminated = allow_unterminated;
        self
    }

    /// The most bytes that are fetched for a sample. One that needs more is an error of kind [`Limit`](ErrorKind::Limit). The
    /// default is 1 GiB.
    pub fn limit_bytes(mut self, limit_bytes: u64) -> Self {
        self.limit_bytes = limit_bytes;
        self
    }

    /// Whether an index that is kept beside a shard, `shard.tar.index`, is fetched instead of the shard's headers. The default
    /// is `false`, as it costs a request for each shard that has none.
    ///
    /// One that is damaged, or of a shard with another size or version, is not used: that is its entity tag, as
    /// [`put_index_objects`](ObjectTarShards::put_index_objects) writes it, or the time of its last change, as
    /// [`TarOptions::index_file`](crate::source::TarOptions::index_file) does beside a file. It is to be trusted like the
    /// shard.
    pub fn index_objects(mut self, index_objects: bool) -> Self {
        self.index_objects = index_objects;
        self
    }

    /// Opens the shards that a URL names, as [`ObjectTarShards::open`] does.
    ///
    /// # Errors
    ///
    /// As [`ObjectTarShards::open`].
    pub fn open(&self, url: &str) -> Result<ObjectTarShards> {
        self.open_in_blocking(&Bucket::open(url)?)
    }

    /// Opens the shards of a bucket, as [`ObjectTarShards::open_in`] does.
    ///
    /// # Errors
    ///
    /// As [`ObjectTarShards::open_in`].
    pub async fn open_in(&self, bucket: &Bucket) -> Result<ObjectTarShards> {
        let found = archives(bucket).await.map_err(|error| error.with_file(bucket.url("")))?;
        self.open_found(bucket, found).await
    }

    /// Opens the shards of a bucket; blocks until their indices are there.
    ///
    /// # Errors
    ///
    /// As [`ObjectTarShards::open`].
    pub fn open_in_blocking(&self, bucket: &Bucket) -> Result<ObjectTarShards> {
        blocking::wait(self.open_in(bucket))
    }

    async fn open_found(&self, bucket: &Bucket, found: Vec<(Path, Option<Known>)>) -> Result<ObjectTarShards> {
        let opened = found.into_iter().map(|(path, known)| async move {
            let file = bucket.url_of(&path);
            self.open_one(bucket, path, known).await.map_err(|error| error.with_file(file))
        });
        // Of several errors that of the first shard is returned.
        let shards: Vec<Shard> = futures_util::stream::iter(opened).buffered(OPENED_AT_ONCE).try_collect().await?;
        let mut starts = vec![0];
        for shard in &shards {
            // Each takes memory, so that their number fits.
            starts.push(starts[starts.len() - 1] + shard.archive.index().len());
        }
        let limit_bytes = self.limit_bytes;
        Ok(ObjectTarShards { bucket: bucket.clone(), shards: shards.into(), starts: starts.into(), limit_bytes })
    }

    async fn open_one(&self, bucket: &Bucket, path: Path, known: Option<Known>) -> Result<Shard> {
        let known = match known {
            Some(known) => known,
            None => bucket.head(&path).await?,
        };
        let index = self.index(bucket, &path, &known).await?;
        if !self.allow_unterminated {
            index.expect_end()?;
        }
        Ok(Shard { archive: RemoteShard::new(bucket.url_of(&path), index), path, known })
    }

    async fn index(&self, bucket: &Bucket, path: &Path, known: &Known) -> Result<TarIndex> {
        let identity = bucket.identity(path, known, "index");
        let kept = bucket.cached(Some(&identity)).await;
        let kept = kept.and_then(|kept| TarIndex::from_bytes(&kept, known.size_bytes, b"").ok());
        if let Some(index) = kept {
            return Ok(index);
        }
        let beside = if self.index_objects { index_beside(bucket, path, known).await? } else { None };
        let index = match beside {
            Some(index) => index,
            None => scan(bucket, path, known).await?,
        };
        bucket.keep(Some(&identity), &Bytes::from(index.to_bytes(b""))).await;
        Ok(index)
    }
}

/// The index that is kept beside a shard, if it is one of this version.
async fn index_beside(bucket: &Bucket, path: &Path, known: &Known) -> Result<Option<TarIndex>> {
    // A sample takes less in an index than its headers in the archive.
    let Some(bytes) = bucket.fetch_small(&index_path(path)?, known.size_bytes).await? else { return Ok(None) };
    let of = |version: &[u8]| TarIndex::from_bytes(&bytes, known.size_bytes, version).ok();
    if let Some(index) = known.tag().and_then(of) {
        return Ok(Some(index));
    }
    // A copy of another archive may have the same size and time: the first field and the last one tell, as far as they can.
    let Some(index) = of(&known.time()) else { return Ok(None) };
    let Some(looked_at) = index.parts_to_look_at() else { return Ok(None) };
    let mut parts = Vec::new();
    for range in looked_at {
        parts.push((range.start, bucket.fetch_directly(path, known, range).await?));
    }
    Ok(index.agrees_with_parts(&parts).then_some(index))
}

fn index_path(path: &Path) -> Result<Path> {
    Path::parse(format!("{path}{INDEX_SUFFIX}"))
        .map_err(|cause| Error::argument("no key of an index").with_cause(cause))
}

/// Reads the headers of a shard.
async fn scan(bucket: &Bucket, path: &Path, known: &Known) -> Result<TarIndex> {
    let mut scan = ScanAhead::new(known.size_bytes)?;
    while let Some(range) = scan.advance()? {
        // Not kept on the disk: what is kept is the index.
        let bytes = bucket.fetch_directly(path, known, range).await?;
        scan.supply(&bytes);
    }
    scan.finish()
}

/// The archives that a bucket's prefix stands for: an object, all below it, or all that its braces expand to.
async fn archives(bucket: &Bucket) -> Result<Vec<(Path, Option<Known>)>> {
    let prefix = bucket.prefix();
    if prefix.as_ref().contains('{') {
        let paths = expand(prefix.as_ref())?.into_iter().map(|path| {
            let parsed = Path::parse(&path);
            parsed.map(|path| (path, None)).map_err(|cause| Error::argument("no key of an object").with_cause(cause))
        });
        return paths.collect();
    }
    if prefix.as_ref().ends_with(".tar") {
        return Ok(vec![(prefix.clone(), None)]);
    }
    let below = Some(prefix).filter(|prefix| !prefix.is_root());
    let listed = bucket.store().list_with_delimiter(below).await.map_err(fetch::failed)?;
    let (mut archives, mut compressed) = (Vec::new(), Vec::new());
    for meta in listed.objects {
        let name = meta.location.filename().unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if name.ends_with(".tar") {
            archives.push((meta.location.clone(), Some(Known::of(&meta))));
        } else if let Some(end) = COMPRESSED.iter().find(|end| name.ends_with(**end)) {
            let key = meta.location.as_ref();
            compressed.push((format!("{}.tar", &key[..key.len() - end.len()]), meta.location.clone()));
        }
    }
    // To leave some of the data out would be worse than to stop.
    compressed.sort();
    let is_there = |plain: &str| archives.iter().any(|(path, _)| path.as_ref() == plain);
    if let Some((_, path)) = compressed.into_iter().find(|(plain, _)| !is_there(plain)) {
        let message = "compressed archive among shards: decompress it first, as samples are read where they lie";
        return Err(Error::new(ErrorKind::Format, message).with_file(bucket.url_of(&path)));
    }
    if archives.is_empty() {
        return Err(Error::new(ErrorKind::Format, "no `*.tar` below the prefix, expected tar shards"));
    }
    archives.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(archives)
}

struct Shard {
    archive: RemoteShard,
    path: Path,
    known: Known,
}

/// Tar archives in a bucket, in the convention of [WebDataset](https://github.com/webdataset/webdataset), as one sequence:
/// what [`TarShards`](crate::source::TarShards) is for files. Which members make a sample is told at [`TarIndex`].
///
/// Samples are fetched in any order, each by one request for the range of its fields; two if much lies between them. Cheap to
/// clone.
///
/// # Errors
///
/// `get` fails as that of [`Objects`](super::Objects), with the shard's URL; the fields of a sample as those of
/// [`TarSample`].
///
/// # Cost
///
/// Opening fetches the headers of each shard, of 16 shards at a time: those of short members with what lies between them, up
/// to four mebibytes at once, those of members of more than 256 KiB one by one and without the data. With a
/// [cache on the disk](Bucket::disk_cache) the index is kept there, so that a shard is scanned once; an
/// [index beside it](ObjectTarOptions::index_objects) is for many machines. The index stays in memory.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use procession::source::object_store::memory::InMemory;
/// use procession::source::{Bucket, ObjectTarShards, TarWriter};
/// use procession::{BlockShuffle, Loader};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let bucket = Bucket::new(Arc::new(InMemory::new()), "memory://bucket");
/// let mut writer = TarWriter::new(Vec::new());
/// for number in 0..6_u8 {
///     writer.append(&number.to_string(), &[("jpg", &[number; 100]), ("cls", (number % 3).to_string().as_bytes())])?;
/// }
/// let shard = writer.finish()?;
/// # runtime.block_on(bucket.write("train/shard-000.tar", shard))?;
///
/// let shards = ObjectTarShards::options().open_in_blocking(&bucket.below("train")?)?;
/// let order = BlockShuffle::from_lengths(shards.shard_lens(), 2, 7)?;
/// let images = Loader::remote(shards.images_and_labels()).map(|(image, label)| (image[0], label)).sampler(order).build()?;
/// let (pixels, labels) = images.epoch(0).next().unwrap()?.into_inner();
/// assert!(pixels.iter().zip(&labels).all(|(&pixel, &label)| u32::from(pixel) % 3 == label));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ObjectTarShards {
    bucket: Bucket,
    shards: Arc<[Shard]>,
    // Invariant: `starts[i]` is the number of samples before shard `i`, and the last one is the number of all.
    starts: Arc<[usize]>,
    limit_bytes: u64,
}

impl ObjectTarShards {
    /// Opens one shard, `s3://bucket/train.tar`; all `*.tar` directly below a prefix in the order of their names; or those that
    /// braces stand for, `s3://bucket/train-{000000..000099}.tar`. See [`Bucket::open`] for the URLs. Blocks until the indices
    /// are there.
    ///
    /// # Errors
    ///
    /// As [`Bucket::open`] and [`open_in`](Self::open_in); and of kind [`Argument`](ErrorKind::Argument) on the thread of a
    /// current-thread runtime, which it would hold up.
    pub fn open(url: &str) -> Result<Self> {
        Self::options().open(url)
    }

    /// Opens the shards of a bucket: what its prefix stands for, as in [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// With the URL, of kind [`Io`](ErrorKind::Io) if a shard cannot be fetched; [`Format`](ErrorKind::Format) if it is no
    /// whole tar archive of a kind that [`TarIndex::scan`] reads, it changes while it is read, or there is no `*.tar` or one
    /// that is compressed; [`Limit`](ErrorKind::Limit) if a header is larger than any should be, or braces stand for more than
    /// a million shards; [`Argument`](ErrorKind::Argument) if braces mean nothing.
    pub async fn open_in(bucket: &Bucket) -> Result<Self> {
        Self::options().open_in(bucket).await
    }

    /// Options to open shards with.
    pub fn options() -> ObjectTarOptions {
        ObjectTarOptions::default()
    }

    /// Writes the index of each shard beside it, as `shard.tar.index`, for
    /// [`index_objects`](ObjectTarOptions::index_objects).
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](ErrorKind::Io) if one cannot be written; of kind [`State`](ErrorKind::State) if the store gives no entity
    /// tags, so that it could not be told whether an index is still that of its shard.
    pub async fn put_index_objects(&self) -> Result<()> {
        for shard in self.shards.iter() {
            let Some(tag) = shard.known.tag() else {
                let message = "no entity tag, expected one to keep an index for";
                return Err(Error::new(ErrorKind::State, message).with_file(shard.archive.path()));
            };
            let bytes = shard.archive.index().to_bytes(tag);
            let put = self.bucket.store().put_opts(&index_path(&shard.path)?, bytes.into(), Default::default()).await;
            put.map_err(|cause| fetch::failed(cause).with_file(shard.archive.path()))?;
        }
        Ok(())
    }

    /// The number of samples in each shard: the lengths of the blocks of a [`BlockShuffle`](crate::BlockShuffle).
    pub fn shard_lens(&self) -> impl ExactSizeIterator<Item = u64> {
        self.shards.iter().map(|shard| shard.archive.index().len() as u64)
    }

    /// The shards in their order: the URL of each, and its index.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = (&FilePath, &TarIndex)> {
        self.shards.iter().map(|shard| (shard.archive.path(), shard.archive.index()))
    }

    /// The key and the fields of a sample, without their bytes.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of samples.
    pub fn entry(&self, index: usize) -> TarEntry<'_> {
        let (shard, sample) = self.find(index);
        shard.archive.index().entry(sample)
    }

    /// How many members of the archives belong to no sample.
    pub fn num_passed_over(&self) -> u64 {
        self.shards().map(|(_, index)| index.num_passed_over()).sum()
    }

    /// Members that belong to no sample, with their shard: the first thousand of each.
    pub fn passed_over(&self) -> impl Iterator<Item = (&FilePath, &TarPassedOver)> {
        self.shards().flat_map(|(path, index)| index.passed_over().iter().map(move |member| (path, member)))
    }

    /// The image and the label of each sample, as [`TarShards::images_and_labels`](crate::source::TarShards::images_and_labels)
    /// has it. Other fields are not fetched, unless they are short and lie between the two.
    pub fn images_and_labels(&self) -> ObjectTarImagesAndLabels {
        ObjectTarImagesAndLabels { shards: self.clone() }
    }

    fn find(&self, index: usize) -> (&Shard, usize) {
        check_index(index, self.starts[self.starts.len() - 1]);
        // The last shard that starts at or before the index; shards without samples before it start there, too.
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.shards[shard], index - self.starts[shard])
    }

    /// Fetches some fields of a sample, in the order of the archive.
    async fn fetch<'a>(
        &self,
        shard: &Shard,
        sample: usize,
        fields: impl IntoIterator<Item = TarField<'a>>,
    ) -> Result<TarSample> {
        let ranges = ranges(fields);
        let needed: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if needed > self.limit_bytes {
            let message = format!("sample of {needed} bytes, the limit is {}", self.limit_bytes);
            return Err(Error::new(ErrorKind::Limit, message).with_file(shard.archive.file(sample, None)));
        }
        let mut pieces = Vec::new();
        for range in ranges {
            let start = range.start;
            pieces.push((start, self.bucket.fetch_range(&shard.path, &shard.known, range).await?));
        }
        Ok(shard.archive.sample(sample, pieces))
    }
}

impl AsyncSequence for ObjectTarShards {
    type Sample = TarSample;

    fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }
    async fn get(&self, index: usize) -> Result<TarSample> {
        let (shard, sample) = self.find(index);
        self.fetch(shard, sample, shard.archive.index().entry(sample).fields()).await
    }
    /// The sizes of all fields together.
    fn size_bytes(&self, index: usize) -> Option<usize> {
        usize::try_from(self.entry(index).size_bytes()).ok()
    }
    /// The shard's URL, a slash, and the first file of the sample.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let (shard, sample) = self.find(index);
        Some(shard.archive.file(sample, None))
    }
}

impl fmt::Debug for ObjectTarShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.shards.iter().map(|shard| shard.archive.path()).collect();
        f.debug_struct("ObjectTarShards").field("shards", &paths).field("samples", &self.len()).finish()
    }
}

/// The images and the labels of tar shards in a bucket; made by [`ObjectTarShards::images_and_labels`].
#[derive(Debug, Clone)]
pub struct ObjectTarImagesAndLabels {
    shards: ObjectTarShards,
}

impl ObjectTarImagesAndLabels {
    /// The shards.
    pub fn into_shards(self) -> ObjectTarShards {
        self.shards
    }
}

impl AsyncSequence for ObjectTarImagesAndLabels {
    type Sample = (Blob, u32);

    fn len(&self) -> usize {
        self.shards.len()
    }
    async fn get(&self, index: usize) -> Result<(Blob, u32)> {
        let (shard, sample) = self.shards.find(index);
        let unfetched = shard.archive.sample(sample, Vec::new());
        let mut fields = [unfetched.find(&IMAGE_EXTENSIONS)?, unfetched.find(&["cls"])?];
        fields.sort_unstable_by_key(|field| field.range().start);
        let sample = self.shards.fetch(shard, sample, fields).await?;
        let image = sample.field_of(&IMAGE_EXTENSIONS)?;
        Ok((image, sample.label()?))
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let image = self.shards.entry(index).field_of(&IMAGE_EXTENSIONS)?.size_bytes();
        usize::try_from(image).ok()?.checked_add(size_of::<u32>())
    }
    /// The shard's URL, a slash, and the image.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let (shard, sample) = self.shards.find(index);
        Some(shard.archive.file(sample, shard.archive.index().entry(sample).field_of(&IMAGE_EXTENSIONS)))
    }
}
