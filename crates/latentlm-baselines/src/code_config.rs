//! Sizes of the codec language model.

use burn::config::Config;
use latentlm_backbone::BackboneConfig;
use latentlm_core::PartConfig;

use crate::error::BaselineError;
use crate::sizes::DenoiserSizes;

/// Name of the model in errors.
const MODEL: &str = "code language model";

/// Configuration of a [`CodeLm`](crate::CodeLm).
#[derive(Config, Debug, PartialEq)]
pub struct CodeLmConfig {
    /// Size of the text vocabulary.
    pub text_vocabulary: usize,
    /// `Q`, codebooks of the codec.
    pub codebooks: usize,
    /// `V`, entries of each codebook.
    pub entries: usize,
    /// `G`, codes of the first codebook in a position.
    #[config(default = 1)]
    pub group: usize,
    /// Whether the model reads with each group the token of text that is spoken in it, and predicts the next one.
    #[config(default = false)]
    pub aligned: bool,
    /// The causal Transformer over the first codebook.
    pub grouped: BackboneConfig,
    /// The Transformer over the other codebooks.
    pub parallel: DenoiserSizes,
}

impl CodeLmConfig {
    /// Checks the configuration.
    ///
    /// # Errors
    /// If a size is zero, there is only one codebook, or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), BaselineError> {
        self.grouped.validate()?;
        self.parallel.backbone().validate()?;
        if self.text_vocabulary == 0 || self.group == 0 || self.codebooks < 2 || self.entries < 2 {
            return Err(BaselineError::Config {
                model: MODEL,
                reason:
                    "text_vocabulary and group must be positive, codebooks and entries 2 or more"
                        .into(),
            });
        }
        Ok(())
    }
}
