//! Errors of configurations.

use latentlm_backbone::BackboneError;
use latentlm_codec_audio::CodecError;
use latentlm_diffusion::HeadError;

/// What can be wrong with a model's configuration.
#[derive(Debug, thiserror::Error)]
pub enum VibeVoiceError {
    /// The speech codec, or one of the encoders.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The diffusion head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Sizes of the model as a whole.
    #[error("model: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}
