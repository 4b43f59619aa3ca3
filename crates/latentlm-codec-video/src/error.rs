//! Errors of video codecs.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum VideoCodecError {
    /// An impossible configuration.
    #[error("video codec: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl VideoCodecError {
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
