//! Training of models of text and pictures.

mod artist;
mod data;
mod evaluate;
mod measure;
mod neighbours;
mod prompt;
mod recipe;
mod run;
mod stage_lm;

pub use artist::{Artist, Made};
pub use evaluate::{EvaluateMixedOptions, MixedEvaluation, evaluate_mixed};
pub use prompt::PromptPiece;
pub use recipe::{MixConfig, MixedRecipe, MixedSampleConfig, MixedTextConfig};
pub use run::train_mixed;

pub(crate) use data::MixedData;
pub(crate) use stage_lm::Part as MixedPart;
