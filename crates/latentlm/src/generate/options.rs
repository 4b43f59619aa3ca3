//! How a model continues its prompts.

use latentlm_core::SampleOptions;

use crate::text_sampling::TextOptions;

/// How a model continues its prompts.
#[derive(Debug, Clone, Copy)]
pub struct GenerateOptions {
    /// How tokens are drawn.
    pub text: TextOptions,
    /// How latents are drawn.
    pub sample: SampleOptions,
    /// Most positions behind the prompt.
    pub max_positions: usize,
}
