//! Runs of speech.

mod codec;
mod data;
mod files;
mod pipeline;
mod recipe;
mod sentences;

pub use codec::{SpeechCodec, hop_samples, reconstruct, signal};
pub use data::{HeldOutUtterance, SpeechData};
pub use files::{read_codes, read_latents, write_codes, write_latents};
pub use pipeline::{SpeakingTimes, Speech, SpeechPipeline, Voice};
pub use recipe::{SpeakConfig, SpeechDataConfig, SpeechLimits, SpeechRecipe, TextConfig};
pub use sentences::sentences;
