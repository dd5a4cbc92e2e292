//! One file: its mapped bytes, and columns of its batches as arrays that point into them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow_array::{Array, ArrayRef};
use arrow_buffer::Buffer;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::content;
use super::message::{self, BatchPlace, DictionaryPlace, Index, Place};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::source::Mapped;
use crate::source::columns::{Failure, Features, damaged, shared, to_physical};

/// A file of a table.
pub(super) struct Shard {
    bytes: Arc<Mapped>,
    /// The same bytes: what arrays point into.
    buffer: Buffer,
    schema: SchemaRef,
    dictionaries: Vec<(DictionaryPlace, OnceLock<Result<ArrayRef, Failure>>)>,
    /// Where the dictionaries of each number are among all of them, in order.
    by_id: HashMap<i64, Vec<usize>>,
    pub(super) batches: Vec<BatchPlace>,
}

impl Shard {
    pub(super) fn open(bytes: Mapped) -> Result<Self> {
        let bytes = Arc::new(bytes);
        let index = guarded("the Arrow file", || message::index(&bytes)).map_err(|error| error.with_file(bytes.path()));
        let Index { schema, dictionaries, batches } = index?;
        let buffer = Buffer::from(shared(&bytes));
        let mut by_id: HashMap<i64, Vec<usize>> = HashMap::new();
        dictionaries.iter().enumerate().for_each(|(at, dictionary)| by_id.entry(dictionary.id).or_default().push(at));
        let dictionaries = dictionaries.into_iter().map(|dictionary| (dictionary, OnceLock::new())).collect();
        Ok(Self { bytes, buffer, schema: Arc::new(schema), dictionaries, by_id, batches })
    }

    pub(super) fn path(&self) -> &Path {
        self.bytes.path()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &Mapped {
        &self.bytes
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What Hugging Face's `datasets` wrote about the columns.
    pub(super) fn features(&self) -> Result<Features> {
        let json = self.schema.metadata().get("huggingface");
        let features = json.map(|json| Features::from_metadata(json)).transpose();
        Ok(features.map_err(|error| error.with_file(self.path()))?.unwrap_or_default())
    }

    /// Decodes a column of a batch: checks everything about it, and copies nothing unless it is not aligned.
    pub(super) fn array(&self, batch: usize, column: usize) -> Result<ArrayRef> {
        let name = self.schema.field(column).name();
        let what = || format!("column `{name}` of batch {batch}");
        let decode = || {
            let place = &self.batches[batch];
            let dictionaries = self.dictionaries(column, place.num_dictionaries)?;
            let (message, body) = self.message(&place.place)?;
            let version = message.version();
            let content = message.header_as_record_batch().ok_or_else(|| self.changed())?;
            message::check_buffers(&content, body.len()).map_err(|error| damaged(what(), error))?;
            let types = self.schema.fields().iter().map(|field| field.data_type());
            content::check(&content, &body, version, types, column).map_err(|error| within(error, what()))?;
            let decoder =
                RecordBatchDecoder::try_new(&body, content, Arc::clone(&self.schema), &dictionaries, &version);
            let projection = [column];
            let decoded = decoder.and_then(|decoder| decoder.with_projection(Some(&projection)).read_record_batch());
            let decoded = decoded.and_then(|decoded| to_physical(Arc::clone(decoded.column(0))));
            let array = decoded.map_err(|cause| damaged(what(), cause))?;
            // A batch without columns of its own can claim any number of rows.
            if array.len() == place.num_rows { Ok(array) } else { Err(self.changed()) }
        };
        guarded(what(), decode).map_err(|error| error.with_file(self.path()))
    }

    /// The header of a message, which was checked when the file was opened, and its body.
    fn message(&self, place: &Place) -> Result<(arrow_ipc::Message<'_>, Buffer)> {
        let header = self.bytes.get(place.header.clone()).ok_or_else(|| self.changed())?;
        Ok((message::parse(header)?, self.buffer.slice_with_length(place.body.start, place.body.len())))
    }

    /// The bytes are not those that were there when the file was opened.
    fn changed(&self) -> Error {
        Error::new(ErrorKind::Format, "the Arrow file was changed since it was opened").with_file(self.path())
    }

    /// The dictionaries of a column that are in force behind the first `num` of all: of each number the last.
    fn dictionaries(&self, column: usize, num: usize) -> Result<HashMap<i64, ArrayRef>> {
        let mut found = HashMap::new();
        for (id, _) in numbered(self.schema.field(column)) {
            let places = self.by_id.get(&id).map_or(&[][..], Vec::as_slice);
            let before = &places[..places.partition_point(|&at| at < num)];
            // A column of nulls alone needs none; the decoder refuses any other without.
            let Some(&at) = before.last() else { continue };
            let (place, decoded) = &self.dictionaries[at];
            let decoded = decoded.get_or_init(|| self.dictionary(place).map_err(Failure::new));
            found.insert(id, Arc::clone(decoded.as_ref().map_err(Failure::error)?));
        }
        Ok(found)
    }

    fn dictionary(&self, place: &DictionaryPlace) -> Result<ArrayRef> {
        let what = format!("the dictionary {}", place.id);
        let decode = || {
            let (message, body) = self.message(&place.place)?;
            let version = message.version();
            let content = message.header_as_dictionary_batch().ok_or_else(|| self.changed())?;
            let data = content.data().ok_or_else(|| self.changed())?;
            message::check_buffers(&data, body.len()).map_err(|error| damaged(&what, error))?;
            let values = self.schema.fields().iter().flat_map(|field| numbered(field)).find(|&(id, _)| id == place.id);
            let values = values.map(|(_, values)| values);
            content::check(&data, &body, version, values.into_iter(), 0).map_err(|error| within(error, &what))?;
            // Values that have a dictionary in turn find none, and are refused.
            let mut decoded = HashMap::new();
            read_dictionary(&body, content, &self.schema, &mut decoded, &version)
                .map_err(|cause| damaged(&what, cause))?;
            decoded.remove(&place.id).ok_or_else(|| self.changed())
        };
        guarded(&what, decode).map_err(|error| error.with_file(self.path()))
    }
}

/// An error in what is named; one that has its own kind keeps it.
fn within(error: Error, what: impl std::fmt::Display) -> Error {
    match error.kind() {
        ErrorKind::Format => damaged(what, error),
        kind => Error::new(kind, format!("{what}: {}", error.message())),
    }
}

/// The dictionaries that a column needs: their numbers and the types of their values.
fn numbered(field: &Field) -> Vec<(i64, &DataType)> {
    fn add<'a>(field: &'a Field, found: &mut Vec<(i64, &'a DataType)>) {
        match field.data_type() {
            DataType::Dictionary(_, values) => {
                #[expect(deprecated, reason = "the decoder finds them by nothing else")]
                found.extend(field.dict_id().map(|id| (id, &**values)));
            }
            DataType::Struct(fields) => fields.iter().for_each(|field| add(field, found)),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::Map(item, _) => add(item, found),
            DataType::RunEndEncoded(_, values) => add(values, found),
            DataType::Union(fields, _) => fields.iter().for_each(|(_, field)| add(field, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    add(field, &mut found);
    found
}
