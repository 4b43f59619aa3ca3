//! GGUF files as vibevoice.cpp writes them: a model, a vocabulary, a voice. What is in them: docs/gguf.md.
//!
//! A model's file is read as if it were a folder of the original repository: its metadata become that `config.json`
//! (`model`), its tensors get the names there (`names`). Everything else is as for such a folder.

mod blocks;
mod header;
mod model;
mod names;
mod tokenizer;
mod voice;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::store::KeyRemapper;
use burn::store::bridge::deferred;
use burn::store::burn_pack::{Error as PackError, Tensor as Stored};
use burn::tensor::{DType, Shape, TensorData};
use latentlm_codec_audio::LEAST_BF16_NUMBERS;
use latentlm_core::bundle::{BundleError, io_error};
use latentlm_kernels::{WEIGHT_GROUP, WeightBits};

use crate::error::PretrainedError;
use crate::naming::renamed;
use crate::place::WeightType;
use crate::quantized::SCALES;
use crate::reader::{NOT_FINITE, Place, Unread};
use crate::shards::{POINTER_BYTES, pointer};
use blocks::{Groups, Packing};
use header::{Header, MAGIC, TensorInfo, Value};

pub(crate) use model::published;
pub use tokenizer::gguf_tokenizer;
pub(crate) use tokenizer::read_tokenizer;
pub use voice::read_voice;

/// Whether a path is a file that begins as GGUF files do. A pipe is not looked into.
pub(crate) fn is_gguf(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    let mut start = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == MAGIC
}

/// A GGUF file, of which the header was read.
#[derive(Debug, Clone)]
struct Gguf {
    path: PathBuf,
    file: Arc<File>,
    header: Header,
}

impl Gguf {
    /// Reads the header of a file of this `general.architecture`.
    ///
    /// # Errors
    /// If it can't be read, is none, damaged, or of another architecture.
    fn open(path: &Path, architecture: &str) -> Result<Self, PretrainedError> {
        let mut file = File::open(path).map_err(io_error("read", path))?;
        let bytes = file.metadata().map_err(io_error("read", path))?.len();
        let header = match Header::read(&mut BufReader::new(&mut file), bytes) {
            Ok(header) => header,
            Err(reason) => return Err(incomplete(path, bytes, reason)),
        };
        let gguf = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            header,
        };
        let own = gguf.text("general.architecture")?;
        if own != architecture {
            let own = own.escape_debug();
            return Err(gguf.wrong(format!(
                "has the architecture `{own}`; wanted is `{architecture}`, as vibevoice.cpp writes it"
            )));
        }
        Ok(gguf)
    }

    /// What is wrong with the file.
    fn wrong(&self, reason: impl Into<String>) -> PretrainedError {
        PretrainedError::Incomplete {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn lacks(&self, key: &str) -> PretrainedError {
        self.wrong(format!("lacks `{key}`, which a file of vibevoice.cpp has"))
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    fn text(&self, key: &str) -> Result<&str, PretrainedError> {
        match self.value(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(self.lacks(key)),
        }
    }

    fn texts(&self, key: &str) -> Result<&[String], PretrainedError> {
        match self.value(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            _ => Err(self.lacks(key)),
        }
    }

    /// A tensor by its name in the file.
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let mut tensors = self.header.tensors.iter();
        tensors.find(|tensor| tensor.name == name)
    }

    /// Numbers and scales of a matrix of a language model's layers: `[O, I]` of 8 bits or `[O, I / 2]` bytes of two numbers
    /// of 4 bits, and `[O, I / 32]`. `None` of any other tensor. `name` is the original's.
    fn pair(&self, info: &TensorInfo, name: &str, unread: &Unread) -> Option<[Stored; 2]> {
        let &[rows, inputs] = info.shape.as_slice() else {
            return None;
        };
        if !name.contains(LAYERS) {
            return None;
        }
        let (dtype, columns) = match info.packing.group_bits()? {
            WeightBits::Eight => (DType::I8, inputs),
            WeightBits::Four => (DType::U8, inputs / 2),
        };
        let part = |name: String, dtype: DType, columns: usize, of: fn(Groups) -> Vec<u8>| {
            let packed = self.packed(info, unread);
            let shape = Shape::from([rows, columns]);
            let target = shape.clone();
            deferred(name, dtype, shape, None, move || {
                let bytes = of(packed.packing.groups(&packed.read()?));
                Ok(TensorData::from_bytes_vec(bytes, target.clone(), dtype))
            })
        };
        let scales = format!("{name}{SCALES}");
        Some([
            part(name.to_owned(), dtype, columns, |groups| groups.numbers),
            part(scales, DType::F16, inputs / WEIGHT_GROUP, |groups| {
                groups.scales
            }),
        ])
    }

    /// A tensor's numbers, which are not read yet. If they can't be, that is noted in `unread`.
    fn packed(&self, info: &TensorInfo, unread: &Unread) -> Packed {
        let place = Place {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            name: info.name.escape_debug().to_string(),
            start: info.start,
            bytes: info.bytes,
            dtype: info.packing.dtype(),
            unread: unread.clone(),
        };
        Packed {
            place,
            packing: info.packing,
        }
    }
}

/// Numbers of a tensor as they are in the file.
struct Packed {
    place: Place,
    packing: Packing,
}

impl Packed {
    /// Reads them.
    ///
    /// # Errors
    /// If the file can't be read, has become shorter, or has numbers or scales that are not finite.
    fn read(&self) -> Result<Vec<u8>, PackError> {
        let bytes = self.place.read()?;
        if self.packing.has_finite_scales(&bytes) {
            Ok(bytes)
        } else {
            Err(self.place.refused(NOT_FINITE))
        }
    }
}

/// The error of a file whose header can't be read, perhaps because it is only a pointer to the file.
fn incomplete(path: &Path, bytes: u64, reason: String) -> PretrainedError {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(POINTER_BYTES).read_to_end(&mut start));
    let fault = read.ok().and_then(|_| pointer(&start, bytes));
    PretrainedError::Incomplete {
        path: path.to_owned(),
        reason: fault.map_or(reason, |fault| fault.to_string()),
    }
}

/// In the original's names of what is in a layer of a language model.
const LAYERS: &str = "language_model.layers.";
/// In the original's names of what is in a codec.
const CODEC: &str = "_tokenizer.";
/// The `general.architecture` of a model.
const MODEL: &str = "vibevoice";

/// Whether a matrix of blocks keeps its numbers of 8 or 4 bits. If all matrices shall have others, it is unpacked first.
fn keeps_blocks(weights: WeightType, packing: Packing) -> bool {
    match weights {
        WeightType::Stored => true,
        WeightType::Quantized(bits) => packing.group_bits() == Some(bits),
        WeightType::Float32 | WeightType::Bfloat16 => false,
    }
}

/// The tensors of a model, with the original's names. Their numbers are read and unpacked when they are needed. If the
/// weights shall be as they are stored, matrices of blocks in a language model's layers become numbers of 8 or 4 bits
/// with their scales, as our quantized folders have them, and other matrices of less than 32 bits bfloat16, but for small
/// ones of codecs, which keep all digits. A tensor that later can't be read, or has numbers that are not finite, is noted
/// in `unread`.
///
/// # Errors
/// If the file can't be read or is no such model.
pub(crate) fn tensors(
    path: &Path,
    weights: WeightType,
    unread: &Unread,
) -> Result<Vec<Stored>, PretrainedError> {
    let file = Gguf::open(path, MODEL)?;
    let names = names::naming().import();
    // What becomes 8 or 4 bits is rounded once, from the exact numbers.
    let rounds = matches!(weights, WeightType::Stored | WeightType::Bfloat16);
    let mut tensors = Vec::with_capacity(file.header.tensors.len());
    for info in &file.header.tensors {
        let name = renamed(&names, &info.name);
        if keeps_blocks(weights, info.packing)
            && let Some(pair) = file.pair(info, &name, unread)
        {
            tensors.extend(pair);
            continue;
        }
        let mut shape = info.shape.clone();
        while shape.len() < names::axes(&name) {
            shape.insert(0, 1);
        }
        let is_small = info.numbers < LEAST_BF16_NUMBERS as u64 && name.contains(CODEC);
        let is_rounded = rounds && shape.len() == 2 && !is_small;
        let dtype = match info.packing {
            Packing::F32 => DType::F32,
            Packing::Bf16 => DType::BF16,
            _ if is_rounded => DType::BF16,
            Packing::F16 => DType::F16,
            _ => DType::F32,
        };
        let packed = file.packed(info, unread);
        let shape = Shape::from(shape);
        let target = shape.clone();
        tensors.push(deferred(name, dtype, shape, None, move || {
            let (packing, bytes) = (packed.packing, packed.read()?);
            Ok(match (packing, dtype) {
                (Packing::F32, _) | (Packing::Bf16, _) | (Packing::F16, DType::F16) => {
                    TensorData::from_bytes_vec(bytes, target.clone(), dtype)
                }
                (_, DType::BF16) => TensorData::new(packing.rounded(&bytes), target.clone()),
                _ => TensorData::new(packing.numbers(&bytes), target.clone()),
            })
        }));
    }
    Ok(tensors)
}

/// The names of a model's tensors in the original repository.
///
/// # Errors
/// As [`tensors`].
pub(crate) fn tensor_names(path: &Path) -> Result<Vec<String>, PretrainedError> {
    let file = Gguf::open(path, MODEL)?;
    let names = names::naming().import();
    let tensors = file.header.tensors.iter();
    Ok(tensors.map(|info| renamed(&names, &info.name)).collect())
}

/// From the original's names to those in a file.
pub(crate) fn file_names() -> KeyRemapper {
    names::naming().export()
}

/// Bias and scale of the semantic connector's whitening, which no file has.
const OWN: u64 = 2;

/// Refuses a file that has too few numbers for a model's `parameters`, before the model takes memory.
///
/// # Errors
/// If it has, or can't be read.
pub(crate) fn check_claim(path: &Path, parameters: usize) -> Result<(), PretrainedError> {
    let file = Gguf::open(path, MODEL)?;
    let sizes = file.header.tensors.iter().map(|info| info.numbers);
    // Tensors do not overlap: the sum is at most twice the file's size in bytes.
    let numbers: u64 = sizes.sum();
    if parameters as u64 <= numbers + OWN {
        return Ok(());
    }
    Err(PretrainedError::Bundle(BundleError::Mismatch {
        path: path.to_owned(),
        reason: format!("it has {numbers} numbers, the model of its metadata {parameters}"),
    }))
}
