//! Runs of speech.

mod held_out;
mod pieces;
mod said;
mod task;

pub use task::train_speech;
