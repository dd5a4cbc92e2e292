//! Where samples come from.
//!
//! | samples | source |
//! |---|---|
//! | in memory | `Vec<T>`, ndarray's `Array1` to `Array6` |
//! | computed | [`from_fn`], [`try_from_fn`], [`from_fill`] |
//! | IDX files: MNIST, Fashion-MNIST and their kin | [`Idx`], [`Mnist`] |
//! | CIFAR-10 and CIFAR-100 | [`Cifar`] |
//! | lines of text | [`Lines`] |
//! | flat files of tokens | [`Tokens`] |
#![cfg_attr(feature = "blob", doc = "| files of any kind | [`Files`] |")]
#![cfg_attr(
    feature = "image",
    doc = "| image files in folders by class, or in a list | [`ImageFolder`], [`ImageList`] |"
)]
#![cfg_attr(feature = "tar", doc = "| tar shards in the convention of WebDataset | [`TarShards`], [`TarIndex`] |")]
#![cfg_attr(feature = "npy", doc = "| NumPy's `.npy` and `.npz` | [`Npy`], [`Npz`] |")]
#![cfg_attr(
    feature = "object-store",
    doc = "| objects of S3, Google Cloud, Azure, HTTP servers, and tar shards and `.npy` files there | [`Objects`], [`LabelledObjects`], [`Bucket`] |"
)]
#![cfg_attr(feature = "csv", doc = "| tables as CSV | [`Csv`] |")]
#![cfg_attr(feature = "arrow", doc = "| Arrow files, data sets saved by Hugging Face's `datasets` | [`ArrowTable`] |")]
#![cfg_attr(feature = "parquet", doc = "| Parquet files | [`ParquetTable`] |")]
//! | Arrow files, data sets saved by Hugging Face's `datasets` | `ArrowTable` (feature `arrow`) |

#[cfg(feature = "arrow")]
mod arrow;
#[cfg(feature = "blob")]
mod blob;
mod cifar;
#[cfg(feature = "csv")]
mod classes;
#[cfg(feature = "arrow")]
mod columns;
#[cfg(feature = "csv")]
mod csv;
mod extents;
#[cfg(feature = "blob")]
mod files;
#[cfg(feature = "image")]
mod folder;
mod gather;
mod idx;
#[cfg(feature = "image")]
mod image_list;
#[cfg(any(feature = "gzip", feature = "npy"))]
mod inflate;
mod lines;
mod mapped;
mod memory;
mod mnist;
#[cfg(feature = "npy")]
mod npy;
#[cfg(feature = "npy")]
mod npz;
#[cfg(feature = "object-store")]
mod object;
mod offsets;
#[cfg(feature = "parquet")]
mod parquet;
mod scale;
#[cfg(feature = "tar")]
mod tar;
mod tokens;
#[cfg(feature = "image")]
mod walk;

#[cfg(feature = "parquet")]
pub use self::parquet::{ParquetOptions, ParquetTable};
#[cfg(feature = "arrow")]
pub use arrow::{ArrowOptions, ArrowTable};
#[cfg(feature = "blob")]
pub use blob::Blob;
#[cfg(any(feature = "image", feature = "tar"))]
pub(crate) use blob::IMAGE_EXTENSIONS;
pub use cifar::{Cifar, CifarFloats, CifarImages, CifarLabels, CifarOptions, CifarPart};
#[cfg(feature = "arrow")]
pub use columns::{BlobColumn, Column, ColumnElement, LabelColumn, RowColumn, StringColumn, Table};
#[cfg(feature = "csv")]
pub use csv::{Csv, CsvColumn, CsvColumns, CsvLabels, CsvOptions, CsvValue};
#[cfg(feature = "blob")]
pub use files::Files;
#[cfg(feature = "image")]
pub use folder::{ImageFolder, ImageFolderOptions};
pub use idx::{Idx, IdxElement, IdxFloats, IdxImages, IdxLabels, IdxOptions, IdxSamples, IdxType};
#[cfg(feature = "image")]
pub use image_list::{ImageList, ImageListOptions};
pub use lines::{Lines, LinesOptions};
pub use mapped::Mapped;
pub use memory::{FromFill, FromFn, TryFromFn, from_fill, from_fn, try_from_fn};
pub use mnist::{Mnist, MnistPart};
#[cfg(feature = "npy")]
pub use npy::{Npy, NpyElement, NpyFloats, NpyLabels, NpyOptions, NpySamples, NpyScalars, NpyType};
#[cfg(feature = "npy")]
pub use npz::{Npz, NpzOptions, NpzWriter};
#[cfg(feature = "object-store")]
pub use object::{Bucket, BucketOptions, LabelledObjects, ObjectCacheStatus, Objects, ObjectsOptions, object_store};
#[cfg(all(feature = "object-store", feature = "npy"))]
pub use object::{ObjectNpy, ObjectNpySamples};
#[cfg(all(feature = "object-store", feature = "tar"))]
pub use object::{ObjectTarImagesAndLabels, ObjectTarOptions, ObjectTarShards};
pub use scale::Floats;
#[cfg(feature = "tar")]
pub use tar::{
    ShardWriter, ShardWriterOptions, TarEntry, TarField, TarImagesAndLabels, TarIndex, TarMemberKind, TarOptions,
    TarPassedOver, TarSample, TarShards, TarWriter, WrittenShard,
};
pub use tokens::{Token, TokenType, TokenWindows, Tokens, TokensOptions};
#[cfg(feature = "image")]
pub use walk::{PassedOver, PassedOverReason};

use ndarray::{Array, Dimension, RemoveAxis};

use crate::batch::stack::{Element, Row, RowBlock, Stack};

// A method with the bound `Array<T, D>: Stack` cannot see what the layout and the row of an array are: the bound hides
// the implementation. These functions have no such bound.

/// A shape as the layout of arrays.
pub(crate) fn array_layout<T: Element, D>(shape: D) -> <Array<T, D> as Stack>::Layout
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    shape
}

/// The row of an array as a slice.
#[inline]
pub(crate) fn array_row<T: Element, D>(row: Row<'_, Array<T, D>>) -> &mut [T]
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    row
}

/// The elements of the rows of arrays.
#[inline]
pub(crate) fn array_rows<'b, T: Element, D>(block: &'b mut RowBlock<'_, '_, Array<T, D>>) -> &'b mut [T]
where
    D: Dimension + Send + Sync + 'static,
    D::Larger: RemoveAxis + Send + 'static,
{
    block.elements()
}

/// The layout of a pair.
#[cfg(feature = "image")]
pub(crate) fn pair_layout<A: Stack, B: Stack>(a: A::Layout, b: B::Layout) -> <(A, B) as Stack>::Layout {
    (a, b)
}

/// The row of a pair as its members' rows.
#[cfg(feature = "image")]
pub(crate) fn pair_row<'a, A: Stack, B: Stack>(row: Row<'a, (A, B)>) -> (Row<'a, A>, Row<'a, B>) {
    row
}
