//! Training of models of text and pictures.

mod artist;
mod captions;
mod colours;
mod data;
mod evaluate;
mod measure;
mod neighbours;
mod prompt;
mod recipe;
mod run;
mod sample;
mod shares;
mod stage_lm;

pub use artist::{Artist, Generated, Made};
pub use evaluate::{EvaluateMixedOptions, MixedEvaluation, evaluate_mixed};
pub use prompt::PromptPiece;
pub use recipe::{MixConfig, MixedRecipe, MixedSampleConfig, MixedTextConfig};
pub use run::train_mixed;

pub(crate) use captions::{CAPTIONS, read_captions};
pub(crate) use data::MixedData;
pub(crate) use measure::majority;
pub(crate) use neighbours::{Gallery, by_chance};
pub(crate) use sample::Sample;
pub(crate) use shares::Share;
pub(crate) use stage_lm::Part as MixedPart;
