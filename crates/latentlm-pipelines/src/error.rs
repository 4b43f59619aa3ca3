//! Errors of runs and pipelines.

use std::path::PathBuf;

use latentlm::core::bundle::BundleError;
use latentlm::{ModelError, codec_image};
use latentlm_data::DataError;
use latentlm_keys::RecipeError;

/// What this crate's functions give.
pub type Result<T, E = PipelineError> = std::result::Result<T, E>;

/// An error of this crate. Each is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A recipe that can't be read or is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// An invalid value in a recipe.
    #[error("recipe: {0}")]
    Config(String),
    /// Invalid settings of an image codec in a recipe.
    #[error("recipe: {0}")]
    ImageCodec(#[from] codec_image::CodecError),
    /// Invalid settings of a speech codec in a recipe.
    #[cfg(feature = "speech")]
    #[error("recipe: {0}")]
    SpeechCodec(#[from] latentlm::codec_audio::CodecError),
    /// Invalid settings of a video codec in a recipe.
    #[cfg(feature = "video")]
    #[error("recipe: {0}")]
    VideoCodec(#[from] latentlm::codec_video::CodecError),
    /// Invalid settings of the model in a recipe.
    #[error("recipe: {0}")]
    Model(#[from] ModelError),
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Files of a checkpoint.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A recording that no voice can be taken from: what is wrong, and what would fit.
    #[error("voice: {0}")]
    Voice(String),
    /// A text with its voice that is longer than anything the model was trained on.
    #[error(
        "text and voice take {positions} positions, more than the {limit} that the model was trained \
         on (data.pack_positions): shorten them"
    )]
    Prompt {
        /// Positions asked for.
        positions: usize,
        /// Largest number of positions.
        limit: usize,
    },
    /// A text that takes more tokens than may be said at once.
    #[error(
        "the text, with that of the voice, takes {tokens} tokens, more than the {limit} of text.prompt_tokens: shorten it"
    )]
    LongText {
        /// Tokens of both texts.
        tokens: usize,
        /// Largest number of tokens.
        limit: usize,
    },
    /// A request that a model of text and pictures can't fulfil: what is wrong, and what would fit.
    #[error("prompt: {0}")]
    Request(String),
    /// Drawn latents that are not finite: nothing can be decoded from them.
    #[error(
        "the drawn latents are not finite; draw with a smaller guidance scale and noise temperature, or \
         train with a smaller learning rate"
    )]
    NotFiniteLatents,
    /// A run folder, or a file in it, that is not what the command needs: what is wrong, and what to do.
    #[error("run {0}: {1}")]
    Run(PathBuf, String),
    /// A picture file whose ending names no supported format.
    #[error("cannot write {0}: the ending of a picture is .png, .jpg, .jpeg or .webp")]
    Ending(PathBuf),
    /// A picture that is too large for memory or its format.
    #[error(
        "a picture of {width} x {height} pixels is too large: draw fewer pictures, or enlarge them less"
    )]
    GridSize {
        /// Pixels from left to right.
        width: u64,
        /// Pixels from top to bottom.
        height: u64,
    },
    /// A picture that can't be encoded.
    #[error("cannot encode a picture: {0}")]
    Encode(#[from] image::ImageError),
}

impl PipelineError {
    /// An invalid value in a recipe.
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Config(reason.into())
    }

    /// Whether the user's input is wrong (a recipe, a prompt), as opposed to files or data.
    pub fn is_usage(&self) -> bool {
        #[cfg(feature = "speech")]
        if matches!(self, Self::SpeechCodec(_)) {
            return true;
        }
        #[cfg(feature = "video")]
        if matches!(self, Self::VideoCodec(_)) {
            return true;
        }
        matches!(
            self,
            Self::Recipe(_)
                | Self::Config(_)
                | Self::ImageCodec(_)
                | Self::Model(_)
                | Self::Prompt { .. }
                | Self::LongText { .. }
                | Self::Request(_)
                | Self::Ending(_)
                | Self::GridSize { .. }
                | Self::Data(DataError::Text { .. })
        )
    }
}
