//! Runs of speech.

mod held_out;
mod pieces;
mod run;
mod said;
mod stage_codec;
mod task;

pub use run::train_speech;
