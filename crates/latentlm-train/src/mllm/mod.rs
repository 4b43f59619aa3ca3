//! Runs of text and pictures.

mod run;
mod task;

pub use run::train_mixed;
pub use task::mllm_parts;
