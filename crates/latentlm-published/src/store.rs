//! Weights of published checkpoints: read lazily, tensor by tensor; written whole or not at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use burn::module::Module;
use burn::store::bridge::{deferred, map_data, to_data};
use burn::store::burn_pack::Tensor as Stored;
use burn::store::{FloatCastAdapter, ModuleAdapter, ModuleSnapshot, SafetensorsStoreError};
use burn::tensor::{DType, Shape, TensorData};
use latentlm_core::bundle::{BundleError, BundleWriter, check_applied, check_size};
use safetensors::View;

use super::error::{PretrainedError, damaged};
use super::gguf;
use super::layout::{Direction, Layouts};
use super::naming::{Joined, Naming, renamed};
use super::place::{Matrices, WeightType};
use super::quantized::{SCALES_OF_WEIGHTS, pair_up};
use super::reader::{self, Unread};
use super::shards::{contents, files};

/// How floats are stored in a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredDType {
    /// 32 bits.
    Float32,
    /// 16 bits, the exponent of float32.
    Bfloat16,
    /// 16 bits, IEEE.
    Float16,
}

impl StoredDType {
    fn burn(self) -> DType {
        match self {
            Self::Float32 => DType::F32,
            Self::Bfloat16 => DType::BF16,
            Self::Float16 => DType::F16,
        }
    }

    /// The name in a `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }
}

/// How a model's parameters are called and laid out in a published checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    pub(crate) naming: Naming,
    pub(crate) joined: Option<Joined>,
    pub(crate) pixels: &'static [&'static str],
    /// Parameters of ours that the checkpoint does not have.
    pub(crate) own: &'static [&'static str],
    /// Beginnings of names, in our naming, of tensors that the checkpoint may have and the model does not use.
    pub(crate) skipped: &'static [&'static str],
}

impl Format {
    fn layouts(&self, direction: Direction) -> Layouts {
        Layouts {
            direction,
            pixels: self.pixels,
        }
    }

    /// Their name, parts of a joined tensor written out.
    fn theirs(&self, ours: &str) -> String {
        let name = self.naming.theirs(ours);
        let parts = self.joined.and_then(|joined| {
            let all = format!("{{{}}}", joined.theirs.join(","));
            joined.name_of_part(&name, &all)
        });
        parts.unwrap_or(name)
    }

    /// Whether the model does not use a tensor.
    fn skips(&self, ours: &str) -> bool {
        self.skipped.iter().any(|start| {
            let rest = ours.strip_prefix(start);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// Refuses a checkpoint that is too small for a model's `parameters`, before the model takes memory.
/// `described_by` names what the sizes were taken from.
///
/// # Errors
/// If a file is not whole, or together they have fewer than 2 bytes a parameter, half a byte if weights are quantized. A
/// GGUF file must have as many numbers.
pub(crate) fn check_claim(
    path: &Path,
    parameters: usize,
    described_by: &'static str,
) -> Result<(), PretrainedError> {
    if gguf::is_gguf(path) {
        return gguf::check_claim(path, parameters);
    }
    let contents = contents(path)?;
    let whole = if contents.has(SCALES_OF_WEIGHTS) {
        parameters / 4
    } else {
        parameters
    };
    Ok(check_size(path, contents.bytes, whole, described_by)?)
}

/// Fills a module with the weights of a published checkpoint or GGUF file, in float32 or in a type of their own.
///
/// # Errors
/// If a file can't be read, or a tensor is missing, unknown or of another shape.
pub(crate) fn load<M: Module>(
    module: M,
    path: &Path,
    format: &Format,
    weights: WeightType,
) -> Result<M, PretrainedError> {
    let unread = Unread::default();
    let mut tensors = Vec::new();
    for file in files(path)? {
        let found = if gguf::is_gguf(&file) {
            gguf::tensors(&file, weights, &unread)?
        } else {
            reader::tensors(&file, &unread)?
        };
        let (found, _) = format.naming.import().remap(found);
        tensors.extend(
            found
                .into_iter()
                .filter(|tensor| !format.skips(&tensor.name)),
        );
    }
    refuse_twins(&tensors, path, format)?;
    if let Some(joined) = format.joined {
        tensors = join(tensors, joined, path, format)?;
    }
    let (tensors, pairs) = pair_up(tensors);
    let mut matrices = Matrices::new(weights, tensors, pairs);
    let mut module = module.map(&mut matrices);
    unread.check()?;
    let (tensors, placed) = matrices
        .finish()
        .map_err(|error| damaged(path, SafetensorsStoreError::Other(error.to_string())))?;
    let adapter = format
        .layouts(Direction::Import)
        .chain(FloatCastAdapter::to(DType::F32));
    let result = module.apply(tensors, None, Some(adapter.clone_box()), true);
    unread.check()?;
    let mut own = format.own.to_vec();
    own.extend(placed.iter().map(String::as_str));
    let file_names = gguf::is_gguf(path).then(gguf::file_names);
    check_applied(&result, path, &own, |ours| {
        let theirs = format.theirs(ours);
        match &file_names {
            Some(names) => renamed(names, &theirs),
            None => theirs,
        }
    })?;
    Ok(module)
}

/// Refuses tensors of one name: in two shards, or spelled in two ways. Nobody knows which of them is meant.
fn refuse_twins(tensors: &[Stored], path: &Path, format: &Format) -> Result<(), PretrainedError> {
    let mut names = HashSet::with_capacity(tensors.len());
    for tensor in tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(PretrainedError::Bundle(BundleError::Mismatch {
                path: path.to_owned(),
                reason: format!("has `{}` twice", format.naming.theirs(&tensor.name)),
            }));
        }
    }
    Ok(())
}

/// Puts the parts of joined tensors together, rows after rows.
fn join(
    tensors: Vec<Stored>,
    joined: Joined,
    path: &Path,
    format: &Format,
) -> Result<Vec<Stored>, PretrainedError> {
    let mut whole = Vec::with_capacity(tensors.len());
    let mut groups: BTreeMap<String, [Option<Stored>; 3]> = BTreeMap::new();
    for tensor in tensors {
        match joined.part(&tensor.name) {
            Some((index, name)) => groups.entry(name).or_default()[index] = Some(tensor),
            None => whole.push(tensor),
        }
    }
    for (name, parts) in groups {
        if let Some(index) = parts.iter().position(Option::is_none) {
            let lacking = joined.name_of_part(&format.naming.theirs(&name), joined.theirs[index]);
            return Err(PretrainedError::Bundle(BundleError::Mismatch {
                path: path.to_owned(),
                reason: format!("lacks `{}`", lacking.unwrap_or(name)),
            }));
        }
        whole.push(stack(name, parts.into_iter().flatten().collect()));
    }
    Ok(whole)
}

/// The parts as one tensor, read on demand. Parts that differ in more than their number of rows are not
/// joined: the first of them fits no model, and the shape check names it.
fn stack(name: String, parts: Vec<Stored>) -> Stored {
    let dtype = parts[0].dtype;
    let mut shape = parts[0].shape.as_slice().to_vec();
    let columns = shape.get(1..);
    let mut fit = !shape.is_empty();
    for part in &parts {
        fit &= part.dtype == dtype && part.shape.as_slice().get(1..) == columns;
    }
    if !fit {
        let mut first = parts[0].clone();
        first.name = name;
        return first;
    }
    shape[0] = parts.iter().map(|part| part.shape.as_slice()[0]).sum();
    let shape = Shape::from(shape);
    let target = shape.clone();
    deferred(name, dtype, shape, None, move || {
        let mut bytes = Vec::with_capacity(parts.iter().map(Stored::byte_len).sum());
        for part in &parts {
            bytes.extend_from_slice(to_data(part)?.as_bytes());
        }
        Ok(TensorData::from_bytes_vec(bytes, target.clone(), dtype))
    })
}

/// The parts of a joined tensor; any other tensor as it is.
fn split(tensor: Stored, joined: Joined) -> Vec<Stored> {
    let (dtype, mut shape) = (tensor.dtype, tensor.shape.as_slice().to_vec());
    let mut parts = Vec::with_capacity(joined.rows.len());
    let mut start = 0;
    for (part, rows) in joined.theirs.into_iter().zip(joined.rows) {
        let Some(name) = joined.name_of_part(&tensor.name, part) else {
            return vec![tensor];
        };
        shape[0] = rows;
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let range = start..start + bytes;
        start += bytes;
        let shape = Shape::from(shape.clone());
        let target = shape.clone();
        parts.push(map_data(tensor.clone(), name, dtype, shape, move |data| {
            let bytes = data.as_bytes()[range.clone()].to_vec();
            TensorData::from_bytes_vec(bytes, target.clone(), dtype)
        }));
    }
    parts
}

/// Writes `model.safetensors` of a checkpoint under construction, in their naming.
///
/// # Errors
/// If the file can't be written.
pub(crate) fn save<M: Module>(
    module: &M,
    writer: &BundleWriter,
    dtype: StoredDType,
    format: &Format,
) -> Result<(), PretrainedError> {
    let adapter = format
        .layouts(Direction::Export)
        .chain(FloatCastAdapter::to(dtype.burn()));
    let mut tensors = module.collect(None, Some(adapter.clone_box()), true);
    tensors.retain(|tensor| !format.own.contains(&tensor.name.as_str()));
    if let Some(joined) = format.joined {
        let parts = tensors.into_iter();
        tensors = parts.flat_map(|tensor| split(tensor, joined)).collect();
    }
    let (tensors, _) = format.naming.export().remap(tensors);
    let views = tensors.into_iter().map(|t| (t.name.clone(), Written(t)));
    let path = writer.path("model.safetensors");
    // `transformers` refuses a file that does not say so.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), &path)
        .map_err(|source| damaged(&path, source.into()))
}

/// A tensor on its way into a file.
struct Written(Stored);

impl View for Written {
    fn dtype(&self) -> safetensors::Dtype {
        match self.0.dtype {
            DType::BF16 => safetensors::Dtype::BF16,
            DType::F16 => safetensors::Dtype::F16,
            _ => safetensors::Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.0.to_bytes();
        Cow::Owned(bytes.expect("a parameter in memory can be read").to_vec())
    }

    fn data_len(&self) -> usize {
        self.0.byte_len()
    }
}
