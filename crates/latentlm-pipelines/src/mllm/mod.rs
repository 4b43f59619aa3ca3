//! Runs of text and pictures.

mod data;
mod pipeline;
mod prompt;
mod recipe;

pub use data::{MllmData, MllmSplit};
pub use pipeline::{Generated, Made, MllmPipeline};
pub use prompt::PromptPiece;
pub use recipe::{MixConfig, MllmRecipe, MllmTextConfig, TokenWeights};
