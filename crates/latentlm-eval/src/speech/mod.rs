//! Speech: measures of sound, word errors, evaluation of a run.

mod evaluate;
mod metrics;
mod recognizer;
mod speaker;
mod spectrogram;

pub use evaluate::{EvaluateSpeechOptions, SpeechEvaluation, evaluate_speaker, evaluate_speech};
pub use metrics::{
    EditCount, Slips, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words,
};
pub use recognizer::Listener;
pub use speaker::Speaker;
pub use spectrogram::save as save_spectrograms;
