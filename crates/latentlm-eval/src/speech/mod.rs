//! Speech: measures of sound, word errors, evaluation of a run.

mod evaluate;
mod metrics;
mod recognizer;
mod spectrogram;

pub use evaluate::{EvaluateSpeechOptions, SpeechEvaluation, evaluate_speech};
pub use metrics::{EditCount, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words};
pub use recognizer::Listener;
pub use spectrogram::save as save_spectrograms;
