//! Folders of published sizes with random weights, for trying out time and memory. Tensors are drawn and written
//! one after the other: the model is never in memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{bf16, f16};
use latentlm_core::RandomStream;
use latentlm_core::bundle::BundleWriter;
use safetensors::View;
use serde_json::{Map, Value, json};

use super::error::{PretrainedError, damaged, json_error};
use super::family::{Dialect, Member};
use super::member::CONFIG;
use super::naming::renamed;
use super::original;
use super::published_sizes::RandomSizes;
use super::speech::vibevoice_naming;
use super::store::StoredDType;

/// Bytes of weights after which another file begins, about as in the published folders.
const SHARD_BYTES: u64 = 2_000_000_000;
/// Scales of the residual branches of the codecs; that of an untrained model, 1e-6, would silence them.
const LAYER_SCALE: f32 = 0.1;
/// About what published models scale their latents with, and add to them before.
const LATENT_SCALE: f32 = 0.2;
const LATENT_BIAS: f32 = -0.05;

/// How a folder of random weights is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomOptions {
    /// Format of names and configuration. Only [`Member::Speech`] is made with those of `transformers`.
    pub dialect: Dialect,
    /// How numbers are stored.
    pub dtype: StoredDType,
    /// Seed of the weights.
    pub seed: u64,
    /// Bytes of weights after which another file begins.
    pub shard_bytes: u64,
}

impl Default for RandomOptions {
    /// In the original's format, in bfloat16, in files of 2 GB.
    fn default() -> Self {
        Self {
            dialect: Dialect::Original,
            dtype: StoredDType::Bfloat16,
            seed: 0,
            shard_bytes: SHARD_BYTES,
        }
    }
}

/// Sizes of a written model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeModel {
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Files of weights.
    pub files: usize,
}

/// Writes a folder of a published model's sizes with random weights: all of it or nothing. A folder of that
/// name is replaced. Memory holds one tensor at a time.
///
/// # Errors
/// If the folder can't be written, or another model than [`Member::Speech`] was asked for in the format of
/// `transformers`.
pub fn make_random(
    sizes: &RandomSizes,
    folder: &Path,
    options: RandomOptions,
) -> Result<MadeModel, PretrainedError> {
    let mut tensors = Vec::new();
    for (name, shape) in sizes.tensors() {
        tensors.push(RandomTensor {
            name,
            shape,
            options,
        });
    }
    let writer = BundleWriter::begin_alone(folder)?;
    match options.dialect {
        Dialect::Original => {
            write_json(&writer, CONFIG, &sizes.config(options.dtype))?;
        }
        Dialect::Transformers => {
            write_transformers(sizes, &writer, options, &mut tensors)?;
        }
    }
    let model = match sizes.member {
        Member::Realtime => "Qwen/Qwen2.5-0.5B",
        Member::Recognition => "Qwen/Qwen2.5-7B",
        Member::Speech => "Qwen/Qwen2.5-1.5B",
    };
    let preprocessor = json!({
        "processor_class": "VibeVoiceProcessor",
        "speech_tok_compress_ratio": sizes.ratios.iter().product::<usize>(),
        "db_normalize": true,
        "language_model_pretrained_name": model,
    });
    write_json(&writer, "preprocessor_config.json", &preprocessor)?;
    let parameters: u64 = tensors.iter().map(RandomTensor::numbers).sum();
    let bytes: u64 = tensors.iter().map(|tensor| tensor.data_len() as u64).sum();
    let files = write_weights(&writer, tensors, options.shard_bytes)?;
    writer.commit()?;
    Ok(MadeModel {
        parameters,
        bytes,
        files,
    })
}

/// Writes the configurations of `transformers`, and gives tensors their names there.
fn write_transformers(
    sizes: &RandomSizes,
    writer: &BundleWriter,
    options: RandomOptions,
    tensors: &mut [RandomTensor],
) -> Result<(), PretrainedError> {
    let path = writer.path(CONFIG);
    if sizes.member != Member::Speech {
        let reason = format!("{} is made in the original's format only", sizes.member);
        return Err(PretrainedError::Unsupported { path, reason });
    }
    let json = original::speech(sizes.config(options.dtype), sizes.tokens, &path)?;
    let (ours, theirs) = (
        original::speech_naming(&json).import(),
        vibevoice_naming().export(),
    );
    for tensor in tensors {
        let name = renamed(&ours, &tensor.name);
        tensor.name = renamed(&theirs, &name);
    }
    let mut config = serde_json::to_value(&json).map_err(|error| json_error(&path, error))?;
    config["dtype"] = Value::from(options.dtype.name());
    write_json(writer, CONFIG, &config)?;
    // `transformers` speaks 20 tokens where it is not told how many.
    let generation = json!({
        "do_sample": false,
        "eos_token_id": sizes.tokens.end,
        "pad_token_id": sizes.tokens.end,
        "guidance_scale": 1.3,
        "num_diffusion_steps": 10,
        "max_new_tokens": sizes.context / 2,
        "noise_scheduler_class": "DPMSolverMultistepScheduler",
        "noise_scheduler_config": {
            "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction",
        },
    });
    write_json(writer, "generation_config.json", &generation)
}

fn write_json(writer: &BundleWriter, name: &str, json: &Value) -> Result<(), PretrainedError> {
    let text = serde_json::to_string_pretty(json);
    let text = text.map_err(|error| json_error(&writer.path(name), error))?;
    Ok(writer.write(name, text.as_bytes())?)
}

/// Writes all tensors, into one file or into shards with their index. Returns the number of files.
fn write_weights(
    writer: &BundleWriter,
    tensors: Vec<RandomTensor>,
    shard_bytes: u64,
) -> Result<usize, PretrainedError> {
    let mut shards: Vec<Vec<RandomTensor>> = vec![Vec::new()];
    let (mut filled, mut total) = (0_u64, 0_u64);
    for tensor in tensors {
        let bytes = tensor.data_len() as u64;
        if filled > 0 && filled + bytes > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        total += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let count = shards.len();
    let mut map = Map::new();
    for (shard, number) in shards.into_iter().zip(1..) {
        let file = if count == 1 {
            "model.safetensors".to_owned()
        } else {
            format!("model-{number:05}-of-{count:05}.safetensors")
        };
        for tensor in &shard {
            map.insert(tensor.name.clone(), Value::from(file.as_str()));
        }
        let path = writer.path(&file);
        let views = shard
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor));
        // `transformers` refuses a file that does not say so.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(views, Some(metadata), &path)
            .map_err(|source| damaged(&path, source.into()))?;
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        write_json(writer, "model.safetensors.index.json", &index)?;
    }
    Ok(count)
}

/// A tensor that is drawn when it is written.
struct RandomTensor {
    name: String,
    shape: Vec<usize>,
    options: RandomOptions,
}

impl RandomTensor {
    fn numbers(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }

    /// The one number that all elements are, if they are: norms, biases and scales as in an untrained model.
    fn constant(&self) -> Option<f32> {
        let name = self.name.as_str();
        if name.ends_with("gamma") {
            Some(LAYER_SCALE)
        } else if name.ends_with("scaling_factor") {
            Some(LATENT_SCALE)
        } else if name.ends_with("bias_factor") {
            Some(LATENT_BIAS)
        } else if name.ends_with(".bias") {
            Some(0.0)
        } else if self.shape.len() == 1 {
            Some(1.0)
        } else {
            None
        }
    }

    /// Uniform numbers with a variance of one over the number of inputs, four from each draw of 64 bits.
    fn draw(&self, bytes: &mut Vec<u8>) {
        let inputs: usize = self.shape.iter().skip(1).product();
        let bound = (3.0 / inputs.max(1) as f32).sqrt();
        let mut random = RandomStream::for_step(self.options.seed, &self.name, 0);
        let mut left = self.numbers();
        while left > 0 {
            let bits = random.seed().to_le_bytes();
            for pair in bits.chunks_exact(2).take(left.min(4) as usize) {
                let level = i16::from_le_bytes([pair[0], pair[1]]);
                self.put(f32::from(level) / 32768.0 * bound, bytes);
            }
            left = left.saturating_sub(4);
        }
    }

    fn put(&self, number: f32, bytes: &mut Vec<u8>) {
        match self.options.dtype {
            StoredDType::Float32 => bytes.extend(number.to_le_bytes()),
            StoredDType::Bfloat16 => bytes.extend(bf16::from_f32(number).to_le_bytes()),
            StoredDType::Float16 => bytes.extend(f16::from_f32(number).to_le_bytes()),
        }
    }
}

impl View for RandomTensor {
    fn dtype(&self) -> safetensors::Dtype {
        match self.options.dtype {
            StoredDType::Float32 => safetensors::Dtype::F32,
            StoredDType::Bfloat16 => safetensors::Dtype::BF16,
            StoredDType::Float16 => safetensors::Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        match self.constant() {
            Some(number) => {
                for _ in 0..self.numbers() {
                    self.put(number, &mut bytes);
                }
            }
            None => self.draw(&mut bytes),
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        let size = match self.options.dtype {
            StoredDType::Float32 => 4,
            StoredDType::Bfloat16 | StoredDType::Float16 => 2,
        };
        self.numbers() as usize * size
    }
}
