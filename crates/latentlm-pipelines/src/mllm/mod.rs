//! Runs of text and pictures.

mod artist;
mod data;
mod prompt;
mod recipe;

pub use artist::{Generated, Made, MllmPipeline};
pub use data::{MllmData, Texts};
pub use prompt::PromptPiece;
pub use recipe::{MixConfig, MllmRecipe, MllmSampleConfig, MllmTextConfig, TokenWeights};
