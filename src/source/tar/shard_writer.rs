//! Shards of samples.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::write::{Prepared, TarWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::file::NewFile;

/// How shards are written.
#[derive(Debug, Clone)]
pub struct ShardWriterOptions {
    max_samples: u64,
    max_bytes: u64,
}

impl Default for ShardWriterOptions {
    fn default() -> Self {
        Self { max_samples: 100_000, max_bytes: 3_000_000_000 }
    }
}

impl ShardWriterOptions {
    /// The most samples in a shard. The default is 100,000, as WebDataset's.
    pub fn max_samples(mut self, max_samples: u64) -> Self {
        self.max_samples = max_samples;
        self
    }

    /// The largest size of a shard, headers and all. A sample that is larger has a shard to itself. The default is
    /// 3,000,000,000, as WebDataset's.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Begins shards, as [`ShardWriter::create`] does.
    ///
    /// # Errors
    ///
    /// As [`ShardWriter::create`], and of kind [`Argument`](ErrorKind::Argument) if `max_samples` is 0.
    pub fn create(self, pattern: impl AsRef<Path>) -> Result<ShardWriter> {
        if self.max_samples == 0 {
            return Err(Error::argument("shards of 0 samples, expected at least 1"));
        }
        let pattern = Pattern::parse(pattern.as_ref())?;
        fs::create_dir_all(&pattern.folder).map_err(|cause| Error::from(cause).with_file(&pattern.folder))?;
        pattern.check_unused()?;
        Ok(ShardWriter { options: self, pattern, current: None, written: Vec::new(), failed: false })
    }
}

/// A shard that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenShard {
    /// The file.
    pub path: PathBuf,
    /// The number of samples in it.
    pub num_samples: u64,
    /// The size of the file.
    pub size_bytes: u64,
}

/// Writes samples to tar shards, one after the other, each up to a number of samples or a size.
///
/// The same samples give the same files. A shard has its name once it is whole, and until then `.tmp` at the end of it.
/// Dropped without [`finish`](Self::finish), it leaves the shards that are whole.
///
/// # Examples
///
/// ```
/// use procession::Sequence;
/// use procession::source::{ShardWriter, TarShards};
///
/// let dir = tempfile::tempdir()?;
/// let mut writer = ShardWriter::options().max_samples(2).create(dir.path().join("birds-%04d.tar"))?;
/// for (key, class) in [("a", b"0"), ("b", b"1"), ("c", b"0")] {
///     writer.append(key, &[("jpg", b"..."), ("cls", class)])?;
/// }
/// let shards = writer.finish()?;
/// assert_eq!((shards.len(), shards[1].num_samples), (2, 1));
/// assert!(shards[1].path.ends_with("birds-0001.tar"));
/// assert_eq!(TarShards::open(dir.path())?.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ShardWriter {
    options: ShardWriterOptions,
    pattern: Pattern,
    current: Option<Shard>,
    written: Vec<WrittenShard>,
    failed: bool,
}

#[derive(Debug)]
struct Shard {
    writer: TarWriter<BufWriter<NewFile>>,
    path: PathBuf,
}

impl ShardWriter {
    /// Begins shards whose paths are those of a pattern with a place for their number: `train-%06d.tar` stands for
    /// `train-000000.tar` and so on. Makes the folder if it is not there. No shard is made before its first sample.
    ///
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if the pattern's file name has not exactly one `%d` or `%06d` and ends
    /// with `.tar`; [`Io`](ErrorKind::Io) if the folder cannot be made or listed, or has a file of the pattern: what was
    /// written before would be taken for a part of what is written now.
    pub fn create(pattern: impl AsRef<Path>) -> Result<Self> {
        Self::options().create(pattern)
    }

    /// Options to write shards with.
    pub fn options() -> ShardWriterOptions {
        ShardWriterOptions::default()
    }

    /// Writes a sample, to the shard before or to a new one. See [`TarWriter::append`].
    ///
    /// # Errors
    ///
    /// As [`TarWriter::append`], with the shard. After an error of kind [`Io`](ErrorKind::Io) the shard is removed, and
    /// `append` and `finish` fail from there on.
    pub fn append(&mut self, key: &str, fields: &[(&str, &[u8])]) -> Result<()> {
        self.check()?;
        let sample = Prepared::new(key, fields)?;
        if self.current.as_ref().is_some_and(|shard| self.is_full(shard, &sample)) {
            self.finish_shard()?;
        }
        let result =
            self.shard().and_then(|shard| shard.writer.write(&sample).map_err(|error| error.with_file(&shard.path)));
        result.inspect_err(|error| self.give_up(error))
    }

    /// The shards that are whole.
    pub fn shards(&self) -> &[WrittenShard] {
        &self.written
    }

    /// The number of samples so far.
    pub fn num_samples(&self) -> u64 {
        let whole = self.written.iter().map(|shard| shard.num_samples);
        whole.sum::<u64>() + self.current.as_ref().map_or(0, |shard| shard.writer.num_samples())
    }

    /// Finishes the last shard, and returns all of them.
    ///
    /// # Errors
    ///
    /// Of kind [`Io`](ErrorKind::Io), with the shard, if it cannot be finished, or something before it could not be
    /// written.
    pub fn finish(mut self) -> Result<Vec<WrittenShard>> {
        self.check()?;
        self.finish_shard()?;
        Ok(std::mem::take(&mut self.written))
    }

    fn is_full(&self, shard: &Shard, sample: &Prepared<'_>) -> bool {
        let size_bytes = shard.writer.size_bytes() + sample.size_bytes();
        shard.writer.num_samples() >= self.options.max_samples || size_bytes > self.options.max_bytes
    }

    /// The shard that is being written.
    fn shard(&mut self) -> Result<&mut Shard> {
        let shard = match self.current.take() {
            Some(shard) => shard,
            None => {
                let path = self.pattern.path(self.written.len());
                Shard { writer: TarWriter::new(BufWriter::new(NewFile::create(&path)?)), path }
            }
        };
        Ok(self.current.insert(shard))
    }

    fn finish_shard(&mut self) -> Result<()> {
        let Some(Shard { writer, path }) = self.current.take() else { return Ok(()) };
        let shard = WrittenShard { path, num_samples: writer.num_samples(), size_bytes: writer.size_bytes() };
        let finished = writer.finish().and_then(|file| {
            let file = file.into_inner().map_err(|failed| Error::from(failed.into_error()))?;
            file.finish()
        });
        let finished = finished.map_err(|error| error.with_file(&shard.path));
        finished.inspect_err(|error| self.give_up(error))?;
        self.written.push(shard);
        Ok(())
    }

    /// After a failure that was not about the sample.
    fn give_up(&mut self, error: &Error) {
        if error.kind() != ErrorKind::Argument {
            self.failed = true;
            self.current = None;
        }
    }

    fn check(&self) -> Result<()> {
        if self.failed { Err(Error::new(ErrorKind::Io, "a shard could not be written before")) } else { Ok(()) }
    }
}

/// Paths with a place for a number.
#[derive(Debug)]
struct Pattern {
    folder: PathBuf,
    before: String,
    width: usize,
    after: String,
}

impl Pattern {
    fn parse(path: &Path) -> Result<Self> {
        let refused = || {
            let path = path.display();
            Error::argument(format!("pattern `{path}`, expected a path such as `folder/train-%06d.tar`"))
        };
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(refused)?;
        let (before, rest) = name.split_once('%').ok_or_else(refused)?;
        let (digits, after) = rest.split_once('d').ok_or_else(refused)?;
        let width = if digits.is_empty() { Some(0) } else { digits.strip_prefix('0').and_then(|w| w.parse().ok()) };
        let width = width.filter(|&width: &usize| width <= 20).ok_or_else(refused)?;
        if after.contains('%') || !after.ends_with(".tar") {
            return Err(refused());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { folder: folder.to_owned(), before: before.to_owned(), width, after: after.to_owned() })
    }

    fn path(&self, number: usize) -> PathBuf {
        let Self { folder, before, width, after } = self;
        folder.join(format!("{before}{number:0width$}{after}"))
    }

    fn check_unused(&self) -> Result<()> {
        let failed = |cause: std::io::Error| Error::from(cause).with_file(&self.folder);
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(&*self.before)?.strip_suffix(&*self.after));
            if number.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
                let message = "there is a shard of this name already, expected none";
                return Err(Error::new(ErrorKind::Io, message).with_file(entry.path()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::TarShards;
    use super::*;
    use crate::sequence::Sequence;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_shard_is_full_at_a_number_of_samples_or_a_size() {
        // A sample of one file takes 1,024 bytes, and the end as many.
        let sizes = [100, 100, 100, 5000, 100, 100];
        for (max_samples, max_bytes, expected) in [
            (100, 1 << 30, &[6][..]),
            (2, 1 << 30, &[2, 2, 2]),
            (5, 1 << 30, &[5, 1]),
            (100, 4096, &[3, 1, 2]),
            (100, 4095, &[2, 1, 1, 2]),
            (100, 0, &[1; 6]),
            (1, 0, &[1; 6]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let options = ShardWriter::options().max_samples(max_samples).max_bytes(max_bytes);
            let mut writer = options.create(dir.path().join("s-%04d.tar")).unwrap();
            for (number, size) in sizes.into_iter().enumerate() {
                writer.append(&number.to_string(), &[("bin", &vec![number as u8; size])]).unwrap();
                assert_eq!(writer.num_samples(), number as u64 + 1);
            }
            let shards = writer.finish().unwrap();
            assert_eq!(shards.iter().map(|shard| shard.num_samples).collect::<Vec<_>>(), expected);
            for (number, shard) in shards.iter().enumerate() {
                assert_eq!(shard.path, dir.path().join(format!("s-{number:04}.tar")));
                assert_eq!(shard.size_bytes, fs::metadata(&shard.path).unwrap().len());
                assert!(shard.size_bytes <= max_bytes || shard.num_samples == 1);
            }
            let read = TarShards::open(dir.path()).unwrap();
            let keys: Vec<_> = (0..read.len()).map(|index| read.entry(index).key().to_owned()).collect();
            assert_eq!(keys, ["0", "1", "2", "3", "4", "5"]);
        }
    }

    #[test]
    fn only_whole_shards_have_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new/folder");
        let options = ShardWriter::options().max_samples(2);
        let mut writer = options.clone().create(folder.join("%d.tar")).unwrap();
        assert!(names(&folder).is_empty());
        writer.append("0", &[("cls", b"0")]).unwrap();
        assert_eq!(names(&folder), ["0.tar.tmp"]);
        // What is refused changes nothing.
        assert_eq!(writer.append("a.b", &[("cls", b"0")]).unwrap_err().kind(), ErrorKind::Argument);
        writer.append("1", &[("cls", b"0")]).unwrap();
        writer.append("2", &[("cls", b"0")]).unwrap();
        assert_eq!(names(&folder), ["0.tar", "1.tar.tmp"]);
        assert_eq!((writer.shards().len(), writer.num_samples()), (1, 3));
        drop(writer);
        assert_eq!(names(&folder), ["0.tar"]);
        // What is there is not mixed with what comes.
        let error = options.clone().create(folder.join("%06d.tar")).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*folder.join("0.tar"))));
        let none = options.create(folder.join("other-%d.tar")).unwrap().finish().unwrap();
        assert!(none.is_empty() && names(&folder) == ["0.tar"]);
    }

    #[test]
    fn a_pattern_has_one_place_for_a_number() {
        for (name, second) in [("%d.tar", "1.tar"), ("a-%06d.b.tar", "a-000001.b.tar"), ("%01d.tar", "1.tar")] {
            assert_eq!(Pattern::parse(&Path::new("f").join(name)).unwrap().path(1), Path::new("f").join(second));
        }
        assert_eq!(Pattern::parse(Path::new("%d.tar")).unwrap().folder, Path::new("."));
        let long = Pattern::parse(Path::new("%03d.tar")).unwrap();
        assert_eq!(long.path(12345), Path::new("./12345.tar"));
        for name in [
            "",
            "a.tar",
            "%.tar",
            "%6d.tar",
            "%d",
            "%d.tar.gz",
            "%d%d.tar",
            "%x.tar",
            "%0d.tar",
            "%099d.tar",
            "%d/a.tar",
            "%d.tar/..",
        ] {
            let error = ShardWriter::create(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{name}");
            assert!(error.message().ends_with("expected a path such as `folder/train-%06d.tar`"), "{error}");
        }
        assert!(ShardWriter::options().max_samples(0).create("%d.tar").is_err());
    }

    #[test]
    fn a_shard_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = ShardWriter::create(file.join("%d.tar")).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*file)));

        let mut writer = ShardWriter::options().max_samples(1).create(dir.path().join("%d.tar")).unwrap();
        // A folder in the way of the second shard.
        fs::create_dir_all(dir.path().join("1.tar/inside")).unwrap();
        writer.append("0", &[("cls", b"0")]).unwrap();
        writer.append("1", &[("cls", b"0")]).unwrap();
        for _ in 0..2 {
            let error = writer.append("2", &[("cls", b"0")]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
        }
        assert_eq!(writer.shards().len(), 1);
        assert_eq!(writer.finish().unwrap_err().message(), "a shard could not be written before");
        assert_eq!(names(dir.path()), ["0.tar", "1.tar", "file"]);
    }

    #[test]
    fn a_shard_that_could_not_be_written_is_removed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(dir.path().join("%d.tar")).unwrap();
        writer.append("0", &[("cls", b"0")]).unwrap();
        writer.give_up(&Error::argument("the sample's fault"));
        assert_eq!(names(dir.path()), ["0.tar.tmp"]);
        writer.give_up(&std::io::Error::other("no space").into());
        assert!(names(dir.path()).is_empty());
        assert!(writer.append("1", &[("cls", b"0")]).is_err() && writer.finish().is_err());
    }
}
