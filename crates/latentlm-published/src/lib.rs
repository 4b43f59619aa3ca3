//! Checkpoints in the naming of the published implementations: in, and out again.
//!
//! - [`load_image`], [`save_image`]: the official image Transformer (`models/Transformer.py`).
//! - [`load_tokenizer`], [`save_tokenizer`]: VibeVoice's acoustic tokenizer as `transformers` saves
//!   it.
//! - [`load_vibevoice`], [`save_vibevoice`]: the whole speech model as `transformers` saves it; read also as
//!   the original repository published it.
//! - [`load_realtime`]: the model that speaks while its text arrives, as the original repository published it.
//! - [`load_asr`]: the model that recognizes speech, in both formats.
//! - [`Published`]: which model a folder or GGUF file holds, before a weight is read.
//! - [`gguf_tokenizer`], [`read_voice`]: a vocabulary and a voice as GGUF files of vibevoice.cpp.
//! - [`make_random`]: a folder of published sizes with random weights.
//! - [`quantize_folder`]: a copy of a folder whose backbone has weights of 8 or 4 bits.
//!
//! Names are mapped by tables (`naming`), layouts by burn-store adapters (`layout`). A file is
//! read lazily, tensor by tensor, in float32, bfloat16 or float16; a folder may hold one
//! `model.safetensors` or shards with their index. In the place of a folder, [`load_vibevoice_weights`],
//! [`load_realtime`], [`load_asr`] and the functions that read their configurations take a GGUF file of vibevoice.cpp
//! too (`gguf`).
//!
//! ```no_run
//! use std::path::Path;
//!
//! use latentlm_published::{Member, Published, load_vibevoice};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = Path::new("models/vibevoice-1.5b");
//! assert_eq!(Published::read(folder)?.member, Member::Speech);
//! let device = latentlm::device("cpu")?; // with the feature `cpu` of `latentlm`
//! let model = load_vibevoice(folder, &device)?;
//! println!("{} samples a latent", model.hop_samples());
//! # Ok(())
//! # }
//! ```
//!
//! Shapes of tensors are those of the files: `[out, in]` for linear layers, `[out, in, kernel]` for convolutions.
//! Letters of models are those of `latentlm` and `latentlm-vibevoice`.

mod asr;
mod config;
mod error;
mod family;
mod gguf;
mod image;
mod layout;
mod member;
mod naming;
mod original;
mod place;
mod published_sizes;
mod quantize;
mod quantized;
mod random;
mod reader;
mod realtime;
mod shards;
mod speech;
mod store;
mod threads;

pub use latentlm_kernels::WeightBits;

pub use asr::{AsrJson, load_asr, read_asr_config};
pub use config::{DiffusionHeadJson, LanguageModelJson, RopeJson, TokenizerJson, VibeVoiceJson};
pub use error::PretrainedError;
pub use family::{Dialect, Member, Published};
pub use gguf::{gguf_tokenizer, read_voice};
pub use image::{load_image, save_image};
pub use member::find_tokenizer;
pub use place::WeightType;
pub use published_sizes::RandomSizes;
pub use quantize::{QuantizedFolder, quantize_folder};
pub use random::{MadeModel, RandomOptions, make_random};
pub use realtime::{RealtimeJson, load_realtime, read_realtime_config};
pub use speech::{
    load_tokenizer, load_vibevoice, load_vibevoice_weights, read_tokenizer_config,
    read_vibevoice_config, read_vibevoice_config_with, save_tokenizer, save_vibevoice,
};
pub use store::StoredDType;
