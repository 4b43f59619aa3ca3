//! Runs of speech.

mod codec;
mod data;
mod recipe;
mod signal;
mod speaker;

pub use codec::{SpeechCodec, load_speech_codec};
pub use data::{HeldOutUtterance, SpeechData};
pub use recipe::{SpeakConfig, SpeechDataConfig, SpeechRecipe, TextConfig};
pub use signal::{hop_samples, reconstruct, signal};
pub use speaker::{SpeakingTimes, Speech, SpeechPipeline, Voice, sentences};
