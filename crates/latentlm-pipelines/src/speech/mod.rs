//! Runs of speech.

mod codec;
mod data;
mod pipeline;
mod recipe;
mod sentences;
mod signal;

pub use codec::SpeechCodec;
pub use data::{HeldOutUtterance, SpeechData};
pub use pipeline::{SpeakingTimes, Speech, SpeechPipeline, Voice};
pub use recipe::{SpeakConfig, SpeechDataConfig, SpeechRecipe, TextConfig};
pub use sentences::sentences;
pub use signal::{hop_samples, reconstruct, signal};
