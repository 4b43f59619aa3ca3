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
    /// A clip whose frames don't fill its groups.
    #[error(
        "a clip of {frames} frames does not fit the video codec: there must be one frame, or one and a \
         multiple of {frames_per_group}"
    )]
    Frames {
        /// Frames of the clip.
        frames: usize,
        /// Frames of a group after the first frame.
        frames_per_group: usize,
    },
}

impl VideoCodecError {
    pub(crate) fn config(reason: impl Into<String>) -> Self {
        Self::Config {
            reason: reason.into(),
        }
    }
}
