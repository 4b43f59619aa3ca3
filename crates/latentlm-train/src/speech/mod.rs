//! Training of speech models.

mod data;
mod metrics;
mod recipe;
mod run;
mod speaker;
mod spectrogram;
mod stage_codec;
mod stage_lm;

pub use metrics::{
    EditCount, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words,
};
pub use recipe::{SpeakConfig, SpeechDataConfig, SpeechRecipe, TextConfig};
pub use run::train_speech;
pub use speaker::{Speaker, SpeakingTimes, Speech, Voice, sentences};
