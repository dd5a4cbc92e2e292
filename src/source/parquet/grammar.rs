//! What the structures of a Parquet file are made of, for those that the parquet crate reads.
//!
//! The crate takes the type of a field from its number, whatever type the file says. A walk that goes by the types in the
//! file would see other structures than the crate then, and check what the crate never reads. So each field that has a
//! meaning must be of the type that the format gives it; only of the others does the file's own type count, for both.
//!
//! Source: the Thrift definitions (<https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>).

use self::Shape::{Binary, Bool, Double, I8, I16, I32, I64, List, Struct};
use super::thrift::{Compact, Kind};
use crate::error::{Error, ErrorKind, Result};

/// The type of a field.
#[derive(Debug)]
pub(super) enum Shape {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Shape),
    Struct(&'static Structure),
}

/// A structure: its fields by their numbers, and those that it must have.
#[derive(Debug)]
pub(super) struct Structure {
    name: &'static str,
    required: &'static [i16],
    fields: &'static [(i16, Shape)],
}

fn damaged(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
}

impl Shape {
    fn is(&self, kind: Kind) -> bool {
        match self {
            Bool => kind.is_bool(),
            I8 => kind == Kind::I8,
            I16 => kind == Kind::I16,
            I32 => kind == Kind::I32,
            I64 => kind == Kind::I64,
            Double => kind == Kind::DOUBLE,
            Binary => kind == Kind::BINARY,
            List(_) => kind == Kind::LIST,
            Struct(_) => kind == Kind::STRUCT,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Struct(structure) => structure.name,
            _ => "value",
        }
    }

    /// Passes over a value of this type.
    fn pass(&self, walk: &mut Compact<'_>, kind: Kind) -> Result<()> {
        match self {
            List(element) => element.pass_list(walk),
            Struct(structure) => structure.pass(walk),
            _ => walk.skip(kind),
        }
    }

    fn pass_list(&self, walk: &mut Compact<'_>) -> Result<()> {
        let (kind, len) = walk.list()?;
        // An empty list need not say of what.
        if len > 0 && !self.is(kind) {
            return Err(damaged(format!("a list that is none of a {} each", self.name())));
        }
        (0..len).try_for_each(|number| {
            self.pass(walk, kind).map_err(|error| damaged(format!("{} {number}: {}", self.name(), error.message())))
        })
    }
}

impl Structure {
    /// Passes over a structure of this form.
    pub(super) fn pass(&self, walk: &mut Compact<'_>) -> Result<()> {
        self.walk(walk, |_, _, _| Ok(false))
    }

    /// Walks over a structure of this form: `use_field` takes those of its fields that it knows, and says so.
    pub(super) fn walk<'a>(
        &self,
        walk: &mut Compact<'a>,
        mut use_field: impl FnMut(&mut Compact<'a>, i16, Kind) -> Result<bool>,
    ) -> Result<()> {
        let mut seen = 0_u32;
        let mut last = 0;
        while let Some((id, kind)) = walk.field(&mut last)? {
            let Some((_, shape)) = self.fields.iter().find(|&&(known, _)| known == id) else {
                walk.skip(kind)?;
                continue;
            };
            if !shape.is(kind) {
                return Err(damaged(format!("field {id} of a {} is of another type than the format says", self.name)));
            }
            if let Some(at) = self.required.iter().position(|&required| required == id) {
                seen |= 1 << at;
            }
            if !use_field(walk, id, kind)? {
                shape.pass(walk, kind)?;
            }
        }
        match (0..self.required.len()).find(|at| seen & 1 << at == 0) {
            Some(at) => Err(damaged(format!("no field {}, which each has to have", self.required[at]))),
            None => Ok(()),
        }
    }
}

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident $text:literal [$($required:literal),*] { $($id:literal $shape:expr),* })+) => {$(
        $(#[$doc])*
        pub(super) static $name: Structure =
            Structure { name: $text, required: &[$($required),*], fields: &[$(($id, $shape)),*] };
    )+};
}

// Of those that are lists' elements the required fields count: an element takes ten times and more in memory of what it
// takes in the file, and one that is empty, a single byte, would buy a hundred.
structures! {
    FILE "footer" [] {
        1 I32, 2 List(&Struct(&SCHEMA_ELEMENT)), 3 I64, 4 List(&Struct(&ROW_GROUP)), 5 List(&Struct(&PAIR)), 6 Binary,
        7 List(&Struct(&COLUMN_ORDER)), 8 Struct(&UNREAD), 9 Binary
    }
    SCHEMA_ELEMENT "column" [4] {
        1 I32, 2 I32, 3 I32, 4 Binary, 5 I32, 6 I32, 7 I32, 8 I32, 9 I32, 10 Struct(&LOGICAL_TYPE)
    }
    LOGICAL_TYPE "logical type" [] {
        1 Struct(&EMPTY), 2 Struct(&EMPTY), 3 Struct(&EMPTY), 4 Struct(&EMPTY), 5 Struct(&DECIMAL), 6 Struct(&EMPTY),
        7 Struct(&TIME), 8 Struct(&TIME), 10 Struct(&INTEGER), 11 Struct(&EMPTY), 12 Struct(&EMPTY), 13 Struct(&EMPTY),
        14 Struct(&EMPTY), 15 Struct(&EMPTY), 16 Struct(&VARIANT), 17 Struct(&GEOGRAPHY), 18 Struct(&GEOGRAPHY)
    }
    EMPTY "structure without fields" [] {}
    DECIMAL "decimal" [] { 1 I32, 2 I32 }
    TIME "time" [] { 1 Bool, 2 Struct(&TIME_UNIT) }
    TIME_UNIT "unit of time" [] { 1 Struct(&EMPTY), 2 Struct(&EMPTY), 3 Struct(&EMPTY) }
    INTEGER "integer" [] { 1 I8, 2 Bool }
    VARIANT "variant" [] { 1 I8 }
    GEOGRAPHY "geography" [] { 1 Binary, 2 I32 }
    PAIR "pair of metadata" [1] { 1 Binary, 2 Binary }
    COLUMN_ORDER "column order" [] { 1 Struct(&EMPTY), 2 Struct(&EMPTY), 3 Struct(&EMPTY) }
    /// What belongs to encryption, which is not read.
    UNREAD "part of the encryption" [] {}
    ROW_GROUP "row group" [1, 2, 3] {
        1 List(&Struct(&COLUMN_CHUNK)), 2 I64, 3 I64, 4 List(&Struct(&SORTING_COLUMN)), 5 I64, 6 I64, 7 I16
    }
    SORTING_COLUMN "sorting column" [1, 2, 3] { 1 I32, 2 Bool, 3 Bool }
    COLUMN_CHUNK "column" [2, 3] {
        1 Binary, 2 I64, 3 Struct(&COLUMN_METADATA), 4 I64, 5 I32, 6 I64, 7 I32, 8 Struct(&UNREAD), 9 Binary
    }
    COLUMN_METADATA "column's metadata" [] {
        1 I32, 2 List(&I32), 3 List(&Binary), 4 I32, 5 I64, 6 I64, 7 I64, 8 List(&Struct(&PAIR)), 9 I64, 10 I64, 11 I64,
        12 Struct(&STATISTICS), 13 List(&Struct(&ENCODING_STATISTICS)), 14 I64, 15 I32, 16 Struct(&SIZE_STATISTICS),
        17 Struct(&GEOSPATIAL_STATISTICS)
    }
    STATISTICS "statistic" [] { 1 Binary, 2 Binary, 3 I64, 4 I64, 5 Binary, 6 Binary, 7 Bool, 8 Bool, 9 I64 }
    ENCODING_STATISTICS "encoding's statistic" [1, 2, 3] { 1 I32, 2 I32, 3 I32 }
    SIZE_STATISTICS "sizes' statistic" [] { 1 I64, 2 List(&I64), 3 List(&I64) }
    GEOSPATIAL_STATISTICS "geospatial statistic" [] { 1 Struct(&BOUNDING_BOX), 2 List(&I32) }
    BOUNDING_BOX "bounding box" [] { 1 Double, 2 Double, 3 Double, 4 Double, 5 Double, 6 Double, 7 Double, 8 Double }
    PAGE "page header" [] {
        1 I32, 2 I32, 3 I32, 4 I32, 5 Struct(&DATA_PAGE), 6 Struct(&EMPTY), 7 Struct(&DICTIONARY_PAGE), 8 Struct(&DATA_PAGE_2)
    }
    DATA_PAGE "page header" [] { 1 I32, 2 I32, 3 I32, 4 I32, 5 Struct(&STATISTICS) }
    DICTIONARY_PAGE "page header" [] { 1 I32, 2 I32, 3 Bool }
    DATA_PAGE_2 "page header" [] { 1 I32, 2 I32, 3 I32, 4 I32, 5 I32, 6 I32, 7 Bool, 8 Struct(&STATISTICS) }
}
