//! Clips beside each other in one GIF, for reports.

use std::path::Path;

use burn::tensor::Tensor;
use latentlm::core::bundle::write_atomically;
use latentlm_data::{DataError, ImageSpec};
use latentlm_media::clip::{RawClip, gif_bytes};
use latentlm_pipelines::image_grid;

use crate::error::EvalError;

/// Name of the GIF of the samples that a training drew last, in the run's folder.
pub const TRAINING_CLIPS: &str = "samples/training.gif";
/// Scale factor of the frames.
const SCALE: u32 = 2;

/// Writes clips as a GIF in which all play at the same time, row by row.
///
/// # Shapes
/// - `clips`: `[B, F, C, H, W]`, around `[-1, 1]`
///
/// # Errors
/// If there are no clips, or the file can't be written.
pub fn save_clips(
    clips: &Tensor<5>,
    columns: usize,
    rate_hz: f64,
    path: &Path,
) -> Result<(), EvalError> {
    let (mut pixels, mut height, mut width) = (Vec::new(), 0, 0);
    for frame in 0..clips.dims()[1] {
        let pictures: Tensor<4> = clips.clone().narrow(1, frame, 1).squeeze_dim(1);
        let grid = image_grid(pictures, columns, SCALE);
        (height, width) = (grid.height() as usize, grid.width() as usize);
        for channel in 0..3 {
            pixels.extend(grid.pixels().map(|pixel| pixel.0[channel]));
        }
    }
    let clip = RawClip {
        pixels: &pixels,
        spec: ImageSpec {
            channels: 3,
            height,
            width,
        },
        rate_hz,
    };
    let bytes = gif_bytes(&clip, path).map_err(DataError::from)?;
    Ok(write_atomically(path, &bytes)?)
}
