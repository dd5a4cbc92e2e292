//! Arrow and Parquet tables, and what loads the values of their columns.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array1;
use procession::image::{DecodeOptions, ImageFormat};
use procession::source::{ArrowTable, Blob, ColumnElement, ParquetTable, Table};
use procession::{Error, ErrorKind, Result, Sequence, SequenceExt, Stack, collate, try_from_fn};

use crate::data::{Check, Data, Label, Part, Pictures, data};
use crate::workload::{self, Column, MakeWorkload};

pub(crate) fn arrow(path: &Path) -> Result<Data> {
    let table = ArrowTable::open(path)?;
    let part = table_part("all".to_owned(), &table)?;
    Ok(data("Arrow", classes_of(&table), vec![part]))
}

/// A table for each split. Labels are numbers: splits whose classes have other names, or another order, are not of one data
/// set.
pub(crate) fn splits<T: Deref<Target = Table>>(
    kind: &str,
    splits: Vec<String>,
    open: impl Fn(&str) -> Result<T>,
) -> Result<Data> {
    let (mut classes, mut parts) = (Vec::new(), Vec::new());
    let mut named_by = String::new();
    for split in splits {
        let table = open(&split)?;
        let own = classes_of(&table);
        if classes.is_empty() {
            (classes, named_by) = (own, split.clone());
        } else if !own.is_empty() && own != classes {
            let message = format!("classes {own:?} in the split `{split}`, expected {classes:?} as in `{named_by}`");
            return Err(Error::new(ErrorKind::Format, message));
        }
        parts.push(table_part(split, &table)?);
    }
    Ok(data(kind, classes, parts))
}

pub(crate) fn parquet(path: &Path) -> Result<Data> {
    let table = ParquetTable::open(path)?;
    let part = table_part("all".to_owned(), &table)?;
    Ok(data("Parquet", classes_of(&table), vec![part]))
}

/// The names of the classes of the first column that has any.
fn classes_of(table: &Table) -> Vec<String> {
    table.schema().find_map(|(name, _)| table.class_names(name)).map(|names| names.to_vec()).unwrap_or_default()
}

fn table_part(name: String, table: &Table) -> Result<Part> {
    let fields: Vec<(String, String)> = table.schema().map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    let labels = fields.iter().find(|(name, _)| table.class_names(name).is_some() || name == "label");
    let labels = labels.and_then(|(name, _)| table.labels(name).ok());
    let blobs = fields.iter().find_map(|(name, kind)| {
        let blobs = table.blobs(name).ok()?;
        holds_images(&blobs, kind).then_some(blobs)
    });
    let checks: Vec<Check> = fields.iter().filter_map(|(name, kind)| check_of_column(table, name, kind)).collect();
    let label = labels.clone().map(|labels| -> Label { Arc::new(move |index| labels.get(index)) });
    let pictures = match (blobs, labels) {
        (Some(images), Some(labels)) => Some(Pictures::Files(Arc::new(images.zip(labels)?))),
        (Some(images), None) => Some(Pictures::Files(Arc::new(images.map(|image| (image, 0))))),
        (None, _) => None,
    };
    let columns: Arc<[Column]> = fields.iter().filter_map(|(name, _)| column_of(table, name)).collect();
    let num_rows = table.num_rows();
    Ok(Part {
        label,
        pictures,
        // Without any column that is read there is nothing to load.
        workload: (!columns.is_empty())
            .then(|| -> MakeWorkload { Arc::new(move || Ok(workload::table(num_rows, Arc::clone(&columns)))) }),
        ..Part::new(name, num_rows, fields, move |index| checks.iter().try_for_each(|check| check(index)))
    })
}

/// Whether a column of bytes is one of images. Where it does not say so, bytes may be anything, and begin as an image does:
/// the first of them has to have a whole header of one, and in formats known by two letters alone to be one.
fn holds_images(blobs: &(impl Sequence<Sample = Blob> + ?Sized), kind: &str) -> bool {
    kind.contains("image")
        || !blobs.is_empty()
            && blobs.get(0).is_ok_and(|blob| match ImageFormat::of(&blob) {
                Some(ImageFormat::Pnm | ImageFormat::Bmp) => DecodeOptions::new().decode(&blob).is_ok(),
                Some(_) => DecodeOptions::new().info(&blob).is_ok(),
                None => false,
            })
}

/// What checks a value of a column, if values of its type are read at all.
fn check_of_column(table: &Table, name: &str, kind: &str) -> Option<Check> {
    if let Ok(blobs) = table.blobs(name) {
        let is_image = holds_images(&blobs, kind);
        let blobs = blobs.or_default(MISSING);
        return Some(Arc::new(move |index| {
            let blob = blobs.get(index)?;
            if is_image && blob.bytes() != MISSING { DecodeOptions::new().decode(&blob).map(drop) } else { Ok(()) }
        }));
    }
    let column = column_of(table, name)?;
    Some(Arc::new(move |index| match column.check(index) {
        // Nor are those of another shape than the one that they should have.
        Err(error) if error.kind() == ErrorKind::Shape => Ok(()),
        loaded => loaded,
    }))
}

/// What loads the values of a column, if values of its type are read at all. A value that is missing is an empty one.
fn column_of(table: &Table, name: &str) -> Option<Column> {
    fn numbers<T: ColumnElement + Stack>(table: &Table, name: &str) -> Option<Column> {
        if let Ok(column) = table.column::<T>(name) {
            return Some(Column::new(column.or_default(T::default()), collate::stack()));
        }
        let rows = table.rows::<T>(name).ok()?.or_default(T::default());
        Some(match rows.shape() {
            Some(_) => Column::new(rows, collate::stack()),
            // Lists that make no array are nothing damaged, and as nothing they are loaded.
            None => Column::new(
                try_from_fn(rows.len(), move |index| match rows.get(index) {
                    Err(error) if error.kind() == ErrorKind::Shape => Ok(Array1::default(0)),
                    loaded => loaded,
                }),
                collate::ragged(),
            ),
        })
    }
    if let Ok(blobs) = table.blobs(name) {
        return Some(Column::of_blobs(blobs.or_default(MISSING)));
    }
    if let Ok(texts) = table.strings(name) {
        return Some(Column::new(texts.or_default(""), collate::stack()));
    }
    if let Some(labels) = table.class_names(name).and_then(|_| table.labels(name).ok()) {
        return Some(Column::new(labels.or_default(0), collate::stack()));
    }
    let kinds = [
        numbers::<u8>,
        numbers::<u16>,
        numbers::<u32>,
        numbers::<u64>,
        numbers::<i8>,
        numbers::<i16>,
        numbers::<i32>,
        numbers::<i64>,
        numbers::<f32>,
        numbers::<f64>,
        numbers::<bool>,
    ];
    kinds.into_iter().find_map(|column| column(table, name))
}

/// Stands for bytes that are missing.
const MISSING: &[u8] = b"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_images_if_the_first_of_them_is_one() {
        let holds = |bytes: &[u8], kind| holds_images(&vec![Blob::new(bytes.to_vec(), "a")], kind);
        let picture = |name: &str| {
            std::fs::read(format!("{}/tests/images/inputs/{name}", env!("CARGO_MANIFEST_DIR"))).expect("it is there")
        };
        assert!(holds(&picture("png_rgb_8.png"), "binary") && holds(&picture("pgm.pgm"), "binary"));
        assert!(holds(&picture("jpeg_420_q75.jpg")[..1000], "binary"), "one that is cut off is one");
        for text in [&b"BMW on a street"[..], b"P1 12 14 units sold", b"P6", b"GIF89a it is not", b"\xff\xd8\xff", b""]
        {
            assert!(!holds(text, "binary"), "{text:?}");
            assert!(holds(text, "image"));
        }
        assert!(!holds_images(&Vec::<Blob>::new(), "binary"));
    }
}
