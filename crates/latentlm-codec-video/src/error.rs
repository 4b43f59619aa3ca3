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
}
