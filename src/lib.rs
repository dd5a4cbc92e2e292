//! Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.
//!
//! A [`Sequence`] describes the data: a length, and a sample for each index. A [`Loader`] visits all of it once per
//! epoch, on a pool of workers, and yields [`Batch`]es in the order of its [`Plan`]: the same batches every run, for any
//! number of workers.
//!
//! ```
//! use procession::{Loader, from_fn};
//!
//! let squares = from_fn(1_000, |index| [index as f32, (index * index) as f32]);
//! let loader = Loader::builder(squares).batch_size(32).shuffle(7).build()?;
//! for epoch in loader.epochs(0..2) {
//!     for batch in epoch {
//!         let batch = batch?; // an error names epoch, position, index and file
//!         assert_eq!(batch.ncols(), 2); // an ndarray of shape (batch, 2)
//!     }
//! }
//! # Ok::<(), procession::Error>(())
//! ```
//!
//! # The parts
//!
//! | part | what it is |
//! |---|---|
//! | [`Sequence`], [`source`], [`SequenceExt`] | what can be read, from where, and how sequences compose |
//! | [`Sampler`], [`Shuffle`], [`Plan`], [`State`] | what stands where: pure functions of seed, epoch and position |
//! | [`Visit`], [`VisitRng`] | one sample's turn, and the random numbers that belong to it |
//! | [`Loader`], [`Epoch`], [`Batch`], [`Stack`] | what the training loop receives |
//! | [`collate`] | batches of samples that do not stack: padded, ragged, packed |
//! | [`OnFailure`], [`Retry`], [`Receipt`], [`Error`] | what happens to samples that cannot be loaded |
//! | [`Report`] | where the time goes |
//! | [`testing`] | a contract suite for sequences of one's own, and sequences that misbehave |
#![cfg_attr(
    feature = "async",
    doc = "| [`AsyncSequence`], [`Loader::remote`], [`EpochStream`] | samples that are waited for, and batches as a stream |"
)]
#![cfg_attr(
    feature = "train",
    doc = "| [`train`] | a small trainer: layers, losses, optimisers, averaged weights, checkpoints |"
)]
//!
//! # Features
//!
//! | feature | what it gives | what it pulls in |
//! |---|---|---|
//! | `gzip` | IDX files compressed with gzip | flate2 |
//! | `serde` | [`State`] and [`Report`] as serde values | serde |
//! | `rand` | [`VisitRng`] as a generator of the rand ecosystem | rand_core |
//! | `tracing` | spans around each stage of loading | tracing |
//! | `train` | the trainer | crc32fast, libm, rayon, safetensors, serde, serde_json |
//! | `npy` | NumPy's `.npy` and `.npz` | crc32fast, flate2, half, zip |
//! | `image` | image folders and lists, decoding, resizing, transforms | bytes, csv, fast_image_resize, image, libm, zune-jpeg |
//! | `tar` | tar shards in the WebDataset convention | bytes, crc32fast, tar |
//! | `arrow` | Arrow files of Hugging Face datasets | bytes, arrow-array, -buffer, -ipc, -schema, flatbuffers, half, serde_json |
//! | `parquet` | Parquet files | `arrow`, flate2, parquet |
//! | `csv` | tables as CSV | csv, csv-core |
//! | `disk-cache` | decoded samples in a file that outlives the process | crc32fast |
//! | `async` | samples that are waited for, many at once; batches as a stream | futures-core, tokio |
//! | `object-store` | buckets of S3, Google Cloud, Azure, HTTP servers | `async`, bytes, crc32fast, futures-util, object_store, url |
//! | `progress` | progress bars for the trainer | `train`, indicatif |
//! | `fashion-mnist` | 7,000 real images inside the binary (3 MB) | `gzip` |
//! | `cli` | the `procession` command | all sources, `progress`, `serde`, `fashion-mnist`, clap, ctrlc, plotters |

mod batch;
pub mod collate;
pub mod compose;
#[cfg(procession_counting)]
pub mod counting;
mod engine;
mod epoch;
mod error;
mod failure;
#[cfg(any(feature = "disk-cache", feature = "npy", feature = "tar", feature = "train"))]
#[cfg_attr(not(feature = "train"), allow(dead_code, reason = "not every feature uses all of it"))]
mod file;
mod gate;
#[cfg(feature = "image")]
pub mod image;
mod job;
mod loader;
mod partial;
mod plan;
mod reassembly;
#[cfg(feature = "async")]
mod remote;
mod report;
mod requests;
mod rng;
mod sampler;
mod sequence;
pub mod source;
mod stage;
#[cfg(feature = "async")]
mod stream;
mod sync;
pub mod testing;
mod trace;
#[cfg(feature = "train")]
pub mod train;
mod transform;
mod workers;

pub use batch::Batch;
pub use batch::stack::{Element, Row, RowBlock, Stack};
pub use collate::Collate;
pub use compose::{SequenceExt, concat_all, mix};
pub use epoch::{Epoch, Epochs};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use failure::{FailureBudget, OnFailure, Receipt, Retry, Skipped};
pub use loader::{Loader, LoaderBuilder, Window};
pub use plan::{BatchPlan, Plan, State, Tail, World};
#[cfg(feature = "async")]
pub use remote::{AsyncFromFn, AsyncSequence, AsyncSequenceExt, async_from_fn};
pub use report::{Bottleneck, Report, RequestReport};
pub use rng::{Visit, VisitRng};
pub use sampler::{
    BlockShuffle, ClassBalanced, InOrder, LengthBuckets, Sampler, Shuffle, Subset, Weighted, WindowShuffle,
};
pub use sequence::Sequence;
pub use source::{from_fill, from_fn, try_from_fn};
#[cfg(feature = "async")]
pub use stream::EpochStream;
pub use transform::Transform;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
