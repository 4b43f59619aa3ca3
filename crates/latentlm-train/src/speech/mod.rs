//! Runs of speech.

mod held_out;
mod pieces;
mod prompts;
mod said;
mod task;

pub use task::{SpokenSamples, encode_speech, speech_order, train_speech, train_speech_with};
