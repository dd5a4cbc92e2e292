//! Samples in object stores: buckets of S3, Google Cloud and Azure, HTTP servers, and whatever else has an implementation
//! of [`object_store::ObjectStore`].
//!
//! The protocols, credentials and their renewal are the crate object_store's. Ours is what a loader needs beside them:
//! listings that give every object its index and its size, checks that an object is whole and still the one that was
//! listed, ranges of shards and arrays, and a cache on the disk.
//!
//! *Who tries again.* The store: answers of 5xx, 408 and 429, connections that fail before there is an answer, and bodies
//! that break off, which it goes on with from where they broke. The loader's [`retry`](crate::LoaderBuilder::retry): a
//! sample that failed all the same, whatever the reason. Its time-out is over both. The two multiply, so the store's part
//! is small and ends before the loader's time is up.

mod address;
mod blocking;
mod bucket;
mod cache;
mod fetch;
mod labelled;
#[cfg(feature = "npy")]
mod npy;
mod objects;
#[cfg(feature = "tar")]
mod tar;

/// The crate whose stores buckets are made of, in the version that fits.
pub use ::object_store;

pub use self::bucket::{Bucket, BucketOptions};
pub use self::cache::ObjectCacheStatus;
pub use self::labelled::LabelledObjects;
#[cfg(feature = "npy")]
pub use self::npy::{ObjectNpy, ObjectNpySamples};
pub use self::objects::{Objects, ObjectsOptions};
#[cfg(feature = "tar")]
pub use self::tar::{ObjectTarImagesAndLabels, ObjectTarOptions, ObjectTarShards};
