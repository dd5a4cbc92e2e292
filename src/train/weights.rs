//! Weights as files: put in from elsewhere, and taken out.
//!
//! Formats: [safetensors](https://huggingface.co/docs/safetensors/index#format), and with the feature `npy` the
//! [archives of NumPy](https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, IxDyn};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};

use super::model::Model;
use crate::file::replace_file;
use crate::{Error, ErrorKind, Result};

/// Arrays by name, as a file of weights holds them.
///
/// # Examples
///
/// Weights that PyTorch saved, put in by hand: its kernels are the other way round.
///
/// ```
/// use ndarray::array;
/// use procession::train::{Model, Weights};
///
/// let mut file = Weights::new();
/// file.insert("fc.weight", array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].into_dyn()); // (outputs, inputs)
///
/// let mut model = Model::builder(3).dense("logits", 2).build()?;
/// model.set_param("logits/kernel", file.get("fc.weight")?.reversed_axes())?;
/// assert_eq!(model.predict(&array![[1.0, 0.0, 0.0]])?, array![[1.0, 4.0]]);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    arrays: BTreeMap<String, ArrayD<f32>>,
    /// Arrays of a file that are not read, such as the counts of batches that PyTorch saves, and why not.
    unread: BTreeMap<String, String>,
}

/// How the parameters of a model are named in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Naming {
    /// As in the model, which is as in Keras: `hidden/kernel`, `(inputs, outputs)`, and `hidden/bias`; `norm/gamma`,
    /// `norm/beta`, `norm/moving_mean`, `norm/moving_variance`.
    #[default]
    Keras,
    /// As in PyTorch's `state_dict`: `hidden.weight`, `(outputs, inputs)`, and `hidden.bias`; `norm.weight`,
    /// `norm.bias`, `norm.running_mean`, `norm.running_var`. Blocks become modules: `block.dense.weight`. A parameter of
    /// another name keeps it.
    PyTorch,
}

impl Naming {
    /// The name in a file of a parameter of this full name, and whether its axes are reversed there.
    fn in_file(self, full_name: &str) -> (String, bool) {
        match self {
            Self::Keras => (full_name.to_owned(), false),
            Self::PyTorch => {
                let (layer, param) = full_name.rsplit_once('/').unwrap_or(("", full_name));
                let name = match param {
                    "kernel" | "gamma" => "weight",
                    "beta" => "bias",
                    "moving_mean" => "running_mean",
                    "moving_variance" => "running_var",
                    other => other,
                };
                (format!("{}.{name}", layer.replace('/', ".")), param == "kernel")
            }
        }
    }
}

impl Weights {
    /// No weights yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file: `.safetensors` (`f32`, `f64` or `bf16`, as `f32`), or `.npz` (`f32`, `f64` or `f16`) with the feature
    /// `npy`. Arrays of other types are passed over: only who asks for one gets an error.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not in the format that its name says; the error names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = || match Format::of(path)? {
            Format::Safetensors => Self::from_safetensors(&fs::read(path)?),
            #[cfg(feature = "npy")]
            Format::Npz => npz::read(path),
        };
        read().map_err(|error| error.with_file(path))
    }

    /// Saves a file, in the place of one that is there: `.safetensors`, or `.npz` with the feature `npy`.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or its name has no such ending; the error names the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match Format::of(path).map_err(|error| error.with_file(path))? {
            Format::Safetensors => replace_file(path, &self.to_safetensors()?),
            #[cfg(feature = "npy")]
            Format::Npz => npz::save(self, path),
        }
    }

    /// Reads the bytes of a safetensors file.
    ///
    /// # Errors
    ///
    /// Of kind [`Format`](ErrorKind::Format) if they are not those of one.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let (_, file) = open(bytes)?;
        let mut weights = Self::new();
        for (name, tensor) in file.iter() {
            weights.note(name, array(name, &tensor));
        }
        Ok(weights)
    }

    /// Keeps what was read of a file.
    fn note(&mut self, name: &str, array: Result<ArrayD<f32>>) {
        match array {
            Ok(array) => drop(self.arrays.insert(name.to_owned(), array)),
            Err(error) => drop(self.unread.insert(name.to_owned(), error.to_string())),
        }
    }

    /// The bytes of a safetensors file.
    ///
    /// # Errors
    ///
    /// If the names are too long together for the format.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let arrays = self.arrays.iter().map(|(name, array)| (name.as_str(), array.view()));
        safetensors_bytes(arrays, None)
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// An array by its name.
    ///
    /// # Errors
    ///
    /// If there is none, or one of numbers of another type; the error says of which, or lists those that there are.
    pub fn get(&self, name: &str) -> Result<ArrayViewD<'_, f32>> {
        self.arrays.get(name).map(|array| array.view()).ok_or_else(|| {
            if let Some(why) = self.unread.get(name) {
                return Error::new(ErrorKind::Format, why.clone());
            }
            let names: Vec<&str> = self.names().collect();
            Error::argument(format!("no array {name}, expected one of {}", names.join(", ")))
        })
    }

    pub(super) fn into_arrays(self) -> BTreeMap<String, ArrayD<f32>> {
        self.arrays
    }

    /// Adds an array, in the place of one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, array: ArrayD<f32>) {
        self.arrays.insert(name.into(), array);
    }
}

impl Model {
    /// A copy of all parameters, trained or not, as [`Naming`] says.
    ///
    /// # Errors
    ///
    /// If two parameters have one name there, as those of a layer `a.b` and of a layer `b` in a block `a` have in PyTorch.
    pub fn weights(&self, naming: Naming) -> Result<Weights> {
        let mut weights = Weights::new();
        let mut twice = None;
        self.for_each_param(|full_name, param| {
            let (name, reversed) = naming.in_file(full_name);
            let view = param.view();
            let view = if reversed { view.reversed_axes() } else { view };
            if weights.arrays.insert(name.clone(), view.as_standard_layout().into_owned()).is_some() {
                twice = Some(name);
            }
        });
        match twice {
            Some(name) => Err(Error::argument(format!("two parameters are named {name} in {naming:?}'s naming"))),
            None => Ok(weights),
        }
    }

    /// Sets all parameters, trained or not. Arrays with other names are left out of account.
    ///
    /// # Errors
    ///
    /// If one is missing, has another shape, two parameters have one name, or averaged weights are applied. Nothing is
    /// changed then.
    pub fn set_weights(&mut self, weights: &Weights, naming: Naming) -> Result<()> {
        self.weights(naming)?;
        let mut found = Vec::new();
        let mut wrong = None;
        self.for_each_param(|full_name, param| {
            let (name, reversed) = naming.in_file(full_name);
            match weights.get(&name) {
                Ok(array) => {
                    let array = if reversed { array.reversed_axes() } else { array };
                    if array.shape() != param.shape() && wrong.is_none() {
                        let (theirs, ours) = (array.shape(), param.shape());
                        let message = format!("array {name} has shape {theirs:?} for {full_name}, which has {ours:?}");
                        wrong = Some(Error::new(ErrorKind::Shape, message));
                    }
                    found.push(array);
                }
                Err(error) => wrong = wrong.take().or(Some(error)),
            }
        });
        if let Some(error) = wrong {
            return Err(error);
        }
        let mut found = found.into_iter();
        self.for_each_param_mut(|_, param| {
            let array = found.next().expect("each parameter has its array");
            param.view_mut().assign(&array);
        })
    }

    /// Saves all parameters to a file, `.safetensors` or (feature `npy`) `.npz`, in the place of one that is there.
    ///
    /// # Errors
    ///
    /// As [`Weights::save`].
    pub fn save_weights(&self, path: impl AsRef<Path>, naming: Naming) -> Result<()> {
        self.weights(naming)?.save(path)
    }

    /// Sets all parameters from a file, `.safetensors` or (feature `npy`) `.npz`.
    ///
    /// # Errors
    ///
    /// As [`Weights::read`] and [`set_weights`](Self::set_weights). Nothing is changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::train::{Model, Naming};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("weights.safetensors");
    /// let model = Model::builder(3).dense("hidden", 4).relu("relu").dense("logits", 2).seed(1).build()?;
    /// model.save_weights(&path, Naming::PyTorch)?; // torch: safetensors.torch.load_model(module, path)
    ///
    /// let mut other = Model::builder(3).dense("hidden", 4).relu("relu").dense("logits", 2).seed(2).build()?;
    /// other.load_weights(&path, Naming::PyTorch)?;
    /// assert_eq!(other.weights(Naming::Keras)?, model.weights(Naming::Keras)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_weights(&mut self, path: impl AsRef<Path>, naming: Naming) -> Result<()> {
        let path = path.as_ref();
        self.set_weights(&Weights::read(path)?, naming).map_err(|error| error.with_file(path))
    }
}

/// A format of files, by the ending of the name.
enum Format {
    Safetensors,
    #[cfg(feature = "npy")]
    Npz,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending {
            "safetensors" => Ok(Self::Safetensors),
            #[cfg(feature = "npy")]
            "npz" => Ok(Self::Npz),
            _ => {
                let known = if cfg!(feature = "npy") { ".safetensors or .npz" } else { ".safetensors" };
                Err(Error::argument(format!("a file of weights that ends in {ending:?}, expected {known}")))
            }
        }
    }
}

/// The bytes of a safetensors file with these arrays.
pub(super) fn safetensors_bytes<'a>(
    arrays: impl Iterator<Item = (&'a str, ArrayViewD<'a, f32>)>,
    metadata: Option<std::collections::HashMap<String, String>>,
) -> Result<Vec<u8>> {
    let little_endian = |(name, array): (&'a str, ArrayViewD<'a, f32>)| {
        let mut bytes = Vec::with_capacity(4 * array.len());
        array.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        (name, array.shape().to_vec(), bytes)
    };
    let parts: Vec<_> = arrays.map(little_endian).collect();
    let views =
        parts.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(not_safetensors)?;
    safetensors::serialize(views, metadata).map_err(not_safetensors)
}

/// The header and the tensors of a safetensors file.
pub(super) fn open(bytes: &[u8]) -> Result<(Metadata, SafeTensors<'_>)> {
    let malformed = |what: String| Error::new(ErrorKind::Format, format!("not a sound safetensors file: {what}"));
    let missing = || malformed(format!("{} bytes, fewer than its header takes", bytes.len()));
    let len = u64::from_le_bytes(*bytes.first_chunk().ok_or_else(missing)?);
    let rest = &bytes[8..];
    let header = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or_else(missing)?;
    let header: Metadata = serde_json::from_slice(header).map_err(|cause| malformed(cause.to_string()))?;
    // The library adds to the end that the header claims, which must not overflow.
    if header.data_len() > rest.len() {
        return Err(malformed(format!("{} bytes of numbers in a file of {}", header.data_len(), bytes.len())));
    }
    Ok((header, SafeTensors::deserialize(bytes).map_err(not_safetensors)?))
}

pub(super) fn not_safetensors(cause: safetensors::SafeTensorError) -> Error {
    Error::new(ErrorKind::Format, "not a sound safetensors file").with_cause(cause)
}

/// The numbers of a tensor as `f32`.
pub(super) fn array(name: &str, tensor: &TensorView<'_>) -> Result<ArrayD<f32>> {
    let bytes = tensor.data();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        // The upper half of an f32.
        Dtype::BF16 => {
            let halves = bytes.as_chunks().0.iter();
            halves.map(|bytes| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16)).collect()
        }
        other => {
            let message = format!("array {name} is of type {other:?}, expected F32, F64 or BF16");
            return Err(Error::new(ErrorKind::Format, message));
        }
    };
    ArrayD::from_shape_vec(IxDyn(tensor.shape()), values).map_err(|cause| {
        let message = format!("array {name} has shape {:?} and {} bytes", tensor.shape(), bytes.len());
        Error::new(ErrorKind::Format, message).with_cause(cause)
    })
}

#[cfg(feature = "npy")]
mod npz {
    use std::path::Path;

    use ndarray::{ArrayD, IxDyn};

    use super::Weights;
    use crate::source::{Npy, NpyType, Npz, NpzWriter};
    use crate::{Error, ErrorKind, Result};

    pub(super) fn read(path: &Path) -> Result<Weights> {
        let file = Npz::open(path)?;
        let mut weights = Weights::new();
        for name in file.names() {
            weights.note(name, file.array(name).and_then(|npy| array(name, &npy)));
        }
        Ok(weights)
    }

    /// The numbers of an array as `f32`.
    fn array(name: &str, npy: &Npy) -> Result<ArrayD<f32>> {
        match npy.element() {
            NpyType::F32 => npy.to_array::<f32, IxDyn>(),
            NpyType::F64 => Ok(npy.to_array::<f64, IxDyn>()?.mapv(|value| value as f32)),
            NpyType::F16 => Ok(npy.to_array::<half::f16, IxDyn>()?.mapv(f32::from)),
            other => {
                let message = format!("array {name} is of type {other}, expected f32, f64 or f16");
                Err(Error::new(ErrorKind::Format, message))
            }
        }
    }

    pub(super) fn save(weights: &Weights, path: &Path) -> Result<()> {
        let mut writer = NpzWriter::create(path)?;
        weights.arrays.iter().try_for_each(|(name, array)| writer.add(name, array))?;
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn model(seed: u64) -> Model {
        Model::builder(3)
            .dense("hidden", 4)
            .batch_norm("norm")
            .residual("block", |block| block.dense("dense", 4))
            .dense("logits", 2)
            .seed(seed)
            .build()
            .unwrap()
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = vec!["w.safetensors"];
        if cfg!(feature = "npy") {
            names.push("w.npz");
        }
        for name in names {
            for naming in [Naming::Keras, Naming::PyTorch] {
                let path = dir.path().join(name);
                let (saved, mut loaded) = (model(1), model(2));
                saved.save_weights(&path, naming).unwrap();
                assert_ne!(loaded.weights(naming).unwrap(), saved.weights(naming).unwrap());
                loaded.load_weights(&path, naming).unwrap();
                assert_eq!(loaded.weights(naming).unwrap(), saved.weights(naming).unwrap(), "{name}, {naming:?}");
            }
        }
    }

    #[test]
    fn names_and_axes_are_those_of_the_framework() {
        let model = model(1);
        let (keras, torch) = (model.weights(Naming::Keras).unwrap(), model.weights(Naming::PyTorch).unwrap());
        let names: Vec<&str> = torch.names().collect();
        assert_eq!(
            names,
            [
                "block.dense.bias",
                "block.dense.weight",
                "hidden.bias",
                "hidden.weight",
                "logits.bias",
                "logits.weight",
                "norm.bias",
                "norm.running_mean",
                "norm.running_var",
                "norm.weight"
            ]
        );
        assert_eq!(torch.get("hidden.weight").unwrap(), keras.get("hidden/kernel").unwrap().t());
        assert_eq!(torch.get("block.dense.weight").unwrap(), keras.get("block/dense/kernel").unwrap().t());
        assert_eq!(torch.get("norm.running_var").unwrap(), keras.get("norm/moving_variance").unwrap());
    }

    #[test]
    fn what_does_not_fit_is_named_and_changes_nothing() {
        let mut model = model(1);
        let before = model.weights(Naming::Keras).unwrap();
        let mut weights = before.clone();
        weights.insert("more", array![1.0].into_dyn());
        assert!(model.set_weights(&weights, Naming::Keras).is_ok());
        weights.insert("logits/bias", array![1.0].into_dyn());
        weights.insert("hidden/bias", array![9.0, 9.0, 9.0, 9.0].into_dyn());
        let error = model.set_weights(&weights, Naming::Keras).unwrap_err();
        assert_eq!(error.to_string(), "array logits/bias has shape [1] for logits/bias, which has [2]");
        let error = model.set_weights(&Weights::new(), Naming::PyTorch).unwrap_err();
        assert!(error.to_string().starts_with("no array hidden.weight, expected one of"), "{error}");
        assert_eq!(model.weights(Naming::Keras).unwrap(), before);
        let twins = Model::builder(2).dense("a.b", 2).residual("a", |block| block.dense("b", 2)).build().unwrap();
        assert!(twins.weights(Naming::Keras).is_ok());
        assert!(twins.weights(Naming::PyTorch).unwrap_err().to_string().contains("two parameters are named a.b."));
    }

    #[test]
    fn numbers_of_other_types_are_converted_or_passed_over() {
        let tensor = |dtype, bytes: &[u8]| {
            let view = TensorView::new(dtype, vec![2], bytes).unwrap();
            Weights::from_safetensors(&safetensors::serialize([("x", view)], None).unwrap())
        };
        let expected = array![1.5_f32, -2.0].into_dyn();
        let doubles: Vec<u8> = [1.5_f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(tensor(Dtype::F64, &doubles).unwrap().get("x").unwrap(), expected);
        let halves: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
        assert_eq!(tensor(Dtype::BF16, &halves).unwrap().get("x").unwrap(), expected);
        let counts = tensor(Dtype::I16, &[0; 4]).unwrap();
        assert_eq!(counts.names().count(), 0);
        let error = counts.get("x").unwrap_err();
        assert_eq!(error.to_string(), "array x is of type I16, expected F32, F64 or BF16");
    }

    #[cfg(feature = "npy")]
    #[test]
    fn archives_of_numpy_hold_any_floats_in_any_order() {
        use crate::source::NpzWriter;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.npz");
        let mut writer = NpzWriter::create(&path).unwrap();
        writer.add("doubles", &array![1.5_f64, -2.0]).unwrap();
        writer.add("halves", &array![half::f16::from_f32(1.5), half::f16::from_f32(-2.0)]).unwrap();
        writer.add("step", &ndarray::arr0(7_i64)).unwrap();
        writer.finish().unwrap();
        let weights = Weights::read(&path).unwrap();
        for name in ["doubles", "halves"] {
            assert_eq!(weights.get(name).unwrap(), array![1.5_f32, -2.0].into_dyn());
        }
        let error = weights.get("step").unwrap_err();
        assert_eq!(error.to_string(), "array step is of type i64, expected f32, f64 or f16");
        // Kernels that others keep the other way round are saved in Fortran order.
        let text = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }";
        let values: Vec<u8> = [1.0_f32, 3.0, 2.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let content = [b"\x93NUMPY\x01\x00", &[text.len() as u8, 0][..], text.as_bytes(), &values].concat();
        let deflated = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        archive.start_file("kernel.npy", deflated).unwrap();
        std::io::Write::write_all(&mut archive, &content).unwrap();
        archive.finish().unwrap();
        let weights = Weights::read(&path).unwrap();
        assert_eq!(weights.get("kernel").unwrap(), array![[1.0, 2.0], [3.0, 4.0]].into_dyn());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = Weights::read(&path).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(path.as_path())));
    }

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        assert_eq!(Weights::read(&path).unwrap_err().kind(), ErrorKind::Io);
        let bytes = model(1).weights(Naming::Keras).unwrap().to_safetensors().unwrap();
        for len in 0..bytes.len() {
            let error = Weights::from_safetensors(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "the first {len} bytes");
        }
        // Offsets that overflow when anything is added to them.
        let tensor = |at: u128| {
            let (shape, end) = ((1_u128 << 59) - 1, (at + 1) * ((1 << 61) - 4));
            format!(
                "\"t{at}\":{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{},{end}]}}",
                at * ((1 << 61) - 4)
            )
        };
        let header = format!("{{{}}}", (0..8).map(tensor).collect::<Vec<_>>().join(","));
        let hostile = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        assert_eq!(Weights::from_safetensors(&hostile).unwrap_err().kind(), ErrorKind::Format);
        fs::write(&path, &bytes[..20]).unwrap();
        let error = Weights::read(&path).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(path.as_path())));
        let error = Weights::new().save(dir.path().join("w.txt")).unwrap_err();
        assert!(error.to_string().contains("ends in \"txt\", expected .safetensors"), "{error}");
    }
}
