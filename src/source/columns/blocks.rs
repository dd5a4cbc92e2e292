//! What the views of columns need from a format: rows in blocks, and a column of a block as an array.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, make_array};
use arrow_schema::{ArrowError, DataType, FieldRef};
use bytes::Bytes;

use super::schema::TableSchema;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::source::Mapped;

/// Rows in blocks: the record batches of Arrow, the row groups of Parquet.
pub(crate) trait Blocks: Send + Sync {
    /// The columns, the same in every block.
    fn schema(&self) -> &TableSchema;

    /// Where the blocks start.
    fn starts(&self) -> &Starts;

    /// A column of a block: as many values as the block has rows, valid, in the [physical](physical) type of the schema.
    fn array(&self, block: usize, column: usize) -> Result<Held<'_>>;

    /// The file that holds a block.
    fn file(&self, block: usize) -> &Path;

    /// Whether the blocks are in files, so that paths in the data are relative to the directory of their file.
    fn is_on_disk(&self) -> bool;
}

/// The bytes of a file, to be cut without a copy.
pub(crate) fn shared(bytes: &Arc<Mapped>) -> Bytes {
    struct Shared(Arc<Mapped>);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Shared(Arc::clone(bytes)))
}

/// An array that stays where it is, or one that is kept by whoever uses it.
#[derive(Debug)]
pub(crate) enum Held<'a> {
    Borrowed(&'a ArrayRef),
    /// From a cache that may forget it.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "what is mapped is only borrowed"))]
    Shared(ArrayRef),
}

impl Deref for Held<'_> {
    type Target = dyn Array;

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Borrowed(array) => &***array,
            Self::Shared(array) => &**array,
        }
    }
}

/// The first row of each block, and the end.
#[derive(Debug, Clone)]
pub(crate) struct Starts(Vec<usize>);

impl Starts {
    pub(crate) fn new(lens: impl IntoIterator<Item = usize>) -> Result<Self> {
        let mut starts = vec![0];
        let mut end = 0_usize;
        for len in lens {
            end = end.checked_add(len).filter(|&end| isize::try_from(end).is_ok()).ok_or_else(|| {
                Error::new(ErrorKind::Format, format!("more than {} rows, larger than the address space", isize::MAX))
            })?;
            starts.push(end);
        }
        Ok(Self(starts))
    }

    pub(crate) fn num_blocks(&self) -> usize {
        self.0.len() - 1
    }

    pub(crate) fn num_rows(&self) -> usize {
        self.0[self.num_blocks()]
    }

    pub(crate) fn lens(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.0.windows(2).map(|bounds| bounds[1] - bounds[0])
    }

    /// The block of a row, and its place in it. The row must exist.
    #[inline]
    pub(crate) fn locate(&self, row: usize) -> (usize, usize) {
        let starts = &self.0;
        // Blocks are mostly of one length: then this is the block, and no search touches the other starts.
        let guess = row.saturating_mul(self.num_blocks()) / self.num_rows().max(1);
        let block = match (starts.get(guess), starts.get(guess + 1)) {
            (Some(&start), Some(&end)) if start <= row && row < end => guess,
            _ => starts.partition_point(|&start| start <= row) - 1,
        };
        (block, row - starts[block])
    }
}

/// The type of the values of an array of that type: dates and times are integers in their unit.
pub(crate) fn physical(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Date32 | DataType::Time32(_) => &DataType::Int32,
        DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => &DataType::Int64,
        other => other,
    }
}

/// The same values as the integers that they are, also within lists, structs and dictionaries.
pub(crate) fn to_physical(array: ArrayRef) -> Result<ArrayRef, ArrowError> {
    match all_physical(array.data_type()) {
        None => Ok(array),
        Some(data_type) => retyped(&array, &data_type),
    }
}

/// The type with all that is within as [physical] types; `None` if it is that already.
fn all_physical(data_type: &DataType) -> Option<DataType> {
    let item = |item: &FieldRef| Some(Arc::new(item.as_ref().clone().with_data_type(all_physical(item.data_type())?)));
    match data_type {
        DataType::List(within) => item(within).map(DataType::List),
        DataType::LargeList(within) => item(within).map(DataType::LargeList),
        DataType::FixedSizeList(within, len) => item(within).map(|within| DataType::FixedSizeList(within, *len)),
        DataType::Dictionary(key, values) => {
            all_physical(values).map(|values| DataType::Dictionary(key.clone(), Box::new(values)))
        }
        DataType::Struct(fields) => {
            let found: Vec<Option<FieldRef>> = fields.iter().map(item).collect();
            found.iter().any(Option::is_some).then(|| {
                let fields =
                    found.into_iter().zip(fields).map(|(found, field)| found.unwrap_or_else(|| Arc::clone(field)));
                DataType::Struct(fields.collect())
            })
        }
        other => Some(physical(other)).filter(|&physical| physical != other).cloned(),
    }
}

/// The same values, of a type that differs as [`all_physical`] lets it.
fn retyped(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    let within: Vec<&DataType> = match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => vec![item.data_type()],
        DataType::Dictionary(_, values) => vec![values],
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        _ => Vec::new(),
    };
    let data = array.to_data();
    let children = data.child_data().iter().zip(within);
    let children = children.map(|(child, data_type)| Ok(retyped(&make_array(child.clone()), data_type)?.to_data()));
    let children = children.collect::<Result<_, ArrowError>>()?;
    Ok(make_array(data.into_builder().data_type(data_type.clone()).child_data(children).build()?))
}

/// Wrong bytes, as a decoder says.
pub(crate) fn damaged(what: impl fmt::Display, cause: impl Into<BoxError>) -> Error {
    let cause = cause.into();
    Error::new(ErrorKind::Format, format!("{what} is damaged: {cause}")).with_cause(cause)
}

/// An error that is kept, to be told to everybody who asks for what failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Arc<Error>);

impl Failure {
    pub(crate) fn new(error: Error) -> Self {
        Self(Arc::new(error))
    }

    pub(crate) fn error(&self) -> Error {
        let mut error = Error::new(self.0.kind(), self.0.message().to_owned());
        if let Some(file) = self.0.file() {
            error = error.with_file(file);
        }
        if std::error::Error::source(&*self.0).is_some() { error.with_cause(Cause(Arc::clone(&self.0))) } else { error }
    }
}

/// The cause of a kept error.
#[derive(Debug)]
struct Cause(Arc<Error>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::error::Error::source(&*self.0).map_or(Ok(()), |cause| fmt::Display::fmt(cause, f))
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)?.source()
    }
}

/// One column of a table: what every view of one knows.
#[derive(Clone)]
pub(crate) struct Selected {
    blocks: Arc<dyn Blocks>,
    column: usize,
}

impl Selected {
    pub(crate) fn new(blocks: &Arc<dyn Blocks>, name: &str) -> Result<Self> {
        let column = blocks.schema().find(name).map_err(|error| match blocks.starts().num_blocks() {
            0 => error,
            _ => error.with_file(blocks.file(0)),
        })?;
        Ok(Self { blocks: Arc::clone(blocks), column })
    }

    pub(crate) fn num_rows(&self) -> usize {
        self.blocks.starts().num_rows()
    }

    pub(crate) fn blocks(&self) -> &dyn Blocks {
        &*self.blocks
    }

    pub(crate) fn name(&self) -> &str {
        &self.blocks.schema().columns()[self.column].name
    }

    pub(crate) fn column(&self) -> &super::schema::ColumnSchema {
        &self.blocks.schema().columns()[self.column]
    }

    pub(crate) fn file(&self, row: usize) -> Option<PathBuf> {
        Some(self.path(row).to_owned())
    }

    pub(crate) fn path(&self, row: usize) -> &Path {
        self.blocks.file(self.blocks.starts().locate(row).0)
    }

    /// The array that holds a row, and the row's place in it.
    #[inline]
    pub(crate) fn locate(&self, row: usize) -> Result<(Held<'_>, usize)> {
        let (block, at) = self.blocks.starts().locate(row);
        Ok((self.blocks.array(block, self.column)?, at))
    }

    /// The column does not hold what the view reads.
    pub(crate) fn wrong_type(&self, expected: &str) -> Error {
        let column = self.column();
        let message = format!("column `{}` of type {}, expected {expected}", column.name, column.type_name);
        let error = Error::new(ErrorKind::Format, message);
        if self.blocks.starts().num_blocks() == 0 { error } else { error.with_file(self.blocks.file(0)) }
    }

    /// What is wrong with a row.
    #[cold]
    pub(crate) fn wrong(&self, kind: ErrorKind, row: usize, what: impl fmt::Display) -> Error {
        let message = format!("row {row} of column `{}` {what}", self.name());
        Error::new(kind, message).with_file(self.path(row))
    }

    /// The value of a row was checked when its block was decoded, and is not what it was then.
    #[cold]
    pub(crate) fn unreadable(&self, row: usize) -> Error {
        let what =
            format_args!("cannot be read as {}: the file was changed since it was opened", self.column().type_name);
        self.wrong(ErrorKind::Format, row, what)
    }

    #[cold]
    pub(crate) fn null(&self, row: usize) -> Error {
        self.wrong(ErrorKind::Format, row, "is null, expected a value, or `or_default`")
    }
}

impl fmt::Debug for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.column();
        f.debug_struct("Selected")
            .field("column", &column.name)
            .field("type", &column.type_name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::guarded;

    #[test]
    fn rows_are_in_their_block() {
        for lens in [vec![1], vec![3, 3, 3], vec![0, 2, 0, 0, 5, 1, 0], vec![10, 1, 1, 1], vec![1, 1, 10]] {
            let starts = Starts::new(lens.iter().copied()).unwrap();
            let expected = lens.iter().enumerate().flat_map(|(block, &len)| (0..len).map(move |at| (block, at)));
            assert!((0..starts.num_rows()).map(|row| starts.locate(row)).eq(expected), "{lens:?}");
            assert_eq!((starts.num_blocks(), starts.lens().collect::<Vec<_>>()), (lens.len(), lens));
        }
        assert_eq!(Starts::new([]).unwrap().num_rows(), 0);
        let error = Starts::new([isize::MAX as usize, 1]).unwrap_err();
        assert!(error.message().ends_with("larger than the address space"), "{error}");
    }

    #[test]
    fn a_decoder_that_panics_is_an_error() {
        let error = guarded::<()>("the page", || panic!("index out of bounds")).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Format, "the page is damaged: its decoder panicked"));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("index out of bounds"));
    }

    #[test]
    fn a_kept_error_is_told_again() {
        let kept = Failure::new(damaged("it", ArrowError::DivideByZero).with_file("here"));
        for _ in 0..2 {
            let error = kept.error();
            assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(Path::new("here"))));
            assert_eq!(error.message(), "it is damaged: Divide by zero error");
            let cause = std::error::Error::source(&error).unwrap();
            assert_eq!((cause.to_string().as_str(), cause.source().is_none()), ("Divide by zero error", true));
        }
        assert!(std::error::Error::source(&Failure::new(Error::new(ErrorKind::Limit, "x")).error()).is_none());
    }
}
