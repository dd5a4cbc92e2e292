//! Many archives as one sequence.

use std::borrow::Cow;
use std::fmt;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;

use super::index::{TarEntry, TarIndex};
use super::passed_over::TarPassedOver;
use super::sample::{Shard, TarSample};
use super::{kept, paths};
use crate::error::Result;
use crate::sequence::{Sequence, check_index};
use crate::source::{Blob, IMAGE_EXTENSIONS, Mapped};

/// How tar shards are opened.
#[derive(Debug, Clone, Default)]
pub struct TarOptions {
    in_memory: bool,
    index_file: bool,
    allow_unterminated: bool,
}

impl TarOptions {
    /// Whether shards are read into memory instead of mapped; see [`Mapped`] for when that is better. The default is
    /// `false`: opening then does not read the data.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.in_memory = in_memory;
        self
    }

    /// Whether the index of each shard is kept in a file beside it, `shard.tar.index`, so that the headers are not read
    /// again the next time. The default is `false`, as it writes to where the data is. No effect on shards that are not
    /// files.
    ///
    /// An index that is damaged, of another format version, of an archive with another size or modification time, or whose
    /// first or last field is not in the archive, is made anew. Where it cannot be written, the shards open all the same.
    /// It is to be trusted like the shard: a file that was made up can exchange the fields of samples, but not lead out of
    /// the shard.
    pub fn index_file(mut self, index_file: bool) -> Self {
        self.index_file = index_file;
        self
    }

    /// Whether a shard may lack the blocks of zeros that end an archive: one that is still being written, or came from a
    /// stream that was broken off. The samples that are whole are those up to there. The default is `false`, an error: an
    /// archive that was cut off between two members would have fewer samples without a word.
    pub fn allow_unterminated(mut self, allow_unterminated: bool) -> Self {
        self.allow_unterminated = allow_unterminated;
        self
    }

    /// Opens shards, as [`TarShards::open`] does.
    ///
    /// # Errors
    ///
    /// As [`TarShards::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<TarShards> {
        self.open_all([path])
    }

    /// Opens shards, as [`TarShards::open_all`] does.
    ///
    /// # Errors
    ///
    /// As [`TarShards::open`].
    pub fn open_all<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Result<TarShards> {
        let mut archives = Vec::new();
        for path in paths {
            archives.extend(paths::archives(path.as_ref())?);
        }
        Ok(TarShards::new(in_parallel(archives.len(), |shard| self.open_one(&archives[shard]))?))
    }

    /// Takes the bytes of a shard, as [`TarShards::from_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`TarShards::from_bytes`].
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<TarShards> {
        let bytes = Mapped::from_bytes(bytes, name);
        let index = TarIndex::scan(Cursor::new(&*bytes), bytes.path())?;
        Ok(TarShards::new(vec![self.shard(bytes, index)?]))
    }

    fn open_one(&self, path: &Path) -> Result<Shard> {
        let map = |path| if self.in_memory { Mapped::read(path) } else { Mapped::open(path) };
        let scan = |bytes: &Mapped| bytes.read_here_and_there(|bytes| TarIndex::scan(Cursor::new(bytes), path));
        if !self.index_file {
            let bytes = map(path)?;
            let index = scan(&bytes)?;
            return self.shard(bytes, index);
        }
        // The name may lead to another file at any moment. If it leads to one of the same size and time before and after
        // something was done, that was done to this one.
        let stamp = kept::stamp(path);
        let bytes = map(path)?;
        let size_bytes = bytes.len() as u64;
        let is_same = || kept::stamp(path) == stamp;
        let Some((_, version)) = stamp.as_ref().filter(|stamp| stamp.0 == size_bytes && is_same()) else {
            let index = scan(&bytes)?;
            return self.shard(bytes, index);
        };
        let index = match kept::load(&bytes, path, version) {
            Some(index) => index,
            None => {
                let index = scan(&bytes)?;
                if is_same() {
                    kept::store(&index, path, version);
                }
                index
            }
        };
        self.shard(bytes, index)
    }

    fn shard(&self, bytes: Mapped, index: TarIndex) -> Result<Shard> {
        let path = bytes.path().to_owned();
        if !self.allow_unterminated {
            index.expect_end().map_err(|error| error.with_file(&path))?;
        }
        Ok(Shard::new(Bytes::from_owner(bytes), path, index))
    }
}

/// Calls `f` with each number below `count`, on as many threads as there are processors: where the disk or the network
/// is slow, most of the time is spent waiting for it. Of several errors it returns the one of the lowest number.
fn in_parallel<T: Send>(count: usize, f: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        loop {
            // Relaxed: only that each number is taken once matters, and what is made comes back by the join.
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return made;
            }
            let result = f(number);
            if result.is_err() {
                // Nothing more is begun. Whatever could come before this error has been taken already.
                next.fetch_max(count, Ordering::Relaxed);
            }
            made.push((number, result));
        }
    };
    let num_threads = num_cpus::get().min(count).saturating_sub(1);
    let mut made = thread::scope(|scope| {
        let threads: Vec<_> = (0..num_threads).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for thread in threads {
            made.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, result)| result).collect()
}

/// Tar archives in the convention of [WebDataset](https://github.com/webdataset/webdataset), as one sequence: the samples
/// of the first shard, then those of the second, and so on. Which files make a sample is told at [`TarIndex`].
///
/// Shards are mapped, and samples are read in any order where they lie: nothing is unpacked and no byte copied. Cheap to
/// clone: clones share the shards.
///
/// # Cost
///
/// Opening reads the headers, a block of 512 bytes for each file in the archives, on as many threads as there are
/// processors, or the [index files](TarOptions::index_file). The index stays in memory; see [`TarIndex`]. Finding a
/// sample takes O(log(shards)). A system may allow some 65,000 mappings in a process (`vm.max_map_count` on Linux), and
/// each shard is one.
///
/// # Examples
///
/// Shards are read best from one end to the other. [`BlockShuffle`](crate::BlockShuffle) shuffles the shards, and within
/// a few of them the samples:
///
/// ```
/// use procession::source::{ShardWriter, TarShards};
/// use procession::{BlockShuffle, Loader, SequenceExt};
///
/// let dir = tempfile::tempdir()?;
/// let mut writer = ShardWriter::options().max_samples(4).create(dir.path().join("train-%06d.tar"))?;
/// for number in 0..10_u8 {
///     let class = (number % 3).to_string();
///     writer.append(&format!("{number:04}"), &[("jpg", &[number; 100]), ("cls", class.as_bytes())])?;
/// }
/// writer.finish()?;
///
/// let shards = TarShards::open(dir.path().join("train-{000000..000002}.tar"))?;
/// let order = BlockShuffle::from_lengths(shards.shard_lens(), 2, 7)?;
/// let images = shards.images_and_labels().map(|(image, label)| (image[0] as f32, label));
/// let loader = Loader::builder(images).batch_size(5).sampler(order).build()?;
/// for batch in loader.epoch(0) {
///     let (images, labels) = batch?.into_inner();
///     assert!(images.iter().zip(&labels).all(|(&image, &label)| image as u32 % 3 == label));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TarShards {
    shards: Arc<[Arc<Shard>]>,
    // Invariant: `starts[i]` is the number of samples before shard `i`, and the last one is the number of all.
    starts: Arc<[usize]>,
}

impl TarShards {
    /// Opens one shard, all `*.tar` of a folder in the order of their names, or those that braces stand for:
    /// `train-{000000..000099}.tar`, `{train,extra}.tar`. A file whose name has braces is that file.
    ///
    /// # Errors
    ///
    /// With the file, of kind [`Io`](crate::ErrorKind::Io) if it cannot be read; [`Format`](crate::ErrorKind::Format) if
    /// it is no whole tar archive of a kind that [`TarIndex::scan`] reads, up to the zeros at its end, if a folder has no
    /// `*.tar`, or if it has one that is compressed; [`Limit`](crate::ErrorKind::Limit) if a header is larger than any should be, or braces stand
    /// for more than a million files; [`Argument`](crate::ErrorKind::Argument) if braces mean nothing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Opens shards in the given order; each path is what [`open`](Self::open) takes.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_all<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        Self::options().open_all(paths)
    }

    /// Takes the bytes of one shard, and the name that errors shall give.
    ///
    /// # Errors
    ///
    /// As [`TarIndex::scan`], and of kind [`Format`](crate::ErrorKind::Format) if the archive has no end.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<PathBuf>) -> Result<Self> {
        Self::options().from_bytes(bytes, name)
    }

    /// Options to open shards with.
    pub fn options() -> TarOptions {
        TarOptions::default()
    }

    fn new(shards: Vec<Shard>) -> Self {
        let mut starts = vec![0];
        let mut num_samples = 0;
        for shard in &shards {
            // Each takes memory, so that their number fits.
            num_samples += shard.index.len();
            starts.push(num_samples);
        }
        Self { shards: shards.into_iter().map(Arc::new).collect(), starts: starts.into() }
    }

    /// The number of samples in each shard: the lengths of the blocks of a [`BlockShuffle`](crate::BlockShuffle).
    pub fn shard_lens(&self) -> impl ExactSizeIterator<Item = u64> {
        self.shards.iter().map(|shard| shard.index.len() as u64)
    }

    /// The shards in their order: the path of each, or the name that was given to bytes, and its index.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = (&Path, &TarIndex)> {
        self.shards.iter().map(|shard| (shard.path(), &shard.index))
    }

    /// The key and the fields of a sample, without their bytes.
    ///
    /// # Panics
    ///
    /// If `index` is at or beyond the number of samples.
    pub fn entry(&self, index: usize) -> TarEntry<'_> {
        let (shard, sample) = self.find(index);
        shard.index.entry(sample)
    }

    /// How many members of the archives belong to no sample.
    pub fn num_passed_over(&self) -> u64 {
        self.shards.iter().map(|shard| shard.index.num_passed_over()).sum()
    }

    /// Members that belong to no sample, with their shard: the first thousand of each.
    pub fn passed_over(&self) -> impl Iterator<Item = (&Path, &TarPassedOver)> {
        self.shards().flat_map(|(path, index)| index.passed_over().iter().map(move |member| (path, member)))
    }

    /// The image and the label of each sample: the field `jpg`, `jpeg`, `png`, `webp`, `gif`, `bmp`, `tif`, `tiff`, `ppm`,
    /// `pgm`, `pbm`, `jpe` or `jfif`, the first of these that there is, and the number in the field `cls`.
    ///
    /// A sample that lacks either fails when it is loaded, with its key; see [`TarSample::field`] and
    /// [`TarSample::label`].
    pub fn images_and_labels(&self) -> TarImagesAndLabels {
        TarImagesAndLabels { shards: self.clone() }
    }

    /// The shard that holds a sample, and the sample's number there.
    fn find(&self, index: usize) -> (&Arc<Shard>, usize) {
        check_index(index, self.len());
        // The last shard that starts at or before the index; shards without samples before it start there, too.
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.shards[shard], index - self.starts[shard])
    }
}

impl Sequence for TarShards {
    type Sample = TarSample;

    fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }
    /// Never fails: it is the fields that do, when they are asked for.
    fn get(&self, index: usize) -> Result<TarSample> {
        let (shard, sample) = self.find(index);
        Ok(TarSample { shard: Arc::clone(shard), sample, pieces: None })
    }
    /// The sizes of all fields together, though mapped bytes take no memory of their own until somebody reads them.
    fn size_bytes(&self, index: usize) -> Option<usize> {
        usize::try_from(self.entry(index).size_bytes()).ok()
    }
    /// The archive, a slash, and the first file of the sample.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let (shard, sample) = self.find(index);
        Some(shard.file_of(shard.index.entry(sample)))
    }
}

impl fmt::Debug for TarShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.shards.iter().map(|shard| shard.path()).collect();
        f.debug_struct("TarShards").field("shards", &paths).field("samples", &self.len()).finish()
    }
}

/// The images and the labels of tar shards; made by [`TarShards::images_and_labels`].
#[derive(Debug, Clone)]
pub struct TarImagesAndLabels {
    shards: TarShards,
}

impl TarImagesAndLabels {
    /// The shards.
    pub fn into_shards(self) -> TarShards {
        self.shards
    }
}

impl Sequence for TarImagesAndLabels {
    type Sample = (Blob, u32);

    fn len(&self) -> usize {
        self.shards.len()
    }
    fn get(&self, index: usize) -> Result<(Blob, u32)> {
        let sample = self.shards.get(index)?;
        let image = sample.field_of(&IMAGE_EXTENSIONS)?;
        Ok((image, sample.label()?))
    }
    fn size_bytes(&self, index: usize) -> Option<usize> {
        let image = self.shards.entry(index).field_of(&IMAGE_EXTENSIONS)?.size_bytes();
        usize::try_from(image).ok()?.checked_add(size_of::<u32>())
    }
    /// The archive, a slash, and the image.
    fn file(&self, index: usize) -> Option<PathBuf> {
        let (shard, sample) = self.shards.find(index);
        let entry = shard.index.entry(sample);
        let image = entry.field_of(&IMAGE_EXTENSIONS);
        Some(image.map_or_else(|| shard.file_of(entry), |image| shard.file(&image.member())))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{MapKeys, archive, file};
    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::check_sequence;

    #[test]
    fn images_and_labels_keep_the_contract_and_what_is_known() {
        let bytes = archive([
            file("a.cls", b"3"),
            file("a.webp", b"image"),
            file("b.png", b"second"),
            file("b.jpg", b"first"),
            file("b.cls", b"0"),
        ]);
        let pairs = TarShards::from_bytes(bytes, "the.tar").unwrap().images_and_labels();
        check_sequence(&pairs);
        let (image, label) = pairs.get(1).unwrap();
        assert_eq!((image.bytes(), label), (&b"first"[..], 0));
        assert_eq!((pairs.size_bytes(0), pairs.size_bytes(1)), (Some(9), Some(9)));
        assert_eq!(pairs.file(0).unwrap(), Path::new("the.tar/a.webp"));
        let shards = pairs.into_shards();
        assert_eq!((shards.size_bytes(0), shards.file(0).unwrap().to_str()), (Some(6), Some("the.tar/a.cls")));
    }

    /// Shards of the given numbers of samples in a folder.
    fn folder(lens: &[usize]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (shard, &len) in lens.iter().enumerate() {
            let members: Vec<u8> = (0..len).flat_map(|sample| file(&format!("{shard}-{sample}.cls"), b"1")).collect();
            fs::write(dir.path().join(format!("s-{shard:03}.tar")), archive([members])).unwrap();
        }
        dir
    }

    #[test]
    fn many_shards_are_one_sequence() {
        let dir = folder(&[0, 2, 0, 1, 3, 0]);
        let pattern = dir.path().join("s-{000..005}.tar");
        let open_all = || TarShards::open_all((0..6).map(|shard| dir.path().join(format!("s-{shard:03}.tar"))));
        for shards in [
            TarShards::open(dir.path()).unwrap(),
            TarShards::open(&pattern).unwrap(),
            open_all().unwrap(),
            TarShards::options().in_memory(true).open(&pattern).unwrap(),
        ] {
            check_sequence(&shards.clone().map_keys());
            let keys: Vec<_> = (0..shards.len()).map(|index| shards.entry(index).key().to_owned()).collect();
            assert_eq!(keys, ["1-0", "1-1", "3-0", "4-0", "4-1", "4-2"]);
            assert_eq!(shards.shard_lens().collect::<Vec<_>>(), [0, 2, 0, 1, 3, 0]);
            assert_eq!(shards.file(2).unwrap(), dir.path().join("s-003.tar/3-0.cls"));
            assert_eq!(shards.shards().nth(4).unwrap().0, dir.path().join("s-004.tar"));
            assert_eq!(shards.shards().nth(4).unwrap().1.len(), 3);
        }
        let one = TarShards::open(dir.path().join("s-004.tar")).unwrap();
        assert_eq!((one.len(), one.get(2).unwrap().key()), (3, "4-2"));
        let none = TarShards::open_all::<&Path>([]).unwrap();
        assert!(none.is_empty() && format!("{none:?}") == "TarShards { shards: [], samples: 0 }");
    }

    #[test]
    fn of_many_bad_shards_the_first_is_named() {
        let dir = folder(&[1, 1, 1, 1, 1]);
        for shard in [1, 3] {
            fs::write(dir.path().join(format!("s-00{shard}.tar")), b"bad").unwrap();
        }
        for _ in 0..20 {
            assert_eq!(TarShards::open(dir.path()).unwrap_err().file(), Some(&*dir.path().join("s-001.tar")));
        }
        let missing = dir.path().join("s-{003..007}.tar");
        assert_eq!(TarShards::open(missing).unwrap_err().file(), Some(&*dir.path().join("s-003.tar")));
        let missing = dir.path().join("s-{004..007}.tar");
        let error = TarShards::open(missing).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*dir.path().join("s-005.tar"))));
        // A folder where an archive belongs.
        let dir = folder(&[1]);
        fs::create_dir(dir.path().join("t.tar")).unwrap();
        let error = TarShards::open(dir.path()).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*dir.path().join("t.tar"))));
    }

    #[test]
    fn an_archive_that_lost_its_end_is_refused_unless_it_may() {
        let dir = folder(&[3]);
        let path = dir.path().join("s-000.tar");
        let whole = fs::read(&path).unwrap();
        // Each sample has a header and a block of data; the end has two blocks.
        for (len, num_samples) in [(2 * 1024, 2), (3 * 1024, 3), (3 * 1024 + 511, 3)] {
            fs::write(&path, &whole[..len]).unwrap();
            for index_file in [false, true, true] {
                let options = TarShards::options().index_file(index_file);
                let error = options.open(&path).unwrap_err();
                assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*path)));
                let expected = format!("no end of a tar archive in its {len} bytes: ");
                assert!(error.message().starts_with(&expected), "{error}");
                assert_eq!(options.allow_unterminated(true).open(&path).unwrap().len(), num_samples);
            }
            assert!(TarShards::from_bytes(whole[..len].to_vec(), "the.tar").is_err());
        }
        assert_eq!(TarShards::from_bytes(whole[..3 * 1024 + 512].to_vec(), "the.tar").unwrap().len(), 3);
    }

    #[test]
    fn an_archive_that_shrinks_does_not_matter_once_it_is_in_memory() {
        let dir = folder(&[3]);
        let path = dir.path().join("s-000.tar");
        let shards = TarShards::options().in_memory(true).open(&path).unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(shards.get(2).unwrap().label().unwrap(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn names_that_are_not_utf8_and_files_that_must_not_be_read() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;

        let dir = folder(&[2]);
        let path = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff{0..1}.tar"));
        fs::rename(dir.path().join("s-000.tar"), &path).unwrap();
        for shards in [TarShards::open(&path).unwrap(), TarShards::open(dir.path()).unwrap()] {
            assert_eq!(shards.file(1).unwrap(), path.join("0-1.cls"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        // The superuser may read it all the same.
        if fs::File::open(&path).is_err() {
            let error = TarShards::open(&path).unwrap_err();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*path)));
        }
    }

    #[test]
    fn after_an_error_nothing_more_is_begun() {
        let (count, begun) = (10_000_000, AtomicUsize::new(0));
        let result = in_parallel(count, |number| {
            begun.fetch_add(1, Ordering::Relaxed);
            if number == 7 { Err(crate::Error::sample("seven")) } else { Ok(number) }
        });
        assert!(result.is_err() && begun.into_inner() < count);
        assert_eq!(in_parallel(100, Ok).unwrap(), (0..100).collect::<Vec<_>>());
    }
}
