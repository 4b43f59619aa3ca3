//! What can be wrong with a rival.

use latentlm_backbone::BackboneError;
use latentlm_codec_image::CodecError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Sizes of a Transformer.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The codec's part of a vector-quantized codec.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// An impossible configuration.
    #[error("{rival}: {reason}")]
    Config {
        /// Which rival.
        rival: &'static str,
        /// What is wrong.
        reason: String,
    },
}
