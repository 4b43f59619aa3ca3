//! The parts of a recipe that describe a language model.

use latentlm_pipelines::{LmConfig, Recipe, StageConfig, TokenWeights};

/// The stage of a run's own language model.
pub const STAGE: &str = "lm";

/// A recipe with a language model.
pub trait LmRecipe: Recipe {
    /// The tables of the recipe that describe the language model.
    fn lm(&self) -> LmPlan<'_>;
}

/// The tables of a recipe that describe the language model and its training.
pub struct LmPlan<'a> {
    pub(crate) model: &'a LmConfig,
    pub(crate) train: &'a StageConfig,
    pub(crate) tokens: Option<TokenWeights>,
}

impl<'a> LmPlan<'a> {
    /// The tables of a recipe, and the weights of learned tokens where there are any.
    pub fn new(model: &'a LmConfig, train: &'a StageConfig, tokens: Option<TokenWeights>) -> Self {
        Self {
            model,
            train,
            tokens,
        }
    }

    /// How the language model is trained.
    pub fn train(&self) -> &'a StageConfig {
        self.train
    }
}
