//! Errors of image codecs.

use latentlm_core::bundle::BundleError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// An impossible configuration.
    #[error("codec: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// The weights of the perceptual loss can't be loaded.
    #[error("codec_loss.lpips_weights: {0}")]
    Lpips(#[from] BundleError),
}

impl CodecError {
    pub(crate) fn config(reason: impl Into<String>) -> Self {
        Self::Config {
            reason: reason.into(),
        }
    }

    /// A wrong key of the table `codec_loss`; the reason begins with its name.
    pub(crate) fn loss(reason: String) -> Self {
        Self::config(format!("codec_loss.{reason}"))
    }
}
