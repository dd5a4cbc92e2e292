//! One file: its mapped bytes, and columns of its batches as arrays that point into them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow_array::{Array, ArrayRef};
use arrow_buffer::Buffer;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_schema::{DataType, Schema, SchemaRef};

use super::message::{self, BatchPlace, DictionaryPlace, Index, Place};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::source::Mapped;
use crate::source::columns::{Failure, damaged, shared, to_physical};

/// A file of a table.
pub(super) struct Shard {
    bytes: Arc<Mapped>,
    /// The same bytes: what arrays point into.
    buffer: Buffer,
    schema: SchemaRef,
    dictionaries: Vec<(DictionaryPlace, OnceLock<Result<ArrayRef, Failure>>)>,
    num_dictionary_ids: usize,
    pub(super) batches: Vec<BatchPlace>,
}

impl Shard {
    pub(super) fn open(bytes: Mapped) -> Result<Self> {
        let bytes = Arc::new(bytes);
        let index = guarded("the Arrow file", || message::index(&bytes)).map_err(|error| error.with_file(bytes.path()));
        let Index { schema, dictionaries, batches } = index?;
        let buffer = Buffer::from(shared(&bytes));
        let num_dictionary_ids = dictionaries.iter().map(|dictionary| dictionary.id).collect::<HashSet<_>>().len();
        let dictionaries = dictionaries.into_iter().map(|dictionary| (dictionary, OnceLock::new())).collect();
        Ok(Self { bytes, buffer, schema: Arc::new(schema), dictionaries, num_dictionary_ids, batches })
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

    /// Decodes a column of a batch: checks everything about it, and copies nothing unless it is not aligned.
    pub(super) fn array(&self, batch: usize, column: usize) -> Result<ArrayRef> {
        let name = self.schema.field(column).name();
        let what = || format!("column `{name}` of batch {batch}");
        let decode = || {
            let place = &self.batches[batch];
            let mut dictionaries = HashMap::new();
            if has_dictionary(self.schema.field(column).data_type()) {
                self.add_dictionaries(place.num_dictionaries, &mut dictionaries)?;
            }
            let (message, body) = self.message(&place.place)?;
            let version = message.version();
            let content = message.header_as_record_batch().ok_or_else(|| self.changed())?;
            message::check_buffers(&content, body.len()).map_err(|error| damaged(what(), error))?;
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

    /// Those of the first `num` dictionaries that are in force behind them: of each number the last.
    fn add_dictionaries(&self, num: usize, dictionaries: &mut HashMap<i64, ArrayRef>) -> Result<()> {
        for (place, decoded) in self.dictionaries[..num].iter().rev() {
            // Streams may have as many dictionaries as batches: the last ones are enough.
            if dictionaries.len() == self.num_dictionary_ids {
                break;
            }
            if let Entry::Vacant(entry) = dictionaries.entry(place.id) {
                let decoded = decoded.get_or_init(|| self.dictionary(place).map_err(Failure::new));
                entry.insert(Arc::clone(decoded.as_ref().map_err(Failure::error)?));
            }
        }
        Ok(())
    }

    fn dictionary(&self, place: &DictionaryPlace) -> Result<ArrayRef> {
        let what = format!("the dictionary {}", place.id);
        let decode = || {
            let (message, body) = self.message(&place.place)?;
            let version = message.version();
            let content = message.header_as_dictionary_batch().ok_or_else(|| self.changed())?;
            let data = content.data().ok_or_else(|| self.changed())?;
            message::check_buffers(&data, body.len()).map_err(|error| damaged(&what, error))?;
            // Values that have a dictionary in turn find none, and are refused.
            let mut decoded = HashMap::new();
            read_dictionary(&body, content, &self.schema, &mut decoded, &version)
                .map_err(|cause| damaged(&what, cause))?;
            decoded.remove(&place.id).ok_or_else(|| self.changed())
        };
        guarded(&what, decode).map_err(|error| error.with_file(self.path()))
    }
}

fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_dictionary(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_dictionary(item.data_type())
        }
        _ => false,
    }
}
