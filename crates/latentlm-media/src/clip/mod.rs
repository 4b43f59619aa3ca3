//! Clips: moving pictures without sound. Reads GIF, animated WebP and PNG, Y4M, and folders of numbered frames,
//! one frame at a time; writes GIF, animated PNG, folders of frames and contact sheets. GIFs and folders can grow
//! while their frames are made.

mod excess;
mod grow;
mod pace;
mod raw;
mod read;
mod screen;
mod stills;
mod survey;
mod write;
mod y4m;

pub use grow::{FrameFolder, GifFile, GifStream};
pub use pace::Pace;
pub use raw::RawClip;
pub use read::{ClipFrame, ClipLimits, ClipReader, is_animated};
pub use stills::frame_order;
pub use survey::{ClipSpec, ClipSurvey, read_clip};
pub use write::{
    apng_bytes, gif_bytes, sheet_bytes, write_apng, write_frames, write_gif, write_sheet,
};
