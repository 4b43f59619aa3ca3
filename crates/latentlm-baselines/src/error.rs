//! Errors of this crate.

use latentlm_backbone::BackboneError;
use latentlm_codec_image::CodecError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Impossible sizes of a Transformer.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// An impossible encoder or decoder of a vector-quantized codec.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// An impossible configuration.
    #[error("{model}: {reason}")]
    Config {
        /// Name of the model.
        model: &'static str,
        /// What is wrong.
        reason: String,
    },
}
