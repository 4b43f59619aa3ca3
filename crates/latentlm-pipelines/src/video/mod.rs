//! Runs of clips with text.

mod data;
mod pipeline;
mod recipe;

pub use data::{Clips, VideoData, as_clips, clip_bytes, clip_tensor};
pub use pipeline::{Given, VideoPipeline};
pub use recipe::{
    VideoDataConfig, VideoMixConfig, VideoRecipe, VideoSampleConfig, VideoTextConfig,
};
