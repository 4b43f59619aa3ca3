//! Runs of text and pictures.

mod run;
mod task;

pub use run::train_mllm;
pub use task::mllm_parts;
