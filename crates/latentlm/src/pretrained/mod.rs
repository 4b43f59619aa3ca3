//! Checkpoints in the naming of the published implementations: in, and out again.
//!
//! - [`load_image`], [`save_image`]: the official image Transformer (`models/Transformer.py`).
//! - [`load_tokenizer`], [`save_tokenizer`]: VibeVoice's acoustic tokenizer as `transformers` saves
//!   it.
//! - [`load_vibevoice`], [`save_vibevoice`]: the whole speech model as `transformers` saves it.
//!
//! Names are mapped by tables (`naming`), layouts by burn-store adapters (`layout`). A file is
//! read lazily, tensor by tensor, in float32, bfloat16 or float16; a folder may hold one
//! `model.safetensors` or shards with their index.

mod config;
mod image;
mod layout;
mod naming;
mod speech;
mod store;

pub use config::{DiffusionHeadJson, LanguageModelJson, RopeJson, TokenizerJson, VibeVoiceJson};
pub use image::{load_image, save_image};
pub use speech::{
    load_tokenizer, load_vibevoice, read_tokenizer_config, read_vibevoice_config, save_tokenizer,
    save_vibevoice,
};
pub use store::{PretrainedError, StoredDType};
