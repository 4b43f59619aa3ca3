//! Speech: measures of sound, word errors, evaluation of a run.

mod codes;
mod continued;
mod evaluate;
mod hard;
mod measuring;
mod metrics;
mod recognizer;
mod robust;
mod speaker;
mod spectrogram;
mod trained;
mod voices;

pub use codes::CodeUsage;
pub use evaluate::{evaluate_speaker, evaluate_speech};
pub use hard::hard_texts;
pub use measuring::{EvaluateSpeechOptions, SpeechEvaluation, SpeechJudges};
pub use metrics::{
    EditCount, Slips, characters, edit_rate, mel_distance_db, si_sdr_db, stoi, words,
};
pub use recognizer::Listener;
pub use speaker::Speaker;
pub use spectrogram::save as save_spectrograms;
