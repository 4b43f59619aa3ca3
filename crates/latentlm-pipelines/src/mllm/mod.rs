//! Runs of text and pictures.

mod artist;
mod data;
mod prompt;
mod recipe;

pub use artist::{Artist, Generated, Made};
pub use data::{MixedData, Texts};
pub use prompt::PromptPiece;
pub use recipe::{MixConfig, MixedRecipe, MixedSampleConfig, MixedTextConfig, TokenWeights};
