//! The samples of shards.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{TarEntry, TarField, TarIndex};
use super::scan::shown;
use crate::error::{Error, ErrorKind, Result};
use crate::source::Blob;

/// Among how many samples one with the same key is looked for when a field is missing: every sample may lack one.
const SEARCHED_SAMPLES: usize = 100_000;

/// An archive: its bytes and its index.
#[derive(Debug)]
pub(super) struct Shard {
    // Invariant: as many bytes as the index says, so that every field lies within them; or none, and each sample has the
    // bytes of its own fields.
    bytes: Bytes,
    path: PathBuf,
    pub(super) index: TarIndex,
}

impl Shard {
    /// The index has to be one of an archive of this size.
    pub(super) fn new(bytes: Bytes, path: PathBuf, index: TarIndex) -> Self {
        assert_eq!(index.size_bytes(), bytes.len() as u64, "an index of the size of its archive");
        Self { bytes, path, index }
    }

    /// An archive that is somewhere else.
    #[cfg(feature = "object-store")]
    pub(super) fn elsewhere(path: PathBuf, index: TarIndex) -> Self {
        Self { bytes: Bytes::new(), path, index }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The archive, a slash, and the member. Not joined as paths are: the name of a member may begin with a slash.
    pub(super) fn file(&self, member: &str) -> PathBuf {
        let mut file = self.path.as_os_str().to_owned();
        file.push("/");
        file.push(member);
        PathBuf::from(file)
    }

    /// The archive, a slash, and the first file of a sample.
    pub(super) fn file_of(&self, entry: TarEntry<'_>) -> PathBuf {
        // There is at least one field.
        self.file(&entry.fields().next().map(|field| field.member()).unwrap_or_default())
    }
}

/// A part of an archive that was fetched.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

/// A sample of tar shards: its key, and the undecoded bytes of its fields.
///
/// Cheap to make and to clone: it is a shard and a place in it. The bytes are those of the mapped file, or were fetched.
///
/// # Examples
///
/// ```
/// use procession::Sequence;
/// use procession::source::{TarShards, TarWriter};
///
/// let mut writer = TarWriter::new(Vec::new());
/// writer.append("birds/17", &[("JPG", b"..."), ("cls", b"4\n"), ("txt", b"a tit")])?;
/// let shards = TarShards::from_bytes(writer.finish()?, "birds.tar")?;
///
/// let sample = shards.get(0)?;
/// assert_eq!((sample.key(), sample.label()?, sample.text("txt")?), ("birds/17", 4, "a tit"));
/// let image = sample.field_of(&["png", "jpg"])?;
/// assert_eq!((image.bytes(), image.name().to_str()), (&b"..."[..], Some("birds.tar/birds/17.JPG")));
/// let error = sample.field("json").unwrap_err();
/// let expected = "sample `birds/17` has no field `json`, only `jpg`, `cls`, `txt` (file birds.tar/birds/17.JPG)";
/// assert_eq!(error.to_string(), expected);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct TarSample {
    pub(super) shard: Arc<Shard>,
    // Invariant: below the number of samples of the shard.
    pub(super) sample: usize,
    // Invariant: if the archive is elsewhere, every field that is asked for lies within one of them.
    pub(super) pieces: Option<Arc<[Piece]>>,
}

impl TarSample {
    fn entry(&self) -> TarEntry<'_> {
        self.shard.index.entry(self.sample)
    }

    /// What the names of the sample's files have in common: the folder, and the base name up to its first dot.
    pub fn key(&self) -> &str {
        self.entry().key()
    }

    /// The extensions of its fields, in lower case, in the order of the archive.
    pub fn extensions(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entry().fields().map(|field| field.extension())
    }

    /// All of its fields, in the order of the archive.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Blob> {
        self.entry().fields().map(|field| self.blob(field))
    }

    /// The field with this extension, if the sample has one; upper and lower case are the same.
    pub fn get(&self, extension: &str) -> Option<Blob> {
        self.entry().field(extension).map(|field| self.blob(field))
    }

    /// The field with this extension.
    ///
    /// # Errors
    ///
    /// Of kind [`Format`](ErrorKind::Format) if there is none, with the sample's key and the fields that it has.
    pub fn field(&self, extension: &str) -> Result<Blob> {
        self.find(&[extension]).map(|field| self.blob(field))
    }

    /// The field with the first of these extensions that the sample has.
    ///
    /// # Errors
    ///
    /// As [`field`](Self::field).
    pub fn field_of(&self, extensions: &[&str]) -> Result<Blob> {
        self.find(extensions).map(|field| self.blob(field))
    }

    /// The sample's class: its field `cls`, a number in decimal digits, with white space around it.
    ///
    /// # Errors
    ///
    /// As [`field`](Self::field), and with the file if the field is another text.
    pub fn label(&self) -> Result<u32> {
        let field = self.find(&["cls"])?;
        let text = self.bytes(field).trim_ascii();
        std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let message = format!("label `{}`, expected a number from 0 to {}", shown(text), u32::MAX);
            Error::new(ErrorKind::Format, message).with_file(self.shard.file(&field.member()))
        })
    }

    /// The field with this extension as text.
    ///
    /// # Errors
    ///
    /// As [`field`](Self::field), and with the file and the place if the field is not UTF-8.
    pub fn text(&self, extension: &str) -> Result<&str> {
        let field = self.find(&[extension])?;
        std::str::from_utf8(self.bytes(field)).map_err(|cause| {
            let message = format!("byte {} is not UTF-8, expected text", cause.valid_up_to());
            Error::new(ErrorKind::Format, message).with_cause(cause).with_file(self.shard.file(&field.member()))
        })
    }

    pub(in crate::source) fn find(&self, extensions: &[&str]) -> Result<TarField<'_>> {
        self.entry().field_of(extensions).ok_or_else(|| self.missing(extensions))
    }

    #[cold]
    fn missing(&self, extensions: &[&str]) -> Error {
        let listed = |list: Vec<&str>| list.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (index, key) = (&self.shard.index, self.key());
        let has = listed(self.extensions().take(10).collect());
        let wanted = listed(extensions.to_vec());
        let mut message = format!("sample `{}` has no field {wanted}, only {has}", shown(key.as_bytes()));
        // What was meant for one sample may be two.
        let mut others = index.entries().enumerate().take(SEARCHED_SAMPLES).filter(|&(at, _)| at != self.sample);
        if let Some((_, other)) = others.find(|(_, other)| other.key() == key) {
            let other = listed(other.fields().take(10).map(|field| field.extension()).collect());
            message += &format!("; {other} with the same key is elsewhere in the archive, expected beside it");
        }
        Error::new(ErrorKind::Format, message).with_file(self.shard.file_of(self.entry()))
    }

    fn bytes(&self, field: TarField<'_>) -> &[u8] {
        let (bytes, place) = self.place(field);
        &bytes[place]
    }

    fn blob(&self, field: TarField<'_>) -> Blob {
        let (bytes, place) = self.place(field);
        Blob::new(bytes.slice(place), self.shard.file(&field.member()))
    }

    /// Where the bytes of a field are.
    fn place(&self, field: TarField<'_>) -> (&Bytes, Range<usize>) {
        let Range { start, end } = field.range();
        let (bytes, offset) = match &self.pieces {
            None => (&self.shard.bytes, 0),
            // Nothing is fetched for a field without bytes.
            Some(_) if start == end => return (&self.shard.bytes, 0..0),
            Some(pieces) => {
                // The last one that begins at or before the field.
                let piece = &pieces[pieces.partition_point(|piece| piece.start <= start) - 1];
                (&piece.bytes, piece.start)
            }
        };
        // They are in memory, so that places within them fit the address space.
        (bytes, (start - offset) as usize..(end - offset) as usize)
    }
}

impl fmt::Debug for TarSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extensions: Vec<&str> = self.extensions().collect();
        f.debug_struct("TarSample").field("key", &self.key()).field("fields", &extensions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::TarShards;
    use super::super::tests::{archive, file};
    use super::*;
    use crate::sequence::Sequence;

    fn sample_error(result: Result<impl Sized>) -> Error {
        result.err().unwrap()
    }

    #[test]
    fn fields_that_are_missing_or_wrong_are_named() {
        let bytes = archive([
            file("a.jpg", b"x"),
            file("b.jpg", b"x"),
            file("b.cls", b" -1\n"),
            file("b.txt", b"ab\xff"),
            file("/c.png", b"x"),
            file("/c.cls", b"\t 42 \n"),
            file("a.cls", b"4294967296"),
        ]);
        let shards = TarShards::from_bytes(bytes, "the.tar").unwrap();
        let [a, b, c, rest] = [0, 1, 2, 3].map(|index| shards.get(index).unwrap());
        for (error, kind, expected) in [
            (
                sample_error(a.label()),
                ErrorKind::Format,
                "sample `a` has no field `cls`, only `jpg`; `cls` with the same key is elsewhere in the archive, expected beside \
                 it (file the.tar/a.jpg)",
            ),
            (
                sample_error(b.field_of(&["gif", "bmp"])),
                ErrorKind::Format,
                "sample `b` has no field `gif`, `bmp`, only `jpg`, `cls`, `txt` (file the.tar/b.jpg)",
            ),
            (
                sample_error(b.label()),
                ErrorKind::Format,
                "label `-1`, expected a number from 0 to 4294967295 (file the.tar/b.cls)",
            ),
            (
                sample_error(rest.label()),
                ErrorKind::Format,
                "label `4294967296`, expected a number from 0 to 4294967295 (file the.tar/a.cls)",
            ),
            (sample_error(b.text("txt")), ErrorKind::Format, "byte 2 is not UTF-8, expected text (file the.tar/b.txt)"),
            (
                sample_error(shards.images_and_labels().get(3)),
                ErrorKind::Format,
                "sample `a` has no field `jpg`, `jpeg`, `png`, `webp`, `gif`, `bmp`, `tif`, `tiff`, `ppm`, `pgm`, `pbm`, `jpe`, `jfif`, \
                 only `cls`; `jpg` with the same key is elsewhere in the archive, expected beside it (file the.tar/a.cls)",
            ),
        ] {
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, expected));
        }
        assert_eq!((c.label().unwrap(), c.get("jpg").is_none(), c.get("PNG").unwrap().bytes()), (42, true, &b"x"[..]));
        // The name of a member that begins with a slash does not replace that of the archive.
        assert_eq!(c.get("png").unwrap().name(), Path::new("the.tar//c.png"));
        assert_eq!(format!("{c:?}"), r#"TarSample { key: "/c", fields: ["png", "cls"], .. }"#);
    }

    #[test]
    fn blobs_are_the_bytes_of_the_archive_without_a_copy() {
        let bytes = archive([file("a.jpg", b"x")]);
        let address = bytes.as_ptr();
        let shards = TarShards::from_bytes(bytes, "the.tar").unwrap();
        let blob = shards.get(0).unwrap().field("jpg").unwrap();
        assert_eq!(blob.bytes().as_ptr(), address.wrapping_add(512));
        // And outlive the shards.
        drop(shards);
        assert_eq!(blob.bytes(), b"x");
    }
}
