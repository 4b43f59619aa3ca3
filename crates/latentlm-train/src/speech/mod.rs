//! Training of speech models.

mod codec;
mod data;
mod evaluate;
mod held_out;
mod metrics;
mod recipe;
mod recognizer;
mod run;
mod said;
pub(crate) mod skipped;
mod speaker;
mod spectrogram;
mod stage_codec;
mod stage_lm;

pub(crate) use stage_codec::Part as CodecPart;

pub use codec::SpeechCodec;
pub use evaluate::{EvaluateSpeechOptions, SpeechEvaluation, evaluate_speech};
pub use metrics::{EditCount, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words};
pub use recipe::{SpeakConfig, SpeechDataConfig, SpeechRecipe, TextConfig};
pub use recognizer::Listener;
pub use run::train_speech;
pub use speaker::{Speaker, SpeakingTimes, Speech, Voice, sentences};
