//! Where each sample of an archive lies.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::passed_over::{PassedOver, TarMemberKind, TarPassedOver};
#[cfg(feature = "object-store")]
use super::scan::BLOCK;
use super::scan::{Member, Walk, format_error, shown};
use crate::error::Result;
use crate::sequence::check_index;

/// The index of a tar archive: the key of each sample, and the place of each of its fields. It holds no data, and works
/// for an archive wherever that is.
///
/// Files that follow each other in the archive are one sample if their names are the same up to the first dot of the
/// base name. What is the same, folders included, is the sample's key; what stands behind the dot is the extension of
/// the field. So `a/1.jpg`, `a/1.seg.png` and `a/1.cls` are the fields `jpg`, `seg.png` and `cls` of the sample `a/1`.
///
/// - Extensions are those of the archive in lower case: `1.JPEG` has the field `jpeg`. Two fields of a sample with the
///   same extension are an error.
/// - A key that comes again after another one begins another sample. The members of a sample have to be adjacent, as
///   they are in archives that were written sorted by name.
/// - Directories, links, devices, files without an extension, hidden files (`.x`, `._1.jpg`) and metadata (`__x__`) are
///   passed over, counted and [listed](Self::passed_over).
/// - Names have to be UTF-8. They are kept as they are, `./` and `../` included: nothing is ever unpacked.
///
/// All of this is as [WebDataset](https://github.com/webdataset/webdataset) has it, save that there names may be any bytes
/// and some hidden files are fields of the folder they are in.
///
/// # Cost
///
/// In memory 16 bytes and the key for a sample, and 24 bytes for a field.
///
/// # Examples
///
/// ```
/// use std::io::Cursor;
/// use procession::source::{TarIndex, TarWriter};
///
/// let mut writer = TarWriter::new(Vec::new());
/// writer.append("birds/17", &[("jpg", b"..."), ("cls", b"4")])?;
/// let archive = writer.finish()?;
///
/// let index = TarIndex::scan(Cursor::new(&archive), "birds.tar")?;
/// let sample = index.entry(0);
/// assert_eq!((index.len(), sample.key()), (1, "birds/17"));
/// let class = sample.field("cls").unwrap().range();
/// assert_eq!(&archive[class.start as usize..class.end as usize], b"4");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TarIndex {
    pub(super) size_bytes: u64,
    pub(super) terminated: bool,
    // All keys, one behind the other.
    keys: String,
    // Where key and fields of each sample end; they begin where those of the sample before end.
    samples: Vec<Ends>,
    // Invariant: each lies within `size_bytes`, behind the one before.
    fields: Vec<Place>,
    pub(super) extensions: Vec<Extension>,
    pub(super) passed_over: PassedOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    key: usize,
    fields: usize,
}

/// The place of a field's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) extension: usize,
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Place {
    pub(super) fn end(self) -> u64 {
        self.start + self.len
    }
}

/// An extension as it is in the archive, and in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) spelt: Arc<str>,
    lower: Arc<str>,
    /// The number of the first extension that is the same in lower case.
    same_as: usize,
}

impl TarIndex {
    /// Reads the headers of an archive. `name` is what errors shall call it.
    ///
    /// Seeks over the data, so that the time does not depend on it. A reader should not read much more than it is asked
    /// for, which is 512 bytes at most places: a file is better than a `BufReader` of one.
    ///
    /// Plain archives of every age are read: V7, ustar, GNU and pax, with names and sizes of any length. The blocks of
    /// zeros that end an archive may be missing if the last member is whole, which [`is_terminated`](Self::is_terminated)
    /// tells. Behind them there may be more zeros, as programs write them, and nothing else; these are read, too.
    ///
    /// # Errors
    ///
    /// With the name, of kind [`Io`](crate::ErrorKind::Io) if the reader fails; [`Limit`](crate::ErrorKind::Limit) if a
    /// long name or a pax header has more than a mebibyte; [`Format`](crate::ErrorKind::Format), with the place in the
    /// archive, if it
    ///
    /// - is compressed, empty, or no tar archive;
    /// - is cut off: the member, its place, and how many bytes are missing;
    /// - has anything but zeros behind its end, as archives have that were joined, or of which a header was overwritten;
    /// - has a sparse file, a member that continues on another volume, or one whose header programs read in different
    ///   ways: two long names, a link with data, a global header with a size;
    /// - has the name of a file that is not UTF-8, or a field twice in a sample.
    pub fn scan(reader: impl Read + Seek, name: impl Into<PathBuf>) -> Result<Self> {
        Self::scan_members(reader).map_err(|error| error.with_file(name))
    }

    fn scan_members(reader: impl Read + Seek) -> Result<Self> {
        let mut walk = Walk::new(reader)?;
        let mut builder = Builder::default();
        while let Some(member) = walk.next()? {
            builder.add(&member)?;
        }
        Ok(builder.finish(walk.size_bytes(), walk.terminated()))
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The key and the fields of a sample.
    ///
    /// # Panics
    ///
    /// If `sample` is not below the number of samples.
    pub fn entry(&self, sample: usize) -> TarEntry<'_> {
        check_index(sample, self.len());
        let start = sample.checked_sub(1).map_or(Ends { key: 0, fields: 0 }, |before| self.samples[before]);
        let end = self.samples[sample];
        TarEntry { index: self, key: &self.keys[start.key..end.key], fields: &self.fields[start.fields..end.fields] }
    }

    /// The samples in the order of the archive.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = TarEntry<'_>> {
        (0..self.len()).map(|sample| self.entry(sample))
    }

    /// The extensions that fields have, in lower case, in the order of their first appearance.
    pub fn extensions(&self) -> impl Iterator<Item = &str> {
        let first = self.extensions.iter().enumerate().filter(|(number, extension)| extension.same_as == *number);
        first.map(|(_, extension)| &*extension.lower)
    }

    /// The size of the archive that was scanned.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether the archive ends with a block of zeros, as it should. One that does not may have been cut off between two
    /// members, or is still being written.
    pub fn is_terminated(&self) -> bool {
        self.terminated
    }

    /// How many members belong to no sample.
    pub fn num_passed_over(&self) -> u64 {
        self.passed_over.count
    }

    /// The members that belong to no sample, and why: the first thousand of them.
    pub fn passed_over(&self) -> &[TarPassedOver] {
        &self.passed_over.listed
    }

    /// Refuses the index of an archive without an end.
    pub(in crate::source) fn expect_end(&self) -> Result<()> {
        if self.is_terminated() {
            return Ok(());
        }
        Err(format_error(format!(
            "no end of a tar archive in its {} bytes: it was cut off between two members, or is being written; \
             `allow_unterminated` takes what is there",
            self.size_bytes()
        )))
    }

    /// Where the headers of the first field and of the last one are; for [`agrees_with`](Self::agrees_with).
    #[cfg(feature = "object-store")]
    pub(super) fn looked_at(&self) -> Option<[Range<u64>; 2]> {
        let (first, last) = (self.fields.first()?, self.fields.last()?);
        let before_last = self.fields.len().checked_sub(2).map_or(0, |before| self.fields[before].end());
        Some([0..first.start, before_last.next_multiple_of(BLOCK)..last.start])
    }

    /// Whether the first field and the last one are where the index has them: a look at a few headers, for an index that
    /// was not made from this archive just now.
    pub(super) fn agrees_with(&self, mut reader: impl Read + Seek) -> bool {
        let Some(last) = self.len().checked_sub(1) else { return true };
        let before_last = self.fields.len().checked_sub(2).map_or(0, |before| self.fields[before].end());
        let mut is_there = |before: u64, field: Option<TarField<'_>>| {
            field.is_some_and(|field| field.follows(&mut reader, before).unwrap_or(false))
        };
        is_there(0, self.entry(0).fields().next()) && is_there(before_last, self.entry(last).fields().last())
    }
}

impl fmt::Debug for TarIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarIndex")
            .field("samples", &self.len())
            .field("fields", &self.fields.len())
            .field("passed_over", &self.passed_over.count)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// A sample in a [`TarIndex`]: its key, and where its fields are.
#[derive(Clone, Copy)]
pub struct TarEntry<'a> {
    index: &'a TarIndex,
    key: &'a str,
    pub(super) fields: &'a [Place],
}

impl<'a> TarEntry<'a> {
    /// What the names of the sample's files have in common: the folder, and the base name up to its first dot.
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The fields in the order of the archive. There is at least one.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = TarField<'a>> + use<'a> {
        let Self { index, key, fields } = *self;
        fields.iter().map(move |&place| TarField { key, extension: &index.extensions[place.extension], place })
    }

    /// The field with this extension, upper and lower case being the same.
    pub fn field(&self, extension: &str) -> Option<TarField<'a>> {
        let extension = lower(extension);
        self.fields().find(|field| *field.extension.lower == *extension)
    }

    /// The field with the first of these extensions that the sample has.
    pub fn field_of(&self, extensions: &[&str]) -> Option<TarField<'a>> {
        extensions.iter().find_map(|extension| self.field(extension))
    }

    /// The sizes of all fields together.
    pub fn size_bytes(&self) -> u64 {
        self.fields.iter().map(|place| place.len).sum()
    }
}

impl fmt::Debug for TarEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extensions: Vec<&str> = self.fields().map(|field| field.extension()).collect();
        f.debug_struct("TarEntry").field("key", &self.key).field("fields", &extensions).finish()
    }
}

/// The text in lower case; without a copy if it is that already.
fn lower(text: &str) -> Cow<'_, str> {
    let is_lower = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_lower { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

/// A field of a sample in a [`TarIndex`]: a file of the archive.
#[derive(Debug, Clone, Copy)]
pub struct TarField<'a> {
    key: &'a str,
    extension: &'a Extension,
    place: Place,
}

impl<'a> TarField<'a> {
    /// What stands behind the first dot of the file's base name, in lower case.
    pub fn extension(&self) -> &'a str {
        &self.extension.lower
    }

    /// The file's name in the archive.
    pub fn member(&self) -> String {
        format!("{}.{}", self.key, self.extension.spelt)
    }

    /// The size of the data.
    pub fn size_bytes(&self) -> u64 {
        self.place.len
    }

    /// Where in the archive the data is.
    pub fn range(&self) -> Range<u64> {
        self.place.start..self.place.end()
    }

    /// Whether the archive has this field, with nothing but members that are passed over between it and the end of the
    /// field before. Its name may stand in several headers, so that these are walked through.
    fn follows(&self, reader: impl Read + Seek, before: u64) -> Result<bool> {
        let mut walk = Walk::from(reader, before)?;
        while let Some(member) = walk.next()? {
            if member.data.start >= self.place.start {
                let is_it = member.kind.is_none() && member.data == self.range();
                return Ok(is_it && member.name == self.member().as_bytes());
            }
        }
        Ok(false)
    }
}

/// The extensions seen so far, by number.
#[derive(Default)]
struct Extensions {
    list: Vec<Extension>,
    by_spelling: HashMap<Arc<str>, usize>,
    by_lower: HashMap<Arc<str>, usize>,
}

impl Extensions {
    fn number(&mut self, spelt: &str) -> usize {
        if let Some(&number) = self.by_spelling.get(spelt) {
            return number;
        }
        let (number, spelt) = (self.list.len(), Arc::<str>::from(spelt));
        let lower = match lower(&spelt) {
            Cow::Borrowed(_) => Arc::clone(&spelt),
            Cow::Owned(lower) => lower.into(),
        };
        let same_as = *self.by_lower.entry(Arc::clone(&lower)).or_insert(number);
        self.by_spelling.insert(Arc::clone(&spelt), number);
        self.list.push(Extension { spelt, lower, same_as });
        number
    }
}

/// An index that grows by one field after the other.
#[derive(Default)]
pub(super) struct Builder {
    keys: String,
    samples: Vec<Ends>,
    fields: Vec<Place>,
    extensions: Extensions,
    // By the number of an extension in lower case, how many samples there were when it was last used: that a sample
    // has no field twice is known without a search among its fields, of which there may be millions.
    used: Vec<usize>,
    pub(super) passed_over: PassedOver,
}

impl Builder {
    pub(super) fn add(&mut self, member: &Member) -> Result<()> {
        if let Some(kind) = member.kind {
            self.passed_over.add(&member.name, kind);
            return Ok(());
        }
        let Ok(name) = std::str::from_utf8(&member.name) else {
            let (name, at) = (shown(&member.name), member.header);
            return Err(format_error(format!(
                "the name `{name}` of the member at byte {at} is not UTF-8: rename the file"
            )));
        };
        match split(name) {
            Err(kind) => self.passed_over.add(&member.name, kind),
            Ok((key, spelt)) => {
                let extension = self.extension(spelt);
                let place = Place { extension, start: member.data.start, len: member.data.end - member.data.start };
                if !self.add_field(key, place) {
                    let (name, at) = (shown(&member.name), member.header);
                    let field = shown(spelt.to_lowercase().as_bytes());
                    let message = format!("member `{name}` at byte {at} is the second field `{field}` of its sample");
                    return Err(format_error(message));
                }
            }
        }
        Ok(())
    }

    /// The number of an extension.
    pub(super) fn extension(&mut self, spelt: &str) -> usize {
        let number = self.extensions.number(spelt);
        self.used.resize(self.extensions.list.len(), 0);
        number
    }

    /// Adds a field, with the number of an extension, to the sample with this key: the last one, or a new one. Not if
    /// the sample has it already; fields have to come in the order of the archive.
    pub(super) fn add_field(&mut self, key: &str, place: Place) -> bool {
        if self.last_key() == Some(key) {
            let last = self.samples.len() - 1;
            self.samples[last].fields += 1;
        } else {
            self.keys.push_str(key);
            self.samples.push(Ends { key: self.keys.len(), fields: self.fields.len() + 1 });
        }
        self.fields.push(place);
        let used = &mut self.used[self.extensions.list[place.extension].same_as];
        std::mem::replace(used, self.samples.len()) < self.samples.len()
    }

    fn last_key(&self) -> Option<&str> {
        let last = self.samples.len().checked_sub(1)?;
        let start = last.checked_sub(1).map_or(0, |before| self.samples[before].key);
        Some(&self.keys[start..])
    }

    pub(super) fn finish(mut self, size_bytes: u64, terminated: bool) -> TarIndex {
        self.keys.shrink_to_fit();
        self.samples.shrink_to_fit();
        self.fields.shrink_to_fit();
        TarIndex {
            size_bytes,
            terminated,
            keys: self.keys,
            samples: self.samples,
            fields: self.fields,
            extensions: self.extensions.list,
            passed_over: self.passed_over,
        }
    }
}

/// The key and the extension in the name of a file.
fn split(name: &str) -> Result<(&str, &str), TarMemberKind> {
    let first = name.split('/').next().unwrap_or_default();
    if first.len() >= 4 && first.starts_with("__") && first.ends_with("__") {
        return Err(TarMemberKind::Metadata);
    }
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[base..].find('.') {
        None => Err(TarMemberKind::NoExtension),
        Some(0) => Err(TarMemberKind::Hidden),
        Some(dot) => Ok((&name[..base + dot], &name[base + dot + 1..])),
    }
}
