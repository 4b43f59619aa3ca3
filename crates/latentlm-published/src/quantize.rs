//! Writes a published folder again with backbone weights of 8 or 4 bits. [`quantized`](super::quantized) describes the
//! format.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use burn::store::SafetensorsStoreError;
use burn::store::bridge::deferred;
use burn::store::burn_pack::{Error as PackError, Tensor as Stored};
use burn::tensor::{DType, Shape, TensorData};
use latentlm_core::bundle::{BundleError, BundleWriter, io_error};
use latentlm_kernels::{QuantizedParts, WEIGHT_GROUP, WeightBits, quantized_parts};
use safetensors::{Dtype, View};
use serde_json::json;

use super::error::{PretrainedError, damaged, json_error};
use super::family::Published;
use super::member::CONFIG;
use super::quantized::{KEY, METHOD, SCALES, floats};
use super::reader::{self, Unread};
use super::shards::{files, read_json};

/// The one file of weights that is written.
const WEIGHTS: &str = "model.safetensors";
/// The list of shards of a folder, which the folder that is written does not have.
const INDEX: &str = "model.safetensors.index.json";

/// The matrices of a backbone's layers, as all formats call them.
const PROJECTIONS: [&str; 7] = [
    ".q_proj.weight",
    ".k_proj.weight",
    ".v_proj.weight",
    ".o_proj.weight",
    ".gate_proj.weight",
    ".up_proj.weight",
    ".down_proj.weight",
];

/// What [`quantize_folder`] has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantizedFolder {
    /// Matrices that were quantized.
    pub matrices: usize,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes: u64,
}

/// Writes a copy of a published folder whose backbone has weights of 8 or 4 bits: all of it or nothing. Matrices that
/// are not whole groups of 32 inputs, all other tensors, and all other files of the folder stay as they are. Memory holds
/// one tensor at a time. A folder of that name is replaced.
///
/// # Errors
/// If a file can't be read, the folder can't be written, has no published model or is quantized already, or if this
/// build has no kernels for the CPU.
pub fn quantize_folder(
    model: &Path,
    folder: &Path,
    bits: WeightBits,
) -> Result<QuantizedFolder, PretrainedError> {
    let published = Published::read(model)?;
    let refuse = |reason: &str| PretrainedError::Unsupported {
        path: published.path.clone(),
        reason: reason.to_owned(),
    };
    if published.quantized {
        return Err(refuse("its weights are quantized already"));
    }
    if model.is_file() {
        return Err(refuse(
            "it is a GGUF file; quantize the folder that it was made of",
        ));
    }
    if quantized_parts(&[0.0; WEIGHT_GROUP], WEIGHT_GROUP, bits).is_none() {
        return Err(refuse("only a build for the CPU quantizes it"));
    }
    let mut tensors = BTreeMap::new();
    let sources = files(model)?;
    let unread = Unread::default();
    for file in &sources {
        for tensor in reader::tensors(file, &unread)? {
            let name = tensor.name.clone();
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(PretrainedError::Bundle(BundleError::Mismatch {
                    path: model.to_owned(),
                    reason: format!("has `{name}` twice"),
                }));
            }
        }
    }
    let mut done = QuantizedFolder {
        matrices: 0,
        bytes_before: 0,
        bytes: 0,
    };
    let mut written = Vec::with_capacity(tensors.len());
    for tensor in tensors.into_values() {
        done.bytes_before += tensor.byte_len() as u64;
        match quantized(&tensor, bits) {
            Some(both) => {
                done.matrices += 1;
                written.extend(both);
            }
            None => written.push(tensor),
        }
    }
    done.bytes = written.iter().map(|tensor| tensor.byte_len() as u64).sum();
    if done.matrices == 0 {
        return Err(refuse("no matrix of it can be quantized"));
    }
    let writer = BundleWriter::begin_alone(folder)?;
    copy_others(model, &sources, &writer)?;
    let config_path = model.join(CONFIG);
    let mut config = read_json(&config_path)?;
    let Some(keys) = config.as_object_mut() else {
        return Err(json_error(&config_path, "is no object"));
    };
    let described = json!({
        "quant_method": METHOD,
        "weights": name(bits),
        "group_size": WEIGHT_GROUP,
    });
    keys.insert(KEY.to_owned(), described);
    let text = serde_json::to_string_pretty(&config);
    let text = text.map_err(|error| json_error(&config_path, error))?;
    writer.write(CONFIG, text.as_bytes())?;
    let result = write(written, &writer);
    unread.check()?;
    result?;
    writer.commit()?;
    Ok(done)
}

/// Writes all tensors into one file, one after the other.
fn write(tensors: Vec<Stored>, writer: &BundleWriter) -> Result<(), PretrainedError> {
    let path = writer.path(WEIGHTS);
    let failed = RefCell::new(None);
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let dtype = dtype(tensor.dtype).map_err(|error| damaged(&path, error))?;
        let name = tensor.name.clone();
        let view = Drawn {
            tensor,
            dtype,
            failed: &failed,
        };
        views.push((name, view));
    }
    // `transformers` refuses a file that does not say so.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), &path)
        .map_err(|source| damaged(&path, source.into()))?;
    match failed.into_inner() {
        Some(error) => Err(unreadable(&path, &error)),
        None => Ok(writer.wrote(WEIGHTS)?),
    }
}

fn unreadable(path: &Path, error: &PackError) -> PretrainedError {
    damaged(path, SafetensorsStoreError::Other(error.to_string()))
}

/// A tensor that is read when it is written.
struct Drawn<'a> {
    tensor: Stored,
    dtype: Dtype,
    /// The first error: a view can't tell it.
    failed: &'a RefCell<Option<PackError>>,
}

impl View for Drawn<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.tensor.to_bytes() {
            Ok(bytes) => Cow::Owned(bytes.to_vec()),
            Err(error) => {
                let mut failed = self.failed.borrow_mut();
                if failed.is_none() {
                    *failed = Some(error);
                }
                Cow::Owned(vec![0; self.data_len()])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.tensor.byte_len()
    }
}

/// The type of a tensor's numbers in a file.
fn dtype(dtype: DType) -> Result<Dtype, SafetensorsStoreError> {
    Ok(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U8 => Dtype::U8,
        DType::Bool(_) => Dtype::BOOL,
        other => {
            let reason = format!("numbers of the type {other:?}");
            return Err(SafetensorsStoreError::ValidationFailed(reason));
        }
    })
}

/// The name of such weights in a `config.json`.
fn name(bits: WeightBits) -> &'static str {
    match bits {
        WeightBits::Eight => "int8",
        WeightBits::Four => "int4",
    }
}

/// Copies files that are neither weights nor the configuration. Folders within are left out.
fn copy_others(
    model: &Path,
    weights: &[PathBuf],
    writer: &BundleWriter,
) -> Result<(), PretrainedError> {
    for entry in fs::read_dir(model).map_err(io_error("read", model))? {
        let path = entry.map_err(io_error("read", model))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if !path.is_file() || weights.contains(&path) || [CONFIG, INDEX].contains(&name) {
            continue;
        }
        fs::copy(&path, writer.path(name)).map_err(io_error("copy", &path))?;
        writer.wrote(name)?;
    }
    Ok(())
}

/// Numbers and scales of a matrix of the backbone, made on demand; `None` of any other tensor.
fn quantized(tensor: &Stored, bits: WeightBits) -> Option<[Stored; 2]> {
    let is_projection = tensor.name.contains("language_model.")
        && PROJECTIONS.iter().any(|end| tensor.name.ends_with(end));
    let &[rows, inputs] = tensor.shape.as_slice() else {
        return None;
    };
    let is_float = matches!(tensor.dtype, DType::F32 | DType::BF16 | DType::F16);
    if !is_projection || !is_float || inputs == 0 || !inputs.is_multiple_of(WEIGHT_GROUP) {
        return None;
    }
    let (dtype, columns) = match bits {
        WeightBits::Eight => (DType::I8, inputs),
        WeightBits::Four => (DType::U8, inputs / 2),
    };
    let part = |name: String, dtype: DType, columns: usize, of: fn(QuantizedParts) -> Vec<u8>| {
        let (tensor, shape) = (tensor.clone(), Shape::from([rows, columns]));
        let target = shape.clone();
        deferred(name, dtype, shape, None, move || {
            let parts = quantized_parts(&floats(&tensor)?, inputs, bits);
            let parts = parts.ok_or_else(|| {
                PackError::ValidationError("this build has no kernels for the CPU".to_owned())
            })?;
            Ok(TensorData::from_bytes_vec(of(parts), target.clone(), dtype))
        })
    };
    let scales = format!("{}{SCALES}", tensor.name);
    Some([
        part(tensor.name.clone(), dtype, columns, |parts| parts.numbers),
        part(scales, DType::F16, inputs / WEIGHT_GROUP, |parts| {
            parts.scales
        }),
    ])
}
