//! Weights of 8 and 4 bits in files: how they are stored and read.
//!
//! A quantized matrix `[O, I]` is two tensors. `NAME` has the numbers: of int8 `[O, I]` in I8, of int4 `[O, I / 2]` in
//! U8, where a group of 32 inputs takes 16 bytes: the lower halves are its first 16 numbers and the upper halves the
//! others, 8 added to each. `NAME_scales` has a factor for each group, `[O, I / 32]` in F16. `quantization_config` in
//! `config.json` says so, with the method `latentlm`.

use std::collections::HashMap;

use burn::store::bridge::{deferred, to_data};
use burn::store::burn_pack::{Error as PackError, Tensor as Stored};
use burn::tensor::{DType, Shape, TensorData, f16};
use latentlm_kernels::{QuantizedParts, WEIGHT_GROUP, WeightBits};
use serde_json::Value;

/// Behind the name of a matrix, the name of its scales.
pub(crate) const SCALES: &str = "_scales";
/// The key of a `config.json` that tells of quantized weights.
pub(crate) const KEY: &str = "quantization_config";
/// Our method there.
pub(crate) const METHOD: &str = "latentlm";
/// A part of the names of all scales.
pub(crate) const SCALES_OF_WEIGHTS: &str = "weight_scales";

/// A quantized matrix of a file.
#[derive(Clone)]
pub(crate) struct Pair {
    numbers: Stored,
    scales: Stored,
    pub(crate) bits: WeightBits,
}

impl Pair {
    /// The matrix of these tensors, if they fit each other.
    fn new(numbers: Stored, scales: Stored) -> Option<Self> {
        let bits = match numbers.dtype {
            DType::I8 => WeightBits::Eight,
            DType::U8 => WeightBits::Four,
            _ => return None,
        };
        let pair = Self {
            numbers,
            scales,
            bits,
        };
        let [rows, inputs] = pair.sizes()?;
        let whole = inputs > 0 && inputs.is_multiple_of(WEIGHT_GROUP);
        let fits = pair.scales.dtype == DType::F16
            && pair.scales.shape.as_slice() == [rows, inputs / WEIGHT_GROUP];
        (whole && fits).then_some(pair)
    }

    /// Outputs and inputs.
    fn sizes(&self) -> Option<[usize; 2]> {
        match (self.numbers.shape.as_slice(), self.bits) {
            (&[rows, columns], WeightBits::Eight) => Some([rows, columns]),
            (&[rows, columns], WeightBits::Four) => Some([rows, columns.checked_mul(2)?]),
            _ => None,
        }
    }

    /// The numbers and scales.
    ///
    /// # Errors
    /// If they can't be read, or a scale is not finite.
    pub(crate) fn parts(&self) -> Result<QuantizedParts, PackError> {
        let parts = QuantizedParts {
            numbers: to_data(&self.numbers)?.as_bytes().to_vec(),
            scales: to_data(&self.scales)?.as_bytes().to_vec(),
        };
        if scales(&parts).all(f32::is_finite) {
            Ok(parts)
        } else {
            Err(not_finite(&self.numbers.name))
        }
    }

    /// The matrix in float32, read on demand.
    fn widened(&self) -> Option<Stored> {
        let [rows, inputs] = self.sizes()?;
        let shape = Shape::from([rows, inputs]);
        let (pair, name) = (self.clone(), self.numbers.name.clone());
        let target = shape.clone();
        Some(deferred(name, DType::F32, shape, None, move || {
            let numbers = widened(&pair.parts()?, pair.bits);
            Ok(TensorData::new(numbers, target.clone()))
        }))
    }
}

fn not_finite(name: &str) -> PackError {
    PackError::ValidationError(format!("`{name}` has weights that are not finite"))
}

fn scales(parts: &QuantizedParts) -> impl Iterator<Item = f32> {
    let scales = parts.scales.chunks_exact(2);
    scales.map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
}

/// The numbers times their scales.
fn widened(parts: &QuantizedParts, bits: WeightBits) -> Vec<f32> {
    let bytes_a_group = match bits {
        WeightBits::Eight => WEIGHT_GROUP,
        WeightBits::Four => WEIGHT_GROUP / 2,
    };
    let mut all = Vec::with_capacity(parts.numbers.len() / bytes_a_group * WEIGHT_GROUP);
    let groups = parts.numbers.chunks_exact(bytes_a_group);
    for (group, scale) in groups.zip(scales(parts)) {
        match bits {
            WeightBits::Eight => {
                all.extend(group.iter().map(|x| f32::from(x.cast_signed()) * scale));
            }
            WeightBits::Four => {
                let number = |half: u8| (f32::from(half) - 8.0) * scale;
                all.extend(group.iter().map(|both| number(both & 15)));
                all.extend(group.iter().map(|both| number(both >> 4)));
            }
        }
    }
    all
}

/// The float32 numbers of a tensor of any float type.
///
/// # Errors
/// If it can't be read or has numbers that are not finite, which have no nearest number of 8 bits.
pub(crate) fn floats(tensor: &Stored) -> Result<Vec<f32>, PackError> {
    let data = to_data(tensor)?.convert_dtype(DType::F32);
    let numbers = data.try_to_vec::<f32>();
    let numbers = numbers.map_err(|error| PackError::ValidationError(format!("{error:?}")))?;
    if numbers.iter().all(|x| x.is_finite()) {
        Ok(numbers)
    } else {
        Err(not_finite(&tensor.name))
    }
}

/// Puts matrices of 8 and 4 bits together with their scales. In the list they become float32 matrices, which are read on
/// demand; the map has them as they are, by name.
pub(crate) fn pair_up(tensors: Vec<Stored>) -> (Vec<Stored>, HashMap<String, Pair>) {
    let mut scales: HashMap<String, Stored> = HashMap::new();
    let mut others = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        match tensor.name.strip_suffix(SCALES) {
            Some(name) => {
                scales.insert(name.to_owned(), tensor);
            }
            None => others.push(tensor),
        }
    }
    let mut pairs = HashMap::new();
    let mut all = Vec::with_capacity(others.len());
    for numbers in others {
        let Some(scales) = scales.remove(&numbers.name) else {
            all.push(numbers);
            continue;
        };
        let pair = Pair::new(numbers.clone(), scales.clone());
        match pair.as_ref().and_then(Pair::widened).zip(pair.as_ref()) {
            Some((widened, pair)) => {
                pairs.insert(widened.name.clone(), pair.clone());
                all.push(widened);
            }
            // The check of names and shapes tells what is wrong.
            None => all.extend([numbers, scales]),
        }
    }
    all.extend(scales.into_values());
    (all, pairs)
}

/// Why the weights that a `quantization_config` describes can't be read, if they can't.
pub(crate) fn refused(config: &Value) -> Option<String> {
    let method = config["quant_method"].as_str().unwrap_or("unknown");
    if method != METHOD {
        return Some(format!(
            "its weights are quantized ({KEY}, method `{method}`), which is not supported: take the model in bfloat16, \
             float16 or float32, or quantize that one with `cargo xtask quantize`"
        ));
    }
    let known = matches!(config["weights"].as_str(), Some("int8" | "int4"));
    let group = config["group_size"].as_u64();
    let fits = known && group == Some(WEIGHT_GROUP as u64);
    (!fits).then(|| {
        format!(
            "its weights are quantized in a way that this version does not know ({KEY} {config})"
        )
    })
}
